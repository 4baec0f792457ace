//! What clients ask the search index.

use std::collections::BTreeSet;

use okta_idmap_index::{
    DocKind, Expect, HEAP_BYTES_MIN, IndexDoc, Mark, Opened, PAGE_HITS_MAX, QUERY_BYTES_MAX, Query, QueryError, Reader,
    SUGGESTIONS_MAX, SuggestQuery, open,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::runner::{Target, check_message, run};

const WORDS: &[&str] = &[
    "kind:user",
    "status:ACTIVE",
    "app:0oa1",
    "app:\"Jira Cloud\"",
    "id:00u1",
    "jane",
    "doe*",
    "~",
    "~2",
    "\"",
    " OR ",
    " AND ",
    "-",
    "+",
    "(",
    ")",
    "*",
    "?",
    "name:",
    "^2",
    "[a TO b]",
    "müller",
    "\\",
];

/// A small index: ten users and an app.
fn index(dir: &std::path::Path) -> Reader {
    let expect = Expect { store_id: "fuzz".into(), eras: Vec::new(), revisions: 0..=1 };
    let (Opened::Ready(index, _) | Opened::Rebuild(index, _)) = open(dir, &expect).unwrap();
    let mut writer = index.writer(HEAP_BYTES_MIN).unwrap();
    for number in 0..10 {
        let mut doc = IndexDoc::new(DocKind::User, format!("user/00u{number}"), format!("Jane Müller-Doe {number}"));
        doc.names = vec![format!("jane.doe{number}@acme.example")];
        doc.ids = vec![format!("00u{number}")];
        (doc.status, doc.apps, doc.app_labels) = ("ACTIVE".into(), vec!["0oa1".into()], vec!["Jira Cloud".into()]);
        writer.put(&doc).unwrap();
    }
    writer.put(&IndexDoc::new(DocKind::App, "app/0oa1", "Jira Cloud")).unwrap();
    writer.commit_at(&Mark { store_id: "fuzz".into(), era: String::new(), revision: 1 }).unwrap();
    let reader = index.reader();
    reader.refresh().unwrap();
    reader
}

/// Whose mistake it is: never ours.
fn check_error(error: &QueryError) -> Result<(), TestCaseError> {
    // It quotes the query, escaped.
    check_message(&error.to_string(), 10 * QUERY_BYTES_MAX)?;
    let is_callers = matches!(error, QueryError::Parse(_) | QueryError::Page { .. } | QueryError::TooBroad);
    prop_assert!(is_callers, "{error}");
    Ok(())
}

#[test]
fn fuzz_searches() {
    let dir = tempfile::tempdir().unwrap();
    let reader = index(dir.path());
    let keys: BTreeSet<String> = reader.all_keys().unwrap().into_iter().collect();
    assert_eq!(keys.len(), 11);
    run(&Target { name: "search_query", words: WORDS, cost: 2 }, |input| {
        let text = String::from_utf8_lossy(input);
        let mut hits = Vec::new();
        match reader.suggest(&SuggestQuery::new(text.clone())) {
            Ok(found) => {
                prop_assert!(found.len() <= SUGGESTIONS_MAX && text.len() <= QUERY_BYTES_MAX);
                hits.extend(found);
            }
            Err(error) => check_error(&error)?,
        }
        let searched = reader.search(&Query::new(text.clone()));
        let is_understood = searched.is_ok();
        match searched {
            Ok(found) => {
                prop_assert!(found.hits.len() <= PAGE_HITS_MAX && found.hits.len() as u64 <= found.total);
                prop_assert!(found.total <= 11 && text.len() <= QUERY_BYTES_MAX);
                let own: BTreeSet<&str> = found.hits.iter().map(|hit| hit.key.as_str()).collect();
                prop_assert_eq!(own.len(), found.hits.len(), "a hit comes twice");
                hits.extend(found.hits);
            }
            Err(error) => check_error(&error)?,
        }
        prop_assert!(hits.iter().all(|hit| keys.contains(&hit.key)), "a hit out of nothing");
        Ok(is_understood)
    });
}

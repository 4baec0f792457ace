//! The index against a model: any sequence of writes, commits and reopenings, compared with a scan of a map.

use std::collections::BTreeMap;

use okta_idmap_index::{DocKind, HEAP_BYTES_MIN, Index, IndexDoc, Mark, Opened, Query, Writer, open};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::world::{expect_up_to, index_of, mark};

#[derive(Clone, Debug)]
enum Operation {
    Put {
        key: u8,
        title: Vec<usize>,
        kind: usize,
    },
    Delete {
        key: u8,
    },
    DeleteAll,
    Commit,
    /// Drops writer and index without a commit.
    Reopen,
}

const WORDS: [&str; 8] = ["anna", "annabel", "bert", "doe", "john", "jonathan", "müller", "o'brien"];

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => (0_u8..12, proptest::collection::vec(0..WORDS.len(), 1..4), 0_usize..4).prop_map(|(key, title, kind)| Operation::Put { key, title, kind }),
        3 => (0_u8..12).prop_map(|key| Operation::Delete { key }),
        1 => Just(Operation::DeleteAll),
        4 => Just(Operation::Commit),
        1 => Just(Operation::Reopen),
    ]
}

type Model = BTreeMap<String, (Vec<&'static str>, DocKind)>;

struct Run {
    dir: TempDir,
    opened: Option<(Index, Writer)>,
    committed: Model,
    pending: Model,
    revision: u64,
}

impl Run {
    fn new() -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let mut run = Self { dir, opened: None, committed: Model::new(), pending: Model::new(), revision: 0 };
        run.reopen();
        run
    }

    fn reopen(&mut self) {
        self.opened = None;
        let opened = open(self.dir.path(), &expect_up_to(self.revision)).expect("open");
        match &opened {
            Opened::Ready(_, found) => assert_eq!(found, &mark(self.revision)),
            Opened::Rebuild(_, reason) => assert_eq!(self.revision, 0, "{reason}"),
        }
        let index = index_of(opened);
        let writer = index.writer(HEAP_BYTES_MIN).expect("writer");
        self.opened = Some((index, writer));
        self.pending = self.committed.clone();
    }

    fn apply(&mut self, operation: &Operation) {
        let (_, writer) = self.opened.as_mut().expect("open");
        match operation {
            Operation::Put { key, title, kind } => {
                let words: Vec<&str> = title.iter().map(|word| WORDS[*word]).collect();
                let doc = IndexDoc::new(DocKind::ALL[*kind], format!("k{key:02}"), words.join(" "));
                writer.put(&doc).expect("put");
                self.pending.insert(doc.key, (words, doc.kind));
            }
            Operation::Delete { key } => {
                writer.delete(&format!("k{key:02}")).expect("delete");
                self.pending.remove(&format!("k{key:02}"));
            }
            Operation::DeleteAll => {
                writer.delete_all().expect("delete all");
                self.pending.clear();
            }
            Operation::Commit => {
                self.revision += 1;
                writer.commit_at(&Mark { revision: self.revision, ..mark(0) }).expect("commit");
                self.committed = self.pending.clone();
            }
            Operation::Reopen => self.reopen(),
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let (index, _) = self.opened.as_ref().expect("open");
        let reader = index.reader();
        let keys: Vec<String> = self.committed.keys().cloned().collect();
        prop_assert_eq!(reader.all_keys().expect("keys"), keys);
        prop_assert_eq!(reader.doc_count(), self.committed.len() as u64);
        for word in WORDS {
            // A phrase is exact: no beginnings, no misspellings.
            let results = reader.search(&Query::new(format!("\"{word}\""))).expect("search");
            let found: Vec<&str> = results.hits.iter().map(|hit| hit.key.as_str()).collect();
            prop_assert_eq!(found, expected(&self.committed, word));
        }
        Ok(())
    }
}

/// The promised order: whole title before word of the title, then kind, then key.
fn expected<'a>(model: &'a Model, word: &str) -> Vec<&'a str> {
    let mut ranked: Vec<(bool, DocKind, &str)> = model
        .iter()
        .filter(|(_, (words, _))| words.contains(&word))
        .map(|(key, (words, kind))| (words.len() > 1, *kind, key.as_str()))
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, _, key)| key).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_its_model(operations in proptest::collection::vec(operation(), 1..40)) {
        let mut run = Run::new();
        for operation in &operations {
            run.apply(operation);
            if matches!(operation, Operation::Commit | Operation::Reopen) {
                run.check()?;
            }
        }
    }

    #[test]
    fn prefixes_find_what_a_scan_finds(words in proptest::collection::vec("[abäé山]{1,30}", 1..12), prefix in "[abé山]{1,30}") {
        let dir = TempDir::new().expect("temporary directory");
        let index = index_of(open(dir.path(), &expect_up_to(1)).expect("open"));
        let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
        // Without ideographs in a word it is one token, and folding is the letter table below.
        let fold = |word: &str, umlaut: &str| word.replace('é', "e").replace('ä', umlaut).replace('山', "");
        let words: Vec<String> = words.iter().map(|word| word.replace('山', "")).filter(|word| !word.is_empty()).collect();
        let prefix = prefix.replace('山', "");
        prop_assume!(!prefix.is_empty());
        for (number, word) in words.iter().enumerate() {
            writer.put_new(&IndexDoc::new(DocKind::User, format!("{number:02}"), word)).expect("put");
        }
        writer.commit_at(&mark(1)).expect("commit");
        let typed = fold(&prefix, "ae");
        let begins = |word: &String| fold(word, "a").starts_with(&typed) || fold(word, "ae").starts_with(&typed);
        let expected: Vec<String> = words.iter().enumerate().filter(|(_, word)| begins(word)).map(|(number, _)| format!("{number:02}")).collect();
        let results = index.reader().search(&Query { limit: 100, ..Query::new(format!("{prefix}*")) }).expect("search");
        let mut found: Vec<String> = results.hits.into_iter().map(|hit| hit.key).collect();
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_query_is_answered_or_refused(query in "(?s).{0,60}|[a-eäé\"*~:\\- 'k]{0,60}") {
        thread_local! {
            static INDEX: (TempDir, Index) = {
                let dir = TempDir::new().expect("temporary directory");
                let index = index_of(open(dir.path(), &expect_up_to(1)).expect("open"));
                let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
                for (number, title) in ["abc dé", "b c'd", "eä-bé", "a"].iter().enumerate() {
                    writer.put(&IndexDoc::new(DocKind::User, format!("k{number}"), *title)).expect("put");
                }
                writer.commit_at(&mark(1)).expect("commit");
                (dir, index)
            };
        }
        INDEX.with(|(_, index)| {
            if let Ok(results) = index.reader().search(&Query::new(query.clone())) {
                assert!(results.total >= results.hits.len() as u64);
            }
            let _answered = index.reader().suggest(&okta_idmap_index::SuggestQuery::new(query.clone())).expect("suggest");
        });
    }
}

//! The query language, ranks, facets and pages.

use okta_idmap_index::{DocKind, IndexDoc, Query, QueryError, Reader};

use crate::world::{World, user};

fn doc(kind: DocKind, key: &str, title: &str, status: &str, apps: &[(&str, &str)]) -> IndexDoc {
    IndexDoc {
        status: status.to_owned(),
        apps: apps.iter().map(|(id, _)| (*id).to_owned()).collect(),
        app_labels: apps.iter().map(|(_, label)| (*label).to_owned()).collect(),
        ..IndexDoc::new(kind, key, title)
    }
}

/// Anna has two accounts, Bert one; two apps, one group, three mappings.
fn org() -> World {
    let (jira, mail) = (("0oa1", "Jira Cloud"), ("0oa2", "Mail"));
    let mut anna = doc(DocKind::User, "user/00u1", "Anna Müller", "ACTIVE", &[jira, mail]);
    anna.names = vec!["Anna".to_owned(), "Müller".to_owned(), "anna.m@example.com".to_owned()];
    anna.accounts = vec!["amueller".to_owned(), "am@mail".to_owned()];
    anna.ids = vec!["00u1".to_owned(), "ext-1".to_owned()];
    let mut bert = doc(DocKind::User, "user/00u2", "Bert Cloud", "SUSPENDED", &[jira]);
    bert.accounts = vec!["bert".to_owned()];
    bert.ids = vec!["00u2".to_owned()];
    let mut docs = vec![anna, bert];
    docs.push(doc(DocKind::App, "app/0oa1", "Jira Cloud", "ACTIVE", &[jira]));
    docs.push(doc(DocKind::App, "app/0oa2", "Mail", "INACTIVE", &[mail]));
    docs.push(doc(DocKind::Group, "group/00g1", "Anna's friends", "", &[]));
    for (key, name, app) in
        [("0oa1/00u1", "amueller", jira), ("0oa2/00u1", "am@mail", mail), ("0oa1/00u2", "bert", jira)]
    {
        let mut mapping = doc(DocKind::Mapping, &format!("mapping/{key}"), name, "ACTIVE", &[app]);
        mapping.accounts = vec![name.to_owned()];
        docs.push(mapping);
    }
    World::of(&docs)
}

#[test]
fn queries_find_what_they_say() {
    let org = org();
    let check = |query: &str, expected: &str| assert_eq!(org.find(query), expected, "{query:?}");
    check("anna", "user/00u1 group/00g1");
    check("anna müller", "user/00u1");
    check("\"müller anna\"", ""); // In this order nowhere.
    check("amueller", "user/00u1 mapping/0oa1/00u1");
    check("am", "user/00u1 mapping/0oa2/00u1");
    check("amu", "user/00u1"); // The last word may be a beginning, but not of a mapping.
    check("kind:mapping account:amu*", "mapping/0oa1/00u1");
    check("kind:mapping mail", ""); // The words of a mapping end at the @.
    check("kind:mapping am@mail", "mapping/0oa2/00u1");
    check("am anna", "user/00u1");
    check("ann mül", ""); // Only the last one.
    check("ann* mül", "user/00u1");
    check("kind:user", "user/00u1 user/00u2");
    check("kind:group kind:app", "app/0oa1 app/0oa2 group/00g1");
    check("KIND:User -anna", "user/00u2");
    check("kind:group kind:app kind:user kind:mapping -kind:app anna", "user/00u1 group/00g1");
    check("kind:group kind:app kind:user kind:mapping mail", "app/0oa2 user/00u1");
    check("kind:app -kind:app", "");
    check("-kind:user -kind:mapping cloud", "app/0oa1");
    check("status:active kind:user", "user/00u1");
    check("status:SUSPENDED status:INACTIVE", "user/00u2 app/0oa2");
    check("kind:user app:0oa1", "user/00u1 user/00u2");
    check("kind:user app:0oa1 app:0oa2", "user/00u1");
    check("kind:user app:0OA1", ""); // Ids are case-sensitive.
    check("kind:user app:\"jira cloud\"", "user/00u1 user/00u2");
    check("kind:user app:jira -app:mail", "user/00u2");
    check("kind:user app:\"cloud mail\"", ""); // Words of two labels are no label.
    check("account:bert", "user/00u2 mapping/0oa1/00u2");
    check("account:am@mail", "user/00u1 mapping/0oa2/00u1");
    check("account:mail kind:user", "user/00u1");
    check("account:amu*", "user/00u1 mapping/0oa1/00u1");
    check("account:amuller~", "user/00u1 mapping/0oa1/00u1");
    check("account:anna", ""); // A name, but no account.
    check("id:00u1", "user/00u1");
    check("id:ext-1", "user/00u1");
    check("id:00U1", "");
    check("00u1", "user/00u1");
    check("cloud", "user/00u2 app/0oa1");
}

#[test]
fn mistakes_are_told() {
    let org = org();
    let check = |query: &str, expected: &str| assert_eq!(org.find(query), expected, "{query:?}");
    check("kind:users", "parse query: \"users\" at byte 5 is not a kind: expected user, app, group or mapping");
    check("", "parse query: nothing to search for");
    check("-kind:user", "parse query: every term is excluded; add one to search for");
}

fn search(reader: &Reader, query: Query) -> Result<(Vec<String>, u64, bool), QueryError> {
    let results = reader.search(&query)?;
    Ok((results.hits.into_iter().map(|hit| hit.key).collect(), results.total, results.with_edits))
}

#[test]
fn misspellings_help_only_when_nothing_is_found() {
    let world = World::of_users(&["Jonathan Smith", "Johanna Smyth", "Smithers", "Bo"]);
    assert_eq!(world.find("smiht"), "user/0", "a swap is one edit, and of the beginning of a word there are none");
    assert_eq!(world.find("jonatan smth"), "user/0");
    assert_eq!(world.find("smith"), "user/0 user/2", "exact and beginning; a near miss only if there is neither");
    assert_eq!(world.find("smith~"), "user/0 user/1", "exact and misspelt");
    assert_eq!(world.find("ba"), "", "short words are taken as they are");
    assert_eq!(world.find("-smith jonathan"), "");
    assert_eq!(world.find("johnatan~"), "user/0");
    assert_eq!(world.find("jonath~"), "", "two edits only in long words");
    let with_edits = |query: &str| world.reader().search(&Query::new(query)).expect("search").with_edits;
    assert_eq!((with_edits("smith"), with_edits("smiht"), with_edits("ba")), (false, true, false));
}

#[test]
fn kinds_rank_below_matches() {
    let mut docs = vec![IndexDoc::new(DocKind::Mapping, "a", "doe"), IndexDoc::new(DocKind::Group, "b", "doe")];
    docs.push(IndexDoc::new(DocKind::User, "c", "doe"));
    docs.push(IndexDoc::new(DocKind::User, "d", "x doe"));
    assert_eq!(World::of(&docs).find("doe"), "c b a d");
}

#[test]
fn facets_count_all_matches() {
    let results = org().reader().search(&Query { limit: 1, ..Query::new("app:0oa1") }).expect("search");
    let facets = results.facets.expect("asked for");
    assert_eq!((results.total, results.hits.len()), (5, 1));
    assert_eq!(facets.kinds, [(DocKind::User, 2), (DocKind::Mapping, 2), (DocKind::App, 1)]);
    assert_eq!(facets.statuses, [("ACTIVE".to_owned(), 4), ("SUSPENDED".to_owned(), 1)]);
    assert_eq!(facets.apps, [("0oa1".to_owned(), 5), ("0oa2".to_owned(), 1)]);
    let results = org().reader().search(&Query { facets: false, ..Query::new("anna") }).expect("search");
    assert_eq!(results.facets, None);
}

#[test]
fn only_the_most_frequent_apps_are_counted() {
    let docs: Vec<IndexDoc> = (0..60)
        .map(|number| {
            doc(DocKind::User, &format!("k{number:02}"), "x", "A", &[(&format!("app{:02}", number % 30), "")])
        })
        .collect();
    let facets = World::of(&docs).reader().search(&Query::new("x")).expect("search").facets.expect("asked for");
    let expected: Vec<(String, u64)> = (0..20).map(|number| (format!("app{number:02}"), 2)).collect();
    assert_eq!(facets.apps, expected);
}

#[test]
fn pages_join_up() {
    let docs: Vec<IndexDoc> =
        (0..250).map(|number| user(number, if number % 3 == 0 { "Anna" } else { "Annabel" })).collect();
    let world = World::of(&docs);
    let mut keys = Vec::new();
    for offset in (0..300).step_by(30) {
        let (page, total, _) =
            search(&world.reader(), Query { offset, limit: 30, ..Query::new("anna") }).expect("search");
        assert_eq!(total, 250);
        keys.extend(page);
    }
    let numbered = |exact: bool| {
        let mut keys: Vec<String> =
            (0..250).filter(|number| (number % 3 == 0) == exact).map(|number| format!("user/{number}")).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(keys, [numbered(true), numbered(false)].concat());
}

#[test]
fn pages_have_limits() {
    let world = World::of_users(&["Anna"]);
    let page = |offset: usize, limit: usize| search(&world.reader(), Query { offset, limit, ..Query::new("anna") });
    assert!(matches!(page(0, 101), Err(QueryError::Page { .. })));
    assert!(matches!(page(9_950, 51), Err(QueryError::Page { .. })));
    assert!(matches!(page(usize::MAX, 1), Err(QueryError::Page { .. })));
    assert_eq!(page(9_900, 100).expect("last page"), (Vec::new(), 1, false));
    assert_eq!(page(0, 0).expect("count"), (Vec::new(), 1, false));
}

#[test]
fn long_prefixes_and_words_work() {
    let long = "x".repeat(70);
    let world = World::of_users(&["abcdefghijklmnopqrstuvwxyz", &long, "abcdefghijklmnopqrstuvwxy"]);
    let alphabet = "abcdefghijklmnopqrstuvwxyz";
    for length in 1..=24 {
        assert_eq!(world.find(&format!("{}*", &alphabet[..length])), "user/0 user/2", "{length}");
    }
    assert_eq!(world.find(&format!("{alphabet}*")), "user/0");
    assert_eq!(world.find(&long), "user/1");
    assert_eq!(world.find("xxxxxxxxxxxxxxxxxxxxxxxxxxxxx*"), "user/1");
}

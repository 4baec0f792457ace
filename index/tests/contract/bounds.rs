//! Searches that may not go all the way: what they show is true, and what is best comes first.

use std::collections::BTreeSet;

use okta_idmap_index::{DocKind, Extent, IndexDoc, Query, Results, SEARCH_STEPS_MAX};
use proptest::prelude::*;

use crate::world::{World, mark, user};

const WORDS: [&str; 6] = ["anna", "annabel", "bert", "doe", "müller", "o'brien"];

/// 400 documents of all kinds in three segments, some deleted: enough that lists have several blocks.
fn org() -> World {
    let doc = |number: usize| {
        let word = |shift: u32| WORDS[((number * 7_919) >> shift) % WORDS.len()];
        let mut doc = IndexDoc::new(DocKind::ALL[number % 7 % 4], format!("k{:03}", number * 37 % 400), word(0));
        doc.title = if number.is_multiple_of(3) { doc.title } else { format!("{} {}", doc.title, word(3)) };
        doc.names = vec![format!("{}@example.com", word(5))];
        doc.accounts = vec![format!("{}{number}", word(2))];
        doc.status = if number.is_multiple_of(5) { "SUSPENDED" } else { "ACTIVE" }.to_owned();
        doc.apps = vec![format!("0oa{}", number % 3)];
        doc
    };
    let docs: Vec<IndexDoc> = (0..400).map(doc).collect();
    let world = World::of(&docs[..300]);
    let mut writer = world.index.writer(okta_idmap_index::HEAP_BYTES_MIN).expect("writer");
    for (revision, docs) in [(2, &docs[300..350]), (3, &docs[350..])] {
        docs.iter().for_each(|doc| writer.put(doc).expect("put"));
        writer.delete(&format!("k{:03}", revision * 50)).expect("delete");
        writer.commit_at(&mark(revision)).expect("commit");
    }
    world
}

fn keys(results: &Results) -> Vec<&str> {
    results.hits.iter().map(|hit| hit.key.as_str()).collect()
}

/// Every match in its order, by a search without bounds.
fn all(world: &World, text: &str) -> Vec<String> {
    let mut keys = Vec::new();
    loop {
        let query = Query { offset: keys.len(), limit: 100, ..Query::new(text) };
        let results = world.reader().search(&query).expect("search");
        assert_eq!(results.extent, Extent::All, "{text}");
        keys.extend(results.hits.into_iter().map(|hit| hit.key));
        if keys.len() as u64 == results.total {
            return keys;
        }
    }
}

fn clause() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0..WORDS.len()).prop_map(|word| WORDS[word].to_owned()),
        2 => Just("example".to_owned()),
        2 => Just("a*".to_owned()),
        1 => Just("berd~".to_owned()),
        1 => Just("\"anna doe\"".to_owned()),
        1 => Just("\"example com\"".to_owned()),
        2 => (0..4_usize).prop_map(|kind| format!("kind:{}", DocKind::ALL[kind])),
        2 => Just("status:ACTIVE".to_owned()),
        1 => (0..3).prop_map(|app| format!("app:0oa{app}")),
        1 => Just("account:anna*".to_owned()),
        1 => Just("-doe".to_owned()),
        1 => Just("-a*".to_owned()),
        1 => Just("-kind:mapping".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_part_is_a_part(clauses in proptest::collection::vec(clause(), 1..4), steps in prop_oneof![0_u64..300, 300_u64..6_000]) {
        thread_local!(static ORG: World = org());
        let text = clauses.join(" ");
        prop_assume!(clauses.iter().any(|clause| !clause.starts_with('-')));
        ORG.with(|world| {
            let whole = all(world, &text);
            let search = |offset: usize, limit: usize| {
                world.reader().search(&Query { offset, limit, steps, ..Query::new(text.clone()) }).expect("search")
            };
            let found = search(0, 100);
            if found.extent == Extent::All {
                prop_assert_eq!(keys(&found), whole.iter().take(100).map(String::as_str).collect::<Vec<_>>());
                prop_assert_eq!(found.total, whole.len() as u64);
                return Ok(());
            }
            // No hit is none, in no other order, and none twice.
            let places: Option<Vec<usize>> =
                keys(&found).iter().map(|key| whole.iter().position(|other| other == key)).collect();
            let places = places.expect("every hit is a match");
            prop_assert!(places.is_sorted_by(|one, other| one < other), "{:?}", places);
            prop_assert!(found.total <= whole.len() as u64);
            let facets = found.facets.as_ref().expect("asked for");
            prop_assert!(facets.kinds.iter().map(|(_, count)| count).sum::<u64>() <= found.total);
            // Pages of any size are the same list.
            let pages: Vec<String> = (0..100).step_by(20).flat_map(|offset| search(offset, 20).hits).map(|hit| hit.key).collect();
            prop_assert_eq!(pages, keys(&found));
            Ok(())
        })?;
    }
}

#[test]
fn a_name_is_not_lost_among_those_who_share_a_word() {
    let mut docs: Vec<IndexDoc> = (0..2_000)
        .map(|number| IndexDoc { names: vec!["x@example.com".to_owned()], ..user(number, "Anna Doe") })
        .collect();
    docs.push(IndexDoc::new(DocKind::App, "app/1", "Example"));
    docs.push(IndexDoc::new(DocKind::Group, "group/1", "Example team"));
    docs.push(IndexDoc { ids: vec!["example".to_owned()], ..IndexDoc::new(DocKind::Mapping, "mapping/1", "other") });
    let world = World::of(&docs);
    let search =
        |text: &str, steps| world.reader().search(&Query { limit: 4, steps, ..Query::new(text) }).expect("search");
    let whole = search("example", SEARCH_STEPS_MAX);
    assert_eq!((whole.extent, whole.total), (Extent::All, 2_003));
    assert_eq!(keys(&whole), ["app/1", "mapping/1", "group/1", "user/0"]);
    let part = search("example", 4_000);
    assert_eq!((part.extent, keys(&part)), (Extent::Part, keys(&whole)));
    assert!(part.total > 100 && part.total < 2_000, "{}", part.total);
    assert_eq!(keys(&search("example kind:app", 4_000)), ["app/1"]);
    // Filters alone: all matches are alike, and as many are shown as were looked at.
    let users = search("kind:user", 4_000);
    assert_eq!((users.extent, users.hits.len()), (Extent::Part, 4));
    // Nothing is tried with misspellings as long as there may be matches.
    let none = search("doe -anna", 3_000);
    assert_eq!((none.extent, none.total, none.with_edits), (Extent::Part, 0, false));
}

#[test]
fn the_same_part_whenever_asked() {
    let world = org();
    let ask = || {
        let results =
            world.reader().search(&Query { limit: 100, steps: 500, ..Query::new("a* -doe") }).expect("search");
        (results.total, results.extent, results.hits.into_iter().map(|hit| hit.key).collect::<BTreeSet<_>>())
    };
    let first = ask();
    assert_eq!(first.1, Extent::Part);
    assert_eq!(first, ask());
}

#[test]
fn a_reader_may_go_less_far_than_it_is_asked_to() {
    let world = org();
    let query = |steps| Query { limit: 100, steps, ..Query::new("a* -doe") };
    let found = |steps_max, steps| world.reader().within(steps_max).search(&query(steps)).expect("search");
    assert_eq!(found(500, SEARCH_STEPS_MAX), found(SEARCH_STEPS_MAX, 500));
    assert_eq!(found(u64::MAX, u64::MAX), found(SEARCH_STEPS_MAX, SEARCH_STEPS_MAX));
    assert_eq!((found(500, 600).extent, found(u64::MAX, u64::MAX).extent), (Extent::Part, Extent::All));
}

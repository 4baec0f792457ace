//! Suggestions while a person types.

use okta_idmap_index::{DocKind, IndexDoc, QueryError, SuggestQuery};

use crate::world::{World, user};

fn people() -> World {
    let mut docs: Vec<IndexDoc> =
        ["Anna Müller", "Müller Anton", "Hanna Mull", "Jon Doe", "John Doe", "Anne-Marie O'Brien", "山田太郎"]
            .iter()
            .enumerate()
            .map(|(number, title)| user(number, title))
            .collect();
    docs[3].accounts = vec!["jdoe".to_owned(), "j.doe@example.com".to_owned()];
    docs[3].ids = vec!["00u3".to_owned()];
    docs.push(IndexDoc::new(DocKind::Group, "group/1", "Müllerei"));
    docs.push(IndexDoc {
        accounts: vec!["muller".to_owned()],
        ..IndexDoc::new(DocKind::Mapping, "mapping/1", "muller")
    });
    World::of(&docs)
}

#[test]
fn rows_of_the_table() {
    let people = people();
    let check = |text: &str, expected: &str| assert_eq!(people.suggest(text, &[]), expected, "{text:?}");
    check("mul", "user/1:3 user/0:2 user/2:2");
    check("mül", "user/1:3 user/0:2 user/2:2"); // Accents make no difference.
    check("muel", "user/1:3 user/0:2 user/2:1"); // Mull is one edit away.
    check("MÜLLER ANTON", "user/1:4");
    check("mueller anton", "user/1:4");
    check("mull an", "user/0:2 user/1:2");
    check("an mu", "user/0:2 user/1:2");
    check("jdoe", "user/3:4"); // Exact: not also Doe, one letter away.
    check("j.doe@example.com", "user/3:4");
    check("00u3", "user/3:4");
    check("jon", "user/3:3");
    check("jhon", "user/3:1 user/4:1"); // A letter left out, a swap.
    check("jo do", "user/3:2 user/4:2");
    check("doe jo", "user/3:2 user/4:2");
    check("obri", "user/5:2");
    check("o'br", "user/5:2");
    check("annem", "user/5:2");
    check("anne m", "user/5:3 user/0:1");
    check("山田", "user/6:3");
    check("太郎", "user/6:2");
    check("xyz", "");
    check(" ' - ", "");
    check("", "");
}

#[test]
fn kinds_are_chosen() {
    let people = people();
    assert_eq!(people.suggest("muller", &[DocKind::Group]), "group/1:3");
    assert_eq!(people.suggest("muller", &[DocKind::Mapping]), "mapping/1:4");
    assert_eq!(people.suggest("mullere", &DocKind::ALL), "group/1:3 user/0:1 user/1:1");
}

#[test]
fn titles_come_in_their_order() {
    let world = World::of_users(&["Bo C", "Bo A", "Bo", "Bo B", "Bob", "Böb"]);
    assert_eq!(world.suggest("bo", &[]), "user/2:4 user/1:3 user/3:3 user/0:3 user/4:3 user/5:3");
}

#[test]
fn limits_hold() {
    let titles: Vec<String> = (0..50).map(|number| format!("Anna {number:02}")).collect();
    let world = World::of_users(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    let ask = |text: &str, limit: usize| world.reader().suggest(&SuggestQuery { limit, ..SuggestQuery::new(text) });
    let keys: Vec<String> = ask("ann", 20).expect("suggest").into_iter().map(|hit| hit.key).collect();
    assert_eq!(keys, (0..20).map(|number| format!("user/{number}")).collect::<Vec<_>>());
    assert_eq!(ask("ann", 0).expect("suggest"), []);
    assert!(matches!(ask("ann", 21), Err(QueryError::Page { .. })));
    assert!(matches!(ask(&"a".repeat(513), 1), Err(QueryError::Parse(_))));
    assert_eq!(ask(&"anna ".repeat(100), 20).expect("suggest").len(), 20, "further words are ignored");
}

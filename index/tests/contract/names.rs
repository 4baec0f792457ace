//! Names are found as people expect, in any script and spelling.

use okta_idmap_index::{DocKind, IndexDoc};

use crate::world::{World, user};

/// `query` finds `name` and puts it first; none of `others` is found.
#[track_caller]
fn check(name: &str, query: &str, others: &[&str]) {
    let mut titles = vec![name];
    titles.extend(others);
    assert_eq!(World::of_users(&titles).find(query), "user/0", "{query:?} for {name:?}");
}

/// `queries` each find `name`, by title, by further name and by account.
#[track_caller]
fn check_all(name: &str, queries: &[&str]) {
    let others = ["Zita Quant", "Xaver Yps"];
    let mut docs: Vec<IndexDoc> = others.iter().enumerate().map(|(number, title)| user(number, title)).collect();
    docs.push(user(10, name));
    docs.push(IndexDoc { names: vec![name.to_owned()], ..user(11, "A") });
    docs.push(IndexDoc { accounts: vec![name.to_owned()], ..user(12, "B") });
    let world = World::of(&docs);
    for query in queries {
        assert_eq!(world.find(query), "user/10 user/11 user/12", "{query:?} for {name:?}");
    }
}

#[test]
fn accents_and_their_spellings() {
    check_all(
        "Jürgen Müller",
        &["müller", "Muller", "MUELLER", "jurgen mueller", "Müller jür", "\"Juergen Mueller\"", "mül*", "muel*"],
    );
    check_all("Groß", &["groß", "gross", "GROSS"]);
    check_all("Łukasz Wałęsa", &["lukasz", "walesa", "ŁUKASZ WAŁĘSA"]);
    check_all("Søren Ångström", &["soren", "soeren", "angstrom", "ÅNGSTRÖM", "aangstroem"]);
    check_all("Zoe\u{301} Renée", &["zoé", "zoe renee", "RENÉE"]);
    check_all("İpek Işık", &["ipek isik", "işık"]);
    check("Mueller", "müller", &["Möbius"]); // Whoever types the umlaut also means its spelling-out.
}

#[test]
fn apostrophes_and_hyphens() {
    check_all("Sean O'Brien", &["o'brien", "O’BRIEN", "obrien", "brien", "sean o'bri", "\"sean o'brien\"", "obri*"]);
    check_all("Sean O’Brien", &["o'brien", "OBrien", "\"O'Brien\""]);
    check_all("OBrien", &["o'brien", "O’Brien", "obrien"]);
    check_all(
        "Anne-Marie Tö",
        &["anne-marie", "annemarie", "anne", "marie", "\"anne marie\"", "anne-mar", "ANNE\u{2011}MARIE"],
    );
    check_all("D'Angelo-Özil", &["d'angelo", "ozil", "d'angelo-özil", "dangelooezil"]);
}

#[test]
fn other_scripts() {
    check_all("山田太郎", &["山田太郎", "太郎", "山田", "\"山田 太郎\""]);
    check_all("김철수", &["철수", "김철수"]);
    check_all("Ёлкин Пётр", &["елкин", "ПЕТР", "ёлкин пётр"]);
    check_all("Οδυσσεύς", &["οδυσσευς", "ΟΔΥΣΣΕΥΣ", "οδυσσεύς"]);
    check_all("हिन्दी नाम", &["हिन्दी", "नाम"]);
    check_all("ｶﾞ太", &["ガ太"]);
    let world = World::of_users(&["山田太郎"]);
    assert_eq!(world.find("太田"), "", "characters of a name count in their order only");
}

#[test]
fn account_names_are_found_whole_and_in_part() {
    check_all(
        "j.doe@example.com",
        &["j.doe@example.com", "J.DOE@EXAMPLE.COM", "doe", "example.com", "\"j doe\"", "j.doe@exa"],
    );
    check_all("DOMAIN\\user", &["DOMAIN\\user", "domain\\USER", "user", "\"domain\\user\""]);
    check_all("svc_backup-01", &["svc_backup-01", "backup", "svc_backup", "backup-01", "backup01"]);
    check("j.doe@example.com", "j.doe@example.com", &["doe.j@example.com", "j.doe@example.org"]);
}

#[test]
fn the_exact_form_ranks_first() {
    #[track_caller]
    fn check_order(titles: &[&str], query: &str, expected: &str) {
        assert_eq!(World::of_users(titles).find(query), expected, "{query:?}");
    }
    check_order(&["Muller", "Müller"], "müller", "user/1 user/0");
    check_order(&["Muller", "Müller"], "muller", "user/0 user/1");
    check_order(&["Müllers", "Anna Müller", "Müller"], "müller", "user/2 user/1 user/0");
    check_order(&["Müller Anna", "Anna Müller"], "anna müller", "user/1 user/0");
    check_order(&["Muller Anna", "Anna Muller", "Anna Müller"], "anna müller", "user/2 user/1 user/0");
    check_order(&["Brien O", "O'Brien"], "o'brien", "user/1");
}

#[test]
fn names_that_a_machine_made_are_found_whole() {
    let external = "0055f000003AbcDAAU";
    let accounts = vec!["amueller".to_owned(), external.to_owned()];
    let mut anna = IndexDoc { accounts: accounts.clone(), ..user(1, "Anna") };
    anna.ids = vec!["00u1abcd2EFGh3ijk4l5".to_owned()];
    let mut mapping = IndexDoc { accounts, ..IndexDoc::new(DocKind::Mapping, "mapping/1", "amueller") };
    mapping.ids = vec!["00u1abcd2EFGh3ijk4l5".to_owned(), external.to_owned()];
    let nameless = IndexDoc::new(DocKind::Mapping, "mapping/2", "0055f000009XyzWAAU");
    let group = user(2, "team 1a2b3c4d5e6f7g8h9i");
    let world = World::of(&[anna, mapping, nameless, group]);
    let check = |query: &str, expected: &str| assert_eq!(world.find(query), expected, "{query:?}");
    for query in ["0055f000003AbcDAAU", "0055F000003abcdaau", "id:0055f000003AbcDAAU", "account:0055f000003AbcDAAU"] {
        check(query, "user/1 mapping/1");
    }
    check("account:0055f000003*", "user/1 mapping/1");
    check("account:0055f*", "user/1 mapping/1 mapping/2");
    check("0055f000009XyzWAAU", "mapping/2");
    check("0055f000003*", "");
    check("\"0055f000003AbcDAAU\" amueller", "user/1 mapping/1");
    // Ids of objects, and words of titles, are as they were.
    check("id:00u1abcd2EFGh3ijk4l5", "user/1 mapping/1");
    check("id:00U1ABCD2efgH3IJK4L5", "");
    check("team 1a2b3c4*", "user/2");
    assert_eq!(world.suggest(external, &[]), "user/1:4");
    assert_eq!(world.suggest("0055f00", &[]), "");
}

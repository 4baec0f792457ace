//! `override`: decided through a server and without one, in every form of output; aliases and overrides of a configuration.

use okta_idmap::engine::clock;

use super::follow::Hosted;
use super::harness::Place;
use super::store::{fill, lose_the_log, open};

fn filled() -> Place {
    let place = Place::with_org();
    fill(place.path());
    place
}

const REASON: &str = "IT-1: =two people";

/// Sets, lists and deletes, with `way` saying who does it.
fn decide(place: &Place, way: &[&str]) {
    let run = |line: &[&str]| place.run(&[line, way].concat());
    run(&["resolve", "jira", "twin"]).assert(4, "AMBIGUOUS", "");
    let set = ["override", "set", "jira", "twin", "joan", "--for", "90d", "--reason", REASON];
    let ran = run(&set);
    ran.assert(0, "user id     00u4\nlogin       joan\n", "");
    assert!(ran.out.contains("kind        ANY\n") && ran.out.contains(&format!("reason      {REASON}\n")), "{ran:?}");
    run(&["resolve", "jira", "twin"]).assert(0, "T6, operator's override", "");
    run(&["gaps", "ambiguous", "-o", "csv"]).assert(0, "twin,\"T1, user name exactly\",2,1,", "");
    run(&["explain", "account", "jira", "twin"]).assert(0, REASON, "");
    let json = run(&["override", "list", "-o", "json"]).json();
    let row = &json["overrides"][0]["row"];
    assert_eq!((&row["name"], &row["user_id"], &row["source"]), (&"twin".into(), &"00u4".into(), &"RPC".into()));
    assert!(row["created_by"].as_str().is_some_and(|by| !by.is_empty()), "{row}");
    let lines = run(&["override", "list", "--app", "jira", "--source", "rpc", "-o", "jsonl"]);
    assert_eq!(lines.out.lines().filter(|line| line.contains("\"00u4\"")).count(), 1, "{lines:?}");
    let csv = run(&["override", "list", "-o", "csv"]);
    csv.assert(0, ",RPC,Jira", "1 override");
    assert!(csv.out.contains("twin,ANY,"), "{csv:?}");
    run(&["override", "list"]).assert(0, "twin", "");
    run(&["override", "list", "--source", "config"]).assert(0, "", "0 overrides");
    // Whom it means, and what it is, must be certain.
    let with = |change: &[(&str, &str)]| {
        let swap = |word: &&'static str| change.iter().find(|(old, _)| old == word).map_or(*word, |(_, new)| new);
        run(&set.iter().map(swap).collect::<Vec<&str>>())
    };
    // The server of this test has no search index.
    let is_searched = way == ["--direct"];
    let several = with(&[("joan", "both@acme.example")]);
    assert_ne!(several.code, Some(0), "{several:?}");
    if is_searched {
        several.assert(4, "", "several users have this e-mail address: 00u2, 00u3");
    }
    with(&[("joan", "nobody")]).assert(4, "", "nobody");
    with(&[("jira", "wiki")]).assert(4, "", "wiki");
    with(&[("90d", "367d")]).assert(2, "", "more than 366 days ahead");
    with(&[("90d", "0s")]).assert(2, "", "the end is not ahead");
    with(&[(REASON, " ")]).assert(2, "", "a reason is needed");
    with(&[("twin", "")]).assert(2, "", "account.identifier.value");
    run(&["override", "delete", "jira", "twin", "--kind", "email"]).assert(4, "", "there is no override of that name");
    run(&["override", "delete", "jira", "twin", "-o", "json"]).assert(0, "\"deleted\"", "");
    run(&["override", "delete", "jira", "twin"]).assert(4, "", "there is no override of that name");
    run(&["override", "delete", "no such app", "twin"]).assert(4, "", "no app of that id, label or name is stored");
    run(&["resolve", "jira", "twin"]).assert(4, "AMBIGUOUS", "");
}

#[test]
fn a_server_decides() {
    let place = filled();
    let hosted = Hosted::start(place.path());
    decide(&place, &["--server", &hosted.url()]);
    hosted.stop();
}

#[test]
fn the_command_line_decides_where_no_server_does() {
    let place = filled();
    decide(&place, &["--direct"]);
    let store = open(place.path());
    let ran =
        place.run(&["override", "set", "jira", "ada", "ada@acme.example", "--for", "1h", "--reason", "x", "--direct"]);
    ran.assert(1, "", "in use by another okta-idmap process");
    drop(store);
}

/// Where not everybody is known, somebody else may have that login or e-mail address: whom a name means is then said by id.
#[test]
fn nobody_is_named_by_what_somebody_else_may_have() {
    let place = filled();
    let set = |who| place.run(&["override", "set", "jira", "twin", who, "--for", "1h", "--reason", "x", "--direct"]);
    // By an e-mail address that is no login (the index has everybody), and by login.
    for who in ["joan.only@acme.example", "ada@acme.example"] {
        set(who).assert(0, who.split(['.', '@']).next().unwrap(), "");
    }
    let store = open(place.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(lose_the_log(&store, 10));
    drop(store);
    for (who, id) in [("ada@acme.example", "00u1"), ("joan.only@acme.example", "00u4"), ("grace", "00u2")] {
        let refused = set(who);
        refused.assert(2, "", &format!("{who} may be the name of somebody else"));
        assert!(refused.err.contains(&format!("if {id} is meant, name the user by id")), "{refused:?}");
    }
    // Nothing was changed (Ada has no such account, which shows), and an id is nobody else's.
    place.run(&["override", "list", "--direct"]).assert(0, "ada", "1 override");
    set("00u2").assert(0, "grace", "");
    place.run(&["resolve", "jira", "twin", "--direct"]).assert(0, "grace", "");
}

#[test]
fn a_configuration_decides() {
    let mut place = filled();
    let entry = |user: &str, more: &str| format!("[{{ app = \"0oa1\", name = \"twin\", user = \"{user}\"{more} }}]");
    let ahead = |days: i64| {
        let end = clock::now().plus_millis(days * 86_400_000).to_iso();
        format!(", expires_at = \"{end}\", reason = \"IT-2\"")
    };
    let until = ahead(60);
    place.set("OKTA_IDMAP_ORGS__ACME__RESOLVE__ALIASES", &entry("00u1", "").replace("twin", "lovelace"));
    place.run(&["resolve", "jira", "lovelace", "--direct"]).assert(0, "T4, configured alias", "");
    place.set("OKTA_IDMAP_RESOLVE__OVERRIDES", &entry("00u2", &until));
    // Taken over by whoever opens the store to write it next.
    place.run(&["resolve", "jira", "twin", "--direct"]).assert(4, "AMBIGUOUS", "");
    let log = ["--log-level", "info"];
    let set = ["override", "set", "jira", "ada", "ada@acme.example", "--for", "1h", "--reason", "x", "--direct"];
    let ran = place.run(&[&set[..], &log].concat());
    ran.assert(0, "", "aliases and overrides of the configuration");
    assert!(ran.err.contains("aliases=1 overrides=1 changed=1"), "{ran:?}");
    assert!(!ran.err.contains("twin"), "names are for the log at debug level: {ran:?}");
    place.run(&["resolve", "jira", "twin", "--direct"]).assert(0, "grace", "");
    place.run(&["override", "list", "--direct"]).assert(0, "CONFIG", "2 overrides");
    place.run(&["override", "delete", "jira", "twin", "--direct"]).assert(
        1,
        "",
        "stands in the server's configuration",
    );
    // Two decisions about one name are none.
    let other = ["override", "set", "jira", "twin", "joan", "--for", "1h", "--reason", "x", "--direct"];
    place.run(&other).assert(0, "", "");
    place.run(&["resolve", "jira", "twin", "--direct"]).assert(4, "AMBIGUOUS", "");
    // Out of the configuration, gone with the next one who writes.
    place.set("OKTA_IDMAP_RESOLVE__OVERRIDES", "[]");
    place.run(&set).assert(0, "", "");
    place.run(&["resolve", "jira", "twin", "--direct"]).assert(0, "joan", "");
    let far = entry("00u2", &ahead(400));
    place.set("OKTA_IDMAP_RESOLVE__OVERRIDES", &far);
    let told = "orgs.acme.resolve.overrides: entry 1: the end is more than 366 days ahead";
    place.run(&set).assert(0, "", told);
    place.run(&["override", "list", "--source", "config", "--direct"]).assert(0, "", "0 overrides");
}

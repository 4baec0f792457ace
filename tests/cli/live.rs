//! `check`, `sync` and `serve` against the simulated org, and look-ups at a running server.

use std::io::{BufRead as _, BufReader, Read as _};

use okta_sim::{Action, Org, Refusal, Rule, ServerConfig, SimServer, Spec};

use super::harness::{CANARY, Place};

pub(crate) fn world() -> (SimServer, Place) {
    let config = ServerConfig { token: Some(CANARY.to_owned()), ..ServerConfig::default() };
    let server = SimServer::start(Org::generate(&Spec::of_users(60)), &config).unwrap();
    let mut place = Place::empty();
    place.set("OKTA_IDMAP_ORGS__ACME__DOMAIN", &server.base_url());
    place.set("OKTA_IDMAP_ORGS__ACME__API_TOKEN", CANARY);
    place.set("OKTA_IDMAP_SERVER__LISTEN", "127.0.0.1:0");
    (server, place)
}

#[test]
fn checking_says_what_can_be_read() {
    let (server, place) = world();
    let ran = place.run(&["check", "--output", "json"]);
    ran.assert(0, "", "");
    let json = ran.json();
    let org = &json["orgs"][0];
    let probes = org["probes"].as_array().unwrap();
    assert!(probes.iter().all(|probe| probe["result"] == "readable"), "{json}");
    assert_eq!((probes.len(), &org["all_readable"]), (15, &true.into()));
    assert_eq!((&org["roles"][0], &org["missing_scopes"]), (&"SUPER_ADMIN".into(), &serde_json::json!([])));
    assert_eq!(org["owner_id"], server.sim().org.administrator().id());
    let log = probes.iter().find(|probe| probe["probe"] == "log").unwrap();
    assert_eq!(
        (&log["needs"]["oauth_scope"], &log["needs"]["custom_permission"]),
        (&"okta.logs.read".into(), &().into())
    );
    place.run(&["check"]).assert(0, "everything that is needed can be read", "");

    let everyone = server.sim().org.everyone().id();
    server.sim().hidden.groups.insert(everyone);
    let ran = place.run(&["check"]);
    ran.assert(3, "groups: partial\n  seen   the built-in group Everyone", "");
    assert!(ran.out.contains("okta.groups.read on all groups"), "{ran:?}");

    server.sim().rules.push(Rule::on("/api/v1/groups", Action::Refuse(Refusal::Forbidden)));
    server
        .sim()
        .rules
        .push(Rule::on("/api/v1/logs", Action::Refuse(Refusal::InsufficientScope("okta.logs.read".into()))));
    let ran = place.run(&["check"]);
    ran.assert(3, "groups: forbidden\n", "");
    assert!(ran.out.contains("grant the OAuth scope okta.logs.read"), "{ran:?}");
    let csv = place.run(&["check", "-o", "csv"]);
    csv.assert(3, "acme,log,scope_missing,a standard role,okta.logs.read,logs,", "");
    let lines = place.run(&["check", "-o", "jsonl"]);
    assert_eq!((lines.code, lines.out.lines().count()), (Some(3), 15), "{lines:?}");

    server.sim().rules.push(Rule::on("/api/v1/users", Action::Refuse(Refusal::InvalidToken)));
    place.run(&["check"]).assert(1, "create a new API token", "");

    // As a token is refused that is wrong or was revoked: whose it is, is the first question that needs one.
    server.sim().rules.push(Rule::on("/api/v1/users/me", Action::Refuse(Refusal::InvalidToken)));
    let ran = place.run(&["check"]);
    ran.assert(1, "owner: unauthorized\n  seen   ", "");
    for part in
        ["401", "  hides  everything", "  to do  create a new API token", "\n1 not readable, 0 readable in part, 11"]
    {
        assert!(ran.out.contains(part), "{part:?} in {ran:?}");
    }
}

#[test]
fn a_crawl_tells_how_it_ended() {
    let (server, place) = world();
    let ran = place.run(&["sync", "-o", "json"]);
    ran.assert(0, "", "");
    let json = ran.json();
    assert_eq!(json["orgs"][0]["outcome"], "complete");
    assert_eq!(json["orgs"][0]["rows"]["users"].as_u64().unwrap(), server.sim().org.truth_users().count() as u64);
    let table = place.run(&["status", "--direct"]);
    table.assert(0, "crawl completed at", "");
    assert!(table.out.contains("open gaps             0\n"), "{table:?}");

    server.sim().rules.push(Rule::on("/api/v1/groups", Action::Refuse(Refusal::Forbidden)));
    let ran = place.run(&["sync", "--quiet"]);
    ran.assert(3, "finished_with_gaps", "acme: FORBIDDEN:groups: ");
    assert!(ran.err.contains("to do: give the credential's owner"), "{ran:?}");
    place.run(&["group", "list", "--direct"]).assert(
        0,
        "",
        "PARTIAL: what these gaps hide may be missing: FORBIDDEN:groups",
    );

    let told = |ran: &super::harness::Ran, what: &str| {
        ran.err.lines().filter(|line| line.contains(what) && line.contains("FORBIDDEN:groups")).count()
    };
    let again = place.run(&["sync"]);
    assert_eq!((told(&again, "a gap has opened"), told(&again, "a gap has closed")), (0, 0), "confirmed: {again:?}");
    server.sim().rules.clear();
    let cured = place.run(&["sync"]);
    assert_eq!((told(&cured, "a gap has opened"), told(&cured, "a gap has closed")), (0, 1), "{cured:?}");
    server.sim().rules.push(Rule::on("/api/v1/groups", Action::Refuse(Refusal::Forbidden)));
    let refused = place.run(&["sync"]);
    assert_eq!((told(&refused, "a gap has opened"), told(&refused, "a gap has closed")), (1, 0), "{refused:?}");

    server.sim().rules.push(Rule::on("/api/v1/users", Action::Refuse(Refusal::InvalidToken)));
    let ran = place.run(&["sync"]);
    ran.assert(1, "stopped", "goes on where it was");
    assert!(ran.err.contains("create a new API token"), "{ran:?}");
}

#[test]
fn an_interrupted_crawl_is_resumed() {
    let (server, place) = world();
    // Long enough to be interrupted within, short enough for a test that goes wrong.
    server.sim().rules.push(Rule::on("/api/v1/apps/*/users", Action::Delay(700)));
    let mut running = place.start(&["sync"]);
    let mut log = BufReader::new(running.child().stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("crawl begins") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the crawl ended without a word");
    }
    running.terminate();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    let ran = running.wait();
    ran.assert(1, "interrupted", "");
    assert!(rest.contains("goes on where it was"), "{rest}");
    server.sim().rules.clear();
    place.run(&["sync"]).assert(0, "complete", "crawl is resumed");
}

#[test]
fn a_server_answers_and_stops() {
    let (org, place) = world();
    place.run(&["sync", "-q"]).assert(0, "complete", "");
    let mut running = place.start(&["serve"]);
    let mut out = BufReader::new(running.child().stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();

    let direct = place.run(&["app", "list", "-o", "csv", "--direct", "-q"]);
    let served = place.run(&["app", "list", "-o", "csv", "--server", &address, "-q"]);
    assert_eq!((direct.out, direct.code), (served.out, served.code), "both answer alike");
    place.run(&["status", "--server", &address]).assert(0, "acme", "");
    place.run(&["user", "show", "x", "--org", "other", "--server", &address]).assert(2, "", "other");
    place.run(&["resolve", "nothing", "x", "--server", &address]).assert(4, "UNKNOWN_APP", "");
    place.run(&["acl", "nothing", "--account", "x", "--server", &address]).assert(4, "account x: UNKNOWN_APP", "");
    place.run(&["explain", "account", "nothing", "x", "--server", &address]).assert(
        4,
        "1. the selector means no app",
        "",
    );
    // Principals carry the id that the org tells of itself.
    let user = org.sim().org.administrator().id();
    let ran = place.run(&["user", "principals", &user, "--server", &address, "-o", "json"]);
    let principals = ran.json()["principals"].to_string();
    assert!(principals.contains("\"oidm1:00o") && principals.contains(&format!(":user:{user}\"")), "{ran:?}");
    let port = address.rsplit(':').next().unwrap();
    let listen = format!("127.0.0.1:{port}");
    place.run(&["serve", "--listen", &listen]).assert(1, "", "the port is taken");
    place.run(&["sync"]).assert(1, "failed", "in use by another okta-idmap process");

    running.terminate();
    let ran = running.wait();
    ran.assert(0, "", "stopping");
}

#[test]
fn an_index_is_built_anew_by_whoever_holds_the_org() {
    let (_server, place) = world();
    place.run(&["reindex"]).assert(1, "", "okta-idmap sync");
    place.run(&["sync", "-q"]).assert(0, "complete", "");
    let people = |place: &Place, more: &[&str]| {
        let line = [&["search", "kind:user", "-o", "json", "--limit", "5"], more].concat();
        let ran = place.run(&line);
        ran.assert(0, "", "");
        ran.json()["hits"].clone()
    };
    let before = people(&place, &["--direct"]);
    // Without a server: whatever has become of the index.
    let index = place.path().join("okta-idmap-data/acme/index");
    for damage in ["nothing", "a file", "all of it"] {
        match damage {
            "a file" => std::fs::write(index.join("meta.json"), "{}").unwrap(),
            "all of it" => std::fs::remove_dir_all(&index).unwrap(),
            _ => {}
        }
        let ran = place.run(&["reindex", "-o", "json"]);
        ran.assert(0, "", "building the search index of org acme");
        let json = ran.json();
        assert_eq!((&json["outcome"], &json["index"]["state"]), (&"DONE".into(), &"FOLLOWING".into()), "{damage}");
        assert_eq!(people(&place, &["--direct"]), before, "{damage}");
    }
    let mut running = place.start(&["serve"]);
    let mut out = BufReader::new(running.child().stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    let state = || {
        let json = place.run(&["status", "-o", "json", "--server", &address]).json();
        json["orgs"][0]["status"]["index"]["state"].as_str().unwrap_or_default().to_owned()
    };
    let follows = || {
        // Each round runs the program twice: minutes, on any machine.
        let mut rounds = 0..1_000;
        while state() != "FOLLOWING" {
            assert!(rounds.next().is_some(), "{}", state());
            assert_eq!(people(&place, &["--server", &address]), before, "searches go on");
        }
    };
    follows();
    let ran = place.run(&["reindex", "--server", &address]);
    ran.assert(0, "STARTED", "`okta-idmap status` shows when");
    assert!(ran.out.contains("REBUILDING"), "{ran:?}");
    follows();
    assert_eq!(people(&place, &["--server", &address]), before);
    let waited = place.run(&["reindex", "--wait", "-o", "json", "--server", &address]);
    waited.assert(0, "", "");
    let json = waited.json();
    assert_eq!((&json["outcome"], &json["index"]["state"]), (&"STARTED".into(), &"FOLLOWING".into()), "{waited:?}");
    assert_eq!(state(), "FOLLOWING");
    assert_eq!(people(&place, &["--server", &address]), before);
    place.run(&["reindex", "--direct"]).assert(1, "", "in use by another okta-idmap process");
    running.terminate();
    let ran = running.wait();
    ran.assert(0, "", "the search index is made anew, as somebody asked for");
    assert_eq!(people(&place, &["--direct"]), before);
}

/// Set while the engine crawls and follows, kept over a restart, and gone by itself: with a real engine.
#[test]
fn overrides_are_decided_kept_and_over() {
    let (_server, mut place) = world();
    place.set("OKTA_IDMAP_FOLLOW__POLL_INTERVAL", "200ms");
    place.run(&["sync", "-q"]).assert(0, "complete", "");
    let apps = place.run(&["app", "list", "-o", "json", "--direct"]).json();
    let accounts = |app: &str| place.run(&["app", "users", app, "--granting-only", "-o", "json", "--direct"]).json();
    let ids = apps["apps"].as_array().unwrap().iter().map(|app| app["id"].as_str().unwrap().to_owned());
    let mut with_users = ids.map(|app| (accounts(&app)["accounts"][0]["user"]["id"].clone(), app));
    let (user, app) = with_users.find(|(user, _)| !user.is_null()).unwrap();
    let user = user.as_str().unwrap();
    let serve = || {
        let mut running = place.start(&["serve"]);
        let mut line = String::new();
        BufReader::new(running.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
        (running, line.trim().strip_prefix("listening on ").unwrap().to_owned())
    };
    let (mut running, address) = serve();
    let set = |name: &str, lasts: &str, address: &str| {
        let line = ["override", "set", &app, name, user, "--for", lasts, "--reason", "IT-1", "--server", address];
        place.run(&line).assert(0, user, "");
    };
    set("nobody's name", "1h", &address);
    let resolve = |name: &str, address: &str| place.run(&["resolve", &app, name, "--server", address]);
    resolve("nobody's name", &address).assert(0, "operator's override", "");
    running.terminate();
    let ran = running.wait();
    ran.assert(0, "", "stopping");
    assert!(ran.err.contains("Admin.SetOverride") && ran.err.contains("IT-1"), "the call is logged: {ran:?}");
    assert!(!ran.err.contains("nobody's name"), "without the name: {ran:?}");

    let (mut running, address) = serve();
    resolve("nobody's name", &address).assert(0, "operator's override", "");
    set("soon over", "2s", &address);
    // Each round runs the program: minutes, on any machine.
    let mut rounds = 0..1_000;
    let listed = || place.run(&["override", "list", "-o", "csv", "--server", &address]).out;
    while listed().contains("soon over") {
        assert!(rounds.next().is_some(), "{}", listed());
    }
    resolve("soon over", &address).assert(4, "", "");
    assert!(listed().contains("nobody's name"));
    running.terminate();
    running.wait().assert(0, "", "overrides are over");
}

/// Whoever triggers a read does not wait for an answer of Okta.
#[test]
fn that_nothing_can_be_read_now_is_said_at_once() {
    // Nobody listens at its address.
    let mut place = Place::with_org();
    place.set("OKTA_IDMAP_SERVER__LISTEN", "127.0.0.1:0");
    let mut running = place.start(&["serve"]);
    let mut out = BufReader::new(running.child().stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    // The first one may have to wait until that has turned out.
    let now = "nothing can be read from the org now; its status says why";
    place.run(&["trigger", "users", "--server", &address]).assert(1, "", now);
    let begun = tokio::time::Instant::now();
    for _ in 0..5 {
        place.run(&["trigger", "users", "--server", &address]).assert(1, "", now);
        place.run(&["trigger", "everything", "--server", &address]).assert(0, "STARTED", "");
    }
    assert!(begun.elapsed().as_secs() < 10, "the attempts take longer, and nobody waits for them");
    running.terminate();
    assert_eq!(running.wait().code, Some(0));
}

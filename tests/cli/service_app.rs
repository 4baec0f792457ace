//! A service app at the command line: what is told, and that no key, assertion or token is ever shown or stored.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use okta_idmap::core::private_key::PrivateKey;
use okta_idmap::core::secret::Secret;
use okta_sim::{Org, ServerConfig, ServiceApp, SimServer, Spec};

use super::harness::{Place, Ran};

const KEY: &str = include_str!("../keys/rsa-pkcs8.pem");

fn world() -> (SimServer, Place) {
    let server = SimServer::start(Org::generate(&Spec::of_users(60)), &ServerConfig::default()).unwrap();
    let key = PrivateKey::parse(&Secret::new(KEY.to_owned()), &ring::rand::SystemRandom::new()).unwrap();
    let app = ServiceApp::new("0oaConnector").with_key("kid1", &key.public_members());
    let app = app.with_scopes("okta.users.read okta.groups.read okta.apps.read okta.logs.read");
    server.sim().require_service_app(app);
    let mut place = Place::empty();
    std::fs::write(place.path().join("key.pem"), KEY).unwrap();
    for (key, value) in [
        ("ORGS__ACME__DOMAIN", server.base_url().as_str()),
        ("ORGS__ACME__CLIENT_ID", "0oaConnector"),
        ("ORGS__ACME__KEY_ID", "kid1"),
        ("ORGS__ACME__PRIVATE_KEY_FILE", "key.pem"),
        ("SERVER__LISTEN", "127.0.0.1:0"),
        ("LOG__LEVEL", "trace"),
    ] {
        place.set(&format!("OKTA_IDMAP_{key}"), value);
    }
    (server, place)
}

/// Whether a line of the key, a token of the simulated org or the head of any JWT is in it.
fn is_secret_in(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let lines = KEY.lines().filter(|line| !line.starts_with("-----"));
    lines.clone().any(|line| text.contains(line)) || text.contains("eySimToken") || text.contains("eyJ")
}

#[track_caller]
fn assert_silent(ran: &Ran) {
    assert!(!is_secret_in(ran.out.as_bytes()) && !is_secret_in(ran.err.as_bytes()), "a secret was shown: {ran:?}");
}

/// The report as one line: a terminal breaks it anywhere.
fn words(ran: &Ran) -> String {
    ran.out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_not_stored(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_not_stored(&path);
        } else if path.file_name().is_none_or(|name| name != "key.pem") {
            assert!(!is_secret_in(&std::fs::read(&path).unwrap()), "a secret is in {}", path.display());
        }
    }
}

#[test]
fn no_secret_is_shown_or_stored() {
    for requires_proof in [false, true] {
        let (server, place) = world();
        server.sim().oauth.apps[0].requires_proof = requires_proof;
        for line in [&["config"][..], &["check"], &["sync", "-o", "json"], &["status", "--direct", "-o", "json"]] {
            let ran = place.run(line);
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert_silent(&ran);
            let asks = matches!(line[0], "check" | "sync");
            assert_eq!(ran.err.contains("answer to the token request"), asks, "the log says all it can: {ran:?}");
        }
        assert_not_stored(place.path());
        server.sim().oauth.apps[0].keys[0].is_revoked = true;
        let ran = place.run(&["check"]);
        ran.assert(1, "unauthorized", "");
        assert!(words(&ran).contains("no token: the app has no active key with id kid1"), "{ran:?}");
        assert_silent(&ran);
    }
}

/// The whole of it: follows for a while, renews its token, tells its status and its metrics.
#[test]
fn a_server_shows_no_secret_either() {
    let (server, mut place) = world();
    server.sim().oauth.apps[0].expires_in_s = 1;
    // A port that was free a moment ago.
    let http = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.set("OKTA_IDMAP_SERVER__HTTP_LISTEN", &http.to_string());
    place.set("OKTA_IDMAP_FOLLOW__POLL_INTERVAL", "1s");
    let mut running = place.start(&["serve"]);
    let mut log = BufReader::new(running.child().stderr.take().unwrap());
    let (told, lines) = std::sync::mpsc::sync_channel(100_000);
    let reader = std::thread::spawn(move || {
        let mut all = String::new();
        while log.read_line(&mut all).unwrap_or(0) > 0 {
            let _ = told.try_send(all.lines().last().unwrap_or_default().to_owned());
        }
        all
    });
    let mut out = BufReader::new(running.child().stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap();
    // The first token, and the ones after it.
    for _ in 0..3 {
        lines.iter().find(|line| line.contains("answer to the token request")).unwrap();
    }
    let mut stream = TcpStream::connect(http).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(metrics.contains("okta_idmap_"), "{metrics}");
    let status = place.run(&["status", "-o", "json", "--server", address]);
    running.terminate();
    assert_silent(&running.wait());
    assert_silent(&status);
    let log = reader.join().unwrap();
    assert!(!is_secret_in(log.as_bytes()) && !is_secret_in(metrics.as_bytes()), "a secret was shown");
    assert_not_stored(place.path());
    assert!(server.sim().oauth.issued >= 3);
    assert_eq!(server.sim().requests.violations(), 0);
}

#[test]
fn the_status_tells_what_kind_of_credential_it_is() {
    let (_server, place) = world();
    place.run(&["sync", "--quiet"]).assert(0, "", "");
    let json = place.run(&["status", "--direct", "-o", "json"]).json();
    let told = json.to_string();
    assert!(told.contains("OAUTH_SERVICE_APP") || told.contains("oauth_service_app"), "{told}");
    assert!(!told.contains("revokes"), "{told}");
}

#[test]
fn a_key_that_others_can_read_is_warned_about() {
    let (_server, place) = world();
    let ran = place.run(&["config"]);
    #[cfg(unix)]
    ran.assert(0, "private_key_file = \"key.pem\"", "run chmod 600 on it");
    assert!(!ran.out.contains("BEGIN"));
}

#[test]
fn a_missing_scope_is_named() {
    for drops_ungranted in [false, true] {
        let (server, place) = world();
        {
            let app = &mut server.sim().oauth.apps[0];
            app.drops_ungranted = drops_ungranted;
            app.granted.remove("okta.groups.read");
        }
        let ran = place.run(&["check"]);
        ran.assert(3, "OAuth scopes that were not granted: okta.groups.read\n", "");
        let told = words(&ran);
        assert!(told.contains(", service app 0oaConnector"), "{told}");
        assert!(told.contains("groups: scope_missing"), "{told}");
        assert!(told.contains("to do grant the OAuth scope okta.groups.read to the service app"), "{told}");
        assert!(!told.contains("users: "), "what is granted is readable: {told}");
        let org = &place.run(&["check", "-o", "json"]).json()["orgs"][0];
        assert_eq!(org["missing_scopes"], serde_json::json!(["okta.groups.read"]));
        assert_eq!(org["granted_scopes"].as_array().unwrap().len(), 3, "{org}");
        server.sim().oauth.apps[0].granted.insert("okta.groups.read".to_owned());
        place.run(&["check"]).assert(0, "everything that is needed can be read", "");
    }
}

/// Scopes alone read nothing: Okta answers with empty lists (facts 7.2), and nobody must take that for an empty org.
#[test]
fn an_app_without_a_role_is_told_what_it_lacks() {
    let (server, place) = world();
    let users = |place: &Place| {
        let found = place.run(&["search", "kind:user", "-o", "json", "--direct"]).json();
        let hits = found["hits"].as_array().unwrap().iter().map(|hit| hit["user"]["id"].to_string());
        hits.collect::<std::collections::BTreeSet<_>>()
    };
    place.run(&["sync", "--quiet"]).assert(0, "", "");
    let before = users(&place);
    assert!(!before.is_empty());
    server.sim().oauth.apps[0].has_role = false;
    let ran = place.run(&["check"]);
    ran.assert(3, "5 not readable", "");
    let told = words(&ran);
    assert!(told.contains("the service app has no admin role, and Okta answers with empty lists"), "{told}");
    place.run(&["sync", "--quiet"]).assert(3, "", "EMPTY_SUSPECT:users");
    assert_eq!(users(&place), before, "nothing goes");
}

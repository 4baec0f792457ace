//! A server with TLS and tokens, and the command line that calls it.

use std::io::{BufRead as _, BufReader, Read as _};

use super::harness::{CANARY, Place, Ran, Running};
use super::store::fill;

const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/tls");

/// A new token, and the entry for the server's configuration.
fn new_token(name: &str, role: &str) -> (String, String) {
    let ran = Place::empty().run(&["config", "token", name, "--role", role, "-o", "json"]);
    ran.assert(0, "", "");
    let json = ran.json();
    let text = |key: &str| json[key].as_str().unwrap().to_owned();
    (text("token"), format!("{} = {:?}\n", text("name"), text("server_tokens_value")))
}

/// A server over a small org, its address, and a place with its configuration.
struct Secure {
    place: Place,
    running: Option<Running>,
    url: String,
    read: String,
    explain: String,
}

impl Secure {
    fn start() -> Self {
        let ((read, one), (explain, two)) = (new_token("reader", "read"), new_token("asker", "explain"));
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ntls_cert_file = \"{KEYS}/server.pem\"\ntls_key_file = \"{KEYS}/server-key.pem\"\n\
             [server.tokens]\n{one}{two}[orgs.acme]\ndomain = \"http://127.0.0.1:9\"\n"
        );
        let mut place = Place::with_config(&text);
        place.set("OKTA_IDMAP_ORGS__ACME__API_TOKEN", CANARY);
        place.set("OKTA_IDMAP_CONFIG", "./okta-idmap.toml");
        place.set("OKTA_IDMAP_COVERAGE__STALE_AFTER", "0s");
        place.set("OKTA_IDMAP_COVERAGE__LOG_STALE_AFTER", "0s");
        fill(place.path());
        let mut running = place.start(&["serve"]);
        let mut line = String::new();
        let mut out = BufReader::new(running.child().stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        if url.is_empty() {
            let mut said = String::new();
            running.child().stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it does not listen: {said}");
        }
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        place.set("OKTA_IDMAP_CLIENT__CA_FILE", &format!("{KEYS}/root.pem"));
        for (name, token) in [("read", &read), ("explain", &explain), ("wrong", &"x".repeat(48))] {
            std::fs::write(place.path().join(name), format!("{token}\n")).unwrap();
        }
        Self { place, running: Some(running), url, read, explain }
    }

    fn run(&self, line: &[&str]) -> Ran {
        let ran = self.place.run(&[line, &["--server", &self.url]].concat());
        for token in [&self.read, &self.explain] {
            assert!(!ran.out.contains(token.as_str()) && !ran.err.contains(token.as_str()), "{ran:?}");
        }
        ran
    }
}

#[test]
fn look_ups_go_through_tls_with_a_token() {
    let mut secure = Secure::start();
    let show = ["user", "show", "ada@acme.example"];
    let with = |file: &'static str| [&show[..], &["--token-file", file]].concat();
    secure.run(&with("read")).assert(0, "ada@acme.example", "");
    secure.run(&show).assert(1, "", "no token was sent");
    secure.run(&with("wrong")).assert(1, "", "the token is not known");
    let ran = secure.run(&with("missing"));
    ran.assert(1, "", "read client.token_file missing");
    assert!(!ran.err.contains("no okta-idmap server answers"), "{ran:?}");
    let quarantined = |file: &'static str| ["gaps", "quarantined", "--token-file", file];
    secure.run(&quarantined("read")).assert(1, "", "this needs the role explain; the caller has read");
    secure.run(&quarantined("explain")).assert(0, "", "");
    // Whom nobody vouches for gets neither a question nor the token.
    secure.place.set("OKTA_IDMAP_CLIENT__CA_FILE", &format!("{KEYS}/other-root.pem"));
    secure.run(&with("read")).assert(1, "", "UnknownIssuer");
    // Without TLS there is nobody to talk to.
    secure.url = secure.url.replace("https:", "http:");
    secure.run(&with("read")).assert(1, "", "no okta-idmap server answers");

    let mut running = secure.running.take().unwrap();
    running.terminate();
    let ran = running.wait();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.err.contains(&secure.read) && !ran.err.contains(&secure.explain), "{ran:?}");
}

#[test]
fn a_token_is_printed_once_and_never_the_same() {
    let (one, other) = (Place::empty(), Place::empty());
    let ran = one.run(&["config", "token", "indexer"]);
    ran.assert(0, "oidm_", "indexer = \"read sha256:");
    assert!(ran.err.lines().any(|line| line.starts_with("indexer = ")), "a line to copy: {ran:?}");
    assert_eq!(ran.out.trim_end().len(), 48, "the token alone, for a file: {ran:?}");
    assert!(!ran.err.contains(ran.out.trim()), "{ran:?}");
    assert_ne!(ran.out, other.run(&["config", "token", "indexer"]).out);
    // Also where the configuration waits for it.
    let place = Place::with_config("server.listen = '0.0.0.0:8450'\n");
    place.run(&["config"]).assert(2, "", "server.listen: 0.0.0.0:8450 is not a loopback address");
    place.run(&["config", "token", "indexer", "--role", "admin"]).assert(0, "oidm_", "indexer = \"admin sha256:");
    place.run(&["config", "token", "a b"]).assert(2, "", "letters, digits");
    place.run(&["config", "token", "a", "--role", "owner"]).assert(2, "", "expected read, explain or admin");
    place.run(&["config", "token", "a", "-o", "csv"]).assert(2, "", "leave out --output csv");
}

#[test]
fn a_server_that_others_reach_does_not_start_unprotected() {
    let place = Place::with_org();
    for address in ["0.0.0.0:0", "[::]:0"] {
        let ran = place.run(&["serve", "--listen", address]);
        ran.assert(2, "", "is not a loopback address, and without TLS and without authentication anyone");
    }
    let mut place = Place::with_org();
    place.set("OKTA_IDMAP_SERVER__HTTP_LISTEN", "0.0.0.0:0");
    place.run(&["serve"]).assert(2, "", "server.http_allow_remote = true");
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start() {
    let mut place = Place::with_org();
    place.set("OKTA_IDMAP_SERVER__LISTEN", "127.0.0.1:0");
    place.set("OKTA_IDMAP_SERVER__TLS_CERT_FILE", &format!("{KEYS}/server.pem"));
    place.set("OKTA_IDMAP_SERVER__TLS_KEY_FILE", &format!("{KEYS}/missing.pem"));
    place.run(&["serve"]).assert(1, "", "set up TLS: server.tls_key_file: read the server's key");
    place.set("OKTA_IDMAP_SERVER__TLS_KEY_FILE", &format!("{KEYS}/../p256-pkcs8.pem"));
    place.run(&["serve"]).assert(1, "", "set up TLS: server.tls_cert_file: use certificate");
}

#[test]
fn a_file_of_clients_that_cannot_be_used_stops_the_start() {
    let mut place = Place::with_org();
    let file = place.path().join("access.toml");
    place.set("OKTA_IDMAP_SERVER__LISTEN", "127.0.0.1:0");
    place.set("OKTA_IDMAP_SERVER__ACCESS_FILE", &file.display().to_string());
    place.run(&["serve"]).assert(2, "", "server.access_file: read");
    std::fs::write(&file, "[server.tokens]\nindexer = 'read oidm_0123456789abcdef0123456789abcdef0123456789a'\n")
        .unwrap();
    let ran = place.run(&["serve"]);
    ran.assert(2, "", "access.toml:2:1: server.tokens: an entry is not a role and a hash");
    assert!(!ran.err.contains("oidm_0"), "{ran:?}");
    // The configuration itself is right.
    place.run(&["config"]).assert(0, "access_file = ", "");
}

//! The whole system at trace level, with a canary as its credential: nothing that it prints, logs, stores, measures or
//! answers holds a piece of it.
//!
//! Entry points: [`Stage`], one run with one credential; [`search::Search`], which looks for pieces in any form, and whose
//! own tests show that it finds them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod front;
#[path = "../cli/harness.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod harness;
mod search;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use front::{Front, Manner};
use harness::{CANARY, Place, Running};
use okta_idmap::core::access::{TokenHash, token_of};
use okta_idmap::core::private_key::PrivateKey;
use okta_idmap::core::secret::Secret;
use okta_sim::{Action, PathMatch, Refusal, Rule, ServiceApp, Sim};
use search::Search;

const KEY: &str = include_str!("../keys/rsa-pkcs8.pem");

/// Everything that the libraries can tell as well; without their names they are muted.
const LEVEL: &str = "trace,h2=trace,hyper=trace,hyper_util=trace,reqwest=trace,rustls=trace,tower=trace";

/// The password of a proxy, of which the variable knows.
const PROXY_PASSWORD: &str = "CanaryProxyPassword-17-never-shown";

/// One credential, and all that was said while it was used.
struct Stage {
    front: Front,
    place: Place,
    /// Name and content of everything that came out.
    outputs: Vec<(String, Vec<u8>)>,
}

impl Stage {
    fn new(format: &str, rig: impl FnOnce(&mut Sim, &mut Place)) -> Self {
        let mut place = Place::empty();
        let front = Front::start(|sim| rig(sim, &mut place));
        std::fs::write(place.path().join("roots.pem"), include_bytes!("../keys/tls/root.pem")).unwrap();
        for (key, value) in [
            ("DOMAIN", front.url.as_str()),
            ("NETWORK__CA_FILE", "roots.pem"),
            ("SERVER__LISTEN", "127.0.0.1:0"),
            ("FOLLOW__POLL_INTERVAL", "1s"),
            ("LOG__LEVEL", LEVEL),
            ("LOG__FORMAT", format),
        ] {
            place.set(&format!("OKTA_IDMAP_{key}"), value);
        }
        place.set("RUST_LOG", "trace");
        place.set("RUST_BACKTRACE", "full");
        Self { front, place, outputs: Vec::new() }
    }

    /// Runs a command to its end, whatever that is.
    fn run(&mut self, line: &[&str]) -> Option<i32> {
        let ran = self.place.run(line);
        self.outputs.push((format!("{line:?}, output"), ran.out.into_bytes()));
        self.outputs.push((format!("{line:?}, log"), ran.err.into_bytes()));
        ran.code
    }

    /// Whatever the directory holds but the secret files that were put there.
    fn take_files(&mut self) {
        fn take(dir: &Path, outputs: &mut Vec<(String, Vec<u8>)>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    take(&path, outputs);
                } else if path.file_name().is_none_or(|name| name != "key.pem") {
                    // The index removes files while it is looked at.
                    let content = std::fs::read(&path).unwrap_or_default();
                    outputs.push((path.display().to_string(), content));
                }
            }
        }
        let path = self.place.path().to_owned();
        take(&path, &mut self.outputs);
    }

    /// What goes wrong, one after the other.
    fn go_wrong(&mut self) {
        let custom = |status, body: &str| Action::Refuse(Refusal::Custom(status, body.to_owned()));
        let of_api = |action| Rule { path: PathMatch::Prefix("/api/v1/".to_owned()), ..Rule::everywhere(action) };
        for (command, rule) in [
            ("sync", of_api(Action::Refuse(Refusal::InvalidToken))),
            ("sync", of_api(Action::Refuse(Refusal::Internal)).times(2)),
            ("check", of_api(Action::Redirect("https://evil.example/login?x=1".to_owned()))),
            ("check", of_api(custom(200, "<html>Who are you?</html>"))),
            ("check", of_api(custom(403, "<html>blocked</html>"))),
            ("sync", of_api(Action::CutJson).times(2)),
            ("check", of_api(Action::NextForeign("https://evil.example".to_owned()))),
        ] {
            self.front.sim().rules.push(rule);
            self.run(&[command]);
            self.front.sim().rules.clear();
        }
        for (command, manner) in [
            ("sync", Manner::Repeats(200)),
            ("check", Manner::Repeats(400)),
            ("check", Manner::Repeats(401)),
            ("sync", Manner::Repeats(403)),
        ] {
            self.front.set(manner);
            self.run(&[command]);
        }
        self.front.set(Manner::Answers);
    }

    /// `serve` with look-ups, metrics and failures on the way.
    fn serve(&mut self, has_tokens: bool) {
        // A port that was free a moment ago.
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        self.place.set("OKTA_IDMAP_SERVER__HTTP_LISTEN", &http.to_string());
        let serving = Serving::start(&self.place);
        let server = ["--server", serving.address.as_str(), "-o", "json"].map(str::to_owned);
        let login = self.front.sim().org.truth_users().next().unwrap().login;
        serving.wait_for("first crawl is complete");
        for line in [
            &["status"][..],
            &["gaps"],
            &["gaps", "scopes"],
            &["resolve", "nothing", "nobody"],
            &["user", "show", &login],
            &["user", "accounts", &login],
            &["search", "a"],
            &["app", "list"],
            // What is in force, asked for with the token as a name by mistake.
            &["user", "show", "nobody@acme.example"],
        ] {
            let line: Vec<&str> = line.iter().copied().chain(server.iter().map(String::as_str)).collect();
            assert!(matches!(self.run(&line), Some(0 | 4)), "{line:?}");
        }
        self.front.set(Manner::Repeats(403));
        serving.wait_for("a read failed");
        if has_tokens {
            self.front.set(Manner::RepeatsTokenRequest(400));
            serving.wait_for("\"status\":400");
        }
        self.run(&["status", "--server", &server[1]]);
        let mut stream = TcpStream::connect(http).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut metrics = Vec::new();
        stream.read_to_end(&mut metrics).unwrap();
        assert!(memchr::memmem::find(&metrics, b"okta_idmap_").is_some());
        self.outputs.push(("metrics".to_owned(), metrics));
        // With the write-ahead log as it is in between.
        self.take_files();
        self.front.set(Manner::Answers);
        self.outputs.extend(serving.stop());
    }

    /// Asserts that nothing of `secrets` came out, and that the search would have found it.
    fn assert_silent(mut self, secrets: &[Vec<u8>]) {
        self.take_files();
        let search = Search::new(secrets);
        let asked = self.front.requests();
        assert!(search.find(asked.as_bytes()).is_some(), "the credential was used");
        let bytes: usize = self.outputs.iter().map(|(_, content)| content.len()).sum();
        assert!(self.outputs.len() > 30 && bytes > 1_000_000, "{} outputs, {bytes} bytes", self.outputs.len());
        let told = |part: &str| {
            let has = |content: &[u8]| memchr::memmem::find(content, part.as_bytes()).is_some();
            self.outputs.iter().any(|(_, content)| has(content))
        };
        // The lowest layers have told what they could.
        for part in ["Headers { stream_id", "connection", "answer from okta"] {
            assert!(told(part), "nothing was told by {part}");
        }
        for (name, content) in &self.outputs {
            if let Some(place) = search.find(content) {
                let around = &content[place.saturating_sub(100)..(place + 40).min(content.len())];
                panic!("{name}: a piece of a secret: {:?}", String::from_utf8_lossy(around));
            }
        }
    }
}

/// A server whose log is read as it comes.
struct Serving {
    running: Running,
    address: String,
    lines: std::sync::mpsc::Receiver<String>,
    log: JoinHandle<Vec<u8>>,
}

impl Serving {
    fn start(place: &Place) -> Self {
        let mut running = place.start(&["serve"]);
        let log = BufReader::new(running.child().stderr.take().unwrap());
        let (told, lines) = std::sync::mpsc::sync_channel(1_000_000);
        let log = std::thread::spawn(move || {
            let mut all = Vec::new();
            for line in log.split(b'\n').map_while(Result::ok) {
                let _ = told.try_send(String::from_utf8_lossy(&line).into_owned());
                all.extend(line);
                all.push(b'\n');
            }
            all
        });
        let mut line = String::new();
        let mut out = BufReader::new(running.child().stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { running, address, lines, log }
    }

    fn wait_for(&self, part: &str) {
        assert!(self.lines.iter().any(|line| line.contains(part)), "it ended without {part}");
    }

    fn stop(mut self) -> [(String, Vec<u8>); 2] {
        self.running.terminate();
        let ran = self.running.wait();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        [("serve, output".to_owned(), ran.out.into_bytes()), ("serve, log".to_owned(), self.log.join().unwrap())]
    }
}

#[test]
fn an_api_token_is_shown_nowhere() {
    let server_token = token_of(&std::array::from_fn(|n| n as u8 * 7 + 3));
    let mut stage = Stage::new("text", |sim, place| {
        sim.require_token(CANARY);
        place.set("OKTA_IDMAP_API_TOKEN", CANARY);
        // Our own server has secrets, too: its key, and the tokens of its clients.
        let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/tls");
        let hash = TokenHash::of(server_token.expose()).unwrap();
        for (key, value) in [
            ("SERVER__TLS_CERT_FILE", format!("{keys}/server.pem")),
            ("SERVER__TLS_KEY_FILE", format!("{keys}/server-key.pem")),
            ("SERVER__TOKENS", format!("{{ canary = 'read {hash}' }}")),
            ("SERVER__AUDIT_LOOKUPS", "true".to_owned()),
            ("CLIENT__CA_FILE", format!("{keys}/root.pem")),
            ("CLIENT__TOKEN", server_token.expose().to_owned()),
        ] {
            place.set(&format!("OKTA_IDMAP_{key}"), &value);
        }
    });
    for line in [&["config"][..], &["check"], &["sync"], &["status", "--direct", "-o", "json"]] {
        assert_eq!(stage.run(line), Some(0), "{line:?}");
    }
    stage.go_wrong();
    stage.serve(false);
    let mut secrets = vec![search::p256_key_material(include_str!("../keys/tls/server-key.pem"))];
    secrets.extend([CANARY, server_token.expose()].map(|secret| secret.as_bytes().to_vec()));
    stage.assert_silent(&secrets);
}

#[test]
fn a_key_and_what_is_made_of_it_are_shown_nowhere() {
    let mut stage = Stage::new("json", |sim, place| {
        let key = PrivateKey::parse(&Secret::new(KEY.to_owned()), &ring::rand::SystemRandom::new()).unwrap();
        let app = ServiceApp::new("0oaConnector").with_key("kid1", &key.public_members());
        let mut app = app.with_scopes("okta.users.read okta.groups.read okta.apps.read okta.logs.read");
        app.requires_proof = true;
        // Some renewals while it serves.
        app.expires_in_s = 2;
        sim.require_service_app(app);
        std::fs::write(place.path().join("key.pem"), KEY).unwrap();
        place.set("OKTA_IDMAP_CLIENT_ID", "0oaConnector");
        place.set("OKTA_IDMAP_KEY_ID", "kid1");
        place.set("OKTA_IDMAP_PRIVATE_KEY_FILE", "key.pem");
    });
    for line in [&["config"][..], &["check"], &["sync"]] {
        assert_eq!(stage.run(line), Some(0), "{line:?}");
    }
    stage.go_wrong();
    stage.serve(true);
    stage.front.sim().oauth.apps[0].keys[0].is_revoked = true;
    stage.run(&["check"]);
    let mut secrets = search::key_material(KEY);
    secrets.extend(stage.front.credentials());
    stage.assert_silent(&secrets);
}

/// A password of a proxy comes from the environment and goes to the proxy, which never sees the credential of the org.
#[test]
fn the_password_of_a_proxy_is_shown_nowhere() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://user:{PROXY_PASSWORD}@{}", listener.local_addr().unwrap());
    let told = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").unwrap();
        drop((stream, listener));
        String::from_utf8(head).unwrap()
    });
    let mut place = Place::empty();
    for (name, value) in [
        ("OKTA_IDMAP_DOMAIN", "acme.okta.example"),
        ("OKTA_IDMAP_API_TOKEN", CANARY),
        ("OKTA_IDMAP_LOG__LEVEL", LEVEL),
        ("HTTPS_PROXY", proxy.as_str()),
    ] {
        place.set(name, value);
    }
    let ran = place.run(&["check"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let told = told.join().unwrap();
    assert!(told.starts_with("CONNECT acme.okta.example:443 HTTP/1.1\r\n"), "{told}");
    let password = search::base64(format!("user:{PROXY_PASSWORD}").as_bytes());
    assert!(told.contains(&format!("Basic {password}")), "{told}");
    assert!(format!("{} {}", ran.out, ran.err).contains("HTTPS_PROXY"), "{ran:?}");
    let search = Search::new(&[PROXY_PASSWORD.as_bytes().to_vec(), password.into_bytes(), CANARY.as_bytes().to_vec()]);
    for output in [&ran.out, &ran.err] {
        assert_eq!(search.find(output.as_bytes()), None, "{output}");
    }
    let outside = Search::new(&[CANARY.as_bytes().to_vec()]);
    assert_eq!(outside.find(told.as_bytes()), None, "the proxy sees no credential");
}

//! SIGTERM at any moment of the talk with Okta: the process ends soon, says how, and leaves a store that goes on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::harness::{CANARY, Place};

const KEY: &str = include_str!("../keys/rsa-pkcs8.pem");

/// It is a matter of milliseconds; a busy machine may take longer. What it may not take is the time limit of an answer,
/// which is 60 s, nor that of a connection, 10 s.
const END_MAX: Duration = Duration::from_secs(8);

/// Where the server falls silent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The proxy opens no way.
    Connect,
    /// No answer to the first request, which is about the org.
    Metadata,
    /// No answer to the token request.
    Token,
    /// No answer to the request for the log.
    Log,
    /// No answer to the request for a list.
    List,
    /// Half a body.
    Body,
    /// The window is spent for a minute.
    RateWait,
}

/// A server that answers until its phase has come, and says so.
fn start(phase: Phase) -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (told, reached) = sync_channel(100);
    let own_url = url.clone();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let (told, own_url) = (told.clone(), own_url.clone());
            std::thread::spawn(move || answer(stream, phase, &own_url, &told));
        }
    });
    (url, reached)
}

fn answer(stream: TcpStream, phase: Phase, own_url: &str, told: &SyncSender<()>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let target = first.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let head_rest = lines.by_ref().take_while(|line| !line.is_empty()).count();
    let silent = || {
        let _ = told.try_send(());
        // Until the client goes away.
        let _ = stream.try_clone().unwrap().read_to_end(&mut Vec::new());
    };
    let is_list = target.starts_with("/api/v1/") && target != "/api/v1/logs";
    let (mut lines, body) = (
        String::new(),
        match target.as_str() {
            "/.well-known/okta-organization" if phase == Phase::Metadata => return silent(),
            "/.well-known/okta-organization" => r#"{"id":"00o1","pipeline":"idx"}"#,
            "/oauth2/v1/token" => return silent(),
            "/api/v1/logs" if phase == Phase::Log => return silent(),
            "/api/v1/logs" => "[]",
            _ if is_list && phase == Phase::List => return silent(),
            _ if phase == Phase::Connect => return silent(),
            _ => r#"[{"id":"00u1","status":"ACTIVE"}]"#,
        },
    );
    assert!(head_rest > 0);
    if target == "/api/v1/logs" {
        lines = format!("Link: <{own_url}/api/v1/logs?after=1>; rel=\"next\"\r\n");
    }
    let status = if is_list && phase == Phase::RateWait {
        lines = "Retry-After: 60\r\nX-Rate-Limit-Limit: 100\r\nX-Rate-Limit-Remaining: 0\r\nX-Okta-Request-Id: r1\r\n"
            .to_owned();
        let _ = told.try_send(());
        "429 Too Many Requests"
    } else {
        "200 OK"
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\n{lines}Content-Length: {length}\r\n\r\n"
    );
    let sent = if is_list && phase == Phase::Body { &body[..10] } else { body };
    (&stream).write_all(format!("{head}{sent}").as_bytes()).unwrap();
    if sent.len() < body.len() {
        silent();
    }
}

fn place(phase: Phase, url: &str) -> Place {
    let mut place = Place::empty();
    place.set("OKTA_IDMAP_SERVER__LISTEN", "127.0.0.1:0");
    match phase {
        Phase::Connect => {
            place.set("OKTA_IDMAP_DOMAIN", "acme.okta.example");
            place.set("HTTPS_PROXY", url);
        }
        _ => place.set("OKTA_IDMAP_DOMAIN", url),
    }
    if phase == Phase::Token {
        std::fs::write(place.path().join("key.pem"), KEY).unwrap();
        place.set("OKTA_IDMAP_CLIENT_ID", "0oa1");
        place.set("OKTA_IDMAP_KEY_ID", "kid1");
        place.set("OKTA_IDMAP_PRIVATE_KEY_FILE", "key.pem");
    } else {
        place.set("OKTA_IDMAP_API_TOKEN", CANARY);
    }
    place
}

/// Runs the command until the phase has come, sends SIGTERM and waits.
fn stop_in(phase: Phase, command: &str) -> Result<(), String> {
    let (url, reached) = start(phase);
    let place = place(phase, &url);
    let mut running = place.start(&[command]);
    reached.recv_timeout(Duration::from_secs(30)).map_err(|error| format!("never reached: {error}"))?;
    // The limit is the machine's own, since it is the process that is to end.
    let (ended, is_over) = sync_channel(1);
    let waiting = std::thread::spawn(move || {
        running.terminate();
        let ran = running.wait();
        let _ = ended.send(());
        ran
    });
    is_over.recv_timeout(END_MAX).map_err(|_| format!("does not end within {END_MAX:?}"))?;
    let ran = waiting.join().unwrap();
    let (code, word) = if command == "sync" { (1, "interrupted") } else { (0, "listening on") };
    if ran.code != Some(code) || !ran.out.contains(word) {
        return Err(format!("{ran:?}"));
    }
    // What it leaves behind is a store that opens, and that nobody holds any more.
    let status = place.run(&["status", "--direct", "-o", "json"]);
    if status.code != Some(0) { Err(format!("{status:?}")) } else { Ok(()) }
}

#[test]
fn a_signal_ends_it_whatever_it_waits_for() {
    let phases = [Phase::Connect, Phase::Metadata, Phase::Token, Phase::Log, Phase::List, Phase::Body, Phase::RateWait];
    let cases = phases.iter().flat_map(|phase| ["sync", "serve"].map(|command| (*phase, command)));
    let running: Vec<_> = cases.map(|case| (case, std::thread::spawn(move || stop_in(case.0, case.1)))).collect();
    let ended = running.into_iter().map(|(case, running)| (case, running.join().unwrap()));
    let failures: Vec<_> = ended.filter(|(_, result)| result.is_err()).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

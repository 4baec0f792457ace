//! Servers that mean harm or are beyond repair: refused in bounded time, with bounded reading, and the credential goes to
//! nobody else.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use tokio::time::Instant;

use super::server::head;
use super::transport::Transport;
use super::*;

/// Bytes of a body that are accepted in these tests: fewer than usual, so that they are quick.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What the sockets in between and the client's own buffers hold at most: the server counts what the system took, not what
/// the client wanted.
const SOCKET_BYTES: u64 = 12 << 20;

/// Whatever comes, one attempt under [`limits`] is over by then, also on a busy machine.
const ATTEMPT_SECONDS_MAX: u64 = 20;

/// In real time: a paused clock stands still while somebody sends without end.
fn limits() -> TransportLimits {
    TransportLimits {
        connect: Duration::from_secs(5),
        headers: Duration::from_millis(1_500),
        idle: Duration::from_millis(500),
        body: Duration::from_secs(1),
        body_bytes_max: BODY_BYTES_MAX,
    }
}

/// Where a size ends the attempt, however slow the machine is.
fn patient_limits() -> TransportLimits {
    let long = Duration::from_secs(15);
    TransportLimits { headers: long, idle: long, body: long, ..limits() }
}

/// Head of an answer whose body ends with the connection.
fn open_head(status: u16, headers: &[&str]) -> Vec<u8> {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\n{lines}\r\n").into_bytes()
}

const GZIP: &str = "Content-Encoding: gzip";
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Behind `bytes` a gzip file of blanks without end, a mebibyte of them in about a kibibyte.
fn bomb_behind(mut bytes: Vec<u8>) -> Reply {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    // Now the piece ends at a byte and may stand anywhere.
    encoder.flush().unwrap();
    bytes.extend(GZIP_HEAD);
    Reply::Endless(bytes, encoder.get_ref().clone())
}

/// One attempt: what becomes of it, and what the server got rid of.
async fn attempt(reply: Reply) -> (Result<(u16, usize), SendError>, u64) {
    // What comes at full speed meets a size, but for heads that are none.
    let is_fast = matches!(&reply, Reply::Endless(begin, _) if !begin.is_empty());
    let limits = if is_fast { patient_limits() } else { limits() };
    let server = Server::start(vec![reply]).await;
    let org = OrgUrl::parse(&server.url).unwrap();
    let transport = Transport::new(limits, true, &ProxyChoice::default(), None).unwrap();
    let begun = Instant::now();
    let answer = match transport.get(&org.join("/api/v1/users"), Vec::new()).await {
        Ok(head) => head.whole().await,
        Err(error) => Err(error),
    };
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_secs(ATTEMPT_SECONDS_MAX), "{elapsed:?}");
    drop(transport);
    (answer.map(|answer| (answer.status, answer.body.len())), server.bytes_sent())
}

#[tokio::test]
async fn bodies_without_end_are_dropped() {
    /// Of the first five the limit is the size, of the others the time.
    async fn check(name: &str, reply: Reply, expected: &str) {
        let (answer, sent) = attempt(reply).await;
        assert!(sent <= SOCKET_BYTES, "{name}: {sent} bytes");
        match answer {
            Err(error) => assert!(error.to_string().contains(expected), "{name}: {error}"),
            Ok((status, bytes)) => {
                assert_eq!(status.to_string(), expected, "{name}");
                assert!(bytes <= 64 << 10, "{name}: {bytes} bytes of a failure");
            }
        }
    }
    let too_large = "more than 1048576 bytes";
    let blanks = vec![b' '; 64 << 10];
    let chunk = [b"10000\r\n".as_slice(), &blanks, b"\r\n"].concat();
    let endless = |head: Vec<u8>| Reply::Endless(head, blanks.clone());
    let gzip = |status| open_head(status, &[GZIP]);
    let empty_blocks = [0, 0, 0, 255, 255].repeat(10_000);
    let named = [0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
    check("10 GB", endless(head(200, &[], 10_000_000_000).into_bytes()), too_large).await;
    check("until the end", endless(open_head(200, &[])), too_large).await;
    check("chunks", Reply::Endless(open_head(200, &["Transfer-Encoding: chunked"]), chunk), too_large).await;
    check("bomb", bomb_behind(gzip(200)), too_large).await;
    let nothing = Reply::Endless([gzip(200).as_slice(), &GZIP_HEAD].concat(), empty_blocks);
    check("compressed nothing", nothing, too_large).await;
    let name = Reply::Endless([gzip(200).as_slice(), &named].concat(), vec![b'x'; 50_000]);
    check("a compressed name", name, "").await;
    for status in [302, 401, 403, 429, 500] {
        check("failure", endless(open_head(status, &[])), &status.to_string()).await;
        check("failure, bomb", bomb_behind(gzip(status)), &status.to_string()).await;
        let trickle = Reply::Trickle(head(status, &[], 10_000).into_bytes(), b" ", Duration::from_millis(50));
        check("failure, slow", trickle, &status.to_string()).await;
    }
}

#[tokio::test]
async fn a_token_answer_is_small() {
    for (name, reply) in [
        ("endless", Reply::Endless(open_head(200, &[]), vec![b' '; 4_096])),
        ("bomb", bomb_behind(open_head(200, &[GZIP]))),
        ("failure, bomb", bomb_behind(open_head(400, &[GZIP]))),
    ] {
        let server = Server::start(vec![reply]).await;
        let org = OrgUrl::parse(&server.url).unwrap();
        let transport = Transport::new(patient_limits(), true, &ProxyChoice::default(), None).unwrap();
        let form = Secret::new("grant_type=client_credentials".to_owned());
        match transport.post_token_form(&org, &form, None).await {
            Err(error) => assert!(error.to_string().contains("more than 65536 bytes"), "{name}: {error}"),
            Ok(answer) => assert!(answer.status == 400 && answer.body.len() <= 64 << 10, "{name}"),
        }
        drop(transport);
        assert!(server.bytes_sent() <= SOCKET_BYTES, "{name}");
    }
}

#[tokio::test]
async fn heads_without_end_are_dropped() {
    async fn check(name: &str, reply: Reply, expected: &str) {
        let is_timed = expected.contains("within");
        let (answer, sent) = attempt(reply).await;
        let error = answer.unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(error.to_string().len() < 300, "{name}: {error}");
        assert!(is_timed || sent <= SOCKET_BYTES, "{name}: {sent} bytes");
    }
    let begin = b"HTTP/1.1 200 X\r\n".to_vec();
    let mebibyte = format!("X-Large: {}\r\n", "x".repeat(1 << 20)).into_bytes();
    let many = "X: y\r\n".repeat(500).into_bytes();
    let continues = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let drip = Reply::Trickle(begin.clone(), b"x", Duration::from_millis(100));
    let broke = "broke before the answer";
    check("a mebibyte", Reply::Bytes([begin.clone(), mebibyte, b"\r\n".to_vec()].concat()), broke).await;
    check("500 lines", Reply::Bytes([begin.clone(), many.clone(), b"\r\n".to_vec()].concat()), broke).await;
    check("lines without end", Reply::Endless(begin, many), broke).await;
    check("a status without end", Reply::Endless(b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 4_096]), broke).await;
    check("slow", drip, "no answer within 1.5 s").await;
    check("100 Continue without end", Reply::Endless(Vec::new(), continues), "no answer within 1.5 s").await;
}

/// Bodies of 200 that are no list of objects in UTF-8, or an odd one.
#[tokio::test(start_paused = true)]
async fn odd_bodies_are_refused_or_read_and_never_guessed() {
    /// `Ok`: how many rows and how many bad records.
    async fn check(name: &str, headers: &[&str], body: impl AsRef<[u8]>, expected: Result<(usize, usize), &str>) {
        let (page, server) = users(vec![reply(200, headers, body); 10]).await;
        match (page, expected) {
            (Ok(page), Ok(expected)) => assert_eq!((page.rows.len(), page.quarantined.len()), expected, "{name}"),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{name}: {error}");
                assert_eq!(error.kind(), FailureKind::Malformed, "{name}: {error}");
            }
            (page, _) => panic!("{name}: {page:?}"),
        }
        assert!(server.requests().len() <= 7, "{name}");
    }
    let utf16 = |mark: &[u8], bytes: fn(u16) -> [u8; 2]| {
        [mark, &USERS.encode_utf16().flat_map(bytes).collect::<Vec<_>>()].concat()
    };
    let user =
        |profile: &[u8]| [br#"[{"id":"00u1","status":"ACTIVE","profile":{"#.as_slice(), profile, b"}}]"].concat();
    let (latin, nul) = (user(b"\"firstName\":\"J\xfcrgen\""), user(br#""firstName":"a\u0000b""#));
    let not_json = Err("no JSON");
    check("UTF-16 LE", &[], utf16(&[0xff, 0xfe], u16::to_le_bytes), not_json).await;
    check("UTF-16 BE", &["Content-Type: application/json; charset=utf-16"], utf16(&[], u16::to_be_bytes), not_json)
        .await;
    check("UTF-8 with a mark", &[], ["\u{feff}", USERS].concat(), not_json).await;
    check("Latin-1", &["Content-Type: application/json; charset=iso-8859-1"], latin, Ok((0, 1))).await;
    check("NUL escaped", &[], nul, Ok((1, 0))).await;
    check("NUL", &[], "\0", not_json).await;
    check("half a pair", &[], user(br#""firstName":"\ud800""#), Ok((0, 1))).await;
    check("half a pair as id", &[], r#"[{"id":"\ud800"},{"id":"00u2","status":"ACTIVE"}]"#, Ok((1, 1))).await;
    check("deep", &[], "[".repeat(100_000), Err("")).await;
    check(
        "deep within",
        &[],
        user(&[b"\"x\":".as_slice(), &b"[".repeat(50_000), &b"]".repeat(50_000)].concat()),
        Ok((1, 0)),
    )
    .await;
    check("twice", &[], r#"[{"id":"00u1","id":"00u2","status":"ACTIVE","status":"STAGED"}]"#, Ok((1, 0))).await;
    check("huge numbers", &[], user(br#""x":1e999999,"y":-1e999999,"z":123456789012345678901234567890"#), Ok((1, 0)))
        .await;
    check("a number as id", &[], r#"[{"id":1e400},{"id":[]},7,null]"#, Ok((0, 4))).await;
    check("an object", &[], r#"{"id":"00u1"}"#, Err("")).await;
    check("two values", &[], format!("{USERS}{USERS}"), Err("")).await;
    check("NaN", &[], "[NaN]", Ok((0, 1))).await;
    check("a text", &[], r#""[]""#, Err("")).await;
    check("null", &[], "null", Err("")).await;
    check("other coding", &["Content-Encoding: br"], "x", Err("compressed in a way")).await;
    check("two codings", &["Content-Encoding: gzip, gzip"], "x", Err("compressed in a way")).await;
    check("no media type", &[], USERS, Ok((2, 0))).await;
    check("wrong media type", &["Content-Type: application/pdf"], USERS, Ok((2, 0))).await;
    check("two media types", &["Content-Type: text/plain", "Content-Type: application/json"], USERS, Ok((2, 0))).await;
    check("web page", &["Content-Type: text/html"], "<html>", Err("web page")).await;
}

/// Statuses that no API call is answered with.
#[tokio::test(start_paused = true)]
async fn odd_statuses_are_refused() {
    for status in [201, 202, 204, 205, 206, 226, 299, 300, 304, 306, 600, 799, 999] {
        let (page, server) =
            users(vec![reply(status, &[], if status == 204 || status == 304 { "" } else { USERS }); 10]).await;
        let error = page.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Malformed, "{error}");
        assert_eq!(server.requests().len(), 1, "{error}");
    }
    let continues = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec();
    let Reply::Bytes(whole) = reply(200, &[], USERS) else { unreachable!() };
    let (page, _server) = users(vec![Reply::Bytes([continues, whole].concat())]).await;
    assert_eq!(page.unwrap().rows.len(), 2);
}

/// Framing that two readers may understand differently is nobody's answer.
#[tokio::test(start_paused = true)]
async fn contradictory_framing_is_refused() {
    let with = |lines: &str, body: &str| {
        Reply::Bytes(format!("HTTP/1.1 200 X\r\nConnection: close\r\n{lines}\r\n{body}").into())
    };
    for (name, broken) in [
        ("two lengths", with("Content-Length: 2\r\nContent-Length: 70\r\n", USERS)),
        ("a negative length", with("Content-Length: -1\r\n", USERS)),
        ("a length that is none", with("Content-Length: many\r\n", USERS)),
        ("a length beyond 64 bits", with("Content-Length: 99999999999999999999999\r\n", USERS)),
        ("a chunk beyond 64 bits", with("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n[]")),
        ("a chunk that is none", with("Transfer-Encoding: chunked\r\n", "zz\r\n[]\r\n0\r\n\r\n")),
        ("chunks without end", with("Transfer-Encoding: chunked\r\n", "2\r\n[]\r\n")),
        ("no HTTP", Reply::Bytes(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
        ("HTTP/0.9", Reply::Bytes(USERS.into())),
        ("HTTP/2 without being asked", Reply::Bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec())),
        ("a header of NUL", with("X: a\0b\r\n", USERS)),
        ("a header without name", with(": x\r\n", USERS)),
    ] {
        let (page, server) = users(vec![broken.clone(), broken, reply(200, &[], USERS)]).await;
        assert_eq!(page.unwrap_or_else(|error| panic!("{name}: {error}")).rows.len(), 2, "{name}");
        assert_eq!(server.requests().len(), 3, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn resets_in_every_phase_are_survived() {
    let Reply::Bytes(whole) = reply(200, &[], USERS) else { unreachable!() };
    let cuts = [0, 1, 12, 40, whole.len() - USERS.len(), whole.len() - 20, whole.len() - 1];
    let mut script = vec![Reply::ResetAtOnce];
    for cut in cuts {
        script.push(Reply::Reset(whole[..cut].to_vec()));
    }
    // Two of them before each answer.
    for pair in script.chunks(2) {
        let mut script = pair.to_vec();
        script.push(reply(200, &[], USERS));
        let (page, server) = users(script).await;
        assert_eq!(page.unwrap().rows.len(), 2);
        assert_eq!(server.connections(), pair.len() as u64 + 1);
    }
}

/// Nobody but the org is ever spoken to, let alone shown the credential.
#[tokio::test(start_paused = true)]
async fn redirects_and_links_lead_nowhere() {
    let evil = Server::start(Vec::new()).await;
    let evil_at = evil.url.strip_prefix("http://").unwrap().to_owned();
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for target in [
            evil.url.clone(),
            "$ORG/api/v1/users?again=1".to_owned(),
            "/api/v1/users?again=1".to_owned(),
            format!("//{evil_at}/"),
        ] {
            let location = format!("Location: {target}");
            let (page, server) = users(vec![reply(status, &[&location], USERS), reply(200, &[], USERS)]).await;
            let error = page.unwrap_err();
            assert_eq!(error.kind(), FailureKind::Malformed, "{error}");
            assert!(error.to_string().contains("check the org's address"), "{error}");
            assert_eq!(server.requests().len(), 1, "{target} was followed");
        }
    }
    for target in [
        format!("{}/api/v1/users?after=1", evil.url),
        format!("http://127.0.0.1@{evil_at}/api/v1/users?after=1"),
        format!("http://$HOST@{evil_at}/api/v1/users?after=1"),
        format!("http://{evil_at}\\@$HOST/api/v1/users?after=1"),
        format!("http:\\\\{evil_at}/api/v1/users?after=1"),
        format!("//{evil_at}/api/v1/users?after=1"),
        format!("http:{evil_at}/api/v1/users?after=1"),
        format!("hTTp://{evil_at}/api/v1/users?after=1"),
        "/api/v1/users?after=1".to_owned(),
        "?after=1".to_owned(),
        "https://$HOST/api/v1/users?after=1".to_owned(),
        "http://$HOST/api/v2/users?after=1".to_owned(),
        "http://$HOST/oauth2/v1/token".to_owned(),
        "http://$HOST/api/v1/users/../groups?after=1".to_owned(),
        "http://$HOST/api/v1/users/%2e%2e/groups?after=1".to_owned(),
        "http://$HOST/api/v1/users%2f..%2fgroups?after=1".to_owned(),
        "http://$HOST.evil.example/api/v1/users?after=1".to_owned(),
        "http://user:password@$HOST/api/v1/users?after=1".to_owned(),
        "http://１２７.0.0.1.evil.example/api/v1/users".to_owned(),
        "http://127.0.0.1:99999/api/v1/users?after=1".to_owned(),
        "file:///api/v1/users".to_owned(),
        "javascript:alert(1)".to_owned(),
        format!("http://$HOST/api/v1/users?after={}", "x".repeat(9_000)),
        String::new(),
    ] {
        let server = Server::start(vec![
            reply(
                200,
                &[&format!("Link: <{}>; rel=\"next\"", target.replace("$HOST", "$ORG_HOST"))],
                USERS
            );
            3
        ])
        .await;
        let client = Client::new(config_for(&server.url), token()).unwrap();
        let page = client.page(&first(Resource::Users), Priority::Crawl).await;
        let error = match page {
            Err(error) => error,
            Ok(page) => panic!("{target}: {page:?}"),
        };
        assert!(matches!(error, OktaError::Next { .. }), "{target}: {error}");
        assert_eq!(server.requests().len(), 1, "{target}");
        // The same out of the store: nothing is sent at all.
        let host = server.url.strip_prefix("http://").unwrap();
        let request = PageRequest::Next { resource: Resource::Users, url: target.replace("$HOST", host) };
        let error = client.page(&request, Priority::Crawl).await.unwrap_err();
        assert!(matches!(error, OktaError::Place { .. }), "{target}: {error}");
        assert_eq!(server.requests().len(), 1, "{target}");
    }
    assert_eq!(evil.connections(), 0);
}

/// The same address in another spelling is the same address.
#[tokio::test(start_paused = true)]
async fn spellings_of_the_own_address_are_followed() {
    for target in [
        "HTTP://$ORG_HOST/api/v1/users?after=1",
        "http://$ORG_HOST/api/v1/./users?after=1",
        "http://$ORG_HOST/api/v1/users/?after=1",
    ] {
        let link = format!("Link: <{target}>; rel=\"next\"");
        let (client, server) = client_of(vec![reply(200, &[&link], USERS), reply(200, &[], "[]")]).await;
        let next = client.page(&first(Resource::Users), Priority::Crawl).await.unwrap().next.unwrap();
        let request = PageRequest::Next { resource: Resource::Users, url: next.into_string() };
        client.page(&request, Priority::Crawl).await.unwrap();
        assert_eq!(server.requests().len(), 2, "{target}");
    }
}

/// An answer that gives back what it was asked with: no error, row or header holds it.
#[tokio::test(start_paused = true)]
async fn answers_that_repeat_the_credential_go_no_further() {
    const TOKEN: &str = "00CanaryTokenCanaryTokenCanaryTokenCanary1";
    let headers = [
        "X-Okta-Request-Id: 00CanaryTokenCanaryTokenCanaryTokenCanary1",
        "WWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"00CanaryTokenCanaryTokenCanaryTokenCanary1\"",
        "Location: https://00CanaryTokenCanaryTokenCanaryTokenCanary1.evil.example/",
        "Link: <$ORG/api/v1/00CanaryTokenCanaryTokenCanaryTokenCanary1>; rel=\"next\"",
        "Date: SSWS 00CanaryTokenCanaryTokenCanaryTokenCanary1",
    ];
    let body = format!("{{\"errorCode\":\"{TOKEN}\",\"errorSummary\":\"Invalid token SSWS {TOKEN}\"}}");
    let rows = format!(r#"[{{"id":"00u1","status":"ACTIVE","profile":{{"firstName":"{TOKEN}"}}}}]"#);
    for status in [200, 302, 400, 401, 403, 404, 429, 500] {
        let body = if status == 200 { &rows } else { &body };
        for reply in [
            reply(status, &headers, body),
            reply(status, &headers, ""),
            reply(status, &headers, USERS),
            reply(status, &[], body),
        ] {
            let server = Server::start(vec![reply; 40]).await;
            let token = Ssws::new(&Secret::new(TOKEN.to_owned())).unwrap();
            let client = Client::new(config_for(&server.url), Arc::new(token)).unwrap();
            let page = client.page(&first(Resource::Users), Priority::Crawl).await;
            assert!(server.requests()[0].contains(TOKEN));
            let shown = format!("{page:?} {:?} {client:?}", client.budgets());
            assert!(!shown.contains("Canary"), "{status}: {shown}");
        }
    }
}

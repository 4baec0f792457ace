//! The token request against canned bytes: its form, its failures, and how often it is made.

use futures_util::future::join_all;
use ring::rand::SystemRandom;
use tokio::time::{Duration, Instant};

use super::*;
use crate::core::private_key::PrivateKey;

const TOKEN: &str =
    r#"{"token_type":"Bearer","expires_in":3600,"access_token":"eyCanaryToken","scope":"okta.users.read"}"#;

fn app() -> ServiceApp {
    let text = include_str!("../../../tests/keys/rsa-pkcs8.pem").to_owned();
    let private_key = PrivateKey::parse(&Secret::new(text), &SystemRandom::new()).unwrap();
    ServiceApp { client_id: "0oa1".into(), key_id: "kid1".into(), private_key, scopes: Default::default() }
}

async fn client_of(script: Vec<Reply>) -> (Client, Server) {
    let server = Server::start(script).await;
    (Client::for_service_app(config_for(&server.url), app()).unwrap(), server)
}

async fn read(client: &Client) -> Result<Page, OktaError> {
    client.page(&first(Resource::Users), Priority::Crawl).await
}

#[tokio::test(start_paused = true)]
async fn the_request_has_the_form_that_okta_asks_for() {
    let (client, server) = client_of(vec![reply(200, &[DATE], TOKEN), reply(200, &[DATE], USERS)]).await;
    read(&client).await.unwrap();
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("post /oauth2/v1/token http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/x-www-form-urlencoded"), "{head}");
    assert!(head.contains("\r\naccept: application/json"), "{head}");
    assert!(!head.contains("authorization") && !head.contains("dpop"), "{head}");
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grant_type", "scope", "client_assertion_type", "client_assertion"]);
    assert_eq!(fields[1].1, "okta.apps.read okta.groups.read okta.logs.read okta.users.read");
    let second = requests[1].to_ascii_lowercase();
    assert!(second.starts_with("get /api/v1/users?") && second.contains("\r\nauthorization: bearer eycanarytoken\r\n"));
    assert!(!format!("{client:?} {:?}", client.scopes()).contains("Canary"));
}

/// Replies to the token request until there are no more; the kind and the message of the failure, and how often it was
/// asked for.
#[tokio::test(start_paused = true)]
async fn failures_are_told_apart_and_bounded() {
    async fn check(script: Vec<Reply>, kind: FailureKind, message: &str, requests: std::ops::RangeInclusive<usize>) {
        let (client, server) = client_of(script).await;
        let results = join_all((0..4).map(|_| read(&client))).await;
        for error in results.into_iter().map(Result::unwrap_err) {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(message), "{error}");
        }
        let count = server.requests().len();
        assert!(requests.contains(&count), "{count} requests: {message}");
        assert!(server.targets().iter().all(|target| target == "/oauth2/v1/token"));
    }
    let all = |reply: Reply| vec![reply; 100];
    check(all(reply(503, &[], "")), FailureKind::Retry, "status 503", 4..=8).await;
    check(all(reply(200, &[], "<html>")), FailureKind::Malformed, "a web page instead", 4..=8).await;
    check(all(reply(200, &[], "{}")), FailureKind::Malformed, "holds no token", 4..=8).await;
    let long = format!("{}{TOKEN}", " ".repeat(64 * 1024));
    check(all(reply(200, &[], long)), FailureKind::Malformed, "more than 65536 bytes", 4..=8).await;
    check(all(reply(404, &[], "nothing")), FailureKind::Malformed, "no JSON instead", 4..=8).await;
    check(Vec::new(), FailureKind::Network(NetworkCause::Reset), "the connection broke", 4..=8).await;
    let unknown = r#"{"errorCode":"invalid_client","errorSummary":"Invalid value for 'client_id' parameter."}"#;
    check(all(reply(401, &[], unknown)), FailureKind::Unauthorized, "check client_id", 1..=1).await;
    let proof = r#"{"error":"invalid_dpop_proof","error_description":"No."}"#;
    check(all(reply(400, &[], proof)), FailureKind::Unauthorized, "refuses the proof", 4..=4).await;
    let expired = r#"{"error":"invalid_client","error_description":"The client_assertion token has expired."}"#;
    check(all(reply(401, &[], expired)), FailureKind::Unauthorized, "set the clock of this machine", 1..=1).await;
    let redirect = ["Location: https://evil.example/oauth2/v1/token"];
    check(all(reply(302, &redirect, "")), FailureKind::Malformed, "instead of Okta's answer", 4..=8).await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_token_request_waits_its_time() {
    let throttled = reply(429, &["Retry-After: 20"], "");
    let script =
        vec![throttled.clone(), throttled, reply(200, &[], TOKEN), reply(200, &[], USERS), reply(200, &[], USERS)];
    let (client, server) = client_of(script).await;
    let begun = Instant::now();
    let pages = join_all((0..2).map(|_| read(&client))).await;
    assert!(pages.iter().all(Result::is_ok), "{pages:?}");
    let lasted = begun.elapsed();
    assert!((Duration::from_secs(42)..Duration::from_secs(60)).contains(&lasted), "{lasted:?}");
    assert_eq!(server.requests().len(), 5);
}

/// A token endpoint that is slow in every way is given up in bounded time, and says so.
#[tokio::test(start_paused = true)]
async fn a_slow_or_endless_answer_ends() {
    async fn check(reply: Reply, kind: FailureKind, message: &str) {
        let (client, server) = client_of(vec![reply; 100]).await;
        let begun = Instant::now();
        let error = read(&client).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20 * 60), "{:?}: {message}", begun.elapsed());
        assert!(server.requests().len() <= 8, "{}: {message}", server.requests().len());
    }
    let timeout = FailureKind::Network(NetworkCause::Timeout);
    check(Reply::Silence, timeout.clone(), "no token: no answer within 15 s").await;
    let head = |status, bytes| server::head(status, &[], bytes).into_bytes();
    let trickle = |head, piece, seconds| Reply::Trickle(head, piece, Duration::from_secs(seconds));
    check(trickle(head(200, 60_000), b" ", 1), timeout.clone(), "no token: no whole body within 15 s").await;
    check(trickle(head(200, 60_000), b" ", 50), timeout, "no token: no whole body within 15 s").await;
    let endless = trickle(head(200, 10_000_000_000), b" ", 1);
    check(endless, FailureKind::Malformed, "no token: the body has more than 65536 bytes").await;
    // What came of a refusal by then is enough.
    check(trickle(head(503, 60_000), b" ", 50), FailureKind::Retry, "status 503").await;
}

/// Every token is over at once: reads share those that there are, and the endpoint is not asked for each.
#[tokio::test(start_paused = true)]
async fn tokens_without_a_life_are_shared_all_the_same() {
    let token = TOKEN.replace("3600", "0");
    let mut script = vec![reply(200, &[], token)];
    script.extend(vec![reply(200, &[], USERS); 40]);
    let (client, server) = client_of(script).await;
    for page in join_all((0..40).map(|_| read(&client))).await {
        page.unwrap();
    }
    assert_eq!(server.targets().iter().filter(|target| *target == "/oauth2/v1/token").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_passing_failure_is_survived() {
    let script = vec![reply(502, &[], "<html>"), Reply::Silence, reply(200, &[], TOKEN), reply(200, &[], USERS)];
    let (client, server) = client_of(script).await;
    assert!(read(&client).await.is_ok());
    assert_eq!(server.requests().len(), 4);
}

/// Who gives up waiting leaves the way free for the next.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_blocks_nobody() {
    let script = vec![Reply::Silence, reply(200, &[], TOKEN), reply(200, &[], USERS)];
    let (client, server) = client_of(script).await;
    assert!(tokio::time::timeout(Duration::from_secs(5), read(&client)).await.is_err());
    assert!(read(&client).await.is_ok());
    assert_eq!(server.requests().len(), 3);
}

/// A token that Okta takes back again and again is no reason to go on for ever.
#[tokio::test(start_paused = true)]
async fn a_token_that_is_refused_is_replaced_once() {
    let refused = reply(401, &[], r#"{"errorCode":"E0000011","errorSummary":"Invalid token provided"}"#);
    let script = vec![reply(200, &[], TOKEN), refused.clone(), reply(200, &[], TOKEN), refused.clone(), refused];
    let (client, server) = client_of(script).await;
    let error = read(&client).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unauthorized, "{error}");
    assert_eq!(server.requests().len(), 4);
}

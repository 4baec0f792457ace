//! What the client makes of broken, hostile and refusing servers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::server::head;
use super::*;
use crate::core::backoff::TRANSIENT_RETRIES_MAX;

fn ok() -> Reply {
    reply(200, &[], USERS)
}

/// A 429 of a window that is over in `seconds` by the server's clock.
fn window_spent(seconds: u32) -> Reply {
    let reset = format!("X-Rate-Limit-Reset: {}", 1_785_661_222 + seconds);
    let headers = [DATE, "X-Rate-Limit-Limit: 100", "X-Rate-Limit-Remaining: 0", &reset, "X-Okta-Request-Id: req1"];
    reply(429, &headers, r#"{"errorCode":"E0000047","errorSummary":"x"}"#)
}

#[tokio::test(start_paused = true)]
async fn broken_answers_are_asked_for_again() {
    let cut = Reply::Bytes(format!("{}[{{", head(200, &[], 500)).into_bytes());
    for broken in [
        cut,
        reply(200, &[], ""),
        reply(200, &[], "[{\"id\":\"00u1\""),
        reply(200, &[], "upstream error"),
        reply(200, &["Content-Encoding: gzip"], &gzip(USERS.as_bytes())[..40]),
        reply(503, &[], "<html>"),
        reply(423, &[], r#"{"errorCode":"E0000239"}"#),
        Reply::Bytes(Vec::new()),
    ] {
        let (page, server) = users(vec![broken.clone(), broken, ok()]).await;
        let page = page.unwrap();
        assert_eq!((page.rows.len(), page.limit, page.request_number_sent), (2, 200, RequestNumber(3)));
        assert_eq!(server.requests().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn repetition_ends() {
    let (page, server) = users(vec![reply(200, &[], ""); 20]).await;
    assert_eq!(page.unwrap_err().kind(), FailureKind::Malformed);
    assert_eq!(server.requests().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn final_answers_are_not_asked_for_again() {
    async fn check(refusal: Reply, expected: &str) {
        let (page, server) = users(vec![refusal, ok()]).await;
        let error = page.unwrap_err();
        assert!(format!("{:?}: {error}", error.kind()).contains(expected), "{:?}: {error}", error.kind());
        assert_eq!(server.requests().len(), 1, "{expected}");
    }
    check(reply(200, &[], r#"{"errorCode":"E0000009"}"#), "no list but the error E0000009").await;
    check(reply(302, &["Location: https://evil.example/x"], ""), "it leads to evil.example").await;
    check(reply(400, &[], r#"{"errorCode":"E0000031"}"#), "Rejected").await;
    check(reply(401, &[], r#"{"errorCode":"E0000011"}"#), "Unauthorized").await;
    check(reply(401, &[], r#"{"errorCode":"E0000015"}"#), "Unavailable").await;
    check(reply(403, &[], ""), "Forbidden").await;
    check(reply(503, &[], r#"{"errorCode":"E0000100"}"#), "Unavailable").await;
    let foreign = "Link: <https://evil.example/api/v1/users?after=1>; rel=\"next\"";
    check(reply(200, &[foreign], USERS), "leads to evil.example instead of the org's own address").await;
    let other = "Link: <$ORG/api/v1/groups?after=1>; rel=\"next\"";
    check(reply(200, &[other], USERS), "leads to the list /api/v1/groups").await;
    let itself = "Link: <$ORG/api/v1/users?search=status%20pr&limit=200>; rel=\"next\"";
    check(reply(200, &[itself], USERS), "already visited").await;
}

/// Once the org has answered, a web page in its place passes; before, it soon counts as a wrong address.
#[tokio::test(start_paused = true)]
async fn a_web_page_instead_of_the_first_answer_is_soon_told() {
    let web_page = || reply(200, &[], "<html>Sign in</html>");
    let (page, server) = users(vec![web_page(); 9]).await;
    assert_eq!((page.unwrap_err().kind(), server.requests().len()), (FailureKind::Malformed, 3));
    let (page, _server) = users(vec![web_page(), web_page(), ok()]).await;
    assert!(page.is_ok());
    let (client, server) = client_of([vec![ok()], vec![web_page(); 6], vec![ok()]].concat()).await;
    for _ in 0..2 {
        client.page(&first(Resource::Users), Priority::Crawl).await.unwrap();
    }
    assert_eq!(server.requests().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_repeated_when_the_window_is_over() {
    let started = Instant::now();
    let (page, server) = users(vec![window_spent(38), window_spent(38), ok()]).await;
    assert_eq!(page.unwrap().request_number_sent, RequestNumber(3));
    assert!(started.elapsed() >= Duration::from_secs(78), "{:?}", started.elapsed());
    let again = server.requests()[2].to_ascii_lowercase();
    assert!(
        again.contains("\r\nx-okta-retry-for: req1\r\n") && again.contains("\r\nx-okta-retry-count: 2\r\n"),
        "{again}"
    );
    assert!(!server.requests()[0].to_ascii_lowercase().contains("x-okta-retry"));
}

#[tokio::test(start_paused = true)]
async fn refusals_end_too() {
    let (page, server) = users(vec![window_spent(0); 40]).await;
    let error = page.unwrap_err();
    assert!(matches!(error.kind(), FailureKind::Throttled { .. }), "{error}");
    assert_eq!(server.requests().len(), 31);
}

#[tokio::test(start_paused = true)]
async fn server_errors_on_a_first_page_halve_it() {
    let (page, server) = users(vec![reply(500, &[], ""), reply(504, &[], "<html>"), ok()]).await;
    assert_eq!(page.unwrap().limit, 100);
    let limits: Vec<_> = server.targets().iter().map(|target| target.rsplit('=').next().unwrap().to_owned()).collect();
    assert_eq!(limits, ["200", "200", "100"], "once is chance");
}

#[tokio::test(start_paused = true)]
async fn server_errors_on_a_next_page_restart_the_walk_with_smaller_pages() {
    let (client, server) = client_of(vec![reply(500, &[], ""); 9]).await;
    let url = format!("{}/api/v1/users?after=1&limit=200", server.url);
    let error = client.page(&PageRequest::Next { resource: Resource::Users, url }, Priority::Crawl).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::RestartWalk { limit: 100 });
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_400_on_a_next_page_is_a_stale_cursor() {
    let (client, server) = client_of(vec![reply(400, &[], r#"{"errorCode":"E0000029"}"#)]).await;
    let url = format!("{}/api/v1/users?after=1", server.url);
    let error = client.page(&PageRequest::Next { resource: Resource::Users, url }, Priority::Crawl).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::CursorGone);
}

#[tokio::test(start_paused = true)]
async fn large_bodies_are_dropped_at_the_limit() {
    let server = Server::start(vec![
        reply(200, &[], "[".repeat(2_000)),
        Reply::Bytes(format!("HTTP/1.1 200 X\r\nConnection: close\r\n\r\n{}", " ".repeat(2_000)).into_bytes()),
        reply(200, &["Content-Encoding: gzip"], gzip(" ".repeat(2_000).as_bytes())),
        ok(),
    ])
    .await;
    let mut config = config_for(&server.url);
    config.transport.body_bytes_max = 1_000;
    let client = Client::new(config, token()).unwrap();
    let page = client.page(&first(Resource::Users), Priority::Crawl).await.unwrap();
    assert_eq!((page.limit, server.requests().len()), (25, 4));
}

#[tokio::test(start_paused = true)]
async fn silence_and_trickles_end() {
    async fn check(script: Vec<Reply>, expected: &str, each_s: u64) {
        let requests = script.len();
        let started = Instant::now();
        let (page, server) = users(script).await;
        let error = page.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Network(NetworkCause::Timeout), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(server.requests().len(), requests, "halved from 200 to 10, then given up");
        let least = Duration::from_secs(each_s * requests as u64);
        assert!((least..least + Duration::from_secs(90)).contains(&started.elapsed()), "{:?}", started.elapsed());
    }
    check(vec![Reply::Silence; 7], "no answer within 60 s", 60).await;
    let endless = head(200, &[], 10_000).into_bytes();
    let trickle = |pause| Reply::Trickle(endless.clone(), b" ", Duration::from_secs(pause));
    check(vec![trickle(20); 7], "no whole body within 120 s", 120).await;
    check(vec![trickle(500); 7], "no further piece of the body within 30 s", 30).await;
}

#[tokio::test(start_paused = true)]
async fn unreachable_servers_are_network_failures() {
    let server = Server::start(Vec::new()).await;
    let url = server.url.clone();
    drop(server);
    tokio::task::yield_now().await;
    let client = Client::new(config_for(&url), token()).unwrap();
    let error = client.page(&first(Resource::Users), Priority::Crawl).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Network(NetworkCause::Connect), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_not_trusted() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 X\r\n\r\n").await;
        }
    });
    let client = Client::new(config_for(&url), token()).unwrap();
    let error = client.page(&first(Resource::Users), Priority::Crawl).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Network(NetworkCause::Tls), "{error}");
}

/// A credential that can be renewed `left` times.
#[derive(Debug)]
struct Renewable {
    generation: AtomicU32,
    left: AtomicU32,
}

impl Authorize for Renewable {
    fn authorize<'a>(
        &'a self,
        request: AuthorizeRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<AuthorizeHeader>, AuthorizeError>> {
        let generation = self.generation.load(Ordering::Relaxed);
        let value = Secret::new(format!("Bearer generation{generation}-attempt{}", request.attempt));
        Box::pin(async move { Ok(vec![AuthorizeHeader { name: "authorization", value }]) })
    }

    fn on_unauthorized<'a>(&'a self, challenge: Challenge<'a>) -> BoxFuture<'a, Renewal> {
        assert!(challenge.sent.iter().any(|header| header.name == "authorization"));
        Box::pin(async {
            if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
                return Renewal::Dead;
            }
            self.generation.fetch_add(1, Ordering::Relaxed);
            Renewal::Renewed
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_renewed_once() {
    async fn check(left: u32, refusals: usize, expected: Option<FailureKind>, requests: usize) {
        let refusal = reply(401, &["DPoP-Nonce: nonce1"], r#"{"errorCode":"E0000011"}"#);
        let mut script = vec![refusal; refusals];
        script.push(ok());
        let server = Server::start(script).await;
        let authorize = Arc::new(Renewable { generation: AtomicU32::new(0), left: AtomicU32::new(left) });
        let client = Client::new(config_for(&server.url), authorize).unwrap();
        let page = client.page(&first(Resource::Users), Priority::Crawl).await;
        assert_eq!(page.err().map(|error| error.kind()), expected);
        let seen = server.requests();
        assert_eq!(seen.len(), requests);
        assert!(seen[0].contains("Bearer generation0-attempt0"), "{}", seen[0]);
        if let Some(second) = seen.get(1) {
            assert!(second.contains("Bearer generation1-attempt1"), "{second}");
        }
    }
    check(9, 1, None, 2).await;
    check(9, 2, Some(FailureKind::Unauthorized), 2).await;
    check(0, 1, Some(FailureKind::Unauthorized), 1).await;
}

/// The lists of the users of so many apps, read side by side.
async fn apps(client: &Client, count: usize) -> Vec<Result<Page, OktaError>> {
    let reads = (0..count).map(|number| {
        let app = AppId::new(&format!("0oa{number}")).unwrap();
        let request = first(Resource::AppUsers(app));
        async move { client.page(&request, Priority::Crawl).await }
    });
    futures_util::future::join_all(reads).await
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_is_dead_is_asked_rarely_and_every_call_is_told() {
    let (client, server) = client_of([vec![reply(200, &[], "[]")], vec![reply(503, &[], ""); 2_000]].concat()).await;
    apps(&client, 1).await.pop().unwrap().unwrap();
    let mut requests = 0;
    for round in 0..8 {
        let begun = Instant::now();
        for failed in apps(&client, 8).await {
            let error = failed.unwrap_err();
            assert_eq!(error.kind(), FailureKind::Retry, "{error}");
            if round > 2 {
                assert!(matches!(&error, OktaError::Outage { bucket: Bucket::Apps, failures: 50.., .. }), "{error}");
                assert!(error.to_string().contains("status 503"), "{error}");
                assert!(error.to_string().contains("bucket apps have failed since 2"), "{error}");
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        if round == 2 {
            requests = server.requests().len();
        }
    }
    let later = server.requests().len() - requests;
    assert!((5 * 8..5 * 8 * 4).contains(&later), "{later} instead of {}", 5 * 8 * 7);
    let budget = &client.budgets()[0];
    assert!(budget.failing_since.is_some() && budget.outages == 1, "{budget:?}");
}

#[tokio::test(start_paused = true)]
async fn when_a_bucket_answers_again_everybody_goes_on() {
    // One for each call, and for those who ask for all others fewer than one of them may have: chance may choose the same each time.
    let failures = 20 + TRANSIENT_RETRIES_MAX as usize - 1;
    let script =
        [vec![reply(200, &[], "[]")], vec![reply(503, &[], ""); failures], vec![reply(200, &[], "[]"); 30]].concat();
    let (client, server) = client_of(script).await;
    apps(&client, 1).await.pop().unwrap().unwrap();
    let read = apps(&client, 20).await;
    assert!(read.iter().all(Result::is_ok), "{read:?}");
    let budget = &client.budgets()[0];
    let requests = 1 + failures + 20;
    assert_eq!((budget.failing_since, budget.outages, server.requests().len()), (None, 1, requests), "{budget:?}");
}

/// What never left this machine was not counted by Okta, and is not booked.
#[tokio::test(start_paused = true)]
async fn requests_that_were_not_sent_cost_no_budget() {
    let headers = [DATE, "X-Rate-Limit-Limit: 100", "X-Rate-Limit-Remaining: 90", "X-Rate-Limit-Reset: 1785661260"];
    let once = reply(200, &[&headers[..], &["Connection: close"]].concat(), "[]");
    let (client, server) = client_of(vec![once]).await;
    apps(&client, 1).await.pop().unwrap().unwrap();
    drop(server);
    tokio::task::yield_now().await;
    let error = apps(&client, 1).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), FailureKind::Network(NetworkCause::Connect), "{error}");
    assert_eq!(client.budgets()[0].remaining, Some(90));
}

//! Health and metrics over HTTP, as a scraper and as somebody who wants to be a nuisance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use okta_idmap::core::coverage::GapKind;
use okta_idmap::core::model::{Row, Scope};
use okta_idmap::serve::{FollowState, FollowStatus, OrgView, Orgs, RuntimeStatus, serve_http};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::world::{NOW, World, user};

struct Http {
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Http {
    async fn start(views: impl IntoIterator<Item = OrgView>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_http(listener, Orgs::new(views), Arc::default(), shutdown.clone()));
        Self { address, shutdown, tasks }
    }

    /// Sends bytes and reads to the end of the connection.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may refuse before it has read all.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    /// Status and body of a GET.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn readiness_turns_with_the_first_crawl() {
    let world = World::empty();
    let http = Http::start([world.view()]).await;
    assert_eq!(http.get("/healthz").await, (200, "alive\n".to_owned()));
    let reason = "acme: the first full crawl is not complete\n".to_owned();
    assert_eq!(http.get("/readyz").await, (503, reason));
    world.begin_crawl(1).await;
    world.read(Scope::Users, vec![Row::User(user(1))]).await;
    world.end_crawl(1).await;
    assert_eq!(http.get("/readyz?verbose").await, (200, "ready\n".to_owned()));
    assert_eq!(http.get("/").await.0, 404);
    assert_eq!(http.get("/metrics/x").await.0, 404);
    for method in ["POST", "DELETE", "OPTIONS"] {
        let answer = http.send(format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"), "{answer}");
    }
    let head = http.send(b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    http.stop().await;
}

#[tokio::test]
async fn metrics_tell_the_state() {
    let world = World::crawled().await;
    world.open_gap(Scope::Users, GapKind::Held, "the list no longer shows 60 of 250 rows").await;
    let follow = FollowStatus {
        state: FollowState::Following,
        pending_reads: 5,
        held: 1,
        polls: 7,
        events_seen: 11,
        last_event_at: Some(NOW),
        ..FollowStatus::default()
    };
    world.status.send_replace(RuntimeStatus {
        log_polled_at: Some(NOW.plus_millis(1_500)),
        credential_used_at: Some(NOW),
        requests: 13,
        follow,
        ..RuntimeStatus::default()
    });
    let http = Http::start([world.view()]).await;
    let (status, text) = http.get("/metrics").await;
    assert_eq!(status, 200);
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    };
    assert_eq!(value("okta_idmap_store_revision{org=\"acme\"}"), world.revision().to_string());
    assert_eq!(value("okta_idmap_store_rows{org=\"acme\",kind=\"user\"}"), "250");
    assert_eq!(value("okta_idmap_store_rows{org=\"acme\",kind=\"app_user\"}"), "130");
    assert_eq!(value("okta_idmap_open_gaps{org=\"acme\",gap_kind=\"held\"}"), "1");
    assert_eq!(value("okta_idmap_open_gaps{org=\"acme\",gap_kind=\"forbidden\"}"), "0");
    assert_eq!(value("okta_idmap_held_scopes{org=\"acme\"}"), "1");
    assert_eq!(value("okta_idmap_scopes{org=\"acme\",state=\"held\"}"), "1");
    assert_eq!(value("okta_idmap_scopes{org=\"acme\",state=\"complete\"}"), "14");
    assert_eq!(value("okta_idmap_scopes{org=\"acme\",state=\"forbidden\"}"), "0");
    assert_eq!(value("okta_idmap_pending_reads{org=\"acme\"}"), "5");
    assert_eq!(value("okta_idmap_log_polls_total{org=\"acme\"}"), "7");
    assert_eq!(value("okta_idmap_log_events_total{org=\"acme\"}"), "11");
    assert_eq!(value("okta_idmap_log_following{org=\"acme\"}"), "1");
    assert_eq!(value("okta_idmap_requests_total{org=\"acme\"}"), "13");
    assert_eq!(value("okta_idmap_log_last_poll_timestamp_seconds{org=\"acme\"}"), "1770000001.500");
    assert_eq!(value("okta_idmap_credential_last_used_timestamp_seconds{org=\"acme\"}"), "1770000000.000");
    assert_eq!(value("okta_idmap_credential_lapses_timestamp_seconds{org=\"acme\"}"), "1772592000.000");
    assert_eq!(value("okta_idmap_crawl_running{org=\"acme\"}"), "0");
    assert_eq!(value("okta_idmap_crawl_completed_timestamp_seconds{org=\"acme\"}"), "1770000000.000");
    // Names of people, groups and apps stay out of it, and ids as well.
    for secret in ["@", "00u", "0oa", "00g", "Jira", "Eng"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }
    http.stop().await;
}

#[tokio::test]
async fn bad_requests_end_with_their_connection() {
    let world = World::crawled().await;
    let http = Http::start([world.view()]).await;
    let mut long = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    long.extend(std::iter::repeat_n(b'a', 100 << 10));
    long.extend_from_slice(b"\r\n\r\n");
    for bad in [b"\0\0\0\0\r\n\r\n".as_slice(), b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &long] {
        let answer = http.send(bad).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    // One request a connection: the second one is not answered.
    let two = http.send(b"GET /healthz HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n").await;
    assert_eq!(two.matches("HTTP/1.1 ").count(), 1, "{two}");
    assert_eq!(http.get("/healthz").await.0, 200);
    http.stop().await;
}

/// Whether the other side has ended the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 1])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn who_says_nothing_does_not_keep_others_out() {
    let world = World::crawled().await;
    let http = Http::start([world.view()]).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(http.address).await.unwrap());
    }
    assert_eq!(http.get("/healthz").await, (200, "alive\n".to_owned()));
    // The oldest made room, at once: the newest are not over their time.
    assert!(is_closed(&mut silent[0]).await && !is_closed(&mut silent[39]).await);
    drop(silent);
    http.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_is_told_while_every_scan_is_taken_and_metrics_wait() {
    let world = World::crawled().await;
    let http = Http::start([world.view()]).await;
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let held = Arc::new(std::sync::Mutex::new(held));
    let mut scans = JoinSet::new();
    // More than there are places.
    for _ in 0..6 {
        let (reader, held) = (world.store.reader.clone(), Arc::clone(&held));
        scans.spawn(async move {
            // Ends when the sender is gone.
            let scan = reader.scan(move |_| {
                let _ = held.lock().unwrap().recv();
                Ok(())
            });
            scan.await.unwrap();
        });
    }
    let mut waiting = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(http.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        waiting.push(stream);
    }
    for _ in 0..50 {
        assert_eq!(http.get("/healthz").await, (200, "alive\n".to_owned()));
    }
    assert_eq!(http.get("/readyz").await, (200, "ready\n".to_owned()));
    drop(release);
    while let Some(scan) = scans.join_next().await {
        scan.unwrap();
    }
    assert_eq!(http.get("/metrics").await.0, 200);
    drop(waiting);
    http.stop().await;
}

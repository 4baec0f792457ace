//! The client against canned bytes on a loopback socket, under a paused clock; and against the simulated org.

mod failures;
mod following;
mod hostile;
mod proofs;
mod server;
mod service_app;
mod simulated;
mod tls;
mod token_requests;
mod ways;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use server::{Reply, Server, reply};

use super::*;
use crate::core::ids::{AppId, LogCursor, RequestNumber, Timestamp, UserId};
use crate::core::model::Row;
use crate::core::rate::Bucket;
use crate::core::secret::Secret;

const USERS: &str = r#"[{"id":"00u1","status":"ACTIVE"},{"id":"00u2","status":"STAGED"}]"#;
const DATE: &str = "Date: Sun, 02 Aug 2026 09:00:22 GMT";

fn config_for(url: &str) -> ClientConfig {
    ClientConfig::new(OrgUrl::parse(url).unwrap(), Arc::new(AtomicU64::new(0)))
}

fn token() -> Arc<dyn Authorize> {
    Arc::new(Ssws::new(&Secret::new("00token".to_owned())).unwrap())
}

async fn client_of(script: Vec<Reply>) -> (Client, Server) {
    let server = Server::start(script).await;
    (Client::new(config_for(&server.url), token()).unwrap(), server)
}

fn first(resource: Resource) -> PageRequest {
    let limit = resource.limit_default();
    PageRequest::First { resource, limit }
}

/// The first page of the users, read from a server with this script.
async fn users(script: Vec<Reply>) -> (Result<Page, OktaError>, Server) {
    let (client, server) = client_of(script).await;
    (client.page(&first(Resource::Users), Priority::Crawl).await, server)
}

#[tokio::test(start_paused = true)]
async fn a_page_comes_with_all_that_belongs_to_it() {
    let link =
        "Link: <$ORG/api/v1/users?limit=200>; rel=\"self\", <$ORG/api/v1/users?after=%41+|&limit=200>; rel=\"next\"";
    let headers =
        [DATE, link, "X-Rate-Limit-Limit: 300", "X-Rate-Limit-Remaining: 299", "X-Rate-Limit-Reset: 1785661260"];
    let server = Server::start(vec![reply(200, &headers, USERS), reply(200, &[], "[]")]).await;
    // A clock that stands: the head of an answer and the end of its body come at two times else.
    let now: fn() -> Timestamp = || Timestamp::from_millis(1_785_661_222_345);
    let client = Client::new(ClientConfig { now, ..config_for(&server.url) }, token()).unwrap();
    assert_eq!(client.credential_last_used(), None);
    let page = client.page(&first(Resource::Users), Priority::Crawl).await.unwrap();
    assert_eq!((page.rows.len(), page.items, page.limit, page.quarantined.len()), (2, 2, 200, 0));
    assert_eq!(page.request_number_sent, RequestNumber(1));
    assert_eq!(page.server_date, Timestamp::parse("2026-08-02T09:00:22Z"));
    let next = page.next.unwrap();
    assert_eq!(next.as_str(), format!("{}/api/v1/users?after=%41+|&limit=200", server.url));
    assert_eq!((page.received_at, client.credential_last_used()), (now(), Some(now())));
    let budget = &client.budgets()[0];
    assert_eq!((budget.bucket, budget.limit, budget.remaining), (Bucket::UsersList, Some(300), Some(299)));
    assert!(budget.last_used.is_some() && budget.resets_at.is_some());

    let request = PageRequest::Next { resource: Resource::Users, url: next.into_string() };
    let last = client.page(&request, Priority::Crawl).await.unwrap();
    assert_eq!((last.next, last.rows.len(), last.request_number_sent), (None, 0, RequestNumber(2)));
    assert_eq!(server.targets(), ["/api/v1/users?search=status%20pr&limit=200", "/api/v1/users?after=%41+|&limit=200"]);
    let head = server.requests()[0].to_ascii_lowercase();
    for line in [
        "get /api/v1/users?",
        "\r\nauthorization: ssws 00token\r\n",
        "\r\naccept: application/json\r\n",
        "\r\ncontent-type: application/json; okta-response=\"omitcredentials,omitcredentialslinks,omittransitioningtostatus\"\r\n",
        concat!("\r\nuser-agent: okta-idmap/", env!("CARGO_PKG_VERSION"), "\r\n"),
        "\r\naccept-encoding: gzip\r\n",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
}

#[tokio::test(start_paused = true)]
async fn compressed_bodies_are_read() {
    let (page, _server) = users(vec![reply(200, &["Content-Encoding: gzip"], gzip(USERS.as_bytes()))]).await;
    assert_eq!(page.unwrap().rows.len(), 2);
}

/// The gzip form of `data`, stored without compression.
fn gzip(data: &[u8]) -> Vec<u8> {
    let crc = !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1)))
    });
    let length = u16::try_from(data.len()).unwrap();
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend(length.to_le_bytes());
    out.extend((!length).to_le_bytes());
    out.extend(data);
    out.extend(crc.to_le_bytes());
    out.extend(u32::from(length).to_le_bytes());
    out
}

#[tokio::test(start_paused = true)]
async fn single_objects_are_found_or_not() {
    let user = UserId::new("00u1").unwrap();
    let gone = r#"{"errorCode":"E0000007","errorSummary":"Not found: 00u1 (User)"}"#;
    let script = vec![
        reply(200, &[], r#"{"id":"00u1","status":"ACTIVE"}"#),
        reply(404, &[], gone),
        reply(404, &[], r#"{"status":404,"message":"Resource not found"}"#),
        reply(200, &[], r#"{"id":"00u2","status":"ACTIVE"}"#),
    ];
    let (client, server) = client_of(script).await;
    let read = client.get_user(&user, Priority::ById).await.unwrap();
    assert_eq!((read.found.map(|row| row.id), read.request_number_sent), (Some(user.clone()), RequestNumber(1)));
    let read = client.get_user(&user, Priority::ById).await.unwrap();
    assert_eq!((read.found, read.request_number_sent), (None, RequestNumber(2)));
    let error = client.get_user(&user, Priority::ById).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFoundPage);
    let error = client.get_user(&user, Priority::ById).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Malformed, "{error}");
    assert_eq!(server.targets(), ["/api/v1/users/00u1"; 4]);
}

#[tokio::test(start_paused = true)]
async fn app_users_are_read_by_app_and_user() {
    let (client, server) = client_of(vec![reply(200, &[], r#"{"id":"00u1","status":"ACTIVE","scope":"USER"}"#)]).await;
    let (app, user) = (AppId::new("0oa1").unwrap(), UserId::new("00u1").unwrap());
    let row = client.get_app_user(&app, &user, Priority::ById).await.unwrap().found.unwrap();
    assert_eq!((row.app, row.user), (app, user));
    assert_eq!(server.targets(), ["/api/v1/apps/0oa1/users/00u1"]);
}

#[tokio::test(start_paused = true)]
async fn the_log_is_anchored_and_followed() {
    let event = r#"[{"uuid":"a","eventType":"user.lifecycle.create"}]"#;
    let next = "Link: <$ORG/api/v1/logs?after=1785661222000_1&limit=1>; rel=\"next\"";
    let (client, server) = client_of(vec![reply(200, &[next], event), reply(200, &[next], "[]")]).await;
    let since = Timestamp::parse("2026-08-02T09:00:00Z").unwrap();
    let filter = Some("eventType sw \"user.\"".to_owned());
    let page = client.log_page(&LogRequest::Anchor { since, filter }).await.unwrap();
    assert_eq!((page.events.len(), page.items, page.is_full), (1, 1, false));
    let cursor = page.next.unwrap();
    // An empty page whose next is the cursor itself is legal in the log.
    let page = client.log_page(&LogRequest::Next(cursor.clone())).await.unwrap();
    assert_eq!((page.next, page.is_full), (Some(cursor), false));
    assert_eq!(
        server.targets(),
        [
            "/api/v1/logs?since=2026-08-02T09%3A00%3A00.000Z&limit=1000&filter=eventType%20sw%20%22user.%22",
            "/api/v1/logs?after=1785661222000_1&limit=1",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_stale_log_cursor_is_gone_and_a_foreign_one_is_refused() {
    let stale = r#"{"errorCode":"E0000053","errorSummary":"x"}"#;
    let (client, server) = client_of(vec![reply(400, &[], stale)]).await;
    let cursor = |url: String| LogRequest::Next(LogCursor(url));
    let error = client.log_page(&cursor(format!("{}/api/v1/logs?after=1", server.url))).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::CursorGone);
    let error = client.log_page(&cursor("https://evil.example/api/v1/logs?after=1".to_owned())).await.unwrap_err();
    assert!(matches!(error, OktaError::Place { source: NextError::ForeignOrigin { .. }, .. }), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn public_metadata_is_read_without_the_credential() {
    let (client, server) = client_of(vec![reply(200, &[DATE], r#"{"id":"00o1","pipeline":"idx"}"#)]).await;
    let org = client.org_metadata().await.unwrap();
    assert_eq!((&*org.id, org.pipeline.as_deref()), ("00o1", Some("idx")));
    assert_eq!(org.server_date, Timestamp::parse("2026-08-02T09:00:22Z"));
    assert!(!server.requests()[0].to_ascii_lowercase().contains("authorization"));
    assert_eq!(client.credential_last_used(), None);
}

#[tokio::test(start_paused = true)]
async fn members_are_reduced_to_ids() {
    let (client, _server) = client_of(vec![reply(200, &[], USERS)]).await;
    let group = crate::core::ids::GroupId::new("00g1").unwrap();
    let page = client.page(&first(Resource::GroupMembers(group)), Priority::Crawl).await.unwrap();
    assert!(matches!(&page.rows[1], Row::GroupMember(member) if member.user.as_str() == "00u2"));
}

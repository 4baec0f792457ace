//! What following the log asks for: partial lists, apps of a user, cursors and anchors, the clock, request numbers.

use tokio::time::{Duration, Instant};

use super::*;
use crate::core::ids::GroupId;

fn user() -> UserId {
    UserId::new("00u1").unwrap()
}

fn app() -> AppId {
    AppId::new("0oa1").unwrap()
}

#[tokio::test(start_paused = true)]
async fn partial_lists_are_asked_for_and_followed() {
    async fn check(resource: Resource, target: &str, body: &str, rows: usize) {
        let path = resource.path();
        let link = format!("Link: <$ORG{path}?after=%41,|&limit=7>; rel=\"next\"");
        let (client, server) = client_of(vec![reply(200, &[&link], body), reply(200, &[], "[]")]).await;
        let page = client.page(&first(resource.clone()), Priority::ById).await.unwrap();
        assert_eq!((page.rows.len(), page.quarantined.len(), page.limit), (rows, 0, 200), "{target}");
        let request = PageRequest::Next { resource, url: page.next.unwrap().into_string() };
        let last = client.page(&request, Priority::ById).await.unwrap();
        assert_eq!((last.next, last.rows.len(), last.user_apps.len()), (None, 0, 0));
        assert_eq!(server.targets(), [target.to_owned(), format!("{path}?after=%41,|&limit=7")]);
        let omits = server.requests()[0].contains("omitCredentialsLinks");
        assert_eq!(omits, path == "/api/v1/users", "{target}");
    }
    let since = Timestamp::parse("2026-08-02T09:00:00.5Z").unwrap();
    let group = r#"[{"id":"00g1","profile":{"name":"a"},"_embedded":{"stats":{"usersCount":1,"appsCount":2}}}]"#;
    let moment = "%222026-08-02T09%3A00%3A00.500Z%22";
    let target = format!("/api/v1/users?search=lastUpdated%20gt%20{moment}&limit=200");
    check(Resource::UsersChanged { since }, &target, USERS, 2).await;
    let target = "/api/v1/users?search=id%20eq%20%2200u1%22&limit=200";
    check(Resource::UsersByIds(vec![user()]), target, USERS, 2).await;
    let target = format!(
        "/api/v1/groups?filter=lastUpdated%20gt%20{moment}%20or%20lastMembershipUpdated%20gt%20{moment}\
         &expand=stats,app&limit=200"
    );
    check(Resource::GroupsChanged { since }, &target, group, 1).await;
    let target = "/api/v1/groups?search=source.id%20eq%20%220oa1%22&expand=stats,app&limit=200";
    check(Resource::GroupsOfApp(app()), target, group, 1).await;
    check(Resource::UserGroups(user()), "/api/v1/users/00u1/groups?limit=200", group, 1).await;
    let target = "/api/v1/apps?filter=user.id%20eq%20%2200u1%22&expand=user/00u1&limit=200";
    check(Resource::UserApps(user()), target, r#"[{"id":"0oa1"}]"#, 0).await;
}

#[tokio::test(start_paused = true)]
async fn apps_of_a_user_are_no_rows() {
    let body = r#"[{"id":"0oa1","name":"a","status":"ACTIVE","_embedded":{"user":{"id":"00u1","status":"ACTIVE"}}},
                   {"id":"0oa2","name":"b","status":"ACTIVE"}]"#;
    let (client, _server) = client_of(vec![reply(200, &[], body)]).await;
    let page = client.page(&first(Resource::UserApps(user())), Priority::ById).await.unwrap();
    assert_eq!((page.rows.len(), page.items), (0, 2));
    let seen: Vec<_> = page.user_apps.iter().map(|seen| (seen.app.as_str(), seen.app_user.is_some())).collect();
    assert_eq!(seen, [("0oa1", true), ("0oa2", false)]);
}

#[tokio::test(start_paused = true)]
async fn partial_lists_are_not_mistaken_for_others() {
    async fn check(resource: Resource, other: &str) {
        let link = format!("Link: <$ORG{other}?after=1&limit=200>; rel=\"next\"");
        let (client, _server) = client_of(vec![reply(200, &[&link], "[]")]).await;
        let error = client.page(&first(resource), Priority::ById).await.unwrap_err();
        assert!(matches!(error, OktaError::Next { source: NextError::OtherList { .. }, .. }), "{other}: {error}");
    }
    check(Resource::UserGroups(user()), "/api/v1/users/00u2/groups").await;
    check(Resource::UserGroups(user()), "/api/v1/groups").await;
    check(Resource::UserApps(user()), "/api/v1/apps/0oa1/users").await;
    check(Resource::GroupsOfApp(app()), "/api/v1/users").await;
    check(Resource::UsersByIds(vec![user()]), "/api/v1/users/00u1").await;
}

#[tokio::test(start_paused = true)]
async fn batches_of_ids_have_a_size() {
    async fn check(count: usize, sent: usize) {
        let (client, server) = client_of(vec![reply(200, &[], "[]")]).await;
        let users = (0..count).map(|number| UserId::new(&format!("00u{number}")).unwrap()).collect();
        let page = client.page(&first(Resource::UsersByIds(users)), Priority::ById).await;
        assert_eq!((page.is_ok(), server.requests().len()), (sent == 1, sent), "{count}");
        if let Err(error) = page {
            assert_eq!(error.kind(), FailureKind::Rejected { code: None }, "{error}");
        }
    }
    check(0, 0).await;
    check(1, 1).await;
    check(USERS_BY_IDS_MAX, 1).await;
    check(USERS_BY_IDS_MAX + 1, 0).await;
}

#[tokio::test(start_paused = true)]
async fn refused_log_requests_tell_cursor_from_filter() {
    async fn check(code: &str, request: impl Fn(&str) -> LogRequest, expected: FailureKind) {
        let body = format!(r#"{{"errorCode":"{code}","errorSummary":"x"}}"#);
        let (client, server) = client_of(vec![reply(400, &[], body), reply(200, &[], "[]")]).await;
        let error = client.log_page(&request(&server.url)).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{code}");
        assert_eq!(server.requests().len(), 1, "{code}: asking again does not help");
    }
    let next = |url: &str| LogRequest::Next(LogCursor(format!("{url}/api/v1/logs?after=1_2&limit=1000")));
    let anchor = |filter: Option<&str>| {
        let filter = filter.map(str::to_owned);
        move |_: &str| LogRequest::Anchor { since: Timestamp::from_millis(0), filter: filter.clone() }
    };
    for code in ["E0000053", "E0000031", "E0000001", "E0000030"] {
        check(code, next, FailureKind::CursorGone).await;
        let rejected = FailureKind::Rejected { code: Some(code.into()) };
        check(code, anchor(Some("eventType sw \"user.\"")), rejected.clone()).await;
        check(code, anchor(None), rejected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_is_sent_as_it_is_however_often_it_fails() {
    for failure in [reply(500, &[], ""), reply(504, &[], "<html>"), reply(200, &[], "[{")] {
        let (client, server) = client_of(vec![failure; 40]).await;
        let cursor = LogRequest::Next(LogCursor(format!("{}/api/v1/logs?after=1_2&limit=1000", server.url)));
        let error = client.log_page(&cursor).await.unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Retry | FailureKind::Malformed), "{error}");
        let targets = server.targets();
        assert!(targets.len() > 1 && targets.iter().all(|target| target == "/api/v1/logs?after=1_2&limit=1000"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_anchor_that_shrank_says_so() {
    let next = |limit: u32| format!("Link: <$ORG/api/v1/logs?after=1_2&limit={limit}>; rel=\"next\"");
    let script = vec![
        reply(504, &[], ""),
        reply(504, &[], "<html>"),
        reply(200, &[&next(250)], "[]"),
        reply(500, &[], ""),
        reply(200, &[&next(250)], "[]"),
        reply(200, &[&next(1_000)], "[]"),
    ];
    let (client, server) = client_of(script).await;
    let anchor = LogRequest::Anchor { since: Timestamp::from_millis(0), filter: None };
    let page = client.log_page(&anchor).await.unwrap();
    assert_eq!(page.limit, 250);
    let page = client.log_page(&LogRequest::Next(page.next.unwrap())).await.unwrap();
    assert_eq!(page.limit, 250, "the cursor keeps it");
    assert_eq!(client.log_page(&anchor).await.unwrap().limit, LOG_PAGE_LIMIT);
    let limits: Vec<_> = server.targets().iter().map(|target| target.rsplit('=').next().unwrap().to_owned()).collect();
    assert_eq!(limits, ["1000", "500", "250", "250", "250", "1000"]);
}

#[tokio::test(start_paused = true)]
async fn stored_places_of_another_org_are_gone_and_nothing_is_sent_there() {
    let (client, server) = client_of(Vec::new()).await;
    for url in ["https://old.okta.example/api/v1/logs?after=1", "", "/api/v1/logs", "http://[::1/api/v1/logs"] {
        let error = client.log_page(&LogRequest::Next(LogCursor(url.to_owned()))).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::CursorGone, "{url}: {error}");
    }
    let url = format!("{}/api/v1/groups?after=1", server.url);
    let request = PageRequest::Next { resource: Resource::GroupMembers(GroupId::new("00g1").unwrap()), url };
    let error = client.page(&request, Priority::Crawl).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::CursorGone, "{error}");
    assert_eq!(server.requests().len(), 0);
}

/// A local clock that a test sets; each test has a thread of its own.
mod set_clock {
    use std::cell::Cell;

    use crate::core::ids::Timestamp;

    thread_local!(static NOW: Cell<i64> = const { Cell::new(0) });

    pub(super) fn set(now: Timestamp) {
        NOW.set(now.as_millis());
    }

    pub(super) fn now() -> Timestamp {
        Timestamp::from_millis(NOW.get())
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_of_okta_is_known_from_every_answer() {
    let date = |second: u32| format!("Date: Sun, 02 Aug 2026 09:00:{second:02} GMT");
    let gone = r#"{"errorCode":"E0000007","errorSummary":"x"}"#;
    let script = vec![
        reply(200, &[], USERS),
        // A gateway's clock is not Okta's.
        reply(502, &["Date: Sun, 02 Aug 2037 09:00:22 GMT"], "<html>"),
        reply(200, &[&date(22)], USERS),
        reply(404, &[&date(23), "X-Okta-Request-Id: r1"], gone),
        reply(200, &[&date(24)], r#"{"id":"00o1"}"#),
    ];
    let server = Server::start(script).await;
    let mut config = config_for(&server.url);
    config.now = set_clock::now;
    let client = Client::new(config, token()).unwrap();
    let at = |text: &str| set_clock::set(Timestamp::parse(text).unwrap());
    assert_eq!(client.clock_ahead_millis(), None);
    client.page(&first(Resource::Users), Priority::Crawl).await.unwrap();
    assert_eq!(client.clock_ahead_millis(), None, "no Date, no knowledge");
    at("2026-08-02T08:55:22.900Z");
    client.page(&first(Resource::Users), Priority::Crawl).await.unwrap();
    assert_eq!(client.clock_ahead_millis(), Some(299_100));
    at("2026-08-02T08:55:23.200Z");
    assert_eq!(client.get_user(&user(), Priority::ById).await.unwrap().found, None);
    assert_eq!(client.clock_ahead_millis(), Some(299_800));
    at("2026-08-02T08:55:24.900Z");
    client.org_metadata().await.unwrap();
    assert_eq!(client.clock_ahead_millis(), Some(299_800), "the cut-off part of a second makes it no smaller");
}

#[tokio::test(start_paused = true)]
async fn the_newest_request_number_is_below_that_of_every_later_request() {
    let server = Server::start(vec![reply(200, &[], ""), reply(200, &[], USERS), reply(200, &[], USERS)]).await;
    let mut config = config_for(&server.url);
    config.request_numbers = Arc::new(AtomicU64::new(41));
    let client = Client::new(config, token()).unwrap();
    assert_eq!(client.newest_request_number(), RequestNumber(41));
    for expected in [43, 44] {
        let before = client.newest_request_number();
        let page = client.page(&first(Resource::Users), Priority::Crawl).await.unwrap();
        assert_eq!(page.request_number_sent, RequestNumber(expected), "an attempt that failed has a number too");
        assert!(page.request_number_sent > before);
        assert_eq!(client.newest_request_number(), page.request_number_sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_is_taken_when_the_request_is_sent_and_not_when_it_is_asked_for() {
    // The first answer of a bucket is waited for: nothing is known of it before.
    let (client, server) = client_of(vec![Reply::Silence]).await;
    let started = Instant::now();
    let resource = || first(Resource::Users);
    let (first_page, second_page) = (resource(), resource());
    let calls =
        async { tokio::join!(client.page(&first_page, Priority::Crawl), client.page(&second_page, Priority::Crawl)) };
    let _ = tokio::time::timeout(Duration::from_secs(5), calls).await;
    assert!(started.elapsed() >= Duration::from_secs(5));
    assert_eq!((server.requests().len(), client.newest_request_number()), (1, RequestNumber(1)));
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_the_log_is_told() {
    let headers = [DATE, "X-Rate-Limit-Limit: 60", "X-Rate-Limit-Remaining: 59", "X-Rate-Limit-Reset: 1785661260"];
    let (client, _server) = client_of(vec![reply(200, &headers, USERS), reply(200, &headers, "[]")]).await;
    client.page(&first(Resource::Users), Priority::Crawl).await.unwrap();
    assert_eq!(client.log_budget(), None, "another bucket");
    let anchor = LogRequest::Anchor { since: Timestamp::from_millis(0), filter: None };
    client.log_page(&anchor).await.unwrap();
    assert_eq!(client.log_budget(), Some((60, 60)));
}

//! How an org is doing, and the list of gaps.

use okta_idmap::core::coverage::GapKind;
use okta_idmap::core::ids::{AppId, GroupId};
use okta_idmap::core::model::{GroupType, Kind, Row, Scope};
use okta_idmap::serve::{BucketStatus, CrawlProgress, KindProgress, RuntimeStatus};
use okta_idmap_proto::v1;

use super::world::{NOW, World, group, shown_meta};

async fn status(world: &World) -> v1::GetStatusResponse {
    let server = world.serve().await;
    server.coverage().await.get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_status_of_an_empty_store_is_told() {
    let world = World::empty();
    let answer = status(&world).await;
    let meta = shown_meta(answer.meta.as_ref());
    assert_eq!(meta, "PARTIAL 4 NOT_READ:apps NOT_READ:groups NOT_READ:log NOT_READ:users");
    let status = answer.status.unwrap();
    assert_eq!(status.crawl.unwrap().crawl_id, 0);
    assert_eq!(status.log.unwrap().state(), v1::FollowState::Unanchored);
    assert_eq!(status.credential.unwrap().state(), v1::CredentialState::Untried);
    assert_eq!(status.index.unwrap().state(), v1::IndexState::Rebuilding);
    assert_eq!(answer.org_names, ["acme"]);
}

#[tokio::test]
async fn the_status_of_a_crawled_org_is_told() {
    let world = World::crawled().await;
    world.index();
    world.status.send_replace(RuntimeStatus {
        domain: "acme.okta.com".to_owned(),
        started_at: Some(NOW),
        crawl: Some(CrawlProgress {
            kinds: vec![
                KindProgress { kind: Kind::AppUser, lists_done: 2, lists_known: Some(4), rows: 7, requests: 3 },
                KindProgress { kind: Kind::User, lists_done: 1, lists_known: Some(1), rows: 250, requests: 2 },
            ],
        }),
        buckets: vec![
            BucketStatus { name: "users".to_owned(), limit: 600, remaining: 599, refused: 1, ..Default::default() },
            BucketStatus { name: "apps".to_owned(), limit: 100, remaining: 7, ..Default::default() },
        ],
        credential_used_at: Some(NOW),
        ..RuntimeStatus::default()
    });
    let answer = status(&world).await;
    assert_eq!(shown_meta(answer.meta.as_ref()), "COMPLETE");
    assert!(answer.open_gaps.is_empty());
    let status = answer.status.unwrap();
    assert_eq!((status.org.as_str(), status.domain.as_str()), ("acme", "acme.okta.com"));
    let crawl = status.crawl.unwrap();
    assert_eq!((crawl.state(), crawl.crawl_id), (v1::CrawlState::Running, 1));
    let kinds: Vec<v1::ScopeKind> = crawl.progress.iter().map(v1::ScopeProgress::kind).collect();
    assert_eq!(kinds, [v1::ScopeKind::Users, v1::ScopeKind::AppUsers]);
    assert_eq!(status.log.unwrap().state(), v1::FollowState::Following);
    let credential = status.credential.unwrap();
    assert_eq!(credential.state(), v1::CredentialState::Accepted);
    let idle_seconds = credential.lapses_at.unwrap().seconds - credential.used_at.unwrap().seconds;
    assert_eq!(idle_seconds, 30 * 86_400);
    let store = status.store.unwrap();
    let rows: Vec<u64> = store.row_counts.iter().map(|count| count.row_count).collect();
    assert_eq!(rows, [250, 4, 4, 130, 122, 3]);
    assert!(store.size_bytes > 0 && store.revision == world.revision());
    let index = status.index.unwrap();
    assert_eq!((index.state(), index.revision_lag), (v1::IndexState::Following, 0));
    assert_eq!(index.entry_count, 250 + 4 + 4 + 130);
    let buckets: Vec<&str> = status.rate_limits.iter().map(|bucket| bucket.name.as_str()).collect();
    assert_eq!(buckets, ["apps", "users"]);
}

#[tokio::test]
async fn gaps_show_in_the_status() {
    let world = World::crawled().await;
    let app = AppId::new("0oaeu").unwrap();
    world.open_gap(Scope::AppUsers(app), GapKind::Forbidden, "GET: 403 E0000006").await;
    world.open_gap(Scope::Users, GapKind::Unauthorized, "GET: 401 E0000011").await;
    world.open_gap(Scope::Log, GapKind::LogLost, "410").await;
    let answer = status(&world).await;
    let counts: Vec<(v1::GapKind, u32)> =
        answer.open_gaps.iter().map(|count| (count.kind(), count.gap_count)).collect();
    assert_eq!(counts, [(v1::GapKind::Forbidden, 1), (v1::GapKind::Unauthorized, 1), (v1::GapKind::LogLost, 1)]);
    let status = answer.status.unwrap();
    assert_eq!(status.credential.unwrap().state(), v1::CredentialState::Refused);
    assert_eq!(status.log.unwrap().state(), v1::FollowState::Lost);
    let stale: Vec<u64> = status.store.unwrap().row_counts.iter().map(|count| count.stale_row_count).collect();
    assert_eq!(stale, [250, 0, 0, 126, 0, 0]);
}

/// All gaps that a filter lets through, by pages of one: id, kind, state.
async fn gaps(world: &World, filter: v1::ListGapsRequest) -> Vec<String> {
    let server = world.serve().await;
    let mut client = server.coverage().await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListGapsRequest { page_size: 1, page_token, ..filter.clone() };
        let page = client.list_gaps(request).await.unwrap().into_inner();
        assert!(page.gaps.len() <= 1);
        for gap in page.gaps {
            assert!(!gap.hides.is_empty() && !gap.remedy.is_empty() && gap.scope.is_some());
            found.push(format!("{} {} {}", gap.id, gap.kind().as_str_name(), gap.state().as_str_name()));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test]
async fn every_gap_that_an_answer_names_is_listed() {
    let world = World::crawled().await;
    assert_eq!(gaps(&world, v1::ListGapsRequest::default()).await, Vec::<String>::new());
    world.open_gap(Scope::Apps, GapKind::Failed, "GET /api/v1/apps: 500").await;
    world.close_gap(Scope::Apps, GapKind::Failed).await;
    world.open_gap(Scope::Users, GapKind::Held, "the list no longer shows 60 of 250 rows").await;
    world.put(vec![Row::Group(group("00gnew", "New", GroupType::OktaGroup))]).await;
    let failed = "FAILED:apps GAP_KIND_FAILED GAP_STATE_CLOSED";
    let held = "HELD:users GAP_KIND_HELD GAP_STATE_OPEN";
    let unread = "NOT_READ:group_members(00gnew) GAP_KIND_NOT_READ GAP_STATE_OPEN";
    let ghost = "UNSEEN_REFERENCE:user(00ughost) GAP_KIND_UNSEEN_REFERENCE GAP_STATE_OPEN";
    let filter = v1::ListGapsRequest::default;
    assert_eq!(gaps(&world, filter()).await, [failed, held, unread]);
    let open = v1::ListGapsRequest { states: vec![v1::GapState::Open.into()], ..filter() };
    assert_eq!(gaps(&world, open).await, [held, unread]);
    let kinds = vec![v1::GapKind::NotRead.into(), v1::GapKind::Failed.into()];
    assert_eq!(gaps(&world, v1::ListGapsRequest { kinds, ..filter() }).await, [failed, unread]);
    let gap_ids = ["HELD:users", "UNSEEN_REFERENCE:user(00ughost)", "UNSEEN_REFERENCE:user(00u0002)", "NONE:users"];
    let gap_ids = gap_ids.map(str::to_owned).into();
    assert_eq!(gaps(&world, v1::ListGapsRequest { gap_ids, ..filter() }).await, [held, ghost]);

    let server = world.serve().await;
    let all = server.coverage().await.list_gaps(filter()).await.unwrap().into_inner();
    assert_eq!(shown_meta(all.meta.as_ref()), "PARTIAL 2 HELD:users NOT_READ:group_members(00gnew)");
    let Some(v1::gap::Evidence::Hold(hold)) = &all.gaps[1].evidence else { panic!() };
    assert_eq!((hold.missing_row_count, hold.stored_row_count), (60, 250));
    assert_eq!(all.gaps[2].scope.as_ref().unwrap().resource_name, "New");
    world.read(Scope::GroupMembers(GroupId::new("00gnew").unwrap()), Vec::new()).await;
    assert_eq!(gaps(&world, filter()).await, [failed, held]);
}

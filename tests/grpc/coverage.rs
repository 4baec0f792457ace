//! How completely each collection was read, and which records could not be.

use okta_idmap::core::batch::{Batch, Position, WalkState, WalkUpdate};
use okta_idmap::core::coverage::GapKind;
use okta_idmap::core::ids::{AppId, GroupId, Timestamp};
use okta_idmap::core::model::{GroupType, Quarantined, Row, Scope};
use okta_idmap_proto::v1;
use tonic::Code;

use super::world::{NOW, World, account, app_by_id, app_user, group, shown_meta, user_id};

fn app_users(app: &str) -> Scope {
    Scope::AppUsers(AppId::new(app).unwrap())
}

fn members(group: &str) -> Scope {
    Scope::GroupMembers(GroupId::new(group).unwrap())
}

/// All collections that a filter lets through, by pages of `page_size`.
async fn scopes(world: &World, page_size: i32, filter: v1::ListScopesRequest) -> Vec<v1::ScopeStatus> {
    let server = world.serve().await;
    let mut client = server.coverage().await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListScopesRequest { page_size, page_token, ..filter.clone() };
        let page = client.list_scopes(request).await.unwrap().into_inner();
        assert!(i32::try_from(page.scopes.len()).unwrap() <= page_size);
        found.extend(page.scopes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

fn shown(status: &v1::ScopeStatus) -> String {
    let scope = status.scope.clone().unwrap();
    let kind = scope.kind().as_str_name().trim_start_matches("SCOPE_KIND_").to_lowercase();
    let state = status.state().as_str_name().trim_start_matches("SCOPE_STATE_").to_lowercase();
    assert_eq!(status.gap_count as usize, status.gap_ids.len());
    format!("{kind}({}) {state} {} {}", scope.resource_id, status.row_count, status.gap_ids.join(" ")).trim().to_owned()
}

#[tokio::test]
async fn every_collection_is_listed_once() {
    let world = World::crawled().await;
    let expected = [
        "users() complete 250",
        "groups() complete 4",
        "apps() complete 4",
        "group_members(00geng) complete 121",
        "group_members(00gimp) complete 0",
        "group_members(00gops) complete 1",
        "app_users(0oaeu) complete 126",
        "app_users(0oaoff) complete 1",
        "app_users(0oashare) complete 0",
        "app_users(0oaus) complete 3",
        "app_groups(0oaeu) complete 2",
        "app_groups(0oaoff) complete 0",
        "app_groups(0oashare) complete 0",
        "app_groups(0oaus) complete 1",
        "log() complete 0",
    ];
    for page_size in [1, 4, 1000] {
        let found = scopes(&world, page_size, v1::ListScopesRequest::default()).await;
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
    }
    let found = scopes(&world, 1000, v1::ListScopesRequest::default()).await;
    let seconds = Some(NOW.as_millis() / 1_000);
    let users = &found[0];
    assert_eq!(users.completed_at.as_ref().map(|at| at.seconds), seconds);
    assert_eq!(users.attempted_at.as_ref().map(|at| at.seconds), seconds);
    assert!(!users.walking);
    assert_eq!(found[3].scope.as_ref().unwrap().resource_name, "Eng-EU");
    assert_eq!(found[6].scope.as_ref().unwrap().resource_name, "Jira EU");
    let kinds = vec![v1::ScopeKind::AppGroups.into(), v1::ScopeKind::Users.into()];
    let some = scopes(&world, 2, v1::ListScopesRequest { kinds, ..v1::ListScopesRequest::default() }).await;
    assert_eq!(some.len(), 5);
}

#[tokio::test]
async fn states_follow_the_books_and_the_gaps() {
    let world = World::crawled().await;
    world.open_gap(app_users("0oaeu"), GapKind::Forbidden, "GET: 403 E0000006").await;
    world.open_gap(app_users("0oaus"), GapKind::Failed, "records that could not be read: 1").await;
    world.open_gap(Scope::Users, GapKind::Held, "the list no longer shows 60 of 250 rows").await;
    world.open_gap(Scope::Log, GapKind::LogLost, "410").await;
    let given_up = WalkUpdate { scope: members("00gops"), state: WalkState::GivenUp };
    world.commit(Batch { walks: vec![given_up], ..world.batch() }).await;
    world.open_gap(members("00gops"), GapKind::Failed, "GET: 503").await;
    let new = ["00gnew1", "00gnew2"].map(|id| Row::Group(group(id, "New", GroupType::OktaGroup)));
    world.put(new.into()).await;
    let batch = world.batch();
    let position = Position {
        next: "https://acme.okta.com/api/v1/groups/00gnew2/users?after=1".to_owned(),
        page: 1,
        rows: 0,
        from: batch.at,
        began: Timestamp::default(),
        listing: okta_idmap::core::batch::Listing::Usual,
    };
    let walking = WalkUpdate { scope: members("00gnew2"), state: WalkState::Walking(position) };
    world.commit(Batch { walks: vec![walking], ..batch }).await;

    let odd: Vec<i32> = [
        v1::ScopeState::NeverRead,
        v1::ScopeState::Partial,
        v1::ScopeState::Forbidden,
        v1::ScopeState::Failed,
        v1::ScopeState::Held,
    ]
    .map(Into::into)
    .into();
    let filter = v1::ListScopesRequest { states: odd, ..v1::ListScopesRequest::default() };
    let found = scopes(&world, 2, filter).await;
    assert_eq!(
        found.iter().map(shown).collect::<Vec<_>>(),
        [
            "users() held 250 HELD:users",
            "group_members(00gnew1) never_read 0 NOT_READ:group_members(00gnew1)",
            "group_members(00gnew2) partial 0 NOT_READ:group_members(00gnew2)",
            "group_members(00gops) failed 1 FAILED:group_members(00gops)",
            "app_users(0oaeu) forbidden 126 FORBIDDEN:app_users(0oaeu)",
            "app_users(0oaus) partial 3 FAILED:app_users(0oaus)",
            "log() failed 0 LOG_LOST:log",
        ]
    );
    let never = &found[1];
    assert_eq!((&never.completed_at, &never.attempted_at, never.walking), (&None, &None, false));
    assert!(found[2].walking && found[2].attempted_at.is_some());
}

#[tokio::test]
async fn an_empty_store_has_what_every_org_has() {
    let world = World::empty();
    let found = scopes(&world, 10, v1::ListScopesRequest::default()).await;
    let expected = ["users", "groups", "apps", "log"].map(|kind| format!("{kind}() never_read 0 NOT_READ:{kind}"));
    assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
}

async fn quarantine(world: &World, scope: Scope, id: Option<&str>, reason: &str) {
    let record = Quarantined { scope, id: id.map(Box::from), reason: reason.to_owned() };
    world.commit(Batch { quarantined: vec![record], ..world.batch() }).await;
}

#[tokio::test]
async fn records_that_could_not_be_read_are_listed_once() {
    let world = World::crawled().await;
    let request = v1::ListQuarantinedRequest::default;
    let server = world.serve().await;
    let mut client = server.coverage().await;
    let answer = client.list_quarantined(request()).await.unwrap().into_inner();
    assert_eq!((answer.records.len(), shown_meta(answer.meta.as_ref()).as_str()), (0, "COMPLETE"));
    quarantine(&world, Scope::Users, Some("00ubad"), "status is missing").await;
    quarantine(&world, app_users("0oaeu"), None, "the record is no object").await;
    for number in 0..7 {
        quarantine(&world, app_users("0oaeu"), None, &format!("field {number} is missing")).await;
    }
    quarantine(&world, app_users("0oaeu"), Some("00ubad"), "status is missing").await;
    quarantine(&world, app_users("0oaeu"), Some("00ubad"), "status is missing").await;
    for page_size in [1, 3, 100] {
        let (mut found, mut page_token) = (Vec::new(), String::new());
        loop {
            let asked = v1::ListQuarantinedRequest { page_size, page_token, ..request() };
            let page = client.list_quarantined(asked).await.unwrap().into_inner();
            found.extend(page.records);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let keys: std::collections::BTreeSet<_> = found
            .iter()
            .map(|record| (record.scope.clone().unwrap().resource_id, &record.record_id, &record.reason))
            .collect();
        assert_eq!((found.len(), keys.len()), (10, 10));
        let places: Vec<_> =
            found.iter().map(|record| (record.scope.clone().unwrap().resource_id, record.record_id.clone())).collect();
        assert_eq!(
            places[7..],
            [("0oaeu", ""), ("0oaeu", "00ubad"), ("", "00ubad")].map(|(a, b)| (a.into(), b.into()))
        );
        assert_eq!(found[0].scope.as_ref().unwrap().resource_name, "Jira EU");
        assert!(found.iter().all(|record| record.first_seen_at.is_some() && record.last_seen_at.is_some()));
    }
    let scope_kinds = vec![v1::ScopeKind::Users.into()];
    let some = client.list_quarantined(v1::ListQuarantinedRequest { scope_kinds, ..request() }).await.unwrap();
    assert_eq!(some.into_inner().records.len(), 1);
}

#[tokio::test]
async fn wrong_filters_and_foreign_tokens_are_refused() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.coverage().await;
    let request = v1::ListScopesRequest::default;
    let token = client.list_scopes(v1::ListScopesRequest { page_size: 1, ..request() }).await.unwrap();
    let page_token = token.into_inner().next_page_token;
    let wrong = [
        v1::ListScopesRequest { kinds: vec![0], ..request() },
        v1::ListScopesRequest { states: vec![99], ..request() },
        v1::ListScopesRequest { page_size: -1, ..request() },
        v1::ListScopesRequest { page_token: "x".to_owned(), ..request() },
        v1::ListScopesRequest { page_token: page_token.clone(), kinds: vec![1], ..request() },
    ];
    for request in wrong {
        let refused = client.list_scopes(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
    let foreign = v1::ListQuarantinedRequest { page_token, ..v1::ListQuarantinedRequest::default() };
    assert_eq!(client.list_quarantined(foreign).await.unwrap_err().code(), Code::InvalidArgument);
    let unknown = v1::ListQuarantinedRequest { scope_kinds: vec![77], ..v1::ListQuarantinedRequest::default() };
    assert_eq!(client.list_quarantined(unknown).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn shared_names_are_told_as_they_would_be_refused() {
    let world = World::crawled().await;
    let more = [
        ("0oaeu", 1, "two@X.com"),
        ("0oaeu", 3, "Two@x.com"),
        ("0oaoff", 1, "two"),
        ("0oashare", 1, "b"),
        ("0oashare", 2, "b"),
    ];
    let rows = more.map(|(app, n, name)| Row::AppUser(app_user(app, &user_id(n), name)));
    world.put(rows.to_vec()).await;
    let server = world.serve().await;
    let (mut client, mut lookup) = (server.coverage().await, server.lookup().await);
    let mut found = Vec::new();
    let mut request = v1::ListAmbiguitiesRequest { page_size: 1, ..Default::default() };
    loop {
        let answer = client.list_ambiguities(request.clone()).await.unwrap().into_inner();
        assert!(answer.ambiguities.len() <= 1);
        found.extend(answer.ambiguities);
        if answer.next_page_token.is_empty() {
            break;
        }
        request.page_token = answer.next_page_token;
    }
    let user = |candidate: &v1::Candidate| candidate.user.clone().unwrap().id;
    let shown = |row: &v1::Ambiguity| {
        assert_eq!(row.candidate_count as usize, row.candidates.len());
        let users: Vec<String> = row.candidates.iter().map(user).collect();
        let (app, tier) = (row.app.clone().unwrap().id, row.tier().as_str_name().replace("MATCH_TIER_", ""));
        format!("{app} {tier} {} {}", row.normalized_value, users.join(" "))
    };
    // Nothing of the app in which all share one account.
    let expected = [
        "0oaeu USER_NAME_NORMALIZED two@x.com 00u0001 00u0003",
        "0oaoff USER_NAME_EXACT two 00u0001 00u0002",
        "0oaus USER_NAME_EXACT dup 00u0001 00u0002",
    ];
    assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
    for row in &found {
        let app = row.app.clone().unwrap().id;
        let request = v1::ResolveAccountRequest {
            account: account(&app, &row.normalized_value, v1::IdentifierKind::UserName),
            ..Default::default()
        };
        let resolution = lookup.resolve_account(request).await.unwrap().into_inner().resolution.unwrap();
        assert_eq!(resolution.outcome(), v1::ResolutionOutcome::Ambiguous, "{row:?}");
    }
    let of = |app: &str| v1::ListAmbiguitiesRequest { app: app_by_id(app), ..Default::default() };
    let answer = client.list_ambiguities(of("0oaus")).await.unwrap().into_inner();
    assert_eq!(answer.ambiguities.iter().map(shown).collect::<Vec<_>>(), expected[2..]);
    let nobody = client.list_ambiguities(of("0oanone")).await.unwrap().into_inner();
    assert_eq!(nobody.app.unwrap().outcome(), v1::SubjectOutcome::NotFound);
    assert!(nobody.ambiguities.is_empty());
    // The token of another question.
    let token = client.list_ambiguities(v1::ListAmbiguitiesRequest { page_size: 1, ..Default::default() }).await;
    let page_token = token.unwrap().into_inner().next_page_token;
    let status = client.list_ambiguities(v1::ListAmbiguitiesRequest { page_token, ..of("0oaus") }).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}

//! Which gaps stand against which answer.

use okta_idmap::core::batch::Batch;
use okta_idmap::core::coverage::GapKind;
use okta_idmap::core::ids::{AppId, GroupId};
use okta_idmap::core::model::{AppGroup, GroupType, Key, Row, Scope};
use okta_idmap_proto::v1;

use super::world::{Server, World, account, app_by_id, group, shown_meta, user_by_id};

fn app_users(app: &str) -> Scope {
    Scope::AppUsers(AppId::new(app).unwrap())
}

fn members(group: &str) -> Scope {
    Scope::GroupMembers(GroupId::new(group).unwrap())
}

/// The metas of one answer of each rpc, by name.
async fn metas(server: &Server) -> Vec<(&'static str, String)> {
    let mut lookup = server.lookup().await;
    let user = user_by_id("00u0002");
    let app = app_by_id("0oaeu");
    let request = v1::ResolveAccountRequest {
        account: account("0oaeu", "user2", v1::IdentifierKind::UserName),
        ..Default::default()
    };
    let resolve = lookup.resolve_account(request).await.unwrap().into_inner().meta;
    let request = v1::GetUserRequest { user: user.clone(), context: None };
    let get_user = lookup.get_user(request).await.unwrap().into_inner().meta;
    let request = v1::ListUserAccountsRequest { user: user.clone(), ..Default::default() };
    let accounts = lookup.list_user_accounts(request).await.unwrap().into_inner().meta;
    let request = v1::ListUserGroupsRequest { user: user.clone(), ..Default::default() };
    let groups = lookup.list_user_groups(request).await.unwrap().into_inner().meta;
    let request = v1::ListGroupMembersRequest { group_id: "00gops".to_owned(), ..Default::default() };
    let members = lookup.list_group_members(request).await.unwrap().into_inner().meta;
    let request = v1::ListGroupMembersRequest { group_id: "00gall".to_owned(), page_size: 1, ..Default::default() };
    let everyone = lookup.list_group_members(request).await.unwrap().into_inner().meta;
    let apps = lookup.list_apps(v1::ListAppsRequest::default()).await.unwrap().into_inner().meta;
    let request = v1::ListAppUsersRequest { app: app.clone(), page_size: 1, ..Default::default() };
    let app_users = lookup.list_app_users(request).await.unwrap().into_inner().meta;
    let request = v1::ListAppGroupsRequest { app, ..Default::default() };
    let app_groups = lookup.list_app_groups(request).await.unwrap().into_inner().meta;
    let all_groups = lookup.list_groups(v1::ListGroupsRequest::default()).await.unwrap().into_inner().meta;
    let selector = Some(v1::app_group_selector::Selector::Name("Ops".to_owned()));
    let named = v1::AppGroupSelector { app: app_by_id("0oaeu"), selector };
    let entries = vec![v1::AclEntry { principal: Some(v1::acl_entry::Principal::AppGroup(named)) }];
    let acl = lookup.resolve_acl(v1::ResolveAclRequest { context: None, entries }).await.unwrap().into_inner().meta;
    let request = v1::ExpandUserRequest { user, context: None };
    let principals = lookup.expand_user(request).await.unwrap().into_inner().meta;
    [
        ("resolve", resolve),
        ("user", get_user),
        ("accounts", accounts),
        ("groups of user", groups),
        ("members", members),
        ("everyone", everyone),
        ("apps", apps),
        ("app users", app_users),
        ("app groups", app_groups),
        ("groups", all_groups),
        ("acl", acl),
        ("principals", principals),
    ]
    .map(|(name, meta)| (name, shown_meta(meta.as_ref())))
    .into()
}

/// Asserts that exactly the answers named in `expected` are partial by the one gap `id`.
async fn check(server: &Server, id: &str, expected: &[&str]) {
    let partial = format!("PARTIAL 1 {id}");
    let found: Vec<&str> =
        metas(server).await.into_iter().filter(|(_, meta)| *meta == partial).map(|(name, _)| name).collect();
    assert_eq!(found, expected, "{id}");
    let others = metas(server).await.into_iter().filter(|(name, _)| !expected.contains(name));
    for (name, meta) in others {
        assert_eq!(meta, "COMPLETE", "{name} with {id}");
    }
}

#[tokio::test]
async fn gaps_stand_against_what_they_could_change() {
    let world = World::crawled().await;
    let server = world.serve().await;
    check(&server, "none", &[]).await;
    let cases: [(Scope, &[&str]); 9] = [
        (
            Scope::Users,
            &["resolve", "user", "accounts", "groups of user", "members", "everyone", "app users", "principals"],
        ),
        (Scope::Groups, &["groups of user", "members", "everyone", "app groups", "groups", "acl", "principals"]),
        (Scope::Apps, &["resolve", "accounts", "apps", "app users", "app groups", "acl", "principals"]),
        (app_users("0oaeu"), &["resolve", "accounts", "app users", "principals"]),
        (app_users("0oaoff"), &["accounts", "principals"]),
        (Scope::AppGroups(AppId::new("0oaeu").unwrap()), &["app groups", "acl", "principals"]),
        // No app has the one, and Jira the other.
        (members("00gimp"), &["groups of user"]),
        (members("00gops"), &["groups of user", "members", "principals"]),
        (
            Scope::Log,
            &[
                "resolve",
                "user",
                "accounts",
                "groups of user",
                "members",
                "everyone",
                "apps",
                "app users",
                "app groups",
                "groups",
                "acl",
                "principals",
            ],
        ),
    ];
    for (scope, expected) in cases {
        world.open_gap(scope.clone(), GapKind::Forbidden, "GET: 403 E0000006").await;
        check(&server, &format!("FORBIDDEN:{scope}"), expected).await;
        world.close_gap(scope.clone(), GapKind::Forbidden).await;
        check(&server, "none", &[]).await;
    }
}

#[tokio::test]
async fn new_groups_and_apps_are_gaps_until_they_are_read() {
    let world = World::crawled().await;
    let server = world.serve().await;
    check(&server, "none", &[]).await;
    world.put(vec![Row::Group(group("00gnew", "New", GroupType::OktaGroup))]).await;
    check(&server, "NOT_READ:group_members(00gnew)", &["groups of user"]).await;
    // Only where an app has it, somebody could get a principal by it.
    world.put(vec![Row::AppGroup(assigned("0oaus", "00gnew"))]).await;
    check(&server, "NOT_READ:group_members(00gnew)", &["groups of user", "principals"]).await;
    world.read(members("00gnew"), Vec::new()).await;
    check(&server, "none", &[]).await;
    world.put(vec![Row::App(super::world::app("0oanew", "new", "New"))]).await;
    // Its groups are unread as well, so that the person's principals have two gaps.
    let metas = metas(&server).await;
    let partial: Vec<&(&str, String)> = metas.iter().filter(|(_, meta)| meta != "COMPLETE").collect();
    assert_eq!(
        partial.iter().map(|(name, meta)| format!("{name}: {meta}")).collect::<Vec<_>>(),
        [
            "accounts: PARTIAL 1 NOT_READ:app_users(0oanew)",
            "principals: PARTIAL 2 NOT_READ:app_groups(0oanew) NOT_READ:app_users(0oanew)"
        ]
    );
    world.read(app_users("0oanew"), Vec::new()).await;
    check(&server, "NOT_READ:app_groups(0oanew)", &["principals"]).await;
    world.read(Scope::AppGroups(AppId::new("0oanew").unwrap()), Vec::new()).await;
    check(&server, "none", &[]).await;
}

fn assigned(app: &str, group: &str) -> AppGroup {
    let (app, group) = (AppId::new(app).unwrap(), GroupId::new(group).unwrap());
    AppGroup { app, group, priority: None, last_updated: None }
}

/// What was found over all groups is not remembered for others: as many of them, with the same youngest one.
#[tokio::test]
async fn a_group_that_comes_after_its_assignment_is_not_overlooked() {
    let world = World::crawled().await;
    let server = world.serve().await;
    world.put(vec![Row::AppGroup(assigned("0oaus", "00glate"))]).await;
    let free = ["00gfree", "00glast"].map(|id| Row::Group(group(id, id, GroupType::OktaGroup)));
    world.put(free.to_vec()).await;
    let principals = async || {
        let request = v1::ExpandUserRequest { user: user_by_id("00u0002"), context: None };
        shown_meta(server.lookup().await.expand_user(request).await.unwrap().into_inner().meta.as_ref())
    };
    assert_eq!(principals().await, "COMPLETE");
    let rows = vec![Row::Group(group("00glate", "Late", GroupType::OktaGroup))];
    let removals = vec![Key::Group(GroupId::new("00gfree").unwrap())];
    world.commit(Batch { rows, removals, ..world.batch() }).await;
    assert_eq!(principals().await, "PARTIAL 1 NOT_READ:group_members(00glate)");
}

/// Where only the members of assigned groups are read: of others, an empty list that was read once is no longer true either.
#[tokio::test]
async fn empty_groups_that_no_app_has_any_more_are_told() {
    let world = World::crawled().await;
    world.put(vec![Row::Group(group("00gempty", "Empty", GroupType::OktaGroup))]).await;
    world.put(vec![Row::AppGroup(assigned("0oaus", "00gempty"))]).await;
    world.read(members("00gempty"), Vec::new()).await;
    let is_told = || {
        let told = world.store.reader.read(|snapshot| snapshot.unassigned_groups_with_members()).unwrap();
        told.contains(&GroupId::new("00gempty").unwrap())
    };
    assert!(!is_told());
    world.remove(Key::AppGroup(AppId::new("0oaus").unwrap(), GroupId::new("00gempty").unwrap())).await;
    assert!(is_told());
}

#[tokio::test]
async fn before_the_first_crawl_nothing_is_absent() {
    let world = World::empty();
    let server = world.serve().await;
    let mut lookup = server.lookup().await;
    let request = v1::GetUserRequest { user: user_by_id("00u0002"), context: None };
    let answer = lookup.get_user(request).await.unwrap().into_inner();
    assert_eq!(answer.user.unwrap().outcome(), v1::SubjectOutcome::UnknownGap);
    assert_eq!(shown_meta(answer.meta.as_ref()), "PARTIAL 1 NOT_READ:users");
    let meta = answer.meta.unwrap();
    assert_eq!((meta.snapshot_completed_at, meta.observed_through), (None, None));
    let request = v1::ListAppUsersRequest { app: app_by_id("0oaeu"), ..Default::default() };
    let answer = lookup.list_app_users(request).await.unwrap().into_inner();
    assert_eq!(answer.app.unwrap().outcome(), v1::SubjectOutcome::UnknownGap);
    let request = v1::ListGroupMembersRequest { group_id: "00gops".to_owned(), ..Default::default() };
    let answer = lookup.list_group_members(request).await.unwrap().into_inner();
    assert_eq!(answer.group.unwrap().outcome(), v1::SubjectOutcome::UnknownGap);

    // The apps are known, their accounts are not.
    world.begin_crawl(1).await;
    world.read(Scope::Apps, vec![Row::App(super::world::app("0oaeu", "jira", "Jira EU"))]).await;
    let account = account("0oaeu", "user2", v1::IdentifierKind::UserName);
    let request = v1::ResolveAccountRequest { account: account.clone(), ..Default::default() };
    let answer = lookup.resolve_account(request).await.unwrap().into_inner();
    let resolution = answer.resolution.unwrap();
    assert_eq!(resolution.outcome(), v1::ResolutionOutcome::UnknownGap);
    assert_eq!(resolution.gap_ids, ["NOT_READ:app_users(0oaeu)", "NOT_READ:users"]);
    let items = vec![v1::BatchResolveItem { correlation_id: String::new(), account }];
    let request = v1::BatchResolveRequest { items, ..Default::default() };
    let answer = lookup.batch_resolve(request).await.unwrap().into_inner();
    assert_eq!(shown_meta(answer.meta.as_ref()), "PARTIAL 2 NOT_READ:app_users(0oaeu) NOT_READ:users");
    let target = Some(v1::membership_question::Target::App(app_by_id("0oaeu").unwrap()));
    let question = Some(v1::MembershipQuestion { user: user_by_id("00u0002"), target });
    let request = v1::CheckAppMembershipRequest { question, context: None };
    let answer = lookup.check_app_membership(request).await.unwrap().into_inner().answer.unwrap();
    assert_eq!(answer.membership(), v1::Membership::Unknown);
}

#[tokio::test]
async fn many_gaps_are_cut_and_counted() {
    let world = World::crawled().await;
    let groups: Vec<Row> =
        (0..300).map(|n| Row::Group(group(&format!("00gx{n:03}"), "X", GroupType::OktaGroup))).collect();
    world.put(groups).await;
    let server = world.serve().await;
    let request = v1::ListUserGroupsRequest { user: user_by_id("00u0002"), ..Default::default() };
    let meta = server.lookup().await.list_user_groups(request).await.unwrap().into_inner().meta.unwrap();
    assert_eq!((meta.gap_ids.len(), meta.gap_count), (100, 300));
    assert_eq!(meta.gap_ids[0], "NOT_READ:group_members(00gx000)");
}

#[tokio::test]
async fn rows_of_an_unreadable_collection_are_stale() {
    let world = World::crawled().await;
    world.open_gap(app_users("0oaeu"), GapKind::Forbidden, "403").await;
    let server = world.serve().await;
    let mut lookup = server.lookup().await;
    let account = account("0oaeu", "user2", v1::IdentifierKind::UserName);
    let request = v1::ResolveAccountRequest { account, ..Default::default() };
    let resolution = lookup.resolve_account(request).await.unwrap().into_inner().resolution.unwrap();
    assert_eq!(resolution.outcome(), v1::ResolutionOutcome::Resolved);
    assert!(resolution.app_user.unwrap().stale);
    assert_eq!(resolution.warnings, [i32::from(v1::ResolutionWarning::Stale)]);
    let request = v1::ListUserAccountsRequest { user: user_by_id("00u0002"), ..Default::default() };
    let accounts = lookup.list_user_accounts(request).await.unwrap().into_inner().accounts;
    let stale: Vec<(String, bool)> =
        accounts.into_iter().map(|account| account.app_user.unwrap()).map(|row| (row.app_id, row.stale)).collect();
    assert_eq!(stale.iter().filter(|(_, stale)| *stale).map(|(app, _)| app.as_str()).collect::<Vec<_>>(), ["0oaeu"]);
}

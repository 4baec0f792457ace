//! Paged look-ups: walking all pages gives everything, once.

use std::collections::BTreeSet;

use okta_idmap_proto::v1;
use tonic::Status;

use super::world::{USERS, World, app_by_id, shown_meta, user_by_account, user_by_id, user_id};

/// Walks a list with pages of every size in `sizes` and compares with what it must hold.
macro_rules! check_list {
    ($client:expr, $rpc:ident, $request:expr, $rows:ident, $id:expr, $expected:expr) => {
        let expected: Vec<String> = $expected;
        for page_size in [1, 7, 100, 1_000] {
            let mut found: Vec<String> = Vec::new();
            let mut page_token = String::new();
            loop {
                let mut request = $request.clone();
                (request.page_size, request.page_token) = (page_size, page_token);
                let page = $client.$rpc(request).await.unwrap().into_inner();
                assert!(page.$rows.len() <= usize::try_from(page_size).unwrap());
                found.extend(page.$rows.iter().map($id));
                page_token = page.next_page_token;
                assert!(page_token.len() <= 1_024);
                if page_token.is_empty() {
                    break;
                }
            }
            let unique: BTreeSet<String> = found.iter().cloned().collect();
            assert_eq!(unique.len(), found.len(), "nothing twice");
            assert_eq!(unique, expected.iter().cloned().collect(), "page size {page_size}");
        }
    };
}

fn ids(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn user_ids(numbers: impl Iterator<Item = usize>) -> Vec<String> {
    numbers.map(user_id).collect()
}

#[tokio::test]
async fn apps_and_groups_are_listed() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let id = |app: &v1::App| app.id.clone();
    let all = v1::ListAppsRequest::default();
    check_list!(client, list_apps, all, apps, id, ids(&["0oaeu", "0oaus", "0oashare", "0oaoff"]));
    let request = v1::ListAppsRequest { statuses: vec![v1::AppStatus::Inactive.into()], ..Default::default() };
    check_list!(client, list_apps, request, apps, id, ids(&["0oaoff"]));
    let request = v1::ListAppsRequest { name: "jira".to_owned(), ..Default::default() };
    check_list!(client, list_apps, request, apps, id, ids(&["0oaeu", "0oaus"]));
    let request = v1::ListAppsRequest { label_contains: "jIRA e".to_owned(), ..Default::default() };
    check_list!(client, list_apps, request, apps, id, ids(&["0oaeu"]));

    let id = |group: &v1::Group| group.id.clone();
    let all = v1::ListGroupsRequest::default();
    check_list!(client, list_groups, all, groups, id, ids(&["00gall", "00geng", "00gops", "00gimp"]));
    let request = v1::ListGroupsRequest { name_contains: "Eng-EU".to_owned(), ..Default::default() };
    check_list!(client, list_groups, request, groups, id, ids(&["00geng", "00gimp"]));
    let group_types = vec![v1::GroupType::AppGroup.into(), v1::GroupType::BuiltIn.into()];
    let request = v1::ListGroupsRequest { group_types, ..Default::default() };
    check_list!(client, list_groups, request, groups, id, ids(&["00gall", "00gimp"]));
    let request = v1::ListGroupsRequest { name_contains: "eng".to_owned(), ..Default::default() };
    check_list!(client, list_groups, request, groups, id, ids(&[]));
}

#[tokio::test]
async fn app_users_are_listed() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let id = |account: &v1::Account| account.app_user.as_ref().unwrap().user_id.clone();
    let request = v1::ListAppUsersRequest { app: app_by_id("0oaeu"), ..Default::default() };
    let mut expected = user_ids((0..USERS).step_by(2));
    expected.push("00ughost".to_owned());
    check_list!(client, list_app_users, request, accounts, id, expected);
    // The ghost does not grant.
    let request = v1::ListAppUsersRequest { granting_only: true, ..request };
    check_list!(client, list_app_users, request, accounts, id, user_ids((0..USERS).step_by(2)));
    let statuses = vec![v1::AppUserStatus::Staged.into()];
    let request = v1::ListAppUsersRequest { app: app_by_id("0oaus"), statuses, ..Default::default() };
    check_list!(client, list_app_users, request, accounts, id, user_ids(1..2));
    let request = v1::ListAppUsersRequest { app: app_by_id("0oaoff"), granting_only: true, ..Default::default() };
    check_list!(client, list_app_users, request, accounts, id, Vec::new());

    let request = v1::ListAppUsersRequest { app: app_by_id("0oanone"), ..Default::default() };
    let answer = client.list_app_users(request).await.unwrap().into_inner();
    assert_eq!(answer.app.unwrap().outcome(), v1::SubjectOutcome::NotFound);
    let request = v1::ListAppUsersRequest { app: app_by_id("0oaeu"), page_size: 1_000, ..Default::default() };
    let answer = client.list_app_users(request).await.unwrap().into_inner();
    assert_eq!(shown_meta(answer.meta.as_ref()), "PARTIAL 1 UNSEEN_REFERENCE:user(00ughost)");
    let ghost = answer.accounts.iter().find(|account| id(account) == "00ughost").unwrap();
    assert_eq!(ghost.user.as_ref().unwrap().status(), v1::UserStatus::Unspecified);
    assert_eq!(ghost.app.as_ref().unwrap().label, "Jira EU");
}

#[tokio::test]
async fn what_a_user_has_is_listed() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let id = |account: &v1::Account| account.app_user.as_ref().unwrap().app_id.clone();
    for user in [user_by_id("00u0002"), user_by_account("0oaeu", "user2")] {
        let request = v1::ListUserAccountsRequest { user: user.clone(), ..Default::default() };
        check_list!(client, list_user_accounts, request, accounts, id, ids(&["0oaeu", "0oaus", "0oaoff"]));
        let request = v1::ListUserAccountsRequest { granting_only: true, ..request };
        check_list!(client, list_user_accounts, request, accounts, id, ids(&["0oaeu", "0oaus"]));
        let request = v1::ListUserGroupsRequest { user, ..Default::default() };
        let id = |group: &v1::UserGroup| group.group.as_ref().unwrap().id.clone();
        check_list!(client, list_user_groups, request, groups, id, ids(&["00gall", "00geng", "00gops"]));
    }
    let request = v1::ListUserAccountsRequest { user: user_by_id("00unone"), ..Default::default() };
    let answer = client.list_user_accounts(request).await.unwrap().into_inner();
    assert_eq!(answer.user.unwrap().outcome(), v1::SubjectOutcome::NotFound);
    assert!(answer.accounts.is_empty());
}

#[tokio::test]
async fn members_and_app_groups_are_listed() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let id = |member: &v1::GroupMemberEntry| member.user.as_ref().unwrap().id.clone();
    let request = |id: &str| v1::ListGroupMembersRequest { group_id: id.to_owned(), ..Default::default() };
    let mut expected = user_ids(0..120);
    expected.push("00ughost".to_owned());
    check_list!(client, list_group_members, request("00geng"), members, id, expected);
    check_list!(client, list_group_members, request("00gall"), members, id, user_ids(0..USERS));
    check_list!(client, list_group_members, request("00gimp"), members, id, Vec::new());
    let answer = client.list_group_members(request("00gnone")).await.unwrap().into_inner();
    assert_eq!(answer.group.unwrap().outcome(), v1::SubjectOutcome::NotFound);

    let id = |entry: &v1::AppGroupEntry| {
        format!("{} {:?}", entry.group.as_ref().unwrap().name, entry.app_group.as_ref().unwrap().priority)
    };
    let request = v1::ListAppGroupsRequest { app: app_by_id("0oaeu"), ..Default::default() };
    check_list!(client, list_app_groups, request, groups, id, ids(&["Eng-EU Some(1)", "Ops Some(0)"]));
    let request = v1::ListAppGroupsRequest { app: app_by_id("0oaus"), ..Default::default() };
    check_list!(client, list_app_groups, request, groups, id, ids(&["Everyone None"]));
}

#[tokio::test]
async fn rows_that_stay_are_shown_once_while_others_come_and_go() {
    use okta_idmap::core::ids::UserId;
    use okta_idmap::core::model::{Key, Row};

    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let (mut found, mut page_token) = (Vec::new(), String::new());
    for step in 0_usize.. {
        let request = v1::ListGroupMembersRequest {
            group_id: "00gall".to_owned(),
            page_size: 20,
            page_token,
            ..Default::default()
        };
        let page = client.list_group_members(request).await.unwrap().into_inner();
        found.extend(page.members.into_iter().map(|member| member.user.unwrap().id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        // One of those shown goes, one of those to come goes, a new one comes.
        world.remove(Key::User(UserId::new(&user_id(step)).unwrap())).await;
        world.remove(Key::User(UserId::new(&user_id(USERS - 1 - step)).unwrap())).await;
        let newcomer = super::world::user(1_000 + step);
        world.put(vec![Row::User(newcomer)]).await;
    }
    let unique: BTreeSet<&String> = found.iter().collect();
    assert_eq!(unique.len(), found.len());
    assert!((20..200).all(|n| unique.contains(&user_id(n))));
}

#[tokio::test]
async fn tokens_are_bound_to_their_list() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let reason = |status: Status| {
        use tonic_types::StatusExt as _;
        format!("{:?} {}", status.code(), status.get_error_details().error_info().unwrap().reason)
    };
    let request = v1::ListAppUsersRequest { app: app_by_id("0oaeu"), page_size: 10, ..Default::default() };
    let page_token = client.list_app_users(request.clone()).await.unwrap().into_inner().next_page_token;
    let next = v1::ListAppUsersRequest { page_token: page_token.clone(), ..request.clone() };
    // Another page size and other demands are the same query.
    let context = Some(v1::RequestContext { org: "acme".to_owned(), ..Default::default() });
    let other_size = v1::ListAppUsersRequest { page_size: 50, context, ..next.clone() };
    assert_eq!(client.list_app_users(other_size).await.unwrap().into_inner().accounts.len(), 50);
    let other_app = v1::ListAppUsersRequest { app: app_by_id("0oaus"), ..next.clone() };
    let status = client.list_app_users(other_app).await.unwrap_err();
    assert_eq!(reason(status), "InvalidArgument PAGE_TOKEN_INVALID");
    let other_rpc = v1::ListAppGroupsRequest { app: app_by_id("0oaeu"), page_token, ..Default::default() };
    let status = client.list_app_groups(other_rpc).await.unwrap_err();
    assert_eq!(reason(status), "InvalidArgument PAGE_TOKEN_INVALID");
    let broken = v1::ListAppUsersRequest { page_token: "AAAA".to_owned(), ..request.clone() };
    let status = client.list_app_users(broken).await.unwrap_err();
    assert_eq!(reason(status), "InvalidArgument PAGE_TOKEN_INVALID");
    // The same org with another store.
    let other_world = World::crawled().await;
    let other_server = other_world.serve().await;
    let status = other_server.lookup().await.list_app_users(next).await.unwrap_err();
    assert_eq!(reason(status), "FailedPrecondition PAGE_TOKEN_EXPIRED");
}

#[tokio::test]
async fn a_list_about_a_moved_account_says_nothing_of_its_new_holder() {
    use okta_idmap::core::ids::{AppId, UserId};
    use okta_idmap::core::model::{Key, Row};

    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let request =
        v1::ListUserGroupsRequest { user: user_by_account("0oaus", "three"), page_size: 1, ..Default::default() };
    let page_token = client.list_user_groups(request.clone()).await.unwrap().into_inner().next_page_token;
    let app = AppId::new("0oaus").unwrap();
    // The name that was an account's is another user's e-mail at once: whom the caller means is in doubt.
    world.remove(Key::AppUser(app.clone(), UserId::new(&user_id(3)).unwrap())).await;
    let mut row = super::world::app_user("0oaus", &user_id(7), "seven");
    row.email = Some("three".into());
    world.put(vec![Row::AppUser(row)]).await;
    let next = v1::ListUserGroupsRequest { page_token, ..request };
    let answer = client.list_user_groups(next).await.unwrap().into_inner();
    assert_eq!(answer.groups, []);
    let subject = format!("{:?}", answer.user);
    assert!(subject.contains("outcome: Reused"), "{subject}");
}

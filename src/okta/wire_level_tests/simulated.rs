//! What following asks for, against the simulated org: both sides read the facts, neither reads the other.

use std::collections::BTreeSet;

use okta_sim::{Action, NewApp, NewUser, Org, Refusal, Rule, ServerConfig, SimServer, Spec, UserRef};

use super::*;
use crate::core::ids::GroupId;

/// Pages of any walk here; one that does not end fails instead of hanging.
const PAGES_MAX: usize = 100;

fn world() -> (SimServer, Client) {
    let spec = Spec { users: 120, groups: 12, apps: 12, seed: 4, ..Spec::default() };
    let config = ServerConfig { token: Some("00token".to_owned()), ..ServerConfig::default() };
    let server = SimServer::start(Org::generate(&spec), &config).unwrap();
    let client = Client::new(config_for(&server.base_url()), token()).unwrap();
    (server, client)
}

/// All pages of a list, joined into one.
async fn walk(client: &Client, resource: Resource, limit: u32) -> Page {
    let mut request = PageRequest::First { resource: resource.clone(), limit };
    let mut whole: Option<Page> = None;
    for _ in 0..PAGES_MAX {
        let mut page = client.page(&request, Priority::ById).await.unwrap();
        assert_eq!(page.quarantined, []);
        let next = page.next.take();
        match &mut whole {
            Some(whole) => {
                whole.rows.extend(page.rows);
                whole.user_apps.extend(page.user_apps);
                whole.items += page.items;
            }
            None => whole = Some(page),
        }
        let Some(next) = next else { return whole.unwrap() };
        request = PageRequest::Next { resource: resource.clone(), url: next.into_string() };
    }
    panic!("endless walk of {resource:?}");
}

fn ids(page: &Page) -> BTreeSet<String> {
    let id = |row: &Row| match row {
        Row::User(user) => user.id.as_str().to_owned(),
        Row::Group(group) => group.id.as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    page.rows.iter().map(id).collect()
}

fn set<const N: usize>(ids: [String; N]) -> BTreeSet<String> {
    ids.into()
}

#[tokio::test]
async fn changes_are_found() {
    let (server, client) = world();
    let since = Timestamp::from_millis(server.sim().org.now_ms());
    let (user, group, joined) = {
        let mut sim = server.sim();
        sim.org.advance_ms(60_000);
        let user = sim.org.create_user(&NewUser::new("ada@acme.example")).unwrap();
        let group = sim.org.create_group("tooling");
        sim.org.advance_ms(5_000);
        let joined = sim.org.truth_groups().find(|group| group.name != "Everyone" && group.members > 0).unwrap();
        sim.org.add_member(user, okta_sim::GroupRef::parse(&joined.id).unwrap()).unwrap();
        (user, group, joined.id)
    };
    assert_eq!(ids(&walk(&client, Resource::UsersChanged { since }, 200).await), set([user.id()]));
    let groups = walk(&client, Resource::GroupsChanged { since }, 1).await;
    assert_eq!((ids(&groups), groups.group_stats.len()), (set([group.id(), joined.clone()]), 1));
    let later = since.plus_millis(60_000);
    assert!(walk(&client, Resource::UsersChanged { since: later }, 200).await.rows.is_empty());
    assert_eq!(ids(&walk(&client, Resource::GroupsChanged { since: later }, 200).await), set([joined.clone()]));
    let everyone = server.sim().org.everyone().id();
    let of_user = Resource::UserGroups(UserId::new(&user.id()).unwrap());
    assert_eq!(ids(&walk(&client, of_user, 1).await), set([everyone, joined]));
    assert_eq!(server.sim().requests.violations(), 0);
}

#[tokio::test]
async fn batches_of_users_are_found_as_far_as_the_index_goes() {
    let (server, client) = world();
    let known: Vec<String> = server.sim().org.truth_users().map(|user| user.id).take(USERS_BY_IDS_MAX - 1).collect();
    let new = server.sim().org.create_user(&NewUser::new("ada@acme.example")).unwrap();
    let batch = || {
        let ids = known.iter().cloned().chain([new.id()]);
        Resource::UsersByIds(ids.map(|id| UserId::new(&id).unwrap()).collect())
    };
    server.sim().quirks.index_lag_ms = 1_000;
    let found = ids(&walk(&client, batch(), 200).await);
    assert_eq!(found, known.iter().cloned().collect());
    server.sim().org.advance_ms(1_000);
    let found = ids(&walk(&client, batch(), 20).await);
    assert_eq!((found.len(), found.contains(&new.id())), (USERS_BY_IDS_MAX, true));
}

#[tokio::test]
async fn groups_of_an_app_are_found() {
    let (server, client) = world();
    let (app, imported) = {
        let mut sim = server.sim();
        let app = sim.org.create_app(&NewApp::new("active_directory", "corp"));
        let imported = [sim.org.import_group(app, "a").unwrap().id(), sim.org.import_group(app, "b").unwrap().id()];
        (AppId::new(&app.id()).unwrap(), imported)
    };
    let page = walk(&client, Resource::GroupsOfApp(app.clone()), 1).await;
    assert_eq!(ids(&page), set(imported.clone()));
    assert!(page.rows.iter().all(|row| matches!(row, Row::Group(group) if group.source_app.as_ref() == Some(&app))));
    let group = client.get_group(&GroupId::new(&imported[0]).unwrap(), Priority::ById).await.unwrap().found.unwrap();
    assert_eq!(group.source_app, Some(app));
}

#[tokio::test]
async fn accounts_of_a_user_are_those_that_each_app_shows() {
    let (server, client) = world();
    let user = UserRef::parse(&server.sim().org.truth_users().nth(17).unwrap().id).unwrap();
    let mut expected = Vec::new();
    {
        let mut sim = server.sim();
        let apps: Vec<_> = sim.org.truth_apps().filter_map(|app| okta_sim::AppRef::parse(&app.id)).skip(3).collect();
        for app in apps.iter().take(5) {
            // Some are assigned already, through a group or directly.
            let _ = sim.org.assign_user(*app, user);
        }
        for app in &apps {
            expected.extend(sim.org.truth_app_user(*app, user).map(|row| (row.app_id, row.user_name)));
        }
    }
    assert!(expected.len() >= 3, "{expected:?}");
    let id = UserId::new(&user.id()).unwrap();
    let page = walk(&client, Resource::UserApps(id.clone()), 2).await;
    assert_eq!((page.rows.len(), page.items), (0, page.user_apps.len()));
    let seen = page.user_apps.iter().map(|seen| {
        let account = seen.app_user.as_ref().unwrap();
        (seen.app.as_str().to_owned(), account.user_name.as_deref().map(str::to_owned))
    });
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    for seen in &page.user_apps {
        let read = client.get_app_user(&seen.app, &id, Priority::ById).await.unwrap();
        assert_eq!(read.found, seen.app_user, "the same as by itself");
    }
    server.sim().quirks.expand_lost_on_page_2 = true;
    let lossy = walk(&client, Resource::UserApps(id), 2).await;
    let with_account = lossy.user_apps.iter().filter(|seen| seen.app_user.is_some()).count();
    assert_eq!((lossy.user_apps.len(), with_account), (page.user_apps.len(), 2));
}

#[tokio::test]
async fn the_log_is_anchored_followed_and_lost() {
    let (server, client) = world();
    let since = Timestamp::from_millis(server.sim().org.now_ms()).plus_millis(-300_000);
    let filter = Some("eventType sw \"user.\" or eventType sw \"group.\"".to_owned());
    let anchor = LogRequest::Anchor { since, filter };
    let page = client.log_page(&anchor).await.unwrap();
    assert_eq!((page.events.len(), page.is_full), (0, false));
    let cursor = page.next.unwrap();
    server.sim().org.create_user(&NewUser::new("ada@acme.example")).unwrap();
    server.sim().org.create_app(&NewApp::new("a", "A"));
    let page = client.log_page(&LogRequest::Next(cursor.clone())).await.unwrap();
    let types: Vec<_> = page.events.iter().map(|event| &*event.event_type).collect();
    assert_eq!(types, ["user.lifecycle.create"], "the filter stays in the cursor");
    assert_eq!(page.events[0].published, Timestamp::parse(&server.sim().org.now_iso()));
    server.sim().org.expire_log_cursors();
    let error = client.log_page(&LogRequest::Next(page.next.unwrap())).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::CursorGone);
    server.sim().rules.push(Rule::on("/api/v1/logs", Action::Refuse(Refusal::InvalidSearch)).query("filter="));
    let error = client.log_page(&anchor).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Rejected { code: Some("E0000031".into()) });
    assert!(client.log_page(&LogRequest::Anchor { since, filter: None }).await.unwrap().next.is_some());
    server.sim().rules = vec![Rule::on("/api/v1/logs", Action::Refuse(Refusal::Forbidden))];
    let error = client.log_page(&anchor).await.unwrap_err();
    assert!(matches!(error.kind(), FailureKind::Forbidden { .. }), "{error}");
}

#[tokio::test]
async fn okta_clock_is_virtual_and_known() {
    let (server, client) = world();
    client.org_metadata().await.unwrap();
    let ahead = client.clock_ahead_millis().unwrap();
    server.sim().org.advance_ms(3_600_000);
    client.org_metadata().await.unwrap();
    let gained = client.clock_ahead_millis().unwrap() - ahead;
    // Between the two answers our clock moved on by less than a minute.
    assert!((3_540_000..=3_601_000).contains(&gained), "{gained}");
}

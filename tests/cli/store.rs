//! A small org in a store, made through the library. Entry point: [`fill`].
//!
//! It holds what tempts an output to go wrong: formulas, control characters, names that several have, a gap.

use std::path::Path;

use okta_idmap::config::{Flags, Sources, load};
use okta_idmap::core::batch::{Batch, CrawlMark, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind};
use okta_idmap::core::ids::{AppId, CrawlId, GroupId, RequestNumber, Timestamp, UserId};
use okta_idmap::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Row, Scope, User,
    UserStatus,
};
use okta_idmap::core::reconcile::{Brake, gap_of};
use okta_idmap::engine::OrgSettings;
use okta_idmap::engine::index::Follower;
use okta_idmap::store::{ChangeRetention, Store, StoreConfig};

use super::harness::CANARY;

/// Time of everything, 2026-03-04T05:06:07Z.
const NOW_MILLIS: i64 = 1_772_600_767_000;
/// The org's directory below the working directory.
const ORG_DIR: &str = "okta-idmap-data/acme";

fn user_id(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn group_id(id: &str) -> GroupId {
    GroupId::new(id).unwrap()
}

fn app_id(id: &str) -> AppId {
    AppId::new(id).unwrap()
}

fn user(id: &str, login: &str, email: &str, first_name: &str, status: UserStatus) -> Row {
    Row::User(User {
        id: user_id(id),
        status,
        login: Some(login.into()),
        email: Some(email.into()),
        second_email: None,
        first_name: Some(first_name.into()),
        last_name: None,
        display_name: None,
        created: Some(Timestamp::from_millis(NOW_MILLIS)),
        last_updated: None,
        status_changed: None,
    })
}

fn group(id: &str, name: &str) -> Row {
    Row::Group(Group {
        id: group_id(id),
        name: name.into(),
        description: None,
        group_type: GroupType::OktaGroup,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    })
}

fn app(id: &str, name: &str, label: &str) -> Row {
    Row::App(App {
        id: app_id(id),
        name: name.into(),
        label: label.into(),
        status: AppStatus::Active,
        sign_on_mode: Some("SAML_2_0".into()),
        features: Vec::new(),
        credential_scheme: None,
        shared_user_name: None,
        user_name_template: None,
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    })
}

fn account(app: &str, user: &str, user_name: &str, external_id: Option<&str>) -> Row {
    Row::AppUser(AppUser {
        app: app_id(app),
        user: user_id(user),
        user_name: Some(user_name.into()),
        external_id: external_id.map(Box::from),
        email: None,
        status: AppUserStatus::Active,
        scope: AssignmentScope::User,
        sync_state: None,
        via_group: None,
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

fn member(group: &str, user: &str) -> Row {
    Row::GroupMember(GroupMember { group: group_id(group), user: user_id(user) })
}

fn rows() -> Vec<Row> {
    vec![
        user("00u1", "ada@acme.example", "ada@acme.example", "Ada", UserStatus::Active),
        user("00u2", "grace", "both@acme.example", "Grace", UserStatus::Active),
        user("00u3", "eve", "both@acme.example", "=cmd|'/C calc'!A1", UserStatus::Suspended),
        user("00u4", "joan", "joan.only@acme.example", "Joan", UserStatus::Active),
        group("00g1", "Eng"),
        group("00g2", "Eng"),
        group("00g3", "@SUM(1,2)"),
        app("0oa1", "jira", "Jira"),
        app("0oa2", "wiki", "Wiki \u{1b}[31mred\u{202e}"),
        app("0oa3", "wiki", "Second wiki"),
        member("00g3", "00u1"),
        account("0oa1", "00u1", "ada", Some("X-1")),
        account("0oa1", "00u2", "twin", None),
        account("0oa1", "00u4", "twin", None),
        account("0oa1", "00u3", "=eve", None),
        Row::AppGroup(AppGroup { app: app_id("0oa1"), group: group_id("00g3"), priority: Some(2), last_updated: None }),
    ]
}

/// Every collection that was read to its end; the accounts of 0oa2 may not be read.
fn complete() -> Vec<Scope> {
    let mut scopes = vec![Scope::Users, Scope::Groups, Scope::Apps];
    scopes.extend(["00g1", "00g2", "00g3"].map(|id| Scope::GroupMembers(group_id(id))));
    scopes.extend(["0oa1", "0oa3"].map(|id| Scope::AppUsers(app_id(id))));
    scopes.extend(["0oa1", "0oa2", "0oa3"].map(|id| Scope::AppGroups(app_id(id))));
    scopes
}

pub(crate) fn batch(at: u64, rows: Vec<Row>) -> Batch {
    Batch { now: Timestamp::from_millis(NOW_MILLIS), at: RequestNumber(at), rows, ..Batch::default() }
}

/// Makes the store of the org acme in `place`, which has a configuration for it, and its search index.
pub(crate) fn fill(place: &Path) {
    fill_with(place, rows());
}

/// As [`fill`], with so many more users that lists have several pages.
pub(crate) fn fill_many(place: &Path, users: usize) {
    let mut rows = rows();
    for number in 0..users {
        let id = format!("00umany{number:06}");
        rows.push(user(&id, &format!("many{number}"), "", "Many", UserStatus::Active));
        rows.push(account("0oa1", &id, &format!("many{number}"), None));
    }
    fill_with(place, rows);
}

/// Opens the store for writing.
pub(crate) fn open(place: &Path) -> Store {
    let dir = place.join(ORG_DIR);
    let changes = ChangeRetention::default();
    Store::open(StoreConfig {
        dir,
        brake: Brake::default(),
        credential: "test".to_owned(),
        changes,
        filter: okta_idmap::core::filter::Filter::default(),
    })
    .unwrap()
}

/// Lets the list of users of a store that [`fill_many`] made come without those many: the brake holds them, and probes say
/// that some are still there.
pub(crate) async fn hold_users(store: &Store, at: u64) {
    let rows = rows().into_iter().filter(|row| matches!(row, Row::User(_))).collect();
    let mut walked = batch(at, rows);
    let from = RequestNumber(at);
    let state = WalkState::Finished { from, began: Timestamp::default(), known_empty: false, ended: Vec::new() };
    walked.walks = vec![WalkUpdate { scope: Scope::Users, state }];
    let done = store.writer.commit(Box::new(walked)).await.unwrap().await.unwrap().unwrap().finished.remove(0);
    let probed = Batch {
        gaps: gap_of(&done.scope, done.verdict, done.missing, done.stored).into_iter().collect(),
        ..batch(at, vec![])
    };
    store.writer.commit(Box::new(probed)).await.unwrap().await.unwrap().unwrap();
}

/// Loses the position in the log: a gap that stands against every answer.
pub(crate) async fn lose_the_log(store: &Store, at: u64) {
    let evidence = "GET /api/v1/logs: 400 E0000053".to_owned();
    let mut lost = batch(at, Vec::new());
    lost.gaps = vec![Gap { scope: Scope::Log, kind: GapKind::LogLost, evidence }];
    store.writer.commit(Box::new(lost)).await.unwrap().await.unwrap().unwrap();
}

/// Gives Jira a user name template, by which a further user would have the name of one who has an account.
pub(crate) async fn use_template(store: &Store, at: u64, template: &str) {
    let Row::App(jira) = app("0oa1", "jira", "Jira") else { return };
    let jira = App { user_name_template: Some(template.into()), ..jira };
    let ada = user("00u9", "ada@other.example", "", "Ada", UserStatus::Active);
    let changed = batch(at, vec![Row::App(jira), ada]);
    store.writer.commit(Box::new(changed)).await.unwrap().await.unwrap().unwrap();
}

/// A user of this number and no other meaning.
pub(crate) fn some_user(number: usize) -> Row {
    user(&format!("00usome{number}"), &format!("some{number}"), "", "Some", UserStatus::Active)
}

fn fill_with(place: &Path, rows: Vec<Row>) {
    let store = open(place);
    let mut first = batch(1, Vec::new());
    first.crawl = Some(CrawlMark::Begin { id: CrawlId(1), fingerprint: "test".to_owned() });
    let mut last = batch(3, Vec::new());
    last.walks = complete()
        .into_iter()
        .map(|scope| WalkUpdate {
            scope,
            state: WalkState::Finished {
                from: RequestNumber(2),
                began: Timestamp::default(),
                known_empty: false,
                ended: Vec::new(),
            },
        })
        .collect();
    let hidden = Scope::AppUsers(app_id("0oa2"));
    last.walks.push(WalkUpdate { scope: hidden.clone(), state: WalkState::GivenUp });
    let evidence = "GET /api/v1/apps/0oa2/users: status 403 E0000006".to_owned();
    last.gaps = vec![Gap { scope: hidden, kind: GapKind::Forbidden, evidence }];
    let mut end = batch(4, Vec::new());
    end.crawl = Some(CrawlMark::End { id: CrawlId(1) });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        store.writer.bind_org("00oacme".to_owned()).await.unwrap();
        for batch in [first, batch(2, rows), last, end] {
            store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap();
        }
    });
    let mut follower = Follower::open(&settings(place), &store.reader).unwrap();
    follower.catch_up(&|| true).unwrap();
}

fn settings(place: &Path) -> OrgSettings {
    let variables = [
        ("OKTA_IDMAP_DATA_DIR", place.join("okta-idmap-data").display().to_string()),
        ("OKTA_IDMAP_ORGS__ACME__DOMAIN", "http://127.0.0.1:9".to_owned()),
        ("OKTA_IDMAP_ORGS__ACME__API_TOKEN", CANARY.to_owned()),
    ];
    let env = variables.map(|(name, value)| (name.to_owned(), value));
    let sources = Sources { file: None, env, flags: Flags::default() };
    let (config, _) = load(sources, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
    OrgSettings::from_config(&config, config.require_org(None).unwrap()).unwrap()
}

//! Principals of a copy: the published examples, and where it refuses.

use okta_idmap_proto::limits::REQUEST_BYTES_MAX;
use okta_idmap_proto::v1::{acl_entry::Principal, app_group_selector::Selector, user_selector};
use serde_json::Value;

use super::*;
use crate::core::coverage::CoveragePolicy;
use crate::core::ids::Revision;
use crate::core::model::{
    App, AppGroup, AppStatus, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Key, Row, Scope,
    UserStatus,
};
use crate::core::policy::GrantPolicySettings;

const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);

const STORE: &str = "s";

fn user_id(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn app_id(id: &str) -> AppId {
    AppId::new(id).unwrap()
}

fn group_id(id: &str) -> GroupId {
    GroupId::new(id).unwrap()
}

fn user(id: &str) -> Row {
    Row::User(User {
        id: user_id(id),
        status: UserStatus::Active,
        login: Some("ann@example.com".into()),
        email: None,
        second_email: None,
        first_name: None,
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

fn app(id: &str) -> Row {
    Row::App(App {
        id: app_id(id),
        name: "jira".into(),
        label: "Jira".into(),
        status: AppStatus::Active,
        sign_on_mode: None,
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

fn account(app: &str, user: &str) -> Row {
    Row::AppUser(AppUser {
        app: app_id(app),
        user: user_id(user),
        user_name: Some("ann".into()),
        external_id: None,
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

fn group(id: &str, name: &str) -> Group {
    Group {
        id: group_id(id),
        name: name.into(),
        description: None,
        group_type: GroupType::OktaGroup,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    }
}

fn everyone(id: &str) -> Row {
    Row::Group(Group { group_type: GroupType::BuiltIn, ..group(id, "Everyone") })
}

fn member(group: &str, user: &str) -> Row {
    Row::GroupMember(GroupMember { group: group_id(group), user: user_id(user) })
}

fn assigned(app: &str, group: &str) -> Row {
    Row::AppGroup(AppGroup { app: app_id(app), group: group_id(group), priority: None, last_updated: None })
}

/// What the server of an org says to an access list that names nobody.
fn nobody(store_id: &str, deny_all: &str) -> v1::ResolveAclResponse {
    let meta = v1::ResponseMeta { store_id: store_id.to_owned(), ..v1::ResponseMeta::default() };
    v1::ResolveAclResponse {
        meta: Some(meta),
        principals: vec![deny_all.to_owned()],
        encoder_version: ENCODER_VERSION,
        deny_all: true,
        ..v1::ResolveAclResponse::default()
    }
}

/// A copy of these rows in which every collection was read, without an org.
fn copy_of(rows: Vec<Row>) -> Mirror {
    let mut scopes = vec![Scope::Users, Scope::Groups, Scope::Apps, Scope::Log];
    let mut table = Table::default();
    for row in rows {
        match &row {
            Row::App(app) => scopes.extend([Scope::AppUsers(app.id.clone()), Scope::AppGroups(app.id.clone())]),
            Row::Group(group) => scopes.push(Scope::GroupMembers(group.id.clone())),
            _ => {}
        }
        table.put(row);
    }
    let mut coverage = Coverage::default();
    for scope in scopes {
        coverage.completed(scope, NOW);
    }
    let grant = Arc::new(GrantPolicy::new(&GrantPolicySettings::default()).unwrap());
    let policy = Policy { grant, coverage: CoveragePolicy::default(), wire: v1::ResolutionPolicy::default() };
    let revision = Revision(7).0;
    let meta = v1::ResponseMeta { revision, store_id: STORE.to_owned(), ..v1::ResponseMeta::default() };
    let mark =
        Mark { meta, served_at: NOW, observed_at: Some(NOW), keeps_filtered_names: false, policy_id: String::new() };
    let (remembered, encoder) = (Remembered::default(), None);
    Mirror { table, coverage, policy, mark, forgotten_at: NOW, remembered, encoder }
}

/// Ann, with an account, in a group of the app; the org is told.
fn copy() -> Mirror {
    let mut copy = copy_of(vec![
        user("00u1"),
        app("0oa1"),
        account("0oa1", "00u1"),
        everyone("00gall"),
        Row::Group(group("00g1", "Eng")),
        member("00g1", "00u1"),
        assigned("0oa1", "00g1"),
    ]);
    copy.tell_org(OrgTold::read(&nobody(STORE, "oidm1:00o1:deny-all")).as_ref());
    copy
}

fn of_account(app: &str) -> v1::AclEntry {
    v1::AclEntry { principal: Some(Principal::Account(crate::client::calls::account(app, "ann"))) }
}

fn of_group(app: &str, selector: Selector) -> v1::AclEntry {
    let app = v1::AppSelector { selector: Some(v1::app_selector::Selector::Any(app.to_owned())) };
    let selector = v1::AppGroupSelector { app: Some(app), selector: Some(selector) };
    v1::AclEntry { principal: Some(Principal::AppGroup(selector)) }
}

fn by_id(app: &str, id: &str) -> v1::AclEntry {
    of_group(app, Selector::GroupId(id.to_owned()))
}

fn by_name(app: &str, name: &str) -> v1::AclEntry {
    of_group(app, Selector::Name(name.to_owned()))
}

/// Whether this is all; ids may look like it.
fn is_nobody(principals: &[String], kind: &str) -> bool {
    matches!(principals, [one] if one.split(':').skip(2).eq([kind]))
}

/// What a document gets, and whether it is safe; the reason of a refusal.
fn document(copy: &Mirror, entries: Vec<v1::AclEntry>) -> String {
    match copy.resolve_acl(&v1::ResolveAclRequest { context: None, entries }, NOW) {
        Ok(Answer::Local(answer)) => {
            let safe = if answer.safe_to_index { " safe" } else { "" };
            assert_eq!(answer.deny_all, is_nobody(&answer.principals, "deny-all"));
            format!("{}{safe}", answer.principals.join(" "))
        }
        Ok(Answer::OnlyServerKnows) => "OnlyServerKnows".to_owned(),
        Err(refusal) => format!("{:?}", refusal.reason.unwrap()),
    }
}

/// What a person gets, and the gaps; the reason of a refusal.
fn person(copy: &Mirror, selector: user_selector::Selector) -> String {
    let user = Some(v1::UserSelector { selector: Some(selector) });
    match copy.expand_user(&v1::ExpandUserRequest { context: None, user }, NOW) {
        Ok(Answer::Local(answer)) => {
            assert_eq!(answer.match_nothing, is_nobody(&answer.principals, "match-nothing"));
            [answer.principals, answer.meta.unwrap().gap_ids].concat().join(" ")
        }
        Ok(Answer::OnlyServerKnows) => "OnlyServerKnows".to_owned(),
        Err(refusal) => format!("{:?}", refusal.reason.unwrap()),
    }
}

fn by_user_id(id: &str) -> user_selector::Selector {
    user_selector::Selector::UserId(id.to_owned())
}

fn by_login(login: &str) -> user_selector::Selector {
    user_selector::Selector::Login(login.to_owned())
}

/// A document and a person who get each of the examples, from a copy in which nobody else is.
#[test]
fn the_published_vectors_are_what_a_copy_gives() {
    let file: Value = serde_json::from_str(include_str!("../../../docs/principals/vectors.json")).unwrap();
    assert_eq!(file["encoder_version"], ENCODER_VERSION);
    let vectors = file["vectors"].as_array().unwrap();
    assert!(vectors.len() > 5);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str();
        let (org, principal) = (text("org_id").unwrap(), text("principal").unwrap());
        let user = text("user_id").unwrap_or("00u1");
        let (app_name, group_name) = (text("app_id").unwrap_or("0oa1"), text("group_id").unwrap_or("00g1"));
        let mut copy = copy_of(vec![
            self::user(user),
            app(app_name),
            account(app_name, user),
            Row::Group(group(group_name, "Eng")),
            member(group_name, user),
            assigned(app_name, group_name),
        ]);
        copy.tell_org(OrgTold::read(&nobody(STORE, &format!("oidm1:{org}:deny-all"))).as_ref());
        match text("kind").unwrap() {
            "user" => {
                assert_eq!(document(&copy, vec![of_account(app_name)]), format!("{principal} safe"));
                let found = person(&copy, by_user_id(user));
                assert!(found.split(' ').any(|found| found == principal), "{vector}: {found}");
            }
            "group" => {
                assert_eq!(document(&copy, vec![by_id(app_name, group_name)]), format!("{principal} safe"));
                let found = person(&copy, by_user_id(user));
                assert!(found.split(' ').any(|found| found == principal), "{vector}: {found}");
            }
            "deny-all" => assert_eq!(document(&copy, Vec::new()), format!("{principal} safe")),
            "match-nothing" => assert_eq!(person(&copy, by_login("nobody@example.com")), principal),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn without_its_org_a_copy_makes_no_principals() {
    let mut copy = copy();
    assert_eq!(person(&copy, by_user_id("00u1")), "oidm1:00o1:group:0oa1:00g1 oidm1:00o1:user:00u1");
    assert_eq!(document(&copy, Vec::new()), "oidm1:00o1:deny-all safe");
    copy.tell_org(None);
    assert_eq!(person(&copy, by_user_id("00u1")), "OnlyServerKnows");
    assert_eq!(document(&copy, Vec::new()), "OnlyServerKnows");
    // What makes no sense does so for everybody.
    assert_eq!(person(&copy, by_user_id("a b")), "FieldInvalid");
    assert_eq!(document(&copy, vec![v1::AclEntry::default(); 1_001]), "TooManyItems");
    // The org of another store is none.
    copy.tell_org(OrgTold::read(&nobody("another", "oidm1:00o1:deny-all")).as_ref());
    assert_eq!(document(&copy, Vec::new()), "OnlyServerKnows");
    // Nor is what another encoder says, or nobody.
    for other in ["oidm2:00o1:deny-all", "oidm1:00o1:user:00u1", ""] {
        assert!(OrgTold::read(&nobody(STORE, other)).is_none(), "{other}");
    }
    let newer = v1::ResolveAclResponse { encoder_version: 2, ..nobody(STORE, "oidm1:00o1:deny-all") };
    assert!(OrgTold::read(&newer).is_none());
    assert!(OrgTold::read(&v1::ResolveAclResponse::default()).is_none());
}

/// Ids without a row may be those of somebody whom the filter keeps out, whether or not names are.
#[test]
fn what_the_filter_may_keep_out_only_the_server_knows() {
    let mut copy = copy();
    assert_eq!(person(&copy, by_user_id("00u2")), "OnlyServerKnows");
    assert_eq!(document(&copy, vec![of_account("0oa1"), by_id("0oa1", "00g2")]), "OnlyServerKnows");
    // Names are told apart.
    assert_eq!(person(&copy, by_login("nobody@example.com")), "oidm1:00o1:match-nothing");
    assert_eq!(document(&copy, vec![by_name("0oa1", "Ops")]), "oidm1:00o1:deny-all safe");
    copy.mark.keeps_filtered_names = true;
    assert_eq!(person(&copy, by_login("nobody@example.com")), "OnlyServerKnows");
    assert_eq!(person(&copy, by_login("ANN@example.com")), "oidm1:00o1:group:0oa1:00g1 oidm1:00o1:user:00u1");
    // Names of groups are not kept.
    assert_eq!(document(&copy, vec![by_name("0oa1", "Ops")]), "oidm1:00o1:deny-all safe");
    assert_eq!(document(&copy, vec![of_account("0oa1"), by_name("0oa1", "Eng")]), {
        "oidm1:00o1:group:0oa1:00g1 oidm1:00o1:user:00u1 safe"
    });
}

#[test]
fn which_of_two_everyones_counts_only_the_server_knows() {
    let mut copy = copy();
    copy.table.put(assigned("0oa1", "00gall"));
    let all = "oidm1:00o1:group:0oa1:00g1 oidm1:00o1:group:0oa1:00gall oidm1:00o1:user:00u1";
    assert_eq!(person(&copy, by_user_id("00u1")), all);
    copy.table.put(everyone("00gall2"));
    assert_eq!(person(&copy, by_user_id("00u1")), "OnlyServerKnows");
    copy.table.remove(&Key::Group(group_id("00gall2")));
    assert_eq!(person(&copy, by_user_id("00u1")), all);
}

/// A message that the server does not read is not read here.
#[test]
fn what_is_too_large_for_the_server_is_not_answered_here() {
    let copy = copy();
    let name = "x".repeat(REQUEST_BYTES_MAX);
    assert_eq!(document(&copy, vec![by_name("0oa1", &name)]), "OnlyServerKnows");
    assert_eq!(person(&copy, by_login(&name)), "OnlyServerKnows");
    assert_eq!(document(&copy, vec![by_name("0oa1", &name[..5_000])]), "oidm1:00o1:deny-all");
}

/// What is remembered of the gaps is that of the copy as it is.
#[test]
fn gaps_are_those_of_the_moment() {
    let mut copy = Some(copy());
    let mut draft = Draft::following(100);
    let found = |copy: &Option<Mirror>| person(copy.as_ref().unwrap(), by_user_id("00u1"));
    let all = "oidm1:00o1:group:0oa1:00g1 oidm1:00o1:user:00u1";
    assert_eq!(found(&copy), all);
    let mut take = |copy: &mut Option<Mirror>, event| {
        use v1::change_event::Event;
        let resolution = v1::ResolutionMark {
            consistent: true,
            served_at: Some(crate::serve::timestamp(NOW)),
            ..v1::ResolutionMark::default()
        };
        let meta = v1::ResponseMeta { revision: 8, store_id: STORE.to_owned(), ..v1::ResponseMeta::default() };
        let checkpoint = v1::Checkpoint { meta: Some(meta), resolution: Some(resolution), ..Default::default() };
        for event in [event, Event::Checkpoint(checkpoint)] {
            let step = draft.apply(v1::ChangeEvent { revision: 8, event: Some(event) }).unwrap();
            if let Step::Publish(change) = step {
                change.make(copy).unwrap();
            }
        }
    };
    let scope = |open_gaps: Vec<i32>, completed_at| v1::ScopeCoverage {
        scope: "group_members(00g1)".to_owned(),
        completed_at,
        open_gaps,
        settled: true,
        unread_rows: None,
    };
    let told =
        |scope| v1::change_event::Event::Coverage(v1::CoverageChange { scopes: vec![scope], ..Default::default() });
    let read_at = Some(crate::serve::timestamp(NOW));
    take(&mut copy, told(scope(vec![v1::GapKind::Forbidden.into()], read_at)));
    assert_eq!(found(&copy), format!("{all} FORBIDDEN:group_members(00g1)"));
    take(&mut copy, told(scope(Vec::new(), read_at)));
    assert_eq!(found(&copy), all);
    // A group that an app gets is one whose members count.
    let further = v1::Group {
        id: "00g2".to_owned(),
        source_app_id: "0oa1".to_owned(),
        group_type: v1::GroupType::OktaGroup.into(),
        ..v1::Group::default()
    };
    take(&mut copy, v1::change_event::Event::Upsert(v1::Row { row: Some(v1::row::Row::Group(further)) }));
    assert_eq!(found(&copy), format!("{all} NOT_READ:group_members(00g2)"));
    // A copy that was cloned has its own.
    let mut clone = copy.clone();
    take(&mut clone, told(scope(vec![v1::GapKind::Failed.into()], read_at)));
    assert_eq!(found(&clone), format!("{all} FAILED:group_members(00g1) NOT_READ:group_members(00g2)"));
    assert_eq!(found(&copy), format!("{all} NOT_READ:group_members(00g2)"));
}

#[test]
fn what_groups_are_found_by_is_what_the_rows_say() {
    let (groups, apps, names) = (["00g1", "00g2", "00g3"], ["0oa1", "0oa2"], ["Eng", "Ops"]);
    let (mut table, mut random) = (Table::default(), fastrand::Rng::with_seed(5));
    let mut rows: std::collections::BTreeMap<GroupId, Group> = Default::default();
    let mut assignments: std::collections::BTreeSet<(AppId, GroupId)> = Default::default();
    for _ in 0..3_000 {
        let (id, of) = (group_id(random.choice(groups).unwrap()), app_id(random.choice(apps).unwrap()));
        match random.u8(..4) {
            0 => {
                let source_app = random.bool().then_some(of);
                let row = Group { source_app, ..group(id.as_str(), random.choice(names).unwrap()) };
                table.put(Row::Group(row.clone()));
                rows.insert(id, row);
            }
            1 => {
                table.remove(&Key::Group(id.clone()));
                rows.remove(&id);
            }
            2 => {
                table.put(assigned(of.as_str(), id.as_str()));
                assignments.insert((of, id));
            }
            _ => {
                table.remove(&Key::AppGroup(of.clone(), id.clone()));
                assignments.remove(&(of, id));
            }
        }
        assert_eq!(table.len(), rows.len() + assignments.len());
        let is_assigned = |app: &AppId, group: &GroupId| assignments.contains(&(app.clone(), group.clone()));
        let is_imported = |app: &AppId, row: &Group| row.source_app.as_ref() == Some(app);
        for app in apps.map(app_id) {
            for name in names {
                let is_it = |row: &&Group| &*row.name == name && (is_assigned(&app, &row.id) || is_imported(&app, row));
                let expected: Vec<&Group> = rows.values().filter(is_it).collect();
                assert_eq!(table.groups().named(&app, name, 9), expected);
            }
            let unseen = assignments.iter().find(|(of, group)| *of == app && !rows.contains_key(group));
            assert_eq!(table.groups().unseen_of(&app), unseen.map(|(_, group)| group));
        }
        let has_app =
            |row: &&Group| row.source_app.is_some() || apps.iter().any(|app| is_assigned(&app_id(app), &row.id));
        let mut of_apps: Vec<&GroupId> = table.groups().of_apps().collect();
        of_apps.sort_unstable();
        assert_eq!(of_apps, rows.values().filter(has_app).map(|row| &row.id).collect::<Vec<_>>());
    }
}

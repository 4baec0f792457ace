//! What answers are taken for: one case a line.

use super::*;
use crate::core::ids::{AppId, GroupId};
use crate::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupStats, GroupType, Row,
    User, UserStatus,
};

fn user(id: &str) -> User {
    User {
        id: UserId::new(id).unwrap(),
        status: UserStatus::Active,
        login: Some("someone".into()),
        email: Some("someone@acme.example".into()),
        second_email: None,
        first_name: None,
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

fn group(id: &str, name: &str, group_type: GroupType) -> Row {
    Row::Group(Group {
        id: GroupId::new(id).unwrap(),
        name: name.into(),
        description: None,
        group_type,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    })
}

fn app(id: &str, name: &str) -> Row {
    Row::App(App {
        id: AppId::new(id).unwrap(),
        name: name.into(),
        label: name.into(),
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

fn account(user: &str, via_group: Option<&str>) -> Row {
    Row::AppUser(AppUser {
        app: AppId::new("0oajira").unwrap(),
        user: UserId::new(user).unwrap(),
        user_name: None,
        external_id: None,
        email: None,
        status: AppUserStatus::Active,
        scope: AssignmentScope::User,
        sync_state: None,
        via_group: via_group.map(|id| GroupId::new(id).unwrap()),
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

fn member(user: &str) -> Row {
    Row::GroupMember(GroupMember { group: GroupId::new("00geng").unwrap(), user: UserId::new(user).unwrap() })
}

fn stats(id: &str, users: u64) -> (GroupId, GroupStats) {
    (GroupId::new(id).unwrap(), GroupStats { users, apps: 0 })
}

fn users(ids: &[&str]) -> Vec<Row> {
    ids.iter().map(|id| Row::User(user(id))).collect()
}

/// What the answers of an org in which everything can be seen show.
fn whole() -> Sight {
    let mut sight = Sight::default();
    sight.note(Probe::UserSearch, &users(&["00u1", "00u2", "00u3"]), &[], true);
    let groups = [group("00gall", "Everyone", GroupType::BuiltIn), group("00geng", "Eng", GroupType::OktaGroup)];
    sight.note(Probe::Groups, &groups, &[stats("00gall", 3), stats("00geng", 2)], true);
    sight.note(Probe::Apps, &[app("0oaconsole", "saasure"), app("0oajira", "jira")], &[], true);
    sight.note(Probe::GroupMembers, &[member("00u1"), member("00u2")], &[], true);
    sight.note(Probe::AppUsers, &[account("00u1", Some("00geng"))], &[], true);
    sight
}

#[track_caller]
fn check(sight: &Sight, probe: Probe, answer: Answer, result: ProbeResult, detail_part: &str) {
    let verdict = sight.judge(probe, &answer);
    assert_eq!(verdict.result, result, "{verdict:?}");
    assert!(verdict.detail.contains(detail_part), "{verdict:?}");
    let is_told = !result.is_fine() && result != ProbeResult::NotAsked;
    assert_eq!((!verdict.hides.is_empty(), !verdict.remedy.is_empty()), (is_told, is_told), "{verdict:?}");
}

fn forbidden(missing_scope: Option<&str>) -> Answer {
    let detail = "GET /api/v1/x: 403".to_owned();
    Answer::Failed(ReadFailure::Forbidden { missing_scope: missing_scope.map(str::to_owned), detail })
}

#[test]
fn an_org_that_is_seen_whole_is_readable() {
    for probe in Probe::ALL {
        check(&whole(), probe, Answer::Shown, ProbeResult::Readable, "");
    }
}

#[test]
fn failures_keep_their_kind() {
    let sight = whole();
    let failed = |detail: &str| Answer::Failed(ReadFailure::Failed { detail: detail.to_owned() });
    let dead = || Answer::Failed(ReadFailure::Unauthorized { detail: "401".to_owned() });
    check(&sight, Probe::Groups, forbidden(None), ProbeResult::Forbidden, "403");
    check(&sight, Probe::Groups, forbidden(Some("okta.groups.read")), ProbeResult::ScopeMissing, "403");
    check(&sight, Probe::Log, failed("500"), ProbeResult::Failed, "500");
    check(&sight, Probe::Users, dead(), ProbeResult::Unauthorized, "401");
    let unreachable = Answer::Failed(ReadFailure::Unreachable { detail: "no route".to_owned() });
    check(&sight, Probe::Org, unreachable, ProbeResult::Unreachable, "no route");
    check(&sight, Probe::UserSearch, Answer::NotOffered, ProbeResult::NotOffered, "");
    check(&sight, Probe::AppUsers, Answer::NotAsked("no app".to_owned()), ProbeResult::NotAsked, "no app");
    // Only lists that have rows in every org; an app may have no users.
    check(&sight, Probe::Apps, Answer::Empty, ProbeResult::Empty, "");
    check(&sight, Probe::AppUsers, Answer::Empty, ProbeResult::Readable, "");
    // Nice to know, and nobody's trouble, unless nothing works.
    check(&sight, Probe::Roles, forbidden(None), ProbeResult::NotTold, "403");
    check(&sight, Probe::ApiTokens, forbidden(Some("okta.apiTokens.read")), ProbeResult::NotTold, "403");
    check(&sight, Probe::Owner, dead(), ProbeResult::Unauthorized, "401");
}

#[test]
fn parts_that_are_left_out_are_proven() {
    use ProbeResult::{Partial, Readable};
    let shown = || Answer::Shown;
    // Members that no list of users shows.
    let mut sight = whole();
    sight.stats.extend([stats("00gall", 9)]);
    check(&sight, Probe::UserSearch, shown(), Partial, "shows 3 users, and Okta counts 9 members in group 00gall");
    sight.users.is_whole = false;
    check(&sight, Probe::UserSearch, shown(), Readable, "");
    let mut sight = whole();
    sight.stats.extend([stats("00geng", 3)]);
    check(&sight, Probe::GroupMembers, shown(), Partial, "shows 2 members of group 00geng, and Okta counts 3");
    let verdict = sight.judge(Probe::GroupMembers, &shown());
    assert!(verdict.remedy.contains("okta.users.read on all users"), "{verdict:?}");
    let mut sight = whole();
    sight.note_no_members(&GroupId::new("00geng").unwrap());
    check(&sight, Probe::GroupMembers, Answer::Empty, Partial, "shows 0 members");
    // Everyone.
    let mut sight = Sight::default();
    sight.note(Probe::Groups, &[group("00geng", "Everyone", GroupType::OktaGroup)], &[], true);
    check(&sight, Probe::Groups, shown(), Partial, "Everyone");
    // Attributes.
    let mut sight = whole();
    let nameless = User { login: None, ..user("00u1") };
    sight.note(Probe::Users, &[Row::User(nameless)], &[], false);
    check(&sight, Probe::Users, shown(), Partial, "1 of 1 users come without login or e-mail");
    check(&sight, Probe::UserSearch, shown(), Readable, "");
    // What is named and not there; what is listed and not there.
    let mut sight = whole();
    sight.note(Probe::AppUsers, &[account("00u9", Some("00g9"))], &[], true);
    assert_eq!(sight.user_to_read().unwrap().as_str(), "00u9");
    check(&sight, Probe::User, Answer::Absent, Partial, "app_users(0oajira) names 00u9");
    check(&sight, Probe::Group, Answer::Absent, Partial, "app_users(0oajira) names 00g9");
    check(&sight, Probe::User, shown(), Readable, "");
    check(&whole(), Probe::App, Answer::Absent, Partial, "the list shows 0oaconsole");
}

#[test]
fn everyone_is_looked_for_where_the_page_may_not_show_it() {
    let mut sight = Sight::default();
    assert!(!sight.must_look_for_everyone());
    sight.note(Probe::Groups, &[group("00geng", "Eng", GroupType::OktaGroup)], &[], false);
    assert!(sight.must_look_for_everyone());
    check(&sight, Probe::Groups, Answer::Shown, ProbeResult::Readable, "");
    let mut found = sight.clone();
    found.note_built_in_groups(&[group("00gall", "Everyone", GroupType::BuiltIn)], &[stats("00gall", 3)]);
    check(&found, Probe::Groups, Answer::Shown, ProbeResult::Readable, "");
    sight.note_built_in_groups(&[], &[]);
    check(&sight, Probe::Groups, Answer::Shown, ProbeResult::Partial, "Everyone");
}

#[test]
fn roles_say_how_far_they_see() {
    #[track_caller]
    fn check(roles: &[&str], expected: &str) {
        let mut sight = whole();
        let role = |name: &&str| {
            let limited = name.strip_suffix(":limited");
            Role { kind: limited.unwrap_or(name).into(), has_app_targets: limited.is_some() }
        };
        sight.note_roles(roles.iter().map(role).collect());
        let partial = |probe: &&Probe| sight.judge(**probe, &Answer::Shown).result == ProbeResult::Partial;
        let names: Vec<&str> = Probe::ALL.iter().filter(partial).map(|probe| probe.name()).collect();
        assert_eq!(names.join(" "), expected, "{roles:?}");
    }
    check(&[], "");
    check(&["READ_ONLY_ADMIN"], "");
    check(&["CUSTOM"], "users groups apps");
    check(&["CUSTOM", "SUPER_ADMIN"], "");
    check(&["CUSTOM", "APP_ADMIN"], "");
    check(&["USER_ADMIN"], "users groups");
    check(&["HELP_DESK_ADMIN", "REPORT_ADMIN"], "users groups");
    check(&["APP_ADMIN"], "");
    check(&["APP_ADMIN:limited"], "apps");
    check(&["APP_ADMIN:limited", "ORG_ADMIN"], "");
    check(&["A_ROLE_OF_2027"], "");
}

#[test]
fn the_most_telling_objects_are_chosen() {
    let sight = whole();
    assert_eq!(sight.group_to_walk().unwrap().as_str(), "00geng");
    assert_eq!(sight.app_to_list().unwrap().as_str(), "0oajira");
    assert_eq!(sight.user_to_read().unwrap().as_str(), "00u1");
    let mut sight = Sight::default();
    assert_eq!((sight.group_to_walk(), sight.app_to_list(), sight.user_to_read()), (None, None, None));
    sight.note(Probe::Groups, &[group("00gall", "Everyone", GroupType::BuiltIn)], &[], true);
    sight.note(Probe::Apps, &[app("0oaconsole", "saasure")], &[], true);
    assert_eq!(sight.group_to_walk().unwrap().as_str(), "00gall");
    assert_eq!(sight.app_to_list().unwrap().as_str(), "0oaconsole");
    let assigned = AppGroup {
        app: AppId::new("0oajira").unwrap(),
        group: GroupId::new("00g7").unwrap(),
        priority: None,
        last_updated: None,
    };
    sight.note(Probe::AppGroups, &[Row::AppGroup(assigned)], &[], true);
    assert_eq!(sight.group_to_read().unwrap().as_str(), "00g7");
}

/// Facts 1.5: whoever reads the remedy can grant that very thing.
#[test]
fn remedies_name_what_cures() {
    #[track_caller]
    fn check(probe: Probe, answer: Answer, parts: &[&str]) {
        let verdict = Sight::default().judge(probe, &answer);
        for part in parts {
            assert!(verdict.remedy.contains(part), "{part} is not in {}", verdict.remedy);
        }
    }
    check(Probe::Users, forbidden(None), &["Read-only Administrator", "okta.users.read on all users"]);
    check(Probe::GroupMembers, forbidden(None), &["Read-only Administrator", "okta.groups.read on all groups"]);
    check(Probe::AppGroups, forbidden(None), &["Read-only Administrator", "okta.apps.read on all applications"]);
    check(Probe::Log, forbidden(None), &["Read-only, Report, App, Org or Super", "no permission of a custom role"]);
    check(Probe::Log, forbidden(Some("okta.logs.read")), &["OAuth scope okta.logs.read"]);
    check(Probe::Users, Answer::Empty, &["no admin role", "Read-only Administrator"]);
    check(Probe::App, Answer::Absent, &[]);
    for probe in Probe::ALL {
        let Some(permission) = probe.permission().filter(|_| !probe.is_optional()) else { continue };
        assert!(SCOPES_NEEDED.contains(&permission.oauth_scope), "{probe:?}");
    }
}

#[test]
fn scopes_that_were_not_granted_are_missing() {
    #[track_caller]
    fn check(granted: Option<&[&str]>, expected: &[&str]) {
        let granted_scopes = granted.map(|scopes| scopes.iter().map(|scope| (*scope).to_owned()).collect());
        let report = ProbeReport { granted_scopes, ..ProbeReport::default() };
        assert_eq!(report.missing_scopes(), expected);
        assert_eq!(report.is_fine(), expected.is_empty());
    }
    check(None, &[]);
    check(Some(&SCOPES_NEEDED), &[]);
    check(Some(&["okta.users.read", "okta.groups.read", "okta.apps.read", "okta.roles.read"]), &["okta.logs.read"]);
}

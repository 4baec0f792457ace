//! Tables: outcomes to verdicts, groups to outcomes, verdicts and ways to principals.

use super::*;
use crate::core::ids::OrgId;
use crate::core::model::{AppStatus, AppUser, AssignmentScope, GroupType, UserStatus};
use crate::core::policy::GrantPolicySettings;
use crate::core::resolve::{Ambiguity, Completeness, Found, InactiveReason, Tier};

fn policy() -> GrantPolicy {
    GrantPolicy::new(&GrantPolicySettings::default()).unwrap()
}

fn encoder() -> Encoder {
    Encoder::new(OrgId::new("o").unwrap())
}

fn user(id: &str, status: &str) -> User {
    User {
        id: UserId::new(id).unwrap(),
        status: UserStatus::parse(status),
        login: None,
        email: None,
        second_email: None,
        first_name: None,
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

fn group(id: &str) -> Group {
    Group {
        id: GroupId::new(id).unwrap(),
        name: "Eng".into(),
        description: None,
        group_type: GroupType::OktaGroup,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    }
}

fn app(id: &str, status: &str) -> App {
    App {
        id: AppId::new(id).unwrap(),
        name: "jira".into(),
        label: "Jira".into(),
        status: AppStatus::parse(status),
        sign_on_mode: None,
        features: Vec::new(),
        credential_scheme: None,
        shared_user_name: None,
        user_name_template: None,
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    }
}

#[test]
fn accounts_grant_only_when_they_are_resolved() {
    #[track_caller]
    fn check(outcome: &Outcome<'_>, complete: Verdict, partial: Verdict) {
        let resolution = Resolution {
            outcome: outcome.clone(),
            warnings: Vec::new(),
            candidates: Vec::new(),
            completeness: Completeness::Complete,
        };
        assert_eq!(Verdict::of_account(&resolution, true), complete, "{}", outcome.name());
        assert_eq!(Verdict::of_account(&resolution, false), partial, "{}", outcome.name());
    }
    let id = UserId::new("u").unwrap();
    let app_user = AppUser {
        app: AppId::new("a").unwrap(),
        user: id.clone(),
        user_name: None,
        external_id: None,
        email: None,
        status: AppUserStatus::Active,
        scope: AssignmentScope::User,
        sync_state: None,
        via_group: None,
        created: None,
        last_updated: None,
        status_changed: None,
    };
    let found = Found { user_id: &id, user: None, app_user: Some(&app_user), tier: Tier::UserNameExact };
    let (nobody, doubt) = (|| Verdict::Nobody, || Verdict::Doubt);
    check(&Outcome::Resolved(found), Verdict::User(id.clone()), Verdict::User(id.clone()));
    check(&Outcome::Inactive { found, reasons: vec![InactiveReason::UserUnseen] }, nobody(), doubt());
    check(&Outcome::Filtered, nobody(), doubt());
    check(&Outcome::NotFound, nobody(), doubt());
    check(&Outcome::Ambiguous(Ambiguity::TooMany), doubt(), doubt());
    check(&Outcome::Shared { user_name: None }, doubt(), doubt());
    check(&Outcome::Reused { found, holders: Vec::new() }, doubt(), doubt());
    check(&Outcome::UnknownGap { gap_ids: &[] }, doubt(), doubt());
    check(&Outcome::UnknownApp, doubt(), doubt());
    check(&Outcome::AmbiguousApp { apps: Vec::new() }, doubt(), doubt());
}

#[test]
fn groups_are_decided() {
    struct Case {
        count: usize,
        app_status: &'static str,
        is_withheld: bool,
        is_filtered: bool,
        is_complete: bool,
    }
    #[track_caller]
    fn check(case: &Case, outcome: &str, verdict: &str) {
        let (app, policy) = (app("a", case.app_status), policy());
        let groups: Vec<Group> = ["g1", "g2", "g3"].into_iter().take(case.count).map(group).collect();
        let found = decide_group(&GroupInput {
            app: &app,
            groups: &groups,
            is_withheld: case.is_withheld,
            is_filtered: case.is_filtered,
            is_complete: case.is_complete,
            policy: &policy,
        });
        let name = match found {
            GroupOutcome::Resolved(group) => format!("RESOLVED {}", group.id),
            GroupOutcome::Inactive(group) => format!("INACTIVE {}", group.id),
            other => format!("{other:?}"),
        };
        assert_eq!(name, outcome);
        let decided = match Verdict::of_group(&app, found, case.is_complete) {
            Verdict::AppGroup { app, group } => format!("{app} {group}"),
            other => format!("{other:?}"),
        };
        assert_eq!(decided, verdict);
    }
    let case =
        |count, app_status| Case { count, app_status, is_withheld: false, is_filtered: false, is_complete: true };
    check(&case(1, "ACTIVE"), "RESOLVED g1", "a g1");
    check(&Case { is_complete: false, ..case(1, "ACTIVE") }, "RESOLVED g1", "a g1");
    check(&case(1, "INACTIVE"), "INACTIVE g1", "Nobody");
    check(&case(1, "IN_2027"), "INACTIVE g1", "Nobody");
    check(&Case { is_complete: false, ..case(1, "INACTIVE") }, "INACTIVE g1", "Doubt");
    check(&Case { is_withheld: true, is_complete: false, ..case(1, "ACTIVE") }, "UnknownGap", "Doubt");
    check(&Case { is_withheld: true, is_complete: false, ..case(1, "INACTIVE") }, "UnknownGap", "Doubt");
    check(&case(2, "ACTIVE"), "Ambiguous", "Doubt");
    check(&Case { is_withheld: true, is_complete: false, ..case(3, "INACTIVE") }, "Ambiguous", "Doubt");
    check(&case(0, "ACTIVE"), "NotFound", "Nobody");
    check(&case(0, "INACTIVE"), "NotFound", "Nobody");
    check(&Case { is_complete: false, ..case(0, "ACTIVE") }, "UnknownGap", "Doubt");
    check(&Case { is_filtered: true, ..case(0, "ACTIVE") }, "Filtered", "Nobody");
    check(&Case { is_filtered: true, is_complete: false, ..case(0, "ACTIVE") }, "Filtered", "Doubt");
}

#[test]
fn documents_have_principals() {
    #[track_caller]
    fn check(verdicts: &[Verdict], expected: &str) {
        let indexed = index(&encoder(), verdicts, true);
        let unsure = index(&encoder(), verdicts, false);
        assert_eq!((unsure.principals, unsure.safe_to_index), (indexed.principals.clone(), false));
        let flags = [(indexed.deny_all, " deny"), (indexed.safe_to_index, " safe")];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word).collect::<String>();
        assert_eq!(format!("{}{flags}", indexed.principals.join(" ")), expected);
    }
    let person = |id: &str| Verdict::User(UserId::new(id).unwrap());
    let of_app = |group: &str| Verdict::AppGroup { app: AppId::new("a").unwrap(), group: GroupId::new(group).unwrap() };
    check(&[], "oidm1:o:deny-all deny safe");
    check(&[Verdict::Nobody], "oidm1:o:deny-all deny safe");
    check(&[Verdict::Nobody, Verdict::Doubt], "oidm1:o:deny-all deny");
    check(&[person("u2"), person("u1"), person("u2")], "oidm1:o:user:u1 oidm1:o:user:u2 safe");
    check(&[person("u1"), Verdict::Nobody, of_app("g")], "oidm1:o:group:a:g oidm1:o:user:u1 safe");
    check(&[Verdict::Doubt, of_app("g"), of_app("g")], "oidm1:o:group:a:g");
}

#[test]
fn people_have_principals() {
    #[track_caller]
    fn check(user: Option<&User>, ways: &[(&str, &str, &str, &str)], expected: &str) {
        let rows: Vec<(App, AppUserStatus, GroupId)> = ways
            .iter()
            .map(|(id, app_status, status, group)| {
                (app(id, app_status), AppUserStatus::parse(status), GroupId::new(group).unwrap())
            })
            .collect();
        let rows = rows.iter();
        let ways: Vec<Way<'_>> = rows
            .map(|(app, app_user_status, group)| Way {
                app: &app.id,
                app_status: &app.status,
                is_shared: app.is_shared_account(),
                app_user_status,
                group,
            })
            .collect();
        let expanded = expand(&encoder(), user, &ways, &policy());
        let flag = if expanded.match_nothing { " nothing" } else { "" };
        assert_eq!(format!("{}{flag}", expanded.principals.join(" ")), expected);
    }
    let active = user("u", "ACTIVE");
    let ways = [("a", "ACTIVE", "ACTIVE", "g")];
    check(None, &ways, "oidm1:o:match-nothing nothing");
    check(Some(&active), &[], "oidm1:o:user:u");
    check(Some(&active), &ways, "oidm1:o:group:a:g oidm1:o:user:u");
    check(Some(&user("u", "LOCKED_OUT")), &ways, "oidm1:o:group:a:g oidm1:o:user:u");
    for status in ["SUSPENDED", "DEPROVISIONED", "STAGED", "PROVISIONED", "IN_2027", "active"] {
        check(Some(&user("u", status)), &ways, "oidm1:o:match-nothing nothing");
    }
    check(Some(&active), &[("a", "INACTIVE", "ACTIVE", "g")], "oidm1:o:user:u");
    check(Some(&active), &[("a", "ACTIVE", "SUSPENDED", "g")], "oidm1:o:user:u");
    check(Some(&active), &[("a", "ACTIVE", "IN_2027", "g")], "oidm1:o:user:u");
    let twice = [("a", "ACTIVE", "PROVISIONED", "g"), ("a", "ACTIVE", "ACTIVE", "g"), ("b", "ACTIVE", "ACTIVE", "g")];
    check(Some(&active), &twice, "oidm1:o:group:a:g oidm1:o:group:b:g oidm1:o:user:u");
}

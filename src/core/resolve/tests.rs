//! Tables of the outcomes: every line of the tables in the head of [`super`] is a case here.

use super::*;
use crate::core::model::{AppStatus, AppUser, AppUserStatus, AssignmentScope, User, UserStatus};
use crate::core::policy::{AliasSetting, GrantPolicySettings, NameRuleSetting};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const HOUR_MILLIS: i64 = 3_600_000;

/// A user and its record in the app.
#[derive(Clone)]
struct Person {
    user: User,
    app_user: Option<AppUser>,
    is_unseen: bool,
}

/// An active user, assigned to the app, without any name.
fn person(id: &str) -> Person {
    let id = UserId::new(id).unwrap();
    let user = User {
        id: id.clone(),
        status: UserStatus::Active,
        login: None,
        email: None,
        second_email: None,
        first_name: None,
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    };
    let app_user = AppUser {
        app: AppId::new("a1").unwrap(),
        user: id,
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
    Person { user, app_user: Some(app_user), is_unseen: false }
}

impl Person {
    fn app_user(mut self, change: impl FnOnce(&mut AppUser)) -> Self {
        self.app_user.as_mut().map(change);
        self
    }
    fn user_name(self, name: &str) -> Self {
        self.app_user(|row| row.user_name = Some(name.into()))
    }
    fn external_id(self, name: &str) -> Self {
        self.app_user(|row| row.external_id = Some(name.into()))
    }
    fn app_email(self, name: &str) -> Self {
        self.app_user(|row| row.email = Some(name.into()))
    }
    fn app_user_status(self, status: &str) -> Self {
        self.app_user(|row| row.status = AppUserStatus::parse(status))
    }
    fn login(mut self, name: &str) -> Self {
        self.user.login = Some(name.into());
        self
    }
    fn email(mut self, name: &str) -> Self {
        self.user.email = Some(name.into());
        self
    }
    fn second_email(mut self, name: &str) -> Self {
        self.user.second_email = Some(name.into());
        self
    }
    fn status(mut self, status: &str) -> Self {
        self.user.status = UserStatus::parse(status);
        self
    }
    fn unassigned(mut self) -> Self {
        self.app_user = None;
        self
    }
    fn unseen(mut self) -> Self {
        self.is_unseen = true;
        self
    }

    fn candidate(&self) -> Candidate<'_> {
        match &self.app_user {
            Some(app_user) if self.is_unseen => Candidate::Unseen { app_user },
            app_user => Candidate::Known { user: &self.user, app_user: app_user.as_ref() },
        }
    }
}

/// Everything but the question.
#[derive(Clone)]
struct World {
    app: App,
    people: Vec<Person>,
    history: Vec<AccountHolder>,
    overrides: Vec<Override>,
    settings: GrantPolicySettings,
    is_filtered: bool,
    gap_ids: Vec<String>,
}

/// An active app without any settings.
pub(super) fn app(id: &str, name: &str, label: &str) -> App {
    App {
        id: AppId::new(id).unwrap(),
        name: name.into(),
        label: label.into(),
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
    }
}

fn world(people: &[Person]) -> World {
    World {
        app: app("a1", "jira", "Jira (EU)"),
        people: people.to_vec(),
        history: Vec::new(),
        overrides: Vec::new(),
        settings: GrantPolicySettings::default(),
        is_filtered: false,
        gap_ids: Vec::new(),
    }
}

impl World {
    fn with(mut self, change: impl FnOnce(&mut World)) -> Self {
        change(&mut self);
        self
    }
    fn rule(self, app: &str, rule: NameRule) -> Self {
        self.with(|world| world.settings.name_rules.push(NameRuleSetting { app: app.into(), rule }))
    }
    fn held(self, user: &str, field: NameField, name: &str, released_hours_ago: i64) -> Self {
        let released_at = NOW.plus_millis(-released_hours_ago * HOUR_MILLIS);
        let user = UserId::new(user).unwrap();
        self.with(|world| world.history.push(AccountHolder { user, field, name: name.into(), released_at }))
    }
    fn alias(self, app: &str, kind: IdentifierKind, name: &str, user: &str) -> Self {
        let alias = AliasSetting { app: app.into(), kind, name: name.into(), user: user.into() };
        self.with(|world| world.settings.aliases.push(alias))
    }
    fn overridden(self, kind: IdentifierKind, name: &str, user: &str, expires_in_hours: i64) -> Self {
        let entry = Override {
            app: AppId::new("a1").unwrap(),
            kind,
            name: name.into(),
            user: UserId::new(user).unwrap(),
            expires_at: NOW.plus_millis(expires_in_hours * HOUR_MILLIS),
        };
        self.with(|world| world.overrides.push(entry))
    }

    fn resolve<T>(&self, kind: IdentifierKind, raw: &str, read: impl FnOnce(&Resolution<'_>) -> T) -> T {
        let policy = GrantPolicy::new(&self.settings).unwrap();
        let identifier = Identifier::new(raw).unwrap();
        let key = identifier.lookup_key();
        let aliases = policy.aliases_with_key(key);
        // As the store does it: by key, plus the users that aliases and overrides name.
        let is_candidate = |person: &&Person| {
            let app_user_keys = person.app_user.iter().flat_map(keys_of_app_user);
            keys_of_user(&person.user).chain(app_user_keys).any(|(_, held)| held == key)
                || aliases.iter().any(|alias| alias.user == person.user.id)
                || self.overrides.iter().any(|entry| entry.user == person.user.id)
        };
        let candidates: Vec<Candidate<'_>> = self.people.iter().filter(is_candidate).map(Person::candidate).collect();
        let completeness = match self.gap_ids.as_slice() {
            [] => Completeness::Complete,
            gap_ids => Completeness::Partial(gap_ids),
        };
        read(&resolve(&ResolveInput {
            app: &self.app,
            identifier,
            kind,
            candidates: &candidates,
            history: &self.history,
            aliases,
            overrides: &self.overrides,
            is_filtered: self.is_filtered,
            completeness,
            policy: &policy,
            now: NOW,
        }))
    }
}

/// One line: outcome, user, tier, details; `~` and the near misses; `?` where coverage is partial.
pub(super) fn render(resolution: &Resolution<'_>) -> String {
    let mut line = vec![resolution.outcome.name().to_owned()];
    line.extend(resolution.found().map(|found| found.user_id.to_string()));
    line.extend(resolution.tier().map(|tier| tier.name().to_owned()));
    match &resolution.outcome {
        Outcome::Ambiguous(Ambiguity::SharedName(_)) => line.push("shared".into()),
        Outcome::Ambiguous(Ambiguity::Conflict(_)) => line.push("conflict".into()),
        Outcome::Ambiguous(Ambiguity::TooMany) => line.push("too many".into()),
        Outcome::Inactive { reasons, .. } => line.extend(reasons.iter().map(|reason| match reason {
            InactiveReason::UserUnseen => "user unseen".into(),
            InactiveReason::User(status) => format!("user {}", status.as_str()),
            InactiveReason::NotAssigned => "not assigned".into(),
            InactiveReason::AppUser(status) => format!("app_user {}", status.as_str()),
            InactiveReason::App(status) => format!("app {}", status.as_str()),
        })),
        Outcome::Shared { user_name } => line.extend(user_name.map(String::from)),
        Outcome::Reused { holders, .. } => line.extend(holders.iter().map(|holder| format!("after {}", holder.user))),
        Outcome::UnknownGap { gap_ids } => line.extend(gap_ids.iter().cloned()),
        Outcome::AmbiguousApp { apps } => line.extend(apps.iter().map(|app| app.id.to_string())),
        Outcome::Resolved(_) | Outcome::Filtered | Outcome::NotFound | Outcome::UnknownApp => {}
    }
    line.extend(resolution.warnings.iter().map(|warning| {
        let kind = match warning.kind {
            WarningKind::CaseDiffers => "case",
            WarningKind::NfkcDiffers => "nfkc",
        };
        format!("~{kind} {} {}", warning.user_id, warning.field.name())
    }));
    line.extend((resolution.completeness != Completeness::Complete).then(|| "?".to_owned()));
    line.join(" ")
}

#[track_caller]
fn check(world: &World, kind: IdentifierKind, raw: &str, expected: &str) {
    assert_eq!(world.resolve(kind, raw, render), expected, "{raw:?}");
}

use IdentifierKind::{Email, ExternalId, Untyped, UserName};

#[test]
fn kinds_ask_their_tiers() {
    let everything = |name: &str| {
        person("u1").external_id(name).user_name(name).app_email(name).login(name).email(name).second_email(name)
    };
    let by_field = [
        (person("u1").external_id("x@x.example"), ["T0", "-", "T0", "-"]),
        (person("u1").user_name("x@x.example"), ["T1", "T1", "-", "-"]),
        (person("u1").user_name("X@x.example"), ["T2", "T2", "-", "-"]),
        (person("u1").app_email("X@x.example"), ["T3", "-", "-", "T3"]),
        (person("u1").login("X@x.example"), ["T3", "-", "-", "T3"]),
        (person("u1").email("X@x.example"), ["T3", "-", "-", "T3"]),
        (person("u1").second_email("X@x.example"), ["T5", "-", "-", "T5"]),
        (everything("x@x.example"), ["T0", "T1", "T0", "T3"]),
    ];
    for (person, expected) in by_field {
        let world = world(&[person]).with(|world| world.settings.second_email = true);
        let tiers = [Untyped, UserName, ExternalId, Email]
            .map(|kind| world.resolve(kind, "x@x.example", |answer| answer.tier().map_or("-", Tier::name)));
        assert_eq!(tiers, expected);
    }
}

#[test]
fn second_emails_are_off() {
    let world = world(&[person("u1").second_email("x@x.example")]);
    check(&world, Untyped, "x@x.example", "NOT_FOUND");
    check(&world, Email, "x@x.example", "NOT_FOUND");
}

#[test]
fn names_are_compared_by_tier() {
    let people = world(&[person("u1").external_id("Ab").user_name("JDoe").email("É@Bücher.example")]);
    check(&people, ExternalId, "Ab", "RESOLVED u1 T0");
    check(&people, ExternalId, "AB", "NOT_FOUND ~case u1 external_id");
    check(&people, UserName, "JDoe", "RESOLVED u1 T1");
    check(&people, UserName, "jdoe", "NOT_FOUND ~case u1 user_name");
    check(&people, UserName, "ＪDoe", "NOT_FOUND ~nfkc u1 user_name");
    check(&people, UserName, "JDo", "NOT_FOUND");
    check(&people, Email, "e\u{301}@xn--bcher-kva.example", "RESOLVED u1 T3");
    check(&people, Email, "é＠bücher.example", "NOT_FOUND ~nfkc u1 email");

    // An override of the rule is for user names; ids stay exact and e-mails stay e-mails.
    for selector in ["a1", "jira", "Jira (EU)"] {
        let people = people.clone().rule(selector, NameRule::IgnoreCase);
        check(&people, UserName, "jdoe", "RESOLVED u1 T2");
        check(&people, ExternalId, "AB", "NOT_FOUND ~case u1 external_id");
    }
    check(&people.clone().rule("jira (eu)", NameRule::IgnoreCase), UserName, "jdoe", "NOT_FOUND ~case u1 user_name");
    // The id's rule wins over the label's, the label's over the name's.
    let people = people.rule("jira", NameRule::IgnoreCase).rule("Jira (EU)", NameRule::Exact);
    check(&people, UserName, "jdoe", "NOT_FOUND ~case u1 user_name");
    check(&people.rule("a1", NameRule::IgnoreCase), UserName, "jdoe", "RESOLVED u1 T2");

    let exact = world(&[person("u1").user_name("JDoe@x.example").email("Jane@x.example")]).rule("a1", NameRule::Exact);
    check(&exact, UserName, "jdoe@x.example", "NOT_FOUND ~case u1 user_name");
    check(&exact, Email, "jane@x.example", "RESOLVED u1 T3");
}

#[test]
fn lower_tiers_are_asked_only_if_higher_ones_are_silent() {
    let two = world(&[person("u1").user_name("jdoe@x.example"), person("u2").user_name("JDoe@x.example")]);
    check(&two, UserName, "jdoe@x.example", "RESOLVED u1 T1 ~case u2 user_name");
    check(&two, UserName, "JDoe@x.example", "RESOLVED u2 T1 ~case u1 user_name");
    check(&two, UserName, "JDOE@x.example", "AMBIGUOUS T2 shared");
    let second = world(&[person("u1").email("x@x.example"), person("u2").second_email("x@x.example")])
        .with(|world| world.settings.second_email = true);
    check(&second, Email, "x@x.example", "RESOLVED u1 T3");
}

#[test]
fn untyped_names_are_cross_checked() {
    let conflict = world(&[person("u1").user_name("x@x.example"), person("u2").email("X@x.example")]);
    check(&conflict, Untyped, "x@x.example", "AMBIGUOUS T1 conflict");
    check(&conflict, UserName, "x@x.example", "RESOLVED u1 T1");
    check(&conflict, Email, "x@x.example", "RESOLVED u2 T3");
    let ids = world(&[person("u1").external_id("7"), person("u2").user_name("7")]);
    check(&ids, Untyped, "7", "AMBIGUOUS T0 conflict");
    check(&ids, ExternalId, "7", "RESOLVED u1 T0");
    let agreeing = world(&[person("u1").user_name("x@x.example").email("x@x.example")]);
    check(&agreeing, Untyped, "x@x.example", "RESOLVED u1 T1");
    // One of them shares the e-mail with somebody else: still a conflict.
    let half = world(&[person("u1").user_name("x@x.example").email("x@x.example"), person("u2").email("x@x.example")]);
    check(&half, Untyped, "x@x.example", "AMBIGUOUS T1 conflict");
}

#[test]
fn several_users_at_one_tier_are_ambiguous() {
    let shared = |second: Person| world(&[person("u1").user_name("sales"), second.user_name("sales")]);
    check(&shared(person("u2")), UserName, "sales", "AMBIGUOUS T1 shared");
    // Even if only one of them is active, or was ever seen.
    check(&shared(person("u2").status("DEPROVISIONED")), UserName, "sales", "AMBIGUOUS T1 shared");
    check(&shared(person("u2").app_user_status("UNASSIGNED")), UserName, "sales", "AMBIGUOUS T1 shared");
    check(&shared(person("u2").unseen()), UserName, "sales", "AMBIGUOUS T1 shared");
    let fields = world(&[person("u1").login("x@x.example"), person("u2").app_email("x@x.example")]);
    check(&fields, Email, "x@x.example", "AMBIGUOUS T3 shared");
}

#[test]
fn an_account_needs_an_app_user() {
    let outside = person("u2").unassigned().login("x@x.example");
    check(&world(std::slice::from_ref(&outside)), Email, "x@x.example", "NOT_FOUND");
    check(&world(&[person("u1").email("x@x.example"), outside.clone()]), Email, "x@x.example", "RESOLVED u1 T3");
    let matches = world(&[person("u1").email("x@x.example"), outside]).resolve(Email, "x@x.example", |answer| {
        let rendered = |entry: &CandidateMatch<'_>| {
            format!("{} {:?} {} {}", entry.user_id, entry.tiers, entry.app_user.is_some(), entry.is_counted)
        };
        answer.candidates.iter().map(rendered).collect::<Vec<_>>()
    });
    assert_eq!(matches, ["u1 {Email} true true", "u2 {Email} false false"]);
}

#[test]
fn inactive_names_every_reason() {
    let named = || person("u1").user_name("x");
    check(&world(&[named().status("LOCKED_OUT")]), UserName, "x", "RESOLVED u1 T1");
    check(&world(&[named().status("STAGED")]), UserName, "x", "INACTIVE u1 T1 user STAGED");
    check(&world(&[named().status("NEW")]), UserName, "x", "INACTIVE u1 T1 user NEW");
    check(&world(&[named().app_user_status("STAGED")]), UserName, "x", "INACTIVE u1 T1 app_user STAGED");
    check(&world(&[named().app_user_status("NEW")]), UserName, "x", "INACTIVE u1 T1 app_user NEW");
    check(&world(&[named().unseen()]), UserName, "x", "INACTIVE u1 T1 user unseen");
    let inactive = |status: &str| {
        let person = named().status("SUSPENDED").app_user_status("REVOKED");
        world(&[person]).with(|world| world.app.status = AppStatus::parse(status))
    };
    check(&inactive("INACTIVE"), UserName, "x", "INACTIVE u1 T1 user SUSPENDED app_user REVOKED app INACTIVE");
    check(&inactive("NEW"), UserName, "x", "INACTIVE u1 T1 user SUSPENDED app_user REVOKED app NEW");
}

#[test]
fn shared_apps_share_one_account() {
    let shared = world(&[person("u1").user_name("x")])
        .with(|world| world.app.credential_scheme = Some("SHARED_USERNAME_AND_PASSWORD".into()))
        .overridden(Untyped, "x", "u1", 1);
    check(&shared, UserName, "x", "SHARED");
    check(&shared.with(|world| world.app.shared_user_name = Some("ops".into())), Untyped, "y", "SHARED ops");
}

#[test]
fn reused_names_are_quarantined() {
    let now = world(&[person("u1").external_id("7").user_name("x").login("x@x.example")]);
    let held = |field: NameField, name: &str, hours: i64| now.clone().held("u2", field, name, hours);
    check(&held(NameField::UserName, "x", 23), UserName, "x", "REUSED u1 T1 after u2");
    check(&held(NameField::UserName, "x", 24), UserName, "x", "RESOLVED u1 T1");
    check(&held(NameField::UserName, "x", -1), UserName, "x", "REUSED u1 T1 after u2"); // A clock went backwards.
    check(&held(NameField::UserName, "X", 1), UserName, "x", "RESOLVED u1 T1"); // Another name, as at T1.
    check(&held(NameField::ExternalId, "x", 1), UserName, "x", "RESOLVED u1 T1"); // Another field.
    check(&held(NameField::ExternalId, "7", 1), ExternalId, "7", "REUSED u1 T0 after u2");
    check(&held(NameField::Login, "X@x.example", 1), Email, "x@x.example", "REUSED u1 T3 after u2");
    check(&held(NameField::PrimaryEmail, "X@x.example", 1), Email, "x@x.example", "REUSED u1 T3 after u2");
    check(&held(NameField::SecondEmail, "x@x.example", 1), Email, "x@x.example", "RESOLVED u1 T3");
    check(&now.clone().held("u1", NameField::UserName, "x", 1), UserName, "x", "RESOLVED u1 T1"); // Its own name.
    let folded = held(NameField::UserName, "X", 1).rule("a1", NameRule::IgnoreCase);
    check(&folded, UserName, "x", "RESOLVED u1 T1");
    let folded = world(&[person("u1").user_name("x")]).held("u2", NameField::UserName, "x", 1);
    check(&folded.rule("a1", NameRule::IgnoreCase), UserName, "X", "REUSED u1 T2 after u2");
    // Before what does not grant; after what is ambiguous.
    let suspended = world(&[person("u1").user_name("x").status("SUSPENDED")]).held("u2", NameField::UserName, "x", 1);
    check(&suspended, UserName, "x", "REUSED u1 T1 after u2");
    let two =
        world(&[person("u1").user_name("x"), person("u3").user_name("x")]).held("u2", NameField::UserName, "x", 1);
    check(&two, UserName, "x", "AMBIGUOUS T1 shared");
    let nobody = world(&[]).held("u2", NameField::UserName, "x", 1);
    check(&nobody, UserName, "x", "NOT_FOUND");
    let off = held(NameField::UserName, "x", 0).with(|world| world.settings.quarantine_millis = 0);
    check(&off, UserName, "x", "RESOLVED u1 T1");
}

#[test]
fn aliases_are_asked_last_but_for_second_emails() {
    let people = world(&[person("u1").user_name("other"), person("u2").unassigned()]);
    let alias = |app: &str, kind, name: &str, user: &str| people.clone().alias(app, kind, name, user);
    check(&alias("a1", Untyped, "x", "u1"), UserName, "x", "RESOLVED u1 T4");
    check(&alias("a1", UserName, "x", "u1"), Untyped, "x", "RESOLVED u1 T4");
    check(&alias("a1", UserName, "x", "u1"), ExternalId, "x", "NOT_FOUND");
    check(&alias("a1", ExternalId, "x@x.example", "u1"), ExternalId, "X@x.example", "NOT_FOUND");
    check(&alias("a1", Untyped, "x@x.example", "u1"), ExternalId, "X@x.example", "NOT_FOUND");
    check(&alias("a1", Untyped, "x@x.example", "u1"), Email, "X@x.example", "RESOLVED u1 T4");
    check(&alias("a1", UserName, "x", "u1"), UserName, "X", "NOT_FOUND");
    check(&alias("a2", Untyped, "x", "u1"), UserName, "x", "NOT_FOUND"); // Another app.
    check(&alias("a1", Untyped, "x", "u2"), UserName, "x", "NOT_FOUND"); // No account in the app.
    check(&alias("a1", Untyped, "x", "u9"), UserName, "x", "NOT_FOUND"); // Nobody.
    check(&alias("a1", Untyped, "other", "u9"), UserName, "other", "RESOLVED u1 T1"); // A better tier speaks.
    let held = alias("a1", Untyped, "x", "u1").held("u2", NameField::UserName, "x", 1);
    check(&held, UserName, "x", "REUSED u1 T4 after u2");
    check(&held, ExternalId, "x", "RESOLVED u1 T4");
    let two = world(&[person("u1"), person("u2"), person("u3").second_email("x@x.example")])
        .with(|world| world.settings.second_email = true)
        .alias("a1", Untyped, "x@x.example", "u1");
    check(&two, Email, "x@x.example", "RESOLVED u1 T4");
    check(&two.alias("a1", Untyped, "x@x.example", "u2"), Email, "x@x.example", "AMBIGUOUS T4 shared");
}

#[test]
fn overrides_decide_alone() {
    let people = world(&[person("u1").user_name("x"), person("u2"), person("u3").unassigned()]);
    let overridden = |kind, name: &str, user: &str, hours| people.clone().overridden(kind, name, user, hours);
    check(&overridden(UserName, "x", "u2", 1), UserName, "x", "RESOLVED u2 T6");
    check(&overridden(UserName, "x", "u2", 0), UserName, "x", "RESOLVED u1 T1"); // Expired.
    check(&overridden(ExternalId, "x", "u2", 1), UserName, "x", "RESOLVED u1 T1"); // Another kind.
    check(&overridden(UserName, "X", "u2", 1), UserName, "x", "RESOLVED u1 T1"); // Another name.
    check(&overridden(Untyped, "x", "u3", 1), UserName, "x", "INACTIVE u3 T6 not assigned");
    check(&overridden(Untyped, "x", "u9", 1), UserName, "x", "INACTIVE u9 T6 user unseen not assigned");
    check(&overridden(Untyped, "x", "u2", 1).overridden(Untyped, "x", "u1", 1), UserName, "x", "AMBIGUOUS T6 shared");
    check(&overridden(Untyped, "x", "u2", 1).overridden(UserName, "x", "u2", 1), UserName, "x", "RESOLVED u2 T6");
    // The external id of somebody else is a word against it, unless the override is about external ids.
    let ids = |kind, user: &str| {
        world(&[person("u1").external_id("7"), person("u2").user_name("7")]).overridden(kind, "7", user, 1)
    };
    check(&ids(Untyped, "u2"), Untyped, "7", "AMBIGUOUS T6 conflict");
    check(&ids(Untyped, "u2"), ExternalId, "7", "AMBIGUOUS T6 conflict");
    check(&ids(Untyped, "u2"), UserName, "7", "RESOLVED u2 T6");
    check(&ids(Untyped, "u1"), Untyped, "7", "RESOLVED u1 T6");
    check(&ids(ExternalId, "u2"), Untyped, "7", "RESOLVED u2 T6");
    let held = overridden(UserName, "x", "u2", 1).held("u1", NameField::UserName, "x", 1);
    check(&held, UserName, "x", "RESOLVED u2 T6"); // The operator knows.
    let other_app = overridden(UserName, "x", "u2", 1).with(|world| world.overrides[0].app = AppId::new("a2").unwrap());
    check(&other_app, UserName, "x", "RESOLVED u1 T1");
}

#[test]
fn absence_is_a_claim() {
    let gaps = |world: World| world.with(|world| world.gap_ids = vec!["g1".into(), "g2".into()]);
    let filtered = |world: World| world.with(|world| world.is_filtered = true);
    check(&world(&[]), UserName, "x", "NOT_FOUND");
    check(&gaps(world(&[])), UserName, "x", "UNKNOWN_GAP g1 g2 ?");
    check(&filtered(world(&[])), UserName, "x", "FILTERED");
    check(&gaps(filtered(world(&[]))), UserName, "x", "FILTERED ?");
    // A name that somebody else has as an own one is not lent: neither by an alias nor by a second e-mail.
    let lent = world(&[person("u1")]).alias("a1", Untyped, "x", "u1");
    check(&lent, UserName, "x", "RESOLVED u1 T4");
    check(&filtered(lent.alias("a1", Untyped, "x", "u2")), UserName, "x", "FILTERED");
    let second = world(&[person("u1").second_email("x@x.example")]).with(|world| world.settings.second_email = true);
    check(&second, Email, "x@x.example", "RESOLVED u1 T5");
    check(&filtered(second), Email, "x@x.example", "FILTERED");
    // Somebody is found all the same, but another holder could be hidden.
    check(&gaps(filtered(world(&[person("u1").user_name("x")]))), UserName, "x", "RESOLVED u1 T1 ?");
    check(&gaps(world(&[person("u1").user_name("X")])), UserName, "x", "UNKNOWN_GAP g1 g2 ~case u1 user_name ?");
}

#[test]
fn names_that_nobody_can_ask_for_are_skipped() {
    let odd = person("u1").user_name("").external_id("x\0").email("x\n@x.example").login("x");
    check(&world(&[odd]), Untyped, "x", "RESOLVED u1 T3");
}

#[test]
fn a_crowd_is_ambiguous() {
    let crowd = |size: usize| {
        let people = (0..size).map(|index| person(&format!("u{index:04}")).unassigned().login("x@x.example"));
        let mut people: Vec<Person> = people.collect();
        people.push(person("v1").user_name("x@x.example"));
        world(&people)
    };
    check(&crowd(CANDIDATES_MAX - 1), UserName, "x@x.example", "RESOLVED v1 T1");
    check(&crowd(CANDIDATES_MAX), UserName, "x@x.example", "AMBIGUOUS too many");
    let overridden = crowd(CANDIDATES_MAX).overridden(Untyped, "x@x.example", "v1", 1);
    check(&overridden, UserName, "x@x.example", "RESOLVED v1 T6");
}

#[test]
fn rows_of_another_app_are_a_mistake() {
    let mixed_up = world(&[person("u1").user_name("x")]).with(|world| world.app.id = AppId::new("a2").unwrap());
    assert!(std::panic::catch_unwind(|| mixed_up.resolve(Untyped, "x", render)).is_err());
}

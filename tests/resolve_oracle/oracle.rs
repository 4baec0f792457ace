//! The oracle: the rules of resolution once more, as naive as they can be written.
//!
//! Entry point: [`expect`]. It scans everybody, knows no keys and no normalisation, and compares names by their place in
//! the table of spellings.

use std::collections::BTreeSet;

use okta_idmap::core::normalize::NameRule;
use okta_idmap::core::resolve::{IdentifierKind, NameField};

use crate::{GAP_IDS, Name};

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) status: &'static str,
    pub(crate) user_name: Option<Name>,
    pub(crate) external_id: Option<Name>,
    pub(crate) email: Option<Name>,
}

#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) is_unseen: bool,
    pub(crate) status: &'static str,
    pub(crate) login: Option<Name>,
    pub(crate) email: Option<Name>,
    pub(crate) second_email: Option<Name>,
    /// By app.
    pub(crate) records: Vec<Option<Record>>,
}

/// An alias, or an override (then it expires).
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) app: usize,
    pub(crate) kind: IdentifierKind,
    pub(crate) name: Name,
    pub(crate) user: usize,
    pub(crate) expires_at: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) app: usize,
    pub(crate) user: usize,
    pub(crate) field: NameField,
    pub(crate) name: Name,
    pub(crate) released_at: i64,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) people: Vec<Person>,
    pub(crate) names: Vec<Name>,
    pub(crate) app_statuses: Vec<&'static str>,
    pub(crate) is_shared: Vec<bool>,
    pub(crate) rules: Vec<NameRule>,
    pub(crate) second_email: bool,
    pub(crate) staged_grants: bool,
    pub(crate) quarantine_millis: i64,
    pub(crate) aliases: Vec<Named>,
    pub(crate) overrides: Vec<Named>,
    pub(crate) history: Vec<Holder>,
}

#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) app: usize,
    pub(crate) name: Name,
    pub(crate) kind: IdentifierKind,
    pub(crate) is_filtered: bool,
    pub(crate) is_partial: bool,
}

type Users = BTreeSet<usize>;

/// The answer that the rules demand, in words.
pub(crate) fn expect(world: &World, question: &Question, now: i64) -> String {
    if world.is_shared[question.app] {
        return "SHARED".into();
    }
    let rule = world.rules[question.app];
    let asks = |kinds: &[IdentifierKind]| question.kind == IdentifierKind::Untyped || kinds.contains(&question.kind);
    let asks_ids = asks(&[IdentifierKind::ExternalId]);
    let asks_user_names = asks(&[IdentifierKind::UserName]);
    let asks_emails = asks(&[IdentifierKind::Email]);
    let is = |held: Option<Name>, rule: NameRule| held.is_some_and(|held| held.is_same(question.name, rule));

    // Operators first.
    let overridden: Users = world
        .overrides
        .iter()
        .filter(|entry| entry.app == question.app && now < entry.expires_at && answers(entry, question, rule))
        .map(|entry| entry.user)
        .collect();
    if !overridden.is_empty() {
        let is_of_ids = world.overrides.iter().any(|entry| {
            entry.app == question.app
                && now < entry.expires_at
                && answers(entry, question, rule)
                && entry.kind == IdentifierKind::ExternalId
        });
        let mut meant = overridden.clone();
        if overridden.len() == 1 && asks_ids && !is_of_ids {
            // Somebody else's external id is a word against it.
            meant.extend((0..world.people.len()).filter(|user| {
                let record = world.people[*user].records[question.app].as_ref();
                record.is_some_and(|record| is(record.external_id, NameRule::Exact))
            }));
        }
        if meant.len() == 1 {
            return only(world, question, &meant, "T6");
        }
        // Overrides may name people without any record.
        let shown: Vec<String> = meant.iter().map(|user| format!(" +u{user}")).collect();
        return format!("AMBIGUOUS T6{}{}", warn(world, question, &meant), shown.concat());
    }

    let with_record = |matches: &dyn Fn(&Person, &Record) -> bool| -> Users {
        let people = world.people.iter().enumerate();
        let matching = people
            .filter(|(_, person)| person.records[question.app].as_ref().is_some_and(|record| matches(person, record)));
        matching.map(|(user, _)| user).collect()
    };
    let t0 = with_record(&|_, record| asks_ids && is(record.external_id, NameRule::Exact));
    let t1 = with_record(&|_, record| asks_user_names && is(record.user_name, NameRule::Exact));
    let t2 = with_record(&|_, record| asks_user_names && is(record.user_name, rule));
    let t3 = with_record(&|person, record| {
        let of_user = !person.is_unseen && (is(person.login, NameRule::Default) || is(person.email, NameRule::Default));
        asks_emails && (of_user || is(record.email, NameRule::Default))
    });
    let t4: Users = world
        .aliases
        .iter()
        .filter(|entry| entry.app == question.app && answers(entry, question, rule))
        .filter(|entry| world.people.get(entry.user).is_some_and(|person| person.records[question.app].is_some()))
        .map(|entry| entry.user)
        .collect();
    let t5 = with_record(&|person, _| {
        world.second_email && asks_emails && !person.is_unseen && is(person.second_email, NameRule::Default)
    });
    let names = if t1.is_empty() { t2.clone() } else { t1.clone() };
    let checked: Users = [&t0, &names, &t3].into_iter().flatten().copied().collect();

    let (users, tier) = match () {
        () if !t0.is_empty() => (checked, "T0"),
        () if !t1.is_empty() => (checked, "T1"),
        () if !t2.is_empty() => (checked, "T2"),
        () if !t3.is_empty() => (checked, "T3"),
        () if !t4.is_empty() => (t4, "T4"),
        () => (t5, "T5"),
    };
    let warnings = warn(world, question, &users);
    if question.is_filtered && ["T4", "T5"].contains(&tier) {
        return format!("FILTERED{warnings}");
    }
    if users.is_empty() {
        return match (question.is_filtered, question.is_partial) {
            (true, _) => format!("FILTERED{warnings}"),
            (false, true) => format!("UNKNOWN_GAP {}{warnings}", GAP_IDS[0]),
            (false, false) => format!("NOT_FOUND{warnings}"),
        };
    }
    if users.len() > 1 {
        let all: Vec<String> = users.iter().map(|user| format!(" +u{user}")).collect();
        return format!("AMBIGUOUS {tier}{warnings}{}", all.concat());
    }
    let former = former_holders(world, question, &users, tier, now);
    if !former.is_empty() {
        let user = users.iter().next().map_or(usize::MAX, |user| *user);
        return format!("REUSED {tier} u{user}{former}{warnings}");
    }
    only(world, question, &users, tier)
}

/// Whether the name of an alias or override is the name of the question.
fn answers(entry: &Named, question: &Question, rule: NameRule) -> bool {
    let kinds = [entry.kind, question.kind];
    let is_kind = entry.kind == question.kind || kinds.contains(&IdentifierKind::Untyped);
    let rule = if kinds.contains(&IdentifierKind::ExternalId) {
        NameRule::Exact
    } else if kinds.contains(&IdentifierKind::Email) {
        NameRule::Default
    } else {
        rule
    };
    is_kind && entry.name.is_same(question.name, rule)
}

/// One user: resolved, or why not.
fn only(world: &World, question: &Question, users: &Users, tier: &str) -> String {
    let user = users.iter().next().map_or(usize::MAX, |user| *user);
    let person = world.people.get(user);
    let mut reasons = String::new();
    let granting = ["ACTIVE", "PASSWORD_EXPIRED", "RECOVERY", "LOCKED_OUT"];
    match person {
        Some(person) if !person.is_unseen => {
            let is_early = ["STAGED", "PROVISIONED"].contains(&person.status);
            let grants = granting.contains(&person.status) || (world.staged_grants && is_early);
            if !grants {
                reasons += &format!(" user={}", person.status);
            }
        }
        _ => reasons += " unseen",
    }
    match person.and_then(|person| person.records[question.app].as_ref()) {
        None => reasons += " unassigned",
        Some(record) if !["ACTIVE", "PROVISIONED"].contains(&record.status) => {
            reasons += &format!(" app_user={}", record.status);
        }
        Some(_) => {}
    }
    if world.app_statuses[question.app] != "ACTIVE" {
        reasons += &format!(" app={}", world.app_statuses[question.app]);
    }
    let outcome = if reasons.is_empty() { "RESOLVED" } else { "INACTIVE" };
    format!("{outcome} {tier} u{user}{reasons}{}", warn(world, question, users))
}

/// Who else held the name, as ` <u1 <u2`.
fn former_holders(world: &World, question: &Question, users: &Users, tier: &str, now: i64) -> String {
    let app_rule = world.rules[question.app];
    let mut former = BTreeSet::new();
    for holder in &world.history {
        let age = now - holder.released_at;
        if holder.app != question.app || users.contains(&holder.user) || age >= world.quarantine_millis {
            continue;
        }
        let (family, rule) = match holder.field {
            NameField::ExternalId => (IdentifierKind::ExternalId, NameRule::Exact),
            NameField::UserName => (IdentifierKind::UserName, app_rule),
            _ => (IdentifierKind::Email, NameRule::Default),
        };
        let is_second = holder.field == NameField::SecondEmail;
        let is_asked = question.kind == IdentifierKind::Untyped || question.kind == family;
        let counts = is_asked && (!is_second || world.second_email);
        let rule = if tier == "T1" { NameRule::Exact } else { rule };
        if counts && holder.name.is_same(question.name, rule) {
            former.insert(holder.user);
        }
    }
    former.into_iter().map(|user| format!(" <u{user}")).collect()
}

/// People in the app, not in `users`, with a name in an asked field that is alike but not spelt the same.
fn warn(world: &World, question: &Question, users: &Users) -> String {
    let mut warnings = String::new();
    for (user, person) in world.people.iter().enumerate() {
        let Some(record) = &person.records[question.app] else { continue };
        if users.contains(&user) {
            continue;
        }
        let of_user = |name: Option<Name>| if person.is_unseen { None } else { name };
        let mut held = Vec::new();
        if [IdentifierKind::Untyped, IdentifierKind::ExternalId].contains(&question.kind) {
            held.push(record.external_id);
        }
        if [IdentifierKind::Untyped, IdentifierKind::UserName].contains(&question.kind) {
            held.push(record.user_name);
        }
        if [IdentifierKind::Untyped, IdentifierKind::Email].contains(&question.kind) {
            held.extend([record.email, of_user(person.login), of_user(person.email)]);
            held.extend(world.second_email.then(|| of_user(person.second_email)));
        }
        let near = held.into_iter().flatten().filter(|name| *name != question.name && name.is_alike(question.name));
        let is_case = near.clone().any(|name| name.is_same(question.name, NameRule::IgnoreCase));
        if is_case {
            warnings += &format!(" ~case:u{user}");
        } else if near.count() > 0 {
            warnings += &format!(" ~nfkc:u{user}");
        }
    }
    warnings
}

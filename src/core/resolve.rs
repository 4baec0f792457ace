//! Who is this account: the rows that share a key, history, configuration and coverage in, one typed outcome out.
//!
//! Entry points: [`select_app`], then [`resolve`]. The candidates, the history and the overrides are whatever shares the
//! identifier's [`LookupKey`](super::normalize::LookupKey), plus the users that aliases and overrides name; everything is
//! compared again here, from the raw values.
//!
//! Tiers, and who is asked by which kind of question (*rule* is the app's [`NameRule`]):
//!
//! | tier | evidence | compared by | untyped | user name | external id | e-mail |
//! |---|---|---|---|---|---|---|
//! | T0 | `external_id` | bytes | x | | x | |
//! | T1 | `user_name` | bytes | x | x | | |
//! | T2 | `user_name` | rule | x | x | | |
//! | T3 | app user's e-mail, user's login, user's primary e-mail | as e-mail | x | | | x |
//! | T4 | configured alias | see [`Alias`] | x | x | x | x |
//! | T5 | user's second e-mail, where switched on | as e-mail | x | | | x |
//! | T6 | operator's override, not expired | as T4 | x | x | x | x |
//!
//! The first line that holds decides:
//!
//! | # | when | outcome |
//! |---|---|---|
//! | 1 | the app has one shared account | `SHARED` |
//! | 2 | overrides name several users | `AMBIGUOUS` |
//! | 3 | an override names one | `AMBIGUOUS` if another user has the name at T0 and no override is of external ids; else lines 8 and 9 for that user, at T6 |
//! | 4 | more than [`CANDIDATES_MAX`] candidates | `AMBIGUOUS` |
//! | 5 | users of T0, of T1 (else T2) and of T3 together, else (if the name is not filtered) those of T4, else those of T5: two or more | `AMBIGUOUS`, even if only one is active |
//! | 6 | nobody, or those of T4 or T5 while the name is filtered | `FILTERED` if filtered, else `UNKNOWN_GAP` if coverage is partial, else `NOT_FOUND` |
//! | 7 | another user held the name (in any field that is asked, same comparison) and released it within the quarantine, or in the future | `REUSED` |
//! | 8 | user, app user or app does not grant, or is missing | `INACTIVE`, with every reason |
//! | 9 | else | `RESOLVED` |
//!
//! Invariants, checked against an oracle by `tests/resolve_oracle.rs`:
//! - Only [`Outcome::Resolved`] grants; a user without an app user in the app is never a match.
//! - A near miss (case, NFKC) is a [`Warning`] and never a match.
//! - Order and repetition of candidates, history, aliases and overrides change nothing.

mod app;
mod evidence;
mod outcome;
mod shared;
#[cfg(test)]
mod tests;
mod tiers;

use super::ids::{AppId, Timestamp, UserId};
use super::model::App;
use super::normalize::{Closeness, Comparer, Identifier, NameRule};
use super::policy::{Alias, GrantPolicy};

pub use app::{AppSelection, select_app};
pub use evidence::{
    AskedOf, Candidate, IdentifierKind, NameField, Tier, TierSet, asked_fields, keys_of_app_user, keys_of_user,
};
pub use outcome::{
    Ambiguity, CandidateMatch, Completeness, Found, InactiveReason, Outcome, Resolution, Warning, WarningKind,
};

pub use shared::{SharedName, shared_names};
pub use tiers::{TierAnswer, TierExplained, explain_tiers};

use evidence::{Question, Weighed, weigh};

/// Most candidates that are weighed. More people than that share no honest account name; the store reads one more than
/// this and stops, and the answer is [`Ambiguity::TooMany`], because neither uniqueness nor absence could be shown.
pub const CANDIDATES_MAX: usize = 1_000;

/// Who held an account name until when: one line of the account history of an app, or of the history of logins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountHolder {
    /// The former holder.
    pub user: UserId,
    /// Where the name stood.
    pub field: NameField,
    /// The name, raw.
    pub name: Box<str>,
    /// When it was seen to be released.
    pub released_at: Timestamp,
}

/// An operator's decision (tier T6): until it expires, in this app, this name is this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The app instance.
    pub app: AppId,
    /// What the name is; [`IdentifierKind::Untyped`] answers every kind of question.
    pub kind: IdentifierKind,
    /// The name, raw.
    pub name: Box<str>,
    /// Who it is.
    pub user: UserId,
    /// From this time on it is ignored.
    pub expires_at: Timestamp,
}

/// Everything that an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct ResolveInput<'a> {
    /// The app that is asked about.
    pub app: &'a App,
    /// The name that is asked for.
    pub identifier: Identifier<'a>,
    /// What the name is.
    pub kind: IdentifierKind,
    /// Everybody whose user or app user (in this app) has a name with the identifier's key, and everybody whom
    /// `aliases` and `overrides` name. Order and repetitions do not matter.
    pub candidates: &'a [Candidate<'a>],
    /// Former holders of names with that key.
    pub history: &'a [AccountHolder],
    /// Aliases with that key, of any app: [`GrantPolicy::aliases_with_key`].
    pub aliases: &'a [Alias],
    /// Overrides with that key, of any app, expired or not.
    pub overrides: &'a [Override],
    /// Whether the identifier is known to belong to somebody whom the filter keeps out.
    pub is_filtered: bool,
    /// The coverage of everything that could hold the identifier.
    pub completeness: Completeness<'a>,
    /// What grants.
    pub policy: &'a GrantPolicy,
    /// The time of the question.
    pub now: Timestamp,
}

/// Decides who an account is, by the table in the head of this module. Never fails; takes time in proportion to the
/// candidates and the history, and no more than [`CANDIDATES_MAX`] candidates.
///
/// Panics when a candidate's app user is not of the app and the user it came with: then the caller has mixed up rows,
/// and an answer could name the wrong person.
pub fn resolve<'a>(input: &ResolveInput<'a>) -> Resolution<'a> {
    assert_rows_belong_together(input);
    if input.app.is_shared_account() {
        let user_name = input.app.shared_user_name.as_deref();
        return Resolution::bare(Outcome::Shared { user_name }, input.completeness);
    }
    let comparer = Comparer::new(input.identifier);
    let question = Question {
        comparer: &comparer,
        kind: input.kind,
        rule: input.policy.name_rule(input.app),
        policy: input.policy,
    };
    let overriding = overriding_users(input, question);
    if overriding.is_empty() && input.candidates.len() > CANDIDATES_MAX {
        return Resolution::bare(Outcome::Ambiguous(Ambiguity::TooMany), input.completeness);
    }
    let shown = &input.candidates[..input.candidates.len().min(CANDIDATES_MAX)];
    let mut weighed = weigh(question, shown);
    add_aliases(input, question, &mut weighed);
    let (outcome, winners) = match overriding.as_slice() {
        [] => decide(input, question, &weighed),
        [user_id] => decide_overridden(input, question, &weighed, user_id),
        _ => (Outcome::Ambiguous(Ambiguity::SharedName(Tier::Override)), overriding.clone()),
    };
    mark_overriding(&mut weighed, &overriding);
    Resolution {
        outcome,
        warnings: warnings(&weighed, &winners),
        candidates: candidate_matches(&weighed, &winners),
        completeness: input.completeness,
    }
}

fn assert_rows_belong_together(input: &ResolveInput<'_>) {
    for candidate in input.candidates {
        let Some(app_user) = candidate.app_user() else { continue };
        assert!(app_user.app == input.app.id, "candidate of app {} for app {}", app_user.app, input.app.id);
        assert!(app_user.user == *candidate.user_id(), "app user of {} with {}", app_user.user, candidate.user_id());
    }
}

/// Line 3: an override names one user. What it says of names in general is no word against the external id of somebody else,
/// by which apps mean one account and no other.
fn decide_overridden<'a>(
    input: &ResolveInput<'a>,
    question: Question<'_>,
    weighed: &[Weighed<'a>],
    user_id: &'a UserId,
) -> (Outcome<'a>, Vec<&'a UserId>) {
    let mut users = vec![user_id];
    if answering(input, question).all(|entry| entry.kind != IdentifierKind::ExternalId) {
        let holds = |entry: &&Weighed<'a>| entry.app_user.is_some() && entry.tiers.contains(Tier::ExternalId);
        users.extend(weighed.iter().filter(holds).map(|entry| entry.user_id));
        users.sort();
        users.dedup();
    }
    match users.as_slice() {
        [_] => (grant(input, overridden(input, user_id)), users),
        _ => (Outcome::Ambiguous(Ambiguity::Conflict(Tier::Override)), users),
    }
}

/// Adds tier T6. Of a user whom only an override names there may be no row at all: it is a candidate nevertheless.
fn mark_overriding<'a>(weighed: &mut Vec<Weighed<'a>>, overriding: &[&'a UserId]) {
    for user_id in overriding {
        let index = weighed.binary_search_by(|entry| entry.user_id.cmp(user_id)).unwrap_or_else(|index| {
            weighed.insert(index, Weighed::bare(user_id));
            index
        });
        weighed[index].tiers.insert(Tier::Override);
    }
}

/// Lines 5 to 9 of the table: the outcome, and the users who decided it, in the order of their ids.
fn decide<'a>(
    input: &ResolveInput<'a>,
    question: Question<'_>,
    weighed: &[Weighed<'a>],
) -> (Outcome<'a>, Vec<&'a UserId>) {
    // Without an app user there is no account, whatever the names say.
    let holders_of = |tier: Tier| -> Vec<&Weighed<'a>> {
        weighed.iter().filter(|entry| entry.app_user.is_some() && entry.tiers.contains(tier)).collect()
    };
    let or_else = |first: Vec<_>, second: Tier| if first.is_empty() { holders_of(second) } else { first };
    // The cross-check. A typed question has one of these only, for the other fields were not asked.
    let mut winners = holders_of(Tier::ExternalId);
    winners.extend(or_else(holders_of(Tier::UserNameExact), Tier::UserNameNormalized));
    winners.extend(holders_of(Tier::Email));
    winners.sort_by_key(|entry| entry.user_id);
    winners.dedup_by_key(|entry| entry.user_id);
    let has_own_name = !winners.is_empty();
    let winners = or_else(or_else(winners, Tier::Alias), Tier::SecondEmail);

    let ids = winners.iter().map(|entry| entry.user_id).collect();
    if input.is_filtered && !has_own_name {
        // It is somebody's own name, and that is not whom a borrowed one means.
        return (Outcome::Filtered, ids);
    }
    let Some(tier) = winners.iter().filter_map(|entry| entry.tiers.best()).min() else {
        return (absent(input), ids);
    };
    let outcome = match winners.as_slice() {
        [entry] => {
            let found = Found { user_id: entry.user_id, user: entry.user, app_user: entry.app_user, tier };
            let holders = other_holders(input, question, &found);
            if holders.is_empty() { grant(input, found) } else { Outcome::Reused { found, holders } }
        }
        _ if winners.iter().all(|entry| entry.tiers.contains(tier)) => Outcome::Ambiguous(Ambiguity::SharedName(tier)),
        _ => Outcome::Ambiguous(Ambiguity::Conflict(tier)),
    };
    (outcome, ids)
}

/// Line 6: nobody.
fn absent<'a>(input: &ResolveInput<'a>) -> Outcome<'a> {
    match input.completeness {
        _ if input.is_filtered => Outcome::Filtered,
        Completeness::Partial(gap_ids) => Outcome::UnknownGap { gap_ids },
        Completeness::Complete => Outcome::NotFound,
    }
}

/// Lines 8 and 9: one user.
fn grant<'a>(input: &ResolveInput<'a>, found: Found<'a>) -> Outcome<'a> {
    let mut reasons = Vec::new();
    match found.user {
        None => reasons.push(InactiveReason::UserUnseen),
        Some(user) if !input.policy.user_grants(&user.status) => reasons.push(InactiveReason::User(&user.status)),
        Some(_) => {}
    }
    match found.app_user {
        None => reasons.push(InactiveReason::NotAssigned),
        Some(row) if !input.policy.app_user_grants(&row.status) => reasons.push(InactiveReason::AppUser(&row.status)),
        Some(_) => {}
    }
    if !input.policy.app_grants(&input.app.status) {
        reasons.push(InactiveReason::App(&input.app.status));
    }
    if reasons.is_empty() { Outcome::Resolved(found) } else { Outcome::Inactive { found, reasons } }
}

/// Line 7: who else held the name, and released it so recently that documents may still mean them.
fn other_holders<'a>(input: &ResolveInput<'a>, question: Question<'_>, found: &Found<'a>) -> Vec<&'a AccountHolder> {
    let quarantine_begin = input.now.plus_millis(-input.policy.quarantine_millis());
    let former = former_holders(input, question, found).into_iter();
    // A release in the future (clocks) is a recent one.
    former.filter(|holder| holder.released_at > quarantine_begin).collect()
}

/// Who else held the name of a question and lost it, however long ago, in any order: the history behind the answer.
pub fn history_of<'a>(input: &ResolveInput<'a>, found: &Found<'_>) -> Vec<&'a AccountHolder> {
    let comparer = Comparer::new(input.identifier);
    let rule = input.policy.name_rule(input.app);
    former_holders(input, Question { comparer: &comparer, kind: input.kind, rule, policy: input.policy }, found)
}

fn former_holders<'a>(input: &ResolveInput<'a>, question: Question<'_>, found: &Found<'_>) -> Vec<&'a AccountHolder> {
    // Whatever kind of name it was: a document that names it may mean the one who had it.
    let is_held = |holder: &AccountHolder| {
        let worst = if found.tier == Tier::UserNameExact { Closeness::Identical } else { Closeness::Same };
        found.tier != Tier::Override
            && holder.field.is_asked(question.kind, question.policy)
            && Identifier::new(&holder.name)
                .is_ok_and(|name| question.comparer.compare(name, holder.field.rule(question.rule)) <= worst)
    };
    input.history.iter().filter(|holder| holder.user != *found.user_id && is_held(holder)).collect()
}

/// The overrides that answer a question, in the order of the input: the evidence behind tier T6.
pub fn overrides_of<'a>(input: &ResolveInput<'a>) -> Vec<&'a Override> {
    let comparer = Comparer::new(input.identifier);
    let rule = input.policy.name_rule(input.app);
    let question = Question { comparer: &comparer, kind: input.kind, rule, policy: input.policy };
    answering(input, question).collect()
}

fn answering<'a>(input: &ResolveInput<'a>, question: Question<'_>) -> impl Iterator<Item = &'a Override> {
    let (app, now) = (&input.app.id, input.now);
    let in_force = input.overrides.iter().filter(move |entry| entry.app == *app && now < entry.expires_at);
    in_force.filter(move |entry| is_named(question, entry.kind, &entry.name))
}

/// The users whom unexpired overrides name, each once.
fn overriding_users<'a>(input: &ResolveInput<'a>, question: Question<'_>) -> Vec<&'a UserId> {
    let mut users: Vec<&UserId> = answering(input, question).map(|entry| &entry.user).collect();
    users.sort();
    users.dedup();
    users
}

/// The user of an override, with the rows that the caller has of it.
fn overridden<'a>(input: &ResolveInput<'a>, user_id: &'a UserId) -> Found<'a> {
    let of_user = || input.candidates.iter().filter(|candidate| candidate.user_id() == user_id);
    Found {
        user_id,
        user: of_user().find_map(Candidate::user),
        app_user: of_user().find_map(Candidate::app_user),
        tier: Tier::Override,
    }
}

fn add_aliases(input: &ResolveInput<'_>, question: Question<'_>, weighed: &mut [Weighed<'_>]) {
    for alias in input.aliases {
        if alias.app != input.app.id || !is_named(question, alias.kind, &alias.name) {
            continue;
        }
        if let Ok(index) = weighed.binary_search_by(|entry| entry.user_id.cmp(&alias.user)) {
            weighed[index].tiers.insert(Tier::Alias);
        }
    }
}

/// Whether the name of an alias or override answers the question: of the kind that is asked, if both have one, and equal
/// under the strictest rule that either kind asks for.
fn is_named(question: Question<'_>, kind: IdentifierKind, name: &str) -> bool {
    let kind = match (question.kind, kind) {
        (IdentifierKind::Untyped, kind) | (kind, IdentifierKind::Untyped) => kind,
        (asked, kind) if asked == kind => kind,
        _ => return false,
    };
    let rule = match kind {
        IdentifierKind::ExternalId => NameRule::Exact,
        IdentifierKind::Email => NameRule::Default,
        IdentifierKind::UserName | IdentifierKind::Untyped => question.rule,
    };
    Identifier::new(name).is_ok_and(|name| question.comparer.compare(name, rule) <= Closeness::Same)
}

fn warnings<'a>(weighed: &[Weighed<'a>], winners: &[&'a UserId]) -> Vec<Warning<'a>> {
    let losers =
        weighed.iter().filter(|entry| entry.app_user.is_some() && winners.binary_search(&entry.user_id).is_err());
    losers
        .filter_map(|entry| {
            let (closeness, field) = entry.near?;
            let kind = match closeness {
                Closeness::NfkcDiffers => WarningKind::NfkcDiffers,
                _ => WarningKind::CaseDiffers,
            };
            Some(Warning { kind, user_id: entry.user_id, field })
        })
        .collect()
}

fn candidate_matches<'a>(weighed: &[Weighed<'a>], winners: &[&'a UserId]) -> Vec<CandidateMatch<'a>> {
    let matching = weighed.iter().filter(|entry| entry.tiers != TierSet::default());
    matching
        .map(|entry| CandidateMatch {
            user_id: entry.user_id,
            app_user: entry.app_user,
            tiers: entry.tiers,
            is_counted: winners.binary_search(&entry.user_id).is_ok(),
        })
        .collect()
}

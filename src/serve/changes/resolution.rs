//! What a copy needs beside the rows to resolve accounts as this server does: policy, coverage, held names.
//!
//! Entry points: [`policy_events`] at the begin, [`PolicyHash`] for those who only have to know whether it is the same, [`ToldCoverage`] for each round, [`held_names`] behind the rows of a user,
//! [`held_names_page`] in a snapshot.
//!
//! Invariant: what is told of the coverage is never more hopeful than the rows that were sent.

use std::collections::BTreeSet;

use okta_idmap_proto::v1::{self, change_event::Event};
use prost::Message as _;
use xxhash_rust::xxh3::Xxh3;

use super::super::ask::Ask;
use super::super::coverage::kind_to_proto;
use super::super::errors::Failure;
use super::super::rows::timestamp;
use super::lines::{Planned, Subject};
use super::rows::event;
use crate::core::coverage::{ChangesList, CoverageChanges, CoveragePolicy, GapKind, OnGap, Reach, ScopeCoverage};
use crate::core::ids::Revision;
use crate::core::model::Kind;
use crate::core::normalize::NORMALIZE_VERSION;
use crate::core::policy::{AliasSetting, GrantPolicy, GrantPolicySettings, NameRuleSetting};
use crate::core::resolve::IdentifierKind;
use crate::store::ReleasedName;

/// What answers are made of: see `ResolutionPolicy.facts_version`.
const FACTS_VERSION: u32 = 1;

/// Name rules, aliases or scopes in one event: some ten kilobytes.
const PER_EVENT: usize = 500;

/// Scopes that are listed under one hold of the coverage's lock, well below a millisecond: the store's writer waits for it, and
/// all answers behind it.
const SCOPES_AT_ONCE_MAX: usize = 1_000;

/// Names of one user that are told, latest first. Nobody loses so many in a quarantine without a script; copies then ask.
const HELD_NAMES_MAX: usize = 1_000;

/// Users on one page of held names.
const USERS_PER_PAGE: usize = 500;

fn duration(millis: i64) -> prost_types::Duration {
    let nanos = i32::try_from(millis.rem_euclid(1_000)).unwrap_or_default() * 1_000_000;
    prost_types::Duration { seconds: millis.div_euclid(1_000), nanos }
}

/// What grants and how names are compared.
pub(super) fn policy_events(ask: &Ask<'_>, revision: Revision) -> Vec<v1::ChangeEvent> {
    let settings = ask.policy().settings();
    let (first, further) = policy_parts(&settings);
    let first = with_coverage(first, ask.policy_of_coverage());
    let last = further.len();
    let numbered = std::iter::once(first).chain(further).enumerate();
    numbered.map(|(n, part)| event(revision, Event::Policy(v1::ResolutionPolicy { more: n < last, ..part }))).collect()
}

/// The policy as messages: all but the lists, and the lists in parts.
fn policy_parts(settings: &GrantPolicySettings) -> (v1::ResolutionPolicy, Vec<v1::ResolutionPolicy>) {
    let first = v1::ResolutionPolicy {
        normalize_version: NORMALIZE_VERSION,
        facts_version: FACTS_VERSION,
        user_statuses: settings.user_statuses.clone(),
        app_user_statuses: settings.app_user_statuses.clone(),
        second_email: settings.second_email,
        quarantine: Some(duration(settings.quarantine_millis)),
        ..v1::ResolutionPolicy::default()
    };
    let mut further = Vec::new();
    for rules in settings.name_rules.chunks(PER_EVENT) {
        let name_rules = rules.iter().map(name_rule).collect();
        further.push(v1::ResolutionPolicy { name_rules, ..v1::ResolutionPolicy::default() });
    }
    for aliases in settings.aliases.chunks(PER_EVENT) {
        let aliases = aliases.iter().map(alias).collect();
        further.push(v1::ResolutionPolicy { aliases, ..v1::ResolutionPolicy::default() });
    }
    (first, further)
}

fn with_coverage(policy: v1::ResolutionPolicy, coverage: CoveragePolicy) -> v1::ResolutionPolicy {
    v1::ResolutionPolicy {
        stale_after: coverage.stale_after_millis.map(duration),
        log_stale_after: coverage.log_stale_after_millis.map(duration),
        withholds: coverage.on_gap == OnGap::Withhold,
        max_stale: coverage.max_stale_millis.map(duration),
        ..policy
    }
}

/// A policy in one word, for those who have to know whether it is still the same: of everything that is sent of it, whatever the
/// order in which it is configured.
#[derive(Clone)]
pub(in crate::serve) struct PolicyHash(Xxh3);

impl PolicyHash {
    /// Of what grants, in a store: elsewhere the same policy is another word, which says nothing to anybody.
    pub(in crate::serve) fn of(store_id: &str, policy: &GrantPolicy) -> Self {
        let mut settings = policy.settings();
        settings.user_statuses.sort_unstable();
        settings.app_user_statuses.sort_unstable();
        settings.name_rules.sort_unstable_by(|one, other| one.app.cmp(&other.app));
        settings.aliases.sort_unstable_by(|one, other| {
            let (left, right) = ((&one.app, &one.name, one.kind), (&other.app, &other.name, other.kind));
            left.cmp(&right).then_with(|| one.user.cmp(&other.user))
        });
        let mut hash = Xxh3::new();
        hash.update(store_id.as_bytes());
        let (first, further) = policy_parts(&settings);
        for part in std::iter::once(first).chain(further) {
            hash.update(&part.encode_length_delimited_to_vec());
        }
        Self(hash)
    }

    /// The same with what is too old, and what becomes of rows that can no longer be read.
    pub(in crate::serve) fn id(&self, coverage: CoveragePolicy) -> String {
        let mut hash = self.0.clone();
        hash.update(&with_coverage(v1::ResolutionPolicy::default(), coverage).encode_to_vec());
        format!("{:032x}", hash.digest128())
    }
}

fn name_rule(setting: &NameRuleSetting) -> v1::AppNameRule {
    v1::AppNameRule { app: setting.app.clone(), rule: setting.rule.name().to_owned() }
}

fn alias(setting: &AliasSetting) -> v1::AccountAlias {
    let kind = match setting.kind {
        IdentifierKind::Untyped => v1::IdentifierKind::Unspecified,
        IdentifierKind::UserName => v1::IdentifierKind::UserName,
        IdentifierKind::ExternalId => v1::IdentifierKind::ExternalId,
        IdentifierKind::Email => v1::IdentifierKind::Email,
    };
    let identifier = Some(v1::Identifier { value: setting.name.clone(), kind: kind.into() });
    v1::AccountAlias { app_id: setting.app.clone(), identifier, user_id: setting.user.clone() }
}

/// What a stream has told of the coverage, and what of it is still to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToldCoverage {
    position: u64,
}

impl Default for ToldCoverage {
    fn default() -> Self {
        // Nobody has been there: everything is told.
        Self { position: u64::MAX }
    }
}

impl ToldCoverage {
    /// The coverage at a checkpoint, `None` where it is not known any more what it was then: a copy is not consistent there, and
    /// the next checkpoint tells. To be asked only once all rows are sent.
    pub(super) fn coverage_events(&mut self, ask: &Ask<'_>, through: Revision) -> Option<Vec<v1::ChangeEvent>> {
        let settled_through = ask.coverage_position;
        let mut list = ChangesList::new(self.position, settled_through);
        // Each piece under a lock of its own.
        while ask.view.reader().coverage().go_on(&mut list, SCOPES_AT_ONCE_MAX) {}
        let changes = list.finish()?;
        // What is not settled comes again.
        self.position = settled_through;
        Some(coverage_events(changes, through))
    }
}

fn coverage_events(changes: CoverageChanges, revision: Revision) -> Vec<v1::ChangeEvent> {
    let changes = coverage_changes(changes.is_full, &changes.scopes);
    changes.into_iter().map(|change| event(revision, Event::Coverage(change))).collect()
}

/// What is told of scopes, in messages that are not too long.
pub(crate) fn coverage_changes(full: bool, scopes: &[ScopeCoverage]) -> Vec<v1::CoverageChange> {
    let parts = coverage_parts(scopes);
    if parts.is_empty() && full {
        return vec![v1::CoverageChange { full, ..v1::CoverageChange::default() }];
    }
    let last = parts.len().saturating_sub(1);
    let change = |(n, scopes): (usize, &[ScopeCoverage])| {
        let scopes = scopes.iter().map(scope_coverage).collect();
        v1::CoverageChange { full, more: n < last, scopes }
    };
    parts.into_iter().enumerate().map(change).collect()
}

/// Scopes in parts of as many as [`PER_EVENT`], where a row that is named counts as one.
fn coverage_parts(scopes: &[ScopeCoverage]) -> Vec<&[ScopeCoverage]> {
    let weight = |told: &ScopeCoverage| 1 + told.failed.rows.len();
    let (mut parts, mut rest) = (Vec::new(), scopes);
    while !rest.is_empty() {
        let mut total = 0;
        let fitting = rest.iter().take_while(|told| {
            total += weight(told);
            total <= PER_EVENT
        });
        let (part, others) = rest.split_at(fitting.count().clamp(1, rest.len()));
        parts.push(part);
        rest = others;
    }
    parts
}

fn scope_coverage(told: &ScopeCoverage) -> v1::ScopeCoverage {
    v1::ScopeCoverage {
        scope: told.scope.name(),
        completed_at: told.completed_at.map(timestamp),
        open_gaps: told.open.iter().map(|kind| kind_to_proto(*kind).into()).collect(),
        settled: told.is_settled,
        unread_rows: unread_rows(told),
    }
}

/// Which rows an open FAILED is about, where it is not all of them.
fn unread_rows(told: &ScopeCoverage) -> Option<v1::UnreadRows> {
    let Reach { is_whole, rows } = &told.failed;
    if *is_whole && rows.is_empty() || !told.open.contains(&GapKind::Failed) {
        return None;
    }
    let rows = rows.iter().map(|(id, read_at)| {
        let read_at = read_at.map(timestamp);
        v1::UnreadRow { id: id.to_string(), read_at }
    });
    Some(v1::UnreadRows { rows: rows.collect(), are_all_stale: *is_whole })
}

/// What a copy needs to know at a checkpoint at the revision of this very snapshot.
pub(super) fn mark(ask: &Ask<'_>, is_consistent: bool) -> Result<v1::ResolutionMark, Failure> {
    Ok(v1::ResolutionMark {
        consistent: is_consistent,
        served_at: Some(timestamp(ask.now)),
        observed_at: ask.snapshot.observed_by_our_clock().map(timestamp),
        keeps_filtered_names: ask.snapshot.keeps_filtered_names()?,
    })
}

/// The names that a user, by surrogate, has lost within the quarantine.
fn held_names_of(ask: &Ask<'_>, revision: Revision, user: i64) -> Result<Option<v1::ChangeEvent>, Failure> {
    let Some(user_id) = ask.snapshot.id_of(user)? else { return Ok(None) };
    let since = ask.now.plus_millis(-ask.policy().quarantine_millis());
    let mut names = ask.snapshot.names_released_by(user, since, HELD_NAMES_MAX + 1)?;
    let truncated = names.len() > HELD_NAMES_MAX;
    names.truncate(HELD_NAMES_MAX);
    let names = names.into_iter().map(released_name).collect();
    Ok(Some(event(revision, Event::HeldNames(v1::HeldNames { user_id, names, truncated }))))
}

fn released_name(held: ReleasedName) -> v1::ReleasedName {
    v1::ReleasedName {
        app_id: held.app.map_or_else(String::new, |app| app.to_string()),
        field: held.kind,
        name: held.name,
        released_at: Some(timestamp(held.released_at)),
    }
}

/// The same of everybody whom these changes are about, each at the revision of its last change.
pub(super) fn held_names(ask: &Ask<'_>, planned: &[Planned]) -> Result<Vec<v1::ChangeEvent>, Failure> {
    let mut users: BTreeSet<i64> = BTreeSet::new();
    for planned in planned {
        let Subject::Row(key) = &planned.subject else { continue };
        match key.kind {
            Kind::User => users.insert(key.a),
            Kind::AppUser => users.insert(key.b),
            Kind::Group | Kind::App | Kind::GroupMember | Kind::AppGroup => false,
        };
    }
    let Some(last) = planned.last() else { return Ok(Vec::new()) };
    let mut events = Vec::with_capacity(users.len());
    for user in users {
        events.extend(held_names_of(ask, last.revision, user)?);
    }
    Ok(events)
}

/// The same of everybody behind a user, and the last one; `None` behind the last.
pub(super) fn held_names_page(
    ask: &Ask<'_>,
    revision: Revision,
    from: i64,
) -> Result<(Vec<v1::ChangeEvent>, Option<i64>), Failure> {
    let since = ask.now.plus_millis(-ask.policy().quarantine_millis());
    let users = ask.snapshot.users_who_released(from, since, USERS_PER_PAGE)?;
    let mut events = Vec::with_capacity(users.len());
    for user in &users {
        events.extend(held_names_of(ask, revision, *user)?);
    }
    Ok((events, users.last().copied()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::model::Scope;
    use crate::core::normalize::NameRule;

    fn settings() -> GrantPolicySettings {
        let alias = |app: &str, name: &str| AliasSetting {
            app: app.to_owned(),
            kind: IdentifierKind::Untyped,
            name: name.to_owned(),
            user: "00u1".to_owned(),
        };
        let rule = |app: &str, rule| NameRuleSetting { app: app.to_owned(), rule };
        GrantPolicySettings {
            name_rules: vec![rule("jira", NameRule::Exact), rule("Wiki", NameRule::IgnoreCase)],
            aliases: vec![alias("0oa1", "ann"), alias("0oa1", "bob"), alias("0oa2", "ann")],
            ..GrantPolicySettings::default()
        }
    }

    fn id(settings: &GrantPolicySettings, coverage: CoveragePolicy) -> String {
        PolicyHash::of("s", &GrantPolicy::new(settings).unwrap()).id(coverage)
    }

    #[test]
    fn coverage_is_told_in_messages_that_are_not_too_long() {
        #[track_caller]
        fn check(rows: &[usize], expected: &[usize]) {
            let scope = |rows: &usize| ScopeCoverage {
                scope: Scope::Users,
                completed_at: None,
                open: vec![GapKind::Failed],
                failed: Reach::rows(Arc::new((0..*rows).map(|n| (format!("00u{n}").into(), None)).collect())),
                is_settled: true,
            };
            let scopes: Vec<ScopeCoverage> = rows.iter().map(scope).collect();
            let changes = coverage_changes(true, &scopes);
            assert_eq!(changes.iter().map(|change| change.scopes.len()).collect::<Vec<_>>(), expected);
            let goes_on: Vec<bool> = changes.iter().map(|change| change.more).collect();
            assert_eq!(goes_on.iter().position(|more| !more), Some(changes.len() - 1));
            let told = changes.iter().flat_map(|change| &change.scopes);
            assert!(told.map(|told| told.unread_rows.as_ref().unwrap().rows.len()).eq(rows.iter().copied()));
        }
        check(&[], &[0]);
        check(&[0], &[1]);
        check(&[0; PER_EVENT], &[PER_EVENT]);
        check(&[0; PER_EVENT + 1], &[PER_EVENT, 1]);
        check(&[1_000, 1_000, 0, 0], &[1, 1, 2]);
        check(&[0, 400, 98, 0], &[2, 2]);
    }

    /// Whatever may change an answer changes the word; what cannot, does not.
    #[test]
    fn another_policy_is_another_word() {
        let usual = CoveragePolicy::default();
        let mut seen = BTreeSet::from([id(&settings(), usual)]);
        let mut check = |change: &dyn Fn(&mut GrantPolicySettings), is_other: bool| {
            let mut changed = settings();
            change(&mut changed);
            assert_eq!(seen.insert(id(&changed, usual)), is_other, "{changed:?}");
        };
        check(&|_| {}, false);
        check(&|settings| settings.aliases.reverse(), false);
        check(&|settings| settings.name_rules.reverse(), false);
        check(&|settings| settings.user_statuses.reverse(), false);
        check(&|settings| drop(settings.aliases.pop()), true);
        check(&|settings| settings.aliases[0].user = "00u2".to_owned(), true);
        check(&|settings| settings.aliases[0].kind = IdentifierKind::Email, true);
        check(&|settings| settings.aliases[0].name = "Ann".to_owned(), true);
        check(&|settings| settings.name_rules[0].rule = NameRule::IgnoreCase, true);
        check(&|settings| drop(settings.name_rules.pop()), true);
        check(&|settings| settings.second_email = true, true);
        check(&|settings| settings.quarantine_millis += 1, true);
        check(&|settings| settings.user_statuses.push("STAGED".to_owned()), true);
        check(&|settings| drop(settings.app_user_statuses.pop()), true);
        for coverage in [
            CoveragePolicy { on_gap: OnGap::Withhold, ..usual },
            CoveragePolicy { stale_after_millis: Some(7), ..usual },
            CoveragePolicy { log_stale_after_millis: Some(7), ..usual },
            CoveragePolicy { max_stale_millis: Some(7), ..usual },
        ] {
            assert!(seen.insert(id(&settings(), coverage)), "{coverage:?}");
        }
        let elsewhere = PolicyHash::of("t", &GrantPolicy::new(&settings()).unwrap()).id(usual);
        assert!(seen.insert(elsewhere));
    }
}

//! What a copy needs beside the rows to resolve accounts as this server does: policy, coverage, held names.
//!
//! Entry points: [`policy_events`] at the begin, [`ToldCoverage`] for each round, [`held_names`] behind the rows of a user,
//! [`held_names_page`] in a snapshot.
//!
//! Invariant: what is told of the coverage is never more hopeful than the rows that were sent.

use std::collections::BTreeSet;

use okta_idmap_proto::v1::{self, change_event::Event};

use super::super::ask::Ask;
use super::super::coverage::kind_to_proto;
use super::super::errors::Failure;
use super::super::rows::timestamp;
use super::lines::{Planned, Subject};
use super::rows::event;
use crate::core::coverage::{ChangesList, CoverageChanges, OnGap, ScopeCoverage};
use crate::core::ids::Revision;
use crate::core::model::Kind;
use crate::core::normalize::NORMALIZE_VERSION;
use crate::core::policy::{AliasSetting, NameRuleSetting};
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
    let (settings, coverage) = (ask.policy().settings(), ask.policy_of_coverage());
    let mut parts = vec![v1::ResolutionPolicy {
        normalize_version: NORMALIZE_VERSION,
        facts_version: FACTS_VERSION,
        user_statuses: settings.user_statuses,
        app_user_statuses: settings.app_user_statuses,
        second_email: settings.second_email,
        quarantine: Some(duration(settings.quarantine_millis)),
        stale_after: coverage.stale_after_millis.map(duration),
        log_stale_after: coverage.log_stale_after_millis.map(duration),
        withholds: coverage.on_gap == OnGap::Withhold,
        max_stale: coverage.max_stale_millis.map(duration),
        ..v1::ResolutionPolicy::default()
    }];
    for rules in settings.name_rules.chunks(PER_EVENT) {
        let name_rules = rules.iter().map(name_rule).collect();
        parts.push(v1::ResolutionPolicy { name_rules, ..v1::ResolutionPolicy::default() });
    }
    for aliases in settings.aliases.chunks(PER_EVENT) {
        let aliases = aliases.iter().map(alias).collect();
        parts.push(v1::ResolutionPolicy { aliases, ..v1::ResolutionPolicy::default() });
    }
    let last = parts.len() - 1;
    let numbered = parts.into_iter().enumerate();
    numbered.map(|(n, part)| event(revision, Event::Policy(v1::ResolutionPolicy { more: n < last, ..part }))).collect()
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
    let CoverageChanges { is_full, scopes } = changes;
    let chunks = scopes.chunks(PER_EVENT);
    let last = chunks.len().saturating_sub(1);
    let mut events: Vec<v1::ChangeEvent> = chunks
        .enumerate()
        .map(|(n, scopes)| {
            let scopes = scopes.iter().map(scope_coverage).collect();
            event(revision, Event::Coverage(v1::CoverageChange { full: is_full, more: n < last, scopes }))
        })
        .collect();
    if events.is_empty() && is_full {
        let nothing = v1::CoverageChange { full: true, ..v1::CoverageChange::default() };
        events.push(event(revision, Event::Coverage(nothing)));
    }
    events
}

fn scope_coverage(told: &ScopeCoverage) -> v1::ScopeCoverage {
    v1::ScopeCoverage {
        scope: told.scope.name(),
        completed_at: told.completed_at.map(timestamp),
        open_gaps: told.open.iter().map(|kind| kind_to_proto(*kind).into()).collect(),
        settled: told.is_settled,
    }
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

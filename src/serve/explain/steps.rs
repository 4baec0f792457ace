//! The steps of an explanation, collected up to their limit.
//!
//! Entry point: [`Steps`].
//!
//! Invariant: a step says in one sentence what its fact says; nothing else of an answer is made of the sentence.

use okta_idmap_proto::limits::{EVIDENCE_STEPS_MAX, GAP_IDS_MAX};
use okta_idmap_proto::v1::{self, evidence_step::Fact, row, row_key};

use super::super::ask::Ask;
use super::super::coverage::ScopeStates;
use super::super::errors::{Failure, bounded};
use super::super::gaps::Gaps;
use super::super::rows::timestamp;
use crate::core::ids::Timestamp;
use crate::core::model::Scope;

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: Vec<v1::EvidenceStep>,
    is_truncated: bool,
}

impl Steps {
    /// Adds a step; `gaps` are those that could change it.
    pub(super) fn add(&mut self, summary: String, fact: Fact, gaps: &Gaps) {
        if self.steps.len() == EVIDENCE_STEPS_MAX {
            self.is_truncated = true;
            return;
        }
        let (_, gap_ids, _) = gaps.shown(GAP_IDS_MAX);
        self.steps.push(v1::EvidenceStep { summary: bounded(summary), fact: Some(fact), gap_ids });
    }

    /// Says that some steps were left out.
    pub(super) fn truncate(&mut self) {
        self.is_truncated = true;
    }

    /// Adds a row that was looked up by its key. `what` names it in a sentence.
    pub(super) fn row(&mut self, what: &str, key: row_key::Key, row: Option<row::Row>, gaps: &Gaps) {
        let found = row.as_ref().map_or_else(|| "is not stored".to_owned(), |row| format!("is stored{}", detail(row)));
        let key = Some(v1::RowKey { key: Some(key) });
        let row = row.map(|row| v1::Row { row: Some(row) });
        self.add(format!("{what} {found}"), Fact::Row(v1::RowFact { key, row }), gaps);
    }

    /// Adds whether statuses grant.
    pub(super) fn grant(&mut self, inactive_reasons: Vec<v1::InactiveReason>, gaps: &Gaps) {
        let grants = inactive_reasons.is_empty();
        let reasons: Vec<String> = inactive_reasons.iter().map(reason).collect();
        let summary = match grants {
            true => "every status grants access".to_owned(),
            false => format!("no access: {}", reasons.join(", ")),
        };
        self.add(summary, Fact::Grant(v1::GrantFact { grants, inactive_reasons }), gaps);
    }

    /// Adds how completely collections were read.
    pub(super) fn coverage(&mut self, ask: &Ask<'_>, scopes: &[Scope]) -> Result<(), Failure> {
        let states = ScopeStates::read(ask)?;
        for scope in scopes {
            let (scope_shown, state, completed_at) = states.of(ask, scope)?;
            let name = state.as_str_name().trim_start_matches("SCOPE_STATE_");
            let at = completed_at.map_or_else(|| "never".to_owned(), |at| at.to_iso());
            let summary = format!("{scope} is {name}; last read completely: {at}");
            let fact = v1::CoverageFact {
                scope: Some(scope_shown),
                state: state.into(),
                completed_at: completed_at.map(timestamp),
            };
            self.add(summary, Fact::Coverage(fact), &ask.gaps_of_known(std::slice::from_ref(scope)));
        }
        Ok(())
    }

    /// All steps, and whether some were left out.
    pub(super) fn finish(self) -> (Vec<v1::EvidenceStep>, bool) {
        (self.steps, self.is_truncated)
    }
}

/// The name of a value without the prefix of its enumeration; Okta's spelling where there is none.
fn short(name: &str, prefix: &str, raw: &str) -> String {
    let known = name.strip_prefix(prefix).unwrap_or(name);
    if raw.is_empty() { known } else { raw }.to_owned()
}

/// What matters of a row: `; status ACTIVE, last changed in Okta at 2026-03-04T05:06:07.000Z`.
fn detail(row: &row::Row) -> String {
    let changed = |at: &Option<prost_types::Timestamp>| match at {
        Some(at) => {
            let millis = at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos / 1_000_000));
            format!(", last changed in Okta at {}", Timestamp::from_millis(millis))
        }
        None => String::new(),
    };
    match row {
        row::Row::User(user) => {
            let status = short(user.status().as_str_name(), "USER_STATUS_", &user.status_raw);
            format!("; status {status}{}", changed(&user.last_updated_at))
        }
        row::Row::App(app) => {
            let status = short(app.status().as_str_name(), "APP_STATUS_", &app.status_raw);
            format!("; status {status}{}", changed(&app.last_updated_at))
        }
        row::Row::AppUser(row) => {
            let status = short(row.status().as_str_name(), "APP_USER_STATUS_", &row.status_raw);
            let scope = short(row.scope().as_str_name(), "ASSIGNMENT_SCOPE_", &row.scope_raw);
            format!("; status {status}, assignment {scope}{}", changed(&row.last_updated_at))
        }
        row::Row::Group(_) | row::Row::GroupMember(_) | row::Row::AppGroup(_) | row::Row::Override(_) => String::new(),
    }
}

/// One reason why there is no access: `user SUSPENDED`.
fn reason(reason: &v1::InactiveReason) -> String {
    use v1::inactive_reason::Inactive;
    let raw = &reason.status_raw;
    match reason.inactive {
        Some(Inactive::UserStatus(status)) => match v1::UserStatus::try_from(status).unwrap_or_default() {
            v1::UserStatus::Unspecified => "the list of users does not show the user".to_owned(),
            status => format!("user {}", short(status.as_str_name(), "USER_STATUS_", raw)),
        },
        Some(Inactive::AppUserStatus(status)) => {
            let status = v1::AppUserStatus::try_from(status).unwrap_or_default();
            format!("account {}", short(status.as_str_name(), "APP_USER_STATUS_", raw))
        }
        Some(Inactive::AppStatus(status)) => {
            let status = v1::AppStatus::try_from(status).unwrap_or_default();
            format!("app {}", short(status.as_str_name(), "APP_STATUS_", raw))
        }
        None => "something does not grant it".to_owned(),
    }
}

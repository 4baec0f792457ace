//! Which rows may be outdated, and which of them the policy keeps back.
//!
//! Entry points: [`Coverage::is_stale`], [`Coverage::withholds`]; [`Coverage::opened_for`] for a gap of a few rows.
//!
//! Invariants:
//! - Only [`GapKind::Failed`] may be about a few rows: a list was read to its end, and some of its records could not be read.
//! - Whoever cannot tell which rows a gap is about says all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Coverage, CoveragePolicy, GapKind, OnGap, collection_of};
use crate::core::ids::Timestamp;
use crate::core::model::Scope;

/// Rows of a collection, by the ids that its records carry, each with the end of the last read of the whole collection before its
/// record could not be read; `None`: there was none. Some need not be stored.
pub type UnreadRows = Arc<BTreeMap<Box<str>, Option<Timestamp>>>;

/// Which rows of its collection a gap makes outdated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// All: the collection cannot be read.
    pub is_whole: bool,
    /// The records of these could not be read, whatever is wrong with the others. They are kept from an earlier read.
    pub rows: UnreadRows,
}

impl Default for Reach {
    fn default() -> Self {
        Self::whole()
    }
}

impl Reach {
    /// All rows.
    pub fn whole() -> Self {
        Self { is_whole: true, rows: UnreadRows::default() }
    }

    /// These rows alone.
    pub const fn rows(rows: UnreadRows) -> Self {
        Self { is_whole: false, rows }
    }

    /// Whether it is about a row.
    pub fn covers(&self, row: &str) -> bool {
        self.is_whole || self.rows.contains_key(row)
    }

    /// What either is about.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Self { is_whole: self.is_whole || other.is_whole, rows: joined(&self.rows, &other.rows) }
    }
}

/// The rows of both, each as old as either says.
fn joined(mine: &UnreadRows, theirs: &UnreadRows) -> UnreadRows {
    if theirs.is_empty() {
        return Arc::clone(mine);
    }
    let mut all = BTreeMap::clone(mine);
    for (row, read_at) in theirs.iter() {
        all.entry(row.clone()).and_modify(|known| *known = (*known).min(*read_at)).or_insert(*read_at);
    }
    Arc::new(all)
}

impl Coverage {
    /// Notes what [`GapKind::Failed`] of a list is about, whatever it was about before.
    pub fn opened_for(&mut self, scope: Scope, reach: Reach) {
        match self.reach_of_failed(&scope) {
            None => {
                self.opened(scope.clone(), GapKind::Failed);
                self.unread.insert(scope, reach);
            }
            Some(before) if before == reach => {}
            Some(before) => {
                // Rows of before it are as outdated as they were.
                self.unread.insert(scope.clone(), reach);
                self.journal.note_closed(scope.clone(), GapKind::Failed, before.clone());
                self.remember_closing(scope, GapKind::Failed, before);
            }
        }
    }

    /// Notes that it is about these as well, whatever else is wrong with the list.
    pub fn widened(&mut self, scope: Scope, reach: &Reach) {
        match self.reach_of_failed(&scope) {
            None => self.opened_for(scope, reach.clone()),
            Some(before) => {
                let all = before.join(reach);
                if all != before {
                    self.unread.insert(scope.clone(), all);
                    self.generation += 1;
                    self.journal.note(scope);
                }
            }
        }
    }

    /// Which rows the open [`GapKind::Failed`] of a scope is about; `None`: there is none.
    pub(super) fn reach_of_failed(&self, scope: &Scope) -> Option<Reach> {
        let is_open = self.has_open(scope, GapKind::Failed);
        is_open.then(|| self.unread.get(scope).cloned().unwrap_or_default())
    }

    /// Which rows of `scope` may be outdated: those of a list that can no longer be read are those of an earlier read. `None`:
    /// none.
    pub fn stale(&self, scope: &Scope) -> Option<Reach> {
        let kinds = self.open.get(scope)?;
        let failed = self.reach_of_failed(scope);
        if kinds.iter().any(|kind| kind.makes_stale() && *kind != GapKind::Failed) {
            return Some(Reach { is_whole: true, ..failed.unwrap_or_default() });
        }
        failed
    }

    /// Whether a row of `scope` may be outdated, because its list, or just its record, can no longer be read. `row`: the id that
    /// the record carries in this list.
    pub fn is_stale(&self, scope: &Scope, row: &str) -> bool {
        let reaches = |kind: &GapKind| match self.unread.get(scope) {
            Some(reach) if *kind == GapKind::Failed => reach.covers(row),
            _ => kind.makes_stale(),
        };
        self.open.get(scope).is_some_and(|kinds| kinds.iter().any(reaches))
    }

    /// Whether the policy keeps a row of `scope` back: it can no longer be read, and what was seen may not be answered any
    /// more.
    pub fn withholds(&self, scope: &Scope, row: &str, now: Timestamp, policy: CoveragePolicy) -> bool {
        if policy.on_gap == OnGap::Keep && policy.max_stale_millis.is_none() || !self.is_stale(scope, row) {
            return false;
        }
        match (policy.on_gap, policy.max_stale_millis) {
            (OnGap::Withhold, _) => true,
            (OnGap::Keep, None) => false,
            (OnGap::Keep, Some(max_millis)) => {
                let collection = scope.object().and_then(|key| collection_of(key.kind()));
                let all_read_at = self.complete.get(collection.as_ref().unwrap_or(scope)).copied();
                // The reads of the list since then have not shown this row.
                let row_read_at = self.unread.get(scope).and_then(|reach| reach.rows.get(row)).copied();
                row_read_at.unwrap_or(all_read_at).is_none_or(|at| now.millis_since(at) > max_millis)
            }
        }
    }

    /// The same for rows as of an earlier moment, after which the gap may have closed: [`super::Asked::generation`]. When they
    /// were read is no longer known then, and they are kept back whatever age the policy allows.
    pub fn withheld_since(
        &self,
        scope: &Scope,
        row: &str,
        generation: u64,
        now: Timestamp,
        policy: CoveragePolicy,
    ) -> bool {
        if policy.on_gap == OnGap::Keep && policy.max_stale_millis.is_none() {
            return false;
        }
        let has_closed = |(at, closed, kind, reach): &(u64, Scope, GapKind, Reach)| {
            *at > generation && closed == scope && kind.makes_stale() && reach.covers(row)
        };
        self.withholds(scope, row, now, policy)
            || self.generation != generation
                && (self.closings_forgotten_through > generation || self.closings.iter().any(has_closed))
    }
}

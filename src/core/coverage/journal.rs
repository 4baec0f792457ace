//! What of the coverage has changed, for whoever keeps a copy of it.
//!
//! Entry points: [`Coverage::changes_since`] for whoever tells, [`Coverage::take_over`] for whoever is told.
//!
//! Invariant: a copy is never more hopeful than the rows that go with it: what closed or was completed after the rows were
//! read is not told as such.

use std::collections::{BTreeSet, VecDeque};

use super::{Coverage, GapKind};
use crate::core::ids::Timestamp;
use crate::core::model::Scope;

/// Changes of scopes that are remembered for copies: some rounds of a busy crawl. Who is further behind takes everything.
const JOURNAL_MAX: usize = 8_192;

/// Which scopes have changed, times of complete reads included; oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    /// Number of changes so far.
    position: u64,
    lines: VecDeque<(u64, Scope)>,
    /// Position of the youngest line that is not remembered any more.
    forgotten_through: u64,
}

impl Journal {
    pub(super) fn note(&mut self, scope: Scope) {
        self.position += 1;
        if self.lines.len() >= JOURNAL_MAX
            && let Some((position, _)) = self.lines.pop_front()
        {
            self.forgotten_through = position;
        }
        self.lines.push_back((self.position, scope));
    }
}

/// What is known of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeCoverage {
    /// Which.
    pub scope: Scope,
    /// When it was last read to its end; `None`: never, or nobody reads it any more.
    pub completed_at: Option<Timestamp>,
    /// Its open gaps.
    pub open: Vec<GapKind>,
    /// Whether this is all. If not, gaps may have been open at the moment that is meant which are closed by now: whoever
    /// keeps a copy only adds these gaps, and takes the rest when it is told again.
    pub is_settled: bool,
}

/// What changed since a position of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverageChanges {
    /// Whether these are all scopes there are, because nobody remembers what has changed.
    pub is_full: bool,
    /// The scopes as they are now.
    pub scopes: Vec<ScopeCoverage>,
}

impl Coverage {
    /// How many changes there were, for [`Coverage::changes_since`].
    pub fn position(&self) -> u64 {
        self.journal.position
    }

    /// The scopes that changed after `position`; all of them, if nobody remembers. Those that changed after
    /// `settled_through`, the position before the rows were read that go with this, are not settled.
    pub fn changes_since(&self, position: u64, settled_through: u64) -> CoverageChanges {
        let is_unsure = settled_through < self.journal.forgotten_through;
        let is_full = position < self.journal.forgotten_through || position > self.journal.position;
        let later = self.journal.lines.iter().rev().take_while(|(at, _)| *at > settled_through);
        let unsettled: BTreeSet<&Scope> = later.map(|(_, scope)| scope).collect();
        let changed: BTreeSet<&Scope> = if is_full {
            self.complete.keys().chain(self.open.keys()).chain(unsettled.iter().copied()).collect()
        } else {
            let changed = self.journal.lines.iter().rev().take_while(|(at, _)| *at > position);
            changed.map(|(_, scope)| scope).collect()
        };
        let shown = |scope: &Scope| ScopeCoverage {
            scope: scope.clone(),
            completed_at: self.completed_at(scope),
            open: self.open.get(scope).into_iter().flatten().copied().collect(),
            is_settled: !is_unsure && !unsettled.contains(scope),
        };
        CoverageChanges { is_full: is_full && !is_unsure, scopes: changed.into_iter().map(shown).collect() }
    }

    /// Takes over what another coverage tells of a scope.
    pub fn take_over(&mut self, told: ScopeCoverage) {
        let ScopeCoverage { scope, completed_at, open, is_settled } = told;
        if is_settled {
            match completed_at {
                Some(at) => self.completed(scope.clone(), at),
                None => self.gone(&scope),
            }
            let closed: Vec<GapKind> = self.open.get(&scope).into_iter().flatten().copied().collect();
            for kind in closed.into_iter().filter(|kind| !open.contains(kind)) {
                self.closed(&scope, kind);
            }
        }
        for kind in open {
            self.opened(scope.clone(), kind);
        }
    }

    /// What is known of every scope.
    pub fn all_scopes(&self) -> Vec<ScopeCoverage> {
        self.changes_since(u64::MAX, self.journal.position).scopes
    }

    /// Takes over a list of changes.
    pub fn take_over_all(&mut self, changes: CoverageChanges) {
        if changes.is_full {
            let told: BTreeSet<&Scope> = changes.scopes.iter().map(|told| &told.scope).collect();
            let known: BTreeSet<Scope> = self.complete.keys().chain(self.open.keys()).cloned().collect();
            for scope in known.iter().filter(|scope| !told.contains(scope)) {
                self.forget(scope);
            }
        }
        for told in changes.scopes {
            self.take_over(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::AppId;

    fn scope(n: usize) -> Scope {
        Scope::AppUsers(AppId::new(&format!("0oa{n}")).unwrap())
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn shown(changes: &CoverageChanges) -> String {
        let one = |told: &ScopeCoverage| {
            let at = told.completed_at.map_or("-".to_owned(), |at| at.as_millis().to_string());
            let open: Vec<&str> = told.open.iter().map(|kind| kind.name()).collect();
            format!("{} {at} {}{}", told.scope, open.join("+"), if told.is_settled { "" } else { "?" })
        };
        let scopes: Vec<String> = changes.scopes.iter().map(one).collect();
        format!("{}{}", if changes.is_full { "full: " } else { "" }, scopes.join(", "))
    }

    #[test]
    fn changes_are_told_once_and_settled_when_the_rows_have_them() {
        let mut coverage = Coverage::default();
        coverage.completed(Scope::Users, at(1));
        coverage.opened(Scope::Apps, GapKind::Failed);
        let before = coverage.position();
        assert_eq!(shown(&coverage.changes_since(u64::MAX, before)), "full: users 1 , apps - FAILED");
        assert_eq!(shown(&coverage.changes_since(before, before)), "");
        coverage.completed(Scope::Users, at(2));
        coverage.closed(&Scope::Apps, GapKind::Failed);
        assert_eq!(shown(&coverage.changes_since(before, before)), "users 2 ?, apps - ?");
        assert_eq!(shown(&coverage.changes_since(before, coverage.position())), "users 2 , apps - ");
        coverage.gone(&Scope::Users);
        assert_eq!(shown(&coverage.changes_since(before, coverage.position())), "users - , apps - ");
    }

    #[test]
    fn who_is_too_far_behind_is_told_everything() {
        let mut coverage = Coverage::default();
        coverage.completed(Scope::Users, at(1));
        for n in 0..=JOURNAL_MAX {
            coverage.completed(scope(n % 7), at(2));
        }
        let changes = coverage.changes_since(0, coverage.position());
        assert_eq!((changes.is_full, changes.scopes.len()), (true, 8));
        // Rows from a time that nobody remembers: nothing is certain, and nothing may be left out of the copy.
        let changes = coverage.changes_since(0, 0);
        assert!(!changes.is_full && changes.scopes.iter().all(|told| !told.is_settled));
    }

    #[test]
    fn a_copy_becomes_the_same_and_is_never_more_hopeful() {
        let kinds = [GapKind::Failed, GapKind::Forbidden, GapKind::Held];
        let mut random = 1_u32;
        let mut draw = |n: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % n
        };
        let (mut coverage, mut copy, mut position) = (Coverage::default(), Coverage::default(), u64::MAX);
        let mut unsettled = 0;
        for round in 0..2_000 {
            let before = coverage.clone();
            for _ in 0..draw(4) {
                let (scope, kind) = (scope(draw(5)), kinds[draw(3)]);
                match draw(6) {
                    0 => coverage.gone(&scope),
                    1 | 2 => coverage.completed(scope, at(round)),
                    3 | 4 => coverage.opened(scope, kind),
                    _ => coverage.closed(&scope, kind),
                }
            }
            // The rows are those of before every other time.
            let settled = if round % 2 == 0 { coverage.position() } else { before.position() };
            let changes = coverage.changes_since(position, settled);
            unsettled += changes.scopes.iter().filter(|told| !told.is_settled).count();
            copy.take_over_all(changes);
            position = settled;
            if round % 2 == 0 {
                assert_eq!(copy.all_scopes(), coverage.all_scopes());
                continue;
            }
            for told in before.all_scopes() {
                assert!(told.open.iter().all(|kind| copy.has_open(&told.scope, *kind)), "{told:?}");
                assert_eq!(copy.completed_at(&told.scope), told.completed_at);
            }
        }
        assert!(unsettled > 500, "{unsettled}");
    }
}

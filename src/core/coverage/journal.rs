//! What of the coverage has changed, for whoever keeps a copy of it.
//!
//! Entry points: [`ChangesList`] and [`Coverage::go_on`] for whoever tells, [`Coverage::take_over`] for whoever is told.
//!
//! Invariants:
//! - A copy is never more hopeful than the rows that go with it: what closed or was completed after the rows were read is not
//!   told as such, whenever during the listing that was.
//! - Nobody holds the coverage for longer than one piece of a list takes.

use super::{Coverage, GapKind, Reach};
use crate::core::ids::Timestamp;
use crate::core::model::Scope;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

/// Changes of scopes that are remembered for copies: some rounds of a busy crawl. Who is further behind takes everything.
const JOURNAL_MAX: usize = 8_192;

/// A change of a scope.
#[derive(Clone, Debug)]
struct Line {
    position: u64,
    scope: Scope,
    /// The gap that was closed by it, or is about fewer rows since, with those that it was about.
    closed: Option<(GapKind, Reach)>,
}

/// Which scopes have changed, times of complete reads included; oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    /// Number of changes so far.
    position: u64,
    lines: VecDeque<Line>,
    /// Position of the youngest line that is not remembered any more.
    forgotten_through: u64,
}

impl Journal {
    /// Notes a change of a scope.
    pub(super) fn note(&mut self, scope: Scope) {
        self.add(scope, None);
    }

    /// Notes that a gap was closed, or is about other rows.
    pub(super) fn note_closed(&mut self, scope: Scope, kind: GapKind, reach: Reach) {
        self.add(scope, Some((kind, reach)));
    }

    fn add(&mut self, scope: Scope, closed: Option<(GapKind, Reach)>) {
        self.position += 1;
        if self.lines.len() >= JOURNAL_MAX
            && let Some(line) = self.lines.pop_front()
        {
            self.forgotten_through = line.position;
        }
        self.lines.push_back(Line { position: self.position, scope, closed });
    }

    /// The lines behind a position, youngest first.
    fn behind(&self, position: u64) -> impl Iterator<Item = &Line> {
        self.lines.iter().rev().take_while(move |line| line.position > position)
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
    /// The rows that its [`GapKind::Failed`] is about.
    pub failed: Reach,
    /// Whether this is all. If not, the scope has changed since the moment that is meant, and `open` has what was open then or
    /// is now: whoever keeps a copy only adds these gaps, and takes the rest when it is told again.
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

/// A list of what changed since a position of the journal that is taken in pieces, so that nobody has to hold the coverage for
/// all of it. What changes between two pieces is told by the next list from `settled_through` on.
#[derive(Clone, Debug)]
pub struct ChangesList {
    position: u64,
    settled_through: u64,
    /// What is still to be told; `None` before the first piece.
    left: Option<Left>,
    scopes: Vec<ScopeCoverage>,
    /// Nobody remembers what was open at the moment that is meant.
    is_lost: bool,
}

#[derive(Clone, Debug)]
enum Left {
    /// Everything behind a scope, because nobody remembers what has changed.
    Behind(Option<Scope>),
    /// These.
    These(VecDeque<Scope>),
}

impl ChangesList {
    /// What changed after `position`; everything, if nobody remembers. `settled_through`: the position before the rows were read
    /// that go with this; what changed after it is not settled.
    pub fn new(position: u64, settled_through: u64) -> Self {
        Self { position, settled_through, left: None, scopes: Vec::new(), is_lost: false }
    }

    /// The whole list, after the last piece. `None`: so much has changed meanwhile that nobody remembers what was open when the
    /// rows were read; other rows are needed.
    pub fn finish(self) -> Option<CoverageChanges> {
        let is_full = matches!(self.left, Some(Left::Behind(_)));
        (!self.is_lost).then_some(CoverageChanges { is_full, scopes: self.scopes })
    }
}

impl Coverage {
    /// How many changes there were, for [`ChangesList::new`].
    pub fn position(&self) -> u64 {
        self.journal.position
    }

    /// Adds at most `limit` scopes to a list; whether it goes on.
    pub fn go_on(&self, list: &mut ChangesList, limit: usize) -> bool {
        list.is_lost |= list.settled_through < self.journal.forgotten_through;
        if list.is_lost {
            return false;
        }
        let mut closed: BTreeMap<&Scope, BTreeMap<GapKind, Reach>> = BTreeMap::new();
        for line in self.journal.behind(list.settled_through) {
            let kinds = closed.entry(&line.scope).or_default();
            if let Some((kind, reach)) = &line.closed {
                let joined = kinds.get(kind).map_or_else(|| reach.clone(), |known| known.join(reach));
                kinds.insert(*kind, joined);
            }
        }
        let left = list.left.get_or_insert_with(|| self.changed_since(list.position));
        let (piece, goes_on): (Vec<Scope>, bool) = match left {
            Left::These(scopes) => {
                let piece = scopes.drain(..limit.min(scopes.len())).collect();
                (piece, !scopes.is_empty())
            }
            Left::Behind(after) => {
                let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let complete = self.complete.range((from, Bound::Unbounded)).map(|(scope, _)| scope).take(limit);
                let open = self.open.range((from, Bound::Unbounded)).map(|(scope, _)| scope).take(limit);
                let unsettled = closed.range::<Scope, _>((from, Bound::Unbounded)).map(|(scope, _)| *scope).take(limit);
                let next: BTreeSet<&Scope> = complete.chain(open).chain(unsettled).collect();
                let piece: Vec<Scope> = next.into_iter().take(limit).cloned().collect();
                let goes_on = piece.len() == limit;
                if let Some(last) = piece.last() {
                    *after = Some(last.clone());
                }
                (piece, goes_on)
            }
        };
        list.scopes.extend(piece.into_iter().map(|scope| {
            let since = closed.get(&scope);
            let now = self.open.get(&scope).into_iter().flatten();
            let open: BTreeSet<GapKind> = now.chain(since.into_iter().flat_map(BTreeMap::keys)).copied().collect();
            let failed_now = self.reach_of_failed(&scope);
            let failed = match (failed_now, since.and_then(|kinds| kinds.get(&GapKind::Failed))) {
                (Some(now), Some(then)) => now.join(then),
                (Some(now), None) => now,
                (None, then) => then.cloned().unwrap_or_default(),
            };
            let (completed_at, is_settled) = (self.completed_at(&scope), since.is_none());
            ScopeCoverage { scope, completed_at, open: open.into_iter().collect(), failed, is_settled }
        }));
        goes_on
    }

    fn changed_since(&self, position: u64) -> Left {
        if position < self.journal.forgotten_through || position > self.journal.position {
            return Left::Behind(None);
        }
        let changed: BTreeSet<&Scope> = self.journal.behind(position).map(|line| &line.scope).collect();
        Left::These(changed.into_iter().cloned().collect())
    }

    fn changes_since(&self, position: u64, settled_through: u64) -> Option<CoverageChanges> {
        let mut list = ChangesList::new(position, settled_through);
        while self.go_on(&mut list, usize::MAX) {}
        list.finish()
    }

    /// Takes over what another coverage tells of a scope.
    pub fn take_over(&mut self, told: ScopeCoverage) {
        let ScopeCoverage { scope, completed_at, open, failed, is_settled } = told;
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
            match kind {
                GapKind::Failed if is_settled => self.opened_for(scope.clone(), failed.clone()),
                GapKind::Failed => self.widened(scope.clone(), &failed),
                _ => self.opened(scope.clone(), kind),
            }
        }
    }

    /// What is known of every scope.
    pub fn all_scopes(&self) -> Vec<ScopeCoverage> {
        self.changes_since(u64::MAX, self.journal.position).map(|changes| changes.scopes).unwrap_or_default()
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
    use std::sync::Arc;

    use super::*;
    use crate::core::ids::AppId;

    fn scope(n: usize) -> Scope {
        Scope::AppUsers(AppId::new(&format!("0oa{n}")).unwrap())
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn shown(changes: Option<CoverageChanges>) -> String {
        let one = |told: &ScopeCoverage| {
            let at = told.completed_at.map_or("-".to_owned(), |at| at.as_millis().to_string());
            let open: Vec<&str> = told.open.iter().map(|kind| kind.name()).collect();
            format!("{} {at} {}{}", told.scope, open.join("+"), if told.is_settled { "" } else { "?" })
        };
        let Some(changes) = changes else { return "lost".to_owned() };
        let scopes: Vec<String> = changes.scopes.iter().map(one).collect();
        format!("{}{}", if changes.is_full { "full: " } else { "" }, scopes.join(", "))
    }

    #[test]
    fn changes_are_told_once_and_settled_when_the_rows_have_them() {
        let mut coverage = Coverage::default();
        coverage.completed(Scope::Users, at(1));
        coverage.opened(Scope::Apps, GapKind::Failed);
        let before = coverage.position();
        assert_eq!(shown(coverage.changes_since(u64::MAX, before)), "full: users 1 , apps - FAILED");
        assert_eq!(shown(coverage.changes_since(before, before)), "");
        coverage.completed(Scope::Users, at(2));
        coverage.closed(&Scope::Apps, GapKind::Failed);
        assert_eq!(shown(coverage.changes_since(before, before)), "users 2 ?, apps - FAILED?");
        assert_eq!(shown(coverage.changes_since(before, coverage.position())), "users 2 , apps - ");
        coverage.gone(&Scope::Users);
        assert_eq!(shown(coverage.changes_since(before, coverage.position())), "users - , apps - ");
    }

    /// The copy knows nothing of a gap that opened before the rows were read and has closed since: it must hear of it.
    #[test]
    fn what_was_open_when_the_rows_were_read_is_told() {
        let (mut coverage, mut copy) = (Coverage::default(), Coverage::default());
        coverage.completed(scope(1), at(1));
        copy.take_over_all(coverage.changes_since(u64::MAX, 1).unwrap());
        coverage.opened(scope(1), GapKind::Failed);
        let rows_at = coverage.position();
        coverage.closed(&scope(1), GapKind::Failed);
        assert_eq!(shown(coverage.changes_since(1, rows_at)), "app_users(0oa1) 1 FAILED?");
        copy.take_over_all(coverage.changes_since(1, rows_at).unwrap());
        assert!(copy.has_open(&scope(1), GapKind::Failed));
        copy.take_over_all(coverage.changes_since(rows_at, coverage.position()).unwrap());
        assert!(!copy.has_open(&scope(1), GapKind::Failed));
        // A scope that nobody reads any more closes all that was open on it.
        coverage.opened(scope(1), GapKind::Held);
        coverage.opened(scope(1), GapKind::Failed);
        let rows_at = coverage.position();
        coverage.forget(&scope(1));
        assert_eq!(shown(coverage.changes_since(rows_at, rows_at)), "app_users(0oa1) - HELD+FAILED?");
    }

    #[test]
    fn who_is_too_far_behind_is_told_everything() {
        let mut coverage = Coverage::default();
        coverage.completed(Scope::Users, at(1));
        for n in 0..=JOURNAL_MAX {
            coverage.completed(scope(n % 7), at(2));
        }
        let changes = coverage.changes_since(0, coverage.position()).unwrap();
        assert_eq!((changes.is_full, changes.scopes.len()), (true, 8));
        // Rows from a time that nobody remembers: what was open then is not known.
        assert_eq!(shown(coverage.changes_since(0, 0)), "lost");
    }

    #[test]
    fn a_list_that_nothing_disturbs_is_the_same_in_pieces() {
        let mut coverage = Coverage::default();
        for n in 0..50 {
            coverage.completed(scope(n), at(1));
            coverage.opened(scope(n * 2), GapKind::Failed);
        }
        for (position, settled_through) in [(u64::MAX, 100), (u64::MAX, 80), (0, 100), (60, 90), (100, 100)] {
            let whole = coverage.changes_since(position, settled_through).unwrap();
            for limit in [1, 2, 7, 49, 50, 51, 1_000] {
                let mut list = ChangesList::new(position, settled_through);
                let mut told = 0;
                loop {
                    let goes_on = coverage.go_on(&mut list, limit);
                    assert!(list.scopes.len() - told <= limit);
                    told = list.scopes.len();
                    if !goes_on {
                        break;
                    }
                }
                assert_eq!(list.finish().as_ref(), Some(&whole), "{position} {settled_through} {limit}");
            }
        }
    }

    /// A list is lost in the middle of it, too.
    #[test]
    fn a_list_that_takes_too_long_is_lost() {
        let mut coverage = Coverage::default();
        (0..10).for_each(|n| coverage.completed(scope(n), at(1)));
        let mut list = ChangesList::new(u64::MAX, coverage.position());
        assert!(coverage.go_on(&mut list, 5));
        (0..JOURNAL_MAX + 11).for_each(|n| coverage.completed(scope(n % 3), at(2)));
        assert!(!coverage.go_on(&mut list, 5));
        assert_eq!(list.finish(), None);
    }

    #[test]
    fn a_copy_becomes_the_same_and_is_never_more_hopeful() {
        let mut random = 1_u32;
        let mut draw = |n: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % n
        };
        let (mut coverage, mut copy, mut position) = (Coverage::default(), Coverage::default(), u64::MAX);
        let (mut unsettled, mut full, mut of_rows) = (0, 0, 0);
        for round in 0..4_000 {
            if draw(50) == 0 {
                // As after a longer absence.
                position = u64::MAX;
            }
            (0..draw(4)).for_each(|_| change(&mut coverage, round, &mut draw));
            // The rows are read, and until the list is whole all goes on; every other time it stands still.
            let rows_at = coverage.clone();
            let is_calm = round % 2 == 0;
            let mut list = ChangesList::new(position, rows_at.position());
            loop {
                if !is_calm {
                    (0..draw(3)).for_each(|_| change(&mut coverage, round, &mut draw));
                }
                if !coverage.go_on(&mut list, 1 + draw(3)) {
                    break;
                }
            }
            let changes = list.finish().unwrap();
            full += usize::from(changes.is_full);
            of_rows += changes.scopes.iter().filter(|told| !told.failed.is_whole).count();
            unsettled += changes.scopes.iter().filter(|told| !told.is_settled).count();
            copy.take_over_all(changes);
            position = rows_at.position();
            if is_calm {
                assert_eq!(copy.all_scopes(), coverage.all_scopes(), "round {round}");
                continue;
            }
            for told in rows_at.all_scopes() {
                assert!(told.open.iter().all(|kind| copy.has_open(&told.scope, *kind)), "round {round}: {told:?}");
                for row in ["a", "b", "c"].into_iter().filter(|row| rows_at.is_stale(&told.scope, row)) {
                    assert!(copy.is_stale(&told.scope, row), "round {round}: {row} of {told:?}");
                }
            }
            for told in copy.all_scopes() {
                // What was complete before may be gone by now, and is told so next time.
                let had = [rows_at.completed_at(&told.scope), None];
                let was_known = told.completed_at.is_some_and(|at| at.as_millis() < round);
                assert!(had.contains(&told.completed_at) || was_known, "round {round}: {told:?}");
            }
        }
        assert!(unsettled > 500 && full > 30, "{unsettled} unsettled, {full} full");
        assert!(of_rows > 500, "{of_rows} of single rows");
    }

    /// Some of three rows.
    fn some_rows(bits: usize) -> Reach {
        let rows = ["a", "b", "c"].into_iter().enumerate();
        let rows = rows.filter(|(n, _)| bits >> n & 1 == 1).map(|(_, row)| (row.into(), None)).collect();
        Reach { is_whole: bits > 7, rows: Arc::new(rows) }
    }

    fn change(coverage: &mut Coverage, round: i64, draw: &mut impl FnMut(usize) -> usize) {
        let (scope, kind) = (scope(draw(5)), [GapKind::Failed, GapKind::Forbidden, GapKind::Held][draw(3)]);
        match draw(15) {
            12 | 13 => coverage.opened_for(scope, some_rows(draw(10))),
            14 => coverage.widened(scope, &some_rows(draw(10))),
            0 | 1 => coverage.gone(&scope),
            2 => coverage.forget(&scope),
            3..=5 => coverage.completed(scope, at(round)),
            6..=8 => coverage.opened(scope, kind),
            _ => coverage.closed(&scope, kind),
        }
    }
}

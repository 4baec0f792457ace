//! Walks, sweeps and holds, within the writer's transaction.
//!
//! The rows that a walk shows and that were stored before are remembered as one bitmap a page; its new rows carry the
//! walk's request numbers. When the walk has reached its end, what is neither is missing, and
//! [`crate::core::reconcile`] says what becomes of it. While missing rows are held, one bitmap of the whole walk is kept:
//! the hold can be released later, and removes exactly what is missing then.

use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, params};

use super::apply::Apply;
use super::missing::{self, HELD, Missing};
use super::{SharedCoverage, StoreError, as_i64, members};
use crate::core::batch::{Finished, Position, WalkState, WalkUpdate};
use crate::core::coverage::{Gap, GapKind};
use crate::core::ids::{AppId, CrawlId, GroupId, RequestNumber, Timestamp, UserId};
use crate::core::model::{Key, Scope};
use crate::core::pending::Target;
use crate::core::reconcile::{Brake, Verdict, Walked, verdict};

/// A change of what is known about coverage, applied to the shared view only after the commit.
#[derive(Clone, Debug)]
pub(super) enum CoverageChange {
    Completed(Scope),
    Forget(Scope),
    Opened(Scope, GapKind),
    Closed(Scope, GapKind),
}

pub(super) fn publish(coverage: &SharedCoverage, changes: Vec<CoverageChange>) {
    if changes.is_empty() {
        return;
    }
    let mut coverage = coverage.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    for change in changes {
        match change {
            CoverageChange::Completed(scope) => coverage.completed(scope),
            CoverageChange::Forget(scope) => coverage.forget(&scope),
            CoverageChange::Opened(scope, kind) => coverage.opened(scope, kind),
            CoverageChange::Closed(scope, kind) => coverage.closed(&scope, kind),
        }
    }
}

/// Rows that a list of users or groups no longer shows and that are asked for by id, at most: beyond it the list is believed,
/// up to the brake. By-id reads have buckets of hundreds a minute (facts 6.2).
const ASKED_ROWS_MAX: usize = 1_000;

/// Much hangs on users and groups, and a list can leave out what is there (facts 2.2, 7.2): their absence is asked about, as
/// that of apps always is.
const fn is_asked_for(scope: &Scope) -> bool {
    matches!(scope, Scope::Users | Scope::Groups)
}

/// The part of a transaction that keeps the books.
pub(super) struct Books<'a, 'b> {
    pub(super) apply: &'b mut Apply<'a>,
    pub(super) crawl: CrawlId,
    pub(super) okta_now: Timestamp,
    pub(super) credential: &'b str,
    pub(super) brake: Brake,
    /// Whether somebody follows, who can be asked to read rows by id.
    pub(super) asks_for_missing: bool,
    /// Gaps that the batch reports.
    pub(super) found: &'b [Gap],
    pub(super) coverage: Vec<CoverageChange>,
}

/// What a batch shows of one scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// Rows that were stored before, by surrogate within the scope.
    pub(super) seen: RoaringBitmap,
    /// Records of the answer, those that a filter drops among them.
    pub(super) records: u64,
    /// What the filter dropped, by the numbers of [`super::filtered`].
    pub(super) dropped: RoaringBitmap,
}

/// The end of a walk, as the batch tells it.
#[derive(Clone, Copy, Debug)]
struct End {
    from: RequestNumber,
    began: Timestamp,
    known_empty: bool,
}

/// What is stored about a scope; empty when nothing is.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    pub(super) state: String,
    walk_from: Option<i64>,
    /// Rows that the open walk has shown so far.
    rows: i64,
    read_by: Option<String>,
}

impl Books<'_, '_> {
    pub(super) fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        Ok(self.apply.sql.prepare_cached(sql)?.execute(params)?)
    }

    pub(super) fn book(&self, name: &str) -> Result<Book, StoreError> {
        let mut select =
            self.apply.sql.prepare_cached("SELECT state, walk_from, rows, read_by FROM scopes WHERE scope = ?1")?;
        let book = select.query_row([name], |row| {
            let rows = row.get::<_, Option<i64>>(2)?.unwrap_or_default();
            Ok(Book { state: row.get(0)?, walk_from: row.get(1)?, rows, read_by: row.get(3)? })
        });
        Ok(book.optional()?.unwrap_or_default())
    }

    /// Notes where a walk stands; `shown` is what the batch brings of the scope.
    pub(super) fn walk(&mut self, update: &WalkUpdate, shown: &Shown) -> Result<Option<Finished>, StoreError> {
        let name = update.scope.name();
        match &update.state {
            WalkState::Todo => {
                self.forget_seen(&name)?;
                self.put_walk(&name, "todo")?;
            }
            WalkState::Walking(position) => self.walk_on(&name, position, shown)?,
            WalkState::Finished { from, began, known_empty } => {
                let end = End { from: *from, began: *began, known_empty: *known_empty };
                return self.finish(&update.scope, end, shown).map(Some);
            }
            WalkState::GivenUp => {
                self.forget_seen(&name)?;
                self.put_walk(&name, "given_up")?;
            }
            WalkState::Unwanted => self.drop_scope(&update.scope)?,
            WalkState::Released => return self.release(&update.scope),
        }
        Ok(None)
    }

    fn walk_on(&mut self, name: &str, position: &Position, shown: &Shown) -> Result<(), StoreError> {
        if self.book(name)?.state == HELD {
            self.forget_seen(name)?; // Of the walk before: this one tells anew what is missing.
        }
        self.remember_seen(name, position.page, &shown.seen)?;
        self.run(
            // The first rows of a scope may be those of a walk that never ends: they too were read with this credential,
            // and are not to be compared with what another one sees.
            "INSERT INTO scopes(scope, crawl, state, next, page, rows, walk_from, listing, read_by, walk_began)
             VALUES (?1, ?2, 'walking', ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT(scope) DO UPDATE SET crawl = excluded.crawl, state = excluded.state,
             next = excluded.next, page = excluded.page, rows = excluded.rows,
             walk_from = excluded.walk_from, listing = excluded.listing, walk_began = excluded.walk_began,
             read_by = coalesce(read_by, excluded.read_by)",
            params![
                name,
                as_i64(self.crawl.0),
                position.next,
                position.page,
                as_i64(position.rows),
                as_i64(position.from.0),
                position.listing.name(),
                self.credential,
                position.began.as_millis()
            ],
        )?;
        Ok(())
    }

    /// Removes the rows of a scope that is not wanted, and everything that is known about it. The brake is not asked: it
    /// is the operator's own decision, and nothing is claimed about a scope that counts as never read.
    fn drop_scope(&mut self, scope: &Scope) -> Result<(), StoreError> {
        let name = scope.name();
        // Nothing is as new as the last number, so everything counts as not shown.
        let all = missing::missing(self.apply.sql, scope, RequestNumber(u64::MAX), &RoaringBitmap::new())?;
        let known = self.run("DELETE FROM scopes WHERE scope = ?1", [&name])?;
        if known == 0 && all.rows.is_empty() {
            return Ok(());
        }
        for n in all.rows {
            self.apply.remove_in_scope(scope, all.outer, n)?;
        }
        members::forget_marks(self.apply, scope, Timestamp::from_millis(i64::MAX))?;
        self.forget_seen(&name)?;
        self.forget_gaps(scope)
    }

    fn put_walk(&self, name: &str, state: &str) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO scopes(scope, crawl, state) VALUES (?1, ?2, ?3)
             ON CONFLICT(scope) DO UPDATE SET crawl = excluded.crawl, state = excluded.state, next = NULL",
            params![name, as_i64(self.crawl.0), state],
        )?;
        Ok(())
    }

    pub(super) fn forget_seen(&self, name: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM walk_seen WHERE scope = ?1", [name])?;
        Ok(())
    }

    pub(super) fn remember_seen(&self, name: &str, page: u32, seen: &RoaringBitmap) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        let mut blob = Vec::with_capacity(seen.serialized_size());
        seen.serialize_into(&mut blob)
            .map_err(|error| StoreError::Stopped { detail: format!("bitmap of seen rows: {error}") })?;
        self.run("REPLACE INTO walk_seen(scope, page, seen) VALUES (?1, ?2, ?3)", params![name, page, blob])?;
        Ok(())
    }

    /// The walk of `scope` has reached its end without an error.
    fn finish(&mut self, scope: &Scope, end: End, shown: &Shown) -> Result<Finished, StoreError> {
        let name = scope.name();
        let book = self.book(&name)?;
        if book.state == HELD {
            self.forget_seen(&name)?;
        }
        let mut seen = missing::seen(self.apply.sql, &name)? | &shown.seen;
        let unreadable = self.unreadable(scope, end.from, &mut seen)?;
        let missing = missing::missing(self.apply.sql, scope, end.from, &seen)?;
        let is_open = book.state == "walking" && book.walk_from == Some(as_i64(end.from.0));
        let has_shown = shown.records > 0 || unreadable.records > 0 || (is_open && book.rows > 0);
        let walked = Walked {
            stored: missing.stored,
            missing: missing.rows.len() as u64,
            same_credential: book.read_by.is_none_or(|by| by == self.credential),
            unknown_records: unreadable.some_are_unknown,
            is_empty: !has_shown && !end.known_empty,
        };
        let verdict = verdict(walked, self.brake);
        let mut finished = nothing_of(scope, verdict);
        match verdict {
            // The gap of the unreadable records says it, below.
            Verdict::Nothing | Verdict::HoldUnreadable => {}
            Verdict::Remove if self.asks_for_missing && missing.rows.len() <= ASKED_ROWS_MAX && is_asked_for(scope) => {
                self.ask_for_missing(scope, &missing.rows)?;
            }
            Verdict::Remove => self.remove_missing(&missing, &mut finished)?,
            Verdict::HoldEmpty | Verdict::HoldShrunk | Verdict::HoldCredential => {
                finished.missing = walked.missing;
                finished.sample = missing::sample(self.apply.sql, scope, &missing.rows)?;
                self.open_gap(&hold_gap(scope, verdict, walked))?;
            }
        }
        if !verdict.is_hold() {
            self.close_gap_unless_found(scope, GapKind::Held)?;
        }
        if !(verdict.is_hold() && walked.is_empty) {
            self.close_gap_unless_found(scope, GapKind::EmptySuspect)?;
        }
        self.close_gaps_by_walk(scope, unreadable)?;
        self.forget_seen(&name)?;
        let is_held = verdict.is_hold() && verdict != Verdict::HoldUnreadable;
        if is_held {
            self.remember_seen(&name, 0, &seen)?;
        }
        self.put_finished(&name, end, is_held, verdict.is_hold())?;
        members::forget_marks(self.apply, scope, end.began)?;
        self.apply.guard.walked(scope.clone(), end.from, self.apply.now);
        self.coverage.push(CoverageChange::Completed(scope.clone()));
        Ok(finished)
    }

    fn put_finished(&self, name: &str, end: End, is_held: bool, keeps_credential: bool) -> Result<(), StoreError> {
        // What was stored before keeps the credential that it was read with: a hold must not end by repetition.
        self.run(
            "INSERT INTO scopes(scope, crawl, state, completed_at, read_by, walk_from, began, ended)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT(scope) DO UPDATE SET crawl = excluded.crawl, state = excluded.state, next = NULL,
             completed_at = excluded.completed_at, walk_from = excluded.walk_from, began = excluded.began,
             ended = excluded.ended,
             read_by = CASE WHEN ?9 THEN coalesce(read_by, excluded.read_by)
             ELSE excluded.read_by END",
            params![
                name,
                as_i64(self.crawl.0),
                if is_held { HELD } else { "finished" },
                self.apply.now.as_millis(),
                self.credential,
                as_i64(end.from.0),
                end.began.as_millis(),
                end.began.max(self.okta_now).as_millis(),
                keeps_credential
            ],
        )?;
        Ok(())
    }

    /// Removes what a walk did not show. Apps are not removed but told: see [`Finished::unlisted_apps`].
    fn remove_missing(&mut self, missing: &Missing, finished: &mut Finished) -> Result<(), StoreError> {
        if finished.scope == Scope::Apps {
            finished.unlisted_apps = self.app_ids(&missing.rows)?;
            return Ok(());
        }
        for n in &missing.rows {
            finished.removed += self.apply.remove_in_scope(&finished.scope, missing.outer, *n)?;
        }
        self.forget_gone()
    }

    /// Ends a hold: the missing rows are gone after all. `None` when the scope is not held.
    pub(super) fn release(&mut self, scope: &Scope) -> Result<Option<Finished>, StoreError> {
        let Some(missing) = missing::held(self.apply.sql, scope)? else { return Ok(None) };
        let name = scope.name();
        let mut finished = nothing_of(scope, Verdict::Remove);
        self.remove_missing(&missing, &mut finished)?;
        self.close_gap_unless_found(scope, GapKind::Held)?;
        self.close_gap_unless_found(scope, GapKind::EmptySuspect)?;
        self.forget_seen(&name)?;
        self.run("UPDATE scopes SET state = 'finished', read_by = ?2 WHERE scope = ?1", [&*name, self.credential])?;
        Ok(Some(finished))
    }

    /// Owes a read by id of every missing row: what answers 404 goes, what is there stays.
    fn ask_for_missing(&mut self, scope: &Scope, rows: &[super::apply::N]) -> Result<(), StoreError> {
        for n in rows {
            let id = missing::id_of(self.apply.sql, *n)?;
            let target = match scope {
                Scope::Users => UserId::new(&id).ok().map(Target::User),
                _ => GroupId::new(&id).ok().map(Target::Group),
            };
            self.apply.orphans.extend(target);
        }
        Ok(())
    }

    fn app_ids(&self, apps: &[super::apply::N]) -> Result<Vec<AppId>, StoreError> {
        let damaged = |error: crate::core::ids::IdError| StoreError::Damaged { detail: error.to_string() };
        apps.iter().map(|n| AppId::new(&missing::id_of(self.apply.sql, *n)?).map_err(damaged)).collect()
    }

    /// Forgets the scopes and gaps of groups and apps that were removed.
    pub(super) fn forget_gone(&mut self) -> Result<(), StoreError> {
        for scope in std::mem::take(&mut self.apply.gone) {
            let name = scope.name();
            self.forget_seen(&name)?;
            self.run("DELETE FROM scopes WHERE scope = ?1", [&name])?;
            self.run("DELETE FROM quarantine WHERE scope = ?1", [&name])?;
            super::filtered::forget_scope(self.apply.sql, &scope)?;
            self.forget_gaps(&scope)?;
        }
        Ok(())
    }

    /// Whether a collection was never read to its end and is not about to be by the running crawl.
    pub(super) fn is_unread(&self, scope: &Scope, running: Option<CrawlId>) -> Result<bool, StoreError> {
        let mut select =
            self.apply.sql.prepare_cached("SELECT completed_at, state, crawl FROM scopes WHERE scope = ?1")?;
        let book: Option<(Option<i64>, String, i64)> =
            select.query_row([scope.name()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        let Some((completed_at, state, crawl)) = book else { return Ok(true) };
        let is_open = (state == "todo" || state == "walking") && running.is_some_and(|id| as_i64(id.0) == crawl);
        Ok(completed_at.is_none() && !is_open)
    }
}

fn nothing_of(scope: &Scope, verdict: Verdict) -> Finished {
    let scope = scope.clone();
    Finished { scope, verdict, removed: 0, unlisted_apps: Vec::new(), sample: Vec::<Key>::new(), missing: 0 }
}

/// The gap that a hold leaves.
fn hold_gap(scope: &Scope, verdict: Verdict, walked: Walked) -> Gap {
    let Walked { missing, stored, .. } = walked;
    let (kind, evidence) = match verdict {
        Verdict::HoldEmpty => (GapKind::EmptySuspect, format!("the list is empty, and {missing} rows are stored")),
        Verdict::HoldCredential => (
            GapKind::Held,
            format!(
                "the list no longer shows {missing} of {stored} rows, and it was read with another credential than before"
            ),
        ),
        _ => (GapKind::Held, format!("the list no longer shows {missing} of {stored} rows")),
    };
    Gap { scope: scope.clone(), kind, evidence }
}

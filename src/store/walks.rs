//! Walks, sweeps and holds, within the writer's transaction.
//!
//! The rows that a walk shows and that were stored before are remembered as one bitmap a page; its new rows carry the
//! walk's request numbers. When the walk has reached its end, what is neither is missing, and
//! [`crate::core::reconcile`] says what becomes of it. While missing rows are held, one bitmap of the whole walk is kept:
//! the hold can be released later, and removes exactly what is missing then.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, params};

use super::apply::Apply;
use super::missing::{self, HELD, Missing};
use super::{SharedCoverage, StoreError, as_i64, members};
use crate::core::batch::{Finished, Position, WalkState, WalkUpdate};
use crate::core::coverage::{Gap, GapKind, Reach};
use crate::core::ids::{AppId, CrawlId, RequestNumber, Timestamp, UserId};
use crate::core::model::{Key, Kind, Scope};
use crate::core::pending::Target;
use crate::core::reconcile::{Brake, Verdict, Walked, gap_of, verdict};

/// A change of what is known about coverage. The shared view has openings and births before the commit, everything else after
/// it.
#[derive(Clone, Debug)]
pub(super) enum CoverageChange {
    Completed(Scope, Timestamp),
    Born(Scope, Timestamp),
    Gone(Scope),
    Forget(Scope),
    Opened(Scope, GapKind),
    /// What [`GapKind::Failed`] stands for.
    OpenedFor(Scope, Reach),
    /// It stands for this, whatever else it stood for before.
    Widened(Scope, Reach),
    Closed(Scope, GapKind),
}

pub(super) fn publish(coverage: &SharedCoverage, changes: Vec<CoverageChange>) {
    if changes.is_empty() {
        return;
    }
    let mut coverage = coverage.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    for change in changes {
        match change {
            CoverageChange::Completed(scope, at) => coverage.completed(scope, at),
            CoverageChange::Born(scope, at) => coverage.born(scope, at),
            CoverageChange::Gone(scope) => coverage.gone(&scope),
            CoverageChange::Forget(scope) => coverage.forget(&scope),
            CoverageChange::Opened(scope, kind) => coverage.opened(scope, kind),
            CoverageChange::OpenedFor(scope, reach) => coverage.opened_for(scope, reach),
            CoverageChange::Widened(scope, reach) => coverage.widened(scope, &reach),
            CoverageChange::Closed(scope, kind) => coverage.closed(&scope, kind),
        }
    }
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
struct End<'a> {
    from: RequestNumber,
    began: Timestamp,
    known_empty: bool,
    /// Users whose account has ended, as events say.
    ended: &'a [UserId],
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

impl Book {
    /// Whether what is kept of rows that were shown may be that of a walk that is over.
    fn keeps_seen(&self) -> bool {
        self.state == HELD || self.state == "finished"
    }
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
            WalkState::Finished { from, began, known_empty, ended } => {
                let end = End { from: *from, began: *began, known_empty: *known_empty, ended };
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
        if self.book(name)?.keeps_seen() {
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
        let all = missing::all(self.apply.sql, scope)?;
        let known = self.run("DELETE FROM scopes WHERE scope = ?1", [&name])?;
        if known == 0 && all.rows.is_empty() {
            // A gap may be all that is known of it.
            return self.forget_gaps(scope);
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
        if seen.is_empty() { Ok(()) } else { self.put_seen(name, page, seen) }
    }

    fn put_seen(&self, name: &str, page: u32, seen: &RoaringBitmap) -> Result<(), StoreError> {
        let mut blob = Vec::with_capacity(seen.serialized_size());
        seen.serialize_into(&mut blob)
            .map_err(|error| StoreError::Stopped { detail: format!("bitmap of seen rows: {error}") })?;
        self.run("REPLACE INTO walk_seen(scope, page, seen) VALUES (?1, ?2, ?3)", params![name, page, blob])?;
        Ok(())
    }

    /// The walk of `scope` has reached its end without an error.
    fn finish(&mut self, scope: &Scope, end: End<'_>, shown: &Shown) -> Result<Finished, StoreError> {
        let name = scope.name();
        let book = self.book(&name)?;
        if book.keeps_seen() {
            self.forget_seen(&name)?;
        }
        let mut seen = missing::seen(self.apply.sql, &name)? | &shown.seen;
        let really_seen = seen.clone();
        let unreadable = self.unreadable(scope, end.from, &mut seen)?;
        let missing = missing::missing(self.apply.sql, scope, end.from, &seen)?;
        let (ended, missing) = self.split_ended(missing, end.ended)?;
        let is_open = book.state == "walking" && book.walk_from == Some(as_i64(end.from.0));
        let has_shown = shown.records > 0 || unreadable.records > 0 || (is_open && book.rows > 0);
        let walked = Walked {
            stored: missing.stored,
            missing: missing.rows.len() as u64,
            same_credential: book.read_by.is_none_or(|by| by == self.credential),
            unknown_records: unreadable.some_are_unknown(),
            is_empty: !has_shown && !end.known_empty,
            are_objects: matches!(scope, Scope::Users | Scope::Groups | Scope::Apps),
        };
        let verdict = verdict(walked, self.brake);
        let mut finished = nothing_of(scope, verdict);
        if !verdict.is_hold() || verdict.is_probed() {
            for n in &ended {
                finished.removed += self.apply.remove_in_scope(scope, missing.outer, *n)?;
            }
        }
        match verdict {
            // The gap of the unreadable records says it, below.
            Verdict::Nothing | Verdict::HoldUnreadable => {}
            Verdict::Ask => self.ask_for_missing(scope, &missing.rows, &mut finished)?,
            Verdict::Confirm | Verdict::HoldEmpty | Verdict::HoldShrunk | Verdict::HoldCredential => {
                finished.missing = walked.missing;
                finished.stored = walked.stored;
                // Where probes can tell, they are made before anything is said.
                if verdict.is_probed() {
                    finished.sample = missing::sample(self.apply.sql, scope, &missing.rows)?;
                } else if let Some(gap) = gap_of(scope, verdict, walked.missing, walked.stored) {
                    self.open_gap(&gap)?;
                }
            }
        }
        if !verdict.is_hold() && !verdict.keeps_missing() {
            self.close_gap_unless_found(scope, GapKind::Held)?;
        }
        if !(verdict.is_hold() && walked.is_empty) {
            self.close_gap_unless_found(scope, GapKind::EmptySuspect)?;
        }
        let unread = self.unread_by_walk(scope, end.from, &really_seen, &unreadable)?;
        self.close_gaps_by_walk(scope, &(unreadable.records, unread))?;
        self.forget_seen(&name)?;
        let is_held = verdict.keeps_missing();
        if is_held {
            self.remember_seen(&name, 0, &seen)?;
        } else if verdict == Verdict::Ask && !self.asks_for_missing {
            // Nobody keeps the questions: if the process dies before they are answered, they are made again from this.
            self.put_seen(&name, 0, &seen)?;
        }
        self.put_finished(&name, end, is_held, verdict.is_hold())?;
        members::forget_marks(self.apply, scope, end.began)?;
        self.apply.guard.walked(scope.clone(), end.from, self.apply.now);
        self.coverage.push(CoverageChange::Completed(scope.clone(), self.apply.now));
        Ok(finished)
    }

    /// The missing rows of whose end an event has told, and the others.
    fn split_ended(&self, missing: Missing, ended: &[UserId]) -> Result<(Vec<super::apply::N>, Missing), StoreError> {
        let mut told = BTreeSet::new();
        for user in ended {
            told.extend(self.apply.find(Kind::User, user.as_str())?);
        }
        let (ended, rows): (Vec<_>, Vec<_>) = missing.rows.into_iter().partition(|n| told.contains(n));
        Ok((ended, Missing { rows, ..missing }))
    }

    fn put_finished(&self, name: &str, end: End<'_>, is_held: bool, keeps_credential: bool) -> Result<(), StoreError> {
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

    /// Removes what a walk did not show. Apps are not removed but told: see [`Finished::unlisted`].
    fn remove_missing(&mut self, missing: &Missing, finished: &mut Finished) -> Result<(), StoreError> {
        if finished.scope == Scope::Apps {
            return self.ask_for_missing(&Scope::Apps, &missing.rows, finished);
        }
        for n in &missing.rows {
            finished.removed += self.apply.remove_in_scope(&finished.scope, missing.outer, *n)?;
        }
        self.forget_gone()
    }

    /// Ends a hold: the missing rows are gone after all. `None` when the scope is not held.
    pub(super) fn release(&mut self, scope: &Scope) -> Result<Option<Finished>, StoreError> {
        if let Some(key) = scope.object() {
            return self.release_object(scope, &key).map(Some);
        }
        let Some(missing) = missing::held(self.apply.sql, scope)? else { return Ok(None) };
        let name = scope.name();
        let mut finished = nothing_of(scope, Verdict::Nothing);
        self.remove_missing(&missing, &mut finished)?;
        self.close_gap_unless_found(scope, GapKind::Held)?;
        self.close_gap_unless_found(scope, GapKind::EmptySuspect)?;
        self.forget_seen(&name)?;
        self.run("UPDATE scopes SET state = 'finished', read_by = ?2 WHERE scope = ?1", [&*name, self.credential])?;
        Ok(Some(finished))
    }

    /// Removes the missing groups that apps have brought which are gone, and ends the hold if these were all. What came from elsewhere
    /// may be hidden, however many have gone with their app.
    pub(super) fn release_brought(
        &mut self,
        scope: &Scope,
        departed_apps: &BTreeSet<AppId>,
    ) -> Result<Option<Finished>, StoreError> {
        let Some(missing) = missing::held(self.apply.sql, scope)?.filter(|_| *scope == Scope::Groups) else {
            return Ok(None);
        };
        let (mut brought, mut others) = (Vec::new(), 0);
        let mut select = self
            .apply
            .sql
            .prepare_cached("SELECT i.id FROM groups g JOIN ids i ON i.n = g.source_app WHERE g.n = ?1")?;
        for n in &missing.rows {
            let source: Option<String> = select.query_row([n], |row| row.get(0)).optional()?;
            let source = source.and_then(|id| AppId::new(&id).ok());
            match source.is_some_and(|app| departed_apps.contains(&app)) {
                true => brought.push(*n),
                false => others += 1,
            }
        }
        drop(select);
        if others == 0 {
            return self.release(scope);
        }
        for n in brought {
            self.apply.remove_in_scope(scope, missing.outer, n)?;
        }
        self.forget_gone()?;
        Ok(None)
    }

    /// An operator says that an object which is not shown is gone.
    fn release_object(&mut self, scope: &Scope, key: &Key) -> Result<Finished, StoreError> {
        let mut finished = nothing_of(scope, Verdict::Nothing);
        let (kind, id) = match key {
            Key::Group(group) => (Kind::Group, group.as_str()),
            Key::App(app) => (Kind::App, app.as_str()),
            Key::User(user) | Key::GroupMember(_, user) | Key::AppUser(_, user) => (Kind::User, user.as_str()),
            Key::AppGroup(app, _) => (Kind::App, app.as_str()),
        };
        if let Some(n) = self.apply.find(kind, id)? {
            finished.removed = self.apply.remove_in_scope(scope, 0, n)?;
        } else {
            // It was never a row, but its lists may have been begun.
            self.apply.gone.extend(Scope::below(key));
        }
        self.forget_gone()?;
        self.forget_gaps(scope)?;
        let target = Target::of_object(key);
        self.run(
            "DELETE FROM pending_reads WHERE target = ?1",
            [target.map(|target| target.name()).unwrap_or_default()],
        )?;
        Ok(finished)
    }

    /// Owes a read by id of every missing user, group or app, or tells them where nobody follows.
    fn ask_for_missing(
        &mut self,
        scope: &Scope,
        rows: &[super::apply::N],
        finished: &mut Finished,
    ) -> Result<(), StoreError> {
        for n in rows {
            let Some(key) = missing::key_of(self.apply.sql, scope, *n)? else { continue };
            if self.asks_for_missing {
                self.apply.orphans.extend(Target::of_object(&key));
            } else {
                finished.unlisted.push(key);
            }
        }
        Ok(())
    }

    /// Forgets the scopes and gaps of groups and apps that were removed.
    pub(super) fn forget_gone(&mut self) -> Result<(), StoreError> {
        for scope in std::mem::take(&mut self.apply.gone) {
            let name = scope.name();
            self.forget_seen(&name)?;
            self.run("DELETE FROM scopes WHERE scope = ?1", [&name])?;
            self.run("DELETE FROM quarantine WHERE scope = ?1", [&name])?;
            super::filtered::forget_scope(self.apply.sql, &scope)?;
            self.coverage.push(CoverageChange::Gone(scope.clone()));
            self.forget_gaps(&scope)?;
        }
        Ok(())
    }

    /// What is below a new group or app was empty when that was created, where nobody has begun to read it. It belongs to no
    /// crawl and to no walk.
    pub(super) fn born(&mut self, object: &Key, created: Timestamp) -> Result<(), StoreError> {
        if !self.apply.is_stored(object)? {
            return Ok(());
        }
        for scope in Scope::below(object) {
            // The window of the walk is that moment: every event since counts as later.
            let is_new = self.run(
                "INSERT OR IGNORE INTO scopes(scope, crawl, state, completed_at, read_by, began, ended)
                 VALUES (?1, 0, 'finished', ?2, ?3, ?4, ?4)",
                params![scope.name(), self.apply.now.as_millis(), self.credential, created.as_millis()],
            )?;
            if is_new > 0 {
                self.coverage.push(CoverageChange::Born(scope, self.apply.now));
            }
        }
        Ok(())
    }

    /// Whether a collection counts as read since its object was created, and nobody reads it.
    pub(super) fn is_only_born(&self, scope: &Scope) -> Result<bool, StoreError> {
        let book = self.book(&scope.name())?;
        Ok(book.state == "finished" && book.walk_from.is_none())
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
    Finished { scope, verdict, removed: 0, unlisted: Vec::new(), sample: Vec::new(), missing: 0, stored: 0 }
}

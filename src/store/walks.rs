//! Walks, sweeps, gaps and quarantine, within the writer's transaction.
//!
//! The rows that a walk shows and that were stored before are remembered as one bitmap a page; its new rows carry the
//! walk's request numbers. When the walk has reached its end, what is neither is missing, and
//! [`crate::core::reconcile`] says what becomes of it.

use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, params};

use super::apply::{Apply, N};
use super::{SharedCoverage, StoreError};
use crate::core::batch::{Finished, WalkState, WalkUpdate};
use crate::core::coverage::{Gap, GapId, GapKind};
use crate::core::ids::{AppId, CrawlId, RequestNumber};
use crate::core::model::{Kind, Quarantined, Scope};
use crate::core::reconcile::{Brake, Verdict, Walked, verdict};

/// Bad records that are kept per scope: enough to see what is wrong, however many there are.
const QUARANTINE_ROWS_MAX: i64 = 1_000;

/// The kind of object whose ids the records of a list carry.
const fn listed_kind(scope: &Scope) -> Option<Kind> {
    match scope {
        Scope::Users | Scope::GroupMembers(_) | Scope::AppUsers(_) => Some(Kind::User),
        Scope::Groups | Scope::AppGroups(_) => Some(Kind::Group),
        Scope::Apps => Some(Kind::App),
        Scope::Log => None,
    }
}

/// Records of a walk that could not be read.
#[derive(Clone, Copy, Debug)]
struct Unreadable {
    records: u64,
    /// Whether some do not say which row they are.
    some_are_unknown: bool,
}

/// Gaps that a complete walk of their scope ends.
const CLOSED_BY_READING: [GapKind; 7] = [
    GapKind::Forbidden,
    GapKind::ScopeMissing,
    GapKind::Unauthorized,
    GapKind::Failed,
    GapKind::EmptySuspect,
    GapKind::NotRead,
    GapKind::LogLost,
];

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

/// The part of a transaction that keeps the books.
pub(super) struct Books<'a, 'b> {
    pub(super) apply: &'b mut Apply<'a>,
    pub(super) crawl: CrawlId,
    pub(super) credential: &'b str,
    pub(super) brake: Brake,
    pub(super) coverage: Vec<CoverageChange>,
}

fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Books<'_, '_> {
    fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
        Ok(self.apply.sql.prepare_cached(sql)?.execute(params)?)
    }

    /// Notes where a walk stands; `seen` are the rows of the page that the batch brings and that were stored before.
    pub(super) fn walk(&mut self, update: &WalkUpdate, seen: &RoaringBitmap) -> Result<Option<Finished>, StoreError> {
        let name = update.scope.name();
        match &update.state {
            WalkState::Todo => {
                self.forget_seen(&name)?;
                self.put_walk(&name, "todo")?;
            }
            WalkState::Walking(position) => {
                self.remember_seen(&name, position.page, seen)?;
                self.run(
                    // The first rows of a scope may be those of a walk that never ends: they too were read with
                    // this credential, and are not to be compared with what another one sees.
                    "INSERT INTO scopes(scope, crawl, state, next, page, rows, walk_from, listing, read_by)
                     VALUES (?1, ?2, 'walking', ?3, ?4, ?5, ?6, ?7, ?8)
                     ON CONFLICT(scope) DO UPDATE SET crawl = excluded.crawl, state = excluded.state,
                     next = excluded.next, page = excluded.page, rows = excluded.rows,
                     walk_from = excluded.walk_from, listing = excluded.listing,
                     read_by = coalesce(read_by, excluded.read_by)",
                    params![
                        name,
                        stored(self.crawl.0),
                        position.next,
                        position.page,
                        stored(position.rows),
                        stored(position.from.0),
                        position.listing.name(),
                        self.credential
                    ],
                )?;
            }
            WalkState::Finished { from } => return self.finish(&update.scope, *from, seen).map(Some),
            WalkState::GivenUp => {
                self.forget_seen(&name)?;
                self.put_walk(&name, "given_up")?;
            }
            WalkState::Unwanted => self.drop_scope(&update.scope)?,
        }
        Ok(None)
    }

    /// Removes the rows of a scope that is not wanted, and everything that is known about it. The brake is not asked: it
    /// is the operator's own decision, and nothing is claimed about a scope that counts as never read.
    fn drop_scope(&mut self, scope: &Scope) -> Result<(), StoreError> {
        let name = scope.name();
        // Nothing is as new as the last number, so everything counts as not shown.
        let (_, outer, rows) = self.missing(scope, RequestNumber(u64::MAX), &RoaringBitmap::new())?;
        let known = self.run("DELETE FROM scopes WHERE scope = ?1", [&name])?;
        if known == 0 && rows.is_empty() {
            return Ok(());
        }
        for n in rows {
            self.apply.remove_in_scope(scope, outer, n)?;
        }
        self.forget_seen(&name)?;
        let closed = self.run("UPDATE gaps SET open = 0 WHERE scope = ?1 AND open = 1", [&name])?;
        self.apply.changed |= closed > 0;
        self.coverage.push(CoverageChange::Forget(scope.clone()));
        Ok(())
    }

    fn put_walk(&self, name: &str, state: &str) -> Result<(), StoreError> {
        self.run(
            "INSERT INTO scopes(scope, crawl, state) VALUES (?1, ?2, ?3)
             ON CONFLICT(scope) DO UPDATE SET crawl = excluded.crawl, state = excluded.state, next = NULL",
            params![name, stored(self.crawl.0), state],
        )?;
        Ok(())
    }

    fn forget_seen(&self, name: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM walk_seen WHERE scope = ?1", [name])?;
        Ok(())
    }

    fn remember_seen(&self, name: &str, page: u32, seen: &RoaringBitmap) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        let mut blob = Vec::with_capacity(seen.serialized_size());
        seen.serialize_into(&mut blob)
            .map_err(|error| StoreError::Stopped { detail: format!("bitmap of seen rows: {error}") })?;
        self.run("REPLACE INTO walk_seen(scope, page, seen) VALUES (?1, ?2, ?3)", params![name, page, blob])?;
        Ok(())
    }

    fn all_seen(&self, name: &str, last_page: &RoaringBitmap) -> Result<RoaringBitmap, StoreError> {
        let mut all = last_page.clone();
        let mut select = self.apply.sql.prepare_cached("SELECT seen FROM walk_seen WHERE scope = ?1")?;
        let mut rows = select.query([name])?;
        while let Some(row) = rows.next()? {
            let blob = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            all |= RoaringBitmap::deserialize_from(blob)
                .map_err(|error| StoreError::Damaged { detail: format!("bitmap of seen rows: {error}") })?;
        }
        Ok(all)
    }

    /// The walk of `scope` has reached its end without an error.
    fn finish(&mut self, scope: &Scope, from: RequestNumber, seen: &RoaringBitmap) -> Result<Finished, StoreError> {
        let name = scope.name();
        let mut seen = self.all_seen(&name, seen)?;
        let unreadable = self.unreadable(scope, from, &mut seen)?;
        let (total, outer, missing) = self.missing(scope, from, &seen)?;
        let walked = Walked {
            stored: total,
            missing: missing.len() as u64,
            same_credential: self.same_credential(&name)?,
            unknown_records: unreadable.some_are_unknown,
        };
        let verdict = verdict(walked, self.brake);
        let mut finished = Finished { scope: scope.clone(), verdict, removed: 0, unlisted_apps: Vec::new() };
        match verdict {
            Verdict::Nothing => self.close_gap(scope, GapKind::Held)?,
            Verdict::Remove if *scope == Scope::Apps => {
                self.close_gap(scope, GapKind::Held)?;
                finished.unlisted_apps = self.app_ids(&missing)?;
            }
            Verdict::Remove => {
                self.close_gap(scope, GapKind::Held)?;
                for n in missing {
                    finished.removed += self.apply.remove_in_scope(scope, outer, n)?;
                }
                self.forget_gone()?;
            }
            // The gap of the unreadable records says it, below.
            Verdict::HoldUnreadable => {}
            Verdict::HoldShrunk => {
                let evidence = format!("the list no longer shows {} of {total} rows", walked.missing);
                self.open_gap(&Gap { scope: scope.clone(), kind: GapKind::Held, evidence })?;
            }
            Verdict::HoldCredential => {
                let evidence = format!(
                    "the list no longer shows {} of {total} rows, and it was read with another credential than before",
                    walked.missing
                );
                self.open_gap(&Gap { scope: scope.clone(), kind: GapKind::Held, evidence })?;
            }
        }
        for kind in CLOSED_BY_READING {
            if kind != GapKind::Failed || unreadable.records == 0 {
                self.close_gap(scope, kind)?;
            }
        }
        if unreadable.records > 0 {
            let evidence = format!("records of the list that could not be read: {} (quarantined)", unreadable.records);
            self.open_gap(&Gap { scope: scope.clone(), kind: GapKind::Failed, evidence })?;
        }
        self.forget_seen(&name)?;
        // A held scope keeps the credential that its rows were read with: the hold must not end by repetition.
        let is_held = matches!(verdict, Verdict::HoldShrunk | Verdict::HoldCredential | Verdict::HoldUnreadable);
        self.run(
            "INSERT INTO scopes(scope, crawl, state, completed_at, read_by) VALUES (?1, ?2, 'finished', ?3, ?4)
             ON CONFLICT(scope) DO UPDATE SET crawl = excluded.crawl, state = excluded.state, next = NULL,
             completed_at = excluded.completed_at,
             read_by = CASE WHEN ?5 THEN coalesce(read_by, excluded.read_by)
             ELSE excluded.read_by END",
            params![name, stored(self.crawl.0), self.apply.now.as_millis(), self.credential, is_held],
        )?;
        self.coverage.push(CoverageChange::Completed(scope.clone()));
        Ok(finished)
    }

    /// Whether the stored rows of the scope were read with the credential in use.
    fn same_credential(&self, name: &str) -> Result<bool, StoreError> {
        let mut select = self.apply.sql.prepare_cached("SELECT read_by FROM scopes WHERE scope = ?1")?;
        let by: Option<Option<String>> = select.query_row([name], |row| row.get(0)).optional()?;
        Ok(by.flatten().is_none_or(|by| by == self.credential))
    }

    /// Number of rows that were stored before the walk, the surrogate of the scope's group or app, and the rows that the
    /// walk did not show. New rows do not count: an org that shows a thousand others instead must meet the brake.
    fn missing(
        &self,
        scope: &Scope,
        from: RequestNumber,
        seen: &RoaringBitmap,
    ) -> Result<(u64, N, Vec<N>), StoreError> {
        let (sql, outer) = match scope {
            Scope::Users => ("SELECT n, at FROM users WHERE ?1 = 0", 0),
            Scope::Groups => ("SELECT n, at FROM groups WHERE ?1 = 0", 0),
            Scope::Apps => ("SELECT n, at FROM apps WHERE ?1 = 0", 0),
            Scope::GroupMembers(group) => (
                "SELECT user, at FROM group_members WHERE grp = ?1",
                self.apply.find(Kind::Group, group.as_str())?.unwrap_or(-1),
            ),
            Scope::AppUsers(app) => (
                "SELECT user, at FROM app_users WHERE app = ?1",
                self.apply.find(Kind::App, app.as_str())?.unwrap_or(-1),
            ),
            Scope::AppGroups(app) => (
                "SELECT grp, at FROM app_groups WHERE app = ?1",
                self.apply.find(Kind::App, app.as_str())?.unwrap_or(-1),
            ),
            Scope::Log => return Ok((0, 0, Vec::new())),
        };
        let mut select = self.apply.sql.prepare_cached(sql)?;
        let mut rows = select.query([outer])?;
        let (mut total, mut missing) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            let (n, at): (N, i64) = (row.get(0)?, row.get(1)?);
            if u32::try_from(n).is_ok_and(|n| seen.contains(n)) {
                total += 1;
            } else if at < stored(from.0) {
                total += 1;
                missing.push(n);
            }
        }
        Ok((total, outer, missing))
    }

    fn id_of(&self, n: N) -> Result<String, StoreError> {
        let mut select = self.apply.sql.prepare_cached("SELECT id FROM ids WHERE n = ?1")?;
        Ok(select.query_row([n], |row| row.get(0))?)
    }

    fn app_ids(&self, apps: &[N]) -> Result<Vec<AppId>, StoreError> {
        let damaged = |error: crate::core::ids::IdError| StoreError::Damaged { detail: error.to_string() };
        apps.iter().map(|n| AppId::new(&self.id_of(*n)?).map_err(damaged)).collect()
    }

    /// Forgets the scopes and gaps of groups and apps that were removed.
    pub(super) fn forget_gone(&mut self) -> Result<(), StoreError> {
        for scope in std::mem::take(&mut self.apply.gone) {
            let name = scope.name();
            self.forget_seen(&name)?;
            self.run("DELETE FROM scopes WHERE scope = ?1", [&name])?;
            self.run("DELETE FROM quarantine WHERE scope = ?1", [&name])?;
            let closed = self.run("UPDATE gaps SET open = 0 WHERE scope = ?1 AND open = 1", [&name])?;
            self.apply.changed |= closed > 0;
            self.coverage.push(CoverageChange::Forget(scope));
        }
        Ok(())
    }

    /// Opens a gap or confirms an open one.
    pub(super) fn open_gap(&mut self, gap: &Gap) -> Result<(), StoreError> {
        let now = self.apply.now.as_millis();
        let name = gap.scope.name();
        let id = gap.id();
        let mut select = self.apply.sql.prepare_cached("SELECT open FROM gaps WHERE id = ?1")?;
        let was_open: Option<bool> = select.query_row([id.as_str()], |row| row.get(0)).optional()?;
        self.run(
            "INSERT INTO gaps(id, scope, kind, evidence, first_seen, last_seen, count, open)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, 1, 1)
             ON CONFLICT(id) DO UPDATE SET evidence = excluded.evidence, last_seen = excluded.last_seen,
             count = count + 1, open = 1",
            params![id.as_str(), name, gap.kind.name(), gap.evidence, now],
        )?;
        if was_open != Some(true) {
            self.apply.changed = true;
            self.coverage.push(CoverageChange::Opened(gap.scope.clone(), gap.kind));
        }
        Ok(())
    }

    /// Closes a gap if it is open.
    pub(super) fn close_gap(&mut self, scope: &Scope, kind: GapKind) -> Result<(), StoreError> {
        let id = GapId::of(kind, scope);
        let closed = self.run(
            "UPDATE gaps SET open = 0, last_seen = ?2 WHERE id = ?1 AND open = 1",
            params![id.as_str(), self.apply.now.as_millis()],
        )?;
        if closed > 0 {
            self.apply.changed = true;
            self.coverage.push(CoverageChange::Closed(scope.clone(), kind));
        }
        Ok(())
    }

    /// Keeps a bad record for people to see, and for the end of the walk; of too many, those seen last.
    pub(super) fn quarantine(&self, record: &Quarantined) -> Result<(), StoreError> {
        let scope = record.scope.name();
        let at = stored(self.apply.at.0);
        self.run(
            "INSERT INTO quarantine(scope, item, reason, first_seen, last_seen, at) VALUES (?1, ?2, ?3, ?4, ?4, ?5)
             ON CONFLICT(scope, item, reason) DO UPDATE SET last_seen = excluded.last_seen, at = excluded.at",
            params![scope, record.id.as_deref().unwrap_or(""), record.reason, self.apply.now.as_millis(), at],
        )?;
        let mut count = self.apply.sql.prepare_cached("SELECT count(*) FROM quarantine WHERE scope = ?1")?;
        let kept: i64 = count.query_row([&scope], |row| row.get(0))?;
        if kept > QUARANTINE_ROWS_MAX {
            self.run(
                "DELETE FROM quarantine WHERE (scope, item, reason) IN
                 (SELECT scope, item, reason FROM quarantine WHERE scope = ?1 ORDER BY at, item, reason LIMIT 1)",
                [&scope],
            )?;
        }
        Ok(())
    }

    /// Bad records of the walk that began with `from`; those of earlier walks are over. The rows that they name count as
    /// shown: they are there, only not in a form that can be read.
    fn unreadable(
        &self,
        scope: &Scope,
        from: RequestNumber,
        seen: &mut RoaringBitmap,
    ) -> Result<Unreadable, StoreError> {
        let name = scope.name();
        self.run("DELETE FROM quarantine WHERE scope = ?1 AND at < ?2", params![name, stored(from.0)])?;
        let mut select = self.apply.sql.prepare_cached("SELECT item FROM quarantine WHERE scope = ?1")?;
        let items = select.query_map([&name], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        let mut unreadable = Unreadable { records: items.len() as u64, some_are_unknown: false };
        for item in &items {
            unreadable.some_are_unknown |= item.is_empty();
            if let Some(kind) = listed_kind(scope)
                && let Some(n) = self.apply.find(kind, item)?
                && let Ok(n) = u32::try_from(n)
            {
                seen.insert(n);
            }
        }
        // As many as are kept: there may have been more.
        unreadable.some_are_unknown |= stored(unreadable.records) >= QUARANTINE_ROWS_MAX;
        Ok(unreadable)
    }
}

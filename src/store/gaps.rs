//! Gaps, within the writer's transaction.
//!
//! Entry points: [`Books::open_gap`], [`Books::close_gap`]. That a gap opens or closes is a change
//! that readers see: it makes a revision and a line of its own log.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::missing::HELD;
use super::walks::{Books, CoverageChange};
use super::{StoreError, as_i64};
use crate::core::coverage::{Gap, GapId, GapKind, Reach, Unread};
use crate::core::ids::{CrawlId, Timestamp};
use crate::core::model::{Kind, Scope};
use crate::core::pending::Target;

/// Gaps that a complete walk of their scope ends. [`GapKind::EmptySuspect`] is the walk's own business.
const CLOSED_BY_READING: [GapKind; 7] = [
    GapKind::Forbidden,
    GapKind::ScopeMissing,
    GapKind::Unauthorized,
    GapKind::Failed,
    GapKind::NotRead,
    GapKind::LogLost,
    GapKind::Stale,
];

/// Gaps of one object that end when it is shown.
const CLOSED_BY_SHOWING: [GapKind; 5] =
    [GapKind::UnseenReference, GapKind::Forbidden, GapKind::ScopeMissing, GapKind::Failed, GapKind::Unauthorized];

/// How long closed gaps are remembered, in days.
const CLOSED_DAYS: i64 = 366;

/// Closed gaps that are remembered; of more, those that were closed last.
const CLOSED_MAX: i64 = 10_000;

/// Gaps that say that a list could not be read, beside that one object could not: only the list's own walk can tell.
const CLOSED_ONCE_WALKED: [GapKind; 3] = [GapKind::Forbidden, GapKind::ScopeMissing, GapKind::Failed];

/// Why a collection may have changed without a word: while the crawl that is to find out is under way, and after it.
const STILL_UNREAD: &str =
    "the System Log has not told of all changes since this list was read, and the crawl since then has not read it yet";
const LEFT_UNREAD: &str =
    "the System Log has not told of all changes since this list was read, and the crawl since then did not read it";

/// `gap_changes.op`.
const OP_CLOSED: i64 = 0;
const OP_OPENED: i64 = 1;

/// The kind of object whose ids the records of a list carry.
pub(super) const fn listed_kind(scope: &Scope) -> Option<Kind> {
    match scope {
        Scope::Users | Scope::GroupMembers(_) | Scope::AppUsers(_) => Some(Kind::User),
        Scope::Groups | Scope::AppGroups(_) => Some(Kind::Group),
        Scope::Apps => Some(Kind::App),
        Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => None,
    }
}

impl Books<'_, '_> {
    fn note_gap(&mut self, id: &str, op: i64) -> Result<(), StoreError> {
        self.apply.changed = true;
        self.apply.lines += 1;
        self.run(
            "REPLACE INTO gap_changes(revision, gap, op) VALUES (?1, ?2, ?3)",
            params![as_i64(self.apply.revision.0), id, op],
        )?;
        Ok(())
    }

    /// Opens a gap or confirms an open one. It is about all rows of its scope.
    pub(super) fn open_gap(&mut self, gap: &Gap) -> Result<(), StoreError> {
        if gap.kind != GapKind::Failed {
            return self.put_gap(gap, None);
        }
        let unread = self.unread(&gap.scope)?.unwrap_or_default();
        self.put_gap(gap, Some(&unread.with_failed(true)))
    }

    /// What the open [`GapKind::Failed`] of a scope is about; `None`: there is none.
    pub(super) fn unread(&self, scope: &Scope) -> Result<Option<Unread>, StoreError> {
        let mut select = self.apply.sql.prepare_cached("SELECT unread FROM gaps WHERE id = ?1 AND open = 1")?;
        let id = GapId::of(GapKind::Failed, scope);
        let text: Option<Option<String>> = select.query_row([id.as_str()], |row| row.get(0)).optional()?;
        Ok(text.map(|text| Unread::parse(text.as_deref())))
    }

    /// Opens a gap or confirms an open one; `unread`: of [`GapKind::Failed`], what it is about from now on.
    pub(super) fn put_gap(&mut self, gap: &Gap, unread: Option<&Unread>) -> Result<(), StoreError> {
        let now = self.apply.now.as_millis();
        let name = gap.scope.name();
        let id = gap.id();
        let mut select = self.apply.sql.prepare_cached("SELECT unread FROM gaps WHERE id = ?1 AND open = 1")?;
        let before: Option<Option<String>> = select.query_row([id.as_str()], |row| row.get(0)).optional()?;
        drop(select);
        self.run(
            "INSERT INTO gaps(id, scope, kind, evidence, first_seen, last_seen, count, open, opened_at, unread)
             VALUES (?1, ?2, ?3, ?4, ?5, ?5, 1, 1, ?5, ?6)
             ON CONFLICT(id) DO UPDATE SET evidence = excluded.evidence, last_seen = excluded.last_seen,
             unread = excluded.unread, count = count + 1, open = 1, closed_at = NULL,
             opened_at = CASE WHEN open = 1 THEN opened_at ELSE excluded.opened_at END",
            params![id.as_str(), name, gap.kind.name(), gap.evidence, now, unread.and_then(Unread::to_text)],
        )?;
        let reach = unread.map_or_else(Reach::whole, Unread::reach);
        if before.is_none_or(|before| unread.is_some() && Unread::parse(before.as_deref()).reach() != reach) {
            self.tell_opened(gap, reach)?;
        }
        Ok(())
    }

    /// Tells that a gap is open, or about other rows than before: what was believed of them is no longer so.
    fn tell_opened(&mut self, gap: &Gap, reach: Reach) -> Result<(), StoreError> {
        self.note_gap(gap.id().as_str(), OP_OPENED)?;
        if gap.scope.object().is_some() {
            self.apply.object_gaps.insert(gap.scope.clone());
        }
        self.coverage.push(match gap.kind {
            GapKind::Failed => CoverageChange::OpenedFor(gap.scope.clone(), reach),
            kind => CoverageChange::Opened(gap.scope.clone(), kind),
        });
        Ok(())
    }

    /// Something that an open [`GapKind::Failed`] was about is over. Nothing happens where none is open.
    pub(super) fn narrow(&mut self, scope: &Scope, change: impl FnOnce(&mut Unread)) -> Result<(), StoreError> {
        let Some(before) = self.unread(scope)? else { return Ok(()) };
        let mut unread = before.clone();
        change(&mut unread);
        if unread == before {
            return Ok(());
        }
        if unread.is_over() {
            return self.close_gap(scope, GapKind::Failed);
        }
        let gap = Gap { scope: scope.clone(), kind: GapKind::Failed, evidence: String::new() };
        self.run("UPDATE gaps SET unread = ?2 WHERE id = ?1", params![gap.id().as_str(), unread.to_text()])?;
        let reach = unread.reach();
        if reach == before.reach() { Ok(()) } else { self.tell_opened(&gap, reach) }
    }

    /// Closes a gap if it is open.
    pub(super) fn close_gap(&mut self, scope: &Scope, kind: GapKind) -> Result<(), StoreError> {
        let id = GapId::of(kind, scope);
        let closed = self.run(
            "UPDATE gaps SET open = 0, last_seen = ?2, closed_at = ?2, unread = NULL WHERE id = ?1 AND open = 1",
            params![id.as_str(), self.apply.now.as_millis()],
        )?;
        if closed > 0 {
            self.note_gap(id.as_str(), OP_CLOSED)?;
            self.coverage.push(CoverageChange::Closed(scope.clone(), kind));
            if self.apply.object_gaps.contains(scope) && !self.has_open(scope)? {
                self.apply.object_gaps.remove(scope);
            }
        }
        Ok(())
    }

    fn has_open(&self, scope: &Scope) -> Result<bool, StoreError> {
        let mut select = self.apply.sql.prepare_cached("SELECT 1 FROM gaps WHERE scope = ?1 AND open = 1")?;
        Ok(select.exists([scope.name()])?)
    }

    /// Ends the gaps of objects that the batch has shown.
    pub(super) fn close_gaps_of_shown(&mut self) -> Result<(), StoreError> {
        for scope in std::mem::take(&mut self.apply.shown_objects) {
            for kind in CLOSED_BY_SHOWING {
                self.close_gap_unless_found(&scope, kind)?;
            }
        }
        Ok(())
    }

    /// Closes a gap because a read has succeeded. A good read of one object says nothing about a list that was given up, nor about
    /// records that could not be read.
    pub(super) fn close_gap_by_read(&mut self, scope: &Scope, kind: GapKind) -> Result<(), StoreError> {
        // The log is no list: whoever reads on in it can read it.
        if CLOSED_ONCE_WALKED.contains(&kind) && *scope != Scope::Log {
            let state = self.book(&scope.name())?.state;
            if state != "finished" && state != HELD {
                return Ok(());
            }
        }
        match kind {
            GapKind::Failed => self.narrow(scope, |unread| unread.has_failed = false),
            _ => self.close_gap(scope, kind),
        }
    }

    /// Whether a gap that a good read would close waits for a walk of the list, and the running crawl is not about to make it: one
    /// that led there was broken off with its process.
    pub(super) fn waits_for_walk(
        &self,
        scope: &Scope,
        kind: GapKind,
        running: Option<CrawlId>,
    ) -> Result<bool, StoreError> {
        if !CLOSED_ONCE_WALKED.contains(&kind) || !self.is_open(kind, scope)? {
            return Ok(false);
        }
        let mut select = self.apply.sql.prepare_cached("SELECT state, crawl FROM scopes WHERE scope = ?1")?;
        let book: Option<(String, i64)> =
            select.query_row([scope.name()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let is_due = |(state, crawl): (String, i64)| {
            let is_open = state == "todo" || state == "walking";
            !(is_open && running.is_some_and(|id| as_i64(id.0) == crawl))
        };
        Ok(book.is_some_and(is_due))
    }

    /// Closes what a complete walk ends. What the same batch finds again stays open. A position of the log is not what came before
    /// it: that is made good for, and followed, when the batch says so. `unread`: so many records could not be read, of these rows.
    pub(super) fn close_gaps_by_walk(&mut self, scope: &Scope, unread: &(u64, Unread)) -> Result<(), StoreError> {
        let (records, unread) = unread;
        let is_of_before = |kind| *scope == Scope::Log && matches!(kind, GapKind::LogLost | GapKind::Stale);
        for kind in CLOSED_BY_READING.into_iter().filter(|kind| !is_of_before(*kind)) {
            if kind != GapKind::Failed || unread.is_over() {
                self.close_gap_unless_found(scope, kind)?;
            }
        }
        if !unread.is_over() {
            let evidence = format!("records of the list that could not be read: {records} (quarantined)");
            self.put_gap(&Gap { scope: scope.clone(), kind: GapKind::Failed, evidence }, Some(unread))?;
        }
        Ok(())
    }

    /// What the crawl has not read, and the log does not tell of: of these collections nobody knows what has changed since they were
    /// read. At the end of the crawl it is what it could not read, or of which the list of apps or groups did not tell.
    pub(super) fn lose_unread(&mut self, ends_crawl: bool) -> Result<(), StoreError> {
        let mut select = self.apply.sql.prepare_cached(
            "SELECT scope FROM scopes WHERE completed_at IS NOT NULL AND scope <> 'log'
             AND NOT (crawl = ?1 AND state IN ('finished', ?2)) ORDER BY scope",
        )?;
        let names = select.query_map(params![as_i64(self.crawl.0), HELD], |row| row.get::<_, String>(0))?;
        let names = names.collect::<Result<Vec<_>, _>>()?;
        drop(select);
        let evidence = if ends_crawl { LEFT_UNREAD } else { STILL_UNREAD };
        for scope in names.iter().filter_map(|name| Scope::parse(name)) {
            self.open_gap(&Gap { scope, kind: GapKind::LogLost, evidence: evidence.to_owned() })?;
        }
        Ok(())
    }

    /// Collections of which a gap says that they may have changed without a word.
    pub(super) fn lost(&self) -> Result<Vec<Scope>, StoreError> {
        let mut select = self
            .apply
            .sql
            .prepare_cached("SELECT scope FROM gaps WHERE open = 1 AND kind = ?1 AND scope <> 'log' ORDER BY scope")?;
        let names = select.query_map([GapKind::LogLost.name()], |row| row.get::<_, String>(0))?;
        let names = names.collect::<Result<Vec<_>, _>>()?;
        Ok(names.iter().filter_map(|name| Scope::parse(name)).collect())
    }

    /// Closes a gap unless this very batch reports it: it would look as if it had been gone for a moment.
    pub(super) fn close_gap_unless_found(&mut self, scope: &Scope, kind: GapKind) -> Result<(), StoreError> {
        let is_found = self.found.iter().any(|gap| gap.kind == kind && gap.scope == *scope);
        if is_found { Ok(()) } else { self.close_gap(scope, kind) }
    }

    /// Closes all gaps of a scope that is forgotten.
    pub(super) fn forget_gaps(&mut self, scope: &Scope) -> Result<(), StoreError> {
        let name = scope.name();
        let mut select = self.apply.sql.prepare_cached("SELECT id FROM gaps WHERE scope = ?1 AND open = 1")?;
        let open = select.query_map([&name], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        drop(select);
        for id in &open {
            self.note_gap(id, OP_CLOSED)?;
        }
        let now = self.apply.now.as_millis();
        self.run(
            "UPDATE gaps SET open = 0, closed_at = ?2, unread = NULL WHERE scope = ?1 AND open = 1",
            params![name, now],
        )?;
        self.apply.object_gaps.remove(scope);
        self.coverage.push(CoverageChange::Forget(scope.clone()));
        Ok(())
    }
}

/// Objects on which a gap is open.
pub(super) fn object_gaps(sql: &Connection) -> Result<BTreeSet<Scope>, StoreError> {
    let mut select = sql.prepare_cached("SELECT DISTINCT scope FROM gaps WHERE open = 1")?;
    let names = select.query_map((), |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| Scope::parse(name)).filter(|scope| scope.object().is_some()).collect())
}

/// Objects that are not shown though nothing says that they are gone: by a gap, or by reads that have not found them.
pub(super) fn absent(sql: &Connection) -> Result<BTreeSet<Scope>, StoreError> {
    let mut absent = BTreeSet::new();
    let mut select = sql.prepare_cached("SELECT scope FROM gaps WHERE open = 1 AND kind = ?1 AND scope GLOB '*(*'")?;
    let names = select.query_map([GapKind::UnseenReference.name()], |row| row.get::<_, String>(0))?;
    for name in names {
        absent.extend(Scope::parse(&name?).filter(|scope| scope.object().is_some()));
    }
    let mut select = sql.prepare_cached("SELECT target FROM pending_reads WHERE absent_since IS NOT NULL")?;
    let names = select.query_map((), |row| row.get::<_, String>(0))?;
    for name in names {
        absent.extend(match Target::parse(&name?) {
            Some(Target::User(user)) => Some(Scope::User(user)),
            Some(Target::Group(group)) => Some(Scope::Group(group)),
            Some(Target::App(app)) => Some(Scope::App(app)),
            _ => None,
        });
    }
    Ok(absent)
}

/// Forgets gaps that were closed long ago.
pub(super) fn forget_old(sql: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let oldest = now.plus_millis(-CLOSED_DAYS * 86_400_000).as_millis();
    sql.execute("DELETE FROM gaps WHERE open = 0 AND coalesce(closed_at, last_seen) < ?1", [oldest])?;
    sql.execute(
        "DELETE FROM gaps WHERE open = 0 AND id NOT IN
         (SELECT id FROM gaps WHERE open = 0 ORDER BY coalesce(closed_at, last_seen) DESC, id LIMIT ?1)",
        [CLOSED_MAX],
    )?;
    Ok(())
}

/// Opens the gap of scopes that were read to their end too long ago, and of a position in the log that is too old. They
/// close when the scope is read, or the log followed, again.
impl Books<'_, '_> {
    pub(super) fn age(&mut self, limits: Ages, observed_through: Option<Timestamp>) -> Result<(), StoreError> {
        let now = self.apply.now;
        if let Some(limit) = limits.scope_millis {
            let mut select = self.apply.sql.prepare_cached(
                "SELECT scope, completed_at FROM scopes s WHERE completed_at < ?1 AND scope <> 'log' AND NOT EXISTS
                 (SELECT 1 FROM gaps g WHERE g.scope = s.scope AND g.open = 1 AND g.kind = ?2) ORDER BY scope LIMIT ?3",
            )?;
            let oldest = now.plus_millis(-limit).as_millis();
            let rows = select.query_map(params![oldest, GapKind::Stale.name(), AGED_AT_ONCE_MAX], |row| {
                Ok((row.get::<_, String>(0)?, Timestamp::from_millis(row.get(1)?)))
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            drop(select);
            for (name, completed_at) in rows {
                let Some(scope) = Scope::parse(&name) else { continue };
                let evidence = format!("last read to its end at {completed_at}");
                self.open_gap(&Gap { scope, kind: GapKind::Stale, evidence })?;
            }
        }
        let is_old = |through: Timestamp| limits.log_millis.is_some_and(|limit| now.millis_since(through) > limit);
        match observed_through {
            Some(through) if is_old(through) => {
                let evidence = format!("followed up to {through}");
                if !self.is_open(GapKind::Stale, &Scope::Log)? {
                    self.open_gap(&Gap { scope: Scope::Log, kind: GapKind::Stale, evidence })?;
                }
            }
            _ => self.close_gap(&Scope::Log, GapKind::Stale)?,
        }
        Ok(())
    }

    fn is_open(&self, kind: GapKind, scope: &Scope) -> Result<bool, StoreError> {
        let mut select = self.apply.sql.prepare_cached("SELECT 1 FROM gaps WHERE id = ?1 AND open = 1")?;
        Ok(select.exists([GapId::of(kind, scope).as_str()])?)
    }
}

/// Scopes whose age is noted in one transaction.
const AGED_AT_ONCE_MAX: i64 = 1_000;

/// How old a complete read, and the position in the log, may be, in milliseconds; `None`: as old as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Of a collection.
    pub scope_millis: Option<i64>,
    /// Of the log.
    pub log_millis: Option<i64>,
}

//! Gaps and bad records, within the writer's transaction.
//!
//! Entry points: [`Books::open_gap`], [`Books::close_gap`], [`Books::quarantine`]. That a gap opens or closes is a change
//! that readers see: it makes a revision and a line of its own log.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::apply::OP_REMOVED;
use super::columns::kind_code;
use super::missing::{HELD, find, id_of, read_at, unshown};
use super::walks::{Books, CoverageChange};
use super::{StoreError, as_i64};
use crate::core::batch::Batch;
use crate::core::coverage::{Gap, GapId, GapKind, Nameless, Reach, UNREAD_ROWS_MAX, Unread, UnreadRow};
use crate::core::ids::{CrawlId, RequestNumber, Timestamp, is_okta_id};
use crate::core::model::{Key, Kind, Quarantined, Row, Scope};
use crate::core::pending::Target;

/// Bad records that are kept per scope: enough to see what is wrong, however many there are.
const QUARANTINE_ROWS_MAX: i64 = 1_000;

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

/// Evidence of records outside of walks.
const BAD_ANSWER: &str = "records that could not be read (quarantined)";
const HIDDEN_NAMES: &str = "users whose login and e-mail are not shown (quarantined)";

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

/// Records of a walk that could not be read.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    pub(super) records: u64,
    /// Those that say which row they are, with the request that showed them last; there need be no such row.
    named: BTreeMap<Box<str>, RequestNumber>,
    /// The last of those that do not, if there may be any.
    unknown: Option<RequestNumber>,
}

impl Unreadable {
    /// Whether some do not say which row they are.
    pub(super) fn some_are_unknown(&self) -> bool {
        self.unknown.is_some()
    }
}

/// A record outside of walks that could not be read.
#[derive(Clone, Debug)]
pub(super) struct BadRecord {
    /// As it is told.
    pub(super) gap: Gap,
    /// The row; `None`: the record does not say.
    pub(super) row: Option<Box<str>>,
    /// Only a later request shows it anew.
    pub(super) since: RequestNumber,
}

/// The records of a batch that could not be read, but for those of walks, which count them at their end. `hidden`: users of whom
/// nobody can tell whether the filter wants them.
pub(super) fn bad_records(batch: &Batch, hidden: &[Quarantined]) -> Vec<BadRecord> {
    let is_walked = |scope: &Scope| batch.walks.iter().any(|update| update.scope == *scope);
    let gap = |scope: &Scope, evidence: &str| Gap {
        scope: scope.clone(),
        kind: GapKind::Failed,
        evidence: evidence.to_owned(),
    };
    let of_record = |record: &Quarantined, evidence: &str| BadRecord {
        gap: gap(&record.scope, evidence),
        row: record.id.clone().filter(|id| is_okta_id(id)),
        since: batch.at,
    };
    let is_outside = |record: &&Quarantined| listed_kind(&record.scope).is_some() && !is_walked(&record.scope);
    let of_answer = batch.quarantined.iter().filter(is_outside).map(|record| of_record(record, BAD_ANSWER));
    let of_hidden = hidden.iter().filter(is_outside).map(|record| of_record(record, HIDDEN_NAMES));
    let by_id = batch.unread.iter().map(|read| BadRecord {
        gap: gap(&read.key.scope(), &read.evidence),
        row: Some(read.key.id_in_list().into()),
        since: read.since,
    });
    of_answer.chain(of_hidden).chain(by_id).collect()
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
    fn unread(&self, scope: &Scope) -> Result<Option<Unread>, StoreError> {
        let mut select = self.apply.sql.prepare_cached("SELECT unread FROM gaps WHERE id = ?1 AND open = 1")?;
        let id = GapId::of(GapKind::Failed, scope);
        let text: Option<Option<String>> = select.query_row([id.as_str()], |row| row.get(0)).optional()?;
        Ok(text.map(|text| Unread::parse(text.as_deref())))
    }

    /// Opens a gap or confirms an open one; `unread`: of [`GapKind::Failed`], what it is about from now on.
    fn put_gap(&mut self, gap: &Gap, unread: Option<&Unread>) -> Result<(), StoreError> {
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
    fn narrow(&mut self, scope: &Scope, change: impl FnOnce(&mut Unread)) -> Result<(), StoreError> {
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

    /// Settles what the batch shows of records that could not be read; before its walks end. `untaken`: rows that the store has not
    /// taken over, since it has something newer or does not know whether they are wanted.
    pub(super) fn settle_shown(&mut self, batch: &Batch, untaken: &BTreeSet<Key>) -> Result<(), StoreError> {
        let scopes = self.scopes_with_unread()?;
        if scopes.is_empty() {
            return Ok(());
        }
        let rows = batch.rows.iter().map(Row::key).filter(|key| !untaken.contains(key));
        let shown = rows.chain(batch.removals.iter().cloned()).map(|key| (key, batch.at));
        self.settle(&scopes, shown.chain(batch.settled.iter().cloned()))
    }

    /// Settles what the batch pays for and what it has removed; then it notes the records that it brings outside of walks.
    pub(super) fn settle_rest(
        &mut self,
        paid: impl Iterator<Item = (Key, RequestNumber)>,
        bad: Vec<BadRecord>,
    ) -> Result<(), StoreError> {
        let scopes = self.scopes_with_unread()?;
        if !scopes.is_empty() {
            self.settle(&scopes, paid)?;
            self.settle_removed(&scopes)?;
        }
        let mut by_scope: BTreeMap<Scope, (Unread, Gap)> = BTreeMap::new();
        for BadRecord { gap, row, since } in bad {
            let read_at = self.completed_at(&gap.scope)?;
            if !by_scope.contains_key(&gap.scope) {
                let unread = self.unread(&gap.scope)?.unwrap_or_default();
                by_scope.insert(gap.scope.clone(), (unread, gap.clone()));
            }
            if let Some((unread, _)) = by_scope.get_mut(&gap.scope) {
                match row {
                    Some(id) => unread.add(&id, UnreadRow { since, read_at }),
                    None => unread.nameless = Nameless::Any,
                }
            }
        }
        for (unread, gap) in by_scope.into_values() {
            self.put_gap(&gap, Some(&unread))?;
        }
        Ok(())
    }

    fn settle(
        &mut self,
        scopes: &BTreeSet<Scope>,
        shown: impl Iterator<Item = (Key, RequestNumber)>,
    ) -> Result<(), StoreError> {
        let mut by_scope: BTreeMap<Scope, Vec<(Key, RequestNumber)>> = BTreeMap::new();
        for (key, by) in shown {
            let scope = key.scope();
            if scopes.contains(&scope) {
                by_scope.entry(scope).or_default().push((key, by));
            }
        }
        for (scope, shown) in by_scope {
            self.narrow(&scope, |unread| {
                for (key, by) in &shown {
                    unread.settle(key.id_in_list(), *by);
                }
            })?;
        }
        Ok(())
    }

    /// Rows that the transaction has removed are no longer unread, whatever removed them.
    pub(super) fn settle_removed(&mut self, scopes: &BTreeSet<Scope>) -> Result<(), StoreError> {
        let revision = as_i64(self.apply.revision.0);
        let mut any = self.apply.sql.prepare_cached("SELECT 1 FROM changes WHERE revision = ?1 AND op = ?2 LIMIT 1")?;
        if !any.exists([revision, OP_REMOVED])? {
            return Ok(());
        }
        drop(any);
        for scope in scopes {
            let removed = self.removed_from(scope, revision)?;
            if !removed.is_empty() {
                self.narrow(scope, |unread| removed.iter().for_each(|id| unread.forget(id)))?;
            }
        }
        Ok(())
    }

    /// Ids of the rows of a collection that the transaction has removed.
    fn removed_from(&self, scope: &Scope, revision: i64) -> Result<Vec<String>, StoreError> {
        let outer = match scope {
            Scope::GroupMembers(group) => Some((Kind::Group, group.as_str())),
            Scope::AppUsers(app) | Scope::AppGroups(app) => Some((Kind::App, app.as_str())),
            _ => None,
        };
        let Some(kind) = scope.kind() else { return Ok(Vec::new()) };
        let of_kind = params![revision, kind_code(kind), OP_REMOVED];
        let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let Some((outer_kind, id)) = outer else {
            let mut select = self.apply.sql.prepare_cached(
                "SELECT i.id FROM changes c JOIN ids i ON i.n = c.a WHERE c.revision = ?1 AND c.kind = ?2 AND c.op = ?3",
            )?;
            let ids = select.query_map(of_kind, read)?.collect::<Result<_, _>>()?;
            return Ok(ids);
        };
        let Some(outer) = find(self.apply.sql, outer_kind, id)? else { return Ok(Vec::new()) };
        let mut select = self.apply.sql.prepare_cached(
            "SELECT i.id FROM changes c JOIN ids i ON i.n = c.b
             WHERE c.revision = ?1 AND c.kind = ?2 AND c.op = ?3 AND c.a = ?4",
        )?;
        let ids = select.query_map(params![revision, kind_code(kind), OP_REMOVED, outer], read)?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Lists with records that could not be read.
    pub(super) fn scopes_with_unread(&self) -> Result<BTreeSet<Scope>, StoreError> {
        let mut select = self.apply.sql.prepare_cached("SELECT scope FROM gaps WHERE unread IS NOT NULL")?;
        let names = select.query_map((), |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        Ok(names.iter().filter_map(|name| Scope::parse(name)).collect())
    }

    /// When a list was last read to its end.
    fn completed_at(&self, scope: &Scope) -> Result<Option<Timestamp>, StoreError> {
        let mut select = self.apply.sql.prepare_cached("SELECT completed_at FROM scopes WHERE scope = ?1")?;
        let at: Option<Option<i64>> = select.query_row([scope.name()], |row| row.get(0)).optional()?;
        Ok(at.flatten().map(Timestamp::from_millis))
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

    /// The rows whose records a complete walk could not read, so that they are those of an earlier read: of a record that does not say
    /// which row it is, every row that the walk has not shown. Those that could not be read before, and that nothing has shown since,
    /// stay. Before the walk counts as ended.
    pub(super) fn unread_by_walk(
        &self,
        scope: &Scope,
        from: RequestNumber,
        seen: &RoaringBitmap,
        unreadable: &Unreadable,
    ) -> Result<Unread, StoreError> {
        let mut unread = Unread::default();
        let before = self.unread(scope)?.unwrap_or_default();
        // Whom the walk did not show, and who could not be read after it had: it says nothing of them.
        for (id, row) in before.rows() {
            let n = listed_kind(scope).map(|kind| find(self.apply.sql, kind, id)).transpose()?.flatten();
            let is_stored = n.map(|n| read_at(self.apply.sql, scope, n)).transpose()?.flatten().is_some();
            if is_stored || row.since >= from {
                unread.add(id, *row);
            }
        }
        if unreadable.records == 0 {
            return Ok(unread);
        }
        let completed_at = self.completed_at(scope)?;
        let mut add = |id: &str, since| {
            // Who was not read before has not been read since.
            let read_at = before.rows().get(id).map_or(completed_at, |row| row.read_at);
            unread.add(id, UnreadRow { since, read_at });
        };
        for (id, since) in &unreadable.named {
            add(id, *since);
        }
        if let Some(since) = unreadable.unknown {
            let rows = unshown(self.apply.sql, scope, from, seen)?;
            let are_many = rows.len() > UNREAD_ROWS_MAX;
            for n in rows.into_iter().filter(|_| !are_many) {
                add(&id_of(self.apply.sql, n)?, since);
            }
            unread.nameless = unread.nameless.max(if are_many { Nameless::Any } else { Nameless::Named });
        }
        Ok(unread)
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

    /// Keeps a bad record for people to see, and for the end of the walk; of too many, those seen last.
    pub(super) fn quarantine(&self, record: &Quarantined) -> Result<(), StoreError> {
        let scope = record.scope.name();
        let at = as_i64(self.apply.at.0);
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
    pub(super) fn unreadable(
        &self,
        scope: &Scope,
        from: RequestNumber,
        seen: &mut RoaringBitmap,
    ) -> Result<Unreadable, StoreError> {
        let name = scope.name();
        self.run("DELETE FROM quarantine WHERE scope = ?1 AND at < ?2", params![name, as_i64(from.0)])?;
        let mut select = self.apply.sql.prepare_cached("SELECT item, at FROM quarantine WHERE scope = ?1")?;
        let items = select.query_map([&name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let items = items.collect::<Result<Vec<_>, _>>()?;
        // As many as are kept: there may have been more.
        let may_be_more = items.len() as u64 >= QUARANTINE_ROWS_MAX.unsigned_abs();
        let mut unreadable = Unreadable { records: 0, named: BTreeMap::new(), unknown: None };
        for (item, at) in items {
            let n = match listed_kind(scope) {
                Some(kind) => find(self.apply.sql, kind, &item)?,
                None => None,
            };
            let stored_at = n.map(|n| read_at(self.apply.sql, scope, n)).transpose()?.flatten();
            if stored_at.is_some_and(|stored_at| stored_at > at) {
                // Another read has shown it since.
                self.run("DELETE FROM quarantine WHERE scope = ?1 AND item = ?2 AND at = ?3", params![name, item, at])?;
                continue;
            }
            unreadable.records += 1;
            seen.extend(n.and_then(|n| u32::try_from(n).ok()));
            let at = RequestNumber(at.unsigned_abs());
            let is_named = is_okta_id(&item);
            if !is_named || may_be_more {
                unreadable.unknown = unreadable.unknown.max(Some(at));
            }
            if is_named {
                let known = unreadable.named.entry(item.into()).or_insert(at);
                *known = at.max(*known);
            }
        }
        Ok(unreadable)
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

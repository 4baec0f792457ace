//! Records that could not be read: which rows the gap of their list is about, and what settles them, within the writer's transaction.
//!
//! Entry points: [`Books::quarantine`] keeps a record, [`Books::unreadable`] and [`Books::unread_by_walk`] count those of a walk at its
//! end, [`bad_records`] and [`Books::settle_rest`] take in those of other answers, [`Books::settle_shown`] what is settled. What they mean
//! is [`Unread`]'s business.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, params};

use super::apply::OP_REMOVED;
use super::columns::kind_code;
use super::gaps::listed_kind;
use super::missing::{find, id_of, read_at, unshown};
use super::walks::Books;
use super::{StoreError, as_i64};
use crate::core::batch::Batch;
use crate::core::coverage::{Gap, GapKind, Nameless, UNREAD_ROWS_MAX, Unread, UnreadRow};
use crate::core::ids::{RequestNumber, Timestamp, is_okta_id};
use crate::core::model::{Key, Kind, Quarantined, Scope};

/// Bad records that are kept per scope: enough to see what is wrong, however many there are.
const QUARANTINE_ROWS_MAX: i64 = 1_000;

/// Evidence of records outside of walks.
const BAD_ANSWER: &str = "records that could not be read (quarantined)";
const HIDDEN_NAMES: &str = "users whose login and e-mail are not shown (quarantined)";

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
    gap: Gap,
    /// The row; `None`: the record does not say.
    row: Option<Box<str>>,
    /// Only a later request shows it anew.
    since: RequestNumber,
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
    /// Settles what the batch shows of records that could not be read; before its walks end. `untaken`: places of the rows that the
    /// store has not taken over, since it has something newer or does not know whether they are wanted. An answer may show a row
    /// twice, and only one of the two be taken over.
    pub(super) fn settle_shown(&mut self, batch: &Batch, untaken: &BTreeSet<usize>) -> Result<(), StoreError> {
        let scopes = self.scopes_with_unread()?;
        if scopes.is_empty() {
            return Ok(());
        }
        let taken = batch.rows.iter().enumerate().filter(|(place, _)| !untaken.contains(place));
        let shown = taken.map(|(_, row)| row.key()).chain(batch.removals.iter().cloned()).map(|key| (key, batch.at));
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

//! How much of the change log is kept.
//!
//! Entry points: [`ChangeRetention`] (the setting), [`Retention::prune`]. Revisions carry no time of their own: about once
//! a minute one is noted with its time and the number of lines written so far, which is exact enough to cut by.
//!
//! Invariants:
//! - Changes go by whole revisions, oldest first, and `changes_from` moves in the same transaction.
//! - One transaction deletes a bounded number of lines, unless a single revision has more.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::commit::Done;
use super::meta::{self, Meta};
use super::{StoreError, as_i64};
use crate::core::ids::{Revision, Timestamp};

/// How much of the change log is kept. Who follows the changes and is further behind starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeRetention {
    /// Age in milliseconds from which on changes may go.
    pub age_millis: i64,
    /// Lines that are kept at most, however young; exceeded by an eighth at times.
    pub rows_max: u64,
}

impl Default for ChangeRetention {
    /// A follower may be down for a week; five million lines are some 200 MB.
    fn default() -> Self {
        Self { age_millis: 7 * 86_400_000, rows_max: 5_000_000 }
    }
}

/// How often the time of a revision is noted, and how often old changes are looked for, in milliseconds: seven days are
/// then some ten thousand notes.
const MARK_MILLIS: i64 = 60_000;

/// Lines deleted in one transaction, as many as one writes: the log shrinks as fast as it can grow, and no commit waits
/// for long.
const PRUNED_LINES_MAX: i64 = 20_000;

/// The writer's memory of it.
#[derive(Debug)]
pub(super) struct Retention {
    setting: ChangeRetention,
    /// Lines ever written since the format knows of times.
    lines: u64,
    /// The newest note: when, and how many lines by then.
    mark: Option<(Timestamp, u64)>,
    looked_at: Option<Timestamp>,
    has_more: bool,
}

/// Counts lines that were written beside a batch.
pub(super) fn add_lines(sql: &Connection, lines: u64) -> Result<(), StoreError> {
    let mut select = sql.prepare_cached("SELECT value FROM meta WHERE name = 'change_lines'")?;
    let written: Option<i64> = select.query_row((), |row| row.get(0)).optional()?;
    meta::put_integer(sql, "change_lines", written.unwrap_or_default().saturating_add(as_i64(lines)))
}

impl Retention {
    /// As stored.
    pub(super) fn read(sql: &Connection, setting: ChangeRetention) -> Result<Self, StoreError> {
        let mut select = sql.prepare_cached("SELECT value FROM meta WHERE name = 'change_lines'")?;
        let lines: Option<i64> = select.query_row((), |row| row.get(0)).optional()?;
        let mut select = sql.prepare_cached("SELECT at, lines FROM revision_times ORDER BY revision DESC LIMIT 1")?;
        let mark = select
            .query_row((), |row| Ok((Timestamp::from_millis(row.get(0)?), row.get::<_, i64>(1)?)))
            .optional()?
            .map(|(at, lines)| (at, u64::try_from(lines).unwrap_or_default()));
        let lines = lines.and_then(|lines| u64::try_from(lines).ok()).unwrap_or_default();
        Ok(Self { setting, lines, mark, looked_at: None, has_more: false })
    }

    /// Notes what a batch has written; nothing when it made no revision.
    pub(super) fn note(&mut self, sql: &Connection, done: &Done, now: Timestamp) -> Result<(), StoreError> {
        if done.lines == 0 {
            return Ok(());
        }
        self.lines += done.lines;
        meta::put_integer(sql, "change_lines", as_i64(self.lines))?;
        let is_due = self.mark.is_none_or(|(at, marked)| {
            // A clock that was put back must not end the notes.
            now.millis_since(at).saturating_abs() >= MARK_MILLIS
                || self.lines.saturating_sub(marked) > self.setting.rows_max / 8
        });
        if is_due {
            let mut insert =
                sql.prepare_cached("REPLACE INTO revision_times(revision, at, lines) VALUES (?1, ?2, ?3)")?;
            insert.execute(params![as_i64(done.receipt.revision.0), now.as_millis(), as_i64(self.lines)])?;
            self.mark = Some((now, self.lines));
        }
        Ok(())
    }

    /// Deletes changes that are too old or too many, if it is time to look for them.
    pub(super) fn prune(
        &mut self,
        sql: &Connection,
        meta: &mut Meta,
        now: Timestamp,
        is_wanted: bool,
    ) -> Result<(), StoreError> {
        let is_due = self.looked_at.is_none_or(|at| now.millis_since(at).saturating_abs() >= MARK_MILLIS);
        if !is_due && !is_wanted && !self.has_more {
            return Ok(());
        }
        self.looked_at = Some(now);
        self.has_more = false;
        let target = self.target(sql, meta.revision, now)?;
        if target <= meta.changes_from {
            return Ok(());
        }
        let (through, has_more) = chunk(sql, target)?;
        self.has_more = has_more;
        let last = as_i64(through.0);
        sql.prepare_cached("DELETE FROM changes WHERE revision <= ?1")?.execute([last])?;
        sql.prepare_cached("DELETE FROM gap_changes WHERE revision <= ?1")?.execute([last])?;
        sql.prepare_cached("DELETE FROM override_changes WHERE revision <= ?1")?.execute([last])?;
        sql.prepare_cached("DELETE FROM overrides WHERE gone <= ?1")?.execute([last])?;
        sql.prepare_cached("DELETE FROM revision_times WHERE revision < ?1")?.execute([last])?;
        meta::put_integer(sql, "changes_from", last)?;
        meta.changes_from = through;
        Ok(())
    }

    /// The newest revision whose changes may go. For their number the newest of all stays, however large it is: whoever
    /// follows closely must not have to start anew.
    fn target(&self, sql: &Connection, newest: Revision, now: Timestamp) -> Result<Revision, StoreError> {
        let mut by_age = sql.prepare_cached("SELECT max(revision) FROM revision_times WHERE at <= ?1")?;
        let oldest = now.plus_millis(-self.setting.age_millis).as_millis();
        let by_age: Option<i64> = by_age.query_row([oldest], |row| row.get(0))?;
        let mut target = by_age.unwrap_or_default();
        if self.lines > self.setting.rows_max {
            let mut by_lines = sql.prepare_cached("SELECT min(revision) FROM revision_times WHERE lines >= ?1")?;
            let forgotten = as_i64(self.lines - self.setting.rows_max);
            let by_lines: Option<i64> = by_lines.query_row([forgotten], |row| row.get(0))?;
            target = target.max(by_lines.unwrap_or_default().min(as_i64(newest.0) - 1));
        }
        Ok(Revision(u64::try_from(target).unwrap_or_default()))
    }
}

/// How far one transaction may delete on the way to `target`, and whether that leaves something to do.
fn chunk(sql: &Connection, target: Revision) -> Result<(Revision, bool), StoreError> {
    let mut nth =
        sql.prepare_cached("SELECT revision FROM changes WHERE revision <= ?1 ORDER BY revision LIMIT 1 OFFSET ?2")?;
    let mut revision_at = |offset: i64| -> Result<Option<i64>, StoreError> {
        Ok(nth.query_row(params![as_i64(target.0), offset], |row| row.get(0)).optional()?)
    };
    let Some(beyond) = revision_at(PRUNED_LINES_MAX)? else { return Ok((target, false)) };
    let first = revision_at(0)?.unwrap_or_default();
    let through = if beyond > first { beyond - 1 } else { beyond };
    Ok((Revision(u64::try_from(through).unwrap_or_default()), true))
}

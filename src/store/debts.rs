//! Reads that are owed, within the writer's transaction.
//!
//! Entry points: [`Debts::merge`], [`Debts::answer`], [`Debts::owe`]; [`pending_reads`] for readers.
//!
//! Invariant: a debt never forgets a hint: its `since` only grows until it is paid, and that what it is about was said to be gone
//! is known until it is paid or found.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{StoreError, as_i64};
use crate::core::ids::{RequestNumber, Timestamp};
use crate::core::model::Scope;
use crate::core::pending::{Answered, Patience, PendingRead, Target, When};

const COLUMNS: &str = "target, since, first_at, due_at, again_at, attempts, cause, announced, absent_since";

/// The debts of one transaction.
pub(super) struct Debts<'a> {
    pub(super) sql: &'a Connection,
    pub(super) now: Timestamp,
    pub(super) patience: Patience,
    /// Debts that the store itself has made or renewed, as they are now.
    pub(super) owed: BTreeMap<Target, PendingRead>,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<PendingRead>> {
    let name: String = row.get(0)?;
    let Some(target) = Target::parse(&name) else { return Ok(None) };
    Ok(Some(PendingRead {
        target,
        since: RequestNumber(u64::try_from(row.get::<_, i64>(1)?).unwrap_or_default()),
        first_at: Timestamp::from_millis(row.get(2)?),
        due_at: Timestamp::from_millis(row.get(3)?),
        again_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_millis),
        attempts: row.get(5)?,
        cause: row.get(6)?,
        announced: row.get(7)?,
        absent_since: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
    }))
}

/// What is no target was not written by this program; to pass over it would be to forget a read.
fn known(debt: Option<PendingRead>) -> Result<PendingRead, StoreError> {
    debt.ok_or_else(|| StoreError::Damaged { detail: "a read is owed of something that does not exist".to_owned() })
}

/// All debts, those that are due first first.
pub(super) fn pending_reads(sql: &Connection) -> Result<Vec<PendingRead>, StoreError> {
    let mut select = sql.prepare_cached(&format!("SELECT {COLUMNS} FROM pending_reads ORDER BY due_at, target"))?;
    let rows = select.query_map((), read)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(known).collect()
}

/// The debt for one read.
pub(super) fn pending_read(sql: &Connection, target: &Target) -> Result<Option<PendingRead>, StoreError> {
    let mut select = sql.prepare_cached(&format!("SELECT {COLUMNS} FROM pending_reads WHERE target = ?1"))?;
    select.query_row([target.name()], read).optional()?.map(known).transpose()
}

impl Debts<'_> {
    fn stored(&self, target: &Target) -> Result<Option<PendingRead>, StoreError> {
        pending_read(self.sql, target)
    }

    fn put(&self, debt: &PendingRead) -> Result<(), StoreError> {
        let mut put = self.sql.prepare_cached(
            "REPLACE INTO pending_reads(target, since, first_at, due_at, again_at, attempts, cause, announced, absent_since)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        put.execute(params![
            debt.target.name(),
            as_i64(debt.since.0),
            debt.first_at.as_millis(),
            debt.due_at.as_millis(),
            debt.again_at.map(Timestamp::as_millis),
            debt.attempts,
            debt.cause,
            debt.announced,
            debt.absent_since.map(Timestamp::as_millis),
        ])?;
        Ok(())
    }

    /// Whether the list of all users or groups is still to be read.
    pub(super) fn owes_objects(&self) -> Result<bool, StoreError> {
        for scope in [Scope::Users, Scope::Groups] {
            if self.stored(&Target::List(scope))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a debt as it is now, over what is stored ([`PendingRead::over`]).
    pub(super) fn merge(&self, debt: &PendingRead) -> Result<(), StoreError> {
        self.put(&debt.clone().over(self.stored(&debt.target)?.as_ref()))
    }

    /// What a debt is about was found.
    pub(super) fn found(&self, by: &Answered) -> Result<(), StoreError> {
        let Some(stored) = self.stored(&by.target)? else { return Ok(()) };
        let mut found = stored.clone();
        found.found(by.by);
        if found == stored { Ok(()) } else { self.put(&found) }
    }

    /// A read has answered a debt, if there is one and the read was sent late enough.
    pub(super) fn answer(&self, answered: &Answered) -> Result<(), StoreError> {
        let Some(stored) = self.stored(&answered.target)? else { return Ok(()) };
        match stored.clone().answer(answered.by) {
            Some(left) if left == stored => Ok(()),
            Some(left) => self.put(&left),
            None => {
                let mut delete = self.sql.prepare_cached("DELETE FROM pending_reads WHERE target = ?1")?;
                delete.execute([answered.target.name()])?;
                Ok(())
            }
        }
    }

    /// The store has found a reason to read something.
    pub(super) fn owe(
        &mut self,
        target: Target,
        when: When,
        cause: &str,
        since: RequestNumber,
    ) -> Result<(), StoreError> {
        let debt = match self.stored(&target)? {
            Some(mut stored) => {
                stored.owe(when, since, self.now, self.patience);
                stored
            }
            None => PendingRead::new(target, when, cause, since, self.now, self.patience),
        };
        self.put(&debt)?;
        self.owed.insert(debt.target.clone(), debt);
        Ok(())
    }

    /// Says of a debt that what it is about is gone.
    pub(super) fn announce(&mut self, target: &Target) -> Result<(), StoreError> {
        let Some(stored) = self.stored(target)? else { return Ok(()) };
        let debt = PendingRead { announced: true, ..stored };
        self.put(&debt)?;
        self.owed.insert(debt.target.clone(), debt);
        Ok(())
    }

    /// As [`Debts::owe`], unless a read is owed already.
    pub(super) fn owe_once(
        &mut self,
        target: Target,
        when: When,
        cause: &str,
        since: RequestNumber,
    ) -> Result<(), StoreError> {
        if self.stored(&target)?.is_some() { Ok(()) } else { self.owe(target, when, cause, since) }
    }
}

//! The books as an operator sees them: how far every collection was read, and which records could not be.
//!
//! Entry points: [`Snapshot::scope_books`], [`Snapshot::quarantine_lines`].

use super::super::StoreError;
use super::super::missing::HELD;
use super::{Snapshot, size};
use crate::core::ids::Timestamp;
use crate::core::model::Scope;

/// Where the walk of a collection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookState {
    /// To be read, or left over from a crawl that was given up: nothing of the present walk is there.
    Waiting,
    /// Some pages are read.
    Walking,
    /// Read to its end.
    Finished,
    /// Read to its end, and what it did not show is kept.
    Held,
    /// Given up; a gap says why.
    GivenUp,
}

/// How far a collection was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeBook {
    /// The collection.
    pub scope: Scope,
    /// Where its walk stands.
    pub state: BookState,
    /// When it was last read to its end, by this machine's clock.
    pub completed_at: Option<Timestamp>,
    /// When the walk that is open began, by Okta's clock.
    pub walk_began: Option<Timestamp>,
}

/// A record that could not become a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineLine {
    /// Where it stood.
    pub scope: Scope,
    /// Its id, or empty.
    pub item: String,
    /// What is wrong with it.
    pub reason: String,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
}

fn read_book(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<ScopeBook>> {
    let (scope, state): (String, String) = (row.get(0)?, row.get(1)?);
    let state = match state.as_str() {
        "walking" => BookState::Walking,
        "finished" => BookState::Finished,
        HELD => BookState::Held,
        "given_up" => BookState::GivenUp,
        _ => BookState::Waiting,
    };
    let time = |value: Option<i64>| value.map(Timestamp::from_millis);
    let (completed_at, walk_began) = (time(row.get(2)?), time(row.get(3)?));
    Ok(Scope::parse(&scope).map(|scope| ScopeBook { scope, state, completed_at, walk_began }))
}

impl Snapshot<'_> {
    /// All collections that were ever asked for.
    pub fn scope_books(&self) -> Result<Vec<ScopeBook>, StoreError> {
        let rows = self.rows("SELECT scope, state, completed_at, walk_began FROM scopes", (), read_book)?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// One collection, if it was ever asked for.
    pub fn scope_book(&self, scope: &Scope) -> Result<Option<ScopeBook>, StoreError> {
        let sql = "SELECT scope, state, completed_at, walk_began FROM scopes WHERE scope = ?1";
        Ok(self.one(sql, [scope.to_string()], read_book)?.flatten())
    }

    /// Records that could not become rows, at most `limit`.
    pub fn quarantine_lines(&self, limit: usize) -> Result<Vec<QuarantineLine>, StoreError> {
        let rows = self.rows(
            "SELECT scope, item, reason, first_seen, last_seen FROM quarantine ORDER BY scope, item, reason LIMIT ?1",
            [size(limit)],
            |row| {
                let scope: String = row.get(0)?;
                let line = |scope| {
                    Ok(QuarantineLine {
                        scope,
                        item: row.get(1)?,
                        reason: row.get(2)?,
                        first_seen: Timestamp::from_millis(row.get(3)?),
                        last_seen: Timestamp::from_millis(row.get(4)?),
                    })
                };
                Scope::parse(&scope).map(line).transpose()
            },
        )?;
        Ok(rows.into_iter().flatten().collect())
    }
}

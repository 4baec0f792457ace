//! What the filter keeps out: salted hashes of who and what was dropped, and how rows are sifted before they are stored.
//!
//! Entry points: [`Sieve::sift`] for rows that a read showed, [`Sieve::keep_walk`] for walks, [`Sieve::follow_up`] for what is to
//! be read after them; [`Filtered`] for the hashes.
//!
//! | a row | its user (or group) is | then |
//! |---|---|---|
//! | of a user, of a group | wanted | stored |
//! | | not wanted | dropped; what was stored of it goes; its hashes are kept |
//! | | not to be decided | not stored; a bad record says so; what was stored stays |
//! | that names a user or group | stored | stored |
//! | | known to be filtered | dropped; hashes of the account's names are kept |
//! | | neither | not stored; the user or group is read by id, and what was dropped after it |
//!
//! Invariants:
//! - No name of somebody who is filtered is ever written, only hashes under a salt of this store's own.
//! - Without a filter of users and groups nothing here is asked for a row.

mod follow_up;
mod hashes;
mod sieve;
#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension as _};

pub(super) use self::follow_up::{forget_all, forget_scope, lists_with_gaps};
pub(super) use self::hashes::Filtered;
pub(super) use self::sieve::{Dropped, Leavings, Sieve, Sifted, forget_grants_of_unknown, forget_history};
use super::{StoreError, meta};
use crate::core::filter::Filter;

/// Reads the filter that the rows were read under.
pub(super) fn stored_filter(sql: &Connection) -> Result<Option<Filter>, StoreError> {
    let mut select = sql.prepare_cached("SELECT value FROM meta WHERE name = 'filter'")?;
    let text: Option<String> = select.query_row((), |row| row.get(0)).optional()?;
    // What another version wrote counts as unknown.
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// Notes the filter that rows are read under from now on.
pub(super) fn store_filter(sql: &Connection, filter: &Filter) -> Result<(), StoreError> {
    let text = serde_json::to_string(filter)
        .map_err(|error| StoreError::Stopped { detail: format!("the filter cannot be written: {error}") })?;
    meta::put_text(sql, "filter", &text)
}

//! Connections of readers that wait for their next use, some with a snapshot that is still the newest one.
//!
//! Entry points: [`Pool::take`] and [`Pool::put`] for readers, [`Pool::begin_write`] and [`Pool::end_write`] for the writer of
//! the same process.
//!
//! To begin and to end a transaction costs a point read as much as its rows do. So a connection keeps its snapshot until
//! somebody commits.
//!
//! Invariants:
//! - A snapshot that is used again was begun after the last commit that anybody has been told of.
//! - No idle connection holds a snapshot while the writer commits, moves the write-ahead log into the file, or cuts it off.
//!   In between, one of the newest state is in nobody's way.
//! - Without a writer in this process no snapshot is kept: nobody would tell when it is over.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::memo::Memo;
use super::snapshot::Snapshot;
use super::{StoreError, files};

/// Idle connections that are kept. More may be open at peaks; each costs up to 8 MiB of cache.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// Idle connections of one store.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Pooled>>,
    /// Commits so far; each is counted before anybody is told of it.
    commits: AtomicU64,
    /// Whether snapshots must not be kept now.
    is_writing: AtomicBool,
}

/// A connection, and what it has read since anybody committed.
#[derive(Debug)]
pub(super) struct Pooled {
    connection: Connection,
    memo: Memo,
    /// The number of commits before its snapshot, while that is open.
    open_since: Option<u64>,
}

impl Pool {
    /// Of a store that another process may be writing.
    pub(super) fn of_foreign() -> Self {
        Self { is_writing: AtomicBool::new(true), ..Self::default() }
    }

    /// A connection with an open snapshot of what was committed before this call, or of something newer.
    pub(super) fn take(&self, dir: &Path) -> Result<Pooled, StoreError> {
        // First: a commit between this and the begin of the snapshot does no harm.
        let commits = self.commits.load(Ordering::Acquire);
        let idle = self.idle().pop();
        let mut pooled = match idle {
            Some(pooled) => pooled,
            None => Pooled::open(dir)?,
        };
        if pooled.open_since != Some(commits) {
            pooled.end()?;
            pooled.begin(commits)?;
        }
        Ok(pooled)
    }

    /// Takes a connection back, with its snapshot if it may be kept. Of a read that failed nothing is kept.
    pub(super) fn put(&self, mut pooled: Pooled, has_failed: bool) {
        if (has_failed || self.is_writing.load(Ordering::Relaxed)) && pooled.end().is_err() {
            return;
        }
        let mut idle = self.idle();
        // Asked again under the lock: the writer sets it first and ends the snapshots of all that are here then.
        let may_keep = !self.is_writing.load(Ordering::Acquire);
        if idle.len() < IDLE_CONNECTIONS_MAX && (may_keep || pooled.end().is_ok()) {
            idle.push(pooled);
        }
    }

    /// Before the writer commits.
    pub(super) fn begin_write(&self) {
        self.is_writing.store(true, Ordering::Release);
        // What cannot be ended ends with its connection.
        self.idle().retain_mut(|pooled| pooled.end().is_ok());
    }

    /// After the writer has committed, before anybody is told.
    pub(super) fn has_committed(&self) {
        self.commits.fetch_add(1, Ordering::Release);
    }

    /// When the writer leaves the file alone again.
    pub(super) fn end_write(&self) {
        self.is_writing.store(false, Ordering::Release);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Pooled>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pooled {
    fn open(dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: files::open_for_reading(dir)?, memo: Memo::default(), open_since: None })
    }

    // Not rusqlite's own transactions, which have both statements parsed each time: a point read is hardly longer.
    fn begin(&mut self, commits: u64) -> Result<(), StoreError> {
        self.connection.prepare_cached("BEGIN")?.execute(())?;
        self.open_since = Some(commits);
        self.memo.as_of(&self.connection)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        if self.open_since.is_some() {
            self.connection.prepare_cached("COMMIT")?.execute(())?;
            self.open_since = None;
        }
        Ok(())
    }

    /// What it shows.
    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::new(&self.connection, &self.memo)
    }
}

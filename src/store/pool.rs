//! Connections of readers that wait for their next use, some with a snapshot that is still the newest one.
//!
//! Entry points: [`Pool::take`] and [`Pool::put`] for readers, [`Pool::begin_write`] and [`Pool::end_write`] for the writer of
//! the same process.
//!
//! To begin and to end a transaction costs a point read as much as its rows do. So a connection keeps its snapshot until
//! somebody commits.
//!
//! Invariants:
//! - A connection whose transaction SQLite has ended by itself, as it does after errors of the disk, is not used again.
//! - A snapshot that is used again was begun after the last commit that anybody has been told of.
//! - No idle connection holds a snapshot while the writer commits, moves the write-ahead log into the file, or cuts it off.
//!   In between, one of the newest state is in nobody's way.
//! - Without a writer in this process no snapshot is kept: nobody would tell when it is over.
//! - Threads that read at the same time again and again come to have a place each, and write to no place in memory that they
//!   share. There is one for each core; who finds none opens a connection.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use rusqlite::Connection;

use super::memo::Memo;
use super::named::Names;
use super::snapshot::Snapshot;
use super::touched::Touched;
use super::{StoreError, files};
use crate::core::ids::Revision;

/// Idle connections that are kept: one for each core that may be reading, within these bounds. More may be open at peaks. A few
/// are worth it on one core as well, where lists are read besides.
const PLACES_MIN: usize = 4;
const PLACES_MAX: usize = 16;

thread_local! {
    /// The place of the connection that the thread has used last, which is in the cache of its core.
    static LAST_PLACE: Cell<usize> = const { Cell::new(0) };
}

/// Idle connections that are kept of one store on this machine.
pub(super) fn places() -> usize {
    // Asks the system, once.
    static PLACES: LazyLock<usize> = LazyLock::new(|| {
        std::thread::available_parallelism().map_or(PLACES_MIN, NonZeroUsize::get).clamp(PLACES_MIN, PLACES_MAX)
    });
    *PLACES
}

/// Room for one that is idle.
type Place = Option<Box<Pooled>>;

/// Idle connections of one store.
#[derive(Debug)]
pub(super) struct Pool {
    /// Each thread looks first where it was last ([`LAST_PLACE`]).
    idle: Box<[CachePadded<Mutex<Place>>]>,
    /// Commits so far; each is counted before anybody is told of it.
    commits: AtomicU64,
    /// The revision that was published last.
    published: AtomicU64,
    /// Whether snapshots must not be kept now.
    is_writing: AtomicBool,
    /// What names lead to; `None` where another process may be writing, of which nothing is known but when it committed.
    names: Option<Arc<Names>>,
}

/// A connection, and what it has read since anybody committed.
#[derive(Debug)]
pub(super) struct Pooled {
    connection: Connection,
    memo: Memo,
    /// The number of commits before its snapshot, while that is open.
    open_since: Option<u64>,
}

impl Default for Pool {
    fn default() -> Self {
        let (commits, published, is_writing) = (AtomicU64::default(), AtomicU64::default(), AtomicBool::default());
        let idle = (0..places()).map(|_| CachePadded::default()).collect();
        Self { idle, commits, published, is_writing, names: Some(Arc::default()) }
    }
}

impl Pool {
    /// Of a store that another process may be writing.
    pub(super) fn of_foreign() -> Self {
        Self { is_writing: AtomicBool::new(true), names: None, ..Self::default() }
    }

    /// A connection with an open snapshot of what was committed before this call, or of something newer.
    pub(super) fn take(&self, dir: &Path) -> Result<Box<Pooled>, StoreError> {
        // First: a commit between this and the begin of the snapshot does no harm.
        let commits = self.commits.load(Ordering::Acquire);
        let idle = self.idle().find_map(|(_, mut idle)| idle.take());
        // What is wrong with one ends with it.
        let renewed =
            idle.filter(|idle| idle.is_sound()).and_then(|mut idle| idle.renew(commits).is_ok().then_some(idle));
        if let Some(pooled) = renewed {
            return Ok(pooled);
        }
        let mut pooled = Box::new(Pooled::open(dir, self.names.clone())?);
        pooled.begin(commits)?;
        Ok(pooled)
    }

    /// Takes a connection back, with its snapshot if it may be kept. Of a read that failed nothing is kept.
    pub(super) fn put(&self, mut pooled: Box<Pooled>, has_failed: bool) {
        if !pooled.is_sound() || (has_failed || self.is_writing.load(Ordering::Relaxed)) && pooled.end().is_err() {
            return;
        }
        let Some((place, mut idle)) = self.idle().find(|(_, idle)| idle.is_none()) else { return };
        // Asked again under the lock: the writer sets it first and ends the snapshots of all that are here then. One that
        // was begun before the last commit is of no more use.
        let is_newest = pooled.open_since == Some(self.commits.load(Ordering::Acquire));
        let may_keep = is_newest && !self.is_writing.load(Ordering::Acquire);
        if may_keep || pooled.end().is_ok() {
            *idle = Some(pooled);
            LAST_PLACE.set(place);
        }
    }

    /// What names lead to.
    pub(super) fn names(&self) -> Option<&Names> {
        self.names.as_deref()
    }

    /// Before the writer commits: what changes with this revision.
    pub(super) fn note(&self, touched: &mut Touched, revision: Revision) {
        if let Some(names) = &self.names {
            names.note(touched, revision);
        }
    }

    /// Before the writer commits.
    pub(super) fn begin_write(&self) {
        self.is_writing.store(true, Ordering::Release);
        // What cannot be ended ends with its connection.
        self.idle().for_each(|(_, mut idle)| drop(idle.take_if(|pooled| pooled.end().is_err())));
    }

    /// After the writer has committed, before anybody is told.
    pub(super) fn has_committed(&self) {
        self.commits.fetch_add(1, Ordering::Release);
    }

    /// Before anybody is told of a revision.
    pub(super) fn publish(&self, revision: Revision) {
        self.published.fetch_max(revision.0, Ordering::Release);
    }

    /// The revision that was published last.
    pub(super) fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Acquire))
    }

    /// When the writer leaves the file alone again.
    pub(super) fn end_write(&self) {
        self.is_writing.store(false, Ordering::Release);
    }

    /// All places, one after the other, beginning where the calling thread was last.
    fn idle(&self) -> impl Iterator<Item = (usize, MutexGuard<'_, Place>)> {
        let (before, own) = self.idle.split_at(LAST_PLACE.get().min(self.idle.len()));
        let numbers = (before.len()..self.idle.len()).chain(0..before.len());
        numbers
            .zip(own.iter().chain(before))
            .map(|(number, place)| (number, place.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Pooled {
    fn open(dir: &Path, names: Option<Arc<Names>>) -> Result<Self, StoreError> {
        let connection = files::open_for_reading(dir)?;
        Ok(Self { connection, memo: Memo::new(names), open_since: None })
    }

    // Not rusqlite's own transactions, which have both statements parsed each time: a point read is hardly longer.
    fn begin(&mut self, commits: u64) -> Result<(), StoreError> {
        self.connection.prepare_cached("BEGIN")?.execute(())?;
        self.open_since = Some(commits);
        self.memo.as_of(&self.connection)
    }

    /// Begins a snapshot anew unless the open one is still the newest.
    fn renew(&mut self, commits: u64) -> Result<(), StoreError> {
        if self.open_since == Some(commits) {
            return Ok(());
        }
        self.end()?;
        self.begin(commits)
    }

    /// Whether SQLite agrees about the transaction. After some errors (of the disk, of memory) it ends one by itself, and each
    /// statement would read a state of its own.
    fn is_sound(&self) -> bool {
        self.connection.is_autocommit() == self.open_since.is_none()
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
        Snapshot::new(&self.connection, &self.memo, self.open_since)
    }
}

#[cfg(test)]
mod tests {
    use super::super::for_tests::{self, Opened};
    use super::super::{Reader, STORE_FILE};
    use crate::core::batch::Batch;
    use crate::core::filter::Filter;
    use crate::core::ids::Revision;
    use crate::core::model::Row;

    fn user(id: usize, name: &str) -> Row {
        for_tests::user(id.try_into().unwrap(), &format!("{id}@example.com"), name)
    }

    fn commit(opened: &Opened, rows: Vec<Row>) -> Revision {
        opened.commit(Batch { rows, ..Batch::default() }).revision
    }

    fn log_bytes(opened: &Opened) -> u64 {
        std::fs::metadata(opened.dir.path().join(format!("{STORE_FILE}-wal"))).map_or(0, |file| file.len())
    }

    fn revision(reader: &Reader) -> Revision {
        reader.read(|snapshot| Ok(snapshot.revision())).unwrap()
    }

    #[test]
    fn a_transaction_that_sqlite_has_ended_is_not_gone_on_with() {
        let opened = Opened::new(Filter::default());
        commit(&opened, vec![user(1, "x")]);
        let pool = super::Pool::default();
        for ends_between in [false, true] {
            let pooled = pool.take(opened.dir.path()).unwrap();
            // As after an error of the disk.
            if !ends_between {
                pooled.connection.execute_batch("ROLLBACK").unwrap();
            }
            pool.put(pooled, false);
            let expected = usize::from(ends_between);
            assert_eq!(pool.idle().filter(|(_, idle)| idle.is_some()).count(), expected);
            for (_, idle) in pool.idle() {
                idle.iter().for_each(|pooled| pooled.connection.execute_batch("ROLLBACK").unwrap());
            }
            let pooled = pool.take(opened.dir.path()).unwrap();
            assert!(pooled.is_sound() && pooled.open_since.is_some());
            assert_eq!(pooled.snapshot().revision(), Revision(1));
        }
    }

    #[test]
    fn threads_that_read_at_the_same_time_come_to_have_places_of_their_own() {
        let opened = Opened::new(Filter::default());
        commit(&opened, vec![user(1, "x")]);
        let (pool, threads) = (super::Pool::default(), super::places());
        let together = std::sync::Barrier::new(threads);
        // Each has the very same connection, in the very same place, again and again.
        let use_one = |meets_all: bool| {
            let pooled = pool.take(opened.dir.path()).unwrap();
            let connection = std::ptr::from_ref(&*pooled).addr();
            if meets_all {
                together.wait();
            }
            pool.put(pooled, false);
            if meets_all {
                together.wait();
            }
            (super::LAST_PLACE.get(), connection)
        };
        let seen: Vec<_> = std::thread::scope(|scope| {
            let uses = || [true, true, false, false, false, true].map(use_one);
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(uses)).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|uses| uses.iter().all(|one| *one == uses[0])), "{seen:?}");
        let mut places: Vec<usize> = seen.iter().map(|uses| uses[0].0).collect();
        places.sort_unstable();
        assert_eq!(places, (0..threads).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_holds_a_receipt_reads_what_it_is_for() {
        let opened = Opened::new(Filter::default());
        for number in 0..200 {
            let committed = commit(&opened, vec![user(number % 7, &number.to_string())]);
            for _ in 0..3 {
                assert_eq!(revision(&opened.store.reader), committed);
            }
        }
    }

    #[test]
    fn readers_of_other_threads_never_go_back() {
        let opened = Opened::new(Filter::default());
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut seen = Revision::default();
                    while !is_over.load(std::sync::atomic::Ordering::Acquire) {
                        let published = *opened.store.reader.revisions().borrow();
                        let read = revision(&opened.store.reader);
                        assert!(read >= seen && read >= published, "{read:?} after {seen:?}, {published:?}");
                        seen = read;
                    }
                });
            }
            for number in 0..300 {
                commit(&opened, vec![user(number % 7, &number.to_string())]);
            }
            is_over.store(true, std::sync::atomic::Ordering::Release);
        });
    }

    #[test]
    fn idle_readers_do_not_let_the_write_ahead_log_grow() {
        let opened = Opened::new(Filter::default());
        let mut largest = 0;
        for round in 0..60 {
            let rows = (0..700).map(|id| user(id, &format!("{round}-{}", "x".repeat(1_000)))).collect();
            commit(&opened, rows);
            revision(&opened.store.reader);
            largest = largest.max(log_bytes(&opened));
        }
        // 60 transactions of about a MiB each; the log is moved into the file every 16 MiB.
        assert!((8 << 20..20 << 20).contains(&largest), "{largest} bytes");
        drop(opened.store.writer);
        assert_eq!(revision(&opened.store.reader), Revision(60));
    }

    #[test]
    fn readers_beside_another_process_keep_nothing() {
        let opened = Opened::new(Filter::default());
        let stranger = Reader::open(opened.dir.path()).unwrap();
        for number in 0..20 {
            let committed = commit(&opened, vec![user(number, "x")]);
            assert_eq!(revision(&stranger), committed);
        }
        let path = opened.dir.path().join(STORE_FILE);
        drop(opened.store);
        #[expect(clippy::disallowed_methods, reason = "as another program would open it")]
        let sql = rusqlite::Connection::open(path).unwrap();
        let busy: i64 = sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0)).unwrap();
        assert_eq!(busy, 0);
    }
}

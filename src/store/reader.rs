//! Readers of a store: a bounded pool of read-only connections.
//!
//! Entry points: [`Reader::read`] for point reads, [`Reader::scan`] for anything longer. What a closure reads is one
//! snapshot; no client can hold it open, because it ends with the closure or, while it is the newest, with the next commit.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::sync::ShardedLock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::pool::Pool;
use super::register::{self, Adopted, Builder, RegisterLook, Step};
use super::snapshot::Snapshot;
use super::{SharedCoverage, StoreError, files, writer};
use crate::core::coverage::Coverage;
use crate::core::ids::{Revision, Timestamp};
use crate::core::model::App;

/// Scans at once: they run on blocking threads and must not take all of them.
const SCANS_MAX: usize = 4;

/// Cheap handle; clone it freely.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    pool: Arc<Pool>,
    scans: Arc<Semaphore>,
    coverage: SharedCoverage,
    revision: watch::Receiver<Revision>,
    apps: Mutex<Option<(Revision, Arc<Vec<App>>)>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(
        dir: &Path,
        pool: Arc<Pool>,
        coverage: SharedCoverage,
        revision: watch::Receiver<Revision>,
    ) -> Result<Self, StoreError> {
        // At least one can be opened.
        pool.publish(*revision.borrow());
        let first = pool.take(dir)?;
        pool.put(first, false);
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                pool,
                scans: Arc::new(Semaphore::new(SCANS_MAX)),
                coverage,
                revision,
                apps: Mutex::new(None),
            }),
        })
    }

    /// Opens readers of a store that another process may be writing. Coverage is as of this moment.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is no store; [`StoreError::Damaged`], [`StoreError::Newer`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let connection = files::open_for_reading(dir)?;
        let coverage = Arc::new(ShardedLock::new(writer::coverage_on_disk(&connection)?));
        let revision = super::meta::Meta::read(&connection)?.revision;
        drop(connection);
        let (_, receiver) = watch::channel(revision);
        Self::new(dir, Arc::new(Pool::of_foreign()), coverage, receiver)
    }

    /// Reads in one snapshot, in the calling thread: for point reads (well below a millisecond).
    pub fn read<T>(&self, read: impl FnOnce(&Snapshot<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let pooled = self.shared.pool.take(&self.shared.dir)?;
        let result = read(&pooled.snapshot());
        self.shared.pool.put(pooled, result.is_err());
        result
    }

    /// Reads in one snapshot on a blocking thread: for scans. Whoever stops waiting stops no scan that has begun: it holds its
    /// place, and whatever `read` holds, to its end.
    pub async fn scan<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Snapshot<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Stopped { detail: "the process is shutting down".to_owned() };
        let place = Arc::clone(&self.shared.scans).acquire_owned().await.map_err(|_| stopped())?;
        let reader = self.clone();
        let scan = move || {
            let _place = place;
            reader.read(read)
        };
        tokio::task::spawn_blocking(scan).await.map_err(|_| stopped())?
    }

    /// Takes the register of the org's directory into use. What cannot be used is removed, and the one that was in use with it.
    /// `is_own`: this process has made it; of another one it is read what has changed since.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn adopt_register(&self, is_own: bool) -> Result<Adopted, StoreError> {
        let shared = Arc::clone(&self.shared);
        self.scan(move |snapshot| match shared.pool.names() {
            Some(names) => register::adopt(&shared.dir, names, snapshot, is_own),
            None => Ok(Adopted::No("another process writes the store".to_owned())),
        })
        .await
    }

    /// Gives the register up that is in use, and removes its file, if there is one.
    pub async fn drop_register(&self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        self.scan(move |_| {
            shared.pool.names().into_iter().for_each(|names| register::give_up(&shared.dir, names));
            Ok(())
        })
        .await
    }

    /// How things stand with the register.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn register_look(&self) -> Result<RegisterLook, StoreError> {
        self.read(|snapshot| snapshot.register_look())
    }

    /// Begins to make a register at `now`.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the file cannot be made; the store cannot be read.
    pub async fn begin_register(&self, now: Timestamp) -> Result<Builder, StoreError> {
        let dir = self.shared.dir.clone();
        self.scan(move |snapshot| Builder::begin(&dir, snapshot, now)).await
    }

    /// Goes on with it, for some ten milliseconds. It is in use once it is whole and was adopted.
    ///
    /// # Errors
    /// [`StoreError::Io`] of the file, for example of a disk that is full; [`StoreError::Mismatch`] where names were purged
    /// meanwhile; the store cannot be read. Nothing is left of it.
    pub async fn go_on_with_register(&self, builder: Builder) -> Result<Step, StoreError> {
        self.scan(move |snapshot| builder.step(snapshot)).await
    }

    /// A place for a scan beside others, if one is free.
    pub(crate) fn place_beside(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.scans).try_acquire_owned().ok()
    }

    /// What is known of all scopes.
    pub fn coverage(&self) -> impl Deref<Target = Coverage> {
        self.shared.coverage.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that the store takes on disk, write-ahead log included; 0 where the file system does not tell.
    pub fn size_bytes(&self) -> u64 {
        let size = |suffix: &str| {
            let path = self.shared.dir.join(format!("{}{suffix}", super::STORE_FILE));
            std::fs::metadata(path).map_or(0, |metadata| metadata.len())
        };
        size("") + size("-wal")
    }

    /// The revision that was published last; one that is told by [`Reader::revisions`] is at most this.
    pub fn revision(&self) -> Revision {
        self.shared.pool.published()
    }

    /// The revision as it grows; ends when the writer does.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.shared.revision.clone()
    }

    /// All apps as of the snapshot; few, so that a selector need not ask the file each time, and of one connection it is
    /// asked once for each commit where they are.
    pub fn apps<'a>(&self, snapshot: &Snapshot<'a>) -> Result<&'a Arc<Vec<App>>, StoreError> {
        snapshot.remembered_apps(|| self.apps_of_all(snapshot))
    }

    /// Those that all connections share.
    fn apps_of_all(&self, snapshot: &Snapshot<'_>) -> Result<Arc<Vec<App>>, StoreError> {
        let current = snapshot.apps_revision();
        let mut cached = self.shared.apps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((revision, apps)) = cached.as_ref()
            && *revision == current
        {
            return Ok(Arc::clone(apps));
        }
        let apps = Arc::new(snapshot.all_apps()?);
        // An older snapshot's are of no use to later ones, which would each have read their own then.
        if cached.as_ref().is_none_or(|(revision, _)| *revision < current) {
            *cached = Some((current, Arc::clone(&apps)));
        }
        Ok(apps)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::for_tests::{Opened, app};
    use crate::core::batch::Batch;
    use crate::core::filter::Filter;

    #[test]
    fn all_connections_of_a_state_share_its_apps_whoever_reads_an_older_one_beside() {
        let opened = Opened::new(Filter::default());
        let rename = |label| opened.commit(Batch { rows: vec![app(1, label)], ..Batch::default() });
        rename("Jira");
        let reader = &opened.store.reader;
        let read = |old: &crate::store::Snapshot<'_>| {
            rename("Jira Cloud");
            reader.read(|one| {
                let apps = Arc::clone(reader.apps(one)?);
                let older = Arc::clone(reader.apps(old)?);
                assert!(!Arc::ptr_eq(&apps, &older) && apps[0].label != older[0].label);
                // Sets over all apps are remembered by them.
                reader.read(|other| Ok(Arc::ptr_eq(&apps, reader.apps(other)?)))
            })
        };
        assert!(reader.read(read).unwrap());
    }
}

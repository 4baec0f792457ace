//! The store: one SQLite file per org, one writer, many readers.
//!
//! Entry points: [`Store::open`] (writer and readers, takes the org's lock), [`Reader::open`] (readers only, beside a
//! running writer). Nothing outside this module speaks SQL.
//!
//! Invariants:
//! - A [`crate::core::batch::Batch`] is one transaction: rows, change log, walks, gaps and log position move together or not at all.
//! - A [`crate::core::ids::Revision`] is handed out only after a `synchronous=FULL` commit covers it; it never repeats.
//! - An unchanged row costs a read and no write.
//! - A damaged, foreign or newer file is reported and left as it is; only a file that does not exist is created.
//! - No read transaction outlives the closure that it was opened for, but for those of idle readers that show the newest
//!   state; the next commit ends them.

mod apply;
mod columns;
mod commit;
mod debts;
mod eras;
mod files;
mod filtered;
#[cfg(test)]
mod for_tests;
mod gaps;
mod members;
mod memo;
mod meta;
mod missing;
mod named;
#[cfg(test)]
mod named_tests;
mod overrides;
mod pool;
mod purge;
mod reader;
mod recent;
mod register;
mod remove;
mod retention;
mod returned;
mod schema;
mod snapshot;
mod touched;
mod unread;
mod walks;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_utils::sync::ShardedLock;

pub use self::files::{StoreFiles, create_private_dir};
pub use self::gaps::Ages;
pub use self::meta::{CrawlStatus, Meta};
pub use self::overrides::{ConfiguredOverrides, OverrideError};
pub use self::reader::Reader;
pub use self::register::{Adopted, Builder, Made, REGISTER_FILE, RegisterLook, Step};
pub use self::retention::ChangeRetention;
pub use self::snapshot::{
    AccountHit, BookState, Change, ChangeKey, ChangeOp, FollowRecord, GapChange, GroupOfApp, HeldName, HeldScope,
    OverrideChange, OverrideGone, PageOf, QuarantineLine, QuarantineRecord, ReleasedName, ScopeBook, ScopeRecord,
    Snapshot, WayOf,
};

use self::pool::Pool;
pub(crate) use self::snapshot::State;
pub use self::writer::{ReleaseError, Writer};
use crate::core::coverage::Coverage;
use crate::core::filter::Filter;
use crate::core::ids::Timestamp;
use crate::core::overrides::OverrideSetting;
use crate::core::reconcile::Brake;

/// What can go wrong with the store. Classified by what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or the file cannot be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process writes this store.
    #[error("{path} is in use by another okta-idmap process; stop it, or use another data directory", path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file is not what this program wrote.
    #[error(
        "the store is damaged: {detail}; nothing was changed. Restore {STORE_FILE} from a backup, or move the \
             org's directory away and crawl again"
    )]
    Damaged {
        /// What was found.
        detail: String,
    },
    /// The file was written by a newer program.
    #[error(
        "the store has format version {found}, this program knows versions up to {supported}; use a newer okta-idmap"
    )]
    Newer {
        /// Version of the file.
        found: i32,
        /// Newest known version.
        supported: i32,
    },
    /// There is no store yet.
    #[error("there is no store in {path} yet; run `okta-idmap sync` first", path = path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A batch expected another state; nothing was written.
    #[error("the store is in another state than the batch expects: {detail}")]
    Mismatch {
        /// What was expected and found.
        detail: String,
    },
    /// The writer has stopped after an earlier error.
    #[error("the store's writer has stopped: {detail}")]
    Stopped {
        /// The error that stopped it.
        detail: String,
    },
    /// Anything else that SQLite reports.
    #[error("store: {0}")]
    Sqlite(#[source] rusqlite::Error),
}

/// Version of the file format that this program writes, and the only one that readers open.
pub const FORMAT_VERSION: i32 = schema::VERSION;

/// Name of the store's file within the org's directory.
pub const STORE_FILE: &str = "store.sqlite";

impl StoreError {
    /// Whether somebody else holds the file for a moment, so that trying again can help.
    pub fn is_busy(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        let Self::Sqlite(source) = self else { return false };
        matches!(source.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged { detail: error.to_string() },
            _ => Self::Sqlite(error),
        }
    }
}

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The org's directory; created with mode 0700.
    pub dir: PathBuf,
    /// When a walk may not remove rows.
    pub brake: Brake,
    /// Fingerprint of the credential that reads now; walks of different ones are never compared.
    pub credential: String,
    /// How much of the change log is kept.
    pub changes: ChangeRetention,
    /// What is stored at all.
    pub filter: Filter,
}

/// Unsigned numbers as SQLite keeps them; what does not fit is more than any org has.
fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An org's store, opened for writing.
pub struct Store {
    /// The one writer.
    pub writer: Writer,
    /// Its readers.
    pub reader: Reader,
    /// What the overrides of the configuration came to; nothing when none were given.
    pub overrides: ConfiguredOverrides,
}

/// Coverage as the writer keeps it and readers see it.
///
/// Each answer looks at it several times, on all cores at once: a lock that counts its readers in one place would have them
/// wait for that place.
pub(crate) type SharedCoverage = Arc<ShardedLock<Coverage>>;

impl Store {
    /// Opens or creates the store of `config.dir` and takes its lock.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process writes it, [`StoreError::Damaged`] and [`StoreError::Newer`] for files
    /// that are left alone, [`StoreError::Io`] for what the file system refuses.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        Self::open_as(config, None)
    }

    /// The same with the overrides of a configuration as of `now`: those of an earlier one that are not among them go.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_with_overrides(
        config: StoreConfig,
        overrides: Vec<OverrideSetting>,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        Self::open_as(config, Some((overrides, now)))
    }

    fn open_as(config: StoreConfig, configured: Option<(Vec<OverrideSetting>, Timestamp)>) -> Result<Self, StoreError> {
        let files = StoreFiles::lock(&config.dir)?;
        let connection = files.open_for_writing()?;
        let pool = Arc::new(Pool::default());
        let (started, coverage, revision) = Writer::start((connection, Arc::clone(&pool)), files, &config, configured)?;
        let reader = Reader::new(Path::new(&config.dir), pool, coverage, revision)?;
        reader.read(|snapshot| register::tidy(&config.dir, snapshot))?;
        Ok(Self { writer: started.writer, reader, overrides: started.overrides })
    }
}

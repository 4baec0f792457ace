//! Files of an org's directory: creation, lock, and the checks before anything is believed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::pool;
use super::schema::{self, APPLICATION_ID};
use super::{STORE_FILE, StoreError, meta};

/// A store up to this size is checked page by page at every start (a fraction of a second); a larger one only where it
/// is read, because a restart must not take longer than a few seconds.
const QUICK_CHECK_BYTES_MAX: u64 = 128 << 20;

/// Prepared statements that a connection keeps: more than the program has.
const STATEMENT_CACHE: usize = 128;

/// Page cache of the writer, in KiB: holds the inner pages of all indexes of an org with millions of rows.
const WRITER_CACHE_KIB: i64 = 65_536;

/// Page cache of all readers that are kept together, in KiB.
const READERS_CACHE_KIB: i64 = 16_384;

/// Pages in the write-ahead log before it is moved into the file (16 MiB): large enough that a crawl page does not pay for it.
const WAL_PAGES: i64 = 4_096;

/// The lock on an org's directory; held for as long as this lives, and freed by the system when the process dies.
#[derive(Debug)]
pub struct StoreFiles {
    dir: PathBuf,
    _lock: File,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
    move |source| StoreError::Io { path: path.to_owned(), source }
}

/// Creates `dir` and its parents, readable by the owner only.
pub fn create_private_dir(dir: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(io(dir))
}

impl StoreFiles {
    /// Creates the directory when it is missing, and takes its lock.
    pub fn lock(dir: &Path) -> Result<Self, StoreError> {
        create_private_dir(dir)?;
        let path = dir.join("lock");
        let mut lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path, source }),
        }
        // For people only; the lock itself is what counts.
        let pid = std::process::id().to_string();
        lock.set_len(0).and_then(|()| lock.write_all(pid.as_bytes())).map_err(io(&path))?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Opens the store for writing, creating it when the file does not exist.
    pub(super) fn open_for_writing(&self) -> Result<Connection, StoreError> {
        let path = self.dir.join(STORE_FILE);
        if !path.exists() {
            self.create(&path)?;
        }
        check_header(&path)?;
        let mut connection = open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // The last connection that closes moves the write-ahead log into the file; not before the file is believed.
        let had_log = has_log(&path);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, had_log)?;
        check_content(&connection, &path)?;
        schema::migrate(&mut connection)?;
        meta::ensure_page_key(&connection)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
        tune(&connection, WRITER_CACHE_KIB)?;
        connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
        assert_durable(&connection)?;
        Ok(connection)
    }

    /// A new store is made beside its final name and then renamed: a file of that name is never half made, so that an
    /// empty or short one is known to be damaged.
    fn create(&self, path: &Path) -> Result<(), StoreError> {
        let leftover = ["-wal", "-shm"].map(|suffix| self.dir.join(format!("{STORE_FILE}{suffix}")));
        if let Some(found) = leftover.iter().find(|file| file.exists()) {
            let detail = format!("{} is there, but {STORE_FILE} is not", found.display());
            return Err(StoreError::Damaged { detail });
        }
        let new = self.dir.join(format!("{STORE_FILE}.new"));
        for suffix in ["", "-wal", "-shm", "-journal"] {
            match fs::remove_file(self.dir.join(format!("{STORE_FILE}.new{suffix}"))) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(&new)(error)),
                _ => {}
            }
        }
        let mut connection = open(&new, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        // Before the file has its name: a switch of the journal that is cut off leaves a file that only a writer can read.
        connection.pragma_update(None, "journal_mode", "wal")?;
        schema::migrate(&mut connection)?;
        connection.execute("INSERT INTO meta(name, value) VALUES ('store_id', lower(hex(randomblob(16))))", ())?;
        // What closing moves into the file it moves without a word when the disk is full.
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
        if busy != 0 {
            return Err(io(&new)(std::io::Error::other("another process uses it")));
        }
        connection.close().map_err(|(_, error)| StoreError::from(error))?;
        fs::rename(&new, path).map_err(io(path))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io(&self.dir))
    }
}

/// Opens a reader; the file must be there.
pub(super) fn open_for_reading(dir: &Path) -> Result<Connection, StoreError> {
    let path = dir.join(STORE_FILE);
    match fs::metadata(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::Missing { path: dir.to_owned() });
        }
        Err(error) => return Err(io(&path)(error)),
    }
    check_header(&path)?;
    let connection = open(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found.cmp(&schema::VERSION) {
        std::cmp::Ordering::Equal => {}
        std::cmp::Ordering::Greater => {
            return Err(StoreError::Newer { found, supported: schema::VERSION });
        }
        std::cmp::Ordering::Less => {
            let detail = format!("its format version {found} is old; a `sync` or `serve` brings it up to date");
            return Err(StoreError::Mismatch { detail });
        }
    }
    tune(&connection, READERS_CACHE_KIB / i64::try_from(pool::places()).unwrap_or(i64::MAX))?;
    Ok(connection)
}

#[expect(clippy::disallowed_methods, reason = "the one place that opens connections")]
fn open(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| StoreError::Io { path: path.to_owned(), source: std::io::Error::other(error.to_string()) })?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(connection)
}

fn tune(connection: &Connection, cache_kib: i64) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // Else each execution of a cached statement with a bound `LIMIT` has it parsed and planned anew, as the planner looks at
    // the value: three fifths of the time of a resolution in the store. No plan of ours is to depend on values.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if !connection.is_readonly("main")? {
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
    }
    Ok(())
}

/// What the durability of every revision rests on; a file system that cannot do it must not go unnoticed.
fn assert_durable(connection: &Connection) -> Result<(), StoreError> {
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    if journal != "wal" || synchronous != 2 {
        let detail = format!("journal mode {journal}, synchronous {synchronous}: the file system does not support WAL");
        return Err(StoreError::Mismatch { detail });
    }
    Ok(())
}

/// Bytes of the header of an SQLite file that say what it is: the magic text, the page size (at 16), the number of pages
/// (28), `user_version` (60) and `application_id` (68). See "The Database File Format" of SQLite.
const HEADER_BYTES: usize = 100;

/// Looks at a store's file without SQLite, which would already move a write-ahead log into a file that is not ours: what is
/// foreign, newer or cut off is told by its header and length.
///
/// Another process may write it, or end and with that move its log into the file, while this looks: a fault counts once a
/// second look finds the very same.
fn check_header(path: &Path) -> Result<(), StoreError> {
    settle(path, || Look::at(path))
}

fn settle(path: &Path, mut look: impl FnMut() -> Result<Look, StoreError>) -> Result<(), StoreError> {
    let mut seen = look()?;
    for _ in 1..LOOKS_MAX {
        if seen.fault(path).is_ok() {
            return Ok(());
        }
        let again = look()?;
        if again == seen {
            break;
        }
        seen = again;
    }
    seen.fault(path)
}

/// Looks at a file that has a fault and changes from look to look.
const LOOKS_MAX: usize = 8;

/// What a look at a store's file finds.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// The first [`HEADER_BYTES`], or all of a shorter file.
    header: Vec<u8>,
    /// Bytes of the file.
    length: u64,
    /// A write-ahead log lay beside it before or after the rest was read.
    has_log: bool,
}

impl Look {
    fn at(path: &Path) -> Result<Self, StoreError> {
        let had_log = has_log(path);
        let file = File::open(path).map_err(io(path))?;
        let length = file.metadata().map_err(io(path))?.len();
        let mut header = Vec::with_capacity(HEADER_BYTES);
        std::io::Read::read_to_end(&mut std::io::Read::take(file, HEADER_BYTES as u64), &mut header)
            .map_err(io(path))?;
        Ok(Self { header, length, has_log: had_log || has_log(path) })
    }

    fn fault(&self, path: &Path) -> Result<(), StoreError> {
        let Self { header, length, has_log } = self;
        if header.len() < HEADER_BYTES {
            return Err(StoreError::Damaged { detail: format!("{} has only {length} bytes", path.display()) });
        }
        if !header.starts_with(b"SQLite format 3\0") {
            return Err(StoreError::Damaged { detail: format!("{} is no SQLite file", path.display()) });
        }
        let number = |at: usize| i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if number(68) != APPLICATION_ID {
            return Err(StoreError::Damaged { detail: format!("{} is no store of okta-idmap", path.display()) });
        }
        if number(60) > schema::VERSION {
            return Err(StoreError::Newer { found: number(60), supported: schema::VERSION });
        }
        // While a write-ahead log is there, the file may be in the middle of taking it over; SQLite mends that.
        if *has_log {
            return Ok(());
        }
        // 1 stands for 65,536, which needs 17 bits.
        let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
            1 => 65_536,
            bytes => u64::from(bytes),
        };
        let should = u64::from(number(28).cast_unsigned()) * page_bytes;
        if *length != should {
            let detail = format!("{} has {length} bytes and should have {should}", path.display());
            return Err(StoreError::Damaged { detail });
        }
        Ok(())
    }
}

/// Whether a write-ahead log with content lies beside the file.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    fs::metadata(log).is_ok_and(|metadata| metadata.len() > 0)
}

fn check_content(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let bytes = fs::metadata(path).map_err(io(path))?.len();
    if bytes <= QUICK_CHECK_BYTES_MAX {
        let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if verdict != "ok" {
            return Err(StoreError::Damaged { detail: verdict });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    /// Those of a look-up that is asked again and again, with values of its own each time.
    #[test]
    fn a_cached_statement_with_a_bound_limit_is_planned_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = StoreFiles::lock(dir.path()).unwrap();
        let writing = files.open_for_writing().unwrap();
        for connection in [writing, open_for_reading(dir.path()).unwrap()] {
            let sql = "SELECT user FROM user_keys WHERE key = ?1 LIMIT ?2";
            for limit in 1..5 {
                let mut select = connection.prepare_cached(sql).unwrap();
                assert!(!select.exists([7, limit]).unwrap());
                assert_eq!(select.get_status(StatementStatus::RePrepare), 0, "limit {limit}");
            }
        }
    }

    /// A store that ends moves its log into the file at any point of a look: a test of simulated servers met a length from
    /// before that with a header from after it.
    #[test]
    fn a_fault_counts_once_it_is_seen_twice() {
        let dir = tempfile::tempdir().unwrap();
        drop(StoreFiles::lock(dir.path()).unwrap().open_for_writing().unwrap());
        let path = dir.path().join(STORE_FILE);
        let whole = || Look::at(&path).unwrap();
        let short = || Look { length: 4_096, ..whole() };
        let shorter = || Look { length: 2_048, ..whole() };
        let cut = || Look { header: vec![0; 7], length: 7, has_log: false };
        let logged = || Look { has_log: true, ..short() };
        let check = |looks: Vec<Look>, used: usize, expected: bool| {
            let mut count = 0;
            let verdict = settle(&path, || {
                count += 1;
                let Look { header, length, has_log } = &looks[(count - 1) % looks.len()];
                Ok(Look { header: header.clone(), length: *length, has_log: *has_log })
            });
            assert_eq!((count, verdict.is_ok()), (used, expected), "{verdict:?} {looks:?}");
        };
        check(vec![whole()], 1, true);
        check(vec![logged()], 1, true);
        check(vec![short(), whole()], 2, true);
        check(vec![short(), logged()], 2, true);
        check(vec![cut(), whole()], 2, true);
        check(vec![short(), short()], 2, false);
        check(vec![cut(), cut()], 2, false);
        check(vec![short(), shorter(), shorter()], 3, false);
        check(vec![short(), shorter(), whole()], 3, true);
        check(vec![short(), shorter()], LOOKS_MAX, false);
    }

    /// Whatever a writer does with its log during a look, it lies there before or after the rest is read.
    #[test]
    fn a_look_knows_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let connection = StoreFiles::lock(dir.path()).unwrap().open_for_writing().unwrap();
        let path = dir.path().join(STORE_FILE);
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        assert!(!Look::at(&path).unwrap().has_log);
        connection.execute_batch("CREATE TABLE more(bytes)").unwrap();
        assert!(Look::at(&path).unwrap().has_log);
    }
}

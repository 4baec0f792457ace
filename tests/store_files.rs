//! Files that are not a good store: each is reported for what it is, told what to do about, and left as it is.
//!
//! Entry points: `check_refused` (the writer and a reader against a directory), and `formats` (files of every released
//! version).

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "store_files/formats.rs"]
mod formats;
#[path = "store_files/history.rs"]
mod history;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use okta_idmap::core::batch::Batch;
use okta_idmap::core::ids::{GroupId, RequestNumber, Timestamp, UserId};
use okta_idmap::core::model::{GroupMember, Row};
use okta_idmap::core::reconcile::Brake;
use okta_idmap::store::{ChangeRetention, Reader, STORE_FILE, Store, StoreConfig, StoreError};

fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        dir: dir.to_owned(),
        brake: Brake::default(),
        credential: "credential".to_owned(),
        changes: ChangeRetention::default(),
        filter: okta_idmap::core::filter::Filter::default(),
    }
}

fn put(store: &Store, batch: Batch) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap() }).unwrap();
}

/// Enough rows for a file of some dozen pages.
fn many_members() -> Batch {
    let group = GroupId::new("00g1").unwrap();
    let user = |n| UserId::new(&format!("00u{n:017}")).unwrap();
    let rows = (0..1_000).map(|n| Row::GroupMember(GroupMember { group: group.clone(), user: user(n) })).collect();
    Batch { now: Timestamp::from_millis(1_000), at: RequestNumber(1), rows, ..Batch::default() }
}

/// A directory with a store of [`many_members`], closed in good order.
fn good_store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).unwrap();
    put(&store, many_members());
    drop(store);
    dir
}

/// Files by name, without those that only say who has the store open: the lock, shared memory, and a log of no bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, bytes)| {
            name != "lock" && !name.ends_with("-shm") && !(name.ends_with("-wal") && bytes.is_empty())
        })
        .collect()
}

/// What an error is, and whether its words say what to do.
fn kind(error: &StoreError) -> &'static str {
    let (kind, advice) = match error {
        StoreError::Io { .. } => ("io", "cannot use"),
        StoreError::Locked { .. } => ("locked", "stop it, or use another data directory"),
        StoreError::Damaged { .. } => ("damaged", "from a backup, or move the org's directory away and crawl again"),
        StoreError::Newer { .. } => ("newer", "use a newer okta-idmap"),
        StoreError::Missing { .. } => ("missing", "run `okta-idmap sync` first"),
        StoreError::Mismatch { .. } => ("mismatch", "a `sync` or `serve` brings it up to date"),
        StoreError::Stopped { .. } => ("stopped", ""),
        StoreError::Sqlite(_) => ("sqlite", ""),
    };
    assert!(error.to_string().contains(advice), "{error} does not say {advice:?}");
    kind
}

/// Opens the directory for writing and for reading, expects these errors (`ok` = none), and that no file has changed.
#[track_caller]
fn check_refused(dir: &Path, what: &str, writer: &str, reader: &str) {
    let before = files(dir);
    let error = Store::open(config(dir)).err();
    assert_eq!(error.as_ref().map_or("ok", kind), writer, "{what}, writer: {error:?}");
    assert!(files(dir) == before, "{what}: the writer has changed {:?}", files(dir).keys());
    // A refused store is free again.
    let error = Store::open(config(dir)).err();
    assert_eq!(error.as_ref().map_or("ok", kind), writer, "{what}, writer again: {error:?}");
    let error = Reader::open(dir).err();
    assert_eq!(error.as_ref().map_or("ok", kind), reader, "{what}, reader: {error:?}");
    assert!(files(dir) == before, "{what}: the reader has changed {:?}", files(dir).keys());
}

#[test]
fn a_store_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).unwrap();
    put(&store, many_members());
    for _ in 0..2 {
        let error = Store::open(config(dir.path())).err().unwrap();
        assert_eq!(kind(&error), "locked");
    }
    // The refused ones have not disturbed the first.
    put(&store, Batch { at: RequestNumber(2), ..many_members() });
    let reader = store.reader.clone();
    drop(store);
    // A reader that is still there does not keep the lock.
    let store = Store::open(config(dir.path())).unwrap();
    drop((store, reader));
}

#[test]
fn a_new_directory_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data/org");
    drop(Store::open(config(&dir)).unwrap());
    #[cfg(unix)]
    for made in [dir.clone(), parent.path().join("data")] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&made).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", made.display());
    }
    assert_eq!(files(&dir).into_keys().collect::<Vec<_>>(), [STORE_FILE], "nothing but the store is left");
}

#[test]
fn short_files_are_damaged() {
    let whole = fs::read(good_store().path().join(STORE_FILE)).unwrap();
    assert!(whole.len() > 20 * 4_096, "enough pages to cut");
    let half = whole.len() / 2;
    let lengths = [0, 1, 15, 16, 60, 99, 100, 512, 4_095, 4_096, 4_097, half, half / 4_096 * 4_096];
    let from_the_end = [1, 100, 4_095, 4_096, 4_097].map(|cut| whole.len() - cut);
    for length in lengths.into_iter().chain(from_the_end) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(STORE_FILE), &whole[..length]).unwrap();
        check_refused(dir.path(), &format!("{length} of {} bytes", whole.len()), "damaged", "damaged");
    }
}

#[test]
fn garbage_is_damaged() {
    let dir = good_store();
    let path = dir.path().join(STORE_FILE);
    let whole = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = (0..whole.len()).map(|_| random.u8(..)).collect();
    fs::write(&path, &noise).unwrap();
    check_refused(dir.path(), "noise", "damaged", "damaged");
    fs::write(&path, vec![0; whole.len()]).unwrap();
    check_refused(dir.path(), "zeros", "damaged", "damaged");
    fs::write(&path, "meta = 1\n".repeat(1_000)).unwrap();
    check_refused(dir.path(), "text", "damaged", "damaged");
    // Good at both ends. A reader finds it only where it reads: it must answer, or say so, and nothing else.
    let mut holed = whole.clone();
    holed[4_096..whole.len() - 4_096].copy_from_slice(&noise[4_096..whole.len() - 4_096]);
    fs::write(&path, &holed).unwrap();
    check_refused(dir.path(), "noise within", "damaged", "damaged");
    // A page that is cut out of the middle: the length is right, what refers to it is not.
    let mut zeroed = whole.clone();
    let middle = whole.len() / 2 / 4_096 * 4_096;
    zeroed[middle..middle + 4_096].fill(0);
    fs::write(&path, &zeroed).unwrap();
    check_refused(dir.path(), "a page of zeros", "damaged", "ok");
}

#[test]
fn flipped_bytes_never_panic() {
    let dir = good_store();
    let path = dir.path().join(STORE_FILE);
    let whole = fs::read(&path).unwrap();
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut flipped = whole.clone();
        for _ in 0..random.usize(1..200) {
            let at = random.usize(100..flipped.len());
            flipped[at] = random.u8(..);
        }
        fs::write(&path, &flipped).unwrap();
        // What is wrong in a row's text nobody can see; everything else is an error, never a panic.
        if let Ok(reader) = Reader::open(dir.path()) {
            let read = reader.read(|snapshot| {
                snapshot.meta()?;
                snapshot.members(&GroupId::new("00g1").unwrap(), None, 10_000)
            });
            if let Err(error) = read {
                kind(&error);
            }
        }
        if let Err(error) = Store::open(config(dir.path())) {
            assert_eq!(kind(&error), "damaged", "seed {seed}: {error:?}");
            assert!(fs::read(&path).unwrap() == flipped, "seed {seed}: left as it was");
        }
        fs::remove_file(dir.path().join("lock")).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "makes files that the store must judge")]
fn sqlite(path: &Path, sql: &str) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

#[test]
fn databases_of_others_are_refused() {
    let others = "CREATE TABLE notes(text TEXT); INSERT INTO notes VALUES ('do not touch');";
    for (what, pragmas) in [
        ("without an application id", ""),
        ("with another application id", "PRAGMA application_id = 252006675; PRAGMA user_version = 1;"),
        ("that looks newer", "PRAGMA application_id = 7; PRAGMA user_version = 900;"),
        ("with a write-ahead log", "PRAGMA journal_mode = wal;"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        drop(sqlite(&path, &format!("{pragmas} {others}")));
        check_refused(dir.path(), &format!("a database {what}"), "damaged", "damaged");
    }
    // Its last changes are still in the log, as after a crash: they must not be moved.
    let dir = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    let open = sqlite(&dir.path().join(STORE_FILE), &format!("PRAGMA journal_mode = wal; {others}"));
    for (name, bytes) in files(dir.path()) {
        fs::write(crashed.path().join(name), bytes).unwrap();
    }
    drop(open);
    assert_eq!(files(crashed.path()).len(), 2, "file and log");
    check_refused(crashed.path(), "a database with a log", "damaged", "damaged");
}

#[test]
fn newer_versions_are_refused() {
    let dir = good_store();
    let newer = sqlite(&dir.path().join(STORE_FILE), "PRAGMA user_version = 900;");
    // As after a crash: only the log knows the version.
    let crashed = tempfile::tempdir().unwrap();
    for (name, bytes) in files(dir.path()) {
        fs::write(crashed.path().join(name), bytes).unwrap();
    }
    drop(newer);
    check_refused(dir.path(), "version 900", "newer", "newer");
    assert_eq!(files(crashed.path()).len(), 2, "file and log");
    check_refused(crashed.path(), "version 900 in the log", "newer", "newer");
    let dir = good_store();
    drop(sqlite(&dir.path().join(STORE_FILE), "PRAGMA user_version = -1;"));
    check_refused(dir.path(), "version -1", "damaged", "mismatch");
}

#[test]
fn older_versions_are_for_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let id = i32::from_be_bytes(*b"oidm");
    let empty = format!("PRAGMA application_id = {id}; CREATE TABLE old(x); DROP TABLE old; PRAGMA user_version = 0;");
    drop(sqlite(&dir.path().join(STORE_FILE), &empty));
    let error = Reader::open(dir.path()).err().unwrap();
    assert_eq!(kind(&error), "mismatch");
}

#[test]
fn a_log_without_its_store_is_not_built_upon() {
    for suffix in ["-wal", "-shm"] {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("{STORE_FILE}{suffix}");
        fs::write(dir.path().join(&name), "what was in the log of a store that is lost").unwrap();
        let error = Store::open(config(dir.path())).err().unwrap();
        assert_eq!(kind(&error), "damaged");
        assert!(error.to_string().contains(&name), "{error} names the file");
        assert!(!dir.path().join(STORE_FILE).exists(), "no empty store beside it");
        assert_eq!(Reader::open(dir.path()).err().as_ref().map(kind), Some("missing"));
    }
}

#[test]
fn a_log_that_was_left_behind_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(dir.path())).unwrap();
    put(&store, many_members());
    let crashed = tempfile::tempdir().unwrap();
    for (name, bytes) in files(dir.path()) {
        fs::write(crashed.path().join(name), bytes).unwrap();
    }
    let log = crashed.path().join(format!("{STORE_FILE}-wal"));
    assert!(fs::metadata(&log).unwrap().len() > 0, "the rows are in the log");
    let members = |reader: &Reader| {
        let group = GroupId::new("00g1").unwrap();
        reader.read(|snapshot| Ok(snapshot.members(&group, None, 10_000)?.rows.len())).unwrap()
    };
    assert_eq!(members(&Reader::open(crashed.path()).unwrap()), 1_000, "a reader alone");
    // Cut within the last transaction, as by a power cut: it did not happen, and what was before is whole.
    let bytes = fs::read(&log).unwrap();
    for cut in [1, 24, 4_096, bytes.len() / 2, bytes.len() - 33, bytes.len() - 1] {
        let torn = tempfile::tempdir().unwrap();
        fs::copy(crashed.path().join(STORE_FILE), torn.path().join(STORE_FILE)).unwrap();
        fs::write(torn.path().join(format!("{STORE_FILE}-wal")), &bytes[..bytes.len() - cut]).unwrap();
        let store = Store::open(config(torn.path())).unwrap();
        assert_eq!(members(&store.reader), 0, "{cut} bytes less");
        put(&store, many_members());
        assert_eq!(members(&store.reader), 1_000, "the batch again, {cut} bytes less");
    }
    let store = Store::open(config(crashed.path())).unwrap();
    assert_eq!(members(&store.reader), 1_000);
    drop(store);
    assert_eq!(files(crashed.path()).into_keys().collect::<Vec<_>>(), [STORE_FILE], "the log is in the file");
}

#[test]
fn a_half_made_new_store_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    for suffix in [".new", ".new-journal", ".new-wal"] {
        fs::write(dir.path().join(format!("{STORE_FILE}{suffix}")), "half").unwrap();
    }
    drop(Store::open(config(dir.path())).unwrap());
    assert_eq!(files(dir.path()).into_keys().collect::<Vec<_>>(), [STORE_FILE]);
}

#[test]
fn what_is_no_directory_or_no_file_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    // Nothing there: the reader creates nothing.
    let dir = parent.path().join("nothing");
    assert_eq!(Reader::open(&dir).err().as_ref().map(kind), Some("missing"));
    assert!(!dir.exists());
    // A file instead of the directory.
    let file = parent.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("org")] {
        assert_eq!(Store::open(config(&path)).err().as_ref().map(kind), Some("io"), "{}", path.display());
        assert_eq!(Reader::open(&path).err().as_ref().map(kind), Some("io"), "{}", path.display());
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
    // A directory instead of the file, and instead of the lock.
    let dir = parent.path().join("directory");
    fs::create_dir_all(dir.join(STORE_FILE)).unwrap();
    check_refused(&dir, "a directory instead of the store", "io", "io");
    let dir = parent.path().join("locked");
    fs::create_dir_all(dir.join("lock")).unwrap();
    check_refused(&dir, "a directory instead of the lock", "io", "missing");
}

#[test]
#[cfg(unix)]
fn what_may_not_be_read_or_written_is_an_error() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = good_store();
    let path = dir.path().join(STORE_FILE);
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&path, 0o000);
    if fs::File::open(&path).is_ok() {
        println!("not tested: this user may read everything");
        return;
    }
    assert_eq!(Store::open(config(dir.path())).err().as_ref().map(kind), Some("io"), "an unreadable file");
    assert_eq!(Reader::open(dir.path()).err().as_ref().map(kind), Some("io"), "an unreadable file");
    mode(&path, 0o600);
    fs::remove_file(dir.path().join("lock")).unwrap();
    mode(dir.path(), 0o500);
    assert_eq!(Store::open(config(dir.path())).err().as_ref().map(kind), Some("io"), "a read-only directory");
    mode(dir.path(), 0o700);
    drop(Store::open(config(dir.path())).unwrap());
}

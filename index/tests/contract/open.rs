//! Opening: what is usable is used, what is not is emptied, what is not ours is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use okta_idmap_index::{
    Expect, HEAP_BYTES_MIN, IndexError, Mark, Opened, Query, Reader, RebuildReason, open, open_anew, open_read_only,
};
use tempfile::TempDir;

use crate::world::{ERA, STORE, World, eras, expect_up_to, index_of, mark, user};

/// A closed index at revision 5 with one document.
fn closed_index() -> TempDir {
    let world = World::of_users(&["Anna"]);
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    writer.commit_at(&mark(5)).expect("commit");
    drop(writer);
    world.dir
}

/// Opens; says what came of it, and asserts that a rebuilt index is empty and works.
#[track_caller]
fn outcome(dir: &Path, expect: &Expect) -> String {
    match open(dir, expect) {
        Ok(Opened::Ready(index, mark)) => {
            format!("ready at {} with {} documents", mark.revision, index.reader().doc_count())
        }
        Ok(Opened::Rebuild(index, reason)) => {
            assert_eq!((index.reader().doc_count(), index.reader().mark()), (0, None));
            let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
            writer.put(&user(7, "Zoe")).expect("put");
            writer.commit_at(&mark(5)).expect("commit");
            drop((writer, index));
            let again = index_of(open(dir, &expect_up_to(9)).expect("open again"));
            assert_eq!(again.reader().all_keys().expect("keys"), ["user/7"]);
            format!("rebuild: {reason}")
        }
        Err(error) => format!("error: {error}"),
    }
}

/// Does something to a closed index and opens it.
#[track_caller]
fn check(spoil: impl FnOnce(&Path), expected: &str) {
    let dir = closed_index();
    spoil(dir.path());
    let found = outcome(dir.path(), &expect_up_to(9));
    assert!(found.starts_with(expected), "{found}");
}

fn index_files(dir: &Path, ending: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).expect("list");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths
}

fn replace_in(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("read");
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).expect("write");
}

#[test]
fn usable_indexes_are_used() {
    check(|_| {}, "ready at 5 with 1 documents");
    check(|dir| fs::write(dir.join("notes.txt"), "mine").expect("write"), "ready at 5 with 1 documents");
    let dir = closed_index();
    let exactly = Expect { revisions: 5..=5, ..expect_up_to(9) };
    assert_eq!(outcome(dir.path(), &exactly), "ready at 5 with 1 documents");
}

#[test]
fn what_is_missing_is_made() {
    let dir = TempDir::new().expect("temporary directory");
    assert_eq!(outcome(&dir.path().join("a/b"), &expect_up_to(9)), "rebuild: there is no index yet");
    let empty = TempDir::new().expect("temporary directory");
    assert_eq!(outcome(empty.path(), &expect_up_to(9)), "rebuild: there is no index yet");
}

#[test]
fn marks_are_judged() {
    let dir = closed_index();
    let expect = |store_id: &str, oldest: u64, newest: u64| Expect {
        store_id: store_id.to_owned(),
        revisions: oldest..=newest,
        ..expect_up_to(9)
    };
    for (expect, expected) in [
        (expect("store-2", 0, 9), "rebuild: the index belongs to store \"store-1\""),
        (expect(STORE, 0, 4), "rebuild: the index is at revision 5, ahead of the store at 4"),
        (expect(STORE, 6, 9), "rebuild: the index is at revision 5, the store has changes from 6"),
    ] {
        assert_eq!(outcome(dir.path(), &expect), expected);
    }
    check(
        |dir| replace_in(&dir.join("meta.json"), "\\\"schema\\\":2", "\\\"schema\\\":99"),
        "rebuild: the index has schema 99, expected 2",
    );
    check(
        |dir| replace_in(&dir.join("meta.json"), "\\\"schema\\\":2", "\\\"schema\\\":-1"),
        "rebuild: the index is damaged: read mark",
    );
}

/// The index is at revision 5 of an era; the store is at 9.
#[test]
fn an_index_of_another_past_is_made_anew() {
    #[track_caller]
    fn check(store: &[(&str, u64)], expected: &str) {
        let dir = closed_index();
        let expect = Expect { eras: eras(store), ..expect_up_to(9) };
        let found = match open(dir.path(), &expect).expect("open") {
            Opened::Ready(_, mark) => format!("ready at {}", mark.revision),
            Opened::Rebuild(_, reason) => reason.to_string(),
        };
        assert_eq!(found, expected);
    }
    let restored =
        "the index is at revision 5 of era \"e\", which the store does not have: it was restored from a backup";
    check(&[(ERA, 5)], "ready at 5");
    check(&[("a", 0), (ERA, 3)], "ready at 5");
    // A backup of later on; or no backup, and a start of the store since.
    check(&[("a", 0), (ERA, 3), ("b", 6)], "ready at 5");
    // A backup of before the index, which has grown since.
    check(&[("a", 0), (ERA, 3), ("b", 5)], restored);
    check(&[("a", 0), ("b", 3)], restored);
    // So long ago that the store has forgotten it, or never knew.
    check(&[("b", 6)], restored);
    check(&[], restored);
}

#[test]
fn a_mark_without_an_era_is_not_believed() {
    let era = "\\\"era\\\":\\\"e\\\",";
    let expected = "rebuild: the index does not say of which era its revision 5 is";
    // As earlier versions wrote it, and of a store that knew none.
    check(|dir| replace_in(&dir.join("meta.json"), era, ""), expected);
    check(|dir| replace_in(&dir.join("meta.json"), era, "\\\"era\\\":\\\"\\\","), expected);
}

#[test]
fn interrupted_rebuilds_start_again() {
    let dir = TempDir::new().expect("temporary directory");
    for _ in 0..2 {
        let opened = open(dir.path(), &expect_up_to(9)).expect("open");
        let Opened::Rebuild(index, reason) = opened else { panic!("ready") };
        assert!(matches!(reason, RebuildReason::Missing | RebuildReason::Unmarked), "{reason}");
        let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
        writer.put(&user(1, "Anna")).expect("put");
    }
}

#[test]
fn damage_is_rebuilt() {
    let damaged = "rebuild: the index is damaged: ";
    check(|dir| fs::remove_file(dir.join("meta.json")).expect("remove"), damaged);
    check(|dir| fs::write(dir.join("meta.json"), "").expect("write"), damaged);
    check(|dir| fs::write(dir.join("meta.json"), [0xff; 100]).expect("write"), damaged);
    check(|dir| replace_in(&dir.join("meta.json"), "title_line", "title_lime"), damaged);
    check(|dir| fs::write(dir.join(".managed.json"), "[").expect("write"), damaged);
    check(
        |dir| {
            let path = dir.join("meta.json");
            let text = fs::read(&path).expect("read");
            fs::write(&path, &text[..text.len() / 2]).expect("write");
        },
        damaged,
    );
    for ending in [".term", ".idx", ".pos", ".store", ".fast"] {
        check(|dir| index_files(dir, ending).iter().for_each(|path| fs::remove_file(path).expect("remove")), damaged);
        check(
            |dir| index_files(dir, ending).iter().for_each(|path| fs::write(path, "garbage").expect("write")),
            damaged,
        );
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    for stranger in ["notes.txt", "abc.term", "0123456789abcdef0123456789abcdef.exe", ".tmpabc", "store.sqlite"] {
        let dir = closed_index();
        fs::write(dir.path().join("meta.json"), "garbage").expect("write");
        fs::write(dir.path().join(stranger), "mine").expect("write");
        let before = fs::read_dir(dir.path()).expect("list").count();
        let found = outcome(dir.path(), &expect_up_to(9));
        assert!(found.starts_with("error: index directory") && found.contains(stranger), "{found}");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), before);
    }
    let dir = TempDir::new().expect("temporary directory");
    fs::create_dir(dir.path().join("meta.json")).expect("create");
    assert!(outcome(dir.path(), &expect_up_to(9)).starts_with("error: "));
    let file = dir.path().join("file");
    fs::write(&file, "").expect("write");
    assert!(outcome(&file, &expect_up_to(9)).starts_with("error: prepare index directory"));
}

#[test]
fn temporary_files_of_a_crash_are_ours() {
    check(
        |dir| {
            fs::write(dir.join(".tmpAb12xY"), "half").expect("write");
            fs::write(dir.join("0123456789abcdef0123456789abcdef.term"), "half").expect("write");
            fs::remove_file(dir.join("meta.json")).expect("remove");
        },
        "rebuild: the index is damaged: meta.json is missing",
    );
}

#[test]
fn one_owner_at_a_time() {
    let dir = closed_index();
    let owner = index_of(open(dir.path(), &expect_up_to(9)).expect("open"));
    let other_store = Expect { store_id: "other".to_owned(), ..expect_up_to(9) };
    assert!(
        matches!(open(dir.path(), &other_store), Err(IndexError::Locked { .. })),
        "must not be emptied under its owner"
    );
    let writer = owner.writer(HEAP_BYTES_MIN).expect("writer");
    let reader = owner.reader();
    drop(owner);
    assert!(matches!(open(dir.path(), &expect_up_to(9)), Err(IndexError::Locked { .. })), "the writer still owns it");
    drop(writer);
    assert_eq!(outcome(dir.path(), &expect_up_to(9)), "ready at 5 with 1 documents");
    assert_eq!(reader.doc_count(), 1, "a reader needs no owner");
}

#[test]
fn lock_files_of_a_killed_process_do_not_block() {
    let dir = closed_index();
    for name in [".tantivy-writer.lock", ".tantivy-meta.lock", ".okta-idmap-index.lock"] {
        assert!(dir.path().join(name).exists() || fs::write(dir.path().join(name), "").is_ok(), "{name}");
    }
    let index = index_of(open(dir.path(), &expect_up_to(9)).expect("open"));
    index.writer(HEAP_BYTES_MIN).expect("writer");
}

/// Says when it is dropped that something is done.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn others_open_while_the_owner_merges() {
    let World { dir, index } = World::of_users(&["Anna"]);
    let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when something fails here: the other would go on for ever.
        let done = Done(&is_done);
        let opened = scope.spawn(|| {
            let mut opened = 0;
            while !is_done.load(Ordering::Relaxed) {
                let other = open_read_only(dir.path()).expect("an index in use is not damaged");
                opened += usize::from(other.mark().is_some());
            }
            opened
        });
        // Each commit leaves a segment and removes files; of eight segments one is made.
        for revision in 2..=150 {
            writer.put(&user(usize::try_from(revision % 20).expect("small"), "Bert")).expect("put");
            writer.commit_at(&mark(revision)).expect("commit");
        }
        drop(done);
        assert!(opened.join().expect("each time") > 10);
    });
}

/// Mapped files of the directory, as the system counts them.
#[cfg(target_os = "linux")]
fn mapped_files(dir: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let dir = dir.canonicalize().expect("the directory is there");
    maps.lines().filter(|line| line.contains(dir.to_str().expect("UTF-8"))).count()
}

fn map_anew(reader: &Reader) {
    let ((), former) = reader.map_anew(|| ()).expect("map anew").expect("it has a mark");
    drop(former);
}

#[test]
fn files_are_mapped_anew_and_nobody_notices() {
    let World { dir, index } = World::of_users(&["Anna"]);
    let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
    let (reader, clone) = (index.reader(), index.reader());
    for revision in 2..=60_u64 {
        writer.put(&user(usize::try_from(revision).expect("small"), "Bert")).expect("put");
        if revision % 3 == 0 {
            map_anew(&reader);
        }
        writer.commit_at(&mark(revision)).expect("commit");
        if revision % 3 == 1 {
            map_anew(&reader);
        }
        for reader in [&reader, &clone] {
            assert_eq!((reader.mark(), reader.doc_count()), (Some(mark(revision)), revision));
        }
    }
    assert_eq!(clone.search(&Query { limit: 100, ..Query::new("bert") }).expect("search").total, 59);
    // What is gone, or was emptied, is not mapped, and what was there is searched on.
    writer.finish().expect("finish");
    let meta = dir.path().join("meta.json");
    fs::rename(&meta, dir.path().join("meta.gone")).expect("rename");
    assert!(matches!(reader.map_anew(|| ()), Err(IndexError::Reload(_))));
    fs::rename(dir.path().join("meta.gone"), &meta).expect("rename");
    map_anew(&reader);
    drop(index);
    let emptied = open_anew(dir.path()).expect("open anew");
    assert!(matches!(reader.map_anew(|| ()), Err(IndexError::Reload(_))));
    assert_eq!((clone.mark(), clone.doc_count()), (Some(mark(60)), 60));
    // Nor is one that is behind what was told of it, or of another store.
    let mut writer = emptied.writer(HEAP_BYTES_MIN).expect("writer");
    for (mark, is_ours) in [
        (mark(59), false),
        (Mark { store_id: "other".to_owned(), ..mark(61) }, false),
        (Mark { era: "other".to_owned(), ..mark(61) }, false),
        (mark(61), true),
    ] {
        writer.put(&user(1, "Carl")).expect("put");
        writer.commit_at(&mark).expect("commit");
        assert_eq!(reader.map_anew(|| ()).is_ok(), is_ours, "{mark:?}");
        assert_eq!(clone.doc_count(), if is_ours { 1 } else { 60 });
    }
}

#[test]
fn what_is_committed_while_files_are_mapped_anew_is_seen() {
    let World { dir, index } = World::of_users(&["Anna"]);
    let (mut writer, reader) = (index.writer(HEAP_BYTES_MIN).expect("writer"), index.reader());
    for revision in 2..10_u64 {
        let alone = || {
            assert_eq!(reader.doc_count(), revision - 1, "those before are still seen");
            writer.put(&user(usize::try_from(revision).expect("small"), "Bert")).expect("put");
            writer.commit_at(&mark(revision)).expect("commit");
            assert_eq!(reader.doc_count(), revision);
        };
        drop(reader.map_anew(alone).expect("map anew"));
        assert_eq!((reader.mark(), reader.doc_count()), (Some(mark(revision)), revision));
    }
    writer.finish().expect("finish");
    drop(index);
    // What is emptied meanwhile is not seen so.
    let before = reader.doc_count();
    assert!(matches!(reader.map_anew(|| open_anew(dir.path()).expect("open anew")), Err(IndexError::Reload(_))));
    assert_eq!(reader.doc_count(), before);
}

#[test]
fn what_is_damaged_is_found_in_files_of_any_age() {
    let World { dir, index } = World::of_users(&["Anna"]);
    let reader = index.reader();
    let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
    let terms = || -> BTreeSet<PathBuf> {
        let files = fs::read_dir(dir.path()).expect("list").map(|entry| entry.expect("entry").path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "term")).collect()
    };
    map_anew(&reader);
    let before = terms();
    writer.put(&user(2, "Bert")).expect("put");
    writer.commit_at(&mark(2)).expect("commit");
    assert_eq!(reader.verify().expect("verify"), Vec::<String>::new());
    let new: Vec<PathBuf> = terms().difference(&before).cloned().collect();
    let [path] = new.as_slice() else { panic!("one segment more: {new:?}") };
    let mut content = fs::read(path).expect("read");
    content[0] ^= 1;
    fs::write(path, content).expect("write");
    assert_eq!(reader.verify().expect("verify").len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_mapped_anew_is_let_go() {
    let world = World::of_users(&["Anna", "Bert"]);
    let reader = world.reader();
    let once = mapped_files(world.dir.path());
    assert!(once > 0);
    for _ in 0..20 {
        map_anew(&reader);
    }
    assert_eq!(mapped_files(world.dir.path()), once);
}

#[test]
fn others_read_while_the_owner_writes() {
    let world = World::of_users(&["Anna"]);
    let other = open_read_only(world.dir.path()).expect("read-only");
    assert_eq!((other.mark(), other.doc_count()), (Some(mark(1)), 1));
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    writer.put(&user(1, "Bert")).expect("put");
    writer.commit_at(&mark(2)).expect("commit");
    assert_eq!((other.mark(), other.doc_count()), (Some(mark(1)), 1));
    assert_eq!(other.refresh().expect("refresh"), Some(mark(2)));
    assert_eq!(other.all_keys().expect("keys"), ["user/0", "user/1"]);
    let World { dir, index } = world;
    drop((writer, index));
    let other_store = Expect { store_id: "other".to_owned(), ..expect_up_to(9) };
    let rebuilt = index_of(open(dir.path(), &other_store).expect("open"));
    assert_eq!(other.all_keys().expect("the old view stays"), ["user/0", "user/1"]);
    assert_eq!(other.refresh().expect("refresh"), None);
    assert_eq!((other.doc_count(), rebuilt.reader().doc_count()), (0, 0));
    assert!(matches!(open_read_only(dir.path()), Err(IndexError::Unusable { reason: RebuildReason::Unmarked, .. })));
    let nothing = TempDir::new().expect("temporary directory");
    assert!(matches!(open_read_only(nothing.path()), Err(IndexError::Unusable { reason: RebuildReason::Missing, .. })));
}

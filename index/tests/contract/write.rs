//! Writing: the last word wins, commits are seen at once, marks survive.

use okta_idmap_index::{DocKind, HEAP_BYTES_MIN, IndexDoc, IndexError, KEY_BYTES_MAX, Opened, open};

use crate::world::{World, expect_up_to, mark, user};

#[test]
fn the_last_operation_on_a_key_wins() {
    let world = World::of_users(&["Anna", "Bert"]);
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    writer.put(&user(0, "Berta")).expect("put");
    writer.put(&user(0, "Carl")).expect("put");
    writer.delete("user/1").expect("delete");
    writer.put(&user(2, "Dora")).expect("put");
    writer.delete("user/2").expect("delete");
    writer.delete("user/99").expect("deleting nothing is no error");
    assert_eq!(world.find("anna"), "user/0", "nothing shows before the commit");
    writer.commit_at(&mark(2)).expect("commit");
    assert_eq!(
        (world.find("carl"), world.find("anna bert"), world.find("dora")),
        ("user/0".into(), String::new(), String::new())
    );
    assert_eq!(world.reader().all_keys().expect("keys"), ["user/0"]);
    assert_eq!((world.reader().doc_count(), world.reader().mark()), (1, Some(mark(2))));
}

#[test]
fn delete_all_spares_only_what_comes_after() {
    let world = World::of_users(&["Anna", "Bert"]);
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    writer.put(&user(0, "Old")).expect("put");
    writer.put(&user(5, "Old")).expect("put");
    writer.delete_all().expect("delete all");
    writer.put(&user(0, "New")).expect("put");
    writer.put_new(&user(6, "New")).expect("put");
    writer.commit_at(&mark(2)).expect("commit");
    assert_eq!(world.reader().all_keys().expect("keys"), ["user/0", "user/6"]);
    assert_eq!(world.find("new"), "user/0 user/6");
}

#[test]
fn marks_survive_merges_and_reopening() {
    let world = World::of_users(&["Anna"]);
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    for revision in 2..30 {
        let number = usize::try_from(revision).expect("small");
        writer.put(&user(number, "Anna")).expect("put");
        writer.commit_at(&mark(revision)).expect("commit");
    }
    writer.finish().expect("merges");
    let World { dir, index } = world;
    drop(index);
    match open(dir.path(), &expect_up_to(29)).expect("open") {
        Opened::Ready(index, found) => {
            assert_eq!(found, mark(29));
            assert_eq!(index.reader().mark(), Some(mark(29)));
            assert_eq!(index.reader().doc_count(), 29);
        }
        Opened::Rebuild(_, reason) => panic!("{reason}"),
    }
}

#[test]
fn what_was_not_committed_is_gone() {
    let world = World::of_users(&["Anna"]);
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    writer.put(&user(1, "Bert")).expect("put");
    drop(writer);
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("the next writer starts");
    writer.put(&user(2, "Carl")).expect("put");
    writer.commit_at(&mark(2)).expect("commit");
    assert_eq!(world.reader().all_keys().expect("keys"), ["user/0", "user/2"]);
}

#[test]
fn a_bad_key_changes_nothing() {
    let world = World::of_users(&[]);
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    let with_key = |bytes: usize| IndexDoc::new(DocKind::User, "k".repeat(bytes), "Anna");
    for bytes in [0, KEY_BYTES_MAX + 1] {
        let refused = writer.put(&with_key(bytes));
        assert!(matches!(refused, Err(IndexError::Key { found }) if found == bytes), "{bytes}");
    }
    writer.put(&with_key(KEY_BYTES_MAX)).expect("put");
    writer.commit_at(&mark(1)).expect("commit");
    assert_eq!(world.reader().doc_count(), 1);
}

#[test]
fn heaps_have_bounds_and_writers_are_single() {
    let world = World::of_users(&[]);
    assert!(matches!(world.index.writer(HEAP_BYTES_MIN - 1), Err(IndexError::Heap { .. })));
    assert!(matches!(world.index.writer(usize::MAX), Err(IndexError::Heap { .. })));
    let _first = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    assert!(matches!(world.index.writer(HEAP_BYTES_MIN), Err(IndexError::Locked { .. })));
}

#[test]
fn huge_documents_are_cut_not_refused() {
    let world = World::of_users(&[]);
    let mut doc = user(0, &"Anna ".repeat(1_000));
    doc.names = (0..5_000).map(|number| format!("name{number}")).collect();
    doc.ids = vec!["i".repeat(100_000)];
    doc.status = "S".repeat(100_000);
    let mut writer = world.index.writer(HEAP_BYTES_MIN).expect("writer");
    writer.put(&doc).expect("put");
    writer.commit_at(&mark(1)).expect("commit");
    assert_eq!(world.find("name4095"), "user/0");
    assert_eq!(world.find("name4096 kind:app"), "");
    assert_eq!(world.find("anna kind:user"), "user/0");
}

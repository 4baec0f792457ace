//! Files that are gone or damaged: what is derived is made anew, the store itself is never guessed at.

use std::fs;
use std::path::{Path, PathBuf};

use okta_idmap::engine::EngineError;
use okta_idmap::engine::index::Follower;
use okta_idmap::store::{ChangeRetention, Store, StoreConfig, StoreError};
use okta_sim::NewUser;
use okta_sim::org::UserStatus;

use crate::harness::World;

fn index_files(world: &World) -> Vec<PathBuf> {
    fs::read_dir(world.settings().index_dir()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_or_damaged_index_is_made_anew() {
    let world = World::paged(40, 401);
    world.sync_whole().await;
    let rewrite = |name: &str, content: &[u8]| {
        let mut hit = 0;
        for path in index_files(&world) {
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_file() && (name.is_empty() || file == name) && !file.contains("lock") {
                fs::write(&path, content).unwrap();
                hit += 1;
            }
        }
        assert!(hit > 0, "no file {name}");
    };
    fs::remove_dir_all(world.settings().index_dir()).unwrap();
    world.sync_whole().await;
    rewrite("meta.json", b"{}");
    world.sync_whole().await;
    rewrite("", b"garbage");
    world.sync_whole().await;
    rewrite("", b"");
    world.sync_whole().await;
}

/// While an index is built anew, searches see it as it was, and a build that is broken off leaves it so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_built_beside_the_one_that_is_searched() {
    let world = World::paged(40, 406);
    world.sync_whole().await;
    let (settings, reader) = (world.settings(), world.reader());
    let open = || Follower::open(&settings, &reader).unwrap();
    let seen = |follower: &Follower| {
        let searcher = follower.searcher().unwrap();
        (searcher.doc_count(), searcher.mark().unwrap().revision)
    };
    let mut follower = open();
    let before = seen(&follower);
    assert!(before.0 > 40);
    let searcher = follower.searcher().unwrap();
    let looks = std::cell::Cell::new(0);
    let look = |looks_max: u32| {
        looks.set(looks.get() + 1);
        assert_eq!((searcher.doc_count(), searcher.mark().unwrap().revision), before, "the old one is searched");
        looks.get() < looks_max
    };
    assert!(follower.rebuild(&|| look(u32::MAX)).unwrap());
    assert!(looks.get() >= 4, "each kind of rows");
    assert_eq!(seen(&follower), before, "and the new one is like it");
    // Broken off after the users: neither the end of the follower nor the next one makes a whole index of the part.
    looks.set(0);
    assert!(!follower.rebuild(&|| look(3)).unwrap());
    follower.finish().unwrap();
    assert_eq!(seen(&follower), before);
    drop(follower);
    let mut follower = open();
    assert_eq!(seen(&follower), before);
    follower.catch_up(&|| true).unwrap();
    drop(follower);
    let mut follower = Follower::open_anew(&settings, &reader).unwrap();
    assert!(follower.searcher().is_none(), "there is none");
    follower.catch_up(&|| false).unwrap();
    assert!(follower.mark().is_none(), "broken off");
    drop(follower);
    let mut follower = open();
    assert!(follower.mark().is_none(), "a part is no index");
    follower.catch_up(&|| true).unwrap();
    assert_eq!(seen(&follower), before);
    drop(follower);
    world.assert_equal();
}

/// The index as it is, put into the place where one was.
fn copy_index(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// A store that is put back from a backup has grown beyond its index, which shows what came after the backup.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_what_a_backup_does_not_have_is_made_anew() {
    let world = World::paged(40, 407);
    let (settings, index) = (world.settings(), world.settings().index_dir());
    let kept = |name: &str| world.dir.path().join(name);
    let create = |login: &str| {
        let user = NewUser::new(&format!("{login}@acme.example")).status(UserStatus::Active);
        world.server.sim().org.create_user(&user).unwrap()
    };
    world.sync_whole().await;
    let backup = fs::read(world.store_file()).unwrap();
    copy_index(&index, &kept("then"));
    let before = world.meta().revision;
    let gone = create("gone");
    world.sync_whole().await;
    copy_index(&index, &kept("future"));
    let future = world.meta().revision;
    assert!(future > before);

    // The user has never been in what goes on from the backup.
    for _ in 0..2 {
        let mut sim = world.server.sim();
        sim.org.delete_user(gone).unwrap();
        sim.org.run_all_jobs();
    }
    for file in ["store.sqlite-wal", "store.sqlite-shm"] {
        let _ = fs::remove_file(settings.dir.join(file));
    }
    fs::write(world.store_file(), &backup).unwrap();
    let mut number = 0;
    while number == 0 || world.meta().revision <= future {
        number += 1;
        create(&format!("new{number}"));
        world.sync_whole().await;
    }
    let open = || Follower::open(&settings, &world.reader()).unwrap();
    copy_index(&index, &kept("now"));
    for (name, expected) in [("now", Some(world.meta().revision)), ("then", Some(before)), ("future", None)] {
        copy_index(&kept(name), &index);
        let mut follower = open();
        assert_eq!(follower.mark(), expected, "{name}");
        assert_eq!(follower.searcher().is_some(), expected.is_some(), "{name}");
        follower.catch_up(&|| true).unwrap();
        drop(follower);
        world.assert_equal();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_store_is_read_again() {
    let world = World::paged(40, 402);
    let first = world.sync_whole().await;
    // The index of the store that was is foreign to the new one.
    for file in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        let _ = fs::remove_file(world.settings().dir.join(file));
    }
    let second = world.sync_whole().await;
    assert_ne!(first.meta.store_id, second.meta.store_id);
    fs::remove_dir_all(&world.settings().dir).unwrap();
    world.sync_whole().await;
}

/// A damaged store is reported and left as it is, byte by byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_left_alone() {
    let world = World::paged(40, 403);
    world.sync_whole().await;
    let file = world.store_file();
    let whole = fs::read(&file).unwrap();
    let mut scribbled = whole.clone();
    for byte in scribbled.iter_mut().skip(4_096).take(8_192) {
        *byte ^= 0x55;
    }
    let empty: &[u8] = b"";
    for (name, content) in [
        ("empty", empty),
        ("ten bytes", &whole[..10]),
        ("a quarter", &whole[..whole.len() / 4]),
        ("all but the last page", &whole[..whole.len() - 4_096]),
        ("an odd length", &whole[..whole.len() - 1_000]),
        ("something else", b"PK\x03\x04 this is no database, but long enough to be one: ...................."),
        ("scribbled over", &scribbled),
    ] {
        fs::write(&file, content).unwrap();
        world.forget_requests();
        let error = world.try_sync().await.unwrap_err();
        assert!(matches!(error, EngineError::Store(StoreError::Damaged { .. })), "{name}: {error:?}");
        assert!(error.to_string().contains("nothing was changed"), "{name}: {error}");
        assert_eq!(fs::read(&file).unwrap(), content, "{name}: the file was touched");
        assert_eq!(world.requests(), 0, "{name}");
    }
    fs::write(&file, &whole).unwrap();
    world.sync_whole().await;
}

/// Two processes do not write one store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_use_is_refused() {
    let world = World::paged(20, 404);
    world.sync_whole().await;
    let settings = world.settings();
    let config = StoreConfig {
        dir: settings.dir,
        brake: settings.brake,
        credential: String::new(),
        changes: ChangeRetention::default(),
        filter: okta_idmap::core::filter::Filter::default(),
    };
    let held = Store::open(config).unwrap();
    let error = world.try_sync().await.unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::Locked { .. })), "{error:?}");
    drop(held);
    world.sync_whole().await;
}

/// Nobody but the owner can look into the store.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_directory_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::paged(10, 405);
    world.sync_whole().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.settings().dir), 0o700);
}

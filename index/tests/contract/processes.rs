//! Two processes and one index: the second is told so, may read, and takes over when the first is killed.
//!
//! The first process is this test binary again, running [`owner_in_another_process`] alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use okta_idmap_index::{HEAP_BYTES_MIN, IndexError, Opened, open, open_read_only};
use tempfile::TempDir;

use crate::world::{expect_up_to, index_of, mark, user};

/// Names the directory to own; without it there is no first process and the parent's half runs.
const DIRECTORY_VARIABLE: &str = "OKTA_IDMAP_INDEX_TEST_DIRECTORY";

/// Says that everything below is written.
const READY: &str = "owner is ready";

#[test]
fn owner_in_another_process() {
    match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => own(std::path::Path::new(&directory)),
        None => take_over(),
    }
}

/// The first process: one document committed, one not; then it waits to be killed.
fn own(directory: &std::path::Path) {
    let index = index_of(open(directory, &expect_up_to(0)).expect("open"));
    let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
    writer.put(&user(1, "Anna")).expect("put");
    writer.commit_at(&mark(7)).expect("commit");
    writer.put(&user(2, "Bert")).expect("put");
    writeln!(std::io::stdout().lock(), "{READY}").expect("tell the parent");
    // Ends with the parent, if that fails before it kills this process.
    let _ended = std::io::stdin().read(&mut [0]);
}

/// The second process.
fn take_over() {
    let dir = TempDir::new().expect("temporary directory");
    let mut owner = start_owner(&dir);
    let stdout = BufReader::new(owner.stdout.take().expect("piped"));
    let ready = stdout.lines().map_while(Result::ok).any(|line| line.contains(READY));
    assert!(ready, "the owner failed");

    assert!(matches!(open(dir.path(), &expect_up_to(9)), Err(IndexError::Locked { .. })));
    let reader = open_read_only(dir.path()).expect("read while the other writes");
    assert_eq!((reader.mark(), reader.all_keys().expect("keys")), (Some(mark(7)), vec!["user/1".to_owned()]));

    owner.kill().expect("kill");
    owner.wait().expect("wait");
    let Opened::Ready(index, found) = open(dir.path(), &expect_up_to(9)).expect("open") else { panic!("rebuilt") };
    assert_eq!((found, index.reader().all_keys().expect("keys")), (mark(7), vec!["user/1".to_owned()]));
    let mut writer = index.writer(HEAP_BYTES_MIN).expect("the lock died with its process");
    writer.put(&user(3, "Carl")).expect("put");
    writer.commit_at(&mark(8)).expect("commit");
    assert_eq!(reader.refresh().expect("refresh"), Some(mark(8)));
    assert_eq!(reader.doc_count(), 2);
}

fn start_owner(dir: &TempDir) -> Child {
    let this = std::env::current_exe().expect("this binary");
    let mut command = Command::new(this);
    command.args(["--exact", "processes::owner_in_another_process", "--nocapture"]);
    command.env(DIRECTORY_VARIABLE, dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("start the owner")
}

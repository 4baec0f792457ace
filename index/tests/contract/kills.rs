//! A writer that is killed again and again: every commit is there whole, or not at all, and every key once.
//!
//! The writer is this test binary again, running [`killed_writers_lose_nothing`] alone. `CRASH_KILLS` sets the number of
//! kills (default [`KILLS`]), `CRASH_SEED` the seed. What a revision writes follows from the seed and its number, so the
//! mark alone tells what must be there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use okta_idmap_index::{HEAP_BYTES_MIN, Mark, Opened, Query, Reader, open, open_read_only};
use tempfile::TempDir;

use crate::world::{expect_up_to, index_of, mark, user};

/// Names the directory to write to; without it the parent's half runs.
const DIRECTORY_VARIABLE: &str = "OKTA_IDMAP_INDEX_KILLS_DIRECTORY";

const KILLS_VARIABLE: &str = "CRASH_KILLS";
const SEED_VARIABLE: &str = "CRASH_SEED";

/// Kills without the variable: a few seconds.
const KILLS: u64 = 30;

/// Commits after which a writer is killed, at most; it is counted from none, so that some are killed in their first.
const COMMITS_MAX: u64 = 4;

/// Longest times from there to the kill, in microseconds; one is chosen. The merge that the commit calls for; the next
/// commit, too.
const KILL_MICROS_MAX: [u64; 2] = [6_000, 40_000];

/// Begins the lines with which the child acknowledges a commit; the revision follows.
const COMMITTED: &str = "committed ";

/// So few that segments soon have more deletes than they may, and merges are always under way.
const KEYS: u64 = 40;

/// Operations of one revision.
const OPERATIONS_MAX: u64 = 6;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// A random number for each `(seed, revision, index)`, always the same (splitmix64).
fn random(seed: u64, revision: u64, index: u64) -> u64 {
    let mut bits = seed.wrapping_mul(1_000_003).wrapping_add(revision).wrapping_mul(64).wrapping_add(index);
    bits = bits.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Put(usize),
    Delete(usize),
}

/// What this revision does, in this order.
fn operations(seed: u64, revision: u64) -> Vec<Operation> {
    let count = 1 + random(seed, revision, 0) % OPERATIONS_MAX;
    let operation = |index| {
        let bits = random(seed, revision, index);
        let key = usize::try_from(bits % KEYS).expect("small");
        if bits >> 32 & 3 == 0 { Operation::Delete(key) } else { Operation::Put(key) }
    };
    (1..=count).map(operation).collect()
}

fn title(revision: u64) -> String {
    format!("rev{revision}")
}

#[test]
fn killed_writers_lose_nothing() {
    let seed = number(SEED_VARIABLE, 1);
    match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => write_until_killed(Path::new(&directory), seed),
        None => kill_writers(seed, number(KILLS_VARIABLE, KILLS)),
    }
}

/// The child: goes on behind the mark.
fn write_until_killed(directory: &Path, seed: u64) {
    // Ends with the parent if that fails before it kills this process.
    let parent_is_gone = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&parent_is_gone);
    std::thread::spawn(move || {
        let _ended = std::io::stdin().read(&mut [0]);
        told.store(true, Ordering::Relaxed);
    });
    let opened = open(directory, &expect_up_to(u64::MAX)).expect("open");
    let mut revision = match &opened {
        Opened::Ready(_, found) => found.revision,
        Opened::Rebuild(..) => 0,
    };
    let index = index_of(opened);
    let mut writer = index.writer(HEAP_BYTES_MIN).expect("writer");
    while !parent_is_gone.load(Ordering::Relaxed) {
        revision += 1;
        for operation in operations(seed, revision) {
            match operation {
                Operation::Put(key) => writer.put(&user(key, &title(revision))).expect("put"),
                Operation::Delete(key) => writer.delete(&format!("user/{key}")).expect("delete"),
            }
        }
        writer.commit_at(&Mark { revision, ..mark(0) }).expect("commit");
        writeln!(std::io::stdout().lock(), "{COMMITTED}{revision}").expect("tell the parent");
    }
}

/// What must be in the index.
struct Model {
    seed: u64,
    revision: u64,
    /// By key: the revision that put it.
    documents: BTreeMap<String, u64>,
}

impl Model {
    fn advance(&mut self, revision: u64) {
        assert!(revision >= self.revision, "the index went back from {} to {revision}", self.revision);
        for revision in self.revision + 1..=revision {
            for operation in operations(self.seed, revision) {
                match operation {
                    Operation::Put(key) => drop(self.documents.insert(format!("user/{key}"), revision)),
                    Operation::Delete(key) => drop(self.documents.remove(&format!("user/{key}"))),
                }
            }
        }
        self.revision = revision;
    }

    fn check(&self, reader: &Reader, label: &str) {
        let keys: Vec<&String> = self.documents.keys().collect();
        assert_eq!(reader.all_keys().expect("keys").iter().collect::<Vec<_>>(), keys, "{label}");
        assert_eq!(reader.doc_count(), self.documents.len() as u64, "{label}");
        for revision in self.documents.values() {
            let results = reader.search(&Query::new(format!("\"{}\"", title(*revision)))).expect("search");
            let found: Vec<&str> = results.hits.iter().map(|hit| hit.key.as_str()).collect();
            let put = self.documents.iter().filter(|(_, put_at)| *put_at == revision);
            assert_eq!(found, put.map(|(key, _)| key.as_str()).collect::<Vec<_>>(), "{label}, put at {revision}");
        }
    }
}

/// The parent.
#[expect(clippy::disallowed_methods, reason = "a kill at a random moment waits for nothing")]
fn kill_writers(seed: u64, kills: u64) {
    let dir = TempDir::new().expect("temporary directory");
    let mut model = Model { seed, revision: 0, documents: BTreeMap::new() };
    for kill in 1..=kills {
        let mut writer = start_writer(&dir);
        let acknowledged = wait_for_commits(&mut writer, random(seed, u64::MAX, kill) % COMMITS_MAX);
        let micros_max = KILL_MICROS_MAX[usize::from(random(seed, u64::MAX - 2, kill) & 1 == 1)];
        std::thread::sleep(Duration::from_micros(random(seed, u64::MAX - 1, kill) % micros_max));
        writer.kill().expect("kill");
        writer.wait().expect("wait");
        let label = format!("seed {seed}, kill {kill}");
        match open_read_only(dir.path()) {
            Ok(reader) => {
                let found = reader.mark().expect("marked").revision;
                assert!(found >= acknowledged, "{label}: the index is at {found}, {acknowledged} was committed");
                model.advance(found);
                model.check(&reader, &label);
            }
            Err(error) => assert_eq!((model.revision, acknowledged), (0, 0), "{label}: {error}"),
        }
    }
}

/// Waits until the child has committed so often; answers the last revision it told of, 0 for none.
fn wait_for_commits(writer: &mut Child, commits: u64) -> u64 {
    let stdout = BufReader::new(writer.stdout.as_mut().expect("piped"));
    // The test harness writes there, too, and its first line has no end.
    let lines = stdout.lines().map_while(Result::ok);
    let mut revisions = lines.filter_map(|line| line.split_once(COMMITTED)?.1.parse().ok());
    let mut last = 0;
    for _ in 0..commits {
        last = revisions.next().expect("the writer has ended by itself");
    }
    last
}

fn start_writer(dir: &TempDir) -> Child {
    let this = std::env::current_exe().expect("this binary");
    let mut command = Command::new(this);
    command.args(["--exact", "kills::killed_writers_lose_nothing", "--nocapture"]);
    command.env(DIRECTORY_VARIABLE, dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().expect("start the writer")
}

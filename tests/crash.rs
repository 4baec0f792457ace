//! `kill -9` at random moments, of a crawl and of following: nothing acknowledged is lost, the work goes on where it was, and
//! store, index and org agree in the end.
//!
//! The tests start themselves again as a child process, which reads the org that the parent serves. `CRASH_KILLS` sets the
//! number of kills of each (default 24), `CRASH_SEED` the seed. Killing a process keeps what it gave to the system, so this
//! tests atomicity and resumption, not the disk.
//!
//! Entry points: the two tests; `child` and `following_child` are the work of the processes that are killed.
#![expect(clippy::disallowed_methods, reason = "a killed process has real time, and its file is looked into as it is")]
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "simulation/converge.rs"]
mod converge;
#[path = "simulation/engine.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod engine;
#[path = "crash/following.rs"]
mod following;
#[path = "e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod harness;
#[path = "crash/operator.rs"]
mod operator;
#[path = "e2e/parts.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod parts;
#[path = "e2e/picture.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod picture;
#[path = "simulation/story.rs"]
mod story;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fastrand::Rng;
use okta_idmap::engine::OrgSettings;
use okta_idmap::engine::machine::CrawlOutcome;
use okta_idmap::store::{Meta, Reader, StoreError};
use okta_sim::{Org, Spec};

use crate::harness::World;

/// Environment of the child: set = crawl with the settings of the environment and exit.
const CHILD: &str = "OKTA_IDMAP_CRASH_CHILD";

const KILLS: &str = "CRASH_KILLS";
const SEED: &str = "CRASH_SEED";

/// Time of an answer, so that a crawl lasts long enough to be hit.
const LATENCY_MS: u64 = 8;

/// Answers that a kill can take with it beside those that are under way: batches that are being committed, and as many that
/// wait for it (`store::writer`). Where the disk keeps up there are none.
const UNCOMMITTED_MAX: usize = 2 * 16;

/// A crawl that is not killed ends within this time.
const CRAWL_TIME_MAX: Duration = Duration::from_secs(120);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What the parent hands to a child; `None` in the parent.
fn settings_of_child(variable: &str) -> Option<OrgSettings> {
    let settings = std::env::var(variable).ok()?;
    let environment: Vec<(String, String)> = settings
        .lines()
        .map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    let sources =
        okta_idmap::config::Sources { file: None, env: environment, flags: okta_idmap::config::Flags::default() };
    let (config, _) = okta_idmap::config::load(sources, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
    Some(OrgSettings::from_config(&config, config.require_org(None).unwrap()).unwrap())
}

/// The child's work; a test so that the test binary can be told to run it and nothing else.
#[test]
fn child() {
    let Some(settings) = settings_of_child(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(harness::try_sync(settings)).unwrap();
    assert_eq!(report.outcome, CrawlOutcome::Finished);
}

fn start(world: &World) -> Child {
    start_child(world, "child", CHILD).spawn().unwrap()
}

/// This program again, to run one test, with the settings in an environment variable.
fn start_child(world: &World, test: &str, variable: &str) -> Command {
    let mut settings = world.environment.clone();
    settings.push(("OKTA_IDMAP_DATA_DIR".to_owned(), world.dir.path().display().to_string()));
    settings.push(("OKTA_IDMAP_DOMAIN".to_owned(), world.server.base_url()));
    settings.push(("OKTA_IDMAP_API_TOKEN".to_owned(), harness::TOKEN.to_owned()));
    let lines: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(variable, lines.join("\n")).stdout(Stdio::null());
    command
}

/// Kills the child after `wait`, unless it has ended by itself. Answers whether it was killed.
fn kill_after(child: &mut Child, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "the crawl failed: {status}");
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

/// What is in the store after a kill; `None` while there is none.
fn inspect(dir: &Path) -> Option<Meta> {
    match Reader::open(dir) {
        Ok(reader) => Some(reader.read(|snapshot| snapshot.meta()).unwrap()),
        Err(StoreError::Missing { .. }) => None,
        Err(error) => panic!("after a kill: {error}"),
    }
}

/// The whole file, every page and index of it.
fn assert_sound(dir: &Path) {
    let file = dir.join(okta_idmap::store::STORE_FILE);
    if !file.exists() {
        return;
    }
    let connection = rusqlite::Connection::open(file).unwrap();
    let verdict: String = connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// Kills crawls and checks what every kill leaves.
struct Killer {
    random: Rng,
    kills_left: u64,
    /// What the last process left; `None` before there is a store.
    last: Option<Meta>,
    /// From the beginning of an undisturbed crawl to its end, and from there to the end of the process.
    crawl_ms: u64,
    index_ms: u64,
}

impl Killer {
    /// Starts the connector and kills it, at most `kills_max` times, until it ends by itself. Answers the number of kills.
    fn run(&mut self, world: &World, kills_max: u64) -> u64 {
        let dir = world.settings().dir;
        let mut kills = 0;
        loop {
            let may_kill = self.kills_left > 0 && kills < kills_max;
            let wait = if may_kill { Duration::from_millis(self.wait_ms()) } else { CRAWL_TIME_MAX };
            let was_killed = kill_after(&mut start(world), wait);
            assert!(may_kill || !was_killed, "the crawl does not end");
            if let Some(meta) = inspect(&dir) {
                self.assert_went_on(&meta);
                self.last = Some(meta);
            }
            if !was_killed {
                return kills;
            }
            assert_sound(&dir);
            kills += 1;
            self.kills_left -= 1;
        }
    }

    /// Nothing that was acknowledged is taken back, and an unfinished crawl is gone on with.
    fn assert_went_on(&self, meta: &Meta) {
        let Some(last) = &self.last else { return };
        assert_eq!(meta.store_id, last.store_id);
        assert!(meta.revision >= last.revision, "{:?} went back to {:?}", last.revision, meta.revision);
        // The same after a kill before the first request.
        assert!(meta.request_numbers_end >= last.request_numbers_end, "request numbers come again");
        let (id, before) = (meta.crawl.id.0, last.crawl.id.0);
        if last.crawl.running {
            assert_eq!(id, before, "the unfinished crawl was not resumed");
        } else {
            assert!(id == before || id == before + 1, "crawl {before} was followed by {id}");
        }
    }

    /// Mostly a share of a crawl, so that many kills hit one; sometimes right after the start, sometimes after the crawl,
    /// while the index is made.
    fn wait_ms(&mut self) -> u64 {
        match self.random.u8(0..8) {
            0 => self.random.u64(1..50),
            1 => self.crawl_ms + self.random.u64(0..=self.index_ms),
            _ => self.random.u64(20..=20 + self.crawl_ms / 3),
        }
    }
}

#[test]
fn killed_crawls_go_on_and_lose_nothing() {
    let seed = number(SEED, 1);
    let kills = number(KILLS, 24);
    println!("seed {seed}, {kills} kills");
    let spec = Spec { seed, ..Spec::of_users(1_500) };

    // An undisturbed crawl tells what one costs.
    let undisturbed = World::slow(Org::generate(&spec), LATENCY_MS);
    let begun = Instant::now();
    assert!(!kill_after(&mut start(&undisturbed), CRAWL_TIME_MAX), "the crawl does not end");
    let process_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
    undisturbed.assert_equal();
    let usual = undisturbed.requests();
    let crawl = undisturbed.meta().crawl;
    let crawl_ms = crawl.completed_at.unwrap().millis_since(crawl.started_at.unwrap());
    let crawl_ms = u64::try_from(crawl_ms).unwrap().clamp(100, process_ms);
    drop(undisturbed);

    let mut world = World::slow(Org::generate(&spec), LATENCY_MS);
    // What is gone has to go; the brake has tests of its own.
    world.set("BRAKE__ROWS", "1000000");
    let in_flight_max = 3 * world.settings().limits.in_flight_per_lane;
    let mut killer = Killer {
        random: Rng::with_seed(seed),
        kills_left: kills,
        last: None,
        crawl_ms,
        index_ms: process_ms - crawl_ms,
    };
    // First an org that is new, then one that has changed, apps that are gone included.
    let mut round = 0;
    while killer.kills_left > 0 || round < 2 {
        let before = killer.last.as_ref().map_or(0, |meta| meta.crawl.id.0);
        world.forget_requests();
        let killed = killer.run(&world, if round == 0 { kills / 2 } else { kills });
        let crawls = usize::try_from(killer.last.as_ref().unwrap().crawl.id.0 - before).unwrap();
        let sent = world.requests();
        println!("round {round}: {killed} kills, {crawls} crawls, {sent} requests; {usual} in an undisturbed crawl");
        // A start costs the public metadata, perhaps the log position, and the pages that were under way or not yet
        // committed again. A process that is killed after its crawl has ended is followed by a whole crawl. The org grows a
        // little by the changes.
        let again = usize::try_from(killed).unwrap() * (in_flight_max + UNCOMMITTED_MAX + 2);
        let most = crawls * (usual + usual / 10) + again + unlisted(&world);
        assert!(sent <= most, "seed {seed} round {round}: {sent} requests, more than {most}");
        world.assert_equal();
        round += 1;
        change(&world, &mut killer.random);
    }
    assert_eq!(killer.kills_left, 0);
}

/// Reads by id of what a list did not show, and the searches of the log for what became of it.
fn unlisted(world: &World) -> usize {
    let asked = [
        "/api/v1/users/*",
        "/api/v1/users/*/groups",
        "/api/v1/groups/*",
        "/api/v1/apps/*",
        "/api/v1/apps/*/users/*",
        "/api/v1/apps/*/groups/*",
        "/api/v1/logs",
    ];
    let requests = &world.server.sim().requests;
    asked.into_iter().map(|endpoint| requests.count(endpoint).requests).sum()
}

fn change(world: &World, random: &mut Rng) {
    let org = &mut world.server.sim().org;
    org.advance_ms(3_600_000);
    for _ in 0..120 {
        org.random_mutation(random);
    }
    let apps: Vec<String> = org.truth_apps().map(|app| app.id).collect();
    for app in random.choose_multiple(&apps[3..], 2) {
        let app = okta_sim::AppRef::parse(app).unwrap();
        // One that is inactive already needs no deactivation.
        let _ = org.deactivate_app(app);
        org.delete_app(app).unwrap();
    }
    org.run_all_jobs();
}

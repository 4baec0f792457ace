//! `kill -9` while `serve` follows an org that changes, and an operator decides about names. Entry points: the test, and
//! [`following_child`].

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use fastrand::Rng;
use okta_idmap::engine::OrgSettings;
use okta_idmap::store::{Meta, Reader};
use okta_sim::{ClockMode, Org, ServerConfig, Spec};

use crate::converge::{Watcher, assert_requests};
use crate::engine::{Engine, hurry};
use crate::harness::World;
use crate::operator::{self, Decided};
use crate::story::Story;
use crate::{KILLS, SEED, assert_sound, inspect, number, settings_of_child, start_child};

/// Environment of the child: set = serve with the settings of the environment until it is killed.
const CHILD: &str = "OKTA_IDMAP_CRASH_FOLLOWER";

/// Kills between two comparisons: several on top of each other, and often enough compared to be near the cause.
const KILLS_PER_ROUND: u64 = 6;

/// Longest life of a process, in milliseconds: it opens its store, reads what it owes and follows a few bursts.
const LIFE_MILLIS_MAX: u64 = 900;

/// How far a new process may take Okta's clock to be behind what the last one took it for: `Date` has whole seconds, and
/// only many answers tell it better.
const CLOCK_ESTIMATE_MILLIS: i64 = 1_300;

/// No crawl comes by itself: what is lost stays lost.
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// The child's work; a test so that the test binary can be told to run it and nothing else.
#[test]
fn following_child() {
    let Some(mut settings) = settings_of_child(CHILD) else { return };
    hurry(&mut settings, None, NEVER);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Engine::start(&settings).await;
        // The parent closes the pipe when it ends, however it ends.
        let parent_is_gone = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        tokio::pin!(parent_is_gone);
        let operating = operator::operate(engine.address());
        tokio::pin!(operating);
        while !engine.has_ended() {
            tokio::select! {
                _ = &mut parent_is_gone => return engine.stop().await,
                () = &mut operating => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        engine.stop().await;
        panic!("the engine has ended by itself");
    });
}

/// A process; with an `operator` (what [`operator::environment`] tells) also one who decides about names.
fn start(world: &World, operator: Option<String>) -> Child {
    let mut command = start_child(world, "following::following_child", CHILD);
    command.stdin(Stdio::piped());
    if let Some(operator) = operator {
        command.env(operator::OPERATOR, operator).stdout(Stdio::piped());
    }
    command.spawn().unwrap()
}

/// Kills `serve` again and again and checks what every kill leaves.
struct Killer {
    random: Rng,
    world: World,
    settings: OrgSettings,
    last: Option<Meta>,
    /// About whom the operator decides: apps, and users.
    subjects: (Vec<String>, Vec<String>),
    decided: Decided,
}

impl Killer {
    /// Lets a process live for a while in which the org changes, and kills it.
    fn kill_one(&mut self) {
        let (apps, users) = &self.subjects;
        let operator = operator::environment(self.random.u64(..), apps, users);
        let mut child = start(&self.world, Some(operator));
        // Often within the start, which is when debts of the last process are paid.
        let life_max = [60, 300, LIFE_MILLIS_MAX][self.random.usize(0..3)];
        let life = self.random.u64(1..life_max);
        let until = Instant::now() + Duration::from_millis(life);
        while Instant::now() < until {
            assert_eq!(child.try_wait().unwrap(), None, "the process has ended by itself");
            if self.random.u8(0..4) == 0 {
                let org = &mut self.world.server.sim().org;
                for _ in 0..self.random.u8(1..5) {
                    org.random_loud_mutation(&mut self.random);
                }
            }
            std::thread::sleep(Duration::from_millis(self.random.u64(1..20)));
        }
        child.kill().unwrap();
        let said = child.wait_with_output().unwrap().stdout;
        self.decided.read(&String::from_utf8_lossy(&said));
        if let Some(meta) = inspect(&self.settings.dir) {
            self.assert_kept(&meta);
            self.last = Some(meta);
            self.decided.assert_kept(&Reader::open(&self.settings.dir).unwrap());
        }
        assert_sound(&self.settings.dir);
    }

    /// Nothing that was acknowledged is taken back.
    fn assert_kept(&self, meta: &Meta) {
        let Some(last) = &self.last else { return };
        assert_eq!(meta.store_id, last.store_id);
        assert!(meta.revision >= last.revision, "{:?} went back to {:?}", last.revision, meta.revision);
        assert!(meta.request_numbers_end >= last.request_numbers_end, "request numbers come again");
        assert!(meta.crawl.id >= last.crawl.id, "crawl {:?} after {:?}", meta.crawl.id, last.crawl.id);
        assert!(
            meta.observed_through.map(|at| at.plus_millis(CLOCK_ESTIMATE_MILLIS)) >= last.observed_through,
            "the log was followed up to {:?}, now only up to {:?}",
            last.observed_through,
            meta.observed_through
        );
        assert!(last.cursor.is_none() || meta.cursor.is_some(), "the position in the log is gone");
    }

    /// Lets a process live until everything is the same; kills it then. `all`: also what no event tells.
    fn converge(&mut self, watcher: &mut Watcher, all: bool) {
        let crawl = watcher.crawl();
        {
            let org = &mut self.world.server.sim().org;
            org.run_all_jobs();
            if all {
                org.expire_log_cursors();
            }
        }
        let mut child = start(&self.world, None);
        let mut has_ended = || child.try_wait().unwrap().is_some();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let crawl_after = if all { crawl } else { 0 };
        runtime.block_on(watcher.converge(&self.world, &mut has_ended, crawl_after));
        child.kill().unwrap();
        child.wait().unwrap();
        watcher.assert_index();
        // Nothing that the process did meanwhile has touched them.
        self.decided.assert_kept(&Reader::open(&self.settings.dir).unwrap());
        self.last = watcher.observe();
    }
}

/// Some apps, behind Okta's own, which are not read, and some users. That they may go changes nothing of what was decided.
fn subjects(world: &World) -> (Vec<String>, Vec<String>) {
    let org = &world.server.sim().org;
    (
        org.truth_apps().skip(3).take(2).map(|app| app.id).collect(),
        org.truth_users().take(5).map(|user| user.id).collect(),
    )
}

/// Tells the story of a test that fails.
struct Teller(Story);

impl Drop for Teller {
    #[expect(clippy::print_stdout, reason = "a failing test tells what happened in it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.text());
        }
    }
}

#[test]
fn killed_followers_go_on_and_lose_nothing() {
    let (seed, kills) = (number(SEED, 1), number(KILLS, 24));
    println!("seed {seed}, {kills} kills");
    // The time of an answer is there for a kill to fall into it.
    let config = ServerConfig { clock: ClockMode::Wall, latency_ms: 3, seed, ..ServerConfig::default() };
    let mut world = World::served(Org::generate(&Spec { seed, ..Spec::of_users(80) }), config);
    // What is gone has to go; the brake has tests of its own.
    world.set("BRAKE__ROWS", "1000000");
    let settings = world.settings();
    let story = Story::new();
    let _teller = Teller(story.clone());
    let mut watcher = Watcher::new(settings.clone(), story.clone(), (|_| true, |_| true));
    let subjects = subjects(&world);
    let (random, decided) = (Rng::with_seed(seed), Decided::default());
    let mut killer = Killer { random, world, settings, last: None, subjects, decided };
    let mut killed = 0;
    while killed < kills {
        for _ in 0..KILLS_PER_ROUND.min(kills - killed) {
            killer.kill_one();
            killed += 1;
        }
        killer.converge(&mut watcher, false);
        println!(
            "{killed} kills, revision {:?}, after {:?}",
            killer.last.as_ref().map(|meta| meta.revision),
            story.elapsed()
        );
    }
    killer.converge(&mut watcher, true);
    let Decided { set, taken_back, cut_off, .. } = &killer.decided;
    println!("overrides: {set} set, {taken_back} taken back, {cut_off} cut off");
    assert!(*set as u64 > kills / 4 && *taken_back > 0, "{set} set, {taken_back} taken back");
    assert_requests(&killer.world);
}

//! Times how long after a change in Okta the new answer is given: `cargo bench --bench latency`.
//!
//! Entry point: `main`. A simulated org is served on loopback and followed by a real engine; one change at a time, at random
//! moments, and the same look-up every 2 ms until it answers anew. The bar is the poll interval plus a second. Without
//! `--bench`, or with `--tiny`, it makes a few changes at a short interval, to stay correct; `--events` and
//! `--poll-interval-ms` choose other sizes. The output is one JSON line per kind of change.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first thing that is wrong")]
#![expect(clippy::panic, clippy::print_stdout, reason = "a benchmark tells its figures, or why there are none")]

#[path = "../tests/simulation/engine.rs"]
#[expect(dead_code, reason = "shared with tests, not all of it is used here")]
mod engine;
#[path = "../tests/e2e/harness.rs"]
#[expect(dead_code, reason = "shared with tests, not all of it is used here")]
mod harness;
#[path = "../tests/e2e/picture.rs"]
#[expect(dead_code, reason = "shared with tests, not all of it is used here")]
mod picture;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use okta_idmap::engine::{OrgSettings, clock};
use okta_idmap::serve::{CredentialKind, LookupService, OrgView, Orgs, SearchHandle, Services, StatusSource};
use okta_idmap::store::Reader;
use okta_idmap_proto::v1::lookup_server::Lookup as _;
use okta_idmap_proto::v1::{self, app_selector, user_selector};
use okta_sim::org::{AppUserStatus, UserStatus};
use okta_sim::{AppRef, ClockMode, Org, ServerConfig, Spec, UserRef};

use crate::engine::Engine;
use crate::harness::World;

/// How often the answer is asked for.
const ASK_INTERVAL: Duration = Duration::from_millis(2);

/// What the new answer may take beside the wait for the next poll.
const BAR_BEYOND_POLL: Duration = Duration::from_secs(1);

/// A change that is not answered within this time will not be.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

/// Users of the org: enough for lists of several pages, few enough to be crawled in a moment.
const USERS: usize = 500;

struct Size {
    poll_interval: Duration,
    /// Changes of each kind.
    events: usize,
}

impl Size {
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let number = |name: &str| {
            let place = arguments.iter().position(|argument| argument == name)?;
            arguments.get(place + 1)?.parse::<u64>().ok()
        };
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let (poll_interval_ms, events) = if has("--tiny") || !has("--bench") { (100, 4) } else { (1_000, 100) };
        Self {
            poll_interval: Duration::from_millis(number("--poll-interval-ms").unwrap_or(poll_interval_ms).max(1)),
            events: usize::try_from(number("--events").unwrap_or(events).max(1)).unwrap(),
        }
    }
}

fn main() {
    let size = Size::from_arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(&size));
}

/// An org that is followed, and look-ups in its store.
struct Bench {
    world: World,
    lookup: LookupService,
    random: Rng,
    /// Who is changed: users with an account of their own that is in use.
    pairs: Vec<(AppRef, UserRef)>,
}

async fn run(size: &Size) {
    let config = ServerConfig { clock: ClockMode::Wall, ..ServerConfig::default() };
    let world = World::served(Org::generate(&Spec::of_users(USERS)), config);
    let mut settings = world.settings();
    // All else as it is configured by default.
    settings.follow.poll_interval = size.poll_interval;
    let engine = Engine::start(&settings).await;
    crawled(&settings).await;
    let pairs = pairs(&world.server.sim().org);
    let mut bench = Bench { lookup: lookup(&settings), world, random: Rng::with_seed(1), pairs };
    // The first poll follows the crawl; no change falls before it.
    tokio::time::sleep(size.poll_interval * 2).await;
    for (kind, change) in
        [("account_name", Bench::rename as fn(&mut Bench, usize) -> Changed), ("user_status", Bench::suspend)]
    {
        let mut latencies = Vec::with_capacity(size.events);
        for number in 0..size.events {
            let pause = bench.random.f64();
            tokio::time::sleep(size.poll_interval.mul_f64(pause)).await;
            let changed = change(&mut bench, number);
            latencies.push(bench.answered(&changed).await);
        }
        tell(kind, size, &mut latencies);
    }
    engine.stop().await;
}

async fn crawled(settings: &OrgSettings) {
    let until = Instant::now() + ANSWER_WAIT_MAX;
    let reader = Reader::open(&settings.dir).unwrap();
    while reader.read(|snapshot| snapshot.meta()).unwrap().crawl.completed_at.is_none() {
        assert!(Instant::now() < until, "the first crawl does not end");
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

/// Look-ups in this process, as the server makes them, over a reader of its own.
fn lookup(settings: &OrgSettings) -> LookupService {
    let reader = Reader::open(&settings.dir).unwrap();
    let policy = Arc::clone(&settings.policy);
    let view = OrgView::new(
        &settings.name,
        reader,
        SearchHandle::new(None),
        policy,
        StatusSource::Direct(CredentialKind::ApiToken),
    )
    .unwrap();
    Services::new(Orgs::new(vec![view]), clock::now).lookup()
}

fn pairs(org: &Org) -> Vec<(AppRef, UserRef)> {
    let active = |id: &str| org.truth_users().any(|user| user.id == id && user.status == UserStatus::Active);
    let apps = org.truth_apps().filter(|app| !picture::is_built_in(app) && picture::is_active(app));
    let apps: Vec<AppRef> = apps
        .filter(|app| app.shared_user_name.is_none() && app.users > 0)
        .map(|app| AppRef::parse(&app.id).unwrap())
        .collect();
    let pairs: Vec<(AppRef, UserRef)> = apps
        .into_iter()
        .flat_map(|app| org.truth_app_users(app).take(20).map(move |row| (app, row)))
        .filter(|(_, row)| row.user_name.is_some() && row.status == AppUserStatus::Active && active(&row.user_id))
        .map(|(app, row)| (app, UserRef::parse(&row.user_id).unwrap()))
        // The administrator owns the token.
        .filter(|(_, user)| *user != org.administrator())
        .collect();
    assert!(!pairs.is_empty(), "the org has nobody to change");
    pairs
}

/// A change that was made.
struct Changed {
    at: Instant,
    question: Question,
}

enum Question {
    /// Whose account this is.
    Account { app: String, name: String, user: String },
    /// Which status the user has.
    Status { user: String, status: v1::UserStatus },
}

impl Bench {
    fn pair(&mut self) -> (AppRef, UserRef) {
        self.pairs[self.random.usize(0..self.pairs.len())]
    }

    /// Another name for an account: one event about an app user.
    fn rename(&mut self, number: usize) -> Changed {
        let (app, user) = self.pair();
        let name = format!("latency.{number}");
        self.world.server.sim().org.set_app_user_name(app, user, &name).unwrap();
        Changed { at: Instant::now(), question: Question::Account { app: app.id(), name, user: user.id() } }
    }

    /// Suspends a user, or the other way round: one event about a user.
    fn suspend(&mut self, _number: usize) -> Changed {
        let (_, user) = self.pair();
        let status = {
            let org = &mut self.world.server.sim().org;
            if org.suspend_user(user).is_ok() {
                v1::UserStatus::Suspended
            } else {
                org.unsuspend_user(user).unwrap();
                v1::UserStatus::Active
            }
        };
        Changed { at: Instant::now(), question: Question::Status { user: user.id(), status } }
    }

    /// How long it took until the look-up tells of the change.
    async fn answered(&self, changed: &Changed) -> Duration {
        loop {
            if self.is_answered(&changed.question).await {
                return changed.at.elapsed();
            }
            assert!(changed.at.elapsed() < ANSWER_WAIT_MAX, "the change is not answered after {ANSWER_WAIT_MAX:?}");
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    async fn is_answered(&self, question: &Question) -> bool {
        match question {
            Question::Account { app, name, user } => {
                let app = v1::AppSelector { selector: Some(app_selector::Selector::AppId(app.clone())) };
                let identifier = v1::Identifier { value: name.clone(), kind: v1::IdentifierKind::UserName.into() };
                let account = v1::AccountSelector { app: Some(app), identifier: Some(identifier) };
                let request = v1::ResolveAccountRequest { account: Some(account), ..Default::default() };
                let answer = self.lookup.resolve_account(tonic::Request::new(request)).await.unwrap().into_inner();
                let resolution = answer.resolution.unwrap();
                resolution.user.is_some_and(|found| found.id == *user)
            }
            Question::Status { user, status } => {
                let selector = v1::UserSelector { selector: Some(user_selector::Selector::UserId(user.clone())) };
                let request = v1::GetUserRequest { user: Some(selector), ..Default::default() };
                let answer = self.lookup.get_user(tonic::Request::new(request)).await.unwrap().into_inner();
                answer.user.and_then(|subject| subject.user).is_some_and(|found| found.status() == *status)
            }
        }
    }
}

fn tell(kind: &str, size: &Size, latencies: &mut [Duration]) {
    latencies.sort_unstable();
    let millis = |share: f64| {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place among some hundred"
        )]
        let place = ((latencies.len() as f64) * share).ceil() as usize;
        latencies[place.clamp(1, latencies.len()) - 1].as_secs_f64() * 1e3
    };
    let bar = size.poll_interval + BAR_BEYOND_POLL;
    println!(
        r#"{{"figure":"latency","change":"{kind}","events":{},"poll_interval_ms":{},"p50_ms":{:.0},"p90_ms":{:.0},"p99_ms":{:.0},"max_ms":{:.0},"bar_ms":{},"below_bar":{}}}"#,
        latencies.len(),
        size.poll_interval.as_millis(),
        millis(0.5),
        millis(0.9),
        millis(0.99),
        millis(1.0),
        bar.as_millis(),
        latencies.iter().filter(|latency| **latency <= bar).count(),
    );
}

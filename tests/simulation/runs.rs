//! One run under one seed. Entry points: [`following`], [`nets`].

use std::time::{Duration, Instant};

use fastrand::Rng;
use okta_idmap::engine::OrgSettings;
use okta_sim::{ClockMode, LogControls, Org, ServerConfig, Spec};

use crate::converge::{Watcher, assert_requests};
use crate::engine::{Engine, hurry};
use crate::harness::World;
use crate::parts::{Groups, Users, is_in, is_of};
use crate::story::Story;
use crate::weather::{self, Harm};

/// No full crawl comes by itself within a run.
pub(crate) const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// How long the index may take at the end for what the store has.
const INDEXED_WAIT_MAX: Duration = Duration::from_secs(30);

/// Interval of safety nets and crawls where a run is about them.
const NET_INTERVAL: Duration = Duration::from_secs(1);

/// Sets filters, in every second run; returns the part of the org that they leave.
fn filter(world: &mut World, random: &mut Rng, story: &Story) -> (Users, Groups) {
    let (mut users, mut groups): (Users, Groups) = (|_| true, |_| true);
    // Changes move people into the first of these domains.
    match random.u8(0..6) {
        0 => {
            world.set("FILTER__EMAIL_DOMAINS", "acme.example");
            users = |user| is_in(user, |domain| domain == "acme.example");
        }
        1 => {
            world.set("FILTER__EMAIL_DOMAINS", "*.acme.example,contractor.example,acme-corp.example");
            users = |user| {
                let domains = ["tochter.acme.example", "contractor.example", "acme-corp.example"];
                domains.iter().any(|wanted| is_of(user, wanted))
            };
        }
        _ => {}
    }
    match random.u8(0..6) {
        0 => {
            world.set("FILTER__GROUP_NAME_CONTAINS", "&");
            groups = |group| group.name.contains('&');
        }
        1 => {
            world.set("FILTER__SKIP_APP_GROUPS", "true");
            groups = |group| group.kind.as_str() != "APP_GROUP";
        }
        _ => {}
    }
    let names: Vec<&String> =
        world.environment.iter().map(|(name, _)| name).filter(|name| name.contains("FILTER")).collect();
    story.tell(format!("filters: {names:?}"));
    (users, groups)
}

/// Everything of a run.
pub(crate) struct Run {
    pub(crate) random: Rng,
    pub(crate) story: Story,
    pub(crate) world: World,
    settings: OrgSettings,
    watcher: Watcher,
    /// `None` only while it is being replaced.
    engine: Option<Engine>,
    /// Whether something was hidden: no event says that it is back.
    pub(crate) was_hidden: bool,
}

impl Run {
    pub(crate) async fn begin(seed: u64, story: Story, nets: Option<Duration>, crawl: Duration) -> Self {
        let mut random = Rng::with_seed(seed);
        let users = random.usize(20..=120);
        // Real time: events have a second and a place in time beside the answers, as they have at Okta.
        let config = ServerConfig { clock: ClockMode::Wall, seed, ..ServerConfig::default() };
        let mut world = World::served(Org::generate(&Spec { seed, ..Spec::of_users(users) }), config);
        if random.bool() {
            world.small_pages();
        }
        // Few enough for a list of this size to be held, or the usual number, which no list here reaches.
        let brake_rows = if random.bool() { "3" } else { "50" };
        world.set("BRAKE__ROWS", brake_rows);
        let part = filter(&mut world, &mut random, &story);
        let mut settings = world.settings();
        hurry(&mut settings, nets, crawl);
        story.tell(format!("{users} users, brake at {brake_rows} rows"));
        let watcher = Watcher::new(settings.clone(), story.clone(), part);
        let engine = Some(Engine::start(&settings).await);
        Self { random, story, world, settings, watcher, engine, was_hidden: false }
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    async fn pause(&mut self, millis_max: u64) {
        let millis = self.random.u64(0..=millis_max);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn restart(&mut self) {
        let engine = self.engine.take().unwrap();
        let in_order = self.random.bool();
        if in_order {
            engine.stop().await;
        } else {
            engine.cut_off().await;
        }
        self.story.tell(if in_order { "stopped" } else { "cut off" });
        self.watcher.observe();
        self.pause(100).await;
        self.engine = Some(Engine::start(&self.settings).await);
        self.story.tell("started again");
    }

    /// Some changes with pauses between them, troubles before and perhaps a restart within.
    pub(crate) async fn burst(&mut self, change: fn(&mut Org, &mut Rng) -> Option<&'static str>) {
        if self.random.u8(0..5) < 3 {
            for _ in 0..self.random.u8(1..=2) {
                let (trouble, harm) = weather::bring(&mut self.random, &mut self.world.server.sim());
                self.was_hidden |= harm == Harm::Hides;
                self.story.tell(format!("now {trouble}"));
            }
        }
        let changes = self.random.usize(1..=25);
        let restart_at = (self.random.u8(0..4) == 0).then(|| self.random.usize(0..changes));
        let pause_millis_max = [0, 0, 5, 30][self.random.usize(0..4)];
        let mut names = Vec::new();
        for place in 0..changes {
            names.extend(change(&mut self.world.server.sim().org, &mut self.random));
            if restart_at == Some(place) {
                self.story.tell(names.join(", "));
                names.clear();
                self.restart().await;
            }
            self.pause(pause_millis_max).await;
        }
        self.story.tell(names.join(", "));
        self.watcher.observe();
        assert!(!self.engine().has_ended(), "the engine has ended by itself");
        self.pause(200).await;
        if self.random.u8(0..3) > 0 {
            weather::clear(&mut self.world.server.sim());
            self.story.tell("all clear");
        }
    }

    /// Nothing changes any more and nothing goes wrong.
    pub(crate) fn calm(&mut self) {
        let mut sim = self.world.server.sim();
        weather::clear(&mut sim);
        sim.org.run_all_jobs();
        self.story.tell("calm");
    }

    pub(crate) async fn converge(&mut self, crawl_after: u64) {
        let engine = self.engine.as_ref().unwrap();
        self.watcher.converge(&self.world, &mut || engine.has_ended(), crawl_after).await;
    }

    pub(crate) async fn end(mut self) {
        // Where nobody has waited for all to be the same: an index that is being made anew, since names were purged, would be left for
        // the next start.
        let begun = Instant::now();
        while begun.elapsed() < INDEXED_WAIT_MAX && self.watcher.left_to_index().is_some() {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        self.engine.take().unwrap().stop().await;
        self.watcher.assert_index();
        assert_requests(&self.world);
    }
}

/// Changes that events tell, all troubles, no safety nets.
pub(crate) async fn following(seed: u64, story: Story) {
    let mut run = Run::begin(seed, story, None, NEVER).await;
    if run.random.bool() {
        run.converge(0).await;
    }
    for _ in 0..run.random.u8(2..=6) {
        run.burst(Org::random_loud_mutation).await;
    }
    run.calm();
    if !run.was_hidden {
        run.converge(0).await;
    }
    // Now everything anew, by the way that an expired position takes: what had no event is found.
    let crawl = run.watcher.crawl();
    run.world.server.sim().org.expire_log_cursors();
    run.story.tell("log positions expire");
    run.converge(crawl).await;
    run.end().await;
}

/// Changes that no event tells, events that are lost; safety nets and crawls at short intervals.
pub(crate) async fn nets(seed: u64, story: Story) {
    let mut run = Run::begin(seed, story, Some(NET_INTERVAL), NET_INTERVAL).await;
    let lost = LogControls { lost_probability: 0.3, ..LogControls::default() };
    for _ in 0..run.random.u8(2..=4) {
        run.world.server.sim().org.set_log_controls(lost.clone());
        run.burst(Org::random_mutation).await;
    }
    run.calm();
    run.converge(0).await;
    run.end().await;
}

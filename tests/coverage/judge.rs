//! `serve` of an org under judgement. Entry points: [`Judge::new`], [`Judge::start`], then [`Judge::look`] and
//! [`Judge::converge`] as often as a case likes.
//!
//! What must hold at every look, whatever is hidden or refused:
//! - Of a row that exists, no answer claims absence ([`crate::ask`]), if the connector has had the time to hear of it.
//! - A row that was stored, exists and has not changed is still stored as it was.
//!
//! And once everything is shown: all gaps are closed by themselves, store and org are the same, every answer is complete,
//! and the history of the gaps is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;
use okta_idmap::engine::OrgSettings;
use okta_idmap_proto::v1;
use okta_sim::{ClockMode, Org, ServerConfig, Sim, Spec};

use crate::aim::Aim;
use crate::ask;
use crate::client::Client;
use crate::converge::{Watcher, assert_requests};
use crate::engine::{Engine, hurry};
use crate::harness::World;
use crate::picture::{Picture, Want};
use crate::story::Story;
use crate::truth::{Key, Truth};
use crate::watching::{Told, Watching};

/// Users of the org: so few that all of them can be asked about, so many that lists have pages.
pub(crate) const USERS: usize = 40;

/// Interval of nets and crawls.
pub(crate) const INTERVAL: Duration = Duration::from_millis(1_200);

/// How often the index takes in what has changed.
const INDEX_INTERVAL: Duration = Duration::from_millis(150);

/// After this time the connector has heard of a change and has looked at it, or knows that it could not: some polls, the
/// second look, the probes after it.
pub(crate) const GRACE: Duration = Duration::from_secs(4);

/// As many polls have come and gone by then; a machine that is busy takes longer.
const GRACE_POLLS: usize = 20;

/// Where the log cannot be read, polls are rare.
const GRACE_WITHOUT_POLLS: Duration = Duration::from_secs(12);

/// A gap opens within this time after something was hidden: until the next crawl, and a second look.
const OPENS_WITHIN: Duration = Duration::from_secs(20);

/// Everything is answered completely within this time after all gaps were closed.
const COMPLETE_WITHIN: Duration = Duration::from_secs(6);

/// How often it is looked for a gap.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The org of a seed, as it is before anything happens.
pub(crate) fn org(seed: u64) -> Org {
    Org::generate(&Spec { seed, ..Spec::of_users(USERS) })
}

/// A row as the org has it.
struct Seen {
    text: String,
    /// When it was last seen to change.
    since: Instant,
    /// How often the connector had asked for the log until then.
    polls: usize,
}

/// One org with everything around it.
pub(crate) struct Judge {
    pub(crate) story: Story,
    pub(crate) world: World,
    pub(crate) settings: OrgSettings,
    pub(crate) random: Rng,
    watcher: Watcher,
    /// The last two are `None` only while the engine is not running.
    engine: Option<Engine>,
    client: Option<Client>,
    watching: Option<Watching>,
    told: Option<Told>,
    seen: BTreeMap<Key, Seen>,
    /// What was in the store when store and org were last found equal.
    settled: BTreeMap<Key, String>,
    /// Gaps that `ListGaps` showed open at any look.
    opened: BTreeSet<String>,
}

impl Judge {
    /// An org that is not followed yet. `interval`: of nets and crawls, `None` for never.
    pub(crate) fn new(seed: u64, interval: Option<Duration>, story: Story) -> Self {
        Self::with(seed, interval, story, |_| {})
    }

    /// The same with settings of one's own.
    pub(crate) fn with(
        seed: u64,
        interval: Option<Duration>,
        story: Story,
        adjust: impl FnOnce(&mut OrgSettings),
    ) -> Self {
        Self::of(org(seed), seed, interval, story, adjust)
    }

    /// The same with an org of one's own.
    pub(crate) fn of(
        org: Org,
        seed: u64,
        interval: Option<Duration>,
        story: Story,
        adjust: impl FnOnce(&mut OrgSettings),
    ) -> Self {
        // Real time: events have a second and a place in time beside the answers, as they have at Okta.
        let config = ServerConfig { clock: ClockMode::Wall, seed, ..ServerConfig::default() };
        let mut world = World::served(org, config);
        world.small_pages();
        world.set("BRAKE__ROWS", "5");
        let mut settings = world.settings();
        hurry(&mut settings, interval, interval.unwrap_or(Duration::from_secs(24 * 3_600)));
        // The index is not what is judged: so many cases at once should not spend their time on it.
        settings.index_interval = INDEX_INTERVAL;
        adjust(&mut settings);
        let watcher = Watcher::new(settings.clone(), story.clone(), (|_| true, |_| true));
        let random = Rng::with_seed(seed);
        Self {
            story,
            world,
            settings,
            random,
            watcher,
            engine: None,
            client: None,
            watching: None,
            told: None,
            seen: BTreeMap::new(),
            settled: BTreeMap::new(),
            opened: BTreeSet::new(),
        }
    }

    pub(crate) fn sim(&self) -> std::sync::MutexGuard<'_, Sim> {
        self.world.server.sim()
    }

    pub(crate) fn aim(&self) -> Aim {
        Aim::of(&self.sim())
    }

    pub(crate) async fn start(&mut self) {
        let engine = Engine::start(&self.settings).await;
        let client = Client::connect(engine.address()).await;
        self.watching = Some(Watching::begin(&client, self.told.take()).await);
        self.client = Some(client);
        self.engine = Some(engine);
        self.story.tell("started");
    }

    /// Ends the engine wherever it is, and starts another on the same store.
    pub(crate) async fn cut_off(&mut self) {
        self.told = self.watching.take().map(Watching::end);
        self.client = None;
        self.engine.take().unwrap().cut_off().await;
        self.story.tell("cut off");
        self.start().await;
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone().unwrap()
    }

    /// What the stream of changes has told.
    pub(crate) fn told(&self) -> Told {
        self.watching.as_ref().unwrap().told()
    }

    pub(crate) async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Makes changes that events announce, deletions among them.
    pub(crate) fn change(&mut self, count: usize) {
        let mut names = Vec::new();
        {
            let mut sim = self.world.server.sim();
            for _ in 0..count {
                names.extend(sim.org.random_loud_mutation(&mut self.random));
            }
            sim.org.run_all_jobs();
        }
        self.story.tell(names.join(", "));
        self.track();
    }

    /// Makes changes of a kind of one's own, without a word; returns how many came about.
    pub(crate) fn change_by(&mut self, count: usize, change: fn(&mut Org, &mut Rng) -> bool) -> usize {
        let mut sim = self.world.server.sim();
        (0..count).filter(|_| change(&mut sim.org, &mut self.random)).count()
    }

    fn polls(&self) -> usize {
        self.sim().requests.count("/api/v1/logs").requests
    }

    /// Takes note of what the org holds now.
    fn track(&mut self) {
        let (now, polls) = (Instant::now(), self.polls());
        let picture = Picture::of_org(&self.world.server.sim(), &Want::default());
        let mut seen = BTreeMap::new();
        for (row, text) in picture.rows {
            let key = Key::of_picture(&row);
            let (since, polls) = match self.seen.get(&key) {
                Some(known) if known.text == text => (known.since, known.polls),
                _ => (now, polls),
            };
            seen.insert(key, Seen { text, since, polls });
        }
        self.seen = seen;
        let seen = &self.seen;
        self.settled.retain(|key, text| seen.get(key).is_some_and(|known| known.text == *text));
    }

    /// Store and org are the same at this moment.
    fn settle(&mut self) {
        self.track();
        self.settled = self.seen.iter().map(|(key, seen)| (key.clone(), seen.text.clone())).collect();
    }

    /// Whether the connector must know a row as it is, and what the row names.
    fn is_bound(&self, key: &Key, polls: usize) -> bool {
        let has_heard = |seen: &Seen| {
            let age = seen.since.elapsed();
            (age > GRACE && polls >= seen.polls + GRACE_POLLS) || age > GRACE_WITHOUT_POLLS
        };
        let alone = |key: &Key| self.settled.contains_key(key) || self.seen.get(key).is_some_and(has_heard);
        let (user, group, app) = (
            |id: &String| Key::User(id.clone()),
            |id: &String| Key::Group(id.clone()),
            |id: &String| Key::App(id.clone()),
        );
        alone(key)
            && match key {
                Key::User(_) | Key::Group(_) | Key::App(_) => true,
                Key::Member(g, u) => alone(&group(g)) && alone(&user(u)),
                Key::AppUser(a, u) => alone(&app(a)) && alone(&user(u)),
                Key::AppGroup(a, g) => alone(&app(a)) && alone(&group(g)),
            }
    }

    /// Asks about up to `count` of the rows that `choose` takes, and looks into the store.
    pub(crate) async fn look(&mut self, count: usize, choose: impl Fn(&Key) -> bool) {
        self.track();
        let polls = self.polls();
        let is_asked = |key: &&Key| choose(key) && self.is_bound(key, polls);
        let mut keys: Vec<Key> = self.seen.keys().filter(is_asked).cloned().collect();
        self.random.shuffle(&mut keys);
        keys.truncate(count);
        let truth = Truth::of(&self.sim());
        let mut client = self.client();
        let mut wrong = Vec::new();
        for key in &keys {
            for answer in ask::about(&mut client, &truth, key).await {
                wrong.extend(answer.verdict().map(|verdict| format!("{key:?}: {verdict}")));
            }
        }
        self.note_gaps().await;
        wrong.extend(self.lost_rows());
        wrong.extend(self.told().wrong);
        assert!(!self.engine.as_ref().unwrap().has_ended(), "the engine has ended by itself");
        self.assert_right(wrong);
    }

    #[track_caller]
    fn assert_right(&self, wrong: Vec<String>) {
        let shown = wrong[..wrong.len().min(12)].join("\n");
        assert!(wrong.is_empty(), "{} answers are wrong:\n{shown}\nopen: {:?}", wrong.len(), self.told().open);
    }

    /// Rows that were stored, exist unchanged, and are not stored as they were.
    fn lost_rows(&self) -> Vec<String> {
        let stored = self.world.picture();
        let hides_apps = !self.sim().hidden.apps.is_empty();
        // Groups name the app that they were imported from; of an app that is hidden that may be lost.
        let shape = |key: &Key, text: &str| match key {
            Key::Group(_) if hides_apps => text.rsplit_once(' ').map_or(text, |(rest, _)| rest).to_owned(),
            _ => text.to_owned(),
        };
        let lost = |(key, text): (&Key, &String)| match stored.rows.get(&key.in_picture()) {
            None => Some(format!("{key:?} is lost: {text}")),
            Some(now) if shape(key, now) != shape(key, text) => Some(format!("{key:?} is {now} and should be {text}")),
            Some(_) => None,
        };
        self.settled.iter().filter_map(lost).collect()
    }

    /// The ids of the open gaps.
    pub(crate) async fn note_gaps(&mut self) -> Vec<v1::Gap> {
        let (gaps, cover) = self.client().gaps(&[v1::GapState::Open]).await;
        assert!(gaps.is_empty() || !cover.is_complete, "COMPLETE with open gaps");
        self.opened.extend(gaps.iter().map(|gap| gap.id.clone()));
        gaps
    }

    /// Waits until a gap with one of these ids (`*` at the end: any that begins so) is open; returns it.
    pub(crate) async fn wait_for_gap(&mut self, patterns: &[String]) -> v1::Gap {
        let begun = Instant::now();
        loop {
            let gaps = self.note_gaps().await;
            let fits = |gap: &&v1::Gap| {
                patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                    Some(prefix) => gap.id.starts_with(prefix),
                    None => gap.id == *pattern,
                })
            };
            if let Some(gap) = gaps.iter().find(fits) {
                self.story.tell(format!("{} is open after {:?}", gap.id, begun.elapsed()));
                assert!(!gap.remedy.is_empty() && !gap.hides.is_empty(), "{gap:?}");
                return gap.clone();
            }
            let open: Vec<&str> = gaps.iter().map(|gap| gap.id.as_str()).collect();
            assert!(
                begun.elapsed() < OPENS_WITHIN,
                "none of {patterns:?} is open after {OPENS_WITHIN:?}, but {open:?}"
            );
            self.pause(LOOK_INTERVAL).await;
        }
    }

    /// Everything is shown and readable again, and all jobs of the org are done.
    pub(crate) fn lift(&mut self) {
        let mut sim = self.world.server.sim();
        sim.behave();
        sim.org.set_log_controls(okta_sim::LogControls::default());
        sim.org.run_all_jobs();
        drop(sim);
        self.story.tell("all is shown again");
    }

    /// Waits until all gaps are closed and store and org are the same, without help.
    pub(crate) async fn converge(&mut self) {
        let engine = self.engine.as_ref().unwrap();
        self.watcher.converge(&self.world, &mut || engine.has_ended(), 0).await;
        self.settle();
    }

    /// After [`Judge::converge`]: everything is answered, and completely. What nets and crawls have just found for the
    /// first time may take a moment until it is read to its end.
    pub(crate) async fn assert_complete(&mut self, count: usize) {
        self.track();
        let mut keys: Vec<Key> = self.seen.keys().cloned().collect();
        self.random.shuffle(&mut keys);
        keys.truncate(count);
        let begun = Instant::now();
        loop {
            let wrong = self.incomplete(&keys).await;
            if wrong.is_empty() || begun.elapsed() > COMPLETE_WITHIN {
                return self.assert_right(wrong);
            }
            self.pause(LOOK_INTERVAL).await;
        }
    }

    /// Answers about these rows that are not complete, or do not show them.
    async fn incomplete(&self, keys: &[Key]) -> Vec<String> {
        let truth = Truth::of(&self.sim());
        let mut client = self.client();
        let mut wrong = Vec::new();
        let (open, cover) = client.status().await;
        let changes = client.changes().await;
        if open > 0 || !cover.is_complete || !changes.is_complete {
            wrong.push(format!("{open} gaps, {cover:?}, {changes:?}"));
        }
        for key in keys {
            for answer in ask::about(&mut client, &truth, key).await {
                // A suggestion list is short: others may have been preferred.
                let is_shown = answer.says == ask::Says::Shown || answer.question == "Suggest";
                if !answer.cover.is_complete || !is_shown {
                    wrong.push(format!("{key:?}: {answer:?}"));
                }
            }
        }
        wrong
    }

    /// After [`Judge::converge`]: closed gaps are kept with their times, and the stream of changes knows of all of them.
    pub(crate) async fn assert_history(&mut self) {
        let (gaps, _) = self.client().gaps(&[]).await;
        for gap in &gaps {
            assert_eq!(gap.state(), v1::GapState::Closed, "{gap:?}");
            let at = |time: &Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
            let (first, last, closed) = (at(&gap.first_seen_at), at(&gap.last_seen_at), at(&gap.closed_at));
            assert!(first.is_some() && first <= last && last <= closed, "{gap:?}");
        }
        let kept: BTreeSet<&str> = gaps.iter().map(|gap| gap.id.as_str()).collect();
        // What was never read and is now leaves no trace.
        let is_recorded = |id: &&String| !id.starts_with("NOT_READ:");
        let forgotten: Vec<&String> =
            self.opened.iter().filter(is_recorded).filter(|id| !kept.contains(id.as_str())).collect();
        assert!(forgotten.is_empty(), "not in the history: {forgotten:?}");
        let told = self.told();
        let untold: Vec<&String> =
            self.opened.iter().filter(is_recorded).filter(|id| !told.ever.contains(*id)).collect();
        assert!(untold.is_empty(), "the stream did not tell of {untold:?}");
        assert!(told.wrong.is_empty() && told.checkpoints > 0, "{:?}", told.wrong);
        let open: Vec<&String> = told.open.iter().filter(is_recorded).collect();
        assert!(open.is_empty(), "the stream did not tell that {open:?} are closed");
    }

    /// Ends in order, and asserts that the index equals the store and that nothing forbidden was asked.
    pub(crate) async fn end(mut self) {
        drop(self.watching.take());
        self.client = None;
        self.engine.take().unwrap().stop().await;
        self.watcher.assert_index();
        assert_requests(&self.world);
    }
}

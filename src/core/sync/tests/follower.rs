//! Drives the following state machine: sends its calls, lets the org answer at some moment, commits when it likes, lets time
//! pass, breaks things, dies and starts again from what is stored.
//!
//! Entry points: [`Follower::start`], [`Follower::act`] for what comes by chance; the rest is for tests that say what happens.
//! What must hold at every step is asserted in [`Follower::take`] and [`Follower::step`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::{
    Begin, Call, CallId, CrawlEnd, Effect, FollowLimits, Input, Known, KnownHold, Limits, Members, Moment, ReadFailure,
    StoredCrawl, SyncState,
};
use super::books::Books;
use super::lost::Losses;
use super::org::EXCLUDED;
use super::world::World;
use crate::core::batch::{Batch, WalkState, WalkUpdate};
use crate::core::coverage::{Gap, GapKind};
use crate::core::filter::{AppFilter, Filter};
use crate::core::ids::{AppId, CrawlId, RequestNumber, Timestamp};
use crate::core::model::{Key, Row, Scope};
use crate::core::pending::{Patience, PendingRead, Target};
use crate::core::plan::{Costs, Sizes};
use crate::core::reconcile::Brake;

/// How often what happens, in 1,000.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chances {
    /// The org changes.
    pub(super) change: usize,
    /// A call fails.
    pub(super) failure: usize,
    /// The process dies.
    pub(super) crash: usize,
    /// So many of these deaths are followed by a break of hours, and perhaps by a crawl that nobody follows.
    pub(super) breaks: usize,
    /// Something rare and bad befalls the org's answers: a lost log position, an emptied list.
    pub(super) mishap: usize,
}

/// How far a call has got.
#[derive(Debug)]
pub(super) enum Stage {
    /// Asked for; waits for its budget.
    Waiting,
    /// On its way with this number.
    Sent(RequestNumber),
    /// Answered as of a moment that is over; the answer is on its way.
    Answered(Box<Input>),
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) id: CallId,
    pub(super) call: Call,
    pub(super) stage: Stage,
}

/// A follower and its surroundings.
pub(super) struct Follower {
    pub(super) world: World,
    pub(super) books: Books,
    pub(super) limits: Limits,
    pub(super) follow: FollowLimits,
    pub(super) random: fastrand::Rng,
    pub(super) now: Timestamp,
    /// How much Okta's clock is ahead.
    pub(super) ahead_millis: i64,
    pub(super) newest: u64,
    pub(super) flights: Vec<Flight>,
    pub(super) commits: VecDeque<Batch>,
    /// Every call that was made, over all lives.
    pub(super) calls: Vec<Call>,
    /// Every batch that was stored.
    pub(super) batches: Vec<Batch>,
    /// How the lives ended.
    pub(super) ends: Vec<CrawlEnd>,
    pub(super) crawls_ended: u64,
    pub(super) state: Option<SyncState>,
    pub(super) counted: Option<super::super::Counted>,
    keeps_batches: bool,
    /// Whether this life makes one crawl and follows nothing.
    pub(super) is_alone: bool,
    /// Whether a read has failed in such a life: it is made again with the next crawl only, and until then a gap says so.
    pub(super) has_left_out: bool,
    /// Whether everything that happens is printed.
    pub(super) is_told: bool,
    /// What was ever concealed.
    pub(super) concealed_once: BTreeSet<Scope>,
    pub(super) losses: Losses,
}

/// Limits under which little happens by itself.
pub(super) fn calm_limits() -> FollowLimits {
    FollowLimits {
        poll_millis: 10_000,
        patience: Patience::default(),
        users_delta_millis: None,
        groups_delta_millis: None,
        apps_millis: None,
        relist_millis: None,
        crawl_millis: 30 * 86_400_000,
        unknown_events_max: 1_000,
        hold_retry_millis: (60_000, 600_000),
        costs: Costs { app_users_page: 3, user_apps_page: 3 },
    }
}

pub(super) fn all_limits() -> Limits {
    let apps = AppFilter { exclude: vec![EXCLUDED.to_owned()], ..AppFilter::default() };
    Limits { in_flight_per_lane: 2, members: Members::All, filter: Filter { apps, ..Filter::default() } }
}

impl Follower {
    pub(super) fn new(world: World, limits: Limits, follow: FollowLimits, brake: Brake, seed: u64) -> Self {
        Self {
            now: world.now,
            world,
            books: Books::under(brake, limits.filter.clone()),
            limits,
            follow,
            random: fastrand::Rng::with_seed(seed),
            ahead_millis: 0,
            newest: 100,
            flights: Vec::new(),
            commits: VecDeque::new(),
            calls: Vec::new(),
            batches: Vec::new(),
            ends: Vec::new(),
            crawls_ended: 0,
            state: None,
            counted: None,
            keeps_batches: true,
            is_alone: false,
            has_left_out: false,
            is_told: false,
            concealed_once: BTreeSet::new(),
            losses: Losses::default(),
        }
    }

    /// Forgets batches and calls; for long runs.
    pub(super) fn keeping_nothing(mut self) -> Self {
        self.keeps_batches = false;
        self
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{} {}", self.now.as_millis() % 100_000_000, what());
        }
    }

    fn moment(&self) -> Moment {
        let okta_now = self.now.plus_millis(self.ahead_millis);
        Moment { now: self.now, okta_now, newest: RequestNumber(self.newest) }
    }

    pub(super) fn state(&self) -> &SyncState {
        self.state.as_ref().expect("a life")
    }

    /// What the store knows, as a new life is told.
    fn known(&self) -> Known {
        let books = &self.books;
        let apps = books.rows.values().filter_map(|(_, row)| match row {
            Row::App(app) => Some(app.clone()),
            _ => None,
        });
        let listed = books.scopes.iter().filter_map(|(scope, book)| match scope {
            Scope::AppUsers(app) => Some((app.clone(), book.completed_at?)),
            _ => None,
        });
        let is_anchor =
            |walk: &WalkUpdate| walk.scope == Scope::Log && matches!(walk.state, WalkState::Finished { .. });
        let of_kind = |wanted: GapKind| books.gaps.iter().filter(move |(_, kind)| *kind == wanted);
        Known {
            status: super::super::LogStatus::default(),
            counted: None,
            cursor: books.cursor.clone(),
            observed_through: books.observed_through,
            opened_at: books.opened_at,
            read_since: books.crawl_began,
            deltas: books.deltas.clone(),
            pending: books.pending.values().cloned().collect(),
            apps: apps.collect(),
            everyone: books.everyone(),
            assigned_groups: books.assigned_groups().0.into_iter().collect(),
            listed: listed.collect(),
            stored_groups: books
                .rows
                .keys()
                .filter_map(|key| match key {
                    Key::Group(group) => Some(group.clone()),
                    _ => None,
                })
                .collect(),
            held: books
                .scopes
                .iter()
                .filter(|(_, book)| book.is_held)
                .map(|(scope, _)| self.known_hold(scope))
                .collect(),
            unseen: of_kind(GapKind::UnseenReference)
                .filter(|(scope, _)| scope.object().is_some())
                .map(|(scope, _)| scope.clone())
                .collect(),
            miscounted: of_kind(GapKind::CountMismatch).map(|(scope, _)| scope.clone()).collect(),
            whole_since: books.crawl_ended.and(books.crawl_began),
            unauthorized: of_kind(GapKind::Unauthorized).map(|(scope, _)| scope.clone()).collect(),
            is_log_new: books.is_crawling && books.crawl_walks().iter().any(is_anchor),
            log_gaps: books.gaps.iter().filter(|(scope, _)| *scope == Scope::Log).map(|(_, kind)| *kind).collect(),
        }
    }

    fn known_hold(&self, scope: &Scope) -> KnownHold {
        let has_gap = |kind| self.books.gaps.contains(&(scope.clone(), kind));
        let is_said = has_gap(GapKind::Held);
        let gap = Gap { scope: scope.clone(), kind: GapKind::Held, evidence: "rows are missing".to_owned() };
        KnownHold {
            scope: scope.clone(),
            sample: if is_said { Vec::new() } else { self.books.sample_of(scope) },
            gap: (!is_said && !has_gap(GapKind::EmptySuspect)).then_some(gap),
        }
    }

    /// A life begins, as the shell decides from what is stored.
    pub(super) fn start(&mut self) {
        let fingerprint = "f".to_owned();
        let books = &self.books;
        let begin = if books.is_crawling && !books.crawl_walks().is_empty() {
            let walks = books.crawl_walks();
            Begin::Resume(StoredCrawl { id: CrawlId(books.crawl), walks, unlisted: books.unlisted() })
        } else {
            match books.crawl_ended {
                Some(ended) if !books.is_crawling && !self.is_alone => {
                    let due_at = ended.plus_millis(self.follow.crawl_millis);
                    Begin::Follow { last: CrawlId(books.crawl), fingerprint, due_at }
                }
                _ => Begin::New { id: CrawlId(books.crawl + 1), fingerprint },
            }
        };
        self.start_with(begin);
    }

    pub(super) fn start_with(&mut self, begin: Begin) {
        let known = self.known();
        self.losses.begins();
        let follow = (!self.is_alone).then(|| self.follow.clone());
        let (state, effects) = SyncState::start(begin, known, self.limits.clone(), follow, self.moment());
        self.state = Some(state);
        self.take(effects);
    }

    /// The process dies; of the batches that were queued some are stored.
    pub(super) fn crash(&mut self) {
        let stored = self.random.usize(0..=self.commits.len());
        for batch in self.commits.drain(..).take(stored).collect::<Vec<_>>() {
            self.store(batch);
        }
        self.tell(|| format!("crash with {stored} batches stored"));
        self.flights.clear();
        self.commits.clear();
        self.state = None;
        self.is_alone = self.is_alone && self.random.bool();
        self.books.crash();
        self.newest = self.newest.max(self.books.newest) + 1_000;
    }

    /// Hands an input in.
    pub(super) fn step(&mut self, input: Input) {
        if self.losses.hear(&input, &self.books, &self.commits, self.newest) {
            self.world.lost(&mut self.random);
        }
        self.tell(|| format!("step {input:?}"));
        let moment = self.moment();
        let effects = self.state.as_mut().expect("a life").step(input, moment);
        self.take(effects);
        self.check();
    }

    /// What must hold after every step.
    fn check(&mut self) {
        let Some(state) = &self.state else { return };
        // Whoever waits until a time that is past does nothing else.
        if let Some(wake_at) = state.wake_at() {
            assert!(wake_at > self.now, "wakes at {wake_at}, but it is {}: {:?}", self.now, state.log_status());
        }
        // One crawl owes nothing, and says at its end what it has not read.
        if self.commits.is_empty() && !self.is_alone {
            self.check_debts();
            self.losses.check(&self.books, &self.world, false);
        }
    }

    /// When everything is stored, memory and store owe the same, but for what changed since the last batch.
    pub(super) fn check_debts(&self) {
        let (in_memory, unsaved) = self.state().debts_for_tests();
        let of = |debts: &mut dyn Iterator<Item = &PendingRead>| -> BTreeMap<Target, PendingRead> {
            let known = debts.filter(|debt| !unsaved.contains(&debt.target));
            known.map(|debt| (debt.target.clone(), PendingRead { cause: String::new(), ..debt.clone() })).collect()
        };
        let in_memory = of(&mut in_memory.iter().map(|(debt, _)| debt));
        let stored = of(&mut self.books.pending.values());
        for (target, debt) in &in_memory {
            assert_eq!(stored.get(target), Some(debt), "{target}: the store, then memory");
        }
        for (target, debt) in &stored {
            assert_eq!(in_memory.get(target), Some(debt), "{target}: memory, then the store");
        }
    }

    /// Takes in effects, in their order, as the shell does: what is asked of the store is answered at once.
    fn take(&mut self, effects: Vec<Effect>) {
        let mut todo = VecDeque::from(effects);
        while let Some(effect) = todo.pop_front() {
            self.tell(|| format!("    {effect:?}"));
            let input = match effect {
                Effect::Call(id, call) => {
                    self.check_call(&call);
                    self.losses.calls(id, &call);
                    if self.keeps_batches {
                        self.calls.push(call.clone());
                    }
                    self.flights.push(Flight { id, call, stage: Stage::Waiting });
                    None
                }
                Effect::Commit(batch) => {
                    self.commits.push_back(*batch);
                    None
                }
                Effect::LoadAssignedGroups => {
                    let (assigned, unwanted) = self.books.assigned_groups();
                    Some(Input::AssignedGroups { assigned, unwanted })
                }
                Effect::Count { apps, users } => {
                    let keys = || self.books.rows.keys();
                    let of_app = |app: &AppId| keys().filter(|k| matches!(k, Key::AppUser(a, _) if a == app)).count();
                    let app_users = apps.iter().map(|(app, cap)| (app.clone(), (*cap).min(of_app(app) as u64)));
                    let user_apps = users
                        .iter()
                        .map(|(user, cap)| (user.clone(), (*cap).min(self.books.apps_of(user).len() as u64)));
                    Some(Input::Counted(Sizes { app_users: app_users.collect(), user_apps: user_apps.collect() }))
                }
                Effect::LoadUserApps(id, user) => Some(Input::UserApps(id, self.books.apps_of(&user))),
                // Nobody here has a date of creation.
                Effect::CountUsers { .. } => {
                    let sieve = &self.books.sieve;
                    let unseen: BTreeSet<&Key> = sieve.filtered.keys().chain(&sieve.quarantined).collect();
                    let unseen = unseen.into_iter().filter(|key| !self.books.rows.contains_key(key));
                    let users = self.books.rows.keys().chain(unseen).filter(|key| matches!(key, Key::User(_))).count();
                    Some(Input::UsersCounted { known: users as u64, recent: 0 })
                }
                Effect::FindUnseen(_) => Some(Input::Unseen(self.books.unseen())),
                Effect::CrawlBegins(_) => None,
                Effect::CrawlEnded(_) => {
                    self.crawls_ended += 1;
                    None
                }
                Effect::End(end) => {
                    assert!(self.commits.is_empty(), "the end before the last batch is stored");
                    self.ends.push(end);
                    self.flights.clear();
                    self.counted = self.state.take().map(SyncState::into_counted);
                    return;
                }
            };
            if let Some(input) = input {
                let moment = self.moment();
                todo.extend(self.state.as_mut().expect("a life").step(input, moment));
            }
        }
    }

    fn check_call(&self, call: &Call) {
        let Some(scope) = super::driver::scope_of(call) else { return };
        let is_twice = self.flights.iter().any(|flight| super::driver::scope_of(&flight.call) == Some(scope));
        assert!(!is_twice || self.has_begun_anew(), "{scope} twice at once");
        if let Scope::GroupMembers(group) = scope {
            assert!(!self.books.everyone().contains(group), "the members of Everyone are the users");
        }
    }

    /// A crawl that begins gives up the walks under way: their answers are on their way still.
    fn has_begun_anew(&self) -> bool {
        self.books.is_crawling || self.commits.iter().any(|batch| batch.crawl.is_some())
    }

    fn store(&mut self, batch: Batch) -> crate::core::batch::Receipt {
        self.losses.skip(&batch, &self.books);
        let receipt = self.books.commit(&batch);
        self.losses.note(&batch);
        if self.is_alone {
            // Nobody has said so far what is unread: the store may only not look newer than it is.
            self.losses.check(&self.books, &self.world, true);
        }
        let is_given_up = |walk: &WalkUpdate| walk.state == WalkState::GivenUp;
        let has_failed = batch.walks.iter().any(is_given_up) || !batch.gaps.is_empty() || !batch.unread.is_empty();
        self.has_left_out |= !batch.is_followed && has_failed;
        if self.keeps_batches {
            self.batches.push(batch);
        }
        receipt
    }

    /// Stores the oldest batch.
    pub(super) fn commit_one(&mut self) {
        let batch = self.commits.pop_front().expect("a batch to commit");
        let receipt = self.store(batch);
        self.step(Input::Committed(receipt));
    }

    /// Stores everything.
    pub(super) fn commit_all(&mut self) {
        while !self.commits.is_empty() {
            self.commit_one();
        }
    }

    /// Moves on to `now`.
    pub(super) fn pass(&mut self, now: Timestamp) {
        self.now = now.max(self.now);
        self.world.advance(self.now, &mut self.random);
        if self.state.as_ref().and_then(SyncState::wake_at).is_some_and(|at| at <= self.now) {
            self.step(Input::Tick);
        }
    }

    /// Moves on by some milliseconds.
    pub(super) fn wait(&mut self, millis: i64) {
        self.pass(self.now.plus_millis(millis));
    }

    /// The call goes a step further: it is sent, answered, or its answer arrives.
    fn fly(&mut self, place: usize, failure: usize) {
        let is_broken = self.random.usize(0..1_000) < failure;
        let flight = &mut self.flights[place];
        match &flight.stage {
            Stage::Waiting => {
                self.newest += 1;
                flight.stage = Stage::Sent(RequestNumber(self.newest));
                let (id, at) = (flight.id, self.newest);
                self.tell(|| format!("{id:?} is sent as {at}"));
            }
            Stage::Sent(at) => {
                let (id, at) = (flight.id, *at);
                // Of an empty list nobody can tell that it should not be, unless rows of it are stored.
                let is_stored = |scope: &Scope| self.books.rows.keys().any(|key| key.scope() == *scope);
                self.world.emptied.retain(is_stored);
                let answer = if is_broken {
                    Input::Failed(id, a_failure(&mut self.random, &flight.call))
                } else {
                    self.world.answer(id, &flight.call, at, &mut self.random)
                };
                self.tell(|| format!("{id:?} is answered"));
                self.flights[place].stage = Stage::Answered(Box::new(answer));
            }
            Stage::Answered(_) => {
                let Flight { stage: Stage::Answered(input), .. } = self.flights.swap_remove(place) else { return };
                self.step(*input);
            }
        }
    }

    /// One of the things happens that can happen now.
    pub(super) fn act(&mut self, chances: Chances) {
        let dice = self.random.usize(0..1_000);
        if self.state.is_none() {
            self.is_alone = false;
            self.wait(5_000);
            return self.start();
        }
        if dice < chances.crash {
            self.crash();
            if chances.breaks > 0 && self.random.usize(0..1_000) < chances.breaks {
                return self.take_a_break();
            }
            let pause = self.random.i64(0..30_000);
            self.wait(pause);
            return self.start();
        }
        if dice < chances.crash + chances.change && !self.opens_alone() {
            let before = self.world.clone();
            self.world.mutate(&mut self.random);
            self.tell(|| format!("changes: {}", before.difference(&self.world)));
            return;
        }
        if dice < chances.crash + chances.change + chances.mishap {
            return self.mishap();
        }
        let choices = self.flights.len() + usize::from(!self.commits.is_empty()) + 1;
        let choice = self.random.usize(0..choices);
        if choice < self.flights.len() {
            let millis = self.random.i64(0..60);
            self.wait(millis);
            if choice < self.flights.len() {
                self.fly(choice, chances.failure);
            }
        } else if choice == self.flights.len() && !self.commits.is_empty() {
            self.commit_one();
        } else if self.random.bool() || !self.flights.is_empty() {
            let millis = self.random.i64(0..2_000);
            self.wait(millis);
        } else if let Some(at) = self.state().wake_at() {
            self.pass(at);
        }
    }

    /// Whether a crawl that nobody follows is opening the log. What comes by a job, without a word, of the events just before that is
    /// looked for by nobody.
    fn opens_alone(&self) -> bool {
        self.is_alone
            && (self.flights.iter().any(|flight| matches!(flight.call, Call::AnchorLog { .. }))
                || self.commits.iter().any(|batch| batch.cursor.is_some()))
    }

    /// Nobody runs for a while, and the org changes. Then somebody goes on, or begins anew as with other settings, and follows or not.
    fn take_a_break(&mut self) {
        for _ in 0..self.random.usize(0..8) {
            let pause = self.random.i64(0..40 * 60_000);
            self.wait(pause);
            self.world.mutate(&mut self.random);
        }
        // What has changed shows all its effects by then.
        let pause = self.random.i64(6 * 60_000..70 * 60_000);
        self.wait(pause);
        self.is_alone = self.random.bool();
        let is_anew = self.random.bool();
        self.tell(|| format!("after a break, anew: {is_anew}"));
        if is_anew {
            self.start_with(Begin::New { id: CrawlId(self.books.crawl + 1), fingerprint: "f".to_owned() });
        } else {
            self.start();
        }
    }

    fn mishap(&mut self) {
        let before = (self.world.emptied.clone(), self.world.concealed.clone());
        self.any_mishap();
        let now = (&self.world.emptied, &self.world.concealed);
        if (&before.0, &before.1) != now {
            let text = format!("mishap: emptied {:?}, concealed {:?}", now.0, now.1);
            self.tell(|| text);
        }
        self.concealed_once.extend(self.world.concealed.iter().cloned());
    }

    fn any_mishap(&mut self) {
        match self.random.u8(0..8) {
            0 => self.world.generation += 1,
            1 => self.world.emptied.clear(),
            5 => self.world.concealed.clear(),
            6 | 7 => {
                let objects: Vec<Scope> = self.world.objects().collect();
                if !objects.is_empty() {
                    let place = self.random.usize(0..objects.len());
                    self.world.concealed.insert(objects[place].clone());
                }
            }
            _ => {
                let scopes = self.scopes();
                let place = self.random.usize(0..scopes.len());
                self.world.emptied.insert(scopes[place].clone());
            }
        }
    }

    pub(super) fn scopes(&self) -> Vec<Scope> {
        let groups = self.world.real_groups().map(Scope::GroupMembers);
        let apps = self.world.apps.keys();
        let of_apps = apps.flat_map(|app| [Scope::AppUsers(app.clone()), Scope::AppGroups(app.clone())]);
        [Scope::Users, Scope::Groups, Scope::Apps].into_iter().chain(groups).chain(of_apps).collect()
    }
}

fn a_failure(random: &mut fastrand::Rng, call: &Call) -> ReadFailure {
    let detail = || "503".to_owned();
    let is_list = matches!(call, Call::FirstPage { .. } | Call::NextPage { .. } | Call::Select { .. });
    match random.u8(0..16) {
        0..3 => ReadFailure::Forbidden { missing_scope: None, detail: detail() },
        3 => ReadFailure::Unauthorized { detail: detail() },
        4 => ReadFailure::Unreachable { detail: detail() },
        5..8 if is_list => ReadFailure::CursorGone,
        8..10 if is_list => ReadFailure::RestartWalk { limit: random.u32(1..3) },
        10 if matches!(call, Call::FirstPage { scope: Scope::Users, .. }) => ReadFailure::SearchUnavailable,
        _ => ReadFailure::Failed { detail: detail() },
    }
}

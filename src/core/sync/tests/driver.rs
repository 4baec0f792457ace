//! Drives the state machine against the tiny org: answers in any order, commits when it likes, breaks things, dies.
//!
//! Entry point: [`Driver::run`]. What must hold at every step is asserted in [`Driver::take`] and [`Driver::step`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::{
    Begin, Call, CallId, CrawlEnd, Effect, Input, Lane, Limits, Members, ReadFailure, ScopeCounts, StoredCrawl,
    SyncState,
};
use super::org::{EXCLUDED, Memory, Org};
use crate::core::batch::{Batch, Listing, WalkState, WalkUpdate};
use crate::core::ids::{CrawlId, RequestNumber, Timestamp};
use crate::core::model::{Kind, Scope};

/// Steps after which a crawl of these small orgs hangs.
const STEPS_MAX: usize = 20_000;

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);

/// How often the driver does what, in 1,000.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// A call fails.
    pub(super) failure: usize,
    /// The process dies.
    pub(super) crash: usize,
}

/// A crawl under way.
pub(super) struct Driver {
    pub(super) org: Org,
    pub(super) memory: Memory,
    pub(super) limits: Limits,
    pub(super) random: fastrand::Rng,
    /// Every call that was made, over all lives.
    pub(super) calls: Vec<Call>,
    /// Whether the process has died, or was stopped, and gone on.
    pub(super) has_resumed: bool,
    pub(super) failures: usize,
    state: Option<SyncState>,
    in_flight: Vec<(CallId, Call, RequestNumber)>,
    commits: VecDeque<Batch>,
    wants_assigned: bool,
    wants_unseen: bool,
    end: Option<CrawlEnd>,
    request: u64,
    /// Time that has passed.
    millis: i64,
    /// What the store held when this life began; emptied as the walks are taken up.
    resumed: BTreeMap<Scope, WalkState>,
}

impl Driver {
    pub(super) fn new(org: Org, limits: Limits, seed: u64) -> Self {
        Self {
            org,
            memory: Memory::default(),
            limits,
            random: fastrand::Rng::with_seed(seed),
            calls: Vec::new(),
            has_resumed: false,
            failures: 0,
            state: None,
            in_flight: Vec::new(),
            commits: VecDeque::new(),
            wants_assigned: false,
            wants_unseen: false,
            end: None,
            request: 100,
            millis: 0,
            resumed: BTreeMap::new(),
        }
    }

    /// Begins a crawl, or goes on with the one that the memory holds.
    pub(super) fn start(&mut self) {
        self.in_flight.clear();
        self.commits.clear();
        (self.wants_assigned, self.wants_unseen) = (false, false);
        self.end = None;
        self.resumed.clear();
        let begin = if self.memory.is_running {
            self.has_resumed = true;
            self.resumed = self.memory.walks.clone();
            let update =
                |(scope, state): (&Scope, &WalkState)| WalkUpdate { scope: scope.clone(), state: state.clone() };
            let walks = self.memory.walks.iter().map(update).collect();
            Begin::Resume(StoredCrawl { id: CrawlId(self.memory.crawl), walks, unlisted: Vec::new() })
        } else {
            Begin::New { id: CrawlId(self.memory.crawl + 1), fingerprint: "f".to_owned() }
        };
        let is_anchored = self.resumed.contains_key(&Scope::Log);
        let (state, effects) =
            SyncState::start(begin, super::super::Known::default(), self.limits.clone(), None, super::moment());
        self.state = Some(state);
        let first = effects.iter().find_map(|effect| match effect {
            Effect::Call(_, call) => Some(call.clone()),
            _ => None,
        });
        if !is_anchored {
            assert!(matches!(first, Some(Call::AnchorLog { .. })), "the log position is taken first");
            assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Call(..))).count(), 1, "and alone");
        }
        self.take(effects);
    }

    /// Goes on without faults to the end of this life.
    pub(super) fn run_on(&mut self) -> CrawlEnd {
        for _ in 0..STEPS_MAX {
            if let Some(end) = self.end.clone() {
                return end;
            }
            self.act_once();
        }
        panic!("the crawl does not end");
    }

    /// One thing happens, without a fault.
    pub(super) fn act_once(&mut self) {
        self.act(Faults::default());
    }

    /// Whether a batch waits to be committed.
    pub(super) fn has_commits(&self) -> bool {
        !self.commits.is_empty()
    }

    /// Undoes [`Driver::take_call`].
    pub(super) fn put_back(&mut self, id: CallId, call: Call, at: RequestNumber) {
        self.in_flight.push((id, call, at));
    }

    /// Whether this life is over.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// It is found to be gone meanwhile.
    pub(super) fn departs(&mut self, object: Scope) {
        let at = RequestNumber(self.request);
        self.state.as_mut().expect("a running crawl").absent.depart(object, NOW, at);
    }

    /// Progress of this life.
    pub(super) fn counts(&self, kind: Kind) -> ScopeCounts {
        self.state.as_ref().expect("a crawl").counts(kind)
    }

    /// Runs to the end of the crawl; every life that was stopped or died is followed by another.
    pub(super) fn run(&mut self, faults: Faults) -> CrawlEnd {
        self.start();
        for step in 0..STEPS_MAX {
            // Towards the end nothing breaks any more: a world that always breaks ends no crawl.
            let faults = if step < STEPS_MAX / 4 { faults } else { Faults::default() };
            if let Some(end) = self.end.clone() {
                self.check_deaf();
                match end {
                    CrawlEnd::Finished => return CrawlEnd::Finished,
                    CrawlEnd::Stopped(_) if faults.failure == 0 => return end,
                    CrawlEnd::Stopped(_) => self.start(),
                }
            } else if self.random.usize(0..1_000) < faults.crash {
                self.start();
            } else {
                self.act(faults);
            }
        }
        panic!("the crawl does not end; in flight: {:?}", self.in_flight);
    }

    /// Lets one of the things happen that can happen now.
    fn act(&mut self, faults: Faults) {
        if std::mem::take(&mut self.wants_unseen) {
            return self.step(Input::Unseen(self.memory.unseen()), None);
        }
        let choices = self.in_flight.len() + usize::from(!self.commits.is_empty()) + usize::from(self.wants_assigned);
        if choices == 0 {
            // A second search waits for events that are on their way.
            self.millis += 1_000;
            assert!(self.millis < 60_000, "nothing is under way, and the crawl has not ended");
            return self.step(Input::Tick, None);
        }
        let choice = self.random.usize(0..choices);
        if choice < self.in_flight.len() {
            let (id, call, at) = self.in_flight.swap_remove(choice);
            let input = match self.random.usize(0..1_000) < faults.failure {
                true => {
                    self.failures += 1;
                    Input::Failed(id, self.failure(&call))
                }
                false => self.org.answer(id, &call, at),
            };
            self.step(input, Some(&call));
        } else if choice == self.in_flight.len() && !self.commits.is_empty() {
            self.commit_one();
        } else {
            self.wants_assigned = false;
            self.step(Input::AssignedGroups { assigned: self.memory.assigned_groups(), unwanted: Vec::new() }, None);
        }
    }

    /// Commits the oldest batch.
    pub(super) fn commit_one(&mut self) {
        let batch = self.commits.pop_front().expect("a batch to commit");
        let receipt = self.memory.commit(&batch);
        self.step(Input::Committed(receipt), None);
    }

    fn failure(&mut self, call: &Call) -> ReadFailure {
        let detail = || "503".to_owned();
        match self.random.u8(0..8) {
            0 => ReadFailure::Forbidden { missing_scope: None, detail: detail() },
            1 => ReadFailure::Forbidden { missing_scope: Some("okta.apps.read".to_owned()), detail: detail() },
            2 => ReadFailure::Unauthorized { detail: detail() },
            3 => ReadFailure::Unreachable { detail: detail() },
            4 if matches!(call, Call::FirstPage { .. } | Call::NextPage { .. }) => ReadFailure::CursorGone,
            5 if matches!(call, Call::FirstPage { .. } | Call::NextPage { .. }) => {
                ReadFailure::RestartWalk { limit: self.random.u32(1..3) }
            }
            6 if matches!(call, Call::FirstPage { scope: Scope::Users, .. }) => ReadFailure::SearchUnavailable,
            _ => ReadFailure::Failed { detail: detail() },
        }
    }

    /// Hands an input in; `answered` is the call that it answers.
    pub(super) fn step(&mut self, input: Input, answered: Option<&Call>) {
        let is_last_page = match &input {
            Input::Page(_, page) => page.next.is_none(),
            _ => false,
        };
        let moment = super::super::Moment { now: NOW.plus_millis(self.millis), ..super::moment() };
        let effects = self.state.as_mut().expect("a running crawl").step(input, moment);
        let answered = match answered {
            Some(Call::FirstPage { scope, listing, .. } | Call::NextPage { scope, listing, .. }) => {
                Some((scope, *listing))
            }
            Some(Call::AnchorLog { .. }) => Some((&Scope::Log, Listing::Usual)),
            Some(Call::Read(_) | Call::PollLog(_) | Call::Select { .. } | Call::SearchDeletions { .. }) | None => None,
        };
        for effect in &effects {
            if let Effect::Commit(batch) = effect {
                self.check_batch(batch, answered, is_last_page);
            }
        }
        self.take(effects);
    }

    /// A scope ends only with its last page, or where a list showed it to be empty; who gives up says why.
    fn check_batch(&self, batch: &Batch, answered: Option<(&Scope, Listing)>, is_last_page: bool) {
        for update in &batch.walks {
            match &update.state {
                WalkState::Finished { .. } if answered.is_some_and(|(scope, _)| *scope == update.scope) => {
                    let is_half = answered.is_some_and(|(_, listing)| listing == Listing::PlainUsers);
                    assert!(update.scope == Scope::Log || is_last_page && !is_half, "{} ends early", update.scope);
                }
                WalkState::Finished { .. } => assert!(self.is_known_empty(&update.scope), "{} unread", update.scope),
                WalkState::GivenUp => {
                    assert!(batch.gaps.iter().any(|gap| gap.scope == update.scope), "{} without a gap", update.scope);
                }
                WalkState::Todo | WalkState::Walking(_) | WalkState::Unwanted | WalkState::Released => {}
            }
        }
    }

    fn is_known_empty(&self, scope: &Scope) -> bool {
        match scope {
            Scope::GroupMembers(group) => self.org.is_empty_group(group),
            Scope::AppUsers(app) | Scope::AppGroups(app) => {
                self.org.apps.iter().any(|known| known.id == *app && known.is_service_app())
            }
            _ => false,
        }
    }

    /// Takes in effects and checks every call.
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            assert!(self.end.is_none(), "{effect:?} after the end");
            match effect {
                Effect::Call(id, call) => {
                    self.check_call(&call);
                    self.request += 1;
                    self.calls.push(call.clone());
                    self.in_flight.push((id, call, RequestNumber(self.request)));
                    self.check_lanes();
                }
                Effect::Commit(batch) => self.commits.push_back(*batch),
                Effect::CrawlBegins(_) => {}
                Effect::FindUnseen(_) => {
                    assert!(self.commits.is_empty(), "the rows are looked through when all are stored");
                    self.wants_unseen = true;
                }
                Effect::CountUsers { .. } | Effect::Count { .. } | Effect::LoadUserApps(..) | Effect::CrawlEnded(_) => {
                    panic!("one crawl does not ask for {effect:?}")
                }
                Effect::LoadAssignedGroups => {
                    assert_eq!(self.limits.members, Members::Assigned);
                    assert!(self.commits.is_empty(), "the groups are asked for when all rows are stored");
                    self.wants_assigned = true;
                }
                Effect::End(end) => {
                    assert!(self.commits.is_empty(), "the end before the last commit");
                    if end == CrawlEnd::Finished {
                        assert!(
                            self.in_flight.is_empty() && !self.memory.is_running,
                            "the end before the work is done"
                        );
                    }
                    self.end = Some(end);
                }
            }
        }
    }

    fn check_call(&mut self, call: &Call) {
        let (scope, position) = match call {
            Call::FirstPage { scope, listing, .. } => (scope, (*listing == Listing::DeactivatedUsers).then_some("")),
            Call::NextPage { scope, next, .. } => (scope, Some(next.as_str())),
            Call::AnchorLog { .. }
            | Call::Read(_)
            | Call::PollLog(_)
            | Call::Select { .. }
            | Call::SearchDeletions { .. } => return,
        };
        match scope {
            Scope::GroupMembers(group) => {
                // Where the group list could not be read, nobody knows which of the assigned groups is `Everyone`.
                let is_everyone = self.org.groups.iter().any(|g| g.id == *group && g.is_everyone());
                assert!(!(is_everyone && self.memory.knows_group(group)), "Everyone is never walked");
                // What the group list said of its size is forgotten by a crash; then one call too many is made.
                // A read by id says nothing of it, which is how groups are found where their list cannot be read.
                let is_unlisted = self.memory.walks.get(&Scope::Groups) == Some(&WalkState::GivenUp);
                let is_forgotten =
                    is_unlisted || (self.has_resumed || self.failures > 0) && self.limits.members == Members::Assigned;
                assert!(
                    is_forgotten || !self.memory.knows_group(group) || !self.org.is_empty_group(group),
                    "{group} is known to be empty"
                );
                if self.limits.members == Members::Assigned {
                    assert!(self.memory.assigned_groups().contains(group), "{group} is assigned to no app");
                }
            }
            Scope::AppUsers(app) | Scope::AppGroups(app) => {
                let app = self.org.apps.iter().find(|known| known.id == *app).expect("an app of the org");
                assert!(!app.is_service_app() && &*app.name != EXCLUDED, "{} is not read", app.id);
            }
            Scope::Users | Scope::Groups | Scope::Apps => {}
            Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => panic!("{scope} is no list"),
        }
        assert!(!self.in_flight.iter().any(|(_, other, _)| scope_of(other) == Some(scope)), "{scope} twice at once");
        // After a crash a walk goes on where the store has it, and what is done is not asked for again.
        match self.resumed.remove(scope) {
            Some(WalkState::Walking(stored)) => assert_eq!(position, Some(&*stored.next), "{scope} goes on elsewhere"),
            Some(state @ (WalkState::Finished { .. } | WalkState::GivenUp | WalkState::Unwanted)) => {
                panic!("{scope} again after {state:?}")
            }
            Some(WalkState::Released) => panic!("{scope} was never held"),
            Some(WalkState::Todo) => assert_eq!(position, None, "{scope} was not begun"),
            None => {}
        }
    }

    fn check_lanes(&self) {
        let mut lanes: BTreeMap<Lane, usize> = BTreeMap::new();
        for (_, call, _) in &self.in_flight {
            if let Some(lane) = scope_of(call).and_then(Lane::of) {
                *lanes.entry(lane).or_default() += 1;
            }
        }
        let by_id = self.in_flight.iter().filter(|(_, call, _)| matches!(call, Call::Read(_))).count();
        let max = self.limits.in_flight_per_lane;
        assert!(lanes.values().all(|calls| *calls <= max), "{lanes:?}, more than {max} at once");
        assert!(by_id <= max, "{by_id} reads by id, more than {max} at once");
    }

    /// After the end nothing has an effect, late answers included.
    fn check_deaf(&mut self) {
        let state = self.state.as_mut().expect("a crawl that has ended");
        for (id, call, at) in self.in_flight.drain(..) {
            let effects = state.step(self.org.answer(id, &call, at), super::moment());
            assert!(effects.is_empty(), "{effects:?} after the end");
        }
        assert!(
            state
                .step(Input::AssignedGroups { assigned: Vec::new(), unwanted: Vec::new() }, super::moment())
                .is_empty(),
            "an end is an end"
        );
    }

    /// Number of calls without a fault: what each list needs, and one for the log and each app that is asked for by id.
    pub(super) fn calls_needed(&self, scopes: &BTreeSet<Scope>, apps_by_id: usize) -> usize {
        let pages = |scope: &Scope| self.org.rows(scope).len().div_ceil(self.org.page_rows).max(1);
        1 + apps_by_id + scopes.iter().map(pages).sum::<usize>()
    }

    /// A call under way of this kind, taken out.
    pub(super) fn take_call(&mut self, wanted: impl Fn(&Call) -> bool) -> Option<(CallId, Call, RequestNumber)> {
        let position = self.in_flight.iter().position(|(_, call, _)| wanted(call))?;
        Some(self.in_flight.remove(position))
    }
}

/// The list that a call reads.
pub(super) fn scope_of(call: &Call) -> Option<&Scope> {
    match call {
        Call::FirstPage { scope, .. } | Call::NextPage { scope, .. } => Some(scope),
        Call::AnchorLog { .. }
        | Call::Read(_)
        | Call::PollLog(_)
        | Call::Select { .. }
        | Call::SearchDeletions { .. } => None,
    }
}

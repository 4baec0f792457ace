//! Crawling and following as one state machine: what happened goes in, what to do next comes out.
//!
//! Entry points: [`SyncState::start`], then [`SyncState::step`] with every [`Input`], at the latest at
//! [`SyncState::wake_at`], until [`Effect::End`].
//!
//! ```text
//! log ─▶ events ─▶ debts ─▶ plan ─▶ reads by id, selections, walks ─▶ batches
//! crawl: log anchor ─▶ users, groups, apps ─▶ members, app users, app groups ─▶ unlisted apps by id ─▶ end
//! nets:  delta walks, app list, rolling re-lists, held lists, the next crawl ─▶ debts
//! ```
//!
//! Invariants:
//! - The log position is taken before the first list is asked for (facts 11), and moves only together with the debts of
//!   its events.
//! - A page's rows and the walk's new position are one [`Batch`]; a crash repeats at most the pages in flight.
//! - A debt is paid in the batch that holds what its read showed, and only by a request sent after its last hint.
//! - Nothing is removed unless a walk reached its last page without an error (the store asks [`super::reconcile`] then), or
//!   a read by id says that it is gone.
//! - A failed scope becomes a gap and stops nothing else; only a dead credential or an unreachable org end the machine,
//!   and then it can be started again from the store.
//! - An answer that the state does not wait for changes nothing.

mod absent;
mod accounts;
mod batches;
mod calls;
mod counts;
mod crawl;
mod debts;
mod endless;
mod holds;
mod lanes;
mod log;
mod nets;
mod reads;
mod references;
mod selections;
#[cfg(test)]
mod tests;
mod walk;
mod walks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use self::absent::DeletionsSeen;
use self::absent::{Absent, Search};
use self::accounts::Accounts;
use self::batches::Uncommitted;
pub use self::calls::{
    ByIdSeen, Call, CallId, CrawlEnd, Effect, Input, LogSeen, Moment, PageSeen, RECENT_MILLIS, Selection, StoredCrawl,
    UnseenFound, UserAppSeen,
};
pub use self::counts::Counted;
use self::counts::Counts;
use self::crawl::Crawl;
use self::debts::{BatchNumber, Debts};
use self::holds::{Holds, Probe, ProbeResult};
use self::lanes::Lanes;
pub use self::lanes::{Lane, ScopeCounts};
use self::log::Log;
pub use self::log::{LogState, LogStatus};
use self::nets::Nets;
use self::reads::Ready;
use self::selections::Selected;
use self::walk::Walk;
use super::batch::{Batch, Delta};
use super::coverage::{Gap, GapKind, ReadFailure};
use super::filter::{AppFilter, Filter};
use super::ids::{AppId, CrawlId, GroupId, LogCursor, RequestNumber, Timestamp};
use super::model::{App, AppStatus, Key, Kind, Scope};
use super::pending::{Answered, Patience, PendingRead, Target, When};
use super::plan::Costs;

/// Debts that are kept one by one; at some hundred bytes each, more would cost more than a crawl.
const DEBTS_MAX: usize = 200_000;

/// Which groups' members are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Members {
    /// Of every group.
    All,
    /// Only of groups that are assigned to an app in scope.
    Assigned,
}

/// What is read, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Calls under way at once per rate-limit bucket, at least 1.
    pub in_flight_per_lane: usize,
    /// Which groups' members are read.
    pub members: Members,
    /// What is wanted at all. Users and what names them are dropped by the store, which alone knows whom it has.
    pub filter: Filter,
}

/// How an org is followed. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowLimits {
    /// Time between polls of the log when nothing is left to drain.
    pub poll_millis: i64,
    /// How long hints wait.
    pub patience: Patience,
    /// Users delta walk; `None`: off.
    pub users_delta_millis: Option<i64>,
    /// Groups delta walk; `None`: off.
    pub groups_delta_millis: Option<i64>,
    /// List of apps, compared with what is stored; `None`: off.
    pub apps_millis: Option<i64>,
    /// Within which time each app's users are listed again; `None`: off.
    pub relist_millis: Option<i64>,
    /// From the end of a crawl to the next one.
    pub crawl_millis: i64,
    /// So many events of unknown type bring the next crawl forward.
    pub unknown_events_max: u64,
    /// First and longest wait until a held list is read again.
    pub hold_retry_millis: (i64, i64),
    /// Rows on a page of the lists that the planner chooses between.
    pub costs: Costs,
}

/// How to begin.
#[derive(Clone, Debug)]
pub enum Begin {
    /// A crawl from scratch.
    New {
        /// Its number.
        id: CrawlId,
        /// What it depends on, see [`super::batch::CrawlMark::Begin`].
        fingerprint: String,
    },
    /// Go on with an unfinished one.
    Resume(StoredCrawl),
    /// No crawl now.
    Follow {
        /// Number of the last crawl.
        last: CrawlId,
        /// What the next one depends on.
        fingerprint: String,
        /// When the next one is due.
        due_at: Timestamp,
    },
}

/// What is known from before, for following.
#[derive(Debug, Default)]
pub struct Known {
    /// Log position.
    pub cursor: Option<LogCursor>,
    /// Up to when the log has been followed, by Okta's clock.
    pub observed_through: Option<Timestamp>,
    /// When the position was opened, by Okta's clock, where `observed_through` is still that of the position before.
    pub opened_at: Option<Timestamp>,
    /// When the last crawl began, by Okta's clock.
    pub read_since: Option<Timestamp>,
    /// Begin of the last delta walks, by Okta's clock.
    pub deltas: BTreeMap<Delta, Timestamp>,
    /// Debts.
    pub pending: Vec<PendingRead>,
    /// Stored apps.
    pub apps: Vec<App>,
    /// The groups `Everyone`, whose members are never read.
    pub everyone: BTreeSet<GroupId>,
    /// Groups that are assigned to an app.
    pub assigned_groups: BTreeSet<GroupId>,
    /// Stored groups; only with a filter of groups.
    pub stored_groups: BTreeSet<GroupId>,
    /// When the app users of an app were last listed completely.
    pub listed: BTreeMap<AppId, Timestamp>,
    /// Walks whose missing rows are kept.
    pub held: Vec<KnownHold>,
    /// Users, groups and apps with an open gap [`GapKind::UnseenReference`].
    pub unseen: BTreeSet<Scope>,
    /// Scopes with an open gap [`GapKind::CountMismatch`].
    pub miscounted: BTreeSet<Scope>,
    /// When the last crawl began that came to its end.
    pub whole_since: Option<Timestamp>,
    /// Scopes with an open gap `UNAUTHORIZED`.
    pub unauthorized: BTreeSet<Scope>,
    /// Open gaps of the log.
    pub log_gaps: BTreeSet<GapKind>,
    /// Whether the last crawl has opened the log position, and did not come to its end.
    pub is_log_new: bool,
    /// What following looked like when it last ended in this process; its counts go on.
    pub status: LogStatus,
    /// What the crawl that stopped in this process had counted.
    pub counted: Option<Box<Counted>>,
}

/// A walk whose missing rows are kept, as stored.
#[derive(Clone, Debug)]
pub struct KnownHold {
    /// The collection.
    pub scope: Scope,
    /// Some of the missing rows, if probing them can end the hold.
    pub sample: Vec<Key>,
    /// What is to be said when they are not gone; `None`: it is said already, or another gap says it.
    pub gap: Option<Gap>,
}

/// An app as far as following needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownApp {
    /// Its app users and groups are read.
    is_read: bool,
    is_active: bool,
    /// Has neither app users nor groups (facts 4): they are known without a request, and not unread.
    is_service: bool,
}

impl KnownApp {
    fn of(app: &App, filter: &AppFilter) -> Self {
        let is_read = filter.wants(app) && filter.wants_assignments(app);
        Self { is_read, is_active: app.status == AppStatus::Active, is_service: app.is_service_app() }
    }
}

/// The state.
#[derive(Debug)]
pub struct SyncState {
    limits: Limits,
    /// `None`: one crawl, then the end.
    follow: Option<FollowLimits>,
    moment: Moment,
    lanes: Lanes,
    crawl: Crawl,
    log: Log,
    debts: Debts,
    ready: Ready,
    accounts: Accounts,
    holds: Holds,
    /// Apart, to keep small what is moved about with the state.
    absent: Box<Absent>,
    counts: Counts,
    nets: Nets,
    /// The groups `Everyone`.
    everyone: BTreeSet<GroupId>,
    /// Groups that are assigned to an app; only with [`Members::Assigned`].
    assigned_groups: BTreeSet<GroupId>,
    /// With a filter of groups those that it wants and that were seen.
    stored_groups: Option<BTreeSet<GroupId>>,
    /// Apps that were seen, wanted or not.
    apps: BTreeMap<AppId, KnownApp>,
    in_flight: BTreeMap<CallId, Pending>,
    next_call: u64,
    /// Batches on their way to the store, oldest first.
    uncommitted: VecDeque<Uncommitted>,
    unauthorized: BTreeSet<Scope>,
    /// Calls that were made to pay debts.
    reads: u64,
    stopped: Option<ReadFailure>,
    ended: bool,
}

/// What waits for an answer.
#[derive(Debug)]
enum Pending {
    Anchor,
    Poll(LogCursor),
    Walk(Walk),
    /// A user, group or app that the list did not show; where nobody follows.
    Unlisted(Key),
    /// A debt, and when it was asked for.
    Read(Key, Timestamp),
    Select(Box<Selected>),
    /// A missing row of a walk.
    Probe(Probe),
    /// A search of the log for deletions.
    Search(Search),
    /// One account of a user whose selection came back empty.
    EmptyProbe(Box<Selected>),
}

impl SyncState {
    /// Begins or resumes. Without `follow` one crawl is made; with it the machine goes on for ever.
    pub fn start(
        begin: Begin,
        known: Known,
        limits: Limits,
        follow: Option<FollowLimits>,
        moment: Moment,
    ) -> (Self, Vec<Effect>) {
        let is_lost = known.log_gaps.contains(&GapKind::LogLost)
            && known.pending.iter().any(|read| read.target == Target::Everything);
        let patience = follow.as_ref().map(|follow| follow.patience).unwrap_or_default();
        let apps = known.apps.iter().map(|app| (app.id.clone(), KnownApp::of(app, &limits.filter.apps))).collect();
        let mut state = Self {
            lanes: Lanes::new(limits.in_flight_per_lane, &limits.filter),
            stored_groups: limits.filter.groups.is_active().then_some(known.stored_groups),
            crawl: Crawl::new(known.whole_since),
            log: Log::new(
                known.cursor,
                (known.observed_through, known.opened_at),
                known.read_since,
                known.log_gaps,
                is_lost,
                known.status,
            ),
            debts: Debts::new(if follow.is_some() { known.pending } else { Vec::new() }, patience),
            ready: Ready::default(),
            accounts: Accounts::default(),
            holds: Holds::default(),
            absent: Box::new(Absent::new(known.unseen)),
            counts: Counts::new(known.miscounted),
            nets: Nets::new(known.deltas, known.listed, moment.now),
            everyone: known.everyone,
            assigned_groups: known.assigned_groups,
            apps,
            limits,
            follow,
            moment,
            in_flight: BTreeMap::new(),
            next_call: 0,
            uncommitted: VecDeque::new(),
            unauthorized: known.unauthorized,
            reads: 0,
            stopped: None,
            ended: false,
        };
        let mut effects = Vec::new();
        state.begin(begin, known.is_log_new, &mut effects);
        if let Some(counted) = known.counted {
            state.resume_counts(*counted);
        }
        for KnownHold { scope, sample, gap } in known.held {
            state.hold(scope, sample, gap, false, &mut effects);
        }
        state.owe_unseen();
        state.go_on(&mut effects);
        (state, effects)
    }

    /// Takes in one thing that happened and tells what to do. Deterministic.
    pub fn step(&mut self, input: Input, moment: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.ended {
            return effects;
        }
        self.moment = moment;
        match input {
            Input::Tick => {}
            Input::Log(call, page) => self.on_log(call, page, &mut effects),
            Input::Page(call, page) => self.on_page(call, page, &mut effects),
            Input::ById(call, seen) => self.on_by_id(call, seen, &mut effects),
            Input::Failed(call, failure) => self.on_failed(call, failure, &mut effects),
            Input::Committed(receipt) => self.on_committed(receipt, &mut effects),
            Input::AssignedGroups { assigned, unwanted } => {
                self.on_assigned_groups(assigned, unwanted, &mut effects);
            }
            Input::Counted(sizes) => self.on_counted(&sizes),
            Input::UserApps(call, stored) => self.on_user_apps_stored(call, stored, &mut effects),
            Input::Asked(target) => self.on_asked(target, &mut effects),
            Input::Released(scope, unlisted) => {
                self.holds.ended(&scope);
                self.on_object_released(&scope, &mut effects);
                self.ask_for(unlisted);
            }
            Input::Deletions(call, seen) => self.on_deletions(call, &seen, &mut effects),
            Input::UsersCounted { known, recent } => self.on_users_counted(known, recent, &mut effects),
            Input::Unseen(found) => self.on_unseen(found, &mut effects),
        }
        self.go_on(&mut effects);
        effects
    }

    /// Whatever the input was: everything that can begin now, and the end.
    fn go_on(&mut self, effects: &mut Vec<Effect>) {
        if self.stopped.is_none() {
            if self.follow.is_some() {
                self.cast_nets();
                self.recount_when_due();
                self.poll(effects);
                self.begin_crawl_when_due(effects);
            }
            if self.log.lets_lists_go() {
                self.take_due_debts(effects);
                self.fill(effects);
                self.read_ready(effects);
                self.search_for_deletions(effects);
            }
        }
        self.end_when_done(effects);
    }

    /// When the machine wants a step even if nothing happens.
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.stopped.is_some() {
            return None;
        }
        if self.follow.is_none() {
            return self.next_self_made_look();
        }
        // What cannot begin yet is begun by the answer that it waits for, not by the clock.
        let lets_lists_go = self.log.lets_lists_go();
        let debts = self.debts.next_due().filter(|_| lets_lists_go);
        let nets = self.nets.next().filter(|_| !self.crawl.is_running);
        let crawl = self.crawl.due_at.filter(|_| lets_lists_go && !self.crawl.is_running);
        [self.log.poll_at(), debts, nets, crawl, self.next_self_made_look()].into_iter().flatten().min()
    }

    /// When something is looked at again by itself. What could be done already waits for an answer, not for the clock.
    fn next_self_made_look(&self) -> Option<Timestamp> {
        let looks = [self.absent.next_search(), self.counts.wake_at(self.crawl.is_running)];
        looks.into_iter().flatten().filter(|at| *at > self.moment.now).min()
    }

    /// Scopes read and to be read by the crawl, by kind of row; for progress bars.
    pub fn counts(&self, kind: Kind) -> ScopeCounts {
        self.lanes.counts(kind)
    }

    /// Whether a crawl is going on.
    pub fn is_crawling(&self) -> bool {
        self.crawl.is_running
    }

    /// When the next crawl is due; `None` while one is going on or when none is planned.
    pub fn next_crawl_at(&self) -> Option<Timestamp> {
        self.crawl.due_at
    }

    /// What following looks like from outside.
    pub fn log_status(&self) -> LogStatus {
        LogStatus { debts: self.debts.len(), held: self.holds.len(), reads: self.reads, ..self.log.status() }
    }

    /// Every debt, with whether somebody has taken it; and those that changed since the last batch.
    #[cfg(test)]
    fn debts_for_tests(&self) -> (Vec<(PendingRead, bool)>, BTreeSet<Target>) {
        self.debts.for_tests()
    }

    /// Notes whether a group is stored, where a filter chooses.
    fn note_group(&mut self, group: &GroupId, is_stored: bool) {
        if let Some(stored) = &mut self.stored_groups {
            if is_stored {
                stored.insert(group.clone());
            } else {
                stored.remove(group);
            }
        }
    }

    /// Whether the filter lets the group be stored, as far as is known.
    fn may_be_stored(&self, group: &GroupId) -> bool {
        self.stored_groups.as_ref().is_none_or(|stored| stored.contains(group))
    }

    fn call(&mut self, call: Call, pending: Pending, effects: &mut Vec<Effect>) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        let is_urgent = match &call {
            Call::FirstPage { is_urgent, .. } | Call::NextPage { is_urgent, .. } => *is_urgent,
            Call::Read(_) | Call::Select { .. } => true,
            Call::AnchorLog { .. } | Call::PollLog(_) | Call::SearchDeletions { .. } => false,
        };
        self.reads += u64::from(is_urgent);
        self.in_flight.insert(id, pending);
        effects.push(Effect::Call(id, call));
        id
    }

    /// What waits for the answer to a call; a call that waits for an answer of another kind goes on waiting.
    fn answered(&mut self, call: CallId, is_expected: impl Fn(&Pending) -> bool) -> Option<Pending> {
        self.in_flight.get(&call).is_some_and(is_expected).then(|| self.in_flight.remove(&call))?
    }

    fn owe(&mut self, target: Target, when: When, cause: &str) {
        if let Target::List(Scope::GroupMembers(group)) = &target {
            // What a list said of its size before is not to be relied on.
            self.crawl.empty_groups.remove(group);
        }
        if self.follow.is_none() {
            return;
        }
        if self.debts.len() >= DEBTS_MAX && self.debts.get(&target).is_none() {
            // Reading everything is cheaper by now, and covers it.
            self.debts.owe(Target::Everything, When::Now, "too many reads are owed", self.moment);
        } else {
            self.debts.owe(target, when, cause, self.moment);
        }
    }

    /// A read that was asked for at `asked_at` pays a debt, if it was due by then: who waits, waits for something to happen,
    /// and an earlier look does not show it.
    fn settle(&mut self, target: Target, by: RequestNumber, asked_at: Timestamp, batch: &mut Batch) {
        let Some(read) = self.debts.get(&target) else { return };
        if read.due_at <= asked_at || read.attempts > 0 {
            batch.answered.push(paid(target, by));
        } else {
            self.debts.give_back(&target);
            self.accounts.unblock(&target);
        }
    }

    /// A read with the credential was answered: what a dead credential had left behind is over.
    fn credential_lives(&mut self, batch: &mut Batch) {
        batch
            .closed_gaps
            .extend(std::mem::take(&mut self.unauthorized).into_iter().map(|scope| (scope, GapKind::Unauthorized)));
    }

    fn on_failed(&mut self, call: CallId, failure: ReadFailure, effects: &mut Vec<Effect>) {
        let Some(pending) = self.in_flight.remove(&call) else { return };
        if matches!(failure, ReadFailure::Unauthorized { .. } | ReadFailure::Unreachable { .. }) {
            self.stop(&pending, failure, effects);
            return;
        }
        match pending {
            Pending::Anchor | Pending::Poll(_) => self.on_log_failed(pending, &failure, effects),
            Pending::Walk(walk) => self.on_walk_failed(walk, &failure, effects),
            Pending::Unlisted(key) => {
                // Kept: neither shown nor proven gone. Whoever follows later asks again, and until then no other answer closes the gap.
                let mut batch = self.batch();
                self.note_unread(&key, &failure, &mut batch);
                batch.pending.extend(Target::of_object(&key).map(|target| self.failed_once(target)));
                self.commit(batch, effects);
            }
            Pending::Read(key, _) => self.on_read_failed(&key, &failure, effects),
            Pending::Select(selected) => self.on_selection_failed(*selected, &failure, effects),
            Pending::EmptyProbe(selected) => self.on_selection_failed(*selected, &failure, effects),
            Pending::Probe(probe) => self.on_probe(&probe, ProbeResult::There, effects),
            Pending::Search(search) => self.settle_search(search, &DeletionsSeen::default(), effects),
        }
    }

    /// The debt for a read that has failed where nobody follows: it is none of the running crawl.
    fn failed_once(&self, target: Target) -> PendingRead {
        let Moment { now, newest, .. } = self.moment;
        let patience = self.debts.patience();
        let mut read = PendingRead::new(target, When::Now, "it could not be read", newest, now, patience);
        read.failed(now);
        read
    }

    /// Nothing can be read any more.
    fn stop(&mut self, pending: &Pending, failure: ReadFailure, effects: &mut Vec<Effect>) {
        // An unreachable org says nothing about any scope; a dead credential is worth a gap.
        if matches!(failure, ReadFailure::Unauthorized { .. }) {
            let scope = match pending {
                Pending::Anchor | Pending::Poll(_) => Scope::Log,
                Pending::Walk(walk) => walk.scope.clone(),
                Pending::Unlisted(key) | Pending::Read(key, _) => key.scope(),
                // The log's own gaps say that it cannot be followed; this one says that nothing can be read.
                Pending::Search(_) => Scope::Users,
                Pending::Select(selected) => selected.scope(),
                Pending::EmptyProbe(selected) => selected.scope(),
                Pending::Probe(probe) => probe.scope().clone(),
            };
            let mut batch = self.batch();
            batch.gaps.extend(super::coverage::gap_of_failure(&scope, &failure));
            self.commit(batch, effects);
        }
        self.stopped.get_or_insert(failure);
    }
}

/// The gaps that failed reads leave on a collection.
fn gaps_of_failed_reads(scope: Scope) -> [(Scope, GapKind); 3] {
    [GapKind::Forbidden, GapKind::ScopeMissing, GapKind::Failed].map(|kind| (scope.clone(), kind))
}

/// Groups whose members a list of groups obliges to read, and the like.
fn members_of(group: &GroupId) -> Target {
    Target::List(Scope::GroupMembers(group.clone()))
}

/// A debt paid by a read.
fn paid(target: Target, by: RequestNumber) -> Answered {
    Answered { target, by }
}

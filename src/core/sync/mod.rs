//! The crawl as a state machine: what happened goes in, what to do next comes out.
//!
//! Entry points: [`SyncState::start`], then [`SyncState::step`] with every [`Input`] until [`Effect::End`].
//!
//! ```text
//! start ─▶ log anchor ─▶ users ─┐
//!                     ─▶ groups ┼─▶ members of groups ─┐
//!                     ─▶ apps ──┴─▶ app users, app groups ─▶ unlisted apps by id ─▶ end
//! ```
//!
//! Invariants:
//! - The log position is taken before the first list is asked for (facts 11).
//! - A page's rows and the walk's new position are one [`Batch`]; a crash repeats at most the pages in flight.
//! - Nothing is removed unless a walk reached its last page without an error; the store asks [`super::reconcile`] then.
//! - A failed scope becomes a gap and stops nothing else; only a dead credential or an unreachable org end the crawl,
//!   and then it can be resumed.
//! - An answer that the state does not wait for changes nothing.

mod lanes;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, VecDeque};

use self::lanes::Lanes;
pub use self::lanes::{Lane, ScopeCounts};
use self::walk::Walk;
use super::batch::{Batch, CrawlMark, CursorMove, Listing, Receipt, WalkState, WalkUpdate};
use super::coverage::{Gap, GapKind, ReadFailure, gap_of_failure};
use super::filter::AppFilter;
use super::ids::{AppId, CrawlId, GroupId, LogCursor, RequestNumber, Timestamp};
use super::model::{App, GroupStats, Key, Kind, Quarantined, Row, Scope};

/// Which groups' members are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Members {
    /// Of every group.
    All,
    /// Only of groups that are assigned to an app in scope.
    Assigned,
}

/// What the crawl is asked to do, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Calls under way at once per rate-limit bucket, at least 1.
    pub in_flight_per_lane: usize,
    /// Which groups' members are read.
    pub members: Members,
    /// Which apps are read.
    pub apps: AppFilter,
    /// Whether app-group assignments are left out.
    pub skip_app_groups: bool,
}

/// How often a walk may start again (stale cursors, smaller pages) before it is given up. Halving 1000 down to the
/// floor of 10 takes 7; the rest is for stale cursors ("at most a few times", facts 0.1).
const WALK_RESTARTS_MAX: u8 = 10;

/// Pages of one walk. A list of 1,000,000 rows in pages of 10 has 100,000; more is an endless list.
const WALK_PAGES_MAX: u32 = 200_000;

/// Names a call and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A read that the shell is asked to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Open a System Log position a few minutes back.
    AnchorLog,
    /// The first page of a list; `limit` is set only where the usual page size was too big.
    FirstPage {
        /// The collection.
        scope: Scope,
        /// Its form.
        listing: Listing,
        /// Page size, when not the configured one.
        limit: Option<u32>,
    },
    /// The page behind a `next` link, verbatim.
    NextPage {
        /// The collection.
        scope: Scope,
        /// Its form.
        listing: Listing,
        /// The link.
        next: String,
    },
    /// One app by id.
    ReadApp(AppId),
}

/// A page of a list as the shell hands it in.
#[derive(Clone, Debug, Default)]
pub struct PageSeen {
    /// Number of the request that got it, taken when it was sent.
    pub at: RequestNumber,
    /// Good records.
    pub rows: Vec<Row>,
    /// `expand=stats` of groups.
    pub group_stats: Vec<(GroupId, GroupStats)>,
    /// Bad records.
    pub quarantined: Vec<Quarantined>,
    /// Link to the next page.
    pub next: Option<String>,
}

/// What a read by id told.
#[derive(Clone, Debug)]
pub enum ByIdSeen {
    /// The object, with the number of the request.
    Found(Box<App>, RequestNumber),
    /// Object-level 404: gone, or not visible to this credential.
    NotFound(RequestNumber),
}

/// Everything that can happen.
#[derive(Debug)]
pub enum Input {
    /// The log position was opened.
    LogAnchored(CallId, LogCursor),
    /// A page arrived.
    Page(CallId, PageSeen),
    /// A read by id was answered.
    ById(CallId, ByIdSeen),
    /// A call failed for good.
    Failed(CallId, ReadFailure),
    /// The oldest uncommitted batch is stored.
    Committed(Receipt),
    /// Answer to [`Effect::LoadAssignedGroups`]; without `Everyone`.
    AssignedGroups {
        /// Groups that are assigned to an app.
        assigned: Vec<GroupId>,
        /// Groups that are not, but whose members are in the books: read under other settings or before the last assignment
        /// was taken away. Nobody reads them again, so what is stored would grow old unnoticed.
        unwanted: Vec<GroupId>,
    },
}

/// Everything that can be asked of the shell.
#[derive(Debug)]
pub enum Effect {
    /// Make this read; answer with its id.
    Call(CallId, Call),
    /// Store this; answer with [`Input::Committed`], in order.
    Commit(Box<Batch>),
    /// Tell the groups that are assigned to an app, and those with stored members that are not.
    LoadAssignedGroups,
    /// The crawl is over.
    End(CrawlEnd),
}

/// How a crawl ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrawlEnd {
    /// Everything was read that could be; gaps may be open.
    Finished,
    /// Nothing more can be read now; the crawl is resumed by the next start.
    Stopped(ReadFailure),
}

/// What the store holds of an unfinished crawl.
#[derive(Clone, Debug, Default)]
pub struct StoredCrawl {
    /// Its number.
    pub id: CrawlId,
    /// The scopes of the crawl and where their walks stand.
    pub walks: Vec<WalkUpdate>,
    /// Apps that the finished list did not show, as far as they have not been asked for by id.
    pub unlisted_apps: Vec<AppId>,
}

/// How to begin.
#[derive(Clone, Debug)]
pub enum Begin {
    /// A crawl from scratch.
    New {
        /// Its number.
        id: CrawlId,
        /// What it depends on, see [`CrawlMark::Begin`].
        fingerprint: String,
    },
    /// Go on with an unfinished one.
    Resume(StoredCrawl),
}

/// State of one crawl.
#[derive(Debug)]
pub struct SyncState {
    id: CrawlId,
    limits: Limits,
    lanes: Lanes,
    in_flight: BTreeMap<CallId, Pending>,
    next_call: u64,
    uncommitted: usize,
    anchored: bool,
    /// What the mark says that opens the crawl; taken by the first commit.
    begin: Option<CrawlMark>,
    /// Groups that a list showed to be empty: their members need no request.
    empty_groups: BTreeMap<GroupId, RequestNumber>,
    assigned: Assigned,
    /// Apps that the list did not show, still to be asked for by id.
    unlisted: VecDeque<AppId>,
    stopped: Option<ReadFailure>,
    ended: bool,
}

#[derive(Debug)]
enum Pending {
    Anchor,
    Walk(Walk),
    App(AppId),
}

/// Whether the groups with an app have been asked for; only with [`Members::Assigned`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Assigned {
    NotAsked,
    Asked,
    Known,
}

impl SyncState {
    /// Begins or resumes a crawl.
    pub fn start(begin: Begin, limits: Limits, now: Timestamp) -> (Self, Vec<Effect>) {
        let mut state = Self {
            id: CrawlId::default(),
            lanes: Lanes::new(limits.in_flight_per_lane),
            limits,
            in_flight: BTreeMap::new(),
            next_call: 0,
            uncommitted: 0,
            anchored: false,
            begin: None,
            empty_groups: BTreeMap::new(),
            assigned: Assigned::NotAsked,
            unlisted: VecDeque::new(),
            stopped: None,
            ended: false,
        };
        let mut effects = Vec::new();
        match begin {
            Begin::New { id, fingerprint } => {
                state.id = id;
                state.begin = Some(CrawlMark::Begin { id, fingerprint });
                for scope in [Scope::Users, Scope::Groups, Scope::Apps] {
                    state.lanes.push(Walk::new(scope));
                }
                let mut batch = state.batch(now);
                batch.walks = [Scope::Users, Scope::Groups, Scope::Apps]
                    .map(|scope| WalkUpdate { scope, state: WalkState::Todo })
                    .into();
                state.commit(batch, &mut effects);
                state.call(Call::AnchorLog, Pending::Anchor, &mut effects);
            }
            Begin::Resume(stored) => {
                state.id = stored.id;
                // The anchor is stored before the first list is asked for, so a resumed crawl has one or never will.
                state.anchored = stored.walks.iter().any(|walk| walk.scope == Scope::Log);
                for update in stored.walks {
                    state.lanes.resume(update);
                }
                if state.anchored {
                    state.unlisted.extend(stored.unlisted_apps);
                    state.fill(&mut effects);
                    state.end_when_done(now, &mut effects);
                } else {
                    state.call(Call::AnchorLog, Pending::Anchor, &mut effects);
                }
            }
        }
        (state, effects)
    }

    /// Takes in one thing that happened and tells what to do. Deterministic; `now` is only written into batches.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.ended {
            return effects;
        }
        match input {
            Input::LogAnchored(call, cursor) => self.on_anchored(call, cursor, now, &mut effects),
            Input::Page(call, page) => self.on_page(call, page, now, &mut effects),
            Input::ById(call, seen) => self.on_app(call, seen, now, &mut effects),
            Input::Failed(call, failure) => self.on_failed(call, failure, now, &mut effects),
            Input::Committed(receipt) => self.on_committed(receipt),
            Input::AssignedGroups { assigned, unwanted } => {
                self.on_assigned_groups(assigned, unwanted, now, &mut effects);
            }
        }
        if self.stopped.is_none() && self.anchored {
            self.fill(&mut effects);
        }
        self.end_when_done(now, &mut effects);
        effects
    }

    /// Scopes read and to be read, by kind of row; for progress bars.
    pub fn counts(&self, kind: Kind) -> ScopeCounts {
        self.lanes.counts(kind)
    }

    fn batch(&self, now: Timestamp) -> Batch {
        Batch { now, ..Batch::default() }
    }

    fn commit(&mut self, mut batch: Batch, effects: &mut Vec<Effect>) {
        if let Some(begin) = self.begin.take() {
            batch.crawl = Some(begin);
        }
        self.uncommitted += 1;
        effects.push(Effect::Commit(Box::new(batch)));
    }

    fn call(&mut self, call: Call, pending: Pending, effects: &mut Vec<Effect>) {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.in_flight.insert(id, pending);
        effects.push(Effect::Call(id, call));
    }

    /// What waits for the answer to a call; a call that waits for an answer of another kind goes on waiting.
    fn answered(&mut self, call: CallId, is_expected: impl Fn(&Pending) -> bool) -> Option<Pending> {
        self.in_flight.get(&call).is_some_and(is_expected).then(|| self.in_flight.remove(&call))?
    }

    /// Starts walks while their lanes have room, and reads by id, which draw on a bucket of their own.
    fn fill(&mut self, effects: &mut Vec<Effect>) {
        let by_id = self.in_flight.values().filter(|pending| matches!(pending, Pending::App(_))).count();
        for _ in by_id..self.limits.in_flight_per_lane.max(1) {
            let Some(app) = self.unlisted.pop_front() else { break };
            self.call(Call::ReadApp(app.clone()), Pending::App(app), effects);
        }
        while let Some(walk) = self.lanes.take() {
            let call = walk.next_call();
            self.call(call, Pending::Walk(walk), effects);
        }
    }

    fn on_anchored(&mut self, call: CallId, cursor: LogCursor, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(Pending::Anchor) = self.answered(call, |pending| matches!(pending, Pending::Anchor)) else { return };
        self.anchored = true;
        let mut batch = self.batch(now);
        batch.cursor = Some(CursorMove::Anchor(cursor));
        batch.walks =
            vec![WalkUpdate { scope: Scope::Log, state: WalkState::Finished { from: RequestNumber::default() } }];
        self.commit(batch, effects);
    }

    fn on_page(&mut self, call: CallId, page: PageSeen, now: Timestamp, effects: &mut Vec<Effect>) {
        let is_walk = |pending: &Pending| matches!(pending, Pending::Walk(_));
        let Some(Pending::Walk(mut walk)) = self.answered(call, is_walk) else { return };
        let from = *walk.from.get_or_insert(page.at);
        let mut batch = self.batch(now);
        batch.at = page.at;
        batch.quarantined = page.quarantined;
        for (group, stats) in page.group_stats {
            if stats.users == 0 {
                self.empty_groups.insert(group, page.at);
            }
        }
        let rows = page.rows.len();
        for row in page.rows {
            self.on_row(row, &mut batch);
        }
        self.lanes.count_rows(&walk.scope, rows);
        match walk.advance(rows, page.next, WALK_PAGES_MAX) {
            walk::Advance::Next(position) => {
                batch.walks.push(WalkUpdate { scope: walk.scope.clone(), state: WalkState::Walking(position) });
                self.lanes.go_on(walk);
            }
            walk::Advance::End => {
                batch.walks.push(WalkUpdate { scope: walk.scope.clone(), state: WalkState::Finished { from } });
                self.lanes.finish(&walk.scope);
            }
            walk::Advance::Empty => {
                let evidence = "200 with an empty list, but an org always has users, groups and apps".to_owned();
                self.give_up(&walk.scope, GapKind::EmptySuspect, evidence, &mut batch);
            }
            walk::Advance::Endless(evidence) => {
                self.give_up(&walk.scope, GapKind::Failed, evidence, &mut batch);
            }
        }
        self.commit(batch, effects);
    }

    fn give_up(&mut self, scope: &Scope, kind: GapKind, evidence: String, batch: &mut Batch) {
        batch.gaps.push(Gap { scope: scope.clone(), kind, evidence });
        batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::GivenUp });
        self.lanes.finish(scope);
    }

    /// Puts a row into the batch and the walks that it makes necessary on the list.
    fn on_row(&mut self, row: Row, batch: &mut Batch) {
        match &row {
            Row::App(app) => {
                if !self.limits.apps.wants(app) {
                    // No row, and what an earlier configuration stored goes.
                    batch.removals.push(row.key());
                    return;
                }
                self.on_app_row(app, batch);
            }
            Row::Group(group) => {
                // `Everyone` is derived from the user list (facts 3).
                if self.limits.members == Members::All && !group.is_everyone() {
                    self.add_members_walk(group.id.clone(), batch);
                }
            }
            Row::User(_) | Row::GroupMember(_) | Row::AppUser(_) | Row::AppGroup(_) => {}
        }
        batch.rows.push(row);
    }

    fn on_app_row(&mut self, app: &App, batch: &mut Batch) {
        if app.implicit_assignment {
            batch.gaps.push(Gap {
                scope: Scope::AppUsers(app.id.clone()),
                kind: GapKind::ImplicitAssignment,
                evidence: "the app's settings say implicitAssignment".to_owned(),
            });
        } else {
            batch.closed_gaps.push((Scope::AppUsers(app.id.clone()), GapKind::ImplicitAssignment));
        }
        let scopes = [Scope::AppUsers(app.id.clone()), Scope::AppGroups(app.id.clone())];
        for scope in scopes {
            if matches!(scope, Scope::AppGroups(_)) && self.limits.skip_app_groups {
                batch.walks.push(WalkUpdate { scope, state: WalkState::Unwanted });
            } else if self.limits.apps.wants_assignments(app) {
                self.add_walk(scope, batch);
            } else if app.is_service_app() {
                // Service apps have no app users (facts 4): known to be empty without a request.
                self.add_empty(scope, batch.at, batch);
            } else {
                batch.walks.push(WalkUpdate { scope, state: WalkState::Unwanted });
            }
        }
    }

    fn add_members_walk(&mut self, group: GroupId, batch: &mut Batch) {
        match self.empty_groups.get(&group) {
            Some(at) => {
                let at = *at;
                self.add_empty(Scope::GroupMembers(group), at, batch);
            }
            None => self.add_walk(Scope::GroupMembers(group), batch),
        }
    }

    fn add_walk(&mut self, scope: Scope, batch: &mut Batch) {
        if self.lanes.is_new(&scope) {
            batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::Todo });
            self.lanes.push(Walk::new(scope));
        }
    }

    /// A scope that is known to be empty: finished without a request.
    fn add_empty(&mut self, scope: Scope, from: RequestNumber, batch: &mut Batch) {
        if self.lanes.is_new(&scope) {
            self.lanes.finish(&scope);
            // Begun and ended at once, so that nothing of an earlier walk is taken for a part of this one.
            batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::Todo });
            batch.walks.push(WalkUpdate { scope, state: WalkState::Finished { from } });
        }
    }

    fn on_app(&mut self, call: CallId, seen: ByIdSeen, now: Timestamp, effects: &mut Vec<Effect>) {
        let is_app = |pending: &Pending| matches!(pending, Pending::App(_));
        let Some(Pending::App(id)) = self.answered(call, is_app) else { return };
        let mut batch = self.batch(now);
        // The credential lives again; the list, whose end would close this gap, may have been read before it died.
        batch.closed_gaps.push((Scope::Apps, GapKind::Unauthorized));
        match seen {
            ByIdSeen::NotFound(at) => {
                batch.at = at;
                batch.removals.push(Key::App(id));
            }
            ByIdSeen::Found(app, at) => {
                batch.at = at;
                self.on_row(Row::App(*app), &mut batch);
            }
        }
        self.commit(batch, effects);
    }

    fn on_failed(&mut self, call: CallId, failure: ReadFailure, now: Timestamp, effects: &mut Vec<Effect>) {
        let Some(pending) = self.in_flight.remove(&call) else { return };
        let ends_everything = matches!(failure, ReadFailure::Unauthorized { .. } | ReadFailure::Unreachable { .. });
        let scope = match &pending {
            Pending::Anchor => Scope::Log,
            Pending::Walk(walk) => walk.scope.clone(),
            Pending::App(_) => Scope::Apps,
        };
        let mut batch = self.batch(now);
        if ends_everything {
            // An unreachable org says nothing about any scope; a dead credential is worth a gap.
            if matches!(failure, ReadFailure::Unauthorized { .. }) {
                batch.gaps.extend(gap_of_failure(&scope, &failure));
                self.commit(batch, effects);
            }
            self.stopped.get_or_insert(failure);
            return;
        }
        match pending {
            Pending::Anchor => {
                self.anchored = true;
                let evidence = gap_of_failure(&scope, &failure).map_or_else(String::new, |gap| gap.evidence);
                batch.gaps.extend(gap_of_failure(&scope, &failure));
                batch.gaps.push(Gap { scope: Scope::Log, kind: GapKind::LogLost, evidence });
                batch.walks.push(WalkUpdate { scope: Scope::Log, state: WalkState::GivenUp });
            }
            Pending::Walk(walk) => self.on_walk_failed(walk, &failure, &mut batch),
            // Kept: neither shown nor proven gone.
            Pending::App(_) => batch.gaps.extend(gap_of_failure(&scope, &failure)),
        }
        self.commit(batch, effects);
    }

    fn on_walk_failed(&mut self, mut walk: Walk, failure: &ReadFailure, batch: &mut Batch) {
        match walk.restart(failure, WALK_RESTARTS_MAX) {
            Ok(()) => {
                batch.walks.push(WalkUpdate { scope: walk.scope.clone(), state: WalkState::Todo });
                self.lanes.go_on(walk);
            }
            Err(evidence) => {
                let (kind, evidence) = gap_of_failure(&walk.scope, failure)
                    .map_or((GapKind::Failed, evidence), |gap| (gap.kind, gap.evidence));
                self.give_up(&walk.scope, kind, evidence, batch);
            }
        }
    }

    fn on_committed(&mut self, receipt: Receipt) {
        let Some(uncommitted) = self.uncommitted.checked_sub(1) else { return };
        self.uncommitted = uncommitted;
        self.unlisted.extend(receipt.finished.into_iter().flat_map(|finished| finished.unlisted_apps));
    }

    fn on_assigned_groups(
        &mut self,
        assigned: Vec<GroupId>,
        unwanted: Vec<GroupId>,
        now: Timestamp,
        effects: &mut Vec<Effect>,
    ) {
        if self.assigned != Assigned::Asked {
            return;
        }
        self.assigned = Assigned::Known;
        let mut batch = self.batch(now);
        for group in assigned {
            self.add_members_walk(group, &mut batch);
        }
        let unwanted = unwanted.into_iter().map(Scope::GroupMembers);
        batch.walks.extend(unwanted.map(|scope| WalkUpdate { scope, state: WalkState::Unwanted }));
        if !batch.walks.is_empty() {
            self.commit(batch, effects);
        }
    }

    fn end_when_done(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if let Some(failure) = &self.stopped {
            // Pages already under way are dropped; their walks are read again from the stored position.
            if self.uncommitted == 0 {
                self.ended = true;
                effects.push(Effect::End(CrawlEnd::Stopped(failure.clone())));
            }
            return;
        }
        if self.uncommitted > 0 || !self.in_flight.is_empty() || !self.unlisted.is_empty() || !self.lanes.is_idle() {
            return;
        }
        match (self.limits.members, self.assigned) {
            (Members::Assigned, Assigned::NotAsked) => {
                self.assigned = Assigned::Asked;
                effects.push(Effect::LoadAssignedGroups);
            }
            (Members::Assigned, Assigned::Asked) => {}
            _ => {
                // One more commit, then the end: `ended` is set when its receipt arrives.
                if !self.lanes.closed() {
                    self.lanes.close();
                    let mut batch = self.batch(now);
                    batch.crawl = Some(CrawlMark::End { id: self.id });
                    self.commit(batch, effects);
                } else {
                    self.ended = true;
                    effects.push(Effect::End(CrawlEnd::Finished));
                }
            }
        }
    }
}

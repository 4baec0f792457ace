//! The full crawl: what begins it, which lists belong to it, when it is over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::batch::{Batch, CrawlMark, WalkState, WalkUpdate};
use super::super::coverage::GapKind;
use super::super::ids::{CrawlId, GroupId, RequestNumber, Timestamp};
use super::super::model::{Key, Scope};
use super::super::pending::{Target, When};
use super::references::References;
use super::walk::Walk;
use super::{Begin, Call, CrawlEnd, Effect, Members, Pending, StoredCrawl, SyncState, Uncommitted, paid};

/// Where the crawl stands.
#[derive(Debug, Default)]
pub(super) struct Crawl {
    pub(super) id: CrawlId,
    pub(super) fingerprint: String,
    pub(super) is_running: bool,
    /// Whether its last batch is on the way.
    is_closing: bool,
    /// Requests with larger numbers were sent after it began.
    began_after: RequestNumber,
    /// What the mark says that opens the crawl; taken by the first commit.
    pub(super) begin: Option<CrawlMark>,
    /// Groups that a list showed to be empty: their members need no request.
    pub(super) empty_groups: BTreeMap<GroupId, Asked>,
    assigned: Assigned,
    /// Objects that a list did not show, or that something names, still to be asked for by id; where nobody follows.
    pub(super) unlisted: VecDeque<Key>,
    /// Objects that were.
    pub(super) asked_for: BTreeSet<Scope>,
    pub(super) references: References,
    /// Lists that could not be read.
    pub(super) given_up: BTreeSet<Scope>,
    /// When it began, by Okta's clock.
    began: Timestamp,
    /// When the last crawl began that came to its end.
    pub(super) whole_since: Option<Timestamp>,
    /// When the next one begins.
    pub(super) due_at: Option<Timestamp>,
}

/// The request that showed something, and when it was made at the earliest, by Okta's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at: RequestNumber,
    pub(super) since: Timestamp,
}

/// Whether the groups with an app have been asked for; only with [`Members::Assigned`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Assigned {
    #[default]
    NotAsked,
    Asked,
    Known,
}

impl Crawl {
    pub(super) fn new(whole_since: Option<Timestamp>) -> Self {
        Self { whole_since, ..Self::default() }
    }
}

const LISTS: [Scope; 3] = [Scope::Users, Scope::Groups, Scope::Apps];

impl SyncState {
    /// `is_log_new`: the last crawl has opened the position of the log, and did not come to its end.
    pub(super) fn begin(&mut self, begin: Begin, is_log_new: bool, effects: &mut Vec<Effect>) {
        match begin {
            Begin::New { id, fingerprint } => {
                self.crawl.fingerprint = fingerprint;
                self.crawl.id = CrawlId(id.0.saturating_sub(1));
                if is_log_new {
                    // What that crawl has not read, not what this one has not: the log tells of all changes since.
                    self.lose_unread(effects);
                }
                // What is followed already goes on being followed; without that the log is opened first.
                if self.follow.is_none() || !self.is_log_kept() {
                    self.log.anchor_anew(true);
                }
                self.begin_crawl(effects);
            }
            Begin::Resume(stored) => self.resume_crawl(stored, is_log_new, effects),
            Begin::Follow { last, fingerprint, due_at } => {
                self.crawl.id = last;
                self.crawl.fingerprint = fingerprint;
                self.crawl.due_at = Some(due_at);
            }
        }
    }

    /// Whether the log is followed from where it stands. One that was lost is: a new position would close the gap that says so
    /// before anything is read again.
    fn is_log_kept(&self) -> bool {
        self.log.is_current(self.moment.okta_now) || self.log.is_lost()
    }

    /// Of what the crawl has not read so far the log does not tell.
    fn lose_unread(&mut self, effects: &mut Vec<Effect>) {
        let batch = Batch { unread_is_lost: true, ..self.batch() };
        self.commit(batch, effects);
    }

    fn resume_crawl(&mut self, stored: StoredCrawl, is_log_new: bool, effects: &mut Vec<Effect>) {
        self.crawl.id = stored.id;
        self.crawl.is_running = true;
        // The anchor is stored before the first list is asked for, be it that there is none.
        let was_anchored = stored.walks.iter().any(|walk| walk.scope == Scope::Log);
        // What has been read may have changed since, and the log is to tell.
        let is_unread = stored.walks.iter().all(|walk| walk.state == WalkState::Todo);
        let is_followed = match self.follow {
            Some(_) => self.is_log_kept(),
            // Whoever follows later goes on from there.
            None => self.log.has_position() && !is_unread,
        };
        if is_log_new || (was_anchored && !self.log.has_position()) {
            self.log.opened_by_crawl();
        }
        if is_log_new && self.follow.is_some() {
            // Nobody has said so where nobody has followed.
            self.lose_unread(effects);
        }
        match (was_anchored || is_followed, self.follow.is_some()) {
            (false, _) => self.log.anchor_anew(is_unread),
            (true, false) => self.log.leave_alone(),
            (true, true) => {}
        }
        let mut walks = stored.walks;
        // Users and groups first: what names them may have to wait for them.
        walks.sort_by(|a, b| a.scope.cmp(&b.scope));
        for update in walks {
            self.lanes.resume(update);
        }
        self.crawl.began = self.moment.okta_now;
        self.ask_for(stored.unlisted);
        self.anchor_if_needed(effects);
    }

    /// Begins a crawl now, whatever is under way.
    fn begin_crawl(&mut self, effects: &mut Vec<Effect>) {
        let id = CrawlId(self.crawl.id.0 + 1);
        let unlisted = std::mem::take(&mut self.crawl.unlisted);
        let fingerprint = std::mem::take(&mut self.crawl.fingerprint);
        self.crawl = Crawl {
            id,
            is_running: true,
            began_after: self.moment.newest,
            begin: Some(CrawlMark::Begin { id, fingerprint: fingerprint.clone() }),
            fingerprint,
            unlisted,
            began: self.moment.okta_now,
            whole_since: self.crawl.whole_since,
            ..Crawl::default()
        };
        self.log.crawl_begins(self.moment.okta_now);
        self.counts.crawl_begins();
        // The store forgets what walks under way have shown: they begin anew.
        self.in_flight.retain(|_, pending| !matches!(pending, Pending::Walk(_)));
        let interrupted = self.lanes.begin_crawl();
        let mut batch = self.batch();
        for scope in LISTS {
            batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::Todo });
            self.lanes.push(Walk::new(scope));
        }
        for scope in interrupted {
            self.lanes.request(scope);
        }
        effects.push(Effect::CrawlBegins(id));
        self.commit(batch, effects);
        self.anchor_if_needed(effects);
    }

    fn anchor_if_needed(&mut self, effects: &mut Vec<Effect>) {
        if let Some(since) = self.log.take_anchor(self.moment) {
            self.call(Call::AnchorLog { since }, Pending::Anchor, effects);
        }
    }

    pub(super) fn begin_crawl_when_due(&mut self, effects: &mut Vec<Effect>) {
        self.anchor_if_needed(effects);
        let is_due = self.crawl.due_at.is_some_and(|due_at| due_at <= self.moment.now);
        if is_due && !self.crawl.is_running && self.log.lets_lists_go() {
            self.begin_crawl(effects);
        }
    }

    /// Somebody wants everything read again.
    pub(super) fn want_crawl(&mut self) {
        if !self.crawl.is_running {
            self.crawl.due_at = Some(self.moment.now);
        }
    }

    /// What the credential may see may have changed: the next crawl finds out, within a quarter of its interval. Not at
    /// once, because the event may be about anybody's rights.
    pub(super) fn bring_crawl_forward(&mut self) {
        let Some(follow) = &self.follow else { return };
        let latest = self.moment.now.plus_millis(follow.crawl_millis / 4);
        self.crawl.due_at = self.crawl.due_at.map(|due_at| due_at.min(latest));
    }

    /// Starts walks while their lanes have room, and reads of unlisted objects, which draw on buckets of their own.
    pub(super) fn fill(&mut self, effects: &mut Vec<Effect>) {
        let by_id = self.in_flight.values().filter(|pending| matches!(pending, Pending::Unlisted(_))).count();
        for _ in by_id..self.limits.in_flight_per_lane.max(1) {
            let Some(key) = self.crawl.unlisted.pop_front() else { break };
            self.crawl.asked_for.extend(Scope::of_object(&key));
            self.call(Call::Read(key.clone()), Pending::Unlisted(key), effects);
        }
        while let Some(mut walk) = self.lanes.take() {
            walk.asked = self.moment.okta_now;
            if walk.is_at_start() {
                walk.began = walk.asked;
                walk.asked_at = self.moment.now;
            }
            let call = walk.next_call();
            self.call(call, Pending::Walk(walk), effects);
        }
    }

    /// Whether what is to be read can still be read by the crawl; not while its last batch is on the way.
    pub(super) fn is_crawl_open(&self) -> bool {
        self.crawl.is_running && !self.crawl.is_closing
    }

    /// A scope that the crawl has to read.
    pub(super) fn add_walk(&mut self, scope: Scope, batch: &mut Batch) {
        if self.lanes.is_new(&scope) {
            if !self.lanes.is_busy(&scope) {
                batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::Todo });
            }
            self.lanes.push(Walk::new(scope));
        }
    }

    /// A scope that is known to be empty: finished without a request.
    pub(super) fn add_empty(&mut self, scope: Scope, asked: Asked, batch: &mut Batch) {
        let is_new = !self.is_crawl_open() || self.lanes.is_new(&scope);
        if is_new && !self.lanes.is_busy(&scope) {
            if self.is_crawl_open() {
                self.lanes.finish_unwalked(&scope);
            }
            // Begun and ended at once, so that nothing of an earlier walk is taken for a part of this one.
            batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::Todo });
            let (from, began) = (asked.at, asked.since);
            batch.walks.push(WalkUpdate {
                scope,
                state: WalkState::Finished { from, began, known_empty: true, ended: Vec::new() },
            });
        }
    }

    pub(super) fn add_members_walk(&mut self, group: GroupId, batch: &mut Batch) {
        match self.crawl.empty_groups.get(&group) {
            Some(asked) => {
                let asked = *asked;
                // Nobody is counted, and nobody is shown.
                self.compare_members(&group, 0, batch);
                self.add_empty(Scope::GroupMembers(group), asked, batch);
            }
            None => self.add_walk(Scope::GroupMembers(group), batch),
        }
    }

    /// A group is assigned to an app: its members are read, by the crawl or by a debt. Of one that was not assigned before,
    /// nobody has followed what is stored.
    pub(super) fn need_members(&mut self, group: GroupId, is_new: bool, batch: &mut Batch) {
        if self.everyone.contains(&group) {
            return;
        }
        if self.is_crawl_open() {
            // Before the crawl has asked for its groups, it will find this one.
            if self.crawl.assigned == Assigned::Known {
                self.add_members_walk(group, batch);
            }
        } else if is_new {
            self.owe(Target::List(Scope::GroupMembers(group)), When::Now, "group assigned to an app");
        } else {
            batch.needed.push(Scope::GroupMembers(group));
        }
    }

    pub(super) fn on_assigned_groups(
        &mut self,
        assigned: Vec<GroupId>,
        unwanted: Vec<GroupId>,
        effects: &mut Vec<Effect>,
    ) {
        if self.crawl.assigned != Assigned::Asked {
            return;
        }
        self.crawl.assigned = Assigned::Known;
        let mut batch = self.batch();
        self.assigned_groups = assigned.iter().cloned().collect();
        for group in assigned {
            self.add_members_walk(group, &mut batch);
        }
        for scope in unwanted.into_iter().map(Scope::GroupMembers) {
            self.holds.ended(&scope);
            batch.walks.push(WalkUpdate { scope, state: WalkState::Unwanted });
        }
        if !batch.walks.is_empty() {
            self.commit(batch, effects);
        }
    }

    pub(super) fn end_when_done(&mut self, effects: &mut Vec<Effect>) {
        if let Some(failure) = &self.stopped {
            // Answers already under way are dropped; their reads are made again from the stored state.
            if self.uncommitted.is_empty() {
                self.ended = true;
                effects.push(Effect::End(CrawlEnd::Stopped(failure.clone())));
            }
            return;
        }
        if !self.crawl.is_running || self.crawl.is_closing || !self.is_crawl_read() {
            return;
        }
        match (self.limits.members, self.crawl.assigned) {
            (Members::Assigned, Assigned::NotAsked) => {
                self.crawl.assigned = Assigned::Asked;
                effects.push(Effect::LoadAssignedGroups);
            }
            (Members::Assigned, Assigned::Asked) => {}
            _ if !self.holds_are_settled(effects) => {}
            _ if !self.counts_are_settled(effects) => {}
            _ if !self.look_for_unseen(effects) => {}
            // One more commit, then the end, when its receipt arrives.
            _ => self.close_crawl(effects),
        }
    }

    /// Whether everything of the crawl is read and stored. A follower is never idle, so it waits only for what the crawl
    /// needs; its own commits are in order with the others.
    fn is_crawl_read(&self) -> bool {
        let is_alone = self.follow.is_none();
        let is_of_crawl = |pending: &Pending| {
            matches!(pending, Pending::Anchor | Pending::Unlisted(_))
                || (is_alone && matches!(pending, Pending::Read(..)))
        };
        let is_idle = self.lanes.is_crawl_done()
            && self.log.lets_lists_go()
            && self.crawl.unlisted.is_empty()
            && !(is_alone && self.ready.has_named())
            && !self.in_flight.values().any(is_of_crawl);
        let is_probe = |pending: &Pending| matches!(pending, Pending::Probe(_) | Pending::Select(_));
        let is_settled = !self.in_flight.values().any(is_probe) && self.absent.is_settled();
        let probes_wait = self.follow.is_none() && !is_settled;
        let waits = |batch: &Uncommitted| self.follow.is_none() || batch.has_walks;
        is_idle && !probes_wait && !self.uncommitted.iter().any(waits)
    }

    fn close_crawl(&mut self, effects: &mut Vec<Effect>) {
        self.crawl.is_closing = true;
        let mut batch = self.batch();
        batch.crawl = Some(CrawlMark::End { id: self.crawl.id });
        // A list that was given up, or that does not show all, leads to nothing below it; and no event tells of that.
        batch.unread_is_lost = self.log.was_lost_before_crawl() || self.log.was_opened_by_crawl();
        if self.follow.is_some() {
            // A loss that it does not make good for is for the next one, also where no request had been sent in between.
            let is_owed = self.log.is_lost() && !self.log.was_lost_before_crawl();
            let by = if is_owed { 0 } else { self.crawl.began_after.0.saturating_add(1) };
            batch.answered.push(paid(Target::Everything, RequestNumber(by)));
            if self.log.was_lost_before_crawl() {
                batch.closed_gaps.push((Scope::Log, GapKind::LogLost));
                // Now, not with the receipt: a gap that opens meanwhile is another one.
                self.log.made_good();
            }
        } else {
            batch.observed_through = self.log.take_opened_at();
            if batch.observed_through.is_some() && self.log.was_opened_by_crawl() && self.log.has_lost_gap() {
                batch.closed_gaps.push((Scope::Log, GapKind::LogLost));
            }
        }
        self.commit(batch, effects);
    }

    pub(super) fn crawl_is_over(&mut self, effects: &mut Vec<Effect>) {
        let Some(crawl_millis) = self.follow.as_ref().map(|follow| follow.crawl_millis) else {
            self.ended = true;
            effects.push(Effect::End(CrawlEnd::Finished));
            return;
        };
        self.crawl.is_running = false;
        self.crawl.is_closing = false;
        self.log.crawl_ends();
        self.crawl.empty_groups.clear();
        self.crawl.whole_since = Some(self.crawl.began);
        // Not before: lists that end while the last batch is on its way are doubted as well.
        self.keep_doubts();
        self.crawl.due_at = Some(self.moment.now.plus_millis(crawl_millis));
        self.nets.crawled(self.moment.now);
        effects.push(Effect::CrawlEnded(self.crawl.id));
    }

    /// Somebody asks for a read, beside the log.
    pub(super) fn on_asked(&mut self, target: Target, effects: &mut Vec<Effect>) {
        self.owe(target, When::Now, "asked for");
        let batch = self.batch();
        self.commit(batch, effects);
    }
}

//! Okta's own counts of users against what its lists show: users that are hidden from the credential are counted all the same.
//!
//! The list of groups tells how many users each group has, and `Everyone` how many there are (facts 1.3, 3). A count and a list
//! are never of the same moment, so a difference is looked into at the end of the crawl: the counts are read again, then,
//! after what has changed meanwhile has reached the search index, the members and the users changed since. Only a difference
//! that is still there becomes a gap, and only towards fewer rows: nothing is hidden where a list shows more.
//!
//! Entry points: [`SyncState::counts_are_settled`] as a step of a crawl, [`SyncState::recount_when_due`] while gaps are open.

use std::collections::{BTreeMap, BTreeSet};

use super::super::batch::Batch;
use super::super::coverage::{Gap, GapKind};
use super::super::ids::{CrawlId, GroupId, RequestNumber, Timestamp};
use super::super::model::{GroupStats, Scope};
use super::super::pending::{Target, When};
use super::endless::Evidence;
use super::walk::Walk;
use super::{BatchNumber, Effect, Selected, Selection, SyncState};

/// Groups whose members are read again to confirm a difference. If all of them do, the others are believed as well.
const RECOUNTED_MAX: usize = 20;

/// How long after the counts the rest is read, in milliseconds: the index that shows changed users lags by about a second
/// (facts 2.2).
const SETTLE_MILLIS: i64 = 3_000;

/// How far before its begin the walk of the users is completed by those changed since, in milliseconds.
const CHANGED_OVERLAP_MILLIS: i64 = 60_000;

/// The time between two looks at users that are counted and not shown grows with the list: a request a second at most.
const LOOK_MILLIS_PER_PAGE: i64 = 1_000;

/// What a list of groups said.
#[derive(Clone, Copy, Debug)]
struct Said {
    users: u64,
    at: RequestNumber,
}

/// A list that shows as many as were counted.
#[derive(Clone, Copy, Debug)]
struct Agreement {
    /// The request that counted.
    counted: RequestNumber,
    /// When the list had been read, by Okta's clock.
    read_at: Timestamp,
}

#[derive(Clone, Debug, Default)]
enum Stage {
    /// Nothing to confirm, or not yet looked.
    #[default]
    Idle,
    /// The list of groups is read again.
    Groups,
    /// What has changed meanwhile reaches the index.
    Waiting(Timestamp),
    /// Members and changed users are read again.
    Reading {
        members: BTreeSet<GroupId>,
        users: bool,
    },
    /// What changed meanwhile is told by the log, when it has been read to its end up to then, by Okta's clock.
    Listening(Timestamp),
    /// What was read reaches the store.
    Storing(Option<BatchNumber>),
    /// The stored users are counted.
    Counting,
    Done,
}

/// Whether a group shows fewer members than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Short {
    No,
    /// As many users were deleted meanwhile.
    Perhaps,
    Yes,
}

/// Counts and what was seen.
#[derive(Debug, Default)]
pub(super) struct Counts {
    said: BTreeMap<GroupId, Said>,
    /// Groups of which fewer members were shown than counted, with the number shown.
    short: BTreeMap<GroupId, u64>,
    /// Those of them that were read again.
    checked: BTreeSet<GroupId>,
    /// Users that the last walk of all of them showed, and when it began.
    users_shown: Option<(u64, Timestamp)>,
    /// When the counts were asked for again, by our clock.
    counting_since: Option<Timestamp>,
    /// When they had been read again: by Okta's clock, and by ours.
    counted_at: Option<(Timestamp, Timestamp)>,
    /// Fewer users are shown than `Everyone` has.
    users_are_short: bool,
    stage: Stage,
    /// Differences are looked into for the second time in this crawl.
    is_second: bool,
    /// Scopes with an open gap.
    open: BTreeSet<Scope>,
    /// Scopes with a gap until the second look: before the end of the first crawl nothing is denied because of a list that is
    /// short.
    until_confirmed: BTreeSet<Scope>,
    /// Open scopes without a gap: users who were deleted meanwhile may explain the difference.
    untold: BTreeSet<Scope>,
    /// Open scopes of which no look has told yet whether rows are missing: what changed meanwhile explained the difference.
    unsure: BTreeSet<Scope>,
    /// Groups whose list shows as many as counted, until it is known that nobody joined in between.
    agreements: BTreeMap<GroupId, Agreement>,
    /// The groups are being listed to look at what is open.
    is_looking: bool,
    retry_at: Option<Timestamp>,
    retries: u32,
}

/// What a crawl that stopped had counted, for the one that goes on with it in the same process.
#[derive(Debug)]
pub struct Counted {
    crawl: CrawlId,
    counts: Counts,
}

impl Counts {
    pub(super) fn new(open: BTreeSet<Scope>) -> Self {
        Self { open, ..Self::default() }
    }

    /// A crawl begins: what earlier lists said does not count.
    pub(super) fn crawl_begins(&mut self) {
        let mut open = std::mem::take(&mut self.open);
        open.append(&mut self.until_confirmed);
        let unsure = std::mem::take(&mut self.unsure);
        let agreements = std::mem::take(&mut self.agreements);
        let untold = std::mem::take(&mut self.untold);
        *self = Self { open, untold, unsure, agreements, retries: self.retries, ..Self::default() };
    }

    /// A list of groups says how many users they have.
    pub(super) fn said(&mut self, group: &GroupId, stats: GroupStats, at: RequestNumber) {
        self.said.insert(group.clone(), Said { users: stats.users, at });
    }

    /// When the machine has to look again.
    pub(super) fn wake_at(&self, is_crawling: bool) -> Option<Timestamp> {
        match self.stage {
            Stage::Waiting(until) => Some(until),
            _ => self.retry_at.filter(|_| !is_crawling && !self.open.is_empty()),
        }
    }
}

impl SyncState {
    /// What was counted so far; for when it has stopped.
    pub fn into_counted(self) -> Counted {
        Counted { crawl: self.crawl.id, counts: self.counts }
    }

    /// Goes on with what was counted, if that belongs to this crawl: its lists are not read again.
    pub(super) fn resume_counts(&mut self, counted: Counted) {
        if counted.crawl == self.crawl.id {
            let stage = if matches!(counted.counts.stage, Stage::Done) { Stage::Done } else { Stage::Idle };
            self.counts = Counts { stage, is_looking: false, ..counted.counts };
        }
    }

    /// A walk has reached its end.
    pub(super) fn compare_counts(&mut self, walk: &Walk, batch: &mut Batch) {
        match &walk.scope {
            Scope::GroupMembers(group) => self.compare_members(group, walk.records(), batch),
            Scope::Users => {
                self.counts.users_shown = Some((walk.records(), walk.began));
                self.doubt_users(batch);
            }
            Scope::Groups if !self.crawl.is_running => self.look_at_the_counted_again(),
            Scope::Groups if matches!(self.counts.stage, Stage::Idle) => self.doubt_users(batch),
            Scope::Groups if matches!(self.counts.stage, Stage::Groups) => {
                self.counts.counted_at = Some((self.moment.okta_now, self.moment.now));
                self.counts.stage = Stage::Waiting(self.moment.now.plus_millis(SETTLE_MILLIS));
            }
            _ => {}
        }
    }

    /// A walk of a group's members has reached its end. Without a count it tells nothing: what is open stays open, and is
    /// counted again. Nor does it where somebody joined since the count, who may stand for somebody who is hidden.
    pub(super) fn compare_members(&mut self, group: &GroupId, shown: u64, batch: &mut Batch) {
        if let Stage::Reading { members, .. } = &mut self.counts.stage
            && members.remove(group)
        {
            self.counts.checked.insert(group.clone());
        }
        let Some(said) = self.counts.said.get(group).copied() else { return };
        let scope = Scope::GroupMembers(group.clone());
        if said.users <= shown {
            self.counts.short.remove(group);
            let agreement = Agreement { counted: said.at, read_at: self.moment.okta_now };
            if self.counts.open.contains(&scope) || self.counts.until_confirmed.contains(&scope) {
                self.counts.agreements.entry(group.clone()).or_insert(agreement);
            }
            // Where nobody follows no event will come, and while the log cannot be read its gap stands against every answer.
            if !self.log.is_followed() {
                self.settle_agreements(Timestamp::from_millis(i64::MAX), batch);
            }
            return;
        }
        self.counts.agreements.remove(group);
        let is_explained = self.log.has_removed_since(group, said.at);
        if !is_explained || self.crawl.whole_since.is_none() {
            self.counts.short.insert(group.clone(), shown);
            if matches!(self.counts.stage, Stage::Done) && self.is_crawl_open() && !self.counts.is_second {
                // The list of groups could not be read until now. Once: a crawl has to end however fast the org changes.
                self.counts.is_second = true;
                self.counts.stage = Stage::Idle;
            }
            if !is_explained {
                self.counts.unsure.remove(&scope);
                self.tell_untold(&scope, said.users, shown, batch);
            }
            self.doubt(&scope, format!("Okta counts {} members and shows {shown}", said.users), batch);
        }
    }

    /// The log was read to its end by a poll at `polled_at`, by Okta's clock: lists that were read well before show as many as
    /// counted if nobody had joined since the count.
    pub(super) fn settle_agreements(&mut self, polled_at: Timestamp, batch: &mut Batch) {
        let is_ripe = |agreement: &Agreement| agreement.read_at.plus_millis(SETTLE_MILLIS) <= polled_at;
        let agreements = std::mem::take(&mut self.counts.agreements);
        let (ripe, waiting): (BTreeMap<_, _>, BTreeMap<_, _>) =
            agreements.into_iter().partition(|(_, agreement)| is_ripe(agreement));
        self.counts.agreements = waiting;
        for (group, agreement) in ripe {
            if !self.log.has_added_since(&group, agreement.counted) {
                self.counts_agree(Scope::GroupMembers(group), batch);
            }
        }
    }

    /// Users were counted again because fewer are shown than counted: now they are listed.
    fn look_at_the_counted_again(&mut self) {
        if !std::mem::take(&mut self.counts.is_looking) {
            return; // The groups were listed for another reason.
        }
        if self.counts.open.contains(&Scope::Users) {
            self.owe(Target::List(Scope::Users), When::Now, "fewer users are shown than counted");
        }
        let open: Vec<&Scope> = self.counts.open.iter().filter(|scope| **scope != Scope::Users).collect();
        let skipped = (self.counts.retries as usize).saturating_mul(RECOUNTED_MAX).checked_rem(open.len()).unwrap_or(0);
        let number = open.len().min(RECOUNTED_MAX);
        let some: Vec<Scope> = open.into_iter().cycle().skip(skipped).take(number).cloned().collect();
        for scope in some {
            self.owe(Target::List(scope), When::Now, "fewer members are shown than counted");
        }
    }

    /// The group is gone, or nobody wants to know its members.
    pub(super) fn forget_counts(&mut self, group: &GroupId, batch: &mut Batch) {
        let scope = Scope::GroupMembers(group.clone());
        self.counts.said.remove(group);
        self.counts.agreements.remove(group);
        self.counts.short.remove(group);
        self.counts.unsure.remove(&scope);
        self.counts.untold.remove(&scope);
        if self.counts.open.remove(&scope) | self.counts.until_confirmed.remove(&scope) {
            batch.closed_gaps.push((scope, GapKind::CountMismatch));
        }
        if let Stage::Reading { members, .. } = &mut self.counts.stage {
            members.remove(group);
        }
    }

    /// What was never read completely before counts as incomplete until the second look has told.
    fn doubt(&mut self, scope: &Scope, evidence: String, batch: &mut Batch) {
        if self.crawl.whole_since.is_none()
            && !self.counts.open.contains(scope)
            && self.counts.until_confirmed.insert(scope.clone())
        {
            batch.gaps.push(Gap { scope: scope.clone(), kind: GapKind::CountMismatch, evidence });
        }
    }

    fn doubt_users(&mut self, batch: &mut Batch) {
        let counted = self.everyone.iter().find_map(|group| self.counts.said.get(group)).map(|said| said.users);
        if let (Some(counted), Some((shown, _))) = (counted, self.counts.users_shown)
            && counted > shown
        {
            self.doubt(&Scope::Users, format!("Okta counts {counted} users and shows {shown}"), batch);
        }
    }

    /// The second look is over. Of users it has told; of groups a poll tells, or the next look.
    fn end_doubts(&mut self, users_agree: bool, batch: &mut Batch) {
        for scope in std::mem::take(&mut self.counts.until_confirmed) {
            let is_found = batch.gaps.iter().any(|gap| gap.scope == scope);
            if scope == Scope::Users && users_agree && !is_found {
                batch.closed_gaps.push((scope, GapKind::CountMismatch));
                continue;
            }
            if !is_found {
                self.counts.unsure.insert(scope.clone());
            }
            self.counts.open.insert(scope);
        }
    }

    /// The crawl is over. What nobody has looked at a second time is looked at soon.
    pub(super) fn keep_doubts(&mut self) {
        let doubts = std::mem::take(&mut self.counts.until_confirmed);
        self.counts.unsure.extend(doubts.iter().cloned());
        self.counts.open.extend(doubts);
    }

    /// A list that was to be read again could not be read; its own gap says so.
    pub(super) fn counts_given_up(&mut self, scope: &Scope) {
        match (&mut self.counts.stage, scope) {
            (Stage::Groups, Scope::Groups) => {
                self.counts.stage = Stage::Done;
                // Nothing confirms them, and nothing refutes them.
                self.keep_doubts();
            }
            (Stage::Reading { members, .. }, Scope::GroupMembers(group)) => {
                members.remove(group);
            }
            _ => {}
        }
    }

    /// The users changed since were read, or could not be.
    pub(super) fn changed_users_read(&mut self) {
        if let Stage::Reading { users, .. } = &mut self.counts.stage {
            *users = false;
        }
    }

    fn counts_agree(&mut self, scope: Scope, batch: &mut Batch) {
        let was_unsure = self.counts.unsure.remove(&scope) | self.counts.untold.remove(&scope);
        if self.counts.until_confirmed.remove(&scope) {
            batch.closed_gaps.push((scope.clone(), GapKind::CountMismatch));
        }
        if !self.counts.open.remove(&scope) {
            return;
        }
        if self.counts.open.is_empty() {
            self.counts.retries = 0;
        }
        // What was hidden is shown: so is, perhaps, much else of which no event tells.
        if !was_unsure {
            self.owe(Target::Everything, When::Now, "hidden users are shown again");
        }
        batch.closed_gaps.push((scope, GapKind::CountMismatch));
    }

    /// The step of a crawl in which differences are looked into. Returns whether it is done.
    pub(super) fn counts_are_settled(&mut self, effects: &mut Vec<Effect>) -> bool {
        match &self.counts.stage {
            Stage::Idle => {
                let everyone = self.everyone.iter().find_map(|group| self.counts.said.get(group)).copied();
                // Who is new may stand for somebody who is hidden: what is open is counted exactly.
                let is_open =
                    self.counts.open.contains(&Scope::Users) || self.counts.until_confirmed.contains(&Scope::Users);
                self.counts.users_are_short = match (everyone, self.counts.users_shown) {
                    (Some(said), Some((shown, _))) => said.users > shown || is_open,
                    _ => false,
                };
                if self.counts.short.is_empty() && !self.counts.users_are_short {
                    let mut batch = self.batch();
                    self.end_doubts(true, &mut batch);
                    self.commit_if_any(batch, effects);
                    self.counts.stage = Stage::Done;
                    self.counts.said.clear();
                    return true;
                }
                self.counts.stage = Stage::Groups;
                self.counts.counting_since = Some(self.moment.now);
                self.lanes.request(Scope::Groups);
                self.fill(effects);
                false
            }
            Stage::Waiting(until) if *until <= self.moment.now => {
                let members: BTreeSet<GroupId> = self.counts.short.keys().take(RECOUNTED_MAX).cloned().collect();
                for group in &members {
                    self.lanes.request(Scope::GroupMembers(group.clone()));
                }
                let users = self.counts.users_are_short;
                if let (true, Some((_, began))) = (users, self.counts.users_shown) {
                    let since = began.plus_millis(-CHANGED_OVERLAP_MILLIS);
                    self.ready.select(Selected::new(Selection::UsersChanged(since), None));
                }
                // What was short may be gone by now: then no answer would bring the machine back to this place.
                let is_nothing = members.is_empty() && !users;
                self.counts.stage = Stage::Reading { members, users };
                self.fill(effects);
                self.read_ready(effects);
                is_nothing && self.counts_are_settled(effects)
            }
            Stage::Reading { members, users } if members.is_empty() && !users => {
                self.counts.stage = Stage::Listening(self.moment.okta_now.plus_millis(SETTLE_MILLIS));
                self.counts_are_settled(effects)
            }
            Stage::Listening(until) if !self.log.is_followed() || self.log.observed_through() >= Some(*until) => {
                if self.counts.users_are_short {
                    self.counts.stage = Stage::Storing(self.newest_batch());
                    return self.counts_are_settled(effects);
                }
                self.conclude(None, effects);
                true
            }
            Stage::Storing(newest) if self.is_stored(*newest) => {
                self.counts.stage = Stage::Counting;
                // Who has been created since is not counted, and would stand for somebody who is hidden.
                effects.push(Effect::CountUsers { created_by: self.counts.counted_at.unwrap_or_default().0 });
                false
            }
            Stage::Done => true,
            Stage::Groups
            | Stage::Waiting(_)
            | Stage::Reading { .. }
            | Stage::Listening(_)
            | Stage::Storing(_)
            | Stage::Counting => false,
        }
    }

    pub(super) fn on_users_counted(&mut self, stored: u64, recent: u64, effects: &mut Vec<Effect>) {
        if matches!(self.counts.stage, Stage::Counting) {
            let since = self.counts.counted_at.unwrap_or_default().1;
            let most = stored.saturating_add(self.absent.departed_users_since(since));
            self.conclude(Some((most, recent)), effects);
        }
    }

    /// Says what is still short after the second look.
    ///
    /// `users`: how many are stored, and how many of these were created so shortly before the count that they may not be in it.
    fn conclude(&mut self, users: Option<(u64, u64)>, effects: &mut Vec<Effect>) {
        self.counts.stage = Stage::Done;
        let mut batch = self.batch();
        // An event about its members that came meanwhile explains a difference. So may users who were deleted, who leave without
        // one: those are counted once more.
        let said = &self.counts.said;
        let deleted = self.deleted_users();
        let mut found = Vec::new();
        let mut untold = Vec::new();
        let verdict = |group: &GroupId| {
            let (Some(said), Some(shown)) = (said.get(group), self.counts.short.get(group)) else { return Short::No };
            match said.users.saturating_sub(*shown) {
                _ if self.log.has_removed_since(group, said.at) => Short::No,
                missing if missing <= deleted => Short::Perhaps,
                _ => Short::Yes,
            }
        };
        let checked = || self.counts.checked.iter().map(&verdict);
        let all_confirm = checked().all(|short| short != Short::No) && checked().any(|short| short == Short::Yes);
        for (group, shown) in &self.counts.short {
            let is_checked = self.counts.checked.contains(group);
            let scope = Scope::GroupMembers(group.clone());
            match verdict(group) {
                Short::Yes if is_checked || all_confirm => {
                    let expected = said.get(group).map_or(0, |said| said.users);
                    let evidence = format!("Okta counts {expected} members and shows {shown}");
                    found.push(Gap { scope, kind: GapKind::CountMismatch, evidence });
                }
                Short::Perhaps if is_checked || all_confirm => untold.push(scope),
                _ => {}
            }
        }
        let everyone = self.everyone.iter().find_map(|group| said.get(group)).copied();
        let mut users_agree = true;
        match (everyone, users) {
            (Some(said), Some((stored, _))) if said.users > stored => {
                let evidence = format!("Okta counts {} users and shows {stored}", said.users);
                found.push(Gap { scope: Scope::Users, kind: GapKind::CountMismatch, evidence });
            }
            // They may stand for others who are hidden.
            (Some(said), Some((stored, recent))) if said.users > stored.saturating_sub(recent) => users_agree = false,
            (_, Some(_)) => self.counts_agree(Scope::Users, &mut batch),
            (_, None) => {}
        }
        // What is missing from these is told by their own gaps.
        found.retain(|gap| !self.crawl.given_up.contains(&gap.scope) && !self.holds.is_kept(&gap.scope));
        untold.retain(|scope| !self.crawl.given_up.contains(scope) && !self.holds.is_kept(scope));
        for scope in untold {
            if self.counts.open.insert(scope.clone()) {
                self.counts.untold.insert(scope.clone());
                self.counts.unsure.insert(scope);
            }
        }
        self.counts.untold.retain(|scope| found.iter().all(|gap| gap.scope != *scope));
        self.counts.open.extend(found.iter().map(|gap| gap.scope.clone()));
        batch.gaps = found;
        self.end_doubts(users_agree, &mut batch);
        self.counts.said.clear();
        self.counts.checked.clear();
        self.recount_later();
        if !batch.gaps.is_empty() || !batch.closed_gaps.is_empty() || self.debts.has_changed() {
            self.commit(batch, effects);
        }
    }

    /// Users who were deleted since the counts were asked for last, or are about to turn out so.
    fn deleted_users(&self) -> u64 {
        let since = self.counts.counting_since.unwrap_or_default();
        self.absent.departed_users_since(since).saturating_add(self.debts.announced_users())
    }

    /// A look at a difference that deleted users might have explained: without them it is a gap.
    fn tell_untold(&mut self, scope: &Scope, counted: u64, shown: u64, batch: &mut Batch) {
        let is_untold = self.counts.untold.contains(scope);
        if is_untold && counted.saturating_sub(shown) > self.deleted_users() && self.counts.untold.remove(scope) {
            let evidence = format!("Okta counts {counted} members and shows {shown}");
            batch.gaps.push(Gap { scope: scope.clone(), kind: GapKind::CountMismatch, evidence });
        }
    }

    fn recount_later(&mut self) {
        let Some(follow) = &self.follow else { return };
        let (first, longest) = follow.hold_retry_millis;
        let first = if self.counts.unsure.is_empty() { first } else { first.min(SETTLE_MILLIS) };
        let pages = self.counts.users_shown.map_or(0, |(shown, _)| i64::try_from(shown / 200).unwrap_or(i64::MAX));
        let wait = first.max(1).saturating_mul(1 << self.counts.retries.min(16)).min(longest.max(first));
        let wait = wait.max(pages.saturating_mul(LOOK_MILLIS_PER_PAGE));
        self.counts.retry_at = Some(self.moment.now.plus_millis(wait));
    }

    /// While a count is not met it is looked again, ever more rarely: at the counts, and then at what is counted.
    pub(super) fn recount_when_due(&mut self) {
        if self.crawl.is_running || self.counts.open.is_empty() {
            return;
        }
        if self.counts.retry_at.is_none() {
            self.recount_later();
        }
        if self.counts.retry_at.is_none_or(|at| at > self.moment.now) {
            return;
        }
        self.counts.retries = self.counts.retries.saturating_add(1);
        self.recount_later();
        self.counts.is_looking = true;
        self.counts.counting_since = Some(self.moment.now);
        self.owe(Target::List(Scope::Groups), When::Now, "fewer users are shown than counted");
    }

    /// While no crawl runs, a walk of all users that shows more than before is worth one, or as many as are counted: the crawl
    /// finds out whether somebody who is new stands for somebody who is hidden.
    pub(super) fn users_were_listed(&mut self, walk: &Walk, before: Option<u64>) {
        if self.crawl.is_running || !self.counts.open.contains(&Scope::Users) {
            return;
        }
        let shows_more = before.is_some_and(|before| walk.records() > before);
        let counted = self.everyone.iter().find_map(|group| self.counts.said.get(group));
        if shows_more || counted.is_some_and(|said| said.users <= walk.records()) {
            self.owe(Target::Everything, When::Now, "hidden users are shown again");
        }
    }

    /// Scopes with an open gap.
    #[cfg(test)]
    pub(super) fn miscounted_for_tests(&self) -> &BTreeSet<Scope> {
        &self.counts.open
    }

    /// What is known about how long the list can be.
    pub(super) fn evidence_of_length(&self, list: &Scope) -> Evidence {
        let said = |group: &GroupId| self.counts.said.get(group).map(|said| said.users);
        Evidence {
            users_shown: self.users_shown(),
            users_counted: self.everyone.iter().find_map(said),
            members_counted: if let Scope::GroupMembers(group) = list { said(group) } else { None },
        }
    }

    /// Number of users that the last walk showed.
    pub(super) fn users_shown(&self) -> Option<u64> {
        self.counts.users_shown.map(|(shown, _)| shown)
    }
}

//! Walks whose missing rows are kept until it is known what became of them.
//!
//! Some of the missing rows are asked for by id. If all of them are gone, all missing rows go. If one is still there, or
//! nobody can tell, they stay, a gap says so, and the list is read again, ever more rarely, until it shows them or an operator
//! releases them. The list is first read again, twice, or once where much is missing: what changes quickly may have been gone
//! for a moment. That an account, a membership or an assignment is not found proves that it is gone only if its user or
//! group is itself shown (facts 7.2).

use std::collections::{BTreeMap, BTreeSet};

use super::super::batch::{Batch, Finished, WalkState, WalkUpdate};
use super::super::coverage::{Gap, GapKind};
use super::super::ids::{AppId, GroupId, Timestamp};
use super::super::model::{Key, Scope};
use super::super::pending::{Target, When};
use super::super::reconcile::{Verdict, gap_of};
use super::absent::app_of;
use super::{ByIdSeen, Call, Effect, Pending, Selection, SyncState};

/// So long a list is read again before a gap says that some of its rows hang on somebody who is not shown, in milliseconds:
/// meanwhile that somebody is looked into. Where it has turned out that nobody knows, there is no need to wait.
const UNCLEAR_MILLIS_MAX: i64 = 60_000;

/// After this time a list is read once more that does not show a row which is there, in milliseconds.
const NEXT_WALK_MILLIS: i64 = 3_000;

/// So many lists in a row have to lack a row that is there before that is believed: one that goes and comes back while a list
/// is read is missing from it, and in an org that changes fast enough the same one is from the next list as well.
const WALKS_WITHOUT_ROW: u32 = 3;

/// The same where much is missing: then the list itself is the more likely cause.
const WALKS_WITHOUT_MANY: u32 = 2;

/// So many lists in a row are read soon again because one of their rows is there, whichever: then that is believed.
const WALKS_AGAIN_MAX: u32 = 5;

/// What is known about one walk.
#[derive(Debug)]
struct Hold {
    /// Number of the questions; answers to earlier ones do not count.
    round: u64,
    /// Probes that wait for their answer.
    waiting: usize,
    /// Rows that are still there, or cannot be asked for, with the number of walks in a row that did not show them.
    there: BTreeMap<Key, u32>,
    /// Those of the walk before.
    there_before: BTreeMap<Key, u32>,
    /// Users and groups that are not found: what became of their rows is not clear.
    unclear: BTreeSet<Scope>,
    /// Those of the walk before, and since when some of them were met each time.
    unclear_before: BTreeSet<Scope>,
    unclear_since: Timestamp,
    /// Probed users, groups and apps that are not found.
    gone: BTreeSet<Scope>,
    /// What is said if the missing rows are not gone.
    gap: Option<Gap>,
    /// What has been said, and stands.
    told: Option<GapKind>,
    /// Walks in a row of which some row is there.
    refuted: u32,
    /// How often in a row its walk ended like this.
    times: u32,
    /// Whether its debts were paid by the walk.
    is_paid: bool,
    /// Where nobody follows: users and groups that are asked for before anything is said.
    looked_into: BTreeSet<Scope>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Holds {
    all: BTreeMap<Scope, Hold>,
    next_round: u64,
}

/// A question about a missing row.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    scope: Scope,
    round: u64,
    /// The missing row.
    row: Key,
    /// What is asked for: the row, or the user or group that it hangs on.
    asked: Key,
}

impl Holds {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_held(&self, scope: &Scope) -> bool {
        self.all.get(scope).is_some_and(|hold| !hold.is_paid)
    }

    /// Whether rows of the scope are kept that a walk did not show.
    pub(super) fn is_kept(&self, scope: &Scope) -> bool {
        self.all.contains_key(scope)
    }

    /// A walk showed the rows again, or they were removed.
    pub(super) fn ended(&mut self, scope: &Scope) {
        self.all.remove(scope);
    }

    fn of(&mut self, probe: &Probe) -> Option<&mut Hold> {
        self.all.get_mut(&probe.scope).filter(|hold| hold.round == probe.round)
    }
}

impl Probe {
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// A hold that the store ends if it can tell.
#[derive(Debug)]
pub(super) struct AskedRelease {
    pub(super) scope: Scope,
    round: u64,
}

/// What a row hangs on beside the scope that it is missing from.
fn hangs_on(row: &Key) -> Option<Key> {
    match row {
        Key::AppUser(_, user) | Key::GroupMember(_, user) => Some(Key::User(user.clone())),
        Key::AppGroup(_, group) => Some(Key::Group(group.clone())),
        Key::User(_) | Key::Group(_) | Key::App(_) => None,
    }
}

impl SyncState {
    /// A walk has ended, and what is missing is kept.
    pub(super) fn on_kept(&mut self, finished: Finished, effects: &mut Vec<Effect>) {
        let Finished { scope, verdict, sample, missing, stored, .. } = finished;
        // Dropped since, with everything that is missing.
        if self.is_of_unread_app(&scope) || self.is_of_departed_group(&scope) {
            self.holds.ended(&scope);
            return;
        }
        // Not wanted any more since it was asked for, or dropped: nobody reads it again, nor is anything to be found out.
        if matches!(&scope, Scope::GroupMembers(group) if !self.wants_members_of(group)) {
            self.holds.ended(&scope);
            self.owe(Target::List(scope), When::Now, "its members are not wanted any more");
            return;
        }
        let gap = if verdict.is_probed() { gap_of(&scope, verdict, missing, stored) } else { None };
        self.hold(scope, sample, gap, verdict == Verdict::Confirm, effects);
    }

    fn is_of_departed_group(&self, scope: &Scope) -> bool {
        matches!(scope, Scope::GroupMembers(group) if self.absent.is_departed(&Scope::Group(group.clone())))
    }

    /// Asks about a kept walk: `sample` are some of the rows that are missing, none if probing cannot decide.
    pub(super) fn hold(
        &mut self,
        scope: Scope,
        sample: Vec<Key>,
        gap: Option<Gap>,
        is_paid: bool,
        effects: &mut Vec<Effect>,
    ) {
        let before = self.holds.all.remove(&scope);
        // Another verdict closes the gap of the one before, and begins anew.
        let kind = gap.as_ref().map(|gap| gap.kind);
        let before = before.filter(|hold| hold.told.is_none() || hold.told == kind);
        let times = before.as_ref().map_or(0, |hold| hold.times.saturating_add(1));
        let (told, refuted) = before.as_ref().map_or((None, 0), |hold| (hold.told, hold.refuted));
        let (there_before, unclear_before, unclear_since) =
            before.map(|hold| (hold.there, hold.unclear_before, hold.unclear_since)).unwrap_or_default();
        let round = self.holds.next_round;
        self.holds.next_round += 1;
        let hold = Hold {
            round,
            waiting: sample.len(),
            there: BTreeMap::new(),
            there_before,
            unclear: BTreeSet::new(),
            unclear_before,
            unclear_since,
            gone: BTreeSet::new(),
            gap,
            told,
            refuted,
            times,
            is_paid,
            looked_into: BTreeSet::new(),
        };
        self.holds.all.insert(scope.clone(), hold);
        if !is_paid {
            self.read_again_later(&scope);
        }
        let is_unprobed = sample.is_empty();
        for row in sample {
            let probe = Probe { scope: scope.clone(), round, asked: row.clone(), row };
            self.probe(probe, effects);
        }
        if is_unprobed && self.holds.all.get(&scope).is_some_and(|hold| hold.gap.is_some()) {
            self.refute(&scope, effects);
        }
    }

    fn probe(&mut self, probe: Probe, effects: &mut Vec<Effect>) {
        match &probe.asked {
            // Memberships have no read by id: the user's groups tell.
            Key::GroupMember(group, user) => {
                let selection = Selection::UserGroups(user.clone());
                let group = group.clone();
                let selected = super::Selected::probe(selection, probe, group);
                let call = selected.next_call();
                self.call(call, Pending::Select(Box::new(selected)), effects);
            }
            asked => {
                let call = Call::Read(asked.clone());
                self.call(call, Pending::Probe(probe), effects);
            }
        }
    }

    /// Held lists are read again, ever more rarely.
    fn read_again_later(&mut self, scope: &Scope) {
        let times = self.holds.all.get(scope).map_or(0, |hold| hold.times);
        let Some(follow) = &self.follow else { return };
        let (first, longest) = follow.hold_retry_millis;
        let wait = first.max(1).saturating_mul(1 << times.min(16)).min(longest.max(first));
        let due_at: Timestamp = self.moment.now.plus_millis(wait);
        self.debts.owe_at(Target::List(scope.clone()), due_at, "held", self.moment);
    }

    /// A probe by id was answered.
    pub(super) fn on_probed(&mut self, probe: Probe, seen: &ByIdSeen, effects: &mut Vec<Effect>) {
        let is_found = matches!(seen, ByIdSeen::Found(..));
        let is_of_row = probe.asked == probe.row;
        let object = Scope::of_object(&probe.asked);
        let is_departed = object.as_ref().is_some_and(|object| self.absent.is_departed(object));
        match (is_of_row, is_found, object) {
            (true, true, _) => self.on_probe(&probe, ProbeResult::There, effects),
            // The user or group is there, so what hung on it is not.
            (false, true, _) => self.on_probe(&probe, ProbeResult::Gone(None), effects),
            (true, false, None) => match hangs_on(&probe.row) {
                Some(asked) => self.probe(Probe { asked, ..probe }, effects),
                None => self.on_probe(&probe, ProbeResult::There, effects),
            },
            (true, false, Some(object)) => self.on_probe(&probe, ProbeResult::Gone(Some(object)), effects),
            (false, false, Some(_)) if is_departed => self.on_probe(&probe, ProbeResult::Gone(None), effects),
            (false, false, Some(object)) => self.on_probe(&probe, ProbeResult::Unclear(object), effects),
            (false, false, None) => self.on_probe(&probe, ProbeResult::There, effects),
        }
    }

    /// What a probe tells.
    pub(super) fn on_probe(&mut self, probe: &Probe, result: ProbeResult, effects: &mut Vec<Effect>) {
        let Some(hold) = self.holds.of(probe) else { return };
        hold.waiting = hold.waiting.saturating_sub(1);
        match result {
            ProbeResult::There => {
                let before = hold.there_before.get(&probe.row).copied().unwrap_or_default();
                hold.there.insert(probe.row.clone(), before.saturating_add(1));
            }
            ProbeResult::Gone(object) => hold.gone.extend(object),
            ProbeResult::Unclear(object) => {
                hold.unclear.insert(object);
            }
        }
        if hold.waiting > 0 {
            return;
        }
        let (unclear, gone) = (std::mem::take(&mut hold.unclear), std::mem::take(&mut hold.gone));
        let (is_refuted, was_told) = (!hold.there.is_empty(), hold.told.is_some());
        let enough = if hold.is_paid { WALKS_WITHOUT_ROW } else { WALKS_WITHOUT_MANY };
        hold.refuted = if is_refuted { hold.refuted.saturating_add(1) } else { 0 };
        // The rows that are asked for may be others each time.
        let is_believed =
            hold.told.is_some() || hold.refuted >= WALKS_AGAIN_MAX || hold.there.values().any(|walks| *walks >= enough);
        let scope = probe.scope.clone();
        if is_refuted && !is_believed && self.follow.is_some() {
            self.read_once_more(&scope, effects);
        } else if is_refuted {
            self.refute(&scope, effects);
        } else if !unclear.is_empty() {
            self.look_into(&scope, unclear, effects);
        } else if !gone.is_empty() {
            // Only the log tells whether they are deleted or hidden.
            self.absent.hold(scope, gone, was_told);
        } else {
            self.release(scope, effects);
        }
    }

    /// The log was searched for the probed objects of a held list: `deleted` are those that it tells of, of `untold` it tells
    /// nothing.
    pub(super) fn holds_searched(
        &mut self,
        scope: &Scope,
        untold: BTreeSet<Scope>,
        deleted: &BTreeSet<Scope>,
        effects: &mut Vec<Effect>,
    ) {
        if !self.holds.all.contains_key(scope) {
            return;
        }
        let departed_apps: BTreeSet<AppId> =
            deleted.iter().filter_map(app_of).chain(self.absent.departed_apps()).collect();
        let groups = untold.into_iter().map(|object| match object {
            Scope::Group(group) => Some(group),
            _ => None,
        });
        match groups.collect::<Option<Vec<GroupId>>>() {
            Some(none) if none.is_empty() => self.release(scope.clone(), effects),
            // With an app go the groups that it brought, and no event tells of them (facts 9.4). Which those are the store knows.
            Some(brought) if !departed_apps.is_empty() => {
                let batch = Batch { brought, departed_apps, ..self.batch() };
                self.release_by(batch, scope.clone(), effects);
            }
            _ => self.refute(scope, effects),
        }
    }

    fn release(&mut self, scope: Scope, effects: &mut Vec<Effect>) {
        self.release_by(self.batch(), scope, effects);
    }

    fn release_by(&mut self, mut batch: Batch, scope: Scope, effects: &mut Vec<Effect>) {
        batch.walks.push(WalkUpdate { scope, state: WalkState::Released });
        self.commit(batch, effects);
    }

    /// The hold that the batch releases if the store finds that its groups have gone with their app.
    pub(super) fn asked_release(&self, batch: &Batch) -> Option<AskedRelease> {
        let scope = batch.walks.iter().find(|_| !batch.brought.is_empty())?.scope.clone();
        let round = self.holds.all.get(&scope)?.round;
        Some(AskedRelease { scope, round })
    }

    /// The store has not released it: one of the groups came from elsewhere.
    pub(super) fn release_refused(&mut self, asked: &AskedRelease, effects: &mut Vec<Effect>) {
        if self.holds.all.get(&asked.scope).is_some_and(|hold| hold.round == asked.round) {
            self.refute(&asked.scope, effects);
        }
    }

    /// A row that the list did not show is there: it may have come back since. If the next lists do not show it either, there is
    /// a gap.
    fn read_once_more(&mut self, scope: &Scope, effects: &mut Vec<Effect>) {
        let due_at = self.moment.now.plus_millis(NEXT_WALK_MILLIS);
        self.debts.owe_at(Target::List(scope.clone()), due_at, "a row is there that it does not show", self.moment);
        let batch = self.batch();
        self.commit_if_any(batch, effects);
    }

    /// The missing rows are not gone, or nobody can tell.
    fn refute(&mut self, scope: &Scope, effects: &mut Vec<Effect>) {
        self.read_again_later(scope);
        let mut batch = self.batch();
        if let Some(hold) = self.holds.all.get_mut(scope) {
            hold.told = hold.gap.as_ref().map(|gap| gap.kind);
            batch.gaps.extend(hold.gap.clone());
        }
        if !batch.gaps.is_empty() || self.debts.has_changed() {
            self.commit(batch, effects);
        }
    }

    /// Rows are missing, and so is whom they hang on: that is the first thing to find out.
    fn look_into(&mut self, scope: &Scope, unclear: BTreeSet<Scope>, effects: &mut Vec<Effect>) {
        if self.follow.is_none() {
            let is_new = |object: &&Scope| !self.crawl.asked_for.contains(*object);
            self.crawl.unlisted.extend(unclear.iter().filter(is_new).filter_map(Scope::object));
            if let Some(hold) = self.holds.all.get_mut(scope) {
                hold.looked_into = unclear;
            }
            return;
        }
        for target in unclear.iter().filter_map(Scope::object).filter_map(|key| Target::of_object(&key)) {
            self.owe(target, When::Now, "its rows are missing");
        }
        let now = self.moment.now;
        let is_unknown = unclear.iter().any(|object| self.absent.unseen().any(|unseen| unseen == object));
        let is_old = self.holds.all.get_mut(scope).is_some_and(|hold| {
            if hold.unclear_before.is_disjoint(&unclear) {
                hold.unclear_since = now;
            }
            hold.unclear_before = unclear;
            is_unknown || now.millis_since(hold.unclear_since) > UNCLEAR_MILLIS_MAX
        });
        if is_old {
            self.refute(scope, effects);
            return;
        }
        self.read_again_later(scope);
        let batch = self.batch();
        self.commit_if_any(batch, effects);
    }
}

impl SyncState {
    /// A step of a crawl that follows no log: it is known by now what became of the users and groups whose rows were missing.
    /// Those that are gone have taken their rows along, the rows of those that are not shown are kept, and the rest is gone.
    /// Returns whether there was nothing to do.
    pub(super) fn holds_are_settled(&mut self, effects: &mut Vec<Effect>) -> bool {
        let waiting = self.holds.all.iter_mut().filter(|(_, hold)| !hold.looked_into.is_empty());
        let waiting: Vec<(Scope, BTreeSet<Scope>)> =
            waiting.map(|(scope, hold)| (scope.clone(), std::mem::take(&mut hold.looked_into))).collect();
        for (scope, objects) in &waiting {
            let is_decided = |object: &Scope| self.absent.is_departed(object) || self.is_absent(object);
            if objects.iter().all(is_decided) {
                self.release(scope.clone(), effects);
            } else {
                self.refute(scope, effects);
            }
        }
        waiting.is_empty()
    }
}

/// What an answer says about a missing row.
#[derive(Clone, Debug)]
pub(super) enum ProbeResult {
    /// It is there, or nobody can tell.
    There,
    /// It is not there. An object of its own may be deleted or hidden.
    Gone(Option<Scope>),
    /// It is not there, and neither is what it hangs on.
    Unclear(Scope),
}

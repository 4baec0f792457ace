//! Users, groups and apps that a read by id does not find.
//!
//! A 404 says "gone" or "not visible to this credential" (facts 7.2). It is believed when the System Log has told of the
//! deletion. Else the object is asked for once more after a while; then the log is searched for deletions; and if that tells
//! nothing either, everything that is stored of it stays, a gap says so, and it is asked for ever more rarely.
//!
//! Entry points: [`SyncState::on_object_not_found`], [`SyncState::search_for_deletions`], [`SyncState::on_deletions`].
//!
//! Invariants:
//! - Nothing is removed because of a 404 alone.
//! - An object that waits for its second look or for the search is asked for no more often than its debt says.
//! - The debt of an object that waits for a search is taken; whatever ends the wait gives it back or pays it.
//! - What is known to be gone is gone for good: ids are never used again. Its removal is newer than every request that was sent
//!   before it, so that no list which an outdated replica has answered keeps it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::coverage::{Gap, GapKind};
use super::super::ids::{AppId, RequestNumber, Timestamp};
use super::super::model::{Key, Scope};
use super::super::pending::{Target, When};
use super::{Batch, Call, CallId, Effect, Pending, SyncState, paid};

/// Searched this far before the last moment at which everything was shown, in milliseconds: clocks differ, and events come
/// late.
const SEARCH_MARGIN_MILLIS: i64 = 60 * 60 * 1000;

/// Okta keeps the log for 90 days; asking for more is refused beyond 180 (facts 8.1).
const RETENTION_MILLIS: i64 = 89 * 86_400_000;

/// A crawl that follows no log searches once more after this time, in milliseconds: events come seconds late.
const SEARCH_AGAIN_MILLIS: i64 = 3_000;

/// Between two looks at unseen objects, for each of them, in milliseconds: a thousand take a request a second.
const LOOK_MILLIS_EACH: i64 = 1_000;

/// Objects that are known to be gone, remembered for hints that come late; some 100 bytes each.
const DEPARTED_MAX: usize = 10_000;

/// How long these are remembered, in milliseconds.
const DEPARTED_MILLIS: i64 = 60 * 60 * 1000;

/// An object that waits for the search.
#[derive(Clone, Copy, Debug)]
struct Ripe {
    /// The request that did not find it.
    at: RequestNumber,
    since: Timestamp,
}

/// A search under way; the objects that it is about are in [`Absent`], since they may be shown meanwhile.
#[derive(Debug)]
pub(super) struct Search {
    /// Held lists, each with the probed objects that were not found.
    holds: BTreeMap<Scope, BTreeSet<Scope>>,
    /// Whether it goes back as far as the log does.
    is_deep: bool,
}

/// What it means that an object is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// It had a gap.
    pub(super) had_gap: bool,
    /// It is known to be gone.
    pub(super) was_departed: bool,
    /// It waited for a search, or for the end of one: its debt is to be given back.
    pub(super) waited: bool,
}

/// What is known about objects that are not found.
#[derive(Debug, Default)]
pub(super) struct Absent {
    ripe: BTreeMap<Scope, Ripe>,
    holds: BTreeMap<Scope, BTreeSet<Scope>>,
    /// Whether some of these lists were held before.
    are_old: bool,
    /// What the search under way is about.
    searching: Option<BTreeMap<Scope, Ripe>>,
    /// Not before this time is the log searched.
    search_at: Option<Timestamp>,
    /// All of the log was searched for them, and told nothing.
    searched: BTreeSet<Scope>,
    /// Those with an open gap.
    unseen: BTreeSet<Scope>,
    departed: BTreeMap<Scope, Departed>,
}

/// An object that is gone for good.
#[derive(Clone, Copy, Debug)]
struct Departed {
    /// Since when that is known.
    at: Timestamp,
    /// Requests with smaller numbers were sent before.
    by: RequestNumber,
}

/// What a search showed.
#[derive(Clone, Debug, Default)]
pub struct DeletionsSeen {
    /// Users, groups and apps that events say are deleted.
    pub objects: BTreeSet<Scope>,
    /// Whether the log was read to its end.
    pub is_whole: bool,
}

impl Absent {
    pub(super) fn new(unseen: BTreeSet<Scope>) -> Self {
        Self { unseen, ..Self::default() }
    }

    /// Whether nothing waits for a search.
    pub(super) fn is_settled(&self) -> bool {
        self.ripe.is_empty() && self.holds.is_empty() && self.searching.is_none()
    }

    /// When the next search may begin, if one is wanted.
    pub(super) fn next_search(&self) -> Option<Timestamp> {
        let is_wanted = !(self.searching.is_some() || self.ripe.is_empty() && self.holds.is_empty());
        self.search_at.filter(|_| is_wanted)
    }

    /// Whether a gap says that it is not shown.
    pub(super) fn is_unseen(&self, object: &Scope) -> bool {
        self.unseen.contains(object)
    }

    pub(super) fn unseen(&self) -> impl Iterator<Item = &Scope> {
        self.unseen.iter()
    }

    pub(super) fn is_departed(&self, object: &Scope) -> bool {
        self.departed.contains_key(object)
    }

    /// Apps that are known to be gone.
    pub(super) fn departed_apps(&self) -> impl Iterator<Item = AppId> {
        self.departed.keys().filter_map(app_of)
    }

    /// Number of users who were deleted since, as far as they are remembered.
    pub(super) fn departed_users_since(&self, since: Timestamp) -> u64 {
        let users = self.departed.iter().filter(|(object, gone)| matches!(object, Scope::User(_)) && gone.at >= since);
        users.count() as u64
    }

    /// The object was shown, by request `at`. What an earlier request did not find is no question any more.
    pub(super) fn found(&mut self, object: &Scope, at: RequestNumber) -> Shown {
        let mut shown = Shown { had_gap: false, was_departed: false, waited: false };
        for waiting in [Some(&mut self.ripe), self.searching.as_mut()].into_iter().flatten() {
            if waiting.get(object).is_some_and(|ripe| ripe.at < at) {
                waiting.remove(object);
                self.searched.remove(object);
                shown.waited = true;
            }
        }
        if !(self.unseen.is_empty() && self.departed.is_empty()) {
            self.searched.remove(object);
            // What was asked for before it was known shows nothing new.
            if self.departed.get(object).is_some_and(|gone| gone.by <= at) {
                self.departed.remove(object);
                shown.was_departed = true;
            }
            shown.had_gap = self.unseen.remove(object);
        }
        shown
    }

    /// It is gone for good, as is known since `now`; requests with smaller numbers than `by` were sent before.
    pub(super) fn depart(&mut self, object: Scope, now: Timestamp, by: RequestNumber) {
        self.ripe.remove(&object);
        if let Some(searching) = &mut self.searching {
            searching.remove(&object);
        }
        self.unseen.remove(&object);
        self.searched.remove(&object);
        if self.departed.len() >= DEPARTED_MAX {
            self.departed.retain(|_, gone| now.millis_since(gone.at) < DEPARTED_MILLIS);
        }
        self.departed.insert(object, Departed { at: now, by });
    }

    /// An event says that it is gone: what the search would have told. Returns whether it waited for that.
    fn announced(&mut self, object: &Scope) -> bool {
        self.ripe.remove(object).is_some()
    }

    /// Polls may never show what has happened since; a search does.
    pub(super) fn search_again(&mut self) {
        self.searched.clear();
    }

    /// All objects that were probed of a held list are not found. `is_old`: the log has told nothing before.
    pub(super) fn hold(&mut self, scope: Scope, objects: BTreeSet<Scope>, is_old: bool) {
        self.are_old |= is_old;
        self.holds.insert(scope, objects);
    }
}

pub(super) fn app_of(object: &Scope) -> Option<AppId> {
    match object {
        Scope::App(app) => Some(app.clone()),
        _ => None,
    }
}

impl SyncState {
    /// Whether it is open what became of an object: then what hangs on it stays.
    pub(super) fn is_absent(&self, object: &Scope) -> bool {
        let target = object.object().as_ref().and_then(Target::of_object);
        self.absent.unseen.contains(object)
            || self.absent.ripe.contains_key(object)
            || target.and_then(|target| self.debts.get(&target)).is_some_and(|read| read.absent_since.is_some())
    }

    /// An event says that something is gone.
    pub(super) fn announce(&mut self, target: &Target) {
        self.debts.announce(target);
        let object = match target {
            Target::User(user) => Scope::User(user.clone()),
            Target::Group(group) => Scope::Group(group.clone()),
            Target::App(app) => Scope::App(app.clone()),
            _ => return,
        };
        if self.absent.announced(&object) {
            self.debts.give_back(target);
        }
    }

    /// A read by id did not find an object. Returns whether it is known to be gone.
    pub(super) fn on_object_not_found(&mut self, object: &Scope, at: RequestNumber) -> bool {
        let Some(target) = object.object().as_ref().and_then(Target::of_object) else { return false };
        let debt = self.debts.get(&target).cloned();
        if self.absent.is_departed(object) || debt.as_ref().is_some_and(|read| read.announced) {
            return true;
        }
        let now = self.moment.now;
        let Some(debt) = debt else {
            // Nobody follows: there is no second look, only the search.
            if self.follow.is_none() {
                self.absent.ripe.insert(object.clone(), Ripe { at, since: now });
            }
            return false;
        };
        let since = debt.absent_since.unwrap_or(now);
        let grace_over_at = since.plus_millis(self.debts.patience().later_millis);
        if self.absent.unseen.contains(object) && self.absent.searched.contains(object) {
            self.debts.not_found(&target, now, self.next_look(since));
        } else if debt.absent_since.is_some() && grace_over_at <= now {
            // The debt stays taken until the search has told.
            self.absent.ripe.insert(object.clone(), Ripe { at, since });
        } else {
            self.debts.not_found(&target, now, grace_over_at.max(now));
        }
        false
    }

    /// When an object is asked for again that has not been found since `since`: as much later as it has been, within the
    /// bounds of held lists.
    pub(super) fn next_look(&self, since: Timestamp) -> Timestamp {
        let now = self.moment.now;
        let (first, longest) = self.follow.as_ref().map_or((30_000, 900_000), |follow| follow.hold_retry_millis);
        let crowd = i64::try_from(self.absent.unseen.len()).unwrap_or(i64::MAX).saturating_sub(1);
        let wait = now.millis_since(since).clamp(first.max(1), longest.max(first).max(1));
        now.plus_millis(wait.max(crowd.saturating_mul(LOOK_MILLIS_EACH)))
    }

    /// Searches the log for deletions when somebody waits for that.
    pub(super) fn search_for_deletions(&mut self, effects: &mut Vec<Effect>) {
        let absent = &mut self.absent;
        let is_due = absent.search_at.is_none_or(|at| at <= self.moment.now);
        if absent.searching.is_some() || !is_due || (absent.ripe.is_empty() && absent.holds.is_empty()) {
            return;
        }
        absent.search_at = None;
        let objects = std::mem::take(&mut absent.ripe);
        let holds = std::mem::take(&mut absent.holds);
        let okta_now = self.moment.okta_now;
        let oldest = okta_now.plus_millis(-RETENTION_MILLIS);
        // When everything was last shown; and for what was missing before that, a crawl earlier.
        let crawl_millis = self.follow.as_ref().map_or(0, |follow| follow.crawl_millis);
        let missed_since = objects.values().map(|ripe| ripe.since.plus_millis(-crawl_millis)).min();
        let since = [Some(self.crawl.whole_since.unwrap_or(oldest)), missed_since].into_iter().flatten().min();
        // Of what was unseen or held before nobody knows when it was shown last: the last crawl may have come long after the one before,
        // or have left out its list.
        let is_old = std::mem::take(&mut absent.are_old) || objects.keys().any(|object| absent.unseen.contains(object));
        let since = since.filter(|_| !is_old).unwrap_or(oldest).plus_millis(-SEARCH_MARGIN_MILLIS).max(oldest);
        let search = Search { holds, is_deep: since <= oldest };
        absent.searching = Some(objects);
        self.call(Call::SearchDeletions { since }, Pending::Search(search), effects);
    }

    pub(super) fn on_deletions(&mut self, call: CallId, seen: &DeletionsSeen, effects: &mut Vec<Effect>) {
        let Some(Pending::Search(search)) = self.answered(call, |pending| matches!(pending, Pending::Search(_))) else {
            return;
        };
        self.settle_search(search, seen, effects);
    }

    pub(super) fn settle_search(&mut self, search: Search, seen: &DeletionsSeen, effects: &mut Vec<Effect>) {
        let objects = self.absent.searching.take().unwrap_or_default();
        let mut gaps = self.batch();
        gaps.departed_apps.extend(seen.objects.iter().filter_map(app_of));
        let mut waiting = BTreeMap::new();
        // Apps first: a group may be gone because of one.
        let (apps, others): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|(object, _)| matches!(object, Scope::App(_)));
        for (object, ripe) in apps.into_iter().chain(others) {
            let Some(key) = object.object() else { continue };
            let Some(target) = Target::of_object(&key) else { continue };
            let is_announced = self.debts.get(&target).is_some_and(|read| read.announced);
            if seen.objects.contains(&object) || is_announced {
                self.remove_object(&key, effects);
            } else if self.follow.is_none() && seen.is_whole && self.absent.searched.insert(object.clone()) {
                // Deleted a moment ago, perhaps: the event may be on its way.
                waiting.insert(object, ripe);
            } else {
                self.say_unseen(object, &target, ripe, (seen.is_whole, search.is_deep), &mut gaps);
            }
        }
        for (scope, objects) in search.holds {
            let untold = objects.difference(&seen.objects).cloned().collect();
            self.holds_searched(&scope, untold, &seen.objects, effects);
        }
        if !gaps.gaps.is_empty() || self.debts.has_changed() {
            self.commit(gaps, effects);
        }
        if !waiting.is_empty() {
            self.absent.search_at = Some(self.moment.now.plus_millis(SEARCH_AGAIN_MILLIS));
            self.absent.ripe.extend(waiting);
        }
    }

    fn say_unseen(
        &mut self,
        object: Scope,
        target: &Target,
        ripe: Ripe,
        (is_whole, is_deep): (bool, bool),
        batch: &mut Batch,
    ) {
        let told = if is_whole { "tells of no deletion" } else { "could not be searched for a deletion" };
        let evidence = format!("asked for by id, 404 E0000007, first at {}; the System Log {told}", ripe.since);
        // Else the next look is followed by another search, of all of the log.
        if is_whole && is_deep {
            self.absent.searched.insert(object.clone());
        } else {
            self.absent.searched.remove(&object);
        }
        batch.departed_apps.extend(self.absent.departed_apps());
        if let Scope::Group(group) = &object
            && !batch.departed_apps.is_empty()
        {
            // As old as the oldest of the answers: what was shown since stays.
            batch.at = if batch.forgettable.is_empty() { ripe.at } else { batch.at.min(ripe.at) };
            batch.is_reread = true;
            batch.forgettable.push(group.clone());
        }
        self.absent.unseen.insert(object.clone());
        batch.gaps.push(Gap { scope: object, kind: GapKind::UnseenReference, evidence });
        if self.debts.get(target).is_some() {
            self.debts.not_found(target, self.moment.now, self.next_look(ripe.since));
        }
    }

    /// An object is gone, with everything that hangs on it.
    fn remove_object(&mut self, key: &Key, effects: &mut Vec<Effect>) {
        let mut batch = self.batch();
        batch.at = self.next_number();
        batch.is_reread = true;
        batch.removals.push(key.clone());
        self.note_gone(key, &mut batch);
        if let Some(target) = Target::of_object(key).filter(|target| self.debts.get(target).is_some()) {
            batch.answered.push(paid(target, batch.at));
        }
        self.commit(batch, effects);
    }

    /// The number of a request that would be sent now: later than every answer under way, and no later than what is asked for
    /// from now on.
    pub(super) fn next_number(&self) -> RequestNumber {
        RequestNumber(self.moment.newest.0.saturating_add(1))
    }

    /// What is owed because of something that is gone needs no read of its own.
    pub(super) fn note_gone(&mut self, key: &Key, batch: &mut Batch) {
        if let Some(object) = Scope::of_object(key) {
            self.absent.depart(object, self.moment.now, self.next_number());
        }
        self.pay_what_is_gone(key, batch);
    }

    /// An operator says that an unseen object is gone; the store has removed it.
    pub(super) fn on_object_released(&mut self, object: &Scope, effects: &mut Vec<Effect>) {
        let Some(key) = object.object() else { return };
        let mut batch = self.batch();
        batch.at = self.next_number();
        self.note_gone(&key, &mut batch);
        if let Some(target) = Target::of_object(&key) {
            batch.answered.extend(self.debts.unwanted(&target));
        }
        batch.settled.push((key, batch.at));
        self.commit_if_any(batch, effects);
    }

    /// Unseen objects whose reads are not owed: found by a crawl that did not follow.
    pub(super) fn owe_unseen(&mut self) {
        let targets = self.absent.unseen.iter().filter_map(Scope::object).filter_map(|key| Target::of_object(&key));
        let missing: Vec<Target> = targets.filter(|target| self.debts.get(target).is_none()).collect();
        for target in missing {
            self.owe(target, When::Now, "not shown");
        }
    }
}

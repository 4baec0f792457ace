//! What was seen lately: an answer that comes late is known to be old.
//!
//! Entry point: [`Guard::is_outdated`]. All of it is the writer's memory: no request of an earlier process can arrive, so
//! a restart may forget it.
//!
//! Invariants:
//! - An observation is outdated when its row was read again by a later request, when a walk of its collection that began
//!   later has ended, or when its user, app or group was found to be gone by a later request.
//! - What is remembered is bounded in time and in number; what is forgotten no longer guards.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::core::ids::{RequestNumber, Timestamp};
use crate::core::model::{Key, Scope};

/// How long an answer may be under way, in milliseconds: longer than any request with all its tries takes.
const REMEMBERED_MILLIS: i64 = 30 * 60 * 1000;

/// How long lists that are made from an index may lag behind a read by id, in milliseconds: they do by seconds
/// (facts 11). An object whose date goes backwards for good must not be ignored for good.
const LIST_LAG_MILLIS: i64 = 10 * 60 * 1000;

/// Entries of each memory; beyond it the oldest goes. 100,000 are some 30 MB, and more than is read again by hints in half
/// an hour.
const ENTRIES_MAX: usize = 100_000;

/// The largest request number by key.
#[derive(Debug)]
struct Latest<K> {
    by_key: HashMap<K, Entry>,
    /// Oldest first; an entry that was renewed stands here once more, and only its last place counts.
    order: VecDeque<(u64, Timestamp, K)>,
    next_place: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    number: RequestNumber,
    noted_at: Timestamp,
    place: u64,
}

impl<K> Default for Latest<K> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), order: VecDeque::new(), next_place: 0 }
    }
}

impl<K: Clone + Eq + Hash> Latest<K> {
    fn note(&mut self, key: K, number: RequestNumber, now: Timestamp) {
        if self.by_key.get(&key).is_some_and(|entry| entry.number > number) {
            return;
        }
        let place = self.next_place;
        self.next_place += 1;
        self.by_key.insert(key.clone(), Entry { number, noted_at: now, place });
        self.order.push_back((place, now, key));
        while self.order.len() > ENTRIES_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((place, _, key)) = self.order.pop_front() else { return };
        if self.by_key.get(&key).is_some_and(|entry| entry.place == place) {
            self.by_key.remove(&key);
        }
    }

    fn forget_before(&mut self, oldest: Timestamp) {
        while self.order.front().is_some_and(|(_, noted_at, _)| *noted_at < oldest) {
            self.forget_oldest();
        }
    }

    fn is_after(&self, key: &K, number: RequestNumber) -> bool {
        self.by_key.get(key).is_some_and(|entry| entry.number > number)
    }
}

/// The memory of one writer.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Rows that were read again by hints, or found to be gone.
    reread: Latest<Key>,
    /// First request of the last complete walk.
    walked: Latest<Scope>,
    /// Users, groups and apps that were removed.
    removed: Latest<Key>,
}

/// The user, group and app that a row hangs on; for a user, group or app, itself.
fn parents(key: &Key) -> Vec<Key> {
    match key {
        Key::User(_) | Key::Group(_) | Key::App(_) => vec![key.clone()],
        Key::GroupMember(group, user) => vec![Key::Group(group.clone()), Key::User(user.clone())],
        Key::AppUser(app, user) => vec![Key::App(app.clone()), Key::User(user.clone())],
        Key::AppGroup(app, group) => vec![Key::App(app.clone()), Key::Group(group.clone())],
    }
}

impl Guard {
    /// Forgets what is too old to matter.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let oldest = now.plus_millis(-REMEMBERED_MILLIS);
        self.reread.forget_before(oldest);
        self.walked.forget_before(oldest);
        self.removed.forget_before(oldest);
    }

    /// A row was read again, or found to be gone, because of a hint.
    pub(super) fn reread(&mut self, key: Key, number: RequestNumber, now: Timestamp) {
        self.reread.note(key, number, now);
    }

    /// A walk that began with request `from` has come to its end.
    pub(super) fn walked(&mut self, scope: Scope, from: RequestNumber, now: Timestamp) {
        self.walked.note(scope, from, now);
    }

    /// An object is gone for sure.
    pub(super) fn removed(&mut self, key: Key, number: RequestNumber, now: Timestamp) {
        self.removed.note(key, number, now);
    }

    /// Whether something later is known about the row than what request `number` showed.
    pub(super) fn is_outdated(&self, key: &Key, number: RequestNumber) -> bool {
        self.reread.is_after(key, number)
            || (!self.walked.by_key.is_empty() && self.walked.is_after(&key.scope(), number))
            || (!self.removed.by_key.is_empty()
                && parents(key).iter().any(|parent| self.removed.is_after(parent, number)))
    }

    /// Whether the row was read by a hint so lately that a list may still show what it was before.
    pub(super) fn may_lag(&self, key: &Key, now: Timestamp) -> bool {
        self.reread.by_key.get(key).is_some_and(|entry| now.millis_since(entry.noted_at) <= LIST_LAG_MILLIS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{AppId, GroupId, UserId};

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    fn user(id: &str) -> UserId {
        UserId::new(id).unwrap()
    }

    fn app() -> AppId {
        AppId::new("0oa1").unwrap()
    }

    fn group() -> GroupId {
        GroupId::new("00g1").unwrap()
    }

    #[track_caller]
    fn check(guard: &Guard, key: &Key, outdated_below: u64) {
        if outdated_below > 0 {
            assert!(guard.is_outdated(key, RequestNumber(outdated_below - 1)), "{key:?}: one number earlier");
        }
        assert!(!guard.is_outdated(key, RequestNumber(outdated_below)), "{key:?}: the number itself");
    }

    #[test]
    fn a_later_look_makes_an_earlier_one_outdated() {
        let mut guard = Guard::default();
        let member = Key::GroupMember(group(), user("00u1"));
        let account = Key::AppUser(app(), user("00u1"));
        let grant = Key::AppGroup(app(), group());
        check(&guard, &member, 0);
        guard.reread(member.clone(), RequestNumber(7), at(0));
        guard.reread(member.clone(), RequestNumber(5), at(0)); // Late itself.
        check(&guard, &member, 7);
        check(&guard, &account, 0);
        guard.walked(Scope::GroupMembers(group()), RequestNumber(9), at(0));
        check(&guard, &member, 9);
        check(&guard, &Key::GroupMember(group(), user("00u2")), 9);
        check(&guard, &Key::Group(group()), 0);
        guard.removed(Key::User(user("00u1")), RequestNumber(20), at(0));
        check(&guard, &Key::User(user("00u1")), 20);
        check(&guard, &account, 20);
        check(&guard, &member, 20);
        check(&guard, &grant, 0);
        guard.removed(Key::App(app()), RequestNumber(30), at(0));
        check(&guard, &account, 30);
        check(&guard, &grant, 30);
        guard.removed(Key::Group(group()), RequestNumber(40), at(0));
        check(&guard, &grant, 40);
        check(&guard, &Key::GroupMember(group(), user("00u2")), 40);
    }

    #[test]
    fn memories_end() {
        let mut guard = Guard::default();
        let key = Key::User(user("00u1"));
        guard.reread(key.clone(), RequestNumber(7), at(0));
        assert!(guard.may_lag(&key, at(10)));
        assert!(!guard.may_lag(&key, at(11)));
        guard.forget_old(at(30));
        check(&guard, &key, 7);
        guard.reread(key.clone(), RequestNumber(8), at(20)); // Renewed: its first place in the order is void.
        guard.forget_old(at(31));
        check(&guard, &key, 8);
        guard.forget_old(at(51));
        check(&guard, &key, 0);
        for n in 0..=ENTRIES_MAX {
            guard.reread(Key::User(user(&format!("u{n}"))), RequestNumber(7), at(60));
        }
        check(&guard, &Key::User(user("u0")), 0);
        check(&guard, &Key::User(user("u1")), 7);
        assert_eq!(guard.reread.by_key.len(), ENTRIES_MAX);
    }
}

//! Who may be meant by names that were asked for before.
//!
//! Entry points: [`Names::get`] and [`Names::put`] for readers, [`Names::note`] for the writer.
//!
//! Documents name the same few people again and again. What a name leads to is three to five descents in trees of millions of
//! rows; to remember it costs a look into a table. One table serves all connections of a store: what one has read the others
//! need not.
//!
//! Invariants:
//! - What is answered was read at the very revision that is asked about, or no revision in between has touched the name or any
//!   of those whom it leads to ([`super::touched`]). Every change of a user, an account or a name makes a revision, and so does a new past
//!   holder of one (`store::apply`), in the one process that writes. A debug build reads everything again and compares.
//! - Bounded, see [`SLOTS`] and [`TEXT_BYTES_MAX`]: mostly some 40 MiB, and never more than about 100.
//! - Nothing is dropped all at once: what is out of date goes when its place is taken.
//! - Nothing gives way but to a name that is asked for again, and what is out of date first: where all names are asked for alike, in an
//!   org of many more than have a place, none would be there when it is asked for the next time, and to remember it costs as much
//!   as a descent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::sync::ShardedLock;

use super::register::Register;
use super::snapshot::AccountHit;
use super::touched::{LastTouched, Touched};
use crate::core::ids::{AppId, Revision};
use crate::core::resolve::AskedOf;

/// Names that are remembered in one set, of which the one that was asked for longest ago gives way.
const WAYS: usize = 4;

/// Parts of the table with a lock each, so that connections seldom wait for each other. A power of two.
const SHARDS: usize = 64;

/// Names that are remembered. A power of two.
const SLOTS: usize = 65_536;

/// Sets in a part.
const SETS: usize = SLOTS / SHARDS / WAYS;

/// Text in the rows of a name that is remembered, in bytes; mostly 100 to 300.
const TEXT_BYTES_MAX: usize = 512;

/// Candidates of such a name; hardly any has more than one.
pub(super) const HITS_MAX: usize = 2;

/// What was asked: surrogate of the app, key of the name, fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) app: i64,
    pub(super) key: i64,
    pub(super) of: AskedOf,
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// All candidates.
    pub(super) hits: Arc<[AccountHit]>,
    /// Surrogates of the users, 0 where there are fewer.
    pub(super) users: [i64; HITS_MAX],
    /// Whether somebody had the name before. Of a name whose past is forgotten that may still be told.
    pub(super) has_past: bool,
}

impl Named {
    /// Of candidates in the order of their surrogates; `None`: there are more than are remembered.
    pub(super) fn new(hits: Arc<[AccountHit]>, surrogates: &[i64], has_past: bool) -> Option<Self> {
        let mut users = [0; HITS_MAX];
        users.get_mut(..surrogates.len())?.copy_from_slice(surrogates);
        Some(Self { hits, users, has_past })
    }
}

#[derive(Debug)]
struct Slot {
    name: Name,
    revision: Revision,
    named: Named,
}

/// Names that were asked for lately and are not remembered: a mark for each, which others overwrite. A power of two.
const MARKS: usize = 4 * SLOTS;

/// Marks in a part.
const SHARD_MARKS: usize = MARKS / SHARDS;

/// A part of the table.
#[derive(Debug, Default)]
struct Shard {
    /// Sets of [`WAYS`], each with the latest first; nothing until something is remembered.
    slots: Vec<Option<Slot>>,
    /// 16 bits of the name in each slot, 0 where there is none: most that are asked for are nowhere, and to see that in the slots
    /// themselves misses the cache of the processor.
    tags: Vec<u16>,
    /// 16 bits of a name each; nothing until they are needed.
    marks: Vec<u16>,
}

impl Shard {
    fn set(&mut self, place: Place) -> &mut [Option<Slot>] {
        self.slots.get_mut(place.first..place.first + WAYS).unwrap_or_default()
    }

    fn tags(&mut self, place: Place) -> &mut [u16] {
        self.tags.get_mut(place.first..place.first + WAYS).unwrap_or_default()
    }

    /// Where in its set a name is.
    fn position(&mut self, name: Name, place: Place) -> Option<usize> {
        if !self.tags(place).contains(&place.bits) {
            return None;
        }
        self.set(place).iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.name == name))
    }

    /// Makes this slot of a set the latest.
    fn lead(&mut self, place: Place, position: usize) {
        if let Some(slots) = self.set(place).get_mut(..=position) {
            slots.rotate_right(1);
        }
        if let Some(tags) = self.tags(place).get_mut(..=position) {
            tags.rotate_right(1);
        }
    }

    /// Whether the name was marked; it is from now on.
    fn mark(&mut self, place: Place) -> bool {
        if self.marks.is_empty() {
            self.marks.resize(SHARD_MARKS, 0);
        }
        self.marks.get_mut(place.mark).is_some_and(|mark| std::mem::replace(mark, place.bits) == place.bits)
    }
}

/// Where a name belongs.
#[derive(Clone, Copy, Debug)]
struct Place {
    shard: usize,
    /// Where its set begins in the part.
    first: usize,
    /// Its mark in the part, and what that is; never 0.
    mark: usize,
    bits: u16,
}

impl Place {
    fn of(name: Name) -> Self {
        // The key is evenly spread itself; the same name in several apps must not share a set.
        let mixed = name.key.cast_unsigned() ^ name.app.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        #[expect(clippy::cast_possible_truncation, reason = "some bits of a hash")]
        let (low, high) = (mixed as usize, (mixed >> 32) as usize);
        let (shard, set) = (low % SHARDS, low / SHARDS % SETS);
        let mark = ((low / SHARDS / SETS) ^ high) % SHARD_MARKS;
        let bits = (mixed >> 48) as u16 | 1;
        Self { shard, first: set * WAYS, mark, bits }
    }
}

/// What the connections of a store remember.
#[derive(Debug)]
pub(super) struct Names {
    shards: [Mutex<Shard>; SHARDS],
    touched: LastTouched,
    /// What has all names, as they were when it was made.
    register: ShardedLock<Option<Arc<Register>>>,
}

impl Default for Names {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, touched: LastTouched::default(), register: ShardedLock::default() }
    }
}

impl Names {
    fn shard(&self, place: Place) -> Option<MutexGuard<'_, Shard>> {
        // Nothing panics while it is held.
        Some(self.shards.get(place.shard)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what a transaction changes, before it is committed.
    pub(super) fn note(&self, touched: &mut Touched, revision: Revision) {
        self.touched.note(touched, revision);
    }

    /// Takes a register into use, in place of another, or none; `touched`: what changed since it was made, up to this revision.
    pub(super) fn adopt(&self, register: Option<Register>, touched: &mut Touched, revision: Revision) {
        self.note(touched, revision);
        let register = register.map(Arc::new);
        let former = std::mem::replace(&mut *self.register.write().unwrap_or_else(PoisonError::into_inner), register);
        // Its file is closed when nobody waits for that.
        drop(former);
    }

    /// The register that is in use.
    pub(super) fn register(&self) -> Option<Arc<Register>> {
        self.register.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The share of users, 0 to 1, whom revisions since this one may have touched: those count who share a place with one.
    pub(super) fn touched_share(&self, since: Revision) -> f64 {
        self.touched.share(since)
    }

    /// The same as [`Names::get`] by the register: where that knows it.
    pub(super) fn registered(&self, app: &AppId, name: Name, revision: Revision) -> Option<Named> {
        // Without a share of it, to count which would have all cores wait for each other.
        let register = self.register.read().unwrap_or_else(PoisonError::into_inner);
        register.as_deref()?.find(app, name, revision, &self.touched)
    }

    /// What the name leads to at this revision, of which the caller holds a snapshot.
    pub(super) fn get(&self, name: Name, revision: Revision) -> Option<Named> {
        let place = Place::of(name);
        let mut shard = self.shard(place)?;
        let found = shard.position(name, place)?;
        shard.lead(place, found);
        let (named, read_at) = shard.set(place).first()?.as_ref().map(|slot| (slot.named.clone(), slot.revision))?;
        drop(shard);
        (read_at == revision || self.is_good(name, &named, read_at.min(revision))).then_some(named)
    }

    /// Whether what was remembered holds for all revisions from this one up to the newest.
    fn is_good(&self, name: Name, named: &Named, since: Revision) -> bool {
        self.touched.is_untouched(since, name.key, &named.users[..named.hits.len().min(HITS_MAX)])
    }

    /// Remembers what the name leads to at this revision, unless it is too much, or another would have to give way to a name that
    /// was not asked for lately.
    pub(super) fn put(&self, name: Name, revision: Revision, named: Named) {
        let place = Place::of(name);
        let Some(mut shard) = self.shard(place) else { return };
        if shard.slots.is_empty() {
            shard.slots.resize_with(SETS * WAYS, || None);
            shard.tags.resize(SETS * WAYS, 0);
        }
        // First, and by what is in the cache of the processor: where all names are asked for alike, nearly none gets a place.
        let own = shard.position(name, place);
        let has_chance = own.is_some() || shard.tags(place).contains(&0) || shard.mark(place);
        let text: usize = if has_chance { named.hits.iter().map(text_bytes).sum() } else { 0 };
        // A commit may have come in between.
        if !has_chance || text > TEXT_BYTES_MAX || !self.is_good(name, &named, revision) {
            return;
        }
        let is_newer = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.revision > revision);
        let is_bad =
            |slot: &Option<Slot>| slot.as_ref().is_none_or(|slot| !self.is_good(slot.name, &slot.named, slot.revision));
        // Its own place, the last that is of no use any more, or else the one that was asked for longest ago. What an answer of an
        // earlier state has read is of no use to those of a later one.
        let gives_way = match own {
            Some(same) if shard.set(place).get(same).is_some_and(is_newer) => return,
            Some(same) => same,
            None => shard.set(place).iter().rposition(is_bad).unwrap_or(WAYS - 1),
        };
        let slot = Slot { name, revision, named };
        // What gives way is dropped once the lock is not held any more.
        let _former = shard.set(place).get_mut(gives_way).and_then(|former| former.replace(slot));
        if let Some(tag) = shard.tags(place).get_mut(gives_way) {
            *tag = place.bits;
        }
        shard.lead(place, gives_way);
        drop(shard);
    }
}

/// Bytes of text that a candidate takes.
fn text_bytes(hit: &AccountHit) -> usize {
    let len = |text: &Option<Box<str>>| text.as_deref().map_or(0, str::len);
    let of_user = hit.user.as_ref().map_or(0, |user| {
        let names = [&user.login, &user.email, &user.second_email];
        let shown = [&user.first_name, &user.last_name, &user.display_name];
        user.id.as_str().len() + names.into_iter().chain(shown).map(len).sum::<usize>()
    });
    let of_account = hit.app_user.as_ref().map_or(0, |account| {
        let ids = account.app.as_str().len() + account.user.as_str().len();
        let texts = [&account.user_name, &account.external_id, &account.email, &account.sync_state];
        ids + texts.into_iter().map(len).sum::<usize>()
    });
    of_user + of_account
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::UserId;
    use crate::core::model::{User, UserStatus};

    fn name(key: i64) -> Name {
        Name { app: 1, key, of: AskedOf::Accounts }
    }

    /// The number in an id.
    fn surrogate(id: &str) -> i64 {
        id.trim_start_matches("00u").parse().unwrap_or(1_000)
    }

    fn named(id: &str, first_name: &str) -> Named {
        let user = User {
            id: UserId::new(id).unwrap(),
            status: UserStatus::Active,
            login: None,
            email: None,
            second_email: None,
            first_name: Some(first_name.into()),
            last_name: None,
            display_name: None,
            created: None,
            last_updated: None,
            status_changed: None,
        };
        let hits = [AccountHit { user: Some(user), app_user: None }];
        Named::new(hits.into(), &[surrogate(id)], false).unwrap()
    }

    fn found(names: &Names, name: Name, revision: u64) -> Option<String> {
        let named = names.get(name, Revision(revision))?;
        Some(named.hits.first()?.user.as_ref()?.id.as_str().to_owned())
    }

    /// Names of one set.
    fn of_one_set(n: usize) -> Name {
        name(i64::try_from(n * SLOTS).unwrap())
    }

    /// A commit that changes the user with this number, and who has this name.
    fn commit(names: &Names, revision: u64, user: Option<i64>, key: Option<i64>) {
        let mut touched = Touched::default();
        user.into_iter().for_each(|user| touched.user(user));
        key.into_iter().for_each(|key| touched.key(key));
        names.note(&mut touched, Revision(revision));
    }

    #[test]
    fn only_the_very_question_is_answered() {
        let names = Names::default();
        assert_eq!(found(&names, name(7), 5), None, "nothing is remembered yet");
        names.put(name(7), Revision(5), named("00u1", ""));
        assert_eq!(found(&names, name(7), 5).as_deref(), Some("00u1"));
        let others = [
            Name { app: 2, ..name(7) },
            Name { of: AskedOf::AccountsAndUsers, ..name(7) },
            // Of the same set.
            name(7 + i64::try_from(SLOTS).unwrap()),
        ];
        for other in others {
            assert_eq!(found(&names, other, 5), None, "{other:?}");
        }
    }

    #[test]
    fn what_a_revision_has_touched_is_read_again() {
        // The user and the name that the commit of revision 6 touches; what is found at 4, 5, 6 and 7, remembered at 5.
        let cases = [
            (None, None, [true, true, true, true]),
            (Some(2), Some(8), [true, true, true, true]),
            (Some(1), None, [false, true, false, false]),
            (None, Some(7), [false, true, false, false]),
        ];
        for (user, key, expected) in cases {
            let names = Names::default();
            names.put(name(7), Revision(5), named("00u1", ""));
            commit(&names, 6, user, key);
            let all = [4, 5, 6, 7].map(|revision| found(&names, name(7), revision).is_some());
            assert_eq!(all, expected, "{user:?} {key:?}");
            // What is read of the state before meanwhile is not taken for the newest, and what is read of that is.
            names.put(name(7), Revision(5), named("00u1", ""));
            assert_eq!(found(&names, name(7), 6).is_some(), expected[2]);
            let of_now = named("00u1", "now");
            names.put(name(7), Revision(6), of_now.clone());
            names.put(name(7), Revision(5), named("00u1", ""));
            let found = names.get(name(7), Revision(7)).unwrap();
            assert_eq!(found.hits, of_now.hits);
            // Before, it was something else, if anything was touched.
            assert_eq!(names.get(name(7), Revision(5)).is_some(), expected[2]);
        }
    }

    #[test]
    fn who_was_asked_for_longest_ago_gives_way() {
        let names = Names::default();
        for n in 0..WAYS {
            names.put(of_one_set(n), Revision(1), named(&format!("00u{n}"), ""));
        }
        assert_eq!(found(&names, of_one_set(0), 1).as_deref(), Some("00u0"));
        let left = |last: usize| (0..=last).map(|n| found(&names, of_one_set(n), 1).is_some()).collect::<Vec<_>>();
        // Once is not enough to be remembered in the place of another.
        names.put(of_one_set(WAYS), Revision(1), named("00ux", ""));
        assert_eq!(left(WAYS), [true, true, true, true, false]);
        assert_eq!(found(&names, of_one_set(0), 1).as_deref(), Some("00u0"));
        names.put(of_one_set(WAYS), Revision(1), named("00ux", ""));
        assert_eq!(left(WAYS), [true, false, true, true, true]);
        let slots: usize = names.shards.iter().map(|shard| shard.lock().unwrap().slots.len()).sum();
        assert_eq!(slots, SETS * WAYS, "only the part that was needed");
    }

    #[test]
    fn what_is_of_no_use_any_more_gives_way_first() {
        let names = Names::default();
        (0..WAYS).for_each(|n| names.put(of_one_set(n), Revision(1), named(&format!("00u{n}"), "")));
        commit(&names, 2, Some(1), None);
        let ask_twice = |n| (0..2).for_each(|_| names.put(of_one_set(n), Revision(2), named("00u9", "")));
        ask_twice(WAYS);
        assert_eq!(found(&names, of_one_set(WAYS), 2).as_deref(), Some("00u9"));
        let left = (0..WAYS).map(|n| found(&names, of_one_set(n), 2).is_some()).collect::<Vec<_>>();
        assert_eq!(left, [true, false, true, true]);
        // What was read of a state that is over does not come in its place.
        commit(&names, 3, Some(9), None);
        ask_twice(WAYS + 1);
        assert_eq!(found(&names, of_one_set(WAYS + 1), 2), None);
    }

    #[test]
    fn names_that_recur_are_remembered_among_many_that_do_not() {
        let names = Names::default();
        let mut random = 7_i64;
        let ask = |names: &Names, key: i64| {
            let is_known = names.get(name(key), Revision(1)).is_some();
            if !is_known {
                names.put(name(key), Revision(1), named("00u1", ""));
            }
            is_known
        };
        let mut hits = 0;
        let rounds = 20;
        for round in 0..rounds {
            for n in 0..10_000_i64 {
                let spread =
                    |n: i64| n.wrapping_mul(0x1656_67b1_9e37_79f9).rotate_left(29).wrapping_mul(0x27d4_eb2f_1656_67c5);
                hits += u32::from(ask(&names, spread(n)) && round > 1);
                for _ in 0..3 {
                    random += 1;
                    ask(&names, spread(random + 1_000_000));
                }
            }
        }
        // After two rounds nearly all of those that recur are there.
        assert!(hits > 10_000 * (rounds - 2) * 95 / 100, "{hits}");
    }

    #[test]
    fn the_whole_table_is_used() {
        let names = Names::default();
        let sets = i64::try_from(SLOTS / WAYS).unwrap();
        (0..sets).for_each(|key| names.put(name(key), Revision(1), named("00u1", "")));
        assert!((0..sets).all(|key| names.get(name(key), Revision(1)).is_some()));
        assert!(names.shards.iter().all(|shard| shard.lock().unwrap().slots.len() == SETS * WAYS));
    }

    #[test]
    fn what_is_too_much_is_not_remembered() {
        let names = Names::default();
        names.put(name(1), Revision(1), named("00u1", &"x".repeat(TEXT_BYTES_MAX)));
        assert_eq!(found(&names, name(1), 1), None);
        let hits: Vec<AccountHit> = (0..=HITS_MAX).flat_map(|_| named("00u1", "").hits.to_vec()).collect();
        assert!(Named::new(hits.into(), &[1; HITS_MAX + 1], false).is_none());
    }
}

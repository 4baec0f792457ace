//! Since when nothing has changed of what a name leads to, for [`super::named`].
//!
//! Entry points: [`Touched`] for the writer, which collects what a transaction changes; [`LastTouched`] for everybody.
//!
//! The exact lists would be as long as the change log. Instead each key and each user has one of [`BUCKETS`] places, and a place
//! tells the last revision that has changed anything which belongs there: what shares a place is read again without need.
//!
//! Invariants:
//! - Whatever changes a row of a user or an account touches that user; whatever changes who has a name, or had it, touches the
//!   key of the name. There is one function for each (`Apply::log`, `Apply::key`, `Apply::release`). Past holders who are
//!   forgotten touch nothing: that a name has a past is taken for granted longer than it is true.
//! - A place is marked before the commit that changes what belongs there can be seen: whoever reads in a snapshot of that commit
//!   sees the mark. Between the two lie SQLite's own barriers, with which it publishes the commit to other connections.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::ids::Revision;

/// Places for keys, and as many for users: as many as names that are remembered, so that a commit about a hundred people forgets
/// few others. A power of two. With 8 bytes each: 512 KiB of each kind for a store.
const BUCKETS: usize = 65_536;

/// Words that hold a bit for each place.
const WORDS: usize = BUCKETS / 64;

fn bucket(n: i64) -> usize {
    // Keys are evenly spread themselves, surrogates are counted up.
    #[expect(clippy::cast_possible_truncation, reason = "some bits of a hash or number")]
    let low = n.cast_unsigned() as usize;
    low % BUCKETS
}

/// A bit for each place; nothing until something is touched.
#[derive(Debug, Default)]
struct Places(Vec<u64>);

impl Places {
    fn touch(&mut self, n: i64) {
        if self.0.is_empty() {
            self.0.resize(WORDS, 0);
        }
        let bucket = bucket(n);
        if let Some(word) = self.0.get_mut(bucket / 64) {
            *word |= 1 << (bucket % 64);
        }
    }

    /// All that were touched since the last time.
    fn drain(&mut self) -> impl Iterator<Item = usize> {
        let words = std::mem::take(&mut self.0).into_iter().enumerate();
        words.flat_map(|(place, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| place * 64 + bit))
    }
}

/// What a transaction changes: 16 KiB at most.
#[derive(Debug, Default)]
pub(super) struct Touched {
    keys: Places,
    users: Places,
}

impl Touched {
    /// Somebody gets or loses a name with this key, in any app or in Okta.
    pub(super) fn key(&mut self, key: i64) {
        self.keys.touch(key);
    }

    /// The row of a user, by surrogate, or of one of its accounts changes.
    pub(super) fn user(&mut self, user: i64) {
        self.users.touch(user);
    }
}

/// The last revisions that have touched each place.
#[derive(Debug)]
pub(super) struct LastTouched {
    keys: Box<[AtomicU64]>,
    users: Box<[AtomicU64]>,
}

impl Default for LastTouched {
    fn default() -> Self {
        let never = || (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { keys: never(), users: never() }
    }
}

impl LastTouched {
    /// Notes what a transaction has changed, before it is committed; `revision`: the one that it makes. If it is not committed after
    /// all, somewhat more is read again.
    pub(super) fn note(&self, touched: &mut Touched, revision: Revision) {
        for (places, buckets) in [(&self.keys, &mut touched.keys), (&self.users, &mut touched.users)] {
            for place in buckets.drain().filter_map(|bucket| places.get(bucket)) {
                // There is one writer, and its revisions grow; those of a transaction that failed come again.
                place.fetch_max(revision.0, Ordering::SeqCst);
            }
        }
    }

    /// The share of places for users that revisions after `since` have touched, 0 to 1.
    pub(super) fn share(&self, since: Revision) -> f64 {
        let touched = self.users.iter().filter(|place| place.load(Ordering::Relaxed) > since.0).count();
        #[expect(clippy::cast_precision_loss, reason = "at most 65,536")]
        let share = touched as f64 / BUCKETS as f64;
        share
    }

    /// Whether all revisions after `since` that anybody can see by now have left alone who has a name with this key, and these users.
    pub(super) fn is_untouched(&self, since: Revision, key: i64, users: &[i64]) -> bool {
        let is_old = |places: &[AtomicU64], n| {
            places.get(bucket(n)).is_some_and(|place| place.load(Ordering::SeqCst) <= since.0)
        };
        is_old(&self.keys, key) && users.iter().all(|user| is_old(&self.users, *user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_touched_is_older_than_its_revision() {
        let (last, mut touched) = (LastTouched::default(), Touched::default());
        assert!(last.is_untouched(Revision(0), 7, &[1, 2]));
        touched.key(7);
        touched.key(i64::MIN);
        touched.user(2);
        touched.user(i64::try_from(BUCKETS).unwrap() - 1);
        last.note(&mut touched, Revision(5));
        let cases: [(u64, i64, &[i64], bool); 9] = [
            (4, 7, &[], false),
            (5, 7, &[], true),
            (4, 8, &[], true),
            (4, i64::MIN, &[], false),
            (4, 8, &[1], true),
            (4, 8, &[1, 2], false),
            (4, 8, &[2, 1], false),
            (4, 8, &[65_535], false),
            (5, 7, &[1, 2, 65_535], true),
        ];
        for (since, key, users, expected) in cases {
            assert_eq!(last.is_untouched(Revision(since), key, users), expected, "{since} {key} {users:?}");
        }
        // Nothing is noted twice.
        last.note(&mut touched, Revision(9));
        assert!(last.is_untouched(Revision(5), 7, &[2]));
        // Of the same place.
        assert!(!last.is_untouched(Revision(4), 7 + i64::try_from(BUCKETS).unwrap(), &[]));
        touched.key(7);
        last.note(&mut touched, Revision(4));
        assert!(!last.is_untouched(Revision(4), 7, &[]), "a revision is not forgotten over an earlier one");
    }
}

//! Eras: which process has written which revisions.
//!
//! Entry points: [`Eras::begin`] at each opening for writing, [`Eras::of`] for a revision.
//!
//! A store that is put back from a backup keeps its id and goes on from an earlier revision, so a revision alone does not say
//! what was seen: it may come a second time, with another content. A revision and the era that made it do: an era has a random
//! name, one process writes in it, and a revision is handed out only once it is stored.
//!
//! | a client has seen | the store says of that revision | then |
//! |---|---|---|
//! | revision 150, era `b` | made in era `b` | the same content: it goes on from there |
//! | revision 150, era `b` | made in era `c`: the backup was older than `b`, or made in the midst of it | list again |
//! | revision 90, era `a` | made in era `a`: the backup is younger | it goes on from there |
//!
//! They are one value of the table `meta`, `name:first revision` in order. Invariants:
//! - The name of an era is stored before its first revision is.
//! - Of eras that made no revision only the present one is kept, and of others [`ERAS_MAX`]: whoever has seen an older one lists.

use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _};

use super::{StoreError, meta};
use crate::core::ids::Revision;

/// Eras that are remembered: starts of the process within the time that changes are kept. Some 30 bytes each, read by each
/// connection after each commit.
const ERAS_MAX: usize = 200;

/// The name of the value.
pub(super) const NAME: &str = "eras";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Era<'a> {
    name: &'a str,
    /// The first revision that it made, or will make.
    first: Revision,
}

/// All that are remembered, oldest first. As they are stored: every answer asks for the newest, and hardly any for another, so
/// that to take all apart would be in vain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Eras(String);

impl Eras {
    /// Of the stored value.
    pub(super) fn of_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Reads them; none in a store that no process has opened for writing which knows of eras.
    fn read(sql: &Connection) -> Result<Self, StoreError> {
        let mut select = sql.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        let text: Option<String> = select.query_row([NAME], |row| row.get(0)).optional()?;
        Ok(Self(text.unwrap_or_default()))
    }

    /// What is not understood is left out: whoever has seen revisions of it lists.
    fn each(&self) -> impl DoubleEndedIterator<Item = Era<'_>> {
        self.0.split(' ').filter_map(|word| {
            let (name, first) = word.split_once(':')?;
            Some(Era { name, first: Revision(first.parse().ok()?) })
        })
    }

    /// The era that made a revision, or that will make it unless the store is opened for writing before; `None` where that is
    /// not known.
    pub(super) fn of(&self, revision: Revision) -> Option<&str> {
        self.each().rev().find(|era| era.first <= revision).map(|era| era.name)
    }

    /// The same and the one that begins behind `newest`.
    fn and(&self, name: &str, newest: Revision) -> Self {
        let mut eras: Vec<Era<'_>> = self.each().filter(|era| era.first <= newest).collect();
        let excess = (eras.len() + 1).saturating_sub(ERAS_MAX);
        eras.drain(..excess);
        eras.push(Era { name, first: Revision(newest.0 + 1) });
        let words: Vec<String> = eras.iter().map(|era| format!("{}:{}", era.name, era.first.0)).collect();
        Self(words.join(" "))
    }

    /// Begins one for the process that is about to write; it is stored when this returns.
    pub(super) fn begin(sql: &Connection, newest: Revision) -> Result<(), StoreError> {
        let mut random = [0; 8];
        let filled = SystemRandom::new().fill(&mut random);
        filled.map_err(|_| StoreError::Mismatch { detail: "the system has no random numbers".to_owned() })?;
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        meta::put_text(sql, NAME, &Self::read(sql)?.and(&name, newest).0)
    }

    /// As the index takes them: names and first revisions, oldest first.
    pub(super) fn list(&self) -> Vec<(String, Revision)> {
        self.each().map(|era| (era.name.to_owned(), era.first)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eras(text: &str) -> Eras {
        Eras::of_text(text)
    }

    #[test]
    fn every_revision_has_the_era_that_made_it() {
        #[track_caller]
        fn check(revision: u64, expected: Option<&str>) {
            assert_eq!(eras("a:4 b:9").of(Revision(revision)), expected);
        }
        check(0, None);
        check(3, None);
        check(4, Some("a"));
        check(8, Some("a"));
        check(9, Some("b"));
        check(u64::MAX, Some("b"));
        assert_eq!(Eras::default().of(Revision(7)), None);
    }

    #[test]
    fn only_eras_that_made_something_are_kept() {
        #[track_caller]
        fn check(before: &str, newest: u64, expected: &str) {
            assert_eq!(eras(before).and("new", Revision(newest)), eras(expected));
        }
        check("", 0, "new:1");
        check("", 17, "new:18");
        check("a:1", 0, "new:1");
        check("a:1 b:5", 4, "a:1 new:5");
        check("a:1 b:5", 5, "a:1 b:5 new:6");
    }

    #[test]
    fn they_do_not_grow_without_bound() {
        let mut eras = Eras::default();
        for revision in 0..10 * ERAS_MAX as u64 {
            eras = eras.and(&format!("{revision:016x}"), Revision(revision));
            assert!(eras.list().len() <= ERAS_MAX);
        }
        assert_eq!(eras.of(Revision(9 * ERAS_MAX as u64)), None);
        assert_eq!(eras.of(Revision(10 * ERAS_MAX as u64)), Some(format!("{:016x}", 10 * ERAS_MAX - 1).as_str()));
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let odd = eras("a:4 nonsense b:x :: c:9");
        assert_eq!(odd.list(), eras("a:4 c:9").list());
        assert_eq!(odd.and("d", Revision(9)), eras("a:4 c:9 d:10"));
        assert_eq!((odd.of(Revision(8)), odd.of(Revision(9))), (Some("a"), Some("c")));
    }

    /// A backup that was put back: what was seen after it was made is of another era, whatever the store has reached since.
    #[test]
    fn a_revision_that_comes_again_is_of_another_era() {
        let live = Eras::default().and("a", Revision(0)).and("b", Revision(100));
        // Made at revision 120, within the era `b`; then the live store went on to 150.
        let restored = live.and("c", Revision(120));
        for (revision, is_same) in [(1, true), (100, true), (101, true), (120, true), (121, false), (150, false)] {
            let revision = Revision(revision);
            assert_eq!(restored.of(revision) == live.of(revision), is_same, "{revision:?}");
        }
    }
}

//! Who may be meant by names that were asked for before.
//!
//! Entry points: [`Names::get`], [`Names::put`], and [`Names::is_of`] for whoever knows of a new revision.
//!
//! Documents name the same few people again and again. What a name leads to is three to five descents in trees of millions of
//! rows; to remember it costs a look into a table.
//!
//! Invariants:
//! - What is answered was read at the very revision that is asked about. Every change of a user, an account, a name or a past
//!   holder of one makes a revision (`store::apply`), in the one process that writes.
//! - Bounded, see [`SLOTS`] and [`TEXT_BYTES_MAX`]: some 10 MiB for a connection, and never more than about 32.
//! - Nothing is dropped all at once: what is out of date goes when its place is taken.

use std::sync::Arc;

use super::snapshot::AccountHit;
use crate::core::ids::Revision;
use crate::core::resolve::AskedOf;

/// Names that are remembered in one set, of which the one that was asked for longest ago gives way.
const WAYS: usize = 4;

/// Names that are remembered, by a connection. A power of two.
const SLOTS: usize = 16_384;

/// Text in the rows of a name that is remembered, in bytes; mostly 100 to 300.
const TEXT_BYTES_MAX: usize = 1_024;

/// Candidates of such a name; hardly any has more than one.
const HITS_MAX: usize = 2;

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
    /// Whether somebody had the name before.
    pub(super) has_past: bool,
}

#[derive(Clone, Debug)]
struct Slot {
    name: Name,
    revision: Revision,
    named: Named,
}

/// What one connection remembers.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Sets of [`WAYS`], each with the latest first; nothing until something is remembered.
    slots: Vec<Option<Slot>>,
    revision: Revision,
}

impl Names {
    /// From now on this revision is asked about.
    pub(super) fn is_of(&mut self, revision: Revision) {
        self.revision = revision;
    }

    fn set(&mut self, name: Name) -> &mut [Option<Slot>] {
        // The key is evenly spread itself; the same name in several apps must not share a set.
        let mixed = name.key.cast_unsigned() ^ name.app.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let sets = u64::try_from(SLOTS / WAYS).unwrap_or(1);
        let first = usize::try_from(mixed % sets).unwrap_or_default() * WAYS;
        self.slots.get_mut(first..first + WAYS).unwrap_or_default()
    }

    /// What the name led to at this revision.
    pub(super) fn get(&mut self, name: Name) -> Option<Named> {
        let revision = self.revision;
        let set = self.set(name);
        let is_it = |slot: &Option<Slot>| matches!(slot, Some(slot) if slot.name == name && slot.revision == revision);
        let place = set.iter().position(is_it)?;
        set[..=place].rotate_right(1);
        set.first()?.as_ref().map(|slot| slot.named.clone())
    }

    /// Remembers what the name leads to at this revision, unless it is too much.
    pub(super) fn put(&mut self, name: Name, named: &Named) {
        let text: usize = named.hits.iter().map(text_bytes).sum();
        if named.hits.len() > HITS_MAX || text > TEXT_BYTES_MAX {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let revision = self.revision;
        let set = self.set(name);
        set.rotate_right(1);
        if let Some(first) = set.first_mut() {
            *first = Some(Slot { name, revision, named: named.clone() });
        }
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
        Named { hits: [AccountHit { user: Some(user), app_user: None }].into(), has_past: false }
    }

    fn found(names: &mut Names, name: Name) -> Option<String> {
        let named = names.get(name)?;
        Some(named.hits.first()?.user.as_ref()?.id.as_str().to_owned())
    }

    #[test]
    fn only_the_very_question_at_the_very_revision_is_answered() {
        let mut names = Names::default();
        assert_eq!(found(&mut names, name(7)), None, "nothing is remembered yet");
        names.is_of(Revision(5));
        names.put(name(7), &named("00u1", ""));
        assert_eq!(found(&mut names, name(7)).as_deref(), Some("00u1"));
        let others = [
            Name { app: 2, ..name(7) },
            Name { of: AskedOf::AccountsAndUsers, ..name(7) },
            // Of the same set.
            name(7 + i64::try_from(SLOTS).unwrap()),
        ];
        for other in others {
            assert_eq!(found(&mut names, other), None, "{other:?}");
        }
        names.is_of(Revision(6));
        assert_eq!(found(&mut names, name(7)), None, "it may have changed");
        names.put(name(7), &named("00u2", ""));
        assert_eq!(found(&mut names, name(7)).as_deref(), Some("00u2"));
        names.is_of(Revision(5));
        assert_eq!(found(&mut names, name(7)).as_deref(), Some("00u1"), "that is what it was then");
    }

    #[test]
    fn who_was_asked_for_longest_ago_gives_way() {
        let mut names = Names::default();
        let of_one_set = |n: usize| name(i64::try_from(n * SLOTS).unwrap());
        for n in 0..WAYS {
            names.put(of_one_set(n), &named(&format!("00u{n}"), ""));
        }
        assert_eq!(found(&mut names, of_one_set(0)).as_deref(), Some("00u0"));
        names.put(of_one_set(WAYS), &named("00ux", ""));
        let left: Vec<bool> = (0..=WAYS).map(|n| found(&mut names, of_one_set(n)).is_some()).collect();
        assert_eq!(left, [true, false, true, true, true]);
        assert_eq!(names.slots.len(), SLOTS);
    }

    #[test]
    fn what_is_too_much_is_not_remembered() {
        let mut names = Names::default();
        names.put(name(1), &named("00u1", &"x".repeat(TEXT_BYTES_MAX)));
        assert_eq!(found(&mut names, name(1)), None);
        let hits: Vec<AccountHit> = (0..=HITS_MAX).flat_map(|_| named("00u1", "").hits.to_vec()).collect();
        names.put(name(1), &Named { hits: hits.into(), has_past: false });
        assert_eq!(found(&mut names, name(1)), None);
    }
}

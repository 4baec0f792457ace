//! Objects that are named and not shown: each is asked for by id.
//!
//! While the log is followed, a new row that names an unknown user or group is a hint like any other (the store owes the read).
//! At the end of a crawl everything that is stored is looked through once.
//!
//! Entry points: [`SyncState::look_for_unseen`], [`SyncState::on_unseen`], [`SyncState::ask_for`].

use super::super::coverage::{Gap, GapKind};
use super::super::model::{Key, Scope};
use super::super::pending::{Target, When};
use super::{Batch, BatchNumber, Effect, SyncState, UnseenFound};

/// Unseen objects of a kind that are asked for one by one. More than that are not an oversight but a missing permission: one
/// gap on the collection says so.
const UNSEEN_MAX: usize = 1_000;

/// Whether the stored rows have been looked through in this crawl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum References {
    #[default]
    NotAsked,
    /// What was read reaches the store.
    Storing(Option<BatchNumber>),
    Asked,
    Known,
}

impl SyncState {
    /// Reads objects by id that a list does not show, or that something names: as debts where somebody follows, else as a part
    /// of the crawl.
    pub(super) fn ask_for(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            match Target::of_object(&key) {
                Some(target) if self.follow.is_some() => self.owe(target, When::Now, "named or known, and not shown"),
                Some(_) => self.crawl.unlisted.push_back(key),
                None => {}
            }
        }
    }

    /// The last step of a crawl. Returns whether it is done.
    pub(super) fn look_for_unseen(&mut self, effects: &mut Vec<Effect>) -> bool {
        if self.crawl.references == References::NotAsked {
            self.crawl.references = References::Storing(self.newest_batch());
        }
        if let References::Storing(newest) = self.crawl.references
            && self.is_stored(newest)
        {
            self.crawl.references = References::Asked;
            effects.push(Effect::FindUnseen(UNSEEN_MAX));
        }
        self.crawl.references == References::Known
    }

    pub(super) fn on_unseen(&mut self, found: UnseenFound, effects: &mut Vec<Effect>) {
        if self.crawl.references != References::Asked {
            return;
        }
        self.crawl.references = References::Known;
        let mut batch = self.batch();
        let mut keys = Vec::new();
        // Of a list that could not be read everything is unseen; its own gap says so.
        if !self.crawl.given_up.contains(&Scope::Users) {
            let users = found.users.into_iter().map(Key::User);
            keys.extend(few(&Scope::Users, found.user_count, users, &mut batch));
        }
        if !self.crawl.given_up.contains(&Scope::Groups) {
            let groups = found.groups.into_iter().map(Key::Group);
            keys.extend(few(&Scope::Groups, found.group_count, groups, &mut batch));
        }
        if !self.crawl.given_up.contains(&Scope::Apps) {
            keys.extend(found.apps.into_iter().filter(|app| !self.apps.contains_key(app)).map(Key::App));
        }
        let is_open = |key: &Key| Scope::of_object(key).is_some_and(|object| self.is_absent(&object));
        keys.retain(|key| self.follow.is_none() || !is_open(key));
        if self.follow.is_none() {
            // What was unseen before: perhaps its deletion has become known since.
            let before = self.absent.unseen().filter(|object| !self.crawl.asked_for.contains(*object));
            keys.extend(before.filter_map(Scope::object));
        }
        self.ask_for(keys);
        self.commit_if_any(batch, effects);
    }
}

/// The objects themselves if they are few, else one gap for all of them.
fn few(scope: &Scope, count: u64, keys: impl Iterator<Item = Key>, batch: &mut Batch) -> Vec<Key> {
    if count > UNSEEN_MAX as u64 {
        let evidence =
            format!("{count} objects are named by accounts, memberships or assignments and shown by no list");
        batch.gaps.push(Gap { scope: scope.clone(), kind: GapKind::UnseenReference, evidence });
        return Vec::new();
    }
    batch.closed_gaps.push((scope.clone(), GapKind::UnseenReference));
    keys.collect()
}

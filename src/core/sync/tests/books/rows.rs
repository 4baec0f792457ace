//! Rows: which are taken over, what is outdated, and what goes with what is removed.
//!
//! Entry points: [`Books::put`], [`Books::remove_seen`], [`Books::remove`].

use std::collections::BTreeMap;

use super::Books;
use crate::core::model::{Key, Row, Scope};
use crate::core::pending::Target;

/// What the writer remembers and a restart forgets.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    pub(super) reread: BTreeMap<Key, u64>,
    pub(super) walked: BTreeMap<Scope, u64>,
    removed: BTreeMap<Key, u64>,
}

/// How a row is observed.
#[derive(Clone, Copy)]
pub(in crate::core::sync::tests) struct Seen {
    pub(in crate::core::sync::tests) at: u64,
    pub(in crate::core::sync::tests) is_reread: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::core::sync::tests) enum Put {
    New,
    Known,
    Older,
}

/// Whether `key` hangs on `parent`, or is it.
fn hangs_on(key: &Key, parent: &Key) -> bool {
    match (parent, key) {
        (Key::User(gone), Key::GroupMember(_, user) | Key::AppUser(_, user)) => gone == user,
        (Key::Group(gone), Key::GroupMember(group, _) | Key::AppGroup(_, group)) => gone == group,
        (Key::App(gone), Key::AppUser(app, _) | Key::AppGroup(app, _)) => gone == app,
        _ => parent == key,
    }
}

impl Guard {
    pub(super) fn is_outdated(&self, key: &Key, at: u64) -> bool {
        self.reread.get(key).is_some_and(|number| *number > at)
            || self.walked.get(&key.scope()).is_some_and(|number| *number > at)
            || self.removed.iter().any(|(parent, number)| *number > at && hangs_on(key, parent))
    }

    pub(super) fn reread(&mut self, key: Key, seen: Seen) {
        if seen.is_reread {
            let number = self.reread.entry(key).or_default();
            *number = seen.at.max(*number);
        }
    }
}

impl Books {
    pub(in crate::core::sync::tests) fn put(&mut self, row: &Row, seen: Seen) -> Put {
        let key = row.key();
        if self.guard.is_outdated(&key, seen.at) {
            return Put::Older;
        }
        let stored = self.rows.get(&key);
        if stored.is_some_and(|(at, _)| *at > seen.at) {
            return Put::Older;
        }
        let is_new = stored.is_none();
        let is_same = stored.is_some_and(|(_, stored)| stored == row);
        self.guard.reread(key.clone(), seen);
        if !is_same || seen.is_reread {
            self.rows.insert(key, (seen.at, row.clone()));
        }
        if is_new { Put::New } else { Put::Known }
    }

    /// Removes what was seen to be gone; `false` when something newer is known.
    pub(in crate::core::sync::tests) fn remove_seen(&mut self, key: &Key, seen: Seen) -> bool {
        if self.guard.is_outdated(key, seen.at) || self.rows.get(key).is_some_and(|(at, _)| *at > seen.at) {
            return false;
        }
        self.guard.reread(key.clone(), seen);
        self.remove(key);
        self.close_gaps_of(key);
        if matches!(key, Key::User(_) | Key::Group(_) | Key::App(_)) {
            let number = self.guard.removed.entry(key.clone()).or_default();
            *number = seen.at.max(*number);
        }
        true
    }

    pub(super) fn remove(&mut self, key: &Key) -> u64 {
        let before = self.rows.len();
        match key {
            Key::Group(group) => {
                let with_group = self.rows.keys().filter_map(|other| match other {
                    Key::AppGroup(app, other) if other == group => Some(Target::List(Scope::AppUsers(app.clone()))),
                    _ => None,
                });
                self.orphans.extend(with_group);
                self.marks.retain(|(other, _), _| other != group);
                self.gone.insert(Scope::GroupMembers(group.clone()));
            }
            Key::App(app) => {
                let is_wanted = !self.unwanted_apps.contains(app);
                let of_app = self.rows.values().filter(|_| is_wanted).filter_map(|(_, row)| match row {
                    Row::Group(group) if group.source_app.as_ref() == Some(app) => {
                        Some(Target::Group(group.id.clone()))
                    }
                    _ => None,
                });
                let of_app: Vec<Target> = of_app.collect();
                self.ended.extend(of_app.iter().cloned());
                self.orphans.extend(of_app);
                self.gone.extend([Scope::AppUsers(app.clone()), Scope::AppGroups(app.clone())]);
            }
            _ => {}
        }
        self.rows.retain(|other, _| !hangs_on(other, key));
        (before - self.rows.len()) as u64
    }

    /// A list of which nothing is known any more.
    pub(super) fn forget(&mut self, scope: &Scope) {
        self.scopes.remove(scope);
        self.gaps.retain(|(other, _)| other != scope);
        self.failed.remove(scope);
        self.unread.retain(|key, _| key.scope() != *scope);
    }
}

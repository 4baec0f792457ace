//! What a store does with rows under a filter, in plain sets; names and files are left out.
//!
//! Entry points: [`Books::sift`] before a row is stored, [`Books::follow_up`] after all of a batch.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Books, Put, Seen};
use crate::core::batch::{Batch, CrawlMark, WalkState, WalkUpdate};
use crate::core::filter::{Filter, UserVerdict};
use crate::core::ids::AppId;
use crate::core::model::{AppStatus, AppUser, AssignmentScope, Key, Row, Scope};
use crate::core::pending::{Target, When};

/// Newly wanted users of one page that are followed up one by one.
const NEW_USERS_MAX: usize = 20;

/// What is known of those whom the filter keeps out.
#[derive(Clone, Debug, Default)]
pub(super) struct Sieve {
    pub(super) filter: Filter,
    /// Users and groups that are known to be filtered, and the request that showed each last but in a list.
    pub(super) filtered: BTreeMap<Key, u64>,
    /// Users whose names are hidden.
    pub(super) quarantined: BTreeSet<Key>,
    /// Filtered users and groups by the list that named them in its last walk.
    assigned: BTreeMap<Scope, BTreeSet<Key>>,
    /// The same of a walk under way.
    pub(super) walked: BTreeMap<Scope, BTreeSet<Key>>,
    /// Rows that name a user or group whom nobody knows, and when they were last seen.
    undecided: BTreeMap<(Scope, Key), u64>,
    /// Lists that are read again once users are.
    waiting: BTreeSet<Scope>,
    /// Lists that the running crawl is going to read, and the requests that had been given out when that was noted.
    left_to_crawl: BTreeMap<Scope, u64>,
    /// And whether each was known to be filtered.
    new_users: BTreeMap<Key, bool>,
    new_groups: Vec<(Key, bool)>,
    newly_assigned: BTreeSet<AppId>,
    unknown: BTreeSet<Key>,
}

/// What becomes of a row.
pub(super) enum Sifted {
    Put(Put),
    Dropped(Key),
    Undecided,
}

impl Sieve {
    /// A row of a list was dropped beside its walk. One that is under way has shown it before, and knows it at its end.
    fn note_dropped(&mut self, scope: Scope, key: Key) {
        if let Some(walked) = self.walked.get_mut(&scope) {
            walked.insert(key.clone());
        }
        self.assigned.entry(scope).or_default().insert(key);
    }
}

impl Books {
    pub(super) fn sift(&mut self, row: &Row, seen: Seen) -> Sifted {
        let (users, groups) = (self.sieve.filter.users.is_active(), self.sieve.filter.groups.is_active());
        match row {
            Row::User(user) if users => match self.sieve.filter.users.judge(user) {
                UserVerdict::Wanted => {
                    let put = self.put(row, seen);
                    if put == Put::New {
                        let was_filtered = self.sieve.filtered.remove(&row.key()).is_some();
                        self.sieve.new_users.insert(row.key(), was_filtered);
                    }
                    Sifted::Put(put)
                }
                UserVerdict::Unwanted => self.drop_object(row.key(), seen),
                UserVerdict::Undecidable => {
                    self.sieve.quarantined.insert(row.key());
                    Sifted::Undecided
                }
            },
            Row::Group(group) if groups => {
                if !self.sieve.filter.groups.wants(group) {
                    return self.drop_object(row.key(), seen);
                }
                let put = self.put(row, seen);
                if put == Put::New {
                    let was_filtered = self.sieve.filtered.remove(&row.key()).is_some();
                    self.sieve.new_groups.push((row.key(), was_filtered));
                }
                Sifted::Put(put)
            }
            Row::AppUser(account) => {
                let scope = Scope::AppUsers(account.app.clone());
                if users && let Some(dropped) = self.dropped(&scope, &Key::User(account.user.clone()), seen) {
                    if let (Sifted::Dropped(key), true) = (&dropped, seen.is_reread) {
                        self.sieve.note_dropped(scope, key.clone());
                    }
                    return dropped;
                }
                let via = account.via_group.clone().filter(|_| groups);
                if via.is_some_and(|via| self.dropped(&scope, &Key::Group(via), seen).is_some()) {
                    let account = AppUser { via_group: None, ..account.clone() };
                    return Sifted::Put(self.put(&Row::AppUser(account), seen));
                }
                Sifted::Put(self.put(row, seen))
            }
            Row::GroupMember(member) => {
                let scope = row.key().scope();
                if groups && let Some(dropped) = self.dropped(&scope, &Key::Group(member.group.clone()), seen) {
                    return dropped;
                }
                if users && let Some(dropped) = self.dropped(&scope, &Key::User(member.user.clone()), seen) {
                    return dropped;
                }
                Sifted::Put(self.put(row, seen))
            }
            Row::AppGroup(assigned) if groups => {
                let key = Key::Group(assigned.group.clone());
                if let Some(dropped) = self.dropped(&row.key().scope(), &key, seen) {
                    return dropped;
                }
                let put = self.put(row, seen);
                if put == Put::New {
                    self.sieve.newly_assigned.insert(assigned.app.clone());
                }
                Sifted::Put(put)
            }
            _ => Sifted::Put(self.put(row, seen)),
        }
    }

    fn drop_object(&mut self, key: Key, seen: Seen) -> Sifted {
        if self.is_outdated(&key, seen.at) {
            return Sifted::Put(Put::Older);
        }
        if self.rows.contains_key(&key) {
            let names = |row: &&Key| match (row, &key) {
                (Key::AppUser(_, other) | Key::GroupMember(_, other), Key::User(user)) => other == user,
                (Key::AppGroup(_, other), Key::Group(group)) => other == group,
                _ => false,
            };
            let naming: Vec<Scope> = self.rows.keys().filter(names).map(Key::scope).collect();
            if !self.remove_seen(&key, seen) {
                return Sifted::Put(Put::Older);
            }
            for scope in naming {
                self.sieve.note_dropped(scope, key.clone());
            }
            if let Key::Group(group) = &key {
                self.forget_grants(group);
            }
        } else {
            self.note_reread(key.clone(), seen);
        }
        let waiting = self.sieve.undecided.extract_if(.., |(_, other), _| *other == key);
        for ((scope, _), _) in waiting.collect::<Vec<_>>() {
            self.sieve.note_dropped(scope, key.clone());
        }
        let noted = self.sieve.filtered.entry(key.clone()).or_insert(seen.at);
        if seen.is_reread {
            *noted = seen.at;
        }
        Sifted::Dropped(key)
    }

    fn dropped(&mut self, scope: &Scope, named: &Key, seen: Seen) -> Option<Sifted> {
        if self.rows.contains_key(named) {
            return None;
        }
        if self.sieve.filtered.contains_key(named) {
            return Some(Sifted::Dropped(named.clone()));
        }
        if self.sieve.undecided.insert((scope.clone(), named.clone()), seen.at).is_none() {
            self.sieve.unknown.insert(named.clone());
        }
        Some(Sifted::Undecided)
    }

    /// Whether a membership event is about somebody or something that is not stored.
    pub(super) fn skips_member(&mut self, group: &Key, user: &Key, at: u64) -> bool {
        if self.sieve.filter.groups.is_active() && self.sieve.filtered.contains_key(group) {
            return true;
        }
        let Key::Group(id) = group else { return false };
        let scope = Scope::GroupMembers(id.clone());
        let seen = Seen { at, is_reread: true };
        let dropped = if self.sieve.filter.users.is_active() { self.dropped(&scope, user, seen) } else { None };
        if let Some(Sifted::Dropped(key)) = &dropped {
            self.sieve.note_dropped(scope, key.clone());
        }
        dropped.is_some()
    }

    pub(super) fn forget_filtered(&mut self, key: &Key) {
        self.sieve.filtered.remove(key);
    }

    /// A walk begins anew, goes on, or ends.
    pub(super) fn keep_walk(
        &mut self,
        update: &WalkUpdate,
        mut dropped: BTreeSet<Key>,
        is_believed: bool,
        batch: &Batch,
    ) {
        let scope = &update.scope;
        let from = match &update.state {
            WalkState::Finished { from, .. } => *from,
            WalkState::Walking(_) => return self.sieve.walked.entry(scope.clone()).or_default().extend(dropped),
            WalkState::Released => return,
            _ => return drop(self.sieve.walked.remove(scope)),
        };
        dropped.extend(self.sieve.walked.remove(scope).unwrap_or_default());
        let is_of_scope =
            |key: &Key| matches!((scope, key), (Scope::Users, Key::User(_)) | (Scope::Groups, Key::Group(_)));
        if is_believed {
            self.sieve.filtered.retain(|key, at| !is_of_scope(key) || *at >= from.0 || dropped.contains(key));
        }
        self.sieve.assigned.insert(scope.clone(), dropped);
        self.sieve.undecided.retain(|(other, _), at| other != scope || *at >= from.0);
        self.sieve.left_to_crawl.retain(|other, at| other != scope || *at >= from.0);
        if *scope == Scope::Users {
            for scope in std::mem::take(&mut self.sieve.waiting) {
                self.owe(Target::List(scope), When::Now, batch.members_since, batch);
            }
        }
    }

    /// Lists of accounts that name no group for what a group gave, where the crawl has begun them and still reads the groups of
    /// their app: what is assigned then is not followed up, as if the accounts came after it.
    fn lists_ahead_of_groups(&self) -> BTreeSet<Scope> {
        let state =
            |scope: &Scope| self.scopes.get(scope).filter(|book| book.crawl == self.crawl).map(|book| &book.state);
        let is_ahead = |app: &AppId| {
            let has_begun = state(&Scope::AppUsers(app.clone())).is_some_and(|state| *state != WalkState::Todo);
            let groups = state(&Scope::AppGroups(app.clone()));
            has_begun && groups.is_none_or(|state| matches!(state, WalkState::Todo | WalkState::Walking(_)))
        };
        let apps = self.rows.values().filter_map(|(_, row)| match row {
            Row::AppUser(account) if account.scope == AssignmentScope::Group && account.via_group.is_none() => {
                Some(&account.app)
            }
            _ => None,
        });
        apps.filter(|app| is_ahead(app)).cloned().map(Scope::AppUsers).collect()
    }

    pub(super) fn follow_up(&mut self, batch: &Batch) {
        let is_listed = batch.walks.iter().any(|update| update.scope == Scope::Users);
        let (new_users, unknown) = (std::mem::take(&mut self.sieve.new_users), std::mem::take(&mut self.sieve.unknown));
        let mut lists = BTreeSet::new();
        let mut accounts = BTreeSet::new();
        let mut left_to_crawl = BTreeSet::new();
        for (key, was_filtered) in &new_users {
            let of_users = |scope: &Scope| matches!(scope, Scope::AppUsers(_) | Scope::GroupMembers(_));
            let named = self.sieve.assigned.iter().filter(|(scope, keys)| of_users(scope) && keys.contains(key));
            left_to_crawl.extend(named.filter(|_| *was_filtered).map(|(scope, _)| scope.clone()));
            let waits = self.sieve.undecided.keys().filter(|(_, other)| other == key);
            left_to_crawl.extend(waits.map(|(scope, _)| scope.clone()));
            let Key::User(user) = key else { continue };
            for (_, row) in self.rows.values() {
                let Row::App(app) = row else { continue };
                let scope = Scope::AppUsers(app.id.clone());
                let was_dropped =
                    *was_filtered && self.sieve.assigned.get(&scope).is_some_and(|keys| keys.contains(key));
                let waits = self.sieve.undecided.contains_key(&(scope, key.clone()));
                if app.status != AppStatus::Active && (was_dropped || waits) {
                    accounts.insert(Target::AppUser(app.id.clone(), user.clone()));
                }
            }
        }
        self.sieve.undecided.retain(|(_, key), _| !new_users.contains_key(key));
        for (group, was_filtered) in std::mem::take(&mut self.sieve.new_groups) {
            let waits = self.sieve.undecided.keys().filter(|(_, key)| *key == group);
            lists.extend(waits.map(|(scope, _)| scope.clone()));
            let named =
                self.sieve.assigned.iter().chain(&self.sieve.walked).filter(|(scope, keys)| {
                    was_filtered && matches!(scope, Scope::AppGroups(_)) && keys.contains(&group)
                });
            lists.extend(named.map(|(scope, _)| scope.clone()));
            if was_filtered && !batch.lists_follow {
                lists.extend(self.lists_ahead_of_groups());
            }
            self.sieve.undecided.retain(|(_, key), _| *key != group);
        }
        let since = batch.members_since;
        let newly_assigned = std::mem::take(&mut self.sieve.newly_assigned).into_iter().map(Scope::AppUsers);
        if batch.lists_follow {
            left_to_crawl.extend(lists);
            self.sieve.left_to_crawl.extend(left_to_crawl.into_iter().map(|scope| (scope, since.0)));
        } else {
            lists.extend(newly_assigned);
            if is_listed && new_users.len() > NEW_USERS_MAX {
                self.sieve.waiting.extend(self.scopes.keys().cloned());
            } else {
                for target in accounts {
                    self.owe(target, When::Now, since, batch);
                }
                for (key, _) in new_users {
                    let Key::User(user) = key else { continue };
                    self.owe(Target::UserApps(user.clone()), When::Now, since, batch);
                    self.owe(Target::UserGroups(user), When::Now, since, batch);
                }
            }
            for scope in lists {
                self.owe(Target::List(scope), When::Quiet, since, batch);
            }
        }
        let users_are_known = self.scopes.get(&Scope::Users).is_some_and(|book| book.completed_at.is_some());
        for key in unknown {
            match key {
                Key::User(user) if users_are_known => self.owe(Target::User(user), When::Now, since, batch),
                Key::Group(group) => self.owe(Target::Group(group), When::Now, since, batch),
                _ => {}
            }
        }
        if let Some(CrawlMark::End { .. }) = &batch.crawl {
            for scope in std::mem::take(&mut self.sieve.left_to_crawl).into_keys() {
                if self.scopes.contains_key(&scope) {
                    self.owe(Target::List(scope), When::Quiet, since, batch);
                }
            }
        }
    }
}

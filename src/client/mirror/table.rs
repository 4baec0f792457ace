//! The rows of a copy, and the keys under which names are found. Entry points: [`Table::put`], [`Table::remove`].
//!
//! Invariant: the keys are those of the rows, as the server's store keeps them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::AccountOf;
use super::groups::Groups;
use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{App, AppGroup, AppUser, Group, Key, Row, User};
use crate::core::normalize::{LookupKey, lookup_key};
use crate::core::overrides::OverrideRecord;
use crate::core::resolve::{AskedOf, keys_of_app_user, keys_of_user};
use crate::store::{HeldName, ReleasedName};

/// Who has a name with a key. Nearly always one.
type Keys = HashMap<LookupKey, Vec<UserId>>;

fn note(keys: &mut Keys, key: LookupKey, user: &UserId) {
    let users = keys.entry(key).or_default();
    if !users.contains(user) {
        users.push(user.clone());
    }
}

fn forget(keys: &mut Keys, key: LookupKey, user: &UserId) {
    if let Some(users) = keys.get_mut(&key) {
        users.retain(|known| known != user);
        if users.is_empty() {
            keys.remove(&key);
        }
    }
}

/// The accounts of an app.
#[derive(Clone, Debug, Default)]
struct Accounts {
    rows: HashMap<UserId, AppUser>,
    keys: Keys,
}

/// The names that a user had before.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) names: Vec<ReleasedName>,
    /// Whether the oldest are left out.
    pub(super) is_cut: bool,
}

/// Everything that is copied of an org.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    users: HashMap<UserId, User>,
    user_keys: Keys,
    groups: Groups,
    /// In the order of their ids.
    apps: Vec<App>,
    accounts: HashMap<AppId, Accounts>,
    apps_of: HashMap<UserId, BTreeSet<AppId>>,
    members: HashMap<GroupId, BTreeSet<UserId>>,
    groups_of: HashMap<UserId, BTreeSet<GroupId>>,
    held: HashMap<UserId, Vec<ReleasedName>>,
    /// Users of whose names the oldest are not here.
    cut: HashSet<UserId>,
    held_keys: HashMap<Option<AppId>, Keys>,
    overrides: BTreeMap<i64, OverrideRecord>,
    /// Numbers of the overrides of an app's names with a key.
    override_keys: HashMap<(AppId, LookupKey), BTreeSet<i64>>,
    len: usize,
}

impl Table {
    /// Rows and held names.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All apps, in the order of their ids.
    pub(super) fn apps(&self) -> &[App] {
        &self.apps
    }

    pub(super) fn user(&self, user: &UserId) -> Option<&User> {
        self.users.get(user)
    }

    /// Users who have a login or e-mail with a key, in no order.
    pub(super) fn users_with_key(&self, key: LookupKey) -> impl Iterator<Item = &User> {
        self.user_keys.get(&key).into_iter().flatten().filter_map(|user| self.users.get(user))
    }

    /// The groups, and the apps that have them.
    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn app_user(&self, app: &AppId, user: &UserId) -> Option<&AppUser> {
        self.accounts.get(app)?.rows.get(user)
    }

    pub(super) fn accounts_of(&self, user: &UserId) -> impl Iterator<Item = AccountOf<'_>> {
        let apps = self.apps_of.get(user).into_iter().flatten();
        let user = user.clone();
        apps.filter_map(move |app| Some(AccountOf { app, row: self.app_user(app, &user)? }))
    }

    pub(super) fn groups_of(&self, user: &UserId) -> impl Iterator<Item = &GroupId> {
        self.groups_of.get(user).into_iter().flatten()
    }

    /// Everybody who has a name with a key, in the app or perhaps in Okta, in order; at most `limit`.
    pub(super) fn with_key(&self, app: &AppId, key: LookupKey, of: AskedOf, limit: usize) -> Vec<&UserId> {
        let of_app = self.accounts.get(app).and_then(|accounts| accounts.keys.get(&key));
        let of_users = if of == AskedOf::AccountsAndUsers { self.user_keys.get(&key) } else { None };
        let mut users: Vec<&UserId> = of_app.into_iter().chain(of_users).flatten().collect();
        users.sort_unstable();
        users.dedup();
        users.truncate(limit);
        users
    }

    /// Who had a name with a key before, in the app or in Okta, the latest ones first; at most `limit`.
    pub(super) fn held_names(&self, app: &AppId, key: LookupKey, limit: usize) -> Vec<HeldName> {
        let mut found = Vec::new();
        for of in [None, Some(app)] {
            let users = self.held_keys.get(&of.cloned()).and_then(|keys| keys.get(&key));
            for user in users.into_iter().flatten() {
                let names = self.held.get(user).into_iter().flatten();
                let same = names.filter(|held| held.app.as_ref() == of && lookup_key(&held.name) == Ok(key));
                found.extend(same.map(|held| HeldName {
                    user: user.clone(),
                    kind: held.kind.clone(),
                    name: held.name.clone(),
                    released_at: held.released_at,
                    of_okta: held.app.is_none(),
                }));
            }
        }
        found.sort_by_key(|held| std::cmp::Reverse(held.released_at));
        found.truncate(limit);
        found
    }

    /// Overrides of an app whose name has a key, by number.
    pub(super) fn overrides_with_key(&self, app: &AppId, key: LookupKey) -> Vec<OverrideRecord> {
        if self.overrides.is_empty() {
            return Vec::new();
        }
        let numbers = self.override_keys.get(&(app.clone(), key)).into_iter().flatten();
        numbers.filter_map(|number| self.overrides.get(number)).cloned().collect()
    }

    /// Puts an override in, or in the place of the one with its number.
    pub(super) fn put_override(&mut self, record: OverrideRecord) {
        self.remove_override(record.number);
        self.len += 1;
        if let Ok(key) = lookup_key(&record.entry.name) {
            self.override_keys.entry((record.entry.app.clone(), key)).or_default().insert(record.number);
        }
        self.overrides.insert(record.number, record);
    }

    /// Takes an override out, if it is there.
    pub(super) fn remove_override(&mut self, number: i64) {
        let Some(record) = self.overrides.remove(&number) else { return };
        self.len -= 1;
        if let Ok(key) = lookup_key(&record.entry.name) {
            take_out(&mut self.override_keys, &(record.entry.app, key), &number);
        }
    }

    /// Puts a row in, or in the place of another.
    pub(super) fn put(&mut self, row: Row) {
        self.remove(&row.key());
        self.len += 1;
        match row {
            Row::User(row) => {
                for (_, key) in keys_of_user(&row) {
                    note(&mut self.user_keys, key, &row.id);
                }
                self.users.insert(row.id.clone(), row);
            }
            Row::Group(row) => self.groups.put(row),
            Row::App(row) => {
                let at = self.apps.partition_point(|app| app.id < row.id);
                self.apps.insert(at, row);
            }
            Row::AppUser(row) => {
                let accounts = self.accounts.entry(row.app.clone()).or_default();
                for (_, key) in keys_of_app_user(&row) {
                    note(&mut accounts.keys, key, &row.user);
                }
                self.apps_of.entry(row.user.clone()).or_default().insert(row.app.clone());
                accounts.rows.insert(row.user.clone(), row);
            }
            Row::GroupMember(row) => {
                self.groups_of.entry(row.user.clone()).or_default().insert(row.group.clone());
                self.members.entry(row.group).or_default().insert(row.user);
            }
            Row::AppGroup(row) => self.groups.assign(row),
        }
    }

    /// Takes a row out, if it is there.
    pub(super) fn remove(&mut self, key: &Key) {
        let was_there = match key {
            Key::User(user) => self.remove_user(user),
            Key::Group(group) => self.groups.remove(group),
            Key::App(app) => match self.apps.binary_search_by(|known| known.id.cmp(app)) {
                Ok(at) => {
                    self.apps.remove(at);
                    true
                }
                Err(_) => false,
            },
            Key::AppUser(app, user) => self.remove_account(app, user),
            Key::GroupMember(group, user) => {
                take_out(&mut self.groups_of, user, group);
                take_out(&mut self.members, group, user)
            }
            Key::AppGroup(app, group) => self.groups.unassign(app, group),
        };
        self.len -= usize::from(was_there);
    }

    fn remove_user(&mut self, user: &UserId) -> bool {
        let Some(row) = self.users.remove(user) else { return false };
        for (_, key) in keys_of_user(&row) {
            forget(&mut self.user_keys, key, user);
        }
        true
    }

    fn remove_account(&mut self, app: &AppId, user: &UserId) -> bool {
        let Some(accounts) = self.accounts.get_mut(app) else { return false };
        let Some(row) = accounts.rows.remove(user) else { return false };
        for (_, key) in keys_of_app_user(&row) {
            forget(&mut accounts.keys, key, user);
        }
        if accounts.rows.is_empty() {
            self.accounts.remove(app);
        }
        take_out(&mut self.apps_of, user, app);
        true
    }

    /// Puts the names that a user had before in the place of those that were known.
    pub(super) fn put_held(&mut self, user: UserId, held: Held) {
        let Held { names, is_cut } = held;
        self.cut.remove(&user);
        if is_cut {
            self.cut.insert(user.clone());
        }
        for held in self.held.remove(&user).unwrap_or_default() {
            self.len -= 1;
            let (Some(keys), Ok(key)) = (self.held_keys.get_mut(&held.app), lookup_key(&held.name)) else { continue };
            forget(keys, key, &user);
            if keys.is_empty() {
                self.held_keys.remove(&held.app);
            }
        }
        if names.is_empty() {
            return;
        }
        self.len += names.len();
        for held in &names {
            if let Ok(key) = lookup_key(&held.name) {
                note(self.held_keys.entry(held.app.clone()).or_default(), key, &user);
            }
        }
        self.held.insert(user, names);
    }

    /// Whether somebody had more names before than are here.
    pub(super) fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Forgets the names that were released before a time.
    pub(super) fn forget_held(&mut self, before: Timestamp) {
        let is_old = |held: &ReleasedName| held.released_at < before;
        let users = self.held.iter().filter(|(_, names)| names.iter().any(is_old));
        let users: Vec<UserId> = users.map(|(user, _)| user.clone()).collect();
        for user in users {
            let names = self.held.get(&user).into_iter().flatten();
            let kept = names.filter(|held| !is_old(held)).cloned().collect();
            // What is not here is older than what is: it goes first.
            self.put_held(user, Held { names: kept, is_cut: false });
        }
    }

    /// Everything, for the file: an app's accounts after the app, and so on; in no order beyond that.
    pub(super) fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        let users = self.users.values().map(RowRef::User);
        let groups = self.groups.rows().map(RowRef::Group);
        let apps = self.apps.iter().map(RowRef::App);
        let accounts = self.accounts.values().flat_map(|accounts| accounts.rows.values()).map(RowRef::AppUser);
        let members = self.members.iter().flat_map(|(group, users)| users.iter().map(move |user| (group, user)));
        let members = members.map(|(group, user)| RowRef::GroupMember(group, user));
        let app_groups = self.groups.assignments().map(RowRef::AppGroup);
        let overrides = self.overrides.values().map(RowRef::Override);
        users.chain(groups).chain(apps).chain(accounts).chain(members).chain(app_groups).chain(overrides)
    }

    /// The names that people had before.
    pub(super) fn all_held(&self) -> impl Iterator<Item = (&UserId, &[ReleasedName], bool)> {
        self.held.iter().map(|(user, names)| (user, names.as_slice(), self.cut.contains(user)))
    }
}

/// A row that stays where it is.
pub(super) enum RowRef<'a> {
    User(&'a User),
    Group(&'a Group),
    App(&'a App),
    AppUser(&'a AppUser),
    GroupMember(&'a GroupId, &'a UserId),
    AppGroup(&'a AppGroup),
    Override(&'a OverrideRecord),
}

/// Takes a value out of the set of a key, and the set if it was the last; whether it was there.
pub(super) fn take_out<K: Eq + std::hash::Hash, V: Ord>(sets: &mut HashMap<K, BTreeSet<V>>, of: &K, value: &V) -> bool {
    let Some(set) = sets.get_mut(of) else { return false };
    let was_there = set.remove(value);
    if set.is_empty() {
        sets.remove(of);
    }
    was_there
}

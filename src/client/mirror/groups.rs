//! Groups, and the apps that have them. Entry points: [`Groups::named`], [`Groups::of_app`], [`Groups::of_apps`].
//!
//! A group is one of an app when it is assigned to the app or imported from it.
//!
//! Invariant: what is found under a name, an app or a group is what the rows say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::table::take_out;
use crate::core::ids::{AppId, GroupId};
use crate::core::model::{AppGroup, Group};
use crate::store::GroupOfApp;

/// The groups of an org, and what is assigned to apps.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    rows: HashMap<GroupId, Group>,
    named: HashMap<Box<str>, BTreeSet<GroupId>>,
    /// Those that are the built-in group of all users: one, unless something is wrong.
    everyone: BTreeSet<GroupId>,
    assigned: BTreeMap<AppId, BTreeMap<GroupId, AppGroup>>,
    /// The apps that a group is assigned to.
    apps_of: HashMap<GroupId, BTreeSet<AppId>>,
    /// What is assigned and has no row.
    unseen: HashMap<AppId, BTreeSet<GroupId>>,
}

impl Groups {
    pub(super) fn get(&self, group: &GroupId) -> Option<&Group> {
        self.rows.get(group)
    }

    /// Every built-in group of all users.
    pub(super) fn everyone(&self) -> &BTreeSet<GroupId> {
        &self.everyone
    }

    /// The apps that a group is assigned to, in order.
    pub(super) fn apps_of(&self, group: &GroupId) -> impl Iterator<Item = &AppId> {
        self.apps_of.get(group).into_iter().flatten()
    }

    /// Groups of an app with exactly this name, at most `limit`.
    pub(super) fn named(&self, app: &AppId, name: &str, limit: usize) -> Vec<&Group> {
        let named = self.named.get(name).into_iter().flatten();
        let of_app = named.filter_map(|group| {
            let GroupOfApp { is_assigned, is_imported } = self.of_app(app, group);
            if is_assigned || is_imported { self.rows.get(group) } else { None }
        });
        of_app.take(limit).collect()
    }

    /// How a group belongs to an app, whether or not it has a row.
    pub(super) fn of_app(&self, app: &AppId, group: &GroupId) -> GroupOfApp {
        GroupOfApp {
            is_assigned: self.assigned.get(app).is_some_and(|groups| groups.contains_key(group)),
            is_imported: self.rows.get(group).is_some_and(|row| row.source_app.as_ref() == Some(app)),
        }
    }

    /// The first group by id that is assigned to an app and has no row.
    pub(super) fn unseen_of(&self, app: &AppId) -> Option<&GroupId> {
        self.unseen.get(app)?.first()
    }

    /// Groups that any app has, in no order, without `Everyone`.
    pub(super) fn of_apps(&self) -> impl Iterator<Item = &GroupId> {
        let is_of_app = |group: &&Group| group.source_app.is_some() || self.apps_of.contains_key(&group.id);
        let walked = self.rows.values().filter(|group| !self.everyone.contains(&group.id));
        walked.filter(is_of_app).map(|group| &group.id)
    }

    /// Puts a group in that is not there.
    pub(super) fn put(&mut self, row: Group) {
        for app in self.apps_of.get(&row.id).into_iter().flatten() {
            take_out(&mut self.unseen, app, &row.id);
        }
        if row.is_everyone() {
            self.everyone.insert(row.id.clone());
        }
        self.named.entry(row.name.clone()).or_default().insert(row.id.clone());
        self.rows.insert(row.id.clone(), row);
    }

    /// Takes a group out; whether it was there.
    pub(super) fn remove(&mut self, group: &GroupId) -> bool {
        let Some(row) = self.rows.remove(group) else { return false };
        take_out(&mut self.named, &row.name, group);
        self.everyone.remove(group);
        for app in self.apps_of.get(group).into_iter().flatten() {
            self.unseen.entry(app.clone()).or_default().insert(group.clone());
        }
        true
    }

    /// Puts an assignment in that is not there.
    pub(super) fn assign(&mut self, row: AppGroup) {
        self.apps_of.entry(row.group.clone()).or_default().insert(row.app.clone());
        if !self.rows.contains_key(&row.group) {
            self.unseen.entry(row.app.clone()).or_default().insert(row.group.clone());
        }
        self.assigned.entry(row.app.clone()).or_default().insert(row.group.clone(), row);
    }

    /// Takes an assignment out; whether it was there.
    pub(super) fn unassign(&mut self, app: &AppId, group: &GroupId) -> bool {
        let Some(groups) = self.assigned.get_mut(app) else { return false };
        let was_there = groups.remove(group).is_some();
        if groups.is_empty() {
            self.assigned.remove(app);
        }
        take_out(&mut self.apps_of, group, app);
        take_out(&mut self.unseen, app, group);
        was_there
    }

    /// All groups, in no order.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Group> {
        self.rows.values()
    }

    /// All assignments.
    pub(super) fn assignments(&self) -> impl Iterator<Item = &AppGroup> {
        self.assigned.values().flat_map(BTreeMap::values)
    }
}

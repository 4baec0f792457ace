//! What the org really holds, by keys that can be asked about. Entry points: [`Key`], [`Truth::of`].
//!
//! Okta's own apps are left out: the connector does not read them.

use std::collections::BTreeMap;

use okta_sim::org::{TruthApp, TruthAppUser, TruthGroup, TruthUser};
use okta_sim::{AppRef, GroupRef, Sim};

use crate::picture::is_built_in;

/// One row of the org.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    User(String),
    Group(String),
    App(String),
    /// Group, user.
    Member(String, String),
    /// App, user.
    AppUser(String, String),
    /// App, group.
    AppGroup(String, String),
}

impl Key {
    /// The key of the same row in a picture.
    pub(crate) fn in_picture(&self) -> String {
        match self {
            Self::User(id) => format!("user {id}"),
            Self::Group(id) => format!("group {id}"),
            Self::App(id) => format!("app {id}"),
            Self::Member(group, user) => format!("member {group} {user}"),
            Self::AppUser(app, user) => format!("app_user {app} {user}"),
            Self::AppGroup(app, group) => format!("app_group {app} {group}"),
        }
    }

    /// Reads [`Key::in_picture`] back.
    pub(crate) fn of_picture(text: &str) -> Self {
        let parts: Vec<String> = text.split(' ').map(ToOwned::to_owned).collect();
        match parts.as_slice() {
            [kind, id] if kind == "user" => Self::User(id.clone()),
            [kind, id] if kind == "group" => Self::Group(id.clone()),
            [kind, id] if kind == "app" => Self::App(id.clone()),
            [kind, group, user] if kind == "member" => Self::Member(group.clone(), user.clone()),
            [kind, app, user] if kind == "app_user" => Self::AppUser(app.clone(), user.clone()),
            [kind, app, group] if kind == "app_group" => Self::AppGroup(app.clone(), group.clone()),
            _ => panic!("{text}"),
        }
    }
}

/// The org at one moment.
pub(crate) struct Truth {
    pub(crate) users: BTreeMap<String, TruthUser>,
    pub(crate) groups: BTreeMap<String, TruthGroup>,
    pub(crate) apps: BTreeMap<String, TruthApp>,
    /// By app and user.
    pub(crate) app_users: BTreeMap<(String, String), TruthAppUser>,
    /// The group that holds everybody.
    pub(crate) everyone: String,
}

impl Truth {
    pub(crate) fn of(sim: &Sim) -> Self {
        let org = &sim.org;
        let apps: BTreeMap<String, TruthApp> =
            org.truth_apps().filter(|app| !is_built_in(app)).map(|app| (app.id.clone(), app)).collect();
        let references: Vec<AppRef> = apps.keys().map(|id| AppRef::parse(id).unwrap()).collect();
        let app_users = references.iter().flat_map(|app| org.truth_app_users(*app));
        Self {
            users: org.truth_users().map(|user| (user.id.clone(), user)).collect(),
            groups: org.truth_groups().map(|group| (group.id.clone(), group)).collect(),
            app_users: app_users.map(|row| ((row.app_id.clone(), row.user_id.clone()), row)).collect(),
            apps,
            everyone: org.everyone().id(),
        }
    }

    /// The accounts of an app that have this user name, compared without case.
    pub(crate) fn holders(&self, app: &str, user_name: &str) -> usize {
        let of_app = self.app_users.values().filter(|row| row.app_id == app);
        let has_name = |row: &&TruthAppUser| {
            row.user_name.as_ref().is_some_and(|name| name.to_lowercase() == user_name.to_lowercase())
        };
        of_app.filter(has_name).count()
    }

    /// The group of an id.
    pub(crate) fn group(id: &str) -> GroupRef {
        GroupRef::parse(id).unwrap()
    }
}

//! What is hidden, and what has nothing to do with it. Entry point: [`Aim::of`].

use std::collections::BTreeSet;

use okta_sim::Sim;
use okta_sim::org::{AppStatus, UserStatus};

use crate::truth::{Key, Truth};

/// One app, group and user to hide, all with rows, and others beside them.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    pub(crate) app: String,
    pub(crate) group: String,
    pub(crate) user: String,
    pub(crate) other_app: String,
    pub(crate) other_group: String,
    pub(crate) other_user: String,
}

impl Aim {
    pub(crate) fn of(sim: &Sim) -> Self {
        let truth = Truth::of(sim);
        let has_names = |app: &str| truth.app_users.values().any(|row| row.app_id == app && row.user_name.is_some());
        // The biggest ones: lists of several pages, and most to lose.
        let mut apps: Vec<_> = truth
            .apps
            .values()
            .filter(|app| app.status == AppStatus::Active && app.shared_user_name.is_none() && app.users > 2)
            .filter(|app| has_names(&app.id))
            .collect();
        apps.sort_by_key(|app| std::cmp::Reverse((app.groups > 0, app.users)));
        let mut groups: Vec<_> =
            truth.groups.values().filter(|group| group.id != truth.everyone && group.members > 2).collect();
        let assigned: BTreeSet<String> = apps
            .iter()
            .take(1)
            .flat_map(|app| sim.org.truth_app_groups(okta_sim::AppRef::parse(&app.id).unwrap()))
            .map(|row| row.group_id)
            .collect();
        groups.sort_by_key(|group| std::cmp::Reverse((assigned.contains(&group.id), group.members)));
        let in_group: BTreeSet<String> = groups
            .first()
            .map(|group| sim.org.truth_members(Truth::group(&group.id)))
            .unwrap_or_default()
            .into_iter()
            .collect();
        let first_app = apps.first().map(|app| app.id.clone()).unwrap_or_default();
        let admin = sim.org.administrator().id();
        let mut users: Vec<_> = truth
            .users
            .values()
            .filter(|user| user.status == UserStatus::Active && user.id != admin)
            .map(|user| &user.id)
            .collect();
        let weight =
            |user: &String| (truth.app_users.contains_key(&(first_app.clone(), user.clone())), in_group.contains(user));
        users.sort_by_key(|user| std::cmp::Reverse(weight(user)));
        assert!(apps.len() > 1 && groups.len() > 1 && users.len() > 3, "the org is too small");
        Self {
            app: first_app,
            group: groups[0].id.clone(),
            user: users[0].clone(),
            other_app: apps[apps.len() - 1].id.clone(),
            other_group: groups[groups.len() - 1].id.clone(),
            other_user: users[users.len() - 1].clone(),
        }
    }

    /// `{app}`, `{group}` and `{user}` stand for the ids that are hidden.
    pub(crate) fn fill(&self, pattern: &str) -> String {
        pattern.replace("{app}", &self.app).replace("{group}", &self.group).replace("{user}", &self.user)
    }

    /// Whether a row is of what is aimed at.
    pub(crate) fn concerns(&self, key: &Key) -> bool {
        match key {
            Key::User(user) => *user == self.user,
            Key::Group(group) => *group == self.group,
            Key::App(app) => *app == self.app,
            Key::Member(group, user) => *group == self.group || *user == self.user,
            Key::AppUser(app, user) => *app == self.app || *user == self.user,
            Key::AppGroup(app, group) => *app == self.app || *group == self.group,
        }
    }
}

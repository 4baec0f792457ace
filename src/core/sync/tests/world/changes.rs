//! What happens in the org by itself: one random change at a time, with the events that tell of it.

use super::{DEACTIVATION_MILLIS_MAX, JOB_MILLIS_MAX, Job, World, of_app, of_group, of_user, pick, target};
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::{AppStatus, AppUserStatus, UserStatus};

/// Most users, and most groups and apps each: what is small meets itself more often.
const USERS_MAX: usize = 8;
const OTHERS_MAX: usize = 5;

type Random<'a> = &'a mut fastrand::Rng;

impl World {
    /// One random change.
    pub(in super::super) fn mutate(&mut self, random: Random<'_>) {
        let user = pick(random, self.users.keys().cloned());
        let group = pick(random, self.real_groups());
        let app = pick(random, self.apps.keys().cloned());
        match (random.u8(0..40), user, group, app) {
            (0..4, user, _, _) => self.new_user(random, user),
            (4..8, Some(user), ..) => self.change_user(random, &user),
            (8, Some(user), ..) if self.users.len() > 1 => self.delete_user(random, &user),
            (9..11, ..) => self.new_group(random),
            (11, _, Some(group), _) => self.delete_group(random, &group),
            (12, _, Some(group), _) => self.rename_group(random, &group),
            (13..20, Some(user), Some(group), _) => self.change_member(random, &group, &user),
            (20, ..) => self.change_members_by_rule(random),
            (21, .., Some(app)) => self.import_members(random, &app),
            (22, ..) => self.new_app(random),
            (23, .., Some(app)) if self.apps.len() > 1 => self.delete_app(random, &app),
            (24, .., Some(app)) => self.relabel_app(random, &app),
            (25..27, .., Some(app)) => self.switch_app(random, &app),
            (27..34, Some(user), _, Some(app)) => self.change_account(random, &app, &user),
            (34..37, _, Some(group), Some(app)) => self.change_assignment(random, &app, &group),
            (37, .., Some(app)) => self.import_accounts(random, &app),
            (38, Some(user), ..) => self.change_user_in_a_new_way(random, &user),
            (39, Some(user), ..) => self.emit(random, "user.session.start", vec![of_user(&user)]),
            _ => self.new_user(random, None),
        }
    }

    fn touch_user(&mut self, user: &UserId) {
        let now = self.now;
        if let Some(user) = self.users.get_mut(user) {
            user.last_updated = Some(now);
        }
    }

    fn new_user(&mut self, random: Random<'_>, other: Option<UserId>) {
        if self.users.len() >= USERS_MAX {
            return other.into_iter().for_each(|user| self.change_user(random, &user));
        }
        let user = self.add_user();
        self.emit(random, "user.lifecycle.create", vec![of_user(&user)]);
        // An onboarding: everything at once.
        for _ in 0..random.usize(0..3) {
            if let Some(group) = pick(random, self.real_groups()) {
                self.change_member(random, &group, &user);
            }
            if let Some(app) = pick(random, self.apps.keys().cloned()) {
                self.change_account(random, &app, &user);
            }
        }
    }

    fn change_user(&mut self, random: Random<'_>, id: &UserId) {
        self.touch_user(id);
        let (now, Some(user)) = (self.now, self.users.get_mut(id)) else { return };
        match (&user.status, random.u8(0..6)) {
            (UserStatus::Active, 0) => {
                user.status = UserStatus::Suspended;
                self.emit(random, "user.lifecycle.suspend", vec![of_user(id)]);
            }
            (UserStatus::Suspended, 0..3) => {
                user.status = UserStatus::Active;
                self.emit(random, "user.lifecycle.unsuspend", vec![of_user(id)]);
            }
            (UserStatus::Active, 1 | 2) => {
                user.status = UserStatus::Deprovisioned;
                self.emit(random, "user.lifecycle.deactivate", vec![of_user(id)]);
                let is_told = random.bool();
                self.later(random, DEACTIVATION_MILLIS_MAX, is_told, Job::DropAccounts(id.clone()));
            }
            _ => {
                user.login = Some(match (self.has_domains, random.bool()) {
                    (false, _) => format!("{id}@{now}").into(),
                    (true, true) => format!("{id}{}@a.test", now.as_millis()).into(),
                    (true, false) => format!("{id}{}@b.test", now.as_millis()).into(),
                });
                self.emit(random, "user.account.update_profile", vec![of_user(id)]);
            }
        }
    }

    /// A user is deleted, and the log says so at once.
    pub(in super::super) fn delete_user_now(&mut self, user: &UserId) {
        self.drop_user(user);
        self.log_now("user.lifecycle.delete.completed", vec![of_user(user)]);
    }

    fn drop_user(&mut self, user: &UserId) {
        self.users.remove(user);
        self.members.retain(|(_, other)| other != user);
        self.accounts.retain(|(_, other), _| other != user);
    }

    fn delete_user(&mut self, random: Random<'_>, user: &UserId) {
        self.drop_user(user);
        if random.bool() {
            self.emit(random, "user.lifecycle.delete.initiated", vec![of_user(user)]);
        }
        self.emit(random, "user.lifecycle.delete.completed", vec![of_user(user)]);
    }

    fn new_group(&mut self, random: Random<'_>) {
        if self.groups.len() >= OTHERS_MAX {
            return;
        }
        let source = if random.bool() { pick(random, self.apps.keys().cloned()) } else { None };
        let group = self.add_group(source);
        self.emit(random, "group.lifecycle.create", vec![of_group(&group)]);
    }

    fn rename_group(&mut self, random: Random<'_>, id: &GroupId) {
        let now = self.now;
        if let Some(group) = self.groups.get_mut(id) {
            let word = if self.has_domains && random.bool() { "CIAM" } else { "Eng" };
            group.name = format!("{word} {now}").into();
            group.last_updated = Some(now);
        }
        self.emit(random, "group.profile.update", vec![of_group(id)]);
    }

    fn delete_group(&mut self, random: Random<'_>, group: &GroupId) {
        self.groups.remove(group);
        self.members.retain(|(other, _)| other != group);
        let with_group: Vec<AppId> =
            self.app_groups.keys().filter(|(_, other)| other == group).map(|(app, _)| app.clone()).collect();
        self.app_groups.retain(|(_, other), _| other != group);
        self.emit(random, "group.lifecycle.delete", vec![of_group(group)]);
        for app in with_group {
            // Told one by one (facts 9.3): that the group had been assigned to the app need not have been seen.
            self.later(random, JOB_MILLIS_MAX, true, Job::FanIn(app, group.clone()));
        }
    }

    fn change_member(&mut self, random: Random<'_>, group: &GroupId, user: &UserId) {
        let is_member = !self.members.contains(&(group.clone(), user.clone()));
        self.set_member(group, user, is_member);
        let what = if is_member { "add" } else { "remove" };
        let targets = vec![of_user(user), of_group(group)];
        self.emit(random, &format!("group.user_membership.{what}"), targets);
        // Who gets into a group gets its accounts, and loses them with it.
        let apps: Vec<AppId> =
            self.app_groups.keys().filter(|(_, other)| other == group).map(|(app, _)| app.clone()).collect();
        for app in apps {
            let pair = (app.clone(), user.clone());
            let is_by_group = self.accounts.get(&pair).is_some_and(|account| account.via_group.as_ref() == Some(group));
            if is_member && self.give(&app, user, Some(group)) {
                self.tell_account(random, "add", &app, user);
            } else if !is_member && is_by_group {
                self.accounts.remove(&pair);
                self.tell_account(random, "remove", &app, user);
            }
        }
    }

    fn change_members_at_random(&mut self, random: Random<'_>, groups: &[GroupId]) {
        let users: Vec<UserId> = self.users.keys().cloned().collect();
        for group in groups {
            for user in &users {
                if random.u8(0..3) == 0 {
                    let is_member = random.bool();
                    self.set_member(group, user, is_member);
                }
            }
        }
    }

    fn change_members_by_rule(&mut self, random: Random<'_>) {
        let groups: Vec<GroupId> = self.real_groups().filter(|_| random.bool()).collect();
        self.change_members_at_random(random, &groups);
        self.emit(random, "group.user_membership.rule.trigger", vec![target("Rule", "0pr1")]);
    }

    fn import_members(&mut self, random: Random<'_>, app: &AppId) {
        let of_app_groups = self.groups.values().filter(|group| group.source_app.as_ref() == Some(app));
        let groups: Vec<GroupId> = of_app_groups.map(|group| group.id.clone()).collect();
        self.change_members_at_random(random, &groups);
        self.emit(random, "system.import.group_membership.complete", vec![of_app(app)]);
    }

    fn new_app(&mut self, random: Random<'_>) {
        if self.apps.len() >= OTHERS_MAX {
            return;
        }
        let app = self.add_app(random);
        self.emit(random, "application.lifecycle.create", vec![of_app(&app)]);
        for user in self.users.keys().cloned().collect::<Vec<_>>() {
            if random.bool() && self.give(&app, &user, None) {
                self.tell_account(random, "add", &app, &user);
            }
        }
    }

    /// An app is deleted, and the log says so at once; of its groups it says nothing.
    pub(in super::super) fn delete_app_now(&mut self, app: &AppId) {
        self.drop_app(app);
        self.log_now("application.lifecycle.delete", vec![of_app(app)]);
    }

    fn delete_app(&mut self, random: Random<'_>, app: &AppId) {
        self.drop_app(app);
        self.emit(random, "application.lifecycle.delete", vec![of_app(app)]);
    }

    fn drop_app(&mut self, app: &AppId) {
        self.apps.remove(app);
        self.accounts.retain(|(other, _), _| other != app);
        self.app_groups.retain(|(other, _), _| other != app);
        let gone: Vec<GroupId> = self
            .groups
            .values()
            .filter(|group| group.source_app.as_ref() == Some(app))
            .map(|group| group.id.clone())
            .collect();
        for group in gone {
            // The groups that it brought go with it, without a word; but not what they were assigned to.
            if self.app_groups.keys().all(|(_, other)| *other != group) {
                self.groups.remove(&group);
                self.members.retain(|(other, _)| *other != group);
            }
        }
    }

    fn relabel_app(&mut self, random: Random<'_>, id: &AppId) {
        let now = self.now;
        if let Some(app) = self.apps.get_mut(id) {
            app.label = format!("App {now}").into();
        }
        self.emit(random, "application.lifecycle.update", vec![of_app(id)]);
    }

    fn switch_app(&mut self, random: Random<'_>, id: &AppId) {
        let Some(app) = self.apps.get_mut(id) else { return };
        let is_active = app.status == AppStatus::Active;
        app.status = if is_active { AppStatus::Inactive } else { AppStatus::Active };
        let what = if is_active { "deactivate" } else { "activate" };
        self.emit(random, &format!("application.lifecycle.{what}"), vec![of_app(id)]);
    }

    fn change_account(&mut self, random: Random<'_>, app: &AppId, user: &UserId) {
        let now = self.now;
        let pair = (app.clone(), user.clone());
        let is_given = self.give(app, user, None);
        let what = match (self.accounts.get_mut(&pair), random.u8(0..4)) {
            (Some(_), _) if is_given => "add",
            (Some(account), 0 | 1) => {
                account.user_name = Some(format!("{now}").into());
                "change_username"
            }
            (Some(account), 2) => {
                account.status = AppUserStatus::Provisioned;
                "provision"
            }
            (Some(_), _) => {
                self.accounts.remove(&pair);
                "remove"
            }
            (None, _) => return,
        };
        let event_type = format!("application.user_membership.{what}");
        match random.u8(0..12) {
            // Now and then an event does not name everything.
            0 => self.emit(random, &event_type, vec![of_app(app)]),
            // What the user's list does not show of an inactive app is not looked for.
            1 if self.shows_inactive_apps => self.emit(random, &event_type, vec![of_user(user)]),
            _ => self.tell_account(random, what, app, user),
        }
    }

    fn change_assignment(&mut self, random: Random<'_>, app: &AppId, group: &GroupId) {
        let is_told = random.bool();
        let what = if self.app_groups.remove(&(app.clone(), group.clone())).is_some() {
            self.later(random, JOB_MILLIS_MAX, is_told, Job::FanIn(app.clone(), group.clone()));
            "remove"
        } else if self.assign(app, group) {
            self.later(random, JOB_MILLIS_MAX, is_told, Job::FanOut(app.clone(), group.clone()));
            "add"
        } else {
            return;
        };
        let event_type = format!("group.application_assignment.{what}");
        self.emit(random, &event_type, vec![of_group(group), of_app(app)]);
    }

    fn import_accounts(&mut self, random: Random<'_>, app: &AppId) {
        let now = self.now;
        for user in self.users.keys().cloned().collect::<Vec<_>>() {
            match random.u8(0..4) {
                0 => {
                    self.accounts.remove(&(app.clone(), user));
                }
                1 => {
                    self.give(app, &user, None);
                }
                2 => {
                    self.touch_user(&user);
                    let domain = if random.bool() { "a.test" } else { "b.test" };
                    let login = Some(match self.has_domains {
                        false => format!("{user}@import {now}").into(),
                        true => format!("{user}{}@{domain}", now.as_millis()).into(),
                    });
                    self.users.get_mut(&user).into_iter().for_each(|user| user.login = login.clone());
                }
                _ => {}
            }
        }
        self.emit(random, "system.import.complete", vec![of_app(app)]);
    }

    fn change_user_in_a_new_way(&mut self, random: Random<'_>, id: &UserId) {
        self.touch_user(id);
        let now = self.now;
        self.users.get_mut(id).into_iter().for_each(|user| user.display_name = Some(format!("{now}").into()));
        self.emit(random, "user.lifecycle.invented_in_2027", vec![of_user(id)]);
    }
}

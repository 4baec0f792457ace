//! Random mutations for simulations: one call, one thing an administrator (or Okta behind the scenes) may do.
//!
//! Entry points: [`Org::random_mutation`], [`Org::random_loud_mutation`]. The same seed on the same org gives the same history.

use super::loud::Choice;
use super::types::{AppStatus, AppUserStatus, GroupKind, Template, UserStatus};
use super::{AppRef, GroupRef, NewApp, NewUser, Org, ProfileUpdate, UserRef};

/// Draws before giving up on finding an object that is there; a sparse org simply mutates less.
const PICK_TRIES: usize = 32;
/// Most memberships that one import changes.
const IMPORTED_MEMBERSHIPS_MAX: usize = 4;

/// What a random mutation did, with its weight among the others.
const WEIGHTS: &[(&str, u32)] = &[
    ("create_user", 8),
    ("activate_user", 4),
    ("suspend_user", 3),
    ("unsuspend_user", 3),
    ("lock_user", 1),
    ("unlock_user", 1),
    ("deactivate_user", 4),
    ("reactivate_user", 2),
    ("delete_user", 2),
    ("update_profile", 8),
    ("rename_login", 3),
    ("reuse_login", 1),
    ("create_group", 2),
    ("rename_group", 2),
    ("delete_group", 1),
    ("import_group", 1),
    ("import_memberships", 2),
    ("add_member", 14),
    ("remove_member", 8),
    ("create_app", 2),
    ("rename_app", 2),
    ("deactivate_app", 1),
    ("activate_app", 2),
    ("delete_app", 1),
    ("assign_user", 12),
    ("unassign_user", 8),
    ("assign_group", 3),
    ("unassign_group", 2),
    ("set_group_priority", 2),
    ("set_app_user_name", 6),
    ("set_external_id", 4),
    ("set_app_user_status", 3),
    ("convert_scope_silently", 2),
    ("set_template", 1),
    ("foreign_event", 3),
    ("run_jobs", 20),
];

impl Org {
    /// Makes one random change and returns its name; `None` if the drawn change was not possible at the moment.
    /// Silent changes are among them: a reader that only follows the log cannot see those (facts 5.3, see `loud`).
    pub fn random_mutation(&mut self, random: &mut fastrand::Rng) -> Option<&'static str> {
        self.mutate(random, Choice::Any)
    }

    pub(super) fn mutate(&mut self, random: &mut fastrand::Rng, choice: Choice) -> Option<&'static str> {
        let total: u32 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut draw = random.u32(0..total);
        for (name, weight) in WEIGHTS {
            if draw < *weight {
                let done = self
                    .mutate_users(name, random)
                    .or_else(|| self.mutate_groups(name, random))
                    .or_else(|| self.mutate_memberships(name, random, choice))
                    .or_else(|| self.mutate_apps(name, random, choice))
                    .or_else(|| self.mutate_app_users(name, random, choice));
                return done.map(|()| *name);
            }
            draw -= weight;
        }
        None
    }

    fn mutate_users(&mut self, name: &str, random: &mut fastrand::Rng) -> Option<()> {
        let fresh = || self.users.len();
        match name {
            "create_user" => {
                let status = if random.bool() { UserStatus::Active } else { UserStatus::Staged };
                let new = NewUser::new(&format!("new.user{}@acme.example", fresh()))
                    .named("New", "Ünser-Neuer")
                    .status(status);
                self.create_user(&new).ok().map(drop)
            }
            "activate_user" => {
                self.pick_user(random, UserStatus::Staged).and_then(|user| self.activate_user(user).ok())
            }
            "suspend_user" => self.pick_user(random, UserStatus::Active).and_then(|user| self.suspend_user(user).ok()),
            "unsuspend_user" => {
                self.pick_user(random, UserStatus::Suspended).and_then(|user| self.unsuspend_user(user).ok())
            }
            "lock_user" => self.pick_user(random, UserStatus::Active).and_then(|user| self.lock_user(user).ok()),
            "unlock_user" => self.pick_user(random, UserStatus::LockedOut).and_then(|user| self.unlock_user(user).ok()),
            "deactivate_user" => {
                self.pick_user(random, UserStatus::Active).and_then(|user| self.deactivate_user(user).ok())
            }
            "reactivate_user" => {
                self.pick_user(random, UserStatus::Deprovisioned).and_then(|user| self.reactivate_user(user).ok())
            }
            "delete_user" => {
                self.pick_user(random, UserStatus::Deprovisioned).and_then(|user| self.delete_user(user).ok()).map(drop)
            }
            "update_profile" => {
                let department = format!("Department {}", random.u32(0..50));
                let update = ProfileUpdate { department: Some(department), ..ProfileUpdate::default() };
                self.pick_any_user(random).and_then(|user| self.update_profile(user, &update).ok())
            }
            "rename_login" => {
                let login = format!("Renamed.{}@Acme.example", random.u32(..));
                let update =
                    ProfileUpdate { email: Some(login.clone()), login: Some(login), ..ProfileUpdate::default() };
                self.pick_any_user(random).and_then(|user| self.update_profile(user, &update).ok())
            }
            // A deactivated user's login is rewritten and taken by somebody new (facts 2.2, 13.19).
            "reuse_login" => {
                let user = self.pick_user(random, UserStatus::Deprovisioned)?;
                let login = self.user(user.0)?.login.to_string();
                let old = ProfileUpdate { login: Some(format!("old.{}.{login}", user.0)), ..ProfileUpdate::default() };
                self.update_profile(user, &old).ok()?;
                self.create_user(&NewUser::new(&login).status(UserStatus::Active)).ok().map(drop)
            }
            "foreign_event" => {
                let user = self.pick_any_user(random)?.id();
                let kinds =
                    ["user.session.start", "policy.evaluate_sign_on", "user.mfa.factor.activate", "app.new_in_2027"];
                self.emit_foreign_event(kinds[random.usize(0..kinds.len())], &[("User", &user)], random.bool());
                Some(())
            }
            "run_jobs" => (self.run_jobs(random.usize(1..20)) > 0).then_some(()),
            _ => None,
        }
    }

    fn mutate_groups(&mut self, name: &str, random: &mut fastrand::Rng) -> Option<()> {
        match name {
            "create_group" => {
                self.create_group(&format!("Group \"{}\" & Söhne", random.u32(0..1_000)));
                Some(())
            }
            "rename_group" => {
                let label = format!("Renamed group {}", random.u32(..));
                self.pick_group(random).and_then(|group| self.rename_group(group, &label).ok())
            }
            "delete_group" => self.pick_group(random).and_then(|group| self.delete_group(group).ok()),
            "import_group" => {
                let label = format!("Imported {}", random.u32(0..100));
                self.pick_app(random, AppStatus::Active).and_then(|app| self.import_group(app, &label).ok()).map(drop)
            }
            "assign_group" => {
                let (app, group) = (self.pick_app(random, AppStatus::Active)?, self.pick_group(random)?);
                self.assign_group(app, group).ok()
            }
            "unassign_group" | "set_group_priority" => {
                let app = self.pick_app(random, AppStatus::Active)?;
                let groups = &self.app(app.0)?.groups;
                let group = GroupRef(groups.get(random.usize(0..groups.len().max(1)))?.group);
                if name == "unassign_group" {
                    return self.unassign_group(app, group).ok();
                }
                self.set_group_priority(app, group, random.i32(0..20)).ok()
            }
            _ => None,
        }
    }

    fn mutate_memberships(&mut self, name: &str, random: &mut fastrand::Rng, choice: Choice) -> Option<()> {
        match name {
            "add_member" => {
                let (user, group) = (self.pick_any_user(random)?, self.pick_group(random)?);
                self.allows_membership(user, group, true, choice)?;
                self.add_member(user, group).ok()
            }
            "remove_member" => {
                let group = self.pick_group(random)?;
                let user = self.pick_member(random, group)?;
                self.allows_membership(user, group, false, choice)?;
                self.remove_member(user, group).ok()
            }
            "import_memberships" => {
                let is_imported =
                    |group: &GroupRef| self.group(group.0).is_some_and(|known| known.kind == GroupKind::App);
                let group = (0..PICK_TRIES).filter_map(|_| self.pick_group(random)).find(is_imported)?;
                let app = AppRef(self.group(group.0)?.source_app?);
                // One pair at most per user: what is loud of one pair alone need not be after another one of the user.
                let mut changes: Vec<(UserRef, GroupRef, bool)> = Vec::new();
                for _ in 0..random.usize(1..=IMPORTED_MEMBERSHIPS_MAX) {
                    let joins = random.bool();
                    let user = if joins { self.pick_any_user(random) } else { self.pick_member(random, group) };
                    let Some(user) = user.filter(|user| changes.iter().all(|(other, ..)| other != user)) else {
                        continue;
                    };
                    if self.allows_membership(user, group, joins, choice).is_some() {
                        changes.push((user, group, joins));
                    }
                }
                self.import_memberships(app, &changes).ok()
            }
            _ => None,
        }
    }

    fn allows_membership(&self, user: UserRef, group: GroupRef, joins: bool, choice: Choice) -> Option<()> {
        (choice == Choice::Any || self.membership_is_loud(user, group, joins)).then_some(())
    }

    fn mutate_apps(&mut self, name: &str, random: &mut fastrand::Rng, choice: Choice) -> Option<()> {
        match name {
            "create_app" => {
                let new = NewApp::new("acme_new_1", &format!("New app {}", random.u32(0..100)));
                self.create_app(&if random.bool() { new.provisioning() } else { new });
                Some(())
            }
            "rename_app" => {
                let label = format!("Renamed app {}", random.u32(..));
                self.pick_app(random, AppStatus::Active).and_then(|app| self.rename_app(app, &label).ok())
            }
            // Jobs do not run on apps that are not active: what they were to remove would stay, changed and untold.
            "deactivate_app" if choice == Choice::Loud && self.pending_jobs() > 0 => None,
            "deactivate_app" => self.pick_app(random, AppStatus::Active).and_then(|app| self.deactivate_app(app).ok()),
            "activate_app" => self.pick_app(random, AppStatus::Inactive).and_then(|app| self.activate_app(app).ok()),
            "delete_app" => {
                let app = self.pick_app(random, AppStatus::Inactive)?;
                if choice == Choice::Loud && !self.deletion_of_app_is_loud(app) {
                    return None;
                }
                self.delete_app(app).ok()
            }
            "set_template" => {
                let app = self.pick_app(random, AppStatus::Active)?;
                let template = Template::ALL[random.usize(0..Template::ALL.len() - 1)];
                self.set_template(app, template, random.bool() || choice == Choice::Loud).ok()
            }
            _ => None,
        }
    }

    fn mutate_app_users(&mut self, name: &str, random: &mut fastrand::Rng, choice: Choice) -> Option<()> {
        if name == "assign_user" {
            let (app, user) = (self.pick_app(random, AppStatus::Active)?, self.pick_any_user(random)?);
            return self.assign_user(app, user).ok();
        }
        let (app, user) = self.pick_app_user(random)?;
        match name {
            "unassign_user" => self.unassign_user(app, user).ok(),
            "set_app_user_name" => self.set_app_user_name(app, user, &format!("Handle{}", random.u32(..))).ok(),
            "set_external_id" => {
                let id = random.u32(..).to_string();
                self.set_external_id(app, user, random.bool().then_some(id.as_str())).ok()
            }
            "set_app_user_status" => {
                let status = AppUserStatus::ALL[random.usize(0..AppUserStatus::ALL.len())];
                self.set_app_user_status(app, user, status).ok()
            }
            "convert_scope_silently" if choice == Choice::Loud => None,
            "convert_scope_silently" => self.convert_scope_silently(app, user).ok().map(drop),
            _ => None,
        }
    }

    /// A user of this status, never the administrator.
    fn pick_user(&self, random: &mut fastrand::Rng, status: UserStatus) -> Option<UserRef> {
        let wanted = |user: &UserRef| self.user(user.0).is_some_and(|known| known.status == status);
        (0..PICK_TRIES).filter_map(|_| self.pick_any_user(random)).find(wanted)
    }

    fn pick_any_user(&self, random: &mut fastrand::Rng) -> Option<UserRef> {
        let draws =
            (0..PICK_TRIES).map(|_| UserRef(u32::try_from(random.usize(1..self.users.len().max(2))).unwrap_or(0)));
        draws.into_iter().find(|user| self.user(user.0).is_some())
    }

    fn pick_group(&self, random: &mut fastrand::Rng) -> Option<GroupRef> {
        let mut draws =
            (0..PICK_TRIES).map(|_| GroupRef(u32::try_from(random.usize(1..self.groups.len().max(2))).unwrap_or(0)));
        draws.find(|group| self.group(group.0).is_some())
    }

    fn pick_member(&self, random: &mut fastrand::Rng, group: GroupRef) -> Option<UserRef> {
        let members = &self.group(group.0)?.members;
        members.get(random.usize(0..members.len().max(1))).map(|user| UserRef(*user))
    }

    /// An app of this status that is none of the three built-in ones.
    fn pick_app(&self, random: &mut fastrand::Rng, status: AppStatus) -> Option<AppRef> {
        let mut draws =
            (0..PICK_TRIES).map(|_| AppRef(u32::try_from(random.usize(3..self.apps.len().max(4))).unwrap_or(0)));
        draws.find(|app| self.app(app.0).is_some_and(|known| known.status == status))
    }

    fn pick_app_user(&self, random: &mut fastrand::Rng) -> Option<(AppRef, UserRef)> {
        (0..PICK_TRIES).find_map(|_| {
            let user = self.pick_any_user(random)?;
            let assignments = &self.user(user.0)?.assignments;
            let (app, _) = assignments.get(random.usize(0..assignments.len().max(1)))?;
            Some((AppRef(*app), user))
        })
    }
}

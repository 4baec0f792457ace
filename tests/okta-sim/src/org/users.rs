//! Mutations of users (facts 2.2, 9.1).
//!
//! Entry points: `Org::create_user` and the life-cycle methods. Deactivation and deletion are finished by [`Org::run_jobs`].

use std::collections::BTreeMap;

use super::emit::EventDraft;
use super::jobs::Job;
use super::types::{Provider, User, UserStatus};
use super::{AppRef, Changed, MutationError, Org, UserRef, login_hash, names};

/// What a new user is made of. Start with [`NewUser::new`].
#[derive(Clone, Debug)]
pub struct NewUser {
    /// `profile.login`.
    pub login: String,
    /// `profile.email`; `None` = the same as the login.
    pub email: Option<String>,
    /// `profile.firstName`.
    pub first_name: Option<String>,
    /// `profile.lastName`.
    pub last_name: Option<String>,
    /// `profile.department`.
    pub department: Option<String>,
    /// Number of `profile.employeeNumber` (`E-<number>`); 0 = none.
    pub employee_number: u32,
    /// Status at creation: STAGED unless said otherwise.
    pub status: UserStatus,
    /// Source of the credentials.
    pub provider: Provider,
    /// Custom profile properties, shown as they are.
    pub custom: BTreeMap<String, serde_json::Value>,
}

impl NewUser {
    /// A staged user with nothing but a login.
    pub fn new(login: &str) -> Self {
        Self {
            login: login.to_owned(),
            email: None,
            first_name: None,
            last_name: None,
            department: None,
            employee_number: 0,
            status: UserStatus::Staged,
            provider: Provider::Okta,
            custom: BTreeMap::new(),
        }
    }

    /// Sets first and last name.
    #[must_use]
    pub fn named(mut self, first_name: &str, last_name: &str) -> Self {
        self.first_name = Some(first_name.to_owned());
        self.last_name = Some(last_name.to_owned());
        self
    }

    /// Sets the status at creation.
    #[must_use]
    pub fn status(mut self, status: UserStatus) -> Self {
        self.status = status;
        self
    }
}

/// Profile attributes to change; `None` leaves an attribute as it is.
#[derive(Clone, Debug, Default)]
pub struct ProfileUpdate {
    /// New login. User names in apps that were made from the old one stay (facts 5.3).
    pub login: Option<String>,
    /// New e-mail address.
    pub email: Option<String>,
    /// New first name.
    pub first_name: Option<String>,
    /// New last name.
    pub last_name: Option<String>,
    /// New department.
    pub department: Option<String>,
    /// Custom properties to set.
    pub custom: BTreeMap<String, serde_json::Value>,
}

impl Org {
    pub(crate) fn build_user(&mut self, new: &NewUser) -> User {
        let now_s = self.now_s();
        let staged = new.status == UserStatus::Staged;
        User {
            status: new.status,
            provider: new.provider,
            sparse: false,
            created_s: now_s,
            activated_s: if staged { 0 } else { now_s },
            status_changed_s: if staged { 0 } else { now_s },
            last_updated_s: now_s,
            last_login_s: 0,
            first_name: self.texts.key(new.first_name.as_deref()),
            last_name: self.texts.key(new.last_name.as_deref()),
            department: self.texts.key(new.department.as_deref()),
            employee_number: new.employee_number,
            login: new.login.as_str().into(),
            email: new.email.as_deref().filter(|email| *email != new.login).map(Into::into),
            second_email: None,
            display_name: None,
            custom: (!new.custom.is_empty()).then(|| new.custom.clone()),
            groups: Vec::new(),
            assignments: Vec::new(),
        }
    }

    pub(crate) fn insert_user(&mut self, user: User) -> UserRef {
        let index = u32::try_from(self.users.len()).unwrap_or(u32::MAX);
        self.logins.insert(login_hash(&user.login), index);
        self.users.push(Some(user));
        self.live_users += 1;
        UserRef(index)
    }

    /// Creates a user; a login in use is refused. Apps assigned to `Everyone` follow as jobs.
    pub fn create_user(&mut self, new: &NewUser) -> Changed<UserRef> {
        if self.user_by_login(&new.login).is_some() {
            return Err(MutationError::LoginTaken(new.login.clone()));
        }
        let user = self.build_user(new);
        let user = self.insert_user(user);
        self.remember_user(user, None);
        self.emit(EventDraft::web("user.lifecycle.create").user(self, user));
        if new.status == UserStatus::Active {
            self.emit(EventDraft::web("user.lifecycle.activate").user(self, user));
        }
        self.queue_reconcile_user(user);
        Ok(user)
    }

    fn set_status(&mut self, user: UserRef, allowed: &[UserStatus], status: UserStatus, event: &str) -> Changed {
        let now_s = self.now_s();
        let before = self.copy_of_user(user);
        let known = self.user_mut(user)?;
        if !allowed.contains(&known.status) {
            return Err(MutationError::NotAllowed("This operation is not allowed in the user's current status."));
        }
        known.status = status;
        known.status_changed_s = now_s;
        known.last_updated_s = now_s;
        if status == UserStatus::Active && known.activated_s == 0 {
            known.activated_s = now_s;
        }
        self.remember_user(user, before);
        self.emit(EventDraft::web(event).user(self, user));
        Ok(())
    }

    /// STAGED or PROVISIONED to ACTIVE.
    pub fn activate_user(&mut self, user: UserRef) -> Changed {
        self.set_status(
            user,
            &[UserStatus::Staged, UserStatus::Provisioned],
            UserStatus::Active,
            "user.lifecycle.activate",
        )
    }

    /// ACTIVE to SUSPENDED; memberships and assignments stay (facts 2.2).
    pub fn suspend_user(&mut self, user: UserRef) -> Changed {
        self.set_status(user, &[UserStatus::Active], UserStatus::Suspended, "user.lifecycle.suspend")
    }

    /// SUSPENDED to ACTIVE.
    pub fn unsuspend_user(&mut self, user: UserRef) -> Changed {
        self.set_status(user, &[UserStatus::Suspended], UserStatus::Active, "user.lifecycle.unsuspend")
    }

    /// ACTIVE to LOCKED_OUT.
    pub fn lock_user(&mut self, user: UserRef) -> Changed {
        self.set_status(user, &[UserStatus::Active], UserStatus::LockedOut, "user.account.lock")
    }

    /// LOCKED_OUT to ACTIVE.
    pub fn unlock_user(&mut self, user: UserRef) -> Changed {
        self.set_status(user, &[UserStatus::LockedOut], UserStatus::Active, "user.account.unlock_by_admin")
    }

    /// Any live status to DEPROVISIONED. A job unassigns the user from ACTIVE apps; memberships stay (facts 2.2).
    pub fn deactivate_user(&mut self, user: UserRef) -> Changed {
        let live: Vec<UserStatus> =
            UserStatus::ALL.iter().copied().filter(|status| *status != UserStatus::Deprovisioned).collect();
        self.set_status(user, &live, UserStatus::Deprovisioned, "user.lifecycle.deactivate")?;
        self.queue(Job::UserApps { user: user.0 });
        Ok(())
    }

    /// DEPROVISIONED to PROVISIONED; apps granted by groups come back as jobs.
    pub fn reactivate_user(&mut self, user: UserRef) -> Changed {
        self.set_status(user, &[UserStatus::Deprovisioned], UserStatus::Provisioned, "user.lifecycle.reactivate")?;
        self.queue_reconcile_user(user);
        Ok(())
    }

    /// The two-step deletion of facts 2.2: a live user is only deactivated (`false`), a DEPROVISIONED one is deleted by
    /// a job (`true`), which emits `user.lifecycle.delete.completed`.
    pub fn delete_user(&mut self, user: UserRef) -> Changed<bool> {
        if user == self.administrator() {
            return Err(MutationError::NotAllowed("The administrator of the simulated org owns its token."));
        }
        if self.user_mut(user)?.status != UserStatus::Deprovisioned {
            self.deactivate_user(user)?;
            return Ok(false);
        }
        self.emit(EventDraft::web("user.lifecycle.delete.initiated").user(self, user));
        self.queue(Job::DeleteUser { user: user.0 });
        Ok(true)
    }

    /// The end of a deletion: memberships go with the user, told by one event; assignments that are left are removed
    /// before it, each with its own.
    pub(crate) fn complete_delete(&mut self, user: UserRef) {
        let draft = EventDraft::job("user.lifecycle.delete.completed").user(self, user);
        let before = self.copy_of_user(user);
        // Assignments that deactivation left, those to INACTIVE apps, end with an event of a job each.
        let left: Vec<u32> = before.iter().flat_map(|known| known.assignments.iter().map(|pair| pair.0)).collect();
        for app in left {
            self.revoke(AppRef(app), user, true);
        }
        let Some(gone) = self.users.get_mut(user.at()).and_then(Option::take) else { return };
        self.live_users -= 1;
        if self.logins.get(&login_hash(&gone.login)) == Some(&user.0) {
            self.logins.remove(&login_hash(&gone.login));
        }
        for group in &gone.groups {
            if let Some(known) = self.groups.get_mut(*group as usize).and_then(Option::as_mut)
                && let Ok(place) = known.members.binary_search(&user.0)
            {
                known.members.remove(place);
            }
        }
        self.remember_user(user, before);
        self.emit(draft);
    }

    /// Changes profile attributes, login included. Returns without event if nothing differs.
    pub fn update_profile(&mut self, user: UserRef, update: &ProfileUpdate) -> Changed {
        let old_login = self.user_mut(user)?.login.to_string();
        let new_login = update.login.as_deref().unwrap_or(&old_login);
        if self.user_by_login(new_login).is_some_and(|owner| owner != user) {
            return Err(MutationError::LoginTaken(new_login.to_owned()));
        }
        let before = self.copy_of_user(user);
        self.freeze_user_names_of_user(user);
        let first_name = update.first_name.as_deref().map(|text| self.texts.key(Some(text)));
        let last_name = update.last_name.as_deref().map(|text| self.texts.key(Some(text)));
        let department = update.department.as_deref().map(|text| self.texts.key(Some(text)));
        let now_s = self.now_s();
        let known = self.user_mut(user)?;
        let mut changed: Vec<String> = Vec::new();
        // A login that follows the e-mail address is stored once; keep the address when only the login changes.
        let email = update.email.clone().unwrap_or_else(|| known.email().to_owned());
        for (name, key, slot) in [
            ("firstName", first_name, &mut known.first_name),
            ("lastName", last_name, &mut known.last_name),
            ("department", department, &mut known.department),
        ] {
            if let Some(key) = key.filter(|key| key != slot) {
                *slot = key;
                changed.push(name.to_owned());
            }
        }
        if new_login != old_login {
            changed.push("login".to_owned());
        }
        if email != known.email() {
            changed.push("email".to_owned());
        }
        known.login = new_login.into();
        known.email = (email != new_login).then(|| email.into());
        for (name, value) in &update.custom {
            let custom = known.custom.get_or_insert_default();
            if custom.get(name) != Some(value) {
                custom.insert(name.clone(), value.clone());
                changed.push(name.clone());
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        known.last_updated_s = now_s;
        let pushed: Vec<u32> = known.assignments.iter().map(|pair| pair.0).collect();
        self.remember_user(user, before);
        if new_login != old_login {
            if self.logins.get(&login_hash(&old_login)) == Some(&user.0) {
                self.logins.remove(&login_hash(&old_login));
            }
            self.logins.insert(login_hash(new_login), user.0);
        }
        let draft = EventDraft::web("user.account.update_profile").debug("changedAttributes", &changed.join(","));
        self.emit(draft.user(self, user));
        // The address is part of the profile in apps that take profiles; the others keep what they were given.
        if changed.iter().any(|name| name == "email") {
            for app in pushed {
                self.queue(Job::PushProfile { app, user: user.0 });
            }
        }
        Ok(())
    }

    /// User names are made at assignment and stay (facts 5.3): before the values they were made from change, the names
    /// computed so far are written down.
    fn freeze_user_names_of_user(&mut self, user: UserRef) {
        let Some(known) = self.users.get(user.at()).and_then(Option::as_ref) else { return };
        let pairs = known.assignments.clone();
        for (app, assignment) in pairs {
            let name = self.app(app).and_then(|known_app| {
                let user = self.user(user.0)?;
                known_app.has_credentials().then(|| names::user_name(known_app.template, user)).flatten()
            });
            self.freeze_user_name(AppRef(app), assignment, name);
        }
    }

    pub(crate) fn freeze_user_name(&mut self, app: AppRef, assignment: u32, name: Option<String>) {
        let Some(app_user) =
            self.apps.get_mut(app.at()).and_then(Option::as_mut).and_then(|known| known.find_mut(assignment))
        else {
            return;
        };
        let overrides = app_user.overrides.get_or_insert_default();
        if overrides.user_name.is_none() {
            overrides.user_name = name.map(Into::into);
        }
    }
}

//! Mutations of apps and app users (facts 4, 5, 9.4, 9.5).
//!
//! Entry points: `Org::create_app`, `Org::assign_user`, `Org::unassign_user`.

use super::emit::EventDraft;
use super::jobs::Job;
use super::types::{App, AppStatus, AppUser, AppUserStatus, GroupKind, Scheme, Scope, SignOnMode, SyncState, Template};
use super::{AppRef, Changed, GroupRef, MutationError, Org, UserRef, names};

/// What a new app is made of. Start with [`NewApp::new`].
#[derive(Clone, Debug)]
pub struct NewApp {
    /// Integration key, the same for all instances of one integration.
    pub name: String,
    /// Display name, not unique.
    pub label: String,
    /// How it signs people in; `None` for directories.
    pub sign_on: Option<SignOnMode>,
    /// Provisioning features, such as `PUSH_NEW_USERS`.
    pub features: Vec<&'static str>,
    /// Credential scheme of a form-filling app.
    pub scheme: Option<Scheme>,
    /// The one account of a SHARED_USERNAME_AND_PASSWORD app.
    pub shared_user_name: Option<String>,
    /// How user names are made.
    pub template: Template,
    /// `web`, `native`, `browser` or `service` for OIDC apps.
    pub oauth_type: Option<&'static str>,
}

impl NewApp {
    /// A SAML app without provisioning whose user names are logins.
    pub fn new(name: &str, label: &str) -> Self {
        Self {
            name: name.to_owned(),
            label: label.to_owned(),
            sign_on: Some(SignOnMode::Saml20),
            features: Vec::new(),
            scheme: None,
            shared_user_name: None,
            template: Template::Login,
            oauth_type: None,
        }
    }

    /// Switches provisioning on: app users get an `externalId`.
    #[must_use]
    pub fn provisioning(mut self) -> Self {
        self.features = vec!["PUSH_NEW_USERS", "PUSH_PROFILE_UPDATES", "PUSH_USER_DEACTIVATION", "GROUP_PUSH"];
        self
    }
}

impl Org {
    pub(crate) fn blank_app(&self, name: &str, label: &str) -> App {
        App {
            name: name.into(),
            label: label.into(),
            status: AppStatus::Active,
            sign_on: Some(SignOnMode::Saml20),
            features: Vec::new(),
            scheme: None,
            shared_user_name: None,
            template: Template::Login,
            oauth_type: None,
            implicit_assignment: false,
            created_s: self.now_s(),
            last_updated_s: self.now_s(),
            users: Vec::new(),
            live_users: 0,
            groups: Vec::new(),
        }
    }

    pub(crate) fn insert_app(&mut self, new: &NewApp) -> AppRef {
        let blank = self.blank_app(&new.name, &new.label);
        self.apps.push(Some(App {
            sign_on: new.sign_on,
            features: new.features.clone(),
            scheme: new.scheme,
            shared_user_name: new.shared_user_name.as_deref().map(Into::into),
            template: new.template,
            oauth_type: new.oauth_type,
            ..blank
        }));
        AppRef(u32::try_from(self.apps.len() - 1).unwrap_or(u32::MAX))
    }

    /// Creates an ACTIVE app.
    pub fn create_app(&mut self, new: &NewApp) -> AppRef {
        let app = self.insert_app(new);
        self.emit(EventDraft::web("application.lifecycle.create").app(self, app));
        app
    }

    /// Changes the label; log events of the app carry the new one from then on.
    pub fn rename_app(&mut self, app: AppRef, label: &str) -> Changed {
        let now_s = self.now_s();
        let known = self.app_mut(app)?;
        let old = std::mem::replace(&mut known.label, label.into());
        known.last_updated_s = now_s;
        let mut target = self.app_target(app);
        target.change = Some((old, label.into()));
        self.emit(EventDraft::web("application.lifecycle.update").target(target));
        Ok(())
    }

    /// INACTIVE to ACTIVE; removals that waited are carried out by jobs (facts 9.4).
    pub fn activate_app(&mut self, app: AppRef) -> Changed {
        self.set_app_status(app, AppStatus::Active, "application.lifecycle.activate")?;
        self.queue(Job::SweepApp { app: app.0, after: None });
        let groups: Vec<u32> = self.app_mut(app)?.groups.iter().map(|assigned| assigned.group).collect();
        for group in groups {
            self.queue(Job::GrantGroup { app: app.0, group, after: None });
        }
        Ok(())
    }

    /// ACTIVE to INACTIVE; app users stay listed.
    pub fn deactivate_app(&mut self, app: AppRef) -> Changed {
        self.set_app_status(app, AppStatus::Inactive, "application.lifecycle.deactivate")
    }

    /// Switches Federation Broker Mode: on, everybody may use the app, whether assigned or not (facts 4, 9.4). What is
    /// assigned stays listed.
    pub fn set_federation_broker_mode(&mut self, app: AppRef, is_on: bool) -> Changed {
        let now_s = self.now_s();
        let known = self.app_mut(app)?;
        if known.implicit_assignment == is_on {
            return Ok(());
        }
        known.implicit_assignment = is_on;
        known.last_updated_s = now_s;
        let event = if is_on { "enable_fed_broker_mode" } else { "disable_fed_broker_mode" };
        self.emit(EventDraft::web(&format!("application.configuration.{event}")).app(self, app));
        Ok(())
    }

    fn set_app_status(&mut self, app: AppRef, status: AppStatus, event: &str) -> Changed {
        let now_s = self.now_s();
        let known = self.app_mut(app)?;
        if known.status == status {
            return Err(MutationError::NotAllowed("The application has this status already."));
        }
        known.status = status;
        known.last_updated_s = now_s;
        self.emit(EventDraft::web(event).app(self, app));
        Ok(())
    }

    /// Deletes an INACTIVE app: one event; its app users, group assignments and imported groups go with it (facts 11).
    pub fn delete_app(&mut self, app: AppRef) -> Changed {
        if self.app_mut(app)?.status == AppStatus::Active {
            return Err(MutationError::NotAllowed("The application must be deactivated before deletion."));
        }
        let draft = EventDraft::web("application.lifecycle.delete").app(self, app);
        let Some(gone) = self.apps.get_mut(app.at()).and_then(Option::take) else { return Ok(()) };
        for app_user in gone.users.iter().filter(|app_user| app_user.alive) {
            if let Some(known) = self.users.get_mut(app_user.user as usize).and_then(Option::as_mut) {
                known.assignments.retain(|pair| pair.0 != app.0);
            }
        }
        for assigned in &gone.groups {
            if let Some(known) = self.groups.get_mut(assigned.group as usize).and_then(Option::as_mut) {
                known.apps.retain(|other| *other != app.0);
            }
        }
        let imported = |known: &Option<super::types::Group>| {
            known.as_ref().is_some_and(|known| known.kind == GroupKind::App && known.source_app == Some(app.0))
        };
        let orphans: Vec<u32> =
            (0u32..).zip(&self.groups).filter(|(_, known)| imported(known)).map(|(index, _)| index).collect();
        for orphan in orphans {
            self.drop_group(GroupRef(orphan));
        }
        self.emit(draft);
        Ok(())
    }

    /// Service apps are apps without app users: nobody can be assigned to one (facts 4).
    pub(crate) fn refuse_service_app(&mut self, app: AppRef) -> Changed {
        if self.app_mut(app)?.oauth_type == Some("service") {
            return Err(MutationError::NotAllowed("Service apps have no users."));
        }
        Ok(())
    }

    /// Assigns a user directly. A group-derived assignment is overridden: scope becomes USER (facts 5.3).
    pub fn assign_user(&mut self, app: AppRef, user: UserRef) -> Changed {
        self.refuse_service_app(app)?;
        if self.user_mut(user)?.status == super::UserStatus::Deprovisioned {
            return Err(MutationError::NotAllowed("Deactivated users cannot be assigned."));
        }
        let now_s = self.now_s();
        match self.app_user_mut(app, user) {
            Ok(existing) if existing.scope == Scope::User => Ok(()),
            Ok(existing) => {
                existing.scope = Scope::User;
                existing.last_updated_s = now_s;
                self.emit(self.app_user_event("application.user_membership.update", false, app, user));
                Ok(())
            }
            Err(_) => {
                self.grant(app, user, Scope::User, false);
                Ok(())
            }
        }
    }

    /// Ends a direct assignment. While a group still grants the app the app user stays with scope GROUP, although the
    /// remove event is the same (facts 13.12).
    pub fn unassign_user(&mut self, app: AppRef, user: UserRef) -> Changed {
        if self.app_user_mut(app, user)?.scope == Scope::Group {
            return Err(MutationError::NotAllowed("The assignment comes from a group."));
        }
        if self.granting(app.0, user.0).is_empty() {
            self.revoke(app, user, false);
            return Ok(());
        }
        let now_s = self.now_s();
        let existing = self.app_user_mut(app, user)?;
        existing.scope = Scope::Group;
        existing.last_updated_s = now_s;
        self.emit(self.app_user_event("application.user_membership.remove", false, app, user));
        Ok(())
    }

    /// Writes a new app user, without event.
    pub(crate) fn insert_app_user(&mut self, app: u32, user: u32, scope: Scope) -> Option<&mut AppUser> {
        let now_s = self.now_s();
        let assignment = self.next_assignment;
        let known_app = self.apps.get_mut(app as usize)?.as_mut()?;
        let known_user = self.users.get_mut(user as usize)?.as_mut()?;
        let place = known_user.assignments.binary_search_by_key(&app, |pair| pair.0).err()?;
        known_user.assignments.insert(place, (app, assignment));
        self.next_assignment += 1;
        let (status, sync, has_external_id) = if known_app.provisions() {
            (AppUserStatus::Staged, SyncState::OutOfSync, false)
        } else if known_app.imports() {
            (AppUserStatus::Active, SyncState::Synchronized, true)
        } else {
            (AppUserStatus::Active, SyncState::Disabled, false)
        };
        known_app.users.push(AppUser {
            assignment,
            user,
            created_s: now_s,
            last_updated_s: now_s,
            status_changed_s: now_s,
            status,
            sync,
            scope,
            alive: true,
            has_external_id,
            overrides: None,
        });
        known_app.live_users += 1;
        known_app.users.last_mut()
    }

    pub(crate) fn grant(&mut self, app: AppRef, user: UserRef, scope: Scope, job: bool) {
        let Some(created) = self.insert_app_user(app.0, user.0, scope) else { return };
        let staged = created.status == AppUserStatus::Staged;
        self.emit(self.app_user_event("application.user_membership.add", job, app, user));
        if staged {
            self.queue(Job::Provision { app: app.0, user: user.0 });
        }
    }

    pub(crate) fn revoke(&mut self, app: AppRef, user: UserRef, job: bool) {
        let draft = self.app_user_event("application.user_membership.remove", job, app, user);
        let Some(known) = self.users.get_mut(user.at()).and_then(Option::as_mut) else { return };
        let Ok(place) = known.assignments.binary_search_by_key(&app.0, |pair| pair.0) else { return };
        let (_, assignment) = known.assignments.remove(place);
        if let Some(known) = self.apps.get_mut(app.at()).and_then(Option::as_mut) {
            known.remove(assignment);
        }
        self.emit(draft);
    }

    /// Sets the user name of one app user by hand; `None` leaves it without one.
    pub fn set_app_user_name(&mut self, app: AppRef, user: UserRef, user_name: &str) -> Changed {
        let now_s = self.now_s();
        let existing = self.app_user_mut(app, user)?;
        existing.overrides.get_or_insert_default().user_name = Some(user_name.into());
        existing.last_updated_s = now_s;
        self.emit(self.app_user_event("application.user_membership.change_username", false, app, user));
        Ok(())
    }

    /// Sets or takes away the `externalId`, as an import confirmation or a new account in the app does.
    pub fn set_external_id(&mut self, app: AppRef, user: UserRef, external_id: Option<&str>) -> Changed {
        let now_s = self.now_s();
        let existing = self.app_user_mut(app, user)?;
        existing.has_external_id = external_id.is_some();
        existing.overrides.get_or_insert_default().external_id = external_id.map(Into::into);
        existing.last_updated_s = now_s;
        self.emit(self.app_user_event("application.provision.user.sync", true, app, user));
        Ok(())
    }

    /// Sets the status of an app user; the event is the one that Okta has for the target status.
    pub fn set_app_user_status(&mut self, app: AppRef, user: UserRef, status: AppUserStatus) -> Changed {
        let now_s = self.now_s();
        let existing = self.app_user_mut(app, user)?;
        existing.status = status;
        existing.status_changed_s = now_s;
        existing.last_updated_s = now_s;
        let event = match status {
            AppUserStatus::Provisioned => "application.user_membership.provision",
            AppUserStatus::Deprovisioned => "application.user_membership.deprovision",
            AppUserStatus::Approved => "application.user_membership.approve",
            AppUserStatus::Revoked => "application.user_membership.revoke",
            _ => "application.user_membership.update",
        };
        self.emit(self.app_user_event(event, false, app, user).debug("changedAttributes", "status"));
        Ok(())
    }

    /// Turns USER into GROUP or back **without any event**, as "convert assignments" does (facts 5.3). To GROUP only
    /// while a group grants the app.
    pub fn convert_scope_silently(&mut self, app: AppRef, user: UserRef) -> Changed<Scope> {
        let now_s = self.now_s();
        let granted = !self.granting(app.0, user.0).is_empty();
        let existing = self.app_user_mut(app, user)?;
        existing.scope = match existing.scope {
            Scope::Group => Scope::User,
            Scope::User if granted => Scope::Group,
            Scope::User => return Err(MutationError::NotAllowed("No group grants this app.")),
        };
        existing.last_updated_s = now_s;
        Ok(existing.scope)
    }

    /// Changes the user name template of an app. Names made so far stay; with `reapply` they are all made anew, which
    /// only `directory.mapping.update` tells (facts 9.4).
    pub fn set_template(&mut self, app: AppRef, template: Template, reapply: bool) -> Changed {
        let known = self.app_mut(app)?;
        let old = std::mem::replace(&mut known.template, template);
        let pairs: Vec<(u32, u32)> =
            known.users_after(None).map(|app_user| (app_user.assignment, app_user.user)).collect();
        for (assignment, user) in pairs {
            if reapply {
                if let Some(overrides) =
                    self.app_mut(app)?.find_mut(assignment).and_then(|found| found.overrides.as_mut())
                {
                    overrides.user_name = None;
                }
            } else {
                let name = self.user(user).and_then(|known| names::user_name(old, known));
                self.freeze_user_name(app, assignment, name);
            }
        }
        let now_s = self.now_s();
        self.app_mut(app)?.last_updated_s = now_s;
        self.emit(EventDraft::web("application.lifecycle.update").app(self, app));
        if reapply {
            self.emit(EventDraft::job("directory.mapping.update").app(self, app));
        }
        Ok(())
    }
}

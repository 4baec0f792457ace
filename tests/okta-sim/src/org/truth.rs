//! The org as plain structs, for tests to compare with, and the number of requests a full crawl needs at least.
//!
//! Entry points: `Org::truth_users` and its siblings, [`Org::minimum_requests`]. All orders are by creation.

use super::names;
use super::types::{
    App, AppStatus, AppUser, AppUserStatus, GroupKind, Scheme, Scope, SignOnMode, SyncState, UserStatus,
};
use super::{AppRef, GroupRef, Org, UserRef};

/// A user as it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthUser {
    /// `id`.
    pub id: String,
    /// `status`.
    pub status: UserStatus,
    /// `profile.login`.
    pub login: String,
    /// `profile.email`.
    pub email: String,
    /// `profile.firstName`.
    pub first_name: Option<String>,
    /// `profile.lastName`.
    pub last_name: Option<String>,
    /// `profile.department`.
    pub department: Option<String>,
    /// `profile.employeeNumber`.
    pub employee_number: Option<String>,
}

/// A group as it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthGroup {
    /// `id`.
    pub id: String,
    /// `type`.
    pub kind: GroupKind,
    /// `profile.name`.
    pub name: String,
    /// Id of the source app of an APP_GROUP.
    pub source_app: Option<String>,
    /// Number of members; all users for `Everyone`.
    pub members: usize,
}

/// An app as it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthApp {
    /// `id`.
    pub id: String,
    /// `name`.
    pub name: String,
    /// `label`.
    pub label: String,
    /// `status`.
    pub status: AppStatus,
    /// `signOnMode`.
    pub sign_on: Option<SignOnMode>,
    /// `features`.
    pub features: Vec<&'static str>,
    /// `credentials.scheme`.
    pub scheme: Option<Scheme>,
    /// `credentials.userName` of a shared account.
    pub shared_user_name: Option<String>,
    /// `settings.oauthClient.application_type`.
    pub oauth_type: Option<&'static str>,
    /// Number of app users.
    pub users: usize,
    /// Number of assigned groups.
    pub groups: usize,
}

/// An app user as it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthAppUser {
    /// Id of the app.
    pub app_id: String,
    /// `id`: that of the user.
    pub user_id: String,
    /// `credentials.userName`.
    pub user_name: Option<String>,
    /// `externalId`.
    pub external_id: Option<String>,
    /// `scope`.
    pub scope: Scope,
    /// `status`.
    pub status: AppUserStatus,
    /// `syncState`.
    pub sync: SyncState,
    /// The group that `_links.group` names: the best one, only for scope GROUP.
    pub link_group: Option<String>,
}

/// An assignment of a group to an app as it really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruthAppGroup {
    /// Id of the app.
    pub app_id: String,
    /// `id`: that of the group.
    pub group_id: String,
    /// `priority`, 0 = highest.
    pub priority: i32,
}

/// Page sizes for [`Org::minimum_requests`].
#[derive(Clone, Copy, Debug)]
pub struct PageSizes {
    /// `/users`: 200 at most.
    pub users: usize,
    /// `/groups`: 200 recommended.
    pub groups: usize,
    /// `/groups/{id}/users`: 200 recommended, 1000 at most.
    pub members: usize,
    /// `/apps`: 200 at most.
    pub apps: usize,
    /// `/apps/{id}/users`: 500 at most.
    pub app_users: usize,
    /// `/apps/{id}/groups`: 200 at most.
    pub app_groups: usize,
}

impl Default for PageSizes {
    fn default() -> Self {
        Self { users: 200, groups: 200, members: 200, apps: 200, app_users: 500, app_groups: 200 }
    }
}

/// N_full of facts 12.1, by list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinimumRequests {
    /// To open the log cursor.
    pub logs: usize,
    /// Pages of users.
    pub users: usize,
    /// Pages of groups.
    pub groups: usize,
    /// Pages of members of the groups that matter.
    pub members: usize,
    /// Pages of apps.
    pub apps: usize,
    /// Pages of app users of the apps in scope.
    pub app_users: usize,
    /// Pages of group assignments of the apps in scope.
    pub app_groups: usize,
}

impl MinimumRequests {
    /// The sum over all lists.
    pub fn total(&self) -> usize {
        self.logs + self.users + self.groups + self.members + self.apps + self.app_users + self.app_groups
    }

    /// What falls into the scarce `apps` bucket.
    pub fn apps_bucket(&self) -> usize {
        self.apps + self.app_users + self.app_groups
    }
}

impl Org {
    /// Every user of every status.
    pub fn truth_users(&self) -> impl Iterator<Item = TruthUser> + '_ {
        (0u32..).zip(&self.users).filter_map(|(index, user)| {
            let user = user.as_ref()?;
            let text = |key| self.texts.text(key).map(ToOwned::to_owned);
            Some(TruthUser {
                id: UserRef(index).id(),
                status: user.status,
                login: user.login.to_string(),
                email: user.email().to_owned(),
                first_name: text(user.first_name),
                last_name: text(user.last_name),
                department: text(user.department),
                employee_number: names::employee_number(user),
            })
        })
    }

    /// Every group.
    pub fn truth_groups(&self) -> impl Iterator<Item = TruthGroup> + '_ {
        (0u32..).zip(&self.groups).filter_map(|(index, group)| {
            let group = group.as_ref()?;
            Some(TruthGroup {
                id: GroupRef(index).id(),
                kind: group.kind,
                name: group.name.to_string(),
                source_app: group.source_app.map(|app| AppRef(app).id()),
                members: self.member_count(index),
            })
        })
    }

    /// Every app, the built-in ones included.
    pub fn truth_apps(&self) -> impl Iterator<Item = TruthApp> + '_ {
        (0u32..).zip(&self.apps).filter_map(|(index, app)| Some(truth_app(index, app.as_ref()?)))
    }

    /// The ids of the members of a group, by creation of the user; empty for a group that is gone.
    pub fn truth_members(&self, group: GroupRef) -> Vec<String> {
        if self.group(group.0).is_none() {
            return Vec::new();
        }
        self.members_after(group.0, None, usize::MAX).into_iter().map(|user| UserRef(user).id()).collect()
    }

    /// The app users of an app, by assignment.
    pub fn truth_app_users(&self, app: AppRef) -> impl Iterator<Item = TruthAppUser> + '_ {
        let known = self.app(app.0);
        known.into_iter().flat_map(move |known| {
            known.users_after(None).map(move |app_user| self.truth_app_user_of(app, known, app_user))
        })
    }

    fn truth_app_user_of(&self, app: AppRef, known: &App, app_user: &AppUser) -> TruthAppUser {
        let best =
            (app_user.scope == Scope::Group).then(|| self.granting(app.0, app_user.user).first().copied()).flatten();
        TruthAppUser {
            app_id: app.id(),
            user_id: UserRef(app_user.user).id(),
            user_name: self.user_name_of(known, app_user),
            external_id: self.external_id_of(known, app_user),
            scope: app_user.scope,
            status: app_user.status,
            sync: app_user.sync,
            link_group: best.map(|group| GroupRef(group).id()),
        }
    }

    /// One app user; `None` if the user is not assigned.
    pub fn truth_app_user(&self, app: AppRef, user: UserRef) -> Option<TruthAppUser> {
        Some(self.truth_app_user_of(app, self.app(app.0)?, self.app_user(app.0, user.0)?))
    }

    /// The group assignments of an app, in order of assignment.
    pub fn truth_app_groups(&self, app: AppRef) -> Vec<TruthAppGroup> {
        let Some(known) = self.app(app.0) else { return Vec::new() };
        let truth = |assigned: &super::types::AppGroup| TruthAppGroup {
            app_id: app.id(),
            group_id: GroupRef(assigned.group).id(),
            priority: assigned.priority,
        };
        known.groups.iter().map(truth).collect()
    }

    /// The ids of all groups that grant this user this app, best priority first.
    pub fn truth_granting_groups(&self, app: AppRef, user: UserRef) -> Vec<String> {
        self.granting(app.0, user.0).into_iter().map(|group| GroupRef(group).id()).collect()
    }

    /// Number of app users over all apps.
    pub fn app_user_count(&self) -> usize {
        self.apps.iter().flatten().map(|app| app.live_users).sum()
    }

    /// N_full of facts 12.1: what a full crawl with attribution needs at least, if only apps that `in_scope` accepts
    /// are read. Groups matter if they are assigned to such an app, have members and are not `Everyone`.
    pub fn minimum_requests(&self, sizes: &PageSizes, in_scope: impl Fn(&TruthApp) -> bool) -> MinimumRequests {
        let pages = |count: usize, size: usize| count.div_ceil(size.max(1)).max(1);
        let mut needed = MinimumRequests {
            logs: 1,
            users: pages(self.live_users, sizes.users),
            groups: pages(self.groups.iter().flatten().count(), sizes.groups),
            apps: pages(self.apps.iter().flatten().count(), sizes.apps),
            ..MinimumRequests::default()
        };
        let mut relevant = std::collections::BTreeSet::new();
        for (index, app) in (0u32..).zip(&self.apps) {
            let Some(app) = app.as_ref().filter(|app| in_scope(&truth_app(index, app))) else { continue };
            needed.app_users += pages(app.live_users, sizes.app_users);
            needed.app_groups += pages(app.groups.len(), sizes.app_groups);
            relevant.extend(app.groups.iter().map(|assigned| assigned.group));
        }
        relevant.remove(&self.everyone().0);
        let counts = relevant.iter().map(|group| self.member_count(*group)).filter(|count| *count > 0);
        needed.members = counts.map(|count| pages(count, sizes.members)).sum();
        needed
    }
}

fn truth_app(index: u32, app: &App) -> TruthApp {
    TruthApp {
        id: AppRef(index).id(),
        name: app.name.to_string(),
        label: app.label.to_string(),
        status: app.status,
        sign_on: app.sign_on,
        features: app.features.clone(),
        scheme: app.scheme,
        shared_user_name: app.shared_user_name.as_deref().map(ToOwned::to_owned),
        oauth_type: app.oauth_type,
        users: app.live_users,
        groups: app.groups.len(),
    }
}

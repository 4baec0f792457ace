//! The simulated org: users, groups, apps, assignments and the System Log, pure and synchronous.
//!
//! Entry points: [`Org::new`] or `Org::generate`, then the mutations (`create_user`, `add_member`, ...), [`Org::run_jobs`]
//! for what Okta does in the background, and the truth accessors (`truth_users`, ...).
//!
//! Invariants:
//! - No clock and no IO: time is [`Org::now_ms`] and moves only through [`Org::set_now_ms`] / [`Org::advance_ms`].
//! - Indexes are never reused; a deleted object leaves an empty slot, so its id stays gone.
//! - `users[u].assignments` and the living entries of `apps[a].users` describe the same set of pairs;
//!   `users[u].groups` and `groups[g].members` likewise, and `groups[g].apps` and `apps[a].groups`.
//! - Whatever changes through a mutation is told in the System Log, except where Okta tells nothing (see `loud`).
//! - An event is published when it happens: `published` is [`Org::now_ms`] of that moment.

mod apps;
mod check;
mod emit;
mod generate;
mod groups;
mod index;
mod jobs;
pub(crate) mod log;
mod loud;
pub(crate) mod names;
mod random;
mod truth;
pub(crate) mod types;
mod users;

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::ids::{AppRef, GroupRef, IdKind, UserRef, encode};
use crate::time::{UnixMs, iso_ms};

pub use apps::NewApp;
pub use check::InvariantError;
pub(crate) use emit::emit_role_event;
pub use generate::Spec;
pub use log::{LogControls, LoggedEvent};
pub(crate) use names::employee_number;
pub use truth::{MinimumRequests, PageSizes, TruthApp, TruthAppGroup, TruthAppUser, TruthGroup, TruthUser};
pub use types::{
    AppStatus, AppUserStatus, GroupKind, Provider, Scheme, Scope, SignOnMode, SyncState, Template, UserStatus,
};
pub use users::{NewUser, ProfileUpdate};

use jobs::Job;
use log::Log;
use types::{App, AppUser, Group, Interner, User};

/// Where virtual time begins: 2026-08-03T06:00:00Z, a Monday morning after the recordings the facts rest on.
pub const START_MS: UnixMs = 1_785_736_800_000;

/// Why a mutation was refused. Nothing has changed then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MutationError {
    /// The object does not exist (any more).
    #[error("find the object: {0}")]
    NotFound(String),
    /// Another user has this login.
    #[error("take the login: {0} is in use")]
    LoginTaken(String),
    /// The status of the object does not allow it, as Okta would say with 403.
    #[error("change the object: {0}")]
    NotAllowed(&'static str),
}

/// What a change answers.
pub type Changed<T = ()> = Result<T, MutationError>;

/// A simulated org. See the module for the invariants.
pub struct Org {
    pub(crate) now_ms: UnixMs,
    pub(crate) users: Vec<Option<User>>,
    pub(crate) groups: Vec<Option<Group>>,
    pub(crate) apps: Vec<Option<App>>,
    pub(crate) texts: Interner,
    pub(crate) log: Log,
    /// Hash of the lower-case login to the user; the login itself is compared on use.
    logins: HashMap<u64, u32>,
    jobs: VecDeque<Job>,
    /// What the search index has not seen yet.
    index_changes: index::Changes,
    live_users: usize,
    next_assignment: u32,
    next_app_group: u32,
    next_transaction: u32,
}

impl Org {
    /// An org with nothing but the built-in group `Everyone`, an administrator and the three built-in apps.
    pub fn new() -> Self {
        let mut org = Self::empty();
        org.found("Jo", "Admin", "jo.admin@acme.example");
        org
    }

    /// Truly nothing, not even `Everyone`.
    fn empty() -> Self {
        Self {
            now_ms: START_MS,
            users: Vec::new(),
            groups: Vec::new(),
            apps: Vec::new(),
            texts: Interner::default(),
            log: Log::new(),
            logins: HashMap::new(),
            jobs: VecDeque::new(),
            index_changes: VecDeque::new(),
            live_users: 0,
            next_assignment: 0,
            next_app_group: 0,
            next_transaction: 0,
        }
    }

    /// The first administrator (index 0, the actor of all log events and the owner of tokens), `Everyone` (index 0)
    /// and the built-in apps (indexes 0 to 2), without log events: they are as old as the org.
    fn found(&mut self, first_name: &str, last_name: &str, login: &str) {
        self.groups.push(Some(Group {
            kind: GroupKind::BuiltIn,
            name: "Everyone".into(),
            description: Some("All users in your organization".into()),
            created_s: self.now_s(),
            last_updated_s: self.now_s(),
            last_membership_updated_s: self.now_s(),
            source_app: None,
            members: Vec::new(),
            apps: Vec::new(),
        }));
        for (name, label) in [
            ("saasure", "Okta Admin Console"),
            ("okta_enduser", "Okta Dashboard"),
            ("okta_browser_plugin", "Okta Browser Plugin"),
        ] {
            let app = self.blank_app(name, label);
            self.apps.push(Some(App { sign_on: Some(SignOnMode::OpenIdConnect), oauth_type: Some("web"), ..app }));
        }
        let new = NewUser::new(login).named(first_name, last_name).status(UserStatus::Active);
        let user = self.build_user(&new);
        self.insert_user(user);
    }

    /// The virtual time of the org, in milliseconds since 1970.
    pub fn now_ms(&self) -> UnixMs {
        self.now_ms
    }

    /// The same, as ISO 8601 with milliseconds: the `published` of an event that happens now.
    pub fn now_iso(&self) -> String {
        iso_ms(self.now_ms)
    }

    /// Moves time forward; the log persists what has become due. Going back is ignored: Okta's clock does not.
    pub fn set_now_ms(&mut self, now_ms: UnixMs) {
        self.now_ms = self.now_ms.max(now_ms);
        self.log.settle(self.now_ms);
    }

    /// Moves time forward by some milliseconds.
    pub fn advance_ms(&mut self, by_ms: u64) {
        self.set_now_ms(self.now_ms.saturating_add(i64::try_from(by_ms).unwrap_or(i64::MAX)));
    }

    pub(crate) fn now_s(&self) -> u32 {
        u32::try_from(self.now_ms / 1_000).unwrap_or(u32::MAX)
    }

    /// The group that holds all users.
    pub fn everyone(&self) -> GroupRef {
        GroupRef(0)
    }

    /// The administrator who founded the org: actor of the log events, owner of the first API token.
    pub fn administrator(&self) -> UserRef {
        UserRef(0)
    }

    /// The org id of `/.well-known/okta-organization`.
    pub fn org_id(&self) -> String {
        encode(IdKind::Org, 0)
    }

    pub(crate) fn user(&self, index: u32) -> Option<&User> {
        self.users.get(index as usize)?.as_ref()
    }

    pub(crate) fn group(&self, index: u32) -> Option<&Group> {
        self.groups.get(index as usize)?.as_ref()
    }

    pub(crate) fn app(&self, index: u32) -> Option<&App> {
        self.apps.get(index as usize)?.as_ref()
    }

    pub(crate) fn user_mut(&mut self, user: UserRef) -> Changed<&mut User> {
        self.users.get_mut(user.at()).and_then(Option::as_mut).ok_or_else(|| MutationError::NotFound(user.id()))
    }

    pub(crate) fn group_mut(&mut self, group: GroupRef) -> Changed<&mut Group> {
        self.groups.get_mut(group.at()).and_then(Option::as_mut).ok_or_else(|| MutationError::NotFound(group.id()))
    }

    pub(crate) fn app_mut(&mut self, app: AppRef) -> Changed<&mut App> {
        self.apps.get_mut(app.at()).and_then(Option::as_mut).ok_or_else(|| MutationError::NotFound(app.id()))
    }

    pub(crate) fn app_user(&self, app: u32, user: u32) -> Option<&AppUser> {
        self.app(app)?.find(self.user(user)?.assignment_in(app)?)
    }

    pub(crate) fn app_user_mut(&mut self, app: AppRef, user: UserRef) -> Changed<&mut AppUser> {
        let missing = || MutationError::NotFound(format!("{}/{}", app.id(), user.id()));
        let assignment = self.user(user.0).and_then(|known| known.assignment_in(app.0)).ok_or_else(missing)?;
        self.app_mut(app)?.find_mut(assignment).ok_or_else(missing)
    }

    /// The user with this login, compared without case; a user who is gone frees the login.
    pub fn user_by_login(&self, login: &str) -> Option<UserRef> {
        let index = *self.logins.get(&login_hash(login))?;
        let user = self.user(index)?;
        (user.login.to_lowercase() == login.to_lowercase()).then_some(UserRef(index))
    }

    pub(crate) fn is_member(&self, user: u32, group: u32) -> bool {
        group == self.everyone().0 || self.user(user).is_some_and(|known| known.groups.binary_search(&group).is_ok())
    }

    /// Number of members; all users for `Everyone`.
    pub(crate) fn member_count(&self, group: u32) -> usize {
        if group == self.everyone().0 {
            self.live_users
        } else {
            self.group(group).map_or(0, |known| known.members.len())
        }
    }

    /// The groups that grant this user this app, best priority (lowest number) first.
    pub(crate) fn granting(&self, app: u32, user: u32) -> Vec<u32> {
        let Some(known) = self.app(app) else { return Vec::new() };
        let mut granting: Vec<(i32, u32)> = known
            .groups
            .iter()
            .filter(|assigned| self.is_member(user, assigned.group))
            .map(|assigned| (assigned.priority, assigned.group))
            .collect();
        granting.sort_unstable();
        granting.into_iter().map(|(_, group)| group).collect()
    }

    /// The user name of an app user as the API shows it; `None` where the app has no credentials.
    pub(crate) fn user_name_of(&self, app: &App, app_user: &AppUser) -> Option<String> {
        if !app.has_credentials() || app.oauth_type == Some("service") {
            return None;
        }
        if let Some(own) = app_user.overrides.as_ref().and_then(|overrides| overrides.user_name.as_deref()) {
            return Some(own.to_owned());
        }
        names::user_name(app.template, self.user(app_user.user)?)
    }

    /// The `externalId` of an app user, if it has one.
    pub(crate) fn external_id_of(&self, app: &App, app_user: &AppUser) -> Option<String> {
        if !app_user.has_external_id {
            return None;
        }
        let own = app_user.overrides.as_ref().and_then(|overrides| overrides.external_id.as_deref());
        Some(own.map_or_else(|| names::external_id(app, app_user.assignment), ToOwned::to_owned))
    }
}

impl Default for Org {
    fn default() -> Self {
        Self::new()
    }
}

/// 64 bits are enough: among a million logins a collision has a chance of one in 30 million, and it is noticed on use.
fn login_hash(login: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    login.to_lowercase().hash(&mut hasher);
    hasher.finish()
}

//! The rows: what is kept of each Okta object, and nothing more.
//!
//! Decoded by `okta`, stored by `store`, read by everything else. Profile attributes are an allow-list (an app user's
//! profile may hold personal data or secrets, facts 5.1). Raw values are kept as Okta gave them; comparison keys are
//! made by [`super::normalize`].

use super::ids::{AppId, GroupId, Timestamp, UserId};

/// What a row is. Everything that treats all kinds alike iterates [`Kind::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An Okta user.
    User,
    /// A group.
    Group,
    /// A membership: (group, user).
    GroupMember,
    /// An app instance.
    App,
    /// An app user, the mapping row: (app, user).
    AppUser,
    /// An app-group assignment: (app, group).
    AppGroup,
}

impl Kind {
    /// Every kind, in the order in which references point (a member refers to a group and a user).
    pub const ALL: [Kind; 6] = [Kind::User, Kind::Group, Kind::GroupMember, Kind::App, Kind::AppUser, Kind::AppGroup];

    /// Stable name, for logs, metrics and exports.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Group => "group",
            Kind::GroupMember => "group_member",
            Kind::App => "app",
            Kind::AppUser => "app_user",
            Kind::AppGroup => "app_group",
        }
    }
}

/// Defines an enum of the values that Okta documents plus `Other`, because Okta's enumerations grow (facts 0).
macro_rules! open_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $raw:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A value that this version does not know; kept as Okta sent it. Never grants access.
            Other(Box<str>),
        }

        impl $name {
            /// The values that Okta documents.
            pub const KNOWN: &'static [&'static str] = &[$($raw),*];

            /// From Okta's spelling; never fails.
            pub fn parse(raw: &str) -> Self {
                match raw {
                    $($raw => Self::$variant,)*
                    other => Self::Other(other.into()),
                }
            }

            /// Okta's spelling.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $raw,)*
                    Self::Other(raw) => raw,
                }
            }
        }
    };
}

open_enum! {
    /// Status of a user (facts 2.1).
    UserStatus {
        /// Created, not yet activated.
        Staged = "STAGED",
        /// Activated by an admin, the user has not set a password yet.
        Provisioned = "PROVISIONED",
        /// In use.
        Active = "ACTIVE",
        /// In password recovery; assignments stay.
        Recovery = "RECOVERY",
        /// Password expired; assignments stay.
        PasswordExpired = "PASSWORD_EXPIRED",
        /// Locked out; assignments stay.
        LockedOut = "LOCKED_OUT",
        /// Suspended by an admin; keeps memberships and assignments, has no access.
        Suspended = "SUSPENDED",
        /// Deactivated; group memberships stay (facts 11).
        Deprovisioned = "DEPROVISIONED",
    }
}

open_enum! {
    /// Status of an app user (facts 5.2).
    AppUserStatus {
        /// Assigned; SSO-only apps go straight here.
        Active = "ACTIVE",
        /// Provisioning queued or failed; no external id yet.
        Staged = "STAGED",
        /// The account was created in the app.
        Provisioned = "PROVISIONED",
        /// Unassigned, or the app is inactive; the account may still exist.
        Inactive = "INACTIVE",
        /// The account is disabled in the app.
        Deprovisioned = "DEPROVISIONED",
        /// The account is suspended in the app.
        Suspended = "SUSPENDED",
        /// Manual provisioning: approved but not provisioned.
        Approved = "APPROVED",
        /// Manual provisioning: revoked but not deprovisioned.
        Revoked = "REVOKED",
        /// Import state, not a confirmed mapping.
        Pending = "PENDING",
        /// Import state, not a confirmed mapping.
        Imported = "IMPORTED",
        /// Import state, not a confirmed mapping.
        Matched = "MATCHED",
        /// Internal state, not a confirmed mapping.
        Implicit = "IMPLICIT",
        /// No longer assigned.
        Unassigned = "UNASSIGNED",
    }
}

open_enum! {
    /// Status of an app instance (facts 4).
    AppStatus {
        /// In use.
        Active = "ACTIVE",
        /// Switched off; its app users stay listed and have no access.
        Inactive = "INACTIVE",
        /// Deleted; not normally listed.
        Deleted = "DELETED",
    }
}

open_enum! {
    /// Type of a group (facts 3).
    GroupType {
        /// Managed in Okta.
        OktaGroup = "OKTA_GROUP",
        /// Imported, read-only, owned by an app instance.
        AppGroup = "APP_GROUP",
        /// `Everyone`, `Okta Administrators`.
        BuiltIn = "BUILT_IN",
    }
}

open_enum! {
    /// How an app user came to be (facts 5.3).
    AssignmentScope {
        /// Assigned to the user directly; wins over a group assignment.
        User = "USER",
        /// Through a group.
        Group = "GROUP",
    }
}

/// An Okta user. `login` is unique among living users but may be reused after a deletion: never key by it (facts 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Okta's id.
    pub id: UserId,
    /// Okta's status.
    pub status: UserStatus,
    /// `profile.login`. Optional because a role with attribute conditions may hide it (facts 7.2).
    pub login: Option<Box<str>>,
    /// `profile.email`: the primary e-mail; not unique.
    pub email: Option<Box<str>>,
    /// `profile.secondEmail`: self-editable.
    pub second_email: Option<Box<str>>,
    /// `profile.firstName`.
    pub first_name: Option<Box<str>>,
    /// `profile.lastName`.
    pub last_name: Option<Box<str>>,
    /// `profile.displayName`.
    pub display_name: Option<Box<str>>,
    /// When Okta created it.
    pub created: Option<Timestamp>,
    /// When profile or status last changed in Okta.
    pub last_updated: Option<Timestamp>,
    /// When the status last changed.
    pub status_changed: Option<Timestamp>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Okta's id.
    pub id: GroupId,
    /// `profile.name`; not unique (facts 3).
    pub name: Box<str>,
    /// `profile.description`.
    pub description: Option<Box<str>>,
    /// Where it is managed.
    pub group_type: GroupType,
    /// The app instance that owns an `APP_GROUP`.
    pub source_app: Option<AppId>,
    /// When Okta created it.
    pub created: Option<Timestamp>,
    /// When the profile last changed (not the members).
    pub last_updated: Option<Timestamp>,
    /// When the members last changed; a hint that has missed changes (facts 3).
    pub last_membership_updated: Option<Timestamp>,
}

impl Group {
    /// Whether this is the built-in group of all users, which is derived from the user list and never walked (facts 3).
    pub fn is_everyone(&self) -> bool {
        self.group_type == GroupType::BuiltIn && &*self.name == "Everyone"
    }
}

/// What `expand=stats` told of a group in one list answer. Only a hint for planning: not stored with the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStats {
    /// `usersCount`.
    pub users: u64,
    /// `appsCount`.
    pub apps: u64,
}

/// An app instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Okta's id.
    pub id: AppId,
    /// Integration key, e.g. `salesforce`; several instances may share it.
    pub name: Box<str>,
    /// Display name; editable, not unique.
    pub label: Box<str>,
    /// Okta's status.
    pub status: AppStatus,
    /// `SAML_2_0`, `OPENID_CONNECT`, …; absent for directories and some integrations.
    pub sign_on_mode: Option<Box<str>>,
    /// Provisioning capabilities; empty means SSO only (no external ids to expect).
    pub features: Vec<Box<str>>,
    /// `credentials.scheme` of SWA apps, e.g. `SHARED_USERNAME_AND_PASSWORD`.
    pub credential_scheme: Option<Box<str>>,
    /// `credentials.userName`: the one account of everybody under the shared scheme.
    pub shared_user_name: Option<Box<str>>,
    /// `credentials.userNameTemplate.template`.
    pub user_name_template: Option<Box<str>>,
    /// `settings.oauthClient.application_type` of OIDC apps; `service` apps have no app users (facts 4).
    pub oauth_application_type: Option<Box<str>>,
    /// Whether the app is open to everybody without assignments (Federation Broker Mode); `None` where the answer does not
    /// tell.
    pub implicit_assignment: Option<bool>,
    /// When Okta created it.
    pub created: Option<Timestamp>,
    /// When the configuration last changed (not the assignments).
    pub last_updated: Option<Timestamp>,
}

impl App {
    /// Whether all users share one account of the app, whose name stands on the app itself (facts 4).
    pub fn is_shared_account(&self) -> bool {
        self.credential_scheme.as_deref() == Some("SHARED_USERNAME_AND_PASSWORD")
    }

    /// Whether the app is one of Okta's own (console, dashboard, plug-in), excluded unless configured (facts 4).
    pub fn is_okta_built_in(&self) -> bool {
        // `okta_org2org` connects two orgs: an integration like any other, with accounts of its own.
        &*self.name == "saasure" || (self.name.starts_with("okta_") && &*self.name != "okta_org2org")
    }

    /// Whether the app cannot have app users: custom OAuth service apps (facts 4).
    pub fn is_service_app(&self) -> bool {
        self.oauth_application_type.as_deref() == Some("service")
    }
}

/// An app user: the mapping row. One per (app, user), however many groups grant it (facts 5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppUser {
    /// The app instance.
    pub app: AppId,
    /// The Okta user; Okta's `AppUser.id` *is* the user id (facts 5.1).
    pub user: UserId,
    /// `credentials.userName`: login name in the app; absent where the app has no credentials.
    pub user_name: Option<Box<str>>,
    /// Primary key of the account in the app; only where provisioning or import filled it.
    pub external_id: Option<Box<str>>,
    /// `profile.email`: the account's own e-mail.
    pub email: Option<Box<str>>,
    /// Okta's status.
    pub status: AppUserStatus,
    /// Direct or through a group.
    pub scope: AssignmentScope,
    /// `syncState`, as Okta sent it.
    pub sync_state: Option<Box<str>>,
    /// The one granting group that the answer names (best priority), when `scope` is [`AssignmentScope::Group`].
    pub via_group: Option<GroupId>,
    /// When the assignment was created.
    pub created: Option<Timestamp>,
    /// When profile, credentials or status of the assignment last changed.
    pub last_updated: Option<Timestamp>,
    /// When the status last changed.
    pub status_changed: Option<Timestamp>,
}

/// Assignment of a group to an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppGroup {
    /// The app instance.
    pub app: AppId,
    /// The group.
    pub group: GroupId,
    /// Lower number = higher priority; not contiguous (facts 15.16).
    pub priority: Option<i64>,
    /// When the assignment last changed.
    pub last_updated: Option<Timestamp>,
}

/// Membership of a user in a group. Includes deactivated users who were never removed (facts 3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupMember {
    /// The group.
    pub group: GroupId,
    /// The user.
    pub user: UserId,
}

/// A row of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// See [`User`].
    User(User),
    /// See [`Group`].
    Group(Group),
    /// See [`GroupMember`].
    GroupMember(GroupMember),
    /// See [`App`].
    App(App),
    /// See [`AppUser`].
    AppUser(AppUser),
    /// See [`AppGroup`].
    AppGroup(AppGroup),
}

/// Natural key of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A user.
    User(UserId),
    /// A group.
    Group(GroupId),
    /// A membership.
    GroupMember(GroupId, UserId),
    /// An app.
    App(AppId),
    /// An app user.
    AppUser(AppId, UserId),
    /// An app-group assignment.
    AppGroup(AppId, GroupId),
}

impl Key {
    /// The kind of the row.
    pub const fn kind(&self) -> Kind {
        match self {
            Key::User(_) => Kind::User,
            Key::Group(_) => Kind::Group,
            Key::GroupMember(..) => Kind::GroupMember,
            Key::App(_) => Kind::App,
            Key::AppUser(..) => Kind::AppUser,
            Key::AppGroup(..) => Kind::AppGroup,
        }
    }

    /// The id that its record carries in the collection of [`Key::scope`].
    pub fn id_in_list(&self) -> &str {
        match self {
            Key::User(user) | Key::GroupMember(_, user) | Key::AppUser(_, user) => user.as_str(),
            Key::Group(group) | Key::AppGroup(_, group) => group.as_str(),
            Key::App(app) => app.as_str(),
        }
    }

    /// The collection that shows this row when it is read as a whole.
    pub fn scope(&self) -> Scope {
        match self {
            Key::User(_) => Scope::Users,
            Key::Group(_) => Scope::Groups,
            Key::App(_) => Scope::Apps,
            Key::GroupMember(group, _) => Scope::GroupMembers(group.clone()),
            Key::AppUser(app, _) => Scope::AppUsers(app.clone()),
            Key::AppGroup(app, _) => Scope::AppGroups(app.clone()),
        }
    }
}

impl Row {
    /// The natural key.
    pub fn key(&self) -> Key {
        match self {
            Row::User(row) => Key::User(row.id.clone()),
            Row::Group(row) => Key::Group(row.id.clone()),
            Row::GroupMember(row) => Key::GroupMember(row.group.clone(), row.user.clone()),
            Row::App(row) => Key::App(row.id.clone()),
            Row::AppUser(row) => Key::AppUser(row.app.clone(), row.user.clone()),
            Row::AppGroup(row) => Key::AppGroup(row.app.clone(), row.group.clone()),
        }
    }

    /// Okta's own date of the last change, the second guard against an older answer; `None` where Okta gives none.
    pub fn last_updated(&self) -> Option<Timestamp> {
        match self {
            Row::User(row) => row.last_updated,
            Row::Group(row) => row.last_updated,
            Row::GroupMember(_) => None,
            Row::App(row) => row.last_updated,
            Row::AppUser(row) => row.last_updated,
            Row::AppGroup(row) => row.last_updated,
        }
    }
}

/// What is known or not known as a whole, the unit of completeness: a collection, or one object that is known by its id only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All users.
    Users,
    /// All groups.
    Groups,
    /// All apps.
    Apps,
    /// The members of one group.
    GroupMembers(GroupId),
    /// The app users of one app.
    AppUsers(AppId),
    /// The app-group assignments of one app.
    AppGroups(AppId),
    /// The System Log.
    Log,
    /// One user, by id: never walked; gaps stand on it.
    User(UserId),
    /// One group, by id: never walked; gaps stand on it.
    Group(GroupId),
    /// One app, by id: never walked; gaps stand on it.
    App(AppId),
}

impl Scope {
    /// The object that a key is, if it is an object by itself.
    pub fn of_object(key: &Key) -> Option<Self> {
        match key {
            Key::User(user) => Some(Scope::User(user.clone())),
            Key::Group(group) => Some(Scope::Group(group.clone())),
            Key::App(app) => Some(Scope::App(app.clone())),
            Key::GroupMember(..) | Key::AppUser(..) | Key::AppGroup(..) => None,
        }
    }

    /// The collections below a group or an app.
    pub fn below(key: &Key) -> Vec<Self> {
        match key {
            Key::Group(group) => vec![Self::GroupMembers(group.clone())],
            Key::App(app) => vec![Self::AppUsers(app.clone()), Self::AppGroups(app.clone())],
            Key::User(_) | Key::GroupMember(..) | Key::AppUser(..) | Key::AppGroup(..) => Vec::new(),
        }
    }

    /// The key of the one object that the scope is; `None` for collections and the log.
    pub fn object(&self) -> Option<Key> {
        match self {
            Scope::User(user) => Some(Key::User(user.clone())),
            Scope::Group(group) => Some(Key::Group(group.clone())),
            Scope::App(app) => Some(Key::App(app.clone())),
            Scope::Users
            | Scope::Groups
            | Scope::Apps
            | Scope::GroupMembers(_)
            | Scope::AppUsers(_)
            | Scope::AppGroups(_)
            | Scope::Log => None,
        }
    }

    /// Stable text form, `users` or `app_users(0oa1)`: what gaps, the command line and the API show, and what is stored.
    pub fn name(&self) -> String {
        match self {
            Scope::Users => "users".into(),
            Scope::Groups => "groups".into(),
            Scope::Apps => "apps".into(),
            Scope::GroupMembers(group) => format!("group_members({group})"),
            Scope::AppUsers(app) => format!("app_users({app})"),
            Scope::AppGroups(app) => format!("app_groups({app})"),
            Scope::Log => "log".into(),
            Scope::User(user) => format!("user({user})"),
            Scope::Group(group) => format!("group({group})"),
            Scope::App(app) => format!("app({app})"),
        }
    }

    /// Reads [`Scope::name`] back.
    pub fn parse(name: &str) -> Option<Self> {
        let inner = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix('(')?.strip_suffix(')');
        match name {
            "users" => Some(Scope::Users),
            "groups" => Some(Scope::Groups),
            "apps" => Some(Scope::Apps),
            "log" => Some(Scope::Log),
            _ => None
                .or_else(|| inner("group_members").and_then(|id| GroupId::new(id).ok()).map(Scope::GroupMembers))
                .or_else(|| inner("app_users").and_then(|id| AppId::new(id).ok()).map(Scope::AppUsers))
                .or_else(|| inner("app_groups").and_then(|id| AppId::new(id).ok()).map(Scope::AppGroups))
                .or_else(|| inner("user").and_then(|id| UserId::new(id).ok()).map(Scope::User))
                .or_else(|| inner("group").and_then(|id| GroupId::new(id).ok()).map(Scope::Group))
                .or_else(|| inner("app").and_then(|id| AppId::new(id).ok()).map(Scope::App)),
        }
    }

    /// The kind of the rows that the scope holds; `None` for the log, which holds hints and no rows.
    pub const fn kind(&self) -> Option<Kind> {
        match self {
            Scope::Users | Scope::User(_) => Some(Kind::User),
            Scope::Groups | Scope::Group(_) => Some(Kind::Group),
            Scope::Apps | Scope::App(_) => Some(Kind::App),
            Scope::GroupMembers(_) => Some(Kind::GroupMember),
            Scope::AppUsers(_) => Some(Kind::AppUser),
            Scope::AppGroups(_) => Some(Kind::AppGroup),
            Scope::Log => None,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// A record of a page that could not become a row: what, where, why. The page goes on (facts 13.8, style rule 14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The collection in whose answer it stood.
    pub scope: Scope,
    /// Its id, where one could be read.
    pub id: Option<Box<str>>,
    /// Why it is no row; names the field, holds no value of it.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_names_read_back() {
        let app = AppId::new("0oa1").unwrap();
        let group = GroupId::new("00g1").unwrap();
        for scope in [
            Scope::Users,
            Scope::Groups,
            Scope::Apps,
            Scope::Log,
            Scope::GroupMembers(group.clone()),
            Scope::AppUsers(app.clone()),
            Scope::AppGroups(app.clone()),
            Scope::User(UserId::new("00u1").unwrap()),
            Scope::Group(group),
            Scope::App(app),
        ] {
            assert_eq!(Scope::parse(&scope.name()), Some(scope.clone()));
            assert_eq!(scope.object().and_then(|key| Scope::of_object(&key)), scope.object().map(|_| scope));
        }
        assert_eq!(Scope::parse("app_users()"), None);
        assert_eq!(Scope::parse("roles"), None);
    }

    #[test]
    fn unknown_values_survive() {
        assert_eq!(UserStatus::parse("ACTIVE"), UserStatus::Active);
        assert_eq!(AppUserStatus::parse("IN_2027").as_str(), "IN_2027");
        for raw in AppUserStatus::KNOWN {
            assert_eq!(AppUserStatus::parse(raw).as_str(), *raw);
        }
    }
}

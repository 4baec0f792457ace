//! The compact structs behind the org: what is kept in memory for a million users and five times as many app users.
//!
//! Invariants: times are whole seconds since 1970 (`0` = never, shown as null); names that repeat are interned.

use std::collections::{BTreeMap, HashMap};

macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* #[doc = concat!("`", $text, "`.")] $variant),+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text the API shows.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

named_enum! {
    /// Status of a user (facts 2.1).
    UserStatus {
        Staged = "STAGED", Provisioned = "PROVISIONED", Active = "ACTIVE", Recovery = "RECOVERY",
        PasswordExpired = "PASSWORD_EXPIRED", LockedOut = "LOCKED_OUT", Suspended = "SUSPENDED",
        Deprovisioned = "DEPROVISIONED",
    }
}
named_enum! {
    /// Who is the source of a user's credentials (facts 2.1, `credentials.provider.type`).
    Provider { Okta = "OKTA", ActiveDirectory = "ACTIVE_DIRECTORY", Federation = "FEDERATION", Import = "IMPORT", Ldap = "LDAP" }
}
named_enum! {
    /// Kind of a group (facts 3).
    GroupKind { Okta = "OKTA_GROUP", App = "APP_GROUP", BuiltIn = "BUILT_IN" }
}
named_enum! {
    /// Status of an app; deleted apps are gone from the org, not kept as `DELETED`.
    AppStatus { Active = "ACTIVE", Inactive = "INACTIVE" }
}
named_enum! {
    /// How an app signs people in (facts 4). Directories and some integrations have none.
    SignOnMode {
        AutoLogin = "AUTO_LOGIN", BasicAuth = "BASIC_AUTH", Bookmark = "BOOKMARK", BrowserPlugin = "BROWSER_PLUGIN",
        OpenIdConnect = "OPENID_CONNECT", Saml11 = "SAML_1_1", Saml20 = "SAML_2_0",
        SecurePasswordStore = "SECURE_PASSWORD_STORE", WsFederation = "WS_FEDERATION",
    }
}
named_enum! {
    /// Credential scheme of a form-filling app (facts 4, `credentials.scheme`).
    Scheme {
        EditUsernameAndPassword = "EDIT_USERNAME_AND_PASSWORD", AdminSetsCredentials = "ADMIN_SETS_CREDENTIALS",
        EditPasswordOnly = "EDIT_PASSWORD_ONLY", ExternalPasswordSync = "EXTERNAL_PASSWORD_SYNC",
        SharedUsernameAndPassword = "SHARED_USERNAME_AND_PASSWORD",
    }
}
named_enum! {
    /// Status of an app user (facts 5.2): five are common, all may appear.
    AppUserStatus {
        Active = "ACTIVE", Staged = "STAGED", Provisioned = "PROVISIONED", Inactive = "INACTIVE",
        Deprovisioned = "DEPROVISIONED", Suspended = "SUSPENDED", Approved = "APPROVED", Revoked = "REVOKED",
        Pending = "PENDING", Imported = "IMPORTED", Matched = "MATCHED", Implicit = "IMPLICIT", Unassigned = "UNASSIGNED",
    }
}
named_enum! {
    /// Whether an assignment is direct or comes from a group (facts 5.3).
    Scope { User = "USER", Group = "GROUP" }
}
named_enum! {
    /// Provisioning progress of an app user (facts 5.1).
    SyncState {
        Disabled = "DISABLED", OutOfSync = "OUT_OF_SYNC", Syncing = "SYNCING", Synchronized = "SYNCHRONIZED", Error = "ERROR",
    }
}
named_enum! {
    /// How the user name in the app is made from the user (facts 4, `credentials.userNameTemplate`).
    Template {
        Login = "${source.login}",
        Email = "${source.email}",
        ShortName = "${fn:substringBefore(source.login, \"@\")}",
        UpperShortName = "${fn:toUpperCase(fn:substringBefore(source.login, \"@\"))}",
        EmployeeNumber = "${source.employeeNumber}",
        None = "",
    }
}

impl Template {
    /// `credentials.userNameTemplate.type`.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Login | Self::Email => "BUILT_IN",
            Self::None => "NONE",
            _ => "CUSTOM",
        }
    }
}

/// A text shared by many objects; `TextKey::NONE` is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextKey(u32);

impl TextKey {
    pub(crate) const NONE: Self = Self(u32::MAX);
}

/// Keeps every distinct text once.
#[derive(Default)]
pub(crate) struct Interner {
    texts: Vec<Box<str>>,
    keys: HashMap<Box<str>, u32>,
}

impl Interner {
    pub(crate) fn key(&mut self, text: Option<&str>) -> TextKey {
        let Some(text) = text else { return TextKey::NONE };
        if let Some(key) = self.keys.get(text) {
            return TextKey(*key);
        }
        let key = u32::try_from(self.texts.len()).unwrap_or(u32::MAX - 1);
        self.texts.push(text.into());
        self.keys.insert(text.into(), key);
        TextKey(key)
    }

    pub(crate) fn text(&self, key: TextKey) -> Option<&str> {
        self.texts.get(key.0 as usize).map(AsRef::as_ref)
    }
}

#[derive(Clone)]
pub(crate) struct User {
    pub(crate) status: UserStatus,
    pub(crate) provider: Provider,
    /// Sparse users leave null properties and optional dates out altogether.
    pub(crate) sparse: bool,
    pub(crate) created_s: u32,
    pub(crate) activated_s: u32,
    pub(crate) status_changed_s: u32,
    pub(crate) last_updated_s: u32,
    pub(crate) last_login_s: u32,
    pub(crate) first_name: TextKey,
    pub(crate) last_name: TextKey,
    pub(crate) department: TextKey,
    /// Rendered as `E-<number>`; 0 = none.
    pub(crate) employee_number: u32,
    pub(crate) login: Box<str>,
    /// `None` = the same as the login, which is the usual case.
    pub(crate) email: Option<Box<str>>,
    pub(crate) second_email: Option<Box<str>>,
    pub(crate) display_name: Option<Box<str>>,
    pub(crate) custom: Option<BTreeMap<String, serde_json::Value>>,
    /// Explicit groups, ascending; `Everyone` is not among them.
    pub(crate) groups: Vec<u32>,
    /// (app, assignment number) of every app user of this user, ascending by app.
    pub(crate) assignments: Vec<(u32, u32)>,
}

impl User {
    pub(crate) fn email(&self) -> &str {
        self.email.as_deref().unwrap_or(&self.login)
    }

    pub(crate) fn assignment_in(&self, app: u32) -> Option<u32> {
        let place = self.assignments.binary_search_by_key(&app, |pair| pair.0).ok()?;
        Some(self.assignments[place].1)
    }
}

pub(crate) struct Group {
    pub(crate) kind: GroupKind,
    pub(crate) name: Box<str>,
    pub(crate) description: Option<Box<str>>,
    pub(crate) created_s: u32,
    pub(crate) last_updated_s: u32,
    pub(crate) last_membership_updated_s: u32,
    pub(crate) source_app: Option<u32>,
    /// Explicit members, ascending. Empty for `Everyone`, whose members are all users.
    pub(crate) members: Vec<u32>,
    /// Apps this group is assigned to, ascending.
    pub(crate) apps: Vec<u32>,
}

pub(crate) struct AppGroup {
    pub(crate) group: u32,
    pub(crate) priority: i32,
    pub(crate) last_updated_s: u32,
    /// Number behind the `gaa..` id.
    pub(crate) number: u32,
}

/// Rare values of an app user that differ from what is computed.
#[derive(Default)]
pub(crate) struct Overrides {
    pub(crate) user_name: Option<Box<str>>,
    pub(crate) external_id: Option<Box<str>>,
}

pub(crate) struct AppUser {
    /// Number behind the `0ua..` id; ascending inside an app and the paging key of its list.
    pub(crate) assignment: u32,
    pub(crate) user: u32,
    pub(crate) created_s: u32,
    pub(crate) last_updated_s: u32,
    pub(crate) status_changed_s: u32,
    pub(crate) status: AppUserStatus,
    pub(crate) sync: SyncState,
    pub(crate) scope: Scope,
    /// False = removed; the slot is swept later, so that removal needs no shifting.
    pub(crate) alive: bool,
    pub(crate) has_external_id: bool,
    pub(crate) overrides: Option<Box<Overrides>>,
}

pub(crate) struct App {
    pub(crate) name: Box<str>,
    pub(crate) label: Box<str>,
    pub(crate) status: AppStatus,
    pub(crate) sign_on: Option<SignOnMode>,
    pub(crate) features: Vec<&'static str>,
    pub(crate) scheme: Option<Scheme>,
    pub(crate) shared_user_name: Option<Box<str>>,
    pub(crate) template: Template,
    /// `settings.oauthClient.application_type` of OIDC apps: web, native, browser or service.
    pub(crate) oauth_type: Option<&'static str>,
    /// Federation Broker Mode: open to everybody without assignment (facts 4).
    pub(crate) implicit_assignment: bool,
    pub(crate) created_s: u32,
    pub(crate) last_updated_s: u32,
    /// Ascending by assignment; dead slots are swept when they outnumber the living.
    pub(crate) users: Vec<AppUser>,
    pub(crate) live_users: usize,
    pub(crate) groups: Vec<AppGroup>,
}

impl App {
    /// Whether assigning somebody creates an account in the app (then app users have an `externalId`).
    pub(crate) fn provisions(&self) -> bool {
        self.features.contains(&"PUSH_NEW_USERS")
    }

    /// Directories and importing apps: accounts come from the app, with an `externalId` from the start.
    pub(crate) fn imports(&self) -> bool {
        self.features.contains(&"IMPORT_NEW_USERS")
    }

    /// Apps whose app users carry a user name (bookmarks have no credentials at all).
    pub(crate) fn has_credentials(&self) -> bool {
        self.sign_on != Some(SignOnMode::Bookmark)
    }

    pub(crate) fn find(&self, assignment: u32) -> Option<&AppUser> {
        let place = self.users.binary_search_by_key(&assignment, |user| user.assignment).ok()?;
        self.users.get(place).filter(|user| user.alive)
    }

    pub(crate) fn find_mut(&mut self, assignment: u32) -> Option<&mut AppUser> {
        let place = self.users.binary_search_by_key(&assignment, |user| user.assignment).ok()?;
        self.users.get_mut(place).filter(|user| user.alive)
    }

    /// Removes an app user; dead slots are dropped once they are the majority, so the cost per removal stays constant.
    pub(crate) fn remove(&mut self, assignment: u32) -> bool {
        let Some(user) = self.find_mut(assignment) else { return false };
        user.alive = false;
        user.overrides = None;
        self.live_users -= 1;
        if self.users.len() > 2 * self.live_users + 16 {
            self.users.retain(|user| user.alive);
        }
        true
    }

    /// The living app users after a position, in paging order.
    pub(crate) fn users_after(&self, assignment: Option<u32>) -> impl Iterator<Item = &AppUser> {
        let start = match assignment {
            Some(last) => self.users.partition_point(|user| user.assignment <= last),
            None => 0,
        };
        self.users[start..].iter().filter(|user| user.alive)
    }
}

const _: () = assert!(std::mem::size_of::<AppUser>() <= 40, "five million of these must stay small");
const _: () = assert!(std::mem::size_of::<User>() <= 200, "a million of these must stay small");

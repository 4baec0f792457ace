//! What a credential can read: what is asked for, and what the answers show together (facts 7.2, 12.4).
//!
//! Entry points: [`Probe::ALL`] is asked for in this order; [`Sight`] takes the answers in and chooses what the next question
//! is about; [`Sight::judge`] says what came of a question.
//!
//! Invariants:
//! - [`ProbeResult::Partial`] rests on something that an answer showed; what nothing shows is not suspected.
//! - An optional probe that fails makes no report worse.
//! - Reports hold ids, counts, roles and Okta's codes; no names.

mod sight;
#[cfg(test)]
mod tests;
mod verdict;

pub use self::sight::Sight;
pub use self::verdict::Verdict;

use super::coverage::ReadFailure;
use super::ids::{Timestamp, UserId};

/// OAuth scopes without which something is missing (facts 10.2).
pub const SCOPES_NEEDED: [&str; 4] = ["okta.users.read", "okta.groups.read", "okta.apps.read", "okta.logs.read"];

/// One thing that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// Public metadata of the org: is this an Okta org at all?
    Org,
    /// Whose API token it is.
    Owner,
    /// The list of users.
    Users,
    /// The list of users by search, in which one walk shows all statuses.
    UserSearch,
    /// The list of groups.
    Groups,
    /// The list of apps.
    Apps,
    /// The System Log.
    Log,
    /// The members of one group.
    GroupMembers,
    /// The app users of one app.
    AppUsers,
    /// The groups assigned to that app.
    AppGroups,
    /// One user by id. Following reads whatever changed in this way.
    User,
    /// One group by id.
    Group,
    /// One app by id.
    App,
    /// The administrator roles of the credential's owner.
    Roles,
    /// The API tokens of the owner.
    ApiTokens,
}

/// What cures a refusal (facts 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The smallest standard role, or several of which one is enough.
    pub standard_role: &'static str,
    /// The permission of a custom role; `None`: there is none, only standard roles have it.
    pub custom_permission: Option<&'static str>,
    /// What a custom role has to be given it on.
    pub resource: &'static str,
    /// The scope of a service app, which it needs beside the role.
    pub oauth_scope: &'static str,
}

impl Probe {
    /// Every probe, in the order in which they are made: what is named by an answer is asked for behind it.
    pub const ALL: [Probe; 15] = [
        Probe::Org,
        Probe::Owner,
        Probe::Users,
        Probe::UserSearch,
        Probe::Groups,
        Probe::Apps,
        Probe::Log,
        Probe::GroupMembers,
        Probe::AppUsers,
        Probe::AppGroups,
        Probe::User,
        Probe::Group,
        Probe::App,
        Probe::Roles,
        Probe::ApiTokens,
    ];

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Probe::Org => "org",
            Probe::Owner => "owner",
            Probe::Users => "users",
            Probe::UserSearch => "user_search",
            Probe::Groups => "groups",
            Probe::Apps => "apps",
            Probe::Log => "log",
            Probe::GroupMembers => "group_members",
            Probe::AppUsers => "app_users",
            Probe::AppGroups => "app_groups",
            Probe::User => "user",
            Probe::Group => "group",
            Probe::App => "app",
            Probe::Roles => "roles",
            Probe::ApiTokens => "api_tokens",
        }
    }

    /// Whether a crawl does without it: it only tells more about the credential.
    pub const fn is_optional(self) -> bool {
        matches!(self, Probe::Owner | Probe::Roles | Probe::ApiTokens)
    }

    /// Whether there are rows in every org, so that an empty answer means a missing role (facts 7.2): the credential's
    /// owner is a user, `Everyone` is a group, the admin console is an app.
    const fn must_have_rows(self) -> bool {
        matches!(self, Probe::Users | Probe::UserSearch | Probe::Groups | Probe::Apps)
    }

    /// What has to be granted where it is refused; `None` for what nobody is refused.
    pub const fn permission(self) -> Option<Permission> {
        let read_only = "Read-only Administrator";
        Some(match self {
            Probe::Org | Probe::Owner => return None,
            Probe::Users | Probe::UserSearch | Probe::User => Permission {
                standard_role: read_only,
                custom_permission: Some("okta.users.read"),
                resource: "all users",
                oauth_scope: "okta.users.read",
            },
            Probe::Groups | Probe::GroupMembers | Probe::Group => Permission {
                standard_role: read_only,
                custom_permission: Some("okta.groups.read"),
                resource: "all groups",
                oauth_scope: "okta.groups.read",
            },
            Probe::Apps | Probe::AppUsers | Probe::AppGroups | Probe::App => Permission {
                standard_role: read_only,
                custom_permission: Some("okta.apps.read"),
                resource: "all applications",
                oauth_scope: "okta.apps.read",
            },
            Probe::Log => Permission {
                standard_role: "Read-only, Report, App, Org or Super Administrator",
                custom_permission: None,
                resource: "",
                oauth_scope: "okta.logs.read",
            },
            Probe::Roles => Permission {
                standard_role: "Super Administrator",
                custom_permission: Some("okta.iam.read"),
                resource: "all IAM resources",
                oauth_scope: "okta.roles.read",
            },
            Probe::ApiTokens => Permission {
                standard_role: "Read-only, Org or Super Administrator",
                custom_permission: Some("okta.users.apitokens.read"),
                resource: "all users",
                oauth_scope: "okta.apiTokens.read",
            },
        })
    }
}

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It can be read, and nothing shows that anything is left out.
    Readable,
    /// It can be read, and something shows that a part is left out.
    Partial,
    /// It can be read and shows nothing, which no org does: a role is missing.
    Empty,
    /// 403: a permission is missing.
    Forbidden,
    /// 403 `insufficient_scope`: an OAuth scope is missing.
    ScopeMissing,
    /// 401: the credential is refused.
    Unauthorized,
    /// The org does not offer it now; another way shows the same.
    NotOffered,
    /// An optional one that was not answered: less is known about the credential, and nothing is lacking.
    NotTold,
    /// No answer from the org at all.
    Unreachable,
    /// Anything else that is no answer.
    Failed,
    /// It was not asked for: an earlier failure would repeat, or there is nothing to ask about.
    NotAsked,
}

impl ProbeResult {
    /// Every result.
    pub const ALL: [ProbeResult; 11] = [
        ProbeResult::Readable,
        ProbeResult::Partial,
        ProbeResult::Empty,
        ProbeResult::Forbidden,
        ProbeResult::ScopeMissing,
        ProbeResult::Unauthorized,
        ProbeResult::NotOffered,
        ProbeResult::NotTold,
        ProbeResult::Unreachable,
        ProbeResult::Failed,
        ProbeResult::NotAsked,
    ];

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            ProbeResult::Readable => "readable",
            ProbeResult::Partial => "partial",
            ProbeResult::Empty => "empty",
            ProbeResult::Forbidden => "forbidden",
            ProbeResult::ScopeMissing => "scope_missing",
            ProbeResult::Unauthorized => "unauthorized",
            ProbeResult::NotOffered => "not_offered",
            ProbeResult::NotTold => "not_told",
            ProbeResult::Unreachable => "unreachable",
            ProbeResult::Failed => "failed",
            ProbeResult::NotAsked => "not_asked",
        }
    }

    /// Whether a crawl would lack nothing because of it.
    pub const fn is_fine(self) -> bool {
        matches!(self, ProbeResult::Readable | ProbeResult::NotOffered | ProbeResult::NotTold)
    }

    /// Whether nothing at all can be read.
    pub const fn is_fatal(self) -> bool {
        matches!(self, ProbeResult::Unauthorized | ProbeResult::Unreachable)
    }
}

/// What a question was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Something was shown; what, was handed to [`Sight`].
    Shown,
    /// A list without any record.
    Empty,
    /// Of a read by id: there is no such object, or this credential does not see it.
    Absent,
    /// The org does not offer it; another way shows the same.
    NotOffered,
    /// It failed.
    Failed(ReadFailure),
    /// It was not asked; why.
    NotAsked(String),
}

/// An administrator role of the credential's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Okta's type of it: `READ_ONLY_ADMIN`, `CUSTOM`.
    pub kind: Box<str>,
    /// Whether it is limited to some apps; told for roles that apps can be targets of.
    pub has_app_targets: bool,
}

/// An API token, as the list of tokens shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Whose it is.
    pub owner: UserId,
    /// When it lapses unless it is used.
    pub expires_at: Option<Timestamp>,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeLine {
    /// What was asked for.
    pub probe: Probe,
    /// Path of the request, with its query; empty when nothing was asked.
    pub path: String,
    /// What came of it.
    pub result: ProbeResult,
    /// What was seen, what Okta or the network said, or why it was not asked. Empty when it is readable.
    pub detail: String,
    /// What stays unknown without it. Empty when it is fine.
    pub hides: String,
    /// What to do about it. Empty when it is fine.
    pub remedy: String,
    /// The rate-limit bucket that it draws on.
    pub bucket: &'static str,
    /// Requests per window of that bucket, as Okta's headers tell.
    pub rate_limit: Option<u64>,
}

impl ProbeLine {
    /// Whether something would be lacking because of it.
    pub const fn is_fine(&self) -> bool {
        self.probe.is_optional() || self.result.is_fine()
    }
}

/// What a credential can read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeReport {
    /// Okta's id of the org.
    pub org_id: Option<String>,
    /// How far this machine's clock is ahead of Okta's, in milliseconds; Okta tells whole seconds.
    pub clock_ahead_millis: Option<i64>,
    /// Whose API token it is.
    pub owner: Option<UserId>,
    /// Types of the owner's administrator roles; `None`: they cannot be read.
    pub roles: Option<Vec<String>>,
    /// When the token lapses unless it is used; told where the owner has one token only.
    pub token_expires_at: Option<Timestamp>,
    /// Scopes of the access token; `None`: the credential has no scopes, or they are not known.
    pub granted_scopes: Option<Vec<String>>,
    /// Limits of the buckets that were drawn on, by name: requests per window, as Okta's headers tell.
    pub rate_limits: Vec<(&'static str, u64)>,
    /// One line per probe, in the order of [`Probe::ALL`].
    pub lines: Vec<ProbeLine>,
}

impl ProbeReport {
    /// Whether everything that a crawl reads can be read.
    pub fn is_fine(&self) -> bool {
        !self.is_fatal() && self.lines.iter().all(ProbeLine::is_fine) && self.missing_scopes().is_empty()
    }

    /// Whether nothing can be read: the org is unreachable or refuses the credential.
    pub fn is_fatal(&self) -> bool {
        self.lines.iter().any(|line| line.result.is_fatal())
    }

    /// Scopes that are needed and were not granted: asked for in vain, or dropped by Okta without a word (facts 7.2).
    pub fn missing_scopes(&self) -> Vec<&'static str> {
        let Some(granted) = &self.granted_scopes else { return Vec::new() };
        SCOPES_NEEDED.into_iter().filter(|needed| !granted.iter().any(|scope| scope == needed)).collect()
    }
}

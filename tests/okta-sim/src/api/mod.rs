//! The read endpoints of the simulated org (facts 1.1, 1.2): from a request to an answer, without sockets.
//!
//! Entry point: [`answer`]. Invariant: nothing here changes the org; every failure is an [`ApiError`] with the status
//! and code that Okta uses (facts 7.1).

mod apps;
mod groups;
mod logs;
mod misc;
pub(crate) mod page;
mod render;
mod users;

use std::collections::BTreeSet;

use crate::auth::Auth;
use crate::faults::{Effects, Quirks, Refusal};
use crate::hidden::{ById, Hidden, Role};
use crate::http::{Params, Request, decode};
use crate::ids::{AppRef, GroupRef, UserRef};
use crate::json::{Object, array};
use crate::org::Org;
use crate::time::UnixMs;

pub(crate) use page::List;

/// Everything an endpoint reads.
pub(crate) struct Context<'a> {
    pub(crate) org: &'a Org,
    pub(crate) quirks: &'a Quirks,
    pub(crate) role: &'a Role,
    pub(crate) hidden: &'a Hidden,
    pub(crate) auth: &'a Auth,
    pub(crate) effects: &'a Effects,
    pub(crate) request: &'a Request,
    pub(crate) params: Params<'a>,
    pub(crate) base_url: &'a str,
    pub(crate) caller: UserRef,
    pub(crate) now_ms: UnixMs,
}

/// A successful answer.
pub(crate) enum Answer {
    One(String),
    List(List),
}

/// An error with Okta's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// An ordinary error: status, code, summary, causes.
    Coded { status: u16, code: &'static str, summary: String, causes: Vec<String> },
    /// The 404 of the front end (facts 15.3).
    FrontEnd,
}

impl ApiError {
    pub(crate) fn new(status: u16, code: &'static str, summary: &str) -> Self {
        Self::Coded { status, code, summary: summary.to_owned(), causes: Vec::new() }
    }

    pub(crate) fn cause(mut self, text: &str) -> Self {
        if let Self::Coded { causes, .. } = &mut self {
            causes.push(text.to_owned());
        }
        self
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(403, "E0000006", "You do not have permission to perform the requested action")
    }

    pub(crate) fn not_found(id: &str, kind: &str) -> Self {
        Self::new(404, "E0000007", &format!("Not found: Resource not found: {id} ({kind})"))
    }

    pub(crate) fn validation(field: &str, cause: &str) -> Self {
        Self::new(400, "E0000001", &format!("Api validation failed: {field}")).cause(cause)
    }

    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Coded { status, .. } => *status,
            Self::FrontEnd => 404,
        }
    }

    pub(crate) fn body(&self, error_id: &str) -> String {
        match self {
            Self::FrontEnd => r#"{"status":404,"message":"Resource not found"}"#.to_owned(),
            Self::Coded { code, summary, causes, .. } => {
                let causes = causes.iter().map(|cause| Object::new().text("errorSummary", cause).end());
                Object::new()
                    .text("errorCode", code)
                    .text("errorSummary", summary)
                    .text("errorLink", code)
                    .text("errorId", error_id)
                    .raw("errorCauses", &array(causes))
                    .end()
            }
        }
    }

    /// The coded error behind a refusal; `None` for those that have no Okta body.
    pub(crate) fn of_refusal(refusal: &Refusal) -> Option<Self> {
        let (status, code, summary) = match refusal {
            Refusal::Forbidden => return Some(Self::forbidden()),
            Refusal::InvalidToken => (401, "E0000011", "Invalid token provided"),
            Refusal::FeatureDisabled => {
                (401, "E0000015", "You do not have permission to access the feature you are requesting")
            }
            Refusal::NotFound => (404, "E0000007", "Not found: Resource not found"),
            Refusal::MethodNotAllowed => (405, "E0000022", "The endpoint does not support the provided HTTP method"),
            Refusal::Locked => (423, "E0000239", "The resource is locked. Please try again later."),
            Refusal::RateLimited(_) | Refusal::Concurrency => {
                (429, "E0000047", "API call exceeded rate limit due to too many requests.")
            }
            Refusal::InvalidCursor => (400, "E0000029", "Invalid paging request."),
            Refusal::InvalidSearch => (400, "E0000031", "Invalid search criteria."),
            Refusal::Internal => (500, "E0000009", "Internal Server Error"),
            Refusal::ReadOnly => (503, "E0000010", "Service is in read only mode"),
            Refusal::SearchUnavailable => (503, "E0000100", "Search is currently unavailable. Please try again later."),
            Refusal::FrontEndNotFound => return Some(Self::FrontEnd),
            Refusal::InsufficientScope(_) | Refusal::BadGateway | Refusal::GatewayTimeout | Refusal::Custom(..) => {
                return None;
            }
        };
        let error = Self::new(status, code, summary);
        Some(if *refusal == Refusal::InvalidCursor { error.cause("Invalid cursor.") } else { error })
    }
}

/// The name under which an endpoint is counted; also decides what exists at all.
pub(crate) fn endpoint_of(path: &str) -> &'static str {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        [".well-known", "okta-organization"] => "/.well-known/okta-organization",
        ["api", "v1", rest @ ..] => match rest {
            ["users"] => "/api/v1/users",
            ["users", _] => "/api/v1/users/*",
            ["users", _, "groups"] => "/api/v1/users/*/groups",
            ["users", _, "appLinks"] => "/api/v1/users/*/appLinks",
            ["users", _, "roles"] => "/api/v1/users/*/roles",
            ["groups"] => "/api/v1/groups",
            ["groups", "rules"] => "/api/v1/groups/rules",
            ["groups", _] => "/api/v1/groups/*",
            ["groups", _, "users"] => "/api/v1/groups/*/users",
            ["groups", _, "apps"] => "/api/v1/groups/*/apps",
            ["apps"] => "/api/v1/apps",
            ["apps", _] => "/api/v1/apps/*",
            ["apps", _, "users"] => "/api/v1/apps/*/users",
            ["apps", _, "users", _] => "/api/v1/apps/*/users/*",
            ["apps", _, "groups"] => "/api/v1/apps/*/groups",
            ["apps", _, "groups", _] => "/api/v1/apps/*/groups/*",
            ["logs"] => "/api/v1/logs",
            ["api-tokens"] => "/api/v1/api-tokens",
            ["org"] => "/api/v1/org",
            ["iam", "assignees", "users"] => "/api/v1/iam/assignees/users",
            ["principal-rate-limits"] => "/api/v1/principal-rate-limits",
            _ => "unknown",
        },
        ["oauth2", "v1", "token"] => "/oauth2/v1/token",
        _ => "unknown",
    }
}

/// Answers a request that has passed authentication and rate limits.
pub(crate) fn answer(context: &Context<'_>) -> Result<Answer, ApiError> {
    let path = context.request.path.as_str();
    let parts: Vec<String> = path.trim_start_matches('/').split('/').map(|part| decode(part, false)).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let rest = match parts.as_slice() {
        [".well-known", "okta-organization"] => return Ok(Answer::One(misc::well_known(context))),
        ["api", "v1", rest @ ..] => rest,
        _ => return Err(ApiError::FrontEnd),
    };
    if context.quirks.role_missing {
        return match rest {
            // Everybody may read their own profile.
            ["users", "me"] => users::one(context, "me"),
            ["users"] => Ok(Answer::List(List::complete(Vec::new()))),
            _ => Err(ApiError::forbidden()),
        };
    }
    if !context.role.reads(rest) {
        return Err(ApiError::forbidden());
    }
    match rest {
        ["users"] => users::list(context),
        ["users", user] => users::one(context, user),
        ["users", user, "groups"] => users::groups(context, user),
        ["users", user, "appLinks"] => users::app_links(context, user),
        ["users", user, "roles"] => misc::roles(context, user),
        ["groups"] => groups::list(context),
        ["groups", "rules"] => Ok(Answer::List(List::first_page(Vec::new(), 50))),
        ["groups", group] => groups::one(context, group),
        ["groups", group, "users"] => groups::members(context, group),
        ["groups", group, "apps"] => groups::apps(context, group),
        ["apps"] => apps::list(context),
        ["apps", app] => apps::one(context, app),
        ["apps", app, "users"] => apps::users(context, app),
        ["apps", app, "users", user] => apps::one_user(context, app, user),
        ["apps", app, "groups"] => apps::groups(context, app),
        ["apps", app, "groups", group] => apps::one_group(context, app, group),
        ["logs"] => logs::list(context),
        ["api-tokens"] => Ok(misc::api_tokens(context)),
        ["org"] => Ok(Answer::One(misc::org(context))),
        ["iam", "assignees", "users"] => misc::assignees(context),
        ["principal-rate-limits"] => misc::principal_rate_limits(context),
        _ => Err(ApiError::new(404, "E0000008", "The requested path was not found")),
    }
}

impl Context<'_> {
    /// Whether lists of users show it.
    pub(crate) fn lists_user(&self, index: u32) -> bool {
        self.org.user(index).is_some() && !self.hides_user(index)
    }

    pub(crate) fn hides_user(&self, index: u32) -> bool {
        !self.hidden.users.is_empty() && self.hidden.users.contains(&UserRef(index).id())
    }

    /// Whether other objects name it: a group its member, an app its user.
    pub(crate) fn names_user(&self, index: u32) -> bool {
        self.org.user(index).is_some() && self.is_named(&self.hidden.users, || UserRef(index).id())
    }

    /// Whether lists of groups show it.
    pub(crate) fn lists_group(&self, index: u32) -> bool {
        self.org.group(index).is_some()
            && (self.hidden.groups.is_empty() || !self.hidden.groups.contains(&GroupRef(index).id()))
    }

    /// Whether other objects name it: an app an assigned group, a user their groups.
    pub(crate) fn names_group(&self, index: u32) -> bool {
        self.org.group(index).is_some() && self.is_named(&self.hidden.groups, || GroupRef(index).id())
    }

    /// Whether lists of apps show it.
    pub(crate) fn lists_app(&self, index: u32) -> bool {
        self.org.app(index).is_some()
            && (self.hidden.apps.is_empty() || !self.hidden.apps.contains(&AppRef(index).id()))
    }

    /// Whether other objects name it: a group its apps or its source, a user their apps.
    pub(crate) fn names_app(&self, index: u32) -> bool {
        self.org.app(index).is_some() && self.is_named(&self.hidden.apps, || AppRef(index).id())
    }

    fn is_named(&self, hidden: &BTreeSet<String>, id: impl Fn() -> String) -> bool {
        hidden.is_empty() || self.hidden.way_of(hidden, &id()).is_none_or(|way| way.named)
    }

    /// What a read by id says of something hidden; nothing if it shows it.
    pub(crate) fn refuse_hidden(by_id: Option<ById>, id: &str, kind: &str) -> Result<(), ApiError> {
        match by_id {
            None | Some(ById::Shown) => Ok(()),
            Some(ById::NotFound) => Err(ApiError::not_found(id, kind)),
            Some(ById::Forbidden) => Err(ApiError::forbidden()),
        }
    }

    /// Whether one of the comma-joined `expand` values is this one, and embedding is not lost on the way.
    pub(crate) fn expands(&self, wanted: &str) -> bool {
        !self.effects.drop_expand
            && self.params.get("expand").is_some_and(|expand| expand.split(',').any(|part| part.trim() == wanted))
    }

    /// An absolute URL of this org.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    pub(crate) fn group_ref(&self, id: &str) -> Result<u32, ApiError> {
        let found = GroupRef::parse(id).map(|group| group.0).filter(|index| self.org.group(*index).is_some());
        let found = found.ok_or_else(|| ApiError::not_found(id, "UserGroup"))?;
        let by_id = self.hidden.way_of(&self.hidden.groups, id).map(|way| way.by_id);
        Self::refuse_hidden(by_id, id, "UserGroup").map(|()| found)
    }

    pub(crate) fn app_ref(&self, id: &str) -> Result<u32, ApiError> {
        let found = AppRef::parse(id).map(|app| app.0).filter(|index| self.org.app(*index).is_some());
        let found = found.ok_or_else(|| ApiError::not_found(id, "AppInstance"))?;
        let by_id = self.hidden.way_of(&self.hidden.apps, id).map(|way| way.by_id);
        Self::refuse_hidden(by_id, id, "AppInstance").map(|()| found)
    }
}

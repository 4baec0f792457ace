//! What a gap may hide and what to do about it, in words. Entry points: [`hides`], [`remedy`].
//!
//! Permission, scope and role names are those of facts 1.5; what is named is what cures the gap.

use super::super::model::Scope;
use super::{Gap, GapKind, MISSING_SCOPE};

/// What a credential needs to read something.
struct Needs {
    /// OAuth scope of a service app.
    oauth_scope: &'static str,
    /// Permission of a custom role; `None`: no custom role can have it.
    permission: Option<&'static str>,
    /// What the permission has to cover.
    resource: String,
}

impl Needs {
    fn of(scope: &Scope) -> Self {
        let needs = |oauth_scope, resource: String| Self { oauth_scope, permission: Some(oauth_scope), resource };
        match scope {
            Scope::Users => needs("okta.users.read", "all users".to_owned()),
            Scope::User(user) => needs("okta.users.read", format!("user {user}")),
            Scope::Groups => needs("okta.groups.read", "all groups".to_owned()),
            Scope::Group(group) | Scope::GroupMembers(group) => needs("okta.groups.read", format!("group {group}")),
            Scope::Apps => needs("okta.apps.read", "all apps".to_owned()),
            Scope::App(app) | Scope::AppUsers(app) | Scope::AppGroups(app) => {
                needs("okta.apps.read", format!("app {app}"))
            }
            Scope::Log => {
                Self { oauth_scope: "okta.logs.read", permission: None, resource: "the System Log".to_owned() }
            }
        }
    }

    /// The role that shows it.
    fn role(&self) -> String {
        match self.permission {
            Some(permission) => format!(
                "give the credential's owner the Read-only Administrator role, or a custom role with {permission} whose \
                 resource set covers {}",
                self.resource
            ),
            None => {
                "give the credential's owner a standard role that reads the System Log: Read-only, Report, App, Org or \
                     Super Administrator (no custom-role permission covers it)"
                    .to_owned()
            }
        }
    }
}

/// What the gap may hide, in words.
pub fn hides(scope: &Scope, kind: GapKind) -> String {
    let rows = match scope {
        Scope::Users => "users, and whether a look-up that finds nobody is right".to_owned(),
        Scope::Groups => "groups and all their members".to_owned(),
        Scope::Apps => "apps and everything assigned to them".to_owned(),
        Scope::GroupMembers(group) => format!("members of group {group}"),
        Scope::AppUsers(app) => format!("accounts of app {app}"),
        Scope::AppGroups(app) => format!("groups assigned to app {app}"),
        Scope::Log => return "changes since the last complete crawl".to_owned(),
        Scope::User(user) => format!("login, e-mail, status and accounts of user {user}"),
        Scope::Group(group) => format!("name and members of group {group}"),
        Scope::App(app) => format!("app {app} and everything assigned to it"),
    };
    match kind {
        GapKind::Held => format!("that rows were removed; answered as last seen: {rows}"),
        GapKind::ImplicitAssignment => format!("{rows}: the app lets everybody in without an assignment"),
        GapKind::Stale | GapKind::LogLost => format!("changes of {rows}"),
        GapKind::UnseenReference => format!("{rows}: it is named, is not shown, and is not known to be deleted"),
        _ => rows,
    }
}

/// The OAuth scope that Okta asked for, as far as the evidence of a gap names one.
pub fn missing_oauth_scope(evidence: &str) -> Option<&str> {
    let (_, name) = evidence.rsplit_once(MISSING_SCOPE)?;
    let is_named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = name.trim();
    (!name.is_empty() && name.chars().all(is_named)).then_some(name)
}

/// What an operator can do about a gap that was found, in words: where Okta itself says what is missing, just that.
pub fn remedy_of(gap: &Gap) -> String {
    match missing_oauth_scope(&gap.evidence).filter(|_| gap.kind == GapKind::ScopeMissing) {
        Some(name) => format!("grant the OAuth scope {name} to the service app"),
        None => remedy(&gap.scope, gap.kind),
    }
}

/// What an operator can do about a kind of gap, in words.
pub fn remedy(scope: &Scope, kind: GapKind) -> String {
    let needs = Needs::of(scope);
    match kind {
        GapKind::Forbidden => needs.role(),
        GapKind::ScopeMissing => format!("grant the OAuth scope {} to the service app", needs.oauth_scope),
        GapKind::Unauthorized => {
            "create a new API token (its owner must be active and keep the admin role) and configure it; with a service app, see \
             the evidence: it says what Okta refuses about its id, key or scopes"
                .to_owned()
        }
        GapKind::Held => format!(
            "check in Okta whether the rows are really gone or only hidden from this credential; if hidden, {}: the hold \
             ends when the list is next read; if they are gone, `okta-idmap release` removes them",
            needs.role()
        ),
        GapKind::ImplicitAssignment => {
            "turn Federation Broker Mode off for this app, or accept that its users cannot be read".to_owned()
        }
        GapKind::Failed => "see the evidence; what was not answered is read again by itself, by `serve` after some seconds to minutes, \
                            and records that could not be read with the next read of their list, or of the object when the log \
                            tells of it"
            .to_owned(),
        GapKind::LogLost if *scope != Scope::Log => {
            "it is read by itself: by the crawl under way, or by `serve` after some seconds to minutes, else by the next `sync`; if \
             it stays, another gap on the same collection says why it cannot be read"
                .to_owned()
        }
        GapKind::LogLost => format!(
            "if the log is forbidden, grant the OAuth scope {} to the service app, or {}; if only the position was lost, the \
             full crawl that follows ends this by itself",
            needs.oauth_scope,
            needs.role()
        ),
        GapKind::NotRead => "wait for the crawl to finish, or run `okta-idmap sync`".to_owned(),
        GapKind::EmptySuspect if matches!(scope, Scope::Users | Scope::Groups | Scope::Apps) => format!(
            "without an admin role Okta answers with empty lists: {}; this ends when the list is next read",
            needs.role()
        ),
        GapKind::EmptySuspect => format!(
            "without an admin role Okta answers with empty lists: {}; if the rows come back, this ends when the list is next \
             read; if they are really gone, `okta-idmap release` removes them",
            needs.role()
        ),
        GapKind::UnseenReference => format!(
            "if it exists in Okta, {}: this ends when it is next asked for; if it was deleted and the System Log did not \
             tell, `okta-idmap release` removes what is stored of it",
            needs.role()
        ),
        GapKind::CountMismatch => {
            // What is missing are users, be it in the list of all of them or in a group's.
            let users = Needs::of(&Scope::Users);
            format!("some users are hidden from this credential: {}; this ends when the counts agree", users.role())
        }
        GapKind::Stale => match scope {
            Scope::Log => "run `okta-idmap serve`, which follows the log; if it runs, see `okta-idmap status` for why it \
                           does not get on"
                .to_owned(),
            _ => "run `okta-idmap serve` or `okta-idmap sync`; if crawls run, see `okta-idmap gaps` for why this one fails"
                .to_owned(),
        },
    }
}

//! Makes the calls that the state machine asks for; every way that one can end is an [`Input`].
//!
//! Entry point: [`answer`].

use super::failure;
use crate::core::batch::Listing;
use crate::core::coverage::ReadFailure;
use crate::core::event::{DELETIONS_FILTER, LOG_FILTER, deletions};
use crate::core::ids::Timestamp;
use crate::core::model::{Key, Row, Scope};
use crate::core::sync::{ByIdSeen, Call, CallId, DeletionsSeen, Input, LogSeen, PageSeen, Selection, UserAppSeen};
use crate::okta::{
    Client, FailureKind, LogPage, LogRequest, NextUrl, ObjectPath, OktaError, Page, PageRequest, Priority, Resource,
};

/// Pages of a search for deletions, 1,000 events each: two minutes of half the log's usual budget at the most (facts 6.2). What
/// is not found within them counts as not known.
const SEARCH_PAGES_MAX: usize = 100;

/// Page sizes by list; sizes outside of what Okta accepts were refused with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageSizes {
    /// Users.
    pub users: u32,
    /// Groups.
    pub groups: u32,
    /// Members of a group.
    pub group_members: u32,
    /// Apps.
    pub apps: u32,
    /// App users of an app.
    pub app_users: u32,
    /// App-group assignments of an app.
    pub app_groups: u32,
}

impl PageSizes {
    fn of(&self, resource: &Resource) -> u32 {
        match resource {
            Resource::Users
            | Resource::UsersPlain
            | Resource::UsersDeprovisioned
            | Resource::UsersChanged { .. }
            | Resource::UsersByIds(_) => self.users,
            Resource::Groups
            | Resource::GroupsChanged { .. }
            | Resource::GroupsOfApp(_)
            | Resource::GroupsBuiltIn
            | Resource::UserGroups(_) => self.groups,
            Resource::GroupMembers(_) => self.group_members,
            Resource::Apps | Resource::UserApps(_) => self.apps,
            Resource::AppUsers(_) => self.app_users,
            Resource::AppGroups(_) => self.app_groups,
        }
    }
}

/// The list behind a scope; `None` for the log, which is no list.
fn resource(scope: &Scope, listing: Listing) -> Option<Resource> {
    Some(match (scope, listing) {
        (Scope::Users, Listing::Usual) => Resource::Users,
        (Scope::Users, Listing::PlainUsers) => Resource::UsersPlain,
        (Scope::Users, Listing::DeactivatedUsers) => Resource::UsersDeprovisioned,
        (Scope::Groups, _) => Resource::Groups,
        (Scope::Apps, _) => Resource::Apps,
        (Scope::GroupMembers(group), _) => Resource::GroupMembers(group.clone()),
        (Scope::AppUsers(app), _) => Resource::AppUsers(app.clone()),
        (Scope::AppGroups(app), _) => Resource::AppGroups(app.clone()),
        (Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_), _) => return None,
    })
}

fn selected(selection: Selection) -> Resource {
    match selection {
        Selection::UsersChanged(since) => Resource::UsersChanged { since },
        Selection::GroupsChanged(since) => Resource::GroupsChanged { since },
        Selection::GroupsOfApp(app) => Resource::GroupsOfApp(app),
        Selection::UserApps(user) => Resource::UserApps(user),
        Selection::UsersByIds(users) => Resource::UsersByIds(users),
        Selection::UserGroups(user) => Resource::UserGroups(user),
    }
}

/// Makes one call.
pub(super) async fn answer(client: &Client, page_sizes: &PageSizes, id: CallId, call: Call) -> Input {
    let first = |resource: Resource, limit: Option<u32>| {
        let limit = limit.unwrap_or_else(|| page_sizes.of(&resource));
        PageRequest::First { resource, limit }
    };
    let urgency = |is_urgent: bool| if is_urgent { Priority::ById } else { Priority::Crawl };
    let (request, priority) = match call {
        Call::AnchorLog { since } => return anchor(client, id, since).await,
        Call::SearchDeletions { since } => return search_deletions(client, id, since).await,
        Call::PollLog(cursor) => return log(id, client.log_page(&LogRequest::Next(cursor)).await),
        Call::Read(key) => return by_id(client, id, &key).await,
        Call::FirstPage { scope, listing, limit, is_urgent } => {
            (resource(&scope, listing).map(|resource| first(resource, limit)), urgency(is_urgent))
        }
        Call::NextPage { scope, listing, next, is_urgent } => {
            let resource = resource(&scope, listing);
            (resource.map(|resource| PageRequest::Next { resource, url: next }), urgency(is_urgent))
        }
        Call::Select { selection, next, limit } => {
            let resource = selected(selection);
            let request = match next {
                Some(url) => PageRequest::Next { resource, url },
                None => first(resource, limit),
            };
            (Some(request), Priority::ById)
        }
    };
    let Some(request) = request else {
        return Input::Failed(id, ReadFailure::Failed { detail: "the log is no list".to_owned() });
    };
    let is_users = matches!(&request, PageRequest::First { resource: Resource::Users, .. });
    match client.page(&request, priority).await {
        Ok(page) => Input::Page(id, seen(page)),
        Err(error) => Input::Failed(id, failure::of(&error, is_users)),
    }
}

fn seen(page: Page) -> PageSeen {
    PageSeen {
        at: page.request_number_sent,
        rows: page.rows,
        group_stats: page.group_stats,
        user_apps: page
            .user_apps
            .into_iter()
            .map(|seen| UserAppSeen { app: seen.app, app_user: seen.app_user })
            .collect(),
        quarantined: page.quarantined,
        next: page.next.map(NextUrl::into_string),
    }
}

/// Opens the log with the filter that leaves out the voluminous families; where Okta refuses the expression without it,
/// since correctness does not depend on it (facts 9.7).
async fn anchor(client: &Client, id: CallId, since: Timestamp) -> Input {
    let filtered = client.log_page(&LogRequest::Anchor { since, filter: Some(LOG_FILTER.to_owned()) }).await;
    match filtered {
        Err(error) if matches!(error.kind(), FailureKind::Rejected { .. }) => {
            tracing::warn!(error = %error, "Okta refuses the filter of the log; following without it");
            log(id, client.log_page(&LogRequest::Anchor { since, filter: None }).await)
        }
        answer => log(id, answer),
    }
}

/// Reads the deletions that the log tells of, as far as they fit into [`SEARCH_PAGES_MAX`] pages. A polling read, because only
/// that shows events which were persisted late (facts 8.1).
async fn search_deletions(client: &Client, id: CallId, since: Timestamp) -> Input {
    let mut request = LogRequest::Anchor { since, filter: Some(DELETIONS_FILTER.to_owned()) };
    let mut seen = DeletionsSeen::default();
    for _ in 0..SEARCH_PAGES_MAX {
        let page = match client.log_page(&request).await {
            // Okta refuses the expression: then all events.
            Err(error)
                if matches!(error.kind(), FailureKind::Rejected { .. })
                    && matches!(request, LogRequest::Anchor { filter: Some(_), .. }) =>
            {
                request = LogRequest::Anchor { since, filter: None };
                continue;
            }
            Err(error) => return Input::Failed(id, failure::of(&error, false)),
            Ok(page) => page,
        };
        seen.objects.extend(page.events.iter().flat_map(deletions));
        match page.next {
            Some(next) if page.is_full => request = LogRequest::Next(next),
            _ => {
                seen.is_whole = true;
                break;
            }
        }
    }
    Input::Deletions(id, seen)
}

fn log(id: CallId, answer: Result<LogPage, OktaError>) -> Input {
    match answer {
        Ok(page) => Input::Log(
            id,
            LogSeen {
                at: page.request_number_sent,
                events: page.events,
                quarantined: page.quarantined,
                next: page.next,
                is_full: page.is_full,
            },
        ),
        Err(error) => Input::Failed(id, failure::of(&error, false)),
    }
}

/// The path of an object; `None` for a membership, which has none.
fn path(key: &Key) -> Option<ObjectPath> {
    Some(match key {
        Key::User(user) => ObjectPath::User(user.clone()),
        Key::Group(group) => ObjectPath::Group(group.clone()),
        Key::App(app) => ObjectPath::App(app.clone()),
        Key::AppUser(app, user) => ObjectPath::AppUser(app.clone(), user.clone()),
        Key::AppGroup(app, group) => ObjectPath::AppGroup(app.clone(), group.clone()),
        Key::GroupMember(..) => return None,
    })
}

async fn by_id(client: &Client, id: CallId, key: &Key) -> Input {
    let Some(path) = path(key) else {
        return Input::Failed(id, ReadFailure::Failed { detail: "a membership has no read by id".to_owned() });
    };
    match client.read(&path, Priority::ById).await {
        Ok(read) => {
            let at = read.request_number_sent;
            let found = |row: Row| ByIdSeen::Found(Box::new(row), at);
            Input::ById(id, read.found.map_or(ByIdSeen::NotFound(at), found))
        }
        Err(error) => Input::Failed(id, failure::of(&error, false)),
    }
}

/// Seconds until the most restricted bucket that something waits for goes on.
pub(super) fn longest_wait_seconds(client: &Client) -> u64 {
    let now = super::clock::now();
    let waits = client.budgets().into_iter().filter_map(|bucket| bucket.waits_until);
    waits.map(|at| u64::try_from(at.millis_since(now) / 1000).unwrap_or_default()).max().unwrap_or_default()
}

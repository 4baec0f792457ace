//! Bodies to rows: lenient decoding, one record at a time.
//!
//! Entry points: [`decode_page`], [`decode_object`], [`decode_log`], [`decode_org_metadata`], [`decode_owner`],
//! [`FailureBody::read`].
//!
//! Invariants:
//! - No input panics, recurses with the input or takes more than linear time.
//! - A record that is no row is quarantined with the name of the field and without any value; the page goes on.
//! - Unknown keys are skipped, null is absent, doubled keys do no harm, optional fields of the wrong type are absent.

mod app;
mod app_user;
mod failure;
mod group;
mod lenient;
mod log;
mod owner;
mod record;
#[cfg(test)]
mod tests;
mod user;

use lenient::{Field, SplitError, lenient_object, split_array};
use record::Unusable;

pub use failure::FailureBody;
pub(crate) use failure::one_line;
pub use lenient::PAGE_ITEMS_MAX;
pub use log::{DEBUG_KEYS_KEPT, LogEvent, LogTarget, TARGETS_MAX};
pub use owner::{decode_api_tokens, decode_owner, decode_roles};
pub use record::ATTRIBUTE_BYTES_MAX;

use super::resource::{ObjectPath, Resource};
use crate::core::ids::{AppId, GroupId, OKTA_ID_BYTES_MAX, UserId};
use crate::core::model::{AppUser, GroupStats, Quarantined, Row, Scope};

/// Why a body with status 200 is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Nothing in it.
    #[error("the body is empty")]
    Empty,
    /// A page for people.
    #[error("the answer is a web page instead of JSON: the address is no Okta org, or a proxy or gateway answered")]
    Html,
    /// It ends in the middle.
    #[error("the body ends too early")]
    Truncated,
    /// No JSON.
    #[error("the body is no JSON")]
    NotJson,
    /// JSON, but no list.
    #[error("the body is no list{}", .code.as_ref().map(|code| format!(" but the error {code}")).unwrap_or_default())]
    NotArray {
        /// Okta's error code, where it is an error object.
        code: Option<Box<str>>,
    },
    /// More than [`PAGE_ITEMS_MAX`] items.
    #[error("the page has more than {PAGE_ITEMS_MAX} items")]
    TooManyItems,
    /// A single object that is no row; names the field.
    #[error("the object cannot be used: {reason}")]
    Unusable {
        /// The field, no value.
        reason: String,
    },
    /// A single object with another id than the one asked for.
    #[error("the object has another id than the one asked for")]
    OtherObject,
}

impl BodyError {
    fn of_split(error: &SplitError, body: &[u8]) -> Self {
        match error {
            SplitError::Empty => Self::Empty,
            SplitError::Truncated => Self::Truncated,
            SplitError::TooManyItems => Self::TooManyItems,
            SplitError::Trailing => Self::NotJson,
            SplitError::NotArray => {
                let failure = FailureBody::read(None, body);
                match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
                    _ if failure.is_html => Self::Html,
                    Ok(_) => Self::NotArray { code: failure.code },
                    Err(error) if error.is_eof() => Self::Truncated,
                    Err(_) => Self::NotJson,
                }
            }
        }
    }

    fn of_object(error: &serde_json::Error, body: &[u8]) -> Self {
        match body.trim_ascii() {
            [] => Self::Empty,
            [b'<', ..] => Self::Html,
            _ if error.is_eof() => Self::Truncated,
            _ => Self::NotJson,
        }
    }
}

/// The rows of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodedPage {
    /// Rows in Okta's order.
    pub rows: Vec<Row>,
    /// Counts that came with groups.
    pub group_stats: Vec<(GroupId, GroupStats)>,
    /// The apps of a user, of [`Resource::UserApps`] only, which has no rows.
    pub user_apps: Vec<UserAppSeen>,
    /// Records that are no rows.
    pub quarantined: Vec<Quarantined>,
    /// Records on the page, usable or not.
    pub items: usize,
}

/// An app of a user, as [`Resource::UserApps`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAppSeen {
    /// The app.
    pub app: AppId,
    /// The user's account in it. `None` says nothing about the account: what is embedded may be lost on any page (facts
    /// 13.3), be unusable (then it is quarantined too) or belong to somebody else; the pair has to be read by itself.
    pub app_user: Option<AppUser>,
}

/// The events of a log page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodedLog {
    /// Events in Okta's order.
    pub events: Vec<LogEvent>,
    /// Records that are no events.
    pub quarantined: Vec<Quarantined>,
    /// Records on the page, usable or not.
    pub items: usize,
}

/// A record that could not be used: its id, where it is one, and the reason.
struct Rejected {
    id: Option<Box<str>>,
    reason: String,
}

fn reject(id: &Field<'_>, item: &[u8], Unusable(reason): Unusable) -> Rejected {
    // An id that is none is a stranger's text.
    let id = id.text().filter(|id| id.len() <= OKTA_ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic()));
    let reason =
        if item.trim_ascii_start().first() == Some(&b'{') { reason } else { "the record is no object".to_owned() };
    Rejected { id: id.map(|id| Box::from(&*id)), reason }
}

/// Reads one record as a lenient `$body` and makes a row of it.
macro_rules! read_record {
    ($item:expr, $body:ty, $id:ident, |$read:ident| $decode:expr) => {
        match serde_json::from_slice::<$body>($item) {
            Ok($read) => $decode.map_err(|unusable| reject(&$read.$id, $item, unusable)),
            Err(_) => Err(Rejected { id: None, reason: "the record is no valid JSON".to_owned() }),
        }
    };
}

/// What one record of a list is.
enum Read {
    Row(Row),
    Group(Row, Option<GroupStats>),
    /// An app of a user, with what was wrong with the embedded app user.
    UserApp(UserAppSeen, Option<Rejected>),
}

fn read_record(resource: &Resource, item: &[u8]) -> Result<Read, Rejected> {
    match resource {
        Resource::Users
        | Resource::UsersPlain
        | Resource::UsersDeprovisioned
        | Resource::UsersChanged { .. }
        | Resource::UsersByIds(_) => {
            read_record!(item, user::UserBody<'_>, id, |read| user::decode(&read)).map(Row::User).map(Read::Row)
        }
        Resource::Groups
        | Resource::GroupsBuiltIn
        | Resource::UserGroups(_)
        | Resource::GroupsChanged { .. }
        | Resource::GroupsOfApp(_) => {
            let read = read_record!(item, group::GroupBody<'_>, id, |read| group::decode(&read));
            read.map(|(group, stats)| Read::Group(Row::Group(group), stats))
        }
        Resource::GroupMembers(group) => {
            read_record!(item, user::MemberBody<'_>, id, |read| user::decode_member(&read, group))
                .map(Row::GroupMember)
                .map(Read::Row)
        }
        Resource::Apps => {
            read_record!(item, app::AppBody<'_>, id, |read| app::decode(&read)).map(Row::App).map(Read::Row)
        }
        Resource::AppUsers(app) => {
            read_record!(item, app_user::AppUserBody<'_>, id, |read| app_user::decode(&read, app))
                .map(Row::AppUser)
                .map(Read::Row)
        }
        Resource::AppGroups(app) => {
            read_record!(item, app_user::AppGroupBody<'_>, id, |read| app_user::decode_app_group(&read, app))
                .map(Row::AppGroup)
                .map(Read::Row)
        }
        Resource::UserApps(user) => {
            read_record!(item, app_user::UserAppBody<'_>, id, |read| read_user_app(&read, user))
        }
    }
}

fn read_user_app(body: &app_user::UserAppBody<'_>, user: &UserId) -> Result<Read, Unusable> {
    let app = record::required_id("id", &body.id, AppId::new)?;
    let embedded = &body.embedded.user;
    // `expand=user` embeds app users here and Okta users elsewhere, and it may be lost: only the one asked for counts.
    if embedded.id.text().is_none_or(|id| *id != *user.as_str()) {
        return Ok(Read::UserApp(UserAppSeen { app, app_user: None }, None));
    }
    let (app_user, rejected) = match app_user::decode(embedded, &app) {
        Ok(app_user) => (Some(app_user), None),
        Err(Unusable(reason)) => (None, Some(Rejected { id: Some(user.as_str().into()), reason })),
    };
    Ok(Read::UserApp(UserAppSeen { app, app_user }, rejected))
}

/// Decodes a page of a list.
pub fn decode_page(resource: &Resource, body: &[u8]) -> Result<DecodedPage, BodyError> {
    let items = split_array(body).map_err(|error| BodyError::of_split(&error, body))?;
    let mut page = DecodedPage { rows: Vec::with_capacity(items.len()), items: items.len(), ..DecodedPage::default() };
    for item in items {
        let quarantine = |scope, Rejected { id, reason }| Quarantined { scope, id, reason };
        match read_record(resource, item) {
            Ok(Read::Row(row)) => page.rows.push(row),
            Ok(Read::Group(row, stats)) => {
                if let (Row::Group(group), Some(stats)) = (&row, stats) {
                    page.group_stats.push((group.id.clone(), stats));
                }
                page.rows.push(row);
            }
            Ok(Read::UserApp(seen, rejected)) => {
                let scope = || Scope::AppUsers(seen.app.clone());
                page.quarantined.extend(rejected.map(|rejected| quarantine(scope(), rejected)));
                page.user_apps.push(seen);
            }
            Err(rejected) => page.quarantined.push(quarantine(resource.scope(), rejected)),
        }
    }
    Ok(page)
}

/// Decodes a single object and checks that it is the one asked for: paths take other names than ids (a login, `me`), and
/// the answer to another question must not be stored under this one.
pub fn decode_object(path: &ObjectPath, body: &[u8]) -> Result<Row, BodyError> {
    // Syntax first, for a message that tells an empty or cut body from an unusable object.
    serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(|error| BodyError::of_object(&error, body))?;
    let resource = match path {
        ObjectPath::User(_) => Resource::UsersPlain,
        ObjectPath::Group(_) => Resource::Groups,
        ObjectPath::App(_) => Resource::Apps,
        ObjectPath::AppUser(app, _) => Resource::AppUsers(app.clone()),
        ObjectPath::AppGroup(app, _) => Resource::AppGroups(app.clone()),
    };
    let read = read_record(&resource, body).map_err(|rejected| BodyError::Unusable { reason: rejected.reason })?;
    let (Read::Row(row) | Read::Group(row, _)) = read else { return Err(BodyError::OtherObject) };
    let is_the_one = match (path, &row) {
        (ObjectPath::User(id), Row::User(row)) => row.id == *id,
        (ObjectPath::Group(id), Row::Group(row)) => row.id == *id,
        (ObjectPath::App(id), Row::App(row)) => row.id == *id,
        (ObjectPath::AppUser(_, id), Row::AppUser(row)) => row.user == *id,
        (ObjectPath::AppGroup(_, id), Row::AppGroup(row)) => row.group == *id,
        _ => false,
    };
    if is_the_one { Ok(row) } else { Err(BodyError::OtherObject) }
}

/// Decodes a page of the System Log.
pub fn decode_log(body: &[u8]) -> Result<DecodedLog, BodyError> {
    let items = split_array(body).map_err(|error| BodyError::of_split(&error, body))?;
    let mut page = DecodedLog { items: items.len(), ..DecodedLog::default() };
    for item in items {
        match read_record!(item, log::EventBody<'_>, uuid, |read| log::decode(&read)) {
            Ok(event) => page.events.push(event),
            Err(Rejected { id, reason }) => page.quarantined.push(Quarantined { scope: Scope::Log, id, reason }),
        }
    }
    Ok(page)
}

lenient_object! {
    /// The wanted part of the org's public metadata.
    OrgBody<'a> { id: Field<'a> = "id", pipeline: Field<'a> = "pipeline", }
}

/// What the public metadata of an org says: its id, and its pipeline where one is named (`idx` or `v1`, facts 1.2).
pub fn decode_org_metadata(body: &[u8]) -> Result<(Box<str>, Option<Box<str>>), BodyError> {
    let read: OrgBody<'_> = serde_json::from_slice(body).map_err(|error| BodyError::of_object(&error, body))?;
    let unusable = |Unusable(reason)| BodyError::Unusable { reason };
    // The id is kept as a name; the door of the id types sees to its form.
    let id = record::required_id("id", &read.id, GroupId::new).map_err(unusable)?;
    Ok((id.as_str().into(), record::kept("pipeline", &read.pipeline).map_err(unusable)?))
}

//! `okta-idmap group`: groups and their members. Entry points: [`run`], [`find`].

use okta_idmap_proto::limits::PAGE_SIZE_MAX;
use okta_idmap_proto::v1;

use super::app::person_status;
use super::args::GroupCommand;
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::{Metas, PageFound, Printing, print_all};
use super::output::{Column, to_json, warn};
use super::user::yes_no;
use super::words;

/// Ids that are shown of groups with one name.
const SAME_NAME_SHOWN_MAX: usize = 20;
/// Pages that are looked through for a name: a million groups, more than Okta allows an org.
const NAME_PAGES_MAX: usize = 1_000;

/// Runs a command about groups.
pub(super) async fn run(context: &Context, command: &GroupCommand) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    match command {
        GroupCommand::List { name_contains, limit } => {
            list(context, &backend, name_contains.as_deref(), limit.limit).await?;
            Ok(Exit::Done)
        }
        GroupCommand::Members { group, limit } => match find(context, &backend, group).await? {
            Found::Id(id) => members(context, &backend, &id, limit.limit).await,
            Found::Nobody(exit) => Ok(exit),
        },
    }
}

/// What became of the search for a group.
pub(super) enum Found {
    /// Okta's id of the group.
    Id(String),
    /// It was told that there is none.
    Nobody(Exit),
}

/// Finds a group by id, or by a name that only one group has. What looks like an id is taken for one, unless there is no
/// such group.
pub(super) async fn find(context: &Context, backend: &Backend, name: &str) -> Result<Found, Failure> {
    if may_be_id(name) {
        let request = v1::ListGroupMembersRequest {
            context: context.request_context()?,
            page_size: 1,
            group_id: name.to_owned(),
            ..Default::default()
        };
        let response = backend.list_group_members(request).await?;
        if response.group.is_some_and(|group| group.outcome() == v1::SubjectOutcome::Found) {
            return Ok(Found::Id(name.to_owned()));
        }
    }
    let mut ids = Vec::new();
    let mut metas = Metas::default();
    let mut page_token = String::new();
    for _ in 0..NAME_PAGES_MAX {
        let request = v1::ListGroupsRequest {
            context: context.request_context()?,
            page_size: i32::try_from(PAGE_SIZE_MAX).unwrap_or(i32::MAX),
            page_token,
            name_contains: name.to_owned(),
            group_types: Vec::new(),
        };
        let response = backend.list_groups(request).await?;
        metas.add(response.meta);
        ids.extend(response.groups.into_iter().filter(|group| group.name == name).map(|group| group.id));
        page_token = response.next_page_token;
        if page_token.is_empty() || ids.len() > SAME_NAME_SHOWN_MAX {
            break;
        }
    }
    let outcome = match ids.as_slice() {
        [id] => return Ok(Found::Id(id.clone())),
        [] if metas.is_partial() => v1::SubjectOutcome::UnknownGap,
        [] => v1::SubjectOutcome::NotFound,
        several => {
            let shown: Vec<&str> = several.iter().take(SAME_NAME_SHOWN_MAX).map(String::as_str).collect();
            warn(&format!("several groups have this name: {}", shown.join(", ")));
            v1::SubjectOutcome::NotUnique
        }
    };
    warn(&words::subject("group", name, outcome, &metas.gap_ids()));
    let subject = v1::GroupSubject { outcome: outcome.into(), group: None };
    context.output.absent(&serde_json::json!({ "group": to_json(&subject), "meta": metas.to_json() }))?;
    metas.warn();
    Ok(Found::Nobody(Exit::NotFound))
}

/// Whether a text can be an id of Okta's: letters and digits only.
fn may_be_id(name: &str) -> bool {
    name.len() >= 4 && name.starts_with("00g") && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

const GROUPS: &[Column<v1::Group>] = &[
    Column::shown("id", |group| group.id.clone()),
    Column::shown("name", |group| group.name.clone()),
    Column::shown("type", |group| words::raw_or(words::group_type(group.group_type), &group.group_type_raw)),
    Column::extra("description", |group| group.description.clone()),
    Column::extra("source_app_id", |group| group.source_app_id.clone()),
    Column::extra("created_at", |group| words::time(group.created_at.as_ref())),
    Column::extra("last_updated_at", |group| words::time(group.last_updated_at.as_ref())),
    Column::extra("last_membership_updated_at", |group| words::time(group.last_membership_updated_at.as_ref())),
    Column::extra("stale", |group| yes_no(group.stale)),
];

async fn list(
    context: &Context,
    backend: &Backend,
    name_contains: Option<&str>,
    limit: Option<u64>,
) -> Result<(), Failure> {
    let printing = Printing { rows_name: "groups", columns: GROUPS, limit, about: None };
    print_all(&context.output, printing, async |page| {
        let request = v1::ListGroupsRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            name_contains: name_contains.unwrap_or_default().to_owned(),
            group_types: Vec::new(),
        };
        let response = backend.list_groups(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.groups })
    })
    .await
}

/// A group as others refer to it; empty fields where it is not known.
pub(super) fn reference(group: Option<&v1::GroupRef>) -> v1::GroupRef {
    group.cloned().unwrap_or_default()
}

/// Type of a group, in Okta's spelling.
pub(super) fn reference_type(group: Option<&v1::GroupRef>) -> String {
    let group = reference(group);
    words::raw_or(words::group_type(group.group_type), &group.group_type_raw)
}

fn member(row: &v1::GroupMemberEntry) -> v1::UserRef {
    row.user.clone().unwrap_or_default()
}

const MEMBERS: &[Column<v1::GroupMemberEntry>] = &[
    Column::shown("user_id", |row| member(row).id),
    Column::shown("login", |row| member(row).login),
    Column::shown("display_name", |row| member(row).display_name),
    Column::shown("status", |row| person_status(&member(row))),
    Column::extra("email", |row| member(row).email),
    Column::extra("membership_stale", |row| yes_no(row.membership_stale)),
];

async fn members(context: &Context, backend: &Backend, id: &str, limit: Option<u64>) -> Result<Exit, Failure> {
    let about = Some(("group_id", serde_json::Value::from(id)));
    let printing = Printing { rows_name: "members", columns: MEMBERS, limit, about };
    print_all(&context.output, printing, async |page| {
        let request = v1::ListGroupMembersRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            group_id: id.to_owned(),
        };
        let response = backend.list_group_members(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.members })
    })
    .await?;
    Ok(Exit::Done)
}

//! `okta-idmap user`: a user, its accounts and groups. Entry point: [`run`].
//!
//! A user is named by id, login or e-mail address. Ids and logins are asked for exactly; an e-mail address that is no login
//! is looked for in the search index and counts only when exactly one user has it. This names a user for a person at a
//! terminal; it is no evidence for a mapping.

use anyhow::anyhow;
use okta_idmap_proto::limits::{SEARCH_HITS_MAX, SEARCH_PAGE_SIZE_MAX};
use okta_idmap_proto::v1;
use v1::membership_question::Target;
use v1::user_selector::Selector;

use super::args::{Place, UserCommand};
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::{PageFound, Printing, print_all, warn_if_partial};
use super::output::{Column, Field, to_json, warn};
use super::resolve::any_app;
use super::words;
use super::{acl, app, group};

/// Runs a command about a user.
pub(super) async fn run(context: &Context, command: &UserCommand) -> Result<Exit, Failure> {
    let (UserCommand::Show { user: name }
    | UserCommand::Accounts { user: name, .. }
    | UserCommand::Groups { user: name, .. }
    | UserCommand::Principals { user: name }
    | UserCommand::In { user: name, .. }) = command;
    let backend = context.backend().await?;
    let response = find(context, &backend, name).await?;
    let subject = response.user.clone().unwrap_or_default();
    let Some(user) = subject.user.clone().filter(|_| subject.outcome() == v1::SubjectOutcome::Found) else {
        return missing(context, name, &response);
    };
    match command {
        UserCommand::Show { .. } => {
            context.output.thing(&fields(&user), &to_json(&response))?;
            warn_if_partial(response.meta.as_ref());
        }
        UserCommand::Accounts { granting_only, limit, .. } => {
            accounts(context, &backend, &user, *granting_only, limit.limit).await?;
        }
        UserCommand::Groups { limit, .. } => groups(context, &backend, &user, limit.limit).await?,
        UserCommand::Principals { .. } => return acl::principals(context, &backend, &user).await,
        UserCommand::In { place, .. } => return membership(context, &backend, &user, place).await,
    }
    Ok(Exit::Done)
}

/// The user whom a name means beyond doubt; `None` once it was told that there is none, or not exactly one.
///
/// # Errors
/// Somebody is found, but not everybody who could have the name is known.
pub(super) async fn find_one(context: &Context, backend: &Backend, name: &str) -> Result<Option<v1::User>, Failure> {
    let Sought { response, is_certain } = seek(context, backend, name).await?;
    let subject = response.user.clone().unwrap_or_default();
    match subject
        .user
        .filter(|_| response.user.as_ref().is_some_and(|user| user.outcome() == v1::SubjectOutcome::Found))
    {
        Some(user) if is_certain => Ok(Some(user)),
        Some(user) => Err(Failure::Usage(anyhow!(
            "{name} may be the name of somebody else, since not everybody is known or searched; if {} is meant, name \
             the user by id",
            user.id
        ))),
        None => missing(context, name, &response).map(|_| None),
    }
}

/// Nobody: the answer in the forms of JSON, a sentence otherwise.
fn missing(context: &Context, name: &str, response: &v1::GetUserResponse) -> Result<Exit, Failure> {
    let outcome = response.user.as_ref().map(v1::UserSubject::outcome).unwrap_or_default();
    let gap_ids = response.meta.as_ref().map(|meta| meta.gap_ids.as_slice()).unwrap_or_default();
    warn(&words::subject("user", name, outcome, gap_ids));
    context.output.absent(&to_json(response))?;
    warn_if_partial(response.meta.as_ref());
    Ok(Exit::NotFound)
}

/// Looks for a user by everything that may be meant; the answer is that of the attempt that found somebody, else that of
/// the attempt by login.
async fn find(context: &Context, backend: &Backend, name: &str) -> Result<v1::GetUserResponse, Failure> {
    Ok(seek(context, backend, name).await?.response)
}

/// What was found under a name.
struct Sought {
    response: v1::GetUserResponse,
    /// Whether nobody else can have the name: it is an id, or everybody is known and was looked at.
    is_certain: bool,
}

async fn seek(context: &Context, backend: &Backend, name: &str) -> Result<Sought, Failure> {
    let get = async |selector| {
        let user = Some(v1::UserSelector { selector: Some(selector) });
        backend.get_user(v1::GetUserRequest { context: context.request_context()?, user }).await
    };
    let is_found = |response: &v1::GetUserResponse| {
        response.user.as_ref().is_some_and(|user| user.outcome() == v1::SubjectOutcome::Found)
    };
    if may_be_id(name) {
        let by_id = get(Selector::UserId(name.to_owned())).await?;
        if is_found(&by_id) {
            return Ok(Sought { response: by_id, is_certain: true });
        }
    }
    let by_login = get(Selector::Login(name.to_owned())).await?;
    let knows_everybody = by_login.meta.as_ref().is_some_and(|meta| meta.completeness() == v1::Completeness::Complete);
    if is_found(&by_login) || !name.contains('@') {
        return Ok(Sought { response: by_login, is_certain: knows_everybody });
    }
    let by_email = ids_by_email(context, backend, name).await?;
    let outcome = match (by_email.ids.as_slice(), by_email.is_certain) {
        ([id], is_searched) => {
            let response = get(Selector::UserId(id.clone())).await?;
            return Ok(Sought { response, is_certain: is_searched && knows_everybody });
        }
        ([], true) => return Ok(Sought { response: by_login, is_certain: knows_everybody }),
        ([], false) => {
            warn("the search index is behind the store, so somebody with this e-mail address may be missed: try again");
            v1::SubjectOutcome::UnknownGap
        }
        (several, _) => {
            warn(&format!("several users have this e-mail address: {}", several.join(", ")));
            v1::SubjectOutcome::NotUnique
        }
    };
    let user = v1::UserSubject { outcome: outcome.into(), ..Default::default() };
    Ok(Sought { response: v1::GetUserResponse { user: Some(user), ..by_login }, is_certain: false })
}

/// Whether a text can be an id of Okta's: letters and digits only.
fn may_be_id(name: &str) -> bool {
    name.len() >= 4 && name.starts_with("00u") && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Who has an e-mail address.
struct ByEmail {
    ids: Vec<String>,
    /// Whether the index has seen everything that the store has.
    is_certain: bool,
}

/// Users whose e-mail address is this one, letter case aside.
///
/// # Errors
/// Those of the search: without an index nobody knows, and to say "not found" would be a claim.
async fn ids_by_email(context: &Context, backend: &Backend, email: &str) -> Result<ByEmail, Failure> {
    let wanted = email.to_lowercase();
    let mut found = ByEmail { ids: Vec::new(), is_certain: true };
    let mut page_token = String::new();
    for _ in 0..SEARCH_HITS_MAX.div_ceil(SEARCH_PAGE_SIZE_MAX) {
        let request = v1::SearchRequest {
            context: context.request_context()?,
            page_size: i32::try_from(SEARCH_PAGE_SIZE_MAX).unwrap_or(i32::MAX),
            page_token,
            query: quoted(email),
            kinds: vec![v1::RowKind::User.into()],
            facet_fields: Vec::new(),
        };
        let response =
            backend.search(request).await.map_err(|failure| failure.while_doing("look for the e-mail address"))?;
        let revision = response.meta.as_ref().map(|meta| meta.revision).unwrap_or_default();
        found.is_certain &= response.index_revision >= revision;
        found.ids.extend(response.hits.into_iter().filter_map(|hit| match hit.row {
            Some(v1::search_hit::Row::User(user)) if user.email.to_lowercase() == wanted => Some(user.id),
            _ => None,
        }));
        page_token = response.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
    found.is_certain = false;
    Ok(found)
}

/// A phrase of the query language; quotation marks cannot stand in one.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', " "))
}

fn fields(user: &v1::User) -> Vec<Field> {
    vec![
        Field::new("id", user.id.clone()),
        Field::new("status", words::raw_or(words::user_status(user.status), &user.status_raw)),
        Field::new("grants", yes_no(user.status_grants)),
        Field::new("login", user.login.clone()),
        Field::new("email", user.email.clone()),
        Field::new("second_email", user.second_email.clone()),
        Field::new("display_name", user.display_name.clone()),
        Field::new("first_name", user.first_name.clone()),
        Field::new("last_name", user.last_name.clone()),
        Field::new("created_at", words::time(user.created_at.as_ref())),
        Field::new("last_updated_at", words::time(user.last_updated_at.as_ref())),
        Field::new("status_changed_at", words::time(user.status_changed_at.as_ref())),
        Field::new("stale", if user.stale { yes_no(true) } else { String::new() }),
    ]
}

/// `yes` or `no`.
pub(super) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

const ACCOUNTS: &[Column<v1::Account>] = &[
    Column::shown("app_id", |row| app::of(row).id),
    Column::shown("app_label", |row| app::of(row).label),
    Column::extra("app_name", |row| app::of(row).name),
    Column::extra("app_status", |row| app::app_status(&app::of(row))),
    Column::shown("user_name", |row| app::account(row).user_name),
    Column::shown("external_id", |row| app::account(row).external_id),
    Column::extra("email", |row| app::account(row).email),
    Column::shown("status", |row| app::account_status(&app::account(row))),
    Column::shown("scope", |row| app::account_scope(&app::account(row))),
    Column::extra("via_group_id", |row| app::account(row).via_group_id),
    Column::extra("sync_state", |row| app::account(row).sync_state),
    Column::extra("created_at", |row| words::time(app::account(row).created_at.as_ref())),
    Column::extra("last_updated_at", |row| words::time(app::account(row).last_updated_at.as_ref())),
    Column::extra("status_grants", |row| yes_no(app::account(row).status_grants)),
    Column::extra("stale", |row| yes_no(app::account(row).stale)),
];

async fn accounts(
    context: &Context,
    backend: &Backend,
    user: &v1::User,
    granting_only: bool,
    limit: Option<u64>,
) -> Result<(), Failure> {
    let about = Some(("user", to_json(&found(user))));
    let printing = Printing { rows_name: "accounts", columns: ACCOUNTS, limit, about };
    print_all(&context.output, printing, async |page| {
        let request = v1::ListUserAccountsRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            user: Some(by_id(user)),
            granting_only,
        };
        let response = backend.list_user_accounts(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.accounts })
    })
    .await
}

const GROUPS: &[Column<v1::UserGroup>] = &[
    Column::shown("group_id", |row| group::reference(row.group.as_ref()).id),
    Column::shown("name", |row| group::reference(row.group.as_ref()).name),
    Column::shown("type", |row| group::reference_type(row.group.as_ref())),
    Column::extra("membership_stale", |row| yes_no(row.membership_stale)),
];

async fn groups(context: &Context, backend: &Backend, user: &v1::User, limit: Option<u64>) -> Result<(), Failure> {
    let about = Some(("user", to_json(&found(user))));
    let printing = Printing { rows_name: "groups", columns: GROUPS, limit, about };
    print_all(&context.output, printing, async |page| {
        let request = v1::ListUserGroupsRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            user: Some(by_id(user)),
        };
        let response = backend.list_user_groups(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.groups })
    })
    .await
}

fn found(user: &v1::User) -> v1::UserSubject {
    v1::UserSubject { outcome: v1::SubjectOutcome::Found.into(), user: Some(user.clone()), resolution: None }
}

/// Names a user by its id.
pub(super) fn by_id(user: &v1::User) -> v1::UserSelector {
    v1::UserSelector { selector: Some(Selector::UserId(user.id.clone())) }
}

/// Names a user by whatever may be meant; one who is not found, by what was typed.
pub(super) async fn select(context: &Context, backend: &Backend, name: &str) -> Result<v1::UserSelector, Failure> {
    let found = find(context, backend, name).await?.user.unwrap_or_default();
    Ok(match found.user.filter(|_| found.outcome == i32::from(v1::SubjectOutcome::Found)) {
        Some(user) => by_id(&user),
        None if may_be_id(name) => v1::UserSelector { selector: Some(Selector::UserId(name.to_owned())) },
        None => v1::UserSelector { selector: Some(Selector::Login(name.to_owned())) },
    })
}

/// The app or group that is meant; for a group that is not found, how the command ends.
pub(super) async fn target(
    context: &Context,
    backend: &Backend,
    place: &Place,
) -> Result<Result<Target, Exit>, Failure> {
    Ok(match (&place.app, &place.group) {
        (Some(app), _) => Ok(Target::App(any_app(app))),
        (None, name) => match group::find(context, backend, name.as_deref().unwrap_or_default()).await? {
            group::Found::Id(id) => Ok(Target::GroupId(id)),
            group::Found::Nobody(exit) => Err(exit),
        },
    })
}

/// `user in`: yes ends with [`Exit::Done`], no and unknown with [`Exit::NotFound`].
async fn membership(context: &Context, backend: &Backend, user: &v1::User, place: &Place) -> Result<Exit, Failure> {
    let target = match target(context, backend, place).await? {
        Ok(target) => target,
        Err(exit) => return Ok(exit),
    };
    let question = v1::MembershipQuestion { user: Some(by_id(user)), target: Some(target) };
    let request = v1::CheckAppMembershipRequest { context: context.request_context()?, question: Some(question) };
    let response = backend.check_app_membership(request).await?;
    let answer = response.answer.clone().unwrap_or_default();
    context.output.thing(&membership_fields(user, &answer), &to_json(&response))?;
    warn_if_partial(response.meta.as_ref());
    Ok(if answer.membership() == v1::Membership::Yes { Exit::Done } else { Exit::NotFound })
}

/// What is shown of a membership.
pub(super) fn membership_fields(user: &v1::User, answer: &v1::MembershipAnswer) -> Vec<Field> {
    use v1::membership_answer::Target;
    let (place_id, place, outcome) = match &answer.target {
        Some(Target::App(subject)) => {
            let app = subject.app.clone().unwrap_or_default();
            (app.id, app.label, subject.outcome)
        }
        Some(Target::Group(subject)) => {
            let group = subject.group.clone().unwrap_or_default();
            (group.id, group.name, subject.outcome)
        }
        None => Default::default(),
    };
    let is_found = outcome == i32::from(v1::SubjectOutcome::Found);
    let account = answer.app_user.clone().unwrap_or_default();
    let groups = answer.granting_groups.clone().unwrap_or_default();
    let via = groups.groups.iter().map(words::group).collect::<Vec<_>>().join("\n");
    vec![
        Field::new("membership", words::membership(answer.membership)),
        Field::new("grants", yes_no(answer.grants)),
        Field::new("reason", words::inactive(&answer.inactive_reasons)),
        Field::new("user_id", user.id.clone()),
        Field::new("login", user.login.clone()),
        Field::new("in_id", place_id),
        Field::new("in", if is_found { place } else { words::subject_outcome(outcome) }),
        Field::new("user_name", account.user_name.clone()),
        Field::new("external_id", account.external_id.clone()),
        Field::new("status", if account.app_id.is_empty() { String::new() } else { app::account_status(&account) }),
        Field::new("scope", if account.app_id.is_empty() { String::new() } else { app::account_scope(&account) }),
        Field::in_table("granting_groups", via),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_recognised() {
        #[track_caller]
        fn check(name: &str, expected: bool) {
            assert_eq!(may_be_id(name), expected, "{name}");
        }
        check("00u1gjh63g214q0Hq0g4", true);
        check("00u1", true);
        check("00u", false);
        check("ada", false);
        check("00u1@acme.com", false);
        check("00g1", false);
    }

    #[test]
    fn phrases_cannot_be_left() {
        assert_eq!(quoted("a\" OR id:\"b@c"), "\"a  OR id: b@c\"");
    }
}

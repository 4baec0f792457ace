//! `okta-idmap app`: apps, their accounts and groups. Entry point: [`run`].

use okta_idmap_proto::v1;

use super::args::AppCommand;
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::{PageFound, Printing, print_all, warn_if_partial};
use super::output::{Column, Field, to_json, warn};
use super::resolve::any_app;
use super::user::yes_no;
use super::words;

/// Runs a command about apps.
pub(super) async fn run(context: &Context, command: &AppCommand) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    match command {
        AppCommand::List { label_contains, name, limit } => {
            list(context, &backend, label_contains.as_deref(), name.as_deref(), limit.limit).await?;
            Ok(Exit::Done)
        }
        AppCommand::Show { app } => match find(context, &backend, app).await? {
            Found::App(app, meta) => {
                let document = serde_json::json!({ "app": to_json(&subject(&app)), "meta": to_json(&meta) });
                context.output.thing(&fields(&app), &document)?;
                warn_if_partial(Some(&meta));
                Ok(Exit::Done)
            }
            Found::Nobody(exit) => Ok(exit),
        },
        AppCommand::Users { app, granting_only, limit } => match find(context, &backend, app).await? {
            Found::App(app, _) => {
                users(context, &backend, &app, *granting_only, limit.limit).await?;
                Ok(Exit::Done)
            }
            Found::Nobody(exit) => Ok(exit),
        },
        AppCommand::Groups { app, limit } => match find(context, &backend, app).await? {
            Found::App(app, _) => {
                groups(context, &backend, &app, limit.limit).await?;
                Ok(Exit::Done)
            }
            Found::Nobody(exit) => Ok(exit),
        },
    }
}

/// What became of the search for an app.
pub(super) enum Found {
    App(Box<v1::App>, v1::ResponseMeta),
    /// It was told that there is none.
    Nobody(Exit),
}

/// Finds an app by id, label or name. There is no call for the app alone; the shortest list about it says who it is.
pub(super) async fn find(context: &Context, backend: &Backend, name: &str) -> Result<Found, Failure> {
    let request = v1::ListAppGroupsRequest {
        context: context.request_context()?,
        page_size: 1,
        page_token: String::new(),
        app: Some(any_app(name)),
    };
    let response = backend.list_app_groups(request).await?;
    let subject = response.app.unwrap_or_default();
    let meta = response.meta.unwrap_or_default();
    match subject.app.clone() {
        Some(app) if subject.outcome() == v1::SubjectOutcome::Found => Ok(Found::App(Box::new(app), meta)),
        _ => {
            warn(&words::subject("app", name, subject.outcome(), &meta.gap_ids));
            context.output.absent(&serde_json::json!({ "app": to_json(&subject), "meta": to_json(&meta) }))?;
            warn_if_partial(Some(&meta));
            Ok(Found::Nobody(Exit::NotFound))
        }
    }
}

fn subject(app: &v1::App) -> v1::AppSubject {
    v1::AppSubject { outcome: v1::SubjectOutcome::Found.into(), app: Some(app.clone()) }
}

pub(super) fn by_id(app: &v1::App) -> v1::AppSelector {
    v1::AppSelector { selector: Some(v1::app_selector::Selector::AppId(app.id.clone())) }
}

fn fields(app: &v1::App) -> Vec<Field> {
    vec![
        Field::new("id", app.id.clone()),
        Field::new("label", app.label.clone()),
        Field::new("name", app.name.clone()),
        Field::new("status", words::raw_or(words::app_status(app.status), &app.status_raw)),
        Field::new("grants", yes_no(app.status_grants)),
        Field::new("sign_on_mode", app.sign_on_mode.clone()),
        Field::new("features", app.features.join(" ")),
        Field::new("credential_scheme", app.credential_scheme.clone()),
        Field::new("shared_user_name", app.shared_user_name.clone()),
        Field::new("user_name_template", app.user_name_template.clone()),
        Field::new("oauth_application_type", app.oauth_application_type.clone()),
        Field::new("implicit_assignment", if app.implicit_assignment { yes_no(true) } else { String::new() }),
        Field::new("created_at", words::time(app.created_at.as_ref())),
        Field::new("last_updated_at", words::time(app.last_updated_at.as_ref())),
        Field::new("stale", if app.stale { yes_no(true) } else { String::new() }),
    ]
}

const APPS: &[Column<v1::App>] = &[
    Column::shown("id", |app| app.id.clone()),
    Column::shown("label", |app| app.label.clone()),
    Column::shown("name", |app| app.name.clone()),
    Column::shown("status", |app| words::raw_or(words::app_status(app.status), &app.status_raw)),
    Column::shown("sign_on_mode", |app| app.sign_on_mode.clone()),
    Column::extra("features", |app| app.features.join(" ")),
    Column::extra("credential_scheme", |app| app.credential_scheme.clone()),
    Column::extra("implicit_assignment", |app| yes_no(app.implicit_assignment)),
    Column::extra("created_at", |app| words::time(app.created_at.as_ref())),
    Column::extra("last_updated_at", |app| words::time(app.last_updated_at.as_ref())),
    Column::extra("status_grants", |app| yes_no(app.status_grants)),
    Column::extra("stale", |app| yes_no(app.stale)),
];

async fn list(
    context: &Context,
    backend: &Backend,
    label_contains: Option<&str>,
    name: Option<&str>,
    limit: Option<u64>,
) -> Result<(), Failure> {
    let printing = Printing { rows_name: "apps", columns: APPS, limit, about: None };
    print_all(&context.output, printing, async |page| {
        let request = v1::ListAppsRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            statuses: Vec::new(),
            name: name.unwrap_or_default().to_owned(),
            label_contains: label_contains.unwrap_or_default().to_owned(),
        };
        let response = backend.list_apps(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.apps })
    })
    .await
}

/// The app of an account; empty fields where it is not known.
pub(super) fn of(row: &v1::Account) -> v1::AppRef {
    row.app.clone().unwrap_or_default()
}

/// The mapping row of an account.
pub(super) fn account(row: &v1::Account) -> v1::AppUser {
    row.app_user.clone().unwrap_or_default()
}

/// The user of an account.
pub(super) fn person(row: &v1::Account) -> v1::UserRef {
    row.user.clone().unwrap_or_default()
}

/// Status of an app, in Okta's spelling.
pub(super) fn app_status(app: &v1::AppRef) -> String {
    words::raw_or(words::app_status(app.status), &app.status_raw)
}

/// Status of an account, in Okta's spelling.
pub(super) fn account_status(account: &v1::AppUser) -> String {
    words::raw_or(words::app_user_status(account.status), &account.status_raw)
}

/// How an account is assigned.
pub(super) fn account_scope(account: &v1::AppUser) -> String {
    words::raw_or(words::assignment_scope(account.scope), &account.scope_raw)
}

/// Status of a user, in Okta's spelling.
pub(super) fn person_status(user: &v1::UserRef) -> String {
    words::raw_or(words::user_status(user.status), &user.status_raw)
}

const USERS: &[Column<v1::Account>] = &[
    Column::shown("user_id", |row| person(row).id),
    Column::shown("login", |row| person(row).login),
    Column::extra("user_email", |row| person(row).email),
    Column::extra("display_name", |row| person(row).display_name),
    Column::shown("user_status", |row| person_status(&person(row))),
    Column::shown("user_name", |row| account(row).user_name),
    Column::shown("external_id", |row| account(row).external_id),
    Column::extra("email", |row| account(row).email),
    Column::shown("status", |row| account_status(&account(row))),
    Column::shown("scope", |row| account_scope(&account(row))),
    Column::extra("via_group_id", |row| account(row).via_group_id),
    Column::extra("sync_state", |row| account(row).sync_state),
    Column::extra("created_at", |row| words::time(account(row).created_at.as_ref())),
    Column::extra("last_updated_at", |row| words::time(account(row).last_updated_at.as_ref())),
    Column::extra("status_grants", |row| yes_no(account(row).status_grants)),
    Column::extra("stale", |row| yes_no(account(row).stale)),
];

async fn users(
    context: &Context,
    backend: &Backend,
    app: &v1::App,
    granting_only: bool,
    limit: Option<u64>,
) -> Result<(), Failure> {
    let about = Some(("app", to_json(&subject(app))));
    let printing = Printing { rows_name: "accounts", columns: USERS, limit, about };
    print_all(&context.output, printing, async |page| {
        let request = v1::ListAppUsersRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            app: Some(by_id(app)),
            statuses: Vec::new(),
            granting_only,
        };
        let response = backend.list_app_users(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.accounts })
    })
    .await
}

const GROUPS: &[Column<v1::AppGroupEntry>] = &[
    Column::shown("group_id", |row| row.group.clone().unwrap_or_default().id),
    Column::shown("name", |row| row.group.clone().unwrap_or_default().name),
    Column::shown("priority", |row| {
        row.app_group.as_ref().and_then(|assigned| assigned.priority).map(|n| n.to_string()).unwrap_or_default()
    }),
    Column::extra("last_updated_at", |row| {
        words::time(row.app_group.as_ref().and_then(|assigned| assigned.last_updated_at.as_ref()))
    }),
    Column::extra("stale", |row| yes_no(row.app_group.as_ref().is_some_and(|assigned| assigned.stale))),
];

async fn groups(context: &Context, backend: &Backend, app: &v1::App, limit: Option<u64>) -> Result<(), Failure> {
    let about = Some(("app", to_json(&subject(app))));
    let printing = Printing { rows_name: "groups", columns: GROUPS, limit, about };
    print_all(&context.output, printing, async |page| {
        let request = v1::ListAppGroupsRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            app: Some(by_id(app)),
        };
        let response = backend.list_app_groups(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.groups })
    })
    .await
}

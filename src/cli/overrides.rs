//! `okta-idmap override`: what operators decide about account names. Entry point: [`run`].
//!
//! A running server carries an order out; without one this process does, as the one who holds the org.

use anyhow::anyhow;
use okta_idmap_proto::v1;
use serde_json::json;

use super::app::{self, Found};
use super::args::{AccountArgs, OverrideCommand, OverrideSetArgs, OverrideSourceForm};
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::{PageFound, PageWanted, Printing, print_all};
use super::output::{Column, Field, to_json};
use super::resolve::{any_app, identifier_kind};
use super::{run as engine, user, words};
use crate::core::ids::Timestamp;

/// Runs a command about overrides.
pub(super) async fn run(context: &Context, command: &OverrideCommand) -> Result<Exit, Failure> {
    match command {
        OverrideCommand::Set(args) => set(context, args).await,
        OverrideCommand::Delete { account } => delete(context, account).await,
        OverrideCommand::List { app, source, limit } => list(context, app.as_deref(), *source, limit.limit).await,
    }
}

async fn set(context: &Context, args: &OverrideSetArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let app = match app::find(context, &backend, &args.account.app).await? {
        Found::App(app, _) => app::by_id(&app),
        Found::Nobody(exit) => return Ok(exit),
    };
    let Some(person) = user::find_one(context, &backend, &args.user).await? else { return Ok(Exit::NotFound) };
    let expires_at = match (args.end.until, args.end.lasts) {
        (Some(until), _) => until,
        (None, Some(lasts)) => engine::now().plus_millis(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX)),
        (None, None) => return Err(Failure::Usage(anyhow!("until when? give --until or --for"))),
    };
    let request = v1::SetOverrideRequest {
        context: context.request_context()?,
        account: Some(selector(app, &args.account)),
        user_id: person.id.clone(),
        expires_at: Some(moment(expires_at)),
        reason: args.reason.clone(),
    };
    let response = if backend.is_server() {
        backend.set_override(request).await?
    } else {
        // It has the files open that are to be written.
        drop(backend);
        direct(context, async |backend| backend.set_override(request).await).await?
    };
    let login = if person.login.is_empty() { person.email } else { person.login };
    show(context, "set", &response.operator_override.unwrap_or_default(), &login)
}

async fn delete(context: &Context, account: &AccountArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let account = Some(selector(any_app(&account.app), account));
    let request = v1::DeleteOverrideRequest { context: context.request_context()?, account };
    let response = if backend.is_server() {
        backend.delete_override(request).await?
    } else {
        drop(backend);
        direct(context, async |backend| backend.delete_override(request).await).await?
    };
    show(context, "deleted", &response.operator_override.unwrap_or_default(), "")
}

/// In this process, which takes the org for as long as that takes.
async fn direct<R>(context: &Context, order: impl AsyncFnOnce(Backend) -> Result<R, Failure>) -> Result<R, Failure> {
    let org = context.config.require_org(context.global.org.first().map(String::as_str))?;
    engine::order(&context.config, org, async |services| {
        order(Backend::of_services(services, format!("data directory {}", context.config.data_dir.display()))).await
    })
    .await
}

fn selector(app: v1::AppSelector, account: &AccountArgs) -> v1::AccountSelector {
    let kind = identifier_kind(account.kind).into();
    let identifier = v1::Identifier { value: account.name.clone(), kind };
    v1::AccountSelector { app: Some(app), identifier: Some(identifier) }
}

fn moment(at: Timestamp) -> prost_types::Timestamp {
    let millis = at.as_millis();
    let nanos = i32::try_from(millis.rem_euclid(1_000)).unwrap_or_default() * 1_000_000;
    prost_types::Timestamp { seconds: millis.div_euclid(1_000), nanos }
}

fn show(context: &Context, outcome: &str, row: &v1::Override, login: &str) -> Result<Exit, Failure> {
    let fields = [
        Field::new("outcome", outcome.to_owned()),
        Field::new("app_id", row.app_id.clone()),
        Field::new("name", row.name.clone()),
        Field::new("kind", words::name_kind(row.kind())),
        Field::new("user_id", row.user_id.clone()),
        Field::new("login", login.to_owned()),
        Field::new("expires_at", words::time(row.expires_at.as_ref())),
        Field::new("created_by", row.created_by.clone()),
        Field::new("reason", row.reason.clone()),
    ];
    context.output.thing(&fields, &json!({ "outcome": outcome, "override": to_json(row) }))?;
    Ok(Exit::Done)
}

const COLUMNS: &[Column<v1::OperatorOverride>] = &[
    Column::extra("number", |row| of(row).number.to_string()),
    Column::shown("source", |row| words::override_source(of(row).source)),
    Column::shown("app", |row| row.app.as_ref().map(words::app).unwrap_or_default()),
    Column::extra("app_id", |row| of(row).app_id),
    Column::shown("name", |row| of(row).name),
    Column::shown("kind", |row| words::name_kind(of(row).kind())),
    Column::shown("user", |row| row.user.as_ref().map(words::person).unwrap_or_default()),
    Column::extra("user_id", |row| of(row).user_id),
    Column::shown("expires_at", |row| words::time(of(row).expires_at.as_ref())),
    Column::extra("expired", |row| of(row).expired.to_string()),
    Column::extra("created_at", |row| words::time(of(row).created_at.as_ref())),
    Column::shown("created_by", |row| of(row).created_by),
    Column::shown("reason", |row| of(row).reason),
];

fn of(row: &v1::OperatorOverride) -> v1::Override {
    row.row.clone().unwrap_or_default()
}

async fn list(
    context: &Context,
    app: Option<&str>,
    source: Option<OverrideSourceForm>,
    limit: Option<u64>,
) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let app = match app {
        None => None,
        Some(name) => match app::find(context, &backend, name).await? {
            Found::App(app, _) => Some(app::by_id(&app)),
            Found::Nobody(exit) => return Ok(exit),
        },
    };
    let sources: Vec<i32> = source
        .map(|source| match source {
            OverrideSourceForm::Rpc => v1::OverrideSource::Rpc.into(),
            OverrideSourceForm::Config => v1::OverrideSource::Config.into(),
        })
        .into_iter()
        .collect();
    let printing = Printing { rows_name: "overrides", columns: COLUMNS, limit, about: None };
    print_all(&context.output, printing, async |page: PageWanted| {
        let request = v1::ListOverridesRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            app: app.clone(),
            sources: sources.clone(),
        };
        let response = backend.list_overrides(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.overrides })
    })
    .await?;
    Ok(Exit::Done)
}

//! `/apps`, app users and app-group assignments (facts 1.1, 4, 5).

use super::page::CursorKind;
use super::users::{invalid_expression, read_expression};
use super::{Answer, ApiError, Context};
use crate::expr::{Dialect, Expr, ExprError};
use crate::ids::{AppRef, GroupRef, IdKind, UserRef};
use crate::org::types::App;

/// Default of the list, as in older editions of the reference; the specification says -1 (facts 1.1).
const APPS_LIMIT: usize = 20;
const APPS_LIMIT_MAX: usize = 200;
const APP_USERS_LIMIT: usize = 50;
const APP_USERS_LIMIT_MAX: usize = 500;
/// Default and minimum: smaller values are invalid (facts 1.1).
const APP_GROUPS_LIMIT: usize = 20;
const APP_GROUPS_LIMIT_MAX: usize = 200;

/// The one comparison of an app filter.
fn app_filter(context: &Context<'_>) -> Result<Option<(String, String)>, ApiError> {
    let Some(text) = context.params.get("filter") else { return Ok(None) };
    match read_expression(&text, Dialect::App)? {
        Expr::Compare { attribute, value, .. } => Ok(Some((attribute, value))),
        _ => Err(invalid_expression(Dialect::App, &ExprError::TooComplex)),
    }
}

/// The user of `expand=user/{id}`.
fn expanded_user(context: &Context<'_>) -> Option<u32> {
    let expand = context.params.get("expand").filter(|_| !context.effects.drop_expand)?;
    let id = expand.split(',').find_map(|part| part.trim().strip_prefix("user/").map(ToOwned::to_owned))?;
    UserRef::parse(&id).map(|user| user.0)
}

pub(super) fn list(context: &Context<'_>) -> Result<Answer, ApiError> {
    let filter = app_filter(context)?;
    let embedded = expanded_user(context);
    let filter_user = filter.as_ref().filter(|(name, _)| name == "user.id").and_then(|(_, id)| UserRef::parse(id));
    if let (Some(wanted), Some(embedded)) = (filter_user, embedded)
        && wanted.0 != embedded
    {
        return Err(invalid_expression(Dialect::App, &ExprError::Unexpected("expand of another user".to_owned())));
    }
    let window = context.window(APPS_LIMIT, APPS_LIMIT_MAX, CursorKind::Id(IdKind::App, ""), "E0000029")?;
    let prefix = context.params.get("q").map(|text| text.to_lowercase());
    let is_listed = |index: u32| {
        context.quirks.apps_unlisted.is_empty() || !context.quirks.apps_unlisted.contains(&AppRef(index).id())
    };
    let wanted = |index: u32, app: &App| {
        let by_filter = match &filter {
            None => true,
            Some((name, value)) => match name.as_str() {
                "status" => app.status.as_str().eq_ignore_ascii_case(value),
                "name" => *app.name == **value,
                "user.id" => filter_user.is_some_and(|user| context.org.app_user(index, user.0).is_some()),
                "group.id" => {
                    GroupRef::parse(value).is_some_and(|group| app.groups.iter().any(|known| known.group == group.0))
                }
                _ => false,
            },
        };
        let begins = |text: &str, prefix: &String| text.to_lowercase().starts_with(prefix.as_str());
        by_filter && prefix.as_ref().is_none_or(|prefix| begins(&app.label, prefix) || begins(&app.name, prefix))
    };
    let apps = context.org.apps.get(window.start as usize..).unwrap_or_default().iter().zip(window.start..);
    let found = apps
        .filter_map(|(app, index)| Some((index, app.as_ref()?)))
        .filter(|(index, app)| context.lists_app(*index) && is_listed(*index) && wanted(*index, app));
    Ok(Answer::List(window.list(found.map(|(index, _)| (index, index)), |index| context.render_app(index, embedded))))
}

pub(super) fn one(context: &Context<'_>, app: &str) -> Result<Answer, ApiError> {
    let index = context.app_ref(app)?;
    Ok(Answer::One(context.render_app(index, expanded_user(context))))
}

pub(super) fn users(context: &Context<'_>, app: &str) -> Result<Answer, ApiError> {
    let index = context.app_ref(app)?;
    let window = context.window(APP_USERS_LIMIT, APP_USERS_LIMIT_MAX, CursorKind::Integer, "E0000029")?;
    let prefix = context.params.get("q").map(|text| text.to_lowercase());
    let Some(known) = context.org.app(index) else { return Err(ApiError::not_found(app, "AppInstance")) };
    let matches = |app_user: &crate::org::types::AppUser| {
        let Some(prefix) = &prefix else { return true };
        let Some(user) = context.org.user(app_user.user) else { return false };
        let user_name = context.org.user_name_of(known, app_user);
        let texts = [
            user_name.as_deref(),
            context.org.texts.text(user.first_name),
            context.org.texts.text(user.last_name),
            Some(user.email()),
        ];
        texts.iter().flatten().any(|text| text.to_lowercase().starts_with(prefix.as_str()))
    };
    let found = known.users_after(window.start.checked_sub(1));
    let is_shown = |user: u32| {
        let rows = &context.hidden.app_users;
        context.names_user(user) && (rows.is_empty() || !rows.contains_key(&(app.to_owned(), UserRef(user).id())))
    };
    let found = found.filter(|app_user| is_shown(app_user.user) && matches(app_user));
    Ok(Answer::List(window.list(found.map(|app_user| (app_user.assignment, app_user)), |app_user| {
        context.render_app_user(index, app_user)
    })))
}

pub(super) fn one_user(context: &Context<'_>, app: &str, user: &str) -> Result<Answer, ApiError> {
    let index = context.app_ref(app)?;
    let found = UserRef::parse(user)
        .filter(|user| context.names_user(user.0))
        .and_then(|user| context.org.app_user(index, user.0));
    let found = found.ok_or_else(|| ApiError::not_found(user, "AppUser"))?;
    let by_id = context.hidden.app_users.get(&(app.to_owned(), user.to_owned()));
    Context::refuse_hidden(by_id.copied(), user, "AppUser")?;
    Ok(Answer::One(context.render_app_user(index, found)))
}

pub(super) fn groups(context: &Context<'_>, app: &str) -> Result<Answer, ApiError> {
    let index = context.app_ref(app)?;
    // A size that the org itself made so small is in its own links and has to be taken.
    let least = context.effects.clamp.map_or(20, |clamp| i64::try_from(clamp).unwrap_or(20).min(20));
    if context.params.get("limit").and_then(|limit| limit.parse::<i64>().ok()).is_some_and(|limit| limit < least) {
        return Err(ApiError::validation("limit", "limit: must be greater than or equal to 20"));
    }
    let window = context.window(APP_GROUPS_LIMIT, APP_GROUPS_LIMIT_MAX, CursorKind::Integer, "E0000029")?;
    let prefix = context.params.get("q").map(|text| text.to_lowercase());
    let Some(known) = context.org.app(index) else { return Err(ApiError::not_found(app, "AppInstance")) };
    let matches = |group: u32| {
        let name = context.org.group(group).map(|known| known.name.to_lowercase()).unwrap_or_default();
        prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix.as_str()))
    };
    let is_shown = |group: u32| {
        let rows = &context.hidden.app_groups;
        context.names_group(group) && (rows.is_empty() || !rows.contains_key(&(app.to_owned(), GroupRef(group).id())))
    };
    let found = known
        .groups
        .iter()
        .filter(|assigned| assigned.number >= window.start && is_shown(assigned.group) && matches(assigned.group));
    let found = found.map(|assigned| (assigned.number, assigned));
    Ok(Answer::List(window.list(found, |assigned| context.render_app_group(index, assigned))))
}

pub(super) fn one_group(context: &Context<'_>, app: &str, group: &str) -> Result<Answer, ApiError> {
    let index = context.app_ref(app)?;
    let assigned = GroupRef::parse(group).filter(|wanted| context.names_group(wanted.0)).and_then(|wanted| {
        context.org.app(index).and_then(|known| known.groups.iter().find(|assigned| assigned.group == wanted.0))
    });
    let assigned = assigned.ok_or_else(|| ApiError::not_found(group, "AppGroup"))?;
    let by_id = context.hidden.app_groups.get(&(app.to_owned(), group.to_owned()));
    Context::refuse_hidden(by_id.copied(), group, "AppGroup")?;
    Ok(Answer::One(context.render_app_group(index, assigned)))
}

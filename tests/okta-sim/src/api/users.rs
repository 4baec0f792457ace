//! `/users`, one user, their groups and app links (facts 1.1, 2.2).

use std::collections::HashMap;

use super::page::{CursorKind, List};
use super::{Answer, ApiError, Context};
use crate::expr::{Dialect, Expr, Value, parse};
use crate::hidden::ById;
use crate::ids::{AppRef, GroupRef, IdKind, UserRef, encode};
use crate::json::Object;
use crate::org::UserStatus;
use crate::org::types::User;

/// Documented maximum and default of the list (facts 1.1).
const USERS_LIMIT: usize = 200;
/// Default of `q`, which does not page.
const QUERY_LIMIT: usize = 10;
/// The groups of a user come in pages of 200 in practice.
const USER_GROUPS_LIMIT: usize = 200;
/// The plain list writes a prefix before the id in its cursor (facts 15.6).
const PLAIN_CURSOR_PREFIX: &str = "200u";

pub(super) fn invalid_expression(dialect: Dialect, error: &crate::expr::ExprError) -> ApiError {
    let summary =
        if dialect == Dialect::Log { "Invalid SCIM filter or log parameter." } else { "Invalid search criteria." };
    ApiError::new(400, dialect.error_code(), summary).cause(&error.to_string())
}

pub(super) fn read_expression(text: &str, dialect: Dialect) -> Result<Expr, ApiError> {
    let expr = parse(text).map_err(|error| invalid_expression(dialect, &error))?;
    expr.check(dialect).map_err(|error| invalid_expression(dialect, &error))?;
    Ok(expr)
}

impl Context<'_> {
    fn user_value<'a>(&'a self, index: u32, user: &'a User, name: &str) -> Option<Value<'a>> {
        let time = |at_s: u32| (at_s > 0).then(|| Value::Time(i64::from(at_s) * 1_000));
        let text = |key| self.org.texts.text(key).map(Value::text);
        match name {
            "id" => Some(Value::Text(UserRef(index).id().into())),
            "status" => Some(Value::text(user.status.as_str())),
            "created" => time(user.created_s),
            "activated" => time(user.activated_s),
            "statusChanged" => time(user.status_changed_s),
            "lastUpdated" => time(user.last_updated_s),
            "lastLogin" => time(user.last_login_s),
            "type.id" => Some(Value::Text(encode(IdKind::UserType, 0).into())),
            "profile.login" => Some(Value::text(&user.login)),
            "profile.email" => Some(Value::text(user.email())),
            "profile.secondEmail" => user.second_email.as_deref().map(Value::text),
            "profile.firstName" => text(user.first_name),
            "profile.lastName" => text(user.last_name),
            "profile.department" => text(user.department),
            "profile.employeeNumber" => crate::org::employee_number(user).map(|number| Value::Text(number.into())),
            _ => {
                let custom = user.custom.as_ref()?.get(name.strip_prefix("profile.")?)?;
                let plain = custom.as_str().map_or_else(|| custom.to_string(), ToOwned::to_owned);
                Some(Value::Text(plain.into()))
            }
        }
    }

    pub(super) fn user_ref(&self, id: &str) -> Result<u32, ApiError> {
        if id == "me" {
            return Ok(self.caller.0);
        }
        let by_login = || {
            let by_login = self.org.user_by_login(id);
            by_login.map(|user| user.0).or_else(|| self.user_by_short_login(id))
        };
        let found = UserRef::parse(id).map(|user| user.0).or_else(by_login);
        let found = found.filter(|index| self.org.user(*index).is_some());
        let found = found.ok_or_else(|| ApiError::not_found(id, "User"))?;
        let by_id = self.hidden.way_of(&self.hidden.users, &UserRef(found).id()).map(|way| way.by_id);
        Self::refuse_hidden(by_id, id, "User").map(|()| found)
    }

    /// The one user whose login before the `@` is this; ambiguous short names find nobody.
    fn user_by_short_login(&self, short: &str) -> Option<u32> {
        if short.contains('@') || short.starts_with("00u") {
            return None;
        }
        let is_short = |user: &User| user.login.split('@').next().is_some_and(|name| name.eq_ignore_ascii_case(short));
        let mut found = (0u32..).zip(&self.org.users).filter(|(_, user)| user.as_ref().is_some_and(is_short));
        let (index, _) = found.next()?;
        found.next().is_none().then_some(index)
    }

    /// Visible users of the search index from an index on: as they were while the index runs behind.
    fn indexed_users_from<'a>(
        &'a self,
        start: u32,
        behind: &'a HashMap<u32, Option<&'a User>>,
    ) -> impl Iterator<Item = (u32, &'a User)> {
        let end = u32::try_from(self.org.users.len()).unwrap_or(u32::MAX);
        (start..end).filter_map(move |index| Some((index, self.indexed_user(index, behind)?)))
    }

    fn indexed_user<'a>(&'a self, index: u32, behind: &HashMap<u32, Option<&'a User>>) -> Option<&'a User> {
        let user = match behind.get(&index) {
            Some(before) => *before,
            None => self.org.user(index),
        };
        user.filter(|_| !self.hides_user(index))
    }

    /// Visible users from an index on.
    fn users_from(&self, start: u32) -> impl Iterator<Item = (u32, &User)> {
        let users = self.org.users.get(start as usize..).unwrap_or_default();
        users
            .iter()
            .zip(start..)
            .filter_map(|(user, index)| Some((index, user.as_ref()?)))
            .filter(|(index, _)| self.lists_user(*index))
    }
}

pub(super) fn list(context: &Context<'_>) -> Result<Answer, ApiError> {
    if let Some(text) = context.params.get("q") {
        return by_prefix(context, &text.to_lowercase());
    }
    let (expr, dialect) = if let Some(text) = context.params.get("search") {
        if context.quirks.search_unavailable {
            return Err(ApiError::new(503, "E0000100", "Search is currently unavailable. Please try again later."));
        }
        (Some(read_expression(&text, Dialect::UserSearch)?), Dialect::UserSearch)
    } else if let Some(text) = context.params.get("filter") {
        (Some(read_expression(&text, Dialect::UserFilter)?), Dialect::UserFilter)
    } else {
        (None, Dialect::UserSearch)
    };
    let prefix = if expr.is_some() { "" } else { PLAIN_CURSOR_PREFIX };
    let window = context.window(USERS_LIMIT, USERS_LIMIT, CursorKind::Id(IdKind::User, prefix), "E0000031")?;
    let render = |index: u32| context.render_user(index, true);
    let Some(expr) = expr else {
        // The plain list leaves DEPROVISIONED users out; any search or filter includes them (facts 2.2).
        let live = context.users_from(window.start).filter(|(_, user)| user.status != UserStatus::Deprovisioned);
        return Ok(Answer::List(window.list(live.map(|(index, _)| (index, index)), render)));
    };
    let sensitive = dialect.is_case_sensitive();
    let behind = context.org.users_behind(context.quirks.index_lag_ms);
    let render = |(index, user): (u32, &User)| context.render_user_as(index, user, true);
    if let Some(ids) = expr.id_batch() {
        let mut indexes: Vec<u32> = ids.iter().filter_map(|id| UserRef::parse(id)).map(|user| user.0).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let found = indexes.into_iter().filter(|index| *index >= window.start);
        let found = found.filter_map(|index| Some((index, (index, context.indexed_user(index, &behind)?))));
        return Ok(Answer::List(window.list(found, render)));
    }
    let found = context
        .indexed_users_from(window.start, &behind)
        .filter(|(index, user)| expr.matches(sensitive, &|name| context.user_value(*index, user, name)));
    Ok(Answer::List(window.list(found.map(|(index, user)| (index, (index, user))), render)))
}

/// `q`: first name, last name or e-mail begins with the text; neither paged nor linked (facts 2.2, 15.5).
fn by_prefix(context: &Context<'_>, text: &str) -> Result<Answer, ApiError> {
    let limit = context.limit(QUERY_LIMIT, USERS_LIMIT)?;
    let begins = |value: Option<&str>| value.is_some_and(|value| value.to_lowercase().starts_with(text));
    let found = context.users_from(0).filter(|(_, user)| {
        let names = begins(context.org.texts.text(user.first_name)) || begins(context.org.texts.text(user.last_name));
        user.status != UserStatus::Deprovisioned && (names || begins(Some(user.email())))
    });
    Ok(Answer::List(List::complete(found.take(limit).map(|(index, _)| context.render_user(index, true)).collect())))
}

pub(super) fn one(context: &Context<'_>, user: &str) -> Result<Answer, ApiError> {
    let index = context.user_ref(user)?;
    Ok(Answer::One(context.render_user(index, false)))
}

pub(super) fn groups(context: &Context<'_>, user: &str) -> Result<Answer, ApiError> {
    let index = context.user_ref(user)?;
    let window = context.window(USER_GROUPS_LIMIT, USER_GROUPS_LIMIT, CursorKind::Id(IdKind::Group, ""), "E0000031")?;
    let explicit = context.org.user(index).map(|known| known.groups.as_slice()).unwrap_or_default();
    let everyone = context.org.everyone().0;
    let start = window.start;
    let found = [everyone].into_iter().chain(explicit.iter().copied());
    let is_shown = |group: u32| {
        let way = context.hidden.members.get(&(GroupRef(group).id(), UserRef(index).id()));
        context.names_group(group) && way.is_none_or(|way| *way == ById::Shown)
    };
    let found = found.filter(|group| *group >= start && is_shown(*group)).map(|group| (group, group));
    Ok(Answer::List(window.list(found, |group| context.render_group(group))))
}

pub(super) fn app_links(context: &Context<'_>, user: &str) -> Result<Answer, ApiError> {
    let index = context.user_ref(user)?;
    let assignments = context.org.user(index).map(|known| known.assignments.as_slice()).unwrap_or_default();
    let links = assignments.iter().filter(|(app, _)| context.names_app(*app)).filter_map(|(app, assignment)| {
        let known = context.org.app(*app)?;
        let id = AppRef(*app).id();
        let object = Object::new()
            .text("id", &format!("{}{assignment}", UserRef(index).id()))
            .text("label", &known.label)
            .text("linkUrl", &context.url(&format!("/home/{}/{id}/1", known.name)))
            .text("appName", &known.name)
            .text("appInstanceId", &id)
            .text("appAssignmentId", &encode(IdKind::AppUser, *assignment))
            .boolean("credentialsSetup", false)
            .boolean("hidden", false)
            .number("sortOrder", 0);
        Some(object.end())
    });
    Ok(Answer::List(List::complete(links.collect())))
}

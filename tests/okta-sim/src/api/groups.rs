//! `/groups`, one group, its members and its apps (facts 1.1, 3).

use super::page::{CursorKind, List};
use super::users::read_expression;
use super::{Answer, ApiError, Context};
use crate::expr::{Dialect, Value};
use crate::ids::{AppRef, GroupRef, IdKind, UserRef};
use crate::org::GroupKind;
use crate::org::types::Group;

/// Default and maximum of the list; 200 is recommended (facts 1.1).
const GROUPS_LIMIT: usize = 10_000;
/// `q` is not paged and capped (facts 1.1).
const QUERY_LIMIT: usize = 300;
/// Default "for historical reasons"; more is clamped.
const MEMBERS_LIMIT: usize = 1_000;
/// Default of the apps of a group; 200 is accepted.
const GROUP_APPS_LIMIT: usize = 20;
const GROUP_APPS_LIMIT_MAX: usize = 200;

impl Context<'_> {
    fn group_value<'a>(&'a self, index: u32, group: &'a Group, name: &str) -> Option<Value<'a>> {
        let time = |at_s: u32| Some(Value::Time(i64::from(at_s) * 1_000));
        match name {
            "id" => Some(Value::Text(GroupRef(index).id().into())),
            "type" => Some(Value::text(group.kind.as_str())),
            "objectClass" if group.kind == GroupKind::App => Some(Value::text("okta:windows_security_principal")),
            "objectClass" => Some(Value::text("okta:user_group")),
            "created" => time(group.created_s),
            "lastUpdated" => time(group.last_updated_s),
            "lastMembershipUpdated" => time(group.last_membership_updated_s),
            "source.id" => group.source_app.map(|app| Value::Text(AppRef(app).id().into())),
            "profile.name" => Some(Value::text(&group.name)),
            "profile.description" => group.description.as_deref().map(Value::text),
            _ => None,
        }
    }

    fn groups_from(&self, start: u32) -> impl Iterator<Item = (u32, &Group)> {
        let groups = self.org.groups.get(start as usize..).unwrap_or_default();
        let found = groups.iter().zip(start..).filter_map(|(group, index)| Some((index, group.as_ref()?)));
        found.filter(|(index, _)| self.lists_group(*index))
    }
}

pub(super) fn list(context: &Context<'_>) -> Result<Answer, ApiError> {
    if let Some(text) = context.params.get("q") {
        let limit = context.limit(QUERY_LIMIT, QUERY_LIMIT)?;
        let text = text.to_lowercase();
        let found =
            context.groups_from(0).filter(|(_, group)| group.name.to_lowercase().starts_with(&text)).take(limit);
        return Ok(Answer::List(List::complete(found.map(|(index, _)| context.render_group(index)).collect())));
    }
    let expr = if let Some(text) = context.params.get("search") {
        if context.quirks.search_unavailable {
            return Err(ApiError::new(503, "E0000100", "Search is currently unavailable. Please try again later."));
        }
        Some(read_expression(&text, Dialect::GroupSearch)?)
    } else {
        context.params.get("filter").map(|text| read_expression(&text, Dialect::GroupFilter)).transpose()?
    };
    let window = context.window(GROUPS_LIMIT, GROUPS_LIMIT, CursorKind::Id(IdKind::Group, ""), "E0000031")?;
    let found = context.groups_from(window.start).filter(|(index, group)| {
        expr.as_ref().is_none_or(|expr| expr.matches(false, &|name| context.group_value(*index, group, name)))
    });
    Ok(Answer::List(window.list(found.map(|(index, _)| (index, index)), |index| context.render_group(index))))
}

pub(super) fn one(context: &Context<'_>, group: &str) -> Result<Answer, ApiError> {
    Ok(Answer::One(context.render_group(context.group_ref(group)?)))
}

/// Members as full users, DEPROVISIONED ones included (facts 3).
pub(super) fn members(context: &Context<'_>, group: &str) -> Result<Answer, ApiError> {
    let index = context.group_ref(group)?;
    let window = context.window(MEMBERS_LIMIT, MEMBERS_LIMIT, CursorKind::Id(IdKind::User, ""), "E0000031")?;
    let members: Box<dyn Iterator<Item = u32>> = if index == context.org.everyone().0 {
        Box::new(window.start..u32::try_from(context.org.users.len()).unwrap_or(u32::MAX))
    } else {
        let all = context.org.group(index).map(|known| known.members.as_slice()).unwrap_or_default();
        let place = all.partition_point(|member| *member < window.start);
        Box::new(all[place..].iter().copied())
    };
    let is_shown = |user: u32| {
        let rows = &context.hidden.members;
        context.names_user(user) && (rows.is_empty() || !rows.contains_key(&(group.to_owned(), UserRef(user).id())))
    };
    let members = members.filter(|user| is_shown(*user)).map(|user| (user, user));
    Ok(Answer::List(window.list(members, |user| context.render_user(user, true))))
}

pub(super) fn apps(context: &Context<'_>, group: &str) -> Result<Answer, ApiError> {
    let index = context.group_ref(group)?;
    let window = context.window(GROUP_APPS_LIMIT, GROUP_APPS_LIMIT_MAX, CursorKind::Id(IdKind::App, ""), "E0000029")?;
    let apps = context.org.group(index).map(|known| known.apps.as_slice()).unwrap_or_default();
    let start = window.start;
    let found = apps.iter().copied().filter(|app| *app >= start && context.names_app(*app)).map(|app| (app, app));
    Ok(Answer::List(window.list(found, |app| context.render_app(app, None))))
}

//! The small endpoints of facts 1.2: org metadata, API tokens, roles and their assignees, rate-limit settings.

use super::page::{CursorKind, List};
use super::{Answer, ApiError, Context};
use crate::hidden::Role;
use crate::ids::{IdKind, UserRef, encode};
use crate::json::Object;
use crate::time::iso_ms;

/// Page size of the assignees list (facts 1.2).
const ASSIGNEES_LIMIT: usize = 100;

pub(super) fn well_known(context: &Context<'_>) -> String {
    Object::new()
        .text("id", &context.org.org_id())
        .text("cell", "op3")
        .object("_links", Object::new().link("organization", context.base_url))
        .text("pipeline", "idx")
        .raw("settings", r#"{"analyticsCollectionEnabled":false,"bugReportingEnabled":true,"omEnabled":false}"#)
        .end()
}

pub(super) fn org(context: &Context<'_>) -> String {
    Object::new()
        .text("id", &context.org.org_id())
        .text("subdomain", "acme")
        .text("companyName", "Acme")
        .text("status", "ACTIVE")
        .text_or_null("expiresAt", None)
        .text("created", "2023-08-04T06:00:00.000Z")
        .text("lastUpdated", "2023-08-04T06:00:00.000Z")
        .end()
}

/// Active tokens only, never the secret, no `Link` (facts 10.1, 15.5, 15.7).
pub(super) fn api_tokens(context: &Context<'_>) -> Answer {
    let active = context.auth.tokens().iter().filter(|token| token.is_alive(context.org, context.now_ms));
    let items = active.map(|token| {
        let (id, owner) = (token.id(), token.owner.id());
        let links = Object::new()
            .link("self", &context.url(&format!("/api/v1/api-tokens/{id}")))
            .link("user", &context.url(&format!("/api/v1/users/{owner}")));
        Object::new()
            .text("id", &id)
            .text("name", &token.name)
            .text("userId", &owner)
            .text("clientName", "Okta API")
            .text("tokenWindow", "P30D")
            .raw("network", r#"{"connection":"ANYWHERE"}"#)
            .text("expiresAt", &iso_ms(token.expires_ms()))
            .text("created", &iso_ms(token.created_ms))
            .text("lastUpdated", &iso_ms(token.last_used_ms))
            .object("_links", links)
            .end()
    });
    Answer::List(List::complete(items.collect()))
}

/// Users with an admin role: the founder and every thousandth user. The next link is in the body (facts 15.4).
pub(super) fn assignees(context: &Context<'_>) -> Result<Answer, ApiError> {
    let window = context.window(ASSIGNEES_LIMIT, ASSIGNEES_LIMIT, CursorKind::Id(IdKind::User, ""), "E0000031")?;
    let users = window.start..u32::try_from(context.org.users.len()).unwrap_or(u32::MAX);
    let found = users.filter(|user| user % 1_000 == 0 && context.lists_user(*user)).map(|user| (user, user));
    let org = context.org.org_id();
    let mut list = window.list(found, |user| {
        let id = UserRef(user).id();
        let own = context.url(&format!("/api/v1/users/{id}"));
        let links = Object::new().link("roles", &format!("{own}/roles")).link("self", &own);
        Object::new()
            .text("id", &id)
            .text("orn", &format!("orn:okta:directory:{org}:users:{id}"))
            .object("_links", links)
            .end()
    });
    list.body_key = Some("value");
    Ok(Answer::List(list))
}

/// Roles of a user: of an administrator the one that the credential has, as far as it may ask (facts 1.2, 15.9). No
/// `Link` (15.5).
pub(super) fn roles(context: &Context<'_>, user: &str) -> Result<Answer, ApiError> {
    let index = context.user_ref(user)?;
    let (id, label, kind) = match context.role {
        _ if index % 1_000 != 0 => return Ok(Answer::List(List::complete(Vec::new()))),
        Role::Super => ("KNKVEWGQSRKBKRK", "Super Administrator", "SUPER_ADMIN"),
        Role::ReadOnly => ("KJCUCRC7KJCUCRC", "Read-only Administrator", "READ_ONLY_ADMIN"),
        Role::Custom { .. } => ("irbAcmeBinding000001", "okta-idmap reader", "CUSTOM"),
    };
    let role = Object::new()
        .text("id", id)
        .text("label", label)
        .text("type", kind)
        .text("status", "ACTIVE")
        .text("created", "2023-08-04T06:00:00.000Z")
        .text("lastUpdated", "2023-08-04T06:00:00.000Z")
        .text("assignmentType", "USER");
    Ok(Answer::List(List::complete(vec![role.end()])))
}

/// Shares of tokens; `filter` is mandatory, no `Link` (facts 1.2, 15.5).
pub(super) fn principal_rate_limits(context: &Context<'_>) -> Result<Answer, ApiError> {
    let filter =
        context.params.get("filter").ok_or_else(|| ApiError::validation("filter", "filter: must not be empty"))?;
    if filter.replace(' ', "") != "principalTypeeq\"SSWS_TOKEN\"" {
        return Ok(Answer::List(List::complete(Vec::new())));
    }
    let items = (0u32..).zip(context.auth.tokens()).map(|(number, token)| {
        Object::new()
            .text("id", &encode(IdKind::Principal, number))
            .text("orgId", &context.org.org_id())
            .text("principalId", &token.id())
            .text("principalType", "SSWS_TOKEN")
            .number("defaultPercentage", 50)
            .number("defaultConcurrencyPercentage", 50)
            .text("createdDate", "2025-07-30T05:51:30Z")
            .text("createdBy", &token.owner.id())
            .text("lastUpdate", "2025-07-30T05:51:30Z")
            .text("lastUpdatedBy", &token.owner.id())
            .end()
    });
    Ok(Answer::List(List::complete(items.collect())))
}

//! Whose credential it is. Entry points: [`decode_owner`], [`decode_roles`], [`decode_api_tokens`].
//!
//! Only ids, types and dates are kept: names of tokens and of people are nobody's business here.

use super::BodyError;
use super::lenient::{Field, Items, lenient_object, split_array};
use super::record::{Unusable, date, required_id};
use crate::core::ids::UserId;
use crate::core::probe::{ApiToken, Role};

lenient_object! {
    /// Of the token's owner, which Okta sends as a whole user, only the id is of interest.
    OwnerBody<'a> { id: Field<'a> = "id", }
}

lenient_object! {
    /// A role assignment.
    RoleBody<'a> { kind: Field<'a> = "type", status: Field<'a> = "status", embedded: Embedded<'a> = "_embedded", }
}

lenient_object! {
    /// What `expand` adds.
    Embedded<'a> { targets: Targets<'a> = "targets", }
}

lenient_object! {
    /// What a role is limited to.
    Targets<'a> { catalog: Catalog<'a> = "catalog", }
}

lenient_object! {
    /// Apps that a role is limited to.
    Catalog<'a> { apps: Items<Field<'a>> = "apps", }
}

lenient_object! {
    /// An API token, as far as it is wanted.
    TokenBody<'a> { owner: Field<'a> = "userId", expires_at: Field<'a> = "expiresAt", }
}

/// Decodes the token's owner.
pub fn decode_owner(body: &[u8]) -> Result<UserId, BodyError> {
    let read: OwnerBody<'_> = serde_json::from_slice(body).map_err(|error| BodyError::of_object(&error, body))?;
    required_id("id", &read.id, UserId::new).map_err(|Unusable(reason)| BodyError::Unusable { reason })
}

/// Decodes the roles that are in force; what is no role is left out.
pub fn decode_roles(body: &[u8]) -> Result<Vec<Role>, BodyError> {
    let items = split_array(body).map_err(|error| BodyError::of_split(&error, body))?;
    let roles = items.into_iter().filter_map(|item| {
        let read: RoleBody<'_> = serde_json::from_slice(item).ok()?;
        let is_active = read.status.text().is_none_or(|status| status.eq_ignore_ascii_case("ACTIVE"));
        let kind = read.kind.text().filter(|kind| is_word(kind)).filter(|_| is_active)?;
        Some(Role { kind: Box::from(&*kind), has_app_targets: !read.embedded.targets.catalog.apps.0.is_empty() })
    });
    Ok(roles.collect())
}

/// Decodes the list of tokens; what is no token is left out.
pub fn decode_api_tokens(body: &[u8]) -> Result<Vec<ApiToken>, BodyError> {
    let items = split_array(body).map_err(|error| BodyError::of_split(&error, body))?;
    let tokens = items.into_iter().filter_map(|item| {
        let read: TokenBody<'_> = serde_json::from_slice(item).ok()?;
        let owner = required_id("userId", &read.owner, UserId::new).ok()?;
        Some(ApiToken { owner, expires_at: date(&read.expires_at) })
    });
    Ok(tokens.collect())
}

/// Longest type of a role that is shown; the longest that Okta documents has 28 characters.
const ROLE_TYPE_BYTES_MAX: usize = 64;

/// A type is one of Okta's words; anything else would be a stranger's text in a report.
fn is_word(kind: &str) -> bool {
    kind.len() <= ROLE_TYPE_BYTES_MAX && kind.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_read_by_id_alone() {
        #[track_caller]
        fn check(body: &str, expected: Result<&str, &str>) {
            let found = decode_owner(body.as_bytes()).map(|id| id.to_string()).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        }
        check(r#"{"id":"00u1","profile":{"login":"ada@acme.example"}}"#, Ok("00u1"));
        check(r#"{"id":7}"#, Err("the object cannot be used: id is no Okta id: it is no text"));
        check("", Err("the body is empty"));
    }

    #[test]
    fn roles_are_types_with_or_without_targets() {
        #[track_caller]
        fn check(body: &str, expected: &[(&str, bool)]) {
            let roles = decode_roles(body.as_bytes()).unwrap();
            let found: Vec<_> = roles.iter().map(|role| (&*role.kind, role.has_app_targets)).collect();
            assert_eq!(found, expected);
        }
        check("[]", &[]);
        check(
            r#"[{"type":"SUPER_ADMIN","status":"ACTIVE"},{"type":"CUSTOM"}]"#,
            &[("SUPER_ADMIN", false), ("CUSTOM", false)],
        );
        check(r#"[{"type":"ORG_ADMIN","status":"INACTIVE"},{"type":"hello ada"},{"label":"x"},7,null]"#, &[]);
        let targets = r#"[{"type":"APP_ADMIN","_embedded":{"targets":{"catalog":{"apps":[{"name":"jira"}]}}}},
            {"type":"APP_ADMIN","_embedded":{"targets":{"catalog":{"apps":[]}}}}]"#;
        check(targets, &[("APP_ADMIN", true), ("APP_ADMIN", false)]);
        assert!(decode_roles(b"{}").is_err());
    }

    #[test]
    fn tokens_are_owners_and_dates() {
        let body = br#"[{"id":"00T1","name":"ada's","userId":"00u1","expiresAt":"2026-09-01T00:00:00.000Z"},
            {"userId":"00u2"},{"id":"00T3"},[]]"#;
        let tokens = decode_api_tokens(body).unwrap();
        let found: Vec<_> =
            tokens.iter().map(|token| (token.owner.as_str(), token.expires_at.map(|at| at.to_iso()))).collect();
        assert_eq!(found, [("00u1", Some("2026-09-01T00:00:00.000Z".to_owned())), ("00u2", None)]);
    }
}

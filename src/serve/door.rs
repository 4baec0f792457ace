//! What comes from outside is checked here, once: ids, texts, numbers, enumerations.
//!
//! Entry points: one function per kind of field; each names the field in its failure.
//!
//! Invariant: behind the door every string is within its documented limit and every enumeration has a value that is
//! allowed there.

use okta_idmap_proto::limits::{self, IDENTIFIER_BYTES_MAX, NegativePageSize};
use okta_idmap_proto::v1;

use super::errors::Failure;
use crate::core::ids::{AppId, GroupId, IdError, UserId};
use crate::core::normalize::Identifier;
use crate::core::resolve::IdentifierKind;

/// An Okta id.
fn id<T>(field: &'static str, raw: &str, read: impl FnOnce(&str) -> Result<T, IdError>) -> Result<T, Failure> {
    if raw.is_empty() {
        return Err(Failure::FieldMissing { field });
    }
    read(raw).map_err(|error| Failure::FieldInvalid { field, detail: error.to_string() })
}

/// A user's id.
pub(super) fn user_id(field: &'static str, raw: &str) -> Result<UserId, Failure> {
    id(field, raw, UserId::new)
}

/// A group's id.
pub(super) fn group_id(field: &'static str, raw: &str) -> Result<GroupId, Failure> {
    id(field, raw, GroupId::new)
}

/// An app's id.
pub(super) fn app_id(field: &'static str, raw: &str) -> Result<AppId, Failure> {
    id(field, raw, AppId::new)
}

/// A filter text or label: may be empty, at most [`IDENTIFIER_BYTES_MAX`] bytes.
pub(super) fn text<'a>(field: &'static str, raw: &'a str) -> Result<&'a str, Failure> {
    if raw.len() > IDENTIFIER_BYTES_MAX {
        let detail = format!("{} bytes, at most {IDENTIFIER_BYTES_MAX} are allowed", raw.len());
        return Err(Failure::FieldInvalid { field, detail });
    }
    Ok(raw)
}

/// A text that is needed.
pub(super) fn needed_text<'a>(field: &'static str, raw: &'a str) -> Result<&'a str, Failure> {
    if raw.is_empty() {
        return Err(Failure::FieldMissing { field });
    }
    text(field, raw)
}

/// A name of an account or a login.
pub(super) fn identifier<'a>(field: &'static str, raw: &'a str) -> Result<Identifier<'a>, Failure> {
    Identifier::new(raw).map_err(|error| Failure::IdentifierInvalid { field, detail: error.to_string() })
}

/// The kind of an identifier.
pub(super) fn identifier_kind(raw: i32) -> Result<IdentifierKind, Failure> {
    match v1::IdentifierKind::try_from(raw) {
        Ok(v1::IdentifierKind::Unspecified) => Ok(IdentifierKind::Untyped),
        Ok(v1::IdentifierKind::UserName) => Ok(IdentifierKind::UserName),
        Ok(v1::IdentifierKind::ExternalId) => Ok(IdentifierKind::ExternalId),
        Ok(v1::IdentifierKind::Email) => Ok(IdentifierKind::Email),
        Err(_) => {
            let detail = format!("{raw} is no kind of identifier");
            Err(Failure::FieldInvalid { field: "account.identifier.kind", detail })
        }
    }
}

/// Enumerations of protobuf that filters take. The value 0 of each means that nothing was said.
pub(super) trait Enumeration: TryFrom<i32> + PartialEq + Default {}
impl Enumeration for v1::AppStatus {}
impl Enumeration for v1::AppUserStatus {}
impl Enumeration for v1::GroupType {}
impl Enumeration for v1::RowKind {}
impl Enumeration for v1::FacetField {}
impl Enumeration for v1::GapState {}
impl Enumeration for v1::GapKind {}
impl Enumeration for v1::ScopeKind {}
impl Enumeration for v1::ScopeState {}
impl Enumeration for v1::OverrideSource {}

/// Values of a filter at most: every enumeration has fewer, so more are repetitions.
const FILTER_VALUES_MAX: usize = 100;

/// The values of a filter; unknown and unset ones are refused.
pub(super) fn enumeration<T: Enumeration>(field: &'static str, raw: &[i32]) -> Result<Vec<T>, Failure> {
    if raw.len() > FILTER_VALUES_MAX {
        return Err(Failure::TooManyItems { field, found: raw.len(), max: FILTER_VALUES_MAX });
    }
    let read = |value: &i32| match T::try_from(*value) {
        Ok(known) if known != T::default() => Ok(known),
        _ => Err(Failure::FieldInvalid { field, detail: format!("{value} is not allowed here") }),
    };
    raw.iter().map(read).collect()
}

/// Rows of a page.
pub(super) fn page_size(requested: i32) -> Result<usize, Failure> {
    limits::page_size(requested).map_err(|negative| negative_size("page_size", negative))
}

/// Hits of a page.
pub(super) fn search_page_size(requested: i32) -> Result<usize, Failure> {
    limits::search_page_size(requested).map_err(|negative| negative_size("page_size", negative))
}

/// Suggestions.
pub(super) fn suggestions(requested: i32) -> Result<usize, Failure> {
    limits::suggestions(requested).map_err(|negative| negative_size("max_suggestions", negative))
}

fn negative_size(field: &'static str, negative: NegativePageSize) -> Failure {
    Failure::FieldInvalid { field, detail: format!("{} is negative", negative.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: std::fmt::Debug>(found: Result<T, Failure>, expected: &str) {
        let found = match found {
            Ok(value) => format!("{value:?}"),
            Err(failure) => failure.name().to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn fields_are_checked() {
        check(user_id("f", "00u1"), "00u1");
        check(user_id("f", ""), "FIELD_MISSING");
        check(group_id("f", "a b"), "FIELD_INVALID");
        check(app_id("f", &"x".repeat(129)), "FIELD_INVALID");
        check(text("f", ""), "\"\"");
        check(text("f", &"x".repeat(1_025)), "FIELD_INVALID");
        check(needed_text("f", ""), "FIELD_MISSING");
        check(identifier("f", "a\0"), "IDENTIFIER_INVALID");
        check(identifier("f", ""), "IDENTIFIER_INVALID");
        check(identifier_kind(0), "Untyped");
        check(identifier_kind(4), "FIELD_INVALID");
        check(enumeration::<v1::AppStatus>("f", &[1, 100]), "[Active, Other]");
        check(enumeration::<v1::AppStatus>("f", &[0]), "FIELD_INVALID");
        check(enumeration::<v1::AppStatus>("f", &[4]), "FIELD_INVALID");
        check(enumeration::<v1::GapKind>("f", &[1; 101]), "TOO_MANY_ITEMS");
        check(page_size(-1), "FIELD_INVALID");
        check(page_size(0), "100");
        check(suggestions(99), "20");
        check(search_page_size(i32::MIN), "FIELD_INVALID");
    }
}

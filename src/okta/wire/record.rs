//! From a lenient object to a row: required and kept fields, dates, ids inside links.
//!
//! Entry points: [`required_id`], [`kept`], [`date`]. Reasons name the field and hold no value of it, since values may be
//! personal data.

use std::borrow::Cow;

use super::lenient::Field;
use crate::core::ids::{AppId, GroupId, IdError, Timestamp};

/// Longest attribute that is kept, in bytes. The longest that Okta documents has 1,024 characters (a group's
/// description); a longer one would make keys and index entries that nothing can look up.
pub const ATTRIBUTE_BYTES_MAX: usize = 4 * 1024;

/// Most provisioning features of an app that are kept: about 30 exist (facts 4, 15.15).
pub(super) const FEATURES_MAX: usize = 64;

/// Why a record is no row; names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable(pub(super) String);

/// An id that the row cannot do without.
pub(super) fn required_id<T>(
    name: &str,
    field: &Field<'_>,
    new: fn(&str) -> Result<T, IdError>,
) -> Result<T, Unusable> {
    // Okta's ids are strings: a number in the place of one belongs to something else.
    if !matches!(field, Field::Text(_) | Field::Absent) {
        return Err(Unusable(format!("{name} is no Okta id: it is no text")));
    }
    let text = field.text().ok_or_else(|| Unusable(format!("{name} is missing")))?;
    new(&text).map_err(|error| {
        Unusable(match error {
            IdError::Empty => format!("{name} is empty"),
            IdError::TooLong(bytes) => format!("{name} is no Okta id: it has {bytes} bytes"),
            IdError::Character(_) => format!("{name} is no Okta id: it holds a character that none has"),
        })
    })
}

/// A text that the row cannot do without.
pub(super) fn required(name: &str, field: &Field<'_>) -> Result<Box<str>, Unusable> {
    kept(name, field)?.ok_or_else(|| Unusable(format!("{name} is missing")))
}

/// A word of an enumeration. A number or a flag in its place says that the record is something else.
pub(super) fn required_word(name: &str, field: &Field<'_>) -> Result<Box<str>, Unusable> {
    if !matches!(field, Field::Text(_) | Field::Absent) {
        return Err(Unusable(format!("{name} is no text")));
    }
    required(name, field)
}

/// An optional text; empty counts as absent. One that is too long makes the record unusable: cut short it would be
/// somebody else's name.
pub(super) fn kept(name: &str, field: &Field<'_>) -> Result<Option<Box<str>>, Unusable> {
    match field.text() {
        Some(text) if text.len() > ATTRIBUTE_BYTES_MAX => {
            Err(Unusable(format!("{name} has {} bytes, more than {ATTRIBUTE_BYTES_MAX}", text.len())))
        }
        text => Ok(text.map(|text| Box::from(&*text))),
    }
}

/// A text for an open enumeration; `""` when absent, which is a value that nobody knows.
pub(super) fn word<'a>(name: &str, field: &'a Field<'_>) -> Result<Cow<'a, str>, Unusable> {
    match field.text() {
        Some(text) if text.len() > ATTRIBUTE_BYTES_MAX => {
            Err(Unusable(format!("{name} has {} bytes, more than {ATTRIBUTE_BYTES_MAX}", text.len())))
        }
        text => Ok(text.unwrap_or_default()),
    }
}

/// A date in any form that Okta was seen to send (facts 0, 15.10); `None` for anything else.
pub(super) fn date(field: &Field<'_>) -> Option<Timestamp> {
    let Field::Text(text) = field else { return None };
    parse_iso_millis(text.as_bytes()).or_else(|| parse_any_date(text))
}

/// The form of nearly all dates, `2026-03-04T05:06:07.000Z`, without the cost of a general parser.
fn parse_iso_millis(raw: &[u8]) -> Option<Timestamp> {
    let shape_fits = raw.len() == 24
        && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')]
            .iter()
            .all(|(at, byte)| raw[*at] == *byte);
    if !shape_fits {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        raw[range].iter().try_fold(0_u32, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0')))
    };
    let date = chrono::NaiveDate::from_ymd_opt(i32::try_from(number(0..4)?).ok()?, number(5..7)?, number(8..10)?)?;
    let time = date.and_hms_milli_opt(number(11..13)?, number(14..16)?, number(17..19)?, number(20..23)?)?;
    Some(Timestamp::from_millis(time.and_utc().timestamp_millis()))
}

fn parse_any_date(raw: &str) -> Option<Timestamp> {
    let utc = |format: &str| {
        let read = chrono::NaiveDateTime::parse_from_str(raw, format).ok()?;
        Some(Timestamp::from_millis(read.and_utc().timestamp_millis()))
    };
    Timestamp::parse(raw)
        .or_else(|| utc("%Y-%m-%d %H:%M:%S%.f"))
        .or_else(|| utc("%a %b %d %H:%M:%S UTC %Y"))
        .or_else(|| utc("%Y-%m-%dT%H:%M:%S%.f"))
}

/// The id behind `marker` in a link: `https://…/api/v1/groups/00g1?x` and `/groups/` give `00g1`.
fn id_in_link<T>(field: &Field<'_>, marker: &str, new: fn(&str) -> Result<T, IdError>) -> Option<T> {
    let Field::Text(href) = field else { return None };
    let (_, tail) = href.rsplit_once(marker)?;
    new(tail.split(['/', '?', '#']).next()?).ok()
}

/// The group of `_links.group.href`.
pub(super) fn group_in_link(href: &Field<'_>) -> Option<GroupId> {
    id_in_link(href, "/groups/", GroupId::new)
}

/// The app of `_links.source.href`.
pub(super) fn app_in_link(href: &Field<'_>) -> Option<AppId> {
    id_in_link(href, "/apps/", AppId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(raw: &str) -> Field<'_> {
        Field::Text(raw.into())
    }

    #[test]
    fn dates_are_read_in_every_form_seen() {
        #[track_caller]
        fn check(raw: &str, expected: Option<&str>) {
            assert_eq!(date(&text(raw)).map(Timestamp::to_iso).as_deref(), expected, "{raw}");
        }
        check("2026-03-04T05:06:07.000Z", Some("2026-03-04T05:06:07.000Z"));
        check("2026-03-04T05:06:07.123Z", Some("2026-03-04T05:06:07.123Z"));
        check("2026-03-04T05:06:07Z", Some("2026-03-04T05:06:07.000Z"));
        check("2026-03-04T06:06:07.5+01:00", Some("2026-03-04T05:06:07.500Z"));
        check("2026-03-04 10:08:01.0", Some("2026-03-04T10:08:01.000Z"));
        check("Wed Mar 04 10:08:01 UTC 2026", Some("2026-03-04T10:08:01.000Z"));
        check("2026-13-04T05:06:07.000Z", None);
        check("2026-03-04T25:06:07.000Z", None);
        check("2026-03-04T05:06:0x.000Z", None);
        check("", None);
        check("yesterday", None);
        assert_eq!(date(&Field::Count(7)), None);
    }

    #[test]
    fn ids_are_found_in_links() {
        #[track_caller]
        fn check(href: &str, expected: Option<&str>) {
            let group = group_in_link(&text(href));
            assert_eq!(group.as_ref().map(GroupId::as_str), expected, "{href}");
        }
        check("https://acme.okta.com/api/v1/groups/00g1", Some("00g1"));
        check("https://acme.okta.com/api/v1/groups/00g1/users?x=/y", Some("00g1"));
        check("https://acme.okta.com/api/v1/groups/", None);
        check("https://acme.okta.com/api/v1/apps/0oa1", None);
        check("", None);
        assert_eq!(app_in_link(&text("/api/v1/apps/0oa1#x")), AppId::new("0oa1").ok());
        assert_eq!(app_in_link(&Field::Flag(true)), None);
    }

    #[test]
    fn reasons_hold_no_values() {
        #[track_caller]
        fn check(field: &Field<'_>, expected: &str) {
            assert_eq!(required_id("id", field, AppId::new), Err(Unusable(expected.to_owned())));
        }
        check(&Field::Absent, "id is missing");
        check(&text(""), "id is missing");
        check(&text("a b"), "id is no Okta id: it holds a character that none has");
        check(&text(&"x".repeat(200)), "id is no Okta id: it has 200 bytes");
        assert_eq!(kept("login", &text(&"x".repeat(ATTRIBUTE_BYTES_MAX))).map(|kept| kept.is_some()), Ok(true));
        let too_long = kept("login", &text(&"x".repeat(ATTRIBUTE_BYTES_MAX + 1)));
        assert_eq!(too_long, Err(Unusable("login has 4097 bytes, more than 4096".to_owned())));
    }
}

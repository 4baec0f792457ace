//! Identifiers: one newtype per noun, so that an app id cannot be handed in where a user id is due.
//!
//! Okta's ids are opaque, case-sensitive strings; neither prefix nor length is checked beyond [`OKTA_ID_BYTES_MAX`]. Those of the
//! usual 20 bytes take no memory of their own: a look-up copies half a dozen, a crawl millions.

use std::fmt;

use smol_str::SmolStr;

/// Longest Okta id that is accepted, in bytes. Real ones have 20; the slack is for what Okta may invent, the limit keeps
/// a broken body from filling the store's key tables.
pub const OKTA_ID_BYTES_MAX: usize = 128;

/// Why a string is no Okta id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The id is the empty string.
    #[error("id is empty")]
    Empty,
    /// The id is longer than [`OKTA_ID_BYTES_MAX`].
    #[error("id has {0} bytes, more than {OKTA_ID_BYTES_MAX}")]
    TooLong(usize),
    /// The id holds a character that cannot stand in an URL path segment as it is.
    #[error("id holds the character {0:?}, which no Okta id has")]
    Character(char),
}

/// Whether a text can be an id of Okta's.
pub fn is_okta_id(raw: &str) -> bool {
    check(raw).is_ok()
}

fn check(raw: &str) -> Result<(), IdError> {
    if raw.is_empty() {
        return Err(IdError::Empty);
    }
    if raw.len() > OKTA_ID_BYTES_MAX {
        return Err(IdError::TooLong(raw.len()));
    }
    // Ids are put into URL paths: what is outside the unreserved set could change the path.
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    // Where a byte is wrong, a character is: all that may stand is ASCII.
    match raw.bytes().position(|byte| !is_fine(byte)) {
        Some(at) => Err(IdError::Character(raw.get(at..).and_then(|rest| rest.chars().next()).unwrap_or_default())),
        None if raw == "." || raw == ".." => Err(IdError::Character('.')),
        None => Ok(()),
    }
}

macro_rules! okta_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// The one door: refuses what cannot be an Okta id.
            pub fn new(raw: &str) -> Result<Self, IdError> {
                check(raw)?;
                Ok(Self(SmolStr::new(raw)))
            }

            /// The id as Okta gave it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

okta_id!(
    /// Id of an Okta user (`00u…`); also the id of that user's app users (facts 5.1).
    UserId
);
okta_id!(
    /// Id of a group (`00g…`).
    GroupId
);
okta_id!(
    /// Id of an org (`00o…`): stays the same when its domain or its name in the configuration changes.
    OrgId
);
okta_id!(
    /// Id of an app instance (`0oa…`). Two instances of one integration are two ids.
    AppId
);

/// A point in time: milliseconds since the Unix epoch, UTC. Okta's dates have millisecond precision (facts 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Parses ISO 8601 with any offset and any fraction, as Okta sends it (facts 0, 15.10).
    pub fn parse(raw: &str) -> Option<Self> {
        chrono::DateTime::parse_from_rfc3339(raw).ok().map(|t| Self(t.timestamp_millis()))
    }

    /// `2026-03-04T05:06:07.000Z`, the form that Okta's filters take (facts 0). What is beyond the calendar is its first or last day.
    pub fn to_iso(self) -> String {
        let beyond = if self.0 < 0 {
            chrono::DateTime::<chrono::Utc>::MIN_UTC
        } else {
            chrono::DateTime::<chrono::Utc>::MAX_UTC
        };
        chrono::DateTime::from_timestamp_millis(self.0)
            .unwrap_or(beyond)
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    }

    /// This time plus `millis`, saturating.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this time; negative when this time is before it.
    pub const fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_iso())
    }
}

/// Number of a committed change of an org's store: strictly increasing, survives restarts, the consistency token of every
/// answer. `0` is the empty store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

/// Number that a request got when it was *sent*. An observation with a smaller number never overwrites one with a larger.
/// Unique and increasing over the whole life of a store, restarts included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestNumber(pub u64);

/// Number of a full crawl of an org; increasing over the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CrawlId(pub u64);

/// Position in the System Log: the `next` URL of the last polling page, opaque and to be used verbatim (facts 8.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogCursor(pub String);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_checked_at_the_door() {
        assert_eq!(UserId::new("00u1").map(|id| id.to_string()), Ok("00u1".into()));
        assert_eq!(UserId::new(""), Err(IdError::Empty));
        assert_eq!(AppId::new("a/b"), Err(IdError::Character('/')));
        assert_eq!(AppId::new(".."), Err(IdError::Character('.')));
        assert_eq!(GroupId::new("grüppe"), Err(IdError::Character('ü')));
        assert_eq!(GroupId::new(&"x".repeat(129)), Err(IdError::TooLong(129)));
    }

    #[test]
    fn timestamps_read_what_okta_writes() {
        let expected = Timestamp::from_millis(1_772_600_767_000);
        assert_eq!(Timestamp::parse("2026-03-04T05:06:07.000Z"), Some(expected));
        assert_eq!(Timestamp::parse("2026-03-04T05:06:07Z"), Some(expected));
        assert_eq!(Timestamp::parse("2026-03-04T06:06:07+01:00"), Some(expected));
        assert_eq!(Timestamp::parse("yesterday"), None);
        assert_eq!(expected.to_iso(), "2026-03-04T05:06:07.000Z");
    }
}

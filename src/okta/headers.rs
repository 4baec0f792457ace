//! The headers of an answer that are of interest. Entry point: [`AnswerHeaders::new`].
//!
//! Invariant: only the headers of [`HEADERS_KEPT`] are kept, so that no cookie or other secret can travel further.

use chrono::Datelike as _;

use crate::core::ids::Timestamp;
use crate::core::rate::RateHeaders;

/// The headers that are kept, in lower case.
pub const HEADERS_KEPT: [&str; 11] = [
    "content-type",
    "date",
    "dpop-nonce",
    "link",
    "location",
    "retry-after",
    "www-authenticate",
    "x-okta-request-id",
    "x-rate-limit-limit",
    "x-rate-limit-remaining",
    "x-rate-limit-reset",
];

/// Years that a `Date` is believed with.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;

/// Longest request id that is believed, in bytes; Okta's have about 28.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// The headers of one answer, a line each, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerHeaders(Vec<(&'static str, Box<str>)>);

impl AnswerHeaders {
    /// Keeps those of interest. Names are compared without regard to case.
    pub fn new<'a>(lines: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let kept = lines.into_iter().filter_map(|(name, line)| {
            let name = HEADERS_KEPT.iter().find(|kept| kept.eq_ignore_ascii_case(name))?;
            Some((*name, Box::from(line)))
        });
        Self(kept.collect())
    }

    /// The lines of a header, named in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + Clone {
        self.0.iter().filter(move |(kept, _)| *kept == name).map(|(_, line)| &**line)
    }

    /// The first line of a header, named in lower case.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(kept, _)| *kept == name).map(|(_, line)| &**line)
    }

    /// `Date`: the server's clock, to the second.
    pub fn server_date(&self) -> Option<Timestamp> {
        let raw = self.first("date")?;
        // The day of the week adds nothing, and a wrong one is no reason to do without the rest.
        let raw = raw.split_once(", ").map_or(raw, |(_, rest)| rest);
        let read = chrono::NaiveDateTime::parse_from_str(raw.strip_suffix(" GMT")?, "%d %b %Y %H:%M:%S").ok()?;
        // A year of HTTP has four digits; another would move the clock of assertions and proofs by ages.
        if !YEARS.contains(&read.year()) {
            return None;
        }
        Some(Timestamp::from_millis(read.and_utc().timestamp_millis()))
    }

    /// What the rate-limit headers say.
    pub fn rate(&self) -> RateHeaders {
        RateHeaders::parse(self.0.iter().map(|(name, line)| (*name, &**line)))
    }

    /// `X-Okta-Request-Id`: names the call to Okta's support and in the System Log (facts 0).
    pub fn request_id(&self) -> Option<Box<str>> {
        let id = self.first("x-okta-request-id")?;
        let believable =
            !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_graphic());
        believable.then(|| id.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_of_interest_are_kept() {
        let headers = AnswerHeaders::new([
            ("LINK", "<a>; rel=\"self\""),
            ("Set-Cookie", "sid=1"),
            ("link", "<b>; rel=\"next\""),
            ("X-Okta-Request-Id", "req1"),
        ]);
        assert_eq!(headers.all("link").count(), 2);
        assert_eq!(headers.first("set-cookie"), None);
        assert_eq!(headers.request_id().as_deref(), Some("req1"));
    }

    #[test]
    fn dates_of_the_server() {
        #[track_caller]
        fn check(raw: &str, expected: Option<&str>) {
            let date = AnswerHeaders::new([("Date", raw)]).server_date();
            assert_eq!(date.map(Timestamp::to_iso).as_deref(), expected, "{raw}");
        }
        check("Sun, 02 Aug 2026 09:00:22 GMT", Some("2026-08-02T09:00:22.000Z"));
        check("Mon, 02 Aug 2026 09:00:22 GMT", Some("2026-08-02T09:00:22.000Z"));
        check("02 Aug 2026 09:00:22 GMT", Some("2026-08-02T09:00:22.000Z"));
        check("Sun, 02 Aug 2026 09:00:22", None);
        check("Sun, 02 Aug 20260 09:00:22 GMT", None);
        check("Sun, 02 Aug -2026 09:00:22 GMT", None);
        check("now", None);
        check("", None);
    }

    #[test]
    fn request_ids_are_checked() {
        let id = |raw: &str| AnswerHeaders::new([("x-okta-request-id", raw)]).request_id();
        assert_eq!(id("Wacme-1_@"), Some("Wacme-1_@".into()));
        assert_eq!(id("a b"), None);
        assert_eq!(id(""), None);
        assert_eq!(id(&"x".repeat(65)), None);
    }
}

//! The bodies of failures, which need not be Okta's nor JSON. Entry point: [`FailureBody::read`].

use super::lenient::{Field, lenient_object};

/// Longest text of Okta's that goes into a message, in characters: one line of a log.
const SUMMARY_CHARS_MAX: usize = 200;

/// Longest error code that is believed, in bytes. Okta's have eight, OAuth's are words.
const CODE_BYTES_MAX: usize = 64;

lenient_object! {
    /// Okta's form (facts 7.1), and that of the OAuth endpoints beside it.
    ErrorBody<'a> {
        error_code: Field<'a> = "errorCode",
        error_summary: Field<'a> = "errorSummary",
        error: Field<'a> = "error",
        error_description: Field<'a> = "error_description",
    }
}

/// What the body of a failure tells. Only the code is stable, so only the code decides anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureBody {
    /// `errorCode`, or OAuth's `error`.
    pub code: Option<Box<str>>,
    /// `errorSummary`, or OAuth's `error_description`: shortened, without control characters and without addresses of people, since
    /// it is logged and shown.
    pub summary: Option<Box<str>>,
    /// It is a page for people: a gateway's or a proxy's, or the host is no Okta org.
    pub is_html: bool,
}

impl FailureBody {
    /// Reads whatever it is; never fails.
    pub fn read(content_type: Option<&str>, body: &[u8]) -> Self {
        let is_html = looks_like_html(content_type, body);
        let Ok(read) = serde_json::from_slice::<ErrorBody<'_>>(body) else {
            return Self { is_html, ..Self::default() };
        };
        let code = read.error_code.text().or(read.error.text());
        let code = code.filter(|code| code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_graphic()));
        let summary = read.error_summary.text().or(read.error_description.text());
        Self {
            code: code.map(|code| Box::from(&*code)),
            summary: summary.map(|text| one_line(&without_addresses(&text))),
            is_html,
        }
    }
}

/// Whether a body is a page for people, whatever its media type claims.
pub(super) fn looks_like_html(content_type: Option<&str>, body: &[u8]) -> bool {
    let claims_html = content_type.is_some_and(|media_type| media_type.to_ascii_lowercase().contains("html"));
    claims_html || body.trim_ascii_start().first() == Some(&b'<')
}

/// Okta's words may repeat the login that was asked for.
fn without_addresses(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace);
    words.map(|word| if word.contains('@') { "… " } else { word }).collect()
}

/// The first [`SUMMARY_CHARS_MAX`] characters on one line, without control characters and text direction marks.
pub(crate) fn one_line(text: &str) -> Box<str> {
    let is_odd = |c: &char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let clean = text.chars().map(|c| if is_odd(&c) { ' ' } else { c });
    let mut line: String = clean.take(SUMMARY_CHARS_MAX).collect();
    if text.chars().nth(SUMMARY_CHARS_MAX).is_some() {
        line.push('…');
    }
    line.trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_bodies_are_read_leniently() {
        #[track_caller]
        fn check(body: &str, code: Option<&str>, summary: Option<&str>, is_html: bool) {
            let read = FailureBody::read(None, body.as_bytes());
            assert_eq!(
                (read.code.as_deref(), read.summary.as_deref(), read.is_html),
                (code, summary, is_html),
                "{body}"
            );
        }
        check(r#"{"errorCode":"E0000006","errorSummary":"no"}"#, Some("E0000006"), Some("no"), false);
        check(
            r#"{"error":"invalid_scope","error_description":"b\n\u202ea"}"#,
            Some("invalid_scope"),
            Some("b  a"),
            false,
        );
        check(r#"{"status":404,"message":"Resource not found"}"#, None, None, false);
        let named = r#"{"errorCode":"E0000007","errorSummary":"Not found: jane.doe@corp.example (User)"}"#;
        check(named, Some("E0000007"), Some("Not found: … (User)"), false);
        check(r#"{"errorCode":{"a":1},"errorSummary":["x"]}"#, None, None, false);
        check(r#"{"errorCode":"E 1"}"#, None, None, false);
        check("<html><body>Bad Gateway</body></html>", None, None, true);
        check("  \n<!DOCTYPE html>", None, None, true);
        check("", None, None, false);
        check("upstream connect error", None, None, false);
        check(r#"{"errorCode":"E0000047""#, None, None, false);
        assert!(FailureBody::read(Some("text/HTML;charset=utf-8"), b"").is_html);
        let long = FailureBody::read(None, format!(r#"{{"errorSummary":"{}"}}"#, "ü".repeat(300)).as_bytes());
        assert_eq!(long.summary.map(|summary| summary.chars().count()), Some(SUMMARY_CHARS_MAX + 1));
    }
}

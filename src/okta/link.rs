//! Following a list: the `Link` header, and the guard of its origin. Loops over several pages are noticed by
//! `core::sync`, which knows the walk.
//!
//! Entry points: [`next_link`], [`NextUrl::adopt`].
//!
//! Invariants:
//! - A `next` URL is kept as Okta wrote it; its cursor is opaque (facts 0.1).
//! - A list ends where there is no `next`, not where the header cannot be read.
//! - A [`NextUrl`] leads to the org and to the list it came from; the credential goes nowhere else.

use url::Url;

use super::org_url::{OrgUrl, URL_BYTES_MAX, shown};

/// Most link values that are read from one answer: real ones have two, a hostile one may have a header full.
const LINK_VALUES_MAX: usize = 64;

/// Why a walk cannot go on with the `next` URL it was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NextError {
    /// Not an absolute URL.
    #[error("the next link is no absolute URL")]
    NotAbsolute,
    /// Longer than [`URL_BYTES_MAX`].
    #[error("the next link has more than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// The header is cut off, garbled, too long, or names two different pages: where the list goes on is not known.
    #[error("the Link header cannot be read: something on the way changes answers")]
    Unreadable,
    /// It leads to another scheme, host or port. The credential is not sent there.
    #[error("the next link leads to {host} instead of the org's own address; the credential was not sent there")]
    ForeignOrigin {
        /// Host and port of the link.
        host: String,
    },
    /// It leads to another list of the org: its rows would be taken for something else.
    #[error("the next link leads to the list {path}")]
    OtherList {
        /// Path of the link.
        path: String,
    },
    /// It is the page itself: an endless loop (facts 0.1, 13.2).
    #[error("the next link was already visited in this walk")]
    Repeated,
}

/// A `next` URL, verbatim, that was checked against the org and the list it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NextUrl(String);

/// Where a next link may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextRule {
    /// To the org itself: every list but those of roles.
    SameOrigin,
    /// Also to the org's admin console, in which case path and query are taken to the org (facts 15.4): the role lists.
    AdminConsoleToOrg,
}

impl NextUrl {
    /// Checks a link that an answer gave, or one that was stored. `list_path` is the path of the list being walked.
    pub fn adopt(raw: &str, org: &OrgUrl, list_path: &str, rule: NextRule) -> Result<Self, NextError> {
        if raw.len() > URL_BYTES_MAX {
            return Err(NextError::TooLong);
        }
        // What could not be decoded is no place in a list any more.
        if raw.contains(char::REPLACEMENT_CHARACTER) {
            return Err(NextError::Unreadable);
        }
        let url = Url::parse(raw).map_err(|_| NextError::NotAbsolute)?;
        let at_home = org.same_origin(&url);
        let at_own_console = rule == NextRule::AdminConsoleToOrg && org.is_own_admin_console(&url);
        if !(at_home || at_own_console) {
            let host = shown(url.host_str().unwrap_or_default());
            let host = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
            return Err(NextError::ForeignOrigin { host });
        }
        if url.path().trim_end_matches('/') != list_path.trim_end_matches('/') {
            return Err(NextError::OtherList { path: url.path().chars().take(200).collect() });
        }
        if at_home {
            return Ok(Self(raw.to_owned()));
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let taken_home = format!("{org}{}{query}", url.path());
        // Characters that a URL does not hold have become three each.
        if taken_home.len() > URL_BYTES_MAX {
            return Err(NextError::TooLong);
        }
        Ok(Self(taken_home))
    }

    /// The URL as Okta wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL, to be stored.
    pub fn into_string(self) -> String {
        self.0
    }

    /// The page size inside the URL. It is only read, to propose a smaller one; the URL is never rewritten.
    pub fn limit(&self) -> Option<u32> {
        let (_, query) = self.0.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix("limit=")?.parse().ok())
    }
}

/// Finds the target of `rel="next"` in the lines of the `Link` header: several lines or one joined by commas, any order,
/// any case, with or without quotes (facts 0.1, 13.1). `None` = the list ends here.
pub fn next_target<'a>(link_lines: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    link_lines.into_iter().flat_map(link_values).take(LINK_VALUES_MAX).find(|(_, is_next)| *is_next).map(|(url, _)| url)
}

/// Where the list goes on by the lines of the `Link` header; `None` = it ends here. Lines that cannot be read to their end,
/// and two different places, are an error: a list must not end by mistake.
pub fn next_link<'a>(
    link_lines: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
) -> Result<Option<&'a str>, NextError> {
    let lines = link_lines.into_iter();
    let values = lines.clone().flat_map(link_values).take(LINK_VALUES_MAX + 1);
    let (mut count, mut next) = (0, None);
    for (target, is_next) in values {
        count += 1;
        if is_next && next.is_some_and(|other| other != target) {
            return Err(NextError::Unreadable);
        }
        next = next.or(is_next.then_some(target));
    }
    // A part between two commas that is not blank must have a whole target.
    let is_whole = |line: &str| {
        let targets = link_values(line).count();
        line.matches('<').count() == targets && (targets > 0 || line.trim().is_empty())
    };
    if count > LINK_VALUES_MAX || !lines.into_iter().all(is_whole) {
        return Err(NextError::Unreadable);
    }
    Ok(next)
}

/// Splits one line into its targets and whether each is `rel=next`. Commas and semicolons inside `<>` and inside quotes
/// are part of the value.
fn link_values(line: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find('<')? + 1;
        let end = start + rest[start..].find('>')?;
        let target = rest[start..end].trim();
        let after = &rest[end + 1..];
        let mut quoted = false;
        let parameters_end = after.find(|c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let (parameters, tail) = after.split_at(parameters_end.unwrap_or(after.len()));
        rest = tail;
        Some((target, parameters.split(';').any(is_rel_next)))
    })
}

fn is_rel_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    // A link may have several relations in one value, divided by blanks.
    let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
    name.trim().eq_ignore_ascii_case("rel") && relations.any(|relation| relation.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_links_are_found() {
        #[track_caller]
        fn check(lines: &[&str], expected: Option<&str>) {
            assert_eq!(next_target(lines.iter().copied()), expected, "{lines:?}");
        }
        let (own, next) = (r#"<https://a.b/c?limit=2>; rel="self""#, r#"<https://a.b/c?after=1&limit=2>; rel="next""#);
        let url = Some("https://a.b/c?after=1&limit=2");
        check(&[own, next], url);
        check(&[next, own], url);
        check(&[&format!("{own}, {next}")], url);
        check(&[&format!("{next},{own}")], url);
        check(&["<https://a.b/c?after=1&limit=2>;rel=next"], url);
        check(&["<https://a.b/c?after=1&limit=2> ; REL = \"NEXT\""], url);
        check(&["<https://a.b/c?after=1&limit=2>; title=\"a, b; c\"; rel=\"prev next\""], url);
        check(&["<https://a.b/c?f=a,b;c>; rel=\"next\", <https://a.b/d>; rel=\"self\""], Some("https://a.b/c?f=a,b;c"));
        check(&[own], None);
        check(&[], None);
        check(&["", ",,;", "<", "<>", "<x", ">; rel=\"next\"", "x; rel=\"next\"", "<a>; rel=\"next"], Some("a"));
        check(&["<a>; rel=\"nextish\"", "<b>; rev=\"next\"", "<c>; rel"], None);
        check(&["<ü>; rel=\"ü\", <é>; rel=next"], Some("é"));
    }

    #[test]
    fn a_list_does_not_end_by_mistake() {
        #[track_caller]
        fn check(lines: &[&str], expected: Result<Option<&str>, NextError>) {
            assert_eq!(next_link(lines.iter().copied()), expected, "{lines:?}");
        }
        let (own, next) = (r#"<https://a.b/c>; rel="self""#, r#"<https://a.b/c?after=1>; rel="next""#);
        let found = || Ok(Some("https://a.b/c?after=1"));
        let unreadable = || Err(NextError::Unreadable);
        check(&[], Ok(None));
        check(&[""], Ok(None));
        check(&[own], Ok(None));
        check(&[own, next], found());
        check(&[next, next], found());
        check(&[&format!("{own}, {next}, {next}")], found());
        check(&[next, r#"<https://a.b/c?after=2>; rel="next""#], unreadable());
        for cut in 1..next.find('>').unwrap() {
            check(&[own, &next[..cut]], unreadable());
            check(&[&format!("{own}, {}", &next[..cut])], if cut == 0 { Ok(None) } else { unreadable() });
        }
        check(&["none"], unreadable());
        check(&["https://a.b/c?after=1; rel=next"], unreadable());
        let many = vec![own; LINK_VALUES_MAX];
        check(&many, Ok(None));
        check(&[many.as_slice(), &[next]].concat(), unreadable());
    }

    #[test]
    fn next_urls_stay_on_the_org_and_the_list() {
        #[track_caller]
        fn check(raw: &str, rule: NextRule, expected: Result<&str, NextError>) {
            let org = OrgUrl::parse("https://acme.okta.com").unwrap();
            let read = NextUrl::adopt(raw, &org, "/api/v1/users", rule);
            assert_eq!(read.map(|next| next.0), expected.map(str::to_owned), "{raw}");
        }
        let foreign = |host: &str| Err(NextError::ForeignOrigin { host: host.to_owned() });
        let verbatim = "https://acme.okta.com/api/v1/users?after=%41+%2c,|x&limit=2";
        check(verbatim, NextRule::SameOrigin, Ok(verbatim));
        check("https://evil.example/api/v1/users", NextRule::SameOrigin, foreign("evil.example"));
        check("https://acme.okta.com:444/api/v1/users", NextRule::SameOrigin, foreign("acme.okta.com:444"));
        check("http://acme.okta.com/api/v1/users", NextRule::SameOrigin, foreign("acme.okta.com"));
        check("https://acme-admin.okta.com/api/v1/users", NextRule::SameOrigin, foreign("acme-admin.okta.com"));
        check(
            "https://acme-admin.okta.com/api/v1/users?after=%41",
            NextRule::AdminConsoleToOrg,
            Ok("https://acme.okta.com/api/v1/users?after=%41"),
        );
        check("https://evil-admin.okta.com/api/v1/users", NextRule::AdminConsoleToOrg, foreign("evil-admin.okta.com"));
        let other_list = NextError::OtherList { path: "/api/v1/groups".to_owned() };
        check("https://acme.okta.com/api/v1/groups?after=1", NextRule::SameOrigin, Err(other_list));
        check("/api/v1/users?after=1", NextRule::SameOrigin, Err(NextError::NotAbsolute));
        check("", NextRule::SameOrigin, Err(NextError::NotAbsolute));
        check("https://acme.okta.com/api/v1/users?after=\u{fffd}", NextRule::SameOrigin, Err(NextError::Unreadable));
        check(&format!("{verbatim}{}", "x".repeat(URL_BYTES_MAX)), NextRule::SameOrigin, Err(NextError::TooLong));
    }

    #[test]
    fn the_page_size_is_read_from_the_url() {
        #[track_caller]
        fn check(url: &str, expected: Option<u32>) {
            assert_eq!(NextUrl(url.to_owned()).limit(), expected, "{url}");
        }
        check("https://a.b/c?after=1&limit=200", Some(200));
        check("https://a.b/c?limit=200&after=1", Some(200));
        check("https://a.b/c?xlimit=200", None);
        check("https://a.b/c?limit=-1", None);
        check("https://a.b/c", None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_links_never_panic(line in "[<>;,=\"relnxt ü:/?a-]{0,60}", raw in "\\PC{0,60}") {
            if let Some(target) = next_target([line.as_str(), raw.as_str()]) {
                proptest::prop_assert!(line.contains(target) || raw.contains(target));
            }
            let lines = [line.as_str(), raw.as_str()];
            if let Ok(next) = next_link(lines) {
                proptest::prop_assert_eq!(next, next_target(lines), "what is read is read as before");
            }
            let org = OrgUrl::parse("https://acme.okta.com").unwrap();
            for raw in [raw.clone(), format!("https://acme.okta.com/api/v1/users{raw}"), format!("https://{raw}")] {
                if let Ok(next) = NextUrl::adopt(&raw, &org, "/api/v1/users", NextRule::AdminConsoleToOrg) {
                    proptest::prop_assert!(org.same_origin(&Url::parse(next.as_str()).unwrap()));
                }
                let _ = OrgUrl::parse(&raw);
            }
        }
    }
}

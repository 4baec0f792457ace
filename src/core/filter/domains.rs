//! E-mail domains: which people are wanted at all.
//!
//! Entry points: [`DomainPattern::parse`] at the door, [`DomainFilter::judge`].
//!
//! Invariants:
//! - Domains are compared label by label as lower-case A-labels: `notexample.com` and `example.com.evil.test` are other
//!   domains than `example.com`.
//! - `*.example.com` means what is below `example.com`, never `example.com` itself.
//! - An address with more than one `@` is in no domain: programs disagree about which of them counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::model::User;
use super::super::normalize;

/// A domain as the settings name it: `example.com`, or `*.example.com` for its sub-domains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DomainPattern(Box<str>);

impl DomainPattern {
    /// The one door. The error says what an entry may be.
    pub fn parse(raw: &str) -> Result<Self, String> {
        let (prefix, name) = match raw.strip_prefix("*.") {
            Some(rest) => ("*.", rest),
            None => ("", raw),
        };
        let hint = match name {
            _ if name.contains('@') => "give the domain alone, without anything before the @",
            _ if name.contains("://") || name.contains('/') => "give the domain alone, without scheme or path",
            _ if name.contains('*') => "a * may only stand in front, as in \"*.example.com\"",
            _ if name.ends_with('.') || name.starts_with('.') => "leave the dot at its end away",
            _ => "an entry is a domain such as \"example.com\", or \"*.example.com\" for its sub-domains",
        };
        match normalize::domain(name) {
            Some(domain) => Ok(Self(format!("{prefix}{domain}").into())),
            None => Err(format!("is no e-mail domain: {hint}")),
        }
    }

    /// The pattern, lower-case and as A-labels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a domain, in the form of [`normalize::email_domain`], is meant.
    fn matches(&self, domain: &str) -> bool {
        match self.0.strip_prefix("*.") {
            Some(apex) => is_below(domain, apex),
            None => *self.0 == *domain,
        }
    }

    /// Whether every domain that `other` means is meant.
    fn covers(&self, other: &Self) -> bool {
        match (self.0.strip_prefix("*."), other.0.strip_prefix("*.")) {
            (Some(apex), Some(other)) => other == apex || is_below(other, apex),
            (_, None) => self.matches(&other.0),
            (None, Some(_)) => false,
        }
    }
}

fn is_below(domain: &str, apex: &str) -> bool {
    domain.strip_suffix(apex).and_then(|rest| rest.strip_suffix('.')).is_some_and(|label| !label.is_empty())
}

/// What a filter says of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserVerdict {
    /// Stored.
    Wanted,
    /// Dropped.
    Unwanted,
    /// Neither login nor e-mail can be seen (a role with conditions on attributes, facts 7.2): not stored, and said so.
    Undecidable,
}

/// Which users are wanted, by the domains of login and primary e-mail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DomainFilter {
    /// Empty: everybody.
    domains: BTreeSet<DomainPattern>,
}

impl DomainFilter {
    /// Only users in these domains; none: everybody.
    pub fn new(domains: impl IntoIterator<Item = DomainPattern>) -> Self {
        Self { domains: domains.into_iter().collect() }
    }

    /// Whether anybody may be left out.
    pub fn is_active(&self) -> bool {
        !self.domains.is_empty()
    }

    /// What becomes of a user.
    pub fn judge(&self, user: &User) -> UserVerdict {
        if self.domains.is_empty() {
            return UserVerdict::Wanted;
        }
        let names = [user.login.as_deref(), user.email.as_deref()];
        let mut names = names.into_iter().flatten().peekable();
        if names.peek().is_none() {
            return UserVerdict::Undecidable;
        }
        if names.any(|name| self.has(name)) { UserVerdict::Wanted } else { UserVerdict::Unwanted }
    }

    /// Whether an address is in one of the domains.
    pub fn has(&self, address: &str) -> bool {
        if address.bytes().filter(|byte| *byte == b'@').count() != 1 {
            return false;
        }
        let Some(domain) = normalize::email_domain(address) else { return false };
        self.domains.iter().any(|pattern| pattern.matches(&domain))
    }

    /// Whether everybody whom `other` wants is wanted.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let is_covered = |wanted: &DomainPattern| self.domains.iter().any(|pattern| pattern.covers(wanted));
        self.domains.is_empty() || (!other.domains.is_empty() && other.domains.iter().all(is_covered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::UserId;
    use crate::core::model::UserStatus;

    fn filter(domains: &[&str]) -> DomainFilter {
        DomainFilter::new(domains.iter().map(|domain| DomainPattern::parse(domain).unwrap()))
    }

    #[track_caller]
    fn check_entry(raw: &str, expected: Result<&str, &str>) {
        match (DomainPattern::parse(raw), expected) {
            (Ok(pattern), Ok(expected)) => assert_eq!(pattern.as_str(), expected),
            (Err(reason), Err(part)) => assert!(reason.contains(part), "{raw}: {reason}"),
            (found, expected) => panic!("{raw}: {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn entries_are_domains() {
        check_entry("example.com", Ok("example.com"));
        check_entry("EXAMPLE.Com", Ok("example.com"));
        check_entry("*.Example.com", Ok("*.example.com"));
        check_entry("müller.example", Ok("xn--mller-kva.example"));
        check_entry("XN--MLLER-KVA.example", Ok("xn--mller-kva.example"));
        check_entry("*.müller.example", Ok("*.xn--mller-kva.example"));
        check_entry("a@example.com", Err("before the @"));
        check_entry("@example.com", Err("before the @"));
        check_entry("https://example.com", Err("scheme"));
        check_entry("example.com/x", Err("scheme or path"));
        check_entry("example.com.", Err("dot"));
        check_entry(".example.com", Err("dot"));
        check_entry("*", Err("*"));
        check_entry("*example.com", Err("*"));
        check_entry("a.*.example.com", Err("*"));
        check_entry("*.*.example.com", Err("*"));
        check_entry("com", Err("is no e-mail domain"));
        check_entry("*.com", Err("is no e-mail domain"));
        check_entry("", Err("is no e-mail domain"));
        check_entry("exa mple.com", Err("is no e-mail domain"));
        check_entry("example..com", Err("is no e-mail domain"));
        check_entry("xn--\u{df}q.example", Err("is no e-mail domain"));
    }

    #[track_caller]
    fn check(domains: &[&str], address: &str, expected: bool) {
        assert_eq!(filter(domains).has(address), expected, "{address} in {domains:?}");
    }

    #[test]
    fn domains_match_exactly() {
        let example = &["example.com"];
        check(example, "ada@example.com", true);
        check(example, "ADA@EXAMPLE.COM", true);
        check(example, "ada+tag@Example.com", true);
        check(example, "ada@notexample.com", false);
        check(example, "ada@example.com.evil.test", false);
        check(example, "ada@sub.example.com", false);
        check(example, "ada@example.co", false);
        check(example, "ada@com", false);
        check(example, "ada@example.com.", false);
        check(example, "ada@.example.com", false);
        check(example, "example.com", false);
        check(example, "@example.com", false);
        check(example, "ada@", false);
        check(example, "", false);
        check(example, "ada@evil.test@example.com", false);
        check(example, "ada@example.com@evil.test", false);
        check(example, "a da@example.com", false);
        check(example, "ada@example.com ", false);
        check(example, "ada@example\u{3002}com", true); // DNS takes it for a dot.
        check(example, "ada@ｅxample.com", true); // So it does full-width letters.
        check(example, "ada@ехample.com", false); // Cyrillic.
    }

    #[test]
    fn sub_domains_need_a_star() {
        let below = &["*.example.com"];
        check(below, "ada@example.com", false);
        check(below, "ada@eu.example.com", true);
        check(below, "ada@a.b.EXAMPLE.com", true);
        check(below, "ada@notexample.com", false);
        check(below, "ada@eu.notexample.com", false);
        check(below, "ada@eu.example.com.evil.test", false);
        let both = &["example.com", "*.example.com", "company.test"];
        check(both, "ada@example.com", true);
        check(both, "ada@eu.example.com", true);
        check(both, "ada@company.test", true);
        check(both, "ada@eu.company.test", false);
    }

    #[test]
    fn domains_are_the_same_in_both_writings() {
        for entry in ["müller.example", "xn--mller-kva.example"] {
            check(&[entry], "eva@MÜLLER.example", true);
            check(&[entry], "eva@xn--mller-kva.example", true);
            check(&[entry], "eva@mu\u{308}ller.example", true);
            check(&[entry], "eva@muller.example", false);
        }
        check(&["strasse.example"], "eva@straße.example", false);
    }

    #[track_caller]
    fn check_user(login: Option<&str>, email: Option<&str>, expected: UserVerdict) {
        let user = User {
            id: UserId::new("00u1").unwrap(),
            status: UserStatus::Active,
            login: login.map(Into::into),
            email: email.map(Into::into),
            second_email: Some("ada@example.com".into()),
            first_name: None,
            last_name: None,
            display_name: None,
            created: None,
            last_updated: None,
            status_changed: None,
        };
        assert_eq!(filter(&["example.com"]).judge(&user), expected, "{login:?} {email:?}");
        assert_eq!(filter(&[]).judge(&user), UserVerdict::Wanted);
    }

    #[test]
    fn login_or_primary_email_decides() {
        use UserVerdict::{Undecidable, Unwanted, Wanted};
        check_user(Some("ada@example.com"), Some("ada@elsewhere.test"), Wanted);
        check_user(Some("ada"), Some("ada@example.com"), Wanted);
        check_user(Some("ada@example.com"), None, Wanted);
        check_user(None, Some("ada@example.com"), Wanted);
        check_user(Some("ada"), None, Unwanted);
        check_user(Some("ada@elsewhere.test"), Some("ada@elsewhere.test"), Unwanted);
        check_user(None, None, Undecidable); // The secondary e-mail is self-chosen and has no say.
    }

    #[test]
    fn wider_and_narrower() {
        #[track_caller]
        fn check(wide: &[&str], narrow: &[&str], expected: bool) {
            assert_eq!(filter(wide).covers(&filter(narrow)), expected, "{wide:?} covers {narrow:?}");
        }
        check(&[], &[], true);
        check(&[], &["a.test"], true);
        check(&["a.test"], &[], false);
        check(&["a.test"], &["a.test"], true);
        check(&["a.test", "b.test"], &["a.test"], true);
        check(&["a.test"], &["a.test", "b.test"], false);
        check(&["*.a.test"], &["x.a.test"], true);
        check(&["*.a.test"], &["a.test"], false);
        check(&["*.a.test"], &["*.x.a.test"], true);
        check(&["*.x.a.test"], &["*.a.test"], false);
        check(&["x.a.test"], &["*.a.test"], false);
        check(&["*.a.test"], &["*.ba.test"], false);
    }
}

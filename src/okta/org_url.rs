//! The address of an org, checked once. Entry point: [`OrgUrl::parse`].
//!
//! Invariants: it is `https`, or `http` to a loopback host; it has no path, query, fragment or credentials; it is not the
//! admin console. What is joined to it stays on it.

use std::fmt;

use url::{Host, Url};

/// Longest URL that is accepted, in bytes: the org's own, and the `next` URLs that Okta gives. Okta's longest cursors seen
/// have a few hundred; common servers refuse more than 8 KiB.
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// Longest part of a host that a message shows, in characters: the longest name of a host (RFC 1035).
const HOST_CHARS_MAX: usize = 253;

/// A host, or what stands in its place, for a message.
pub(super) fn shown(host: &str) -> String {
    host.chars().take(HOST_CHARS_MAX).collect()
}

/// Why a string is no org URL. Each message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrgUrlError {
    /// It does not parse as an absolute URL.
    #[error("read org URL: it is no absolute URL; write it like https://acme.okta.com")]
    Parse,
    /// It is longer than [`URL_BYTES_MAX`].
    #[error("read org URL: it has more than {URL_BYTES_MAX} bytes")]
    TooLong,
    /// The scheme is neither `https`, nor `http` to a loopback host.
    #[error("read org URL: the scheme is {0}, but a credential is only sent over https")]
    Scheme(String),
    /// There is no host.
    #[error("read org URL: it has no host")]
    NoHost,
    /// There is a user name or a password in it.
    #[error("read org URL: it holds a user name or password; the credential has its own setting")]
    Credentials,
    /// There is a path, query or fragment.
    #[error("read org URL: leave away what follows the host; write it like https://{0}")]
    Path(String),
    /// The host is the admin console, which does not answer API calls (facts 0).
    #[error("read org URL: {host} is the admin console; use https://{instead}")]
    AdminConsole {
        /// The host given.
        host: String,
        /// The host to use.
        instead: String,
    },
}

/// The checked base URL of one org. Its text form has no trailing slash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OrgUrl(Url);

impl OrgUrl {
    /// The one door.
    pub fn parse(raw: &str) -> Result<Self, OrgUrlError> {
        if raw.len() > URL_BYTES_MAX {
            return Err(OrgUrlError::TooLong);
        }
        let url = Url::parse(raw.trim()).map_err(|_| OrgUrlError::Parse)?;
        let host = url.host().ok_or(OrgUrlError::NoHost)?.to_string();
        match url.scheme() {
            "https" => {}
            "http" if url.host().is_some_and(|host| is_loopback(&host)) => {}
            other => return Err(OrgUrlError::Scheme(shown(other))),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OrgUrlError::Credentials);
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(OrgUrlError::Path(shown(&host)));
        }
        if let Some(instead) = without_admin_suffix(&host) {
            return Err(OrgUrlError::AdminConsole { host: shown(&host), instead: shown(&instead) });
        }
        Ok(Self(url))
    }

    /// The host, for messages.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether the org is on this machine: a simulated one, to which no proxy leads.
    pub fn is_loopback(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback(&host))
    }

    /// The URL of a path with query on this org. `path_and_query` begins with one `/`; anything else would be another
    /// host, and is put below `/` instead.
    pub fn join(&self, path_and_query: &str) -> Url {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let mut url = self.0.clone();
        url.set_path(&format!("/{}", path.trim_start_matches('/')));
        url.set_query(query);
        url
    }

    /// Whether `url` has this scheme, host and port and carries no credentials: only there is the credential sent.
    pub fn same_origin(&self, url: &Url) -> bool {
        url.scheme() == self.0.scheme()
            && url.host() == self.0.host()
            && url.port_or_known_default() == self.0.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none()
    }

    /// Whether `url` is on the admin console of this org, where role lists point although they were asked for at the plain
    /// host (facts 15.4).
    pub fn is_own_admin_console(&self, url: &Url) -> bool {
        url.scheme() == self.0.scheme()
            && url.port_or_known_default() == self.0.port_or_known_default()
            && url.host_str().and_then(without_admin_suffix).as_deref() == Some(self.host())
    }
}

/// `acme-admin.okta.com` → `acme.okta.com`; `None` for other hosts.
fn without_admin_suffix(host: &str) -> Option<String> {
    let (label, domain) = host.split_once('.')?;
    Some(format!("{}.{domain}", label.strip_suffix("-admin")?))
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

impl fmt::Display for OrgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for OrgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn org_urls_are_checked() {
        #[track_caller]
        fn check(raw: &str, expected: Result<&str, &str>) {
            let read = OrgUrl::parse(raw).map(|org| org.to_string()).map_err(|error| error.to_string());
            match (&read, expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{raw}"),
                (Err(read), Err(expected)) => assert!(read.contains(expected), "{raw}: {read}"),
                _ => panic!("{raw}: {read:?}"),
            }
        }
        check("https://acme.okta.com", Ok("https://acme.okta.com"));
        check(" https://ACME.okta.com/ ", Ok("https://acme.okta.com"));
        check("https://login.acme.example:8443", Ok("https://login.acme.example:8443"));
        check("http://127.0.0.1:4711", Ok("http://127.0.0.1:4711"));
        check("http://[::1]:80", Ok("http://[::1]"));
        check("http://localhost:1", Ok("http://localhost:1"));
        check("acme.okta.com", Err("like https://acme.okta.com"));
        check("http://acme.okta.com", Err("only sent over https"));
        check("http://127.0.0.1.okta.com", Err("only sent over https"));
        check("ftp://acme.okta.com", Err("only sent over https"));
        check("https://acme.okta.com/api/v1", Err("https://acme.okta.com"));
        check("https://acme.okta.com/?x", Err("leave away"));
        check("https://acme.okta.com/#x", Err("leave away"));
        check("https://me:pw@acme.okta.com", Err("user name"));
        check("https://acme-admin.okta.com", Err("use https://acme.okta.com"));
        check("https://", Err("no absolute URL"));
        check("data:x", Err("no host"));
        check(&format!("https://{}", "a".repeat(URL_BYTES_MAX)), Err("bytes"));
    }

    #[test]
    fn origins_are_compared_whole() {
        #[track_caller]
        fn check(url: &str, expected: bool) {
            let org = OrgUrl::parse("https://acme.okta.com").unwrap();
            assert_eq!(org.same_origin(&Url::parse(url).unwrap()), expected, "{url}");
        }
        check("https://acme.okta.com/api/v1/users?after=x", true);
        check("https://ACME.okta.com:443/x", true);
        check("http://acme.okta.com/x", false);
        check("https://acme.okta.com:8443/x", false);
        check("https://acme.okta.com.evil.example/x", false);
        check("https://acme.okta.com@evil.example/x", false);
        check("https://a:b@acme.okta.com/x", false);
        check("https://acme-admin.okta.com/x", false);
    }

    #[test]
    fn joined_paths_stay_on_the_org() {
        let org = OrgUrl::parse("https://acme.okta.com").unwrap();
        let joined = |path: &str| org.join(path).to_string();
        assert_eq!(joined("/api/v1/users?limit=2&x=%22"), "https://acme.okta.com/api/v1/users?limit=2&x=%22");
        assert_eq!(joined("//evil.example/x"), "https://acme.okta.com/evil.example/x");
        assert_eq!(joined("https://evil.example/"), "https://acme.okta.com/https://evil.example/");
        assert!(org.is_own_admin_console(&Url::parse("https://acme-admin.okta.com/x").unwrap()));
        assert!(!org.is_own_admin_console(&Url::parse("https://other-admin.okta.com/x").unwrap()));
    }
}

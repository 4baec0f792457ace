//! Addresses: the org's, its proxy's, the one the server listens on, the one look-ups go to. Entry points:
//! [`OrgUrl::parse`], [`parse_proxy`], [`parse_listen`], [`parse_server`].
//!
//! Invariants:
//! - An [`OrgUrl`] is `scheme://host[:port]` and nothing else: what follows it in a request is ours, not the
//!   configuration's. The credential goes to this origin only.
//! - `http` is accepted for loopback hosts only. Where the server may listen, `server` says.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use url::{Host, Url};

use super::error::{looks_like_token, shown};

/// Characters of the longest address: a host name has at most 253, the rest is scheme and port.
const ADDRESS_CHARS_MAX: usize = 300;

/// Bytes of the longest label of a host name.
const LABEL_BYTES_MAX: usize = 63;

/// The address of an Okta org: `https://acme.okta.com`, or `http://127.0.0.1:1234` for a simulated one. Facts 0: HTTPS
/// only, the org's own or a custom domain, never the `-admin` host of the console.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrgUrl {
    origin: String,
    host: String,
}

impl OrgUrl {
    /// Reads `acme.okta.com`, `https://acme.okta.com/` or `http://127.0.0.1:1234`. The error says what is wrong and what
    /// to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let given = text.trim();
        let url = parse_origin(given, "https")?;
        let host = url.host().ok_or("has no host")?.to_owned();
        if let Host::Domain(name) = &host {
            check_org_host(name)?;
        }
        check_nothing_follows(&url, &host)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&host) => {}
            "http" => return Err(format!("http:// is for loopback hosts only, write https://{host}")),
            other => return Err(format!("the scheme {} is not https", shown(other))),
        }
        Ok(Self { origin: origin_of(&url, &host), host: host.to_string() })
    }

    /// `scheme://host[:port]`, no slash at the end; the port is left out where it is the scheme's own.
    pub fn as_str(&self) -> &str {
        &self.origin
    }

    /// The host alone, in lower case; an IPv6 address has its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for OrgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

/// Reads `scheme://host[:port][/]`, with `scheme_default` where none is written, and refuses everything else that an URL
/// may carry. The parser repairs much silently (it drops tabs, turns `\` into `/`): what it would repair is refused first.
fn parse_origin(given: &str, scheme_default: &str) -> Result<Url, String> {
    if given.is_empty() {
        return Err("is empty".to_owned());
    }
    if given.chars().count() > ADDRESS_CHARS_MAX {
        return Err(format!("has more than {ADDRESS_CHARS_MAX} characters"));
    }
    if looks_like_token(given) {
        return Err("is a token, not an address".to_owned());
    }
    if let Some(odd) = given.chars().find(|c| c.is_whitespace() || c.is_control() || *c == '\\') {
        return Err(format!("holds the character {odd:?}, which no address has"));
    }
    let with_scheme = if given.contains("://") { given.to_owned() } else { format!("{scheme_default}://{given}") };
    // Before the parser's own error: whoever writes user info may have written a password, which must not be shown.
    if with_scheme.contains('@') {
        return Err("holds user info (something before an @): write the host alone".to_owned());
    }
    let url = Url::parse(&with_scheme).map_err(|error| format!("{} is no address: {error}", shown(given)))?;
    if url.port() == Some(0) {
        return Err("port 0 is none".to_owned());
    }
    Ok(url)
}

/// Refuses what follows the host. Checked after the host, since the message names the host to write.
fn check_nothing_follows(url: &Url, host: &Host<String>) -> Result<(), String> {
    if matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none() {
        return Ok(());
    }
    Err(format!("has something after the host: write {} alone", origin_of(url, host)))
}

/// What Okta's own names and custom domains cannot be.
fn check_org_host(name: &str) -> Result<(), String> {
    if name == "localhost" {
        return Ok(());
    }
    if name.ends_with('.') {
        return Err(format!("{} ends with a dot: write it without", shown(name)));
    }
    let Some((first_label, parent)) = name.split_once('.') else {
        return Err(format!("{} is no full host name, did you mean {name}.okta.com?", shown(name)));
    };
    // Facts 0: the console's host answers the management API differently and must not become the org's identity.
    match first_label.strip_suffix("-admin") {
        Some(org) if !org.is_empty() => {
            Err(format!("{name} is the host of the admin console, the org itself is {org}.{parent}"))
        }
        _ => Ok(()),
    }
}

/// Whether an address is one of this machine.
pub(crate) fn is_of_this_machine(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.host().is_some_and(|host| is_loopback(&host.to_owned())))
}

fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn origin_of(url: &Url, host: &Host<String>) -> String {
    match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    }
}

/// Reads the address to listen on: `127.0.0.1:8450`, `[::1]:8450`, `localhost:8450`. Port 0 lets the system choose. Whether
/// others than this machine may reach it is for `server` to say, which knows the rest.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    let address = match text.strip_prefix("localhost:") {
        Some(port) => port.parse().ok().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        None => text.parse().ok(),
    };
    address.ok_or_else(|| format!("{} is no address with a port, such as 127.0.0.1:8450 or [::1]:8450", shown(text)))
}

/// The same, or nothing at all where there is nothing to listen for.
pub(super) fn parse_listen_or_none(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.trim().is_empty() { Ok(None) } else { parse_listen(text).map(Some) }
}

/// Reads the address of a proxy: `http://host:port`, or `https://` to one that takes TLS. A password does not belong here,
/// where it would be shown.
pub(super) fn parse_proxy(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err(
            "holds a user or a password: set the variable HTTPS_PROXY to the whole address, and this to \"auto\""
                .to_owned(),
        );
    }
    // A word that was meant for a switch ("off", "direct") is no host.
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_word && (1..=LABEL_BYTES_MAX).contains(&text.len()) && !looks_like_token(text) {
        return Err(format!("is neither \"auto\" nor \"none\", and an address has a port, such as http://{text}:3128"));
    }
    let url = parse_origin(text, "http")?;
    let host = url.host().ok_or("has no host")?.to_owned();
    check_nothing_follows(&url, &host)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the scheme {} is neither http nor https", shown(url.scheme())));
    }
    Ok(origin_of(&url, &host))
}

/// Reads the address of a running server: `https://idmap.example.com:8450`, or `http://` on a loopback host: answers are
/// personal data, and a token goes along. The port must be written: nobody means 80 or 443.
pub(super) fn parse_server(text: &str) -> Result<String, String> {
    let url = parse_origin(text.trim(), "http")?;
    let host = url.host().ok_or("has no host")?.to_owned();
    check_nothing_follows(&url, &host)?;
    // The library leaves a scheme's own port out.
    let has_port = text.trim().trim_end_matches('/').rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok());
    let port = url.port_or_known_default().filter(|_| has_port);
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&host) => {}
        "http" => return Err(format!("http:// is for loopback hosts only, write https://{host}:8450")),
        other => return Err(format!("the scheme {} is neither https nor http", shown(other))),
    }
    let Some(port) = port else {
        return Err(format!("names no port, write for example {}://{host}:8450", url.scheme()));
    };
    Ok(format!("{}://{host}:{port}", url.scheme()))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check_org(text: &str, expected: Expect) {
        expected.assert_eq(&OrgUrl::parse(text).map_or_else(|reason| reason, |url| format!("{url} ({})", url.host())));
    }

    #[test]
    fn proxies() {
        #[track_caller]
        fn check(text: &str, expected: Expect) {
            expected.assert_eq(&parse_proxy(text).unwrap_or_else(|reason| reason));
        }
        check("proxy.example:3128", expect!["http://proxy.example:3128"]);
        check("http://10.0.0.1:3128/", expect!["http://10.0.0.1:3128"]);
        check("https://proxy.example", expect!["https://proxy.example"]);
        check("socks5://proxy.example:1080", expect![[r#"the scheme "socks5" is neither http nor https"#]]);
        check(
            "http://user:password@proxy.example:3128",
            expect![[
                r#"holds a user or a password: set the variable HTTPS_PROXY to the whole address, and this to "auto""#
            ]],
        );
        check("http://proxy.example/pac", expect!["has something after the host: write http://proxy.example alone"]);
        check("", expect!["is empty"]);
        check("http://proxy", expect!["http://proxy"]);
        check("proxy:3128", expect!["http://proxy:3128"]);
        check("off", expect![[r#"is neither "auto" nor "none", and an address has a port, such as http://off:3128"#]]);
    }

    #[test]
    fn org_addresses() {
        check_org("acme.okta.com", expect!["https://acme.okta.com (acme.okta.com)"]);
        check_org(" https://Acme.Okta.com/ ", expect!["https://acme.okta.com (acme.okta.com)"]);
        check_org("https://acme.okta.com:443", expect!["https://acme.okta.com (acme.okta.com)"]);
        check_org("login.example.com:8443", expect!["https://login.example.com:8443 (login.example.com)"]);
        check_org("https://logín.example.com", expect!["https://xn--logn-xpa.example.com (xn--logn-xpa.example.com)"]);
        check_org("http://127.0.0.1:1234", expect!["http://127.0.0.1:1234 (127.0.0.1)"]);
        check_org("http://[::1]:1234/", expect!["http://[::1]:1234 ([::1])"]);
        check_org("http://localhost:1234", expect!["http://localhost:1234 (localhost)"]);
        check_org("localhost:1234", expect!["https://localhost:1234 (localhost)"]);
        check_org("admin.example.com", expect!["https://admin.example.com (admin.example.com)"]);
    }

    #[test]
    fn org_addresses_that_are_refused() {
        check_org("", expect!["is empty"]);
        check_org("acme", expect![[r#""acme" is no full host name, did you mean acme.okta.com?"#]]);
        check_org(
            "acme-admin.okta.com",
            expect!["acme-admin.okta.com is the host of the admin console, the org itself is acme.okta.com"],
        );
        check_org(
            "https://acme-admin.oktapreview.com/admin/dashboard",
            expect![
                "acme-admin.oktapreview.com is the host of the admin console, the org itself is acme.oktapreview.com"
            ],
        );
        check_org("http://acme.okta.com", expect!["http:// is for loopback hosts only, write https://acme.okta.com"]);
        check_org("ftp://acme.okta.com", expect![[r#"the scheme "ftp" is not https"#]]);
        check_org(
            "https://acme.okta.com/app/UserHome",
            expect!["has something after the host: write https://acme.okta.com alone"],
        );
        check_org("acme.okta.com?x=1", expect!["has something after the host: write https://acme.okta.com alone"]);
        check_org("acme.okta.com#x", expect!["has something after the host: write https://acme.okta.com alone"]);
        check_org(
            "user:hunter2@acme.okta.com",
            expect!["holds user info (something before an @): write the host alone"],
        );
        check_org("acme.okta.com\\@evil.example", expect![[r#"holds the character '\\', which no address has"#]]);
        check_org("acme.okta\t.com", expect![[r#"holds the character '\t', which no address has"#]]);
        check_org("acme.okta.com.", expect![[r#""acme.okta.com." ends with a dot: write it without"#]]);
        check_org("acme.okta.com:0", expect!["port 0 is none"]);
        check_org("acme.okta.com:65536", expect![[r#""acme.okta.com:65536" is no address: invalid port number"#]]);
        check_org("https://", expect![[r#""https://" is no address: empty host"#]]);
        check_org("https:acme.okta.com", expect![[r#""https:acme.okta.com" is no address: invalid port number"#]]);
        check_org("file:///etc/passwd", expect!["has no host"]);
        check_org(
            "http://127.0.0.1.evil.example",
            expect!["http:// is for loopback hosts only, write https://127.0.0.1.evil.example"],
        );
        check_org(&"a".repeat(301), expect!["has more than 300 characters"]);
    }

    #[test]
    fn listen_addresses() {
        #[track_caller]
        fn check(text: &str, expected: Expect) {
            expected.assert_eq(&parse_listen(text).map_or_else(|reason| reason, |address| address.to_string()));
        }
        check("127.0.0.1:8450", expect!["127.0.0.1:8450"]);
        check("127.8.0.1:0", expect!["127.8.0.1:0"]);
        check("[::1]:8450", expect!["[::1]:8450"]);
        check("localhost:8450", expect!["127.0.0.1:8450"]);
        check("0.0.0.0:8450", expect!["0.0.0.0:8450"]);
        check("[::ffff:127.0.0.1]:8450", expect!["[::ffff:127.0.0.1]:8450"]);
        check("127.0.0.1", expect![[r#""127.0.0.1" is no address with a port, such as 127.0.0.1:8450 or [::1]:8450"#]]);
        check("localhost", expect![[r#""localhost" is no address with a port, such as 127.0.0.1:8450 or [::1]:8450"#]]);
        check(
            "example.com:8450",
            expect![[r#""example.com:8450" is no address with a port, such as 127.0.0.1:8450 or [::1]:8450"#]],
        );
        check("", expect![[r#""" is no address with a port, such as 127.0.0.1:8450 or [::1]:8450"#]]);
    }

    #[test]
    fn listen_addresses_that_may_be_missing() {
        #[track_caller]
        fn check(text: &str, expected: Expect) {
            expected.assert_eq(&format!("{:?}", parse_listen_or_none(text)));
        }
        check("", expect!["Ok(None)"]);
        check("  ", expect!["Ok(None)"]);
        check("localhost:8451", expect!["Ok(Some(127.0.0.1:8451))"]);
        check(
            ":8451",
            expect![[r#"Err("\":8451\" is no address with a port, such as 127.0.0.1:8450 or [::1]:8450")"#]],
        );
        check("off", expect![[r#"Err("\"off\" is no address with a port, such as 127.0.0.1:8450 or [::1]:8450")"#]]);
    }

    #[test]
    fn server_addresses() {
        #[track_caller]
        fn check(text: &str, expected: Expect) {
            expected.assert_eq(&parse_server(text).unwrap_or_else(|reason| reason));
        }
        check("http://127.0.0.1:8450", expect!["http://127.0.0.1:8450"]);
        check("localhost:8450", expect!["http://localhost:8450"]);
        check("http://[::1]:8450/", expect!["http://[::1]:8450"]);
        check("https://127.0.0.1:8450", expect!["https://127.0.0.1:8450"]);
        check("https://IDmap.example.com:443", expect!["https://idmap.example.com:443"]);
        check("https://[2001:db8::1]:8450/", expect!["https://[2001:db8::1]:8450"]);
        check("https://idmap.example.com", expect!["names no port, write for example https://idmap.example.com:8450"]);
        check("http://10.0.0.1:8450", expect!["http:// is for loopback hosts only, write https://10.0.0.1:8450"]);
        check("http://[::1]", expect!["names no port, write for example http://[::1]:8450"]);
        check("http://127.0.0.1", expect!["names no port, write for example http://127.0.0.1:8450"]);
        check("grpc://127.0.0.1:8450", expect![[r#"the scheme "grpc" is neither https nor http"#]]);
        check(
            "http://127.0.0.1:8450/idmap.v1",
            expect!["has something after the host: write http://127.0.0.1:8450 alone"],
        );
    }

    proptest! {
        #[test]
        fn an_accepted_address_is_an_origin_and_stable(text in "(https?://)?[a-z0-9@:/\\\\.\\[\\]-]{0,30}") {
            if let Ok(url) = OrgUrl::parse(&text) {
                let reparsed = OrgUrl::parse(url.as_str()).unwrap();
                prop_assert_eq!(&reparsed, &url);
                let after_scheme = url.as_str().split_once("://").unwrap().1;
                prop_assert!(!after_scheme.contains(['/', '@', '?', '#', '\\']));
                prop_assert!(url.as_str().starts_with("https://") || is_loopback(&Url::parse(url.as_str()).unwrap().host().unwrap().to_owned()));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = (OrgUrl::parse(&text), parse_listen(&text), parse_server(&text));
        }
    }
}

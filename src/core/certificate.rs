//! The little of a certificate that says whose it is and until when. Entry point: [`CertificateFacts::read`].
//!
//! Whether it may be believed is decided elsewhere, by the TLS library; this only reads.
//!
//! Invariants:
//! - Every input is an answer or `None`; what cannot be read names nobody.
//! - What the library takes for a certificate that is good now is read (`serve::tls` tests that).

use super::access::{CLIENT_NAME_BYTES_MAX, CertificateName};
use super::ids::Timestamp;
use super::private_key::der::{BOOLEAN, Elements, INTEGER, OBJECT_ID, OCTETS, SEQUENCE};

/// Names that are read of one certificate; real ones have a few.
const NAMES_MAX: usize = 64;

const SET: u8 = 0x31;
/// `[0] EXPLICIT`: the version.
const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT`: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// `[2]` and `[6]` of a general name: DNS and URI.
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// id-ce-subjectAltName, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The names of its holder: common names, DNS names, URIs.
    pub names: Vec<CertificateName>,
    /// The last second in which it is good.
    pub not_after: Timestamp,
}

impl CertificateFacts {
    /// Reads a certificate in DER. Names that are no printable text of a usual length are left out.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Elements::of_sequence(der)?;
        let mut body = Elements::within(outer.expect(SEQUENCE)?);
        let (tag, _) = body.next()?;
        if tag == VERSION {
            body.expect(INTEGER)?;
        }
        body.expect(SEQUENCE)?; // How it is signed.
        body.expect(SEQUENCE)?; // By whom.
        let mut validity = Elements::within(body.expect(SEQUENCE)?);
        validity.next()?;
        let (kind, end) = validity.next()?;
        let not_after = time(kind, end)?;
        let mut names = Vec::new();
        common_names(body.expect(SEQUENCE)?, &mut names);
        while let Some((tag, content)) = body.next() {
            if tag == EXTENSIONS {
                alternative_names(content, &mut names);
            }
        }
        names.truncate(NAMES_MAX);
        Some(Self { names, not_after })
    }
}

/// The first common name of a name, for messages; empty where there is none that can be shown.
pub fn common_name(name: &[u8]) -> String {
    let mut names = Vec::new();
    common_names(name, &mut names);
    match names.into_iter().next() {
        Some(CertificateName::Common(name)) => name,
        _ => String::new(),
    }
}

/// A text that can be compared and logged.
fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_plain = !text.is_empty() && text.len() <= CLIENT_NAME_BYTES_MAX && !text.chars().any(char::is_control);
    is_plain.then_some(text)
}

fn common_names(subject: &[u8], names: &mut Vec<CertificateName>) {
    let mut parts = Elements::within(subject);
    while let Some((SET, part)) = parts.next() {
        let mut attributes = Elements::within(part);
        while let Some((SEQUENCE, attribute)) = attributes.next() {
            let mut attribute = Elements::within(attribute);
            if attribute.expect(OBJECT_ID) != Some(COMMON_NAME) {
                continue;
            }
            if let Some((UTF8_STRING | PRINTABLE_STRING, name)) = attribute.next() {
                names.extend(text(name).map(|name| CertificateName::Common(name.to_owned())));
            }
        }
    }
}

fn alternative_names(content: &[u8], names: &mut Vec<CertificateName>) {
    let Some(mut extensions) = Elements::of_sequence(content) else { return };
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Elements::within(extension);
        if extension.expect(OBJECT_ID) != Some(ALTERNATIVE_NAMES) {
            continue;
        }
        let value = match extension.next() {
            Some((BOOLEAN, _)) => extension.expect(OCTETS),
            Some((OCTETS, value)) => Some(value),
            _ => None,
        };
        let Some(mut general) = value.and_then(Elements::of_sequence) else { continue };
        while let Some((tag, name)) = general.next() {
            let Some(name) = text(name) else { continue };
            match tag {
                DNS => names.push(CertificateName::Dns(name.to_ascii_lowercase())),
                URI => names.push(CertificateName::Uri(name.to_owned())),
                _ => {}
            }
        }
    }
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the forms that RFC 5280 allows.
pub(super) fn time(kind: u8, bytes: &[u8]) -> Option<Timestamp> {
    let digits = std::str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (kind, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let century = if year < "50" { "20" } else { "19" };
            (format!("{century}{year}"), rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (year.to_owned(), rest)
        }
        _ => return None,
    };
    let part = |from: usize| rest.get(from..from + 2).unwrap_or_default();
    let iso = format!("{year}-{}-{}T{}:{}:{}.000Z", part(0), part(2), part(4), part(6), part(8));
    Timestamp::parse(&iso)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        #[track_caller]
        fn check(kind: u8, text: &str, expected: &str) {
            let read = time(kind, text.as_bytes()).map_or_else(|| "none".to_owned(), Timestamp::to_iso);
            assert_eq!(read, expected, "{text}");
        }
        check(UTC_TIME, "261128120000Z", "2026-11-28T12:00:00.000Z");
        check(UTC_TIME, "500101000000Z", "1950-01-01T00:00:00.000Z");
        check(GENERALIZED_TIME, "21250101235959Z", "2125-01-01T23:59:59.000Z");
        check(UTC_TIME, "21250101235959Z", "none");
        check(UTC_TIME, "261128120000", "none");
        check(UTC_TIME, "261328120000Z", "none");
        check(UTC_TIME, "2611281200+1Z", "none");
        check(0, "261128120000Z", "none");
    }

    #[test]
    fn a_certificate_of_openssl_is_read() {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let pem = include_bytes!("../../tests/keys/tls/server.pem");
        let facts = CertificateFacts::read(&CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
        let names: Vec<String> = facts.names.iter().map(ToString::to_string).collect();
        let expected = "CN=okta-idmap test server DNS=localhost DNS=acme.okta.example DNS=evil.example";
        assert_eq!(names.join(" "), expected);
        assert_eq!(facts.not_after.to_iso(), "2126-11-04T16:09:06.000Z");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(der in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = CertificateFacts::read(&der);
        }

        #[test]
        fn no_damage_breaks_it(place in 0..400_usize, value in proptest::num::u8::ANY) {
            use rustls::pki_types::pem::PemObject as _;
            let pem = include_bytes!("../../tests/keys/tls/server.pem");
            let mut der = rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap().to_vec();
            if let Some(byte) = der.get_mut(place) {
                *byte = value;
            }
            let _ = CertificateFacts::read(&der);
        }
    }
}

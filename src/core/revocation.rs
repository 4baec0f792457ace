//! Lists of revoked certificates: whose they are, of which certificates they speak, and by which way a certificate goes up to a
//! root. Entry points: [`RevocationListFacts::read`], [`Scopes::of`], [`Scopes::way_up`].
//!
//! Whether a list or a certificate may be believed is decided elsewhere, by the TLS library; this only reads. The library asks
//! the first list of an issuer that may speak of a certificate, and takes one that scopes itself to a distribution point for one
//! that speaks of certificates that name none. What has to hold beyond that is decided here.
//!
//! | the certificate | a list of the whole issuer | a list of a distribution point |
//! |---|---|---|
//! | names distribution points | speaks of it | speaks of it if it is one of these |
//! | names none | speaks of it | does not, so one of the whole issuer is needed |
//!
//! Invariant: every input is an answer or a fault; on doubt there is no way up.

use std::collections::BTreeSet;

use super::certificate::{common_name, time};
use super::ids::Timestamp;
use super::private_key::der::{BOOLEAN, Elements, INTEGER, OBJECT_ID, OCTETS, SEQUENCE};

/// `[0] EXPLICIT` of a list: its extensions. Of a certificate: its version. Of a distribution point: its names.
const FIRST: u8 = 0xa0;
/// `[3] EXPLICIT` of a certificate: its extensions.
const CERTIFICATE_EXTENSIONS: u8 = 0xa3;
/// `[1]` to `[5]` of an issuing distribution point.
const ONLY_USERS: u8 = 0x81;
const ONLY_AUTHORITIES: u8 = 0x82;
const ONLY_REASONS: u8 = 0x83;
const INDIRECT: u8 = 0x84;
const ONLY_ATTRIBUTES: u8 = 0x85;
/// `[6]` of a general name.
const URI: u8 = 0x86;
/// id-ce-deltaCRLIndicator, 2.5.29.27.
const DELTA_INDICATOR: &[u8] = &[0x55, 0x1d, 0x1b];
/// id-ce-issuingDistributionPoint, 2.5.29.28.
const ISSUING_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
/// id-ce-cRLDistributionPoints, 2.5.29.31.
const DISTRIBUTION_POINTS: &[u8] = &[0x55, 0x1d, 0x1f];

/// What a list of revoked certificates says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationListFacts {
    /// Whose list it is: the content of the name's sequence, to be compared byte for byte.
    pub issuer: Vec<u8>,
    /// The common name in it, for messages; empty where there is none.
    pub issuer_name: String,
    /// The time by which there is a newer one. From then on it says nothing about certificates that are revoked since.
    pub next_update: Timestamp,
    /// Of which of the issuer's certificates it speaks.
    pub scope: ListScope,
}

/// Of which certificates of its issuer a list speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListScope {
    /// Of all.
    Whole,
    /// Of those that name its distribution point, and perhaps only of those of users or of authorities among them.
    Point,
    /// It tells only what has changed since another list.
    Delta,
    /// It is about certificates of other issuers, too.
    Indirect,
    /// It tells only of some of the reasons for which certificates are revoked.
    Reasons,
    /// It is about attribute certificates, which nobody connects with.
    Attributes,
    /// It is about a part that no distribution point with a URI names.
    Unnamed,
    /// What it says of its scope cannot be read.
    Unreadable,
}

impl ListScope {
    /// Why such a list cannot be used, and what to do.
    pub const fn fault(self) -> Option<&'static str> {
        match self {
            Self::Whole | Self::Point => None,
            Self::Delta => Some("tells only what has changed since another list: put the full list in its place"),
            Self::Indirect => Some(
                "is about certificates of other issuers, too, which cannot be used: put a list of each issuer in its place",
            ),
            Self::Reasons => Some(
                "tells only of some reasons for revoking, which cannot be used: put a list of all of them in its place",
            ),
            Self::Attributes => Some("is about attribute certificates, which nobody connects with: take it out"),
            Self::Unnamed => Some(
                "is about a part of the issuer's certificates that no distribution point with a URI names: put the list of all, \
                 or those of distribution points, in its place",
            ),
            Self::Unreadable => Some("says in an unknown form what it is about: put another one in its place"),
        }
    }
}

impl RevocationListFacts {
    /// Reads a list in DER. `None` also for one that does not say when the next is due, which RFC 5280 asks for.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Elements::of_sequence(der)?;
        let mut body = Elements::within(outer.expect(SEQUENCE)?);
        body.expect(INTEGER)?; // The version: there are extensions, so it is 2.
        body.expect(SEQUENCE)?; // How it is signed.
        let issuer = body.expect(SEQUENCE)?;
        body.next()?; // Since when.
        let (kind, end) = body.next()?;
        let next_update = time(kind, end)?;
        let mut scope = ListScope::Whole;
        while let Some((tag, content)) = body.next() {
            if tag != FIRST {
                continue; // Those that are revoked.
            }
            let mut extensions = Extensions::of(content)?;
            while let Some((id, value)) = extensions.next() {
                match id {
                    DELTA_INDICATOR => scope = ListScope::Delta,
                    ISSUING_POINT if scope == ListScope::Whole => scope = issuing_point(value),
                    _ => {}
                }
            }
        }
        Some(Self { issuer: issuer.to_vec(), issuer_name: common_name(issuer), next_update, scope })
    }
}

fn issuing_point(value: &[u8]) -> ListScope {
    let Some(mut parts) = Elements::of_sequence(value) else { return ListScope::Unreadable };
    let mut scope = ListScope::Unnamed;
    while let Some((tag, content)) = parts.next() {
        // A part that says no is as good as none.
        let is_set = content != [0];
        match tag {
            FIRST => {
                let mut names = Elements::within(content);
                let full = names.expect(FIRST).map(Elements::within);
                let has_uri =
                    full.is_some_and(|mut names| std::iter::from_fn(|| names.next()).any(|(tag, _)| tag == URI));
                scope = if has_uri { ListScope::Point } else { ListScope::Unnamed };
            }
            ONLY_USERS | ONLY_AUTHORITIES => {}
            ONLY_REASONS => return ListScope::Reasons,
            INDIRECT if is_set => return ListScope::Indirect,
            ONLY_ATTRIBUTES if is_set => return ListScope::Attributes,
            INDIRECT | ONLY_ATTRIBUTES => {}
            _ => return ListScope::Unreadable,
        }
    }
    scope
}

/// Extensions of a certificate or list, each with its id and its value.
struct Extensions<'a>(Elements<'a>);

impl<'a> Extensions<'a> {
    fn of(content: &'a [u8]) -> Option<Self> {
        Elements::of_sequence(content).map(Self)
    }

    /// The next one; none also where something else comes.
    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let mut extension = Elements::within(self.0.expect(SEQUENCE)?);
        let id = extension.expect(OBJECT_ID)?;
        match extension.next()? {
            (BOOLEAN, _) => Some((id, extension.expect(OCTETS)?)),
            (OCTETS, value) => Some((id, value)),
            _ => None,
        }
    }
}

/// What of a certificate says who is above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
    /// The content of its public key's sequence.
    key: &'a [u8],
    names_points: bool,
}

impl<'a> Link<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut outer = Elements::of_sequence(der)?;
        let mut body = Elements::within(outer.expect(SEQUENCE)?);
        body.expect(FIRST)?; // The version: no others than 3 are let in.
        body.expect(INTEGER)?;
        body.expect(SEQUENCE)?; // How it is signed.
        let issuer = body.expect(SEQUENCE)?;
        body.expect(SEQUENCE)?; // Since when, and until when.
        let (subject, key) = (body.expect(SEQUENCE)?, body.expect(SEQUENCE)?);
        let mut names_points = false;
        while let Some((tag, content)) = body.next() {
            if tag == CERTIFICATE_EXTENSIONS {
                let mut extensions = Extensions::of(content)?;
                names_points |= std::iter::from_fn(|| extensions.next()).any(|(id, _)| id == DISTRIBUTION_POINTS);
            }
        }
        Some(Self { issuer, subject, key, names_points })
    }
}

/// A root: content of the sequences of its name and of its public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootFacts {
    /// Its name.
    pub subject: Vec<u8>,
    /// Its public key.
    pub key: Vec<u8>,
}

/// Of whose certificates lists speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// Issuers with a list of all their certificates.
    whole: BTreeSet<Vec<u8>>,
}

impl Scopes {
    /// What these lists speak of.
    pub fn of<'a>(lists: impl IntoIterator<Item = &'a RevocationListFacts>) -> Self {
        let whole = lists.into_iter().filter(|list| list.scope == ListScope::Whole);
        Self { whole: whole.map(|list| list.issuer.clone()).collect() }
    }

    /// The certificates among `above` by which this one goes up to a root, as places, the nearest first. Several questions about
    /// it are about the same certificates then.
    ///
    /// `None`: there is no way, or there may be several, or a certificate on it that names no distribution point has an issuer
    /// that has lists of these only.
    pub fn way_up(&self, leaf: &[u8], above: &[&[u8]], roots: &[RootFacts]) -> Option<Vec<usize>> {
        let mut links: Vec<(usize, Link<'_>)> = Vec::new();
        for (place, der) in above.iter().enumerate() {
            // Nor does the library use what cannot be read. The same one twice is one.
            if let Some(link) = Link::read(der)
                && !links.iter().any(|(other, _)| above.get(*other) == Some(der))
            {
                links.push((place, link));
            }
        }
        let mut current = Link::read(leaf)?;
        let mut way = Vec::new();
        loop {
            if !current.names_points && !self.whole.contains(current.issuer) {
                return None;
            }
            let mut issuers = links.iter().filter(|(_, link)| link.subject == current.issuer);
            let keys: Vec<&[u8]> =
                roots.iter().filter(|root| root.subject == current.issuer).map(|root| root.key.as_slice()).collect();
            if !keys.is_empty() {
                // A root that is sent along is no other way; somebody of its name is.
                return issuers.all(|(_, link)| keys.contains(&link.key)).then_some(way);
            }
            let (Some((place, next)), None) = (issuers.next(), issuers.next()) else { return None };
            if way.contains(place) {
                return None;
            }
            way.push(*place);
            current = *next;
        }
    }
}

#[cfg(test)]
mod tests;

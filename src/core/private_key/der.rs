//! The little of ASN.1 DER that private keys, certificates and lists of revoked ones need. Entry points: [`Elements`], [`pkcs8`], [`sec1`].
//!
//! Invariant: every input is an answer or `None`; nothing is copied.

/// The elements of a DER value, one after the other.
pub(in crate::core) struct Elements<'a>(&'a [u8]);

pub(in crate::core) const BOOLEAN: u8 = 0x01;
pub(in crate::core) const INTEGER: u8 = 0x02;
pub(in crate::core) const OCTETS: u8 = 0x04;
pub(in crate::core) const OBJECT_ID: u8 = 0x06;
pub(in crate::core) const SEQUENCE: u8 = 0x30;
/// `[0]` and `[1]` of SEC1: the curve and the public part.
const PARAMETERS: u8 = 0xa0;
const PUBLIC: u8 = 0xa1;
const BITS: u8 = 0x03;

impl<'a> Elements<'a> {
    /// Those of a value that is one sequence.
    pub(in crate::core) fn of_sequence(der: &'a [u8]) -> Option<Self> {
        Some(Self(Self(der).expect(SEQUENCE)?))
    }

    /// Those of a content that was taken out of its element.
    pub(in crate::core) const fn within(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// The next element with its tag.
    pub(in crate::core) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Keys and certificates are shorter than 64 KiB, lists of revoked ones than 16 MiB.
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The next element, which must have this tag.
    pub(in crate::core) fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

/// A PKCS#8 key: the object id of its kind, that of its curve, and the key inside.
pub(super) struct Pkcs8<'a> {
    pub(super) kind: &'a [u8],
    pub(super) curve: Option<&'a [u8]>,
    pub(super) inside: &'a [u8],
}

pub(super) fn pkcs8(der: &[u8]) -> Option<Pkcs8<'_>> {
    let mut outer = Elements::of_sequence(der)?;
    outer.expect(INTEGER)?;
    let mut algorithm = Elements(outer.expect(SEQUENCE)?);
    let kind = algorithm.expect(OBJECT_ID)?;
    let curve = algorithm.expect(OBJECT_ID);
    Some(Pkcs8 { kind, curve, inside: outer.expect(OCTETS)? })
}

/// An EC key: its private number, and curve and public point where they are in it.
pub(super) struct Sec1<'a> {
    pub(super) private: &'a [u8],
    pub(super) curve: Option<&'a [u8]>,
    pub(super) public: Option<&'a [u8]>,
}

pub(super) fn sec1(der: &[u8]) -> Option<Sec1<'_>> {
    let mut outer = Elements::of_sequence(der)?;
    outer.expect(INTEGER)?;
    let mut key = Sec1 { private: outer.expect(OCTETS)?, curve: None, public: None };
    while let Some((tag, content)) = outer.next() {
        let mut inner = Elements(content);
        match tag {
            PARAMETERS => key.curve = inner.expect(OBJECT_ID),
            // The first byte of a bit string counts the bits that do not belong to it: none.
            PUBLIC => key.public = inner.expect(BITS).and_then(|bits| bits.strip_prefix(&[0])),
            _ => {}
        }
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_read_within_their_bounds() {
        #[track_caller]
        fn check(der: &[u8], expected: Option<(u8, usize)>) {
            let read = Elements(der).next().map(|(tag, content)| (tag, content.len()));
            assert_eq!(read, expected, "{der:x?}");
        }
        check(&[], None);
        check(&[2], None);
        check(&[2, 1], None);
        check(&[2, 1, 5], Some((2, 1)));
        check(&[4, 0x81, 2, 0, 0], Some((4, 2)));
        check(&[4, 0x82, 0, 1, 0], Some((4, 1)));
        check(&[4, 0x82, 0], None);
        check(&[4, 0x82, 0xff, 0xff, 0], None);
        check(&[4, 0x84, 0xff, 0xff, 0xff, 0xff], None);
        check(&[4, 0x80, 0, 0], None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_break_it(der in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = (pkcs8(&der).is_some(), sec1(&der).is_some());
        }
    }
}

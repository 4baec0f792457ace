//! Object ids: 20 characters with a realistic prefix, computed from an index, so that none is stored.
//!
//! Entry points: [`UserRef`], [`GroupRef`], [`AppRef`] and `encode` / `decode`.
//!
//! Invariants:
//! - `decode(kind, encode(kind, index)) == Some(index)` for every index, and no other text decodes to it.
//! - Neighbouring indexes give unrelated ids: nothing may depend on the order of ids.

/// Characters of the middle part, enough for 48 bits: 62^9 > 2^48.
const MIDDLE_CHARS: usize = 9;
/// The last eight characters, the same for all ids of one org, as the cell suffix of real ids.
const SUFFIX: &str = "k7SimOrg";
/// Ids carry 48 bits: more than any index, and most 48-bit values decode to no index, so that guesses fail.
const MASK: u64 = (1 << 48) - 1;
/// Any odd number spreads indexes over the 48 bits.
const SPREAD: u64 = 0x9E37_79B9_7F4B;
const UNSPREAD: u64 = inverse(SPREAD);
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The multiplicative inverse of an odd number modulo 2^48, by Newton's iteration (each step doubles the right bits).
const fn inverse(odd: u64) -> u64 {
    let mut guess: u64 = odd;
    let mut round = 0;
    while round < 6 {
        guess = guess.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(guess)));
        round += 1;
    }
    guess & MASK
}

/// What an id names; decides the prefix (facts, section 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdKind {
    User,
    Group,
    App,
    AppUser,
    AppGroup,
    Token,
    UserType,
    Org,
    Principal,
}

impl IdKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::User => "00u",
            Self::Group => "00g",
            Self::App => "0oa",
            Self::AppUser => "0ua",
            Self::AppGroup => "gaa",
            Self::Token => "00T",
            Self::UserType => "oty",
            Self::Org => "00o",
            Self::Principal => "prl",
        }
    }
}

/// The id of the object of this kind with this index.
pub(crate) fn encode(kind: IdKind, index: u32) -> String {
    let mut value = (u64::from(index) + 1).wrapping_mul(SPREAD) & MASK;
    let mut middle = [b'0'; MIDDLE_CHARS];
    for slot in middle.iter_mut().rev() {
        *slot = DIGITS[(value % 62) as usize];
        value /= 62;
    }
    let mut id = String::with_capacity(20);
    id.push_str(kind.prefix());
    id.extend(middle.iter().map(|digit| char::from(*digit)));
    id.push_str(SUFFIX);
    id
}

/// The index behind an id, or `None` if no index has this id.
pub(crate) fn decode(kind: IdKind, id: &str) -> Option<u32> {
    let middle = id.strip_prefix(kind.prefix())?.strip_suffix(SUFFIX)?;
    if middle.len() != MIDDLE_CHARS {
        return None;
    }
    let mut value: u64 = 0;
    for byte in middle.bytes() {
        let digit = DIGITS.iter().position(|known| *known == byte)?;
        value = value * 62 + digit as u64;
    }
    if value > MASK {
        return None;
    }
    let number = value.wrapping_mul(UNSPREAD) & MASK;
    u32::try_from(number.checked_sub(1)?).ok()
}

macro_rules! object_ref {
    ($name:ident, $kind:expr, $what:literal) => {
        #[doc = concat!("Names one ", $what, " of the simulated org. Stays valid as a name after the object is deleted.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub(crate) u32);

        impl $name {
            /// The 20-character id as the API shows it.
            pub fn id(self) -> String {
                encode($kind, self.0)
            }

            /// The object with this id, whether or not it (still) exists; `None` for text that is no such id.
            pub fn parse(id: &str) -> Option<Self> {
                decode($kind, id).map(Self)
            }

            pub(crate) fn at(self) -> usize {
                self.0 as usize
            }
        }
    };
}

object_ref!(UserRef, IdKind::User, "user");
object_ref!(GroupRef, IdKind::Group, "group");
object_ref!(AppRef, IdKind::App, "app");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_decode_to_their_index() {
        for index in [0, 1, 2, 61, 62, 999_999, u32::MAX - 1, u32::MAX] {
            let id = encode(IdKind::User, index);
            assert_eq!(id.len(), 20, "{id}");
            assert_eq!(decode(IdKind::User, &id), Some(index), "{id}");
            assert_eq!(decode(IdKind::Group, &id), None, "{id}");
        }
    }

    #[test]
    fn other_text_decodes_to_nothing() {
        for text in
            ["", "00u", "me", "00u000000000k7SimOrg", "00uzzzzzzzzzk7SimOrg", "00uäääk7SimOrg", "00u00000000!k7SimOrg"]
        {
            assert_eq!(decode(IdKind::User, text), None, "{text}");
        }
    }
}

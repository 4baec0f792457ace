//! Names as apps compare them: what is equal, what only looks alike, and the one key under which the store finds both.
//!
//! Entry points: [`Identifier::new`], then [`Identifier::compare`] and [`lookup_key`].
//!
//! | form | e-mail-shaped name | opaque name | used for |
//! |---|---|---|---|
//! | [`NameRule::Exact`] | bytes | bytes | apps that distinguish case |
//! | [`NameRule::Default`] | local part folded, domain as A-label | bytes | everything else |
//! | [`NameRule::IgnoreCase`] | as `Default` | folded | apps that are known to ignore case |
//! | loosest | NFKC, folded, domain out of its A-label | NFKC, folded | [`LookupKey`], warnings; never a match |
//!
//! *Folded* is Unicode's canonical caseless form (full case folding between NFD and NFC): `ß` and `ss` are one, `ﬁ` and
//! `fi` are one, composed and decomposed accents are one; full-width letters stay different.
//!
//! Invariants, each of them a property in `tests`:
//! - Normalising is idempotent, and a name keeps its shape by it.
//! - Names that are equal under any rule have the same [`LookupKey`]; equal keys prove nothing.
//! - `+tag`, dots and blanks are never stripped; an e-mail-shaped name never equals an opaque one unless the bytes do.

use std::borrow::Cow;
use std::cell::OnceCell;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use xxhash_rust::xxh3::xxh3_64;

/// Version of everything in this file that decides a [`LookupKey`], the Unicode tables of the libraries included. It is
/// stored; a store with another version is re-keyed by a migration. `keys_are_pinned` fails when it must grow.
pub const NORMALIZE_VERSION: u32 = 1;

/// Longest identifier, in bytes. Okta's longest name is an external id of at most 512 characters (facts 5.1); the limit
/// leaves two bytes for each and bounds what a request can make us normalise.
pub const IDENTIFIER_BYTES_MAX: usize = 1024;

/// Longest domain in its ASCII form, in bytes: the limit of DNS. A longer one makes a name opaque.
pub const DOMAIN_BYTES_MAX: usize = 253;

/// Longest label of a domain in its ASCII form, in bytes: the limit of DNS.
pub const DOMAIN_LABEL_BYTES_MAX: usize = 63;

/// Why a string cannot name an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifierError {
    /// The identifier is the empty string.
    #[error("identifier is empty")]
    Empty,
    /// The identifier is longer than [`IDENTIFIER_BYTES_MAX`].
    #[error("identifier has {0} bytes, more than {IDENTIFIER_BYTES_MAX}")]
    TooLong(usize),
    /// The identifier holds NUL or another control character.
    #[error("identifier holds the control character {0:?}")]
    Control(char),
}

/// How an app compares names. The default of an app is [`NameRule::Default`]; the policy overrides it per app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum NameRule {
    /// E-mail-shaped names ignore case and composition, opaque ones are compared byte by byte.
    #[default]
    Default,
    /// Bytes, whatever the name looks like.
    Exact,
    /// Case and composition are ignored in opaque names too.
    IgnoreCase,
}

impl NameRule {
    /// Every rule.
    pub const ALL: [NameRule; 3] = [NameRule::Default, NameRule::Exact, NameRule::IgnoreCase];

    /// Spelling in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            NameRule::Default => "default",
            NameRule::Exact => "exact",
            NameRule::IgnoreCase => "ignore_case",
        }
    }

    /// Reads [`NameRule::name`] back.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// A name in the form in which one rule compares it. Invariant: only [`normalize`] and [`Identifier::normalize`] make
/// one. Comparable only with names that were made by the same rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NormalizedName {
    // In front of the text, and part of equality: a broken domain must not fold into somebody's good one.
    shape: Shape,
    text: Box<str>,
}

impl NormalizedName {
    /// The normalised text; normalising it again by the same rule changes nothing.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Shape {
    Email,
    Opaque,
}

/// Key under which the store finds every name that could equal an identifier under any rule, or deserve a warning. A
/// hash: what is found must be compared again, from the raw values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupKey(u64);

impl LookupKey {
    /// The key as SQLite stores it: the same 64 bits, signed.
    pub const fn to_stored(self) -> i64 {
        self.0.cast_signed()
    }

    /// A key that [`LookupKey::to_stored`] wrote.
    pub const fn from_stored(stored: i64) -> Self {
        Self(stored.cast_unsigned())
    }
}

/// How close two names are under a rule, closest first. Only the first two are matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Closeness {
    /// The same bytes.
    Identical,
    /// Equal under the rule.
    Same,
    /// Not equal under the rule, but folding case (or composing accents) makes them so.
    CaseDiffers,
    /// Only compatibility folding (NFKC: full-width letters, ligatures, superscripts) makes them equal.
    NfkcDiffers,
    /// Not alike.
    Different,
}

/// A name that can be looked up. Invariant: not empty, at most [`IDENTIFIER_BYTES_MAX`], no control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identifier<'a>(&'a str);

impl<'a> Identifier<'a> {
    /// The one door. The raw value is kept as it is: nothing is trimmed.
    pub fn new(raw: &'a str) -> Result<Self, IdentifierError> {
        if raw.is_empty() {
            return Err(IdentifierError::Empty);
        }
        if raw.len() > IDENTIFIER_BYTES_MAX {
            return Err(IdentifierError::TooLong(raw.len()));
        }
        match raw.chars().find(|c| c.is_control()) {
            Some(c) => Err(IdentifierError::Control(c)),
            None => Ok(Self(raw)),
        }
    }

    /// The name as it was given.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether the name is compared as an e-mail: a last `@` with something without blanks before it and a domain of two
    /// or more labels behind it.
    pub fn is_email_shaped(self) -> bool {
        split_email(self.0).is_some()
    }

    /// The name as `rule` compares it.
    pub fn normalize(self, rule: NameRule) -> NormalizedName {
        if rule == NameRule::Exact {
            return NormalizedName { shape: Shape::Opaque, text: self.0.into() };
        }
        match split_email(self.0) {
            Some(Email { local, domain }) => {
                let text = format!("{}@{}", canonical_fold(local), domain.text());
                NormalizedName { shape: Shape::Email, text: text.into() }
            }
            None if rule == NameRule::IgnoreCase => {
                NormalizedName { shape: Shape::Opaque, text: canonical_fold(self.0).into() }
            }
            None => NormalizedName { shape: Shape::Opaque, text: self.0.into() },
        }
    }

    /// How close `other` is to this name under `rule`. Symmetric. For several others use a [`Comparer`].
    pub fn compare(self, other: Identifier<'_>, rule: NameRule) -> Closeness {
        Comparer::new(self).compare(other, rule)
    }

    /// Whether `other` is the same name under `rule`.
    pub fn is_same(self, other: Identifier<'_>, rule: NameRule) -> bool {
        self.compare(other, rule) <= Closeness::Same
    }

    /// The key of this name.
    pub fn lookup_key(self) -> LookupKey {
        if is_plain(self.0) {
            // The same as below, without allocating.
            let mut buffer = [0; IDENTIFIER_BYTES_MAX];
            let bytes = &mut buffer[..self.0.len()];
            bytes.copy_from_slice(self.0.as_bytes());
            bytes.make_ascii_lowercase();
            return LookupKey(xxh3_64(bytes));
        }
        LookupKey(xxh3_64(loosest(self.0).as_bytes()))
    }
}

/// Compares one name with many: its own forms are made once, and only when they are needed.
#[derive(Clone, Debug)]
pub struct Comparer<'a> {
    identifier: Identifier<'a>,
    loosest: OnceCell<String>,
    default: OnceCell<NormalizedName>,
    ignore_case: OnceCell<NormalizedName>,
}

impl<'a> Comparer<'a> {
    /// For this name.
    pub const fn new(identifier: Identifier<'a>) -> Self {
        Self { identifier, loosest: OnceCell::new(), default: OnceCell::new(), ignore_case: OnceCell::new() }
    }

    /// How close `other` is to the name under `rule`.
    pub fn compare(&self, other: Identifier<'_>, rule: NameRule) -> Closeness {
        let raw = self.identifier.0;
        if raw == other.0 {
            return Closeness::Identical;
        }
        if is_plain(raw) && is_plain(other.0) {
            // Without non-ASCII and without A-labels nothing but the case of ASCII letters can be folded.
            return match rule {
                _ if !raw.eq_ignore_ascii_case(other.0) => Closeness::Different,
                NameRule::IgnoreCase => Closeness::Same,
                NameRule::Default if other.is_email_shaped() => Closeness::Same,
                NameRule::Default | NameRule::Exact => Closeness::CaseDiffers,
            };
        }
        // First what is the usual answer: names that are equal under any rule have one loosest form.
        if *self.loosest.get_or_init(|| loosest(raw)) != loosest(other.0) {
            return Closeness::Different;
        }
        if self.is_normalized_same(other, rule) {
            return Closeness::Same;
        }
        if self.is_normalized_same(other, NameRule::IgnoreCase) {
            return Closeness::CaseDiffers;
        }
        Closeness::NfkcDiffers
    }

    fn is_normalized_same(&self, other: Identifier<'_>, rule: NameRule) -> bool {
        let cell = match rule {
            NameRule::Exact => return false, // The bytes differ, or nobody would ask.
            NameRule::Default => &self.default,
            NameRule::IgnoreCase => &self.ignore_case,
        };
        *cell.get_or_init(|| self.identifier.normalize(rule)) == other.normalize(rule)
    }
}

/// The name as `rule` compares it; see [`Identifier::normalize`].
pub fn normalize(raw: &str, rule: NameRule) -> Result<NormalizedName, IdentifierError> {
    Identifier::new(raw).map(|identifier| identifier.normalize(rule))
}

/// The key of a name; see [`Identifier::lookup_key`].
pub fn lookup_key(raw: &str) -> Result<LookupKey, IdentifierError> {
    Identifier::new(raw).map(Identifier::lookup_key)
}

/// The domain of an e-mail-shaped name as lower-case A-label, for filters. `None` where the name has no e-mail shape, is
/// no [`Identifier`], or its domain has no A-label.
pub fn email_domain(raw: &str) -> Option<Box<str>> {
    match split_email(Identifier::new(raw).ok()?.as_str())?.domain {
        Domain::Encoded(domain) => Some(domain.into()),
        Domain::Folded(_) => None,
    }
}

/// A bare domain, as a filter names it, in the form of [`email_domain`].
pub fn domain(raw: &str) -> Option<Box<str>> {
    match parse_domain(Identifier::new(raw).ok()?.as_str())? {
        Domain::Encoded(domain) => Some(domain.into()),
        Domain::Folded(_) => None,
    }
}

/// Full case folding between NFD and NFC: Unicode's canonical caseless form. Folds text that is no name too, such as the
/// label of an app.
pub fn canonical_fold(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return match text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => Cow::Borrowed(text),
        };
    }
    // NFD first: U+0345 folds to a letter, and would be left behind in the wrong place otherwise.
    let decomposed = DecomposingNormalizer::new_nfd().normalize(text);
    let folded = CaseMapper::new().fold_string(&decomposed);
    Cow::Owned(ComposingNormalizer::new_nfc().normalize(&folded).into_owned())
}

/// Half of Unicode's compatibility caseless form, composed: what NFKC brings out is folded in the second pass of
/// [`loosest`].
fn compatibility_fold(text: &str) -> Cow<'_, str> {
    let folded = canonical_fold(text);
    let nfkc = ComposingNormalizer::new_nfkc();
    if folded.is_ascii() || nfkc.is_normalized(&folded) {
        return folded;
    }
    Cow::Owned(nfkc.normalize(&folded).into_owned())
}

/// The form of which a [`LookupKey`] is the hash.
///
/// Twice, because the first pass may bring out capitals (from `℡`), or an `@` (from a full-width one) and with it a
/// domain.
fn loosest(raw: &str) -> String {
    if is_plain(raw) {
        // The same as below (`the_fast_path_is_no_shortcut`), without the tables.
        return raw.to_ascii_lowercase();
    }
    loosen(&loosen(raw))
}

fn loosen(raw: &str) -> String {
    match split_email(raw) {
        // Out of the A-label: only there does compatibility folding reach the letters of the domain.
        Some(Email { local, domain: Domain::Encoded(domain) }) => {
            if !has_a_label(&domain) {
                return format!("{}@{domain}", compatibility_fold(local));
            }
            let (unicode, _errors) = idna::domain_to_unicode(&domain);
            format!("{}@{}", compatibility_fold(local), compatibility_fold(&unicode))
        }
        Some(Email { .. }) | None => compatibility_fold(raw).into_owned(),
    }
}

/// Whether nothing of a name can be folded but the case of ASCII letters.
fn is_plain(raw: &str) -> bool {
    raw.is_ascii() && !has_a_label(raw)
}

fn has_a_label(raw: &str) -> bool {
    raw.as_bytes().windows(4).any(|bytes| bytes.eq_ignore_ascii_case(b"xn--"))
}

struct Email<'a> {
    local: &'a str,
    domain: Domain<'a>,
}

enum Domain<'a> {
    /// Lower-case A-labels; encoding them again changes nothing.
    Encoded(Cow<'a, str>),
    /// IDNA refuses it: folded, and refused still.
    Folded(Cow<'a, str>),
}

impl Domain<'_> {
    fn text(&self) -> &str {
        match self {
            Domain::Encoded(text) | Domain::Folded(text) => text,
        }
    }
}

fn split_email(raw: &str) -> Option<Email<'_>> {
    let (local, domain) = raw.rsplit_once('@')?;
    if local.is_empty() || local.contains(char::is_whitespace) {
        return None;
    }
    Some(Email { local, domain: parse_domain(domain)? })
}

fn parse_domain(raw: &str) -> Option<Domain<'_>> {
    let domain = match encode_domain(raw) {
        Some(encoded) => Domain::Encoded(encoded),
        None => {
            let folded = canonical_fold(raw);
            // `xn--ßq` is refused and folds to `xn--ssq`, which may be somebody's domain: then the name stays opaque.
            if encode_domain(&folded).is_some() {
                return None;
            }
            Domain::Folded(folded)
        }
    };
    is_plausible_domain(domain.text()).then_some(domain)
}

/// Lower-case A-labels by UTS 46, non-transitional: `ß` is not `ss` in a domain. `None` where IDNA refuses.
///
/// UTS 46 also maps full-width letters and ideographic dots; unlike in a local part that is no guess, for DNS answers
/// one and the same domain to all these spellings.
fn encode_domain(raw: &str) -> Option<Cow<'_, str>> {
    if is_plain(raw) {
        return Some(canonical_fold(raw));
    }
    let encoded = idna::domain_to_ascii(raw).ok()?;
    // Idempotence is what the store relies on, so it is asked for and not assumed of a library.
    let again = idna::domain_to_ascii(&encoded).ok()?;
    (again == encoded).then_some(Cow::Owned(encoded))
}

/// Two labels or more, none empty or too long, of letters, digits, `-`, `_` and whatever IDNA could not encode.
fn is_plausible_domain(domain: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= DOMAIN_LABEL_BYTES_MAX
            && label.chars().all(|c| match c.is_ascii() {
                true => c.is_ascii_alphanumeric() || c == '-' || c == '_',
                false => !c.is_whitespace() && !c.is_control(),
            })
    };
    domain.len() <= DOMAIN_BYTES_MAX && domain.contains('.') && domain.split('.').all(is_label)
}

#[cfg(test)]
mod tests;

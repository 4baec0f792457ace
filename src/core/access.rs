//! Who may call what: roles, tokens by their hashes, names of client certificates. Entry point: [`Access`].
//!
//! Invariants:
//! - A token itself is nowhere here: it is hashed as soon as it is seen, and only hashes are compared. How long a comparison
//!   takes tells about the hash of what was sent, which says nothing about another hash.
//! - A role includes those below it, and nothing else gives a role.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;

use super::secret::Secret;

/// What a token begins with, so that tools which look for leaked secrets find it.
pub const TOKEN_PREFIX: &str = "oidm_";
/// Random bytes of a token. Nobody guesses 256 bits, so a fast hash is enough and no salt is needed.
pub const TOKEN_RANDOM_BYTES: usize = 32;
/// Bytes of a token that is looked at; ours have 48. A longer one is not hashed.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Bytes of the name of a token or client: it is a word in the audit log.
pub const CLIENT_NAME_BYTES_MAX: usize = 128;

/// What a caller may do. Each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Look-ups, searches, changes, status.
    Read,
    /// Also why an answer is what it is: the evidence behind it.
    Explain,
    /// Also what operators may start.
    Admin,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Explain, Self::Admin];

    /// Its name in the configuration and in errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Explain => "explain",
            Self::Admin => "admin",
        }
    }

    /// Reads [`Self::name`] back.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The SHA-256 of a token: what the configuration holds in its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of no token that is known.
    pub const NONE: Self = Self([0; 32]);

    /// Of a token; `None` for what is too long or too short to be one.
    pub fn of(token: &str) -> Option<Self> {
        if !(TOKEN_RANDOM_BYTES..=TOKEN_BYTES_MAX).contains(&token.len()) {
            return None;
        }
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        digest.as_ref().try_into().ok().map(Self)
    }

    /// Reads what `Display` writes: `sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
            let [high, low] = pair else { return None };
            let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A token of these random bytes.
pub fn token_of(random: &[u8; TOKEN_RANDOM_BYTES]) -> Secret {
    Secret::new(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
}

/// A name in a client certificate. Its kind is part of it: a CA that checks host names need not check common names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertificateName {
    /// The common name of the subject, byte for byte.
    Common(String),
    /// A DNS name among the subject's alternative names, in lower case. A wildcard is the name `*.…` and matches no other.
    Dns(String),
    /// A URI among the subject's alternative names, byte for byte.
    Uri(String),
}

impl CertificateName {
    /// Reads `CN=…`, `DNS=…` or `URI=…`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('=')?;
        if name.is_empty() {
            return None;
        }
        match kind {
            "CN" => Some(Self::Common(name.to_owned())),
            "DNS" => Some(Self::Dns(name.to_ascii_lowercase())),
            "URI" => Some(Self::Uri(name.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Common(name) => write!(f, "CN={name}"),
            Self::Dns(name) => write!(f, "DNS={name}"),
            Self::Uri(name) => write!(f, "URI={name}"),
        }
    }
}

/// What somebody is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A token.
    Token(TokenHash),
    /// A name in a certificate.
    Certificate(CertificateName),
}

/// Somebody who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name in the audit log.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What it is known by.
    pub credential: Credential,
}

/// Who may call. Nobody named: everybody may do everything, unless names are awaited ([`Access::awaiting`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    clients: Vec<Client>,
    tokens: HashMap<TokenHash, usize>,
    certificates: HashMap<CertificateName, usize>,
    is_awaiting: bool,
}

impl Access {
    /// Where nobody may call until somebody is named, because the names stand elsewhere and may all be taken back.
    pub fn awaiting() -> Self {
        Self { is_awaiting: true, ..Self::default() }
    }

    /// Whether somebody is named here by a credential that nobody is named by in the other.
    pub fn names_more_than(&self, other: &Self) -> bool {
        self.clients.iter().any(|client| match &client.credential {
            Credential::Token(hash) => !other.tokens.contains_key(hash),
            Credential::Certificate(name) => !other.certificates.contains_key(name),
        })
    }

    /// Gives a role to whoever has a token. `false`: the hash is known already, and nothing is added.
    pub fn add_token(&mut self, name: &str, role: Role, hash: TokenHash) -> bool {
        if self.tokens.contains_key(&hash) {
            return false;
        }
        self.tokens.insert(hash, self.clients.len());
        self.clients.push(Client { name: name.to_owned(), role, credential: Credential::Token(hash) });
        true
    }

    /// Gives a role to whoever has a certificate with this name. `false`: the name is known already, and nothing is added.
    pub fn add_certificate(&mut self, name: CertificateName, role: Role) -> bool {
        if self.certificates.contains_key(&name) {
            return false;
        }
        let client = Client { name: name.to_string(), role, credential: Credential::Certificate(name.clone()) };
        self.certificates.insert(name, self.clients.len());
        self.clients.push(client);
        true
    }

    /// Whether nobody was named nor is to be, so that everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.clients.is_empty() && !self.is_awaiting
    }

    /// Whether any token is known.
    pub fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether any certificate is known.
    pub fn has_certificates(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// All clients; the other methods answer with places in it.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Whose token has this hash.
    pub fn by_token(&self, hash: &TokenHash) -> Option<usize> {
        self.tokens.get(hash).copied()
    }

    /// Whose certificate has these names; of several the one that may do most.
    pub fn by_certificate(&self, names: &[CertificateName]) -> Option<usize> {
        let known = names.iter().filter_map(|name| self.certificates.get(name).copied());
        known.max_by_key(|place| self.clients.get(*place).map(|client| client.role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "oidm_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let token = token_of(&[0; TOKEN_RANDOM_BYTES]);
        assert_eq!(token.expose(), TOKEN);
        let hash = TokenHash::of(token.expose()).unwrap();
        assert_eq!(TokenHash::parse(&hash.to_string()), Some(hash));
        assert!(!format!("{hash:?}").contains("AAAA"));
        // The digest of the standard's example, so that other tools make the same line.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest::digest(&digest::SHA256, b"abc").as_ref()[..2], [0xba, 0x78]);
        assert_eq!(TokenHash::parse(&format!("sha256:{abc}")).unwrap().to_string(), format!("sha256:{abc}"));
        for wrong in
            [abc, "sha256:", "sha256:ba78", &format!("sha256:{}", abc.replace('b', "g")), &format!("sha256:{abc}0"), ""]
        {
            assert_eq!(TokenHash::parse(wrong), None, "{wrong}");
        }
        assert_eq!(TokenHash::of("short"), None);
        assert_eq!(TokenHash::of(&"x".repeat(TOKEN_BYTES_MAX + 1)), None);
    }

    #[test]
    fn whoever_has_a_token_or_certificate_is_known() {
        let mut access = Access::default();
        assert!(access.is_open());
        let hash = TokenHash::of(TOKEN).unwrap();
        assert!(access.add_token("indexer", Role::Read, hash));
        assert!(!access.add_token("again", Role::Admin, hash));
        let name = |text: &str| CertificateName::parse(text).unwrap();
        assert!(access.add_certificate(name("DNS=Search.example.com"), Role::Read));
        assert!(!access.add_certificate(name("DNS=search.example.com"), Role::Admin));
        assert!(access.add_certificate(name("URI=spiffe://a/ops"), Role::Admin));
        assert!(!access.is_open());
        let shown = |place: Option<usize>| {
            place.map_or_else(
                || "nobody".to_owned(),
                |place| {
                    let client = &access.clients()[place];
                    format!("{} {}", client.name, client.role)
                },
            )
        };
        let by_token = |token: &str| shown(TokenHash::of(token).and_then(|hash| access.by_token(&hash)));
        assert_eq!(by_token(TOKEN), "indexer read");
        assert_eq!(by_token(&TOKEN.replace("AAA", "AAB")), "nobody");
        assert_eq!(by_token(""), "nobody");
        assert_eq!(by_token(&hash.to_string()), "nobody");
        assert_eq!(shown(access.by_certificate(&[])), "nobody");
        assert_eq!(shown(access.by_certificate(&[name("CN=search.example.com")])), "nobody");
        assert_eq!(shown(access.by_certificate(&[name("DNS=search.example.com")])), "DNS=search.example.com read");
        let both = [name("URI=spiffe://a/ops"), name("DNS=search.example.com")];
        assert_eq!(shown(access.by_certificate(&both)), "URI=spiffe://a/ops admin");
        assert_eq!(access.clients()[0].credential, Credential::Token(hash));
        assert_eq!(access.clients()[1].credential, Credential::Certificate(name("DNS=search.example.com")));
    }

    #[test]
    fn where_names_are_awaited_nobody_is_let_in_without_one() {
        let mut access = Access::awaiting();
        assert!(!access.is_open() && access.clients().is_empty());
        access.add_token("indexer", Role::Read, TokenHash::of(TOKEN).unwrap());
        assert!(!access.is_open());
    }

    #[test]
    fn roles_include_each_other_in_order() {
        assert!(Role::Admin > Role::Explain && Role::Explain > Role::Read);
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Some(role));
        }
        assert_eq!(Role::parse("Read"), None);
    }

    #[test]
    fn names_of_certificates_have_a_kind() {
        for text in ["CN=a b", "DNS=a.example", "URI=spiffe://a/b=c"] {
            assert_eq!(CertificateName::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["a.example", "dns=a", "CN=", "", "=", "OU=a"] {
            assert_eq!(CertificateName::parse(wrong), None, "{wrong}");
        }
    }
}

//! A private key that signs for a service app: from its text to signatures.
//!
//! Entry points: [`PrivateKey::parse`], [`PrivateKey::sign`].
//!
//! | text | key |
//! |---|---|
//! | PEM `PRIVATE KEY` (PKCS#8) | RSA, EC |
//! | PEM `RSA PRIVATE KEY` (PKCS#1) | RSA |
//! | PEM `EC PRIVATE KEY` (SEC1) | EC |
//! | JSON (a JWK, or a set of one) | RSA, EC |
//!
//! Invariants:
//! - A [`PrivateKey`] signs: it was checked whole, and its algorithm is one that Okta takes.
//! - No error and no `Debug` shows anything of a key, and the bytes that lead to it are zeroed.
//! - Randomness is handed in.

pub(in crate::core) mod der;
mod es512;
mod jwk;
mod pem;

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SecureRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaEncoding, RsaKeyPair};
use zeroize::Zeroizing;

use self::es512::Es512;
use super::secret::Secret;

/// How a signature is made: every way that Okta takes (facts 10.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SigningAlgorithm {
    /// RSA PKCS#1 with SHA-256.
    Rs256,
    /// RSA PKCS#1 with SHA-384.
    Rs384,
    /// RSA PKCS#1 with SHA-512.
    Rs512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
}

impl SigningAlgorithm {
    /// Every one, with its name in a JWT.
    pub const ALL: [(&str, SigningAlgorithm); 6] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("ES512", Self::Es512),
    ];

    /// The name in a JWT.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, algorithm)| algorithm)
    }

    fn rsa_encoding(self) -> Option<&'static dyn RsaEncoding> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 => None,
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no key to sign with. Each message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// Neither PEM nor JSON.
    #[error(
        "it is no private key: a PEM text begins with -----BEGIN PRIVATE KEY-----, a JWK is a JSON object with \"kty\""
    )]
    NotAKey,
    /// PEM without a private key in it.
    #[error("it holds {label} and no private key: the public part stays with Okta, the private one is needed here")]
    NotPrivate {
        /// What the PEM block calls itself.
        label: &'static str,
    },
    /// The key is encrypted with a passphrase.
    #[error("the key is encrypted with a passphrase: write it without, openssl pkey -in key.pem -out plain.pem")]
    Encrypted,
    /// PEM or base64 that is cut off or damaged.
    #[error("the key is damaged or cut off: {what}")]
    Damaged {
        /// Which part.
        what: &'static str,
    },
    /// A kind of key that cannot be used.
    #[error("{kind} cannot be used: make an RSA key of 2048 to 4096 bits, or an EC key on P-256, P-384 or P-521")]
    Unsupported {
        /// The kind of key.
        kind: Box<str>,
    },
    /// An EC key without its public part.
    #[error("the key does not hold its public part: add it with openssl pkey -in key.pem -out whole.pem")]
    NoPublicPart,
    /// A JWK without a member that is needed.
    #[error("the JWK has no member \"{member}\"{}", member_advice(member))]
    MissingMember {
        /// Its name.
        member: &'static str,
    },
    /// Several keys in a set.
    #[error("the JWK set holds {count} keys: give the one to sign with")]
    SeveralKeys {
        /// How many.
        count: usize,
    },
    /// The cryptographic library refused the key.
    #[error("the key was refused ({reason}): RSA keys must have 2048 to 4096 bits, and all parts must belong together")]
    Refused {
        /// Its word for it.
        reason: Box<str>,
    },
    /// An algorithm that does not fit the key.
    #[error("the key cannot sign {wanted}: it fits {fits}")]
    Algorithm {
        /// The one asked for.
        wanted: Box<str>,
        /// Those that it can.
        fits: &'static str,
    },
}

fn member_advice(member: &str) -> &'static str {
    match member {
        "d" => ": it is the public half, the private one is needed here",
        "p" | "q" | "dp" | "dq" | "qi" => ", which an RSA key needs here: give the key as PEM",
        _ => "",
    }
}

/// The key could not sign: the system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key could not sign: the system gives no random numbers")]
pub struct SignError;

/// Longest name of an algorithm that a message shows, in bytes: `RSA-OAEP-256`.
const ALGORITHM_BYTES_MAX: usize = 12;

enum KeyPair {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>, Curve),
    P521(Box<Es512>),
}

/// The curves that can be signed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => es512::FIELD_BYTES,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// How `ring` signs on it; `None` where it does not.
    fn signing(self) -> Option<&'static EcdsaSigningAlgorithm> {
        match self {
            Self::P256 => Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::P384 => Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::P521 => None,
        }
    }
}

/// The parts of a key, out of whichever text.
enum Parts {
    Rsa(RsaParts),
    /// `public`: an uncompressed point, where the text holds it.
    Ec {
        curve: Curve,
        private: Zeroizing<Vec<u8>>,
        public: Option<Vec<u8>>,
    },
}

enum RsaParts {
    /// PKCS#1.
    Der(Zeroizing<Vec<u8>>),
    /// n, e, d, p, q, dp, dq, qi.
    Numbers(Box<[Zeroizing<Vec<u8>>; 8]>),
}

/// A key and how it signs. Clones share it. Two are equal when their public parts and algorithms are.
#[derive(Clone)]
pub struct PrivateKey {
    pair: Arc<KeyPair>,
    algorithm: SigningAlgorithm,
    key_id: Option<Box<str>>,
}

impl PrivateKey {
    /// Reads and checks a key.
    ///
    /// # Errors
    /// What is wrong with it; nothing of the key is in them.
    pub fn parse(text: &Secret, random: &dyn SecureRandom) -> Result<Self, PrivateKeyError> {
        let text = text.expose().trim();
        let (parts, key_id, algorithm) = if text.starts_with('{') {
            let read = jwk::read(text)?;
            (read.parts, read.key_id, read.algorithm)
        } else {
            (pem::read(text)?, None, None)
        };
        let refused = |error: ring::error::KeyRejected| PrivateKeyError::Refused { reason: error.to_string().into() };
        let pair = match parts {
            Parts::Rsa(RsaParts::Der(der)) => KeyPair::Rsa(Box::new(RsaKeyPair::from_der(&der).map_err(refused)?)),
            Parts::Rsa(RsaParts::Numbers(numbers)) => {
                let [n, e, d, p, q, dp, dq, qi] = &*numbers;
                let components = ring::rsa::KeyPairComponents {
                    public_key: PublicKeyComponents { n: n.as_slice(), e: e.as_slice() },
                    d: d.as_slice(),
                    p: p.as_slice(),
                    q: q.as_slice(),
                    dP: dp.as_slice(),
                    dQ: dq.as_slice(),
                    qInv: qi.as_slice(),
                };
                KeyPair::Rsa(Box::new(RsaKeyPair::from_components(&components).map_err(refused)?))
            }
            Parts::Ec { curve, private, public } => {
                let private = padded(&private, curve.field_bytes())?;
                match curve.signing() {
                    Some(signing) => {
                        let public = public.ok_or(PrivateKeyError::NoPublicPart)?;
                        let pair = EcdsaKeyPair::from_private_key_and_public_key(signing, &private, &public, random);
                        KeyPair::Ec(Box::new(pair.map_err(refused)?), curve)
                    }
                    None => KeyPair::P521(Box::new(Es512::new(&private, public.as_deref())?)),
                }
            }
        };
        let own = match &pair {
            KeyPair::Rsa(_) => SigningAlgorithm::Rs256,
            KeyPair::Ec(_, Curve::P256) => SigningAlgorithm::Es256,
            KeyPair::Ec(..) => SigningAlgorithm::Es384,
            KeyPair::P521(_) => SigningAlgorithm::Es512,
        };
        let key = Self { pair: Arc::new(pair), algorithm: own, key_id };
        // An RSA key whose parts do not fit each other is noticed only by what it signs.
        if key.sign(b"", random).is_err() {
            return Err(PrivateKeyError::Refused { reason: "InconsistentComponents".into() });
        }
        match algorithm {
            Some(wanted) => key.with_algorithm_named(&wanted),
            None => Ok(key),
        }
    }

    /// A new key on P-256, which nobody else has.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, SignError> {
        let signing = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(signing, random).map_err(|_| SignError)?;
        let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref(), random).map_err(|_| SignError)?;
        let pair = Arc::new(KeyPair::Ec(Box::new(pair), Curve::P256));
        Ok(Self { pair, algorithm: SigningAlgorithm::Es256, key_id: None })
    }

    /// The same key, signing with another algorithm. Only RSA keys have a choice.
    ///
    /// # Errors
    /// [`PrivateKeyError::Algorithm`].
    pub fn with_algorithm(self, wanted: SigningAlgorithm) -> Result<Self, PrivateKeyError> {
        self.with_algorithm_named(wanted.name())
    }

    fn with_algorithm_named(mut self, wanted: &str) -> Result<Self, PrivateKeyError> {
        let (known, is_rsa) = (SigningAlgorithm::of_name(wanted), matches!(*self.pair, KeyPair::Rsa(_)));
        match known {
            Some(algorithm) if algorithm == self.algorithm => Ok(self),
            Some(algorithm) if is_rsa && algorithm.rsa_encoding().is_some() => {
                self.algorithm = algorithm;
                Ok(self)
            }
            _ => Err(PrivateKeyError::Algorithm {
                wanted: shown_algorithm(wanted).into(),
                fits: if is_rsa { "RS256, RS384 and RS512" } else { self.algorithm.name() },
            }),
        }
    }

    /// How it signs.
    pub const fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// `kid` of the JWK that it was read from.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The signature of a message, in the form of a JWT.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign(&self, message: &[u8], random: &dyn SecureRandom) -> Result<Vec<u8>, SignError> {
        match (&*self.pair, self.algorithm.rsa_encoding()) {
            (KeyPair::Rsa(pair), Some(encoding)) => {
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(encoding, random, message, &mut signed).map_err(|_| SignError)?;
                Ok(signed)
            }
            (KeyPair::Rsa(_), None) => Err(SignError),
            (KeyPair::Ec(pair, _), _) => Ok(pair.sign(random, message).map_err(|_| SignError)?.as_ref().to_vec()),
            (KeyPair::P521(key), _) => key.sign(message).ok_or(SignError),
        }
    }

    /// The public half as members of a JWK, in the order that RFC 7638 asks for.
    pub fn public_members(&self) -> Vec<(&'static str, String)> {
        match &*self.pair {
            KeyPair::Rsa(pair) => {
                let public: PublicKeyComponents<Vec<u8>> = pair.public().into();
                vec![
                    ("e", URL_SAFE_NO_PAD.encode(public.e)),
                    ("kty", "RSA".to_owned()),
                    ("n", URL_SAFE_NO_PAD.encode(public.n)),
                ]
            }
            KeyPair::Ec(pair, curve) => point_members(pair.public_key().as_ref(), *curve),
            KeyPair::P521(key) => point_members(&key.public_point(), Curve::P521),
        }
    }
}

impl PartialEq for PrivateKey {
    fn eq(&self, other: &Self) -> bool {
        let same_key = Arc::ptr_eq(&self.pair, &other.pair) || self.public_members() == other.public_members();
        same_key && self.algorithm == other.algorithm && self.key_id == other.key_id
    }
}

impl Eq for PrivateKey {}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// An algorithm's name for a message. It comes from the text of the key, where anything may stand.
fn shown_algorithm(name: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'_');
    if (1..=ALGORITHM_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_name) { name } else { "that algorithm" }
}

/// The members of a JWK of an uncompressed point: 0x04, x, y.
fn point_members(point: &[u8], curve: Curve) -> Vec<(&'static str, String)> {
    let numbers = point.get(1..).unwrap_or_default();
    let (x, y) = numbers.split_at(curve.field_bytes().min(numbers.len()));
    vec![
        ("crv", curve.name().to_owned()),
        ("kty", "EC".to_owned()),
        ("x", URL_SAFE_NO_PAD.encode(x)),
        ("y", URL_SAFE_NO_PAD.encode(y)),
    ]
}

/// Left-padded with zeros: some writers leave them away.
fn padded(private: &[u8], bytes: usize) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
    let zeros = bytes.checked_sub(private.len());
    let zeros = zeros.ok_or(PrivateKeyError::Damaged { what: "the private number is longer than its curve allows" })?;
    let mut whole = Zeroizing::new(Vec::with_capacity(bytes));
    whole.resize(zeros, 0);
    whole.extend_from_slice(private);
    Ok(whole)
}

#[cfg(test)]
mod tests;

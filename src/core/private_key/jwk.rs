//! Private keys as JSON Web Keys. Entry point: [`read`].
//!
//! Invariant: secret members are zeroed; no error quotes a member.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::{Curve, Parts, PrivateKeyError, RsaParts};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a key's id.
const KEY_ID_BYTES_MAX: usize = 256;

/// What a JWK says.
pub(super) struct Read {
    pub(super) parts: Parts,
    pub(super) key_id: Option<Box<str>>,
    /// `alg`, whatever it is.
    pub(super) algorithm: Option<Box<str>>,
}

/// A member in base64url.
struct Member(Zeroizing<String>);

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// Members that are not named here are of no matter (`use`, `x5c` and others).
#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<Member>,
    e: Option<Member>,
    d: Option<Member>,
    p: Option<Member>,
    q: Option<Member>,
    dp: Option<Member>,
    dq: Option<Member>,
    qi: Option<Member>,
    x: Option<Member>,
    y: Option<Member>,
    keys: Option<Vec<Jwk>>,
}

/// Reads a JWK, or a set that holds exactly one.
pub(super) fn read(text: &str) -> Result<Read, PrivateKeyError> {
    // The message of the JSON library may quote the text.
    let jwk: Jwk = serde_json::from_str(text).map_err(|_| PrivateKeyError::NotAKey)?;
    let jwk = match jwk.keys {
        None => jwk,
        Some(mut keys) if keys.len() == 1 => keys.remove(0),
        Some(keys) => return Err(PrivateKeyError::SeveralKeys { count: keys.len() }),
    };
    let kind = jwk.kty.as_deref().ok_or(PrivateKeyError::NotAKey)?;
    let parts = match kind {
        "RSA" => {
            let [n, e, d] = [("n", &jwk.n), ("e", &jwk.e), ("d", &jwk.d)];
            let [p, q] = [("p", &jwk.p), ("q", &jwk.q)];
            let [dp, dq, qi] = [("dp", &jwk.dp), ("dq", &jwk.dq), ("qi", &jwk.qi)];
            let number = |(name, member): (&'static str, &Option<Member>)| bytes(name, member).map(without_zeros);
            let numbers =
                [number(n)?, number(e)?, number(d)?, number(p)?, number(q)?, number(dp)?, number(dq)?, number(qi)?];
            Parts::Rsa(RsaParts::Numbers(Box::new(numbers)))
        }
        "EC" => {
            let curve = match jwk.crv.as_deref() {
                Some("P-256") => Curve::P256,
                Some("P-384") => Curve::P384,
                Some("P-521") => Curve::P521,
                Some(_) => return Err(PrivateKeyError::Unsupported { kind: "an EC key on this curve".into() }),
                None => return Err(PrivateKeyError::MissingMember { member: "crv" }),
            };
            let private = bytes("d", &jwk.d)?;
            let mut public = vec![4];
            for (name, member) in [("x", &jwk.x), ("y", &jwk.y)] {
                public.extend_from_slice(&super::padded(&bytes(name, member)?, curve.field_bytes())?);
            }
            Parts::Ec { curve, private, public: Some(public) }
        }
        "OKP" => return Err(PrivateKeyError::Unsupported { kind: "an Ed25519 key".into() }),
        "oct" => return Err(PrivateKeyError::Unsupported { kind: "a shared secret".into() }),
        _ => return Err(PrivateKeyError::Unsupported { kind: "a key of this kind".into() }),
    };
    // As an id of the configuration has to be: it stands in messages. Okta's have 43 characters.
    let is_id =
        |id: &String| (1..=KEY_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let algorithm = jwk.alg.filter(|algorithm| !algorithm.is_empty());
    Ok(Read {
        parts,
        key_id: jwk.kid.filter(is_id).map(String::into_boxed_str),
        algorithm: algorithm.map(String::into_boxed_str),
    })
}

fn bytes(name: &'static str, member: &Option<Member>) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
    let text = &member.as_ref().ok_or(PrivateKeyError::MissingMember { member: name })?.0;
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    LENIENT
        .decode_vec(text.as_bytes(), &mut decoded)
        .map_err(|_| PrivateKeyError::Damaged { what: "a member of the JWK is not base64url" })?;
    Ok(decoded)
}

/// Numbers with zeros in front are refused later on.
fn without_zeros(number: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    if zeros == 0 { number } else { Zeroizing::new(number[zeros..].to_vec()) }
}

//! Signed tokens, taken apart and verified. Entry points: [`Jwt::parse`], [`Jwt::is_signed_by`].
//!
//! Invariant: a signature counts only under a public key that was handed in.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::Verifier as _;
use ring::rsa::PublicKeyComponents;
use ring::signature;
use serde_json::Value;

/// A signed token, taken apart.
pub(crate) struct Jwt<'a> {
    signed: &'a str,
    pub(crate) header: Value,
    pub(crate) claims: Value,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let read = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self {
            signed,
            header: read(header)?,
            claims: read(claims)?,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Whether the key with these members of a JWK has signed it.
    pub(crate) fn is_signed_by(&self, members: &BTreeMap<String, String>) -> bool {
        let member = |name: &str| URL_SAFE_NO_PAD.decode(members.get(name)?).ok();
        let message = self.signed.as_bytes();
        let verified = match self.header["alg"].as_str() {
            Some(rsa @ ("RS256" | "RS384" | "RS512")) => {
                let parameters = match rsa {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    _ => &signature::RSA_PKCS1_2048_8192_SHA512,
                };
                let (Some(n), Some(e)) = (member("n"), member("e")) else { return false };
                PublicKeyComponents { n, e }.verify(parameters, message, &self.signature)
            }
            Some(ec @ ("ES256" | "ES384")) => {
                let algorithm: &'static dyn signature::VerificationAlgorithm = match ec {
                    "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
                    _ => &signature::ECDSA_P384_SHA384_FIXED,
                };
                let (Some(x), Some(y)) = (member("x"), member("y")) else { return false };
                let point = [vec![4], x, y].concat();
                signature::UnparsedPublicKey::new(algorithm, point).verify(message, &self.signature)
            }
            Some("ES512") => {
                let (Some(x), Some(y)) = (member("x"), member("y")) else { return false };
                let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&[vec![4], x, y].concat());
                let signed = p521::ecdsa::Signature::from_slice(&self.signature);
                return key.and_then(|key| key.verify(message, &signed?)).is_ok();
            }
            _ => return false,
        };
        verified.is_ok()
    }
}

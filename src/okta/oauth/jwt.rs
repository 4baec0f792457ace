//! Assertions and proofs: JSON that is signed. Entry points: [`assertion`], [`Prover`].
//!
//! Invariants: each has an id that is never used again; the proof key is made anew for the process and never leaves it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value, json};
use url::Url;

use super::ServiceApp;
use crate::core::ids::Timestamp;
use crate::core::private_key::{PrivateKey, SignError};
use crate::core::secret::Secret;

/// How long an assertion is good for, in seconds. Okta takes up to an hour, but then one second of skew is too much
/// (facts 10.2); five minutes leave room on both sides.
const ASSERTION_SECONDS: i64 = 300;

/// Bytes of an id: enough that no two are ever the same.
const ID_BYTES: usize = 16;

/// Longest nonce that is believed, in bytes; Okta's have 22.
const NONCE_BYTES_MAX: usize = 256;

/// The proof of who asks for a token: `private_key_jwt`. `now` is by Okta's clock.
pub(super) fn assertion(
    app: &ServiceApp,
    audience: &Url,
    now: Timestamp,
    random: &SystemRandom,
) -> Result<Secret, SignError> {
    let header = json!({ "alg": app.private_key.algorithm().name(), "kid": app.key_id, "typ": "JWT" });
    let issued_at = now.as_millis().div_euclid(1_000);
    let claims = json!({
        "iss": app.client_id,
        "sub": app.client_id,
        "aud": audience.as_str(),
        "iat": issued_at,
        "exp": issued_at.saturating_add(ASSERTION_SECONDS),
        "jti": new_id(random)?,
    });
    signed(&header, &claims, &app.private_key, random)
}

fn signed(header: &Value, claims: &Value, key: &PrivateKey, random: &SystemRandom) -> Result<Secret, SignError> {
    let mut jwt = URL_SAFE_NO_PAD.encode(header.to_string());
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut jwt);
    let signature = key.sign(jwt.as_bytes(), random)?;
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    Ok(Secret::new(jwt))
}

fn new_id(random: &SystemRandom) -> Result<String, SignError> {
    let mut id = [0; ID_BYTES];
    random.fill(&mut id).map_err(|_| SignError)?;
    Ok(URL_SAFE_NO_PAD.encode(id))
}

/// What a proof is for.
pub(super) struct ProofOf<'a> {
    pub(super) method: &'static str,
    pub(super) url: &'a Url,
    /// The token that goes along; none at the token endpoint.
    pub(super) token: Option<&'a Secret>,
}

/// Who takes proofs. Each gives nonces of its own, and knows no other's (RFC 9449, 8 and 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    /// The token endpoint.
    Tokens,
    /// The management API.
    Reads,
}

/// Makes proofs of possession (DPoP), with a key of its own.
pub(super) struct Prover {
    key: PrivateKey,
    /// The newest that the token endpoint and the management API gave; Okta's change daily (facts 10.3).
    nonces: [Mutex<Option<Box<str>>>; 2],
}

impl Prover {
    pub(super) fn new(random: &SystemRandom) -> Result<Self, SignError> {
        Ok(Self { key: PrivateKey::generate(random)?, nonces: Default::default() })
    }

    /// Uses a nonce from now on; nonsense is not taken.
    pub(super) fn take_nonce(&self, of: Taker, nonce: &str) {
        if !nonce.is_empty() && nonce.len() <= NONCE_BYTES_MAX && nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            *self.nonce(of) = Some(nonce.into());
        }
    }

    fn nonce(&self, of: Taker) -> MutexGuard<'_, Option<Box<str>>> {
        let [tokens, reads] = &self.nonces;
        let nonce = match of {
            Taker::Tokens => tokens,
            Taker::Reads => reads,
        };
        nonce.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A proof for one request. `now` is by Okta's clock.
    pub(super) fn prove(&self, of: &ProofOf<'_>, now: Timestamp, random: &SystemRandom) -> Result<Secret, SignError> {
        let members = self.key.public_members().into_iter();
        let jwk: Map<String, Value> = members.map(|(name, text)| (name.to_owned(), text.into())).collect();
        let header = json!({ "typ": "dpop+jwt", "alg": self.key.algorithm().name(), "jwk": jwk });
        let mut target = of.url.clone();
        target.set_query(None);
        target.set_fragment(None);
        let mut claims = json!({
            "htm": of.method,
            "htu": target.as_str(),
            "iat": now.as_millis().div_euclid(1_000),
            "jti": new_id(random)?,
        });
        if let Some(token) = of.token {
            claims["ath"] = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.expose().as_bytes())).into();
        }
        let taker = if of.token.is_some() { Taker::Reads } else { Taker::Tokens };
        if let Some(nonce) = self.nonce(taker).as_deref() {
            claims["nonce"] = nonce.into();
        }
        signed(&header, &claims, &self.key, random)
    }
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prover")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(jwt: &Secret, index: usize) -> Value {
        let part = jwt.expose().split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn an_assertion_says_who_asks_whom_and_when() {
        let random = SystemRandom::new();
        let text = include_str!("../../../tests/keys/p256.jwk.json").to_owned();
        let private_key = PrivateKey::parse(&Secret::new(text), &random).unwrap();
        let app =
            ServiceApp { client_id: "0oa1".into(), key_id: "kid1".into(), private_key, scopes: Default::default() };
        let url = Url::parse("https://acme.okta.com/oauth2/v1/token").unwrap();
        let made = |millis| assertion(&app, &url, Timestamp::from_millis(millis), &random).unwrap();
        let first = made(1_785_661_222_999);
        assert_eq!(part(&first, 0), json!({ "alg": "ES256", "kid": "kid1", "typ": "JWT" }));
        let mut claims = part(&first, 1);
        let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert_eq!(
            claims,
            json!({
                "iss": "0oa1",
                "sub": "0oa1",
                "aud": "https://acme.okta.com/oauth2/v1/token",
                "iat": 1_785_661_222,
                "exp": 1_785_661_522,
            })
        );
        assert_ne!(part(&made(1_785_661_222_999), 1)["jti"], id);
    }

    #[test]
    fn a_proof_is_for_one_request() {
        let random = SystemRandom::new();
        let prover = Prover::new(&random).unwrap();
        let url = Url::parse("https://acme.okta.com/api/v1/users?after=x#y").unwrap();
        let token = Secret::new("abc".to_owned());
        let now = Timestamp::from_millis(1_785_661_222_000);
        let proof = prover.prove(&ProofOf { method: "GET", url: &url, token: Some(&token) }, now, &random).unwrap();
        let header = part(&proof, 0);
        assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("ES256")));
        let members: Vec<&String> = header["jwk"].as_object().unwrap().keys().collect();
        assert_eq!(members, ["crv", "kty", "x", "y"], "nothing private");
        let claims = part(&proof, 1);
        assert_eq!(claims["htu"], "https://acme.okta.com/api/v1/users");
        // base64url of SHA-256 of "abc".
        assert_eq!(claims["ath"], "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
        assert_eq!(claims.get("nonce"), None);
        for nonce in ["n1", "", "a b", &"x".repeat(NONCE_BYTES_MAX + 1)] {
            prover.take_nonce(Taker::Tokens, nonce);
        }
        prover.take_nonce(Taker::Reads, "n2");
        let again = prover.prove(&ProofOf { method: "POST", url: &url, token: None }, now, &random).unwrap();
        let again = part(&again, 1);
        let read = prover.prove(&ProofOf { method: "GET", url: &url, token: Some(&token) }, now, &random).unwrap();
        assert_eq!(part(&read, 1)["nonce"], "n2");
        assert_eq!((&again["nonce"], again.get("ath")), (&json!("n1"), None));
        assert_ne!(again["jti"], claims["jti"]);
    }
}

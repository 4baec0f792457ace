//! What the token endpoint says, and what it means. Entry points: [`Grant::read`], [`refusal`], [`TokenRequestError`].
//!
//! Invariants:
//! - The text of an answer is a hint: what is done depends on status and code, but for the finer reasons of
//!   `invalid_client`, which Okta tells by text only.
//! - What is quoted of an answer is short, on one line, and holds no token.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;

use crate::core::ids::Timestamp;
use crate::core::private_key::SigningAlgorithm;
use crate::core::secret::Secret;

use super::super::authorize::HEADER_VALUE_BYTES_MAX;
use super::super::error::NetworkCause;
use super::super::headers::AnswerHeaders;
use super::super::transport::SendError;
use super::super::wire::FailureBody;
use super::ServiceApp;

/// How long a token lives where the answer does not say, in seconds: Okta's fixed time.
const EXPIRES_IN_SECONDS: u64 = 3_600;
/// Shortest and longest life of a token that is believed, in seconds. One of none at all would be asked for with every read.
const EXPIRES_IN_SECONDS_MIN: u64 = 1;
const EXPIRES_IN_SECONDS_MAX: u64 = 86_400;

/// What Okta said, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said(Option<Box<str>>);

impl Said {
    fn of(body: &FailureBody) -> Self {
        let words = |text: &str| {
            let masked = text.split(' ').map(|word| if word.contains("eyJ") { "***" } else { word });
            masked.collect::<Vec<_>>().join(" ").into_boxed_str()
        };
        let text = match (body.code.as_deref(), body.summary.as_deref()) {
            (Some(code), Some(summary)) => Some(words(&format!("{code}: {summary}"))),
            (Some(text), None) | (None, Some(text)) => Some(words(text)),
            (None, None) => None,
        };
        Self(text)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |text| write!(f, " (Okta says \"{text}\")"))
    }
}

/// Why there is no token. Each message says what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRequestError {
    /// No answer, or not all of it.
    #[error("no token: {0}")]
    Send(SendError),
    /// Too many token requests, ours or others'.
    #[error("no token: Okta refuses further token requests until {}; it is asked again by itself", until.to_iso())]
    Throttled {
        /// When to come back, by the local clock.
        until: Timestamp,
        /// How long that is from now, in milliseconds.
        wait_millis: u64,
    },
    /// Okta or a gateway is not well.
    #[error("no token: the token endpoint answers with status {status}{said}; it is asked again by itself")]
    Busy {
        /// HTTP status.
        status: u16,
        /// What it said.
        said: Said,
    },
    /// An answer that is none of Okta's.
    #[error(
        "no token: status {status} and {what} instead of Okta's answer: check that the address is an Okta org, and proxies on the way"
    )]
    NotOkta {
        /// HTTP status.
        status: u16,
        /// What came.
        what: &'static str,
    },
    /// There is no such app.
    #[error(
        "no token: Okta does not know client id {client_id}{said}: check client_id, that it is an API Services app of this org, and that the app is active"
    )]
    UnknownClient {
        /// The client id.
        client_id: Box<str>,
        /// What Okta said.
        said: Said,
    },
    /// There is such an app, and it is switched off.
    #[error(
        "no token: the app with client id {client_id} is not active{said}: activate it in Okta, under Applications"
    )]
    InactiveClient {
        /// The client id.
        client_id: Box<str>,
        /// What Okta said.
        said: Said,
    },
    /// The app, its key or its signature; Okta does not say which.
    #[error(
        "no token: Okta refuses client id {client_id} with key id {key_id}{said}: check client_id, that the app is active and knows a key of this id, and that private_key is that key"
    )]
    Client {
        /// The client id.
        client_id: Box<str>,
        /// The key's id.
        key_id: Box<str>,
        /// What Okta said.
        said: Said,
    },
    /// The key is not registered with the app.
    #[error(
        "no token: the app has no active key with id {key_id}{said}: check key_id against the app's public keys, and that the key was not revoked"
    )]
    UnknownKey {
        /// The key's id.
        key_id: Box<str>,
        /// What Okta said.
        said: Said,
    },
    /// The signature does not fit the registered key.
    #[error(
        "no token: the signature does not fit the public key {key_id}{said}: private_key is another key, or key_id names another one (signed with {algorithm})"
    )]
    Signature {
        /// The key's id.
        key_id: Box<str>,
        /// How it was signed.
        algorithm: SigningAlgorithm,
        /// What Okta said.
        said: Said,
    },
    /// The times in the assertion are refused although they were corrected by Okta's clock.
    #[error(
        "no token: Okta refuses the times of the request{said}: {}; set the clock of this machine, by NTP for example",
        ahead(*ahead_millis)
    )]
    Clock {
        /// By how much Okta's clock is ahead of ours, where it is known.
        ahead_millis: Option<i64>,
        /// What Okta said.
        said: Said,
    },
    /// Okta takes requests under another address.
    #[error(
        "no token: Okta takes this address for another one{said}: use the org's own https://….okta.com address or its custom domain as domain"
    )]
    Audience {
        /// What Okta said.
        said: Said,
    },
    /// The app may not do this at all.
    #[error(
        "no token: the app may not get tokens in this way{said}: it must be an API Services app with client authentication \"Public key / Private key\""
    )]
    NotAllowed {
        /// What Okta said.
        said: Said,
    },
    /// Proofs of possession are refused.
    #[error(
        "no token: Okta refuses the proof of possession{said}: check the clock, or switch \"Require Demonstrating Proof of Possession (DPoP)\" off for the app"
    )]
    Proof {
        /// What Okta said.
        said: Said,
    },
    /// A scope of the request is not granted.
    #[error("no token: the scopes {} are not granted{said}: grant them to the app under \"Okta API Scopes\"", scopes.join(" "))]
    Scope {
        /// Those that were asked for.
        scopes: Vec<String>,
        /// What Okta said.
        said: Said,
    },
    /// Another refusal.
    #[error("no token: status {status}{said}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What Okta said.
        said: Said,
    },
    /// A success without a token that could be used.
    #[error("no token: Okta's answer {what}")]
    Unusable {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The request could not be signed.
    #[error("no token: {0}")]
    Sign(#[from] crate::core::private_key::SignError),
}

fn ahead(millis: Option<i64>) -> String {
    match millis {
        Some(millis) => format!("its clock is {} s {} ours", millis.unsigned_abs() / 1_000, side(millis)),
        None => "its clock is not known".to_owned(),
    }
}

const fn side(millis: i64) -> &'static str {
    if millis < 0 { "behind" } else { "ahead of" }
}

/// What a failed token request means for the request that needs the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Outlook {
    /// It passes.
    Passing,
    /// It passes at a known time.
    Until { until: Timestamp, wait_millis: u64 },
    /// Nothing can be reached. `passing`: it may be the moment.
    Unreachable { cause: NetworkCause, passing: bool },
    /// The answer makes no sense.
    Nonsense,
    /// The credential is of no use until somebody changes something.
    Dead,
}

impl TokenRequestError {
    pub(in super::super) fn outlook(&self) -> Outlook {
        use crate::core::backoff::Trouble;
        match self {
            Self::Send(source) => match source.network_cause() {
                Some(cause) => Outlook::Unreachable { cause, passing: source.trouble() != Trouble::Final },
                None => Outlook::Nonsense,
            },
            Self::Throttled { until, wait_millis } => Outlook::Until { until: *until, wait_millis: *wait_millis },
            Self::Busy { .. } => Outlook::Passing,
            Self::NotOkta { .. } | Self::Unusable { .. } => Outlook::Nonsense,
            Self::UnknownClient { .. }
            | Self::InactiveClient { .. }
            | Self::Client { .. }
            | Self::UnknownKey { .. }
            | Self::Signature { .. }
            | Self::Clock { .. }
            | Self::Audience { .. }
            | Self::NotAllowed { .. }
            | Self::Proof { .. }
            | Self::Scope { .. }
            | Self::Refused { .. }
            | Self::Sign(_) => Outlook::Dead,
        }
    }
}

/// A success. Members that are not named here are of no matter.
#[derive(Deserialize)]
struct Body {
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
    access_token: Option<AccessToken>,
    scope: Option<String>,
}

struct AccessToken(Secret);

impl<'de> Deserialize<'de> for AccessToken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// A token as it was given.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) token: Secret,
    pub(super) is_dpop: bool,
    pub(super) expires_in_seconds: u64,
    pub(super) scopes: BTreeSet<String>,
}

impl Grant {
    /// Reads a success. `asked` is granted where the answer does not say otherwise (RFC 6749, 5.1).
    pub(super) fn read(headers: &AnswerHeaders, body: &[u8], asked: &[String]) -> Result<Self, TokenRequestError> {
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            return Err(not_okta(200, &FailureBody::read(headers.first("content-type"), body)));
        };
        let unusable = |what| TokenRequestError::Unusable { what };
        let AccessToken(token) = body.access_token.ok_or(unusable("holds no token"))?;
        let raw = token.expose();
        if raw.is_empty() || raw.len() > HEADER_VALUE_BYTES_MAX || !raw.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("holds a token that cannot be sent"));
        }
        let is_dpop = match body.token_type.as_deref() {
            Some(kind) if kind.eq_ignore_ascii_case("bearer") => false,
            Some(kind) if kind.eq_ignore_ascii_case("dpop") => true,
            _ => return Err(unusable("holds a token of an unknown type")),
        };
        let seconds = body.expires_in.and_then(|value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        });
        let scopes = match &body.scope {
            // Nothing else: what was not asked for is a stranger's text, and would stand in messages.
            Some(scopes) => {
                let given: BTreeSet<&str> = scopes.split_ascii_whitespace().collect();
                asked.iter().filter(|scope| given.contains(scope.as_str())).cloned().collect()
            }
            None => asked.iter().cloned().collect(),
        };
        let expires_in_seconds =
            seconds.unwrap_or(EXPIRES_IN_SECONDS).clamp(EXPIRES_IN_SECONDS_MIN, EXPIRES_IN_SECONDS_MAX);
        Ok(Self { token, is_dpop, expires_in_seconds, scopes })
    }
}

fn not_okta(status: u16, body: &FailureBody) -> TokenRequestError {
    TokenRequestError::NotOkta { status, what: if body.is_html { "a web page" } else { "no JSON" } }
}

/// A refusal, read as far as it goes.
#[derive(Debug)]
pub(super) enum Refusal {
    /// 429, or the 400 that was its form once: come back later.
    Throttled,
    /// A proof of possession is wanted, or one with another nonce.
    ProofWanted(TokenRequestError),
    /// The times in the assertion are not taken.
    Times(Said),
    /// A scope is not granted.
    Scope(Said),
    /// Anything else.
    Other(TokenRequestError),
}

/// Reads a refusal.
pub(super) fn refusal(status: u16, headers: &AnswerHeaders, body: &[u8], app: &ServiceApp) -> Refusal {
    let body = FailureBody::read(headers.first("content-type"), body);
    let said = Said::of(&body);
    let code = body.code.as_deref().unwrap_or_default();
    let text = body.summary.as_deref().unwrap_or_default().to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if status == 429 || code == "E0000047" || (status == 400 && has(&["rate limit", "too many requests"])) {
        return Refusal::Throttled;
    }
    let (client_id, key_id) = (|| app.client_id.as_str().into(), || app.key_id.as_str().into());
    let is_about_key = has(&["kid", "jwkset", "json web key"]) || is_word_in(&text, "key") && has(&KEY_GONE);
    Refusal::Other(match (status, code) {
        (_, "use_dpop_nonce" | "invalid_dpop_proof") => {
            return Refusal::ProofWanted(TokenRequestError::Proof { said });
        }
        (_, "invalid_scope" | "consent_required") => return Refusal::Scope(said),
        (_, "unauthorized_client" | "unsupported_grant_type") => TokenRequestError::NotAllowed { said },
        (400 | 401, "invalid_client" | "invalid_request" | "invalid_grant") if has(&TIMES) && !is_about_key => {
            return Refusal::Times(said);
        }
        (400 | 401, "invalid_client" | "invalid_request") if has(&["audience", "'aud'"]) => {
            TokenRequestError::Audience { said }
        }
        (_, "invalid_client") if is_about_key => TokenRequestError::UnknownKey { key_id: key_id(), said },
        (_, "invalid_client") if has(&["signature"]) => {
            TokenRequestError::Signature { key_id: key_id(), algorithm: app.private_key.algorithm(), said }
        }
        (_, "invalid_client") if has(&["inactive", "not active", "deactivated", "disabled"]) => {
            TokenRequestError::InactiveClient { client_id: client_id(), said }
        }
        (_, "invalid_client") if has(&["client_id", "client id", "not found", "no client", "issuer", "'sub'"]) => {
            TokenRequestError::UnknownClient { client_id: client_id(), said }
        }
        (_, "invalid_client") if has(&["client_assertion", "private_key_jwt", "authentication method"]) => {
            TokenRequestError::NotAllowed { said }
        }
        (_, "invalid_client") => TokenRequestError::Client { client_id: client_id(), key_id: key_id(), said },
        (408 | 500..=599, _) => TokenRequestError::Busy { status, said },
        (_, "") => not_okta(status, &body),
        _ => TokenRequestError::Refused { status, said },
    })
}

fn is_word_in(text: &str, word: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|found| found == word)
}

/// What refusals say of a key that is not there.
const KEY_GONE: [&str; 8] =
    ["not found", "unknown", "no matching", "no key", "revoked", "inactive", "not active", "expired"];

/// Words of refusals that are about `exp` or `iat`.
const TIMES: [&str; 6] = ["expired", "'exp'", "'iat'", "too far in the future", "in the future", "expiration"];

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;
    use crate::core::private_key::PrivateKey;

    fn app() -> ServiceApp {
        let text = include_str!("../../../tests/keys/p256-sec1.pem").to_owned();
        let private_key = PrivateKey::parse(&Secret::new(text), &SystemRandom::new()).unwrap();
        ServiceApp { client_id: "0oa1".into(), key_id: "kid1".into(), private_key, scopes: BTreeSet::new() }
    }

    #[test]
    fn refusals_are_told_apart() {
        #[track_caller]
        fn check(status: u16, error: &str, description: &str, expected: &str) {
            let body = format!("{{\"error\":\"{error}\",\"error_description\":\"{description}\"}}");
            let body = if error.is_empty() { description.to_owned() } else { body };
            let read = match refusal(status, &AnswerHeaders::default(), body.as_bytes(), &app()) {
                Refusal::Other(error) => error.to_string(),
                Refusal::ProofWanted(error) => format!("proof wanted: {error}"),
                other => format!("{other:?}"),
            };
            assert!(read.contains(expected), "{status} {error} {description}: {read}");
        }
        check(401, "invalid_client", "Invalid value for 'client_id' parameter.", "does not know client id 0oa1");
        check(401, "invalid_client", "The client_assertion JWT kid is invalid.", "no active key with id kid1");
        check(401, "invalid_client", "The client does not have a JWKSet configured.", "no active key with id kid1");
        check(401, "invalid_client", "The client_assertion signature is invalid.", "signed with ES256");
        check(401, "invalid_client", "The key is inactive.", "no active key with id kid1");
        check(401, "invalid_client", "No key found: the key has expired.", "no active key with id kid1");
        check(401, "invalid_client", "The client is inactive.", "the app with client id 0oa1 is not active");
        check(401, "invalid_client", "Client authentication failed.", "refuses client id 0oa1 with key id kid1");
        check(401, "invalid_client", "", "refuses client id 0oa1 with key id kid1");
        check(401, "invalid_client", "The client_assertion token has expired.", "Times");
        check(401, "invalid_client", "The audience claim for client_assertion must be the endpoint.", "as domain");
        check(401, "invalid_client", "Client authentication failed: private_key_jwt", "API Services app");
        check(400, "unauthorized_client", "x", "API Services app");
        check(400, "invalid_scope", "x", "Scope");
        check(400, "consent_required", "x", "Scope");
        check(400, "use_dpop_nonce", "x", "proof wanted: ");
        check(400, "invalid_dpop_proof", "The DPoP proof JWT header is missing.", "proof wanted: ");
        check(429, "", "", "Throttled");
        check(400, "invalid_request", "API call exceeded rate limit due to too many requests.", "Throttled");
        check(503, "", "<html>", "asked again by itself");
        check(404, "", "<html>", "a web page instead of Okta's answer");
        check(403, "", "no", "no JSON instead");
        check(418, "teapot", "x", "status 418 (Okta says \"teapot: x\")");
        check(401, "invalid_client", "odd eyJhbGciOi.x.y text", "odd *** text");
    }

    #[test]
    fn tokens_are_read_leniently_and_checked() {
        #[track_caller]
        fn check(body: &str, expected: Result<(bool, u64, &str), &str>) {
            let asked = ["okta.users.read".to_owned()];
            match (Grant::read(&AnswerHeaders::default(), body.as_bytes(), &asked), expected) {
                (Ok(grant), Ok(expected)) => {
                    let scopes = grant.scopes.iter().cloned().collect::<Vec<_>>().join(" ");
                    assert_eq!((grant.is_dpop, grant.expires_in_seconds, &*scopes), expected, "{body}");
                }
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{body}: {error}"),
                (read, _) => panic!("{body}: {read:?}"),
            }
        }
        let of = |rest: &str| format!("{{\"access_token\":\"t\",\"token_type\":\"Bearer\"{rest}}}");
        check(&of(""), Ok((false, 3_600, "okta.users.read")));
        check(
            &of(",\"expires_in\":60,\"scope\":\"a okta.users.read okta.users.manage\""),
            Ok((false, 60, "okta.users.read")),
        );
        check(&of(",\"expires_in\":\"60\",\"scope\":\"\""), Ok((false, 60, "")));
        check(&of(",\"expires_in\":0"), Ok((false, 1, "okta.users.read")));
        check(&of(",\"expires_in\":-5"), Ok((false, 3_600, "okta.users.read")));
        check(&of(",\"expires_in\":9999999999,\"x\":[1]"), Ok((false, 86_400, "okta.users.read")));
        check("{\"access_token\":\"t\",\"token_type\":\"DPoP\"}", Ok((true, 3_600, "okta.users.read")));
        check("{\"access_token\":\"t\",\"token_type\":\"mac\"}", Err("unknown type"));
        check("{\"access_token\":\"t\"}", Err("unknown type"));
        check("{\"access_token\":\"t t\",\"token_type\":\"Bearer\"}", Err("cannot be sent"));
        check("{\"token_type\":\"Bearer\"}", Err("holds no token"));
        check("<html>", Err("a web page"));
        check("", Err("no JSON"));
        check("[]", Err("no JSON"));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_breaks_it(
            status in 100..600_u16,
            text in "\\PC{0,300}",
            error in "[a-z_]{0,20}",
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        ) {
            let quoted = serde_json::to_string(&text).unwrap();
            let told = format!("{{\"error\":\"{error}\",\"error_description\":{quoted},\"access_token\":{quoted}}}");
            for body in [bytes.as_slice(), told.as_bytes()] {
                let granted = Grant::read(&AnswerHeaders::default(), body, &[]);
                let message = match refusal(status, &AnswerHeaders::default(), body, &app()) {
                    Refusal::Other(error) | Refusal::ProofWanted(error) => error.to_string(),
                    Refusal::Times(said) | Refusal::Scope(said) => said.to_string(),
                    Refusal::Throttled => String::new(),
                };
                proptest::prop_assert!(message.chars().count() < 1_000 && !message.contains(char::is_control));
                proptest::prop_assert!(granted.is_err(), "a token without a type");
            }
        }
    }
}

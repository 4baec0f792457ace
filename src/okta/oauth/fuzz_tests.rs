//! Fuzz targets of what is private here: answers of the token endpoint, and nonces. See `docs/fuzzing.md`.

use std::collections::BTreeSet;

use proptest::prelude::*;
use ring::rand::SystemRandom;
use url::Url;

use super::super::headers::AnswerHeaders;
use super::ServiceApp;
use super::answer::{Grant, Refusal, refusal};
use super::jwt::{ProofOf, Prover, Taker};
use crate::core::ids::Timestamp;
use crate::core::private_key::PrivateKey;
use crate::core::secret::Secret;
use crate::fuzz_runner::{Answer, Target, check_message, run};

const WORDS: &[&str] = &[
    "200\n",
    "400\n",
    "401\n",
    "429\n",
    "\n\n",
    "dpop-nonce: ",
    "Content-Type: text/html",
    "{\"error\":\"",
    "invalid_client",
    "invalid_scope",
    "use_dpop_nonce",
    "invalid_dpop_proof",
    "\",\"error_description\":\"",
    "client_assertion",
    "expired",
    "kid",
    "{\"token_type\":\"Bearer\"",
    ",\"expires_in\":",
    ",\"access_token\":\"eyJCANARY\"",
    ",\"scope\":\"okta.users.read",
    "}",
    "DPoP",
];

fn app() -> ServiceApp {
    let text = include_str!("../../../tests/keys/p256-sec1.pem").to_owned();
    let private_key = PrivateKey::parse(&Secret::new(text), &SystemRandom::new()).unwrap();
    ServiceApp { client_id: "0oa1".into(), key_id: "kid1".into(), private_key, scopes: BTreeSet::new() }
}

#[test]
fn fuzz_token_answers() {
    let app = app();
    run(&Target { name: "token_answer", words: WORDS, cost: 1 }, |input| {
        let answer = Answer::cut(input);
        let headers = AnswerHeaders::new(answer.lines());
        let message = match refusal(answer.status, &headers, &answer.body, &app) {
            Refusal::Other(error) | Refusal::ProofWanted(error) => error.to_string(),
            Refusal::Times(said) | Refusal::Scope(said) => said.to_string(),
            Refusal::Throttled => String::new(),
        };
        check_message(&message, 1_000)?;
        prop_assert!(!message.contains("eyJ"), "a token is shown: {message}");
        let grant = match Grant::read(&headers, &answer.body, &["okta.users.read".to_owned()]) {
            Ok(grant) => grant,
            Err(error) => {
                check_message(&error.to_string(), 400)?;
                prop_assert!(!error.to_string().contains("eyJ"), "a token is shown: {error}");
                return Ok(false);
            }
        };
        prop_assert!((1..=86_400).contains(&grant.expires_in_seconds));
        let token = grant.token.expose();
        prop_assert!(
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
            "a token that cannot be sent"
        );
        prop_assert!(grant.scopes.iter().all(|scope| scope == "okta.users.read"), "scopes that nobody asked for");
        prop_assert!(!format!("{grant:?}").contains("CANARY"), "a token is shown");
        Ok(true)
    });
}

/// Whatever comes as a nonce, a proof is one header value, and holds either that or the nonce before.
#[test]
fn fuzz_nonces() {
    let random = SystemRandom::new();
    let prover = Prover::new(&random).unwrap();
    let url = Url::parse("https://acme.okta.com/oauth2/v1/token").unwrap();
    let nonce_of = |proof: &Secret| {
        use base64::Engine as _;
        let claims = proof.expose().split('.').nth(1).unwrap();
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        claims["nonce"].as_str().map(str::to_owned)
    };
    run(&Target { name: "dpop_nonce", words: &["nonce", "eyJ", "."], cost: 1 }, |input| {
        let text = String::from_utf8_lossy(input);
        prover.take_nonce(Taker::Tokens, "before");
        prover.take_nonce(Taker::Tokens, &text);
        let of = ProofOf { method: "POST", url: &url, token: None };
        let proof = prover.prove(&of, Timestamp::from_millis(1_785_661_222_000), &random).unwrap();
        prop_assert!(proof.expose().len() < 2_000 && proof.expose().bytes().all(|byte| byte.is_ascii_graphic()));
        let nonce = nonce_of(&proof);
        let is_taken = nonce.as_deref() == Some(&text) && text != "before";
        prop_assert!(is_taken || nonce.as_deref() == Some("before"), "{nonce:?} of {text:?}");
        let read = ProofOf { token: Some(&Secret::new("t".to_owned())), ..of };
        prop_assert_eq!(
            nonce_of(&prover.prove(&read, Timestamp::default(), &random).unwrap()),
            None,
            "the other's nonce"
        );
        Ok(is_taken)
    });
}

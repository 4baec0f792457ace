//! Private keys and API tokens.

use okta_idmap::core::private_key::{PrivateKey, SigningAlgorithm};
use okta_idmap::core::secret::Secret;
use okta_idmap::okta::{HEADER_VALUE_BYTES_MAX, Ssws};
use proptest::prelude::*;
use ring::rand::SystemRandom;

use crate::runner::{Target, check_message, run};

const WORDS: &[&str] = &[
    "-----BEGIN PRIVATE KEY-----\n",
    "-----END PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\n",
    "-----BEGIN RSA PRIVATE KEY-----\n",
    "-----BEGIN EC PARAMETERS-----",
    "-----",
    "BEGIN ",
    "Proc-Type: 4,ENCRYPTED",
    "\\n",
    "\"kty\":\"EC\",",
    "\"crv\":\"P-521\",",
    "\"alg\":\"",
    "\"kid\":\"",
    "RS512",
    "ES384",
    "\"d\":\"",
    "\"keys\":[",
    "AAAA",
    "MIIE",
    "/////w",
    "P-256",
    "P-384",
    "=",
];

/// Characters of a key in a row that no message may repeat.
const SECRET_CHARS: usize = 16;

#[test]
fn fuzz_private_keys() {
    let random = SystemRandom::new();
    run(&Target { name: "private_key", words: WORDS, cost: 4 }, |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        let key = match PrivateKey::parse(&Secret::new(text.clone()), &random) {
            Ok(key) => key,
            Err(error) => {
                let message = error.to_string();
                check_message(&message, 300)?;
                let chars: Vec<char> = text.chars().collect();
                let pieces = chars.windows(SECRET_CHARS).filter(|piece| piece.iter().all(char::is_ascii_alphanumeric));
                for piece in pieces {
                    let piece: String = piece.iter().collect();
                    prop_assert!(!message.contains(&piece), "{message} shows {piece}");
                }
                return Ok(false);
            }
        };
        prop_assert_eq!(SigningAlgorithm::of_name(key.algorithm().name()), Some(key.algorithm()));
        prop_assert!(key.sign(b"message", &random).is_ok(), "a key that cannot sign");
        let names: Vec<&str> = key.public_members().iter().map(|(name, _)| *name).collect();
        prop_assert!(names == ["e", "kty", "n"] || names == ["crv", "kty", "x", "y"], "{names:?}");
        if let Some(id) = key.key_id() {
            prop_assert!(id.len() <= 256 && id.bytes().all(|byte| byte.is_ascii_graphic()), "a key id {id:?}");
        }
        let shown = format!("{key:?}");
        prop_assert!(shown.len() < 60, "{shown}");
        Ok(true)
    });
}

#[test]
fn fuzz_api_tokens() {
    run(&Target { name: "api_token", words: &["SSWS ", "Bearer ", "00", "ssws"], cost: 1 }, |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        match Ssws::new(&Secret::new(text.clone())) {
            Ok(token) => {
                prop_assert!(text.len() <= HEADER_VALUE_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert_eq!(format!("{token:?}"), "Ssws { header_value: *** }");
                Ok(true)
            }
            Err(error) => {
                check_message(&error.to_string(), 100)?;
                Ok(false)
            }
        }
    });
}

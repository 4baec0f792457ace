//! Every form of a key, and what is wrong with what is none.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::*;

const RSA_PKCS8: &str = include_str!("../../../tests/keys/rsa-pkcs8.pem");
const RSA_PKCS1: &str = include_str!("../../../tests/keys/rsa-pkcs1.pem");
const RSA_JWK: &str = include_str!("../../../tests/keys/rsa.jwk.json");
const P256_PKCS8: &str = include_str!("../../../tests/keys/p256-pkcs8.pem");
const P256_SEC1: &str = include_str!("../../../tests/keys/p256-sec1.pem");
const P256_JWK: &str = include_str!("../../../tests/keys/p256.jwk.json");
const P384_SEC1: &str = include_str!("../../../tests/keys/p384-sec1.pem");
const P384_JWK: &str = include_str!("../../../tests/keys/p384.jwk.json");
const P521_SEC1: &str = include_str!("../../../tests/keys/p521-sec1.pem");
const P521_JWK: &str = include_str!("../../../tests/keys/p521.jwk.json");

fn parse(text: &str) -> Result<PrivateKey, PrivateKeyError> {
    PrivateKey::parse(&Secret::new(text.to_owned()), &SystemRandom::new())
}

/// Signs, and verifies with nothing but the public half.
#[track_caller]
fn assert_signs(key: &PrivateKey) {
    let signed = key.sign(b"message", &SystemRandom::new()).unwrap();
    let members = key.public_members();
    let member = |name| {
        let (_, text) = members.iter().find(|(known, _)| *known == name).unwrap();
        URL_SAFE_NO_PAD.decode(text).unwrap()
    };
    let verified = match key.algorithm() {
        SigningAlgorithm::Es256 | SigningAlgorithm::Es384 => {
            let point = [vec![4], member("x"), member("y")].concat();
            let algorithm: &dyn ring::signature::VerificationAlgorithm = match key.algorithm() {
                SigningAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
                _ => &ECDSA_P384_SHA384_FIXED,
            };
            UnparsedPublicKey::new(algorithm, point).verify(b"message", &signed)
        }
        SigningAlgorithm::Es512 => {
            use p521::ecdsa::signature::Verifier as _;
            let point = [vec![4], member("x"), member("y")].concat();
            let verifier = p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
            let read = p521::ecdsa::Signature::from_slice(&signed).unwrap();
            verifier.verify(b"message", &read).map_err(|_| ring::error::Unspecified)
        }
        rsa => {
            let parameters = match rsa {
                SigningAlgorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                SigningAlgorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
                _ => &signature::RSA_PKCS1_2048_8192_SHA512,
            };
            PublicKeyComponents { n: member("n"), e: member("e") }.verify(parameters, b"message", &signed)
        }
    };
    assert!(verified.is_ok(), "{key:?}");
}

#[test]
fn every_form_signs() {
    #[track_caller]
    fn check(text: &str, algorithm: SigningAlgorithm, key_id: Option<&str>) {
        let key = parse(text).unwrap();
        assert_eq!((key.algorithm(), key.key_id()), (algorithm, key_id));
        assert_signs(&key);
    }
    check(RSA_PKCS8, SigningAlgorithm::Rs256, None);
    check(RSA_PKCS1, SigningAlgorithm::Rs256, None);
    check(RSA_JWK, SigningAlgorithm::Rs256, Some("rsa-test-key"));
    check(P256_PKCS8, SigningAlgorithm::Es256, None);
    check(P256_SEC1, SigningAlgorithm::Es256, None);
    check(P256_JWK, SigningAlgorithm::Es256, Some("p256-test-key"));
    check(P384_SEC1, SigningAlgorithm::Es384, None);
    check(P384_JWK, SigningAlgorithm::Es384, Some("p384-test-key"));
    check(P521_SEC1, SigningAlgorithm::Es512, None);
    check(P521_JWK, SigningAlgorithm::Es512, Some("p521-test-key"));
    // As they come out of variables and other tools.
    check(&RSA_PKCS8.replace('\n', "\\n"), SigningAlgorithm::Rs256, None);
    check(&RSA_PKCS8.replace('\n', " "), SigningAlgorithm::Rs256, None);
    check(&RSA_PKCS8.replace('\n', "\r\n"), SigningAlgorithm::Rs256, None);
    check(&format!("Bag Attributes: x\n{P256_PKCS8}"), SigningAlgorithm::Es256, None);
    check(&format!("{{\"keys\":[{P256_JWK}]}}"), SigningAlgorithm::Es256, Some("p256-test-key"));
    check(&RSA_JWK.replace("\"sig\"", "\"sig\",\"alg\":\"RS512\""), SigningAlgorithm::Rs512, Some("rsa-test-key"));
}

#[test]
fn the_forms_of_one_key_are_equal() {
    assert_eq!(parse(RSA_PKCS8), parse(RSA_PKCS1));
    assert_eq!(parse(P256_PKCS8), parse(P256_SEC1));
    assert_ne!(parse(P256_PKCS8), parse(RSA_PKCS1));
    assert_eq!(parse(RSA_JWK).unwrap().public_members(), parse(RSA_PKCS1).unwrap().public_members());
    assert_eq!(parse(P384_JWK).unwrap().public_members(), parse(P384_SEC1).unwrap().public_members());
    assert_eq!(parse(P521_JWK).unwrap().public_members(), parse(P521_SEC1).unwrap().public_members());
}

#[test]
fn rsa_keys_have_a_choice() {
    for algorithm in [SigningAlgorithm::Rs256, SigningAlgorithm::Rs384, SigningAlgorithm::Rs512] {
        let key = parse(RSA_PKCS8).unwrap().with_algorithm(algorithm).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        assert_signs(&key);
    }
    let message = |key: &str, algorithm| parse(key).unwrap().with_algorithm(algorithm).unwrap_err().to_string();
    assert_eq!(
        message(RSA_PKCS8, SigningAlgorithm::Es256),
        "the key cannot sign ES256: it fits RS256, RS384 and RS512"
    );
    assert_eq!(message(P256_SEC1, SigningAlgorithm::Es384), "the key cannot sign ES384: it fits ES256");
    assert_eq!(message(P521_SEC1, SigningAlgorithm::Es384), "the key cannot sign ES384: it fits ES512");
    assert!(parse(P256_SEC1).unwrap().with_algorithm(SigningAlgorithm::Es256).is_ok());
}

#[test]
fn what_is_no_key_is_told_so() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    check("", "no private key");
    check("0oa1234", "no private key");
    check("{}", "no private key");
    check("{\"kty\":", "no private key");
    check(include_str!("../../../tests/keys/rsa-public.pem"), "holds PUBLIC KEY and no private key");
    check("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", "holds CERTIFICATE");
    check(include_str!("../../../tests/keys/p256-encrypted.pem"), "openssl pkey");
    check(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA\n-----END RSA PRIVATE KEY-----",
        "encrypted with a passphrase",
    );
    check(include_str!("../../../tests/keys/ed25519.pem"), "an Ed25519 key cannot be used");
    check(include_str!("../../../tests/keys/rsa-1024-bits.pem"), "TooSmall");
    check(include_str!("../../../tests/keys/p256-no-public.pem"), "does not hold its public part");
    check(&RSA_PKCS8[..600], "-----END");
    check(&RSA_PKCS8.replace("MII", "*II"), "not base64");
    check("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no key in DER");
    check("-----BEGIN EC PRIVATE KEY-----\nMAYCAQEEAQE=\n-----END EC PRIVATE KEY-----", "on which curve");
    check(&P256_JWK.replace("\"d\"", "\"D\""), "it is the public half");
    check(&RSA_JWK.replace("\"qi\"", "\"Qi\""), "give the key as PEM");
    check(&P256_JWK.replace("P-256", "P-384"), "refused");
    check(include_str!("../../../tests/fuzz/corpus/private_key/rsa-parts-that-do-not-fit.json"), "belong together");
    check(include_str!("../../../tests/fuzz/corpus/private_key/key-in-label.pem"), "it holds something else and no");
    check(&RSA_JWK.replace("\"sig\"", "\"sig\",\"alg\":\"a\\u001b\""), "cannot sign that algorithm");
    check(&P384_JWK.replace("P-384", "P-521"), "refused");
    check(&P521_JWK.replace("P-521", "P-384"), "longer than its curve allows");
    check(&RSA_JWK.replace("\"sig\"", "\"sig\",\"alg\":\"PS256\""), "cannot sign PS256");
    check(&format!("{{\"keys\":[{P256_JWK},{P384_JWK}]}}"), "holds 2 keys");
    check("{\"kty\":\"oct\",\"k\":\"AA\"}", "a shared secret");
}

#[test]
fn nothing_of_a_key_is_shown() {
    let key = parse(P256_JWK).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey { algorithm: Es256, .. }");
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_it(cut in 0..1700_usize, at in 0..1700_usize, with in "\\PC{0,3}") {
        for text in [RSA_PKCS8, P256_SEC1, P521_SEC1, RSA_JWK] {
            let mut text: String = text.chars().take(text.len().saturating_sub(cut)).collect();
            if let Some(place) = (at < text.len()).then_some(at) {
                text.replace_range(place..=place, &with);
            }
            let _ = parse(&text).is_ok();
        }
    }
}

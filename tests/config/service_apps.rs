//! OAuth service apps in the configuration: every source, every form of the key, every mistake.

use super::*;
use okta_idmap::config::ServiceAppConfig;
use okta_idmap::core::private_key::SigningAlgorithm;

const DOMAIN: (&str, &str) = ("OKTA_IDMAP_DOMAIN", "acme.okta.com");
const CLIENT: (&str, &str) = ("OKTA_IDMAP_CLIENT_ID", "0oaClient1");
const KEY_ID: (&str, &str) = ("OKTA_IDMAP_KEY_ID", "kid1");
const KEY_FILE: (&str, &str) = ("OKTA_IDMAP_PRIVATE_KEY_FILE", "key");

fn app(config: &Config) -> &ServiceAppConfig {
    let Credential::ServiceApp(app) = &config.orgs.values().next().expect("there is an org").credential else {
        panic!("it is a service app")
    };
    app
}

/// Client id, key id and algorithm of a configuration that loads.
#[track_caller]
fn check(env: &[(&'static str, &'static str)], expected: (&str, &str, SigningAlgorithm)) {
    let config = Case::env(env).and_env(&[DOMAIN]).config();
    let app = app(&config);
    assert_eq!((app.client_id.as_str(), app.key_id.as_str(), app.private_key.algorithm()), expected);
    let shown = format!("{}{config:?}", config.effective_toml());
    for secret in KEY.lines().chain(JWK.lines()).filter(|line| line.len() > 40 && !line.contains("\"n\"")) {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn service_apps_come_from_everywhere() {
    check(&[CLIENT, KEY_ID, KEY_FILE], ("0oaClient1", "kid1", SigningAlgorithm::Es256));
    check(&[CLIENT, KEY_ID, ("OKTA_IDMAP_PRIVATE_KEY", KEY)], ("0oaClient1", "kid1", SigningAlgorithm::Es256));
    check(&[CLIENT, ("OKTA_IDMAP_PRIVATE_KEY", JWK)], ("0oaClient1", "rsa-test-key", SigningAlgorithm::Rs256));
    let jwk_file = ("OKTA_IDMAP_PRIVATE_KEY_FILE", "key-jwk");
    check(&[CLIENT, jwk_file, KEY_ID], ("0oaClient1", "kid1", SigningAlgorithm::Rs256));
    let algorithm = ("OKTA_IDMAP_SIGNING_ALGORITHM", "RS512");
    check(&[CLIENT, jwk_file, algorithm], ("0oaClient1", "rsa-test-key", SigningAlgorithm::Rs512));
    let es512 = ("OKTA_IDMAP_PRIVATE_KEY", include_str!("../keys/p521.jwk.json"));
    check(&[CLIENT, es512], ("0oaClient1", "p521-test-key", SigningAlgorithm::Es512));
    // The names of the other connector.
    let baton = [("BATON_OKTA_CLIENT_ID", "0oaClient1"), ("BATON_OKTA_PRIVATE_KEY_ID", "kid1")];
    check(&[baton[0], baton[1], ("BATON_OKTA_PRIVATE_KEY", "key")], ("0oaClient1", "kid1", SigningAlgorithm::Es256));
    check(&[baton[0], baton[1], ("BATON_OKTA_PRIVATE_KEY", KEY)], ("0oaClient1", "kid1", SigningAlgorithm::Es256));
    check(&[baton[0], ("BATON_OKTA_PRIVATE_KEY", JWK)], ("0oaClient1", "rsa-test-key", SigningAlgorithm::Rs256));
    // A key in a variable hides the one of the file, which is not looked at.
    let file = "[orgs.acme]\ndomain = 'acme.okta.com'\nclient_id = '0oaClient1'\nkey_id = 'kid1'\n\
                private_key_file = 'missing'\nscopes = ['okta.roles.read', 'okta.users.read']";
    let config = Case::file(file).and_env(&[("OKTA_IDMAP_PRIVATE_KEY", KEY)]).config();
    assert_eq!(app(&config).scopes.len(), 2);
    expect![[r#"
        [orgs.acme]
        domain = "https://acme.okta.com" # file okta-idmap.toml:2:1
        client_id = "0oaClient1" # file okta-idmap.toml:3:1
        key_id = "kid1" # file okta-idmap.toml:4:1
        signing_algorithm = "auto" # default
        scopes = ["okta.roles.read", "okta.users.read"] # file okta-idmap.toml:6:1
        private_key = "***" # environment OKTA_IDMAP_PRIVATE_KEY
    "#]]
    .assert_eq(&table_of(&config.effective_toml(), "[orgs.acme]"));
}

fn table_of(toml: &str, header: &str) -> String {
    let lines = toml.lines().skip_while(|line| *line != header).take_while(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn keys_that_others_can_read_are_warned_about() {
    let wide = ("OKTA_IDMAP_PRIVATE_KEY_FILE", "key-wide");
    let (_, warnings) = Case::env(&[DOMAIN, CLIENT, KEY_ID, wide]).run().expect("it loads");
    assert_eq!(warnings, [ConfigWarning::SecretFileMode { path: "key-wide".into(), mode: 0o640 }]);
    let file = concat!(
        "[orgs.a]\ndomain = 'a.okta.com'\nclient_id = '0oa1'\nkey_id = 'k'\nprivate_key = '''\n",
        include_str!("../keys/p384-sec1.pem"),
        "'''"
    );
    let case = Case { file_mode: Some(0o644), ..Case::file(file) };
    let (_, warnings) = case.run().unwrap();
    assert_eq!(warnings, [ConfigWarning::SecretFileMode { path: "okta-idmap.toml".into(), mode: 0o644 }]);
}

#[test]
fn fingerprints_hang_on_the_app_and_not_on_the_form_of_its_key() {
    let fingerprint = |env: &[(&'static str, &'static str)]| {
        let config = Case::env(env).and_env(&[DOMAIN]).config();
        let settings = OrgSettings::from_config(&config, config.require_org(None).unwrap()).unwrap();
        settings.credential_fingerprint()
    };
    let one = fingerprint(&[CLIENT, KEY_ID, KEY_FILE]);
    assert_eq!(one, fingerprint(&[CLIENT, KEY_ID, ("OKTA_IDMAP_PRIVATE_KEY", KEY)]));
    assert_ne!(one, fingerprint(&[CLIENT, ("OKTA_IDMAP_KEY_ID", "kid2"), KEY_FILE]));
    assert_ne!(one, fingerprint(&[("OKTA_IDMAP_CLIENT_ID", "0oaOther"), KEY_ID, KEY_FILE]));
    assert_ne!(one, fingerprint(&[("OKTA_IDMAP_API_TOKEN", CANARY)]));
}

#[test]
fn mistakes_are_told_with_their_place() {
    #[track_caller]
    fn check(env: &[(&'static str, &'static str)], expected: Expect) {
        check_error(Case::env(env).and_env(&[DOMAIN]), expected);
    }
    check(
        &[CLIENT],
        expect![
            "org default has no private key: set OKTA_IDMAP_PRIVATE_KEY_FILE, OKTA_IDMAP_ORGS__DEFAULT__PRIVATE_KEY_FILE or private_key_file in [orgs.default]"
        ],
    );
    check(
        &[KEY_FILE],
        expect![[r#"
        org default has no client id: set OKTA_IDMAP_CLIENT_ID, OKTA_IDMAP_ORGS__DEFAULT__CLIENT_ID or client_id in [orgs.default]
        org default has no key id: set OKTA_IDMAP_KEY_ID, OKTA_IDMAP_ORGS__DEFAULT__KEY_ID or key_id in [orgs.default]"#]],
    );
    check(
        &[CLIENT, KEY_FILE],
        expect![
            "org default has no key id: set OKTA_IDMAP_KEY_ID, OKTA_IDMAP_ORGS__DEFAULT__KEY_ID or key_id in [orgs.default]"
        ],
    );
    check(
        &[CLIENT, KEY_ID, KEY_FILE, ("OKTA_IDMAP_API_TOKEN", CANARY)],
        expect![
            "OKTA_IDMAP_API_TOKEN: orgs.default.api_token: is an API token, and client_id (OKTA_IDMAP_CLIENT_ID) is of an OAuth service app: an org has one credential, keep one"
        ],
    );
    check(
        &[("OKTA_IDMAP_SCOPES", "okta.roles.read"), ("BATON_API_TOKEN", CANARY)],
        expect![
            "BATON_API_TOKEN: orgs.default.api_token: is an API token, and scopes (OKTA_IDMAP_SCOPES) is of an OAuth service app: an org has one credential, keep one"
        ],
    );
    check(
        &[CLIENT, KEY_ID, KEY_FILE, ("OKTA_IDMAP_PRIVATE_KEY", KEY)],
        expect![
            "the private key of org default is given twice, by OKTA_IDMAP_PRIVATE_KEY and by OKTA_IDMAP_PRIVATE_KEY_FILE: keep one"
        ],
    );
    check(
        &[CLIENT, KEY_ID, ("OKTA_IDMAP_PRIVATE_KEY_FILE", KEY)],
        expect![
            "OKTA_IDMAP_PRIVATE_KEY_FILE: orgs.default.private_key_file: this is a key, not the path of a file with one: use private_key"
        ],
    );
    check(
        &[CLIENT, KEY_ID, ("OKTA_IDMAP_PRIVATE_KEY_FILE", "missing")],
        expect![
            "OKTA_IDMAP_PRIVATE_KEY_FILE: orgs.default.private_key_file: read secret file missing: cannot be read: entity not found"
        ],
    );
    check(
        &[CLIENT, KEY_ID, ("OKTA_IDMAP_PRIVATE_KEY_FILE", "token")],
        expect![[
            r#"OKTA_IDMAP_PRIVATE_KEY_FILE: orgs.default.private_key_file: it is no private key: a PEM text begins with -----BEGIN PRIVATE KEY-----, a JWK is a JSON object with "kty""#
        ]],
    );
    check(
        &[CLIENT, KEY_ID, ("OKTA_IDMAP_PRIVATE_KEY", "***")],
        expect![
            "OKTA_IDMAP_PRIVATE_KEY: orgs.default.private_key: is the mask that `okta-idmap config` prints in its place"
        ],
    );
    check(
        &[CLIENT, KEY_ID, ("OKTA_IDMAP_PRIVATE_KEY", include_str!("../keys/ed25519.pem"))],
        expect![
            "OKTA_IDMAP_PRIVATE_KEY: orgs.default.private_key: an Ed25519 key cannot be used: make an RSA key of 2048 to 4096 bits, or an EC key on P-256, P-384 or P-521"
        ],
    );
    check(
        &[CLIENT, KEY_ID, KEY_FILE, ("OKTA_IDMAP_SIGNING_ALGORITHM", "RS256")],
        expect!["OKTA_IDMAP_PRIVATE_KEY_FILE: orgs.default.private_key_file: the key cannot sign RS256: it fits ES256"],
    );
    check(
        &[CLIENT, KEY_ID, KEY_FILE, ("OKTA_IDMAP_SIGNING_ALGORITHM", "HS256")],
        expect![[
            r#"OKTA_IDMAP_SIGNING_ALGORITHM: orgs.default.signing_algorithm: expected one of "auto", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", got "HS256""#
        ]],
    );
    check(
        &[CLIENT, KEY_ID, KEY_FILE, ("OKTA_IDMAP_SCOPES", "okta.users.manage")],
        expect![[
            r#"OKTA_IDMAP_SCOPES: orgs.default.scopes: "okta.users.manage" is no scope for reading, such as "okta.roles.read": this program asks for no other"#
        ]],
    );
    check(
        &[("OKTA_IDMAP_CLIENT_ID", "a b"), ("OKTA_IDMAP_KEY_ID", KEY), KEY_FILE],
        expect![[r#"
        OKTA_IDMAP_CLIENT_ID: orgs.default.client_id: expected an id without blanks, got "a b"
        OKTA_IDMAP_KEY_ID: orgs.default.key_id: this is a key and not its id: use private_key"#]],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN", KEY)],
        expect![
            "OKTA_IDMAP_API_TOKEN: orgs.default.api_token: the secret is a private key and no API token: use client_id, key_id and private_key"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN_FILE", JWK)],
        expect![
            "OKTA_IDMAP_API_TOKEN_FILE: orgs.default.api_token_file: this is a key, not the path of a file with one: use private_key"
        ],
    );
    check(
        &[CLIENT, KEY_ID, KEY_FILE, ("OKTA_IDMAP_CLIENT_IDD", "x")],
        expect![
            "OKTA_IDMAP_CLIENT_IDD: unknown variable (did you mean OKTA_IDMAP_CLIENT_ID?); variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml"
        ],
    );
}

//! A file that nobody named, and secrets that are not of it.

use okta_idmap::config::Flags;

use super::{CANARY, Case};

/// Problems of a configuration whose file lay in the working directory; of the same file by name there must be none.
#[track_caller]
fn check(file: &'static str, env: &[(&'static str, &'static str)], flags: Flags, expected: &[&str]) {
    let case = |is_found| Case { is_found, ..Case::file(file).and_env(env).and_flags(flags.clone()) };
    case(false).config();
    let problems = match case(true).run() {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    };
    let begins: Vec<&str> = problems.iter().filter_map(|problem| problem.split(" is of a file").next()).collect();
    assert_eq!(begins, expected);
    for problem in &problems {
        assert!(problem.contains("--config or OKTA_IDMAP_CONFIG") && !problem.contains(CANARY), "{problem}");
    }
}

const DOMAIN: &str = r#"orgs.default.domain = "evil.okta.com""#;
const WAYS: &str = "[network]\nproxy = 'http://127.0.0.1:9'\nca_file = 'roots'\n";
const TOKEN: (&str, &str) = ("OKTA_IDMAP_API_TOKEN", CANARY);
const TOKEN_FILE: (&str, &str) = ("OKTA_IDMAP_API_TOKEN_FILE", "token");
const ADDRESS: (&str, &str) = ("OKTA_IDMAP_DOMAIN", "acme.okta.com");

fn flags(domain: Option<&str>) -> Flags {
    Flags { domain: domain.map(str::to_owned), api_token_file: Some("token".into()), ..Flags::default() }
}

#[test]
fn a_credential_of_elsewhere_goes_where_its_owner_says() {
    let domain = ["okta-idmap.toml:1:14: orgs.default.domain:"];
    check(DOMAIN, &[TOKEN], Flags::default(), &domain);
    check(DOMAIN, &[TOKEN_FILE], Flags::default(), &domain);
    check(DOMAIN, &[], flags(None), &domain);
    check(DOMAIN, &[("OKTA_IDMAP_ORGS__DEFAULT__API_TOKEN", CANARY)], Flags::default(), &domain);
    // Whoever says both says where.
    check(DOMAIN, &[TOKEN, ADDRESS], Flags::default(), &[]);
    check(DOMAIN, &[], flags(Some("acme.okta.com")), &[]);
    let ways =
        ["okta-idmap.toml:2:1: orgs.default.network.proxy:", "okta-idmap.toml:3:1: orgs.default.network.ca_file:"];
    check(WAYS, &[TOKEN, ADDRESS], Flags::default(), &ways);
    check(WAYS, &[], flags(Some("acme.okta.com")), &ways);
    let by_variable = [TOKEN, ADDRESS, ("OKTA_IDMAP_NETWORK__PROXY", "http://127.0.0.1:8")];
    check(WAYS, &by_variable, Flags::default(), &ways[1..]);
    check("[network]\nca_file = ''\n", &[TOKEN, ADDRESS], Flags::default(), &[]);
    // What else it says leads nowhere.
    check("[crawl]\ninterval = '2h'\n", &[TOKEN, ADDRESS], Flags::default(), &[]);
}

#[test]
fn the_key_of_a_service_app_too() {
    let file = "[orgs.a]\ndomain = 'evil.okta.com'\nclient_id = '0oa1'\nkey_id = 'k'\n";
    let key = [("OKTA_IDMAP_ORGS__A__PRIVATE_KEY_FILE", "key")];
    check(file, &key, Flags::default(), &["okta-idmap.toml:2:1: orgs.a.domain:"]);
}

#[test]
fn a_file_may_say_where_its_own_secrets_go() {
    let file =
        "[network]\nproxy = 'http://127.0.0.1:9'\n[orgs.a]\ndomain = 'acme.okta.com'\napi_token_file = 'token'\n";
    check(file, &[], Flags::default(), &[]);
    // Nobody's secret is led anywhere.
    check("[network]\nproxy = 'http://127.0.0.1:9'\n", &[], Flags::default(), &[]);
}

#[test]
fn the_token_of_a_client_is_not_shown_to_whoever_has_a_certificate() {
    let file = "client.ca_file = 'roots'\n";
    let server = ("OKTA_IDMAP_CLIENT__SERVER", "https://idmap.example.com:8450");
    let env = [server, ("OKTA_IDMAP_CLIENT__TOKEN_FILE", "token")];
    check(file, &env, Flags::default(), &["okta-idmap.toml:1:8: client.ca_file:"]);
    check(file, &[server], Flags::default(), &[]);
}

//! The configuration from outside: precedence, every message, hostile input, and that no secret is ever shown.
//!
//! Entry points: [`Case`] for a configuration that loads, [`check_error`] for one that does not. The messages are in
//! `messages`, the property tests in `hostile`.

mod effective;
mod example;
mod hostile;
mod identities;
mod led_away;
#[cfg(target_os = "linux")]
mod memory;
mod messages;
mod network;
mod server;
mod service_apps;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::{Expect, expect};
use okta_idmap::config::{
    Config, ConfigErrors, ConfigFile, ConfigWarning, Credential, FilterMode, Flags, GroupMembers, LogFormat, NameRule,
    SecretFile, Sources, keys, load,
};
use okta_idmap::core::pending::Patience;
use okta_idmap::engine::{FollowSettings, OrgSettings};

/// No message, listing or `Debug` may hold it. It looks like a real token but for its words.
const CANARY: &str = "00CanaryTokenNeverShown-abcdefghijklmnop_42";

/// Keys for tests: no org knows them.
const KEY: &str = include_str!("../keys/p256-pkcs8.pem");
const JWK: &str = include_str!("../keys/rsa.jwk.json");
const ROOT: &[u8] = include_bytes!("../keys/tls/root.pem");
const NO_ROOT: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// Everything that a configuration is loaded from; `run` loads it.
#[derive(Default)]
struct Case {
    file: Option<&'static str>,
    file_mode: Option<u32>,
    /// Nobody named the file.
    is_found: bool,
    env: Vec<(&'static str, &'static str)>,
    flags: Flags,
}

impl Case {
    fn file(text: &'static str) -> Self {
        Self { file: Some(text), ..Self::default() }
    }

    fn env(env: &[(&'static str, &'static str)]) -> Self {
        Self { env: env.to_vec(), ..Self::default() }
    }

    fn and_env(mut self, env: &[(&'static str, &'static str)]) -> Self {
        self.env.extend_from_slice(env);
        self
    }

    fn and_flags(mut self, flags: Flags) -> Self {
        self.flags = flags;
        self
    }

    fn run(self) -> Result<(Config, Vec<ConfigWarning>), ConfigErrors> {
        let mode = self.file_mode;
        let is_found = self.is_found;
        let path = || "okta-idmap.toml".into();
        let file = self.file.map(|text| ConfigFile { path: path(), text: text.to_owned(), mode, is_found });
        let env = self.env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        load(Sources { file, env, flags: self.flags }, &read_secret)
    }

    #[track_caller]
    fn config(self) -> Config {
        self.run().unwrap_or_else(|errors| panic!("{errors}")).0
    }
}

/// The files that hold secrets, by name.
fn read_secret(path: &Path) -> io::Result<SecretFile> {
    let (bytes, mode) = match path.to_str().unwrap_or_default() {
        "token" => (format!("{CANARY}\n").into_bytes(), Some(0o600)),
        "token-crlf" => (format!("SSWS {CANARY}\r\n").into_bytes(), Some(0o400)),
        "token-wide" => (CANARY.as_bytes().to_vec(), Some(0o644)),
        "token-empty" => (b"\n".to_vec(), None),
        "token-two-lines" => (format!("{CANARY}\n{CANARY}\n").into_bytes(), None),
        "token-binary" => (vec![0xff, 0xfe], None),
        "token-large" => (vec![b'x'; 64 * 1024 + 1], None),
        "key" => (KEY.as_bytes().to_vec(), Some(0o600)),
        "key-jwk" => (JWK.as_bytes().to_vec(), Some(0o400)),
        "key-wide" => (KEY.as_bytes().to_vec(), Some(0o640)),
        "roots" => (ROOT.to_vec(), Some(0o644)),
        "roots-large" => (vec![b'x'; 1024 * 1024 + 1], None),
        // As the file of a whole system.
        "roots-many" => (ROOT.repeat(1_000), None),
        "roots-two" => ([ROOT, ROOT].concat(), None),
        "roots-none" => (b"not a certificate\n".to_vec(), None),
        "roots-wrong" => ([ROOT, NO_ROOT].concat(), None),
        "roots-cut" => (ROOT[..ROOT.len() / 2].to_vec(), None),
        "token-denied" => return Err(io::ErrorKind::PermissionDenied.into()),
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    Ok(SecretFile { bytes, mode })
}

fn token(config: &Config, org: &str) -> String {
    let Credential::ApiToken(secret) = &config.orgs[org].credential else { panic!("it is an API token") };
    secret.expose().to_owned()
}

/// What two configurations have in common but for the sources of their values.
fn values(config: &Config) -> String {
    let Config { data_dir, log, server, client, index, orgs, .. } = config;
    format!("{data_dir:?} {log:?} {server:?} {client:?} {index:?} {orgs:#?}")
}

/// Whether the canary is in a text, also after a parser has put a host into lower case.
fn is_shown(text: &str) -> bool {
    text.to_lowercase().contains(&CANARY.to_lowercase())
}

/// The whole message of a configuration that must not load.
#[track_caller]
fn check_error(case: Case, expected: Expect) {
    let errors = case.run().map(|_| ()).expect_err("it is no valid configuration");
    let (shown, debugged) = (errors.to_string(), format!("{errors:?}"));
    assert!(!is_shown(&shown) && !is_shown(&debugged), "a secret is shown: {shown} {debugged}");
    expected.assert_eq(&shown);
}

#[test]
fn nothing_given_is_a_configuration_without_orgs() {
    let config = Case::default().config();
    assert!(config.orgs.is_empty());
    assert_eq!(config.data_dir, PathBuf::from("./okta-idmap-data"));
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8450");
    assert_eq!(config.server.http_listen, None);
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn precedence_is_flag_environment_file_default() {
    #[track_caller]
    fn check(file: &'static str, env: &'static str, flag: Option<&str>, expected: &str) {
        let flags = Flags { log_level: flag.map(str::to_owned), ..Flags::default() };
        let config = Case::file(file).and_env(&[("OKTA_IDMAP_LOG__LEVEL", env)]).and_flags(flags).config();
        assert_eq!(config.log.level, expected);
    }
    const WARN: &str = "log.level = 'warn'";
    check("", "", None, "info");
    check(WARN, "", None, "warn");
    check(WARN, "error", None, "error");
    check(WARN, "error", Some("debug"), "debug");
    check(WARN, "", Some("debug"), "debug");
    check("", "error", None, "error");
}

#[test]
fn an_org_overrides_the_top_level_key_by_key() {
    let config = Case::file(
        r#"
        [crawl]
        interval = "1h"
        users_page_size = 50
        [resolve.name_rules]
        Jira = "exact"
        Slack = "exact"
        [orgs.acme]
        domain = "acme.okta.com"
        api_token_file = "token"
        crawl.interval = "2h"
        groups.members = "assigned"
        resolve.name_rules = { Slack = "default", Wiki = "ignore_case" }
        [orgs.other-org]
        domain = "other.okta.com"
        api_token_file = "token"
        "#,
    )
    .and_env(&[
        // The org's own value in the file wins over the top level's in the environment: it is the more specific one.
        ("OKTA_IDMAP_CRAWL__INTERVAL", "3h"),
        ("OKTA_IDMAP_ORGS__OTHER_ORG__CRAWL__APPS_PAGE_SIZE", "100"),
        // Tables are joined name by name.
        ("OKTA_IDMAP_RESOLVE__NAME_RULES", "{ Jira = \"ignore_case\" }"),
    ])
    .config();
    let (acme, other) = (&config.orgs["acme"], &config.orgs["other-org"]);
    assert_eq!((acme.crawl.interval, other.crawl.interval), (Duration::from_secs(7_200), Duration::from_secs(10_800)));
    assert_eq!((acme.crawl.users_page_size, other.crawl.users_page_size), (50, 50));
    assert_eq!((acme.crawl.apps_page_size, other.crawl.apps_page_size), (200, 100));
    assert_eq!((acme.groups.members, other.groups.members), (GroupMembers::Assigned, GroupMembers::All));
    let rules: Vec<(&str, NameRule)> =
        acme.resolve.name_rules.iter().map(|(name, rule)| (name.as_str(), *rule)).collect();
    assert_eq!(rules, [("Jira", NameRule::IgnoreCase), ("Slack", NameRule::Default), ("Wiki", NameRule::IgnoreCase)]);
    assert_eq!(other.resolve.name_rules.len(), 2);
}

#[test]
fn following_is_set_per_org_and_its_nets_can_be_off() {
    let config = Case::file(
        r#"
        [follow]
        poll_interval = "1s"
        users_delta_interval = "0s"
        quiet = "10m"
        quiet_max = "20m"
        [changes]
        max_rows = 1000
        [orgs.acme]
        domain = "acme.okta.com"
        api_token_file = "token"
        follow = { poll_interval = "2s", users_delta_interval = "1h", relist_interval = "0s", quiet = "20m" }
        brake = { retry_interval = "1h", retry_interval_max = "24h" }
        changes.retention = "30d"
        [orgs.other]
        domain = "other.okta.com"
        api_token_file = "token"
        follow.enabled = false
        "#,
    )
    .config();
    let (acme, other) = (&config.orgs["acme"], &config.orgs["other"]);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!((acme.follow.poll_interval, other.follow.poll_interval), (minutes(1) / 30, minutes(1) / 60));
    assert_eq!((acme.follow.users_delta_interval, other.follow.users_delta_interval), (Some(minutes(60)), None));
    assert_eq!((acme.follow.relist_interval, other.follow.relist_interval), (None, Some(minutes(1440))));
    assert_eq!((acme.follow.apps_interval, other.follow.apps_interval), (Some(minutes(30)), Some(minutes(30))));
    assert_eq!((acme.follow.quiet, acme.follow.quiet_max), (minutes(20), minutes(20)));
    assert_eq!((acme.follow.enabled, other.follow.enabled), (true, false));
    assert_eq!((acme.brake.retry_interval, acme.brake.retry_interval_max), (minutes(60), minutes(1440)));
    assert_eq!((other.brake.retry_interval, other.brake.retry_interval_max), (minutes(1) / 2, minutes(15)));
    assert_eq!((acme.changes.retention, other.changes.retention), (minutes(30 * 1440), minutes(7 * 1440)));
    assert_eq!((acme.changes.max_rows, other.changes.max_rows), (1_000, 1_000));
}

#[test]
fn the_engine_takes_over_what_is_configured() {
    let config = Case::file(
        r#"
        [orgs.acme]
        domain = "acme.okta.com"
        api_token_file = "token"
        crawl.interval = "90m"
        brake = { retry_interval = "2s", retry_interval_max = "7s" }
        changes = { retention = "3h", max_rows = 2000 }
        [orgs.acme.follow]
        enabled = false
        poll_interval = "100ms"
        debounce = "0s"
        quiet = "3ms"
        quiet_max = "4ms"
        second_look = "500ms"
        users_delta_interval = "6s"
        groups_delta_interval = "0s"
        apps_interval = "8s"
        relist_interval = "9s"
        unknown_events_max = 10
        "#,
    )
    .config();
    let settings = OrgSettings::from_config(&config, &config.orgs["acme"]).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(
        settings.follow,
        FollowSettings {
            enabled: false,
            poll_interval: Duration::from_millis(100),
            patience: Patience { debounce_millis: 0, quiet_millis: 3, quiet_millis_max: 4, later_millis: 500 },
            users_delta_interval: Some(seconds(6)),
            groups_delta_interval: None,
            apps_interval: Some(seconds(8)),
            relist_interval: Some(seconds(9)),
            unknown_events_max: 10,
        }
    );
    assert_eq!((settings.crawl_interval, settings.hold_retry), (seconds(5_400), (seconds(2), seconds(7))));
    assert_eq!((settings.change_retention, settings.change_rows_max), (seconds(10_800), 2_000));
}

/// What waits by default is what the core takes for usual.
#[test]
fn the_default_patience_is_the_one_of_the_core() {
    let config = Case::env(&[("OKTA_IDMAP_DOMAIN", "acme.okta.com"), ("OKTA_IDMAP_API_TOKEN", CANARY)]).config();
    let settings = OrgSettings::from_config(&config, config.require_org(None).unwrap()).unwrap();
    assert_eq!(settings.follow.patience, Patience::default());
}

#[test]
fn one_org_needs_no_file() {
    #[track_caller]
    fn check(case: Case, expected_domain: &str) {
        let config = case.config();
        let org = config.require_org(None).unwrap();
        assert_eq!((org.name.as_str(), org.domain.as_str()), ("default", expected_domain));
        assert_eq!(token(&config, "default"), CANARY);
    }
    let ours = [("OKTA_IDMAP_DOMAIN", "acme.okta.com"), ("OKTA_IDMAP_API_TOKEN", CANARY)];
    check(Case::env(&ours), "https://acme.okta.com");
    check(Case::env(&[("BATON_DOMAIN", "acme.okta.com"), ("BATON_API_TOKEN", CANARY)]), "https://acme.okta.com");
    check(Case::env(&ours[..1]).and_env(&[("OKTA_IDMAP_API_TOKEN_FILE", "token-crlf")]), "https://acme.okta.com");
    // A flag wins over a variable, also where it is the other form of the credential.
    let flags =
        Flags { domain: Some("http://127.0.0.1:9".into()), api_token_file: Some("token".into()), ..Flags::default() };
    check(Case::env(&[ours[0], ("OKTA_IDMAP_API_TOKEN", "another")]).and_flags(flags), "http://127.0.0.1:9");
    // Both names with the same value are no conflict.
    check(Case::env(&ours).and_env(&[("BATON_DOMAIN", "acme.okta.com")]), "https://acme.okta.com");
}

#[test]
fn short_forms_mean_the_only_org_of_the_file() {
    let file = "[orgs.acme]\ndomain = 'acme.okta.com'";
    let config = Case::file(file).and_env(&[("OKTA_IDMAP_API_TOKEN", CANARY)]).config();
    assert_eq!(token(&config, "acme"), CANARY);
    assert_eq!(config.orgs.len(), 1);
}

#[test]
fn names_of_the_other_connectors() {
    let config = Case::env(&[
        ("BATON_SKIP_APP_GROUPS", "true"),
        ("BATON_SYNC_INACTIVE_APPS", "0"),
        ("BATON_CIAM", "false"),
        ("BATON_LOG_LEVEL", "none of our business"),
        ("BATON_DOMAIN", "acme.okta.com"),
        ("BATON_API_TOKEN", CANARY),
    ])
    .config();
    let filter = &config.require_org(Some("default")).unwrap().filter;
    assert!(filter.skip_app_groups && !filter.sync_inactive_apps && filter.mode == FilterMode::All);
    for domains in
        ["BATON_EMAIL_DOMAINS", "BATON_FILTER_EMAIL_DOMAINS", "BATON_CIAM_EMAIL_DOMAINS", "BATON_CIAM_EMAIL_DOMAIN"]
    {
        let variables =
            [(domains, "Example.com,*.company.test"), ("BATON_GROUP_NAME_FILTER", "CIAM"), ("BATON_CIAM", "1")];
        let org = [("BATON_DOMAIN", "acme.okta.com"), ("BATON_API_TOKEN", CANARY)];
        let config = Case::env(&variables).and_env(&org).config();
        let filter = &config.require_org(None).unwrap().filter;
        assert_eq!(filter.mode, FilterMode::Ciam);
        let domains: Vec<&str> = filter.email_domains.iter().map(|domain| domain.as_str()).collect();
        assert_eq!(domains, ["*.company.test", "example.com"]);
        assert_eq!(filter.group_name_contains.iter().collect::<Vec<_>>(), ["CIAM"]);
    }
}

#[test]
fn lists_and_tables_in_variables() {
    #[track_caller]
    fn check(value: &'static str, expected: &[&str]) {
        let config = Case::env(&[
            ("OKTA_IDMAP_APPS__EXCLUDE", value),
            ("OKTA_IDMAP_DOMAIN", "acme.okta.com"),
            ("OKTA_IDMAP_API_TOKEN", CANARY),
            ("OKTA_IDMAP_RESOLVE__NAME_RULES", r#"{ "Jira, Cloud" = "exact" }"#),
        ])
        .config();
        let org = &config.orgs["default"];
        assert_eq!(org.apps.exclude, expected.iter().map(ToString::to_string).collect::<BTreeSet<_>>());
        assert_eq!(org.resolve.name_rules["Jira, Cloud"], NameRule::Exact);
    }
    check("Jira", &["Jira"]);
    check("Jira, Slack", &["Jira", "Slack"]);
    check(r#"["Jira, Cloud", 'Slack']"#, &["Jira, Cloud", "Slack"]);
    check("[]", &[]);
}

#[test]
fn every_key_is_a_variable() {
    for key in keys().iter().filter(|key| key.default.is_some()) {
        let suffix = key.path.replace('.', "__").to_uppercase();
        let value = key.default.clone().unwrap();
        // An empty variable counts as unset: a text that is empty by default is set to something else.
        let value = match value.trim_matches('"') {
            "" if key.path == "server.http_listen" => "127.0.0.1:8451".to_owned(),
            "" if key.path.ends_with("_file") => "roots".to_owned(),
            value => value.to_owned(),
        };
        for name in [format!("OKTA_IDMAP_{suffix}"), format!("OKTA_IDMAP_ORGS__ACME__{suffix}")] {
            if name.contains("ORGS__") && !key.per_org {
                continue;
            }
            let env =
                [("OKTA_IDMAP_ORGS__ACME__DOMAIN", "acme.okta.com"), ("OKTA_IDMAP_ORGS__ACME__API_TOKEN", CANARY)]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into_iter()
                    .chain([(name.clone(), value.clone())]);
            // What is of no use alone.
            let others: &[&str] = match key.path.as_str() {
                "server.tls_client_ca_file" => &["SERVER__TLS_CERT_FILE", "SERVER__TLS_KEY_FILE", "SERVER__CLIENTS"],
                "server.tls_client_crl_file" => {
                    &["SERVER__TLS_CERT_FILE", "SERVER__TLS_KEY_FILE", "SERVER__TLS_CLIENT_CA_FILE", "SERVER__CLIENTS"]
                }
                path if path.starts_with("server.tls_") => &["SERVER__TLS_CERT_FILE", "SERVER__TLS_KEY_FILE"],
                "client.cert_file" | "client.key_file" => &["CLIENT__CERT_FILE", "CLIENT__KEY_FILE"],
                _ => &[],
            };
            let others = others.iter().map(|other| format!("OKTA_IDMAP_{other}")).filter(|other| *other != name);
            let value_of = |other: &str| if other.ends_with("CLIENTS") { "{ 'CN=a' = 'read' }" } else { "roots" };
            let env = env.chain(others.map(|other| (other.clone(), value_of(&other).to_owned())).collect::<Vec<_>>());
            let flags = Flags::default();
            let (config, _) = load(Sources { file: None, env, flags }, &read_secret).unwrap();
            // Not merely accepted: the value in force is from it. At the top level the org's line says the same.
            let toml = config.effective_toml();
            assert!(toml.contains(&format!("# environment {name}")), "{name} has no effect:\n{toml}");
        }
    }
}

#[test]
fn warnings_do_not_stop_the_start() {
    #[track_caller]
    fn check(case: Case, expected: Expect) {
        let (_, warnings) = case.run().unwrap();
        let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        expected.assert_eq(&lines.join("\n"));
    }
    let domain = ("OKTA_IDMAP_DOMAIN", "acme.okta.com");
    check(Case::env(&[domain, ("OKTA_IDMAP_API_TOKEN_FILE", "token")]), expect![]);
    check(
        Case::env(&[domain, ("OKTA_IDMAP_API_TOKEN_FILE", "token-wide")]),
        expect!["token-wide holds a secret and has mode 0644, wider than 0600: run chmod 600 on it"],
    );
    let inline = "[orgs.a]\ndomain = 'a.okta.com'\napi_token = '00CanaryTokenNeverShown-abcdefghijklmnop_42'";
    check(
        Case { file_mode: Some(0o644), ..Case::file(inline) },
        expect!["okta-idmap.toml holds a secret and has mode 0644, wider than 0600: run chmod 600 on it"],
    );
    check(
        Case { file_mode: Some(0o640), ..Case::file(inline) },
        expect!["okta-idmap.toml holds a secret and has mode 0640, wider than 0600: run chmod 600 on it"],
    );
    check(Case { file_mode: Some(0o600), ..Case::file(inline) }, expect![]);
    let hidden = [("OKTA_IDMAP_ORGS__A__API_TOKEN", CANARY)];
    check(Case { file_mode: Some(0o644), ..Case::file(inline) }.and_env(&hidden), expect![]);
    check(
        Case::file(
            "[orgs.a]\ndomain = 'a.okta.com'\napi_token_file = 'token'\n[orgs.b]\ndomain = 'https://A.okta.com/'\napi_token_file = 'token'",
        ),
        expect!["orgs a, b all read https://a.okta.com: each of them spends the rate budget of that one Okta org"],
    );
}

#[test]
fn a_command_gets_its_org_or_an_explanation() {
    const TWO: &str = "[orgs.acme]\ndomain = 'a.okta.com'\napi_token_file = 'token'\n[orgs.beta]\ndomain = 'b.okta.com'\napi_token_file = 'token'";
    #[track_caller]
    fn check(file: &'static str, name: Option<&str>, expected: Expect) {
        let config = Case::file(file).config();
        let answer = config.require_org(name);
        expected.assert_eq(&answer.map_or_else(|errors| errors.to_string(), |org| format!("org {}", org.name)));
    }
    check(
        "",
        None,
        expect![
            "no org configured: set OKTA_IDMAP_DOMAIN and OKTA_IDMAP_API_TOKEN, or write [orgs.<name>] with domain and api_token_file into okta-idmap.toml"
        ],
    );
    check(
        "",
        Some("acme"),
        expect![
            "no org configured: set OKTA_IDMAP_DOMAIN and OKTA_IDMAP_API_TOKEN, or write [orgs.<name>] with domain and api_token_file into okta-idmap.toml"
        ],
    );
    check(TWO, None, expect!["several orgs are configured, name one with --org: acme, beta"]);
    check(TWO, Some("beta"), expect!["org beta"]);
    check(TWO, Some("acne"), expect![[r#"no org "acne" is configured (did you mean acme?); configured: acme, beta"#]]);
    check(TWO, Some("../x\n"), expect![[r#"no org "../x\n" is configured; configured: acme, beta"#]]);
}

#[test]
fn filters_are_checked() {
    let org = "[orgs.acme]\ndomain = 'acme.okta.com'\napi_token_file = 'token'\n";
    let check = |text: &str, expected: Expect| {
        check_error(Case::file(Box::leak(format!("{text}\n{org}").into_boxed_str())), expected)
    };
    check(
        "filter = { mode = 'ciam' }",
        expect![[
            r#"okta-idmap.toml:1:12: orgs.acme.filter.mode: "ciam" needs the domains of the people to keep, so that nobody else is stored: set filter.email_domains, for example email_domains = ["example.com"] in [filter] or [orgs.acme.filter], or OKTA_IDMAP_FILTER__EMAIL_DOMAINS; or mode = "all" to keep everybody"#
        ]],
    );
    check(
        "filter = { email_domains = ['@example.com'] }",
        expect![[
            r#"okta-idmap.toml:1:12: filter.email_domains: "@example.com" is no e-mail domain: give the domain alone, without anything before the @"#
        ]],
    );
    check(
        "filter = { email_domains = 7 }",
        expect![[
            r#"okta-idmap.toml:1:12: filter.email_domains: expected a list of domains such as "example.com", or "*.example.com" for its sub-domains, got 7"#
        ]],
    );
    check(
        "filter = { group_name_contains = '' }",
        expect!["okta-idmap.toml:1:12: filter.group_name_contains: an item is empty"],
    );
    check(
        "apps = { skip_app_groups = true }",
        expect!["okta-idmap.toml:1:10: apps.skip_app_groups: is filter.skip_app_groups now: rename it"],
    );
    check(
        "apps = { sync_inactive = true }",
        expect!["okta-idmap.toml:1:10: apps.sync_inactive: is filter.sync_inactive_apps now: rename it"],
    );
    check_error(
        Case::env(&[("OKTA_IDMAP_APPS__SYNC_INACTIVE", "true"), ("OKTA_IDMAP_ORGS__ACME__APPS__SKIP_APP_GROUPS", "1")]),
        expect![[r#"
            OKTA_IDMAP_APPS__SYNC_INACTIVE: unknown variable (did you mean OKTA_IDMAP_FILTER__SYNC_INACTIVE_APPS?); variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml
            OKTA_IDMAP_ORGS__ACME__APPS__SKIP_APP_GROUPS: unknown variable (did you mean OKTA_IDMAP_ORGS__ACME__FILTER__SKIP_APP_GROUPS?); variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml"#]],
    );
    // One alone may stand without brackets, and an org's own list takes the place of the common one.
    let own = "[orgs.acme.filter]\nemail_domains = '*.Müller.example'";
    let common = "filter = { mode = 'ciam', email_domains = ['a.test'], group_name_contains = 'X' }";
    let config = Case::file(Box::leak(format!("{common}\n{org}{own}").into_boxed_str())).config();
    let filter = &config.require_org(None).unwrap().filter;
    assert_eq!(
        filter.email_domains.iter().map(|domain| domain.as_str()).collect::<Vec<_>>(),
        ["*.xn--mller-kva.example"]
    );
    assert_eq!(filter.group_name_contains.iter().collect::<Vec<_>>(), ["X"]);
}

//! The configuration from outside: precedence, every message, hostile input, and that no secret is ever shown.
//!
//! Entry points: [`Case`] for a configuration that loads, [`check_error`] for one that does not.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::{Expect, expect};
use okta_idmap::config::{
    Config, ConfigErrors, ConfigFile, ConfigWarning, Credential, Flags, GroupMembers, LogFormat, NameRule, SecretFile,
    Sources, keys, load,
};
use proptest::prelude::*;

/// No message, listing or `Debug` may hold it. It looks like a real token but for its words.
const CANARY: &str = "00CanaryTokenNeverShown-abcdefghijklmnop_42";

/// Everything that a configuration is loaded from; `run` loads it.
#[derive(Default)]
struct Case {
    file: Option<&'static str>,
    file_mode: Option<u32>,
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
        let file = self.file.map(|text| ConfigFile { path: "okta-idmap.toml".into(), text: text.to_owned(), mode });
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
        "token-denied" => return Err(io::ErrorKind::PermissionDenied.into()),
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    Ok(SecretFile { bytes, mode })
}

fn token(config: &Config, org: &str) -> String {
    let Credential::ApiToken(secret) = &config.orgs[org].credential;
    secret.expose().to_owned()
}

/// Whether the canary is in a text, also after a parser has put a host into lower case.
fn is_shown(text: &str) -> bool {
    text.to_lowercase().contains(&CANARY.to_lowercase())
}

/// The whole message of a configuration that must not load.
#[track_caller]
fn check_error(case: Case, expected: Expect) {
    let errors = case.run().map(|_| ()).unwrap_err();
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
    ])
    .config();
    let (acme, other) = (&config.orgs["acme"], &config.orgs["other-org"]);
    assert_eq!((acme.crawl.interval, other.crawl.interval), (Duration::from_secs(7_200), Duration::from_secs(10_800)));
    assert_eq!((acme.crawl.users_page_size, other.crawl.users_page_size), (50, 50));
    assert_eq!((acme.crawl.apps_page_size, other.crawl.apps_page_size), (200, 100));
    assert_eq!((acme.groups.members, other.groups.members), (GroupMembers::Assigned, GroupMembers::All));
    let rules: Vec<(&str, NameRule)> =
        acme.resolve.name_rules.iter().map(|(name, rule)| (name.as_str(), *rule)).collect();
    assert_eq!(rules, [("Jira", NameRule::Exact), ("Slack", NameRule::Default), ("Wiki", NameRule::IgnoreCase)]);
    assert_eq!(other.resolve.name_rules.len(), 2);
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
    let apps = &config.require_org(Some("default")).unwrap().apps;
    assert!(apps.skip_app_groups && !apps.sync_inactive);
    check_error(
        Case::env(&[("BATON_EMAIL_DOMAINS", "example.com"), ("BATON_GROUP_NAME_FILTER", "CIAM"), ("BATON_CIAM", "1")]),
        expect![[r#"
            BATON_CIAM is set, but filters are not available in this version: everything would be read, also what the filter is there to keep out; unset it if that is what you want
            BATON_EMAIL_DOMAINS is set, but filters are not available in this version: everything would be read, also what the filter is there to keep out; unset it if that is what you want
            BATON_GROUP_NAME_FILTER is set, but filters are not available in this version: everything would be read, also what the filter is there to keep out; unset it if that is what you want"#]],
    );
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
        let value = value.trim_matches('"').to_owned();
        for name in [format!("OKTA_IDMAP_{suffix}"), format!("OKTA_IDMAP_ORGS__ACME__{suffix}")] {
            if name.contains("ORGS__") && !key.per_org {
                continue;
            }
            let env =
                [("OKTA_IDMAP_ORGS__ACME__DOMAIN", "acme.okta.com"), ("OKTA_IDMAP_ORGS__ACME__API_TOKEN", CANARY)]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into_iter()
                    .chain([(name.clone(), value.clone())]);
            let flags = Flags::default();
            let (config, _) = load(Sources { file: None, env, flags }, &read_secret).unwrap();
            // Not merely accepted: the value in force is from it. At the top level the org's line says the same.
            let toml = config.effective_toml();
            assert!(toml.contains(&format!("# {name}")), "{name} has no effect:\n{toml}");
        }
    }
}

#[test]
fn syntax_errors_have_a_place_and_quote_nothing() {
    check_error(
        Case::file("[log]\nlevel = \"info\n[crawl]\ninterval 6h"),
        expect![[r#"
        okta-idmap.toml:2:14: not valid TOML: invalid basic string, expected `"`
        okta-idmap.toml:4:10: not valid TOML: key with no value, expected `=`"#]],
    );
    check_error(
        Case::file("[orgs.acme]\napi_token = 00CanaryTokenNeverShown-abcdefghijklmnop_42"),
        expect![[r#"
        okta-idmap.toml:2:13: not valid TOML: unexpected leading zero, expected nothing
        okta-idmap.toml:2:15: not valid TOML: invalid float, expected nothing"#]],
    );
    check_error(
        Case::file("api_token = \"00CanaryTokenNeverShown-abcdefghijklmnop_42"),
        expect![[r#"okta-idmap.toml:1:57: not valid TOML: invalid basic string, expected `"`"#]],
    );
    check_error(
        Case::file("00CanaryTokenNeverShown-abcdefghijklmnop_42"),
        expect!["okta-idmap.toml:1:44: not valid TOML: key with no value, expected `=`"],
    );
    check_error(
        Case::file("[log]\nlevel = 'info'\nlevel = 'warn'"),
        expect!["okta-idmap.toml:3:1: not valid TOML: duplicate key"],
    );
    check_error(
        Case::file("a = \"\\q\""),
        expect![[
            r#"okta-idmap.toml:1:7: not valid TOML: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\`, `"`, `x`, `u`, `U`"#
        ]],
    );
}

#[test]
fn unknown_keys_are_all_told_with_what_was_meant() {
    check_error(
        Case::file(
            "data_dri = 'x'\n[crawl]\nintervall = '1h'\nusr_page_size = 1\n[oauth]\nkey = 'x'\n[orgs.acme]\ninterval = '1h'\nlog = 'x'\n[orgs.acme.crawl]\nusers = 1",
        ),
        expect![[r#"
            okta-idmap.toml:1:1: unknown key "data_dri" (did you mean data_dir?); valid keys: data_dir, log, server, client, index, crawl, brake, groups, apps, resolve, orgs
            okta-idmap.toml:3:1: unknown key "intervall" (did you mean interval?); valid keys of [crawl]: interval, users_page_size, groups_page_size, group_members_page_size, apps_page_size, app_users_page_size, app_groups_page_size, max_in_flight_per_bucket, rate_limit_reserve
            okta-idmap.toml:4:1: unknown key "usr_page_size" (did you mean users_page_size?); valid keys of [crawl]: interval, users_page_size, groups_page_size, group_members_page_size, apps_page_size, app_users_page_size, app_groups_page_size, max_in_flight_per_bucket, rate_limit_reserve
            okta-idmap.toml:5:2: unknown key "oauth"; valid keys: data_dir, log, server, client, index, crawl, brake, groups, apps, resolve, orgs
            okta-idmap.toml:8:1: unknown key "interval" (did you mean crawl.interval?); valid keys of [orgs.acme]: domain, api_token, api_token_file, crawl, brake, groups, apps, resolve
            okta-idmap.toml:9:1: unknown key "log"; valid keys of [orgs.acme]: domain, api_token, api_token_file, crawl, brake, groups, apps, resolve
            okta-idmap.toml:11:1: unknown key "users"; valid keys of [orgs.acme.crawl]: interval, users_page_size, groups_page_size, group_members_page_size, apps_page_size, app_users_page_size, app_groups_page_size, max_in_flight_per_bucket, rate_limit_reserve
            org acme has no domain: set OKTA_IDMAP_ORGS__ACME__DOMAIN or domain in [orgs.acme]
            org acme has no credential: set OKTA_IDMAP_ORGS__ACME__API_TOKEN_FILE or api_token_file in [orgs.acme]"#]],
    );
    check_error(
        Case::file("domain = 'acme.okta.com'\ninterval = '1h'"),
        expect![[r#"
            okta-idmap.toml:1:1: unknown key "domain" (did you mean orgs.<name>.domain?); valid keys: data_dir, log, server, client, index, crawl, brake, groups, apps, resolve, orgs
            okta-idmap.toml:2:1: unknown key "interval" (did you mean crawl.interval?); valid keys: data_dir, log, server, client, index, crawl, brake, groups, apps, resolve, orgs"#]],
    );
    check_error(
        Case::file("crawl = 5\norgs = 'acme'\n[log.level]\nx = 1"),
        expect![[r#"
        okta-idmap.toml:1:1: crawl: expected a table, [crawl], got 5
        okta-idmap.toml:2:1: orgs: expected a table, [orgs], got a text
        okta-idmap.toml:3:6: log.level: expected a log filter, such as "info" or "warn,okta_idmap=debug", got a table"#]],
    );
    check_error(
        Case::file("[orgs]\nacme = '00CanaryTokenNeverShown-abcdefghijklmnop_42'"),
        expect!["okta-idmap.toml:2:1: orgs.acme: expected a table, [orgs.acme], got a text"],
    );
    check_error(
        Case::file("[orgs]\n'../etc' = {}\nAcme = {}\n'' = {}"),
        expect![[r#"
            okta-idmap.toml:2:1: orgs: "../etc" is no name of an org: it becomes a directory, so up to 63 of a-z, 0-9, _ and -, the first a letter or digit
            okta-idmap.toml:3:1: orgs: "Acme" is no name of an org: it becomes a directory, so up to 63 of a-z, 0-9, _ and -, the first a letter or digit
            okta-idmap.toml:4:1: orgs: "" is no name of an org: it becomes a directory, so up to 63 of a-z, 0-9, _ and -, the first a letter or digit"#]],
    );
}

#[test]
fn unknown_variables_are_told_without_their_values() {
    check_error(
        Case::env(&[
            ("OKTA_IDMAP_API_TOKN", CANARY),
            ("OKTA_IDMAP_CRAWL_INTERVAL", "1h"),
            ("OKTA_IDMAP_ORGS__ACME__CRAWL__INTERVALL", CANARY),
            ("OKTA_IDMAP_ORGS__ACME", CANARY),
            ("OKTA_IDMAP_SOMETHING_ELSE_ALTOGETHER", CANARY),
            ("OKTA_IDMAP_", CANARY),
        ]),
        expect![[r#"
            OKTA_IDMAP_: unknown variable; variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml
            OKTA_IDMAP_API_TOKN: unknown variable (did you mean OKTA_IDMAP_API_TOKEN?); variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml
            OKTA_IDMAP_CRAWL_INTERVAL: unknown variable (did you mean OKTA_IDMAP_CRAWL__INTERVAL?); variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml
            OKTA_IDMAP_ORGS__ACME: unknown variable; variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml
            OKTA_IDMAP_ORGS__ACME__CRAWL__INTERVALL: unknown variable (did you mean OKTA_IDMAP_ORGS__ACME__CRAWL__INTERVAL?); variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml
            OKTA_IDMAP_SOMETHING_ELSE_ALTOGETHER: unknown variable; variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml"#]],
    );
    check_error(
        Case::env(&[("OKTA_IDMAP_ORGS__-X__DOMAIN", "acme.okta.com")]),
        expect![[
            r#"OKTA_IDMAP_ORGS__-X__DOMAIN: orgs: "-x" is no name of an org: it becomes a directory, so up to 63 of a-z, 0-9, _ and -, the first a letter or digit"#
        ]],
    );
}

#[test]
fn values_are_checked_and_the_bounds_told() {
    check_error(
        Case::file(
            r#"
data_dir = ""
[log]
level = "warning"
format = "xml"
[server]
listen = "0.0.0.0:8450"
reflection = "yes"
max_message_bytes = "1GB"
max_concurrent_streams = 0
[client]
server = "https://127.0.0.1:8450"
[index]
commit_interval = "1ms"
writer_heap_bytes = 1000
[crawl]
interval = 6
users_page_size = 201
app_groups_page_size = 19
max_in_flight_per_bucket = 99999999999999999999
rate_limit_reserve = 0.95
[brake]
share = nan
rows = -1
[groups]
members = "some"
[apps]
include = "Jira"
exclude = ["Jira", 5]
built_in = 1
[resolve]
user_statuses = ["active", "DEPROVISIONED"]
app_user_statuses = []
second_email = 2026-01-01
reuse_quarantine = "1y"
[resolve.name_rules]
Jira = "fuzzy"
" " = "exact"
"#,
        ),
        expect![[r#"
            okta-idmap.toml:2:1: data_dir: is empty or holds control characters
            okta-idmap.toml:4:1: log.level: "warning" is none of off, error, warn, info, debug, trace, nor <module>=<level>
            okta-idmap.toml:5:1: log.format: expected one of "text", "json", got "xml"
            okta-idmap.toml:7:1: server.listen: 0.0.0.0:8450 is not a loopback address: this version serves without TLS and without authentication, so anyone who reaches it could read who is who; listen on 127.0.0.1 or [::1] and put a proxy that does both in front
            okta-idmap.toml:8:1: server.reflection: expected true or false, got "yes"
            okta-idmap.toml:9:1: server.max_message_bytes: expected a size from 64KiB to 64MiB, written like "64MB", "64MiB" or a number of bytes, got "1GB"
            okta-idmap.toml:10:1: server.max_concurrent_streams: expected a whole number from 1 to 10000, got 0
            okta-idmap.toml:12:1: client.server: TLS is not available in this version: write http:// and a loopback host
            okta-idmap.toml:14:1: index.commit_interval: expected a duration from 100ms to 1m, written like "15s", "6h" or "1h30m", got "1ms"
            okta-idmap.toml:15:1: index.writer_heap_bytes: expected a size from 15MB to 2GB, written like "64MB", "64MiB" or a number of bytes, got 1000
            okta-idmap.toml:17:1: crawl.interval: expected a duration from 1m to 7d, written like "15s", "6h" or "1h30m", got 6
            okta-idmap.toml:18:1: crawl.users_page_size: expected a whole number from 1 to 200, got 201
            okta-idmap.toml:19:1: crawl.app_groups_page_size: expected a whole number from 20 to 200, got 19
            okta-idmap.toml:20:1: crawl.max_in_flight_per_bucket: expected a whole number from 1 to 10, got a number beyond 64 bits
            okta-idmap.toml:21:1: crawl.rate_limit_reserve: expected a share from 0 to 0.9, got 0.95
            okta-idmap.toml:23:1: brake.share: expected a share from 0 to 1, got NaN
            okta-idmap.toml:24:1: brake.rows: expected a whole number from 0 to 1000000000, got -1
            okta-idmap.toml:26:1: groups.members: expected one of "all", "assigned", got "some"
            okta-idmap.toml:28:1: apps.include: expected a list of texts, got "Jira"
            okta-idmap.toml:29:1: apps.exclude: an item is 5, not a text
            okta-idmap.toml:30:1: apps.built_in: expected true or false, got 1
            okta-idmap.toml:32:1: resolve.user_statuses: "active" is none of ACTIVE, PASSWORD_EXPIRED, RECOVERY, LOCKED_OUT, STAGED, PROVISIONED (did you mean ACTIVE?)
            okta-idmap.toml:33:1: resolve.app_user_statuses: is empty: nobody would be granted anything
            okta-idmap.toml:34:1: resolve.second_email: expected true or false, got a date
            okta-idmap.toml:35:1: resolve.reuse_quarantine: expected a duration from 0s to 365d, written like "15s", "6h" or "1h30m", got "1y"
            okta-idmap.toml:38:1: resolve.name_rules: " " has blanks at its ends or control characters
            okta-idmap.toml:37:1: resolve.name_rules: expected one of "default", "exact", "ignore_case", got "fuzzy""#]],
    );
    check_error(
        Case::env(&[
            ("OKTA_IDMAP_SERVER__REFLECTION", "maybe"),
            ("OKTA_IDMAP_RESOLVE__NAME_RULES", "Jira=exact"),
            ("OKTA_IDMAP_APPS__INCLUDE", "Jira,,Slack"),
            ("OKTA_IDMAP_LOG__LEVEL", "okta_idmap=verbose"),
            ("OKTA_IDMAP_BRAKE__SHARE", "inf"),
        ]),
        expect![[r#"
            OKTA_IDMAP_LOG__LEVEL: log.level: "okta_idmap=verbose" is no log filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5
            OKTA_IDMAP_SERVER__REFLECTION: server.reflection: expected true or false, got "maybe"
            OKTA_IDMAP_BRAKE__SHARE: brake.share: expected a share from 0 to 1, got "inf"
            OKTA_IDMAP_APPS__INCLUDE: apps.include: an item is empty
            OKTA_IDMAP_RESOLVE__NAME_RULES: resolve.name_rules: expected a table like { "Jira" = "exact" }, each value one of "default", "exact", "ignore_case", got "Jira=exact""#]],
    );
    // What is overridden is checked as well.
    check_error(
        Case::file("crawl.interval = 'soon'").and_env(&[("OKTA_IDMAP_CRAWL__INTERVAL", "1h")]),
        expect![[
            r#"okta-idmap.toml:1:7: crawl.interval: expected a duration from 1m to 7d, written like "15s", "6h" or "1h30m", got "soon""#
        ]],
    );
}

#[test]
fn orgs_are_complete_or_refused() {
    check_error(
        Case::file("[orgs.eu-west]\n"),
        expect![[r#"
        org eu-west has no domain: set OKTA_IDMAP_ORGS__EU_WEST__DOMAIN or domain in [orgs.eu-west]
        org eu-west has no credential: set OKTA_IDMAP_ORGS__EU_WEST__API_TOKEN_FILE or api_token_file in [orgs.eu-west]"#]],
    );
    check_error(
        Case::env(&[("OKTA_IDMAP_DOMAIN", "acme-admin.okta.com")]),
        expect![[r#"
        OKTA_IDMAP_DOMAIN: orgs.default.domain: acme-admin.okta.com is the host of the admin console, the org itself is acme.okta.com
        org default has no credential: set --api-token-file, OKTA_IDMAP_API_TOKEN_FILE, OKTA_IDMAP_ORGS__DEFAULT__API_TOKEN_FILE or api_token_file in [orgs.default]"#]],
    );
    check_error(
        Case::file("[orgs.a]\ndomain = 'acme'\n[orgs.b]\ndomain = 5")
            .and_env(&[("OKTA_IDMAP_API_TOKEN", CANARY), ("BATON_DOMAIN", "acme.okta.com")]),
        expect![[r#"
            BATON_DOMAIN: which org is meant? a, b are configured; use OKTA_IDMAP_ORGS__<NAME>__DOMAIN or the key in [orgs.<name>], and unset this one
            OKTA_IDMAP_API_TOKEN: which org is meant? a, b are configured; use OKTA_IDMAP_ORGS__<NAME>__API_TOKEN or the key in [orgs.<name>], and unset this one
            okta-idmap.toml:2:1: orgs.a.domain: "acme" is no full host name, did you mean acme.okta.com?
            org a has no credential: set OKTA_IDMAP_ORGS__A__API_TOKEN_FILE or api_token_file in [orgs.a]
            okta-idmap.toml:4:1: orgs.b.domain: expected an address such as "acme.okta.com", got 5
            org b has no credential: set OKTA_IDMAP_ORGS__B__API_TOKEN_FILE or api_token_file in [orgs.b]"#]],
    );
    check_error(
        Case::file(
            "apps.exclude = ['Jira']\n[orgs.a]\ndomain = 'a.okta.com'\napi_token_file = 'token'\napps.include = ['Jira']",
        ),
        expect![[r#"okta-idmap.toml:5:6: orgs.a.apps.include: "Jira" is also in apps.exclude"#]],
    );
    check_error(
        Case::env(&[("BATON_DOMAIN", "a.okta.com"), ("OKTA_IDMAP_DOMAIN", "b.okta.com"), ("BATON_API_TOKEN", CANARY)]),
        expect!["orgs.default.domain is given twice, by BATON_DOMAIN and by OKTA_IDMAP_DOMAIN: keep one"],
    );
}

#[test]
fn tokens_are_checked_and_never_shown() {
    #[track_caller]
    fn check(env: &[(&'static str, &'static str)], expected: Expect) {
        check_error(Case::env(&[("OKTA_IDMAP_DOMAIN", "acme.okta.com")]).and_env(env), expected);
    }
    check(
        &[("OKTA_IDMAP_API_TOKEN", "00CanaryTokenNeverShown-abcdefghijklmnop_42 x")],
        expect![
            "OKTA_IDMAP_API_TOKEN: orgs.default.api_token: the secret holds blanks, line breaks or characters that no API token has"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN", "00CanaryTokenNeverShown-abcdefghijklmnop_42\r")],
        expect![
            "OKTA_IDMAP_API_TOKEN: orgs.default.api_token: the secret holds blanks, line breaks or characters that no API token has"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN", "SSWS ")],
        expect!["OKTA_IDMAP_API_TOKEN: orgs.default.api_token: the secret is empty"],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN", "***")],
        expect![
            "OKTA_IDMAP_API_TOKEN: orgs.default.api_token: the secret is the mask that `okta-idmap config` prints in its place"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN", CANARY), ("OKTA_IDMAP_API_TOKEN_FILE", "token")],
        expect![
            "the API token of org default is given twice, by OKTA_IDMAP_API_TOKEN and by OKTA_IDMAP_API_TOKEN_FILE: keep one"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN", CANARY), ("BATON_API_TOKEN", "00CanaryTokenNeverShown-other")],
        expect!["orgs.default.api_token is given twice, by BATON_API_TOKEN and by OKTA_IDMAP_API_TOKEN: keep one"],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN_FILE", CANARY)],
        expect![
            "OKTA_IDMAP_API_TOKEN_FILE: orgs.default.api_token_file: this is a token, not the path of a file with one: use api_token"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN_FILE", "missing")],
        expect![
            "OKTA_IDMAP_API_TOKEN_FILE: orgs.default.api_token_file: read secret file missing: cannot be read: entity not found"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN_FILE", "token-denied")],
        expect![
            "OKTA_IDMAP_API_TOKEN_FILE: orgs.default.api_token_file: read secret file token-denied: cannot be read: permission denied"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN_FILE", "token-empty")],
        expect!["OKTA_IDMAP_API_TOKEN_FILE: orgs.default.api_token_file: read secret file token-empty: is empty"],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN_FILE", "token-large")],
        expect![
            "OKTA_IDMAP_API_TOKEN_FILE: orgs.default.api_token_file: read secret file token-large: has more than 65536 bytes"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN_FILE", "token-binary")],
        expect![
            "OKTA_IDMAP_API_TOKEN_FILE: orgs.default.api_token_file: read secret file token-binary: is not UTF-8 text"
        ],
    );
    check(
        &[("OKTA_IDMAP_API_TOKEN_FILE", "token-two-lines")],
        expect![
            "OKTA_IDMAP_API_TOKEN_FILE: orgs.default.api_token_file: the secret holds blanks, line breaks or characters that no API token has"
        ],
    );
    check_error(
        Case::file("[orgs.a]\ndomain = 'a.okta.com'\napi_token = 5\napi_token_file = ['x']"),
        expect!["the API token of org a is given twice, by okta-idmap.toml:3:1 and by okta-idmap.toml:4:1: keep one"],
    );
    check_error(
        Case::file("[orgs.a]\ndomain = 'a.okta.com'\napi_token = ''"),
        expect!["okta-idmap.toml:3:1: orgs.a.api_token: the secret is empty"],
    );
    check_error(
        Case::file(
            "[orgs.a]\ndomain = 'https://00CanaryTokenNeverShown-abcdefghijklmnop_42/'\napi_token_file = 'token'",
        ),
        expect!["okta-idmap.toml:2:1: orgs.a.domain: *** is no full host name, did you mean ***.okta.com?"],
    );
    check_error(
        Case::file("[orgs.a]\ndomain = '00CanaryTokenNeverShown-abcdefghijklmnop_42'"),
        expect![[r#"
            okta-idmap.toml:2:1: orgs.a.domain: is a token, not an address
            org a has no credential: set OKTA_IDMAP_ORGS__A__API_TOKEN_FILE or api_token_file in [orgs.a]"#]],
    );
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
fn the_effective_configuration_names_its_sources() {
    let flags = Flags { listen: Some("[::1]:9000".into()), ..Flags::default() };
    let case = Case::file(
        "[crawl]\ninterval = '90m'\n[resolve.name_rules]\n'Jira \"Cloud\"' = 'exact'\n[orgs.acme]\ndomain = 'acme.okta.com'",
    );
    let env = [("OKTA_IDMAP_API_TOKEN", CANARY), ("OKTA_IDMAP_ORGS__ACME__APPS__EXCLUDE", "Wiki,Slack")];
    let config = case.and_env(&env).and_flags(flags).config();
    let toml = config.effective_toml();
    assert!(!is_shown(&toml) && !is_shown(&format!("{config:?}")));
    expect![[r#"
        data_dir = "./okta-idmap-data" # default

        [log]
        level = "info" # default
        format = "text" # default

        [server]
        listen = "[::1]:9000" # --listen
        reflection = true # default
        max_message_bytes = "4MiB" # default
        max_concurrent_streams = 200 # default

        [client]
        server = "http://[::1]:9000" # --listen

        [index]
        commit_interval = "1s" # default
        writer_heap_bytes = "64MB" # default

        [orgs.acme]
        domain = "https://acme.okta.com" # okta-idmap.toml:6:1
        api_token = "***" # OKTA_IDMAP_API_TOKEN

        [orgs.acme.crawl]
        interval = "1h30m" # okta-idmap.toml:2:1, from [crawl]
        users_page_size = 200 # default
        groups_page_size = 200 # default
        group_members_page_size = 1000 # default
        apps_page_size = 200 # default
        app_users_page_size = 500 # default
        app_groups_page_size = 200 # default
        max_in_flight_per_bucket = 4 # default
        rate_limit_reserve = 0.1 # default

        [orgs.acme.brake]
        share = 0.2 # default
        rows = 50 # default

        [orgs.acme.groups]
        members = "all" # default

        [orgs.acme.apps]
        include = [] # default
        exclude = ["Slack", "Wiki"] # OKTA_IDMAP_ORGS__ACME__APPS__EXCLUDE
        built_in = false # default
        sync_inactive = true # default
        skip_app_groups = false # default

        [orgs.acme.resolve]
        user_statuses = ["ACTIVE", "LOCKED_OUT", "PASSWORD_EXPIRED", "RECOVERY"] # default
        app_user_statuses = ["ACTIVE", "PROVISIONED"] # default
        second_email = false # default
        reuse_quarantine = "24h" # default

        [orgs.acme.resolve.name_rules]
        "Jira \"Cloud\"" = "exact" # okta-idmap.toml:4:1, from [resolve.name_rules]
    "#]]
    .assert_eq(&toml);
    expect![[r#"
        data_dir = "./okta-idmap-data" # default

        [log]
        level = "info" # default
        format = "text" # default

        [server]
        listen = "127.0.0.1:8450" # default
        reflection = true # default
        max_message_bytes = "4MiB" # default
        max_concurrent_streams = 200 # default

        [client]
        server = "http://127.0.0.1:8450" # default

        [index]
        commit_interval = "1s" # default
        writer_heap_bytes = "64MB" # default

        [crawl]
        interval = "6h" # default
        users_page_size = 200 # default
        groups_page_size = 200 # default
        group_members_page_size = 1000 # default
        apps_page_size = 200 # default
        app_users_page_size = 500 # default
        app_groups_page_size = 200 # default
        max_in_flight_per_bucket = 4 # default
        rate_limit_reserve = 0.1 # default

        [brake]
        share = 0.2 # default
        rows = 50 # default

        [groups]
        members = "all" # default

        [apps]
        include = [] # default
        exclude = [] # default
        built_in = false # default
        sync_inactive = true # default
        skip_app_groups = false # default

        [resolve]
        user_statuses = ["ACTIVE", "LOCKED_OUT", "PASSWORD_EXPIRED", "RECOVERY"] # default
        app_user_statuses = ["ACTIVE", "PROVISIONED"] # default
        second_email = false # default
        reuse_quarantine = "24h" # default
    "#]]
    .assert_eq(&Case::default().config().effective_toml());
}

/// What two configurations have in common but for the sources of their values.
fn values(config: &Config) -> String {
    let Config { data_dir, log, server, client, index, orgs, .. } = config;
    format!("{data_dir:?} {log:?} {server:?} {client:?} {index:?} {orgs:#?}")
}

const EXAMPLE: &str = include_str!("../config.example.toml");

#[test]
fn the_example_holds_every_key_with_its_default() {
    assert_eq!(values(&Case::file(EXAMPLE).config()), values(&Case::default().config()));
    let (active, uncommented) = (paths_of(EXAMPLE), paths_of(&uncommented_example()));
    for key in keys() {
        if key.top_level && key.default.is_some() {
            assert!(active.contains(&key.path), "{} is not set in config.example.toml", key.path);
        }
        let path = if key.top_level { key.path } else { format!("orgs.acme.{}", key.path) };
        let mentioned = uncommented.iter().any(|other| *other == path || other.starts_with(&format!("{path}.")));
        assert!(mentioned, "{path} is not in config.example.toml");
    }
}

#[test]
fn the_settings_without_default_of_the_example_are_right_too() {
    // Both forms of the credential stand in the example; one is used at a time.
    let text = uncommented_example().replace("api_token = \"\"", "").replace("/run/secrets/okta-acme", "token");
    let file = Some(ConfigFile { path: "config.example.toml".into(), text, mode: None });
    let (config, _) = load(Sources { file, env: [], flags: Flags::default() }, &read_secret).unwrap();
    assert_eq!(config.require_org(Some("acme")).unwrap().domain.as_str(), "https://acme.okta.com");
}

fn uncommented_example() -> String {
    let setting = |line: &str| line.starts_with('#') && !line.starts_with("# ") && line.len() > 1;
    EXAMPLE.lines().map(|line| if setting(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

fn paths_of(text: &str) -> BTreeSet<String> {
    fn walk(prefix: &str, table: &toml::Table, paths: &mut BTreeSet<String>) {
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::Table(table) => walk(&path, table, paths),
                _ => drop(paths.insert(path)),
            }
        }
    }
    let mut paths = BTreeSet::new();
    walk("", &text.parse().unwrap(), &mut paths);
    paths
}

/// Text that is nearly a configuration: pieces that the parser knows, in any order.
fn nearly_toml() -> impl Strategy<Value = String> {
    let mut pieces: Vec<String> =
        keys().iter().flat_map(|key| key.path.split('.').map(str::to_owned).collect::<Vec<_>>()).collect();
    let literals = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\"",
        "'",
        "\"\"\"",
        "#",
        "orgs",
        "acme",
        "0x7f",
        "-1",
        "1e400",
        "nan",
        "true",
        "1979-05-27",
        "\"1h\"",
        "\"ä\"",
        "\\u0000",
        "\u{feff}",
        "\r",
        "99999999999999999999",
        " ",
        "\"00",
    ];
    pieces.extend(literals.map(str::to_owned));
    prop::collection::vec(prop::sample::select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

fn load_text(text: String, env: Vec<(String, String)>) -> Result<Config, ConfigErrors> {
    let file = Some(ConfigFile { path: "fuzz.toml".into(), text, mode: None });
    load(Sources { file, env, flags: Flags::default() }, &read_secret).map(|(config, _)| config)
}

proptest! {
    // There is no lib.rs beside this file for proptest to keep its seeds at; a failure prints its input.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_file_panics(text in prop_oneof![nearly_toml(), "\\PC{0,200}", "(\\[|a\\.|\\{a=){0,300}"]) {
        if let Err(errors) = load_text(text, Vec::new()) {
            prop_assert!(!errors.to_string().is_empty() && !errors.problems().is_empty());
        }
    }

    #[test]
    fn no_value_panics(index in 0..keys().len(), value in prop_oneof!["\\PC{0,60}", nearly_toml(), "[0-9a-zA-Z.:/@-]{0,20}"], per_org: bool) {
        let suffix = keys()[index].path.replace('.', "__").to_uppercase();
        let name = if per_org { format!("OKTA_IDMAP_ORGS__ACME__{suffix}") } else { format!("OKTA_IDMAP_{suffix}") };
        let _ = load_text(String::new(), vec![(name, value)]).map_err(|errors| errors.to_string());
    }

    #[test]
    fn a_token_is_shown_nowhere(place in 0..keys().len(), as_file: bool, wrap in prop_oneof!["[ \"'\\[{=]{0,2}", Just("'https://".to_owned()), Just("'".to_owned())]) {
        let key = keys()[place].path.clone();
        let text = format!("{key} = {wrap}{CANARY}{wrap}\n[orgs.acme]\n{key} = \"{CANARY}\"");
        let name = format!("OKTA_IDMAP_ORGS__ACME__{}", key.replace('.', "__").to_uppercase());
        let (text, env) = if as_file { (text, vec![]) } else { (String::new(), vec![(name, CANARY.to_owned())]) };
        match load_text(text, env) {
            Err(errors) => prop_assert!(!is_shown(&format!("{errors} {errors:?}")), "{}", errors),
            // A text that may be anything (a label, a directory) is kept as it was given, and is no secret.
            Ok(config) => prop_assert!(config.orgs.is_empty()),
        }
    }

    #[test]
    fn the_effective_configuration_is_read_back_as_itself(
        label in "[^\\p{C}\\p{Z}]{1,20}", minutes in 1..10_000u64, share in 0.0..=1.0f64, heap in 15_000_000..2_000_000_000u64,
    ) {
        let text = format!(
            "index.writer_heap_bytes = {heap}\ncrawl.interval = '{minutes}m'\nbrake.share = {share:?}\n[orgs.acme]\ndomain = 'acme.okta.com'\napi_token_file = 'token'\nresolve.name_rules = {{ {0} = 'exact' }}\napps.include = [{0}]",
            serde_json::to_string(&label).unwrap(),
        );
        let config = load_text(text, Vec::new()).unwrap();
        let again = load_text(config.effective_toml(), Vec::new()).unwrap();
        prop_assert_eq!(values(&again), values(&config));
    }
}

//! Every message of a configuration that does not load, in full: they are what an operator has to work with.
//!
//! Entry point: [`check_error`], which also checks that none shows the canary.

use std::path::PathBuf;

use expect_test::{Expect, expect};
use okta_idmap::config::{CONFIG_FILE_BYTES_MAX, ConfigFile, Flags, ORGS_MAX, Sources, load};

use super::{CANARY, Case, check_error, read_secret};

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
            okta-idmap.toml:1:1: unknown key "data_dri" (did you mean data_dir?); valid keys: data_dir, log, server, client, index, network, crawl, follow, brake, coverage, changes, groups, apps, filter, resolve, orgs
            okta-idmap.toml:3:1: unknown key "intervall" (did you mean interval?); valid keys of [crawl]: interval, users_page_size, groups_page_size, group_members_page_size, apps_page_size, app_users_page_size, app_groups_page_size, max_in_flight_per_bucket, rate_limit_reserve
            okta-idmap.toml:4:1: unknown key "usr_page_size" (did you mean users_page_size?); valid keys of [crawl]: interval, users_page_size, groups_page_size, group_members_page_size, apps_page_size, app_users_page_size, app_groups_page_size, max_in_flight_per_bucket, rate_limit_reserve
            okta-idmap.toml:5:2: unknown key "oauth"; valid keys: data_dir, log, server, client, index, network, crawl, follow, brake, coverage, changes, groups, apps, filter, resolve, orgs
            okta-idmap.toml:8:1: unknown key "interval" (did you mean crawl.interval?); valid keys of [orgs.acme]: domain, api_token, api_token_file, client_id, key_id, private_key, private_key_file, signing_algorithm, scopes, network, crawl, follow, brake, coverage, changes, groups, apps, filter, resolve
            okta-idmap.toml:9:1: unknown key "log"; valid keys of [orgs.acme]: domain, api_token, api_token_file, client_id, key_id, private_key, private_key_file, signing_algorithm, scopes, network, crawl, follow, brake, coverage, changes, groups, apps, filter, resolve
            okta-idmap.toml:11:1: unknown key "users"; valid keys of [orgs.acme.crawl]: interval, users_page_size, groups_page_size, group_members_page_size, apps_page_size, app_users_page_size, app_groups_page_size, max_in_flight_per_bucket, rate_limit_reserve
            org acme has no domain: set OKTA_IDMAP_ORGS__ACME__DOMAIN or domain in [orgs.acme]
            org acme has no credential: set OKTA_IDMAP_ORGS__ACME__API_TOKEN_FILE or api_token_file in [orgs.acme]; or client_id, key_id and private_key_file of an OAuth service app"#]],
    );
    check_error(
        Case::file("domain = 'acme.okta.com'\ninterval = '1h'"),
        expect![[r#"
            okta-idmap.toml:1:1: unknown key "domain" (did you mean orgs.<name>.domain?); valid keys: data_dir, log, server, client, index, network, crawl, follow, brake, coverage, changes, groups, apps, filter, resolve, orgs
            okta-idmap.toml:2:1: unknown key "interval" (did you mean crawl.interval?); valid keys: data_dir, log, server, client, index, network, crawl, follow, brake, coverage, changes, groups, apps, filter, resolve, orgs"#]],
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
http_listen = "0.0.0.0:8451"
reflection = "yes"
max_message_bytes = "1GB"
max_concurrent_streams = 0
[client]
server = "http://10.0.0.1:8450"
[index]
commit_interval = "1ms"
writer_heap_bytes = 1000
[crawl]
interval = 6
users_page_size = 201
app_groups_page_size = 19
max_in_flight_per_bucket = 99999999999999999999
rate_limit_reserve = 0.95
[follow]
enabled = "on"
poll_interval = "99ms"
debounce = "61s"
quiet = "2h"
quiet_max = "2h"
second_look = "0s"
users_delta_interval = "999ms"
groups_delta_interval = "8d"
apps_interval = 0
relist_interval = "never"
unknown_events_max = 0
[brake]
share = nan
rows = -1
retry_interval = "0s"
retry_interval_max = "25h"
[changes]
retention = "59m"
max_rows = 999
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
            okta-idmap.toml:8:1: server.http_listen: 0.0.0.0:8451 is not a loopback address, and health and metrics are told without TLS and to everybody who asks: set server.http_allow_remote = true if the network may have them
            okta-idmap.toml:9:1: server.reflection: expected true or false, got "yes"
            okta-idmap.toml:10:1: server.max_message_bytes: expected a size from 64KiB to 64MiB, written like "64MB", "64MiB" or a number of bytes, got "1GB"
            okta-idmap.toml:11:1: server.max_concurrent_streams: expected a whole number from 1 to 10000, got 0
            okta-idmap.toml:7:1: server.listen: 0.0.0.0:8450 is not a loopback address, and without TLS and without authentication anyone who reaches it could read who is who; set server.tls_cert_file and server.tls_key_file, and [server.tokens], [server.clients] or server.access_file; where something in front of it does both, server.allow_insecure_remote = true
            okta-idmap.toml:13:1: client.server: http:// is for loopback hosts only, write https://10.0.0.1:8450
            okta-idmap.toml:15:1: index.commit_interval: expected a duration from 100ms to 1m, written like "15s", "6h" or "1h30m", got "1ms"
            okta-idmap.toml:16:1: index.writer_heap_bytes: expected a size from 15MB to 2GB, written like "64MB", "64MiB" or a number of bytes, got 1000
            okta-idmap.toml:18:1: crawl.interval: expected a duration from 1m to 7d, written like "15s", "6h" or "1h30m", got 6
            okta-idmap.toml:19:1: crawl.users_page_size: expected a whole number from 1 to 200, got 201
            okta-idmap.toml:20:1: crawl.app_groups_page_size: expected a whole number from 20 to 200, got 19
            okta-idmap.toml:21:1: crawl.max_in_flight_per_bucket: expected a whole number from 1 to 10, got a number beyond 64 bits
            okta-idmap.toml:22:1: crawl.rate_limit_reserve: expected a share from 0 to 0.9, got 0.95
            okta-idmap.toml:24:1: follow.enabled: expected true or false, got "on"
            okta-idmap.toml:25:1: follow.poll_interval: expected a duration from 100ms to 1h, written like "15s", "6h" or "1h30m", got "99ms"
            okta-idmap.toml:26:1: follow.debounce: expected a duration from 0s to 1m, written like "15s", "6h" or "1h30m", got "61s"
            okta-idmap.toml:27:1: follow.quiet: expected a duration from 0s to 1h, written like "15s", "6h" or "1h30m", got "2h"
            okta-idmap.toml:28:1: follow.quiet_max: expected a duration from 0s to 1h, written like "15s", "6h" or "1h30m", got "2h"
            okta-idmap.toml:29:1: follow.second_look: expected a duration from 100ms to 1h, written like "15s", "6h" or "1h30m", got "0s"
            okta-idmap.toml:30:1: follow.users_delta_interval: expected a duration from 1s to 7d, written like "15s", "6h" or "1h30m", or "0s" for never, got "999ms"
            okta-idmap.toml:31:1: follow.groups_delta_interval: expected a duration from 1s to 7d, written like "15s", "6h" or "1h30m", or "0s" for never, got "8d"
            okta-idmap.toml:32:1: follow.apps_interval: expected a duration from 1s to 7d, written like "15s", "6h" or "1h30m", or "0s" for never, got 0
            okta-idmap.toml:33:1: follow.relist_interval: expected a duration from 1s to 7d, written like "15s", "6h" or "1h30m", or "0s" for never, got "never"
            okta-idmap.toml:34:1: follow.unknown_events_max: expected a whole number from 1 to 1000000000, got 0
            okta-idmap.toml:36:1: brake.share: expected a share from 0 to 1, got NaN
            okta-idmap.toml:37:1: brake.rows: expected a whole number from 0 to 1000000000, got -1
            okta-idmap.toml:38:1: brake.retry_interval: expected a duration from 1s to 1h, written like "15s", "6h" or "1h30m", got "0s"
            okta-idmap.toml:39:1: brake.retry_interval_max: expected a duration from 1s to 24h, written like "15s", "6h" or "1h30m", got "25h"
            okta-idmap.toml:41:1: changes.retention: expected a duration from 1h to 365d, written like "15s", "6h" or "1h30m", got "59m"
            okta-idmap.toml:42:1: changes.max_rows: expected a whole number from 1000 to 1000000000, got 999
            okta-idmap.toml:44:1: groups.members: expected one of "all", "assigned", got "some"
            okta-idmap.toml:46:1: apps.include: expected a list of texts, got "Jira"
            okta-idmap.toml:47:1: apps.exclude: an item is 5, not a text
            okta-idmap.toml:48:1: apps.built_in: expected true or false, got 1
            okta-idmap.toml:50:1: resolve.user_statuses: "active" is none of ACTIVE, PASSWORD_EXPIRED, RECOVERY, LOCKED_OUT, STAGED, PROVISIONED (did you mean ACTIVE?)
            okta-idmap.toml:51:1: resolve.app_user_statuses: is empty: nobody would be granted anything
            okta-idmap.toml:52:1: resolve.second_email: expected true or false, got a date
            okta-idmap.toml:53:1: resolve.reuse_quarantine: expected a duration from 0s to 365d, written like "15s", "6h" or "1h30m", got "1y"
            okta-idmap.toml:56:1: resolve.name_rules: " " has blanks at its ends or control characters
            okta-idmap.toml:55:1: resolve.name_rules: expected one of "default", "exact", "ignore_case", got "fuzzy""#]],
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
            OKTA_IDMAP_RESOLVE__NAME_RULES: resolve.name_rules: expected a table like { "a name" = "…" }, each value one of "default", "exact", "ignore_case", got "Jira=exact""#]],
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
fn two_servers_do_not_listen_on_one_address() {
    check_error(
        Case::env(&[("OKTA_IDMAP_SERVER__HTTP_LISTEN", "localhost:8450")]),
        expect![
            "OKTA_IDMAP_SERVER__HTTP_LISTEN: server.http_listen: 127.0.0.1:8450 is also server.listen: gRPC has it"
        ],
    );
    check_error(
        Case::file("[server]\nlisten = '[::1]:9000'\nhttp_listen = '[::1]:9000'")
            .and_env(&[("OKTA_IDMAP_SERVER__HTTP_LISTEN", "")]),
        expect!["okta-idmap.toml:3:1: server.http_listen: [::1]:9000 is also server.listen: gRPC has it"],
    );
    let both_chosen = Case::file("[server]\nlisten = '127.0.0.1:0'\nhttp_listen = '127.0.0.1:0'").config();
    assert_eq!(both_chosen.server.http_listen, Some(both_chosen.server.listen));
}

#[test]
fn orgs_are_complete_or_refused() {
    check_error(
        Case::file("[orgs.eu-west]\n"),
        expect![[r#"
            org eu-west has no domain: set OKTA_IDMAP_ORGS__EU_WEST__DOMAIN or domain in [orgs.eu-west]
            org eu-west has no credential: set OKTA_IDMAP_ORGS__EU_WEST__API_TOKEN_FILE or api_token_file in [orgs.eu-west]; or client_id, key_id and private_key_file of an OAuth service app"#]],
    );
    check_error(
        Case::env(&[("OKTA_IDMAP_DOMAIN", "acme-admin.okta.com")]),
        expect![[r#"
            OKTA_IDMAP_DOMAIN: orgs.default.domain: acme-admin.okta.com is the host of the admin console, the org itself is acme.okta.com
            org default has no credential: set --api-token-file, OKTA_IDMAP_API_TOKEN_FILE, OKTA_IDMAP_ORGS__DEFAULT__API_TOKEN_FILE or api_token_file in [orgs.default]; or client_id, key_id and private_key_file of an OAuth service app"#]],
    );
    check_error(
        Case::file("[orgs.a]\ndomain = 'acme'\n[orgs.b]\ndomain = 5")
            .and_env(&[("OKTA_IDMAP_API_TOKEN", CANARY), ("BATON_DOMAIN", "acme.okta.com")]),
        expect![[r#"
            BATON_DOMAIN: which org is meant? a, b are configured; use OKTA_IDMAP_ORGS__<NAME>__DOMAIN or the key in [orgs.<name>], and unset this one
            OKTA_IDMAP_API_TOKEN: which org is meant? a, b are configured; use OKTA_IDMAP_ORGS__<NAME>__API_TOKEN or the key in [orgs.<name>], and unset this one
            okta-idmap.toml:2:1: orgs.a.domain: "acme" is no full host name, did you mean acme.okta.com?
            org a has no credential: set OKTA_IDMAP_ORGS__A__API_TOKEN_FILE or api_token_file in [orgs.a]; or client_id, key_id and private_key_file of an OAuth service app
            okta-idmap.toml:4:1: orgs.b.domain: expected an address such as "acme.okta.com", got 5
            org b has no credential: set OKTA_IDMAP_ORGS__B__API_TOKEN_FILE or api_token_file in [orgs.b]; or client_id, key_id and private_key_file of an OAuth service app"#]],
    );
    check_error(
        Case::file(
            "apps.exclude = ['Jira']\n[orgs.a]\ndomain = 'a.okta.com'\napi_token_file = 'token'\napps.include = ['Jira']",
        ),
        expect![[r#"okta-idmap.toml:5:6: orgs.a.apps.include: "Jira" is also in apps.exclude"#]],
    );
    check_error(
        Case::file(
            "[follow]\nquiet = '6m'\n[orgs.a]\ndomain = 'a.okta.com'\napi_token_file = 'token'\n[orgs.b]\ndomain = 'b.okta.com'\napi_token_file = 'token'\nfollow.quiet_max = '1m'\nbrake.retry_interval = '20m'\n[orgs.c]\ndomain = 'c.okta.com'\napi_token_file = 'token'\nfollow.quiet_max = '6m'",
        ),
        expect![[r#"
            default: orgs.a.follow.quiet_max: 5m is less than follow.quiet, which is 6m
            okta-idmap.toml:9:8: orgs.b.follow.quiet_max: 1m is less than follow.quiet, which is 6m
            default: orgs.b.brake.retry_interval_max: 15m is less than brake.retry_interval, which is 20m"#]],
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
            org a has no credential: set OKTA_IDMAP_ORGS__A__API_TOKEN_FILE or api_token_file in [orgs.a]; or client_id, key_id and private_key_file of an OAuth service app"#]],
    );
}

#[test]
fn what_has_a_limit_says_it() {
    #[track_caller]
    fn check(text: String, expected: Expect) {
        let file = Some(ConfigFile { path: "okta-idmap.toml".into(), text, mode: None, is_found: false });
        let errors = load(Sources { file, env: [], flags: Flags::default() }, &read_secret).map(|_| ()).unwrap_err();
        expected.assert_eq(&errors.to_string());
    }
    check(
        " ".repeat(CONFIG_FILE_BYTES_MAX + 1),
        expect!["read configuration file okta-idmap.toml: more than 1048576 bytes, which no configuration has"],
    );
    check(
        (0..=ORGS_MAX).map(|org| format!("[orgs.org{org}]\n")).collect(),
        expect!["101 orgs are configured, more than 100: run a second process for the rest"],
    );
    let rules: String = (0..=1_000).map(|app| format!("app{app} = 'exact'\n")).collect();
    check(
        format!("[resolve.name_rules]\n{rules}"),
        expect!["okta-idmap.toml:2:1: resolve.name_rules: has more than 1000 entries"],
    );
    check(
        format!("[apps]\ninclude = [{}]", "'x',".repeat(10_001)),
        expect!["okta-idmap.toml:2:1: apps.include: has more than 10000 items"],
    );
    check(
        format!("[apps]\ninclude = ['{}']", "x".repeat(1_025)),
        expect!["okta-idmap.toml:2:1: apps.include: an item has more than 1024 bytes"],
    );
    check(
        format!("data_dir = '{}'", "x".repeat(1_025)),
        expect!["okta-idmap.toml:1:1: data_dir: has more than 1024 bytes"],
    );
    check(
        format!("[orgs.a]\ndomain = 'a.okta.com'\napi_token = '{}'", "x".repeat(4_097)),
        expect!["okta-idmap.toml:3:1: orgs.a.api_token: the secret has more than 4096 bytes, which no API token has"],
    );
    check(
        format!("[orgs.a]\ndomain = 'a.okta.com'\napi_token_file = '{}'", "x".repeat(1_025)),
        expect!["okta-idmap.toml:3:1: orgs.a.api_token_file: is no path"],
    );
    check(
        format!("{} = 1\n[log]\nlevel = '{}'", "k".repeat(500), "v".repeat(500)),
        expect![[r#"
            okta-idmap.toml:1:1: unknown key "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…"; valid keys: data_dir, log, server, client, index, network, crawl, follow, brake, coverage, changes, groups, apps, filter, resolve, orgs
            okta-idmap.toml:3:1: log.level: "vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv…" is none of off, error, warn, info, debug, trace, nor <module>=<level>"#]],
    );
}

#[test]
fn many_problems_are_counted_and_not_all_told() {
    let text = (0..53).map(|org| format!("orgs.o{org:02}.domain = 'o{org}.okta.com'\n")).collect();
    let file = Some(ConfigFile { path: "okta-idmap.toml".into(), text, mode: None, is_found: false });
    let errors = load(Sources { file, env: [], flags: Flags::default() }, &read_secret).map(|_| ()).unwrap_err();
    assert_eq!(errors.problems().len(), 53);
    let shown = errors.to_string();
    assert_eq!((shown.lines().count(), shown.lines().last()), (51, Some("… and 3 more")));
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_text_is_refused_rather_than_changed() {
    use std::os::unix::ffi::OsStringExt;
    let path = || Some(PathBuf::from(std::ffi::OsString::from_vec(vec![b'x', 0xff])));
    let flags = Flags { data_dir: path(), api_token_file: path(), ..Flags::default() };
    check_error(
        Case::default().and_flags(flags),
        expect![[r#"
        --data-dir: the name or the value is not valid UTF-8
        --api-token-file: the name or the value is not valid UTF-8"#]],
    );
}

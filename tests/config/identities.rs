//! Aliases and overrides of single account names.

use expect_test::{Expect, expect};
use okta_idmap::core::resolve::IdentifierKind;

use super::{Case, check_error};

#[test]
fn aliases_and_overrides_are_lists_of_tables() {
    let config = Case::file(
        r#"
        [orgs.acme]
        domain = "acme.okta.com"
        api_token_file = "token"
        [[orgs.acme.resolve.aliases]]
        app = "0oa1"
        kind = "user_name"
        name = "jdoe-admin"
        user = "00u1"
        [[orgs.acme.resolve.overrides]]
        app = "0oa1"
        name = "j\"doe"
        user = "00u1"
        expires_at = "2027-01-31T01:00:00+01:00"
        reason = "IT-1"
        [[orgs.acme.resolve.overrides]]
        app = "0oa1"
        kind = "email"
        name = "j\"doe"
        user = "00u2"
        expires_at = "2019-01-01T00:00:00Z"
        reason = "over since long, which is no mistake"
        [orgs.other]
        domain = "other.okta.com"
        api_token_file = "token"
        "#,
    )
    .and_env(&[("OKTA_IDMAP_RESOLVE__ALIASES", "[{ app = '0oa2', name = 'x', user = '00u3', kind = 'any' }]")])
    .config();
    let (acme, other) = (&config.orgs["acme"].resolve, &config.orgs["other"].resolve);
    assert_eq!((acme.aliases.len(), acme.overrides.len()), (1, 2));
    assert_eq!((acme.aliases[0].name.as_str(), acme.aliases[0].kind), ("jdoe-admin", IdentifierKind::UserName));
    // An org's own list stands in the place of the top level's.
    assert_eq!((other.aliases[0].app.as_str(), other.overrides.len()), ("0oa2", 0));
    let first = &acme.overrides[0];
    assert_eq!((&*first.entry.name, first.entry.kind), ("j\"doe", IdentifierKind::Untyped));
    assert_eq!(first.entry.expires_at.to_iso(), "2027-01-31T00:00:00.000Z");
    assert_eq!((&*first.reason, &*first.created_by), ("IT-1", "configuration"));
    // What is printed is read back as the same.
    let toml = config.effective_toml();
    assert!(
        toml.contains("aliases = [{ app = \"0oa1\", kind = \"user_name\", name = \"jdoe-admin\", user = \"00u1\" }]"),
        "{toml}"
    );
    let lines: Vec<&str> = toml.lines().filter(|line| line.starts_with("overrides = [{")).collect();
    let [line] = lines.as_slice() else { panic!("{toml}") };
    let text = format!("[orgs.acme]\ndomain = 'acme.okta.com'\napi_token_file = 'token'\n[orgs.acme.resolve]\n{line}");
    assert_eq!(Case::file(text.leak()).config().orgs["acme"].resolve.overrides, acme.overrides);
}

#[test]
fn aliases_and_overrides_say_what_is_wrong_with_which_entry() {
    #[track_caller]
    fn check(text: impl Into<String>, expected: Expect) {
        check_error(Case::file(text.into().leak()), expected);
    }
    let alias =
        |more: &str| format!("[resolve]\naliases = [{{ app = '0oa1', name = 'x', user = '00u1' }}, {{ {more} }}]");
    check(
        "[resolve]\naliases = 'x'",
        expect![[
            r#"okta-idmap.toml:2:1: resolve.aliases: expected a list of tables like { app = "0oa…", name = "jdoe", user = "00u…" }, got "x""#
        ]],
    );
    check(
        "[resolve]\naliases = [1]",
        expect!["okta-idmap.toml:2:1: resolve.aliases: entry 1: expected a table, got 1"],
    );
    check(alias(""), expect!["okta-idmap.toml:2:1: resolve.aliases: entry 2: app is missing"]);
    check(
        alias("app = '0oa1', name = 'x'"),
        expect!["okta-idmap.toml:2:1: resolve.aliases: entry 2 (okta-idmap.toml:2:59): user is missing"],
    );
    check(
        alias("app = 'Jira Cloud', name = 'x', user = '00u1'"),
        expect![[
            r#"okta-idmap.toml:2:1: resolve.aliases: entry 2 (okta-idmap.toml:2:59): app: expected the id of an app, got "Jira Cloud": id holds the character ' ', which no Okta id has"#
        ]],
    );
    check(
        alias("app = '0oa1', name = 'x', user = 'jane@example.com'"),
        expect![[
            r#"okta-idmap.toml:2:1: resolve.aliases: entry 2 (okta-idmap.toml:2:59): user: expected the id of a user, got "jane@example.com": id holds the character '@', which no Okta id has"#
        ]],
    );
    check(
        alias("app = '0oa1', name = '', user = '00u1'"),
        expect!["okta-idmap.toml:2:1: resolve.aliases: entry 2 (okta-idmap.toml:2:59): name: identifier is empty"],
    );
    check(
        alias("app = '0oa1', name = 'x', user = '00u1', kind = 'username'"),
        expect![[
            r#"okta-idmap.toml:2:1: resolve.aliases: entry 2 (okta-idmap.toml:2:59): kind: expected one of "any", "user_name", "external_id", "email", got "username""#
        ]],
    );
    check(
        alias("app = '0oa1', name = 'x', user = '00u1', expires_at = '2027-01-31T00:00:00Z'"),
        expect![[
            r#"okta-idmap.toml:2:1: resolve.aliases: entry 2 (okta-idmap.toml:2:59): unknown key "expires_at"; it takes app, kind, name, user"#
        ]],
    );
    let decided = |more: &str| {
        format!(
            "[[orgs.acme.resolve.overrides]]\napp = '0oa1'\nname = 'x'\nuser = '00u1'\n{more}\n[orgs.acme]\ndomain = 'acme.okta.com'\napi_token_file = 'token'"
        )
    };
    check(
        decided("reason = 'x'"),
        expect![
            "okta-idmap.toml:1:21: orgs.acme.resolve.overrides: entry 1 (okta-idmap.toml:2:1): expires_at is missing"
        ],
    );
    check(
        decided("reason = 'x'\nexpires_at = 2027-01-31T00:00:00Z"),
        expect![
            "okta-idmap.toml:1:21: orgs.acme.resolve.overrides: entry 1 (okta-idmap.toml:2:1): expires_at: expected a text in quotes, got a date"
        ],
    );
    check(
        decided("reason = 'x'\nexpires_at = '2027-01-31'"),
        expect![[
            r#"okta-idmap.toml:1:21: orgs.acme.resolve.overrides: entry 1 (okta-idmap.toml:2:1): expires_at: expected a time like "2027-01-31T00:00:00Z", got "2027-01-31""#
        ]],
    );
    check(
        decided("expires_at = '2027-01-31T00:00:00Z'"),
        expect!["okta-idmap.toml:1:21: orgs.acme.resolve.overrides: entry 1 (okta-idmap.toml:2:1): reason is missing"],
    );
    check(
        decided("expires_at = '2027-01-31T00:00:00Z'\nreason = ' '"),
        expect![
            "okta-idmap.toml:1:21: orgs.acme.resolve.overrides: entry 1 (okta-idmap.toml:2:1): reason: a reason is needed: who reads it later has nothing else to go by"
        ],
    );
    check(
        decided("expires_at = '2027-01-31T00:00:00Z'\nreasn = 'x'"),
        expect![[
            r#"okta-idmap.toml:1:21: orgs.acme.resolve.overrides: entry 1 (okta-idmap.toml:2:1): unknown key "reasn" (did you mean reason?); it takes app, kind, name, user, expires_at, reason"#
        ]],
    );
    let twice = "[[resolve.overrides]]\napp = '0oa1'\nname = 'x'\nuser = '00u1'\nexpires_at = '2027-01-31T00:00:00Z'\nreason = 'x'\n";
    check(
        format!("{twice}{}", twice.replace("00u1", "00u2")),
        expect![
            "okta-idmap.toml:1:11: resolve.overrides: entry 2 (okta-idmap.toml:8:1): another entry is about the same app, kind and name: nobody would be granted"
        ],
    );
}

//! Who may reach the server, and the command line's way to one.

use okta_idmap::config::{ClientConfig, ClientToken};
use okta_idmap::core::access::{Role, TokenHash, token_of};
use okta_idmap::serve::ServerSettings;

use super::*;

/// Of a token that nobody has.
const HASH: &str = "sha256:c3e7c8a0e8e2a5a0b8f5c5f9b7c7a3e0b0a6b4a7e3b9e3a3d5a9f0f0c3b1a2d4";
const TLS: &str = "tls_cert_file = 'a.pem'\ntls_key_file = 'a.key'\n";

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// `[server]` with these lines loads, or the first thing that is wrong.
#[track_caller]
fn check(lines: &str, expected: Expect) {
    let loaded = Case::file(leak(format!("[server]\n{lines}"))).run();
    let errors = loaded.map_or_else(|errors| errors.to_string(), |_| "fine".to_owned());
    assert!(!is_shown(&errors));
    expected.assert_eq(&errors.lines().next().unwrap_or_default().replace("okta-idmap.toml:", ""));
}

#[test]
fn an_address_that_others_reach_needs_tls_and_clients() {
    let tokens = format!("[server.tokens]\na = 'read {HASH}'\n");
    let everywhere = "listen = '0.0.0.0:8450'\n";
    check("listen = '127.0.0.1:8450'", expect!["fine"]);
    check(&format!("listen = '[::1]:8450'\n{tokens}"), expect!["fine"]);
    check(&format!("{everywhere}{TLS}{tokens}"), expect!["fine"]);
    check(
        &format!("{everywhere}{TLS}tls_client_ca_file = 'ca.pem'\n[server.clients]\n'DNS=a.example' = 'admin'"),
        expect!["fine"],
    );
    check(&format!("{everywhere}allow_insecure_remote = true"), expect!["fine"]);
    check(
        everywhere,
        expect![
            "2:1: server.listen: 0.0.0.0:8450 is not a loopback address, and without TLS and without authentication anyone who reaches it could read who is who; set server.tls_cert_file and server.tls_key_file, and [server.tokens], [server.clients] or server.access_file; where something in front of it does both, server.allow_insecure_remote = true"
        ],
    );
    check(
        &format!("{everywhere}{TLS}"),
        expect![
            "2:1: server.listen: 0.0.0.0:8450 is not a loopback address, and without authentication anyone who reaches it could read who is who; set [server.tokens] or server.tls_client_ca_file and [server.clients], here or in a server.access_file; where something in front of it does both, server.allow_insecure_remote = true"
        ],
    );
    check(
        &format!("{everywhere}{tokens}"),
        expect![
            "2:1: server.listen: 0.0.0.0:8450 is not a loopback address, and without TLS tokens and answers could be read on the way; set server.tls_cert_file and server.tls_key_file; where something in front of it does both, server.allow_insecure_remote = true"
        ],
    );
    check(
        &format!("listen = '[::ffff:127.0.0.1]:8450'\n{TLS}"),
        expect![
            "2:1: server.listen: [::ffff:127.0.0.1]:8450 is not a loopback address, and without authentication anyone who reaches it could read who is who; set [server.tokens] or server.tls_client_ca_file and [server.clients], here or in a server.access_file; where something in front of it does both, server.allow_insecure_remote = true"
        ],
    );
    check(
        "http_listen = '0.0.0.0:8451'",
        expect![
            "2:1: server.http_listen: 0.0.0.0:8451 is not a loopback address, and health and metrics are told without TLS and to everybody who asks: set server.http_allow_remote = true if the network may have them"
        ],
    );
    check("http_listen = '0.0.0.0:8451'\nhttp_allow_remote = true", expect!["fine"]);
    check("http_listen = '127.0.0.1:8451'", expect!["fine"]);
}

#[test]
fn the_flag_and_the_variable_are_no_way_around_it() {
    let flags = Flags { listen: Some("192.0.2.1:8450".to_owned()), ..Flags::default() };
    check_error(
        Case::default().and_flags(flags),
        expect![
            "--listen: server.listen: 192.0.2.1:8450 is not a loopback address, and without TLS and without authentication anyone who reaches it could read who is who; set server.tls_cert_file and server.tls_key_file, and [server.tokens], [server.clients] or server.access_file; where something in front of it does both, server.allow_insecure_remote = true"
        ],
    );
    check_error(
        Case::env(&[("OKTA_IDMAP_SERVER__LISTEN", "[::]:8450")]),
        expect![
            "OKTA_IDMAP_SERVER__LISTEN: server.listen: [::]:8450 is not a loopback address, and without TLS and without authentication anyone who reaches it could read who is who; set server.tls_cert_file and server.tls_key_file, and [server.tokens], [server.clients] or server.access_file; where something in front of it does both, server.allow_insecure_remote = true"
        ],
    );
}

#[test]
fn tls_needs_all_its_parts() {
    check(
        "tls_cert_file = 'a.pem'",
        expect!["2:1: server.tls_cert_file: needs its private key: set server.tls_key_file, too"],
    );
    check(
        "tls_key_file = 'a.key'",
        expect!["2:1: server.tls_key_file: needs its certificate: set server.tls_cert_file, too"],
    );
    check(
        "tls_client_ca_file = 'ca.pem'",
        expect![
            "2:1: server.tls_client_ca_file: works with TLS only: set server.tls_cert_file and server.tls_key_file, too"
        ],
    );
    check(
        &format!("{TLS}tls_client_ca_file = 'ca.pem'"),
        expect![
            "4:1: server.tls_client_ca_file: gives no right by itself: name clients in [server.clients], or tokens in [server.tokens], here or in a server.access_file"
        ],
    );
    check(
        &format!("{TLS}[server.clients]\n'CN=a' = 'read'"),
        expect!["5:1: server.clients: names certificates that nobody is asked for: set server.tls_client_ca_file, too"],
    );
    check(
        &format!("{TLS}tls_client_crl_file = 'crl.pem'"),
        expect![
            "4:1: server.tls_client_crl_file: is about certificates that nobody is asked for: set server.tls_client_ca_file, too"
        ],
    );
    check(
        &format!("{TLS}tls_client_certificate = 'maybe'"),
        expect![[r#"4:1: server.tls_client_certificate: expected one of "required", "optional", got "maybe""#]],
    );
}

#[test]
fn a_token_stands_as_its_hash_and_nothing_else() {
    let one = |value: &str| format!("[server.tokens]\nindexer = {value}");
    check(&one(&format!("'explain {HASH}'")), expect!["fine"]);
    check(
        &one(&format!("'{CANARY}'")),
        expect![[
            r#"3:1: server.tokens: an entry is not a role and a hash, as `okta-idmap config token` prints them: "read sha256:…""#
        ]],
    );
    check(
        &one(&format!("'read {CANARY}'")),
        expect![[
            r#"3:1: server.tokens: an entry is not a role and a hash, as `okta-idmap config token` prints them: "read sha256:…""#
        ]],
    );
    check(
        &one(&format!("'owner {HASH}'")),
        expect![[
            r#"3:1: server.tokens: an entry is not a role and a hash, as `okta-idmap config token` prints them: "read sha256:…""#
        ]],
    );
    check(
        &one(&format!("'{HASH}'")),
        expect![[
            r#"3:1: server.tokens: an entry is not a role and a hash, as `okta-idmap config token` prints them: "read sha256:…""#
        ]],
    );
    check(
        &one("7"),
        expect![[
            r#"3:1: server.tokens: an entry is not a role and a hash, as `okta-idmap config token` prints them: "read sha256:…""#
        ]],
    );
    check(
        &format!("[server.tokens]\na = 'read {HASH}'\nb = 'admin {HASH}'"),
        expect![[r#"4:1: server.tokens: "b" has the token of another name: each client has a token of its own"#]],
    );
    check(
        &format!("[server.tokens]\n{} = 'read {HASH}'", "x".repeat(129)),
        expect![[
            r#"3:1: server.tokens: the name "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" has more than 128 bytes"#
        ]],
    );
    let clients = |name: &str| format!("{TLS}tls_client_ca_file = 'ca.pem'\n[server.clients]\n'{name}' = 'read'");
    check(&clients("URI=spiffe://example/search"), expect!["fine"]);
    check(
        &clients("search.example.com"),
        expect![[
            r#"6:1: server.clients: "search.example.com" is no name in a certificate: write "CN=…", "DNS=…" or "URI=…", at most 128 bytes"#
        ]],
    );
}

#[test]
fn who_may_call_is_what_the_tables_say() {
    let token = token_of(&[7; 32]);
    let hash = TokenHash::of(token.expose()).unwrap();
    let text = leak(format!("[server.tokens]\noncall = 'admin {hash}'\n[orgs]\n"));
    let access = Case::file(text).config().server.access;
    let place = access.by_token(&hash).unwrap();
    assert_eq!((access.clients()[place].name.as_str(), access.clients()[place].role), ("oncall", Role::Admin));
    // A variable, too; and of the same name the variable's.
    let env = [("OKTA_IDMAP_SERVER__TOKENS", leak(format!("{{ oncall = 'read {hash}' }}")) as &'static str)];
    let access = Case::file(text).and_env(&env).config().server.access;
    assert_eq!(access.clients()[access.by_token(&hash).unwrap()].role, Role::Read);
}

#[test]
fn a_file_of_clients_that_cannot_be_read_is_told_with_its_key() {
    #[track_caller]
    fn check(make: impl FnOnce(&std::path::Path) -> std::io::Result<()>, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.toml");
        make(&path).unwrap();
        let config = Case::file(leak(format!("[server]\naccess_file = '{}'\n", path.display()))).config();
        let told = config.server.access_file.unwrap().read().unwrap_err().to_string();
        assert_eq!(told.replace(&path.display().to_string(), "FILE"), expected);
    }
    check(
        |_| Ok(()),
        "server.access_file: read FILE (put the file there, or correct the path): No such file or directory (os error 2)",
    );
    check(
        |path| std::fs::create_dir(path),
        "server.access_file: read FILE (name a file: no directory, pipe or device): not a regular file",
    );
    check(
        |path| std::fs::write(path, b"[server]\xff"),
        "server.access_file: read FILE (put the right file there, or correct the path): byte 9 is not UTF-8",
    );
    check(
        |path| std::fs::write(path, vec![b'#'; (1 << 20) + 1]),
        "server.access_file: read FILE (put the right file there, or correct the path): it has more than 1048576 bytes",
    );
}

#[test]
fn a_file_names_clients_beside_the_configuration() {
    /// What a file that names clients comes to, beside these lines of `[server]`.
    fn named(lines: &str, content: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.toml");
        std::fs::write(&path, content).unwrap();
        let lines = format!("[server]\naccess_file = '{}'\n{lines}", path.display());
        let config = Case::file(leak(lines)).config();
        assert!(!config.server.access.is_open());
        let shown = config.server.access_file.unwrap().read().map_or_else(
            |errors| errors.to_string().replace(&path.display().to_string(), "FILE"),
            |access| {
                assert!(!access.is_open());
                let named = access.clients().iter().map(|client| format!("{} {}", client.name, client.role));
                named.collect::<Vec<_>>().join(", ")
            },
        );
        assert!(!is_shown(&shown));
        shown
    }

    #[track_caller]
    fn check(lines: &str, content: &str, expected: Expect) {
        expected.assert_eq(&named(lines, content));
    }
    let other = HASH.replace("sha256:c3", "sha256:c4");
    let own = format!("[server.tokens]\nindexer = 'read {HASH}'\n");
    let certificates = format!("{TLS}tls_client_ca_file = 'ca.pem'\n");
    check("", "", expect![""]);
    check("", "# nobody\n[server.tokens]\n[server.clients]\n", expect![""]);
    check(&own, "", expect!["indexer read"]);
    check(&own, &format!("[server.tokens]\noncall = 'admin {other}'"), expect!["indexer read, oncall admin"]);
    check(
        &format!("{certificates}{own}"),
        "[server.clients]\n'DNS=a.example' = 'explain'",
        expect!["indexer read, DNS=a.example explain"],
    );
    check(
        &own,
        &format!("[server.tokens]\nindexer = 'admin {other}'"),
        expect![[r#"FILE:2:1: server.tokens: "indexer" is named in the configuration file as well: keep one of them"#]],
    );
    check(
        &own,
        &format!("[server.tokens]\nother = 'admin {HASH}'"),
        expect![[
            r#"FILE:2:1: server.tokens: "other" has the token of another name: each client has a token of its own"#
        ]],
    );
    check(
        "",
        "[server.clients]\n'CN=a' = 'read'",
        expect![
            "FILE:1:9: server.clients: names certificates that nobody is asked for: set server.tls_client_ca_file in the configuration"
        ],
    );
    check(
        "",
        &format!("[server.tokens]\na = '{CANARY}'\nb = 'owner {HASH}'"),
        expect![[r#"
            FILE:2:1: server.tokens: an entry is not a role and a hash, as `okta-idmap config token` prints them: "read sha256:…"
            FILE:3:1: server.tokens: an entry is not a role and a hash, as `okta-idmap config token` prints them: "read sha256:…""#]],
    );
    check("", "[server.tokens", expect!["FILE:1:15: not valid TOML: unclosed table, expected `]`"]);
    check(
        "",
        "[server]\nlisten = '0.0.0.0:1'\n[log]\nlevel = 'info'\n[orgs.a]\n",
        expect![[r#"
        FILE:2:1: unknown key "listen"; valid keys of [server]: tokens, clients
        FILE:3:2: unknown key "log"; valid keys: server, orgs
        FILE:5:7: orgs: this file takes [server.tokens] and [server.clients] only"#]],
    );
}

#[test]
fn the_server_has_the_same_defaults_without_a_configuration() {
    let configured = ServerSettings::from_config(&Case::default().config().server);
    let configured = configured.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(format!("{configured:?}"), format!("{:?}", ServerSettings::default()));
}

fn client(file: &'static str, env: &[(&'static str, &'static str)], flags: Flags) -> (ClientConfig, String) {
    let loaded = Case::file(file).and_env(env).and_flags(flags).run();
    let (config, warnings) = loaded.unwrap_or_else(|errors| panic!("{errors}"));
    assert!(!is_shown(&config.effective_toml()) && !is_shown(&format!("{config:?}")));
    (config.client, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn a_token_goes_to_the_server_that_it_is_for() {
    const FILE: &str = "client = { server = 'https://a.example:8450', token_file = 'a.token' }";
    let server = |server: &str| Flags { server: Some(server.to_owned()), ..Flags::default() };
    let file = |path: &str| Some(ClientToken::File(path.into()));
    #[track_caller]
    fn check((client, warnings): (ClientConfig, String), server: &str, token: Option<ClientToken>) {
        assert_eq!((client.server.as_str(), &client.token), (server, &token));
        assert_eq!(client.token_withheld.is_some(), !warnings.is_empty(), "{warnings}");
        assert!(warnings.is_empty() || warnings.contains(&format!("is not sent to {server}")), "{warnings}");
    }
    check(client(FILE, &[], Flags::default()), "https://a.example:8450", file("a.token"));
    check(client(FILE, &[], server("https://A.example:8450/")), "https://a.example:8450", file("a.token"));
    check(client(FILE, &[], server("https://b.example:8450")), "https://b.example:8450", None);
    let elsewhere = [("OKTA_IDMAP_CLIENT__SERVER", "https://b.example:8450")];
    check(client(FILE, &elsewhere, Flags::default()), "https://b.example:8450", None);
    // Without an address the file's token is for the server of the file, which listens here.
    const HERE: &str = "client = { token_file = 'a.token' }";
    check(client(HERE, &[], server("http://127.0.0.1:8450")), "http://127.0.0.1:8450", file("a.token"));
    check(client(HERE, &[], server("http://127.0.0.1:8451")), "http://127.0.0.1:8451", None);
    // Who names both means both.
    let flags = Flags { token_file: Some("b.token".into()), ..server("https://b.example:8450") };
    check(client(FILE, &[], flags), "https://b.example:8450", file("b.token"));
    let env = [("OKTA_IDMAP_CLIENT__TOKEN", CANARY)];
    let (inline, _) = client(FILE, &env, server("https://b.example:8450"));
    let Some(ClientToken::Inline(token)) = inline.token else { panic!("it is given") };
    assert_eq!(token.expose(), CANARY);
    // Whoever writes a file into some directory does not get the token of those who work there.
    check(client(FILE, &env, Flags::default()), "https://a.example:8450", None);
    let flags = || Flags { token_file: Some("b.token".into()), ..Flags::default() };
    check(client(FILE, &[], flags()), "https://a.example:8450", None);
    let named = [("OKTA_IDMAP_CLIENT__SERVER", "https://a.example:8450")];
    check(client(FILE, &named, flags()), "https://a.example:8450", file("b.token"));
    // On this machine, and where nobody names a server, it is the user's own.
    check(
        client("client = { server = 'http://localhost:9000' }", &[], flags()),
        "http://localhost:9000",
        file("b.token"),
    );
    check(client("", &[], flags()), "http://127.0.0.1:8450", file("b.token"));
    let listen = leak(format!("[server]\nlisten = '192.0.2.1:9000'\n{TLS}[server.tokens]\na = 'read {HASH}'"));
    check(client(listen, &[], flags()), "https://192.0.2.1:9000", None);
}

#[test]
fn look_ups_follow_the_server_of_the_same_file() {
    let text = leak(format!("[server]\nlisten = '0.0.0.0:9000'\n{TLS}[server.tokens]\na = 'read {HASH}'"));
    assert_eq!(Case::file(text).config().client.server, "https://127.0.0.1:9000");
}

#[test]
fn what_is_wrong_with_the_client_is_said() {
    let check = |text: &'static str, expected: Expect| check_error(Case::file(text), expected);
    check(
        "client = { cert_file = 'a.pem' }",
        expect!["okta-idmap.toml:1:12: client.cert_file: is of no use alone: set client.key_file, too"],
    );
    check(
        "client = { token = 'short' }",
        expect![
            "okta-idmap.toml:1:12: client.token: the secret is too short: `okta-idmap config token` makes tokens of 48 characters"
        ],
    );
    check(
        "client = { token = '***' }",
        expect![
            "okta-idmap.toml:1:12: client.token: the secret is the mask that `okta-idmap config` prints in its place"
        ],
    );
    check(
        leak(format!("client = {{ token = '{CANARY}', token_file = 'a' }}")),
        expect![
            "the token of the client is given twice, by okta-idmap.toml:1:12 and by okta-idmap.toml:1:67: keep one"
        ],
    );
    check(
        "client = { server = 'http://a.example:8450' }",
        expect![
            "okta-idmap.toml:1:12: client.server: http:// is for loopback hosts only, write https://a.example:8450"
        ],
    );
}

#[test]
fn a_token_in_a_file_for_everybody_is_warned_of() {
    let text = leak(format!("client = {{ token = '{CANARY}' }}"));
    let case = Case { file_mode: Some(0o644), ..Case::file(text) };
    let warnings: Vec<String> = case.run().unwrap().1.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("okta-idmap.toml holds a secret and has mode 0644"), "{warnings:?}");
}

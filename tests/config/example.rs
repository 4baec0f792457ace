//! `config.example.toml`: every key with its default, and those without one as they can be set.

use std::collections::BTreeSet;

use okta_idmap::config::{ConfigFile, Flags, Sources, keys, load};

use super::{Case, read_secret, values};

const EXAMPLE: &str = include_str!("../../config.example.toml");

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
    // All forms of both credentials stand in the example; one is used at a time.
    let app = ["client_id", "key_id", "private_key_file", "signing_algorithm", "scopes"];
    for used in [&["api_token_file"][..], &app] {
        let all = ["api_token", "private_key"].iter().chain(&app).chain(&["api_token_file"]);
        let mut unused: Vec<String> = all.filter(|key| !used.contains(*key)).map(|key| format!("{key} = ")).collect();
        unused.push("token = ".to_owned());
        let text = uncommented_example();
        let lines = text.lines().filter(|line| !unused.iter().any(|start| line.starts_with(start)));
        let text = lines.collect::<Vec<_>>().join("\n");
        let text = text.replace("/run/secrets/okta-acme-key", "key").replace("/run/secrets/okta-acme", "token");
        // The names of certificates are for a server that asks for them.
        let text = ["tls_cert_file", "tls_key_file", "tls_client_ca_file"]
            .iter()
            .fold(text, |text, key| text.replace(&format!("{key} = \"\""), &format!("{key} = \"a.pem\"")));
        let file = Some(ConfigFile { path: "config.example.toml".into(), text, mode: None, is_found: false });
        let (config, _) = load(Sources { file, env: [], flags: Flags::default() }, &read_secret).unwrap();
        assert_eq!(config.require_org(Some("acme")).unwrap().domain.as_str(), "https://acme.okta.com");
        assert!(config.server.access.has_tokens() && config.server.access.has_certificates());
    }
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
    walk("", &text.parse().expect("it is TOML"), &mut paths);
    paths
}

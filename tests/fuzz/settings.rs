//! Configuration files and variables.

use okta_idmap::config::{ConfigFile, Flags, SecretFile, Sources, load};
use proptest::prelude::*;

use crate::runner::{Target, run};

const TOKEN: &str = "00CanaryTokenNeverShown-abcdefghijklmnop_42";

const WORDS: &[&str] = &[
    "[orgs.acme]\n",
    "[crawl]\n",
    "[[",
    "]]",
    "\"\"\"",
    "'''",
    "domain = ",
    "api_token = ",
    "api_token_file = \"token\"\n",
    "= ",
    "\"1h\"",
    "\"0s\"",
    "0x7f",
    "nan",
    "1979-05-27",
    ".",
    "client_id = ",
    "orgs",
    "{",
    "}",
    "#",
    "interval",
    "\"99999999d\"",
    "true",
];

/// Longest report of one problem. A file may have many.
const PROBLEM_CHARS_MAX: usize = 4_000;

#[test]
fn fuzz_configuration() {
    run(&Target { name: "config_file", words: WORDS, cost: 4 }, |input| {
        let text = String::from_utf8_lossy(input).into_owned();
        let read_file = |path: &std::path::Path| match path.to_str() {
            Some("token") => Ok(SecretFile { bytes: TOKEN.as_bytes().to_vec(), mode: Some(0o600) }),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        let loaded = |text: String| {
            let file = Some(ConfigFile { path: "fuzz.toml".into(), text, mode: None, is_found: false });
            load(Sources { file, env: Vec::<(String, String)>::new(), flags: Flags::default() }, &read_file)
        };
        match loaded(text) {
            Ok((config, _)) => {
                let effective = config.effective_toml();
                let shown = format!("{config:?} {effective}");
                prop_assert!(!shown.contains(TOKEN), "the token is shown");
                if !effective.contains("\"***\"") {
                    let again = loaded(effective.clone());
                    prop_assert!(again.is_ok(), "what it writes it does not read: {:?}\n{}", again.err(), effective);
                    let (again, _) = again.unwrap();
                    let without_sources = |toml: &str| -> Vec<String> {
                        toml.lines()
                            .map(|line| line.rsplit_once(" # ").map_or(line, |(line, _)| line).to_owned())
                            .collect()
                    };
                    prop_assert_eq!(without_sources(&again.effective_toml()), without_sources(&effective));
                }
                Ok(true)
            }
            Err(errors) => {
                prop_assert!(!errors.problems().is_empty());
                for problem in errors.problems() {
                    let message = problem.to_string();
                    prop_assert!(
                        !message.is_empty() && message.chars().count() <= PROBLEM_CHARS_MAX,
                        "{} characters",
                        message.len()
                    );
                    prop_assert!(!message.contains(TOKEN), "the token is shown: {message}");
                }
                Ok(false)
            }
        }
    });
}

//! Hostile configurations: nothing panics or hangs, no token is shown, and what is written is read back.

use okta_idmap::config::{CONFIG_FILE_BYTES_MAX, Config, ConfigErrors, ConfigFile, Flags, Sources, keys, load};
use proptest::prelude::*;

use super::{CANARY, is_shown, read_secret, values};

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

/// A file as large as one may be, made of a repeated piece.
fn full(prefix: &str, piece: &str) -> String {
    format!("{prefix}{}", piece.repeat((CONFIG_FILE_BYTES_MAX - prefix.len()) / piece.len()))
}

/// The same, of pieces that differ.
fn numbered(prefix: &str, piece: impl Fn(usize) -> String) -> String {
    let mut text = prefix.to_owned();
    for number in 0.. {
        let piece = piece(number);
        if text.len() + piece.len() >= CONFIG_FILE_BYTES_MAX {
            break;
        }
        text.push_str(&piece);
    }
    text
}

/// What could make the reading quadratic: many keys, many keys on one line, many of a table, deep nesting.
#[test]
fn a_full_file_is_read_in_time() {
    let texts = [
        numbered("", |key| format!("k{key}=1\n")),
        numbered("crawl={", |key| format!("k{key}=1,")) + "}",
        numbered("[resolve.name_rules]\n", |key| format!("k{key}='exact'\n")),
        numbered("", |key| format!("[orgs.o{key}]\n")),
        numbered("apps.include=[", |key| format!("'k{key}',")) + "]",
        full("a=", "["),
        full("a=", "{a="),
        full("", "a."),
        full("a=\"", "\\q"),
        full("", "="),
        full("", "[[a]]\n"),
    ];
    for text in texts {
        let errors = load_text(text, Vec::new()).map(|_| ()).unwrap_err();
        assert!(!errors.to_string().is_empty());
    }
}

fn load_text(text: String, env: Vec<(String, String)>) -> Result<Config, ConfigErrors> {
    let file = Some(ConfigFile { path: "fuzz.toml".into(), text, mode: None, is_found: false });
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

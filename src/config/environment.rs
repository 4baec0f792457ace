//! Environment variables and flags to values. Entry points: [`read`], [`read_flags`].
//!
//! | variable | key |
//! |---|---|
//! | `OKTA_IDMAP_CRAWL__INTERVAL` | `crawl.interval` |
//! | `OKTA_IDMAP_ORGS__ACME__API_TOKEN` | `orgs.acme.api_token` |
//! | `OKTA_IDMAP_DOMAIN`, `OKTA_IDMAP_API_TOKEN`, `OKTA_IDMAP_CLIENT_ID` and others | the same keys of the only org |
//! | `BATON_DOMAIN`, `BATON_API_TOKEN` | likewise |
//! | `BATON_OKTA_CLIENT_ID`, `BATON_OKTA_PRIVATE_KEY_ID`, `BATON_OKTA_PRIVATE_KEY` | `client_id`, `key_id`, the key or its file |
//! | `BATON_EMAIL_DOMAINS`, `BATON_FILTER_EMAIL_DOMAINS`, `BATON_CIAM_EMAIL_DOMAINS`, `BATON_CIAM_EMAIL_DOMAIN` | `filter.email_domains` |
//! | `BATON_CIAM` | `filter.mode` |
//! | `BATON_GROUP_NAME_FILTER` | `filter.group_name_contains` |
//! | `BATON_SKIP_APP_GROUPS`, `BATON_SYNC_INACTIVE_APPS` | `filter.skip_app_groups`, `filter.sync_inactive_apps` |
//!
//! Invariants:
//! - An empty variable is an unset one.
//! - A variable that begins with `OKTA_IDMAP_` and means nothing is an error; its value is never shown.
//! - Every variable of the other connector that asks for a filter is taken: to ignore one would read what the filter keeps
//!   out. Its other variables are none of our business.

use std::path::PathBuf;

use super::Flags;
use super::error::{ConfigError, Source, nearest};
use super::filter::moved;
use super::layers::{Address, Layers, Schema, SchemaKey};
use super::orgs::{DEFAULT_ORG, check_org_name};
use super::spec::{Given, Raw};

const PREFIX: &str = "OKTA_IDMAP_";
/// Names the configuration file; read before all others, by `process`.
pub(super) const CONFIG_VARIABLE: &str = "OKTA_IDMAP_CONFIG";
/// Short forms of an org's keys, without prefix.
const SHORT_FORMS: [&str; 9] = [
    "domain",
    "api_token",
    "api_token_file",
    "client_id",
    "key_id",
    "private_key",
    "private_key_file",
    "signing_algorithm",
    "scopes",
];
/// Holds a key or the path of its file: the other connector takes both.
const BATON_KEY: &str = "BATON_OKTA_PRIVATE_KEY";
/// What people have who come from the ConductorOne connectors: the variable and our key; without a dot, of the only org.
/// The filters have had several names over the versions of those connectors.
const BATON_NAMES: [(&str, &str); 12] = [
    ("BATON_DOMAIN", "domain"),
    ("BATON_API_TOKEN", "api_token"),
    ("BATON_OKTA_CLIENT_ID", "client_id"),
    ("BATON_OKTA_PRIVATE_KEY_ID", "key_id"),
    ("BATON_EMAIL_DOMAINS", "filter.email_domains"),
    ("BATON_FILTER_EMAIL_DOMAINS", "filter.email_domains"),
    ("BATON_CIAM_EMAIL_DOMAINS", "filter.email_domains"),
    ("BATON_CIAM_EMAIL_DOMAIN", "filter.email_domains"),
    (BATON_CIAM, "filter.mode"),
    ("BATON_GROUP_NAME_FILTER", "filter.group_name_contains"),
    ("BATON_SKIP_APP_GROUPS", "filter.skip_app_groups"),
    ("BATON_SYNC_INACTIVE_APPS", "filter.sync_inactive_apps"),
];
/// A switch there, a word here.
const BATON_CIAM: &str = "BATON_CIAM";

/// A value for "the org", which is known only when all orgs are.
pub(super) struct ForOnlyOrg {
    key: &'static str,
    given: Given,
}

/// Puts all variables into the layers; returns those that mean the only org.
pub(super) fn read(
    environment: impl IntoIterator<Item = (String, String)>,
    schema: &Schema,
    layers: &mut Layers,
    problems: &mut Vec<ConfigError>,
) -> Vec<ForOnlyOrg> {
    let mut for_only_org = Vec::new();
    // The order of an environment is chance; errors should not be.
    let mut variables: Vec<(String, String)> = environment
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && (name.starts_with(PREFIX) || name.starts_with("BATON_")))
        .collect();
    variables.sort();
    for (name, value) in variables {
        if let Err(problem) = read_variable(&name, value, schema, layers, &mut for_only_org) {
            problems.push(problem);
        }
    }
    for_only_org
}

fn read_variable(
    name: &str,
    value: String,
    schema: &Schema,
    layers: &mut Layers,
    for_only_org: &mut Vec<ForOnlyOrg>,
) -> Result<(), ConfigError> {
    if name == CONFIG_VARIABLE {
        return Ok(());
    }
    let value = match value.trim() {
        "1" if name == BATON_CIAM => "ciam".to_owned(),
        "0" if name == BATON_CIAM => "all".to_owned(),
        word if name == BATON_CIAM && word.eq_ignore_ascii_case("true") => "ciam".to_owned(),
        word if name == BATON_CIAM && word.eq_ignore_ascii_case("false") => "all".to_owned(),
        _ => value,
    };
    let is_key = value.contains("-----BEGIN") || value.trim_start().starts_with('{');
    let given = Given { raw: Raw::Untyped(value.into()), source: Source::Environment { name: name.to_owned() } };
    if name == BATON_KEY {
        for_only_org.push(ForOnlyOrg { key: if is_key { "private_key" } else { "private_key_file" }, given });
        return Ok(());
    }
    if let Some((_, key)) = BATON_NAMES.iter().find(|(baton_name, _)| *baton_name == name) {
        if key.contains('.') {
            return layers.put(Address::from_path(None, key), given);
        }
        for_only_org.push(ForOnlyOrg { key, given });
        return Ok(());
    }
    let Some(suffix) = name.strip_prefix(PREFIX) else { return Ok(()) };
    let suffix = suffix.to_ascii_lowercase();
    if let Some(key) = SHORT_FORMS.iter().find(|key| **key == suffix) {
        for_only_org.push(ForOnlyOrg { key, given });
        return Ok(());
    }
    let address = match suffix.strip_prefix("orgs__") {
        Some(rest) => org_address(rest, schema, layers),
        None => schema
            .level(false)
            .find(|known| known.variable_suffix().eq_ignore_ascii_case(&suffix))
            .map(|known| Address::new(None, &known.section, &known.key)),
    };
    match address {
        Some(address) => {
            if let Some(Err(reason)) = address.org.as_deref().map(check_org_name) {
                return Err(ConfigError::Refused { at: given.source, key: "orgs".to_owned(), reason });
            }
            layers.put(address, given)
        }
        None => {
            let suggestion = moved_variable(&suffix).or_else(|| suggestion(&suffix, schema));
            Err(ConfigError::UnknownVariable { name: name.to_owned(), suggestion })
        }
    }
}

/// `acme__crawl__interval` → the key of the org. The key is looked for at the end, since a name may hold underscores; a
/// name that differs from an org of the file only by `_` for `-` means that org: few shells take a `-` in a variable.
fn org_address(rest: &str, schema: &Schema, layers: &Layers) -> Option<Address> {
    let (org, known) = schema
        .level(true)
        .filter_map(|known| {
            let suffix = format!("__{}", known.variable_suffix().to_ascii_lowercase());
            Some((rest.strip_suffix(suffix.as_str())?, known))
        })
        .filter(|(org, _)| !org.is_empty())
        // The longest key, that is the shortest name.
        .min_by_key(|(org, _)| org.len())?;
    let dashed: Vec<&String> =
        layers.orgs().keys().filter(|name| *name != org && name.replace('-', "_") == org).collect();
    let org = match dashed.as_slice() {
        [only] if !layers.orgs().contains_key(org) => only.as_str(),
        _ => org,
    };
    Some(Address::new(Some(org), &known.section, &known.key))
}

/// The variable of a key that has another name now.
fn moved_variable(suffix: &str) -> Option<String> {
    let (org, path) = match suffix.strip_prefix("orgs__").and_then(|rest| rest.split_once("__apps__")) {
        Some((org, key)) => (format!("ORGS__{org}__"), ("apps", key)),
        None => (String::new(), suffix.split_once("__")?),
    };
    let new = moved(path.0, path.1)?.replace('.', "__");
    Some(format!("{PREFIX}{org}{new}").to_ascii_uppercase())
}

/// Compared without the prefix: it would make everything look alike.
fn suggestion(suffix: &str, schema: &Schema) -> Option<String> {
    let mut names: Vec<String> = schema.level(false).map(SchemaKey::variable_suffix).collect();
    names.extend(SHORT_FORMS.iter().map(|key| key.to_ascii_uppercase()));
    names.push("CONFIG".to_owned());
    if let Some((org, _)) = suffix.strip_prefix("orgs__").and_then(|rest| rest.split_once("__")) {
        let org = org.to_ascii_uppercase();
        names.extend(schema.level(true).map(|known| format!("ORGS__{org}__{}", known.variable_suffix())));
    }
    nearest(suffix, names.iter().map(String::as_str)).map(|suffix| format!("{PREFIX}{suffix}"))
}

/// Puts the flags into the layers; returns those that mean the only org.
pub(super) fn read_flags(flags: Flags, layers: &mut Layers, problems: &mut Vec<ConfigError>) -> Vec<ForOnlyOrg> {
    let Flags { config: _, data_dir, domain, api_token_file, log_level, log_format, listen, server, token_file } =
        flags;
    let data_dir = path_text("--data-dir", data_dir, problems);
    let token_file = path_text("--token-file", token_file, problems);
    let api_token_file = path_text("--api-token-file", api_token_file, problems);
    let top_level = [
        ("--data-dir", "data_dir", data_dir),
        ("--log-level", "log.level", log_level),
        ("--log-format", "log.format", log_format),
        ("--listen", "server.listen", listen),
        ("--server", "client.server", server),
        ("--token-file", "client.token_file", token_file),
    ];
    for (name, path, value) in top_level {
        if let Some(value) = value {
            let given = Given { raw: Raw::Untyped(value.into()), source: Source::Flag { name } };
            problems.extend(layers.put(Address::from_path(None, path), given).err());
        }
    }
    [("--domain", "domain", domain), ("--api-token-file", "api_token_file", api_token_file)]
        .into_iter()
        .filter_map(|(name, key, value)| {
            Some(ForOnlyOrg { key, given: Given { raw: Raw::Untyped(value?.into()), source: Source::Flag { name } } })
        })
        .collect()
}

fn path_text(name: &str, path: Option<PathBuf>, problems: &mut Vec<ConfigError>) -> Option<String> {
    let text = path?.into_os_string().into_string();
    text.map_err(|_| problems.push(ConfigError::Encoding { name: name.to_owned() })).ok()
}

/// Gives the short forms to the only org, or to [`DEFAULT_ORG`] where there is none. With several orgs they are refused:
/// a credential must not go to an org by guess.
pub(super) fn assign_to_only_org(values: Vec<ForOnlyOrg>, layers: &mut Layers, problems: &mut Vec<ConfigError>) {
    let orgs: Vec<String> = layers.orgs().keys().cloned().collect();
    let org = match orgs.as_slice() {
        [] => DEFAULT_ORG,
        [only] => only,
        _ => {
            problems.extend(values.into_iter().map(|value| {
                let key = value.key.to_ascii_uppercase();
                let instead = format!("{PREFIX}ORGS__<NAME>__{key} or the key in [orgs.<name>], and unset this one");
                ConfigError::OrgUnclear { at: value.given.source, orgs: orgs.clone(), instead }
            }));
            return;
        }
    };
    for value in values {
        problems.extend(layers.put(Address::new(Some(org), "", value.key), value.given).err());
    }
}

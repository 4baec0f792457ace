//! Who gets a secret is not decided by the directory that somebody happens to be in. Entry point: [`check`].
//!
//! A file that nobody named is read where it lies in the working directory, and anybody may have written it: it came with an
//! archive, a checkout, a shared directory. It may say where its own secrets go. One of a variable or flag it may not lead to another
//! host, through a proxy, or to whoever has a certificate of its choice. Which server gets a client's token is decided where that is
//! read ([`super::Withheld`]).

use super::error::{ConfigError, Source};
use super::layers::{Address, Effective, Layers};

/// The forms of an org's secret, and what leads it somewhere: tables and keys.
const OF_ORG: [&str; 4] = ["api_token", "api_token_file", "private_key", "private_key_file"];
const WAY_TO_ORG: [(&str, &str); 3] = [("", "domain"), ("network", "proxy"), ("network", "ca_file")];

/// The same of a client of our own server.
const OF_CLIENT: [&str; 2] = ["token", "token_file"];
const WAY_TO_SERVER: [(&str, &str); 1] = [("client", "ca_file")];

/// Finds what a file that nobody named says of where secrets of others go; `record`: what is in force.
pub(super) fn check(layers: &Layers, record: &[Effective], problems: &mut Vec<ConfigError>) {
    for org in layers.orgs().keys() {
        let secret = source_of(layers, Some(org), "", &OF_ORG);
        check_ways(secret, "credential", Some(org), &WAY_TO_ORG, record, problems);
    }
    let secret = source_of(layers, None, "client", &OF_CLIENT);
    check_ways(secret, "token", None, &WAY_TO_SERVER, record, problems);
}

/// Where the form of a secret that counts is from.
fn source_of<'a>(layers: &'a Layers, org: Option<&str>, section: &str, keys: &[&str]) -> Option<&'a Source> {
    let given = keys.iter().filter_map(|key| layers.get(org, section, key).first());
    given.map(|given| &given.source).min_by_key(|source| source.rank())
}

fn check_ways(
    secret: Option<&Source>,
    what: &str,
    org: Option<&str>,
    ways: &[(&str, &str)],
    record: &[Effective],
    problems: &mut Vec<ConfigError>,
) {
    let Some(secret @ (Source::Environment { .. } | Source::Flag { .. })) = secret else { return };
    for (section, key) in ways {
        let address = Address::new(org, section, key);
        let of_file = |way: &&Effective| way.address == address && matches!(way.source, Source::File { .. });
        // An empty text means that there is none.
        let Some(way) = record.iter().find(of_file).filter(|way| way.rendered != "\"\"") else { continue };
        let reason = format!(
            "is of a file that nobody has named, and the {what} is not ({secret}): what lies in the working directory does not \
             decide where that goes; name the file with --config or OKTA_IDMAP_CONFIG, or give this value by a variable, too"
        );
        problems.push(ConfigError::Refused { at: way.source.clone(), key: address.to_string(), reason });
    }
}

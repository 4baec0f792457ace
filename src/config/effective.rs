//! The configuration in force as TOML. Entry point: [`to_toml`].
//!
//! Invariant: what is written is read back as the same configuration (property test), but for the secrets, which are
//! masked when they are recorded and refused when they are read.

use super::error::Source;
use super::layers::{Address, Effective};

/// Writes the values, table by table, in the order in which they were read. `orgs_shown`: there are orgs, so what they may
/// override is left out at the top level.
pub(super) fn to_toml(record: &[Effective], orgs_shown: bool) -> String {
    let mut toml = String::new();
    let mut table = String::new();
    for effective in record {
        let hidden = effective.address.org.is_none() && orgs_shown && overridden_per_org(&effective.address, record);
        if effective.rendered.is_empty() || hidden {
            continue;
        }
        let header = header(&effective.address);
        if header != table {
            let blank = if toml.is_empty() { "" } else { "\n" };
            toml.push_str(&format!("{blank}[{header}]\n"));
            table = header;
        }
        let Effective { address, rendered, source, .. } = effective;
        let (kind, from) = (kind_of(source), from_top_level(effective));
        toml.push_str(&format!("{} = {rendered} # {kind}{source}{from}\n", address.key));
    }
    toml
}

const fn kind_of(source: &Source) -> &'static str {
    match source {
        Source::Default => "",
        Source::File { .. } => "file ",
        Source::Environment { .. } => "environment ",
        Source::Flag { .. } => "flag ",
    }
}

fn header(address: &Address) -> String {
    match (&address.org, address.section.as_str()) {
        (None, section) => section.to_owned(),
        (Some(org), "") => format!("orgs.{org}"),
        (Some(org), section) => format!("orgs.{org}.{section}"),
    }
}

/// The source says where a value stands; for one that an org has from the top level the reader looks in the wrong table.
fn from_top_level(effective: &Effective) -> String {
    let given = effective.source != Source::Default;
    if effective.inherited && effective.address.org.is_some() && given {
        format!(", from [{}]", effective.address.section)
    } else {
        String::new()
    }
}

fn overridden_per_org(address: &Address, record: &[Effective]) -> bool {
    record.iter().any(|other| {
        other.address.org.is_some() && other.address.section == address.section && !address.section.is_empty()
    })
}

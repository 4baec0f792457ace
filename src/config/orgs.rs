//! The orgs: names, addresses, credentials, and their settings over those of the top level. Entry point: [`read`].
//!
//! Invariants:
//! - An [`OrgConfig`] is complete: it has an address and a usable credential.
//! - A credential is never in an error, a warning or the record of effective values (`credential`).

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use super::SecretFile;
use super::address::OrgUrl;
use super::coverage::CoverageConfig;
use super::credential::{self, Credential};
use super::error::{ConfigError, ConfigWarning, Source, shown};
use super::filter::{self, FilterConfig};
use super::follow::{self, ChangesConfig, FollowConfig};
use super::layers::{Address, Effective, Reader, SchemaKey};
use super::network::NetworkConfig;
use super::settings::{AppsConfig, BrakeConfig, CrawlConfig, GroupsConfig, OrgSettings, ResolveConfig};
use super::spec::{Wrong, quoted};

/// The org that the short forms define where none is configured.
pub(super) const DEFAULT_ORG: &str = "default";
/// Orgs of one process. Each has a store, an index and a writer thread; a hundred is more than any company runs.
pub const ORGS_MAX: usize = 100;
/// Characters of an org's name: it becomes the name of a directory.
const ORG_NAME_CHARS_MAX: usize = 63;
/// An org's name in the configuration: `[a-z0-9][a-z0-9_-]{0,62}`. It is also the name of the org's directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrgName(String);

impl OrgName {
    /// The one door. The error says what a name may be.
    pub fn new(name: &str) -> Result<Self, String> {
        check_org_name(name)?;
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for OrgName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OrgName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn check_org_name(name: &str) -> Result<(), String> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if starts_well && name.chars().all(valid) && name.len() <= ORG_NAME_CHARS_MAX {
        return Ok(());
    }
    Err(format!(
        "{} is no name of an org: it becomes a directory, so up to {ORG_NAME_CHARS_MAX} of a-z, 0-9, _ and -, the first a \
         letter or digit",
        shown(name)
    ))
}

/// One Okta org.
#[derive(Clone, Debug, PartialEq)]
pub struct OrgConfig {
    /// Its name here.
    pub name: OrgName,
    /// Its address; requests and the credential go nowhere else.
    pub domain: OrgUrl,
    /// Its credential.
    pub credential: Credential,
    /// The way to it.
    pub network: NetworkConfig,
    /// How it is crawled.
    pub crawl: CrawlConfig,
    /// How its System Log is followed.
    pub follow: FollowConfig,
    /// When a walk is not believed.
    pub brake: BrakeConfig,
    /// What is too old, and what becomes of rows that can no longer be read.
    pub coverage: CoverageConfig,
    /// How much of what changed is remembered.
    pub changes: ChangesConfig,
    /// What is read of groups.
    pub groups: GroupsConfig,
    /// Which apps are read.
    pub apps: AppsConfig,
    /// What is wanted at all.
    pub filter: FilterConfig,
    /// What is an answer and what is a refusal.
    pub resolve: ResolveConfig,
}

/// The keys that only an org has.
pub(super) fn schema_keys() -> impl Iterator<Item = SchemaKey> {
    let domain = ("domain", "the address of an Okta org, such as \"acme.okta.com\"");
    std::iter::once(domain).chain(credential::KEYS).map(|(key, expects)| SchemaKey {
        section: String::new(),
        key: key.to_owned(),
        expects: expects.to_owned(),
        default: None,
        top_level: false,
        per_org: true,
    })
}

/// Reads all orgs that any source names. Orgs with problems are left out; the problems say why.
pub(super) fn read(
    reader: &mut Reader<'_>,
    base: &OrgSettings,
    read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
    warnings: &mut Vec<ConfigWarning>,
) -> BTreeMap<OrgName, OrgConfig> {
    let layers = reader.layers;
    let mut orgs = BTreeMap::new();
    if layers.orgs().len() > ORGS_MAX {
        reader.problems.push(ConfigError::TooManyOrgs { count: layers.orgs().len(), max: ORGS_MAX });
        return orgs;
    }
    for name in layers.orgs().keys() {
        reader.org = Some(name);
        let domain = read_domain(reader, name);
        let credential = credential::read(reader, name, read_file, warnings);
        let mut settings = OrgSettings::read(reader, Some(base));
        settings.network.read_roots(reader, name, read_file);
        check_apps(reader, name, &settings.apps);
        filter::check(reader, name, &settings.filter);
        follow::check(reader, name, &settings.follow, &settings.brake);
        if let (Ok(name), Some(domain), Some(credential)) = (OrgName::new(name), domain, credential) {
            let OrgSettings { network, crawl, follow, brake, coverage, changes, groups, apps, filter, resolve } =
                settings;
            let org = OrgConfig {
                name: name.clone(),
                domain,
                credential,
                network,
                crawl,
                follow,
                brake,
                coverage,
                changes,
                groups,
                apps,
                filter,
                resolve,
            };
            orgs.insert(name, org);
        }
    }
    reader.org = None;
    warnings.extend(same_domains(&orgs));
    orgs
}

fn read_domain(reader: &mut Reader<'_>, org: &str) -> Option<OrgUrl> {
    let layers = reader.layers;
    let given = layers.get(Some(org), "", "domain");
    if given.is_empty() {
        reader.problems.push(incomplete(org, "domain", "domain", "--domain"));
    }
    let address = Address::new(Some(org), "", "domain");
    let mut domain = None;
    for given in given {
        let parsed = match given.raw.text() {
            Some(text) => OrgUrl::parse(text).map_err(Wrong::Because),
            None => Err(Wrong::Unlike),
        };
        match parsed {
            Ok(url) if domain.is_none() => {
                record(reader, &address, quoted(url.as_str()), &given.source);
                domain = Some(url);
            }
            Ok(_) => {}
            Err(wrong) => reader.refuse(&address, given, wrong, "an address such as \"acme.okta.com\"".to_owned()),
        }
    }
    domain
}

pub(super) fn incomplete(org: &str, what: &'static str, key: &str, flag: &str) -> ConfigError {
    let variable = key.to_ascii_uppercase();
    let flag = if flag.is_empty() { String::new() } else { format!("{flag}, ") };
    let short = if org == DEFAULT_ORG { format!("{flag}OKTA_IDMAP_{variable}, ") } else { String::new() };
    let org_variable = org.to_ascii_uppercase().replace('-', "_");
    let remedy = format!("{short}OKTA_IDMAP_ORGS__{org_variable}__{variable} or {key} in [orgs.{org}]");
    ConfigError::OrgIncomplete { org: org.to_owned(), what, remedy }
}

pub(super) fn record(reader: &mut Reader<'_>, address: &Address, rendered: String, source: &Source) {
    reader.record.push(Effective {
        address: address.clone(),
        rendered,
        source: source.clone(),
        inherited: false,
        expects: String::new(),
    });
}

/// A selector in both sets: whatever we did, one of the two statements would be ignored.
fn check_apps(reader: &mut Reader<'_>, org: &str, apps: &AppsConfig) {
    if let Some(both) = apps.include.intersection(&apps.exclude).next() {
        let address = Address::new(Some(org), "apps", "include");
        let effective = reader.record.iter().find(|effective| effective.address == address);
        let at = effective.map_or(Source::Default, |effective| effective.source.clone());
        let reason = format!("{} is also in apps.exclude", shown(both));
        reader.problems.push(ConfigError::Refused { at, key: address.to_string(), reason });
    }
}

fn same_domains(orgs: &BTreeMap<OrgName, OrgConfig>) -> Vec<ConfigWarning> {
    let mut names: BTreeMap<&OrgUrl, Vec<String>> = BTreeMap::new();
    for org in orgs.values() {
        names.entry(&org.domain).or_default().push(org.name.to_string());
    }
    let shared = names.into_iter().filter(|(_, orgs)| orgs.len() > 1);
    shared.map(|(domain, orgs)| ConfigWarning::SameDomain { orgs, domain: domain.to_string() }).collect()
}

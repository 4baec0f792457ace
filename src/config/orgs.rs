//! The orgs: names, addresses, credentials, and their settings over those of the top level. Entry point: [`read`].
//!
//! Invariants:
//! - An [`OrgConfig`] is complete: it has an address and a usable credential.
//! - A credential is never in an error, a warning or the record of effective values.
//! - Of a credential's two forms (inline, file) the one of the higher source is used; both from one source are refused.
//!   The form that is not used is not looked at: its file may belong to another machine.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::SecretFile;
use super::address::OrgUrl;
use super::error::{ConfigError, ConfigWarning, MASK, Source, looks_like_token, shown};
use super::filter::{self, FilterConfig};
use super::follow::{self, ChangesConfig, FollowConfig};
use super::layers::{Address, Effective, Reader, SchemaKey};
use super::settings::{AppsConfig, BrakeConfig, CrawlConfig, GroupsConfig, OrgSettings, ResolveConfig};
use super::spec::{Given, TEXT_BYTES_MAX, Wrong, quoted};
use crate::core::secret::Secret;

/// The org that the short forms define where none is configured.
pub(super) const DEFAULT_ORG: &str = "default";
/// Orgs of one process. Each has a store, an index and a writer thread; a hundred is more than any company runs.
pub const ORGS_MAX: usize = 100;
/// Characters of an org's name: it becomes the name of a directory.
const ORG_NAME_CHARS_MAX: usize = 63;
/// Bytes of a secret's file. Keys and tokens have some thousand; the limit keeps a wrong path from being read in full.
pub const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an API token. Real ones have 42; what is longer does not fit the header of a request.
const API_TOKEN_BYTES_MAX: usize = 4_096;
/// Permission bits that let others than the owner at a file.
pub(super) const MODE_OTHERS: u32 = 0o077;

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

/// How requests prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The header `Authorization: SSWS <token>` (facts 10.1); without the prefix.
    ApiToken(Secret),
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
    /// How it is crawled.
    pub crawl: CrawlConfig,
    /// How its System Log is followed.
    pub follow: FollowConfig,
    /// When a walk is not believed.
    pub brake: BrakeConfig,
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
    let keys = [
        ("domain", "the address of an Okta org, such as \"acme.okta.com\""),
        ("api_token", "an Okta API token"),
        ("api_token_file", "the path of a file with an Okta API token"),
    ];
    keys.into_iter().map(|(key, expects)| SchemaKey {
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
        let credential = read_credential(reader, name, read_file, warnings);
        let settings = OrgSettings::read(reader, Some(base));
        check_apps(reader, name, &settings.apps);
        filter::check(reader, name, &settings.filter);
        follow::check(reader, name, &settings.follow, &settings.brake);
        if let (Ok(name), Some(domain), Some(credential)) = (OrgName::new(name), domain, credential) {
            let OrgSettings { crawl, follow, brake, changes, groups, apps, filter, resolve } = settings;
            let org = OrgConfig {
                name: name.clone(),
                domain,
                credential,
                crawl,
                follow,
                brake,
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

fn incomplete(org: &str, what: &'static str, key: &str, flag: &str) -> ConfigError {
    let variable = key.to_ascii_uppercase();
    let short = if org == DEFAULT_ORG { format!("{flag}, OKTA_IDMAP_{variable}, ") } else { String::new() };
    let org_variable = org.to_ascii_uppercase().replace('-', "_");
    let remedy = format!("{short}OKTA_IDMAP_ORGS__{org_variable}__{variable} or {key} in [orgs.{org}]");
    ConfigError::OrgIncomplete { org: org.to_owned(), what, remedy }
}

fn record(reader: &mut Reader<'_>, address: &Address, rendered: String, source: &Source) {
    reader.record.push(Effective {
        address: address.clone(),
        rendered,
        source: source.clone(),
        inherited: false,
        expects: String::new(),
    });
}

fn read_credential(
    reader: &mut Reader<'_>,
    org: &str,
    read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
    warnings: &mut Vec<ConfigWarning>,
) -> Option<Credential> {
    let layers = reader.layers;
    let inline = layers.get(Some(org), "", "api_token").first();
    let file = layers.get(Some(org), "", "api_token_file").first();
    if let (Some(inline), Some(file)) = (inline, file)
        && inline.source.rank() == file.source.rank()
    {
        let key = format!("the API token of org {org}");
        let (first, second) = (inline.source.clone(), file.source.clone());
        reader.problems.push(ConfigError::GivenTwice { key, first, second });
        return None;
    }
    let forms = [("api_token", inline), ("api_token_file", file)];
    let given = forms.into_iter().filter_map(|(key, given)| Some((key, given?)));
    let Some((key, given)) = given.min_by_key(|(_, given)| given.source.rank()) else {
        reader.problems.push(incomplete(org, "credential", "api_token_file", "--api-token-file"));
        return None;
    };
    let address = Address::new(Some(org), "", key);
    let secret = if key == "api_token" {
        record(reader, &address, quoted(MASK), &given.source);
        inline_secret(&address, given)
    } else {
        let secret = file_secret(&address, given, read_file, warnings);
        // Recorded only if it was read: a path that is none may be a token.
        if secret.is_ok() {
            record(reader, &address, quoted(given.raw.text().unwrap_or_default()), &given.source);
        }
        secret
    };
    secret.map(Credential::ApiToken).map_err(|problem| reader.problems.push(problem)).ok()
}

fn inline_secret(address: &Address, given: &Given) -> Result<Secret, ConfigError> {
    match given.raw.text() {
        Some(text) => check_token(text, address, &given.source),
        None => {
            let (at, key) = (given.source.clone(), address.to_string());
            Err(ConfigError::Secret { at, key, problem: "is not a text in quotes" })
        }
    }
}

fn file_secret(
    address: &Address,
    given: &Given,
    read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
    warnings: &mut Vec<ConfigWarning>,
) -> Result<Secret, ConfigError> {
    let (at, key) = (given.source.clone(), address.to_string());
    let text = match given.raw.text() {
        Some(text) if !text.is_empty() => text,
        Some(_) => return Err(ConfigError::Refused { at, key, reason: "is empty".to_owned() }),
        None => {
            let expected = "the path of a file".to_owned();
            return Err(ConfigError::Value { at, key, expected, got: given.raw.shown() });
        }
    };
    if looks_like_token(text) {
        let reason = "this is a token, not the path of a file with one: use api_token".to_owned();
        return Err(ConfigError::Refused { at, key, reason });
    }
    if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        return Err(ConfigError::Refused { at, key, reason: "is no path".to_owned() });
    }
    let path = PathBuf::from(text);
    let problem = |problem: &str, source: Option<io::Error>| ConfigError::SecretFile {
        at: at.clone(),
        key: key.clone(),
        path: path.clone(),
        problem: problem.into(),
        source,
    };
    let mut file = read_file(&path).map_err(|error| problem("cannot be read", Some(error)))?;
    if file.bytes.len() > SECRET_FILE_BYTES_MAX {
        return Err(problem(&format!("has more than {SECRET_FILE_BYTES_MAX} bytes"), None));
    }
    // From here on the only copy is in a secret.
    let content = String::from_utf8(std::mem::take(&mut file.bytes))
        .map(Secret::new)
        .map_err(|_| problem("is not UTF-8 text", None))?;
    // Editors and `echo` end a file with a newline; it is not part of the secret.
    let token = content.expose().trim_end_matches(['\n', '\r']);
    if token.is_empty() {
        return Err(problem("is empty", None));
    }
    let token = check_token(token, address, &given.source)?;
    if let Some(mode) = file.mode.filter(|mode| mode & MODE_OTHERS != 0) {
        warnings.push(ConfigWarning::SecretFileMode { path: path.clone(), mode });
    }
    Ok(token)
}

/// The token without the prefix of its header, which people copy along (facts 10.1).
fn check_token(text: &str, address: &Address, source: &Source) -> Result<Secret, ConfigError> {
    let token = match text.get(..5) {
        Some(prefix) if prefix.eq_ignore_ascii_case("SSWS ") => &text[5..],
        _ => text,
    };
    let problem = if token.is_empty() {
        "is empty"
    } else if token == MASK {
        "is the mask that `okta-idmap config` prints in its place"
    } else if token.len() > API_TOKEN_BYTES_MAX {
        "has more than 4096 bytes, which no API token has"
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        "holds blanks, line breaks or characters that no API token has"
    } else {
        return Ok(Secret::new(token.to_owned()));
    };
    Err(ConfigError::Secret { at: source.clone(), key: address.to_string(), problem })
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

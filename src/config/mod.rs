//! The configuration: TOML file, environment and flags become one validated [`Config`]. Entry points: [`load`] (pure, all
//! input handed in) and [`load_from_process`] (reads files and environment).
//!
//! | module | what it is |
//! |---|---|
//! | `settings` | every key with its type, bounds and default |
//! | `follow` | those of following the log and of the change log |
//! | `filter` | those of what is wanted at all |
//! | `identities` | aliases and overrides of single account names |
//! | `network` | those of the way to an org |
//! | `server` | those of the server, who may call it, and those of its clients |
//! | `orgs`, `credential` | orgs and addresses; their credentials |
//! | `led_away` | who gets a secret is not decided by the directory that somebody happens to be in |
//! | `spec`, `units`, `address` | how values are read and written |
//! | `file`, `environment` | sources to values with places |
//! | `layers` | precedence: flags, environment, file, default; an org's own value over the top level's |
//! | `error`, `effective` | what was wrong, what is in force |
//! | `process` | the only part that reads files and the environment |
//!
//! Invariants:
//! - What is in a [`Config`] is valid; nothing downstream checks it again.
//! - All problems that can be found are found in one run, each with its place.
//! - No secret is in an error, a warning, a `Debug` or the effective configuration.
//! - An unknown key or variable is an error: a misspelt filter must not be silently without effect.

mod access;
mod address;
mod coverage;
mod credential;
mod effective;
mod environment;
mod error;
mod file;
mod filter;
mod follow;
mod identities;
mod layers;
mod led_away;
mod network;
mod orgs;
mod process;
mod server;
mod settings;
mod spec;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroize;

pub use access::AccessFile;
pub use address::OrgUrl;
pub(crate) use address::is_of_this_machine;
pub use coverage::CoverageConfig;
pub use credential::{Credential, SECRET_FILE_BYTES_MAX, ServiceAppConfig};
pub(crate) use error::read_remedy;
pub use error::{ConfigError, ConfigErrors, ConfigWarning, Source, ValidKeys};
pub use filter::{FilterConfig, FilterMode};
pub use follow::{ChangesConfig, FollowConfig};
pub use network::{NetworkConfig, ProxyConfig, ROOTS_FILE_BYTES_MAX};
pub use orgs::{ORGS_MAX, OrgConfig, OrgName};
pub use process::load_from_process;
pub(crate) use process::{REVOCATION_LISTS_BYTES_MAX, read_revocation_lists, read_secret_file};
pub(crate) use server::check_token;
pub use server::{ClientConfig, ClientToken, ServerConfig, ServerTlsConfig, Withheld};
pub use settings::{
    AppsConfig, BrakeConfig, CrawlConfig, GroupMembers, GroupsConfig, IndexConfig, LogConfig, LogFormat, NameRule,
    ResolveConfig,
};
pub(crate) use units::parse_duration;

use layers::{Effective, Layers, Reader, Schema, SchemaKey};
use settings::{OrgSettings, TopLevel};

/// Bytes of a configuration file. A hundred orgs with every key take some hundred KiB.
pub const CONFIG_FILE_BYTES_MAX: usize = 1 << 20;

/// Everything that the process is told by its operator.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the orgs' directories are.
    pub data_dir: PathBuf,
    /// How to log.
    pub log: LogConfig,
    /// The gRPC server.
    pub server: ServerConfig,
    /// The look-ups of the command line.
    pub client: ClientConfig,
    /// The search index.
    pub index: IndexConfig,
    /// The orgs. May be empty: not every command needs one; see [`Config::require_org`].
    pub orgs: BTreeMap<OrgName, OrgConfig>,
    effective: Vec<Effective>,
}

impl Config {
    /// The org that a command is about: the named one, or the only one. The error says what to set, or which orgs there
    /// are.
    pub fn require_org(&self, name: Option<&str>) -> Result<&OrgConfig, ConfigErrors> {
        let names = || self.orgs.keys().map(ToString::to_string).collect::<Vec<_>>();
        match name {
            _ if self.orgs.is_empty() => Err(ConfigError::NoOrg.into()),
            Some(name) => self.orgs.get(name).ok_or_else(|| {
                let suggestion = error::nearest(name, self.orgs.keys().map(OrgName::as_str));
                ConfigError::UnknownOrg { name: name.to_owned(), suggestion, orgs: names() }.into()
            }),
            None => match self.orgs.values().collect::<Vec<_>>().as_slice() {
                [only] => Ok(only),
                _ => Err(ConfigError::OrgRequired { orgs: names() }.into()),
            },
        }
    }

    /// The configuration in force as TOML: every key with its value, secrets as `"***"`, and where the value came from as
    /// a comment. What orgs may override is shown per org, since that is what counts; at the top level only without orgs.
    pub fn effective_toml(&self) -> String {
        effective::to_toml(&self.effective, !self.orgs.is_empty())
    }
}

/// The flags of the command line that are configuration. There is none for a token: others can read a command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: the configuration file.
    pub config: Option<PathBuf>,
    /// `--data-dir`: overrides `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `--domain`: the address of the only org.
    pub domain: Option<String>,
    /// `--api-token-file`: the file with the API token of the only org.
    pub api_token_file: Option<PathBuf>,
    /// `--log-level`: overrides `log.level`.
    pub log_level: Option<String>,
    /// `--log-format`: overrides `log.format`.
    pub log_format: Option<String>,
    /// `--listen`: overrides `server.listen`.
    pub listen: Option<String>,
    /// `--server`: overrides `client.server`.
    pub server: Option<String>,
    /// `--token-file`: overrides `client.token_file`.
    pub token_file: Option<PathBuf>,
}

/// The text of a configuration file; zeroed when it is dropped.
pub struct ConfigFile {
    /// Its path as it was named; only for messages.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
    /// Its permission bits, where the system has some: a file with a token in it should be its owner's only.
    pub mode: Option<u32>,
    /// Nobody named it, it lay in the working directory: what it says does not decide who gets a secret that it does not hold.
    pub is_found: bool,
}

impl Drop for ConfigFile {
    fn drop(&mut self) {
        // A token may stand in it.
        self.text.zeroize();
    }
}

/// Everything that a configuration is made from.
pub struct Sources<E> {
    /// The configuration file, if there is one.
    pub file: Option<ConfigFile>,
    /// All environment variables; those of others are skipped.
    pub env: E,
    /// The flags.
    pub flags: Flags,
}

/// What was read from a file that holds a secret; its bytes are zeroed when it is dropped.
pub struct SecretFile {
    /// The content, at most [`ROOTS_FILE_BYTES_MAX`] + 1 bytes, the most that any such file may have: one more shows that the
    /// file is too large. Secrets may have [`SECRET_FILE_BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// The permission bits, where the system has some.
    pub mode: Option<u32>,
}

impl SecretFile {
    /// What to say where others than its owner can read or change it.
    pub fn mode_warning(&self, path: &Path) -> Option<ConfigWarning> {
        let mode = self.mode.filter(|mode| mode & credential::MODE_OTHERS != 0)?;
        Some(ConfigWarning::SecretFileMode { path: path.to_owned(), mode })
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// Makes the configuration from its sources. `read_file` reads the files that hold secrets or certificates.
///
/// Errors: all that were found, in the order file, environment, flags, values, orgs. A file that is no TOML hides what
/// its values would be, so then only its syntax errors and those of names elsewhere are told.
pub fn load<E: IntoIterator<Item = (String, String)>>(
    sources: Sources<E>,
    read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
) -> Result<(Config, Vec<ConfigWarning>), ConfigErrors> {
    let Sources { file, env, flags } = sources;
    let schema = schema();
    let (mut layers, mut problems, mut record, mut warnings) = (Layers::default(), Vec::new(), Vec::new(), Vec::new());
    let file_readable = file.as_ref().is_none_or(|file| {
        if file.text.len() > CONFIG_FILE_BYTES_MAX {
            problems.push(ConfigError::FileTooLarge { path: file.path.clone(), max: CONFIG_FILE_BYTES_MAX });
            return false;
        }
        file::read(&file.path, &file.text, &schema, &mut layers, &mut problems)
    });
    // Orgs of file and environment must be known before "the only org" means something.
    let mut for_only_org = environment::read(env, &schema, &mut layers, &mut problems);
    for_only_org.extend(environment::read_flags(flags, &mut layers, &mut problems));
    if !file_readable {
        ConfigErrors::check(std::mem::take(&mut problems))?;
    }
    environment::assign_to_only_org(for_only_org, &mut layers, &mut problems);

    let mut reader = Reader { layers: &layers, org: None, problems: &mut problems, record: &mut record };
    let TopLevel { data_dir, log, server, client, index, org: base } = TopLevel::read(&mut reader);
    let orgs = orgs::read(&mut reader, &base, read_file, &mut warnings);
    if file.as_ref().is_some_and(|file| file.is_found) {
        led_away::check(&layers, &record, &mut problems);
    }
    ConfigErrors::check(problems)?;

    warnings
        .extend(client.token_withheld.map(|why| ConfigWarning::TokenWithheld { server: client.server.clone(), why }));
    warnings.extend(file.and_then(|file| inline_secret_warning(&file, &record)));
    Ok((Config { data_dir, log, server, client, index, orgs, effective: record }, warnings))
}

/// A token or key that stands in the configuration file itself makes that a secret's file.
fn inline_secret_warning(file: &ConfigFile, record: &[Effective]) -> Option<ConfigWarning> {
    let mode = file.mode.filter(|mode| mode & credential::MODE_OTHERS != 0)?;
    record
        .iter()
        .any(|effective| {
            let is_secret = matches!(effective.address.key.as_str(), "api_token" | "private_key" | "token");
            is_secret && matches!(effective.source, Source::File { .. })
        })
        .then(|| ConfigWarning::SecretFileMode { path: file.path.clone(), mode })
}

/// One key, for documentation and for the test of `config.example.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDescription {
    /// `crawl.interval`; for an org the same under `orgs.<name>`.
    pub path: String,
    /// What it takes, readable after "expected".
    pub expects: String,
    /// Its default as TOML, if it has one.
    pub default: Option<String>,
    /// Whether it may stand at the top level.
    pub top_level: bool,
    /// Whether it may stand in `[orgs.<name>]`.
    pub per_org: bool,
}

/// Every key that exists.
pub fn keys() -> Vec<KeyDescription> {
    let describe = |key: SchemaKey| KeyDescription {
        path: key.path(),
        expects: key.expects,
        default: key.default,
        top_level: key.top_level,
        per_org: key.per_org,
    };
    schema().keys.into_iter().map(describe).collect()
}

/// Reads an empty configuration and looks at what was asked for.
fn schema() -> Schema {
    let layers = Layers::default();
    let (mut problems, mut top_level, mut per_org) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = Reader { layers: &layers, org: None, problems: &mut problems, record: &mut top_level };
    TopLevel::read(&mut reader);
    let mut reader = Reader { layers: &layers, org: None, problems: &mut problems, record: &mut per_org };
    OrgSettings::read(&mut reader, None);
    let mut keys: Vec<SchemaKey> = orgs::schema_keys().collect();
    keys.extend(top_level.into_iter().map(|effective| SchemaKey {
        per_org: per_org.iter().any(|other| other.address == effective.address),
        section: effective.address.section,
        key: effective.address.key,
        expects: effective.expects,
        default: Some(effective.rendered).filter(|rendered| !rendered.is_empty()),
        top_level: true,
    }));
    Schema { keys }
}

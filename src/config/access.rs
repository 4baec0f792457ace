//! Who may call the server: `[server.tokens]` and `[server.clients]`, in the configuration and in the file that
//! `server.access_file` names. Entry points: [`read_access`], [`AccessFile::read`].
//!
//! Invariants:
//! - Tokens are here as hashes only; a value that is none is never shown: it may be a token.
//! - A file is used as a whole or not at all, and what is wrong with it is told with line and column.
//! - The file takes nothing back that the configuration gives: it names others, never the same again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, ConfigErrors, Source, shown};
use super::file;
use super::layers::{Layers, Reader, Schema, SchemaKey};
use super::process::read_access_file;
use super::spec::{Choice, Raw, Spec, Wrong, quoted};
use crate::core::access::{Access, CLIENT_NAME_BYTES_MAX, CertificateName, Role, TokenHash};

/// What an entry of `server.tokens` says.
struct TokenLine;

impl Spec for TokenLine {
    type Value = (Role, TokenHash);

    fn default_value(&self) -> Self::Value {
        // Nobody has a token with this hash; and an entry has no default.
        (Role::Read, TokenHash::NONE)
    }

    fn parse(&self, raw: &Raw) -> Result<Self::Value, Wrong> {
        let read = || {
            let (role, hash) = raw.text()?.trim().split_once(' ')?;
            Some((Role::parse(role)?, TokenHash::parse(hash.trim_start())?))
        };
        // Never what was given: it may be a token.
        read().ok_or_else(|| Wrong::Because(format!("an entry is not {}", self.expects())))
    }

    fn render(&self, (role, hash): &Self::Value) -> String {
        quoted(&format!("{role} {hash}"))
    }

    fn expects(&self) -> String {
        "a role and a hash, as `okta-idmap config token` prints them: \"read sha256:…\"".to_owned()
    }
}

const ROLE: Choice<Role> =
    Choice { default: Role::Read, words: &[("read", Role::Read), ("explain", Role::Explain), ("admin", Role::Admin)] };

/// The two tables.
struct Entries {
    tokens: BTreeMap<String, (Role, TokenHash)>,
    clients: BTreeMap<String, Role>,
}

impl Entries {
    fn read(reader: &mut Reader<'_>) -> Self {
        let tokens = reader.take_rules("server", "tokens", &TokenLine, None);
        Self { tokens, clients: reader.take_rules("server", "clients", &ROLE, None) }
    }
}

/// Adds those whom the tables name.
pub(super) fn read_access(reader: &mut Reader<'_>, mut access: Access) -> Access {
    let Entries { tokens, clients } = Entries::read(reader);
    let elsewhere: Vec<String> = access.clients().iter().map(|client| client.name.clone()).collect();
    let mut refuse_entry = |table: &str, name: &str, reason: String| {
        let at = reader.source_of_base(&format!("server.{table}"), &quoted(name));
        reader.problems.push(ConfigError::Refused { at, key: format!("server.{table}"), reason });
    };
    for (name, (role, hash)) in tokens {
        if name.len() > CLIENT_NAME_BYTES_MAX {
            let reason = format!("the name {} has more than {CLIENT_NAME_BYTES_MAX} bytes", shown(&name));
            refuse_entry("tokens", &name, reason);
        } else if elsewhere.contains(&name) {
            let reason = format!("{} is named in the configuration file as well: keep one of them", shown(&name));
            refuse_entry("tokens", &name, reason);
        } else if !access.add_token(&name, role, hash) {
            let reason = format!("{} has the token of another name: each client has a token of its own", shown(&name));
            refuse_entry("tokens", &name, reason);
        }
    }
    for (name, role) in clients {
        match CertificateName::parse(&name).filter(|_| name.len() <= CLIENT_NAME_BYTES_MAX) {
            Some(certificate) => {
                if !access.add_certificate(certificate, role) {
                    let reason = format!("{} is the name of another entry, but for letter case", shown(&name));
                    refuse_entry("clients", &name, reason);
                }
            }
            None => {
                let reason = format!(
                    "{} is no name in a certificate: write \"CN=…\", \"DNS=…\" or \"URI=…\", at most \
                     {CLIENT_NAME_BYTES_MAX} bytes",
                    shown(&name)
                );
                refuse_entry("clients", &name, reason);
            }
        }
    }
    access
}

/// The file that names clients, and what the configuration says beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessFile {
    path: PathBuf,
    base: Access,
    asks_for_certificates: bool,
}

impl AccessFile {
    /// `base`: whom the configuration names; `asks_for_certificates`: whether names in certificates are of any use.
    pub fn new(path: PathBuf, base: Access, asks_for_certificates: bool) -> Self {
        Self { path, base, asks_for_certificates }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who may call, with those whom the file names now. A file that names nobody is a good one: then nobody may.
    ///
    /// # Errors
    /// All that is wrong with the file, each with its place: it cannot be read, is no TOML, or holds anything but the two
    /// tables in their form.
    pub fn read(&self) -> Result<Access, ConfigErrors> {
        let file = read_access_file(self.path.clone())?;
        let (mut layers, mut problems, mut record) = (Layers::default(), Vec::new(), Vec::new());
        if !file::read(&file.path, &file.text, &schema(), &mut layers, &mut problems) {
            ConfigErrors::check(std::mem::take(&mut problems))?;
        }
        problems.extend(layers.orgs().values().map(|at| ConfigError::Refused {
            at: at.clone(),
            key: "orgs".to_owned(),
            reason: "this file takes [server.tokens] and [server.clients] only".to_owned(),
        }));
        let mut reader = Reader { layers: &layers, org: None, problems: &mut problems, record: &mut record };
        let access = read_access(&mut reader, self.base.clone());
        let names_certificates = access.has_certificates() && !self.base.has_certificates();
        if names_certificates && !self.asks_for_certificates {
            let first = layers.get(None, "server", "clients").first();
            let at = first.map_or(Source::Default, |given| given.source.clone());
            let reason =
                "names certificates that nobody is asked for: set server.tls_client_ca_file in the configuration";
            let (key, reason) = ("server.clients".to_owned(), reason.to_owned());
            problems.push(ConfigError::Refused { at, key, reason });
        }
        ConfigErrors::check(problems)?;
        Ok(access)
    }
}

/// The keys of such a file.
fn schema() -> Schema {
    let key = |key: &str| SchemaKey {
        section: "server".to_owned(),
        key: key.to_owned(),
        expects: "a table".to_owned(),
        default: None,
        top_level: true,
        per_org: false,
    };
    Schema { keys: vec![key("tokens"), key("clients")] }
}

//! The credential of an org: an API token, or an OAuth service app with its private key. Entry point: [`read`].
//!
//! Invariants:
//! - A [`Credential`] is whole: the token can be sent, the key can sign.
//! - It is never in an error, a warning or the record of effective values.
//! - Of a secret's two forms (inline, file) the one of the higher source is used; both from one source are refused. The
//!   form that is not used is not looked at: its file may belong to another machine.
//! - An org has one kind of credential; which of two would count is no guess to make.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;

use super::SecretFile;
use super::error::{ConfigError, ConfigWarning, MASK, Source, looks_like_key, looks_like_token, shown};
use super::layers::{Address, Reader};
use super::orgs::{incomplete, record};
use super::spec::{Choice, Given, Raw, Spec, TEXT_BYTES_MAX, TextSet, Wrong, quoted};
use crate::core::private_key::{PrivateKey, SigningAlgorithm};
use crate::core::secret::Secret;

/// Bytes of a secret's file. Keys and tokens have some thousand; the limit keeps a wrong path from being read in full.
pub const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an API token. Real ones have 42; what is longer does not fit the header of a request.
const API_TOKEN_BYTES_MAX: usize = 4_096;
/// Bytes of a client id or of a key's id. Okta's have 20 and 43.
const ID_BYTES_MAX: usize = 256;
/// Scopes of one app, the needed ones aside: Okta has about sixty that end in `.read`.
const SCOPES_MAX: usize = 64;
/// Permission bits that let others than the owner at a file.
pub(super) const MODE_OTHERS: u32 = 0o077;

/// The keys of both kinds, and what each takes.
pub(super) const KEYS: [(&str, &str); 8] = [
    ("api_token", "an Okta API token"),
    ("api_token_file", "the path of a file with an Okta API token"),
    ("client_id", "the client id of an OAuth service app, such as \"0oa1…\""),
    ("key_id", "the id (kid) under which Okta knows the key of the service app"),
    ("private_key", "the private key of the service app, PEM or JWK"),
    ("private_key_file", "the path of a file with the private key of the service app, PEM or JWK"),
    ("signing_algorithm", "\"auto\" or, for an RSA key, one of \"RS256\", \"RS384\", \"RS512\""),
    ("scopes", "a list of OAuth scopes to ask for besides those that reading needs"),
];
const TOKEN_KEYS: &[&str] = &["api_token", "api_token_file"];
const APP_KEYS: &[&str] = &["client_id", "private_key", "private_key_file", "key_id", "signing_algorithm", "scopes"];

/// How requests prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The header `Authorization: SSWS <token>` (facts 10.1); without the prefix.
    ApiToken(Secret),
    /// Short-lived tokens that the key of a service app is exchanged for (facts 10.2).
    ServiceApp(ServiceAppConfig),
}

/// An OAuth service app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAppConfig {
    /// Its client id.
    pub client_id: String,
    /// The id under which Okta knows the key.
    pub key_id: String,
    /// The key, with its algorithm.
    pub private_key: PrivateKey,
    /// Scopes to ask for besides those that reading needs; all end in `.read`.
    pub scopes: BTreeSet<String>,
}

/// Reads the credential of an org.
pub(super) fn read(
    reader: &mut Reader<'_>,
    org: &str,
    read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
    warnings: &mut Vec<ConfigWarning>,
) -> Option<Credential> {
    let layers = reader.layers;
    let first = |keys: &[&'static str]| {
        let mut given = keys.iter().filter_map(|key| Some((*key, layers.get(Some(org), "", key).first()?)));
        given.next()
    };
    match (first(TOKEN_KEYS), first(APP_KEYS)) {
        (Some((token_key, token)), Some((app_key, app))) => {
            let key = Address::new(Some(org), "", token_key).to_string();
            let reason = format!(
                "is an API token, and {app_key} ({}) is of an OAuth service app: an org has one credential, keep one",
                app.source
            );
            reader.problems.push(ConfigError::Refused { at: token.source.clone(), key, reason });
            None
        }
        (Some(_), None) => {
            let (address, given) = secret_of(reader, org, "the API token", ["api_token", "api_token_file"])?;
            let read = read_text(reader, &address, given, read_file, warnings);
            let token = read.and_then(|text| check_token(text.expose(), &address, &given.source));
            token.map(Credential::ApiToken).map_err(|problem| reader.problems.push(problem)).ok()
        }
        (None, Some(_)) => read_app(reader, org, read_file, warnings).map(Credential::ServiceApp),
        (None, None) => {
            let mut problem = incomplete(org, "credential", "api_token_file", "--api-token-file");
            if let ConfigError::OrgIncomplete { remedy, .. } = &mut problem {
                remedy.push_str("; or client_id, key_id and private_key_file of an OAuth service app");
            }
            reader.problems.push(problem);
            None
        }
    }
}

fn read_app(
    reader: &mut Reader<'_>,
    org: &str,
    read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
    warnings: &mut Vec<ConfigWarning>,
) -> Option<ServiceAppConfig> {
    let client_id = read_id(reader, org, "client_id");
    if client_id.is_none() && reader.layers.get(Some(org), "", "client_id").is_empty() {
        reader.problems.push(incomplete(org, "client id", "client_id", ""));
    }
    let named_key_id = read_id(reader, org, "key_id");
    let algorithm = reader.take("", "signing_algorithm", &ALGORITHM, None);
    let scopes = reader.take("", "scopes", &Scopes, None);
    let private_key = read_private_key(reader, org, algorithm, read_file, warnings);
    let key_id = match (named_key_id, &private_key) {
        (Some(key_id), _) => Some(key_id),
        (None, Some(key)) if reader.layers.get(Some(org), "", "key_id").is_empty() => {
            let own = key.key_id().map(str::to_owned);
            if own.is_none() {
                reader.problems.push(incomplete(org, "key id", "key_id", ""));
            }
            own
        }
        (None, _) => None,
    };
    Some(ServiceAppConfig { client_id: client_id?, key_id: key_id?, private_key: private_key?, scopes })
}

/// A client id or key id: no secret, but it must be one word.
fn read_id(reader: &mut Reader<'_>, org: &str, key: &'static str) -> Option<String> {
    let given = reader.layers.get(Some(org), "", key).first()?;
    let address = Address::new(Some(org), "", key);
    let text = given.raw.text().map(str::trim);
    let is_id =
        |text: &&str| (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    match text {
        Some(text) if looks_like_key(text) => {
            let reason = "this is a key and not its id: use private_key".to_owned();
            reader.refuse(&address, given, Wrong::Because(reason), String::new());
            None
        }
        Some(_) if text.as_ref().is_some_and(is_id) => {
            let id = text.unwrap_or_default();
            record(reader, &address, quoted(id), &given.source);
            Some(id.to_owned())
        }
        _ => {
            reader.refuse(&address, given, Wrong::Unlike, "an id without blanks".to_owned());
            None
        }
    }
}

fn read_private_key(
    reader: &mut Reader<'_>,
    org: &str,
    algorithm: Option<SigningAlgorithm>,
    read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
    warnings: &mut Vec<ConfigWarning>,
) -> Option<PrivateKey> {
    let forms = ["private_key", "private_key_file"];
    if forms.iter().all(|key| reader.layers.get(Some(org), "", key).is_empty()) {
        reader.problems.push(incomplete(org, "private key", "private_key_file", ""));
        return None;
    }
    let (address, given) = secret_of(reader, org, "the private key", forms)?;
    let read = read_text(reader, &address, given, read_file, warnings).and_then(|text| {
        let reason = match text.expose().trim() {
            "" => "is empty".to_owned(),
            MASK => "is the mask that `okta-idmap config` prints in its place".to_owned(),
            _ => {
                let key = PrivateKey::parse(&text, &SystemRandom::new());
                let key = key.and_then(|key| algorithm.map_or(Ok(key.clone()), |wanted| key.with_algorithm(wanted)));
                match key {
                    Ok(key) => return Ok(key),
                    Err(error) => error.to_string(),
                }
            }
        };
        Err(ConfigError::Refused { at: given.source.clone(), key: address.to_string(), reason })
    });
    read.map_err(|problem| reader.problems.push(problem)).ok()
}

/// Which form of a secret counts: inline, or the file.
fn secret_of<'a>(
    reader: &mut Reader<'a>,
    org: &str,
    what: &str,
    forms: [&'static str; 2],
) -> Option<(Address, &'a Given)> {
    let layers = reader.layers;
    let given = forms.map(|key| Some((key, layers.get(Some(org), "", key).first()?)));
    if let [Some((_, inline)), Some((_, file))] = given
        && inline.source.rank() == file.source.rank()
    {
        let key = format!("{what} of org {org}");
        let (first, second) = (inline.source.clone(), file.source.clone());
        reader.problems.push(ConfigError::GivenTwice { key, first, second });
        return None;
    }
    let (key, given) = given.into_iter().flatten().min_by_key(|(_, given)| given.source.rank())?;
    Some((Address::new(Some(org), "", key), given))
}

/// The text of a secret, out of the value itself or of the file that it names, and its line for `config`.
fn read_text(
    reader: &mut Reader<'_>,
    address: &Address,
    given: &Given,
    read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
    warnings: &mut Vec<ConfigWarning>,
) -> Result<Secret, ConfigError> {
    if !address.key.ends_with("_file") {
        record(reader, address, quoted(MASK), &given.source);
        return inline_text(address, given);
    }
    let text = file_text(address, given, read_file, warnings)?;
    // Recorded only if it was read: a path that is none may be a token.
    record(reader, address, quoted(given.raw.text().unwrap_or_default()), &given.source);
    Ok(text)
}

fn inline_text(address: &Address, given: &Given) -> Result<Secret, ConfigError> {
    let (at, key) = (given.source.clone(), address.to_string());
    match given.raw.text() {
        Some(text) if text.len() <= SECRET_FILE_BYTES_MAX => Ok(Secret::new(text.to_owned())),
        Some(_) => Err(ConfigError::Secret { at, key, problem: "has more than 65536 bytes" }),
        None => Err(ConfigError::Secret { at, key, problem: "is not a text in quotes" }),
    }
}

fn file_text(
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
    let mistaken = if looks_like_token(text) {
        Some(("token", "api_token"))
    } else if looks_like_key(text) {
        Some(("key", "private_key"))
    } else {
        None
    };
    if let Some((what, instead)) = mistaken {
        let reason = format!("this is a {what}, not the path of a file with one: use {instead}");
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
    let secret = content.expose().trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        return Err(problem("is empty", None));
    }
    warnings.extend(file.mode_warning(&path));
    Ok(Secret::new(secret.to_owned()))
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
    } else if looks_like_key(token) {
        "is a private key and no API token: use client_id, key_id and private_key"
    } else if token.len() > API_TOKEN_BYTES_MAX {
        "has more than 4096 bytes, which no API token has"
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        "holds blanks, line breaks or characters that no API token has"
    } else {
        return Ok(Secret::new(token.to_owned()));
    };
    Err(ConfigError::Secret { at: source.clone(), key: address.to_string(), problem })
}

const ALGORITHM: Choice<Option<SigningAlgorithm>> = Choice {
    default: None,
    words: &[
        ("auto", None),
        ("RS256", Some(SigningAlgorithm::Rs256)),
        ("RS384", Some(SigningAlgorithm::Rs384)),
        ("RS512", Some(SigningAlgorithm::Rs512)),
        ("ES256", Some(SigningAlgorithm::Es256)),
        ("ES384", Some(SigningAlgorithm::Es384)),
        ("ES512", Some(SigningAlgorithm::Es512)),
    ],
};

/// OAuth scopes, none of which allows to change anything.
struct Scopes;

const SCOPE_LIST: TextSet = TextSet { default: &[], words: &[], empty_allowed: true };

impl Spec for Scopes {
    type Value = BTreeSet<String>;

    fn default_value(&self) -> BTreeSet<String> {
        SCOPE_LIST.default_value()
    }

    fn parse(&self, raw: &Raw) -> Result<BTreeSet<String>, Wrong> {
        let scopes = SCOPE_LIST.parse(raw)?;
        if scopes.len() > SCOPES_MAX {
            return Err(Wrong::Because(format!("has more than {SCOPES_MAX} items")));
        }
        for scope in &scopes {
            let name = scope.strip_prefix("okta.").and_then(|rest| rest.strip_suffix(".read")).unwrap_or_default();
            let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !name.split('.').all(is_name) {
                let reason = format!(
                    "{} is no scope for reading, such as \"okta.roles.read\": this program asks for no other",
                    shown(scope)
                );
                return Err(Wrong::Because(reason));
            }
        }
        Ok(scopes)
    }

    fn render(&self, value: &BTreeSet<String>) -> String {
        SCOPE_LIST.render(value)
    }

    fn expects(&self) -> String {
        "a list of OAuth scopes that end in .read".to_owned()
    }
}

//! What can be wrong with a configuration, and how it is said. Entry points: [`ConfigErrors`], [`ConfigWarning`].
//!
//! Invariants:
//! - No message shows a secret: the value of a secret key is never put into an error, and [`shown`] masks whatever looks
//!   like an Okta token or a private key wherever it was put by mistake.
//! - Every message names the place (file with line and column, variable, flag), the key, and what to do.
//! - Control characters of hostile values are escaped, so that a message stays on its line.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::server::Withheld;
use crate::core::access::TOKEN_PREFIX;

/// Characters of a value that a message shows. A screen line; the place says where to read the rest.
const SHOWN_CHARS_MAX: usize = 80;
/// Characters of a name for which a suggestion is looked for: the comparison costs the product of two lengths.
const SUGGESTION_CHARS_MAX: usize = 100;
/// Problems that are printed. A file with more was not written for this program; the count says how many follow.
pub(super) const PROBLEMS_SHOWN_MAX: usize = 50;
/// Characters of the shortest text that is taken for an API token. Real ones have 42 and begin with `00`.
const TOKEN_CHARS_MIN: usize = 32;
/// What stands in the place of a secret.
pub(super) const MASK: &str = "***";

/// Where a value came from; also where an error points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody gave the value.
    Default,
    /// The configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: String,
    },
    /// A flag of the command line.
    Flag {
        /// The flag with its dashes.
        name: &'static str,
    },
}

impl Source {
    /// Precedence: the smaller wins (flags, environment, file, default).
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Flag { .. } => 0,
            Self::Environment { .. } => 1,
            Self::File { .. } => 2,
            Self::Default => 3,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", shown_path(path)),
            Self::Environment { name } => f.write_str(&shown_name(name)),
            Self::Flag { name } => f.write_str(name),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file cannot be read.
    #[error("read configuration file {}", shown_path(path))]
    ReadFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The configuration file has more than [`super::CONFIG_FILE_BYTES_MAX`] bytes.
    #[error("read configuration file {}: more than {max} bytes, which no configuration has", shown_path(path))]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        max: usize,
    },
    /// The file that `server.access_file` names cannot be read.
    #[error("server.access_file: read {} ({})", shown_path(path), read_remedy(source))]
    ReadAccessFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The configuration file is no TOML.
    #[error("{at}: not valid TOML: {message}")]
    Syntax {
        /// The place.
        at: Source,
        /// What the parser expected; it quotes no value.
        message: String,
    },
    /// A variable or flag of ours is not UTF-8; to replace what is not would name another file or host.
    #[error("{}: the name or the value is not valid UTF-8", shown_name(name))]
    Encoding {
        /// The variable or flag, with what is not UTF-8 replaced.
        name: String,
    },
    /// A key that does not exist.
    #[error("{at}: unknown key {}{}; {valid}", shown(key), did_you_mean(suggestion))]
    UnknownKey {
        /// The place.
        at: Source,
        /// The key as written.
        key: String,
        /// A key that looks like it.
        suggestion: Option<String>,
        /// What its table takes. In a box: errors travel in every `Result` here.
        valid: Box<ValidKeys>,
    },
    /// A variable that begins like ours and is none.
    #[error(
        "{}: unknown variable{}; variables are OKTA_IDMAP_<TABLE>__<KEY>, the keys are those of config.example.toml",
        escaped(name),
        did_you_mean(suggestion)
    )]
    UnknownVariable {
        /// The variable.
        name: String,
        /// One that looks like it.
        suggestion: Option<String>,
    },
    /// A value of the wrong type, out of range, or not readable.
    #[error("{at}: {key}: expected {expected}, got {got}")]
    Value {
        /// The place.
        at: Source,
        /// The key.
        key: String,
        /// What the key takes, with its bounds.
        expected: String,
        /// What it got, shortened and masked.
        got: String,
    },
    /// A value that can be read and is refused for a reason.
    #[error("{at}: {key}: {reason}")]
    Refused {
        /// The place.
        at: Source,
        /// The key.
        key: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A key is given twice by the same kind of source, with different values.
    #[error("{key} is given twice, by {first} and by {second}: keep one")]
    GivenTwice {
        /// The key.
        key: String,
        /// One place.
        first: Source,
        /// The other.
        second: Source,
    },
    /// A secret's file cannot be used.
    #[error("{at}: {key}: read secret file {}: {problem}", shown_path(path))]
    SecretFile {
        /// The place.
        at: Source,
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        problem: Box<str>,
        /// The failed call, if one failed.
        #[source]
        source: Option<io::Error>,
    },
    /// A secret itself cannot be one. It is not shown.
    #[error("{at}: {key}: the secret {problem}")]
    Secret {
        /// The place.
        at: Source,
        /// The key.
        key: String,
        /// What is wrong with it, without it.
        problem: &'static str,
    },
    /// An org without something it needs.
    #[error("org {org} has no {what}: set {remedy}")]
    OrgIncomplete {
        /// The org.
        org: String,
        /// What is missing.
        what: &'static str,
        /// The keys, variables and flags that set it.
        remedy: String,
    },
    /// A short form such as `OKTA_IDMAP_DOMAIN` with several orgs.
    #[error("{at}: which org is meant? {} are configured; use {instead}", orgs.join(", "))]
    OrgUnclear {
        /// The place.
        at: Source,
        /// The orgs.
        orgs: Vec<String>,
        /// The long form.
        instead: String,
    },
    /// More orgs than [`super::ORGS_MAX`].
    #[error("{count} orgs are configured, more than {max}: run a second process for the rest")]
    TooManyOrgs {
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// A command needs an org and there is none.
    #[error(
        "no org configured: set OKTA_IDMAP_DOMAIN and OKTA_IDMAP_API_TOKEN, or write [orgs.<name>] with domain and \
         api_token_file into okta-idmap.toml"
    )]
    NoOrg,
    /// A command needs one org and there are several.
    #[error("several orgs are configured, name one with --org: {}", orgs.join(", "))]
    OrgRequired {
        /// The orgs.
        orgs: Vec<String>,
    },
    /// A command names an org that does not exist.
    #[error("no org {} is configured{}; configured: {}", shown(name), did_you_mean(suggestion), orgs.join(", "))]
    UnknownOrg {
        /// The name that was asked for.
        name: String,
        /// One that looks like it.
        suggestion: Option<String>,
        /// The orgs.
        orgs: Vec<String>,
    },
}

impl ConfigError {
    /// Line and column, for problems of the file.
    pub(super) const fn place(&self) -> Option<(usize, usize)> {
        match self {
            Self::UnknownKey { at, .. } | Self::Value { at, .. } | Self::Refused { at, .. } => match at {
                Source::File { line, column, .. } => Some((*line, *column)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What to do about a file that a key names and that cannot be read.
pub(crate) fn read_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "put the file there, or correct the path",
        io::ErrorKind::PermissionDenied => "let the user that runs this program read it",
        io::ErrorKind::InvalidInput => "name a file: no directory, pipe or device",
        io::ErrorKind::InvalidData => "put the right file there, or correct the path",
        _ => "see to it that it can be read",
    }
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// The keys that a table has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidKeys {
    /// The table, empty for the top level.
    pub table: String,
    /// Its keys.
    pub keys: Vec<String>,
}

impl fmt::Display for ValidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = if self.table.is_empty() { String::new() } else { format!(" of [{}]", escaped(&self.table)) };
        write!(f, "valid keys{table}: {}", self.keys.join(", "))
    }
}

/// Everything that was found wrong, in the order of the sources. Never empty.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok` when nothing was found.
    pub(super) fn check(problems: Vec<ConfigError>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// The problems, at least one.
    pub fn problems(&self) -> &[ConfigError] {
        &self.0
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(problem: ConfigError) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for ConfigErrors {
    /// One problem per line, each with its causes; at most fifty are printed, and how many more there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(PROBLEMS_SHOWN_MAX).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
            let mut cause = std::error::Error::source(problem);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        match self.0.len().saturating_sub(PROBLEMS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n… and {more} more"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Something that does not stop the start and should be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigWarning {
    /// A file that holds a secret can be read or changed by others than its owner.
    SecretFileMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Token and server come from different places: the token of the configuration file is for the server of the file, and one
    /// from elsewhere is not for whomever a file names.
    TokenWithheld {
        /// The server that does not get it.
        server: String,
        /// Why not.
        why: Withheld,
    },
    /// Two orgs have the same address: Okta's rate budget is per org, so each request would be paid twice.
    SameDomain {
        /// The orgs, at least two.
        orgs: Vec<String>,
        /// Their address.
        domain: String,
    },
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecretFileMode { path, mode } => {
                let path = shown_path(path);
                write!(f, "{path} holds a secret and has mode {mode:04o}, wider than 0600: run chmod 600 on it")
            }
            Self::TokenWithheld { server, why: Withheld::LedAway } => {
                write!(
                    f,
                    "the token is not sent to {server}, since only the configuration file names that server: name it with \
                     --server or OKTA_IDMAP_CLIENT__SERVER, too, or put client.token_file into the file"
                )
            }
            Self::TokenWithheld { server, why: Withheld::ForAnother } => {
                write!(
                    f,
                    "the token of the configuration file is for the server that the file names, and is not sent to {server}: \
                     name one with --token-file or OKTA_IDMAP_CLIENT__TOKEN_FILE"
                )
            }
            Self::SameDomain { orgs, domain } => {
                let orgs = orgs.join(", ");
                write!(f, "orgs {orgs} all read {domain}: each of them spends the rate budget of that one Okta org")
            }
        }
    }
}

/// The text without control characters, each written as its escape, and without what looks like a token. Applying it twice
/// changes nothing.
pub(super) fn escaped(text: &str) -> String {
    if looks_like_key(text) {
        return MASK.to_owned();
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word_end = rest.find(|c| !is_token_char(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end.max(c.len_utf8()));
        if looks_like_token(word) {
            safe.push_str(MASK);
        } else if c.is_control() {
            safe.extend(c.escape_default());
        } else {
            safe.push_str(word);
        }
        rest = after;
    }
    safe
}

/// A value as a message may show it: quoted, escaped, at most [`SHOWN_CHARS_MAX`] characters, and masked if it looks like
/// a token. Masked first: the head of a token would not look like one.
pub(super) fn shown(text: &str) -> String {
    if looks_like_token(text) || looks_like_key(text) {
        return MASK.to_owned();
    }
    let safe = escaped(text);
    let head: String = safe.chars().take(SHOWN_CHARS_MAX).collect();
    let ellipsis = if head.len() < safe.len() { "…" } else { "" };
    format!("\"{head}{ellipsis}\"")
}

/// A variable's name: as [`shown`], but without quotes, so that it can be copied.
fn shown_name(name: &str) -> String {
    shown(name).trim_matches('"').to_owned()
}

pub(super) fn shown_path(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

const fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// Whether a text is more likely an Okta API token, or a token of our own server, than anything else that a configuration
/// holds.
pub(super) fn looks_like_token(text: &str) -> bool {
    let text = text.trim();
    if text.len() >= TOKEN_CHARS_MIN && text.starts_with(TOKEN_PREFIX) && text.chars().all(is_token_char) {
        return true;
    }
    if text.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("SSWS ")) {
        return true;
    }
    text.len() >= TOKEN_CHARS_MIN && text.starts_with("00") && text.chars().all(is_token_char)
}

/// Whether a text holds a private key, PEM or JWK.
pub(super) fn looks_like_key(text: &str) -> bool {
    text.contains("PRIVATE KEY-----") || text.contains("\"kty\"")
}

/// The candidate that is near enough to be meant.
pub(super) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let given_chars = given.chars().count();
    if given_chars > SUGGESTION_CHARS_MAX {
        return None;
    }
    // A third of the letters may differ: more, and the suggestion is a guess.
    let distance_max = (given_chars / 3).max(1);
    let given = given.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&given, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_token_is_masked() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(shown(text), expected);
        }
        check("6h", "\"6h\"");
        check("line\nbreak", "\"line\\nbreak\"");
        check("00QCjAl4MlV-WPXM-ABCDEFGHIJKLMNOPQRSTUVWXY", "***");
        check(" 00QCjAl4MlV-WPXM-ABCDEFGHIJKLMNOPQRSTUVWXY\n", "***");
        check("SSWS x", "***");
        check("read oidm_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "\"read ***\"");
        check("-----BEGIN EC PRIVATE KEY-----\nMHcCAQ", "***");
        check("{\"d\":\"x\",\"kty\":\"EC\"}", "***");
        check("https://00qcjal4mlv-wpxm-abcdefghijklmnopq.okta.com/\u{7}ä", "\"https://***.okta.com/\\u{7}ä\"");
        check(&format!("{}00QCjAl4MlV-WPXM-ABCDEFGHIJKLMNOPQ", ".".repeat(70)), &format!("\"{}***\"", ".".repeat(70)));
        check("00u1abcdefghijklmnop", "\"00u1abcdefghijklmnop\"");
        check("", "\"\"");
        check(&"ä".repeat(81), &format!("\"{}…\"", "ä".repeat(80)));
    }

    #[test]
    fn suggestions_are_near_or_absent() {
        #[track_caller]
        fn check(given: &str, expected: Option<&str>) {
            assert_eq!(nearest(given, ["interval", "users_page_size", "log"]).as_deref(), expected);
        }
        check("intervall", Some("interval"));
        check("INTERVAL", Some("interval"));
        check("user_page_size", Some("users_page_size"));
        check("lgo", Some("log"));
        check("oauth", None);
        check("", None);
        check(&"x".repeat(100_000), None);
    }
}

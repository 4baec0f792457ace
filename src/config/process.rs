//! The thin shell: finds and reads the configuration file, takes the environment, reads secrets' files. Entry point:
//! [`load_from_process`].
//!
//! Invariants:
//! - A file is read only up to its limit, and only if it is a regular file: a pipe or a device could block for ever.
//! - A file that was named must exist; `./okta-idmap.toml` need not.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::environment::CONFIG_VARIABLE;
use super::{
    CONFIG_FILE_BYTES_MAX, Config, ConfigError, ConfigErrors, ConfigFile, ConfigWarning, Flags, SECRET_FILE_BYTES_MAX,
    SecretFile, Sources, file, load,
};

/// The file that is used where none is named, if it exists.
const CONFIG_FILE_DEFAULT: &str = "./okta-idmap.toml";

/// Loads the configuration of this process: file by `--config`, `OKTA_IDMAP_CONFIG` or `./okta-idmap.toml`, environment,
/// flags. Errors: see [`load`]; also a file that cannot be read.
pub fn load_from_process(flags: Flags) -> Result<(Config, Vec<ConfigWarning>), ConfigErrors> {
    let env = decode_environment(std::env::vars_os())?;
    let file = match choose_file(&flags, &env) {
        FileChoice::Named(path) => Some(read_config_file(path)?),
        FileChoice::IfPresent(path) if path.try_exists().unwrap_or(true) => Some(read_config_file(path)?),
        FileChoice::IfPresent(_) => None,
    };
    load(Sources { file, env, flags }, &read_secret_file)
}

/// Which file is read.
#[derive(Debug, PartialEq, Eq)]
enum FileChoice {
    /// It was named, so it must exist.
    Named(PathBuf),
    IfPresent(PathBuf),
}

fn choose_file(flags: &Flags, env: &[(String, String)]) -> FileChoice {
    let from_env = || env.iter().find(|(name, value)| name == CONFIG_VARIABLE && !value.is_empty());
    match (&flags.config, from_env()) {
        (Some(path), _) => FileChoice::Named(path.clone()),
        (None, Some((_, path))) => FileChoice::Named(PathBuf::from(path)),
        (None, None) => FileChoice::IfPresent(PathBuf::from(CONFIG_FILE_DEFAULT)),
    }
}

/// The variables as texts. Those of other programs may be anything; ours must be UTF-8.
fn decode_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, ConfigErrors> {
    let mut decoded = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in variables {
        let name_text = name.to_string_lossy().into_owned();
        if !name_text.starts_with("OKTA_IDMAP_") && !name_text.starts_with("BATON_") {
            continue;
        }
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => decoded.push((name, value)),
            _ => problems.push(ConfigError::Encoding { name: name_text }),
        }
    }
    ConfigErrors::check(problems)?;
    Ok(decoded)
}

fn read_config_file(path: PathBuf) -> Result<ConfigFile, ConfigErrors> {
    let (bytes, mode) = match read_bounded(&path, CONFIG_FILE_BYTES_MAX) {
        Ok(read) => read,
        Err(source) => return Err(ConfigError::ReadFile { path, source }.into()),
    };
    if bytes.len() > CONFIG_FILE_BYTES_MAX {
        return Err(ConfigError::FileTooLarge { path, max: CONFIG_FILE_BYTES_MAX }.into());
    }
    match file::decode(bytes) {
        Ok(text) => Ok(ConfigFile { path, text, mode }),
        Err(message) => {
            let source = io::Error::new(io::ErrorKind::InvalidData, message);
            Err(ConfigError::ReadFile { path, source }.into())
        }
    }
}

fn read_secret_file(path: &Path) -> io::Result<SecretFile> {
    let (bytes, mode) = read_bounded(path, SECRET_FILE_BYTES_MAX)?;
    Ok(SecretFile { bytes, mode })
}

/// At most `bytes_max` + 1 bytes, so that the caller sees that there are more. The type of the file is looked at before it
/// is opened: to open a pipe waits for its writer.
fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<(Vec<u8>, Option<u32>)> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    // Room for all at once: a buffer that grows leaves copies of a secret behind.
    let mut bytes = Vec::with_capacity(bytes_max.min(SECRET_FILE_BYTES_MAX) + 1);
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes, mode_of(&metadata)))
}

#[cfg(unix)]
fn mode_of(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(metadata.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_metadata: &Metadata) -> Option<u32> {
    None
}

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
    CONFIG_FILE_BYTES_MAX, Config, ConfigError, ConfigErrors, ConfigFile, ConfigWarning, Flags, ROOTS_FILE_BYTES_MAX,
    SECRET_FILE_BYTES_MAX, SecretFile, Sources, file, load,
};

/// The file that is used where none is named, if it exists.
const CONFIG_FILE_DEFAULT: &str = "./okta-idmap.toml";

/// Bytes of a file with lists of revoked certificates: some two hundred thousand of them. It is read again every few seconds.
pub(crate) const REVOCATION_LISTS_BYTES_MAX: usize = 8 << 20;

/// Loads the configuration of this process: file by `--config`, `OKTA_IDMAP_CONFIG` or `./okta-idmap.toml`, environment,
/// flags. Errors: see [`load`]; also a file that cannot be read.
pub fn load_from_process(flags: Flags) -> Result<(Config, Vec<ConfigWarning>), ConfigErrors> {
    let env = decode_environment(std::env::vars_os())?;
    let file = match choose_file(&flags, &env) {
        FileChoice::Named(path) => Some(read_config_file(path)?),
        FileChoice::IfPresent(path) if path.try_exists().unwrap_or(true) => {
            let mut file = read_config_file(path)?;
            file.is_found = true;
            Some(file)
        }
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
    match read_toml_file(&path) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(ConfigError::FileTooLarge { path, max: CONFIG_FILE_BYTES_MAX }.into()),
        Err(source) => Err(ConfigError::ReadFile { path, source }.into()),
    }
}

/// Reads the file that `server.access_file` names.
pub(super) fn read_access_file(path: PathBuf) -> Result<ConfigFile, ConfigError> {
    let too_large = || {
        let message = format!("it has more than {CONFIG_FILE_BYTES_MAX} bytes");
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    let read = read_toml_file(&path).and_then(|file| file.ok_or_else(too_large));
    read.map_err(|source| ConfigError::ReadAccessFile { path, source })
}

/// `None`: it has more than [`CONFIG_FILE_BYTES_MAX`] bytes.
fn read_toml_file(path: &Path) -> io::Result<Option<ConfigFile>> {
    let (bytes, mode) = read_bounded(path, CONFIG_FILE_BYTES_MAX)?;
    if bytes.len() > CONFIG_FILE_BYTES_MAX {
        return Ok(None);
    }
    let text = file::decode(bytes).map_err(|message| io::Error::new(io::ErrorKind::InvalidData, message))?;
    Ok(Some(ConfigFile { path: path.to_owned(), text, mode, is_found: false }))
}

/// Reads a file with a secret or with certificates; how much of either is too much is decided where it is used.
pub(crate) fn read_secret_file(path: &Path) -> io::Result<SecretFile> {
    let (bytes, mode) = read_bounded(path, SECRET_FILE_BYTES_MAX.max(ROOTS_FILE_BYTES_MAX))?;
    Ok(SecretFile { bytes, mode })
}

/// Reads a file with lists of revoked certificates; at most one byte more than [`REVOCATION_LISTS_BYTES_MAX`].
pub(crate) fn read_revocation_lists(path: &Path) -> io::Result<SecretFile> {
    let (bytes, mode) = read_bounded(path, REVOCATION_LISTS_BYTES_MAX)?;
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
    let announced = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(bytes_max.min(announced.max(SECRET_FILE_BYTES_MAX)) + 1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_chosen_by_flag_then_variable_then_place() {
        #[track_caller]
        fn check(flag: Option<&str>, variable: Option<&str>, expected: FileChoice) {
            let flags = Flags { config: flag.map(PathBuf::from), ..Flags::default() };
            let env = variable.map(|path| ("OKTA_IDMAP_CONFIG".to_owned(), path.to_owned()));
            assert_eq!(choose_file(&flags, &env.into_iter().collect::<Vec<_>>()), expected);
        }
        check(Some("flag"), Some("variable"), FileChoice::Named("flag".into()));
        check(None, Some("variable"), FileChoice::Named("variable".into()));
        check(None, Some(""), FileChoice::IfPresent("./okta-idmap.toml".into()));
        check(None, None, FileChoice::IfPresent("./okta-idmap.toml".into()));
    }

    #[cfg(unix)]
    #[test]
    fn only_our_own_variables_must_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let no_text = || OsString::from_vec(vec![0xff]);
        let others = [(OsString::from("LS_COLORS"), no_text()), (no_text(), "x".into())];
        assert_eq!(decode_environment(others).unwrap(), []);
        let ours = [("OKTA_IDMAP_DOMAIN".into(), no_text()), ("BATON_DOMAIN".into(), no_text())];
        let message = decode_environment(ours).unwrap_err().to_string();
        assert_eq!(
            message,
            "OKTA_IDMAP_DOMAIN: the name or the value is not valid UTF-8\n\
             BATON_DOMAIN: the name or the value is not valid UTF-8"
        );
    }

    #[test]
    fn files_are_read_up_to_their_limit_and_only_if_they_are_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap().0, b"0123456789");
        assert_eq!(read_bounded(&path, 4).unwrap().0, b"01234");
        let not_a_file = read_bounded(directory.path(), 4).unwrap_err().to_string();
        assert_eq!(not_a_file, "not a regular file");
        assert_eq!(read_bounded(&directory.path().join("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_does_not_hang_the_start_and_the_mode_is_seen() {
        use std::os::unix::fs::PermissionsExt;
        assert!(read_bounded(Path::new("/dev/zero"), 4).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_secret_file(file.path()).unwrap().mode, Some(0o640));
    }

    #[test]
    fn a_named_file_must_be_there_and_be_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("okta-idmap.toml");
        let read = |path: &Path| {
            read_config_file(path.to_owned()).map(|file| file.text.clone()).map_err(|errors| errors.to_string())
        };
        let message = read(&path).unwrap_err();
        assert!(message.starts_with("read configuration file ") && message.contains("No such file"), "{message}");
        std::fs::write(&path, b"data_dir = '\xff'").unwrap();
        assert!(read(&path).unwrap_err().ends_with("byte 13 is not UTF-8"));
        std::fs::write(&path, vec![b'#'; CONFIG_FILE_BYTES_MAX + 1]).unwrap();
        assert!(read(&path).unwrap_err().ends_with("more than 1048576 bytes, which no configuration has"));
        std::fs::write(&path, "data_dir = 'x'").unwrap();
        assert_eq!(read(&path).unwrap(), "data_dir = 'x'");
    }
    #[cfg(unix)]
    #[test]
    fn a_process_loads_its_file_and_the_secret_that_it_names() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (path, token) = (directory.path().join("named.toml"), directory.path().join("token"));
        std::fs::write(&token, "00token\n").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o604)).unwrap();
        let text = format!("[orgs.a]\ndomain = 'a.okta.com'\napi_token_file = '{}'", token.display());
        std::fs::write(&path, text).unwrap();
        let (config, warnings) = load_from_process(Flags { config: Some(path), ..Flags::default() }).unwrap();
        let super::super::Credential::ApiToken(secret) = &config.orgs["a"].credential else {
            panic!("it is an API token")
        };
        assert_eq!(secret.expose(), "00token");
        assert_eq!(warnings, [ConfigWarning::SecretFileMode { path: token, mode: 0o604 }]);
    }
}

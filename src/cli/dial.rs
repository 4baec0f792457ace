//! The files that a connection to a server needs. Entry point: [`Dial`]; the connection itself is [`crate::client`]'s.
//!
//! Invariants:
//! - Over `https` nothing is sent before the server's certificate is found good for the name that was asked for.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tonic::transport::Channel;

use crate::client::{Client, Options, OptionsError, Retry};
use crate::config::{ClientConfig, ClientToken, SECRET_FILE_BYTES_MAX, SecretFile, check_token, read_secret_file};
use crate::core::secret::Secret;

/// How long to wait for a server that may not be there. It is on this machine: a connection takes well below 1 ms, and
/// whoever runs no server should not notice the attempt.
const CONNECT_WAIT_HERE: Duration = Duration::from_millis(300);
/// The same for one elsewhere, with a handshake over a slow line.
const CONNECT_WAIT_THERE: Duration = Duration::from_secs(5);
/// How long one call may take. The slowest answers in well below a second; a minute is a server in trouble.
const CALL_WAIT: Duration = Duration::from_secs(60);

/// How a server is called: everything that can be wrong on this side is found before anybody is.
pub(super) struct Dial {
    options: Options,
    /// How long it is worth to wait for its first word.
    pub(super) patience: Duration,
}

impl Dial {
    /// Reads the files that the connection needs.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub(super) fn prepare(client: &ClientConfig) -> anyhow::Result<Self> {
        let url = client.server.as_str();
        let patience = if url.starts_with("https:") { CONNECT_WAIT_THERE } else { CONNECT_WAIT_HERE };
        let options = Options::new(url).with_context(|| format!("the server address {url}"))?;
        // Whoever types a command sees what happened and types it again.
        let mut options = tls(client, options.with_waits(patience, CALL_WAIT).with_retry(Retry::NEVER))?;
        if let Some(token) = &client.token {
            options = options.with_token(read_token(token)?).map_err(|error| match error {
                OptionsError::TokenInTheClear(_) => anyhow!("{error}: set client.server"),
                error => anyhow::Error::new(error),
            })?;
        }
        options.check().context("set up TLS for the connection to the server")?;
        Ok(Self { options, patience })
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or not the one whom the address names.
    pub(super) async fn connect(&self) -> anyhow::Result<Dialled> {
        let endpoint = self.options.endpoint()?;
        let connected = tokio::time::timeout(self.patience, endpoint.connect()).await;
        let channel = connected.map_err(anyhow::Error::new).and_then(|channel| Ok(channel?))?;
        Ok(Dialled { client: Client::over(channel.clone(), &self.options)?, channel })
    }
}

/// A connection: bare, and with the token.
pub(super) struct Dialled {
    pub(super) channel: Channel,
    pub(super) client: Client,
}

fn tls(client: &ClientConfig, options: Options) -> anyhow::Result<Options> {
    if !client.server.starts_with("https:") {
        return Ok(options);
    }
    let options = match &client.ca_file {
        Some(path) => options.with_roots(&read("client.ca_file", path)?.bytes),
        None => options,
    };
    let Some((certificate, key)) = &client.certificate else { return Ok(options) };
    let (certificate, mut key_pem) = (read("client.cert_file", certificate)?, read("client.key_file", key)?);
    warn_of_mode(key, &key_pem);
    let key_pem = String::from_utf8(std::mem::take(&mut key_pem.bytes)).map(Secret::new);
    let key_pem = key_pem.map_err(|_| anyhow!("{}: is not UTF-8 text", key.display()))?;
    Ok(options.with_identity(&certificate.bytes, key_pem))
}

fn read_token(token: &ClientToken) -> anyhow::Result<Secret> {
    match token {
        ClientToken::Inline(token) => Ok(token.clone()),
        ClientToken::File(path) => {
            let mut file = read("client.token_file", path)?;
            warn_of_mode(path, &file);
            let text = String::from_utf8(std::mem::take(&mut file.bytes)).map(Secret::new);
            let text = text.map_err(|_| anyhow!("{}: is not UTF-8 text", path.display()))?;
            let token = text.expose().trim();
            check_token(token).map_err(|problem| anyhow!("{}: the token {problem}", path.display()))?;
            Ok(Secret::new(token.to_owned()))
        }
    }
}

fn read(key: &str, path: &Path) -> anyhow::Result<SecretFile> {
    let file = read_secret_file(path).with_context(|| format!("read {key} {}", path.display()))?;
    if file.bytes.len() > SECRET_FILE_BYTES_MAX {
        return Err(anyhow!("read {key} {}: has more than {SECRET_FILE_BYTES_MAX} bytes", path.display()));
    }
    Ok(file)
}

fn warn_of_mode(path: &Path, file: &SecretFile) {
    if let Some(warning) = file.mode_warning(path) {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_token_is_read_as_people_write_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            let read = read_token(&ClientToken::File(path.clone()));
            read.map(|token| token.expose().to_owned())
                .map_err(|error| error.to_string().rsplit(": ").next().unwrap_or_default().to_owned())
        };
        let token = "x".repeat(48);
        assert_eq!(read(format!("{token}\r\n").as_bytes()), Ok(token.clone()));
        assert!(read(b"short").unwrap_err().contains("makes tokens of 48 characters"));
        assert_eq!(read(&[0xff; 48]), Err("is not UTF-8 text".to_owned()));
        assert!(read(format!("{token} {token}").as_bytes()).unwrap_err().contains("holds blanks"));
    }
}

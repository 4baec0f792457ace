//! The connection to a server: its TLS, and the token that goes with each call. Entry point: [`Dial`].
//!
//! Invariants:
//! - The token goes over this connection only, and is marked so that the HTTP library does not log it.
//! - Over `https` nothing is sent before the server's certificate is found good for the name that was asked for.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use crate::config::{
    ClientConfig, ClientToken, SECRET_FILE_BYTES_MAX, SecretFile, check_token, is_of_this_machine, read_secret_file,
};
use crate::core::secret::Secret;

/// How long to wait for a server that may not be there. It is on this machine: a connection takes well below 1 ms, and
/// whoever runs no server should not notice the attempt.
const CONNECT_WAIT_HERE: Duration = Duration::from_millis(300);
/// The same for one elsewhere, with a handshake over a slow line.
const CONNECT_WAIT_THERE: Duration = Duration::from_secs(5);
/// How long one call may take. The slowest answers in well below a second; a minute is a server in trouble.
const CALL_WAIT: Duration = Duration::from_secs(60);

/// What calls go through.
pub(super) type Wire = InterceptedService<Channel, Bearer>;

/// Adds the token to each call.
#[derive(Clone, Debug)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// How a server is called: everything that can be wrong on this side is found before anybody is.
pub(super) struct Dial {
    endpoint: Endpoint,
    pub(super) bearer: Bearer,
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
        let is_tls = url.starts_with("https:");
        let patience = if is_tls { CONNECT_WAIT_THERE } else { CONNECT_WAIT_HERE };
        let endpoint = Endpoint::from_shared(url.to_owned()).with_context(|| format!("the server address {url}"))?;
        let mut endpoint = endpoint.connect_timeout(patience).timeout(CALL_WAIT);
        if is_tls {
            endpoint = endpoint.tls_config(tls(client)?).context("set up TLS for the connection to the server")?;
        }
        if client.token.is_some() && !is_tls && !is_of_this_machine(url) {
            return Err(anyhow!("{url}: a token is sent over https only, or within this machine: set client.server"));
        }
        let bearer = Bearer(client.token.as_ref().map(bearer).transpose()?);
        Ok(Self { endpoint, bearer, patience })
    }

    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there, or not the one whom the address names.
    pub(super) async fn connect(&self) -> anyhow::Result<Channel> {
        let connected = tokio::time::timeout(self.patience, self.endpoint.connect()).await;
        connected.map_err(anyhow::Error::new).and_then(|channel| Ok(channel?))
    }
}

fn tls(client: &ClientConfig) -> anyhow::Result<ClientTlsConfig> {
    let tls = match &client.ca_file {
        Some(path) => {
            let pem = read("client.ca_file", path)?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pem.bytes))
        }
        None => ClientTlsConfig::new().with_native_roots(),
    };
    let Some((certificate, key)) = &client.certificate else { return Ok(tls) };
    let (certificate, key_pem) = (read("client.cert_file", certificate)?, read("client.key_file", key)?);
    warn_of_mode(key, &key_pem);
    Ok(tls.identity(Identity::from_pem(&certificate.bytes, &key_pem.bytes)))
}

fn bearer(token: &ClientToken) -> anyhow::Result<MetadataValue<Ascii>> {
    let token = match token {
        ClientToken::Inline(token) => token.clone(),
        ClientToken::File(path) => {
            let mut file = read("client.token_file", path)?;
            warn_of_mode(path, &file);
            let text = String::from_utf8(std::mem::take(&mut file.bytes)).map(Secret::new);
            let text = text.map_err(|_| anyhow!("{}: is not UTF-8 text", path.display()))?;
            let token = text.expose().trim();
            check_token(token).map_err(|problem| anyhow!("{}: the token {problem}", path.display()))?;
            Secret::new(token.to_owned())
        }
    };
    let header = Secret::new(format!("Bearer {}", token.expose()));
    // Not the library's error: it might quote what it refuses.
    let mut value = MetadataValue::try_from(header.expose()).map_err(|_| anyhow!("the token cannot be sent"))?;
    value.set_sensitive(true);
    Ok(value)
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
    fn a_token_is_sent_and_shown_nowhere() {
        const TOKEN: &str = "oidm_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let value = bearer(&ClientToken::Inline(Secret::new(TOKEN.to_owned()))).unwrap();
        let mut bearer = Bearer(Some(value));
        let request = bearer.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap().to_str().unwrap(), format!("Bearer {TOKEN}"));
        assert!(!format!("{bearer:?} {request:?}").contains("AAAA"));
        assert!(Bearer(None).call(Request::new(())).unwrap().metadata().is_empty());
    }

    #[test]
    fn a_file_with_a_token_is_read_as_people_write_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let read = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            let read = bearer(&ClientToken::File(path.clone()));
            read.map(|value| value.to_str().unwrap().to_owned())
                .map_err(|error| error.to_string().rsplit(": ").next().unwrap_or_default().to_owned())
        };
        let token = "x".repeat(48);
        assert_eq!(read(format!("{token}\r\n").as_bytes()), Ok(format!("Bearer {token}")));
        assert!(read(b"short").unwrap_err().contains("makes tokens of 48 characters"));
        assert_eq!(read(&[0xff; 48]), Err("is not UTF-8 text".to_owned()));
        assert!(read(format!("{token} {token}").as_bytes()).unwrap_err().contains("holds blanks"));
    }
}

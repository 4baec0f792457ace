//! TLS of the server: its certificate, its key and the roots of client certificates, from files that may change.
//!
//! Entry points: [`Tls::load`] at the start, [`Tls::follow_files`] beside the server.
//!
//! Invariants:
//! - Files that cannot be used change nothing: the last good ones stay in use, and log and metrics say so.
//! - Certificate and key are used together or not at all: a pair that does not fit is refused by the library.
//! - No session outlives its connection, so that a client is judged by the roots of now each time it connects.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{self, Digest};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::stats::ServerStats;
use crate::config::{SECRET_FILE_BYTES_MAX, SecretFile, ServerTlsConfig, read_secret_file};
use crate::core::certificate::CertificateFacts;

/// How often the files are looked at. They are small; a certificate is renewed days before it lapses.
const FILES_INTERVAL: Duration = Duration::from_secs(5);

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {what} {}", path.display())]
    Read {
        /// What it holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{what} {}: {problem}", path.display())]
    Content {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The library refuses them: the key is of another certificate, or of a kind that is not supported.
    #[error("use certificate {} with its key", path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The roots of client certificates are refused.
    #[error("use the roots of client certificates")]
    Roots(#[source] rustls::server::VerifierBuilderError),
}

/// What is in use.
struct Loaded {
    config: Arc<ServerConfig>,
    facts: Option<CertificateFacts>,
}

/// The files, and what was made of them last. Clones share it.
#[derive(Clone)]
pub struct Tls {
    files: ServerTlsConfig,
    interval: Duration,
    loaded: Arc<watch::Sender<Arc<Loaded>>>,
    /// Of the files as they were read at the start.
    seen: [u8; 32],
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files, and warns of a key that others can read.
    ///
    /// # Errors
    /// [`TlsError`]: a file cannot be read, or the files do not make a server.
    pub fn load(files: ServerTlsConfig) -> Result<Self, TlsError> {
        let read = Contents::read(&files)?;
        let loaded = read.build(&files)?;
        let (seen, loaded) = (read.fingerprint(), Arc::new(watch::Sender::new(Arc::new(loaded))));
        Ok(Self { files, interval: FILES_INTERVAL, loaded, seen })
    }

    /// The same, looking at its files this often.
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Takes the next connection with what is in use now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.loaded.borrow().config))
    }

    /// Uses the files as they change; never ends.
    pub(super) async fn follow_files(&self, stats: &ServerStats) {
        let told = |loaded: &Loaded| stats.use_certificate(loaded.facts.as_ref().map(|facts| facts.not_after));
        told(&self.loaded.borrow());
        // Also what could not be used is not tried again before it changes.
        let mut seen = Some(self.seen);
        loop {
            tokio::time::sleep(self.interval).await;
            let files = self.files.clone();
            let looked = tokio::task::spawn_blocking(move || look(&files, seen)).await;
            match looked {
                Ok(Look::Same) => {}
                Ok(Look::New(fingerprint, loaded)) => {
                    seen = Some(fingerprint);
                    told(&loaded);
                    let not_after = loaded.facts.as_ref().map(|facts| facts.not_after.to_iso()).unwrap_or_default();
                    tracing::info!(not_after, "the server's certificate was loaded anew");
                    self.loaded.send_replace(Arc::new(*loaded));
                }
                Ok(Look::Bad(fingerprint, error)) => {
                    // A file that is missing for a moment has no fingerprint, and is told once all the same.
                    let is_news = fingerprint.is_some() || seen.is_some();
                    seen = fingerprint;
                    stats.reload_failed();
                    if is_news {
                        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                        tracing::error!(%error, cause, "the server's certificate changed and cannot be used: the former one stays");
                    }
                }
                Err(error) => tracing::error!(%error, "cannot look at the files of the server's certificate"),
            }
        }
    }
}

/// What a look at the files brought.
enum Look {
    Same,
    New([u8; 32], Box<Loaded>),
    Bad(Option<[u8; 32]>, TlsError),
}

fn look(files: &ServerTlsConfig, seen: Option<[u8; 32]>) -> Look {
    let read = match Contents::read(files) {
        Ok(read) => read,
        Err(error) => return Look::Bad(None, error),
    };
    let fingerprint = read.fingerprint();
    if seen == Some(fingerprint) {
        return Look::Same;
    }
    match read.build(files) {
        Ok(loaded) => Look::New(fingerprint, Box::new(loaded)),
        Err(error) => Look::Bad(Some(fingerprint), error),
    }
}

/// What the files hold. Zeroed when it is dropped.
struct Contents {
    certificate: SecretFile,
    key: SecretFile,
    client_roots: Option<SecretFile>,
}

const CERTIFICATE: &str = "the server's certificate";
const KEY: &str = "the server's key";
const CLIENT_ROOTS: &str = "the roots of client certificates";

impl Contents {
    fn read(files: &ServerTlsConfig) -> Result<Self, TlsError> {
        let read = |what: &'static str, path: &Path| {
            let file = read_secret_file(path);
            let file = file.map_err(|source| TlsError::Read { what, path: path.to_owned(), source })?;
            if file.bytes.len() > SECRET_FILE_BYTES_MAX {
                let problem = "has more than 65536 bytes";
                return Err(TlsError::Content { what, path: path.to_owned(), problem });
            }
            Ok(file)
        };
        let client_roots = files.client_ca_file.as_deref().map(|path| read(CLIENT_ROOTS, path)).transpose()?;
        Ok(Self { certificate: read(CERTIFICATE, &files.cert_file)?, key: read(KEY, &files.key_file)?, client_roots })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let of = |file: &SecretFile| digest::digest(&digest::SHA256, &file.bytes);
        let mut all = digest::Context::new(&digest::SHA256);
        let parts = [Some(&self.certificate), Some(&self.key), self.client_roots.as_ref()];
        parts.into_iter().flatten().for_each(|file| all.update(of(file).as_ref()));
        let digest: Digest = all.finish();
        digest.as_ref().try_into().unwrap_or_default()
    }

    fn build(&self, files: &ServerTlsConfig) -> Result<Loaded, TlsError> {
        let chain = certificates(CERTIFICATE, &files.cert_file, &self.certificate.bytes)?;
        let facts = chain.first().and_then(|leaf| CertificateFacts::read(leaf));
        let wrong = |problem| TlsError::Content { what: KEY, path: files.key_file.clone(), problem };
        let key = PrivateKeyDer::from_pem_slice(&self.key.bytes);
        let key = key.map_err(|_| wrong("holds no private key in PEM form without a passphrase"))?;
        if let Some(warning) = self.key.mode_warning(&files.key_file) {
            tracing::warn!("{warning}");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair = |source| TlsError::Pair { path: files.cert_file.clone(), source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(pair)?;
        let builder = match (&files.client_ca_file, &self.client_roots) {
            (Some(path), Some(roots)) => {
                let roots = certificates(CLIENT_ROOTS, path, &roots.bytes)?;
                builder.with_client_cert_verifier(verifier(
                    path,
                    roots,
                    provider,
                    files.is_client_certificate_optional,
                )?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded { config: Arc::new(config), facts })
    }
}

fn certificates(what: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem| TlsError::Content { what, path: path.to_owned(), problem };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| wrong("is no PEM file"))?;
    if read.is_empty() {
        return Err(wrong("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(read)
}

fn verifier(
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    is_optional: bool,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let problem = "holds something that is no certificate";
        let added = roots.add(certificate);
        added.map_err(|_| TlsError::Content { what: CLIENT_ROOTS, path: path.to_owned(), problem })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(TlsError::Roots)
}

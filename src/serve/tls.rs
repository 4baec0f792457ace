//! TLS of the server: its certificate, its key, the roots of client certificates and the lists of revoked ones, from files that
//! may change.
//!
//! Entry points: [`Tls::load`] at the start, [`Tls::follow_files`] beside the server.
//!
//! Invariants:
//! - Files that cannot be used change nothing: the last good ones stay in use, and log and metrics say so.
//! - Certificate and key are used together or not at all: a pair that does not fit is refused by the library.
//! - No session outlives its connection, so that a client is judged by the roots and lists of now each time it connects; those
//!   that are connected are judged anew when the files change, when a list becomes too old, and once a minute.
//! - With lists, a certificate that none of them speaks of is refused, and so is each one once its list is too old. All lists of
//!   an issuer are asked ([`clients`]).

mod clients;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{self, Digest};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider as _};
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use self::clients::{ClientVerifier, LISTS_OF_ISSUER_MAX, RevocationList, root_facts};
use super::gate::{Connections, Peer};
use super::stats::ServerStats;
use crate::config::{
    REVOCATION_LISTS_BYTES_MAX, SECRET_FILE_BYTES_MAX, SecretFile, ServerTlsConfig, read_remedy, read_revocation_lists,
    read_secret_file,
};
use crate::core::certificate::{CertificateFacts, common_name};
use crate::core::ids::Timestamp;
use crate::core::revocation::RevocationListFacts;

/// How often the files are looked at. They are small; a certificate is renewed days before it lapses.
const FILES_INTERVAL: Duration = Duration::from_secs(5);

/// How often those who are connected are judged anew though no file has changed: the certificate of an authority between lapses,
/// and so does the list of one issuer while that of another is good. A judgment costs about as much as a handshake.
const JUDGE_INTERVAL: Duration = Duration::from_secs(60);

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: read {} {} ({})", what.key, what.holds, path.display(), read_remedy(source))]
    Read {
        /// Which one.
        what: TlsFile,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{}: {} {}: {problem}", what.key, what.holds, path.display())]
    Content {
        /// Which one.
        what: TlsFile,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The library refuses them: the key is of another certificate, or of a kind that is not supported.
    #[error(
        "server.tls_cert_file: use certificate {} with the key of server.tls_key_file (they must belong together)",
        path.display()
    )]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The roots of client certificates, or the lists of revoked ones, are refused.
    #[error(
        "server.tls_client_ca_file, server.tls_client_crl_file: use the roots of client certificates and the lists of revoked \
         ones (each must be one that the program can read)"
    )]
    Roots(#[source] rustls::server::VerifierBuilderError),
}

/// A file that the configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFile {
    /// The key that names it.
    key: &'static str,
    /// What it holds, or should.
    holds: &'static str,
}

/// What is in use.
pub(super) struct Loaded {
    config: Arc<ServerConfig>,
    facts: Option<CertificateFacts>,
    /// Judges client certificates, where they are asked for.
    clients: Option<Arc<ClientVerifier>>,
    /// Until when all lists of revoked certificates are good.
    lists_until: Option<Timestamp>,
}

impl Loaded {
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Whether a handshake with this certificate would be granted.
    fn is_good(&self, chain: &[CertificateDer<'static>]) -> bool {
        let (Some(clients), Some((leaf, above))) = (&self.clients, chain.split_first()) else { return true };
        let now = DefaultTimeProvider.current_time();
        now.is_some_and(|now| clients.verify_client_cert(leaf, above, now).is_ok())
    }
}

/// The files, and what was made of them last. Clones share it.
#[derive(Clone)]
pub struct Tls {
    files: ServerTlsConfig,
    interval: Duration,
    loaded: Arc<watch::Sender<Arc<Loaded>>>,
    /// The files as they were read at the start.
    first: Contents,
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
        let loaded = Arc::new(watch::Sender::new(Arc::new(loaded)));
        Ok(Self { files, interval: FILES_INTERVAL, loaded, first: read })
    }

    /// The same, looking at its files this often.
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// What the next connection is taken with.
    pub(super) fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.borrow())
    }

    /// Judges a connection that others can be told of by now, and that was let in by `before`.
    pub(super) fn judge_again(&self, peer: &Peer, before: &Arc<Loaded>) {
        let loaded = self.loaded();
        if !Arc::ptr_eq(&loaded, before)
            && let Some(certificate) = &peer.certificate
        {
            certificate.judge(now(), |chain| loaded.is_good(chain));
        }
    }

    /// Whether nobody may connect without a certificate.
    pub(super) fn needs_client_certificate(&self) -> bool {
        self.files.client_ca_file.is_some() && !self.files.is_client_certificate_optional
    }

    /// Uses it from now on, also for those who are connected; answers how many are refused.
    async fn use_now(&self, loaded: Box<Loaded>, connections: &Arc<Connections>) -> usize {
        self.loaded.send_replace(Arc::from(loaded));
        self.judge_all(connections).await
    }

    /// Judges all who are connected by what is in use; answers how many are refused.
    async fn judge_all(&self, connections: &Arc<Connections>) -> usize {
        let (loaded, connections) = (self.loaded(), Arc::clone(connections));
        let judge = move || connections.judge_certificates(now(), |chain| loaded.is_good(chain));
        tokio::task::spawn_blocking(judge).await.unwrap_or_default()
    }

    /// Uses the files as they change, and judges those who are connected by them; never ends.
    pub(super) async fn follow_files(&self, stats: &ServerStats, connections: &Arc<Connections>) {
        let told = |loaded: &Loaded| {
            let not_after = loaded.facts.as_ref().map(|facts| facts.not_after);
            stats.use_certificate(not_after, loaded.lists_until);
        };
        told(&self.loaded.borrow());
        // Also what could not be used is not tried again before it changes.
        let mut seen = Some(self.first.fingerprint());
        let mut used = self.first.clone();
        let (mut is_overdue, mut judged_at) = (false, Instant::now());
        loop {
            tokio::time::sleep(self.interval).await;
            let (files, former) = (self.files.clone(), used.clone());
            let looked = tokio::task::spawn_blocking(move || look(&files, seen, &former)).await;
            let was_overdue = is_overdue;
            is_overdue = self.tell_overdue(is_overdue);
            match looked {
                Ok(Look::Same) => {}
                Ok(Look::New(contents, loaded)) => {
                    (seen, used) = (Some(contents.fingerprint()), contents);
                    told(&loaded);
                    let not_after = loaded.facts.as_ref().map(|facts| facts.not_after.to_iso()).unwrap_or_default();
                    let refused = self.use_now(loaded, connections).await;
                    tracing::info!(
                        not_after,
                        refused,
                        "the server's certificate and the files beside it were loaded anew"
                    );
                }
                Ok(Look::Bad(fingerprint, error, rest)) => {
                    // A file that is missing for a moment has no fingerprint, and is told once all the same.
                    let is_news = fingerprint.is_some() || seen.is_some();
                    seen = fingerprint;
                    stats.reload_failed();
                    if is_news {
                        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                        tracing::error!(%error, cause, "the server's certificate, or a file beside it, changed and cannot be used: the former ones stay");
                    }
                    if let Some((contents, loaded)) = rest {
                        used = contents;
                        told(&loaded);
                        // A reload that failed stays one, until all can be used.
                        stats.reload_failed();
                        let refused = self.use_now(loaded, connections).await;
                        tracing::warn!(refused, "the other files that changed are used without it");
                    }
                }
                Err(error) => tracing::error!(%error, "cannot look at the files of the server's certificate"),
            }
            if (is_overdue && !was_overdue) || judged_at.elapsed() >= JUDGE_INTERVAL {
                let refused = self.judge_all(connections).await;
                tracing::debug!(refused, "who is connected was judged anew");
                judged_at = Instant::now();
            }
        }
    }
}

impl Tls {
    /// Says once that the lists of revoked certificates have become too old; answers whether they are.
    fn tell_overdue(&self, was_overdue: bool) -> bool {
        let until = self.loaded.borrow().lists_until;
        let is_overdue = until.is_some_and(|until| until <= now());
        if let Some(until) = until.filter(|_| is_overdue && !was_overdue) {
            let file = self.files.client_crl_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            tracing::error!(%until, file, "a list of revoked client certificates is too old: its clients are refused until there is a newer one");
        }
        is_overdue
    }
}

/// By the clock that handshakes are judged by.
fn now() -> Timestamp {
    let seconds = DefaultTimeProvider.current_time().map(|now| now.as_secs()).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(seconds).unwrap_or_default().saturating_mul(1_000))
}

/// What a look at the files brought.
enum Look {
    Same,
    New(Contents, Box<Loaded>),
    /// Something cannot be used. The rest that has changed, if it can be.
    Bad(Option<[u8; 32]>, TlsError, Option<(Contents, Box<Loaded>)>),
}

/// Looks at the files. Where one cannot be used, the server's certificate or what clients are judged by may still be: a client
/// that was revoked must not stay because a renewal of the other is half done.
fn look(files: &ServerTlsConfig, seen: Option<[u8; 32]>, former: &Contents) -> Look {
    let (own, clients) = (OwnFiles::read(files), ClientFiles::read(files));
    let changed_own = own.as_ref().ok().filter(|own| own.digest != former.own.digest).cloned();
    let changed_clients = clients.as_ref().ok().filter(|clients| clients.digest != former.clients.digest).cloned();
    let (fingerprint, error) = match (own, clients) {
        (Ok(own), Ok(clients)) => {
            let contents = Contents { own, clients };
            let fingerprint = contents.fingerprint();
            if seen == Some(fingerprint) {
                return Look::Same;
            }
            match contents.build(files) {
                Ok(loaded) => return Look::New(contents, Box::new(loaded)),
                Err(error) => (Some(fingerprint), error),
            }
        }
        (Err(error), _) | (_, Err(error)) => (None, error),
    };
    let with_clients = changed_clients.map(|clients| Contents { clients, ..former.clone() });
    let with_own = changed_own.map(|own| Contents { own, ..former.clone() });
    let mut rest = with_clients.into_iter().chain(with_own);
    let rest = rest.find_map(|contents| contents.build(files).ok().map(|loaded| (contents, Box::new(loaded))));
    Look::Bad(fingerprint, error, rest)
}

/// What the server shows of itself. Zeroed when it is dropped.
struct OwnFiles {
    certificate: SecretFile,
    key: SecretFile,
    digest: [u8; 32],
}

/// What clients are judged by.
struct ClientFiles {
    roots: Option<SecretFile>,
    lists: Option<SecretFile>,
    digest: [u8; 32],
}

/// What the files hold.
#[derive(Clone)]
struct Contents {
    own: Arc<OwnFiles>,
    clients: Arc<ClientFiles>,
}

/// One number for some files, of which some may not be named.
fn digest_of(files: [Option<&SecretFile>; 2]) -> [u8; 32] {
    let mut all = digest::Context::new(&digest::SHA256);
    for file in files {
        let of = file.map(|file| digest::digest(&digest::SHA256, &file.bytes));
        all.update(of.as_ref().map(Digest::as_ref).unwrap_or_default());
    }
    all.finish().as_ref().try_into().unwrap_or_default()
}

const CERTIFICATE: TlsFile = TlsFile { key: "server.tls_cert_file", holds: "the server's certificate" };
const KEY: TlsFile = TlsFile { key: "server.tls_key_file", holds: "the server's key" };
const CLIENT_ROOTS: TlsFile = TlsFile { key: "server.tls_client_ca_file", holds: "the roots of client certificates" };
const CLIENT_LISTS: TlsFile =
    TlsFile { key: "server.tls_client_crl_file", holds: "the lists of revoked client certificates" };

fn read_file(
    what: TlsFile,
    path: &Path,
    read: fn(&Path) -> std::io::Result<SecretFile>,
    max: usize,
) -> Result<SecretFile, TlsError> {
    let file = read(path).map_err(|source| TlsError::Read { what, path: path.to_owned(), source })?;
    if file.bytes.len() > max {
        let problem = format!("has more than {max} bytes");
        return Err(TlsError::Content { what, path: path.to_owned(), problem });
    }
    Ok(file)
}

fn read_small(what: TlsFile, path: &Path) -> Result<SecretFile, TlsError> {
    read_file(what, path, read_secret_file, SECRET_FILE_BYTES_MAX)
}

impl OwnFiles {
    fn read(files: &ServerTlsConfig) -> Result<Arc<Self>, TlsError> {
        let (certificate, key) = (read_small(CERTIFICATE, &files.cert_file)?, read_small(KEY, &files.key_file)?);
        let digest = digest_of([Some(&certificate), Some(&key)]);
        Ok(Arc::new(Self { certificate, key, digest }))
    }
}

impl ClientFiles {
    fn read(files: &ServerTlsConfig) -> Result<Arc<Self>, TlsError> {
        let lists = |path: &Path| read_file(CLIENT_LISTS, path, read_revocation_lists, REVOCATION_LISTS_BYTES_MAX);
        let roots = files.client_ca_file.as_deref().map(|path| read_small(CLIENT_ROOTS, path)).transpose()?;
        let lists = files.client_crl_file.as_deref().map(lists).transpose()?;
        let digest = digest_of([roots.as_ref(), lists.as_ref()]);
        Ok(Arc::new(Self { roots, lists, digest }))
    }
}

impl Contents {
    fn read(files: &ServerTlsConfig) -> Result<Self, TlsError> {
        Ok(Self { clients: ClientFiles::read(files)?, own: OwnFiles::read(files)? })
    }

    fn fingerprint(&self) -> [u8; 32] {
        let mut both = digest::Context::new(&digest::SHA256);
        both.update(&self.own.digest);
        both.update(&self.clients.digest);
        both.finish().as_ref().try_into().unwrap_or_default()
    }

    fn build(&self, files: &ServerTlsConfig) -> Result<Loaded, TlsError> {
        let chain = certificates(CERTIFICATE, &files.cert_file, &self.own.certificate.bytes)?;
        let facts = chain.first().and_then(|leaf| CertificateFacts::read(leaf));
        let wrong = |problem| content(KEY, &files.key_file, problem);
        let key = PrivateKeyDer::from_pem_slice(&self.own.key.bytes);
        let key = key.map_err(|_| wrong("holds no private key in PEM form without a passphrase"))?;
        if let Some(warning) = self.own.key.mode_warning(&files.key_file) {
            tracing::warn!("{warning}");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pair = |source| TlsError::Pair { path: files.cert_file.clone(), source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(pair)?;
        let (mut clients, mut lists_until) = (None, None);
        if let (Some(path), Some(roots)) = (&files.client_ca_file, &self.clients.roots) {
            let roots = store_of(path, &roots.bytes)?;
            let lists = self.lists(files, &roots)?;
            lists_until = lists.iter().map(|list| list.facts.next_update).min();
            let judge = ClientVerifier::new(roots, lists, &provider, files.is_client_certificate_optional);
            clients = Some(Arc::new(judge.map_err(TlsError::Roots)?));
        }
        let builder = match &clients {
            Some(clients) => {
                let clients: Arc<dyn ClientCertVerifier> = clients.clone();
                builder.with_client_cert_verifier(clients)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Loaded { config: Arc::new(config), facts, clients, lists_until })
    }

    /// The lists of revoked certificates, as far as they can be judged before one is used: none is too old, or of a kind that
    /// cannot be asked.
    fn lists(&self, files: &ServerTlsConfig, roots: &RootCertStore) -> Result<Vec<RevocationList>, TlsError> {
        let (Some(path), Some(file)) = (&files.client_crl_file, &self.clients.lists) else {
            return Ok(Vec::new());
        };
        let wrong = |problem: &str| content(CLIENT_LISTS, path, problem);
        let read: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&file.bytes).collect();
        let ders = read.map_err(|_| wrong("is no PEM file"))?;
        if ders.is_empty() {
            return Err(wrong("holds no list in PEM form (-----BEGIN X509 CRL-----)"));
        }
        let now = now();
        let (mut lists, mut counts) = (Vec::with_capacity(ders.len()), BTreeMap::new());
        for der in ders {
            let read = RevocationListFacts::read(&der);
            let facts =
                read.ok_or(wrong("holds something that is no list of version 2 with the time of its next update"))?;
            let name = &facts.issuer_name;
            if let Some(fault) = facts.scope.fault() {
                return Err(wrong(&format!("a list of \"{name}\" {fault}")));
            }
            if facts.next_update <= now {
                let due = facts.next_update;
                let problem =
                    format!("the list of \"{name}\" is too old: a newer one was due at {due}; put that in its place");
                return Err(wrong(&problem));
            }
            let count: &mut usize = counts.entry(facts.issuer.clone()).or_default();
            *count += 1;
            if *count > LISTS_OF_ISSUER_MAX {
                let problem =
                    format!("there are more than {LISTS_OF_ISSUER_MAX} lists of \"{name}\": keep the newest ones");
                return Err(wrong(&problem));
            }
            lists.push(RevocationList { facts, der });
        }
        // Each list would have to be signed with both keys, since all are asked about each certificate.
        let known: Vec<_> = roots.roots.iter().map(root_facts).collect();
        let has_two_keys = |issuer: &[u8]| {
            let mut of_name = known.iter().filter(|root| root.subject == issuer);
            of_name.next().is_some_and(|first| of_name.any(|other| other.key != first.key))
        };
        if let Some((issuer, _)) = counts.iter().find(|(issuer, count)| **count > 1 && has_two_keys(issuer)) {
            let name = common_name(issuer);
            let problem = format!(
                "there are several lists of \"{name}\", and two roots of that name with different keys: keep one of these roots \
                 and its lists"
            );
            return Err(wrong(&problem));
        }
        for root in &roots.roots {
            let subject: &[u8] = root.subject.as_ref();
            if !counts.contains_key(subject) {
                let root = common_name(subject);
                tracing::warn!(
                    root,
                    "there is no list of revoked certificates of this root: clients of it are refused"
                );
            }
        }
        Ok(lists)
    }
}

fn content(what: TlsFile, path: &Path, problem: &str) -> TlsError {
    TlsError::Content { what, path: path.to_owned(), problem: problem.to_owned() }
}

fn certificates(what: TlsFile, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|_| content(what, path, "is no PEM file"))?;
    if read.is_empty() {
        return Err(content(what, path, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(read)
}

fn store_of(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_ROOTS, path, pem)? {
        let added = roots.add(certificate);
        added.map_err(|_| content(CLIENT_ROOTS, path, "holds something that is no certificate"))?;
    }
    Ok(roots)
}

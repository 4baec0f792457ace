//! Certificates of the tests: the root that the client trusts, and servers that it made. Entry point: [`acceptor`].

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// What the client is told to trust.
pub(super) const ROOT: &[u8] = include_bytes!("../../../tests/keys/tls/root.pem");
/// Another root, which made none of the certificates.
pub(super) const OTHER_ROOT: &[u8] = include_bytes!("../../../tests/keys/tls/other-root.pem");

/// Takes connections as `localhost`, `127.0.0.1`, `acme.okta.example` and `evil.example`, and offers these protocols.
pub(super) fn acceptor(protocols: &[&[u8]]) -> TlsAcceptor {
    let certificate = include_bytes!("../../../tests/keys/tls/server.pem");
    let key = include_bytes!("../../../tests/keys/tls/server-key.pem");
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

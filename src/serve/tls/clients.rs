//! Who is let in by his certificate: what the library finds good, asked about each list of revoked certificates. Entry point:
//! [`ClientVerifier::new`].
//!
//! The library asks one list about a certificate: the first of its issuer that may speak of it. Where an issuer has several,
//! which is how large authorities divide theirs, it is asked several times: once with all lists, where one has to speak of
//! each certificate; then with the second list of each issuer alone, with the third, and so on, where none may say no.
//!
//! Invariants:
//! - A certificate that our own reader cannot read is nobody's, and is refused: it could not be judged again later.
//! - Who is let in is on none of the lists that speak of him, all of which are signed by his issuer and not too old; and there is
//!   one. The same holds of each certificate above his.
//! - All these questions are about the same certificates: with more than one list, or one that scopes itself, there is one way
//!   up to a root, or nobody is let in (`core::revocation`).

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use crate::core::certificate::CertificateFacts;
use crate::core::revocation::{ListScope, RevocationListFacts, RootFacts, Scopes};

/// Lists of one issuer. Each further one costs a handshake the check of some signatures, a tenth of a millisecond.
pub(super) const LISTS_OF_ISSUER_MAX: usize = 32;

/// A list with what it says of itself.
pub(super) struct RevocationList {
    pub(super) facts: RevocationListFacts,
    pub(super) der: CertificateRevocationListDer<'static>,
}

/// Judges client certificates.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// Knows all lists.
    first: Arc<dyn ClientCertVerifier>,
    /// Each knows one further list of each issuer that has so many.
    further: Vec<Arc<dyn ClientCertVerifier>>,
    /// Where it matters by which way a certificate goes up.
    scoping: Option<Scoping>,
}

#[derive(Debug)]
struct Scoping {
    scopes: Scopes,
    roots: Vec<RootFacts>,
}

impl ClientVerifier {
    /// Judges by these roots and lists; of no issuer are there more than [`LISTS_OF_ISSUER_MAX`]. Without lists nobody is
    /// looked up in one.
    ///
    /// # Errors
    /// The library refuses the roots or a list.
    pub(super) fn new(
        roots: RootCertStore,
        lists: Vec<RevocationList>,
        provider: &Arc<CryptoProvider>,
        is_optional: bool,
    ) -> Result<Self, VerifierBuilderError> {
        let is_scoped = lists.iter().any(|list| list.facts.scope != ListScope::Whole);
        let mut further: Vec<Vec<CertificateRevocationListDer<'static>>> = Vec::new();
        let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
        for list in &lists {
            let count = counts.entry(&list.facts.issuer).or_default();
            if let Some(place) = count.checked_sub(1) {
                match further.get_mut(place) {
                    Some(round) => round.push(list.der.clone()),
                    None => further.push(vec![list.der.clone()]),
                }
            }
            *count += 1;
        }
        let scoping = (is_scoped || !further.is_empty()).then(|| Scoping {
            scopes: Scopes::of(lists.iter().map(|list| &list.facts)),
            roots: roots.roots.iter().map(root_facts).collect(),
        });
        let roots = Arc::new(roots);
        let builder = || WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
        let further = further.into_iter().map(|round| {
            let builder = builder().with_crls(round).enforce_revocation_expiration();
            // Which list speaks of whom, the first one has asked.
            builder.allow_unknown_revocation_status().build()
        });
        let further = further.collect::<Result<_, _>>()?;
        let first = builder().with_crls(lists.into_iter().map(|list| list.der)).enforce_revocation_expiration();
        let first = if is_optional { first.allow_unauthenticated() } else { first };
        Ok(Self { first: first.build()?, further, scoping })
    }
}

/// What a root is compared by.
pub(super) fn root_facts(root: &rustls::pki_types::TrustAnchor<'_>) -> RootFacts {
    RootFacts { subject: root.subject.to_vec(), key: root.subject_public_key_info.to_vec() }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.first.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.first.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.first.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if CertificateFacts::read(leaf).is_none() {
            return Err(CertificateError::BadEncoding.into());
        }
        let Some(Scoping { scopes, roots }) = &self.scoping else {
            return self.first.verify_client_cert(leaf, above, now);
        };
        let ders: Vec<&[u8]> = above.iter().map(|certificate| certificate.as_ref()).collect();
        let Some(way) = scopes.way_up(leaf, &ders, roots) else {
            // Whatever else is wrong with it says more.
            self.first.verify_client_cert(leaf, above, now)?;
            return Err(CertificateError::UnknownRevocationStatus.into());
        };
        let way: Vec<CertificateDer<'_>> = way.into_iter().filter_map(|place| above.get(place).cloned()).collect();
        for verifier in &self.further {
            verifier.verify_client_cert(leaf, &way, now)?;
        }
        self.first.verify_client_cert(leaf, &way, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.first.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.first.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;

//! Who is known, with what each of them takes; may be replaced while calls are under way. Entry points: [`Known::new`],
//! [`Known::client`].
//!
//! Invariant: whoever stays known by the same credential keeps his limits and what he takes of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::clients::{ClientLimits, ClientState};
use super::leases::PeerCertificate;
use super::{Peer, refused};
use crate::core::access::{Access, Credential, Role, TokenHash};
use crate::core::ids::Timestamp;
use crate::serve::errors::Failure;

/// Why a certificate that was good is not.
const CERTIFICATE_EXPIRED: &str = "the client certificate has expired";
const CERTIFICATE_REFUSED: &str = "the client certificate was revoked, or is no longer trusted";
/// Also of a token that was taken back.
pub(super) const TOKEN_UNKNOWN: &str = "the token is not known";

/// By what a caller asks to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The token that was sent.
    Token(TokenHash),
    /// The certificate of the connection.
    Certificate,
}

/// A client with what it takes.
#[derive(Debug)]
pub(super) struct KnownClient {
    pub(super) name: Arc<str>,
    pub(super) role: Role,
    pub(super) state: Arc<ClientState>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) access: Arc<Access>,
    /// As `access` has them.
    clients: Vec<KnownClient>,
}

impl Known {
    pub(super) fn new(access: Arc<Access>, limits: ClientLimits, before: Option<&Self>) -> Self {
        let before = before.map(|before| before.access.clients().iter().zip(&before.clients));
        let states: HashMap<&Credential, &Arc<ClientState>> =
            before.into_iter().flatten().map(|(client, known)| (&client.credential, &known.state)).collect();
        let known = access.clients().iter().map(|client| KnownClient {
            name: client.name.as_str().into(),
            role: client.role,
            state: match states.get(&client.credential) {
                Some(state) => Arc::clone(state),
                None => Arc::new(ClientState::new(limits)),
            },
        });
        Self { clients: known.collect(), access }
    }

    /// Who it is, and until when that is good: of a certificate its end.
    ///
    /// # Errors
    /// [`Failure::CredentialRequired`]: nobody who is known.
    pub(super) fn client(
        &self,
        who: Who,
        peer: &Peer,
        now: Timestamp,
    ) -> Result<(&KnownClient, Option<Timestamp>), Failure> {
        if let Some(failure) = peer.certificate.as_ref().and_then(|certificate| fault(certificate, now)) {
            return Err(failure);
        }
        let (place, until) = match who {
            Who::Token(hash) => (self.access.by_token(&hash).ok_or(refused(TOKEN_UNKNOWN))?, None),
            Who::Certificate => {
                let certificate = peer.certificate.as_ref().ok_or(refused("no token was sent"))?;
                if certificate.facts.not_after < now {
                    return Err(refused(CERTIFICATE_EXPIRED));
                }
                let known = self.access.by_certificate(&certificate.facts.names);
                let place = known.ok_or(refused("nobody of this client certificate's names is known"))?;
                (place, Some(certificate.facts.not_after))
            }
        };
        let client = self.clients.get(place).ok_or(refused(TOKEN_UNKNOWN))?;
        Ok((client, until))
    }
}

/// Why nothing may go on over a connection with this certificate, whoever calls: a handshake with it would fail. One that has
/// merely lapsed where none is needed says nothing about who sends a token.
pub(super) fn fault(certificate: &PeerCertificate, now: Timestamp) -> Option<Failure> {
    if certificate.is_refused() {
        return Some(refused(CERTIFICATE_REFUSED));
    }
    (certificate.is_required && certificate.facts.not_after < now).then_some(refused(CERTIFICATE_EXPIRED))
}

/// What ends an answer whose certificate has lapsed.
pub(super) const fn expired() -> Failure {
    refused(CERTIFICATE_EXPIRED)
}

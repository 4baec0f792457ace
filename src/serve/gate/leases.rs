//! What goes on after it was let in: streams, and the connections below them. Entry points: [`Connections::sweep`],
//! [`Connections::judge_certificates`].
//!
//! Every second each stream is judged as if its call came now. One whose caller is no longer known ends with `UNAUTHENTICATED`;
//! if that has not happened a second later, since its client does not read, the connection is closed: HTTP/2 asks a stream that
//! is not read for nothing, not even for its end. So is a connection whose certificate was revoked, or has lapsed where nobody may
//! connect without one, whoever calls over it; and one over which nobody calls by a credential that is still known.
//!
//! Invariants:
//! - No stream and no connection outlives the right to it by more than two sweeps, whatever its client does.
//! - Nothing here keeps a stream or a connection alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Waker};

use futures_util::task::AtomicWaker;
use rustls::pki_types::CertificateDer;

use super::Peer;
use super::known::Who;
use crate::core::access::Role;
use crate::core::certificate::CertificateFacts;
use crate::core::ids::Timestamp;
use crate::serve::errors::Failure;

/// The certificate that a client showed at the handshake.
#[derive(Debug)]
pub(in crate::serve) struct PeerCertificate {
    /// What it says.
    pub(in crate::serve) facts: CertificateFacts,
    /// It and those above it, as they were sent.
    chain: Vec<CertificateDer<'static>>,
    /// Whether nobody may connect without one.
    pub(super) is_required: bool,
    is_refused: AtomicBool,
}

impl PeerCertificate {
    /// `None`: it cannot be read, and is nobody's.
    pub(in crate::serve) fn read(chain: &[CertificateDer<'_>], is_required: bool) -> Option<Self> {
        let facts = CertificateFacts::read(chain.first()?)?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Self { facts, chain, is_required, is_refused: AtomicBool::new(false) })
    }

    #[cfg(test)]
    pub(super) fn of(facts: CertificateFacts, is_required: bool) -> Self {
        Self { facts, chain: Vec::new(), is_required, is_refused: AtomicBool::new(false) }
    }

    /// Whether a handshake with it would fail now: it was revoked, or its root taken away.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Judges it anew. Of one that has lapsed stays what was found before: no handshake would say more than that it has.
    pub(in crate::serve) fn judge(&self, now: Timestamp, is_good: impl FnOnce(&[CertificateDer<'static>]) -> bool) {
        if self.facts.not_after >= now {
            self.is_refused.store(!is_good(&self.chain), Ordering::Relaxed);
        }
    }
}

/// Ends a connection from elsewhere.
#[derive(Debug, Default)]
pub(in crate::serve) struct Cut {
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

impl Cut {
    /// Answers whether it was not cut before.
    fn cut(&self) -> bool {
        let was_cut = self.is_cut.swap(true, Ordering::AcqRel);
        self.waker.wake();
        !was_cut
    }

    /// Whether the connection has to end; if not, the task is woken up when it has to.
    pub(in crate::serve) fn is_cut(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_cut.load(Ordering::Acquire)
    }
}

/// By what a connection goes on.
#[derive(Debug, Default)]
pub(in crate::serve) struct Standing {
    /// The credential of the last call that passed, or of a stream that is open.
    by: Mutex<Option<Who>>,
    /// Whether the last sweep found that it has to end; its streams were told then.
    is_warned: AtomicBool,
}

impl Standing {
    pub(super) fn prove(&self, who: Who) {
        *self.by.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
    }

    fn by(&self) -> Option<Who> {
        *self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that goes on for as long as its caller is known.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) who: Who,
    pub(super) need: Role,
    pub(super) peer: Arc<Peer>,
    over: OnceLock<Failure>,
    waker: AtomicWaker,
}

impl Lease {
    pub(super) fn new(who: Who, need: Role, peer: Arc<Peer>) -> Arc<Self> {
        Arc::new(Self { who, need, peer, over: OnceLock::new(), waker: AtomicWaker::new() })
    }

    /// Why the stream has to end; if it has not, the task is woken up when it has to.
    pub(super) fn over(&self, waker: &Waker) -> Option<&Failure> {
        self.waker.register(waker);
        self.over.get()
    }
}

/// What a sweep has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// Streams that were told to end.
    pub(super) told: usize,
    /// Connections that were closed: a stream that was told had not ended, or nobody is known any more by whom they go on.
    pub(super) cut: usize,
}

/// Streams that are open by a credential, and connections that a credential or certificate is needed for.
#[derive(Debug, Default)]
pub(in crate::serve) struct Connections {
    leases: Mutex<Vec<Weak<Lease>>>,
    peers: Mutex<Vec<Weak<Peer>>>,
}

impl Connections {
    /// Notes a stream. It is forgotten when nobody holds it.
    pub(super) fn lease(&self, lease: &Arc<Lease>) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(lease));
    }

    /// Notes a connection. It is forgotten when nobody holds it.
    pub(in crate::serve) fn connect(&self, peer: &Arc<Peer>) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(peer));
    }

    /// Judges every stream, where `judge` answers why it may not go on; then every connection, by its certificate and by what
    /// has proven it last. One that may not go on is closed by the second sweep that finds it so.
    pub(super) fn sweep(
        &self,
        judge: impl Fn(&Lease) -> Option<Failure>,
        may_go_on: impl Fn(&Peer, Option<Who>) -> bool,
    ) -> Swept {
        let mut swept = Swept::default();
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|lease| {
            let Some(lease) = lease.upgrade() else { return false };
            if lease.over.get().is_some() {
                swept.cut += usize::from(lease.peer.cut.cut());
                return false;
            }
            match judge(&lease) {
                Some(failure) => {
                    // Nobody else sets it.
                    let _ = lease.over.set(failure);
                    lease.waker.wake();
                    swept.told += 1;
                }
                // Somebody else's credential over the same connection may be gone: this one holds it.
                None => lease.peer.standing.prove(lease.who),
            }
            true
        });
        drop(leases);
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).retain(|peer| {
            let Some(peer) = peer.upgrade() else { return false };
            let is_over = !may_go_on(&peer, peer.standing.by());
            if peer.standing.is_warned.swap(is_over, Ordering::Relaxed) && is_over {
                swept.cut += usize::from(peer.cut.cut());
            }
            true
        });
        swept
    }

    /// Judges the certificate of every connection anew; answers how many are refused now. What was refused before may be good
    /// again.
    pub(in crate::serve) fn judge_certificates(
        &self,
        now: Timestamp,
        is_good: impl Fn(&[CertificateDer<'static>]) -> bool,
    ) -> usize {
        // Not under the lock: it takes a while, and connections are made meanwhile, by the rules of now.
        let peers: Vec<Weak<Peer>> = self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let alive = peers.iter().filter_map(Weak::upgrade);
        let judged = alive.filter(|peer| {
            let certificate = peer.certificate.as_ref();
            certificate.inspect(|certificate| certificate.judge(now, &is_good)).is_some_and(PeerCertificate::is_refused)
        });
        judged.count()
    }
}

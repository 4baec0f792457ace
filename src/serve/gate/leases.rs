//! What goes on after it was let in: streams, and the connections below them. Entry points: [`Connections::sweep`],
//! [`Connections::judge_certificates`].
//!
//! Every second each stream is judged as if its call came now. One whose caller is no longer known ends with `UNAUTHENTICATED`;
//! if that has not happened a second later, since its client does not read, the connection is closed: HTTP/2 asks a stream that
//! is not read for nothing, not even for its end.
//!
//! Invariants:
//! - No stream outlives the right to it by more than two sweeps, whatever its client does.
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
use crate::serve::errors::Failure;

/// The certificate that a client showed at the handshake.
#[derive(Debug)]
pub(in crate::serve) struct PeerCertificate {
    /// What it says.
    pub(in crate::serve) facts: CertificateFacts,
    /// It and those above it, as they were sent.
    chain: Vec<CertificateDer<'static>>,
    is_refused: AtomicBool,
}

impl PeerCertificate {
    /// `None`: it cannot be read, and is nobody's.
    pub(in crate::serve) fn read(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let facts = CertificateFacts::read(chain.first()?)?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Self { facts, chain, is_refused: AtomicBool::new(false) })
    }

    #[cfg(test)]
    pub(super) fn of(facts: CertificateFacts) -> Self {
        Self { facts, chain: Vec::new(), is_refused: AtomicBool::new(false) }
    }

    /// Whether a handshake with it would fail now: it was revoked, or its root taken away.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Notes what came of judging it anew.
    pub(in crate::serve) fn judge(&self, is_good: impl FnOnce(&[CertificateDer<'static>]) -> bool) {
        self.is_refused.store(!is_good(&self.chain), Ordering::Relaxed);
    }
}

/// Ends a connection from elsewhere.
#[derive(Debug, Default)]
pub(in crate::serve) struct Cut {
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

impl Cut {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether the connection has to end; if not, the task is woken up when it has to.
    pub(in crate::serve) fn is_cut(&self, cx: &Context<'_>) -> bool {
        self.waker.register(cx.waker());
        self.is_cut.load(Ordering::Acquire)
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
    /// Connections that were closed, since a stream that was told had not ended.
    pub(super) cut: usize,
}

/// Streams that are open by a credential, and connections with a certificate.
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

    /// Notes a connection with a certificate.
    pub(in crate::serve) fn connect(&self, peer: &Arc<Peer>) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(peer));
    }

    /// Judges every stream; `judge` answers why it may not go on.
    pub(super) fn sweep(&self, judge: impl Fn(&Lease) -> Option<Failure>) -> Swept {
        let mut swept = Swept::default();
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|lease| {
            let Some(lease) = lease.upgrade() else { return false };
            if lease.over.get().is_some() {
                lease.peer.cut.cut();
                swept.cut += 1;
                return false;
            }
            if let Some(failure) = judge(&lease) {
                // Nobody else sets it.
                let _ = lease.over.set(failure);
                lease.waker.wake();
                swept.told += 1;
            }
            true
        });
        drop(leases);
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).retain(|peer| peer.strong_count() > 0);
        swept
    }

    /// Judges the certificate of every connection anew; answers how many are refused now. What was refused before may be good
    /// again.
    pub(in crate::serve) fn judge_certificates(&self, is_good: impl Fn(&[CertificateDer<'static>]) -> bool) -> usize {
        // Not under the lock: it takes a while, and connections are made meanwhile, by the rules of now.
        let peers: Vec<Weak<Peer>> = self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let alive = peers.iter().filter_map(Weak::upgrade);
        let judged = alive.filter(|peer| {
            let certificate = peer.certificate.as_ref();
            certificate.inspect(|certificate| certificate.judge(&is_good)).is_some_and(PeerCertificate::is_refused)
        });
        judged.count()
    }
}

//! What the server counts about its callers, for the metrics. Entry point: [`ServerStats`].
//!
//! Invariant: numbers only; nothing here tells who called.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use crate::core::ids::Timestamp;

/// Why a call was refused before it reached a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallRefusal {
    /// No credential, or a bad one.
    Unauthenticated,
    /// The caller lacks the role.
    Role,
    /// The client has as many calls as it may.
    Limit,
}

impl CallRefusal {
    pub(super) const ALL: [(Self, &'static str); 3] =
        [(Self::Unauthenticated, "unauthenticated"), (Self::Role, "role"), (Self::Limit, "limit")];
}

/// Why a connection was not taken, or ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionRefusal {
    /// There are as many as there may be.
    Limit,
    /// The handshake failed: no TLS, no or a bad certificate.
    Handshake,
    /// The handshake was not over in time, or made room for newer ones.
    Slow,
    /// No call that needs a credential passed in time.
    Unproven,
    /// A stream on it was not read, and its caller is no longer known.
    Withdrawn,
    /// The system gave none: it lacks descriptors or memory.
    System,
}

impl ConnectionRefusal {
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::Limit, "limit"),
        (Self::Handshake, "handshake"),
        (Self::Slow, "slow_handshake"),
        (Self::Unproven, "unproven"),
        (Self::Withdrawn, "withdrawn"),
        (Self::System, "system"),
    ];
}

/// Counts of one server. The same one goes to whoever serves and to whoever tells the metrics.
#[derive(Debug, Default)]
pub struct ServerStats {
    connections: AtomicUsize,
    refused_calls: [AtomicU64; CallRefusal::ALL.len()],
    refused_connections: [AtomicU64; ConnectionRefusal::ALL.len()],
    has_tls: AtomicBool,
    is_reload_failing: AtomicBool,
    /// Milliseconds; 0: not known.
    certificate_not_after: AtomicI64,
    /// Milliseconds; 0: there are none.
    revocation_lists_until: AtomicI64,
    has_access_file: AtomicBool,
    is_access_failing: AtomicBool,
}

/// What is told of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TlsStats {
    /// Whether the files changed and cannot be used.
    pub(super) is_reload_failing: bool,
    /// Until when the certificate in use is good.
    pub(super) not_after: Option<Timestamp>,
    /// Until when the lists of revoked client certificates are.
    pub(super) lists_until: Option<Timestamp>,
}

impl ServerStats {
    pub(super) fn refuse_call(&self, refusal: CallRefusal) {
        if let Some(count) = self.refused_calls.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls that were refused for this reason.
    pub(super) fn refused_calls(&self, refusal: CallRefusal) -> u64 {
        self.refused_calls.get(refusal as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn refuse_connection(&self, refusal: ConnectionRefusal) {
        if let Some(count) = self.refused_connections.get(refusal as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Connections that were refused for this reason.
    pub(super) fn refused_connections(&self, refusal: ConnectionRefusal) -> u64 {
        self.refused_connections.get(refusal as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn disconnected(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections at the moment, handshakes left out.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A certificate is in use, and lists of revoked ones that are good until then.
    pub(super) fn use_certificate(&self, not_after: Option<Timestamp>, lists_until: Option<Timestamp>) {
        self.has_tls.store(true, Ordering::Relaxed);
        self.is_reload_failing.store(false, Ordering::Relaxed);
        self.certificate_not_after.store(not_after.map_or(0, Timestamp::as_millis), Ordering::Relaxed);
        self.revocation_lists_until.store(lists_until.map_or(0, Timestamp::as_millis), Ordering::Relaxed);
    }

    /// The files of the certificate changed and cannot be used.
    pub(super) fn reload_failed(&self) {
        self.is_reload_failing.store(true, Ordering::Relaxed);
    }

    /// With TLS.
    pub(super) fn tls(&self) -> Option<TlsStats> {
        if !self.has_tls.load(Ordering::Relaxed) {
            return None;
        }
        let time = |millis: &AtomicI64| match millis.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Timestamp::from_millis(millis)),
        };
        Some(TlsStats {
            is_reload_failing: self.is_reload_failing.load(Ordering::Relaxed),
            not_after: time(&self.certificate_not_after),
            lists_until: time(&self.revocation_lists_until),
        })
    }

    /// Whether the file that names clients changed and cannot be used, after each look at it.
    pub(super) fn access_file(&self, is_failing: bool) {
        self.has_access_file.store(true, Ordering::Relaxed);
        self.is_access_failing.store(is_failing, Ordering::Relaxed);
    }

    /// With a file that names clients: whether it changed and cannot be used.
    pub(super) fn is_access_failing(&self) -> Option<bool> {
        self.has_access_file.load(Ordering::Relaxed).then(|| self.is_access_failing.load(Ordering::Relaxed))
    }
}

//! Who may pass: one place in front of all services, by the path of the call alone. Entry point: [`Gate`].
//!
//! | the call | answer |
//! |---|---|
//! | a path that is not in the table | `UNIMPLEMENTED`; no service sees it |
//! | health | passes |
//! | no client is configured | passes: everybody may do everything |
//! | no credential, one that is not known or no longer good, two tokens | `UNAUTHENTICATED` |
//! | a role below what the rpc needs | `PERMISSION_DENIED` |
//! | more than the client may have at a time or in a second | `RESOURCE_EXHAUSTED` |
//!
//! Invariants:
//! - Nothing of a request's body is read before its caller may pass.
//! - A token that is sent decides alone: beside a wrong one no certificate counts.
//! - No credential is logged, and none gets further than here.

mod clients;
mod methods;

use std::convert::Infallible;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower_layer::Layer;
use tower_service::Service;

pub use self::clients::ClientLimits;
pub(super) use self::clients::{ClientState, Places, Strangers};
use self::methods::{Method, Need, method_of};
use super::errors::Failure;
use super::stats::{CallRefusal, ServerStats};
use crate::core::access::{Access, Role};
use crate::core::certificate::CertificateFacts;
use crate::core::ids::Timestamp;

/// Refused calls of a kind are told in the log at most this often, in milliseconds: a client that was set up wrongly tries
/// again and again. Each kind by itself, so that those who have no token do not hide what somebody tries who has one.
const REFUSALS_LOG_MILLIS: i64 = 1_000;

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Its place among those of its address.
    pub(super) stranger: Arc<ClientState>,
    /// What its certificate says; that it is good was checked at the handshake.
    pub(super) certificate: Option<CertificateFacts>,
    /// Whether a call over it has passed that not everybody may make.
    pub(super) is_proven: AtomicBool,
}

/// Whose call it is; among the extensions of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Name of the token or certificate; empty where nobody is asked who he is.
    pub(super) name: Arc<str>,
    pub(super) address: Option<SocketAddr>,
    /// Whether the call is logged even if it only looks up.
    pub(super) is_audited: bool,
}

impl Caller {
    /// Who calls from the same process.
    pub(super) fn this_process() -> Self {
        Self { name: "this process".into(), address: None, is_audited: false }
    }

    /// Of a request: whoever the gate let in, or else this process.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(Self::this_process)
    }

    /// A number that the calls of a connection share, and those of others mostly do not.
    pub(super) fn connection(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.address.hash(&mut hasher);
        hasher.finish()
    }

    /// The address, for the log.
    pub(super) fn peer(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// A client with what it takes.
#[derive(Debug)]
struct KnownClient {
    name: Arc<str>,
    role: Role,
    state: Arc<ClientState>,
}

#[derive(Debug)]
struct Rules {
    access: Arc<Access>,
    /// As `access` has them.
    clients: Vec<KnownClient>,
    audit_lookups: bool,
    clock: fn() -> Timestamp,
    stats: Arc<ServerStats>,
    /// By kind.
    refusals: [RefusalLog; CallRefusal::ALL.len()],
    nobody: Arc<str>,
}

/// Lets calls pass, or not. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Rules>);

impl Gate {
    pub(super) fn new(
        access: Arc<Access>,
        limits: ClientLimits,
        audit_lookups: bool,
        stats: Arc<ServerStats>,
        clock: fn() -> Timestamp,
    ) -> Self {
        let known = access.clients().iter().map(|client| KnownClient {
            name: client.name.as_str().into(),
            role: client.role,
            state: Arc::new(ClientState::new(limits)),
        });
        let clients = known.collect();
        let refusals = Default::default();
        Self(Arc::new(Rules { access, clients, audit_lookups, clock, stats, refusals, nobody: "".into() }))
    }
}

impl Rules {
    /// Whether the call passes: who calls, and the places that it holds.
    fn admit(&self, method: &Method, headers: &HeaderMap, peer: &Peer) -> Result<(Caller, Places), Failure> {
        let address = Some(peer.address);
        let Need::Role(role) = method.need else {
            let caller = Caller { name: Arc::clone(&self.nobody), address, is_audited: false };
            return Ok((caller, self.enter_stranger(method, peer)?));
        };
        if self.access.is_open() {
            let caller = Caller { name: Arc::clone(&self.nobody), address, is_audited: self.audit_lookups };
            return Ok((caller, self.enter_stranger(method, peer)?));
        }
        let client = self.client(headers, peer)?;
        if client.role < role {
            return Err(Failure::RoleRequired { role: role.name(), caller: client.role.name() });
        }
        let places = client.state.enter(method.is_watch)?;
        peer.is_proven.store(true, Ordering::Relaxed);
        Ok((Caller { name: Arc::clone(&client.name), address, is_audited: self.audit_lookups }, places))
    }

    /// Programs of this machine that need no credential have no limits of their own either.
    fn enter_stranger(&self, method: &Method, peer: &Peer) -> Result<Places, Failure> {
        if self.access.is_open() && peer.address.ip().to_canonical().is_loopback() {
            return Ok(Places::default());
        }
        peer.stranger.enter(method.is_watch)
    }

    /// Who calls.
    fn client(&self, headers: &HeaderMap, peer: &Peer) -> Result<&KnownClient, Failure> {
        let refused = |detail: &'static str| Failure::CredentialRequired { detail };
        let mut tokens = headers.get_all(AUTHORIZATION).iter();
        let place = match (tokens.next(), tokens.next()) {
            (Some(_), Some(_)) => return Err(refused("more than one authorization was sent")),
            (Some(value), None) => {
                let token = value.to_str().ok().and_then(bearer);
                let token = token.ok_or(refused("the authorization is not `Bearer <token>`"))?;
                self.access.by_token(token).ok_or(refused("the token is not known"))?
            }
            (None, _) => {
                let Some(certificate) = &peer.certificate else {
                    return Err(refused("no token was sent"));
                };
                if certificate.not_after < (self.clock)() {
                    return Err(refused("the client certificate has expired"));
                }
                let known = self.access.by_certificate(&certificate.names);
                known.ok_or(refused("nobody of this client certificate's names is known"))?
            }
        };
        self.clients.get(place).ok_or(refused("the token is not known"))
    }

    /// Counts a refusal, and tells of it.
    fn refuse(&self, path: &str, headers: &HeaderMap, peer: &Peer, failure: &Failure) {
        let refusal = match failure {
            Failure::CredentialRequired { .. } => CallRefusal::Unauthenticated,
            Failure::RoleRequired { .. } => CallRefusal::Role,
            Failure::Overloaded => CallRefusal::Limit,
            _ => return,
        };
        self.stats.refuse_call(refusal);
        let log = self.refusals.get(refusal as usize);
        if let Some(further) = log.and_then(|log| log.may_tell((self.clock)())) {
            let client = self.client(headers, peer).ok();
            let (caller, peer) = (client.map(|client| &*client.name).unwrap_or_default(), peer.address);
            let outcome = failure.name();
            tracing::warn!(rpc = path, caller, %peer, outcome, reason = %failure, further, "call refused");
        }
    }
}

/// The token of an `authorization`. The scheme's case does not matter.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// Which refusals are told.
#[derive(Debug, Default)]
struct RefusalLog {
    told_at: AtomicI64,
    untold: AtomicU64,
}

impl RefusalLog {
    /// Whether to tell, and how many were not told since the last time.
    fn may_tell(&self, now: Timestamp) -> Option<u64> {
        let told_at = self.told_at.load(Ordering::Relaxed);
        let is_time = now.as_millis().saturating_sub(told_at).unsigned_abs() >= REFUSALS_LOG_MILLIS.unsigned_abs();
        let tell = is_time
            && self.told_at.compare_exchange(told_at, now.as_millis(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if tell {
            return Some(self.untold.swap(0, Ordering::Relaxed));
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl<S> Layer<S> for Gate {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, gate: self.clone() }
    }
}

/// Services behind the gate.
#[derive(Clone, Debug)]
pub(super) struct Guarded<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Held>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let refused = |status: Status| {
            let response = status.into_http::<Body>().map(|body| Held { body, _places: Places::default() });
            Box::pin(std::future::ready(Ok(response)))
        };
        let rules = &self.gate.0;
        let Some(method) = method_of(request.uri().path()) else {
            return refused(Status::unimplemented("this server has no such rpc"));
        };
        let Some(peer) = request.extensions().get::<Arc<Peer>>() else {
            // Only our own listener makes connections.
            return refused(Failure::NotServing(None).status());
        };
        let admitted = rules.admit(method, request.headers(), peer);
        let (caller, places) = match admitted {
            Ok(admitted) => admitted,
            Err(failure) => {
                rules.refuse(method.path, request.headers(), peer, &failure);
                return refused(failure.status());
            }
        };
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(caller);
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Held { body, _places: places })) })
    }
}

/// The body of an answer, which holds its places to its end.
pub(super) struct Held {
    body: Body,
    _places: Places,
}

impl http_body::Body for Held {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;

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
//! | a request that cannot be read (`unread`) | `INVALID_ARGUMENT` |
//! | no answer within the time that the caller waits, or a minute | `DEADLINE_EXCEEDED` |
//! | an answer beyond what the client may leave untaken | `RESOURCE_EXHAUSTED` |
//!
//! Invariants:
//! - Nothing of a request's body is read before its caller may pass.
//! - A token that is sent decides alone: beside a wrong one no certificate counts. But over a connection whose certificate would
//!   fail at a handshake now nobody passes, and it ends.
//! - No credential is logged, and none gets further than here.
//! - An answer that goes on, as a stream of changes does, ends when its caller would not be let in any more: by a certificate that
//!   has lapsed or was revoked, a token or name that was taken back. Where its client does not read, the connection ends
//!   (`leases`).

mod clients;
mod known;
mod leases;
mod methods;
mod unread;

use std::convert::Infallible;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crossbeam_utils::sync::ShardedLock;
use futures_util::future::{BoxFuture, Either, Ready, ready};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

pub use self::clients::ClientLimits;
pub(super) use self::clients::{ClientState, Places, Strangers};
use self::clients::{Room, SMALL_ANSWER_BYTES};
use self::known::{Known, TOKEN_UNKNOWN, Who};
use self::leases::Lease;
pub(super) use self::leases::{Connections, Cut, PeerCertificate, Standing};
use self::methods::{Method, Need, method_of};
use self::unread::unread;
use super::errors::Failure;
use super::patience::caller_waits;
use super::stats::{CallRefusal, ConnectionRefusal, ServerStats};
use crate::core::access::{Access, Role, TokenHash};
use crate::core::ids::Timestamp;

/// Refused calls of a kind are told in the log at most this often, in milliseconds: a client that was set up wrongly tries
/// again and again. Each kind by itself, so that those who have no token do not hide what somebody tries who has one.
const REFUSALS_LOG_MILLIS: i64 = 1_000;

/// How often streams are judged, in milliseconds. One costs a look into a map; a second is what a stream may be open too long,
/// and what one that is read has for its end.
pub(super) const SWEEP_MILLIS: u64 = 1_000;

/// How long a call may take until its answer begins, in milliseconds. The slowest takes well below a second, Admin.ReleaseHold
/// some; who sends his request so slowly holds memory for nothing.
const CALL_MILLIS_MAX: u64 = 60_000;

/// Longest wait for the end of a certificate, in milliseconds: a year, within what the timer takes.
const END_MILLIS_MAX: i64 = 365 * 24 * 60 * 60 * 1_000;

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Its place among those of its address.
    pub(super) stranger: Arc<ClientState>,
    /// Its certificate; that it is good was checked at the handshake.
    pub(super) certificate: Option<PeerCertificate>,
    /// Whether a call over it has passed that not everybody may make.
    pub(super) is_proven: AtomicBool,
    /// By what it goes on.
    pub(super) standing: Standing,
    /// Ends it.
    pub(super) cut: Cut,
    /// What is counted.
    pub(super) stats: Arc<ServerStats>,
}

/// Whose call it is; among the extensions of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Name of the token or certificate; none where nobody is asked who he is.
    pub(super) name: Option<Arc<str>>,
    pub(super) address: Option<SocketAddr>,
    /// Whether the call is logged even if it only looks up.
    pub(super) is_audited: bool,
    /// What the caller may do.
    pub(super) role: Role,
}

impl Caller {
    /// Who calls from the same process.
    pub(super) fn this_process() -> Self {
        Self { name: Some("this process".into()), address: None, is_audited: false, role: Role::Admin }
    }

    /// Of a request: whoever the gate let in, or else this process.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(Self::this_process)
    }

    /// The name; empty where there is none.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
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

#[derive(Debug)]
struct Rules {
    /// Replaced as a whole; a call is judged by one of them. Calls of all cores look at it.
    known: ShardedLock<Arc<Known>>,
    limits: ClientLimits,
    audit_lookups: bool,
    clock: fn() -> Timestamp,
    stats: Arc<ServerStats>,
    connections: Arc<Connections>,
    /// By rpc, and by kind: nobody hides one behind many of another.
    refusals: Box<[[RefusalLog; CallRefusal::ALL.len()]]>,
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
        let (known, connections) = (Known::new(access, limits, None), Arc::default());
        let (known, refusals) =
            (ShardedLock::new(Arc::new(known)), (0..methods::PLACES).map(|_| Default::default()).collect());
        Self(Arc::new(Rules { known, limits, audit_lookups, clock, stats, connections, refusals }))
    }

    /// What the doors tell of connections.
    pub(super) fn connections(&self) -> &Arc<Connections> {
        &self.0.connections
    }

    /// Whether somebody is known by the certificate of a connection.
    pub(super) fn knows_certificate(&self, peer: &Peer) -> bool {
        self.0.known().client(Who::Certificate, peer, (self.0.clock)()).is_ok()
    }

    /// From now on these may call. Streams that are open are judged by it within [`SWEEP_MILLIS`].
    pub(super) fn use_access(&self, access: Arc<Access>) {
        let rules = &self.0;
        let known = Arc::new(Known::new(access, rules.limits, Some(&rules.known())));
        *rules.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// Ends what goes on without a right to; never ends.
    pub(super) async fn keep_sweeping(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(SWEEP_MILLIS)).await;
            let swept = self.0.sweep();
            if swept.told > 0 || swept.cut > 0 {
                let (streams, connections) = (swept.told, swept.cut);
                tracing::info!(streams, connections, "ended what callers had open who are no longer known");
            }
        }
    }
}

impl Rules {
    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known_now())
    }

    /// Nobody else is taken for known while this is held.
    fn known_now(&self) -> impl Deref<Target = Arc<Known>> {
        // Nothing panics while it is held.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the call passes: who calls, and the places that it holds.
    fn admit(&self, method: &Method, headers: &HeaderMap, peer: &Peer) -> Result<Admitted, Failure> {
        let address = Some(peer.address);
        let known = self.known_now();
        let Need::Role(role) = method.need else {
            let caller = Caller { name: None, address, is_audited: false, role: Role::Read };
            return Ok(Admitted { caller, places: enter_stranger(&known, method, peer)?, until: None, by: None });
        };
        if known.access.is_open() {
            let caller = Caller { name: None, address, is_audited: self.audit_lookups, role: Role::Admin };
            return Ok(Admitted { caller, places: enter_stranger(&known, method, peer)?, until: None, by: None });
        }
        let who = who(headers)?;
        let (client, until) = known.client(who, peer, (self.clock)())?;
        if client.role < role {
            return Err(Failure::RoleRequired { role: role.name(), caller: client.role.name() });
        }
        let places = client.state.enter(method.is_watch)?;
        peer.is_proven.store(true, Ordering::Relaxed);
        peer.standing.prove(who);
        let (name, is_audited) = (Some(Arc::clone(&client.name)), self.audit_lookups);
        let caller = Caller { name, address, is_audited, role: client.role };
        Ok(Admitted { caller, places, until, by: Some((who, role)) })
    }

    /// Ends streams whose call would be refused now, and connections where they do not end.
    fn sweep(&self) -> leases::Swept {
        let (known, now) = (self.known(), (self.clock)());
        let judge = |lease: &Lease| match known.client(lease.who, &lease.peer, now) {
            Ok((client, _)) if client.role < lease.need => {
                Some(Failure::RoleRequired { role: lease.need.name(), caller: client.role.name() })
            }
            Ok(_) => None,
            Err(failure) => Some(failure),
        };
        let may_go_on = |peer: &Peer, by: Option<Who>| match by {
            Some(who) => known.client(who, peer, now).is_ok(),
            None => peer.certificate.as_ref().is_none_or(|certificate| known::fault(certificate, now).is_none()),
        };
        let swept = self.connections.sweep(judge, may_go_on);
        (0..swept.cut).for_each(|_| self.stats.refuse_connection(ConnectionRefusal::Withdrawn));
        swept
    }

    /// What ends an answer whose caller is known until then.
    fn end_at(&self, until: Option<Timestamp>) -> Option<Pin<Box<Sleep>>> {
        let left = until?.millis_since((self.clock)()).clamp(0, END_MILLIS_MAX);
        // A certificate is good up to and with its last millisecond.
        let left = Duration::from_millis(u64::try_from(left).unwrap_or_default() + 1);
        Some(Box::pin(tokio::time::sleep(left)))
    }

    /// Counts a refusal, and tells of it.
    fn refuse(&self, path: &str, headers: &HeaderMap, peer: &Peer, failure: &Failure) {
        let refusal = match failure {
            Failure::CredentialRequired { .. } => CallRefusal::Unauthenticated,
            Failure::RoleRequired { .. } => CallRefusal::Role,
            Failure::Overloaded | Failure::ClientBusy { .. } => CallRefusal::Limit,
            _ => return,
        };
        self.stats.refuse_call(refusal);
        let log = self.refusals.get(methods::place_of(path)).and_then(|kinds| kinds.get(refusal as usize));
        if let Some(further) = log.and_then(|log| log.may_tell((self.clock)())) {
            let known = self.known();
            let client = who(headers).and_then(|who| known.client(who, peer, (self.clock)())).ok();
            let (caller, peer) = (client.map(|(client, _)| &*client.name).unwrap_or_default(), peer.address);
            let outcome = failure.name();
            tracing::warn!(rpc = path, caller, %peer, outcome, reason = %failure, further, "call refused");
        }
    }
}

/// Programs of this machine that need no credential have no limits of their own either.
fn enter_stranger(known: &Known, method: &Method, peer: &Peer) -> Result<Places, Failure> {
    if known.access.is_open() && peer.address.ip().to_canonical().is_loopback() {
        return Ok(Places::default());
    }
    peer.stranger.enter(method.is_watch)
}

const fn refused(detail: &'static str) -> Failure {
    Failure::CredentialRequired { detail }
}

/// By what the caller of a request asks to be known.
fn who(headers: &HeaderMap) -> Result<Who, Failure> {
    let mut tokens = headers.get_all(AUTHORIZATION).iter();
    match (tokens.next(), tokens.next()) {
        (Some(_), Some(_)) => Err(refused("more than one authorization was sent")),
        (Some(value), None) => {
            let token = value.to_str().ok().and_then(bearer);
            let token = token.ok_or(refused("the authorization is not `Bearer <token>`"))?;
            TokenHash::of(token).map(Who::Token).ok_or(refused(TOKEN_UNKNOWN))
        }
        (None, _) => Ok(Who::Certificate),
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

/// The answer that a call has, or will have.
pub(super) type Answer<B> = Either<Ready<Answered<B>>, BoxFuture<'static, Answered<B>>>;

type Answered<B> = Result<Response<B>, Infallible>;

impl Gate {
    /// Services behind the gate.
    pub(super) fn guard<S>(self, services: S) -> impl Fn(Request<Body>) -> Answer<Held> + Clone + Send + Sync + 'static
    where
        S: Fn(Request<Body>) -> Answer<Body> + Clone + Send + Sync + 'static,
    {
        move |request| self.0.answer(request, &services)
    }
}

impl Rules {
    fn answer(&self, mut request: Request<Body>, services: impl Fn(Request<Body>) -> Answer<Body>) -> Answer<Held> {
        let refused = |status: Status| -> Answer<Held> { Either::Left(ready(Ok(refusal(status)))) };
        let Some(method) = method_of(request.uri().path()) else {
            return refused(Status::unimplemented("this server has no such rpc"));
        };
        let Some(peer) = request.extensions().get::<Arc<Peer>>().map(Arc::clone) else {
            // Only our own listener makes connections.
            return refused(Failure::NotServing(None).status());
        };
        let admitted = self.admit(method, request.headers(), &peer);
        let Admitted { caller, places, until, by } = match admitted {
            Ok(admitted) => admitted,
            Err(failure) => {
                self.refuse(method.path, request.headers(), &peer, &failure);
                return refused(failure.status());
            }
        };
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(caller);
        let end = self.end_at(until);
        let time = time_of(request.headers());
        let lease = by.filter(|_| !method.is_single()).map(|(who, need)| Lease::new(who, need, Arc::clone(&peer)));
        lease.iter().for_each(|lease| self.connections.lease(lease));
        let (is_ours, is_single) = (method.is_ours(), method.is_single());
        let held = move |answered: Response<Body>| {
            let (parts, body) = answered.into_parts();
            if let Some(failure) = unread(&parts.headers).filter(|_| is_ours) {
                return refusal(failure.status());
            }
            let mut held = Held { body, ready: None, end, lease, peer: Some(peer), places: Arc::new(places) };
            // What is to be sent is made at once, so that its size is known, and not when the client wants it.
            match is_single.then(|| held.make_ready()).transpose() {
                Ok(_) => Response::from_parts(parts, held),
                Err(failure) => refusal(failure.status()),
            }
        };
        match services(request) {
            // As most: without a timer.
            Either::Left(answered) => Either::Left(ready(answered.into_inner().map(held))),
            Either::Right(answer) => Either::Right(Box::pin(async move {
                match tokio::time::timeout(time, answer).await {
                    Ok(answered) => answered.map(held),
                    Err(_) => Ok(refusal(Status::deadline_exceeded("the time of the call is over"))),
                }
            })),
        }
    }
}

/// How long the answer of a call may take to begin: as its caller waits, or [`CALL_MILLIS_MAX`].
fn time_of(headers: &HeaderMap) -> Duration {
    let most = Duration::from_millis(CALL_MILLIS_MAX);
    caller_waits(headers).map_or(most, |time| time.min(most))
}

/// An answer that only says why there is none.
fn refusal(status: Status) -> Response<Held> {
    status.into_http::<Body>().map(|body| Held {
        body,
        ready: None,
        end: None,
        lease: None,
        peer: None,
        places: Arc::default(),
    })
}

/// A call that passes.
struct Admitted {
    caller: Caller,
    places: Places,
    /// Until when its caller is known.
    until: Option<Timestamp>,
    /// By what, and for which role.
    by: Option<(Who, Role)>,
}

type Frame = http_body::Frame<<Body as http_body::Body>::Data>;

/// The body of an answer, which holds its places to its end, and ends when its caller is no longer known.
pub(super) struct Held {
    body: Body,
    /// The first piece, made before the client wants it.
    ready: Option<Frame>,
    end: Option<Pin<Box<Sleep>>>,
    /// Of a stream.
    lease: Option<Arc<Lease>>,
    /// Over whose connection it goes, if it is more than a refusal.
    peer: Option<Arc<Peer>>,
    places: Arc<Places>,
}

/// A piece of an answer. The places of its call and its room are given back when it has been sent.
struct Piece {
    data: Bytes,
    _room: Room,
    _places: Arc<Places>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Held {
    /// Makes the first piece.
    ///
    /// # Errors
    /// [`Failure::ClientBusy`]: there is no room for it.
    fn make_ready(&mut self) -> Result<(), Failure> {
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(Some(Ok(frame))) = http_body::Body::poll_frame(Pin::new(&mut self.body), &mut cx) {
            self.ready = Some(self.counted(frame)?);
        }
        Ok(())
    }

    /// The piece with the places of its call and, unless it is small, the room that it takes; they go with its last byte: the
    /// HTTP library takes over whole pieces, and the end behind them, long before the client does.
    fn counted(&self, frame: Frame) -> Result<Frame, Failure> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Ok(frame),
        };
        let room = if data.len() > SMALL_ANSWER_BYTES {
            let refused = |_: &Failure| self.peer.iter().for_each(|peer| peer.stats.refuse_call(CallRefusal::Limit));
            self.places.room_for(data.len()).inspect_err(refused)?
        } else {
            Room::default()
        };
        let piece = Piece { data, _room: room, _places: Arc::clone(&self.places) };
        Ok(http_body::Frame::data(Bytes::from_owner(piece)))
    }

    /// Ends with a failure. Whatever it held is given back now, not when the client has taken the end; pieces that were handed
    /// out keep the places until they are sent.
    fn cut(&mut self, failure: &Failure) -> Option<Frame> {
        (self.end, self.lease) = (None, None);
        (self.body, self.ready, self.places) = (Body::empty(), None, Arc::default());
        let mut trailers = HeaderMap::new();
        // What cannot be put into headers ends without a word, which clients take for an error as well.
        failure.status().add_header(&mut trailers).is_ok().then(|| http_body::Frame::trailers(trailers))
    }
}

impl http_body::Body for Held {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Self::Error>>> {
        let this = self.get_mut();
        if let Some(end) = &mut this.end
            && end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(this.cut(&known::expired()).map(Ok));
        }
        if let Some(lease) = this.lease.clone()
            && let Some(failure) = lease.over(cx.waker())
        {
            return Poll::Ready(this.cut(failure).map(Ok));
        }
        if let Some(frame) = this.ready.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match std::task::ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(match this.counted(frame) {
                Ok(frame) => Some(Ok(frame)),
                Err(failure) => this.cut(&failure).map(Ok),
            }),
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        // Of what is left; nobody here sends a length.
        if self.ready.is_some() { http_body::SizeHint::default() } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests;

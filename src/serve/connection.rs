//! What goes on over a connection: HTTP/2 and the short ones of its calls, in one task.
//!
//! Entry point: [`serve`], which takes connections over from `incoming`.
//!
//! HTTP libraries have a task for each call. A look-up is hardly longer than it takes to hand a task to another thread and to
//! have its answer come back from there, and each answer that comes by itself is a write. So short calls ([`is_short`]) are made in
//! the task of their connection: those that came together are answered together, in one write. All others have tasks of their
//! own, as have short ones of which many come at a time: one connection may use the whole machine.
//!
//! Invariants:
//! - A call that panics ends its own stream and nothing else.
//! - Calls have their turn before more is read: whoever floods a connection must not keep its calls from ending.
//! - Other tasks have their turn after [`TURNS_MAX`] turns or [`TURNS_MICROS_MAX`], however much comes over the connection.
//! - Calls end with their connection, and connections with [`serve`].

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream as _};
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::gate::Peer;
use super::incoming::Connection;

/// Calls that came together and are made in the task of their connection; more of them have tasks of their own.
const CALLS_AT_A_TIME_MAX: usize = 8;

/// Turns of a connection before other tasks have theirs. Two are enough for calls that are answered at once: they come, and
/// their answers go.
const TURNS_MAX: usize = 8;

/// How long the turns of a connection may take before other tasks have theirs, in microseconds. A turn that has begun is ended: of
/// a dozen look-ups, or of as many as may wait for the next commit (`patience`).
const TURNS_MICROS_MAX: u128 = 1_000;

/// Streams that may be reset for a client's own faults before its connection ends; a client that means well makes none.
const FAULTS_MAX: usize = 1_024;

/// Silence after which a connection is probed, in milliseconds; one that does not answer for as long is closed.
const KEEPALIVE_MILLIS: u64 = 30_000;

/// Bytes of the headers of one request at most. Ours are some hundred bytes.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// Serves connections until `drain`, or until there can be no more, and then to the end of the calls that are under way.
///
/// Each connection has a clone of `services`, of which its calls have a share: connections on different cores do not count
/// in one place. Dropped, it cuts all connections.
pub(super) async fn serve<S, A, B>(
    mut connections: mpsc::Receiver<Connection>,
    services: S,
    streams_max: u32,
    drain: CancellationToken,
) where
    S: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<B>, Infallible>> + Send + Unpin + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let mut tasks = JoinSet::new();
    loop {
        let connection = tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            connection = connections.recv() => connection,
        };
        let Some(connection) = connection else { break };
        let calls = Calls::new(services.clone(), Arc::clone(connection.peer()));
        tasks.spawn(converse(connection, calls, streams_max, drain.clone()));
    }
    // Who takes connections is told by it.
    drop(connections);
    while tasks.join_next().await.is_some() {}
}

/// One connection to its end.
async fn converse<S, A, B>(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin,
    calls: Calls<S>,
    streams_max: u32,
    drain: CancellationToken,
) where
    S: Fn(Request<Body>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Result<Response<B>, Infallible>> + Send + Unpin + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let (begun, peer) = (Arc::new(Begun::default()), Arc::clone(&calls.peer));
    let conversation = http2::Builder::new(Beginning(Arc::downgrade(&begun)))
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .keep_alive_interval(Duration::from_millis(KEEPALIVE_MILLIS))
        .keep_alive_timeout(Duration::from_millis(KEEPALIVE_MILLIS))
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_local_error_reset_streams(FAULTS_MAX)
        // No client of gRPC looks at it.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(connection), Calls { begun: Arc::downgrade(&begun), ..calls });
    let mut conversation = pin!(conversation);
    let mut drained = pin!(drain.cancelled());
    let mut is_draining = false;
    let (mut here, mut beside) = (FuturesUnordered::new(), JoinSet::new());
    let turns = Arc::new(Turns::default());
    let (of_calls, of_conversation) = (turns.waker(|turns| &turns.calls), turns.waker(|turns| &turns.conversation));
    let ended = std::future::poll_fn(|cx| {
        let (_on, began) = (turns.begin(cx), Instant::now());
        if !is_draining && drained.as_mut().poll(cx).is_ready() {
            is_draining = true;
            conversation.as_mut().graceful_shutdown();
            turns.conversation.store(true, Ordering::SeqCst);
        }
        while beside.try_join_next().is_some() {}
        for _ in 0..TURNS_MAX {
            // First: what reading leaves of the task's budget may be nothing, without which everything says that it is not ready.
            if turns.calls.swap(false, Ordering::SeqCst) {
                let mut cx = Context::from_waker(&of_calls);
                while let Poll::Ready(Some(())) = Pin::new(&mut here).poll_next(&mut cx) {}
            }
            if turns.conversation.swap(false, Ordering::SeqCst) {
                let ended = conversation.as_mut().poll(&mut Context::from_waker(&of_conversation));
                if ended.is_ready() {
                    return ended;
                }
                if begun.hand_over(&mut here, &mut beside) {
                    turns.calls.store(true, Ordering::SeqCst);
                }
            }
            if !turns.are_due() || !has_budget_remaining() || began.elapsed().as_micros() >= TURNS_MICROS_MAX {
                break;
            }
        }
        Poll::Pending
    });
    if let Err(error) = ended.await {
        tracing::debug!(peer = %peer.address, %error, "connection failed");
    }
}

/// Tells whether the calls of a connection, or HTTP, want another turn. While the task has its turn it sees that itself, and
/// nobody needs to be woken for it.
#[derive(Debug)]
struct Turns {
    calls: AtomicBool,
    conversation: AtomicBool,
    is_on: AtomicBool,
    task: AtomicWaker,
}

impl Default for Turns {
    fn default() -> Self {
        let (calls, conversation) = (AtomicBool::new(true), AtomicBool::new(true));
        Self { calls, conversation, is_on: AtomicBool::default(), task: AtomicWaker::default() }
    }
}

impl Turns {
    /// The task has its turn, until what is returned is dropped.
    fn begin(&self, cx: &Context<'_>) -> On<'_> {
        self.task.register(cx.waker());
        self.is_on.store(true, Ordering::SeqCst);
        On(self)
    }

    fn are_due(&self) -> bool {
        self.calls.load(Ordering::SeqCst) || self.conversation.load(Ordering::SeqCst)
    }

    fn wake(&self, who: &AtomicBool) {
        who.store(true, Ordering::SeqCst);
        // In this order, and the other way round at the end of a turn: one of the two sees the other.
        if !self.is_on.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

/// As long as it lives nobody is woken.
struct On<'a>(&'a Turns);

impl Drop for On<'_> {
    fn drop(&mut self) {
        self.0.is_on.store(false, Ordering::SeqCst);
        if self.0.are_due() {
            self.0.task.wake();
        }
    }
}

/// Wakes one of the two.
struct TurnWake {
    turns: Arc<Turns>,
    of: fn(&Turns) -> &AtomicBool,
}

impl Turns {
    fn waker(self: &Arc<Self>, of: fn(&Self) -> &AtomicBool) -> Waker {
        Arc::new(TurnWake { turns: Arc::clone(self), of }).into()
    }
}

impl Wake for TurnWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.turns.wake((self.of)(&self.turns));
    }
}

type Call = BoxFuture<'static, ()>;

/// Calls that have come and that nobody makes yet.
#[derive(Default)]
struct Begun {
    /// Whether the one that comes next is short.
    is_short: AtomicBool,
    calls: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    here: Vec<Call>,
    beside: Vec<Call>,
}

impl Begun {
    fn add(&self, call: Call) {
        let mut calls = self.lock();
        if self.is_short.swap(false, Ordering::Relaxed) && calls.here.len() < CALLS_AT_A_TIME_MAX {
            calls.here.push(call);
        } else {
            calls.beside.push(call);
        }
    }

    /// Whether there are any that have no task of their own.
    fn hand_over(&self, here: &mut FuturesUnordered<Call>, beside: &mut JoinSet<()>) -> bool {
        let mut calls = self.lock();
        calls.beside.drain(..).for_each(|call| drop(beside.spawn(call)));
        let has_some = !calls.here.is_empty();
        here.extend(calls.here.drain(..));
        has_some
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes calls from HTTP. Each of them holds one, so that it must not hold the calls.
#[derive(Clone)]
struct Beginning(Weak<Begun>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Beginning {
    fn execute(&self, call: F) {
        // Else the connection has ended.
        if let Some(begun) = self.0.upgrade() {
            // Whoever panics has said so. His stream is dropped, which its client is told.
            begun.add(Box::pin(AssertUnwindSafe(call).catch_unwind().map(|_| ())));
        }
    }
}

/// Whether the calls of an rpc mostly take microseconds and are answered with a few hundred bytes: those of which there are
/// thousands a second.
fn is_short(path: &str) -> bool {
    SHORT.contains(&path)
}

const SHORT: [&str; 5] = [
    "/idmap.v1.Lookup/ResolveAccount",
    "/idmap.v1.Lookup/ExpandUser",
    "/idmap.v1.Lookup/CheckAppMembership",
    "/idmap.v1.Lookup/GetUser",
    "/grpc.health.v1.Health/Check",
];

/// The services, as called over one connection.
struct Calls<S> {
    services: Arc<S>,
    peer: Arc<Peer>,
    begun: Weak<Begun>,
}

impl<S> Calls<S> {
    fn new(services: S, peer: Arc<Peer>) -> Self {
        Self { services: Arc::new(services), peer, begun: Weak::new() }
    }
}

impl<S, A, B> hyper::service::Service<Request<Incoming>> for Calls<S>
where
    S: Fn(Request<Body>) -> A,
    A: Future<Output = Result<Response<B>, Infallible>> + Unpin,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Asked<S, A>;

    fn call(&self, request: Request<Incoming>) -> Asked<S, A> {
        let mut request = request.map(Body::new);
        if let Some(begun) = self.begun.upgrade() {
            // Hyper begins it next. What comes without this mark has a task of its own.
            begun.is_short.store(is_short(request.uri().path()), Ordering::Relaxed);
        }
        request.extensions_mut().insert(Arc::clone(&self.peer));
        Asked { waiting: Some((Arc::clone(&self.services), request)), answer: None }
    }
}

/// A call that is made when somebody wants its answer: not while the connection reads.
struct Asked<S, A> {
    waiting: Option<(Arc<S>, Request<Body>)>,
    answer: Option<A>,
}

// No part is pinned but the answer, which may be moved.
impl<S, A> Unpin for Asked<S, A> {}

impl<S: Fn(Request<Body>) -> A, A: Future + Unpin> Future for Asked<S, A> {
    type Output = A::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A::Output> {
        let this = self.get_mut();
        if let Some((services, request)) = this.waiting.take() {
            this.answer = Some(services(request));
        }
        match &mut this.answer {
            Some(answer) => Pin::new(answer).poll(cx),
            // Its service has panicked; nobody asks after that.
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;

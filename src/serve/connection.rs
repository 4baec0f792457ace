//! What goes on over a connection: HTTP/2 and its calls, in one task.
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
use tower_service::Service;

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
/// `services` must be ready at any time. Dropped, it cuts all connections.
pub(super) async fn serve<S, B>(
    mut connections: mpsc::Receiver<Connection>,
    services: S,
    streams_max: u32,
    drain: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + Unpin + 'static,
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
async fn converse<S, B>(
    connection: impl AsyncRead + AsyncWrite + Send + Unpin,
    calls: Calls<S>,
    streams_max: u32,
    drain: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + Unpin + 'static,
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
    let of_calls = Waker::from(Arc::new(CallsWake(Arc::clone(&turns))));
    let of_conversation = Waker::from(Arc::new(ConversationWake(Arc::clone(&turns))));
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

/// Wakes the calls.
struct CallsWake(Arc<Turns>);

impl Wake for CallsWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake(&self.0.calls);
    }
}

/// Wakes HTTP.
struct ConversationWake(Arc<Turns>);

impl Wake for ConversationWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake(&self.0.conversation);
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

/// Whether the calls of an rpc take microseconds, in which nothing is waited for but a commit, and are answered with a few
/// hundred bytes: those of which there are thousands a second.
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
    services: S,
    peer: Arc<Peer>,
    begun: Weak<Begun>,
}

impl<S> Calls<S> {
    fn new(services: S, peer: Arc<Peer>) -> Self {
        Self { services, peer, begun: Weak::new() }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
    S::Future: Unpin,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Asked<S>;

    fn call(&self, request: Request<Incoming>) -> Asked<S> {
        let mut request = request.map(Body::new);
        if let Some(begun) = self.begun.upgrade() {
            // Hyper begins it next. What comes without this mark has a task of its own.
            begun.is_short.store(is_short(request.uri().path()), Ordering::Relaxed);
        }
        request.extensions_mut().insert(Arc::clone(&self.peer));
        Asked { waiting: Some((self.services.clone(), request)), answer: None }
    }
}

/// A call that is made when somebody wants its answer: not while the connection reads.
struct Asked<S: Service<Request<Body>>> {
    waiting: Option<(S, Request<Body>)>,
    answer: Option<S::Future>,
}

// No part is pinned but the answer, which may be moved.
impl<S: Service<Request<Body>>> Unpin for Asked<S> {}

impl<S> Future for Asked<S>
where
    S: Service<Request<Body>>,
    S::Future: Unpin,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some((mut services, request)) = this.waiting.take() {
            this.answer = Some(services.call(request));
        }
        match &mut this.answer {
            Some(answer) => Pin::new(answer).poll(cx),
            // Its service has panicked; nobody asks after that.
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{DuplexStream, ReadBuf};
    use tokio::sync::Semaphore;
    use tokio::task::AbortHandle;
    use tokio::task::coop::cooperative;
    use tonic::{Code, Status};

    use super::super::gate::{Cut, Standing, Strangers};
    use super::*;
    use crate::serve::ClientLimits;

    /// Bytes on their way to one side: more than anything here.
    const PIPE_BYTES: usize = 1 << 20;

    /// The server's side of a connection.
    struct Ours {
        io: DuplexStream,
        /// Writes of the server.
        writes: Arc<AtomicUsize>,
        /// Whether there is more to read at any time: frames of a kind that nobody knows and that are passed over.
        is_flooded: Arc<AtomicBool>,
    }

    impl AsyncRead for Ours {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            const FRAME: [u8; 9] = [0, 0, 0, 0xfa, 0, 0, 0, 0, 0];
            // What the client writes at a time are whole frames.
            let read = Pin::new(&mut self.io).poll_read(cx, to);
            if read.is_ready() || !self.is_flooded.load(Ordering::SeqCst) {
                return read;
            }
            std::task::ready!(pin!(cooperative(std::future::ready(()))).poll(cx));
            to.put_slice(&FRAME);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Ours {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.io).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_shutdown(cx)
        }
    }

    /// Short calls: they answer at once, when a thread of its own has said so, and never.
    const NOW: &str = SHORT[0];
    const LATER: &str = SHORT[1];
    const NEVER: &str = SHORT[2];
    const PANIC: &str = SHORT[3];
    /// As [`LATER`] and [`NEVER`], in tasks of their own.
    const LATER_BESIDE: &str = "/later";
    const NEVER_BESIDE: &str = "/never";

    #[derive(Clone)]
    struct Answers {
        under_way: Arc<()>,
        /// Lets calls of [`NEVER`] end nevertheless.
        release: Arc<Semaphore>,
        answered: Arc<AtomicUsize>,
    }

    impl Service<Request<Body>> for Answers {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            assert!(request.extensions().get::<Arc<Peer>>().is_some());
            let (path, answers) = (request.uri().path().to_owned(), self.clone());
            assert_ne!(path, "/panics-at-the-gate");
            Box::pin(async move {
                // All of it, for as long as the call lives.
                let answers = answers;
                match path.as_str() {
                    PANIC | "/panic" => panic!("as a defect would"),
                    NEVER | NEVER_BESIDE => drop(answers.release.acquire().await.unwrap()),
                    LATER | LATER_BESIDE => {
                        let (sender, told) = tokio::sync::oneshot::channel();
                        std::thread::spawn(move || sender.send(()).unwrap());
                        told.await.unwrap();
                    }
                    _ => {}
                }
                answers.answered.fetch_add(1, Ordering::SeqCst);
                Ok(Status::new(Code::DataLoss, path).into_http())
            })
        }
    }

    async fn within_time<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), what).await.expect("an end within time")
    }

    struct Served {
        client: h2::client::SendRequest<Bytes>,
        writes: Arc<AtomicUsize>,
        is_flooded: Arc<AtomicBool>,
        answers: Answers,
        peer: Arc<Peer>,
        drain: CancellationToken,
        connection: AbortHandle,
        other_side: AbortHandle,
        _tasks: JoinSet<()>,
    }

    async fn served() -> Served {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (writes, is_flooded, drain) = (Arc::default(), Arc::default(), CancellationToken::new());
        let ours = Ours { io: ours, writes: Arc::clone(&writes), is_flooded: Arc::clone(&is_flooded) };
        let (under_way, release, answered) = (Arc::new(()), Arc::new(Semaphore::new(0)), Arc::default());
        let answers = Answers { under_way, release, answered };
        let limits = ClientLimits { calls: 1, watches: 1, calls_per_second: None, answer_bytes: 0 };
        let address = "127.0.0.1:1".parse().unwrap();
        let (stranger, standing, cut) =
            (Strangers::new(limits, 1).of("127.0.0.1".parse().unwrap()), Standing::default(), Cut::default());
        let peer =
            Arc::new(Peer { address, stranger, certificate: None, is_proven: AtomicBool::new(true), standing, cut });
        let calls = Calls::new(answers.clone(), Arc::clone(&peer));
        let mut tasks = JoinSet::new();
        let connection = tasks.spawn(converse(ours, calls, 200, drain.clone()));
        let (client, other_side) = h2::client::handshake(theirs).await.unwrap();
        let other_side = tasks.spawn(other_side.map(|_| ()));
        let served = Served { client, writes, is_flooded, answers, peer, drain, connection, other_side, _tasks: tasks };
        // After it both sides have told of their settings.
        served.call(NOW).await.unwrap();
        served
    }

    impl Served {
        async fn call(&self, path: &str) -> Result<String, h2::Error> {
            let mut client = self.client.clone().ready().await?;
            let request = Request::builder().uri(format!("http://x{path}")).body(()).unwrap();
            let answer = client.send_request(request, true)?.0.await?;
            assert!(!answer.headers().contains_key(http::header::DATE));
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), Code::DataLoss);
            Ok(status.message().to_owned())
        }

        async fn calls(&self, path: &str, count: usize) {
            let calls = (0..count).map(|_| self.call(path));
            for answer in futures_util::future::join_all(calls).await {
                assert_eq!(answer.unwrap(), path);
            }
        }

        /// Calls that are there.
        fn under_way(&self) -> usize {
            // Ours, and that of the services while the connection lives.
            let others = Arc::strong_count(&self.answers.under_way).saturating_sub(1);
            others.saturating_sub(usize::from(!self.connection.is_finished()))
        }

        async fn until_under_way(&self, count: usize) {
            within_time(async {
                while self.under_way() != count {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }

        fn writes(&self) -> usize {
            self.writes.swap(0, Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn calls_that_came_together_are_answered_in_one_write() {
        let served = served().await;
        served.writes();
        for count in [1, 2, CALLS_AT_A_TIME_MAX] {
            served.calls(NOW, count).await;
            assert_eq!(served.writes(), 1, "{count} calls");
        }
    }

    #[tokio::test]
    async fn many_calls_at_a_time_are_all_answered() {
        let served = served().await;
        for path in [NOW, LATER, LATER_BESIDE] {
            for count in [1, CALLS_AT_A_TIME_MAX + 1, 10 * CALLS_AT_A_TIME_MAX, 500] {
                served.calls(path, count).await;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_is_woken_by_another_thread_has_another_turn() {
        let served = served().await;
        for round in 0..300 {
            let all = async { tokio::join!(served.calls(LATER, 1 + round % 20), served.calls(NOW, round % 10)) };
            tokio::time::timeout(Duration::from_secs(30), all).await.expect("a turn");
        }
    }

    #[tokio::test]
    async fn a_call_that_panics_ends_its_own_stream_only() {
        let served = served().await;
        for path in [PANIC, "/panic", "/panics-at-the-gate"] {
            let (panicked, answered) = tokio::join!(served.call(path), served.call(LATER));
            assert!(panicked.unwrap_err().is_reset());
            assert_eq!(answered.unwrap(), LATER);
            served.calls(NOW, 3).await;
        }
    }

    #[tokio::test]
    async fn calls_that_are_given_up_end() {
        for path in [NEVER, NEVER_BESIDE] {
            let served = served().await;
            let never = futures_util::future::join_all((0..3 * CALLS_AT_A_TIME_MAX).map(|_| served.call(path)));
            assert!(tokio::time::timeout(Duration::from_millis(50), never).await.is_err());
            served.until_under_way(0).await;
            served.calls(NOW, 1).await;
        }
    }

    #[tokio::test]
    async fn calls_end_with_their_connection() {
        for path in [NEVER, NEVER_BESIDE] {
            for count in [1, 3 * CALLS_AT_A_TIME_MAX] {
                let served = served().await;
                let never = futures_util::future::join_all((0..count).map(|_| served.call(path)));
                let ended = async {
                    served.until_under_way(count).await;
                    served.other_side.abort();
                };
                tokio::join!(never, ended);
                within_time(async {
                    while !served.connection.is_finished() {
                        tokio::task::yield_now().await
                    }
                })
                .await;
                assert_eq!(served.under_way(), 0);
            }
        }
    }

    /// Hyper ends the connection in the very turn in which it has begun calls.
    #[tokio::test]
    async fn calls_that_came_with_the_end_end_with_it() {
        for path in [NEVER, NEVER_BESIDE] {
            let served = served().await;
            let mut client = served.client.clone().ready().await.unwrap();
            let request = Request::builder().uri(format!("http://x{path}")).body(()).unwrap();
            let _never = client.send_request(request, true).unwrap();
            let connect =
                Request::builder().method("CONNECT").uri("x:1").header("content-length", "5").body(()).unwrap();
            let mut client = client.ready().await.unwrap();
            let _connect = client.send_request(connect, false).unwrap();
            within_time(async {
                while !served.connection.is_finished() {
                    tokio::task::yield_now().await
                }
            })
            .await;
            assert_eq!(served.under_way(), 0);
            assert_eq!(Arc::strong_count(&served.peer), 1, "nothing holds on to the connection");
        }
    }

    #[tokio::test]
    async fn what_is_under_way_ends_before_a_connection_that_drains() {
        for path in [NEVER, NEVER_BESIDE] {
            let served = served().await;
            let drained = async {
                served.until_under_way(1).await;
                served.drain.cancel();
                tokio::time::sleep(Duration::from_millis(20)).await;
                served.answers.release.add_permits(1);
            };
            let (answered, ()) = within_time(async { tokio::join!(served.call(path), drained) }).await;
            assert_eq!(answered.unwrap(), path);
            within_time(async {
                while !served.connection.is_finished() {
                    tokio::task::yield_now().await
                }
            })
            .await;
        }
    }

    #[tokio::test]
    async fn whoever_floods_a_connection_does_not_keep_its_calls_from_ending() {
        let served = served().await;
        let before = served.answers.answered.load(Ordering::SeqCst);
        served.is_flooded.store(true, Ordering::SeqCst);
        let asked = [LATER, LATER_BESIDE].map(|path| served.calls(path, 3));
        let ended = async {
            while served.answers.answered.load(Ordering::SeqCst) < before + 6 || served.under_way() > 0 {
                tokio::task::yield_now().await;
            }
        };
        // What is sent waits until less is read; that is the client's own loss.
        within_time(async {
            tokio::select! {
                _ = futures_util::future::join_all(asked) => {}
                () = ended => {}
            }
        })
        .await;
    }

    /// Shows whether it was woken.
    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn nobody_is_woken_for_a_turn_that_is_had() {
        let (turns, task) = (Arc::new(Turns::default()), Arc::new(Woken::default()));
        let (waker, woken) = (Waker::from(Arc::clone(&task)), || task.0.swap(false, Ordering::SeqCst));
        let wakers: [Waker; 2] =
            [Arc::new(CallsWake(Arc::clone(&turns))).into(), Arc::new(ConversationWake(Arc::clone(&turns))).into()];
        let cx = Context::from_waker(&waker);
        let had = || [&turns.calls, &turns.conversation].map(|due| due.swap(false, Ordering::SeqCst));
        assert_eq!(had(), [true, true], "the first turn of both");
        for (waker, expected) in wakers.iter().zip([[true, false], [false, true]]) {
            let on = turns.begin(&cx);
            waker.wake_by_ref();
            assert!(!woken(), "it sees for itself");
            assert!(turns.are_due());
            assert_eq!(had(), expected);
            drop(on);
            assert!(!woken(), "it has had it");
            waker.wake_by_ref();
            assert!(woken());
            let on = turns.begin(&cx);
            waker.wake_by_ref();
            drop(on);
            assert!(woken(), "it was woken after its last look");
            assert_eq!(had(), expected);
        }
    }
}

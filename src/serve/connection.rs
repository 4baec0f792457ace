//! What goes on over a connection: HTTP/2 and its calls, in one task.
//!
//! Entry point: [`serve`], which takes connections over from `incoming`.
//!
//! HTTP libraries have a task for each call. A look-up is hardly longer than it takes to hand a task to another thread and to
//! have its answer come back from there, and each answer that comes by itself is a write. So calls are made in the task of their
//! connection: those that came together are answered together, in one write.
//!
//! Invariants:
//! - A call that panics ends its own stream and nothing else.
//! - Of calls that come at a time only the first [`CALLS_AT_A_TIME_MAX`] are made here; the others run beside, on other threads,
//!   so that one connection may use the whole machine.
//! - Others have their turn after [`TURNS_MAX`] turns, however much comes over the connection.
//! - Calls end with their connection, those beside it at their next turn; connections end with [`serve`].

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tower_service::Service;

use super::gate::Peer;
use super::incoming::Connection;

/// Calls of one turn that are made in the task of their connection. The longest of them take about a millisecond each, for which
/// the others wait.
const CALLS_AT_A_TIME_MAX: usize = 8;

/// Turns of a connection before other tasks have theirs. Two are enough for calls that are answered at once: they come, and
/// their answers go.
const TURNS_MAX: usize = 8;

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
    S::Future: Send + 'static,
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
        let calls = Calls { services: services.clone(), peer: Arc::clone(connection.peer()) };
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
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let (begun, peer) = (Begun::default(), Arc::clone(&calls.peer));
    let conversation = http2::Builder::new(begun.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams_max)
        .keep_alive_interval(Duration::from_millis(KEEPALIVE_MILLIS))
        .keep_alive_timeout(Duration::from_millis(KEEPALIVE_MILLIS))
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        // No client of gRPC looks at it.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(connection), calls);
    let mut conversation = pin!(conversation);
    let mut drained = pin!(drain.cancelled());
    let mut is_draining = false;
    let mut under_way = FuturesUnordered::new();
    let turns = Arc::new(Turns::default());
    let waker = Waker::from(Arc::clone(&turns));
    let ended = std::future::poll_fn(|cx| {
        let (_on, mut own) = (turns.begin(cx), Context::from_waker(&waker));
        if !is_draining && drained.as_mut().poll(cx).is_ready() {
            is_draining = true;
            conversation.as_mut().graceful_shutdown();
        }
        for _ in 0..TURNS_MAX {
            turns.is_due.store(false, Ordering::SeqCst);
            if let Poll::Ready(ended) = conversation.as_mut().poll(&mut own) {
                return Poll::Ready(ended);
            }
            begun.hand_over(&under_way);
            while let Poll::Ready(Some(())) = Pin::new(&mut under_way).poll_next(&mut own) {}
            // Without a budget everything says that it is not ready.
            if !turns.is_due.load(Ordering::SeqCst) || !tokio::task::coop::has_budget_remaining() {
                break;
            }
        }
        Poll::Pending
    });
    if let Err(error) = ended.await {
        tracing::debug!(peer = %peer.address, %error, "connection failed");
    }
}

/// Tells whether a connection, or a call over it, wants another turn. While the task has its turn it sees that itself, and
/// nobody needs to be woken for it.
#[derive(Debug, Default)]
struct Turns {
    is_due: AtomicBool,
    is_on: AtomicBool,
    task: AtomicWaker,
}

impl Turns {
    /// The task has its turn, until what is returned is dropped.
    fn begin(&self, cx: &Context<'_>) -> On<'_> {
        self.task.register(cx.waker());
        self.is_on.store(true, Ordering::SeqCst);
        On(self)
    }
}

impl Wake for Turns {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Ordering::SeqCst);
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
        if self.0.is_due.load(Ordering::SeqCst) {
            self.0.task.wake();
        }
    }
}

/// Calls that have come and are not made yet.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Begun {
    fn hand_over(&self, calls: &FuturesUnordered<BoxFuture<'static, ()>>) {
        self.lock().drain(..).for_each(|call| calls.push(call));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BoxFuture<'static, ()>>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Begun {
    fn execute(&self, call: F) {
        let mut begun = self.lock();
        if begun.len() < CALLS_AT_A_TIME_MAX {
            // Whoever panics has said so. His stream is dropped, which its client is told.
            begun.push(Box::pin(AssertUnwindSafe(call).catch_unwind().map(|_| ())));
        } else {
            drop(begun);
            tokio::spawn(call);
        }
    }
}

/// The services, as called over one connection.
struct Calls<S> {
    services: S,
    peer: Arc<Peer>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Calls<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> S::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&self.peer));
        self.services.clone().call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;

    use tokio::io::{DuplexStream, ReadBuf};
    use tonic::{Code, Status};

    use super::super::gate::{Cut, Standing, Strangers};
    use super::*;
    use crate::serve::ClientLimits;

    /// Bytes on their way to one side: more than anything here.
    const PIPE_BYTES: usize = 1 << 20;

    /// Counts the writes of the server.
    struct Counting(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counting {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, to)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    /// `/now` answers, `/later` does when a thread of its own has said so, `/never` does not, and `/panic` panics.
    #[derive(Clone)]
    struct Answers(Arc<()>);

    impl Service<Request<Body>> for Answers {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            assert!(request.extensions().get::<Arc<Peer>>().is_some());
            let (path, under_way) = (request.uri().path().to_owned(), Arc::clone(&self.0));
            Box::pin(async move {
                match path.as_str() {
                    "/panic" => panic!("as a defect would"),
                    "/never" => std::future::pending().await,
                    "/later" => {
                        let (sender, told) = tokio::sync::oneshot::channel();
                        std::thread::spawn(move || sender.send(()).unwrap());
                        told.await.unwrap();
                    }
                    _ => {}
                }
                drop(under_way);
                Ok(Status::new(Code::DataLoss, path).into_http())
            })
        }
    }

    struct Served {
        client: h2::client::SendRequest<Bytes>,
        writes: Arc<AtomicUsize>,
        /// One more than calls that are there.
        under_way: Arc<()>,
        drain: CancellationToken,
        connection: tokio::task::JoinHandle<()>,
        other_side: tokio::task::JoinHandle<Result<(), h2::Error>>,
    }

    async fn served() -> Served {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (writes, under_way, drain) = (Arc::default(), Arc::new(()), CancellationToken::new());
        let limits = ClientLimits { calls: 1, watches: 1, calls_per_second: None, answer_bytes: 0 };
        let address = "127.0.0.1:1".parse().unwrap();
        let (stranger, standing, cut) =
            (Strangers::new(limits, 1).of("127.0.0.1".parse().unwrap()), Standing::default(), Cut::default());
        let peer =
            Arc::new(Peer { address, stranger, certificate: None, is_proven: AtomicBool::new(true), standing, cut });
        let calls = Calls { services: Answers(Arc::clone(&under_way)), peer };
        let connection = tokio::spawn(converse(Counting(ours, Arc::clone(&writes)), calls, 200, drain.clone()));
        let (client, other_side) = h2::client::handshake(theirs).await.unwrap();
        let served = Served { client, writes, under_way, drain, connection, other_side: tokio::spawn(other_side) };
        // After it both sides have told of their settings.
        served.call("/now").await.unwrap();
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

        fn writes(&self) -> usize {
            self.writes.swap(0, Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn calls_that_came_together_are_answered_in_one_write() {
        let served = served().await;
        served.writes();
        for count in [1, 2, CALLS_AT_A_TIME_MAX] {
            served.calls("/now", count).await;
            assert_eq!(served.writes(), 1, "{count} calls");
        }
    }

    #[tokio::test]
    async fn many_calls_at_a_time_are_all_answered() {
        let served = served().await;
        for path in ["/now", "/later"] {
            for count in [1, CALLS_AT_A_TIME_MAX + 1, 10 * CALLS_AT_A_TIME_MAX, 500] {
                served.calls(path, count).await;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_is_woken_by_another_thread_has_another_turn() {
        let served = served().await;
        for round in 0..300 {
            let all = async { tokio::join!(served.calls("/later", 1 + round % 20), served.calls("/now", round % 10)) };
            tokio::time::timeout(Duration::from_secs(30), all).await.expect("a turn");
        }
    }

    #[tokio::test]
    async fn a_call_that_panics_ends_its_own_stream_only() {
        let served = served().await;
        let (panicked, answered) = tokio::join!(served.call("/panic"), served.call("/later"));
        assert!(panicked.unwrap_err().is_reset());
        assert_eq!(answered.unwrap(), "/later");
        served.calls("/now", 3).await;
    }

    #[tokio::test]
    async fn calls_end_with_their_connection() {
        for count in [1, 3 * CALLS_AT_A_TIME_MAX] {
            let served = served().await;
            let never = futures_util::future::join_all((0..count).map(|_| served.call("/never")));
            assert!(tokio::time::timeout(Duration::from_millis(50), never).await.is_err());
            // Of the calls that were given up by their client, those of which the server has heard are over.
            served.calls("/now", 1).await;
            tokio::time::timeout(Duration::from_secs(30), async {
                while Arc::strong_count(&served.under_way) > 2 {
                    tokio::task::yield_now().await;
                }
            })
            .await
            .expect("calls that were given up end");
            let never = served.call("/never");
            assert!(tokio::time::timeout(Duration::from_millis(50), never).await.is_err());
            served.other_side.abort();
            served.connection.await.unwrap();
            assert_eq!(Arc::strong_count(&served.under_way), 1);
        }
    }

    #[tokio::test]
    async fn what_is_under_way_ends_before_a_connection_that_drains() {
        let served = served().await;
        let (answered, ()) = tokio::join!(served.call("/later"), async { served.drain.cancel() });
        assert_eq!(answered.unwrap(), "/later");
        served.connection.await.unwrap();
    }

    #[test]
    fn nobody_is_woken_for_a_turn_that_is_had() {
        let (turns, task) = (Arc::new(Turns::default()), Arc::new(Turns::default()));
        // Shows whether it was woken, since it never has a turn.
        let (waker, woken) = (Waker::from(Arc::clone(&task)), || task.is_due.swap(false, Ordering::SeqCst));
        let cx = Context::from_waker(&waker);
        let on = turns.begin(&cx);
        turns.wake_by_ref();
        assert!(!woken(), "it sees for itself");
        turns.is_due.store(false, Ordering::SeqCst);
        drop(on);
        assert!(!woken(), "it has seen it");
        turns.wake_by_ref();
        assert!(woken());
        let on = turns.begin(&cx);
        turns.wake_by_ref();
        drop(on);
        assert!(woken(), "it was woken after its last look");
    }
}

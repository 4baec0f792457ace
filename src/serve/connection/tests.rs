//! Connections over a pipe in memory: what the calls of each other, of floods and of ends feel.

use std::io;
use std::sync::atomic::AtomicUsize;

use okta_idmap_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::FileDescriptorSet;
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

impl Answers {
    fn answer(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
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
    let (is_proven, stats) = (AtomicBool::new(true), Arc::default());
    let peer = Arc::new(Peer { address, stranger, certificate: None, is_proven, standing, cut, stats });
    let services = answers.clone();
    let calls = Calls::new(move |request| services.answer(request), Arc::clone(&peer));
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

#[test]
fn short_calls_are_single_answers_of_this_server() {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    for path in SHORT.iter().filter(|path| path.starts_with("/idmap.v1.")) {
        let (service, name) = path[1..].split_once('/').unwrap();
        let services = files.file.iter().flat_map(|file| {
            file.service.iter().filter(move |found| format!("{}.{}", file.package(), found.name()) == service)
        });
        let method = services.flat_map(|found| &found.method).find(|method| method.name() == name);
        assert!(method.is_some_and(|method| !method.server_streaming() && !method.client_streaming()), "{path}");
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
        let connect = Request::builder().method("CONNECT").uri("x:1").header("content-length", "5").body(()).unwrap();
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
    let wakers = [turns.waker(|turns| &turns.calls), turns.waker(|turns| &turns.conversation)];
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

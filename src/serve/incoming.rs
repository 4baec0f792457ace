//! Connections on their way in: accepted, counted, through the handshake, and ended where nobody proves to be known.
//!
//! Entry point: [`accept`]; what it hands on is a [`Connection`].
//!
//! Invariants:
//! - A handshake is over within [`HANDSHAKE_MILLIS_MAX`]; of more than [`HANDSHAKES_MAX`] the oldest ends. Who connects and
//!   says nothing holds nobody up, since a handshake that is meant takes milliseconds.
//! - There are never more connections than the settings say; one more is closed at once, so that its client knows.
//! - Where clients are known, a connection over which none has called within [`PROOF_MILLIS_MAX`] ends, and one network has an
//!   eighth of the places for such; a client whose certificate is known needs none of these. One that takes nothing of what is sent for [`STALL_MILLIS_MAX`] ends as well, and so does one
//!   whose gate says so (`gate::leases`).
//! - A system that gives no connections, because it lacks descriptors or memory, is asked again, however long that takes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::accepting::{Accepting, Crowd, Listener};
use super::gate::{Cut, Gate, Peer, PeerCertificate, Standing, Strangers};
use super::stats::{ConnectionRefusal, ServerStats};
use super::tls::Tls;

/// How long a handshake may take, in milliseconds: some round trips of the slowest line.
const HANDSHAKE_MILLIS_MAX: u64 = 10_000;

/// Handshakes at a time. Each holds a descriptor and some ten KiB.
const HANDSHAKES_MAX: usize = 128;

/// How long a connection may be without a call of a known client, in milliseconds: a client calls at once, a probe of the
/// health is over by then or comes again. Where nobody is named: without the greeting of HTTP/2.
pub(super) const PROOF_MILLIS_MAX: u64 = 30_000;

/// How long what is sent may wait for the other side to take it, in milliseconds. A client that does not want more for now says
/// so to HTTP/2; one whose system takes nothing at all is gone, or means harm.
const STALL_MILLIS_MAX: u64 = 60_000;

/// Length of the greeting with which a client begins HTTP/2.
const GREETING_BYTES: usize = 24;

/// Connections that wait to be taken over; they are taken at once.
const QUEUE_CONNECTIONS_MAX: usize = 64;

/// How connections are taken.
pub(super) struct Door {
    pub(super) tls: Option<Tls>,
    pub(super) strangers: Strangers,
    /// One for each connection.
    pub(super) places: Arc<Semaphore>,
    /// Whether a known client has to call.
    pub(super) needs_proof: bool,
    /// Knows certificates, and is told of connections that have one, or that have to be proven.
    pub(super) gate: Gate,
    pub(super) stats: Arc<ServerStats>,
}

impl Door {
    /// Tells of a connection that has no place; it is closed by being dropped.
    fn refuse(&self, address: SocketAddr) {
        self.stats.refuse_connection(ConnectionRefusal::Limit);
        tracing::debug!(peer = %address, "too many connections");
    }
}

/// Takes connections until `stop`, or until nobody wants them.
pub(super) async fn accept(
    listener: impl Listener,
    door: Door,
    taken: mpsc::Sender<Connection>,
    stop: CancellationToken,
) {
    let door = Arc::new(door);
    let mut handshakes = Crowd::new(HANDSHAKES_MAX, "a handshake");
    let mut accepting = Accepting::new(listener, "gRPC");
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = taken.closed() => return,
            () = handshakes.one_ends() => continue,
            accepted = accepting.next() => accepted,
        };
        let Some((stream, address)) = accepted else {
            door.stats.refuse_connection(ConnectionRefusal::System);
            continue;
        };
        // A handshake for a connection that has no place would be for nothing.
        if door.places.available_permits() == 0 {
            door.refuse(address);
            continue;
        }
        if handshakes.begin(door_opens(Arc::clone(&door), stream, address, taken.clone())) {
            door.stats.refuse_connection(ConnectionRefusal::Slow);
        }
    }
}

/// One connection up to where calls can come over it.
async fn door_opens(door: Arc<Door>, stream: TcpStream, address: SocketAddr, taken: mpsc::Sender<Connection>) {
    // Small answers go out at once. A socket that refuses this is closed already.
    let _ = stream.set_nodelay(true);
    let loaded = door.tls.as_ref().map(|tls| (tls, tls.loaded()));
    let (io, certificate) = match &loaded {
        None => (Io::Plain(stream), None),
        Some((tls, loaded)) => {
            let limit = Duration::from_millis(HANDSHAKE_MILLIS_MAX);
            let shaken = tokio::time::timeout(limit, loaded.acceptor().accept(stream)).await;
            match shaken {
                Ok(Ok(stream)) => {
                    let shown = stream.get_ref().1.peer_certificates();
                    let certificate =
                        match shown.map(|chain| PeerCertificate::read(chain, tls.needs_client_certificate())) {
                            None => None,
                            Some(Some(certificate)) => Some(certificate),
                            // The handshake has refused it already: nobody could ever judge the connection again.
                            Some(None) => {
                                door.stats.refuse_connection(ConnectionRefusal::Handshake);
                                return tracing::debug!(peer = %address, "the client certificate cannot be read");
                            }
                        };
                    (Io::Tls(Box::new(stream)), certificate)
                }
                Ok(Err(error)) => {
                    door.stats.refuse_connection(ConnectionRefusal::Handshake);
                    return tracing::debug!(peer = %address, %error, "TLS handshake failed");
                }
                Err(_) => {
                    door.stats.refuse_connection(ConnectionRefusal::Slow);
                    return tracing::debug!(peer = %address, "TLS handshake took too long");
                }
            }
        }
    };
    // Only now: those who say nothing must not take the places of those who do.
    let Ok(place) = Arc::clone(&door.places).try_acquire_owned() else { return door.refuse(address) };
    let (is_proven, standing, cut) = (AtomicBool::new(false), Standing::default(), Cut::default());
    let stranger = door.strangers.of(address.ip());
    let stats = Arc::clone(&door.stats);
    let peer = Arc::new(Peer { address, stranger, certificate, is_proven, standing, cut, stats });
    // Nor must those of one network who prove nothing take the places of all others. Whose certificate is known proves by it
    // to be none of them.
    let unproven = match door.needs_proof && !door.gate.knows_certificate(&peer) {
        true => match peer.stranger.connect() {
            None => return door.refuse(address),
            place => place,
        },
        false => None,
    };
    if peer.certificate.is_some() || door.needs_proof {
        door.gate.connections().connect(&peer);
    }
    if let Some((tls, loaded)) = &loaded {
        // Where the files have changed since the handshake, whoever judged those who are connected may not have seen this one.
        tls.judge_again(&peer, loaded);
    }
    let deadline = Some(Box::pin(tokio::time::sleep(Duration::from_millis(PROOF_MILLIS_MAX))));
    door.stats.connected();
    let stats = Arc::clone(&door.stats);
    let greeting_left = if door.needs_proof { usize::MAX } else { GREETING_BYTES };
    let connection = Connection { io, peer, deadline, greeting_left, unproven, stall: None, stats, _place: place };
    // Nobody wants it: the server ends.
    let _ = taken.send(connection).await;
}

/// With or without TLS.
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that calls may come over.
pub(super) struct Connection {
    io: Io,
    peer: Arc<Peer>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes that are still to be read for it to be taken for a client: without names, the greeting of HTTP/2, after which its
    /// keepalive asks whether anybody is there. Where clients are named, only a call of one is enough.
    greeting_left: usize,
    /// Its place among those of its network that have proven nothing.
    unproven: Option<OwnedSemaphorePermit>,
    /// Until when what is to be written must have got on.
    stall: Option<Pin<Box<Sleep>>>,
    stats: Arc<ServerStats>,
    _place: OwnedSemaphorePermit,
}

/// Room for those that wait to be taken over.
pub(super) fn queue() -> (mpsc::Sender<Connection>, mpsc::Receiver<Connection>) {
    mpsc::channel(QUEUE_CONNECTIONS_MAX)
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stats.disconnected();
    }
}

impl Connection {
    /// Who is at the other end.
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Whether it has to end: the gate says so, or nobody has proven to be known in time.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        if self.peer.cut.is_cut(cx) {
            return true;
        }
        let Some(deadline) = &mut self.deadline else { return false };
        if self.greeting_left == 0 || self.peer.is_proven.load(Ordering::Relaxed) {
            (self.deadline, self.unproven) = (None, None);
            return false;
        }
        let is_over = deadline.as_mut().poll(cx).is_ready();
        if is_over {
            self.deadline = None;
            self.stats.refuse_connection(ConnectionRefusal::Unproven);
        }
        is_over
    }

    /// What becomes of something written: an end where the connection has to end, or nobody takes what is sent. Whoever only
    /// writes must not be beyond the limits, which else are seen to by reading.
    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let limit = Duration::from_millis(STALL_MILLIS_MAX);
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        let is_stalled = stall.as_mut().poll(cx).is_ready();
        if is_stalled || self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if this.greeting_left != usize::MAX {
            this.greeting_left = this.greeting_left.saturating_sub(buffer.filled().len() - before);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        this.written(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let written = match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        this.written(cx, written)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let written = match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        };
        this.written(cx, written)
    }

    /// Not in pieces: then h2 copies answers of up to 1 KiB, nearly all that are not lists, behind each other into one write,
    /// where else each above 256 bytes is a write of its own.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::super::accepting::tests::Failing;
    use super::super::gate::ClientLimits;
    use super::*;
    use crate::core::ids::Timestamp;

    const LIMITS: ClientLimits = ClientLimits { calls: 1, watches: 1, calls_per_second: None, answer_bytes: 0 };

    fn gate(stats: &Arc<ServerStats>) -> Gate {
        Gate::new(Arc::default(), LIMITS, false, Arc::clone(stats), Timestamp::default)
    }

    /// A connection with its client.
    async fn connected(needs_proof: bool, stats: &Arc<ServerStats>) -> (Connection, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (strangers, places) = (Strangers::new(LIMITS, 1), Arc::new(Semaphore::new(2)));
        let door = Door { tls: None, strangers, places, needs_proof, gate: gate(stats), stats: Arc::clone(stats) };
        let (taken, mut connections) = queue();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, door, taken, CancellationToken::new()));
        let client = TcpStream::connect(address).await.unwrap();
        (connections.recv().await.unwrap(), client)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_prove_to_be_known_is_cut_off() {
        let stats = Arc::new(ServerStats::default());
        let (mut connection, mut client) = connected(true, &stats).await;
        let begun = tokio::time::Instant::now();
        client.write_all(b"ping").await.unwrap();
        let mut piece = [0; 4];
        connection.read_exact(&mut piece).await.unwrap();
        let error = connection.read(&mut piece).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= Duration::from_millis(PROOF_MILLIS_MAX - 1));
        assert_eq!(stats.refused_connections(ConnectionRefusal::Unproven), 1);
        assert_eq!(stats.connections(), 1);
        drop(connection);
        assert_eq!(stats.connections(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_greet_is_cut_off() {
        for (sent, expected) in [(0, Some(io::ErrorKind::TimedOut)), (8, Some(io::ErrorKind::TimedOut)), (24, None)] {
            let stats = Arc::new(ServerStats::default());
            let (mut connection, mut client) = connected(false, &stats).await;
            client.write_all(&vec![b'P'; sent]).await.unwrap();
            connection.read_exact(&mut vec![0; sent]).await.unwrap();
            let limit = Duration::from_millis(2 * PROOF_MILLIS_MAX);
            let read = tokio::time::timeout(limit, connection.read(&mut [0; 4])).await;
            assert_eq!(read.ok().map(|read| read.unwrap_err().kind()), expected, "after {sent} bytes");
            assert_eq!(stats.refused_connections(ConnectionRefusal::Unproven), u64::from(expected.is_some()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off() {
        let limits = [(true, PROOF_MILLIS_MAX), (false, STALL_MILLIS_MAX)];
        for ((needs_proof, limit), len) in limits.into_iter().flat_map(|limit| [(limit, 1 << 20), (limit, 200)]) {
            let stats = Arc::new(ServerStats::default());
            let (mut connection, mut client) = connected(needs_proof, &stats).await;
            client.write_all(&[0; GREETING_BYTES]).await.unwrap();
            connection.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
            let begun = tokio::time::Instant::now();
            let piece = vec![0; len];
            let error = loop {
                if let Err(error) = connection.write_all(&piece).await {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(begun.elapsed() >= Duration::from_millis(limit - 1), "{:?}", begun.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_system_without_descriptors_is_asked_again_and_the_end_is_heard_meanwhile() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stats = Arc::new(ServerStats::default());
        let door = || Door {
            tls: None,
            strangers: Strangers::new(LIMITS, 1),
            places: Arc::new(Semaphore::new(2)),
            needs_proof: false,
            gate: gate(&stats),
            stats: Arc::clone(&stats),
        };
        let ((taken, mut connections), stop, mut tasks) = (queue(), CancellationToken::new(), JoinSet::new());
        tasks.spawn(accept(Failing::new(listener, 700), door(), taken, stop.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut connection = connections.recv().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        connection.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(stats.refused_connections(ConnectionRefusal::System), 700);
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();

        // One that never gets better ends when it is asked to, in the middle of a wait.
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let ((taken, _connections), stop) = (queue(), CancellationToken::new());
        tasks.spawn(accept(Failing::new(listener, usize::MAX), door(), taken, stop.clone()));
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        let asked_at = tokio::time::Instant::now();
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
        assert_eq!(asked_at.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn one_network_does_not_take_all_places() {
        let stats = Arc::new(ServerStats::default());
        let (connection, client) = connected(true, &stats).await;
        // The door is for one that has proven nothing; the second is closed at once.
        let mut second = TcpStream::connect(client.peer_addr().unwrap()).await;
        let is_closed = match &mut second {
            Ok(stream) => stream.read(&mut [0; 1]).await.map_or(true, |bytes| bytes == 0),
            Err(_) => true,
        };
        assert!(is_closed);
        drop(connection);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_known_or_need_not_be_stays() {
        for needs_proof in [true, false] {
            let stats = Arc::new(ServerStats::default());
            let (mut connection, mut client) = connected(needs_proof, &stats).await;
            connection.peer.is_proven.store(needs_proof, Ordering::Relaxed);
            if !needs_proof {
                client.write_all(&[0; GREETING_BYTES]).await.unwrap();
                connection.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
            }
            let mut piece = [0; 4];
            let long = Duration::from_millis(3 * PROOF_MILLIS_MAX);
            assert!(tokio::time::timeout(long, connection.read(&mut piece)).await.is_err(), "it waits");
            client.write_all(b"pong").await.unwrap();
            connection.read_exact(&mut piece).await.unwrap();
            assert_eq!(&piece, b"pong");
            assert_eq!(stats.refused_connections(ConnectionRefusal::Unproven), 0);
        }
    }
}

//! The simulated org on a loopback socket: a small HTTP/1.1 server that controls every byte it sends.
//!
//! Entry point: [`SimServer::start`]. A general HTTP library would repair what tests want broken: two `Link` lines, header
//! names in any case, a body shorter than announced, a connection reset instead of an answer.
//!
//! Invariants: the server listens on loopback only and runs on a thread of its own, so a test's runtime (or its paused
//! clock) does not matter; dropping the handle stops it; a request larger than the bounds below closes the connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::http::{Reply, Request, reason};
use crate::org::Org;
use crate::sim::Sim;

/// Bytes of request line and headers: search expressions of 200 ids are about 10 KiB, tokens a few KiB.
const HEAD_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a request body that are read: token requests have a few thousand.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Pieces of a slow body; few enough to be cheap, many enough to look like a trickle.
const SLOW_PIECES: usize = 16;
/// An idle connection is closed after this long, as a real server does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Where the org's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockMode {
    /// Time moves only when a test moves it.
    Virtual,
    /// The org follows the clock of the machine.
    Wall,
}

/// How to serve an org.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Port on loopback; 0 = any free one.
    pub port: u16,
    /// Accepted SSWS token; `None` = no authentication.
    pub token: Option<String>,
    /// Time before each answer, in milliseconds.
    pub latency_ms: u64,
    /// Source of time.
    pub clock: ClockMode,
    /// Decides rules with a probability.
    pub seed: u64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self { port: 0, token: None, latency_ms: 0, clock: ClockMode::Virtual, seed: 1 }
    }
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken or not allowed.
    #[error("listen on 127.0.0.1:{port}")]
    Listen {
        /// The port asked for.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No thread or runtime for the server.
    #[error("start the server thread")]
    Thread(#[source] io::Error),
}

/// A running server. Stops when dropped.
pub struct SimServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    sim: Mutex<Sim>,
    latency: Duration,
    clock: ClockMode,
}

impl SimServer {
    /// Serves an org on loopback. Returns once the port is open.
    pub fn start(org: Org, config: &ServerConfig) -> Result<Self, StartError> {
        let listen = |source| StartError::Listen { port: config.port, source };
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let mut sim = Sim::new(org, &format!("http://{address}"), config.seed);
        if config.clock == ClockMode::Wall {
            sim.org.set_now_ms(wall_ms());
        }
        if let Some(token) = &config.token {
            sim.require_token(token);
        }
        let latency = Duration::from_millis(config.latency_ms);
        let shared = Arc::new(Shared { sim: Mutex::new(sim), latency, clock: config.clock });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let for_thread = Arc::clone(&shared);
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, for_thread) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread =
            std::thread::Builder::new().name("okta-sim".to_owned()).spawn(serve).map_err(StartError::Thread)?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:<port>`, the base URL of the org.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The org and everything around it. Requests wait while the guard is held.
    pub fn sim(&self) -> MutexGuard<'_, Sim> {
        self.shared.lock()
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended already; then nobody needs the signal.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Sim> {
        let mut sim = self.sim.lock().unwrap_or_else(PoisonError::into_inner);
        if self.clock == ClockMode::Wall {
            sim.org.set_now_ms(wall_ms());
        }
        sim
    }
}

#[expect(clippy::disallowed_methods, reason = "the simulated org has a wall clock of its own")]
fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the runtime of this thread ends with the server, and its tasks with it")]
async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A client that goes away is not an error of the server.
                    let _ = serve(stream, &shared).await;
                });
            }
            // Out of file descriptors or the like: let connections finish before trying again.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let read = tokio::time::timeout(IDLE_TIMEOUT, read_request(&mut stream, &mut buffer)).await;
        let Ok(Ok(Some(request))) = read else { return Ok(()) };
        let wants_close = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let reply = {
            let mut sim = shared.lock();
            sim.in_flight += 1;
            sim.handle(&request)
        };
        let sent = send(&mut stream, &reply, shared.latency).await;
        shared.lock().in_flight -= 1;
        if !sent? || wants_close {
            return Ok(());
        }
    }
}

/// Reads one request; `None` at the end of the connection or when the request is beyond all bounds.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    let head_len = loop {
        if let Some(place) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break place + 4;
        }
        if buffer.len() > HEAD_BYTES_MAX || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head: Vec<u8> = buffer.drain(..head_len).collect();
    let Some(mut request) = parse_head(&String::from_utf8_lossy(&head)) else { return Ok(None) };
    let body_len = request.header("content-length").and_then(|length| length.trim().parse::<usize>().ok()).unwrap_or(0);
    if body_len > BODY_BYTES_MAX || request.header("transfer-encoding").is_some() {
        return Ok(None);
    }
    while buffer.len() < body_len {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body: Vec<u8> = buffer.drain(..body_len).collect();
    request.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(request))
}

/// Reads request line and headers; `None` if this is no HTTP/1 request.
fn parse_head(head: &str) -> Option<Request> {
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target, version) = (first.next()?, first.next()?, first.next()?);
    if !version.starts_with("HTTP/1.") || method.is_empty() || first.next().is_some() {
        return None;
    }
    // The absolute form of a proxy request names the host as well.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |place| &rest[place..]),
        None => target,
    };
    let mut request = Request::get(target);
    method.clone_into(&mut request.method);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        request.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(request)
}

/// Sends a reply; `false` if the connection is of no further use.
async fn send(stream: &mut TcpStream, reply: &Reply, latency: Duration) -> io::Result<bool> {
    let delivery = reply.delivery;
    let wait = latency + Duration::from_millis(delivery.delay_ms);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    if delivery.reset {
        // Lingering for zero seconds turns the close into a reset.
        stream.set_zero_linger()?;
        return Ok(false);
    }
    let mut bytes = format!("HTTP/1.1 {} {}\r\n", reply.status, reason(reply.status)).into_bytes();
    for (name, value) in &reply.headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", reply.body.len()).as_bytes());
    let body = reply.body.as_bytes();
    if delivery.truncated {
        bytes.extend_from_slice(&body[..body.len() / 2]);
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        return Ok(false);
    }
    if delivery.slow_body_ms > 0 {
        stream.write_all(&bytes).await?;
        let pause = Duration::from_millis(delivery.slow_body_ms) / u32::try_from(SLOW_PIECES).unwrap_or(1);
        for piece in body.chunks(body.len().div_ceil(SLOW_PIECES).max(1)) {
            tokio::time::sleep(pause).await;
            stream.write_all(piece).await?;
        }
        return Ok(true);
    }
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let request =
            parse_head("GET /api/v1/users?limit=2 HTTP/1.1\r\nHost: x\r\nAuthorization: SSWS a:b\r\n\r\n").unwrap();
        assert_eq!(
            (request.method.as_str(), request.path.as_str(), request.query.as_str()),
            ("GET", "/api/v1/users", "limit=2")
        );
        assert_eq!(request.header("authorization"), Some("SSWS a:b"));
        assert_eq!(parse_head("POST http://x/a HTTP/1.1\r\n\r\n").unwrap().path, "/a");
        for bad in [
            "",
            "\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET / HTTP/1.1 x\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        ] {
            assert!(parse_head(bad).is_none(), "{bad:?}");
        }
    }
}

//! The server as `serve` runs it, in a process of its own, and beside it an rpc that does nothing: the limit.
//!
//! Entry points: [`run`] in the child, [`Served::start`] in the parent.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use futures_util::future::BoxFuture;
use okta_idmap::engine;
use okta_idmap::engine::progress::Progress;
use okta_idmap::serve::ServerSettings;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;

use crate::fill::settings;

/// The argument that makes a process a server.
pub(crate) const SERVE_FLAG: &str = "--serve-lookups";

/// Messages as the bytes that they are: neither side of the limit spends time on them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// `/figures.Empty/N`: an answer of N bytes, whatever was asked; `/figures.Empty/M/N`: after M microseconds of processor time.
#[derive(Clone, Copy, Debug)]
struct Empty;

static NOTHING: [u8; 1 << 16] = [0; 1 << 16];

struct Answer(Bytes);

impl UnaryService<Bytes> for Answer {
    type Response = Bytes;
    type Future = std::future::Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, _request: tonic::Request<Bytes>) -> Self::Future {
        std::future::ready(Ok(tonic::Response::new(self.0.clone())))
    }
}

impl NamedService for Empty {
    const NAME: &'static str = "figures.Empty";
}

impl tower_service::Service<http::Request<Body>> for Empty {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut numbers = request.uri().path().rsplit('/').map(|name| name.parse().ok());
        let length = numbers.next().flatten().unwrap_or(0);
        let micros = numbers.next().flatten().unwrap_or(0);
        let answer = Answer(Bytes::from_static(NOTHING.get(..length).unwrap_or_default()));
        Box::pin(async move {
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(micros as u64) {
                std::hint::spin_loop();
            }
            Ok(Grpc::new(RawCodec).unary(answer, request).await)
        })
    }
}

/// The child: serves until its standard input ends, that is, until its parent does.
pub(crate) fn run(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lookups = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let empty = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        println!("{} {}", lookups.local_addr().unwrap(), empty.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        let shutdown = CancellationToken::new();
        let limit = tonic::transport::Server::builder()
            .add_service(Empty)
            .serve_with_incoming(TcpIncoming::from(empty).with_nodelay(Some(true)));
        let orgs = vec![(settings(dir), watch::Sender::new(Progress::default()))];
        let served = engine::serve::run(orgs, lookups, ServerSettings::default(), || {}, shutdown.clone());
        let parent_is_gone = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        tokio::pin!(served);
        tokio::select! {
            ended = &mut served => ended.unwrap(),
            ended = limit => ended.unwrap(),
            _ = parent_is_gone => {
                shutdown.cancel();
                served.await.unwrap();
            }
        }
    });
}

/// A server process.
pub(crate) struct Served {
    child: Child,
    /// Open as long as it is to serve.
    lifeline: Option<ChildStdin>,
    pub(crate) began: Instant,
    pub(crate) lookups: SocketAddr,
    pub(crate) empty: SocketAddr,
}

impl Served {
    pub(crate) fn start(dir: &Path) -> Self {
        let began = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(SERVE_FLAG)
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (lookups, empty) = line.trim().split_once(' ').unwrap();
        let (lookups, empty) = (lookups.parse().unwrap(), empty.parse().unwrap());
        Self { lifeline: child.stdin.take(), child, began, lookups, empty }
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(&self.child.id().to_string())
    }

    /// Memory in MiB, by the names of `/proc/<pid>/status`.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    pub(crate) fn stop(mut self) {
        drop(self.lifeline.take());
        assert!(self.child.wait().unwrap().success(), "the server did not end well");
    }
}

/// Processor time of a process, all threads; zero where the system does not tell. Other load changes it less than times.
pub(crate) fn cpu(process: &str) -> Duration {
    /// The unit of the kernel's counters; 100 a second on every Linux there is.
    const TICK_MS: u64 = 10;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * TICK_MS)
}

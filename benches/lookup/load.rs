//! Callers over loopback: a number of them, each asking again when it has its answer.
//!
//! Entry points: [`Callers::connect`], [`Callers::ask`]. A caller sends bytes that were made before and looks at one answer in
//! a hundred, so that what is measured is the server and as little as possible else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};

use crate::questions::Question;
use crate::server::{RawCodec, Served, cpu};

/// Callers share that many connections at most.
const CONNECTIONS_MAX: usize = 8;

/// One answer in so many is looked at.
const LOOK_EVERY: usize = 101;

/// What a number of calls took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) times: Vec<Duration>,
    pub(crate) elapsed: Duration,
    pub(crate) server_cpu: Duration,
    pub(crate) client_cpu: Duration,
    answer_bytes: usize,
}

impl Measured {
    pub(crate) fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.elapsed += other.elapsed;
        self.server_cpu += other.server_cpu;
        self.client_cpu += other.client_cpu;
        self.answer_bytes += other.answer_bytes;
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Microseconds of processor time per call, of the server and of the callers.
    pub(crate) fn cpu_us(&self) -> (f64, f64) {
        let per_call = |time: Duration| time.as_secs_f64() * 1e6 / self.times.len().max(1) as f64;
        (per_call(self.server_cpu), per_call(self.client_cpu))
    }

    /// Length of an answer, on average.
    pub(crate) fn answer_bytes(&self) -> usize {
        self.answer_bytes / self.times.len().max(1)
    }

    /// The time that a share of the calls did not exceed, in microseconds.
    pub(crate) fn share_us(&mut self, share: f64) -> f64 {
        share_us(&mut self.times, share)
    }
}

/// The time that a share of all did not exceed, in microseconds.
pub(crate) fn share_us(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let place = (times.len() as f64 * share).ceil() as usize;
    times.get(place.clamp(1, times.len().max(1)) - 1).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// Connections to one address.
pub(crate) struct Callers(Vec<Channel>);

impl Callers {
    /// For so many callers, over a connection each or as many as they share at most.
    pub(crate) async fn connect(address: SocketAddr, callers: usize) -> Self {
        Self::connect_over(address, callers.min(CONNECTIONS_MAX)).await
    }

    /// Over so many connections.
    pub(crate) async fn connect_over(address: SocketAddr, connections: usize) -> Self {
        let mut channels = Vec::new();
        for _ in 0..connections {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
            channels.push(endpoint.tcp_nodelay(true).connect().await.unwrap());
        }
        Self(channels)
    }

    /// Asks for a while, with so many callers; the requests one after the other from the place `next` on.
    pub(crate) async fn ask(
        &self,
        served: &Served,
        question: &Arc<Question>,
        callers: usize,
        time: Duration,
        next: &Arc<AtomicUsize>,
    ) -> Measured {
        let cpu_before = (served.cpu(), cpu("self"));
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let client = Grpc::new(self.0[caller % self.0.len()].clone()).max_decoding_message_size(RESPONSE_BYTES_MAX);
            let (question, next) = (Arc::clone(question), Arc::clone(next));
            tasks.spawn(async move { call(client, &question, &next, began + time).await });
        }
        let mut measured = Measured::default();
        while let Some(done) = tasks.join_next().await {
            let (times, answer_bytes) = done.unwrap();
            measured.times.extend(times);
            measured.answer_bytes += answer_bytes;
        }
        measured.elapsed = began.elapsed();
        measured.server_cpu = served.cpu().saturating_sub(cpu_before.0);
        measured.client_cpu = cpu("self").saturating_sub(cpu_before.1);
        measured
    }
}

async fn call(
    mut client: Grpc<Channel>,
    question: &Question,
    next: &AtomicUsize,
    until: Instant,
) -> (Vec<Duration>, usize) {
    let (mut times, mut answer_bytes) = (Vec::new(), 0);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let place = number % question.bodies.len();
        let request = Request::new(question.bodies[place].clone());
        let asked = Instant::now();
        client.ready().await.unwrap();
        let answer = client.unary(request, question.path.clone(), RawCodec).await.unwrap().into_inner();
        let answered = Instant::now();
        times.push(answered - asked);
        answer_bytes += answer.len();
        if number.is_multiple_of(LOOK_EVERY) {
            assert!((question.is_right)(place, answer), "a wrong answer of {} to request {place}", question.path);
        }
        if answered >= until {
            return (times, answer_bytes);
        }
    }
}

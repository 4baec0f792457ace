//! Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`.
//!
//! Entry point: [`serve_http`].
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 200 once every org had its first complete crawl and while nothing shuts down; else 503 with the reason |
//! | `/metrics` | Prometheus text; 503 when a store cannot be read |
//!
//! Invariants:
//! - A connection is for one request, is over within [`CONNECTION_MILLIS_MAX`], and there are at most [`CONNECTIONS_MAX`]:
//!   who connects and says nothing costs little and not for long. One more takes the place of the oldest, so that a probe is
//!   answered whatever others do.
//! - `/healthz` reads no store, waits for nothing and needs no thread but the one that it runs on.
//! - Every task ends with [`serve_http`].
//! - Nothing here names a person or a credential; there is no way to change anything.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::accepting::{Accepting, Crowd};
use super::metrics;
use super::orgs::Orgs;
use super::stats::ServerStats;

/// Connections at once: a few scrapers and probes.
const CONNECTIONS_MAX: usize = 32;

/// How long a connection may take, in milliseconds: longer than any answer.
const CONNECTION_MILLIS_MAX: u64 = 5_000;

/// Bytes of a request's head at most; hyper takes no less than 8 KiB, a scraper sends some hundred.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Serves until `shutdown`, and then until the connections under way are over, which is soon.
pub async fn serve_http(listener: TcpListener, orgs: Orgs, stats: Arc<ServerStats>, shutdown: CancellationToken) {
    let mut connections = Crowd::new(CONNECTIONS_MAX, "an answer about health or metrics");
    let told = Told { orgs, stats, shutdown };
    let mut accepting = Accepting::new(listener, "health and metrics");
    loop {
        let accepted = tokio::select! {
            biased;
            () = told.shutdown.cancelled() => break,
            () = connections.one_ends() => continue,
            accepted = accepting.next() => accepted,
        };
        if let Some((stream, _)) = accepted
            && connections.begin(answer_one(stream, told.clone()))
        {
            tracing::debug!("connection for health or metrics: ended to make room for another");
        }
    }
    drop(accepting);
    connections.all_end().await;
}

/// What is told about.
#[derive(Clone)]
struct Told {
    orgs: Orgs,
    stats: Arc<ServerStats>,
    shutdown: CancellationToken,
}

/// One connection, one request.
async fn answer_one(stream: TcpStream, told: Told) {
    let service = service_fn(move |request: Request<Incoming>| {
        let told = told.clone();
        async move { Ok::<_, Infallible>(answer(&request, &told).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(CONNECTION_MILLIS_MAX))
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(Duration::from_millis(CONNECTION_MILLIS_MAX), connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection for health or metrics"),
        Err(_) => tracing::debug!("connection for health or metrics: no request, or the answer was not taken"),
    }
}

async fn answer(request: &Request<Incoming>, told: &Told) -> Response<String> {
    let path = request.uri().path();
    if !matches!(path, "/healthz" | "/readyz" | "/metrics") {
        return plain(StatusCode::NOT_FOUND, "here are /healthz, /readyz and /metrics\n".to_owned());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match path {
        "/healthz" => plain(StatusCode::OK, "alive\n".to_owned()),
        "/readyz" => ready(&told.orgs, told.shutdown.is_cancelled()),
        _ => all_metrics(told).await,
    }
}

fn plain(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn ready(orgs: &Orgs, is_stopping: bool) -> Response<String> {
    if is_stopping {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned());
    }
    let reasons: Vec<String> = orgs
        .iter()
        .filter_map(|org| match org.is_crawled() {
            Ok(true) => None,
            Ok(false) => Some(format!("{}: the first full crawl is not complete\n", org.name())),
            Err(error) => {
                tracing::warn!(org = org.name(), %error, "cannot tell whether the first crawl is complete");
                Some(format!("{}: the store cannot be read; the log has the cause\n", org.name()))
            }
        })
        .collect();
    match reasons.is_empty() {
        true => plain(StatusCode::OK, "ready\n".to_owned()),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, reasons.concat()),
    }
}

async fn all_metrics(told: &Told) -> Response<String> {
    let mut states = Vec::new();
    for org in told.orgs.iter() {
        match metrics::read(org).await {
            Ok(state) => states.push(state),
            Err(failure) => {
                tracing::warn!(org = org.name(), %failure, "no metrics");
                let reason = format!("{}: {failure}\n", org.name());
                return plain(StatusCode::SERVICE_UNAVAILABLE, reason);
            }
        }
    }
    let mut response = plain(StatusCode::OK, metrics::render(&states, &told.stats));
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

//! HTTP, and nothing but GET and the token request: the only place that knows the HTTP library.
//!
//! Entry points: [`Transport::get`], [`Transport::post_token_form`].
//!
//! Invariants:
//! - There is no way to send anything but a GET without a body, and a form to [`TOKEN_PATH`] of the org.
//! - No redirect is followed, so that no credential reaches another host by an answer's will.
//! - Every wait and every size has a limit; a body is read piece by piece and dropped at the limit.
//! - Errors hold no URL, since queries may hold personal data.

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::error::NetworkCause;
use super::headers::AnswerHeaders;
use super::org_url::OrgUrl;
use crate::core::backoff::Trouble;
use crate::core::secret::Secret;

/// Limits of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Until the connection stands, names and certificates included.
    pub connect: Duration,
    /// From sending to the headers of the answer. Okta's own query limit is 30 s (facts 8.1), its gateways give up at 60.
    pub headers: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
    /// From the headers to the end of the body, so that a trickle does not last for ever.
    pub body: Duration,
    /// Bytes of a body after decompression. The largest page (10,000 groups) has about 10 MiB; the limit also ends
    /// compression bombs.
    pub body_bytes_max: usize,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            headers: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            body: Duration::from_secs(120),
            body_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// Where tokens are given out: the org's own authorization server, the only one with scopes for the API (facts 10.2).
pub(super) const TOKEN_PATH: &str = "/oauth2/v1/token";

/// Bytes of an answer with a token: about two thousand.
const TOKEN_BODY_BYTES_MAX: usize = 64 * 1024;

/// Bytes that are read of the body of a failure: Okta's have a few hundred, the rest is a page for people.
const FAILURE_BODY_BYTES_MAX: usize = 64 * 1024;

/// Header lines of an answer that are accepted; Okta sends about 30.
const HEADER_LINES_MAX: usize = 200;

/// Idle connections that are kept, and for how long: as many as requests can be in flight, shorter than the time after
/// which common load balancers drop them silently.
const IDLE_CONNECTIONS_MAX: usize = 16;
const IDLE_CONNECTION: Duration = Duration::from_secs(50);

/// Why the client cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The certificates of the operator do not parse.
    #[error("the additional root certificates are no PEM certificates")]
    Certificates,
    /// The HTTP library refused: mostly there are no root certificates on the system.
    #[error("no HTTPS client can be made ({reason}); are there root certificates on this system?")]
    Library {
        /// What it said.
        reason: String,
    },
}

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The name does not resolve.
    #[error("the host name {host} was not found: check the org's address, and that this machine can resolve names")]
    Dns {
        /// The name.
        host: Box<str>,
    },
    /// No connection.
    #[error("no connection: {reason}; check the network, firewall and proxy")]
    Connect {
        /// What the system said.
        reason: Box<str>,
    },
    /// The certificate is not trusted, or there is no common protocol.
    #[error("no trusted connection: {reason}; a proxy that opens TLS needs its root certificate configured")]
    Tls {
        /// What the TLS library said.
        reason: Box<str>,
    },
    /// A limit of [`TransportLimits`] passed.
    #[error("no {phase} within {} s", .limit.as_secs_f32())]
    Timeout {
        /// What was waited for.
        phase: TimeoutPhase,
        /// How long.
        limit: Duration,
    },
    /// The connection broke before the answer was complete.
    #[error("the connection broke {during}: {reason}")]
    Broken {
        /// `before the answer` or `within the body`.
        during: &'static str,
        /// What the HTTP library said.
        reason: Box<str>,
    },
    /// The body is larger than the limit.
    #[error("the body has more than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// A header cannot be sent. Names no value.
    #[error("the header {name} holds a character that cannot be sent")]
    Header {
        /// Its name.
        name: &'static str,
    },
}

/// What a time limit was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutPhase {
    /// The connection.
    Connect,
    /// The headers of the answer.
    Headers,
    /// The next piece of the body.
    Idle,
    /// The whole body.
    Body,
}

impl std::fmt::Display for TimeoutPhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TimeoutPhase::Connect => "connection",
            TimeoutPhase::Headers => "answer",
            TimeoutPhase::Idle => "further piece of the body",
            TimeoutPhase::Body => "whole body",
        })
    }
}

impl SendError {
    pub(super) fn network_cause(&self) -> Option<NetworkCause> {
        match self {
            Self::Dns { .. } => Some(NetworkCause::Dns),
            Self::Connect { .. } => Some(NetworkCause::Connect),
            Self::Tls { .. } => Some(NetworkCause::Tls),
            Self::Timeout { .. } => Some(NetworkCause::Timeout),
            Self::Broken { .. } => Some(NetworkCause::Reset),
            Self::BodyTooLarge { .. } | Self::Header { .. } => None,
        }
    }

    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Dns { .. } | Self::Connect { .. } | Self::Broken { .. } => Trouble::Transient,
            Self::Timeout { phase: TimeoutPhase::Connect, .. } => Trouble::Transient,
            Self::Timeout { .. } => Trouble::TooMuchWork,
            Self::BodyTooLarge { .. } => Trouble::TooLarge,
            // A certificate does not become trusted by asking again.
            Self::Tls { .. } | Self::Header { .. } => Trouble::Final,
        }
    }
}

/// The value of a header to send.
#[derive(Clone, Debug)]
pub(super) enum HeaderText {
    /// May be seen.
    Plain(String),
    /// Is marked as sensitive, so that the HTTP library does not log it either.
    Sensitive(Secret),
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: AnswerHeaders,
    /// Of a failure only the first [`FAILURE_BODY_BYTES_MAX`].
    pub(super) body: Vec<u8>,
}

/// Connections to one org.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    limits: TransportLimits,
}

impl Transport {
    /// `root_certificates_pem` is trusted besides the system's. To a loopback org no proxy leads and no certificate is due.
    pub(super) fn new(
        limits: TransportLimits,
        is_loopback: bool,
        root_certificates_pem: Option<&[u8]>,
    ) -> Result<Self, SetupError> {
        // Another part of the process may have installed one before: either is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = match root_certificates_pem {
            Some(pem) => reqwest::Certificate::from_pem_bundle(pem).map_err(|_| SetupError::Certificates)?,
            None => Vec::new(),
        };
        if root_certificates_pem.is_some() && certificates.is_empty() {
            return Err(SetupError::Certificates);
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("okta-idmap/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(limits.connect)
            .http1_max_headers(HEADER_LINES_MAX)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .gzip(true);
        let builder = match is_loopback {
            true => builder.no_proxy().tls_certs_only(certificates),
            false if certificates.is_empty() => builder,
            false => builder.tls_certs_merge(certificates),
        };
        let client =
            builder.build().map_err(|error| SetupError::Library { reason: innermost(&error.without_url()) })?;
        Ok(Self { client, limits })
    }

    /// Sends a GET and reads the answer. Never retries, never follows.
    pub(super) async fn get(&self, url: &Url, headers: Vec<(&'static str, HeaderText)>) -> Result<Answer, SendError> {
        self.send(with_headers(self.client.get(url.clone()), headers)?, url, self.limits.body_bytes_max).await
    }

    /// Sends the token request, a form (facts 10.2), and reads the answer. Never retries, never follows. This is the one
    /// request that is no GET; it cannot go anywhere else and changes nothing in the org.
    #[expect(clippy::disallowed_methods, reason = "the one POST: a token request is one, and changes nothing")]
    pub(super) async fn post_token_form(
        &self,
        org: &OrgUrl,
        form: &Secret,
        proof: Option<&Secret>,
    ) -> Result<Answer, SendError> {
        let mut headers = vec![
            ("accept", HeaderText::Plain("application/json".to_owned())),
            ("content-type", HeaderText::Plain("application/x-www-form-urlencoded".to_owned())),
        ];
        headers.extend(proof.map(|proof| ("dpop", HeaderText::Sensitive(proof.clone()))));
        let request = self.client.post(org.join(TOKEN_PATH)).body(form.expose().to_owned());
        self.send(with_headers(request, headers)?, &org.join(TOKEN_PATH), TOKEN_BODY_BYTES_MAX).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
        body_bytes_max: usize,
    ) -> Result<Answer, SendError> {
        let limit = self.limits.headers;
        let response = match timeout(limit, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.send_error(error, url)),
            Err(_) => return Err(SendError::Timeout { phase: TimeoutPhase::Headers, limit }),
        };
        let status = response.status().as_u16();
        let lines = response.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let headers = AnswerHeaders::new(lines);
        let body = self.read_body(response, status == 200, body_bytes_max).await?;
        Ok(Answer { status, headers, body })
    }

    /// Reads a body up to the limit. Of a failure's body less is wanted, and what is there by then is enough.
    async fn read_body(
        &self,
        mut response: reqwest::Response,
        is_success: bool,
        body_bytes_max: usize,
    ) -> Result<Vec<u8>, SendError> {
        let limit_bytes = if is_success { body_bytes_max } else { FAILURE_BODY_BYTES_MAX };
        let announced = response.content_length().unwrap_or(0);
        if is_success && announced > u64::try_from(limit_bytes).unwrap_or(u64::MAX) {
            return Err(SendError::BodyTooLarge { limit_bytes });
        }
        // Announced lengths are not believed further than a usual page.
        let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0).min(FAILURE_BODY_BYTES_MAX));
        let deadline = Instant::now() + self.limits.body;
        loop {
            let idle_deadline = Instant::now() + self.limits.idle;
            let piece = match timeout_at(deadline.min(idle_deadline), response.chunk()).await {
                Ok(Ok(piece)) => piece,
                _ if !is_success => return Ok(body),
                Ok(Err(error)) => {
                    return Err(SendError::Broken {
                        during: "within the body",
                        reason: innermost(&error.without_url()).into(),
                    });
                }
                Err(_) if deadline <= idle_deadline => {
                    return Err(SendError::Timeout { phase: TimeoutPhase::Body, limit: self.limits.body });
                }
                Err(_) => return Err(SendError::Timeout { phase: TimeoutPhase::Idle, limit: self.limits.idle }),
            };
            let Some(piece) = piece else { return Ok(body) };
            if body.len() + piece.len() > limit_bytes {
                if is_success {
                    return Err(SendError::BodyTooLarge { limit_bytes });
                }
                body.extend_from_slice(&piece[..limit_bytes - body.len()]);
                return Ok(body);
            }
            body.extend_from_slice(&piece);
        }
    }

    fn send_error(&self, error: reqwest::Error, url: &Url) -> SendError {
        let error = error.without_url();
        if let Some(tls) = find_tls(&error) {
            return SendError::Tls { reason: tls.into() };
        }
        if error.is_dns() {
            return SendError::Dns { host: url.host_str().unwrap_or_default().into() };
        }
        if error.is_timeout() {
            return SendError::Timeout { phase: TimeoutPhase::Connect, limit: self.limits.connect };
        }
        let reason = innermost(&error).into();
        if error.is_connect() {
            return SendError::Connect { reason };
        }
        SendError::Broken { during: "before the answer", reason }
    }
}

fn with_headers(
    mut request: reqwest::RequestBuilder,
    headers: Vec<(&'static str, HeaderText)>,
) -> Result<reqwest::RequestBuilder, SendError> {
    for (name, text) in headers {
        let value = match &text {
            HeaderText::Plain(text) => HeaderValue::from_str(text),
            HeaderText::Sensitive(secret) => HeaderValue::from_str(secret.expose()).map(|mut value| {
                value.set_sensitive(true);
                value
            }),
        };
        let value = value.map_err(|_| SendError::Header { name })?;
        request = request.header(HeaderName::from_static(name), value);
    }
    Ok(request)
}

/// Deepest chain of causes that is followed: real ones have about five.
const CAUSES_MAX: usize = 16;

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    })
    .take(CAUSES_MAX)
}

/// The last cause: the outer ones only say that something failed.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let last = causes(error).last().map(ToString::to_string).unwrap_or_default();
    super::wire::one_line(&last).into()
}

/// What the TLS library said. It stands inside IO errors, whose `source` leaves the error inside them out.
fn find_tls(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    for _ in 0..CAUSES_MAX {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string());
        }
        let inside_io = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        next = match inside_io {
            Some(inside) => Some(inside),
            None => error.source(),
        };
    }
    None
}

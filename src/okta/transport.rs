//! HTTP, and nothing but GET and the token request: the only place that knows the HTTP library.
//!
//! Entry points: [`Transport::get`], [`Transport::post_token_form`].
//!
//! Invariants:
//! - There is no way to send anything but a GET without a body, and a form to [`TOKEN_PATH`] of the org.
//! - No redirect is followed, so that no credential reaches another host by an answer's will.
//! - Every wait and every size has a limit; a body is read piece by piece and dropped at the limit.
//! - Errors hold no URL, since queries may hold personal data.
//! - An answer that repeats what was sent in confidence goes no further.
//! - The library repeats nothing by itself: a proof is never sent twice, and one layer counts the attempts.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::body::{Body, BodyFault};
use super::error::NetworkCause;
use super::headers::AnswerHeaders;
use super::org_url::OrgUrl;
use crate::core::backoff::Trouble;
use crate::core::rate::Health;
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
    /// From the headers to the end of the body, so that a trickle does not last for ever. The body of a failure gets no
    /// more than 10 s: its status is known, and all else may be missing.
    pub body: Duration,
    /// Bytes of a body, both as it comes and after decompression. The largest page (10,000 groups) has about 10 MiB; the
    /// limit also ends compression bombs.
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

impl TransportLimits {
    fn of_token_requests(&self) -> Self {
        Self {
            headers: self.headers.min(TOKEN_ANSWER),
            idle: self.idle.min(TOKEN_ANSWER),
            body: self.body.min(TOKEN_ANSWER),
            body_bytes_max: self.body_bytes_max.min(TOKEN_BODY_BYTES_MAX),
            ..*self
        }
    }
}

/// Where tokens are given out: the org's own authorization server, the only one with scopes for the API (facts 10.2).
pub(super) const TOKEN_PATH: &str = "/oauth2/v1/token";

/// Bytes of an answer with a token: about two thousand.
const TOKEN_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long the answer to a token request is waited for, and its body, and a piece of that. It takes Okta some hundred
/// milliseconds, and every read waits for it. More than it takes to find out that there is no connection.
const TOKEN_ANSWER: Duration = Duration::from_secs(15);

/// Bytes that are read of the body of a failure: Okta's have a few hundred, the rest is a page for people.
const FAILURE_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long the body of a failure is waited for.
const FAILURE_BODY: Duration = Duration::from_secs(10);

/// Header lines of an answer that are accepted; Okta sends about 30.
const HEADER_LINES_MAX: usize = 200;
/// Bytes of all header lines of an answer over HTTP/2; Okta sends about 8,000, most of it a policy for browsers. Over
/// HTTP/1.1 the library stops at 400 KiB.
const HEADER_BYTES_MAX: u32 = 64 * 1024;

/// How often a connection over HTTP/2 is asked whether it still lives while an answer is waited for, and how long it may
/// take to say so. All requests share it: one that is dead would take them all along, and their retries, until the system
/// notices; where something on the way keeps it open, never.
const PING: Duration = Duration::from_secs(15);

/// Bytes of an assertion; the names of scopes and types have fewer.
const ASSERTION_BYTES_MIN: usize = 200;

/// Bytes of a secret that is looked for in answers: shorter ones could stand there by chance.
const SECRET_BYTES_MIN: usize = 16;

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
    /// The address of the proxy cannot be used.
    #[error("the address of the proxy cannot be used: write it like http://proxy.example:3128")]
    Proxy,
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
    #[error(
        "the host name {host} was not found: check the addresses of org and proxy, and that this machine can resolve names"
    )]
    Dns {
        /// The name: of the configured proxy where there is one. That of a proxy of the environment is not known.
        host: Box<str>,
    },
    /// No connection.
    #[error("no connection: {reason}; check the network, firewall and proxy")]
    Connect {
        /// What the system said.
        reason: Box<str>,
    },
    /// The proxy wants to know who asks.
    #[error("the proxy wants a user and a password (407): set HTTPS_PROXY to http://user:password@proxy.example:3128")]
    ProxyLogin,
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
    /// The body is compressed in a way that was not asked for.
    #[error("the body is compressed in a way that was not asked for: something on the way changes answers")]
    Coding,
    /// The answer repeats the credential. It is dropped, since what an answer says may be stored and shown.
    #[error(
        "the answer repeats the credential that it was asked with, and was dropped: something on the way answers instead of Okta"
    )]
    Echo,
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
            Self::Connect { .. } | Self::ProxyLogin => Some(NetworkCause::Connect),
            Self::Tls { .. } => Some(NetworkCause::Tls),
            Self::Timeout { .. } => Some(NetworkCause::Timeout),
            Self::Broken { .. } => Some(NetworkCause::Reset),
            Self::BodyTooLarge { .. } | Self::Coding | Self::Echo | Self::Header { .. } => None,
        }
    }

    /// Whether the request surely never left this machine. What TLS kept Okta from reading was not counted either.
    pub(super) fn is_unsent(&self) -> bool {
        match self {
            Self::Dns { .. } | Self::Connect { .. } | Self::ProxyLogin | Self::Tls { .. } | Self::Header { .. } => true,
            Self::Timeout { phase, .. } => *phase == TimeoutPhase::Connect,
            Self::Broken { .. } | Self::BodyTooLarge { .. } | Self::Coding | Self::Echo => false,
        }
    }

    /// What it says of the bucket that was asked.
    pub(super) fn health(&self) -> Health {
        match self.trouble() {
            Trouble::Transient | Trouble::TooMuchWork => Health::Failing,
            Trouble::TooLarge => Health::Well,
            _ => Health::Unknown,
        }
    }

    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Dns { .. } | Self::Connect { .. } | Self::Broken { .. } => Trouble::Transient,
            Self::Timeout { phase: TimeoutPhase::Connect, .. } => Trouble::Transient,
            Self::Timeout { .. } => Trouble::TooMuchWork,
            Self::BodyTooLarge { .. } => Trouble::TooLarge,
            // Neither becomes a certificate trusted by asking again, nor is a password found.
            Self::Tls { .. } | Self::ProxyLogin | Self::Coding | Self::Echo | Self::Header { .. } => Trouble::Final,
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

/// Which way requests take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxyChoice {
    /// As the variables `HTTPS_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// Directly, whatever the variables say.
    Direct,
    /// By this proxy, whatever the variables say.
    By(Url),
}

/// An answer, whatever its status. Not `Debug`: the body may hold a token.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: AnswerHeaders,
    /// Of a failure only the first [`FAILURE_BODY_BYTES_MAX`].
    pub(super) body: Vec<u8>,
}

/// The head of an answer, whose body has not been read.
pub(super) struct Head {
    response: reqwest::Response,
    status: u16,
    headers: AnswerHeaders,
    limits: TransportLimits,
    secrets: Vec<Secret>,
    is_echo: bool,
}

/// Connections to one org.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    client: reqwest::Client,
    limits: TransportLimits,
    /// Host of the configured proxy.
    proxy_host: Option<Box<str>>,
}

impl Transport {
    /// `root_certificates_pem` is trusted besides the system's. To a loopback org no proxy leads, and only these are trusted.
    pub(super) fn new(
        limits: TransportLimits,
        is_loopback: bool,
        proxy: &ProxyChoice,
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
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(limits.connect)
            .http1_max_headers(HEADER_LINES_MAX)
            .http2_max_header_list_size(HEADER_BYTES_MAX)
            .http2_keep_alive_interval(PING)
            .http2_keep_alive_timeout(PING)
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        let builder = match is_loopback {
            true => builder.tls_certs_only(certificates),
            false if certificates.is_empty() => builder,
            false => builder.tls_certs_merge(certificates),
        };
        let builder = match proxy {
            _ if is_loopback => builder.no_proxy(),
            ProxyChoice::Environment => builder,
            ProxyChoice::Direct => builder.no_proxy(),
            ProxyChoice::By(url) => builder.proxy(reqwest::Proxy::all(url.as_str()).map_err(|_| SetupError::Proxy)?),
        };
        let client =
            builder.build().map_err(|error| SetupError::Library { reason: innermost(&error.without_url()) })?;
        let proxy_host = match proxy {
            ProxyChoice::By(url) if !is_loopback => url.host_str().map(Box::from),
            _ => None,
        };
        Ok(Self { client, limits, proxy_host })
    }

    /// Sends a GET and reads the head of the answer; [`Head::whole`] reads the rest. Never retries, never follows.
    pub(super) async fn get(&self, url: &Url, headers: Vec<(&'static str, HeaderText)>) -> Result<Head, SendError> {
        let secrets = secrets_of(&headers);
        let request = with_headers(self.client.get(url.clone()), headers)?;
        self.send(request, url, self.limits, secrets).await
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
        let mut secrets = secrets_of(&headers);
        // Among its values the assertion; the other long ones are no secret, but neither does an answer repeat them.
        let values = form.expose().split('&').filter_map(|pair| pair.split_once('=').map(|(_, value)| value));
        secrets.extend(
            values.filter(|value| value.len() > ASSERTION_BYTES_MIN).map(|value| Secret::new(value.to_owned())),
        );
        let request = self.client.post(org.join(TOKEN_PATH)).body(form.expose().to_owned());
        let request = with_headers(request, headers)?;
        self.send(request, &org.join(TOKEN_PATH), self.limits.of_token_requests(), secrets).await?.whole().await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        url: &Url,
        limits: TransportLimits,
        secrets: Vec<Secret>,
    ) -> Result<Head, SendError> {
        let limit = limits.headers;
        let response = match timeout(limit, request.header(ACCEPT_ENCODING, "gzip").send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.send_error(error, url)),
            Err(_) => return Err(SendError::Timeout { phase: TimeoutPhase::Headers, limit }),
        };
        let status = response.status().as_u16();
        // A line that is no text is kept as far as it goes: a link that is left out would end a list.
        let mut is_echo = false;
        let lines = response.headers().iter().filter(|(_, value)| {
            let repeats = repeats(value.as_bytes(), &secrets);
            is_echo |= repeats;
            !repeats
        });
        let lines: Vec<(&str, Cow<'_, str>)> =
            lines.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()))).collect();
        let headers = AnswerHeaders::new(lines.iter().map(|(name, line)| (*name, &**line)));
        Ok(Head { response, status, headers, limits, secrets, is_echo })
    }

    fn send_error(&self, error: reqwest::Error, url: &Url) -> SendError {
        let error = error.without_url();
        if let Some(tls) = find_tls(&error) {
            return SendError::Tls { reason: tls.into() };
        }
        if error.is_dns() {
            let host = self.proxy_host.clone();
            return SendError::Dns { host: host.unwrap_or_else(|| url.host_str().unwrap_or_default().into()) };
        }
        // Else it is a connection that stood and has died: the system, or the pings of HTTP/2, got no word from it.
        if error.is_timeout() && error.is_connect() {
            return SendError::Timeout { phase: TimeoutPhase::Connect, limit: self.limits.connect };
        }
        let reason: Box<str> = innermost(&error).into();
        // The library's own error has no public type.
        if error.is_connect() && reason.contains("proxy authorization required") {
            return SendError::ProxyLogin;
        }
        if error.is_connect() {
            return SendError::Connect { reason };
        }
        SendError::Broken { during: "before the answer", reason }
    }
}

async fn read_body(mut response: reqwest::Response, limits: &TransportLimits) -> Result<Vec<u8>, SendError> {
    let (announced, limit_bytes) = (response.content_length(), limits.body_bytes_max);
    let too_large = SendError::BodyTooLarge { limit_bytes };
    if announced.is_some_and(|bytes| bytes > u64::try_from(limit_bytes).unwrap_or(u64::MAX)) {
        return Err(too_large);
    }
    let broken = |reason: &str| SendError::Broken { during: "within the body", reason: reason.into() };
    let fault = |fault: BodyFault| match fault {
        BodyFault::TooLarge => SendError::BodyTooLarge { limit_bytes },
        BodyFault::Compression { reason } => broken(&super::wire::one_line(&reason)),
    };
    let mut body = new_body(&response, limit_bytes).ok_or(SendError::Coding)?;
    let deadline = Instant::now() + limits.body;
    loop {
        let idle_deadline = Instant::now() + limits.idle;
        match timeout_at(deadline.min(idle_deadline), response.chunk()).await {
            Ok(Ok(Some(piece))) => body.push(&piece).map_err(fault)?,
            Ok(Ok(None)) => return body.finish().map_err(fault),
            Ok(Err(error)) => return Err(broken(&innermost(&error.without_url()))),
            Err(_) if deadline <= idle_deadline => {
                return Err(SendError::Timeout { phase: TimeoutPhase::Body, limit: limits.body });
            }
            Err(_) => return Err(SendError::Timeout { phase: TimeoutPhase::Idle, limit: limits.idle }),
        }
    }
}

/// What is there of the body of a failure when the limits are reached, or when it breaks: the status says most.
async fn read_failure(mut response: reqwest::Response, limits: &TransportLimits) -> Vec<u8> {
    let Some(mut body) = new_body(&response, FAILURE_BODY_BYTES_MAX) else { return Vec::new() };
    let deadline = Instant::now() + FAILURE_BODY.min(limits.body);
    while let Ok(Ok(Some(piece))) = timeout_at(deadline, response.chunk()).await {
        if body.push(&piece).is_err() {
            break;
        }
    }
    body.so_far()
}

impl Head {
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn headers(&self) -> &AnswerHeaders {
        &self.headers
    }

    /// Reads the body.
    pub(super) async fn whole(self) -> Result<Answer, SendError> {
        let Self { response, status, headers, limits, secrets, mut is_echo } = self;
        let mut body = match status {
            200 => read_body(response, &limits).await?,
            _ => read_failure(response, &limits).await,
        };
        if repeats(&body, &secrets) {
            body.clear();
            is_echo = true;
        }
        // A success without one of its lines would be another answer.
        if is_echo && status == 200 {
            return Err(SendError::Echo);
        }
        Ok(Answer { status, headers, body })
    }
}

fn new_body(response: &reqwest::Response, bytes_max: usize) -> Option<Body> {
    let codings = response.headers().get_all(CONTENT_ENCODING).iter();
    // What is no text is no coding that was asked for.
    Body::new(codings.map(|line| line.to_str().unwrap_or("?")), response.content_length(), bytes_max)
}

/// What was sent in confidence, without the name of its scheme.
fn secrets_of(headers: &[(&'static str, HeaderText)]) -> Vec<Secret> {
    let sensitive = headers.iter().filter_map(|(_, text)| match text {
        HeaderText::Sensitive(secret) => Some(secret.expose()),
        HeaderText::Plain(_) => None,
    });
    sensitive.map(|text| Secret::new(text.rsplit(' ').next().unwrap_or(text).to_owned())).collect()
}

/// Whether one of the secrets stands in it.
fn repeats(text: &[u8], secrets: &[Secret]) -> bool {
    let long =
        secrets.iter().map(|secret| secret.expose().as_bytes()).filter(|secret| secret.len() >= SECRET_BYTES_MIN);
    long.into_iter().any(|secret| memchr::memmem::find(text, secret).is_some())
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

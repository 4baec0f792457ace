//! What can go wrong with a call, and the one classification of it.
//!
//! Entry points: [`OktaError::kind`], for everything above this module; [`StatusFailure::new`], which reads an answer.
//!
//! Invariants:
//! - Nothing above `okta` looks at an HTTP status or an Okta error code; [`FailureKind`] says all that decisions need.
//! - The status decides first, the code refines it (facts 7.1, 15).
//! - Only a 404 with the code of a missing object is [`FailureKind::NotFound`]; a front-end's 404 never is (facts 15.3).
//! - No message holds a credential, a query value or any text of a body beyond error code and shortened summary.

use std::fmt;

use super::authorize::AuthorizeError;
use super::headers::AnswerHeaders;
use super::link::NextError;
use super::oauth::Outlook;
use super::org_url::shown;
use super::resource::USERS_BY_IDS_MAX;
use super::transport::{SendError, SetupError};
use super::wire::{BodyError, FailureBody};
use crate::core::backoff::Trouble;
use crate::core::ids::Timestamp;
use crate::core::rate::{Bucket, Health};

/// Whom a request was sent to: method and URL without its query, whose values may be personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Box<str>);

impl Endpoint {
    /// The endpoint of a URL.
    pub fn of(url: &url::Url) -> Self {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = url.host_str().unwrap_or_default();
        Self(format!("GET {}://{host}{port}{}", url.scheme(), url.path()).into())
    }

    /// `GET https://acme.okta.com/api/v1/users`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A call that failed, named by the phase.
#[derive(Debug, thiserror::Error)]
pub enum OktaError {
    /// The client cannot be built.
    #[error("set up the client for Okta: {0}")]
    Setup(#[from] SetupError),
    /// No credential could be put on the request.
    #[error("authorize {endpoint}: {source}")]
    Authorize {
        /// Whom it was for.
        endpoint: Endpoint,
        /// Why not.
        source: AuthorizeError,
    },
    /// No answer came, or not all of it.
    #[error("{endpoint}: {source}")]
    Send {
        /// Whom it was sent to.
        endpoint: Endpoint,
        /// What happened.
        source: SendError,
    },
    /// An answer other than success.
    #[error("{0}")]
    Status(Box<StatusFailure>),
    /// A success whose body is no answer.
    #[error("{endpoint}: {source}{}", request_id_suffix(.request_id.as_deref()))]
    Body {
        /// Whom it was sent to.
        endpoint: Endpoint,
        /// `X-Okta-Request-Id`.
        request_id: Option<Box<str>>,
        /// What is wrong with it.
        source: BodyError,
    },
    /// The walk cannot be followed.
    #[error("{endpoint}: {source}")]
    Next {
        /// The list.
        endpoint: Endpoint,
        /// What is wrong with the link.
        source: NextError,
    },
    /// The place in a walk or in the log that was to be resumed is none of this org and list: the org's address was changed,
    /// or the store is another's. Nothing was sent.
    #[error("{endpoint}: the place to go on from is of no use: {source}")]
    Place {
        /// The list.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: NextError,
    },
    /// Users by id: none, or too many to ask for in one request. Nothing was sent.
    #[error("ask for users by id: {count} ids, it must be 1 to {USERS_BY_IDS_MAX}")]
    IdCount {
        /// How many.
        count: usize,
    },
    /// A call waited for as long as its own repetitions could have lasted, and was then sent in vain once more: nothing of its
    /// rate-limit bucket is answered.
    #[error(
        "{source}; all requests of the rate-limit bucket {} have failed since {} ({failures} in a row), the next is due at {}",
        .bucket.name(), .since.to_iso(), .next_at.to_iso()
    )]
    Outage {
        /// The last failure.
        source: Box<OktaError>,
        /// The bucket.
        bucket: Bucket,
        /// Since when, by the local clock.
        since: Timestamp,
        /// When it is asked next, by the local clock.
        next_at: Timestamp,
        /// Requests that have failed in a row.
        failures: u32,
    },
    /// A following page was too much work for Okta again and again; its size is inside the opaque URL.
    #[error("{source}; the walk has to begin again with pages of {limit}")]
    RestartWalk {
        /// Page size to begin with.
        limit: u32,
        /// The last failure.
        source: Box<OktaError>,
    },
}

fn request_id_suffix(request_id: Option<&str>) -> String {
    request_id.map(|id| format!(" (request id {id})")).unwrap_or_default()
}

/// What a failure means to those who decide what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Something of Okta's that passes and lasted longer than the retries: try again later.
    Retry,
    /// 429 again and again: not before `until`, by the local clock.
    Throttled {
        /// When the last refusal said to come back.
        until: Timestamp,
    },
    /// The credential may not read this. Never "empty": what is stored of it must survive.
    Forbidden {
        /// Okta's error code; `None` with an empty body.
        code: Option<Box<str>>,
        /// The OAuth scope that is missing, where Okta names it.
        missing_scope: Option<Box<str>>,
        /// Path that was refused.
        endpoint: Endpoint,
    },
    /// The object does not exist, or this credential does not see it (facts 7.2).
    NotFound,
    /// A 404 of a front-end and not of the object: says nothing about the object (facts 15.3).
    NotFoundPage,
    /// The credential is dead.
    Unauthorized,
    /// A following page was refused, or its URL belongs to another org: begin the walk again (facts 0.1, 15.2).
    CursorGone,
    /// Begin the walk again with smaller pages.
    RestartWalk {
        /// Page size to begin with.
        limit: u32,
    },
    /// The org does not have this endpoint or feature, or search is down: use another way (facts 7.1).
    Unavailable,
    /// Okta does not take the request: a mistake of ours or of the configuration.
    Rejected {
        /// Okta's error code.
        code: Option<Box<str>>,
    },
    /// An answer that makes no sense: report it.
    Malformed,
    /// No answer: a matter of names, routes, certificates or time.
    Network(NetworkCause),
}

/// What keeps answers away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkCause {
    /// The host name does not resolve.
    Dns,
    /// No connection.
    Connect,
    /// No trusted connection.
    Tls,
    /// A time limit passed.
    Timeout,
    /// The connection broke.
    Reset,
}

impl OktaError {
    /// The one classification.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Setup(_) | Self::IdCount { .. } => FailureKind::Rejected { code: None },
            Self::Place { .. } => FailureKind::CursorGone,
            Self::Authorize { source: AuthorizeError::Token(error), .. } => match error.outlook() {
                Outlook::Passing => FailureKind::Retry,
                Outlook::Until { until, .. } => FailureKind::Throttled { until },
                Outlook::Unreachable { cause, .. } => FailureKind::Network(cause),
                Outlook::Nonsense => FailureKind::Malformed,
                Outlook::Dead => FailureKind::Unauthorized,
            },
            Self::Send { source, .. } => match source.network_cause() {
                Some(cause) => FailureKind::Network(cause),
                None => FailureKind::Malformed,
            },
            Self::Status(failure) => failure.kind(),
            Self::Body { .. } | Self::Next { .. } => FailureKind::Malformed,
            Self::Outage { source, .. } => source.kind(),
            Self::RestartWalk { limit, .. } => FailureKind::RestartWalk { limit: *limit },
        }
    }

    /// What the failure means for another attempt of the same call.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::Setup(_)
            | Self::Next { .. }
            | Self::Place { .. }
            | Self::IdCount { .. }
            | Self::Outage { .. }
            | Self::RestartWalk { .. } => Trouble::Final,
            Self::Authorize { source: AuthorizeError::Token(error), .. } => match error.outlook() {
                Outlook::Until { .. } => Trouble::Throttled,
                Outlook::Passing | Outlook::Nonsense | Outlook::Unreachable { passing: true, .. } => Trouble::Transient,
                Outlook::Unreachable { passing: false, .. } | Outlook::Dead => Trouble::Final,
            },
            Self::Send { source, .. } => source.trouble(),
            Self::Status(failure) => failure.trouble(),
            Self::Body { source, .. } => match source {
                BodyError::Empty | BodyError::Truncated | BodyError::NotJson => Trouble::Transient,
                BodyError::TooManyItems => Trouble::TooLarge,
                // A web page with status 200 is a wrong address far more often than a passing fault: say so at once.
                BodyError::Html | BodyError::NotArray { .. } | BodyError::Unusable { .. } | BodyError::OtherObject => {
                    Trouble::Final
                }
            },
        }
    }

    /// How long there will be no credential, in milliseconds, where that is known.
    pub(super) fn credential_wait_millis(&self) -> Option<u64> {
        let Self::Authorize { source: AuthorizeError::Token(error), .. } = self else { return None };
        match error.outlook() {
            Outlook::Until { wait_millis, .. } => Some(wait_millis),
            _ => None,
        }
    }

    /// `X-Okta-Request-Id` of the answer, for Okta's support and the System Log.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Status(failure) => failure.request_id.as_deref(),
            Self::Body { request_id, .. } => request_id.as_deref(),
            Self::RestartWalk { source, .. } | Self::Outage { source, .. } => source.request_id(),
            Self::Setup(_)
            | Self::Authorize { .. }
            | Self::Send { .. }
            | Self::Next { .. }
            | Self::Place { .. }
            | Self::IdCount { .. } => None,
        }
    }
}

/// That a refusal is about the proof of possession, and how it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofRefusal {
    /// By its name, in the body or in `WWW-Authenticate`.
    Named,
    /// A bare 401 with a `DPoP-Nonce`: it may be about the token as well.
    Implied,
}

impl ProofRefusal {
    fn of(status: u16, code: Option<&str>, challenge: Option<&str>, headers: &AnswerHeaders) -> Option<Self> {
        let is_named = |name: Option<&str>| name.is_some_and(|name| CODES_PROOF_REFUSED.contains(&name));
        if matches!(status, 400 | 401) && (is_named(code) || is_named(challenge)) {
            return Some(Self::Named);
        }
        let is_bare = status == 401 && code.is_none() && challenge.is_none();
        (is_bare && headers.first("dpop-nonce").is_some()).then_some(Self::Implied)
    }
}

/// An answer other than success, read as far as it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFailure {
    /// Whom it was sent to.
    pub endpoint: Endpoint,
    /// HTTP status.
    pub status: u16,
    /// Code and summary.
    pub body: FailureBody,
    /// `scope` of a `WWW-Authenticate` that says `insufficient_scope` (facts 7.1).
    pub missing_scope: Option<Box<str>>,
    /// Whether it is about the proof of possession.
    pub proof: Option<ProofRefusal>,
    /// Host that a redirect leads to; it was not followed.
    pub redirect_host: Option<Box<str>>,
    /// `X-Okta-Request-Id`.
    pub request_id: Option<Box<str>>,
    /// The request was for a following page, so its cursor may be stale.
    pub on_next_page: bool,
    /// Of a 429: when to come back, by the local clock.
    pub throttled_until: Option<Timestamp>,
}

/// A proof of possession was stale or used before, or wants a nonce: the next attempt has a new one (facts 7.1, 10.3).
const CODES_PROOF_REFUSED: [&str; 2] = ["invalid_dpop_proof", "use_dpop_nonce"];
const CODE_OBJECT_NOT_FOUND: &str = "E0000007";
const CODES_PATH_UNKNOWN: [&str; 2] = ["E0000008", "E0000026"];
const CODE_FEATURE_DISABLED: &str = "E0000015";
const CODE_SEARCH_UNAVAILABLE: &str = "E0000100";

impl StatusFailure {
    /// Reads an answer with a status other than 200. `body` may be anything.
    pub fn new(endpoint: Endpoint, status: u16, headers: &AnswerHeaders, body: &[u8], on_next_page: bool) -> Self {
        let challenge = headers.all("www-authenticate");
        let challenge_error = challenge_value(challenge.clone(), "error");
        let insufficient = challenge_error.as_deref() == Some("insufficient_scope");
        let location = headers.first("location").filter(|_| (300..400).contains(&status));
        let redirect = location.and_then(|location| url::Url::parse(location).ok());
        let body = FailureBody::read(headers.first("content-type"), body);
        Self {
            endpoint,
            status,
            proof: ProofRefusal::of(status, body.code.as_deref(), challenge_error.as_deref(), headers),
            body,
            missing_scope: challenge_value(challenge, "scope").filter(|_| insufficient),
            redirect_host: redirect.and_then(|url| url.host_str().map(|host| shown(host).into())),
            request_id: headers.request_id(),
            on_next_page,
            throttled_until: None,
        }
    }

    fn code(&self) -> Option<&str> {
        self.body.code.as_deref()
    }

    fn kind(&self) -> FailureKind {
        match (self.status, self.code()) {
            _ if self.proof == Some(ProofRefusal::Named) => FailureKind::Retry,
            (400, _) if self.on_next_page => FailureKind::CursorGone,
            (401, Some(CODE_FEATURE_DISABLED)) => FailureKind::Unavailable,
            (401, _) => FailureKind::Unauthorized,
            // 405 was seen for missing permission (facts 7.1).
            (403 | 405, _) => FailureKind::Forbidden {
                code: self.body.code.clone(),
                missing_scope: self.missing_scope.clone(),
                endpoint: self.endpoint.clone(),
            },
            (404, Some(CODE_OBJECT_NOT_FOUND)) => FailureKind::NotFound,
            (404, Some(code)) if CODES_PATH_UNKNOWN.contains(&code) => FailureKind::Unavailable,
            (404, _) => FailureKind::NotFoundPage,
            (429, _) => match self.throttled_until {
                Some(until) => FailureKind::Throttled { until },
                None => FailureKind::Retry,
            },
            (501, _) | (503, Some(CODE_SEARCH_UNAVAILABLE)) => FailureKind::Unavailable,
            // 423: "try later" (facts 15.11).
            (408 | 423 | 500..=599, _) => FailureKind::Retry,
            (400..=499, _) => FailureKind::Rejected { code: self.body.code.clone() },
            _ => FailureKind::Malformed,
        }
    }

    fn trouble(&self) -> Trouble {
        match (self.status, self.kind()) {
            _ if self.proof.is_some() => Trouble::Proof,
            (429, _) => Trouble::Throttled,
            (_, FailureKind::Unauthorized) => Trouble::Unauthorized,
            (500 | 502, FailureKind::Retry) => Trouble::ServerError,
            (504, FailureKind::Retry) => Trouble::TooMuchWork,
            (_, FailureKind::Retry) => Trouble::Transient,
            _ => Trouble::Final,
        }
    }

    /// What it says of the bucket that was asked: a refusal of one resource is an answer.
    pub(super) fn health(&self) -> Health {
        match self.trouble() {
            Trouble::Throttled => Health::Unknown,
            Trouble::ServerError | Trouble::TooMuchWork => Health::Failing,
            Trouble::Transient if self.status == 408 || self.status >= 500 => Health::Failing,
            _ => Health::Well,
        }
    }

    /// What a person can do about it.
    fn advice(&self) -> Option<String> {
        let advice = match self.kind() {
            FailureKind::Unauthorized => {
                "the credential is wrong, expired or revoked: an API token dies with its owner, and after 30 days without \
                 use; the tokens of a service app die when the app is deactivated or its key revoked"
            }
            FailureKind::Forbidden { .. } => match &self.missing_scope {
                Some(scope) => return Some(format!("grant the OAuth scope {scope} to the service app")),
                None if self.body.is_html => {
                    "a proxy or firewall refused, not Okta: check the way out and the network zones"
                }
                None => "the admin role or the scopes of the credential do not cover this",
            },
            FailureKind::NotFoundPage => {
                "this is not Okta's answer about an object: check that the address is an Okta org"
            }
            FailureKind::CursorGone => "the place in the list is gone, the walk begins again",
            FailureKind::Throttled { .. } => "the rate limit is spent, also by others who use it",
            FailureKind::Unavailable => "this org does not offer it now",
            FailureKind::Retry if self.proof.is_some() => {
                "Okta refuses the proof of possession: check the clock of this machine, or switch \"Require Demonstrating \
                 Proof of Possession (DPoP)\" off for the app"
            }
            FailureKind::Retry if self.body.is_html => "a gateway answered instead of Okta, try again later",
            FailureKind::Retry => "try again later",
            FailureKind::Malformed if (300..400).contains(&self.status) => {
                return Some(match &self.redirect_host {
                    Some(host) => {
                        format!("it leads to {host}, where the credential was not sent: check the org's address")
                    }
                    None => "a redirect is not followed: check the org's address".to_owned(),
                });
            }
            _ => return None,
        };
        Some(advice.to_owned())
    }
}

impl fmt::Display for StatusFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: status {}", self.endpoint, self.status)?;
        if let Some(code) = self.code() {
            write!(f, " {code}")?;
        }
        if let Some(summary) = &self.body.summary {
            write!(f, " \"{summary}\"")?;
        }
        if let Some(advice) = self.advice() {
            write!(f, "; {advice}")?;
        }
        f.write_str(&request_id_suffix(self.request_id.as_deref()))
    }
}

/// Longest value of a challenge that is believed, in bytes: a few scope names.
const CHALLENGE_VALUE_BYTES_MAX: usize = 256;

/// The value of a parameter of `WWW-Authenticate`: a comma-separated list with quoted values, possibly several schemes
/// and lines (facts 7.1).
fn challenge_value<'a>(lines: impl IntoIterator<Item = &'a str>, wanted: &str) -> Option<Box<str>> {
    for line in lines {
        let mut quoted = false;
        let parts = line.split(|c: char| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            // The first parameter stands behind the scheme: `Bearer error="…"`.
            let name = name.trim().rsplit(' ').next().unwrap_or_default();
            let value = value.trim().trim_matches('"');
            let believable =
                value.len() <= CHALLENGE_VALUE_BYTES_MAX && value.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
            if name.eq_ignore_ascii_case(wanted) && believable && !value.is_empty() {
                return Some(value.into());
            }
        }
    }
    None
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;

//! The typed read-only client for one Okta org. Start at [`Client`].
//!
//! ```text
//! Client ── Call ──▶ one retry layer ──▶ Limiter ──▶ Authorize ──▶ Transport (GET only) ──▶ wire (lenient decoding)
//!                                                     └─ oauth ──▶ Transport (the token request)
//! ```
//!
//! Invariants:
//! - Only `transport` speaks HTTP, and it has no way to send anything but a GET, and the POST of the token request.
//! - The credential goes to the org's own scheme, host and port and nowhere else; redirects are not followed.
//! - Failures are classified once, by [`OktaError::kind`]; nothing above looks at a status or an error code.
//! - No page is lost to a 429, no page is its own next page, no answer makes a decoder fail over one bad record.
//! - Logs and errors hold ids and paths, no query values, no names and no credential.

mod authorize;
mod body;
mod call;
mod client;
mod clock;
mod error;
mod headers;
mod limiter;
mod link;
mod oauth;
mod org_url;
mod owner;
mod resource;
mod transport;
#[cfg(test)]
mod wire_level_tests;

pub mod wire;

pub use authorize::{
    Authorize, AuthorizeError, AuthorizeHeader, AuthorizeRequest, BoxFuture, Challenge, HEADER_VALUE_BYTES_MAX,
    Renewal, Ssws, TokenError,
};
pub use call::NumberRequests;
pub use client::{Client, ClientConfig, LOG_PAGE_LIMIT, LogPage, LogRequest, OrgMetadata, Page, PageRequest, Read};
pub use error::{Endpoint, FailureKind, NetworkCause, OktaError, ProofRefusal, StatusFailure};
pub use headers::{AnswerHeaders, HEADERS_KEPT};
pub use limiter::{BucketState, LimiterConfig, Priority};
pub use link::{NextError, NextRule, NextUrl, next_link, next_target};
pub use oauth::{SCOPES_NEEDED, Said, ScopeGrant, ServiceApp, TokenRequestError};
pub use org_url::{OrgUrl, OrgUrlError, URL_BYTES_MAX};
pub use owner::{API_TOKENS_PATH, Holder, OWNER_PATH};
pub use resource::{CONTENT_TYPE_JSON, ObjectPath, Resource, USERS_BY_IDS_MAX};
pub use transport::{ProxyChoice, SendError, SetupError, TimeoutPhase, TransportLimits};
pub use wire::{LogEvent, LogTarget, UserAppSeen};

//! What only a running connector knows: progress, rate limits, the credential. The engine fills it, `GetStatus` shows it.
//!
//! Entry point: [`StatusSource`]. Plain data; nothing here comes from a request, and nothing identifies a credential.

use tokio::sync::watch;

use crate::core::ids::{Revision, Timestamp};
use crate::core::model::{Kind, Scope};

/// State of the engine of one org at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Host name of the org.
    pub domain: String,
    /// When this process began to serve the org.
    pub started_at: Option<Timestamp>,
    /// The crawl that is going on.
    pub crawl: Option<CrawlProgress>,
    /// When the next full crawl is due; `None`: none is planned.
    pub next_crawl_at: Option<Timestamp>,
    /// Requests sent to Okta since the process began.
    pub requests: u64,
    /// Until when the most restricted bucket waits, in seconds from now; 0 when nothing waits.
    pub waiting_seconds: u64,
    /// When the log was last polled successfully.
    pub log_polled_at: Option<Timestamp>,
    /// Time between polls of the log, in milliseconds; 0 when it is not polled.
    pub poll_interval_millis: u64,
    /// Okta's rate limits as last seen.
    pub buckets: Vec<BucketStatus>,
    /// How the connector authenticates.
    pub credential: CredentialKind,
    /// When the credential was last accepted in this process; the store knows of earlier ones.
    pub credential_used_at: Option<Timestamp>,
    /// The search index.
    pub index: IndexStatus,
    /// Following the System Log.
    pub follow: FollowStatus,
}

/// How following the System Log goes. Counts are since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowStatus {
    /// Whether the log is followed.
    pub state: FollowState,
    /// Reads that are owed: what events, or operators, want read again.
    pub pending_reads: u64,
    /// Collections that the deletion brake holds.
    pub held: u64,
    /// Events that the log has shown.
    pub events_seen: u64,
    /// Of those, events of types that this version does not know.
    pub unknown_events: u64,
    /// Requests that were sent to pay debts.
    pub reads_sent: u64,
    /// Polls of the log that were answered.
    pub polls: u64,
    /// When the last event was seen, by our clock.
    pub last_event_at: Option<Timestamp>,
    /// How often the position was lost.
    pub cursor_lost: u64,
}

/// Whether the log is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FollowState {
    /// There is no position yet.
    #[default]
    Unanchored,
    /// The last poll was answered.
    Following,
    /// The position was lost: a full crawl must make up for what was missed.
    Lost,
    /// There is a position, and the last polls failed.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Why; for people, without anything secret.
        detail: String,
    },
}

/// How far a crawl is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrawlProgress {
    /// One per kind of collection that has begun.
    pub kinds: Vec<KindProgress>,
}

/// How far a crawl is in the collections of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindProgress {
    /// Kind of the rows that the collections hold.
    pub kind: Kind,
    /// Collections that are done, successfully or not.
    pub lists_done: u64,
    /// Collections there are; `None` while apps or groups are still being listed.
    pub lists_known: Option<u64>,
    /// Rows read so far.
    pub rows: u64,
    /// Requests sent so far, where they are counted by kind; else 0.
    pub requests: u64,
}

/// One of Okta's rate-limit buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketStatus {
    /// Our name of it.
    pub name: String,
    /// Requests per window that this connector may send.
    pub limit: u32,
    /// Of those, requests left in the window.
    pub remaining: u32,
    /// When the window ends, by Okta's clock.
    pub reset_at: Option<Timestamp>,
    /// Until when we wait; `None`: we do not.
    pub throttled_until: Option<Timestamp>,
    /// Requests under way.
    pub in_flight: u32,
    /// Answers 429 since the process began.
    pub refused: u64,
    /// Since when all its requests have failed; `None`: they do not.
    pub failing_since: Option<Timestamp>,
    /// How often that has begun since the process began.
    pub outages: u64,
}

/// How the connector authenticates to Okta.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CredentialKind {
    /// API token (SSWS). Okta revokes it after 30 idle days (facts 10.1).
    #[default]
    ApiToken,
    /// OAuth 2.0 service app with a private key; does not lapse by being idle.
    OauthServiceApp,
}

/// The search index as its follower sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStatus {
    /// What it is doing.
    pub state: IndexState,
    /// Revision up to which it has followed the store.
    pub revision: Revision,
}

/// What the index is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexState {
    /// Following the store.
    #[default]
    Following,
    /// Being built anew.
    Rebuilding,
    /// Failed; being opened again.
    Failed,
}

/// Where the status comes from.
#[derive(Clone, Debug)]
pub enum StatusSource {
    /// A running engine.
    Engine(watch::Receiver<RuntimeStatus>),
    /// No engine: the store is read directly, and the status tells what the store knows, and the kind of credential that is
    /// configured.
    Direct(CredentialKind),
}

impl StatusSource {
    /// The status of this moment; `None` without an engine.
    pub fn now(&self) -> Option<RuntimeStatus> {
        match self {
            Self::Engine(receiver) => Some(receiver.borrow().clone()),
            Self::Direct(_) => None,
        }
    }

    /// How the connector authenticates.
    pub fn credential(&self) -> CredentialKind {
        match self {
            Self::Engine(receiver) => receiver.borrow().credential,
            Self::Direct(kind) => *kind,
        }
    }
}

/// A scope as the API shows it.
pub(super) fn scope_to_proto(scope: &Scope) -> okta_idmap_proto::v1::Scope {
    use okta_idmap_proto::v1::ScopeKind;
    let (kind, id) = match scope {
        Scope::Users => (ScopeKind::Users, ""),
        Scope::Groups => (ScopeKind::Groups, ""),
        Scope::Apps => (ScopeKind::Apps, ""),
        Scope::GroupMembers(group) => (ScopeKind::GroupMembers, group.as_str()),
        Scope::AppUsers(app) => (ScopeKind::AppUsers, app.as_str()),
        Scope::AppGroups(app) => (ScopeKind::AppGroups, app.as_str()),
        Scope::Log => (ScopeKind::Log, ""),
        // What is about one object stands in the collection of such objects; the evidence names it.
        Scope::User(_) => (ScopeKind::Users, ""),
        Scope::Group(_) => (ScopeKind::Groups, ""),
        Scope::App(_) => (ScopeKind::Apps, ""),
    };
    okta_idmap_proto::v1::Scope { kind: kind.into(), resource_id: id.to_owned(), resource_name: String::new() }
}

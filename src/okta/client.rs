//! The client of one org: pages of lists, single objects, the log, public metadata.
//!
//! Entry points: [`Client::page`], [`Client::read`], [`Client::log_page`], [`Client::org_metadata`].
//!
//! Invariants:
//! - A page is given out whole or not at all: rows, quarantine and the next link belong to one answer.
//! - Rows carry the number of the request that fetched them, taken when it was sent.
//! - A missing next link ends a list; a short or empty page does not (facts 0.1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use url::Url;

use super::authorize::Authorize;
use super::call::{Answered, Call, Caller, Exchange, Failed, NEVER, NumberRequests};
use super::clock::ClockAhead;
use super::error::{Endpoint, FailureKind, OktaError};
use super::limiter::{BucketState, Limiter, LimiterConfig, Priority};
use super::link::{NextError, NextRule, NextUrl, next_link};
use super::oauth::{ScopeGrant, ServiceApp, SignIn};
use super::org_url::OrgUrl;
use super::resource::{CONTENT_TYPE_JSON, ObjectPath, Resource, USERS_BY_IDS_MAX};
use super::transport::{ProxyChoice, Transport, TransportLimits};
use super::wire::{self, LogEvent, UserAppSeen};
use crate::core::backoff::PageSize;
use crate::core::ids::{AppId, GroupId, LogCursor, RequestNumber, Timestamp, UserId};
use crate::core::model::{App, AppGroup, AppUser, Group, GroupStats, Quarantined, Row, User};
use crate::core::rate::Bucket;

/// What a client needs to know.
#[derive(Clone)]
pub struct ClientConfig {
    /// The org.
    pub org: OrgUrl,
    /// Budgets.
    pub limiter: LimiterConfig,
    /// Time and size limits of an exchange.
    pub transport: TransportLimits,
    /// Which way requests take.
    pub proxy: ProxyChoice,
    /// Root certificates to trust besides the system's, for proxies that open TLS.
    pub root_certificates_pem: Option<Vec<u8>>,
    /// Gives requests their numbers.
    pub request_numbers: Arc<dyn NumberRequests>,
    /// The local clock.
    pub now: fn() -> Timestamp,
}

impl ClientConfig {
    /// With the defaults for everything else.
    #[expect(clippy::disallowed_methods, reason = "the default of a clock that is handed in")]
    pub fn new(org: OrgUrl, request_numbers: Arc<dyn NumberRequests>) -> Self {
        Self {
            org,
            limiter: LimiterConfig::default(),
            transport: TransportLimits::default(),
            proxy: ProxyChoice::default(),
            root_certificates_pem: None,
            request_numbers,
            now: || Timestamp::from_millis(chrono::Utc::now().timestamp_millis()),
        }
    }
}

/// A page to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageRequest {
    /// The beginning of a walk.
    First {
        /// The list.
        resource: Resource,
        /// Objects on a page, brought within [`Resource::limit_range`]. After [`FailureKind::RestartWalk`] the proposed one.
        limit: u32,
    },
    /// The continuation.
    Next {
        /// The list.
        resource: Resource,
        /// [`Page::next`] of the page before, verbatim.
        url: String,
    },
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Rows in Okta's order; of group members only the ids.
    pub rows: Vec<Row>,
    /// Counts that came with groups, where the answer has them.
    pub group_stats: Vec<(GroupId, GroupStats)>,
    /// What [`Resource::UserApps`] shows, in Okta's order; empty for every other list.
    pub user_apps: Vec<UserAppSeen>,
    /// Records that are no rows.
    pub quarantined: Vec<Quarantined>,
    /// Where the list goes on; `None` ends it.
    pub next: Option<NextUrl>,
    /// Number of the request that was answered.
    pub request_number_sent: RequestNumber,
    /// When the answer was there, by the local clock.
    pub received_at: Timestamp,
    /// `Date` of the answer, by Okta's clock.
    pub server_date: Option<Timestamp>,
    /// Records on the page, usable or not.
    pub items: usize,
    /// Page size asked for; smaller than requested after server errors.
    pub limit: u32,
}

/// The answer about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// The object; `None` when Okta says that there is none (404 E0000007), or that this credential does not see it.
    pub found: Option<T>,
    /// Number of the request that was answered.
    pub request_number_sent: RequestNumber,
    /// When the answer was there, by the local clock.
    pub received_at: Timestamp,
    /// `Date` of the answer, by Okta's clock.
    pub server_date: Option<Timestamp>,
}

impl<T> Read<T> {
    fn filter_map<U>(self, narrow: impl FnOnce(T) -> Option<U>) -> Read<U> {
        Read {
            found: self.found.and_then(narrow),
            request_number_sent: self.request_number_sent,
            received_at: self.received_at,
            server_date: self.server_date,
        }
    }
}

/// A page of the log to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRequest {
    /// A new polling cursor: no end, ascending (facts 8.1).
    Anchor {
        /// Begin with what was persisted from then on; not more than 90 days back.
        since: Timestamp,
        /// Filter expression (facts 9.7). It stays the same through the life of the cursor.
        filter: Option<String>,
    },
    /// The continuation, verbatim.
    Next(LogCursor),
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// Events in the order of persistence; `published` may go backwards.
    pub events: Vec<LogEvent>,
    /// Records that are no events.
    pub quarantined: Vec<Quarantined>,
    /// Where to go on: there always is one, on an empty page it may be the cursor asked for. `None` breaks Okta's promise,
    /// and the log has to be anchored again.
    pub next: Option<LogCursor>,
    /// Page size of the cursor, which keeps it for life. Smaller than [`LOG_PAGE_LIMIT`] when Okta failed on larger pages as
    /// the log was anchored: then a new anchor is worth its while once Okta is well again.
    pub limit: u32,
    /// Whether the page was full, so that more may be there at once; after a page that was not, pause (facts 8.1).
    pub is_full: bool,
    /// Number of the request that was answered.
    pub request_number_sent: RequestNumber,
    /// When the answer was there, by the local clock.
    pub received_at: Timestamp,
    /// `Date` of the answer, by Okta's clock.
    pub server_date: Option<Timestamp>,
    /// Records on the page, usable or not.
    pub items: usize,
}

/// Public metadata of an org, which binds stored state to it (facts 1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrgMetadata {
    /// Id of the org.
    pub id: Box<str>,
    /// `idx` or `v1`.
    pub pipeline: Option<Box<str>>,
    /// `Date` of the answer, by Okta's clock.
    pub server_date: Option<Timestamp>,
    /// When the answer was there, by the local clock.
    pub received_at: Timestamp,
}

const LOG_PATH: &str = "/api/v1/logs";
const ORG_METADATA_PATH: &str = "/.well-known/okta-organization";

/// Events on a page of the log: Okta's maximum (facts 8.1).
pub const LOG_PAGE_LIMIT: u32 = 1_000;

struct Inner {
    org: OrgUrl,
    caller: Caller,
}

/// The client of one org. Cheap to clone; the clones share budgets and connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("org", &self.0.org).finish_non_exhaustive()
    }
}

impl Client {
    /// Builds the client; sends nothing. Fails with [`OktaError::Setup`].
    pub fn new(config: ClientConfig, authorize: Arc<dyn Authorize>) -> Result<Self, OktaError> {
        let transport = transport(&config)?;
        Ok(Self::build(config, transport, authorize, Arc::default()))
    }

    /// Builds the client of a service app, which gets its tokens by itself; sends nothing. Fails with [`OktaError::Setup`].
    pub fn for_service_app(config: ClientConfig, app: ServiceApp) -> Result<Self, OktaError> {
        let (transport, clock) = (transport(&config)?, Arc::<ClockAhead>::default());
        let sign_in = SignIn::new(app, config.org.clone(), transport.clone(), Arc::clone(&clock), config.now);
        Ok(Self::build(config, transport, Arc::new(sign_in), clock))
    }

    fn build(
        config: ClientConfig,
        transport: Transport,
        authorize: Arc<dyn Authorize>,
        clock: Arc<ClockAhead>,
    ) -> Self {
        let caller = Caller {
            transport,
            limiter: Limiter::new(config.limiter, config.now),
            authorize,
            request_numbers: config.request_numbers,
            now: config.now,
            credential_last_used: AtomicI64::new(NEVER),
            clock,
            has_answered: AtomicBool::new(false),
            attempts: tokio::sync::RwLock::default(),
        };
        Self(Arc::new(Inner { org: config.org, caller }))
    }

    /// The org.
    pub fn org(&self) -> &OrgUrl {
        &self.0.org
    }

    /// One page of a list, with the retries inside. [`FailureKind::CursorGone`] and [`FailureKind::RestartWalk`] ask for
    /// the walk to begin again. [`Resource::UsersByIds`] with none or more than [`USERS_BY_IDS_MAX`] is refused unsent, as
    /// [`OktaError::IdCount`]: users who were not asked for must not look absent.
    pub async fn page(&self, request: &PageRequest, priority: Priority) -> Result<Page, OktaError> {
        let (PageRequest::First { resource, .. } | PageRequest::Next { resource, .. }) = request;
        if let Resource::UsersByIds(users) = resource
            && !(1..=USERS_BY_IDS_MAX).contains(&users.len())
        {
            return Err(OktaError::IdCount { count: users.len() });
        }
        let (path, range) = (resource.path(), resource.limit_range());
        let floor = *range.start();
        let next = match request {
            PageRequest::First { .. } => None,
            PageRequest::Next { url, .. } => Some(self.resume(url, &path)?),
        };
        let page = match (request, &next) {
            (PageRequest::First { limit, .. }, _) => {
                PageSize::First { limit: (*limit).clamp(floor, *range.end()), floor }
            }
            (_, next) => {
                let limit = next.as_ref().and_then(|(next, _)| next.limit()).unwrap_or(resource.limit_default());
                let limit = limit.min(*range.end());
                PageSize::Next { limit, floor }
            }
        };
        let url = |limit: u32| match &next {
            Some((_, url)) => url.clone(),
            None => self.0.org.join(&resource.first_page(limit)),
        };
        let call = Call {
            url: &url,
            page,
            bucket: resource.bucket(),
            priority,
            content_type: resource.content_type(),
            with_credential: true,
        };
        let to_decode = resource.clone();
        let answered = self.0.caller.call(&call, move |body| wire::decode_page(&to_decode, body)).await;
        let answered = answered.map_err(|failed| failed.error)?;
        let next = self.next_of(&answered, &path)?;
        if let Some(repeated) = next.as_ref().filter(|next| next.as_str() == answered.url.as_str()) {
            tracing::warn!(path, limit = repeated.limit(), "the next link of a list is the page itself");
            return Err(OktaError::Next { endpoint: Endpoint::of(&answered.url), source: NextError::Repeated });
        }
        Ok(Page {
            rows: answered.value.rows,
            group_stats: answered.value.group_stats,
            user_apps: answered.value.user_apps,
            quarantined: answered.value.quarantined,
            next,
            request_number_sent: answered.exchange.sent,
            received_at: answered.exchange.received_at,
            server_date: answered.exchange.server_date,
            items: answered.value.items,
            limit: answered.limit,
        })
    }

    /// One object by id, the authoritative read. Only Okta's own answer about the object makes it [`Read::found`]` == None`.
    pub async fn read(&self, path: &ObjectPath, priority: Priority) -> Result<Read<Row>, OktaError> {
        let joined = self.0.org.join(&path.path());
        let url = |_| joined.clone();
        let call = Call {
            url: &url,
            page: PageSize::None,
            bucket: Bucket::of_path(joined.path()),
            priority,
            content_type: CONTENT_TYPE_JSON,
            with_credential: true,
        };
        let to_decode = path.clone();
        let (found, exchange) = match self.0.caller.call(&call, move |body| wire::decode_object(&to_decode, body)).await
        {
            Ok(answered) => (Some(answered.value), answered.exchange),
            Err(failed) => match *failed {
                Failed { error, exchange: Some(exchange), .. } if error.kind() == FailureKind::NotFound => {
                    (None, exchange)
                }
                Failed { error, .. } => return Err(error),
            },
        };
        Ok(Read {
            found,
            request_number_sent: exchange.sent,
            received_at: exchange.received_at,
            server_date: exchange.server_date,
        })
    }

    /// A user by id.
    pub async fn get_user(&self, user: &UserId, priority: Priority) -> Result<Read<User>, OktaError> {
        let read = self.read(&ObjectPath::User(user.clone()), priority).await?;
        Ok(read.filter_map(|row| if let Row::User(row) = row { Some(row) } else { None }))
    }

    /// A group by id.
    pub async fn get_group(&self, group: &GroupId, priority: Priority) -> Result<Read<Group>, OktaError> {
        let read = self.read(&ObjectPath::Group(group.clone()), priority).await?;
        Ok(read.filter_map(|row| if let Row::Group(row) = row { Some(row) } else { None }))
    }

    /// An app by id.
    pub async fn get_app(&self, app: &AppId, priority: Priority) -> Result<Read<App>, OktaError> {
        let read = self.read(&ObjectPath::App(app.clone()), priority).await?;
        Ok(read.filter_map(|row| if let Row::App(row) = row { Some(row) } else { None }))
    }

    /// The assignment of a user to an app; none when the user is not assigned (facts 5.3).
    pub async fn get_app_user(
        &self,
        app: &AppId,
        user: &UserId,
        priority: Priority,
    ) -> Result<Read<AppUser>, OktaError> {
        let read = self.read(&ObjectPath::AppUser(app.clone(), user.clone()), priority).await?;
        Ok(read.filter_map(|row| if let Row::AppUser(row) = row { Some(row) } else { None }))
    }

    /// The assignment of a group to an app.
    pub async fn get_app_group(
        &self,
        app: &AppId,
        group: &GroupId,
        priority: Priority,
    ) -> Result<Read<AppGroup>, OktaError> {
        let read = self.read(&ObjectPath::AppGroup(app.clone(), group.clone()), priority).await?;
        Ok(read.filter_map(|row| if let Row::AppGroup(row) = row { Some(row) } else { None }))
    }

    /// One page of the log, with the retries inside. [`FailureKind::CursorGone`], any 400 to a cursor, asks for a new anchor
    /// and a full crawl (facts 8.1). [`FailureKind::Rejected`], any 400 to an anchor, is about its filter or its time:
    /// anchor again without the filter (facts 9.7). A cursor is sent as Okta wrote it, page size included, however often
    /// Okta fails on it.
    pub async fn log_page(&self, request: &LogRequest) -> Result<LogPage, OktaError> {
        let next = match request {
            LogRequest::Anchor { .. } => None,
            LogRequest::Next(cursor) => Some(self.resume(&cursor.0, LOG_PATH)?),
        };
        let page = match &next {
            None => PageSize::First { limit: LOG_PAGE_LIMIT, floor: 1 },
            // The cursor is the place in the log; it is not given up for a smaller page, so the size counts as fixed.
            Some(_) => PageSize::None,
        };
        let url = |limit: u32| match (&next, request) {
            (None, LogRequest::Anchor { since, filter }) => self.anchor_url(*since, filter.as_deref(), limit),
            (Some((_, url)), _) => url.clone(),
            (None, LogRequest::Next(_)) => self.0.org.join(LOG_PATH),
        };
        let call = Call {
            url: &url,
            page,
            bucket: Bucket::Logs,
            priority: Priority::Log,
            content_type: CONTENT_TYPE_JSON,
            with_credential: true,
        };
        let answered = match self.0.caller.call(&call, wire::decode_log).await {
            Ok(answered) => answered,
            Err(failed) => return Err(mark_next_page(failed.error, next.is_some())),
        };
        let limit_asked =
            next.as_ref().map_or(Some(answered.limit), |(next, _)| next.limit()).unwrap_or(LOG_PAGE_LIMIT);
        let next = self.next_of(&answered, LOG_PATH)?;
        Ok(LogPage {
            events: answered.value.events,
            quarantined: answered.value.quarantined,
            next: next.map(|next| LogCursor(next.into_string())),
            limit: limit_asked,
            is_full: answered.value.items >= usize::try_from(limit_asked).unwrap_or(usize::MAX),
            request_number_sent: answered.exchange.sent,
            received_at: answered.exchange.received_at,
            server_date: answered.exchange.server_date,
            items: answered.value.items,
        })
    }

    fn anchor_url(&self, since: Timestamp, filter: Option<&str>, limit: u32) -> Url {
        let mut url = self.0.org.join(LOG_PATH);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("since", &since.to_iso()).append_pair("limit", &limit.to_string());
            if let Some(filter) = filter {
                query.append_pair("filter", filter);
            }
        }
        // `query_pairs_mut` writes a blank as `+`, which only form decoders read; every decoder reads `%20`.
        let query = url.query().unwrap_or_default().replace('+', "%20");
        url.set_query(Some(&query));
        url
    }

    /// Public metadata of the org, read without the credential: tells a wrong address before a credential is sent there.
    pub async fn org_metadata(&self) -> Result<OrgMetadata, OktaError> {
        let (value, exchange) = self.document(ORG_METADATA_PATH, false, wire::decode_org_metadata).await?;
        let (id, pipeline) = value;
        Ok(OrgMetadata { id, pipeline, server_date: exchange.server_date, received_at: exchange.received_at })
    }

    /// A document that holds no rows. `path` may have a query.
    pub(super) async fn document<T: Send + 'static>(
        &self,
        path: &str,
        with_credential: bool,
        decode: fn(&[u8]) -> Result<T, wire::BodyError>,
    ) -> Result<(T, Exchange), OktaError> {
        let joined = self.0.org.join(path);
        let url = |_| joined.clone();
        let call = Call {
            url: &url,
            page: PageSize::None,
            bucket: Bucket::of_path(path),
            priority: Priority::ById,
            content_type: CONTENT_TYPE_JSON,
            with_credential,
        };
        let answered = self.0.caller.call(&call, decode).await.map_err(|failed| failed.error)?;
        Ok((answered.value, answered.exchange))
    }

    /// What is known of the budgets, for status: the buckets that were used.
    pub fn budgets(&self) -> Vec<BucketState> {
        self.0.caller.limiter.states()
    }

    /// When Okta last accepted the credential, by the local clock. An API token dies after 30 days without (facts 10.1).
    pub fn credential_last_used(&self) -> Option<Timestamp> {
        let millis = self.0.caller.credential_last_used.load(Ordering::Relaxed);
        (millis != NEVER).then(|| Timestamp::from_millis(millis))
    }

    /// The OAuth scopes of the newest token, and those that were asked for; `None` with an API token, and before the first
    /// token.
    pub fn scopes(&self) -> Option<ScopeGrant> {
        self.0.caller.authorize.scopes()
    }

    /// Why there is no token at the moment, in words; `None` with an API token, and where nothing has failed.
    pub fn credential_failure(&self) -> Option<String> {
        self.0.caller.authorize.failure().map(|error| error.to_string())
    }

    /// The OAuth scopes that the newest token has; empty with an API token, and before the first token.
    pub fn granted_scopes(&self) -> BTreeSet<String> {
        self.scopes().map(|scopes| scopes.granted).unwrap_or_default()
    }

    /// The OAuth scopes that were asked for and not given; empty with an API token, and before the first token.
    pub fn missing_scopes(&self) -> BTreeSet<String> {
        self.scopes().map(|scopes| scopes.missing()).unwrap_or_default()
    }

    /// By how much Okta's clock is ahead of ours, in milliseconds, negative when it is behind; `None` before the first
    /// answer with a `Date`. A lower bound, since `Date` has whole seconds and an answer takes time to come: the largest
    /// difference of the answers within a minute before the last one, so that the cut-off part of the second does not make
    /// it jump. With several answers a minute it is below the truth by less than a second and the way.
    pub fn clock_ahead_millis(&self) -> Option<i64> {
        self.0.caller.clock.millis()
    }

    /// The largest request number given out so far. A request that is sent after this call gets a larger one.
    pub fn newest_request_number(&self) -> RequestNumber {
        self.0.caller.request_numbers.newest()
    }

    /// Our share of the log's budget, as (requests, seconds) of a window; `None` until an answer has told (facts 6.1,
    /// 15.1). An idle poll is one request (facts 12.2).
    pub fn log_budget(&self) -> Option<(u64, u64)> {
        let budget = self.budgets().into_iter().find(|budget| budget.bucket == Bucket::Logs)?;
        Some((budget.limit?, budget.window_millis.div_ceil(1_000)))
    }

    /// Reads a URL that was stored. One that does not belong to this org or list is a lost place, as if Okta had refused it.
    fn resume(&self, raw: &str, path: &str) -> Result<(NextUrl, Url), OktaError> {
        self.adopt(raw, path).map_err(|error| match error {
            OktaError::Next { endpoint, source } => OktaError::Place { endpoint, source },
            other => other,
        })
    }

    fn adopt(&self, raw: &str, path: &str) -> Result<(NextUrl, Url), OktaError> {
        let refused = |source| OktaError::Next { endpoint: Endpoint::of(&self.0.org.join(path)), source };
        let next = NextUrl::adopt(raw, &self.0.org, path, NextRule::SameOrigin).map_err(refused)?;
        let url = Url::parse(next.as_str()).map_err(|_| refused(NextError::NotAbsolute))?;
        Ok((next, url))
    }

    fn next_of<T>(&self, answered: &Answered<T>, path: &str) -> Result<Option<NextUrl>, OktaError> {
        let refused = |source| OktaError::Next { endpoint: Endpoint::of(&self.0.org.join(path)), source };
        match next_link(answered.headers.all("link")).map_err(refused)? {
            Some(raw) => Ok(Some(self.adopt(raw, path)?.0)),
            None => Ok(None),
        }
    }
}

fn transport(config: &ClientConfig) -> Result<Transport, OktaError> {
    let certificates = config.root_certificates_pem.as_deref();
    Ok(Transport::new(config.transport, config.org.is_loopback(), &config.proxy, certificates)?)
}

/// A cursor of the log is a next URL although its page size counts as fixed: a 400 to it means that it is gone.
fn mark_next_page(error: OktaError, is_next: bool) -> OktaError {
    match error {
        OktaError::Status(mut failure) if is_next => {
            failure.on_next_page = true;
            OktaError::Status(failure)
        }
        other => other,
    }
}

//! The gRPC services over store and index: `idmap.v1`, health and reflection; health and metrics over HTTP.
//!
//! Entry points: [`serve`] and [`serve_http`] listen; [`Services`] hands out the services, whose methods the command line
//! also calls in its own process, without a socket.
//!
//! Invariants:
//! - Every answer says from which revision it is and which gaps could change it; absence is claimed only without gaps.
//! - Whatever a request holds, it is answered or refused with a typed failure ([`Failure`]), within bounded work.
//! - Over a socket nothing is called but through the gate (`gate`), which knows every rpc and the role that it needs.
//! - Logs of calls carry the rpc, the org, the outcome and the time: nothing of what was asked for.

mod accepting;
mod access_file;
mod acl;
mod admin;
mod apps;
mod ask;
mod changes;
mod connection;
mod control;
mod coverage;
mod demands;
mod door;
mod encoded;
mod errors;
mod explain;
mod facts;
#[cfg(test)]
mod filter_tests;
mod gaps;
mod gate;
mod http;
mod incoming;
mod listing;
mod lists;
mod lookup;
mod mapped;
mod membership;
mod metrics;
mod orgs;
mod overrides;
mod page;
mod parts;
mod passing;
mod patience;
mod requests;
mod resolution;
mod routes;
mod rows;
mod search;
mod server;
mod stats;
mod status;
mod subjects;
#[cfg(test)]
mod tests;
mod tls;
mod unary;
mod withhold;

use std::sync::Arc;

use futures_util::future::{BoxFuture, Either, Ready, ready};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub use self::access_file::FollowedAccess;
pub use self::admin::AdminService;
pub(crate) use self::changes::coverage_changes;
pub use self::changes::{ChangesService, ExportError, ExportPart, STREAMS_MAX, export};
pub use self::control::{
    Command, Control, QUEUE_COMMANDS_MAX, REPLY_MILLIS_MAX, ReadOutcome, Reindex, ReindexState, ReleaseRefusal,
    Released,
};
pub use self::coverage::CoverageService;
pub use self::encoded::Encoded;
pub use self::errors::Failure;
pub use self::gate::ClientLimits;
pub use self::http::serve_http;
pub use self::lookup::LookupService;
pub use self::orgs::{OrgView, Orgs, SearchHandle};
pub use self::search::{SearchService, app_key, group_key, mapping_key, user_key};
pub use self::server::{DRAIN_MILLIS_MAX, ServeError, ServerSettings, SettingsError, serve};
pub use self::stats::ServerStats;
pub use self::status::{
    BucketStatus, CrawlProgress, CredentialKind, FollowState, FollowStatus, IndexState, IndexStatus, KindProgress,
    RuntimeStatus, StatusSource,
};
pub use self::tls::{Tls, TlsError, TlsFile};

pub(crate) use self::acl::{expand_user_whole, resolve_acl};
pub(crate) use self::coverage::kind_to_proto;
pub(crate) use self::facts::Facts;
pub(crate) use self::gaps::{Gaps, Wide, many as gap_ids_of};
pub(crate) use self::overrides::override_row;
pub(crate) use self::resolution::{AccountQuery, Wanted, resolve_by_facts};
pub(crate) use self::rows::{Shower, timestamp};
pub(crate) use self::withhold::Withholds;

use self::ask::{Ask, Call};
use self::gate::Caller;
use self::patience::Patience;
use self::requests::Asked;
use crate::core::ids::Timestamp;

/// All services over some orgs. Each call has one: to clone it costs one reference count, whatever there is of orgs. Holds no
/// connection.
#[derive(Clone, Debug)]
pub struct Services(Arc<Shared>);

#[derive(Clone, Debug)]
struct Shared {
    orgs: Orgs,
    clock: fn() -> Timestamp,
    /// Places of streams.
    streams: Arc<Semaphore>,
    /// Places of calls that wait for what the next moment may bring.
    waiting: Arc<Semaphore>,
    /// Cancelled when the server drains: ends the streams, which would go on for ever.
    drain: CancellationToken,
}

impl Services {
    /// Services over `orgs`; `clock` tells the time of a question (quarantine, staleness).
    pub fn new(orgs: Orgs, clock: fn() -> Timestamp) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let waiting = Arc::new(Semaphore::new(patience::WAITING_MAX));
        Self(Arc::new(Shared { orgs, clock, streams, waiting, drain: CancellationToken::new() }))
    }

    /// With so many streams of changes at once.
    pub fn with_watches_max(self, watches_max: usize) -> Self {
        let streams = Arc::new(Semaphore::new(watches_max));
        Self(Arc::new(Shared { streams, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The orgs.
    pub fn orgs(&self) -> &Orgs {
        &self.0.orgs
    }

    /// The service `Lookup`.
    pub fn lookup(&self) -> LookupService {
        LookupService(self.clone())
    }

    /// The service `Search`.
    pub fn search(&self) -> SearchService {
        SearchService(self.clone())
    }

    /// The service `Coverage`.
    pub fn coverage(&self) -> CoverageService {
        CoverageService(self.clone())
    }

    fn clock(&self) -> fn() -> Timestamp {
        self.0.clock
    }

    fn streams(&self) -> &Arc<Semaphore> {
        &self.0.streams
    }

    fn waiting(&self) -> &Arc<Semaphore> {
        &self.0.waiting
    }

    fn now(&self) -> Timestamp {
        (self.0.clock)()
    }

    fn drain(&self) -> &CancellationToken {
        &self.0.drain
    }

    /// The service `Changes`.
    pub fn changes(&self) -> ChangesService {
        ChangesService(self.clone())
    }

    /// The service `Admin`.
    pub fn admin(&self) -> AdminService {
        AdminService(self.clone())
    }

    /// Answers by point reads, in the task of the call: nearly always at once.
    fn point<Q: Asked + Send + Sync + 'static, R: Send + 'static>(
        &self,
        rpc: &'static str,
        request: Request<Q>,
        answer: impl Fn(&Ask<'_>, &Q) -> Result<R, Failure> + Send + 'static,
    ) -> Pointed<R> {
        let log = CallLog::start(rpc, &request);
        let until = patience::until(request.metadata(), log.started);
        let request = request.into_inner();
        let mut call = match Call::begin(self, request.context()) {
            Ok(call) => call,
            Err(failure) => return Pointed::Left(ready(log.refuse(&failure))),
        };
        let mut answered = call.point_now(|ask| answer(ask, &request));
        if !answered.is_early {
            return Pointed::Left(ready(log.finish(&call, answered.answer)));
        }
        // What waits is apart: a future has room for all that it ever holds, and there is one for each call.
        let services = self.clone();
        Pointed::Right(Box::pin(async move {
            let mut patience = Patience::until(until);
            let answered = loop {
                if let Some(answered) = patience.take(&services, &mut call, answered).await {
                    break answered;
                }
                answered = call.point_now(|ask| answer(ask, &request));
            };
            log.finish(&call, answered)
        }))
    }

    /// Answers by reading many rows, on a blocking thread.
    async fn scan<Q: Asked + Send + Sync + 'static, R: Send + 'static>(
        &self,
        rpc: &'static str,
        request: Request<Q>,
        answer: impl Fn(&Ask<'_>, &Q) -> Result<R, Failure> + Clone + Send + 'static,
    ) -> Result<Response<R>, Status> {
        let log = CallLog::start(rpc, &request);
        let mut patience = Patience::until(patience::until(request.metadata(), log.started));
        let request = Arc::new(request.into_inner());
        let mut call = match Call::begin(self, request.context()) {
            Ok(call) => call,
            Err(failure) => return log.refuse(&failure),
        };
        let answered = loop {
            let (answer, request) = (answer.clone(), Arc::clone(&request));
            let answered = call.scan_now(move |ask| answer(ask, &request)).await;
            if let Some(answered) = patience.take(self, &mut call, answered).await {
                break answered;
            }
        };
        log.finish(&call, answered)
    }
}

/// What a call comes to.
type Answer<R> = Result<Response<R>, Status>;

/// What a call comes to, now or later.
type Pointed<R> = Either<Ready<Answer<R>>, BoxFuture<'static, Answer<R>>>;

/// The log lines of one call: one for whoever looks for what is slow, and one for the audit where that is on.
struct CallLog {
    rpc: &'static str,
    started: Instant,
    caller: Caller,
}

impl CallLog {
    fn start<Q>(rpc: &'static str, request: &Request<Q>) -> Self {
        Self { rpc, started: Instant::now(), caller: Caller::of(request) }
    }

    /// Who did what, where that is wanted. Not what was asked for: names are no matter of a log.
    fn audit(&self, org: &str, outcome: &str) {
        if self.caller.is_audited {
            let (caller, peer) = (self.caller.name(), self.caller.peer());
            tracing::info!(rpc = self.rpc, org, caller, peer, outcome, "look-up");
        }
    }

    /// The call's context was refused, or the rpc does not exist.
    fn refuse<R>(&self, failure: &Failure) -> Result<Response<R>, Status> {
        self.audit("", failure.name());
        tracing::debug!(rpc = self.rpc, outcome = failure.name(), micros = self.micros(), "call");
        Err(failure.status())
    }

    fn finish<R>(&self, call: &Call, answered: Result<R, Failure>) -> Result<Response<R>, Status> {
        let org = call.view().name();
        self.audit(org, answered.as_ref().map_or_else(Failure::name, |_| "OK"));
        match answered {
            Ok(response) => {
                tracing::debug!(rpc = self.rpc, org, outcome = "OK", micros = self.micros(), "call");
                Ok(Response::new(response))
            }
            Err(failure) => {
                let outcome = failure.name();
                if let Failure::Store(_) | Failure::Index(_) = failure {
                    // The cause stays here: it may name files.
                    let cause = std::error::Error::source(&failure).map(ToString::to_string).unwrap_or_default();
                    tracing::error!(rpc = self.rpc, org, outcome, cause, "call failed");
                } else {
                    tracing::debug!(rpc = self.rpc, org, outcome, micros = self.micros(), "call");
                }
                Err(failure.status())
            }
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

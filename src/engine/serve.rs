//! Everything until shutdown: crawls and follows every org, keeps the indexes, serves look-ups, obeys operators.
//!
//! Entry point: [`run`].
//!
//! Invariants:
//! - The first task that ends before the shutdown ends the process: nothing keeps answering from a store that nobody
//!   writes any more.
//! - What cannot go on (dead credential, unreachable org) is tried again later; look-ups go on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::gap_log::GapLog;
use super::index::Follower;
use super::machine::{self, CrawlOutcome, FollowView, Outside};
use super::orders::{Outage, attend, obey_override};
use super::progress::Progress;
use super::{EngineError, OrgRuntime, OrgSettings, clock};
use crate::core::coverage::ReadFailure;
use crate::core::ids::{Revision, Timestamp};
use crate::core::model::Kind;
use crate::core::pending::Target;
use crate::core::sync::{LogState, LogStatus};
use crate::core::token;
use crate::serve::{
    BucketStatus, Command, Control, CrawlProgress, CredentialKind, FollowState, FollowStatus, IndexState, IndexStatus,
    KindProgress, OrgView, Orgs, QUEUE_COMMANDS_MAX, ReadOutcome, Reindex, ReindexState, Released, RuntimeStatus,
    SearchHandle, ServerSettings, Services, StatusSource,
};
use crate::store::Writer;

/// First wait when nothing can be read; doubles.
const RETRY_WAIT_MIN: Duration = Duration::from_secs(1);

/// A dead credential is tried at least this often: a few requests an hour cost nothing, and a new one may have been granted.
const UNAUTHORIZED_WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// An unreachable org is tried at least this often: what it changed meanwhile is waiting.
const UNREACHABLE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How often an idle API token is warned of, in milliseconds.
const TOKEN_WARNING_MILLIS: i64 = 6 * 3600 * 1000;

/// How often the status is made anew.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// How long a failed index waits before it is opened again.
const INDEX_RETRY_WAIT: Duration = Duration::from_secs(10);

/// Runs until `shutdown`, or until something fails for good. `ready` is called once every store is open, before the first
/// answer.
///
/// # Errors
/// See [`EngineError`]: a store that cannot be opened or written, a server that cannot listen.
pub async fn run(
    orgs: Vec<(OrgSettings, watch::Sender<Progress>)>,
    listeners: impl Into<Listeners>,
    server: ServerSettings,
    ready: impl FnOnce(),
    shutdown: CancellationToken,
) -> Result<(), EngineError> {
    let mut tasks: JoinSet<Result<(), EngineError>> = JoinSet::new();
    let mut views = Vec::new();
    let mut opened = Vec::new();
    // A drop guard: whatever ends this function also ends the tasks' waiting.
    let stop = shutdown.child_token();
    for (settings, progress) in orgs {
        opened.push((OrgRuntime::open(settings)?, progress));
    }
    // Only now: a store that is in use, damaged or newer must not be announced as served.
    ready();
    for ((org, writer), progress) in opened {
        let org = Arc::new(org);
        let search = SearchHandle::new(None);
        let (status, status_receiver) = watch::channel(RuntimeStatus::default());
        let policy = Arc::clone(&org.settings().policy);
        let (control, commands) = Control::channel();
        let reindex = control.reindex().clone();
        let view = OrgView::new(
            org.name(),
            org.reader().clone(),
            search.clone(),
            policy,
            StatusSource::Engine(status_receiver),
        )?;
        views.push(view.with_control(control).with_coverage_policy(org.settings().coverage));
        let (index, index_receiver) = watch::channel(IndexStatus::default());
        let (follow, follow_receiver) = watch::channel(FollowView::default());
        tasks.spawn(report(
            Arc::clone(&org),
            Sources { progress: progress.subscribe(), index: index_receiver, follow: follow_receiver },
            status,
            stop.clone(),
        ));
        let (register_org, register_stop) = (Arc::clone(&org), stop.clone());
        tasks.spawn(async move {
            super::register::keep(&register_org, &register_stop).await;
            Ok(())
        });
        let (gap_log, log_stop) = (GapLog::new(org.name(), org.reader())?, stop.clone());
        tasks.spawn(async move { gap_log.follow(&log_stop).await });
        // The index ends after the last commit, so that it has it.
        let written = CancellationToken::new();
        let current = keep_current(Arc::clone(&org), writer, progress, follow, commands, stop.clone());
        let is_written = written.clone().drop_guard();
        tasks.spawn(async move {
            let ended = current.await;
            drop(is_written);
            ended
        });
        let (index_org, index_stop) = (Arc::clone(&org), written);
        let runtime = tokio::runtime::Handle::current();
        tasks.spawn_blocking(move || {
            let index = IndexKeeper { org: &index_org, search: &search, status: &index, reindex: &reindex };
            index.follow(&runtime, &index_stop)
        });
    }
    let Listeners { grpc: listener, http } = listeners.into();
    let orgs = Orgs::new(views);
    if let Some(http) = http {
        let (http_orgs, stats, http_stop) = (orgs.clone(), Arc::clone(&server.stats), stop.clone());
        tasks.spawn(async move {
            crate::serve::serve_http(http, http_orgs, stats, http_stop).await;
            Ok(())
        });
    }
    let address = address_of(&listener);
    let services = Services::new(orgs, clock::now);
    let server_stop = stop.clone();
    tasks.spawn(async move {
        crate::serve::serve(listener, services, server, server_stop)
            .await
            .map_err(|error| EngineError::Server { address, detail: error.to_string() })
    });
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.map_err(EngineError::from).and_then(|ended| ended);
        if !stop.is_cancelled() {
            tracing::info!("shutting down");
        }
        stop.cancel();
        if result.is_ok() {
            result = ended;
        }
    }
    result
}

/// Where to listen.
#[derive(Debug)]
pub struct Listeners {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For health and metrics; `None`: off.
    pub http: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(grpc: TcpListener) -> Self {
        Self { grpc, http: None }
    }
}

fn address_of(listener: &TcpListener) -> String {
    listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string())
}

/// Sleeps; `false` when the shutdown came first.
async fn sleep(duration: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(duration) => true,
    }
}

/// Crawls and follows one org until shutdown, and carries out orders about overrides meanwhile, whatever is going on: they need
/// nothing but the store.
async fn keep_current(
    org: Arc<OrgRuntime>,
    writer: Writer,
    progress: watch::Sender<Progress>,
    view: watch::Sender<FollowView>,
    commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
) -> Result<(), EngineError> {
    let (others, forwarded) = mpsc::channel(QUEUE_COMMANDS_MAX);
    let (ended, outage) = (CancellationToken::new(), Outage::default());
    let reading = async {
        let outcome = keep_reading((&org, &outage), &writer, progress, view, forwarded, stop).await;
        ended.cancel();
        outcome
    };
    let (outcome, ()) = tokio::join!(
        reading,
        attend(&writer, commands, others, (&outage, || org.client().credential_last_used()), &ended)
    );
    outcome
}

/// Crawls and follows one org until shutdown. What ends it for a while (a dead credential, an unreachable org) is tried
/// again, ever more rarely.
async fn keep_reading(
    (org, outage): (&OrgRuntime, &Outage),
    writer: &Writer,
    progress: watch::Sender<Progress>,
    view: watch::Sender<FollowView>,
    mut commands: mpsc::Receiver<Command>,
    stop: CancellationToken,
) -> Result<(), EngineError> {
    let mut wait = if org.settings().follow.enabled { Duration::ZERO } else { first_wait(org)? };
    let mut retry_wait = RETRY_WAIT_MIN;
    loop {
        if !wait.is_zero() {
            let next_crawl_at = Some(clock::now().plus_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
            view.send_modify(|view| (view.is_crawling, view.next_crawl_at) = (false, next_crawl_at));
            if !wait_or_obey((wait, outage), writer, &mut commands, &stop).await {
                return Ok(());
            }
        }
        let used_before = org.client().credential_last_used();
        let outcome = match org.settings().follow_limits() {
            Some(limits) => {
                let outside = Outside { commands: &mut commands, view: &view };
                machine::follow(org, writer, limits, &progress, outside, &stop).await?
            }
            None => {
                view.send_modify(|view| (view.is_crawling, view.next_crawl_at) = (true, None));
                machine::run(org, writer, &progress, &stop).await?
            }
        };
        progress.send_replace(Progress::default());
        let has_worked = org.client().credential_last_used() != used_before;
        if has_worked {
            retry_wait = RETRY_WAIT_MIN;
        }
        wait = match outcome {
            CrawlOutcome::Interrupted => return Ok(()),
            CrawlOutcome::Finished => {
                tracing::info!(org = %org.name(), requests = org.requests_sent(), "crawl finished");
                org.settings().crawl_interval
            }
            CrawlOutcome::Stopped(failure) => {
                let (detail, longest) = match &failure {
                    ReadFailure::Unauthorized { detail } => (detail.as_str(), UNAUTHORIZED_WAIT_MAX),
                    ReadFailure::Unreachable { detail } => (detail.as_str(), UNREACHABLE_WAIT_MAX),
                    _ => ("", UNREACHABLE_WAIT_MAX),
                };
                outage.begin(org.client().credential_last_used());
                let wait = retry_wait.min(longest);
                tracing::error!(org = %org.name(), detail, retry_in = ?wait, "nothing can be read");
                let since = clock::now();
                view.send_modify(|view| {
                    view.log.state = LogState::Failing;
                    view.log.failing_since.get_or_insert(since);
                    view.log.failure = Some(detail.to_owned());
                });
                retry_wait = (retry_wait * 2).min(longest);
                wait
            }
        };
    }
}

/// Waits; `false` when the shutdown came first. Operators are heard meanwhile.
async fn wait_or_obey(
    (wait, outage): (Duration, &Outage),
    writer: &Writer,
    commands: &mut mpsc::Receiver<Command>,
    stop: &CancellationToken,
) -> bool {
    let end = tokio::time::sleep(wait);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = stop.cancelled() => return false,
            () = &mut end => return true,
            () = outage.asked() => return true,
            Some(command) = commands.recv() => match command {
                Command::SetOverride { .. } | Command::DeleteOverride { .. } => obey_override(writer, command).await,
                command if !command.begin() => {}
                Command::ReleaseHold { scope, expected_missing, reply } => {
                    let released = writer.release_hold(scope, expected_missing, clock::now()).await;
                    reply.send(
                        released.map(|finished| Released { removed: finished.removed }).map_err(machine::refusal),
                    );
                }
                Command::Read { target, reply } => {
                    // A full crawl is what comes next anyway. Nothing else is read between two of them.
                    let is_next = target == Target::Everything;
                    reply.send(if is_next { ReadOutcome::Started } else { ReadOutcome::NotNow });
                    if is_next {
                        return true;
                    }
                }
            },
        }
    }
}

/// How long after a restart the first crawl begins: at once when one is unfinished or due.
fn first_wait(org: &OrgRuntime) -> Result<Duration, EngineError> {
    let meta = org.reader().read(|snapshot| snapshot.meta())?;
    if meta.is_widened {
        return Ok(Duration::ZERO);
    }
    let crawl = meta.crawl;
    let Some(completed_at) = crawl.completed_at.filter(|_| !crawl.running) else { return Ok(Duration::ZERO) };
    let interval = i64::try_from(org.settings().crawl_interval.as_millis()).unwrap_or(i64::MAX);
    let left = interval.saturating_sub(clock::now().millis_since(completed_at)).clamp(0, interval);
    Ok(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
}

/// The index thread of one org.
struct IndexKeeper<'a> {
    org: &'a OrgRuntime,
    search: &'a SearchHandle,
    status: &'a watch::Sender<IndexStatus>,
    reindex: &'a Reindex,
}

impl IndexKeeper<'_> {
    fn set(&self, state: IndexState, revision: Option<Revision>) {
        self.status.send_replace(IndexStatus { state, revision: revision.unwrap_or_default() });
    }

    /// Goes on until `stop`: after its last commit. An index that fails is opened again; a store that fails ends the process.
    fn follow(&self, runtime: &tokio::runtime::Handle, stop: &CancellationToken) -> Result<(), EngineError> {
        while !stop.is_cancelled() {
            self.set(IndexState::Rebuilding, None);
            match self.follow_until_it_fails(runtime, stop) {
                Ok(()) => return Ok(()),
                // The index that there is may be as good as before.
                Err(EngineError::Index(error))
                    if self.reindex.state() == ReindexState::Rebuilding && !error.is_damage() =>
                {
                    tracing::error!(org = %self.org.name(), %error, "the search index could not be made anew; the one before is kept");
                    self.reindex.given_up();
                }
                Err(EngineError::Index(error)) => {
                    tracing::error!(org = %self.org.name(), %error, "the search index failed; it is opened again");
                    self.search.set(None);
                    self.set(IndexState::Failed, None);
                    runtime.block_on(sleep(INDEX_RETRY_WAIT, stop));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<Follower, EngineError> {
        let (settings, reader) = (self.org.settings(), self.org.reader());
        // What was asked for could not be made beside the index that there is.
        match self.reindex.state() {
            ReindexState::Rebuilding => Follower::open_anew(settings, reader),
            _ => Follower::open(settings, reader),
        }
    }

    fn follow_until_it_fails(
        &self,
        runtime: &tokio::runtime::Handle,
        stop: &CancellationToken,
    ) -> Result<(), EngineError> {
        let go_on = || !stop.is_cancelled();
        let mut revisions = self.org.reader().revisions();
        let mut follower = self.open()?;
        loop {
            self.search.set(follower.searcher());
            if follower.mark().is_some() {
                self.reindex.done();
                self.set(IndexState::Following, follower.mark());
            } else {
                self.set(IndexState::Rebuilding, None);
            }
            revisions.borrow_and_update();
            if follower.is_stained()? {
                self.reindex.lost();
                self.search.set(None);
                drop(follower);
                follower = self.open()?;
            }
            // Searches go on in the index as it was.
            if self.reindex.begin() && follower.mark().is_some() {
                tracing::info!(org = %self.org.name(), "the search index is made anew, as somebody asked for");
                self.set(IndexState::Rebuilding, follower.mark());
                if !follower.rebuild(&go_on)? {
                    return Ok(());
                }
            }
            follower.catch_up(&go_on)?;
            if self.search.get().is_none() {
                self.search.set(follower.searcher());
            }
            if follower.mark().is_some() {
                self.reindex.done();
            }
            self.set(IndexState::Following, follower.mark());
            let goes_on = runtime.block_on(async {
                tokio::select! {
                    () = stop.cancelled() => false,
                    () = self.reindex.asked(), if follower.mark().is_some() => true,
                    // The end of a crawl is no new revision, but a reason to make the first index: hence the time limit.
                    _ = tokio::time::timeout(STATUS_INTERVAL, revisions.changed()) => {
                        sleep(self.org.settings().index_interval, stop).await
                    }
                }
            });
            if !goes_on {
                return follower.finish();
            }
        }
    }
}

/// Says so while there is time: a token that nobody uses lapses (facts 10.1). Returns whether there was anything to say.
fn warn_of_idle_token(org: &OrgRuntime, last_used: Timestamp, now: Timestamp) -> bool {
    let Some(warning) = token::warning(last_used, now) else { return false };
    let lapses_at = token::lapses_at(last_used);
    let org = org.name();
    match warning {
        token::Warning::Idle => {
            tracing::warn!(%org, %last_used, %lapses_at, "the API token is not being used; Okta revokes it after 30 idle days");
        }
        token::Warning::LastCall => {
            tracing::error!(%org, %last_used, %lapses_at, "the API token lapses within a week unless Okta can be read again");
        }
        token::Warning::Lapsed => {
            tracing::error!(%org, %last_used, "the API token was idle for 30 days: Okta has revoked it, create a new one");
        }
    }
    true
}

fn poll_interval_millis(org: &OrgRuntime, log: &LogStatus) -> u64 {
    let Some(limits) = org.settings().follow_limits() else { return 0 };
    u64::try_from(limits.poll_millis.max(log.poll_millis)).unwrap_or_default()
}

fn follow_status(log: LogStatus) -> FollowStatus {
    let state = match log.state {
        LogState::Off | LogState::Unanchored => FollowState::Unanchored,
        LogState::Following => FollowState::Following,
        LogState::Lost => FollowState::Lost,
        LogState::Failing => FollowState::Failing {
            since: log.failing_since.unwrap_or_default(),
            detail: log.failure.unwrap_or_default(),
        },
    };
    FollowStatus {
        state,
        pending_reads: log.debts as u64,
        held: log.held as u64,
        events_seen: log.events,
        unknown_events: log.unknown_events,
        reads_sent: log.reads,
        polls: log.polls,
        last_event_at: log.last_event_at,
        cursor_lost: log.lost,
    }
}

struct Sources {
    progress: watch::Receiver<Progress>,
    index: watch::Receiver<IndexStatus>,
    follow: watch::Receiver<FollowView>,
}

/// Keeps the status current.
async fn report(
    org: Arc<OrgRuntime>,
    sources: Sources,
    status: watch::Sender<RuntimeStatus>,
    stop: CancellationToken,
) -> Result<(), EngineError> {
    let started_at = clock::now();
    let stored_use = org.reader().read(|snapshot| snapshot.meta())?.credential_used_at;
    let mut warned_at: Option<Timestamp> = None;
    loop {
        status.send_replace(status_of(&org, &sources, started_at));
        let now = clock::now();
        // Only API tokens lapse by not being used.
        let lapses = super::org::credential_kind(&org.settings().credential) == CredentialKind::ApiToken;
        let is_time = lapses && warned_at.is_none_or(|at| now.millis_since(at) >= TOKEN_WARNING_MILLIS);
        if is_time && let Some(last_used) = org.client().credential_last_used().or(stored_use) {
            warned_at = warn_of_idle_token(&org, last_used, now).then_some(now);
        }
        if !sleep(STATUS_INTERVAL, &stop).await {
            return Ok(());
        }
    }
}

fn status_of(org: &OrgRuntime, sources: &Sources, started_at: Timestamp) -> RuntimeStatus {
    let progress = sources.progress.borrow().clone();
    let follow = sources.follow.borrow().clone();
    let is_growing = |kind: Kind| {
        let parent = match kind {
            Kind::GroupMember => Kind::Group,
            Kind::AppUser | Kind::AppGroup => Kind::App,
            Kind::User | Kind::Group | Kind::App => return false,
        };
        progress.kinds.get(&parent).is_none_or(|parent| parent.done < parent.known)
    };
    let kinds = progress.kinds.iter().filter(|(_, counts)| counts.known > 0).map(|(kind, counts)| KindProgress {
        kind: *kind,
        lists_done: counts.done,
        lists_known: (!is_growing(*kind)).then_some(counts.known),
        rows: counts.rows,
        requests: 0,
    });
    let small = |value: Option<u64>| u32::try_from(value.unwrap_or_default()).unwrap_or(u32::MAX);
    let buckets = org.client().budgets().into_iter().map(|bucket| BucketStatus {
        name: bucket.bucket.name().to_owned(),
        limit: small(bucket.limit),
        remaining: small(bucket.remaining),
        reset_at: bucket.resets_at,
        throttled_until: bucket.waits_until,
        in_flight: bucket.in_flight,
        refused: bucket.refused,
        failing_since: bucket.failing_since,
        outages: bucket.outages,
    });
    RuntimeStatus {
        domain: org.settings().url.host().to_owned(),
        started_at: Some(started_at),
        crawl: follow.is_crawling.then(|| CrawlProgress { kinds: kinds.collect() }),
        next_crawl_at: follow.next_crawl_at.filter(|_| !follow.is_crawling),
        requests: org.requests_sent(),
        waiting_seconds: progress.waiting_seconds,
        log_polled_at: follow.log.polled_at,
        poll_interval_millis: poll_interval_millis(org, &follow.log),
        buckets: buckets.collect(),
        credential: super::org::credential_kind(&org.settings().credential),
        credential_used_at: org.client().credential_last_used(),
        index: *sources.index.borrow(),
        follow: follow_status(follow.log),
    }
}

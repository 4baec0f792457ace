//! Everything until shutdown: crawls every org again and again, keeps the indexes, serves look-ups.
//!
//! Entry point: [`run`].
//!
//! Invariants:
//! - The first task that ends before the shutdown ends the process: nothing keeps answering from a store that nobody
//!   writes any more.
//! - A crawl that cannot go on (dead credential, unreachable org) is tried again later; look-ups go on meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::crawl::{self, CrawlOutcome};
use super::index::Follower;
use super::progress::Progress;
use super::{EngineError, OrgRuntime, OrgSettings, clock};
use crate::core::coverage::ReadFailure;
use crate::core::ids::{Revision, Timestamp};
use crate::core::model::Kind;
use crate::serve::{
    BucketStatus, CrawlProgress, CredentialKind, IndexState, IndexStatus, KindProgress, OrgView, Orgs, RuntimeStatus,
    SearchHandle, ServerSettings, Services, StatusSource,
};
use crate::store::Writer;

/// First wait after a crawl that could not go on; doubles up to [`RETRY_WAIT_MAX`].
const RETRY_WAIT_MIN: Duration = Duration::from_secs(15);

/// A dead credential or an unreachable org is asked again at least this often: a few requests an hour cost nothing, and
/// a repaired org is read again without a restart.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(15 * 60);

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
    listener: TcpListener,
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
        views.push(OrgView::new(
            org.name(),
            org.reader().clone(),
            search.clone(),
            policy,
            StatusSource::Engine(status_receiver),
        )?);
        let (index, index_receiver) = watch::channel(IndexStatus::default());
        let (next_crawl, next_crawl_receiver) = watch::channel(None);
        tasks.spawn(report(
            Arc::clone(&org),
            Sources { progress: progress.subscribe(), index: index_receiver, next_crawl: next_crawl_receiver },
            status,
            stop.clone(),
        ));
        tasks.spawn(crawl_again_and_again(Arc::clone(&org), writer, progress, next_crawl, stop.clone()));
        let (index_org, index_stop) = (Arc::clone(&org), stop.clone());
        let runtime = tokio::runtime::Handle::current();
        tasks.spawn_blocking(move || follow_index(&runtime, &index_org, &search, &index, &index_stop));
    }
    let address = listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let services = Services::new(Orgs::new(views), clock::now);
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

/// Sleeps; `false` when the shutdown came first.
async fn sleep(duration: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(duration) => true,
    }
}

async fn crawl_again_and_again(
    org: Arc<OrgRuntime>,
    writer: Writer,
    progress: watch::Sender<Progress>,
    next_crawl: watch::Sender<Option<Timestamp>>,
    stop: CancellationToken,
) -> Result<(), EngineError> {
    let mut wait = first_wait(&org)?;
    let mut retry_wait = RETRY_WAIT_MIN;
    loop {
        next_crawl.send_replace(Some(clock::now().plus_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))));
        if !sleep(wait, &stop).await {
            return Ok(());
        }
        next_crawl.send_replace(None);
        let outcome = crawl::run(&org, &writer, &progress, &stop).await?;
        progress.send_replace(Progress::default());
        wait = match outcome {
            CrawlOutcome::Interrupted => return Ok(()),
            CrawlOutcome::Finished => {
                tracing::info!(org = %org.name(), requests = org.requests_sent(), "crawl finished");
                retry_wait = RETRY_WAIT_MIN;
                org.settings().crawl_interval
            }
            CrawlOutcome::Stopped(failure) => {
                let detail = match &failure {
                    ReadFailure::Unauthorized { detail } | ReadFailure::Unreachable { detail } => detail.as_str(),
                    _ => "",
                };
                tracing::error!(org = %org.name(), detail, retry_in = ?retry_wait, "the crawl cannot go on");
                let wait = retry_wait;
                retry_wait = (retry_wait * 2).min(RETRY_WAIT_MAX);
                wait
            }
        };
    }
}

/// How long after a restart the first crawl begins: at once when one is unfinished or due.
fn first_wait(org: &OrgRuntime) -> Result<Duration, EngineError> {
    let crawl = org.reader().read(|snapshot| snapshot.meta())?.crawl;
    let Some(completed_at) = crawl.completed_at.filter(|_| !crawl.running) else { return Ok(Duration::ZERO) };
    let interval = i64::try_from(org.settings().crawl_interval.as_millis()).unwrap_or(i64::MAX);
    let left = interval.saturating_sub(clock::now().millis_since(completed_at)).clamp(0, interval);
    Ok(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
}

/// The index thread of one org. An index that fails is opened again; a store that fails ends the process.
fn follow_index(
    runtime: &tokio::runtime::Handle,
    org: &OrgRuntime,
    search: &SearchHandle,
    status: &watch::Sender<IndexStatus>,
    stop: &CancellationToken,
) -> Result<(), EngineError> {
    let set = |state: IndexState, revision: Option<Revision>| {
        status.send_replace(IndexStatus { state, revision: revision.unwrap_or_default() });
    };
    while !stop.is_cancelled() {
        set(IndexState::Rebuilding, None);
        match follow_until_it_fails(runtime, org, search, &set, stop) {
            Ok(()) => return Ok(()),
            Err(EngineError::Index(error)) => {
                tracing::error!(org = %org.name(), %error, "the search index failed; it is opened again");
                search.set(None);
                set(IndexState::Failed, None);
                runtime.block_on(sleep(INDEX_RETRY_WAIT, stop));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn follow_until_it_fails(
    runtime: &tokio::runtime::Handle,
    org: &OrgRuntime,
    search: &SearchHandle,
    set: &dyn Fn(IndexState, Option<Revision>),
    stop: &CancellationToken,
) -> Result<(), EngineError> {
    let mut revisions = org.reader().revisions();
    let mut follower = Follower::open(org.settings(), org.reader())?;
    loop {
        search.set(follower.searcher());
        let state = if follower.mark().is_some() { IndexState::Following } else { IndexState::Rebuilding };
        set(state, follower.mark());
        revisions.borrow_and_update();
        follower.catch_up()?;
        if search.get().is_none() {
            search.set(follower.searcher());
        }
        set(IndexState::Following, follower.mark());
        let goes_on = runtime.block_on(async {
            tokio::select! {
                () = stop.cancelled() => false,
                // The end of a crawl is no new revision, but a reason to make the first index: hence the time limit.
                _ = tokio::time::timeout(STATUS_INTERVAL, revisions.changed()) => {
                    sleep(org.settings().index_interval, stop).await
                }
            }
        });
        if !goes_on {
            return Ok(());
        }
    }
}

struct Sources {
    progress: watch::Receiver<Progress>,
    index: watch::Receiver<IndexStatus>,
    next_crawl: watch::Receiver<Option<Timestamp>>,
}

/// Keeps the status current.
async fn report(
    org: Arc<OrgRuntime>,
    sources: Sources,
    status: watch::Sender<RuntimeStatus>,
    stop: CancellationToken,
) -> Result<(), EngineError> {
    let started_at = clock::now();
    loop {
        status.send_replace(status_of(&org, &sources, started_at));
        if !sleep(STATUS_INTERVAL, &stop).await {
            return Ok(());
        }
    }
}

fn status_of(org: &OrgRuntime, sources: &Sources, started_at: Timestamp) -> RuntimeStatus {
    let progress = sources.progress.borrow().clone();
    let next_crawl_at = *sources.next_crawl.borrow();
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
        throttled_until: bucket.resets_at.filter(|_| bucket.waiting > 0),
        in_flight: bucket.in_flight,
        refused: 0,
    });
    RuntimeStatus {
        domain: org.settings().url.host().to_owned(),
        started_at: Some(started_at),
        crawl: next_crawl_at.is_none().then(|| CrawlProgress { kinds: kinds.collect() }),
        next_crawl_at,
        requests: org.requests_sent(),
        waiting_seconds: progress.waiting_seconds,
        log_polled_at: None,
        poll_interval_millis: 0,
        buckets: buckets.collect(),
        credential: CredentialKind::ApiToken,
        credential_used_at: org.client().credential_last_used(),
        index: *sources.index.borrow(),
    }
}

//! Runs the state machine: carries out its effects, hands it what happens.
//!
//! Entry points: [`run`] for one crawl, [`follow`] for everything until shutdown.
//!
//! Invariants:
//! - Effects are carried out in the order in which they were asked for; batches are queued in that order.
//! - When it stops, calls under way are dropped, and what was queued for the store is committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::calls::answer;
use super::progress::Progress;
use super::{EngineError, OrgRuntime, clock, failure};
use crate::core::batch::{Batch, Receipt, WalkState, WalkUpdate};
use crate::core::coverage::{Gap, GapKind, ReadFailure};
use crate::core::ids::{AppId, CrawlId, Timestamp, UserId};
use crate::core::model::{Kind, Scope};
use crate::core::pending::Target;
use crate::core::plan::Sizes;
use crate::core::rate::{Bucket, log_pause_millis};
use crate::core::sync::{
    Begin, Call, CallId, CrawlEnd, Effect, FollowLimits, Input, Known, KnownHold, LogStatus, Moment, RECENT_MILLIS,
    StoredCrawl, SyncState,
};
use crate::serve::{Command, ReadOutcome, ReleaseRefusal, Released};
use crate::store::{Ages, HeldScope, Meta, ReleaseError, StoreError, Writer};

/// An unfinished crawl older than this is not resumed: its list cursors and its picture of the org are too old.
const RESUME_AGE_MILLIS_MAX: i64 = 24 * 3600 * 1000;

/// How often the use of the credential is noted, in milliseconds: it lapses after weeks.
const CREDENTIAL_NOTE_MILLIS: i64 = 60_000;

/// How often it is looked what has grown too old, in milliseconds: that happens after hours or days.
const AGE_MILLIS: i64 = 30_000;

/// How often progress is told, in milliseconds.
const PROGRESS_MILLIS: i64 = 100;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrawlOutcome {
    /// The crawl came to its end; gaps may be open.
    Finished,
    /// It cannot go on now and will be resumed: the credential is dead or the org cannot be reached.
    Stopped(ReadFailure),
    /// It was interrupted by the shutdown and will be resumed.
    Interrupted,
}

/// What following looks like from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowView {
    /// The log and the debts.
    pub log: LogStatus,
    /// Whether a crawl is going on.
    pub is_crawling: bool,
    /// When the next crawl is due.
    pub next_crawl_at: Option<Timestamp>,
}

/// Runs one crawl to its end, resuming an unfinished one.
///
/// # Errors
/// Only what makes going on impossible: the store fails, or the org's id is not the one that the store holds.
pub async fn run(
    org: &OrgRuntime,
    writer: &Writer,
    progress: &watch::Sender<Progress>,
    shutdown: &CancellationToken,
) -> Result<CrawlOutcome, EngineError> {
    Shell { org, writer, progress, follow: None }.run(None, shutdown).await
}

/// Where a follower tells how it goes, and hears what is asked of it.
pub struct Outside<'a> {
    /// Commands of operators.
    pub commands: &'a mut mpsc::Receiver<Command>,
    /// How it goes.
    pub view: &'a watch::Sender<FollowView>,
}

/// Crawls and follows until shutdown, or until nothing can be read.
///
/// # Errors
/// See [`run`].
pub async fn follow(
    org: &OrgRuntime,
    writer: &Writer,
    limits: FollowLimits,
    progress: &watch::Sender<Progress>,
    outside: Outside<'_>,
    shutdown: &CancellationToken,
) -> Result<CrawlOutcome, EngineError> {
    Shell { org, writer, progress, follow: Some(limits) }.run(Some(outside), shutdown).await
}

/// Asks the org who it is, and refuses to mix two orgs in one store. An org that does not tell is no reason to stop.
async fn bind_org(org: &OrgRuntime, writer: &Writer) -> Result<Result<(), ReadFailure>, EngineError> {
    match org.client().org_metadata().await {
        Ok(metadata) => {
            writer.bind_org(metadata.id.into()).await?;
            Ok(Ok(()))
        }
        Err(error) => match failure::of(&error, false) {
            failure @ ReadFailure::Unreachable { .. } => Ok(Err(failure)),
            _ => {
                tracing::warn!(org = %org.name(), error = %error, "the org does not tell its id; going on without");
                Ok(Ok(()))
            }
        },
    }
}

struct Shell<'a> {
    org: &'a OrgRuntime,
    writer: &'a Writer,
    progress: &'a watch::Sender<Progress>,
    follow: Option<FollowLimits>,
}

impl Shell<'_> {
    async fn run(
        self,
        outside: Option<Outside<'_>>,
        shutdown: &CancellationToken,
    ) -> Result<CrawlOutcome, EngineError> {
        let bound = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(CrawlOutcome::Interrupted),
            bound = bind_org(self.org, self.writer) => bound?,
        };
        if let Err(failure) = bound {
            return Ok(CrawlOutcome::Stopped(failure));
        }
        let (begin, mut known) = self.boot()?;
        known.counted = self.org.take_counted();
        if let Some(outside) = &outside {
            known.status = outside.view.borrow().log.clone();
        }
        match &begin {
            Begin::Resume(stored) => tracing::info!(org = %self.org.name(), crawl = stored.id.0, "crawl is resumed"),
            Begin::New { .. } | Begin::Follow { .. } => {}
        }
        let limits = self.org.settings().limits.clone();
        let moment = moment(self.org);
        let (state, effects) = SyncState::start(begin, known, limits, self.follow.clone(), moment);
        let running = Running {
            org: self.org,
            writer: self.writer,
            progress: self.progress,
            state,
            calls: JoinSet::new(),
            receipts: FuturesOrdered::new(),
            requests_at_start: self.org.requests_sent(),
            progress_at: Timestamp::default(),
            credential_noted_at: None,
            age_noted_at: None,
        };
        running.run(effects, outside, shutdown).await
    }

    /// What the store knows: how to begin, and where following stands.
    fn boot(&self) -> Result<(Begin, Known), EngineError> {
        let fingerprint = self.org.settings().crawl_fingerprint();
        let chooses_groups = self.org.settings().limits.filter.groups.is_active();
        let (meta, stored, record, assigned, stored_groups) = self.org.reader().read(|snapshot| {
            let meta: Meta = snapshot.meta()?;
            let mut stored = StoredCrawl { id: meta.crawl.id, ..StoredCrawl::default() };
            if meta.crawl.running {
                stored.walks = snapshot.crawl_walks(meta.crawl.id)?;
                stored.unlisted = snapshot.unlisted(meta.crawl.id)?;
            }
            let stored_groups = if chooses_groups { snapshot.group_ids()? } else { Vec::new() };
            Ok((meta, stored, snapshot.follow()?, snapshot.assigned_groups()?, stored_groups))
        })?;
        let listed = record.listed.into_iter().filter_map(|(scope, at)| match scope {
            Scope::AppUsers(app) => Some((app, at)),
            _ => None,
        });
        // An empty list was held with the credential that its rows were read with, and so was one of which nothing has been said
        // yet: probes can tell (facts 7.2). Of a shrunken one with a gap that is not known any more.
        let known_hold = |(scope, missing, sample): HeldScope| {
            let has_gap = |kind| record.open_gaps.iter().any(|(other, of)| *other == scope && *of == kind);
            let (is_held, is_emptied) = (has_gap(GapKind::Held), has_gap(GapKind::EmptySuspect));
            let evidence = format!("the list no longer shows {missing} rows");
            let gap = Gap { scope: scope.clone(), kind: GapKind::Held, evidence };
            let sample = if is_held { Vec::new() } else { sample };
            KnownHold { scope, sample, gap: (!is_held && !is_emptied).then_some(gap) }
        };
        let held = record.held.clone().into_iter().map(known_hold).collect();
        let is_log = |walk: &WalkUpdate| walk.scope == Scope::Log && matches!(walk.state, WalkState::Finished { .. });
        let unauthorized = record.open_gaps.iter().filter(|(_, kind)| *kind == GapKind::Unauthorized);
        let known = Known {
            counted: None,
            cursor: record.cursor,
            observed_through: record.observed_through,
            opened_at: record.opened_at,
            read_since: meta.crawl.began.or(meta.crawl.started_at),
            deltas: record.deltas,
            pending: record.pending,
            apps: record.apps,
            everyone: record.everyone.into_iter().collect(),
            assigned_groups: assigned.into_iter().collect(),
            stored_groups: stored_groups.into_iter().collect(),
            listed: listed.collect(),
            held,
            unseen: record
                .open_gaps
                .iter()
                .filter(|(scope, kind)| *kind == GapKind::UnseenReference && scope.object().is_some())
                .map(|(scope, _)| scope.clone())
                .collect(),
            miscounted: record
                .open_gaps
                .iter()
                .filter(|(_, kind)| *kind == GapKind::CountMismatch)
                .map(|(scope, _)| scope.clone())
                .collect(),
            whole_since: meta.crawl.whole_since,
            status: LogStatus::default(),
            unauthorized: unauthorized.map(|(scope, _)| scope.clone()).collect::<BTreeSet<_>>(),
            log_gaps: record
                .open_gaps
                .iter()
                .filter(|(scope, _)| *scope == Scope::Log)
                .map(|(_, kind)| *kind)
                .collect(),
            is_log_new: stored.walks.iter().any(is_log),
        };
        let begin = self.begin(&meta, stored, fingerprint);
        let mut known = known;
        if matches!(begin, Begin::New { .. }) {
            // Perhaps with another credential; and every list is read anyway.
            known.held.iter_mut().for_each(|hold| (hold.sample, hold.gap) = (Vec::new(), None));
        }
        Ok((begin, known))
    }

    fn begin(&self, meta: &Meta, stored: StoredCrawl, fingerprint: String) -> Begin {
        let crawl = &meta.crawl;
        let age = |at: Timestamp| clock::now().millis_since(at);
        let is_fresh = crawl.started_at.is_some_and(|at| (0..RESUME_AGE_MILLIS_MAX).contains(&age(at)));
        let is_same = crawl.fingerprint == fingerprint;
        // What a crawl has read so far may hold too little of what a wider filter wants.
        if crawl.running && is_fresh && is_same && !meta.is_widened && !stored.walks.is_empty() {
            return Begin::Resume(stored);
        }
        let next = CrawlId(crawl.id.0 + 1);
        match (&self.follow, crawl.completed_at) {
            // Another credential, an interrupted crawl: everything is read again. What another filter wants is owed.
            (Some(follow), Some(completed_at)) if is_same && !crawl.running => {
                let due_at = completed_at.plus_millis(follow.crawl_millis);
                Begin::Follow { last: crawl.id, fingerprint, due_at }
            }
            _ => Begin::New { id: next, fingerprint },
        }
    }
}

type Receipts = FuturesOrdered<oneshot::Receiver<Result<Receipt, StoreError>>>;

struct Running<'a> {
    org: &'a OrgRuntime,
    writer: &'a Writer,
    progress: &'a watch::Sender<Progress>,
    state: SyncState,
    calls: JoinSet<Input>,
    receipts: Receipts,
    requests_at_start: u64,
    progress_at: Timestamp,
    credential_noted_at: Option<Timestamp>,
    age_noted_at: Option<Timestamp>,
}

fn moment(org: &OrgRuntime) -> Moment {
    let now = clock::now();
    let ahead_millis = org.client().clock_ahead_millis().unwrap_or_default();
    Moment { now, okta_now: now.plus_millis(ahead_millis), newest: org.client().newest_request_number() }
}

impl Running<'_> {
    async fn run(
        mut self,
        effects: Vec<Effect>,
        mut outside: Option<Outside<'_>>,
        shutdown: &CancellationToken,
    ) -> Result<CrawlOutcome, EngineError> {
        let mut todo: VecDeque<Effect> = effects.into();
        loop {
            while let Some(effect) = todo.pop_front() {
                if let Effect::End(end) = effect {
                    return self.end(end).await;
                }
                todo.extend(self.carry_out(effect).await?);
            }
            self.tell(outside.as_ref().map(|outside| outside.view)).await?;
            let wait = self.wait();
            // To wait for the shutdown alone would be for ever.
            if self.receipts.is_empty() && self.calls.is_empty() && wait.is_none() && outside.is_none() {
                return Err(stalled().into());
            }
            let input = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.interrupted().await,
                Some(receipt) = self.receipts.next() => Some(Input::Committed(receipt.map_err(|_| stopped())??)),
                Some(answer) = self.calls.join_next() => Some(answer?),
                Some(command) = command(&mut outside) => self.obey(command).await,
                () = sleep(wait), if wait.is_some() => Some(Input::Tick),
                // What grows old by itself is looked at also while nothing happens.
                () = sleep(Some(Duration::from_millis(AGE_MILLIS.unsigned_abs()))), if outside.is_some() => None,
            };
            if let Some(input) = input {
                todo.extend(self.step(input));
            }
        }
    }

    /// How long until the machine wants a step.
    fn wait(&self) -> Option<Duration> {
        let millis = self.state.wake_at()?.millis_since(clock::now());
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or_default()))
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<Vec<Effect>, EngineError> {
        let input = match effect {
            Effect::Call(id, call) => {
                self.call(id, call);
                None
            }
            Effect::Commit(batch) => {
                let receipt = self.writer.commit(batch).await?;
                self.receipts.push_back(receipt);
                None
            }
            Effect::LoadAssignedGroups => {
                let groups = self
                    .org
                    .reader()
                    .scan(|snapshot| Ok((snapshot.assigned_groups()?, snapshot.unassigned_groups_with_members()?)));
                let (assigned, unwanted) = groups.await?;
                Some(Input::AssignedGroups { assigned, unwanted })
            }
            Effect::Count { apps, users } => Some(Input::Counted(self.count(apps, users).await?)),
            Effect::CountUsers { created_by } => {
                let count = self.org.reader().scan(move |snapshot| {
                    let stored = snapshot.meta()?.rows.get(&Kind::User).copied().unwrap_or_default();
                    let filtered = snapshot.filtered_counts()?.get(&Kind::User).copied().unwrap_or_default();
                    let known = stored + filtered + snapshot.quarantined_of(&Scope::Users)?;
                    let later = snapshot.users_created_after(created_by)?;
                    let since = snapshot.users_created_after(created_by.plus_millis(-RECENT_MILLIS))?;
                    Ok((known.saturating_sub(later), since.saturating_sub(later)))
                });
                let (known, recent) = count.await?;
                Some(Input::UsersCounted { known, recent })
            }
            Effect::FindUnseen(limit) => {
                let found = self.org.reader().scan(move |snapshot| snapshot.unseen(limit));
                Some(Input::Unseen(found.await?))
            }
            Effect::LoadUserApps(id, user) => {
                let apps = self.org.reader().read(|snapshot| snapshot.app_users_of_user_ids(&user))?;
                Some(Input::UserApps(id, apps.into_iter().collect()))
            }
            Effect::CrawlBegins(id) => {
                tracing::info!(org = %self.org.name(), crawl = id.0, "crawl begins");
                self.requests_at_start = self.org.requests_sent();
                None
            }
            Effect::CrawlEnded(id) => {
                let requests = self.org.requests_sent().saturating_sub(self.requests_at_start);
                tracing::info!(org = %self.org.name(), crawl = id.0, requests, "crawl finished");
                self.progress.send_replace(Progress::default());
                None
            }
            // Handled by the caller.
            Effect::End(_) => None,
        };
        Ok(input.map(|input| self.step(input)).unwrap_or_default())
    }

    async fn count(&self, apps: Vec<(AppId, u64)>, users: Vec<(UserId, u64)>) -> Result<Sizes, EngineError> {
        let sizes = self.org.reader().scan(move |snapshot| {
            let mut sizes = Sizes { app_users: BTreeMap::new(), user_apps: BTreeMap::new() };
            for (app, cap) in apps {
                let rows = snapshot.count_app_users(&app, cap_of(cap))?;
                sizes.app_users.insert(app, rows);
            }
            for (user, cap) in users {
                let rows = snapshot.count_user_apps(&user, cap_of(cap))?;
                sizes.user_apps.insert(user, rows);
            }
            Ok(sizes)
        });
        Ok(sizes.await?)
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        match &input {
            // What a list or selection belongs to is gone: usual while an org changes.
            Input::Failed(_, failure @ ReadFailure::NotFound { .. }) => {
                tracing::debug!(org = %self.org.name(), failure = ?failure, "nothing there");
            }
            Input::Failed(_, failure) => {
                tracing::warn!(org = %self.org.name(), failure = ?failure, "a read failed");
            }
            Input::Log(..) => {
                let budgets = self.org.client().budgets();
                let log = budgets.iter().find(|bucket| bucket.bucket == Bucket::Logs);
                let pause = log.map_or(0, |bucket| log_pause_millis(bucket.limit, bucket.window_millis));
                self.state.slow_down(pause);
            }
            _ => {}
        }
        self.state.step(input, moment(self.org))
    }

    fn call(&mut self, id: CallId, call: Call) {
        let client = self.org.client().clone();
        let page_sizes = Arc::clone(&self.org.settings().page_sizes);
        self.calls.spawn(async move { answer(&client, &page_sizes, id, call).await });
    }

    /// What an operator asks for.
    async fn obey(&mut self, command: Command) -> Option<Input> {
        if !command.begin() {
            return None;
        }
        match command {
            Command::ReleaseHold { scope, expected_missing, reply } => {
                let released = self.writer.release_hold(scope.clone(), expected_missing, clock::now()).await;
                let (answer, input) = match released {
                    Ok(finished) => {
                        let released = Released { removed: finished.removed };
                        (Ok(released), Some(Input::Released(scope, finished.unlisted)))
                    }
                    Err(error) => (Err(refusal(error)), None),
                };
                reply.send(answer);
                input
            }
            Command::SetOverride { setting, reply } => {
                reply.send(self.writer.set_override(*setting, clock::now()).await);
                None
            }
            Command::DeleteOverride { name, reply } => {
                reply.send(self.writer.delete_override(name, clock::now()).await);
                None
            }
            Command::Read { target, reply } => {
                let is_running = target == Target::Everything && self.state.is_crawling();
                let outcome = if is_running { ReadOutcome::AlreadyRunning } else { ReadOutcome::Started };
                reply.send(outcome);
                (!is_running).then_some(Input::Asked(target))
            }
        }
    }

    /// Tells how it goes, and notes the use of the credential.
    async fn tell(&mut self, view: Option<&watch::Sender<FollowView>>) -> Result<(), EngineError> {
        let now = clock::now();
        // A clock that was put back must not silence any of this.
        if now.millis_since(self.progress_at).abs() >= PROGRESS_MILLIS {
            self.progress_at = now;
            if self.state.is_crawling() {
                self.progress.send_replace(self.progress());
            }
        }
        if let Some(view) = view {
            let current = FollowView {
                log: self.state.log_status(),
                is_crawling: self.state.is_crawling(),
                next_crawl_at: self.state.next_crawl_at(),
            };
            view.send_if_modified(|view| {
                let is_new = *view != current;
                *view = current;
                is_new
            });
        }
        if self.age_noted_at.is_none_or(|at| now.millis_since(at).abs() >= AGE_MILLIS) {
            self.note_ages(now).await?;
        }
        let is_noted = self.credential_noted_at.is_some_and(|at| now.millis_since(at).abs() < CREDENTIAL_NOTE_MILLIS);
        if !is_noted && let Some(at) = self.org.client().credential_last_used() {
            self.credential_noted_at = Some(now);
            self.writer.credential_used(at).await?;
        }
        Ok(())
    }

    /// Notes what has grown too old.
    async fn note_ages(&mut self, now: Timestamp) -> Result<(), EngineError> {
        self.age_noted_at = Some(now);
        let policy = self.org.settings().coverage;
        let ages = Ages { scope_millis: policy.stale_after_millis, log_millis: policy.log_stale_after_millis };
        Ok(self.writer.note_ages(now, ages).await?)
    }

    fn progress(&self) -> Progress {
        Progress {
            kinds: Kind::ALL.into_iter().map(|kind| (kind, self.state.counts(kind))).collect(),
            requests: self.org.requests_sent().saturating_sub(self.requests_at_start),
            waiting_seconds: super::calls::longest_wait_seconds(self.org.client()),
        }
    }

    async fn note_credential(&self) -> Result<(), EngineError> {
        if let Some(at) = self.org.client().credential_last_used() {
            self.writer.credential_used(at).await?;
        }
        Ok(())
    }

    async fn end(mut self, end: CrawlEnd) -> Result<CrawlOutcome, EngineError> {
        self.progress.send_replace(self.progress());
        self.note_credential().await?;
        Ok(match end {
            CrawlEnd::Finished => {
                // A crawl of hours ends with a log that was followed up to its begin, and nobody looks at that after it. It is not
                // answered; what comes behind it is.
                let now = clock::now();
                self.note_ages(now).await?;
                let behind = self.writer.commit(Box::new(Batch { now, ..Batch::default() })).await?;
                behind.await.map_err(|_| stopped())??;
                CrawlOutcome::Finished
            }
            CrawlEnd::Stopped(failure) => {
                self.org.keep_counted(self.state.into_counted());
                CrawlOutcome::Stopped(failure)
            }
        })
    }

    /// Answers under way are dropped; what was queued for the store is still committed.
    async fn interrupted(mut self) -> Result<CrawlOutcome, EngineError> {
        self.calls.shutdown().await;
        while let Some(receipt) = self.receipts.next().await {
            receipt.map_err(|_| stopped())??;
        }
        self.note_credential().await?;
        Ok(CrawlOutcome::Interrupted)
    }
}

/// Why a hold is not released, in the words of the API.
pub(super) fn refusal(error: ReleaseError) -> ReleaseRefusal {
    match error {
        ReleaseError::NotHeld => ReleaseRefusal::NotHeld,
        ReleaseError::Changed { missing } => ReleaseRefusal::Changed { missing },
        ReleaseError::Store(error) => ReleaseRefusal::Failed { detail: error.to_string() },
    }
}

/// No list that is worth planning for has more rows than this.
fn cap_of(cap: u64) -> u32 {
    u32::try_from(cap).unwrap_or(u32::MAX)
}

async fn command(outside: &mut Option<Outside<'_>>) -> Option<Command> {
    match outside {
        Some(outside) => match outside.commands.recv().await {
            Some(command) => Some(command),
            // Nobody can ask any more.
            None => std::future::pending().await,
        },
        None => None,
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

fn stopped() -> StoreError {
    StoreError::Stopped { detail: "it ended while a batch was waiting".to_owned() }
}

fn stalled() -> StoreError {
    StoreError::Stopped { detail: "the crawl waits for nothing and is not at its end".to_owned() }
}

//! One full crawl: carries out what [`crate::core::sync`] asks for.
//!
//! Entry point: [`run`].

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::stream::{FuturesOrdered, StreamExt as _};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::{EngineError, OrgRuntime, clock, failure};
use crate::core::batch::{Listing, Receipt};
use crate::core::coverage::ReadFailure;
use crate::core::ids::{AppId, CrawlId, Timestamp};
use crate::core::model::{Kind, Scope};
use crate::core::sync::{Begin, ByIdSeen, Call, CallId, CrawlEnd, Effect, Input, PageSeen, StoredCrawl, SyncState};
use crate::okta::{Client, LogRequest, NextUrl, PageRequest, Priority, Resource};
use crate::store::{Meta, StoreError, Writer};

/// How far back the log position is opened, in milliseconds, so that events which are persisted late are seen (facts 11).
const ANCHOR_BACK_MILLIS: i64 = 5 * 60 * 1000;

/// An unfinished crawl older than this is not resumed: its list cursors and its picture of the org are too old.
const RESUME_AGE_MILLIS_MAX: i64 = 24 * 3600 * 1000;

/// How a crawl ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrawlOutcome {
    /// It came to its end; gaps may be open.
    Finished,
    /// It cannot go on now and will be resumed: the credential is dead or the org cannot be reached.
    Stopped(ReadFailure),
    /// It was interrupted by the shutdown and will be resumed.
    Interrupted,
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
    let okta_ahead_millis = match bind_org(org, writer).await? {
        Ok(ahead_millis) => ahead_millis,
        Err(failure) => return Ok(CrawlOutcome::Stopped(failure)),
    };
    let begin = begin(org)?;
    match &begin {
        Begin::New { id, .. } => tracing::info!(org = %org.name(), crawl = id.0, "crawl begins"),
        Begin::Resume(stored) => tracing::info!(org = %org.name(), crawl = stored.id.0, "crawl is resumed"),
    }
    let (state, effects) = SyncState::start(begin, org.settings().limits.clone(), clock::now());
    let shell = Shell {
        org,
        writer,
        state,
        calls: JoinSet::new(),
        receipts: FuturesOrdered::new(),
        requests_at_start: org.requests_sent(),
        okta_ahead_millis,
    };
    shell.run(effects, progress, shutdown).await
}

/// Asks the org who it is, and refuses to mix two orgs in one store. An org that does not tell is no reason to stop. Answers
/// by how many milliseconds Okta's clock is ahead of ours, or the failure that makes it useless to go on.
async fn bind_org(org: &OrgRuntime, writer: &Writer) -> Result<Result<i64, ReadFailure>, EngineError> {
    match org.client().org_metadata().await {
        Ok(metadata) => {
            let ahead_millis = metadata.server_date.map(|date| date.millis_since(metadata.received_at));
            writer.bind_org(metadata.id.into()).await?;
            Ok(Ok(ahead_millis.unwrap_or_default()))
        }
        Err(error) => match failure::of(&error, false) {
            failure @ ReadFailure::Unreachable { .. } => Ok(Err(failure)),
            _ => {
                tracing::warn!(org = %org.name(), error = %error, "the org does not tell its id; going on without");
                Ok(Ok(0))
            }
        },
    }
}

fn begin(org: &OrgRuntime) -> Result<Begin, EngineError> {
    let fingerprint = org.settings().crawl_fingerprint();
    let (meta, stored) = org.reader().read(|snapshot| {
        let meta: Meta = snapshot.meta()?;
        let id = meta.crawl.id;
        let mut stored = StoredCrawl { id, ..StoredCrawl::default() };
        if meta.crawl.running {
            stored.walks = snapshot.crawl_walks(id)?;
            stored.unlisted_apps = snapshot.unlisted_apps(id)?;
        }
        Ok((meta, stored))
    })?;
    let is_fresh = meta
        .crawl
        .started_at
        .is_some_and(|started| (0..RESUME_AGE_MILLIS_MAX).contains(&clock::now().millis_since(started)));
    if meta.crawl.running && is_fresh && meta.crawl.fingerprint == fingerprint && !stored.walks.is_empty() {
        return Ok(Begin::Resume(stored));
    }
    Ok(Begin::New { id: CrawlId(meta.crawl.id.0 + 1), fingerprint })
}

type Receipts = FuturesOrdered<oneshot::Receiver<Result<Receipt, StoreError>>>;

struct Shell<'a> {
    org: &'a OrgRuntime,
    writer: &'a Writer,
    state: SyncState,
    calls: JoinSet<Input>,
    receipts: Receipts,
    requests_at_start: u64,
    /// By how much Okta's clock is ahead of ours; negative when it is behind.
    okta_ahead_millis: i64,
}

impl Shell<'_> {
    async fn run(
        mut self,
        effects: Vec<Effect>,
        progress: &watch::Sender<Progress>,
        shutdown: &CancellationToken,
    ) -> Result<CrawlOutcome, EngineError> {
        let mut todo: VecDeque<Effect> = effects.into();
        loop {
            while let Some(effect) = todo.pop_front() {
                match effect {
                    Effect::Call(id, call) => self.call(id, call),
                    Effect::Commit(batch) => {
                        let receipt = self.writer.commit(batch).await?;
                        self.receipts.push_back(receipt);
                    }
                    Effect::LoadAssignedGroups => {
                        let groups = self.org.reader().scan(|snapshot| {
                            Ok((snapshot.assigned_groups()?, snapshot.unassigned_groups_with_members()?))
                        });
                        let (assigned, unwanted) = groups.await?;
                        todo.extend(self.step(Input::AssignedGroups { assigned, unwanted }));
                    }
                    Effect::End(end) => return self.end(end).await,
                }
            }
            progress.send_replace(self.progress());
            let input = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.interrupted().await,
                Some(receipt) = self.receipts.next() => Input::Committed(receipt.map_err(|_| stopped())??),
                Some(answer) = self.calls.join_next() => answer?,
                else => return Err(stalled().into()),
            };
            todo.extend(self.step(input));
        }
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        if let Input::Failed(_, failure) = &input {
            tracing::warn!(org = %self.org.name(), failure = ?failure, "a read failed");
        }
        self.state.step(input, clock::now())
    }

    fn call(&mut self, id: CallId, call: Call) {
        let client = self.org.client().clone();
        let page_sizes = Arc::clone(&self.org.settings().page_sizes);
        // Okta's clock counts for the log: ours may be minutes off (facts 11, 13.7).
        let okta_now = clock::now().plus_millis(self.okta_ahead_millis);
        self.calls.spawn(async move { answer(&client, &page_sizes, id, call, okta_now).await });
    }

    fn progress(&self) -> Progress {
        Progress {
            kinds: Kind::ALL.into_iter().map(|kind| (kind, self.state.counts(kind))).collect(),
            requests: self.org.requests_sent().saturating_sub(self.requests_at_start),
            waiting_seconds: longest_wait_seconds(self.org.client()),
        }
    }

    async fn end(self, end: CrawlEnd) -> Result<CrawlOutcome, EngineError> {
        if let Some(at) = self.org.client().credential_last_used() {
            self.writer.credential_used(at).await?;
        }
        Ok(match end {
            CrawlEnd::Finished => CrawlOutcome::Finished,
            CrawlEnd::Stopped(failure) => CrawlOutcome::Stopped(failure),
        })
    }

    /// Pages under way are dropped; what was queued for the store is still committed.
    async fn interrupted(mut self) -> Result<CrawlOutcome, EngineError> {
        self.calls.shutdown().await;
        while let Some(receipt) = self.receipts.next().await {
            receipt.map_err(|_| stopped())??;
        }
        Ok(CrawlOutcome::Interrupted)
    }
}

fn stopped() -> StoreError {
    StoreError::Stopped { detail: "it ended while a batch was waiting".to_owned() }
}

fn stalled() -> StoreError {
    StoreError::Stopped { detail: "the crawl waits for nothing and is not at its end".to_owned() }
}

/// Page sizes by list; sizes outside of what Okta accepts were refused with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageSizes {
    /// Users.
    pub users: u32,
    /// Groups.
    pub groups: u32,
    /// Members of a group.
    pub group_members: u32,
    /// Apps.
    pub apps: u32,
    /// App users of an app.
    pub app_users: u32,
    /// App-group assignments of an app.
    pub app_groups: u32,
}

impl PageSizes {
    fn of(&self, resource: &Resource) -> u32 {
        match resource {
            Resource::Users | Resource::UsersPlain | Resource::UsersDeprovisioned => self.users,
            Resource::Groups => self.groups,
            Resource::GroupMembers(_) => self.group_members,
            Resource::Apps => self.apps,
            Resource::AppUsers(_) => self.app_users,
            Resource::AppGroups(_) => self.app_groups,
        }
    }
}

/// The list behind a scope; `None` for the log, which is no list.
fn resource(scope: &Scope, listing: Listing) -> Option<Resource> {
    Some(match (scope, listing) {
        (Scope::Users, Listing::Usual) => Resource::Users,
        (Scope::Users, Listing::PlainUsers) => Resource::UsersPlain,
        (Scope::Users, Listing::DeactivatedUsers) => Resource::UsersDeprovisioned,
        (Scope::Groups, _) => Resource::Groups,
        (Scope::Apps, _) => Resource::Apps,
        (Scope::GroupMembers(group), _) => Resource::GroupMembers(group.clone()),
        (Scope::AppUsers(app), _) => Resource::AppUsers(app.clone()),
        (Scope::AppGroups(app), _) => Resource::AppGroups(app.clone()),
        (Scope::Log, _) => return None,
    })
}

/// Makes one call; every way that it can end is an input.
async fn answer(client: &Client, page_sizes: &PageSizes, id: CallId, call: Call, okta_now: Timestamp) -> Input {
    let request = match call {
        Call::AnchorLog => return anchor(client, id, okta_now).await,
        Call::ReadApp(app) => return by_id(client, id, &app).await,
        Call::FirstPage { scope, listing, limit } => resource(&scope, listing).map(|resource| {
            let limit = limit.unwrap_or_else(|| page_sizes.of(&resource));
            PageRequest::First { resource, limit }
        }),
        Call::NextPage { scope, listing, next } => {
            resource(&scope, listing).map(|resource| PageRequest::Next { resource, url: next })
        }
    };
    let Some(request) = request else {
        return Input::Failed(id, ReadFailure::Failed { detail: "the log is no list".to_owned() });
    };
    let is_users = matches!(&request, PageRequest::First { resource: Resource::Users, .. });
    match client.page(&request, Priority::Crawl).await {
        Ok(page) => Input::Page(
            id,
            PageSeen {
                at: page.request_number_sent,
                rows: page.rows,
                group_stats: page.group_stats,
                quarantined: page.quarantined,
                next: page.next.map(NextUrl::into_string),
            },
        ),
        Err(error) => Input::Failed(id, failure::of(&error, is_users)),
    }
}

/// Opens the log a few minutes back, so that what is persisted late is seen by whoever follows from there (facts 11). The
/// page's events are not needed: everything is read after this moment.
async fn anchor(client: &Client, id: CallId, okta_now: Timestamp) -> Input {
    let since = okta_now.plus_millis(-ANCHOR_BACK_MILLIS);
    match client.log_page(&LogRequest::Anchor { since, filter: None }).await {
        Ok(page) => match page.next {
            Some(cursor) => Input::LogAnchored(id, cursor),
            None => {
                let detail =
                    "GET /api/v1/logs: the answer has no next link, which a polling read always has".to_owned();
                Input::Failed(id, ReadFailure::Failed { detail })
            }
        },
        Err(error) => Input::Failed(id, failure::of(&error, false)),
    }
}

async fn by_id(client: &Client, id: CallId, app: &AppId) -> Input {
    match client.get_app(app, Priority::ById).await {
        Ok(read) => {
            let at = read.request_number_sent;
            let seen = read.found.map_or(ByIdSeen::NotFound(at), |app| ByIdSeen::Found(Box::new(app), at));
            Input::ById(id, seen)
        }
        Err(error) => Input::Failed(id, failure::of(&error, false)),
    }
}

/// Seconds until the most restricted bucket that something waits for goes on.
fn longest_wait_seconds(client: &Client) -> u64 {
    let now = clock::now();
    let waits = client.budgets().into_iter().filter(|bucket| bucket.waiting > 0).filter_map(|bucket| bucket.resets_at);
    waits.map(|at| u64::try_from(at.millis_since(now) / 1000).unwrap_or_default()).max().unwrap_or_default()
}

//! The one writer of a store, on its own thread.
//!
//! Entry point: [`Writer::commit`]. Batches that are waiting are committed together (one fsync for all), each with its
//! own revision and receipt.
//!
//! | stored state | batch | outcome |
//! |---|---|---|
//! | crawl n running | walks of crawl n, `End { n }` | committed |
//! | no crawl running, or another | `End { n }` | [`StoreError::Mismatch`]; nothing of the batch is written |
//! | any | `Begin { n }`, n larger than any before | committed; walks of an unfinished crawl are forgotten |
//! | log position c | `Advance { expect: c, .. }` | committed; the position is the batch's next |
//! | none, or another log position | `Advance { .. }` | [`StoreError::Mismatch`]; nothing of the batch is written |
//! | any | `Anchor` | committed; the position is the batch's |
//! | after an error of SQLite | any | [`StoreError::Stopped`]: what is stored is whole, the process must start again |

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_utils::sync::ShardedLock;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::commit::{Done, Memory, Release, Released, age, commit, release};
use super::eras::Eras;
use super::files::StoreFiles;
use super::filtered::{Filtered, Sieve};
use super::gaps::Ages;
use super::meta::{self, Meta};
use super::overrides::{self, ConfiguredOverrides, Obeyed, Order, OverrideError};
use super::pool::Pool;
use super::purge;
use super::retention::Retention;
use super::walks::publish;
use super::{SharedCoverage, StoreConfig, StoreError, as_i64};
use crate::core::batch::{Batch, CrawlMark, Finished, Receipt};
use crate::core::coverage::{Coverage, GapKind, Unread};
use crate::core::ids::{RequestNumber, Revision, Timestamp};
use crate::core::model::Scope;
use crate::core::overrides::{OverrideName, OverrideRecord, OverrideSetting};

/// Batches that may wait for the writer. More only costs memory: the writer takes all that wait in one go.
const QUEUE_BATCHES_MAX: usize = 16;

/// Rows in one write transaction. Larger: readers wait longer for a revision. Smaller: the fsync dominates.
const TRANSACTION_ROWS_MAX: usize = 20_000;

enum Job {
    Commit(Box<Batch>, oneshot::Sender<Result<Receipt, StoreError>>),
    SetOrg(String, oneshot::Sender<Result<(), StoreError>>),
    Release(Release, oneshot::Sender<Result<Finished, ReleaseError>>),
    Override(Order, Timestamp, oneshot::Sender<Result<OverrideRecord, OverrideError>>),
    CredentialUsed(Timestamp),
    Age(Timestamp, Ages),
    /// Looks for what ends by itself.
    Look(Timestamp),
}

/// Why a hold was not released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The scope is not held (any more).
    #[error("it is not held")]
    NotHeld,
    /// Another number of rows is missing than the operator was shown.
    #[error("{missing} rows are missing now; look at them and confirm that number")]
    Changed {
        /// Rows that are missing now.
        missing: u64,
    },
    /// The store cannot do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Handle of the writer thread. Not `Clone`: there is one writer.
#[derive(Debug)]
pub struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    first_request_number: RequestNumber,
}

impl Writer {
    /// Starts the thread; returns the coverage as stored and the revision as it grows.
    pub(super) fn start(
        (connection, pool): (Connection, Arc<Pool>),
        files: StoreFiles,
        config: &StoreConfig,
        configured: Option<(Vec<OverrideSetting>, Timestamp)>,
    ) -> Result<(Started, SharedCoverage, watch::Receiver<Revision>), StoreError> {
        let first_request_number = meta::reserve_request_numbers(&connection, meta::REQUEST_NUMBER_BLOCK)?;
        // Before anything makes a revision.
        Eras::begin(&connection, Meta::read(&connection)?.revision)?;
        let mut connection = connection;
        let sieve = Sieve::new(config.filter.clone(), Filtered::open(&connection)?);
        let mut memory = Memory::new(config, &connection, sieve)?;
        let newest = RequestNumber(first_request_number.0.saturating_sub(1));
        let is_stained = purge::adopt(&mut connection, &mut memory, &config.filter, newest)?;
        let mut meta = Meta::read(&connection)?;
        let overrides = match configured {
            Some((settings, now)) => configure(&mut connection, &mut memory, &mut meta, settings, now)?,
            None => ConfiguredOverrides::default(),
        };
        let coverage = Arc::new(ShardedLock::new(read_coverage(&connection)?));
        let (revision_sender, revision) = watch::channel(meta.revision);
        let (jobs, receiver) = mpsc::channel(QUEUE_BATCHES_MAX);
        let retention = Retention::read(&connection, config.changes)?;
        let mut worker = Worker {
            connection,
            pool,
            meta,
            memory,
            is_stained,
            retention,
            coverage: Arc::clone(&coverage),
            revision: revision_sender,
            _files: files,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || worker.run(receiver))
            .map_err(|source| StoreError::Io { path: config.dir.clone(), source })?;
        let writer = Self { jobs: Some(jobs), thread: Some(thread), first_request_number };
        Ok((Started { writer, overrides }, coverage, revision))
    }

    /// Queues a batch; waits only while the queue is full. The receipt comes when the batch is durable; batches are
    /// committed in the order in which they were queued.
    pub async fn commit(
        &self,
        batch: Box<Batch>,
    ) -> Result<oneshot::Receiver<Result<Receipt, StoreError>>, StoreError> {
        let (sender, receipt) = oneshot::channel();
        self.send(Job::Commit(batch, sender)).await?;
        Ok(receipt)
    }

    /// Binds the store to Okta's id of the org.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when it is bound to another one.
    pub async fn bind_org(&self, org_id: String) -> Result<(), StoreError> {
        let (sender, done) = oneshot::channel();
        self.send(Job::SetOrg(org_id, sender)).await?;
        done.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Releases the hold of a scope by the operator's word: the rows that its last walk did not show, and that nothing has
    /// shown since, are gone after all. `expected_missing` is the number that the operator was shown
    /// ([`super::Snapshot::held`]), `now` the time that names and gaps are closed at. Apps are not removed but told in
    /// [`Finished::unlisted`], to be asked for by id. An object that is not shown ([`Scope::User`] and the like) goes with
    /// everything that hangs on it; `expected_missing` is 1 then.
    ///
    /// # Errors
    /// [`ReleaseError::NotHeld`] and [`ReleaseError::Changed`], which change nothing; [`ReleaseError::Store`].
    pub async fn release_hold(
        &self,
        scope: Scope,
        expected_missing: u64,
        now: Timestamp,
    ) -> Result<Finished, ReleaseError> {
        let (sender, done) = oneshot::channel();
        self.send(Job::Release(Release { scope, expected_missing, now }, sender)).await?;
        done.await.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// Sets an operator's override at `now`, in the place of one by call of the same app, kind and name; returns it as it is
    /// kept. The setting is checked already ([`crate::core::overrides::check`]).
    ///
    /// # Errors
    /// App or user are not stored, or there are too many: nothing is changed. [`OverrideError::Store`].
    pub async fn set_override(
        &self,
        setting: OverrideSetting,
        now: Timestamp,
    ) -> Result<OverrideRecord, OverrideError> {
        self.order(Order::Set(setting), now).await
    }

    /// Takes an override by call back; returns it as it was.
    ///
    /// # Errors
    /// There is none, or it stands in the configuration: nothing is changed. [`OverrideError::Store`].
    pub async fn delete_override(&self, name: OverrideName, now: Timestamp) -> Result<OverrideRecord, OverrideError> {
        self.order(Order::Delete(name), now).await
    }

    async fn order(&self, order: Order, now: Timestamp) -> Result<OverrideRecord, OverrideError> {
        let (sender, done) = oneshot::channel();
        self.send(Job::Override(order, now, sender)).await?;
        done.await.unwrap_or_else(|_| Err(stopped().into()))
    }

    /// Notes when the credential was last used.
    pub async fn credential_used(&self, at: Timestamp) -> Result<(), StoreError> {
        self.send(Job::CredentialUsed(at)).await
    }

    /// Opens the gaps of what has grown too old by `now`, and closes that of the log when it has not.
    pub async fn note_ages(&self, now: Timestamp, limits: Ages) -> Result<(), StoreError> {
        self.send(Job::Age(now, limits)).await
    }

    /// Has overrides that are over by `now` end, and told as gone. Every job does that which brings a time; this one does
    /// nothing else.
    pub async fn end_overrides(&self, now: Timestamp) -> Result<(), StoreError> {
        self.send(Job::Look(now)).await
    }

    /// The first number of this process's block; numbers of earlier processes are all smaller.
    pub fn first_request_number(&self) -> RequestNumber {
        self.first_request_number
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).await.map_err(|_| stopped())
    }
}

/// A writer that has begun.
pub(super) struct Started {
    pub(super) writer: Writer,
    /// What the overrides of the configuration came to.
    pub(super) overrides: ConfiguredOverrides,
}

/// Takes over the overrides of the configuration, before anybody can ask.
fn configure(
    connection: &mut Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    settings: Vec<OverrideSetting>,
    now: Timestamp,
) -> Result<ConfiguredOverrides, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = meta.clone();
    let (done, outcome) = overrides::configure(&transaction, memory, meta, settings, now)?;
    let expired = overrides::expire(&transaction, memory, meta, now)?;
    super::retention::add_lines(&transaction, done.lines + expired.map_or(0, |expired| expired.lines))?;
    if meta.revision != before.revision {
        write_counters(&transaction, &before, meta)?;
    }
    transaction.commit()?;
    Ok(outcome)
}

impl Drop for Writer {
    /// Lets the thread commit what is queued, and frees the lock.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Stopped { detail: "see the error before".to_owned() }
}

fn read_coverage(connection: &Connection) -> Result<Coverage, StoreError> {
    let mut coverage = Coverage::default();
    let mut select =
        connection.prepare_cached("SELECT scope, completed_at FROM scopes WHERE completed_at IS NOT NULL")?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        if let Some(scope) = Scope::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?) {
            coverage.completed(scope, Timestamp::from_millis(row.get(1)?));
        }
    }
    let mut select = connection.prepare_cached("SELECT scope, kind, unread FROM gaps WHERE open = 1")?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let (scope, kind, unread): (String, String, Option<String>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let (Some(scope), Some(kind)) = (Scope::parse(&scope), GapKind::parse(&kind)) else { continue };
        match unread {
            Some(unread) if kind == GapKind::Failed => coverage.opened_for(scope, Unread::parse(Some(&unread)).reach()),
            _ => coverage.opened(scope, kind),
        }
    }
    Ok(coverage)
}

/// Reads the coverage as it is on disk, for readers beside a writer in another process.
pub(super) fn coverage_on_disk(connection: &Connection) -> Result<Coverage, StoreError> {
    read_coverage(connection)
}

struct Worker {
    connection: Connection,
    /// The readers of this process.
    pool: Arc<Pool>,
    meta: Meta,
    memory: Memory,
    retention: Retention,
    coverage: SharedCoverage,
    revision: watch::Sender<Revision>,
    /// The write-ahead log holds names that were removed.
    is_stained: bool,
    _files: StoreFiles,
}

/// Who waits for what was done.
enum Waiting {
    Nobody,
    Receipt(oneshot::Sender<Result<Receipt, StoreError>>),
    Release(Finished, oneshot::Sender<Result<Finished, ReleaseError>>),
    Override(Box<OverrideRecord>, oneshot::Sender<Result<OverrideRecord, OverrideError>>),
}

impl Waiting {
    fn answer(self, receipt: Receipt) {
        match self {
            Waiting::Nobody => {}
            Waiting::Receipt(reply) => drop(reply.send(Ok(receipt))),
            Waiting::Release(finished, reply) => drop(reply.send(Ok(finished))),
            Waiting::Override(record, reply) => drop(reply.send(Ok(*record))),
        }
    }

    fn refuse(self, detail: &str) {
        let error = StoreError::Stopped { detail: detail.to_owned() };
        match self {
            Waiting::Nobody => {}
            Waiting::Receipt(reply) => drop(reply.send(Err(error))),
            Waiting::Release(_, reply) => drop(reply.send(Err(error.into()))),
            Waiting::Override(_, reply) => drop(reply.send(Err(error.into()))),
        }
    }
}

impl Worker {
    fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut failed: Option<String> = None;
        while let Some(job) = jobs.blocking_recv() {
            let mut group = vec![job];
            let mut rows = size(&group[0]);
            while rows < TRANSACTION_ROWS_MAX
                && let Ok(job) = jobs.try_recv()
            {
                rows += size(&job);
                group.push(job);
            }
            if let Some(detail) = &failed {
                refuse(group, detail);
                continue;
            }
            if let Err(detail) = self.transact(group) {
                tracing::error!(detail, "the store cannot be written; it stays as it was before this transaction");
                failed = Some(detail);
            }
        }
        self.pool.begin_write();
        // Moves the write-ahead log into the file, so that the next start has nothing to do.
        if let Err(error) = self.connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);") {
            tracing::debug!(%error, "checkpoint at the end");
        }
    }

    /// One transaction for all jobs. `Err` is an error of SQLite: nothing of the group is stored.
    fn transact(&mut self, group: Vec<Job>) -> Result<(), String> {
        let before = self.meta.clone();
        let mut done = Vec::new();
        let mut jobs = group.into_iter();
        match self.carry_out(&before, &mut jobs, &mut done) {
            Ok(()) => {
                let mut receipts = Vec::with_capacity(done.len());
                let mut coverage = Vec::new();
                for (outcome, waiting) in done {
                    coverage.extend(outcome.coverage);
                    self.is_stained |= outcome.has_purged;
                    receipts.push((outcome.receipt, waiting));
                }
                // At once: what one job closes and the next one opens is never seen closed.
                publish(&self.coverage, coverage);
                self.pool.publish(self.meta.revision);
                self.revision.send_if_modified(|revision| {
                    let is_new = *revision != self.meta.revision;
                    *revision = self.meta.revision;
                    is_new
                });
                // Last: who holds a receipt finds its revision published.
                for (receipt, waiting) in receipts {
                    waiting.answer(receipt);
                }
                self.scrub();
                self.pool.end_write();
                Ok(())
            }
            Err(error) => {
                self.pool.end_write();
                self.meta = before;
                let detail = error.to_string();
                for (_, waiting) in done {
                    waiting.refuse(&detail);
                }
                refuse(jobs.collect(), &detail);
                Err(detail)
            }
        }
    }

    /// Names that were removed leave the write-ahead log too; tried again with the next transaction where a reader is in
    /// the way.
    fn scrub(&mut self) {
        if self.is_stained {
            match purge::scrub(&self.connection) {
                Ok(is_clean) => self.is_stained = !is_clean,
                Err(error) => tracing::warn!(%error, "the write-ahead log cannot be cut off"),
            }
        }
    }

    fn carry_out(
        &mut self,
        before: &Meta,
        jobs: &mut impl Iterator<Item = Job>,
        done: &mut Vec<(Done, Waiting)>,
    ) -> Result<(), StoreError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut now, mut has_crawled) = (None, false);
        // The newest time that any of them brings: overrides end by it.
        let mut latest = Timestamp::default();
        for job in jobs {
            latest = latest.max(time_of(&job));
            match job {
                Job::Commit(batch, reply) => match commit(&transaction, &mut self.memory, &mut self.meta, &batch) {
                    // Refused before anything was written.
                    Err(error @ StoreError::Mismatch { .. }) => drop(reply.send(Err(error))),
                    Err(error) => {
                        let _ = reply.send(Err(StoreError::Stopped { detail: error.to_string() }));
                        return Err(error);
                    }
                    Ok(outcome) => {
                        self.retention.note(&transaction, &outcome, batch.now)?;
                        now = Some(batch.now);
                        has_crawled |= matches!(batch.crawl, Some(CrawlMark::End { .. }));
                        done.push((outcome, Waiting::Receipt(reply)));
                    }
                },
                Job::Release(order, reply) => match release(&transaction, &mut self.memory, &mut self.meta, &order) {
                    Err(error) => {
                        let _ = reply.send(Err(StoreError::Stopped { detail: error.to_string() }.into()));
                        return Err(error);
                    }
                    Ok(Released::Refused(error)) => drop(reply.send(Err(error))),
                    Ok(Released::Done(outcome, finished)) => {
                        self.retention.note(&transaction, &outcome, order.now)?;
                        done.push((outcome, Waiting::Release(finished, reply)));
                    }
                },
                Job::Override(order, at, reply) => {
                    match overrides::carry_out(&transaction, &mut self.memory, &mut self.meta, &order, at) {
                        Err(error) => {
                            let _ = reply.send(Err(StoreError::Stopped { detail: error.to_string() }.into()));
                            return Err(error);
                        }
                        Ok(Obeyed::Refused(error)) => drop(reply.send(Err(error))),
                        Ok(Obeyed::Done(outcome, record)) => {
                            self.retention.note(&transaction, &outcome, at)?;
                            done.push((outcome, Waiting::Override(record, reply)));
                        }
                    }
                }
                Job::Age(at, limits) => {
                    let outcome = age(&transaction, &mut self.memory, &mut self.meta, at, limits)?;
                    self.retention.note(&transaction, &outcome, at)?;
                    done.push((outcome, Waiting::Nobody));
                }
                // Below, as after every other job.
                Job::Look(_) => {}
                Job::SetOrg(org_id, reply) => {
                    let _ = reply.send(bind_org(&transaction, &mut self.meta, org_id));
                }
                Job::CredentialUsed(at) => {
                    self.meta.credential_used_at = Some(at);
                    meta::put_integer(&transaction, "credential_used_at", at.as_millis())?;
                }
            }
        }
        if let Some(outcome) = overrides::expire(&transaction, &mut self.memory, &mut self.meta, latest)? {
            self.retention.note(&transaction, &outcome, latest)?;
            done.push((outcome, Waiting::Nobody));
        }
        if let Some(now) = now {
            self.retention.prune(&transaction, &mut self.meta, now, has_crawled)?;
        }
        if self.meta.revision != before.revision {
            write_counters(&transaction, before, &self.meta)?;
        }
        // Before anybody can see the rows: no answer from them may overlook a gap. If the transaction fails, answers are
        // partial without need, of a store that cannot be written any more.
        publish(&self.coverage, done.iter().flat_map(|(outcome, _)| outcome.openings()).collect());
        // So does nobody take for known what it changes.
        self.pool.note(&mut self.memory.touched, self.meta.revision);
        self.pool.begin_write();
        transaction.commit()?;
        self.pool.has_committed();
        Ok(())
    }
}

fn size(job: &Job) -> usize {
    match job {
        Job::Commit(batch, _) => 1 + batch.rows.len(),
        Job::SetOrg(..)
        | Job::Release(..)
        | Job::Override(..)
        | Job::CredentialUsed(_)
        | Job::Age(..)
        | Job::Look(_) => 1,
    }
}

/// When a job was given, by this machine's clock, as far as it says.
fn time_of(job: &Job) -> Timestamp {
    match job {
        Job::Commit(batch, _) => batch.now,
        Job::Release(order, _) => order.now,
        Job::Override(_, now, _) | Job::Age(now, _) | Job::Look(now) => *now,
        Job::SetOrg(..) | Job::CredentialUsed(_) => Timestamp::default(),
    }
}

fn refuse(group: Vec<Job>, detail: &str) {
    for job in group {
        let error = StoreError::Stopped { detail: detail.to_owned() };
        match job {
            Job::Commit(_, reply) => drop(reply.send(Err(error))),
            Job::SetOrg(_, reply) => drop(reply.send(Err(error))),
            Job::Release(_, reply) => drop(reply.send(Err(error.into()))),
            Job::Override(_, _, reply) => drop(reply.send(Err(error.into()))),
            Job::CredentialUsed(_) | Job::Age(..) | Job::Look(_) => {}
        }
    }
}

pub(super) fn write_counters(sql: &Connection, before: &Meta, after: &Meta) -> Result<(), StoreError> {
    meta::put_integer(sql, "revision", as_i64(after.revision.0))?;
    for (kind, count) in &after.rows {
        if before.rows.get(kind) != Some(count) {
            meta::put_rows(sql, *kind, *count)?;
        }
    }
    if before.apps_revision != after.apps_revision {
        meta::put_integer(sql, "apps_revision", as_i64(after.apps_revision.0))?;
    }
    Ok(())
}

fn bind_org(sql: &Connection, meta: &mut Meta, org_id: String) -> Result<(), StoreError> {
    match &meta.org_id {
        Some(known) if *known == org_id => Ok(()),
        Some(known) => Err(StoreError::Mismatch {
            detail: format!(
                "it holds org {known}, but the configured domain answers as org {org_id}; use another data directory, or \
                 another name for this org in the configuration"
            ),
        }),
        None => {
            meta::put_text(sql, "org_id", &org_id)?;
            meta.org_id = Some(org_id);
            Ok(())
        }
    }
}

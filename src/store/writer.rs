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
//! | after an error of SQLite | any | [`StoreError::Stopped`]: what is stored is whole, the process must start again |

use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use roaring::RoaringBitmap;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::apply::{Apply, IdCache, Put};
use super::files::StoreFiles;
use super::meta::{self, Meta};
use super::walks::{Books, CoverageChange, publish};
use super::{SharedCoverage, StoreConfig, StoreError};
use crate::core::batch::{Batch, CrawlMark, CursorMove, Receipt};
use crate::core::coverage::{Coverage, GapKind};
use crate::core::ids::{RequestNumber, Revision, Timestamp};
use crate::core::model::Scope;
use crate::core::reconcile::Brake;

/// Batches that may wait for the writer. More only costs memory: the writer takes all that wait in one go.
const QUEUE_BATCHES_MAX: usize = 16;

/// Rows in one write transaction. Larger: readers wait longer for a revision. Smaller: the fsync dominates.
const TRANSACTION_ROWS_MAX: usize = 20_000;

/// Request numbers reserved at once; a crawl of a large org needs some tens of thousands.
const REQUEST_NUMBER_BLOCK: u64 = 1 << 20;

/// How long a released account name is remembered, in days. Longer than the longest quarantine window.
const HISTORY_DAYS: i64 = 366;

/// Revisions of which the changes are kept, counted back from the newest. A follower that is further behind starts anew.
const CHANGES_REVISIONS_MAX: u64 = 200_000;

enum Job {
    Commit(Box<Batch>, oneshot::Sender<Result<Receipt, StoreError>>),
    SetOrg(String, oneshot::Sender<Result<(), StoreError>>),
    CredentialUsed(Timestamp),
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
        connection: Connection,
        files: StoreFiles,
        config: &StoreConfig,
    ) -> Result<(Self, SharedCoverage, watch::Receiver<Revision>), StoreError> {
        let first_request_number = meta::reserve_request_numbers(&connection, REQUEST_NUMBER_BLOCK)?;
        let meta = Meta::read(&connection)?;
        let coverage = Arc::new(RwLock::new(read_coverage(&connection)?));
        let (revision_sender, revision) = watch::channel(meta.revision);
        let (jobs, receiver) = mpsc::channel(QUEUE_BATCHES_MAX);
        let mut worker = Worker {
            connection,
            ids: IdCache::default(),
            meta,
            brake: config.brake,
            credential: config.credential.clone(),
            coverage: Arc::clone(&coverage),
            revision: revision_sender,
            _files: files,
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || worker.run(receiver))
            .map_err(|source| StoreError::Io { path: config.dir.clone(), source })?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread), first_request_number }, coverage, revision))
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

    /// Notes when the credential was last used.
    pub async fn credential_used(&self, at: Timestamp) -> Result<(), StoreError> {
        self.send(Job::CredentialUsed(at)).await
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
    let mut select = connection.prepare_cached("SELECT scope FROM scopes WHERE completed_at IS NOT NULL")?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        if let Some(scope) = Scope::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?) {
            coverage.completed(scope);
        }
    }
    let mut select = connection.prepare_cached("SELECT scope, kind FROM gaps WHERE open = 1")?;
    let mut rows = select.query(())?;
    while let Some(row) = rows.next()? {
        let (scope, kind): (String, String) = (row.get(0)?, row.get(1)?);
        if let (Some(scope), Some(kind)) = (Scope::parse(&scope), GapKind::parse(&kind)) {
            coverage.opened(scope, kind);
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
    ids: IdCache,
    meta: Meta,
    brake: Brake,
    credential: String,
    coverage: SharedCoverage,
    revision: watch::Sender<Revision>,
    _files: StoreFiles,
}

/// What a batch did, published after the commit.
struct Done {
    receipt: Receipt,
    coverage: Vec<CoverageChange>,
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
        let outcome = (|| {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for job in jobs.by_ref() {
                match job {
                    Job::Commit(batch, reply) => {
                        let result =
                            commit(&transaction, &mut self.ids, &mut self.meta, &batch, &self.credential, self.brake);
                        match result {
                            Err(error @ StoreError::Mismatch { .. }) => {
                                // Refused before anything was written.
                                let _ = reply.send(Err(error));
                            }
                            Err(error) => {
                                let _ = reply.send(Err(StoreError::Stopped { detail: error.to_string() }));
                                return Err(error);
                            }
                            Ok(outcome) => done.push((outcome, reply)),
                        }
                    }
                    Job::SetOrg(org_id, reply) => {
                        let _ = reply.send(bind_org(&transaction, &mut self.meta, org_id));
                    }
                    Job::CredentialUsed(at) => {
                        self.meta.credential_used_at = Some(at);
                        meta::put_integer(&transaction, "credential_used_at", at.as_millis())?;
                    }
                }
            }
            if self.meta.revision != before.revision {
                write_counters(&transaction, &before, &self.meta)?;
            }
            transaction.commit()?;
            Ok::<(), StoreError>(())
        })();
        match outcome {
            Ok(()) => {
                let mut receipts = Vec::with_capacity(done.len());
                for (outcome, reply) in done {
                    publish(&self.coverage, outcome.coverage);
                    receipts.push((outcome.receipt, reply));
                }
                self.revision.send_if_modified(|revision| {
                    let is_new = *revision != self.meta.revision;
                    *revision = self.meta.revision;
                    is_new
                });
                // Last: who holds a receipt finds its revision published.
                for (receipt, reply) in receipts {
                    let _ = reply.send(Ok(receipt));
                }
                Ok(())
            }
            Err(error) => {
                self.meta = before;
                let detail = error.to_string();
                for (_, reply) in done {
                    let _ = reply.send(Err(StoreError::Stopped { detail: detail.clone() }));
                }
                refuse(jobs.collect(), &detail);
                Err(detail)
            }
        }
    }
}

fn size(job: &Job) -> usize {
    match job {
        Job::Commit(batch, _) => 1 + batch.rows.len(),
        Job::SetOrg(..) | Job::CredentialUsed(_) => 1,
    }
}

fn refuse(group: Vec<Job>, detail: &str) {
    for job in group {
        let error = StoreError::Stopped { detail: detail.to_owned() };
        match job {
            Job::Commit(_, reply) => drop(reply.send(Err(error))),
            Job::SetOrg(_, reply) => drop(reply.send(Err(error))),
            Job::CredentialUsed(_) => {}
        }
    }
}

fn as_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn write_counters(sql: &Connection, before: &Meta, after: &Meta) -> Result<(), StoreError> {
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

/// Carries out one batch within the transaction. A mismatch is found before anything is written.
fn commit(
    sql: &Connection,
    ids: &mut IdCache,
    meta: &mut Meta,
    batch: &Batch,
    credential: &str,
    brake: Brake,
) -> Result<Done, StoreError> {
    begin_or_check(sql, meta, batch)?;
    if batch.at.0 >= meta.request_numbers_end {
        meta.request_numbers_end = batch.at.0 + REQUEST_NUMBER_BLOCK;
        meta::put_integer(sql, "request_number", as_i64(meta.request_numbers_end))?;
    }
    let revision = Revision(meta.revision.0 + 1);
    let mut apply = Apply {
        sql,
        ids,
        revision,
        at: batch.at,
        now: batch.now,
        changed: false,
        apps_changed: false,
        gone: Vec::new(),
        rows: &mut meta.rows,
    };
    for key in &batch.removals {
        apply.remove(key)?;
    }
    let mut seen = RoaringBitmap::new();
    for row in &batch.rows {
        if let Put::Unchanged(n) | Put::Older(n) | Put::Changed(n) = apply.put(row)?
            && let Ok(n) = u32::try_from(n)
        {
            seen.insert(n);
        }
    }
    let shown = batch.rows.first().map(|row| row.key().scope());
    let mut books = Books { apply: &mut apply, crawl: meta.crawl.id, credential, brake, coverage: Vec::new() };
    books.forget_gone()?;
    for record in &batch.quarantined {
        books.quarantine(record)?;
    }
    let mut finished = Vec::new();
    let nothing = RoaringBitmap::new();
    for update in &batch.walks {
        let seen = if shown.as_ref() == Some(&update.scope) { &seen } else { &nothing };
        finished.extend(books.walk(update, seen)?);
    }
    for gap in &batch.gaps {
        books.open_gap(gap)?;
    }
    for (scope, kind) in &batch.closed_gaps {
        books.close_gap(scope, *kind)?;
    }
    let coverage = std::mem::take(&mut books.coverage);
    let (changed, apps_changed) = (apply.changed, apply.apps_changed);
    if let Some(CursorMove::Anchor(cursor)) = &batch.cursor {
        meta::put_text(sql, "log_cursor", &cursor.0)?;
        meta::put_integer(sql, "observed_through", batch.now.as_millis())?;
        meta.cursor = Some(cursor.clone());
        meta.observed_through = Some(batch.now);
    }
    if changed {
        meta.revision = revision;
        if apps_changed {
            meta.apps_revision = revision;
        }
    }
    if let Some(CrawlMark::End { .. }) = &batch.crawl {
        end_crawl(sql, meta, batch.now)?;
    }
    Ok(Done { receipt: Receipt { revision: meta.revision, finished }, coverage })
}

fn begin_or_check(sql: &Connection, meta: &mut Meta, batch: &Batch) -> Result<(), StoreError> {
    match &batch.crawl {
        Some(CrawlMark::Begin { id, .. }) if *id <= meta.crawl.id => Err(StoreError::Mismatch {
            detail: format!("crawl {} is to begin, but crawl {} has begun already", id.0, meta.crawl.id.0),
        }),
        Some(CrawlMark::Begin { id, fingerprint }) => {
            sql.execute("DELETE FROM walk_seen", ())?;
            sql.execute("UPDATE scopes SET state = 'idle', next = NULL WHERE state IN ('todo', 'walking')", ())?;
            meta::put_integer(sql, "crawl_id", as_i64(id.0))?;
            meta::put_integer(sql, "crawl_running", 1)?;
            meta::put_integer(sql, "crawl_started_at", batch.now.as_millis())?;
            meta::put_text(sql, "crawl_fingerprint", fingerprint)?;
            meta.crawl.id = *id;
            meta.crawl.running = true;
            meta.crawl.started_at = Some(batch.now);
            meta.crawl.fingerprint.clone_from(fingerprint);
            Ok(())
        }
        Some(CrawlMark::End { id }) if !meta.crawl.running || *id != meta.crawl.id => {
            Err(StoreError::Mismatch { detail: format!("crawl {} is to end, but it is not running", id.0) })
        }
        _ => Ok(()),
    }
}

fn end_crawl(sql: &Connection, meta: &mut Meta, now: Timestamp) -> Result<(), StoreError> {
    meta::put_integer(sql, "crawl_running", 0)?;
    meta::put_integer(sql, "crawl_completed_at", now.as_millis())?;
    meta.crawl.running = false;
    meta.crawl.completed_at = Some(now);
    let oldest = now.plus_millis(-HISTORY_DAYS * 86_400_000).as_millis();
    sql.execute("DELETE FROM account_history WHERE released_at < ?1", params![oldest])?;
    let from = meta.revision.0.saturating_sub(CHANGES_REVISIONS_MAX);
    if from > meta.changes_from.0 {
        sql.execute("DELETE FROM changes WHERE revision <= ?1", params![as_i64(from)])?;
        meta::put_integer(sql, "changes_from", as_i64(from))?;
        meta.changes_from = Revision(from);
    }
    Ok(())
}

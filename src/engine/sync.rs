//! One crawl of one org with its index, from opening to closing: what `okta-idmap sync` does.
//!
//! Entry point: [`run`].

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::gap_log::GapLog;
use super::index::Follower;
use super::machine::{self, CrawlOutcome};
use super::progress::Progress;
use super::{EngineError, OrgRuntime, OrgSettings};
use crate::core::coverage::GapRecord;
use crate::core::model::Kind;
use crate::store::Meta;

/// Gaps and bad records that a report names.
const REPORTED_MAX: usize = 10_000;

/// What a crawl left behind.
#[derive(Clone, Debug)]
pub struct SyncReport {
    /// How it ended.
    pub outcome: CrawlOutcome,
    /// The store's single values.
    pub meta: Meta,
    /// What is known to be missing.
    pub open_gaps: Vec<GapRecord>,
    /// Bad records, at most 10,000 are counted.
    pub quarantined: usize,
    /// Records that the filter keeps out, by kind.
    pub filtered: BTreeMap<Kind, u64>,
    /// Requests sent.
    pub requests: u64,
}

/// Crawls (or finishes an unfinished crawl), brings the index up to date and closes everything.
///
/// # Errors
/// See [`EngineError`]; failed reads are in the report.
pub async fn run(
    settings: OrgSettings,
    progress: &watch::Sender<Progress>,
    shutdown: &CancellationToken,
) -> Result<SyncReport, EngineError> {
    let (org, writer) = OrgRuntime::open(settings)?;
    let follower = Follower::open(org.settings(), org.reader())?;
    let gap_log = GapLog::new(org.name(), org.reader())?;
    let is_over = CancellationToken::new();
    let crawl = async {
        let outcome = machine::run(&org, &writer, progress, shutdown).await;
        is_over.cancel();
        outcome
    };
    let (outcome, told) = tokio::join!(crawl, gap_log.follow(&is_over));
    let outcome = outcome?;
    told?;
    let requests = org.requests_sent();
    // What was purged meanwhile must not stay in it.
    super::register::begin(&org).await;
    if !shutdown.is_cancelled() {
        let (settings, reader) = (org.settings().clone(), org.reader().clone());
        tokio::task::spawn_blocking(move || {
            let mut follower = follower;
            if follower.is_stained()? {
                drop(follower);
                follower = Follower::open(&settings, &reader)?;
            }
            follower.catch_up(&|| true)?;
            follower.settle()
        })
        .await??;
    }
    let (meta, open_gaps, quarantined, filtered) = org
        .reader()
        .scan(|snapshot| {
            let quarantined = snapshot.quarantined(REPORTED_MAX)?.len();
            Ok((snapshot.meta()?, snapshot.gaps(true, REPORTED_MAX)?, quarantined, snapshot.filtered_counts()?))
        })
        .await?;
    Ok(SyncReport { outcome, meta, open_gaps, quarantined, filtered, requests })
}

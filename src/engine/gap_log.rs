//! One log line for every gap that opens or closes, in the order in which that happened.
//!
//! Entry point: [`GapLog::follow`].
//!
//! Invariants:
//! - Lines come from the change log of the store: what is told is stored, and a gap that is only confirmed has no line.
//! - Lines hold ids; no names.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::EngineError;
use crate::core::coverage::GapId;
use crate::core::ids::Revision;
use crate::store::{GapChange, Reader, StoreError};

/// How long revisions are collected before the change log is read again. A crawl makes hundreds a second, and who reads
/// the log does not mind half a second.
const COLLECT_WAIT: Duration = Duration::from_millis(500);

/// Changes that are read at once.
const CHANGES_MAX: usize = 1_000;

/// Tells of the gaps of one org.
#[derive(Debug)]
pub(super) struct GapLog {
    org: String,
    reader: Reader,
    /// What was told up to.
    told: Revision,
}

impl GapLog {
    /// Tells what changes from now on.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn new(org: &str, reader: &Reader) -> Result<Self, StoreError> {
        let told = reader.read(|snapshot| Ok(snapshot.revision()))?;
        Ok(Self { org: org.to_owned(), reader: reader.clone(), told })
    }

    /// Tells what changes until `stop`, and what has changed until then.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn follow(mut self, stop: &CancellationToken) -> Result<(), EngineError> {
        let mut revisions = self.reader.revisions();
        loop {
            revisions.borrow_and_update();
            for change in self.changes().await? {
                self.tell(&change);
            }
            if stop.is_cancelled() {
                return Ok(());
            }
            let goes_on = tokio::select! {
                () = stop.cancelled() => false,
                changed = revisions.changed() => changed.is_ok(),
            };
            if goes_on {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(COLLECT_WAIT) => {}
                }
            } else {
                // Nobody writes any more: what is there now is the last of it.
                stop.cancelled().await;
            }
        }
    }

    /// What has changed since the last call.
    async fn changes(&mut self) -> Result<Vec<GapChange>, StoreError> {
        let mut all = Vec::new();
        loop {
            let after = self.told;
            let read = self
                .reader
                .scan(move |snapshot| Ok((snapshot.gap_changes_after(after, CHANGES_MAX)?, snapshot.revision())));
            let (changes, revision) = read.await?;
            match changes.last() {
                Some(last) => self.told = last.revision,
                None => {
                    self.told = revision.max(after);
                    return Ok(all);
                }
            }
            all.extend(changes);
        }
    }

    fn tell(&self, change: &GapChange) {
        let (org, gap) = (self.org.as_str(), GapId::of(change.kind, &change.scope));
        if change.opened {
            tracing::warn!(org, %gap, "a gap has opened: answers that it could change are partial");
        } else {
            tracing::info!(org, %gap, "a gap has closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::batch::Batch;
    use crate::core::coverage::{Gap, GapKind};
    use crate::core::ids::{RequestNumber, Timestamp};
    use crate::core::model::Scope;
    use crate::core::reconcile::Brake;
    use crate::store::{ChangeRetention, Store, StoreConfig};

    #[tokio::test]
    async fn every_opening_and_closing_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            dir: dir.path().to_owned(),
            brake: Brake::default(),
            credential: "c".to_owned(),
            changes: ChangeRetention::default(),
        };
        let store = Store::open(config).unwrap();
        let mut log = GapLog::new("acme", &store.reader).unwrap();
        let first = store.writer.first_request_number().0;
        let batch = |number: u64| Batch {
            now: Timestamp::from_millis(1_770_000_000_000),
            at: RequestNumber(first + number),
            ..Batch::default()
        };
        let commit = async |batch: Batch| store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap();
        let gap = || Gap { scope: Scope::Users, kind: GapKind::Unauthorized, evidence: "401".to_owned() };
        // Opened, and confirmed twice.
        for number in 0..3 {
            commit(Batch { gaps: vec![gap()], ..batch(number) }).await;
        }
        let shown = |changes: Vec<GapChange>| changes.iter().map(|change| change.opened).collect::<Vec<_>>();
        assert_eq!(shown(log.changes().await.unwrap()), [true]);
        assert_eq!(shown(log.changes().await.unwrap()), [false; 0]);
        commit(Batch { closed_gaps: vec![(Scope::Users, GapKind::Unauthorized)], ..batch(3) }).await;
        commit(Batch { gaps: vec![gap()], ..batch(4) }).await;
        assert_eq!(shown(log.changes().await.unwrap()), [false, true]);
        // A log that begins now has nothing to tell of before; one that is stopped ends.
        let mut late = GapLog::new("acme", &store.reader).unwrap();
        assert_eq!(shown(late.changes().await.unwrap()), [false; 0]);
        let stop = CancellationToken::new();
        stop.cancel();
        log.follow(&stop).await.unwrap();
    }
}

//! Answers that are worth waiting for: of a revision that is about to be reached, or about somebody who is being read.
//!
//! Entry point: [`Patience::allows`], between two looks.
//!
//! Invariant: whoever waits holds neither a snapshot nor a place in a queue.

use std::time::Duration;

use tokio::time::Instant;

use super::Services;
use super::ask::Call;

/// An answer is waited for no longer than this, in milliseconds. Documented at `RequestContext.at_least_revision`.
const WAIT_MILLIS_MAX: u64 = 2_000;

/// Between two looks, in milliseconds; twice as long each time, up to the second figure. The first is a commit's time.
const PAUSE_MILLIS: (u64, u64) = (5, 40);

/// How long one call may wait.
pub(super) struct Patience {
    until: Instant,
    pause_millis: u64,
}

impl Patience {
    pub(super) fn begin() -> Self {
        Self { until: Instant::now() + Duration::from_millis(WAIT_MILLIS_MAX), pause_millis: PAUSE_MILLIS.0 }
    }

    /// Waits until it is worth looking again; `false`: what there is will not become better in time. Where nobody writes, nothing
    /// is waited for.
    pub(super) async fn allows(&mut self, services: &Services, call: &Call) -> bool {
        let is_written = call.view().reader().revisions().has_changed().is_ok();
        if !is_written || Instant::now() >= self.until {
            return false;
        }
        let pause = Duration::from_millis(self.pause_millis);
        self.pause_millis = (self.pause_millis * 2).min(PAUSE_MILLIS.1);
        tokio::select! {
            () = services.drain().cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}

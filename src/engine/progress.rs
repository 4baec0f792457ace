//! How far a crawl is, for progress bars and log lines.

use std::collections::BTreeMap;

use crate::core::model::Kind;
use crate::core::sync::ScopeCounts;

/// A crawl's progress at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Lists read and known so far, and rows shown, by kind of row.
    pub kinds: BTreeMap<Kind, ScopeCounts>,
    /// Requests sent since the crawl began.
    pub requests: u64,
    /// Until when the most restricted bucket waits, in seconds from now; 0 when nothing waits.
    pub waiting_seconds: u64,
}

impl Progress {
    /// Rows shown so far.
    pub fn rows(&self) -> u64 {
        self.kinds.values().map(|counts| counts.rows).sum()
    }
}

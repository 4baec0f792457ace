//! How far a search goes: a number of steps, counted where lists of documents are walked.
//!
//! Entry point: [`Steps`].
//!
//! Invariants:
//! - Once the steps are used up, every list ends where it stands, so no walk goes on for long. What a walk shows from then on
//!   may be wrong (a list of what is excluded ends, too), and the collector takes none of it.
//! - Steps are counted, not timed: the same search of the same commit stops at the same document.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What one walk may do, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Steps(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    left: AtomicU64,
    is_too_broad: AtomicBool,
}

impl Steps {
    /// So many steps; one is the way to the next document of a list, 5 to 10 ns.
    pub(crate) fn new(steps: u64) -> Self {
        Self(Arc::new(Counted { left: AtomicU64::new(steps), is_too_broad: AtomicBool::new(false) }))
    }

    /// Uses some up; whether there are more.
    #[inline]
    pub(crate) fn take(&self, steps: u64) -> bool {
        // One thread walks; the type can be shared only because tantivy could send it about.
        let left = self.0.left.load(Ordering::Relaxed).saturating_sub(steps);
        self.0.left.store(left, Ordering::Relaxed);
        left > 0
    }

    /// Whether they are used up.
    #[inline]
    pub(crate) fn are_spent(&self) -> bool {
        self.0.left.load(Ordering::Relaxed) == 0
    }

    /// Notes that a pattern matches more terms than are read, in which case the search fails.
    pub(crate) fn note_too_broad(&self) {
        self.0.is_too_broad.store(true, Ordering::Relaxed);
    }

    /// Whether any pattern does.
    pub(crate) fn are_too_broad(&self) -> bool {
        self.0.is_too_broad.load(Ordering::Relaxed)
    }
}

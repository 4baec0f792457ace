//! The decisions: pure functions and plain data. No IO, no clock, no async.
//!
//! Time and facts are handed in, effects are handed out; that is what makes the crawl, the resolution and the coverage
//! testable by table and by seed. `tests/tidy.rs` checks that nothing here imports a runtime, HTTP, SQL or the index.

pub mod backoff;
pub mod batch;
pub mod coverage;
pub mod filter;
pub mod ids;
pub mod model;
pub mod normalize;
pub mod policy;
pub mod rate;
pub mod reconcile;
pub mod resolve;
pub mod secret;
pub mod sync;

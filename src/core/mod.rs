//! The decisions: pure functions and plain data. No IO, no clock, no async.
//!
//! Time and facts are handed in, effects are handed out; that is what makes crawling, following, resolution and coverage
//! testable by table and by seed. `tests/tidy.rs` checks that nothing here imports a runtime, HTTP, SQL or the index.

pub mod access;
pub mod acl;
pub mod backoff;
pub mod batch;
pub mod certificate;
pub mod coverage;
pub mod event;
pub mod filter;
pub mod ids;
pub mod membership;
pub mod model;
pub mod normalize;
pub mod overrides;
pub mod pending;
pub mod plan;
pub mod policy;
pub mod principal;
pub mod private_key;
pub mod probe;
pub mod rate;
pub mod reconcile;
pub mod resolve;
pub mod revocation;
pub mod secret;
pub mod sync;
pub mod template;
pub mod token;

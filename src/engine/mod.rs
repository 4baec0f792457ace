//! The shell around the decisions: makes the calls, stores the batches, keeps the index, ends together.
//!
//! Entry points: [`serve::run`] for everything until shutdown, [`sync::run`] for one crawl with its index, [`probe`] for what a
//! credential can read. Below them: [`OrgRuntime::open`], and [`machine::run`] or [`machine::follow`] for the state machine.
//!
//! Invariants:
//! - Effects are carried out in the order in which they were asked for; batches are committed in that order.
//! - Every task belongs to a `JoinSet` of its caller: nothing outlives the engine.
//! - All waiting ends at shutdown; what was acknowledged by the store is kept.

mod calls;
pub mod clock;
pub mod failure;
mod gap_log;
pub mod index;
pub mod machine;
pub mod orders;
pub mod org;
pub mod probe;
pub mod progress;
pub mod register;
pub mod serve;
pub mod sync;

pub use self::org::{FollowSettings, OrgRuntime, OrgSettings};

use crate::okta::OktaError;
use crate::store::StoreError;

/// What ends the work on an org. Failed reads do not: they are gaps.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index cannot be used.
    #[error("search index: {0}")]
    Index(#[from] okta_idmap_index::IndexError),
    /// The client cannot be built, or Okta cannot be used at all.
    #[error(transparent)]
    Okta(#[from] OktaError),
    /// A setting of an org that only shows to be wrong when it is used.
    #[error("org {org}: {detail}")]
    Settings {
        /// The org.
        org: String,
        /// What is wrong.
        detail: String,
    },
    /// A task of the engine ended by a panic.
    #[error("a task of the engine failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The gRPC server failed.
    #[error("gRPC server on {address}: {detail}")]
    Server {
        /// Where it was to listen.
        address: String,
        /// Why not.
        detail: String,
    },
}

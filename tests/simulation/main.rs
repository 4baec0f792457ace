//! The connector follows a simulated org that changes while everything that can go wrong does: in the end store, index and
//! org are the same.
//!
//! Entry points: [`runs::following`], [`runs::nets`] and [`copy::goes_along`], one run under one seed; the tests below run many. A failure prints
//! its seed and what happened in it:
//!
//! ```text
//! SIMULATION_SEED=17 cargo test --test simulation       # one seed
//! SIMULATION_SEEDS=5000 cargo test --test simulation    # the first 5,000
//! ```
//!
//! A seed fixes the org, its changes and its faults, not the order in which tasks and answers come: a failure may need
//! several runs of its seed to come again.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the org lives in real time while it is followed")]

mod converge;
mod copy;
#[path = "../grpc/door.rs"]
mod door;
mod engine;
mod filters;
#[path = "../e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod harness;
#[path = "../e2e/parts.rs"]
mod parts;
#[path = "../e2e/picture.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod picture;
mod requests;
mod runs;
mod seeds;
mod service_app;
mod slots;
mod story;
mod unsteady;
mod weather;

/// Seeds of a usual run. One takes seconds, most of them waiting for the wait times of the connector itself; all of them some
/// minutes, also on a slow machine.
const SEEDS_DEFAULT: u64 = 120;

/// Every change is told by an event: following the log is enough, without any safety net.
#[test]
fn following_the_log_shows_everything() {
    seeds::run_all("following", SEEDS_DEFAULT, runs::following);
}

/// A copy in a client goes along, over restarts on both sides, and answers what the server answers.
#[test]
fn a_copy_goes_along() {
    seeds::run_all("copy", SEEDS_DEFAULT / 24, copy::goes_along);
}

/// Events are lost and some changes have none: the safety nets and the next full crawl find them.
#[test]
fn safety_nets_find_what_the_log_does_not_tell() {
    seeds::run_all("nets", SEEDS_DEFAULT / 3, runs::nets);
}

//! What a credential cannot see is never said to be absent: `serve` follows a simulated org that hides, refuses and shows
//! again while it changes, and every answer of the real API is judged by what the org really holds.
//!
//! Written from the specification alone. Entry points: [`hidings`] is the list of all ways to hide; [`scenarios`] goes
//! through them one by one, [`mixtures`] combines them under a seed, [`calm`] hides nothing and counts false alarms,
//! [`references`] hides before the first crawl, [`crawls`] does without `serve`, [`remedies`] does what gaps advise. All
//! of them ask through [`judge`], which knows what must hold.
//!
//! ```text
//! COVERAGE_CASE="one app" cargo test --test coverage        # only cases whose name contains this
//! COVERAGE_ALL=1 cargo test --test coverage scenarios       # every way to hide in both its forms
//! COVERAGE_SEED=17 cargo test --test coverage mixtures      # one seed
//! COVERAGE_SEEDS=500 cargo test --test coverage mixtures    # the first 500
//! COVERAGE_CALM_SECONDS=60 cargo test --test coverage calm  # a longer look for false alarms
//! ```
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the org lives in real time while it is followed")]

mod aim;
mod ask;
mod calm;
mod cases;
mod client;
#[path = "../simulation/converge.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod converge;
mod crawls;
#[path = "../simulation/engine.rs"]
mod engine;
#[path = "../e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod harness;
mod hidings;
mod judge;
mod mixtures;
#[path = "../e2e/parts.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod parts;
#[path = "../e2e/picture.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod picture;
mod references;
mod remedies;
mod scenarios;
#[path = "../simulation/slots.rs"]
#[expect(dead_code, reason = "shared with the other tests, not all of it is used here")]
mod slots;
#[path = "../simulation/story.rs"]
mod story;
mod truth;
mod watching;

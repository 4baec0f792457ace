//! The command line as a process: help, refusals, every form of output, closed pipes, and the simulated org behind it.
//!
//! Entry points: [`harness::Place`] runs the binary in a directory of its own, `store::fill` puts a small org into it.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "cli/broad.rs"]
mod broad;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/explanations.rs"]
mod explanations;
#[path = "cli/exports.rs"]
mod exports;
#[path = "cli/follow.rs"]
mod follow;
#[path = "cli/harness.rs"]
mod harness;
#[path = "cli/live.rs"]
mod live;
#[path = "cli/look_ups.rs"]
mod look_ups;
#[path = "cli/overrides.rs"]
mod overrides;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "cli/secure.rs"]
mod secure;
#[path = "cli/service_app.rs"]
mod service_app;
#[path = "cli/stops.rs"]
mod stops;
#[path = "cli/store.rs"]
mod store;
#[path = "cli/watchers.rs"]
mod watchers;

//! Fuzz targets of every decoder and parser of what comes from outside. `docs/fuzzing.md` says how to run them, and what they
//! found.
//!
//! Entry point: [`runner::run`], called by each target. Targets of what is private to the library are beside it, and use the
//! same runner: `okta::oauth`, `serve::page`.
#![expect(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod answers;
mod keys;
mod queries;
mod runner;
mod settings;
mod templates;
mod wire;

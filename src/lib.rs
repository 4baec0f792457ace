//! `okta-idmap`: who is who in which app, read from Okta and never written to it.
//!
//! | module | what it is |
//! |---|---|
//! | [`core`] | the decisions, pure |
//! | [`config`] | what the operator says, checked once |
//! | [`okta`] | the typed read-only client |
//! | [`engine`] | the shell: crawls, follows, keeps the index, ends together |
//! | [`serve`] | the gRPC services over store and index; health and metrics |
//! | [`client`] | typed calls for Rust programs, and a copy that answers by itself |
//! | [`cli`] | the command line |
//! | [`store`] | SQLite: one writer, many readers, every change under a revision |

pub mod cli;
pub mod client;
pub mod config;
pub mod core;
pub mod engine;
pub mod okta;
pub mod serve;
pub mod store;

#[cfg(test)]
#[path = "../tests/fuzz/runner.rs"]
mod fuzz_runner;

//! `okta-idmap`: who is who in which app, read from Okta and never written to it.
//!
//! | module | what it is |
//! |---|---|
//! | [`core`] | the decisions, pure |
//! | [`serve`] | the gRPC services over store and index |
//! | [`store`] | SQLite: one writer, many readers, every change under a revision |

pub mod config;
pub mod core;
pub mod serve;
pub mod store;

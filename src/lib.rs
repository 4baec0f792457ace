//! `okta-idmap`: who is who in which app, read from Okta and never written to it.
//!
//! | module | what it is |
//! |---|---|
//! | [`core`] | the decisions, pure |

pub mod core;
pub mod okta;

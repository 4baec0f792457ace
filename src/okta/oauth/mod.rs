//! Signing in as an OAuth 2.0 service app (facts 10.2): a signed assertion for a token that lives an hour, and, where the
//! app wants it, a proof of possession beside every request (facts 10.3).
//!
//! Entry points: [`ServiceApp`], what is configured; [`SignIn`], which puts tokens on requests.
//!
//! | module | what it is |
//! |---|---|
//! | `sign_in` | the token in use, its renewal, what happens after a refusal |
//! | `ask` | one token request, with the answers that ask for it again |
//! | `answer` | what the token endpoint says |
//! | `jwt` | assertions and proofs |
//!
//! Invariants:
//! - One token request at a time, whoever waits; after a failure none before its time, however many ask.
//! - Assertions and proofs are made for one request and never sent twice.
//! - Scopes that allow to change anything are never asked for.
//! - No error, log line or `Debug` shows a key, an assertion, a proof or a token.

mod answer;
mod ask;
#[cfg(test)]
mod fuzz_tests;
mod jwt;
mod sign_in;

use std::collections::BTreeSet;

use crate::core::private_key::PrivateKey;

pub(super) use answer::Outlook;
pub use answer::{Said, TokenRequestError};
pub(super) use sign_in::SignIn;

/// The scopes that reading needs (facts 10.2).
pub const SCOPES_NEEDED: [&str; 4] = ["okta.apps.read", "okta.groups.read", "okta.logs.read", "okta.users.read"];

/// A service app and its key.
#[derive(Clone, Debug)]
pub struct ServiceApp {
    /// Its client id.
    pub client_id: String,
    /// The id under which Okta knows the key.
    pub key_id: String,
    /// The key.
    pub private_key: PrivateKey,
    /// Scopes to ask for besides [`SCOPES_NEEDED`].
    pub scopes: BTreeSet<String>,
}

impl ServiceApp {
    /// Every scope that is asked for. One that does not end in `.read` is left out, wherever it came from.
    fn wanted(&self) -> BTreeSet<String> {
        let needed = SCOPES_NEEDED.into_iter().map(str::to_owned);
        needed.chain(self.scopes.iter().filter(|scope| scope.ends_with(".read")).cloned()).collect()
    }
}

/// What was asked for and what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeGrant {
    /// Every scope that is asked for.
    pub wanted: BTreeSet<String>,
    /// Those of the newest token.
    pub granted: BTreeSet<String>,
}

impl ScopeGrant {
    /// Wanted and not given.
    pub fn missing(&self) -> BTreeSet<String> {
        self.wanted.difference(&self.granted).cloned().collect()
    }
}

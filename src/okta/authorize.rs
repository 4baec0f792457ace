//! Putting the credential on a request.
//!
//! Entry points: [`Authorize`], the seam for every way of signing in, and [`Ssws`], the API token. Service apps sign in by
//! `oauth`.
//!
//! Invariant: headers are made anew for every attempt, because a DPoP proof must not be used twice (facts 10.3).

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use url::Url;

use super::oauth::{ScopeGrant, TokenRequestError};
use crate::core::secret::Secret;

/// A boxed future, so that `dyn Authorize` works.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Longest header value that is sent, in bytes. API tokens have 42, signed tokens about two thousand.
pub const HEADER_VALUE_BYTES_MAX: usize = 8 * 1024;

/// The request that a credential is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizeRequest<'a> {
    /// The whole URL. The method is always `GET`.
    pub url: &'a Url,
    /// Number of the attempt, from 0.
    pub attempt: u32,
}

/// A header to send. Its value is marked as sensitive on the way out.
#[derive(Clone, Debug)]
pub struct AuthorizeHeader {
    /// Name in lower case.
    pub name: &'static str,
    /// Value.
    pub value: Secret,
}

/// A 401 that was about the credential.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// What the refused request was sent with.
    pub sent: &'a [AuthorizeHeader],
}

/// Whether a refused credential could be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is a new one: try again.
    Renewed,
    /// There is none: report it.
    Dead,
}

/// Why there is no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizeError {
    /// The service app got no token.
    #[error(transparent)]
    Token(#[from] TokenRequestError),
}

/// A way to sign requests in.
pub trait Authorize: Send + Sync + fmt::Debug {
    /// The headers of one attempt.
    fn authorize<'a>(
        &'a self,
        request: AuthorizeRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<AuthorizeHeader>, AuthorizeError>>;

    /// Okta refused the credential with 401. Called at most once per call of the client.
    fn on_unauthorized<'a>(&'a self, challenge: Challenge<'a>) -> BoxFuture<'a, Renewal>;

    /// Okta refused the request for want of an OAuth scope. Called at most once per call of the client.
    fn on_missing_scope(&self, _scope: &str, _sent: &[AuthorizeHeader]) -> Renewal {
        Renewal::Dead
    }

    /// Why there is no credential at the moment, as the last attempt to get one found out.
    fn failure(&self) -> Option<AuthorizeError> {
        None
    }

    /// Every answer's `DPoP-Nonce`, where there is one: for the proofs of further reads (facts 10.3).
    fn on_nonce(&self, _dpop_nonce: &str) {}

    /// The scopes that were asked for and given; `None` for API tokens, which have none, and before the first token.
    fn scopes(&self) -> Option<ScopeGrant> {
        None
    }
}

/// What stands before an API token.
const SCHEME: &str = "SSWS ";

/// Why a string is no API token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is empty.
    #[error("read API token: it is empty")]
    Empty,
    /// It is longer than [`HEADER_VALUE_BYTES_MAX`].
    #[error("read API token: it is longer than any token")]
    TooLong,
    /// It holds a blank, a line break or another character that cannot stand in a header.
    #[error("read API token: it holds a character that no token has, such as a blank or a line break")]
    Character,
    /// It begins with the name of the scheme.
    #[error("read API token: leave away the word before it")]
    Scheme,
}

/// An API token, sent as `Authorization: SSWS …` (facts 10.1). It has the rights that its owner's admin role has now.
#[derive(Clone, Debug)]
pub struct Ssws {
    header_value: Secret,
}

impl Ssws {
    /// Checks that the token can be sent as it is.
    pub fn new(token: &Secret) -> Result<Self, TokenError> {
        let raw = token.expose();
        if raw.is_empty() {
            return Err(TokenError::Empty);
        }
        if raw.len() > HEADER_VALUE_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        if ["ssws ", "bearer "]
            .iter()
            .any(|scheme| raw.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme)))
        {
            return Err(TokenError::Scheme);
        }
        if !raw.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Character);
        }
        // Room for all at once: a text that grows leaves copies behind.
        let mut header_value = String::with_capacity(SCHEME.len() + raw.len());
        header_value.push_str(SCHEME);
        header_value.push_str(raw);
        Ok(Self { header_value: Secret::new(header_value) })
    }
}

impl Authorize for Ssws {
    fn authorize<'a>(
        &'a self,
        _request: AuthorizeRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<AuthorizeHeader>, AuthorizeError>> {
        Box::pin(async { Ok(vec![AuthorizeHeader { name: "authorization", value: self.header_value.clone() }]) })
    }

    /// A token cannot be renewed, only replaced by its owner.
    fn on_unauthorized<'a>(&'a self, _challenge: Challenge<'a>) -> BoxFuture<'a, Renewal> {
        Box::pin(async { Renewal::Dead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked() {
        #[track_caller]
        fn check(raw: &str, expected: Option<TokenError>) {
            assert_eq!(Ssws::new(&Secret::new(raw.to_owned())).err(), expected, "{raw}");
        }
        check("00abcDEF-_.~", None);
        check("", Some(TokenError::Empty));
        check("00abc\n", Some(TokenError::Character));
        check("00 abc", Some(TokenError::Character));
        check("00äbc", Some(TokenError::Character));
        check("SSWS 00abc", Some(TokenError::Scheme));
        check("Bearer ey", Some(TokenError::Scheme));
        check(&"x".repeat(HEADER_VALUE_BYTES_MAX + 1), Some(TokenError::TooLong));
        let ssws = Ssws::new(&Secret::new("00abc".to_owned())).unwrap();
        assert_eq!(format!("{ssws:?}"), "Ssws { header_value: *** }");
    }
}

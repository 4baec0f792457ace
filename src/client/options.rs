//! Where the server is and how it is spoken to. Entry point: [`Options::new`].
//!
//! Invariant: what is wrong on this side is found here, before anybody is called.

use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::retry::Retry;
use super::wire::{Bearer, bearer_of};
use crate::config::{check_token, is_of_this_machine};
use crate::core::secret::Secret;

/// How long to wait for a connection, the handshake included, unless told otherwise.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// How long one attempt of a call may take unless told otherwise. The slowest answers in well below a second; a minute is
/// a server in trouble.
const CALL_WAIT: Duration = Duration::from_secs(60);

/// A connection on which nothing comes for so long is asked for a sign of life, and given up after as long again: a machine
/// that has gone closes nothing.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Why a server cannot be called like this.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The address is none, or not one of `http` or `https`.
    #[error("{0:?} is no address of a server: give https://host:port, or http:// for this machine")]
    Address(String),
    /// A token would be sent in the clear to another machine.
    #[error("{0}: a token is sent over https only, or within this machine")]
    TokenInTheClear(String),
    /// The token is none.
    #[error("the token {0}")]
    Token(&'static str),
    /// The certificates or the key cannot be used.
    #[error("set up TLS for the connection to the server")]
    Tls(#[source] tonic::transport::Error),
}

/// A server, and how it is called. Shows no token.
#[derive(Clone, Debug)]
pub struct Options {
    url: String,
    token: Option<Secret>,
    ca_pem: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Secret)>,
    connect_wait: Duration,
    call_wait: Duration,
    pub(super) retry: Retry,
}

impl Options {
    /// A server at `https://host:port`, or at `http://host:port` where nothing secret is sent, without a token, believed by
    /// the roots of the system.
    ///
    /// # Errors
    /// [`OptionsError::Address`].
    pub fn new(url: &str) -> Result<Self, OptionsError> {
        let is_address = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
        if !is_address || Endpoint::from_shared(url.to_owned()).is_err() {
            return Err(OptionsError::Address(url.to_owned()));
        }
        Ok(Self {
            url: url.to_owned(),
            token: None,
            ca_pem: None,
            identity: None,
            connect_wait: CONNECT_WAIT,
            call_wait: CALL_WAIT,
            retry: Retry::default(),
        })
    }

    /// The same with the token that goes with each call.
    ///
    /// # Errors
    /// [`OptionsError::Token`] for what is no token, [`OptionsError::TokenInTheClear`].
    pub fn with_token(self, token: Secret) -> Result<Self, OptionsError> {
        check_token(token.expose()).map_err(OptionsError::Token)?;
        if !self.is_tls() && !is_of_this_machine(&self.url) {
            return Err(OptionsError::TokenInTheClear(self.url));
        }
        Ok(Self { token: Some(token), ..self })
    }

    /// The same with other roots than those of the system, as PEM.
    #[must_use]
    pub fn with_roots(self, ca_pem: &[u8]) -> Self {
        Self { ca_pem: Some(ca_pem.to_owned()), ..self }
    }

    /// The same with a certificate of our own and its key, as PEM.
    #[must_use]
    pub fn with_identity(self, certificate_pem: &[u8], key_pem: Secret) -> Self {
        Self { identity: Some((certificate_pem.to_owned(), key_pem)), ..self }
    }

    /// The same with other limits: for a connection, and for one attempt of a call.
    #[must_use]
    pub fn with_waits(self, connect: Duration, call: Duration) -> Self {
        Self { connect_wait: connect, call_wait: call, ..self }
    }

    /// The same with other repetitions.
    #[must_use]
    pub fn with_retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// The address.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn is_tls(&self) -> bool {
        self.url.starts_with("https:")
    }

    pub(super) fn bearer(&self) -> Result<Bearer, OptionsError> {
        let value = self.token.as_ref().map(bearer_of).transpose();
        Ok(Bearer(value.map_err(|_| OptionsError::Token("cannot be sent"))?))
    }

    /// Whether the server can be called like this.
    ///
    /// # Errors
    /// [`OptionsError`].
    pub fn check(&self) -> Result<(), OptionsError> {
        self.endpoint().and(self.bearer()).map(|_| ())
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, OptionsError> {
        let endpoint = Endpoint::from_shared(self.url.clone()).map_err(|_| OptionsError::Address(self.url.clone()))?;
        let endpoint = endpoint
            .connect_timeout(self.connect_wait)
            .timeout(self.call_wait)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .keep_alive_while_idle(true);
        if !self.is_tls() {
            return Ok(endpoint);
        }
        let mut tls = match &self.ca_pem {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        // Not part of the limit for the connection.
        tls = tls.timeout(self.connect_wait);
        if let Some((certificate, key)) = &self.identity {
            tls = tls.identity(Identity::from_pem(certificate, key.expose()));
        }
        endpoint.tls_config(tls).map_err(OptionsError::Tls)
    }

    pub(super) fn connect_wait(&self) -> Duration {
        self.connect_wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "oidm_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn what_cannot_be_called_is_said_before() {
        #[track_caller]
        fn check(url: &str, token: Option<&str>, expected: &str) {
            let made = Options::new(url).and_then(|options| match token {
                Some(token) => options.with_token(Secret::new(token.to_owned())),
                None => Ok(options),
            });
            let shown = match made.and_then(|options| options.endpoint().map(|_| ())) {
                Ok(()) => "good".to_owned(),
                Err(error) => format!("{error:?}"),
            };
            assert!(shown.starts_with(expected), "{url}: {shown}");
        }
        check("http://127.0.0.1:8450", None, "good");
        check("http://idmap.example.com:8450", None, "good");
        check("https://idmap.example.com:8450", Some(TOKEN), "good");
        check("http://localhost:8450", Some(TOKEN), "good");
        check("http://idmap.example.com:8450", Some(TOKEN), "TokenInTheClear");
        check("http://127.0.0.1.example.com", Some(TOKEN), "TokenInTheClear");
        check("https://a", Some("short"), "Token(");
        check("https://a", Some(&format!("{TOKEN}\n")), "Token(");
        check("", None, "Address");
        check("idmap.example.com:8450", None, "Address");
        check("ftp://a", None, "Address");
        check("https://a b", None, "Address");
    }

    #[test]
    fn a_token_is_shown_nowhere() {
        let options = Options::new("https://a").unwrap().with_token(Secret::new(TOKEN.to_owned())).unwrap();
        let bearer = options.bearer().unwrap();
        assert!(!format!("{options:?} {bearer:?}").contains("AAAA"));
    }
}

//! The token in use and its renewal. Entry point: [`SignIn`], one way to [`Authorize`].
//!
//! Invariants:
//! - Who finds no token waits for the one request that is under way, and shares its outcome.
//! - A token is renewed while it is still good; whoever needs one meanwhile takes the old one.
//! - After a failure no request is sent before its time, and the time grows with each failure in a row.
//! - A refused token is replaced once: a refusal of an older one than the newest costs no request.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::rand::SystemRandom;
use tokio::time::{Duration, Instant};

use super::super::authorize::{
    Authorize, AuthorizeError, AuthorizeHeader, AuthorizeRequest, BoxFuture, Challenge, Renewal,
};
use super::super::clock::ClockAhead;
use super::super::org_url::OrgUrl;
use super::super::transport::Transport;
use super::answer::{Grant, Outlook, TokenRequestError};
use super::ask::{Denied, Endpoint};
use super::jwt::{ProofOf, Taker};
use super::{ScopeGrant, ServiceApp};
use crate::core::ids::Timestamp;
use crate::core::secret::Secret;

/// A token is renewed after this part of its life, in percent (facts 10.2).
const RENEW_AFTER_PERCENT: u64 = 85;

/// No request for this long after a failure that passes; it doubles with each in a row. The retries of a call wait a
/// little longer, so that each of them makes one real attempt.
const PASSING_HOLD_MILLIS: u64 = 250;
const PASSING_HOLD_MILLIS_MAX: u64 = 30_000;

/// The same after a refusal that somebody has to mend: keys are not repaired within seconds, and Okta logs each attempt.
/// The longest is shorter than the engine's own wait, so that a key that is back is used at its next attempt.
const DEAD_HOLD_MILLIS: u64 = 2_000;
const DEAD_HOLD_MILLIS_MAX: u64 = 60_000;

/// A token younger than this is not replaced because a scope is missing in it: the grant would have had to come since.
const SCOPE_RENEWAL_AGE_MIN: Duration = Duration::from_secs(60);

struct Token {
    /// The whole `Authorization` value.
    header: Secret,
    /// The bare token, for the hash in proofs; only where proofs are made.
    bare: Option<Secret>,
    obtained_at: Instant,
    renew_at: Instant,
    expires_at: Instant,
    /// A scope was missing in it that may have been granted since: due for renewal, and good until then.
    is_outdated: AtomicBool,
    scopes: BTreeSet<String>,
}

impl Token {
    fn new(grant: Grant, asked_at: Instant) -> Self {
        let scheme = if grant.is_dpop { "DPoP" } else { "Bearer" };
        let life = Duration::from_secs(grant.expires_in_seconds);
        Self {
            header: Secret::new(format!("{scheme} {}", grant.token.expose())),
            bare: grant.is_dpop.then_some(grant.token),
            obtained_at: asked_at,
            renew_at: asked_at + life * u32::try_from(RENEW_AFTER_PERCENT).unwrap_or(0) / 100,
            expires_at: asked_at + life,
            is_outdated: AtomicBool::new(false),
            scopes: grant.scopes,
        }
    }

    fn is_due(&self) -> bool {
        self.is_outdated.load(Ordering::Relaxed) || Instant::now() >= self.renew_at
    }

    fn was_sent(&self, headers: &[AuthorizeHeader]) -> bool {
        headers.iter().any(|header| header.value == self.header)
    }
}

/// What renewals leave to the next one.
#[derive(Default)]
struct Renewals {
    failures_in_a_row: u32,
    /// The last failure, and until when it stands.
    held: Option<(Instant, TokenRequestError)>,
    /// Scopes that were granted when they had to be asked for one by one; empty where all are granted.
    granted_singly: BTreeSet<String>,
    /// What the log was told of missing scopes.
    told_missing: BTreeSet<String>,
}

impl Renewals {
    fn held(&self) -> Option<TokenRequestError> {
        let (until, error) = self.held.as_ref()?;
        let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let mut error = error.clone();
        if let TokenRequestError::Throttled { wait_millis, .. } = &mut error {
            *wait_millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        }
        Some(error)
    }

    fn hold(&mut self, error: &TokenRequestError) {
        let doublings = self.failures_in_a_row.min(16);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let millis = match error.outlook() {
            Outlook::Until { wait_millis, .. } => wait_millis,
            Outlook::Dead => (DEAD_HOLD_MILLIS << doublings).min(DEAD_HOLD_MILLIS_MAX),
            Outlook::Passing | Outlook::Unreachable { .. } | Outlook::Nonsense => {
                (PASSING_HOLD_MILLIS << doublings).min(PASSING_HOLD_MILLIS_MAX)
            }
        };
        self.held = Some((Instant::now() + Duration::from_millis(millis), error.clone()));
    }
}

/// Signs requests in as a service app.
pub(in super::super) struct SignIn {
    endpoint: Endpoint,
    wanted: Vec<String>,
    current: Mutex<Option<Arc<Token>>>,
    renewals: tokio::sync::Mutex<Renewals>,
    /// The last failure, until there is a token.
    failure: Mutex<Option<TokenRequestError>>,
}

impl SignIn {
    /// Sends nothing. `clock` is what the client knows of Okta's clock.
    pub(in super::super) fn new(
        app: ServiceApp,
        org: OrgUrl,
        transport: Transport,
        clock: Arc<ClockAhead>,
        now: fn() -> Timestamp,
    ) -> Self {
        let wanted = app.wanted().into_iter().collect();
        let (random, prover) = (SystemRandom::new(), Mutex::new(None));
        Self {
            endpoint: Endpoint { org, app, transport, clock, now, random, prover },
            wanted,
            current: Mutex::new(None),
            renewals: tokio::sync::Mutex::new(Renewals::default()),
            failure: Mutex::new(None),
        }
    }

    fn current(&self) -> Option<Arc<Token>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, token: Option<Arc<Token>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn note_failure(&self, failure: Option<TokenRequestError>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// A token that is good now.
    async fn token(&self) -> Result<Arc<Token>, TokenRequestError> {
        let usable = |token: &Arc<Token>| Instant::now() < token.expires_at;
        let current = self.current();
        if let Some(token) = current.as_ref().filter(|token| !token.is_due()) {
            return Ok(Arc::clone(token));
        }
        if let Some(token) = current.filter(usable) {
            // Somebody else renews it, or it could not be renewed a moment ago: it is good for a while yet.
            let Ok(mut renewals) = self.renewals.try_lock() else { return Ok(token) };
            if let Some(newer) = self.current().filter(|newer| !Arc::ptr_eq(newer, &token)) {
                return Ok(newer);
            }
            if renewals.held().is_some() {
                return Ok(token);
            }
            return match self.renew(&mut renewals).await {
                Ok(renewed) => Ok(renewed),
                Err(error) => {
                    tracing::warn!(%error, "the token could not be renewed yet");
                    Ok(token)
                }
            };
        }
        let mut renewals = self.renewals.lock().await;
        if let Some(token) = self.current().filter(usable) {
            return Ok(token);
        }
        match renewals.held() {
            Some(error) => Err(error),
            None => self.renew(&mut renewals).await,
        }
    }

    async fn renew(&self, renewals: &mut Renewals) -> Result<Arc<Token>, TokenRequestError> {
        let asked_at = Instant::now();
        match self.ask(renewals).await {
            Ok(grant) => {
                (renewals.failures_in_a_row, renewals.held) = (0, None);
                let missing: BTreeSet<String> =
                    self.wanted.iter().filter(|scope| !grant.scopes.contains(*scope)).cloned().collect();
                if missing != renewals.told_missing {
                    let names = missing.iter().cloned().collect::<Vec<_>>().join(" ");
                    if missing.is_empty() {
                        tracing::info!("all OAuth scopes are granted now");
                    } else {
                        tracing::warn!(missing = names, "OAuth scopes are not granted to the service app");
                    }
                    renewals.told_missing = missing;
                }
                let token = Arc::new(Token::new(grant, asked_at));
                self.replace(Some(Arc::clone(&token)));
                self.note_failure(None);
                Ok(token)
            }
            Err(error) => {
                self.note_failure(Some(error.clone()));
                renewals.hold(&error);
                Err(error)
            }
        }
    }

    /// Asks for all scopes; if the request is refused for one of them, for as many as there are. Some orgs refuse, others
    /// leave away what is not granted (facts 7.2).
    async fn ask(&self, renewals: &mut Renewals) -> Result<Grant, TokenRequestError> {
        let refusal = match self.endpoint.ask(&self.wanted).await {
            Ok(grant) => {
                renewals.granted_singly.clear();
                return Ok(grant);
            }
            Err(Denied::Other(error)) => return Err(error),
            Err(Denied::Scope(error)) => error,
        };
        // The second time without what was known before, which may have been taken back.
        for _ in 0..2 {
            let mut granted = Vec::new();
            for scope in &self.wanted {
                if renewals.granted_singly.contains(scope) {
                    granted.push(scope.clone());
                    continue;
                }
                match self.endpoint.ask(std::slice::from_ref(scope)).await {
                    Ok(grant) if grant.scopes.contains(scope) => granted.push(scope.clone()),
                    Ok(_) | Err(Denied::Scope(_)) => {}
                    Err(Denied::Other(error)) => return Err(error),
                }
            }
            renewals.granted_singly.clear();
            if granted.is_empty() {
                return Err(refusal);
            }
            match self.endpoint.ask(&granted).await {
                Ok(grant) => {
                    renewals.granted_singly.extend(granted);
                    return Ok(grant);
                }
                Err(Denied::Other(error)) => return Err(error),
                Err(Denied::Scope(_)) => {}
            }
        }
        Err(refusal)
    }

    async fn headers(&self, request: AuthorizeRequest<'_>) -> Result<Vec<AuthorizeHeader>, TokenRequestError> {
        let token = self.token().await?;
        let mut headers = vec![AuthorizeHeader { name: "authorization", value: token.header.clone() }];
        if let (Some(bare), Some(prover)) = (&token.bare, self.endpoint.prover()) {
            let of = ProofOf { method: "GET", url: request.url, token: Some(bare) };
            let value = prover.prove(&of, self.endpoint.server_now(), &self.endpoint.random)?;
            headers.push(AuthorizeHeader { name: "dpop", value });
        }
        Ok(headers)
    }

    /// Drops the token if it is the one that was sent.
    fn drop_sent(&self, sent: &[AuthorizeHeader]) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|token| token.was_sent(sent)) {
            *current = None;
        }
    }
}

impl Authorize for SignIn {
    fn authorize<'a>(
        &'a self,
        request: AuthorizeRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<AuthorizeHeader>, AuthorizeError>> {
        Box::pin(async move { self.headers(request).await.map_err(AuthorizeError::Token) })
    }

    /// The next attempt asks for a token; if there is none, it says why.
    fn on_unauthorized<'a>(&'a self, challenge: Challenge<'a>) -> BoxFuture<'a, Renewal> {
        self.drop_sent(challenge.sent);
        Box::pin(async { Renewal::Renewed })
    }

    /// A scope may have been granted since the token was given.
    fn on_missing_scope(&self, scope: &str, sent: &[AuthorizeHeader]) -> Renewal {
        let Some(token) = self.current() else { return Renewal::Renewed };
        if !token.was_sent(sent) {
            return if token.scopes.contains(scope) { Renewal::Renewed } else { Renewal::Dead };
        }
        if token.obtained_at.elapsed() < SCOPE_RENEWAL_AGE_MIN {
            return Renewal::Dead;
        }
        token.is_outdated.store(true, Ordering::Relaxed);
        Renewal::Renewed
    }

    fn failure(&self) -> Option<AuthorizeError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().map(AuthorizeError::Token)
    }

    fn on_nonce(&self, dpop_nonce: &str) {
        if let Some(prover) = self.endpoint.prover() {
            prover.take_nonce(Taker::Reads, dpop_nonce);
        }
    }

    fn scopes(&self) -> Option<ScopeGrant> {
        let granted = self.current()?.scopes.clone();
        Some(ScopeGrant { wanted: self.wanted.iter().cloned().collect(), granted })
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("client_id", &self.endpoint.app.client_id).finish_non_exhaustive()
    }
}

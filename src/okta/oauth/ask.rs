//! One token request, repeated where the answer itself asks for it. Entry point: [`Endpoint::ask`].
//!
//! Invariants:
//! - An ask ends: each reason to repeat it counts once, but for a new nonce, which counts twice.
//! - A repetition has a new assertion and a new proof.

use std::sync::{Arc, Mutex, PoisonError};

use ring::rand::SystemRandom;
use url::form_urlencoded;
use zeroize::Zeroize;

use super::super::clock::ClockAhead;
use super::super::org_url::OrgUrl;
use super::super::transport::{Answer, TOKEN_PATH, Transport};
use super::super::wire::FailureBody;
use super::ServiceApp;
use super::answer::{Grant, Refusal, TokenRequestError, refusal};
use super::jwt::{ProofOf, Prover, Taker, assertion};
use crate::core::ids::Timestamp;
use crate::core::secret::Secret;

/// Repetitions for the sake of a proof: one to begin with proofs, one for the nonce, one for a nonce that has just changed.
const PROOF_RETRIES_MAX: u32 = 3;

/// A change of what is known about Okta's clock by which the assertion is made anew, in milliseconds: less explains no
/// refusal. More may explain any refusal of a client: not all say that it is about time.
const CLOCK_CHANGE_MILLIS_MIN: i64 = 5_000;

/// Longest wait after a refusal with 429, in milliseconds: windows have a minute, and a little (facts 6.3).
const THROTTLED_WAIT_MILLIS_MAX: i64 = 90_000;
/// The wait where the refusal says nothing of use, in milliseconds.
const THROTTLED_WAIT_MILLIS: i64 = 30_000;

/// The token endpoint of an org, as one app sees it.
pub(super) struct Endpoint {
    pub(super) org: OrgUrl,
    pub(super) app: ServiceApp,
    pub(super) transport: Transport,
    pub(super) clock: Arc<ClockAhead>,
    pub(super) now: fn() -> Timestamp,
    pub(super) random: SystemRandom,
    /// Makes proofs, once Okta has asked for one.
    pub(super) prover: Mutex<Option<Arc<Prover>>>,
}

/// Why an ask ended without a token.
pub(super) enum Denied {
    /// One of these scopes is not granted; others may be.
    Scope(TokenRequestError),
    /// Whatever was asked for.
    Other(TokenRequestError),
}

impl From<TokenRequestError> for Denied {
    fn from(error: TokenRequestError) -> Self {
        Self::Other(error)
    }
}

fn form(scopes: &[String], assertion: &Secret) -> Secret {
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(assertion.expose().len() + 512));
    form.append_pair("grant_type", "client_credentials")
        .append_pair("scope", &scopes.join(" "))
        .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        .append_pair("client_assertion", assertion.expose());
    Secret::new(form.finish())
}

impl Endpoint {
    /// Now, by Okta's clock as far as it is known.
    pub(super) fn server_now(&self) -> Timestamp {
        (self.now)().plus_millis(self.clock.millis().unwrap_or(0))
    }

    pub(super) fn prover(&self) -> Option<Arc<Prover>> {
        self.prover.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins with proofs if none were made so far.
    fn begin_proofs(&self) -> Result<Arc<Prover>, TokenRequestError> {
        let mut prover = self.prover.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prover) = &*prover {
            return Ok(Arc::clone(prover));
        }
        let made = Arc::new(Prover::new(&self.random)?);
        *prover = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Asks for a token with these scopes.
    pub(super) async fn ask(&self, scopes: &[String]) -> Result<Grant, Denied> {
        let (mut proof_retries, mut clock_corrected) = (0, false);
        loop {
            let ahead_before = self.clock.millis();
            let mut answer = self.send(scopes).await?;
            let read = self.read(&answer, scopes);
            answer.body.zeroize();
            match read {
                Ok(grant) => return Ok(grant),
                Err(Refusal::ProofWanted(error)) => {
                    let prover = self.begin_proofs()?;
                    if let Some(nonce) = answer.headers.first("dpop-nonce") {
                        prover.take_nonce(Taker::Tokens, nonce);
                    }
                    proof_retries += 1;
                    if proof_retries > PROOF_RETRIES_MAX {
                        return Err(error.into());
                    }
                }
                Err(Refusal::Times(_) | Refusal::Other(_)) if !clock_corrected && self.has_moved_from(ahead_before) => {
                    clock_corrected = true;
                }
                Err(Refusal::Times(said)) => {
                    return Err(TokenRequestError::Clock { ahead_millis: self.clock.millis(), said }.into());
                }
                Err(Refusal::Scope(said)) => {
                    return Err(Denied::Scope(TokenRequestError::Scope { scopes: scopes.to_vec(), said }));
                }
                Err(Refusal::Throttled) => return Err(self.throttled(&answer).into()),
                Err(Refusal::Other(error)) => return Err(error.into()),
            }
        }
    }

    /// Whether what is known about Okta's clock differs from `ahead_before` by enough to explain a refusal.
    fn has_moved_from(&self, ahead_before: Option<i64>) -> bool {
        let changed = self.clock.millis().unwrap_or(0).abs_diff(ahead_before.unwrap_or(0));
        changed >= CLOCK_CHANGE_MILLIS_MIN.unsigned_abs()
    }

    fn read(&self, answer: &Answer, scopes: &[String]) -> Result<Grant, Refusal> {
        if answer.status == 200 {
            let grant = Grant::read(&answer.headers, &answer.body, scopes).map_err(Refusal::Other)?;
            if grant.is_dpop && self.prover().is_none() {
                let what = "holds a token that needs a proof, which was not asked for";
                return Err(Refusal::Other(TokenRequestError::Unusable { what }));
            }
            return Ok(grant);
        }
        Err(refusal(answer.status, &answer.headers, &answer.body, &self.app))
    }

    async fn send(&self, scopes: &[String]) -> Result<Answer, TokenRequestError> {
        let url = self.org.join(TOKEN_PATH);
        let assertion = assertion(&self.app, &url, self.server_now(), &self.random)?;
        let of = ProofOf { method: "POST", url: &url, token: None };
        let proof = self.prover().map(|prover| prover.prove(&of, self.server_now(), &self.random)).transpose()?;
        let form = form(scopes, &assertion);
        let answer = self.transport.post_token_form(&self.org, &form, proof.as_ref()).await;
        let answer = answer.map_err(TokenRequestError::Send)?;
        let (status, request_id) = (answer.status, answer.headers.request_id());
        tracing::debug!(path = TOKEN_PATH, status, request_id, scopes = scopes.len(), "answer to the token request");
        // An error page may come from a proxy, whose clock is not Okta's; a refusal in OAuth's form does not.
        let is_okta = status == 200 || request_id.is_some() || FailureBody::read(None, &answer.body).code.is_some();
        if let Some(date) = answer.headers.server_date().filter(|_| is_okta) {
            self.clock.observe(date, (self.now)());
        }
        if let (Some(nonce), Some(prover)) = (answer.headers.first("dpop-nonce"), self.prover()) {
            prover.take_nonce(Taker::Tokens, nonce);
        }
        Ok(answer)
    }

    fn throttled(&self, answer: &Answer) -> TokenRequestError {
        let (rate, now) = (answer.headers.rate(), (self.now)());
        let server_now = answer.headers.server_date().unwrap_or(now);
        let reset = rate.reset_unix_s.map(|reset| reset.saturating_mul(1_000).saturating_sub(server_now.as_millis()));
        let retry_after = rate.retry_after_s.and_then(|seconds| i64::try_from(seconds).ok());
        let wait = retry_after.map(|seconds| seconds.saturating_mul(1_000)).or(reset);
        // A second more than said: the two clocks agree to the second only.
        let wait = wait.filter(|wait| *wait >= 0).map_or(THROTTLED_WAIT_MILLIS, |wait| wait.saturating_add(1_000));
        let wait = wait.min(THROTTLED_WAIT_MILLIS_MAX);
        TokenRequestError::Throttled { until: now.plus_millis(wait), wait_millis: wait.unsigned_abs() }
    }
}

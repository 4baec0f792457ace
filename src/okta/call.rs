//! One call: wait for the budget, sign in, send, read, and do it again where that helps. The one retry layer.
//!
//! Entry point: [`Caller::call`]. What to do after a failed attempt is decided in [`crate::core::backoff`].
//!
//! Invariants:
//! - A call ends: every kind of repetition is bounded, and every attempt has time limits.
//! - The number of a request is taken when it is sent, after all waiting; the answer carries the number of its own attempt.
//! - A permit is never held while a call waits for its next attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio::time::{Duration, sleep};
use url::Url;

use super::authorize::{Authorize, AuthorizeHeader, AuthorizeRequest, Challenge, Renewal};
use super::clock::ClockAhead;
use super::error::{Endpoint, OktaError, ProofRefusal, StatusFailure};
use super::headers::AnswerHeaders;
use super::limiter::{Failing, Health, Limiter, Permit, Priority, Standing};
use super::transport::{Head, HeaderText, SendError, Transport};
use super::wire::BodyError;
use crate::core::backoff::{PageSize, Tries, Trouble, Verdict};
use crate::core::ids::{RequestNumber, Timestamp};
use crate::core::rate::Bucket;

/// Bodies from this size on are decoded on a thread for blocking work: decoding runs at about 200 MB/s, and 500 µs is
/// what a task may keep a worker.
const DECODE_INLINE_BYTES_MAX: usize = 100 * 1024;

/// How often a web page in place of the very first answer is taken for a passing fault: after that the address is wrong.
const FIRST_PAGE_RETRIES_MAX: u32 = 2;

/// Gives a request its number. Numbers are unique and increasing over the whole life of a store.
pub trait NumberRequests: Send + Sync {
    /// The next number.
    fn next(&self) -> RequestNumber;

    /// The largest number given out so far, in this process or before it. Whatever is asked for later gets a larger one.
    fn newest(&self) -> RequestNumber;
}

impl NumberRequests for std::sync::atomic::AtomicU64 {
    // In one total order with `newest`: that a debt is paid only by a later request rests on it.
    fn next(&self) -> RequestNumber {
        RequestNumber(self.fetch_add(1, Ordering::SeqCst).wrapping_add(1))
    }

    fn newest(&self) -> RequestNumber {
        RequestNumber(self.load(Ordering::SeqCst))
    }
}

/// What to ask for.
pub(super) struct Call<'a> {
    /// The URL for a page size; [`PageSize::First`] calls it again with a smaller one.
    pub(super) url: &'a (dyn Fn(u32) -> Url + Send + Sync),
    pub(super) page: PageSize,
    pub(super) bucket: Bucket,
    pub(super) priority: Priority,
    pub(super) content_type: &'static str,
    /// Public metadata is read without the credential.
    pub(super) with_credential: bool,
}

/// When an exchange took place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) sent: RequestNumber,
    pub(super) received_at: Timestamp,
    pub(super) server_date: Option<Timestamp>,
}

/// A success.
pub(super) struct Answered<T> {
    pub(super) value: T,
    pub(super) headers: AnswerHeaders,
    pub(super) exchange: Exchange,
    /// The URL and page size of the attempt that succeeded.
    pub(super) url: Url,
    pub(super) limit: u32,
}

/// A failure, with the exchange where there was an answer.
pub(super) struct Failed {
    pub(super) error: OktaError,
    pub(super) exchange: Option<Exchange>,
    /// The credential that the request was sent with.
    sent_with: Vec<AuthorizeHeader>,
    /// Milliseconds that this call has to wait before its next attempt, while others of its bucket may go.
    own_wait_millis: u64,
    /// That nothing of its bucket is answered, and this call has waited for as long as it could.
    failing: Option<Failing>,
}

impl From<OktaError> for Failed {
    fn from(error: OktaError) -> Self {
        Self { error, exchange: None, sent_with: Vec::new(), own_wait_millis: 0, failing: None }
    }
}

impl Failed {
    /// Says that it is no matter of this call, if so.
    fn of_outage(mut self: Box<Self>) -> Box<Self> {
        if let Some(Failing { bucket, since, next_at, failures }) = self.failing {
            let source = Box::new(self.error);
            self.error = OktaError::Outage { source, bucket, since, next_at, failures };
        }
        self
    }
}

/// Sends the calls of one org.
pub(super) struct Caller {
    pub(super) transport: Transport,
    pub(super) limiter: Limiter,
    pub(super) authorize: Arc<dyn Authorize>,
    pub(super) request_numbers: Arc<dyn NumberRequests>,
    pub(super) now: fn() -> Timestamp,
    /// Milliseconds since the epoch; [`NEVER`] before the first use.
    pub(super) credential_last_used: AtomicI64,
    /// How far Okta's clock is ahead.
    pub(super) clock: Arc<ClockAhead>,
    /// Whether this address has ever answered as Okta does: then a web page is a passing fault, not a wrong address.
    pub(super) has_answered: AtomicBool,
    /// Held by every attempt with a credential; exclusively by one whose proof must not lose its nonce to another's answer.
    pub(super) attempts: tokio::sync::RwLock<()>,
}

/// No time at all.
pub(super) const NEVER: i64 = i64::MIN;

/// What earlier attempts of a call left behind.
#[derive(Default)]
struct History {
    tries: Tries,
    standing: Standing,
    attempt: u32,
    /// Whether the credential was renewed for the sake of a scope.
    scope_renewed: bool,
    /// Bare 401s with a nonce. The second is taken to be about the token.
    implied_proofs: u32,
    first_request_id: Option<Box<str>>,
}

impl Caller {
    /// Makes the call, repeated as often as it helps. `decode` sees the body of a success.
    pub(super) async fn call<T, D>(&self, call: &Call<'_>, decode: D) -> Result<Answered<T>, Box<Failed>>
    where
        T: Send + 'static,
        D: Fn(&[u8]) -> Result<T, BodyError> + Clone + Send + 'static,
    {
        let mut page = call.page;
        let mut history = History { standing: self.limiter.call(), ..History::default() };
        loop {
            let limit = match page {
                PageSize::None => 0,
                PageSize::First { limit, .. } | PageSize::Next { limit, .. } => limit,
            };
            let url = (call.url)(limit);
            let failed = match self.attempt(call, &url, limit, &mut history, decode.clone()).await {
                Ok(answered) => return Ok(answered),
                Err(failed) => failed,
            };
            history.attempt += 1;
            if history.first_request_id.is_none() {
                history.first_request_id = failed.error.request_id().map(Box::from);
            }
            let trouble = self.trouble(&failed, history.attempt, &mut history.implied_proofs);
            let verdict = match failed.failing {
                None => history.tries.decide(trouble, page, fastrand::u64(..)),
                Some(_) => history.tries.decide_last(trouble, page, fastrand::u64(..)),
            };
            if !history.scope_renewed && self.has_new_scope(&failed) {
                history.scope_renewed = true;
                continue;
            }
            if verdict != Verdict::GiveUp {
                // The kind and not the message: a summary of Okta's may name a person.
                let (kind, request_id) = (failed.error.kind(), failed.error.request_id());
                tracing::warn!(
                    path = url.path(),
                    ?kind,
                    request_id,
                    attempt = history.attempt,
                    ?verdict,
                    "call failed"
                );
            }
            match (verdict, page) {
                (Verdict::Again { wait_millis }, _) => {
                    let wait_millis = wait_millis.max(failed.error.credential_wait_millis().unwrap_or(0));
                    let wait_millis = wait_millis.max(failed.own_wait_millis);
                    sleep(Duration::from_millis(wait_millis)).await;
                }
                (Verdict::Smaller { limit, wait_millis }, PageSize::First { floor, .. }) => {
                    page = PageSize::First { limit, floor };
                    sleep(Duration::from_millis(wait_millis)).await;
                }
                (Verdict::RestartWalk { limit }, _) => {
                    let error = OktaError::RestartWalk { limit, source: Box::new(failed.error) };
                    return Err(Box::new(Failed { error, ..*failed }));
                }
                (Verdict::Renew, _) if call.with_credential && self.renewed(&failed).await => {}
                (Verdict::Renew | Verdict::Smaller { .. } | Verdict::GiveUp, _) => return Err(failed.of_outage()),
            }
        }
    }

    /// `attempts` so far, this one included.
    fn trouble(&self, failed: &Failed, attempts: u32, implied_proofs: &mut u32) -> Trouble {
        match &failed.error {
            OktaError::Status(failure) if failure.proof == Some(ProofRefusal::Implied) => {
                *implied_proofs += 1;
                if *implied_proofs == 2 { Trouble::Unauthorized } else { Trouble::Proof }
            }
            OktaError::Body { source: BodyError::Html, .. }
                if attempts <= FIRST_PAGE_RETRIES_MAX || self.has_answered.load(Ordering::Relaxed) =>
            {
                Trouble::Transient
            }
            error => error.trouble(),
        }
    }

    async fn renewed(&self, failed: &Failed) -> bool {
        let challenge = Challenge { sent: &failed.sent_with };
        self.authorize.on_unauthorized(challenge).await == Renewal::Renewed
    }

    /// Whether a request that was refused for want of a scope may have it by now.
    fn has_new_scope(&self, failed: &Failed) -> bool {
        let OktaError::Status(failure) = &failed.error else { return false };
        let scope = failure.missing_scope.as_deref().filter(|_| failure.status == 403);
        scope.is_some_and(|scope| self.authorize.on_missing_scope(scope, &failed.sent_with) == Renewal::Renewed)
    }

    async fn attempt<T, D>(
        &self,
        call: &Call<'_>,
        url: &Url,
        limit: u32,
        history: &mut History,
        decode: D,
    ) -> Result<Answered<T>, Box<Failed>>
    where
        T: Send + 'static,
        D: Fn(&[u8]) -> Result<T, BodyError> + Send + 'static,
    {
        let endpoint = Endpoint::of(url);
        let mut permit = self.limiter.acquire(call.bucket, call.priority, history.standing).await;
        history.standing = permit.standing();
        let (alone, beside) = match (call.with_credential, history.tries.is_alone()) {
            (true, true) => (Some(self.attempts.write().await), None),
            (true, false) => (None, Some(self.attempts.read().await)),
            (false, _) => (None, None),
        };
        let (headers, sent_with) = self.request_headers(call, url, &endpoint, history).await?;
        let sent = self.request_numbers.next();
        permit.sending();
        let head = match self.transport.get(url, headers).await {
            Ok(head) => head,
            Err(source) => {
                let failing = lost(permit, &source, history);
                return Err(Box::new(Failed { failing, ..OktaError::Send { endpoint, source }.into() }));
            }
        };
        permit.headed();
        let okta_date = self.on_head(call, &head);
        // Only now may the next proof be made: it knows the nonce. The body is nobody else's matter.
        drop((alone, beside));
        let (status, headers) = (head.status(), head.headers().clone());
        let answer = head.whole().await;
        let received_at = (self.now)();
        let exchange = Exchange { sent, received_at, server_date: headers.server_date() };
        let body = match answer {
            Ok(answer) => answer.body,
            Err(source) => {
                let failing = history.book(permit, source.health(), &headers, okta_date);
                return Err(Box::new(Failed { failing, ..OktaError::Send { endpoint, source }.into() }));
            }
        };
        let request_id = headers.request_id();
        tracing::debug!(endpoint = %endpoint, status, request_id, bytes = body.len(), number = sent.0, "answer from okta");
        let exchange = Some(exchange);
        if status != 200 {
            let on_next_page = matches!(call.page, PageSize::Next { .. });
            let mut failure = StatusFailure::new(endpoint, status, &headers, &body, on_next_page);
            if status == 401 && !sent_with.iter().any(|header| header.name == "dpop") {
                failure.proof = None;
            }
            let (mut own_wait_millis, mut failing) = (0, None);
            if status == 429 {
                let wait = permit.refused(&headers, okta_date, fastrand::u64(..));
                let millis = i64::try_from(wait.millis).unwrap_or(i64::MAX);
                failure.throttled_until = Some(received_at.plus_millis(millis));
                own_wait_millis = if wait.is_for_call { wait.millis } else { 0 };
            } else {
                failing = history.book(permit, failure.health(), &headers, okta_date);
            }
            let error = OktaError::Status(Box::new(failure));
            return Err(Box::new(Failed { error, exchange, sent_with, own_wait_millis, failing }));
        }
        history.book(permit, Health::Well, &headers, okta_date);
        match decode_body(body, decode).await {
            Ok(value) => {
                if call.with_credential {
                    self.has_answered.store(true, Ordering::Relaxed);
                }
                let exchange = Exchange { sent, received_at, server_date: headers.server_date() };
                Ok(Answered { value, headers, exchange, url: url.clone(), limit })
            }
            Err(source) => {
                let error = OktaError::Body { endpoint, request_id, source };
                Err(Box::new(Failed { error, exchange, sent_with, own_wait_millis: 0, failing: None }))
            }
        }
    }

    /// Takes in what the head of an answer says. Answers Okta's clock, if it tells it.
    fn on_head(&self, call: &Call<'_>, head: &Head) -> Option<Timestamp> {
        let (status, headers, now) = (head.status(), head.headers(), (self.now)());
        // An error page without Okta's id may come from a proxy, whose clock is not Okta's.
        let date = headers.server_date().filter(|_| status == 200 || headers.request_id().is_some());
        if let Some(date) = date {
            self.clock.observe(date, now);
        }
        if call.with_credential && status != 401 {
            self.credential_last_used.store(now.as_millis(), Ordering::Relaxed);
        }
        if let Some(nonce) = headers.first("dpop-nonce") {
            self.authorize.on_nonce(nonce);
        }
        date
    }

    /// The headers of an attempt, and those of the credential among them.
    async fn request_headers(
        &self,
        call: &Call<'_>,
        url: &Url,
        endpoint: &Endpoint,
        history: &History,
    ) -> Result<(Vec<(&'static str, HeaderText)>, Vec<AuthorizeHeader>), Box<Failed>> {
        let mut headers = vec![
            ("accept", HeaderText::Plain("application/json".to_owned())),
            ("content-type", HeaderText::Plain(call.content_type.to_owned())),
        ];
        let mut credential = Vec::new();
        if call.with_credential {
            let request = AuthorizeRequest { url, attempt: history.attempt };
            let authorized = self.authorize.authorize(request).await;
            credential = authorized
                .map_err(|source| Box::new(OktaError::Authorize { endpoint: endpoint.clone(), source }.into()))?;
            let sent = credential.iter().map(|header| (header.name, HeaderText::Sensitive(header.value.clone())));
            headers.extend(sent);
        }
        // The convention of Okta's own clients (facts 6.3): the id of the first try and the number of this one.
        if let Some(request_id) = &history.first_request_id {
            headers.push(("x-okta-retry-for", HeaderText::Plain(request_id.to_string())));
            headers.push(("x-okta-retry-count", HeaderText::Plain(history.tries.count().to_string())));
        }
        Ok((headers, credential))
    }
}

impl History {
    /// Books an answer, and counts it if it was a failure.
    fn book(
        &mut self,
        permit: Permit,
        health: Health,
        headers: &AnswerHeaders,
        date: Option<Timestamp>,
    ) -> Option<Failing> {
        self.standing.failures += u32::from(health == Health::Failing);
        permit.answered(headers, date, health, fastrand::u64(..))
    }
}

/// Books a request that was not answered.
fn lost(permit: Permit, source: &SendError, history: &mut History) -> Option<Failing> {
    let health = source.health();
    history.standing.failures += u32::from(health == Health::Failing);
    match source.is_unsent() {
        true => permit.unsent(health, fastrand::u64(..)),
        false => permit.unanswered(health, fastrand::u64(..)),
    }
}

async fn decode_body<T, D>(body: Vec<u8>, decode: D) -> Result<T, BodyError>
where
    T: Send + 'static,
    D: Fn(&[u8]) -> Result<T, BodyError> + Send + 'static,
{
    if body.len() <= DECODE_INLINE_BYTES_MAX {
        return decode(&body);
    }
    match tokio::task::spawn_blocking(move || decode(&body)).await {
        Ok(decoded) => decoded,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and threw the work away.
            Err(_) => Err(BodyError::Truncated),
        },
    }
}

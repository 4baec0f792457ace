//! Answers that are worth waiting for: of a revision that is about to be reached, or about somebody who is being read.
//!
//! Entry points: [`Patience::until`], then [`Patience::allows`] between two looks.
//!
//! Invariants:
//! - Whoever waits holds neither a snapshot nor a place in a queue, and looks again only when something was committed or the
//!   coverage has changed.
//! - A caller's own time limit is met: he has an answer when half of it is over.
//! - Only so many wait at once; the others are answered as they would be without.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Services;
use super::ask::{Answered, Call};
use super::errors::Failure;

/// An answer is waited for no longer than this, in milliseconds. Stands in `RequestContext.at_least_revision` and
/// `ResponseMeta.completeness`.
const WAIT_MILLIS_MAX: u64 = 3_000;

/// Commits are collected before another look, in milliseconds.
const COLLECT_MILLIS: u64 = 10;

/// How often it is looked whether the index or the coverage has changed, in milliseconds: neither says so.
const LOOK_MILLIS: u64 = 40;

/// Calls that wait at once: each may cost a look per commit.
pub(super) const WAITING_MAX: usize = 64;

/// How long one call may wait, and the best that it has so far.
pub(super) struct Patience<T> {
    until: Instant,
    place: Option<OwnedSemaphorePermit>,
    /// An answer that lacks only what may come.
    early: Option<T>,
}

impl<T> Patience<T> {
    /// Until [`until`].
    pub(super) fn until(until: Instant) -> Self {
        Self { until, place: None, early: None }
    }

    /// Takes what a look brought. `None`: it is worth another look, and the time for it has come.
    pub(super) async fn take(
        &mut self,
        services: &Services,
        call: &mut Call,
        answered: Answered<T>,
    ) -> Option<Result<T, Failure>> {
        if !answered.is_early {
            return Some(match (answered.answer, self.early.take()) {
                // What was known before is better than no answer.
                (Err(_), Some(early)) => Ok(early),
                (answer, _) => answer,
            });
        }
        let is_of_index = matches!(answered.answer, Err(Failure::RevisionNotReached { what: "index", .. }));
        if !self.allows(services, call, is_of_index).await {
            let is_ending = services.drain().is_cancelled();
            return Some(match answered.answer {
                // It might still have been reached: another server may say.
                Err(Failure::RevisionNotReached { .. }) if is_ending => Err(Failure::NotServing(None)),
                answer => answer,
            });
        }
        self.early = answered.answer.ok().or(self.early.take());
        call.is_asked_at(services.now());
        None
    }

    /// Waits until it is worth looking again. Where nobody writes, nothing is waited for.
    async fn allows(&mut self, services: &Services, call: &Call, is_of_index: bool) -> bool {
        let mut revisions = call.view().reader().revisions();
        let is_written = revisions.has_changed().is_ok();
        if !is_written || Instant::now() >= self.until {
            return false;
        }
        if self.place.is_none() {
            self.place = Arc::clone(services.waiting()).try_acquire_owned().ok();
        }
        if self.place.is_none() {
            return false;
        }
        // What was committed since the look must not be slept through.
        let seen = call.looked_at();
        let changed = async {
            let is_newer = revisions.wait_for(|revision| *revision > seen).await.is_ok();
            tokio::time::sleep(Duration::from_millis(COLLECT_MILLIS)).await;
            is_newer
        };
        // A list that brings no row is read to its end without a commit that counts.
        let generation = call.generation();
        let quiet = async {
            loop {
                tokio::time::sleep(Duration::from_millis(LOOK_MILLIS)).await;
                if is_of_index || call.view().reader().coverage().generation() != generation {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            () = services.drain().cancelled() => false,
            () = tokio::time::sleep_until(self.until) => false,
            is_newer = changed => is_newer,
            () = quiet => true,
        }
    }
}

/// Until when the answer of a call that began at `began` may be waited for; `metadata`: of the request, which may say how long its caller
/// waits.
pub(super) fn until(metadata: &impl AsRef<HeaderMap>, began: Instant) -> Instant {
    let most = Duration::from_millis(WAIT_MILLIS_MAX);
    began + caller_waits(metadata.as_ref()).map_or(most, |time| most.min(time / 2))
}

/// How long the caller waits, by the header `grpc-timeout`: up to eight digits and a unit.
pub(super) fn caller_waits(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_say_how_long_they_wait() {
        #[track_caller]
        fn check(text: &str, millis: Option<u64>) {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", http::HeaderValue::from_bytes(text.as_bytes()).unwrap());
            assert_eq!(caller_waits(&headers), millis.map(Duration::from_millis), "{text}");
        }
        check("300m", Some(300));
        check("2S", Some(2_000));
        check("99999999H", Some(99_999_999 * 3_600_000));
        check("1000u", Some(1));
        for nonsense in ["", "m", "-1S", "1", "123456789m", "1x", "ä"] {
            check(nonsense, None);
        }
        assert_eq!(caller_waits(&HeaderMap::new()), None);
    }
}

//! Who may send when: the shell around [`crate::core::rate::Scheduler`].
//!
//! Entry points: [`Limiter::acquire`], [`Permit`].
//!
//! Invariants:
//! - Whoever holds a [`Permit`] counts as in flight; dropping it, cancelled or not, gives the place back.
//! - Who goes first is decided in one place, the scheduler. A bucket that is blocked holds nobody of another bucket back.
//! - Waits use the monotonic clock of the runtime; differences to Okta's clock come from Okta's own headers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant, sleep_until};

use super::headers::AnswerHeaders;
use crate::core::backoff::concurrency_wait_millis;
use crate::core::ids::Timestamp;
pub use crate::core::rate::Priority;
use crate::core::rate::{Bucket, Moment, Place, RateConfig, Scheduler, Timing};

/// Limits over all buckets of an org.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterConfig {
    /// Limits of each bucket.
    pub bucket: RateConfig,
    /// Most requests of all buckets in flight, at least 1 is used. Okta refuses at 35 on free orgs, 75 elsewhere, others'
    /// requests included (facts 6.1).
    pub in_flight_max: u32,
}

impl Default for LimiterConfig {
    fn default() -> Self {
        Self { bucket: RateConfig::default(), in_flight_max: 16 }
    }
}

/// What is known of a bucket, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketState {
    /// Which one.
    pub bucket: Bucket,
    /// Requests of a window, the caller's share.
    pub limit: Option<u64>,
    /// Requests left in the window, the reserve included; `None` when the window is over or unknown.
    pub remaining: Option<u64>,
    /// When the window or a block is over, by the local clock; `None` when nothing lies ahead.
    pub resets_at: Option<Timestamp>,
    /// The same if somebody waits for it; `None` when nobody waits, or only for an answer.
    pub waits_until: Option<Timestamp>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: usize,
    /// Answers 429 since the start.
    pub refused: u64,
    /// When the last request was sent, by the local clock.
    pub last_used: Option<Timestamp>,
}

struct State {
    scheduler: Scheduler,
    waiters: BTreeMap<Place, oneshot::Sender<Permit>>,
    last_used: BTreeMap<Bucket, Timestamp>,
}

struct Shared {
    origin: Instant,
    now: fn() -> Timestamp,
    state: Mutex<State>,
    /// Rings when a request has ended: what a waiter waits for may be another moment now.
    settled: Notify,
}

/// The budgets of one org. Cheap to clone.
#[derive(Clone)]
pub(super) struct Limiter(Arc<Shared>);

/// The right to have one request in flight.
pub(super) struct Permit {
    limiter: Limiter,
    bucket: Bucket,
    /// The request is sent then, or later.
    granted_at: Moment,
    settled: bool,
}

/// What a refusal with 429 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// Milliseconds until the next attempt.
    pub(super) millis: u64,
    /// Whether the call has to wait by itself. Otherwise its bucket waits, and [`Limiter::acquire`] with it.
    pub(super) is_for_call: bool,
}

impl Limiter {
    pub(super) fn new(config: LimiterConfig, now: fn() -> Timestamp) -> Self {
        let scheduler = Scheduler::new(config.bucket, config.in_flight_max);
        let state = State { scheduler, waiters: BTreeMap::new(), last_used: BTreeMap::new() };
        Self(Arc::new(Shared { origin: Instant::now(), now, state: Mutex::new(state), settled: Notify::new() }))
    }

    /// Waits until a request may be sent. Safe to cancel.
    pub(super) async fn acquire(&self, bucket: Bucket, priority: Priority) -> Permit {
        let (granted, mut grant) = oneshot::channel();
        let place = {
            let mut state = self.lock();
            let place = state.scheduler.queue(bucket, priority);
            state.waiters.insert(place, granted);
            place
        };
        let _leave_when_dropped = Waiting { limiter: self.clone(), place };
        loop {
            // Listening begins before looking, so that no end of a request falls between the two.
            let settled = self.0.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let wake_at = self.grant_all(Some(bucket));
            let wake = async {
                match wake_at {
                    Some(wake_at) => sleep_until(wake_at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut grant => match answer {
                    Ok(permit) => return permit,
                    // The sender stays in the list of waiters until it is used, so this cannot be; to hang would be worse.
                    Err(_) => return self.permit(bucket),
                },
                () = &mut settled => {}
                () = wake => {}
            }
        }
    }

    /// Grants to everybody who may go now, in order. Answers when somebody of `watched` may go next, if time alone decides
    /// it.
    fn grant_all(&self, watched: Option<Bucket>) -> Option<Instant> {
        let mut state = self.lock();
        let now = self.moment();
        while let Some(place) = state.scheduler.grant(now) {
            let bucket = place.bucket();
            let permit = Permit { limiter: self.clone(), bucket, granted_at: now, settled: false };
            let refused = match state.waiters.remove(&place) {
                Some(waiter) => waiter.send(permit).err(),
                None => Some(permit),
            };
            match refused {
                // The waiter is gone; its place is given back here, since a drop would lock again.
                Some(mut permit) => {
                    permit.settled = true;
                    state.scheduler.unsent(bucket);
                }
                None => {
                    state.last_used.insert(bucket, (self.0.now)());
                }
            }
        }
        let wakes_at = state.scheduler.wakes_at(watched?, now)?;
        // A moment that is over already would make its waiter spin.
        Some(self.0.origin + Duration::from_millis(wakes_at.0.max(now.0.saturating_add(1))))
    }

    fn permit(&self, bucket: Bucket) -> Permit {
        let mut state = self.lock();
        let granted_at = self.moment();
        state.scheduler.send(bucket, granted_at);
        Permit { limiter: self.clone(), bucket, granted_at, settled: false }
    }

    /// What is known of every bucket that was used.
    pub(super) fn states(&self) -> Vec<BucketState> {
        let state = self.lock();
        let (now, wall_now) = (self.moment(), (self.0.now)());
        let clock = state.scheduler.clock();
        let wall = |at: Moment| wall_now.plus_millis(i64::try_from(now.millis_until(at)).unwrap_or(i64::MAX));
        let states = state.scheduler.buckets().map(|(bucket, rate, waiting)| BucketState {
            bucket,
            limit: rate.limit(),
            remaining: rate.remaining(now, clock),
            resets_at: rate.resets_at(now, clock).map(wall),
            waits_until: state.scheduler.wakes_at(bucket, now).and_then(|_| rate.resets_at(now, clock)).map(wall),
            in_flight: rate.in_flight(),
            waiting,
            refused: rate.refused_count(),
            last_used: state.last_used.get(&bucket).copied(),
        });
        states.collect()
    }

    fn moment(&self) -> Moment {
        Moment(u64::try_from(self.0.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// A poisoned lock is taken all the same: the state is plain counters, consistent after every statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books the end of a request and lets others go. `book` says how it ended.
    fn settle<T>(&self, book: impl FnOnce(&mut Scheduler, Moment) -> T) -> T {
        let booked = {
            let mut state = self.lock();
            let now = self.moment();
            book(&mut state.scheduler, now)
        };
        self.grant_all(None);
        self.0.settled.notify_waiters();
        booked
    }

    fn timing(&self, sent: Moment, received: Moment, date: Option<Timestamp>) -> Timing {
        Timing { sent, received, date, wall: (self.0.now)() }
    }
}

impl Permit {
    /// The request was answered other than with 429. `date` is Okta's clock, if the answer told it.
    pub(super) fn answered(mut self, headers: &AnswerHeaders, date: Option<Timestamp>) {
        self.settled = true;
        self.limiter.settle(|scheduler, now| {
            let timing = self.limiter.timing(self.granted_at, now, date);
            scheduler.answered(self.bucket, &headers.rate(), &timing);
        });
    }

    /// The request was refused with 429. Answers what to wait for; `random` is any number.
    pub(super) fn refused(mut self, headers: &AnswerHeaders, date: Option<Timestamp>, random: u64) -> Wait {
        self.settled = true;
        self.limiter.settle(|scheduler, now| {
            let timing = self.limiter.timing(self.granted_at, now, date);
            match scheduler.refused(self.bucket, &headers.rate(), &timing) {
                Some(until) => Wait { millis: now.millis_until(until), is_for_call: false },
                None => Wait { millis: concurrency_wait_millis(random), is_for_call: true },
            }
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.limiter.settle(|scheduler, _| scheduler.unanswered(self.bucket, self.granted_at));
        }
    }
}

/// A place in the queue, left when the caller stops waiting.
struct Waiting {
    limiter: Limiter,
    place: Place,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waiter = {
            let mut state = self.limiter.lock();
            state.scheduler.leave(self.place);
            state.waiters.remove(&self.place)
        };
        drop(waiter);
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;

//! Who may send when: the shell around [`crate::core::rate`].
//!
//! Entry points: [`Limiter::acquire`], [`Permit`].
//!
//! Invariants:
//! - Whoever holds a [`Permit`] counts as in flight; dropping it, cancelled or not, gives the place back.
//! - Among those who may go the higher [`Priority`] goes first, then the longer wait. A bucket that is blocked holds
//!   nobody of another bucket back.
//! - Waits use the monotonic clock of the runtime; differences to Okta's clock come from Okta's own headers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant, sleep_until};

use super::headers::AnswerHeaders;
use crate::core::backoff::concurrency_wait_millis;
use crate::core::ids::Timestamp;
use crate::core::rate::{Admission, Bucket, BucketRate, Moment, RateConfig};

/// Who goes first when several wait for one budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// The System Log: everything else learns from it what changed.
    Log,
    /// Reads of single objects, which bring a known change in.
    ById,
    /// Pages of a crawl.
    Crawl,
}

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
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests that wait.
    pub waiting: usize,
    /// When the last request was sent, by the local clock.
    pub last_used: Option<Timestamp>,
}

struct BucketEntry {
    rate: BucketRate,
    last_used: Option<Timestamp>,
}

struct Waiter {
    bucket: Bucket,
    granted: oneshot::Sender<Permit>,
}

struct State {
    buckets: BTreeMap<Bucket, BucketEntry>,
    in_flight: u32,
    /// In the order in which they go: priority, then arrival.
    waiters: BTreeMap<(Priority, u64), Waiter>,
    arrivals: u64,
}

struct Shared {
    config: LimiterConfig,
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
    settled: bool,
}

impl Limiter {
    pub(super) fn new(config: LimiterConfig, now: fn() -> Timestamp) -> Self {
        let state = State { buckets: BTreeMap::new(), in_flight: 0, waiters: BTreeMap::new(), arrivals: 0 };
        Self(Arc::new(Shared { config, origin: Instant::now(), now, state: Mutex::new(state), settled: Notify::new() }))
    }

    /// Waits until a request may be sent. Safe to cancel.
    pub(super) async fn acquire(&self, bucket: Bucket, priority: Priority) -> Permit {
        let (granted, mut grant) = oneshot::channel();
        let place = {
            let mut state = self.lock();
            state.arrivals += 1;
            let place = (priority, state.arrivals);
            state.waiters.insert(place, Waiter { bucket, granted });
            place
        };
        let _leave_when_dropped = Place { limiter: self.clone(), place };
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

    /// Grants to everybody who may go now, in order. Answers when `watched` may go next, if time alone decides it.
    fn grant_all(&self, watched: Option<Bucket>) -> Option<Instant> {
        let mut state = self.lock();
        let state = &mut *state;
        let now = self.moment();
        let mut wake_at = None;
        let mut granted = Vec::new();
        for (place, waiter) in &state.waiters {
            if state.in_flight >= self.0.config.in_flight_max.max(1) {
                break;
            }
            let entry = entry_of(&mut state.buckets, waiter.bucket, self.0.config.bucket);
            match entry.rate.admit(now) {
                Admission::Go => {
                    entry.rate.sent();
                    entry.last_used = Some((self.0.now)());
                    state.in_flight += 1;
                    granted.push(*place);
                }
                Admission::At(at) if Some(waiter.bucket) == watched => wake_at = Some(at),
                Admission::At(_) | Admission::AfterAnswer => {}
            }
        }
        for place in granted {
            if let Some(waiter) = state.waiters.remove(&place) {
                let permit = Permit { limiter: self.clone(), bucket: waiter.bucket, settled: false };
                if let Err(mut refused) = waiter.granted.send(permit) {
                    // The waiter is gone; its place is given back here, since a drop would lock again.
                    refused.settled = true;
                    let entry = entry_of(&mut state.buckets, waiter.bucket, self.0.config.bucket);
                    entry.rate.unanswered();
                    state.in_flight = state.in_flight.saturating_sub(1);
                }
            }
        }
        wake_at.map(|at| self.0.origin + Duration::from_millis(at.0))
    }

    fn permit(&self, bucket: Bucket) -> Permit {
        let mut state = self.lock();
        entry_of(&mut state.buckets, bucket, self.0.config.bucket).rate.sent();
        state.in_flight = state.in_flight.saturating_add(1);
        Permit { limiter: self.clone(), bucket, settled: false }
    }

    /// What is known of every bucket that was used.
    pub(super) fn states(&self) -> Vec<BucketState> {
        let state = self.lock();
        let (now, wall_now) = (self.moment(), (self.0.now)());
        let waiting = |bucket| state.waiters.values().filter(|waiter| waiter.bucket == bucket).count();
        let states = state.buckets.iter().map(|(bucket, entry)| BucketState {
            bucket: *bucket,
            limit: entry.rate.limit(),
            remaining: entry.rate.remaining(now),
            resets_at: entry
                .rate
                .resets_at(now)
                .map(|at| wall_now.plus_millis(i64::try_from(now.millis_until(at)).unwrap_or(i64::MAX))),
            in_flight: entry.rate.in_flight(),
            waiting: waiting(*bucket),
            last_used: entry.last_used,
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
    fn settle<T>(&self, bucket: Bucket, book: impl FnOnce(&mut BucketRate, Moment) -> T) -> T {
        let booked = {
            let mut state = self.lock();
            let now = self.moment();
            state.in_flight = state.in_flight.saturating_sub(1);
            book(&mut entry_of(&mut state.buckets, bucket, self.0.config.bucket).rate, now)
        };
        self.grant_all(None);
        self.0.settled.notify_waiters();
        booked
    }
}

fn entry_of(buckets: &mut BTreeMap<Bucket, BucketEntry>, bucket: Bucket, config: RateConfig) -> &mut BucketEntry {
    buckets.entry(bucket).or_insert_with(|| BucketEntry { rate: BucketRate::new(config), last_used: None })
}

impl Permit {
    /// The request was answered other than with 429.
    pub(super) fn answered(mut self, headers: &AnswerHeaders, server_now: Timestamp) {
        self.settled = true;
        self.limiter.settle(self.bucket, |rate, now| rate.answered(&headers.rate(), server_now, now));
    }

    /// The request was refused with 429. Answers the wait in milliseconds, which [`Limiter::acquire`] observes.
    pub(super) fn refused(mut self, headers: &AnswerHeaders, server_now: Timestamp, random: u64) -> u64 {
        self.settled = true;
        let jitter_millis = concurrency_wait_millis(random);
        self.limiter.settle(self.bucket, |rate, now| rate.refused(&headers.rate(), server_now, now, jitter_millis))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.limiter.settle(self.bucket, |rate, _| rate.unanswered());
        }
    }
}

/// A place in the queue, left when the caller stops waiting.
struct Place {
    limiter: Limiter,
    place: (Priority, u64),
}

impl Drop for Place {
    fn drop(&mut self) {
        let waiter = self.limiter.lock().waiters.remove(&self.place);
        drop(waiter);
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;

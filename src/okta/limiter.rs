//! Who may send when: the shell around [`crate::core::rate::Scheduler`].
//!
//! Entry points: [`Limiter::acquire`], [`Permit`].
//!
//! Invariants:
//! - Whoever holds a [`Permit`] counts as in flight; dropping it, cancelled or not, gives the place back.
//! - A request counts as sent from [`Permit::sending`] on: what never left this machine costs no budget.
//! - Who goes first is decided in one place, the scheduler. A bucket that is blocked holds nobody of another bucket back.
//! - Waits use the monotonic clock of the runtime; differences to Okta's clock come from Okta's own headers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant, sleep_until};

use super::headers::AnswerHeaders;
use crate::core::backoff::concurrency_wait_millis;
use crate::core::ids::Timestamp;
pub use crate::core::rate::Priority;
use crate::core::rate::{Bucket, Change, Ended, Granted, Moment, Outage, Place, RateConfig, Scheduler, Timing, Turn};
pub(super) use crate::core::rate::{Health, Standing};

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
    /// How long a window lasts, in milliseconds, as far as known.
    pub window_millis: u64,
    /// Since when all its requests have failed, by the local clock; `None` while it works.
    pub failing_since: Option<Timestamp>,
    /// How often that has begun since the start.
    pub outages: u64,
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
    calls: AtomicU64,
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
    granted: Granted,
    granted_at: Moment,
    /// When the request was sent, and when the head of its answer was there.
    sent: Option<Moment>,
    headed: Option<Moment>,
    settled: bool,
}

/// That a bucket keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failing {
    pub(super) bucket: Bucket,
    /// By the local clock.
    pub(super) since: Timestamp,
    /// When it is asked next, by the local clock.
    pub(super) next_at: Timestamp,
    /// Failures in a row.
    pub(super) failures: u32,
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
        let (state, settled) = (Mutex::new(state), Notify::new());
        Self(Arc::new(Shared { origin: Instant::now(), calls: AtomicU64::new(0), now, state, settled }))
    }

    /// A new call, of which no request was sent.
    pub(super) fn call(&self) -> Standing {
        Standing::of(self.0.calls.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits until a request of a call may be sent. Safe to cancel.
    pub(super) async fn acquire(&self, bucket: Bucket, priority: Priority, standing: Standing) -> Permit {
        let (granted, mut grant) = oneshot::channel();
        let place = {
            let mut state = self.lock();
            let now = self.moment();
            let place = state.scheduler.queue(bucket, priority, standing, now);
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
                    Err(_) => return self.permit(bucket, priority, standing),
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
        while let Some(granted) = state.scheduler.grant(now) {
            let bucket = granted.place.bucket();
            let permit = self.permit_of(granted, now);
            let refused = match state.waiters.remove(&granted.place) {
                Some(waiter) => waiter.send(permit).err(),
                None => Some(permit),
            };
            match refused {
                // The waiter is gone; its place is given back here, since a drop would lock again.
                Some(mut permit) => {
                    permit.settled = true;
                    state.scheduler.unsent(granted.place);
                    state.scheduler.judge(&granted, &permit.ended(Health::Unknown, now));
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

    fn permit(&self, bucket: Bucket, priority: Priority, standing: Standing) -> Permit {
        let mut state = self.lock();
        let granted_at = self.moment();
        let granted = state.scheduler.go(bucket, priority, standing, granted_at);
        self.permit_of(granted, granted_at)
    }

    fn permit_of(&self, granted: Granted, granted_at: Moment) -> Permit {
        Permit { limiter: self.clone(), granted, granted_at, sent: None, headed: None, settled: false }
    }

    /// What is known of every bucket that was used.
    pub(super) fn states(&self) -> Vec<BucketState> {
        let state = self.lock();
        let (now, wall_now) = (self.moment(), (self.0.now)());
        let wall = |at: Moment| self.wall(at, now, wall_now);
        let scheduler = &state.scheduler;
        let states = scheduler.buckets().map(|(bucket, rate, waiting)| {
            let (circuit, clock) = (scheduler.circuit(bucket), scheduler.clock());
            let outage = circuit.and_then(|circuit| circuit.outage());
            let ahead = outage.map(|outage| outage.next_at).or_else(|| rate.resets_at(now, clock));
            BucketState {
                bucket,
                limit: rate.limit(),
                remaining: rate.remaining(now, clock),
                resets_at: rate.resets_at(now, clock).map(wall),
                waits_until: scheduler.wakes_at(bucket, now).and(ahead).map(wall),
                in_flight: rate.in_flight(),
                waiting,
                refused: rate.refused_count(),
                window_millis: rate.window_millis(),
                failing_since: outage.map(|outage| wall(outage.since)),
                outages: circuit.map_or(0, |circuit| circuit.opened_count()),
                last_used: state.last_used.get(&bucket).copied(),
            }
        });
        states.collect()
    }

    /// A moment by the local clock, which shows `wall_now` at `now`.
    fn wall(&self, at: Moment, now: Moment, wall_now: Timestamp) -> Timestamp {
        let ahead = i64::try_from(now.millis_until(at)).unwrap_or(i64::MAX);
        let behind = i64::try_from(at.millis_until(now)).unwrap_or(i64::MAX);
        wall_now.plus_millis(ahead.saturating_sub(behind))
    }

    fn moment(&self) -> Moment {
        Moment(u64::try_from(self.0.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// A poisoned lock is taken all the same: the state is plain counters, consistent after every statement.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The request is sent now. What was waited for until here was our own.
    pub(super) fn sending(&mut self) {
        self.sent = Some(self.limiter.moment());
    }

    /// The head of the answer is there: what follows is its body, whose time says nothing about Okta's.
    pub(super) fn headed(&mut self) {
        self.headed = Some(self.limiter.moment());
    }

    /// The call, as it stands now.
    pub(super) fn standing(&self) -> Standing {
        self.granted.standing
    }

    /// The request was answered other than with 429. `date` is Okta's clock, if the answer told it.
    pub(super) fn answered(
        self,
        headers: &AnswerHeaders,
        date: Option<Timestamp>,
        health: Health,
        random: u64,
    ) -> Option<Failing> {
        let bucket = self.granted.place.bucket();
        self.settle(health, random, |scheduler, timing| {
            scheduler.answered(bucket, &headers.rate(), &Timing { date, ..timing });
        })
        .1
    }

    /// The request was refused with 429. Answers what to wait for; `random` is any number.
    pub(super) fn refused(self, headers: &AnswerHeaders, date: Option<Timestamp>, random: u64) -> Wait {
        let bucket = self.granted.place.bucket();
        let (wait, _) = self.settle(Health::Unknown, random, |scheduler, timing| {
            let now = timing.received;
            match scheduler.refused(bucket, &headers.rate(), &Timing { date, ..timing }) {
                Some(until) => Wait { millis: now.millis_until(until), is_for_call: false },
                None => Wait { millis: concurrency_wait_millis(random), is_for_call: true },
            }
        });
        wait
    }

    /// The request was sent and has ended without an answer.
    pub(super) fn unanswered(self, health: Health, random: u64) -> Option<Failing> {
        let bucket = self.granted.place.bucket();
        self.settle(health, random, |scheduler, timing| scheduler.unanswered(bucket, timing.sent)).1
    }

    /// The request never left this machine.
    pub(super) fn unsent(self, health: Health, random: u64) -> Option<Failing> {
        let place = self.granted.place;
        self.settle(health, random, |scheduler, _| scheduler.unsent(place)).1
    }

    fn ended(&self, health: Health, at: Moment) -> Ended {
        Ended { health, granted_at: self.sent.unwrap_or(self.granted_at), at, random: 0 }
    }

    /// Books the end of the request and lets others go. Answers what `book` does; and that the bucket fails
    /// beyond doubt, if it does and this call has waited for as long as it could.
    fn settle<T>(
        mut self,
        health: Health,
        random: u64,
        book: impl FnOnce(&mut Scheduler, Timing) -> T,
    ) -> (T, Option<Failing>) {
        self.settled = true;
        let limiter = &self.limiter;
        let (now, wall) = (limiter.moment(), (limiter.0.now)());
        let sent = self.sent.unwrap_or(self.granted_at);
        let timing = Timing { sent, received: self.headed.unwrap_or(now), date: None, wall };
        let bucket = self.granted.place.bucket();
        let (booked, change, outage) = {
            let mut state = limiter.lock();
            let booked = book(&mut state.scheduler, timing);
            let change = state.scheduler.judge(&self.granted, &Ended { random, ..self.ended(health, now) });
            (booked, change, state.scheduler.circuit(bucket).and_then(|circuit| circuit.outage()))
        };
        tell(bucket, change, now);
        limiter.grant_all(None);
        limiter.0.settled.notify_waiters();
        let is_last = |outage: &Outage| self.granted.turn == Turn::Last && outage.is_beyond_doubt();
        let failing = outage.filter(is_last).map(|outage| Failing {
            bucket,
            since: limiter.wall(outage.since, now, wall),
            next_at: limiter.wall(outage.next_at, now, wall),
            failures: outage.failures,
        });
        (booked, failing)
    }
}

/// An operator sees when a bucket stops answering, and when it answers again.
fn tell(bucket: Bucket, change: Option<Change>, now: Moment) {
    let seconds = |outage: Outage| outage.since.millis_until(now) / 1_000;
    match change {
        Some(Change::Opened(outage)) => tracing::warn!(
            bucket = bucket.name(),
            failures = outage.failures,
            next_try_in_ms = now.millis_until(outage.next_at),
            "Okta does not answer: all requests of this rate-limit bucket fail; one at a time asks until one is answered"
        ),
        Some(Change::Closed(outage)) => tracing::info!(
            bucket = bucket.name(),
            failures = outage.failures,
            seconds = seconds(outage),
            "Okta answers again: the requests of this rate-limit bucket go on"
        ),
        None => {}
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let limiter = self.limiter.clone();
        {
            let mut state = limiter.lock();
            let now = limiter.moment();
            match self.sent {
                Some(sent) => state.scheduler.unanswered(self.granted.place.bucket(), sent),
                None => state.scheduler.unsent(self.granted.place),
            }
            state.scheduler.judge(&self.granted, &self.ended(Health::Unknown, now));
        }
        limiter.grant_all(None);
        limiter.0.settled.notify_waiters();
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

//! A simulated org's rate limits in virtual time, for tests: written from the facts, not from the scheduler.
//!
//! Entry point: [`Server`]. Everything is by the server's clock, in milliseconds since the epoch.

use std::collections::BTreeMap;

use super::super::ids::Timestamp;
use super::{Bucket, RateHeaders};

/// When a window begins (facts 6.1: not aligned to the minute; nothing more is documented).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// One after the other, whether there are requests or not.
    Regularly { phase_ms: i64 },
    /// With the first request after the one before.
    WithRequest,
}

/// How `Reset` comes to its whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    Up,
    Down,
}

/// What a second client does in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    None,
    /// So many requests in a window, evenly spaced.
    Steady(u32),
    /// The same at random times.
    Random(u32),
    /// So many at once, at a random time of each window.
    Burst(u32),
    /// So many at once, as soon as a window has begun.
    First(u32),
}

/// The limit of one bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) requests: u32,
    pub(super) window_ms: i64,
    pub(super) begins: Begins,
    pub(super) rounding: Rounding,
    pub(super) others: Others,
}

/// What a window was used for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) begins_ms: i64,
    pub(super) ends_ms: i64,
    pub(super) ours: u32,
    pub(super) others: u32,
}

/// An answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) is_refused: bool,
    /// Refused by the limit of the window, not for too many requests at once.
    pub(super) is_window: bool,
    pub(super) headers: RateHeaders,
    pub(super) date: Timestamp,
}

#[derive(Debug)]
struct Counter {
    limit: Limit,
    window: Used,
    past: Vec<Used>,
    next_other_ms: i64,
    /// When the others take all at once in this window, if they have not.
    burst_at_ms: Option<i64>,
}

/// All buckets of an org.
#[derive(Debug)]
pub(super) struct Server {
    counters: BTreeMap<Bucket, Counter>,
    concurrency_max: u32,
    in_flight: u32,
    random: fastrand::Rng,
}

impl Server {
    pub(super) fn new(limits: &[(Bucket, Limit)], concurrency_max: u32, seed: u64, now_ms: i64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let counters = limits.iter().map(|(bucket, limit)| {
            let spread_ms = match limit.others {
                Others::Steady(count) | Others::Random(count) => limit.window_ms / i64::from(count),
                Others::None | Others::Burst(_) | Others::First(_) => limit.window_ms,
            };
            let next_other_ms = now_ms + random.i64(0..spread_ms);
            let mut counter =
                Counter { limit: *limit, window: Used::default(), past: Vec::new(), next_other_ms, burst_at_ms: None };
            counter.roll(now_ms, &mut random);
            (*bucket, counter)
        });
        let counters = counters.collect();
        Self { counters, concurrency_max, in_flight: 0, random }
    }

    /// A request arrives, or begins to be worked on.
    pub(super) fn request(&mut self, bucket: Bucket, now_ms: i64) -> Reply {
        self.in_flight += 1;
        let date = Timestamp::from_millis(now_ms.div_euclid(1_000) * 1_000);
        if self.in_flight > self.concurrency_max {
            let headers = headers(0, 0, now_ms / 1_000 + 1);
            return Reply { is_refused: true, is_window: false, headers, date };
        }
        let counter = self.counters.get_mut(&bucket).expect("limited bucket");
        counter.others(now_ms, &mut self.random);
        counter.roll(now_ms, &mut self.random);
        let left = counter.left();
        if left > 0 {
            counter.window.ours += 1;
        }
        let reset = match counter.limit.rounding {
            Rounding::Up => (counter.window.ends_ms + 999).div_euclid(1_000),
            Rounding::Down => counter.window.ends_ms.div_euclid(1_000),
        };
        let headers = headers(counter.limit.requests, left.saturating_sub(1), reset);
        Reply { is_refused: left == 0, is_window: left == 0, headers, date }
    }

    /// The answer of a request is on its way.
    pub(super) fn done(&mut self) {
        self.in_flight -= 1;
    }

    /// The windows of a bucket that are over.
    pub(super) fn windows(&self, bucket: Bucket) -> &[Used] {
        &self.counters[&bucket].past
    }
}

impl Counter {
    fn left(&self) -> u32 {
        self.limit.requests.saturating_sub(self.window.ours + self.window.others)
    }

    /// Begins the window that `now_ms` lies in.
    fn roll(&mut self, now_ms: i64, random: &mut fastrand::Rng) {
        if now_ms < self.window.ends_ms {
            return;
        }
        if self.window.ends_ms > 0 {
            self.past.push(self.window);
        }
        let begins_ms = match self.limit.begins {
            Begins::Regularly { phase_ms } => {
                (now_ms - phase_ms).div_euclid(self.limit.window_ms) * self.limit.window_ms + phase_ms
            }
            Begins::WithRequest => now_ms,
        };
        self.burst_at_ms = Some(begins_ms + random.i64(0..self.limit.window_ms));
        let others = if let Others::First(count) = self.limit.others { count } else { 0 };
        self.window = Used { begins_ms, ends_ms: begins_ms + self.limit.window_ms, others, ours: 0 };
    }

    /// Everything that others have asked for until now; what there is no room for is refused and not counted.
    fn others(&mut self, now_ms: i64, random: &mut fastrand::Rng) {
        let window_ms = self.limit.window_ms;
        while self.next_other_ms <= now_ms {
            let at_ms = self.next_other_ms;
            let (at_once, pause_ms) = match self.limit.others {
                Others::None | Others::First(_) | Others::Burst(_) => (0, window_ms),
                Others::Steady(count) => (1, window_ms / i64::from(count)),
                Others::Random(count) => {
                    // An exponential pause, by its inverse.
                    let mean = window_ms as f64 / f64::from(count);
                    (1, (-mean * (1.0 - random.f64()).ln()) as i64)
                }
            };
            if at_once > 0 {
                self.roll(at_ms, random);
                self.window.others += at_once.min(self.left());
            }
            self.next_other_ms = at_ms + pause_ms.max(1);
        }
        if let (Others::Burst(count), Some(at_ms)) = (self.limit.others, self.burst_at_ms)
            && at_ms <= now_ms.min(self.window.ends_ms - 1)
        {
            self.burst_at_ms = None;
            self.window.others += count.min(self.left());
        }
    }
}

fn headers(limit: u32, remaining: u32, reset: i64) -> RateHeaders {
    RateHeaders {
        limit: Some(u64::from(limit)),
        remaining: Some(u64::from(remaining)),
        reset_unix_s: Some(reset),
        retry_after_s: None,
    }
}

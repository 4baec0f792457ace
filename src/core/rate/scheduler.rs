//! Who goes when: all requests of an org that wait, and the budgets that they wait for.
//!
//! Entry point: [`Scheduler`]. The shell is `okta::limiter`.
//!
//! Rules, for requests that may go at all:
//! - In a bucket the log goes before reads by id, those before pages of a crawl; within each whoever waits longest.
//! - Of [`URGENT_IN_A_ROW_MAX`] + 1 requests of a bucket one is a page of a crawl if any waits: a crawl goes on under any
//!   load of urgent reads, and an urgent read waits behind one page at the most.
//! - Pages of a crawl leave the reserve of the bucket alone; urgent reads may use half of it, so that they need not wait
//!   for the next window when a crawl has used this one up.
//! - Where the org's requests in flight are at their limit, the more urgent goes first whatever its bucket, then the bucket
//!   with the fewest in flight: no bucket crowds another one out.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ids::Timestamp;
use super::bucket::BucketRate;
use super::clock::ServerClock;
use super::parallel::Parallelism;
use super::{Admission, Bucket, Moment, Priority, RateConfig, RateHeaders, Urgency};

/// Urgent requests of a bucket that go one after the other while a page of a crawl waits.
pub const URGENT_IN_A_ROW_MAX: u32 = 4;

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    bucket: Bucket,
    priority: Priority,
    arrival: u64,
}

impl Place {
    /// The bucket that is waited for.
    pub const fn bucket(self) -> Bucket {
        self.bucket
    }
}

/// When an answer came and what it says about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// When the request was sent, or earlier.
    pub sent: Moment,
    /// When the answer was there.
    pub received: Moment,
    /// `Date` of the answer.
    pub date: Option<Timestamp>,
    /// The local wall clock, which counts only while no answer had a `Date`.
    pub wall: Timestamp,
}

#[derive(Debug)]
struct Entry {
    rate: BucketRate,
    waiting: BTreeSet<(Priority, u64)>,
    urgent_in_a_row: u32,
}

/// The budgets of an org and who waits for them.
#[derive(Debug)]
pub struct Scheduler {
    config: RateConfig,
    buckets: BTreeMap<Bucket, Entry>,
    clock: ServerClock,
    parallel: Parallelism,
    in_flight: u32,
    arrivals: u64,
}

impl Scheduler {
    /// Nothing is known and nobody waits. `in_flight_max` counts all buckets, at least 1 is used.
    pub fn new(config: RateConfig, in_flight_max: u32) -> Self {
        Self {
            config,
            buckets: BTreeMap::new(),
            clock: ServerClock::default(),
            parallel: Parallelism::new(in_flight_max),
            in_flight: 0,
            arrivals: 0,
        }
    }

    fn entry(&mut self, bucket: Bucket) -> &mut Entry {
        let config = self.config;
        self.buckets.entry(bucket).or_insert_with(|| Entry {
            rate: BucketRate::new(config),
            waiting: BTreeSet::new(),
            urgent_in_a_row: 0,
        })
    }

    /// Queues a request.
    pub fn queue(&mut self, bucket: Bucket, priority: Priority) -> Place {
        self.arrivals = self.arrivals.saturating_add(1);
        let arrival = self.arrivals;
        self.entry(bucket).waiting.insert((priority, arrival));
        Place { bucket, priority, arrival }
    }

    /// Whoever has this place no longer waits. Nothing changes if the place was granted before.
    pub fn leave(&mut self, place: Place) {
        self.entry(place.bucket).waiting.remove(&(place.priority, place.arrival));
    }

    /// The next one who may go now; it is in flight from here on.
    pub fn grant(&mut self, now: Moment) -> Option<Place> {
        if !self.parallel.has_room(self.in_flight) {
            return None;
        }
        let ready = self.buckets.iter().filter_map(|(bucket, entry)| {
            let may_go = |(priority, _): &(Priority, u64)| {
                entry.rate.admit(priority.urgency(), now, &self.clock) == Admission::Go
            };
            let (priority, arrival) = entry.turns().into_iter().flatten().find(may_go)?;
            Some((priority, entry.rate.in_flight(), *bucket, arrival))
        });
        let (priority, _, bucket, arrival) = ready.min()?;
        let place = Place { bucket, priority, arrival };
        let entry = self.buckets.get_mut(&bucket)?;
        entry.waiting.remove(&(priority, arrival));
        let crawl_waits = entry.first_of(Urgency::Patient).is_some();
        let is_urgent = priority.urgency() == Urgency::Urgent;
        entry.urgent_in_a_row = if is_urgent && crawl_waits { entry.urgent_in_a_row + 1 } else { 0 };
        self.send(bucket, now);
        Some(place)
    }

    /// A request goes without having waited.
    pub fn send(&mut self, bucket: Bucket, now: Moment) {
        self.entry(bucket);
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(entry) = self.buckets.get_mut(&bucket) {
            entry.rate.sent(now, &self.clock);
        }
    }

    /// When somebody of the bucket may go next, if time alone decides it.
    pub fn wakes_at(&self, bucket: Bucket, now: Moment) -> Option<Moment> {
        let entry = self.buckets.get(&bucket)?;
        let turns = entry.turns().into_iter().flatten();
        let moments = turns.filter_map(|(priority, _)| match entry.rate.admit(priority.urgency(), now, &self.clock) {
            Admission::At(at) => Some(at),
            Admission::Go | Admission::AfterAnswer => None,
        });
        moments.min()
    }

    /// A request in flight was answered other than with 429.
    pub fn answered(&mut self, bucket: Bucket, headers: &RateHeaders, timing: &Timing) {
        let mut clock = self.settle(timing);
        self.parallel.answered();
        self.entry(bucket).rate.answered(headers, timing.sent, timing.received, &mut clock);
        self.clock = clock;
    }

    /// A request in flight was refused with 429. Answers until when its bucket waits; `None` when there were too many at
    /// once: then whoever was refused waits a little, and fewer are in flight.
    pub fn refused(&mut self, bucket: Bucket, headers: &RateHeaders, timing: &Timing) -> Option<Moment> {
        let in_flight = self.in_flight;
        let mut clock = self.settle(timing);
        let until = self.entry(bucket).rate.refused(headers, timing.sent, timing.received, &mut clock);
        self.clock = clock;
        match until {
            Some(_) => self.parallel.answered(),
            None => self.parallel.refused(timing.sent, timing.received, in_flight),
        }
        until
    }

    /// A request that was granted is not sent after all.
    pub fn unsent(&mut self, bucket: Bucket) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.entry(bucket).rate.unsent();
    }

    /// A request in flight ended without an answer.
    pub fn unanswered(&mut self, bucket: Bucket, sent: Moment) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.entry(bucket).rate.unanswered(sent);
    }

    fn settle(&mut self, timing: &Timing) -> ServerClock {
        self.in_flight = self.in_flight.saturating_sub(1);
        let mut clock = std::mem::take(&mut self.clock);
        match timing.date {
            Some(date) => clock.observe(date, timing.sent, timing.received),
            None => clock.assume(timing.wall, timing.received),
        }
        clock
    }

    /// The buckets that were used, with the number of those who wait for each.
    pub fn buckets(&self) -> impl Iterator<Item = (Bucket, &BucketRate, usize)> {
        self.buckets.iter().map(|(bucket, entry)| (*bucket, &entry.rate, entry.waiting.len()))
    }

    /// Okta's clock.
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }
}

impl Entry {
    fn first_of(&self, urgency: Urgency) -> Option<(Priority, u64)> {
        match urgency {
            Urgency::Urgent => self.waiting.first().copied().filter(|(priority, _)| priority.urgency() == urgency),
            Urgency::Patient => self.waiting.range((Priority::Crawl, 0)..).next().copied(),
        }
    }

    /// Whose turn it is, and whose if the first may not go.
    fn turns(&self) -> [Option<(Priority, u64)>; 2] {
        let (urgent, crawl) = (self.first_of(Urgency::Urgent), self.first_of(Urgency::Patient));
        if self.urgent_in_a_row >= URGENT_IN_A_ROW_MAX { [crawl, urgent] } else { [urgent, crawl] }
    }
}

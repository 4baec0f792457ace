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
//!   with the fewest in flight: no bucket crowds another one out. Here, too, one of [`URGENT_IN_A_ROW_MAX`] + 1 is a page of a
//!   crawl if any could go.
//! - A bucket whose requests keep failing is asked as its [`Circuit`] says; the other buckets do not notice.

use std::collections::BTreeMap;

use super::super::ids::Timestamp;
use super::bucket::BucketRate;
use super::circuit::{Change, Circuit, Due, Health, Standing, Turn};
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

/// A request that may go: it is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whose it is.
    pub place: Place,
    /// Why it may go.
    pub turn: Turn,
    /// The call, as it stands now.
    pub standing: Standing,
}

/// How a request ended, for its bucket's circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What that says of the bucket.
    pub health: Health,
    /// When it was granted.
    pub granted_at: Moment,
    /// When it ended.
    pub at: Moment,
    /// Any number.
    pub random: u64,
}

#[derive(Debug)]
struct Entry {
    rate: BucketRate,
    circuit: Circuit,
    /// Who waits, and since when.
    waiting: BTreeMap<(Priority, u64), (Standing, Moment)>,
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
    urgent_in_a_row: u32,
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
            urgent_in_a_row: 0,
        }
    }

    fn entry(&mut self, bucket: Bucket) -> &mut Entry {
        let config = self.config;
        self.buckets.entry(bucket).or_insert_with(|| Entry {
            rate: BucketRate::new(config),
            circuit: Circuit::default(),
            waiting: BTreeMap::new(),
            urgent_in_a_row: 0,
        })
    }

    /// Queues a request of a call.
    pub fn queue(&mut self, bucket: Bucket, priority: Priority, standing: Standing, now: Moment) -> Place {
        let place = self.arrive(bucket, priority);
        self.entry(bucket).waiting.insert((priority, place.arrival), (standing, now));
        place
    }

    fn arrive(&mut self, bucket: Bucket, priority: Priority) -> Place {
        self.arrivals = self.arrivals.saturating_add(1);
        Place { bucket, priority, arrival: self.arrivals }
    }

    /// Whoever has this place no longer waits. Nothing changes if the place was granted before.
    pub fn leave(&mut self, place: Place) {
        self.entry(place.bucket).waiting.remove(&(place.priority, place.arrival));
    }

    /// The next one who may go now; it is in flight from here on.
    pub fn grant(&mut self, now: Moment) -> Option<Granted> {
        if !self.parallel.has_room(self.in_flight) {
            return None;
        }
        let crawl_first = self.urgent_in_a_row >= URGENT_IN_A_ROW_MAX;
        let crawl_could_go = self.buckets.values().any(|entry| entry.crawl_could_go(now, &self.clock));
        let ready = self.buckets.iter().filter_map(|(bucket, entry)| {
            let due = entry.next(crawl_first, now, &self.clock)?;
            let (priority, arrival) = due.place;
            let is_passed_over = crawl_first && crawl_could_go && priority.urgency() == Urgency::Urgent;
            Some((is_passed_over, priority, entry.rate.in_flight(), *bucket, arrival, due))
        });
        let (.., bucket, _, due) = ready.min_by_key(|(over, priority, in_flight, bucket, arrival, _)| {
            (*over, *priority, *in_flight, *bucket, *arrival)
        })?;
        let (priority, arrival) = due.place;
        let entry = self.buckets.get_mut(&bucket)?;
        entry.waiting.remove(&due.place);
        entry.circuit.granted(due.turn);
        let crawl_waits = entry.first_of(Urgency::Patient).is_some();
        let is_urgent = priority.urgency() == Urgency::Urgent;
        entry.urgent_in_a_row = if is_urgent && crawl_waits { entry.urgent_in_a_row + 1 } else { 0 };
        self.urgent_in_a_row = if is_urgent && crawl_could_go { self.urgent_in_a_row + 1 } else { 0 };
        let place = Place { bucket, priority, arrival };
        self.send(place, now);
        Some(Granted { place, turn: due.turn, standing: due.standing })
    }

    /// A request goes without having waited.
    pub fn go(&mut self, bucket: Bucket, priority: Priority, standing: Standing, now: Moment) -> Granted {
        let place = self.arrive(bucket, priority);
        self.send(place, now);
        Granted { place, turn: Turn::Usual, standing }
    }

    fn send(&mut self, place: Place, now: Moment) {
        self.entry(place.bucket);
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(entry) = self.buckets.get_mut(&place.bucket) {
            entry.rate.sent(place.arrival, now, &self.clock);
        }
    }

    /// When somebody of the bucket may go next, if time alone decides it.
    pub fn wakes_at(&self, bucket: Bucket, now: Moment) -> Option<Moment> {
        let entry = self.buckets.get(&bucket)?;
        let moments = entry.turns(false).into_iter().flatten().filter_map(|due| {
            if due.at > now {
                return Some(due.at);
            }
            match entry.rate.admit(due.place.0.urgency(), now, &self.clock) {
                Admission::At(at) => Some(at),
                Admission::Go | Admission::AfterAnswer => None,
            }
        });
        moments.min()
    }

    /// A request that was granted has ended, however it was booked: what that says of its bucket.
    pub fn judge(&mut self, granted: &Granted, ended: &Ended) -> Option<Change> {
        let circuit = &mut self.entry(granted.place.bucket).circuit;
        circuit.ended((granted.turn, granted.standing), ended.health, (ended.granted_at, ended.at), ended.random)
    }

    /// The circuit of a bucket that was used.
    pub fn circuit(&self, bucket: Bucket) -> Option<&Circuit> {
        Some(&self.buckets.get(&bucket)?.circuit)
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

    /// A request that was granted is not sent after all, or never left this machine.
    pub fn unsent(&mut self, place: Place) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.entry(place.bucket).rate.unsent(place.arrival);
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
        let first = match urgency {
            Urgency::Urgent => self.waiting.keys().next().filter(|(priority, _)| priority.urgency() == urgency),
            Urgency::Patient => self.waiting.range((Priority::Crawl, 0)..).next().map(|(place, _)| place),
        };
        first.copied()
    }

    /// Whose turn it is, and whose if the first may not go.
    fn turns(&self, crawl_first: bool) -> [Option<Due>; 2] {
        if let Some(turns) = self.circuit.turns(self.waiting.iter(), self.rate.in_flight_max()) {
            return turns;
        }
        let usual = |place| {
            let (standing, _) = self.waiting.get(&place)?;
            Some(Due { place, standing: *standing, turn: Turn::Usual, at: Moment::default() })
        };
        let urgent = self.first_of(Urgency::Urgent).and_then(usual);
        let crawl = self.first_of(Urgency::Patient).and_then(usual);
        let crawl_first = crawl_first || self.urgent_in_a_row >= URGENT_IN_A_ROW_MAX;
        if crawl_first { [crawl, urgent] } else { [urgent, crawl] }
    }

    /// Who goes next if anybody may go now.
    fn next(&self, crawl_first: bool, now: Moment, clock: &ServerClock) -> Option<Due> {
        let may_go = |due: &Due| due.at <= now && self.rate.admit(due.place.0.urgency(), now, clock) == Admission::Go;
        self.turns(crawl_first).into_iter().flatten().find(may_go)
    }

    /// Whether a page of a crawl may go now.
    fn crawl_could_go(&self, now: Moment, clock: &ServerClock) -> bool {
        self.next(true, now, clock).is_some_and(|due| due.place.0.urgency() == Urgency::Patient)
    }
}

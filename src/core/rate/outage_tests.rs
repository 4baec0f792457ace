//! Outages in virtual time, with the circuit and without it, by seed: it saves requests, and costs neither calls nor much time.
//!
//! Calls run side by side as those of the engine do, each with the repetitions that `core::backoff` decides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::backoff::{PageSize, Tries, Trouble, Verdict};
use super::super::ids::Timestamp;
use super::{
    Bucket, Change, Ended, Granted, Health, Moment, Priority, RateConfig, RateHeaders, Scheduler, Standing, Timing,
    Turn,
};

/// What a request meets: nothing, or a trouble; and after how many milliseconds that shows.
type Weather = dyn Fn(&Request, &mut fastrand::Rng) -> (Option<Trouble>, u64);

/// A request: which call's, when, and how large a page.
struct Request {
    call: u64,
    at: u64,
    limit: u32,
}

struct Call {
    tries: Tries,
    standing: Standing,
    page: PageSize,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    lost: Vec<u64>,
    requests: u64,
    opened: u64,
    ended_at: u64,
    /// When each request was sent that was answered.
    answered: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Queue(u64),
    End(u64),
    Wake,
}

struct Run<'a> {
    weather: &'a Weather,
    has_circuit: bool,
    calls: u64,
    page: PageSize,
    scheduler: Scheduler,
    random: fastrand::Rng,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: u64,
    open: std::collections::BTreeMap<u64, Call>,
    waiting: Vec<(super::Place, u64)>,
    in_flight: std::collections::BTreeMap<u64, (Granted, u64, Option<Trouble>)>,
    begun: u64,
    wakes_at: u64,
    report: Report,
}

const BUCKET: Bucket = Bucket::Apps;

/// Calls of the engine that run side by side in a bucket.
const LANES: u64 = 12;

fn run(calls: u64, page: PageSize, seed: u64, has_circuit: bool, weather: &Weather) -> Report {
    let run = Run {
        weather,
        has_circuit,
        calls,
        page,
        scheduler: Scheduler::new(RateConfig { in_flight_max: 8, reserve_percent: 0 }, 16),
        random: fastrand::Rng::with_seed(seed),
        events: BinaryHeap::new(),
        numbers: 0,
        open: Default::default(),
        waiting: Vec::new(),
        in_flight: Default::default(),
        begun: 0,
        wakes_at: 0,
        report: Report::default(),
    };
    run.run()
}

impl Run<'_> {
    fn at(&mut self, at: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse((at, self.numbers, event)));
    }

    fn run(mut self) -> Report {
        (0..LANES).for_each(|_| self.begin(0));
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            match event {
                Event::Queue(call) => {
                    let standing = self.open[&call].standing;
                    let place = self.scheduler.queue(BUCKET, Priority::Crawl, standing, Moment(now));
                    self.waiting.push((place, call));
                }
                Event::End(call) => self.end(call, now),
                Event::Wake => {}
            }
            self.go(now);
            self.report.ended_at = now;
            assert!(now < 100 * 3_600_000, "does not end");
        }
        assert!(self.open.is_empty(), "calls are left over");
        self.report.opened = self.scheduler.circuit(BUCKET).map_or(0, |circuit| circuit.opened_count());
        self.report.lost.sort_unstable();
        self.report
    }

    fn begin(&mut self, now: u64) {
        if self.begun < self.calls {
            let call = self.begun;
            self.begun += 1;
            self.open.insert(call, Call { tries: Tries::default(), standing: Standing::of(call), page: self.page });
            self.at(now, Event::Queue(call));
        }
    }

    fn go(&mut self, now: u64) {
        while let Some(granted) = self.scheduler.grant(Moment(now)) {
            let index = self.waiting.iter().position(|(place, _)| *place == granted.place).unwrap();
            let (_, call) = self.waiting.swap_remove(index);
            let open = self.open.get_mut(&call).unwrap();
            open.standing = granted.standing;
            let limit = if let PageSize::First { limit, .. } = open.page { limit } else { 0 };
            let (trouble, millis) = (self.weather)(&Request { call, at: now, limit }, &mut self.random);
            self.report.requests += 1;
            if trouble.is_none() {
                self.report.answered.push(now);
            }
            self.in_flight.insert(call, (granted, now, trouble));
            self.at(now + millis.max(1), Event::End(call));
        }
        if let Some(at) = self.scheduler.wakes_at(BUCKET, Moment(now)) {
            let at = at.0.max(now + 1);
            if self.wakes_at <= now || at < self.wakes_at {
                self.wakes_at = at;
                self.at(at, Event::Wake);
            }
        }
    }

    fn end(&mut self, call: u64, now: u64) {
        let (granted, sent, trouble) = self.in_flight.remove(&call).unwrap();
        let date = Timestamp::from_millis(1_785_661_222_000);
        let timing = Timing { sent: Moment(sent), received: Moment(now), date: None, wall: date };
        match trouble {
            Some(Trouble::Transient) => self.scheduler.unanswered(BUCKET, Moment(sent)),
            _ => self.scheduler.answered(BUCKET, &RateHeaders::default(), &timing),
        }
        let health = match trouble {
            _ if !self.has_circuit => Health::Unknown,
            None => Health::Well,
            Some(_) => Health::Failing,
        };
        let random = self.random.u64(..);
        let ended = Ended { health, granted_at: Moment(sent), at: Moment(now), random };
        self.scheduler.judge(&granted, &ended);
        let outage = self.scheduler.circuit(BUCKET).and_then(|circuit| circuit.outage());
        let is_last = granted.turn == Turn::Last && outage.is_some_and(|outage| outage.is_beyond_doubt());
        let random = self.random.u64(..);
        let open = self.open.get_mut(&call).unwrap();
        let verdict = trouble.map(|trouble| {
            open.standing.failures += 1;
            match is_last {
                true => open.tries.decide_last(trouble, open.page, random),
                false => open.tries.decide(trouble, open.page, random),
            }
        });
        let wait_millis = match (verdict, open.page) {
            (Some(Verdict::Again { wait_millis }), _) => wait_millis,
            (Some(Verdict::Smaller { limit, wait_millis }), PageSize::First { floor, .. }) => {
                open.page = PageSize::First { limit, floor };
                wait_millis
            }
            (verdict, _) => {
                if verdict.is_some() {
                    self.report.lost.push(call);
                }
                self.open.remove(&call);
                return self.begin(now);
            }
        };
        self.at(now + wait_millis, Event::Queue(call));
    }
}

/// So many seeds: `RATE_SEEDS`, else a few.
fn seeds() -> u64 {
    std::env::var("RATE_SEEDS").map_or(2, |seeds| seeds.parse().unwrap())
}

/// Every request fails from `from` on, for so long.
fn outage(
    from: u64,
    millis: u64,
    trouble: Trouble,
    shows_after: u64,
) -> impl Fn(&Request, &mut fastrand::Rng) -> (Option<Trouble>, u64) {
    move |request, random| match (from..from + millis).contains(&request.at) {
        true => (Some(trouble), shows_after),
        false => (None, random.u64(50..250)),
    }
}

#[test]
fn an_outage_costs_fewer_requests_and_no_more_calls_and_ends_in_time() {
    for (seed, seconds) in (0..seeds()).flat_map(|seed| [3, 20, 40, 120, 600, 3_600].map(|seconds| (seed, seconds))) {
        for (trouble, shows_after) in
            [(Trouble::Transient, 5), (Trouble::ServerError, 80), (Trouble::TooMuchWork, 60_000)]
        {
            let (from, millis) = (3_000, seconds * 1_000);
            let weather = outage(from, millis, trouble, shows_after);
            // As many as take a little longer than the outage.
            let calls = 800 + 2 * seconds;
            let [with, without] = [true, false].map(|has| run(calls, PageSize::None, seed, has, &weather));
            let story = format!("seed {seed}, {seconds} s of {trouble:?}");
            let failed = |report: &Report| report.requests - report.answered.len() as u64;
            assert!(with.lost.len() <= without.lost.len(), "{story}: {} {}", with.lost.len(), without.lost.len());
            assert!(failed(&with) <= failed(&without), "{story}: {} {}", failed(&with), failed(&without));
            // What is a long outage depends on how long a failure takes to show.
            println!("{story}: {} {} {:?} {}", failed(&with), failed(&without), with.lost.len(), without.lost.len());
            if millis >= 20 * shows_after.max(1_000) {
                assert!(failed(&with) * 2 <= failed(&without), "{story}: {} {}", failed(&with), failed(&without));
            }
            // The first answer after it.
            let first = |report: &Report| report.answered.iter().filter(|at| **at >= from + millis).min().copied();
            let late = first(&with).unwrap().saturating_sub(first(&without).unwrap());
            let bound = (millis / 8).clamp(1_000, 60_000) + shows_after;
            assert!(late <= bound, "{story}: {late} ms late of {bound}");
        }
    }
}

#[test]
fn chance_hardly_ever_opens_it() {
    let mut requests = 0;
    for (seed, percent) in (0..seeds()).flat_map(|seed| [10, 17].map(|percent| (seed, percent))) {
        let weather = move |_: &Request, random: &mut fastrand::Rng| {
            let fails = random.u64(..100) < percent;
            (fails.then_some(Trouble::ServerError), random.u64(50..250))
        };
        let report = run(20_000, PageSize::None, seed, true, &weather);
        assert_eq!((report.opened, report.lost.as_slice()), (0, &[][..]), "seed {seed}, {percent} %");
        requests += report.requests;
    }
    assert!(requests > 20_000);
}

/// Where half and more of all requests fail, it opens now and then. It never loses more calls than there would be lost.
#[test]
fn chance_that_opens_it_costs_no_calls() {
    for percent in [50, 70, 80, 90] {
        let weather = move |_: &Request, random: &mut fastrand::Rng| {
            let fails = random.u64(..100) < percent;
            (fails.then_some(Trouble::ServerError), random.u64(50..250))
        };
        let all = |has| (0..seeds()).map(move |seed| run(2_000, PageSize::None, seed, has, &weather));
        let lost = |has| all(has).map(|report| report.lost.len()).sum::<usize>();
        let (with, without) = (lost(true), lost(false));
        println!("{percent} %: {with} lost instead of {without}");
        assert!(with <= without + without / 20 + 10, "{percent} %: {with} lost instead of {without}");
    }
}

#[test]
fn a_dead_bucket_is_told_of_every_call_in_no_more_time() {
    for (trouble, shows_after) in [(Trouble::Transient, 5), (Trouble::ServerError, 80), (Trouble::TooMuchWork, 60_000)]
    {
        for page in [PageSize::None, PageSize::First { limit: 200, floor: 1 }] {
            let weather = outage(0, u64::MAX, trouble, shows_after);
            let [with, without] = [true, false].map(|has| run(200, page, 7, has, &weather));
            let story = format!("{trouble:?} {page:?}: {} {}", with.requests, without.requests);
            assert_eq!((with.lost.len(), without.lost.len()), (200, 200), "{story}");
            assert!(with.requests * 3 < without.requests * 2, "{story}");
            assert!(with.ended_at <= without.ended_at * 3 / 2, "{story}: {} {}", with.ended_at, without.ended_at);
        }
    }
}

/// Some resources are broken for ever, alone or with all that comes after them: the others are read all the same.
#[test]
fn broken_resources_take_no_others_with_them() {
    for seed in 0..seeds() {
        for (is_broken, lost) in [
            ((|call| call % 20 == 3) as fn(u64) -> bool, 20),
            (|call| (100..140).contains(&call), 40),
            (|call| call >= 380, 20),
            (|call| call % 40 != 7, 390),
        ] {
            let weather = move |request: &Request, random: &mut fastrand::Rng| {
                (is_broken(request.call).then_some(Trouble::ServerError), random.u64(50..250))
            };
            let report = run(400, PageSize::None, seed, true, &weather);
            assert_eq!(report.lost, (0..400).filter(|call| is_broken(*call)).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(report.lost.len(), lost);
        }
    }
}

/// Pages that are too large for Okta, in every list at once, look like an outage: smaller ones are tried all the same.
#[test]
fn pages_that_are_too_large_are_still_made_smaller() {
    for (seed, most) in (0..seeds()).flat_map(|seed| [10, 30, 100, 300].map(|most| (seed, most))) {
        for (trouble, shows_after) in [(Trouble::ServerError, 500), (Trouble::TooMuchWork, 60_000)] {
            let weather = move |request: &Request, random: &mut fastrand::Rng| match request.limit > most {
                true => (Some(trouble), shows_after),
                false => (None, random.u64(50..250)),
            };
            let [with, without] =
                [true, false].map(|has| run(60, PageSize::First { limit: 500, floor: 1 }, seed, has, &weather));
            let story = format!("seed {seed}, {most}, {trouble:?}: {} {}", with.ended_at, without.ended_at);
            assert!(with.lost.len() <= without.lost.len(), "{story}: {:?}", with.lost);
            assert!(with.ended_at <= 3 * without.ended_at + 60_000, "{story}");
        }
    }
}

#[test]
fn other_buckets_do_not_notice() {
    let mut scheduler = Scheduler::new(RateConfig { in_flight_max: 8, reserve_percent: 0 }, 16);
    let mut opened = 0;
    for call in 0..20 {
        let granted = scheduler.go(Bucket::Apps, Priority::Crawl, Standing::of(call), Moment(call));
        scheduler.unanswered(Bucket::Apps, Moment(call));
        let ended = Ended { health: Health::Failing, granted_at: Moment(call), at: Moment(call), random: 0 };
        opened += u32::from(matches!(scheduler.judge(&granted, &ended), Some(Change::Opened(_))));
    }
    assert_eq!(opened, 1);
    let now = Moment(100);
    let waits = scheduler.queue(Bucket::Apps, Priority::Log, Standing::of(30), now);
    let goes = scheduler.queue(Bucket::UsersList, Priority::Crawl, Standing::of(31), now);
    assert_eq!(scheduler.grant(now).map(|granted| granted.place), Some(goes));
    assert_eq!(scheduler.grant(now), None);
    let at = scheduler.wakes_at(Bucket::Apps, now).unwrap();
    let granted = scheduler.grant(at).unwrap();
    assert_eq!((granted.place, granted.turn), (waits, Turn::Probe));
}

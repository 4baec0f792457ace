//! Tables of [`super`]: paths, headers, admissions, turns.

use super::super::ids::Timestamp;
use super::*;

/// `Date` of the made-up answers: 2026-08-02T09:00:22Z.
const DATE: Timestamp = Timestamp::from_millis(1_785_661_222_000);
const RESET: i64 = 1_785_661_260;

#[test]
fn paths_fall_into_buckets() {
    #[track_caller]
    fn check(path: &str, expected: Bucket) {
        assert_eq!(Bucket::of_path(path), expected, "{path}");
    }
    check("/api/v1/apps", Bucket::Apps);
    check("/api/v1/apps?limit=200", Bucket::Apps);
    check("/api/v1/apps/", Bucket::Apps);
    check("/api/v1/apps/0oa1", Bucket::AppsOne);
    check("/api/v1/apps/0oa1?expand=user", Bucket::AppsOne);
    check("/api/v1/apps/0oa1/users", Bucket::Apps);
    check("/api/v1/apps/0oa1/users/00u1", Bucket::Apps);
    check("/api/v1/apps/0oa1/groups?limit=200", Bucket::Apps);
    check("/api/v1/groups", Bucket::GroupsList);
    check("/api/v1/groups/00g1", Bucket::GroupsOne);
    check("/api/v1/groups/rules", Bucket::GroupsList);
    check("/api/v1/groups/00g1/users", Bucket::GroupsList);
    check("/api/v1/users?search=status%20pr", Bucket::UsersList);
    check("/api/v1/users/00u1", Bucket::UsersOne);
    check("/api/v1/users/00u1/groups", Bucket::Other);
    check("/api/v1/logs?since=x", Bucket::Logs);
    check("/api/v1/iam/roles", Bucket::Other);
    check("/api/v1/appsx", Bucket::Other);
    check("/oauth2/v1/clients/0oa1/roles", Bucket::Clients);
    check("/.well-known/okta-organization", Bucket::Public);
    check("", Bucket::Other);
}

#[test]
fn headers_are_read_leniently() {
    #[track_caller]
    fn check(lines: &[(&str, &str)], limit: Option<u64>, remaining: Option<u64>, reset: Option<i64>) {
        let read = RateHeaders::parse(lines.iter().copied());
        assert_eq!((read.limit, read.remaining, read.reset_unix_s), (limit, remaining, reset), "{lines:?}");
    }
    let l = "X-Rate-Limit-Limit";
    check(&[(l, "50"), ("x-rate-limit-remaining", "49"), ("X-RATE-LIMIT-RESET", "7")], Some(50), Some(49), Some(7));
    check(&[(l, "600, 300"), (l, " 450 ")], Some(300), None, None);
    check(&[("x-rate-limit-reset", "5,9, x"), ("x-rate-limit-reset", "8")], None, None, Some(9));
    check(&[(l, "-5"), ("x-rate-limit-remaining", "many"), ("x-rate-limit-reset", "")], None, None, None);
    check(&[(l, "99999999999999999999999"), ("x-rate-limit-reset", "1.5")], None, None, None);
    check(&[("x-rate-limit-reset", "9223372036854775807")], None, None, Some(i64::MAX));
    check(&[], None, None, None);
}

#[test]
fn refusals_say_what_helps() {
    #[track_caller]
    fn check(lines: &[(&str, &str)], expected: Refusal) {
        assert_eq!(RateHeaders::parse(lines.iter().copied()).refusal(), expected, "{lines:?}");
    }
    let (limit, reset) = ("x-rate-limit-limit", "x-rate-limit-reset");
    check(&[(limit, "100"), (reset, "1785661260")], Refusal::Window);
    check(&[(limit, "0"), (reset, "1785661260")], Refusal::Concurrency);
    check(&[(limit, "100")], Refusal::Concurrency);
    check(&[(reset, "1785661260")], Refusal::Concurrency);
    check(&[], Refusal::Concurrency);
    check(&[("Retry-After", "7")], Refusal::Pause { wait_millis: 7_000 });
    check(&[("Retry-After", "86400")], Refusal::Pause { wait_millis: WAIT_MILLIS_MAX });
    check(&[("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")], Refusal::Concurrency);
}

fn headers(limit: u64, remaining: u64, reset_unix_s: i64) -> RateHeaders {
    RateHeaders {
        limit: Some(limit),
        remaining: Some(remaining),
        reset_unix_s: Some(reset_unix_s),
        retry_after_s: None,
    }
}

/// One bucket and Okta's clock, which shows [`DATE`] when ours shows 0.
struct Bench {
    bucket: BucketRate,
    clock: ServerClock,
    sent: u64,
}

impl Bench {
    fn new(reserve_percent: u8) -> Self {
        let mut clock = ServerClock::default();
        clock.observe(DATE, Moment(0), Moment(0));
        Self { bucket: BucketRate::new(RateConfig { in_flight_max: 4, reserve_percent }), clock, sent: 0 }
    }

    /// Its first answer came at 0.
    fn answered_once(reserve_percent: u8, seen: RateHeaders) -> Self {
        let mut bench = Self::new(reserve_percent);
        bench.send(0);
        bench.answer(0, seen, 0);
        bench
    }

    fn admit(&self, at: u64) -> Admission {
        self.bucket.admit(Urgency::Patient, Moment(at), &self.clock)
    }

    fn send(&mut self, at: u64) {
        self.sent += 1;
        self.bucket.sent(self.sent, Moment(at), &self.clock);
    }

    fn answer(&mut self, sent: u64, seen: RateHeaders, at: u64) {
        self.bucket.answered(&seen, Moment(sent), Moment(at), &mut self.clock);
    }

    fn refuse(&mut self, sent: u64, seen: RateHeaders, at: u64) -> Option<Moment> {
        self.bucket.refused(&seen, Moment(sent), Moment(at), &mut self.clock)
    }

    /// When one more may go, if time alone decides it.
    fn goes_at(&self, from: u64) -> u64 {
        let mut now = from;
        loop {
            match self.admit(now) {
                Admission::Go => return now,
                Admission::At(at) if at.0 > now => now = at.0,
                other => panic!("{other:?} at {now}"),
            }
        }
    }

    fn remaining(&self, at: u64) -> Option<u64> {
        self.bucket.remaining(Moment(at), &self.clock)
    }
}

/// When a window that ends at [`RESET`] is over, known from one answer at 0: `Reset − Date + 1 s`, and the cut-off
/// milliseconds.
const OVER: u64 = 39_001;

#[test]
fn one_request_explores_a_bucket() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.admit(0), Admission::Go);
    bench.send(0);
    assert_eq!(bench.admit(0), Admission::AfterAnswer);
    bench.bucket.unanswered(Moment(0));
    assert_eq!(bench.admit(0), Admission::Go);
    bench.send(0);
    bench.answer(0, RateHeaders::default(), 5);
    for _ in 0..4 {
        assert_eq!(bench.admit(5), Admission::Go);
        bench.send(5);
    }
    assert_eq!(bench.admit(5), Admission::AfterAnswer);
}

#[test]
fn the_reserve_is_left_to_others_and_released_as_the_window_passes() {
    #[track_caller]
    fn check(limit: u64, remaining: u64, reserve_percent: u8, at: u64, expected: bool) {
        // The second window, so that it is known whether there are others; all of it ours, from 2 s to about 38 s.
        let mut bench = Bench::answered_once(reserve_percent, headers(limit, limit - 1, RESET - 37));
        for left in (remaining..limit).rev() {
            bench.send(2_000);
            bench.answer(2_000, headers(limit, left, RESET), 2_000);
        }
        let admitted = bench.admit(at);
        assert_eq!(
            admitted == Admission::Go,
            expected,
            "{remaining}/{limit} at {at}, {reserve_percent} %: {admitted:?}"
        );
    }
    // Two are kept to find the end with.
    check(50, 8, 10, 2_000, true);
    check(50, 7, 10, 2_000, false);
    check(50, 6, 10, 10_000, false);
    check(50, 6, 10, 20_000, true);
    check(50, 4, 10, 33_000, true);
    check(50, 3, 10, 30_000, false);
    check(50, 2, 10, 35_000, false);
    check(50, 3, 0, 2_000, true);
    check(50, 2, 0, 2_000, false);
    check(100, 53, 50, 2_000, true);
    check(100, 52, 50, 2_000, false);
    check(100, 52, 50, 4_000, true);
    // Something is left of the smallest limit, whatever the share.
    check(2, 1, 10, 2_000, true);
    check(2, 1, 255, 37_500, true);
    assert_eq!(Bench::answered_once(255, headers(1, 1, RESET)).admit(0), Admission::Go);
}

#[test]
fn in_a_first_window_nobody_knows_who_else_is_there() {
    // A fifth of the window is spent over its time, to see whether somebody takes of it.
    let mut bench = Bench::answered_once(10, headers(50, 12, RESET));
    assert_eq!(bench.goes_at(0), 3_000);
    bench.send(3_000);
    bench.answer(3_000, headers(50, 11, RESET), 3_050);
    let looks_at = bench.goes_at(3_100);
    assert!((5_000..8_000).contains(&looks_at), "{looks_at}");
    // Somebody did: from then on it is looked sooner.
    bench.send(looks_at);
    bench.answer(looks_at, headers(50, 7, RESET), looks_at + 50);
    let sooner = bench.goes_at(looks_at + 100);
    assert!(sooner < looks_at + 3_000, "{sooner}");
}

#[test]
fn urgent_reads_may_use_half_of_the_reserve() {
    #[track_caller]
    fn check(remaining: u64, expected: bool) {
        let bench = Bench::answered_once(10, headers(100, remaining, RESET));
        assert_eq!(
            bench.bucket.admit(Urgency::Urgent, Moment(0), &bench.clock) == Admission::Go,
            expected,
            "{remaining}"
        );
        assert_ne!(bench.admit(0), Admission::Go, "{remaining}");
    }
    check(10, true);
    check(6, true);
    check(5, false);
    check(0, false);
}

#[test]
fn a_window_never_grows_but_by_newer_answers() {
    let mut bench = Bench::answered_once(0, headers(50, 10, RESET));
    bench.send(1);
    bench.send(2);
    assert_eq!(bench.remaining(3), Some(8));
    // The answer to the later request comes first; the other one is still in flight.
    bench.answer(2, headers(50, 8, RESET), 10);
    assert_eq!(bench.remaining(10), Some(7));
    bench.answer(1, headers(50, 9, RESET), 20);
    assert_eq!(bench.remaining(20), Some(8));
    // A late answer of an older window changes nothing.
    bench.send(21);
    bench.answer(5, headers(50, 40, RESET - 60), 30);
    assert_eq!(bench.remaining(30), Some(8));
    // One without headers may have been counted, as one that was never answered; a newer one knows.
    bench.send(31);
    bench.answer(31, RateHeaders::default(), 40);
    bench.send(41);
    bench.bucket.unanswered(Moment(41));
    assert_eq!(bench.remaining(50), Some(6));
    bench.send(51);
    bench.answer(51, headers(50, 6, RESET), 60);
    assert_eq!(bench.remaining(60), Some(6));
}

#[test]
fn a_spent_window_is_waited_out_and_one_request_looks_for_the_next() {
    let mut bench = Bench::answered_once(0, headers(50, 0, RESET));
    assert_eq!(bench.admit(1), Admission::At(Moment(OVER)));
    assert_eq!(bench.admit(OVER - 1), Admission::At(Moment(OVER)));
    assert_eq!(bench.admit(OVER), Admission::Go);
    assert_eq!(bench.remaining(OVER), None);
    // By its Reset it is over for sure: the others need not wait.
    bench.send(OVER);
    assert_eq!(bench.admit(OVER), Admission::Go);
    bench.answer(OVER, headers(50, 49, RESET + 60), OVER + 100);
    assert_eq!(bench.remaining(OVER + 100), Some(49));
}

#[test]
fn where_a_window_may_have_ended_only_what_is_left_is_used_to_find_out() {
    let mut bench = Bench::answered_once(0, headers(50, 2, RESET));
    // It ends between 36 and 39 s: in the middle one request goes.
    assert_eq!(bench.goes_at(100), 37_500);
    bench.send(37_500);
    assert_eq!(bench.admit(37_501), Admission::At(Moment(OVER)), "at the latest; mostly with the answer");
    // It goes on: the next one goes between now and the end.
    bench.answer(37_500, headers(50, 1, RESET), 37_550);
    assert_eq!(bench.goes_at(37_560), 38_250);
    bench.send(38_250);
    bench.answer(38_250, headers(50, 0, RESET), 38_300);
    assert_eq!(bench.goes_at(38_310), OVER);
}

#[test]
fn a_refusal_of_the_window_is_one_wait() {
    let mut bench = Bench::answered_once(10, headers(50, 40, RESET));
    bench.send(50);
    assert_eq!(bench.refuse(50, headers(50, 0, RESET), 100), Some(Moment(OVER)));
    assert_eq!(bench.admit(101), Admission::At(Moment(OVER)));
    assert_eq!(bench.admit(OVER), Admission::Go);
    // A Reset that has passed, and one that never comes.
    let mut bench = Bench::new(10);
    bench.send(50);
    assert_eq!(bench.refuse(50, headers(50, 0, RESET - 60), 100), Some(Moment(100 + WAIT_MILLIS_MIN)));
    bench.send(2_000);
    assert_eq!(bench.refuse(2_000, headers(50, 0, RESET + 86_400), 2_050), Some(Moment(2_050 + WAIT_MILLIS_MAX)));
    // Another window than that of the other answers: its own Reset counts, and the other window goes on.
    let mut bench = Bench::answered_once(10, headers(50, 40, RESET));
    bench.send(50);
    assert_eq!(bench.refuse(50, headers(50, 0, RESET - 37), 100), Some(Moment(OVER - 37_000)));
    assert_eq!(bench.admit(OVER - 37_000), Admission::Go);
    // Too many at once is no matter of the bucket.
    let mut bench = Bench::answered_once(10, headers(50, 40, RESET));
    bench.send(50);
    assert_eq!(bench.refuse(50, headers(0, 0, RESET), 100), None);
    assert_eq!(bench.admit(101), Admission::Go);
    assert_eq!(bench.bucket.refused_count(), 1);
}

#[test]
fn a_nonsense_reset_is_not_believed_for_long() {
    // Milliseconds for seconds, and a day too late: no window ends then.
    for reset in [RESET * 1_000, RESET + 86_400] {
        let mut bench = Bench::answered_once(0, headers(50, 30, RESET));
        bench.send(10);
        bench.answer(10, headers(50, 49, reset), 20);
        bench.send(30);
        bench.answer(30, headers(50, 28, RESET), 40);
        assert_eq!(bench.remaining(50), Some(28), "{reset}");
    }
}

#[test]
fn no_sequence_of_headers_blocks_for_ever() {
    let odd = [0, 1, 49, u64::MAX];
    for (limit, remaining) in odd.iter().flat_map(|limit| odd.iter().map(move |remaining| (*limit, *remaining))) {
        for reset in [i64::MIN, 0, RESET, i64::MAX] {
            let mut bench = Bench::answered_once(10, headers(limit, remaining, reset));
            bench.send(0);
            let until = bench.refuse(0, headers(limit, remaining, reset), 0).unwrap_or_default();
            assert!(until <= Moment(WAIT_MILLIS_MAX));
            assert_eq!(bench.admit(2 * WAIT_MILLIS_MAX), Admission::Go, "{limit} {remaining} {reset}");
        }
    }
}

#[test]
fn without_a_date_the_local_clock_serves() {
    let mut scheduler = Scheduler::new(RateConfig { in_flight_max: 4, reserve_percent: 0 }, 16);
    scheduler.go(Bucket::Apps, Priority::Crawl, Standing::default(), Moment(0));
    let timing = Timing { sent: Moment(0), received: Moment(0), date: None, wall: DATE };
    let until = scheduler.refused(Bucket::Apps, &headers(50, 0, RESET), &timing);
    assert_eq!(until, Some(Moment(OVER - 2)));
}

/// A scheduler whose apps bucket has plenty left.
fn scheduler(in_flight_max: u32) -> Scheduler {
    let mut scheduler = Scheduler::new(RateConfig { in_flight_max, reserve_percent: 10 }, 16);
    for bucket in [Bucket::Apps, Bucket::UsersList] {
        scheduler.go(bucket, Priority::Crawl, Standing::default(), Moment(0));
        answer(&mut scheduler, bucket, 500);
    }
    scheduler
}

fn answer(scheduler: &mut Scheduler, bucket: Bucket, remaining: u64) {
    let timing = Timing { sent: Moment(0), received: Moment(0), date: Some(DATE), wall: DATE };
    scheduler.answered(bucket, &headers(600, remaining, RESET), &timing);
}

#[test]
fn urgent_reads_go_first_and_a_crawl_goes_on() {
    let mut scheduler = scheduler(1);
    let mut names = std::collections::BTreeMap::new();
    for count in 0..10 {
        names.insert(
            scheduler.queue(Bucket::Apps, Priority::Crawl, Standing::default(), Moment(0)),
            format!("c{count}"),
        );
    }
    for count in 0..10 {
        names
            .insert(scheduler.queue(Bucket::Apps, Priority::ById, Standing::default(), Moment(0)), format!("u{count}"));
    }
    names.insert(scheduler.queue(Bucket::Apps, Priority::Log, Standing::default(), Moment(0)), "log".to_owned());
    let mut order = Vec::new();
    for _ in 0..16 {
        let place = scheduler.grant(Moment(1)).unwrap().place;
        assert_eq!(scheduler.grant(Moment(1)), None, "one in flight");
        order.push(names[&place].as_str());
        answer(&mut scheduler, Bucket::Apps, 500);
    }
    assert_eq!(order.join(" "), "log u0 u1 u2 c0 u3 u4 u5 u6 c1 u7 u8 u9 c2 c3 c4");
}

#[test]
fn no_bucket_crowds_another_one_out() {
    let mut scheduler = scheduler(10);
    for _ in 0..100 {
        scheduler.queue(Bucket::UsersList, Priority::Crawl, Standing::default(), Moment(0));
    }
    for _ in 0..100 {
        scheduler.queue(Bucket::Apps, Priority::Crawl, Standing::default(), Moment(0));
    }
    let granted: Vec<Bucket> =
        std::iter::from_fn(|| scheduler.grant(Moment(1))).map(|granted| granted.place.bucket()).collect();
    assert_eq!(granted.len(), 16, "of the org");
    assert_eq!(granted.iter().filter(|bucket| **bucket == Bucket::Apps).count(), 8);
}

#[test]
fn whoever_left_is_not_granted() {
    let mut scheduler = scheduler(10);
    let first = scheduler.queue(Bucket::Apps, Priority::Crawl, Standing::default(), Moment(0));
    let second = scheduler.queue(Bucket::Apps, Priority::Crawl, Standing::default(), Moment(0));
    scheduler.leave(first);
    assert_eq!(scheduler.grant(Moment(1)).map(|granted| granted.place), Some(second));
    assert_eq!(scheduler.grant(Moment(1)), None);
    scheduler.unsent(second);
    assert!(scheduler.buckets().all(|(_, bucket, waiting)| (bucket.in_flight(), waiting) == (0, 0)));
}

/// A request that was not sent gives back what it took, and nothing of another one.
#[test]
fn what_was_not_sent_costs_nothing() {
    let mut bench = Bench::answered_once(0, headers(50, 10, RESET));
    bench.send(1);
    assert_eq!(bench.remaining(2), Some(9));
    bench.bucket.unsent(bench.sent);
    assert_eq!(bench.remaining(2), Some(10));
    // One looks for the next window; another, granted before, comes back unsent: the question stands.
    let mut bench = Bench::answered_once(0, headers(50, 4, RESET));
    bench.send(30_000);
    let earlier = bench.sent;
    let looks_at = bench.goes_at(36_100);
    bench.send(looks_at);
    bench.bucket.unsent(earlier);
    assert_eq!(bench.admit(looks_at + 1), Admission::At(Moment(OVER)));
    bench.bucket.unsent(bench.sent);
    assert_eq!(bench.admit(looks_at + 1), Admission::Go);
}

#[test]
fn idle_polls_leave_room_in_the_bucket_of_the_log() {
    let check = |limit, expected| assert_eq!(log_pause_millis(limit, 60_000), expected, "{limit:?}");
    check(None, 0);
    check(Some(0), 0); // a concurrency limit says nothing about the window
    check(Some(60), 1_250);
    check(Some(10), 7_500);
    check(Some(1), 75_000);
    check(Some(u64::MAX), 1);
    assert_eq!(log_pause_millis(Some(10), 5_000), 625);
}

/// Windows count as those of the documentation until answers show another length.
#[test]
fn the_length_of_windows_is_learnt() {
    let mut bench = Bench::answered_once(10, headers(50, 49, RESET));
    assert_eq!(bench.bucket.window_millis(), 60_000);
    for seconds in [10, 20] {
        let at = 38_500 + (seconds - 10) * 1_000;
        bench.send(at);
        bench.answer(at, headers(50, 49, RESET + seconds.cast_signed()), at + 20);
    }
    let learnt = bench.bucket.window_millis();
    assert!((9_000..=13_000).contains(&learnt), "{learnt}");
}

/// Where one request of the org is in flight at a time, urgent reads of one bucket leave a turn to the crawl of another.
#[test]
fn urgent_reads_of_one_bucket_do_not_starve_the_crawl_of_another() {
    let mut scheduler = Scheduler::new(RateConfig { in_flight_max: 4, reserve_percent: 10 }, 1);
    for bucket in [Bucket::Apps, Bucket::UsersList] {
        scheduler.go(bucket, Priority::Crawl, Standing::default(), Moment(0));
        answer(&mut scheduler, bucket, 500);
    }
    for _ in 0..20 {
        scheduler.queue(Bucket::Apps, Priority::ById, Standing::default(), Moment(0));
        scheduler.queue(Bucket::UsersList, Priority::Crawl, Standing::default(), Moment(0));
    }
    let mut order = String::new();
    for _ in 0..15 {
        let bucket = scheduler.grant(Moment(1)).unwrap().place.bucket();
        assert_eq!(scheduler.grant(Moment(1)), None, "one in flight");
        order.push(if bucket == Bucket::Apps { 'u' } else { 'c' });
        answer(&mut scheduler, bucket, 500);
    }
    assert_eq!(order, "uuuucuuuucuuuuc");
}

/// Refusals that other answers contradict, from a clock that stands still, cost a wait each and nothing more.
#[test]
fn refusals_out_of_nowhere_do_not_stop_a_bucket() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut scheduler = Scheduler::new(RateConfig { in_flight_max: 4, reserve_percent: 10 }, 16);
        let (mut now, mut answers, mut refusals) = (0, 0, 4);
        let mut in_flight = Vec::new();
        while answers < 60 {
            scheduler.queue(Bucket::Apps, Priority::Crawl, Standing::default(), Moment(0));
            while scheduler.grant(Moment(now)).is_some() {
                in_flight.push(now);
            }
            if in_flight.is_empty() {
                now = scheduler.wakes_at(Bucket::Apps, Moment(now)).unwrap().0;
                continue;
            }
            let sent = in_flight.swap_remove(random.usize(..in_flight.len()));
            now += random.u64(1..4);
            let timing = Timing { sent: Moment(sent), received: Moment(now), date: Some(DATE), wall: DATE };
            if refusals > 0 && random.u8(..3) == 0 {
                refusals -= 1;
                scheduler.refused(Bucket::Apps, &headers(100_000, 0, RESET - 37), &timing);
            } else {
                answers += 1;
                scheduler.answered(Bucket::Apps, &headers(100_000, 100_000 - answers, RESET), &timing);
            }
        }
        assert!(now < 4 * 2_100, "seed {seed}: {now}");
    }
}

//! Tables of [`super`]: paths, headers, admissions.

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
        assert_eq!(RateHeaders::parse(lines.iter().copied()).refusal(DATE), expected, "{lines:?}");
    }
    let (limit, reset) = ("x-rate-limit-limit", "x-rate-limit-reset");
    let window = |wait_millis| Refusal::Window { wait_millis };
    check(&[(limit, "100"), (reset, "1785661260")], window(39_000));
    check(&[(limit, "100"), (reset, "1785661230, 1785661260")], window(39_000));
    check(&[(limit, "100"), (reset, "1785661000")], window(WAIT_MILLIS_MIN));
    check(&[(limit, "100"), (reset, "9223372036854775807")], window(WAIT_MILLIS_MAX));
    check(&[(limit, "0"), (reset, "1785661260")], Refusal::Concurrency);
    check(&[(limit, "100")], Refusal::Concurrency);
    check(&[(reset, "1785661260")], Refusal::Concurrency);
    check(&[], Refusal::Concurrency);
    check(&[("Retry-After", "7")], window(7_000));
    check(&[("Retry-After", "86400")], window(WAIT_MILLIS_MAX));
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

fn answered_once(config: RateConfig, seen: RateHeaders) -> BucketRate {
    let mut bucket = BucketRate::new(config);
    bucket.sent();
    bucket.answered(&seen, DATE, Moment(0));
    bucket
}

#[test]
fn one_request_explores_a_bucket() {
    let mut bucket = BucketRate::new(RateConfig::default());
    assert_eq!(bucket.admit(Moment(0)), Admission::Go);
    bucket.sent();
    assert_eq!(bucket.admit(Moment(0)), Admission::AfterAnswer);
    bucket.unanswered();
    assert_eq!(bucket.admit(Moment(0)), Admission::Go);
    bucket.sent();
    bucket.answered(&RateHeaders::default(), DATE, Moment(5));
    for _ in 0..4 {
        assert_eq!(bucket.admit(Moment(5)), Admission::Go);
        bucket.sent();
    }
    assert_eq!(bucket.admit(Moment(5)), Admission::AfterAnswer);
}

#[test]
fn the_reserve_is_left_to_others() {
    #[track_caller]
    fn check(limit: u64, remaining: u64, reserve_percent: u8, expected: Admission) {
        let config = RateConfig { in_flight_max: 4, reserve_percent };
        let mut bucket = answered_once(config, headers(limit, remaining, RESET));
        assert_eq!(bucket.admit(Moment(1)), expected, "{remaining} of {limit}, {reserve_percent} %");
    }
    let at_reset = Admission::At(Moment(39_000));
    check(50, 6, 10, Admission::Go);
    check(50, 5, 10, at_reset);
    check(50, 1, 0, Admission::Go);
    check(50, 0, 0, at_reset);
    check(1, 1, 10, Admission::Go);
    check(1, 1, 255, Admission::Go);
    check(10, 9, 255, at_reset);
    check(10, 10, 255, Admission::Go);
    check(0, 0, 10, Admission::Go);
    check(u64::MAX, u64::MAX, 10, Admission::Go);
}

#[test]
fn a_window_never_grows_and_the_next_one_is_fresh() {
    let mut bucket = answered_once(RateConfig { in_flight_max: 4, reserve_percent: 0 }, headers(50, 10, RESET));
    bucket.sent();
    bucket.sent();
    assert_eq!(bucket.remaining(Moment(0)), Some(8));
    // The answer to the later request comes first; the other one is still in flight.
    bucket.answered(&headers(50, 8, RESET), DATE, Moment(10));
    assert_eq!(bucket.remaining(Moment(10)), Some(7));
    bucket.answered(&headers(50, 9, RESET), DATE, Moment(20));
    assert_eq!(bucket.remaining(Moment(20)), Some(7));
    // A late answer of an older window changes nothing.
    bucket.sent();
    bucket.answered(&headers(50, 40, RESET - 60), DATE, Moment(30));
    assert_eq!(bucket.remaining(Moment(30)), Some(6));
    // Nothing left: wait for the reset, then begin with the whole limit.
    bucket.sent();
    bucket.answered(&headers(50, 0, RESET), DATE, Moment(40));
    assert_eq!(bucket.admit(Moment(41)), Admission::At(Moment(39_000)));
    assert_eq!(bucket.admit(Moment(39_000)), Admission::Go);
    assert_eq!(bucket.remaining(Moment(39_000)), Some(50));
    bucket.sent();
    bucket.answered(&headers(50, 49, RESET + 60), DATE, Moment(39_100));
    assert_eq!(bucket.remaining(Moment(39_100)), Some(49));
}

#[test]
fn refusals_block_and_narrow() {
    let mut bucket = answered_once(RateConfig::default(), headers(50, 40, RESET));
    bucket.sent();
    assert_eq!(bucket.refused(&headers(50, 0, RESET), DATE, Moment(100), 1_234), 39_000);
    assert_eq!(bucket.admit(Moment(101)), Admission::At(Moment(39_100)));

    let mut bucket = answered_once(RateConfig::default(), RateHeaders::default());
    bucket.sent();
    assert_eq!(bucket.refused(&headers(0, 0, RESET), DATE, Moment(100), 1_234), 1_234);
    assert_eq!(bucket.admit(Moment(101)), Admission::At(Moment(1_334)));
    bucket.sent();
    bucket.sent();
    assert_eq!(bucket.admit(Moment(1_334)), Admission::AfterAnswer, "half of four");
    for _ in 0..ANSWERS_TO_WIDEN {
        bucket.answered(&RateHeaders::default(), DATE, Moment(2_000));
        bucket.sent();
    }
    for _ in 0..3 {
        assert_eq!(bucket.admit(Moment(2_000)), Admission::Go);
        bucket.sent();
        if bucket.in_flight() == 3 {
            break;
        }
    }
    assert_eq!(bucket.admit(Moment(2_000)), Admission::AfterAnswer, "widened to three");
}

#[test]
fn no_sequence_of_headers_blocks_for_ever() {
    let odd = [0, 1, 49, u64::MAX];
    for (limit, remaining) in odd.iter().flat_map(|limit| odd.iter().map(move |remaining| (*limit, *remaining))) {
        for reset in [0, RESET, i64::MAX] {
            let mut bucket = answered_once(RateConfig::default(), headers(limit, remaining, reset));
            bucket.sent();
            bucket.refused(&headers(limit, remaining, reset), DATE, Moment(0), u64::MAX);
            let at = match bucket.admit(Moment(0)) {
                Admission::At(at) => at,
                other => panic!("{other:?} right after a refusal"),
            };
            assert!(at <= Moment(WAIT_MILLIS_MAX));
            assert_eq!(bucket.admit(at.plus_millis(WAIT_MILLIS_MAX)), Admission::Go);
        }
    }
}

#[test]
fn idle_polls_leave_room_in_the_bucket_of_the_log() {
    let check = |limit, expected| assert_eq!(log_pause_millis(limit), expected, "{limit:?}");
    check(None, 0);
    check(Some(0), 0); // a concurrency limit says nothing about the window
    check(Some(60), 1_250);
    check(Some(10), 7_500);
    check(Some(1), 75_000);
    check(Some(u64::MAX), 1);
}

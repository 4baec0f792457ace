//! Tables of [`super`]: what opens a circuit, who asks, what closes it.

use super::*;

/// A circuit and the numbers of the calls whose requests end, one a second.
#[derive(Default)]
struct Bench {
    circuit: Circuit,
    now: u64,
}

impl Bench {
    /// `!3` call 3 fails, `3` it is answered, `?3` nobody knows.
    fn play(&mut self, story: &str) -> &mut Self {
        for word in story.split(' ').filter(|word| !word.is_empty()) {
            let (health, call) = match word.split_at(1) {
                ("!", call) => (Health::Failing, call),
                ("?", call) => (Health::Unknown, call),
                _ => (Health::Well, word),
            };
            self.end(Turn::Usual, Standing::of(call.parse().unwrap()), health);
        }
        self
    }

    fn end(&mut self, turn: Turn, standing: Standing, health: Health) -> Option<Change> {
        self.now += 1_000;
        self.circuit.ended((turn, standing), health, (Moment(self.now - 100), Moment(self.now)), 0)
    }

    /// Whose turn it is, of calls that have failed so often and wait since the beginning.
    fn turns(&self, failures: &[u32]) -> Vec<(u64, Turn, u64)> {
        let waiting: Vec<_> = (0..)
            .zip(failures)
            .map(|(call, failures)| {
                ((Priority::Crawl, call), (Standing { failures: *failures, ..Standing::of(call) }, Moment(0)))
            })
            .collect();
        let turns = self.circuit.turns(waiting.iter().map(|(place, waiter)| (place, waiter)), 4);
        turns.into_iter().flatten().flatten().map(|due| (due.standing.call, due.turn, due.at.0)).collect()
    }
}

#[test]
fn many_failures_of_many_calls_open_it() {
    #[track_caller]
    fn check(story: &str, is_open: bool) {
        let mut bench = Bench::default();
        bench.play(story);
        assert_eq!(bench.circuit.outage().is_some(), is_open, "{story}: {:?}", bench.circuit);
    }
    check("", false);
    check("!1 !2 !3 !4 !5 !6 !7", false);
    check("!1 !2 !3 !4 !5 !6 !7 !8", true);
    check("!1 !2 !3 !4 !1 !2 !3 !4", true);
    // Three calls, however often: a few broken resources.
    check(&"!1 !2 !3 ".repeat(20), false);
    check(&"!1 ".repeat(100), false);
    // What is refused for the rate, or was given up, counts for neither.
    check("!1 !2 !3 !4 ?5 ?6 !5 ?7 !6 !7 !8", true);
    check(&"?1 ?2 ?3 ?4 ".repeat(20), false);
    // One answer in between: it is not the bucket.
    check("!1 !2 !3 !4 !5 !6 !7 9 !1 !2 !3 !4 !5 !6 !7", false);
    // After many answers eight failures are no large part; twelve are.
    let answers = "9 ".repeat(50);
    check(&format!("{answers} !1 !2 !3 !4 !5 !6 !7 !8 !1 !2 !3"), false);
    check(&format!("{answers} !1 !2 !3 !4 !5 !6 !7 !8 !1 !2 !3 !4"), true);
    // An answer closes it at once.
    check("!1 !2 !3 !4 !5 !6 !7 !8 9", false);
    check("!1 !2 !3 !4 !5 !6 !7 !8 ?9", true);
}

const DEAD: &str = "!1 !2 !3 !4 !5 !6 !7 !8";

#[test]
fn opening_and_closing_are_told_once() {
    let mut bench = Bench::default();
    bench.play("!1 !2 !3 !4 !5 !6 !7");
    let opened = bench.end(Turn::Usual, Standing::of(8), Health::Failing);
    let outage = Outage { since: Moment(1_000), next_at: Moment(8_750), failures: 8 };
    assert_eq!(opened, Some(Change::Opened(outage)));
    assert_eq!(bench.end(Turn::Usual, Standing::of(9), Health::Failing), None);
    let closed = bench.end(Turn::Usual, Standing::of(9), Health::Well);
    assert_eq!(closed, Some(Change::Closed(Outage { failures: 9, ..outage })));
    assert_eq!((bench.end(Turn::Usual, Standing::of(9), Health::Well), bench.circuit.opened_count()), (None, 1));
}

#[test]
fn one_asks_by_turns_the_one_that_has_failed_least_and_most() {
    let mut bench = Bench::default();
    assert!(bench.circuit.turns(std::iter::empty(), 4).is_none(), "closed");
    bench.play(DEAD);
    // It opened at 8 s; each failure took 0.1 s. The pauses of a call take 23.5 s at most, its six repetitions 0.6 s.
    let last_at = 8_000 + TRANSIENT_WAITS_MILLIS + 600;
    assert_eq!(bench.turns(&[3, 1, 1, 2]), [(0, Turn::Last, last_at), (1, Turn::Probe, 8_750)]);
    // While one asks, no other does, but who has waited long enough goes all the same.
    bench.circuit.granted(Turn::Probe);
    assert_eq!(bench.turns(&[3, 1, 1, 2]), [(0, Turn::Last, last_at)]);
    // It fails at 9 s, 8 s after the first: a pause of a second, or a little less.
    let asked = Standing { waits: Some((1, Moment(8_000))), ..Standing::of(1) };
    assert_eq!(bench.end(Turn::Probe, asked, Health::Failing), None);
    assert_eq!(bench.turns(&[2, 2, 1, 3]), [(0, Turn::Last, last_at), (3, Turn::Probe, 9_750)]);
    // Twice as many as may be in flight would wait for each other, too.
    assert_eq!(bench.turns(&[1; 8])[0], (0, Turn::Last, 8_000 + TRANSIENT_WAITS_MILLIS + 2 * 600));
    // Time-outs of a minute: whoever waits may wait for longer, as its own repetitions would have taken longer.
    bench.circuit.granted(Turn::Probe);
    bench.now += 60_000;
    bench.end(Turn::Probe, asked, Health::Failing);
    let slow = bench.circuit.ended((Turn::Usual, asked), Health::Failing, (Moment(9_000), Moment(69_000)), 0);
    assert_eq!(slow, None);
    assert_eq!(bench.turns(&[3])[0], (0, Turn::Last, 8_000 + TRANSIENT_WAITS_MILLIS + 6 * 60_000));
}

#[test]
fn a_call_that_waits_goes_on_waiting_in_the_same_outage_and_begins_anew_in_the_next() {
    let mut bench = Bench::default();
    bench.play(DEAD);
    let standing = bench.circuit.standing(Standing::of(1), Moment(10_000));
    assert_eq!(standing.waits, Some((1, Moment(10_000))));
    assert_eq!(bench.circuit.standing(standing, Moment(20_000)).waits, Some((1, Moment(10_000))));
    bench.play("9").play(DEAD);
    assert_eq!(bench.circuit.standing(standing, Moment(30_000)).waits, Some((2, Moment(30_000))));
    // Who asked in the outage before does not end the question of this one.
    bench.circuit.granted(Turn::Probe);
    bench.end(Turn::Probe, standing, Health::Unknown);
    assert!(bench.turns(&[0]).iter().all(|(_, turn, _)| *turn == Turn::Last));
}

#[test]
fn pauses_grow_with_the_outage_within_their_bounds() {
    #[track_caller]
    fn check(age_millis: u64, least: u64, most: u64) {
        for random in [0, 1, 77_777, u64::MAX] {
            let pause = pause_millis(age_millis, random);
            assert!((least..=most).contains(&pause), "{age_millis}: {pause}");
        }
    }
    check(0, 750, 1_000);
    check(8_000, 750, 1_000);
    check(80_000, 7_500, 10_000);
    check(480_000, 45_000, 60_000);
    check(u64::MAX, 45_000, 60_000);
}

//! What other clients take of a bucket, as far as our own answers show: what is missing and was not ours.
//!
//! Entry point: [`Foreign`].
//!
//! It is a forecast, for spacing our requests. Somebody who begins without a sign can still take the request that we
//! counted on.

use super::clock::Span;

/// Others' requests in the window, at least that many, as of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) at: i64,
    pub(super) seen: u64,
}

/// Requests of others: as a steady stream, and all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Foreign {
    /// Where this window's count begins, and the newest look.
    first: Option<Look>,
    last: Option<Look>,
    /// The most that came at once in this window, and within how many milliseconds; the look before the newest jump, and
    /// when it began to show.
    jump: u64,
    jump_millis: i64,
    jump_from: Option<(Look, i64)>,
    /// Of earlier windows: requests of the stream in 1,000 s, in all, and at once; the latter two
    /// fade once no burst is expected.
    past_rate: u64,
    past_total: u64,
    /// For how long the past counts in a new window.
    past_millis: u64,
    past_burst: u64,
    has_past: bool,
    /// What others took in this window so that we were refused, or may have taken.
    took: u64,
    /// In how many windows without a burst the next one is still expected.
    regularity: u32,
}

impl Foreign {
    /// An answer shows what was used by then; `since` is where counting begins if it is the first of its window.
    pub(super) fn look(&mut self, look: Look, since: i64) {
        let before = self.last.unwrap_or(Look { at: since.min(look.at), seen: 0 });
        self.first.get_or_insert(before);
        if look.seen < before.seen {
            return;
        }
        // What shows within a short time came at once: requests of ours in flight hide as many of others' until answered.
        let goes_on = |(_, begun): &(Look, i64)| look.at.saturating_sub(*begun) <= AT_ONCE_MILLIS;
        let (since, begun) = self.jump_from.filter(goes_on).unwrap_or((before, look.at));
        self.jump_from = Some((since, begun));
        let jump = look.seen - since.seen;
        if jump > self.jump {
            (self.jump, self.jump_millis) = (jump, look.at.saturating_sub(since.at));
        }
        self.last = Some(look);
    }

    /// The first look of all: what was used before it came at any time.
    pub(super) fn begin(&mut self, look: Look) {
        (self.first, self.last) = (Some(look), Some(look));
    }

    /// A request of ours was refused although so much should have been left of a window of this limit: others took it, and would
    /// have taken more. Many at once, or somebody new, may be as many as half of it.
    pub(super) fn took_unseen(&mut self, count: u64, limit: u64) {
        let is_much = !self.has_past || count > BURST_MIN.max(limit / 32);
        let most = if is_much { limit / 2 } else { count.saturating_mul(2).min(limit / 2) };
        self.took = self.took.max(most).max(count);
        self.past_burst = self.past_burst.max(self.took);
        self.past_total = self.past_total.max(self.took);
    }

    /// The window is over; windows have this length.
    pub(super) fn close(&mut self, length: Span) {
        let last = self.last.unwrap_or_default();
        let first = self.first.unwrap_or(last);
        // What was used before the first look of all may have been ours, of an earlier process.
        let seen = last.seen.saturating_sub(first.seen);
        let burst = self.new_burst().max(self.took);
        let is_most = burst > BURST_MIN && burst.saturating_mul(2) > self.past_burst.max(seen);
        self.regularity =
            if is_most { (self.regularity + 1).min(REGULAR_BURSTS) } else { self.regularity.saturating_sub(1) };
        let total = seen.max(self.took);
        (self.past_burst, self.past_total) = match (is_most, self.regularity) {
            // All of it was seen: so many they are.
            (true, _) if self.took == 0 => (burst, total),
            // Those who come in every window come at its end, too, when nothing of ours is left to see it.
            (_, 1..) => (burst.max(self.past_burst), total.max(self.past_total)),
            (_, 0) => {
                let fades = |past: u64| past.saturating_mul(3) / 4;
                (burst.max(fades(self.past_burst)), total.max(fades(self.past_total)))
            }
        };
        let long_enough = last.at.saturating_sub(first.at) > length.from / 8;
        self.past_rate = if long_enough { self.rate() } else { self.past_rate / 2 };
        self.has_past = true;
        self.past_millis = u64::try_from(length.from / 8).unwrap_or(0);
        (self.first, self.last, self.jump_from, self.jump, self.jump_millis) = (None, None, None, 0, 0);
        self.took = 0;
    }

    /// Requests of the stream in so many milliseconds, rounded up.
    pub(super) fn expected(&self, millis: i64) -> u64 {
        let expected = at_rate(self.rate(), millis).div_ceil(1_000_000);
        // A window sees about as many as those before it, unless it has seen more already.
        let seen = self.last.map_or(0, |look| look.seen);
        // Those who come all at once have come; a stream goes on.
        if self.came_at_once() {
            return expected.min(self.past_total.saturating_sub(seen));
        }
        let usual = self.past_total.saturating_add(self.past_total / 16);
        if seen > usual {
            return expected;
        }
        let stream = at_rate(self.past_rate, millis).div_ceil(1_000_000);
        expected.min((usual - seen).max(stream))
    }

    /// The same, by bad luck.
    pub(super) fn at_most(&self, millis: i64) -> u64 {
        let expected = self.expected(millis);
        let one = if self.have_all_come() { 0 } else { self.burst().min(1) };
        expected.saturating_add(expected.isqrt()).saturating_add(one)
    }

    /// The same if all that may come at once comes.
    pub(super) fn at_most_with_burst(&self, millis: i64, limit: u64) -> u64 {
        let (stream, burst) = (self.at_most(millis), self.unseen_burst(limit));
        // Where most come at once, the stream is the same requests over again; else one of them is in both.
        match self.past_burst.saturating_mul(2) > self.past_total {
            true => stream.max(burst),
            false => stream.saturating_add(burst.saturating_sub(1)),
        }
    }

    /// Most of what was seen in this window came at once, as it did in those before.
    fn came_at_once(&self) -> bool {
        let seen = self.last.map_or(0, |look| look.seen);
        self.jump.saturating_mul(2) > seen && self.past_burst.saturating_mul(2) > self.past_total
    }

    /// Those who come at once, window after window, have come in this one.
    fn have_all_come(&self) -> bool {
        let seen = self.last.map_or(0, |look| look.seen);
        self.regularity > 0 && self.came_at_once() && seen.saturating_add(self.past_total / 8) >= self.past_total
    }

    /// Milliseconds in which the stream takes so many.
    pub(super) fn millis_for(&self, count: u64) -> i64 {
        let rate = self.rate();
        let millis = count.saturating_mul(1_000_000).checked_div(rate).unwrap_or(u64::MAX);
        i64::try_from(millis).unwrap_or(i64::MAX)
    }

    /// Requests in 1,000 s: by this window, and at its beginning by the one before.
    fn rate(&self) -> u64 {
        let (Some(first), Some(last)) = (self.first, self.last) else { return self.past_rate };
        let millis = u64::try_from(last.at.saturating_sub(first.at)).unwrap_or(0);
        let seen = last.seen.saturating_sub(first.seen).saturating_mul(1_000_000);
        let before = self.past_rate.saturating_mul(self.past_millis);
        seen.saturating_add(before) / millis.saturating_add(self.past_millis).max(RATE_MILLIS_MIN)
    }

    /// What the largest jump of this window was beyond the stream.
    fn new_burst(&self) -> u64 {
        let seen = self.last.map_or(0, |look| look.seen);
        if self.jump.saturating_mul(2) >= seen {
            return self.jump;
        }
        self.jump.saturating_sub(at_rate(self.rate(), self.jump_millis) / 1_000_000)
    }

    /// Whether somebody else may use the bucket: somebody did of late, or nobody can know yet.
    pub(super) fn is_possible(&self) -> bool {
        !self.has_past || self.is_seen()
    }

    /// Whether anybody else was seen of late.
    pub(super) fn is_seen(&self) -> bool {
        let seen = |look: Option<Look>| look.map(|look| look.seen);
        self.past_total > 0 || self.burst() > 0 || seen(self.first) != seen(self.last)
    }

    /// The most that came at once, of late.
    pub(super) fn burst(&self) -> u64 {
        self.new_burst().max(self.past_burst)
    }

    /// The burst that may still come in a window of this limit. Never more than half of it: one that took all of a window
    /// must not stop the next.
    pub(super) fn unseen_burst(&self, limit: u64) -> u64 {
        if self.have_all_come() {
            return 0;
        }
        let seen = self.last.map_or(0, |look| look.seen);
        let burst = self.burst().min(limit / 2);
        burst.min(self.past_total.saturating_sub(seen).max(1))
    }
}

/// Millionths of requests at so many in 1,000 s.
fn at_rate(rate: u64, millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0).saturating_mul(rate)
}

/// Fewer at once are chance.
const BURST_MIN: u64 = 3;

/// Windows without a burst, after as many with one, for which it is still expected.
const REGULAR_BURSTS: u32 = 3;

/// Looks that are no further apart show one jump.
const AT_ONCE_MILLIS: i64 = 300;

/// A shorter time says nothing about a stream.
const RATE_MILLIS_MIN: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A window with so many requests of others by these times, and what is expected to come at once in the next.
    fn window(foreign: &mut Foreign, looks: &[(i64, u64)]) -> u64 {
        for (at, seen) in looks {
            foreign.look(Look { at: *at, seen: *seen }, 0);
        }
        foreign.close(Span::new(60_000, 60_000));
        foreign.unseen_burst(100)
    }

    #[test]
    fn a_burst_is_expected_although_a_window_did_not_show_it() {
        let (burst, none) = ([(0, 0), (30_000, 0), (30_100, 40), (50_000, 40)], [(0, 0), (50_000, 0)]);
        let mut foreign = Foreign::default();
        assert_eq!(window(&mut foreign, &none), 0);
        assert_eq!(window(&mut foreign, &burst), 40);
        assert_eq!(window(&mut foreign, &none), 30, "once is chance");
        for _ in 0..5 {
            assert_eq!(window(&mut foreign, &burst), 40);
        }
        let after: Vec<u64> = (0..4).map(|_| window(&mut foreign, &none)).collect();
        assert_eq!(after, [40, 40, 30, 22]);
    }

    #[test]
    fn who_has_come_at_once_in_every_window_is_not_expected_twice() {
        #[track_caller]
        fn check(windows: usize, came: u64, expected: u64, unseen: u64) {
            let mut foreign = Foreign::default();
            (0..windows).for_each(|_| {
                window(&mut foreign, &[(0, 0), (30_000, 0), (30_100, 40), (50_000, 40)]);
            });
            foreign.look(Look { at: 10_000, seen: 0 }, 0);
            foreign.look(Look { at: 10_100, seen: came }, 0);
            assert_eq!(
                (foreign.at_most(40_000), foreign.unseen_burst(100)),
                (expected, unseen),
                "{came} after {windows} windows"
            );
        }
        check(2, 40, 0, 0);
        check(2, 41, 0, 0);
        check(2, 39, 2, 0);
        check(2, 30, 14, 10);
    }

    #[test]
    fn a_refusal_tells_that_there_is_somebody_and_not_how_many_they_take() {
        #[track_caller]
        fn check(windows: usize, took: u64, expected: u64) {
            let mut foreign = Foreign::default();
            (0..windows).for_each(|_| {
                window(&mut foreign, &[(0, 0), (50_000, 0)]);
            });
            foreign.took_unseen(took, 100);
            assert_eq!(foreign.unseen_burst(100), expected, "{took} after {windows}");
        }
        check(0, 2, 50);
        check(1, 2, 4);
        check(1, 4, 50);
        check(1, 90, 50);
    }
}

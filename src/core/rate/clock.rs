//! Okta's clock against ours, as far as `Date` and `Reset` tell: both have whole seconds, and nobody says how `Reset` is
//! rounded.
//!
//! Entry point: [`ServerClock`]. One per org: every answer of every bucket makes it sharper.
//!
//! Invariants:
//! - Everything is an interval that holds the truth; each answer narrows it, a contradiction begins anew with the answer.
//! - The local wall clock does not matter once an answer had a `Date`.

use super::super::ids::Timestamp;
use super::Moment;

/// Our clock and Okta's drift apart by one millisecond in that many: ten times what a bad quartz does.
const DRIFT_MILLIS: i64 = 10_000;

/// Moments are cut off to milliseconds, on both ends.
const SLACK_MILLIS: i64 = 2;

/// Longest cut-off of a whole second.
const CUT_MILLIS: i64 = 999;

/// An interval of milliseconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Span {
    pub(super) const fn new(from: i64, to: i64) -> Self {
        Self { from, to }
    }

    /// What both hold; `None` when they contradict each other.
    pub(super) fn meet(self, other: Self) -> Option<Self> {
        let both = Self::new(self.from.max(other.from), self.to.min(other.to));
        (both.from <= both.to).then_some(both)
    }

    /// Sums of one value of each.
    pub(super) const fn plus(self, other: Self) -> Self {
        Self::new(self.from.saturating_add(other.from), self.to.saturating_add(other.to))
    }

    /// Differences of one value of each.
    pub(super) const fn minus(self, other: Self) -> Self {
        Self::new(self.from.saturating_sub(other.to), self.to.saturating_sub(other.from))
    }

    pub(super) const fn width(self) -> i64 {
        self.to.saturating_sub(self.from)
    }

    pub(super) const fn middle(self) -> i64 {
        self.from.saturating_add(self.width() / 2)
    }
}

/// How far Okta's clock is ahead of ours, and on which side of its whole second a `Reset` lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerClock {
    /// Milliseconds of Okta's clock minus those of ours.
    ahead: Option<Span>,
    seen_at: i64,
    /// A window ended before its `Reset`: it is rounded up.
    ends_before: bool,
    /// A window went on after its `Reset`: it is cut off.
    ends_after: bool,
}

impl ServerClock {
    /// An answer with this `Date` came at `received` to a request sent at `sent`, or later than that.
    pub fn observe(&mut self, date: Timestamp, sent: Moment, received: Moment) {
        let (date, sent, received) = (date.as_millis(), sent.millis(), received.millis());
        let seen = Span::new(
            date.saturating_sub(received).saturating_sub(SLACK_MILLIS),
            date.saturating_add(CUT_MILLIS + SLACK_MILLIS).saturating_sub(sent),
        );
        let drift = received.saturating_sub(self.seen_at).max(0) / DRIFT_MILLIS + 1;
        let known = self.ahead.map(|known| known.plus(Span::new(-drift, drift)));
        self.ahead = Some(known.and_then(|known| known.meet(seen)).unwrap_or(seen));
        self.seen_at = received;
    }

    /// Takes the local wall clock for Okta's, for want of anything better.
    pub(super) fn assume(&mut self, wall: Timestamp, now: Moment) {
        if self.ahead.is_none() {
            let ahead = wall.as_millis().saturating_sub(now.millis());
            self.ahead = Some(Span::new(ahead, ahead));
            self.seen_at = now.millis();
        }
    }

    /// Local milliseconds between which a window with this `Reset` ends; `None` while no answer had a `Date`.
    pub(super) fn end_of(&self, reset_unix_s: i64) -> Option<Span> {
        let cut = match (self.ends_before, self.ends_after) {
            (true, false) => Span::new(-CUT_MILLIS, 0),
            (false, true) => Span::new(0, CUT_MILLIS),
            (true, true) | (false, false) => Span::new(-CUT_MILLIS, CUT_MILLIS),
        };
        self.local(reset_unix_s, cut)
    }

    /// When it is surely over, whatever was learnt: `Reset − Date + 1 s` after the answer at the latest (facts 6.3).
    pub(super) fn surely_over(&self, reset_unix_s: i64) -> Option<i64> {
        Some(self.local(reset_unix_s, Span::new(CUT_MILLIS, CUT_MILLIS))?.to)
    }

    /// Where the end lies against its `Reset`, in milliseconds, if the window ended within this time of ours.
    pub(super) fn against_reset(&self, reset_unix_s: i64, end: Span) -> Option<Span> {
        let reset = reset_unix_s.saturating_mul(1_000);
        end.plus(self.ahead?).minus(Span::new(reset, reset)).meet(Span::new(-CUT_MILLIS, CUT_MILLIS))
    }

    /// Local milliseconds between which a window ends that ends so far from its `Reset`.
    pub(super) fn local(&self, reset_unix_s: i64, cut: Span) -> Option<Span> {
        let reset = reset_unix_s.saturating_mul(1_000);
        Some(Span::new(reset, reset).plus(cut).minus(self.ahead?))
    }

    /// A window with this `Reset` has ended within this time of ours: says how `Reset` is rounded, if it says anything.
    pub(super) fn ended(&mut self, reset_unix_s: i64, within: Span) {
        let Some(exact) = self.local(reset_unix_s, Span::new(0, 0)) else { return };
        self.ends_before |= within.to < exact.from.saturating_sub(SLACK_MILLIS);
        self.ends_after |= within.from > exact.to.saturating_add(SLACK_MILLIS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the clock answers with these (`Date` in seconds, sent, received).
    fn clock(answers: &[(i64, u64, u64)]) -> ServerClock {
        let mut clock = ServerClock::default();
        for (date, sent, received) in answers {
            clock.observe(Timestamp::from_millis(date * 1_000), Moment(*sent), Moment(*received));
        }
        clock
    }

    #[test]
    fn answers_narrow_the_difference() {
        #[track_caller]
        fn check(answers: &[(i64, u64, u64)], expected: (i64, i64)) {
            let end = clock(answers).end_of(1_010).unwrap();
            assert_eq!((end.from, end.to), expected, "{answers:?}");
        }
        // At 0 of ours it is between 1000 and 1001: the window ends between 8.0 and 11.0 s.
        check(&[(1_000, 0, 0)], (8_000, 11_001));
        // The second changes between 0.3 and 0.35.
        check(&[(1_000, 0, 0), (1_000, 280, 300), (1_001, 320, 350)], (8_279, 10_351));
        // A clock that was set: the new answer counts alone.
        check(&[(1_000, 0, 0), (1_100, 500, 500)], (8_000 - 99_500, 11_001 - 99_500));
    }

    #[test]
    fn ends_tell_how_resets_are_rounded() {
        #[track_caller]
        fn check(ends: &[(i64, i64)], expected: i64) {
            let mut clock = clock(&[(1_000, 0, 0), (1_000, 999, 1_000), (1_001, 999, 1_000)]);
            for (from, to) in ends {
                clock.ended(1_010, Span::new(*from, *to));
            }
            assert_eq!(clock.end_of(1_010).unwrap().width() / 100 * 100, expected, "{ends:?}");
        }
        check(&[], 2_000);
        check(&[(9_800, 10_200)], 2_000);
        check(&[(9_300, 9_700)], 1_000);
        check(&[(10_300, 10_700)], 1_000);
        // To the nearest second, or by different servers: both sides.
        check(&[(9_300, 9_700), (10_300, 10_400)], 2_000);
    }
}

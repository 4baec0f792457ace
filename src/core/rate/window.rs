//! One window of a bucket, and when it ends.
//!
//! Entry points: [`Window`], [`Lengths::ends`].
//!
//! The end of a window is known by `Reset` to two seconds only. It is narrowed by what answers show: a request that was
//! answered out of the old window was sent before its end, one answered out of the new window came back after its begin,
//! and all windows of a bucket have the same length, whether they follow upon each other or begin with a request.

use std::collections::VecDeque;

use super::WAIT_MILLIS_MAX;
use super::bucket::signed;
use super::clock::{ServerClock, Span};
use super::foreign::Look;

/// An end that is known to that many milliseconds is not looked for any further.
const END_WIDTH_MILLIS: i64 = 30;

/// Lengths of windows that are possible, in milliseconds.
pub(super) const ANY_LENGTH: Span = Span::new(1, 90_000);

/// Where a window can end against its `Reset`, in milliseconds.
const ANY_CUT: Span = Span::new(-1_000, 1_000);

/// Ends that must be where they were expected before that is believed again after one that was not.
const REGULAR_ENDS: i32 = 20;

/// Where a window may have ended so large a part of its length before the whole second that is expected, that is tried.
const TRY_WIDTH_SHARE: i64 = 40;

/// A window, as its answers showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) limit: u64,
    /// As Okta gave it: the same number means the same window.
    pub(super) reset_unix_s: i64,
    /// What the newest answer left.
    pub(super) shown: u64,
    /// When that answer came, and when its request was at Okta, more or less.
    pub(super) shown_at: i64,
    pub(super) shown_as_of: i64,
    /// Between which moments the window began.
    pub(super) start: Span,
    /// When the last request was sent that was answered out of this window: it ended later.
    pub(super) last_sent: i64,
    /// When it began if it began with a request of ours: in the first window of all, as its answer looked like.
    pub(super) opened: Option<Span>,
    /// Requests of ours that it has counted: answered, and perhaps counted.
    pub(super) counted: u64,
    pub(super) perhaps_counted: u64,
    /// When the newest of the latter were sent: they may have been counted by the next window.
    pub(super) perhaps_sent: VecDeque<i64>,
}

/// The end of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The best guess.
    pub(super) likely: Span,
    /// When a request goes to find it.
    pub(super) look_at: i64,
    /// When another one does before, if two are left.
    pub(super) try_at: Option<i64>,
    /// After this it is over by all that was learnt.
    pub(super) over: i64,
    /// After this it is over by its `Reset` alone.
    pub(super) surely_over: i64,
}

/// What the ends of a bucket's windows have taught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    /// Between which lengths those of its windows are.
    pub(super) length: Span,
    /// Where windows end against their `Reset`, if they are regular and last whole seconds, and how well that has proved.
    cut: Span,
    regularity: i32,
    /// The same for windows that begin with a request: how long they are after it, how well that has proved, and how well that they
    /// last whole seconds.
    after_opened: Span,
    openness: i32,
    wholeness: i32,
}

impl Default for Lengths {
    fn default() -> Self {
        Self { length: ANY_LENGTH, cut: ANY_CUT, regularity: 0, after_opened: ANY_LENGTH, openness: 0, wholeness: 0 }
    }
}

impl Window {
    pub(super) fn new(limit: u64, shown: u64, reset_unix_s: i64, sent: i64, now: i64, start: Span) -> Self {
        Self {
            limit,
            reset_unix_s,
            shown,
            shown_at: now,
            shown_as_of: sent.saturating_add(now.saturating_sub(sent) / 2),
            start,
            opened: (shown.saturating_add(1) == limit).then_some(Span::new(sent, now)),
            last_sent: sent,
            counted: 1,
            perhaps_counted: 0,
            perhaps_sent: VecDeque::new(),
        }
    }

    /// What others have used, at least: requests of ours that may have been counted are taken for counted.
    pub(super) fn look(&self, in_flight: u64) -> Look {
        let ours = self.counted.saturating_add(self.perhaps_counted).saturating_add(in_flight);
        Look { at: self.shown_as_of, seen: self.limit.saturating_sub(self.shown).saturating_sub(ours) }
    }
}

impl Lengths {
    /// When a window ends, by all that is known.
    pub(super) fn ends(&self, window: &Window, clock: &ServerClock) -> Ends {
        let stale = window.shown_at.saturating_add(signed(WAIT_MILLIS_MAX));
        let any = Span::new(window.last_sent, stale);
        let by_reset = clock.end_of(window.reset_unix_s).unwrap_or(any);
        let surely_over = clock.surely_over(window.reset_unix_s).unwrap_or(stale).min(stale);
        let by_length = window.start.plus(self.length);
        let known = by_reset.meet(by_length).unwrap_or(by_reset);
        let from = known.from.max(window.last_sent).min(stale);
        let known = Span::new(from, known.to.clamp(from, surely_over.max(from)));
        let regular = (self.regularity >= 0).then(|| clock.local(window.reset_unix_s, self.cut)).flatten();
        let likely = regular.and_then(|end| end.meet(known)).unwrap_or(known);
        let likely =
            whole_seconds(self.length).and_then(|length| window.start.plus(length).meet(likely)).unwrap_or(likely);
        // A window that begins with a request costs the time until that one, each time: there the end is looked for exactly.
        // One that begins by the clock does not.
        let opened = window.opened.filter(|_| self.openness >= 0);
        let likely = opened.and_then(|opened| opened.plus(self.after_opened).meet(likely)).unwrap_or(likely);
        let whole = opened.filter(|_| self.wholeness >= 0).and_then(|opened| whole_seconds_after(opened, likely));
        let Some(whole) = whole else {
            let look_at = if likely.width() <= END_WIDTH_MILLIS { likely.to } else { likely.middle() };
            return Ends { likely, try_at: None, look_at, over: known.to, surely_over };
        };
        // It may as well have ended long before: whoever only looks at whole seconds is late each time.
        let before = Span::new(likely.from, whole.from);
        let try_at = (before.width() > self.length.from.max(1) / TRY_WIDTH_SHARE).then_some(before.middle());
        let likely = Span::new(try_at.unwrap_or(whole.from), whole.to);
        Ends { likely, try_at, look_at: whole.to, over: known.to, surely_over }
    }

    /// The first answer of a window's successor came at `now`. Answers when the successor began.
    pub(super) fn end(&mut self, window: &Window, now: i64, clock: &mut ServerClock) -> Span {
        let seen = Span::new(window.last_sent, now.max(window.last_sent));
        clock.ended(window.reset_unix_s, seen);
        let end = clock.end_of(window.reset_unix_s).and_then(|end| end.meet(seen)).unwrap_or(seen);
        self.learn(end.minus(window.start));
        if let Some(opened) = window.opened {
            let proved = |so_far: i32, has: bool| if has { (so_far + 1).min(REGULAR_ENDS) } else { -REGULAR_ENDS };
            self.wholeness = proved(self.wholeness, whole_seconds_after(opened, end).is_some());
            let seen = end.minus(opened);
            let both = self.after_opened.meet(seen);
            self.openness = proved(self.openness, both.is_some());
            self.after_opened = both.or_else(|| seen.meet(ANY_LENGTH)).unwrap_or(ANY_LENGTH);
        }
        if let Some(cut) = clock.against_reset(window.reset_unix_s, end) {
            match self.cut.meet(cut) {
                Some(both) => (self.cut, self.regularity) = (both, (self.regularity + 1).min(REGULAR_ENDS)),
                None => (self.cut, self.regularity) = (cut, -REGULAR_ENDS),
            }
        }
        Span::new(end.from, now.max(end.from))
    }

    /// A window was seen to last so long.
    pub(super) fn learn(&mut self, seen: Span) {
        let Some(seen) = seen.meet(ANY_LENGTH) else { return };
        self.length = self.length.meet(seen).unwrap_or(seen);
    }

    /// A window went on at this time: what was thought to be its end may be wrong.
    pub(super) fn goes_on(&mut self, window: &Window, sent: i64) {
        if window.start.plus(self.length).to < sent {
            self.length = ANY_LENGTH;
        }
    }
}

/// The one whole second within the interval: most windows have such a length (facts 6.1).
fn whole_seconds(length: Span) -> Option<Span> {
    let first = length.from.saturating_add(999).div_euclid(1_000).saturating_mul(1_000);
    (first <= length.to && first.saturating_add(1_000) > length.to).then_some(Span::new(first, first))
}

/// The first time that is a number of whole seconds after `opened` and within `known`.
fn whole_seconds_after(opened: Span, known: Span) -> Option<Span> {
    let seconds = known.from.saturating_sub(opened.to).div_euclid(1_000).saturating_add(1);
    let length = seconds.max(1).saturating_mul(1_000);
    opened.plus(Span::new(length, length)).meet(known)
}

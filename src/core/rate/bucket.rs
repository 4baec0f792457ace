//! One bucket: how much of its window is left for us, and when the window ends.
//!
//! Entry point: [`BucketRate`].
//!
//! Invariants:
//! - Time is handed in as [`Moment`], a monotonic clock; a jump of the wall clock cannot free or block a bucket.
//! - Until the first answer of a bucket only one request of it is in flight: nothing is known yet.
//! - Before a window is surely over nothing is sent but what the last answer has left; a request in flight counts as sent
//!   after that answer until its own answer tells better.
//! - Where a new window may have begun or not, one request finds out, and the others wait for its answer.
//! - No header, however wrong, blocks a bucket for more than [`WAIT_MILLIS_MAX`].
//!
//! The end of a window is known by `Reset` to two seconds only. It is narrowed by what answers show: a request that was
//! answered out of the old window was sent before its end, one answered out of the new window came back after its begin,
//! and all windows of a bucket have the same length, whether they follow upon each other or begin with a request.

use std::collections::VecDeque;

use super::clock::{ServerClock, Span};
use super::foreign::{Foreign, Look};
use super::{
    Admission, Moment, RESERVE_PERCENT_MAX, RateConfig, RateHeaders, Refusal, Urgency, WAIT_MILLIS_MAX, WAIT_MILLIS_MIN,
};

/// An end that is known to that many milliseconds is not looked for any further.
const END_WIDTH_MILLIS: i64 = 30;

/// The longest way that counts, in milliseconds: an answer that took longer was long in the making.
const WAY_MILLIS_MAX: i64 = 5_000;

/// Shortest time after which it is looked again how much may be sent, in milliseconds.
const STEP_MILLIS_MIN: i64 = 10;

/// Length of a window by the documentation, in milliseconds (facts 6.1).
const WINDOW_MILLIS: i64 = 60_000;

/// Lengths of windows that are possible, in milliseconds.
const ANY_LENGTH: Span = Span::new(1, 90_000);

/// Where a window can end against its `Reset`, in milliseconds.
const ANY_CUT: Span = Span::new(-1_000, 1_000);

/// Ends that must be where they were expected before that is believed again after one that was not.
const REGULAR_ENDS: i32 = 20;

/// With more than this part of a window left at its end, requests are what is scarce, and not the budget.
const MUCH_LEFT_SHARE: u64 = 4;

/// While others use the bucket this part of a window is spent evenly over its time: each request of it shows what they have
/// taken meanwhile.
const LOOKS_SHARE: u64 = 5;

/// So many requests without an answer are remembered by their time.
const PERHAPS_SENT_MAX: usize = 64;

/// Windows of fewer requests keep none of them back to find the end.
const KEEP_FOR_END_LIMIT_MIN: u64 = 10;

/// Windows of so many keep two back while their end is known worse than to this part of their length.
const KEEP_TWO_LIMIT_MIN: u64 = 20;
const KEEP_TWO_WIDTH_SHARE: i64 = 20;

/// Where a window may have ended so large a part of its length before the whole second that is expected, that is tried.
const TRY_WIDTH_SHARE: i64 = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    limit: u64,
    /// As Okta gave it: the same number means the same window.
    reset_unix_s: i64,
    /// What the newest answer left.
    shown: u64,
    /// When that answer came, and when its request was at Okta, more or less.
    shown_at: i64,
    shown_as_of: i64,
    /// Between which moments the window began.
    start: Span,
    /// When the last request was sent that was answered out of this window: it ended later.
    last_sent: i64,
    /// When it began if it began with a request of ours: in the first window of all, as its answer looked like.
    opened: Option<Span>,
    /// Requests of ours that it has counted: answered, and perhaps counted.
    counted: u64,
    perhaps_counted: u64,
    /// When the newest of the latter were sent: they may have been counted by the next window.
    perhaps_sent: VecDeque<i64>,
}

/// The end of a window.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// The best guess.
    likely: Span,
    /// When a request goes to find it.
    look_at: i64,
    /// When another one does before, if two are left.
    try_at: Option<i64>,
    /// After this it is over by all that was learnt.
    over: i64,
    /// After this it is over by its `Reset` alone.
    surely_over: i64,
}

/// What is known of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRate {
    config: RateConfig,
    window: Option<Window>,
    /// Between which lengths those of its windows are.
    length: Span,
    /// Where windows end against their `Reset`, if they are regular and last whole seconds, and how well that has proved.
    cut: Span,
    regularity: i32,
    /// The same for windows that begin with a request: how long they are after it, how well that has proved, and how well that they
    /// last whole seconds.
    after_opened: Span,
    openness: i32,
    wholeness: i32,
    foreign: Foreign,
    /// How long answers took of late, at the most; fading.
    way_millis: i64,
    is_explored: bool,
    in_flight: u32,
    /// The request that looks for a new window: its number, and when it was sent.
    explorer: Option<(u64, Moment)>,
    blocked_until: Moment,
    refused: u64,
}

impl BucketRate {
    /// A bucket of which nothing is known.
    pub fn new(config: RateConfig) -> Self {
        let config = RateConfig {
            in_flight_max: config.in_flight_max.max(1),
            reserve_percent: config.reserve_percent.min(RESERVE_PERCENT_MAX),
        };
        Self {
            config,
            window: None,
            length: ANY_LENGTH,
            cut: ANY_CUT,
            regularity: 0,
            after_opened: ANY_LENGTH,
            openness: 0,
            wholeness: 0,
            foreign: Foreign::default(),
            way_millis: 0,
            is_explored: false,
            in_flight: 0,
            explorer: None,
            blocked_until: Moment::default(),
            refused: 0,
        }
    }

    /// Whether a request may be sent at `now`.
    pub fn admit(&self, urgency: Urgency, now: Moment, clock: &ServerClock) -> Admission {
        if self.blocked_until > now {
            return Admission::At(self.blocked_until);
        }
        let in_flight_max = if self.is_explored { self.config.in_flight_max } else { 1 };
        if self.in_flight >= in_flight_max {
            return Admission::AfterAnswer;
        }
        let Some(window) = &self.window else { return Admission::Go };
        let ends = self.ends(window, clock);
        let now = now.millis();
        if now >= ends.over {
            self.admit_into_new(window, ends, now)
        } else if now >= ends.likely.from {
            self.admit_at_end(window, ends, urgency, now)
        } else {
            self.admit_within(window, ends, urgency, now)
        }
    }

    /// The window is over. The answer of one request tells what the new one holds; where nobody else uses the bucket and
    /// not only experience says that the old one is over, the others need not wait for it.
    fn admit_into_new(&self, window: &Window, ends: Ends, now: i64) -> Admission {
        if self.explorer.is_none() {
            return Admission::Go;
        }
        let taken = self
            .foreign
            .expected(now.saturating_sub(ends.likely.from))
            .saturating_add(self.foreign.burst().min(window.limit / 2));
        let left = window.limit.saturating_sub(self.reserve(window)).saturating_sub(taken);
        match u64::from(self.in_flight) < left {
            true if now >= ends.surely_over => Admission::Go,
            // The one answer may be very long in coming.
            true => Admission::At(moment(ends.surely_over)),
            false => Admission::AfterAnswer,
        }
    }

    /// The window may be over or not: what is left of it is good to find out.
    fn admit_at_end(&self, window: &Window, ends: Ends, urgency: Urgency, now: i64) -> Admission {
        let left = self.left_after_burst(window, now);
        if left < 1 {
            return Admission::At(moment(ends.over));
        }
        match urgency {
            Urgency::Urgent => Admission::Go,
            // What is left is good for the old window, and for the new one all the more.
            Urgency::Patient if left > signed(window.limit / MUCH_LEFT_SHARE) => Admission::Go,
            Urgency::Patient if self.explorer.is_some() => Admission::At(moment(ends.over)),
            Urgency::Patient => {
                let looks_at = if self.foreign.is_seen() { self.look_at(window, ends) } else { i64::MAX };
                let try_at = ends.try_at.filter(|_| left > 1 && window.last_sent < ends.likely.from);
                let at = try_at.unwrap_or(ends.look_at).min(looks_at);
                if now >= at { Admission::Go } else { Admission::At(moment(at.min(ends.over))) }
            }
        }
    }

    fn admit_within(&self, window: &Window, ends: Ends, urgency: Urgency, now: i64) -> Admission {
        if window.shown == 0 {
            return Admission::At(moment(ends.over));
        }
        let keep = self.keep(window, ends, urgency, now);
        let left = self.left(window, now);
        if left > keep {
            return Admission::Go;
        }
        if left < 1 && self.in_flight == 0 {
            return Admission::At(moment(ends.over));
        }
        // What is kept becomes less as time passes.
        let to_end = ends.likely.from.saturating_sub(now);
        let length = self.length_at_least(to_end);
        let too_few = keep.saturating_sub(left).saturating_add(1).clamp(1, keep.max(1));
        let step = (to_end.saturating_mul(too_few) / keep.max(1)).max(STEP_MILLIS_MIN);
        let at = now.saturating_add(step).min(ends.likely.from);
        // What finds the end is not spent on looking for others.
        let spare = Self::keep_for_end(window, ends, length);
        if !self.foreign.is_possible() || self.left_after_burst(window, now) <= spare {
            return Admission::At(moment(at));
        }
        let look_at = self.look_at(window, ends);
        if now >= look_at && self.in_flight == 0 {
            Admission::Go
        } else {
            Admission::At(moment(at.min(look_at.max(now + STEP_MILLIS_MIN))))
        }
    }

    /// When a request is due that shows what others take.
    fn look_at(&self, window: &Window, ends: Ends) -> i64 {
        let length = self.length.from.max(ends.likely.from.saturating_sub(window.start.to)).max(1);
        let evenly = length / signed(window.limit / LOOKS_SHARE).max(1);
        let pause = evenly.min(self.foreign.millis_for((window.shown / 6).max(1)));
        window.shown_as_of.saturating_add(pause)
    }

    /// Requests that are left if all in flight count after the newest answer, and others went on as before.
    fn left(&self, window: &Window, now: i64) -> i64 {
        let age = now.saturating_sub(window.shown_as_of).saturating_add(self.way_millis);
        let foreign = self.foreign.at_most(age);
        signed(window.shown).saturating_sub(i64::from(self.in_flight)).saturating_sub(signed(foreign))
    }

    /// The same if others come all at once. One of them is in [`Foreign::at_most`] already.
    fn left_after_burst(&self, window: &Window, now: i64) -> i64 {
        self.left(window, now).saturating_sub(signed(self.foreign.unseen_burst(window.limit).saturating_sub(1)))
    }

    fn reserve(&self, window: &Window) -> u64 {
        let reserve = window.limit.saturating_mul(u64::from(self.config.reserve_percent)) / 100;
        // Something must be left of the smallest limit, or the bucket would never move.
        reserve.min(window.limit.saturating_sub(1))
    }

    /// Requests that are kept back: the share of the others for the time that is left of the window, or what they are
    /// expected to use in it if that is more; and one or two to find its end with.
    fn keep(&self, window: &Window, ends: Ends, urgency: Urgency, now: i64) -> i64 {
        let to_end = ends.likely.from.saturating_sub(now).max(0);
        let length = self.length_at_least(to_end);
        let reserve = signed(self.reserve(window)).saturating_mul(to_end).saturating_add(length - 1) / length;
        match urgency {
            Urgency::Urgent => (reserve / 2).max(signed(self.foreign.unseen_burst(window.limit))),
            Urgency::Patient => {
                let for_end = Self::keep_for_end(window, ends, length);
                if !self.foreign.is_possible() {
                    return reserve.saturating_add(for_end);
                }
                let to_next = ends.likely.to.saturating_sub(now).max(0);
                let others = self.foreign.expected(to_next).max(self.foreign.unseen_burst(window.limit));
                let looks = signed(window.limit / LOOKS_SHARE).saturating_mul(to_end) / length;
                reserve.max(looks).saturating_add(signed(others)).saturating_add(for_end)
            }
        }
    }

    fn length_at_least(&self, to_end: i64) -> i64 {
        self.length.from.max(to_end).max(1)
    }

    /// Requests that are kept to find the end of the window with.
    fn keep_for_end(window: &Window, ends: Ends, length: i64) -> i64 {
        match window.limit {
            ..KEEP_FOR_END_LIMIT_MIN => 0,
            KEEP_TWO_LIMIT_MIN..
                if ends.try_at.is_some()
                    || ends.over.saturating_sub(ends.likely.from) > length / KEEP_TWO_WIDTH_SHARE =>
            {
                2
            }
            _ => 1,
        }
    }

    fn ends(&self, window: &Window, clock: &ServerClock) -> Ends {
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
        let try_at = (before.width() > self.length_at_least(0) / TRY_WIDTH_SHARE).then_some(before.middle());
        let likely = Span::new(try_at.unwrap_or(whole.from), whole.to);
        Ends { likely, try_at, look_at: whole.to, over: known.to, surely_over }
    }

    /// Request `number` was sent: it is in flight.
    pub fn sent(&mut self, number: u64, now: Moment, clock: &ServerClock) {
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(window) = &self.window
            && now.millis() >= self.ends(window, clock).likely.from
        {
            self.explorer.get_or_insert((number, now));
        }
    }

    /// Request `number`, which was [`BucketRate::sent`], is not sent after all, or never left this machine: it was not counted.
    pub fn unsent(&mut self, number: u64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.explorer.is_some_and(|(explorer, _)| explorer == number) {
            self.explorer = None;
        }
    }

    /// A request that was [`BucketRate::sent`] at `sent` ended without an answer (time-out, reset, cancelled). It may have
    /// been counted.
    pub fn unanswered(&mut self, sent: Moment) {
        self.ended(sent);
        self.perhaps_counted(sent.millis());
    }

    fn ended(&mut self, sent: Moment) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.explorer.is_some_and(|(_, explored_at)| sent >= explored_at) {
            self.explorer = None;
        }
    }

    fn perhaps_counted(&mut self, sent: i64) {
        if let Some(window) = &mut self.window {
            window.shown = window.shown.saturating_sub(1);
            window.perhaps_counted = window.perhaps_counted.saturating_add(1);
            if window.perhaps_sent.len() == PERHAPS_SENT_MAX {
                window.perhaps_sent.pop_front();
            }
            window.perhaps_sent.push_back(sent);
        }
    }

    /// A request that was [`BucketRate::sent`] at `sent` was answered other than with 429.
    pub fn answered(&mut self, headers: &RateHeaders, sent: Moment, now: Moment, clock: &mut ServerClock) {
        self.ended(sent);
        self.is_explored = true;
        let way_millis = now.millis().saturating_sub(sent.millis());
        self.way_millis = way_millis.min(WAY_MILLIS_MAX).max(self.way_millis - self.way_millis / 16);
        self.observe(headers, sent.millis(), now.millis(), clock);
    }

    /// A request that was [`BucketRate::sent`] at `sent` was refused with 429. Answers until when the bucket waits; `None`
    /// when there were too many requests at once, which is not a matter of the bucket.
    pub fn refused(
        &mut self,
        headers: &RateHeaders,
        sent: Moment,
        now: Moment,
        clock: &mut ServerClock,
    ) -> Option<Moment> {
        self.ended(sent);
        self.is_explored = true;
        self.refused = self.refused.saturating_add(1);
        let until = match headers.refusal() {
            Refusal::Concurrency => return None,
            Refusal::Pause { wait_millis } => now.plus_millis(wait_millis),
            Refusal::Window => {
                let over = moment(self.refused_by_window(headers, sent, now, clock));
                if over > now { over } else { now.plus_millis(WAIT_MILLIS_MIN) }
            }
        };
        let until = until.min(now.plus_millis(WAIT_MILLIS_MAX));
        self.blocked_until = self.blocked_until.max(until);
        Some(until)
    }

    /// The window of the refusal is spent. Answers when it is over, in milliseconds.
    fn refused_by_window(&mut self, headers: &RateHeaders, sent: Moment, now: Moment, clock: &mut ServerClock) -> i64 {
        let over_by_reset = headers.reset_unix_s.and_then(|reset| clock.surely_over(reset)).unwrap_or(now.millis());
        if over_by_reset > now.millis().saturating_add(signed(WAIT_MILLIS_MAX)) {
            return over_by_reset; // Nonsense, and the only word about it: the longest wait.
        }
        if let Some(window) = &self.window {
            let believed = self.left(window, now.millis()).saturating_add(1);
            self.foreign.took_unseen(unsigned(believed), window.limit);
        }
        self.observe(&RateHeaders { remaining: Some(0), ..*headers }, sent.millis(), now.millis(), clock);
        // A refusal by another window than the newest: its own end counts.
        let window =
            self.window.as_ref().filter(|window| headers.reset_unix_s >= Some(window.reset_unix_s.saturating_sub(1)));
        window.map_or(over_by_reset, |window| self.ends(window, clock).over)
    }

    fn observe(&mut self, headers: &RateHeaders, sent: i64, now: i64, clock: &mut ServerClock) {
        let (Some(limit), Some(remaining), Some(reset_unix_s)) =
            (headers.limit, headers.remaining, headers.reset_unix_s)
        else {
            return self.perhaps_counted(sent);
        };
        // No window ends that late: what says so is not of this bucket, or not in seconds.
        let is_far =
            clock.surely_over(reset_unix_s).is_some_and(|over| over > now.saturating_add(signed(WAIT_MILLIS_MAX)));
        if limit == 0 || is_far {
            return self.perhaps_counted(sent);
        }
        let remaining = remaining.min(limit);
        let in_flight = u64::from(self.in_flight);
        let Some(mut window) = self.window.take() else {
            let start = Span::new(now.saturating_sub(ANY_LENGTH.to), now);
            let window = Window::new(limit, remaining, reset_unix_s, sent, now, start);
            self.foreign.begin(window.look(in_flight));
            self.begin(window, clock);
            return;
        };
        let newer = reset_unix_s.saturating_sub(window.reset_unix_s);
        // One second of difference is rounding, unless the budget has grown, or it was asked for before.
        if newer > 1 || (newer == 1 && remaining > window.shown) {
            let start = self.end(&window, now, clock);
            self.foreign.close(self.length);
            let mut next = Window::new(limit, remaining, reset_unix_s, sent, now, start);
            // Who else has taken of it may have come right after us.
            next.opened = Some(Span::new(sent, now));
            next.perhaps_sent = window.perhaps_sent.into_iter().filter(|sent| *sent >= start.from).collect();
            next.perhaps_counted = next.perhaps_sent.len() as u64;
            self.foreign.look(next.look(in_flight), start.from.max(now.saturating_sub(self.length.to)));
            self.begin(next, clock);
            return;
        }
        if newer < -1 && sent > self.ends(&window, clock).surely_over {
            // The window that was believed is long over: Okta's clock was put back, or a nonsense header made it.
            return self.observe(headers, sent, now, clock);
        }
        if newer < -1 || (newer == -1 && sent < window.shown_at) {
            // A late answer of an older window: this one began after it was asked for.
            window.start.from = window.start.from.max(sent).min(window.start.to);
            self.window = Some(window);
            return;
        }
        window.limit = limit;
        window.counted = window.counted.saturating_add(1);
        window.last_sent = window.last_sent.max(sent);
        if sent >= window.shown_at || remaining < window.shown {
            window.shown = remaining;
            window.shown_at = now;
            window.shown_as_of = sent.saturating_add(now.saturating_sub(sent) / 2);
            self.foreign.look(window.look(in_flight), window.shown_as_of);
        }
        self.goes_on(&window, sent, now, clock);
        self.window = Some(window);
    }

    /// The window went on when it was asked for at `sent`: what was thought to be its end may be wrong.
    fn goes_on(&mut self, window: &Window, sent: i64, now: i64, clock: &mut ServerClock) {
        if window.start.plus(self.length).to < sent {
            self.length = ANY_LENGTH;
        }
        clock.ended(window.reset_unix_s, Span::new(sent, i64::MAX));
        if clock.surely_over(window.reset_unix_s).is_some_and(|over| over <= sent) {
            self.blocked_until = self.blocked_until.max(moment(now).plus_millis(WAIT_MILLIS_MIN));
        }
    }

    /// The first answer of a window's successor came at `now`. Answers when the successor began.
    fn end(&mut self, window: &Window, now: i64, clock: &mut ServerClock) -> Span {
        let seen = Span::new(window.last_sent, now.max(window.last_sent));
        clock.ended(window.reset_unix_s, seen);
        let end = clock.end_of(window.reset_unix_s).and_then(|end| end.meet(seen)).unwrap_or(seen);
        self.learn_length(end.minus(window.start));
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

    fn begin(&mut self, window: Window, clock: &ServerClock) {
        if let Some(end) = clock.end_of(window.reset_unix_s) {
            self.learn_length(end.minus(window.start));
        }
        self.window = Some(window);
    }

    fn learn_length(&mut self, seen: Span) {
        let Some(seen) = seen.meet(ANY_LENGTH) else { return };
        self.length = self.length.meet(seen).unwrap_or(seen);
    }

    /// Limit of the window, once seen.
    pub fn limit(&self) -> Option<u64> {
        Some(self.window.as_ref()?.limit)
    }

    /// Requests left in the window, the reserve included; `None` before the first headers or when the window is over.
    pub fn remaining(&self, now: Moment, clock: &ServerClock) -> Option<u64> {
        let window = self.window.as_ref()?;
        let is_over = self.ends(window, clock).over <= now.millis();
        (!is_over).then(|| window.shown.saturating_sub(u64::from(self.in_flight)))
    }

    /// When the window is over, or the block of a refusal if that is later; `None` when neither lies ahead.
    pub fn resets_at(&self, now: Moment, clock: &ServerClock) -> Option<Moment> {
        let over = self.window.as_ref().map(|window| moment(self.ends(window, clock).over));
        over.max(Some(self.blocked_until)).filter(|at| *at > now)
    }

    /// How long a window lasts, in milliseconds: as documented (facts 6.1), unless answers have shown otherwise.
    pub fn window_millis(&self) -> u64 {
        unsigned(WINDOW_MILLIS.clamp(self.length.from, self.length.to.max(self.length.from)))
    }

    /// Most requests in flight.
    pub(super) fn in_flight_max(&self) -> u32 {
        self.config.in_flight_max
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Answers 429 so far.
    pub fn refused_count(&self) -> u64 {
        self.refused
    }
}

impl Window {
    fn new(limit: u64, shown: u64, reset_unix_s: i64, sent: i64, now: i64, start: Span) -> Self {
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
    fn look(&self, in_flight: u64) -> Look {
        let ours = self.counted.saturating_add(self.perhaps_counted).saturating_add(in_flight);
        Look { at: self.shown_as_of, seen: self.limit.saturating_sub(self.shown).saturating_sub(ours) }
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

fn moment(millis: i64) -> Moment {
    Moment(unsigned(millis))
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

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

use super::clock::{ServerClock, Span};
use super::foreign::Foreign;
use super::window::{ANY_LENGTH, Ends, Lengths, Window};
use super::{
    Admission, Moment, RESERVE_PERCENT_MAX, RateConfig, RateHeaders, Refusal, Urgency, WAIT_MILLIS_MAX, WAIT_MILLIS_MIN,
};

/// The longest way that counts, in milliseconds: an answer that took longer was long in the making.
const WAY_MILLIS_MAX: i64 = 5_000;

/// Shortest time after which it is looked again how much may be sent, in milliseconds.
const STEP_MILLIS_MIN: i64 = 10;

/// Length of a window by the documentation, in milliseconds (facts 6.1).
const WINDOW_MILLIS: i64 = 60_000;

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

/// What is known of one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRate {
    config: RateConfig,
    window: Option<Window>,
    lengths: Lengths,
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
            lengths: Lengths::default(),
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
        let ends = self.lengths.ends(window, clock);
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
        let length = self.lengths.length.from.max(to_end).max(1);
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
        let length = self.lengths.length.from.max(ends.likely.from.saturating_sub(window.start.to)).max(1);
        let evenly = length / signed(window.limit / LOOKS_SHARE).max(1);
        let pause = evenly.min(self.foreign.millis_for((window.shown / 6).max(1)));
        window.shown_as_of.saturating_add(pause)
    }

    /// Requests that are left if all in flight count after the newest answer, and others went on as before.
    fn left(&self, window: &Window, now: i64) -> i64 {
        self.left_beside(window, self.foreign.at_most(self.age(window, now)))
    }

    /// The same if others come all at once.
    fn left_after_burst(&self, window: &Window, now: i64) -> i64 {
        self.left_beside(window, self.foreign.at_most_with_burst(self.age(window, now), window.limit))
    }

    fn left_beside(&self, window: &Window, foreign: u64) -> i64 {
        signed(window.shown).saturating_sub(i64::from(self.in_flight)).saturating_sub(signed(foreign))
    }

    /// How long ago the newest answer was true when a request that goes now arrives.
    fn age(&self, window: &Window, now: i64) -> i64 {
        now.saturating_sub(window.shown_as_of).saturating_add(self.way_millis)
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
        let length = self.lengths.length.from.max(to_end).max(1);
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

    /// Request `number` was sent: it is in flight.
    pub fn sent(&mut self, number: u64, now: Moment, clock: &ServerClock) {
        self.in_flight = self.in_flight.saturating_add(1);
        if let Some(window) = &self.window
            && now.millis() >= self.lengths.ends(window, clock).likely.from
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
        window.map_or(over_by_reset, |window| self.lengths.ends(window, clock).over)
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
            let likely = self.lengths.ends(&window, clock).likely;
            let start = self.lengths.end(&window, now, clock);
            self.foreign.close(self.lengths.length);
            let mut next = Window::new(limit, remaining, reset_unix_s, sent, now, start);
            // Who else has taken of it may have come right after us.
            next.opened = Some(Span::new(sent, now));
            next.perhaps_sent =
                window.perhaps_sent.into_iter().filter(|sent| *sent >= start.from.max(likely.from)).collect();
            next.perhaps_counted = next.perhaps_sent.len() as u64;
            self.foreign.look(next.look(in_flight), start.from.max(now.saturating_sub(self.lengths.length.to)));
            self.begin(next, clock);
            return;
        }
        if newer < -1 && sent > self.lengths.ends(&window, clock).surely_over {
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
        self.lengths.goes_on(window, sent);
        clock.ended(window.reset_unix_s, Span::new(sent, i64::MAX));
        if clock.surely_over(window.reset_unix_s).is_some_and(|over| over <= sent) {
            self.blocked_until = self.blocked_until.max(moment(now).plus_millis(WAIT_MILLIS_MIN));
        }
    }

    fn begin(&mut self, window: Window, clock: &ServerClock) {
        if let Some(end) = clock.end_of(window.reset_unix_s) {
            self.lengths.learn(end.minus(window.start));
        }
        self.window = Some(window);
    }

    /// Limit of the window, once seen.
    pub fn limit(&self) -> Option<u64> {
        Some(self.window.as_ref()?.limit)
    }

    /// Requests left in the window, the reserve included; `None` before the first headers or when the window is over.
    pub fn remaining(&self, now: Moment, clock: &ServerClock) -> Option<u64> {
        let window = self.window.as_ref()?;
        let is_over = self.lengths.ends(window, clock).over <= now.millis();
        (!is_over).then(|| window.shown.saturating_sub(u64::from(self.in_flight)))
    }

    /// When the window is over, or the block of a refusal if that is later; `None` when neither lies ahead.
    pub fn resets_at(&self, now: Moment, clock: &ServerClock) -> Option<Moment> {
        let over = self.window.as_ref().map(|window| moment(self.lengths.ends(window, clock).over));
        over.max(Some(self.blocked_until)).filter(|at| *at > now)
    }

    /// How long a window lasts, in milliseconds: as documented (facts 6.1), unless answers have shown otherwise.
    pub fn window_millis(&self) -> u64 {
        unsigned(WINDOW_MILLIS.clamp(self.lengths.length.from, self.lengths.length.to.max(self.lengths.length.from)))
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

fn moment(millis: i64) -> Moment {
    Moment(unsigned(millis))
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

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
    /// The most that came at once in this window, and within how many milliseconds; where the newest jump began.
    jump: u64,
    jump_millis: i64,
    jump_from: Option<Look>,
    /// Of earlier windows: requests of the stream in 1,000 s, in all, and at once; the latter two fade.
    past_rate: u64,
    past_total: u64,
    /// For how long the past counts in a new window.
    past_millis: u64,
    past_burst: u64,
    has_past: bool,
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
        let since = self.jump_from.filter(|from| look.at.saturating_sub(from.at) <= AT_ONCE_MILLIS).unwrap_or(before);
        self.jump_from = Some(since);
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

    /// A request of ours was refused although so much should have been left.
    pub(super) fn took_unseen(&mut self, count: u64) {
        self.past_burst = self.past_burst.max(count);
    }

    /// The window is over; windows have this length.
    pub(super) fn close(&mut self, length: Span) {
        let last = self.last.unwrap_or_default();
        let first = self.first.unwrap_or(last);
        self.past_burst = self.new_burst().max(self.past_burst.saturating_mul(3) / 4);
        // What was used before the first look of all may have been ours, of an earlier process.
        let seen = last.seen.saturating_sub(first.seen);
        self.past_total = seen.max(self.past_total.saturating_mul(3) / 4);
        let long_enough = last.at.saturating_sub(first.at) > length.from / 8;
        self.past_rate = if long_enough { self.rate() } else { self.past_rate / 2 };
        self.has_past = true;
        self.past_millis = u64::try_from(length.from / 8).unwrap_or(0);
        (self.first, self.last, self.jump_from, self.jump, self.jump_millis) = (None, None, None, 0, 0);
    }

    /// Requests of the stream in so many milliseconds, rounded up.
    pub(super) fn expected(&self, millis: i64) -> u64 {
        let expected = at_rate(self.rate(), millis).div_ceil(1_000_000);
        // A window sees about as many as those before it, unless it has seen more already.
        let seen = self.last.map_or(0, |look| look.seen);
        let usual = self.past_total.saturating_add(self.past_total / 16);
        if seen > usual {
            return expected;
        }
        // Those who come all at once have come; a stream goes on.
        let came_at_once = self.jump.saturating_mul(2) > seen && self.past_burst.saturating_mul(2) > self.past_total;
        let stream = if came_at_once { 0 } else { at_rate(self.past_rate, millis).div_ceil(1_000_000) };
        expected.min((usual - seen).max(stream))
    }

    /// The same, by bad luck.
    pub(super) fn at_most(&self, millis: i64) -> u64 {
        let expected = self.expected(millis);
        expected.saturating_add(expected.isqrt()).saturating_add(self.burst().min(1))
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
        let seen = self.last.map_or(0, |look| look.seen);
        let burst = self.burst().min(limit / 2);
        burst.min(self.past_total.saturating_sub(seen).max(1))
    }
}

/// Millionths of requests at so many in 1,000 s.
fn at_rate(rate: u64, millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or(0).saturating_mul(rate)
}

/// Looks that are no further apart show one jump.
const AT_ONCE_MILLIS: i64 = 300;

/// A shorter time says nothing about a stream.
const RATE_MILLIS_MIN: u64 = 1_000;

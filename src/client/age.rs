//! How old what a server told is. Entry points: [`Told::now`], [`Told::age`], [`Lateness`].
//!
//! Invariants:
//! - An age is never too small: of the two clocks of this machine the one counts that says more. One stops while the machine
//!   sleeps, the other may be set back.
//! - What waited on its way, and comes all at once, is not new: it is as much older as it came later than the stream's best.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::ids::Timestamp;
use crate::engine::clock;

/// When something was told, and how late that was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    at: Instant,
    wall: Timestamp,
    late: Duration,
}

impl Told {
    /// That it was told at this moment, `wall` by the other clock.
    pub(super) fn now(wall: Timestamp, late: Duration) -> Self {
        Self { at: Instant::now(), wall, late }
    }

    /// How long ago that was.
    pub(super) fn age(&self) -> Duration {
        age(self.at.elapsed(), positive(clock::now().millis_since(self.wall)), self.late)
    }
}

fn age(steady: Duration, wall: Duration, late: Duration) -> Duration {
    steady.max(wall).saturating_add(late)
}

fn positive(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// How late the checkpoints of one stream come. The clocks of server and client need not agree: the difference between them is
/// in all of them.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    least_millis: Option<i64>,
}

impl Lateness {
    /// How much later than the best one of the stream this one came.
    pub(super) fn of(&mut self, served_at: Timestamp, received_at: Timestamp) -> Duration {
        let took = received_at.millis_since(served_at);
        let least = self.least_millis.map_or(took, |least| least.min(took));
        self.least_millis = Some(least);
        positive(took.saturating_sub(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waited_is_old() {
        let mut lateness = Lateness::default();
        let at = Timestamp::from_millis;
        let mut late = |served, received| lateness.of(at(served), at(received)).as_millis();
        // The client's clock is 5,000 behind.
        assert_eq!(late(10_000, 5_020), 0);
        assert_eq!(late(11_000, 6_010), 0);
        assert_eq!(late(12_000, 7_030), 20);
        // The machine slept: what was sent before comes now.
        assert_eq!(late(13_000, 608_010), 600_000);
        assert_eq!(late(613_000, 608_010), 0);
        assert_eq!(late(i64::MIN, i64::MAX), u128::try_from(i64::MAX).unwrap());
    }

    #[test]
    fn the_clock_that_says_more_counts() {
        let [zero, one, two] = [0, 1, 2].map(Duration::from_secs);
        assert_eq!(age(one, two, zero), two);
        assert_eq!(age(two, zero, zero), two);
        assert_eq!(age(one, one, one), two);
        assert_eq!(age(Duration::MAX, one, one), Duration::MAX);
    }
}

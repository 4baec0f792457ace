//! By how much Okta's clock is ahead of ours, from the `Date` of its answers.
//!
//! Entry points: [`ClockAhead::observe`], [`ClockAhead::millis`].
//!
//! Invariants:
//! - Every difference `Date − receipt` is a lower bound: `Date` has whole seconds, cut off, and the answer took time to
//!   come. The largest of the last minute is therefore the best known, and does not jump with the cut-off part.
//! - A step of either clock shows at once or after [`WINDOW_MILLIS`]; memory is bounded whatever the answers say.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::core::ids::Timestamp;

/// How long a difference counts, in milliseconds. Long enough that an answer early in a second is among those of a slow
/// poll, short enough that a clock that was set right is believed soon.
const WINDOW_MILLIS: i64 = 60_000;

/// A smaller difference within this time of a larger one is not kept, in milliseconds: it would count for hardly longer.
/// Bounds the number kept to the window on both sides, divided by this.
const SLOT_MILLIS: i64 = 5_000;

/// The running maximum of the differences of the last minute.
#[derive(Debug, Default)]
pub(super) struct ClockAhead {
    /// (receipt, difference), both in milliseconds, differences strictly falling: the first is the maximum.
    falling: Mutex<VecDeque<(i64, i64)>>,
}

impl ClockAhead {
    /// Takes the `Date` of an answer that was there at `received_at` by the local clock.
    pub(super) fn observe(&self, date: Timestamp, received_at: Timestamp) {
        let now = received_at.as_millis();
        let ahead = date.as_millis().saturating_sub(now);
        let mut falling = self.falling.lock().unwrap_or_else(PoisonError::into_inner);
        // A receipt in the future is one from before the local clock was set back.
        falling.retain(|(at, _)| now.abs_diff(*at) <= WINDOW_MILLIS.unsigned_abs());
        while falling.back().is_some_and(|(_, smaller)| *smaller <= ahead) {
            falling.pop_back();
        }
        if falling.back().is_none_or(|(at, _)| now.abs_diff(*at) >= SLOT_MILLIS.unsigned_abs()) {
            falling.push_back((now, ahead));
        }
    }

    /// By how much Okta's clock is ahead at least, in milliseconds, negative when it is behind; `None` before the first
    /// answer. With regular answers it is less than a second, plus the time an answer takes, below the truth.
    pub(super) fn millis(&self) -> Option<i64> {
        let falling = self.falling.lock().unwrap_or_else(PoisonError::into_inner);
        falling.front().map(|(_, ahead)| *ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observes (`Date`, receipt) in milliseconds, and compares after the last.
    #[track_caller]
    fn check(answers: &[(i64, i64)], expected: Option<i64>) {
        let clock = ClockAhead::default();
        for (date, received_at) in answers {
            clock.observe(Timestamp::from_millis(*date), Timestamp::from_millis(*received_at));
        }
        assert_eq!(clock.millis(), expected, "{answers:?}");
        assert!(clock.falling.lock().unwrap().len() <= 26);
    }

    #[test]
    fn the_largest_of_the_last_minute_counts() {
        check(&[], None);
        check(&[(5_000, 5_900)], Some(-900));
        check(&[(5_000, 5_900), (6_000, 6_100), (7_000, 7_800)], Some(-100));
        check(&[(300_000, 0), (305_000, 5_000)], Some(300_000));
        // The larger one is older than a minute.
        check(&[(6_000, 6_000), (66_000, 66_500)], Some(-500));
        check(&[(6_000, 6_000), (66_000, 66_000 - 1)], Some(1));
        check(&[(6_000, 6_000), (65_000, 65_999)], Some(0));
        // A second one, long after, stands in when the first is over.
        check(&[(6_000, 6_000), (36_000, 36_300), (70_000, 70_900)], Some(-300));
        // One directly after the largest is not kept.
        check(&[(6_000, 6_000), (7_000, 7_300), (66_000, 66_900), (67_000, 67_900)], Some(-900));
    }

    #[test]
    fn clocks_that_are_set_are_believed() {
        // Ours was an hour behind and is set right.
        check(&[(3_600_000, 0), (3_601_000, 3_601_400)], Some(-400));
        // Ours was an hour ahead and is set right.
        check(&[(0, 3_600_000), (1_000, 1_200)], Some(-200));
    }

    proptest::proptest! {
        #[test]
        fn it_is_the_truth_less_at_most_a_second_and_the_way(
            ahead in -10_000_000_i64..10_000_000,
            gaps in proptest::collection::vec((0_i64..20_000, 0_i64..300), 1..200),
        ) {
            let clock = ClockAhead::default();
            let mut now = 1_785_000_000_000;
            for (gap, way) in gaps {
                now += gap;
                let date = (now + ahead).div_euclid(1_000) * 1_000;
                clock.observe(Timestamp::from_millis(date), Timestamp::from_millis(now + way));
                let known = clock.millis().unwrap();
                proptest::prop_assert!(known <= ahead && ahead - known < 1_300, "{known} of {ahead}");
                proptest::prop_assert!(clock.falling.lock().unwrap().len() <= 26);
            }
        }

        #[test]
        fn no_date_breaks_it(answers in proptest::collection::vec((proptest::num::i64::ANY, proptest::num::i64::ANY), 0..60)) {
            let clock = ClockAhead::default();
            for (date, received_at) in answers {
                clock.observe(Timestamp::from_millis(date), Timestamp::from_millis(received_at));
                proptest::prop_assert!(clock.millis().is_some());
            }
        }
    }
}

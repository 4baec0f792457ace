//! The life of an API token: Okta revokes one that was not used for 30 days (facts 10.1).
//!
//! Entry points: [`lapses_at`], [`warning`].

use super::ids::Timestamp;

/// Days after which Okta revokes an unused API token.
pub const IDLE_DAYS_MAX: i64 = 30;

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// A token that is read with every few seconds and was not used for this long is in trouble, in milliseconds.
const IDLE_WARNING_MILLIS: i64 = DAY_MILLIS;

/// Less than this left: somebody has to act now, in milliseconds.
const LAST_CALL_MILLIS: i64 = 7 * DAY_MILLIS;

/// When a token that was last used then lapses if it is never used again.
pub fn lapses_at(last_used: Timestamp) -> Timestamp {
    last_used.plus_millis(IDLE_DAYS_MAX * DAY_MILLIS)
}

/// How pressing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Warning {
    /// Not used for more than a day.
    Idle,
    /// Lapses within a week.
    LastCall,
    /// Has lapsed by now, unless something else has used it.
    Lapsed,
}

/// What to say about a token that was last used then; `None` as long as all is well.
pub fn warning(last_used: Timestamp, now: Timestamp) -> Option<Warning> {
    let left = lapses_at(last_used).millis_since(now);
    if left <= 0 {
        Some(Warning::Lapsed)
    } else if left < LAST_CALL_MILLIS {
        Some(Warning::LastCall)
    } else if now.millis_since(last_used) > IDLE_WARNING_MILLIS {
        Some(Warning::Idle)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(idle_hours: i64, expected: Option<Warning>) {
        let now = Timestamp::from_millis(1_800_000_000_000);
        assert_eq!(warning(now.plus_millis(-idle_hours * 3_600_000), now), expected);
    }

    #[test]
    fn the_longer_idle_the_louder() {
        check(0, None);
        check(24, None);
        check(25, Some(Warning::Idle));
        check(23 * 24, Some(Warning::Idle));
        check(23 * 24 + 1, Some(Warning::LastCall));
        check(30 * 24 - 1, Some(Warning::LastCall));
        check(30 * 24, Some(Warning::Lapsed));
        check(-5, None);
    }
}

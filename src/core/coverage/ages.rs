//! How old answers may be. Entry point: [`CoveragePolicy`].

use crate::core::ids::Timestamp;

/// What becomes of rows of a scope that can no longer be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnGap {
    /// They are answered as last seen, and marked.
    #[default]
    Keep,
    /// They are not answered: as if they were not known.
    Withhold,
}

/// How old answers may be, and what becomes of rows that can no longer be confirmed. All times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoveragePolicy {
    /// A scope whose last complete read is older has the gap [`GapKind::Stale`](super::GapKind::Stale); `None`: never.
    pub stale_after_millis: Option<i64>,
    /// The same for the position in the log; `None`: never.
    pub log_stale_after_millis: Option<i64>,
    /// Rows of unreadable scopes.
    pub on_gap: OnGap,
    /// With [`OnGap::Keep`]: how long after the last complete read they are still answered; `None`: for ever.
    pub max_stale_millis: Option<i64>,
}

/// So many times within the age at which a scope is too old it is looked which of very many are.
const LOOKS: i64 = 16;

impl CoveragePolicy {
    /// The same without an age of the log.
    #[must_use]
    pub fn of_lists(self) -> Self {
        Self { log_stale_after_millis: None, ..self }
    }

    /// When it was last looked, by a time, which of all lists of an org are too old: to ask it of each list at each question
    /// would cost too much. Everybody looks at the same times, so that what is known of the lists and the time decide the answer.
    pub fn last_look(self, now: Timestamp) -> Timestamp {
        let step = |limit: i64| (limit / LOOKS).max(1);
        self.stale_after_millis.map_or(Timestamp::default(), |limit| {
            Timestamp::from_millis(now.as_millis().div_euclid(step(limit)).saturating_mul(step(limit)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_looks_at_the_same_times() {
        let check = |limit: Option<i64>, now: i64, expected: i64| {
            let policy = CoveragePolicy { stale_after_millis: limit, ..CoveragePolicy::default() };
            assert_eq!(policy.last_look(Timestamp::from_millis(now)).as_millis(), expected, "{limit:?} at {now}");
        };
        // Nothing is too old, ever.
        check(None, 1_000_000, 0);
        check(Some(1_600), 1_000_000, 1_000_000);
        check(Some(1_600), 1_000_099, 1_000_000);
        check(Some(1_600), 1_000_100, 1_000_100);
        check(Some(1_600), -1, -100);
        // No look lies in the future or further back than a sixteenth.
        check(Some(3), 7, 7);
        check(Some(0), 7, 7);
        check(Some(i64::MAX), i64::MAX, i64::MAX / 16 * 16);
        check(Some(i64::MAX), 1_000_000, 0);
    }
}

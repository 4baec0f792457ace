//! What to do about a copy that cannot be kept. Entry point: [`Setbacks::note`], pure.
//!
//! Every new attempt takes the whole list, which costs the server much. So an org that just fits, and does not a minute later,
//! is listed less and less often, although each list succeeds. Only a copy that has stood for [`STEADY`] begins anew.

use std::time::Duration;

use super::mirror::MirrorError;

/// How long a copy has to have stood for its next setback to be the first one again. Also the longest wait.
const STEADY: Duration = Duration::from_secs(600);

/// Why a copy cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetbackCause {
    /// The org or what the server sends makes it impossible.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The server's store has gone another way than the copy, again and again: as where two servers with stores of their own are
    /// behind one address.
    #[error("the server is not the one of the copy: {what}")]
    AnotherStore {
        /// What the server said.
        what: String,
    },
    /// Something has panicked: a bug, told on standard error. The copy may be half changed, and is dropped.
    #[error("the copy was dropped because of a bug: something has panicked")]
    Panicked,
}

/// A copy that cannot be kept, and when that is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setback {
    /// Why.
    pub cause: SetbackCause,
    /// How often in a row, this time included. A copy that has stood for ten minutes ends the row.
    pub in_a_row: u32,
    /// How long nothing is tried, from then on: doubled each time, up to ten minutes (or the longest wait of
    /// [`super::ReflectorSettings::retry`], where that is longer).
    pub wait: Duration,
}

/// Counts them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Setbacks {
    in_a_row: u32,
}

impl Setbacks {
    /// Notes one. `stood`: how long there was a copy since the last one; `first`: the wait after the first one in a row.
    pub(super) fn note(&mut self, cause: impl Into<SetbackCause>, stood: Duration, first: Duration) -> Setback {
        if stood >= STEADY {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let doubled = 1_u32.checked_shl(self.in_a_row - 1).unwrap_or(u32::MAX);
        let wait = first.saturating_mul(doubled).min(STEADY.max(first));
        Setback { cause: cause.into(), in_a_row: self.in_a_row, wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);

    fn too_many() -> MirrorError {
        MirrorError::TooManyRows { limit: 7 }
    }

    #[test]
    fn what_fails_is_tried_less_and_less_often() {
        let mut setbacks = Setbacks::default();
        let waits: Vec<u64> = (0..8).map(|_| setbacks.note(too_many(), Duration::ZERO, FIRST).wait.as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600, 600]);
        let mut many = Setbacks { in_a_row: u32::MAX };
        assert_eq!(many.note(too_many(), Duration::ZERO, FIRST).wait, STEADY);
        assert_eq!(many.note(too_many(), Duration::ZERO, 2 * STEADY).wait, 2 * STEADY, "never sooner than asked for");
    }

    /// Each list succeeds, and a little later there are too many rows: that is no success.
    #[test]
    fn only_a_copy_that_stands_begins_anew() {
        #[track_caller]
        fn check(stood_secs: &[u64], in_a_row: u32, wait_secs: u64) {
            let mut setbacks = Setbacks::default();
            let noted = stood_secs.iter().map(|secs| setbacks.note(too_many(), Duration::from_secs(*secs), FIRST));
            let last = noted.last().unwrap();
            assert_eq!((last.in_a_row, last.wait), (in_a_row, Duration::from_secs(wait_secs)));
        }
        check(&[0], 1, 30);
        check(&[0, 120], 2, 60);
        check(&[0, 120, 599, 1], 4, 240);
        check(&[0, 120, 600], 1, 30);
        check(&[0, 120, 600, 10], 2, 60);
    }

    #[test]
    fn causes_are_told() {
        let setback = Setbacks::default().note(too_many(), Duration::ZERO, FIRST);
        assert_eq!(setback.cause, SetbackCause::Mirror(too_many()));
        assert!(setback.cause.to_string().contains("more than 7 rows"));
        let setback = Setbacks::default().note(SetbackCause::Panicked, Duration::ZERO, FIRST);
        assert!(setback.cause.to_string().contains("bug"));
    }
}

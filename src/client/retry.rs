//! Which failed attempts are repeated, and when. Entry point: [`Retry::wait`], pure.
//!
//! | the server said | repeated |
//! |---|---|
//! | `UNAVAILABLE`, or nothing because the connection broke | after a wait that doubles, if the rpc only reads |
//! | `RESOURCE_EXHAUSTED` with `google.rpc.RetryInfo` | not before the time that it names, if the rpc only reads |
//! | anything else, or nothing in time | never: another attempt would end the same way |

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

/// How often and how long a call that only reads is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts of one call at most, the first one included; 0 and 1: one.
    pub attempts_max: u32,
    /// The wait after the first one, doubled after each further one.
    pub wait_min: Duration,
    /// A wait at most. Where a server asks for a longer one, the call ends.
    pub wait_max: Duration,
}

impl Default for Retry {
    /// Four attempts within some three seconds: a server that is restarted, or a connection that has gone.
    fn default() -> Self {
        Self { attempts_max: 4, wait_min: Duration::from_millis(200), wait_max: Duration::from_secs(5) }
    }
}

impl Retry {
    /// No repetitions.
    pub const NEVER: Self = Self { attempts_max: 1, wait_min: Duration::ZERO, wait_max: Duration::ZERO };

    /// How long to wait after attempt number `attempt` (from 1) before the next one; `None`: the call has failed. `random`
    /// spreads the waits of many clients over the upper half.
    pub fn wait(&self, attempt: u32, status: &Status, random: u64) -> Option<Duration> {
        if attempt >= self.attempts_max {
            return None;
        }
        let asked = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
        let asked = match status.code() {
            Code::Unavailable => asked.unwrap_or_default(),
            // What a server says has no cause on this side: the library made it of a connection that broke.
            Code::Cancelled | Code::Unknown if status.source().is_some() && !has_run_out(status) => Duration::ZERO,
            Code::ResourceExhausted => asked?,
            _ => return None,
        };
        if asked > self.wait_max {
            return None;
        }
        Some(self.backoff(attempt, random).max(asked))
    }

    /// The wait after attempt number `attempt` (from 1) in a row, however often it was tried.
    pub fn backoff(&self, attempt: u32, random: u64) -> Duration {
        let doubled = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.wait_min.saturating_mul(doubled).min(self.wait_max);
        let half = whole / 2;
        let spread = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        half + Duration::from_millis(if spread == 0 { 0 } else { random % (spread + 1) })
    }
}

/// Whether the call took longer than this side gives it. The next one would take the server as long.
fn has_run_out(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, retry_millis: Option<u64>) -> Status {
        let mut details = ErrorDetails::new();
        if let Some(millis) = retry_millis {
            details.set_retry_info(Some(Duration::from_millis(millis)));
        }
        Status::with_error_details(code, "no", details)
    }

    #[test]
    fn only_what_passes_is_repeated() {
        #[track_caller]
        fn check(attempt: u32, code: Code, retry_millis: Option<u64>, expected: Option<(u64, u64)>) {
            let retry = Retry::default();
            for random in [0, 1, 77, u64::MAX] {
                let wait = retry.wait(attempt, &status(code, retry_millis), random);
                let is_within = |(least, most)| {
                    wait.is_some_and(|wait| (least..=most).contains(&wait.as_millis().try_into().unwrap()))
                };
                assert!(expected.map_or(wait.is_none(), is_within), "{attempt} {code:?}: {wait:?}");
            }
        }
        check(1, Code::Unavailable, None, Some((100, 200)));
        check(2, Code::Unavailable, None, Some((200, 400)));
        check(3, Code::Unavailable, None, Some((400, 800)));
        check(4, Code::Unavailable, None, None);
        check(1, Code::ResourceExhausted, None, None);
        check(1, Code::ResourceExhausted, Some(1_000), Some((1_000, 1_000)));
        check(1, Code::ResourceExhausted, Some(6_000), None);
        check(1, Code::Unavailable, Some(1_500), Some((1_500, 1_500)));
        let final_ones =
            [Code::InvalidArgument, Code::DeadlineExceeded, Code::Internal, Code::Unknown, Code::Cancelled];
        for code in final_ones {
            check(1, code, Some(1), None);
        }
    }

    #[test]
    fn a_connection_that_broke_is_tried_again() {
        let broken = |code| {
            let mut status = Status::new(code, "the connection closed");
            status.set_source(std::sync::Arc::new(std::io::Error::other("closed")));
            Retry::default().wait(1, &status, 0).is_some()
        };
        assert!(broken(Code::Cancelled) && broken(Code::Unknown) && broken(Code::Unavailable));
        assert!(!broken(Code::InvalidArgument) && !broken(Code::Internal));
        let mut late = Status::new(Code::Cancelled, "Timeout expired");
        late.set_source(std::sync::Arc::new(TimeoutExpired(())));
        assert_eq!(Retry::default().wait(1, &late, 0), None);
        let late = Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(Retry::default().wait(1, &late, 0), None);
    }

    #[test]
    fn waits_have_an_end() {
        let retry = Retry::default();
        assert_eq!(retry.backoff(40, u64::MAX / 3).max(retry.wait_max), retry.wait_max);
        assert_eq!(Retry::NEVER.backoff(1, 5), Duration::ZERO);
        assert_eq!(Retry::NEVER.wait(1, &status(Code::Unavailable, None), 0), None);
    }
}

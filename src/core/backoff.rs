//! Retries as decisions: what to do after a failed attempt, and how long to wait before the next.
//!
//! Entry point: [`Tries::decide`]. The shell is `okta::client`; randomness is handed in.
//!
//! Invariants:
//! - Every kind of repetition has its own bound; no sequence of answers keeps a call going for ever.
//! - A 429 does not use up the attempts that are meant for broken answers, and never loses a page.
//! - The page size never falls below its floor and never rises within a call.

/// Repetitions after server errors, time-outs, resets and broken bodies. Where one request in six fails, one in 300,000
/// fails so often in a row; six halvings lead from the largest page (500) to the floor. With back-off they last less than
/// half a minute: longer outages are the caller's to wait out.
pub const TRANSIENT_RETRIES_MAX: u32 = 6;

/// Refusals with 429 in a row. At up to 90 s each that is most of an hour of a bucket kept empty by others.
pub const THROTTLED_RETRIES_MAX: u32 = 30;

/// Weight of the failures after which a first page is asked for with a smaller size. A time-out is a sign of too much work
/// by itself; one server error is mostly chance, and a page halved for nothing doubles the requests of its whole walk.
const SMALLER_WEIGHT: u32 = 2;

/// Weight of the failures of a *following* page that is put up with before its walk must start again with smaller pages: its
/// size is inside the opaque URL and cannot be changed (facts 13.23). A walk of a thousand pages must not start again by
/// chance: five server errors in one call, or three time-outs, are none.
const RESTART_WEIGHT: u32 = 5;

/// Repetitions because the proof of possession was refused or its nonce had changed (facts 10.3). The first ones are sent
/// beside other requests, which may change the nonce again; from [`PROOF_RETRIES_BESIDE_MAX`] on each is sent alone.
pub const PROOF_RETRIES_MAX: u32 = 6;

/// Repetitions for the sake of a proof that are sent beside other requests.
pub const PROOF_RETRIES_BESIDE_MAX: u32 = 2;

/// Smallest page that is asked for (facts 7.1). Smaller pages cost more requests than they save.
pub const PAGE_LIMIT_FLOOR: u32 = 10;

/// Wait before the first repetition after a transient failure, in milliseconds; it doubles from there.
pub const TRANSIENT_WAIT_MILLIS_MIN: u64 = 500;

/// Longest wait after a transient failure, in milliseconds.
pub const TRANSIENT_WAIT_MILLIS_MAX: u64 = 8_000;

/// The longest that all waits after transient failures of a call take together, in milliseconds.
pub const TRANSIENT_WAITS_MILLIS: u64 = {
    let (mut attempt, mut sum) = (1, 0);
    while attempt <= TRANSIENT_RETRIES_MAX {
        sum += transient_step_millis(attempt);
        attempt += 1;
    }
    sum
};

/// By how much a page becomes smaller at once when there is not much time left: three halvings.
const LAST_DIVISOR: u32 = 8;

/// Bounds of the wait after a concurrency refusal, in milliseconds (facts 6.3).
pub const CONCURRENCY_WAIT_MILLIS: std::ops::RangeInclusive<u64> = 1_000..=5_000;

/// What went wrong with an attempt, as far as a repetition is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 429; the limiter holds the next attempt back.
    Throttled,
    /// Something that passes: a reset, a truncated body, 503.
    Transient,
    /// 500 or 502: mostly passes; on a list it may be a page that was too much work (facts 2.2).
    ServerError,
    /// 504 or a time-out: on a list mostly a page that was too much work (facts 2.2).
    TooMuchWork,
    /// The body was larger than the limit: the same page again would be as large.
    TooLarge,
    /// 401 with a credential that may be renewed.
    Unauthorized,
    /// The proof of possession was refused, or wants another nonce: the credential is good, and the next proof is another.
    Proof,
    /// Nothing that a repetition would change.
    Final,
}

/// The page size of the failed attempt, and whether it can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// No list.
    None,
    /// First page of a walk: the size is ours to choose.
    First {
        /// Size asked for.
        limit: u32,
        /// Smallest size that the endpoint takes.
        floor: u32,
    },
    /// A following page: the size is inside the URL.
    Next {
        /// Size that the URL asks for, as far as it can be read.
        limit: u32,
        /// Smallest size that the endpoint takes.
        floor: u32,
    },
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same request after this many milliseconds.
    Again {
        /// Milliseconds to wait; 0 where the limiter does the waiting.
        wait_millis: u64,
    },
    /// The same first page with a smaller size.
    Smaller {
        /// Size to ask for.
        limit: u32,
        /// Milliseconds to wait.
        wait_millis: u64,
    },
    /// The walk has to begin again with this size.
    RestartWalk {
        /// Size to begin with.
        limit: u32,
    },
    /// Renew the credential, then the same request.
    Renew,
    /// Report the failure.
    GiveUp,
}

/// Attempts of one call so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tries {
    transient: u32,
    /// How much speaks for too much work: [`SMALLER_WEIGHT`].
    weight: u32,
    throttled_in_a_row: u32,
    proofs: u32,
    renewed: bool,
}

impl Tries {
    /// Decides after a failed attempt and counts it. `random` is any number; equal numbers give equal decisions.
    pub fn decide(&mut self, trouble: Trouble, page: PageSize, random: u64) -> Verdict {
        if trouble == Trouble::Throttled {
            self.throttled_in_a_row += 1;
            let give_up = self.throttled_in_a_row > THROTTLED_RETRIES_MAX;
            return if give_up { Verdict::GiveUp } else { Verdict::Again { wait_millis: 0 } };
        }
        self.throttled_in_a_row = 0;
        match trouble {
            Trouble::Throttled | Trouble::Final => Verdict::GiveUp,
            Trouble::Unauthorized if self.renewed => Verdict::GiveUp,
            Trouble::Unauthorized => {
                self.renewed = true;
                Verdict::Renew
            }
            Trouble::Transient | Trouble::ServerError | Trouble::TooMuchWork | Trouble::TooLarge => {
                self.repeat(trouble, page, random)
            }
            Trouble::Proof => {
                self.proofs += 1;
                let give_up = self.proofs > PROOF_RETRIES_MAX;
                if give_up { Verdict::GiveUp } else { Verdict::Again { wait_millis: 0 } }
            }
        }
    }

    fn repeat(&mut self, trouble: Trouble, page: PageSize, random: u64) -> Verdict {
        self.transient += 1;
        self.weight += match trouble {
            Trouble::TooMuchWork => SMALLER_WEIGHT,
            Trouble::ServerError => 1,
            _ => 0,
        };
        let wait_millis = transient_wait_millis(self.transient, random);
        let smaller = match page {
            PageSize::None => None,
            PageSize::First { limit, floor } | PageSize::Next { limit, floor } => halved(limit, floor),
        };
        if let (PageSize::Next { .. }, Some(limit)) = (page, smaller) {
            let is_work = matches!(trouble, Trouble::TooMuchWork | Trouble::ServerError);
            if trouble == Trouble::TooLarge || (is_work && self.weight >= RESTART_WEIGHT) {
                return Verdict::RestartWalk { limit };
            }
        }
        if self.transient > TRANSIENT_RETRIES_MAX {
            return Verdict::GiveUp;
        }
        match (trouble, page, smaller) {
            (Trouble::TooMuchWork | Trouble::TooLarge, PageSize::First { .. }, Some(limit)) => {
                Verdict::Smaller { limit, wait_millis }
            }
            (Trouble::ServerError, PageSize::First { .. }, Some(limit)) if self.weight >= SMALLER_WEIGHT => {
                Verdict::Smaller { limit, wait_millis }
            }
            (Trouble::TooLarge, ..) => Verdict::GiveUp,
            _ => Verdict::Again { wait_millis },
        }
    }

    /// The same for a call whose bucket keeps failing and that has waited for as long as it could: it is not worth another
    /// attempt, unless smaller pages may be what helps. So they are tried in large steps.
    pub fn decide_last(&mut self, trouble: Trouble, page: PageSize, random: u64) -> Verdict {
        let is_work = matches!(trouble, Trouble::ServerError | Trouble::TooMuchWork);
        match (self.decide(trouble, page, random), page) {
            (
                Verdict::Again { wait_millis } | Verdict::Smaller { wait_millis, .. },
                PageSize::First { limit, floor },
            ) if is_work => match smaller(limit, floor, LAST_DIVISOR) {
                Some(limit) => Verdict::Smaller { limit, wait_millis },
                None => Verdict::GiveUp,
            },
            (Verdict::Again { .. }, PageSize::Next { limit, floor }) if is_work => match halved(limit, floor) {
                Some(limit) => Verdict::RestartWalk { limit },
                None => Verdict::GiveUp,
            },
            (Verdict::Again { .. }, _) if is_work || trouble == Trouble::Transient => Verdict::GiveUp,
            (verdict, _) => verdict,
        }
    }

    /// Whether the next attempt has to be sent with no other under way, so that none changes its nonce meanwhile.
    pub fn is_alone(&self) -> bool {
        self.proofs > PROOF_RETRIES_BESIDE_MAX
    }

    /// Attempts that have failed so far, for `X-Okta-Retry-Count`. Renewals and proofs do not count.
    pub fn count(&self) -> u32 {
        self.transient.saturating_add(self.throttled_in_a_row)
    }
}

fn halved(limit: u32, floor: u32) -> Option<u32> {
    smaller(limit, floor, 2)
}

fn smaller(limit: u32, floor: u32, divisor: u32) -> Option<u32> {
    let floor = floor.max(PAGE_LIMIT_FLOOR);
    (limit > floor).then(|| (limit / divisor).max(floor))
}

/// Exponential from [`TRANSIENT_WAIT_MILLIS_MIN`], between half and the whole of the step, so that several callers who
/// failed together do not come back together.
fn transient_wait_millis(attempt: u32, random: u64) -> u64 {
    let whole = transient_step_millis(attempt);
    whole / 2 + random % (whole / 2 + 1)
}

const fn transient_step_millis(attempt: u32) -> u64 {
    let attempt = if attempt > 16 { 16 } else { attempt };
    let step = TRANSIENT_WAIT_MILLIS_MIN << attempt.saturating_sub(1);
    if step < TRANSIENT_WAIT_MILLIS_MAX { step } else { TRANSIENT_WAIT_MILLIS_MAX }
}

/// The wait after a concurrency refusal, spread over [`CONCURRENCY_WAIT_MILLIS`].
pub fn concurrency_wait_millis(random: u64) -> u64 {
    let (start, end) = (*CONCURRENCY_WAIT_MILLIS.start(), *CONCURRENCY_WAIT_MILLIS.end());
    start + random % (end - start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST_500: PageSize = PageSize::First { limit: 500, floor: 1 };
    const NEXT_200: PageSize = PageSize::Next { limit: 200, floor: 1 };

    /// Plays `troubles` against fresh tries; answers the last verdict with the wait left out.
    #[track_caller]
    fn check(troubles: &[Trouble], page: PageSize, expected: Verdict) {
        let mut tries = Tries::default();
        let mut last = Verdict::GiveUp;
        for (index, trouble) in troubles.iter().enumerate() {
            last = match tries.decide(*trouble, page, 0) {
                Verdict::Again { .. } => Verdict::Again { wait_millis: 0 },
                Verdict::Smaller { limit, .. } => Verdict::Smaller { limit, wait_millis: 0 },
                other => other,
            };
            let ended = matches!(last, Verdict::GiveUp | Verdict::RestartWalk { .. });
            assert!(!ended || index + 1 == troubles.len(), "ended at {index} with {last:?}");
        }
        assert_eq!(last, expected);
    }

    #[test]
    fn verdicts() {
        use Trouble::*;
        let again = Verdict::Again { wait_millis: 0 };
        let smaller = |limit| Verdict::Smaller { limit, wait_millis: 0 };
        check(&[Final], FIRST_500, Verdict::GiveUp);
        check(&[Transient], FIRST_500, again);
        check(&[Transient; 6], NEXT_200, again);
        check(&[Transient; 7], NEXT_200, Verdict::GiveUp);
        check(&[ServerError], FIRST_500, again);
        check(&[ServerError; 2], FIRST_500, smaller(250));
        check(&[Transient, ServerError], FIRST_500, again);
        check(&[ServerError, TooMuchWork], FIRST_500, smaller(250));
        check(&[ServerError; 6], PageSize::None, again);
        check(&[ServerError; 7], PageSize::None, Verdict::GiveUp);
        check(&[ServerError; 4], NEXT_200, again);
        check(&[ServerError; 5], NEXT_200, Verdict::RestartWalk { limit: 100 });
        check(&[Transient, Transient, ServerError, Transient, ServerError, ServerError], NEXT_200, again);
        check(&[Throttled; 30], NEXT_200, again);
        check(&[Throttled; 31], NEXT_200, Verdict::GiveUp);
        check(&[Unauthorized], FIRST_500, Verdict::Renew);
        check(&[Unauthorized, Unauthorized], FIRST_500, Verdict::GiveUp);
        check(&[Proof; 6], NEXT_200, again);
        check(&[Proof; 7], NEXT_200, Verdict::GiveUp);
        check(&[Proof, Unauthorized], NEXT_200, Verdict::Renew);
        check(&[Unauthorized, Proof, Proof], NEXT_200, again);
        check(&[TooMuchWork], FIRST_500, smaller(250));
        check(&[TooMuchWork], PageSize::First { limit: 15, floor: 1 }, smaller(10));
        check(&[TooMuchWork], PageSize::First { limit: 30, floor: 20 }, smaller(20));
        check(&[TooMuchWork], PageSize::First { limit: 10, floor: 1 }, again);
        check(&[TooMuchWork], PageSize::None, again);
        check(&[TooMuchWork; 2], NEXT_200, again);
        check(&[TooMuchWork; 3], NEXT_200, Verdict::RestartWalk { limit: 100 });
        check(&[TooMuchWork; 7], PageSize::Next { limit: 10, floor: 1 }, Verdict::GiveUp);
        check(&[TooLarge], FIRST_500, smaller(250));
        check(&[TooLarge], NEXT_200, Verdict::RestartWalk { limit: 100 });
        check(&[TooLarge], PageSize::None, Verdict::GiveUp);
        check(&[TooLarge], PageSize::First { limit: 10, floor: 1 }, Verdict::GiveUp);
    }

    #[test]
    fn a_last_attempt_is_not_repeated_but_with_much_smaller_pages() {
        use Trouble::*;
        #[track_caller]
        fn check(trouble: Trouble, page: PageSize, expected: &[Option<u32>]) {
            let (mut tries, mut page) = (Tries::default(), page);
            let limits: Vec<Option<u32>> = std::iter::from_fn(|| match tries.decide_last(trouble, page, 0) {
                Verdict::Smaller { limit, .. } => {
                    page = PageSize::First { limit, floor: 1 };
                    Some(Some(limit))
                }
                Verdict::RestartWalk { limit } => {
                    page = PageSize::None;
                    Some(Some(limit))
                }
                Verdict::GiveUp => None,
                Verdict::Again { .. } | Verdict::Renew => {
                    page = PageSize::None;
                    Some(None)
                }
            })
            .take(5)
            .collect();
            assert_eq!(limits, expected, "{trouble:?}");
        }
        check(Transient, FIRST_500, &[]);
        check(Transient, NEXT_200, &[]);
        check(ServerError, PageSize::None, &[]);
        check(ServerError, FIRST_500, &[Some(62), Some(10)]);
        check(TooMuchWork, FIRST_500, &[Some(62), Some(10)]);
        check(ServerError, NEXT_200, &[Some(100)]);
        check(TooLarge, FIRST_500, &[Some(250), Some(125), Some(62), Some(31), Some(15)]);
        // These say nothing of the bucket.
        check(Throttled, NEXT_200, &[None; 5]);
        check(Proof, NEXT_200, &[None; 5]);
    }

    #[test]
    fn refusals_do_not_use_up_the_other_attempts() {
        let mut tries = Tries::default();
        for _ in 0..TRANSIENT_RETRIES_MAX {
            for _ in 0..THROTTLED_RETRIES_MAX {
                assert_eq!(tries.decide(Trouble::Throttled, NEXT_200, 1), Verdict::Again { wait_millis: 0 });
            }
            assert!(matches!(tries.decide(Trouble::Transient, NEXT_200, 1), Verdict::Again { .. }));
        }
        assert_eq!(tries.decide(Trouble::Transient, NEXT_200, 1), Verdict::GiveUp);
    }

    #[test]
    fn proofs_are_sent_alone_after_two_refusals() {
        let mut tries = Tries::default();
        for is_alone in [false, false, false, true, true, true, true] {
            assert_eq!(tries.is_alone(), is_alone, "{tries:?}");
            tries.decide(Trouble::Proof, NEXT_200, 1);
        }
        assert_eq!(tries.count(), 0, "Okta is not told of repetitions that it asked for");
    }

    #[test]
    fn a_walk_of_halvings_reaches_the_floor() {
        let (mut limit, mut steps) = (500, 0);
        while let Some(next) = halved(limit, 1) {
            (limit, steps) = (next, steps + 1);
        }
        assert_eq!((limit, steps), (10, 6));
    }

    #[test]
    fn waits_stay_within_their_bounds() {
        for random in [0, 1, 12_345, u64::MAX] {
            for attempt in 0..70 {
                let wait = transient_wait_millis(attempt, random);
                assert!((TRANSIENT_WAIT_MILLIS_MIN / 2..=TRANSIENT_WAIT_MILLIS_MAX).contains(&wait), "{wait}");
            }
            assert!(CONCURRENCY_WAIT_MILLIS.contains(&concurrency_wait_millis(random)));
        }
        let longest = (1..=TRANSIENT_RETRIES_MAX).map(|attempt| transient_wait_millis(attempt, 0) * 2);
        assert_eq!(longest.sum::<u64>(), TRANSIENT_WAITS_MILLIS);
        assert_eq!(TRANSIENT_WAITS_MILLIS, 23_500);
        assert_eq!(transient_wait_millis(1, 0), 250);
        assert_eq!(transient_wait_millis(3, 0), 1_000);
    }
}

//! How many requests of an org are in flight: the limit of Okta counts all buckets together (facts 6.1).
//!
//! Entry point: [`Parallelism`].
//!
//! Invariants: at least one; never more than configured; refusals of requests that were in flight together narrow to a half,
//! or to those of them that were not refused.

use super::Moment;

/// Answers in a row without a refusal after which one more request may be in flight again.
pub(super) const ANSWERS_TO_WIDEN: u32 = 20;

/// Requests in flight at once, narrowed by refusals and widened by answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parallelism {
    most: u32,
    now: u32,
    answers: u32,
    narrowed_at: Option<Moment>,
    /// Requests that were in flight at the last narrowing, without those of them that were refused.
    wave: u32,
}

impl Parallelism {
    pub(super) fn new(most: u32) -> Self {
        Self { most: most.max(1), now: most.max(1), answers: 0, narrowed_at: None, wave: 0 }
    }

    pub(super) fn has_room(&self, in_flight: u32) -> bool {
        in_flight < self.now
    }

    /// A request was answered other than with a refusal for too many at once.
    pub(super) fn answered(&mut self) {
        self.answers = self.answers.saturating_add(1);
        if self.answers >= ANSWERS_TO_WIDEN && self.now < self.most {
            (self.now, self.answers) = (self.now + 1, 0);
        }
    }

    /// A request was refused since there were too many, `in_flight` of them ours, itself included.
    pub(super) fn refused(&mut self, sent: Moment, now: Moment, in_flight: u32) {
        self.answers = 0;
        if self.narrowed_at.is_some_and(|narrowed_at| sent <= narrowed_at) {
            // One of those that were in flight together: as many as are not refused fit.
            self.wave = self.wave.saturating_sub(1);
            self.now = self.now.min(self.wave).max(1);
            return;
        }
        self.now = (self.now.min(in_flight) / 2).max(1);
        self.narrowed_at = Some(now);
        self.wave = in_flight.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_narrow_once_and_answers_widen() {
        let mut parallel = Parallelism::new(16);
        assert!(parallel.has_room(15) && !parallel.has_room(16));
        // Eight in flight, of which three are refused.
        for at in [100, 101, 102] {
            parallel.refused(Moment(50), Moment(at), 8);
        }
        assert!(parallel.has_room(3) && !parallel.has_room(4));
        // Sixteen, of which twelve are: four fit.
        let mut of_sixteen = Parallelism::new(16);
        for at in 100..112 {
            of_sixteen.refused(Moment(50), Moment(at), 16);
        }
        assert!(of_sixteen.has_room(3) && !of_sixteen.has_room(4));
        parallel.refused(Moment(103), Moment(200), 4);
        parallel.refused(Moment(201), Moment(300), 2);
        parallel.refused(Moment(301), Moment(400), 1);
        assert!(parallel.has_room(0) && !parallel.has_room(1));
        for _ in 0..ANSWERS_TO_WIDEN * 100 {
            parallel.answered();
        }
        assert!(parallel.has_room(15) && !parallel.has_room(16));
    }
}

//! Long questions that are made of many small ones, answered by several threads.
//!
//! Entry point: [`Ask::in_parts`].
//!
//! Invariants:
//! - All parts are answered from the same state of the store: a thread whose snapshot shows another one answers nothing, and
//!   the caller answers its part itself.
//! - Each thread holds one of the places of scans. Nobody waits for one here: without a free place the caller does it all.

use std::num::NonZeroUsize;
use std::thread;

use super::ask::Ask;
use super::errors::Failure;

/// Threads for one question: beside others, it must not take all places of scans.
const THREADS_MAX: usize = 4;

impl Ask<'_> {
    /// Answers `items` in order, in about equal parts of `part_min` items at least.
    ///
    /// # Errors
    /// The first failure, by the order of the items.
    pub(super) fn in_parts<Q: Sync, T: Send>(
        &self,
        items: &[Q],
        part_min: usize,
        answer: impl Fn(&Ask<'_>, &[Q]) -> Result<T, Failure> + Sync,
    ) -> Result<Vec<T>, Failure> {
        let parts_max = items.len() / part_min.max(1);
        // Asks the system.
        let cores = if parts_max > 1 { thread::available_parallelism().map_or(1, NonZeroUsize::get) } else { 1 };
        let threads_max = cores.min(THREADS_MAX).min(parts_max).max(1);
        let reader = self.view.reader();
        // One for the caller, who has a place already.
        let places: Vec<_> = (1..threads_max).map_while(|_| reader.place_beside()).collect();
        let part = items.len().div_ceil(places.len() + 1).max(1);
        let (own, others) = items.split_at(part.min(items.len()));
        let beside = self.beside();
        let answer = &answer;
        let answers = thread::scope(|scope| {
            let begin = |(part, place)| {
                let (beside, work) = (beside.clone(), move |ask: &Ask<'_>| answer(ask, part));
                let thread = thread::Builder::new().name("part".to_owned());
                let begun = thread.spawn_scoped(scope, move || {
                    let _place = place;
                    beside.point(work)
                });
                (part, begun)
            };
            let begun: Vec<_> = others.chunks(part).zip(places).map(begin).collect();
            let mut answers = vec![answer(self, own)];
            for (part, thread) in begun {
                // A thread that the system does not give, or that has panicked, leaves its part to the caller.
                let answered = thread.ok().and_then(|thread| thread.join().ok().flatten());
                answers.push(answered.unwrap_or_else(|| answer(self, part)));
            }
            answers
        });
        answers.into_iter().collect()
    }
}

//! Long questions that are made of many small ones, answered by several threads.
//!
//! Entry point: [`Ask::in_parts`].
//!
//! Invariants:
//! - All parts are answered from the same state of the store: a thread whose snapshot shows another one answers nothing, and
//!   the caller answers its part itself.
//! - Each thread holds one of the places of scans. Nobody waits for one here: without a free place the caller does it all.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::ask::Ask;
use super::errors::Failure;

/// Threads for one question: beside others, it must not take all places of scans.
const THREADS_MAX: usize = 4;

/// Parts for each thread. A core that others use as well does fewer of them than one that is free.
const PARTS_EACH: usize = 8;

impl Ask<'_> {
    /// Answers `items` in order, in parts; `worth_thread`: so many of them are worth a thread.
    ///
    /// # Errors
    /// The first failure, by the order of the items.
    pub(super) fn in_parts<Q: Sync, T: Send>(
        &self,
        items: &[Q],
        worth_thread: usize,
        answer: impl Fn(&Ask<'_>, &[Q]) -> Result<T, Failure> + Sync,
    ) -> Result<Vec<T>, Failure> {
        let threads_max = items.len() / worth_thread.max(1);
        // Asks the system.
        let cores = if threads_max > 1 { thread::available_parallelism().map_or(1, NonZeroUsize::get) } else { 1 };
        let threads_max = cores.min(THREADS_MAX).min(threads_max).max(1);
        let reader = self.view.reader();
        // One for the caller, who has a place already.
        let places: Vec<_> = (1..threads_max).map_while(|_| reader.place_beside()).collect();
        if places.is_empty() {
            return Ok(vec![answer(self, items)?]);
        }
        let parts: Vec<&[Q]> = items.chunks(items.len().div_ceil((places.len() + 1) * PARTS_EACH).max(1)).collect();
        let next = AtomicUsize::new(0);
        let work = |ask: &Ask<'_>| {
            let mut answers = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = parts.get(number) else { return answers };
                answers.push((number, answer(ask, part)));
            }
        };
        let (beside, work) = (self.beside(), &work);
        let mut answers: Vec<Option<Result<T, Failure>>> = parts.iter().map(|_| None).collect();
        let mut keep = |answered: Vec<(usize, Result<T, Failure>)>| {
            for (number, answer) in answered {
                answers[number] = Some(answer);
            }
        };
        thread::scope(|scope| {
            let begin = |place| {
                let (beside, thread) = (beside.clone(), thread::Builder::new().name("part".to_owned()));
                thread.spawn_scoped(scope, move || {
                    let _place = place;
                    beside.point(|ask| Ok(work(ask)))
                })
            };
            let begun: Vec<_> = places.into_iter().map(begin).collect();
            keep(work(self));
            // A thread that the system does not give, that sees another state, or that has panicked, leaves its parts to the caller.
            let joined = begun.into_iter().filter_map(|thread| thread.ok()?.join().ok()??.ok());
            joined.for_each(&mut keep);
        });
        let missing = answers.into_iter().zip(&parts);
        missing.map(|(answered, part)| answered.unwrap_or_else(|| answer(self, part))).collect()
    }
}

//! Long questions that are made of many small ones, answered by several threads.
//!
//! Entry point: [`Ask::in_parts`].
//!
//! The threads are those of the runtime's scans. They are waiting already: the system puts a thread that wakes onto a core that is
//! idle, but a new one often onto the core of whoever made it.
//!
//! Invariants:
//! - All parts are answered from the same state of the store: a thread whose snapshot shows another one answers nothing, and
//!   the caller answers for it.
//! - Each thread holds one of the places of scans. Nobody waits for one here: without a free place the caller does it all. Nor is a
//!   thread waited for that has not begun.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::runtime::Handle;

use super::ask::Ask;
use super::errors::Failure;

/// Threads for one question: beside others, it must not take all places of scans.
const THREADS_MAX: usize = 4;

/// Parts for each thread. A core that others use as well does fewer of them than one that is free.
const PARTS_EACH: usize = 8;

/// A question in parts.
struct Work<Q, I, F> {
    request: Arc<Q>,
    items: fn(&Q) -> &[I],
    /// Items of a part.
    part: usize,
    /// Number of the part that nobody has begun yet.
    next: AtomicUsize,
    answer: F,
}

impl<Q, I, F> Work<Q, I, F> {
    /// A part to answer, and its number.
    fn take(&self) -> Option<(usize, &[I])> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some((number, self.part(number)?))
    }

    fn part(&self, number: usize) -> Option<&[I]> {
        (self.items)(&self.request).chunks(self.part).nth(number)
    }

    fn is_all_taken(&self) -> bool {
        self.part(self.next.load(Ordering::Relaxed)).is_none()
    }
}

/// A part that a thread has begun. However that ends, the caller is told.
struct Begun<'a, T> {
    number: usize,
    answer: Option<Result<T, Failure>>,
    told: &'a mpsc::SyncSender<(usize, Option<Result<T, Failure>>)>,
}

impl<T> Drop for Begun<'_, T> {
    fn drop(&mut self) {
        // He waits for it, unless he has panicked.
        let _ = self.told.send((self.number, self.answer.take()));
    }
}

impl Ask<'_> {
    /// Answers the items of a request in order, in parts; `worth_thread`: so many of them are worth a thread.
    ///
    /// # Errors
    /// The first failure, by the order of the items.
    pub(super) fn in_parts<Q, I, T, F>(
        &self,
        request: &Arc<Q>,
        items: fn(&Q) -> &[I],
        worth_thread: usize,
        answer: F,
    ) -> Result<Vec<T>, Failure>
    where
        Q: Send + Sync + 'static,
        I: 'static,
        T: Send + 'static,
        F: Fn(&Ask<'_>, &[I]) -> Result<T, Failure> + Send + Sync + 'static,
    {
        let all = items(request);
        let threads_max = all.len() / worth_thread.max(1);
        // Asks the system.
        let cores = if threads_max > 1 { thread::available_parallelism().map_or(1, NonZeroUsize::get) } else { 1 };
        let threads_max = cores.min(THREADS_MAX).min(threads_max).max(1);
        let reader = self.view.reader();
        // One for the caller, who has a place already.
        let places: Vec<_> = (1..threads_max).map_while(|_| reader.place_beside()).collect();
        let (Ok(runtime), false) = (Handle::try_current(), places.is_empty()) else {
            return Ok(vec![answer(self, all)?]);
        };
        let part = all.len().div_ceil((places.len() + 1) * PARTS_EACH).max(1);
        let work = Arc::new(Work { request: Arc::clone(request), items, part, next: AtomicUsize::new(0), answer });
        // Room for all: nobody waits to tell.
        let (told, answered) = mpsc::sync_channel(all.chunks(part).len());
        let beside = self.beside();
        for place in places {
            let (beside, work, told) = (beside.clone(), Arc::clone(&work), told.clone());
            runtime.spawn_blocking(move || {
                let _place = place;
                // It may have taken long to get a thread.
                if work.is_all_taken() {
                    return;
                }
                beside.point(|ask| {
                    while let Some((number, part)) = work.take() {
                        let mut begun = Begun { number, answer: None, told: &told };
                        begun.answer = Some((work.answer)(ask, part));
                    }
                    Ok(())
                });
            });
        }
        let mut answers: Vec<Option<Result<T, Failure>>> = all.chunks(part).map(|_| None).collect();
        let mut keep = |(number, answer): (usize, Option<Result<T, Failure>>)| {
            if let Some(place) = answers.get_mut(number) {
                *place = answer;
            }
        };
        let mut own = 0;
        while let Some((number, part)) = work.take() {
            keep((number, Some((work.answer)(self, part))));
            own += 1;
        }
        // All others were begun by somebody. What one who panicked has begun is left to the caller.
        let begun = all.chunks(part).len() - own;
        answered.iter().take(begun).for_each(keep);
        let answers = answers.into_iter().enumerate();
        answers
            .map(|(number, answer)| {
                answer.unwrap_or_else(|| (work.answer)(self, work.part(number).unwrap_or_default()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread::ThreadId;
    use std::time::Duration;

    use super::super::tests::World;
    use super::*;

    /// What becomes of a thousand numbers; `answer` is told whether it is in the thread of the caller.
    fn sums<F>(world: &World, answer: F) -> Result<Vec<usize>, Failure>
    where
        F: Fn(bool, &[usize]) -> Result<usize, Failure> + Send + Sync + 'static,
    {
        world.scan(move |ask| {
            let caller: ThreadId = thread::current().id();
            let request = Arc::new((0..1_000).collect::<Vec<usize>>());
            let answer = move |_: &Ask<'_>, items: &[usize]| answer(thread::current().id() == caller, items);
            ask.in_parts(&request, |request| request, 100, answer)
        })
    }

    #[test]
    fn parts_are_put_together_in_order_whoever_answers_them() {
        let world = World::new();
        let first = |_, items: &[usize]| Ok(items[0]);
        let starts = sums(&world, first).unwrap();
        assert!(starts.is_sorted() && starts[0] == 0, "{starts:?}");
        let all = sums(&world, |_, items| Ok(items.iter().sum())).unwrap();
        assert_eq!(all.iter().sum::<usize>(), 999 * 1_000 / 2);
        if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
            assert!(starts.len() > 8, "{starts:?}");
            // Others do their share where the caller is slow, and the caller where they are.
            for is_caller_slow in [true, false] {
                let (own, others) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
                let counts = (Arc::clone(&own), Arc::clone(&others));
                let answer = move |is_caller: bool, items: &[usize]| {
                    let count = if is_caller { &counts.0 } else { &counts.1 };
                    count.fetch_add(1, Ordering::Relaxed);
                    let is_slow = is_caller == is_caller_slow;
                    thread::park_timeout(Duration::from_millis(if is_slow { 200 } else { 1 }));
                    Ok(items.len())
                };
                assert_eq!(sums(&world, answer).unwrap().iter().sum::<usize>(), 1_000);
                let (own, others) = (own.load(Ordering::Relaxed), others.load(Ordering::Relaxed));
                assert!(if is_caller_slow { own < others } else { others < own }, "{own} and {others}");
            }
        }
    }

    #[test]
    fn the_first_failure_by_order_is_told() {
        let world = World::new();
        let answer = |_, items: &[usize]| match items.iter().find(|item| **item == 400 || **item == 900) {
            Some(found) => Err(Failure::TooManyItems { field: "items", found: *found, max: 0 }),
            None => Ok(0),
        };
        let failure = sums(&world, answer).unwrap_err();
        assert!(matches!(failure, Failure::TooManyItems { found: 400, .. }), "{failure:?}");
    }

    #[test]
    fn what_a_thread_leaves_behind_is_answered_by_the_caller() {
        let world = World::new();
        let has_panicked = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&has_panicked);
        let answer = move |is_caller: bool, items: &[usize]| {
            if is_caller {
                // Until somebody else has begun.
                thread::park_timeout(Duration::from_millis(20));
            } else if !seen.swap(true, Ordering::Relaxed) {
                panic!("a part that nobody answers, on purpose");
            }
            Ok(items.len())
        };
        assert_eq!(sums(&world, answer).unwrap().iter().sum::<usize>(), 1_000);
        let is_alone = thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
        assert!(is_alone || has_panicked.load(Ordering::Relaxed));
    }
}

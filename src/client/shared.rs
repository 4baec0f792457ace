//! What everybody sees of a copy, and the task that keeps it: what becomes of both where something panics.
//!
//! Entry points: [`Shared::seen`], [`Shared::seen_mut`], [`supervise`].
//!
//! Invariants:
//! - What may be half changed is seen by nobody: the lock is poisoned then, and what it holds is dropped before it is used again.
//! - A copy whose task has panicked is [`Phase::Failed`] until there is a new one, never one that looks alive.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::age::Told;
use super::mirror::Mirror;
use super::reflector::{Phase, ReflectorState};
use super::setback::{Setback, SetbackCause, Setbacks};

/// What everybody sees.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) mirror: Option<Mirror>,
    /// When the server told it; `None`: it is from the file, and nobody has confirmed it, or the server has gone another way.
    pub(super) told: Option<Told>,
}

/// Between the task of a reflector and those who ask it.
#[derive(Debug)]
pub(super) struct Shared {
    seen: RwLock<Seen>,
    pub(super) state: watch::Sender<ReflectorState>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self { seen: RwLock::default(), state: watch::Sender::new(ReflectorState::default()) }
    }

    /// What is seen; `None` where something panicked while it was changed: then it is half of one state and half of another.
    pub(super) fn seen(&self) -> Option<RwLockReadGuard<'_, Seen>> {
        self.seen.read().ok()
    }

    /// The same to be changed. What may be half of something is dropped first.
    pub(super) fn seen_mut(&self) -> RwLockWriteGuard<'_, Seen> {
        self.seen.write().unwrap_or_else(|poisoned| {
            let mut seen = poisoned.into_inner();
            *seen = Seen::default();
            self.seen.clear_poison();
            seen
        })
    }

    pub(super) fn tell(&self, tell: impl FnOnce(&mut ReflectorState)) {
        self.state.send_modify(tell);
    }

    /// Tells of a copy that cannot be kept.
    pub(super) fn tell_setback(&self, setback: Setback) {
        let revision = self.seen().and_then(|seen| seen.mirror.as_ref().map(Mirror::revision));
        self.tell(|state| {
            (state.phase, state.revision) = (Phase::Failed, revision);
            state.problem = Some(setback.cause.to_string());
            state.setback = Some(setback);
        });
    }

    /// Drops the copy, whatever state it is in.
    fn drop_copy(&self) {
        let mut seen = self.seen_mut();
        let dropped = std::mem::take(&mut *seen);
        drop(seen);
        drop(dropped);
    }
}

/// Whether the work goes on from what is kept in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// From the file, if it has something.
    FromFile,
    /// From nothing: what was kept may be what something has panicked about.
    Anew,
}

/// Runs the work of a reflector until it ends by itself. Where it panics the copy is dropped, and the work begins anew after a
/// wait, `first` at first.
pub(super) async fn supervise<W: Future<Output = ()> + Send + 'static>(
    shared: &Shared,
    stop: &CancellationToken,
    first: Duration,
    mut work: impl FnMut(Begin) -> W,
) {
    let (mut setbacks, mut begin) = (Setbacks::default(), Begin::FromFile);
    loop {
        let begun = Instant::now();
        // A task of its own, which ends with this one.
        let mut task = JoinSet::new();
        task.spawn(work(begin));
        match task.join_next().await {
            Some(Err(error)) if error.is_panic() => {}
            _ => return,
        }
        begin = Begin::Anew;
        shared.drop_copy();
        let setback = setbacks.note(SetbackCause::Panicked, begun.elapsed(), first);
        tracing::error!(in_a_row = setback.in_a_row, "the task of a copy has panicked; the copy is dropped");
        let wait = setback.wait;
        shared.tell_setback(setback);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    shared.tell(|state| state.phase = Phase::Stopped);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::clock;

    const FIRST: Duration = Duration::from_secs(30);

    /// A change that panics in the middle leaves nothing to be seen, and says so.
    #[tokio::test(start_paused = true)]
    async fn a_panic_leaves_no_copy_that_looks_alive() {
        let (shared, stop) = (Arc::new(Shared::new()), CancellationToken::new());
        let (begins, started) = (Arc::new(std::sync::Mutex::new(Vec::new())), Instant::now());
        let work = |begin| {
            begins.lock().unwrap().push((begin, started.elapsed().as_secs()));
            let (shared, attempt) = (Arc::clone(&shared), begins.lock().unwrap().len());
            async move {
                shared.tell(|state| (state.phase, state.revision, state.setback) = (Phase::Following, Some(7), None));
                if attempt <= 2 {
                    let mut seen = shared.seen_mut();
                    assert!(seen.told.is_none(), "attempt {attempt} sees what was half changed");
                    seen.told = Some(Told::now(clock::now(), Duration::ZERO));
                    panic!("simulated, attempt {attempt}");
                }
                std::future::pending().await
            }
        };
        let supervised = supervise(&shared, &stop, FIRST, work);
        let seen = async {
            let mut state = shared.state.subscribe();
            for (in_a_row, wait) in [(1, FIRST), (2, 2 * FIRST)] {
                let is_it =
                    |state: &ReflectorState| state.setback.as_ref().is_some_and(|told| told.in_a_row == in_a_row);
                let failed = state.wait_for(is_it).await.unwrap().clone();
                assert_eq!(failed.phase, Phase::Failed);
                let cause = SetbackCause::Panicked;
                assert_eq!(failed.problem, Some(cause.to_string()));
                assert_eq!(failed.setback, Some(Setback { cause, in_a_row, wait }));
                assert_eq!(failed.revision, None);
                assert!(shared.seen().unwrap().told.is_none(), "what was half changed is gone");
            }
            // What works is left alone.
            tokio::time::sleep(Duration::from_secs(86_400)).await;
            assert_eq!(shared.state.borrow().phase, Phase::Following);
        };
        tokio::select! {
            () = supervised => panic!("it goes on"),
            () = seen => {}
        }
        let expected = [(Begin::FromFile, 0), (Begin::Anew, 30), (Begin::Anew, 90)];
        assert_eq!(*begins.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_stopped_while_it_waits() {
        let (shared, stop) = (Shared::new(), CancellationToken::new());
        let work = |_| async { panic!("simulated") };
        let stopping = async {
            let mut state = shared.state.subscribe();
            state.wait_for(|state| state.phase == Phase::Failed).await.unwrap();
            stop.cancel();
        };
        tokio::join!(supervise(&shared, &stop, FIRST, work), stopping);
        assert_eq!(shared.state.borrow().phase, Phase::Stopped);
    }
}

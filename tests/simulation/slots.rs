//! How many simulated orgs live at the same time in this process, whatever test they belong to. Entry points: [`take`],
//! [`take_all`].

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Orgs at the same time, per core. One mostly waits (for polls, retries, quiet periods), so that a core has room for
/// several; with many more they would wait for each other, and run into their time limits.
const PER_CORE: usize = 4;

/// What is given out.
struct State {
    taken: usize,
    /// Somebody waits until nothing is taken: nobody else begins meanwhile.
    is_awaited: bool,
}

static STATE: Mutex<State> = Mutex::new(State { taken: 0, is_awaited: false });
static CHANGED: Condvar = Condvar::new();

/// How many orgs live at the same time at most.
pub(crate) fn count() -> usize {
    PER_CORE * std::thread::available_parallelism().map_or(1, usize::from)
}

fn wait(is_over: impl Fn(&State) -> bool) -> MutexGuard<'static, State> {
    let state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    CHANGED.wait_while(state, |state| !is_over(state)).unwrap_or_else(PoisonError::into_inner)
}

/// Room for so many orgs, until it is dropped.
pub(crate) struct Slot(usize);

/// Waits for room. Tests run beside each other: without one number for all of them each would fill the machine by itself.
pub(crate) fn take() -> Slot {
    wait(|state| !state.is_awaited && state.taken < count()).taken += 1;
    Slot(1)
}

/// Waits until nobody else has an org: for what is counted or timed.
pub(crate) fn take_all() -> Slot {
    wait(|state| !state.is_awaited).is_awaited = true;
    let mut state = wait(|state| state.taken == 0);
    *state = State { taken: count(), is_awaited: false };
    Slot(count())
}

impl Drop for Slot {
    fn drop(&mut self) {
        STATE.lock().unwrap_or_else(PoisonError::into_inner).taken -= self.0;
        CHANGED.notify_all();
    }
}

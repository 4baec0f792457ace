//! What one client may take: calls and streams at a time, calls in a second, bytes that it leaves untaken. Entry point: [`ClientState::enter`].
//!
//! Invariant: a place is taken before a call is looked at and given back when the last byte of its answer is, so that a client
//! that does not read its answers runs out of places of its own, and of nobody else's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::super::errors::Failure;

/// What one client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Calls at a time, streams included.
    pub calls: usize,
    /// Streams of `Changes.Watch` at a time.
    pub watches: usize,
    /// Calls in a second. `None`: any number.
    pub calls_per_second: Option<u32>,
    /// Bytes of answers that it has not taken yet; small answers are not counted.
    pub answer_bytes: usize,
}

/// What one client takes.
#[derive(Debug)]
pub(in crate::serve) struct ClientState {
    calls: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    answers: Answers,
    /// Connections over which no known client has called yet; of strangers only.
    unproven: Arc<Semaphore>,
    rate: Option<Rate>,
}

/// Places of a call that is under way.
#[derive(Debug, Default)]
pub(in crate::serve) struct Places {
    _call: Option<OwnedSemaphorePermit>,
    _watch: Option<OwnedSemaphorePermit>,
    answers: Option<Answers>,
}

impl Places {
    /// Takes room for a piece of an answer until the client has taken it. Who has no limits has room.
    ///
    /// # Errors
    /// [`Failure::ClientBusy`]: the client leaves too much untaken already.
    pub(in crate::serve) fn room_for(&self, bytes: usize) -> Result<Room, Failure> {
        match &self.answers {
            Some(answers) => answers.take(bytes),
            None => Ok(Room::default()),
        }
    }
}

/// Bytes of an answer that is not counted: most look-ups are smaller, and as many as a client may have open are some megabytes.
pub(in crate::serve) const SMALL_ANSWER_BYTES: usize = 16 << 10;

/// What a client's untaken answers may hold, in KiB.
#[derive(Clone, Debug)]
struct Answers(Arc<Semaphore>);

/// Room that a piece of an answer takes.
#[derive(Debug, Default)]
pub(in crate::serve) struct Room(#[expect(dead_code, reason = "given back when dropped")] Option<OwnedSemaphorePermit>);

impl Answers {
    fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / 1_024).min(Semaphore::MAX_PERMITS))))
    }

    fn take(&self, bytes: usize) -> Result<Room, Failure> {
        let kibibytes = u32::try_from(bytes.div_ceil(1_024)).map_err(|_| TOO_MUCH_UNTAKEN)?;
        let taken = Arc::clone(&self.0).try_acquire_many_owned(kibibytes);
        taken.map(|taken| Room(Some(taken))).map_err(|_| TOO_MUCH_UNTAKEN)
    }
}

impl ClientState {
    pub(in crate::serve) fn new(limits: ClientLimits) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(limits.calls)),
            watches: Arc::new(Semaphore::new(limits.watches)),
            answers: Answers::new(limits.answer_bytes),
            unproven: Arc::new(Semaphore::new(0)),
            rate: limits.calls_per_second.map(Rate::new),
        }
    }

    /// Takes the place of a connection that is still to prove who calls over it. `None`: there are as many as there may be.
    pub(in crate::serve) fn connect(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.unproven).try_acquire_owned().ok()
    }

    /// Takes the places of a call.
    ///
    /// # Errors
    /// [`Failure::ClientBusy`]: the client has as many as it may.
    pub(in crate::serve) fn enter(&self, is_watch: bool) -> Result<Places, Failure> {
        if self.rate.as_ref().is_some_and(|rate| !rate.admits()) {
            return Err(TOO_FAST);
        }
        let take = |places: &Arc<Semaphore>, failure| Arc::clone(places).try_acquire_owned().map_err(|_| failure);
        let call = take(&self.calls, TOO_MANY_CALLS)?;
        let watch = if is_watch { Some(take(&self.watches, TOO_MANY_WATCHES)?) } else { None };
        Ok(Places { _call: Some(call), _watch: watch, answers: Some(self.answers.clone()) })
    }
}

/// So many calls a second, of which a second's worth may come at once.
#[derive(Debug)]
struct Rate {
    begun: Instant,
    nanos_per_call: u64,
    /// When, in nanoseconds since `begun`, all calls that were admitted would have come at an even pace.
    paced_until: AtomicU64,
}

/// More calls at a time than the client may have.
const TOO_MANY_CALLS: Failure =
    Failure::ClientBusy { limit: "max_client_calls", detail: "wait for the answers to calls that are open" };

/// More streams at a time.
const TOO_MANY_WATCHES: Failure = Failure::ClientBusy {
    limit: "max_client_watches",
    detail: "end streams of Changes.Watch that are not needed any more",
};

/// More calls in a second.
const TOO_FAST: Failure = Failure::ClientBusy { limit: "max_client_calls_per_second", detail: "call less often" };

/// More bytes left untaken.
const TOO_MUCH_UNTAKEN: Failure =
    Failure::ClientBusy { limit: "max_client_answer_bytes", detail: "take the answers that are there already" };

const SECOND_NANOS: u64 = 1_000_000_000;

impl Rate {
    fn new(per_second: u32) -> Self {
        let nanos_per_call = SECOND_NANOS / u64::from(per_second.max(1));
        Self { begun: Instant::now(), nanos_per_call, paced_until: AtomicU64::new(0) }
    }

    fn admits(&self) -> bool {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let admit = |paced_until: u64| {
            let next = paced_until.max(now).saturating_add(self.nanos_per_call);
            (next <= now.saturating_add(SECOND_NANOS)).then_some(next)
        };
        self.paced_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_ok()
    }
}

/// Callers that are known by their address only.
#[derive(Debug)]
pub(in crate::serve) struct Strangers {
    limits: ClientLimits,
    unproven: usize,
    /// A state lives as long as one of its connections.
    by_address: Mutex<HashMap<IpAddr, Weak<ClientState>>>,
}

impl Strangers {
    /// `unproven`: connections from one network at a time over which no known client has called.
    pub(in crate::serve) fn new(limits: ClientLimits, unproven: usize) -> Self {
        Self { limits, unproven, by_address: Mutex::default() }
    }

    /// The state of whoever calls from there.
    pub(in crate::serve) fn of(&self, address: IpAddr) -> Arc<ClientState> {
        // Nothing panics while it is held; and what is in it would still be true.
        let mut known = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network_of(address);
        if let Some(state) = known.get(&network).and_then(Weak::upgrade) {
            return state;
        }
        // As many as there are connections are alive: the map has at most twice as many.
        if known.len() >= 2 * known.values().filter(|state| state.strong_count() > 0).count() {
            known.retain(|_, state| state.strong_count() > 0);
        }
        let unproven = Arc::new(Semaphore::new(self.unproven));
        let state = Arc::new(ClientState { unproven, ..ClientState::new(self.limits) });
        known.insert(network, Arc::downgrade(&state));
        state
    }
}

/// Of IPv6 the first 64 bits: one machine has all addresses behind them.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: ClientLimits = ClientLimits { calls: 3, watches: 1, calls_per_second: None, answer_bytes: 1 << 20 };

    #[test]
    fn places_are_taken_and_given_back() {
        let client = ClientState::new(LIMITS);
        let watch = client.enter(true).unwrap();
        assert!(client.enter(true).is_err(), "one stream only");
        let calls = [client.enter(false).unwrap(), client.enter(false).unwrap()];
        assert!(client.enter(false).is_err(), "three calls only, the stream among them");
        drop(calls);
        assert!(client.enter(false).is_ok());
        drop(watch);
        assert!(client.enter(true).is_ok());
    }

    #[test]
    fn large_answers_take_room_of_their_client() {
        let client = ClientState::new(LIMITS);
        let [one, other] = [client.enter(false).unwrap(), client.enter(false).unwrap()];
        let taken = [one.room_for(600 << 10).unwrap(), other.room_for(400 << 10).unwrap()];
        assert!(one.room_for(25 << 10).is_err() && other.room_for(1 << 30).is_err(), "24 KiB are left");
        assert!(one.room_for(24 << 10).is_ok());
        drop(taken);
        assert!(one.room_for(1 << 20).is_ok());
        assert!(one.room_for((1 << 20) + 1).is_err(), "more than there ever is");
        assert!(Places::default().room_for(1 << 30).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_paced() {
        let client = ClientState::new(ClientLimits { calls_per_second: Some(10), ..LIMITS });
        let admitted = |n: usize| (0..n).filter(|_| client.enter(false).is_ok()).count();
        assert_eq!(admitted(30), 10, "a second's worth at once");
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(admitted(30), 2);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(admitted(30), 10, "a rest is not saved up");
    }

    #[test]
    fn strangers_are_told_apart_by_their_network() {
        let strangers = Strangers::new(LIMITS, 2);
        let of = |address: &str| strangers.of(address.parse().unwrap());
        let one = of("192.0.2.1");
        assert!(Arc::ptr_eq(&one, &of("192.0.2.1")) && Arc::ptr_eq(&one, &of("::ffff:192.0.2.1")));
        assert!(!Arc::ptr_eq(&one, &of("192.0.2.2")));
        let six = of("2001:db8::1");
        assert!(Arc::ptr_eq(&six, &of("2001:db8::ffff:1")));
        assert!(!Arc::ptr_eq(&six, &of("2001:db8:0:1::1")));
        for n in 0..1_000 {
            of(&format!("198.51.{}.{}", n / 250, n % 250));
        }
        assert!(strangers.by_address.lock().unwrap().len() <= 6, "who has gone is forgotten");
    }
}

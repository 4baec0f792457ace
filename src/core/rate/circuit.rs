//! Whether the requests of a bucket keep failing, and who asks meanwhile: a bucket that fails is asked rarely, not by everybody.
//!
//! Entry points: [`Circuit`] of a bucket, [`Standing`] of a call. Time and randomness are handed in.
//!
//! Rules:
//! - It opens after [`IN_A_ROW_MIN`] failures in a row, of [`CALLS_MIN`] calls, that are [`SHARE_PERCENT_MIN`] percent of the
//!   newest [`RECENT`] answers: neither one call, nor a few broken resources among sound ones, nor chance opens it.
//! - While it is open one request at a time asks whether it is over: by turns that of the call that has failed least, so that
//!   broken resources do not stand in for sound ones, and that of the call that has failed most, whose pages are the smallest by
//!   now. The pauses grow with the outage, to an eighth of it ([`PAUSE_SHARE`]) and [`PAUSE_MILLIS_MAX`] at most.
//! - The first answer closes it, and everybody goes on.
//! - It never answers in Okta's place: a call waits for as long as its own repetitions could have lasted, then it goes whatever
//!   the others have seen. If that fails, too, it has no more attempts once [`BEYOND_DOUBT`] requests have failed in a row; until
//!   then it has those that every call has. So no call fails for the circuit's sake that would not have failed without.

use std::collections::BTreeSet;

use super::super::backoff::{TRANSIENT_RETRIES_MAX, TRANSIENT_WAITS_MILLIS};
use super::{Moment, Priority};

/// Failures in a row that open it. Where one request in ten fails by chance, so many do so once in 100 million.
const IN_A_ROW_MIN: u32 = 8;

/// Calls whose failures these are, at least: one call has its own pauses, and a few broken resources may be the last that a
/// crawl has left to ask for.
const CALLS_MIN: usize = 4;

/// Newest outcomes that are judged as a whole, and the percent of them that are failures, at least.
const RECENT: u32 = 20;
/// See [`RECENT`].
const SHARE_PERCENT_MIN: u32 = 60;

/// Failures in a row that leave no doubt: where nine requests in ten fail by chance, so many do so once in 200 times.
const BEYOND_DOUBT: u32 = 50;

/// Shortest pause between two requests that ask whether an outage is over, in milliseconds, before jitter.
const PAUSE_MILLIS_MIN: u64 = 1_000;
/// Longest such pause.
const PAUSE_MILLIS_MAX: u64 = 60_000;
/// The pause is this part of the time that the outage has lasted: it is noticed so much too late, and no more.
const PAUSE_SHARE: u64 = 8;

/// What the end of a request says of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Okta answered, be it with a refusal of this resource.
    Well,
    /// A server error, a time-out, a broken or missing connection.
    Failing,
    /// Nothing: refused for the rate, given up, never sent for a reason of ours.
    Unknown,
}

/// Why a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The bucket works.
    Usual,
    /// It asks whether the outage is over.
    Probe,
    /// The call has waited for as long as it could.
    Last,
}

/// A call as its bucket sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Standing {
    /// Which call.
    pub call: u64,
    /// How often it has failed.
    pub failures: u32,
    /// Since when it waits for the end of which outage.
    waits: Option<(u64, Moment)>,
}

impl Standing {
    /// Call number `call`, not sent yet.
    pub const fn of(call: u64) -> Self {
        Self { call, failures: 0, waits: None }
    }
}

/// What became of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has opened.
    Opened(Outage),
    /// It has closed.
    Closed(Outage),
}

/// An outage of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the first request failed.
    pub since: Moment,
    /// When it is asked next, unless somebody waits no longer.
    pub next_at: Moment,
    /// Failures in a row.
    pub failures: u32,
}

impl Outage {
    /// Whether a call that has waited for as long as it could, and failed once more, has no more attempts.
    pub const fn is_beyond_doubt(self) -> bool {
        self.failures >= BEYOND_DOUBT
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    opened_at: Moment,
    next_at: Moment,
    /// Requests in flight that ask.
    in_flight: u32,
    /// Requests that have asked.
    asked: u64,
}

/// The circuit of one bucket: closed while its requests are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    /// The newest [`RECENT`] outcomes, a set bit for a failure; how many there are.
    recent: u32,
    seen: u32,
    in_a_row: u32,
    /// Calls that failed in this row, no more than [`CALLS_MIN`].
    calls: BTreeSet<u64>,
    since: Moment,
    /// The longest that a failure of this row took to show, in milliseconds.
    longest_millis: u64,
    open: Option<Open>,
    opened: u64,
}

impl Circuit {
    /// The outage, while it is open.
    pub fn outage(&self) -> Option<Outage> {
        let open = self.open.as_ref()?;
        Some(Outage { since: self.since, next_at: open.next_at, failures: self.in_a_row })
    }

    /// How often it has opened.
    pub fn opened_count(&self) -> u64 {
        self.opened
    }

    /// Where a call stands that has waited since `queued_at`.
    fn standing(&self, standing: Standing, queued_at: Moment) -> Standing {
        let Some(open) = &self.open else { return standing };
        let waits = standing.waits.filter(|(outage, _)| *outage == self.opened);
        Standing { waits: waits.or(Some((self.opened, queued_at.max(open.opened_at)))), ..standing }
    }

    /// How long a call waits where `waiting` do, in milliseconds: its own repetitions would be over by then. Where more wait than
    /// may be in flight, they would have waited for each other's failures, too.
    fn patience_millis(&self, waiting: usize, in_flight_max: u32) -> u64 {
        let failures = self.longest_millis.saturating_mul(u64::from(TRANSIENT_RETRIES_MAX));
        let in_flight_max = u64::from(in_flight_max.max(1));
        let waiting = u64::try_from(waiting).unwrap_or(u64::MAX).max(in_flight_max);
        TRANSIENT_WAITS_MILLIS.saturating_add(failures.saturating_mul(waiting) / in_flight_max)
    }

    /// Whose turn it is while the bucket fails, and when at the earliest; at most two. `None` while it works.
    pub(super) fn turns<'a>(
        &self,
        waiting: impl ExactSizeIterator<Item = (&'a (Priority, u64), &'a (Standing, Moment))>,
        in_flight_max: u32,
    ) -> Option<[Option<Due>; 2]> {
        let open = self.open.as_ref()?;
        let patience = self.patience_millis(waiting.len(), in_flight_max);
        let (mut last, mut probe) = (None::<Due>, None::<(u32, Due)>);
        for (place, (standing, queued_at)) in waiting {
            let standing = self.standing(*standing, *queued_at);
            let due = |turn, at| Due { place: *place, standing, turn, at };
            let until = standing.waits.map_or(Moment::default(), |(_, since)| since.plus_millis(patience));
            if last.is_none_or(|last| until < last.at) {
                last = Some(due(Turn::Last, until));
            }
            // The least or, every second time, the most.
            let rank = if open.asked % 2 == 0 { standing.failures } else { u32::MAX - standing.failures };
            if open.in_flight == 0 && probe.is_none_or(|(least, _)| rank < least) {
                probe = Some((rank, due(Turn::Probe, open.next_at)));
            }
        }
        Some([last, probe.map(|(_, due)| due)])
    }

    /// A request was granted.
    pub(super) fn granted(&mut self, turn: Turn) {
        if let Some(open) = self.open.as_mut().filter(|_| turn != Turn::Usual) {
            open.in_flight = open.in_flight.saturating_add(1);
            open.asked = open.asked.saturating_add(1);
        }
    }

    /// A request that was granted at `granted_at` has ended. `random` is any number.
    pub(super) fn ended(
        &mut self,
        (turn, standing): (Turn, Standing),
        health: Health,
        (granted_at, now): (Moment, Moment),
        random: u64,
    ) -> Option<Change> {
        let is_of_this = standing.waits.is_some_and(|(outage, _)| outage == self.opened);
        let asked = turn != Turn::Usual && is_of_this;
        if let Some(open) = self.open.as_mut().filter(|_| asked) {
            open.in_flight = open.in_flight.saturating_sub(1);
        }
        if health != Health::Unknown {
            self.seen = (self.seen + 1).min(RECENT);
            self.recent = (self.recent << 1 | u32::from(health == Health::Failing)) & ((1 << RECENT) - 1);
        }
        match health {
            Health::Well => {
                let outage = self.outage();
                (self.open, self.in_a_row, self.longest_millis) = (None, 0, 0);
                self.calls.clear();
                outage.map(Change::Closed)
            }
            Health::Failing => {
                self.failed(standing.call, granted_at, now);
                self.ask_later(asked, now, random)
            }
            Health::Unknown => self.ask_later(asked, now, random),
        }
    }

    fn failed(&mut self, call: u64, granted_at: Moment, now: Moment) {
        if self.in_a_row == 0 {
            self.since = now;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.longest_millis = self.longest_millis.max(granted_at.millis_until(now));
        if self.calls.len() < CALLS_MIN {
            self.calls.insert(call);
        }
    }

    fn ask_later(&mut self, asked: bool, now: Moment, random: u64) -> Option<Change> {
        let next_at = now.plus_millis(pause_millis(self.since.millis_until(now), random));
        if let Some(open) = &mut self.open {
            open.next_at = if asked { next_at } else { open.next_at };
            return None;
        }
        if !self.keeps_failing() {
            return None;
        }
        self.opened = self.opened.saturating_add(1);
        self.open = Some(Open { opened_at: now, next_at, in_flight: 0, asked: 0 });
        self.outage().map(Change::Opened)
    }

    fn keeps_failing(&self) -> bool {
        let is_share = self.recent.count_ones() * 100 >= self.seen * SHARE_PERCENT_MIN;
        self.in_a_row >= IN_A_ROW_MIN && self.calls.len() >= CALLS_MIN && is_share
    }
}

/// Somebody's turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) place: (Priority, u64),
    pub(super) standing: Standing,
    pub(super) turn: Turn,
    /// Not before.
    pub(super) at: Moment,
}

/// The pause before it is asked again whether an outage of this age is over: between three quarters and the whole, so that
/// several buckets, and several machines, do not ask together.
fn pause_millis(age_millis: u64, random: u64) -> u64 {
    let whole = (age_millis / PAUSE_SHARE).clamp(PAUSE_MILLIS_MIN, PAUSE_MILLIS_MAX);
    let quarter = whole / 4;
    whole - quarter + random % (quarter + 1)
}

#[cfg(test)]
#[path = "circuit_tests.rs"]
mod tests;

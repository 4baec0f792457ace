//! The System Log: events in the order in which they were persisted, which is not the order in which they happened.
//!
//! Entry points: `Log::append`, `Log::settle`, `Log::after`, [`LogControls`].
//!
//! Invariants (facts 8.1):
//! - A position is given once and never moves: new events come after every position already handed out.
//! - `persisted_ms` never decreases along positions; `published_ms` may.
//! - An event is invisible until its persistence time has come.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use crate::time::{UnixMs, iso_ms};

/// Events kept. The oldest are dropped beyond it, as Okta drops what is older than its retention: 2 million events of
/// about 400 bytes are the most a test machine should hold.
const LOG_EVENTS_MAX: usize = 2_000_000;
/// How long an event is held back when it is to change places with its successors: longer than a burst of mutations.
const REORDER_HOLD_MS: i64 = 2_000;

/// How events reach the log; all off by default. Takes effect for events emitted from then on.
#[derive(Clone, Debug, Default)]
pub struct LogControls {
    /// Every event becomes visible this many milliseconds after it happened.
    pub delay_ms: u64,
    /// Share of events (0.0 to 1.0) that come later by `late_delay_ms`.
    pub late_probability: f64,
    /// How much later a late event becomes visible, in milliseconds.
    pub late_delay_ms: u64,
    /// Share of events that are persisted a second time with the same uuid.
    pub duplicate_probability: f64,
    /// Share of events that are held back for 2 s, so that later ones overtake them.
    pub reorder_probability: f64,
    /// Share of events that are never logged (known gaps, facts 8.1). Not deletions: none of the gaps is one, and nothing else
    /// tells an object that is gone from one that is hidden.
    pub lost_probability: f64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) alternate_id: Box<str>,
    pub(crate) display_name: Box<str>,
    pub(crate) change: Option<(Box<str>, Box<str>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    Administrator,
    System,
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Order of emission; makes the uuid.
    pub(crate) number: u64,
    pub(crate) published_ms: UnixMs,
    pub(crate) event_type: Box<str>,
    pub(crate) actor: Actor,
    pub(crate) targets: Vec<Target>,
    pub(crate) succeeded: bool,
    pub(crate) transaction: u32,
    pub(crate) debug: Vec<(&'static str, Box<str>)>,
}

impl Event {
    pub(crate) fn uuid(&self) -> String {
        let spread = (self.number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let tail = self.number & 0xFFFF_FFFF_FFFF;
        format!("{:08x}-{:04x}-11f1-9a10-{tail:012x}", spread >> 32, spread & 0xFFFF)
    }
}

/// One event as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Same for both copies of a duplicated event.
    pub uuid: String,
    /// `eventType`.
    pub event_type: String,
    /// When it happened, ISO 8601 with milliseconds.
    pub published: String,
    /// (type, id) of every target, in order.
    pub targets: Vec<(String, String)>,
    /// Whether a background job caused it (`transaction.type` JOB).
    pub is_job: bool,
}

pub(crate) struct Entry {
    pub(crate) persisted_ms: UnixMs,
    pub(crate) event: Arc<Event>,
}

struct Pending {
    due_ms: UnixMs,
    order: u64,
    event: Arc<Event>,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        (self.due_ms, self.order) == (other.due_ms, other.order)
    }
}
impl Eq for Pending {}
impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due_ms, self.order).cmp(&(other.due_ms, other.order))
    }
}

pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// Position of `entries[0]`.
    first_position: u64,
    /// Positions at or below this one were handed out before the cursors were expired.
    expired_below: u64,
    pending: BinaryHeap<Reverse<Pending>>,
    next_number: u64,
    next_order: u64,
    pub(crate) controls: LogControls,
    random: fastrand::Rng,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            first_position: 0,
            expired_below: 0,
            pending: BinaryHeap::new(),
            next_number: 0,
            next_order: 0,
            controls: LogControls::default(),
            random: fastrand::Rng::with_seed(8),
        }
    }

    pub(crate) fn reseed(&mut self, seed: u64) {
        self.random = fastrand::Rng::with_seed(seed);
    }

    /// Takes an event that happens now; it becomes visible according to the controls.
    pub(crate) fn append(&mut self, now_ms: UnixMs, mut event: Event) {
        event.number = self.next_number;
        self.next_number += 1;
        let is_lost = chance(&mut self.random, self.controls.lost_probability);
        if is_lost && !event.event_type.contains(".delete") {
            return;
        }
        let event = Arc::new(event);
        let mut delay_ms = i64::try_from(self.controls.delay_ms).unwrap_or(i64::MAX);
        if chance(&mut self.random, self.controls.late_probability) {
            delay_ms = delay_ms.saturating_add(i64::try_from(self.controls.late_delay_ms).unwrap_or(i64::MAX));
        }
        if chance(&mut self.random, self.controls.reorder_probability) {
            delay_ms = delay_ms.saturating_add(REORDER_HOLD_MS);
        }
        if chance(&mut self.random, self.controls.duplicate_probability) {
            self.hold(now_ms.saturating_add(delay_ms), Arc::clone(&event));
        }
        self.hold(now_ms.saturating_add(delay_ms), event);
        self.settle(now_ms);
    }

    fn hold(&mut self, due_ms: UnixMs, event: Arc<Event>) {
        self.pending.push(Reverse(Pending { due_ms, order: self.next_order, event }));
        self.next_order += 1;
    }

    /// Persists what is due.
    pub(crate) fn settle(&mut self, now_ms: UnixMs) {
        while self.pending.peek().is_some_and(|next| next.0.due_ms <= now_ms) {
            let Some(Reverse(next)) = self.pending.pop() else { break };
            let last_ms = self.entries.back().map_or(UnixMs::MIN, |entry| entry.persisted_ms);
            self.entries.push_back(Entry { persisted_ms: next.due_ms.max(last_ms), event: next.event });
            if self.entries.len() > LOG_EVENTS_MAX {
                self.entries.pop_front();
                self.first_position += 1;
            }
        }
    }

    pub(crate) fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The position after the last visible event.
    pub(crate) fn end(&self) -> u64 {
        self.first_position + self.entries.len() as u64
    }

    /// The position of the first event persisted at or after a time.
    pub(crate) fn position_since(&self, since_ms: UnixMs) -> u64 {
        self.first_position + self.entries.partition_point(|entry| entry.persisted_ms < since_ms) as u64
    }

    /// The visible events from a position on, with their positions. A position before the oldest event kept starts there.
    pub(crate) fn after(&self, position: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let start = position.max(self.first_position);
        let skip = usize::try_from(start - self.first_position).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.range(skip..).enumerate().map(move |(offset, entry)| (start + offset as u64, entry))
    }

    /// Whether a position can still be resumed from.
    pub(crate) fn accepts(&self, position: u64) -> bool {
        position >= self.expired_below && position <= self.end()
    }

    /// Makes every cursor handed out so far invalid, as if it had outlived its (undocumented) lifetime.
    pub(crate) fn expire_cursors(&mut self) {
        // All positions move beyond every one handed out, including that of a reader that stood at the very end.
        self.first_position = self.end() + 1;
        self.expired_below = self.first_position;
    }
}

fn chance(random: &mut fastrand::Rng, probability: f64) -> bool {
    probability > 0.0 && random.f64() < probability
}

pub(crate) fn logged(event: &Event) -> LoggedEvent {
    LoggedEvent {
        uuid: event.uuid(),
        event_type: event.event_type.to_string(),
        published: iso_ms(event.published_ms),
        targets: event.targets.iter().map(|target| (target.kind.to_owned(), target.id.clone())).collect(),
        is_job: event.actor == Actor::System,
    }
}

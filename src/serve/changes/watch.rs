//! `Changes.Watch`: a snapshot if asked for, then changes for as long as the client listens.
//!
//! Entry point: [`stream`].
//!
//! Invariants:
//! - Nothing is read ahead of the client: each message is made when the one before was taken, in a snapshot of the store that
//!   is over before the message is sent. A client that does not read holds a list of keys, no transaction.
//! - A stream that is not polled, because its client does not read, holds no place in a queue.
//! - A checkpoint follows every piece of the log that was sent, whatever the filter dropped, and comes within
//!   [`IDLE_WAIT_MILLIS`] when nothing happens.
//! - Streams that stand at the same place look at the log together (`rounds`): an idle one costs a timer and a message a second,
//!   no read of the store.
//! - `observed_through` of a checkpoint is never ahead of what was sent.
//! - When the server drains, the stream ends with `UNAVAILABLE`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use okta_idmap_proto::limits::{CHANGE_EVENTS_MAX, CHECKPOINT_INTERVAL_MS_MAX};
use okta_idmap_proto::v1::{self, change_event::Event};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::super::ask::{Ask, Call};
use super::super::errors::Failure;
use super::lines::{Kinds, Planned, Told, batches, window};
use super::resolution::{ToldCoverage, held_names, held_names_page, mark, policy_events};
use super::rounds::{Looked, Position, ResolutionRound, Round};
use super::rows::{
    Begin, RowsPage, checkpoint, checkpoint_meta, dropped, event, events, read_piece, snapshot_begin, snapshot_end,
    snapshot_page,
};
use crate::core::ids::{Revision, Timestamp};

/// How long an idle stream waits at most before it says where it stands. What is left to the promised second is for the reading.
const IDLE_WAIT_MILLIS: u64 = 800;
const _: () = assert!(IDLE_WAIT_MILLIS < CHECKPOINT_INTERVAL_MS_MAX);

/// How long a stream lets revisions collect before it reads them: a crawl makes dozens a second, and one read for all of
/// them costs as much as for one.
const COLLECT_MILLIS: u64 = 50;

/// Changes that are read in one snapshot for a copy that has to be consistent, about two megabytes: a commit or two of a
/// busy crawl.
const EVENTS_AT_ONCE_MAX: usize = 5_000;

/// How long a stream waits when too many reads are queued: it can, other than a call.
const CROWDED_WAIT_MILLIS: u64 = 250;

/// What `Watch` answers with.
pub(super) type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

/// A stream that may begin.
pub(super) struct Opening {
    pub(super) call: Call,
    pub(super) begin: Begin,
    pub(super) kinds: Kinds,
    /// Whether everything is sent that answers are made of.
    pub(super) for_resolution: bool,
    /// Place among the streams, given back at the end.
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) drain: CancellationToken,
    /// What is too old, and whether a checkpoint is complete, is asked at the time of the checkpoint.
    pub(super) clock: fn() -> Timestamp,
    /// When within the interval idle checkpoints are made: at one time for all streams of a connection, so that they are
    /// sent together, and at others for other connections.
    pub(super) phase: Duration,
}

/// The log line at the end of a stream, however it ends.
struct EndLog {
    org: String,
    begun: Instant,
    events: usize,
}

impl Drop for EndLog {
    fn drop(&mut self) {
        let seconds = self.begun.elapsed().as_secs();
        tracing::debug!(rpc = "Changes.Watch", org = self.org, events = self.events, seconds, "stream ended");
    }
}

/// The stream.
pub(super) fn stream(opening: Opening) -> WatchStream {
    let Opening { call, begin, kinds, for_resolution, permit, drain, clock, phase } = opening;
    let log = EndLog { org: call.view().name().to_owned(), begun: Instant::now(), events: 0 };
    let mut revisions = call.view().reader().revisions();
    let reading = Reading { call, drain, clock, phase };
    Box::pin(async_stream::try_stream! {
        let _permit = permit;
        let mut log = log;
        let mut told = for_resolution.then(ToldCoverage::default);
        if let (true, Begin::After(revision) | Begin::Snapshot(revision)) = (for_resolution, &begin) {
            let revision = *revision;
            for message in batches(reading.read(move |ask| Ok(policy_events(ask, revision))).await?) {
                yield message;
            }
        }
        let mut after = match begin {
            Begin::After(revision) => revision,
            Begin::TooOld(event) => {
                yield v1::WatchResponse { events: vec![*event] };
                return;
            }
            Begin::Snapshot(revision) => {
                let wanted = kinds.clone();
                let first = reading.read(move |ask| snapshot_begin(ask, revision, &wanted)).await?;
                yield v1::WatchResponse { events: vec![first] };
                for kind in kinds.all() {
                    let mut position = Some((i64::MIN, i64::MIN));
                    while let Some(at) = position {
                        let (rows, next) = reading.snapshot_page(revision, kind, at).await?;
                        position = next;
                        for message in batches(rows) {
                            log.events += message.events.len();
                            yield message;
                        }
                    }
                }
                let mut position = for_resolution.then_some(i64::MIN);
                while let Some(at) = position {
                    let (names, next) = reading.read(move |ask| held_names_page(ask, revision, at)).await?;
                    position = next;
                    for message in batches(names) {
                        yield message;
                    }
                }
                yield v1::WatchResponse { events: vec![snapshot_end(revision)] };
                revision
            }
        };
        let mut observed_through = None;
        loop {
            // Before the read, so that what is committed meanwhile wakes the wait below.
            let known = *revisions.borrow_and_update();
            let round = reading.round(Position { after, kinds: kinds.clone(), told }, known).await?;
            let (mut ready, rest, mut checkpoint, through, is_caught_up, resolution) = match Arc::unwrap_or_clone(round) {
                Round::TooOld(event) => {
                    yield v1::WatchResponse { events: vec![*event] };
                    return;
                }
                Round::Changes { first, rest, checkpoint, through, is_caught_up, resolution } => {
                    (first, rest, *checkpoint, through, is_caught_up, resolution)
                }
            };
            let mut meta = checkpoint.meta.take().unwrap_or_default();
            let mut is_whole = is_caught_up;
            for chunk in rest.chunks(CHANGE_EVENTS_MAX) {
                for message in batches(std::mem::take(&mut ready)) {
                    log.events += message.events.len();
                    yield message;
                }
                let (events, of) = reading.events(chunk.to_vec(), for_resolution).await?;
                is_whole &= of == through;
                ready = events;
            }
            let mark = resolution.map(|round| {
                told = Some(round.told);
                ready.extend(round.coverage);
                v1::ResolutionMark { consistent: is_whole && round.mark.consistent, ..round.mark }
            });
            if is_caught_up {
                observed_through = meta.observed_through;
            } else {
                meta.observed_through = observed_through;
            }
            meta.revision = through.0;
            meta.era.clone_from(&checkpoint.era);
            let checkpoint = v1::Checkpoint { meta: Some(meta), resolution: mark, ..checkpoint };
            ready.push(event(through, Event::Checkpoint(checkpoint)));
            for message in batches(ready) {
                log.events += message.events.len();
                yield message;
            }
            after = through;
            // A look of others may be from just before what woke this one up.
            if is_caught_up && through >= known {
                reading.wait(&mut revisions).await?;
            }
        }
    })
}

/// Reads for one stream.
struct Reading {
    call: Call,
    drain: CancellationToken,
    clock: fn() -> Timestamp,
    phase: Duration,
}

impl Reading {
    /// Reads in one snapshot, on a blocking thread; waits while too many do. The read is a task of its own, because nobody
    /// polls a stream whose client does not read: what is asked for here would keep its place in the queue all that time,
    /// and four such clients would be the end of all scans.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Ask<'_>) -> Result<T, Failure> + Clone + Send + 'static,
    ) -> Result<T, Status> {
        loop {
            let mut scan = JoinSet::new();
            let (call, read) = (self.call_now(), read.clone());
            scan.spawn(async move { call.scan(read).await });
            let answered = tokio::select! {
                biased;
                () = self.drain.cancelled() => Err(Failure::NotServing(None)),
                // A panic is logged by whoever panics; the stream ends as if the server did.
                answered = scan.join_next() => match answered {
                    Some(Ok(answered)) => answered,
                    _ => Err(Failure::NotServing(None)),
                },
            };
            match answered {
                Err(Failure::Overloaded) => tokio::time::sleep(Duration::from_millis(CROWDED_WAIT_MILLIS)).await,
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    if let Failure::Store(cause) = &failure {
                        let org = self.call.view().name();
                        tracing::error!(rpc = "Changes.Watch", org, %cause, "stream failed");
                    }
                    return Err(failure.status());
                }
            }
        }
    }

    async fn snapshot_page(&self, revision: Revision, kind: Told, after: (i64, i64)) -> Result<RowsPage, Status> {
        self.read(move |ask| snapshot_page(ask, revision, kind, after, CHANGE_EVENTS_MAX)).await
    }

    /// Events, and the revision that they show.
    async fn events(
        &self,
        planned: Vec<Planned>,
        for_resolution: bool,
    ) -> Result<(Vec<v1::ChangeEvent>, Revision), Status> {
        self.read(move |ask| Ok((events_of(ask, &planned, for_resolution)?, ask.snapshot.revision()))).await
    }

    /// The call at this time: a stream may go on for weeks.
    fn call_now(&self) -> Call {
        let mut call = self.call.clone();
        call.is_asked_at((self.clock)());
        call
    }

    /// A look at the log, together with all streams that stand at the same place.
    async fn round(&self, position: Position, known: Revision) -> Result<Arc<Round>, Status> {
        if position.told == Some(ToldCoverage::default()) {
            // The whole coverage may be many messages long: not to be kept for others.
            return self.read(move |ask| look_at(ask, &position)).await.map(Arc::new);
        }
        loop {
            let look = || {
                let (call, position) = (self.call_now(), position.clone());
                async move {
                    match call.scan(move |ask| look_at(ask, &position)).await {
                        Ok(round) => Looked::Round(Arc::new(round)),
                        Err(Failure::Overloaded) => Looked::Crowded,
                        Err(_) => Looked::Failed,
                    }
                }
            };
            let looked = tokio::select! {
                biased;
                () = self.drain.cancelled() => return Err(Failure::NotServing(None).status()),
                looked = self.call.view().rounds().look(position.clone(), known, look) => looked,
            };
            match looked {
                Looked::Round(round) => return Ok(round),
                Looked::Crowded => tokio::time::sleep(Duration::from_millis(CROWDED_WAIT_MILLIS)).await,
                Looked::Failed => {
                    return self.read(move |ask| look_at(ask, &position)).await.map(Arc::new);
                }
            }
        }
    }

    /// Until there is something new, or it is time for a checkpoint.
    async fn wait(&self, revisions: &mut watch::Receiver<Revision>) -> Result<(), Status> {
        let pause = tokio::time::sleep(until_tick(self.call.view().rounds().age(), self.phase));
        tokio::pin!(pause);
        tokio::select! {
            biased;
            () = self.drain.cancelled() => return Err(Failure::NotServing(None).status()),
            // A writer that has ended, or is in another process, wakes nobody up: only the clock does.
            Ok(()) = revisions.changed() => {
                tokio::select! {
                    () = self.drain.cancelled() => return Err(Failure::NotServing(None).status()),
                    () = tokio::time::sleep(Duration::from_millis(COLLECT_MILLIS)) => {}
                }
            }
            () = &mut pause => {}
        }
        Ok(())
    }
}

/// One look: what changed since, as it is now, and where that leaves a stream.
fn look_at(ask: &Ask<'_>, position: &Position) -> Result<Round, Failure> {
    let Position { after, kinds, told } = position;
    if let Some(event) = dropped(ask, *after)? {
        return Ok(Round::TooOld(Box::new(event)));
    }
    let piece = read_piece(ask.snapshot, *after)?;
    let mut planned = window(&piece.lines, kinds, usize::MAX).planned;
    let at_once = if told.is_some() { EVENTS_AT_ONCE_MAX } else { CHANGE_EVENTS_MAX };
    let rest = planned.split_off(planned.len().min(at_once));
    let through = piece.through;
    let is_caught_up = through == ask.snapshot.revision();
    let resolution = match *told {
        Some(mut told) => {
            let coverage = if is_caught_up { told.coverage_events(ask, through) } else { None };
            let mark = mark(ask, coverage.is_some())?;
            Some(Box::new(ResolutionRound { told, coverage: coverage.unwrap_or_default(), mark }))
        }
        None => None,
    };
    Ok(Round::Changes {
        first: events_of(ask, &planned, resolution.is_some())?,
        rest,
        checkpoint: Box::new(checkpoint(ask, through, checkpoint_meta(ask)?)),
        through,
        is_caught_up,
        resolution,
    })
}

fn events_of(ask: &Ask<'_>, planned: &[Planned], for_resolution: bool) -> Result<Vec<v1::ChangeEvent>, Failure> {
    let mut made = events(ask, planned)?;
    if for_resolution {
        made.extend(held_names(ask, planned)?);
    }
    Ok(made)
}

/// How long, at an age of the org, until it is time for a checkpoint of this phase: never longer than the interval.
fn until_tick(age: Duration, phase: Duration) -> Duration {
    let interval = u128::from(IDLE_WAIT_MILLIS);
    let past = (age + phase).as_millis() % interval;
    Duration::from_millis(u64::try_from(interval - past).unwrap_or(IDLE_WAIT_MILLIS))
}

/// The phase of the streams of a connection.
pub(super) fn phase_of(connection: u64) -> Duration {
    Duration::from_millis(connection % IDLE_WAIT_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_of_a_phase_come_together() {
        #[track_caller]
        fn check(age_millis: u64, phase: u64, expected_millis: u64) {
            let wait = until_tick(Duration::from_millis(age_millis), phase_of(phase));
            assert_eq!(wait, Duration::from_millis(expected_millis));
        }
        check(0, 0, 800);
        check(1, 0, 799);
        check(799, 0, 1);
        check(800, 0, 800);
        check(100, 700, 800);
        check(0, 700, 100);
        check(u64::MAX / 2, 3, 800 - (u64::MAX / 2 + 3) % 800);
        check(5, 1_600, 795);
    }
}

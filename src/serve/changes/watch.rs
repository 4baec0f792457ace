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
//! - `observed_through` of a checkpoint is never ahead of what was sent.
//! - When the server drains, the stream ends with `UNAVAILABLE`.

use std::pin::Pin;
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
use super::lines::{Kinds, Planned, batches, window};
use super::resolution::{Told, held_names, held_names_page, mark, policy_events};
use super::rows::{
    Begin, RowsPage, checkpoint_meta, dropped, event, events, read_piece, snapshot_begin, snapshot_end, snapshot_page,
};
use crate::core::ids::{Revision, Timestamp};
use crate::core::model::Kind;

/// How long an idle stream waits before it says where it stands. What is left to the promised second is for the reading.
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
    /// What is too old depends on the time of each message, not on that of the call.
    pub(super) clock: fn() -> Timestamp,
    pub(super) begin: Begin,
    pub(super) kinds: Kinds,
    /// Whether everything is sent that answers are made of.
    pub(super) for_resolution: bool,
    /// Place among the streams, given back at the end.
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) drain: CancellationToken,
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
    let Opening { call, clock, begin, kinds, for_resolution, permit, drain } = opening;
    let log = EndLog { org: call.view().name().to_owned(), begun: Instant::now(), events: 0 };
    let mut revisions = call.view().reader().revisions();
    let reading = Reading { call, clock, drain };
    Box::pin(async_stream::try_stream! {
        let _permit = permit;
        let mut log = log;
        let mut told = for_resolution.then(Told::default);
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
            revisions.borrow_and_update();
            let round = reading.round(after, &kinds, told).await?;
            let Round::Changes { first, rest, mut checkpoint, through, is_caught_up, resolution } = round else {
                if let Round::TooOld(event) = round {
                    yield v1::WatchResponse { events: vec![*event] };
                }
                return;
            };
            let mut ready = first;
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
                v1::ResolutionMark { consistent: is_whole, ..round.mark }
            });
            if is_caught_up {
                observed_through = checkpoint.observed_through;
            } else {
                checkpoint.observed_through = observed_through;
            }
            checkpoint.revision = through.0;
            let checkpoint = v1::Checkpoint { meta: Some(checkpoint), resolution: mark };
            ready.push(event(through, Event::Checkpoint(checkpoint)));
            for message in batches(ready) {
                log.events += message.events.len();
                yield message;
            }
            after = through;
            if is_caught_up {
                reading.wait(&mut revisions).await?;
            }
        }
    })
}

/// What one look at the log brought.
enum Round {
    TooOld(Box<v1::ChangeEvent>),
    Changes {
        /// Events that were made at once.
        first: Vec<v1::ChangeEvent>,
        /// What is left to be made.
        rest: Vec<Planned>,
        /// Meta as of the snapshot in which the log was read.
        checkpoint: v1::ResponseMeta,
        /// Up to where these are all changes.
        through: Revision,
        /// Whether that was everything there was.
        is_caught_up: bool,
        /// What answers are made of beside the rows, where that is wanted.
        resolution: Option<Box<ResolutionRound>>,
    },
}

struct ResolutionRound {
    told: Told,
    coverage: Vec<v1::ChangeEvent>,
    mark: v1::ResolutionMark,
}

fn events_of(ask: &Ask<'_>, planned: &[Planned], for_resolution: bool) -> Result<Vec<v1::ChangeEvent>, Failure> {
    let mut made = events(ask, planned)?;
    if for_resolution {
        made.extend(held_names(ask, planned)?);
    }
    Ok(made)
}

/// Reads for one stream.
struct Reading {
    call: Call,
    clock: fn() -> Timestamp,
    drain: CancellationToken,
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
            let (mut call, read) = (self.call.clone(), read.clone());
            call.is_asked_at((self.clock)());
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

    async fn snapshot_page(&self, revision: Revision, kind: Kind, after: (i64, i64)) -> Result<RowsPage, Status> {
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

    async fn round(&self, after: Revision, kinds: &Kinds, told: Option<Told>) -> Result<Round, Status> {
        let kinds = kinds.clone();
        let at_once = if told.is_some() { EVENTS_AT_ONCE_MAX } else { CHANGE_EVENTS_MAX };
        self.read(move |ask| {
            if let Some(event) = dropped(ask, after)? {
                return Ok(Round::TooOld(Box::new(event)));
            }
            let piece = read_piece(ask.snapshot, after)?;
            let mut planned = window(&piece.lines, &kinds, usize::MAX).planned;
            let rest = planned.split_off(planned.len().min(at_once));
            let through = piece.through;
            let is_caught_up = through == ask.snapshot.revision();
            let resolution = match told {
                Some(mut told) => {
                    let coverage = told.coverage_events(ask, through, is_caught_up);
                    Some(Box::new(ResolutionRound { told, coverage, mark: mark(ask, is_caught_up)? }))
                }
                None => None,
            };
            Ok(Round::Changes {
                first: events_of(ask, &planned, resolution.is_some())?,
                rest,
                checkpoint: checkpoint_meta(ask)?,
                through,
                is_caught_up,
                resolution,
            })
        })
        .await
    }

    /// Until there is something new, or it is time for a checkpoint.
    async fn wait(&self, revisions: &mut watch::Receiver<Revision>) -> Result<(), Status> {
        let pause = tokio::time::sleep(Duration::from_millis(IDLE_WAIT_MILLIS));
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

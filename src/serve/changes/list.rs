//! `Changes.ListChanges`: the polling twin of the stream, in pages.
//!
//! Entry point: [`list_changes`].
//!
//! Invariants:
//! - A call chain ends at the revision that the store had when it began; the token carries it, and what was observed then.
//! - One call reads one piece of the log, or one page of rows: a filter that lets little through makes short pages.
//! - A page ends between two lines of the log. A token whose next line is no longer in the log has expired.

use okta_idmap_proto::v1::{self, change_event::Event};

use super::super::ask::Ask;
use super::super::door;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::listing::{began, bind, fitting, read_token};
use super::super::page::{Began, PageToken, Paged};
use super::lines::{Kinds, Place, window};
use super::rows::{
    Begin, Start, begin, checkpoint, event, events, read_kinds, read_piece, snapshot_begin, snapshot_end, snapshot_page,
};
use crate::core::ids::{Revision, Timestamp};

/// Bytes of a position in a token.
const POSITION_BYTES: usize = 16 + 1 + 8 + 1 + 8 + 8;

/// Stands for an unset time in a token: no time that a store ever holds.
const NO_TIME: i64 = i64::MIN;

/// How far a call chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before the begin of the snapshot.
    Begin,
    /// In the kind of this number, behind this row.
    Rows { rank: u8, after: (i64, i64) },
    /// Behind this line.
    Log(Place),
    /// Before the last event.
    End { is_snapshot: bool },
    /// Everything was told.
    Done,
}

/// A call chain as its token carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chain {
    /// Where it ends: the revision that the store had when it began.
    end: Began,
    /// What the store said of itself then.
    observed_through: Option<Timestamp>,
    snapshot_completed_at: Option<Timestamp>,
    at: At,
}

impl Chain {
    fn token(&self) -> PageToken {
        let millis = |time: Option<Timestamp>| time.map_or(NO_TIME, Timestamp::as_millis);
        let (tag, revision, rank, a, b) = match self.at {
            At::Begin => (0, 0, 0, 0, 0),
            At::Rows { rank, after: (a, b) } => (1, 0, rank, a, b),
            At::Log(place) => (2, place.revision.0, place.rank, place.a, place.b),
            At::End { is_snapshot } => (3, 0, u8::from(is_snapshot), 0, 0),
            At::Done => (4, 0, 0, 0, 0),
        };
        let mut position = Vec::with_capacity(POSITION_BYTES);
        position.extend_from_slice(&millis(self.observed_through).to_be_bytes());
        position.extend_from_slice(&millis(self.snapshot_completed_at).to_be_bytes());
        position.push(tag);
        position.extend_from_slice(&u64::to_be_bytes(revision));
        position.push(rank);
        position.extend_from_slice(&i64::to_be_bytes(a));
        position.extend_from_slice(&i64::to_be_bytes(b));
        PageToken { start: self.end, position }
    }

    fn read(token: &PageToken) -> Option<Self> {
        let (observed, rest) = token.position.split_first_chunk::<8>()?;
        let (completed, rest) = rest.split_first_chunk::<8>()?;
        let ([tag], rest) = rest.split_first_chunk::<1>()?;
        let (revision, rest) = rest.split_first_chunk::<8>()?;
        let ([rank], rest) = rest.split_first_chunk::<1>()?;
        let (a, b) = rest.split_first_chunk::<8>()?;
        let (a, b) = (i64::from_be_bytes(*a), i64::from_be_bytes(b.try_into().ok()?));
        let revision = Revision(u64::from_be_bytes(*revision));
        let time = |bytes: &[u8; 8]| match i64::from_be_bytes(*bytes) {
            NO_TIME => None,
            millis => Some(Timestamp::from_millis(millis)),
        };
        let at = match tag {
            0 => At::Begin,
            1 => At::Rows { rank: *rank, after: (a, b) },
            2 => At::Log(Place { revision, rank: *rank, a, b }),
            3 => At::End { is_snapshot: *rank == 1 },
            _ => return None,
        };
        let (observed_through, snapshot_completed_at) = (time(observed), time(completed));
        Some(Self { end: token.start, observed_through, snapshot_completed_at, at })
    }
}

/// Answers the request.
pub(super) fn list_changes(
    ask: &Ask<'_>,
    request: &v1::ListChangesRequest,
) -> Result<v1::ListChangesResponse, Failure> {
    let page_size = door::page_size(request.page_size)?;
    let start = Start::read(request.start.as_ref())?;
    let kinds = read_kinds(&request.kinds)?;
    let binding = bind(ask, Paged::Changes, request);
    let gaps = ask.wide_gaps(Wide::Org)?;
    let chain = match read_token(ask, &request.page_token, &binding)? {
        Some(token) => {
            let malformed = || Failure::PageTokenInvalid { detail: "it is malformed" };
            let chain = Chain::read(&token).ok_or_else(malformed)?;
            check_still_known(ask, &chain)?;
            chain
        }
        None => {
            let at = match begin(ask, &start, false)? {
                Begin::TooOld(event) => {
                    let meta = Some(ask.meta(&gaps));
                    return Ok(v1::ListChangesResponse { meta, events: vec![*event], ..Default::default() });
                }
                Begin::Snapshot(_) => At::Begin,
                Begin::After(revision) => At::Log(Place::behind(revision)),
            };
            let (snapshot_completed_at, observed_through) = ask.snapshot.times();
            let end = began(ask, None);
            Chain { end, observed_through, snapshot_completed_at, at }
        }
    };
    let end = chain.end.revision;
    fitting(page_size, |limit| {
        let mut meta = ask.meta(&gaps);
        let is_standing = ask.snapshot.revision() == end;
        let (mut events, at) = page(ask, &chain, &kinds, limit)?;
        if at != At::Done {
            let next_page_token = Chain { at, ..chain }.token().encode(&binding);
            return Ok(v1::ListChangesResponse { meta: Some(meta), next_page_token, events, era: String::new() });
        }
        // The position to poll on from, and what was observed when the chain stood there.
        meta.revision = end.0;
        meta.era = ask.era_of(end);
        meta.observed_through = chain.observed_through.map(super::super::rows::timestamp);
        meta.snapshot_completed_at = chain.snapshot_completed_at.map(super::super::rows::timestamp);
        let is_consistent = is_standing || !matches!(start, Start::Snapshot);
        if is_consistent {
            events.push(event(end, Event::Checkpoint(checkpoint(ask, end, meta.clone()))));
        }
        let era = meta.era.clone();
        Ok(v1::ListChangesResponse { meta: Some(meta), next_page_token: String::new(), events, era })
    })
}

/// Whether the chain's lines are still in the log.
fn check_still_known(ask: &Ask<'_>, chain: &Chain) -> Result<(), Failure> {
    let At::Log(place) = chain.at else { return Ok(()) };
    if place.read_after() < ask.snapshot.meta()?.changes_from {
        return Err(Failure::PageTokenExpired { detail: "the change log no longer reaches back to the last page" });
    }
    Ok(())
}

/// At most `limit` events, the last checkpoint included, and where the next page begins.
fn page(ask: &Ask<'_>, chain: &Chain, kinds: &Kinds, limit: usize) -> Result<(Vec<v1::ChangeEvent>, At), Failure> {
    let mut shown: Vec<v1::ChangeEvent> = Vec::new();
    let (end, mut at) = (chain.end.revision, chain.at);
    let mut may_read = true;
    loop {
        let left = limit.saturating_sub(shown.len());
        if left == 0 {
            return Ok((shown, at));
        }
        at = match at {
            At::Begin => {
                shown.push(snapshot_begin(ask, end, kinds)?);
                At::Rows { rank: 0, after: (i64::MIN, i64::MIN) }
            }
            At::Rows { rank, after } => match kinds.all().nth(usize::from(rank)) {
                Some(kind) => {
                    let (rows, next) = snapshot_page(ask, end, kind, after, left)?;
                    shown.extend(rows);
                    match next {
                        Some(after) => At::Rows { rank, after },
                        None => At::Rows { rank: rank.saturating_add(1), after: (i64::MIN, i64::MIN) },
                    }
                }
                None => {
                    shown.push(snapshot_end(end));
                    At::End { is_snapshot: true }
                }
            },
            At::Log(place) if place.revision >= end && place == Place::behind(place.revision) => {
                At::End { is_snapshot: false }
            }
            At::Log(place) => {
                if !may_read {
                    return Ok((shown, at));
                }
                may_read = false;
                let (events, next) = log_page(ask, place, end, kinds, left)?;
                shown.extend(events);
                At::Log(next)
            }
            // Room for the checkpoint is made sure of above.
            At::End { .. } | At::Done => return Ok((shown, At::Done)),
        };
    }
}

fn log_page(
    ask: &Ask<'_>,
    place: Place,
    end: Revision,
    kinds: &Kinds,
    limit: usize,
) -> Result<(Vec<v1::ChangeEvent>, Place), Failure> {
    let mut piece = read_piece(ask.snapshot, place.read_after())?;
    let through = piece.through.min(end);
    piece.lines.retain(|line| line.place > place && line.place.revision <= through);
    let window = window(&piece.lines, kinds, limit);
    Ok((events(ask, &window.planned)?, window.cut_at.unwrap_or(Place::behind(through))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_read_back() {
        #[track_caller]
        fn check(at: At, observed_through: Option<i64>) {
            let observed_through = observed_through.map(Timestamp::from_millis);
            let end = Began::at(Revision(9), Some("e"));
            let chain = Chain { end, observed_through, snapshot_completed_at: None, at };
            let token = chain.token();
            assert_eq!(token.position.len(), POSITION_BYTES);
            assert_eq!(Chain::read(&token), Some(chain));
            for length in 0..POSITION_BYTES {
                let cut = PageToken { start: token.start, position: token.position[..length].to_vec() };
                assert_eq!(Chain::read(&cut), None);
            }
        }
        check(At::Begin, None);
        check(At::Rows { rank: 3, after: (7, -1) }, Some(0));
        check(At::Log(Place::behind(Revision(u64::MAX))), Some(-5));
        check(At::Log(Place { revision: Revision(4), rank: 2, a: 1, b: i64::MIN }), Some(1_770_000_000_000));
        check(At::End { is_snapshot: true }, None);
        check(At::End { is_snapshot: false }, None);
    }

    #[test]
    fn a_chain_that_is_done_has_no_token() {
        let end = Began::at(Revision(1), None);
        let chain = Chain { end, observed_through: None, snapshot_completed_at: None, at: At::Done };
        assert_eq!(Chain::read(&chain.token()), None);
    }
}

//! `Coverage.ListScopes`: every collection of an org, and how completely it was read.
//!
//! Entry points: [`list_scopes`]; [`count_by_state`] for the metrics, [`ScopeStates`] for explanations.
//!
//! Invariant: a collection is COMPLETE only if no gap is open that says that something of it is not shown.

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap_proto::limits::GAP_IDS_MAX;
use okta_idmap_proto::v1;

use super::super::ask::Ask;
use super::super::door;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::listing::{began, bind, fitting, read_token};
use super::super::page::{PageToken, Paged};
use super::super::rows::timestamp;
use super::super::status::scope_to_proto;
use super::gap_list::named_scope;
use crate::core::coverage::{GapId, GapKind, GapRecord};
use crate::core::ids::Timestamp;
use crate::core::model::Scope;
use crate::store::{BookState, ScopeBook};

/// Recorded gaps that are read, see `gap_list`.
const RECORDED_MAX: usize = 100_000;

/// Place of a collection in the list: by kind, then by the id of its group or app.
type Place = (i32, String);

/// A collection as it is known.
#[derive(Clone, Debug)]
struct Known {
    scope: Scope,
    /// `None`: it was never asked for.
    book: Option<ScopeBook>,
    /// Recorded gaps on it that are open.
    open: Vec<GapRecord>,
}

impl Known {
    fn completed_at(&self) -> Option<Timestamp> {
        self.book.as_ref()?.completed_at
    }

    fn state(&self) -> v1::ScopeState {
        let own = self.open.iter().filter(|record| record.gap.scope == self.scope);
        let mut kinds: BTreeSet<GapKind> = own.map(|record| record.gap.kind).collect();
        // Of a list it says that it may have changed since it was read, not that reading it failed.
        let is_lost = self.scope != Scope::Log && kinds.remove(&GapKind::LogLost);
        match state_of(self.book.as_ref(), &kinds) {
            // The rest of its gaps are about single objects of it.
            v1::ScopeState::Complete if is_lost || self.open.iter().any(|record| record.gap.scope != self.scope) => {
                v1::ScopeState::Partial
            }
            state => state,
        }
    }

    /// When it was last asked for, as far as the books tell.
    fn attempted_at(&self) -> Option<Timestamp> {
        let is_of_a_read = |record: &&GapRecord| {
            is_of_a_read(record.gap.kind) && (record.gap.kind != GapKind::LogLost || self.scope == Scope::Log)
        };
        let failed = self.open.iter().filter(is_of_a_read).map(|record| record.last_seen);
        let book = self.book.as_ref();
        failed.max().max(self.completed_at()).max(book.and_then(|book| book.walk_began))
    }

    /// Ids of the open gaps, oldest first.
    fn gap_ids(&self) -> Vec<String> {
        let mut open: Vec<(Timestamp, GapId)> =
            self.open.iter().map(|record| (record.first_seen, record.gap.id())).collect();
        open.sort();
        let mut ids: Vec<String> = open.into_iter().map(|(_, id)| id.as_str().to_owned()).collect();
        // It follows from what is not there, and has been so since before anything was seen.
        let not_read = GapId::of(GapKind::NotRead, &self.scope).as_str().to_owned();
        if self.completed_at().is_none() && !ids.contains(&not_read) {
            ids.insert(0, not_read);
        }
        ids
    }
}

/// Whether a gap of this kind is confirmed by asking for the collection.
const fn is_of_a_read(kind: GapKind) -> bool {
    matches!(
        kind,
        GapKind::Forbidden
            | GapKind::ScopeMissing
            | GapKind::Unauthorized
            | GapKind::EmptySuspect
            | GapKind::Held
            | GapKind::Failed
            | GapKind::LogLost
    )
}

/// The state of a collection.
fn state_of(book: Option<&ScopeBook>, open: &BTreeSet<GapKind>) -> v1::ScopeState {
    use v1::ScopeState as State;
    let has = |kinds: &[GapKind]| kinds.iter().any(|kind| open.contains(kind));
    let state = book.map_or(BookState::Waiting, |book| book.state);
    let is_complete = book.is_some_and(|book| book.completed_at.is_some());
    // What does not say that something of the collection is not shown: it is old, or was never read, which is told below.
    let is_harmless = |kind: &GapKind| matches!(kind.name(), "STALE" | "NOT_READ");
    if has(&[GapKind::Forbidden, GapKind::ScopeMissing, GapKind::Unauthorized]) {
        State::Forbidden
    } else if state == BookState::Held || has(&[GapKind::Held, GapKind::EmptySuspect]) {
        State::Held
    } else if state == BookState::GivenUp || has(&[GapKind::LogLost]) {
        State::Failed
    } else if has(&[GapKind::Failed]) {
        // The list was read to its end, and some of its records, or an object of it, could not be.
        if state == BookState::Finished { State::Partial } else { State::Failed }
    } else if !is_complete {
        if state == BookState::Walking { State::Partial } else { State::NeverRead }
    } else if open.iter().all(is_harmless) {
        State::Complete
    } else {
        State::Partial
    }
}

fn place_of(scope: &Scope) -> Place {
    let shown = scope_to_proto(scope);
    (shown.kind, shown.resource_id)
}

/// All collections by their place.
fn known(ask: &Ask<'_>) -> Result<BTreeMap<Place, Known>, Failure> {
    let mut all: BTreeMap<Place, Known> = BTreeMap::new();
    let mut books: BTreeMap<Scope, ScopeBook> =
        ask.snapshot.scope_books()?.into_iter().map(|book| (book.scope.clone(), book)).collect();
    // What is to be read comes first: it has its place whatever else is in the books.
    let mut scopes = ask.all_scopes()?;
    scopes.extend(books.keys().cloned());
    for scope in scopes {
        let book = books.remove(&scope);
        all.entry(place_of(&scope)).or_insert_with(|| Known { scope, book, open: Vec::new() });
    }
    for record in ask.snapshot.gaps(true, RECORDED_MAX)? {
        if let Some(known) = all.get_mut(&place_of(&record.gap.scope)) {
            known.open.push(record);
        }
    }
    Ok(all)
}

/// States of single collections.
pub(in crate::serve) struct ScopeStates {
    open: Vec<GapRecord>,
}

impl ScopeStates {
    /// Reads what is needed for any of them.
    pub(in crate::serve) fn read(ask: &Ask<'_>) -> Result<Self, Failure> {
        Ok(Self { open: ask.snapshot.gaps(true, RECORDED_MAX)? })
    }

    /// A collection with its name, its state, and when it was last read completely.
    pub(in crate::serve) fn of(
        &self,
        ask: &Ask<'_>,
        scope: &Scope,
    ) -> Result<(v1::Scope, v1::ScopeState, Option<Timestamp>), Failure> {
        let place = place_of(scope);
        let open = self.open.iter().filter(|record| place_of(&record.gap.scope) == place).cloned().collect();
        let known = Known { scope: scope.clone(), book: ask.snapshot.scope_book(scope)?, open };
        Ok((named_scope(ask, scope)?, known.state(), known.completed_at()))
    }
}

/// How many collections are in each state, those without any among them.
pub(in crate::serve) fn count_by_state(ask: &Ask<'_>) -> Result<Vec<(v1::ScopeState, u64)>, Failure> {
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    for known in known(ask)?.values() {
        *counts.entry(known.state().into()).or_default() += 1;
    }
    // Numbers are dense, so the first unknown one is the end.
    let states = (1..).map_while(|number| v1::ScopeState::try_from(number).ok());
    Ok(states.map(|state| (state, counts.get(&state.into()).copied().unwrap_or_default())).collect())
}

/// Answers the request.
pub(super) fn list_scopes(ask: &Ask<'_>, request: &v1::ListScopesRequest) -> Result<v1::ListScopesResponse, Failure> {
    let page_size = door::page_size(request.page_size)?;
    let kinds: Vec<v1::ScopeKind> = door::enumeration("kinds", &request.kinds)?;
    let states: Vec<v1::ScopeState> = door::enumeration("states", &request.states)?;
    let binding = bind(ask, Paged::Scopes, request);
    let token = read_token(ask, &request.page_token, &binding)?;
    let start = began(ask, token.as_ref());
    let after = token.map(|token| read_place(&token.position)).transpose()?;
    let all = known(ask)?;
    let is_wanted = |(place, known): &(&Place, &Known)| {
        after.as_ref().is_none_or(|after| *place > after)
            && (kinds.is_empty() || kinds.iter().any(|kind| i32::from(*kind) == place.0))
            && (states.is_empty() || states.contains(&known.state()))
    };
    let mut wanted = all.iter().filter(is_wanted);
    let page: Vec<(&Place, &Known)> = wanted.by_ref().take(page_size).collect();
    let has_more = wanted.next().is_some();
    let meta = ask.meta(&ask.wide_gaps(Wide::Org)?);
    fitting(page_size, |limit| {
        let shown = &page[..page.len().min(limit)];
        let scopes = shown.iter().map(|(_, known)| to_proto(ask, known)).collect::<Result<Vec<_>, Failure>>()?;
        let next_page_token = match shown.last() {
            Some((place, _)) if has_more || shown.len() < page.len() => {
                PageToken { start, position: write_place(place) }.encode(&binding)
            }
            _ => String::new(),
        };
        Ok(v1::ListScopesResponse { meta: Some(meta.clone()), next_page_token, scopes })
    })
}

fn write_place((kind, id): &Place) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend_from_slice(id.as_bytes());
    bytes
}

fn read_place(bytes: &[u8]) -> Result<Place, Failure> {
    let malformed = Failure::PageTokenInvalid { detail: "it is malformed" };
    let Some((kind, id)) = bytes.split_first_chunk::<4>() else { return Err(malformed) };
    let Ok(id) = String::from_utf8(id.to_vec()) else { return Err(malformed) };
    Ok((i32::from_be_bytes(*kind), id))
}

fn to_proto(ask: &Ask<'_>, known: &Known) -> Result<v1::ScopeStatus, Failure> {
    let runtime = ask.view.status().now();
    let (completed_at, attempted_at) = match known.scope {
        Scope::Log => {
            let polled_at = runtime.as_ref().and_then(|runtime| runtime.log_polled_at);
            (ask.observed_through(), polled_at.max(known.attempted_at()))
        }
        _ => (known.completed_at(), known.attempted_at()),
    };
    // The books remember a walk over a restart; whether it goes on right now, only an engine knows.
    let is_open = known.book.as_ref().is_some_and(|book| book.state == BookState::Walking);
    let mut gap_ids = known.gap_ids();
    let gap_count = u32::try_from(gap_ids.len()).unwrap_or(u32::MAX);
    gap_ids.truncate(GAP_IDS_MAX);
    Ok(v1::ScopeStatus {
        scope: Some(named_scope(ask, &known.scope)?),
        state: known.state().into(),
        completed_at: completed_at.map(timestamp),
        attempted_at: attempted_at.map(timestamp),
        row_count: ask.snapshot.rows_in(&known.scope)?,
        walking: is_open && runtime.is_some(),
        gap_ids,
        gap_count,
    })
}

#[cfg(test)]
mod tests {
    use v1::ScopeState as State;

    use super::*;
    use crate::core::coverage::Gap;

    #[test]
    fn books_and_gaps_make_the_state() {
        #[track_caller]
        fn check(state: BookState, was_completed: bool, open: &[GapKind], expected: State) {
            let completed_at = was_completed.then(|| Timestamp::from_millis(1));
            let book = ScopeBook { scope: Scope::Users, state, completed_at, walk_began: None };
            let open: BTreeSet<GapKind> = open.iter().copied().collect();
            assert_eq!(state_of(Some(&book), &open), expected, "{book:?} {open:?}");
        }
        use BookState::{Finished, GivenUp, Held, Waiting, Walking};
        assert_eq!(state_of(None, &BTreeSet::new()), State::NeverRead);
        check(Waiting, false, &[], State::NeverRead);
        check(Walking, false, &[], State::Partial);
        check(Finished, true, &[], State::Complete);
        check(Waiting, true, &[], State::Complete); // A crawl has begun: what was read before still is.
        check(Walking, true, &[], State::Complete);
        check(Held, true, &[GapKind::Held], State::Held);
        check(Finished, true, &[GapKind::EmptySuspect], State::Held);
        check(GivenUp, true, &[GapKind::Forbidden], State::Forbidden);
        check(Finished, true, &[GapKind::ScopeMissing], State::Forbidden);
        check(Held, true, &[GapKind::Held, GapKind::Unauthorized], State::Forbidden);
        check(GivenUp, false, &[GapKind::Failed], State::Failed);
        check(GivenUp, true, &[], State::Failed);
        check(Walking, true, &[GapKind::Failed], State::Failed);
        check(Finished, true, &[GapKind::Failed], State::Partial);
        check(Finished, true, &[GapKind::ImplicitAssignment], State::Partial);
        check(Finished, true, &[GapKind::LogLost], State::Failed);
        check(Waiting, false, &[GapKind::NotRead], State::NeverRead);
    }

    #[test]
    fn a_list_that_may_have_changed_without_a_word_was_not_asked_for_because_of_that() {
        #[track_caller]
        fn check(scope: &Scope, state: BookState, expected: (State, Option<i64>)) {
            let (read_at, seen_at) = (Timestamp::from_millis(1), Timestamp::from_millis(5));
            let gap = Gap { scope: scope.clone(), kind: GapKind::LogLost, evidence: String::new() };
            let (opened_at, closed_at) = (Some(seen_at), None);
            let open =
                GapRecord { gap, first_seen: seen_at, last_seen: seen_at, count: 1, open: true, opened_at, closed_at };
            let book = ScopeBook { scope: scope.clone(), state, completed_at: Some(read_at), walk_began: None };
            let known = Known { scope: scope.clone(), book: Some(book), open: vec![open] };
            assert_eq!((known.state(), known.attempted_at().map(Timestamp::as_millis)), expected, "{scope}");
        }
        check(&Scope::Users, BookState::Finished, (State::Partial, Some(1)));
        check(&Scope::Users, BookState::Waiting, (State::Partial, Some(1)));
        check(&Scope::Users, BookState::GivenUp, (State::Failed, Some(1)));
        check(&Scope::Log, BookState::Finished, (State::Failed, Some(5)));
    }

    #[test]
    fn places_read_back() {
        let place = (5, "0oa1".to_owned());
        assert_eq!(read_place(&write_place(&place)).unwrap(), place);
        assert_eq!(read_place(&[0, 0]).map_err(|failure| failure.name()), Err("PAGE_TOKEN_INVALID"));
        assert_eq!(read_place(&[0, 0, 0, 5, 0xff]).map_err(|failure| failure.name()), Err("PAGE_TOKEN_INVALID"));
    }
}

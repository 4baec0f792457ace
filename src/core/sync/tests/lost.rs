//! What a lost or skipped log position leaves unknown: collections that were read before it, until they are read by requests made
//! after it.
//!
//! Entry points: [`Losses::calls`], [`Losses::hear`], [`Losses::skip`], [`Losses::note`], [`Losses::check`].

use std::collections::{BTreeMap, VecDeque};

use super::books::Books;
use super::world::World;
use crate::core::batch::{Batch, CrawlMark, CursorMove, WalkState};
use crate::core::coverage::{GapKind, ReadFailure};
use crate::core::ids::Timestamp;
use crate::core::model::Scope;
use crate::core::sync::{Call, CallId, Input};

/// Collections of which something may have been missed.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// The poll under way.
    poll: Option<CallId>,
    /// The opening of a position that is under way, or was last, and from which place on its answer shows the log.
    opening: Option<CallId>,
    opened_at: usize,
    /// Largest request number that had been given out when the last crawl began.
    began_after: u64,
    unread: BTreeMap<Scope, Vec<Loss>>,
}

/// A part of the log that nobody was told of.
#[derive(Clone, Copy, Debug)]
struct Loss {
    /// Largest request number that had been given out when the position was lost, or when the crawl began that skipped a part of
    /// the log: from then on the log tells.
    since: u64,
    /// Up to when the position before told.
    told: Option<Timestamp>,
}

impl Losses {
    /// A life begins, and calls are counted anew.
    pub(super) fn begins(&mut self) {
        (self.poll, self.opening) = (None, None);
    }

    /// A call is made.
    pub(super) fn calls(&mut self, id: CallId, call: &Call) {
        match call {
            Call::PollLog(_) => self.poll = Some(id),
            Call::AnchorLog { .. } => self.opening = Some(id),
            _ => {}
        }
    }

    /// An answer arrives. Returns whether it says that the position is lost.
    pub(super) fn hear(&mut self, input: &Input, books: &Books, waiting: &VecDeque<Batch>, newest: u64) -> bool {
        let is_lost = matches!(input, Input::Failed(call, ReadFailure::CursorGone) if self.poll == Some(*call));
        if is_lost {
            let told = waiting.iter().map(|batch| batch.observed_through).max().flatten();
            // Up to when the position tells, whether the store has said so or not.
            let told = told.max(books.observed_through).max(books.opened_at);
            self.lose(books, Loss { since: newest, told });
        }
        if let Input::Log(call, page) = input
            && self.opening == Some(*call)
            && let Some(next) = &page.next
        {
            self.opened_at = World::place_of(next) - page.events.len();
        }
        is_lost
    }

    fn lose(&mut self, books: &Books, loss: Loss) {
        let read = books.scopes.iter().filter(|(scope, book)| **scope != Scope::Log && book.completed_at.is_some());
        self.add(read.map(|(scope, _)| scope), loss);
    }

    /// A batch is about to be stored: a crawl may begin, or take a position behind events that nobody was told of. Where nobody
    /// follows nobody is told of the first page either.
    pub(super) fn skip(&mut self, batch: &Batch, books: &Books) {
        if matches!(batch.crawl, Some(CrawlMark::Begin { .. })) {
            self.began_after = batch.members_since.0;
        }
        let opened = match &batch.cursor {
            Some(CursorMove::Anchor(next) | CursorMove::Open { next, .. }) => Some(next),
            Some(CursorMove::Advance { .. }) | None => None,
        };
        if let (Some(next), Some(before)) = (opened, &books.cursor) {
            let told_from = if batch.is_followed { self.opened_at } else { World::place_of(next) };
            if told_from > World::place_of(before) {
                let since = self.began_after;
                let unread = |from: &u64| *from <= since;
                let read_before = books.scopes.iter().filter(|(scope, book)| {
                    **scope != Scope::Log && book.completed_at.is_some() && unread(&book.walk_from)
                });
                // Where nobody had gone on with a position, not all of what is stored is as new as that.
                self.add(read_before.map(|(scope, _)| scope), Loss { since, told: books.observed_through });
            }
        }
    }

    /// A batch is stored: what it has read to its end is known again.
    pub(super) fn note(&mut self, batch: &Batch) {
        for update in &batch.walks {
            let WalkState::Finished { from, known_empty, .. } = &update.state else { continue };
            // An app that has no accounts by nature has none, whenever it was asked for.
            let is_by_nature = *known_empty && !matches!(update.scope, Scope::GroupMembers(_));
            if let Some(losses) = self.unread.get_mut(&update.scope) {
                losses.retain(|loss| from.0 <= loss.since && !is_by_nature);
            }
        }
        self.unread.retain(|_, losses| !losses.is_empty());
    }

    fn add<'a>(&mut self, scopes: impl Iterator<Item = &'a Scope>, loss: Loss) {
        for scope in scopes {
            let losses = self.unread.entry(scope.clone()).or_default();
            // A position that lies before a loss tells of what that has missed.
            losses.iter_mut().for_each(|earlier| earlier.since = earlier.since.min(loss.since));
            losses.push(loss);
        }
    }

    /// A gap says of each that changes may have been missed. Of what is forgotten nothing is said; nor before it is known that the
    /// stored position is lost. `if_told`: nor of what the store does not claim to have followed since.
    pub(super) fn check(&self, books: &Books, world: &World, if_told: bool) {
        if self.unread.is_empty() || !books.cursor.as_ref().is_some_and(|cursor| world.accepts(cursor)) {
            return;
        }
        let says = |scope: &Scope| books.gaps.contains(&(scope.clone(), GapKind::LogLost));
        let is_claimed = |losses: &[Loss]| losses.iter().any(|loss| books.observed_through > loss.told);
        for (scope, _) in self.unread.iter().filter(|(_, losses)| !if_told || is_claimed(losses)) {
            let is_known = books.scopes.get(scope).is_some_and(|book| book.completed_at.is_some());
            assert!(!is_known || says(&Scope::Log) || says(scope), "{scope} was not read since the log was lost");
        }
    }
}

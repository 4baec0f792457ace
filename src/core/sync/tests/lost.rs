//! What a lost log position leaves unknown: collections that were read before it, until they are read by requests made after it.
//!
//! Entry points: [`Losses::hear`], [`Losses::note`], [`Losses::check`].

use std::collections::BTreeMap;

use super::books::Books;
use super::world::World;
use crate::core::batch::{Batch, WalkState};
use crate::core::coverage::{GapKind, ReadFailure};
use crate::core::model::Scope;
use crate::core::sync::{CallId, Input};

/// Collections of which something may have been missed.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// The poll under way.
    poll: Option<CallId>,
    /// Each with the largest request number that had been given out when the position was lost.
    unread: BTreeMap<Scope, u64>,
}

impl Losses {
    /// A poll is asked for.
    pub(super) fn polls(&mut self, call: CallId) {
        self.poll = Some(call);
    }

    /// An answer arrives. Returns whether it says that the position is lost.
    pub(super) fn hear(&mut self, input: &Input, books: &Books, newest: u64) -> bool {
        let is_lost = matches!(input, Input::Failed(call, ReadFailure::CursorGone) if self.poll == Some(*call));
        if is_lost {
            let read = books.scopes.iter().filter(|(scope, book)| **scope != Scope::Log && book.completed_at.is_some());
            self.unread.extend(read.map(|(scope, _)| (scope.clone(), newest)));
        }
        is_lost
    }

    /// A batch is stored: what it has read to its end is known again.
    pub(super) fn note(&mut self, batch: &Batch) {
        for update in &batch.walks {
            let WalkState::Finished { from, known_empty, .. } = &update.state else { continue };
            // An app that has no accounts by nature has none, whenever it was asked for.
            let is_by_nature = *known_empty && !matches!(update.scope, Scope::GroupMembers(_));
            if self.unread.get(&update.scope).is_some_and(|lost| from.0 > *lost || is_by_nature) {
                self.unread.remove(&update.scope);
            }
        }
    }

    /// A gap says of each that changes may have been missed. Of what is forgotten nothing is said; nor before it is known that the
    /// stored position is lost.
    pub(super) fn check(&self, books: &Books, world: &World) {
        if self.unread.is_empty() || !books.cursor.as_ref().is_some_and(|cursor| world.accepts(cursor)) {
            return;
        }
        let says = |scope: &Scope| books.gaps.contains(&(scope.clone(), GapKind::LogLost));
        for scope in self.unread.keys() {
            let is_known = books.scopes.get(scope).is_some_and(|book| book.completed_at.is_some());
            assert!(!is_known || says(&Scope::Log) || says(scope), "{scope} was not read since the log was lost");
        }
    }
}

//! What the books do not know: which gaps a read closes, rows that could not be read by themselves, and lists that may have changed without
//! a word.
//!
//! Entry points: [`Books::close_gap_by_read`], [`Books::settle`], [`Books::note_unread`], [`Books::lose_unread`].

use super::{Book, Books};
use crate::core::batch::{Batch, UnreadKey, WalkState};
use crate::core::coverage::GapKind;
use crate::core::model::{Key, Scope};
use crate::core::pending::{Target, When};

/// Whether the gap may say that a list could not be read.
fn is_of_a_list(scope: &Scope, kind: GapKind) -> bool {
    *scope != Scope::Log && matches!(kind, GapKind::Forbidden | GapKind::ScopeMissing | GapKind::Failed)
}

impl Books {
    /// A good read of one object says nothing about a list that was given up.
    pub(super) fn close_gap_by_read(&mut self, scope: &Scope, kind: GapKind) {
        let is_walked = |book: &Book| !book.is_idle && matches!(book.state, WalkState::Finished { .. });
        if is_of_a_list(scope, kind) && !self.scopes.get(scope).is_some_and(is_walked) {
            return;
        }
        if kind == GapKind::Failed {
            self.failed.remove(scope);
            self.close_failed(scope);
        } else {
            self.gaps.remove(&(scope.clone(), kind));
        }
    }

    /// Rows of a collection that could not be read by themselves, where no other read of it has failed.
    pub(in crate::core::sync::tests) fn unread_in(&self, scope: &Scope) -> Vec<String> {
        let rows = self.unread.keys().filter(|key| key.scope() == *scope && !self.failed.contains(scope));
        rows.map(|key| key.id_in_list().to_owned()).collect()
    }

    /// Rows that could not be read by themselves, until a later request shows them or tells that they are gone.
    pub(super) fn settle(&mut self, shown: impl IntoIterator<Item = (Key, u64)>) {
        for (key, by) in shown {
            if self.unread.get(&key).is_some_and(|since| *since < by) {
                self.no_longer_unread(&key);
            }
        }
    }

    pub(super) fn no_longer_unread(&mut self, key: &Key) {
        self.unread.remove(key);
        self.close_failed(&key.scope());
    }

    /// `FAILED` is open as long as anything is left that it is about.
    pub(super) fn close_failed(&mut self, scope: &Scope) {
        if !self.failed.contains(scope) && self.unread.keys().all(|key| key.scope() != *scope) {
            self.gaps.remove(&(scope.clone(), GapKind::Failed));
        }
    }

    pub(super) fn note_unread(&mut self, batch: &Batch) {
        for UnreadKey { key, since, .. } in &batch.unread {
            let known = self.unread.entry(key.clone()).or_default();
            *known = since.0.max(*known);
            self.gaps.insert((key.scope(), GapKind::Failed));
        }
    }

    /// Whether a gap is left open by a good read, and the running crawl does not walk the list.
    pub(super) fn waits_for_walk(&self, scope: &Scope, kind: GapKind) -> bool {
        is_of_a_list(scope, kind)
            && self.gaps.contains(&(scope.clone(), kind))
            && self.scopes.get(scope).is_some_and(|book| !self.is_in_crawl(book))
    }

    pub(super) fn is_in_crawl(&self, book: &Book) -> bool {
        let is_open = !book.is_idle && matches!(book.state, WalkState::Todo | WalkState::Walking(_));
        is_open && self.is_crawling && book.crawl == self.crawl
    }

    /// What the crawl has not read, and the log does not tell of.
    pub(super) fn lose_unread(&mut self) {
        let is_read =
            |book: &Book| book.crawl == self.crawl && !book.is_idle && matches!(book.state, WalkState::Finished { .. });
        let of_before = self.scopes.iter().filter(|(scope, book)| **scope != Scope::Log && book.completed_at.is_some());
        let unread: Vec<Scope> = of_before.filter(|(_, book)| !is_read(book)).map(|(scope, _)| scope.clone()).collect();
        self.gaps.extend(unread.into_iter().map(|scope| (scope, GapKind::LogLost)));
    }

    /// At the end of a crawl the lists are owed that may have changed without a word.
    pub(super) fn owe_lost(&mut self, batch: &Batch) {
        let lost = self.gaps.iter().filter(|(scope, kind)| *kind == GapKind::LogLost && *scope != Scope::Log);
        for scope in lost.map(|(scope, _)| scope.clone()).collect::<Vec<_>>() {
            if !self.pending.contains_key(&Target::List(scope.clone())) {
                self.owe(Target::List(scope), When::Now, batch.at, batch);
            }
        }
    }

    /// Whether a collection was never read to its end, and is not about to be by the running crawl.
    pub(super) fn is_unread(&self, scope: &Scope) -> bool {
        self.scopes.get(scope).is_none_or(|book| book.completed_at.is_none() && !self.is_in_crawl(book))
    }
}

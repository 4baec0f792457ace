//! What becomes of the walk of a list: what it shows, whom it does not show, and holds.
//!
//! Entry points: [`Books::walk`], [`Books::release`], [`Books::release_brought`].

use super::{Books, Shown};
use crate::core::batch::{Batch, Finished, WalkState, WalkUpdate};
use crate::core::coverage::GapKind;
use crate::core::ids::{Timestamp, UserId};
use crate::core::membership::{CLOCK_MARGIN_MILLIS, WalkWindow};
use crate::core::model::{Key, Scope};
use crate::core::pending::Target;
use crate::core::reconcile::{Verdict, Walked, verdict};

/// Rows of a hold that are named.
const SAMPLE_MAX: usize = 5;

/// Gaps that a complete walk ends.
const CLOSED_BY_WALK: [GapKind; 7] = [
    GapKind::Forbidden,
    GapKind::ScopeMissing,
    GapKind::Unauthorized,
    GapKind::Failed,
    GapKind::NotRead,
    GapKind::LogLost,
    GapKind::Stale,
];

impl Books {
    /// Removes what the apps had brought; the hold ends if nothing else is missing.
    pub(super) fn release_brought(&mut self, scope: &Scope, batch: &Batch) -> Option<Finished> {
        self.scopes.get(scope).filter(|book| book.is_held && *scope == Scope::Groups)?;
        let source = |key: &Key| match key {
            Key::Group(group) => self.group(group).and_then(|group| group.source_app.clone()),
            _ => None,
        };
        let is_brought = |key: &Key| source(key).is_some_and(|app| batch.departed_apps.contains(&app));
        let (brought, others): (Vec<Key>, Vec<Key>) = self.missing(scope).0.into_iter().partition(is_brought);
        if others.is_empty() {
            return self.release(scope, batch.is_followed);
        }
        for key in &brought {
            self.remove(key);
        }
        for scope in std::mem::take(&mut self.gone) {
            self.forget(&scope);
        }
        None
    }

    pub(super) fn walk(&mut self, update: &WalkUpdate, shown: Shown, batch: &Batch) -> Option<Finished> {
        match &update.state {
            WalkState::Unwanted => {
                self.drop_scope(&update.scope);
                return None;
            }
            WalkState::Released => return self.release(&update.scope, batch.is_followed),
            _ => {}
        }
        let (crawl, credential) = (self.crawl, self.credential.clone());
        let book = self.book(&update.scope);
        if std::mem::take(&mut book.is_held) || std::mem::take(&mut book.has_questions) {
            book.seen.clear();
        }
        let before = std::mem::replace(&mut book.state, update.state.clone());
        let was_idle = std::mem::take(&mut book.is_idle);
        if matches!(update.state, WalkState::Walking(_) | WalkState::Finished { .. }) {
            book.is_born = false;
        }
        book.crawl = crawl;
        match &update.state {
            WalkState::Walking(_) => {
                book.read_by.get_or_insert(credential);
                book.seen.extend(shown.seen);
                None
            }
            WalkState::Finished { from, began, known_empty, ended } => {
                book.seen.extend(shown.seen);
                let earlier = match before {
                    WalkState::Walking(position) if !was_idle && position.from == *from => position.rows,
                    _ => 0,
                };
                book.walk_from = from.0;
                book.window = Some(WalkWindow { began: *began, ended: (*began).max(batch.okta_now) });
                let is_empty = earlier + shown.records == 0 && !known_empty;
                Some(self.finish(&update.scope, is_empty, ended, batch))
            }
            _ => {
                book.seen.clear();
                None
            }
        }
    }

    /// Rows that the last walk of a scope did not show, and the number of those that were stored before it.
    fn missing(&self, scope: &Scope) -> (Vec<Key>, u64) {
        let Some(book) = self.scopes.get(scope) else { return (Vec::new(), 0) };
        let of_scope = self.rows.iter().filter(|(key, _)| key.scope() == *scope);
        let (seen, unseen): (Vec<_>, Vec<_>) = of_scope.partition(|(key, _)| book.seen.contains(*key));
        let absent = self.absent();
        let is_spared = |key: &Key| match key {
            Key::AppUser(_, user) | Key::GroupMember(_, user) => absent.contains(&Key::User(user.clone())),
            Key::AppGroup(_, group) => absent.contains(&Key::Group(group.clone())),
            key => absent.contains(key),
        };
        let missing: Vec<Key> = unseen
            .into_iter()
            .filter(|(key, (at, _))| *at < book.walk_from && !is_spared(key))
            .map(|(key, _)| key.clone())
            .collect();
        let stored = (seen.len() + missing.len()) as u64;
        (missing, stored)
    }

    fn finish(&mut self, scope: &Scope, is_empty: bool, ended: &[UserId], batch: &Batch) -> Finished {
        let (missing, stored) = self.missing(scope);
        let is_ended = |key: &Key| matches!(key, Key::AppUser(_, user) if ended.contains(user));
        let (ended, missing): (Vec<Key>, Vec<Key>) = missing.into_iter().partition(is_ended);
        let (brake, credential) = (self.brake, self.credential.clone());
        let book = self.book(scope);
        let walked = Walked {
            stored,
            missing: missing.len() as u64,
            same_credential: book.read_by.as_ref().is_none_or(|by| *by == credential),
            unknown_records: false,
            is_empty,
            are_objects: matches!(scope, Scope::Users | Scope::Groups | Scope::Apps),
        };
        let verdict = verdict(walked, brake);
        book.completed_at = Some(batch.now);
        book.is_held = verdict.keeps_missing();
        book.has_questions = verdict == Verdict::Ask && !batch.is_followed;
        if !book.is_held && !book.has_questions {
            book.seen.clear();
        }
        if !verdict.is_hold() {
            book.read_by = Some(credential);
        }
        let (began, from) = (book.window.map(|window| window.began), book.walk_from);
        let mut finished = nothing_of(scope, verdict);
        let is_of_before = |kind| *scope == Scope::Log && matches!(kind, GapKind::LogLost | GapKind::Stale);
        self.gaps.retain(|(other, kind)| other != scope || !CLOSED_BY_WALK.contains(kind) || is_of_before(*kind));
        self.failed.remove(scope);
        // Who was not shown since stays unread, unless nobody of that name is stored or has been asked for since.
        let (rows, left) = (&self.rows, &mut self.unread);
        left.retain(|key, since| key.scope() != *scope || rows.contains_key(key) || *since >= from);
        if self.unread.keys().any(|key| key.scope() == *scope) {
            self.gaps.insert((scope.clone(), GapKind::Failed));
        }
        if !verdict.is_hold() || verdict.is_probed() {
            finished.removed += ended.iter().map(|key| self.remove(key)).sum::<u64>();
        }
        if verdict.keeps_missing() {
            (finished.missing, finished.stored) = (walked.missing, walked.stored);
            if verdict.is_probed() {
                finished.sample = missing.into_iter().take(SAMPLE_MAX).collect();
            } else {
                self.gaps.insert((scope.clone(), GapKind::Held));
            }
        } else if verdict == Verdict::Ask {
            self.ask_for(missing, batch.is_followed, &mut finished);
        }
        if !verdict.is_hold() && !verdict.keeps_missing() {
            self.end_hold(scope);
        }
        self.forget_marks(scope, began);
        let number = self.guard.walked.entry(scope.clone()).or_default();
        *number = from.max(*number);
        finished
    }

    fn end_hold(&mut self, scope: &Scope) {
        self.gaps.remove(&(scope.clone(), GapKind::Held));
        self.gaps.remove(&(scope.clone(), GapKind::EmptySuspect));
    }

    fn ask_for(&mut self, missing: Vec<Key>, is_followed: bool, finished: &mut Finished) {
        if is_followed {
            self.orphans.extend(missing.iter().filter_map(Target::of_object));
        } else {
            finished.unlisted.extend(missing);
        }
    }

    fn remove_missing(&mut self, missing: Vec<Key>, is_followed: bool, finished: &mut Finished) {
        if finished.scope == Scope::Apps {
            return self.ask_for(missing, is_followed, finished);
        }
        for key in missing {
            finished.removed += self.remove(&key);
        }
        for scope in std::mem::take(&mut self.gone) {
            self.forget(&scope);
        }
    }

    /// Ends a hold; `None` when there is none.
    pub(in crate::core::sync::tests) fn release(&mut self, scope: &Scope, is_followed: bool) -> Option<Finished> {
        let (missing, _) = self.missing(scope);
        let credential = self.credential.clone();
        let book = self.scopes.get_mut(scope).filter(|book| book.is_held)?;
        book.is_held = false;
        book.seen.clear();
        book.read_by = Some(credential);
        let mut finished = nothing_of(scope, Verdict::Nothing);
        self.end_hold(scope);
        self.remove_missing(missing, is_followed, &mut finished);
        Some(finished)
    }

    fn drop_scope(&mut self, scope: &Scope) {
        let before = self.rows.len();
        self.rows.retain(|key, _| key.scope() != *scope);
        if self.rows.len() < before || self.scopes.contains_key(scope) {
            self.forget_marks(scope, None);
        }
        self.forget(scope);
    }

    fn forget_marks(&mut self, scope: &Scope, began: Option<Timestamp>) {
        let Scope::GroupMembers(group) = scope else { return };
        let oldest = began.map(|began| began.plus_millis(-CLOCK_MARGIN_MILLIS));
        self.marks.retain(|(other, _), mark| other != group || oldest.is_some_and(|oldest| mark.published >= oldest));
    }

    /// Where the walks of the running crawl stand.
    pub(in crate::core::sync::tests) fn crawl_walks(&self) -> Vec<WalkUpdate> {
        let of_crawl = self.scopes.iter().filter(|(_, book)| book.crawl == self.crawl && !book.is_idle);
        of_crawl.map(|(scope, book)| WalkUpdate { scope: scope.clone(), state: book.state.clone() }).collect()
    }

    /// Users, groups and apps that a list of the running crawl did not show, and that are still to be asked for.
    pub(in crate::core::sync::tests) fn unlisted(&self) -> Vec<Key> {
        let asking = self.scopes.iter().filter(|(_, book)| book.has_questions && book.crawl == self.crawl);
        asking.flat_map(|(scope, _)| self.missing(scope).0).collect()
    }

    /// Some of the rows that a held walk did not show.
    pub(in crate::core::sync::tests) fn sample_of(&self, scope: &Scope) -> Vec<Key> {
        self.missing(scope).0.into_iter().take(SAMPLE_MAX).collect()
    }
}

fn nothing_of(scope: &Scope, verdict: Verdict) -> Finished {
    let scope = scope.clone();
    Finished { scope, verdict, removed: 0, unlisted: Vec::new(), sample: Vec::new(), missing: 0, stored: 0 }
}

//! The part of the model that walks: what a list did not show, and what becomes of it.
//!
//! Entry points: [`Model::walk`], [`Model::missing`], [`Model::release_by_order`].

use std::collections::BTreeSet;

use okta_idmap::core::batch::{Batch, Finished, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind};
use okta_idmap::core::ids::{AppId, GroupId, RequestNumber, Timestamp, UserId, is_okta_id};
use okta_idmap::core::membership::WalkWindow;
use okta_idmap::core::model::{Key, Scope};
use okta_idmap::core::pending::Target;
use okta_idmap::core::reconcile::Verdict;

use super::model::{Model, Rules, ScopeBook, Shown, UnreadModel};

/// The end of a walk.
struct End<'a> {
    from: RequestNumber,
    window: WalkWindow,
    /// Whether the walk showed nothing, and nothing else says that this is right.
    is_blank: bool,
    ended: &'a [UserId],
}

/// The key of the row that a list's record of this id would be.
fn key_in_scope(scope: &Scope, id: &str) -> Option<Key> {
    Some(match scope {
        Scope::Users => Key::User(UserId::new(id).ok()?),
        Scope::Groups => Key::Group(GroupId::new(id).ok()?),
        Scope::Apps => Key::App(AppId::new(id).ok()?),
        Scope::GroupMembers(group) => Key::GroupMember(group.clone(), UserId::new(id).ok()?),
        Scope::AppUsers(app) => Key::AppUser(app.clone(), UserId::new(id).ok()?),
        Scope::AppGroups(app) => Key::AppGroup(app.clone(), GroupId::new(id).ok()?),
        Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => return None,
    })
}

/// What a row of a list is about: the object that stands behind it.
fn object_of(key: &Key) -> Scope {
    match key {
        Key::User(user) | Key::GroupMember(_, user) | Key::AppUser(_, user) => Scope::User(user.clone()),
        Key::Group(group) | Key::AppGroup(_, group) => Scope::Group(group.clone()),
        Key::App(app) => Scope::App(app.clone()),
    }
}

fn finished(scope: &Scope, verdict: Verdict) -> Finished {
    let (unlisted, sample) = (Vec::new(), Vec::new());
    Finished { scope: scope.clone(), verdict, removed: 0, unlisted, sample, missing: 0, stored: 0 }
}

impl Model {
    pub(crate) fn walk(
        &mut self,
        update: &WalkUpdate,
        shown: &Shown,
        batch: &Batch,
        rules: &Rules,
    ) -> Option<Finished> {
        let crawl = self.crawl.id.0;
        match &update.state {
            WalkState::Unwanted => {
                self.drop_scope(&update.scope, batch.now);
                return None;
            }
            WalkState::Released => return self.release(&update.scope, batch, rules),
            _ => {}
        }
        let book = self.scopes.entry(update.scope.clone()).or_insert_with(|| ScopeBook {
            state: WalkState::Todo,
            crawl,
            is_idle: false,
            is_born: false,
            completed_at: None,
            read_by: None,
            window: None,
            walk_from: 0,
            is_held: false,
            seen: BTreeSet::new(),
        });
        if std::mem::take(&mut book.is_held) {
            book.seen.clear();
        }
        let before = std::mem::replace(&mut book.state, update.state.clone());
        let is_idle = std::mem::take(&mut book.is_idle);
        if matches!(update.state, WalkState::Walking(_) | WalkState::Finished { .. }) {
            book.is_born = false;
        }
        book.crawl = crawl;
        match &update.state {
            WalkState::Walking(_) => {
                book.read_by.get_or_insert_with(|| rules.credential.clone());
                book.seen.extend(shown.keys.iter().cloned());
            }
            WalkState::Finished { from, began, known_empty, ended } => {
                book.seen.extend(shown.keys.iter().cloned());
                let earlier = match before {
                    WalkState::Walking(position) if !is_idle && position.from == *from => position.rows,
                    _ => 0,
                };
                let window = WalkWindow { began: *began, ended: (*began).max(batch.okta_now) };
                let is_blank = earlier + shown.records == 0 && !known_empty;
                let end = End { from: *from, window, is_blank, ended };
                return Some(self.finish(&update.scope, &end, batch, rules));
            }
            _ => book.seen.clear(),
        }
        None
    }

    fn drop_scope(&mut self, scope: &Scope, now: Timestamp) {
        let rows: Vec<Key> = self.rows.keys().filter(|key| key.scope() == *scope).cloned().collect();
        if self.scopes.remove(scope).is_none() && rows.is_empty() {
            return self.forget_gaps(scope, now);
        }
        for key in rows {
            self.remove(&key, now);
        }
        self.forget_marks(scope, None);
        self.forget_gaps(scope, now);
    }

    /// Rows that the last walk of a held scope did not show, but those of objects of which nobody knows whether they are
    /// gone.
    pub(crate) fn missing(&self, scope: &Scope) -> Vec<Key> {
        let Some(book) = self.scopes.get(scope).filter(|book| book.is_held) else { return Vec::new() };
        let absent = self.absent();
        let rows = self.rows.iter().filter(|(key, _)| key.scope() == *scope);
        rows.filter(|(key, stored)| !book.seen.contains(key) && stored.at < book.walk_from)
            .filter(|(key, _)| !absent.contains(&object_of(key)))
            .map(|(key, _)| key.clone())
            .collect()
    }

    pub(crate) fn release(&mut self, scope: &Scope, batch: &Batch, rules: &Rules) -> Option<Finished> {
        let missing = self.missing(scope);
        let book = self.scopes.get_mut(scope).filter(|book| book.is_held)?;
        book.is_held = false;
        book.seen.clear();
        book.read_by = Some(rules.credential.clone());
        let mut finished = finished(scope, Verdict::Nothing);
        if *scope == Scope::Apps {
            self.ask_for(missing, &mut finished, batch);
        } else {
            finished.removed = missing.iter().map(|key| self.remove(key, batch.now)).sum();
        }
        self.close_unless_found(scope, GapKind::Held, batch);
        self.close_unless_found(scope, GapKind::EmptySuspect, batch);
        Some(finished)
    }

    /// The operator's order to release a hold, or an object that is not shown; it has no batch.
    pub(crate) fn release_by_order(&mut self, scope: &Scope, now: Timestamp, rules: &Rules) -> Option<Finished> {
        let order = Batch { now, ..Batch::default() };
        let finished = match scope.object() {
            None => self.release(scope, &order, rules)?,
            Some(key) => {
                let mut finished = finished(scope, Verdict::Nothing);
                finished.removed = self.remove(&key, now);
                self.forget_gaps(scope, now);
                self.pending.retain(|target, _| Some(target) != Target::of_object(&key).as_ref());
                finished
            }
        };
        self.settle_removed(now);
        self.make_revision();
        Some(finished)
    }

    /// Objects are never removed because a list lacks them: each is asked for by id.
    fn ask_for(&mut self, missing: Vec<Key>, finished: &mut Finished, batch: &Batch) {
        if batch.is_followed {
            self.orphans.extend(missing.iter().filter_map(Target::of_object));
        } else {
            finished.unlisted.extend(missing);
        }
    }

    fn finish(&mut self, scope: &Scope, end: &End<'_>, batch: &Batch, rules: &Rules) -> Finished {
        let (now, from) = (batch.now, end.from);
        self.quarantine.retain(|(other, _, _), bad| other != scope || bad.at >= from.0);
        // Who was shown by a later request is read.
        let rows = &self.rows;
        let is_read = |item: &str, at: u64| {
            key_in_scope(scope, item).is_some_and(|key| rows.get(&key).is_some_and(|stored| stored.at > at))
        };
        self.quarantine.retain(|(other, item, _), bad| other != scope || !is_read(item, bad.at));
        let bad: Vec<(&str, u64)> = self
            .quarantine
            .iter()
            .filter(|((other, _, _), _)| other == scope)
            .map(|((_, item, _), bad)| (item.as_str(), bad.at))
            .collect();
        let unreadable = bad.len();
        let last_nameless = bad.iter().filter(|(item, _)| !is_okta_id(item)).map(|(_, at)| *at).max();
        let nameless = usize::from(last_nameless.is_some());
        let named: BTreeSet<Key> = bad.iter().filter_map(|(item, _)| key_in_scope(scope, item)).collect();
        let before = self.unread.get(scope).map(|unread| unread.rows.clone()).unwrap_or_default();
        let completed_at = self.scopes[scope].completed_at;
        let mut unread = UnreadModel { is_nameless: last_nameless.is_some(), ..UnreadModel::default() };
        let read_at = |id: &str| before.get(id).map_or(completed_at, |(_, read_at)| *read_at);
        for (item, at) in bad.iter().filter(|(item, _)| is_okta_id(item)) {
            unread.add((*item).to_owned(), *at, read_at(item));
        }
        let book = self.scopes.get_mut(scope).unwrap();
        let shown = book.seen.clone();
        book.seen.extend(named.iter().cloned());
        book.walk_from = from.0;
        book.is_held = true; // Until the verdict; what is missing is asked of a held book.
        let (seen, read_by) = (book.seen.clone(), book.read_by.clone());
        let missing = self.missing(scope);
        let stored = missing.len() + self.rows.keys().filter(|key| key.scope() == *scope && seen.contains(key)).count();
        let is_ended = |key: &Key| matches!(key, Key::AppUser(_, user) if end.ended.contains(user));
        let (ended, missing): (Vec<Key>, Vec<Key>) = missing.into_iter().partition(is_ended);
        let is_empty = end.is_blank && unreadable == 0;
        let are_objects = matches!(scope, Scope::Users | Scope::Groups | Scope::Apps);
        let is_other_credential = read_by.as_ref().is_some_and(|by| *by != rules.credential);
        let verdict = match missing.len() {
            0 => Verdict::Nothing,
            _ if is_other_credential => Verdict::HoldCredential,
            _ if nameless > 0 => Verdict::HoldUnreadable,
            _ if is_empty => Verdict::HoldEmpty,
            // The same decision as in `core::reconcile`, which has its own table.
            count if count as u64 > rules.brake.rows && count as f64 > stored as f64 * rules.brake.share => {
                Verdict::HoldShrunk
            }
            _ if are_objects => Verdict::Ask,
            _ => Verdict::Confirm,
        };
        let mut finished = finished(scope, verdict);
        if !matches!(verdict, Verdict::HoldCredential | Verdict::HoldUnreadable) {
            finished.removed = ended.iter().map(|key| self.remove(key, now)).sum();
        }
        let is_settled = matches!(verdict, Verdict::Nothing | Verdict::Ask);
        let is_held = !is_settled && verdict != Verdict::HoldUnreadable;
        if is_held {
            finished.missing = missing.len() as u64;
            finished.stored = stored as u64;
        } else if verdict == Verdict::Ask {
            self.ask_for(missing, &mut finished, batch);
        }
        if verdict == Verdict::HoldCredential {
            self.open_gap(Gap { scope: scope.clone(), kind: GapKind::Held, evidence: String::new() }, now);
        }
        if is_settled {
            self.close_unless_found(scope, GapKind::Held, batch);
        }
        if is_settled || !is_empty {
            self.close_unless_found(scope, GapKind::EmptySuspect, batch);
        }
        // Who could not be read before, and was not shown since.
        for (id, (since, read_at)) in &before {
            let is_stored = key_in_scope(scope, id).is_some_and(|key| self.rows.contains_key(&key));
            if is_stored || *since >= from.0 {
                unread.add(id.clone(), *since, *read_at);
            }
        }
        // Of a record that does not say which row it is, any that was not shown.
        if let Some(since) = last_nameless {
            let is_unread = |key: &Key, at: u64| key.scope() == *scope && at < from.0 && !shown.contains(key);
            for (key, _) in self.rows.iter().filter(|(key, stored)| is_unread(key, stored.at)) {
                let id = key.id_in_list().to_owned();
                unread.add(id.clone(), since, read_at(&id));
            }
        }
        self.close_gaps_by_walk(scope, unread, batch);
        let book = self.scopes.get_mut(scope).unwrap();
        book.is_held = is_held;
        if !is_held {
            book.seen.clear();
        }
        book.completed_at = Some(now);
        book.window = Some(end.window);
        if is_settled || verdict == Verdict::Confirm || book.read_by.is_none() {
            book.read_by = Some(rules.credential.clone());
        }
        self.forget_marks(scope, Some(end.window.began));
        self.memory.walked(scope, from.0, now);
        finished
    }
}

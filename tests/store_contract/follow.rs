//! The part of the model that follows the log: debts, membership events, and what the writer only remembers.
//!
//! Entry points: [`Memory`], [`Model::member_events`], [`Model::take_debts`].

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::core::batch::{Batch, Finished, WalkState};
use okta_idmap::core::coverage::{Gap, GapId, GapKind, GapRecord};
use okta_idmap::core::event::MemberChange;
use okta_idmap::core::ids::{GroupId, RequestNumber, Timestamp};
use okta_idmap::core::membership::{Applied, CLOCK_MARGIN_MILLIS, Decision, WalkWindow, decide};
use okta_idmap::core::model::{GroupMember, Key, Row, Scope};
use okta_idmap::core::pending::{PendingRead, Target, When};

use super::model::{Model, Observed, Put, Rules, ScopeBook};

/// How long it is remembered what was read again, and for how long a list may lag behind that.
const REMEMBERED_MILLIS: i64 = 30 * 60_000;
const LAG_MILLIS: i64 = 10 * 60_000;

/// Largest request number and when it was noted.
type Latest<K> = BTreeMap<K, (u64, Timestamp)>;

/// Debts that the store itself makes.
pub(crate) type Owed = BTreeMap<Target, PendingRead>;

/// What the writer remembers and a restart forgets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    reread: Latest<Key>,
    walked: Latest<Scope>,
    removed: Latest<Key>,
}

fn note<K: Ord>(memory: &mut Latest<K>, key: K, number: u64, now: Timestamp) {
    let entry = memory.entry(key).or_insert((number, now));
    if entry.0 <= number {
        *entry = (number, now);
    }
}

impl Memory {
    pub(crate) fn forget_old(&mut self, now: Timestamp) {
        let is_young = |at: Timestamp| now.millis_since(at) <= REMEMBERED_MILLIS;
        self.reread.retain(|_, (_, at)| is_young(*at));
        self.walked.retain(|_, (_, at)| is_young(*at));
        self.removed.retain(|_, (_, at)| is_young(*at));
    }

    pub(crate) fn reread(&mut self, key: &Key, observed: Observed) {
        if observed.is_reread {
            note(&mut self.reread, key.clone(), observed.at, observed.now);
        }
    }

    pub(crate) fn removed(&mut self, key: &Key, observed: Observed) {
        if matches!(key, Key::User(_) | Key::Group(_) | Key::App(_)) {
            note(&mut self.removed, key.clone(), observed.at, observed.now);
        }
    }

    pub(crate) fn walked(&mut self, scope: &Scope, from: u64, now: Timestamp) {
        note(&mut self.walked, scope.clone(), from, now);
    }

    pub(crate) fn is_outdated(&self, key: &Key, at: u64) -> bool {
        let hangs_on = |parent: &Key| match (parent, key) {
            (Key::User(gone), Key::GroupMember(_, user) | Key::AppUser(_, user)) => gone == user,
            (Key::Group(gone), Key::GroupMember(group, _) | Key::AppGroup(_, group)) => gone == group,
            (Key::App(gone), Key::AppUser(app, _) | Key::AppGroup(app, _)) => gone == app,
            _ => parent == key,
        };
        self.reread.get(key).is_some_and(|(number, _)| *number > at)
            || self.walked.get(&key.scope()).is_some_and(|(number, _)| *number > at)
            || self.removed.iter().any(|(parent, (number, _))| *number > at && hangs_on(parent))
    }

    pub(crate) fn may_lag(&self, key: &Key, now: Timestamp) -> bool {
        self.reread.get(key).is_some_and(|(_, at)| now.millis_since(*at) <= LAG_MILLIS)
    }
}

impl Model {
    /// The debts that a batch brings.
    pub(crate) fn take_debts(&mut self, batch: &Batch) {
        for debt in &batch.pending {
            let mut debt = debt.clone();
            if let Some(stored) = self.pending.get(&debt.target) {
                debt.announced |= stored.announced;
                debt.since = debt.since.max(stored.since);
            }
            self.pending.insert(debt.target.clone(), debt);
        }
        for found in &batch.found {
            if let Some(debt) = self.pending.get_mut(&found.target) {
                debt.absent_since = None;
                if found.by > debt.since {
                    debt.announced = false;
                }
            }
        }
    }

    /// The debts that a batch pays.
    pub(crate) fn pay_debts(&mut self, batch: &Batch) {
        for answered in &batch.answered {
            if let Some(left) = self.pending.remove(&answered.target).and_then(|debt| debt.answer(answered.by)) {
                self.pending.insert(answered.target.clone(), left);
            }
        }
    }

    fn owe(&mut self, target: Target, when: When, cause: &str, batch: &Batch, owed: &mut Owed) {
        let (since, now, patience) = (batch.members_since, batch.now, batch.patience);
        let debt = match self.pending.remove(&target) {
            Some(mut debt) => {
                debt.owe(when, since, now, patience);
                debt
            }
            None => PendingRead::new(target.clone(), when, cause, since, now, patience),
        };
        self.pending.insert(target.clone(), debt.clone());
        owed.insert(target, debt);
    }

    /// What removed groups and apps leave behind.
    pub(crate) fn owe_orphans(&mut self, batch: &Batch, owed: &mut Owed) {
        for target in std::mem::take(&mut self.orphans) {
            let when = if matches!(target, Target::List(_)) { When::Quiet } else { When::Now };
            if batch.is_followed {
                self.owe(target, when, "named or known, and not shown", batch, owed);
            }
        }
        for target in std::mem::take(&mut self.ended) {
            if batch.is_followed {
                self.announce(&target, owed);
            }
        }
    }

    /// Says of a debt that what it is about is gone.
    fn announce(&mut self, target: &Target, owed: &mut Owed) {
        for debt in [self.pending.get_mut(target), owed.get_mut(target)].into_iter().flatten() {
            debt.announced = true;
        }
    }

    /// Groups that count as gone because nothing is stored of them; returns those.
    pub(crate) fn forget_groups(&mut self, batch: &Batch, owed: &mut Owed) -> BTreeSet<Scope> {
        let mut forgotten = BTreeSet::new();
        for group in &batch.forgettable {
            if self.has_departed(group, batch) {
                let target = Target::Group(group.clone());
                self.owe(target.clone(), When::Now, "its app is gone", batch, owed);
                self.announce(&target, owed);
                forgotten.insert(Scope::Group(group.clone()));
            }
        }
        forgotten
    }

    /// Whether nothing is stored of a group, or an app had brought it that is gone.
    fn has_departed(&self, group: &GroupId, batch: &Batch) -> bool {
        match self.rows.get(&Key::Group(group.clone())) {
            None => true,
            Some(stored) => match &stored.row {
                Row::Group(group) => group.source_app.as_ref().is_some_and(|app| batch.departed_apps.contains(app)),
                _ => false,
            },
        }
    }

    /// Whether that holds for all groups of which the batch says that no event tells.
    pub(crate) fn are_gone_with_apps(&self, batch: &Batch) -> bool {
        batch.brought.iter().all(|group| self.has_departed(group, batch))
    }

    /// What came from elsewhere is missing all the same, and stays.
    pub(crate) fn release_brought(&mut self, scope: &Scope, batch: &Batch, rules: &Rules) -> Option<Finished> {
        self.scopes.get(scope).filter(|book| book.is_held && *scope == Scope::Groups)?;
        let is_brought = |key: &Key| match self.rows.get(key).map(|stored| &stored.row) {
            Some(Row::Group(group)) => group.source_app.as_ref().is_some_and(|app| batch.departed_apps.contains(app)),
            _ => false,
        };
        let (brought, others): (Vec<Key>, Vec<Key>) = self.missing(scope).into_iter().partition(is_brought);
        if others.is_empty() {
            return self.release(scope, batch, rules);
        }
        for key in &brought {
            self.remove(key, batch.now);
        }
        None
    }

    /// What is below new groups and apps was empty when they were created.
    pub(crate) fn take_newborn(&mut self, batch: &Batch, rules: &Rules) {
        for (object, created) in &batch.newborn {
            if !self.rows.contains_key(object) {
                continue;
            }
            for scope in Scope::below(object) {
                self.scopes.entry(scope).or_insert_with(|| ScopeBook {
                    state: WalkState::Finished {
                        from: RequestNumber(0),
                        began: *created,
                        known_empty: true,
                        ended: Vec::new(),
                    },
                    crawl: 0,
                    is_idle: false,
                    is_born: true,
                    completed_at: Some(batch.now),
                    read_by: Some(rules.credential.clone()),
                    window: Some(WalkWindow { began: *created, ended: *created }),
                    walk_from: 0,
                    is_held: false,
                    seen: BTreeSet::new(),
                });
            }
        }
    }

    /// They are owed all the same.
    pub(crate) fn owe_newborn(&mut self, batch: &Batch, owed: &mut Owed) {
        for scope in batch.newborn.iter().flat_map(|(object, _)| Scope::below(object)) {
            let is_only_born = |book: &ScopeBook| book.is_born && matches!(book.state, WalkState::Finished { .. });
            if self.scopes.get(&scope).is_some_and(is_only_born) {
                self.owe_once(Target::List(scope), "new", batch, owed);
            }
        }
    }

    fn owe_once(&mut self, target: Target, cause: &str, batch: &Batch, owed: &mut Owed) {
        if self.pending.contains_key(&target) {
            return;
        }
        let debt = PendingRead::new(target.clone(), When::Now, cause, batch.at, batch.now, batch.patience);
        self.pending.insert(target.clone(), debt.clone());
        owed.insert(target, debt);
    }

    /// Collections that the batch needs and that were never read.
    pub(crate) fn owe_unread(&mut self, batch: &Batch, owed: &mut Owed) {
        for scope in &batch.needed {
            let is_read = self.scopes.get(scope).is_some_and(|book| {
                let is_open = !book.is_idle && matches!(book.state, WalkState::Todo | WalkState::Walking(_));
                book.completed_at.is_some() || (is_open && self.crawl.running && book.crawl == self.crawl.id.0)
            });
            if !is_read {
                self.owe_once(Target::List(scope.clone()), "never read", batch, owed);
            }
        }
    }

    /// Lists with a gap that a read of one of their objects has left open, and that nobody is about to walk.
    pub(crate) fn owe_what_gaps_wait_for(&mut self, batch: &Batch, owed: &mut Owed) {
        for (scope, kind) in batch.closed_gaps.iter().filter(|_| batch.is_followed) {
            let of_a_list = matches!(kind, GapKind::Forbidden | GapKind::ScopeMissing | GapKind::Failed);
            let is_left = self.gaps.get(GapId::of(*kind, scope).as_str()).is_some_and(|record| record.open);
            let is_unwalked = self.scopes.get(scope).is_some_and(|book| {
                let is_open = !book.is_idle && matches!(book.state, WalkState::Todo | WalkState::Walking(_));
                !(is_open && self.crawl.running && book.crawl == self.crawl.id.0)
            });
            let is_settled = batch.answered.iter().any(|answered| answered.target == Target::List(scope.clone()));
            if of_a_list && is_left && is_unwalked && !is_settled {
                self.owe_once(Target::List(scope.clone()), "its gap waits for it", batch, owed);
            }
        }
    }

    /// What was read before, and not to its end by the crawl.
    pub(crate) fn lose_unread(&mut self, batch: &Batch) {
        let id = self.crawl.id.0;
        let is_read =
            |book: &ScopeBook| book.crawl == id && !book.is_idle && matches!(book.state, WalkState::Finished { .. });
        let unread = self.scopes.iter().filter(|(_, book)| book.completed_at.is_some() && !is_read(book));
        let unread: Vec<Scope> = unread.map(|(scope, _)| scope.clone()).filter(|scope| *scope != Scope::Log).collect();
        for scope in unread {
            let gap = Gap { scope: scope.clone(), kind: GapKind::LogLost, evidence: String::new() };
            self.open_gap(gap, batch.now);
        }
    }

    /// The crawl ends: what may have changed without a word is owed.
    pub(crate) fn owe_lost(&mut self, batch: &Batch, owed: &mut Owed) {
        let is_lost =
            |record: &&GapRecord| record.open && record.gap.kind == GapKind::LogLost && record.gap.scope != Scope::Log;
        let lost: Vec<Scope> = self.gaps.values().filter(is_lost).map(|record| record.gap.scope.clone()).collect();
        for scope in lost {
            self.owe_once(Target::List(scope), "not read since the log told of everything", batch, owed);
        }
    }

    /// Applies the membership events, and owes what they oblige to.
    pub(crate) fn member_events(&mut self, batch: &Batch, owed: &mut Owed) {
        for change in &batch.members {
            self.member_event(change, batch, owed);
        }
    }

    fn member_event(&mut self, change: &MemberChange, batch: &Batch, owed: &mut Owed) {
        match self.rows.get(&Key::Group(change.group.clone())).map(|stored| &stored.row) {
            Some(Row::Group(group)) if group.is_everyone() => return,
            Some(_) => {}
            None => {
                let target = Target::Group(change.group.clone());
                self.owe(target, When::Now, "member of an unknown group", batch, owed);
            }
        }
        let scope = Scope::GroupMembers(change.group.clone());
        let Some(book) = self.scopes.get(&scope).cloned() else { return };
        let pair = (change.group.clone(), change.user.clone());
        let is_stored = self.rows.contains_key(&Key::Group(change.group.clone()));
        if book.completed_at.is_none() || !is_stored {
            self.owe(Target::List(scope), When::Now, "never read", batch, owed);
        } else {
            let decision = decide(change.added, change.published, book.window, self.marks.get(&pair).copied());
            if decision == Decision::Ignore {
                return;
            }
            let is_to_apply = matches!(decision, Decision::Apply | Decision::ApplyAndRead);
            let is_applied = is_to_apply && self.apply_event(change, batch);
            if let Some(published) = change.published.filter(|_| is_applied) {
                self.marks.insert(pair, Applied { published, added: change.added });
            }
            if decision != Decision::Apply || !is_applied {
                self.owe(Target::List(scope), When::Quiet, "membership order", batch, owed);
            }
        }
        if change.added && !self.has_user(&change.user) {
            self.owe(Target::User(change.user.clone()), When::Now, "unknown member", batch, owed);
        }
    }

    fn apply_event(&mut self, change: &MemberChange, batch: &Batch) -> bool {
        let observed = Observed { at: batch.at.0, now: batch.now, is_reread: true };
        let member = GroupMember { group: change.group.clone(), user: change.user.clone() };
        let row = Row::GroupMember(member);
        if change.added { self.put(&row, observed) != Put::Older } else { self.remove_observed(&row.key(), observed) }
    }

    /// Forgets the events that a walk which began at `began` has seen for sure; all of them without one.
    pub(crate) fn forget_marks(&mut self, scope: &Scope, began: Option<Timestamp>) {
        let Scope::GroupMembers(group) = scope else { return };
        self.marks.retain(|(other, _), mark| {
            other != group || began.is_some_and(|began| mark.published >= began.plus_millis(-CLOCK_MARGIN_MILLIS))
        });
    }

    /// What the debts are, as a reader lists them.
    pub(crate) fn debts(&self) -> Vec<PendingRead> {
        let mut debts: Vec<PendingRead> = self.pending.values().cloned().collect();
        debts.sort_by_key(|debt| (debt.due_at, debt.target.name()));
        debts
    }
}

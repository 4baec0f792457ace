//! The reads that are owed, in the order in which they are due.
//!
//! Entry points: [`Debts::owe`], [`Debts::take_due`], [`Debts::pay`].
//!
//! Invariants:
//! - A debt is either waiting (in the queue, by its due time) or taken by somebody who reads; a hint for a taken debt is
//!   kept and makes it due again.
//! - Every change is remembered until [`Debts::changed`] hands it to a batch: memory and store never differ for longer.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ids::{AppId, GroupId, RequestNumber, Timestamp, UserId};
use super::super::model::Scope;
use super::super::pending::{Answered, Patience, PendingRead, Target, When};
use super::calls::Moment;

#[derive(Debug)]
struct Debt {
    read: PendingRead,
    is_taken: bool,
    /// A batch on its way to the store holds a good answer.
    is_answered: bool,
    /// The first batch that can hold its last change.
    changed_in: BatchNumber,
    /// The last batch that holds it.
    written_in: BatchNumber,
}

impl Debt {
    fn new(read: PendingRead, changed_in: BatchNumber) -> Self {
        Self { read, is_taken: false, is_answered: false, changed_in, written_in: BatchNumber::default() }
    }
}

/// Batches in the order in which they go to the store.
///
/// The first is 1; 0 stands for what was stored before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchNumber(u64);

/// All debts.
#[derive(Debug, Default)]
pub(super) struct Debts {
    all: BTreeMap<Target, Debt>,
    queue: BTreeSet<(Timestamp, Target)>,
    changed: BTreeSet<Target>,
    patience: Patience,
    /// The batch that the next change goes into.
    next_batch: BatchNumber,
}

impl Debts {
    /// Takes over what the store holds.
    pub(super) fn new(stored: Vec<PendingRead>, patience: Patience) -> Self {
        let mut debts = Self { patience, next_batch: BatchNumber(1), ..Self::default() };
        for read in stored {
            debts.insert(read, BatchNumber::default());
        }
        debts
    }

    fn insert(&mut self, read: PendingRead, changed_in: BatchNumber) {
        self.queue.insert((read.due_at, read.target.clone()));
        self.all.insert(read.target.clone(), Debt::new(read, changed_in));
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// A debt as the store holds it after `batch`, because of something that only the store could see.
    pub(super) fn adopt(&mut self, mut stored: PendingRead, batch: BatchNumber) {
        let Some(debt) = self.all.get_mut(&stored.target) else { return self.insert(stored, batch) };
        self.queue.remove(&(debt.read.due_at, stored.target.clone()));
        // The store did not know yet what has changed here since: neither hint may lose its look.
        if debt.changed_in > batch {
            let read = &debt.read;
            let (due_at, other) = (stored.due_at.min(read.due_at), stored.due_at.max(read.due_at));
            let other = Some(other).filter(|other| *other != due_at && read.attempts == 0);
            stored.again_at = [stored.again_at, read.again_at, other].into_iter().flatten().max();
            stored.due_at = if read.attempts == 0 { due_at } else { read.due_at };
            stored.since = stored.since.max(read.since);
            stored.attempts = read.attempts;
            stored.first_at = stored.first_at.min(read.first_at);
            stored.announced |= read.announced;
            stored.absent_since = read.absent_since;
            debt.changed_in = self.next_batch;
            self.changed.insert(stored.target.clone());
        }
        if !debt.is_taken {
            self.queue.insert((stored.due_at, stored.target.clone()));
        }
        debt.read = stored;
    }

    /// Notes a hint.
    pub(super) fn owe(&mut self, target: Target, when: When, cause: &str, moment: Moment) {
        self.changed.insert(target.clone());
        match self.all.get_mut(&target) {
            Some(debt) => {
                let before = debt.read.due_at;
                debt.changed_in = self.next_batch;
                debt.read.owe(when, moment.newest, moment.now, self.patience);
                let due_at = debt.read.due_at;
                if !debt.is_taken && due_at != before {
                    self.queue.remove(&(before, target.clone()));
                    self.queue.insert((due_at, target));
                }
            }
            None => {
                let read = PendingRead::new(target.clone(), when, cause, moment.newest, moment.now, self.patience);
                self.insert(read, self.next_batch);
            }
        }
    }

    /// Makes a debt due at `due_at`, new or not; for what is tried again at its own pace.
    pub(super) fn owe_at(&mut self, target: Target, due_at: Timestamp, cause: &str, moment: Moment) {
        self.changed.insert(target.clone());
        if let Some(debt) = self.all.get_mut(&target) {
            self.queue.remove(&(debt.read.due_at, target.clone()));
            debt.read.due_at = due_at;
            debt.is_taken = false;
            debt.changed_in = self.next_batch;
        } else {
            let mut read = PendingRead::new(target.clone(), When::Now, cause, moment.newest, moment.now, self.patience);
            read.due_at = due_at;
            self.all.insert(target.clone(), Debt::new(read, self.next_batch));
        }
        self.queue.insert((due_at, target));
    }

    /// The next debt that is due; the caller has it from now on.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Target> {
        let (due_at, _) = self.queue.first()?;
        if *due_at > now {
            return None;
        }
        let (_, target) = self.queue.pop_first()?;
        if let Some(debt) = self.all.get_mut(&target) {
            debt.is_taken = true;
        }
        Some(target)
    }

    /// Whoever had taken the debt gives it back: it is due again at the time it was.
    pub(super) fn give_back(&mut self, target: &Target) {
        if let Some(debt) = self.all.get_mut(target) {
            (debt.is_taken, debt.is_answered) = (false, false);
            self.queue.insert((debt.read.due_at, target.clone()));
        }
    }

    /// `batch`, with the answer, is stored.
    pub(super) fn pay(&mut self, answered: &Answered, batch: BatchNumber) {
        let Some(debt) = self.all.remove(&answered.target) else { return };
        self.queue.remove(&(debt.read.due_at, answered.target.clone()));
        // What is still owed is in the store in the same form: it follows the same rule. Unless a later batch has written the
        // debt behind the payment: then all of it is owed.
        let is_written_behind = debt.written_in > batch;
        let left = if is_written_behind { Some(debt.read) } else { debt.read.answer(answered.by) };
        if let Some(read) = left {
            self.queue.insert((read.due_at, answered.target.clone()));
            let left = Debt { written_in: debt.written_in, ..Debt::new(read, debt.changed_in) };
            self.all.insert(answered.target.clone(), left);
        } else {
            self.changed.remove(&answered.target);
        }
    }

    /// A read failed; it is tried again later, at the earliest after `wait_millis_min`.
    pub(super) fn failed(&mut self, target: &Target, now: Timestamp, wait_millis_min: i64) {
        if let Some(debt) = self.all.get_mut(target) {
            self.queue.remove(&(debt.read.due_at, target.clone()));
            debt.read.failed(now);
            debt.is_answered = false;
            debt.read.due_at = debt.read.due_at.max(now.plus_millis(wait_millis_min));
            debt.is_taken = false;
            debt.changed_in = self.next_batch;
            self.queue.insert((debt.read.due_at, target.clone()));
            self.changed.insert(target.clone());
        }
    }

    /// Begins the next batch. Returns its number and the debts that changed since the last.
    pub(super) fn begin_batch(&mut self) -> (BatchNumber, Vec<PendingRead>) {
        let number = self.next_batch;
        self.next_batch.0 += 1;
        let mut changed = Vec::new();
        for target in std::mem::take(&mut self.changed) {
            if let Some(debt) = self.all.get_mut(&target) {
                debt.written_in = number;
                changed.push(debt.read.clone());
            }
        }
        (number, changed)
    }

    /// An event says that what the debt is about is gone.
    pub(super) fn announce(&mut self, target: &Target) {
        self.change(target, |read| read.announced = true);
    }

    /// Users of whom an event says that they are gone, and who are still to be asked for.
    pub(super) fn announced_users(&self) -> u64 {
        let users = self.all.iter().filter(|(target, debt)| matches!(target, Target::User(_)) && debt.read.announced);
        users.count() as u64
    }

    /// It was found by the request with this number: whatever was said of its end before does not hold. Returns whether anything was.
    pub(super) fn found(&mut self, target: &Target, by: RequestNumber) -> bool {
        let is_ended = self.all.get(target).is_some_and(|debt| debt.read.announced || debt.read.absent_since.is_some());
        if is_ended {
            self.change(target, |read| read.found(by));
        }
        is_ended
    }

    /// A read by id did not find it; it is asked for again at `due_at`.
    pub(super) fn not_found(&mut self, target: &Target, now: Timestamp, due_at: Timestamp) {
        if let Some(debt) = self.all.get_mut(target) {
            self.queue.remove(&(debt.read.due_at, target.clone()));
            debt.read.not_found(now, due_at);
            (debt.is_taken, debt.is_answered) = (false, false);
            debt.changed_in = self.next_batch;
            self.queue.insert((due_at, target.clone()));
            self.changed.insert(target.clone());
        }
    }

    /// A read that had failed was answered, though what it asks for was not found. Returns the collection if it was the last of
    /// them.
    pub(super) fn works_though_not_found(&mut self, target: &Target) -> Option<Scope> {
        let debt = self.all.get_mut(target).filter(|debt| debt.read.attempts > 0)?;
        debt.read.attempts = 0;
        debt.changed_in = self.next_batch;
        self.changed.insert(target.clone());
        let scope = target.scope()?;
        let mut failing = self.all.values().filter(|debt| debt.read.attempts > 0 && !debt.is_answered);
        let is_last = failing.all(|debt| debt.read.target.scope().as_ref() != Some(&scope));
        is_last.then_some(scope)
    }

    fn change(&mut self, target: &Target, change: impl FnOnce(&mut PendingRead)) {
        if let Some(debt) = self.all.get_mut(target) {
            change(&mut debt.read);
            debt.changed_in = self.next_batch;
            self.changed.insert(target.clone());
        }
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(super) fn get(&self, target: &Target) -> Option<&PendingRead> {
        self.all.get(target).map(|debt| &debt.read)
    }

    /// Whether a good answer to this debt is being waited for, or about to be asked for.
    pub(super) fn is_due_or_taken(&self, target: &Target, now: Timestamp) -> bool {
        self.all.get(target).is_some_and(|debt| debt.read.attempts == 0 && (debt.is_taken || debt.read.due_at <= now))
    }

    /// Debts for single accounts of an app.
    pub(super) fn accounts_of_app(&self, app: &AppId) -> Vec<Target> {
        // The least id there can be: `-` is the first of the characters that ids may have.
        let Ok(least) = UserId::new("-") else { return Vec::new() };
        let from = Target::AppUser(app.clone(), least);
        let of_app = |target: &&Target| matches!(target, Target::AppUser(other, _) if other == app);
        self.all.range(from..).map(|(target, _)| target).take_while(of_app).cloned().collect()
    }

    /// Debts for single groups of an app.
    pub(super) fn groups_of_app(&self, app: &AppId) -> Vec<(Target, GroupId)> {
        let Ok(least) = GroupId::new("-") else { return Vec::new() };
        let targets = self.all.range(Target::AppGroup(app.clone(), least)..).map(|(target, _)| target);
        let of_app = |target: &Target| match target {
            Target::AppGroup(other, group) if other == app => Some((target.clone(), group.clone())),
            _ => None,
        };
        targets.map_while(of_app).collect()
    }

    /// Debts for single assignments of a group; looks at all of them, for the rare removal of a group.
    pub(super) fn assignments_of_group(&self, group: &GroupId) -> Vec<Target> {
        let of_group = |target: &&Target| matches!(target, Target::AppGroup(_, other) if other == group);
        self.all.keys().filter(of_group).cloned().collect()
    }

    /// Debts for single accounts of a user; looks at all of them, for the rare removal of a user.
    pub(super) fn accounts_of_user(&self, user: &UserId) -> Vec<Target> {
        let of_user = |target: &&Target| matches!(target, Target::AppUser(_, other) if other == user);
        self.all.keys().filter(of_user).cloned().collect()
    }

    /// Collections of which reads had failed, until now, when the last of them is answered.
    pub(super) fn works_again(&mut self, answered: &[Answered]) -> BTreeSet<Scope> {
        let mut works = BTreeSet::new();
        for Answered { target, .. } in answered {
            if let Some(debt) = self.all.get_mut(target).filter(|debt| debt.read.attempts > 0) {
                debt.is_answered = true;
                works.extend(target.scope());
            }
        }
        if !works.is_empty() {
            let failing = self.all.values().filter(|debt| debt.read.attempts > 0 && !debt.is_answered);
            for scope in failing.filter_map(|debt| debt.read.target.scope()) {
                works.remove(&scope);
            }
        }
        works
    }

    /// Lists that could not be read and are tried again.
    pub(super) fn failing_lists(&self) -> usize {
        self.all.values().filter(|debt| debt.read.attempts > 0 && matches!(debt.read.target, Target::List(_))).count()
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.queue.first().map(|(due_at, _)| *due_at)
    }

    #[cfg(test)]
    pub(super) fn for_tests(&self) -> (Vec<(PendingRead, bool)>, BTreeSet<Target>) {
        let all = self.all.values().map(|debt| (debt.read.clone(), debt.is_taken)).collect();
        (all, self.changed.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The request number that pays a debt without a read: it is not wanted.
    pub(super) fn unwanted(&self, target: &Target) -> Option<Answered> {
        let since = self.all.get(target)?.read.since;
        Some(Answered { target: target.clone(), by: RequestNumber(since.0.saturating_add(1)) })
    }
}

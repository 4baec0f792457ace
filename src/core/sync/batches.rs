//! Batches on their way to the store, and what becomes of them.
//!
//! Entry points: [`SyncState::commit`], [`SyncState::on_committed`].

use super::super::batch::{Batch, CrawlMark, Receipt};
use super::super::ids::RequestNumber;
use super::super::model::{Key, Scope};
use super::super::pending::{Answered, Target, When};
use super::holds::AskedRelease;
use super::{BatchNumber, Effect, Pending, SyncState, gaps_of_failed_reads, paid};

/// A batch on its way to the store.
#[derive(Debug)]
pub(super) struct Uncommitted {
    pub(super) number: BatchNumber,
    /// What it pays.
    pub(super) answered: Vec<Answered>,
    /// What it says was found.
    found: Vec<Answered>,
    /// The hold that it releases if the store can tell.
    asked_release: Option<AskedRelease>,
    /// Whether its receipt can bring more work to the crawl.
    pub(super) has_walks: bool,
    /// Whether it ends the crawl.
    pub(super) ends_crawl: bool,
}

impl SyncState {
    pub(super) fn batch(&self) -> Batch {
        Batch { now: self.moment.now, okta_now: self.moment.okta_now, ..Batch::default() }
    }

    /// Hands a batch to the store if there is anything in it.
    pub(super) fn commit_if_any(&mut self, batch: Batch, effects: &mut Vec<Effect>) {
        let is_empty = batch.rows.is_empty()
            && batch.removals.is_empty()
            && batch.answered.is_empty()
            && batch.settled.is_empty()
            && batch.quarantined.is_empty()
            && batch.walks.is_empty()
            && batch.closed_gaps.is_empty();
        if !is_empty || self.debts.has_changed() {
            self.commit(batch, effects);
        }
    }

    /// Hands a batch to the store, with everything that changed in memory since the last one.
    pub(super) fn commit(&mut self, mut batch: Batch, effects: &mut Vec<Effect>) {
        for scope in self.debts.works_again(&batch.answered) {
            if batch.gaps.iter().all(|gap| gap.scope != scope) {
                batch.closed_gaps.extend(gaps_of_failed_reads(scope));
            }
        }
        if let Some(begin) = self.crawl.begin.take() {
            batch.crawl = Some(begin);
        }
        let (number, pending) = self.debts.begin_batch();
        batch.pending.extend(pending);
        batch.patience = self.debts.patience();
        batch.members_since = self.moment.newest;
        batch.is_followed = self.follow.is_some();
        self.uncommitted.push_back(Uncommitted {
            number,
            answered: batch.answered.clone(),
            found: batch.found.clone(),
            asked_release: self.asked_release(&batch),
            has_walks: !batch.walks.is_empty(),
            ends_crawl: matches!(batch.crawl, Some(CrawlMark::End { .. })),
        });
        effects.push(Effect::Commit(Box::new(batch)));
    }

    /// The youngest batch on its way to the store.
    pub(super) fn newest_batch(&self) -> Option<BatchNumber> {
        self.uncommitted.back().map(|batch| batch.number)
    }

    /// Whether the store has everything up to a batch, so that it can be asked about what that showed.
    pub(super) fn is_stored(&self, newest: Option<BatchNumber>) -> bool {
        newest.is_none_or(|newest| self.uncommitted.front().is_none_or(|oldest| oldest.number > newest))
    }

    pub(super) fn on_committed(&mut self, receipt: Receipt, effects: &mut Vec<Effect>) {
        let Some(Uncommitted { number, answered, asked_release, ends_crawl, .. }) = self.uncommitted.pop_front() else {
            return;
        };
        let refused = asked_release.filter(|asked| receipt.finished.iter().all(|done| done.scope != asked.scope));
        let mut batch = self.batch();
        // What is found to be owed at the end of a crawl that nobody follows waits in the store for somebody who does.
        let owed = if ends_crawl && self.follow.is_none() { Vec::new() } else { receipt.owed };
        for mut read in owed {
            // The store has yet to hear that it was found after what it says of its end.
            for found in self.uncommitted.iter().flat_map(|batch| &batch.found) {
                if found.target == read.target {
                    read.found(found.by);
                }
            }
            let target = read.target.clone();
            let was_asked = self.was_asked_in_crawl(&target);
            // While the question is open, the debt is that of the question.
            if was_asked && self.debts.get(&target).is_none() {
                batch.answered.push(paid(target, RequestNumber(read.since.0.saturating_add(1))));
                continue;
            }
            self.debts.adopt(read, number);
            if !was_asked {
                self.read_in_crawl(target);
            }
        }
        let is_held = receipt.finished.iter().any(|finished| finished.verdict.is_hold());
        for answered in answered {
            // The store pays nothing in a batch whose walk is held: what the walk did not show is not settled.
            if is_held {
                self.debts.give_back(&answered.target);
            } else {
                self.debts.pay(&answered, number);
                self.let_assignments_go(&answered.target);
            }
            self.accounts.unblock(&answered.target);
        }
        for mut finished in receipt.finished {
            self.ask_for(std::mem::take(&mut finished.unlisted));
            if finished.verdict.is_hold() || finished.verdict.keeps_missing() {
                if !finished.verdict.is_hold() {
                    self.nets.listed(&finished.scope, self.moment.now);
                }
                self.on_kept(finished, effects);
            } else {
                self.holds.ended(&finished.scope);
                self.nets.listed(&finished.scope, self.moment.now);
                // The accounts that the groups gave go later, and where a group was deleted no event of its own says so.
                if let (Scope::AppGroups(app), true) = (finished.scope, finished.removed > 0) {
                    self.owe(Target::List(Scope::AppUsers(app)), When::Quiet, "groups are no longer assigned");
                }
            }
        }
        if let Some(asked) = refused {
            self.release_refused(&asked, effects);
        }
        // Only now: a debt that this receipt has paid is not to be written again behind its payment.
        if !batch.answered.is_empty() {
            self.commit(batch, effects);
        }
        if ends_crawl {
            self.crawl_is_over(effects);
        }
    }

    /// Nobody lists the groups of the app any more: those that wait for that are looked at anew.
    fn let_assignments_go(&mut self, target: &Target) {
        let Target::List(Scope::AppGroups(app)) = target else { return };
        for (target, group) in self.debts.groups_of_app(app) {
            let key = Key::AppGroup(app.clone(), group);
            let is_asked = |pending: &Pending| matches!(pending, Pending::Read(read, _) if *read == key);
            if !self.ready.has_assignment(&key) && !self.in_flight.values().any(is_asked) {
                self.debts.give_back(&target);
            }
        }
    }

    /// One crawl reads whom the filter does not know yet itself, and what was dropped for that: nobody follows.
    pub(super) fn read_in_crawl(&mut self, target: Target) {
        let filter = &self.limits.filter;
        if self.follow.is_some() || !self.is_crawl_open() || !(filter.users.is_active() || filter.groups.is_active()) {
            return;
        }
        match target {
            Target::User(user) => {
                self.crawl.asked_for.insert(Scope::User(user.clone()));
                self.ready.user(user);
            }
            Target::Group(group) => {
                self.crawl.asked_for.insert(Scope::Group(group.clone()));
                self.ready.group(group);
            }
            Target::List(scope) => self.lanes.request_in_crawl(scope),
            _ => {}
        }
    }

    /// Whether one crawl has asked for the user or group already: what names them before the answer is stored, learns from that.
    pub(super) fn was_asked_in_crawl(&self, target: &Target) -> bool {
        let object = match target {
            Target::User(user) => Scope::User(user.clone()),
            Target::Group(group) => Scope::Group(group.clone()),
            _ => return false,
        };
        self.follow.is_none() && self.crawl.asked_for.contains(&object)
    }
}

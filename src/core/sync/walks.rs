//! Pages of the lists that are scopes, for the crawl and for debts alike.

use super::super::batch::{Batch, Delta, Returned, WalkState, WalkUpdate};
use super::super::coverage::{Gap, GapKind, ReadFailure, gap_of_failure};
use super::super::ids::{AppId, GroupId, RequestNumber, Timestamp, UserId};
use super::super::model::{App, Group, GroupStats, Key, Row, Scope};
use super::super::pending::{Target, When};
use super::crawl::Asked;
use super::endless::rows_max;
use super::walk::{self, Walk};
use super::{CallId, Effect, KnownApp, Members, PageSeen, Pending, SyncState, members_of, paid};

/// How often a walk may start again (stale cursors, smaller pages) before it is given up. Halving 1000 down to the
/// floor of 10 takes 7; the rest is for stale cursors ("at most a few times", facts 0.1).
const WALK_RESTARTS_MAX: u8 = 10;

/// A list that failed is tried again at the earliest after this time for every list that fails, in milliseconds: many
/// forbidden lists must not eat the budget of those that can be read.
const FAILING_LIST_MILLIS: i64 = 5_000;

/// Times of creation may be given in whole seconds.
const CREATED_MILLIS: i64 = 1_000;

/// So old may an object be that counts as new, in milliseconds: as long as events about it may have come before it was known.
const NEWBORN_MILLIS: i64 = 60_000;

/// Why what hangs on an object is read again that was not found for a while.
const SHOWN_AGAIN: &str = "shown again";

/// So often a list is not found before a gap says so: meanwhile it turns out whether what it belongs to is gone.
const LIST_NOT_FOUND_TIMES: u32 = 2;

/// The group or app that a list is of.
fn parent_of(list: &Scope) -> Option<Key> {
    match list {
        Scope::AppUsers(app) | Scope::AppGroups(app) => Some(Key::App(app.clone())),
        Scope::GroupMembers(group) => Some(Key::Group(group.clone())),
        Scope::Users | Scope::Groups | Scope::Apps | Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => {
            None
        }
    }
}

impl SyncState {
    pub(super) fn on_page(&mut self, call: CallId, page: PageSeen, effects: &mut Vec<Effect>) {
        let is_page = |pending: &Pending| matches!(pending, Pending::Walk(_) | Pending::Select(_));
        match self.answered(call, is_page) {
            Some(Pending::Walk(walk)) => self.on_walk_page(walk, page, effects),
            Some(Pending::Select(selected)) => self.on_selected(*selected, page, effects),
            _ => {}
        }
    }

    fn on_walk_page(&mut self, mut walk: Walk, page: PageSeen, effects: &mut Vec<Effect>) {
        let from = *walk.from.get_or_insert(page.at);
        let mut batch = self.batch();
        self.credential_lives(&mut batch);
        if self.is_of_unread_app(&walk.scope) {
            self.break_off(&walk.scope, &mut batch);
            self.commit(batch, effects);
            return;
        }
        batch.at = page.at;
        walk.add_unreadable(page.quarantined.len());
        batch.lists_follow = self.is_crawl_open() && self.lanes.is_outstanding(&walk.scope);
        batch.quarantined = page.quarantined;
        if walk.is_at_start() && walk.is_urgent {
            // What an earlier walk of the scope has shown says nothing about this one.
            batch.walks.push(WalkUpdate { scope: walk.scope.clone(), state: WalkState::Todo });
        }
        self.note_stats(page.group_stats, Asked { at: page.at, since: walk.asked });
        let rows = page.rows.len();
        walk.look_at(&page.rows);
        for row in page.rows {
            if let Row::AppGroup(row) = &row
                && self.debts.get(&Target::AppGroup(row.app.clone(), row.group.clone())).is_some()
            {
                walk.expected.insert(row.group.clone());
            }
            self.on_row(row, &mut batch);
        }
        self.lanes.count_rows(&walk.scope, rows);
        let rows_max = rows_max(&walk.scope, self.evidence_of_length(&walk.scope));
        match walk.advance(rows, page.next, rows_max) {
            walk::Advance::Next(position) => {
                batch.walks.push(WalkUpdate { scope: walk.scope.clone(), state: WalkState::Walking(position) });
                self.lanes.go_on(walk);
            }
            walk::Advance::End => self.finish_walk(&walk, from, &mut batch),
            walk::Advance::Empty => {
                let evidence = "200 with an empty list, but an org always has users, groups and apps".to_owned();
                self.give_up(&walk.scope, GapKind::EmptySuspect, evidence, &mut batch);
            }
            walk::Advance::Endless(evidence) => {
                self.give_up(&walk.scope, GapKind::Failed, evidence, &mut batch);
            }
        }
        self.commit(batch, effects);
    }

    /// Whether the settings do not want what the scope holds, or its app or group is gone.
    pub(super) fn is_of_unread_app(&self, scope: &Scope) -> bool {
        match scope {
            Scope::AppUsers(app) | Scope::AppGroups(app) => self.apps.get(app).is_some_and(|known| !known.is_read),
            Scope::GroupMembers(group) => !self.may_be_stored(group),
            _ => false,
        }
    }

    /// While the list was on its way, it has become known that nobody wants it: to store it would leave rows that nobody
    /// reads again.
    fn break_off(&mut self, scope: &Scope, batch: &mut Batch) {
        batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::Unwanted });
        self.lanes.finish(scope);
        self.holds.ended(scope);
        let accounts = match scope {
            Scope::AppUsers(app) => self.debts.accounts_of_app(app),
            Scope::AppGroups(app) => self.debts.groups_of_app(app).into_iter().map(|(target, _)| target).collect(),
            Scope::GroupMembers(group) => {
                self.forget_counts(group, batch);
                Vec::new()
            }
            _ => Vec::new(),
        };
        let targets = accounts.into_iter().chain([Target::List(scope.clone())]);
        batch.answered.extend(targets.filter_map(|target| self.debts.unwanted(&target)));
    }

    /// Groups without members need no walk.
    pub(super) fn note_stats(&mut self, stats: Vec<(GroupId, GroupStats)>, asked: Asked) {
        for (group, stats) in stats {
            self.counts.said(&group, stats, asked.at);
            if stats.users == 0 && !self.log.has_hinted_since(&group, asked.at) {
                self.crawl.empty_groups.insert(group, asked);
            } else {
                self.crawl.empty_groups.remove(&group);
            }
        }
    }

    /// A walk of everything, or of what changed, began then: the next delta walk goes on from there.
    pub(super) fn note_delta(&mut self, delta: Delta, began: Timestamp, batch: &mut Batch) {
        self.nets.deltas.insert(delta, began);
        batch.deltas.push((delta, began));
    }

    fn finish_walk(&mut self, walk: &Walk, from: RequestNumber, batch: &mut Batch) {
        let scope = walk.scope.clone();
        let ended = self.ended_accounts(&scope, from);
        let state = WalkState::Finished { from, began: walk.began, known_empty: false, ended };
        batch.walks.push(WalkUpdate { scope: scope.clone(), state });
        self.lanes.finish(&scope);
        let users_before = self.users_shown();
        self.compare_counts(walk, batch);
        if scope == Scope::Users {
            self.users_were_listed(walk, users_before);
        }
        match &scope {
            Scope::Users => self.note_delta(Delta::Users, walk.began, batch),
            // By itself the list says nothing about members: those of every group are read only with a crawl, be it before this list.
            Scope::Groups if self.is_crawl_open() => {
                let began = self.log.read_since().map_or(walk.began, |since| since.min(walk.began));
                if self.nets.deltas.get(&Delta::Groups).is_none_or(|before| *before < began) {
                    self.note_delta(Delta::Groups, began, batch);
                }
            }
            // An event that came meanwhile is newer than some pages and older than others.
            Scope::GroupMembers(group) if self.log.has_hinted_since(group, from) => {
                self.owe(Target::List(scope.clone()), When::Quiet, "members changed while they were listed");
            }
            Scope::AppUsers(app) => {
                let accounts = self.debts.accounts_of_app(app);
                for account in accounts {
                    self.settle(account, from, walk.asked_at, batch);
                }
            }
            Scope::AppGroups(app) => self.settle_assignments(app, walk, from, batch),
            _ => {}
        }
        self.settle(Target::List(scope), from, walk.asked_at, batch);
    }

    /// Groups that events say are assigned to the app: if the list does not show one, it is asked for by id.
    fn settle_assignments(&mut self, app: &AppId, walk: &Walk, from: RequestNumber, batch: &mut Batch) {
        for (target, group) in self.debts.groups_of_app(app) {
            if self.debts.get(&target).is_none_or(|read| read.since >= from) {
                // The event came later, and the list is owed again.
                self.debts.give_back(&target);
            } else if walk.expected.contains(&group) {
                batch.answered.push(paid(target, from));
            } else {
                self.ready.assignment(app.clone(), group);
            }
        }
    }

    /// Users whose account in the app has ended, as events say that had arrived before the walk began.
    fn ended_accounts(&self, scope: &Scope, from: RequestNumber) -> Vec<UserId> {
        let Scope::AppUsers(app) = scope else { return Vec::new() };
        let is_ended = |target: &Target| self.debts.get(target).is_some_and(|read| read.announced && read.since < from);
        let accounts = self.debts.accounts_of_app(app).into_iter().filter(is_ended);
        let user = |target| match target {
            Target::AppUser(_, user) => Some(user),
            _ => None,
        };
        accounts.filter_map(user).collect()
    }

    fn give_up(&mut self, scope: &Scope, kind: GapKind, evidence: String, batch: &mut Batch) {
        batch.gaps.push(Gap { scope: scope.clone(), kind, evidence });
        self.give_up_silently(scope, FAILING_LIST_MILLIS, batch);
    }

    /// Gives a list up for now; every list that fails makes the others wait `each_millis` longer.
    fn give_up_silently(&mut self, scope: &Scope, each_millis: i64, batch: &mut Batch) {
        batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::GivenUp });
        self.lanes.finish(scope);
        self.crawl.given_up.insert(scope.clone());
        self.counts_given_up(scope);
        self.try_list_again(scope, each_millis);
    }

    /// A list that could not be read is owed, at an ever slower pace, until it can.
    fn try_list_again(&mut self, scope: &Scope, each_millis: i64) {
        if self.follow.is_none() {
            return;
        }
        let target = Target::List(scope.clone());
        if self.debts.get(&target).is_none() {
            self.owe(target.clone(), When::Now, "list could not be read");
        }
        let failing = i64::try_from(self.debts.failing_lists()).unwrap_or(i64::MAX);
        let wait_min = failing.saturating_mul(each_millis);
        self.debts.failed(&target, self.moment.now, wait_min);
        if let Scope::AppGroups(app) = scope {
            self.debts.groups_of_app(app).iter().for_each(|(target, _)| self.debts.give_back(target));
        }
        if let Scope::AppUsers(app) = scope {
            for account in self.debts.accounts_of_app(app) {
                if self.accounts.is_by_list(&account) {
                    self.debts.failed(&account, self.moment.now, wait_min);
                }
            }
        }
    }

    pub(super) fn on_walk_failed(&mut self, mut walk: Walk, failure: &ReadFailure, effects: &mut Vec<Effect>) {
        let mut batch = self.batch();
        match walk.restart(failure, WALK_RESTARTS_MAX) {
            Ok(()) => {
                batch.walks.push(WalkUpdate { scope: walk.scope.clone(), state: WalkState::Todo });
                self.lanes.go_on(walk);
            }
            Err(evidence) => {
                let (kind, evidence) = gap_of_failure(&walk.scope, failure)
                    .map_or((GapKind::Failed, evidence), |gap| (gap.kind, gap.evidence));
                let is_not_found = matches!(failure, ReadFailure::NotFound { .. });
                if is_not_found && self.follow.is_none() && self.is_below_departed(&walk.scope) {
                    // Nothing is missing, and a gap of what is gone already would never close.
                    self.lanes.finish(&walk.scope);
                    self.counts_given_up(&walk.scope);
                } else if is_not_found && self.may_be_gone(&walk.scope) {
                    // Within seconds it is known whether there is a gap.
                    self.give_up_silently(&walk.scope, 0, &mut batch);
                } else {
                    self.give_up(&walk.scope, kind, evidence, &mut batch);
                }
            }
        }
        self.commit(batch, effects);
    }

    /// Whether the group or app of a list is known to be gone.
    fn is_below_departed(&self, list: &Scope) -> bool {
        let object = parent_of(list).as_ref().and_then(Scope::of_object);
        object.is_some_and(|object| self.absent.is_departed(&object))
    }

    /// The group or app of a list that is not found may be gone: then nothing is missing. It is asked for by id. While nobody
    /// knows, a gap of the list would say nothing; while it is shown and the list still is not, there is one.
    fn may_be_gone(&mut self, list: &Scope) -> bool {
        let Some(parent) = parent_of(list) else { return false };
        self.ask_for([parent.clone()]);
        let is_first =
            self.debts.get(&Target::List(list.clone())).is_none_or(|read| read.attempts < LIST_NOT_FOUND_TIMES);
        let object = Scope::of_object(&parent);
        let is_open = object.is_some_and(|object| self.absent.is_departed(&object) || self.is_absent(&object));
        self.follow.is_some() && (is_first || is_open)
    }

    /// Puts a row into the batch, and the reads that it makes necessary on the list.
    pub(super) fn on_row(&mut self, row: Row, batch: &mut Batch) {
        let object = Scope::of_object(&row.key());
        let was_missed = object.as_ref().is_some_and(|object| self.was_missed(object));
        if let Some(object) = object {
            self.on_object_shown(object, batch);
        }
        match &row {
            Row::App(app) => {
                let known = KnownApp::of(app, &self.limits.filter.apps);
                let before = self.apps.insert(app.id.clone(), known);
                if before.is_some_and(|before| before.is_active) && known.is_read && !known.is_active {
                    // Lists of users' apps may have left it out since, as if the accounts were gone.
                    self.owe(Target::List(Scope::AppUsers(app.id.clone())), When::Now, "app switched off");
                }
                if !self.limits.filter.apps.wants(app) {
                    // No row, and what an earlier configuration stored goes.
                    batch.removals.push(row.key());
                    batch.unwanted_apps.push(app.id.clone());
                    return;
                }
                self.on_app_row(app, before.is_some() || was_missed, batch);
            }
            Row::Group(group) => self.on_group_row(group, was_missed, batch),
            // The store drops it, or finds out what the group is.
            Row::AppGroup(row) if !self.may_be_stored(&row.group) => {}
            Row::AppGroup(row) => {
                let is_new = self.assigned_groups.insert(row.group.clone());
                if self.limits.members == Members::Assigned {
                    self.need_members(row.group.clone(), is_new, batch);
                }
            }
            // Asked for before it became known that the app's accounts are not wanted.
            Row::AppUser(account) if self.is_of_unread_app(&Scope::AppUsers(account.app.clone())) => return,
            Row::User(_) | Row::GroupMember(_) | Row::AppUser(_) => {}
        }
        batch.rows.push(row);
    }

    /// An object is shown. What was not seen of one that was hidden has to be read again.
    fn on_object_shown(&mut self, object: Scope, batch: &mut Batch) {
        let shown = self.absent.found(&object, batch.at);
        if shown.waited
            && let Some(target) = object.object().as_ref().and_then(Target::of_object)
        {
            // Nobody would read it else: the search told nothing, and tells nothing any more.
            self.debts.give_back(&target);
        }
        if shown.was_departed
            && !batch.is_reread
            && let Some(target) = object.object().as_ref().and_then(Target::of_object)
        {
            // By a list that is behind, mostly: nothing else would remove it before the next crawl.
            self.owe(target, When::Now, "shown by a list, and known to be gone");
        }
        if shown.had_gap {
            if let Scope::Group(group) = &object {
                self.owe(members_of(group), When::Now, SHOWN_AGAIN);
            }
            self.read_again(object, batch);
        }
    }

    /// What hangs on an object that is there again: no list has removed anything of it meanwhile, and events about it led to
    /// reads that did not find it.
    pub(super) fn read_again(&mut self, object: Scope, batch: &mut Batch) {
        if let Some(key) = object.object()
            && matches!(key, Key::User(_) | Key::Group(_))
        {
            let debt = Target::of_object(&key).and_then(|target| self.debts.get(&target));
            let missed_since = debt.and_then(|read| read.absent_since);
            batch.returned.push(Returned { key, missed_since });
        }
        match object {
            Scope::User(user) => {
                self.owe(Target::UserApps(user.clone()), When::Now, SHOWN_AGAIN);
                self.owe(Target::UserGroups(user), When::Now, SHOWN_AGAIN);
            }
            Scope::App(app) => {
                self.owe(Target::List(Scope::AppUsers(app.clone())), When::Now, SHOWN_AGAIN);
                self.owe(Target::List(Scope::AppGroups(app)), When::Now, SHOWN_AGAIN);
            }
            _ => {}
        }
    }

    /// Whether an object was asked for and not found before, whatever came of that.
    fn was_missed(&self, object: &Scope) -> bool {
        self.absent.is_departed(object) || self.is_absent(object)
    }

    fn on_group_row(&mut self, group: &Group, was_missed: bool, batch: &mut Batch) {
        // `Everyone` is derived from the user list (facts 3).
        let is_wanted = self.limits.filter.groups.wants(group);
        self.note_group(&group.id, is_wanted);
        if group.is_everyone() {
            self.everyone.insert(group.id.clone());
            return;
        }
        // Handed to the store all the same, which knows what to drop; but nothing of it is read.
        if !is_wanted {
            return;
        }
        if self.limits.members != Members::All {
            return;
        }
        let is_new = !was_missed && self.note_newborn(Key::Group(group.id.clone()), group.created, batch);
        if self.is_crawl_open() {
            if is_new && !self.crawl.empty_groups.contains_key(&group.id) {
                self.lanes.push_first(Scope::GroupMembers(group.id.clone()));
            }
            self.add_members_walk(group.id.clone(), batch);
        } else {
            batch.needed.push(Scope::GroupMembers(group.id.clone()));
        }
    }

    /// What is below an object that was created a moment ago was empty then, and the log tells of the rest, be it by the end of
    /// an import: it is read as soon as can be, and answered about until then. Not where the object was known before, or was
    /// not shown when it was asked for: then events about it may have passed unheeded. Returns whether it is new.
    fn note_newborn(&self, object: Key, created: Option<Timestamp>, batch: &mut Batch) -> bool {
        let since = self.crawl.whole_since.filter(|_| self.follow.is_some());
        let (Some(created), Some(since)) = (created, since) else { return false };
        let is_new = created > since.plus_millis(-CREATED_MILLIS)
            && created > self.moment.okta_now.plus_millis(-NEWBORN_MILLIS)
            && self.log.is_followed_since(created.plus_millis(CREATED_MILLIS));
        if is_new {
            batch.newborn.push((object, created));
        }
        is_new
    }

    fn on_app_row(&mut self, app: &App, was_known: bool, batch: &mut Batch) {
        if app.implicit_assignment == Some(true) {
            batch.gaps.push(Gap {
                scope: Scope::AppUsers(app.id.clone()),
                kind: GapKind::ImplicitAssignment,
                evidence: "the app's settings say implicitAssignment".to_owned(),
            });
        } else if app.implicit_assignment == Some(false) {
            batch.closed_gaps.push((Scope::AppUsers(app.id.clone()), GapKind::ImplicitAssignment));
        }
        let is_read = self.limits.filter.apps.wants_assignments(app) && !app.is_service_app();
        let is_new = is_read && !was_known && self.note_newborn(Key::App(app.id.clone()), app.created, batch);
        let scopes = [Scope::AppUsers(app.id.clone()), Scope::AppGroups(app.id.clone())];
        for scope in scopes {
            if self.limits.filter.apps.wants_assignments(app) {
                if self.is_crawl_open() {
                    if is_new {
                        self.lanes.push_first(scope.clone());
                    }
                    self.add_walk(scope.clone(), batch);
                }
                // Also in a crawl: it may have read the scope before it was dropped as unwanted.
                batch.needed.push(scope);
            } else if app.is_service_app() {
                // Service apps have no app users (facts 4): known to be empty without a request.
                self.add_empty(scope, Asked { at: batch.at, since: self.moment.okta_now }, batch);
            } else {
                self.holds.ended(&scope);
                batch.walks.push(WalkUpdate { scope, state: WalkState::Unwanted });
            }
        }
    }
}

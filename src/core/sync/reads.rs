//! Debts that are due become reads; reads by id are taken in.

use std::collections::{BTreeSet, VecDeque};

use super::super::batch::{Batch, UnreadKey, WalkState, WalkUpdate};
use super::super::coverage::{GapKind, ReadFailure, gap_of_failure};
use super::super::ids::{AppId, GroupId, RequestNumber, Timestamp, UserId};
use super::super::model::{Key, Scope};
use super::super::pending::{Target, When};
use super::super::plan::plan_users;
use super::{
    ByIdSeen, Call, CallId, Effect, KnownApp, Members, Pending, Selected, Selection, SyncState, gaps_of_failed_reads,
    members_of, paid,
};

/// Reads that can begin as soon as their bucket has room. By-id reads of users, groups and apps, accounts and selections
/// draw on buckets of their own (facts 6.2); each may have as many calls under way as a lane of walks.
#[derive(Debug, Default)]
pub(super) struct Ready {
    users: BTreeSet<UserId>,
    groups: BTreeSet<GroupId>,
    apps: BTreeSet<AppId>,
    accounts: BTreeSet<(AppId, UserId)>,
    assignments: BTreeSet<(AppId, GroupId)>,
    selections: VecDeque<Selected>,
    under_way: UnderWay,
}

#[derive(Debug, Default)]
struct UnderWay {
    users: usize,
    groups: usize,
    apps: usize,
    accounts: usize,
    selections: usize,
}

impl Ready {
    pub(super) fn account(&mut self, app: AppId, user: UserId) {
        self.accounts.insert((app, user));
    }

    pub(super) fn assignment(&mut self, app: AppId, group: GroupId) {
        self.assignments.insert((app, group));
    }

    pub(super) fn has_assignment(&self, key: &Key) -> bool {
        matches!(key, Key::AppGroup(app, group) if self.assignments.contains(&(app.clone(), group.clone())))
    }

    pub(super) fn user(&mut self, user: UserId) {
        self.users.insert(user);
    }

    pub(super) fn group(&mut self, group: GroupId) {
        self.groups.insert(group);
    }

    /// Whether users or groups wait for their read by id.
    pub(super) fn has_named(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty()
    }

    pub(super) fn select(&mut self, selected: Selected) {
        self.selections.push_back(selected);
    }

    fn count(&mut self, key: &Key) -> &mut usize {
        match key {
            Key::User(_) => &mut self.under_way.users,
            Key::Group(_) => &mut self.under_way.groups,
            Key::App(_) => &mut self.under_way.apps,
            Key::AppUser(..) | Key::AppGroup(..) | Key::GroupMember(..) => &mut self.under_way.accounts,
        }
    }

    pub(super) fn selection_is_over(&mut self) {
        self.under_way.selections = self.under_way.selections.saturating_sub(1);
    }
}

impl SyncState {
    /// Takes every debt that is due to where it is read.
    pub(super) fn take_due_debts(&mut self, effects: &mut Vec<Effect>) {
        let mut batch = self.batch();
        while let Some(target) = self.debts.take_due(self.moment.now) {
            match target {
                Target::User(user) => self.ready.user(user),
                Target::Group(group) => {
                    self.ready.groups.insert(group);
                }
                Target::App(app) => {
                    self.ready.apps.insert(app);
                }
                Target::AppUser(app, user) => self.accounts.wait(app, user),
                Target::AppGroup(app, group) => self.take_assignment(app, group, &mut batch),
                Target::List(scope) => self.take_list(scope, &mut batch),
                Target::Everything => self.want_crawl(),
                Target::UserApps(user) => self.ready.select(Selected::user_apps(user, Vec::new())),
                Target::UserGroups(user) => {
                    let target = Target::UserGroups(user.clone());
                    self.ready.select(Selected::new(Selection::UserGroups(user), Some(target)));
                }
                // All of them are of the type that is left out.
                target @ Target::SourceGroups(_) if self.limits.filter.groups.skip_app_groups => {
                    batch.answered.extend(self.debts.unwanted(&target));
                }
                target @ (Target::SourceGroups(_) | Target::UsersDelta | Target::GroupsDelta) => {
                    self.take_selection(target);
                }
            }
        }
        self.plan_accounts(&mut batch, effects);
        if !batch.answered.is_empty() {
            self.commit(batch, effects);
        }
        self.begin_crawl_when_due(effects);
    }

    /// Whether the scope is empty by nature: nothing of it is ever read, and nothing grows old.
    fn is_of_service_app(&self, scope: &Scope) -> bool {
        match scope {
            Scope::AppUsers(app) | Scope::AppGroups(app) => self.apps.get(app).is_some_and(|known| known.is_service),
            _ => false,
        }
    }

    /// The list that is owed as well pays the debt, or its end has the group read by id.
    fn take_assignment(&mut self, app: AppId, group: GroupId, batch: &mut Batch) {
        let scope = Scope::AppGroups(app.clone());
        let is_listed = self.debts.get(&Target::List(scope.clone())).is_some() || self.lanes.is_busy(&scope);
        if self.apps.get(&app).is_none_or(|known| !known.is_read) || !self.may_be_stored(&group) {
            // Of an app that was never seen its own read obliges to the list.
            batch.answered.extend(self.debts.unwanted(&Target::AppGroup(app.clone(), group.clone())));
            batch.settled.push((Key::AppGroup(app, group), self.next_number()));
        } else if !is_listed {
            self.ready.assignment(app, group);
        }
    }

    /// Whether the members of a group are read.
    pub(super) fn wants_members_of(&self, group: &GroupId) -> bool {
        !self.everyone.contains(group)
            && self.may_be_stored(group)
            && (self.limits.members == Members::All || self.assigned_groups.contains(group))
    }

    fn take_list(&mut self, scope: Scope, batch: &mut Batch) {
        let is_wanted = match &scope {
            Scope::Users | Scope::Groups | Scope::Apps => true,
            Scope::AppUsers(app) | Scope::AppGroups(app) => self.apps.get(app).is_none_or(|known| known.is_read),
            Scope::GroupMembers(group) => self.wants_members_of(group),
            Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => false,
        };
        // An app that was never seen is read first: its own read obliges to its lists.
        if let Scope::AppUsers(app) | Scope::AppGroups(app) = &scope
            && !self.apps.contains_key(app)
        {
            self.owe(Target::App(app.clone()), super::When::Now, "app of a list");
            batch.answered.extend(self.debts.unwanted(&Target::List(scope)));
        } else if is_wanted || self.lanes.is_busy(&scope) {
            // A walk under way is brought to its end, whoever wanted it: to drop what it has shown would leave half of it.
            self.lanes.request(scope);
        } else {
            self.holds.ended(&scope);
            match &scope {
                Scope::GroupMembers(group) => self.forget_counts(group, batch),
                Scope::AppGroups(app) => {
                    self.debts.groups_of_app(app).iter().for_each(|(target, _)| self.debts.give_back(target));
                }
                _ => {}
            }
            batch.answered.extend(self.debts.unwanted(&Target::List(scope.clone())));
            // What is stored of it grows old unnoticed: it counts as never read, so that it is read when it is wanted again.
            if !self.is_of_service_app(&scope) {
                batch.walks.push(WalkUpdate { scope, state: WalkState::Unwanted });
            }
        }
    }

    /// Begins reads while their buckets have room.
    pub(super) fn read_ready(&mut self, effects: &mut Vec<Effect>) {
        self.batch_many_users();
        let most = self.limits.in_flight_per_lane.max(1);
        while self.ready.under_way.users < most
            && let Some(user) = self.ready.users.pop_first()
        {
            self.read(Key::User(user), effects);
        }
        while self.ready.under_way.groups < most
            && let Some(group) = self.ready.groups.pop_first()
        {
            self.read(Key::Group(group), effects);
        }
        while self.ready.under_way.apps < most
            && let Some(app) = self.ready.apps.pop_first()
        {
            self.read(Key::App(app), effects);
        }
        while self.ready.under_way.accounts < most
            && let Some((app, user)) = self.ready.accounts.pop_first()
        {
            self.read(Key::AppUser(app, user), effects);
        }
        while self.ready.under_way.accounts < most
            && let Some((app, group)) = self.ready.assignments.pop_first()
        {
            self.read(Key::AppGroup(app, group), effects);
        }
        while self.ready.under_way.selections < most
            && let Some(mut selected) = self.ready.selections.pop_front()
        {
            self.ready.under_way.selections += 1;
            (selected.began, selected.asked_at) = (self.moment.okta_now, self.moment.now);
            let call = selected.next_call();
            self.call(call, Pending::Select(Box::new(selected)), effects);
        }
    }

    /// Very many changed users are cheaper read by search (facts 12.2).
    fn batch_many_users(&mut self) {
        let plan = plan_users(&self.ready.users);
        for users in plan.batches {
            for user in &users {
                self.ready.users.remove(user);
            }
            self.ready.select(Selected::new(Selection::UsersByIds(users), None));
        }
    }

    fn read(&mut self, key: Key, effects: &mut Vec<Effect>) {
        // Paid in the meantime by another read.
        if Target::of_object(&key).is_none_or(|target| self.debts.get(&target).is_none()) {
            return;
        }
        *self.ready.count(&key) += 1;
        self.call(Call::Read(key.clone()), Pending::Read(key, self.moment.now), effects);
    }

    pub(super) fn on_by_id(&mut self, call: CallId, seen: ByIdSeen, effects: &mut Vec<Effect>) {
        let is_by_id = |pending: &Pending| {
            matches!(pending, Pending::Unlisted(_) | Pending::Read(..) | Pending::Probe(_) | Pending::EmptyProbe(_))
        };
        match self.answered(call, is_by_id) {
            Some(Pending::Unlisted(key)) => self.take_in(&key, seen, self.moment.now, effects),
            Some(Pending::Read(key, asked_at)) => {
                let count = self.ready.count(&key);
                *count = count.saturating_sub(1);
                self.take_in(&key, seen, asked_at, effects);
            }
            Some(Pending::Probe(probe)) => self.on_probed(probe, &seen, effects),
            Some(Pending::EmptyProbe(selected)) => self.on_empty_probe(*selected, seen, effects),
            _ => {}
        }
    }

    /// A read by id is the authoritative source (facts 11).
    fn take_in(&mut self, key: &Key, seen: ByIdSeen, asked_at: Timestamp, effects: &mut Vec<Effect>) {
        let at = seen.at();
        let mut batch = self.batch();
        self.credential_lives(&mut batch);
        batch.at = at;
        batch.is_reread = true;
        let target = Target::of_object(key);
        let mut is_gone = false;
        if matches!(seen, ByIdSeen::NotFound(_)) {
            let has_failed = |target: &Target| self.debts.get(target).is_some_and(|read| read.attempts > 0);
            batch.settled.extend(target.as_ref().is_some_and(has_failed).then(|| (key.clone(), at)));
            let works = target.as_ref().and_then(|target| self.debts.works_though_not_found(target));
            batch.closed_gaps.extend(works.into_iter().flat_map(gaps_of_failed_reads));
        }
        match seen {
            ByIdSeen::Found(row, _) if row.key() == *key => {
                if let Key::AppGroup(app, _) = key {
                    self.owe(
                        Target::List(Scope::AppGroups(app.clone())),
                        When::Now,
                        "it does not show a group of the app",
                    );
                }
                self.on_row(*row, &mut batch);
                if let Some(target) = &target {
                    self.on_found_again(key, target, &mut batch);
                }
            }
            ByIdSeen::Found(..) => {
                self.commit_if_any(batch, effects);
                let detail = "the answer to a read by id shows another object".to_owned();
                self.on_read_failed(key, &ReadFailure::Failed { detail }, effects);
                return;
            }
            ByIdSeen::NotFound(_) if matches!(key, Key::AppGroup(..)) => {
                if !self.is_assignment_gone(key) {
                    self.commit_if_any(batch, effects);
                    return;
                }
            }
            ByIdSeen::NotFound(_) => {
                is_gone = match Scope::of_object(key) {
                    Some(object) => self.on_object_not_found(&object, at),
                    None => self.on_account_not_found(key, at, &mut batch),
                };
                if is_gone && Scope::of_object(key).is_some() {
                    // For good, whatever a list has shown that was asked for since.
                    batch.at = self.next_number();
                }
                if !is_gone {
                    if let Some(target) = &target {
                        self.accounts.unblock(target);
                    }
                    self.commit_if_any(batch, effects);
                    return;
                }
                batch.removals.push(key.clone());
                self.note_gone(key, &mut batch);
            }
        }
        if let Some(target) = target {
            if is_gone {
                batch.answered.push(paid(target, batch.at));
            } else {
                self.settle(target, at, asked_at, &mut batch);
            }
        }
        self.commit(batch, effects);
    }

    /// A read by id has found it; whatever was said of its end does not hold.
    fn on_found_again(&mut self, key: &Key, target: &Target, batch: &mut Batch) {
        let was_missed = self.debts.get(target).is_some_and(|read| read.absent_since.is_some());
        if was_missed && let Some(object @ (Scope::User(_) | Scope::Group(_))) = Scope::of_object(key) {
            self.read_again(object, batch);
        }
        // A batch that is not stored yet may lead the store to say that it is gone.
        if self.debts.found(target, batch.at) || !self.uncommitted.is_empty() {
            batch.found.push(paid(target.clone(), batch.at));
        }
    }

    /// A read did not find the assignment of a group: it has ended, or the group is hidden. Returns whether that is settled;
    /// while it is open what became of the group, the assignment is asked for again.
    fn is_assignment_gone(&mut self, key: &Key) -> bool {
        let Key::AppGroup(_, group) = key else { return false };
        let target = Target::of_object(key);
        let Some(debt) = target.as_ref().and_then(|target| self.debts.get(target)) else { return true };
        let (is_first, since) = (debt.absent_since.is_none(), debt.absent_since.unwrap_or(self.moment.now));
        let object = Scope::Group(group.clone());
        if self.absent.is_departed(&object) {
            return true;
        }
        if is_first {
            self.owe(Target::Group(group.clone()), When::Now, "its assignment is not found");
        }
        let is_open = self.is_absent(&object) || self.debts.get(&Target::Group(group.clone())).is_some();
        if !is_open {
            return true;
        }
        let patience = self.debts.patience();
        let due_at = match is_first {
            true => self.moment.now.plus_millis(patience.debounce_millis),
            // Nothing else would tell of it when the group is there again.
            false if self.absent.is_unseen(&object) => self.next_look(since),
            false => self.moment.now.plus_millis(patience.later_millis),
        };
        if let Some(target) = &target {
            self.debts.not_found(target, self.moment.now, due_at);
        }
        false
    }

    /// A read did not find an account. Returns whether it is known to be gone: an event has told so, or both its user and its
    /// app have been found by reads of their own since it was first missed.
    fn on_account_not_found(&mut self, key: &Key, at: RequestNumber, batch: &mut Batch) -> bool {
        let Key::AppUser(app, user) = key else { return false };
        let target = Target::AppUser(app.clone(), user.clone());
        let Some(debt) = self.debts.get(&target).cloned() else { return false };
        let objects = [Scope::User(user.clone()), Scope::App(app.clone())];
        if debt.announced || objects.iter().any(|object| self.absent.is_departed(object)) {
            return true;
        }
        if objects.iter().any(|object| self.absent.is_unseen(object)) {
            // What is open about them is open about it: their gaps speak for it, and their return brings it back.
            batch.answered.push(paid(target, at));
            return false;
        }
        if objects.iter().any(|object| self.is_absent(object)) {
            let due_at = self.moment.now.plus_millis(self.debts.patience().later_millis);
            self.debts.not_found(&target, self.moment.now, due_at);
            return false;
        }
        let parents = [Target::User(user.clone()), Target::App(app.clone())];
        let is_looked_into = parents.iter().all(|parent| self.debts.get(parent).is_none());
        match debt.absent_since {
            Some(_) if is_looked_into => true,
            Some(_) => {
                let due_at = self.moment.now.plus_millis(self.debts.patience().later_millis);
                self.debts.not_found(&target, self.moment.now, due_at);
                false
            }
            None => {
                for parent in parents {
                    self.owe(parent, When::Now, "its account is not found");
                }
                let due_at = self.moment.now.plus_millis(self.debts.patience().debounce_millis);
                self.debts.not_found(&target, self.moment.now, due_at);
                false
            }
        }
    }

    /// What hangs on an object that is gone needs no read of its own.
    pub(super) fn pay_what_is_gone(&mut self, key: &Key, batch: &mut Batch) {
        let at = batch.at;
        let mut targets = Vec::new();
        match key {
            Key::User(user) => {
                targets.extend([Target::UserApps(user.clone()), Target::UserGroups(user.clone())]);
                targets.extend(self.debts.accounts_of_user(user));
            }
            Key::Group(group) => {
                targets.push(members_of(group));
                targets.extend(self.debts.assignments_of_group(group));
                self.note_group(group, false);
                self.forget_counts(group, batch);
                self.holds.ended(&Scope::GroupMembers(group.clone()));
            }
            Key::App(app) => {
                self.holds.ended(&Scope::AppUsers(app.clone()));
                self.holds.ended(&Scope::AppGroups(app.clone()));
                targets.extend(self.debts.groups_of_app(app).into_iter().map(|(target, _)| target));
                targets.push(Target::List(Scope::AppUsers(app.clone())));
                targets.push(Target::List(Scope::AppGroups(app.clone())));
                // The groups that it brought may outlive it: they are still asked for.
                targets.extend(self.debts.accounts_of_app(app));
                // Events about it may still come; they are answered without another read.
                self.apps.insert(app.clone(), KnownApp { is_read: false, is_active: false, is_service: false });
                self.nets.forget(app);
            }
            Key::AppUser(..) | Key::AppGroup(..) | Key::GroupMember(..) => {}
        }
        targets.retain(|target| self.debts.get(target).is_some());
        batch.answered.extend(targets.into_iter().map(|target| paid(target, at)));
    }

    pub(super) fn on_read_failed(&mut self, key: &Key, failure: &ReadFailure, effects: &mut Vec<Effect>) {
        let count = self.ready.count(key);
        *count = count.saturating_sub(1);
        let mut batch = self.batch();
        if let Some(target) = Target::of_object(key).filter(|target| self.debts.get(target).is_some()) {
            // Of an app that is gone or not wanted nothing can be missing; nor of what another read has answered meanwhile.
            if !self.is_of_unread_app(&key.scope()) {
                self.note_unread(key, failure, &mut batch);
            }
            self.debts.failed(&target, self.moment.now, 0);
            self.accounts.unblock(&target);
        }
        self.commit(batch, effects);
    }

    /// A row could not be read by itself. Where Okta refuses, that is so of its whole collection; else it is the matter of this row alone.
    pub(super) fn note_unread(&self, key: &Key, failure: &ReadFailure, batch: &mut Batch) {
        match gap_of_failure(&key.scope(), failure) {
            Some(gap) if gap.kind == GapKind::Failed => {
                // Whatever was asked for after the last hint has shown it as well as this read would have.
                let hint = Target::of_object(key).and_then(|target| self.debts.get(&target)).map(|read| read.since);
                let since = hint.unwrap_or(self.moment.newest);
                batch.unread.push(UnreadKey { key: key.clone(), evidence: gap.evidence, since });
            }
            gap => batch.gaps.extend(gap),
        }
    }
}

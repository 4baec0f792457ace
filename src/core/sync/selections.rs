//! Lists that are no scopes: what changed lately, the groups of an app, the apps or groups of a user.
//!
//! A selection never says that something does not exist, except for accounts of which an event said that they have ended: what
//! it leaves out is asked for by id.

use std::collections::BTreeSet;

use super::super::batch::{Batch, Delta};
use super::super::coverage::{ReadFailure, gap_of_failure};
use super::super::ids::{AppId, GroupId, RequestNumber, Timestamp, UserId};
use super::super::model::{Group, GroupMember, Key, Quarantined, Row, Scope};
use super::super::pending::{Target, When};
use super::crawl::Asked;
use super::endless::{Length, Pages, hash, row_hash, rows_max};
use super::holds::{Probe, ProbeResult};
use super::walk::WALK_PAGES_MAX;
use super::{
    ByIdSeen, Call, CallId, Effect, Members, PageSeen, Pending, Selection, SyncState, UserAppSeen, members_of,
};

/// Why something is owed after a record that could not be read.
const BAD_RECORD: &str = "its record could not be read";

/// How far before the last delta walk the next one begins, in milliseconds: search results lag (facts 1.4).
const DELTA_OVERLAP_MILLIS: i64 = 60_000;

/// Pages of what one user has: 200,000 apps or groups. All of them are kept until the last page is there.
const USER_PAGES_MAX: u32 = 1_000;

/// How often a selection may start again before it is given up.
const RESTARTS_MAX: u8 = 5;

/// A selection under way.
#[derive(Debug)]
pub(super) struct Selected {
    selection: Selection,
    /// The debt that it pays; beside those that follow from the selection itself.
    target: Option<Target>,
    from: Option<RequestNumber>,
    pub(super) began: Timestamp,
    /// The same by our clock.
    pub(super) asked_at: Timestamp,
    pages: u32,
    rows: u64,
    restarts: u8,
    limit: Option<u32>,
    next: Option<String>,
    ends: Pages,
    /// Apps of the user that were shown.
    user_apps: Vec<UserAppSeen>,
    /// Users that were shown.
    users: BTreeSet<UserId>,
    /// Accounts that events named: their absence is believed.
    accounts: Vec<AppId>,
    /// Accounts of the user that are stored.
    stored: BTreeSet<AppId>,
    /// The missing membership that is probed, and the group that is looked for.
    probe: Option<(Probe, GroupId)>,
}

impl Selected {
    pub(super) fn new(selection: Selection, target: Option<Target>) -> Self {
        Self {
            selection,
            target,
            from: None,
            began: Timestamp::default(),
            asked_at: Timestamp::default(),
            pages: 0,
            rows: 0,
            restarts: 0,
            limit: None,
            next: None,
            ends: Pages::default(),
            user_apps: Vec::new(),
            users: BTreeSet::new(),
            accounts: Vec::new(),
            stored: BTreeSet::new(),
            probe: None,
        }
    }

    /// All accounts of a user, of which events named those in `accounts`.
    pub(super) fn user_apps(user: UserId, accounts: Vec<AppId>) -> Self {
        let target = Target::UserApps(user.clone());
        Self { accounts, ..Self::new(Selection::UserApps(user), Some(target)) }
    }

    /// Whether a user is still in the group.
    pub(super) fn probe(selection: Selection, probe: Probe, group: GroupId) -> Self {
        Self { probe: Some((probe, group)), ..Self::new(selection, None) }
    }

    pub(super) fn next_call(&self) -> Call {
        Call::Select { selection: self.selection.clone(), next: self.next.clone(), limit: self.limit }
    }

    /// Where a failure belongs.
    pub(super) fn scope(&self) -> Scope {
        match &self.selection {
            Selection::UsersChanged(_) | Selection::UsersByIds(_) => Scope::Users,
            Selection::GroupsChanged(_) | Selection::GroupsOfApp(_) | Selection::UserGroups(_) => Scope::Groups,
            Selection::UserApps(_) => Scope::Apps,
        }
    }

    /// Takes in how much the newest page showed.
    fn look_at(&mut self, page: &PageSeen) -> usize {
        self.pages += 1;
        let apps = page.user_apps.iter().map(|seen| hash(seen.app.as_str()));
        self.ends.look_at(page.rows.iter().map(row_hash).chain(apps));
        let rows = page.rows.len() + page.user_apps.len();
        self.rows += rows as u64;
        rows
    }

    /// Takes in the link of a page of so many rows; no such list has more than `rows_max`. `Err` when the list does not end.
    fn go_to(&mut self, next: String, page_rows: usize, rows_max: Option<u64>) -> Result<(), String> {
        let pages_max = match self.selection {
            Selection::UserApps(_) | Selection::UserGroups(_) => USER_PAGES_MAX,
            _ => WALK_PAGES_MAX,
        };
        self.ends.go_on(&next, Length { pages: self.pages, pages_max, page_rows, rows: self.rows, rows_max })?;
        self.next = Some(next);
        Ok(())
    }

    /// Prepares it to start again, if that helps.
    fn restart(&mut self, failure: &ReadFailure) -> bool {
        match failure {
            ReadFailure::CursorGone if self.next.is_some() => {}
            ReadFailure::RestartWalk { limit } => self.limit = Some(*limit),
            _ => return false,
        }
        self.restarts += 1;
        self.next = None;
        self.from = None;
        (self.pages, self.rows) = (0, 0);
        self.ends = Pages::default();
        self.user_apps.clear();
        self.restarts <= RESTARTS_MAX
    }
}

impl SyncState {
    /// A debt that is paid by a selection.
    pub(super) fn take_selection(&mut self, target: Target) {
        // Where a list has never been read to its end, what is stored was read since the last crawl began.
        let since = |delta| {
            let began = self.nets.deltas.get(&delta).copied().or(self.log.read_since());
            began.map(|at: Timestamp| at.plus_millis(-DELTA_OVERLAP_MILLIS))
        };
        let selection = match &target {
            Target::SourceGroups(app) => Some(Selection::GroupsOfApp(app.clone())),
            Target::UsersDelta => since(Delta::Users).map(Selection::UsersChanged),
            Target::GroupsDelta => since(Delta::Groups).map(Selection::GroupsChanged),
            _ => None,
        };
        match selection {
            Some(selection) => self.ready.select(Selected::new(selection, Some(target))),
            // Nothing was ever read: the crawl that does it comes anyway.
            None => self.debts.failed(&target, self.moment.now, DELTA_OVERLAP_MILLIS),
        }
    }

    pub(super) fn on_selected(&mut self, mut selected: Selected, page: PageSeen, effects: &mut Vec<Effect>) {
        let from = *selected.from.get_or_insert(page.at);
        let page_rows = selected.look_at(&page);
        let rows_max = rows_max(&selected.scope(), self.evidence_of_length(&selected.scope()));
        let mut batch = self.batch();
        self.credential_lives(&mut batch);
        batch.at = page.at;
        batch.is_reread = selected.probe.is_none() && matches!(selected.selection, Selection::UserGroups(_));
        batch.quarantined = page.quarantined;
        // Nobody reads these lists, so that nothing can be missing in them.
        batch.quarantined.retain(|record| !self.is_of_unread_app(&record.scope));
        self.note_stats(page.group_stats, Asked { at: page.at, since: selected.began });
        selected.user_apps.extend(page.user_apps);
        if let Some((probe, group)) = selected.probe.clone() {
            self.commit_if_any(batch, effects);
            self.on_groups_of_member(selected, &probe, &group, &page.rows, page.next, effects);
            return;
        }
        for row in page.rows {
            self.on_selected_row(&mut selected, row, &mut batch);
        }
        for record in &batch.quarantined {
            self.on_bad_record(&selected.selection, record);
        }
        if let Some(next) = page.next {
            if let Err(detail) = selected.go_to(next, page_rows, rows_max) {
                self.commit(batch, effects);
                self.on_selection_failed(selected, &ReadFailure::Failed { detail }, effects);
                return;
            }
            self.commit_if_any(batch, effects);
            let call = selected.next_call();
            self.call(call, Pending::Select(Box::new(selected)), effects);
            return;
        }
        if let Selection::UserApps(user) = &selected.selection {
            let user = user.clone();
            self.commit_if_any(batch, effects);
            let id = CallId(self.next_call);
            self.next_call += 1;
            self.in_flight.insert(id, Pending::Select(Box::new(selected)));
            effects.push(Effect::LoadUserApps(id, user));
            return;
        }
        self.ready.selection_is_over();
        self.finish_selection(selected, from, &mut batch);
        self.commit(batch, effects);
    }

    fn on_selected_row(&mut self, selected: &mut Selected, row: Row, batch: &mut Batch) {
        match (&selected.selection, &row) {
            (Selection::GroupsChanged(since), Row::Group(group))
                if group.last_membership_updated.is_some_and(|at| at >= *since) =>
            {
                self.owe_members(group, "members changed", batch);
            }
            (Selection::GroupsOfApp(_), Row::Group(group)) => self.owe_members(group, "groups imported", batch),
            (Selection::UserGroups(user), Row::Group(group)) if self.wants_members(group) => {
                let member = GroupMember { group: group.id.clone(), user: user.clone() };
                self.on_row(row, batch);
                batch.rows.push(Row::GroupMember(member));
                return;
            }
            (_, Row::User(user)) => {
                selected.users.insert(user.id.clone());
            }
            _ => {}
        }
        self.on_row(row, batch);
    }

    fn wants_members(&self, group: &Group) -> bool {
        let is_wanted = self.limits.members == Members::All || self.assigned_groups.contains(&group.id);
        is_wanted && !group.is_everyone() && self.limits.filter.groups.wants(group)
    }

    /// A record that cannot be read: nothing else would tell what has changed in it, or who is in the group.
    fn on_bad_record(&mut self, selection: &Selection, record: &Quarantined) {
        let id = record.id.as_deref();
        match (selection, &record.scope) {
            (Selection::UsersChanged(_), Scope::Users) => match id.map(UserId::new) {
                Some(Ok(user)) => self.owe(Target::User(user), When::Now, BAD_RECORD),
                // It may be anybody.
                _ => self.owe(Target::List(Scope::Users), When::Now, BAD_RECORD),
            },
            (_, Scope::Groups) => match id.map(GroupId::new) {
                Some(Ok(group)) => {
                    if self.wants_members_of(&group) {
                        self.owe(members_of(&group), When::Now, BAD_RECORD);
                    }
                    self.owe(Target::Group(group), When::Now, BAD_RECORD);
                }
                _ => self.owe(Target::List(Scope::Groups), When::Now, BAD_RECORD),
            },
            _ => {}
        }
    }

    fn owe_members(&mut self, group: &Group, cause: &str, batch: &mut Batch) {
        if !self.wants_members(group) {
            return;
        }
        match self.crawl.empty_groups.get(&group.id) {
            Some(asked) if !self.is_crawl_open() => {
                let asked = *asked;
                self.add_empty(Scope::GroupMembers(group.id.clone()), asked, batch);
            }
            _ => self.owe(members_of(&group.id), When::Now, cause),
        }
    }

    fn finish_selection(&mut self, selected: Selected, from: RequestNumber, batch: &mut Batch) {
        match &selected.selection {
            Selection::UsersChanged(_) => {
                self.note_delta(Delta::Users, selected.began, batch);
                self.changed_users_read();
            }
            Selection::GroupsChanged(_) => self.note_delta(Delta::Groups, selected.began, batch),
            Selection::UsersByIds(users) => {
                for user in users {
                    if selected.users.contains(user) {
                        self.settle(Target::User(user.clone()), from, selected.asked_at, batch);
                    } else {
                        // Not in the index: gone, or not yet there. Its own read tells.
                        self.ready.user(user.clone());
                    }
                }
            }
            _ => {}
        }
        if let Some(target) = selected.target {
            self.settle(target, from, selected.asked_at, batch);
        }
    }

    /// A page of the groups of a user who is missing from a held list.
    fn on_groups_of_member(
        &mut self,
        mut selected: Selected,
        probe: &Probe,
        group: &GroupId,
        rows: &[Row],
        next: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let shows = rows.iter().any(|row| matches!(row, Row::Group(shown) if shown.id == *group));
        match next {
            _ if shows => self.on_probe(probe, ProbeResult::There, effects),
            None => self.on_probe(probe, ProbeResult::Gone(None), effects),
            Some(next) => match selected.go_to(next, rows.len(), None) {
                Ok(()) => {
                    let call = selected.next_call();
                    self.call(call, Pending::Select(Box::new(selected)), effects);
                }
                Err(_) => self.on_probe(probe, ProbeResult::There, effects),
            },
        }
    }

    pub(super) fn on_user_apps_stored(&mut self, call: CallId, stored: BTreeSet<AppId>, effects: &mut Vec<Effect>) {
        let Some(Pending::Select(mut selected)) = self.answered(call, |pending| matches!(pending, Pending::Select(_)))
        else {
            return;
        };
        let Selection::UserApps(user) = selected.selection.clone() else { return };
        selected.stored = stored;
        let sample = selected.stored.iter().find(|app| selected.accounts.contains(app)).or(selected.stored.first());
        if selected.user_apps.is_empty()
            && let Some(app) = sample.cloned()
        {
            // An empty list is hearsay until one of the accounts is known to be gone (facts 7.2).
            let key = Key::AppUser(app, user);
            self.call(Call::Read(key), Pending::EmptyProbe(selected), effects);
            return;
        }
        self.apply_user_apps(*selected, &user, true, effects);
    }

    pub(super) fn on_empty_probe(&mut self, selected: Selected, seen: ByIdSeen, effects: &mut Vec<Effect>) {
        if let Selection::UserApps(user) = selected.selection.clone() {
            self.apply_user_apps(selected, &user, matches!(seen, ByIdSeen::NotFound(_)), effects);
        }
    }

    /// Accounts that were shown are stored; those that were not are removed where an event said that they have ended, else
    /// asked for by id.
    fn apply_user_apps(&mut self, selected: Selected, user: &UserId, is_believed: bool, effects: &mut Vec<Effect>) {
        self.ready.selection_is_over();
        let from = selected.from.unwrap_or_default();
        let mut batch = self.batch();
        batch.at = from;
        batch.is_reread = true;
        let mut shown = BTreeSet::new();
        for seen in selected.user_apps {
            let target = Target::AppUser(seen.app.clone(), user.clone());
            shown.insert(seen.app.clone());
            match (self.apps.get(&seen.app), seen.app_user) {
                (None, _) => {
                    self.owe(Target::App(seen.app), When::Now, "app of a user");
                    self.debts.give_back(&target);
                }
                (Some(known), _) if !known.is_read => batch.answered.extend(self.debts.unwanted(&target)),
                (Some(_), Some(app_user)) => {
                    batch.rows.push(Row::AppUser(app_user));
                    self.settle(target, from, selected.asked_at, &mut batch);
                }
                (Some(_), None) => self.read_account(seen.app, user, "account not in the answer"),
            }
        }
        let absent = selected.stored.iter().chain(&selected.accounts).filter(|app| !shown.contains(*app));
        for app in absent.collect::<BTreeSet<_>>() {
            // Whether the list shows inactive apps is not documented.
            let is_active = self.apps.get(app).is_some_and(|known| known.is_active);
            let target = Target::AppUser(app.clone(), user.clone());
            // An event that had arrived before the list was asked for says that it has ended.
            let is_announced = self.debts.get(&target).is_some_and(|read| read.announced && read.since < from);
            if is_believed && is_active && is_announced {
                batch.removals.push(Key::AppUser(app.clone(), user.clone()));
                self.settle(target, from, selected.asked_at, &mut batch);
            } else {
                self.read_account(app.clone(), user, "not among the user's apps");
            }
        }
        if let Some(target) = selected.target {
            self.settle(target, from, selected.asked_at, &mut batch);
        }
        self.commit(batch, effects);
    }

    /// An account that has to be read by itself, whether it is owed already or not.
    fn read_account(&mut self, app: AppId, user: &UserId, cause: &str) {
        let target = Target::AppUser(app.clone(), user.clone());
        if self.debts.get(&target).is_some() {
            self.ready.account(app, user.clone());
        } else {
            self.owe(target, When::Now, cause);
        }
    }

    pub(super) fn on_selection_failed(
        &mut self,
        mut selected: Selected,
        failure: &ReadFailure,
        effects: &mut Vec<Effect>,
    ) {
        if let Some((probe, _)) = &selected.probe {
            let result = match (failure, &selected.selection) {
                // Deleted, or not visible: then the membership may be there.
                (ReadFailure::NotFound { .. }, Selection::UserGroups(user)) => {
                    let user = Scope::User(user.clone());
                    let is_departed = self.absent.is_departed(&user);
                    if is_departed { ProbeResult::Gone(None) } else { ProbeResult::Unclear(user) }
                }
                _ => ProbeResult::There,
            };
            self.on_probe(&probe.clone(), result, effects);
            return;
        }
        if selected.restart(failure) {
            let call = selected.next_call();
            self.call(call, Pending::Select(Box::new(selected)), effects);
            return;
        }
        self.ready.selection_is_over();
        let mut batch = self.batch();
        match &selected.selection.clone() {
            Selection::UsersChanged(_) if selected.target.is_none() => self.changed_users_read(),
            // There is another way to read each of them.
            Selection::UsersByIds(users) => users.iter().for_each(|user| self.ready.user(user.clone())),
            Selection::UserApps(user) if !selected.accounts.is_empty() => {
                for app in &selected.accounts {
                    self.ready.account(app.clone(), user.clone());
                }
            }
            // The user is gone, or not shown: a read by id is the way to find out, and pays for this one.
            Selection::UserApps(user) | Selection::UserGroups(user)
                if matches!(failure, ReadFailure::NotFound { .. }) =>
            {
                self.owe(Target::User(user.clone()), When::Now, "apps or groups are not found");
                if let Some(target) = selected.target.take() {
                    batch.answered.extend(self.debts.unwanted(&target));
                    self.accounts.unblock(&target);
                }
            }
            _ if selected.target.as_ref().is_some_and(|target| self.debts.get(target).is_some()) => {
                batch.gaps.extend(gap_of_failure(&selected.scope(), failure));
            }
            // Answered by another read meanwhile.
            _ => {}
        }
        if let Some(target) = &selected.target {
            self.debts.failed(target, self.moment.now, 0);
            self.accounts.unblock(target);
        }
        self.commit(batch, effects);
    }
}

//! When a follower is quiet, and what must hold then: the store shows the org as the settings want it.
//!
//! Entry points: [`Follower::is_quiet`], [`Follower::check_quiet`].

use std::collections::BTreeMap;

use super::super::{Call, Members};
use super::follower::Follower;
use crate::core::coverage::GapKind;
use crate::core::filter::UserVerdict;
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::{Key, Row, Scope};

impl Follower {
    /// Whether everything that happened has been seen, and nothing is left to do but polls.
    pub(super) fn is_quiet(&self) -> bool {
        let Some(state) = &self.state else { return false };
        let only_polls = || self.flights.iter().all(|flight| matches!(flight.call, Call::PollLog(_)));
        let is_read = || self.books.cursor.as_ref().is_some_and(|cursor| self.world.is_read_to_its_end(cursor));
        self.commits.is_empty()
            && state.log_status().failing_since.is_none()
            && state.log_status().polled_at.is_some()
            && self.books.pending.is_empty()
            && !state.is_crawling()
            && state.log_status().held == 0
            && state.log_status().debts == 0
            && state.miscounted_for_tests().is_empty()
            && only_polls()
            && is_read()
    }

    /// What must hold when it is quiet: the store shows the org.
    pub(super) fn check_quiet(&self) {
        self.check_settled();
        let (expected, stored) = (self.expected(), self.shown());
        for (key, row) in &expected {
            assert_eq!(stored.get(key), Some(row), "{key:?}: stored, then the org's");
        }
        let surplus: Vec<&Key> = stored.keys().filter(|key| !expected.contains_key(key)).collect();
        assert!(surplus.is_empty(), "stored, but not of the org: {surplus:?}");
    }

    /// What must hold when it is quiet, also where something was concealed: nothing is owed or open, and nothing is stored that
    /// is not of the org and does not hang on what was concealed.
    pub(super) fn check_settled(&self) {
        assert_eq!(self.state().debts_for_tests().0, Vec::new(), "debts");
        let scopes = self.scopes();
        // What is gone is read no more; a gap that came with its last answers can outlive it until the next crawl.
        let is_open = |(scope, _): &&(Scope, GapKind)| *scope == Scope::Log || scopes.contains(scope);
        assert_eq!(self.books.gaps.iter().filter(is_open).collect::<Vec<_>>(), Vec::<&(Scope, GapKind)>::new(), "gaps");
        let (expected, stored) = (self.expected(), self.shown());
        let was_concealed = |key: &&Key| {
            let objects = match key {
                Key::User(user) => vec![Scope::User(user.clone())],
                Key::Group(group) => vec![Scope::Group(group.clone())],
                Key::App(app) => vec![Scope::App(app.clone())],
                Key::GroupMember(group, user) => vec![Scope::Group(group.clone()), Scope::User(user.clone())],
                Key::AppUser(app, user) => vec![Scope::App(app.clone()), Scope::User(user.clone())],
                Key::AppGroup(app, group) => vec![Scope::App(app.clone()), Scope::Group(group.clone())],
            };
            objects.iter().any(|object| self.concealed_once.contains(object))
        };
        let surplus = stored.keys().filter(|key| !expected.contains_key(key) && !was_concealed(key));
        let surplus: Vec<&Key> = surplus.collect();
        assert!(surplus.is_empty(), "stored, but not of the org: {surplus:?}");
    }

    /// What must hold whenever it is quiet, be it in the middle of the storm: of whatever is not as in the org a gap says so.
    pub(super) fn check_told(&self) {
        let (expected, stored) = (self.expected(), self.shown());
        let differs = |key: &&Key| stored.get(*key) != expected.get(*key);
        for key in expected.keys().chain(stored.keys()).filter(differs) {
            let mut places = places_of(key);
            if let (Members::Assigned, Key::GroupMember(group, _)) = (self.limits.members, key) {
                // Who does not see the assignment does not read the members.
                let apps = self.world.app_groups.keys().filter(|(_, assigned)| assigned == group).map(|(app, _)| app);
                places.extend(apps.flat_map(|app| [Scope::App(app.clone()), Scope::AppGroups(app.clone())]));
            }
            let is_told = self.books.gaps.iter().any(|(scope, _)| places.contains(scope));
            // One crawl that fails to read something leads to nothing below it: of what was never read that is known.
            let book = self.books.scopes.get(&key.scope());
            let is_unread = self.has_left_out && book.is_none_or(|book| book.completed_at.is_none());
            let was_concealed = places.iter().any(|place| self.concealed_once.contains(place));
            assert!(
                is_told || is_unread || was_concealed,
                "{key:?}: nothing says that it may be otherwise: {:?}",
                self.books.gaps
            );
        }
    }

    fn shown(&self) -> BTreeMap<Key, Row> {
        let mut stored: BTreeMap<Key, Row> =
            self.books.rows.iter().map(|(key, (_, row))| (key.clone(), comparable(row))).collect();
        if self.limits.members == Members::Assigned {
            // Nobody follows the members of a group that is assigned to no app any more, until the next crawl drops them.
            stored.retain(|key, _| !matches!(key, Key::GroupMember(group, _) if !self.is_followed(group)));
        }
        stored
    }

    fn is_read(&self, app: &AppId) -> bool {
        let filter = &self.limits.filter.apps;
        self.world.apps.get(app).is_some_and(|app| filter.wants(app) && filter.wants_assignments(app))
    }

    fn is_followed(&self, group: &GroupId) -> bool {
        match self.limits.members {
            Members::All => true,
            Members::Assigned => self.world.app_groups.keys().any(|(app, other)| self.is_read(app) && other == group),
        }
    }

    /// The rows that the settings want.
    fn expected(&self) -> BTreeMap<Key, Row> {
        let filter = &self.limits.filter;
        let wants_user = |user: &UserId| {
            let user = self.world.users.get(user);
            user.is_some_and(|user| filter.users.judge(user) == UserVerdict::Wanted)
        };
        let wants_group =
            |group: &GroupId| self.world.groups.get(group).is_some_and(|group| filter.groups.wants(group));
        let is_wanted = |row: &Row| match row {
            Row::User(user) => wants_user(&user.id),
            Row::Group(group) => wants_group(&group.id),
            Row::App(app) => filter.apps.wants(app),
            Row::GroupMember(member) => {
                self.is_followed(&member.group) && wants_group(&member.group) && wants_user(&member.user)
            }
            Row::AppUser(account) => self.is_read(&account.app) && wants_user(&account.user),
            Row::AppGroup(assigned) => self.is_read(&assigned.app) && wants_group(&assigned.group),
        };
        let without_dropped = |row: Row| match row {
            Row::AppUser(mut account) if filter.groups.is_active() => {
                account.via_group = account.via_group.filter(&wants_group);
                Row::AppUser(account)
            }
            row => row,
        };
        let rows = self
            .scopes()
            .into_iter()
            .flat_map(|scope| self.world.all_rows(&scope))
            .filter(is_wanted)
            .map(without_dropped);
        rows.map(|row| (row.key(), comparable(&row))).collect()
    }
}

/// Where a gap may stand that is about the row.
fn places_of(key: &Key) -> Vec<Scope> {
    let (user, group, app) = (|user: &UserId| Scope::User(user.clone()), Scope::Group, Scope::App);
    let objects = match key {
        Key::User(of) => vec![user(of)],
        Key::Group(of) => vec![group(of.clone())],
        Key::App(of) => vec![app(of.clone())],
        Key::GroupMember(of, who) => vec![Scope::Groups, group(of.clone()), Scope::Users, user(who)],
        Key::AppUser(of, who) => vec![Scope::Apps, app(of.clone()), Scope::Users, user(who)],
        Key::AppGroup(of, assigned) => vec![Scope::Apps, app(of.clone()), Scope::Groups, group(assigned.clone())],
    };
    objects.into_iter().chain([Scope::Log, key.scope()]).collect()
}

/// The row without what membership events change beside the members: it is not read again for that.
fn comparable(row: &Row) -> Row {
    let mut row = row.clone();
    if let Row::Group(group) = &mut row {
        group.last_membership_updated = None;
    }
    row
}

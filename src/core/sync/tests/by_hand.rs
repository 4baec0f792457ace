//! What tests by table do with a follower: they say what happens, call by call.

use super::super::{Call, Input, ReadFailure, Selection};
use super::driver::NOW;
use super::follower::{Chances, Flight, Follower, Stage, all_limits, calm_limits};
use super::org::{EXCLUDED, app_id, group_id, user_id};
use super::world::World;
use crate::core::event::LogTarget;
use crate::core::ids::{AppId, GroupId, RequestNumber, UserId};
use crate::core::model::{Key, Scope};
use crate::core::pending::Target;
use crate::core::reconcile::Brake;
use crate::core::sync::{FollowLimits, Limits};

/// Things that happen before a small org counts as never quiet.
const ACTS_MAX: usize = 20_000;

/// The users, the group, and the apps of [`small`].
pub(super) const USERS: usize = 6;

pub(super) fn user(n: usize) -> UserId {
    user_id(n)
}

pub(super) fn the_group() -> GroupId {
    group_id(20)
}

/// An app in which users 1 to 3 have accounts, and to which the group is assigned.
pub(super) fn the_app() -> AppId {
    app_id(30)
}

/// Another one, with an account of user 1.
pub(super) fn other_app() -> AppId {
    app_id(31)
}

pub(super) fn small_world() -> World {
    let mut world = World::new(NOW);
    for n in 1..=USERS {
        world.add_user_as(n);
    }
    world.add_group_as(20, None);
    world.add_app_as(30, "jira");
    world.add_app_as(31, "salesforce");
    world.add_app_as(32, EXCLUDED);
    for n in 1..=3 {
        world.set_member(&the_group(), &user(n), true);
        world.give(&the_app(), &user(n), None);
    }
    world.give(&other_app(), &user(1), None);
    world.assign(&the_app(), &the_group());
    world
}

/// A follower that has read the small org and waits for events.
pub(super) fn small() -> Follower {
    small_with(all_limits(), calm_limits())
}

pub(super) fn small_with(limits: Limits, follow: FollowLimits) -> Follower {
    let mut follower = Follower::new(small_world(), limits, follow, Brake::default(), 7);
    follower.start();
    follower.run_until_quiet();
    follower.calls.clear();
    follower.batches.clear();
    follower
}

/// A call in few words.
pub(super) fn name(call: &Call) -> String {
    match call {
        Call::AnchorLog { .. } => "anchor".to_owned(),
        Call::PollLog(_) => "poll".to_owned(),
        Call::SearchDeletions { .. } => "search".to_owned(),
        Call::FirstPage { scope, .. } => format!("list {scope}"),
        Call::NextPage { scope, .. } => format!("list {scope} on"),
        Call::Read(key) => match key {
            Key::User(user) => format!("read {user}"),
            Key::Group(group) => format!("read {group}"),
            Key::App(app) => format!("read {app}"),
            Key::AppUser(app, user) => format!("read {app}/{user}"),
            Key::AppGroup(app, group) => format!("read {app}/{group}"),
            Key::GroupMember(..) => panic!("a membership has no read by id"),
        },
        Call::Select { selection, next, .. } => {
            let what = match selection {
                Selection::UsersChanged(since) => format!("users since {}", since.millis_since(NOW)),
                Selection::GroupsChanged(since) => format!("groups since {}", since.millis_since(NOW)),
                Selection::GroupsOfApp(app) => format!("groups of {app}"),
                Selection::UserApps(user) => format!("apps of {user}"),
                Selection::UsersByIds(users) => format!("{} users", users.len()),
                Selection::UserGroups(user) => format!("groups of {user}"),
            };
            format!("select {what}{}", if next.is_some() { " on" } else { "" })
        }
    }
}

pub(super) fn failed() -> ReadFailure {
    ReadFailure::Failed { detail: "503".to_owned() }
}

pub(super) fn forbidden() -> ReadFailure {
    ReadFailure::Forbidden { missing_scope: None, detail: "403".to_owned() }
}

impl Follower {
    pub(super) fn run_until_quiet(&mut self) {
        for _ in 0..ACTS_MAX {
            if self.is_quiet() && self.flights.is_empty() {
                return self.check_quiet();
            }
            self.act(Chances::default());
        }
        panic!("never quiet; in flight {:?}", self.flights);
    }

    /// The machine has stopped, and another one goes on in the same process.
    pub(super) fn go_on(&mut self) {
        self.crash();
        self.start();
        if let (Some(state), Some(counted)) = (&mut self.state, self.counted.take()) {
            state.resume_counts(counted);
        }
    }

    /// Calls under way, in order of their names; without those for the log.
    pub(super) fn under_way(&self) -> Vec<String> {
        let calls = self.flights.iter().map(|flight| &flight.call);
        let mut names: Vec<String> =
            calls.filter(|call| !matches!(call, Call::PollLog(_) | Call::AnchorLog { .. })).map(name).collect();
        names.sort();
        names
    }

    #[track_caller]
    fn place(&self, wanted: &str) -> usize {
        let place = self.flights.iter().position(|flight| name(&flight.call) == wanted);
        place.unwrap_or_else(|| {
            panic!("no {wanted} under way, but {:?}", self.flights.iter().map(|f| name(&f.call)).collect::<Vec<_>>())
        })
    }

    /// Sends a call.
    #[track_caller]
    pub(super) fn send(&mut self, wanted: &str) -> RequestNumber {
        let place = self.place(wanted);
        if let Stage::Sent(at) = self.flights[place].stage {
            return at;
        }
        self.newest += 1;
        let at = RequestNumber(self.newest);
        self.flights[place].stage = Stage::Sent(at);
        at
    }

    #[track_caller]
    fn take_flight(&mut self, wanted: &str) -> (Flight, RequestNumber) {
        let at = self.send(wanted);
        let place = self.place(wanted);
        (self.flights.swap_remove(place), at)
    }

    /// Sends a call if it is not sent yet, and hands in what the org answers now.
    #[track_caller]
    pub(super) fn reply(&mut self, wanted: &str) {
        let (flight, at) = self.take_flight(wanted);
        let answer = self.world.answer(flight.id, &flight.call, at, &mut self.random);
        self.step(answer);
    }

    /// Lets a call fail.
    #[track_caller]
    pub(super) fn fail(&mut self, wanted: &str, failure: ReadFailure) {
        let (flight, _) = self.take_flight(wanted);
        self.step(Input::Failed(flight.id, failure));
    }

    /// Hands in an answer that the test makes.
    #[track_caller]
    pub(super) fn answer(&mut self, wanted: &str, answer: impl FnOnce(super::CallId, RequestNumber) -> Input) {
        let (flight, at) = self.take_flight(wanted);
        self.step(answer(flight.id, at));
    }

    /// The log shows an event, and the next poll brings it; what it obliges to is stored, and waits.
    #[track_caller]
    pub(super) fn hear(&mut self, event_type: &str, targets: Vec<LogTarget>) {
        self.world.log_now(event_type, targets);
        self.poll();
        self.commit_all();
    }

    /// The next poll, answered.
    #[track_caller]
    pub(super) fn poll(&mut self) {
        if !self.flights.iter().any(|flight| matches!(flight.call, Call::PollLog(_))) {
            self.wait(self.follow.poll_millis);
        }
        self.reply("poll");
    }

    /// What hints wait for, with the answers of the org, until nothing is under way but polls.
    pub(super) fn settle_down(&mut self) {
        for _ in 0..ACTS_MAX {
            self.commit_all();
            let Some(wanted) = self.under_way().first().cloned() else { return };
            self.reply(&wanted);
        }
        panic!("never ends: {:?}", self.under_way());
    }

    /// Lets hints that are due soon begin their reads.
    pub(super) fn debounce(&mut self) {
        self.wait(self.follow.patience.debounce_millis);
    }

    /// What is owed, by name.
    pub(super) fn owed(&self) -> Vec<String> {
        self.state().debts_for_tests().0.iter().map(|(debt, _)| debt.target.name()).collect()
    }

    pub(super) fn owes(&self, target: &Target) -> bool {
        self.owed().contains(&target.name())
    }

    /// The rows of a collection that are stored.
    pub(super) fn stored(&self, scope: &Scope) -> Vec<Key> {
        self.books.rows.keys().filter(|key| key.scope() == *scope).cloned().collect()
    }
}

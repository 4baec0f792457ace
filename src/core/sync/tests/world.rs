//! An org in memory that changes while it is read: objects, the System Log with its bad habits, and the answers to calls.
//!
//! Entry points: [`World::mutate`], [`World::advance`], [`World::answer`].
//!
//! Invariants:
//! - A change is announced by an event that is persisted at the same time or later, by what the event names or by the time
//!   within which its effects are over (facts 9, 11); nothing changes in secret.
//! - Links of lists hold the last key shown: what does not change while a list is walked is shown exactly once.
//! - The log shows events in the order in which they were persisted: late ones behind younger ones, some twice.

mod answers;
mod changes;

use std::collections::{BTreeMap, BTreeSet};

use super::org::{app, app_id, group, group_id, user, user_id};
use crate::core::event::{LogEvent, LogTarget};
use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{
    App, AppGroup, AppUser, AppUserStatus, AssignmentScope, Group, GroupType, Scope, User, UserStatus,
};

/// Longest time until an effect that comes by a job is over, in milliseconds: less than the shortest wait of the reads
/// that events of such effects oblige to.
const JOB_MILLIS_MAX: i64 = 20_000;

/// The same for the effects of a deactivation, which are looked for later.
const DEACTIVATION_MILLIS_MAX: i64 = 120_000;

/// An effect that comes by itself some time after its cause.
#[derive(Clone, Debug)]
enum Job {
    /// The accounts of a deactivated user go.
    DropAccounts(UserId),
    /// A group was assigned to an app: its members get accounts.
    FanOut(AppId, GroupId),
    /// A group is no longer assigned to an app: accounts that it gave go.
    FanIn(AppId, GroupId),
}

/// The org.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) users: BTreeMap<UserId, User>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    pub(super) apps: BTreeMap<AppId, App>,
    pub(super) members: BTreeSet<(GroupId, UserId)>,
    pub(super) accounts: BTreeMap<(AppId, UserId), AppUser>,
    pub(super) app_groups: BTreeMap<(AppId, GroupId), AppGroup>,
    /// Events and when they were persisted, in that order.
    pub(super) log: Vec<(Timestamp, LogEvent)>,
    /// Events that are still to be persisted.
    coming: Vec<(Timestamp, LogEvent)>,
    jobs: Vec<(Timestamp, bool, Job)>,
    /// Positions of an earlier generation are no longer accepted.
    pub(super) generation: u32,
    /// Whether events are lost with the positions.
    pub(super) forgets: bool,
    /// So many of the first events no position shows any more.
    forgotten: usize,
    /// Rows on a page, and events on a page of the log.
    pub(super) page_rows: usize,
    pub(super) log_rows: usize,
    /// Lists whose first page is 200 with nothing.
    pub(super) emptied: BTreeSet<Scope>,
    /// Lists that show nothing, also of what was never stored.
    pub(super) hidden: BTreeSet<Scope>,
    /// Users, groups and apps that nothing shows to this credential, neither lists nor reads by id.
    pub(super) concealed: BTreeSet<Scope>,
    /// Apps that no list shows.
    pub(super) unlisted: BTreeSet<AppId>,
    /// Whether the list of a user's apps shows inactive ones.
    pub(super) shows_inactive_apps: bool,
    /// Whether every effect of a job has an event of its own.
    pub(super) tells_all: bool,
    /// Share of accounts, in 100, that the list of a user's apps fails to embed.
    pub(super) lost_expand: u8,
    /// Whether logins are in one of two domains, and names of groups hold one of two words.
    pub(super) has_domains: bool,
    next_id: usize,
    next_event: u64,
}

fn pick<T: Clone>(random: &mut fastrand::Rng, from: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<T> = from.collect();
    (!all.is_empty()).then(|| all[random.usize(0..all.len())].clone())
}

pub(super) fn target(target_type: &str, id: &str) -> LogTarget {
    LogTarget { target_type: target_type.into(), id: id.into(), detail_user_id: None, detail_app_id: None }
}

pub(super) fn of_user(user: &UserId) -> LogTarget {
    target("User", user.as_str())
}

pub(super) fn of_group(group: &GroupId) -> LogTarget {
    target("UserGroup", group.as_str())
}

pub(super) fn of_app(app: &AppId) -> LogTarget {
    target("AppInstance", app.as_str())
}

fn account(app: &AppId, user: &UserId, via_group: Option<&GroupId>) -> AppUser {
    AppUser {
        app: app.clone(),
        user: user.clone(),
        user_name: None,
        external_id: None,
        email: None,
        status: AppUserStatus::Active,
        scope: if via_group.is_some() { AssignmentScope::Group } else { AssignmentScope::User },
        sync_state: None,
        via_group: via_group.cloned(),
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

impl World {
    /// An org with `Everyone` and nothing else.
    pub(super) fn new(now: Timestamp) -> Self {
        let everyone = group(0, "Everyone", GroupType::BuiltIn);
        Self {
            now,
            users: BTreeMap::new(),
            groups: BTreeMap::from([(everyone.id.clone(), everyone)]),
            apps: BTreeMap::new(),
            members: BTreeSet::new(),
            accounts: BTreeMap::new(),
            app_groups: BTreeMap::new(),
            log: Vec::new(),
            coming: Vec::new(),
            jobs: Vec::new(),
            generation: 0,
            forgets: false,
            forgotten: 0,
            page_rows: 100,
            log_rows: 100,
            emptied: BTreeSet::new(),
            hidden: BTreeSet::new(),
            concealed: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            shows_inactive_apps: true,
            tells_all: false,
            lost_expand: 0,
            has_domains: false,
            next_id: 1,
            next_event: 0,
        }
    }

    /// A random small org.
    pub(super) fn random(now: Timestamp, random: &mut fastrand::Rng) -> Self {
        let mut world = Self::new(now);
        for _ in 0..random.usize(1..6) {
            world.add_user();
        }
        for _ in 0..random.usize(0..4) {
            world.add_group(None);
        }
        for _ in 0..random.usize(1..4) {
            world.add_app(random);
        }
        if random.bool() {
            let app = pick(random, world.apps.keys().cloned());
            world.add_group(app);
        }
        for _ in 0..random.usize(0..30) {
            let user = pick(random, world.users.keys().cloned()).expect("users");
            let app = pick(random, world.apps.keys().cloned()).expect("apps");
            let group = pick(random, world.real_groups()).unwrap_or(group_id(0));
            match random.u8(0..5) {
                0 | 1 if group != group_id(0) => {
                    world.members.insert((group, user));
                }
                2 => {
                    world.assign(&app, &group);
                }
                _ => {
                    world.give(&app, &user, None);
                }
            }
        }
        world.page_rows = random.usize(1..5);
        world.log_rows = random.usize(1..8);
        world.shows_inactive_apps = random.bool();
        world.lost_expand = if random.bool() { 0 } else { random.u8(0..50) };
        world
    }

    /// Users, groups and apps that can be concealed.
    pub(super) fn objects(&self) -> impl Iterator<Item = Scope> + '_ {
        let groups = self.real_groups().map(Scope::Group);
        let users = self.users.keys().cloned().map(Scope::User);
        users.chain(groups).chain(self.apps.keys().cloned().map(Scope::App))
    }

    /// Groups other than `Everyone`.
    pub(super) fn real_groups(&self) -> impl Iterator<Item = GroupId> {
        self.groups.values().filter(|group| !group.is_everyone()).map(|group| group.id.clone())
    }

    /// A user, a group, an app of this number.
    pub(super) fn add_user_as(&mut self, n: usize) {
        self.next_id = n - 1;
        self.add_user();
    }

    pub(super) fn add_group_as(&mut self, n: usize, source_app: Option<AppId>) {
        self.next_id = n - 1;
        self.add_group(source_app);
    }

    pub(super) fn add_app_as(&mut self, n: usize, name: &str) {
        self.next_id = n - 1;
        self.add_app_of(name, None);
    }

    fn new_id(&mut self) -> usize {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn add_user(&mut self) -> UserId {
        let id = self.new_id();
        let mut user = user(id, UserStatus::Active);
        if self.has_domains {
            user.login = Some(format!("u{id}@{}.test", if id.is_multiple_of(2) { "a" } else { "b" }).into());
        }
        user.last_updated = Some(self.now);
        self.users.insert(user.id.clone(), user);
        user_id(id)
    }

    pub(super) fn add_group(&mut self, source_app: Option<AppId>) -> GroupId {
        let id = self.new_id();
        let group_type = if source_app.is_some() { GroupType::AppGroup } else { GroupType::OktaGroup };
        let mut group = group(id, "Eng", group_type);
        group.source_app = source_app;
        group.created = Some(self.now);
        group.last_updated = Some(self.now);
        self.groups.insert(group.id.clone(), group);
        group_id(id)
    }

    fn add_app(&mut self, random: &mut fastrand::Rng) -> AppId {
        let (name, kind) = match random.u8(0..8) {
            0 => (super::org::EXCLUDED, None),
            1 => ("oidc_client", Some("service")),
            _ => ("jira", None),
        };
        self.add_app_of(name, kind)
    }

    pub(super) fn add_app_of(&mut self, name: &str, application_type: Option<&str>) -> AppId {
        let id = self.new_id();
        let mut app = app(id, name, application_type);
        app.created = Some(self.now);
        self.apps.insert(app.id.clone(), app);
        app_id(id)
    }

    fn can_have_accounts(&self, app: &AppId) -> bool {
        self.apps.get(app).is_some_and(|app| !app.is_service_app())
    }

    /// Gives a user an account, if the app can have one.
    pub(super) fn give(&mut self, app: &AppId, user: &UserId, via_group: Option<&GroupId>) -> bool {
        let is_new = self.can_have_accounts(app)
            && self.users.get(user).is_some_and(|user| user.status == UserStatus::Active)
            && !self.accounts.contains_key(&(app.clone(), user.clone()));
        if is_new {
            self.accounts.insert((app.clone(), user.clone()), account(app, user, via_group));
        }
        is_new
    }

    pub(super) fn assign(&mut self, app: &AppId, group: &GroupId) -> bool {
        let row = AppGroup { app: app.clone(), group: group.clone(), priority: None, last_updated: None };
        self.can_have_accounts(app) && self.app_groups.insert((app.clone(), group.clone()), row).is_none()
    }

    pub(super) fn set_member(&mut self, group: &GroupId, user: &UserId, is_member: bool) {
        if is_member {
            self.members.insert((group.clone(), user.clone()));
        } else {
            self.members.remove(&(group.clone(), user.clone()));
        }
        if let Some(group) = self.groups.get_mut(group) {
            group.last_membership_updated = Some(self.now);
        }
    }

    /// An event about what happened just now; returns it as the log will show it.
    pub(super) fn event(&mut self, event_type: &str, targets: Vec<LogTarget>) -> LogEvent {
        self.next_event += 1;
        LogEvent {
            uuid: format!("event {}", self.next_event).into(),
            published: Some(self.now),
            event_type: event_type.into(),
            outcome: Some("SUCCESS".into()),
            transaction_type: None,
            api_token: None,
            targets,
            targets_cut: false,
            debug_data: Vec::new(),
        }
    }

    /// It has become known that a position is lost. Of an org that forgets, no new one shows what has happened: only reading
    /// everything finds it. What is still to come of that is told by events of its own, since nobody knows what to wait for.
    pub(super) fn lost(&mut self, random: &mut fastrand::Rng) {
        if !self.forgets {
            return;
        }
        for _ in 0..random.usize(0..10) {
            self.mutate(random);
        }
        let now = self.now;
        self.log.extend(self.coming.drain(..).map(|(_, event)| (now, event)));
        self.forgotten = self.log.len();
        self.jobs.iter_mut().for_each(|(_, is_told, _)| *is_told = true);
    }

    /// Shows an event at once.
    pub(super) fn log_now(&mut self, event_type: &str, targets: Vec<LogTarget>) {
        let event = self.event(event_type, targets);
        self.log.push((self.now, event));
    }

    /// Shows an event some time, perhaps twice, its targets in any order.
    fn emit(&mut self, random: &mut fastrand::Rng, event_type: &str, mut targets: Vec<LogTarget>) {
        random.shuffle(&mut targets);
        let mut event = self.event(event_type, targets);
        if random.u8(0..30) == 0 {
            event.published = None;
        }
        for _ in 0..if random.u8(0..6) == 0 { 2 } else { 1 } {
            let late = match random.u8(0..10) {
                0..5 => 0,
                5..9 => random.i64(0..2_000),
                _ => random.i64(0..60_000),
            };
            self.coming.push((self.now.plus_millis(late), event.clone()));
        }
        self.persist();
    }

    fn persist(&mut self) {
        let now = self.now;
        let mut due: Vec<_> = self.coming.extract_if(.., |(at, _)| *at <= now).collect();
        due.sort_by_key(|(at, _)| *at);
        self.log.extend(due);
    }

    /// Time passes: what was to happen happens in its order.
    pub(super) fn advance(&mut self, now: Timestamp, random: &mut fastrand::Rng) {
        while let Some(place) = (0..self.jobs.len()).min_by_key(|place| self.jobs[*place].0)
            && self.jobs[place].0 <= now
        {
            let (at, is_told, job) = self.jobs.swap_remove(place);
            self.now = at.max(self.now);
            self.persist();
            self.carry_out(job, is_told, random);
        }
        self.now = now.max(self.now);
        self.persist();
    }

    /// When something happens by itself next.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.coming.iter().map(|(at, _)| *at).chain(self.jobs.iter().map(|(at, ..)| *at)).min()
    }

    fn later(&mut self, random: &mut fastrand::Rng, millis_max: i64, is_told: bool, job: Job) {
        let at = self.now.plus_millis(random.i64(0..millis_max));
        self.jobs.push((at, is_told, job));
    }

    /// What is different in `after`, for people.
    pub(super) fn difference(&self, after: &World) -> String {
        let keys = |world: &World| -> BTreeSet<String> {
            let rows = world.users.values().map(|row| format!("{} {:?}", row.id, row.status)).collect::<Vec<_>>();
            let members = world.members.iter().map(|pair| format!("member {pair:?}"));
            let accounts = world.accounts.keys().map(|pair| format!("account {pair:?}"));
            let assigned = world.app_groups.keys().map(|pair| format!("assigned {pair:?}"));
            let groups = world.groups.keys().map(|group| format!("{group}"));
            let apps = world.apps.values().map(|app| format!("{} {:?}", app.id, app.status));
            rows.into_iter().chain(members).chain(accounts).chain(assigned).chain(groups).chain(apps).collect()
        };
        let (old, new) = (keys(self), keys(after));
        let events = after.coming.iter().chain(&after.log).skip(self.log.len()).map(|(_, event)| &event.event_type);
        format!(
            "gone {:?}, new {:?}, {:?}",
            old.difference(&new).collect::<Vec<_>>(),
            new.difference(&old).collect::<Vec<_>>(),
            events.last()
        )
    }

    fn carry_out(&mut self, job: Job, is_told: bool, random: &mut fastrand::Rng) {
        let (added, changed): (bool, Vec<(AppId, UserId)>) = match job {
            Job::DropAccounts(user) => {
                (false, self.accounts.keys().filter(|(_, other)| *other == user).cloned().collect())
            }
            Job::FanIn(app, group) => {
                let is_given = |account: &AppUser| account.app == app && account.via_group.as_ref() == Some(&group);
                let is_back = self.app_groups.contains_key(&(app.clone(), group.clone()));
                let given = self.accounts.iter().filter(|(_, account)| !is_back && is_given(account));
                (false, given.map(|(pair, _)| pair.clone()).collect())
            }
            Job::FanOut(app, group) => {
                let is_there = self.app_groups.contains_key(&(app.clone(), group.clone()));
                let members: Vec<UserId> = self
                    .members
                    .iter()
                    .filter(|(other, _)| is_there && *other == group)
                    .map(|(_, u)| u.clone())
                    .collect();
                let given = members.into_iter().filter(|user| self.give(&app, user, Some(&group)));
                let given: Vec<UserId> = given.collect();
                (true, given.into_iter().map(|user| (app.clone(), user)).collect())
            }
        };
        for (app, user) in changed {
            if !added {
                self.accounts.remove(&(app.clone(), user.clone()));
            }
            if is_told || self.tells_all {
                self.tell_account(random, if added { "add" } else { "remove" }, &app, &user);
            }
        }
    }

    fn tell_account(&mut self, random: &mut fastrand::Rng, what: &str, app: &AppId, user: &UserId) {
        let event_type = format!("application.user_membership.{what}");
        let targets = vec![target("AppUser", "0ua-not-the-user"), of_app(app), of_user(user)];
        self.emit(random, &event_type, targets);
    }
}

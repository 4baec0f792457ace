//! Random batches over few ids and few names, so that they collide.
//!
//! Entry points: [`free_batch`] (anything), [`walk_batch`] (the next page of a walk).

use okta_idmap::core::batch::{Batch, CursorMove, Delta, Listing, Position, UnreadKey, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind};
use okta_idmap::core::event::MemberChange;
use okta_idmap::core::ids::{AppId, GroupId, LogCursor, RequestNumber, Timestamp, UserId};
use okta_idmap::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Key, Quarantined,
    Row, Scope, User, UserStatus,
};
use okta_idmap::core::pending::{Answered, PendingRead, Target};

use super::model::Model;

/// Names of accounts and users: equal under no rule, by case, by folding; one that no account can have.
pub(crate) const NAMES: [&str; 10] = [
    "jdoe",
    "JDoe",
    "jdoe@example.com",
    "JDOE@Example.com",
    "straße@example.com",
    "STRASSE@example.com",
    "00500000001",
    "ｊdoe",
    "",
    "tab\there",
];

/// How much Okta's clock is ahead of ours.
const OKTA_AHEAD_MILLIS: i64 = 3_000;

const USERS: usize = 6;
const GROUPS: usize = 4;
const APPS: usize = 3;

/// The first group is `Everyone`; its members are never stored, for they are derived from the users.
const EVERYONE: usize = 0;

pub(crate) fn user_ids() -> Vec<UserId> {
    (0..USERS).map(|n| UserId::new(&format!("00u{n}")).unwrap()).collect()
}

pub(crate) fn group_ids() -> Vec<GroupId> {
    (0..GROUPS).map(|n| GroupId::new(&format!("00g{n}")).unwrap()).collect()
}

pub(crate) fn app_ids() -> Vec<AppId> {
    (0..APPS).map(|n| AppId::new(&format!("0oa{n}")).unwrap()).collect()
}

/// Every scope that the ids have.
pub(crate) fn scopes() -> Vec<Scope> {
    let mut all = vec![Scope::Users, Scope::Groups, Scope::Apps, Scope::Log];
    all.extend(group_ids().into_iter().map(Scope::GroupMembers));
    for app in app_ids() {
        all.extend([Scope::AppUsers(app.clone()), Scope::AppGroups(app)]);
    }
    all
}

/// Every scope that a gap can stand on: collections and single objects.
pub(crate) fn gap_scopes() -> Vec<Scope> {
    let mut all = scopes();
    all.extend(user_ids().into_iter().map(Scope::User));
    all.extend(group_ids().into_iter().map(Scope::Group));
    all.extend(app_ids().into_iter().map(Scope::App));
    all
}

/// The clock and the request counter of a run.
pub(crate) struct Source {
    pub(crate) random: fastrand::Rng,
    pub(crate) now: Timestamp,
    pub(crate) request: u64,
}

impl Source {
    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.random.usize(0..all.len())].clone()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.random.usize(0..n) == 0
    }

    fn name(&mut self) -> Option<Box<str>> {
        if self.one_in(4) { None } else { Some(self.pick(&NAMES).into()) }
    }

    fn time(&mut self) -> Option<Timestamp> {
        let millis = self.random.i64(0..4);
        (millis > 0).then(|| Timestamp::from_millis(millis * 1000))
    }

    fn text(&mut self) -> Option<Box<str>> {
        let texts = ["", "a", "b b"];
        if self.one_in(2) { None } else { Some(self.pick(&texts).into()) }
    }

    fn user(&mut self) -> UserId {
        self.pick(&user_ids())
    }

    fn group(&mut self) -> GroupId {
        self.pick(&group_ids())
    }

    fn app(&mut self) -> AppId {
        self.pick(&app_ids())
    }

    fn key(&mut self) -> Key {
        match self.random.u8(0..6) {
            0 => Key::User(self.user()),
            1 => Key::Group(self.group()),
            2 => Key::App(self.app()),
            3 => Key::GroupMember(self.pick(&group_ids()[EVERYONE + 1..]), self.user()),
            4 => Key::AppUser(self.app(), self.user()),
            _ => Key::AppGroup(self.app(), self.group()),
        }
    }

    fn key_of(&mut self, scope: &Scope) -> Option<Key> {
        Some(match scope {
            Scope::Users => Key::User(self.user()),
            Scope::Groups => Key::Group(self.group()),
            Scope::Apps => Key::App(self.app()),
            Scope::GroupMembers(group) if *group == group_ids()[EVERYONE] => return None,
            Scope::GroupMembers(group) => Key::GroupMember(group.clone(), self.user()),
            Scope::AppUsers(app) => Key::AppUser(app.clone(), self.user()),
            Scope::AppGroups(app) => Key::AppGroup(app.clone(), self.group()),
            Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => return None,
        })
    }

    fn row(&mut self, key: Key) -> Row {
        match key {
            Key::User(id) => Row::User(User {
                id,
                status: UserStatus::parse(self.pick(&["ACTIVE", "SUSPENDED", "IN_2027"])),
                login: self.name(),
                email: self.name(),
                second_email: self.name(),
                first_name: self.text(),
                last_name: self.text(),
                display_name: self.text(),
                created: self.time(),
                last_updated: self.time(),
                status_changed: self.time(),
            }),
            Key::Group(id) => {
                let (name, group_type) = if id == group_ids()[EVERYONE] {
                    ("Everyone", GroupType::BuiltIn)
                } else {
                    // A group of the same name that is not built in is a group like any other.
                    (self.pick(&["Eng", "Everyone", ""]), GroupType::parse(self.pick(&["OKTA_GROUP", "APP_GROUP"])))
                };
                Row::Group(Group {
                    id,
                    name: name.into(),
                    description: self.text(),
                    group_type,
                    source_app: self.one_in(3).then(|| self.app()),
                    created: self.time(),
                    last_updated: self.time(),
                    last_membership_updated: self.time(),
                })
            }
            Key::App(id) => Row::App(App {
                id,
                name: self.pick(&["jira", "salesforce"]).into(),
                label: self.pick(&["Jira", "Jira Cloud", "Sales"]).into(),
                status: AppStatus::parse(self.pick(&["ACTIVE", "INACTIVE"])),
                sign_on_mode: self.text(),
                features: self.pick(&[vec![], vec!["PUSH".into()], vec!["PUSH".into(), "IMPORT".into()]]),
                credential_scheme: self.text(),
                shared_user_name: self.text(),
                user_name_template: self.text(),
                oauth_application_type: self.text(),
                implicit_assignment: Some(self.one_in(2)).filter(|_| !self.one_in(3)),
                created: self.time(),
                last_updated: self.time(),
            }),
            Key::GroupMember(group, user) => Row::GroupMember(GroupMember { group, user }),
            Key::AppUser(app, user) => Row::AppUser(AppUser {
                app,
                user,
                user_name: self.name(),
                external_id: self.name(),
                email: self.name(),
                status: AppUserStatus::parse(self.pick(&["ACTIVE", "STAGED", "IN_2027"])),
                scope: AssignmentScope::parse(self.pick(&["USER", "GROUP"])),
                sync_state: self.text(),
                via_group: self.one_in(2).then(|| self.group()),
                created: self.time(),
                last_updated: self.time(),
                status_changed: self.time(),
            }),
            Key::AppGroup(app, group) => Row::AppGroup(AppGroup {
                app,
                group,
                priority: (!self.one_in(3)).then(|| self.random.i64(-1..3)),
                last_updated: self.time(),
            }),
        }
    }

    /// A row as it is stored, with one thing changed, or anew.
    fn row_near(&mut self, model: &Model, key: Key) -> Row {
        let Some(stored) = model.rows.get(&key).map(|stored| stored.row.clone()) else { return self.row(key) };
        let mut row = match self.random.u8(0..4) {
            0 | 1 => return stored,
            2 => stored,
            _ => return self.row(key),
        };
        let (name, label) = (self.name(), self.pick(&["Jira", "Sales"]));
        match &mut row {
            Row::User(user) => user.login = name,
            Row::AppUser(account) => account.user_name = name,
            Row::App(app) => app.label = label.into(),
            Row::Group(_) | Row::GroupMember(_) | Row::AppGroup(_) => {}
        }
        row
    }

    /// The number of a request that is sent now, or of an earlier one whose answer comes late.
    fn request(&mut self) -> RequestNumber {
        self.request += 1;
        let late = if self.one_in(4) { self.random.u64(0..20) } else { 0 };
        RequestNumber(self.request.saturating_sub(late).max(1))
    }

    /// Where a gap stands and why: any kind anywhere, and often an object that is not shown.
    fn gap(&mut self) -> (Scope, GapKind) {
        let scope = self.pick(&gap_scopes());
        let is_unseen = scope.object().is_some() && self.random.bool();
        (scope, if is_unseen { GapKind::UnseenReference } else { self.gap_kind() })
    }

    fn gap_kind(&mut self) -> GapKind {
        self.pick(&GapKind::ALL)
    }

    fn bad_record(&mut self, scope: Scope) -> Quarantined {
        let id = match self.key_of(&scope) {
            _ if self.one_in(4) => None,
            Some(Key::User(id) | Key::GroupMember(_, id) | Key::AppUser(_, id)) => Some(id.as_str().into()),
            Some(Key::Group(id) | Key::AppGroup(_, id)) => Some(id.as_str().into()),
            Some(Key::App(id)) => Some(id.as_str().into()),
            None => Some("not/an id".into()),
        };
        Quarantined { scope, id, reason: self.pick(&["no status", "no profile"]).to_owned() }
    }
}

impl Source {
    /// An empty batch of now.
    fn batch(&mut self, at: RequestNumber) -> Batch {
        let members_since = RequestNumber(self.request);
        Batch {
            now: self.now,
            okta_now: self.now.plus_millis(OKTA_AHEAD_MILLIS),
            at,
            members_since,
            ..Batch::default()
        }
    }

    /// A time of Okta's, near enough to the walks of the last minutes to fall before, into and after them.
    fn lately(&mut self) -> Timestamp {
        self.now.plus_millis(-self.random.i64(0..20) * 1000)
    }

    fn target(&mut self) -> Target {
        match self.random.u8(0..7) {
            0 => Target::User(self.user()),
            1 => Target::Group(self.group()),
            2 => Target::UserApps(self.user()),
            3 => Target::Everything,
            4 => Target::App(self.app()),
            _ => Target::List(self.pick(&scopes())),
        }
    }

    fn number(&mut self) -> RequestNumber {
        RequestNumber(self.request.saturating_sub(self.random.u64(0..6)))
    }

    /// Debts and events, as a page of the log brings them.
    fn follow(&mut self, batch: &mut Batch, model: &Model) {
        while self.one_in(2) {
            let (group, user, added) = (self.group(), self.user(), self.random.bool());
            let published = if self.one_in(12) { None } else { Some(self.lately()) };
            batch.members.push(MemberChange { group, user, added, published });
        }
        while self.one_in(3) {
            batch.pending.push(PendingRead {
                target: self.target(),
                since: self.number(),
                first_at: self.lately(),
                due_at: self.lately(),
                again_at: self.random.bool().then_some(self.now),
                attempts: self.random.u32(0..3),
                announced: self.one_in(3),
                absent_since: self.one_in(4).then(|| self.lately()),
                cause: self.pick(&["user.lifecycle.create", "safety net"]).to_owned(),
            });
        }
        while self.one_in(2) {
            let known: Vec<Target> = model.pending.keys().cloned().collect();
            let target = if known.is_empty() || self.one_in(4) { self.target() } else { self.pick(&known) };
            batch.answered.push(Answered { target, by: self.number() });
        }
        while self.one_in(3) {
            batch.needed.push(self.pick(&scopes()));
        }
        while self.one_in(3) {
            let rows = batch.rows.iter().map(Row::key).filter(|key| !Scope::below(key).is_empty());
            let (shown, group) = (rows.collect::<Vec<_>>(), Key::Group(self.group()));
            let object = if shown.is_empty() || self.one_in(4) { group } else { self.pick(&shown) };
            batch.newborn.push((object, self.lately()));
        }
        while self.one_in(6) {
            batch.forgettable.push(self.group());
        }
        batch.is_followed = self.random.bool();
        if self.one_in(4) {
            batch.observed_through = Some(self.lately());
        }
        if self.one_in(6) {
            let delta = self.pick(&[Delta::Users, Delta::Groups]);
            batch.deltas.push((delta, self.lately()));
        }
        let next = LogCursor(format!("https://x.example/{}", self.now.as_millis()));
        batch.cursor = match (self.random.u8(0..12), &model.cursor) {
            (0, _) => Some(CursorMove::Anchor(next)),
            (1..4, Some(expect)) => Some(CursorMove::Advance { expect: expect.clone(), next }),
            (4, _) => Some(CursorMove::Advance { expect: LogCursor("https://x.example/other".to_owned()), next }),
            (5, _) => Some(CursorMove::Open { next, at: self.lately() }),
            _ => None,
        };
    }
}

/// Anything that is not a page of a walk: late answers, removals, events, debts, gaps, bad records, the log position.
pub(crate) fn free_batch(source: &mut Source, model: &Model) -> Batch {
    let at = source.request();
    let mut batch = source.batch(at);
    batch.is_reread = source.one_in(2);
    if source.one_in(2) {
        source.follow(&mut batch, model);
    }
    for _ in 0..source.random.usize(0..12) {
        let key = source.key();
        batch.rows.push(source.row_near(model, key));
    }
    while source.one_in(4) {
        batch.removals.push(source.key());
    }
    while source.one_in(3) {
        let (scope, kind) = source.gap();
        batch.gaps.push(Gap { scope, kind, evidence: source.now.to_iso() });
    }
    while source.one_in(3) {
        batch.closed_gaps.push(source.gap());
    }
    if source.one_in(8) {
        let scope = source.pick(&scopes());
        batch.quarantined.push(source.bad_record(scope));
    }
    while source.one_in(6) {
        let by = RequestNumber(source.random.u64(0..=source.request));
        batch.settled.push((source.key(), by));
    }
    while source.one_in(6) {
        let (key, since) = (source.key(), RequestNumber(source.random.u64(0..=source.request)));
        batch.unread.push(UnreadKey { key, evidence: String::new(), since });
    }
    batch
}

/// The next page of the walk of a random scope, or its restart, or its end without success.
pub(crate) fn walk_batch(source: &mut Source, model: &Model) -> Batch {
    let scope = source.pick(&scopes());
    source.request += 1;
    let at = RequestNumber(source.request);
    let mut batch = source.batch(at);
    batch.is_reread = source.one_in(4);
    batch.is_followed = source.random.bool();
    let position = model.scopes.get(&scope).filter(|book| !book.is_idle).and_then(|book| match &book.state {
        WalkState::Walking(position) => Some(position.clone()),
        _ => None,
    });
    if source.one_in(8) {
        let mut states = vec![WalkState::Todo, WalkState::GivenUp, WalkState::Released, WalkState::Released];
        if matches!(scope, Scope::GroupMembers(_) | Scope::AppUsers(_) | Scope::AppGroups(_)) {
            states.push(WalkState::Unwanted);
        }
        let state = source.pick(&states);
        let held: Vec<Scope> = model.scopes.iter().filter(|(_, book)| book.is_held).map(|(s, _)| s.clone()).collect();
        let scope = if state == WalkState::Released && !held.is_empty() { source.pick(&held) } else { scope };
        while source.one_in(3) {
            batch.brought.push(source.group());
        }
        if source.one_in(2) {
            batch.departed_apps.insert(source.app());
        }
        batch.walks.push(WalkUpdate { scope, state });
        return batch;
    }
    // Most of what is stored is shown; how much is left out differs from walk to walk, so that the brake is met.
    let share = source.pick(&[0_usize, 1, 3, 9]);
    let is_empty = source.one_in(6);
    let stored: Vec<Row> =
        model.rows.iter().filter(|(key, _)| key.scope() == scope).map(|(_, stored)| stored.row.clone()).collect();
    for row in stored {
        if !is_empty && source.random.usize(0..=share) > 0 {
            let is_changed = source.one_in(4);
            batch.rows.push(if is_changed { source.row_near(model, row.key()) } else { row });
        }
    }
    while !is_empty && source.one_in(2) {
        if let Some(key) = source.key_of(&scope) {
            batch.rows.push(source.row_near(model, key));
        }
    }
    if source.one_in(4) {
        batch.quarantined.push(source.bad_record(scope.clone()));
    }
    if source.one_in(8) {
        batch.gaps.push(Gap { scope: scope.clone(), kind: source.gap_kind(), evidence: String::new() });
    }
    let from = position.as_ref().map_or(at, |position| position.from);
    let began = position.as_ref().map_or_else(|| source.lately(), |position| position.began);
    let state = if source.one_in(2) {
        let mut ended = Vec::new();
        while matches!(scope, Scope::AppUsers(_)) && source.one_in(2) {
            ended.push(source.user());
        }
        WalkState::Finished { from, began, known_empty: source.one_in(4), ended }
    } else {
        let page = position.as_ref().map_or(0, |position| position.page) + 1;
        let rows = position.as_ref().map_or(0, |position| position.rows) + batch.rows.len() as u64;
        let listing = source.pick(&[Listing::Usual, Listing::PlainUsers, Listing::DeactivatedUsers]);
        let next = if source.one_in(5) { String::new() } else { format!("https://x.example/?after={page}") };
        WalkState::Walking(Position { next, page, rows, from, began, listing })
    };
    batch.walks.push(WalkUpdate { scope, state });
    batch
}

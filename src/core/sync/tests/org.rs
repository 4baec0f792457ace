//! A tiny org that answers calls, and a tiny store that remembers what was committed.
//!
//! Entry points: [`Org::answer`], [`Memory::commit`].

use std::collections::{BTreeMap, BTreeSet};

use super::super::{ByIdSeen, Call, CallId, DeletionsSeen, Input, PageSeen, UnseenFound};
use crate::core::batch::{Batch, CrawlMark, Finished, Listing, Receipt, WalkState};
use crate::core::coverage::GapKind;
use crate::core::ids::{AppId, GroupId, RequestNumber, Revision, UserId};
use crate::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupStats, GroupType, Key,
    Row, Scope, User, UserStatus,
};
use crate::core::reconcile::Verdict;

/// Name of the integration that the tests exclude by configuration.
pub(super) const EXCLUDED: &str = "excluded";

/// Name of an app that the store knows, that can be read by id, and that no list shows.
pub(super) const UNLISTED: &str = "unlisted";

/// The objects of an org as Okta would list them.
#[derive(Clone, Debug, Default)]
pub(super) struct Org {
    pub(super) users: Vec<User>,
    pub(super) groups: Vec<Group>,
    pub(super) apps: Vec<App>,
    pub(super) members: BTreeMap<GroupId, BTreeSet<UserId>>,
    pub(super) app_users: BTreeMap<AppId, BTreeSet<UserId>>,
    pub(super) app_groups: BTreeMap<AppId, BTreeSet<GroupId>>,
    /// Rows of a page, where the call asks for no other number.
    pub(super) page_rows: usize,
    /// Lists whose pages link to themselves.
    pub(super) endless: BTreeSet<Scope>,
    /// Lists that answer 200 with nothing.
    pub(super) emptied: BTreeSet<Scope>,
    /// Objects that the log says are deleted.
    pub(super) deleted: BTreeSet<Scope>,
}

pub(super) fn user_id(n: usize) -> UserId {
    UserId::new(&format!("00u{n:03}")).unwrap()
}

pub(super) fn group_id(n: usize) -> GroupId {
    GroupId::new(&format!("00g{n:03}")).unwrap()
}

pub(super) fn app_id(n: usize) -> AppId {
    AppId::new(&format!("0oa{n:03}")).unwrap()
}

/// An app that is gone from the org and still in the store.
pub(super) fn gone_app() -> AppId {
    app_id(900)
}

pub(super) fn user(n: usize, status: UserStatus) -> User {
    User {
        id: user_id(n),
        status,
        login: None,
        email: None,
        second_email: None,
        first_name: None,
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

pub(super) fn group(n: usize, name: &str, group_type: GroupType) -> Group {
    Group {
        id: group_id(n),
        name: name.into(),
        description: None,
        group_type,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    }
}

pub(super) fn app(n: usize, name: &str, application_type: Option<&str>) -> App {
    App {
        id: app_id(n),
        name: name.into(),
        label: format!("App {n}").into(),
        status: AppStatus::Active,
        sign_on_mode: None,
        features: Vec::new(),
        credential_scheme: None,
        shared_user_name: None,
        user_name_template: None,
        oauth_application_type: application_type.map(Into::into),
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    }
}

fn some<T: Ord + Clone>(random: &mut fastrand::Rng, all: &[T]) -> BTreeSet<T> {
    let share = random.usize(0..4);
    all.iter().filter(|_| random.usize(0..4) < share).cloned().collect()
}

impl Org {
    /// A random org: group 0 is `Everyone`, the first apps are of every sort that the crawl treats in its own way.
    pub(super) fn random(random: &mut fastrand::Rng) -> Self {
        let status = |random: &mut fastrand::Rng| match random.u8(0..4) {
            0 => UserStatus::Deprovisioned,
            _ => UserStatus::Active,
        };
        let mut org = Self { page_rows: random.usize(1..5), ..Self::default() };
        org.users = (0..random.usize(1..12)).map(|n| user(n, status(random))).collect();
        org.groups = vec![group(0, "Everyone", GroupType::BuiltIn)];
        org.groups.extend((1..random.usize(1..6)).map(|n| group(n, "Eng", GroupType::OktaGroup)));
        org.apps = vec![
            app(0, "jira", None),
            app(1, EXCLUDED, None),
            app(2, "oidc_client", Some("service")),
            app(3, UNLISTED, None),
        ];
        org.apps.extend((4..random.usize(4..8)).map(|n| app(n, "salesforce", None)));
        let users: Vec<UserId> = org.users.iter().map(|user| user.id.clone()).collect();
        let groups: Vec<GroupId> = org.groups.iter().map(|group| group.id.clone()).collect();
        for group in &groups[1..] {
            org.members.insert(group.clone(), some(random, &users));
        }
        for app in org.apps.iter().filter(|app| !app.is_service_app()) {
            org.app_users.insert(app.id.clone(), some(random, &users));
            org.app_groups.insert(app.id.clone(), some(random, &groups));
        }
        org
    }

    fn size(&self, group: &Group) -> usize {
        match group.is_everyone() {
            true => self.users.len(),
            false => self.members.get(&group.id).map_or(0, BTreeSet::len),
        }
    }

    /// Whether the group list says that the group has no members.
    pub(super) fn is_empty_group(&self, id: &GroupId) -> bool {
        self.groups.iter().any(|group| group.id == *id && self.size(group) == 0)
    }

    /// Everything that a list holds in the end.
    pub(super) fn rows(&self, scope: &Scope) -> Vec<Row> {
        let app_user = |app: &AppId, user: &UserId| {
            Row::AppUser(AppUser {
                app: app.clone(),
                user: user.clone(),
                user_name: None,
                external_id: None,
                email: None,
                status: AppUserStatus::Active,
                scope: AssignmentScope::User,
                sync_state: None,
                via_group: None,
                created: None,
                last_updated: None,
                status_changed: None,
            })
        };
        let app_group = |app: &AppId, group: &GroupId| {
            Row::AppGroup(AppGroup { app: app.clone(), group: group.clone(), priority: None, last_updated: None })
        };
        match scope {
            Scope::Users => self.users.iter().cloned().map(Row::User).collect(),
            Scope::Groups => self.groups.iter().cloned().map(Row::Group).collect(),
            Scope::Apps => self.apps.iter().filter(|app| &*app.name != UNLISTED).cloned().map(Row::App).collect(),
            Scope::GroupMembers(group) => {
                let member = |user: &UserId| Row::GroupMember(GroupMember { group: group.clone(), user: user.clone() });
                self.members.get(group).into_iter().flatten().map(member).collect()
            }
            Scope::AppUsers(app) => self.app_users.get(app).into_iter().flatten().map(|u| app_user(app, u)).collect(),
            Scope::AppGroups(app) => {
                self.app_groups.get(app).into_iter().flatten().map(|g| app_group(app, g)).collect()
            }
            Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => Vec::new(),
        }
    }

    fn listed(&self, scope: &Scope, listing: Listing) -> Vec<Row> {
        if self.emptied.contains(scope) {
            return Vec::new();
        }
        let is_deactivated = |row: &Row| matches!(row, Row::User(user) if user.status == UserStatus::Deprovisioned);
        let mut rows = self.rows(scope);
        match listing {
            Listing::Usual => {}
            Listing::PlainUsers => rows.retain(|row| !is_deactivated(row)),
            Listing::DeactivatedUsers => rows.retain(is_deactivated),
        }
        rows
    }

    /// The answer to a call that was sent as request `at`.
    pub(super) fn answer(&self, id: CallId, call: &Call, at: RequestNumber) -> Input {
        match call {
            Call::AnchorLog { .. } => Input::Log(id, super::log_page("log?after=1")),
            Call::FirstPage { scope, listing, limit, .. } => {
                let limit = limit.map_or(self.page_rows, |limit| limit as usize);
                Input::Page(id, self.page(scope, *listing, limit, 0, at))
            }
            Call::NextPage { scope, listing, next, .. } => {
                let (limit, offset) = parse_link(scope, *listing, next);
                Input::Page(id, self.page(scope, *listing, limit, offset, at))
            }
            Call::Read(key) => {
                let lists = [Scope::Users, Scope::Groups].iter().flat_map(|scope| self.rows(scope));
                let mut all = lists.chain(self.apps.iter().cloned().map(Row::App));
                let found = all.find(|row| row.key() == *key);
                Input::ById(id, found.map_or(ByIdSeen::NotFound(at), |row| ByIdSeen::Found(Box::new(row), at)))
            }
            Call::SearchDeletions { .. } => {
                let objects = self.deleted.clone();
                Input::Deletions(id, DeletionsSeen { objects, is_whole: true })
            }
            Call::PollLog(_) | Call::Select { .. } => panic!("a crawl does not ask for {call:?}"),
        }
    }

    fn page(&self, scope: &Scope, listing: Listing, limit: usize, offset: usize, at: RequestNumber) -> PageSeen {
        let all = self.listed(scope, listing);
        let end = (offset + limit).min(all.len());
        let rows: Vec<Row> = all.get(offset..end).unwrap_or_default().to_vec();
        let group_stats = rows
            .iter()
            .filter_map(|row| match row {
                Row::Group(group) => Some((group.id.clone(), GroupStats { users: self.size(group) as u64, apps: 0 })),
                _ => None,
            })
            .collect();
        let next = match self.endless.contains(scope) {
            true => Some(link(scope, listing, limit, 0)),
            false => (end < all.len()).then(|| link(scope, listing, limit, end)),
        };
        PageSeen { at, rows, group_stats, next, ..PageSeen::default() }
    }
}

fn link(scope: &Scope, listing: Listing, limit: usize, offset: usize) -> String {
    format!("{scope} {} {limit} {offset}", listing.name())
}

/// Reads a link back; it must belong to the list that it is asked for.
fn parse_link(scope: &Scope, listing: Listing, next: &str) -> (usize, usize) {
    let parts: Vec<&str> = next.split(' ').collect();
    assert_eq!(parts[..2], [&*scope.name(), listing.name()], "a link of another list");
    (parts[2].parse().unwrap(), parts[3].parse().unwrap())
}

/// What a crawl has committed; survives the death of the state machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    pub(super) rows: BTreeMap<Key, u64>,
    pub(super) walks: BTreeMap<Scope, WalkState>,
    pub(super) gaps: BTreeSet<(Scope, GapKind)>,
    pub(super) crawl: u64,
    pub(super) is_running: bool,
    pub(super) has_cursor: bool,
    everyone: BTreeSet<GroupId>,
    revision: u64,
}

impl Memory {
    /// Stores a batch as the real store does, without its brake.
    pub(super) fn commit(&mut self, batch: &Batch) -> Receipt {
        match &batch.crawl {
            Some(CrawlMark::Begin { id, .. }) => {
                assert!(id.0 > self.crawl && !self.is_running, "a crawl begins once");
                self.crawl = id.0;
                self.is_running = true;
                self.walks.clear();
            }
            Some(CrawlMark::End { id }) => {
                assert!(id.0 == self.crawl && self.is_running, "the crawl that runs ends");
                self.is_running = false;
            }
            None => assert!(self.is_running, "nothing is committed outside a crawl"),
        }
        for key in &batch.removals {
            self.remove(key);
        }
        for row in &batch.rows {
            if let Row::Group(group) = row
                && group.is_everyone()
            {
                self.everyone.insert(group.id.clone());
            }
            self.rows.insert(row.key(), batch.at.0);
        }
        let mut finished = Vec::new();
        for update in &batch.walks {
            if let WalkState::Finished { from, .. } = &update.state {
                finished.push(self.finish(&update.scope, *from));
            }
            self.walks.insert(update.scope.clone(), update.state.clone());
        }
        self.gaps.extend(batch.gaps.iter().map(|gap| (gap.scope.clone(), gap.kind)));
        for gap in &batch.closed_gaps {
            self.gaps.remove(gap);
        }
        self.has_cursor |= batch.cursor.is_some();
        self.revision += 1;
        Receipt { revision: Revision(self.revision), finished, owed: Vec::new() }
    }

    fn remove(&mut self, key: &Key) {
        let app = match key {
            Key::App(app) => Some(app),
            _ => None,
        };
        let is_of_app = |other: &Key| match other {
            Key::AppUser(of, _) | Key::AppGroup(of, _) => Some(of) == app,
            _ => false,
        };
        self.rows.retain(|other, _| other != key && !is_of_app(other));
    }

    fn finish(&mut self, scope: &Scope, from: RequestNumber) -> Finished {
        let in_scope = |key: &Key| key.scope() == *scope;
        let missing: Vec<Key> =
            self.rows.iter().filter(|(key, at)| in_scope(key) && **at < from.0).map(|(key, _)| key.clone()).collect();
        let verdict = if missing.is_empty() { Verdict::Nothing } else { Verdict::Ask };
        let mut finished = Finished {
            scope: scope.clone(),
            verdict,
            removed: 0,
            unlisted: Vec::new(),
            sample: Vec::new(),
            missing: 0,
            stored: 0,
        };
        for key in missing {
            match key {
                Key::App(_) => finished.unlisted.push(key),
                key => {
                    self.remove(&key);
                    finished.removed += 1;
                }
            }
        }
        self.gaps.retain(|(other, kind)| other != scope || matches!(kind, GapKind::Held | GapKind::ImplicitAssignment));
        finished
    }

    /// What stored rows name and no row is.
    pub(super) fn unseen(&self) -> UnseenFound {
        let users: BTreeSet<UserId> = self
            .rows
            .keys()
            .filter_map(|key| match key {
                Key::AppUser(_, user) | Key::GroupMember(_, user) => Some(user.clone()),
                _ => None,
            })
            .filter(|user| !self.rows.contains_key(&Key::User(user.clone())))
            .collect();
        let groups: BTreeSet<GroupId> = self
            .rows
            .keys()
            .filter_map(|key| match key {
                Key::AppGroup(_, group) => Some(group.clone()),
                _ => None,
            })
            .filter(|group| !self.rows.contains_key(&Key::Group(group.clone())))
            .collect();
        UnseenFound {
            user_count: users.len() as u64,
            users: users.into_iter().collect(),
            group_count: groups.len() as u64,
            groups: groups.into_iter().collect(),
            apps: Vec::new(),
        }
    }

    /// Whether the group list has shown the group.
    pub(super) fn knows_group(&self, group: &GroupId) -> bool {
        self.rows.contains_key(&Key::Group(group.clone()))
    }

    /// Groups that are assigned to an app, without `Everyone`.
    pub(super) fn assigned_groups(&self) -> Vec<GroupId> {
        let groups: BTreeSet<GroupId> = self
            .rows
            .keys()
            .filter_map(|key| match key {
                Key::AppGroup(_, group) if !self.everyone.contains(group) => Some(group.clone()),
                _ => None,
            })
            .collect();
        groups.into_iter().collect()
    }
}

//! What the org answers, as of the moment at which it is asked.

use std::collections::BTreeSet;

use super::World;
use crate::core::batch::Listing;
use crate::core::event::deletions;
use crate::core::ids::{LogCursor, RequestNumber, Timestamp};
use crate::core::model::{GroupMember, GroupStats, Key, Row, Scope, UserStatus};
use crate::core::sync::{
    ByIdSeen, Call, CallId, DeletionsSeen, Input, LogSeen, PageSeen, ReadFailure, Selection, UserAppSeen,
};

fn no_such() -> ReadFailure {
    ReadFailure::NotFound { detail: "404".to_owned() }
}

impl World {
    /// The answer to a call that was sent as request `at`.
    pub(in super::super) fn answer(
        &self,
        id: CallId,
        call: &Call,
        at: RequestNumber,
        random: &mut fastrand::Rng,
    ) -> Input {
        let answer = match call {
            Call::AnchorLog { since } => {
                let from = self.log.iter().take_while(|(persisted, _)| persisted < since).count();
                Ok(Input::Log(id, self.log_page(from.max(self.forgotten), at)))
            }
            Call::SearchDeletions { since } => {
                let shown = self.log.iter().filter(|(persisted, _)| persisted >= since);
                let objects = shown.flat_map(|(_, event)| deletions(event)).collect();
                Ok(Input::Deletions(id, DeletionsSeen { objects, is_whole: true }))
            }
            Call::PollLog(cursor) => self.poll(cursor).map(|from| Input::Log(id, self.log_page(from, at))),
            Call::FirstPage { scope, listing, limit, .. } => {
                let limit = limit.map_or(self.page_rows, |limit| limit as usize);
                let rows = self.rows(scope, *listing).map(|rows| {
                    match self.emptied.contains(scope) || self.hidden.contains(scope) {
                        true => Vec::new(),
                        false => rows,
                    }
                });
                rows.map(|rows| Input::Page(id, self.page(rows, limit, "", at)))
            }
            Call::NextPage { scope, listing, next, .. } => {
                let (limit, after) = parse_link(next);
                self.rows(scope, *listing).map(|rows| Input::Page(id, self.page(rows, limit, after, at)))
            }
            Call::Select { selection, next, limit } => {
                let limit = limit.map_or(self.page_rows, |limit| limit as usize);
                let (limit, after) = next.as_deref().map_or((limit, ""), parse_link);
                self.select(selection, limit, after, at, random).map(|page| Input::Page(id, page))
            }
            Call::Read(key) => {
                let found = |row| ByIdSeen::Found(Box::new(row), at);
                Ok(Input::ById(id, self.read(key).map_or(ByIdSeen::NotFound(at), found)))
            }
        };
        answer.unwrap_or_else(|failure| Input::Failed(id, failure))
    }

    /// Whether the position is the end of the log and nothing more comes.
    pub(in super::super) fn is_read_to_its_end(&self, cursor: &LogCursor) -> bool {
        self.poll(cursor).is_ok_and(|from| from == self.log.len()) && self.next_at().is_none()
    }

    /// Whether polls from the position are answered.
    pub(in super::super) fn accepts(&self, cursor: &LogCursor) -> bool {
        self.poll(cursor).is_ok()
    }

    /// The place of a position in the log, accepted or not.
    pub(in super::super) fn place_of(cursor: &LogCursor) -> usize {
        cursor.0.split_once(' ').and_then(|(_, place)| place.parse().ok()).expect("a position of this log")
    }

    fn poll(&self, cursor: &LogCursor) -> Result<usize, ReadFailure> {
        let (generation, from) = cursor.0.split_once(' ').expect("a position of this log");
        let is_good = generation.parse() == Ok(self.generation);
        is_good.then(|| from.parse().expect("a number")).ok_or(ReadFailure::CursorGone)
    }

    fn log_page(&self, from: usize, at: RequestNumber) -> LogSeen {
        let events: Vec<_> = self.log.iter().skip(from).take(self.log_rows).map(|(_, event)| event.clone()).collect();
        let next = Some(LogCursor(format!("{} {}", self.generation, from + events.len())));
        LogSeen { at, is_full: events.len() == self.log_rows, events, next, ..LogSeen::default() }
    }

    /// The list of a user's apps goes on showing them: of one that lacks an app nobody could tell.
    fn is_concealed(&self, object: impl Into<Option<Key>>) -> bool {
        object.into().as_ref().and_then(Scope::of_object).is_some_and(|object| self.concealed.contains(&object))
    }

    /// Whether the row is shown to this credential: neither a concealed object nor who is a member and concealed.
    fn shows(&self, row: &Row) -> bool {
        match row {
            Row::GroupMember(member) => !self.is_concealed(Key::User(member.user.clone())),
            row => !self.is_concealed(row.key()),
        }
    }

    /// One object as a read by id shows it.
    fn read(&self, key: &Key) -> Option<Row> {
        let is_below_concealed = match key {
            Key::AppUser(app, _) | Key::AppGroup(app, _) => self.is_concealed(Key::App(app.clone())),
            _ => false,
        };
        self.row(key).filter(|row| !is_below_concealed && self.shows(row))
    }

    /// One object.
    pub(in super::super) fn row(&self, key: &Key) -> Option<Row> {
        match key {
            Key::User(user) => self.users.get(user).cloned().map(Row::User),
            Key::Group(group) => self.groups.get(group).cloned().map(Row::Group),
            Key::App(app) => self.apps.get(app).cloned().map(Row::App),
            Key::AppUser(app, user) => self.accounts.get(&(app.clone(), user.clone())).cloned().map(Row::AppUser),
            Key::AppGroup(app, group) => self.app_groups.get(&(app.clone(), group.clone())).cloned().map(Row::AppGroup),
            Key::GroupMember(group, user) => {
                let member = GroupMember { group: group.clone(), user: user.clone() };
                self.members.contains(&(group.clone(), user.clone())).then_some(Row::GroupMember(member))
            }
        }
    }

    /// Everything that there is of a collection, in the order of its keys.
    pub(in super::super) fn all_rows(&self, scope: &Scope) -> Vec<Row> {
        match scope {
            Scope::Users => self.users.values().cloned().map(Row::User).collect(),
            Scope::Groups => self.groups.values().cloned().map(Row::Group).collect(),
            Scope::Apps => self.apps.values().cloned().map(Row::App).collect(),
            Scope::GroupMembers(group) => {
                let of_group = self.members.iter().filter(|(other, _)| other == group);
                of_group.filter_map(|(group, user)| self.row(&Key::GroupMember(group.clone(), user.clone()))).collect()
            }
            Scope::AppUsers(app) => {
                let of_app = self.accounts.values().filter(|account| account.app == *app);
                of_app.cloned().map(Row::AppUser).collect()
            }
            Scope::AppGroups(app) => {
                let of_app = self.app_groups.values().filter(|assigned| assigned.app == *app);
                of_app.cloned().map(Row::AppGroup).collect()
            }
            Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => Vec::new(),
        }
    }

    fn rows(&self, scope: &Scope, listing: Listing) -> Result<Vec<Row>, ReadFailure> {
        let is_there = match scope {
            Scope::GroupMembers(group) => {
                self.groups.contains_key(group) && !self.is_concealed(Key::Group(group.clone()))
            }
            Scope::AppUsers(app) | Scope::AppGroups(app) => {
                self.apps.contains_key(app) && !self.is_concealed(Key::App(app.clone()))
            }
            _ => true,
        };
        if !is_there {
            return Err(no_such());
        }
        let is_deactivated = |row: &Row| matches!(row, Row::User(user) if user.status == UserStatus::Deprovisioned);
        let mut rows = self.all_rows(scope);
        rows.retain(|row| self.shows(row));
        rows.retain(|row| match listing {
            Listing::Usual => !matches!(row, Row::App(app) if self.unlisted.contains(&app.id)),
            Listing::PlainUsers => !is_deactivated(row),
            Listing::DeactivatedUsers => is_deactivated(row),
        });
        Ok(rows)
    }

    /// The rows behind `after`, at most `limit`.
    fn page(&self, rows: Vec<Row>, limit: usize, after: &str, at: RequestNumber) -> PageSeen {
        let limit = limit.max(1);
        let name = |row: &Row| format!("{:?}", row.key());
        let mut rest: Vec<Row> = rows.into_iter().filter(|row| *name(row) > *after).collect();
        let has_more = rest.len() > limit;
        rest.truncate(limit);
        let next = rest.last().filter(|_| has_more).map(|row| format!("{limit} {}", name(row)));
        let group_stats = rest.iter().filter_map(|row| match row {
            Row::Group(group) => {
                let users = match group.is_everyone() {
                    true => self.users.len(),
                    false => self.members.iter().filter(|(other, _)| *other == group.id).count(),
                };
                Some((group.id.clone(), GroupStats { users: users as u64, apps: 0 }))
            }
            _ => None,
        });
        PageSeen { at, group_stats: group_stats.collect(), rows: rest, next, ..PageSeen::default() }
    }

    fn select(
        &self,
        selection: &Selection,
        limit: usize,
        after: &str,
        at: RequestNumber,
        random: &mut fastrand::Rng,
    ) -> Result<PageSeen, ReadFailure> {
        let is_since = |date: Option<Timestamp>, since: &Timestamp| date.is_some_and(|date| date > *since);
        let rows: Vec<Row> = match selection {
            Selection::UsersChanged(since) => {
                let changed = self.users.values().filter(|user| is_since(user.last_updated, since));
                changed.cloned().map(Row::User).collect()
            }
            Selection::UsersByIds(ids) => {
                self.users.values().filter(|user| ids.contains(&user.id)).cloned().map(Row::User).collect()
            }
            Selection::GroupsChanged(since) => {
                let changed = self.groups.values().filter(|group| {
                    is_since(group.last_updated, since) || is_since(group.last_membership_updated, since)
                });
                changed.cloned().map(Row::Group).collect()
            }
            Selection::GroupsOfApp(app) => {
                let of_app = self.groups.values().filter(|group| group.source_app.as_ref() == Some(app));
                of_app.cloned().map(Row::Group).collect()
            }
            Selection::UserGroups(user) | Selection::UserApps(user) if self.is_concealed(Key::User(user.clone())) => {
                return Err(no_such());
            }
            Selection::UserGroups(user) if !self.users.contains_key(user) => return Err(no_such()),
            Selection::UserGroups(user) => {
                let is_in = |group: &&crate::core::model::Group| {
                    group.is_everyone() || self.members.contains(&(group.id.clone(), user.clone()))
                };
                self.groups.values().filter(is_in).cloned().map(Row::Group).collect()
            }
            Selection::UserApps(user) => {
                let of_user = self.accounts.values().filter(|account| account.user == *user);
                let is_shown: BTreeSet<_> = of_user.map(|account| account.app.clone()).collect();
                let is_active = |app: &crate::core::model::App| {
                    self.shows_inactive_apps || app.status == crate::core::model::AppStatus::Active
                };
                let apps = self.apps.values().filter(|app| is_shown.contains(&app.id) && is_active(app));
                let mut page = self.page(apps.cloned().map(Row::App).collect(), limit, after, at);
                let seen = |row: Row| match row {
                    Row::App(app) => {
                        let app_user = self.accounts.get(&(app.id.clone(), user.clone())).cloned();
                        let is_lost = random.u8(0..100) < self.lost_expand;
                        Some(UserAppSeen { app: app.id, app_user: app_user.filter(|_| !is_lost) })
                    }
                    _ => None,
                };
                page.user_apps = std::mem::take(&mut page.rows).into_iter().filter_map(seen).collect();
                return Ok(page);
            }
        };
        let rows = rows.into_iter().filter(|row| self.shows(row)).collect();
        Ok(self.page(rows, limit, after, at))
    }
}

/// Rows on a page, and the last key shown.
fn parse_link(link: &str) -> (usize, &str) {
    let (limit, after) = link.split_once(' ').expect("a link of this org");
    (limit.parse().expect("a number"), after)
}

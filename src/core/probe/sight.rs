//! What the answers have shown so far, and what is worth asking about because of it.
//!
//! Entry points: [`Sight::note`] takes an answer in; `user_to_read` and the like choose.
//!
//! Whatever an answer names and no list has shown is the most telling object to ask for: a credential that sees only a part
//! of the org does not see it, and says so with 404 (facts 7.2). It costs the one request that is made anyway.

use std::collections::{BTreeMap, BTreeSet};

use super::{Probe, Role};
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::{AppStatus, GroupStats, Row, Scope, User};

/// The page of a list.
#[derive(Clone, Debug)]
pub(super) struct Listed<T> {
    pub(super) ids: BTreeSet<T>,
    first: Option<T>,
    /// Whether the page was the whole list.
    pub(super) is_whole: bool,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self { ids: BTreeSet::new(), first: None, is_whole: false }
    }
}

impl<T: Ord + Clone> Listed<T> {
    fn note(&mut self, id: &T) {
        self.first.get_or_insert_with(|| id.clone());
        self.ids.insert(id.clone());
    }

    /// Of what is named somewhere, what the page does not show; else what it shows first.
    fn telling(&self, named: &BTreeMap<T, Scope>) -> Option<T> {
        named.keys().find(|id| !self.ids.contains(*id)).or(self.first.as_ref()).cloned()
    }
}

/// The members that a group showed.
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) group: GroupId,
    pub(super) shown: u64,
    pub(super) is_whole: bool,
}

/// What the answers have shown.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    pub(super) users: Listed<UserId>,
    pub(super) groups: Listed<GroupId>,
    pub(super) apps: Listed<AppId>,
    /// Users, and those of them without login or e-mail, by the probe that showed them.
    pub(super) nameless: BTreeMap<Probe, (usize, usize)>,
    /// Counts that came with the groups.
    pub(super) stats: BTreeMap<GroupId, GroupStats>,
    /// Built-in groups of all users.
    pub(super) everyone: Option<GroupId>,
    /// Whether the group of all users was looked for and is not there.
    pub(super) everyone_is_absent: bool,
    /// What answers name, and which.
    pub(super) named_users: BTreeMap<UserId, Scope>,
    pub(super) named_groups: BTreeMap<GroupId, Scope>,
    pub(super) named_apps: BTreeMap<AppId, Scope>,
    pub(super) members: Option<Members>,
    telling_app: Option<AppId>,
    /// The owner's roles, where they can be read.
    pub(super) roles: Option<Vec<Role>>,
    /// Whether the credential is a service app, which has its roles by itself.
    pub(super) is_service_app: bool,
}

impl Sight {
    /// The credential is a service app: what has to be done is done there.
    pub fn note_service_app(&mut self) {
        self.is_service_app = true;
    }

    /// Takes in the page of a list. `is_whole`: it is the only page.
    pub fn note(&mut self, probe: Probe, rows: &[Row], stats: &[(GroupId, GroupStats)], is_whole: bool) {
        self.stats.extend(stats.iter().cloned());
        for row in rows {
            self.note_row(probe, row);
        }
        match probe {
            Probe::UserSearch => self.users.is_whole = is_whole,
            Probe::Groups => self.groups.is_whole = is_whole,
            Probe::Apps => self.apps.is_whole = is_whole,
            Probe::GroupMembers => {
                if let Some(members) = &mut self.members {
                    members.is_whole = is_whole;
                }
            }
            _ => {}
        }
        if probe == Probe::Groups && is_whole && self.everyone.is_none() {
            self.everyone_is_absent = true;
        }
    }

    fn note_row(&mut self, probe: Probe, row: &Row) {
        match row {
            Row::User(user) => {
                self.users.note(&user.id);
                let (all, nameless) = self.nameless.entry(probe).or_default();
                *all += 1;
                *nameless += usize::from(is_nameless(user));
            }
            Row::Group(group) => {
                if group.is_everyone() {
                    self.everyone = Some(group.id.clone());
                }
                if let Some(app) = &group.source_app {
                    self.named_apps.insert(app.clone(), Scope::Groups);
                }
                self.groups.note(&group.id);
            }
            Row::App(app) => {
                let is_telling = app.status == AppStatus::Active && !app.is_okta_built_in() && !app.is_service_app();
                if is_telling {
                    self.telling_app.get_or_insert_with(|| app.id.clone());
                }
                self.apps.note(&app.id);
            }
            Row::GroupMember(member) => {
                let members = self.members.get_or_insert_with(|| Members {
                    group: member.group.clone(),
                    shown: 0,
                    is_whole: false,
                });
                members.shown += 1;
                self.named_users.insert(member.user.clone(), Scope::GroupMembers(member.group.clone()));
            }
            Row::AppUser(account) => {
                let scope = Scope::AppUsers(account.app.clone());
                if let Some(group) = &account.via_group {
                    self.named_groups.insert(group.clone(), scope.clone());
                }
                self.named_users.insert(account.user.clone(), scope);
            }
            Row::AppGroup(assigned) => {
                self.named_groups.insert(assigned.group.clone(), Scope::AppGroups(assigned.app.clone()));
            }
        }
    }

    /// Takes in that a group's list of members came without any.
    pub fn note_no_members(&mut self, group: &GroupId) {
        self.members = Some(Members { group: group.clone(), shown: 0, is_whole: true });
    }

    /// Takes in the owner's roles.
    pub fn note_roles(&mut self, roles: Vec<Role>) {
        self.roles = Some(roles);
    }

    /// Whether the group of all users has to be looked for by itself: the first page of the groups does not show it, and
    /// is not all of them.
    pub fn must_look_for_everyone(&self) -> bool {
        self.everyone.is_none() && !self.everyone_is_absent && !self.groups.ids.is_empty()
    }

    /// Takes in the built-in groups, where they had to be looked for.
    pub fn note_built_in_groups(&mut self, rows: &[Row], stats: &[(GroupId, GroupStats)]) {
        self.stats.extend(stats.iter().cloned());
        self.everyone = rows.iter().find_map(|row| match row {
            Row::Group(group) if group.is_everyone() => Some(group.id.clone()),
            _ => None,
        });
        self.everyone_is_absent = self.everyone.is_none();
    }

    /// A group whose members say something: of those that have any, the one with the fewest, since only a list that comes
    /// whole can be compared with its count. Rather not `Everyone`, whose members are never walked.
    pub fn group_to_walk(&self) -> Option<GroupId> {
        let counted = |id: &&GroupId| self.stats.get(*id).is_some_and(|stats| stats.users > 0);
        let walked = |id: &&GroupId| self.everyone.as_ref() != Some(*id);
        let fewest = self.groups.ids.iter().filter(counted).filter(walked).min_by_key(|id| self.stats[*id].users);
        fewest.or_else(|| self.groups.ids.iter().find(walked)).or(self.everyone.as_ref()).cloned()
    }

    /// An app whose users say something: active and not one of Okta's own, if there is such a one on the page.
    pub fn app_to_list(&self) -> Option<AppId> {
        self.telling_app.as_ref().or(self.apps.first.as_ref()).cloned()
    }

    /// The user who is read by id.
    pub fn user_to_read(&self) -> Option<UserId> {
        self.users.telling(&self.named_users)
    }

    /// The group that is read by id.
    pub fn group_to_read(&self) -> Option<GroupId> {
        self.groups.telling(&self.named_groups)
    }

    /// The app that is read by id.
    pub fn app_to_read(&self) -> Option<AppId> {
        self.apps.telling(&self.named_apps)
    }

    /// Types of the owner's roles.
    pub fn role_kinds(&self) -> Option<Vec<String>> {
        Some(self.roles.as_ref()?.iter().map(|role| role.kind.to_string()).collect())
    }
}

/// Every user has a login and, practically, an e-mail (facts 2.1): where they are missing, the role hides them.
fn is_nameless(user: &User) -> bool {
    user.login.is_none() || user.email.is_none()
}

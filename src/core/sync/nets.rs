//! Safety nets for what the log does not tell (facts 12.3): delta walks, the list of apps, rolling re-lists.

use std::collections::BTreeMap;

use super::super::batch::Delta;
use super::super::ids::{AppId, Timestamp};
use super::super::model::Scope;
use super::super::pending::{Target, When};
use super::SyncState;

/// When which net is due.
#[derive(Debug)]
pub(super) struct Nets {
    pub(super) deltas: BTreeMap<Delta, Timestamp>,
    started_at: Timestamp,
    users_at: Option<Timestamp>,
    groups_at: Option<Timestamp>,
    apps_at: Option<Timestamp>,
    relist_at: Option<Timestamp>,
    /// When the app users of an app were last read completely.
    listed: BTreeMap<AppId, Timestamp>,
}

impl Nets {
    pub(super) fn new(
        deltas: BTreeMap<Delta, Timestamp>,
        listed: BTreeMap<AppId, Timestamp>,
        started_at: Timestamp,
    ) -> Self {
        Self { deltas, started_at, users_at: None, groups_at: None, apps_at: None, relist_at: None, listed }
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        [self.users_at, self.groups_at, self.apps_at, self.relist_at].into_iter().flatten().min()
    }

    /// A walk of a scope is complete.
    pub(super) fn listed(&mut self, scope: &Scope, now: Timestamp) {
        if let Scope::AppUsers(app) = scope {
            self.listed.insert(app.clone(), now);
        }
    }

    pub(super) fn forget(&mut self, app: &AppId) {
        self.listed.remove(app);
    }

    /// A crawl has read everything: the nets wait their full time again.
    pub(super) fn crawled(&mut self, now: Timestamp) {
        self.started_at = now;
        (self.users_at, self.groups_at, self.apps_at) = (None, None, None);
    }

    /// The app that was listed longest ago.
    fn oldest(&self) -> Option<(AppId, Timestamp)> {
        self.listed.iter().min_by_key(|(_, at)| **at).map(|(app, at)| (app.clone(), *at))
    }
}

impl SyncState {
    pub(super) fn cast_nets(&mut self) {
        // A crawl reads all that the nets would.
        if self.crawl.is_running {
            return;
        }
        let Some(follow) = &self.follow else { return };
        let (now, started_at) = (self.moment.now, self.nets.started_at);
        let (users, groups, apps) = (follow.users_delta_millis, follow.groups_delta_millis, follow.apps_millis);
        let relist = follow.relist_millis;
        // Returns whether the net is due, and moves it on.
        let is_due = |at: &mut Option<Timestamp>, interval: Option<i64>| {
            let Some(interval) = interval else { return false };
            let due_at = *at.get_or_insert(started_at.plus_millis(interval));
            if due_at <= now {
                *at = Some(now.plus_millis(interval));
            }
            due_at <= now
        };
        let users_due = is_due(&mut self.nets.users_at, users);
        let groups_due = is_due(&mut self.nets.groups_at, groups);
        let apps_due = is_due(&mut self.nets.apps_at, apps);
        let apps_count = i64::try_from(self.nets.listed.len()).unwrap_or(i64::MAX).max(1);
        let relist_due = is_due(&mut self.nets.relist_at, relist.map(|millis| (millis / apps_count).max(1)));
        if users_due {
            self.owe(Target::UsersDelta, When::Now, "users delta");
        }
        if groups_due {
            self.owe(Target::GroupsDelta, When::Now, "groups delta");
        }
        if apps_due {
            self.owe(Target::List(Scope::Apps), When::Now, "list of apps");
        }
        if relist_due
            && let (Some((app, at)), Some(interval)) = (self.nets.oldest(), relist)
            && now.millis_since(at) > interval / 2
        {
            // Not again before its turn comes, however its list ends.
            self.nets.listed.insert(app.clone(), now);
            self.owe(Target::List(Scope::AppUsers(app.clone())), When::Now, "re-list");
            self.owe(Target::List(Scope::AppGroups(app)), When::Now, "re-list");
        }
    }
}

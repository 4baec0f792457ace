//! What Okta does in the background: fan-out of group assignments, unassignment after deactivation, provisioning.
//!
//! Entry point: [`Org::run_jobs`]. Invariant: a job re-reads the org when it runs, so whatever changed in between is
//! honoured and running it twice changes nothing more (`Org::reconcile`).

use super::types::{AppStatus, AppUserStatus, Scope, SyncState, UserStatus};
use super::{AppRef, Org, UserRef};

/// Users handled by one step of a fan-out: an AppUser each, so that a large group takes many steps (facts 5.3).
const FAN_OUT_USERS_PER_STEP: usize = 1;

#[derive(Debug)]
pub(crate) enum Job {
    /// Bring one (app, user) pair in line with what grants it.
    Reconcile { app: u32, user: u32 },
    /// Create the app users of a group, member by member.
    GrantGroup { app: u32, group: u32, after: Option<u32> },
    /// Check all app users of an app after a grant has gone, or after activation of the app.
    SweepApp { app: u32, after: Option<u32> },
    /// Reconcile every app of a user.
    UserApps { user: u32 },
    /// Create the account in the app: STAGED becomes PROVISIONED with an external id.
    Provision { app: u32, user: u32 },
    /// Bring a changed profile into an app that takes profiles.
    PushProfile { app: u32, user: u32 },
    /// Finish a deletion.
    DeleteUser { user: u32 },
}

impl Org {
    pub(crate) fn queue(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Background work that has not run yet.
    pub fn pending_jobs(&self) -> usize {
        self.jobs.len()
    }

    /// Runs up to `steps_max` steps of background work and returns how many ran; `0` means that nothing is left.
    pub fn run_jobs(&mut self, steps_max: usize) -> usize {
        let mut steps = 0;
        while steps < steps_max {
            let Some(job) = self.jobs.pop_front() else { break };
            steps += 1;
            if let Some(rest) = self.run_job(job) {
                self.jobs.push_front(rest);
            }
        }
        steps
    }

    /// Runs all background work.
    pub fn run_all_jobs(&mut self) {
        while self.run_jobs(usize::MAX) > 0 {}
    }

    /// One step of a job; returns what is left of it.
    fn run_job(&mut self, job: Job) -> Option<Job> {
        match job {
            Job::Reconcile { app, user } => self.reconcile(AppRef(app), UserRef(user)),
            Job::GrantGroup { app, group, after } => {
                let users = self.members_after(group, after, FAN_OUT_USERS_PER_STEP);
                let last = *users.last()?;
                for user in users {
                    self.reconcile(AppRef(app), UserRef(user));
                }
                return Some(Job::GrantGroup { app, group, after: Some(last) });
            }
            Job::SweepApp { app, after } => {
                let next = self.app(app)?.users_after(after).next().map(|found| (found.assignment, found.user));
                let (assignment, user) = next?;
                self.reconcile(AppRef(app), UserRef(user));
                return Some(Job::SweepApp { app, after: Some(assignment) });
            }
            Job::UserApps { user } => {
                let apps: Vec<u32> = self.user(user)?.assignments.iter().map(|pair| pair.0).collect();
                for app in apps {
                    self.reconcile(AppRef(app), UserRef(user));
                }
            }
            Job::Provision { app, user } => self.provision(AppRef(app), UserRef(user)),
            Job::PushProfile { app, user } => self.push_profile(AppRef(app), UserRef(user)),
            Job::DeleteUser { user } => self.complete_delete(UserRef(user)),
        }
        None
    }

    /// Members of a group after a user index, ascending.
    pub(crate) fn members_after(&self, group: u32, after: Option<u32>, count_max: usize) -> Vec<u32> {
        let start = after.map_or(0, |last| last.saturating_add(1));
        if group == self.everyone().0 {
            let users = self.users.get(start as usize..).unwrap_or_default();
            return users
                .iter()
                .zip(start..)
                .filter(|(user, _)| user.is_some())
                .map(|(_, index)| index)
                .take(count_max)
                .collect();
        }
        let Some(known) = self.group(group) else { return Vec::new() };
        let place = known.members.partition_point(|member| *member < start);
        known.members[place..].iter().copied().take(count_max).collect()
    }

    /// Queues the pairs that the groups of a user grant (after creation or reactivation).
    pub(crate) fn queue_reconcile_user(&mut self, user: UserRef) {
        let Some(known) = self.user(user.0) else { return };
        let mut apps: Vec<u32> = Vec::new();
        for group in known.groups.iter().chain([&self.everyone().0]) {
            apps.extend(self.group(*group).map(|known| known.apps.as_slice()).unwrap_or_default());
        }
        apps.sort_unstable();
        apps.dedup();
        for app in apps {
            self.queue(Job::Reconcile { app, user: user.0 });
        }
    }

    /// Brings one pair in line: creates the group-derived app user that is granted, removes the one that no longer is.
    /// Direct assignments stay unless the user is deactivated; nothing happens while the app is INACTIVE (facts 2.2).
    pub(crate) fn reconcile(&mut self, app: AppRef, user: UserRef) {
        let (Some(known_app), Some(known_user)) = (self.app(app.0), self.user(user.0)) else { return };
        if known_app.status != AppStatus::Active {
            return;
        }
        let gone = known_user.status == UserStatus::Deprovisioned;
        let granted = !gone && !self.granting(app.0, user.0).is_empty();
        match self.app_user(app.0, user.0).map(|existing| existing.scope) {
            None if granted => self.grant(app, user, Scope::Group, true),
            Some(Scope::Group) if !granted => self.revoke(app, user, true),
            Some(Scope::User) if gone => self.revoke(app, user, true),
            None | Some(_) => {}
        }
    }

    /// The account is created in the app; one in thirteen attempts fails and stays STAGED with `syncState` ERROR,
    /// which an event with outcome FAILURE tells.
    fn provision(&mut self, app: AppRef, user: UserRef) {
        let now_s = self.now_s();
        let Ok(existing) = self.app_user_mut(app, user) else { return };
        if existing.status != AppUserStatus::Staged {
            return;
        }
        let failed = existing.assignment % 13 == 12;
        existing.last_updated_s = now_s;
        existing.sync = if failed { SyncState::Error } else { SyncState::Synchronized };
        let draft = self.app_user_event("application.provision.user.push", true, app, user);
        if failed {
            self.emit(draft.failed());
            return;
        }
        if let Ok(existing) = self.app_user_mut(app, user) {
            existing.status = AppUserStatus::Provisioned;
            existing.status_changed_s = now_s;
            existing.has_external_id = true;
        }
        self.emit(draft);
    }

    /// The app user shows the changed profile; told by one event. Nothing to do in apps without provisioning.
    fn push_profile(&mut self, app: AppRef, user: UserRef) {
        if !self.app(app.0).is_some_and(super::types::App::provisions) {
            return;
        }
        let now_s = self.now_s();
        let Ok(existing) = self.app_user_mut(app, user) else { return };
        existing.last_updated_s = now_s;
        self.emit(self.app_user_event("application.provision.user.push_profile", true, app, user));
    }
}

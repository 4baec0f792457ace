//! Debts for single accounts: collected, planned together, read in the cheapest way (facts 12.2).
//!
//! An account waits while its user or app is about to be read by id (if that is gone, so is the account), or all accounts of
//! its user.

use std::collections::{BTreeMap, BTreeSet};

use super::super::batch::Batch;
use super::super::ids::{AppId, UserId};
use super::super::model::Scope;
use super::super::pending::{Target, When};
use super::super::plan::{Costs, PairPlan, Sizes, plan_pairs, sizes_wanted};
use super::{Effect, Selected, SyncState};

type Pair = (AppId, UserId);

/// Accounts on their way to a read.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// Due, not planned yet.
    waiting: BTreeSet<Pair>,
    /// Waiting for a read by id of their app or user.
    blocked: BTreeMap<Target, Vec<Pair>>,
    /// Being planned: the sizes of lists have been asked for.
    round: Option<BTreeSet<Pair>>,
    /// Planned to be read with the whole list of their app.
    by_list: BTreeSet<Target>,
}

impl Accounts {
    pub(super) fn wait(&mut self, app: AppId, user: UserId) {
        self.waiting.insert((app, user));
    }

    /// A read that accounts wait for was answered, or has failed.
    pub(super) fn unblock(&mut self, target: &Target) {
        self.by_list.remove(target);
        self.waiting.extend(self.blocked.remove(target).into_iter().flatten());
    }

    pub(super) fn is_by_list(&self, target: &Target) -> bool {
        self.by_list.contains(target)
    }
}

impl SyncState {
    /// Plans what is due. `batch` takes up debts that need no read.
    pub(super) fn plan_accounts(&mut self, batch: &mut Batch, effects: &mut Vec<Effect>) {
        if self.accounts.round.is_some() || self.accounts.waiting.is_empty() {
            return;
        }
        let mut round = BTreeSet::new();
        for (app, user) in std::mem::take(&mut self.accounts.waiting) {
            let target = Target::AppUser(app.clone(), user.clone());
            if self.debts.get(&target).is_none() {
                continue;
            }
            let blocker = match self.apps.get(&app) {
                // An app that was never seen: what it is decides whether its accounts are wanted.
                None => {
                    let blocker = Target::App(app.clone());
                    if self.debts.get(&blocker).is_none() {
                        self.owe(blocker.clone(), When::Now, "app of an account");
                    }
                    Some(blocker)
                }
                Some(known) if !known.is_read => {
                    batch.answered.extend(self.debts.unwanted(&target));
                    continue;
                }
                // A read of all accounts of the user that is due anyway covers this one.
                Some(_) => [Target::App(app.clone()), Target::User(user.clone()), Target::UserApps(user.clone())]
                    .into_iter()
                    .find(|blocker| self.debts.is_due_or_taken(blocker, self.moment.now)),
            };
            match blocker {
                Some(blocker) => self.accounts.blocked.entry(blocker).or_default().push((app, user)),
                // The list of the app is not believed at present: by it the account would be owed again at once.
                None if self.holds.is_held(&Scope::AppUsers(app.clone())) => self.ready.account(app, user),
                None => {
                    round.insert((app, user));
                }
            }
        }
        let (apps, users) = sizes_wanted(&round, self.costs());
        if apps.is_empty() && users.is_empty() {
            self.read_as_planned(&round, &Sizes::default());
        } else {
            self.accounts.round = Some(round);
            effects.push(Effect::Count { apps, users });
        }
    }

    pub(super) fn on_counted(&mut self, sizes: &Sizes) {
        if let Some(round) = self.accounts.round.take() {
            self.read_as_planned(&round, sizes);
        }
    }

    fn costs(&self) -> Costs {
        self.follow.as_ref().map(|follow| follow.costs).unwrap_or_default()
    }

    fn read_as_planned(&mut self, round: &BTreeSet<Pair>, sizes: &Sizes) {
        let PairPlan { apps, users, pairs } = plan_pairs(round, sizes, self.costs());
        let apps: BTreeSet<AppId> = apps.into_iter().collect();
        for (app, user) in round.iter().filter(|(app, _)| apps.contains(app)) {
            self.accounts.by_list.insert(Target::AppUser(app.clone(), user.clone()));
        }
        for user in users {
            let of_user = round.iter().filter(|(app, other)| *other == user && !apps.contains(app));
            let accounts = of_user.map(|(app, _)| app.clone()).collect();
            self.ready.select(Selected::user_apps(user, accounts));
        }
        for app in apps {
            self.lanes.request(Scope::AppUsers(app));
        }
        for (app, user) in pairs {
            self.ready.account(app, user);
        }
    }
}

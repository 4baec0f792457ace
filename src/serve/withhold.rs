//! Rows that the policy keeps back, because they may be outdated.
//!
//! Entry points: [`Withholds::withholds_account`] and its like, one per kind of row.

use super::ask::Ask;
use crate::core::coverage::OnGap;
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::Scope;

/// Who knows which scopes can no longer be read, and what becomes of their rows.
pub(crate) trait Withholds {
    /// Whether the policy may keep rows back at all; spares asking for each row.
    fn may_withhold(&self) -> bool;

    /// Whether the policy keeps rows of one of these scopes back.
    fn withholds(&self, scopes: &[Scope]) -> bool;

    /// Whether a user's row is kept back.
    fn withholds_user(&self, user: &UserId) -> bool {
        self.may_withhold() && self.withholds(&[Scope::Users, Scope::User(user.clone())])
    }

    /// Whether an app's row is kept back.
    fn withholds_app(&self, app: &AppId) -> bool {
        self.may_withhold() && self.withholds(&[Scope::Apps, Scope::App(app.clone())])
    }

    /// Whether a group's row is kept back.
    fn withholds_group(&self, group: &GroupId) -> bool {
        self.may_withhold() && self.withholds(&[Scope::Groups, Scope::Group(group.clone())])
    }

    /// Whether an account, or what it hangs on, is kept back.
    fn withholds_account(&self, app: &AppId, user: &UserId) -> bool {
        self.may_withhold()
            && (self.withholds(&[Scope::AppUsers(app.clone())]) || self.withholds_user(user) || self.withholds_app(app))
    }

    /// Whether a membership, or what it hangs on, is kept back. Those of `Everyone` are the users.
    fn withholds_member(&self, members: &Scope, user: &UserId) -> bool {
        self.may_withhold() && (self.withholds(std::slice::from_ref(members)) || self.withholds_user(user))
    }

    /// Whether an assignment of a group, or what it hangs on, is kept back.
    fn withholds_app_group(&self, app: &AppId, group: &GroupId) -> bool {
        self.may_withhold()
            && (self.withholds(&[Scope::AppGroups(app.clone())])
                || self.withholds_app(app)
                || self.withholds_group(group))
    }
}

impl Withholds for Ask<'_> {
    fn may_withhold(&self) -> bool {
        let policy = self.view.coverage_policy();
        if policy.on_gap == OnGap::Keep && policy.max_stale_millis.is_none() {
            return false;
        }
        // A gap that has closed since the snapshot stands against its rows.
        let coverage = self.view.reader().coverage();
        coverage.open_gaps() > 0 || coverage.generation() != self.generation()
    }

    fn withholds(&self, scopes: &[Scope]) -> bool {
        if !self.may_withhold() {
            return false;
        }
        let (coverage, policy) = (self.view.reader().coverage(), self.view.coverage_policy());
        let since = self.generation();
        scopes.iter().any(|scope| coverage.withheld_since(scope, since, self.now, policy))
    }
}

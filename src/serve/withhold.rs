//! Rows that the policy keeps back, because they may be outdated.
//!
//! Entry points: [`Withholds::withholds_account`] and its like, one per kind of row.

use super::ask::Ask;
use crate::core::coverage::OnGap;
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::Scope;

/// Who knows what can no longer be read, and what becomes of such rows.
pub(crate) trait Withholds {
    /// Whether the policy may keep rows back at all; spares asking for each row.
    fn may_withhold(&self) -> bool;

    /// Whether the policy keeps back one of these rows, each in a list that shows it: by the id that its record carries there.
    fn withholds(&self, rows: &[(Scope, &str)]) -> bool;

    /// Whether a user's row is kept back.
    fn withholds_user(&self, user: &UserId) -> bool {
        self.may_withhold()
            && self.withholds(&[(Scope::Users, user.as_str()), (Scope::User(user.clone()), user.as_str())])
    }

    /// Whether an app's row is kept back.
    fn withholds_app(&self, app: &AppId) -> bool {
        self.may_withhold() && self.withholds(&[(Scope::Apps, app.as_str()), (Scope::App(app.clone()), app.as_str())])
    }

    /// Whether a group's row is kept back.
    fn withholds_group(&self, group: &GroupId) -> bool {
        self.may_withhold()
            && self.withholds(&[(Scope::Groups, group.as_str()), (Scope::Group(group.clone()), group.as_str())])
    }

    /// Whether an account, or what it hangs on, is kept back.
    fn withholds_account(&self, app: &AppId, user: &UserId) -> bool {
        self.may_withhold()
            && (self.withholds(&[(Scope::AppUsers(app.clone()), user.as_str())])
                || self.withholds_user(user)
                || self.withholds_app(app))
    }

    /// Whether a membership, or what it hangs on, is kept back. Those of `Everyone` are the users.
    fn withholds_member(&self, members: &Scope, user: &UserId) -> bool {
        self.may_withhold() && (self.withholds(&[(members.clone(), user.as_str())]) || self.withholds_user(user))
    }

    /// Whether an assignment of a group, or what it hangs on, is kept back.
    fn withholds_app_group(&self, app: &AppId, group: &GroupId) -> bool {
        self.may_withhold()
            && (self.withholds(&[(Scope::AppGroups(app.clone()), group.as_str())])
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

    fn withholds(&self, rows: &[(Scope, &str)]) -> bool {
        if !self.may_withhold() {
            return false;
        }
        let (coverage, policy) = (self.view.reader().coverage(), self.view.coverage_policy());
        let since = self.generation();
        rows.iter().any(|(scope, row)| coverage.withheld_since(scope, row, since, self.now, policy))
    }
}

//! Checks the invariants of the org: the two sides of every relation agree.
//!
//! Entry point: [`Org::check_invariants`], for tests after random histories.

use super::Org;

/// The first invariant found broken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("check the org: {0}")]
pub struct InvariantError(pub String);

impl Org {
    /// Compares both sides of memberships, app users and app-group assignments.
    pub fn check_invariants(&self) -> Result<(), InvariantError> {
        let require = |holds: bool, what: String| if holds { Ok(()) } else { Err(InvariantError(what)) };
        for (index, user) in (0u32..).zip(&self.users) {
            let Some(user) = user else { continue };
            require(user.groups.is_sorted_by(|left, right| left < right), format!("groups of user {index}"))?;
            for group in &user.groups {
                let holds = self.group(*group).is_some_and(|known| known.members.binary_search(&index).is_ok());
                require(holds, format!("user {index} in group {group}"))?;
            }
            for (app, assignment) in &user.assignments {
                let found = self.app(*app).and_then(|known| known.find(*assignment));
                require(found.is_some_and(|found| found.user == index), format!("user {index} in app {app}"))?;
            }
        }
        for (index, group) in (0u32..).zip(&self.groups) {
            let Some(group) = group else { continue };
            require(group.members.is_sorted_by(|left, right| left < right), format!("members of group {index}"))?;
            for member in &group.members {
                let holds = self.user(*member).is_some_and(|known| known.groups.binary_search(&index).is_ok());
                require(holds, format!("group {index} has user {member}"))?;
            }
            for app in &group.apps {
                let holds =
                    self.app(*app).is_some_and(|known| known.groups.iter().any(|assigned| assigned.group == index));
                require(holds, format!("group {index} in app {app}"))?;
            }
        }
        for (index, app) in (0u32..).zip(&self.apps) {
            let Some(app) = app else { continue };
            let living: Vec<_> = app.users_after(None).collect();
            require(living.len() == app.live_users, format!("count of app {index}"))?;
            require(app.users.is_sorted_by_key(|user| user.assignment), format!("order of app {index}"))?;
            for app_user in living {
                let holds =
                    self.user(app_user.user).and_then(|known| known.assignment_in(index)) == Some(app_user.assignment);
                require(holds, format!("app {index} has user {}", app_user.user))?;
            }
            for assigned in &app.groups {
                let holds = self.group(assigned.group).is_some_and(|known| known.apps.binary_search(&index).is_ok());
                require(holds, format!("app {index} has group {}", assigned.group))?;
            }
        }
        Ok(())
    }
}

//! What a credential does not see although it is there (facts 7.2), and what its role may read at all (facts 1.5).
//!
//! Entry points: [`Hidden`], [`Way`] for how an object is missing, [`Role`] for permissions, `Sim::narrow_role` and
//! `Sim::widen_role` for both at once with the events that tell of it (facts 9.6).
//!
//! Invariant: nothing here changes the org. What is shown again is as it is then, without any event about it.

use std::collections::{BTreeMap, BTreeSet};

use crate::org::Org;
use crate::org::emit_role_event;

/// Objects and single rows that are missing from answers. Objects are missing as [`Hidden::way`] says, unless
/// [`Hidden::ways`] says otherwise for the id.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    /// User ids.
    pub users: BTreeSet<String>,
    /// Group ids.
    pub groups: BTreeSet<String>,
    /// App ids.
    pub apps: BTreeSet<String>,
    /// How they are missing.
    pub way: Way,
    /// How single ones of them are missing, by id.
    pub ways: BTreeMap<String, Way>,
    /// The counts of `expand=stats` leave out what is hidden. Otherwise they are those of the org.
    pub left_out_of_stats: bool,
    /// Single app users, by (app id, user id), missing from the list of the app; and what a read by id says.
    pub app_users: BTreeMap<(String, String), ById>,
    /// Single group assignments, by (app id, group id), missing from the list of the app; and what a read by id says.
    pub app_groups: BTreeMap<(String, String), ById>,
    /// Single memberships, by (group id, user id), missing from the list of the group. The groups of the user still show
    /// it with [`ById::Shown`] only: there is no read by id.
    pub members: BTreeMap<(String, String), ById>,
}

/// How an object is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Whether other objects still name it: as member, app user, assigned group, group or app of somebody, source of a
    /// group. Lists of its own kind never show it.
    pub named: bool,
    /// What a read by id says, of it and of what is below it.
    pub by_id: ById,
}

/// What a read by id says of something that lists do not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ById {
    /// 404 E0000007, as if it were gone.
    #[default]
    NotFound,
    /// 403 E0000006.
    Forbidden,
    /// The object (facts 13.22).
    Shown,
}

/// What the role of the credential's owner may read (facts 1.5). Which objects it may read is a matter of [`Hidden`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Everything, administrators' roles included.
    #[default]
    Super,
    /// The standard role Read-only Administrator: everything but administrators' roles.
    ReadOnly,
    /// A custom role with permissions as the catalog names them: `okta.users.read`, `okta.groups.read`, `okta.apps.read`,
    /// `okta.iam.read`, `okta.users.apitokens.read`. None of them opens the System Log.
    Custom {
        /// The permissions.
        permissions: BTreeSet<String>,
        /// The standard role Report Administrator as well: it reads the System Log.
        reports: bool,
    },
}

impl Role {
    /// A custom role with these permissions and nothing else.
    pub fn custom<'a>(permissions: impl IntoIterator<Item = &'a str>) -> Self {
        Self::Custom { permissions: permissions.into_iter().map(ToOwned::to_owned).collect(), reports: false }
    }

    /// Adds a permission by its name, or the Read-only Administrator role by `Read-only`. Other names change nothing.
    pub fn grant(&mut self, name: &str) {
        match self {
            Self::Super | Self::ReadOnly => {}
            Self::Custom { .. } if name == "Read-only" => *self = Self::ReadOnly,
            Self::Custom { permissions, .. } => {
                permissions.insert(name.to_owned());
            }
        }
    }

    fn has(&self, permission: &str) -> bool {
        match self {
            Self::Super => true,
            Self::ReadOnly => permission != "okta.iam.read",
            Self::Custom { permissions, .. } => permissions.contains(permission),
        }
    }

    /// Whether a path below `/api/v1/` may be read.
    pub(crate) fn reads(&self, rest: &[&str]) -> bool {
        match rest {
            ["users", _, "roles"] | ["iam", ..] => self.has("okta.iam.read"),
            ["users", _, "groups"] | ["groups", ..] => self.has("okta.groups.read"),
            ["users", ..] => self.has("okta.users.read"),
            ["apps", ..] => self.has("okta.apps.read"),
            ["api-tokens" | "principal-rate-limits"] => self.has("okta.users.apitokens.read"),
            ["logs"] => !matches!(self, Self::Custom { reports: false, .. }),
            _ => true,
        }
    }
}

impl Hidden {
    /// How an id is missing; `None` if it is not among `ids`.
    pub(crate) fn way_of(&self, ids: &BTreeSet<String>, id: &str) -> Option<Way> {
        ids.contains(id).then(|| self.ways.get(id).copied().unwrap_or(self.way))
    }

    /// Hides a user in a way of its own.
    pub fn hide_user(&mut self, id: &str, way: Way) {
        self.users.insert(id.to_owned());
        self.ways.insert(id.to_owned(), way);
    }

    /// Hides a group in a way of its own.
    pub fn hide_group(&mut self, id: &str, way: Way) {
        self.groups.insert(id.to_owned());
        self.ways.insert(id.to_owned(), way);
    }

    /// Hides an app in a way of its own.
    pub fn hide_app(&mut self, id: &str, way: Way) {
        self.apps.insert(id.to_owned());
        self.ways.insert(id.to_owned(), way);
    }

    /// Hides everything that is outside these groups and apps now, as a custom role with a resource set does: other groups
    /// and apps, `Everyone`, and users who are in none of the groups (facts 1.5, 7.2).
    pub fn all_but(org: &Org, groups: &[String], apps: &[String]) -> Self {
        let others = |id: &String, kept: &[String]| !kept.contains(id);
        let members: BTreeSet<String> = groups
            .iter()
            .filter_map(|id| crate::ids::GroupRef::parse(id))
            .flat_map(|group| org.truth_members(group))
            .collect();
        Self {
            users: org.truth_users().map(|user| user.id).filter(|id| !members.contains(id)).collect(),
            groups: org
                .truth_groups()
                .map(|group| group.id)
                .filter(|id| *id == org.everyone().id() || others(id, groups))
                .collect(),
            apps: org.truth_apps().map(|app| app.id).filter(|id| others(id, apps)).collect(),
            ..Self::default()
        }
    }
}

impl crate::Sim {
    /// The administrator whose credential is used is left with a custom role on these groups and apps. `told`: the log
    /// announces it, as the loss of the old role and a binding to a resource set (facts 9.6).
    pub fn narrow_role(&mut self, role: Role, groups: &[String], apps: &[String], told: bool) {
        self.role = role;
        self.hidden = Hidden::all_but(&self.org, groups, apps);
        if told {
            emit_role_event(&mut self.org, "user.account.privilege.revoke");
            emit_role_event(&mut self.org, "iam.resourceset.bindings.add");
        }
    }

    /// The administrator has all rights again.
    pub fn widen_role(&mut self, told: bool) {
        self.role = Role::Super;
        self.hidden = Hidden::default();
        if told {
            emit_role_event(&mut self.org, "user.account.privilege.grant");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(role: &Role, readable: &[&str], refused: &[&str]) {
        let reads = |path: &&str| role.reads(&path.split('/').collect::<Vec<_>>());
        assert!(readable.iter().all(&reads), "{role:?}: {readable:?}");
        assert!(!refused.iter().any(reads), "{role:?}: {refused:?}");
    }

    #[test]
    fn roles_read_what_the_facts_say() {
        let all = ["users", "users/u", "groups/g/users", "apps/a/users/u", "logs", "api-tokens", "org"];
        check(&Role::Super, &all, &[]);
        check(&Role::Super, &["users/u/roles", "iam/assignees/users"], &[]);
        check(&Role::ReadOnly, &all, &["users/u/roles", "iam/assignees/users"]);
        let mut role = Role::custom(["okta.groups.read"]);
        check(&role, &["groups", "groups/g", "users/u/groups", "org"], &["users", "users/u", "apps", "logs"]);
        role.grant("okta.users.read");
        role.grant("okta.apps.read");
        check(&role, &["users", "apps/a/groups"], &["logs", "users/u/roles"]);
        role.grant("Read-only");
        assert_eq!(role, Role::ReadOnly);
        let reports = Role::Custom { permissions: BTreeSet::new(), reports: true };
        check(&reports, &["logs"], &["users"]);
    }
}

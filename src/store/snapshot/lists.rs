//! Lists: keyset pages of rows, and what is derived from memberships.

use std::collections::BTreeSet;

use rusqlite::params;

use super::super::columns::{
    APP_COLUMNS, APP_USER_COLUMNS, APP_USER_JOINS, GROUP_COLUMNS, USER_COLUMNS, group_id, read_app, read_app_group,
    read_app_user, read_group, read_user, user_id,
};
use super::super::{StoreError, gaps, missing};
use super::{PageOf, Snapshot, const_format, page, size};
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::{App, AppGroup, AppUser, Group, Kind, Scope, User};

impl Snapshot<'_> {
    /// Users, in the order in which they were first seen.
    pub fn users(&self, after: Option<i64>, limit: usize) -> Result<PageOf<User>, StoreError> {
        Ok(page(self.numbered_users(after, limit.saturating_add(1))?, limit))
    }

    /// Users behind a surrogate, with their own, in their order.
    pub fn numbered_users(&self, after: Option<i64>, limit: usize) -> Result<Vec<(i64, User)>, StoreError> {
        let sql = const_format(&["SELECT u.n, ", USER_COLUMNS, " FROM users u WHERE u.n > ?1 ORDER BY u.n LIMIT ?2"]);
        let after = after.unwrap_or(-1);
        self.rows(&sql, params![after, size(limit)], |row| Ok((row.get(0)?, read_user(row, 1)?)))
    }

    /// Surrogates of the users of an app, in their order.
    pub fn user_numbers_of_app(&self, app: &AppId, limit: usize) -> Result<Vec<i64>, StoreError> {
        let Some(app) = self.n(Kind::App, app.as_str())? else { return Ok(Vec::new()) };
        let sql = "SELECT user FROM app_users WHERE app = ?1 ORDER BY user LIMIT ?2";
        self.rows(sql, params![app, size(limit)], |row| row.get(0))
    }

    /// Groups.
    pub fn groups(&self, after: Option<i64>, limit: usize) -> Result<PageOf<Group>, StoreError> {
        let sql = const_format(&[
            "SELECT g.n, ",
            GROUP_COLUMNS,
            " FROM groups g JOIN ids i ON i.n = g.n LEFT JOIN ids s ON s.n = g.source_app \
             WHERE g.n > ?1 ORDER BY g.n LIMIT ?2",
        ]);
        let after = after.unwrap_or(-1);
        let rows = self.rows(&sql, params![after, size(limit) + 1], |row| Ok((row.get(0)?, read_group(row, 1)?)))?;
        Ok(page(rows, limit))
    }

    /// Apps.
    pub fn apps(&self, after: Option<i64>, limit: usize) -> Result<PageOf<App>, StoreError> {
        let sql = const_format(&[
            "SELECT a.n, ",
            APP_COLUMNS,
            " FROM apps a JOIN ids i ON i.n = a.n WHERE a.n > ?1 ORDER BY a.n LIMIT ?2",
        ]);
        let after = after.unwrap_or(-1);
        let rows = self.rows(&sql, params![after, size(limit) + 1], |row| Ok((row.get(0)?, read_app(row, 1)?)))?;
        Ok(page(rows, limit))
    }

    /// App users of an app.
    pub fn app_users(&self, app: &AppId, after: Option<i64>, limit: usize) -> Result<PageOf<AppUser>, StoreError> {
        let Some(app) = self.n_of_app(app)? else { return Ok(page(Vec::new(), limit)) };
        self.app_users_by_n(app, after, limit)
    }

    /// App users of an app by its surrogate.
    pub fn app_users_by_n(&self, app: i64, after: Option<i64>, limit: usize) -> Result<PageOf<AppUser>, StoreError> {
        let sql = const_format(&[
            "SELECT x.user, ",
            APP_USER_COLUMNS,
            " FROM ",
            APP_USER_JOINS,
            " WHERE x.app = ?1 AND x.user > ?2 ORDER BY x.user LIMIT ?3",
        ]);
        let after = after.unwrap_or(-1);
        let rows =
            self.rows(&sql, params![app, after, size(limit) + 1], |row| Ok((row.get(0)?, read_app_user(row, 1)?)))?;
        Ok(page(rows, limit))
    }

    /// Accounts of a user in all apps.
    pub fn accounts(&self, user: &UserId, after: Option<i64>, limit: usize) -> Result<PageOf<AppUser>, StoreError> {
        let Some(user) = self.n(Kind::User, user.as_str())? else { return Ok(page(Vec::new(), limit)) };
        self.accounts_by_n(user, after, limit)
    }

    /// Accounts of a user by its surrogate.
    pub fn accounts_by_n(&self, user: i64, after: Option<i64>, limit: usize) -> Result<PageOf<AppUser>, StoreError> {
        let sql = const_format(&[
            "SELECT x.app, ",
            APP_USER_COLUMNS,
            " FROM ",
            APP_USER_JOINS,
            " WHERE x.user = ?1 AND x.app > ?2 ORDER BY x.app LIMIT ?3",
        ]);
        let after = after.unwrap_or(-1);
        let rows =
            self.rows(&sql, params![user, after, size(limit) + 1], |row| Ok((row.get(0)?, read_app_user(row, 1)?)))?;
        Ok(page(rows, limit))
    }

    /// Surrogate of the built-in group of all users, where it is visible.
    pub(super) fn everyone(&self) -> Result<Option<i64>, StoreError> {
        if let Some(known) = self.memo.everyone.get() {
            return Ok(*known);
        }
        let everyone = self.one(
            "SELECT n FROM groups WHERE group_type = 'BUILT_IN' AND name = 'Everyone' ORDER BY n LIMIT 1",
            (),
            |row| row.get(0),
        )?;
        Ok(*self.memo.everyone.get_or_init(|| everyone))
    }

    /// Groups of a user, `Everyone` included.
    pub fn groups_of(&self, user: &UserId, after: Option<i64>, limit: usize) -> Result<PageOf<Group>, StoreError> {
        let Some(user) = self.n(Kind::User, user.as_str())? else { return Ok(page(Vec::new(), limit)) };
        let is_listed = self.user_by_n(user)?.is_some();
        let everyone = if is_listed { self.everyone()?.unwrap_or(-1) } else { -1 };
        let sql = const_format(&[
            "SELECT g.n, ",
            GROUP_COLUMNS,
            " FROM (SELECT grp FROM group_members WHERE user = ?1 UNION SELECT ?4) m \
             JOIN groups g ON g.n = m.grp JOIN ids i ON i.n = g.n LEFT JOIN ids s ON s.n = g.source_app \
             WHERE g.n > ?2 ORDER BY g.n LIMIT ?3",
        ]);
        let after = after.unwrap_or(-1);
        let rows = self.rows(&sql, params![user, after, size(limit) + 1, everyone], |row| {
            Ok((row.get(0)?, read_group(row, 1)?))
        })?;
        Ok(page(rows, limit))
    }

    /// Members of a group: user ids, with the user where the user list shows it. `Everyone` is everybody.
    pub fn members(
        &self,
        group: &GroupId,
        after: Option<i64>,
        limit: usize,
    ) -> Result<PageOf<(UserId, Option<User>)>, StoreError> {
        let Some(group) = self.n(Kind::Group, group.as_str())? else { return Ok(page(Vec::new(), limit)) };
        if self.everyone()? == Some(group) {
            let users = self.users(after, limit)?;
            let rows = users.rows.into_iter().map(|user| (user.id.clone(), Some(user))).collect();
            return Ok(PageOf { rows, next: users.next });
        }
        let sql = const_format(&[
            "SELECT m.user, mi.id, u.n, ",
            USER_COLUMNS,
            " FROM group_members m JOIN ids mi ON mi.n = m.user LEFT JOIN users u ON u.n = m.user \
             WHERE m.grp = ?1 AND m.user > ?2 ORDER BY m.user LIMIT ?3",
        ]);
        let after = after.unwrap_or(-1);
        let rows = self.rows(&sql, params![group, after, size(limit) + 1], |row| {
            let user = match row.get::<_, Option<i64>>(2)? {
                Some(_) => Some(read_user(row, 3)?),
                None => None,
            };
            Ok((row.get(0)?, (user_id(row, 1)?, user)))
        })?;
        Ok(page(rows, limit))
    }

    /// Whether a user is in a group. `Everyone` holds all listed users.
    pub fn is_member(&self, group: &GroupId, user: &UserId) -> Result<bool, StoreError> {
        let (Some(group), Some(user)) = (self.n(Kind::Group, group.as_str())?, self.n(Kind::User, user.as_str())?)
        else {
            return Ok(false);
        };
        if self.everyone()? == Some(group) {
            return Ok(self.user_by_n(user)?.is_some());
        }
        let found: Option<i64> =
            self.one("SELECT 1 FROM group_members WHERE grp = ?1 AND user = ?2", [group, user], |row| row.get(0))?;
        Ok(found.is_some())
    }

    /// App-group assignments of an app.
    pub fn app_groups(&self, app: &AppId, after: Option<i64>, limit: usize) -> Result<PageOf<AppGroup>, StoreError> {
        let Some(app) = self.n_of_app(app)? else { return Ok(page(Vec::new(), limit)) };
        let after = after.unwrap_or(-1);
        let rows = self.rows(
            "SELECT x.grp, ai.id, gi.id, x.priority, x.last_updated FROM app_groups x JOIN ids ai ON ai.n = x.app
             JOIN ids gi ON gi.n = x.grp WHERE x.app = ?1 AND x.grp > ?2 ORDER BY x.grp LIMIT ?3",
            params![app, after, size(limit) + 1],
            |row| Ok((row.get(0)?, read_app_group(row, 1)?)),
        )?;
        Ok(page(rows, limit))
    }

    /// Groups that grant the app to the user: the app's groups of which the user is a member, best priority first.
    pub fn granting_groups(&self, app: &AppId, user: &UserId) -> Result<Vec<AppGroup>, StoreError> {
        let (Some(app), Some(user)) = (self.n_of_app(app)?, self.n(Kind::User, user.as_str())?) else {
            return Ok(Vec::new());
        };
        let is_listed = self.user_by_n(user)?.is_some();
        let everyone = if is_listed { self.everyone()?.unwrap_or(-1) } else { -1 };
        self.rows(
            "SELECT ai.id, gi.id, x.priority, x.last_updated FROM app_groups x JOIN ids ai ON ai.n = x.app
             JOIN ids gi ON gi.n = x.grp
             WHERE x.app = ?1 AND (x.grp = ?3 OR EXISTS
                 (SELECT 1 FROM group_members m WHERE m.grp = x.grp AND m.user = ?2))
             ORDER BY x.priority IS NULL, x.priority, gi.id",
            params![app, user, everyone],
            |row| read_app_group(row, 0),
        )
    }

    /// Groups that are assigned to at least one app, without `Everyone`.
    pub fn assigned_groups(&self) -> Result<Vec<GroupId>, StoreError> {
        let everyone = self.everyone()?.unwrap_or(-1);
        self.rows(
            "SELECT DISTINCT i.id FROM app_groups x JOIN ids i ON i.n = x.grp WHERE x.grp <> ?1 ORDER BY i.id",
            [everyone],
            |row| group_id(row, 0),
        )
    }

    /// The built-in group of all users, where it is visible: its members are the users.
    pub fn everyone_group(&self) -> Result<Option<GroupId>, StoreError> {
        match self.everyone()? {
            Some(n) => self.one("SELECT id FROM ids WHERE n = ?1", [n], |row| group_id(row, 0)),
            None => Ok(None),
        }
    }

    /// All groups whose members are read as a list of their own: every group but `Everyone`.
    pub fn walked_groups(&self) -> Result<Vec<GroupId>, StoreError> {
        let everyone = self.everyone()?.unwrap_or(-1);
        self.rows("SELECT i.id FROM groups g JOIN ids i ON i.n = g.n WHERE g.n <> ?1", [everyone], |row| {
            group_id(row, 0)
        })
    }

    /// Those of [`Self::walked_groups`] that an app has, assigned or imported: only they give their members principals.
    pub fn groups_of_apps(&self) -> Result<Vec<GroupId>, StoreError> {
        let everyone = self.everyone()?.unwrap_or(-1);
        self.rows(
            "SELECT i.id FROM groups g JOIN ids i ON i.n = g.n WHERE g.n <> ?1
             AND (g.source_app IS NOT NULL OR EXISTS (SELECT 1 FROM app_groups x WHERE x.grp = g.n))",
            [everyone],
            |row| group_id(row, 0),
        )
    }

    /// Number of groups, the youngest of them, and the revision at which one last came or went, or an app last got one: the same
    /// mark means the same groups, and none that apps have got since.
    pub fn groups_mark(&self) -> Result<(u64, i64, i64), StoreError> {
        if let Some(known) = self.memo.groups_mark.get() {
            return Ok(*known);
        }
        let count =
            self.one("SELECT value FROM meta WHERE name = ?1", [super::super::meta::rows_name(Kind::Group)], |row| {
                row.get::<_, i64>(0)
            })?;
        let youngest = self.one("SELECT max(n) FROM groups", (), |row| row.get::<_, Option<i64>>(0))?.flatten();
        let count = count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default();
        let got = self.one("SELECT value FROM meta WHERE name = ?1", [super::super::meta::GROUPS_OF_APPS], |row| {
            row.get::<_, i64>(0)
        })?;
        let mark = (count, youngest.unwrap_or_default(), got.unwrap_or_default());
        Ok(*self.memo.groups_mark.get_or_init(|| mark))
    }

    /// Whether a collection has a row whose record carries this id.
    pub fn has_row(&self, scope: &Scope, id: &str) -> Result<bool, StoreError> {
        let Some(kind) = gaps::listed_kind(scope) else { return Ok(false) };
        let Some(n) = self.n(kind, id)? else { return Ok(false) };
        Ok(missing::read_at(self.sql, scope, n)?.is_some())
    }

    /// Rows of one scope.
    pub fn rows_in(&self, scope: &Scope) -> Result<u64, StoreError> {
        let (sql, n) = match scope {
            Scope::Users => ("SELECT count(*) FROM users WHERE ?1 IS NULL", None),
            Scope::Groups => ("SELECT count(*) FROM groups WHERE ?1 IS NULL", None),
            Scope::Apps => ("SELECT count(*) FROM apps WHERE ?1 IS NULL", None),
            Scope::GroupMembers(group) => {
                ("SELECT count(*) FROM group_members WHERE grp = ?1", Some(self.n(Kind::Group, group.as_str())?))
            }
            Scope::AppUsers(app) => ("SELECT count(*) FROM app_users WHERE app = ?1", Some(self.n_of_app(app)?)),
            Scope::AppGroups(app) => ("SELECT count(*) FROM app_groups WHERE app = ?1", Some(self.n_of_app(app)?)),
            // Of an object: itself.
            Scope::User(user) => ("SELECT count(*) FROM users WHERE n = ?1", Some(self.n(Kind::User, user.as_str())?)),
            Scope::Group(group) => {
                ("SELECT count(*) FROM groups WHERE n = ?1", Some(self.n(Kind::Group, group.as_str())?))
            }
            Scope::App(app) => ("SELECT count(*) FROM apps WHERE n = ?1", Some(self.n_of_app(app)?)),
            Scope::Log => return Ok(0),
        };
        let n = n.map(|n| n.unwrap_or(-1));
        let count = self.one(sql, [n], |row| row.get::<_, i64>(0))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Groups that are assigned to no app although their members are stored or were once read.
    pub fn unassigned_groups_with_members(&self) -> Result<Vec<GroupId>, StoreError> {
        let mut groups: BTreeSet<GroupId> = self
            .rows(
                "SELECT i.id FROM groups g JOIN ids i ON i.n = g.n
                 WHERE EXISTS (SELECT 1 FROM group_members m WHERE m.grp = g.n)",
                (),
                |row| group_id(row, 0),
            )?
            .into_iter()
            .collect();
        let scopes: Vec<String> =
            self.rows("SELECT scope FROM scopes WHERE scope LIKE 'group_members(%'", (), |row| row.get(0))?;
        groups.extend(scopes.iter().filter_map(|scope| match Scope::parse(scope) {
            Some(Scope::GroupMembers(group)) => Some(group),
            _ => None,
        }));
        for assigned in self.assigned_groups()? {
            groups.remove(&assigned);
        }
        Ok(groups.into_iter().collect())
    }
}

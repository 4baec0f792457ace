//! Rows out of tables, within the writer's transaction: each with everything that hangs on it.
//!
//! Entry points: [`Apply::remove`], [`Apply::remove_in_scope`].
//!
//! Invariants:
//! - With a user go its accounts and memberships, with a group its members and assignments, with an app its accounts and
//!   assignments: no row stays whose user, group or app was removed.
//! - What only a read can tell of what is left behind becomes one of [`Apply::orphans`]'s debts, never a removal.

use rusqlite::Connection;

use super::apply::{ACCOUNT_NAMES, Apply, N, OP_PUT, OP_REMOVED, USER_NAMES};
use super::columns::{APP_GROUPS, APP_USERS, APPS, GROUP_MEMBERS, GROUPS, Table, USERS};
use super::{StoreError, as_i64, missing};
use crate::core::ids::{AppId, GroupId};
use crate::core::model::{Key, Kind, Scope};
use crate::core::pending::Target;

impl Apply<'_> {
    /// Removes an object with everything that hangs on it. Returns the number of rows removed; `None` when something newer
    /// is known about it: then it stays, and so does everything that hangs on it.
    pub(super) fn remove(&mut self, key: &Key) -> Result<Option<u64>, StoreError> {
        if self.guard.is_outdated(key, self.at) {
            return Ok(None);
        }
        let (table, a, b) = self.located(key)?;
        if self.stored_at(table, a, b)?.is_some_and(|at| at > as_i64(self.at.0)) {
            return Ok(None);
        }
        if self.is_reread {
            self.guard.reread(key.clone(), self.at, self.now);
        }
        self.gone.extend(Scope::of_object(key).filter(|scope| self.object_gaps.contains(scope)));
        let b = b.unwrap_or_default();
        let removed = match key {
            Key::User(_) => self.remove_user(a),
            Key::Group(group) => {
                self.gone.push(Scope::GroupMembers(group.clone()));
                self.remove_group(a)
            }
            Key::App(app) => {
                self.gone.extend([Scope::AppUsers(app.clone()), Scope::AppGroups(app.clone())]);
                // One that is there and only not wanted takes no groups along.
                if !self.unwanted_apps.contains(app) {
                    self.owe_groups_of_app(a)?;
                }
                self.remove_app(a)
            }
            Key::GroupMember(..) => self.remove_member(a, b),
            Key::AppUser(..) => self.remove_app_user(a, b),
            Key::AppGroup(..) => self.remove_app_group(a, b),
        }?;
        if matches!(key, Key::User(_) | Key::Group(_) | Key::App(_)) {
            self.guard.removed(key.clone(), self.at, self.now);
        }
        Ok(Some(removed))
    }

    /// Removes one row of `scope` by its surrogate within the scope; `outer` is the group's or app's surrogate.
    pub(super) fn remove_in_scope(&mut self, scope: &Scope, outer: N, n: N) -> Result<u64, StoreError> {
        if !self.object_gaps.is_empty() && matches!(scope, Scope::Users | Scope::Groups) {
            let object = missing::key_of(self.sql, scope, n)?.as_ref().and_then(Scope::of_object);
            self.gone.extend(object.filter(|object| self.object_gaps.contains(object)));
        }
        match scope {
            Scope::Users => self.remove_user(n),
            Scope::Groups => {
                let mut select = self.sql.prepare_cached("SELECT id FROM ids WHERE n = ?1")?;
                let id: String = select.query_row([n], |row| row.get(0))?;
                self.gone.extend(GroupId::new(&id).map(Scope::GroupMembers));
                self.remove_group(n)
            }
            // Never by absence from the list: see `Finished::unlisted`.
            Scope::Apps => Ok(0),
            Scope::GroupMembers(_) => self.remove_member(outer, n),
            Scope::AppUsers(_) => self.remove_app_user(outer, n),
            Scope::AppGroups(_) => self.remove_app_group(outer, n),
            Scope::User(_) => self.remove_user(n),
            Scope::Group(group) => {
                self.gone.push(Scope::GroupMembers(group.clone()));
                self.remove_group(n)
            }
            Scope::App(app) => {
                self.gone.extend([Scope::AppUsers(app.clone()), Scope::AppGroups(app.clone())]);
                self.owe_groups_of_app(n)?;
                self.remove_app(n)
            }
            Scope::Log => Ok(0),
        }
    }

    fn surrogates(&self, sql: &str, n: N) -> Result<Vec<N>, StoreError> {
        let mut statement = self.sql.prepare_cached(sql)?;
        let rows = statement.query_map([n], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Deletes the row itself; nothing happens when there is none.
    fn remove_row(&mut self, kind: Kind, table: &Table, key: &[N]) -> Result<u64, StoreError> {
        let deleted = self.sql.prepare_cached(table.delete)?.execute(rusqlite::params_from_iter(key))?;
        if deleted > 0 {
            let count = self.rows.entry(kind).or_default();
            *count = count.saturating_sub(1);
            self.log(kind, key[0], key.get(1).copied().unwrap_or_default(), OP_REMOVED)?;
            if kind == Kind::Group {
                // One that comes in its place must not pass for it.
                self.note_groups()?;
            }
        }
        Ok(deleted as u64)
    }

    pub(super) fn remove_user(&mut self, n: N) -> Result<u64, StoreError> {
        let mut removed = 0;
        for app in self.surrogates("SELECT app FROM app_users WHERE user = ?1", n)? {
            removed += self.remove_app_user(app, n)?;
        }
        for group in self.surrogates("SELECT grp FROM group_members WHERE user = ?1", n)? {
            removed += self.remove_member(group, n)?;
        }
        let old = self.old_names(&USERS, &[n], &USER_NAMES)?;
        self.rename(0, n, &old, &[])?;
        Ok(removed + self.remove_row(Kind::User, &USERS, &[n])?)
    }

    pub(super) fn remove_group(&mut self, n: N) -> Result<u64, StoreError> {
        let mut removed = 0;
        for user in self.surrogates("SELECT user FROM group_members WHERE grp = ?1", n)? {
            removed += self.remove_member(n, user)?;
        }
        for app in self.surrogates("SELECT app FROM app_groups WHERE grp = ?1", n)? {
            removed += self.remove_app_group(app, n)?;
            let app = self.id_of(app)?.and_then(|id| AppId::new(&id).ok());
            self.orphans.extend(app.map(|app| Target::List(Scope::AppUsers(app))));
        }
        self.run("DELETE FROM member_marks WHERE grp = ?1", [n])?;
        Ok(removed + self.remove_row(Kind::Group, &GROUPS, &[n])?)
    }

    pub(super) fn remove_app(&mut self, n: N) -> Result<u64, StoreError> {
        let mut removed = 0;
        for user in self.surrogates("SELECT user FROM app_users WHERE app = ?1", n)? {
            removed += self.remove_app_user(n, user)?;
        }
        for group in self.surrogates("SELECT grp FROM app_groups WHERE app = ?1", n)? {
            removed += self.remove_app_group(n, group)?;
        }
        self.apps_changed = true;
        Ok(removed + self.remove_row(Kind::App, &APPS, &[n])?)
    }

    /// With an app go the groups that it brought, and no event tells of them (facts 9.4).
    fn owe_groups_of_app(&mut self, n: N) -> Result<(), StoreError> {
        for group in self.surrogates("SELECT n FROM groups WHERE source_app = ?1", n)? {
            if let Some(group) = self.id_of(group)?.and_then(|id| GroupId::new(&id).ok()) {
                self.ended.insert(Target::Group(group.clone()));
                self.orphans.insert(Target::Group(group));
            }
        }
        Ok(())
    }

    /// Removes the secondary e-mails of all users, and what was remembered of earlier ones.
    pub(super) fn drop_second_emails(&mut self) -> Result<(), StoreError> {
        for n in self.surrogates("SELECT n FROM users WHERE second_email IS NOT NULL AND ?1 = 0", 0)? {
            let old = self.old_names(&USERS, &[n], &USER_NAMES)?;
            let kept: Vec<_> = old.iter().filter(|(kind, _)| *kind != "second_email").collect();
            let kept: Vec<_> = kept.into_iter().map(|(kind, name)| (*kind, Some(name.as_str()))).collect();
            self.rename(0, n, &old, &kept)?;
            self.run("UPDATE users SET second_email = NULL WHERE n = ?1", [n])?;
            self.log(Kind::User, n, 0, OP_PUT)?;
        }
        self.run("DELETE FROM account_history WHERE app = 0 AND kind = 'second_email'", ())
    }

    /// Removes rows that name a user or group of which there is no row.
    pub(super) fn remove_rows_of_unknown(&mut self, kind: Kind) -> Result<(), StoreError> {
        let pairs = |sql: &Connection, select: &str| -> Result<Vec<(N, N)>, StoreError> {
            let mut select = sql.prepare_cached(select)?;
            let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        if kind == Kind::Group {
            let unknown = "SELECT app, grp FROM app_groups WHERE grp NOT IN (SELECT n FROM groups)";
            for (app, group) in pairs(self.sql, unknown)? {
                self.remove_app_group(app, group)?;
            }
            let unknown = "SELECT grp, user FROM group_members WHERE grp NOT IN (SELECT n FROM groups)";
            for (group, user) in pairs(self.sql, unknown)? {
                self.remove_member(group, user)?;
            }
            return Ok(());
        }
        let unknown = "SELECT app, user FROM app_users WHERE user NOT IN (SELECT n FROM users)";
        for (app, user) in pairs(self.sql, unknown)? {
            self.remove_app_user(app, user)?;
        }
        let unknown = "SELECT grp, user FROM group_members WHERE user NOT IN (SELECT n FROM users)";
        for (group, user) in pairs(self.sql, unknown)? {
            self.remove_member(group, user)?;
        }
        Ok(())
    }

    fn remove_member(&mut self, group: N, user: N) -> Result<u64, StoreError> {
        self.remove_row(Kind::GroupMember, &GROUP_MEMBERS, &[group, user])
    }

    fn remove_app_user(&mut self, app: N, user: N) -> Result<u64, StoreError> {
        let old = self.old_names(&APP_USERS, &[app, user], &ACCOUNT_NAMES)?;
        self.rename(app, user, &old, &[])?;
        self.remove_row(Kind::AppUser, &APP_USERS, &[app, user])
    }

    fn remove_app_group(&mut self, app: N, group: N) -> Result<u64, StoreError> {
        self.remove_row(Kind::AppGroup, &APP_GROUPS, &[app, group])
    }
}

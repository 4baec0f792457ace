//! What can be read, in one snapshot.
//!
//! Lists are keyset-paged: pass the cursor of the last page, get the next. A cursor is the surrogate of the last row; rows
//! that appear or vanish between two pages do so naturally, nothing is repeated.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::StoreError;
use super::columns::{
    APP_COLUMNS, APP_USER_COLUMNS, APP_USER_JOINS, GROUP_COLUMNS, USER_COLUMNS, app_id, group_id, kind_code,
    kind_of_code, read_app, read_app_group, read_app_user, read_group, read_user, user_id,
};
use super::meta::Meta;
use crate::core::coverage::{Gap, GapKind, GapRecord};
use crate::core::ids::{AppId, CrawlId, GroupId, Revision, Timestamp, UserId};
use crate::core::model::{App, AppGroup, AppUser, Group, Kind, Scope, User};
use crate::core::normalize::LookupKey;

/// A consistent view of the store.
pub struct Snapshot<'a> {
    sql: &'a Transaction<'a>,
    revision: Revision,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<i64>,
}

/// A user who may be meant by a name in an app; the resolution verifies the raw values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountHit {
    /// The Okta user; `None` when the user list does not show it (or not yet).
    pub user: Option<User>,
    /// Its account in the app; `None` for users who have none there.
    pub app_user: Option<AppUser>,
}

/// A name that somebody had before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldName {
    /// Who had it.
    pub user: UserId,
    /// `user_name`, `external_id`, `email`, `login` or `second_email`.
    pub kind: String,
    /// The name as it was.
    pub name: String,
    /// When the holder was seen to have lost it.
    pub released_at: Timestamp,
    /// Whether it is a name of the user's own account in Okta rather than of one in the app.
    pub of_okta: bool,
}

/// One line of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When (in revisions).
    pub revision: Revision,
    /// What.
    pub key: ChangeKey,
    /// How.
    pub op: ChangeOp,
}

/// A changed row by its surrogates; compact, so that a follower can collapse many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeKey {
    /// Its kind.
    pub kind: Kind,
    /// Surrogate of the user, group or app; of the group or app for rows that have two.
    pub a: i64,
    /// Second surrogate (user or group), else 0.
    pub b: i64,
}

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeOp {
    /// It is gone.
    Removed,
    /// It is new or different.
    Put,
    /// Its label is different: what shows the label has changed too.
    Relabelled,
}

/// A scope as the books have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeRecord {
    /// The scope.
    pub scope: Scope,
    /// `todo`, `walking`, `finished`, `given_up` or `idle`.
    pub state: String,
    /// The crawl that it was last part of.
    pub crawl: CrawlId,
    /// When it was last read to its end.
    pub completed_at: Option<Timestamp>,
}

/// A bad record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantineRecord {
    /// Where it stood.
    pub scope: Scope,
    /// Its id, or empty.
    pub item: String,
    /// What is wrong with it.
    pub reason: String,
    /// When it was last seen.
    pub last_seen: Timestamp,
}

fn size(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn page<T>(mut rows: Vec<(i64, T)>, limit: usize) -> PageOf<T> {
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = if has_more { rows.last().map(|(n, _)| *n) } else { None };
    PageOf { rows: rows.into_iter().map(|(_, row)| row).collect(), next }
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(sql: &'a Transaction<'a>) -> Result<Self, StoreError> {
        Ok(Self { sql, revision: Meta::read_revision(sql)? })
    }

    /// The revision of this snapshot.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// All single values.
    pub fn meta(&self) -> Result<Meta, StoreError> {
        Meta::read(self.sql)
    }

    /// Times of the last complete crawl and of the log position: what every answer tells.
    pub fn times(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), StoreError> {
        let mut select = self.sql.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        let mut time = |name: &str| -> Result<Option<Timestamp>, StoreError> {
            let value: Option<i64> = select.query_row([name], |row| row.get(0)).optional()?;
            Ok(value.map(Timestamp::from_millis))
        };
        Ok((time("crawl_completed_at")?, time("observed_through")?))
    }

    pub(super) fn apps_revision(&self) -> Result<Revision, StoreError> {
        let mut select = self.sql.prepare_cached("SELECT value FROM meta WHERE name = 'apps_revision'")?;
        let value: Option<i64> = select.query_row((), |row| row.get(0)).optional()?;
        Ok(Revision(value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default()))
    }

    fn n(&self, kind: Kind, id: &str) -> Result<Option<i64>, StoreError> {
        let mut select = self.sql.prepare_cached("SELECT n FROM ids WHERE kind = ?1 AND id = ?2")?;
        Ok(select.query_row(params![kind_code(kind), id], |row| row.get(0)).optional()?)
    }

    fn rows<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.sql.prepare_cached(sql)?;
        let rows = statement.query_map(params, read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.sql.prepare_cached(sql)?.query_row(params, read).optional()?)
    }

    // Single objects.

    /// A user by id.
    pub fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        match self.n(Kind::User, id.as_str())? {
            Some(n) => self.user_by_n(n),
            None => Ok(None),
        }
    }

    /// A user by surrogate.
    pub fn user_by_n(&self, n: i64) -> Result<Option<User>, StoreError> {
        let sql = const_format(&["SELECT ", USER_COLUMNS, " FROM users u JOIN ids i ON i.n = u.n WHERE u.n = ?1"]);
        self.one(&sql, [n], |row| read_user(row, 0))
    }

    /// A group by id.
    pub fn group(&self, id: &GroupId) -> Result<Option<Group>, StoreError> {
        match self.n(Kind::Group, id.as_str())? {
            Some(n) => self.group_by_n(n),
            None => Ok(None),
        }
    }

    /// A group by surrogate.
    pub fn group_by_n(&self, n: i64) -> Result<Option<Group>, StoreError> {
        let sql = const_format(&[
            "SELECT ",
            GROUP_COLUMNS,
            " FROM groups g JOIN ids i ON i.n = g.n LEFT JOIN ids s ON s.n = g.source_app WHERE g.n = ?1",
        ]);
        self.one(&sql, [n], |row| read_group(row, 0))
    }

    /// An app by id.
    pub fn app(&self, id: &AppId) -> Result<Option<App>, StoreError> {
        match self.n(Kind::App, id.as_str())? {
            Some(n) => self.app_by_n(n),
            None => Ok(None),
        }
    }

    /// An app by surrogate.
    pub fn app_by_n(&self, n: i64) -> Result<Option<App>, StoreError> {
        let sql = const_format(&["SELECT ", APP_COLUMNS, " FROM apps a JOIN ids i ON i.n = a.n WHERE a.n = ?1"]);
        self.one(&sql, [n], |row| read_app(row, 0))
    }

    /// All apps, ordered by label.
    pub(super) fn all_apps(&self) -> Result<Vec<App>, StoreError> {
        let sql =
            const_format(&["SELECT ", APP_COLUMNS, " FROM apps a JOIN ids i ON i.n = a.n ORDER BY a.label, i.id"]);
        self.rows(&sql, (), |row| read_app(row, 0))
    }

    /// An app user.
    pub fn app_user(&self, app: &AppId, user: &UserId) -> Result<Option<AppUser>, StoreError> {
        match (self.n(Kind::App, app.as_str())?, self.n(Kind::User, user.as_str())?) {
            (Some(app), Some(user)) => self.app_user_by_n(app, user),
            _ => Ok(None),
        }
    }

    /// An app user by surrogates.
    pub fn app_user_by_n(&self, app: i64, user: i64) -> Result<Option<AppUser>, StoreError> {
        let sql =
            const_format(&["SELECT ", APP_USER_COLUMNS, " FROM ", APP_USER_JOINS, " WHERE x.app = ?1 AND x.user = ?2"]);
        self.one(&sql, [app, user], |row| read_app_user(row, 0))
    }

    // Resolution.

    /// Everybody who may be meant by a name in an app, at most `limit`.
    pub fn candidates(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<AccountHit>, StoreError> {
        let Some(app) = self.n(Kind::App, app.as_str())? else { return Ok(Vec::new()) };
        // Two point reads of clustered keys; one statement for both would sort in a temporary table each time.
        let key = key.to_stored();
        let mut users: Vec<i64> = self.rows(
            "SELECT user FROM account_keys WHERE app = ?1 AND key = ?2 LIMIT ?3",
            params![app, key, size(limit)],
            |row| row.get(0),
        )?;
        let of_okta: Vec<i64> =
            self.rows("SELECT user FROM user_keys WHERE key = ?1 LIMIT ?2", params![key, size(limit)], |row| {
                row.get(0)
            })?;
        users.extend(of_okta);
        users.sort_unstable();
        users.dedup();
        users.truncate(limit);
        let hit = |user: i64| -> Result<AccountHit, StoreError> {
            Ok(AccountHit { user: self.user_by_n(user)?, app_user: self.app_user_by_n(app, user)? })
        };
        users.into_iter().map(hit).collect()
    }

    /// Users who may be meant by a login or e-mail.
    pub fn users_by_key(&self, key: LookupKey, limit: usize) -> Result<Vec<User>, StoreError> {
        let sql = const_format(&[
            "SELECT ",
            USER_COLUMNS,
            " FROM user_keys k JOIN users u ON u.n = k.user JOIN ids i ON i.n = u.n WHERE k.key = ?1 LIMIT ?2",
        ]);
        self.rows(&sql, params![key.to_stored(), size(limit)], |row| read_user(row, 0))
    }

    /// Who had a name before, in the app or as login or e-mail.
    pub fn held_names(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<HeldName>, StoreError> {
        let app = self.n(Kind::App, app.as_str())?.unwrap_or(-1);
        let mut names = Vec::new();
        for of in [0, app] {
            names.extend(self.rows(
                "SELECT i.id, h.kind, h.name, h.released_at FROM account_history h JOIN ids i ON i.n = h.user
                 WHERE h.app = ?1 AND h.key = ?2 LIMIT ?3",
                params![of, key.to_stored(), size(limit)],
                |row| {
                    Ok(HeldName {
                        user: user_id(row, 0)?,
                        kind: row.get(1)?,
                        name: row.get(2)?,
                        released_at: Timestamp::from_millis(row.get(3)?),
                        of_okta: of == 0,
                    })
                },
            )?);
        }
        names.sort_by_key(|held| std::cmp::Reverse(held.released_at));
        names.truncate(limit);
        Ok(names)
    }

    // Lists.

    /// Users, in the order in which they were first seen.
    pub fn users(&self, after: Option<i64>, limit: usize) -> Result<PageOf<User>, StoreError> {
        let sql = const_format(&[
            "SELECT u.n, ",
            USER_COLUMNS,
            " FROM users u JOIN ids i ON i.n = u.n WHERE u.n > ?1 ORDER BY u.n LIMIT ?2",
        ]);
        let after = after.unwrap_or(-1);
        let rows = self.rows(&sql, params![after, size(limit) + 1], |row| Ok((row.get(0)?, read_user(row, 1)?)))?;
        Ok(page(rows, limit))
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
        let Some(app) = self.n(Kind::App, app.as_str())? else { return Ok(page(Vec::new(), limit)) };
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
    fn everyone(&self) -> Result<Option<i64>, StoreError> {
        self.one(
            "SELECT n FROM groups WHERE group_type = 'BUILT_IN' AND name = 'Everyone' ORDER BY n LIMIT 1",
            (),
            |row| row.get(0),
        )
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
             LEFT JOIN ids i ON i.n = u.n WHERE m.grp = ?1 AND m.user > ?2 ORDER BY m.user LIMIT ?3",
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
        let Some(app) = self.n(Kind::App, app.as_str())? else { return Ok(page(Vec::new(), limit)) };
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
        let (Some(app), Some(user)) = (self.n(Kind::App, app.as_str())?, self.n(Kind::User, user.as_str())?) else {
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

    /// Number of groups and the youngest of them: as long as no group is removed, the same mark means the same groups.
    pub fn groups_mark(&self) -> Result<(u64, i64), StoreError> {
        let count =
            self.one("SELECT value FROM meta WHERE name = ?1", [super::meta::rows_name(Kind::Group)], |row| {
                row.get::<_, i64>(0)
            })?;
        let youngest = self.one("SELECT max(n) FROM groups", (), |row| row.get::<_, Option<i64>>(0))?.flatten();
        Ok((count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(), youngest.unwrap_or_default()))
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
            Scope::AppUsers(app) => {
                ("SELECT count(*) FROM app_users WHERE app = ?1", Some(self.n(Kind::App, app.as_str())?))
            }
            Scope::AppGroups(app) => {
                ("SELECT count(*) FROM app_groups WHERE app = ?1", Some(self.n(Kind::App, app.as_str())?))
            }
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

    // Books.

    /// Number of bad records.
    pub fn quarantined_count(&self) -> Result<u64, StoreError> {
        let count = self.one("SELECT count(*) FROM quarantine", (), |row| row.get::<_, i64>(0))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Lines of the change log after `revision`, oldest first, whole revisions only unless one alone exceeds `limit`.
    pub fn changes_after(&self, revision: Revision, limit: usize) -> Result<Vec<Change>, StoreError> {
        let mut changes = self.rows(
            "SELECT revision, kind, a, b, op FROM changes WHERE revision > ?1 ORDER BY revision LIMIT ?2",
            params![i64::try_from(revision.0).unwrap_or(i64::MAX), size(limit) + 1],
            read_change,
        )?;
        if changes.len() > limit {
            // The last revision may be cut: leave it to the next call, or read it whole when it is the only one.
            let last = changes.last().map(|(change, _)| change.revision).unwrap_or_default();
            let whole: Vec<_> = changes.iter().take_while(|(change, _)| change.revision < last).cloned().collect();
            changes = if whole.is_empty() {
                self.rows(
                    "SELECT revision, kind, a, b, op FROM changes WHERE revision = ?1",
                    [i64::try_from(last.0).unwrap_or(i64::MAX)],
                    read_change,
                )?
            } else {
                whole
            };
        }
        changes
            .into_iter()
            .map(|(change, kind)| Ok(Change { key: ChangeKey { kind: kind_of_code(kind)?, ..change.key }, ..change }))
            .collect()
    }

    /// The id behind a surrogate.
    pub fn id_of(&self, n: i64) -> Result<Option<String>, StoreError> {
        self.one("SELECT id FROM ids WHERE n = ?1", [n], |row| row.get(0))
    }

    /// Users of an app by surrogate: whom a change of its label touches.
    pub fn users_of_app_by_n(&self, app: i64) -> Result<Vec<i64>, StoreError> {
        self.rows("SELECT user FROM app_users WHERE app = ?1", [app], |row| row.get(0))
    }

    /// Keys of all rows of a kind after `(a, b)`, in order, for rebuilding what is derived.
    pub fn keys_after(&self, kind: Kind, after: (i64, i64), limit: usize) -> Result<Vec<ChangeKey>, StoreError> {
        let sql = match kind {
            Kind::User => "SELECT n, 0 FROM users WHERE n > ?1 AND ?2 IS NOT NULL ORDER BY n LIMIT ?3",
            Kind::Group => "SELECT n, 0 FROM groups WHERE n > ?1 AND ?2 IS NOT NULL ORDER BY n LIMIT ?3",
            Kind::App => "SELECT n, 0 FROM apps WHERE n > ?1 AND ?2 IS NOT NULL ORDER BY n LIMIT ?3",
            Kind::AppUser => "SELECT app, user FROM app_users WHERE (app, user) > (?1, ?2) ORDER BY app, user LIMIT ?3",
            Kind::AppGroup => "SELECT app, grp FROM app_groups WHERE (app, grp) > (?1, ?2) ORDER BY app, grp LIMIT ?3",
            Kind::GroupMember => {
                "SELECT grp, user FROM group_members WHERE (grp, user) > (?1, ?2) ORDER BY grp, user LIMIT ?3"
            }
        };
        self.rows(sql, params![after.0, after.1, size(limit)], |row| {
            Ok(ChangeKey { kind, a: row.get(0)?, b: row.get(1)? })
        })
    }

    /// Scopes of the books, at most `limit`.
    pub fn scopes(&self, limit: usize) -> Result<Vec<ScopeRecord>, StoreError> {
        let rows = self.rows(
            "SELECT scope, state, crawl, completed_at FROM scopes ORDER BY scope LIMIT ?1",
            [size(limit)],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, Option<i64>>(3)?,
                ))
            },
        )?;
        Ok(rows
            .into_iter()
            .filter_map(|(scope, state, crawl, completed_at)| {
                Some(ScopeRecord {
                    scope: Scope::parse(&scope)?,
                    state,
                    crawl: CrawlId(u64::try_from(crawl).unwrap_or_default()),
                    completed_at: completed_at.map(Timestamp::from_millis),
                })
            })
            .collect())
    }

    /// The scopes of the unfinished crawl `id` with the position of each walk.
    pub fn crawl_walks(&self, id: CrawlId) -> Result<Vec<crate::core::batch::WalkUpdate>, StoreError> {
        super::snapshot::walks_of(self, id)
    }

    /// Apps that the list of crawl `id` did not show, once it was read to its end: those whose app users the crawl knows
    /// nothing of. Empty while the list is held, because then nothing is concluded from what it lacks. Apps whose
    /// assignments are not wanted are among them: asking for them by id again does no harm.
    pub fn unlisted_apps(&self, id: CrawlId) -> Result<Vec<AppId>, StoreError> {
        self.rows(
            "SELECT i.id FROM apps a JOIN ids i ON i.n = a.n
             WHERE EXISTS (SELECT 1 FROM scopes WHERE scope = 'apps' AND crawl = ?1 AND state = 'finished')
             AND NOT EXISTS (SELECT 1 FROM gaps WHERE scope = 'apps' AND kind = 'HELD' AND open = 1)
             AND NOT EXISTS (SELECT 1 FROM scopes WHERE scope = 'app_users(' || i.id || ')' AND crawl = ?1)
             ORDER BY i.id",
            [i64::try_from(id.0).unwrap_or(i64::MAX)],
            |row| app_id(row, 0),
        )
    }

    /// Gaps, open ones first.
    pub fn gaps(&self, open_only: bool, limit: usize) -> Result<Vec<GapRecord>, StoreError> {
        let rows = self.rows(
            "SELECT scope, kind, evidence, first_seen, last_seen, count, open FROM gaps
             WHERE open = 1 OR NOT ?1 ORDER BY open DESC, id LIMIT ?2",
            params![open_only, size(limit)],
            |row| {
                let (scope, kind): (String, String) = (row.get(0)?, row.get(1)?);
                let (Some(scope), Some(kind)) = (Scope::parse(&scope), GapKind::parse(&kind)) else {
                    return Ok(None);
                };
                Ok(Some(GapRecord {
                    gap: Gap { scope, kind, evidence: row.get(2)? },
                    first_seen: Timestamp::from_millis(row.get(3)?),
                    last_seen: Timestamp::from_millis(row.get(4)?),
                    count: u64::try_from(row.get::<_, i64>(5)?).unwrap_or_default(),
                    open: row.get(6)?,
                }))
            },
        )?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Bad records, at most `limit`.
    pub fn quarantined(&self, limit: usize) -> Result<Vec<QuarantineRecord>, StoreError> {
        let rows = self.rows(
            "SELECT scope, item, reason, last_seen FROM quarantine ORDER BY scope, item LIMIT ?1",
            [size(limit)],
            |row| {
                let scope: String = row.get(0)?;
                Ok(Scope::parse(&scope).map(|scope| (scope, row.get(1), row.get(2), row.get(3))))
            },
        )?;
        rows.into_iter()
            .flatten()
            .map(|(scope, item, reason, last_seen)| {
                Ok(QuarantineRecord {
                    scope,
                    item: item?,
                    reason: reason?,
                    last_seen: Timestamp::from_millis(last_seen?),
                })
            })
            .collect()
    }

    /// The app ids that a surrogate belongs to, for callers that hold surrogates.
    pub fn app_id_of(&self, n: i64) -> Result<Option<AppId>, StoreError> {
        self.one("SELECT id FROM ids WHERE n = ?1", [n], |row| app_id(row, 0))
    }
}

fn read_change(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Change, i64)> {
    let op = match row.get::<_, i64>(4)? {
        0 => ChangeOp::Removed,
        2 => ChangeOp::Relabelled,
        _ => ChangeOp::Put,
    };
    let revision = Revision(u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default());
    let key = ChangeKey { kind: Kind::User, a: row.get(2)?, b: row.get(3)? };
    Ok((Change { revision, key, op }, row.get(1)?))
}

fn walks_of(snapshot: &Snapshot<'_>, id: CrawlId) -> Result<Vec<crate::core::batch::WalkUpdate>, StoreError> {
    use crate::core::batch::{Listing, Position, WalkState, WalkUpdate};
    use crate::core::ids::RequestNumber;
    let unsigned = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
    let rows = snapshot.rows(
        "SELECT scope, state, next, page, rows, walk_from, listing FROM scopes WHERE crawl = ?1 ORDER BY scope",
        [i64::try_from(id.0).unwrap_or(i64::MAX)],
        |row| {
            let (scope, state): (String, String) = (row.get(0)?, row.get(1)?);
            let from = RequestNumber(unsigned(row.get(5)?));
            let state = match (state.as_str(), row.get::<_, Option<String>>(2)?) {
                ("walking", Some(next)) => WalkState::Walking(Position {
                    next,
                    page: row.get(3)?,
                    rows: unsigned(row.get(4)?),
                    from,
                    listing: row
                        .get::<_, Option<String>>(6)?
                        .and_then(|name| Listing::parse(&name))
                        .unwrap_or(Listing::Usual),
                }),
                ("finished", _) => WalkState::Finished { from },
                ("given_up", _) => WalkState::GivenUp,
                _ => WalkState::Todo,
            };
            Ok(Scope::parse(&scope).map(|scope| WalkUpdate { scope, state }))
        },
    )?;
    Ok(rows.into_iter().flatten().collect())
}

/// Joins constant pieces of SQL.
fn const_format(pieces: &[&str]) -> String {
    pieces.concat()
}

//! Groups of apps: which of them a name means in an app, and which of them a user is in.
//!
//! Entry points: [`Snapshot::groups_named`], [`Snapshot::is_group_of_app`], [`Snapshot::ways_of`].
//!
//! A group is one of an app when it is assigned to the app or imported from it.

use rusqlite::params;

use super::super::StoreError;
use super::super::columns::{GROUP_COLUMNS, app_id, group_id, read_group};
use super::{Snapshot, const_format, size};
use crate::core::ids::{AppId, GroupId, OrgId, UserId};
use crate::core::model::{AppStatus, AppUserStatus, Group, Kind};

/// How a group belongs to an app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupOfApp {
    /// It is assigned to the app.
    pub is_assigned: bool,
    /// It is imported from the app.
    pub is_imported: bool,
}

/// A group that a user is in, of an app in which the user has an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayOf {
    /// The app.
    pub app: AppId,
    /// Status of the app.
    pub app_status: AppStatus,
    /// The group.
    pub group: GroupId,
    /// Status of the user's account in the app.
    pub app_user_status: AppUserStatus,
    /// Whether the group is imported from the app; else it is assigned to it. One that is both comes twice.
    pub is_imported: bool,
}

impl Snapshot<'_> {
    /// Okta's id of the org, once it has told it.
    pub fn org_id(&self) -> Result<Option<OrgId>, StoreError> {
        if let Some(known) = self.memo.org_id.get() {
            return Ok(known.clone());
        }
        let raw = self.one("SELECT value FROM meta WHERE name = 'org_id'", (), |row| row.get::<_, String>(0))?;
        Ok(self.memo.org_id.get_or_init(|| raw.and_then(|raw| OrgId::new(&raw).ok())).clone())
    }

    /// Groups of an app with exactly this name, at most `limit`, in a stable order.
    pub fn groups_named(&self, app: &AppId, name: &str, limit: usize) -> Result<Vec<Group>, StoreError> {
        let Some(app) = self.n_of_app(app)? else { return Ok(Vec::new()) };
        let sql = const_format(&[
            "SELECT ",
            GROUP_COLUMNS,
            " FROM groups g JOIN ids i ON i.n = g.n LEFT JOIN ids s ON s.n = g.source_app \
             WHERE g.name = ?2 AND (g.source_app = ?1 \
                 OR EXISTS (SELECT 1 FROM app_groups x WHERE x.app = ?1 AND x.grp = g.n)) \
             ORDER BY g.n LIMIT ?3",
        ]);
        self.rows(&sql, params![app, name, size(limit)], |row| read_group(row, 0))
    }

    /// The first group by id that is assigned to an app and that no list shows, if there is one.
    pub fn unseen_group_of(&self, app: &AppId) -> Result<Option<GroupId>, StoreError> {
        let Some(app) = self.n_of_app(app)? else { return Ok(None) };
        self.one(
            "SELECT i.id FROM app_groups x JOIN ids i ON i.n = x.grp
             WHERE x.app = ?1 AND NOT EXISTS (SELECT 1 FROM groups g WHERE g.n = x.grp) ORDER BY i.id LIMIT 1",
            [app],
            |row| group_id(row, 0),
        )
    }

    /// How a group belongs to an app, whether or not the list of groups shows it.
    pub fn is_group_of_app(&self, app: &AppId, group: &GroupId) -> Result<GroupOfApp, StoreError> {
        let (Some(app), Some(group)) = (self.n_of_app(app)?, self.n(Kind::Group, group.as_str())?) else {
            return Ok(GroupOfApp::default());
        };
        let has = |sql: &str| Ok::<_, StoreError>(self.one(sql, [app, group], |row| row.get::<_, i64>(0))?.is_some());
        Ok(GroupOfApp {
            is_assigned: has("SELECT 1 FROM app_groups WHERE app = ?1 AND grp = ?2")?,
            is_imported: has("SELECT 1 FROM groups WHERE source_app = ?1 AND n = ?2")?,
        })
    }

    /// The groups that a user is in, `Everyone` included, each with the apps that have it and in which the user has an
    /// account, whatever its status. At most `limit`.
    pub fn ways_of(&self, user: &UserId, limit: usize) -> Result<Vec<WayOf>, StoreError> {
        let Some(user) = self.n(Kind::User, user.as_str())? else { return Ok(Vec::new()) };
        let is_listed = self.user_by_n(user)?.is_some();
        let everyone = if is_listed { self.everyone()?.unwrap_or(-1) } else { -1 };
        // CROSS JOIN keeps the order: from the user's groups to their apps, each by its key. The other way round, a group of
        // a hundred thousand members would be read.
        self.rows(
            "WITH mine(grp) AS (SELECT grp FROM group_members WHERE user = ?1 UNION SELECT ?2),
                  ways(app, grp, is_imported) AS (
                      SELECT x.app, x.grp, 0 FROM mine m CROSS JOIN app_groups x ON x.grp = m.grp
                      UNION ALL
                      SELECT g.source_app, g.n, 1 FROM mine m CROSS JOIN groups g ON g.n = m.grp
                      WHERE g.source_app IS NOT NULL)
             SELECT ai.id, gi.id, u.status, w.is_imported, a.status
             FROM ways w CROSS JOIN groups g ON g.n = w.grp CROSS JOIN apps a ON a.n = w.app
             CROSS JOIN app_users u ON u.app = w.app AND u.user = ?1
             CROSS JOIN ids ai ON ai.n = w.app CROSS JOIN ids gi ON gi.n = w.grp LIMIT ?3",
            params![user, everyone, size(limit)],
            |row| {
                Ok(WayOf {
                    app: app_id(row, 0)?,
                    app_status: AppStatus::parse(row.get_ref(4)?.as_str()?),
                    group: group_id(row, 1)?,
                    app_user_status: AppUserStatus::parse(row.get_ref(2)?.as_str()?),
                    is_imported: row.get(3)?,
                })
            },
        )
    }
}

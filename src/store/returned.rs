//! Users and groups that are shown again, after reads that did not find them: what was kept of them meanwhile is looked at
//! anew.
//!
//! Entry point: [`passed_over`].
//!
//! While it is open whether an object is gone or hidden, lists that do not show it remove nothing of it (`store::missing`). So
//! a membership or an assignment that ended meanwhile is still stored when the object is there again, and nothing else would
//! tell before the next crawl.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::StoreError;
use super::missing::find;
use crate::core::batch::Returned;
use crate::core::ids::{AppId, GroupId, IdError, Timestamp};
use crate::core::model::{Key, Kind, Scope};
use crate::core::pending::Target;

/// The lists that may have passed over rows of the object. The accounts of a user are none of them: these are read by user.
pub(super) fn passed_over(sql: &Connection, returned: &Returned) -> Result<Vec<Target>, StoreError> {
    let (kind, id, select) = match &returned.key {
        Key::User(user) => (
            Kind::User,
            user.as_str(),
            "SELECT i.id FROM group_members m JOIN ids i ON i.n = m.grp WHERE m.user = ?1 ORDER BY m.grp",
        ),
        Key::Group(group) => (
            Kind::Group,
            group.as_str(),
            "SELECT i.id FROM app_groups x JOIN ids i ON i.n = x.app WHERE x.grp = ?1 ORDER BY x.app",
        ),
        Key::App(_) | Key::AppUser(..) | Key::AppGroup(..) | Key::GroupMember(..) => return Ok(Vec::new()),
    };
    let Some(n) = find(sql, kind, id)? else { return Ok(Vec::new()) };
    let mut select = sql.prepare_cached(select)?;
    let ids = select.query_map([n], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut lists = Vec::new();
    for id in ids {
        let damaged = |error: IdError| StoreError::Damaged { detail: error.to_string() };
        if kind == Kind::User {
            let scope = Scope::GroupMembers(GroupId::new(&id).map_err(damaged)?);
            if was_read_since(sql, &scope, returned.missed_since)? {
                lists.push(Target::List(scope));
            }
        } else {
            // Short ones, and one that is being read may be about to remove what has come back.
            lists.push(Target::List(Scope::AppGroups(AppId::new(&id).map_err(damaged)?)));
        }
    }
    Ok(lists)
}

/// Whether the list was read to its end since; without a time, ever.
fn was_read_since(sql: &Connection, scope: &Scope, since: Option<Timestamp>) -> Result<bool, StoreError> {
    let mut select =
        sql.prepare_cached("SELECT 1 FROM scopes WHERE scope = ?1 AND completed_at >= COALESCE(?2, completed_at)")?;
    let found = select.query_row(params![scope.name(), since.map(Timestamp::as_millis)], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

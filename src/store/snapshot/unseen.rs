//! Objects that stored rows name and that are not stored themselves.
//!
//! Entry point: [`Snapshot::unseen`]. Both sides are read in the order of their surrogates, one row at a time: the cost is a walk
//! over two indexes, whatever the number of rows, and no memory.

use rusqlite::Connection;

use super::super::StoreError;
use super::super::missing::id_of;
use super::Snapshot;
use crate::core::ids::{AppId, GroupId, IdError, UserId};
use crate::core::sync::UnseenFound;

/// Surrogates in `named` that are not in `stored`, both ascending: the first `limit`, and how many there are.
fn absent(sql: &Connection, named: &str, stored: &str, limit: usize) -> Result<(Vec<i64>, u64), StoreError> {
    let (mut named, mut stored) = (sql.prepare_cached(named)?, sql.prepare_cached(stored)?);
    let (mut named, mut stored) = (named.query(())?, stored.query(())?);
    let (mut first, mut count) = (Vec::new(), 0);
    let mut known: Option<i64> = stored.next()?.map(|row| row.get(0)).transpose()?;
    while let Some(row) = named.next()? {
        let n: i64 = row.get(0)?;
        while known.is_some_and(|known| known < n) {
            known = stored.next()?.map(|row| row.get(0)).transpose()?;
        }
        if known != Some(n) {
            count += 1;
            if first.len() < limit {
                first.push(n);
            }
        }
    }
    Ok((first, count))
}

impl Snapshot<'_> {
    /// What rows name and no row is; at most `limit` ids of each kind.
    pub fn unseen(&self, limit: usize) -> Result<UnseenFound, StoreError> {
        let damaged = |error: IdError| StoreError::Damaged { detail: error.to_string() };
        let (of_accounts, account_count) = absent(
            self.sql,
            "SELECT DISTINCT user FROM app_users ORDER BY user",
            "SELECT n FROM users ORDER BY n",
            limit,
        )?;
        let (of_members, member_count) = absent(
            self.sql,
            "SELECT DISTINCT user FROM group_members ORDER BY user",
            "SELECT n FROM users ORDER BY n",
            limit,
        )?;
        let mut users = of_accounts;
        users.extend(of_members);
        users.sort_unstable();
        users.dedup();
        // Of more than can be named it is not known how many are named by both: then it is the least number.
        let is_whole = account_count <= limit as u64 && member_count <= limit as u64;
        let user_count = if is_whole { users.len() as u64 } else { account_count.max(member_count) };
        users.truncate(limit);
        let (groups, group_count) = absent(
            self.sql,
            "SELECT grp FROM app_groups UNION SELECT via_group FROM app_users WHERE via_group IS NOT NULL ORDER BY 1",
            "SELECT n FROM groups ORDER BY n",
            limit,
        )?;
        let (apps, _) = absent(
            self.sql,
            "SELECT DISTINCT source_app FROM groups WHERE source_app IS NOT NULL ORDER BY source_app",
            "SELECT n FROM apps ORDER BY n",
            limit,
        )?;
        let id = |n: i64| id_of(self.sql, n);
        Ok(UnseenFound {
            users: users.into_iter().map(|n| UserId::new(&id(n)?).map_err(damaged)).collect::<Result<_, _>>()?,
            user_count,
            groups: groups.into_iter().map(|n| GroupId::new(&id(n)?).map_err(damaged)).collect::<Result<_, _>>()?,
            group_count,
            apps: apps.into_iter().map(|n| AppId::new(&id(n)?).map_err(damaged)).collect::<Result<_, _>>()?,
        })
    }
}

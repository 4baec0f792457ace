//! What a walk did not show: by the bitmaps of what it did show, and the numbers of requests.
//!
//! Entry points: [`missing`] for any walk, [`held`] for one whose missing rows are kept.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::apply::N;
use super::columns::kind_code;
use super::{StoreError, as_i64, gaps};
use crate::core::ids::{AppId, GroupId, IdError, RequestNumber, UserId};
use crate::core::model::{Key, Kind, Scope};

/// `scopes.state` of a walk that has reached its end and whose missing rows are kept: for good while its gap is open, else
/// until probes have told what became of them.
pub(super) const HELD: &str = "held";

/// Missing rows that are named, to be probed by id: one that is found, or enough that are not, decide.
const SAMPLE_MAX: usize = 5;

/// What a walk did not show.
#[derive(Clone, Debug, Default)]
pub(super) struct Missing {
    /// Rows that were stored before the walk. New rows do not count: an org that shows a thousand others instead must
    /// meet the brake.
    pub(super) stored: u64,
    /// Surrogate of the scope's group or app, else 0.
    pub(super) outer: N,
    /// Rows that the walk did not show, by surrogate within the scope.
    pub(super) rows: Vec<N>,
}

/// Surrogate of an id.
pub(super) fn find(sql: &Connection, kind: Kind, id: &str) -> Result<Option<N>, StoreError> {
    let mut select = sql.prepare_cached("SELECT n FROM ids WHERE kind = ?1 AND id = ?2")?;
    Ok(select.query_row(params![kind_code(kind), id], |row| row.get(0)).optional()?)
}

/// The rows of `scope` that were stored before request `from` and are not in `seen`, without those that are spared.
pub(super) fn missing(
    sql: &Connection,
    scope: &Scope,
    from: RequestNumber,
    seen: &RoaringBitmap,
) -> Result<Missing, StoreError> {
    let mut found = rows(sql, scope, from, seen)?;
    if !found.rows.is_empty() {
        let (spared, before) = (spared(sql, scope)?, found.rows.len());
        found.rows.retain(|n| !spared.contains(n));
        found.stored -= (before - found.rows.len()) as u64;
    }
    Ok(found)
}

/// The rows of `scope` that were stored before request `from` and that nobody has shown since, whatever is known of them.
pub(super) fn unshown(
    sql: &Connection,
    scope: &Scope,
    from: RequestNumber,
    seen: &RoaringBitmap,
) -> Result<Vec<N>, StoreError> {
    Ok(rows(sql, scope, from, seen)?.rows)
}

/// The request that showed a row of `scope` last, as far as it was noted; `None`: no such row is stored.
pub(super) fn read_at(sql: &Connection, scope: &Scope, n: N) -> Result<Option<i64>, StoreError> {
    let (select, outer) = match scope {
        Scope::Users => ("SELECT at FROM users WHERE n = ?2 AND ?1 = 0", None),
        Scope::Groups => ("SELECT at FROM groups WHERE n = ?2 AND ?1 = 0", None),
        Scope::Apps => ("SELECT at FROM apps WHERE n = ?2 AND ?1 = 0", None),
        Scope::GroupMembers(group) => {
            ("SELECT at FROM group_members WHERE grp = ?1 AND user = ?2", Some((Kind::Group, group.as_str())))
        }
        Scope::AppUsers(app) => {
            ("SELECT at FROM app_users WHERE app = ?1 AND user = ?2", Some((Kind::App, app.as_str())))
        }
        Scope::AppGroups(app) => {
            ("SELECT at FROM app_groups WHERE app = ?1 AND grp = ?2", Some((Kind::App, app.as_str())))
        }
        Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => return Ok(None),
    };
    let outer = match outer {
        Some((kind, id)) => find(sql, kind, id)?.unwrap_or(-1),
        None => 0,
    };
    Ok(sql.prepare_cached(select)?.query_row(params![outer, n], |row| row.get(0)).optional()?)
}

/// All rows of a scope.
pub(super) fn all(sql: &Connection, scope: &Scope) -> Result<Missing, StoreError> {
    // Nothing is as new as the last number, so everything counts as not shown.
    rows(sql, scope, RequestNumber(u64::MAX), &RoaringBitmap::new())
}

fn rows(sql: &Connection, scope: &Scope, from: RequestNumber, seen: &RoaringBitmap) -> Result<Missing, StoreError> {
    let outer_of = |kind, id: &str| Ok::<_, StoreError>(find(sql, kind, id)?.unwrap_or(-1));
    let (select, outer) = match scope {
        Scope::Users => ("SELECT n, at FROM users WHERE ?1 = 0", 0),
        Scope::Groups => ("SELECT n, at FROM groups WHERE ?1 = 0", 0),
        Scope::Apps => ("SELECT n, at FROM apps WHERE ?1 = 0", 0),
        Scope::GroupMembers(group) => {
            ("SELECT user, at FROM group_members WHERE grp = ?1", outer_of(Kind::Group, group.as_str())?)
        }
        Scope::AppUsers(app) => ("SELECT user, at FROM app_users WHERE app = ?1", outer_of(Kind::App, app.as_str())?),
        Scope::AppGroups(app) => ("SELECT grp, at FROM app_groups WHERE app = ?1", outer_of(Kind::App, app.as_str())?),
        Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => return Ok(Missing::default()),
    };
    let mut select = sql.prepare_cached(select)?;
    let mut rows = select.query([outer])?;
    let mut found = Missing { outer, ..Missing::default() };
    while let Some(row) = rows.next()? {
        let (n, at): (N, i64) = (row.get(0)?, row.get(1)?);
        if u32::try_from(n).is_ok_and(|n| seen.contains(n)) {
            found.stored += 1;
        } else if at < as_i64(from.0) {
            found.stored += 1;
            found.rows.push(n);
        }
    }
    Ok(found)
}

/// What the pages of a walk have shown of the rows that were stored before.
pub(super) fn seen(sql: &Connection, scope_name: &str) -> Result<RoaringBitmap, StoreError> {
    let mut all = RoaringBitmap::new();
    let mut select = sql.prepare_cached("SELECT seen FROM walk_seen WHERE scope = ?1")?;
    let mut rows = select.query([scope_name])?;
    while let Some(row) = rows.next()? {
        let blob = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        all |= RoaringBitmap::deserialize_from(blob)
            .map_err(|error| StoreError::Damaged { detail: format!("bitmap of seen rows: {error}") })?;
    }
    Ok(all)
}

/// The rows that a held walk did not show and nobody has shown since; `None` unless the scope is held.
pub(super) fn held(sql: &Connection, scope: &Scope) -> Result<Option<Missing>, StoreError> {
    let name = scope.name();
    let mut select = sql.prepare_cached("SELECT walk_from FROM scopes WHERE scope = ?1 AND state = ?2")?;
    let from: Option<Option<i64>> = select.query_row([&*name, HELD], |row| row.get(0)).optional()?;
    let Some(from) = from else { return Ok(None) };
    let from = RequestNumber(from.and_then(|from| u64::try_from(from).ok()).unwrap_or_default());
    missing(sql, scope, from, &seen(sql, &name)?).map(Some)
}

/// Some of the missing rows, spread evenly over all of them.
pub(super) fn sample(sql: &Connection, scope: &Scope, missing: &[N]) -> Result<Vec<Key>, StoreError> {
    let keys = spread(missing.len()).map(|index| key_of(sql, scope, missing[index]));
    Ok(keys.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Up to [`SAMPLE_MAX`] indices below `count`, the first and the last among them.
fn spread(count: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(SAMPLE_MAX);
    (0..taken).map(move |place| if taken < 2 { 0 } else { place * (count - 1) / (taken - 1) })
}

/// The id behind a surrogate.
pub(super) fn id_of(sql: &Connection, n: N) -> Result<String, StoreError> {
    let mut select = sql.prepare_cached("SELECT id FROM ids WHERE n = ?1")?;
    Ok(select.query_row([n], |row| row.get(0))?)
}

/// Rows that are not missing though no list shows them: they are, or hang on, somebody of whom it is not known whether they
/// are gone or hidden (facts 7.2). By surrogate within the scope.
fn spared(sql: &Connection, scope: &Scope) -> Result<BTreeSet<N>, StoreError> {
    let kind = match scope {
        Scope::Users | Scope::GroupMembers(_) | Scope::AppUsers(_) => Kind::User,
        Scope::Groups | Scope::AppGroups(_) => Kind::Group,
        Scope::Apps => Kind::App,
        Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => return Ok(BTreeSet::new()),
    };
    let mut spared = BTreeSet::new();
    for absent in gaps::absent(sql)?.iter().filter_map(Scope::object) {
        let n = match &absent {
            Key::User(user) if kind == Kind::User => find(sql, kind, user.as_str())?,
            Key::Group(group) if kind == Kind::Group => find(sql, kind, group.as_str())?,
            Key::App(app) if kind == Kind::App => find(sql, kind, app.as_str())?,
            _ => None,
        };
        spared.extend(n);
    }
    Ok(spared)
}

pub(super) fn key_of(sql: &Connection, scope: &Scope, n: N) -> Result<Option<Key>, StoreError> {
    let damaged = |error: IdError| StoreError::Damaged { detail: error.to_string() };
    let id = id_of(sql, n)?;
    let user = || UserId::new(&id).map_err(damaged);
    let group = || GroupId::new(&id).map_err(damaged);
    Ok(Some(match scope {
        Scope::Users => Key::User(user()?),
        Scope::Groups => Key::Group(group()?),
        Scope::Apps => Key::App(AppId::new(&id).map_err(damaged)?),
        Scope::GroupMembers(outer) => Key::GroupMember(outer.clone(), user()?),
        Scope::AppUsers(outer) => Key::AppUser(outer.clone(), user()?),
        Scope::AppGroups(outer) => Key::AppGroup(outer.clone(), group()?),
        Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(count: usize, expected: &[usize]) {
        assert_eq!(spread(count).collect::<Vec<_>>(), expected, "{count}");
    }

    #[test]
    fn samples_are_spread() {
        check(0, &[]);
        check(1, &[0]);
        check(2, &[0, 1]);
        check(5, &[0, 1, 2, 3, 4]);
        check(6, &[0, 1, 2, 3, 5]);
        check(101, &[0, 25, 50, 75, 100]);
    }
}

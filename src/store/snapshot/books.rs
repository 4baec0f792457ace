//! The books: change log, walks, scopes, gaps, quarantine.

use rusqlite::params;

use super::super::StoreError;
use super::super::columns::{app_id, kind_of_code};
use super::super::missing::{self, HELD};
use super::{Snapshot, size};
use crate::core::batch::{Listing, Position, WalkState, WalkUpdate};
use crate::core::coverage::{Gap, GapKind, GapRecord};
use crate::core::ids::{AppId, CrawlId, RequestNumber, Revision, Timestamp};
use crate::core::model::{Key, Kind, Scope};

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
    /// `todo`, `walking`, `finished`, `held` (finished, and its missing rows are kept), `given_up` or `idle`.
    pub state: String,
    /// The crawl that it was last part of.
    pub crawl: CrawlId,
    /// When it was last read to its end.
    pub completed_at: Option<Timestamp>,
}

/// A gap that was opened or closed: what followers learn beside the changes of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapChange {
    /// When (in revisions).
    pub revision: Revision,
    /// The collection.
    pub scope: Scope,
    /// Why something may be missing.
    pub kind: GapKind,
    /// Opened, or closed.
    pub opened: bool,
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

impl Snapshot<'_> {
    /// Number of bad records.
    pub fn quarantined_count(&self) -> Result<u64, StoreError> {
        let count = self.one("SELECT count(*) FROM quarantine", (), |row| row.get::<_, i64>(0))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Number of stored users who were created after a moment. Reads all of them.
    pub fn users_created_after(&self, at: Timestamp) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM users WHERE created > ?1";
        let count = self.one(sql, [at.as_millis()], |row| row.get::<_, i64>(0))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Number of the records of one collection that could not become rows.
    pub fn quarantined_of(&self, scope: &Scope) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM quarantine WHERE scope = ?1";
        let count = self.one(sql, [scope.to_string()], |row| row.get::<_, i64>(0))?;
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

    /// Gaps that were opened or closed after `revision`, oldest first, whole revisions only unless one alone exceeds
    /// `limit`. To be merged with [`Snapshot::changes_after`] by revision.
    pub fn gap_changes_after(&self, revision: Revision, limit: usize) -> Result<Vec<GapChange>, StoreError> {
        let mut changes = self.rows(
            "SELECT revision, gap, op FROM gap_changes WHERE revision > ?1 ORDER BY revision, gap LIMIT ?2",
            params![i64::try_from(revision.0).unwrap_or(i64::MAX), size(limit) + 1],
            read_gap_change,
        )?;
        if changes.len() > limit {
            let last = changes.last().map(|(revision, ..)| *revision).unwrap_or_default();
            changes.retain(|(revision, ..)| *revision < last);
            if changes.is_empty() {
                changes = self.rows(
                    "SELECT revision, gap, op FROM gap_changes WHERE revision = ?1 ORDER BY gap",
                    [i64::try_from(last.0).unwrap_or(i64::MAX)],
                    read_gap_change,
                )?;
            }
        }
        // A kind or scope that this version does not know is none that its readers could ask for.
        let known = changes.into_iter().filter_map(|(revision, gap, opened)| {
            let (kind, scope) = gap.split_once(':')?;
            Some(GapChange { revision, scope: Scope::parse(scope)?, kind: GapKind::parse(kind)?, opened })
        });
        Ok(known.collect())
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

    /// The scopes of the unfinished crawl `id` with the position of each walk; of finished ones only that they are.
    pub fn crawl_walks(&self, id: CrawlId) -> Result<Vec<WalkUpdate>, StoreError> {
        walks_of(self, id)
    }

    /// Users, groups and apps that the finished lists of crawl `id` did not show and that nobody has found since: where nobody
    /// follows they are asked for by id.
    pub fn unlisted(&self, id: CrawlId) -> Result<Vec<Key>, StoreError> {
        let lists: Vec<(String, Option<i64>)> = self.rows(
            "SELECT scope, walk_from FROM scopes WHERE scope IN ('users', 'groups', 'apps') AND crawl = ?1
             AND state = 'finished' AND EXISTS (SELECT 1 FROM walk_seen w WHERE w.scope = scopes.scope) ORDER BY scope",
            [i64::try_from(id.0).unwrap_or(i64::MAX)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let mut unlisted = Vec::new();
        for (name, from) in lists {
            let Some(scope) = Scope::parse(&name) else { continue };
            let from = RequestNumber(from.and_then(|from| u64::try_from(from).ok()).unwrap_or_default());
            let missing = missing::missing(self.sql, &scope, from, &missing::seen(self.sql, &name)?)?;
            for n in missing.rows {
                unlisted.extend(missing::key_of(self.sql, &scope, n)?);
            }
        }
        Ok(unlisted)
    }

    /// Gaps, open ones first.
    pub fn gaps(&self, open_only: bool, limit: usize) -> Result<Vec<GapRecord>, StoreError> {
        let rows = self.rows(
            "SELECT scope, kind, evidence, first_seen, last_seen, count, open, opened_at, closed_at FROM gaps
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
                    opened_at: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
                    closed_at: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
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

fn read_gap_change(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Revision, String, bool)> {
    let revision = Revision(u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default());
    Ok((revision, row.get(1)?, row.get(2)?))
}

fn walks_of(snapshot: &Snapshot<'_>, id: CrawlId) -> Result<Vec<WalkUpdate>, StoreError> {
    let unsigned = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
    let rows = snapshot.rows(
        "SELECT scope, state, next, page, rows, walk_from, listing, walk_began FROM scopes WHERE crawl = ?1 ORDER BY scope",
        [i64::try_from(id.0).unwrap_or(i64::MAX)],
        |row| {
            let (scope, state): (String, String) = (row.get(0)?, row.get(1)?);
            let from = RequestNumber(unsigned(row.get(5)?));
            // Version 1 did not know it: then any event may be newer than the walk.
            let began = Timestamp::from_millis(row.get::<_, Option<i64>>(7)?.unwrap_or_default());
            let state = match (state.as_str(), row.get::<_, Option<String>>(2)?) {
                ("walking", Some(next)) => WalkState::Walking(Position {
                    next,
                    page: row.get(3)?,
                    rows: unsigned(row.get(4)?),
                    from,
                    began,
                    listing: row
                        .get::<_, Option<String>>(6)?
                        .and_then(|name| Listing::parse(&name))
                        .unwrap_or(Listing::Usual),
                }),
                ("finished" | HELD, _) => {
                    WalkState::Finished { from, began, known_empty: false, ended: Vec::new() }
                }
                ("given_up", _) => WalkState::GivenUp,
                _ => WalkState::Todo,
            };
            Ok(Scope::parse(&scope).map(|scope| WalkUpdate { scope, state }))
        },
    )?;
    Ok(rows.into_iter().flatten().collect())
}

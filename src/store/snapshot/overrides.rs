//! Operators' overrides, and what became of them.
//!
//! Entry points: [`Snapshot::overrides_with_key`] for resolution, [`Snapshot::overrides`] for lists,
//! [`Snapshot::override_changes_after`] for followers.

use rusqlite::params;

use super::super::StoreError;
use super::super::columns::app_id;
use super::super::overrides::{kind_of_code, read_record, select, source_code};
use super::{PageOf, Snapshot, page, size};
use crate::core::ids::{AppId, Revision, Timestamp};
use crate::core::model::Kind;
use crate::core::normalize::LookupKey;
use crate::core::overrides::{OverrideRecord, OverrideSource};
use crate::core::resolve::IdentifierKind;

/// An override that was set or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideChange {
    /// When (in revisions).
    pub revision: Revision,
    /// Which.
    pub number: i64,
}

/// What is known of an override that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideGone {
    /// Where it came from.
    pub source: OverrideSource,
    /// The app.
    pub app: AppId,
    /// What the name was.
    pub kind: IdentifierKind,
    /// The name; empty where the filter forbids to keep it.
    pub name: Box<str>,
}

impl Snapshot<'_> {
    /// Overrides of an app whose name has this key, over or not. All of them, since one that is left out could be the one that
    /// contradicts; they are as few as overrides may be.
    pub fn overrides_with_key(&self, app: &AppId, key: LookupKey) -> Result<Vec<OverrideRecord>, StoreError> {
        // Almost always none in the whole store.
        if !self.has_overrides()? {
            return Ok(Vec::new());
        }
        let Some(app) = self.n(Kind::App, app.as_str())? else { return Ok(Vec::new()) };
        let sql = select("AND o.key = ?1 AND o.app = ?2 ORDER BY o.n");
        self.rows(&sql, params![key.to_stored(), app], read_record)
    }

    fn has_overrides(&self) -> Result<bool, StoreError> {
        if let Some(known) = self.memo.has_overrides.get() {
            return Ok(*known);
        }
        let sql = "SELECT EXISTS(SELECT 1 FROM overrides WHERE gone IS NULL)";
        let has_some = self.one(sql, (), |row| row.get(0))?.unwrap_or_default();
        Ok(*self.memo.has_overrides.get_or_init(|| has_some))
    }

    /// Overrides by number, over or not; of one app or of all, of one source or of both.
    pub fn overrides(
        &self,
        app: Option<&AppId>,
        source: Option<OverrideSource>,
        after: Option<i64>,
        limit: usize,
    ) -> Result<PageOf<OverrideRecord>, StoreError> {
        let app = match app {
            Some(app) => match self.n(Kind::App, app.as_str())? {
                Some(n) => Some(n),
                None => return Ok(page(Vec::new(), limit)),
            },
            None => None,
        };
        let sql = select(
            "AND o.n > ?1 AND (?2 IS NULL OR o.app = ?2) AND (?3 IS NULL OR o.source = ?3) ORDER BY o.n LIMIT ?4",
        );
        let parameters = params![after.unwrap_or(-1), app, source.map(source_code), size(limit) + 1];
        let rows = self.rows(&sql, parameters, |row| Ok((row.get(0)?, read_record(row)?)))?;
        Ok(page(rows, limit))
    }

    /// An override by number.
    pub fn override_by_number(&self, number: i64) -> Result<Option<OverrideRecord>, StoreError> {
        self.one(&select("AND o.n = ?1"), [number], read_record)
    }

    /// An override that went, as long as the change log tells of it.
    pub fn override_gone(&self, number: i64) -> Result<Option<OverrideGone>, StoreError> {
        let sql = "SELECT o.source, a.id, o.kind, o.name FROM overrides o JOIN ids a ON a.n = o.app
                   WHERE o.n = ?1 AND o.gone IS NOT NULL";
        self.one(sql, [number], |row| {
            let is_configured = row.get::<_, i64>(0)? == source_code(OverrideSource::Configuration);
            Ok(OverrideGone {
                source: if is_configured { OverrideSource::Configuration } else { OverrideSource::Call },
                app: app_id(row, 1)?,
                kind: kind_of_code(row.get(2)?)?,
                name: row.get::<_, Option<String>>(3)?.unwrap_or_default().into(),
            })
        })
    }

    /// Number of overrides that are there.
    pub fn override_count(&self) -> Result<u64, StoreError> {
        let count = self.one("SELECT count(*) FROM overrides WHERE gone IS NULL", (), |row| row.get::<_, i64>(0))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }

    /// Number of overrides of a source that are not over at `now`, and when the first of them ends.
    pub fn overrides_in_force(
        &self,
        source: OverrideSource,
        now: Timestamp,
    ) -> Result<(u64, Option<Timestamp>), StoreError> {
        let sql =
            "SELECT count(*), min(expires_at) FROM overrides WHERE gone IS NULL AND source = ?1 AND expires_at > ?2";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?));
        let (count, ends_at) = self.one(sql, params![source_code(source), now.as_millis()], read)?.unwrap_or_default();
        Ok((u64::try_from(count).unwrap_or_default(), ends_at.map(Timestamp::from_millis)))
    }

    /// Overrides that were set or went after `revision`, oldest first, whole revisions only unless one alone exceeds `limit`.
    /// To be merged with [`Snapshot::changes_after`] by revision.
    pub fn override_changes_after(&self, revision: Revision, limit: usize) -> Result<Vec<OverrideChange>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| {
            let revision = Revision(u64::try_from(row.get::<_, i64>(0)?).unwrap_or_default());
            Ok(OverrideChange { revision, number: row.get(1)? })
        };
        let mut changes = self.rows(
            "SELECT revision, n FROM override_changes WHERE revision > ?1 ORDER BY revision, n LIMIT ?2",
            params![i64::try_from(revision.0).unwrap_or(i64::MAX), size(limit) + 1],
            read,
        )?;
        if changes.len() > limit {
            let last = changes.last().map(|change| change.revision).unwrap_or_default();
            changes.retain(|change| change.revision < last);
            if changes.is_empty() {
                changes = self.rows(
                    "SELECT revision, n FROM override_changes WHERE revision = ?1 ORDER BY n",
                    [i64::try_from(last.0).unwrap_or(i64::MAX)],
                    read,
                )?;
            }
        }
        Ok(changes)
    }
}

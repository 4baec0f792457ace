//! What a connection has read since anybody last committed: the values that every answer needs.
//!
//! Entry point: [`Memo::as_of`].
//!
//! Invariant: what is remembered was read in a snapshot with the very version that SQLite names for the present one. The
//! version is asked for within the transaction, so that this holds whoever writes, other processes included.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::StoreError;
use super::eras::{self, Eras};
use super::named::Names;
use crate::core::ids::{AppId, OrgId, Revision, Timestamp};
use crate::core::model::App;

/// Single values and surrogates.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// `PRAGMA data_version` of the snapshot that the rest was read in.
    version: Option<i64>,
    pub(super) head: Head,
    pub(super) eras: Eras,
    /// Surrogates of apps that were asked for. No more of them than there are apps.
    pub(super) apps: RefCell<HashMap<AppId, i64>>,
    /// All apps; those that other connections have.
    pub(super) all_apps: OnceCell<Arc<Vec<App>>>,
    pub(super) everyone: OnceCell<Option<i64>>,
    pub(super) groups_mark: OnceCell<(u64, i64, i64)>,
    pub(super) has_overrides: OnceCell<bool>,
    pub(super) org_id: OnceCell<Option<OrgId>>,
    /// What names lead to; that of all connections. `None` where another process may be writing.
    pub(super) names: Option<Arc<Names>>,
}

/// What every answer tells of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) revision: Revision,
    pub(super) crawl_completed_at: Option<Timestamp>,
    pub(super) observed_through: Option<Timestamp>,
    pub(super) observed_by_our_clock: Option<Timestamp>,
    pub(super) apps_revision: Revision,
}

impl Memo {
    /// Of a connection that has read nothing yet.
    pub(super) fn new(names: Option<Arc<Names>>) -> Self {
        Self { names, ..Self::default() }
    }

    /// Makes it that of the open transaction, which this may begin to read: anew if anybody has committed since.
    pub(super) fn as_of(&mut self, sql: &Connection) -> Result<(), StoreError> {
        let version = sql.prepare_cached("PRAGMA data_version")?.query_row((), |row| row.get(0))?;
        if self.version != Some(version) {
            *self = Self::new(self.names.take());
            (self.head, self.eras) = Head::read(sql)?;
            self.version = Some(version);
        }
        Ok(())
    }
}

impl Head {
    /// With the eras, one of which every answer tells as well: in the same statement.
    fn read(sql: &Connection) -> Result<(Self, Eras), StoreError> {
        let (mut head, mut eras) = (Self::default(), Eras::default());
        let mut select = sql.prepare_cached(
            "SELECT name, value FROM meta WHERE name IN ('revision', 'crawl_completed_at', 'observed_through', \
             'observed_by_our_clock', 'apps_revision', 'eras')",
        )?;
        let mut rows = select.query(())?;
        while let Some(row) = rows.next()? {
            if row.get_ref(0)?.as_str().unwrap_or_default() == eras::NAME {
                eras = Eras::of_text(row.get_ref(1)?.as_str().unwrap_or_default());
                continue;
            }
            let value: i64 = row.get(1)?;
            let time = Some(Timestamp::from_millis(value));
            let revision = Revision(u64::try_from(value).unwrap_or_default());
            match row.get_ref(0)?.as_str().unwrap_or_default() {
                "revision" => head.revision = revision,
                "crawl_completed_at" => head.crawl_completed_at = time,
                "observed_through" => head.observed_through = time,
                "observed_by_our_clock" => head.observed_by_our_clock = time,
                "apps_revision" => head.apps_revision = revision,
                _ => {}
            }
        }
        Ok((head, eras))
    }
}

#[cfg(test)]
mod tests {
    use super::super::for_tests::app;
    use super::super::{ChangeRetention, Reader, Store, StoreConfig};
    use crate::core::batch::Batch;
    use crate::core::filter::Filter;
    use crate::core::ids::{AppId, GroupId, Revision};
    use crate::core::model::{Group, GroupType, Key, Row};
    use crate::core::reconcile::Brake;

    fn everyone() -> Row {
        Row::Group(Group {
            id: GroupId::new("00g1").unwrap(),
            name: "Everyone".into(),
            description: None,
            group_type: GroupType::BuiltIn,
            source_app: None,
            created: None,
            last_updated: None,
            last_membership_updated: None,
        })
    }

    /// All that is remembered, as a reader sees it: revision, whether the app is found, number of groups, `Everyone`.
    fn seen(reader: &Reader) -> (Revision, bool, u64, bool) {
        reader
            .read(|snapshot| {
                let app = snapshot.app(&AppId::new("0oa1").unwrap())?.is_some();
                let everyone = snapshot.everyone_group()?.is_some();
                Ok((snapshot.revision(), app, snapshot.groups_mark()?.0, everyone))
            })
            .unwrap()
    }

    #[test]
    fn what_is_remembered_ends_with_the_next_commit() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (brake, credential, changes) = (Brake::default(), "c".to_owned(), ChangeRetention::default());
        let config = StoreConfig { dir: dir.path().to_owned(), brake, credential, changes, filter: Filter::default() };
        let Store { writer, reader, .. } = Store::open(config).unwrap();
        // As of another process: nothing but the file tells it of a commit.
        let stranger = Reader::open(dir.path()).unwrap();
        let commit = |batch: Batch| {
            let receipt = runtime.block_on(async { writer.commit(Box::new(batch)).await.unwrap().await });
            receipt.unwrap().unwrap().revision
        };
        let check = |expected: (Revision, bool, u64, bool)| {
            for reader in [&reader, &stranger, &reader, &stranger] {
                assert_eq!(seen(reader), expected);
            }
        };
        check((Revision(0), false, 0, false));
        let at = writer.first_request_number();
        let revision = commit(Batch { at, rows: vec![app(1, "Jira"), everyone()], ..Batch::default() });
        check((revision, true, 1, true));
        let removals = vec![Key::App(AppId::new("0oa1").unwrap()), Key::Group(GroupId::new("00g1").unwrap())];
        let revision = commit(Batch { at, removals, ..Batch::default() });
        check((revision, false, 0, false));
    }
}

//! What following the System Log needs to know: debts, holds, and how much hangs on a user or an app.
//!
//! Entry point: [`Snapshot::follow`].

use std::collections::BTreeMap;

use rusqlite::params;

use super::super::columns::{app_id, group_id};
use super::super::meta::Meta;
use super::super::missing::{self, HELD};
use super::super::{StoreError, debts};
use super::Snapshot;
use crate::core::batch::Delta;
use crate::core::coverage::GapKind;
use crate::core::ids::{AppId, GroupId, LogCursor, Timestamp, UserId};
use crate::core::model::{App, Key, Kind, Scope};
use crate::core::pending::{PendingRead, Target};

/// Apps of one user that are named at most. Users have tens; who has more is read by the list of all their apps.
const APPS_OF_USER_MAX: usize = 10_000;

/// A held scope: the number of rows that are missing now, and some of them, spread evenly.
pub type HeldScope = (Scope, u64, Vec<Key>);

/// What the state machine knows when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowRecord {
    /// Log position.
    pub cursor: Option<LogCursor>,
    /// Up to when the log was followed, by Okta's clock.
    pub observed_through: Option<Timestamp>,
    /// When the position was opened, by Okta's clock, if that is newer: see [`Meta::opened_at`].
    pub opened_at: Option<Timestamp>,
    /// Begin of the last finished delta walks, by Okta's clock.
    pub deltas: BTreeMap<Delta, Timestamp>,
    /// Reads that are owed.
    pub pending: Vec<PendingRead>,
    /// All stored apps.
    pub apps: Vec<App>,
    /// Lists of app users that were read to their end: when last, by this machine's clock.
    pub listed: BTreeMap<Scope, Timestamp>,
    /// Scopes whose missing rows are kept.
    pub held: Vec<HeldScope>,
    /// Open gaps.
    pub open_gaps: Vec<(Scope, GapKind)>,
    /// Built-in groups of all users: their members are never walked.
    pub everyone: Vec<GroupId>,
}

impl Snapshot<'_> {
    /// What following the log starts with.
    pub fn follow(&self) -> Result<FollowRecord, StoreError> {
        let meta = Meta::read(self.sql)?;
        let listed = self.rows(
            "SELECT scope, completed_at FROM scopes WHERE completed_at IS NOT NULL AND scope LIKE 'app!_users(%' ESCAPE '!'",
            (),
            |row| Ok((row.get::<_, String>(0)?, Timestamp::from_millis(row.get(1)?))),
        )?;
        let open_gaps = self.rows("SELECT scope, kind FROM gaps WHERE open = 1 ORDER BY id", (), |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        Ok(FollowRecord {
            cursor: meta.cursor,
            observed_through: meta.observed_through,
            opened_at: meta.opened_at,
            deltas: meta.deltas,
            pending: self.pending_reads()?,
            apps: self.all_apps()?,
            listed: listed.into_iter().filter_map(|(scope, at)| Some((Scope::parse(&scope)?, at))).collect(),
            held: self.held()?,
            open_gaps: open_gaps
                .iter()
                .filter_map(|(scope, kind)| Some((Scope::parse(scope)?, GapKind::parse(kind)?)))
                .collect(),
            everyone: self.rows(
                "SELECT i.id FROM groups g JOIN ids i ON i.n = g.n
                 WHERE g.group_type = 'BUILT_IN' AND g.name = 'Everyone' ORDER BY g.n",
                (),
                |row| group_id(row, 0),
            )?,
        })
    }

    /// All stored groups.
    pub fn group_ids(&self) -> Result<Vec<GroupId>, StoreError> {
        self.rows("SELECT i.id FROM groups g JOIN ids i ON i.n = g.n", (), |row| group_id(row, 0))
    }

    /// Reads that are owed, those that are due first first.
    pub fn pending_reads(&self) -> Result<Vec<PendingRead>, StoreError> {
        debts::pending_reads(self.sql)
    }

    /// The debt for one read, if there is one.
    pub fn pending_read(&self, target: &Target) -> Result<Option<PendingRead>, StoreError> {
        debts::pending_read(self.sql, target)
    }

    /// Number of reads that are owed.
    pub fn pending_count(&self) -> Result<u64, StoreError> {
        self.count("SELECT count(*) FROM pending_reads", ())
    }

    /// Held scopes, with what is missing of each now: rows that were shown since do not count any more.
    pub fn held(&self) -> Result<Vec<HeldScope>, StoreError> {
        let scopes: Vec<String> =
            self.rows("SELECT scope FROM scopes WHERE state = ?1 ORDER BY scope", [HELD], |row| row.get(0))?;
        let mut held = Vec::new();
        for scope in scopes.iter().filter_map(|name| Scope::parse(name)) {
            let Some(missing) = missing::held(self.sql, &scope)? else { continue };
            let sample = missing::sample(self.sql, &scope, &missing.rows)?;
            held.push((scope, missing.rows.len() as u64, sample));
        }
        Ok(held)
    }

    /// Accounts in an app, counted up to `cap`.
    pub fn count_app_users(&self, app: &AppId, cap: u32) -> Result<u64, StoreError> {
        let Some(app) = self.n_of_app(app)? else { return Ok(0) };
        let sql = "SELECT count(*) FROM (SELECT 1 FROM app_users WHERE app = ?1 LIMIT ?2)";
        self.count(sql, params![app, cap])
    }

    /// Accounts of a user, counted up to `cap`.
    pub fn count_user_apps(&self, user: &UserId, cap: u32) -> Result<u64, StoreError> {
        let Some(user) = self.n(Kind::User, user.as_str())? else { return Ok(0) };
        let sql = "SELECT count(*) FROM (SELECT 1 FROM app_users WHERE user = ?1 LIMIT ?2)";
        self.count(sql, params![user, cap])
    }

    /// Apps in which the user has an account; at most 10,000.
    pub fn app_users_of_user_ids(&self, user: &UserId) -> Result<Vec<AppId>, StoreError> {
        let Some(user) = self.n(Kind::User, user.as_str())? else { return Ok(Vec::new()) };
        self.rows(
            "SELECT i.id FROM app_users x JOIN ids i ON i.n = x.app WHERE x.user = ?1 ORDER BY x.app LIMIT ?2",
            params![user, super::size(APPS_OF_USER_MAX)],
            |row| app_id(row, 0),
        )
    }

    fn count(&self, sql: &str, params: impl rusqlite::Params) -> Result<u64, StoreError> {
        let count = self.one(sql, params, |row| row.get::<_, i64>(0))?;
        Ok(count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default())
    }
}

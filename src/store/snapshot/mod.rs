//! What can be read, in one snapshot.
//!
//! Lists are keyset-paged: pass the cursor of the last page, get the next. A cursor is the surrogate of the last row; rows
//! that appear or vanish between two pages do so naturally, nothing is repeated.

mod books;
mod filtered;
mod follow;
mod lists;
mod overrides;
mod register;
mod scopes;
mod unseen;
mod ways;

use std::cell::Cell;
use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, OptionalExtension as _, params};

pub use self::books::{Change, ChangeKey, ChangeOp, GapChange, QuarantineRecord, ScopeRecord};
pub use self::follow::{FollowRecord, HeldScope};
pub use self::overrides::{OverrideChange, OverrideGone};
pub use self::scopes::{BookState, QuarantineLine, ScopeBook};
pub use self::ways::{GroupOfApp, WayOf};
use super::StoreError;
use super::columns::{
    ACCOUNT_COLUMNS, APP_COLUMNS, APP_USER_COLUMNS, APP_USER_JOINS, GROUP_COLUMNS, USER_COLUMN_COUNT, USER_COLUMNS,
    app_id, kind_code, read_account, read_app, read_app_user, read_group, read_user, user_id,
};
use super::memo::{Head, Memo};
use super::meta::{self, Meta};
use super::named::{Name, Named};
use crate::core::ids::{AppId, GroupId, Revision, Timestamp, UserId};
use crate::core::model::{App, AppUser, Group, Kind, User};
use crate::core::normalize::LookupKey;
use crate::core::resolve::AskedOf;
use crate::core::secret::Secret;

/// A consistent view of the store.
pub struct Snapshot<'a> {
    /// In a transaction.
    sql: &'a Connection,
    memo: &'a Memo,
    /// Commits of this process before it, at least.
    commits: Option<u64>,
    /// Whether the name that was asked for last has a past, by surrogate of the app and key.
    past: Cell<Option<(i64, LookupKey, bool)>>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<i64>,
}

/// Candidates as they were read.
struct Read {
    hits: Vec<AccountHit>,
    /// Their surrogates.
    users: Vec<i64>,
    has_past: bool,
}

/// A user who may be meant by a name in an app; the resolution verifies the raw values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountHit {
    /// The Okta user; `None` when the user list does not show it (or not yet).
    pub user: Option<User>,
    /// Its account in the app; `None` for users who have none there.
    pub app_user: Option<AppUser>,
}

/// A state of the rows. Equal ones of one store hold the same rows of users, apps and accounts, whose every change is a
/// revision, and mostly the same of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    head: Head,
    /// As far as commits are counted.
    commits: Option<u64>,
}

/// Some of the keys of an app that more than one user has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedKeys {
    /// The keys, in their order.
    pub shared: Vec<LookupKey>,
    /// Where to go on; `None`: there are no more.
    pub next: Option<i64>,
    /// Rows that were read.
    pub scanned: usize,
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

/// A name that a certain user had before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasedName {
    /// The app; `None`: a login or e-mail of the user in Okta.
    pub app: Option<AppId>,
    /// As [`HeldName::kind`].
    pub kind: String,
    /// The name as it was.
    pub name: String,
    /// When the holder was seen to have lost it.
    pub released_at: Timestamp,
}

/// Stands for the past of a name among the surrogates of those who have it; no surrogate is negative.
const PAST: i64 = -1;

/// Where the columns of the user and of the account begin in the row of an [`AccountHit`].
const USER_AT: usize = 2;
const ACCOUNT_AT: usize = USER_AT + USER_COLUMN_COUNT;

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
    /// The snapshot of the transaction that is open on `sql`; `memo` is as of it.
    pub(super) fn new(sql: &'a Connection, memo: &'a Memo, commits: Option<u64>) -> Self {
        Self { sql, memo, commits, past: Cell::new(None) }
    }

    /// What tells this snapshot from one of another state.
    pub(crate) fn state(&self) -> State {
        State { head: self.memo.head, commits: self.commits }
    }

    /// The revision of this snapshot.
    pub fn revision(&self) -> Revision {
        self.memo.head.revision
    }

    /// All single values.
    pub fn meta(&self) -> Result<Meta, StoreError> {
        Meta::read(self.sql)
    }

    /// What page tokens are sealed with; `None` in a store that was last written by an earlier version.
    pub fn page_key(&self) -> Result<Option<Secret>, StoreError> {
        meta::read_page_key(self.sql)
    }

    /// The era that made a revision, or will make one that is not reached (`store::eras`); `None` where that is not known.
    /// Asks the file nothing.
    pub fn era_of(&self, revision: Revision) -> Option<&str> {
        self.memo.eras.of(revision)
    }

    /// Whether the store was at that revision of that era: what it has now came of it. An empty era, which is not known, is that
    /// of revisions of which the store knows none either.
    pub fn has_been_at(&self, revision: Revision, era: &str) -> bool {
        revision <= self.revision() && self.era_of(revision).unwrap_or_default() == era
    }

    /// The eras that are remembered, with their first revisions, oldest first: at most 200.
    pub fn eras(&self) -> Vec<(String, Revision)> {
        self.memo.eras.list()
    }

    /// Times of the last complete crawl and of the log position: what every answer tells.
    pub fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.memo.head.crawl_completed_at, self.memo.head.observed_through)
    }

    /// The moment up to which the log has been followed, by this machine's clock: how old the position is, whatever the two
    /// clocks say.
    pub fn observed_by_our_clock(&self) -> Option<Timestamp> {
        self.memo.head.observed_by_our_clock
    }

    pub(super) fn apps_revision(&self) -> Revision {
        self.memo.head.apps_revision
    }

    /// All apps, as `read` has told them once.
    pub(super) fn remembered_apps(
        &self,
        read: impl FnOnce() -> Result<Arc<Vec<App>>, StoreError>,
    ) -> Result<&'a Arc<Vec<App>>, StoreError> {
        if let Some(apps) = self.memo.all_apps.get() {
            return Ok(apps);
        }
        let apps = read()?;
        Ok(self.memo.all_apps.get_or_init(|| apps))
    }

    /// Surrogate of an app.
    fn n_of_app(&self, id: &AppId) -> Result<Option<i64>, StoreError> {
        if let Some(n) = self.memo.apps.borrow().get(id) {
            return Ok(Some(*n));
        }
        let n = self.n(Kind::App, id.as_str())?;
        if let Some(n) = n {
            self.memo.apps.borrow_mut().insert(id.clone(), n);
        }
        Ok(n)
    }

    fn n(&self, kind: Kind, id: &str) -> Result<Option<i64>, StoreError> {
        let mut select = self.sql.prepare_cached("SELECT n FROM ids WHERE kind = ?1 AND id = ?2")?;
        Ok(select.query_row(params![kind_code(kind), id], |row| row.get(0)).optional()?)
    }

    /// Whether an id is stored, or was named by anything that is or was.
    pub fn knows(&self, kind: Kind, id: &str) -> Result<bool, StoreError> {
        Ok(self.n(kind, id)?.is_some())
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
        let sql = const_format(&["SELECT ", USER_COLUMNS, " FROM users u WHERE u.n = ?1"]);
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
        match self.n_of_app(id)? {
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
        match (self.n_of_app(app)?, self.n(Kind::User, user.as_str())?) {
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

    /// Everybody who may be meant by a name in an app, by such fields, at most `limit`.
    pub fn candidates(
        &self,
        app: &AppId,
        key: LookupKey,
        of: AskedOf,
        limit: usize,
    ) -> Result<Arc<[AccountHit]>, StoreError> {
        let Some(app_n) = self.n_of_app(app)? else { return Ok(Arc::default()) };
        let name = Name { app: app_n, key: key.to_stored(), of };
        let revision = self.revision();
        let fits = |named: &Named| named.hits.len() <= limit;
        let known = self.memo.names.as_ref().and_then(|names| {
            names.get(name, revision).filter(fits).or_else(|| {
                let named = names.registered(app, name, revision).filter(fits)?;
                names.put(name, revision, named.clone());
                Some(named)
            })
        });
        if let Some(Named { hits, has_past, .. }) = known {
            #[cfg(debug_assertions)]
            self.check_remembered((app, app_n), (key, of), (&hits, has_past))?;
            self.past.set(Some((app_n, key, has_past)));
            return Ok(hits);
        }
        let Read { hits, users, has_past } = self.read_candidates((app, app_n), key, of, limit)?;
        self.past.set(Some((app_n, key, has_past)));
        let hits = Arc::from(hits);
        // If there may be more than were asked for, they are not all.
        if let Some(names) = &self.memo.names
            && users.len() < limit
            && let Some(named) = Named::new(Arc::clone(&hits), &users, has_past)
        {
            names.put(name, revision, named);
        }
        Ok(hits)
    }

    /// Whether the register answers for a name; panics where that is not what is stored.
    #[cfg(test)]
    pub(super) fn is_registered(&self, app: &AppId, key: LookupKey, of: AskedOf) -> Result<bool, StoreError> {
        let Some(app_n) = self.n_of_app(app)? else { return Ok(false) };
        let name = Name { app: app_n, key: key.to_stored(), of };
        let registered = self.memo.names.as_ref().and_then(|names| names.registered(app, name, self.revision()));
        let Some(named) = registered else { return Ok(false) };
        self.check_remembered((app, app_n), (key, of), (&named.hits, named.has_past))?;
        Ok(true)
    }

    /// Panics where what is remembered is not what is stored: so every test that looks anybody up tests this, too.
    #[cfg(debug_assertions)]
    fn check_remembered(
        &self,
        (app, app_n): (&AppId, i64),
        (key, of): (LookupKey, AskedOf),
        (hits, has_past): (&[AccountHit], bool),
    ) -> Result<(), StoreError> {
        let stored = self.read_candidates((app, app_n), key, of, hits.len() + 1)?;
        assert!(
            hits == stored.hits,
            "what is remembered of {key:?} in app {app} is not what revision {:?} has",
            self.revision()
        );
        assert!(has_past || !stored.has_past, "the name {key:?} of app {app} has a past");
        Ok(())
    }

    /// Candidates in the order of their surrogates, and whether the name has a past.
    fn read_candidates(
        &self,
        (app, app_n): (&AppId, i64),
        key: LookupKey,
        of: AskedOf,
        limit: usize,
    ) -> Result<Read, StoreError> {
        // Point reads of clustered keys; `UNION` would sort in a temporary table each time. Whether the name has a past is
        // asked in passing: hardly any has.
        let sql = match of {
            AskedOf::AccountsAndUsers => {
                "SELECT * FROM (SELECT user FROM account_keys WHERE app = ?1 AND key = ?2 LIMIT ?3)
                 UNION ALL SELECT * FROM (SELECT user FROM user_keys WHERE key = ?2 LIMIT ?3)
                 UNION ALL SELECT -1 WHERE EXISTS (SELECT 1 FROM account_history WHERE app = 0 AND key = ?2)
                 OR EXISTS (SELECT 1 FROM account_history WHERE app = ?1 AND key = ?2)"
            }
            AskedOf::Accounts => {
                "SELECT * FROM (SELECT user FROM account_keys WHERE app = ?1 AND key = ?2 LIMIT ?3)
                 UNION ALL SELECT -1 WHERE EXISTS (SELECT 1 FROM account_history WHERE app = 0 AND key = ?2)
                 OR EXISTS (SELECT 1 FROM account_history WHERE app = ?1 AND key = ?2)"
            }
        };
        let mut users: Vec<i64> = self.rows(sql, params![app_n, key.to_stored(), size(limit)], |row| row.get(0))?;
        users.sort_unstable();
        // Smaller than every surrogate.
        let has_past = users.first() == Some(&PAST);
        users.retain(|user| *user != PAST);
        users.dedup();
        users.truncate(limit);
        let hits: Result<_, StoreError> = users.iter().map(|user| self.account_hit((app, app_n), *user)).collect();
        Ok(Read { hits: hits?, users, has_past })
    }

    /// A user and the account in an app, by surrogates.
    fn account_hit(&self, (app, app_n): (&AppId, i64), user: i64) -> Result<AccountHit, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            const_format(&[
                "SELECT u.n, x.user, ",
                USER_COLUMNS,
                ", ",
                ACCOUNT_COLUMNS,
                " FROM (SELECT ?2 AS n) k LEFT JOIN users u ON u.n = k.n \
                 LEFT JOIN app_users x ON x.app = ?1 AND x.user = k.n LEFT JOIN ids gi ON gi.n = x.via_group",
            ])
        });
        let hit = self.one(&SQL, [app_n, user], |row| {
            let has = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.is_some());
            let (is_listed, has_account) = (has(0)?, has(1)?);
            let known = if is_listed { Some(read_user(row, USER_AT)?) } else { None };
            let id = match &known {
                Some(known) => Some(known.id.clone()),
                // No list has shown the user, who has a surrogate only.
                None if has_account => self.user_id(user)?,
                None => None,
            };
            let app_user = match id {
                Some(id) if has_account => Some(read_account(row, ACCOUNT_AT, app.clone(), id)?),
                _ => None,
            };
            Ok(AccountHit { user: known, app_user })
        })?;
        Ok(hit.unwrap_or(AccountHit { user: None, app_user: None }))
    }

    /// The id behind a surrogate.
    fn user_id(&self, user: i64) -> rusqlite::Result<Option<UserId>> {
        let mut select = self.sql.prepare_cached("SELECT id FROM ids WHERE n = ?1")?;
        select.query_row([user], |row| user_id(row, 0)).optional()
    }

    /// Keys of names in an app that several users may have, from `from` on in the order of the keys. Reads about `rows_max`
    /// rows, at least two.
    pub fn shared_keys(&self, app: &AppId, from: i64, rows_max: usize) -> Result<SharedKeys, StoreError> {
        let Some(app) = self.n_of_app(app)? else { return Ok(SharedKeys::default()) };
        let rows_max = rows_max.max(2);
        let keys: Vec<i64> = self.rows(
            "SELECT key FROM account_keys WHERE app = ?1 AND key >= ?2 ORDER BY key LIMIT ?3",
            params![app, from, size(rows_max)],
            |row| row.get(0),
        )?;
        let mut found = SharedKeys { scanned: keys.len(), ..SharedKeys::default() };
        let runs: Vec<&[i64]> = keys.chunk_by(|left, right| left == right).collect();
        // The last one may go on behind the end of what was read.
        let is_cut = keys.len() == rows_max;
        let whole = if is_cut && runs.len() > 1 { &runs[..runs.len() - 1] } else { &runs[..] };
        let shared = whole.iter().filter(|run| run.len() > 1).filter_map(|run| run.first());
        found.shared = shared.map(|key| LookupKey::from_stored(*key)).collect();
        found.next = match keys.last() {
            Some(last) if is_cut && runs.len() > 1 => Some(*last),
            Some(last) if is_cut => last.checked_add(1),
            _ => None,
        };
        Ok(found)
    }

    /// Accounts of an app that have a name with this key, at most `limit`.
    pub fn accounts_by_key(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<AppUser>, StoreError> {
        let Some(app) = self.n_of_app(app)? else { return Ok(Vec::new()) };
        let users: Vec<i64> = self.rows(
            "SELECT user FROM account_keys WHERE app = ?1 AND key = ?2 LIMIT ?3",
            params![app, key.to_stored(), size(limit)],
            |row| row.get(0),
        )?;
        users.into_iter().filter_map(|user| self.app_user_by_n(app, user).transpose()).collect()
    }

    /// Users who may be meant by a login or e-mail.
    pub fn users_by_key(&self, key: LookupKey, limit: usize) -> Result<Vec<User>, StoreError> {
        let sql = const_format(&[
            "SELECT ",
            USER_COLUMNS,
            " FROM user_keys k JOIN users u ON u.n = k.user WHERE k.key = ?1 LIMIT ?2",
        ]);
        self.rows(&sql, params![key.to_stored(), size(limit)], |row| read_user(row, 0))
    }

    /// Who had a name before, in the app or as login or e-mail.
    pub fn held_names(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<HeldName>, StoreError> {
        let app = self.n_of_app(app)?.unwrap_or(-1);
        if self.past.get() == Some((app, key, false)) {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for of in [0, app] {
            names.extend(self.rows(
                "SELECT i.id, h.kind, h.name, h.released_at FROM account_history h JOIN ids i ON i.n = h.user
                 WHERE h.app = ?1 AND h.key = ?2 ORDER BY h.released_at DESC LIMIT ?3",
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

    /// The names that a user, by surrogate, has lost after a time; the latest ones first, at most `limit`.
    pub fn names_released_by(
        &self,
        user: i64,
        after: Timestamp,
        limit: usize,
    ) -> Result<Vec<ReleasedName>, StoreError> {
        self.rows(
            "SELECT i.id, h.kind, h.name, h.released_at FROM account_history h LEFT JOIN ids i ON i.n = h.app
             WHERE h.user = ?1 AND h.released_at > ?2 AND (h.app = 0 OR i.n IS NOT NULL)
             ORDER BY h.released_at DESC LIMIT ?3",
            params![user, after.as_millis(), size(limit)],
            |row| {
                let of_app = row.get_ref(0)? != rusqlite::types::ValueRef::Null;
                let app = if of_app { Some(app_id(row, 0)?) } else { None };
                Ok(ReleasedName {
                    app,
                    kind: row.get(1)?,
                    name: row.get(2)?,
                    released_at: Timestamp::from_millis(row.get(3)?),
                })
            },
        )
    }

    /// Users, by surrogate, who have lost a name after a time; those behind `from`, in order, at most `limit`.
    pub fn users_who_released(&self, from: i64, after: Timestamp, limit: usize) -> Result<Vec<i64>, StoreError> {
        self.rows(
            "SELECT DISTINCT user FROM account_history WHERE user > ?1 AND released_at > ?2 ORDER BY user LIMIT ?3",
            params![from, after.as_millis(), size(limit)],
            |row| row.get(0),
        )
    }
}

/// Joins constant pieces of SQL.
fn const_format(pieces: &[&str]) -> String {
    pieces.concat()
}

//! Rows into tables, within the writer's transaction.
//!
//! Entry point: [`Apply::put`]; the module `remove` has the way out. Every change of a row is noted in the change log under
//! the revision that the transaction makes, the look-up keys follow the row, and a name that somebody loses is noted with
//! its holder.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::columns::{
    APP_GROUPS, APP_USERS, APPS, Column, GROUP_MEMBERS, GROUPS, Table, USERS, app_columns, app_group_columns,
    app_user_columns, group_columns, join_features, kind_code, user_columns,
};
use super::recent::Guard;
use super::touched::Touched;
use super::{StoreError, as_i64, meta, missing};
use crate::core::ids::{AppId, GroupId, RequestNumber, Revision, Timestamp, UserId};
use crate::core::model::{AppUser, Key, Kind, Row, Scope, User};
use crate::core::normalize::lookup_key;
use crate::core::pending::Target;

/// Surrogate of an id. Bitmaps of seen rows hold 32 bits; four thousand million objects are more than any org has.
pub(super) type N = i64;

/// What became of an observed row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Written, and nothing was stored before.
    New,
    /// Written over a row that was stored; the surrogate that names it within its scope.
    Changed(N),
    /// Stored like this already; the surrogate that names it within its scope.
    Unchanged(N),
    /// Something newer is known; the surrogate that names the row within its scope, 0 when its id was never stored.
    Older(N),
}

/// Surrogates of apps and groups, which are few and named in every row of their lists.
#[derive(Debug, Default)]
pub(super) struct IdCache {
    apps: HashMap<AppId, N>,
    groups: HashMap<GroupId, N>,
}

/// Entries of an [`IdCache`] before it starts again; keeps 100,000 groups below 20 MB.
const ID_CACHE_MAX: usize = 200_000;

/// One transaction's work.
pub(super) struct Apply<'a> {
    pub(super) sql: &'a Connection,
    pub(super) ids: &'a mut IdCache,
    pub(super) guard: &'a mut Guard,
    /// The revision that this batch makes if it changes anything.
    pub(super) revision: Revision,
    pub(super) at: RequestNumber,
    pub(super) now: Timestamp,
    /// Whether a row is refused when its own date is older than the stored one's.
    pub(super) dates_count: bool,
    /// Whether what is applied was read because of a hint: see [`crate::core::batch::Batch::is_reread`].
    pub(super) is_reread: bool,
    pub(super) changed: bool,
    /// Lines of the change log that were written.
    pub(super) lines: u64,
    pub(super) apps_changed: bool,
    /// Whether this transaction has noted that there is a group, or a group of an app, that was not there before: once is enough.
    pub(super) groups_noted: bool,
    /// Collections of groups and apps that were removed: what is known of them goes too.
    pub(super) gone: Vec<Scope>,
    /// What a removed group or app leaves behind that only a read can tell: app users that a group gave, groups that came
    /// from an app (facts 9.3, 9.4).
    pub(super) orphans: BTreeSet<Target>,
    /// Those of `orphans` whose end goes without saying: groups of an app that was deleted.
    pub(super) ended: BTreeSet<Target>,
    /// Whether new rows that name an unknown user or group are noted in `orphans`; a crawl finds them at its end.
    pub(super) notes_strangers: bool,
    /// Apps of the batch that are there, and that nobody wants.
    pub(super) unwanted_apps: BTreeSet<AppId>,
    /// Objects on which a gap is open.
    pub(super) object_gaps: &'a mut BTreeSet<Scope>,
    /// Those of them that the batch shows.
    pub(super) shown_objects: BTreeSet<Scope>,
    /// Names and users about which something changes.
    pub(super) touched: &'a mut Touched,
    pub(super) rows: &'a mut BTreeMap<Kind, u64>,
}

/// `changes.op`.
pub(super) const OP_REMOVED: i64 = 0;
pub(super) const OP_PUT: i64 = 1;
const OP_RELABELLED: i64 = 2;

/// The names under which an app user is found.
fn account_names(row: &AppUser) -> [(&'static str, Option<&str>); 3] {
    [
        ("user_name", row.user_name.as_deref()),
        ("external_id", row.external_id.as_deref()),
        ("email", row.email.as_deref()),
    ]
}

/// The names under which a user is found.
fn user_names(row: &User) -> [(&'static str, Option<&str>); 3] {
    [("login", row.login.as_deref()), ("email", row.email.as_deref()), ("second_email", row.second_email.as_deref())]
}

pub(super) const ACCOUNT_NAMES: [(&str, usize); 3] = [("user_name", 1), ("external_id", 2), ("email", 3)];
pub(super) const USER_NAMES: [(&str, usize); 3] = [("login", 2), ("email", 3), ("second_email", 4)];

/// Names that a stored row had, by kind of name.
pub(super) type OldNames = Vec<(&'static str, String)>;

impl Apply<'_> {
    /// Surrogate of an id, made when it is new.
    fn n(&self, kind: Kind, id: &str) -> Result<N, StoreError> {
        if let Some(n) = self.find(kind, id)? {
            return Ok(n);
        }
        let mut insert = self.sql.prepare_cached("INSERT INTO ids(kind, id) VALUES (?1, ?2)")?;
        let n = insert.insert(params![kind_code(kind), id])?;
        if u32::try_from(n).is_err() {
            return Err(StoreError::Stopped { detail: "more than 2^32 objects".to_owned() });
        }
        Ok(n)
    }

    pub(super) fn find(&self, kind: Kind, id: &str) -> Result<Option<N>, StoreError> {
        missing::find(self.sql, kind, id)
    }

    pub(super) fn user_n(&self, id: &UserId) -> Result<N, StoreError> {
        self.n(Kind::User, id.as_str())
    }

    pub(super) fn app_n(&mut self, id: &AppId) -> Result<N, StoreError> {
        if let Some(n) = self.ids.apps.get(id) {
            return Ok(*n);
        }
        let n = self.n(Kind::App, id.as_str())?;
        if self.ids.apps.len() >= ID_CACHE_MAX {
            self.ids.apps.clear();
        }
        self.ids.apps.insert(id.clone(), n);
        Ok(n)
    }

    pub(super) fn group_n(&mut self, id: &GroupId) -> Result<N, StoreError> {
        if let Some(n) = self.ids.groups.get(id) {
            return Ok(*n);
        }
        let n = self.n(Kind::Group, id.as_str())?;
        if self.ids.groups.len() >= ID_CACHE_MAX {
            self.ids.groups.clear();
        }
        self.ids.groups.insert(id.clone(), n);
        Ok(n)
    }

    /// Stores an observed row unless something newer is known or nothing differs.
    pub(super) fn put(&mut self, row: &Row) -> Result<Put, StoreError> {
        let key = row.key();
        if self.guard.is_outdated(&key, self.at) {
            let n = match &key {
                Key::User(user) | Key::GroupMember(_, user) | Key::AppUser(_, user) => {
                    self.find(Kind::User, user.as_str())?
                }
                Key::Group(group) | Key::AppGroup(_, group) => self.find(Kind::Group, group.as_str())?,
                Key::App(app) => self.find(Kind::App, app.as_str())?,
            };
            return Ok(Put::Older(n.unwrap_or_default()));
        }
        let put = self.put_newer(row, self.guard.may_lag(&key, self.now))?;
        if !self.object_gaps.is_empty()
            && !matches!(put, Put::Older(_))
            && let Some(scope) = Scope::of_object(&key).filter(|scope| self.object_gaps.contains(scope))
        {
            self.shown_objects.insert(scope);
        }
        if self.notes_strangers && put == Put::New {
            self.note_strangers(&key)?;
        }
        if self.is_reread && !matches!(put, Put::Older(_)) {
            self.guard.reread(key, self.at, self.now);
        }
        Ok(put)
    }

    /// A row that names somebody or something that is not stored: it is asked for by id.
    fn note_strangers(&mut self, key: &Key) -> Result<(), StoreError> {
        let (named, target) = match key {
            Key::AppUser(_, user) | Key::GroupMember(_, user) => (Key::User(user.clone()), Target::User(user.clone())),
            Key::AppGroup(_, group) => (Key::Group(group.clone()), Target::Group(group.clone())),
            Key::User(_) | Key::Group(_) | Key::App(_) => return Ok(()),
        };
        if !self.is_stored(&named)? {
            self.orphans.insert(target);
        }
        Ok(())
    }

    /// Whether an older date of Okta's own may refuse the row: `may_lag` says that a list could be behind. A read by id
    /// is never behind.
    fn put_newer(&mut self, row: &Row, may_lag: bool) -> Result<Put, StoreError> {
        self.dates_count = may_lag && !self.is_reread;
        match row {
            Row::User(user) => self.put_user(user),
            Row::Group(group) => {
                let n = self.group_n(&group.id)?;
                let source = group.source_app.as_ref().map(|app| self.app_n(app)).transpose()?;
                let (put, _) = self.put_row(Kind::Group, &GROUPS, &[n], &group_columns(group, source), &[])?;
                // A new row may be of a group that an app has got before the row was there.
                if put == Put::New || (source.is_some() && matches!(put, Put::Changed(_))) {
                    self.note_groups()?;
                }
                Ok(put)
            }
            Row::App(app) => {
                let n = self.app_n(&app.id)?;
                let features = join_features(app);
                let (put, old) = self.put_row(Kind::App, &APPS, &[n], &app_columns(app, &features), &[("label", 2)])?;
                if matches!(put, Put::New | Put::Changed(_)) {
                    self.apps_changed = true;
                    if old.first().is_some_and(|(_, label)| **label != *app.label) {
                        self.log(Kind::App, n, 0, OP_RELABELLED)?;
                    }
                }
                Ok(put)
            }
            Row::GroupMember(member) => {
                let key = [self.group_n(&member.group)?, self.user_n(&member.user)?];
                Ok(self.put_row(Kind::GroupMember, &GROUP_MEMBERS, &key, &[], &[])?.0)
            }
            Row::AppUser(app_user) => self.put_app_user(app_user),
            Row::AppGroup(app_group) => {
                let key = [self.app_n(&app_group.app)?, self.group_n(&app_group.group)?];
                let (put, _) = self.put_row(Kind::AppGroup, &APP_GROUPS, &key, &app_group_columns(app_group), &[])?;
                if put == Put::New {
                    self.note_groups()?;
                }
                Ok(put)
            }
        }
    }

    pub(super) fn note_groups(&mut self) -> Result<(), StoreError> {
        if self.groups_noted {
            return Ok(());
        }
        self.groups_noted = true;
        meta::put_integer(self.sql, meta::GROUPS_OF_APPS, as_i64(self.revision.0))
    }

    fn put_user(&mut self, user: &User) -> Result<Put, StoreError> {
        let n = self.user_n(&user.id)?;
        let (put, old) = self.put_row(Kind::User, &USERS, &[n], &user_columns(user), &USER_NAMES)?;
        if matches!(put, Put::New | Put::Changed(_)) {
            self.rename(0, n, &old, &user_names(user))?;
        }
        Ok(put)
    }

    fn put_app_user(&mut self, row: &AppUser) -> Result<Put, StoreError> {
        let (app, user) = (self.app_n(&row.app)?, self.user_n(&row.user)?);
        let via = row.via_group.as_ref().map(|group| self.group_n(group)).transpose()?;
        let columns = app_user_columns(row, via);
        let (put, old) = self.put_row(Kind::AppUser, &APP_USERS, &[app, user], &columns, &ACCOUNT_NAMES)?;
        if matches!(put, Put::New | Put::Changed(_)) {
            self.rename(app, user, &old, &account_names(row))?;
        }
        Ok(put)
    }

    /// The heart: compares with what is stored, writes only a difference. Returns the old values of `names`, the
    /// columns (counted with `at` as 0) that the caller wants to know of a changed row.
    fn put_row(
        &mut self,
        kind: Kind,
        table: &Table,
        key: &[N],
        columns: &[Column<'_>],
        names: &[(&'static str, usize)],
    ) -> Result<(Put, OldNames), StoreError> {
        let within_scope = key.last().copied().unwrap_or_default();
        let mut old = Vec::new();
        let mut select = self.sql.prepare_cached(table.select)?;
        let mut rows = select.query(rusqlite::params_from_iter(key))?;
        let exists = if let Some(stored) = rows.next()? {
            let (stored_at, at) = (stored.get::<_, i64>(0)?, as_i64(self.at.0));
            let is_older_by_date =
                || table.last_updated.is_some_and(|index| is_older(columns[index], stored.get_ref(index + 1)));
            if stored_at > at || (self.dates_count && is_older_by_date()) {
                return Ok((Put::Older(within_scope), old));
            }
            let mut same = true;
            for (index, column) in columns.iter().enumerate() {
                same &= column.is_stored_as(stored.get_ref(index + 1)?);
            }
            if same {
                drop(rows);
                if self.is_reread && stored_at < at {
                    let keys = [Column::Integer(at)].into_iter().chain(key.iter().map(|n| Column::Integer(*n)));
                    self.run(table.touch, rusqlite::params_from_iter(keys))?;
                }
                return Ok((Put::Unchanged(within_scope), old));
            }
            for (name, index) in names {
                if let Some(text) = stored.get::<_, Option<String>>(*index)? {
                    old.push((*name, text));
                }
            }
            true
        } else {
            false
        };
        drop(rows);
        let at = as_i64(self.at.0);
        let mut put = self.sql.prepare_cached(table.put)?;
        let keys = key.iter().map(|n| Column::Integer(*n)).chain([Column::Integer(at)]);
        put.execute(rusqlite::params_from_iter(keys.chain(columns.iter().copied())))?;
        if !exists {
            *self.rows.entry(kind).or_default() += 1;
        }
        let (a, b) = (key[0], key.get(1).copied().unwrap_or_default());
        self.log(kind, a, b, OP_PUT)?;
        Ok((if exists { Put::Changed(within_scope) } else { Put::New }, old))
    }

    /// Moves the look-up keys of a changed row and notes the names that it lost.
    pub(super) fn rename(
        &mut self,
        app: N,
        user: N,
        old: &[(&'static str, String)],
        new: &[(&'static str, Option<&str>)],
    ) -> Result<(), StoreError> {
        let key_of = |name: &str| lookup_key(name).ok().map(|key| key.to_stored());
        let mut new_keys: Vec<i64> = new.iter().filter_map(|(_, name)| name.and_then(key_of)).collect();
        new_keys.sort_unstable();
        new_keys.dedup();
        let mut old_keys = Vec::new();
        for (kind, name) in old {
            let Some(key) = key_of(name) else { continue };
            old_keys.push(key);
            let still = new.iter().any(|(other, value)| other == kind && *value == Some(name));
            if !still {
                self.release(app, key, user, kind, name)?;
            }
        }
        for key in old_keys.iter().filter(|key| !new_keys.contains(key)) {
            self.key(app, *key, user, false)?;
        }
        for key in new_keys.iter().filter(|key| !old_keys.contains(key)) {
            self.key(app, *key, user, true)?;
        }
        Ok(())
    }

    fn key(&mut self, app: N, key: i64, user: N, add: bool) -> Result<(), StoreError> {
        self.touched.key(key);
        match (app, add) {
            (0, true) => self.run("INSERT OR IGNORE INTO user_keys(key, user) VALUES (?1, ?2)", params![key, user]),
            (0, false) => self.run("DELETE FROM user_keys WHERE key = ?1 AND user = ?2", params![key, user]),
            (_, true) => self
                .run("INSERT OR IGNORE INTO account_keys(app, key, user) VALUES (?1, ?2, ?3)", params![app, key, user]),
            (_, false) => {
                self.run("DELETE FROM account_keys WHERE app = ?1 AND key = ?2 AND user = ?3", params![app, key, user])
            }
        }
    }

    fn release(&mut self, app: N, key: i64, user: N, kind: &str, name: &str) -> Result<(), StoreError> {
        self.touched.key(key);
        self.run(
            "REPLACE INTO account_history(app, key, user, kind, name, released_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![app, key, user, kind, name, self.now.as_millis()],
        )
    }

    pub(super) fn run(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        self.sql.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    pub(super) fn log(&mut self, kind: Kind, a: N, b: N, op: i64) -> Result<(), StoreError> {
        self.changed = true;
        self.lines += 1;
        match kind {
            Kind::User => self.touched.user(a),
            Kind::AppUser => self.touched.user(b),
            Kind::Group | Kind::App | Kind::GroupMember | Kind::AppGroup => {}
        }
        self.run(
            // An app may stand twice in one answer: the new label of the first must not be forgotten over the second.
            "INSERT INTO changes(revision, kind, a, b, op) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET op = CASE WHEN op = 2 AND excluded.op = 1 THEN op ELSE excluded.op END",
            params![as_i64(self.revision.0), kind_code(kind), a, b, op],
        )
    }

    /// The table of a key and its surrogates; 0, which is nobody's surrogate, for ids that were never stored.
    pub(super) fn located(&self, key: &Key) -> Result<(&'static Table, N, Option<N>), StoreError> {
        let n = |kind, id: &str| Ok::<_, StoreError>(self.find(kind, id)?.unwrap_or_default());
        Ok(match key {
            Key::User(user) => (&USERS, n(Kind::User, user.as_str())?, None),
            Key::Group(group) => (&GROUPS, n(Kind::Group, group.as_str())?, None),
            Key::App(app) => (&APPS, n(Kind::App, app.as_str())?, None),
            Key::GroupMember(group, user) => {
                (&GROUP_MEMBERS, n(Kind::Group, group.as_str())?, Some(n(Kind::User, user.as_str())?))
            }
            Key::AppUser(app, user) => (&APP_USERS, n(Kind::App, app.as_str())?, Some(n(Kind::User, user.as_str())?)),
            Key::AppGroup(app, group) => {
                (&APP_GROUPS, n(Kind::App, app.as_str())?, Some(n(Kind::Group, group.as_str())?))
            }
        })
    }

    /// Whether there is a row of this key.
    pub(super) fn is_stored(&self, key: &Key) -> Result<bool, StoreError> {
        let (table, a, b) = self.located(key)?;
        Ok(self.stored_at(table, a, b)?.is_some())
    }

    /// The app that brought a stored group.
    pub(super) fn source_app_of(&mut self, group: &GroupId) -> Result<Option<AppId>, StoreError> {
        let n = self.group_n(group)?;
        let mut select = self.sql.prepare_cached("SELECT source_app FROM groups WHERE n = ?1")?;
        let source: Option<N> = select.query_row([n], |row| row.get(0)).optional()?.flatten();
        let id = source.map(|app| self.id_of(app)).transpose()?.flatten();
        Ok(id.and_then(|id| AppId::new(&id).ok()))
    }

    /// Number of the request that last changed a stored row: the first column of every `select`.
    pub(super) fn stored_at(&self, table: &Table, a: N, b: Option<N>) -> Result<Option<i64>, StoreError> {
        let mut select = self.sql.prepare_cached(table.select)?;
        let key = [a].into_iter().chain(b);
        Ok(select.query_row(rusqlite::params_from_iter(key), |row| row.get(0)).optional()?)
    }

    pub(super) fn id_of(&self, n: N) -> Result<Option<String>, StoreError> {
        let mut select = self.sql.prepare_cached("SELECT id FROM ids WHERE n = ?1")?;
        Ok(select.query_row([n], |row| row.get(0)).optional()?)
    }

    /// Names of a stored row.
    pub(super) fn old_names(
        &self,
        table: &Table,
        key: &[N],
        names: &[(&'static str, usize)],
    ) -> Result<OldNames, StoreError> {
        let mut select = self.sql.prepare_cached(table.select)?;
        let mut rows = select.query(rusqlite::params_from_iter(key))?;
        let mut old = Vec::new();
        if let Some(stored) = rows.next()? {
            for (name, index) in names {
                if let Some(text) = stored.get::<_, Option<String>>(*index)? {
                    old.push((*name, text));
                }
            }
        }
        Ok(old)
    }

    /// Notes a change that was made beside [`Apply::put`].
    pub(super) fn note_put(&mut self, kind: Kind, a: N, b: N) -> Result<(), StoreError> {
        self.log(kind, a, b, OP_PUT)
    }
}

/// Whether the observed row is older than the stored one by Okta's own date: index-backed lists lag (facts 11).
fn is_older(new: Column<'_>, stored: rusqlite::Result<ValueRef<'_>>) -> bool {
    matches!((new, stored), (Column::Integer(new), Ok(ValueRef::Integer(stored))) if new < stored)
}

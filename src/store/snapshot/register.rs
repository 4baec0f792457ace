//! What a register of names is made of, and what has changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use rusqlite::params;

use super::super::columns::{ACCOUNT_COLUMNS, USER_COLUMNS, app_id, kind_code, read_account, read_user, user_id};
use super::super::register::{self, Holders, Person, RegisterLook};
use super::super::touched::Touched;
use super::super::{StoreError, as_i64};
use super::{Snapshot, const_format, size};
use crate::core::ids::{AppId, Revision};
use crate::core::model::{AppUser, Kind};
use crate::core::resolve::{keys_of_app_user, keys_of_user};

/// A user by surrogate, with its accounts by the surrogates of their apps.
type PersonWithAccounts = (u32, Person, Vec<(u32, AppUser)>);

/// Names by key and app.
type HoldersByName = BTreeMap<(i64, u32), Holders>;

/// A surrogate; more than 2^32 are never made.
fn surrogate(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<u32> {
    row.get(at)
}

impl Snapshot<'_> {
    /// How things stand with the register of names.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn register_look(&self) -> Result<RegisterLook, StoreError> {
        register::look(self.memo.names.as_deref(), self)
    }

    /// Who has the names whose keys lie in a range, by key and app (0: login or e-mail of Okta), and whether somebody had them
    /// before. `None` if these are more than `limit` names.
    pub(in crate::store) fn holders_between(
        &self,
        keys: RangeInclusive<i64>,
        limit: usize,
    ) -> Result<Option<HoldersByName>, StoreError> {
        let mut found = HoldersByName::new();
        let range = params![keys.start(), keys.end()];
        let mut select = self
            .sql
            .prepare_cached("SELECT key, user FROM user_keys WHERE key BETWEEN ?1 AND ?2 ORDER BY key, user")?;
        let mut rows = select.query(range)?;
        let apps = self.rows("SELECT n FROM ids WHERE kind = ?1", [kind_code(Kind::App)], |row| surrogate(row, 0))?;
        let mut add = |key: i64, app: u32, user: Option<u32>| {
            let holders = found.entry((key, app)).or_default();
            match user {
                Some(user) => holders.add(user),
                None => holders.has_past = true,
            }
            found.len() > limit
        };
        while let Some(row) = rows.next()? {
            if add(row.get(0)?, 0, Some(surrogate(row, 1)?)) {
                return Ok(None);
            }
        }
        for app in apps.into_iter().chain([0]) {
            let range = params![app, keys.start(), keys.end()];
            let mut select = self.sql.prepare_cached(
                "SELECT key, user FROM account_keys WHERE app = ?1 AND key BETWEEN ?2 AND ?3 ORDER BY key, user",
            )?;
            let mut rows = select.query(range)?;
            while let Some(row) = rows.next()? {
                if add(row.get(0)?, app, Some(surrogate(row, 1)?)) {
                    return Ok(None);
                }
            }
            let mut select = self
                .sql
                .prepare_cached("SELECT DISTINCT key FROM account_history WHERE app = ?1 AND key BETWEEN ?2 AND ?3")?;
            let mut rows = select.query(range)?;
            while let Some(row) = rows.next()? {
                if add(row.get(0)?, app, None) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(found))
    }

    /// The next users after a surrogate, in the order of the surrogates, each with all accounts in the order of their apps:
    /// about so many rows. Whoever is known by memberships only has no row and no account.
    pub(in crate::store) fn people_after(
        &self,
        after: u32,
        limit: usize,
    ) -> Result<Vec<PersonWithAccounts>, StoreError> {
        // The plus keeps the planner from walking all ids of the kind and sorting them.
        let users = const_format(&[
            "SELECT i.n, i.id, u.n, ",
            USER_COLUMNS,
            " FROM ids i LEFT JOIN users u ON u.n = i.n WHERE i.n > ?1 AND +i.kind = ?2 ORDER BY i.n LIMIT ?3",
        ]);
        let accounts = const_format(&[
            "SELECT x.app, ",
            ACCOUNT_COLUMNS,
            " FROM app_users x LEFT JOIN ids gi ON gi.n = x.via_group WHERE x.user = ?1 ORDER BY x.app",
        ]);
        let ids = self.rows("SELECT n, id FROM ids WHERE kind = ?1", [kind_code(Kind::App)], |row| {
            Ok((surrogate(row, 0)?, app_id(row, 1)?))
        })?;
        let ids: BTreeMap<u32, AppId> = ids.into_iter().collect();
        let mut people = Vec::new();
        let mut count = 0;
        let mut select = self.sql.prepare_cached(&users)?;
        let mut rows = select.query(params![after, kind_code(Kind::User), size(limit)])?;
        while let Some(row) = rows.next()?
            && count < limit
        {
            const USER_AT: usize = 3;
            let (n, id) = (surrogate(row, 0)?, user_id(row, 1)?);
            let is_listed = row.get::<_, Option<i64>>(2)?.is_some();
            let user = if is_listed { Some(read_user(row, USER_AT)?) } else { None };
            let accounts = self.rows(&accounts, [n], |row| {
                let app = surrogate(row, 0)?;
                let account = ids.get(&app).map(|app| read_account(row, 1, app.clone(), id.clone())).transpose()?;
                Ok(account.map(|account| (app, account)))
            })?;
            let accounts: Vec<(u32, AppUser)> = accounts.into_iter().flatten().collect();
            count += 1 + accounts.len();
            people.push((n, Person { id, user }, accounts));
        }
        Ok(people)
    }

    /// The names and the users that revisions after this one have touched; `None` if these were more than `limit` changes. All
    /// changes since have to be known still.
    pub(in crate::store) fn touched_since(
        &self,
        revision: Revision,
        limit: usize,
    ) -> Result<Option<Touched>, StoreError> {
        let changed = self.rows(
            "SELECT kind, a, b FROM changes WHERE revision > ?1 LIMIT ?2",
            params![as_i64(revision.0), size(limit.saturating_add(1))],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)),
        )?;
        if changed.len() > limit {
            return Ok(None);
        }
        let mut touched = Touched::default();
        let mut users = BTreeSet::new();
        let changed: BTreeSet<(i64, i64, i64)> = changed.into_iter().collect();
        for (kind, a, b) in changed {
            // Who has lost a name is touched; whoever has got one has it still, or has a past with it.
            if kind == kind_code(Kind::User) {
                users.insert(a);
                let user = self.user_by_n(a)?;
                user.iter().flat_map(keys_of_user).for_each(|(_, key)| touched.key(key.to_stored()));
            } else if kind == kind_code(Kind::AppUser) {
                users.insert(b);
                let account = self.app_user_by_n(a, b)?;
                account.iter().flat_map(keys_of_app_user).for_each(|(_, key)| touched.key(key.to_stored()));
            }
        }
        for user in users {
            touched.user(user);
            let held = self.rows("SELECT key FROM account_history WHERE user = ?1", [user], |row| row.get(0))?;
            held.into_iter().for_each(|key| touched.key(key));
        }
        Ok(Some(touched))
    }
}

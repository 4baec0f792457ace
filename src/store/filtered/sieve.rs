//! Rows before they are stored: kept, dropped, or left until somebody knows.
//!
//! Entry point: [`Sieve::sift`].

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension as _};

use super::super::apply::{Apply, N, Put};
use super::super::columns::app_id;
use super::super::{StoreError, missing, overrides};
use super::follow_up::{add_rows, forget_undecided, lists_waiting_for, note_dropped, note_undecided};
use super::hashes::{Filtered, account_names, forget, user_names};
use crate::core::filter::{Filter, UserVerdict};
use crate::core::ids::{AppId, GroupId, RequestNumber, Timestamp, UserId};
use crate::core::model::{AppUser, GroupMember, Key, Kind, Quarantined, Row, Scope, User};
use crate::core::resolve::NameField;

/// The filter at work.
pub(in crate::store) struct Sieve {
    filter: Filter,
    pub(super) hashes: Filtered,
}

/// What became of a row.
pub(in crate::store) enum Sifted {
    /// As a store without a filter would have it.
    Put(Put),
    /// Dropped, with the number under which its user or group is known to be filtered.
    Dropped(N),
    /// Not stored, because nobody knows.
    Undecided,
}

/// What a batch's rows have led to, beside what is stored.
#[derive(Default)]
pub(in crate::store) struct Leavings {
    /// Users whose login and e-mail are hidden.
    pub(in crate::store) quarantined: Vec<Quarantined>,
    /// With the number under which each was known to be filtered.
    pub(super) new_users: Vec<(UserId, Option<N>)>,
    /// With the number under which each was known to be filtered.
    pub(super) new_groups: Vec<(GroupId, Option<N>)>,
    /// Apps that a group is newly assigned to.
    pub(super) newly_assigned: BTreeSet<AppId>,
    /// Users and groups that a row names and that nobody knows.
    pub(super) unknown: BTreeSet<(Kind, String)>,
    /// Rows were removed whose names must not stay in any file.
    pub(in crate::store) has_purged: bool,
}

impl Sieve {
    pub(in crate::store) fn new(filter: Filter, hashes: Filtered) -> Self {
        Self { filter, hashes }
    }

    /// Whether every row is stored as it comes.
    pub(in crate::store) fn is_idle(&self) -> bool {
        !self.filter.users.is_active() && !self.filter.groups.is_active() && !self.filter.skip_secondary_emails
    }

    /// Stores a row, or drops it.
    pub(in crate::store) fn sift(
        &self,
        apply: &mut Apply<'_>,
        row: &Row,
        leavings: &mut Leavings,
    ) -> Result<Sifted, StoreError> {
        match row {
            Row::User(user) => self.sift_user(apply, (row, user), leavings),
            Row::Group(group) if self.filter.groups.is_active() => {
                let known = self.hashes.find(apply.sql, Kind::Group, group.id.as_str())?;
                if !self.filter.groups.wants(group) {
                    return self.drop_group(apply, &group.id);
                }
                let put = apply.put(row)?;
                if put == Put::New {
                    self.hashes.forget(apply.sql, Kind::Group, group.id.as_str())?;
                    leavings.new_groups.push((group.id.clone(), known));
                }
                Ok(Sifted::Put(put))
            }
            Row::AppUser(account) => self.sift_account(apply, (row, account), leavings),
            Row::GroupMember(GroupMember { group, user }) => {
                let scope = || Scope::GroupMembers(group.clone());
                if self.filter.groups.is_active()
                    && let Some(dropped) = self.dropped(apply, scope, &Key::Group(group.clone()), leavings)?
                {
                    return Ok(dropped);
                }
                match self.dropped_with_user(apply, scope, user, leavings)? {
                    Some(dropped) => Ok(dropped),
                    None => apply.put(row).map(Sifted::Put),
                }
            }
            Row::AppGroup(assigned) if self.filter.groups.is_active() => {
                let scope = || Scope::AppGroups(assigned.app.clone());
                let key = Key::Group(assigned.group.clone());
                if let Some(dropped) = self.dropped(apply, scope, &key, leavings)? {
                    return Ok(dropped);
                }
                let put = apply.put(row)?;
                if put == Put::New {
                    leavings.newly_assigned.insert(assigned.app.clone());
                }
                Ok(Sifted::Put(put))
            }
            Row::Group(_) | Row::AppGroup(_) | Row::App(_) => apply.put(row).map(Sifted::Put),
        }
    }

    fn sift_user(
        &self,
        apply: &mut Apply<'_>,
        (row, user): (&Row, &User),
        leavings: &mut Leavings,
    ) -> Result<Sifted, StoreError> {
        match self.filter.users.judge(user) {
            UserVerdict::Wanted => {}
            UserVerdict::Unwanted => return self.drop_user(apply, user, leavings),
            UserVerdict::Undecidable => {
                leavings.quarantined.push(Quarantined {
                    scope: Scope::Users,
                    id: Some(user.id.as_str().into()),
                    reason: "neither profile.login nor profile.email is shown: nobody knows whether \
                             filter.email_domains wants it"
                        .to_owned(),
                });
                return Ok(Sifted::Undecided);
            }
        }
        if self.filter.users.is_active() && self.is_behind(apply, user)? {
            return Ok(Sifted::Put(Put::Older(0)));
        }
        let put = if self.filter.skip_secondary_emails && user.second_email.is_some() {
            let mut user = user.clone();
            self.filter.trim(&mut user);
            apply.put(&Row::User(user))?
        } else {
            apply.put(row)?
        };
        if put == Put::New && self.filter.users.is_active() {
            let known = self.hashes.forget(apply.sql, Kind::User, user.id.as_str())?;
            leavings.new_users.push((user.id.clone(), known));
        }
        Ok(Sifted::Put(put))
    }

    /// Whether a list shows a user as it was before a read by id has found it to be out of the domains.
    fn is_behind(&self, apply: &Apply<'_>, user: &User) -> Result<bool, StoreError> {
        let key = Key::User(user.id.clone());
        if apply.is_reread || !apply.guard.may_lag(&key, apply.now) {
            return Ok(false);
        }
        let Some(n) = self.hashes.find(apply.sql, Kind::User, user.id.as_str())? else { return Ok(false) };
        let mut select = apply.sql.prepare_cached("SELECT last_updated FROM filtered_objects WHERE n = ?1")?;
        let known: Option<i64> = select.query_row([n], |row| row.get(0))?;
        Ok(known.zip(user.last_updated).is_some_and(|(known, seen)| seen.as_millis() < known))
    }

    /// Whether a user is known to be kept out.
    pub(in crate::store) fn is_filtered_user(&self, sql: &Connection, user: &UserId) -> Result<bool, StoreError> {
        Ok(self.hashes.find(sql, Kind::User, user.as_str())?.is_some())
    }

    fn drop_user(&self, apply: &mut Apply<'_>, user: &User, leavings: &mut Leavings) -> Result<Sifted, StoreError> {
        let key = Key::User(user.id.clone());
        let n = apply.find(Kind::User, user.id.as_str())?;
        if apply.guard.is_outdated(&key, apply.at) {
            return Ok(Sifted::Put(Put::Older(n.unwrap_or_default())));
        }
        let stored = match n {
            Some(n) => last_updated_of(apply.sql, n)?.map(|last_updated| (n, last_updated)),
            None => None,
        };
        if let Some((n, last_updated)) = stored {
            let may_lag = !apply.is_reread && apply.guard.may_lag(&key, apply.now);
            let is_older = last_updated.zip(user.last_updated).is_some_and(|(stored, seen)| seen < stored);
            if may_lag && is_older {
                return Ok(Sifted::Put(Put::Older(n)));
            }
        }
        let owner = self.hashes.note(
            apply.sql,
            (Kind::User, user.id.as_str()),
            (apply.at, user.last_updated),
            apply.is_reread,
        )?;
        if let Some((n, _)) = stored {
            self.keep_hashes_of_accounts(apply.sql, owner, n)?;
            let mut dropped = Dropped::default();
            dropped.add(apply.sql, owner, n)?;
            if apply.remove(&key)?.is_none() {
                forget(apply.sql, owner)?;
                return Ok(Sifted::Put(Put::Older(n)));
            }
            dropped.note(apply.sql)?;
            forget_history(apply.sql, n)?;
            leavings.has_purged = true;
        } else if apply.is_reread {
            apply.guard.reread(key, apply.at, apply.now);
        }
        // Also of somebody who was never stored: a configuration may name them.
        if let Some(n) = n {
            leavings.has_purged |= overrides::forget_of_user(apply, n)?;
        }
        self.hashes.put_names(apply.sql, owner, None, &user_names(user))?;
        for scope in lists_waiting_for(apply.sql, Kind::User, user.id.as_str())? {
            note_dropped(apply.sql, &scope, owner)?;
        }
        forget_undecided(apply.sql, Kind::User, user.id.as_str())?;
        Ok(Sifted::Dropped(owner))
    }

    /// A stored user is filtered from now on; before it goes.
    pub(in crate::store) fn note_user(
        &self,
        sql: &Connection,
        user: &User,
        n: N,
        dropped: &mut Dropped,
    ) -> Result<(), StoreError> {
        let at = (RequestNumber::default(), user.last_updated);
        let owner = self.hashes.note(sql, (Kind::User, user.id.as_str()), at, false)?;
        self.hashes.put_names(sql, owner, None, &user_names(user))?;
        dropped.add(sql, owner, n)?;
        self.keep_hashes_of_accounts(sql, owner, n)
    }

    /// A stored group is filtered from now on.
    pub(in crate::store) fn note_group(&self, sql: &Connection, group: &GroupId) -> Result<N, StoreError> {
        self.hashes.note(sql, (Kind::Group, group.as_str()), (RequestNumber::default(), None), false)
    }

    /// The assignments of a group that is about to go: they are read again once it is wanted again.
    pub(in crate::store) fn note_assignments(&self, sql: &Connection, dropped: N, group: N) -> Result<(), StoreError> {
        for app in apps_of_group(sql, group)? {
            note_dropped(sql, &Scope::AppGroups(app), dropped)?;
        }
        Ok(())
    }

    /// Hashes of the names of a stored user's accounts, before they go.
    pub(in crate::store) fn keep_hashes_of_accounts(
        &self,
        sql: &Connection,
        owner: N,
        user: N,
    ) -> Result<(), StoreError> {
        let mut select = sql.prepare_cached(
            "SELECT x.app, i.id, x.user_name, x.external_id, x.email FROM app_users x JOIN ids i ON i.n = x.app
             WHERE x.user = ?1",
        )?;
        let mut rows = select.query([user])?;
        while let Some(row) = rows.next()? {
            let text = |index| row.get::<_, Option<String>>(index);
            let (app, id, name): (N, String, _) = (row.get(0)?, row.get(1)?, text(2)?);
            let (external_id, email) = (text(3)?, text(4)?);
            let Ok(id) = AppId::new(&id) else { continue };
            let names = [
                (NameField::UserName, name.as_deref()),
                (NameField::ExternalId, external_id.as_deref()),
                (NameField::AppEmail, email.as_deref()),
            ];
            self.hashes.put_names(sql, owner, Some((app, &id)), &names)?;
        }
        Ok(())
    }

    fn drop_group(&self, apply: &mut Apply<'_>, group: &GroupId) -> Result<Sifted, StoreError> {
        let key = Key::Group(group.clone());
        if apply.guard.is_outdated(&key, apply.at) {
            return Ok(Sifted::Put(Put::Older(apply.find(Kind::Group, group.as_str())?.unwrap_or_default())));
        }
        let stored = if apply.is_stored(&key)? { apply.find(Kind::Group, group.as_str())? } else { None };
        let assigned = match stored {
            Some(n) => apps_of_group(apply.sql, n)?,
            None => Vec::new(),
        };
        if let Some(n) = stored {
            if apply.remove(&key)?.is_none() {
                return Ok(Sifted::Put(Put::Older(n)));
            }
            forget_grants(apply, n)?;
        } else if apply.is_reread {
            apply.guard.reread(key, apply.at, apply.now);
        }
        let at = (apply.at, None);
        let n = self.hashes.note(apply.sql, (Kind::Group, group.as_str()), at, apply.is_reread)?;
        for app in assigned {
            note_dropped(apply.sql, &Scope::AppGroups(app), n)?;
        }
        for scope in lists_waiting_for(apply.sql, Kind::Group, group.as_str())? {
            if matches!(scope, Scope::AppGroups(_)) {
                note_dropped(apply.sql, &scope, n)?;
            }
        }
        forget_undecided(apply.sql, Kind::Group, group.as_str())?;
        Ok(Sifted::Dropped(n))
    }

    fn sift_account(
        &self,
        apply: &mut Apply<'_>,
        (row, account): (&Row, &AppUser),
        leavings: &mut Leavings,
    ) -> Result<Sifted, StoreError> {
        let scope = || Scope::AppUsers(account.app.clone());
        match self.dropped_with_user(apply, scope, &account.user, leavings)? {
            Some(Sifted::Dropped(owner)) => {
                if apply.is_reread {
                    note_dropped(apply.sql, &scope(), owner)?;
                }
                let app = apply.app_n(&account.app)?;
                self.hashes.put_names(apply.sql, owner, Some((app, &account.app)), &account_names(account))?;
                return Ok(Sifted::Dropped(owner));
            }
            Some(other) => {
                let owner = self.hashes.note_unknown(apply.sql, &account.user, apply.at)?;
                let app = apply.app_n(&account.app)?;
                self.hashes.put_names(apply.sql, owner, Some((app, &account.app)), &account_names(account))?;
                return Ok(other);
            }
            None => {}
        }
        if self.filter.groups.is_active()
            && let Some(group) = &account.via_group
            && self.dropped(apply, scope, &Key::Group(group.clone()), leavings)?.is_some()
        {
            let account = AppUser { via_group: None, ..account.clone() };
            return apply.put(&Row::AppUser(account)).map(Sifted::Put);
        }
        apply.put(row).map(Sifted::Put)
    }

    fn dropped_with_user(
        &self,
        apply: &Apply<'_>,
        scope: impl Fn() -> Scope,
        user: &UserId,
        leavings: &mut Leavings,
    ) -> Result<Option<Sifted>, StoreError> {
        if !self.filter.users.is_active() {
            return Ok(None);
        }
        self.dropped(apply, scope, &Key::User(user.clone()), leavings)
    }

    /// Whether a row that names a user or a group is not stored; `None` when it is.
    fn dropped(
        &self,
        apply: &Apply<'_>,
        scope: impl Fn() -> Scope,
        named: &Key,
        leavings: &mut Leavings,
    ) -> Result<Option<Sifted>, StoreError> {
        if apply.is_stored(named)? {
            return Ok(None);
        }
        let (kind, id) = match named {
            Key::User(user) => (Kind::User, user.as_str()),
            Key::Group(group) => (Kind::Group, group.as_str()),
            _ => return Ok(None),
        };
        if let Some(n) = self.hashes.find(apply.sql, kind, id)? {
            return Ok(Some(Sifted::Dropped(n)));
        }
        if note_undecided(apply, &scope(), kind, id)? {
            leavings.unknown.insert((kind, id.to_owned()));
        }
        Ok(Some(Sifted::Undecided))
    }

    /// Whether a membership event is about somebody or something that is not stored. `Err` is of the store.
    pub(in crate::store) fn skips_member(
        &self,
        apply: &Apply<'_>,
        group: &GroupId,
        user: &UserId,
        leavings: &mut Leavings,
    ) -> Result<bool, StoreError> {
        if self.filter.groups.is_active() && self.hashes.find(apply.sql, Kind::Group, group.as_str())?.is_some() {
            return Ok(true);
        }
        let scope = || Scope::GroupMembers(group.clone());
        let dropped = self.dropped_with_user(apply, scope, user, leavings)?;
        if let Some(Sifted::Dropped(n)) = dropped {
            note_dropped(apply.sql, &scope(), n)?;
        }
        Ok(dropped.is_some())
    }
}

/// Which lists have shown stored users who are about to go: they are read again once those are wanted again.
#[derive(Default)]
pub(in crate::store) struct Dropped {
    apps: BTreeMap<N, RoaringBitmap>,
    groups: BTreeMap<N, RoaringBitmap>,
}

impl Dropped {
    fn add(&mut self, sql: &Connection, owner: N, user: N) -> Result<(), StoreError> {
        let Ok(owner) = u32::try_from(owner) else { return Ok(()) };
        for (lists, select) in [
            (&mut self.apps, "SELECT app FROM app_users WHERE user = ?1"),
            (&mut self.groups, "SELECT grp FROM group_members WHERE user = ?1"),
        ] {
            let mut select = sql.prepare_cached(select)?;
            for n in select.query_map([user], |row| row.get(0))?.collect::<Result<Vec<N>, _>>()? {
                lists.entry(n).or_default().insert(owner);
            }
        }
        Ok(())
    }

    pub(in crate::store) fn note(self, sql: &Connection) -> Result<(), StoreError> {
        for (n, owners) in self.apps {
            if let Ok(app) = AppId::new(&missing::id_of(sql, n)?) {
                add_rows(sql, &Scope::AppUsers(app), &owners)?;
            }
        }
        for (n, owners) in self.groups {
            if let Ok(group) = GroupId::new(&missing::id_of(sql, n)?) {
                add_rows(sql, &Scope::GroupMembers(group), &owners)?;
            }
        }
        Ok(())
    }
}

/// Apps that a stored group is assigned to.
fn apps_of_group(sql: &Connection, group: N) -> Result<Vec<AppId>, StoreError> {
    let mut select = sql.prepare_cached("SELECT i.id FROM app_groups x JOIN ids i ON i.n = x.app WHERE x.grp = ?1")?;
    Ok(select.query_map([group], |row| app_id(row, 0))?.collect::<Result<_, _>>()?)
}

/// When a stored user was last changed; `None` when it is not stored.
fn last_updated_of(sql: &Connection, n: N) -> Result<Option<Option<Timestamp>>, StoreError> {
    let mut select = sql.prepare_cached("SELECT last_updated FROM users WHERE n = ?1")?;
    let found: Option<Option<i64>> = select.query_row([n], |row| row.get(0)).optional()?;
    Ok(found.map(|at| at.map(Timestamp::from_millis)))
}

/// Names that a user had do not stay either.
pub(in crate::store) fn forget_history(sql: &Connection, user: N) -> Result<(), StoreError> {
    sql.prepare_cached("DELETE FROM account_history WHERE user = ?1")?.execute([user])?;
    Ok(())
}

/// App users that name a group which is not stored any more. Looks at all of them, for the rare group that is renamed.
pub(super) fn forget_grants(apply: &mut Apply<'_>, group: N) -> Result<(), StoreError> {
    forget_grants_where(apply, "SELECT app, user FROM app_users WHERE via_group = ?1", group)
}

/// The same for all groups at once.
pub(in crate::store) fn forget_grants_of_unknown(apply: &mut Apply<'_>) -> Result<(), StoreError> {
    let select = "SELECT app, user FROM app_users WHERE via_group > ?1 AND via_group NOT IN (SELECT n FROM groups)";
    forget_grants_where(apply, select, 0)
}

fn forget_grants_where(apply: &mut Apply<'_>, select: &str, n: N) -> Result<(), StoreError> {
    let mut select = apply.sql.prepare_cached(select)?;
    let rows = select.query_map([n], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (app, user) in rows.collect::<Result<Vec<(N, N)>, _>>()? {
        apply
            .sql
            .prepare_cached("UPDATE app_users SET via_group = NULL WHERE app = ?1 AND user = ?2")?
            .execute([app, user])?;
        apply.note_put(Kind::AppUser, app, user)?;
    }
    Ok(())
}

//! What follows from what was dropped: reads of those whom nobody knows, lists that are to be read again, and the books of
//! who is filtered.
//!
//! Entry points: [`Sieve::before_rows`], [`Sieve::follow_up`], [`Sieve::keep_walk`].

use std::collections::BTreeSet;

use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::apply::{Apply, N};
use super::super::columns::{app_id, kind_code};
use super::super::debts::Debts;
use super::super::walks::{Books, Shown};
use super::super::{StoreError, as_i64, missing};
use super::hashes::{UNKNOWN, forget};
use super::sieve::{Leavings, Sieve};
use crate::core::batch::{Batch, CrawlMark, Finished, WalkState, WalkUpdate};
use crate::core::ids::{GroupId, RequestNumber, UserId};
use crate::core::model::{AssignmentScope, Key, Kind, Row, Scope};
use crate::core::pending::{Target, When};
use crate::core::reconcile::{Walked, verdict};

/// Newly wanted users of one page of the users list that are followed up one by one; of more the lists are read, which show
/// 500 accounts or 1,000 members with one request.
const NEW_USERS_MAX: usize = 20;

/// Unknown users of one page that are asked for by id; of more the list of users is read again.
const UNKNOWN_USERS_MAX: usize = 100;

/// `walk_seen.page` of what was dropped beside the pages of a walk, which begin with 1.
const BESIDE_PAGES: u32 = 0;

/// `undecided.id` of lists that are read again once the list of users is; their `kind` is 0.
const AFTER_USERS: &str = "";

/// The same of lists that the running crawl is going to read.
const LEFT_TO_CRAWL: &str = "crawl";

impl Sieve {
    /// Objects that a batch removes or leaves out for other reasons.
    pub(in crate::store) fn before_rows(&self, apply: &Apply<'_>, batch: &Batch) -> Result<RoaringBitmap, StoreError> {
        if !self.is_idle() {
            for key in &batch.removals {
                match key {
                    Key::User(user) => self.hashes.forget(apply.sql, Kind::User, user.as_str())?,
                    Key::Group(group) => self.hashes.forget(apply.sql, Kind::Group, group.as_str())?,
                    _ => None,
                };
            }
        }
        let mut apps = RoaringBitmap::new();
        for app in &batch.unwanted_apps {
            let n = self.hashes.note(apply.sql, (Kind::App, app.as_str()), (apply.at, None), false)?;
            apps.extend(u32::try_from(n));
        }
        for row in &batch.rows {
            if let Row::App(app) = row {
                self.hashes.forget(apply.sql, Kind::App, app.id.as_str())?;
            }
        }
        Ok(apps)
    }

    /// Users whose names are hidden are bad records; before the walks, whose ends count them.
    pub(in crate::store) fn quarantine(&self, books: &Books<'_, '_>, leavings: &Leavings) -> Result<(), StoreError> {
        leavings.quarantined.iter().try_for_each(|record| books.quarantine(record))
    }

    /// What else has to be read because of what was dropped, and because of what is newly stored.
    pub(in crate::store) fn follow_up(
        &self,
        books: &mut Books<'_, '_>,
        debts: &mut Debts<'_>,
        batch: &Batch,
        leavings: Leavings,
    ) -> Result<(), StoreError> {
        let is_listed = batch.walks.iter().any(|update| update.scope == Scope::Users);
        let sql = books.apply.sql;
        let mut lists = BTreeSet::new();
        let mut accounts = BTreeSet::new();
        let mut were_filtered = RoaringBitmap::new();
        let are_many = is_listed && leavings.new_users.len() > NEW_USERS_MAX && !batch.lists_follow;
        for (user, was_filtered) in &leavings.new_users {
            if are_many {
                note_lists_of(sql, user)?;
            } else if batch.is_followed && !batch.lists_follow {
                accounts.extend(accounts_to_read(sql, user, *was_filtered)?);
            } else {
                were_filtered.extend(was_filtered.and_then(|n| u32::try_from(n).ok()));
                lists.extend(lists_waiting_for(sql, Kind::User, user.as_str())?);
            }
            forget_undecided(sql, Kind::User, user.as_str())?;
        }
        for (group, was_filtered) in &leavings.new_groups {
            lists.extend(lists_naming(sql, group, *was_filtered)?);
            forget_undecided(sql, Kind::Group, group.as_str())?;
        }
        let since = batch.members_since;
        if batch.lists_follow {
            lists.extend(lists_that_dropped(sql, &were_filtered)?);
            leave_to_crawl(sql, &lists, since)?;
        } else {
            if are_many {
                note_all_lists(books)?;
            } else if batch.is_followed {
                for target in accounts {
                    debts.owe(target, When::Now, "newly wanted user", since)?;
                }
                for (user, _) in leavings.new_users {
                    debts.owe(Target::UserApps(user.clone()), When::Now, "newly wanted user", since)?;
                    debts.owe(Target::UserGroups(user), When::Now, "newly wanted user", since)?;
                }
            }
            if leavings.new_groups.iter().any(|(_, was_filtered)| was_filtered.is_some()) {
                lists.extend(lists_ahead_of_groups(books)?);
            }
            lists.extend(leavings.newly_assigned.into_iter().map(Scope::AppUsers));
            for scope in lists {
                debts.owe(Target::List(scope), When::Quiet, "newly wanted", since)?;
            }
        }
        let users_are_known = !books.is_unread(&Scope::Users, None)?;
        let unknown_users = leavings.unknown.iter().filter(|(kind, _)| *kind == Kind::User).count();
        if users_are_known && unknown_users > UNKNOWN_USERS_MAX {
            debts.owe(Target::List(Scope::Users), When::Now, "unknown users", since)?;
        }
        for (kind, id) in leavings.unknown {
            let target = match kind {
                Kind::User if !users_are_known || unknown_users > UNKNOWN_USERS_MAX => None,
                Kind::User => UserId::new(&id).ok().map(Target::User),
                _ => GroupId::new(&id).ok().map(Target::Group),
            };
            if let Some(target) = target {
                debts.owe(target, When::Now, "named, but not known", since)?;
            }
        }
        if let Some(CrawlMark::End { .. }) = &batch.crawl {
            owe_what_was_left(sql, debts, since)?;
        }
        Ok(())
    }

    /// What a walk tells of those who are filtered: how many there are, and who is gone.
    pub(in crate::store) fn keep_walk(
        &self,
        books: &mut Books<'_, '_>,
        debts: &mut Debts<'_>,
        batch: &Batch,
        update: &WalkUpdate,
        (shown, finished): (&Shown, Option<&Finished>),
    ) -> Result<(), StoreError> {
        if self.is_idle() && update.scope != Scope::Apps {
            return Ok(());
        }
        let name = update.scope.name();
        let seen_name = format!("filtered {name}");
        match &update.state {
            WalkState::Todo | WalkState::GivenUp => books.forget_seen(&seen_name),
            WalkState::Walking(position) => books.remember_seen(&seen_name, position.page, &shown.dropped),
            WalkState::Finished { from, .. } => {
                let dropped = missing::seen(books.apply.sql, &seen_name)? | &shown.dropped;
                books.forget_seen(&seen_name)?;
                let is_believed = finished.is_some_and(|finished| !finished.verdict.is_hold());
                if is_believed {
                    sweep(books, &update.scope, *from, &dropped)?;
                }
                put_rows(books.apply.sql, &update.scope, &dropped)?;
                let mut delete =
                    books.apply.sql.prepare_cached("DELETE FROM undecided WHERE scope = ?1 AND at < ?2")?;
                delete.execute(params![name, as_i64(from.0)])?;
                if update.scope == Scope::Users {
                    owe_undecided_lists(books.apply.sql, debts, batch)?;
                }
                Ok(())
            }
            WalkState::Unwanted => {
                books.forget_seen(&seen_name)?;
                forget_scope(books.apply.sql, &update.scope)
            }
            WalkState::Released => Ok(()),
        }
    }
}

/// Notes a row that nobody can decide about; returns whether that is news.
pub(super) fn note_undecided(apply: &Apply<'_>, scope: &Scope, kind: Kind, id: &str) -> Result<bool, StoreError> {
    let (name, kind, at) = (scope.name(), kind_code(kind), as_i64(apply.at.0));
    let mut insert =
        apply.sql.prepare_cached("INSERT OR IGNORE INTO undecided(scope, kind, id, at) VALUES (?1, ?2, ?3, ?4)")?;
    if insert.execute(params![name, kind, id, at])? > 0 {
        return Ok(true);
    }
    let mut update =
        apply.sql.prepare_cached("UPDATE undecided SET at = ?4 WHERE scope = ?1 AND kind = ?2 AND id = ?3")?;
    update.execute(params![name, kind, id, at])?;
    Ok(false)
}

/// It is known by now what this user or group is.
pub(super) fn forget_undecided(sql: &Connection, kind: Kind, id: &str) -> Result<(), StoreError> {
    let mut delete = sql.prepare_cached("DELETE FROM undecided WHERE kind = ?1 AND id = ?2")?;
    delete.execute(params![kind_code(kind), id])?;
    Ok(())
}

/// A row of a list was dropped for somebody or something of this number.
pub(super) fn note_dropped(sql: &Connection, scope: &Scope, n: N) -> Result<(), StoreError> {
    add_rows(sql, scope, &u32::try_from(n).into_iter().collect())
}

/// The same for several.
pub(super) fn add_rows(sql: &Connection, scope: &Scope, dropped: &RoaringBitmap) -> Result<(), StoreError> {
    let rows = stored_rows(sql, scope)?;
    if !dropped.is_subset(&rows) {
        put_rows(sql, scope, &(rows | dropped))?;
    }
    add_to_walk(sql, scope, dropped)
}

/// What a walk has dropped takes the place of what was noted before: one that is under way has shown these rows before they were.
fn add_to_walk(sql: &Connection, scope: &Scope, dropped: &RoaringBitmap) -> Result<(), StoreError> {
    let mut select = sql.prepare_cached("SELECT 1 FROM scopes WHERE scope = ?1 AND state = 'walking'")?;
    if !select.exists([scope.name()])? {
        return Ok(());
    }
    let name = format!("filtered {}", scope.name());
    let mut select = sql.prepare_cached("SELECT seen FROM walk_seen WHERE scope = ?1 AND page = ?2")?;
    let blob: Option<Vec<u8>> = select.query_row(params![name, BESIDE_PAGES], |row| row.get(0)).optional()?;
    let noted = blob.map_or(Ok(RoaringBitmap::new()), |blob| bitmap(&blob))?;
    let mut put = sql.prepare_cached("REPLACE INTO walk_seen(scope, page, seen) VALUES (?1, ?2, ?3)")?;
    put.execute(params![name, BESIDE_PAGES, blob_of(&(noted | dropped))?])?;
    Ok(())
}

/// Every list from which accounts or memberships were dropped is to be read once the list of users is.
fn note_all_lists(books: &Books<'_, '_>) -> Result<(), StoreError> {
    books.run(
        "INSERT OR IGNORE INTO undecided(scope, kind, id, at) SELECT scope, 0, ?4, ?1 FROM filtered_rows
         WHERE kind IN (?2, ?3)",
        params![i64::MAX, kind_code(Kind::AppUser), kind_code(Kind::GroupMember), AFTER_USERS],
    )?;
    Ok(())
}

/// Every list that has named this user is to be read once the list of users is.
fn note_lists_of(sql: &Connection, user: &UserId) -> Result<(), StoreError> {
    let mut insert = sql.prepare_cached(
        "INSERT OR IGNORE INTO undecided(scope, kind, id, at) SELECT scope, 0, ?4, ?1 FROM undecided
         WHERE kind = ?2 AND id = ?3",
    )?;
    insert.execute(params![i64::MAX, kind_code(Kind::User), user.as_str(), AFTER_USERS])?;
    Ok(())
}

/// The running crawl is going to read these lists. It does not where the list of apps, or of groups, that leads to them cannot be
/// read: then they are owed at its end. A walk that begins after `since` settles that before.
fn leave_to_crawl(sql: &Connection, lists: &BTreeSet<Scope>, since: RequestNumber) -> Result<(), StoreError> {
    let mut note = sql.prepare_cached("REPLACE INTO undecided(scope, kind, id, at) VALUES (?1, 0, ?2, ?3)")?;
    for scope in lists {
        note.execute(params![scope.name(), LEFT_TO_CRAWL, as_i64(since.0)])?;
    }
    Ok(())
}

/// Lists that were left to the crawl that ends, and that it has not read.
fn owe_what_was_left(sql: &Connection, debts: &mut Debts<'_>, since: RequestNumber) -> Result<(), StoreError> {
    let mut select = sql.prepare_cached(
        "SELECT u.scope FROM undecided u JOIN scopes s ON s.scope = u.scope WHERE u.kind = 0 AND u.id = ?1",
    )?;
    let names = select.query_map([LEFT_TO_CRAWL], |row| row.get::<_, String>(0))?;
    for name in names.collect::<Result<Vec<_>, _>>()? {
        if let Some(scope) = Scope::parse(&name) {
            debts.owe(Target::List(scope), When::Quiet, "newly wanted", since)?;
        }
    }
    sql.execute("DELETE FROM undecided WHERE kind = 0 AND id = ?1", [LEFT_TO_CRAWL])?;
    Ok(())
}

/// Lists from which something was dropped for users (or groups), or left for nobody knew: what a store without that filter
/// has to read again.
pub(in crate::store) fn lists_with_gaps(sql: &Connection, kind: Kind) -> Result<BTreeSet<Scope>, StoreError> {
    let mut select = sql.prepare_cached(
        "SELECT scope FROM filtered_rows WHERE kind IN (?2, ?3) UNION SELECT scope FROM undecided WHERE kind IN (0, ?1)",
    )?;
    let kinds = if kind == Kind::User { (Kind::AppUser, Kind::GroupMember) } else { (Kind::AppGroup, Kind::AppGroup) };
    let kinds = params![kind_code(kind), kind_code(kinds.0), kind_code(kinds.1)];
    let names = select.query_map(kinds, |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut scopes: BTreeSet<Scope> = names.iter().filter_map(|name| Scope::parse(name)).collect();
    // Accounts may name a group that was dropped where its assignment was.
    let accounts: Vec<Scope> = scopes
        .iter()
        .filter_map(|scope| match scope {
            Scope::AppGroups(app) => Some(Scope::AppUsers(app.clone())),
            _ => None,
        })
        .collect();
    scopes.extend(accounts);
    Ok(scopes)
}

/// Forgets everything about users (or groups) that were filtered: nobody is any more.
pub(in crate::store) fn forget_all(sql: &Connection, kind: Kind) -> Result<(), StoreError> {
    let (first, second) = if kind == Kind::User { (Kind::AppUser, Kind::GroupMember) } else { (Kind::AppGroup, kind) };
    let kinds = [kind_code(kind), kind_code(first), kind_code(second)];
    if kind == Kind::User {
        sql.execute("DELETE FROM filtered_names", ())?;
        sql.execute("DELETE FROM undecided WHERE kind = 0", ())?;
    }
    sql.execute("DELETE FROM filtered_objects WHERE kind = ?1", [kinds[0]])?;
    if kind == Kind::User {
        sql.execute("DELETE FROM filtered_objects WHERE kind = ?1", [UNKNOWN])?;
    }
    sql.execute("DELETE FROM filtered_rows WHERE kind IN (?1, ?2, ?3)", kinds)?;
    sql.execute("DELETE FROM undecided WHERE kind = ?1", [kinds[0]])?;
    Ok(())
}

/// The list of users is read: what had to wait for it is read too.
fn owe_undecided_lists(sql: &Connection, debts: &mut Debts<'_>, batch: &Batch) -> Result<(), StoreError> {
    let mut select = sql.prepare_cached(
        "SELECT DISTINCT scope FROM undecided u WHERE (kind = 0 AND id = ?2) OR (kind = ?1 AND EXISTS
         (SELECT 1 FROM ids i JOIN users x ON x.n = i.n WHERE i.kind = ?1 AND i.id = u.id))",
    )?;
    let names = select.query_map(params![kind_code(Kind::User), AFTER_USERS], |row| row.get::<_, String>(0))?;
    let names = names.collect::<Result<Vec<_>, _>>()?;
    for name in &names {
        if let Some(scope) = Scope::parse(name) {
            debts.owe(Target::List(scope), When::Now, "users are known now", batch.members_since)?;
        }
    }
    sql.execute("DELETE FROM undecided WHERE kind = 0 AND id = ?1", [AFTER_USERS])?;
    Ok(())
}

/// Accounts of a newly wanted user in apps that are not active: the list of the user's apps may leave them out.
fn accounts_to_read(sql: &Connection, user: &UserId, was_filtered: Option<N>) -> Result<Vec<Target>, StoreError> {
    let waiting = lists_waiting_for(sql, Kind::User, user.as_str())?;
    let mut select =
        sql.prepare_cached("SELECT i.id FROM apps a JOIN ids i ON i.n = a.n WHERE a.status <> 'ACTIVE'")?;
    let apps = select.query_map((), |row| app_id(row, 0))?.collect::<Result<Vec<_>, _>>()?;
    let mut targets = Vec::new();
    for app in apps {
        let scope = Scope::AppUsers(app.clone());
        let number = was_filtered.and_then(|n| u32::try_from(n).ok());
        let was_dropped = match number {
            Some(n) => stored_rows(sql, &scope)?.contains(n),
            None => false,
        };
        if was_dropped || waiting.contains(&scope) {
            targets.push(Target::AppUser(app, user.clone()));
        }
    }
    Ok(targets)
}

/// Lists from which rows were dropped because nobody knew this user or group.
pub(super) fn lists_waiting_for(sql: &Connection, kind: Kind, id: &str) -> Result<Vec<Scope>, StoreError> {
    let mut select = sql.prepare_cached("SELECT scope FROM undecided WHERE kind = ?1 AND id = ?2")?;
    let names = select.query_map(params![kind_code(kind), id], |row| row.get::<_, String>(0))?;
    let names = names.collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| Scope::parse(name)).collect())
}

/// Lists from which rows were dropped that name this group.
fn lists_naming(sql: &Connection, group: &GroupId, was_filtered: Option<N>) -> Result<Vec<Scope>, StoreError> {
    let mut scopes = lists_waiting_for(sql, Kind::Group, group.as_str())?;
    let Some(n) = was_filtered.and_then(|n| u32::try_from(n).ok()) else { return Ok(scopes) };
    // Also pages of a walk that is not over: what follows them does not show the group again.
    let mut select = sql.prepare_cached(
        "SELECT scope, rows FROM filtered_rows WHERE kind = ?1
         UNION ALL SELECT substr(scope, 10), seen FROM walk_seen
         WHERE scope BETWEEN 'filtered app_groups(' AND 'filtered app_groups)'",
    )?;
    let mut rows = select.query([kind_code(Kind::AppGroup)])?;
    while let Some(row) = rows.next()? {
        if bitmap(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?.contains(n) {
            scopes.extend(Scope::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?));
        }
    }
    Ok(scopes)
}

/// Lists of accounts and members from which rows were dropped that name one of these users.
fn lists_that_dropped(sql: &Connection, users: &RoaringBitmap) -> Result<Vec<Scope>, StoreError> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let mut select = sql.prepare_cached("SELECT scope, rows FROM filtered_rows WHERE kind IN (?1, ?2)")?;
    let mut rows = select.query([kind_code(Kind::AppUser), kind_code(Kind::GroupMember)])?;
    let mut scopes = Vec::new();
    while let Some(row) = rows.next()? {
        if !bitmap(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?.is_disjoint(users) {
            scopes.extend(Scope::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?));
        }
    }
    Ok(scopes)
}

/// Lists of accounts that name no group for what a group gave, where the crawl has begun them and still reads the groups of
/// their app: what is assigned then is not followed up ([`Batch::lists_follow`]), as if the accounts came after it. `CASE`: SQLite
/// would look through the accounts of every app first, and they are few apps that it is about.
fn lists_ahead_of_groups(books: &Books<'_, '_>) -> Result<Vec<Scope>, StoreError> {
    let mut select = books.apply.sql.prepare_cached(
        "SELECT i.id FROM apps a JOIN ids i ON i.n = a.n
         JOIN scopes x ON x.scope = 'app_users(' || i.id || ')' AND x.crawl = ?1 AND x.state <> 'todo'
         LEFT JOIN scopes g ON g.scope = 'app_groups(' || i.id || ')' AND g.crawl = ?1
         WHERE CASE WHEN coalesce(g.state, 'todo') IN ('todo', 'walking')
         THEN EXISTS (SELECT 1 FROM app_users WHERE app = a.n AND scope = ?2 AND via_group IS NULL) END",
    )?;
    let apps =
        select.query_map(params![as_i64(books.crawl.0), AssignmentScope::Group.as_str()], |row| app_id(row, 0))?;
    Ok(apps.map(|app| app.map(Scope::AppUsers)).collect::<Result<_, _>>()?)
}

/// What the last walk of a scope has dropped.
fn stored_rows(sql: &Connection, scope: &Scope) -> Result<RoaringBitmap, StoreError> {
    let mut select = sql.prepare_cached("SELECT rows FROM filtered_rows WHERE scope = ?1")?;
    let blob: Option<Vec<u8>> = select.query_row([scope.name()], |row| row.get(0)).optional()?;
    blob.map_or(Ok(RoaringBitmap::new()), |blob| bitmap(&blob))
}

fn bitmap(blob: &[u8]) -> Result<RoaringBitmap, StoreError> {
    RoaringBitmap::deserialize_from(blob)
        .map_err(|error| StoreError::Damaged { detail: format!("bitmap of filtered rows: {error}") })
}

fn put_rows(sql: &Connection, scope: &Scope, dropped: &RoaringBitmap) -> Result<(), StoreError> {
    let Some(kind) = scope.kind() else { return Ok(()) };
    if dropped.is_empty() {
        sql.prepare_cached("DELETE FROM filtered_rows WHERE scope = ?1")?.execute([scope.name()])?;
        return Ok(());
    }
    let mut put = sql.prepare_cached("REPLACE INTO filtered_rows(scope, kind, count, rows) VALUES (?1, ?2, ?3, ?4)")?;
    put.execute(params![scope.name(), kind_code(kind), as_i64(dropped.len()), blob_of(dropped)?])?;
    Ok(())
}

fn blob_of(dropped: &RoaringBitmap) -> Result<Vec<u8>, StoreError> {
    let mut blob = Vec::with_capacity(dropped.serialized_size());
    dropped
        .serialize_into(&mut blob)
        .map_err(|error| StoreError::Stopped { detail: format!("bitmap of filtered rows: {error}") })?;
    Ok(blob)
}

/// Forgets what was dropped from a scope that nobody reads any more.
pub(in crate::store) fn forget_scope(sql: &Connection, scope: &Scope) -> Result<(), StoreError> {
    let name = scope.name();
    sql.prepare_cached("DELETE FROM filtered_rows WHERE scope = ?1")?.execute([&name])?;
    sql.prepare_cached("DELETE FROM undecided WHERE scope = ?1")?.execute([&name])?;
    // Pages of a walk that is not over.
    sql.prepare_cached("DELETE FROM walk_seen WHERE scope = 'filtered ' || ?1")?.execute([&name])?;
    if let Scope::AppUsers(app) = scope
        && let Some(app) = missing::find(sql, Kind::App, app.as_str())?
    {
        sql.prepare_cached("DELETE FROM filtered_names WHERE app = ?1")?.execute([app])?;
    }
    Ok(())
}

/// Forgets those who were filtered and are no longer shown. As with rows, a list that shows suspiciously little is not
/// believed.
fn sweep(books: &Books<'_, '_>, scope: &Scope, from: RequestNumber, dropped: &RoaringBitmap) -> Result<(), StoreError> {
    let sql = books.apply.sql;
    let is_shown = |n: N| u32::try_from(n).is_ok_and(|n| dropped.contains(n));
    if let Scope::AppUsers(app) = scope {
        let Some(app) = missing::find(sql, Kind::App, app.as_str())? else { return Ok(()) };
        let mut select = sql.prepare_cached(
            "SELECT DISTINCT x.owner FROM filtered_names x JOIN filtered_objects o ON o.n = x.owner
             WHERE x.app = ?1 AND o.at < ?2",
        )?;
        let owners = select.query_map([app, as_i64(from.0)], |row| row.get(0))?.collect::<Result<Vec<N>, _>>()?;
        for owner in owners.into_iter().filter(|owner| !is_shown(*owner)) {
            sql.prepare_cached("DELETE FROM filtered_names WHERE owner = ?1 AND app = ?2")?.execute([owner, app])?;
        }
        return Ok(());
    }
    let Some(kind) = scope.kind().filter(|kind| matches!(kind, Kind::User | Kind::Group | Kind::App)) else {
        return Ok(());
    };
    let mut select = sql.prepare_cached("SELECT n, at FROM filtered_objects WHERE kind = ?1")?;
    let known = select.query_map([kind_code(kind)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let known = known.collect::<Result<Vec<(N, i64)>, _>>()?;
    let gone: Vec<N> = known.iter().filter(|(n, at)| *at < as_i64(from.0) && !is_shown(*n)).map(|(n, _)| *n).collect();
    let walked = Walked {
        stored: known.len() as u64,
        missing: gone.len() as u64,
        same_credential: true,
        unknown_records: false,
        is_empty: false,
        are_objects: false,
    };
    if kind == Kind::User {
        // Of those whom nobody knew the names are noted again with the next list that shows them.
        let mut old = sql.prepare_cached("SELECT n FROM filtered_objects WHERE kind = ?1 AND at < ?2")?;
        for n in old.query_map([UNKNOWN, as_i64(from.0)], |row| row.get(0))?.collect::<Result<Vec<N>, _>>()? {
            forget(sql, n)?;
        }
    }
    if !verdict(walked, books.brake).is_hold() {
        for n in gone {
            forget(sql, n)?;
        }
    }
    Ok(())
}

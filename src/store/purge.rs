//! Another filter than before: what it no longer wants goes before anything is answered, what it newly wants is owed.
//!
//! Entry points: [`adopt`] at the start, [`scrub`] after whatever has removed names.
//!
//! Invariants:
//! - The rows go in the transaction that notes the new filter: a crash before it repeats all, one after it nothing.
//! - Until the files hold nothing of what went, `meta` says so: a crash in between repeats the scrubbing.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior};

use super::apply::{Apply, N};
use super::commit::{Memory, apply_for};
use super::debts::Debts;
use super::filtered::{self, Dropped, Sieve};
use super::meta::{self, Meta};
use super::walks::Books;
use super::{StoreError, as_i64, columns, overrides};
use crate::core::batch::{WalkState, WalkUpdate};
use crate::core::filter::{Change, Filter, UserVerdict, change};
use crate::core::ids::{AppId, GroupId, RequestNumber, Revision, Timestamp};
use crate::core::model::{Kind, Scope};
use crate::core::pending::{Patience, Target, When};

/// `meta` says with it that names which were removed may still be in the files: 1 in the log beside the file, 2 anywhere.
const SCRUB: &str = "scrub";

/// Free pages of the file proper.
const SCRUB_ALL: i64 = 2;

/// What is in the write-ahead log.
pub(super) const SCRUB_LOG: i64 = 1;

/// Takes over the filter of this start. `newest`: the largest request number of earlier processes. Returns whether names are
/// still in the write-ahead log, because a reader of another process was in the way: [`scrub`] is to be tried again.
pub(super) fn adopt(
    connection: &mut Connection,
    memory: &mut Memory,
    filter: &Filter,
    newest: RequestNumber,
) -> Result<bool, StoreError> {
    take_over(connection, memory, filter, newest)?;
    let Some(level) = stored_level(connection)? else { return Ok(false) };
    if level >= SCRUB_ALL {
        connection.execute_batch("VACUUM")?;
    }
    Ok(!scrub(connection)?)
}

/// The transaction: rows, filter, debts.
fn take_over(
    connection: &mut Connection,
    memory: &mut Memory,
    filter: &Filter,
    newest: RequestNumber,
) -> Result<(), StoreError> {
    if filter.users.is_active() || filter.skip_secondary_emails {
        connection.pragma_update(None, "secure_delete", "on")?;
    }
    let old = filtered::stored_filter(connection)?;
    if old.as_ref() != Some(filter) {
        // What goes now must be overwritten, whatever the new filter is.
        connection.pragma_update(None, "secure_delete", "on")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut meta = Meta::read(&transaction)?;
        // Nothing stored may also mean that everything was dropped.
        let is_empty = meta.crawl.id.0 == 0 && meta.rows.values().all(|rows| *rows == 0);
        let change = change(old.as_ref(), filter);
        if !is_empty && (change.purges() || !change.reads.is_empty()) {
            tracing::info!(?change, "the filter is another one than before");
            carry_out(&transaction, memory, &mut meta, (filter, &change), newest)?;
        }
        filtered::store_filter(&transaction, filter)?;
        transaction.commit()?;
    }
    Ok(())
}

fn stored_level(sql: &Connection) -> Result<Option<i64>, StoreError> {
    use rusqlite::OptionalExtension as _;
    let mut select = sql.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
    Ok(select.query_row([SCRUB], |row| row.get(0)).optional()?)
}

/// Notes that there is something to scrub.
pub(super) fn note(sql: &Connection, level: i64) -> Result<(), StoreError> {
    let level = stored_level(sql)?.map_or(level, |noted| noted.max(level));
    meta::put_integer(sql, SCRUB, level)
}

/// Moves the write-ahead log into the file and cuts it off, with the pages of before in it. Returns whether that was
/// possible: a reader may be in the way for a moment.
pub(super) fn scrub(sql: &Connection) -> Result<bool, StoreError> {
    let busy: i64 = sql.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    if busy == 0 {
        sql.execute("DELETE FROM meta WHERE name = ?1", [SCRUB])?;
    }
    Ok(busy == 0)
}

fn carry_out(
    sql: &Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    (filter, change): (&Filter, &Change),
    newest: RequestNumber,
) -> Result<(), StoreError> {
    // The store has no clock: the times are those of its last sign of life.
    let now = meta.credential_used_at.or(meta.crawl.completed_at).or(meta.crawl.started_at).unwrap_or_default();
    let revision = Revision(meta.revision.0 + 1);
    let before = meta.clone();
    let mut rows = std::mem::take(&mut meta.rows);
    let Memory { ids, guard, sieve, credential, brake, object_gaps, touched } = memory;
    let mut apply = apply_for(sql, (ids, guard, object_gaps, touched), revision, (newest, now), &mut rows);
    if change.purges_apps {
        let scopes = remove_apps(&mut apply, filter)?;
        overrides::forget_of_unknown_apps(&mut apply)?;
        let mut books = Books {
            apply: &mut apply,
            crawl: meta.crawl.id,
            okta_now: Timestamp::default(),
            credential,
            brake: *brake,
            asks_for_missing: false,
            found: &[],
            coverage: Vec::new(),
        };
        books.forget_gone()?;
        for scope in scopes {
            filtered::forget_scope(sql, &scope)?;
            books.walk(&WalkUpdate { scope, state: WalkState::Unwanted }, &super::walks::Shown::default())?;
        }
    }
    if change.purges_groups {
        remove_groups(&mut apply, sieve, filter)?;
        let mut books = Books {
            apply: &mut apply,
            crawl: meta.crawl.id,
            okta_now: Timestamp::default(),
            credential,
            brake: *brake,
            asks_for_missing: false,
            found: &[],
            coverage: Vec::new(),
        };
        books.forget_gone()?;
    }
    if change.purges_users {
        remove_users(&mut apply, sieve, filter)?;
    }
    if change.purges_second_emails {
        apply.drop_second_emails()?;
    }
    // What the removed groups had given is known to be gone with them.
    apply.orphans.clear();
    let (changed, apps_changed, lines) = (apply.changed, apply.apps_changed, apply.lines);
    meta.rows = rows;
    if changed {
        meta.revision = revision;
        if apps_changed {
            meta.apps_revision = revision;
        }
        super::writer::write_counters(sql, &before, meta)?;
        super::retention::add_lines(sql, lines)?;
    }
    if change.purges_users || change.purges_second_emails {
        meta::put_integer(sql, "purged", as_i64(meta.revision.0))?;
        note(sql, SCRUB_ALL)?;
    }
    let mut reads = change.reads.clone();
    // Without any filter of users nothing tells apart any more who is newly wanted: what was dropped is read again.
    for (kind, is_active) in [(Kind::User, filter.users.is_active()), (Kind::Group, filter.groups.is_active())] {
        if !is_active {
            reads.extend(filtered::lists_with_gaps(sql, kind)?);
            filtered::forget_all(sql, kind)?;
        }
    }
    if !reads.is_empty() {
        meta::put_integer(sql, "widened", 1)?;
        let mut debts = Debts { sql, now, patience: Patience::default(), owed: BTreeMap::new() };
        for scope in &reads {
            debts.owe(Target::List(scope.clone()), When::Now, "the filter wants more", newest)?;
        }
    }
    Ok(())
}

fn surrogates(sql: &Connection, select: &str) -> Result<Vec<(N, String)>, StoreError> {
    let mut select = sql.prepare_cached(select)?;
    let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Removes apps that are not wanted; returns the lists of those that stay and are not read any more.
fn remove_apps(apply: &mut Apply<'_>, filter: &Filter) -> Result<Vec<Scope>, StoreError> {
    let mut unread = Vec::new();
    for (n, id) in surrogates(apply.sql, "SELECT a.n, i.id FROM apps a JOIN ids i ON i.n = a.n")? {
        let Ok(id) = AppId::new(&id) else { continue };
        let sql = ["SELECT ", columns::APP_COLUMNS, " FROM apps a JOIN ids i ON i.n = a.n WHERE a.n = ?1"].concat();
        let app = apply.sql.prepare_cached(&sql)?.query_row([n], |row| columns::read_app(row, 0))?;
        let scopes = [Scope::AppUsers(id.clone()), Scope::AppGroups(id)];
        if !filter.apps.wants(&app) {
            for scope in &scopes {
                filtered::forget_scope(apply.sql, scope)?;
            }
            apply.gone.extend(scopes);
            apply.remove_app(n)?;
        } else if !app.is_service_app() && !filter.apps.wants_assignments(&app) {
            unread.extend(scopes);
        }
    }
    Ok(unread)
}

fn remove_groups(apply: &mut Apply<'_>, sieve: &Sieve, filter: &Filter) -> Result<(), StoreError> {
    for (n, id) in surrogates(apply.sql, "SELECT g.n, i.id FROM groups g JOIN ids i ON i.n = g.n")? {
        let Ok(id) = GroupId::new(&id) else { continue };
        let sql = [
            "SELECT ",
            columns::GROUP_COLUMNS,
            " FROM groups g JOIN ids i ON i.n = g.n LEFT JOIN ids s ON s.n = g.source_app WHERE g.n = ?1",
        ]
        .concat();
        let group = apply.sql.prepare_cached(&sql)?.query_row([n], |row| columns::read_group(row, 0))?;
        if filter.groups.wants(&group) {
            continue;
        }
        let dropped = sieve.note_group(apply.sql, &id)?;
        sieve.note_assignments(apply.sql, dropped, n)?;
        apply.gone.push(Scope::GroupMembers(id));
        apply.remove_group(n)?;
    }
    filtered::forget_grants_of_unknown(apply)?;
    // Rows that name a group that was never shown.
    apply.remove_rows_of_unknown(Kind::Group)
}

fn remove_users(apply: &mut Apply<'_>, sieve: &Sieve, filter: &Filter) -> Result<(), StoreError> {
    let sql = ["SELECT ", columns::USER_COLUMNS, " FROM users u WHERE u.n = ?1"].concat();
    let mut dropped = Dropped::default();
    for (n, _) in surrogates(apply.sql, "SELECT n, '' FROM users ORDER BY n")? {
        let user = apply.sql.prepare_cached(&sql)?.query_row([n], |row| columns::read_user(row, 0))?;
        if filter.users.judge(&user) == UserVerdict::Wanted {
            continue;
        }
        // One whose names are hidden is not known to be filtered; but nothing says that it is wanted either.
        if filter.users.judge(&user) == UserVerdict::Unwanted {
            sieve.note_user(apply.sql, &user, n, &mut dropped)?;
        }
        apply.remove_user(n)?;
        filtered::forget_history(apply.sql, n)?;
    }
    dropped.note(apply.sql)?;
    // Rows that name a user whom no list has shown, and names that are held for one.
    apply.remove_rows_of_unknown(Kind::User)?;
    overrides::forget_of_unknown_users(apply)?;
    apply.sql.execute("DELETE FROM account_history WHERE user NOT IN (SELECT n FROM users)", ())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::commit::Memory;
    use super::super::filtered::Filtered;
    use super::super::{ChangeRetention, Store, StoreConfig, StoreFiles};
    use super::*;
    use crate::core::batch::Batch;
    use crate::core::filter::{DomainFilter, DomainPattern};
    use crate::core::ids::UserId;
    use crate::core::model::{Row, User, UserStatus};
    use crate::core::reconcile::Brake;

    const NAME: &str = "qzneedle";

    fn config(dir: &Path, filter: Filter) -> StoreConfig {
        let (credential, changes) = ("c".to_owned(), ChangeRetention::default());
        StoreConfig { dir: dir.to_owned(), brake: Brake::default(), credential, changes, filter }
    }

    fn user(n: usize) -> Row {
        Row::User(User {
            id: UserId::new(&format!("00u{n}")).unwrap(),
            status: UserStatus::Active,
            login: Some(format!("{NAME}{n}@outside.test").into()),
            email: None,
            second_email: None,
            first_name: None,
            last_name: None,
            display_name: None,
            created: None,
            last_updated: None,
            status_changed: None,
        })
    }

    fn is_in_files(dir: &Path) -> bool {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().any(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(NAME))
    }

    /// Dies after the transaction and before the files are clean.
    #[test]
    fn a_purge_that_was_cut_off_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = Store::open(config(dir.path(), Filter::default())).unwrap();
        let at = store.writer.first_request_number();
        let batch = Batch { at, rows: (0..500).map(user).collect(), ..Batch::default() };
        runtime.block_on(async { store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap() });
        drop(store);
        assert!(is_in_files(dir.path()));
        let users = DomainFilter::new(DomainPattern::parse("example.com"));
        let config = config(dir.path(), Filter { users, ..Filter::default() });
        let files = StoreFiles::lock(dir.path()).unwrap();
        let mut connection = files.open_for_writing().unwrap();
        let sieve = Sieve::new(config.filter.clone(), Filtered::open(&connection).unwrap());
        let mut memory = Memory::new(&config, &connection, sieve).unwrap();
        take_over(&mut connection, &mut memory, &config.filter, RequestNumber(9)).unwrap();
        assert_eq!(stored_level(&connection).unwrap(), Some(SCRUB_ALL));
        drop((connection, files));
        let store = Store::open(config.clone()).unwrap();
        assert!(!is_in_files(dir.path()), "the next start has finished it");
        assert!(store.reader.read(|snapshot| snapshot.is_filtered_user(&UserId::new("00u7").unwrap())).unwrap());
        drop(store);
        let connection = StoreFiles::lock(dir.path()).unwrap().open_for_writing().unwrap();
        assert_eq!(stored_level(&connection).unwrap(), None);
    }
}

//! Operators' overrides in their table, within the writer's transaction.
//!
//! Entry points: [`carry_out`] for what an operator orders, [`configure`] at a start, [`expire`] at the end of every
//! transaction, [`forget_of_user`] and its like where a filter drops people or apps.
//!
//! Invariants:
//! - Every change is a line of the change log under the revision that its transaction makes, the end of an override too.
//! - A refusal is found before anything is written.
//! - What went keeps its number until the change log no longer tells of it; of people whom the filter drops it keeps no name.

use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};

use super::apply::{Apply, N};
use super::columns::{app_id, user_id};
use super::commit::{Done, Memory, with_books};
use super::meta::Meta;
use super::{StoreError, as_i64};
use crate::core::ids::Timestamp;
use crate::core::model::{Key, Kind};
use crate::core::normalize::lookup_key;
use crate::core::overrides::{
    OVERRIDES_MAX, OVERRIDES_OF_NAME_MAX, OverrideName, OverrideRecord, OverrideSetting, OverrideSource, configured,
};
use crate::core::resolve::{IdentifierKind, Override};

/// Why an override was not set, or not taken back; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OverrideError {
    /// The app is not stored.
    #[error("no app of this id is stored")]
    AppUnknown,
    /// The user is not stored: not in the org, not read yet, or kept out by the filter.
    #[error("no user of this id is stored")]
    UserUnknown,
    /// The name can name no account.
    #[error("the name can name no account")]
    Name,
    /// There is no such override.
    #[error("there is no such override")]
    Unknown,
    /// It stands in the configuration, and nowhere else.
    #[error("it stands in the configuration: take it out there, and start again")]
    Configured,
    /// There are [`OVERRIDES_MAX`] already.
    #[error("there are {OVERRIDES_MAX} overrides already")]
    TooMany,
    /// The app has [`OVERRIDES_OF_NAME_MAX`] of names like this already.
    #[error("there are {OVERRIDES_OF_NAME_MAX} overrides of such names already")]
    TooManyOfName,
    /// The store cannot do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an operator orders.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Set, in the place of one that is there.
    Set(OverrideSetting),
    /// Take back.
    Delete(OverrideName),
}

/// What the overrides of the configuration came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredOverrides {
    /// In force.
    pub kept: usize,
    /// New, or saying something else than at the last start.
    pub changed: usize,
    /// No longer there.
    pub removed: usize,
    /// Over already: not in force.
    pub expired: usize,
    /// Of people whom the filter keeps out: not in force.
    pub filtered: usize,
}

/// Columns of [`read_record`], of `overrides o` with `ids a` and `ids u`.
const COLUMNS: &str = "o.n, o.source, a.id, o.kind, o.name, u.id, o.expires_at, o.created_at, o.created_by, o.reason";
const JOINS: &str = "overrides o JOIN ids a ON a.n = o.app JOIN ids u ON u.n = o.user";

/// Overrides that are there, by the rest of a statement.
pub(super) fn select(rest: &str) -> String {
    ["SELECT ", COLUMNS, " FROM ", JOINS, " WHERE o.gone IS NULL ", rest].concat()
}

/// `overrides.kind`: never change one.
pub(super) const fn kind_code(kind: IdentifierKind) -> i64 {
    match kind {
        IdentifierKind::Untyped => 0,
        IdentifierKind::UserName => 1,
        IdentifierKind::ExternalId => 2,
        IdentifierKind::Email => 3,
    }
}

/// Reads [`kind_code`] back.
pub(super) fn kind_of_code(code: i64) -> rusqlite::Result<IdentifierKind> {
    let kinds = [IdentifierKind::Untyped, IdentifierKind::UserName, IdentifierKind::ExternalId, IdentifierKind::Email];
    kinds.into_iter().find(|kind| kind_code(*kind) == code).ok_or(rusqlite::Error::IntegralValueOutOfRange(3, code))
}

/// `overrides.source`: never change one.
pub(super) const fn source_code(source: OverrideSource) -> i64 {
    match source {
        OverrideSource::Call => 1,
        OverrideSource::Configuration => 2,
    }
}

/// Reads a row of [`select`].
pub(super) fn read_record(row: &SqlRow<'_>) -> rusqlite::Result<OverrideRecord> {
    let text = |index| row.get::<_, Option<String>>(index).map(|text| text.unwrap_or_default().into_boxed_str());
    let source = if row.get::<_, i64>(1)? == source_code(OverrideSource::Configuration) {
        OverrideSource::Configuration
    } else {
        OverrideSource::Call
    };
    Ok(OverrideRecord {
        number: row.get(0)?,
        source,
        entry: Override {
            app: app_id(row, 2)?,
            kind: kind_of_code(row.get(3)?)?,
            name: text(4)?,
            user: user_id(row, 5)?,
            expires_at: Timestamp::from_millis(row.get(6)?),
        },
        created_at: Timestamp::from_millis(row.get(7)?),
        created_by: text(8)?,
        reason: text(9)?,
    })
}

fn find(sql: &Connection, n: N) -> Result<Option<OverrideRecord>, StoreError> {
    Ok(sql.prepare_cached(&select("AND o.n = ?1"))?.query_row([n], read_record).optional()?)
}

/// A line of the change log.
fn note(apply: &mut Apply<'_>, n: N) -> Result<(), StoreError> {
    apply.changed = true;
    apply.lines += 1;
    let revision = as_i64(apply.revision.0);
    apply.run("INSERT OR IGNORE INTO override_changes(revision, n) VALUES (?1, ?2)", params![revision, n])
}

/// The number of an override, also of one that went and is still told of, and whether it is there.
fn number_of(
    apply: &mut Apply<'_>,
    name: &OverrideName,
    source: OverrideSource,
) -> Result<Option<(N, bool)>, StoreError> {
    let app = apply.app_n(&name.app)?;
    let mut select = apply.sql.prepare_cached(
        "SELECT n, gone IS NULL FROM overrides WHERE app = ?1 AND kind = ?2 AND name = ?3 AND source = ?4",
    )?;
    let key = params![app, kind_code(name.kind), &*name.name, source_code(source)];
    Ok(select.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

/// Writes an override over what was there.
fn put(
    apply: &mut Apply<'_>,
    setting: &OverrideSetting,
    source: OverrideSource,
    now: Timestamp,
) -> Result<Option<N>, StoreError> {
    let entry = &setting.entry;
    let Ok(key) = lookup_key(&entry.name) else { return Ok(None) };
    let (app, user) = (apply.app_n(&entry.app)?, apply.user_n(&entry.user)?);
    let known = number_of(apply, &OverrideName::of(entry), source)?;
    let mut put = apply.sql.prepare_cached(
        "REPLACE INTO overrides(n, key, app, kind, name, source, user, expires_at, created_at, created_by, reason, gone)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, NULL)",
    )?;
    put.execute(params![
        known.map(|(n, _)| n),
        key.to_stored(),
        app,
        kind_code(entry.kind),
        &*entry.name,
        source_code(source),
        user,
        entry.expires_at.as_millis(),
        now.as_millis(),
        &*setting.created_by,
        &*setting.reason,
    ])?;
    let n = known.map_or_else(|| apply.sql.last_insert_rowid(), |(n, _)| n);
    note(apply, n)?;
    Ok(Some(n))
}

/// Ends an override; its name stays while the change log tells of it.
fn end(apply: &mut Apply<'_>, n: N) -> Result<(), StoreError> {
    let revision = as_i64(apply.revision.0);
    apply.run("UPDATE overrides SET gone = ?1 WHERE n = ?2", params![revision, n])?;
    note(apply, n)
}

/// Ends overrides and leaves nothing of them that names or describes a person; returns whether there were any.
fn forget(apply: &mut Apply<'_>, which: &str, parameters: impl rusqlite::Params) -> Result<bool, StoreError> {
    let sql = ["SELECT n, gone IS NULL FROM overrides o WHERE o.name IS NOT NULL AND ", which].concat();
    let found: Vec<(N, bool)> = {
        let mut select = apply.sql.prepare_cached(&sql)?;
        let rows = select.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    let has_found = !found.is_empty();
    for (n, is_there) in found {
        apply.run("UPDATE overrides SET key = 0, name = NULL, created_by = '', reason = '' WHERE n = ?1", [n])?;
        if is_there {
            end(apply, n)?;
        }
    }
    Ok(has_found)
}

/// A user is kept out from now on; returns whether an override named them.
pub(super) fn forget_of_user(apply: &mut Apply<'_>, user: N) -> Result<bool, StoreError> {
    forget(apply, "o.user = ?1", [user])
}

/// Another filter of people: what is about somebody who is not stored goes. Nobody knows whether they are kept out.
pub(super) fn forget_of_unknown_users(apply: &mut Apply<'_>) -> Result<bool, StoreError> {
    forget(apply, "o.user NOT IN (SELECT n FROM users)", ())
}

/// Another filter of apps: what is about an app that is not stored goes.
pub(super) fn forget_of_unknown_apps(apply: &mut Apply<'_>) -> Result<bool, StoreError> {
    forget(apply, "o.app NOT IN (SELECT n FROM apps)", ())
}

/// What became of an [`Order`].
pub(super) enum Obeyed {
    Refused(OverrideError),
    /// As it is now; of one that was taken back, as it was.
    Done(Done, Box<OverrideRecord>),
}

/// Carries out an operator's order. A refusal is found before anything is written.
pub(super) fn carry_out(
    sql: &Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    order: &Order,
    now: Timestamp,
) -> Result<Obeyed, StoreError> {
    let (done, outcome) = with_books(sql, memory, meta, now, |books| match order {
        Order::Set(setting) => set(books.apply, setting, now),
        Order::Delete(name) => delete(books.apply, name),
    })?;
    Ok(match outcome {
        Ok(record) => Obeyed::Done(done, Box::new(record)),
        Err(refused) => Obeyed::Refused(refused),
    })
}

type Outcome = Result<Result<OverrideRecord, OverrideError>, StoreError>;

fn set(apply: &mut Apply<'_>, setting: &OverrideSetting, now: Timestamp) -> Outcome {
    let entry = &setting.entry;
    if !apply.is_stored(&Key::App(entry.app.clone()))? {
        return Ok(Err(OverrideError::AppUnknown));
    }
    if !apply.is_stored(&Key::User(entry.user.clone()))? {
        return Ok(Err(OverrideError::UserUnknown));
    }
    let known = number_of(apply, &OverrideName::of(entry), OverrideSource::Call)?;
    if !known.is_some_and(|(_, is_there)| is_there) {
        if count(apply.sql, OverrideSource::Call)? >= OVERRIDES_MAX {
            return Ok(Err(OverrideError::TooMany));
        }
        if count_alike(apply, entry)? >= OVERRIDES_OF_NAME_MAX {
            return Ok(Err(OverrideError::TooManyOfName));
        }
    }
    let Some(n) = put(apply, setting, OverrideSource::Call, now)? else { return Ok(Err(OverrideError::Name)) };
    Ok(find(apply.sql, n)?.ok_or(OverrideError::Unknown))
}

fn delete(apply: &mut Apply<'_>, name: &OverrideName) -> Outcome {
    // An app that was never stored has no overrides, and gets no number for the question.
    if apply.find(Kind::App, name.app.as_str())?.is_none() {
        return Ok(Err(OverrideError::Unknown));
    }
    let Some((n, true)) = number_of(apply, name, OverrideSource::Call)? else {
        let is_configured = matches!(number_of(apply, name, OverrideSource::Configuration)?, Some((_, true)));
        return Ok(Err(if is_configured { OverrideError::Configured } else { OverrideError::Unknown }));
    };
    let record = find(apply.sql, n)?;
    end(apply, n)?;
    Ok(record.ok_or(OverrideError::Unknown))
}

fn count(sql: &Connection, source: OverrideSource) -> Result<usize, StoreError> {
    let mut select = sql.prepare_cached("SELECT count(*) FROM overrides WHERE gone IS NULL AND source = ?1")?;
    let count: i64 = select.query_row([source_code(source)], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

fn count_alike(apply: &mut Apply<'_>, entry: &Override) -> Result<usize, StoreError> {
    let Ok(key) = lookup_key(&entry.name) else { return Ok(0) };
    let app = apply.app_n(&entry.app)?;
    let sql = "SELECT count(*) FROM overrides WHERE gone IS NULL AND key = ?1 AND app = ?2";
    let count: i64 = apply.sql.prepare_cached(sql)?.query_row(params![key.to_stored(), app], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Takes over the overrides of a configuration.
pub(super) fn configure(
    sql: &Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    settings: Vec<OverrideSetting>,
    now: Timestamp,
) -> Result<(Done, ConfiguredOverrides), StoreError> {
    let (mut wanted, mut outcome) = (Vec::with_capacity(settings.len()), ConfiguredOverrides::default());
    for setting in settings {
        match memory.sieve.is_filtered_user(sql, &setting.entry.user)? {
            true => outcome.filtered += 1,
            false => wanted.push(setting),
        }
    }
    let stored: Vec<OverrideRecord> = {
        let mut select = sql.prepare_cached(&select("AND o.source = ?1"))?;
        let rows = select.query_map([source_code(OverrideSource::Configuration)], read_record)?;
        rows.collect::<Result<_, _>>()?
    };
    let wanted_count = wanted.len();
    let configured = configured(wanted, &stored, now);
    outcome.expired = configured.expired;
    outcome.kept = wanted_count.saturating_sub(configured.expired);
    outcome.changed = configured.put.len();
    outcome.removed = configured.gone.len();
    let (done, ()) = with_books(sql, memory, meta, now, |books| {
        for n in &configured.gone {
            end(books.apply, *n)?;
        }
        for setting in &configured.put {
            put(books.apply, setting, OverrideSource::Configuration, now)?;
        }
        Ok(())
    })?;
    Ok((done, outcome))
}

/// Ends what is over at `now`; `None` when nothing is.
pub(super) fn expire(
    sql: &Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    now: Timestamp,
) -> Result<Option<Done>, StoreError> {
    let over: Vec<N> = {
        let mut select = sql.prepare_cached("SELECT n FROM overrides WHERE gone IS NULL AND expires_at <= ?1")?;
        let rows = select.query_map([now.as_millis()], |row| row.get(0))?;
        rows.collect::<Result<_, _>>()?
    };
    if over.is_empty() {
        return Ok(None);
    }
    let (done, ()) = with_books(sql, memory, meta, now, |books| over.iter().try_for_each(|n| end(books.apply, *n)))?;
    tracing::info!(numbers = ?over.get(..over.len().min(20)), count = over.len(), "operators' overrides are over");
    Ok(Some(done))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::filtered::{Filtered, Sieve};
    use super::super::{ChangeRetention, Store, StoreConfig, StoreFiles};
    use super::*;
    use crate::core::batch::Batch;
    use crate::core::filter::{DomainFilter, DomainPattern, Filter};
    use crate::core::ids::{AppId, RequestNumber, Revision, UserId};
    use crate::core::model::{App, AppStatus, Row, User, UserStatus};
    use crate::core::overrides::CONFIGURATION;
    use crate::core::reconcile::Brake;

    const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);
    /// A name that is in no other place.
    const NAME: &str = "qzneedle";

    fn config(dir: &Path, filter: Filter) -> StoreConfig {
        let (credential, changes) = ("c".to_owned(), ChangeRetention::default());
        StoreConfig { dir: dir.to_owned(), brake: Brake::default(), credential, changes, filter }
    }

    fn only(domain: &str) -> Filter {
        Filter { users: DomainFilter::new(DomainPattern::parse(domain)), ..Filter::default() }
    }

    fn user(id: &str, login: &str) -> Row {
        Row::User(User {
            id: UserId::new(id).unwrap(),
            status: UserStatus::Active,
            login: Some(login.into()),
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

    fn app() -> Row {
        Row::App(App {
            id: AppId::new("0oa1").unwrap(),
            name: "jira".into(),
            label: "Jira".into(),
            status: AppStatus::Active,
            sign_on_mode: None,
            features: Vec::new(),
            credential_scheme: None,
            shared_user_name: None,
            user_name_template: None,
            oauth_application_type: None,
            implicit_assignment: None,
            created: None,
            last_updated: None,
        })
    }

    fn setting(name: &str, user: &str, created_by: &str) -> OverrideSetting {
        let entry = Override {
            app: AppId::new("0oa1").unwrap(),
            kind: IdentifierKind::UserName,
            name: name.into(),
            user: UserId::new(user).unwrap(),
            expires_at: NOW.plus_millis(1_000),
        };
        OverrideSetting { entry, created_by: created_by.into(), reason: format!("about {name}").into() }
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    fn put(store: &Store, at: u64, rows: Vec<Row>, is_reread: bool) {
        let batch = Batch { now: NOW, at: RequestNumber(at), rows, is_reread, ..Batch::default() };
        block_on(async { store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap() });
    }

    fn is_in_files(dir: &Path) -> bool {
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files.into_iter().any(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(NAME))
    }

    /// What followers are told after a revision: names of overrides that are there, or were, with a `-`.
    fn told(store: &Store, after: Revision) -> Vec<String> {
        let told = store.reader.read(|snapshot| {
            let changes = snapshot.override_changes_after(after, 100)?;
            changes
                .iter()
                .map(|change| match snapshot.override_by_number(change.number)? {
                    Some(record) => Ok(format!("{} {}", record.entry.name, record.entry.user)),
                    None => Ok(format!("-{}", snapshot.override_gone(change.number)?.unwrap().name)),
                })
                .collect::<Result<Vec<_>, StoreError>>()
        });
        told.unwrap()
    }

    fn newest(store: &Store) -> Revision {
        *store.reader.revisions().borrow()
    }

    #[test]
    fn people_who_are_kept_out_leave_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(config(dir.path(), Filter::default())).unwrap();
        let rows = vec![app(), user("00u1", "a@outside.test"), user("00u2", "b@example.com")];
        put(&store, 1, rows, false);
        block_on(async {
            store.writer.set_override(setting(NAME, "00u1", "ada"), NOW).await.unwrap();
            store.writer.set_override(setting("kept", "00u2", "ada"), NOW).await.unwrap();
        });
        let before = newest(&store);
        drop(store);
        assert!(is_in_files(dir.path()));
        // Another filter: the name goes, the number of what went is told.
        let store = Store::open(config(dir.path(), only("example.com"))).unwrap();
        assert_eq!(told(&store, before), ["-"]);
        assert_eq!(store.reader.read(|snapshot| snapshot.override_count()).unwrap(), 1);
        assert!(!is_in_files(dir.path()));
        // Somebody who moves out of the domains.
        let before = newest(&store);
        let named = setting(&format!("{NAME}2"), "00u2", "ada");
        block_on(store.writer.set_override(named, NOW)).unwrap();
        put(&store, 2, vec![user("00u2", "b@outside.test")], true);
        assert_eq!(told(&store, before), ["-", "-", "-"]);
        drop(store);
        assert!(!is_in_files(dir.path()));
        // What a configuration says about them is not taken, now that they are known.
        let configured = vec![setting(NAME, "00u2", CONFIGURATION), setting("kept", "00u3", CONFIGURATION)];
        let store = Store::open_with_overrides(config(dir.path(), only("example.com")), configured, NOW).unwrap();
        let expected = ConfiguredOverrides { kept: 1, changed: 1, filtered: 1, ..ConfiguredOverrides::default() };
        assert_eq!(store.overrides, expected);
        drop(store);
        assert!(!is_in_files(dir.path()));
        // Nor is it kept once it turns out that somebody is out of the domains.
        let configured = vec![setting(NAME, "00u4", CONFIGURATION)];
        let store = Store::open_with_overrides(config(dir.path(), only("example.com")), configured, NOW).unwrap();
        put(&store, 3, vec![user("00u4", "d@outside.test")], false);
        assert_eq!(store.reader.read(|snapshot| snapshot.override_count()).unwrap(), 0);
        drop(store);
        assert!(!is_in_files(dir.path()));
    }

    #[test]
    fn what_went_is_known_as_long_as_the_change_log_tells_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let changes = ChangeRetention { age_millis: 60_000, rows_max: 1_000 };
        let config = StoreConfig { changes, ..config(dir.path(), Filter::default()) };
        let store = Store::open(config).unwrap();
        put(&store, 1, vec![app(), user("00u1", "a@example.com")], false);
        let before = newest(&store);
        let first = block_on(store.writer.set_override(setting("a", "00u1", "ada"), NOW)).unwrap();
        // It ends with whatever comes next, under a revision of its own.
        block_on(store.writer.end_overrides(NOW.plus_millis(999))).unwrap();
        block_on(store.writer.end_overrides(NOW.plus_millis(1_000))).unwrap();
        put(&store, 2, vec![user("00u1", "b@example.com")], false);
        assert_eq!(told(&store, before), ["a 00u1", "-a"].map(|_| "-a"));
        assert_eq!(newest(&store), Revision(before.0 + 3));
        // Set once more while it is told of: the same number.
        let later = NOW.plus_millis(2_000);
        let mut again = setting("a", "00u1", "bob");
        again.entry.expires_at = later.plus_millis(500);
        let again = block_on(store.writer.set_override(again, later)).unwrap();
        assert_eq!((again.number, &*again.created_by, again.created_at), (first.number, "bob", later));
        let now = later.plus_millis(200_000);
        let batch = |at, now| Batch {
            now,
            at: RequestNumber(at),
            rows: vec![user("00u1", &format!("{at}@example.com"))],
            ..Batch::default()
        };
        for (at, now) in [(3, now), (4, now.plus_millis(70_000)), (5, now.plus_millis(140_000))] {
            block_on(async {
                store.writer.commit(Box::new(batch(at, now))).await.unwrap().await.unwrap().unwrap();
            });
        }
        assert!(store.reader.read(|snapshot| snapshot.override_gone(first.number)).unwrap().is_none());
        assert!(told(&store, Revision(0)).is_empty());
    }

    #[test]
    fn a_name_has_few_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(config(dir.path(), Filter::default())).unwrap();
        put(&store, 1, vec![app(), user("00u1", "a@example.com")], false);
        let spelt = |index: usize| (0..5).map(|at| if index >> at & 1 == 1 { 'A' } else { 'a' }).collect::<String>();
        let set = |name: &str| block_on(store.writer.set_override(setting(name, "00u1", "ada"), NOW));
        for index in 0..OVERRIDES_OF_NAME_MAX {
            set(&spelt(index)).unwrap();
        }
        assert!(matches!(set(&spelt(OVERRIDES_OF_NAME_MAX)), Err(OverrideError::TooManyOfName)));
        set(&spelt(0)).unwrap();
        set("other").unwrap();
    }

    #[test]
    fn there_is_an_end_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), Filter::default());
        let store = Store::open(config.clone()).unwrap();
        put(&store, 1, vec![app(), user("00u1", "a@example.com")], false);
        block_on(store.writer.set_override(setting("first", "00u1", "ada"), NOW)).unwrap();
        drop(store);
        let files = StoreFiles::lock(dir.path()).unwrap();
        let sql = files.open_for_writing().unwrap();
        let many = "WITH RECURSIVE c(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM c WHERE i < ?1)
                    INSERT INTO overrides SELECT i, i, app, kind, 'name' || i, source, user, expires_at, created_at,
                    created_by, reason, NULL FROM c, overrides WHERE n = 1";
        sql.execute(many, [i64::try_from(OVERRIDES_MAX).unwrap()]).unwrap();
        let sieve = Sieve::new(config.filter.clone(), Filtered::open(&sql).unwrap());
        let mut memory = Memory::new(&config, &sql, sieve).unwrap();
        let mut meta = Meta::read(&sql).unwrap();
        let mut order = |order: Order| match carry_out(&sql, &mut memory, &mut meta, &order, NOW).unwrap() {
            Obeyed::Refused(error) => error.to_string(),
            Obeyed::Done(_, record) => record.number.to_string(),
        };
        let too_many = OverrideError::TooMany.to_string();
        assert_eq!(order(Order::Set(setting("one more", "00u1", "ada"))), too_many);
        // In the place of one that is there, there is room.
        assert_eq!(order(Order::Set(setting("first", "00u1", "ada"))), "1");
        assert_eq!(order(Order::Delete(OverrideName::of(&setting("name7", "00u1", "").entry))), "7");
        assert_eq!(order(Order::Set(setting("one more", "00u1", "ada"))), (OVERRIDES_MAX + 1).to_string());
        assert_eq!(order(Order::Set(setting("name7", "00u1", "ada"))), too_many);
        let unknown = OverrideError::UserUnknown.to_string();
        assert_eq!(order(Order::Set(setting("first", "00u2", "ada"))), unknown);
    }
}

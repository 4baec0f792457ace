//! A file of every released format, and what it must still show.
//!
//! `tests/formats/store-vN.sql` is a store of version N as SQL, `store-vN.expected.json` what a reader shows of it after
//! the migrations up to now; `store-vN-filtered` the same of a store under a filter, which the format has since version 3.
//! The newest dumps are made anew by every run and compared: a change of the format fails here until it has a version of
//! its own. After a deliberate change: `UPDATE_EXPECT=1 cargo test --test store_files`, and never for the dump of a version
//! that was released. A new table needs a row from [`covered`] or one of its like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use okta_idmap::core::coverage::Asked;
use okta_idmap::core::filter::Filter;
use okta_idmap::core::ids::{CrawlId, Revision};
use okta_idmap::core::model::{Kind, Row, Scope, User};
use okta_idmap::core::normalize::{Identifier, NameRule, lookup_key};
use okta_idmap::core::resolve::{AskedOf, NameField};
use okta_idmap::store::{Reader, STORE_FILE, Snapshot, Store, StoreConfig, StoreError};
use rusqlite::Connection;

use super::history::{
    app_id, bare_user, batch, covered, decide, followed, group_id, history, narrow, narrowed, text, user_id,
};
use super::{config, put, sqlite};

const ALL: usize = 1_000;

/// The whole file as SQL, in an order that does not depend on how it came to be.
fn dump(file: &Connection) -> String {
    let pragma = |name: &str| -> i64 { file.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
    let mut sql = String::new();
    for name in ["application_id", "user_version"] {
        sql += &format!("PRAGMA {name} = {};\n", pragma(name));
    }
    for (statement, _) in schema(file) {
        sql += &format!("{statement};\n");
    }
    for table in tables(file) {
        let mut select = file.prepare_cached(&format!("SELECT * FROM {table}")).unwrap();
        let quoted: Vec<String> = select.column_names().map(|column| format!("quote(\"{column}\")")).collect();
        let order: Vec<String> = (1..=quoted.len()).map(|n| n.to_string()).collect();
        let (quoted, order) = (quoted.join(" || ', ' || "), order.join(", "));
        select =
            file.prepare_cached(&format!("SELECT {quoted} FROM (SELECT * FROM {table} ORDER BY {order})")).unwrap();
        let rows = select.query_map((), |row| row.get::<_, String>(0)).unwrap();
        for row in rows {
            sql += &format!("INSERT INTO {table} VALUES ({});\n", row.unwrap());
        }
    }
    sql
}

/// Statements that make the tables and indexes, with their names; those of SQLite's own are left out.
fn schema(file: &Connection) -> Vec<(String, String)> {
    let mut select = file
        .prepare_cached(
            "SELECT sql, name FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY rowid",
        )
        .unwrap();
    let rows = select.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn tables(file: &Connection) -> Vec<String> {
    schema(file).into_iter().filter(|(sql, _)| sql.starts_with("CREATE TABLE")).map(|(_, name)| name).collect()
}

fn formats_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// Everything that a reader shows, by heading.
fn show(reader: &Reader) -> String {
    let shown = reader.read(show_snapshot).unwrap();
    let mut shown: BTreeMap<&str, Vec<String>> = shown;
    let scopes = [Scope::Users, Scope::Groups, Scope::Apps, Scope::Log, Scope::AppGroups(app_id("0oa2"))];
    let coverage = reader.coverage();
    let asked = Asked { with_objects: true, ..Asked::default() };
    let lines = scopes.iter().map(|scope| format!("{scope}: {:?}", coverage.completeness(asked, [scope])));
    shown.insert("completeness", lines.collect());
    serde_json::to_string_pretty(&shown).unwrap() + "\n"
}

fn show_snapshot(snapshot: &Snapshot<'_>) -> Result<BTreeMap<&'static str, Vec<String>>, StoreError> {
    fn lines<T: std::fmt::Debug>(rows: impl IntoIterator<Item = T>) -> Vec<String> {
        rows.into_iter().map(|row| format!("{row:?}")).collect()
    }
    let app = app_id("0oa1");
    let mut shown = BTreeMap::new();
    // Changes by opening: the block of request numbers that this process took.
    let meta = okta_idmap::store::Meta { request_numbers_end: 0, ..snapshot.meta()? };
    shown.insert("meta", lines([meta]));
    shown.insert("users", lines(snapshot.users(None, ALL)?.rows));
    shown.insert("groups", lines(snapshot.groups(None, ALL)?.rows));
    shown.insert("apps", lines(snapshot.apps(None, ALL)?.rows));
    shown.insert("app users", lines(snapshot.app_users(&app, None, ALL)?.rows));
    shown.insert("app groups", lines(snapshot.app_groups(&app, None, ALL)?.rows));
    shown.insert("members of 00g1", lines(snapshot.members(&group_id("00g1"), None, ALL)?.rows));
    shown.insert("members of 00g2", lines(snapshot.members(&group_id("00g2"), None, ALL)?.rows));
    shown.insert("groups of 00u1", lines(snapshot.groups_of(&user_id("00u1"), None, ALL)?.rows));
    shown.insert("groups that grant to 00u1", lines(snapshot.granting_groups(&app, &user_id("00u1"))?));
    let mut named = Vec::new();
    for name in ["new name", "OLD NAME", "STRASSE@example.com", "gone@example.com", "ext-1"] {
        let key = lookup_key(name).unwrap();
        named.push(format!("{name}: {:?}", snapshot.candidates(&app, key, AskedOf::AccountsAndUsers, ALL)?));
        named.push(format!("{name} before: {:?}", snapshot.held_names(&app, key, ALL)?));
    }
    shown.insert("names", named);
    shown.insert("changes", lines(snapshot.changes_after(Revision(0), ALL)?));
    shown.insert("scopes", lines(snapshot.scopes(ALL)?));
    shown.insert("walks", lines(snapshot.crawl_walks(CrawlId(2))?));
    shown.insert("gaps", lines(snapshot.gaps(false, ALL)?));
    shown.insert("gap changes", lines(snapshot.gap_changes_after(Revision(0), ALL)?));
    shown.insert("debts", lines(snapshot.pending_reads()?));
    shown.insert("held", lines(snapshot.held()?));
    shown.insert("unseen", lines([snapshot.unseen(ALL)?]));
    shown.insert("quarantine", lines(snapshot.quarantined(ALL)?));
    let mut filtered = lines(snapshot.filtered_counts()?);
    for id in ["00u1", "00u2", "00u4", "00u5"] {
        filtered.push(format!("{id}: {}", snapshot.is_filtered_user(&user_id(id))?));
    }
    for id in ["00g2", "00g3"] {
        filtered.push(format!("{id}: {}", snapshot.is_filtered_group(&group_id(id))?));
    }
    let fields = [NameField::UserName, NameField::Login].map(|field| (field, NameRule::Default));
    for name in ["OUTSIDE@example.org", "left@example.org", "leaves@example.com", "leaving", "Outside", "unknown"] {
        let is_filtered = snapshot.is_filtered_name(Some(&app), Identifier::new(name).unwrap(), &fields)?;
        filtered.push(format!("{name}: {is_filtered}"));
    }
    shown.insert("filtered", filtered);
    shown.insert("undecided", lines(snapshot.undecided(ALL)?));
    let mut overrides = lines(snapshot.overrides(None, None, None, ALL)?.rows);
    for change in snapshot.override_changes_after(Revision(0), ALL)? {
        overrides.push(format!("{change:?}: {:?}", snapshot.override_gone(change.number)?));
    }
    let named = snapshot.overrides_with_key(&app, lookup_key("NEW NAME").unwrap())?;
    overrides.push(format!("NEW NAME: {:?}", named.iter().map(|record| record.number).collect::<Vec<_>>()));
    shown.insert("overrides", overrides);
    for kind in Kind::ALL {
        assert!(!snapshot.keys_after(kind, (-1, -1), ALL)?.is_empty(), "no {kind:?}");
    }
    Ok(shown)
}

fn version(file: &Connection) -> i32 {
    file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn every_released_format_is_kept_and_read() {
    keep_the_newest();
    read_all();
}

fn config_of(dir: &Path, filter: &Filter) -> StoreConfig {
    StoreConfig { filter: filter.clone(), ..config(dir) }
}

/// What is random in a store, the same in every dump.
const NOT_RANDOM: &str = "UPDATE meta SET value = '0123456789abcdef' WHERE name = 'store_id';
    UPDATE meta SET value = x'00112233445566778899aabbccddeeff' WHERE name = 'filter_salt'";

/// What no other version needs: what is random and made anew where it is missing, and a mark of which nothing counts but that it
/// changes while a process remembers something.
const NOT_KEPT: &str = "DELETE FROM meta WHERE name IN ('page_key', 'eras', 'groups_of_apps_revision')";

fn keep_the_newest() {
    let plain = history().into_iter().chain(followed()).chain(covered()).collect();
    let (mut filled, mut empty) = (BTreeSet::new(), BTreeSet::new());
    for (suffix, filter, batches) in [("", Filter::default(), plain), ("-filtered", narrow(), narrowed())] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        drop(Store::open(config_of(dir.path(), &filter)).unwrap());
        drop(sqlite(&path, NOT_RANDOM));
        let store = Store::open(config_of(dir.path(), &filter)).unwrap();
        for batch in batches {
            put(&store, batch);
        }
        if suffix.is_empty() {
            decide(&store);
        }
        drop(store);
        let file = sqlite(&path, NOT_KEPT);
        for table in tables(&file) {
            let rows: i64 = file.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap();
            if rows > 0 {
                filled.insert(table)
            } else {
                empty.insert(table)
            };
        }
        expect_file![formats_dir().join(format!("store-v{}{suffix}.sql", version(&file)))].assert_eq(&dump(&file));
    }
    let unused: Vec<_> = empty.difference(&filled).collect();
    assert!(unused.is_empty(), "no rows in {unused:?}");
}

fn read_all() {
    let fresh = tempfile::tempdir().unwrap();
    drop(Store::open(config(fresh.path())).unwrap());
    let fresh = sqlite(&fresh.path().join(STORE_FILE), "");
    let newest = version(&fresh);
    let plain = (1..=newest).map(|number| (format!("store-v{number}"), Filter::default()));
    let filtered = (3..=newest).map(|number| (format!("store-v{number}-filtered"), narrow()));
    for (name, filter) in plain.chain(filtered) {
        let sql = fs::read_to_string(formats_dir().join(format!("{name}.sql"))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        drop(sqlite(&path, &sql));
        let store = Store::open(config_of(dir.path(), &filter)).unwrap();
        expect_file![formats_dir().join(format!("{name}.expected.json"))].assert_eq(&show(&store.reader));
        // It is not only read: it is the store that this version would have made, and can be written.
        let before = *store.reader.revisions().borrow();
        let new = User { id: user_id("00u100"), login: text("new@example.com"), ..bare_user() };
        put(&store, batch(99, vec![Row::User(new)]));
        assert_eq!(store.reader.revisions().borrow().0, before.0 + 1);
        drop(store);
        let file = sqlite(&path, "");
        assert_eq!(schema(&file), schema(&fresh), "{name} after its migrations");
        assert_eq!(version(&file), newest);
        let check: String = file.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}

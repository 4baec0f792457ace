//! The few single values of a store.

use std::collections::BTreeMap;

use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::StoreError;
use super::columns::kind_code;
use crate::core::batch::Delta;
use crate::core::ids::{CrawlId, LogCursor, RequestNumber, Revision, Timestamp};
use crate::core::model::Kind;
use crate::core::secret::Secret;

/// Request numbers reserved at once; a crawl of a large org needs some tens of thousands.
pub(super) const REQUEST_NUMBER_BLOCK: u64 = 1 << 20;

/// Where the full crawl stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrawlStatus {
    /// Number of the latest crawl; 0 = none yet.
    pub id: CrawlId,
    /// Whether it is still unfinished.
    pub running: bool,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// The same by Okta's clock.
    pub began: Option<Timestamp>,
    /// What it depends on: it may be resumed only under the same.
    pub fingerprint: String,
    /// When a crawl last came to its end (gaps may be open).
    pub completed_at: Option<Timestamp>,
    /// When that one began, by Okta's clock: what was there then has been shown since, or has a gap.
    pub whole_since: Option<Timestamp>,
}

/// The single values of a store, read in one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Random id of this file: a derived index of another store is recognised by it.
    pub store_id: String,
    /// Revision of the snapshot.
    pub revision: Revision,
    /// Okta's id of the org that was read, once known.
    pub org_id: Option<String>,
    /// System Log position.
    pub cursor: Option<LogCursor>,
    /// Up to when the log has been followed, by Okta's clock: no event up to then is missing but late ones.
    pub observed_through: Option<Timestamp>,
    /// The same moment by this machine's clock.
    pub observed_by_our_clock: Option<Timestamp>,
    /// When the log position was opened, by Okta's clock, if nothing has said since up to when the log was followed: then
    /// `observed_through` is that of the position before.
    pub opened_at: Option<Timestamp>,
    /// Begin of the last finished delta walks, by Okta's clock.
    pub deltas: BTreeMap<Delta, Timestamp>,
    /// The full crawl.
    pub crawl: CrawlStatus,
    /// Oldest revision of which the changes are still known.
    pub changes_from: Revision,
    /// Rows by kind.
    pub rows: BTreeMap<Kind, u64>,
    /// Revision of the last change of any app: lets a cache of apps know that it is current.
    pub apps_revision: Revision,
    /// When the credential was last used successfully.
    pub credential_used_at: Option<Timestamp>,
    /// Revision after which names were removed that must not stay in any file: an older index is made anew.
    pub purged: Revision,
    /// Whether the filter wants more than was read, and no crawl has begun since.
    pub is_widened: bool,
    /// First request number that is not reserved yet.
    pub request_numbers_end: u64,
}

/// Name of the begin of a delta walk.
pub(super) const fn delta_name(delta: Delta) -> &'static str {
    match delta {
        Delta::Users => "delta_users",
        Delta::Groups => "delta_groups",
    }
}

/// Name of the number of rows of a kind.
pub(super) fn rows_name(kind: Kind) -> String {
    format!("rows_{}", kind_code(kind))
}

/// Name of the revision at which a group last came or went, or an app last got one, by an assignment or by a source. Not for those
/// that are taken away from an app: whoever remembers which groups apps have may know too many, never too few.
pub(super) const GROUPS_OF_APPS: &str = "groups_of_apps_revision";

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

impl Meta {
    /// Reads everything.
    pub(super) fn read(connection: &Connection) -> Result<Self, StoreError> {
        let mut texts = BTreeMap::new();
        let mut integers = BTreeMap::new();
        let mut statement = connection.prepare_cached("SELECT name, value FROM meta")?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            match row.get_ref(1)? {
                rusqlite::types::ValueRef::Integer(value) => {
                    integers.insert(name, value);
                }
                rusqlite::types::ValueRef::Text(value) => {
                    texts.insert(name, String::from_utf8_lossy(value).into_owned());
                }
                _ => {}
            }
        }
        let time = |name: &str| integers.get(name).copied().map(Timestamp::from_millis);
        let number = |name: &str| integers.get(name).copied().map(unsigned).unwrap_or_default();
        let Some(store_id) = texts.get("store_id").cloned() else {
            return Err(StoreError::Damaged { detail: "it has no store id".to_owned() });
        };
        Ok(Self {
            store_id,
            revision: Revision(number("revision")),
            org_id: texts.get("org_id").cloned(),
            cursor: texts.get("log_cursor").cloned().map(LogCursor),
            observed_through: time("observed_through"),
            observed_by_our_clock: time("observed_by_our_clock"),
            opened_at: time("log_opened_at"),
            deltas: [Delta::Users, Delta::Groups]
                .into_iter()
                .filter_map(|delta| Some((delta, time(delta_name(delta))?)))
                .collect(),
            crawl: CrawlStatus {
                id: CrawlId(number("crawl_id")),
                running: number("crawl_running") == 1,
                started_at: time("crawl_started_at"),
                began: time("crawl_began"),
                fingerprint: texts.get("crawl_fingerprint").cloned().unwrap_or_default(),
                completed_at: time("crawl_completed_at"),
                whole_since: time("crawl_whole_since"),
            },
            changes_from: Revision(number("changes_from")),
            rows: Kind::ALL.into_iter().map(|kind| (kind, number(&rows_name(kind)))).collect(),
            apps_revision: Revision(number("apps_revision")),
            credential_used_at: time("credential_used_at"),
            purged: Revision(number("purged")),
            is_widened: number("widened") == 1,
            request_numbers_end: number("request_number"),
        })
    }
}

/// Random bytes of the key that page tokens are sealed with.
const PAGE_KEY_BYTES: usize = 32;

/// Gives the store a key for page tokens, unless it has one. It is no part of [`Meta`], which may be printed.
pub(super) fn ensure_page_key(connection: &Connection) -> Result<(), StoreError> {
    let mut random = [0; PAGE_KEY_BYTES];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| StoreError::Mismatch { detail: "the system has no random numbers".to_owned() })?;
    let text = Secret::new(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let sql = "INSERT INTO meta(name, value) VALUES ('page_key', ?1) ON CONFLICT DO NOTHING";
    connection.execute(sql, [text.expose()])?;
    Ok(())
}

/// The key that page tokens are sealed with.
pub(super) fn read_page_key(connection: &Connection) -> Result<Option<Secret>, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM meta WHERE name = 'page_key'")?;
    let key: Option<String> = select.query_row((), |row| row.get(0)).optional()?;
    Ok(key.map(Secret::new))
}

/// Writes one integer.
pub(super) fn put_integer(connection: &Connection, name: &str, value: i64) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("REPLACE INTO meta(name, value) VALUES (?1, ?2)")?;
    statement.execute(params![name, value])?;
    Ok(())
}

/// Writes one text.
pub(super) fn put_text(connection: &Connection, name: &str, value: &str) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached("REPLACE INTO meta(name, value) VALUES (?1, ?2)")?;
    statement.execute(params![name, value])?;
    Ok(())
}

/// Forgets one value.
pub(super) fn forget(connection: &Connection, name: &str) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM meta WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// Writes the number of rows of a kind.
pub(super) fn put_rows(connection: &Connection, kind: Kind, count: u64) -> Result<(), StoreError> {
    put_integer(connection, &rows_name(kind), i64::try_from(count).unwrap_or(i64::MAX))
}

/// The first request number that was never given out. Numbers are given out from a reserved block, so that those of a
/// killed process never come again.
pub(super) fn reserve_request_numbers(connection: &Connection, block: u64) -> Result<RequestNumber, StoreError> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = 'request_number'")?;
    let next: Option<i64> = statement.query_row((), |row| row.get(0)).optional()?;
    let next = next.map_or(1, unsigned);
    put_integer(connection, "request_number", i64::try_from(next + block).unwrap_or(i64::MAX))?;
    Ok(RequestNumber(next))
}

//! The file format: tables, versions, migrations.
//!
//! Entry point: [`migrate`]. `PRAGMA user_version` counts [`MIGRATIONS`]; a newer file is refused, an older one is brought
//! up in one transaction, so that a half-migrated file cannot exist.
//!
//! Long ids stand in `ids`, and those of users in their rows too; everything else refers to them by `n`, which makes rows and indexes of the big tables
//! (memberships, app users) several times smaller. `at` is the number of the request that last changed the row.

use rusqlite::{Connection, Transaction};

use super::StoreError;

/// `PRAGMA application_id` of a store: "oidm".
pub(super) const APPLICATION_ID: i32 = 0x6f69_646d;

/// Every version's step, oldest first. Never edit a released one: add another.
pub(super) const MIGRATIONS: [&str; 8] =
    [FIRST, FOLLOW_THE_LOG, COVERAGE, GROUP_NAMES, OVERRIDES, HELD_BY_USER, IDS_OF_USERS, UNREAD_ROWS];

const FIRST: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE ids(n INTEGER PRIMARY KEY, kind INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE(kind, id));
CREATE TABLE users(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, status TEXT NOT NULL, login TEXT, email TEXT,
    second_email TEXT, first_name TEXT, last_name TEXT, display_name TEXT, created INTEGER, last_updated INTEGER,
    status_changed INTEGER);
CREATE TABLE groups(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, name TEXT NOT NULL, description TEXT,
    group_type TEXT NOT NULL, source_app INTEGER, created INTEGER, last_updated INTEGER,
    last_membership_updated INTEGER);
CREATE INDEX groups_built_in ON groups(n) WHERE group_type = 'BUILT_IN';
CREATE TABLE group_members(grp INTEGER NOT NULL, user INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(grp, user))
    WITHOUT ROWID;
CREATE INDEX group_members_by_user ON group_members(user, grp);
CREATE TABLE apps(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, name TEXT NOT NULL, label TEXT NOT NULL,
    status TEXT NOT NULL, sign_on_mode TEXT, features TEXT NOT NULL, credential_scheme TEXT, shared_user_name TEXT,
    user_name_template TEXT, oauth_application_type TEXT, implicit_assignment INTEGER NOT NULL, created INTEGER,
    last_updated INTEGER);
CREATE TABLE app_users(app INTEGER NOT NULL, user INTEGER NOT NULL, at INTEGER NOT NULL, user_name TEXT,
    external_id TEXT, email TEXT, status TEXT NOT NULL, scope TEXT NOT NULL, sync_state TEXT, via_group INTEGER,
    created INTEGER, last_updated INTEGER, status_changed INTEGER, PRIMARY KEY(app, user)) WITHOUT ROWID;
CREATE INDEX app_users_by_user ON app_users(user, app);
CREATE TABLE app_groups(app INTEGER NOT NULL, grp INTEGER NOT NULL, at INTEGER NOT NULL, priority INTEGER,
    last_updated INTEGER, PRIMARY KEY(app, grp)) WITHOUT ROWID;
CREATE INDEX app_groups_by_group ON app_groups(grp, app);

-- Who could be meant by a name: `key` is a hash of its loosest form; look-ups verify the raw values of the rows.
CREATE TABLE account_keys(app INTEGER NOT NULL, key INTEGER NOT NULL, user INTEGER NOT NULL,
    PRIMARY KEY(app, key, user)) WITHOUT ROWID;
CREATE TABLE user_keys(key INTEGER NOT NULL, user INTEGER NOT NULL, PRIMARY KEY(key, user)) WITHOUT ROWID;
-- Who had a name before; app 0 = the user's own login and e-mail.
CREATE TABLE account_history(app INTEGER NOT NULL, key INTEGER NOT NULL, user INTEGER NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, released_at INTEGER NOT NULL, PRIMARY KEY(app, key, user, kind, name)) WITHOUT ROWID;
CREATE INDEX account_history_by_time ON account_history(released_at);

-- What changed, by revision. op: 0 removed, 1 put, 2 put with another label (its dependants show it).
CREATE TABLE changes(revision INTEGER NOT NULL, kind INTEGER NOT NULL, a INTEGER NOT NULL, b INTEGER NOT NULL,
    op INTEGER NOT NULL, PRIMARY KEY(revision, kind, a, b)) WITHOUT ROWID;
-- Reads that a log event obliges to, stored with the log position that showed the event.
CREATE TABLE pending_reads(target TEXT PRIMARY KEY, due_at INTEGER NOT NULL, cause TEXT NOT NULL) WITHOUT ROWID;

-- read_by: fingerprint of the credential that the stored rows were read with.
CREATE TABLE scopes(scope TEXT PRIMARY KEY, crawl INTEGER NOT NULL, state TEXT NOT NULL, next TEXT, page INTEGER,
    rows INTEGER, walk_from INTEGER, listing TEXT, completed_at INTEGER, read_by TEXT) WITHOUT ROWID;
-- Rows that a walk showed and that were stored before, one bitmap a page: what a finished walk did not show is missing.
CREATE TABLE walk_seen(scope TEXT NOT NULL, page INTEGER NOT NULL, seen BLOB NOT NULL, PRIMARY KEY(scope, page))
    WITHOUT ROWID;
CREATE TABLE gaps(id TEXT PRIMARY KEY, scope TEXT NOT NULL, kind TEXT NOT NULL, evidence TEXT NOT NULL,
    first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, count INTEGER NOT NULL, open INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE INDEX gaps_open ON gaps(scope) WHERE open = 1;
CREATE TABLE quarantine(scope TEXT NOT NULL, item TEXT NOT NULL, reason TEXT NOT NULL, first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(scope, item, reason)) WITHOUT ROWID;
";

const FOLLOW_THE_LOG: &str = "
-- Reads that are owed, stored with the log position that showed why. Version 1 never wrote one. `since`: only a request
-- with a larger number pays.
DROP TABLE pending_reads;
CREATE TABLE pending_reads(target TEXT PRIMARY KEY, since INTEGER NOT NULL, first_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL, again_at INTEGER, attempts INTEGER NOT NULL, cause TEXT NOT NULL) WITHOUT ROWID;
-- By Okta's clock: begin of the walk that is open, begin and end of the last complete one.
ALTER TABLE scopes ADD COLUMN walk_began INTEGER;
ALTER TABLE scopes ADD COLUMN began INTEGER;
ALTER TABLE scopes ADD COLUMN ended INTEGER;
-- The newest membership event about a pair that was applied, by Okta's clock.
CREATE TABLE member_marks(grp INTEGER NOT NULL, user INTEGER NOT NULL, published INTEGER NOT NULL,
    added INTEGER NOT NULL, PRIMARY KEY(grp, user)) WITHOUT ROWID;
-- Gaps that were opened (op 1) or closed (op 0), beside the changes of rows.
CREATE TABLE gap_changes(revision INTEGER NOT NULL, gap TEXT NOT NULL, op INTEGER NOT NULL,
    PRIMARY KEY(revision, gap)) WITHOUT ROWID;
-- When revisions were made, a row a minute or so; `lines`: lines of the change log ever written up to this one.
CREATE TABLE revision_times(revision INTEGER PRIMARY KEY, at INTEGER NOT NULL, lines INTEGER NOT NULL);
";

const COVERAGE: &str = "
-- The history of a gap: when it was last opened and closed.
ALTER TABLE gaps ADD COLUMN opened_at INTEGER;
ALTER TABLE gaps ADD COLUMN closed_at INTEGER;
UPDATE gaps SET opened_at = first_seen;
-- An event said that it is gone; since when it is not found though nothing says so.
ALTER TABLE pending_reads ADD COLUMN announced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pending_reads ADD COLUMN absent_since INTEGER;
CREATE INDEX pending_reads_absent ON pending_reads(target) WHERE absent_since IS NOT NULL;
-- Who and what the filter keeps out, by salted hashes of ids; kind 0: a user of whom nobody knows yet. `at`: the request that showed it last but in a list.
CREATE TABLE filtered_objects(n INTEGER PRIMARY KEY, kind INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL,
    last_updated INTEGER, UNIQUE(kind, hash));
-- Salted hashes of their names: login and e-mail (app 0), and those of their accounts.
CREATE TABLE filtered_names(app INTEGER NOT NULL, folded BLOB NOT NULL, owner INTEGER NOT NULL, field INTEGER NOT NULL,
    exact BLOB NOT NULL, PRIMARY KEY(app, folded, owner, field)) WITHOUT ROWID;
CREATE INDEX filtered_names_by_owner ON filtered_names(owner, app);
-- What the last complete walk of a scope has dropped: how much, and which.
CREATE TABLE filtered_rows(scope TEXT PRIMARY KEY, kind INTEGER NOT NULL, count INTEGER NOT NULL, rows BLOB NOT NULL)
    WITHOUT ROWID;
-- Rows that were not stored because nobody knew yet whether their user or group is wanted; without an id: the whole list.
CREATE TABLE undecided(scope TEXT NOT NULL, kind INTEGER NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY(scope, kind, id)) WITHOUT ROWID;
CREATE INDEX undecided_by_id ON undecided(kind, id);
";

const GROUP_NAMES: &str = "
-- A document names the groups that it is shared with: each is looked up.
CREATE INDEX groups_by_name ON groups(name);
";

const OVERRIDES: &str = "
-- What operators have decided: in this app this name is this user. source: 1 by call, 2 by configuration. `gone`: the
-- revision at which it went; it stays until the change log no longer tells of that, without its name where the filter
-- forbids to keep one. A number may be given again only then.
CREATE TABLE overrides(n INTEGER PRIMARY KEY, key INTEGER NOT NULL, app INTEGER NOT NULL, kind INTEGER NOT NULL,
    name TEXT, source INTEGER NOT NULL, user INTEGER NOT NULL, expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL, reason TEXT NOT NULL, gone INTEGER, UNIQUE(app, kind, name, source));
CREATE INDEX overrides_by_key ON overrides(key, app) WHERE gone IS NULL;
CREATE INDEX overrides_by_end ON overrides(expires_at) WHERE gone IS NULL;
CREATE INDEX overrides_by_user ON overrides(user);
CREATE INDEX overrides_gone ON overrides(gone) WHERE gone IS NOT NULL;
-- Overrides that were set or went, beside the changes of rows.
CREATE TABLE override_changes(revision INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(revision, n)) WITHOUT ROWID;
";

const HELD_BY_USER: &str = "
-- Copies are told which names a user had, with each change of the user.
CREATE INDEX account_history_by_user ON account_history(user, released_at);
";

const IDS_OF_USERS: &str = "
-- Beside its row too: who resolves a name reads it without another descent.
ALTER TABLE users ADD COLUMN id TEXT;
UPDATE users SET id = (SELECT i.id FROM ids i WHERE i.n = users.n);
";

const UNREAD_ROWS: &str = "
-- Records that could not be read, of an open gap FAILED, as core::coverage::Unread writes them; NULL: it is no record's.
ALTER TABLE gaps ADD COLUMN unread TEXT;
CREATE INDEX gaps_unread ON gaps(scope) WHERE unread IS NOT NULL;
";

/// The version that this program writes.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub(super) const VERSION: i32 = MIGRATIONS.len() as i32;

/// Brings the file to [`VERSION`]; returns whether it was older.
pub(super) fn migrate(connection: &mut Connection) -> Result<bool, StoreError> {
    let found: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION {
        return Err(StoreError::Newer { found, supported: VERSION });
    }
    let Some(steps) = usize::try_from(found).ok().and_then(|done| MIGRATIONS.get(done..)) else {
        return Err(StoreError::Damaged { detail: format!("format version {found} does not exist") });
    };
    if steps.is_empty() {
        return Ok(false);
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    set_version(&transaction)?;
    transaction.commit()?;
    Ok(true)
}

fn set_version(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}

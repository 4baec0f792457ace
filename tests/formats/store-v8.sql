PRAGMA application_id = 1869177965;
PRAGMA user_version = 8;
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE ids(n INTEGER PRIMARY KEY, kind INTEGER NOT NULL, id TEXT NOT NULL, UNIQUE(kind, id));
CREATE TABLE users(n INTEGER PRIMARY KEY, at INTEGER NOT NULL, status TEXT NOT NULL, login TEXT, email TEXT,
    second_email TEXT, first_name TEXT, last_name TEXT, display_name TEXT, created INTEGER, last_updated INTEGER,
    status_changed INTEGER, id TEXT);
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
CREATE TABLE account_keys(app INTEGER NOT NULL, key INTEGER NOT NULL, user INTEGER NOT NULL,
    PRIMARY KEY(app, key, user)) WITHOUT ROWID;
CREATE TABLE user_keys(key INTEGER NOT NULL, user INTEGER NOT NULL, PRIMARY KEY(key, user)) WITHOUT ROWID;
CREATE TABLE account_history(app INTEGER NOT NULL, key INTEGER NOT NULL, user INTEGER NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, released_at INTEGER NOT NULL, PRIMARY KEY(app, key, user, kind, name)) WITHOUT ROWID;
CREATE INDEX account_history_by_time ON account_history(released_at);
CREATE TABLE changes(revision INTEGER NOT NULL, kind INTEGER NOT NULL, a INTEGER NOT NULL, b INTEGER NOT NULL,
    op INTEGER NOT NULL, PRIMARY KEY(revision, kind, a, b)) WITHOUT ROWID;
CREATE TABLE scopes(scope TEXT PRIMARY KEY, crawl INTEGER NOT NULL, state TEXT NOT NULL, next TEXT, page INTEGER,
    rows INTEGER, walk_from INTEGER, listing TEXT, completed_at INTEGER, read_by TEXT, walk_began INTEGER, began INTEGER, ended INTEGER) WITHOUT ROWID;
CREATE TABLE walk_seen(scope TEXT NOT NULL, page INTEGER NOT NULL, seen BLOB NOT NULL, PRIMARY KEY(scope, page))
    WITHOUT ROWID;
CREATE TABLE gaps(id TEXT PRIMARY KEY, scope TEXT NOT NULL, kind TEXT NOT NULL, evidence TEXT NOT NULL,
    first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL, count INTEGER NOT NULL, open INTEGER NOT NULL, opened_at INTEGER, closed_at INTEGER, unread TEXT)
    WITHOUT ROWID;
CREATE INDEX gaps_open ON gaps(scope) WHERE open = 1;
CREATE TABLE quarantine(scope TEXT NOT NULL, item TEXT NOT NULL, reason TEXT NOT NULL, first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(scope, item, reason)) WITHOUT ROWID;
CREATE TABLE pending_reads(target TEXT PRIMARY KEY, since INTEGER NOT NULL, first_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL, again_at INTEGER, attempts INTEGER NOT NULL, cause TEXT NOT NULL, announced INTEGER NOT NULL DEFAULT 0, absent_since INTEGER) WITHOUT ROWID;
CREATE TABLE member_marks(grp INTEGER NOT NULL, user INTEGER NOT NULL, published INTEGER NOT NULL,
    added INTEGER NOT NULL, PRIMARY KEY(grp, user)) WITHOUT ROWID;
CREATE TABLE gap_changes(revision INTEGER NOT NULL, gap TEXT NOT NULL, op INTEGER NOT NULL,
    PRIMARY KEY(revision, gap)) WITHOUT ROWID;
CREATE TABLE revision_times(revision INTEGER PRIMARY KEY, at INTEGER NOT NULL, lines INTEGER NOT NULL);
CREATE INDEX pending_reads_absent ON pending_reads(target) WHERE absent_since IS NOT NULL;
CREATE TABLE filtered_objects(n INTEGER PRIMARY KEY, kind INTEGER NOT NULL, hash BLOB NOT NULL, at INTEGER NOT NULL,
    last_updated INTEGER, UNIQUE(kind, hash));
CREATE TABLE filtered_names(app INTEGER NOT NULL, folded BLOB NOT NULL, owner INTEGER NOT NULL, field INTEGER NOT NULL,
    exact BLOB NOT NULL, PRIMARY KEY(app, folded, owner, field)) WITHOUT ROWID;
CREATE INDEX filtered_names_by_owner ON filtered_names(owner, app);
CREATE TABLE filtered_rows(scope TEXT PRIMARY KEY, kind INTEGER NOT NULL, count INTEGER NOT NULL, rows BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE undecided(scope TEXT NOT NULL, kind INTEGER NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY(scope, kind, id)) WITHOUT ROWID;
CREATE INDEX undecided_by_id ON undecided(kind, id);
CREATE INDEX groups_by_name ON groups(name);
CREATE TABLE overrides(n INTEGER PRIMARY KEY, key INTEGER NOT NULL, app INTEGER NOT NULL, kind INTEGER NOT NULL,
    name TEXT, source INTEGER NOT NULL, user INTEGER NOT NULL, expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL, reason TEXT NOT NULL, gone INTEGER, UNIQUE(app, kind, name, source));
CREATE INDEX overrides_by_key ON overrides(key, app) WHERE gone IS NULL;
CREATE INDEX overrides_by_end ON overrides(expires_at) WHERE gone IS NULL;
CREATE INDEX overrides_by_user ON overrides(user);
CREATE INDEX overrides_gone ON overrides(gone) WHERE gone IS NOT NULL;
CREATE TABLE override_changes(revision INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY(revision, n)) WITHOUT ROWID;
CREATE INDEX account_history_by_user ON account_history(user, released_at);
CREATE INDEX gaps_unread ON gaps(scope) WHERE unread IS NOT NULL;
INSERT INTO meta VALUES ('apps_revision', 5);
INSERT INTO meta VALUES ('change_lines', 31);
INSERT INTO meta VALUES ('crawl_began', 1770000008000);
INSERT INTO meta VALUES ('crawl_completed_at', 1770000007000);
INSERT INTO meta VALUES ('crawl_fingerprint', 'fingerprint 2');
INSERT INTO meta VALUES ('crawl_id', 2);
INSERT INTO meta VALUES ('crawl_running', 1);
INSERT INTO meta VALUES ('crawl_started_at', 1770000008000);
INSERT INTO meta VALUES ('crawl_whole_since', 1770000001000);
INSERT INTO meta VALUES ('delta_groups', 1770000004000);
INSERT INTO meta VALUES ('delta_users', 1770000003000);
INSERT INTO meta VALUES ('filter', '{"users":{"domains":[]},"groups":{"name_contains":[],"skip_app_groups":false},"apps":{"include":[],"exclude":[],"built_in":false,"sync_inactive":true},"skip_secondary_emails":false}');
INSERT INTO meta VALUES ('filter_salt', X'00112233445566778899AABBCCDDEEFF');
INSERT INTO meta VALUES ('log_cursor', 'https://org.example/api/v1/logs?after=2');
INSERT INTO meta VALUES ('observed_by_our_clock', 1770000030000);
INSERT INTO meta VALUES ('observed_through', 1770000030000);
INSERT INTO meta VALUES ('request_number', 2097153);
INSERT INTO meta VALUES ('revision', 16);
INSERT INTO meta VALUES ('rows_1', 2);
INSERT INTO meta VALUES ('rows_2', 2);
INSERT INTO meta VALUES ('rows_3', 1);
INSERT INTO meta VALUES ('rows_4', 3);
INSERT INTO meta VALUES ('rows_5', 2);
INSERT INTO meta VALUES ('rows_6', 2);
INSERT INTO meta VALUES ('store_id', '0123456789abcdef');
INSERT INTO ids VALUES (1, 1, '00u1');
INSERT INTO ids VALUES (2, 1, '00u2');
INSERT INTO ids VALUES (3, 1, '00u3');
INSERT INTO ids VALUES (4, 2, '00g1');
INSERT INTO ids VALUES (5, 2, '00g2');
INSERT INTO ids VALUES (6, 3, '0oa1');
INSERT INTO ids VALUES (7, 1, '00u7');
INSERT INTO users VALUES (1, 3, 'ACTIVE', 'Straße@example.com', 'strasse@example.com', 'other@example.org', 'It''s', '', 'näme', 1769999970000, 1769999980000, 1769999990000, '00u1');
INSERT INTO users VALUES (2, 3, 'IN_2027', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '00u2');
INSERT INTO groups VALUES (4, 4, 'Everyone', NULL, 'BUILT_IN', NULL, NULL, NULL, NULL);
INSERT INTO groups VALUES (5, 4, 'Eng', 'Engineers', 'APP_GROUP', 6, 1769999970000, 1769999980000, 1769999990000);
INSERT INTO group_members VALUES (5, 1, 6);
INSERT INTO group_members VALUES (5, 2, 11);
INSERT INTO group_members VALUES (5, 7, 7);
INSERT INTO apps VALUES (6, 7, 'jira', 'Jira Cloud', 'ACTIVE', 'SAML_2_0', 'PUSH_NEW_USERS IMPORT_NEW_USERS', 'SHARED_USERNAME_AND_PASSWORD', 'team', '${source.login}', 'web', 1, 1769999970000, 1769999980000);
INSERT INTO app_users VALUES (6, 1, 7, 'new name', 'ext-1', 'strasse@example.com', 'PROVISIONED', 'GROUP', 'SYNCHRONIZED', 5, 1769999970000, 1769999980000, 1769999990000);
INSERT INTO app_users VALUES (6, 2, 6, NULL, NULL, NULL, 'PROVISIONED', 'GROUP', 'SYNCHRONIZED', 5, 1769999970000, 1769999980000, 1769999990000);
INSERT INTO app_groups VALUES (6, 4, 7, NULL, NULL);
INSERT INTO app_groups VALUES (6, 5, 7, 1, 1769999980000);
INSERT INTO account_keys VALUES (6, -2140455225930516999, 1);
INSERT INTO account_keys VALUES (6, 3381305485516729023, 1);
INSERT INTO account_keys VALUES (6, 7112438664669554557, 1);
INSERT INTO user_keys VALUES (-2140455225930516999, 1);
INSERT INTO user_keys VALUES (2830265578503300724, 1);
INSERT INTO account_history VALUES (0, -5841405907299374987, 3, 'login', 'gone@example.com', 1770000007000);
INSERT INTO account_history VALUES (6, 1051310671809902903, 1, 'user_name', 'old name', 1770000007000);
INSERT INTO changes VALUES (1, 1, 1, 0, 1);
INSERT INTO changes VALUES (1, 1, 2, 0, 1);
INSERT INTO changes VALUES (1, 1, 3, 0, 1);
INSERT INTO changes VALUES (2, 2, 4, 0, 1);
INSERT INTO changes VALUES (2, 2, 5, 0, 1);
INSERT INTO changes VALUES (3, 3, 6, 0, 1);
INSERT INTO changes VALUES (4, 4, 5, 1, 1);
INSERT INTO changes VALUES (4, 5, 6, 1, 1);
INSERT INTO changes VALUES (4, 5, 6, 2, 1);
INSERT INTO changes VALUES (5, 1, 3, 0, 0);
INSERT INTO changes VALUES (5, 3, 6, 0, 2);
INSERT INTO changes VALUES (5, 4, 5, 7, 1);
INSERT INTO changes VALUES (5, 5, 6, 1, 1);
INSERT INTO changes VALUES (5, 6, 6, 4, 1);
INSERT INTO changes VALUES (5, 6, 6, 5, 1);
INSERT INTO changes VALUES (6, 4, 5, 2, 1);
INSERT INTO scopes VALUES ('app_groups(0oa2)', 1, 'given_up', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO scopes VALUES ('app_users(0oa1)', 2, 'held', NULL, NULL, NULL, 12, NULL, 1770000012000, 'credential', NULL, 1770000012000, 1770000012000);
INSERT INTO scopes VALUES ('apps', 1, 'finished', NULL, NULL, NULL, 5, NULL, 1770000005000, 'credential', NULL, 1770000005000, 1770000005000);
INSERT INTO scopes VALUES ('group_members(00g2)', 2, 'finished', NULL, NULL, NULL, 10, NULL, 1770000010000, 'credential', NULL, 1770000010000, 1770000010000);
INSERT INTO scopes VALUES ('groups', 2, 'todo', NULL, NULL, NULL, 4, NULL, 1770000004000, 'credential', NULL, 1770000004000, 1770000004000);
INSERT INTO scopes VALUES ('log', 1, 'finished', NULL, NULL, NULL, 0, NULL, 1770000002000, 'credential', NULL, 1770000000000, 1770000002000);
INSERT INTO scopes VALUES ('users', 2, 'walking', 'https://org.example/api/v1/users?after=2', 1, 2, 9, 'plain_users', 1770000003000, 'credential', 1770000009000, 1770000003000, 1770000003000);
INSERT INTO walk_seen VALUES ('users', 1, X'3A30000001000000000001001000000001000200');
INSERT INTO gaps VALUES ('COUNT_MISMATCH:groups', 'groups', 'COUNT_MISMATCH', 'asked for by id, 404 E0000007', 1770000016000, 1770000017000, 1, 0, 1770000016000, 1770000017000, NULL);
INSERT INTO gaps VALUES ('FAILED:apps', 'apps', 'FAILED', 'GET /api/v1/apps/0oa2: 503', 1770000016000, 1770000016000, 1, 1, 1770000016000, NULL, '0oa2@15@1770000005000');
INSERT INTO gaps VALUES ('FAILED:users', 'users', 'FAILED', 'records of the list that could not be read: 1 (quarantined)', 1770000003000, 1770000003000, 1, 1, 1770000003000, NULL, '00u9@3');
INSERT INTO gaps VALUES ('FORBIDDEN:app_groups(0oa2)', 'app_groups(0oa2)', 'FORBIDDEN', 'GET /api/v1/apps/0oa2/groups: 403 E0000006', 1770000005000, 1770000005000, 1, 1, 1770000005000, NULL, NULL);
INSERT INTO gaps VALUES ('UNSEEN_REFERENCE:app(0oa9)', 'app(0oa9)', 'UNSEEN_REFERENCE', 'asked for by id, 404 E0000007', 1770000013000, 1770000015000, 2, 1, 1770000015000, NULL, NULL);
INSERT INTO gaps VALUES ('UNSEEN_REFERENCE:user(00u7)', 'user(00u7)', 'UNSEEN_REFERENCE', 'asked for by id, 404 E0000007', 1770000013000, 1770000013000, 1, 1, 1770000013000, NULL, NULL);
INSERT INTO quarantine VALUES ('users', '00u9', 'no status', 1770000003000, 1770000003000, 3);
INSERT INTO pending_reads VALUES ('app_user(0oa1,00u1)', 10, 1770000011000, 1770000012000, 1770000200000, 1, 'user.account.update_profile', 0, NULL);
INSERT INTO pending_reads VALUES ('group(00g9)', 13, 1770000013000, 1770000600000, NULL, 0, 'named or known, and not shown', 1, NULL);
INSERT INTO pending_reads VALUES ('user(00u1)', 10, 1770000011000, 1770000012000, NULL, 1, 'user.account.update_profile', 0, NULL);
INSERT INTO pending_reads VALUES ('user(00u7)', 13, 1770000013000, 1770000600000, NULL, 0, 'named or known, and not shown', 0, 1770000013000);
INSERT INTO member_marks VALUES (5, 2, 1770000030000, 1);
INSERT INTO gap_changes VALUES (1, 'FAILED:users', 1);
INSERT INTO gap_changes VALUES (3, 'FORBIDDEN:app_groups(0oa2)', 1);
INSERT INTO gap_changes VALUES (7, 'UNSEEN_REFERENCE:app(0oa9)', 1);
INSERT INTO gap_changes VALUES (7, 'UNSEEN_REFERENCE:user(00u7)', 1);
INSERT INTO gap_changes VALUES (8, 'UNSEEN_REFERENCE:app(0oa9)', 0);
INSERT INTO gap_changes VALUES (9, 'UNSEEN_REFERENCE:app(0oa9)', 1);
INSERT INTO gap_changes VALUES (10, 'COUNT_MISMATCH:groups', 1);
INSERT INTO gap_changes VALUES (10, 'FAILED:apps', 1);
INSERT INTO gap_changes VALUES (11, 'COUNT_MISMATCH:groups', 0);
INSERT INTO revision_times VALUES (1, 1770000003000, 4);
INSERT INTO overrides VALUES (1, 3381305485516729023, 6, 0, 'New Name', 1, 2, 1770003600000, 1770000020000, 'ada', 'it''s decided', NULL);
INSERT INTO overrides VALUES (2, 3381305485516729023, 6, 1, 'new name', 1, 1, 1770003600000, 1770000020000, 'ada', 'it''s decided', NULL);
INSERT INTO overrides VALUES (3, -1551547476415138000, 6, 3, 'näme@example.com', 1, 1, 1770003600000, 1770000020000, 'ada', 'it''s decided', 16);
INSERT INTO overrides VALUES (4, 7112438664669554557, 6, 2, 'ext-1', 1, 2, 1770003600000, 1770000020000, 'ada', 'it''s decided', NULL);
INSERT INTO override_changes VALUES (12, 1);
INSERT INTO override_changes VALUES (13, 2);
INSERT INTO override_changes VALUES (14, 3);
INSERT INTO override_changes VALUES (15, 4);
INSERT INTO override_changes VALUES (16, 3);

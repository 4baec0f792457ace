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
INSERT INTO meta VALUES ('apps_revision', 3);
INSERT INTO meta VALUES ('change_lines', 10);
INSERT INTO meta VALUES ('crawl_began', 1770000007000);
INSERT INTO meta VALUES ('crawl_fingerprint', 'fingerprint 2');
INSERT INTO meta VALUES ('crawl_id', 2);
INSERT INTO meta VALUES ('crawl_running', 1);
INSERT INTO meta VALUES ('crawl_started_at', 1770000007000);
INSERT INTO meta VALUES ('filter', '{"users":{"domains":["example.com"]},"groups":{"name_contains":["Eng"],"skip_app_groups":false},"apps":{"include":[],"exclude":[],"built_in":false,"sync_inactive":true},"skip_secondary_emails":false}');
INSERT INTO meta VALUES ('filter_salt', X'00112233445566778899AABBCCDDEEFF');
INSERT INTO meta VALUES ('purged', 6);
INSERT INTO meta VALUES ('request_number', 2097153);
INSERT INTO meta VALUES ('revision', 6);
INSERT INTO meta VALUES ('rows_1', 1);
INSERT INTO meta VALUES ('rows_2', 1);
INSERT INTO meta VALUES ('rows_3', 1);
INSERT INTO meta VALUES ('rows_4', 1);
INSERT INTO meta VALUES ('rows_5', 1);
INSERT INTO meta VALUES ('rows_6', 1);
INSERT INTO meta VALUES ('store_id', '0123456789abcdef');
INSERT INTO ids VALUES (1, 1, '00u1');
INSERT INTO ids VALUES (2, 1, '00u2');
INSERT INTO ids VALUES (3, 2, '00g2');
INSERT INTO ids VALUES (4, 3, '0oa1');
INSERT INTO users VALUES (1, 1, 'ACTIVE', 'Straße@example.com', 'strasse@example.com', 'other@example.org', 'It''s', '', 'näme', 1769999970000, 1769999980000, 1769999990000, '00u1');
INSERT INTO groups VALUES (3, 2, 'Eng', 'Engineers', 'APP_GROUP', 4, 1769999970000, 1769999980000, 1769999990000);
INSERT INTO group_members VALUES (3, 1, 5);
INSERT INTO apps VALUES (4, 3, 'jira', 'Jira', 'ACTIVE', 'SAML_2_0', 'PUSH_NEW_USERS IMPORT_NEW_USERS', 'SHARED_USERNAME_AND_PASSWORD', 'team', '${source.login}', 'web', 1, 1769999970000, 1769999980000);
INSERT INTO app_users VALUES (4, 1, 4, 'new name', NULL, 'strasse@example.com', 'PROVISIONED', 'GROUP', 'SYNCHRONIZED', NULL, 1769999970000, 1769999980000, 1769999990000);
INSERT INTO app_groups VALUES (4, 3, 5, NULL, NULL);
INSERT INTO account_keys VALUES (4, -2140455225930516999, 1);
INSERT INTO account_keys VALUES (4, 3381305485516729023, 1);
INSERT INTO user_keys VALUES (-2140455225930516999, 1);
INSERT INTO user_keys VALUES (2830265578503300724, 1);
INSERT INTO changes VALUES (1, 1, 1, 0, 1);
INSERT INTO changes VALUES (1, 1, 2, 0, 1);
INSERT INTO changes VALUES (2, 2, 3, 0, 1);
INSERT INTO changes VALUES (3, 3, 4, 0, 1);
INSERT INTO changes VALUES (4, 5, 4, 1, 1);
INSERT INTO changes VALUES (4, 5, 4, 2, 1);
INSERT INTO changes VALUES (5, 4, 3, 1, 1);
INSERT INTO changes VALUES (5, 6, 4, 3, 1);
INSERT INTO changes VALUES (6, 1, 2, 0, 0);
INSERT INTO changes VALUES (6, 5, 4, 2, 0);
INSERT INTO scopes VALUES ('app_groups(0oa1)', 0, 'finished', NULL, NULL, NULL, 5, NULL, 1770000005000, 'credential', NULL, 1770000005000, 1770000005000);
INSERT INTO scopes VALUES ('app_users(0oa1)', 0, 'finished', NULL, NULL, NULL, 4, NULL, 1770000004000, 'credential', NULL, 1770000004000, 1770000004000);
INSERT INTO scopes VALUES ('apps', 0, 'finished', NULL, NULL, NULL, 3, NULL, 1770000003000, 'credential', NULL, 1770000003000, 1770000003000);
INSERT INTO scopes VALUES ('group_members(00g2)', 0, 'finished', NULL, NULL, NULL, 5, NULL, 1770000005000, 'credential', NULL, 1770000005000, 1770000005000);
INSERT INTO scopes VALUES ('groups', 0, 'finished', NULL, NULL, NULL, 2, NULL, 1770000002000, 'credential', NULL, 1770000002000, 1770000002000);
INSERT INTO scopes VALUES ('users', 2, 'todo', NULL, NULL, NULL, 1, NULL, 1770000001000, 'credential', NULL, 1770000001000, 1770000001000);
INSERT INTO pending_reads VALUES ('list(app_users(0oa1))', 0, 1770000005000, 1770000035000, NULL, 0, 'newly wanted', 0, NULL);
INSERT INTO pending_reads VALUES ('user(00u5)', 0, 1770000004000, 1770000004250, NULL, 0, 'named, but not known', 0, NULL);
INSERT INTO pending_reads VALUES ('user(00u6)', 0, 1770000007000, 1770000007250, NULL, 0, 'named, but not known', 0, NULL);
INSERT INTO revision_times VALUES (1, 1770000001000, 2);
INSERT INTO filtered_objects VALUES (1, 1, X'52A153BAD094B407A72953336674E64B', 1, NULL);
INSERT INTO filtered_objects VALUES (2, 2, X'A2D0B66E0FCB8CA8BCD4E4E186B48FCF', 2, NULL);
INSERT INTO filtered_objects VALUES (3, 2, X'996D57A122C2D9341CBFD3E676D03888', 2, NULL);
INSERT INTO filtered_objects VALUES (4, 3, X'F1DA6C44A328825E1F39DA9C83AA5366', 3, NULL);
INSERT INTO filtered_objects VALUES (5, 0, X'2D3F44A578F84284788C4A64D67147A9', 4, NULL);
INSERT INTO filtered_objects VALUES (6, 1, X'5543A233E8AE49F17DC058ABCC89507E', 6, NULL);
INSERT INTO filtered_names VALUES (0, X'74DD1EF2AD0706D6ABFB03DFE3E69BDE', 6, 1, X'9ACB4BB3DEA1F1C0DB7904782A5CE1A9');
INSERT INTO filtered_names VALUES (0, X'9B5A8DFCA2229BD05E040DA8ABC2F2B2', 1, 1, X'3A29E2734E8BA0CBF18AF31E110311EC');
INSERT INTO filtered_names VALUES (4, X'1AAF77AA72337052043C5B40C9DFFF36', 6, 3, X'876C955C032BBB995D362F3E299E84B5');
INSERT INTO filtered_names VALUES (4, X'339548C9DB5334FD38A207D06A426293', 1, 3, X'3AFACDF361055B526B32A535F21B70D7');
INSERT INTO filtered_names VALUES (4, X'3D2D28F24CD0A3FDF6A04C25D032EAA3', 5, 3, X'FA603916EA3660CA5C417964C7715BFB');
INSERT INTO filtered_names VALUES (4, X'A2E7A76D7902C52BD61C0D3396D0FD9F', 1, 5, X'7C9DE0217E97CF16CCBC95954340E5EA');
INSERT INTO filtered_names VALUES (4, X'A2E7A76D7902C52BD61C0D3396D0FD9F', 5, 5, X'7C9DE0217E97CF16CCBC95954340E5EA');
INSERT INTO filtered_names VALUES (4, X'A2E7A76D7902C52BD61C0D3396D0FD9F', 6, 5, X'7C9DE0217E97CF16CCBC95954340E5EA');
INSERT INTO filtered_rows VALUES ('app_groups(0oa1)', 6, 1, X'3A3000000100000000000000100000000300');
INSERT INTO filtered_rows VALUES ('app_users(0oa1)', 5, 2, X'3A30000001000000000001001000000001000600');
INSERT INTO filtered_rows VALUES ('apps', 3, 1, X'3A3000000100000000000000100000000400');
INSERT INTO filtered_rows VALUES ('group_members(00g2)', 4, 1, X'3A3000000100000000000000100000000100');
INSERT INTO filtered_rows VALUES ('groups', 2, 2, X'3A30000001000000000001001000000002000300');
INSERT INTO filtered_rows VALUES ('users', 1, 1, X'3A3000000100000000000000100000000100');
INSERT INTO undecided VALUES ('app_users(0oa1)', 1, '00u5', 4);
INSERT INTO undecided VALUES ('group_members(00g2)', 1, '00u6', 7);

//! Single promises of the store, one test each.
//!
//! Entry points: the tests; `check` is their one assertion on what is stored.

use std::path::Path;

use okta_idmap::core::batch::{Batch, CrawlMark, Listing, Position, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind};
use okta_idmap::core::ids::{AppId, CrawlId, GroupId, RequestNumber, Revision, Timestamp, UserId};
use okta_idmap::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Key, Quarantined,
    Row, Scope, User, UserStatus,
};
use okta_idmap::core::reconcile::{Brake, Verdict};
use okta_idmap::store::{ChangeOp, ChangeRetention, STORE_FILE, Store, StoreConfig, StoreError};

use super::{commit, wait};

pub(super) fn user_id(n: usize) -> UserId {
    UserId::new(&format!("00u{n:04}")).unwrap()
}

pub(super) fn app_id() -> AppId {
    AppId::new("0oa1").unwrap()
}

pub(super) fn group_id() -> GroupId {
    GroupId::new("00g1").unwrap()
}

pub(super) fn user(n: usize) -> Row {
    Row::User(User {
        id: user_id(n),
        status: UserStatus::Active,
        login: Some(format!("user{n}@example.com").into()),
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

pub(super) fn app(label: &str) -> Row {
    Row::App(App {
        id: app_id(),
        name: "jira".into(),
        label: label.into(),
        status: AppStatus::Active,
        sign_on_mode: None,
        features: vec!["PUSH_NEW_USERS".into()],
        credential_scheme: None,
        shared_user_name: None,
        user_name_template: None,
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    })
}

pub(super) fn group(name: &str, group_type: GroupType) -> Row {
    Row::Group(Group {
        id: group_id(),
        name: name.into(),
        description: None,
        group_type,
        source_app: Some(app_id()),
        created: None,
        last_updated: None,
        last_membership_updated: None,
    })
}

pub(super) fn app_user(n: usize) -> Row {
    Row::AppUser(AppUser {
        app: app_id(),
        user: user_id(n),
        user_name: Some(format!("user{n}").into()),
        external_id: None,
        email: None,
        status: AppUserStatus::Active,
        scope: AssignmentScope::Group,
        sync_state: None,
        via_group: Some(group_id()),
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

pub(super) fn app_group() -> Row {
    Row::AppGroup(AppGroup { app: app_id(), group: group_id(), priority: Some(1), last_updated: None })
}

pub(super) fn member(n: usize) -> Row {
    Row::GroupMember(GroupMember { group: group_id(), user: user_id(n) })
}

pub(super) fn open(dir: &Path, credential: &str) -> Store {
    let config = StoreConfig {
        dir: dir.to_owned(),
        brake: Brake::default(),
        credential: credential.to_owned(),
        changes: ChangeRetention::default(),
        filter: okta_idmap::core::filter::Filter::default(),
    };
    Store::open(config).unwrap()
}

pub(super) fn batch(at: u64, rows: Vec<Row>) -> Batch {
    Batch { now: Timestamp::from_millis(1_770_000_000_000), at: RequestNumber(at), rows, ..Batch::default() }
}

pub(super) fn finished(mut batch: Batch, scope: Scope, from: u64) -> Batch {
    batch.walks.push(WalkUpdate {
        scope,
        state: WalkState::Finished {
            from: RequestNumber(from),
            began: Timestamp::default(),
            known_empty: false,
            ended: Vec::new(),
        },
    });
    batch
}

pub(super) fn walking(mut batch: Batch, scope: Scope, from: u64, page: u32) -> Batch {
    let next = format!("https://x.example/?page={page}");
    let position = Position {
        next,
        page,
        rows: 1,
        from: RequestNumber(from),
        began: Timestamp::default(),
        listing: Listing::Usual,
    };
    batch.walks.push(WalkUpdate { scope, state: WalkState::Walking(position) });
    batch
}

/// Commits one batch; returns the verdicts of the walks that it finished.
#[track_caller]
fn put(store: &Store, batch: Batch) -> Vec<Verdict> {
    let receipt = commit(store, &[batch]).remove(0).unwrap();
    receipt.finished.into_iter().map(|finished| finished.verdict).collect()
}

#[track_caller]
pub(super) fn check_users(store: &Store, expected: usize) {
    let users = store.reader.read(|snapshot| snapshot.users(None, 100_000)).unwrap();
    assert_eq!(users.rows.len(), expected, "users");
}

#[track_caller]
pub(super) fn check_open_gaps(store: &Store, expected: &[&str]) {
    let gaps = store.reader.read(|snapshot| snapshot.gaps(true, 100)).unwrap();
    let ids: Vec<String> = gaps.iter().map(|record| record.gap.id().to_string()).collect();
    assert_eq!(ids, expected, "open gaps");
}

/// Everything in the file, read beside the store: one line a row.
#[expect(clippy::disallowed_methods, reason = "reads the file beside the store")]
pub(super) fn dump(dir: &Path) -> Vec<String> {
    let sql = rusqlite::Connection::open(dir.join(STORE_FILE)).unwrap();
    let mut lines = Vec::new();
    let mut tables = sql.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
    let names: Vec<String> = tables.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    for name in names {
        let mut select = sql.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = select.column_count();
        let mut rows = select.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<String> = (0..columns).map(|n| format!("{:?}", row.get_ref(n).unwrap())).collect();
            lines.push(format!("{name}: {}", values.join(", ")));
        }
    }
    lines
}

fn one_of_each() -> Vec<Row> {
    vec![user(1), group("Eng", GroupType::OktaGroup), app("Jira"), member(1), app_user(1), app_group()]
}

#[test]
#[expect(clippy::disallowed_methods, reason = "looks at the file beside the store")]
fn an_unchanged_page_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, batch(1, one_of_each()));
    let beside = rusqlite::Connection::open(dir.path().join(STORE_FILE)).unwrap();
    let version = || -> i64 { beside.pragma_query_value(None, "data_version", |row| row.get(0)).unwrap() };
    let before = (version(), dump(dir.path()));
    put(&store, batch(2, one_of_each()));
    put(&store, batch(1, one_of_each()));
    assert!((version(), dump(dir.path())) == before, "nothing at all is written");
    // A page of a walk moves the walk and nothing else.
    put(&store, walking(batch(3, vec![user(1)]), Scope::Users, 3, 1));
    let without_books = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| !line.starts_with("scopes") && !line.starts_with("walk_seen")).collect()
    };
    assert_eq!(without_books(dump(dir.path())), without_books(before.1));
    assert_eq!(*store.reader.revisions().borrow(), Revision(1));
    put(&store, batch(4, vec![app("Jira Cloud")]));
    assert!(version() > before.0, "a change is seen by this test's eyes");
}

#[test]
fn a_refused_batch_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let begin = |id| Some(CrawlMark::Begin { id: CrawlId(id), fingerprint: "f".to_owned() });
    put(&store, Batch { crawl: begin(2), ..batch(1, one_of_each()) });
    let before = dump(dir.path());
    let everything = |crawl| Batch {
        rows: vec![user(2), app("Other")],
        removals: vec![Key::User(user_id(1))],
        quarantined: vec![Quarantined { scope: Scope::Users, id: None, reason: "no id".to_owned() }],
        walks: vec![WalkUpdate {
            scope: Scope::Users,
            state: WalkState::Finished {
                from: RequestNumber(9),
                began: Timestamp::default(),
                known_empty: false,
                ended: Vec::new(),
            },
        }],
        gaps: vec![Gap { scope: Scope::Apps, kind: GapKind::Failed, evidence: "503".to_owned() }],
        crawl,
        ..batch(9, Vec::new())
    };
    for crawl in [begin(1), begin(2), Some(CrawlMark::End { id: CrawlId(1) }), Some(CrawlMark::End { id: CrawlId(3) })]
    {
        let mut outcomes = commit(&store, &[everything(crawl)]);
        assert!(matches!(outcomes.remove(0), Err(StoreError::Mismatch { .. })));
        assert_eq!(dump(dir.path()), before);
        check_open_gaps(&store, &[]);
    }
    // A refused batch does not take those with it that were queued beside it.
    let outcomes = commit(&store, &[batch(10, vec![user(3)]), everything(begin(1)), batch(11, vec![user(4)])]);
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    check_users(&store, 3);
    put(&store, Batch { crawl: Some(CrawlMark::End { id: CrawlId(2) }), ..batch(12, Vec::new()) });
    let again = Batch { crawl: Some(CrawlMark::End { id: CrawlId(2) }), ..batch(13, Vec::new()) };
    assert!(commit(&store, &[again]).remove(0).is_err(), "a crawl ends once");
}

#[test]
fn a_late_removal_does_not_remove_what_was_shown_since() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, batch(10, one_of_each()));
    for key in one_of_each().iter().map(Row::key) {
        put(&store, Batch { removals: vec![key], ..batch(9, Vec::new()) });
    }
    assert_eq!(*store.reader.revisions().borrow(), Revision(1), "nothing changed");
    put(&store, Batch { removals: vec![Key::App(app_id())], ..batch(10, Vec::new()) });
    let rows = store.reader.read(|snapshot| snapshot.meta()).unwrap().rows;
    assert_eq!(rows.values().sum::<u64>(), 3, "the app with its app user and app group is gone: {rows:?}");
}

#[test]
fn rows_that_could_not_be_read_are_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let all = || (0..10).map(user).collect::<Vec<_>>();
    assert_eq!(put(&store, finished(batch(1, all()), Scope::Users, 1)), [Verdict::Nothing]);
    let quarantined = |id: Option<&str>| {
        vec![Quarantined { scope: Scope::Users, id: id.map(Into::into), reason: "no status".to_owned() }]
    };
    // User 0 is there, but cannot be read; user 1 is really gone. The bad record stood on an earlier page.
    let named = Batch { quarantined: quarantined(Some("00u0000")), ..batch(2, vec![user(2)]) };
    put(&store, walking(named, Scope::Users, 2, 1));
    let rest = (3..10).map(user).collect();
    let done = commit(&store, &[finished(batch(3, rest), Scope::Users, 2)]).remove(0).unwrap().finished.remove(0);
    assert_eq!((done.verdict, done.unlisted), (Verdict::Ask, vec![Key::User(user_id(1))]));
    put(&store, Batch { removals: vec![Key::User(user_id(1))], ..batch(3, Vec::new()) });
    check_users(&store, 9);
    check_open_gaps(&store, &["FAILED:users"]);
    // A record without an id may be anybody.
    let nameless = Batch { quarantined: quarantined(None), ..batch(4, vec![user(2)]) };
    assert_eq!(put(&store, finished(nameless, Scope::Users, 4)), [Verdict::HoldUnreadable]);
    check_users(&store, 9);
    check_open_gaps(&store, &["FAILED:users"]);
    // A walk that can read everything ends it, but for those whom it does not show: they are asked for.
    let rest = (2..10).map(user).collect();
    assert_eq!(put(&store, finished(batch(5, rest), Scope::Users, 5)), [Verdict::Ask]);
    check_users(&store, 9);
    check_open_gaps(&store, &["FAILED:users"]);
    put(&store, Batch { removals: vec![Key::User(user_id(0))], ..batch(6, Vec::new()) });
    check_open_gaps(&store, &[]);
    assert_eq!(store.reader.read(|snapshot| snapshot.quarantined(10)).unwrap(), []);
}

#[test]
fn more_bad_records_than_are_kept_keep_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, finished(batch(1, (0..1_200).map(user).collect()), Scope::Users, 1));
    let quarantined = (0..1_100)
        .map(|n| Quarantined {
            scope: Scope::Users,
            id: Some(user_id(n).as_str().into()),
            reason: "no status".to_owned(),
        })
        .collect();
    let bad = Batch { quarantined, ..batch(2, Vec::new()) };
    assert_eq!(put(&store, finished(bad, Scope::Users, 2)), [Verdict::HoldUnreadable]);
    check_users(&store, 1_200);
    let kept = store.reader.read(|snapshot| snapshot.quarantined(10_000)).unwrap();
    assert_eq!(kept.len(), 1_000, "the number of bad records is bounded");
}

#[test]
fn new_rows_do_not_release_the_brake() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, finished(batch(1, (0..100).map(user).collect()), Scope::Users, 1));
    // All that was known is gone, and a thousand others are shown instead.
    let others = (1_000..2_000).map(user).collect();
    assert_eq!(put(&store, finished(batch(2, others), Scope::Users, 2)), [Verdict::HoldShrunk]);
    check_users(&store, 1_100);
    let all = (0..100).chain(1_000..2_000).map(user).collect();
    assert_eq!(put(&store, finished(batch(3, all), Scope::Users, 3)), [Verdict::Nothing]);
    check_open_gaps(&store, &[]);
}

#[test]
fn a_walk_of_another_credential_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let scope = || Scope::AppUsers(app_id());
    let store = open(dir.path(), "a");
    // The first walk did not come to its end before the credential changed.
    let todo = vec![WalkUpdate { scope: scope(), state: WalkState::Todo }];
    put(&store, Batch { walks: todo, ..batch(1, vec![app("Jira")]) });
    put(&store, walking(batch(2, (0..10).map(app_user).collect()), scope(), 2, 1));
    drop(store);
    let store = open(dir.path(), "b");
    let at = store.writer.first_request_number().0;
    let fewer = || (0..9).map(app_user).collect();
    assert_eq!(put(&store, finished(batch(at, fewer()), scope(), at)), [Verdict::HoldCredential]);
    check_open_gaps(&store, &["HELD:app_users(0oa1)"]);
    // Asking again does not end the hold; seeing everything does.
    assert_eq!(put(&store, finished(batch(at + 1, fewer()), scope(), at + 1)), [Verdict::HoldCredential]);
    let all = (0..10).map(app_user).collect();
    assert_eq!(put(&store, finished(batch(at + 2, all), scope(), at + 2)), [Verdict::Nothing]);
    assert_eq!(put(&store, finished(batch(at + 3, fewer()), scope(), at + 3)), [Verdict::Confirm]);
    check_open_gaps(&store, &[]);
}

#[test]
fn a_new_label_is_not_forgotten_within_one_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, batch(1, vec![app("Jira")]));
    let relabelled = app("Jira Cloud");
    let mut inactive = relabelled.clone();
    if let Row::App(app) = &mut inactive {
        app.status = AppStatus::Inactive;
    }
    put(&store, batch(2, vec![relabelled, inactive]));
    let changes = store.reader.read(|snapshot| snapshot.changes_after(Revision(1), 10)).unwrap();
    assert_eq!(changes.iter().map(|change| change.op).collect::<Vec<_>>(), [ChangeOp::Relabelled]);
}

#[test]
fn everyone_grants_only_to_listed_users() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, batch(1, vec![user(1), group("Everyone", GroupType::BuiltIn), app("Jira"), app_group(), app_user(2)]));
    let check = |n: usize, expected: usize| {
        let id = user_id(n);
        let counts = store
            .reader
            .read(|snapshot| {
                let is_member = usize::from(snapshot.is_member(&group_id(), &id)?);
                Ok([
                    snapshot.granting_groups(&app_id(), &id)?.len(),
                    snapshot.groups_of(&id, None, 9)?.rows.len(),
                    is_member,
                ])
            })
            .unwrap();
        assert_eq!(counts, [expected; 3], "{id}");
    };
    check(1, 1);
    check(2, 0); // Has an account, but the user list does not show it.
}

#[test]
fn a_store_belongs_to_one_org() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    wait(store.writer.bind_org("00o1".to_owned())).unwrap();
    wait(store.writer.bind_org("00o1".to_owned())).unwrap();
    let error = wait(store.writer.bind_org("00o2".to_owned())).unwrap_err();
    assert!(matches!(error, StoreError::Mismatch { .. }));
    assert!(error.to_string().contains("use another data directory"), "{error}");
    drop(store);
    let store = open(dir.path(), "a");
    assert!(wait(store.writer.bind_org("00o2".to_owned())).is_err(), "after a restart too");
    assert_eq!(store.reader.read(|snapshot| snapshot.meta()).unwrap().org_id.as_deref(), Some("00o1"));
}

#[test]
fn what_was_acknowledged_survives_and_other_processes_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, finished(batch(1, (0..5).map(user).collect()), Scope::Users, 1));
    // Beside the running writer.
    let reader = okta_idmap::store::Reader::open(dir.path()).unwrap();
    assert_eq!(reader.read(|snapshot| Ok(snapshot.revision())).unwrap(), Revision(1));
    assert!(reader.coverage().is_complete(&Scope::Users));
    put(&store, batch(2, vec![user(9)]));
    assert_eq!(reader.read(|snapshot| Ok(snapshot.users(None, 100)?.rows.len())).unwrap(), 6);
    // What lies on the disk at this moment is what a killed process leaves behind.
    let crashed = tempfile::tempdir().unwrap();
    for file in [STORE_FILE.to_owned(), format!("{STORE_FILE}-wal")] {
        std::fs::copy(dir.path().join(&file), crashed.path().join(&file)).unwrap();
    }
    let reopened = open(crashed.path(), "a");
    check_users(&reopened, 6);
    assert_eq!(*reopened.reader.revisions().borrow(), Revision(2));
    assert!(reopened.writer.first_request_number() > store.writer.first_request_number());
    let id = |store: &Store| store.reader.read(|snapshot| snapshot.meta()).unwrap().store_id;
    assert_eq!(id(&reopened), id(&store));
}

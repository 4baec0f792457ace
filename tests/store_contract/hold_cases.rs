//! Promises about holds, gaps and the change log, one test each.
//!
//! Entry points: the tests; [`held_users`] makes a store with a hold.

use okta_idmap::core::batch::{Batch, CrawlMark, Finished, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind};
use okta_idmap::core::ids::{CrawlId, RequestNumber, Revision, Timestamp};
use okta_idmap::core::model::{Key, Row, Scope};
use okta_idmap::core::reconcile::{Brake, Verdict};
use okta_idmap::store::{ChangeRetention, ReleaseError, Store, StoreConfig};

use super::cases::{
    app, app_id, app_user, batch, check_open_gaps, check_users, finished, group_id, open, user, user_id, walking,
};
use super::{commit, wait};

const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);

#[track_caller]
fn put(store: &Store, batch: Batch) -> Vec<Finished> {
    commit(store, &[batch]).remove(0).unwrap().finished
}

fn walk(scope: Scope, state: WalkState) -> Vec<WalkUpdate> {
    vec![WalkUpdate { scope, state }]
}

fn gap(scope: Scope, kind: GapKind) -> Gap {
    Gap { scope, kind, evidence: "told by the probes".to_owned() }
}

fn known_empty(at: u64, scope: Scope) -> Batch {
    let state = WalkState::Finished { from: RequestNumber(at), began: NOW, known_empty: true, ended: Vec::new() };
    Batch { walks: walk(scope, state), ..batch(at, Vec::new()) }
}

fn held(store: &Store) -> Vec<(String, u64)> {
    let held = store.reader.read(|snapshot| snapshot.held()).unwrap();
    held.into_iter().map(|(scope, missing, _)| (scope.name(), missing)).collect()
}

fn release(store: &Store, at: u64, scope: Scope) -> Vec<Finished> {
    put(store, Batch { walks: walk(scope, WalkState::Released), ..batch(at, Vec::new()) })
}

/// 100 users, of whom the last walk, which began with request 10, has shown the first 40 in two pages.
fn held_users() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, finished(batch(1, (0..100).map(user).collect()), Scope::Users, 1));
    put(&store, walking(batch(10, (0..20).map(user).collect()), Scope::Users, 10, 1));
    let done = put(&store, finished(batch(11, (20..40).map(user).collect()), Scope::Users, 10)).remove(0);
    assert_eq!((done.verdict, done.missing, done.stored, done.removed), (Verdict::HoldShrunk, 60, 100, 0));
    let sample = [40, 54, 69, 84, 99].map(|n| Key::User(user_id(n)));
    assert_eq!(done.sample, sample, "spread over the missing rows");
    check_open_gaps(&store, &[]); // Nothing is said before the probes.
    put(&store, Batch { gaps: vec![gap(Scope::Users, GapKind::Held)], ..batch(11, Vec::new()) });
    assert_eq!(held(&store), [("users".to_owned(), 60)]);
    (dir, store)
}

#[test]
fn a_hold_is_released_by_what_is_missing_then() {
    let (dir, store) = held_users();
    // Probes: user 50 is there after all, and so is user 60, read by hints in the meantime.
    put(&store, Batch { is_reread: true, ..batch(12, vec![user(50), user(60)]) });
    put(&store, Batch { removals: vec![Key::User(user_id(40))], ..batch(13, Vec::new()) });
    assert_eq!(held(&store), [("users".to_owned(), 57)]);
    drop(store);
    let store = open(dir.path(), "b");
    let done = release(&store, 14, Scope::Users).remove(0);
    assert_eq!((done.verdict, done.missing, done.removed), (Verdict::Nothing, 0, 57));
    check_users(&store, 42);
    check_open_gaps(&store, &[]);
    assert_eq!(held(&store), []);
    assert_eq!(release(&store, 15, Scope::Users), [], "released once");
    // The rows that are left count as read with the present credential.
    let at = store.writer.first_request_number().0;
    let rows = (1..40).chain([50, 60]).map(user).collect();
    assert_eq!(put(&store, finished(batch(at, rows), Scope::Users, at))[0].verdict, Verdict::Ask);
}

#[test]
fn an_operator_releases_what_was_shown() {
    let (_dir, store) = held_users();
    let order = |scope, missing| wait(store.writer.release_hold(scope, missing, NOW));
    assert!(matches!(order(Scope::Groups, 0), Err(ReleaseError::NotHeld)));
    assert!(matches!(order(Scope::Users, 59), Err(ReleaseError::Changed { missing: 60 })));
    check_users(&store, 100);
    let before = *store.reader.revisions().borrow();
    let done = order(Scope::Users, 60).unwrap();
    assert_eq!((done.verdict, done.removed), (Verdict::Nothing, 60));
    assert_eq!(store.reader.revisions().borrow().0, before.0 + 1, "one revision, published before the answer");
    check_users(&store, 40);
    check_open_gaps(&store, &[]);
    assert!(matches!(order(Scope::Users, 60), Err(ReleaseError::NotHeld)));
}

#[test]
fn a_hold_stands_until_the_next_walk_of_its_scope_begins() {
    #[track_caller]
    fn check(state: Option<WalkState>, expected: &[(String, u64)]) {
        let (_dir, store) = held_users();
        let crawl = Some(CrawlMark::Begin { id: CrawlId(5), fingerprint: "f".to_owned() });
        put(&store, Batch { crawl, ..batch(20, Vec::new()) });
        assert_eq!(held(&store), [("users".to_owned(), 60)], "a new crawl alone says nothing of it");
        let walks = state.map(|state| walk(Scope::Users, state)).unwrap_or_default();
        put(&store, Batch { walks, ..batch(21, Vec::new()) });
        assert_eq!(held(&store), expected);
        check_open_gaps(&store, &["HELD:users"]);
        assert_eq!(release(&store, 22, Scope::Users).len(), expected.len());
    }
    check(None, &[("users".to_owned(), 60)]);
    check(Some(WalkState::Todo), &[]);
    check(Some(WalkState::GivenUp), &[]);
    // Pages of the walk before do not count as shown by the new one.
    let (_dir, store) = held_users();
    put(&store, walking(batch(20, (0..10).map(user).collect()), Scope::Users, 20, 2));
    let done = put(&store, finished(batch(21, Vec::new()), Scope::Users, 20)).remove(0);
    assert_eq!((done.verdict, done.missing), (Verdict::HoldShrunk, 90));
    let done = put(&store, finished(batch(22, vec![user(1)]), Scope::Users, 22)).remove(0);
    assert_eq!((done.verdict, done.missing), (Verdict::HoldShrunk, 99));
    let done = put(&store, finished(batch(23, (0..100).map(user).collect()), Scope::Users, 23)).remove(0);
    assert_eq!((done.verdict, done.missing), (Verdict::Nothing, 0));
    check_open_gaps(&store, &[]);
    assert_eq!(held(&store), []);
}

#[test]
fn an_empty_list_is_held_unless_something_else_says_so() {
    let scope = || Scope::AppUsers(app_id());
    let stored = || {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, finished(batch(1, vec![app_user(1), app_user(2)]), scope(), 1));
        (dir, store)
    };
    let check = |batch: Batch, verdict: Verdict, gaps: &[&str]| {
        let (_dir, store) = stored();
        let done = put(&store, batch).remove(0);
        assert_eq!(done.verdict, verdict);
        check_open_gaps(&store, gaps);
        done
    };
    let done = check(finished(batch(2, Vec::new()), scope(), 2), Verdict::HoldEmpty, &[]);
    assert_eq!((done.missing, done.stored, done.sample.len()), (2, 2, 2));
    check(known_empty(2, scope()), Verdict::Confirm, &[]);
    check(finished(batch(2, vec![app_user(3)]), scope(), 2), Verdict::Confirm, &[]); // Others are shown: it is not empty.
    // A record that a filter drops is a record.
    let dropped = Batch { removals: vec![Key::AppUser(app_id(), user_id(1))], ..batch(2, Vec::new()) };
    check(finished(dropped, scope(), 2), Verdict::Confirm, &[]);
    // Earlier pages count; what hints have read meanwhile does not.
    let (_dir, store) = stored();
    put(&store, Batch { is_reread: true, ..batch(5, vec![app_user(4)]) });
    assert_eq!(put(&store, finished(batch(6, Vec::new()), scope(), 3))[0].verdict, Verdict::HoldEmpty);
    // It does not end its gap by repetition; a list that is not empty does, and so does a release.
    put(&store, Batch { gaps: vec![gap(scope(), GapKind::EmptySuspect)], ..batch(6, Vec::new()) });
    assert_eq!(put(&store, finished(batch(7, Vec::new()), scope(), 7))[0].verdict, Verdict::HoldEmpty);
    check_open_gaps(&store, &["EMPTY_SUSPECT:app_users(0oa1)"]);
    assert_eq!(release(&store, 8, scope())[0].removed, 3);
    check_open_gaps(&store, &[]);
    put(&store, walking(batch(9, vec![app_user(1)]), scope(), 9, 1));
    assert_eq!(put(&store, finished(batch(10, Vec::new()), scope(), 9))[0].verdict, Verdict::Nothing);
}

#[test]
fn an_emptied_list_that_is_known_to_be_empty_still_meets_the_brake() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, finished(batch(1, (0..100).map(app_user).collect()), Scope::AppUsers(app_id()), 1));
    let done = put(&store, known_empty(2, Scope::AppUsers(app_id()))).remove(0);
    assert_eq!((done.verdict, done.missing), (Verdict::HoldShrunk, 100));
}

#[test]
fn released_apps_are_asked_for_by_id() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, finished(batch(1, vec![app("Jira")]), Scope::Apps, 1));
    let done = put(&store, finished(batch(2, Vec::new()), Scope::Apps, 2)).remove(0);
    assert_eq!((done.verdict, done.sample, done.unlisted), (Verdict::HoldEmpty, vec![Key::App(app_id())], vec![]));
    let done = release(&store, 3, Scope::Apps).remove(0);
    assert_eq!((done.verdict, done.removed, done.unlisted), (Verdict::Nothing, 0, vec![Key::App(app_id())]));
    check_open_gaps(&store, &[]);
}

#[test]
fn a_good_read_by_id_does_not_close_the_gap_of_a_list() {
    #[track_caller]
    fn check(state: WalkState, kind: GapKind, is_closed: bool) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        let gap = Gap { scope: Scope::Users, kind, evidence: "503".to_owned() };
        put(&store, Batch { walks: walk(Scope::Users, state), gaps: vec![gap], ..batch(1, Vec::new()) });
        put(&store, Batch { closed_gaps: vec![(Scope::Users, kind)], ..batch(2, vec![user(1)]) });
        let is_open = !store.reader.read(|snapshot| snapshot.gaps(true, 10)).unwrap().is_empty();
        assert_eq!(!is_open, is_closed);
    }
    let done = || WalkState::Finished { from: RequestNumber(1), began: NOW, known_empty: false, ended: Vec::new() };
    for kind in [GapKind::Failed, GapKind::Forbidden, GapKind::ScopeMissing] {
        check(WalkState::GivenUp, kind, false);
        check(WalkState::Todo, kind, false);
        check(done(), kind, true);
    }
    check(WalkState::GivenUp, GapKind::Unauthorized, true);
    check(WalkState::GivenUp, GapKind::ImplicitAssignment, true);
}

#[test]
fn gaps_are_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let gap = |evidence: &str| vec![Gap { scope: Scope::Users, kind: GapKind::Failed, evidence: evidence.to_owned() }];
    let changes = |after| {
        let changes = store.reader.read(|snapshot| snapshot.gap_changes_after(Revision(after), 10)).unwrap();
        changes.into_iter().map(|c| (c.revision.0, c.kind.name(), c.scope, c.opened)).collect::<Vec<_>>()
    };
    put(&store, Batch { gaps: gap("503"), ..batch(1, Vec::new()) });
    put(&store, Batch { gaps: gap("504"), ..batch(2, Vec::new()) }); // Only confirmed.
    let opened = (1, "FAILED", Scope::Users, true);
    assert_eq!(changes(0), std::slice::from_ref(&opened));
    // A walk that finds it again does not close it in between.
    put(&store, Batch { gaps: gap("503"), ..finished(batch(3, Vec::new()), Scope::Users, 3) });
    assert_eq!(changes(0), std::slice::from_ref(&opened));
    put(&store, finished(batch(4, Vec::new()), Scope::Users, 4));
    assert_eq!(changes(0), [opened, (2, "FAILED", Scope::Users, false)]);
    // Those of an app that is gone close with it.
    let of_app = vec![Gap { scope: Scope::AppUsers(app_id()), kind: GapKind::Forbidden, evidence: String::new() }];
    put(&store, Batch { gaps: of_app, ..batch(5, vec![app("Jira")]) });
    put(&store, Batch { removals: vec![Key::App(app_id())], ..batch(6, Vec::new()) });
    assert_eq!(changes(3), [(4, "FORBIDDEN", Scope::AppUsers(app_id()), false)]);
}

#[test]
fn old_changes_go_by_age_and_by_number() {
    fn store_with(dir: &std::path::Path, changes: ChangeRetention) -> Store {
        let config = StoreConfig {
            dir: dir.to_owned(),
            brake: Brake::default(),
            credential: "a".to_owned(),
            changes,
            filter: okta_idmap::core::filter::Filter::default(),
        };
        Store::open(config).unwrap()
    }
    /// Makes revisions at these minutes, each of so many lines; returns `changes_from` and the lines that are left.
    #[track_caller]
    fn check(changes: ChangeRetention, minutes: &[i64], lines: usize, expected: (u64, usize)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store_with(dir.path(), changes);
        for (number, minute) in (1_u64..).zip(minutes) {
            let rows: Vec<Row> = (0..lines).map(|n| user(n + lines * usize::try_from(number).unwrap())).collect();
            put(&store, Batch { now: NOW.plus_millis(minute * 60_000), ..batch(number, rows) });
            if number == 3 {
                drop(store);
                store = store_with(dir.path(), changes); // What is needed for it is stored.
            }
        }
        let left = store.reader.read(|snapshot| {
            let from = snapshot.meta()?.changes_from;
            Ok((from.0, snapshot.changes_after(Revision(0), 1_000_000)?.len()))
        });
        assert_eq!(left.unwrap(), expected);
    }
    let age = |minutes: i64| ChangeRetention { age_millis: minutes * 60_000, rows_max: 1_000_000 };
    let number = |rows_max| ChangeRetention { age_millis: i64::MAX / 2, rows_max };
    check(age(10), &[0, 1, 2, 3, 4], 5, (0, 25));
    check(age(10), &[0, 1, 2, 3, 12], 5, (3, 10));
    check(age(10), &[0, 0, 0, 3, 12], 5, (1, 20)); // Only about one revision a minute has a time.
    check(number(12), &[0, 1, 2, 3, 4], 5, (3, 10));
    check(number(25), &[0, 1, 2, 3, 4], 5, (0, 25));
    check(number(3), &[0, 1, 2, 3, 4], 5, (4, 5)); // The newest stays.
    // More lines than one transaction deletes: the rest goes with the next ones.
    check(age(10), &[0, 1, 2, 30, 30], 11_000, (2, 33_000));
}

#[test]
fn a_release_of_what_never_was_a_row_forgets_the_lists_below_it() {
    #[track_caller]
    fn check(object: Scope, list: Scope) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        let walks = walk(list, WalkState::Todo);
        put(&store, Batch { walks, gaps: vec![gap(object.clone(), GapKind::UnseenReference)], ..batch(1, Vec::new()) });
        let scopes = || store.reader.read(|snapshot| snapshot.scopes(10)).unwrap().len();
        assert_eq!(scopes(), 1);
        wait(store.writer.release_hold(object, 1, NOW)).unwrap();
        assert_eq!(scopes(), 0);
        check_open_gaps(&store, &[]);
    }
    check(Scope::Group(group_id()), Scope::GroupMembers(group_id()));
    check(Scope::App(app_id()), Scope::AppUsers(app_id()));
    check(Scope::App(app_id()), Scope::AppGroups(app_id()));
}

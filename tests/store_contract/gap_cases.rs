//! Promises about gaps: those of single objects, their history, their age, and reads that are owed because of them.
//!
//! Entry points: the tests; [`check_history`] says what is remembered of one gap.

use std::collections::BTreeSet;

use okta_idmap::core::batch::{Batch, CrawlMark, CursorMove, Listing, Position, Receipt, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Asked, Gap, GapKind, GapRecord};
use okta_idmap::core::ids::{CrawlId, GroupId, LogCursor, RequestNumber, Timestamp};
use okta_idmap::core::model::{GroupType, Key, Row, Scope};
use okta_idmap::core::pending::{Answered, Patience, PendingRead, Target, When};
use okta_idmap::core::reconcile::Verdict;
use okta_idmap::store::{Ages, ReleaseError, Store};

use super::cases::{
    app, app_group, app_id, app_user, batch, check_open_gaps, finished, group, group_id, member, open, user, user_id,
};
use super::{commit, wait};

const DAY_MILLIS: i64 = 86_400_000;

/// The time of [`batch`] and some days.
fn day(days: i64) -> Timestamp {
    Timestamp::from_millis(1_770_000_000_000 + days * DAY_MILLIS)
}

#[track_caller]
fn put(store: &Store, batch: Batch) -> Receipt {
    commit(store, &[batch]).remove(0).unwrap()
}

fn on(days: i64, batch: Batch) -> Batch {
    Batch { now: day(days), ..batch }
}

fn gap(scope: Scope, kind: GapKind) -> Gap {
    Gap { scope, kind, evidence: "404".to_owned() }
}

fn user_scope(n: usize) -> Scope {
    Scope::User(user_id(n))
}

fn unseen(scope: Scope) -> Vec<Gap> {
    vec![gap(scope, GapKind::UnseenReference)]
}

fn records(store: &Store) -> Vec<GapRecord> {
    store.reader.read(|snapshot| snapshot.gaps(false, 100_000)).unwrap()
}

fn debts(store: &Store) -> Vec<PendingRead> {
    store.reader.read(|snapshot| snapshot.pending_reads()).unwrap()
}

/// Targets of debts; those that are known to be gone are marked.
fn names(debts: &[PendingRead]) -> Vec<String> {
    debts.iter().map(|debt| format!("{}{}", debt.target, if debt.announced { " gone" } else { "" })).collect()
}

fn rows(store: &Store) -> u64 {
    store.reader.read(|snapshot| snapshot.meta()).unwrap().rows.values().sum()
}

fn begin(id: u64) -> Option<CrawlMark> {
    Some(CrawlMark::Begin { id: CrawlId(id), fingerprint: "f".to_owned() })
}

fn end(id: u64) -> Option<CrawlMark> {
    Some(CrawlMark::End { id: CrawlId(id) })
}

#[test]
fn a_gap_of_an_object_ends_when_it_is_shown_or_gone() {
    #[track_caller]
    fn check(kind: GapKind, after: Batch, expected: &[&str]) {
        for is_restarted in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut store = open(dir.path(), "a");
            put(&store, Batch { gaps: vec![gap(user_scope(1), kind)], ..batch(10, vec![user(1), user(2)]) });
            check_open_gaps(&store, &[&format!("{}:user(00u0001)", kind.name())]);
            if is_restarted {
                drop(store);
                store = open(dir.path(), "a");
            }
            put(&store, after.clone());
            check_open_gaps(&store, expected);
            let coverage = store.reader.coverage();
            let asked = Asked { with_objects: true, ..Asked::default() };
            assert_eq!(coverage.open_gaps(), expected.len());
            let of_users = coverage.completeness(asked, [&Scope::Users]);
            assert_eq!(of_users.gap_ids().len(), 1 + expected.len(), "never read, and {expected:?}");
        }
    }
    const OPEN: &[&str] = &["UNSEEN_REFERENCE:user(00u0001)"];
    let removal = |at| Batch { removals: vec![Key::User(user_id(1))], ..batch(at, Vec::new()) };
    let kind = GapKind::UnseenReference;
    check(kind, batch(11, vec![user(1)]), &[]); // Unchanged, and shown all the same.
    check(kind, batch(11, vec![user(2), member(1), app_user(1)]), OPEN); // What hangs on it does not show it.
    check(kind, batch(9, vec![user(1)]), OPEN); // Something newer is known.
    check(kind, Batch { gaps: unseen(user_scope(1)), ..batch(11, vec![user(1)]) }, OPEN); // Found again.
    check(kind, removal(11), &[]);
    check(kind, removal(9), OPEN);
    for kind in [GapKind::Forbidden, GapKind::ScopeMissing, GapKind::Failed, GapKind::Unauthorized] {
        check(kind, batch(11, vec![user(1)]), &[]);
        check(kind, removal(11), &[]);
    }
    check(GapKind::CountMismatch, batch(11, vec![user(1)]), &["COUNT_MISMATCH:user(00u0001)"]); // Says another thing.
    check(GapKind::CountMismatch, removal(11), &[]);
}

#[test]
fn gaps_of_objects_that_were_never_stored_end_too() {
    #[track_caller]
    fn check(scope: Scope, row: Row) {
        for is_removed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path(), "a");
            put(&store, Batch { gaps: unseen(scope.clone()), ..batch(1, Vec::new()) });
            put(&store, Batch { gaps: unseen(scope.clone()), ..batch(2, Vec::new()) });
            let removals = if is_removed { vec![row.key()] } else { Vec::new() };
            let rows = if is_removed { Vec::new() } else { vec![row.clone()] };
            put(&store, Batch { removals, ..batch(3, rows) });
            check_open_gaps(&store, &[]);
        }
    }
    check(user_scope(1), user(1));
    check(Scope::Group(group_id()), group("Eng", GroupType::OktaGroup));
    check(Scope::App(app_id()), app("Jira"));
}

#[test]
fn several_gaps_of_one_object_end_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let kinds = [GapKind::UnseenReference, GapKind::Forbidden, GapKind::CountMismatch];
    let gaps = kinds.map(|kind| gap(user_scope(1), kind)).to_vec();
    put(&store, Batch { gaps, ..batch(1, Vec::new()) });
    // One is found again while it is shown; then it is shown once more.
    put(&store, Batch { gaps: unseen(user_scope(1)), ..batch(2, vec![user(1)]) });
    check_open_gaps(&store, &["COUNT_MISMATCH:user(00u0001)", "UNSEEN_REFERENCE:user(00u0001)"]);
    put(&store, batch(3, vec![user(1)]));
    check_open_gaps(&store, &["COUNT_MISMATCH:user(00u0001)"]);
    // Gone by the release of a list.
    let users = (1..3).map(user).collect();
    put(&store, finished(batch(4, users), Scope::Users, 4));
    let done = put(&store, finished(batch(5, Vec::new()), Scope::Users, 5)).finished.remove(0);
    assert_eq!((done.verdict, done.missing), (Verdict::HoldEmpty, 2));
    let walks = vec![WalkUpdate { scope: Scope::Users, state: WalkState::Released }];
    put(&store, Batch { walks, ..batch(6, Vec::new()) });
    check_open_gaps(&store, &[]);
}

#[track_caller]
fn check_history(store: &Store, count: u64, times: [Option<i64>; 4]) {
    let record = records(store).remove(0);
    let found = [Some(record.first_seen), Some(record.last_seen), record.opened_at, record.closed_at];
    assert_eq!(found, times.map(|days| days.map(day)), "first and last seen, opened, closed");
    assert_eq!((record.count, record.open), (count, times[3].is_none()));
}

#[test]
fn a_gap_has_a_history() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let found = || Batch { gaps: unseen(user_scope(1)), ..batch(1, Vec::new()) };
    put(&store, on(1, found()));
    check_history(&store, 1, [Some(1), Some(1), Some(1), None]);
    put(&store, on(2, found()));
    check_history(&store, 2, [Some(1), Some(2), Some(1), None]);
    put(&store, on(3, batch(2, vec![user(1)])));
    check_history(&store, 2, [Some(1), Some(3), Some(1), Some(3)]);
    put(&store, on(4, batch(3, vec![user(1)]))); // Closed once.
    check_history(&store, 2, [Some(1), Some(3), Some(1), Some(3)]);
    put(&store, on(5, found()));
    check_history(&store, 3, [Some(1), Some(5), Some(5), None]);
    let removals = vec![Key::User(user_id(1))];
    put(&store, on(6, Batch { removals, ..batch(4, Vec::new()) }));
    check_history(&store, 3, [Some(1), Some(5), Some(5), Some(6)]);
}

#[test]
fn gaps_that_were_closed_long_ago_are_forgotten_by_a_crawl() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    for (n, days) in [(1, 1), (2, 2), (3, 2)] {
        put(&store, on(0, Batch { gaps: unseen(user_scope(n)), ..batch(1, Vec::new()) }));
        if n < 3 {
            put(
                &store,
                on(days, Batch { closed_gaps: vec![(user_scope(n), GapKind::UnseenReference)], ..batch(2, vec![]) }),
            );
        }
    }
    put(&store, on(368, Batch { crawl: begin(1), ..batch(3, Vec::new()) }));
    assert_eq!(records(&store).len(), 3);
    put(&store, on(368, Batch { crawl: end(1), ..batch(4, Vec::new()) }));
    let left: Vec<Scope> = records(&store).into_iter().map(|record| record.gap.scope).collect();
    assert_eq!(left, [user_scope(3), user_scope(2)], "the open one, and the one of 366 days");
}

/// A good read of an account does not close the gap of the list. If nobody is about to walk it, the list is owed.
#[test]
fn a_gap_that_waits_for_a_list_owes_it() {
    #[track_caller]
    fn check(crawl: Option<CrawlMark>, state: Option<WalkState>, expected: (usize, &[&str])) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        let scope = Scope::AppUsers(app_id());
        put(&store, Batch { crawl, ..batch(1, vec![app("Jira")]) });
        let walks = state.map(|state| WalkUpdate { scope: scope.clone(), state });
        put(&store, Batch { walks: walks.into_iter().collect(), ..batch(2, Vec::new()) });
        put(&store, Batch { gaps: vec![gap(scope.clone(), GapKind::Failed)], ..batch(3, Vec::new()) });
        let close = |at: u64, answered: Vec<Answered>| {
            let closed_gaps = vec![(scope.clone(), GapKind::Failed)];
            let receipt = put(&store, Batch { closed_gaps, answered, is_followed: true, ..batch(at, Vec::new()) });
            names(&receipt.owed)
        };
        // The batch says that the list need not be read: its app is, instead.
        let settled = Answered { target: Target::List(scope.clone()), by: RequestNumber(4) };
        assert_eq!(close(4, vec![settled]), Vec::<String>::new(), "what is settled is not owed");
        assert_eq!(close(5, Vec::new()), expected.1);
        assert_eq!(close(6, Vec::new()), Vec::<String>::new(), "once");
        let open = records(&store).iter().filter(|record| record.open).count();
        assert_eq!(open, expected.0);
    }
    let (from, began) = (RequestNumber(2), Timestamp::default());
    let next = "https://x.example/?page=1".to_owned();
    let position = Position { next, page: 1, rows: 1, from, began, listing: Listing::Usual };
    let owed: (usize, &[&str]) = (1, &["list(app_users(0oa1))"]);
    check(None, Some(WalkState::Walking(position.clone())), owed);
    check(None, Some(WalkState::GivenUp), owed);
    check(begin(1), Some(WalkState::GivenUp), owed);
    check(begin(1), Some(WalkState::Walking(position)), (1, &[])); // The crawl goes on with it.
    check(None, None, (1, &[])); // Nobody has ever asked for it.
    check(None, Some(WalkState::Finished { from, began, known_empty: false, ended: Vec::new() }), (0, &[]));
}

#[test]
fn what_a_crawl_after_a_lost_log_position_has_not_read_is_a_gap_until_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let (accounts, assigned) = (Scope::AppUsers(app_id()), Scope::AppGroups(app_id()));
    let rows_of = |scope: &Scope| match scope {
        Scope::Users => vec![user(1)],
        Scope::Groups => vec![group("Eng", GroupType::OktaGroup)],
        Scope::Apps => vec![app("Jira")],
        _ => Vec::new(),
    };
    let read = |at: u64, scope: &Scope| put(&store, finished(batch(at, rows_of(scope)), scope.clone(), at));
    let give_up = |at: u64, scope: &Scope| {
        let walks = vec![WalkUpdate { scope: scope.clone(), state: WalkState::GivenUp }];
        put(&store, Batch { walks, ..batch(at, Vec::new()) });
    };
    put(&store, Batch { crawl: begin(1), ..batch(1, Vec::new()) });
    for scope in [&Scope::Users, &Scope::Groups, &Scope::Apps, &accounts, &assigned] {
        read(2, scope);
    }
    // Never read, which has its own way.
    give_up(3, &Scope::GroupMembers(group_id()));
    put(&store, Batch { crawl: end(1), ..batch(4, Vec::new()) });
    check_open_gaps(&store, &[]);
    // Another one reads users and groups; the list of apps is given up, so that nothing below them is asked for.
    put(&store, Batch { gaps: vec![gap(Scope::Log, GapKind::LogLost)], crawl: begin(2), ..batch(5, Vec::new()) });
    read(6, &Scope::Users);
    read(7, &Scope::Groups);
    give_up(8, &Scope::Apps);
    let closed_gaps = vec![(Scope::Log, GapKind::LogLost)];
    let owed = put(&store, Batch { crawl: end(2), closed_gaps, unread_is_lost: true, ..batch(9, Vec::new()) }).owed;
    assert_eq!(names(&owed), ["list(apps)", "list(app_users(0oa1))", "list(app_groups(0oa1))"]);
    assert_eq!(debts(&store).len(), owed.len(), "stored with it");
    // Each closes with its own walk.
    const OPEN: [&str; 3] = ["LOG_LOST:app_groups(0oa1)", "LOG_LOST:app_users(0oa1)", "LOG_LOST:apps"];
    check_open_gaps(&store, &OPEN);
    give_up(10, &assigned);
    read(11, &Scope::Apps);
    check_open_gaps(&store, &OPEN[..2]);
    read(12, &accounts);
    check_open_gaps(&store, &OPEN[..1]);
    read(13, &assigned);
    check_open_gaps(&store, &[]);
}

#[test]
fn what_a_crawl_that_opens_the_log_has_not_read_yet_is_a_gap_and_is_owed_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let rows_of = |scope: &Scope| match scope {
        Scope::Users => vec![user(1)],
        Scope::Groups => vec![group("Eng", GroupType::OktaGroup)],
        _ => vec![app("Jira")],
    };
    let read =
        |store: &Store, at: u64, scope: &Scope| put(store, finished(batch(at, rows_of(scope)), scope.clone(), at));
    let why = |store: &Store| {
        let open = records(store).into_iter().filter(|record| record.open);
        open.map(|record| record.gap.evidence).collect::<BTreeSet<_>>()
    };
    put(&store, Batch { crawl: begin(1), ..batch(1, Vec::new()) });
    // What was never read has its own way, now and later.
    assert_eq!(put(&store, Batch { unread_is_lost: true, ..batch(2, Vec::new()) }).owed, []);
    check_open_gaps(&store, &[]);
    for scope in [&Scope::Users, &Scope::Groups, &Scope::Apps] {
        read(&store, 3, scope);
    }
    put(&store, Batch { crawl: end(1), ..batch(4, Vec::new()) });
    put(&store, Batch { crawl: begin(2), ..batch(5, Vec::new()) });
    read(&store, 6, &Scope::Users);
    assert_eq!(put(&store, Batch { unread_is_lost: true, ..batch(7, Vec::new()) }).owed, [], "the crawl reads them");
    const OPEN: [&str; 2] = ["LOG_LOST:apps", "LOG_LOST:groups"];
    check_open_gaps(&store, &OPEN);
    drop(store);
    let store = open(dir.path(), "a");
    check_open_gaps(&store, &OPEN);
    let still = "the System Log has not told of all changes since this list was read, and the crawl since then has not read it yet";
    assert_eq!(why(&store), BTreeSet::from([still.to_owned()]));
    read(&store, 8, &Scope::Groups);
    check_open_gaps(&store, &OPEN[..1]);
    // Another crawl comes in its place, and says nothing more: what was said before is owed all the same.
    put(&store, Batch { crawl: begin(3), ..batch(9, Vec::new()) });
    let owed = put(&store, Batch { crawl: end(3), ..batch(10, Vec::new()) }).owed;
    assert_eq!(names(&owed), ["list(apps)"]);
    // Once.
    put(&store, Batch { crawl: begin(4), ..batch(11, Vec::new()) });
    assert_eq!(put(&store, Batch { crawl: end(4), unread_is_lost: true, ..batch(12, Vec::new()) }).owed.len(), 2);
    check_open_gaps(&store, &["LOG_LOST:apps", "LOG_LOST:groups", "LOG_LOST:users"]);
    let left =
        "the System Log has not told of all changes since this list was read, and the crawl since then did not read it";
    assert_eq!(why(&store), BTreeSet::from([left.to_owned()]));
}

#[test]
fn of_very_many_closed_gaps_the_latest_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let all: Vec<Scope> = (0..10_003).map(user_scope).collect();
    put(&store, Batch { gaps: all.iter().cloned().flat_map(unseen).collect(), ..batch(1, Vec::new()) });
    let close = |scopes: &[Scope]| scopes.iter().map(|scope| (scope.clone(), GapKind::UnseenReference)).collect();
    put(&store, on(1, Batch { closed_gaps: close(&all[..2]), ..batch(2, Vec::new()) }));
    put(&store, on(2, Batch { closed_gaps: close(&all[2..10_002]), ..batch(3, Vec::new()) }));
    put(&store, on(3, Batch { crawl: begin(1), ..batch(4, Vec::new()) }));
    put(&store, on(3, Batch { crawl: end(1), ..batch(5, Vec::new()) }));
    let left = records(&store);
    assert_eq!(left.len(), 10_001, "ten thousand, and the open one");
    assert_eq!(left.iter().filter(|record| record.closed_at == Some(day(1))).count(), 0);
}

#[test]
fn a_group_of_a_gone_app_of_which_nothing_is_stored_has_no_gap() {
    #[track_caller]
    fn check(is_stored: bool, is_forgettable: bool, gaps: &[&str], owed: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        let rows = if is_stored { vec![group("Eng", GroupType::AppGroup)] } else { Vec::new() };
        put(&store, batch(1, rows));
        let forgettable: Vec<GroupId> = if is_forgettable { vec![group_id()] } else { Vec::new() };
        let gaps_found = unseen(Scope::Group(group_id()));
        let receipt = put(
            &store,
            Batch { gaps: gaps_found, forgettable, members_since: RequestNumber(9), ..batch(2, Vec::new()) },
        );
        check_open_gaps(&store, gaps);
        assert_eq!(names(&receipt.owed), owed);
        assert_eq!(receipt.owed, debts(&store));
        assert!(receipt.owed.iter().all(|debt| debt.since == RequestNumber(9)));
    }
    const GAP: &[&str] = &["UNSEEN_REFERENCE:group(00g1)"];
    check(false, true, &[], &["group(00g1) gone"]);
    check(true, true, GAP, &[]);
    check(false, false, GAP, &[]);
}

#[test]
fn a_stored_group_of_a_gone_app_goes_or_has_a_gap() {
    #[track_caller]
    fn check(at: u64, stored: usize, gaps: &[&str], owed: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, batch(2, vec![group("Eng", GroupType::AppGroup)]));
        let (gaps_found, departed_apps) = (unseen(Scope::Group(group_id())), [app_id()].into());
        let forgettable = vec![group_id()];
        let receipt = put(&store, Batch { gaps: gaps_found, forgettable, departed_apps, ..batch(at, Vec::new()) });
        assert_eq!(store.reader.read(|snapshot| snapshot.groups(None, 10)).unwrap().rows.len(), stored);
        check_open_gaps(&store, gaps);
        assert_eq!(names(&receipt.owed), owed);
    }
    check(3, 0, &[], &["group(00g1) gone"]);
    // It was shown later than the answer that did not find it.
    check(1, 1, &["UNSEEN_REFERENCE:group(00g1)"], &[]);
}

#[test]
fn new_rows_that_name_strangers_are_asked_about() {
    #[track_caller]
    fn check(is_followed: bool, is_crawling: bool, rows: Vec<Row>, owed: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        let known = vec![user(1), app("Jira"), app_user(8)];
        put(&store, Batch { crawl: is_crawling.then(|| begin(1)).flatten(), ..batch(1, known) });
        let receipt = put(&store, Batch { is_followed, ..batch(2, rows) });
        assert_eq!(names(&receipt.owed), owed);
        assert_eq!(names(&debts(&store)), owed);
    }
    check(true, false, vec![app_user(2)], &["user(00u0002)"]);
    check(true, false, vec![member(2), app_user(2), member(3)], &["user(00u0002)", "user(00u0003)"]);
    check(true, false, vec![app_group()], &["group(00g1)"]);
    check(true, false, vec![app_user(1), member(1)], &[]);
    check(true, false, vec![app_user(8)], &[]); // It was named before.
    check(true, false, vec![user(2), app_user(2)], &[]);
    check(true, false, vec![group("Eng", GroupType::OktaGroup), user(2), app("Jira")], &[]);
    check(false, false, vec![app_user(2), app_group()], &[]);
    check(true, true, vec![app_user(2), app_group()], &[]); // The crawl finds them at its end.
}

#[test]
fn what_a_removed_app_brought_is_owed_and_known_to_be_gone() {
    #[track_caller]
    fn check(is_followed: bool, removed: Key, owed: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, batch(1, vec![group("Eng", GroupType::AppGroup), app("Jira"), app_group(), app_user(1)]));
        // A debt that is there already is told too.
        let before = PendingRead::new(
            Target::Group(group_id()),
            When::Now,
            "group.profile.update",
            RequestNumber(1),
            day(0),
            Patience::default(),
        );
        let pending = if is_followed { vec![before] } else { Vec::new() };
        let receipt = put(&store, Batch { is_followed, pending, removals: vec![removed], ..batch(2, Vec::new()) });
        assert_eq!(names(&receipt.owed), owed);
        let stored = debts(&store);
        assert!(receipt.owed.iter().all(|debt| stored.contains(debt)), "{stored:?}");
    }
    check(true, Key::App(app_id()), &["group(00g1) gone"]);
    check(true, Key::Group(group_id()), &["list(app_users(0oa1))"]);
    check(false, Key::App(app_id()), &[]);
}

/// Each list of apps shows it again.
#[test]
fn an_app_that_is_only_not_wanted_takes_no_groups_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, batch(1, vec![group("Eng", GroupType::AppGroup), app("Jira"), app_user(1)]));
    let (removals, unwanted_apps) = (vec![Key::App(app_id())], vec![app_id()]);
    let receipt = put(&store, Batch { is_followed: true, removals, unwanted_apps, ..batch(2, Vec::new()) });
    assert_eq!(receipt.owed, []);
    assert_eq!((rows(&store), debts(&store)), (1, vec![]));
}

#[test]
fn an_operator_says_that_an_object_is_gone() {
    #[track_caller]
    fn check(scope: Scope, is_stored: bool, removed: u64, left: u64) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        let object = scope.object().unwrap();
        let mut rows_of_org =
            vec![user(1), group("Eng", GroupType::OktaGroup), app("Jira"), member(1), app_user(1), app_group()];
        rows_of_org.retain(|row| is_stored || row.key() != object);
        put(&store, batch(1, rows_of_org));
        let order = |missing| wait(store.writer.release_hold(scope.clone(), missing, day(2)));
        assert!(matches!(order(1), Err(ReleaseError::NotHeld)), "it is not absent");
        let target = Target::of_object(&object).unwrap();
        let debt = PendingRead::new(target, When::Now, "named", RequestNumber(1), day(0), Patience::default());
        let debt = PendingRead { absent_since: Some(day(0)), ..debt };
        put(&store, Batch { pending: vec![debt], ..batch(2, Vec::new()) });
        assert!(matches!(order(2), Err(ReleaseError::Changed { missing: 1 })), "looked for, before its gap opens");
        put(&store, Batch { gaps: unseen(scope.clone()), ..batch(3, Vec::new()) });
        assert!(matches!(order(0), Err(ReleaseError::Changed { missing: 1 })));
        let done = order(1).unwrap();
        assert_eq!((done.scope, done.verdict, done.removed), (scope.clone(), Verdict::Nothing, removed));
        assert_eq!((rows(&store), debts(&store)), (left, vec![]));
        check_open_gaps(&store, &[]);
        assert_eq!(records(&store)[0].closed_at, Some(day(2)));
        assert_eq!(store.reader.coverage().open_gaps(), 0);
        let again = wait(store.writer.release_hold(scope.clone(), 1, day(2)));
        assert!(matches!(again, Err(ReleaseError::NotHeld)), "released once");
        // It may come back.
        let row = match scope {
            Scope::User(_) => user(1),
            Scope::Group(_) => group("Eng", GroupType::OktaGroup),
            _ => app("Jira"),
        };
        put(&store, batch(4, vec![row]));
        assert_eq!(rows(&store), left + 1);
    }
    check(user_scope(1), true, 3, 3);
    check(user_scope(1), false, 2, 3);
    check(Scope::Group(group_id()), true, 3, 3);
    check(Scope::Group(group_id()), false, 2, 3);
    check(Scope::App(app_id()), true, 3, 3);
    check(Scope::App(app_id()), false, 2, 3);
}

/// Scopes as of day 0 and day 5, the log as of day 3, by our clock; Okta's is a day ahead.
fn aged() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, finished(on(0, batch(1, vec![user(1)])), Scope::Users, 1));
    put(&store, finished(on(5, batch(2, Vec::new())), Scope::Groups, 2));
    put(&store, finished(on(0, batch(3, Vec::new())), Scope::Log, 3));
    let todo = vec![WalkUpdate { scope: Scope::Apps, state: WalkState::Todo }];
    let cursor = Some(CursorMove::Anchor(LogCursor("c".to_owned())));
    let observed_through = Some(day(4));
    put(&store, Batch { walks: todo, cursor, observed_through, okta_now: day(6), ..on(5, batch(4, Vec::new())) });
    (dir, store)
}

#[track_caller]
fn note_ages(store: &Store, now: i64, scope: Option<i64>, log: Option<i64>) {
    let millis = |days: Option<i64>| days.map(|days| days * DAY_MILLIS);
    wait(store.writer.note_ages(day(now), Ages { scope_millis: millis(scope), log_millis: millis(log) })).unwrap();
    put(store, on(now, batch(4, Vec::new()))); // Nothing is answered; what comes after it is.
}

#[test]
fn what_was_read_too_long_ago_is_stale() {
    #[track_caller]
    fn check(now: i64, scope: Option<i64>, log: Option<i64>, expected: &[&str]) {
        let (_dir, store) = aged();
        note_ages(&store, now, scope, log);
        check_open_gaps(&store, expected);
        let lines = store.reader.read(|snapshot| snapshot.gap_changes_after(Default::default(), 9)).unwrap();
        assert_eq!(lines.len(), expected.len(), "readers are told");
        assert_eq!(store.reader.coverage().open_gaps(), expected.len());
    }
    const USERS: &str = "STALE:users";
    const GROUPS: &str = "STALE:groups";
    const LOG: &str = "STALE:log";
    check(7, None, None, &[]);
    check(7, Some(7), Some(4), &[]); // Exactly as old as it may be.
    check(8, Some(7), Some(5), &[USERS]);
    check(7, Some(1), Some(9), &[GROUPS, USERS]); // What was never read is not old.
    check(7, None, Some(3), &[LOG]);
    check(7, Some(1), Some(1), &[GROUPS, LOG, USERS]);
}

#[test]
fn what_is_read_again_is_no_longer_stale() {
    let (_dir, store) = aged();
    note_ages(&store, 7, Some(6), Some(3));
    note_ages(&store, 8, Some(6), Some(3));
    check_open_gaps(&store, &["STALE:log", "STALE:users"]);
    assert!(records(&store).iter().all(|record| record.count == 1), "said once");
    // The log is followed on; a walk comes to its end.
    put(&store, Batch { observed_through: Some(day(8)), ..on(8, batch(5, Vec::new())) });
    check_open_gaps(&store, &["STALE:users"]);
    note_ages(&store, 9, Some(6), Some(3));
    check_open_gaps(&store, &["STALE:users"]);
    put(&store, finished(on(9, batch(6, vec![user(1)])), Scope::Users, 6));
    check_open_gaps(&store, &[]);
    note_ages(&store, 16, Some(6), None);
    check_open_gaps(&store, &["STALE:groups", "STALE:users"]);
}

#[test]
fn everything_is_as_new_as_the_begin_of_the_last_whole_crawl() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    #[track_caller]
    fn check(store: &Store, whole_since: Option<i64>) {
        let crawl = store.reader.read(|snapshot| snapshot.meta()).unwrap().crawl;
        assert_eq!(crawl.whole_since, whole_since.map(day));
    }
    put(&store, on(1, Batch { crawl: begin(1), ..batch(1, Vec::new()) }));
    check(&store, None);
    put(&store, on(2, Batch { crawl: begin(2), ..batch(2, Vec::new()) })); // The first one is given up.
    put(&store, on(3, Batch { crawl: end(2), ..batch(3, Vec::new()) }));
    check(&store, Some(2));
    put(&store, on(4, Batch { crawl: begin(3), ..batch(4, Vec::new()) }));
    check(&store, Some(2));
    drop(store);
    let store = open(dir.path(), "a");
    check(&store, Some(2));
    put(&store, on(5, Batch { crawl: end(3), ..batch(5, Vec::new()) }));
    check(&store, Some(4));
    // By Okta's clock, which the log is searched by.
    put(&store, on(6, Batch { crawl: begin(4), okta_now: day(9), ..batch(6, Vec::new()) }));
    put(&store, on(7, Batch { crawl: end(4), okta_now: day(10), ..batch(7, Vec::new()) }));
    check(&store, Some(9));
}

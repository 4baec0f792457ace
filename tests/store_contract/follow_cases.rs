//! Promises of following the log, one test each: late answers, membership events, debts, the log position.
//!
//! Entry points: the tests; each has a `check` that says what is stored afterwards.

use okta_idmap::core::batch::{Batch, CrawlMark, CursorMove, Delta, Receipt, WalkState, WalkUpdate};
use okta_idmap::core::event::MemberChange;
use okta_idmap::core::ids::{CrawlId, LogCursor, RequestNumber, Revision, Timestamp};
use okta_idmap::core::model::{GroupType, Key, Row, Scope};
use okta_idmap::core::pending::{Answered, PendingRead, Target};
use okta_idmap::core::reconcile::Verdict;
use okta_idmap::store::{Ages, Snapshot, Store, StoreError};

use super::cases::{
    app, app_group, app_id, app_user, batch, check_open_gaps, check_users, dump, finished, group, group_id, member,
    open, user, user_id, walking,
};
use super::{commit, wait};

const MINUTE_MILLIS: i64 = 60_000;

/// The time of [`batch`] and some seconds.
fn time(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_770_000_000_000 + seconds * 1_000)
}

#[track_caller]
fn put(store: &Store, batch: Batch) -> Receipt {
    commit(store, &[batch]).remove(0).unwrap()
}

fn reread(batch: Batch) -> Batch {
    Batch { is_reread: true, ..batch }
}

fn later(minutes: i64, batch: Batch) -> Batch {
    Batch { now: batch.now.plus_millis(minutes * MINUTE_MILLIS), ..batch }
}

fn named(n: usize, name: &str, last_updated: Option<i64>) -> Row {
    let Row::User(mut row) = user(n) else { unreachable!() };
    row.login = Some(name.into());
    row.last_updated = last_updated.map(time);
    Row::User(row)
}

fn login(store: &Store, n: usize) -> Option<String> {
    let user = store.reader.read(|snapshot| snapshot.user(&user_id(n))).unwrap()?;
    user.login.map(Into::into)
}

fn rows_in(store: &Store, scope: &Scope) -> u64 {
    store.reader.read(|snapshot| snapshot.rows_in(scope)).unwrap()
}

#[test]
fn a_late_list_does_not_bring_back_what_was_read_again() {
    #[track_caller]
    fn check(late: Batch, expected: Option<&str>) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, batch(10, vec![named(1, "old", None), user(2)]));
        put(&store, reread(batch(20, vec![named(1, "new", None)])));
        let revision = put(&store, Batch { rows: vec![named(1, "old", None)], ..late }).revision;
        assert_eq!(login(&store, 1).as_deref(), expected);
        assert_eq!(revision == Revision(2), expected == Some("new"), "an outdated answer makes no revision");
    }
    check(batch(15, Vec::new()), Some("new"));
    check(reread(batch(19, Vec::new())), Some("new"));
    check(batch(20, Vec::new()), Some("old"));
    check(batch(21, Vec::new()), Some("old"));
    // The number is stored with the row, so that the memory may end.
    check(later(40, batch(15, Vec::new())), Some("new"));
}

#[test]
fn a_late_list_does_not_bring_back_what_is_gone() {
    #[track_caller]
    fn check(late: Batch, expected: bool) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, batch(10, vec![user(1), app("Jira"), app_user(1), member(1)]));
        put(&store, reread(Batch { removals: vec![Key::User(user_id(1))], ..batch(20, Vec::new()) }));
        for row in [user(1), app_user(1), member(1)] {
            let key = row.key();
            put(&store, Batch { rows: vec![row], ..late.clone() });
            assert_eq!(rows_in(&store, &key.scope()), u64::from(expected), "{key:?}");
        }
    }
    check(batch(15, Vec::new()), false);
    check(reread(batch(15, Vec::new())), false);
    check(batch(20, Vec::new()), true);
    check(later(30, batch(15, Vec::new())), false);
    check(later(31, batch(15, Vec::new())), true); // No answer takes that long.
}

#[test]
fn a_finished_walk_makes_earlier_answers_outdated() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, finished(batch(10, vec![user(1), user(2)]), Scope::Users, 10));
    put(&store, finished(batch(20, vec![user(2)]), Scope::Users, 20));
    put(&store, Batch { removals: vec![Key::User(user_id(1))], ..batch(21, Vec::new()) });
    check_users(&store, 1);
    put(&store, reread(batch(19, vec![user(1)]))); // Read before the walk began, stored after it.
    check_users(&store, 1);
    put(&store, reread(Batch { removals: vec![Key::User(user_id(2))], ..batch(19, Vec::new()) }));
    check_users(&store, 1);
    // A walk counts as having shown it nevertheless: the row is neither written nor missing.
    put(&store, reread(batch(21, vec![user(3)])));
    let outdated = finished(batch(20, vec![user(2), user(3)]), Scope::Users, 20);
    assert_eq!(put(&store, outdated).finished[0].verdict, Verdict::Nothing);
    check_users(&store, 2);
    // A restart forgets the guard: no request of an earlier process can arrive, so there is nothing to guard against.
    drop(store);
    let store = open(dir.path(), "a");
    put(&store, reread(batch(19, vec![user(1)])));
    check_users(&store, 3);
}

#[test]
fn what_was_read_again_is_not_missing_from_an_older_walk() {
    #[track_caller]
    fn check(again: Batch, expected: &[Key]) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, finished(batch(10, vec![user(1), user(2)]), Scope::Users, 10));
        let before = put(&store, walking(batch(20, vec![user(1)]), Scope::Users, 20, 1)).revision;
        assert_eq!(put(&store, again).revision, before, "an unchanged row makes no revision");
        let done = put(&store, finished(batch(22, Vec::new()), Scope::Users, 20)).finished.remove(0);
        assert_eq!(done.unlisted, expected);
        check_users(&store, 2);
    }
    let missing = [Key::User(user_id(2))];
    check(reread(batch(21, vec![user(2)])), &[]);
    check(batch(21, vec![user(2)]), &missing); // A page of a list spares the write, and proves nothing.
    check(reread(batch(19, vec![user(2)])), &missing); // Read before the walk began.
}

#[test]
fn dates_guard_only_against_lists_that_lag() {
    #[track_caller]
    fn check(first: Batch, second: Batch, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, Batch { rows: vec![named(1, "new", Some(100))], ..first });
        put(&store, Batch { rows: vec![named(1, "old", Some(50))], ..second });
        assert_eq!(login(&store, 1).as_deref(), Some(expected));
    }
    let at = |number| batch(number, Vec::new());
    check(reread(at(10)), at(11), "new"); // The index is behind.
    check(reread(at(10)), later(10, at(11)), "new");
    check(reread(at(10)), later(11, at(11)), "old"); // Not for that long: its date has gone backwards.
    check(reread(at(10)), reread(at(11)), "old"); // A read by id is never behind.
    check(at(10), at(11), "old"); // Both from lists.
}

/// A group whose members were walked between the seconds 100 and 110; user 1 is a member, user 2 is known.
fn walked_group() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, batch(1, vec![group("Eng", GroupType::OktaGroup), user(1), user(2)]));
    let state = WalkState::Finished { from: RequestNumber(2), began: time(100), known_empty: false, ended: Vec::new() };
    let walks = vec![WalkUpdate { scope: Scope::GroupMembers(group_id()), state }];
    put(&store, Batch { walks, okta_now: time(110), ..batch(2, vec![member(1)]) });
    (dir, store)
}

fn event(n: usize, added: bool, published: Option<i64>) -> MemberChange {
    MemberChange { group: group_id(), user: user_id(n), added, published: published.map(time) }
}

fn events(at: u64, members: Vec<MemberChange>) -> Batch {
    Batch { members, members_since: RequestNumber(at + 100), ..batch(at, Vec::new()) }
}

fn members(store: &Store) -> String {
    let rows = store.reader.read(|snapshot| snapshot.members(&group_id(), None, 100)).unwrap().rows;
    rows.iter().map(|(id, _)| id.as_str().trim_start_matches("00u0")).collect::<Vec<_>>().join(" ")
}

fn owed(receipt: &Receipt) -> String {
    receipt.owed.iter().map(|debt| debt.target.name()).collect::<Vec<_>>().join(" ")
}

#[test]
fn membership_events_apply_where_their_order_is_clear() {
    #[track_caller]
    fn check(members_of_page: Vec<MemberChange>, expected_members: &str, expected_debts: &str) {
        let (_dir, store) = walked_group();
        let receipt = put(&store, events(10, members_of_page));
        assert_eq!((members(&store).as_str(), owed(&receipt).as_str()), (expected_members, expected_debts));
        assert!(receipt.owed.iter().all(|debt| debt.since == RequestNumber(110)), "only later reads pay");
    }
    const LIST: &str = "list(group_members(00g1))";
    check(vec![event(2, true, Some(200))], "001 002", "");
    check(vec![event(1, false, Some(200))], "", "");
    check(vec![event(1, false, Some(90))], "001", ""); // The walk has seen it.
    check(vec![event(1, false, Some(104))], "", LIST);
    check(vec![event(1, false, None)], "001", LIST);
    check(vec![event(2, true, Some(200)), event(2, false, Some(210))], "001", "");
    check(vec![event(2, false, Some(210)), event(2, true, Some(200))], "001", ""); // Late.
    check(vec![event(2, true, Some(200)), event(2, true, Some(200))], "001 002", ""); // Twice.
    check(vec![event(2, true, Some(200)), event(2, false, Some(200))], "001 002", LIST);
    check(vec![event(3, true, Some(200))], "001 003", "user(00u0003)"); // Nobody has read the user yet.
    check(vec![event(3, false, Some(200))], "001", "");
}

#[test]
fn events_outlive_a_restart_and_end_with_the_next_walk() {
    let (dir, store) = walked_group();
    put(&store, events(10, vec![event(2, true, Some(200))]));
    drop(store);
    let store = open(dir.path(), "a");
    let receipt = put(&store, events(11, vec![event(2, false, Some(199))]));
    assert_eq!((members(&store).as_str(), owed(&receipt).as_str()), ("001 002", ""), "an event that comes late");
    let walk = |at: u64, began: i64| Batch {
        walks: vec![WalkUpdate {
            scope: Scope::GroupMembers(group_id()),
            state: WalkState::Finished {
                from: RequestNumber(at),
                began: time(began),
                known_empty: false,
                ended: Vec::new(),
            },
        }],
        okta_now: time(began),
        ..batch(at, vec![member(1), member(2)])
    };
    let marks = || dump(dir.path()).iter().filter(|line| line.starts_with("member_marks")).count();
    put(&store, walk(12, 205));
    assert_eq!(marks(), 1, "the walk may have begun before the event");
    put(&store, walk(13, 206));
    assert_eq!(marks(), 0);
}

#[test]
fn an_event_does_not_overrule_what_a_later_request_has_shown() {
    let (_dir, store) = walked_group();
    put(&store, walking(batch(20, vec![member(2)]), Scope::GroupMembers(group_id()), 20, 1));
    // The page of the log was asked for before the page of the members, and yet its event may be younger.
    let receipt = put(&store, events(10, vec![event(2, false, Some(200))]));
    assert_eq!((members(&store).as_str(), owed(&receipt).as_str()), ("001 002", "list(group_members(00g1))"));
    // A removal by an event is not undone by a page that was asked for before.
    put(&store, events(30, vec![event(1, false, Some(200))]));
    put(&store, batch(25, vec![member(1)]));
    assert_eq!(members(&store), "002");
}

#[test]
fn events_of_groups_whose_members_are_not_known() {
    #[track_caller]
    fn check(rows: Vec<Row>, state: Option<WalkState>, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, batch(1, rows));
        if let Some(state) = state {
            let walks = vec![WalkUpdate { scope: Scope::GroupMembers(group_id()), state }];
            put(&store, Batch { walks, ..batch(2, Vec::new()) });
        }
        let receipt = put(&store, events(10, vec![event(1, true, Some(200))]));
        assert_eq!(owed(&receipt), expected);
        assert_eq!(rows_in(&store, &Scope::GroupMembers(group_id())), 0, "nothing to apply it to");
        let expected = receipt.owed.iter().map(|debt| debt.target.clone()).collect::<Vec<_>>();
        let stored = store.reader.read(|snapshot| snapshot.pending_reads()).unwrap();
        let mut stored: Vec<Target> = stored.into_iter().map(|debt| debt.target).collect();
        stored.sort();
        assert_eq!(stored, expected, "as the receipt says");
    }
    let known = || vec![group("Eng", GroupType::OktaGroup)];
    check(vec![], None, "group(00g1)");
    check(known(), None, ""); // The settings do not want its members.
    check(known(), Some(WalkState::Unwanted), "");
    check(known(), Some(WalkState::Todo), "user(00u0001) list(group_members(00g1))");
    check(known(), Some(WalkState::GivenUp), "user(00u0001) list(group_members(00g1))");
    check(vec![], Some(WalkState::Todo), "user(00u0001) group(00g1) list(group_members(00g1))");
    check(vec![group("Everyone", GroupType::BuiltIn)], Some(WalkState::Todo), "");
}

fn debt(target: Target, since: u64, again_at: Option<i64>) -> PendingRead {
    PendingRead {
        target,
        since: RequestNumber(since),
        first_at: time(1),
        due_at: time(2),
        again_at: again_at.map(time),
        announced: false,
        absent_since: None,
        attempts: 3,
        cause: "user.lifecycle.create".to_owned(),
    }
}

#[test]
fn debts_are_merged_and_paid_by_later_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let target = || Target::User(user_id(1));
    let check = |pending: Vec<PendingRead>, by: Option<u64>, expected: &[PendingRead]| {
        let answered = by.map(|by| Answered { target: target(), by: RequestNumber(by) });
        let before = *store.reader.revisions().borrow();
        put(&store, Batch { pending, answered: answered.into_iter().collect(), ..batch(1, Vec::new()) });
        assert_eq!(store.reader.read(|snapshot| snapshot.pending_reads()).unwrap(), expected);
        assert_eq!(*store.reader.revisions().borrow(), before, "a debt is nothing that readers see");
    };
    check(vec![debt(target(), 10, None)], None, &[debt(target(), 10, None)]);
    check(vec![], Some(10), &[debt(target(), 10, None)]); // Sent before the hint had arrived.
    // What the caller knows is taken over, but for a hint that it has not heard of.
    let renewed = PendingRead { due_at: time(9), attempts: 0, ..debt(target(), 8, Some(50)) };
    let merged = PendingRead { since: RequestNumber(10), ..renewed.clone() };
    check(vec![renewed], None, std::slice::from_ref(&merged));
    // What is left is owed since the first look was due.
    let again = PendingRead { first_at: merged.due_at, due_at: time(50), again_at: None, ..merged };
    check(vec![], Some(11), std::slice::from_ref(&again));
    check(vec![], Some(12), &[]);
    check(vec![], Some(13), &[]);
    // That it is about an end stays known until it is paid or found, whoever has not heard of it.
    let ended = PendingRead { announced: true, ..debt(target(), 15, Some(70)) };
    check(vec![ended.clone()], None, std::slice::from_ref(&ended));
    check(vec![debt(target(), 15, Some(70))], None, std::slice::from_ref(&ended));
    let later = PendingRead { since: RequestNumber(16), ..ended };
    check(vec![debt(target(), 16, Some(70))], None, std::slice::from_ref(&later));
    check(vec![], Some(16), std::slice::from_ref(&later));
    let found =
        |by: u64| Batch { found: vec![Answered { target: target(), by: RequestNumber(by) }], ..batch(16, Vec::new()) };
    put(&store, found(16));
    check(vec![], None, std::slice::from_ref(&later)); // Sent before that was said.
    put(&store, found(17));
    let pending = || store.reader.read(|snapshot| snapshot.pending_reads()).unwrap();
    assert_eq!(pending(), [debt(target(), 16, Some(70))]);
    check(vec![debt(target(), 20, None)], Some(21), &[]); // Debts first, then what they are paid with.
    assert_eq!(store.reader.read(|snapshot| snapshot.pending_count()).unwrap(), 0);
}

#[test]
fn what_was_never_read_is_owed_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let need = |at: u64, scope: &Scope| {
        let receipt = put(&store, Batch { needed: vec![scope.clone()], ..batch(at, Vec::new()) });
        receipt.owed.into_iter().map(|debt| (debt.target, debt.since)).collect::<Vec<_>>()
    };
    let groups = Scope::AppGroups(app_id());
    assert_eq!(need(5, &groups), [(Target::List(groups.clone()), RequestNumber(5))]);
    assert_eq!(need(6, &groups), [], "it is owed already");
    // The running crawl will read it.
    let todo = |scope: &Scope| vec![WalkUpdate { scope: scope.clone(), state: WalkState::Todo }];
    let begin = Some(CrawlMark::Begin { id: CrawlId(1), fingerprint: "f".to_owned() });
    put(&store, Batch { crawl: begin, walks: todo(&Scope::Users), ..batch(7, Vec::new()) });
    assert_eq!(need(8, &Scope::Users), []);
    put(&store, finished(batch(9, vec![app("Jira"), app_group()]), Scope::Users, 9));
    assert_eq!(need(10, &Scope::Users), [], "it was read");
    put(&store, Batch { walks: todo(&Scope::Groups), ..batch(11, Vec::new()) });
    put(&store, Batch { crawl: Some(CrawlMark::End { id: CrawlId(1) }), ..batch(12, Vec::new()) });
    assert_eq!(need(13, &Scope::Groups), [(Target::List(Scope::Groups), RequestNumber(13))], "no crawl is running");
}

#[test]
fn the_log_position_moves_from_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    let position = |n: u32| LogCursor(format!("https://x.example/api/v1/logs?after={n}"));
    let advance = |expect, next| Batch {
        cursor: Some(CursorMove::Advance { expect: position(expect), next: position(next) }),
        pending: vec![debt(Target::Everything, 1, None)],
        observed_through: Some(time(i64::from(next))),
        deltas: vec![(Delta::Users, time(7))],
        crawl: Some(CrawlMark::Begin { id: CrawlId(u64::from(next)), fingerprint: "f".to_owned() }),
        ..batch(5, vec![user(1)])
    };
    let refused = |batch: Batch| {
        let before = dump(dir.path());
        let outcome = commit(&store, &[batch]).remove(0);
        assert!(matches!(outcome, Err(StoreError::Mismatch { .. })), "{outcome:?}");
        assert_eq!(dump(dir.path()), before, "nothing of the batch is written");
    };
    let meta = || store.reader.read(|snapshot| snapshot.meta()).unwrap();
    refused(advance(1, 2));
    let anchor = Batch { cursor: Some(CursorMove::Anchor(position(1))), okta_now: time(3), ..batch(1, Vec::new()) };
    assert_eq!(put(&store, anchor.clone()).revision, Revision(0), "no revision by itself");
    assert_eq!((meta().cursor, meta().observed_through), (Some(position(1)), Some(time(3))));
    put(&store, advance(1, 2));
    assert_eq!((meta().cursor, meta().observed_through), (Some(position(2)), Some(time(2))));
    assert_eq!(meta().deltas.into_iter().collect::<Vec<_>>(), [(Delta::Users, time(7))]);
    refused(advance(1, 3));
    refused(advance(3, 4));
    // Both in one transaction: the second sees the first.
    let outcomes = commit(&store, &[advance(2, 3), advance(2, 4), advance(3, 5)]);
    assert_eq!(outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(meta().cursor, Some(position(5)));
    put(&store, Batch { observed_through: Some(time(1)), ..anchor });
    assert_eq!((meta().cursor, meta().observed_through), (Some(position(1)), Some(time(1))));
    check_open_gaps(&store, &[]);
}

/// As a crawl that nobody follows opens it: much is as old as the position before, and is told to be so until a batch says otherwise.
#[test]
fn a_position_that_is_opened_says_nothing_of_up_to_when_the_log_was_followed() {
    const LIMIT_MILLIS: i64 = 10_000;
    let position = |n: u32| LogCursor(format!("https://x.example/api/v1/logs?after={n}"));
    // Okta's clock is ahead.
    let at = |seconds| Batch { now: time(seconds), okta_now: time(seconds + 2), ..batch(1, Vec::new()) };
    let moved = |seconds, cursor, through: Option<i64>| {
        let observed_through = through.map(time);
        Batch { cursor: Some(cursor), observed_through, ..at(seconds) }
    };
    let opened = |seconds, n| CursorMove::Open { next: position(n), at: time(seconds) };
    let open_in = |seconds, n| finished(moved(seconds, opened(seconds, n), None), Scope::Log, 0);
    let age = |store: &Store| {
        let limits = Ages { scope_millis: None, log_millis: Some(LIMIT_MILLIS) };
        wait(store.writer.note_ages(time(128), limits)).unwrap();
        put(store, at(128)); // Nothing is answered; what comes after it is.
    };
    #[track_caller]
    fn check(store: &Store, cursor: &LogCursor, times: (Option<i64>, Option<i64>), gaps: &[&str]) {
        let (through, opened_at) = (times.0.map(time), times.1.map(time));
        let read = |snapshot: &Snapshot<'_>| Ok((snapshot.meta()?, snapshot.times().1, snapshot.follow()?));
        let (meta, told, record) = store.reader.read(read).unwrap();
        assert_eq!((meta.cursor.as_ref(), meta.observed_through, meta.opened_at), (Some(cursor), through, opened_at));
        assert_eq!(told, through, "what answers say");
        assert_eq!((record.observed_through, record.opened_at), (through, opened_at));
        check_open_gaps(store, gaps);
    }
    let advance = || CursorMove::Advance { expect: position(2), next: position(3) };
    for (told, n, through) in [
        (Batch { observed_through: Some(time(120)), ..at(128) }, 2, 120),
        (moved(128, advance(), Some(120)), 3, 120),
        (moved(128, CursorMove::Anchor(position(4)), Some(120)), 4, 120),
        (moved(128, opened(125, 5), Some(120)), 5, 120),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        assert_eq!(put(&store, open_in(40, 1)).revision, Revision(0), "no revision by itself");
        age(&store);
        check(&store, &position(1), (None, Some(40)), &[]);
        put(&store, Batch { observed_through: Some(time(50)), ..at(52) });
        check(&store, &position(1), (Some(50), None), &[]);
        age(&store);
        check(&store, &position(1), (Some(50), None), &["STALE:log"]);
        put(&store, open_in(120, 2));
        check(&store, &position(2), (Some(50), Some(120)), &["STALE:log"]);
        drop(store);
        let store = open(dir.path(), "a");
        age(&store);
        check(&store, &position(2), (Some(50), Some(120)), &["STALE:log"]);
        put(&store, told);
        check(&store, &position(n), (Some(through), None), &[]);
        age(&store);
        check(&store, &position(n), (Some(through), None), &[]);
    }
    // A page of the log that is not the last says nothing of it either.
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    put(&store, moved(120, opened(120, 2), None));
    put(&store, moved(128, advance(), None));
    check(&store, &position(3), (None, Some(120)), &[]);
}

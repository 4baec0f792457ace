//! Promises about what a complete list does not show: questions, probes, ended accounts, and objects that are absent.
//!
//! Entry points: the tests; [`Missed`] is what one walk is judged by.

use std::sync::Arc;

use okta_idmap::core::batch::{Batch, Finished, Receipt, Returned, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind, Reach};
use okta_idmap::core::ids::{AppId, GroupId, RequestNumber, Timestamp};
use okta_idmap::core::model::{GroupType, Key, Quarantined, Row, Scope};
use okta_idmap::core::pending::{Answered, Patience, PendingRead, Target, When};
use okta_idmap::core::reconcile::Verdict;
use okta_idmap::store::Store;

use super::cases::{
    app, app_group, app_id, app_user, batch, check_open_gaps, finished, group, group_id, member, open, user, user_id,
};
use super::commit;

const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);

#[track_caller]
fn put(store: &Store, batch: Batch) -> Receipt {
    commit(store, &[batch]).remove(0).unwrap()
}

#[track_caller]
fn walked(store: &Store, batch: Batch) -> Finished {
    put(store, batch).finished.remove(0)
}

fn rows_in(store: &Store, scope: &Scope) -> u64 {
    store.reader.read(|snapshot| snapshot.rows_in(scope)).unwrap()
}

fn held(store: &Store) -> Vec<(Scope, u64)> {
    let held = store.reader.read(|snapshot| snapshot.held()).unwrap();
    held.into_iter().map(|(scope, missing, _)| (scope, missing)).collect()
}

fn debts(store: &Store) -> Vec<String> {
    let debts = store.reader.read(|snapshot| snapshot.pending_reads()).unwrap();
    debts.into_iter().map(|debt| debt.target.name()).collect()
}

fn release(store: &Store, at: u64, scope: Scope) -> Vec<Finished> {
    let walks = vec![WalkUpdate { scope, state: WalkState::Released }];
    put(store, Batch { walks, ..batch(at, Vec::new()) }).finished
}

fn nth_group(n: usize) -> Row {
    let Row::Group(mut row) = group("Eng", GroupType::OktaGroup) else { unreachable!() };
    row.id = nth_group_id(n);
    Row::Group(row)
}

fn nth_group_id(n: usize) -> GroupId {
    GroupId::new(&format!("00g{n}")).unwrap()
}

fn nth_app(n: usize) -> Row {
    let Row::App(mut row) = app("Jira") else { unreachable!() };
    row.id = AppId::new(&format!("0oa{n}")).unwrap();
    Row::App(row)
}

fn nth_app_group(n: usize) -> Row {
    let Row::AppGroup(mut row) = app_group() else { unreachable!() };
    row.group = nth_group_id(n);
    Row::AppGroup(row)
}

/// How the rows of a collection are made.
type Make = fn(usize) -> Row;

/// One of every collection.
fn collections() -> [(Scope, Make); 6] {
    [
        (Scope::Users, user),
        (Scope::Groups, nth_group),
        (Scope::Apps, nth_app),
        (Scope::GroupMembers(group_id()), member),
        (Scope::AppUsers(app_id()), app_user),
        (Scope::AppGroups(app_id()), nth_app_group),
    ]
}

/// The object that a row of a collection is about.
fn object(row: &Row) -> Key {
    match row.key() {
        Key::GroupMember(_, user) | Key::AppUser(_, user) => Key::User(user),
        Key::AppGroup(_, group) => Key::Group(group),
        key => key,
    }
}

fn unseen(key: &Key) -> Gap {
    let scope = Scope::of_object(key).unwrap();
    Gap { scope, kind: GapKind::UnseenReference, evidence: "asked for by id, 404 E0000007".to_owned() }
}

fn looked_for(key: &Key) -> PendingRead {
    let target = Target::of_object(key).unwrap();
    let debt = PendingRead::new(target, When::Now, "named", RequestNumber(1), NOW, Patience::default());
    PendingRead { absent_since: Some(NOW), ..debt }
}

/// A store with a collection of ten rows.
fn ten(scope: &Scope, row: Make) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), "a");
    assert_eq!(
        walked(&store, finished(batch(1, (0..10).map(row).collect()), scope.clone(), 1)).verdict,
        Verdict::Nothing
    );
    (dir, store)
}

#[test]
fn missing_objects_are_asked_for_one_by_one() {
    for (scope, row) in collections() {
        let keys = [row(8).key(), row(9).key()];
        let Some(targets) = keys.iter().map(Target::of_object).collect::<Option<Vec<_>>>() else { continue };
        if Scope::of_object(&keys[0]).is_none() {
            continue;
        }
        for is_followed in [false, true] {
            let (_dir, store) = ten(&scope, row);
            let walk = finished(batch(2, (0..8).map(row).collect()), scope.clone(), 2);
            let walk = Batch { is_followed, members_since: RequestNumber(7), ..walk };
            let mut receipt = put(&store, walk);
            let done = receipt.finished.remove(0);
            assert_eq!((done.verdict, done.removed, done.missing), (Verdict::Ask, 0, 0), "{scope}");
            assert_eq!(rows_in(&store, &scope), 10, "{scope}: none is removed by absence");
            let owed: Vec<&Target> = receipt.owed.iter().map(|debt| &debt.target).collect();
            if is_followed {
                assert_eq!((owed, done.unlisted), (targets.iter().collect(), vec![]), "{scope}");
                assert!(receipt.owed.iter().all(|debt| debt.since == RequestNumber(7) && !debt.announced));
            } else {
                assert_eq!((owed, done.unlisted.as_slice()), (vec![], keys.as_slice()), "{scope}");
            }
            assert_eq!(debts(&store).len(), receipt.owed.len(), "what is owed is stored");
            assert_eq!(held(&store), []);
            check_open_gaps(&store, &[]);
        }
    }
}

#[test]
fn of_more_than_a_thousand_missing_objects_some_tell_for_all() {
    #[track_caller]
    fn check(scope: Scope, row: Make, shown: usize, verdict: Verdict) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, finished(batch(1, (0..5_100).map(row).collect()), scope.clone(), 1));
        let done = walked(&store, finished(batch(2, (0..shown).map(row).collect()), scope, 2));
        let (missing, stored, named) =
            if verdict == Verdict::Ask { (0, 0, 0) } else { (5_100 - shown as u64, 5_100, 5) };
        assert_eq!((done.verdict, done.missing, done.stored, done.sample.len()), (verdict, missing, stored, named));
    }
    check(Scope::Users, user, 4_100, Verdict::Ask);
    check(Scope::Users, user, 4_099, Verdict::HoldShrunk);
    check(Scope::AppUsers(app_id()), app_user, 4_099, Verdict::Confirm);
    check(Scope::AppUsers(app_id()), app_user, 4_079, Verdict::HoldShrunk); // The brake.
}

#[test]
fn missing_parts_wait_for_probes() {
    for (scope, row) in collections() {
        if Scope::of_object(&row(1).key()).is_some() {
            continue;
        }
        let (dir, store) = ten(&scope, row);
        // It settles what it was read for: it is no hold.
        let target = Target::List(scope.clone());
        let debt = PendingRead::new(target.clone(), When::Now, "test", RequestNumber(1), NOW, Patience::default());
        let walk = finished(batch(2, (0..8).map(row).collect()), scope.clone(), 2);
        let answered = vec![Answered { target, by: RequestNumber(2) }];
        let before = *store.reader.revisions().borrow();
        let done = walked(&store, Batch { pending: vec![debt], answered, is_followed: true, ..walk });
        assert_eq!((done.verdict, done.missing, done.stored, done.removed), (Verdict::Confirm, 2, 10, 0), "{scope}");
        assert_eq!((done.sample.as_slice(), done.unlisted), ([row(8).key(), row(9).key()].as_slice(), vec![]));
        assert_eq!(*store.reader.revisions().borrow(), before, "nothing that a reader sees");
        assert_eq!((rows_in(&store, &scope), debts(&store)), (10, vec![]));
        check_open_gaps(&store, &[]);
        // After a restart too, what is missing then goes: row 9 was shown meanwhile.
        put(&store, Batch { is_reread: true, ..batch(3, vec![row(9)]) });
        drop(store);
        let store = open(dir.path(), "a");
        assert_eq!(held(&store), [(scope.clone(), 1)]);
        let done = release(&store, 4, scope.clone()).remove(0);
        assert_eq!((done.verdict, done.removed), (Verdict::Nothing, 1), "{scope}");
        assert_eq!((rows_in(&store, &scope), held(&store)), (9, vec![]));
        check_open_gaps(&store, &[]);
    }
}

#[test]
fn a_walk_that_shows_everything_ends_the_questions() {
    let scope = || Scope::AppUsers(app_id());
    let (_dir, store) = ten(&scope(), app_user);
    let fewer = |at| finished(batch(at, (0..8).map(app_user).collect()), scope(), at);
    assert_eq!(walked(&store, fewer(2)).verdict, Verdict::Confirm);
    assert_eq!(walked(&store, fewer(3)).missing, 2, "asked again as often as it is missing");
    // The probes say that they are there: then it is a gap, and stays one while it is missing.
    put(&store, Batch { gaps: vec![gap(&scope(), GapKind::Held)], ..batch(3, Vec::new()) });
    assert_eq!(walked(&store, fewer(4)).verdict, Verdict::Confirm);
    check_open_gaps(&store, &["HELD:app_users(0oa1)"]);
    let all = finished(batch(5, (0..10).map(app_user).collect()), scope(), 5);
    assert_eq!(walked(&store, all).verdict, Verdict::Nothing);
    check_open_gaps(&store, &[]);
    assert_eq!((held(&store), release(&store, 6, scope())), (vec![], vec![]));
}

fn gap(scope: &Scope, kind: GapKind) -> Gap {
    Gap { scope: scope.clone(), kind, evidence: "told by the probes".to_owned() }
}

#[test]
fn only_a_hold_that_no_probe_can_end_has_its_gap_at_once() {
    #[track_caller]
    fn check(credential: &str, shown: usize, bad: &[&str], verdict: Verdict, probed: usize, gaps: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        let scope = || Scope::AppUsers(app_id());
        let store = open(dir.path(), "a");
        put(&store, finished(batch(1, (0..100).map(app_user).collect()), scope(), 1));
        drop(store);
        let store = open(dir.path(), credential);
        let at = store.writer.first_request_number().0;
        let bad = bad.iter().map(|_| Quarantined { scope: scope(), id: None, reason: "no id".to_owned() }).collect();
        let walk = finished(batch(at, (0..shown).map(app_user).collect()), scope(), at);
        let done = walked(&store, Batch { quarantined: bad, ..walk });
        assert_eq!((done.verdict, done.sample.len(), done.removed), (verdict, probed, 0));
        check_open_gaps(&store, gaps);
        assert_eq!(held(&store).len(), usize::from(verdict.keeps_missing()));
        assert_eq!(rows_in(&store, &scope()), 100);
    }
    check("a", 100, &[], Verdict::Nothing, 0, &[]);
    check("a", 60, &[], Verdict::Confirm, 5, &[]);
    check("a", 49, &[], Verdict::HoldShrunk, 5, &[]);
    check("a", 0, &[], Verdict::HoldEmpty, 5, &[]);
    check("a", 99, &["?"], Verdict::HoldUnreadable, 0, &["FAILED:app_users(0oa1)"]);
    check("b", 99, &[], Verdict::HoldCredential, 0, &["HELD:app_users(0oa1)"]);
    check("b", 0, &[], Verdict::HoldCredential, 0, &["HELD:app_users(0oa1)"]);
}

#[test]
fn records_that_could_not_be_read_leave_the_rows_of_before() {
    /// A walk that shows the first rows of ten, with records that could not be read; which rows are stale after it.
    #[track_caller]
    fn check(shown: usize, bad: &[&str], expected: Option<&[&str]>) {
        for (scope, row) in collections() {
            let dir = tempfile::tempdir().unwrap();
            let store = open(dir.path(), "a");
            put(&store, finished(batch(1, (0..10).map(row).collect()), scope.clone(), 1));
            // Ids are those of the kind.
            let id_of = |id: &&str| match id.strip_prefix('#') {
                Some(n) => row(n.parse().unwrap()).key().id_in_list().to_owned(),
                None => (*id).to_owned(),
            };
            let record = |id: &&str| Quarantined {
                scope: scope.clone(),
                id: Some(id_of(id)).filter(|id| !id.is_empty()).map(Into::into),
                reason: "no status".to_owned(),
            };
            let walk = finished(batch(2, (0..shown).map(row).collect()), scope.clone(), 2);
            put(&store, Batch { quarantined: bad.iter().map(record).collect(), is_followed: true, ..walk });
            // The walk before was the last that has read them.
            let read_at = Some(batch(1, Vec::new()).now);
            let unread = |ids: &[&str]| ids.iter().map(|id| (id_of(id).into(), read_at)).collect();
            let ids = expected.map(|ids| Reach::rows(Arc::new(unread(ids))));
            assert_eq!(store.reader.coverage().stale(&scope), ids, "{scope}");
            // So says who opens the file, too.
            drop(store);
            let store = open(dir.path(), "a");
            assert_eq!(store.reader.coverage().stale(&scope), ids, "{scope}");
            // The next walk that breaks off makes all of them doubtful.
            let failed = gap(&scope, GapKind::Failed);
            let walks = vec![WalkUpdate { scope: scope.clone(), state: WalkState::GivenUp }];
            put(&store, Batch { walks, gaps: vec![failed], ..batch(50, Vec::new()) });
            assert!(store.reader.coverage().stale(&scope).unwrap().is_whole, "{scope}");
            put(&store, finished(batch(51, (0..10).map(row).collect()), scope.clone(), 51));
            assert_eq!(store.reader.coverage().stale(&scope), None, "{scope}");
        }
    }
    check(10, &[], None);
    check(9, &["#9"], Some(&["#9"]));
    check(8, &["#9"], Some(&["#9"])); // The other one is asked for, or probed.
    check(10, &["#9"], Some(&["#9"])); // The same answer shows it, too: nobody knows which of the two it is.
    check(10, &["#77"], Some(&["#77"])); // It was never a row.
    check(8, &["not/an id"], Some(&["#8", "#9"])); // Whose id is unreadable may be either.
    check(8, &[""], Some(&["#8", "#9"])); // It may be either.
    check(8, &["", "#9"], Some(&["#8", "#9"]));
    check(10, &[""], Some(&[]));
}

/// What becomes of a walk of 100 app users: verdict, rows removed at once, rows that are still missing.
type Missed = (Verdict, u64, u64);

#[test]
fn accounts_that_ended_go_without_a_question() {
    let scope = || Scope::AppUsers(app_id());
    let walk = |at: u64, shown: std::ops::Range<usize>, ended: std::ops::Range<usize>| {
        let state = WalkState::Finished {
            from: RequestNumber(at),
            began: NOW,
            known_empty: false,
            ended: ended.map(user_id).collect(),
        };
        let walks = vec![WalkUpdate { scope: scope(), state }];
        Batch { walks, ..batch(at, shown.map(app_user).collect()) }
    };
    let stored = |credential: &str| {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        put(&store, walk(1, 0..100, 0..0));
        drop(store);
        let store = open(dir.path(), credential);
        let at = store.writer.first_request_number().0;
        (dir, store, at)
    };
    #[track_caller]
    fn check(store: &Store, batch: Batch, expected: Missed) {
        let before = rows_in(store, &Scope::AppUsers(app_id()));
        let done = walked(store, batch);
        assert_eq!((done.verdict, done.removed, done.missing), expected);
        assert_eq!(rows_in(store, &Scope::AppUsers(app_id())), before - done.removed);
    }
    let check_walk = |shown: std::ops::Range<usize>, ended: std::ops::Range<usize>, expected: Missed| {
        let (_dir, store, at) = stored("a");
        check(&store, walk(at, shown, ended), expected);
    };
    check_walk(0..40, 40..100, (Verdict::Nothing, 60, 0)); // Far above the brake.
    check_walk(0..40, 40..95, (Verdict::Confirm, 55, 5));
    check_walk(0..40, 90..100, (Verdict::Confirm, 10, 50)); // Without them, the brake lets 50 pass.
    check_walk(0..40, 91..100, (Verdict::HoldShrunk, 9, 51));
    check_walk(0..0, 0..100, (Verdict::Nothing, 100, 0)); // All have ended: it is empty, and nothing is missing.
    check_walk(0..0, 0..99, (Verdict::HoldEmpty, 99, 1));
    check_walk(0..100, 0..100, (Verdict::Nothing, 0, 0)); // What is shown has begun anew.
    check_walk(0..99, 200..210, (Verdict::Confirm, 0, 1));
    // Nothing goes by a walk that proves nothing.
    let (_dir, store, at) = stored("b");
    check(&store, walk(at, 0..98, 98..99), (Verdict::HoldCredential, 0, 1));
    let (_dir, store, at) = stored("a");
    let bad = vec![Quarantined { scope: scope(), id: None, reason: "no id".to_owned() }];
    check(&store, Batch { quarantined: bad, ..walk(at, 0..98, 98..99) }, (Verdict::HoldUnreadable, 0, 0));
    // Read again by a later request: it is there.
    let (_dir, store, at) = stored("a");
    put(&store, Batch { is_reread: true, ..batch(at + 5, vec![app_user(99)]) });
    check(&store, walk(at, 0..99, 99..100), (Verdict::Nothing, 0, 0));
}

#[test]
fn lists_that_may_have_passed_over_somebody_are_owed_when_he_is_back() {
    #[track_caller]
    fn check((scope, row): (Scope, Make), key: Key, missed_since: Option<Timestamp>, expected: &[&str]) {
        let (_dir, store) = ten(&scope, row);
        let shown = (0..9).map(row).collect();
        let walk = finished(Batch { now: NOW, ..batch(2, shown) }, scope, 2);
        put(&store, Batch { pending: vec![looked_for(&key)], ..batch(1, Vec::new()) });
        put(&store, walk);
        let found = PendingRead { absent_since: None, ..looked_for(&key) };
        let returned = vec![Returned { key: key.clone(), missed_since }];
        let back = Batch { is_followed: true, pending: vec![found], returned, ..batch(3, Vec::new()) };
        let owed = put(&store, back).owed;
        assert_eq!(owed.iter().map(|debt| debt.target.name()).collect::<Vec<_>>(), expected, "{key:?}");
    }
    let of_members: (Scope, Make) = (Scope::GroupMembers(group_id()), member);
    let of_groups: (Scope, Make) = (Scope::AppGroups(app_id()), nth_app_group);
    let of_accounts: (Scope, Make) = (Scope::AppUsers(app_id()), app_user);
    let members = format!("list(group_members({}))", group_id());
    let groups = format!("list(app_groups({}))", app_id());
    let (before, after) = (NOW.plus_millis(-1), NOW.plus_millis(1));
    check(of_members.clone(), object(&member(9)), Some(NOW), &[&members]);
    check(of_members.clone(), object(&member(9)), Some(before), &[&members]);
    check(of_members.clone(), object(&member(9)), None, &[&members]);
    check(of_members.clone(), object(&member(9)), Some(after), &[]);
    check(of_members, object(&member(11)), None, &[]);
    check(of_groups.clone(), object(&nth_app_group(9)), Some(before), &[&groups]);
    check(of_groups.clone(), object(&nth_app_group(9)), Some(after), &[&groups]);
    check(of_groups, object(&nth_app_group(11)), None, &[]);
    // The accounts of a user are read by user.
    check(of_accounts, object(&app_user(9)), None, &[]);
}

#[test]
fn what_hangs_on_absent_objects_is_not_missing() {
    let (user_1, group_1, app_1) = (object(&user(1)), object(&nth_group(1)), object(&nth_app(1)));
    for (scope, row) in collections() {
        let named = object(&row(9));
        let fewer = |at| finished(batch(at, (0..9).map(row).collect()), scope.clone(), at);
        let lacking = if Scope::of_object(&row(9).key()).is_some() { Verdict::Ask } else { Verdict::Confirm };
        let by_gap = || Batch { gaps: vec![unseen(&named)], ..batch(2, Vec::new()) };
        let by_debt = || Batch { pending: vec![looked_for(&named)], ..batch(2, Vec::new()) };
        for absent in [by_gap(), by_debt()] {
            let (dir, store) = ten(&scope, row);
            put(&store, absent);
            assert_eq!(walked(&store, fewer(3)).verdict, Verdict::Nothing, "{scope}: {named:?} is absent");
            assert_eq!(rows_in(&store, &scope), 10);
            drop(store);
            let store = open(dir.path(), "a");
            let at = store.writer.first_request_number().0;
            assert_eq!(walked(&store, fewer(at)).verdict, Verdict::Nothing, "after a restart too");
            // It does not count as stored either: one more is missing, of nine.
            let shown = finished(batch(at + 1, (0..8).map(row).collect()), scope.clone(), at + 1);
            let done = walked(&store, shown);
            assert_eq!((done.verdict, done.stored), (lacking, if lacking == Verdict::Confirm { 9 } else { 0 }));
            // Once it is found, or known to be gone, the row is missing like any other.
            let closed_gaps = vec![(unseen(&named).scope, GapKind::UnseenReference)];
            let answered =
                vec![Answered { target: Target::of_object(&named).unwrap(), by: RequestNumber(u64::MAX / 4) }];
            put(&store, Batch { closed_gaps, answered, ..batch(at + 2, Vec::new()) });
            assert_eq!(walked(&store, fewer(at + 3)).verdict, lacking, "{scope}");
        }
        // Neither another gap nor a debt for something that was not looked for in vain spares it, nor somebody else's.
        let forbidden = Gap { kind: GapKind::Forbidden, ..unseen(&named) };
        let debt = PendingRead { absent_since: None, ..looked_for(&named) };
        let others = [&user_1, &group_1, &app_1].map(unseen).to_vec();
        let (_dir, store) = ten(&scope, row);
        put(&store, Batch { gaps: [vec![forbidden], others].concat(), pending: vec![debt], ..batch(2, Vec::new()) });
        assert_eq!(walked(&store, fewer(3)).verdict, lacking, "{scope}");
    }
}

#[test]
fn a_hold_forgets_what_has_become_absent() {
    let scope = || Scope::AppUsers(app_id());
    let (_dir, store) = ten(&scope(), app_user);
    assert_eq!(walked(&store, finished(batch(2, (0..8).map(app_user).collect()), scope(), 2)).missing, 2);
    put(&store, Batch { gaps: vec![unseen(&object(&user(9)))], ..batch(3, Vec::new()) });
    assert_eq!(held(&store), [(scope(), 1)]);
    assert_eq!(release(&store, 4, scope())[0].removed, 1);
    assert_eq!(rows_in(&store, &scope()), 9);
    // What the settings do not want goes, absent or not.
    let walks = vec![WalkUpdate { scope: scope(), state: WalkState::Unwanted }];
    put(&store, Batch { walks, ..batch(5, Vec::new()) });
    assert_eq!(rows_in(&store, &scope()), 0);
}

#[test]
fn a_hold_of_groups_ends_with_the_app_that_brought_those_of_which_no_event_tells() {
    /// Ten groups that an app has brought, and one from elsewhere if it is told so, are missing. What the release has removed, if it
    /// ended the hold; how many are left.
    #[track_caller]
    fn check(is_one_from_elsewhere: bool, brought: &[usize], departed: &[&str], removed: Option<u64>, left: u64) {
        let (_dir, store) = ten(&Scope::Groups, nth_group);
        let Row::Group(mut elsewhere) = nth_group(20) else { unreachable!() };
        elsewhere.source_app = None;
        let elsewhere = is_one_from_elsewhere.then_some(Row::Group(elsewhere));
        let stored = 10 + u64::from(is_one_from_elsewhere);
        put(&store, batch(1, elsewhere.into_iter().collect()));
        let done = walked(&store, finished(batch(2, Vec::new()), Scope::Groups, 2));
        assert_eq!((done.verdict, done.missing), (Verdict::HoldEmpty, stored));
        let order = Batch {
            walks: vec![WalkUpdate { scope: Scope::Groups, state: WalkState::Released }],
            brought: brought.iter().map(|n| nth_group_id(*n)).collect(),
            departed_apps: departed.iter().map(|app| AppId::new(app).unwrap()).collect(),
            ..batch(3, Vec::new())
        };
        let done = put(&store, order).finished;
        assert_eq!(done.first().map(|done| done.removed), removed);
        let is_held = held(&store).iter().any(|(scope, missing)| *scope == Scope::Groups && *missing == left);
        assert_eq!((is_held, rows_in(&store, &Scope::Groups)), (removed.is_none(), left));
    }
    check(false, &[3, 7], &["0oa1"], Some(10), 0);
    check(false, &[3, 7], &["0oa1", "0oa2"], Some(10), 0);
    check(false, &[3, 7], &["0oa2"], None, 10);
    check(false, &[3, 7], &[], None, 10);
    check(false, &[3, 99], &["0oa1"], Some(10), 0); // It is gone already.
    check(true, &[3, 20], &["0oa1"], None, 11); // It came from elsewhere.
    check(true, &[3, 7], &["0oa1"], None, 1); // Nobody has asked for that one: it may be hidden.
    check(true, &[], &[], Some(11), 0);
}

//! Promises about records that could not be read: which rows their gap is about, and what settles it.
//!
//! Entry point: [`List`], users of whom some records are bad.

use okta_idmap::core::batch::{Batch, UnreadKey};
use okta_idmap::core::coverage::{CoveragePolicy, Gap, GapKind, OnGap, Reach};
use okta_idmap::core::ids::{RequestNumber, Timestamp};
use okta_idmap::core::model::{GroupType, Key, Quarantined, Row, Scope, User};
use okta_idmap::core::pending::{Answered, Target};
use okta_idmap::store::Store;
use tempfile::TempDir;

use super::cases::{
    app, app_group, app_id, app_user, batch, check_open_gaps, finished, group, group_id, member, open, user, user_id,
    walking,
};
use super::commit;

const HOUR_MILLIS: i64 = 3_600_000;

struct List {
    dir: TempDir,
    store: Option<Store>,
}

impl List {
    /// Users 1 to 4, read to their end by request 10.
    fn read() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(open(dir.path(), "a"));
        let list = Self { dir, store };
        list.put(finished(batch(10, (1..=4).map(user).collect()), Scope::Users, 10));
        list.check("");
        list
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    #[track_caller]
    fn put(&self, batch: Batch) {
        commit(self.store(), &[batch]).remove(0).unwrap();
    }

    /// Which users are stale, by their numbers; `all`. `""` is said without a gap.
    #[track_caller]
    fn check(&self, expected: &str) {
        let stale = match self.store().reader.coverage().stale(&Scope::Users) {
            None => {
                check_open_gaps(self.store(), &[]);
                String::new()
            }
            Some(Reach { is_whole: true, .. }) => "all".to_owned(),
            Some(Reach { rows, .. }) => rows.keys().map(|id| id.trim_start_matches("00u000")).collect(),
        };
        assert_eq!(stale, expected);
        if !expected.is_empty() {
            check_open_gaps(self.store(), &["FAILED:users"]);
        }
    }

    /// What is said is said by whoever opens the file, too.
    #[track_caller]
    fn check_reopened(&mut self, expected: &str) {
        self.check(expected);
        drop(self.store.take());
        self.store = Some(open(self.dir.path(), "a"));
        self.check(expected);
    }
}

fn bad(n: Option<usize>) -> Vec<Quarantined> {
    let id = n.map(|n| user_id(n).as_str().into());
    vec![Quarantined { scope: Scope::Users, id, reason: "status is an object".to_owned() }]
}

/// A walk by one answer that shows all but one, whose record is bad.
fn walk_but(at: u64, n: usize) -> Batch {
    let rows = (1..=4).filter(|other| *other != n).map(user).collect();
    Batch { quarantined: bad(Some(n)), ..finished(batch(at, rows), Scope::Users, at) }
}

fn failed() -> Vec<Gap> {
    vec![Gap { scope: Scope::Users, kind: GapKind::Failed, evidence: "503".to_owned() }]
}

fn works_again() -> Vec<(Scope, GapKind)> {
    vec![(Scope::Users, GapKind::Failed)]
}

fn unread(n: usize, since: u64) -> Vec<UnreadKey> {
    vec![UnreadKey { key: Key::User(user_id(n)), evidence: "503".to_owned(), since: RequestNumber(since) }]
}

fn paid(target: Target, by: u64) -> Vec<Answered> {
    vec![Answered { target, by: RequestNumber(by) }]
}

#[test]
fn a_list_that_works_again_with_a_bad_record_has_not_shown_it() {
    let mut list = List::read();
    list.put(Batch { gaps: failed(), ..batch(20, Vec::new()) });
    list.check("all");
    // The answer that ends the walk pays the debt for the list, which had failed.
    let answered = paid(Target::List(Scope::Users), 30);
    list.put(Batch { closed_gaps: works_again(), answered, is_followed: true, ..walk_but(30, 2) });
    list.check_reopened("2");
    // Nor has any other read that had failed and works again.
    list.put(Batch { closed_gaps: works_again(), ..batch(31, vec![user(3)]) });
    list.check("2");
    list.put(Batch { gaps: failed(), ..batch(32, Vec::new()) });
    list.check_reopened("all");
    list.put(Batch { closed_gaps: works_again(), ..batch(33, Vec::new()) });
    list.check_reopened("2");
}

#[test]
fn a_row_that_was_not_read_is_settled_by_what_is_asked_for_later() {
    let mut list = List::read();
    list.put(Batch { unread: unread(2, 20), ..batch(0, Vec::new()) });
    list.put(Batch { unread: unread(3, 21), ..batch(0, Vec::new()) });
    list.put(Batch { unread: unread(7, 22), ..batch(0, Vec::new()) });
    list.check_reopened("237");
    list.put(batch(20, vec![user(2)]));
    list.check("237");
    list.put(batch(21, vec![user(2)]));
    list.check("37");
    list.put(Batch { removals: vec![Key::User(user_id(3))], ..batch(30, Vec::new()) });
    list.check("7");
    // Who never was a row is gone as well.
    list.put(Batch { answered: paid(Target::User(user_id(7)), 22), ..batch(30, Vec::new()) });
    list.check("7");
    list.put(Batch { answered: paid(Target::User(user_id(7)), 23), ..batch(30, Vec::new()) });
    list.check_reopened("");
    list.put(Batch { unread: unread(2, 40), ..batch(0, Vec::new()) });
    list.put(Batch { settled: vec![(Key::User(user_id(2)), RequestNumber(40))], ..batch(41, Vec::new()) });
    list.check("2");
    list.put(Batch { settled: vec![(Key::User(user_id(2)), RequestNumber(41))], ..batch(41, Vec::new()) });
    list.check("");
}

#[test]
fn records_outside_of_lists_are_not_passed_over() {
    let mut list = List::read();
    list.put(Batch { quarantined: bad(Some(2)), ..batch(20, vec![user(1)]) });
    list.check_reopened("2");
    list.put(batch(21, vec![user(2)]));
    list.check("");
    // It may be any of them, and no answer but a whole list says which.
    list.put(Batch { quarantined: bad(None), ..batch(30, vec![user(1)]) });
    list.put(Batch { closed_gaps: works_again(), ..batch(31, (1..=4).map(user).collect()) });
    list.check_reopened("all");
    list.put(finished(batch(32, (1..=4).map(user).collect()), Scope::Users, 32));
    list.check_reopened("");
}

#[test]
fn a_record_is_older_or_newer_than_the_row_whatever_the_walk_began_with() {
    let mut list = List::read();
    list.put(walking(batch(20, vec![user(1)]), Scope::Users, 20, 1));
    list.put(Batch { is_reread: true, ..batch(25, vec![user(2)]) });
    list.put(Batch { quarantined: bad(Some(2)), ..walking(batch(30, vec![user(3)]), Scope::Users, 20, 2) });
    list.put(finished(batch(31, vec![user(4)]), Scope::Users, 20));
    list.check_reopened("2");
    list.put(walking(batch(40, vec![user(1)]), Scope::Users, 40, 1));
    list.put(Batch { quarantined: bad(Some(2)), ..walking(batch(41, vec![user(3)]), Scope::Users, 40, 2) });
    list.put(Batch { is_reread: true, ..batch(42, vec![user(2)]) });
    list.put(finished(batch(43, vec![user(4)]), Scope::Users, 40));
    list.check_reopened("");
    assert_eq!(list.store().reader.read(|snapshot| snapshot.quarantined(10)).unwrap(), []);
}

#[test]
fn a_row_is_as_old_as_the_last_list_that_has_shown_it() {
    let mut list = List::read();
    let begin = batch(0, Vec::new()).now;
    let later = |hours: i64, batch: Batch| Batch { now: begin.plus_millis(hours * HOUR_MILLIS), ..batch };
    let check = |list: &List, hours: i64, expected: &str| {
        let policy = CoveragePolicy {
            on_gap: OnGap::Keep,
            max_stale_millis: Some(25 * HOUR_MILLIS),
            ..CoveragePolicy::default()
        };
        let now: Timestamp = begin.plus_millis(hours * HOUR_MILLIS);
        let coverage = list.store().reader.coverage();
        let withheld = (1..=4).filter(|n| coverage.withholds(&Scope::Users, user_id(*n).as_str(), now, policy));
        assert_eq!(withheld.map(|n| n.to_string()).collect::<String>(), expected, "after {hours} h");
    };
    list.put(later(24, walk_but(20, 2)));
    check(&list, 25, "");
    check(&list, 26, "2");
    // It grows no younger by lists that do not show it, and takes nobody along.
    list.put(later(48, Batch { unread: unread(3, 30), ..walk_but(30, 2) }));
    check(&list, 49, "2");
    list.check_reopened("23");
    check(&list, 73, "2");
    check(&list, 74, "23");
    list.put(later(74, batch(31, vec![user(2)])));
    check(&list, 74, "3");
}

#[test]
fn more_rows_than_can_be_named_are_all() {
    let mut list = List::read();
    let many = (0..1_001).flat_map(|n| unread(n, 20)).collect();
    list.put(Batch { unread: many, ..batch(20, Vec::new()) });
    list.check_reopened("all");
    list.put(Batch { closed_gaps: works_again(), ..batch(21, (1..=4).map(user).collect()) });
    list.check("all");
    list.put(finished(batch(22, (1..=4).map(user).collect()), Scope::Users, 22));
    list.check_reopened("");
}

#[test]
fn a_list_says_nothing_of_whom_it_did_not_show_since() {
    let mut list = List::read();
    // User 2 is shown, then cannot be read; of user 3 the list shows nothing, of user 7 neither, who never was a row.
    list.put(Batch { unread: [unread(3, 15), unread(7, 15)].concat(), ..batch(0, Vec::new()) });
    list.put(walking(batch(20, vec![user(1), user(2)]), Scope::Users, 20, 1));
    list.put(Batch { unread: unread(2, 25), ..batch(0, Vec::new()) });
    list.check("237");
    list.put(Batch { is_followed: true, ..finished(batch(30, vec![user(4)]), Scope::Users, 20) });
    list.check_reopened("23");
    list.put(batch(31, vec![user(3)]));
    list.put(Batch { is_followed: true, ..finished(batch(40, (1..=4).map(user).collect()), Scope::Users, 40) });
    list.check_reopened("");
}

#[test]
fn a_row_that_goes_with_something_else_is_not_waited_for() {
    #[track_caller]
    fn check(row: Key, gone: Key) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), "a");
        let rows = vec![user(1), app("Jira"), group("Eng", GroupType::OktaGroup), app_user(1), member(1), app_group()];
        commit(&store, &[batch(1, rows)]).remove(0).unwrap();
        let unread = vec![UnreadKey { key: row, evidence: "503".to_owned(), since: RequestNumber(5) }];
        commit(&store, &[Batch { unread, ..batch(0, Vec::new()) }]).remove(0).unwrap();
        assert_eq!(store.reader.coverage().open_gaps(), 1);
        commit(&store, &[Batch { removals: vec![gone], ..batch(9, Vec::new()) }]).remove(0).unwrap();
        check_open_gaps(&store, &[]);
    }
    let account = || Key::AppUser(app_id(), user_id(1));
    check(account(), account());
    check(account(), Key::User(user_id(1)));
    check(account(), Key::App(app_id()));
    check(Key::GroupMember(group_id(), user_id(1)), Key::User(user_id(1)));
    check(Key::GroupMember(group_id(), user_id(1)), Key::Group(group_id()));
    check(Key::AppGroup(app_id(), group_id()), Key::Group(group_id()));
}

/// What an older request shows is not taken over, and so settles nothing.
#[test]
fn an_outdated_answer_settles_nothing() {
    let mut list = List::read();
    list.put(Batch { is_reread: true, ..batch(30, vec![user(2)]) });
    list.put(Batch { unread: unread(2, 12), ..batch(0, Vec::new()) });
    list.put(batch(20, vec![user(2)]));
    list.check("2");
    list.put(batch(31, vec![user(2)]));
    list.check_reopened("");
}

/// An answer that shows a row twice has shown it, whichever of the two is the newer one.
#[test]
fn a_row_that_is_shown_twice_is_settled_by_the_one_that_is_taken_over() {
    #[track_caller]
    fn check(dates: [i64; 2], settled: &str) {
        let list = List::read();
        let dated = |millis| match user(2) {
            Row::User(user) => Row::User(User { last_updated: Some(Timestamp::from_millis(millis)), ..user }),
            other => other,
        };
        // Read by id a moment ago: what a list dates before that is not taken over.
        list.put(Batch { is_reread: true, ..batch(11, vec![dated(2_000)]) });
        list.put(Batch { unread: unread(2, 12), ..batch(0, Vec::new()) });
        list.put(batch(20, dates.map(dated).into()));
        list.check(settled);
    }
    check([3_000, 1_000], "");
    check([1_000, 3_000], "");
    // With neither taken over nothing has been read.
    check([1_000, 1_000], "2");
}

#[test]
fn a_row_stays_as_old_as_it_is_while_all_are_doubtful() {
    let list = List::read();
    let begin = batch(0, Vec::new()).now;
    let later = |hours: i64, batch: Batch| Batch { now: begin.plus_millis(hours * HOUR_MILLIS), ..batch };
    list.put(later(24, walk_but(20, 2)));
    list.put(later(25, Batch { gaps: failed(), ..batch(21, Vec::new()) }));
    list.check("all");
    let policy = CoveragePolicy { max_stale_millis: Some(25 * HOUR_MILLIS), ..CoveragePolicy::default() };
    let coverage = list.store().reader.coverage();
    let is_withheld =
        |n: usize| coverage.withholds(&Scope::Users, user_id(n).as_str(), begin.plus_millis(26 * HOUR_MILLIS), policy);
    assert_eq!((1..=4).filter(|n| is_withheld(*n)).collect::<Vec<_>>(), [2]);
}

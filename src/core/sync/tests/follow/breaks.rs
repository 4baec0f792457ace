//! Following, by table: times in which nobody followed the log, and what a crawl that opens a new position says of what it has not
//! read.

use super::super::by_hand::{failed, forbidden, name, other_app, small, small_world, the_app, the_group};
use super::super::follower::{Follower, all_limits, calm_limits};
use super::crawls::{crawling, up_to_its_end};
use crate::core::coverage::GapKind;
use crate::core::ids::CrawlId;
use crate::core::model::Scope;
use crate::core::pending::Target;
use crate::core::reconcile::Brake;
use crate::core::sync::{Begin, Call, CrawlEnd};

const HOURS: i64 = 3_600_000;

/// Every collection of the small org, in order.
fn all() -> Vec<Scope> {
    let apps = [the_app(), other_app()];
    let below_apps = apps.clone().map(Scope::AppUsers).into_iter().chain(apps.map(Scope::AppGroups));
    let lists = [Scope::Users, Scope::Groups, Scope::Apps, Scope::GroupMembers(the_group())];
    let mut all: Vec<Scope> = lists.into_iter().chain(below_apps).collect();
    all.sort();
    all
}

fn all_but(read: &[Scope]) -> Vec<Scope> {
    all().into_iter().filter(|scope| !read.contains(scope)).collect()
}

/// What the gaps say that may have changed without a word.
fn lost(follower: &Follower) -> Vec<Scope> {
    let gaps = follower.books.gaps.iter().filter(|(_, kind)| *kind == GapKind::LogLost);
    gaps.map(|(scope, _)| scope.clone()).collect()
}

fn owed_lists(follower: &Follower) -> Vec<Scope> {
    let lists = follower.books.pending.keys().filter_map(|target| match target {
        Target::List(scope) => Some(scope.clone()),
        _ => None,
    });
    lists.collect()
}

fn begin_anew(follower: &mut Follower) {
    let id = CrawlId(follower.books.crawl + 1);
    follower.start_with(Begin::New { id, fingerprint: "f".to_owned() });
    follower.commit_all();
}

/// Nobody runs, for so long that the log is not followed from there.
fn pause(follower: &mut Follower) {
    follower.crash();
    follower.wait(2 * HOURS);
}

fn restart(follower: &mut Follower) {
    follower.crash();
    follower.start();
    follower.commit_all();
}

fn read(follower: &mut Follower, list: &str) {
    follower.reply(list);
    follower.commit_all();
}

/// One crawl alone, up to its end.
fn sync_without(follower: &mut Follower, forbidden_list: Option<&str>) {
    follower.is_alone = true;
    begin_anew(follower);
    follower.reply("anchor");
    while follower.state.is_some() {
        match follower.flights.first().map(|flight| name(&flight.call)) {
            Some(call) if Some(&*call) == forbidden_list => follower.fail(&call, forbidden()),
            Some(call) => follower.reply(&call),
            None => {}
        }
        follower.commit_all();
    }
    assert_eq!(follower.ends, [CrawlEnd::Finished]);
    follower.is_alone = false;
}

#[test]
fn what_was_read_before_a_break_is_a_gap_until_the_crawl_has_read_it() {
    let mut follower = small();
    pause(&mut follower);
    begin_anew(&mut follower);
    assert_eq!(lost(&follower), [], "the position is as old as it says");
    follower.reply("anchor");
    follower.commit_all();
    assert_eq!(lost(&follower), all(), "from the position on");
    assert_eq!(owed_lists(&follower), [], "the crawl reads them");
    read(&mut follower, "list users");
    read(&mut follower, "list apps");
    let unread = all_but(&[Scope::Users, Scope::Apps]);
    assert_eq!(lost(&follower), unread);
    for _ in 0..2 {
        restart(&mut follower);
        assert_eq!(lost(&follower), unread);
    }
    follower.run_until_quiet();
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
    assert_eq!(follower.crawls_ended, 2);
}

#[test]
fn a_crawl_that_opens_the_log_makes_no_more_calls_than_a_first_one() {
    let lists = |follower: &Follower| {
        let names = follower.calls.iter().filter(|call| !matches!(call, Call::PollLog(_))).map(name);
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let mut first = Follower::new(small_world(), all_limits(), calm_limits(), Brake::default(), 7);
    first.start();
    first.run_until_quiet();
    let mut follower = small();
    pause(&mut follower);
    begin_anew(&mut follower);
    follower.run_until_quiet();
    assert_eq!(lists(&follower), lists(&first));
}

/// A crawl that could not read the list of apps comes to its end, and what hangs on that is read after it.
#[track_caller]
fn check_end_without_apps(mut follower: Follower) {
    up_to_its_end(&mut follower);
    follower.commit_all();
    let unread = all_but(&[Scope::Users, Scope::Groups, Scope::GroupMembers(the_group())]);
    assert_eq!(lost(&follower), unread);
    assert_eq!(owed_lists(&follower), unread);
    follower.run_until_quiet();
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
}

#[test]
fn what_a_crawl_after_a_break_leaves_unread_is_owed_at_its_end() {
    let mut follower = small();
    pause(&mut follower);
    begin_anew(&mut follower);
    follower.reply("anchor");
    follower.commit_all();
    follower.fail("list apps", forbidden());
    check_end_without_apps(follower);
}

#[test]
fn a_first_crawl_says_nothing_of_what_was_never_read() {
    for is_interrupted in [false, true] {
        let mut follower = Follower::new(small_world(), all_limits(), calm_limits(), Brake::default(), 7);
        follower.start();
        follower.reply("anchor");
        follower.commit_all();
        if is_interrupted {
            restart(&mut follower);
        }
        follower.fail("list groups", failed());
        up_to_its_end(&mut follower);
        follower.commit_all();
        assert_eq!(lost(&follower), []);
        follower.run_until_quiet();
    }
}

#[test]
fn a_crawl_that_is_continued_where_the_old_position_tells_of_everything_says_nothing() {
    let mut follower = small();
    crawling(&mut follower);
    read(&mut follower, "list users");
    follower.poll();
    follower.commit_all();
    pause(&mut follower);
    follower.start();
    follower.reply("anchor");
    follower.commit_all();
    assert_eq!(lost(&follower), []);
    follower.run_until_quiet();
}

/// Each crawl that begins while the log cannot be opened moves the position that is opened at last.
#[test]
fn what_was_read_by_a_crawl_before_the_one_that_opens_the_log_is_a_gap() {
    let mut follower = Follower::new(small_world(), all_limits(), calm_limits(), Brake::default(), 7);
    follower.start();
    follower.fail("anchor", forbidden());
    up_to_its_end(&mut follower);
    follower.commit_all();
    assert_eq!(follower.crawls_ended, 1);
    follower.wait(2 * HOURS);
    crawling(&mut follower);
    follower.fail("list apps", forbidden());
    follower.reply("anchor");
    follower.commit_all();
    assert_eq!(lost(&follower), all());
    check_end_without_apps(follower);
}

#[test]
fn a_crawl_alone_says_at_its_end_what_it_has_not_read() {
    let mut follower = small();
    pause(&mut follower);
    sync_without(&mut follower, Some("list apps"));
    let unread = all_but(&[Scope::Users, Scope::Groups, Scope::GroupMembers(the_group())]);
    assert_eq!(lost(&follower), unread);
    assert_eq!(owed_lists(&follower), unread, "for whoever follows");
    let asked = follower.calls.iter().filter(|call| name(call) == "list apps").count();
    assert_eq!(asked, 1, "nobody who makes one crawl pays");
    follower.start();
    follower.debounce();
    assert_eq!(lost(&follower), unread);
    follower.run_until_quiet();
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
    assert_eq!(follower.crawls_ended, 1, "no crawl was needed for that");
}

#[test]
fn a_crawl_alone_that_reads_everything_leaves_no_gap_and_no_debt() {
    let mut follower = small();
    pause(&mut follower);
    sync_without(&mut follower, None);
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
    assert!(follower.books.pending.is_empty(), "{:?}", follower.books.pending);
    follower.start();
    follower.run_until_quiet();
}

/// One crawl alone has opened the log and read the users; then it dies.
fn after_half_a_crawl_alone() -> Follower {
    let mut follower = small();
    pause(&mut follower);
    follower.is_alone = true;
    begin_anew(&mut follower);
    follower.reply("anchor");
    follower.commit_all();
    read(&mut follower, "list users");
    follower.crash();
    follower.is_alone = false;
    follower
}

#[test]
fn who_follows_after_half_a_crawl_alone_says_what_that_has_not_read() {
    let check = |begin: fn(&mut Follower)| {
        let mut follower = after_half_a_crawl_alone();
        begin(&mut follower);
        follower.commit_all();
        assert_eq!(lost(&follower), all_but(&[Scope::Users]));
        follower.fail("list groups", failed());
        up_to_its_end(&mut follower);
        follower.commit_all();
        let unread = [Scope::Groups, Scope::GroupMembers(the_group())];
        assert_eq!(lost(&follower), unread);
        assert_eq!(owed_lists(&follower), unread);
        follower.run_until_quiet();
        assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
    };
    check(Follower::start);
    // As under other settings: the log is followed from where the half crawl has opened it.
    check(begin_anew);
}

#[test]
fn a_crawl_alone_does_not_move_a_position_that_tells_of_what_was_read() {
    let mut follower = small();
    crawling(&mut follower);
    read(&mut follower, "list users");
    let before = follower.books.cursor.clone();
    pause(&mut follower);
    follower.is_alone = true;
    follower.start();
    follower.commit_all();
    assert_eq!(follower.books.cursor, before);
    assert!(!follower.flights.iter().any(|flight| matches!(flight.call, Call::AnchorLog { .. })));
    follower.crash();
    follower.is_alone = false;
    follower.start();
    follower.run_until_quiet();
}

#[test]
fn who_follows_asks_for_whom_a_crawl_alone_has_missed() {
    let mut follower = after_half_a_crawl_alone();
    follower.is_alone = true;
    follower.world.delete_user_now(&super::user(4));
    begin_anew(&mut follower);
    follower.reply("anchor");
    follower.commit_all();
    read(&mut follower, "list users");
    assert!(follower.under_way().contains(&"read 00u004".to_owned()), "{:?}", follower.under_way());
    follower.crash();
    follower.is_alone = false;
    follower.start();
    assert!(follower.owes(&Target::User(super::user(4))));
    follower.run_until_quiet();
}

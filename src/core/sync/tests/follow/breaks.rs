//! Following, by table: times in which nobody followed the log, and what a crawl that opens a new position says of what it has not
//! read.

use super::super::by_hand::{failed, forbidden, name, other_app, small, small_world, the_app, the_group, user};
use super::super::follower::{Follower, all_limits, calm_limits};
use super::super::org::group_id;
use super::super::world::of_user;
use super::crawls::{crawling, up_to_its_end};
use crate::core::coverage::GapKind;
use crate::core::ids::{CrawlId, Timestamp};
use crate::core::model::{Key, Scope};
use crate::core::pending::Target;
use crate::core::reconcile::Brake;
use crate::core::sync::{Begin, Call, CrawlEnd, Input, ReadFailure};

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

/// A crawl alone begins, as under other settings.
fn begin_alone(follower: &mut Follower) {
    follower.is_alone = true;
    begin_anew(follower);
}

/// The same, and opens the log; returns when it has asked for that.
fn open_alone(follower: &mut Follower) -> Timestamp {
    begin_alone(follower);
    let opened_at = follower.now;
    follower.wait(2_000);
    follower.reply("anchor");
    follower.commit_all();
    opened_at
}

/// The process of a crawl alone dies; another one goes on with it later, which nobody follows either.
fn go_on_alone(follower: &mut Follower) {
    follower.crash();
    follower.wait(60_000);
    follower.is_alone = true;
    follower.start();
    follower.commit_all();
}

/// One crawl alone, up to its end.
fn sync_without(follower: &mut Follower, forbidden_list: Option<&str>) {
    open_alone(follower);
    finish_alone(follower, forbidden_list);
}

fn finish_alone(follower: &mut Follower, forbidden_list: Option<&str>) {
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
    open_alone(&mut follower);
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
    follower.world.delete_user_now(&user(4));
    open_alone(&mut follower);
    read(&mut follower, "list users");
    assert!(follower.under_way().contains(&"read 00u004".to_owned()), "{:?}", follower.under_way());
    follower.crash();
    follower.is_alone = false;
    follower.start();
    assert!(follower.owes(&Target::User(user(4))));
    follower.run_until_quiet();
}

/// Up to when readers are told that the log was followed.
fn told(follower: &Follower) -> Option<Timestamp> {
    follower.books.observed_through
}

/// Most of what is stored is as old as that, and no gap says so.
#[test]
fn a_crawl_alone_says_at_its_end_up_to_when_the_log_tells() {
    #[track_caller]
    fn check(mut follower: Follower, deaths: &[&[&str]]) {
        follower.world.log_now("user.session.start", Vec::new());
        let (before, cursor) = (told(&follower), follower.books.cursor.clone());
        let opened_at = open_alone(&mut follower);
        assert_ne!(follower.books.cursor, cursor, "whoever follows later misses nothing");
        for lists in deaths {
            lists.iter().for_each(|list| read(&mut follower, list));
            assert_eq!(told(&follower), before);
            go_on_alone(&mut follower);
        }
        assert_eq!((told(&follower), lost(&follower)), (before, Vec::new()));
        finish_alone(&mut follower, None);
        assert_eq!((told(&follower), lost(&follower)), (Some(opened_at), Vec::new()));
        let ends = follower.batches.pop().unwrap();
        assert_eq!((ends.observed_through, ends.unread_is_lost), (Some(opened_at), true), "in one batch");
        follower.start();
        follower.run_until_quiet();
    }
    let paused = || {
        let mut follower = small();
        pause(&mut follower);
        follower
    };
    let first = || Follower::new(small_world(), all_limits(), calm_limits(), Brake::default(), 7);
    for follower in [paused, first] {
        check(follower(), &[]);
        check(follower(), &[&[]]);
        check(follower(), &[&["list users", "list apps"], &["list groups"]]);
    }
}

#[test]
fn who_follows_after_half_a_crawl_alone_says_it_with_the_first_poll() {
    for begin in [Follower::start, begin_anew] {
        let mut follower = after_half_a_crawl_alone();
        let before = told(&follower);
        assert!(before < follower.books.opened_at);
        // The users are read: of this only the log tells.
        follower.world.users.get_mut(&user(2)).unwrap().login = Some("renamed".into());
        follower.world.log_now("user.account.update_profile", vec![of_user(&user(2))]);
        follower.wait(60_000);
        begin(&mut follower);
        follower.commit_all();
        assert_eq!((told(&follower), lost(&follower)), (before, all_but(&[Scope::Users])));
        let polled_at = follower.now;
        follower.poll();
        follower.commit_all();
        assert_eq!((told(&follower), lost(&follower)), (Some(polled_at), all_but(&[Scope::Users])));
        assert!(follower.owes(&Target::User(user(2))), "{:?}", follower.owed());
        follower.run_until_quiet();
        assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
    }
}

/// What the first one has read is older than the position of the second one, but no older than it is said to be.
#[test]
fn half_a_crawl_alone_and_another_one_under_other_settings() {
    let mut follower = after_half_a_crawl_alone();
    let before = told(&follower);
    follower.wait(60_000);
    let opened_at = open_alone(&mut follower);
    assert_eq!((told(&follower), lost(&follower)), (before, all_but(&[Scope::Users])));
    read(&mut follower, "list users");
    go_on_alone(&mut follower);
    assert_eq!(told(&follower), before);
    finish_alone(&mut follower, None);
    assert_eq!((told(&follower), lost(&follower)), (Some(opened_at), Vec::new()));
    follower.start();
    follower.run_until_quiet();
}

/// The position is that of the first one, and tells of everything that the second one has not read.
#[test]
fn half_a_crawl_alone_and_another_one_that_cannot_open_the_log() {
    for is_interrupted in [false, true] {
        let mut follower = after_half_a_crawl_alone();
        let (before, opened_at) = (told(&follower), follower.books.opened_at);
        follower.wait(60_000);
        begin_alone(&mut follower);
        follower.fail("anchor", forbidden());
        follower.commit_all();
        read(&mut follower, "list users");
        if is_interrupted {
            go_on_alone(&mut follower);
        }
        assert_eq!((told(&follower), follower.books.opened_at), (before, opened_at));
        finish_alone(&mut follower, None);
        let expected = if is_interrupted { opened_at } else { before };
        assert_eq!((told(&follower), lost(&follower)), (expected, vec![Scope::Log]));
        follower.start();
        follower.commit_all();
        let polled_at = follower.now;
        follower.poll();
        follower.commit_all();
        assert_eq!((told(&follower), lost(&follower)), (Some(polled_at), Vec::new()));
        follower.run_until_quiet();
    }
}

#[test]
fn what_was_lost_with_a_position_is_made_good_by_the_end_of_a_crawl_alone() {
    for is_interrupted in [false, true] {
        let mut follower = small();
        follower.wait(follower.follow.poll_millis);
        follower.fail("poll", ReadFailure::CursorGone);
        follower.reply("anchor");
        follower.commit_all();
        follower.poll();
        follower.commit_all();
        let before = told(&follower);
        assert_eq!(lost(&follower), [Scope::Log]);
        follower.crash();
        let opened_at = open_alone(&mut follower);
        read(&mut follower, "list users");
        if is_interrupted {
            go_on_alone(&mut follower);
        }
        assert_eq!((told(&follower), lost(&follower)), (before, vec![Scope::Log]));
        finish_alone(&mut follower, None);
        assert_eq!((told(&follower), lost(&follower)), (Some(opened_at), Vec::new()));
        follower.start();
        follower.run_until_quiet();
    }
}

/// A crawl that nobody follows does not show a user, and cannot ask for them.
#[test]
fn who_could_not_be_asked_for_where_nobody_followed_is_asked_for_by_whoever_follows() {
    let mut follower = small();
    pause(&mut follower);
    follower.world.delete_user_now(&user(3));
    sync_without(&mut follower, Some("read 00u003"));
    let gap = (Scope::Users, GapKind::Forbidden);
    assert!(follower.books.gaps.contains(&gap), "{:?}", follower.books.gaps);
    follower.start();
    // Another user cannot be read for a while.
    follower.hear("user.account.update_profile", vec![of_user(&user(1))]);
    follower.debounce();
    follower.fail("read 00u001", forbidden());
    follower.commit_all();
    follower.wait(5_000);
    follower.fail("read 00u003", failed());
    follower.reply("read 00u001");
    follower.commit_all();
    assert!(follower.books.gaps.contains(&gap), "of the other one nothing is known yet");
    follower.run_until_quiet();
    assert!(!follower.stored(&Scope::Users).contains(&Key::User(user(3))));
}

/// An app brings more groups than the brake lets go, and the list of groups lacks them all.
fn with_groups_of_an_app() -> Follower {
    let mut world = small_world();
    for n in 21..=28 {
        world.add_group_as(n, Some(other_app()));
    }
    let mut follower = Follower::new(world, all_limits(), calm_limits(), Brake { share: 0.2, rows: 1 }, 7);
    follower.start();
    follower.run_until_quiet();
    follower
}

fn has_group(follower: &Follower, n: usize) -> bool {
    follower.stored(&Scope::Groups).contains(&Key::Group(group_id(n)))
}

/// With the app they go, and the log tells of the app alone.
#[test]
fn groups_that_went_with_their_app_while_nobody_followed_are_not_held() {
    let mut follower = with_groups_of_an_app();
    pause(&mut follower);
    follower.world.delete_app_now(&other_app());
    follower.calls.clear();
    sync_without(&mut follower, None);
    assert!(!(21..=28).any(|n| has_group(&follower, n)), "{:?}", follower.stored(&Scope::Groups));
    assert!(has_group(&follower, 20));
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
    let read = follower.calls.iter().filter(|call| name(call).starts_with("read 00g")).count();
    assert_eq!(read, 5, "some are enough");
    follower.start();
    follower.run_until_quiet();
}

#[test]
fn groups_that_went_with_their_app_are_held_while_one_of_elsewhere_is_not_shown_either() {
    let mut follower = with_groups_of_an_app();
    pause(&mut follower);
    follower.world.delete_app_now(&other_app());
    follower.world.concealed.insert(Scope::Group(group_id(20)));
    sync_without(&mut follower, None);
    let gap = (Scope::Groups, GapKind::Held);
    assert!(follower.books.gaps.contains(&gap), "{:?}", follower.books.gaps);
    assert!((20..=28).all(|n| has_group(&follower, n)), "{:?}", follower.stored(&Scope::Groups));
    follower.calls.clear();
    follower.start();
    follower.wait(60_000);
    follower.settle_down();
    assert!(follower.calls.iter().any(|call| name(call) == "list groups"));
    assert!(follower.books.gaps.contains(&gap), "{:?}", follower.books.gaps);
    assert!(has_group(&follower, 20));
    follower.world.concealed.clear();
    follower.run_until_quiet();
    assert!(!(21..=28).any(|n| has_group(&follower, n)));
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
}

/// Whoever follows may meet the list before the event.
#[test]
fn groups_that_went_with_their_app_are_not_held_though_its_event_has_not_come() {
    let mut follower = with_groups_of_an_app();
    follower.world.delete_app_now(&other_app());
    follower.calls.clear();
    follower.step(Input::Asked(Target::List(Scope::Groups)));
    follower.commit_all();
    follower.debounce();
    read(&mut follower, "list groups");
    while let Some(call) = follower.under_way().iter().find(|call| call.starts_with("read 00g")).cloned() {
        follower.reply(&call);
    }
    follower.reply("search");
    follower.commit_all();
    assert!(!(21..=28).any(|n| has_group(&follower, n)), "{:?}", follower.stored(&Scope::Groups));
    follower.run_until_quiet();
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
}

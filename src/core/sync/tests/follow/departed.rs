//! Following, by table: objects that are known to be gone, and that a list which is behind shows all the same; and deletions of
//! long ago.

use super::super::by_hand::{small, small_world, user};
use super::super::follower::{Follower, all_limits, calm_limits};
use super::super::world::World;
use crate::core::ids::CrawlId;
use crate::core::model::{Key, Scope};
use crate::core::pending::{Patience, Target};
use crate::core::reconcile::Brake;
use crate::core::sync::{Begin, FollowLimits, Input};

const LIST: &str = "list users";
const READ: &str = "read 00u002";

/// The org before the user was deleted, and a follower after that. No event is heard of yet.
fn deleted() -> (World, Follower) {
    let mut follower = small();
    let before = follower.world.clone();
    follower.world.delete_user_now(&user(2));
    (before, follower)
}

fn ask(follower: &mut Follower, target: Target) {
    follower.step(Input::Asked(target));
    follower.commit_all();
    follower.debounce();
}

/// A replica that is behind answers the list.
fn reply_late(follower: &mut Follower, before: &World) {
    let now = std::mem::replace(&mut follower.world, before.clone());
    follower.reply(LIST);
    follower.world = now;
    follower.commit_all();
}

fn is_stored(follower: &Follower) -> bool {
    follower.stored(&Scope::Users).contains(&Key::User(user(2)))
}

#[track_caller]
fn check_gone(mut follower: Follower) {
    assert!(!is_stored(&follower), "it is gone for good");
    follower.run_until_quiet();
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
    assert_eq!(follower.crawls_ended, 1, "no crawl was needed for that");
}

#[test]
fn an_announced_end_is_newer_than_a_list_that_was_asked_for_after_the_read_of_it() {
    let (before, mut follower) = deleted();
    follower.poll();
    follower.commit_all();
    follower.debounce();
    follower.send(READ);
    ask(&mut follower, Target::List(Scope::Users));
    reply_late(&mut follower, &before);
    assert!(is_stored(&follower));
    follower.reply(READ);
    follower.commit_all();
    check_gone(follower);
}

#[test]
fn an_end_that_the_search_tells_of_is_newer_than_a_list_that_was_asked_for_after_the_read_of_it() {
    let (before, mut follower) = deleted();
    ask(&mut follower, Target::User(user(2)));
    follower.reply(READ);
    follower.commit_all();
    follower.wait(Patience::default().later_millis);
    follower.send(READ);
    ask(&mut follower, Target::List(Scope::Users));
    // What the list shows is stored before the read is answered.
    reply_late(&mut follower, &before);
    follower.reply(READ);
    follower.commit_all();
    assert!(is_stored(&follower));
    follower.reply("search");
    follower.commit_all();
    check_gone(follower);
}

#[test]
fn a_list_under_way_does_not_bring_back_what_is_gone() {
    let (before, mut follower) = deleted();
    follower.poll();
    follower.commit_all();
    follower.debounce();
    follower.send(READ);
    ask(&mut follower, Target::List(Scope::Users));
    follower.send(LIST);
    follower.reply(READ);
    follower.commit_all();
    reply_late(&mut follower, &before);
    check_gone(follower);
}

#[test]
fn what_is_gone_is_asked_for_when_a_list_shows_it_later() {
    let (before, mut follower) = deleted();
    follower.poll();
    follower.commit_all();
    follower.debounce();
    follower.reply(READ);
    follower.commit_all();
    assert!(!is_stored(&follower));
    ask(&mut follower, Target::List(Scope::Users));
    reply_late(&mut follower, &before);
    assert!(is_stored(&follower), "it was asked for later, and may be right");
    follower.debounce();
    follower.reply(READ);
    follower.commit_all();
    follower.wait(Patience::default().later_millis);
    follower.reply(READ);
    follower.reply("search");
    follower.commit_all();
    check_gone(follower);
}

const HOUR: i64 = 3_600_000;

/// Users are deleted, and nobody follows for longer than the search for deletions goes back at first. Then everything is read anew.
fn after_a_break(users: &[usize], brake: Brake) -> Follower {
    let follow = FollowLimits { crawl_millis: HOUR, ..calm_limits() };
    let mut follower = Follower::new(small_world(), all_limits(), follow, brake, 7);
    follower.start();
    follower.run_until_quiet();
    follower.crash();
    for n in users {
        follower.world.delete_user_now(&user(*n));
    }
    follower.wait(5 * HOUR);
    follower.start_with(Begin::New { id: CrawlId(2), fingerprint: "f".to_owned() });
    follower
}

/// Answers everything but reads by id until the crawl is over.
fn up_to_the_end_without_reads(follower: &mut Follower) {
    follower.reply("anchor");
    while follower.crawls_ended < 2 {
        follower.commit_all();
        match follower.under_way().iter().find(|call| !call.starts_with("read ")).cloned() {
            Some(call) => follower.reply(&call),
            None => follower.wait(100),
        }
    }
}

#[test]
fn a_deletion_long_before_the_last_crawl_is_found_by_the_search_after_the_next_look() {
    let mut follower = after_a_break(&[2], Brake::default());
    up_to_the_end_without_reads(&mut follower);
    follower.run_until_quiet();
    assert!(!is_stored(&follower));
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
}

#[test]
fn deletions_long_before_the_last_crawl_end_a_hold() {
    let mut follower = after_a_break(&[2, 3, 4, 5], Brake { share: 0.2, rows: 1 });
    up_to_the_end_without_reads(&mut follower);
    follower.run_until_quiet();
    assert!(!is_stored(&follower));
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
}

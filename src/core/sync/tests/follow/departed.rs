//! Following, by table: objects that are known to be gone, and that a list which is behind shows all the same.

use super::super::by_hand::{small, user};
use super::super::follower::Follower;
use super::super::world::World;
use crate::core::model::{Key, Scope};
use crate::core::pending::{Patience, Target};
use crate::core::sync::Input;

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

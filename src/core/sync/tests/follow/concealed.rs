//! Following, by table: objects that are not shown for a while.

use super::super::by_hand::{failed, other_app, small, small_world, the_app, the_group, user};
use super::super::follower::{Follower, all_limits, calm_limits};
use super::super::org::group_id;
use super::super::world::of_app;
use crate::core::coverage::GapKind;
use crate::core::ids::AppId;
use crate::core::model::{Key, Scope};
use crate::core::pending::{Patience, Target};
use crate::core::reconcile::Brake;
use crate::core::sync::Input;

/// The group is asked for, and not shown.
fn missed() -> Follower {
    let mut follower = small();
    follower.world.concealed.insert(Scope::Group(the_group()));
    follower.step(Input::Asked(Target::Group(the_group())));
    follower.commit_all();
    follower.debounce();
    follower.reply("read 00g020");
    follower.commit_all();
    follower
}

/// The second look does not find it either.
fn missed_twice() -> Follower {
    let mut follower = missed();
    follower.wait(Patience::default().later_millis);
    follower.reply("read 00g020");
    follower.commit_all();
    assert_eq!(follower.under_way(), ["search"]);
    follower
}

fn list(follower: &mut Follower, scope: Scope) {
    let wanted = format!("list {scope}");
    follower.step(Input::Asked(Target::List(scope)));
    follower.commit_all();
    follower.debounce();
    follower.reply(&wanted);
    follower.commit_all();
}

#[track_caller]
fn check_whole(mut follower: Follower) {
    follower.run_until_quiet();
    assert_eq!(follower.books.gaps.len(), 0, "{:?}", follower.books.gaps);
}

#[test]
fn an_object_that_a_list_shows_while_the_log_is_searched_for_it_is_read_and_has_no_gap() {
    let mut follower = missed_twice();
    follower.send("search");
    follower.world.concealed.clear();
    list(&mut follower, Scope::Groups);
    assert_eq!(follower.under_way(), ["read 00g020", "search"]);
    follower.reply("search");
    follower.commit_all();
    assert_eq!(follower.books.gaps.len(), 0, "{:?}", follower.books.gaps);
    check_whole(follower);
}

#[test]
fn an_object_that_a_list_shows_while_it_waits_for_the_search_for_another_one_is_read() {
    let mut follower = missed_twice();
    follower.send("search");
    let app: AppId = the_app();
    follower.world.concealed.insert(Scope::App(app.clone()));
    follower.step(Input::Asked(Target::App(app.clone())));
    follower.commit_all();
    follower.debounce();
    follower.reply("read 0oa030");
    follower.commit_all();
    follower.wait(Patience::default().later_millis);
    follower.reply("read 0oa030");
    follower.commit_all();
    assert!(!follower.under_way().contains(&"read 0oa030".to_owned()), "it waits for the next search");
    follower.world.concealed.clear();
    list(&mut follower, Scope::Apps);
    assert!(follower.under_way().contains(&"read 0oa030".to_owned()), "{:?}", follower.under_way());
    check_whole(follower);
}

/// Its second look comes, and finds it; and what follows from that.
fn look_again(follower: &mut Follower) {
    follower.world.concealed.clear();
    follower.wait(Patience::default().later_millis);
    follower.settle_down();
    follower.calls.clear();
    follower.debounce();
}

#[test]
fn an_assignment_that_ended_while_its_group_was_not_shown_is_removed_when_the_group_is_back() {
    let mut follower = missed();
    let scope = Scope::AppGroups(the_app());
    follower.world.app_groups.remove(&(the_app(), the_group()));
    list(&mut follower, scope.clone());
    assert_eq!(follower.stored(&scope).len(), 1, "nobody knows yet what became of the group");
    look_again(&mut follower);
    assert_eq!(follower.under_way(), ["list app_groups(0oa030)"]);
    follower.settle_down();
    assert_eq!(follower.stored(&scope), []);
    check_whole(follower);
}

#[test]
fn an_assignment_that_was_not_found_with_its_group_is_asked_for_again() {
    let mut follower = small();
    follower.world.concealed.insert(Scope::Group(the_group()));
    follower.world.assign(&other_app(), &the_group());
    let key = Target::AppGroup(other_app(), the_group());
    follower.world.emptied.insert(Scope::AppGroups(other_app()));
    follower.step(Input::Asked(key.clone()));
    follower.commit_all();
    // As by an answer that hides what is concealed.
    for _ in 0..2 {
        follower.debounce();
        let wanted = follower.under_way();
        for call in wanted {
            if call.contains('/') {
                follower.answer(&call, |id, at| Input::ById(id, crate::core::sync::ByIdSeen::NotFound(at)));
            } else {
                follower.reply(&call);
            }
        }
        follower.commit_all();
    }
    assert!(follower.owes(&key), "it may be there, as the group may");
    follower.world.emptied.clear();
    follower.world.concealed.clear();
    check_whole(follower);
}

#[test]
fn a_gap_closes_with_an_answer_that_finds_nothing_and_settles_nothing() {
    let mut follower = small();
    follower.world.concealed.insert(Scope::Group(the_group()));
    let key = Target::AppGroup(other_app(), the_group());
    let gap = (Scope::AppGroups(other_app()), GapKind::Failed);
    follower.step(Input::Asked(key.clone()));
    follower.commit_all();
    let mut has_failed = false;
    for _ in 0..6 {
        follower.wait(5_000);
        follower.debounce();
        for call in follower.under_way() {
            if !call.contains('/') {
                follower.reply(&call);
            } else if has_failed {
                assert!(follower.books.gaps.contains(&gap));
                follower.answer(&call, |id, at| Input::ById(id, crate::core::sync::ByIdSeen::NotFound(at)));
                follower.commit_all();
                assert!(!follower.books.gaps.contains(&gap), "the read works again");
                assert!(follower.owes(&key), "and it is open what became of the group");
                return;
            } else {
                follower.fail(&call, failed());
                has_failed = true;
            }
        }
        follower.commit_all();
    }
    panic!("it was not asked for twice: {:?}", follower.under_way());
}

/// The end of an app says that of the group which it brought. The group is found by a read that was sent after that, and answered
/// before anybody but the store knew; then it is hidden.
#[test]
fn a_find_takes_back_an_end_that_nobody_has_heard_of_yet() {
    #[track_caller]
    fn check(delay: impl FnOnce(&mut Follower)) {
        let (mut world, group) = (small_world(), group_id(40));
        world.add_group_as(40, Some(the_app()));
        world.assign(&other_app(), &group);
        let mut follower = Follower::new(world, all_limits(), calm_limits(), Brake::default(), 7);
        follower.start();
        follower.run_until_quiet();
        follower.world.apps.remove(&the_app());
        follower.hear("application.lifecycle.delete", vec![of_app(&the_app())]);
        let ask = |follower: &mut Follower| {
            follower.step(Input::Asked(Target::Group(group.clone())));
            follower.commit_all();
            follower.debounce();
        };
        ask(&mut follower);
        delay(&mut follower);
        follower.commit_all();
        // Once now, and once more when it was due.
        ask(&mut follower);
        follower.reply("read 0oa030");
        follower.reply("read 00g040");
        assert_eq!(follower.commits.len(), 2);
        follower.commit_all();
        assert!(!follower.books.pending[&Target::Group(group.clone())].announced);
        follower.world.concealed.insert(Scope::Group(group.clone()));
        while !follower.under_way().contains(&"read 00g040".to_owned()) {
            follower.wait(1_000);
        }
        follower.reply("read 00g040");
        follower.commit_all();
        assert!(follower.stored(&Scope::Groups).contains(&Key::Group(group)), "it may be hidden");
    }
    check(|follower| follower.fail("read 00g040", failed()));
    check(|follower| {
        follower.world.concealed.insert(Scope::Group(group_id(40)));
        follower.reply("read 00g040");
        follower.world.concealed.clear();
    });
}

/// The user is asked for, and not shown.
fn missed_user() -> Follower {
    let mut follower = small();
    follower.world.concealed.insert(Scope::User(user(1)));
    follower.step(Input::Asked(Target::User(user(1))));
    follower.commit_all();
    follower.debounce();
    follower.reply("read 00u001");
    follower.commit_all();
    follower
}

#[test]
fn a_membership_that_ended_while_its_user_was_not_shown_is_removed_when_the_user_is_back() {
    let mut follower = missed_user();
    let scope = Scope::GroupMembers(the_group());
    follower.world.members.remove(&(the_group(), user(1)));
    list(&mut follower, scope.clone());
    assert!(follower.stored(&scope).contains(&Key::GroupMember(the_group(), user(1))), "nobody knows yet");
    look_again(&mut follower);
    assert_eq!(
        follower.under_way(),
        ["list group_members(00g020)", "select apps of 00u001", "select groups of 00u001"]
    );
    follower.settle_down();
    assert!(!follower.stored(&scope).contains(&Key::GroupMember(the_group(), user(1))));
    check_whole(follower);
}

#[test]
fn lists_that_were_not_read_while_a_user_was_not_shown_are_not_read_again() {
    let mut follower = missed_user();
    look_again(&mut follower);
    assert_eq!(follower.under_way(), ["select apps of 00u001", "select groups of 00u001"]);
    check_whole(follower);
}

#[test]
fn an_account_that_ended_while_its_app_was_not_shown_is_removed_when_the_app_is_back() {
    let mut follower = small();
    follower.world.concealed.insert(Scope::App(the_app()));
    follower.world.accounts.remove(&(the_app(), user(1)));
    follower.step(Input::Asked(Target::AppUser(the_app(), user(1))));
    follower.commit_all();
    for _ in 0..2 {
        follower.debounce();
        follower.settle_down();
    }
    let scope = Scope::AppUsers(the_app());
    assert!(follower.stored(&scope).contains(&Key::AppUser(the_app(), user(1))), "nobody knows yet");
    follower.world.concealed.clear();
    check_whole(follower);
}

/// The page was asked for before the read that did not find the object: it says nothing about what has become of it since.
#[test]
fn an_older_page_does_not_answer_what_became_of_an_object() {
    let mut follower = missed();
    follower.world.concealed.clear();
    follower.step(Input::Asked(Target::List(Scope::Groups)));
    follower.commit_all();
    follower.debounce();
    follower.send("list groups");
    follower.world.concealed.insert(Scope::Group(the_group()));
    follower.wait(Patience::default().later_millis);
    follower.reply("read 00g020");
    follower.commit_all();
    assert_eq!(follower.under_way(), ["list groups", "search"]);
    follower.world.concealed.clear();
    follower.reply("list groups");
    follower.commit_all();
    assert_eq!(follower.under_way(), ["search"], "only the search is awaited");
    follower.reply("search");
    follower.commit_all();
    assert_eq!(follower.books.gaps.len(), 1, "{:?}", follower.books.gaps);
    check_whole(follower);
}

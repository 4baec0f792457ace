//! Following, by table: lists by debts, holds, and what follows from lists that fail.

use super::super::by_hand::{failed, name, other_app, small, small_with, the_app, the_group, user};
use super::super::follower::{Follower, all_limits, calm_limits};
use super::super::world::{of_app, of_group, of_user};
use crate::core::coverage::GapKind;
use crate::core::ids::Timestamp;
use crate::core::model::Scope;
use crate::core::pending::Target;
use crate::core::reconcile::Brake;
use crate::core::sync::{FollowLimits, Input, Limits, Members};

fn members() -> Scope {
    Scope::GroupMembers(the_group())
}

/// Asks for a list, and lets it begin.
fn ask_for(follower: &mut Follower, scope: Scope) {
    follower.step(Input::Asked(Target::List(scope)));
    follower.commit_all();
    follower.debounce();
}

/// The list of members is empty although three are stored: it is held.
fn held(emptied: bool) -> Follower {
    let mut follower = small();
    if emptied {
        follower.world.emptied.insert(members());
    } else {
        follower.world.members.clear();
    }
    ask_for(&mut follower, members());
    follower.reply("list group_members(00g020)");
    follower.commit_all();
    assert_eq!(follower.state().log_status().held, 1);
    assert!(follower.books.gaps.is_empty(), "nothing is said before the probes are answered");
    assert_eq!(follower.stored(&members()).len(), 3, "kept");
    follower
}

const PROBES: [&str; 3] = ["select groups of 00u001", "select groups of 00u002", "select groups of 00u003"];

#[test]
fn a_hold_ends_when_every_row_that_is_asked_for_is_gone() {
    let mut follower = held(false);
    assert_eq!(follower.under_way(), PROBES);
    for probe in PROBES {
        assert_eq!(follower.stored(&members()).len(), 3);
        follower.reply(probe);
        follower.commit_all();
    }
    assert_eq!(follower.stored(&members()), []);
    assert_eq!(follower.state().log_status().held, 0);
    assert!(follower.books.gaps.is_empty());
    follower.run_until_quiet();
}

#[test]
fn a_hold_stays_when_a_row_is_there_or_nobody_can_tell() {
    let one_fails = |follower: &mut Follower| {
        follower.reply(PROBES[0]);
        follower.fail(PROBES[1], failed());
        follower.reply(PROBES[2]);
    };
    let all_exist = |follower: &mut Follower| PROBES.iter().for_each(|probe| follower.reply(probe));
    for (emptied, probe) in [(false, &one_fails as &dyn Fn(&mut Follower)), (true, &all_exist)] {
        let mut follower = held(emptied);
        probe(&mut follower);
        follower.commit_all();
        assert!(follower.books.gaps.is_empty(), "they may have come back while the list was read");
        follower.wait(3_000);
        follower.reply("list group_members(00g020)");
        follower.commit_all();
        probe(&mut follower);
        follower.commit_all();
        assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(members(), GapKind::EmptySuspect)]);
        assert_eq!(follower.state().log_status().held, 1);
        assert_eq!(follower.stored(&members()).len(), 3);
        follower.world.emptied.clear();
        follower.run_until_quiet();
        assert_eq!(follower.state().log_status().held, 0, "the list is read again, and ends it");
    }
}

#[test]
fn a_held_list_is_read_again_ever_more_rarely() {
    let mut follower = held(true);
    let mut waits = Vec::new();
    for _ in 0..5 {
        PROBES.iter().for_each(|probe| follower.reply(probe));
        follower.commit_all();
        let before = follower.now;
        while !follower.under_way().contains(&"list group_members(00g020)".to_owned()) {
            let at: Timestamp = follower.state().wake_at().unwrap();
            follower.pass(at);
            if follower.flights.iter().any(|flight| name(&flight.call) == "poll") {
                follower.reply("poll");
                follower.commit_all();
            }
        }
        waits.push(follower.now.millis_since(before) / 1_000);
        follower.reply("list group_members(00g020)");
        follower.commit_all();
    }
    assert_eq!(waits, [3, 120, 240, 480, 600], "the first time soon, to see whether it is still so");
}

#[test]
fn with_another_credential_nothing_is_probed() {
    let mut follower = small();
    follower.crash();
    follower.books.credential = "second".to_owned();
    follower.start();
    follower.world.members.clear();
    follower.world.set_member(&the_group(), &user(1), true);
    ask_for(&mut follower, members());
    follower.reply("list group_members(00g020)");
    follower.commit_all();
    assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(members(), GapKind::Held)]);
    assert_eq!(follower.under_way(), Vec::<String>::new());
    assert_eq!(follower.stored(&members()).len(), 3);
}

#[test]
fn a_hold_ends_with_its_group() {
    let mut follower = held(true);
    PROBES.iter().for_each(|probe| follower.reply(probe));
    follower.world.groups.remove(&the_group());
    follower.world.members.clear();
    follower.world.app_groups.clear();
    follower.hear("group.lifecycle.delete", vec![of_group(&the_group())]);
    follower.run_until_quiet();
    assert_eq!(follower.state().log_status().held, 0);
}

#[test]
fn the_gap_of_reads_closes_with_the_last_of_them_in_whatever_order_they_are_stored() {
    let mut follower = small();
    for n in 1..=2 {
        follower.world.log_now("user.account.update_profile", vec![of_user(&user(n))]);
    }
    follower.poll();
    follower.commit_all();
    follower.debounce();
    follower.fail("read 00u001", failed());
    follower.fail("read 00u002", failed());
    follower.commit_all();
    assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(Scope::Users, GapKind::Failed)]);
    follower.wait(5_000);
    follower.reply("read 00u001");
    follower.reply("read 00u002"); // While the first payment is on its way.
    follower.commit_all();
    assert!(follower.books.gaps.is_empty());
}

#[test]
fn a_failure_that_another_read_has_made_good_leaves_no_gap() {
    let mut follower = small();
    follower.hear("application.user_membership.update", vec![of_app(&the_app()), of_user(&user(1))]);
    follower.debounce();
    follower.send("read 0oa030/00u001");
    ask_for(&mut follower, Scope::AppUsers(the_app()));
    follower.reply("list app_users(0oa030)");
    follower.commit_all();
    follower.fail("read 0oa030/00u001", failed());
    follower.commit_all();
    assert!(follower.books.gaps.is_empty());
    follower.run_until_quiet();
}

fn assigned_only() -> Limits {
    Limits { members: Members::Assigned, ..all_limits() }
}

#[test]
fn members_of_a_group_that_is_assigned_again_are_read_again() {
    let mut follower = small_with(assigned_only(), calm_limits());
    // No longer assigned; nobody follows it from the next start on.
    follower.world.app_groups.clear();
    follower.hear("group.application_assignment.remove", vec![of_app(&the_app()), of_group(&the_group())]);
    follower.run_until_quiet();
    follower.crash();
    follower.start();
    follower.world.set_member(&the_group(), &user(5), true);
    follower.hear("group.user_membership.rule.trigger", Vec::new());
    follower.wait(30_000);
    follower.settle_down();
    follower.world.assign(&other_app(), &the_group());
    follower.hear("group.application_assignment.add", vec![of_app(&other_app()), of_group(&the_group())]);
    follower.run_until_quiet();
    assert_eq!(follower.stored(&members()).len(), 4);
}

#[test]
fn a_group_without_members_is_not_taken_for_empty_after_an_event_about_it() {
    for members_are in [Members::All, Members::Assigned] {
        let mut follower = small_with(Limits { members: members_are, ..all_limits() }, calm_limits());
        follower.world.members.clear();
        follower.hear("group.user_membership.rule.trigger", Vec::new());
        follower.run_until_quiet();
        follower.step(Input::Asked(Target::Everything));
        follower.debounce();
        assert!(follower.state().is_crawling());
        // The list says that there are none; then somebody joins, and the event comes before the answer.
        follower.send("list groups");
        let place = follower.flights.iter().position(|flight| name(&flight.call) == "list groups").unwrap();
        let flight = follower.flights.swap_remove(place);
        let at = crate::core::ids::RequestNumber(follower.newest);
        let late = follower.world.answer(flight.id, &flight.call, at, &mut follower.random);
        follower.wait(20_000);
        follower.world.set_member(&the_group(), &user(1), true);
        follower.hear("group.user_membership.add", vec![of_user(&user(1)), of_group(&the_group())]);
        follower.step(late);
        follower.commit_all();
        follower.run_until_quiet();
        assert_eq!(follower.stored(&members()).len(), 1, "{members_are:?}");
    }
}

#[test]
fn a_list_of_groups_by_itself_does_not_move_the_walk_of_changes_on() {
    let mut follower = small();
    let before = follower.books.deltas.clone();
    follower.wait(600_000);
    follower.reply("poll");
    ask_for(&mut follower, Scope::Groups);
    follower.settle_down();
    assert_eq!(follower.books.deltas, before, "it says nothing about members");
    ask_for(&mut follower, Scope::Users);
    follower.settle_down();
    assert_ne!(follower.books.deltas, before);
}

#[test]
fn a_shrunk_list_meets_the_brake_and_a_growing_one_does_not() {
    let mut follower = small_with(all_limits(), FollowLimits { hold_retry_millis: (1_000, 1_000), ..calm_limits() });
    follower.books.brake = Brake { share: 0.2, rows: 1 };
    follower.world.accounts.retain(|(app, who), _| *app != the_app() || *who == user(1));
    ask_for(&mut follower, Scope::AppUsers(the_app()));
    follower.reply("list app_users(0oa030)");
    follower.commit_all();
    assert_eq!(follower.under_way(), ["read 0oa030/00u002", "read 0oa030/00u003"]);
    follower.reply("read 0oa030/00u002");
    follower.reply("read 0oa030/00u003");
    // An account that is not found is gone only if its user is there.
    assert_eq!(follower.under_way(), ["read 00u002", "read 00u003"]);
    follower.reply("read 00u002");
    follower.reply("read 00u003");
    follower.commit_all();
    assert_eq!(follower.stored(&Scope::AppUsers(the_app())).len(), 1);
    follower.run_until_quiet();
}

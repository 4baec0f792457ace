//! Following, by table: single accounts, all accounts of a user, and what they wait for.

use super::super::by_hand::{failed, forbidden, name, other_app, small, small_with, the_app, the_group, user};
use super::super::follower::{Follower, all_limits, calm_limits};
use super::super::world::{of_app, of_group, of_user};
use super::crawls::crawling;
use crate::core::coverage::GapKind;
use crate::core::ids::{AppId, UserId};
use crate::core::model::{AppStatus, Key, Scope};
use crate::core::pending::Target;
use crate::core::plan::Costs;
use crate::core::sync::{FollowLimits, PageSeen, UserAppSeen};
use crate::core::{batch::WalkState, sync::Input};

/// Events about accounts, and the reads that they oblige to begin.
fn hear_of(follower: &mut Follower, pairs: &[(AppId, UserId)]) {
    hear_that(follower, "application.user_membership.update", pairs);
}

fn hear_that(follower: &mut Follower, event_type: &str, pairs: &[(AppId, UserId)]) {
    for (app, user) in pairs {
        follower.world.log_now(event_type, vec![of_app(app), of_user(user)]);
    }
    follower.poll();
    follower.commit_all();
    follower.debounce();
}

fn account(app: &AppId, user: &UserId) -> Key {
    Key::AppUser(app.clone(), user.clone())
}

#[test]
fn an_account_waits_for_its_user_and_app_and_goes_with_them() {
    #[track_caller]
    fn check(event_type: &str, first: &str, is_gone: bool, then: &[&str]) {
        let mut follower = small();
        let (app, user) = (the_app(), user(2));
        follower.world.log_now("application.user_membership.update", vec![of_app(&app), of_user(&user)]);
        let named = if event_type.starts_with("user") { of_user(&user) } else { of_app(&app) };
        follower.world.log_now(event_type, vec![named]);
        follower.poll();
        follower.commit_all();
        follower.debounce();
        assert_eq!(follower.under_way(), [first], "{event_type}");
        if is_gone && event_type.starts_with("user") {
            follower.world.users.remove(&user);
            follower.world.members.retain(|(_, other)| *other != user);
            follower.world.accounts.retain(|(_, other), _| *other != user);
        } else if is_gone {
            follower.world.apps.remove(&app);
            follower.world.accounts.retain(|(other, _), _| *other != app);
            follower.world.app_groups.clear();
        }
        follower.reply(first);
        follower.commit_all();
        assert_eq!(follower.under_way(), then, "{event_type}, gone: {is_gone}");
        follower.settle_down();
        follower.run_until_quiet();
    }
    check("user.account.update_profile", "read 00u002", false, &["read 0oa030/00u002"]);
    check("user.lifecycle.delete.completed", "read 00u002", true, &[]);
    check("application.lifecycle.update", "read 0oa030", false, &["read 0oa030/00u002"]);
    check("application.lifecycle.delete", "read 0oa030", true, &[]);
}

#[test]
fn an_account_whose_user_cannot_be_read_is_read_all_the_same() {
    let mut follower = small();
    follower.world.log_now("user.account.update_profile", vec![of_user(&user(2))]);
    hear_of(&mut follower, &[(the_app(), user(2))]);
    follower.fail("read 00u002", failed());
    assert_eq!(follower.under_way(), ["read 0oa030/00u002"]);
    follower.settle_down();
    assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(Scope::Users, GapKind::Failed)]);
    assert_eq!(follower.owed(), ["user(00u002)"]);
    // It is the matter of this user alone.
    assert_eq!(follower.books.unread_in(&Scope::Users), ["00u002"]);
    follower.run_until_quiet();
    assert_eq!(follower.books.unread_in(&Scope::Users), Vec::<String>::new());
    // Where Okta refuses, all users are.
    follower.hear("user.account.update_profile", vec![of_user(&user(2))]);
    follower.debounce();
    follower.fail("read 00u002", forbidden());
    follower.commit_all();
    assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(Scope::Users, GapKind::Forbidden)]);
    follower.run_until_quiet();
}

#[test]
fn an_app_that_was_never_seen_is_read_before_its_accounts() {
    let mut follower = small();
    let app = {
        follower.world.add_app_as(40, "jira");
        AppId::new("0oa040").unwrap()
    };
    follower.world.give(&app, &user(1), None);
    hear_of(&mut follower, &[(app.clone(), user(1))]);
    assert_eq!(follower.under_way(), Vec::<String>::new());
    follower.debounce();
    assert_eq!(follower.under_way(), ["read 0oa040"]);
    follower.reply("read 0oa040");
    follower.commit_all();
    assert_eq!(follower.under_way(), ["read 0oa040/00u001"]);
    follower.debounce();
    assert_eq!(follower.under_way(), ["list app_groups(0oa040)", "list app_users(0oa040)", "read 0oa040/00u001"]);
    follower.run_until_quiet();
}

/// Pages of one row: with three accounts of an app to read, or more, its list is cheaper.
fn cheap_lists() -> Follower {
    small_with(all_limits(), FollowLimits { costs: Costs { app_users_page: 3, user_apps_page: 1 }, ..calm_limits() })
}

fn three() -> Vec<(AppId, UserId)> {
    (1..=3).map(|n| (the_app(), user(n))).collect()
}

#[test]
fn many_accounts_of_an_app_are_read_with_its_list() {
    let mut follower = cheap_lists();
    hear_of(&mut follower, &three());
    assert_eq!(follower.under_way(), ["list app_users(0oa030)"]);
    assert_eq!(follower.owed().len(), 3);
    follower.reply("list app_users(0oa030)");
    assert_eq!(follower.commits[0].answered.len(), 3);
    follower.commit_all();
    assert_eq!(follower.owed(), Vec::<String>::new());
    follower.run_until_quiet();
}

#[test]
fn accounts_are_not_paid_by_a_list_that_is_held() {
    let mut follower = cheap_lists();
    follower.world.emptied.insert(Scope::AppUsers(the_app()));
    hear_of(&mut follower, &three());
    follower.reply("list app_users(0oa030)");
    follower.commit_all();
    assert_eq!(follower.state().log_status().held, 1);
    assert!(three().iter().all(|(app, user)| follower.owes(&Target::AppUser(app.clone(), user.clone()))));
    let lists =
        |follower: &Follower| follower.calls.iter().filter(|call| name(call) == "list app_users(0oa030)").count();
    for _ in 0..10 {
        follower.settle_down();
        follower.debounce();
    }
    assert_eq!(lists(&follower), 1, "a list that is held is not asked again and again");
    assert!(
        three().iter().all(|(app, user)| !follower.owes(&Target::AppUser(app.clone(), user.clone()))),
        "read by id"
    );
    follower.world.emptied.clear();
    follower.run_until_quiet();
}

#[test]
fn accounts_whose_list_fails_are_tried_again() {
    let mut follower = cheap_lists();
    hear_of(&mut follower, &three());
    follower.fail("list app_users(0oa030)", failed());
    follower.commit_all();
    assert!(three().iter().all(|(app, user)| follower.owes(&Target::AppUser(app.clone(), user.clone()))));
    assert_eq!(follower.under_way(), Vec::<String>::new(), "not at once");
    follower.run_until_quiet();
}

/// User 1, two of whose accounts are due: the walk of all of them is cheaper than two reads.
fn walk_of_user() -> Follower {
    walk_of_user_because("application.user_membership.update")
}

fn walk_of_user_because(event_type: &str) -> Follower {
    let mut follower = small();
    hear_that(&mut follower, event_type, &[(the_app(), user(1)), (other_app(), user(1))]);
    assert_eq!(follower.under_way(), ["select apps of 00u001"]);
    follower
}

fn user_page(apps: &[AppId]) -> impl Fn(crate::core::sync::CallId, crate::core::ids::RequestNumber) -> Input {
    let user_apps = apps.iter().map(|app| UserAppSeen { app: app.clone(), app_user: None }).collect::<Vec<_>>();
    move |id, at| Input::Page(id, PageSeen { at, user_apps: user_apps.clone(), ..PageSeen::default() })
}

#[test]
fn accounts_that_have_ended_are_gone_when_the_walk_of_their_user_lacks_them() {
    let mut follower = walk_of_user_because("application.user_membership.remove");
    follower.world.accounts.remove(&(other_app(), user(1)));
    follower.reply("select apps of 00u001");
    let batch = &follower.commits[0];
    assert_eq!(batch.removals, [account(&other_app(), &user(1))]);
    assert_eq!(batch.rows.len(), 1);
    assert_eq!(batch.answered.len(), 2);
    follower.commit_all();
    assert_eq!(follower.owed(), Vec::<String>::new());
    follower.run_until_quiet();
}

#[test]
fn an_empty_walk_of_a_user_is_believed_only_when_an_account_is_known_to_be_gone() {
    for is_gone in [true, false] {
        let mut follower = walk_of_user_because("application.user_membership.remove");
        if is_gone {
            follower.world.accounts.retain(|(_, of), _| *of != user(1));
        }
        follower.answer("select apps of 00u001", user_page(&[]));
        assert_eq!(follower.under_way(), ["read 0oa030/00u001"], "one of them is asked for");
        follower.reply("read 0oa030/00u001");
        follower.commit_all();
        let expected: &[&str] = if is_gone { &[] } else { &["read 0oa030/00u001", "read 0oa031/00u001"] };
        assert_eq!(follower.under_way(), expected, "gone: {is_gone}");
        follower.settle_down();
        let left = follower.stored(&Scope::AppUsers(other_app())).len();
        assert_eq!(left, usize::from(!is_gone));
        follower.run_until_quiet();
    }
}

#[test]
fn an_account_that_the_answer_does_not_hold_is_asked_for_by_id() {
    let mut follower = walk_of_user();
    follower.answer("select apps of 00u001", user_page(&[the_app(), other_app()]));
    follower.commit_all();
    assert_eq!(follower.under_way(), ["read 0oa030/00u001", "read 0oa031/00u001"]);
    follower.settle_down();
    assert_eq!(follower.owed(), Vec::<String>::new());
    follower.run_until_quiet();
}

#[test]
fn a_walk_of_a_user_that_fails_leaves_reads_by_id() {
    let mut follower = walk_of_user();
    follower.fail("select apps of 00u001", failed());
    follower.commit_all();
    assert_eq!(follower.under_way(), ["read 0oa030/00u001", "read 0oa031/00u001"]);
    follower.settle_down();
    assert_eq!(follower.owed(), Vec::<String>::new());
    assert!(follower.books.gaps.is_empty());
}

#[test]
fn no_account_is_forgotten_whose_app_turned_out_to_be_unwanted_meanwhile() {
    let mut limits = all_limits();
    limits.filter.apps.sync_inactive = false;
    let mut follower = small_with(limits, calm_limits());
    hear_of(&mut follower, &[(the_app(), user(1)), (other_app(), user(1))]);
    follower.send("select apps of 00u001");
    follower.world.apps.get_mut(&other_app()).unwrap().status = AppStatus::Inactive;
    follower.hear("application.lifecycle.deactivate", vec![of_app(&other_app())]);
    follower.debounce();
    follower.reply("read 0oa031");
    follower.reply("select apps of 00u001");
    follower.commit_all();
    assert_eq!(follower.owed(), Vec::<String>::new());
    assert_eq!(follower.stored(&Scope::AppUsers(other_app())), []);
    follower.run_until_quiet();
}

#[test]
fn an_answer_that_comes_after_its_app_was_switched_off_leaves_nothing() {
    #[track_caller]
    fn check(event_type: &str, with_user: bool, call: &str) {
        let mut limits = all_limits();
        limits.filter.apps.sync_inactive = false;
        let mut follower = small_with(limits, calm_limits());
        let mut targets = vec![of_app(&the_app())];
        targets.extend(with_user.then(|| of_user(&user(1))));
        follower.hear(event_type, targets);
        follower.wait(30_000);
        follower.send(call);
        follower.world.apps.get_mut(&the_app()).unwrap().status = AppStatus::Inactive;
        follower.hear("application.lifecycle.deactivate", vec![of_app(&the_app())]);
        follower.debounce();
        follower.reply("read 0oa030");
        follower.commit_all();
        follower.reply(call);
        follower.commit_all();
        assert_eq!(follower.stored(&Scope::AppUsers(the_app())), []);
        assert!(!follower.owes(&Target::List(Scope::AppUsers(the_app()))), "{:?}", follower.owed());
        follower.run_until_quiet();
    }
    check("system.import.complete", false, "list app_users(0oa030)");
    check("application.user_membership.update", true, "read 0oa030/00u001");
}

#[test]
fn an_app_that_was_switched_off_is_listed_again() {
    // The walk of a user may leave out inactive apps.
    let mut follower = walk_of_user();
    follower.world.shows_inactive_apps = false;
    follower.world.apps.get_mut(&other_app()).unwrap().status = AppStatus::Inactive;
    follower.reply("select apps of 00u001");
    follower.commit_all();
    assert_eq!(follower.stored(&Scope::AppUsers(other_app())).len(), 1, "no event says that it has ended");
    follower.hear("application.lifecycle.deactivate", vec![of_app(&other_app())]);
    follower.run_until_quiet();
    assert_eq!(follower.stored(&Scope::AppUsers(other_app())).len(), 1);
}

#[test]
fn the_answer_to_another_question_is_a_failure() {
    let mut follower = small();
    follower.hear("user.account.update_profile", vec![of_user(&user(1))]);
    follower.debounce();
    let other = follower.world.row(&Key::User(user(2))).unwrap();
    follower.answer("read 00u001", |id, at| Input::ById(id, crate::core::sync::ByIdSeen::Found(Box::new(other), at)));
    follower.commit_all();
    assert!(follower.owes(&Target::User(user(1))));
    assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(Scope::Users, GapKind::Failed)]);
    follower.run_until_quiet();
    assert!(follower.batches.iter().flat_map(|batch| &batch.walks).all(|walk| walk.state != WalkState::GivenUp));
}

/// Accounts come by a job some time after the event that tells of it, and without events of their own. The list of the app is owed
/// already, and is read before that.
#[test]
fn accounts_that_come_by_a_job_are_waited_for_though_their_list_is_read_at_once() {
    #[track_caller]
    fn check(what: &str, owe: impl FnOnce(&mut Follower)) {
        let list = "list app_users(0oa031)";
        let mut follower = small();
        follower.hear("group.application_assignment.update", vec![of_app(&other_app()), of_group(&the_group())]);
        owe(&mut follower);
        follower.world.assign(&other_app(), &the_group());
        follower.hear("group.application_assignment.add", vec![of_app(&other_app()), of_group(&the_group())]);
        let is_read = |follower: &Follower| follower.under_way().contains(&list.to_owned());
        if !is_read(&follower) {
            crawling(&mut follower);
            follower.reply("list apps");
            follower.commit_all();
            // It waits for its turn.
            while !is_read(&follower) {
                let other = follower.under_way().into_iter().find(|call| call.starts_with("list app"));
                follower.reply(&other.unwrap());
            }
        }
        follower.reply(list);
        follower.commit_all();
        follower.world.give(&other_app(), &user(2), Some(&the_group()));
        assert!(follower.owes(&Target::List(Scope::AppUsers(other_app()))), "{what}");
        follower.run_until_quiet();
    }
    check("nobody has run for a while", |follower| {
        follower.crash();
        follower.wait(20 * 60_000);
        follower.start();
    });
    check("it could not be read", |follower| {
        follower.wait(30_000);
        follower.fail("list app_users(0oa031)", failed());
        follower.commit_all();
    });
}

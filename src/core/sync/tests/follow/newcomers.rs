//! Following, by table: what is new, and what was never read.

use super::super::by_hand::{other_app, small, small_world, the_app, the_group, user};
use super::super::follower::{Chances, Follower, all_limits, calm_limits};
use super::super::org::group_id;
use super::super::world::{of_app, of_group, of_user};
use super::crawls::up_to_its_end;
use crate::core::coverage::GapKind;
use crate::core::filter::{DomainFilter, DomainPattern};
use crate::core::model::{AppStatus, Key, Scope};
use crate::core::pending::Target;
use crate::core::reconcile::Brake;

#[test]
fn what_is_below_a_new_group_is_known_to_be_empty_and_read_all_the_same() {
    let mut follower = small();
    follower.world.now = follower.world.now.plus_millis(60_000);
    follower.world.add_group_as(40, None);
    let group = group_id(40);
    let members = Scope::GroupMembers(group.clone());
    follower.hear("group.lifecycle.create", vec![of_group(&group)]);
    follower.debounce();
    follower.reply("read 00g040");
    follower.commit_all();
    assert!(follower.books.scopes[&members].completed_at.is_some(), "it counts as read");
    assert!(follower.owes(&Target::List(members.clone())));
    // An event about it is applied as about any other group.
    follower.wait(60_000);
    follower.world.set_member(&group, &user(1), true);
    follower.hear("group.user_membership.add", vec![of_user(&user(1)), of_group(&group)]);
    assert_eq!(follower.stored(&members), [Key::GroupMember(group, user(1))]);
    follower.run_until_quiet();
}

#[test]
fn what_is_below_an_old_group_that_is_shown_only_now_is_not_known() {
    let mut follower = small();
    follower.world.add_group_as(40, None);
    follower.world.groups.get_mut(&group_id(40)).unwrap().created = None;
    follower.hear("group.profile.update", vec![of_group(&group_id(40))]);
    follower.debounce();
    follower.reply("read 00g040");
    follower.commit_all();
    let members = Scope::GroupMembers(group_id(40));
    assert!(follower.books.scopes.get(&members).is_none_or(|book| book.completed_at.is_none()));
    follower.run_until_quiet();
}

#[test]
fn a_group_that_was_assigned_and_is_not_listed_is_asked_for_by_id() {
    let mut follower = small();
    let list = Scope::AppGroups(other_app());
    follower.world.emptied.insert(list.clone());
    follower.world.assign(&other_app(), &the_group());
    follower.hear("group.application_assignment.add", vec![of_app(&other_app()), of_group(&the_group())]);
    follower.debounce();
    follower.reply("list app_groups(0oa031)");
    follower.commit_all();
    assert_eq!(follower.under_way(), ["read 0oa031/00g020"]);
    follower.reply("read 0oa031/00g020");
    follower.commit_all();
    assert_eq!(follower.stored(&list), [Key::AppGroup(other_app(), the_group())]);
    // Read once more, the list still does not show it: that is a gap.
    follower.debounce();
    follower.settle_down();
    follower.wait(3_000);
    follower.settle_down();
    assert!(follower.books.gaps.iter().any(|(scope, _)| *scope == list), "{:?}", follower.books.gaps);
    follower.world.emptied.clear();
    follower.run_until_quiet();
}

#[test]
fn a_group_that_is_listed_costs_no_read_of_its_own() {
    let mut follower = small();
    follower.world.assign(&other_app(), &the_group());
    follower.hear("group.application_assignment.add", vec![of_app(&other_app()), of_group(&the_group())]);
    follower.debounce();
    follower.reply("list app_groups(0oa031)");
    follower.commit_all();
    assert_eq!(follower.under_way(), Vec::<String>::new());
    assert!(!follower.owes(&Target::AppGroup(other_app(), the_group())));
    // Taken away and not listed: nothing to ask for.
    follower.world.app_groups.remove(&(the_app(), the_group()));
    follower.hear("group.application_assignment.remove", vec![of_app(&the_app()), of_group(&the_group())]);
    assert!(!follower.owes(&Target::AppGroup(the_app(), the_group())));
    follower.run_until_quiet();
}

/// The members of a group are hidden from the first crawl on. An event about them explains the difference to the count, but it
/// does not show who they are.
#[test]
fn members_that_were_never_shown_are_doubted_whatever_the_log_says() {
    let mut follower = Follower::new(small_world(), all_limits(), calm_limits(), Brake::default(), 7);
    let members = Scope::GroupMembers(the_group());
    follower.world.hidden.insert(members.clone());
    follower.start();
    let gap = (members, GapKind::CountMismatch);
    for round in 0..40 {
        // Somebody joins and leaves again and again.
        follower.world.log_now("group.user_membership.add", vec![of_user(&user(5)), of_group(&the_group())]);
        for _ in 0..100 {
            follower.act(Chances::default());
        }
        let is_read = follower.books.crawl_ended.is_some();
        assert!(!is_read || follower.books.gaps.contains(&gap), "round {round}: {:?}", follower.books.gaps);
    }
    assert!(follower.books.gaps.contains(&gap));
    follower.world.hidden.clear();
    follower.run_until_quiet();
    assert!(!follower.books.gaps.contains(&gap));
}

#[test]
fn an_account_in_an_inactive_app_comes_back_with_its_user() {
    let mut limits = all_limits();
    limits.filter.users = DomainFilter::new(DomainPattern::parse("a.test"));
    let mut world = small_world();
    for (id, user) in &mut world.users {
        user.login = Some(format!("{id}@a.test").into());
    }
    // The list of the user's apps does not tell of it.
    world.apps.get_mut(&other_app()).unwrap().status = AppStatus::Inactive;
    world.shows_inactive_apps = false;
    let mut follower = Follower::new(world, limits, calm_limits(), Brake::default(), 7);
    follower.start();
    follower.run_until_quiet();
    for (login, accounts) in [("u@b.test", 0), ("u@a.test", 1)] {
        follower.world.users.get_mut(&user(1)).unwrap().login = Some(login.into());
        follower.hear("user.account.update_profile", vec![of_user(&user(1))]);
        follower.run_until_quiet();
        assert_eq!(follower.stored(&Scope::AppUsers(other_app())).len(), accounts, "{login}");
    }
}

/// Somebody leaves between the count and the list, which ends while the last batch of the first crawl is on its way to the store.
#[test]
fn a_list_that_is_short_at_the_very_end_of_the_first_crawl_is_counted_again() {
    let members = Scope::GroupMembers(the_group());
    let mut follower = Follower::new(small_world(), all_limits(), calm_limits(), Brake::default(), 7);
    follower.start();
    follower.reply("anchor");
    up_to_its_end(&mut follower);
    // As by a rule: the groups that have changed are counted, then listed.
    follower.world.set_member(&the_group(), &user(4), true);
    follower.world.log_now("group.user_membership.rule.trigger", Vec::new());
    follower.poll();
    follower.wait(30_000);
    let counted = follower.under_way();
    follower.reply(&counted[0]);
    follower.debounce();
    follower.world.set_member(&the_group(), &user(4), false);
    follower.reply("list group_members(00g020)");
    assert_eq!(follower.crawls_ended, 0);
    follower.commit_all();
    assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(members, GapKind::CountMismatch)]);
    follower.hear("group.user_membership.remove", vec![of_user(&user(4)), of_group(&the_group())]);
    follower.run_until_quiet();
    assert_eq!(follower.crawls_ended, 1);
}

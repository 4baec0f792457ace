//! Following, by table: crawls among debts, safety nets, walks of changes, restarts.

use super::super::by_hand::{
    failed, forbidden, name, other_app, small, small_with, small_world, the_app, the_group, user,
};
use super::super::driver::NOW;
use super::super::follower::{Chances, Follower, all_limits, calm_limits};
use super::super::org::group_id;
use super::super::world::{of_app, of_group, of_user};
use crate::core::batch::{CrawlMark, Delta};
use crate::core::coverage::GapKind;
use crate::core::ids::{AppId, CrawlId};
use crate::core::model::{AppStatus, Quarantined, Row, Scope};
use crate::core::pending::Target;
use crate::core::reconcile::Brake;
use crate::core::sync::{Begin, Call, CrawlEnd, FollowLimits, Input, LogState, PageSeen, ReadFailure};

/// A crawl begins, and its lists are asked for.
pub(super) fn crawling(follower: &mut Follower) {
    follower.step(Input::Asked(Target::Everything));
    follower.commit_all();
    follower.debounce();
    follower.commit_all();
    assert!(follower.state().is_crawling());
}

#[test]
fn a_crawl_begins_the_walks_under_way_anew_and_loses_none() {
    let mut follower = small();
    follower.world.page_rows = 1;
    follower.hear("system.import.complete", vec![of_app(&the_app())]);
    follower.wait(30_000);
    follower.reply("list app_users(0oa030)");
    follower.commit_all();
    follower.send("list app_users(0oa030) on");
    crawling(&mut follower);
    let urgent: Vec<bool> = follower
        .flights
        .iter()
        .filter_map(|flight| match &flight.call {
            Call::FirstPage { scope: Scope::AppUsers(app), is_urgent, .. } if *app == the_app() => Some(*is_urgent),
            _ => None,
        })
        .collect();
    assert_eq!(urgent, [true], "from its first page");
    // The answer of the walk that was given up comes late: nobody waits for it.
    let batches = follower.commits.len();
    follower.reply("list app_users(0oa030) on");
    assert_eq!(follower.commits.len(), batches);
    assert!(follower.owes(&Target::List(Scope::AppUsers(the_app()))));
    follower.run_until_quiet();
    let begun = follower.calls.iter().filter(|call| name(call) == "list app_users(0oa030)").count();
    assert_eq!(begun, 2, "what began after the crawl is a part of it");
}

#[test]
fn a_crawl_that_is_asked_for_while_one_runs_comes_after_it() {
    let mut follower = small();
    crawling(&mut follower);
    follower.send("list users");
    follower.step(Input::Asked(Target::Everything));
    follower.commit_all();
    follower.run_until_quiet();
    let marks = follower.batches.iter().filter_map(|batch| batch.crawl.as_ref());
    let begun = marks.filter(|mark| matches!(mark, CrawlMark::Begin { .. })).count();
    assert_eq!((begun, follower.crawls_ended), (2, 3), "with the first of all");
}

#[test]
fn what_a_crawl_shows_at_its_very_end_is_read_after_it() {
    let mut follower = small();
    crawling(&mut follower);
    up_to_its_end(&mut follower);
    follower.world.add_app_as(40, "jira");
    let app = AppId::new("0oa040").unwrap();
    follower.world.give(&app, &user(1), None);
    // The app is read while the last batch of the crawl is on its way to the store.
    follower.world.log_now("application.lifecycle.create", vec![of_app(&app)]);
    follower.poll();
    follower.debounce();
    follower.reply("read 0oa040");
    follower.commit_all();
    follower.crash();
    follower.start();
    follower.run_until_quiet();
    assert_eq!(follower.stored(&Scope::AppUsers(app)).len(), 1, "nothing of it hangs on the crawl that is over");
}

/// Lets a crawl go on up to the moment at which its last batch waits to be stored.
pub(super) fn up_to_its_end(follower: &mut Follower) {
    for _ in 0..1_000 {
        if follower.commits.iter().any(|batch| matches!(batch.crawl, Some(CrawlMark::End { .. }))) {
            return;
        }
        match follower.under_way().first().cloned() {
            Some(wanted) => follower.reply(&wanted),
            None => follower.commit_one(),
        }
    }
    panic!("the crawl does not end");
}

/// Answers what is under way until a call is made.
fn until_asked_for(follower: &mut Follower, wanted: &str) {
    for _ in 0..1_000 {
        follower.commit_all();
        let calls = follower.under_way();
        if calls.iter().any(|call| call == wanted) {
            return;
        }
        match calls.first() {
            Some(call) => follower.reply(&call.clone()),
            None => follower.act(Chances::default()),
        }
    }
    panic!("{wanted} is never asked for");
}

#[test]
fn members_who_are_deleted_between_count_and_list_are_not_hidden() {
    let members = "list group_members(00g020)";
    let mut follower = small();
    crawling(&mut follower);
    until_asked_for(&mut follower, members);
    // Each time they are counted, and are gone when they are listed; no event names the group.
    follower.world.delete_user_now(&user(3));
    follower.reply(members);
    until_asked_for(&mut follower, "list groups");
    follower.reply("list groups");
    until_asked_for(&mut follower, members);
    follower.world.delete_user_now(&user(2));
    follower.reply(members);
    // Their rows go before the crawl ends.
    follower.poll();
    follower.debounce();
    follower.settle_down();
    assert_eq!(follower.stored(&Scope::GroupMembers(the_group())).len(), 1);
    assert!(follower.state().is_crawling());
    follower.run_until_quiet();
    assert_eq!(follower.crawls_ended, 2);
    let gaps: Vec<_> = follower.batches.iter().flat_map(|batch| &batch.gaps).collect();
    assert!(gaps.is_empty(), "{gaps:?}");
}

#[test]
fn an_app_that_comes_back_while_a_crawl_runs_is_read_again() {
    let mut limits = all_limits();
    limits.filter.apps.sync_inactive = false;
    let mut follower = small_with(limits, calm_limits());
    crawling(&mut follower);
    while follower.under_way().iter().any(|call| call.starts_with("list app")) {
        let wanted = follower.under_way().into_iter().find(|call| call.starts_with("list app")).unwrap();
        follower.reply(&wanted);
    }
    for (status, what) in [(AppStatus::Inactive, "deactivate"), (AppStatus::Active, "update")] {
        follower.world.apps.get_mut(&the_app()).unwrap().status = status;
        follower.hear(&format!("application.lifecycle.{what}"), vec![of_app(&the_app())]);
        follower.debounce();
        follower.reply("read 0oa030");
        follower.commit_all();
    }
    follower.run_until_quiet();
    assert_eq!(follower.stored(&Scope::AppUsers(the_app())).len(), 3);
    assert_eq!(follower.stored(&Scope::AppGroups(the_app())).len(), 1);
}

#[test]
fn a_group_that_becomes_wanted_while_a_crawl_runs_is_assigned_and_named_by_its_accounts() {
    #[track_caller]
    fn check(page_rows: usize, first: &[&str]) {
        let mut limits = all_limits();
        limits.filter.groups.name_contains.insert("CIAM".to_owned());
        let mut world = small_world();
        world.page_rows = page_rows;
        world.add_group_as(21, None);
        world.assign(&the_app(), &group_id(21));
        world.give(&the_app(), &user(4), Some(&the_group()));
        let mut follower = Follower::new(world, limits, calm_limits(), Brake::default(), 7);
        follower.start();
        for wanted in first {
            until_asked_for(&mut follower, wanted);
            follower.reply(wanted);
            follower.commit_all();
        }
        follower.world.groups.get_mut(&the_group()).unwrap().name = "CIAM".into();
        follower.hear("group.profile.update", vec![of_group(&the_group())]);
        follower.debounce();
        follower.reply("read 00g020");
        follower.run_until_quiet();
    }
    let (accounts, groups) = ("list app_users(0oa030)", "list app_groups(0oa030)");
    check(100, &[accounts]);
    check(100, &[groups]);
    check(100, &[accounts, groups]);
    // The walk of the groups is not over.
    check(1, &[groups]);
    check(4, &[accounts]);
}

#[test]
fn selections_have_pages_and_start_again() {
    let mut follower = small();
    follower.world.page_rows = 2;
    for n in 1..=5 {
        let user = follower.world.users.get_mut(&user(n)).unwrap();
        (user.login, user.last_updated) = (Some("imported".into()), Some(NOW.plus_millis(1_000_000)));
    }
    follower.hear("user.lifecycle.password_mass_expiry", Vec::new());
    follower.wait(30_000);
    let first = follower.under_way();
    follower.reply(&first[0]);
    let on = format!("{} on", first[0]);
    follower.fail(&on, ReadFailure::CursorGone);
    assert_eq!(follower.under_way(), first, "from the first page");
    follower.fail(&first[0], ReadFailure::RestartWalk { limit: 1 });
    let limit = follower.flights.iter().find_map(|flight| match &flight.call {
        Call::Select { limit, .. } => *limit,
        _ => None,
    });
    assert_eq!(limit, Some(1));
    for _ in 0..4 {
        let wanted = follower.under_way();
        follower.fail(&wanted[0], ReadFailure::RestartWalk { limit: 1 });
    }
    follower.commit_all();
    assert_eq!(follower.under_way(), Vec::<String>::new(), "not for ever");
    assert!(follower.owes(&Target::UsersDelta), "but later");
    follower.run_until_quiet();
}

#[test]
fn a_selection_without_end_is_given_up() {
    #[track_caller]
    fn check(what: &str, pages_max: usize, rows: usize, link: fn(usize) -> String) {
        let mut follower = small();
        follower.hear("user.lifecycle.password_mass_expiry", Vec::new());
        follower.wait(30_000);
        let mut pages = 0;
        while let Some(wanted) = follower.under_way().first().cloned() {
            let rows = vec![Row::User(follower.world.users[&user(1)].clone()); rows];
            let next = Some(link(pages));
            follower.answer(&wanted, |id, at| Input::Page(id, PageSeen { at, rows, next, ..PageSeen::default() }));
            follower.commit_all();
            pages += 1;
            assert!(pages <= pages_max, "{what}: {pages} pages");
        }
        assert!(follower.owes(&Target::UsersDelta), "{what}: later, from its beginning");
    }
    check("the same link", 2, 1, |_| "same".to_owned());
    check("in circles", 80, 1, |page| page.to_string());
    check("empty pages", 1_001, 0, |page| page.to_string());
}

/// What has changed, and cannot be read: the next walk of changes will not show it again.
#[test]
fn a_record_of_a_walk_of_changes_that_could_not_be_read_is_read_by_itself() {
    #[track_caller]
    fn check(walk: Target, scope: &Scope, id: Option<&str>, then: &[&str]) {
        let mut follower = small();
        follower.step(Input::Asked(walk));
        follower.commit_all();
        follower.debounce();
        let [wanted] = &follower.under_way()[..] else { panic!("{:?}", follower.under_way()) };
        let bad = Quarantined { scope: scope.clone(), id: id.map(Into::into), reason: "no status".to_owned() };
        let quarantined = vec![bad];
        follower.answer(wanted, |id, at| Input::Page(id, PageSeen { at, quarantined, ..PageSeen::default() }));
        follower.commit_all();
        assert_eq!(follower.owed(), then);
        follower.run_until_quiet();
    }
    check(Target::UsersDelta, &Scope::Users, Some("00u001"), &["user(00u001)"]);
    check(Target::UsersDelta, &Scope::Users, Some("not/an id"), &["list(users)"]);
    check(Target::UsersDelta, &Scope::Users, None, &["list(users)"]);
    let group = the_group();
    let then = [format!("group({group})"), format!("list(group_members({group}))")];
    let then = then.each_ref().map(String::as_str);
    check(Target::GroupsDelta, &Scope::Groups, Some(group.as_str()), &then);
    check(Target::SourceGroups(the_app()), &Scope::Groups, Some(group.as_str()), &then);
    check(Target::UserGroups(user(1)), &Scope::Groups, Some(group.as_str()), &then);
    check(Target::GroupsDelta, &Scope::Groups, None, &["list(groups)"]);
}

#[test]
fn a_walk_of_changes_goes_on_from_where_the_last_one_began() {
    let nets = FollowLimits { users_delta_millis: Some(600_000), ..calm_limits() };
    let mut follower = small_with(all_limits(), nets);
    let mut expected = follower.books.deltas[&Delta::Users].millis_since(NOW) - 60_000;
    for _ in 0..3 {
        while follower.under_way().is_empty() {
            let at = follower.state().wake_at().unwrap();
            follower.pass(at);
            if follower.flights.iter().any(|flight| name(&flight.call) == "poll") {
                follower.reply("poll");
            }
            follower.commit_all();
        }
        assert_eq!(follower.under_way(), [format!("select users since {expected}")]);
        let began = follower.now.millis_since(NOW);
        follower.wait(5_000);
        let wanted = follower.under_way();
        follower.reply(&wanted[0]);
        follower.commit_all();
        expected = began - 60_000;
    }
}

#[test]
fn groups_that_changed_get_their_members_read() {
    let mut follower = small();
    follower.wait(100_000);
    follower.reply("poll");
    follower.world.set_member(&the_group(), &user(5), true);
    follower.hear("group.user_membership.rule.trigger", Vec::new());
    follower.wait(30_000);
    let wanted = follower.under_way();
    follower.reply(&wanted[0]);
    follower.commit_all();
    follower.debounce();
    assert_eq!(follower.under_way(), ["list group_members(00g020)"]);
    follower.run_until_quiet();
    assert_eq!(follower.stored(&Scope::GroupMembers(the_group())).len(), 4);
}

/// A crawl has read the members. Then they change, and before anybody hears of that the groups are listed once more.
#[test]
fn members_that_change_between_two_lists_of_groups_of_a_crawl_are_found() {
    let (groups, members) = ("list groups", "list group_members(00g020)");
    let mut follower = small();
    crawling(&mut follower);
    for list in [groups, members] {
        until_asked_for(&mut follower, list);
        follower.reply(list);
        follower.commit_all();
    }
    follower.world.set_member(&the_group(), &user(5), true);
    follower.wait(100_000);
    follower.step(Input::Asked(Target::List(Scope::Groups)));
    follower.commit_all();
    follower.debounce();
    follower.reply(groups);
    follower.commit_all();
    assert!(follower.state().is_crawling());
    follower.hear("group.user_membership.rule.trigger", Vec::new());
    follower.run_until_quiet();
    assert_eq!(follower.stored(&Scope::GroupMembers(the_group())).len(), 4);
}

#[test]
fn what_was_counted_outlives_a_stop() {
    let mut follower = small();
    crawling(&mut follower);
    for list in ["list users", "list groups"] {
        until_asked_for(&mut follower, list);
        follower.reply(list);
    }
    follower.commit_all();
    let shown = follower.state().users_shown();
    assert!(shown.is_some());
    follower.wait(follower.follow.poll_millis);
    follower.fail("poll", ReadFailure::Unreachable { detail: "no token".to_owned() });
    follower.commit_all();
    assert!(matches!(follower.ends[..], [CrawlEnd::Stopped(_)]));
    follower.go_on();
    assert!(follower.state().is_crawling());
    assert_eq!(follower.state().users_shown(), shown, "its lists are not read again");
    follower.run_until_quiet();
    assert!(follower.books.gaps.is_empty());
}

#[test]
fn a_dead_credential_ends_the_machine_and_a_restart_goes_on() {
    // Whatever is answered first with a credential that works, closes the gap.
    #[track_caller]
    fn check(first: &str, event_type: &str, named: Vec<crate::core::event::LogTarget>) {
        let mut follower = small();
        follower.hear(event_type, named);
        follower.debounce();
        follower.commit_all();
        follower.wait(follower.follow.poll_millis);
        follower.fail("poll", ReadFailure::Unauthorized { detail: "401".to_owned() });
        follower.commit_all();
        assert_eq!(follower.ends, [CrawlEnd::Stopped(ReadFailure::Unauthorized { detail: "401".to_owned() })]);
        assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(Scope::Log, GapKind::Unauthorized)]);
        assert!(!follower.books.pending.is_empty(), "the debt is stored");
        follower.crash();
        follower.start();
        follower.debounce();
        follower.reply(first);
        follower.commit_all();
        assert!(follower.books.gaps.is_empty(), "{first}");
        follower.run_until_quiet();
    }
    check("read 00u001", "user.account.update_profile", vec![of_user(&user(1))]);
    check("select apps of 00u001", "application.user_membership.update", vec![of_user(&user(1))]);
    check("list app_groups(0oa030)", "group.application_assignment.update", vec![of_app(&the_app())]);
    check("poll", "user.account.update_profile", vec![of_user(&user(1))]);
}

#[test]
fn an_org_that_cannot_be_reached_leaves_no_gap() {
    let mut follower = small();
    follower.wait(follower.follow.poll_millis);
    follower.fail("poll", ReadFailure::Unreachable { detail: "no route".to_owned() });
    assert!(matches!(follower.ends[..], [CrawlEnd::Stopped(ReadFailure::Unreachable { .. })]));
    assert!(follower.books.gaps.is_empty());
    follower.start();
    follower.run_until_quiet();
}

#[test]
fn an_app_that_no_list_shows_and_that_cannot_be_read_is_asked_for_again() {
    let mut follower = small();
    follower.world.unlisted.insert(other_app());
    follower.step(Input::Asked(Target::List(Scope::Apps)));
    follower.commit_all();
    follower.debounce();
    follower.reply("list apps");
    follower.commit_all();
    follower.debounce();
    follower.fail("read 0oa031", failed());
    follower.commit_all();
    assert!(follower.books.gaps.contains(&(Scope::Apps, GapKind::Failed)));
    assert!(follower.owes(&Target::App(other_app())));
    follower.run_until_quiet();
    assert!(follower.books.gaps.is_empty());
}

/// A crawl that makes good for a lost position reads what is below the apps and groups that its lists show.
#[test]
fn what_a_crawl_after_a_lost_position_does_not_read_stays_a_gap_until_it_is_read() {
    #[track_caller]
    fn check(broken: &str, failure: &ReadFailure, unread: &[Scope]) {
        let mut follower = small();
        // No event tells of it.
        follower.world.accounts.get_mut(&(the_app(), user(1))).unwrap().user_name = Some("renamed".into());
        follower.world.set_member(&the_group(), &user(5), true);
        lose_the_position(&mut follower);
        until_asked_for(&mut follower, broken);
        follower.fail(broken, failure.clone());
        up_to_its_end(&mut follower);
        follower.commit_all();
        let gaps: Vec<_> = follower.books.gaps.iter().filter(|(_, kind)| *kind == GapKind::LogLost).collect();
        let expected: Vec<_> = unread.iter().map(|scope| (scope.clone(), GapKind::LogLost)).collect();
        assert_eq!(gaps, expected.iter().collect::<Vec<_>>(), "without {broken}");
        for scope in unread {
            assert!(follower.owes(&Target::List(scope.clone())), "{scope} without {broken}");
        }
        assert!(!follower.owes(&Target::Everything), "the rest was read");
        follower.run_until_quiet();
        assert_eq!(follower.crawls_ended, 2, "without {broken}: no crawl of its own");
    }
    let (accounts, assigned) = (Scope::AppUsers, Scope::AppGroups);
    let below_apps = [accounts(the_app()), accounts(other_app()), assigned(the_app()), assigned(other_app())];
    let apps: Vec<Scope> = [Scope::Apps].into_iter().chain(below_apps).collect();
    for failure in [failed(), forbidden()] {
        check("list apps", &failure, &apps);
        check("list groups", &failure, &[Scope::Groups, Scope::GroupMembers(the_group())]);
        check("list users", &failure, &[Scope::Users]);
        check("list app_users(0oa030)", &failure, &[Scope::AppUsers(the_app())]);
    }
}

#[test]
fn what_a_crawl_that_opens_the_log_does_not_read_is_a_gap_as_well() {
    for is_interrupted in [false, true] {
        let mut follower = small();
        follower.crash();
        // So long ago that it is not followed from there: nothing tells of what happened meanwhile.
        follower.wait(2 * 3_600_000);
        follower.start_with(Begin::New { id: CrawlId(2), fingerprint: "f".to_owned() });
        follower.reply("anchor");
        follower.commit_all();
        if is_interrupted {
            follower.crash();
            follower.start();
        }
        follower.fail("list groups", failed());
        up_to_its_end(&mut follower);
        follower.commit_all();
        let gaps: Vec<_> = follower.books.gaps.iter().filter(|(_, kind)| *kind == GapKind::LogLost).collect();
        let expected = [Scope::Groups, Scope::GroupMembers(the_group())].map(|scope| (scope, GapKind::LogLost));
        assert_eq!(gaps, expected.iter().collect::<Vec<_>>(), "interrupted: {is_interrupted}");
        follower.run_until_quiet();
        assert!(follower.books.gaps.is_empty());
    }
}

/// The log's position is refused, a new one is opened, and the crawl that makes good for it begins.
fn lose_the_position(follower: &mut Follower) {
    follower.wait(follower.follow.poll_millis);
    follower.fail("poll", ReadFailure::CursorGone);
    follower.reply("anchor");
    follower.commit_all();
    follower.debounce();
}

/// The crawl begins while a new position is being opened, and that is open before the crawl has sent anything.
#[test]
fn a_lost_position_is_made_good_by_the_crawl_after_one_that_began_before_a_new_one_was_open() {
    let mut follower = small();
    crawling(&mut follower);
    follower.wait(follower.follow.poll_millis);
    follower.fail("poll", ReadFailure::CursorGone);
    follower.fail("anchor", failed());
    up_to_its_end(&mut follower);
    follower.wait(60_000);
    follower.send("anchor");
    follower.commit_all();
    follower.debounce();
    assert!(follower.state().is_crawling() && follower.crawls_ended == 2, "the next one");
    follower.reply("anchor");
    follower.run_until_quiet();
}

#[test]
fn a_lost_position_stays_a_gap_when_its_crawl_is_interrupted_for_hours() {
    let mut follower = small();
    lose_the_position(&mut follower);
    follower.reply("list users");
    follower.commit_all();
    follower.crash();
    follower.wait(2 * 3_600_000);
    follower.start();
    assert!(follower.state().is_crawling());
    follower.reply("poll");
    follower.commit_all();
    assert_eq!(follower.books.gaps.iter().collect::<Vec<_>>(), [&(Scope::Log, GapKind::LogLost)]);
    follower.run_until_quiet();
    assert!(follower.books.gaps.is_empty());
}

#[test]
fn what_a_crawl_has_read_before_a_break_of_hours_is_read_again_where_the_log_tells() {
    let mut follower = small();
    crawling(&mut follower);
    follower.reply("list users");
    follower.commit_all();
    follower.world.users.get_mut(&user(1)).unwrap().login = Some("renamed".into());
    follower.world.log_now("user.account.update_profile", vec![of_user(&user(1))]);
    follower.crash();
    follower.wait(2 * 3_600_000);
    follower.start();
    follower.reply("anchor");
    assert!(follower.owes(&Target::User(user(1))));
    follower.run_until_quiet();
}

#[test]
fn a_list_that_stays_forbidden_after_a_lost_position_brings_no_crawl_again() {
    let mut follower = small();
    lose_the_position(&mut follower);
    let began = follower.now;
    while follower.now.millis_since(began) < 6 * 3_600_000 {
        follower.commit_all();
        let flights = follower.flights.iter().map(|flight| name(&flight.call)).collect::<Vec<_>>();
        match flights.first() {
            Some(call) if call == "list apps" => follower.fail(call, forbidden()),
            Some(call) => follower.reply(call),
            None => follower.pass(follower.state().wake_at().unwrap()),
        }
    }
    assert_eq!(follower.crawls_ended, 2);
    assert_eq!(follower.books.gaps.len(), 2, "{:?}", follower.books.gaps);
    let asked = |wanted: &str| follower.calls.iter().filter(|call| name(call) == wanted).count();
    assert!((20..40).contains(&asked("list apps")), "{}", asked("list apps"));
    assert_eq!(asked("list app_users(0oa030)"), 1, "what can be read is read once");
}

#[test]
fn a_gap_of_the_log_that_opens_while_a_crawl_ends_is_not_closed_by_it() {
    let mut follower = small();
    lose_the_position(&mut follower);
    up_to_its_end(&mut follower);
    follower.wait(follower.follow.poll_millis);
    follower.fail("poll", failed());
    follower.commit_all();
    assert_eq!(follower.books.gaps.len(), 2, "{:?}", follower.books.gaps);
    follower.wait(60_000);
    follower.reply("poll");
    follower.commit_all();
    assert!(follower.books.gaps.is_empty(), "{:?}", follower.books.gaps);
    assert_eq!(follower.state().log_status().state, LogState::Following);
    follower.run_until_quiet();
}

//! Following, by table: the log and what its events oblige to. Accounts, lists and crawls have files of their own.

mod accounts;
mod breaks;
mod concealed;
mod crawls;
mod departed;
mod lists;
mod newcomers;

use super::by_hand::{failed, forbidden, name, other_app, small, small_with, small_world, the_app, the_group, user};
use super::follower::{Follower, all_limits, calm_limits};
use super::world::{of_app, of_group, of_user};
use crate::core::batch::CursorMove;
use crate::core::coverage::GapKind;
use crate::core::ids::{CrawlId, LogCursor, RequestNumber};
use crate::core::model::Scope;
use crate::core::pending::{Patience, Target};
use crate::core::reconcile::Brake;
use crate::core::sync::{Begin, Call, FollowLimits, Input, LogSeen, LogState, ReadFailure};

#[test]
fn a_page_of_the_log_becomes_debts_with_the_batch_that_moves_the_position() {
    let mut follower = small();
    let before = follower.books.cursor.clone().unwrap();
    follower.world.log_now("user.account.update_profile", vec![of_user(&user(1))]);
    follower.world.log_now("group.user_membership.add", vec![of_user(&user(4)), of_group(&the_group())]);
    follower.poll();
    assert_eq!(follower.commits.len(), 1);
    let batch = &follower.commits[0];
    assert!(
        matches!(&batch.cursor, Some(CursorMove::Advance { expect, next }) if *expect == before && *next != before)
    );
    assert_eq!(batch.pending.iter().map(|debt| &debt.target).collect::<Vec<_>>(), [&Target::User(user(1))]);
    assert_eq!(batch.pending[0].since, RequestNumber(follower.newest), "only what is sent from now on pays");
    assert_eq!(batch.members.len(), 1);
    assert_eq!(batch.members_since, RequestNumber(follower.newest));
    assert!(batch.observed_through.is_some(), "the page was the last for now");
    follower.commit_all();
    follower.debounce();
    assert_eq!(follower.under_way(), ["read 00u001"]);
}

#[test]
fn idle_polls_cost_a_call_each_and_hardly_a_write() {
    let mut follower = small_with(all_limits(), FollowLimits { poll_millis: 1_000, ..calm_limits() });
    for _ in 0..60 {
        follower.poll();
        follower.commit_all();
    }
    assert_eq!(follower.calls.len(), 60);
    assert!(follower.calls.iter().all(|call| matches!(call, Call::PollLog(_))));
    assert!(follower.batches.len() <= 13, "{} writes in a minute", follower.batches.len());
    for batch in &follower.batches {
        assert!(batch.cursor.is_none() && batch.pending.is_empty() && batch.rows.is_empty(), "{batch:?}");
    }
}

#[test]
fn a_full_page_is_followed_by_the_next_at_once() {
    let mut follower = small();
    follower.world.log_rows = 2;
    for n in 1..=3 {
        follower.world.log_now("user.account.update_profile", vec![of_user(&user(n))]);
    }
    follower.poll();
    assert_eq!(follower.commits[0].observed_through, None, "more is to come");
    assert!(follower.flights.iter().any(|flight| matches!(flight.call, Call::PollLog(_))));
    follower.reply("poll");
    assert!(follower.commits[1].observed_through.is_some());
    assert!(follower.flights.is_empty(), "the log is left alone until the next poll");
    follower.wait(follower.follow.poll_millis - 1);
    assert!(!follower.flights.iter().any(|flight| matches!(flight.call, Call::PollLog(_))));
    follower.wait(1);
    follower.reply("poll");
}

/// A server that errs or means harm: such a page would be read for ever, as fast as it comes.
#[test]
fn a_full_page_that_leads_to_itself_is_not_followed_at_once() {
    let mut follower = small();
    follower.wait(follower.follow.poll_millis);
    let cursor = follower.books.cursor.clone();
    let stuck = LogSeen { next: cursor, is_full: true, ..LogSeen::default() };
    for _ in 0..3 {
        follower.answer("poll", |id, at| Input::Log(id, LogSeen { at, ..stuck.clone() }));
        follower.commit_all();
        assert!(follower.flights.is_empty(), "the log rests");
        assert!(
            follower.batches.iter().all(|batch| batch.observed_through.is_none()),
            "and nobody says that it was read"
        );
        follower.wait(follower.follow.poll_millis);
    }
}

fn log_gaps(follower: &Follower) -> Vec<GapKind> {
    follower.books.gaps.iter().filter(|(scope, _)| *scope == Scope::Log).map(|(_, kind)| *kind).collect()
}

#[test]
fn a_lost_position_is_made_good_by_a_crawl() {
    #[track_caller]
    fn check(lose: impl FnOnce(&mut Follower)) {
        let mut follower = small();
        let through = follower.books.observed_through.unwrap();
        // What was lost for good: only reading everything finds it.
        follower.world.users.get_mut(&user(2)).unwrap().login = Some("renamed".into());
        follower.world.log_now("user.account.update_profile", vec![of_user(&user(1))]);
        follower.wait(follower.follow.poll_millis);
        lose(&mut follower);
        let since = follower.flights.iter().find_map(|flight| match &flight.call {
            Call::AnchorLog { since } => Some(*since),
            _ => None,
        });
        assert_eq!(since, Some(through.plus_millis(-3_600_000)), "an hour before the last known position, at once");
        assert_eq!(follower.state().log_status().state, LogState::Lost);
        follower.commit_all();
        assert_eq!(log_gaps(&follower), [GapKind::LogLost]);
        assert!(follower.books.pending.contains_key(&Target::Everything), "stored before anything else is asked for");
        follower.wait(1_000);
        assert_eq!(follower.under_way(), Vec::<String>::new(), "nothing is read before the log is open again");
        follower.reply("anchor");
        assert!(follower.owes(&Target::User(user(1))), "what the new position has behind it is not lost");
        follower.commit_all();
        follower.wait(250);
        assert!(follower.state().is_crawling());
        follower.poll();
        follower.commit_all();
        assert_eq!(log_gaps(&follower), [GapKind::LogLost], "until everything is read");
        follower.run_until_quiet();
        assert_eq!(log_gaps(&follower), []);
        assert_eq!(follower.state().log_status().state, LogState::Following);
    }
    check(|follower| follower.fail("poll", ReadFailure::CursorGone));
    check(|follower| {
        follower.answer("poll", |id, at| Input::Log(id, LogSeen { at, next: None, ..LogSeen::default() }));
    });
}

#[test]
fn a_log_that_may_not_be_read_is_asked_ever_more_rarely_from_the_same_position() {
    let mut follower = small();
    let cursor = follower.books.cursor.clone();
    let mut waits = Vec::new();
    for _ in 0..5 {
        let before = follower.now;
        while !follower.flights.iter().any(|flight| matches!(flight.call, Call::PollLog(_))) {
            let at = follower.state().wake_at().unwrap();
            follower.pass(at);
        }
        waits.push(follower.now.millis_since(before));
        follower.fail("poll", forbidden());
        follower.commit_all();
        assert_eq!(log_gaps(&follower), [GapKind::Forbidden, GapKind::LogLost]);
        assert_eq!(follower.state().log_status().state, LogState::Failing);
    }
    assert_eq!(waits[1..], [10_000, 20_000, 40_000, 60_000]);
    follower.world.log_now("user.account.update_profile", vec![of_user(&user(1))]);
    follower.wait(60_000);
    follower.reply("poll");
    follower.commit_all();
    assert_eq!(log_gaps(&follower), []);
    assert!(follower.calls.iter().all(|call| matches!(call, Call::PollLog(polled) if Some(polled) == cursor.as_ref())));
    assert!(follower.owes(&Target::User(user(1))), "nothing is lost");
}

#[test]
fn events_of_unknown_types_bring_the_next_crawl_forward() {
    let mut follower = small_with(all_limits(), FollowLimits { unknown_events_max: 2, ..calm_limits() });
    follower.hear("user.lifecycle.invented", vec![of_user(&user(1))]);
    assert_eq!(follower.owed(), ["user(00u001)"], "what it names is read");
    follower.hear("user.lifecycle.invented", vec![of_user(&user(1))]);
    assert!(follower.owes(&Target::Everything));
    follower.debounce();
    assert!(follower.state().is_crawling());
    follower.run_until_quiet();
    assert_eq!(follower.crawls_ended, 2);
}

#[test]
fn a_first_position_is_not_later_than_what_was_read() {
    let mut follower = Follower::new(small_world(), all_limits(), calm_limits(), Brake::default(), 3);
    follower.start();
    follower.fail("anchor", failed());
    // The crawl goes on without; then the log is open, and shows what has changed since it began.
    let began = follower.books.crawl_began.unwrap_or(follower.now);
    follower.settle_down();
    follower.world.users.get_mut(&user(1)).unwrap().login = Some("renamed".into());
    follower.world.log_now("user.account.update_profile", vec![of_user(&user(1))]);
    follower.crash();
    follower.start();
    follower.wait(60_000);
    let since = follower.flights.iter().find_map(|flight| match &flight.call {
        Call::AnchorLog { since } => Some(*since),
        _ => None,
    });
    assert!(since.is_some_and(|since| since < began), "{since:?}, read since {began}");
    follower.reply("anchor");
    assert!(follower.owes(&Target::User(user(1))), "the position is behind the event");
    follower.run_until_quiet();
}

#[test]
fn events_before_the_first_crawl_matter_for_what_comes_late() {
    let mut world = small_world();
    world.log_now("user.account.update_profile", vec![of_user(&user(1))]);
    world.log_now("user.lifecycle.deactivate", vec![of_user(&user(2))]);
    let mut follower = Follower::new(world, all_limits(), calm_limits(), Brake::default(), 3);
    follower.start();
    follower.reply("anchor");
    assert_eq!(follower.owed(), ["user_apps(00u002)"], "the crawl reads the rest");
}

#[test]
fn a_debt_is_paid_only_by_a_read_that_was_sent_after_its_hint() {
    #[track_caller]
    fn check(hint_after: &str, reads: usize) {
        let mut follower = small();
        let hint = |follower: &mut Follower, moment: &str| {
            if moment == hint_after {
                follower.hear("user.account.update_profile", vec![of_user(&user(1))]);
            }
        };
        follower.hear("user.account.update_profile", vec![of_user(&user(1))]);
        hint(&mut follower, "first hint");
        follower.debounce();
        hint(&mut follower, "call");
        follower.send("read 00u001");
        hint(&mut follower, "sending");
        follower.reply("read 00u001");
        if hint_after == "answer" {
            // The payment is on its way to the store.
            follower.world.log_now("user.account.update_profile", vec![of_user(&user(1))]);
            follower.poll();
        }
        follower.commit_all();
        hint(&mut follower, "receipt");
        follower.debounce();
        follower.settle_down();
        assert_eq!(follower.owed(), Vec::<String>::new());
        let made = follower.calls.iter().filter(|call| name(call) == "read 00u001").count();
        assert_eq!(made, reads, "hint after {hint_after}");
    }
    check("nothing", 1);
    check("first hint", 1);
    check("call", 1); // The call waited for its budget: it is sent after the hint.
    check("sending", 2);
    check("answer", 2);
    check("receipt", 2);
}

#[test]
fn a_second_look_is_not_taken_for_the_first() {
    // The effect of a deactivation comes by a job: an earlier look at the accounts, for another reason, does not count.
    let mut follower = small();
    follower.hear("user.lifecycle.deactivate", vec![of_user(&user(1))]);
    let events = [the_app(), other_app()].map(|app| vec![of_app(&app), of_user(&user(1))]);
    for targets in events {
        follower.hear("application.user_membership.update", targets);
    }
    follower.debounce();
    follower.settle_down();
    assert!(
        follower.calls.iter().any(|call| name(call) == "select apps of 00u001"),
        "planned: two accounts of one user"
    );
    assert_eq!(follower.owed(), ["user_apps(00u001)"]);
    follower.world.accounts.retain(|(_, user_of), _| *user_of != user(1));
    follower.wait(Patience::default().later_millis);
    follower.settle_down();
    follower.run_until_quiet();
}

#[test]
fn a_hint_that_only_the_store_could_see_is_waited_for_as_the_store_says() {
    let mut follower = small();
    // The list is owed already, and due in ten seconds.
    follower.hear("group.application_assignment.update", vec![of_group(&the_group()), of_app(&the_app())]);
    follower.debounce();
    follower.settle_down();
    follower.wait(20_000);
    assert_eq!(follower.owed(), ["list(app_users(0oa030))"]);
    // The group goes, and with it accounts: by and by, and only the store knows which apps are meant.
    follower.world.groups.remove(&the_group());
    follower.world.members.clear();
    follower.world.app_groups.clear();
    follower.hear("group.lifecycle.delete", vec![of_group(&the_group())]);
    follower.debounce();
    follower.settle_down();
    let gone_at = follower.now;
    follower.world.accounts.remove(&(the_app(), user(1)));
    while follower.owes(&Target::List(Scope::AppUsers(the_app()))) {
        let at = follower.state().wake_at().unwrap();
        follower.pass(at);
        while !follower.flights.is_empty() {
            let wanted = name(&follower.flights[0].call);
            follower.reply(&wanted);
        }
        follower.commit_all();
    }
    assert!(follower.now.millis_since(gone_at) >= Patience::default().quiet_millis, "not before the quiet");
    follower.run_until_quiet();
}

#[test]
fn nobody_wakes_for_what_cannot_begin_yet() {
    // `Follower::step` asserts after every step that the next moment to wake lies ahead.
    let nets = FollowLimits { users_delta_millis: Some(20_000), apps_millis: Some(20_000), ..calm_limits() };
    let mut follower = small_with(all_limits(), nets);
    follower.step(Input::Asked(Target::Everything));
    follower.debounce();
    assert!(follower.state().is_crawling());
    follower.wait(60_000); // A net is due, and waits for the crawl.
    assert_eq!(follower.under_way(), ["list apps", "list groups", "list users"]);
    follower.run_until_quiet();
    follower.wait(follower.follow.poll_millis);
    follower.fail("poll", ReadFailure::CursorGone);
    follower.wait(60_000); // Everything is owed, and waits for the log.
    assert_eq!(follower.under_way(), Vec::<String>::new());
    follower.run_until_quiet();
}

#[test]
fn answers_of_the_log_after_a_restart_go_on_from_the_stored_position() {
    let mut follower = small();
    follower.world.log_now("user.account.update_profile", vec![of_user(&user(1))]);
    follower.poll();
    // The batch is lost with the process: the page is read again.
    let lost = follower.commits.pop_front().unwrap();
    follower.crash();
    follower.start_with(Begin::Follow {
        last: CrawlId(1),
        fingerprint: "f".to_owned(),
        due_at: follower.now.plus_millis(86_400_000),
    });
    let polled = follower.flights.iter().find_map(|flight| match &flight.call {
        Call::PollLog(cursor) => Some(cursor.clone()),
        _ => None,
    });
    let expected: Option<LogCursor> = match &lost.cursor {
        Some(CursorMove::Advance { expect, .. }) => Some(expect.clone()),
        _ => None,
    };
    assert_eq!(polled, expected);
    follower.reply("poll");
    follower.commit_all();
    assert!(follower.owes(&Target::User(user(1))));
}

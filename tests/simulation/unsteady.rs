//! What an unsteady network and an unsteady Okta cost while an org is followed: few requests more, and in the end all is the
//! same.

use std::time::Duration;

use futures_util::future::join_all;
use okta_sim::{Action, Org, ProfileUpdate, Refusal, Rule, Sim};

use crate::requests::{Followed, active_users, plain_apps};
use crate::slots;

/// Requests with faults, in percent of those without, at most.
const PERCENT_MAX: usize = 130;

/// 5 % resets, 5 % server errors, 2 % truncated bodies, 2 % web pages, 2 % refusals for the rate.
fn unsteady(sim: &mut Sim) {
    let rule = |action, percent: u32| Rule::everywhere(action).probability(f64::from(percent) / 100.0);
    sim.rules.extend([
        rule(Action::Reset, 5),
        rule(Action::Refuse(Refusal::Internal), 5),
        rule(Action::Truncate, 2),
        rule(Action::HtmlOk, 2),
        rule(Action::Refuse(Refusal::RateLimited(1)), 2),
    ]);
}

/// What happens in one round: users, groups and apps that change, and accounts that come.
fn change(org: &mut Org, round: usize) {
    for user in active_users(org, 25) {
        let name = format!("Renamed {round}");
        org.update_profile(user, &ProfileUpdate { last_name: Some(name), ..ProfileUpdate::default() }).unwrap();
    }
    for app in plain_apps(org).into_iter().take(5) {
        org.rename_app(app, &format!("{} renamed {round}", app.id())).unwrap();
    }
    let group = org.create_group(&format!("Group {round}"));
    for user in active_users(org, 5) {
        org.add_member(user, group).unwrap();
    }
    org.run_all_jobs();
}

/// Requests that are no polls; and of the polls all, and those that were answered.
async fn follow(seed: u64, rig: fn(&mut Sim)) -> (usize, usize, usize) {
    let mut followed = Followed::rigged(seed, rig).await;
    followed.world.forget_requests();
    for round in 0..2 {
        change(&mut followed.world.server.sim().org, round);
        // One burst at a time: what comes while a read is tried again is read with it, or not, by chance.
        tokio::time::sleep(Duration::from_millis(300)).await;
        followed.settle().await;
    }
    let records = followed.records();
    let (polls, reads): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.endpoint == "/api/v1/logs");
    let counts = (reads.len(), polls.len(), polls.iter().filter(|poll| poll.status == 200).count());
    followed.end().await;
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsteady_org_is_followed_with_few_requests_more() {
    let _slot = slots::take_all();
    let seeds = 40..43;
    let steady = join_all(seeds.clone().map(|seed| follow(seed, |_| {})));
    let tried = join_all(seeds.map(|seed| follow(seed, unsteady)));
    let (steady, tried) = tokio::join!(steady, tried);
    let sum = |counts: &[(usize, usize, usize)]| counts.iter().map(|counts| counts.0).sum::<usize>();
    let (usual, with_faults) = (sum(&steady), sum(&tried));
    assert!(usual > 150, "{steady:?}");
    assert!(with_faults > usual, "there were no faults: {tried:?}");
    assert!(with_faults * 100 <= usual * PERCENT_MAX, "{with_faults} instead of {usual}: {steady:?}, {tried:?}");
    // Of polls there are as many as time passes, and each may have to be repeated: without faults the answered ones would have
    // been all. One follower alone makes too few for a share to mean anything.
    let (polls, answered) = tried.iter().fold((0, 0), |sum, counts| (sum.0 + counts.1, sum.1 + counts.2));
    let (all, usual) = (with_faults + polls, usual + answered);
    assert!(all * 100 <= usual * PERCENT_MAX, "{all} instead of {usual}: {steady:?}, {tried:?}");
}

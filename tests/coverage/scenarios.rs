//! Every way to hide by itself: after it was seen, and before the first crawl. Entry point: the tests.

use std::time::{Duration, Instant};

use okta_idmap_proto::v1;

use crate::aim::Aim;
use crate::cases::{self, Cases};
use crate::client::{Client, Cover, account, app_by_id, by_id, by_login};
use crate::hidings::{Beside, HIDINGS, Hiding};
use crate::judge::{GRACE, INTERVAL, Judge};
use crate::story::Story;
use crate::truth::Truth;

/// Rows that one look asks about.
const ROWS: usize = 5;

/// How long it is looked while things change and are hidden. Before the first crawl everything is new, and must be heard of.
const LOOKED_AT: Duration = Duration::from_millis(1_500);

/// Asks for what has nothing to do with what is hidden.
async fn cover_of(client: &mut Client, truth: &Truth, aim: &Aim, beside: Beside) -> Cover {
    let name = |name: &str| account(app_by_id(&aim.other_app), name, v1::IdentifierKind::UserName);
    match beside {
        Beside::Account => {
            let of_app = |row: &&okta_sim::org::TruthAppUser| row.app_id == aim.other_app && row.user_name.is_some();
            let row = truth.app_users.values().filter(of_app).find(|row| row.user_id != aim.user).unwrap();
            client.resolve(name(row.user_name.as_deref().unwrap())).await.1
        }
        Beside::NoAccount => {
            let (resolution, cover) = client.resolve(name("nobody-at-all")).await;
            let expected =
                if cover.is_complete { v1::ResolutionOutcome::NotFound } else { v1::ResolutionOutcome::UnknownGap };
            assert_eq!(resolution.outcome(), expected);
            cover
        }
        Beside::AppUsers => client.app_users(&aim.other_app).await.2,
        Beside::AppGroups => client.app_groups(&aim.other_app).await.2,
        Beside::User => client.user(by_id(&aim.other_user)).await.1,
        Beside::NoUser => client.user(by_login("nobody.at.all@acme.example")).await.1,
        Beside::Members => client.members(&aim.other_group).await.2,
        Beside::Groups => client.groups().await.1,
        Beside::Apps => client.apps().await.1,
        Beside::UserGroups => client.groups_of(&aim.other_user).await.2,
    }
}

/// What is not concerned stays complete.
async fn check_beside(judge: &Judge, aim: &Aim, hiding: &Hiding) {
    let (mut client, truth) = (judge.client(), Truth::of(&judge.sim()));
    let mut wrong = Vec::new();
    for beside in hiding.beside {
        let cover = cover_of(&mut client, &truth, aim, *beside).await;
        if !cover.is_complete {
            wrong.push(format!("{beside:?} is PARTIAL: {}", cover.gap_ids.join(" ")));
        }
    }
    assert!(wrong.is_empty(), "not precise: {}", wrong.join("; "));
}

fn filled(aim: &Aim, patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|pattern| aim.fill(pattern)).collect()
}

/// Hides, looks, changes things, looks, shows again.
async fn run(hiding: &'static Hiding, number: u64, at_first: bool, story: Story) {
    let mut judge = Judge::new(300 + number, Some(INTERVAL), story);
    let aim = judge.aim();
    judge.story.tell(format!("{aim:?}"));
    let gaps = if at_first { hiding.gaps_at_first.unwrap() } else { hiding.gaps };
    if !at_first {
        judge.start().await;
        judge.converge().await;
    }
    (hiding.apply)(&mut judge.sim(), &aim);
    judge.story.tell(format!("hidden: {}", hiding.name));
    if at_first {
        judge.start().await;
    }
    // Before the connector can know, rows are answered as they are stored.
    judge.look(ROWS, |key| aim.concerns(key)).await;
    if gaps.is_empty() {
        judge.pause(GRACE).await;
    } else {
        judge.wait_for_gap(&filled(&aim, gaps)).await;
    }
    judge.look(ROWS * 2, |key| aim.concerns(key)).await;
    judge.look(ROWS, |_| true).await;
    if !at_first {
        check_beside(&judge, &aim, hiding).await;
    }
    judge.change(8);
    let (begun, duration) = (Instant::now(), if at_first { GRACE } else { LOOKED_AT });
    while begun.elapsed() < duration {
        judge.pause(Duration::from_millis(700)).await;
        judge.look(ROWS / 2, |key| aim.concerns(key)).await;
        judge.look(ROWS / 2, |_| true).await;
    }
    judge.lift();
    judge.converge().await;
    judge.assert_complete(ROWS).await;
    judge.assert_history().await;
    judge.end().await;
}

/// Whether a case is run: each way to hide in one of its two forms in a usual run, in both with `COVERAGE_ALL` or by name.
fn is_run(number: u64, hiding: &Hiding, at_first: bool) -> bool {
    if at_first && hiding.gaps_at_first.is_none() {
        return false;
    }
    let takes_all = cases::number("COVERAGE_ALL").is_some() || std::env::var("COVERAGE_CASE").is_ok();
    let usual_at_first = number % 2 == 1 && hiding.gaps_at_first.is_some();
    takes_all || at_first == usual_at_first
}

/// What was known is hidden, and shown again later.
#[test]
fn what_is_hidden_is_never_denied() {
    let mut cases = Cases::default();
    for (number, hiding) in (0..).zip(HIDINGS).filter(|(number, hiding)| is_run(*number, hiding, false)) {
        cases.add(hiding.name, move |story| run(hiding, number, false, story));
    }
    cases.run("hidden later");
}

/// What was hidden before the first crawl, where anything tells of it.
#[test]
fn what_was_never_seen_is_never_denied() {
    let mut cases = Cases::default();
    for (number, hiding) in (0..).zip(HIDINGS).filter(|(number, hiding)| is_run(*number, hiding, true)) {
        cases.add(format!("{} at first", hiding.name), move |story| run(hiding, number, true, story));
    }
    cases.run("hidden at first");
}

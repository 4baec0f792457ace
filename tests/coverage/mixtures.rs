//! Ways to hide combined, appearing and disappearing under a seed while the org changes, with restarts in between. Entry
//! point: the test.

use std::time::Duration;

use crate::aim::Aim;
use crate::cases::{Cases, number};
use crate::hidings::{HIDINGS, Hiding};
use crate::judge::{GRACE, INTERVAL, Judge};
use crate::story::Story;

/// Seeds of a usual run. One takes some ten seconds, most of them waiting.
const SEEDS_DEFAULT: u64 = 5;

/// Ways that hold at the same time.
const AT_ONCE_MAX: usize = 3;

/// Rows that one look asks about.
const ROWS: usize = 6;

/// What holds at present.
#[derive(Default)]
struct Weather {
    hidings: Vec<(&'static Hiding, Aim)>,
    /// Whether everything was seen once. Before that, what is silently left out may be known by nothing.
    is_known: bool,
}

impl Weather {
    /// Whether the way goes with those that hold. While the log is unreadable, what is left out of lists without a word
    /// has nothing that tells of it, if it is new.
    fn admits(&self, hiding: &Hiding) -> bool {
        let refuses_log =
            |hiding: &Hiding| hiding.name.contains("log") && !hiding.is_silent || hiding.name == "no role at all";
        let is_narrow = |hiding: &Hiding| hiding.name.contains("narrowed");
        let goes_with = |other: &Hiding| {
            let is_untold = refuses_log(other) && hiding.is_silent || refuses_log(hiding) && other.is_silent;
            other.name != hiding.name && !is_untold && !is_narrow(other) && !is_narrow(hiding)
        };
        self.hidings.len() < AT_ONCE_MAX
            && (self.is_known || !hiding.is_silent)
            && self.hidings.iter().all(|(other, _)| goes_with(other))
    }

    /// Makes the org answer accordingly.
    fn apply(&self, judge: &Judge) {
        let mut sim = judge.sim();
        sim.behave();
        for (hiding, aim) in &self.hidings {
            (hiding.apply)(&mut sim, aim);
        }
        drop(sim);
        let names: Vec<&str> = self.hidings.iter().map(|(hiding, _)| hiding.name).collect();
        judge.story.tell(format!("now: {}", names.join("; ")));
    }

    fn concerns(&self, key: &crate::truth::Key) -> bool {
        self.hidings.iter().any(|(_, aim)| aim.concerns(key))
    }
}

async fn run(seed: u64, story: Story) {
    let mut judge = Judge::new(seed, Some(INTERVAL), story);
    let mut weather = Weather::default();
    let at_first = judge.random.u8(0..3) == 0;
    if at_first {
        let known: Vec<&Hiding> = HIDINGS.iter().filter(|hiding| hiding.gaps_at_first.is_some()).collect();
        let hiding = known[judge.random.usize(0..known.len())];
        weather.hidings.push((hiding, judge.aim()));
        weather.apply(&judge);
        judge.start().await;
        judge.pause(GRACE).await;
        judge.look(ROWS * 2, |_| true).await;
    } else {
        judge.start().await;
    }
    // What was left out of the first crawl without a word has to be seen before anything else is left out.
    if weather.hidings.iter().all(|(hiding, _)| hiding.is_silent) {
        judge.lift();
        judge.converge().await;
        weather = Weather { hidings: Vec::new(), is_known: true };
    }
    for _ in 0..judge.random.usize(2..=4) {
        // Something new is hidden, or something is shown again, or both.
        for _ in 0..judge.random.usize(1..=2) {
            let hiding = &HIDINGS[judge.random.usize(0..HIDINGS.len())];
            if judge.random.u8(0..3) > 0 && weather.admits(hiding) {
                let aim = judge.aim();
                weather.hidings.push((hiding, aim));
            } else if !weather.hidings.is_empty() {
                let place = judge.random.usize(0..weather.hidings.len());
                weather.hidings.remove(place);
            }
        }
        weather.apply(&judge);
        for _ in 0..judge.random.usize(1..=3) {
            let changes = judge.random.usize(0..8);
            judge.change(changes);
            let millis = judge.random.u64(0..700);
            judge.pause(Duration::from_millis(millis)).await;
            judge.look(ROWS, |key| weather.concerns(key)).await;
            judge.look(ROWS, |_| true).await;
        }
        if judge.random.u8(0..4) == 0 {
            judge.cut_off().await;
            judge.look(ROWS, |_| true).await;
        }
    }
    // Long enough for what is new to be heard of, or known to be hidden.
    judge.pause(GRACE).await;
    judge.look(ROWS * 3, |_| true).await;
    judge.lift();
    judge.converge().await;
    judge.assert_complete(ROWS * 3).await;
    judge.assert_history().await;
    judge.end().await;
}

#[test]
fn mixtures_are_never_denied() {
    let seeds = match (number("COVERAGE_SEED"), number("COVERAGE_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, count) => 1..=count.unwrap_or(SEEDS_DEFAULT),
    };
    let mut cases = Cases::default();
    for seed in seeds {
        cases.add(format!("mixture {seed}"), move |story| run(seed, story));
    }
    cases.run("mixtures");
}

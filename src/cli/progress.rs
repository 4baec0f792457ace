//! How far a crawl is: bars on a terminal, a line now and then elsewhere. Entry point: [`show`].
//!
//! Invariant: what is shown is computed by [`Rates`] from what the crawl tells and from the time; nothing is guessed. How
//! many lists there are grows while groups and apps are being listed, so a bar may step back.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::args::Global;
use super::logging;
use super::run::Progress;
use crate::config::LogFormat;
use crate::core::model::Kind;

/// Time between two log lines: a dozen lines of a small org, some hundred of a large one.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Time between two pictures of the bars: smooth for the eye, nothing for the machine.
const BAR_INTERVAL: Duration = Duration::from_millis(200);
/// Weight of the newest second in a rate, in percent: steady enough to be read, fresh enough to show a wait.
const RATE_WEIGHT_PERCENT_PER_SECOND: f64 = 20.0;

/// The kinds in the order in which a crawl reads them, as people call them.
const KINDS: [(Kind, &str); 6] = [
    (Kind::User, "users"),
    (Kind::Group, "groups"),
    (Kind::GroupMember, "members"),
    (Kind::App, "apps"),
    (Kind::AppUser, "app users"),
    (Kind::AppGroup, "app groups"),
];

/// As people call the rows of a kind.
pub(super) fn plural(kind: Kind) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("rows", |(_, name)| name)
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Bars.
    Bars,
    /// Log lines.
    Lines,
    /// Not at all.
    Nothing,
}

impl Manner {
    /// Bars where somebody looks at them; lines where a program reads; nothing where nobody wants to know.
    pub(super) fn of(global: &Global, format: LogFormat) -> Self {
        match (global.quiet, format, io::stderr().is_terminal()) {
            (true, _, _) => Self::Nothing,
            (false, LogFormat::Text, true) => Self::Bars,
            (false, _, _) => Self::Lines,
        }
    }
}

/// Shows the progress of one org until the crawl drops its sender.
pub(super) async fn show(org: &str, manner: Manner, mut progress: watch::Receiver<Progress>) {
    let period = match manner {
        Manner::Bars => BAR_INTERVAL,
        Manner::Lines => LINE_INTERVAL,
        Manner::Nothing => {
            while progress.changed().await.is_ok() {}
            return;
        }
    };
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once and has nothing to tell.
    ticks.tick().await;
    let bars = (manner == Manner::Bars).then(|| Bars::new(org));
    let mut rates = Rates::default();
    let mut last = Instant::now();
    let mut told = Progress::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = sender_gone(&mut progress) => break,
        }
        let now = Instant::now();
        let current = progress.borrow().clone();
        rates.observe(&current, now.duration_since(last));
        last = now;
        match &bars {
            Some(bars) => bars.draw(&current, &rates),
            // A server is idle most of the time; the same line again would tell nothing.
            None if current != told && current != Progress::default() => {
                tracing::info!(org, "{}", summary(&current, &rates))
            }
            None => {}
        }
        told = current;
    }
    if let Some(bars) = bars {
        bars.clear();
    }
}

/// Ends when there is nobody any more who could tell of progress.
async fn sender_gone(progress: &mut watch::Receiver<Progress>) {
    while progress.changed().await.is_ok() {}
}

/// Rows per second by kind, smoothed.
#[derive(Debug, Default)]
struct Rates {
    rows_before: [u64; KINDS.len()],
    rows_per_second: [f64; KINDS.len()],
}

impl Rates {
    fn observe(&mut self, progress: &Progress, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let old_share = (1.0 - RATE_WEIGHT_PERCENT_PER_SECOND / 100.0).powf(seconds);
        for (index, (kind, _)) in KINDS.iter().enumerate() {
            let rows = counts(progress, *kind).2;
            let new = rows.saturating_sub(self.rows_before[index]);
            #[expect(
                clippy::cast_precision_loss,
                reason = "a rate for people; rows of one interval are far below 2^52"
            )]
            let rate = new as f64 / seconds;
            self.rows_per_second[index] = self.rows_per_second[index] * old_share + rate * (1.0 - old_share);
            self.rows_before[index] = rows;
        }
    }
}

/// Lists read, lists known, rows.
fn counts(progress: &Progress, kind: Kind) -> (u64, u64, u64) {
    progress.kinds.get(&kind).map_or((0, 0, 0), |counts| (counts.done, counts.known, counts.rows))
}

/// One line with everything that has begun: `users 1/1 lists, 12000 rows, 400/s; … ; 128 requests`.
fn summary(progress: &Progress, rates: &Rates) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (index, (kind, name)) in KINDS.iter().enumerate() {
        let (done, known, rows) = counts(progress, *kind);
        if known > 0 {
            parts.push(format!("{name} {done}/{known} lists, {}", rows_and_rate(rows, rates.rows_per_second[index])));
        }
    }
    parts.push(requests(progress));
    parts.join("; ")
}

fn rows_and_rate(rows: u64, rows_per_second: f64) -> String {
    // Below one row in two seconds a rate says nothing.
    if rows_per_second < 0.5 { format!("{rows} rows") } else { format!("{rows} rows, {rows_per_second:.0}/s") }
}

fn requests(progress: &Progress) -> String {
    let waiting = match progress.waiting_seconds {
        0 => String::new(),
        seconds => format!(", waiting {seconds} s for the rate limit"),
    };
    format!("{} requests{waiting}", progress.requests)
}

struct Bars {
    all: MultiProgress,
    kinds: Vec<ProgressBar>,
    requests: ProgressBar,
}

impl Bars {
    fn new(org: &str) -> Self {
        let all = logging::bars();
        // A template that does not parse would be a mistake of ours; the plain default style then still counts.
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ")
        };
        let bar = style("  {prefix:10} [{bar:24}] {pos:>7}/{len:7} {msg}");
        let add = |name: &'static str| {
            let line = all.add(ProgressBar::new(0).with_style(bar.clone()).with_prefix(name));
            line.tick();
            line
        };
        let requests = all.add(ProgressBar::new(0).with_style(style("{prefix}: {msg}")).with_prefix(org.to_owned()));
        let kinds = KINDS.iter().map(|(_, name)| add(name)).collect();
        Self { all, kinds, requests }
    }

    fn draw(&self, progress: &Progress, rates: &Rates) {
        for (index, (bar, (kind, _))) in self.kinds.iter().zip(KINDS).enumerate() {
            let (done, known, rows) = counts(progress, kind);
            bar.set_length(known);
            bar.set_position(done);
            bar.set_message(rows_and_rate(rows, rates.rows_per_second[index]));
        }
        self.requests.set_message(requests(progress));
    }

    /// Takes the bars away: the summary says it all.
    fn clear(self) {
        for bar in self.kinds.iter().chain([&self.requests]) {
            bar.finish_and_clear();
            self.all.remove(bar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sync::ScopeCounts;

    fn progress(rows: u64, waiting_seconds: u64) -> Progress {
        let users = ScopeCounts { done: 0, known: 1, rows };
        Progress { kinds: [(Kind::User, users)].into(), requests: 5, waiting_seconds }
    }

    #[test]
    fn a_line_tells_what_has_begun() {
        #[track_caller]
        fn check(progress: &Progress, rows_per_second: f64, expected: &str) {
            let mut rates = Rates::default();
            rates.rows_per_second[0] = rows_per_second;
            assert_eq!(summary(progress, &rates), expected);
        }
        check(&Progress::default(), 9.0, "0 requests");
        check(&progress(400, 0), 0.2, "users 0/1 lists, 400 rows; 5 requests");
        let waiting = "users 0/1 lists, 400 rows, 38/s; 5 requests, waiting 12 s for the rate limit";
        check(&progress(400, 12), 37.6, waiting);
    }

    #[test]
    fn rates_follow_and_fade() {
        let mut rates = Rates::default();
        let second = Duration::from_secs(1);
        for step in 1..=30 {
            rates.observe(&progress(step * 100, 0), second);
        }
        assert!((rates.rows_per_second[0] - 100.0).abs() < 1.0);
        for _ in 0..30 {
            rates.observe(&progress(3_000, 0), second);
        }
        assert!(rates.rows_per_second[0] < 0.5);
        // A resumed crawl begins to count anew, and no time at all has no rate.
        rates.observe(&progress(10, 0), second);
        rates.observe(&progress(10, 0), Duration::ZERO);
        assert!(rates.rows_per_second[0] < 0.5);
    }

    #[tokio::test(start_paused = true)]
    async fn showing_ends_with_the_crawl() {
        for manner in [Manner::Nothing, Manner::Lines, Manner::Bars] {
            let (sender, receiver) = watch::channel(Progress::default());
            let crawl = async {
                sender.send_replace(progress(1, 0));
                tokio::time::sleep(LINE_INTERVAL * 3).await;
                drop(sender);
            };
            tokio::join!(crawl, show("acme", manner, receiver));
        }
    }

    #[test]
    fn every_kind_has_a_name() {
        for kind in Kind::ALL {
            assert_ne!(plural(kind), "rows");
        }
    }
}

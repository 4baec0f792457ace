//! Many cases at once, and what is told of those that fail. Entry points: [`Cases::add`], [`Cases::run`].

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::slots;
use crate::story::Story;

/// Failing cases that are told in full. The others are named.
const TOLD_MAX: usize = 6;

/// No case takes longer, whatever it waits for: one that does hangs. On a usual machine the longest takes half a minute.
const CASE_TIME_MAX: Duration = Duration::from_secs(600);

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

type Run = Box<dyn Fn(Story) -> Pin<Box<dyn Future<Output = ()>>> + Sync>;

/// Named cases of one test.
#[derive(Default)]
pub(crate) struct Cases(Vec<(String, Run)>);

impl Cases {
    /// Adds one, unless `COVERAGE_CASE` asks for others.
    pub(crate) fn add<F: Future<Output = ()> + 'static>(
        &mut self,
        name: impl Into<String>,
        run: impl Fn(Story) -> F + Sync + 'static,
    ) {
        let name = name.into();
        let is_wanted = std::env::var("COVERAGE_CASE").is_ok_and(|wanted| !name.contains(&wanted));
        if !is_wanted {
            self.0.push((name, Box::new(move |story| Box::pin(run(story)))));
        }
    }

    /// Runs all of them; fails with the stories of those that fail.
    #[expect(clippy::print_stdout, reason = "how long it took, and which was slowest, is worth a line")]
    pub(crate) fn run(self, title: &str) {
        let (next, failed, slowest) =
            (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new((Duration::ZERO, String::new())));
        let begun = Instant::now();
        std::thread::scope(|threads| {
            for _ in 0..slots::count().min(self.0.len()) {
                threads.spawn(|| {
                    while let Some((name, run)) = self.0.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let _slot = slots::take();
                        let story = Story::new();
                        if let Err(reason) = run_one(|| run(story.clone())) {
                            failed.lock().unwrap().push((name.clone(), reason, story.text()));
                        }
                        let took = (story.elapsed(), name.clone());
                        let mut slowest = slowest.lock().unwrap();
                        if took > *slowest {
                            *slowest = took;
                        }
                    }
                });
            }
        });
        let (longest, slow_name) = slowest.into_inner().unwrap();
        println!("{title}: {} cases in {:?}, the longest {longest:?} ({slow_name})", self.0.len(), begun.elapsed());
        let failed = failed.into_inner().unwrap();
        let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let names: Vec<String> =
            failed.iter().map(|(name, reason, _)| format!("- {name}: {}", first_line(reason))).collect();
        let told: Vec<String> =
            failed.iter().take(TOLD_MAX).map(|(name, reason, story)| format!("{name}: {reason}\n{story}")).collect();
        assert!(
            failed.is_empty(),
            "{title}: {} of {} cases fail\n{}\n\n{}",
            failed.len(),
            self.0.len(),
            names.join("\n"),
            told.join("\n\n")
        );
    }
}

/// One case in a runtime of its own, as a process would have it; its panic is its failure.
fn run_one<F: Future<Output = ()>>(run: impl FnOnce() -> F) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let ended = tokio::time::timeout(CASE_TIME_MAX, run()).await;
            assert!(ended.is_ok(), "it does not end within {CASE_TIME_MAX:?}");
        });
    }));
    // Tasks of an engine that failed may never end: they are left behind with the runtime.
    runtime.shutdown_background();
    result.map_err(|panic| text_of(&*panic))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

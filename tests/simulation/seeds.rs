//! Many seeds at once, and what is told of those that fail. Entry point: [`run_all`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::slots;
use crate::story::Story;

/// Failing seeds that are told in full. Most failures of a run have one cause.
const TOLD_MAX: usize = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Runs `run` under the seeds 1 to `default`, or as the environment says, and fails if one of them does.
#[expect(clippy::print_stdout, reason = "how many seeds there were, and how long they took, is worth a line")]
pub(crate) fn run_all<F: Future<Output = ()>>(name: &str, default: u64, run: fn(u64, Story) -> F) {
    let seeds = match (number("SIMULATION_SEED"), number("SIMULATION_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, count) => 1..=count.unwrap_or(default),
    };
    let (first, last) = (*seeds.start(), *seeds.end());
    let (next, failed, slowest) = (AtomicU64::new(first), Mutex::new(Vec::new()), Mutex::new((Duration::ZERO, 0)));
    let begun = Instant::now();
    std::thread::scope(|threads| {
        for _ in 0..slots::count() {
            threads.spawn(|| {
                loop {
                    let _slot = slots::take();
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last || failed.lock().unwrap().len() >= TOLD_MAX {
                        return;
                    }
                    let story = Story::new();
                    if let Err(reason) = run_one(run(seed, story.clone())) {
                        failed.lock().unwrap().push(format!("seed {seed}: {reason}\n{}", story.text()));
                    }
                    let took = story.elapsed();
                    let mut slowest = slowest.lock().unwrap();
                    *slowest = (*slowest).max((took, seed));
                }
            });
        }
    });
    let (longest, slow_seed) = slowest.into_inner().unwrap();
    println!("{name}: seeds {first} to {last} in {:?}, the longest {longest:?} (seed {slow_seed})", begun.elapsed());
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "{name}: {} seeds failed; run one with SIMULATION_SEED=<seed>\n\n{}",
        failed.len(),
        failed.join("\n\n")
    );
}

/// One run in a runtime of its own, as a process would have it; its panic is its failure.
fn run_one(run: impl Future<Output = ()>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run)));
    // Tasks of an engine that failed may never end: they are left behind with the runtime.
    runtime.shutdown_background();
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
    })
}

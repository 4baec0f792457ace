//! Rate limits: no page is lost, and the connector runs into as few refusals as it can.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use okta_sim::{Bucket, ClockMode, Limit, Org, ServerConfig, Sim, Spec};

use crate::harness::{NO_GAPS, World, gap_ids};

/// Windows of one second instead of sixty, so that a test sees several. `Reset` has whole seconds and the connector adds
/// one, so that a window costs two to three.
const WINDOW_MS: u64 = 1_000;

/// How often the org's clock is moved on.
const TICK: Duration = Duration::from_millis(5);

/// Crawls while the org's clock runs as fast as ours; `others` uses the org at every tick.
async fn sync_by_the_clock(world: &World, others: impl Fn(&mut Sim) + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut last = Instant::now();
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                let passed = last.elapsed().as_millis();
                last += Duration::from_millis(u64::try_from(passed).unwrap());
                let mut sim = world.server.sim();
                sim.org.advance_ms(u64::try_from(passed).unwrap());
                others(&mut sim);
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let report = world.sync().await;
                done.store(true, Ordering::Relaxed);
                assert_eq!(gap_ids(&report), NO_GAPS);
            });
        });
    });
    world.assert_equal();
}

fn limited(users: usize, seed: u64, latency_ms: u64, limits: &[(Bucket, u32, u32)]) -> World {
    let mut world = World::slow(Org::generate(&Spec { seed, ..Spec::of_users(users) }), latency_ms);
    world.small_pages();
    {
        let mut sim = world.server.sim();
        sim.limits.window_ms = WINDOW_MS;
        for (bucket, org, share) in limits {
            sim.limits.set_limit(*bucket, Some(Limit { org: *org, share: *share }));
        }
    }
    world
}

fn throttled(world: &World) -> usize {
    world.server.sim().requests.counts().map(|(_, count)| count.throttled).sum()
}

/// The connector is alone: it keeps to the windows without being refused once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_kept_without_a_refusal() {
    let limits =
        [(Bucket::Apps, 40, 20), (Bucket::GroupsList, 30, 15), (Bucket::UsersList, 8, 4), (Bucket::Logs, 2, 1)];
    let world = limited(60, 501, 3, &limits);
    sync_by_the_clock(&world, |_| {}).await;
    assert_eq!(throttled(&world), 0);
}

/// Other clients use the same buckets: refusals are few, and no page is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_clients_cost_time_and_nothing_else() {
    let limits = [(Bucket::Apps, 30, 20), (Bucket::GroupsList, 30, 20)];
    let world = limited(50, 502, 3, &limits);
    let tick = AtomicU32::new(0);
    sync_by_the_clock(&world, |sim| {
        // Ten requests a second: a third of what the org has.
        if tick.fetch_add(1, Ordering::Relaxed).is_multiple_of(20) {
            sim.consume(Bucket::Apps, 1);
            sim.consume(Bucket::GroupsList, 1);
        }
    })
    .await;
    let (refused, sent) = (throttled(&world), world.requests());
    assert!(refused * 3 <= sent, "{refused} of {sent} requests were refused");
}

/// Too many requests at the same time: fewer of ours, a short wait, no page lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrency_limits_narrow_the_crawl() {
    let world = limited(40, 503, 10, &[]);
    world.server.sim().limits.concurrency_max = Some(4);
    sync_by_the_clock(&world, |_| {}).await;
    let (refused, sent) = (throttled(&world), world.requests());
    assert!(refused > 0, "the limit was never met, so this proves nothing");
    // Twelve of the first sixteen, and one for each time that it is tried whether more fit.
    assert!(refused <= 16, "{refused} of {sent} requests were refused");
}

/// Windows of five seconds by a real clock, of which another client takes `others` evenly. Answers the milliseconds that a
/// crawl takes, and those that the smallest bucket takes.
async fn crawl_in_short_windows(seed: u64, share: u32, others: u32) -> (u128, u128) {
    const SHORT_WINDOW: Duration = Duration::from_secs(5);
    let org = Org::generate(&Spec { seed, apps: 28, ..Spec::of_users(60) });
    let config = ServerConfig { latency_ms: 20, clock: ClockMode::Wall, ..ServerConfig::default() };
    let mut world = World::served(org, config);
    world.small_pages();
    {
        let mut sim = world.server.sim();
        sim.limits.window_ms = SHORT_WINDOW.as_millis().try_into().unwrap();
        sim.limits.set_limit(Bucket::Apps, Some(Limit { org: share, share }));
        sim.limits.set_limit(Bucket::GroupsList, Some(Limit { org: 2 * share, share: 2 * share }));
    }
    let started = Instant::now();
    let crawl = async {
        let report = world.sync().await;
        (report, started.elapsed().as_millis())
    };
    let other_client = async {
        loop {
            tokio::time::sleep(SHORT_WINDOW / others.max(1)).await;
            if others > 0 {
                world.server.sim().consume(Bucket::Apps, 1);
            }
        }
    };
    let (report, took_ms) = tokio::select! {
        done = crawl => done,
        () = other_client => unreachable!(),
    };
    assert_eq!(gap_ids(&report), NO_GAPS);
    let apps = world.server.sim().requests.records().filter(|request| request.bucket == Bucket::Apps).count();
    let windows = u128::try_from(apps).unwrap().div_ceil(u128::from(share - others)) - 1;
    assert!(windows >= 2, "{apps} requests do not show how windows are kept");
    let bound_ms = windows * SHORT_WINDOW.as_millis();
    assert_eq!(throttled(&world), 0, "{share} - {others}");
    (took_ms, bound_ms)
}

/// No refusal, and no more time than the smallest bucket takes; on a busy machine everything takes longer, but no window is
/// left out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_takes_as_long_as_the_smallest_bucket() {
    let (alone, beside) = tokio::join!(crawl_in_short_windows(504, 30, 0), crawl_in_short_windows(504, 60, 30));
    for (took_ms, bound_ms) in [alone, beside] {
        assert!(took_ms < bound_ms + 5_000, "{took_ms} ms, at least {bound_ms} ms");
    }
}

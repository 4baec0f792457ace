//! The limiter under a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::{JoinSet, yield_now};

use super::*;

/// 2026-08-02T09:00:22Z, also the local clock.
fn date() -> Timestamp {
    Timestamp::from_millis(1_785_661_222_000)
}

fn limiter(in_flight_max: u32) -> Limiter {
    Limiter::new(LimiterConfig { in_flight_max, ..LimiterConfig::default() }, date)
}

fn headers(limit: u64, remaining: u64, seconds_to_reset: i64) -> AnswerHeaders {
    let reset = (date().as_millis() / 1_000 + seconds_to_reset).to_string();
    AnswerHeaders::new([
        ("x-rate-limit-limit", limit.to_string().as_str()),
        ("x-rate-limit-remaining", remaining.to_string().as_str()),
        ("x-rate-limit-reset", reset.as_str()),
    ])
}

/// Waits for a request of a new call, and sends it.
async fn acquire(limiter: &Limiter, bucket: Bucket, priority: Priority) -> Permit {
    let mut permit = limiter.acquire(bucket, priority, limiter.call()).await;
    permit.sending();
    permit
}

async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_explores_then_several_go() {
    let limiter = limiter(16);
    let granted = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (limiter, granted) = (limiter.clone(), granted.clone());
        tasks.spawn(async move {
            let permit = acquire(&limiter, Bucket::Apps, Priority::Crawl).await;
            granted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            permit.answered(&headers(100, 90, 30), Some(date()), Health::Well, 0);
        });
    }
    settle().await;
    assert_eq!(granted.load(Ordering::Relaxed), 1, "nothing is known yet");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(granted.load(Ordering::Relaxed), 5, "one answered, four in flight");
    let state = &limiter.states()[0];
    assert_eq!((state.in_flight, state.waiting, state.limit), (4, 1, Some(100)));
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let state = &limiter.states()[0];
    assert_eq!((state.in_flight, state.waiting), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_spent_window_is_waited_out_even_by_those_who_already_waited() {
    let limiter = limiter(16);
    let first = acquire(&limiter, Bucket::Apps, Priority::Crawl).await;
    let waiting = {
        let limiter = limiter.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let started = Instant::now();
            let permit = acquire(&limiter, Bucket::Apps, Priority::Crawl).await;
            drop(permit);
            started.elapsed()
        });
        tasks
    };
    settle().await;
    // The waiter waits for an answer; the answer turns that into a wait for the reset.
    assert_eq!(first.refused(&headers(100, 0, 38), Some(date()), 0).millis, 39_001);
    let waited = waiting.join_all().await;
    assert_eq!(waited, [Duration::from_millis(39_001)]);
}

#[tokio::test(start_paused = true)]
async fn the_more_urgent_goes_first() {
    let limiter = limiter(1);
    let first = acquire(&limiter, Bucket::Public, Priority::Crawl).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for (name, priority) in
        [("crawl 1", Priority::Crawl), ("by id", Priority::ById), ("crawl 2", Priority::Crawl), ("log", Priority::Log)]
    {
        let (limiter, order) = (limiter.clone(), order.clone());
        tasks.spawn(async move {
            let permit = acquire(&limiter, Bucket::Apps, priority).await;
            order.lock().unwrap().push(name);
            yield_now().await;
            drop(permit);
        });
        settle().await;
    }
    drop(first);
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), ["log", "by id", "crawl 1", "crawl 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_bucket_holds_nobody_else_back() {
    let limiter = limiter(16);
    acquire(&limiter, Bucket::Apps, Priority::Crawl).await.refused(&headers(100, 0, 38), Some(date()), 0);
    let mut tasks = JoinSet::new();
    let blocked = limiter.clone();
    tasks.spawn(async move { drop(acquire(&blocked, Bucket::Apps, Priority::Log).await) });
    settle().await;
    let started = Instant::now();
    drop(acquire(&limiter, Bucket::UsersList, Priority::Crawl).await);
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(limiter.states()[0].waiting, 1);
    tasks.join_all().await;
    assert_eq!(started.elapsed(), Duration::from_millis(39_001));
}

#[tokio::test(start_paused = true)]
async fn cancelled_waiters_and_dropped_permits_give_their_place_back() {
    let limiter = limiter(16);
    let first = acquire(&limiter, Bucket::Apps, Priority::Crawl).await;
    for _ in 0..3 {
        let waiting = acquire(&limiter, Bucket::Apps, Priority::Crawl);
        assert!(tokio::time::timeout(Duration::from_millis(10), waiting).await.is_err());
    }
    assert_eq!(limiter.states()[0].waiting, 0);
    // Granted, then cancelled before it was looked at.
    let mut waiting = Box::pin(acquire(&limiter, Bucket::Apps, Priority::Crawl));
    tokio::select! {
        biased;
        _ = waiting.as_mut() => panic!("granted beside the exploring request"),
        () = std::future::ready(()) => {}
    }
    drop(first);
    drop(waiting);
    let state = &limiter.states()[0];
    assert_eq!((state.in_flight, state.waiting), (0, 0));
    drop(acquire(&limiter, Bucket::Apps, Priority::Crawl).await);
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_refusal_is_a_short_wait_for_the_call() {
    let limiter = limiter(16);
    let first = acquire(&limiter, Bucket::Apps, Priority::Crawl).await;
    let started = Instant::now();
    let wait = first.refused(&headers(0, 0, 38), Some(date()), 77);
    assert!(wait.is_for_call && crate::core::backoff::CONCURRENCY_WAIT_MILLIS.contains(&wait.millis));
    // Others are not held back, but there are fewer of them at once, in all buckets together.
    let apps = acquire(&limiter, Bucket::Apps, Priority::Crawl).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    let users = acquire(&limiter, Bucket::UsersList, Priority::Log);
    assert!(tokio::time::timeout(Duration::from_secs(60), users).await.is_err());
    drop(apps);
    drop(acquire(&limiter, Bucket::UsersList, Priority::Log).await);
    assert_eq!(limiter.states()[0].refused, 1);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_pages_hold_no_urgent_read_back() {
    let limiter = limiter(16);
    let mut tasks = JoinSet::new();
    for _ in 0..400 {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            let permit = acquire(&limiter, Bucket::Apps, Priority::Crawl).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            // A window that never ends, and more budget than anybody needs.
            permit.answered(&headers(10_000, 9_000, 60), Some(date()), Health::Well, 0);
        });
    }
    tokio::time::sleep(Duration::from_millis(250)).await;
    for priority in [Priority::ById, Priority::Log] {
        let started = Instant::now();
        let permit = acquire(&limiter, Bucket::Apps, priority).await;
        assert!(started.elapsed() <= Duration::from_millis(100), "{priority:?} waited {:?}", started.elapsed());
        assert!(limiter.states()[0].waiting > 350);
        drop(permit);
    }
    tasks.abort_all();
}

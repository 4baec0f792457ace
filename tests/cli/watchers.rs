//! Many who watch and of whom nothing is new: a bounded number, each told every second, at a small price.
//!
//! `OKTA_IDMAP_TEST_WATCHES=10000 cargo test --release --test cli watchers -- --nocapture` prints what so many cost; by itself
//! the test takes some hundred, so that it does not hold up others.

use std::io::{BufRead as _, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use okta_idmap_proto::v1;
use okta_idmap_proto::v1::change_event::Event;
use okta_idmap_proto::v1::changes_client::ChangesClient;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use super::harness::Running;
use super::live::world;

/// Streams over one connection; the server allows 200 calls.
const STREAMS_PER_CONNECTION: usize = 100;
/// How long it is looked at the idle server: five checkpoints of each.
const LOOK: Duration = Duration::from_secs(4);
/// Nothing here takes a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Processor seconds and resident bytes of a process, from `/proc`; zeros where there is none.
fn costs(process: u32) -> (f64, u64) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
    let stat = read("stat");
    // The name of the program, in brackets, may have blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    let pages = read("statm").split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    ((ticks(11) + ticks(12)) / 100.0, pages.unwrap_or_default() * 4096)
}

async fn open(channel: &Channel, start: &v1::ChangeStart) -> Result<Streaming<v1::WatchResponse>, tonic::Status> {
    let request = v1::WatchRequest { start: Some(start.clone()), ..Default::default() };
    Ok(ChangesClient::new(channel.clone()).watch(request).await?.into_inner())
}

/// Counts checkpoints until the stream ends.
async fn count(mut stream: Streaming<v1::WatchResponse>, seen: Arc<AtomicUsize>) {
    while let Ok(Some(message)) = stream.message().await {
        let checkpoints = message.events.iter().filter(|event| matches!(event.event, Some(Event::Checkpoint(_))));
        seen.fetch_add(checkpoints.count(), Ordering::Relaxed);
    }
}

async fn watch_all(running: &mut Running, url: &str, start: v1::ChangeStart, watches: usize) {
    let process = running.child().id();
    let connect = || async { Endpoint::from_shared(url.to_owned()).unwrap().connect().await.unwrap() };
    let (before, begun) = (costs(process), Instant::now());
    let seen: Vec<Arc<AtomicUsize>> = (0..watches).map(|_| Arc::default()).collect();
    let mut readers = JoinSet::new();
    let mut channels = Vec::new();
    for portion in seen.chunks(STREAMS_PER_CONNECTION) {
        let channel = connect().await;
        for seen in portion {
            readers.spawn(count(open(&channel, &start).await.unwrap(), Arc::clone(seen)));
        }
        channels.push(channel);
    }
    let (opened, waiting) = (begun.elapsed(), Instant::now());
    // One more is refused, in words of the API.
    let refused = open(&connect().await, &start).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    while seen.iter().any(|seen| seen.load(Ordering::Relaxed) == 0) {
        assert!(waiting.elapsed() < PATIENCE, "somebody is not told anything");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (idle, told) = (costs(process), seen.iter().map(|seen| seen.load(Ordering::Relaxed)).collect::<Vec<_>>());
    let looking = Instant::now();
    tokio::time::sleep(LOOK).await;
    let (now, seconds) = (costs(process), looking.elapsed().as_secs_f64());
    let told: Vec<usize> = seen.iter().zip(told).map(|(seen, told)| seen.load(Ordering::Relaxed) - told).collect();
    // Once a second is promised; a busy machine may be late by some.
    let (few, all) = (told.iter().min().unwrap(), told.iter().sum::<usize>());
    assert!(*few >= 1, "somebody is left out: {told:?}");
    #[expect(clippy::print_stdout, reason = "figures for whoever asks for them")]
    {
        println!(
            "{watches} idle streams over {} connections, opened in {:.1} s: {:.1} KiB each, {:.1} % of a core, \
             {:.2} checkpoints a second each",
            channels.len(),
            opened.as_secs_f64(),
            (idle.1.saturating_sub(before.1)) as f64 / 1024.0 / watches as f64,
            100.0 * (now.0 - idle.0) / seconds,
            all as f64 / watches as f64 / seconds,
        );
    }
    readers.shutdown().await;
}

#[test]
fn many_may_watch_where_nothing_happens() {
    let watches = std::env::var("OKTA_IDMAP_TEST_WATCHES").ok().map_or(300, |watches| watches.parse().unwrap());
    let (_org, mut place) = world();
    place.run(&["sync", "-q"]).assert(0, "complete", "");
    let status = place.run(&["status", "--direct", "-o", "json"]).json();
    let meta = &status["orgs"][0]["meta"];
    let position = v1::ChangePosition {
        revision: meta["revision"].as_u64().unwrap(),
        store_id: meta["store_id"].as_str().unwrap().to_owned(),
        ..Default::default()
    };
    let start = v1::ChangeStart { start: Some(v1::change_start::Start::After(position)) };
    place.set("OKTA_IDMAP_SERVER__MAX_WATCHES", &watches.to_string());
    let mut running = place.start(&["serve", "-q", "--log-level", "error"]);
    let mut line = String::new();
    BufReader::new(running.child().stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(watch_all(&mut running, &url, start, watches));
    // The connections live in it.
    drop(runtime);
    // The places of those who have left are free again, and a look-up is answered as ever.
    place.run(&["status", "--server", &url]).assert(0, "acme", "");
    running.terminate();
    assert_eq!(running.wait().code, Some(0));
}

//! `watch`, `release`, `gaps` and the status of following, at a server that the test runs on a store of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ChildStdout;
use std::sync::Arc;

use okta_idmap::core::batch::Batch;
use okta_idmap::core::ids::Timestamp;
use okta_idmap::core::policy::{GrantPolicy, GrantPolicySettings};
use okta_idmap::engine::clock;
use okta_idmap::serve::{
    Command, Control, FollowState, FollowStatus, OrgView, Orgs, ReadOutcome, ReleaseRefusal, Released, RuntimeStatus,
    SearchHandle, ServerSettings, Services, StatusSource, serve,
};
use okta_idmap::store::{ReleaseError, Store};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::harness::{Place, Running};
use super::store::{batch, fill, fill_many, hold_users, open, some_user};

/// A server in this process, with an engine that carries out what operators order.
pub(crate) struct Hosted {
    address: SocketAddr,
    store: Arc<Store>,
    status: watch::Sender<RuntimeStatus>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
    /// Last: everything above lives in it.
    runtime: tokio::runtime::Runtime,
}

impl Hosted {
    pub(crate) fn start(place: &Path) -> Self {
        Self::start_with(place, SearchHandle::default())
    }

    /// The same with a search index.
    pub(crate) fn start_with(place: &Path, search: SearchHandle) -> Self {
        Self::start_at(place, search, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn start_at(place: &Path, search: SearchHandle, address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = Arc::new(open(place));
        let (status, status_receiver) = watch::channel(RuntimeStatus::default());
        let (control, commands) = Control::channel();
        let policy = Arc::new(GrantPolicy::new(&GrantPolicySettings::default()).unwrap());
        let source = StatusSource::Engine(status_receiver);
        let view = OrgView::new("acme", store.reader.clone(), search, policy, source).unwrap();
        let services = Services::new(Orgs::new([view.with_control(control)]), clock::now);
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let stop = shutdown.clone();
        let serving = async move { serve(listener, services, ServerSettings::default(), stop).await.unwrap() };
        tasks.spawn_on(serving, runtime.handle());
        tasks.spawn_on(engine(Arc::clone(&store), commands), runtime.handle());
        Self { address, store, status, shutdown, tasks, runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn commit(&self, batch: Batch) {
        let writer = &self.store.writer;
        self.runtime.block_on(async { writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap() });
    }

    /// Users 1, 2, 3, ...: each a revision.
    fn put_user(&self, number: u32) {
        self.commit(batch(100 + u64::from(number), vec![some_user(number as usize)]));
    }

    pub(crate) fn stop(mut self) {
        self.shutdown.cancel();
        self.runtime.block_on(async { while self.tasks.join_next().await.is_some() {} });
    }
}

async fn engine(store: Arc<Store>, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Read { reply, .. } => reply.send(ReadOutcome::Started),
            Command::SetOverride { setting, reply } => {
                reply.send(store.writer.set_override(*setting, clock::now()).await);
            }
            Command::DeleteOverride { name, reply } => {
                reply.send(store.writer.delete_override(name, clock::now()).await);
            }
            Command::ReleaseHold { scope, expected_missing, reply } => {
                let released = store.writer.release_hold(scope, expected_missing, clock::now()).await;
                let answer = match released {
                    Ok(finished) => Ok(Released { removed: finished.removed }),
                    Err(ReleaseError::NotHeld) => Err(ReleaseRefusal::NotHeld),
                    Err(ReleaseError::Changed { missing }) => Err(ReleaseRefusal::Changed { missing }),
                    Err(ReleaseError::Store(error)) => Err(ReleaseRefusal::Failed { detail: error.to_string() }),
                };
                reply.send(answer);
            }
        }
    }
}

fn filled() -> Place {
    let place = Place::with_org();
    fill(place.path());
    place
}

/// Lines of a `watch` that goes on.
struct Watching {
    running: Running,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    fn start(place: &Place, line: &[&str]) -> Self {
        let mut running = place.start(line);
        let lines = BufReader::new(running.child().stdout.take().unwrap());
        Self { running, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "watch ended");
        line
    }

    /// Events up to the next checkpoint, which is the last.
    fn events(&mut self) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        while events.last().is_none_or(|event| event["checkpoint"].is_null()) {
            events.push(serde_json::from_str(&self.line()).unwrap());
        }
        events
    }

    fn stop(mut self) {
        self.running.interrupt();
        self.running.wait().assert(0, "", "stopping");
    }
}

#[test]
fn watching_goes_on_where_it_was() {
    let place = filled();
    let hosted = Hosted::start(place.path());
    let (url, address) = (hosted.url(), hosted.address);
    let mut watching = Watching::start(&place, &["watch", "--from-snapshot", "-o", "jsonl", "--server", &url]);
    let events = watching.events();
    assert_eq!(events[0]["snapshot_begin"]["row_counts"].as_array().unwrap().len(), 7);
    let users = events.iter().filter(|event| !event["upsert"]["user"].is_null()).count();
    assert_eq!(users, 4);
    let meta = events.last().unwrap()["checkpoint"]["meta"].clone();
    let (revision, store_id) = (meta["revision"].as_u64().unwrap(), meta["store_id"].as_str().unwrap().to_owned());

    hosted.put_user(1);
    let events = watching.events();
    assert_eq!(events[0]["upsert"]["user"]["login"], "some1");
    assert_eq!(events[1]["checkpoint"]["meta"]["revision"], revision + 1);
    hosted.stop();
    // Nothing is missed while nobody is there to be asked.
    let hosted = Hosted::start_at(place.path(), SearchHandle::default(), address);
    hosted.put_user(2);
    let mut events = watching.events();
    while !events.iter().any(|event| event["upsert"]["user"]["login"] == "some2") {
        events = watching.events();
    }
    assert!(events.iter().all(|event| event["snapshot_begin"].is_null()), "{events:?}");
    watching.stop();

    // From a position, as a script has kept it; only some kinds.
    let after = revision.to_string();
    let line = ["watch", "--after", &after, "--store-id", &store_id, "-o", "jsonl", "--server", &url];
    let mut watching = Watching::start(&place, &line);
    let logins: Vec<Value> = watching.events().iter().map(|event| event["upsert"]["user"]["login"].clone()).collect();
    assert_eq!(logins[..2], ["some1", "some2"]);
    watching.stop();
    let line = ["watch", "--after", &after, "--kinds", "group,app-user", "-o", "jsonl", "--server", &url];
    let mut watching = Watching::start(&place, &line);
    assert_eq!(watching.events().len(), 1, "only the checkpoint");
    watching.stop();
    hosted.stop();
}

#[test]
fn people_get_lines() {
    let place = filled();
    let hosted = Hosted::start(place.path());
    let mut watching = Watching::start(&place, &["watch", "--from-snapshot", "--server", &hosted.url()]);
    let first = watching.line();
    assert!(first.ends_with("snapshot    about 16 rows\n"), "{first}");
    let mut lines = vec![first];
    while !lines.last().unwrap().contains("complete") {
        lines.push(watching.line());
    }
    let text = lines.concat();
    assert!(text.contains("put         user 00u1 ada@acme.example ACTIVE\n"), "{text}");
    assert!(text.contains("app 0oa2 Wiki \\u{1b}[31mred\\u{202e} ACTIVE"), "{text}");
    let partial = watching.line();
    let gaps = "partial     FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2), NOT_READ:log\n";
    assert!(partial.ends_with(gaps), "{partial}");
    hosted.put_user(7);
    assert!(watching.line().ends_with("put         user 00usome7 some7 ACTIVE\n"));
    watching.stop();
    hosted.stop();
}

#[test]
fn a_position_that_is_too_old_is_told() {
    let place = filled();
    let hosted = Hosted::start(place.path());
    let url = hosted.url();
    let other = ["watch", "--after", "1", "--store-id", "other", "-o", "jsonl", "--server", &url];
    let ran = place.run(&other);
    ran.assert(1, "too_old", "the server's store is another one by now; begin again with --from-snapshot");
    let mut again = other.to_vec();
    again.push("--from-snapshot");
    let mut watching = Watching::start(&place, &again);
    let events = watching.events();
    assert_eq!(events[0]["too_old"]["reason"], "STORE_REPLACED");
    assert!(!events[1]["snapshot_begin"].is_null(), "{events:?}");
    watching.stop();
    let ahead = ["watch", "--after", "99999", "-o", "jsonl", "--server", &url];
    place.run(&ahead).assert(1, "", "the store is behind the revision to go on from");
    place.run(&["watch", "--org", "other", "--server", &url]).assert(2, "", "org");
    hosted.stop();
    place.run(&["watch", "--server", &url]).assert(1, "", "no okta-idmap server answers");
}

#[test]
fn holds_are_released_at_a_server() {
    let place = Place::with_org();
    fill_many(place.path(), 100);
    let hosted = Hosted::start(place.path());
    let url = hosted.url();
    let at = |line: &[&str]| place.run(&[line, &["--server", &url]].concat());
    at(&["release", "users"]).assert(4, "", "users is not held");
    hosted.runtime.block_on(hold_users(&hosted.store, 50));
    at(&["gaps"]).assert(0, "HELD:users", "PARTIAL");
    at(&["status"]).assert(0, "held scopes         1\n", "");
    // Nobody to ask: nothing happens but the advice.
    let asked = at(&["release", "HELD:users"]);
    asked.assert(2, "", "did not show 100 of 104 rows");
    assert!(asked.err.contains("nobody can be asked here: add --yes to remove these 100 rows"), "{asked:?}");
    at(&["gaps"]).assert(0, "HELD:users", "");
    // The users, and an account of each.
    let released = at(&["release", "HELD:users", "--yes", "-o", "json"]);
    released.assert(0, "", "did not show 100 of 104 rows");
    let json = released.json();
    assert_eq!((&json["removed_row_count"], &json["gap"]["state"]), (&200.into(), &"CLOSED".into()));
    at(&["release", "HELD:users", "--yes"]).assert(4, "", "is not held");
    let gaps = at(&["gaps", "-o", "csv"]);
    assert!(!gaps.out.contains("HELD"), "{gaps:?}");
    at(&["gaps", "--all", "-o", "csv"]).assert(0, "HELD:users,HELD,CLOSED,users,", "");
    hosted.stop();
}

#[test]
fn holds_are_released_without_a_server() {
    let place = Place::with_org();
    fill_many(place.path(), 100);
    {
        let store = open(place.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(hold_users(&store, 50));
        // Somebody else writes it.
        place.run(&["release", "users", "--yes", "--direct"]).assert(1, "", "in use by another okta-idmap process");
    }
    place.run(&["release", "users", "--direct"]).assert(2, "", "add --yes to remove these 100 rows");
    place.run(&["release", "users", "--yes", "--direct"]).assert(0, "removed rows  200\n", "");
    place.run(&["release", "users", "--yes", "--direct"]).assert(4, "", "is not held");
    let rows = place.run(&["status", "--direct", "-o", "csv"]);
    rows.assert(0, ",4,", "");
}

#[test]
fn the_status_tells_of_following_and_of_the_credential() {
    let place = filled();
    let hosted = Hosted::start(place.path());
    let url = hosted.url();
    let now = clock::now();
    let tell = |used_at: Timestamp| {
        hosted.status.send_replace(RuntimeStatus {
            log_polled_at: Some(now),
            poll_interval_millis: 15_000,
            credential_used_at: Some(used_at),
            follow: FollowStatus { state: FollowState::Following, pending_reads: 7, ..FollowStatus::default() },
            ..RuntimeStatus::default()
        });
        place.run(&["status", "--server", &url])
    };
    let ran = tell(now);
    ran.assert(0, "pending reads         7\n", "");
    assert!(ran.out.contains("log poll interval     15.000s\n") && !ran.err.contains("revokes"), "{ran:?}");
    let idle = tell(now.plus_millis(-25 * 24 * 60 * 60 * 1_000 + 60_000));
    assert!(idle.err.contains("acme: Okta revokes the credential in 5 days unless it is used"), "{idle:?}");
    let lapsed = tell(now.plus_millis(-31 * 24 * 60 * 60 * 1_000));
    assert!(lapsed.err.contains("Okta has probably revoked the credential"), "{lapsed:?}");
    let json = place.run(&["status", "--server", &url, "-o", "json"]).json();
    assert_eq!(json["orgs"][0]["status"]["log"]["pending_read_count"], 7);
    hosted.stop();
}

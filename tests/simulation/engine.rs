//! `serve` of one org in this process. Entry point: [`Engine::start`].

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use okta_idmap::core::pending::Patience;
use okta_idmap::engine::progress::Progress;
use okta_idmap::engine::register::RegisterSettings;
use okta_idmap::engine::{EngineError, FollowSettings, OrgSettings, serve};
use okta_idmap::serve::ServerSettings;
use okta_idmap::store::StoreError;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a store may stay locked by an engine that was cut off: its threads finish what they are at.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);

/// An orderly end without any client comes within this time.
const STOP_WAIT_MAX: Duration = Duration::from_secs(60);

/// Times so short that a change is followed within a fraction of a second.
///
/// `nets`: interval of every safety net, `None` for never; `crawl`: time between two full crawls.
pub(crate) fn hurry(settings: &mut OrgSettings, nets: Option<Duration>, crawl: Duration) {
    settings.follow = FollowSettings {
        enabled: true,
        poll_interval: Duration::from_millis(50),
        patience: Patience { debounce_millis: 5, quiet_millis: 60, quiet_millis_max: 300, later_millis: 200 },
        users_delta_interval: nets,
        groups_delta_interval: nets,
        apps_interval: nets,
        relist_interval: nets,
        // The crawl that they bring forward would show what following does not.
        unknown_events_max: u64::MAX,
    };
    settings.hold_retry = (Duration::from_millis(100), Duration::from_millis(500));
    settings.crawl_interval = crawl;
    settings.index_interval = Duration::from_millis(20);
    // A register of names from the beginning, and anew all the time: whatever it answers is compared with the store.
    settings.register = RegisterSettings {
        accounts_min: Some(0),
        look_interval: Duration::from_millis(30),
        wait: Duration::from_millis(100),
        touched_max: 0.0,
        age_max: Duration::from_secs(3_600),
    };
    // The least that the index takes: many runs at the same time share the memory.
    settings.index_heap_bytes = okta_idmap_index::HEAP_BYTES_MIN;
}

/// A running engine.
pub(crate) struct Engine {
    /// Where it answers.
    address: SocketAddr,
    task: JoinHandle<Result<(), EngineError>>,
    stop: CancellationToken,
}

impl Engine {
    /// Starts it and returns once its store is open. Waits for one that was cut off to let go of the store.
    pub(crate) async fn start(settings: &OrgSettings) -> Self {
        let until = Instant::now() + LOCK_WAIT_MAX;
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (opened, is_open) = oneshot::channel();
            let stop = CancellationToken::new();
            let (progress, _) = watch::channel(Progress::default());
            let task = tokio::spawn(serve::run(
                vec![(settings.clone(), progress)],
                listener,
                ServerSettings::default(),
                // The receiver waits for as long as this future lives.
                move || opened.send(()).unwrap_or_default(),
                stop.clone(),
            ));
            if is_open.await.is_ok() {
                return Self { address, task, stop };
            }
            match task.await.unwrap() {
                Err(EngineError::Store(StoreError::Locked { .. })) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                ended => panic!("the engine does not start: {ended:?}"),
            }
        }
    }

    /// Where its gRPC server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it has ended by itself, which it must not.
    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(STOP_WAIT_MAX, self.task).await;
        ended.expect("it ends in time").unwrap().unwrap();
    }

    /// Ends it wherever it is: its tasks are dropped at the point they have reached.
    pub(crate) async fn cut_off(self) {
        self.task.abort();
        // Without this its threads would never know.
        self.stop.cancel();
        let _ = self.task.await;
    }
}

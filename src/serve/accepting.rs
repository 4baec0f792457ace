//! Taking connections from a system that may have none to give, and handling so many of them at a time. Entry points:
//! [`Accepting`], [`Crowd`].
//!
//! Invariants:
//! - An error is no end: descriptors and memory come back, and whoever is connected is served meanwhile.
//! - Errors cost neither the processor nor the log: a wait that grows to [`PAUSE_MILLIS_MAX`], a line every
//!   [`LOG_MILLIS`].
//! - Of too many in a crowd the oldest ends and not the newest waits: who means it is soon done, so only who says nothing is ever
//!   the oldest.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// First wait after an error, in milliseconds; it doubles.
const PAUSE_MILLIS_MIN: u64 = 100;

/// Longest wait, in milliseconds: clients notice a second, and not that somebody asks once a second.
const PAUSE_MILLIS_MAX: u64 = 1_000;

/// How often errors that go on are told in the log, in milliseconds.
const LOG_MILLIS: u64 = 10_000;

/// Where connections come from.
pub(super) trait Listener: Send + 'static {
    /// The next one.
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Listener for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        Self::accept(self)
    }
}

/// A listener with what is known of its errors.
pub(super) struct Accepting<L> {
    listener: L,
    what: &'static str,
    /// Nothing is asked for before.
    pause: Option<(Duration, Instant)>,
    told_at: Option<Instant>,
    untold: u64,
}

impl<L: Listener> Accepting<L> {
    /// `what` connects, for the log.
    pub(super) fn new(listener: L, what: &'static str) -> Self {
        Self { listener, what, pause: None, told_at: None, untold: 0 }
    }

    /// The next connection; `None`: the system gave none, and is asked again at the next call, after a wait. May be dropped at
    /// any time; the wait is not begun anew.
    pub(super) async fn next(&mut self) -> Option<(TcpStream, SocketAddr)> {
        if let Some((_, until)) = self.pause {
            tokio::time::sleep_until(until).await;
        }
        match self.listener.accept().await {
            Ok(accepted) => {
                if self.pause.take().is_some() {
                    (self.told_at, self.untold) = (None, 0);
                    tracing::info!(what = self.what, "the system gives connections again");
                }
                Some(accepted)
            }
            // Of that one connection, which has gone already.
            Err(error) if is_of_one(&error) => None,
            Err(error) => {
                let (min, max) = (Duration::from_millis(PAUSE_MILLIS_MIN), Duration::from_millis(PAUSE_MILLIS_MAX));
                let pause = self.pause.map_or(min, |(pause, _)| (2 * pause).min(max));
                self.pause = Some((pause, Instant::now() + pause));
                self.tell(&error);
                None
            }
        }
    }

    fn tell(&mut self, error: &io::Error) {
        let is_time = self.told_at.is_none_or(|at| at.elapsed() >= Duration::from_millis(LOG_MILLIS));
        if !is_time {
            self.untold += 1;
            return;
        }
        let further = std::mem::take(&mut self.untold);
        self.told_at = Some(Instant::now());
        tracing::error!(
            what = self.what,
            %error,
            further,
            "the system gives no connection, and is asked again; who is connected is served (open files: `ulimit -n`)"
        );
    }
}

fn is_of_one(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Short tasks, one for each connection, at most so many.
pub(super) struct Crowd {
    tasks: JoinSet<()>,
    /// The oldest first.
    handles: VecDeque<AbortHandle>,
    max: usize,
    what: &'static str,
}

impl Crowd {
    /// `what` one of them is, for the log.
    pub(super) fn new(max: usize, what: &'static str) -> Self {
        Self { tasks: JoinSet::new(), handles: VecDeque::new(), max, what }
    }

    /// Begins another one; answers whether the oldest had to end.
    pub(super) fn begin(&mut self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        while let Some(ended) = self.tasks.try_join_next() {
            self.note(ended);
        }
        while self.handles.front().is_some_and(AbortHandle::is_finished) {
            self.handles.pop_front();
        }
        let mut has_ended_one = false;
        if self.tasks.len() >= self.max {
            self.handles.retain(|handle| !handle.is_finished());
            if self.handles.len() >= self.max
                && let Some(oldest) = self.handles.pop_front()
            {
                oldest.abort();
                has_ended_one = true;
            }
        }
        self.handles.push_back(self.tasks.spawn(task));
        has_ended_one
    }

    /// Waits for an end; for ever where there is none to come.
    pub(super) async fn one_ends(&mut self) {
        match self.tasks.join_next().await {
            Some(ended) => self.note(ended),
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of all.
    pub(super) async fn all_end(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            self.note(ended);
        }
    }

    fn note(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(%error, "{} failed", self.what);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Too many open files.
    const EMFILE: i32 = 24;

    /// A connection that its client has given up.
    #[cfg(target_os = "linux")]
    const ECONNABORTED: i32 = 103;

    /// A listener that fails so often before it gives what the real one has.
    pub(in crate::serve) struct Failing {
        listener: TcpListener,
        left: AtomicUsize,
        kind: i32,
    }

    impl Failing {
        pub(in crate::serve) fn new(listener: TcpListener, times: usize) -> Self {
            Self { listener, left: AtomicUsize::new(times), kind: EMFILE }
        }
    }

    impl Listener for Failing {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            let left = self.left.load(Ordering::Relaxed);
            if left == 0 {
                return self.listener.accept().await;
            }
            self.left.store(left - 1, Ordering::Relaxed);
            Err(io::Error::from_raw_os_error(self.kind))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_make_it_wait_longer_and_do_not_end_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).await.unwrap();
        let mut accepting = Accepting::new(Failing::new(listener, 1_000), "test");
        let (begun, mut failures) = (Instant::now(), 0);
        while accepting.next().await.is_none() {
            failures += 1;
            // Whoever waits for something else as well asks again and again.
            let other = tokio::time::timeout(Duration::from_millis(70), accepting.next()).await;
            failures += usize::from(matches!(other, Ok(None)));
            if matches!(other, Ok(Some(_))) {
                break;
            }
        }
        assert_eq!(failures, 1_000);
        // 100, 200, 400, 800 and then 1,000 milliseconds each.
        let waited = Duration::from_millis(1_500 + 996 * 1_000);
        assert!((waited..waited + Duration::from_secs(1)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_gone_already_makes_nobody_wait() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let failing = Failing { kind: ECONNABORTED, ..Failing::new(listener, 1) };
        let mut accepting = Accepting::new(failing, "test");
        let begun = Instant::now();
        assert!(accepting.next().await.is_none());
        assert!(accepting.next().await.is_some());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}

//! Stopping on request: Ctrl-C and SIGTERM. Entry point: [`until_done`].

use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};
use super::output::warn;

/// Runs the work to its end. The first signal cancels `shutdown`, which the work minds; the second ends the process at
/// once: what was acknowledged by the store is safe at any moment.
pub(super) async fn until_done<T>(
    work: impl Future<Output = Result<T, Failure>>,
    shutdown: &CancellationToken,
) -> Result<T, Failure> {
    let mut signals = Signals::new()?;
    tokio::select! {
        done = work => done,
        never = stop_on(&mut signals, shutdown) => never,
    }
}

/// Never returns: the second signal ends the process.
#[expect(
    clippy::disallowed_methods,
    reason = "the second signal asks for exactly this; the store is whole at any moment"
)]
async fn stop_on<T>(signals: &mut Signals, shutdown: &CancellationToken) -> Result<T, Failure> {
    signals.next().await;
    warn("stopping; once more to stop at once");
    shutdown.cancel();
    signals.next().await;
    std::process::exit(i32::from(Exit::Failed.number()))
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> anyhow::Result<Self> {
        use anyhow::Context as _;
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).context("listen to signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

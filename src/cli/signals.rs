//! Stopping on request: Ctrl-C and SIGTERM. Entry points: [`until_done`], [`or_dropped`].

use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::output::warn;

/// Runs the work to its end. The first signal cancels `shutdown`, which the work minds; the second drops the work as it
/// is: what was acknowledged by the store is safe at any moment.
pub(super) async fn until_done<T>(
    work: impl Future<Output = Result<T, Failure>>,
    shutdown: &CancellationToken,
) -> Result<T, Failure> {
    let mut signals = Signals::new()?;
    tokio::select! {
        done = work => done,
        () = stop_on(&mut signals, shutdown) => {
            Err(anyhow::anyhow!("stopped at once; what was stored is kept, and the next crawl goes on from there").into())
        }
    }
}

/// Runs the work until it is done or a signal comes, which drops it as it is; answers whether it is done. Also a terminal that
/// goes away is such a signal.
pub(super) async fn or_dropped<T>(work: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
    let mut signals = Signals::new()?;
    let mut hangup = hangup()?;
    tokio::select! {
        done = work => Ok(Some(done)),
        () = signals.next() => Ok(None),
        () = &mut hangup => Ok(None),
    }
}

#[cfg(unix)]
fn hangup() -> anyhow::Result<std::pin::Pin<Box<dyn Future<Output = ()>>>> {
    use anyhow::Context as _;
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup()).context("listen to signals")?;
    Ok(Box::pin(async move {
        hangup.recv().await;
    }))
}

#[cfg(not(unix))]
fn hangup() -> anyhow::Result<std::pin::Pin<Box<dyn Future<Output = ()>>>> {
    Ok(Box::pin(std::future::pending()))
}

/// Ends with the second signal.
async fn stop_on(signals: &mut Signals, shutdown: &CancellationToken) {
    signals.next().await;
    warn("stopping; once more to stop at once");
    shutdown.cancel();
    signals.next().await;
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

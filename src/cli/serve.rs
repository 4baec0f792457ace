//! `okta-idmap serve`: crawls, follows the System Log, and answers over gRPC. Entry point: [`run`].

use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::progress::{self, Manner};
use super::run::{self, Progress};
use super::signals::until_done;
use crate::config::ServerConfig;
use crate::serve::SettingsError;

/// Binds, says where, and serves until a signal. The address comes as soon as the stores are open: before anything is read
/// from Okta.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let orgs = context.orgs()?;
    let server = &context.config.server;
    let settings = run::ServerSettings::from_config(server).map_err(|error| match error {
        // All that is wrong with it, each with its place, as for the configuration itself.
        SettingsError::Access(errors) => Failure::Config(errors),
        error @ SettingsError::Tls(_) => Failure::Failed(error.into()),
    })?;
    warn_of_what_is_open(server);
    let listener = bind(context.config.server.listen, "--listen or server.listen").await?;
    let http = match context.config.server.http_listen {
        Some(address) => Some(bind(address, "server.http_listen").await?),
        None => None,
    };
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let address = listener.local_addr().context("read the address that was bound")?;
    let names: Vec<String> = orgs.iter().map(|org| org.name.to_string()).collect();
    let shutdown = CancellationToken::new();
    let (senders, receivers): (Vec<_>, Vec<_>) = names.iter().map(|_| watch::channel(Progress::default())).unzip();
    // A server's terminal is its log: lines, no bars.
    let manner = if context.output.quiet { Manner::Nothing } else { Manner::Lines };
    let shown = join_all(names.iter().zip(receivers).map(|(name, receiver)| progress::show(name, manner, receiver)));
    let ready = || {
        // Nobody to read the address is no reason not to serve.
        let _ = context.output.text(&format!("listening on {scheme}://{address}\n"));
        tracing::info!(%address, orgs = %names.join(","), "serving");
    };
    let listeners = run::Listeners { grpc: listener, http };
    let served = Box::pin(run::serve(&context.config, orgs, listeners, settings, senders, ready, &shutdown));
    let both = async {
        let (served, _) = tokio::join!(served, shown);
        served
    };
    until_done(both, &shutdown).await?;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// What only the explicit wish of the operator allows is told at each start.
fn warn_of_what_is_open(server: &ServerConfig) {
    if server.listen.ip().is_loopback() {
        return;
    }
    if server.access.is_open() {
        tracing::warn!(listen = %server.listen, "whoever reaches the server may ask and start anything: no client is named");
    }
    if server.tls.is_none() {
        tracing::warn!(listen = %server.listen, "answers and tokens travel in the clear: there is no TLS");
    }
}

/// Binds the address, or says who may have it.
async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "the port is taken, perhaps by another `okta-idmap serve`: stop that, or choose another with"
            }
            io::ErrorKind::PermissionDenied => "the system does not allow this port: choose one above 1023 with",
            io::ErrorKind::AddrNotAvailable => "this machine does not have this address: check",
            _ => "check",
        };
        anyhow::Error::new(error).context(format!("listen on {address}: {advice} {key}"))
    })
}

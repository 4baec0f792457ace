//! Where the command line meets the engine and the services; nothing else in `cli` knows how they are put together.
//!
//! Entry points: [`sync`], [`probe`], [`serve`], [`services`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backend::Services;
use super::failure::Failure;
use crate::config::{Config, OrgConfig};
use crate::engine::probe::ProbeReport;
pub(super) use crate::engine::progress::Progress;
use crate::engine::sync::SyncReport;
use crate::engine::{self, EngineError, OrgSettings};

/// One crawl of one org, or the rest of one.
pub(super) async fn sync(
    config: &Config,
    org: &OrgConfig,
    progress: watch::Sender<Progress>,
    shutdown: &CancellationToken,
) -> Result<SyncReport, EngineError> {
    let settings = OrgSettings::from_config(config, org)?;
    engine::sync::run(settings, &progress, shutdown).await
}

/// Finds out what the credential of an org can read. Opens no store.
pub(super) async fn probe(config: &Config, org: &OrgConfig) -> anyhow::Result<ProbeReport> {
    let settings = OrgSettings::from_config(config, org)?;
    // Numbers that order rows of a store; nothing is stored here.
    let client = engine::org::client(&settings, Arc::new(AtomicU64::new(0)))
        .with_context(|| format!("set up the client of org {}", org.name))?;
    Ok(engine::probe::run(&client, engine::clock::now).await)
}

/// Crawls and serves until the shutdown. `progress` has one sender per org, in the same order.
pub(super) async fn serve(
    config: &Config,
    orgs: Vec<&OrgConfig>,
    listener: TcpListener,
    progress: Vec<watch::Sender<Progress>>,
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    // The seam: the service objects and the loop of crawls are plugged in here.
    drop((config, orgs, listener, progress, shutdown));
    Err(anyhow!("serving is not part of this build").into())
}

/// The services of this process over the data directory, read-only.
pub(super) fn services(config: &Config) -> Result<Services, Failure> {
    // The seam: as above.
    Err(anyhow!("reading {} directly is not part of this build; use --server", config.data_dir.display()).into())
}

//! Where the command line meets the engine and the services; nothing else in `cli` knows how they are put together.
//!
//! Entry points: [`sync`], [`probe`], [`serve`], [`services`], [`release`], [`reindex`], [`order`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use okta_idmap_proto::v1;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backend::Services;
use super::failure::Failure;
use super::output::warn;
use crate::config::{Config, Credential, OrgConfig};
use crate::core::ids::{AppId, Revision, Timestamp};
use crate::core::model::Scope;
use crate::engine::probe::{Credential as Probed, ProbeReport};
pub(super) use crate::engine::progress::Progress;
pub(super) use crate::engine::serve::Listeners;
use crate::engine::sync::SyncReport;
use crate::engine::{self, EngineError, OrgRuntime, OrgSettings};
use crate::serve::{self, Control, Orgs, SearchHandle, StatusSource};
pub(super) use crate::serve::{ChangesService, OrgView, ServerSettings};
use crate::store::{Reader, StoreError};

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
    let probed = match &org.credential {
        Credential::ApiToken(_) => Probed::ApiToken,
        Credential::ServiceApp(app) => Probed::ServiceApp {
            client_id: AppId::new(&app.client_id).with_context(|| format!("read the client id of org {}", org.name))?,
        },
    };
    Ok(engine::probe::run(&client, probed, engine::clock::now).await)
}

/// Crawls and serves until the shutdown. `progress` has one sender per org, in the same order.
pub(super) async fn serve(
    config: &Config,
    orgs: Vec<&OrgConfig>,
    listeners: Listeners,
    server: ServerSettings,
    progress: Vec<watch::Sender<Progress>>,
    ready: impl FnOnce(),
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    let settings = orgs.into_iter().map(|org| OrgSettings::from_config(config, org));
    let settings = settings.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::new)?;
    let orgs = settings.into_iter().zip(progress).collect();
    let served = engine::serve::run(orgs, listeners, server, ready, shutdown.clone()).await;
    served.map_err(|error| Failure::Failed(anyhow::Error::new(error)))
}

/// The services of this process over the stores of `orgs`, read-only. Of several orgs those without a store are told and
/// left out.
///
/// # Errors
/// No store at all, or one that cannot be used.
pub(super) fn services(config: &Config, orgs: &[&OrgConfig]) -> Result<Services, Failure> {
    let mut views = Vec::new();
    let mut missing = None;
    for org in orgs {
        match view(config, org) {
            Ok(view) => views.push(view),
            Err(error @ EngineError::Store(StoreError::Missing { .. })) => {
                let error = anyhow::Error::new(error).context(format!("look into org {}", org.name));
                if orgs.len() > 1 {
                    warn(&format!("{error:#}"));
                }
                missing = Some(error);
            }
            Err(error) => return Err(anyhow::Error::new(error).context(format!("look into org {}", org.name)).into()),
        }
    }
    match missing {
        Some(error) if views.is_empty() => Err(error.into()),
        _ => Ok(services_of(Orgs::new(views))),
    }
}

fn services_of(orgs: Orgs) -> Services {
    let services = serve::Services::new(orgs, engine::clock::now);
    Services {
        lookup: Arc::new(services.lookup()),
        search: Arc::new(services.search()),
        coverage: Arc::new(services.coverage()),
        changes: services.changes(),
        admin: Arc::new(services.admin()),
    }
}

/// Releases a hold in the data directory, which no other process may be writing; tells how many rows were removed.
///
/// # Errors
/// The store is in use or cannot be written; the hold is over, or about another number of rows.
pub(super) async fn release(
    config: &Config,
    org: &OrgConfig,
    scope: Scope,
    expected_missing: u64,
) -> Result<u64, Failure> {
    let settings = OrgSettings::from_config(config, org).map_err(anyhow::Error::new)?;
    let (_org, writer) = OrgRuntime::open(settings).map_err(anyhow::Error::new)?;
    let released = writer.release_hold(scope.clone(), expected_missing, engine::clock::now()).await;
    let finished = released.with_context(|| format!("release the hold of {scope}"))?;
    Ok(finished.removed)
}

/// Lets `order` ask services of this process that can change the overrides in the data directory, which no other process may
/// be writing. Nothing is read from Okta.
///
/// # Errors
/// The store is in use or cannot be written; those of `order`.
pub(super) async fn order<R>(
    config: &Config,
    org: &OrgConfig,
    order: impl AsyncFnOnce(Services) -> Result<R, Failure>,
) -> Result<R, Failure> {
    let settings = OrgSettings::from_config(config, org).map_err(anyhow::Error::new)?;
    let (runtime, writer) = OrgRuntime::open(settings).map_err(anyhow::Error::new)?;
    let (control, mut commands) = Control::channel();
    let view = OrgView::new(
        org.name.as_str(),
        runtime.reader().clone(),
        SearchHandle::new(None),
        Arc::clone(&runtime.settings().policy),
        StatusSource::Direct(engine::org::credential_kind(&org.credential)),
    );
    let view = view.map_err(anyhow::Error::new)?.with_control(control);
    let view = view.with_coverage_policy(engine::org::coverage_of(org));
    let ordered = order(services_of(Orgs::new(vec![view])));
    tokio::select! {
        ordered = Box::pin(ordered) => ordered,
        () = engine::orders::obey_overrides(&writer, &mut commands) => {
            Err(anyhow::anyhow!("the store's writer has ended").into())
        }
    }
}

/// Builds the search index in the data directory anew, which no other process may be writing.
///
/// # Errors
/// The store is in use or cannot be written; nothing was ever read completely; the index cannot be written.
pub(super) async fn reindex(config: &Config, org: &OrgConfig) -> Result<v1::IndexStatus, Failure> {
    let settings = OrgSettings::from_config(config, org).map_err(anyhow::Error::new)?;
    let built = tokio::task::spawn_blocking(move || engine::index::reindex(settings)).await;
    let built = built.context("build the search index")?.map_err(anyhow::Error::new)?;
    let Some(built) = built else {
        let error = anyhow::anyhow!(
            "org {} was never read completely: there is nothing to build an index from; run `okta-idmap sync` first",
            org.name
        );
        return Err(error.into());
    };
    Ok(v1::IndexStatus {
        state: v1::IndexState::Following.into(),
        revision: built.revision.0,
        revision_lag: 0,
        entry_count: built.entries,
        schema_version: okta_idmap_index::SCHEMA_VERSION,
        build_count: 1,
    })
}

/// The present time.
pub(super) fn now() -> Timestamp {
    engine::clock::now()
}

/// An org as it is on disk now.
///
/// # Errors
/// There is no store, or it cannot be used.
pub(super) fn view(config: &Config, org: &OrgConfig) -> Result<OrgView, EngineError> {
    let dir = engine::org::org_dir(&config.data_dir, org.name.as_str());
    let reader = Reader::open(&dir)?;
    let policy = Arc::new(engine::org::policy_of(org)?);
    let search = SearchHandle::new(searcher(&dir, &reader)?);
    let status = StatusSource::Direct(engine::org::credential_kind(&org.credential));
    let view = OrgView::new(org.name.as_str(), reader, search, policy, status)?;
    Ok(view.with_coverage_policy(engine::org::coverage_of(org)))
}

/// The index of what that very store was, if there is one that can be read; without, searches say so.
fn searcher(dir: &std::path::Path, store: &Reader) -> Result<Option<okta_idmap_index::Reader>, EngineError> {
    let opened = okta_idmap_index::open_read_only(&engine::org::index_dir(dir));
    let reader = match opened {
        Ok(reader) => reader,
        Err(error) => {
            tracing::debug!(%error, "no search index");
            return Ok(None);
        }
    };
    let Some(mark) = reader.mark() else { return Ok(None) };
    // After the index was opened, so that the store is not the older of the two unless it was put back.
    let is_of = store.read(|snapshot| {
        let is_past = snapshot.has_been_at(Revision(mark.revision), &mark.era);
        Ok(is_past && snapshot.meta()?.store_id == mark.store_id)
    })?;
    Ok(is_of.then_some(reader))
}

//! The server: one listener, all services, health and reflection, and an orderly end.
//!
//! Entry point: [`serve`].
//!
//! Connections come through `incoming` and go on in `connection`; calls pass the `gate` and find their service by `routes`.
//!
//! Invariants:
//! - Health says `NOT_SERVING` before the first call is turned away.
//! - The end comes at most [`DRAIN_MILLIS_MAX`] after it was asked for, whatever the clients do.
//! - Every task ends with [`serve`].

use std::sync::Arc;
use std::time::Duration;

use okta_idmap_proto::FILE_DESCRIPTOR_SET;
use okta_idmap_proto::limits::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
use okta_idmap_proto::v1::{
    admin_server::AdminServer, changes_server::ChangesServer, coverage_server::CoverageServer, lookup_server,
    search_server::SearchServer,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Services;
use super::access_file::FollowedAccess;
use super::changes::STREAMS_MAX;
use super::connection;
use super::encoded::EncodedLookup;
use super::gate::{ClientLimits, Gate, Strangers};
use super::incoming::{self, Door};
use super::orgs::OrgView;
use super::routes::RoutesBuilder;
use super::stats::ServerStats;
use super::tls::{Tls, TlsError};
use crate::config::{ConfigErrors, ServerConfig};
use crate::core::access::Access;

/// How long calls under way may go on after the shutdown, in milliseconds. The slowest answer takes well below a second;
/// the rest is for slow clients.
pub const DRAIN_MILLIS_MAX: u64 = 10_000;

/// How often an org is asked whether its first crawl is complete, in milliseconds: the end of a crawl that changed no row
/// makes no revision.
const READY_POLL_MILLIS: u64 = 500;

/// A health check names a service.
const HEALTH_REQUEST_BYTES_MAX: usize = 1024;

/// What one network may have open at a time while nobody of it is known, where clients are named: health checks.
const STRANGER_CALLS_MAX: usize = 8;

/// How the server behaves. Whether the address is allowed was decided when the configuration was read.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Whether the reflection service is offered.
    pub reflection: bool,
    /// Longest request that is accepted, in bytes.
    pub max_message_bytes: usize,
    /// Calls that one connection may have open at a time.
    pub max_concurrent_streams: u32,
    /// Connections at a time.
    pub max_connections: usize,
    /// Streams of `Changes.Watch` at a time, over all clients.
    pub max_watches: usize,
    /// What one client may take. Not asked of programs on this machine while nobody is named in `access`.
    pub client: ClientLimits,
    /// TLS, if it is on.
    pub tls: Option<Tls>,
    /// Who may call. Where a file names others, also those that it named at the start.
    pub access: Arc<Access>,
    /// The file that names others.
    pub access_file: Option<FollowedAccess>,
    /// Whether look-ups are logged with their callers.
    pub audit_lookups: bool,
    /// What is counted, for the metrics.
    pub stats: Arc<ServerStats>,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            reflection: true,
            max_message_bytes: REQUEST_BYTES_MAX,
            max_concurrent_streams: 200,
            max_connections: 800,
            max_watches: STREAMS_MAX,
            client: ClientLimits { calls: 200, watches: 16, calls_per_second: None, answer_bytes: 256 << 20 },
            tls: None,
            access: Arc::default(),
            access_file: None,
            audit_lookups: false,
            stats: Arc::default(),
        }
    }
}

impl ServerSettings {
    /// As configured; reads the files of TLS, and the one that names clients.
    ///
    /// # Errors
    /// [`SettingsError`]: these cannot be used.
    pub fn from_config(config: &ServerConfig) -> Result<Self, SettingsError> {
        let access_file = config.access_file.clone().map(FollowedAccess::load).transpose();
        let access_file = access_file.map_err(SettingsError::Access)?;
        Ok(Self {
            reflection: config.reflection,
            max_message_bytes: config.max_message_bytes,
            max_concurrent_streams: config.max_concurrent_streams,
            max_connections: config.max_connections,
            max_watches: config.max_watches,
            client: ClientLimits {
                calls: config.max_client_calls,
                watches: config.max_client_watches,
                calls_per_second: config.max_client_calls_per_second,
                answer_bytes: config.max_client_answer_bytes,
            },
            tls: config.tls.clone().map(Tls::load).transpose().map_err(SettingsError::Tls)?,
            access: access_file.as_ref().map_or_else(|| Arc::new(config.access.clone()), FollowedAccess::access),
            access_file,
            audit_lookups: config.audit_lookups,
            stats: Arc::default(),
        })
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The files of TLS cannot be used.
    #[error("set up TLS")]
    Tls(#[source] TlsError),
    /// The file that names clients cannot be used.
    #[error("read server.access_file")]
    Access(#[source] ConfigErrors),
}

/// Why the server ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The reflection service could not be made of the descriptors.
    #[error("build the reflection service")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// Whoever takes connections or looks after them has failed, which is a defect.
    #[error("take connections")]
    Helper(#[source] tokio::task::JoinError),
}

/// Serves until `shutdown`, then turns health to `NOT_SERVING`, lets calls under way end, and returns.
///
/// # Errors
/// [`ServeError`]; a shutdown is no error, not even one that had to cut connections.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    settings: ServerSettings,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status(lookup_server::SERVICE_NAME, ServingStatus::NotServing).await;
    let reflection_v1 = settings.reflection.then(|| reflection().build_v1()).transpose();
    let reflection_v1 = reflection_v1.map_err(ServeError::Reflection)?;
    // Many tools still ask for the older form, Python's among them.
    let reflection_v1alpha = settings.reflection.then(|| reflection().build_v1alpha()).transpose();
    let reflection_v1alpha = reflection_v1alpha.map_err(ServeError::Reflection)?;
    let services = services.with_watches_max(settings.max_watches);
    let ServerSettings { client, tls, access, access_file, stats, .. } = settings;
    let gate = Gate::new(Arc::clone(&access), client, settings.audit_lookups, Arc::clone(&stats), services.clock());
    // Ends with this function: who accepts, who looks at files, and who ends what goes on without a right to.
    let mut helpers = JoinSet::new();
    if let Some(tls) = tls.clone() {
        let (stats, connections) = (Arc::clone(&stats), Arc::clone(gate.connections()));
        helpers.spawn(async move { tls.follow_files(&stats, &connections).await });
    }
    if let Some(file) = access_file {
        let (stats, gate) = (Arc::clone(&stats), gate.clone());
        helpers.spawn(async move { file.follow(&gate, &stats).await });
    }
    if !access.is_open() {
        let gate = gate.clone();
        helpers.spawn(async move { gate.keep_sweeping().await });
    }
    // Whoever is not known may ask for the health only.
    let few = |most: usize| if access.is_open() { most } else { most.min(STRANGER_CALLS_MAX) };
    let strangers = ClientLimits { calls: few(client.calls), watches: few(client.watches), ..client };
    let health = health.max_decoding_message_size(HEALTH_REQUEST_BYTES_MAX);
    let door = Door {
        tls,
        strangers: Strangers::new(strangers, (settings.max_connections / 8).max(STRANGER_CALLS_MAX)),
        places: Arc::new(Semaphore::new(settings.max_connections)),
        needs_proof: !access.is_open(),
        gate: gate.clone(),
        stats,
    };
    let (taken, connections) = incoming::queue();
    helpers.spawn(incoming::accept(listener, door, taken, services.drain().clone()));
    let requests_max = settings.max_message_bytes;
    macro_rules! limited {
        ($server:expr) => {
            $server.max_decoding_message_size(requests_max).max_encoding_message_size(RESPONSE_BYTES_MAX)
        };
    }
    let lookup = EncodedLookup::new(services.lookup(), requests_max);
    let routes = RoutesBuilder::default()
        .answers(EncodedLookup::NAME, move |request| lookup.answer(request))
        .service(limited!(SearchServer::new(services.search())))
        .service(limited!(CoverageServer::new(services.coverage())))
        .service(limited!(ChangesServer::new(services.changes())))
        .service(limited!(AdminServer::new(services.admin())))
        .service(health)
        .optional(reflection_v1)
        .optional(reflection_v1alpha)
        .build();
    let drain = CancellationToken::new();
    let guarded = gate.guard(move |request| routes.answer(request));
    let serving = connection::serve(connections, guarded, settings.max_concurrent_streams, drain.clone());
    let mut serving = std::pin::pin!(serving);
    let orgs: Vec<OrgView> = services.orgs().iter().cloned().collect();
    let readiness = async {
        become_ready(&orgs, &reporter).await;
        std::future::pending::<()>().await;
    };
    // The first helper that ends before the shutdown: nobody would come in any more, or what was taken back be good.
    let helping = async { helpers.join_next().await.and_then(Result::err) };
    let failed = tokio::select! {
        () = &mut serving => return Ok(()),
        failed = helping => failed,
        () = readiness => None,
        () = shutdown.cancelled() => None,
    };
    drain_connections(serving, reporter, &drain, services.drain()).await;
    failed.map_or(Ok(()), |error| Err(ServeError::Helper(error)))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Health first, then no new calls, then an end to those that watch changes or the health for ever.
async fn drain_connections(
    serving: impl Future<Output = ()>,
    mut reporter: HealthReporter,
    connections: &CancellationToken,
    streams: &CancellationToken,
) {
    for service in ["", lookup_server::SERVICE_NAME] {
        reporter.set_service_status(service, ServingStatus::NotServing).await;
    }
    connections.cancel();
    streams.cancel();
    let ended = async {
        tokio::join!(serving, async {
            for service in ["", lookup_server::SERVICE_NAME] {
                // Ends the streams of the watchers, after they were told: they would hold their connections open.
                reporter.clear_service_status(service).await;
            }
        })
    };
    if tokio::time::timeout(Duration::from_millis(DRAIN_MILLIS_MAX), ended).await.is_err() {
        tracing::warn!(limit_millis = DRAIN_MILLIS_MAX, "connections were cut: calls were still under way");
    }
}

/// Reports `Lookup` as serving once every org has been crawled completely. That never becomes untrue.
async fn become_ready(orgs: &[OrgView], reporter: &HealthReporter) {
    for org in orgs {
        wait_until_crawled(org).await;
        tracing::info!(org = org.name(), "first crawl is complete");
    }
    reporter.set_service_status(lookup_server::SERVICE_NAME, ServingStatus::Serving).await;
}

async fn wait_until_crawled(org: &OrgView) {
    let mut revisions = org.reader().revisions();
    loop {
        match org.is_crawled() {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(org = org.name(), %error, "cannot tell whether the first crawl is complete"),
        }
        let pause = tokio::time::sleep(Duration::from_millis(READY_POLL_MILLIS));
        tokio::select! {
            () = pause => {}
            // A writer that has ended wakes nobody up any more; only the clock does.
            Ok(()) = revisions.changed() => {}
        }
    }
}

//! A served org and the connector's settings for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use okta_idmap::config::{Config, Flags, Sources, load};
use okta_idmap::core::ids::{Revision, Timestamp};
use okta_idmap::core::model::Scope;
use okta_idmap::core::private_key::PrivateKey;
use okta_idmap::core::secret::Secret;
use okta_idmap::engine::machine::CrawlOutcome;
use okta_idmap::engine::progress::Progress;
use okta_idmap::engine::sync::{self, SyncReport};
use okta_idmap::engine::{EngineError, OrgSettings};
use okta_idmap::store::{Meta, Reader};
use okta_sim::{Org, Rule, ServerConfig, ServiceApp, SimServer, Spec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::picture::{Picture, Want};

pub(crate) const TOKEN: &str = "00TsimulatedTokenOfTheTestOrg0000000000000";

/// The key of the service app, and the scopes that reading needs.
const KEY: &str = include_str!("../keys/p256-sec1.pem");
const SCOPES: &str = "okta.users.read okta.groups.read okta.apps.read okta.logs.read";

/// Changes in one revision that a test reads: more than any of the small orgs has rows.
const CHANGES_MAX: usize = 100_000;

/// A served org and a data directory for the connector.
pub(crate) struct World {
    pub(crate) server: SimServer,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) environment: Vec<(String, String)>,
}

impl World {
    pub(crate) fn new(spec: &Spec) -> Self {
        Self::of(Org::generate(spec))
    }

    pub(crate) fn of(org: Org) -> Self {
        Self::slow(org, 0)
    }

    /// An org whose every answer takes `latency_ms`.
    pub(crate) fn slow(org: Org, latency_ms: u64) -> Self {
        Self::served(org, ServerConfig { latency_ms, ..ServerConfig::default() })
    }

    /// An org that is served in another way, by a clock that moves for example.
    pub(crate) fn served(org: Org, config: ServerConfig) -> Self {
        let config = ServerConfig { token: Some(TOKEN.to_owned()), ..config };
        let server = SimServer::start(org, &config).unwrap();
        Self { server, dir: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    /// An org of `users` users that is read in pages so small that most lists have several.
    pub(crate) fn paged(users: usize, seed: u64) -> Self {
        let mut world = Self::new(&Spec { seed, ..Spec::of_users(users) });
        world.small_pages();
        world
    }

    pub(crate) fn small_pages(&mut self) {
        for (list, limit) in [
            ("USERS", 20),
            ("GROUPS", 5),
            ("GROUP_MEMBERS", 10),
            ("APPS", 5),
            ("APP_USERS", 20),
            // Okta takes no smaller ones.
            ("APP_GROUPS", 20),
        ] {
            self.set(&format!("CRAWL__{list}_PAGE_SIZE"), &limit.to_string());
        }
    }

    /// Sets a configuration key by its environment variable, `CRAWL__INTERVAL`.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let name = format!("OKTA_IDMAP_{key}");
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.to_owned()));
    }

    /// From now on the org is read as a service app with these scopes, and no other way is open.
    pub(crate) fn as_service_app(&mut self, rig: impl FnOnce(&mut ServiceApp)) {
        let key = PrivateKey::parse(&Secret::new(KEY.to_owned()), &ring::rand::SystemRandom::new()).unwrap();
        let mut app = ServiceApp::new("0oaConnector").with_key("kid1", &key.public_members()).with_scopes(SCOPES);
        rig(&mut app);
        self.server.sim().require_service_app(app);
        self.set("CLIENT_ID", "0oaConnector");
        self.set("KEY_ID", "kid1");
        self.set("PRIVATE_KEY", KEY);
    }

    /// Adds a fault.
    pub(crate) fn rule(&self, rule: Rule) {
        self.server.sim().rules.push(rule);
    }

    pub(crate) fn config(&self) -> Config {
        let mut environment = self.environment.clone();
        let mut default = |key: &str, value: String| {
            let name = format!("OKTA_IDMAP_{key}");
            if !environment.iter().any(|(known, _)| *known == name) {
                environment.push((name, value));
            }
        };
        default("DATA_DIR", self.dir.path().display().to_string());
        default("DOMAIN", self.server.base_url());
        if !self.environment.iter().any(|(name, _)| name == "OKTA_IDMAP_CLIENT_ID") {
            default("API_TOKEN", TOKEN.to_owned());
        }
        let sources = Sources { file: None, env: environment, flags: Flags::default() };
        let (config, _) = load(sources, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
        config
    }

    pub(crate) fn settings(&self) -> OrgSettings {
        let config = self.config();
        OrgSettings::from_config(&config, config.require_org(None).unwrap()).unwrap()
    }

    pub(crate) fn store_file(&self) -> PathBuf {
        self.settings().dir.join("store.sqlite")
    }

    pub(crate) async fn try_sync(&self) -> Result<SyncReport, EngineError> {
        try_sync(self.settings()).await
    }

    /// A crawl that comes to its end; gaps may be open.
    pub(crate) async fn sync(&self) -> SyncReport {
        let report = self.try_sync().await.unwrap();
        assert_eq!(report.outcome, CrawlOutcome::Finished);
        report
    }

    /// A crawl that leaves no gap and after which store, org and index are the same.
    #[track_caller]
    pub(crate) fn sync_whole(&self) -> impl Future<Output = SyncReport> + '_ {
        let caller = std::panic::Location::caller();
        async move {
            let report = self.sync().await;
            assert_eq!(gap_ids(&report), NO_GAPS, "at {caller}");
            self.compare(&Want::default(), &caller.to_string());
            report
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.settings().dir).unwrap()
    }

    pub(crate) fn meta(&self) -> Meta {
        self.reader().read(|snapshot| snapshot.meta()).unwrap()
    }

    /// When each collection was last read to its end.
    pub(crate) fn read_at(&self) -> BTreeMap<Scope, Timestamp> {
        let books = self.reader().read(|snapshot| snapshot.scope_books()).unwrap();
        books.into_iter().filter_map(|book| Some((book.scope, book.completed_at?))).collect()
    }

    pub(crate) fn picture(&self) -> Picture {
        Picture::of_store(&self.reader())
    }

    /// Asserts that the store equals the org and the index the store.
    #[track_caller]
    pub(crate) fn assert_equal(&self) {
        self.assert_equal_to(&Want::default());
    }

    /// Asserts that the store equals the wanted part of the org and the index the store.
    #[track_caller]
    pub(crate) fn assert_equal_to(&self, want: &Want) {
        self.compare(want, &std::panic::Location::caller().to_string());
    }

    fn compare(&self, want: &Want, label: &str) {
        let stored = self.picture();
        stored.assert_equals(&Picture::of_org(&self.server.sim(), want), label);
        assert_index(&self.settings(), &stored, label);
    }

    /// The request log, for one phase of a test by itself.
    pub(crate) fn forget_requests(&self) {
        self.server.sim().requests.clear();
    }

    pub(crate) fn requests(&self) -> usize {
        self.server.sim().requests.total()
    }

    /// Number of lines of the change log after `revision`.
    pub(crate) fn changes_after(&self, revision: Revision) -> usize {
        self.reader().read(|snapshot| snapshot.changes_after(revision, CHANGES_MAX)).unwrap().len()
    }
}

pub(crate) async fn try_sync(settings: OrgSettings) -> Result<SyncReport, EngineError> {
    let (progress, _) = watch::channel(Progress::default());
    sync::run(settings, &progress, &CancellationToken::new()).await
}

/// For comparisons: no gap is open.
pub(crate) const NO_GAPS: [&str; 0] = [];

/// The ids of the open gaps, sorted.
pub(crate) fn gap_ids(report: &SyncReport) -> Vec<String> {
    let ids: BTreeSet<String> = report.open_gaps.iter().map(|record| record.gap.id().to_string()).collect();
    ids.into_iter().collect()
}

/// Asserts that the index holds the documents of the stored rows and nothing else, and is as new as the store.
pub(crate) fn assert_index(settings: &OrgSettings, stored: &Picture, label: &str) {
    let index = okta_idmap_index::open_read_only(&settings.index_dir()).unwrap();
    let keys = index.all_keys().unwrap();
    let expected: Vec<String> = stored.index_keys().into_iter().collect();
    let different: Vec<&String> = keys
        .iter()
        .filter(|key| expected.binary_search(key).is_err())
        .chain(expected.iter().filter(|key| keys.binary_search(key).is_err()))
        .collect();
    assert!(different.is_empty(), "{label}: only in one of index and store: {different:?}");
    let twice: Vec<&[String]> = keys.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert_eq!(keys.len(), expected.len(), "{label}: keys are in the index twice: {twice:?}");
    let revision = Reader::open(&settings.dir).unwrap().read(|snapshot| Ok(snapshot.revision())).unwrap();
    assert_eq!(index.mark().map(|mark| mark.revision), Some(revision.0), "{label}: the index is behind the store");
}

//! An org, the connector's settings for it, and the comparison of store and org.

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::config::{Config, Flags, Sources, load};
use okta_idmap::core::ids::{AppId, GroupId};
use okta_idmap::engine::crawl::CrawlOutcome;
use okta_idmap::engine::progress::Progress;
use okta_idmap::engine::sync::{self, SyncReport};
use okta_idmap::engine::{EngineError, OrgSettings};
use okta_idmap::store::{PageOf, Reader, Snapshot, StoreError};
use okta_sim::{AppRef, GroupRef, Org, ServerConfig, Sim, SimServer, Spec};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const TOKEN: &str = "00TsimulatedTokenOfTheTestOrg0000000000000";

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
        let config = ServerConfig { token: Some(TOKEN.to_owned()), ..ServerConfig::default() };
        let server = SimServer::start(org, &config).unwrap();
        Self { server, dir: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    /// Sets a configuration key by its environment variable, `CRAWL__INTERVAL`.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.environment.push((format!("OKTA_IDMAP_{key}"), value.to_owned()));
    }

    pub(crate) fn config(&self) -> Config {
        let mut environment = self.environment.clone();
        environment.push(("OKTA_IDMAP_DATA_DIR".to_owned(), self.dir.path().display().to_string()));
        environment.push(("OKTA_IDMAP_DOMAIN".to_owned(), self.server.base_url()));
        if !environment.iter().any(|(name, _)| name.ends_with("_API_TOKEN")) {
            environment.push(("OKTA_IDMAP_API_TOKEN".to_owned(), TOKEN.to_owned()));
        }
        let sources = Sources { file: None, env: environment, flags: Flags::default() };
        let (config, _) = load(sources, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
        config
    }

    pub(crate) fn settings(&self) -> OrgSettings {
        let config = self.config();
        OrgSettings::from_config(&config, config.require_org(None).unwrap()).unwrap()
    }

    pub(crate) async fn try_sync(&self) -> Result<SyncReport, EngineError> {
        let (progress, _) = watch::channel(Progress::default());
        sync::run(self.settings(), &progress, &CancellationToken::new()).await
    }

    pub(crate) async fn sync(&self) -> SyncReport {
        let report = self.try_sync().await.unwrap();
        assert_eq!(report.outcome, CrawlOutcome::Finished);
        report
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader::open(&self.settings().dir).unwrap()
    }

    /// Asserts that the store equals the org.
    #[track_caller]
    pub(crate) fn assert_equal(&self) {
        let stored = Picture::of_store(&self.reader());
        let truth = Picture::of_org(&self.server.sim());
        stored.assert_equals(&truth);
    }
}

/// Everything that is compared, as text by key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) rows: BTreeMap<String, String>,
}

fn all<T>(mut page: impl FnMut(Option<i64>) -> Result<PageOf<T>, StoreError>) -> Vec<T> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let next = page(after).unwrap();
        rows.extend(next.rows);
        match next.next {
            Some(n) => after = Some(n),
            None => return rows,
        }
    }
}

const PAGE: usize = 997;

impl Picture {
    pub(crate) fn of_store(reader: &Reader) -> Self {
        reader.read(|snapshot| Ok(Self::of_snapshot(snapshot))).unwrap()
    }

    fn of_snapshot(snapshot: &Snapshot<'_>) -> Self {
        let mut rows = BTreeMap::new();
        for user in all(|after| snapshot.users(after, PAGE)) {
            let name =
                (user.login.as_deref(), user.email.as_deref(), user.first_name.as_deref(), user.last_name.as_deref());
            rows.insert(format!("user {}", user.id), format!("{} {name:?}", user.status.as_str()));
        }
        for group in all(|after| snapshot.groups(after, PAGE)) {
            let source = group.source_app.as_ref().map(AppId::as_str);
            rows.insert(
                format!("group {}", group.id),
                format!("{} {:?} {source:?}", group.group_type.as_str(), group.name),
            );
            for (user, _) in all(|after| snapshot.members(&group.id, after, PAGE)) {
                rows.insert(format!("member {} {user}", group.id), String::new());
            }
        }
        for app in all(|after| snapshot.apps(after, PAGE)) {
            rows.insert(
                format!("app {}", app.id),
                format!("{} {} {:?} {:?}", app.name, app.status.as_str(), app.label, app.shared_user_name),
            );
            for row in all(|after| snapshot.app_users(&app.id, after, PAGE)) {
                let names = (row.user_name.as_deref(), row.external_id.as_deref());
                let via = row.via_group.as_ref().map(GroupId::as_str);
                rows.insert(
                    format!("app_user {} {}", row.app, row.user),
                    format!("{names:?} {} {} {via:?}", row.status.as_str(), row.scope.as_str()),
                );
            }
            for row in all(|after| snapshot.app_groups(&app.id, after, PAGE)) {
                rows.insert(format!("app_group {} {}", row.app, row.group), format!("{:?}", row.priority));
            }
        }
        Self { rows }
    }

    pub(crate) fn of_org(sim: &Sim) -> Self {
        let org = &sim.org;
        let mut rows = BTreeMap::new();
        for user in org.truth_users() {
            let name = (Some(&*user.login), Some(&*user.email), user.first_name.as_deref(), user.last_name.as_deref());
            rows.insert(format!("user {}", user.id), format!("{} {name:?}", user.status.as_str()));
        }
        for group in org.truth_groups() {
            let reference = GroupRef::parse(&group.id).unwrap();
            let source = group.source_app.as_deref();
            rows.insert(format!("group {}", group.id), format!("{} {:?} {source:?}", group.kind.as_str(), group.name));
            for user in org.truth_members(reference) {
                rows.insert(format!("member {} {user}", group.id), String::new());
            }
        }
        for app in org.truth_apps() {
            let reference = AppRef::parse(&app.id).unwrap();
            if app.name == "saasure" || app.name.starts_with("okta_") {
                continue;
            }
            rows.insert(
                format!("app {}", app.id),
                format!("{} {} {:?} {:?}", app.name, app.status.as_str(), app.label, app.shared_user_name),
            );
            for row in org.truth_app_users(reference) {
                let names = (row.user_name.as_deref(), row.external_id.as_deref());
                rows.insert(
                    format!("app_user {} {}", row.app_id, row.user_id),
                    format!("{names:?} {} {} {:?}", row.status.as_str(), row.scope.as_str(), row.link_group.as_deref()),
                );
            }
            for row in org.truth_app_groups(reference) {
                rows.insert(format!("app_group {} {}", row.app_id, row.group_id), format!("{:?}", Some(row.priority)));
            }
        }
        Self { rows }
    }

    #[track_caller]
    pub(crate) fn assert_equals(&self, truth: &Self) {
        let keys: BTreeSet<_> = self.rows.keys().chain(truth.rows.keys()).collect();
        let different: Vec<String> = keys
            .into_iter()
            .filter(|key| self.rows.get(*key) != truth.rows.get(*key))
            .map(|key| format!("{key}: stored {:?}, org {:?}", self.rows.get(key), truth.rows.get(key)))
            .collect();
        assert!(
            different.is_empty(),
            "{} of {} rows differ:\n{}",
            different.len(),
            truth.rows.len(),
            different[..different.len().min(20)].join("\n")
        );
    }
}

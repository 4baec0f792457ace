//! What belongs to one org: its settings, client, store and index.
//!
//! Entry points: [`OrgSettings::from_config`], [`OrgRuntime::open`]. Nothing below the map of orgs knows that there are
//! several.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use url::Url;

use super::calls::PageSizes;
use super::register::RegisterSettings;
use super::{EngineError, clock};
use crate::config::{
    Config, Credential, FollowConfig, GroupMembers, NameRule as ConfiguredRule, NetworkConfig, OrgConfig, ProxyConfig,
};
use crate::core::coverage::CoveragePolicy;
use crate::core::filter::{AppFilter, DomainFilter, Filter, GroupFilter};
use crate::core::ids::Timestamp;
use crate::core::normalize::NameRule;
use crate::core::overrides::{OverrideFault, OverrideSetting, check};
use crate::core::pending::Patience;
use crate::core::plan::Costs;
use crate::core::policy::{GrantPolicy, GrantPolicySettings, NameRuleSetting};
use crate::core::rate::RateConfig;
use crate::core::reconcile::Brake;
use crate::core::sync::{Counted, FollowLimits, Limits, Members};
use crate::okta::{Client, ClientConfig, LimiterConfig, OrgUrl, ProxyChoice, ServiceApp, Ssws, TokenError};
use crate::serve::CredentialKind;
use crate::store::{ChangeRetention, ConfiguredOverrides, Reader, Store, StoreConfig, Writer};

/// What an org is read with; made from the validated configuration.
#[derive(Clone, Debug)]
pub struct OrgSettings {
    /// Name in the configuration; also the directory's.
    pub name: String,
    /// The org's directory.
    pub dir: PathBuf,
    /// The org's address.
    pub url: OrgUrl,
    /// The API token or the service app.
    pub credential: Credential,
    /// The way to the org.
    pub network: NetworkConfig,
    /// What is read and within which limits.
    pub limits: Limits,
    /// Page sizes.
    pub page_sizes: Arc<PageSizes>,
    /// Budgets.
    pub limiter: LimiterConfig,
    /// The deletion brake.
    pub brake: Brake,
    /// What is an answer and what is a refusal.
    pub policy: Arc<GrantPolicy>,
    /// The overrides of the configuration.
    pub overrides: Vec<OverrideSetting>,
    /// How long after the end of a crawl the next one begins.
    pub crawl_interval: Duration,
    /// How the System Log is followed.
    pub follow: FollowSettings,
    /// How soon a held list is read again, and how rarely at last.
    pub hold_retry: (Duration, Duration),
    /// What is too old, and what becomes of rows that can no longer be read.
    pub coverage: CoveragePolicy,
    /// How long a change is remembered.
    pub change_retention: Duration,
    /// Changes that are remembered.
    pub change_rows_max: u64,
    /// How often the index takes in what has changed.
    pub index_interval: Duration,
    /// Memory of the index writer, in bytes.
    pub index_heap_bytes: usize,
    /// When a register of names is made.
    pub register: RegisterSettings,
}

/// How the System Log of an org is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowSettings {
    /// Whether it is followed at all.
    pub enabled: bool,
    /// Time between two polls.
    pub poll_interval: Duration,
    /// How long hints wait.
    pub patience: Patience,
    /// Time between two walks of changed users; `None`: never.
    pub users_delta_interval: Option<Duration>,
    /// Time between two walks of changed groups; `None`: never.
    pub groups_delta_interval: Option<Duration>,
    /// Time between two walks of the list of apps; `None`: never.
    pub apps_interval: Option<Duration>,
    /// In this time the users of every app are listed once; `None`: never.
    pub relist_interval: Option<Duration>,
    /// That many events of unknown types bring the next full crawl forward.
    pub unknown_events_max: u64,
}

impl FollowSettings {
    /// Takes over a validated configuration.
    pub fn from_config(follow: &FollowConfig) -> Self {
        Self {
            enabled: follow.enabled,
            poll_interval: follow.poll_interval,
            patience: Patience {
                debounce_millis: millis(follow.debounce),
                quiet_millis: millis(follow.quiet),
                quiet_millis_max: millis(follow.quiet_max),
                later_millis: millis(follow.second_look),
            },
            users_delta_interval: follow.users_delta_interval,
            groups_delta_interval: follow.groups_delta_interval,
            apps_interval: follow.apps_interval,
            relist_interval: follow.relist_interval,
            unknown_events_max: follow.unknown_events_max,
        }
    }
}

impl OrgSettings {
    /// What the state machine needs to follow; `None` when the log is not to be followed.
    pub fn follow_limits(&self) -> Option<FollowLimits> {
        let follow = &self.follow;
        follow.enabled.then(|| FollowLimits {
            poll_millis: millis(follow.poll_interval),
            patience: follow.patience,
            users_delta_millis: follow.users_delta_interval.map(millis),
            groups_delta_millis: follow.groups_delta_interval.map(millis),
            apps_millis: follow.apps_interval.map(millis),
            relist_millis: follow.relist_interval.map(millis),
            crawl_millis: millis(self.crawl_interval),
            unknown_events_max: follow.unknown_events_max,
            hold_retry_millis: (millis(self.hold_retry.0), millis(self.hold_retry.1)),
            costs: Costs { app_users_page: self.page_sizes.app_users, user_apps_page: self.page_sizes.apps },
        })
    }
}

/// As the core counts time.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl OrgSettings {
    /// Takes over a validated configuration.
    ///
    /// # Errors
    /// [`EngineError::Settings`] for what the configuration cannot know to be wrong.
    pub fn from_config(config: &Config, org: &OrgConfig) -> Result<Self, EngineError> {
        let wrong = |detail: String| EngineError::Settings { org: org.name.to_string(), detail };
        let crawl = &org.crawl;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the configuration keeps it between 0 and 0.9"
        )]
        let reserve_percent = (crawl.rate_limit_reserve * 100.0).round() as u8;
        let in_flight = crawl.max_in_flight_per_bucket;
        Ok(Self {
            name: org.name.to_string(),
            dir: org_dir(&config.data_dir, org.name.as_str()),
            url: OrgUrl::parse(org.domain.as_str()).map_err(|error| wrong(error.to_string()))?,
            credential: org.credential.clone(),
            network: org.network.clone(),
            limits: Limits {
                in_flight_per_lane: usize::try_from(in_flight).unwrap_or(usize::MAX),
                members: match org.groups.members {
                    GroupMembers::All => Members::All,
                    GroupMembers::Assigned => Members::Assigned,
                },
                filter: filter_of(org),
            },
            page_sizes: Arc::new(PageSizes {
                users: crawl.users_page_size,
                groups: crawl.groups_page_size,
                group_members: crawl.group_members_page_size,
                apps: crawl.apps_page_size,
                app_users: crawl.app_users_page_size,
                app_groups: crawl.app_groups_page_size,
            }),
            limiter: LimiterConfig {
                bucket: RateConfig { in_flight_max: in_flight, reserve_percent },
                ..LimiterConfig::default()
            },
            brake: Brake { share: org.brake.share, rows: org.brake.rows },
            policy: Arc::new(policy(org).map_err(|error| wrong(error.to_string()))?),
            overrides: overrides_of(org, clock::now()).map_err(wrong)?,
            crawl_interval: crawl.interval,
            follow: FollowSettings::from_config(&org.follow),
            hold_retry: (org.brake.retry_interval, org.brake.retry_interval_max),
            coverage: coverage_of(org),
            change_retention: org.changes.retention,
            change_rows_max: org.changes.max_rows,
            index_interval: config.index.commit_interval,
            index_heap_bytes: config.index.writer_heap_bytes,
            register: if config.index.register { RegisterSettings::ON } else { RegisterSettings::OFF },
        })
    }

    /// Fingerprint of the credential in this org: walks of different ones are never compared. Holds nothing of it. That of
    /// a service app is the same whatever token it has at the moment.
    pub fn credential_fingerprint(&self) -> String {
        match &self.credential {
            Credential::ApiToken(token) => fingerprint(&["credential", self.url.host(), token.expose()]),
            Credential::ServiceApp(app) => fingerprint(&["service app", self.url.host(), &app.client_id, &app.key_id]),
        }
    }

    /// Fingerprint of all that a crawl depends on: an unfinished one is resumed only under the same.
    pub fn crawl_fingerprint(&self) -> String {
        // Not the filters: the store knows under which it was filled, and reads only what another one newly wants.
        let Limits { in_flight_per_lane, members, filter: _ } = &self.limits;
        let settings = format!("{in_flight_per_lane} {members:?} {:?}", self.page_sizes);
        fingerprint(&["crawl", &self.credential_fingerprint(), &settings])
    }

    /// Where the index is.
    pub fn index_dir(&self) -> PathBuf {
        index_dir(&self.dir)
    }
}

/// How a credential authenticates, as the status tells it.
pub fn credential_kind(credential: &Credential) -> CredentialKind {
    match credential {
        Credential::ApiToken(_) => CredentialKind::ApiToken,
        Credential::ServiceApp(_) => CredentialKind::OauthServiceApp,
    }
}

/// What is wanted of an org.
fn filter_of(org: &OrgConfig) -> Filter {
    let (apps, filter) = (&org.apps, &org.filter);
    Filter {
        users: DomainFilter::new(filter.email_domains.iter().cloned()),
        groups: GroupFilter {
            name_contains: filter.group_name_contains.clone(),
            skip_app_groups: filter.skip_app_groups,
        },
        apps: AppFilter {
            include: apps.include.iter().cloned().collect(),
            exclude: apps.exclude.iter().cloned().collect(),
            built_in: apps.built_in,
            sync_inactive: filter.sync_inactive_apps,
        },
        skip_secondary_emails: filter.skip_secondary_emails,
    }
}

/// An org's directory.
pub fn org_dir(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(name)
}

/// The index within an org's directory.
pub fn index_dir(org_dir: &Path) -> PathBuf {
    org_dir.join("index")
}

/// What resolves and what does not, from the configuration.
fn policy(org: &OrgConfig) -> Result<GrantPolicy, crate::core::policy::PolicyError> {
    let resolve = &org.resolve;
    let rule = |rule: &ConfiguredRule| match rule {
        ConfiguredRule::Default => NameRule::Default,
        ConfiguredRule::Exact => NameRule::Exact,
        ConfiguredRule::IgnoreCase => NameRule::IgnoreCase,
    };
    GrantPolicy::new(&GrantPolicySettings {
        user_statuses: resolve.user_statuses.iter().cloned().collect(),
        app_user_statuses: resolve.app_user_statuses.iter().cloned().collect(),
        name_rules: resolve
            .name_rules
            .iter()
            .map(|(app, configured)| NameRuleSetting { app: app.clone(), rule: rule(configured) })
            .collect(),
        second_email: resolve.second_email,
        quarantine_millis: millis(resolve.reuse_quarantine),
        aliases: resolve.aliases.clone(),
    })
}

/// The overrides of the configuration. Only here it is known how far ahead their ends are; what is over is no mistake. One that ends
/// too far ahead is left out and told: if it is the clock that is wrong, the rest can still be served.
fn overrides_of(org: &OrgConfig, now: Timestamp) -> Result<Vec<OverrideSetting>, String> {
    let mut overrides = Vec::new();
    for (index, setting) in org.resolve.overrides.iter().enumerate() {
        let place = || format!("orgs.{}.resolve.overrides: entry {}", org.name, index + 1);
        match check(&setting.reason, setting.entry.expires_at, now) {
            Ok(()) | Err(OverrideFault::Over(_)) => overrides.push(setting.clone()),
            Err(fault) if fault.is_of_end() => {
                tracing::error!(org = %org.name, "{}: {fault}; it is left out (is the clock right?)", place());
            }
            Err(fault) => return Err(format!("{}: {fault}", place())),
        }
    }
    Ok(overrides)
}

/// The policy of an org, for look-ups without a runtime.
///
/// # Errors
/// [`EngineError::Settings`].
pub fn policy_of(org: &OrgConfig) -> Result<GrantPolicy, EngineError> {
    policy(org).map_err(|error| EngineError::Settings { org: org.name.to_string(), detail: error.to_string() })
}

/// What is too old in an org, and what becomes of rows that can no longer be read. Between two crawls nothing is: most
/// collections are not read as a whole while the log is followed.
pub fn coverage_of(org: &OrgConfig) -> CoveragePolicy {
    let two_crawls = millis(org.crawl.interval).saturating_mul(2);
    let log_min = if org.follow.enabled { 0 } else { two_crawls };
    CoveragePolicy {
        stale_after_millis: org.coverage.stale_after.map(|after| millis(after).max(two_crawls)),
        log_stale_after_millis: org.coverage.log_stale_after.map(|after| millis(after).max(log_min)),
        on_gap: org.coverage.on_gap,
        max_stale_millis: org.coverage.max_stale.map(millis),
    }
}

/// 128 bits of a SHA-256 over length-prefixed parts: nothing of a secret part can be told from it.
fn fingerprint(parts: &[&str]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An org at work.
#[derive(Debug)]
pub struct OrgRuntime {
    settings: OrgSettings,
    client: Client,
    reader: Reader,
    request_numbers: Arc<AtomicU64>,
    first_request_number: u64,
    /// From one machine to the next.
    counted: Mutex<Option<Box<Counted>>>,
}

impl OrgRuntime {
    /// Opens the store for writing (and so takes the org's lock) and builds the client; sends nothing.
    ///
    /// # Errors
    /// Those of [`Store::open`], and a token that cannot be sent.
    pub fn open(settings: OrgSettings) -> Result<(Self, Writer), EngineError> {
        let config = StoreConfig {
            dir: settings.dir.clone(),
            brake: settings.brake,
            credential: settings.credential_fingerprint(),
            changes: ChangeRetention {
                age_millis: millis(settings.change_retention),
                rows_max: settings.change_rows_max,
            },
            filter: settings.limits.filter.clone(),
        };
        let store = Store::open_with_overrides(config, settings.overrides.clone(), clock::now())?;
        tell_overrides(&settings, store.overrides);
        // The counter names the last number that was given out.
        let first_request_number = store.writer.first_request_number().0;
        let request_numbers = Arc::new(AtomicU64::new(first_request_number.saturating_sub(1)));
        let client = client(&settings, Arc::clone(&request_numbers))?;
        let runtime = Self {
            settings,
            client,
            reader: store.reader,
            request_numbers,
            first_request_number,
            counted: Mutex::default(),
        };
        Ok((runtime, store.writer))
    }

    /// Keeps what a crawl that stopped had counted.
    pub(super) fn keep_counted(&self, counted: Counted) {
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(counted));
    }

    /// Takes it for the crawl that goes on.
    pub(super) fn take_counted(&self) -> Option<Box<Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What it is read with.
    pub fn settings(&self) -> &OrgSettings {
        &self.settings
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Readers of the store.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Requests sent by this process.
    pub fn requests_sent(&self) -> u64 {
        (self.request_numbers.load(Ordering::Relaxed) + 1).saturating_sub(self.first_request_number)
    }
}

/// One log line for the decisions that the configuration makes, so that nobody makes them unseen: how many, no names.
fn tell_overrides(settings: &OrgSettings, found: ConfiguredOverrides) {
    let (org, aliases) = (settings.name.as_str(), settings.policy.alias_count());
    let ConfiguredOverrides { kept, changed, removed, expired, filtered } = found;
    if aliases > 0 || found != ConfiguredOverrides::default() {
        tracing::info!(
            org,
            aliases,
            overrides = kept,
            changed,
            removed,
            expired,
            filtered,
            "aliases and overrides of the configuration"
        );
    }
}

/// A client for the org, apart from any store.
///
/// # Errors
/// [`EngineError::Settings`] for a token that cannot be sent, [`EngineError::Okta`] for a client that cannot be built.
pub fn client(settings: &OrgSettings, request_numbers: Arc<AtomicU64>) -> Result<Client, EngineError> {
    let mut config = ClientConfig::new(settings.url.clone(), request_numbers);
    config.limiter = settings.limiter;
    config.now = clock::now;
    config.proxy = match &settings.network.proxy {
        ProxyConfig::Environment => ProxyChoice::Environment,
        ProxyConfig::Direct => ProxyChoice::Direct,
        ProxyConfig::By(address) => ProxyChoice::By(Url::parse(address).map_err(|error| EngineError::Settings {
            org: settings.name.clone(),
            detail: format!("network.proxy: {error}"),
        })?),
    };
    config.root_certificates_pem = settings.network.root_certificates_pem.clone();
    match &settings.credential {
        Credential::ApiToken(token) => {
            let wrong =
                |error: TokenError| EngineError::Settings { org: settings.name.clone(), detail: error.to_string() };
            Ok(Client::new(config, Arc::new(Ssws::new(token).map_err(wrong)?))?)
        }
        Credential::ServiceApp(app) => {
            let app = ServiceApp {
                client_id: app.client_id.clone(),
                key_id: app.key_id.clone(),
                private_key: app.private_key.clone(),
                scopes: app.scopes.clone(),
            };
            Ok(Client::for_service_app(config, app)?)
        }
    }
}

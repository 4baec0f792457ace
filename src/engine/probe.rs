//! What a credential can read, found out by one request for each thing (facts 12.4). Entry point: [`run`].
//!
//! Invariants:
//! - Nothing is stored and nothing but reading is done.
//! - It ends: each probe has a time limit, and when the org cannot be reached or the credential is refused, what would
//!   fail in the same way is not asked for.
//! - The report holds ids, paths and Okta's error codes; no names and no credential.

use std::time::Duration;

use tokio::time::timeout;

use super::failure;
use crate::core::coverage::{self, GapKind, ReadFailure};
use crate::core::ids::{AppId, Timestamp};
use crate::core::model::{App, AppStatus, Row, Scope};
use crate::core::rate::Bucket;
use crate::okta::{Client, FailureKind, LogRequest, OktaError, Page, PageRequest, Priority, Resource};

/// Longest time for one probe, its retries included. A page of one object takes some hundred milliseconds; whoever waits
/// at a terminal should learn of a dead connection within a minute.
pub const PROBE_WAIT: Duration = Duration::from_secs(30);
/// Apps that are asked for, to choose one whose users are looked at: the first one is often a built-in app, whose users
/// tell little. They cost the same one request.
const APPS_LOOKED_AT: u32 = 20;
/// How far back the log is asked for, in milliseconds: a minute is enough to know that it may be read.
const LOG_BACK_MILLIS: i64 = 60_000;

/// One thing that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// Public metadata of the org: is this an Okta org at all?
    Org,
    /// The list of users.
    Users,
    /// The list of users by search, in which one walk shows all statuses.
    UserSearch,
    /// The list of groups.
    Groups,
    /// The list of apps.
    Apps,
    /// The System Log.
    Log,
    /// The app users of one app.
    AppUsers,
    /// The groups assigned to that app.
    AppGroups,
}

impl Probe {
    /// Every probe, in the order in which they are made.
    pub const ALL: [Probe; 8] = [
        Probe::Org,
        Probe::Users,
        Probe::UserSearch,
        Probe::Groups,
        Probe::Apps,
        Probe::Log,
        Probe::AppUsers,
        Probe::AppGroups,
    ];

    /// Stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Probe::Org => "org",
            Probe::Users => "users",
            Probe::UserSearch => "user_search",
            Probe::Groups => "groups",
            Probe::Apps => "apps",
            Probe::Log => "log",
            Probe::AppUsers => "app_users",
            Probe::AppGroups => "app_groups",
        }
    }

    /// Whether there are rows in every org, so that an empty answer means a missing role (facts 7.2): the credential's
    /// owner is a user, `Everyone` is a group, the admin console is an app.
    const fn must_have_rows(self) -> bool {
        matches!(self, Probe::Users | Probe::UserSearch | Probe::Groups | Probe::Apps)
    }

    /// The collection that the probe speaks for; `None` for the org's own metadata.
    fn scope(self, app: Option<&AppId>) -> Option<Scope> {
        match self {
            Probe::Org => None,
            Probe::Users | Probe::UserSearch => Some(Scope::Users),
            Probe::Groups => Some(Scope::Groups),
            Probe::Apps => Some(Scope::Apps),
            Probe::Log => Some(Scope::Log),
            Probe::AppUsers => app.cloned().map(Scope::AppUsers),
            Probe::AppGroups => app.cloned().map(Scope::AppGroups),
        }
    }
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// It can be read.
    Readable,
    /// It can be read and shows nothing, which no org does: a role is missing.
    Empty,
    /// 403: a permission is missing.
    Forbidden,
    /// 403 `insufficient_scope`: an OAuth scope is missing.
    ScopeMissing,
    /// 401: the credential is refused.
    Unauthorized,
    /// The org does not offer it now; another way shows the same.
    NotOffered,
    /// No answer from the org at all.
    Unreachable,
    /// Anything else that is no answer.
    Failed,
    /// It was not asked for: an earlier failure would repeat, or there is no app to look at.
    NotAsked,
}

impl ProbeResult {
    /// Stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            ProbeResult::Readable => "readable",
            ProbeResult::Empty => "empty",
            ProbeResult::Forbidden => "forbidden",
            ProbeResult::ScopeMissing => "scope_missing",
            ProbeResult::Unauthorized => "unauthorized",
            ProbeResult::NotOffered => "not_offered",
            ProbeResult::Unreachable => "unreachable",
            ProbeResult::Failed => "failed",
            ProbeResult::NotAsked => "not_asked",
        }
    }

    /// Whether a crawl would lack nothing because of it.
    pub const fn is_fine(&self) -> bool {
        matches!(self, ProbeResult::Readable | ProbeResult::NotOffered)
    }

    /// Whether nothing at all can be read.
    pub const fn is_fatal(&self) -> bool {
        matches!(self, ProbeResult::Unauthorized | ProbeResult::Unreachable)
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeLine {
    /// What was asked for.
    pub probe: Probe,
    /// Path of the request, with its query; empty when nothing was asked.
    pub path: String,
    /// What came of it.
    pub result: ProbeResult,
    /// What Okta or the network said, or why it was not asked. Empty when it is readable.
    pub detail: String,
    /// What stays unknown without it. Empty when it is fine.
    pub hides: String,
    /// What to do about it. Empty when it is fine.
    pub remedy: String,
    /// Requests per window of the rate-limit bucket that it draws on, as Okta's headers tell.
    pub rate_limit: Option<u64>,
}

/// What a credential can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// Okta's id of the org.
    pub org_id: Option<String>,
    /// How far this machine's clock is ahead of Okta's, in milliseconds; Okta tells whole seconds.
    pub clock_ahead_millis: Option<i64>,
    /// One line per probe, in the order of [`Probe::ALL`].
    pub lines: Vec<ProbeLine>,
}

impl ProbeReport {
    /// Whether everything that a crawl reads can be read.
    pub fn is_fine(&self) -> bool {
        self.lines.iter().all(|line| line.result.is_fine())
    }

    /// Whether nothing can be read: the org is unreachable or refuses the credential.
    pub fn is_fatal(&self) -> bool {
        self.lines.iter().any(|line| line.result.is_fatal())
    }
}

/// Makes the probes, one after the other. `now` is the local clock.
pub async fn run(client: &Client, now: fn() -> Timestamp) -> ProbeReport {
    let mut prober = Prober { client, now, app: None, org_id: None, clock_ahead_millis: None };
    let mut lines = Vec::new();
    let mut stopped = None;
    for probe in Probe::ALL {
        let line = match stopped {
            Some(by) => not_asked(probe, format!("{by} says why")),
            None => prober.line(probe).await,
        };
        if stopped.is_none() && line.result.is_fatal() {
            stopped = Some(line.probe.name());
        }
        lines.push(line);
    }
    ProbeReport { org_id: prober.org_id, clock_ahead_millis: prober.clock_ahead_millis, lines }
}

fn not_asked(probe: Probe, detail: String) -> ProbeLine {
    let result = ProbeResult::NotAsked;
    ProbeLine {
        probe,
        path: String::new(),
        result,
        detail,
        hides: String::new(),
        remedy: String::new(),
        rate_limit: None,
    }
}

struct Prober<'a> {
    client: &'a Client,
    now: fn() -> Timestamp,
    /// The app whose users and groups are looked at.
    app: Option<AppId>,
    org_id: Option<String>,
    clock_ahead_millis: Option<i64>,
}

impl Prober<'_> {
    async fn line(&mut self, probe: Probe) -> ProbeLine {
        let request = match (probe, &self.app) {
            (Probe::Org, _) => None,
            (Probe::Users, _) => Some(first(Resource::UsersPlain, 1)),
            (Probe::UserSearch, _) => Some(first(Resource::Users, 1)),
            (Probe::Groups, _) => Some(first(Resource::Groups, 1)),
            (Probe::Apps, _) => Some(first(Resource::Apps, APPS_LOOKED_AT)),
            (Probe::Log, _) => None,
            (Probe::AppUsers, Some(app)) => Some(first(Resource::AppUsers(app.clone()), 1)),
            (Probe::AppGroups, Some(app)) => Some(first(Resource::AppGroups(app.clone()), 1)),
            (Probe::AppUsers | Probe::AppGroups, None) => {
                return not_asked(probe, "there is no app to look at".to_owned());
            }
        };
        let path = match (&request, probe) {
            (Some(PageRequest::First { resource, limit }), _) => resource.first_page(*limit),
            (_, Probe::Org) => "/.well-known/okta-organization".to_owned(),
            _ => "/api/v1/logs".to_owned(),
        };
        let seen = match timeout(PROBE_WAIT, self.ask(probe, request)).await {
            Ok(seen) => seen,
            Err(_) => {
                let detail = format!("no answer within {} seconds, retries included", PROBE_WAIT.as_secs());
                return self.explain(probe, path, ProbeResult::Failed, detail);
            }
        };
        match seen {
            Ok(0) if probe.must_have_rows() => self.explain(probe, path, ProbeResult::Empty, String::new()),
            Ok(_) => self.explain(probe, path, ProbeResult::Readable, String::new()),
            Err(error) => self.explain(probe, path, result_of(probe, &error), error.to_string()),
        }
    }

    /// Makes the request; answers how many records it showed.
    async fn ask(&mut self, probe: Probe, request: Option<PageRequest>) -> Result<usize, OktaError> {
        match (request, probe) {
            (Some(request), _) => {
                let page = self.client.page(&request, Priority::ById).await?;
                self.compare_clocks(page.server_date, page.received_at);
                if probe == Probe::Apps {
                    self.app = chosen_app(&page);
                }
                Ok(page.items)
            }
            (None, Probe::Org) => {
                let metadata = self.client.org_metadata().await?;
                self.compare_clocks(metadata.server_date, metadata.received_at);
                self.org_id = Some(metadata.id.into());
                Ok(1)
            }
            (None, _) => {
                let since = (self.now)().plus_millis(-LOG_BACK_MILLIS);
                let page = self.client.log_page(&LogRequest::Anchor { since, filter: None }).await?;
                Ok(page.items)
            }
        }
    }

    fn compare_clocks(&mut self, server_date: Option<Timestamp>, received_at: Timestamp) {
        if let Some(server_date) = server_date {
            self.clock_ahead_millis = Some(received_at.millis_since(server_date));
        }
    }

    fn explain(&self, probe: Probe, path: String, result: ProbeResult, detail: String) -> ProbeLine {
        let bucket = Bucket::of_path(&path);
        let budgets = self.client.budgets();
        let rate_limit = budgets.into_iter().find(|state| state.bucket == bucket).and_then(|state| state.limit);
        let kind = gap_kind(&result);
        let (hides, remedy) = match (kind, probe.scope(self.app.as_ref())) {
            (Some(kind), Some(scope)) => (coverage::hides(&scope, kind), remedy(&scope, kind)),
            (Some(_), None) => (
                "everything, unless the other probes succeed".to_owned(),
                "check the org's address, the name service and the way out (proxy, firewall)".to_owned(),
            ),
            (None, _) => Default::default(),
        };
        ProbeLine { probe, path, result, detail, hides, remedy, rate_limit }
    }
}

const fn first(resource: Resource, limit: u32) -> PageRequest {
    PageRequest::First { resource, limit }
}

/// An app whose users say something: active and not one of Okta's own, if there is such a one on the page.
fn chosen_app(page: &Page) -> Option<AppId> {
    let apps = || {
        page.rows.iter().filter_map(|row| match row {
            Row::App(app) => Some(app),
            _ => None,
        })
    };
    let telling = |app: &&App| app.status == AppStatus::Active && !app.is_okta_built_in() && !app.is_service_app();
    apps().find(telling).or_else(|| apps().next()).map(|app| app.id.clone())
}

fn result_of(probe: Probe, error: &OktaError) -> ProbeResult {
    if probe == Probe::UserSearch && matches!(error.kind(), FailureKind::Unavailable | FailureKind::Rejected { .. }) {
        // The crawl then walks the plain lists (facts 2.2).
        return ProbeResult::NotOffered;
    }
    match failure::of(error, false) {
        ReadFailure::Forbidden { missing_scope: Some(_), .. } => ProbeResult::ScopeMissing,
        ReadFailure::Forbidden { missing_scope: None, .. } => ProbeResult::Forbidden,
        ReadFailure::Unauthorized { .. } => ProbeResult::Unauthorized,
        ReadFailure::Unreachable { .. } => ProbeResult::Unreachable,
        ReadFailure::Failed { .. }
        | ReadFailure::NotFound { .. }
        | ReadFailure::CursorGone
        | ReadFailure::RestartWalk { .. }
        | ReadFailure::SearchUnavailable => ProbeResult::Failed,
    }
}

/// The gap that a crawl would open; its words serve here too.
const fn gap_kind(result: &ProbeResult) -> Option<GapKind> {
    match result {
        ProbeResult::Readable | ProbeResult::NotOffered | ProbeResult::NotAsked => None,
        ProbeResult::Empty => Some(GapKind::EmptySuspect),
        ProbeResult::Forbidden => Some(GapKind::Forbidden),
        ProbeResult::ScopeMissing => Some(GapKind::ScopeMissing),
        ProbeResult::Unauthorized => Some(GapKind::Unauthorized),
        ProbeResult::Unreachable | ProbeResult::Failed => Some(GapKind::Failed),
    }
}

fn remedy(scope: &Scope, kind: GapKind) -> String {
    match kind {
        GapKind::Failed => "see the detail; if it stays, ask Okta's support with the request id".to_owned(),
        kind => coverage::remedy(scope, kind),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;

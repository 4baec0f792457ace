//! What a credential can read, found out by one request for each thing (facts 12.4). Entry point: [`run`].
//!
//! What is asked about and what the answers mean is decided in [`crate::core::probe`].
//!
//! Invariants:
//! - Nothing is stored and nothing but reading is done.
//! - It ends: each probe has a time limit, and when the org cannot be reached, no token is to be had or the credential is
//!   refused, what would fail in the same way is not asked for.
//! - The report holds ids, paths and Okta's error codes; no names and no credential.

use std::time::Duration;

use tokio::time::timeout;

use super::failure;
use crate::core::coverage::ReadFailure;
use crate::core::ids::{AppId, Timestamp};
use crate::core::probe::{Answer, Sight};
pub use crate::core::probe::{Probe, ProbeLine, ProbeReport, ProbeResult};
use crate::core::rate::Bucket;
use crate::okta::{
    API_TOKENS_PATH, Client, FailureKind, Holder, LogRequest, OWNER_PATH, ObjectPath, OktaError, PageRequest, Priority,
    Resource,
};

/// Longest time for one probe, its retries included. A page of objects takes some hundred milliseconds.
pub const PROBE_WAIT: Duration = Duration::from_secs(30);
/// The same while there is no token: whoever waits at a terminal should learn soon why.
const TOKEN_WAIT: Duration = Duration::from_secs(20);
/// How far back the log is asked for, in milliseconds: a minute is enough to know that it may be read.
const LOG_BACK_MILLIS: i64 = 60_000;
/// Objects of a list where one is enough.
const ONE: u32 = 1;

/// What kind of credential it is, as far as its owner can be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// An API token, which belongs to a user.
    #[default]
    ApiToken,
    /// A service app.
    ServiceApp {
        /// Its client id.
        client_id: AppId,
    },
}

/// Makes the probes, one after the other. `now` is the local clock.
pub async fn run(client: &Client, credential: Credential, now: fn() -> Timestamp) -> ProbeReport {
    let mut sight = Sight::default();
    if let Credential::ServiceApp { .. } = credential {
        sight.note_service_app();
    }
    let report = ProbeReport::default();
    let mut prober = Prober { client, credential, now, sight, report, holder: None, has_heard: false };
    let mut asked = Vec::new();
    let mut stopped = None;
    for probe in Probe::ALL {
        let (path, answer) = match stopped {
            Some(by) => (String::new(), Answer::NotAsked(format!("{by} says why"))),
            None => prober.asked(probe).await,
        };
        let is_fatal =
            matches!(answer, Answer::Failed(ReadFailure::Unauthorized { .. } | ReadFailure::Unreachable { .. }));
        if stopped.is_none() && is_fatal {
            stopped = Some(probe.name());
        }
        asked.push((probe, path, answer));
    }
    prober.report(asked)
}

struct Prober<'a> {
    client: &'a Client,
    credential: Credential,
    now: fn() -> Timestamp,
    sight: Sight,
    report: ProbeReport,
    /// Whose roles are asked for.
    holder: Option<Holder>,
    /// Whether anybody has answered.
    has_heard: bool,
}

/// What is sent for a probe.
enum Question {
    Org,
    Owner,
    Roles(Holder),
    ApiTokens,
    Log,
    Page(Resource, u32),
    Object(ObjectPath),
}

impl Question {
    fn path(&self) -> String {
        match self {
            Question::Org => "/.well-known/okta-organization".to_owned(),
            Question::Owner => OWNER_PATH.to_owned(),
            Question::Roles(holder) => holder.roles_path(),
            Question::ApiTokens => API_TOKENS_PATH.to_owned(),
            Question::Log => "/api/v1/logs".to_owned(),
            Question::Page(resource, limit) => resource.first_page(*limit),
            Question::Object(path) => path.path(),
        }
    }
}

impl Prober<'_> {
    /// What to send; else why nothing.
    fn question(&self, probe: Probe) -> Result<Question, &'static str> {
        let whole = |resource: Resource| {
            let limit = resource.limit_default();
            Ok(Question::Page(resource, limit))
        };
        let object = |path: Option<ObjectPath>, why| path.map(Question::Object).ok_or(why);
        let no_user = "a service app belongs to nobody";
        match probe {
            Probe::Org => Ok(Question::Org),
            Probe::Owner | Probe::ApiTokens if self.credential != Credential::ApiToken => Err(no_user),
            Probe::Owner => Ok(Question::Owner),
            Probe::ApiTokens => Ok(Question::ApiTokens),
            Probe::Roles => self.holder.clone().map(Question::Roles).ok_or("the owner is not known"),
            Probe::Log => Ok(Question::Log),
            Probe::Users => Ok(Question::Page(Resource::UsersPlain, ONE)),
            Probe::UserSearch => whole(Resource::Users),
            Probe::Groups => whole(Resource::Groups),
            Probe::Apps => whole(Resource::Apps),
            Probe::GroupMembers => match self.sight.group_to_walk() {
                Some(group) => whole(Resource::GroupMembers(group)),
                None => Err("there is no group to look at"),
            },
            Probe::AppUsers | Probe::AppGroups => match (self.sight.app_to_list(), probe) {
                (Some(app), Probe::AppUsers) => whole(Resource::AppUsers(app)),
                (Some(app), _) => whole(Resource::AppGroups(app)),
                (None, _) => Err("there is no app to look at"),
            },
            Probe::User => object(self.sight.user_to_read().map(ObjectPath::User), "there is no user to look at"),
            Probe::Group => object(self.sight.group_to_read().map(ObjectPath::Group), "there is no group to look at"),
            Probe::App => object(self.sight.app_to_read().map(ObjectPath::App), "there is no app to look at"),
        }
    }

    /// Asks, and waits no longer than it may take.
    async fn asked(&mut self, probe: Probe) -> (String, Answer) {
        let question = match self.question(probe) {
            Ok(question) => question,
            Err(why) => return (String::new(), Answer::NotAsked(why.to_owned())),
        };
        let path = question.path();
        let client = self.client;
        let asked = {
            let mut asking = std::pin::pin!(self.ask(probe, question));
            match timeout(TOKEN_WAIT, &mut asking).await {
                Err(_) if client.credential_failure().is_none() => timeout(PROBE_WAIT - TOKEN_WAIT, asking).await,
                asked => asked,
            }
        };
        let answer = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => answer_of(probe, &error),
            Err(_) => Answer::Failed(self.no_answer()),
        };
        self.has_heard |=
            !matches!(answer, Answer::Failed(ReadFailure::Failed { .. } | ReadFailure::Unreachable { .. }));
        (path, answer)
    }

    /// What it means that a probe took too long. Where nobody has answered yet, or there is no token, none will do better.
    fn no_answer(&self) -> ReadFailure {
        let detail = format!("no answer within {} seconds, retries included", PROBE_WAIT.as_secs());
        match self.client.credential_failure() {
            Some(no_token) => {
                let waited = TOKEN_WAIT.as_secs();
                ReadFailure::Unreachable { detail: format!("{no_token} (asked for {waited} s, retries included)") }
            }
            None if self.has_heard => ReadFailure::Failed { detail },
            None => ReadFailure::Unreachable { detail },
        }
    }

    async fn ask(&mut self, probe: Probe, question: Question) -> Result<Answer, OktaError> {
        let client = self.client;
        match question {
            Question::Org => {
                let metadata = client.org_metadata().await?;
                self.compare_clocks(metadata.server_date, metadata.received_at);
                self.report.org_id = Some(metadata.id.into());
                if let Credential::ServiceApp { client_id } = &self.credential {
                    self.holder = Some(Holder::ServiceApp(client_id.clone()));
                }
            }
            Question::Owner => {
                let owner = client.owner().await?;
                self.holder = Some(Holder::User(owner.clone()));
                self.report.owner = Some(owner);
            }
            Question::Roles(holder) => self.sight.note_roles(client.roles(&holder).await?),
            Question::ApiTokens => {
                let tokens = client.api_tokens().await?;
                let mut own = tokens.iter().filter(|token| Some(&token.owner) == self.report.owner.as_ref());
                // Nothing tells which of several it is.
                if let (Some(token), None) = (own.next(), own.next()) {
                    self.report.token_expires_at = token.expires_at;
                }
            }
            Question::Log => {
                let since = (self.now)().plus_millis(-LOG_BACK_MILLIS);
                client.log_page(&LogRequest::Anchor { since, filter: None }).await?;
            }
            Question::Object(path) => {
                let read = client.read(&path, Priority::ById).await?;
                return Ok(if read.found.is_some() { Answer::Shown } else { Answer::Absent });
            }
            Question::Page(resource, limit) => return self.page(probe, resource, limit).await,
        }
        Ok(Answer::Shown)
    }

    async fn page(&mut self, probe: Probe, resource: Resource, limit: u32) -> Result<Answer, OktaError> {
        let walked = if let Resource::GroupMembers(group) = &resource { Some(group.clone()) } else { None };
        let page = self.client.page(&PageRequest::First { resource, limit }, Priority::ById).await?;
        self.compare_clocks(page.server_date, page.received_at);
        let is_whole = page.next.is_none();
        self.sight.note(probe, &page.rows, &page.group_stats, is_whole && page.quarantined.is_empty());
        if let Some(group) = walked.filter(|_| page.items == 0 && is_whole) {
            self.sight.note_no_members(&group);
        }
        if probe == Probe::Groups && self.sight.must_look_for_everyone() {
            let request = PageRequest::First { resource: Resource::GroupsBuiltIn, limit };
            // Whether Everyone is there is a question apart: what becomes of it does not undo the answer about the list.
            if let Ok(built_in) = self.client.page(&request, Priority::ById).await {
                self.sight.note_built_in_groups(&built_in.rows, &built_in.group_stats);
            }
        }
        Ok(if page.items == 0 { Answer::Empty } else { Answer::Shown })
    }

    fn compare_clocks(&mut self, server_date: Option<Timestamp>, received_at: Timestamp) {
        if let Some(server_date) = server_date {
            self.report.clock_ahead_millis = Some(received_at.millis_since(server_date));
        }
    }

    fn report(self, asked: Vec<(Probe, String, Answer)>) -> ProbeReport {
        let budgets = self.client.budgets();
        let limit_of =
            |bucket: Bucket| budgets.iter().find(|state| state.bucket == bucket).and_then(|state| state.limit);
        let lines = asked.into_iter().map(|(probe, path, answer)| {
            let verdict = self.sight.judge(probe, &answer);
            let bucket = Bucket::of_path(&path);
            let is_asked = !path.is_empty();
            ProbeLine {
                probe,
                result: verdict.result,
                detail: verdict.detail,
                hides: verdict.hides,
                remedy: verdict.remedy,
                bucket: if is_asked { bucket.name() } else { "" },
                rate_limit: if is_asked { limit_of(bucket) } else { None },
                path,
            }
        });
        let lines = lines.collect();
        let rate_limits = budgets.iter().filter_map(|state| Some((state.bucket.name(), state.limit?))).collect();
        let granted_scopes = self.client.scopes().map(|scopes| scopes.granted.into_iter().collect());
        ProbeReport { roles: self.sight.role_kinds(), granted_scopes, rate_limits, lines, ..self.report }
    }
}

fn answer_of(probe: Probe, error: &OktaError) -> Answer {
    let is_search_refused = matches!(error.kind(), FailureKind::Unavailable | FailureKind::Rejected { .. });
    if probe == Probe::UserSearch && is_search_refused {
        // The crawl then walks the plain lists (facts 2.2).
        return Answer::NotOffered;
    }
    Answer::Failed(failure::of(error, false))
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;

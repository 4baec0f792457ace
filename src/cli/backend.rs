//! Who answers the look-ups: a server, or this process with the data directory open. Entry point: [`Backend::choose`].
//!
//! Invariant: a command sees no difference; both answer by the same service objects, in the server's process or in ours.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use okta_idmap_proto::v1::admin_server::Admin;
use okta_idmap_proto::v1::changes_server::Changes as _;
use okta_idmap_proto::v1::coverage_server::Coverage;
use okta_idmap_proto::v1::lookup_server::Lookup;
use okta_idmap_proto::v1::search_server::Search;
use okta_idmap_proto::v1::{self, ErrorReason};
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::args::Global;
use super::dial::{Dial, Dialled};
use super::failure::{Failure, Refusal};
use super::run;
use crate::client::{Client, ClientError};
use crate::config::{Config, ConfigErrors, OrgConfig};

/// The services, as objects of this process.
pub(super) struct Services {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) search: Arc<dyn Search>,
    pub(super) coverage: Arc<dyn Coverage>,
    pub(super) changes: run::ChangesService,
    pub(super) admin: Arc<dyn Admin>,
}

enum Target {
    Server(Box<Client>),
    Direct(Services),
}

/// Whoever answers.
pub(super) struct Backend {
    target: Target,
    /// For messages: `server http://127.0.0.1:8450`, or the data directory.
    name: String,
}

/// Where the command line says that answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// The server that `--server` or the configuration names: that one or none. What the data directory says may be of another org
    /// or day, and what is written there is not written where it was meant to be.
    Server,
    /// `--direct`, or a data directory that was named: no server, which may well serve another one.
    Direct,
    /// A server when one answers, else the data directory.
    Either,
}

impl Wish {
    /// `is_other`: the configuration names another server than our own.
    fn of(global: &Global, is_other: bool) -> Self {
        match (&global.server, global.direct, &global.data_dir) {
            (Some(_), _, _) => Self::Server,
            (None, true, _) | (None, false, Some(_)) => Self::Direct,
            (None, false, None) if is_other => Self::Server,
            (None, false, None) => Self::Either,
        }
    }
}

impl Backend {
    /// Finds who answers. `orgs` are those that are opened when no server does.
    ///
    /// # Errors
    /// No server where one is asked for; otherwise whatever keeps the data directory from being read.
    pub(super) async fn choose<'a>(
        config: &'a Config,
        global: &Global,
        orgs: impl FnOnce() -> Result<Vec<&'a OrgConfig>, ConfigErrors>,
    ) -> Result<Self, Failure> {
        let url = &config.client.server;
        let wish = Wish::of(global, config.client.is_other);
        if wish != Wish::Direct {
            let dial = Dial::prepare(&config.client)?;
            match Self::server(url, &dial).await {
                Ok(mut backend) => {
                    // A server may know other orgs than our configuration does: say which one was asked for.
                    if let [org] = global.org.as_slice() {
                        backend.name.push_str(&format!(", org \"{org}\""));
                    }
                    return Ok(backend);
                }
                Err(error) if wish == Wish::Server => return Err(error.into()),
                Err(error) => tracing::debug!(server = %url, reason = %format!("{error:#}"), "no server"),
            }
        }
        Self::direct(config, &orgs()?)
    }

    /// A server, and nothing else; `why` is told to whom asks for something else.
    ///
    /// # Errors
    /// None answers; or the command line asks for the data directory.
    pub(super) async fn server_only(config: &Config, global: &Global, why: &str) -> Result<Self, Failure> {
        if Wish::of(global, config.client.is_other) == Wish::Direct {
            return Err(Failure::Usage(anyhow!("{why}: leave --direct and --data-dir out")));
        }
        Ok(Self::server(&config.client.server, &Dial::prepare(&config.client)?).await?)
    }

    /// Whether a server answers.
    pub(super) const fn is_server(&self) -> bool {
        matches!(self.target, Target::Server(_))
    }

    /// Follows the changes, where a server answers.
    pub(super) async fn watch(&self, request: v1::WatchRequest) -> Result<Streaming<v1::WatchResponse>, Status> {
        match &self.target {
            Target::Server(client) => client.watch(request).await.map_err(status_of),
            Target::Direct(_) => Err(Status::unimplemented("only a server can be watched")),
        }
    }

    async fn server(url: &str, dial: &Dial) -> anyhow::Result<Self> {
        let unreachable =
            || format!("no okta-idmap server answers at {url}: start `okta-idmap serve`, or use --direct");
        let Dialled { channel, client } = dial.connect().await.with_context(unreachable)?;
        let patience = dial.patience;
        // Something else may listen there: only who knows the health service, or refuses it in gRPC's words, is one. The
        // token is not shown to anybody else.
        let mut health = HealthClient::new(channel);
        let asked = tokio::time::timeout(patience, health.check(HealthCheckRequest::default())).await;
        match asked.map_err(|_| anyhow!("it does not answer")).with_context(unreachable)? {
            Err(status) if status.code() != Code::NotFound => return Err(status_error(&status).context(unreachable())),
            _ => tracing::debug!(server = %url, "asking the server"),
        }
        Ok(Self { target: Target::Server(Box::new(client)), name: format!("server {url}") })
    }

    fn direct(config: &Config, orgs: &[&OrgConfig]) -> Result<Self, Failure> {
        let name = format!("data directory {}", config.data_dir.display());
        tracing::debug!(data_dir = %config.data_dir.display(), "reading directly");
        Ok(Self { target: Target::Direct(run::services(config, orgs)?), name })
    }

    /// Services of this process.
    pub(super) fn of_services(services: Services, name: String) -> Self {
        Self { target: Target::Direct(services), name }
    }

    /// What a refused call means for the command.
    pub(super) fn failed(&self, what: &str, status: &Status) -> Failure {
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let error = match &self.target {
            Target::Server(_) => status_error(status).context(format!("{what} ({})", self.name)),
            Target::Direct(_) => status_error(status).context(what.to_owned()),
        };
        let asked_wrongly = status.code() == Code::InvalidArgument
            || ErrorReason::from_reason(&reason) == Some(ErrorReason::OrgUnknown);
        if asked_wrongly { Failure::Usage(error) } else { Failure::Failed(error) }
    }
}

macro_rules! calls {
    ($($service:ident . $name:ident($request:ident) -> $response:ident: $what:literal,)*) => {
        impl Backend {
            $(
                #[doc = concat!("To ", $what, ".")]
                pub(super) async fn $name(&self, request: v1::$request) -> Result<v1::$response, Failure> {
                    let answer = match &self.target {
                        Target::Server(client) => client.$name(request).await.map_err(status_of),
                        Target::Direct(services) => {
                            services.$service.$name(Request::new(request)).await.map(tonic::Response::into_inner)
                        }
                    };
                    answer.map_err(|status| self.failed($what, &status))
                }
            )*
        }
    };
}

calls! {
    lookup.resolve_account(ResolveAccountRequest) -> ResolveAccountResponse: "resolve the account",
    lookup.batch_resolve(BatchResolveRequest) -> BatchResolveResponse: "resolve the accounts",
    lookup.resolve_acl(ResolveAclRequest) -> ResolveAclResponse: "resolve the access list",
    lookup.expand_user(ExpandUserRequest) -> ExpandUserResponse: "look up the user's principals",
    lookup.explain(ExplainRequest) -> ExplainResponse: "explain the answer",
    lookup.get_user(GetUserRequest) -> GetUserResponse: "look up the user",
    lookup.list_user_accounts(ListUserAccountsRequest) -> ListUserAccountsResponse: "list the user's accounts",
    lookup.list_user_groups(ListUserGroupsRequest) -> ListUserGroupsResponse: "list the user's groups",
    lookup.check_app_membership(CheckAppMembershipRequest) -> CheckAppMembershipResponse: "check the membership",
    lookup.list_apps(ListAppsRequest) -> ListAppsResponse: "list the apps",
    lookup.list_app_users(ListAppUsersRequest) -> ListAppUsersResponse: "list the app's accounts",
    lookup.list_app_groups(ListAppGroupsRequest) -> ListAppGroupsResponse: "list the app's groups",
    lookup.list_groups(ListGroupsRequest) -> ListGroupsResponse: "list the groups",
    lookup.list_group_members(ListGroupMembersRequest) -> ListGroupMembersResponse: "list the group's members",
    search.search(SearchRequest) -> SearchResponse: "search",
    search.suggest(SuggestRequest) -> SuggestResponse: "suggest users",
    coverage.get_status(GetStatusRequest) -> GetStatusResponse: "read the status",
    coverage.list_gaps(ListGapsRequest) -> ListGapsResponse: "list the gaps",
    coverage.list_scopes(ListScopesRequest) -> ListScopesResponse: "list the collections",
    coverage.list_ambiguities(ListAmbiguitiesRequest) -> ListAmbiguitiesResponse: "list the shared names",
    coverage.list_overrides(ListOverridesRequest) -> ListOverridesResponse: "list the overrides",
    coverage.list_quarantined(ListQuarantinedRequest) -> ListQuarantinedResponse: "list the quarantined records",
    changes.list_changes(ListChangesRequest) -> ListChangesResponse: "list the changes",
    admin.trigger_sync(TriggerSyncRequest) -> TriggerSyncResponse: "have it read again",
    admin.release_hold(ReleaseHoldRequest) -> ReleaseHoldResponse: "release the hold",
    admin.set_override(SetOverrideRequest) -> SetOverrideResponse: "set the override",
    admin.delete_override(DeleteOverrideRequest) -> DeleteOverrideResponse: "take the override back",
    admin.reindex(ReindexRequest) -> ReindexResponse: "build the search index anew",
}

/// The status that a call ended with.
fn status_of(error: ClientError) -> Status {
    match error.refusal() {
        Some(refusal) => refusal.status().clone(),
        None => Status::unavailable(error.to_string()),
    }
}

/// What a server said: its message, or the name of the code where it said nothing; which orgs there are where it asks.
fn status_error(status: &Status) -> anyhow::Error {
    let details = status.get_error_details();
    let mut text =
        if status.message().is_empty() { status.code().description().to_owned() } else { status.message().to_owned() };
    if let Some(orgs) = details.error_info().and_then(|info| info.metadata.get("orgs"))
        && !text.contains(orgs.as_str())
    {
        text.push_str(&format!("; name one with --org: {orgs}"));
    }
    let reason = ErrorReason::from_reason(details.error_info().map(|info| info.reason.as_str()).unwrap_or_default());
    match reason {
        Some(ErrorReason::PageTokenExpired) => text.push_str("; the list changed while it was read, run it again"),
        Some(ErrorReason::CredentialRequired) => {
            text.push_str("; the command line takes a token from client.token_file or --token-file");
        }
        Some(ErrorReason::IndexRebuilding) => text.push_str("; try again when it is done"),
        _ => {}
    }
    anyhow::Error::new(Refusal { text, reason })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::PathBuf;

    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn where_answers_come_from() {
        #[track_caller]
        fn check(is_other: bool, server: Option<&str>, direct: bool, data_dir: Option<&str>, expected: Wish) {
            let global = Global {
                server: server.map(str::to_owned),
                direct,
                data_dir: data_dir.map(PathBuf::from),
                ..Global::default()
            };
            assert_eq!(Wish::of(&global, is_other), expected);
        }
        check(false, None, false, None, Wish::Either);
        check(true, None, false, None, Wish::Server);
        check(true, None, true, None, Wish::Direct);
        check(true, None, false, Some("./d"), Wish::Direct);
        check(false, None, true, None, Wish::Direct);
        check(false, None, false, Some("./d"), Wish::Direct);
        check(false, Some("http://127.0.0.1:1"), false, None, Wish::Server);
        check(false, Some("http://127.0.0.1:1"), false, Some("./d"), Wish::Server);
    }

    #[test]
    fn what_a_server_says() {
        #[track_caller]
        fn check(code: Code, message: &str, reason: Option<(ErrorReason, &[(&str, &str)])>, expected: &str) {
            let mut details = ErrorDetails::new();
            if let Some((reason, metadata)) = reason {
                let metadata: HashMap<String, String> =
                    metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
                details.set_error_info(reason.reason(), "idmap.v1", metadata);
            }
            let status = Status::with_error_details(code, message, details);
            assert_eq!(status_error(&status).to_string(), expected);
        }
        check(Code::Internal, "", None, Code::Internal.description());
        check(Code::InvalidArgument, "page_size is negative", None, "page_size is negative");
        check(
            Code::InvalidArgument,
            "which org?",
            Some((ErrorReason::OrgRequired, &[("orgs", "a, b")])),
            "which org?; name one with --org: a, b",
        );
        check(
            Code::InvalidArgument,
            "which org: a, b",
            Some((ErrorReason::OrgRequired, &[("orgs", "a, b")])),
            "which org: a, b",
        );
        check(
            Code::FailedPrecondition,
            "page token expired",
            Some((ErrorReason::PageTokenExpired, &[])),
            "page token expired; the list changed while it was read, run it again",
        );
    }
}

//! Every rpc as a method. Entry points: [`Client::connect`], [`Client::lazy`].
//!
//! Invariants:
//! - Rpcs that only read are repeated as [`Retry`](super::Retry) says; those of `Admin` never.
//! - A list as a stream asks for a page when the one before was taken, and ends at a limit.

use std::time::Duration;

use futures_util::Stream;
use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::admin_client::AdminClient;
use okta_idmap_proto::v1::changes_client::ChangesClient;
use okta_idmap_proto::v1::coverage_client::CoverageClient;
use okta_idmap_proto::v1::lookup_client::LookupClient;
use okta_idmap_proto::v1::search_client::SearchClient;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::error::ClientError;
use super::options::Options;
use super::retry::Retry;
use super::wire::Wire;

/// A server. Cheap to clone: all clones share one connection, which comes back by itself when it has gone.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    retry: Retry,
    lookup: LookupClient<Wire>,
    search: SearchClient<Wire>,
    coverage: CoverageClient<Wire>,
    changes: ChangesClient<Wire>,
    admin: AdminClient<Wire>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Options`], [`ClientError::Unreachable`].
    pub async fn connect(options: &Options) -> Result<Self, ClientError> {
        let endpoint = options.endpoint()?;
        let unreachable = |source| ClientError::Unreachable { url: options.url().to_owned(), source };
        let connected = tokio::time::timeout(options.connect_wait(), endpoint.connect()).await;
        let channel = connected.map_err(|late| unreachable(late.into()))?.map_err(|error| unreachable(error.into()))?;
        Self::over(channel, options)
    }

    /// Connects when the first call is made. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError::Options`].
    pub fn lazy(options: &Options) -> Result<Self, ClientError> {
        Self::over(options.endpoint()?.connect_lazy(), options)
    }

    /// Over a connection that was made from these options.
    pub(crate) fn over(channel: Channel, options: &Options) -> Result<Self, ClientError> {
        let bearer = options.bearer()?;
        let (max, channel) = (RESPONSE_BYTES_MAX, || channel.clone());
        Ok(Self {
            url: options.url().to_owned(),
            retry: options.retry,
            lookup: LookupClient::with_interceptor(channel(), bearer.clone()).max_decoding_message_size(max),
            search: SearchClient::with_interceptor(channel(), bearer.clone()).max_decoding_message_size(max),
            coverage: CoverageClient::with_interceptor(channel(), bearer.clone()).max_decoding_message_size(max),
            changes: ChangesClient::with_interceptor(channel(), bearer.clone()).max_decoding_message_size(max),
            admin: AdminClient::with_interceptor(channel(), bearer).max_decoding_message_size(max),
        })
    }

    /// The address of the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Follows the changes of an org; ends when the server does, and is not resumed: that is what a
    /// [`Reflector`](super::Reflector) is for.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn watch(&self, request: v1::WatchRequest) -> Result<Streaming<v1::WatchResponse>, ClientError> {
        Ok(self.changes.clone().watch(request).await?.into_inner())
    }

    /// Resolves one account: who is `name` in `app`? The app is an id, a label or an integration name; the name is compared
    /// as every kind of name.
    ///
    /// # Errors
    /// [`ClientError::Refused`].
    pub async fn resolve(&self, app: &str, name: &str) -> Result<v1::ResolveAccountResponse, ClientError> {
        let request = v1::ResolveAccountRequest { account: Some(account(app, name)), ..Default::default() };
        self.resolve_account(request).await
    }

    /// What to do after a failed attempt: the wait before the next one.
    fn again(&self, attempt: u32, status: Status) -> Result<Duration, ClientError> {
        self.retry.wait(attempt, &status, fastrand::u64(..)).ok_or_else(|| status.into())
    }
}

/// An account by its app (an id, a label or an integration name) and its name there, compared as every kind of name.
pub(super) fn account(app: &str, name: &str) -> v1::AccountSelector {
    let selector = v1::app_selector::Selector::Any(app.to_owned());
    v1::AccountSelector {
        app: Some(v1::AppSelector { selector: Some(selector) }),
        identifier: Some(v1::Identifier { value: name.to_owned(), kind: v1::IdentifierKind::Unspecified.into() }),
    }
}

macro_rules! reads {
    ($($service:ident . $name:ident($request:ident) -> $response:ident: $what:literal,)*) => {
        impl Client {
            $(
                #[doc = concat!($what, ".\n\n# Errors\n[`ClientError::Refused`], after the repetitions of [`Retry`].")]
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$response, ClientError> {
                    let mut attempt = 1;
                    loop {
                        match self.$service.clone().$name(request.clone()).await {
                            Ok(answer) => return Ok(answer.into_inner()),
                            Err(status) => tokio::time::sleep(self.again(attempt, status)?).await,
                        }
                        attempt += 1;
                    }
                }
            )*
        }
    };
}

macro_rules! pages {
    ($($name:ident($request:ident) -> $response:ident as $pages:ident,)*) => {
        impl Client {
            $(
                #[doc = concat!(
                    "The pages of [`Client::", stringify!($name), "`], from the page token of the request on; after ",
                    "`pages_max` of them [`ClientError::TooManyPages`] if there are more."
                )]
                pub fn $pages(
                    &self,
                    request: v1::$request,
                    pages_max: usize,
                ) -> impl Stream<Item = Result<v1::$response, ClientError>> + Send + use<> {
                    let (client, mut request) = (self.clone(), request);
                    async_stream::try_stream! {
                        for _ in 0..pages_max {
                            let page = client.$name(request.clone()).await?;
                            request.page_token.clone_from(&page.next_page_token);
                            yield page;
                            if request.page_token.is_empty() {
                                return;
                            }
                        }
                        Err(ClientError::TooManyPages(pages_max))?;
                    }
                }
            )*
        }
    };
}

macro_rules! orders {
    ($($name:ident($request:ident) -> $response:ident: $what:literal,)*) => {
        impl Client {
            $(
                #[doc = concat!($what, ". Asked once.\n\n# Errors\n[`ClientError::Refused`].")]
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$response, ClientError> {
                    Ok(self.admin.clone().$name(request).await?.into_inner())
                }
            )*
        }
    };
}

reads! {
    lookup.resolve_account(ResolveAccountRequest) -> ResolveAccountResponse: "Who an account belongs to",
    lookup.batch_resolve(BatchResolveRequest) -> BatchResolveResponse: "The same of up to 1,000 accounts at one revision",
    lookup.resolve_acl(ResolveAclRequest) -> ResolveAclResponse: "The principals that a document is indexed with",
    lookup.expand_user(ExpandUserRequest) -> ExpandUserResponse: "The principals that a person searches with",
    lookup.explain(ExplainRequest) -> ExplainResponse: "How an answer came about",
    lookup.get_user(GetUserRequest) -> GetUserResponse: "A user",
    lookup.list_user_accounts(ListUserAccountsRequest) -> ListUserAccountsResponse: "A page of a user's accounts",
    lookup.list_user_groups(ListUserGroupsRequest) -> ListUserGroupsResponse: "A page of a user's groups",
    lookup.check_app_membership(CheckAppMembershipRequest) -> CheckAppMembershipResponse: "Whether a user is in an app or group",
    lookup.list_apps(ListAppsRequest) -> ListAppsResponse: "A page of the apps",
    lookup.list_app_users(ListAppUsersRequest) -> ListAppUsersResponse: "A page of an app's accounts",
    lookup.list_app_groups(ListAppGroupsRequest) -> ListAppGroupsResponse: "A page of an app's groups",
    lookup.list_groups(ListGroupsRequest) -> ListGroupsResponse: "A page of the groups",
    lookup.list_group_members(ListGroupMembersRequest) -> ListGroupMembersResponse: "A page of a group's members",
    search.search(SearchRequest) -> SearchResponse: "A page of hits",
    search.suggest(SuggestRequest) -> SuggestResponse: "People whose names begin like this",
    coverage.get_status(GetStatusRequest) -> GetStatusResponse: "How the server and its orgs are",
    coverage.list_gaps(ListGapsRequest) -> ListGapsResponse: "A page of the gaps",
    coverage.list_scopes(ListScopesRequest) -> ListScopesResponse: "A page of the collections",
    coverage.list_ambiguities(ListAmbiguitiesRequest) -> ListAmbiguitiesResponse: "A page of the names that several people have",
    coverage.list_quarantined(ListQuarantinedRequest) -> ListQuarantinedResponse: "A page of the records that could not be read",
    coverage.list_overrides(ListOverridesRequest) -> ListOverridesResponse: "A page of operators' overrides",
    changes.list_changes(ListChangesRequest) -> ListChangesResponse: "A page of changes",
}

pages! {
    list_user_accounts(ListUserAccountsRequest) -> ListUserAccountsResponse as user_account_pages,
    list_user_groups(ListUserGroupsRequest) -> ListUserGroupsResponse as user_group_pages,
    list_apps(ListAppsRequest) -> ListAppsResponse as app_pages,
    list_app_users(ListAppUsersRequest) -> ListAppUsersResponse as app_user_pages,
    list_app_groups(ListAppGroupsRequest) -> ListAppGroupsResponse as app_group_pages,
    list_groups(ListGroupsRequest) -> ListGroupsResponse as group_pages,
    list_group_members(ListGroupMembersRequest) -> ListGroupMembersResponse as group_member_pages,
    list_gaps(ListGapsRequest) -> ListGapsResponse as gap_pages,
    list_scopes(ListScopesRequest) -> ListScopesResponse as scope_pages,
    list_ambiguities(ListAmbiguitiesRequest) -> ListAmbiguitiesResponse as ambiguity_pages,
    list_quarantined(ListQuarantinedRequest) -> ListQuarantinedResponse as quarantined_pages,
    list_overrides(ListOverridesRequest) -> ListOverridesResponse as override_pages,
    list_changes(ListChangesRequest) -> ListChangesResponse as change_pages,
}

orders! {
    trigger_sync(TriggerSyncRequest) -> TriggerSyncResponse: "Reads something from Okta now",
    release_hold(ReleaseHoldRequest) -> ReleaseHoldResponse: "Lets rows go that the deletion brake holds",
    set_override(SetOverrideRequest) -> SetOverrideResponse: "Decides who a name is",
    delete_override(DeleteOverrideRequest) -> DeleteOverrideResponse: "Takes such a decision back",
    reindex(ReindexRequest) -> ReindexResponse: "Builds the search index anew",
}

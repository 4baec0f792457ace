//! What requests have in common: a context, and for lists a page.
//!
//! Entry points: [`Asked`], [`Listed`].

use std::sync::Arc;

use okta_idmap_proto::v1;
use prost::Message;

/// A request with a context.
pub(super) trait Asked {
    /// The caller's demands.
    fn context(&self) -> Option<&v1::RequestContext>;
}

impl<Q: Asked> Asked for Arc<Q> {
    fn context(&self) -> Option<&v1::RequestContext> {
        Q::context(self)
    }
}

/// A request of a paged rpc.
pub(super) trait Listed: Asked {
    /// Page size and token as sent.
    fn page(&self) -> (i32, &str);

    /// The query alone, encoded: what a page token is bound to.
    fn query(&self) -> Vec<u8>;
}

macro_rules! asked {
    ($($request:ident),* $(,)?) => {$(
        impl Asked for v1::$request {
            fn context(&self) -> Option<&v1::RequestContext> {
                self.context.as_ref()
            }
        }
    )*};
}

macro_rules! listed {
    ($($request:ident),* $(,)?) => {$(
        impl Listed for v1::$request {
            fn page(&self) -> (i32, &str) {
                (self.page_size, &self.page_token)
            }

            fn query(&self) -> Vec<u8> {
                let query = Self { context: None, page_size: 0, page_token: String::new(), ..self.clone() };
                query.encode_to_vec()
            }
        }
    )*};
}

asked!(
    ResolveAccountRequest,
    BatchResolveRequest,
    ResolveAclRequest,
    ExpandUserRequest,
    ExplainRequest,
    GetUserRequest,
    CheckAppMembershipRequest,
    ListUserAccountsRequest,
    ListUserGroupsRequest,
    ListAppsRequest,
    ListAppUsersRequest,
    ListGroupsRequest,
    ListGroupMembersRequest,
    ListAppGroupsRequest,
    SearchRequest,
    SuggestRequest,
    GetStatusRequest,
    ListGapsRequest,
    ListScopesRequest,
    ListQuarantinedRequest,
    ListAmbiguitiesRequest,
    ListOverridesRequest,
    ListChangesRequest,
);

listed!(
    ListUserAccountsRequest,
    ListUserGroupsRequest,
    ListAppsRequest,
    ListAppUsersRequest,
    ListGroupsRequest,
    ListGroupMembersRequest,
    ListAppGroupsRequest,
    SearchRequest,
    ListGapsRequest,
    ListScopesRequest,
    ListQuarantinedRequest,
    ListAmbiguitiesRequest,
    ListOverridesRequest,
    ListChangesRequest,
);

//! The service `Lookup`: which rpc is answered by which function, and how.
//!
//! Entry point: [`LookupService`]. Point look-ups run in the task of the call, lists and large batches on blocking threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use okta_idmap_proto::limits::{BATCH_ITEMS_MAX, CORRELATION_ID_BYTES_MAX, GAP_IDS_MAX, ITEM_GAP_IDS_MAX};
use okta_idmap_proto::v1::{self, lookup_server::Lookup};
use tonic::{Request, Response, Status, async_trait};

use super::ask::Ask;
use super::encoded::{Encoded, Results};
use super::errors::Failure;
use super::gaps::Gaps;
use super::resolution::{AccountQuery, Wanted, resolve_account};
use super::{Pointed, Services};
use super::{acl, explain, lists, membership, subjects};

/// Items of a batch up to which it is answered in the task of the call: about a millisecond. Longer ones would delay what
/// else runs on that thread.
const INLINE_ITEMS_MAX: usize = 50;

/// Items of a batch that are worth a thread of their own: half a millisecond or more.
const THREAD_ITEMS_MIN: usize = 100;

/// Pairs of a group and an app up to which a user is expanded in the task of the call: nearly everybody.
const INLINE_WAYS_MAX: usize = 1_000;

/// The service `Lookup`.
#[derive(Clone, Debug)]
pub struct LookupService(pub(super) Services);

fn resolve(ask: &Ask<'_>, request: &v1::ResolveAccountRequest) -> Result<v1::ResolveAccountResponse, Failure> {
    let query = AccountQuery::read(request.account.as_ref())?;
    let wanted = Wanted {
        candidates: request.include_candidates,
        granting_groups: request.include_granting_groups,
        gap_ids_max: GAP_IDS_MAX,
    };
    let resolved = resolve_account(ask, &query, wanted)?;
    Ok(v1::ResolveAccountResponse { meta: Some(ask.meta(&resolved.gaps)), resolution: Some(resolved.resolution) })
}

fn check_batch(request: &v1::BatchResolveRequest) -> Result<(), Failure> {
    if request.items.len() > BATCH_ITEMS_MAX {
        return Err(Failure::TooManyItems { field: "items", found: request.items.len(), max: BATCH_ITEMS_MAX });
    }
    Ok(())
}

fn batch(ask: &Ask<'_>, request: &Arc<v1::BatchResolveRequest>) -> Result<Encoded, Failure> {
    check_batch(request)?;
    let wanted = Wanted {
        candidates: request.include_candidates,
        granting_groups: request.include_granting_groups,
        gap_ids_max: ITEM_GAP_IDS_MAX,
    };
    // Of all parts, so that none goes on once the answer is too long.
    let bytes = AtomicUsize::new(0);
    let parts = ask.in_parts(
        request,
        |request| &request.items,
        THREAD_ITEMS_MIN,
        move |ask, items| batch_part(ask, items, wanted, &bytes),
    )?;
    let mut gaps = Gaps::default();
    let mut results = Vec::with_capacity(parts.len());
    for part in parts {
        gaps.merge(part.gaps);
        results.push(part.results);
    }
    let answer = Encoded::batch(&ask.meta(&gaps), results);
    if answer.encoded_len() > RESPONSE_BYTES_MAX { Err(Failure::ResponseTooLarge) } else { Ok(answer) }
}

/// Results of some items of a batch, in their order.
struct BatchPart {
    gaps: Gaps,
    results: Results,
}

fn batch_part(
    ask: &Ask<'_>,
    items: &[v1::BatchResolveItem],
    wanted: Wanted,
    bytes: &AtomicUsize,
) -> Result<BatchPart, Failure> {
    use v1::batch_resolve_result::Result as Answer;
    let mut part = BatchPart { gaps: Gaps::default(), results: Results::default() };
    for item in items {
        let (correlation_id, answer) = match resolve_item(ask, item, wanted) {
            Ok(resolved) => {
                part.gaps.merge(resolved.gaps);
                (item.correlation_id.clone(), Answer::Resolution(resolved.resolution))
            }
            // What is wrong with one item is its own; what is wrong with the store is everybody's.
            Err(failure @ (Failure::Store(_) | Failure::NotServing(_))) => return Err(failure),
            Err(failure) => (cut(&item.correlation_id), Answer::Error(failure.item())),
        };
        let before = part.results.len();
        part.results.push(&v1::BatchResolveResult { correlation_id, result: Some(answer) });
        let more = part.results.len() - before;
        if bytes.fetch_add(more, Ordering::Relaxed) + more > RESPONSE_BYTES_MAX {
            return Err(Failure::ResponseTooLarge);
        }
    }
    Ok(part)
}

fn resolve_item(
    ask: &Ask<'_>,
    item: &v1::BatchResolveItem,
    wanted: Wanted,
) -> Result<super::resolution::Resolved, Failure> {
    if item.correlation_id.len() > CORRELATION_ID_BYTES_MAX {
        let detail = format!("longer than {CORRELATION_ID_BYTES_MAX} bytes");
        return Err(Failure::FieldInvalid { field: "items.correlation_id", detail });
    }
    resolve_account(ask, &AccountQuery::read(item.account.as_ref())?, wanted)
}

/// As much of a correlation id as may be returned.
fn cut(correlation_id: &str) -> String {
    correlation_id[..correlation_id.floor_char_boundary(CORRELATION_ID_BYTES_MAX)].to_owned()
}

fn resolve_acl(ask: &Ask<'_>, request: &v1::ResolveAclRequest) -> Result<v1::ResolveAclResponse, Failure> {
    acl::resolve_acl(ask, request)
}

fn expand_user_whole(ask: &Ask<'_>, request: &v1::ExpandUserRequest) -> Result<v1::ExpandUserResponse, Failure> {
    acl::expand_user_whole(ask, request)
}

impl LookupService {
    /// `ResolveAccount`, answered as bytes.
    ///
    /// # Errors
    /// Those of the rpc.
    pub async fn resolve_account_encoded(
        self,
        request: Request<v1::ResolveAccountRequest>,
    ) -> Result<Response<Encoded>, Status> {
        self.resolve_account_at_once(request).await
    }

    /// The same; mostly it is there already.
    pub(super) fn resolve_account_at_once(&self, request: Request<v1::ResolveAccountRequest>) -> Pointed<Encoded> {
        let answer = |ask: &Ask<'_>, request: &_| resolve(ask, request).map(|answer| Encoded::of(&answer));
        self.0.point("Lookup.ResolveAccount", request, answer)
    }

    /// `BatchResolve`, answered as bytes.
    pub(super) fn batch_resolve_at_once(&self, request: Request<v1::BatchResolveRequest>) -> Pointed<Encoded> {
        Pointed::Right(Box::pin(self.clone().batch_resolve_encoded(request)))
    }

    /// `BatchResolve`, answered as bytes.
    ///
    /// # Errors
    /// Those of the rpc.
    pub async fn batch_resolve_encoded(
        self,
        request: Request<v1::BatchResolveRequest>,
    ) -> Result<Response<Encoded>, Status> {
        // Threads that answer parts of it share it.
        let request = request.map(Arc::new);
        // No thread is taken for what will be refused.
        if request.get_ref().items.len() <= INLINE_ITEMS_MAX || check_batch(request.get_ref()).is_err() {
            return self.0.point("Lookup.BatchResolve", request, batch).await;
        }
        self.0.scan("Lookup.BatchResolve", request, batch).await
    }
}

#[async_trait]
impl Lookup for LookupService {
    async fn resolve_account(
        &self,
        request: Request<v1::ResolveAccountRequest>,
    ) -> Result<Response<v1::ResolveAccountResponse>, Status> {
        self.0.point("Lookup.ResolveAccount", request, resolve).await
    }

    async fn batch_resolve(
        &self,
        request: Request<v1::BatchResolveRequest>,
    ) -> Result<Response<v1::BatchResolveResponse>, Status> {
        // Over a network its bytes are answered as they are.
        let answer = self.batch_resolve_at_once(request).await?;
        Ok(Response::new(answer.get_ref().message()?))
    }

    async fn resolve_acl(
        &self,
        request: Request<v1::ResolveAclRequest>,
    ) -> Result<Response<v1::ResolveAclResponse>, Status> {
        if request.get_ref().entries.len() <= INLINE_ITEMS_MAX || acl::check_entries(request.get_ref()).is_err() {
            return self.0.point("Lookup.ResolveAcl", request, resolve_acl).await;
        }
        self.0.scan("Lookup.ResolveAcl", request, resolve_acl).await
    }

    async fn expand_user(
        &self,
        request: Request<v1::ExpandUserRequest>,
    ) -> Result<Response<v1::ExpandUserResponse>, Status> {
        let again = request.get_ref().clone();
        let expand = |ask: &Ask<'_>, request: &_| acl::expand_user(ask, request, INLINE_WAYS_MAX);
        if let Some(answer) = self.0.point("Lookup.ExpandUser", request, expand).await?.into_inner() {
            return Ok(Response::new(answer));
        }
        self.0.scan("Lookup.ExpandUser", Request::new(again), expand_user_whole).await
    }

    async fn get_user(&self, request: Request<v1::GetUserRequest>) -> Result<Response<v1::GetUserResponse>, Status> {
        self.0.point("Lookup.GetUser", request, subjects::get_user).await
    }

    async fn list_user_accounts(
        &self,
        request: Request<v1::ListUserAccountsRequest>,
    ) -> Result<Response<v1::ListUserAccountsResponse>, Status> {
        self.0.scan("Lookup.ListUserAccounts", request, lists::user_accounts).await
    }

    async fn list_user_groups(
        &self,
        request: Request<v1::ListUserGroupsRequest>,
    ) -> Result<Response<v1::ListUserGroupsResponse>, Status> {
        self.0.scan("Lookup.ListUserGroups", request, lists::user_groups).await
    }

    async fn check_app_membership(
        &self,
        request: Request<v1::CheckAppMembershipRequest>,
    ) -> Result<Response<v1::CheckAppMembershipResponse>, Status> {
        self.0.point("Lookup.CheckAppMembership", request, membership::check_membership).await
    }

    async fn list_apps(&self, request: Request<v1::ListAppsRequest>) -> Result<Response<v1::ListAppsResponse>, Status> {
        self.0.scan("Lookup.ListApps", request, lists::apps).await
    }

    async fn list_app_users(
        &self,
        request: Request<v1::ListAppUsersRequest>,
    ) -> Result<Response<v1::ListAppUsersResponse>, Status> {
        self.0.scan("Lookup.ListAppUsers", request, lists::app_users).await
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        self.0.scan("Lookup.ListGroups", request, lists::groups).await
    }

    async fn list_group_members(
        &self,
        request: Request<v1::ListGroupMembersRequest>,
    ) -> Result<Response<v1::ListGroupMembersResponse>, Status> {
        self.0.scan("Lookup.ListGroupMembers", request, lists::group_members).await
    }

    async fn list_app_groups(
        &self,
        request: Request<v1::ListAppGroupsRequest>,
    ) -> Result<Response<v1::ListAppGroupsResponse>, Status> {
        self.0.scan("Lookup.ListAppGroups", request, lists::app_groups).await
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Result<Response<v1::ExplainResponse>, Status> {
        self.0.scan("Lookup.Explain", request, explain::explain).await
    }
}

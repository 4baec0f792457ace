//! The service `Coverage`: how an org is doing, and what could not be read.
//!
//! Entry point: [`CoverageService`].
//!
//! Invariants:
//! - These rpcs always answer, however old the store: of the context they mind the org only.
//! - Every gap that any answer names is listed here under the same id, also those that no read has recorded: collections
//!   that were never read to their end, and users whom no list shows.

mod ambiguity_list;
mod gap_list;
mod org_status;
mod override_list;
mod quarantine_list;
mod scope_list;
mod template_list;

pub(crate) use self::gap_list::kind_to_proto;
pub(super) use self::gap_list::{forgotten_gap, gaps_by_id};
pub(super) use self::org_status::{get_status, index_status};
pub(super) use self::scope_list::{ScopeStates, count_by_state};

use okta_idmap_proto::v1::{self, coverage_server::Coverage};
use tonic::{Request, Response, Status, async_trait};

use super::ask::{Ask, Call};
use super::errors::Failure;
use super::requests::Asked;
use super::{CallLog, Services};

/// Accounts or users that are compared for one page of ambiguities.
const COMPARED_MAX: usize = 3_000;

/// The service `Coverage`.
#[derive(Clone, Debug)]
pub struct CoverageService(pub(super) Services);

impl CoverageService {
    async fn scan<Q: Asked + Send + 'static, R: Send + 'static>(
        &self,
        rpc: &'static str,
        request: Request<Q>,
        answer: impl FnOnce(&Ask<'_>, &Q) -> Result<R, Failure> + Send + 'static,
    ) -> Result<Response<R>, Status> {
        let log = CallLog::start(rpc, &request);
        let request = request.into_inner();
        let call = match Call::begin_undemanding(&self.0, request.context()) {
            Ok(call) => call,
            Err(failure) => return log.refuse(&failure),
        };
        let answered = call.scan(move |ask| answer(ask, &request)).await;
        log.finish(&call, answered)
    }
}

#[async_trait]
impl Coverage for CoverageService {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let org_names = self.0.orgs().names();
        self.scan("Coverage.GetStatus", request, move |ask, _| get_status(ask, org_names)).await
    }

    async fn list_scopes(
        &self,
        request: Request<v1::ListScopesRequest>,
    ) -> Result<Response<v1::ListScopesResponse>, Status> {
        self.scan("Coverage.ListScopes", request, scope_list::list_scopes).await
    }

    async fn list_gaps(&self, request: Request<v1::ListGapsRequest>) -> Result<Response<v1::ListGapsResponse>, Status> {
        self.scan("Coverage.ListGaps", request, gap_list::list_gaps).await
    }

    async fn list_ambiguities(
        &self,
        request: Request<v1::ListAmbiguitiesRequest>,
    ) -> Result<Response<v1::ListAmbiguitiesResponse>, Status> {
        self.scan("Coverage.ListAmbiguities", request, ambiguity_list::list_ambiguities).await
    }

    async fn list_quarantined(
        &self,
        request: Request<v1::ListQuarantinedRequest>,
    ) -> Result<Response<v1::ListQuarantinedResponse>, Status> {
        self.scan("Coverage.ListQuarantined", request, quarantine_list::list_quarantined).await
    }

    async fn list_overrides(
        &self,
        request: Request<v1::ListOverridesRequest>,
    ) -> Result<Response<v1::ListOverridesResponse>, Status> {
        self.scan("Coverage.ListOverrides", request, override_list::list_overrides).await
    }
}

//! Services that are described and not made yet: every rpc says so.
//!
//! Entry points: [`ChangesService`], [`AdminService`].

use futures_util::stream::Empty;
use okta_idmap_proto::v1::{self, admin_server::Admin, changes_server::Changes};
use tonic::{Request, Response, Status, async_trait};

use super::Services;

/// The service `Changes`.
#[derive(Clone, Debug)]
pub struct ChangesService(pub(super) Services);

#[async_trait]
impl Changes for ChangesService {
    type WatchStream = Empty<Result<v1::WatchResponse, Status>>;

    async fn watch(&self, _request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.0.unimplemented("Changes.Watch")
    }

    async fn list_changes(
        &self,
        _request: Request<v1::ListChangesRequest>,
    ) -> Result<Response<v1::ListChangesResponse>, Status> {
        self.0.unimplemented("Changes.ListChanges")
    }
}

/// The service `Admin`.
#[derive(Clone, Debug)]
pub struct AdminService(pub(super) Services);

#[async_trait]
impl Admin for AdminService {
    async fn trigger_sync(
        &self,
        _request: Request<v1::TriggerSyncRequest>,
    ) -> Result<Response<v1::TriggerSyncResponse>, Status> {
        self.0.unimplemented("Admin.TriggerSync")
    }

    async fn release_hold(
        &self,
        _request: Request<v1::ReleaseHoldRequest>,
    ) -> Result<Response<v1::ReleaseHoldResponse>, Status> {
        self.0.unimplemented("Admin.ReleaseHold")
    }

    async fn reindex(&self, _request: Request<v1::ReindexRequest>) -> Result<Response<v1::ReindexResponse>, Status> {
        self.0.unimplemented("Admin.Reindex")
    }
}

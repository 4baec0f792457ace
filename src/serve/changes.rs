//! The service `Changes`: what changed since a revision, as a stream and by polling.
//!
//! Entry point: [`ChangesService`].
//!
//! | part | what it is |
//! |---|---|
//! | `lines` | decisions: what a piece of the log becomes, whether a start can be served |
//! | `rows` | events from the store |
//! | `resolution` | what answers are made of beside the rows |
//! | `watch`, `rounds` | the stream; what several streams read together |
//! | `list` | the pages |
//! | `export` | everything at one revision, for a process that has the store |

mod export;
mod lines;
mod list;
mod resolution;
mod rounds;
mod rows;
mod watch;

use std::sync::Arc;

use okta_idmap_proto::v1::{self, changes_server::Changes};
use tonic::{Request, Response, Status, async_trait};

pub use self::export::{ExportError, ExportPart, export};
pub(super) use self::rounds::Rounds;
use self::rows::{Start, begin, read_kinds};
use self::watch::{Opening, WatchStream};
use super::ask::Call;
use super::errors::Failure;
use super::{CallLog, Services};
use crate::core::coverage::GapId;
use crate::core::ids::Revision;
use crate::store::{Snapshot, StoreError};

/// Streams of one process at once, over all orgs and connections, unless the settings say otherwise. An idle one costs some
/// twenty KiB and a message a second; all of them together keep a core busy for a few percent.
pub const STREAMS_MAX: usize = 1_000;

/// The service `Changes`.
#[derive(Clone, Debug)]
pub struct ChangesService(pub(super) Services);

impl ChangesService {
    async fn open(&self, call: &Call, request: &v1::WatchRequest, connection: u64) -> Result<WatchStream, Failure> {
        let start = Start::read(request.start.as_ref())?;
        let kinds = read_kinds(&request.kinds)?;
        let drain = self.0.drain().clone();
        if drain.is_cancelled() {
            return Err(Failure::NotServing(None));
        }
        let permit = Arc::clone(self.0.streams()).try_acquire_owned().map_err(|_| Failure::Overloaded)?;
        let begin = call.scan(move |ask| begin(ask, &start)).await?;
        let (clock, phase, for_resolution) = (self.0.clock(), watch::phase_of(connection), request.for_resolution);
        let call = call.undemanding();
        Ok(watch::stream(Opening { call, begin, kinds, for_resolution, permit, drain, clock, phase }))
    }
}

#[async_trait]
impl Changes for ChangesService {
    type WatchStream = WatchStream;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let log = CallLog::start("Changes.Watch", &request);
        let request = request.into_inner();
        let call = match Call::begin(&self.0, request.context.as_ref()) {
            Ok(call) => call,
            Err(failure) => return log.refuse(&failure),
        };
        let opened = self.open(&call, &request, log.caller.connection()).await;
        log.finish(&call, opened)
    }

    async fn list_changes(
        &self,
        request: Request<v1::ListChangesRequest>,
    ) -> Result<Response<v1::ListChangesResponse>, Status> {
        self.0.scan("Changes.ListChanges", request, list::list_changes).await
    }
}

/// Gaps that were opened or closed after a revision, in order.
fn gap_changes(snapshot: &Snapshot<'_>, after: Revision, limit: usize) -> Result<Vec<(Revision, GapId)>, StoreError> {
    let changes = snapshot.gap_changes_after(after, limit)?;
    Ok(changes.into_iter().map(|change| (change.revision, GapId::of(change.kind, &change.scope))).collect())
}

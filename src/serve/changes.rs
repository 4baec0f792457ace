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
use self::lines::Kinds;
pub(super) use self::resolution::PolicyHash;
pub(crate) use self::resolution::coverage_changes;
pub(super) use self::rounds::Rounds;
use self::rows::{Start, begin, read_kinds};
use self::watch::{Opening, WatchStream};
use super::ask::Call;
use super::errors::Failure;
use super::gate::Caller;
use super::{CallLog, Services};
use crate::core::access::Role;
use crate::core::coverage::GapId;
use crate::core::ids::Revision;
use crate::store::{Snapshot, StoreError};

/// Streams of one process at once, over all orgs and connections, unless the settings say otherwise. An idle one costs
/// about 13 KiB and a message a second; 10,000 of them keep an eighth of a core busy.
pub const STREAMS_MAX: usize = 1_000;

/// The service `Changes`.
#[derive(Clone, Debug)]
pub struct ChangesService(pub(super) Services);

impl ChangesService {
    async fn open(&self, call: &Call, request: &v1::WatchRequest, caller: &Caller) -> Result<WatchStream, Failure> {
        let start = Start::read(request.start.as_ref())?;
        let kinds = read_kinds(&request.kinds)?;
        if request.for_resolution {
            check_resolution(caller.role, &kinds)?;
        }
        let drain = self.0.drain().clone();
        if drain.is_cancelled() {
            return Err(Failure::NotServing(None));
        }
        let permit = Arc::clone(self.0.streams()).try_acquire_owned().map_err(|_| Failure::Overloaded)?;
        let answers = request.for_resolution;
        let begin = call.scan(move |ask| begin(ask, &start, answers)).await?;
        let (clock, phase, for_resolution) =
            (self.0.clock(), watch::phase_of(caller.connection()), request.for_resolution);
        let call = call.undemanding();
        Ok(watch::stream(Opening { call, begin, kinds, for_resolution, permit, drain, clock, phase }))
    }
}

/// Whether everything may be told that answers are made of: names that people had before are for those who may see explanations.
fn check_resolution(role: Role, kinds: &Kinds) -> Result<(), Failure> {
    if role < Role::Explain {
        return Err(Failure::RoleRequired { role: Role::Explain.name(), caller: role.name() });
    }
    if !kinds.0.is_empty() {
        let detail = "answers are made of rows of all kinds: leave it empty, or for_resolution out".to_owned();
        return Err(Failure::FieldInvalid { field: "kinds", detail });
    }
    Ok(())
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
        let opened = self.open(&call, &request, &log.caller).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Kind;

    #[test]
    fn copies_that_answer_need_a_role_and_all_kinds() {
        #[track_caller]
        fn check(role: Role, kinds: &[lines::Told], expected: &str) {
            let found = check_resolution(role, &Kinds(kinds.to_vec()));
            assert_eq!(found.as_ref().map_or_else(Failure::name, |()| "OK"), expected);
        }
        check(Role::Read, &[], "ROLE_REQUIRED");
        check(Role::Explain, &[], "OK");
        check(Role::Admin, &[], "OK");
        check(Role::Explain, &[lines::Told::Row(Kind::User)], "FIELD_INVALID");
    }
}

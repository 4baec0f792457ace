//! The service `Admin`: what operators may start.
//!
//! Entry point: [`AdminService`].
//!
//! Invariants:
//! - Every call that gets here is logged with its caller and its outcome at the level info. That the caller has the role is
//!   seen to by `gate`.
//! - Nothing here changes the store: the engine does, or nobody.
//! - What is logged are ids and reasons, no names of accounts.

use std::collections::BTreeSet;

use okta_idmap_proto::limits::ID_BYTES_MAX;
use okta_idmap_proto::v1::{self, admin_server::Admin, row_key, trigger_sync_request};
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

use super::ask::{Ask, Call};
use super::control::{Control, ReadOutcome, ReleaseRefusal};
use super::coverage::{gaps_by_id, index_status};
use super::errors::Failure;
use super::gaps::{Wide, unseen_user_of};
use super::gate::Caller;
use super::overrides::{SetOrder, Tried, name_of, override_row, refusal, user_of};
use super::{CallLog, Services, door};
use crate::core::coverage::{GapId, GapKind};
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::{Kind, Scope};
use crate::core::overrides::OverrideName;
use crate::core::pending::Target;

/// The service `Admin`.
#[derive(Clone, Debug)]
pub struct AdminService(pub(super) Services);

impl AdminService {
    /// Begins a call, and logs how it ended.
    async fn logged<R>(
        &self,
        rpc: &'static str,
        caller: Caller,
        context: Option<&v1::RequestContext>,
        what: String,
        answer: impl AsyncFnOnce(&Call) -> Result<R, Failure>,
    ) -> Result<Response<R>, Status> {
        let peer = caller.peer();
        // Logged here, whether look-ups are or not.
        let log = CallLog { rpc, started: Instant::now(), caller: Caller { is_audited: false, ..caller } };
        let caller = log.caller.name();
        let call = match Call::begin_undemanding(&self.0, context) {
            Ok(call) => call,
            Err(failure) => {
                tracing::info!(rpc, caller, peer, what, outcome = failure.name(), "admin call");
                return log.refuse(&failure);
            }
        };
        let answered = answer(&call).await;
        let outcome = answered.as_ref().map_or_else(Failure::name, |_| "OK");
        tracing::info!(rpc, org = call.view().name(), caller, peer, what, outcome, "admin call");
        log.finish(&call, answered)
    }
}

/// The way to the engine.
fn control(call: &Call) -> Result<&Control, Failure> {
    call.view().control().ok_or(Failure::NoEngine)
}

#[async_trait]
impl Admin for AdminService {
    async fn trigger_sync(
        &self,
        request: Request<v1::TriggerSyncRequest>,
    ) -> Result<Response<v1::TriggerSyncResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let target = read_target(request.target.as_ref());
        let what = target.as_ref().map_or_else(|_| String::new(), Target::name);
        self.logged("Admin.TriggerSync", caller, request.context.as_ref(), what, async |call| {
            trigger_sync(call, target?).await
        })
        .await
    }

    async fn release_hold(
        &self,
        request: Request<v1::ReleaseHoldRequest>,
    ) -> Result<Response<v1::ReleaseHoldResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        // Not what was sent: only what was understood goes into the log.
        let what = held_scope(&request.gap_id).map_or_else(String::new, |scope| scope.name());
        self.logged("Admin.ReleaseHold", caller, request.context.as_ref(), what, async |call| {
            release_hold(call, &request).await
        })
        .await
    }

    async fn reindex(&self, request: Request<v1::ReindexRequest>) -> Result<Response<v1::ReindexResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        self.logged("Admin.Reindex", caller, request.context.as_ref(), String::new(), async |call| reindex(call).await)
            .await
    }

    async fn set_override(
        &self,
        request: Request<v1::SetOverrideRequest>,
    ) -> Result<Response<v1::SetOverrideResponse>, Status> {
        let (caller, request) = (Caller::of(&request), request.into_inner());
        undropped(self.clone().set(caller, request)).await
    }

    async fn delete_override(
        &self,
        request: Request<v1::DeleteOverrideRequest>,
    ) -> Result<Response<v1::DeleteOverrideResponse>, Status> {
        let (caller, request) = (Caller::of(&request), request.into_inner());
        undropped(self.clone().delete(caller, request)).await
    }
}

/// Goes on to its end, also when the client hangs up meanwhile: what is decided is logged.
#[expect(
    clippy::disallowed_methods,
    reason = "its end is waited for, unless the caller goes, and then nobody is to end it"
)]
async fn undropped<R: Send + 'static>(
    call: impl Future<Output = Result<R, Status>> + Send + 'static,
) -> Result<R, Status> {
    match tokio::spawn(call).await {
        Ok(answered) => answered,
        Err(error) => {
            tracing::error!(%error, "an admin call broke off");
            Err(Failure::BrokenOff.status())
        }
    }
}

impl AdminService {
    async fn set(
        self,
        caller: Caller,
        request: v1::SetOverrideRequest,
    ) -> Result<Response<v1::SetOverrideResponse>, Status> {
        let rpc = "Admin.SetOverride";
        let order = SetOrder::read(&request, self.0.now());
        let mut tried = Tried::of(request.account.as_ref(), &request.user_id).with(order.as_ref().ok());
        let call = self.begin(rpc, &caller, request.context.as_ref(), &tried)?;
        let answered = self.set_override_of(&call, order, request.account, &creator(&caller), &mut tried).await;
        finish(rpc, caller, &call, &tried, answered)
    }

    async fn delete(
        self,
        caller: Caller,
        request: v1::DeleteOverrideRequest,
    ) -> Result<Response<v1::DeleteOverrideResponse>, Status> {
        let rpc = "Admin.DeleteOverride";
        let mut tried = Tried::of(request.account.as_ref(), "");
        let call = self.begin(rpc, &caller, request.context.as_ref(), &tried)?;
        let answered = self.delete_override_of(&call, request.account, &mut tried).await;
        finish(rpc, caller, &call, &tried, answered)
    }

    fn begin(
        &self,
        rpc: &'static str,
        caller: &Caller,
        context: Option<&v1::RequestContext>,
        tried: &Tried,
    ) -> Result<Call, Status> {
        Call::begin_undemanding(&self.0, context).map_err(|failure| {
            tried.tell(rpc, "", caller, failure.name());
            failure.status()
        })
    }

    async fn set_override_of(
        &self,
        call: &Call,
        order: Result<SetOrder, Failure>,
        account: Option<v1::AccountSelector>,
        creator: &str,
        tried: &mut Tried,
    ) -> Result<v1::SetOverrideResponse, Failure> {
        let (order, control) = (order?, control(call)?);
        let (name, before) = about(call, account, false, tried).await?;
        let record = control.set_override(order.setting(name, creator)).await?.map_err(refusal)?;
        tried.done(&record);
        let row = override_row(&record, self.0.now(), true);
        let meta = call.scan(org_meta).await.unwrap_or(before);
        Ok(v1::SetOverrideResponse { meta: Some(meta), operator_override: Some(row) })
    }

    async fn delete_override_of(
        &self,
        call: &Call,
        account: Option<v1::AccountSelector>,
        tried: &mut Tried,
    ) -> Result<v1::DeleteOverrideResponse, Failure> {
        let control = control(call)?;
        let (name, before) = about(call, account, true, tried).await?;
        let about = name.clone();
        let record = control.delete_override(name).await?.map_err(refusal)?;
        tried.is_about(&about, Some(record.entry.user.clone()));
        tried.done(&record);
        let row = override_row(&record, self.0.now(), true);
        let meta = call.scan(org_meta).await.unwrap_or(before);
        Ok(v1::DeleteOverrideResponse { meta: Some(meta), operator_override: Some(row) })
    }
}

/// What an order is about, and the meta data of before: for an answer when there is no better one, since what is stored must
/// not be told as failed.
async fn about(
    call: &Call,
    account: Option<v1::AccountSelector>,
    may_be_gone: bool,
    tried: &mut Tried,
) -> Result<(OverrideName, v1::ResponseMeta), Failure> {
    let read = move |ask: &Ask<'_>| {
        let name = name_of(ask, account.as_ref(), may_be_gone)?;
        let former = user_of(ask, &name)?;
        Ok((name, former, org_meta(ask)?))
    };
    let (name, former, meta) = call.scan(read).await?;
    tried.is_about(&name, former);
    Ok((name, meta))
}

fn finish<R>(
    rpc: &'static str,
    caller: Caller,
    call: &Call,
    tried: &Tried,
    answered: Result<R, Failure>,
) -> Result<Response<R>, Status> {
    tried.tell(rpc, call.view().name(), &caller, answered.as_ref().map_or_else(Failure::name, |_| "OK"));
    // Logged here, whether look-ups are or not.
    let caller = Caller { is_audited: false, ..caller };
    CallLog { rpc, started: Instant::now(), caller }.finish(call, answered)
}

/// Who a decision is kept as the one of.
fn creator(caller: &Caller) -> String {
    match caller.address {
        None => "command line".to_owned(),
        // No client is configured: everybody may do everything, and only the address says who did.
        Some(address) if caller.name().is_empty() => format!("a caller at {}", address.ip()),
        Some(_) => caller.name().to_owned(),
    }
}

async fn trigger_sync(call: &Call, target: Target) -> Result<v1::TriggerSyncResponse, Failure> {
    let control = control(call)?;
    let is_crawl = target == Target::Everything;
    let named = ids_in(&target);
    let (meta, crawl) = call
        .scan(move |ask| {
            for (kind, id) in named {
                if !ask.snapshot.knows(kind, &id)? {
                    return Err(Failure::TargetUnknown { id });
                }
            }
            Ok((org_meta(ask)?, ask.snapshot.meta()?.crawl))
        })
        .await?;
    let outcome = match control.read(target).await? {
        ReadOutcome::Started => v1::StartOutcome::Started,
        ReadOutcome::AlreadyRunning => v1::StartOutcome::AlreadyRunning,
        ReadOutcome::NotNow => return Err(Failure::NothingReadable),
    };
    let is_running = crawl.running && outcome == v1::StartOutcome::AlreadyRunning;
    let crawl_id = match (is_crawl, is_running) {
        (false, _) => 0,
        (true, true) => crawl.id.0,
        (true, false) => crawl.id.0.saturating_add(1),
    };
    Ok(v1::TriggerSyncResponse { meta: Some(meta), outcome: outcome.into(), crawl_id })
}

/// The users, groups and apps that a target names.
fn ids_in(target: &Target) -> Vec<(Kind, String)> {
    let user = |id: &UserId| (Kind::User, id.as_str().to_owned());
    let group = |id: &GroupId| (Kind::Group, id.as_str().to_owned());
    let app = |id: &AppId| (Kind::App, id.as_str().to_owned());
    match target {
        Target::User(id) | Target::UserApps(id) | Target::UserGroups(id) => vec![user(id)],
        Target::Group(id) | Target::List(Scope::GroupMembers(id)) => vec![group(id)],
        Target::App(id) | Target::SourceGroups(id) | Target::List(Scope::AppUsers(id) | Scope::AppGroups(id)) => {
            vec![app(id)]
        }
        Target::AppUser(of, id) => vec![app(of), user(id)],
        Target::AppGroup(of, id) => vec![app(of), group(id)],
        Target::List(_) | Target::UsersDelta | Target::GroupsDelta | Target::Everything => Vec::new(),
    }
}

async fn release_hold(call: &Call, request: &v1::ReleaseHoldRequest) -> Result<v1::ReleaseHoldResponse, Failure> {
    let gap_id = request.gap_id.as_str();
    if gap_id.is_empty() {
        return Err(Failure::FieldMissing { field: "gap_id" });
    }
    if gap_id.len() > ID_BYTES_MAX {
        let detail = format!("longer than {ID_BYTES_MAX} bytes");
        return Err(Failure::FieldInvalid { field: "gap_id", detail });
    }
    if request.expected_missing_row_count == 0 {
        return Err(Failure::FieldMissing { field: "expected_missing_row_count" });
    }
    let id = gap_id.to_owned();
    call.scan(move |ask| check_held(ask, &id)).await?;
    let Some(scope) = held_scope(gap_id) else { return Err(Failure::GapNotHeld) };
    let released = match control(call)?.release(scope, request.expected_missing_row_count).await? {
        Ok(released) => released,
        Err(ReleaseRefusal::NotHeld) => return Err(Failure::GapNotHeld),
        Err(ReleaseRefusal::Changed { missing }) => return Err(Failure::HoldChanged { missing }),
        Err(ReleaseRefusal::Failed { detail }) => {
            tracing::error!(rpc = "Admin.ReleaseHold", org = call.view().name(), detail, "release failed");
            return Err(Failure::NotServing(None));
        }
    };
    let id = gap_id.to_owned();
    let (meta, gap) = call.scan(move |ask| Ok((org_meta(ask)?, gap_now(ask, &id)?))).await?;
    Ok(v1::ReleaseHoldResponse { meta: Some(meta), gap, removed_row_count: released.removed })
}

async fn reindex(call: &Call) -> Result<v1::ReindexResponse, Failure> {
    let (is_new, builds) = control(call)?.rebuild_index()?;
    let outcome = if is_new { v1::StartOutcome::Started } else { v1::StartOutcome::AlreadyRunning };
    let (meta, mut index) = call.scan(|ask| Ok((org_meta(ask)?, index_status(ask)))).await?;
    // A small one may be whole by now.
    index.build_count = builds;
    Ok(v1::ReindexResponse { meta: Some(meta), outcome: outcome.into(), index: Some(index) })
}

fn org_meta(ask: &Ask<'_>) -> Result<v1::ResponseMeta, Failure> {
    Ok(ask.meta(&ask.wide_gaps(Wide::Org)?))
}

fn gap_now(ask: &Ask<'_>, id: &str) -> Result<Option<v1::Gap>, Failure> {
    Ok(gaps_by_id(ask, &BTreeSet::from([id]))?.remove(id))
}

/// Whether the gap is there, open, and one that can be released.
fn check_held(ask: &Ask<'_>, id: &str) -> Result<(), Failure> {
    match gap_now(ask, id)? {
        Some(gap) if gap.kind() == v1::GapKind::Held && gap.state() == v1::GapState::Open => Ok(()),
        // A list that came empty is held as well, unless there was nothing to hold.
        Some(gap) if gap.kind() == v1::GapKind::EmptySuspect && gap.state() == v1::GapState::Open => {
            let scope = held_scope(id);
            let is_held = ask.snapshot.held()?.into_iter().any(|(held, ..)| Some(held) == scope);
            if is_held { Ok(()) } else { Err(Failure::GapNotHeld) }
        }
        // An object that is not shown: the operator says that it is gone.
        Some(gap) if gap.kind() == v1::GapKind::UnseenReference && gap.state() == v1::GapState::Open => {
            if held_scope(id).is_some() { Ok(()) } else { Err(Failure::GapNotHeld) }
        }
        // Gaps that follow from what is not there are in no book, but they are gaps.
        None if unseen_user_of(id).is_none() && !ask.wide_gaps(Wide::Org)?.to_ids().iter().any(|known| known == id) => {
            Err(Failure::GapUnknown)
        }
        _ => Err(Failure::GapNotHeld),
    }
}

/// The collection of a gap whose rows may be held, or the object of one that is not shown.
fn held_scope(gap_id: &str) -> Option<Scope> {
    let (kind, scope) = GapId::parse(gap_id)?;
    let can_be_released = match kind {
        GapKind::Held | GapKind::EmptySuspect => scope.object().is_none(),
        GapKind::UnseenReference => scope.object().is_some(),
        _ => false,
    };
    can_be_released.then_some(scope)
}

/// What is to be read.
fn read_target(target: Option<&trigger_sync_request::Target>) -> Result<Target, Failure> {
    match target {
        None => Err(Failure::FieldMissing { field: "target" }),
        Some(trigger_sync_request::Target::FullCrawl(v1::FullCrawl {})) => Ok(Target::Everything),
        Some(trigger_sync_request::Target::Scope(scope)) => Ok(Target::List(read_scope(scope)?)),
        Some(trigger_sync_request::Target::Row(key)) => read_row(key),
    }
}

fn read_scope(scope: &v1::Scope) -> Result<Scope, Failure> {
    let field = "scope.resource_id";
    let id = scope.resource_id.as_str();
    let whole = |whole: Scope| match id {
        "" => Ok(whole),
        _ => Err(Failure::FieldInvalid { field, detail: "this kind of collection has no resource".to_owned() }),
    };
    let unreadable = |why: &str| Err(Failure::FieldInvalid { field: "scope.kind", detail: why.to_owned() });
    match scope.kind() {
        // Unknown numbers read as UNSPECIFIED.
        v1::ScopeKind::Unspecified if scope.kind == 0 => Err(Failure::FieldMissing { field: "scope.kind" }),
        v1::ScopeKind::Unspecified => unreadable("no such kind of collection"),
        v1::ScopeKind::Users => whole(Scope::Users),
        v1::ScopeKind::Groups => whole(Scope::Groups),
        v1::ScopeKind::Apps => whole(Scope::Apps),
        v1::ScopeKind::GroupMembers => Ok(Scope::GroupMembers(door::group_id(field, id)?)),
        v1::ScopeKind::AppUsers => Ok(Scope::AppUsers(door::app_id(field, id)?)),
        v1::ScopeKind::AppGroups => Ok(Scope::AppGroups(door::app_id(field, id)?)),
        v1::ScopeKind::Log => unreadable("the log is always followed"),
        v1::ScopeKind::Roles | v1::ScopeKind::ApiTokens => unreadable("this version does not read these"),
    }
}

fn read_row(key: &v1::RowKey) -> Result<Target, Failure> {
    let Some(key) = &key.key else { return Err(Failure::FieldMissing { field: "row.key" }) };
    Ok(match key {
        row_key::Key::UserId(id) => Target::User(door::user_id("row.user_id", id)?),
        row_key::Key::GroupId(id) => Target::Group(door::group_id("row.group_id", id)?),
        row_key::Key::AppId(id) => Target::App(door::app_id("row.app_id", id)?),
        row_key::Key::AppUser(key) => {
            let app = door::app_id("row.app_user.app_id", &key.app_id)?;
            Target::AppUser(app, door::user_id("row.app_user.user_id", &key.user_id)?)
        }
        // These two have no read of their own.
        row_key::Key::GroupMember(key) => {
            door::user_id("row.group_member.user_id", &key.user_id)?;
            Target::List(Scope::GroupMembers(door::group_id("row.group_member.group_id", &key.group_id)?))
        }
        row_key::Key::AppGroup(key) => {
            door::group_id("row.app_group.group_id", &key.group_id)?;
            Target::List(Scope::AppGroups(door::app_id("row.app_group.app_id", &key.app_id)?))
        }
        row_key::Key::Override(_) => {
            let detail = "an override is not read from Okta".to_owned();
            return Err(Failure::FieldInvalid { field: "row.override", detail });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        use row_key::Key;
        use trigger_sync_request::Target as Asked;
        #[track_caller]
        fn check(target: Option<Asked>, expected: &str) {
            let found = match read_target(target.as_ref()) {
                Ok(target) => target.name(),
                Err(failure) => failure.name().to_owned(),
            };
            assert_eq!(found, expected);
        }
        let scope = |kind: v1::ScopeKind, id: &str| {
            let scope = v1::Scope { kind: kind.into(), resource_id: id.to_owned(), resource_name: "x".to_owned() };
            Some(Asked::Scope(scope))
        };
        let row = |key: Key| Some(Asked::Row(v1::RowKey { key: Some(key) }));
        let (a, b) = (|| "a".to_owned(), || "b".to_owned());
        check(None, "FIELD_MISSING");
        check(Some(Asked::FullCrawl(v1::FullCrawl {})), "everything");
        check(scope(v1::ScopeKind::Users, ""), "list(users)");
        check(scope(v1::ScopeKind::Groups, ""), "list(groups)");
        check(scope(v1::ScopeKind::Apps, ""), "list(apps)");
        check(scope(v1::ScopeKind::Apps, "a"), "FIELD_INVALID");
        check(scope(v1::ScopeKind::GroupMembers, "a"), "list(group_members(a))");
        check(scope(v1::ScopeKind::AppUsers, "a"), "list(app_users(a))");
        check(scope(v1::ScopeKind::AppGroups, "a"), "list(app_groups(a))");
        check(scope(v1::ScopeKind::AppGroups, ""), "FIELD_MISSING");
        check(scope(v1::ScopeKind::AppGroups, "a/b"), "FIELD_INVALID");
        check(scope(v1::ScopeKind::Log, ""), "FIELD_INVALID");
        check(scope(v1::ScopeKind::Roles, ""), "FIELD_INVALID");
        check(scope(v1::ScopeKind::ApiTokens, ""), "FIELD_INVALID");
        check(scope(v1::ScopeKind::Unspecified, ""), "FIELD_MISSING");
        check(Some(Asked::Scope(v1::Scope { kind: 99, ..v1::Scope::default() })), "FIELD_INVALID");
        check(Some(Asked::Row(v1::RowKey { key: None })), "FIELD_MISSING");
        check(row(Key::UserId(a())), "user(a)");
        check(row(Key::UserId(String::new())), "FIELD_MISSING");
        check(row(Key::GroupId(a())), "group(a)");
        check(row(Key::AppId(a())), "app(a)");
        check(row(Key::AppUser(v1::AppUserKey { app_id: a(), user_id: b() })), "app_user(a,b)");
        check(row(Key::GroupMember(v1::GroupMemberKey { group_id: a(), user_id: b() })), "list(group_members(a))");
        check(row(Key::GroupMember(v1::GroupMemberKey { group_id: a(), user_id: String::new() })), "FIELD_MISSING");
        check(row(Key::Override(v1::OverrideKey::default())), "FIELD_INVALID");
        check(row(Key::AppGroup(v1::AppGroupKey { app_id: a(), group_id: b() })), "list(app_groups(a))");
    }

    #[test]
    fn held_gaps_name_their_collection() {
        assert_eq!(held_scope("HELD:users"), Some(Scope::Users));
        assert_eq!(held_scope("EMPTY_SUSPECT:apps"), Some(Scope::Apps));
        assert!(held_scope("UNSEEN_REFERENCE:user(00u1)").is_some());
        assert_eq!(held_scope("UNSEEN_REFERENCE:users"), None);
        for other in ["FAILED:users", "HELD:nothing", "HELD", "", "held:users"] {
            assert_eq!(held_scope(other), None, "{other}");
        }
    }
}

//! Hostile requests against the handlers, in process: whatever the bytes, an answer or a typed refusal.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, LazyLock};

use futures_util::FutureExt as _;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::admin_server::Admin as _;
use okta_idmap_proto::v1::changes_server::Changes as _;
use okta_idmap_proto::v1::coverage_server::Coverage as _;
use okta_idmap_proto::v1::lookup_server::Lookup as _;
use okta_idmap_proto::v1::search_server::Search as _;
use proptest::prelude::*;
use prost::Message;
use tonic::{Code, Request, Response, Status};

use super::ask::{Ask, Call};
use super::{CredentialKind, Failure, OrgView, Orgs, SearchHandle, Services, StatusSource};
use crate::core::batch::Batch;
use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{
    App, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Row, User, UserStatus,
};
use crate::core::policy::{GrantPolicy, GrantPolicySettings};
use crate::core::reconcile::Brake;
use crate::store::{ChangeRetention, Store, StoreConfig};

/// A small org for all cases of this file: opening a store costs more than a call. Ids have one letter, so that random
/// requests hit them.
pub(super) struct World {
    services: Services,
    _store: Store,
    _dir: tempfile::TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            dir: dir.path().to_owned(),
            brake: Brake::default(),
            credential: "c".to_owned(),
            changes: ChangeRetention::default(),
            filter: crate::core::filter::Filter::default(),
        };
        let store = Store::open(config).unwrap();
        let now = Timestamp::from_millis(1_770_000_000_000);
        let batch = Batch { now, at: store.writer.first_request_number(), rows: rows(), ..Batch::default() };
        runtime().block_on(async { store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap() });
        let policy = Arc::new(GrantPolicy::new(&GrantPolicySettings::default()).unwrap());
        let view = OrgView::new(
            "acme",
            store.reader.clone(),
            SearchHandle::default(),
            policy,
            StatusSource::Direct(CredentialKind::ApiToken),
        )
        .unwrap();
        let services = Services::new(Orgs::new([view]), || Timestamp::from_millis(1_770_000_000_000));
        Self { services, _store: store, _dir: dir }
    }

    /// Its org.
    pub(super) fn view(&self) -> &OrgView {
        self.services.orgs().iter().next().unwrap()
    }

    /// Answers as a scan.
    pub(super) fn scan<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let call = Call::at(self.view().clone(), Timestamp::from_millis(1_770_000_000_000));
        runtime().block_on(call.scan(answer))
    }
}

fn rows() -> Vec<Row> {
    let (user, group, app) = (UserId::new("a").unwrap(), GroupId::new("a").unwrap(), AppId::new("a").unwrap());
    vec![
        Row::User(User {
            id: user.clone(),
            status: UserStatus::Active,
            login: Some("a".into()),
            email: None,
            second_email: None,
            first_name: None,
            last_name: None,
            display_name: None,
            created: None,
            last_updated: None,
            status_changed: None,
        }),
        Row::Group(Group {
            id: group.clone(),
            name: "a".into(),
            description: None,
            group_type: GroupType::OktaGroup,
            source_app: None,
            created: None,
            last_updated: None,
            last_membership_updated: None,
        }),
        Row::App(App {
            id: app.clone(),
            name: "a".into(),
            label: "a".into(),
            status: AppStatus::Active,
            sign_on_mode: None,
            features: Vec::new(),
            credential_scheme: None,
            shared_user_name: None,
            user_name_template: Some("user.login".into()),
            oauth_application_type: None,
            implicit_assignment: Some(false),
            created: None,
            last_updated: None,
        }),
        Row::AppUser(AppUser {
            app,
            user: user.clone(),
            user_name: Some("a".into()),
            external_id: None,
            email: None,
            status: AppUserStatus::Active,
            scope: AssignmentScope::User,
            sync_state: None,
            via_group: None,
            created: None,
            last_updated: None,
            status_changed: None,
        }),
        Row::GroupMember(GroupMember { group, user }),
    ]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One whose time passes at once while nothing is done: a call that waits for a revision to come does so for seconds.
fn runtime_without_waiting() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

#[test]
fn nobody_searches_while_the_index_is_mapped_anew() {
    let world = World::new();
    let view = world.view();
    let search = || Arc::clone(view.searches()).try_acquire_owned();
    let searching = search().unwrap();
    assert!(view.no_searches().now_or_never().is_none(), "one is under way");
    drop(searching);
    let alone = view.no_searches().now_or_never().unwrap();
    assert!(alone.is_some() && search().is_err());
    drop(alone);
    assert!(search().is_ok());
}

#[test]
fn a_scan_that_nobody_waits_for_holds_its_place() {
    let world = World::new();
    let view = world.view();
    let free = || std::iter::from_fn(|| view.place_in_queue().ok()).collect::<Vec<_>>().len();
    let whole = free();
    let call = Call::timeless(view.clone());
    let ((go, gone), (begins, begun)) = (sync_channel::<()>(1), sync_channel(1));
    runtime().block_on(async {
        let scan = call.scan(move |_| {
            begins.send(()).unwrap();
            // Until the other end is dropped.
            let _ = gone.recv();
            Ok(())
        });
        {
            let mut scan = std::pin::pin!(scan);
            assert!(futures_util::poll!(scan.as_mut()).is_pending());
            begun.recv().unwrap();
        }
        assert_eq!(free(), whole - 1);
        drop(go);
        let ended = async {
            while free() < whole {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.unwrap();
    });
}

#[test]
fn who_comes_to_a_full_queue_is_told_to_come_back() {
    let world = World::new();
    let view = world.view();
    let (lookup, search) = (world.services.lookup(), world.services.search());
    let apps = || Request::new(v1::ListAppsRequest::default());
    let suggest = || Request::new(v1::SuggestRequest { prefix: "a".to_owned(), ..v1::SuggestRequest::default() });
    let places: Vec<_> = std::iter::from_fn(|| view.place_in_queue().ok()).collect();
    let runtime = runtime();
    assert_eq!(runtime.block_on(lookup.list_apps(apps())).unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(runtime.block_on(search.suggest(suggest())).unwrap_err().code(), Code::ResourceExhausted);
    // Point look-ups wait for nobody.
    let selector = Some(v1::user_selector::Selector::UserId("a".to_owned()));
    let user = v1::GetUserRequest { user: Some(v1::UserSelector { selector }), context: None };
    runtime.block_on(lookup.get_user(Request::new(user))).unwrap();
    drop(places);
    runtime.block_on(lookup.list_apps(apps())).unwrap();
}

#[test]
fn all_users_are_looked_through_for_one_caller_at_a_time() {
    let world = World::new();
    let selector = Some(v1::app_selector::Selector::AppId("a".to_owned()));
    let request = || {
        let basis = v1::AmbiguityBasis::Template.into();
        let app = Some(v1::AppSelector { selector: selector.clone() });
        Request::new(v1::ListAmbiguitiesRequest { app, basis, ..Default::default() })
    };
    let names = || Request::new(v1::ListAmbiguitiesRequest::default());
    let place = world.view().place_for_whole_scan().unwrap();
    let (coverage, runtime) = (world.services.coverage(), runtime());
    let status = runtime.block_on(coverage.list_ambiguities(request())).unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    // Other lists do not wait for it.
    runtime.block_on(coverage.list_ambiguities(names())).unwrap();
    drop(place);
    runtime.block_on(coverage.list_ambiguities(request())).unwrap();
    runtime.block_on(coverage.list_ambiguities(request())).unwrap();
}

/// A request out of arbitrary bytes. Most bytes are no message, so they also fill its fields.
fn decoded<T: Message + Default>(bytes: &[u8]) -> T {
    T::decode(bytes).unwrap_or_default()
}

fn assert_typed<T>(answered: Result<Response<T>, Status>) -> Result<(), TestCaseError> {
    if let Err(status) = answered {
        let is_typed = matches!(
            status.code(),
            Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::Unavailable
        );
        prop_assert!(is_typed, "{status:?}");
        prop_assert!(!status.message().is_empty());
    }
    Ok(())
}

/// Bytes that often are messages: small field numbers, lengths that fit, and often an id that exists.
fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    let field = (1_u8..9, prop_oneof![Just(b"a".to_vec()), proptest::collection::vec(any::<u8>(), 0..20)]).prop_map(
        |(number, bytes)| {
            let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
            field.extend(bytes);
            field
        },
    );
    let number = (1_u8..9, any::<u8>()).prop_map(|(number, value)| vec![number << 3, value & 0x7f]);
    // Nested: an inner message within a field of the outer one.
    let inner = proptest::collection::vec(prop_oneof![field, number], 0..4).prop_map(|fields| fields.concat());
    let nested = (1_u8..7, inner.clone()).prop_map(|(number, bytes)| {
        let mut field = vec![number << 3 | 2, u8::try_from(bytes.len().min(127)).unwrap()];
        field.extend(&bytes[..bytes.len().min(127)]);
        field
    });
    prop_oneof![
        proptest::collection::vec(prop_oneof![nested, inner], 0..5).prop_map(|fields| fields.concat()),
        proptest::collection::vec(any::<u8>(), 0..64),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_requests_are_answered_or_refused(
        requests in proptest::collection::vec((0_usize..23, message_bytes()), 1..20)
    ) {
        // One for all cases: each would have threads of its own.
        static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(runtime_without_waiting);
        let (services, runtime) = (&WORLD.services, &*RUNTIME);
        let (lookup, search, coverage) = (services.lookup(), services.search(), services.coverage());
        let (changes, admin) = (services.changes(), services.admin());
        for (rpc, bytes) in requests {
            runtime.block_on(async {
                match rpc {
                    0 => assert_typed(lookup.resolve_account(Request::new(decoded(&bytes))).await),
                    1 => assert_typed(lookup.batch_resolve(Request::new(decoded(&bytes))).await),
                    2 => assert_typed(lookup.get_user(Request::new(decoded(&bytes))).await),
                    3 => assert_typed(lookup.list_user_accounts(Request::new(decoded(&bytes))).await),
                    4 => assert_typed(lookup.list_user_groups(Request::new(decoded(&bytes))).await),
                    5 => assert_typed(lookup.check_app_membership(Request::new(decoded(&bytes))).await),
                    6 => assert_typed(lookup.list_apps(Request::new(decoded(&bytes))).await),
                    7 => assert_typed(lookup.list_app_users(Request::new(decoded(&bytes))).await),
                    8 => assert_typed(lookup.list_groups(Request::new(decoded(&bytes))).await),
                    9 => assert_typed(lookup.list_group_members(Request::new(decoded(&bytes))).await),
                    10 => assert_typed(lookup.list_app_groups(Request::new(decoded(&bytes))).await),
                    11 => assert_typed(search.search(Request::new(decoded(&bytes))).await),
                    12 => assert_typed(search.suggest(Request::new(decoded(&bytes))).await),
                    13 => assert_typed(coverage.get_status(Request::new(decoded(&bytes))).await),
                    14 => assert_typed(changes.list_changes(Request::new(decoded(&bytes))).await),
                    15 => assert_typed(changes.watch(Request::new(decoded(&bytes))).await),
                    21 => assert_typed(coverage.list_ambiguities(Request::new(decoded(&bytes))).await),
                    16 => assert_typed(admin.trigger_sync(Request::new(decoded(&bytes))).await),
                    17 => assert_typed(admin.release_hold(Request::new(decoded(&bytes))).await),
                    18 => assert_typed(admin.set_override(Request::new(decoded(&bytes))).await),
                    19 => assert_typed(admin.delete_override(Request::new(decoded(&bytes))).await),
                    20 => assert_typed(coverage.list_overrides(Request::new(decoded(&bytes))).await),
                    _ => assert_typed(coverage.list_gaps(Request::new(decoded(&bytes))).await),
                }
            })?;
        }
    }

    #[test]
    fn hostile_names_are_answered_or_refused(app in ".{0,20}", name in ".{0,40}|\\PC{1000,1100}", kind in -2_i32..6) {
        let selector = Some(v1::AppSelector { selector: Some(v1::app_selector::Selector::Any(app)) });
        let identifier = Some(v1::Identifier { value: name, kind });
        let account = Some(v1::AccountSelector { app: selector, identifier });
        let request = v1::ResolveAccountRequest { account, ..v1::ResolveAccountRequest::default() };
        let answered = runtime().block_on(WORLD.services.lookup().resolve_account(Request::new(request)));
        assert_typed(answered)?;
    }
}

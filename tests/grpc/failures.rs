//! Every documented failure, with its code, reason, field and metadata.

use okta_idmap::core::ids::Timestamp;
use okta_idmap::core::policy::{GrantPolicy, GrantPolicySettings};
use okta_idmap::serve::{CredentialKind, OrgView, SearchHandle, StatusSource};
use okta_idmap_proto::limits::REQUEST_BYTES_MAX;
use okta_idmap_proto::v1;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::raw::RawCodec;
use super::security::rpcs;
use super::world::{NOW, Server, World, account, app_by_id, open_store, user_by_id, user_by_login};

/// A status in one line: code, reason, field, metadata.
fn shown(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "idmap.v1");
    let field = details.bad_request().map_or("-", |bad| bad.field_violations[0].field.as_str());
    let mut metadata: Vec<String> = info.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    metadata.sort();
    assert_eq!(details.precondition_failure().is_some(), status.code() == Code::FailedPrecondition);
    format!("{:?} {} {field} {}", status.code(), info.reason, metadata.join(" ")).trim_end().to_owned()
}

#[tokio::test]
async fn contexts_are_honoured() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let revision = world.revision();
    let store_id = world.view().store_id().to_owned();
    let empty = v1::RequestContext::default;
    let era = client.get_user(v1::GetUserRequest { context: None, user: user_by_id("00u0002") }).await.unwrap();
    let era = era.into_inner().meta.unwrap().era;
    let staleness = |seconds: i64, nanos: i32| Some(prost_types::Duration { seconds, nanos });
    let good = [
        empty(),
        v1::RequestContext { org: "acme".to_owned(), ..empty() },
        v1::RequestContext { at_least_revision: revision, store_id: store_id.clone(), ..empty() },
        v1::RequestContext { at_least_revision: revision, era: era.clone(), ..empty() },
        v1::RequestContext { max_staleness: staleness(0, 0), ..empty() }, // The log was followed up to now.
    ];
    for context in good {
        let request = v1::GetUserRequest { context: Some(context), user: user_by_id("00u0002") };
        client.get_user(request).await.unwrap();
    }
    let not_reached = format!("FailedPrecondition REVISION_NOT_REACHED - revision={revision}");
    let replaced = format!("FailedPrecondition STORE_REPLACED - store_id={store_id}");
    let restored = format!("FailedPrecondition STORE_RESTORED - era={era} revision={revision}");
    let bad = [
        (v1::RequestContext { org: "nobody".to_owned(), ..empty() }, "NotFound ORG_UNKNOWN -"),
        (v1::RequestContext { org: "x".repeat(65), ..empty() }, "InvalidArgument FIELD_INVALID context.org"),
        (v1::RequestContext { at_least_revision: revision + 1, ..empty() }, not_reached.as_str()),
        (v1::RequestContext { store_id: "other".to_owned(), at_least_revision: 1, ..empty() }, replaced.as_str()),
        (
            v1::RequestContext { max_staleness: staleness(-1, 0), ..empty() },
            "InvalidArgument FIELD_INVALID context.max_staleness",
        ),
        (
            v1::RequestContext {
                era: "x".to_owned(),
                at_least_revision: revision,
                store_id: store_id.clone(),
                ..empty()
            },
            restored.as_str(),
        ),
        (v1::RequestContext { era: era.clone(), ..empty() }, "InvalidArgument FIELD_INVALID context.era"),
        (v1::RequestContext { store_id: "x".repeat(65), ..empty() }, "InvalidArgument FIELD_INVALID context.store_id"),
        (
            v1::RequestContext { era: "x".repeat(65), at_least_revision: 1, ..empty() },
            "InvalidArgument FIELD_INVALID context.era",
        ),
    ];
    for (context, expected) in bad {
        let request = v1::GetUserRequest { context: Some(context), user: user_by_id("00u0002") };
        let status = client.get_user(request).await.unwrap_err();
        assert_eq!(shown(&status), expected);
    }
    // Coverage answers however old the store is.
    let context = Some(v1::RequestContext { at_least_revision: revision + 1, ..empty() });
    server.coverage().await.get_status(v1::GetStatusRequest { context }).await.unwrap();
}

#[tokio::test]
async fn an_answer_may_be_too_old() {
    let world = World::empty();
    let server = world.serve().await;
    let max_staleness = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let context = Some(v1::RequestContext { max_staleness, ..Default::default() });
    let request = v1::GetUserRequest { context, user: user_by_id("00u0002") };
    let mut client = server.lookup().await;
    let status = client.get_user(request.clone()).await.unwrap_err();
    assert_eq!(shown(&status), "FailedPrecondition STALENESS_EXCEEDED - observed_through=");
    let anchor = |now: Timestamp| {
        use okta_idmap::core::batch::{Batch, CursorMove};
        use okta_idmap::core::ids::LogCursor;
        let cursor = Some(CursorMove::Anchor(LogCursor("https://acme.okta.com/x".to_owned())));
        Batch { now, cursor, ..world.batch() }
    };
    world.commit(anchor(NOW.plus_millis(-3_600_001))).await;
    let status = client.get_user(request.clone()).await.unwrap_err();
    assert!(shown(&status).starts_with("FailedPrecondition STALENESS_EXCEEDED - observed_through=2026-"));
    world.commit(anchor(NOW.plus_millis(-3_600_000))).await;
    client.get_user(request).await.unwrap();
}

#[tokio::test]
async fn several_orgs_need_a_name() {
    let world = World::crawled().await;
    let other = open_store(&world.dir.path().join("other"));
    let policy = std::sync::Arc::new(GrantPolicy::new(&GrantPolicySettings::default()).unwrap());
    let search = SearchHandle::default();
    let other_view =
        OrgView::new("other", other.reader.clone(), search, policy, StatusSource::Direct(CredentialKind::ApiToken))
            .unwrap();
    let server = Server::start([world.view(), other_view]).await;
    let mut client = server.lookup().await;
    let request = v1::GetUserRequest { context: None, user: user_by_id("00u0002") };
    let status = client.get_user(request.clone()).await.unwrap_err();
    assert_eq!(shown(&status), "InvalidArgument ORG_REQUIRED context.org orgs=acme,other");
    for (org, outcome) in [("acme", v1::SubjectOutcome::Found), ("other", v1::SubjectOutcome::UnknownGap)] {
        let context = Some(v1::RequestContext { org: org.to_owned(), ..Default::default() });
        let answer = client.get_user(v1::GetUserRequest { context, ..request.clone() }).await.unwrap().into_inner();
        assert_eq!(answer.user.unwrap().outcome(), outcome);
        assert_eq!(answer.meta.unwrap().org, org);
    }
}

#[tokio::test]
async fn fields_are_checked() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let long = "x".repeat(1_025);
    let missing = "InvalidArgument FIELD_MISSING";
    let invalid = "InvalidArgument FIELD_INVALID";
    macro_rules! check {
        ($rpc:ident, $request:expr, $expected:expr) => {
            let status = client.$rpc($request).await.unwrap_err();
            assert_eq!(shown(&status), $expected);
        };
    }
    let resolve = |account| v1::ResolveAccountRequest { account, ..Default::default() };
    let kind = v1::IdentifierKind::Unspecified;
    check!(resolve_account, resolve(None), format!("{missing} account"));
    let without_app = v1::AccountSelector { app: None, ..account("a", "n", kind).unwrap() };
    check!(resolve_account, resolve(Some(without_app)), format!("{missing} account.app"));
    let without_name = v1::AccountSelector { identifier: None, ..account("a", "n", kind).unwrap() };
    check!(resolve_account, resolve(Some(without_name)), format!("{missing} account.identifier"));
    let refused = "InvalidArgument IDENTIFIER_INVALID account.identifier.value";
    for name in ["", "a\nb", "a\0", long.as_str()] {
        check!(resolve_account, resolve(account("0oaeu", name, kind)), refused);
    }
    // Each by its own field of the selector.
    let by = |selector| {
        let app = Some(v1::AppSelector { selector: Some(selector) });
        resolve(Some(v1::AccountSelector { app, ..account("a", "n", kind).unwrap() }))
    };
    use v1::app_selector::Selector as App;
    check!(resolve_account, by(App::AppId("a/b".to_owned())), format!("{invalid} account.app.app_id"));
    check!(resolve_account, by(App::Label(long.clone())), format!("{invalid} account.app.label"));
    check!(resolve_account, by(App::Name(String::new())), format!("{missing} account.app.name"));
    check!(resolve_account, by(App::Any(long.clone())), format!("{invalid} account.app.any"));
    let mut odd_kind = account("0oaeu", "n", kind).unwrap();
    odd_kind.identifier.as_mut().unwrap().kind = 77;
    check!(resolve_account, resolve(Some(odd_kind)), format!("{invalid} account.identifier.kind"));

    let get_user = |user| v1::GetUserRequest { user, context: None };
    check!(get_user, get_user(None), format!("{missing} user"));
    check!(get_user, get_user(Some(v1::UserSelector::default())), format!("{missing} user"));
    check!(get_user, get_user(user_by_id("")), format!("{missing} user.user_id"));
    check!(get_user, get_user(user_by_id("a/b")), format!("{invalid} user.user_id"));
    check!(get_user, get_user(user_by_login("")), "InvalidArgument IDENTIFIER_INVALID user.login");

    let items = vec![v1::BatchResolveItem::default(); 1_001];
    let too_many = "InvalidArgument TOO_MANY_ITEMS items";
    check!(batch_resolve, v1::BatchResolveRequest { items, ..Default::default() }, too_many);

    let entries = vec![v1::AclEntry::default(); 1_001];
    let too_many = "InvalidArgument TOO_MANY_ITEMS entries";
    check!(resolve_acl, v1::ResolveAclRequest { entries, ..Default::default() }, too_many);
    let expand = |user| v1::ExpandUserRequest { user, context: None };
    check!(expand_user, expand(None), format!("{missing} user"));
    check!(expand_user, expand(user_by_id("a:b")), format!("{invalid} user.user_id"));
    check!(expand_user, expand(user_by_login("a\0")), "InvalidArgument IDENTIFIER_INVALID user.login");

    use v1::explain_request::Question;
    let explain = |question| v1::ExplainRequest { context: None, question };
    check!(explain, explain(None), format!("{missing} question"));
    let about = |account| explain(Some(Question::Account(account)));
    check!(explain, about(v1::AccountSelector::default()), format!("{missing} account.app"));
    check!(explain, about(account("0oaeu", "a\0", kind).unwrap()), refused);
    let about = |user, target| explain(Some(Question::Membership(v1::MembershipQuestion { user, target })));
    check!(explain, about(None, None), format!("{missing} membership.user"));
    check!(explain, about(user_by_id("u"), None), format!("{missing} membership.target"));
    let group = Some(v1::membership_question::Target::GroupId("a/b".to_owned()));
    check!(explain, about(user_by_id("u"), group), format!("{invalid} membership.group_id"));
    let app = Some(v1::membership_question::Target::App(v1::AppSelector::default()));
    check!(explain, about(user_by_id("u"), app), format!("{missing} membership.app"));

    let question = |question| v1::CheckAppMembershipRequest { question, context: None };
    check!(check_app_membership, question(None), format!("{missing} question"));
    let without_target = v1::MembershipQuestion { user: user_by_id("u"), target: None };
    check!(check_app_membership, question(Some(without_target)), format!("{missing} question.target"));
    let without_user = v1::MembershipQuestion { user: None, target: None };
    check!(check_app_membership, question(Some(without_user)), format!("{missing} question.user"));
    let by_account = |account| Some(v1::UserSelector { selector: Some(v1::user_selector::Selector::Account(account)) });
    let nameless = by_account(account("0oaeu", "", kind).unwrap());
    let refused_of_user = "InvalidArgument IDENTIFIER_INVALID user.account.identifier.value";
    check!(get_user, get_user(nameless.clone()), refused_of_user);
    let of_account = v1::MembershipQuestion { user: nameless, target: None };
    let refused_of_question = "InvalidArgument IDENTIFIER_INVALID question.user.account.identifier.value";
    check!(check_app_membership, question(Some(of_account)), refused_of_question);
    check!(get_user, get_user(by_account(v1::AccountSelector::default())), format!("{missing} user.account.app"));

    let members = v1::ListGroupMembersRequest::default;
    check!(list_group_members, members(), format!("{missing} group_id"));
    let negative = v1::ListGroupMembersRequest { group_id: "g".to_owned(), page_size: -1, ..members() };
    check!(list_group_members, negative, format!("{invalid} page_size"));
    let token = v1::ListGroupMembersRequest { group_id: "g".to_owned(), page_token: "x".repeat(2_000), ..members() };
    check!(list_group_members, token, "InvalidArgument PAGE_TOKEN_INVALID page_token");
    check!(list_app_users, v1::ListAppUsersRequest::default(), format!("{missing} app"));
    let statuses = vec![0];
    let request = v1::ListAppUsersRequest { app: app_by_id("0oaeu"), statuses, ..Default::default() };
    check!(list_app_users, request, format!("{invalid} statuses"));
    let statuses = vec![999];
    check!(list_apps, v1::ListAppsRequest { statuses, ..Default::default() }, format!("{invalid} statuses"));
    let request = v1::ListAppsRequest { label_contains: long.clone(), ..Default::default() };
    check!(list_apps, request, format!("{invalid} label_contains"));
    let request = v1::ListGroupsRequest { name_contains: long, ..Default::default() };
    check!(list_groups, request, format!("{invalid} name_contains"));
    let group_types = vec![0];
    check!(list_groups, v1::ListGroupsRequest { group_types, ..Default::default() }, format!("{invalid} group_types"));
    check!(list_app_groups, v1::ListAppGroupsRequest::default(), format!("{missing} app"));
    check!(list_user_accounts, v1::ListUserAccountsRequest::default(), format!("{missing} user"));
    check!(list_user_groups, v1::ListUserGroupsRequest::default(), format!("{missing} user"));
}

/// Sends bytes that need not be a message of the rpc; `None`: no message at all.
async fn send(channel: Channel, path: &str, message: Option<Vec<u8>>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let request = Request::new(futures_util::stream::iter(message));
    let codec = RawCodec;
    let answers = grpc.streaming(request, path.parse().unwrap(), codec).await?;
    answers.into_inner().message().await.map(drop)
}

#[tokio::test]
async fn what_is_no_message_of_the_rpc_is_the_callers_fault() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let channel = server.channel().await;
    let bad: [Option<&[u8]>; 7] = [
        None,
        // The org is not UTF-8.
        Some(b"\x0a\x04\x0a\x02\xff\xfe"),
        // Cut off, a field of no number, the end of a group that has not begun, a context that is a number, endless groups.
        Some(b"\x0a\x7f\x0a"),
        Some(b"\x00\x00"),
        Some(b"\x0c"),
        Some(b"\x08\x01"),
        Some(&[0x0b; 1_000]),
    ];
    let ours: Vec<String> = rpcs().into_iter().filter(|path| path.starts_with("/idmap.v1.")).collect();
    assert_eq!(ours.len(), 29);
    for path in ours {
        for message in bad {
            let status = send(channel.clone(), &path, message.map(<[u8]>::to_vec)).await.unwrap_err();
            assert_eq!(shown(&status), "InvalidArgument REQUEST_UNREADABLE request", "{path} {message:?}");
        }
    }
    let large = vec![0_u8; REQUEST_BYTES_MAX + 1];
    let status = send(channel, "/idmap.v1.Lookup/GetUser", Some(large)).await.unwrap_err();
    assert_eq!(shown(&status), "InvalidArgument REQUEST_UNREADABLE request");
}

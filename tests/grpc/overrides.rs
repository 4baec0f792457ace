//! Operators' overrides: what they decide, who is told, what is refused, and when they end. What a restart keeps is tested in
//! `overrides_kept`.

use std::time::Duration;

use okta_idmap::core::ids::{AppId, Timestamp, UserId};
use okta_idmap::core::model::{Key, Row};
use okta_idmap::core::overrides::OverrideSetting;
use okta_idmap::core::policy::{AliasSetting, GrantPolicySettings};
use okta_idmap::core::resolve::{IdentifierKind, Override};
use okta_idmap::serve::{Command, Control};
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::change_event::Event;
use prost_types::Timestamp as ProtoTimestamp;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

use super::world::{NOW, Server, World, account, app_by_any, app_user, user_id};

pub(super) const HOUR: i64 = 3_600_000;
pub(super) const ANY: v1::IdentifierKind = v1::IdentifierKind::Unspecified;
/// Longest wait for something that should come at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A server over the org, whose engine knows overrides only.
struct Desk {
    server: Server,
    commands: mpsc::Receiver<Command>,
}

impl Desk {
    async fn open(world: &World) -> Self {
        let (control, commands) = Control::channel();
        Self { server: Server::start([world.view().with_control(control)]).await, commands }
    }

    /// Runs a test beside the engine.
    async fn run(mut self, world: &World, test: impl AsyncFnOnce(&Server)) {
        let engine = async {
            while let Some(command) = self.commands.recv().await {
                match command {
                    Command::SetOverride { setting, reply } => {
                        reply.send(world.store.writer.set_override(*setting, NOW).await);
                    }
                    Command::DeleteOverride { name, reply } => {
                        reply.send(world.store.writer.delete_override(name, NOW).await);
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        tokio::select! {
            () = engine => panic!("nobody can order any more"),
            () = test(&self.server) => {}
        }
    }
}

fn at(millis: i64) -> Option<ProtoTimestamp> {
    let millis = NOW.plus_millis(millis).as_millis();
    Some(ProtoTimestamp { seconds: millis.div_euclid(1_000), nanos: 0 })
}

fn set(app: &str, name: &str, user: &str) -> v1::SetOverrideRequest {
    v1::SetOverrideRequest {
        context: None,
        account: account(app, name, ANY),
        user_id: user.to_owned(),
        expires_at: at(HOUR),
        reason: "IT-1: two people".to_owned(),
    }
}

pub(super) fn delete(app: &str, name: &str) -> v1::DeleteOverrideRequest {
    v1::DeleteOverrideRequest { context: None, account: account(app, name, ANY) }
}

pub(super) fn refused(status: &Status) -> String {
    let details = status.get_error_details();
    let field = details.bad_request().and_then(|bad| bad.field_violations.first().map(|found| found.field.clone()));
    let reason = details.error_info().unwrap().reason.clone();
    format!("{:?} {reason} {}", status.code(), field.unwrap_or_default()).trim_end().to_owned()
}

pub(super) async fn resolve(server: &Server, app: &str, name: &str) -> String {
    let mut client = server.lookup().await;
    let request = v1::ResolveAccountRequest { account: account(app, name, ANY), ..Default::default() };
    let resolution = client.resolve_account(request).await.unwrap().into_inner().resolution.unwrap();
    let user = resolution.user.as_ref().map_or("-", |user| user.id.as_str());
    let tier = i32::from(resolution.tier()) - 1;
    format!("{:?} {user} T{tier}", resolution.outcome())
}

pub(super) fn overriding(name: &str, user: &str, expires_at: Timestamp, created_by: &str) -> OverrideSetting {
    let (app, user) = (AppId::new("0oaus").unwrap(), UserId::new(user).unwrap());
    let entry = Override { app, kind: IdentifierKind::Untyped, name: name.into(), user, expires_at };
    OverrideSetting { entry, created_by: created_by.into(), reason: "IT-2".into() }
}

/// Overrides in one line each.
pub(super) async fn list(server: &Server, request: v1::ListOverridesRequest) -> Vec<String> {
    let mut client = server.coverage().await;
    let (mut lines, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListOverridesRequest { page_token: page_token.clone(), ..request.clone() };
        let answer = client.list_overrides(request).await.unwrap().into_inner();
        for entry in answer.overrides {
            let row = entry.row.unwrap();
            assert_eq!(entry.app.unwrap().id, row.app_id);
            assert_eq!(entry.user.unwrap().id, row.user_id);
            let over = if row.expired { " over" } else { "" };
            let (by, why) = (&row.created_by, &row.reason);
            lines.push(format!("{:?} {} {}={} by {by}: {why}{over}", row.source(), row.app_id, row.name, row.user_id));
        }
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return lines;
        }
    }
}

#[tokio::test]
async fn an_override_decides_before_everything_else() {
    let world = World::crawled().await;
    let test = async |server: &Server| {
        let mut admin = server.admin().await;
        assert_eq!(resolve(server, "0oaus", "dup").await, "Ambiguous - T1");
        let request = set("Jira US", "dup", &user_id(2));
        let answer = admin.set_override(request).await.unwrap().into_inner();
        let row = answer.operator_override.unwrap();
        assert_eq!((row.app_id.as_str(), row.user_id.as_str()), ("0oaus", user_id(2).as_str()));
        assert_eq!(row.source(), v1::OverrideSource::Rpc);
        assert_eq!((row.expires_at, row.created_at, row.reason.as_str()), (at(HOUR), at(0), "IT-1: two people"));
        assert!(row.created_by.starts_with("a caller at 127.0.0.1"), "{}", row.created_by);
        assert_eq!(answer.meta.unwrap().revision, world.revision());
        assert_eq!(resolve(server, "0oaus", "dup").await, "Resolved 00u0002 T6");
        // Under the app's own comparison, and not for other names or apps.
        assert_eq!(resolve(server, "0oaus", "DUP").await, "NotFound - T-1");
        assert_eq!(resolve(server, "0oaeu", "dup").await, "NotFound - T-1");
        // In the place of the former, with the same number.
        let again = admin.set_override(set("0oaus", "dup", &user_id(3))).await.unwrap().into_inner();
        assert_eq!(again.operator_override.unwrap().number, row.number);
        assert_eq!(resolve(server, "0oaus", "dup").await, "Resolved 00u0003 T6");
        // Who has no account there, or none that grants, has no access: no other is taken instead.
        for user in [user_id(5), user_id(1)] {
            admin.set_override(set("0oaus", "dup", &user)).await.unwrap();
            assert_eq!(resolve(server, "0oaus", "dup").await, format!("Inactive {user} T6"));
        }
        // A document is shared with whom the override names.
        admin.set_override(set("0oaus", "dup", &user_id(3))).await.unwrap();
        let entry = v1::acl_entry::Principal::Account(account("0oaus", "dup", ANY).unwrap());
        let acl = v1::ResolveAclRequest { context: None, entries: vec![v1::AclEntry { principal: Some(entry) }] };
        let acl = server.lookup().await.resolve_acl(acl).await.unwrap().into_inner();
        assert!(acl.safe_to_index && acl.principals.len() == 1, "{acl:?}");
        assert!(acl.principals[0].contains("00u0003"), "{acl:?}");
        let gone = admin.delete_override(delete("jira us", "dup")).await.unwrap().into_inner();
        assert_eq!(gone.operator_override.unwrap().user_id, user_id(3));
        assert_eq!(resolve(server, "0oaus", "dup").await, "Ambiguous - T1");
    };
    Desk::open(&world).await.run(&world, test).await;
}

#[tokio::test]
async fn a_name_that_was_given_again_is_decided() {
    let world = World::crawled().await;
    world.remove(Key::AppUser(AppId::new("0oaeu").unwrap(), UserId::new(&user_id(4)).unwrap())).await;
    world.put(vec![Row::AppUser(app_user("0oaeu", &user_id(5), "user4"))]).await;
    let test = async |server: &Server| {
        assert!(resolve(server, "0oaeu", "user4").await.starts_with("Reused"));
        let mut admin = server.admin().await;
        admin.set_override(set("0oaeu", "user4", &user_id(5))).await.unwrap();
        assert_eq!(resolve(server, "0oaeu", "user4").await, "Resolved 00u0005 T6");
        let mut lookup = server.lookup().await;
        let question = v1::explain_request::Question::Account(account("0oaeu", "user4", ANY).unwrap());
        let request = v1::ExplainRequest { context: None, question: Some(question) };
        let explained = lookup.explain(request).await.unwrap().into_inner();
        let tiers = explained.steps.iter().filter_map(|step| match &step.fact {
            Some(v1::evidence_step::Fact::Tier(tier)) => Some((step.summary.clone(), tier)),
            _ => None,
        });
        let of_override: Vec<_> = tiers.filter(|(_, tier)| !tier.overrides.is_empty()).collect();
        let [(summary, tier)] = of_override.as_slice() else { panic!("{of_override:?}") };
        assert_eq!((tier.tier(), tier.answer()), (v1::MatchTier::OperatorOverride, v1::TierAnswer::OneUser));
        assert_eq!((tier.expires_at, tier.overrides[0].reason.as_str()), (at(HOUR), "IT-1: two people"));
        assert!(summary.contains("IT-1: two people") && summary.contains("127.0.0.1"), "{summary}");
    };
    Desk::open(&world).await.run(&world, test).await;
}

/// What the store would decide by, and what the server is not asked for.
#[tokio::test]
async fn bad_orders_are_refused_and_change_nothing() {
    let world = World::crawled().await;
    let before = world.revision();
    let test = async |server: &Server| {
        let mut admin = server.admin().await;
        let good = || set("0oaus", "dup", &user_id(2));
        type Change = fn(&mut v1::SetOverrideRequest);
        let cases: [(Change, &str); 19] = [
            (|r| r.account = None, "InvalidArgument FIELD_MISSING account"),
            (|r| r.account.as_mut().unwrap().app = None, "InvalidArgument FIELD_MISSING account.app"),
            (|r| r.account.as_mut().unwrap().identifier = None, "InvalidArgument FIELD_MISSING account.identifier"),
            (|r| r.account = account("0oaus", "", ANY), "InvalidArgument IDENTIFIER_INVALID account.identifier.value"),
            (
                |r| r.account = account("0oaus", "a\nb", ANY),
                "InvalidArgument IDENTIFIER_INVALID account.identifier.value",
            ),
            (
                |r| r.account = account("0oaus", &"x".repeat(1_025), ANY),
                "InvalidArgument IDENTIFIER_INVALID account.identifier.value",
            ),
            (
                |r| r.account.as_mut().unwrap().identifier.as_mut().unwrap().kind = 99,
                "InvalidArgument FIELD_INVALID account.identifier.kind",
            ),
            (|r| r.account = account("no such app", "dup", ANY), "NotFound APP_UNKNOWN"),
            (|r| r.account = account("jira", "dup", ANY), "FailedPrecondition APP_AMBIGUOUS"),
            (|r| r.user_id.clear(), "InvalidArgument FIELD_MISSING user_id"),
            (|r| r.user_id = "User2@Example.com".to_owned(), "InvalidArgument FIELD_INVALID user_id"),
            (|r| r.user_id = "00unobody".to_owned(), "NotFound USER_UNKNOWN"),
            // Rows name it, and no list shows it: nobody knows who that is.
            (|r| r.user_id = "00ughost".to_owned(), "NotFound USER_UNKNOWN"),
            (|r| r.expires_at = None, "InvalidArgument FIELD_MISSING expires_at"),
            (|r| r.expires_at = at(0), "InvalidArgument FIELD_INVALID expires_at"),
            (|r| r.expires_at = at(367 * 24 * HOUR), "InvalidArgument FIELD_INVALID expires_at"),
            (
                |r| r.expires_at = Some(ProtoTimestamp { seconds: i64::MAX, nanos: i32::MAX }),
                "InvalidArgument FIELD_INVALID expires_at",
            ),
            (|r| r.reason.clear(), "InvalidArgument FIELD_MISSING reason"),
            (|r| r.reason = "x".repeat(513), "InvalidArgument FIELD_INVALID reason"),
        ];
        for (change, expected) in cases {
            let mut request = good();
            change(&mut request);
            assert_eq!(refused(&admin.set_override(request).await.unwrap_err()), expected);
        }
        let nobody = Some(v1::RequestContext { org: "nobody".to_owned(), ..Default::default() });
        let request = v1::SetOverrideRequest { context: nobody, ..good() };
        assert_eq!(refused(&admin.set_override(request).await.unwrap_err()), "NotFound ORG_UNKNOWN");
        for (app, name, expected) in [
            ("0oaus", "dup", "NotFound OVERRIDE_UNKNOWN"),
            ("0oanone", "dup", "NotFound OVERRIDE_UNKNOWN"),
            ("no such app", "dup", "NotFound APP_UNKNOWN"),
            ("jira", "dup", "FailedPrecondition APP_AMBIGUOUS"),
        ] {
            assert_eq!(refused(&admin.delete_override(delete(app, name)).await.unwrap_err()), expected, "{app}");
        }
        let mut coverage = server.coverage().await;
        for (request, expected) in [
            (
                v1::ListOverridesRequest { sources: vec![9], ..Default::default() },
                "InvalidArgument FIELD_INVALID sources",
            ),
            (
                v1::ListOverridesRequest { page_token: "x".to_owned(), ..Default::default() },
                "InvalidArgument PAGE_TOKEN_INVALID page_token",
            ),
            (
                v1::ListOverridesRequest { page_size: -1, ..Default::default() },
                "InvalidArgument FIELD_INVALID page_size",
            ),
        ] {
            assert_eq!(refused(&coverage.list_overrides(request).await.unwrap_err()), expected);
        }
        assert_eq!(resolve(server, "0oaus", "dup").await, "Ambiguous - T1");
    };
    Desk::open(&world).await.run(&world, test).await;
    assert_eq!(world.revision(), before);
    // Without an engine nothing is decided.
    let server = world.serve().await;
    let status = server.admin().await.set_override(set("0oaus", "dup", &user_id(2))).await.unwrap_err();
    assert_eq!(refused(&status), "FailedPrecondition NO_ENGINE");
}

pub(super) async fn next(stream: &mut tonic::Streaming<v1::WatchResponse>) -> Vec<v1::ChangeEvent> {
    tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap().events
}

/// Events of overrides in one line each, until a checkpoint at a revision.
async fn told(stream: &mut tonic::Streaming<v1::WatchResponse>, until: u64) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        for event in next(stream).await {
            match event.event.unwrap() {
                Event::Upsert(v1::Row { row: Some(v1::row::Row::Override(row)) }) => {
                    assert_eq!((row.created_by.as_str(), row.reason.as_str()), ("", ""), "not for this role");
                    lines.push(format!("put {}={}", row.name, row.user_id));
                }
                Event::Delete(v1::RowKey { key: Some(v1::row_key::Key::Override(key)) }) => {
                    lines.push(format!("delete {}/{} {:?}", key.app_id, key.name, key.source()));
                }
                Event::Checkpoint(checkpoint) if checkpoint.meta.as_ref().unwrap().revision >= until => return lines,
                Event::Checkpoint(_) | Event::SnapshotBegin(_) | Event::SnapshotEnd(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn followers_are_told_of_the_begin_and_the_end() {
    let world = World::crawled().await;
    let test = async |server: &Server| {
        let mut admin = server.admin().await;
        let start = v1::change_start::Start::Snapshot(v1::SnapshotStart {});
        let kinds = vec![v1::RowKind::Override.into()];
        let request = v1::WatchRequest {
            start: Some(v1::ChangeStart { start: Some(start) }),
            kinds: kinds.clone(),
            ..Default::default()
        };
        let before = world.revision();
        let mut stream = server.changes().await.watch(request.clone()).await.unwrap().into_inner();
        assert!(told(&mut stream, world.revision()).await.is_empty());
        admin.set_override(set("0oaus", "dup", &user_id(2))).await.unwrap();
        assert_eq!(told(&mut stream, world.revision()).await, ["put dup=00u0002"]);
        admin.set_override(set("0oaus", "dup", &user_id(3))).await.unwrap();
        assert_eq!(told(&mut stream, world.revision()).await, ["put dup=00u0003"]);
        admin.set_override(set("0oaeu", "user2", &user_id(4))).await.unwrap();
        assert_eq!(told(&mut stream, world.revision()).await, ["put user2=00u0004"]);
        admin.delete_override(delete("0oaeu", "user2")).await.unwrap();
        assert_eq!(told(&mut stream, world.revision()).await, ["delete 0oaeu/user2 Rpc"]);
        // A snapshot shows what there is.
        let mut second = server.changes().await.watch(request).await.unwrap().into_inner();
        assert_eq!(told(&mut second, world.revision()).await, ["put dup=00u0003"]);
        // The end comes with whatever is committed after it.
        let (revision, mut batch) = (world.revision(), world.batch());
        batch.now = NOW.plus_millis(HOUR - 1);
        world.commit(batch).await;
        assert_eq!(world.revision(), revision, "not yet");
        let mut batch = world.batch();
        batch.now = NOW.plus_millis(HOUR);
        world.commit(batch).await;
        assert_eq!(world.revision(), revision + 1);
        assert_eq!(told(&mut stream, world.revision()).await, ["delete 0oaus/dup Rpc"]);
        assert_eq!(resolve(server, "0oaus", "dup").await, "Ambiguous - T1");
        assert!(list(server, v1::ListOverridesRequest::default()).await.is_empty());
        // The polling twin tells the same, each thing once.
        let position =
            v1::ChangePosition { revision: before, store_id: world.view().store_id().to_owned(), ..Default::default() };
        let start = Some(v1::ChangeStart { start: Some(v1::change_start::Start::After(position)) });
        let request = v1::ListChangesRequest { start, kinds, ..Default::default() };
        let events = server.changes().await.list_changes(request).await.unwrap().into_inner().events;
        let deletes = events.iter().filter(|event| matches!(event.event, Some(Event::Delete(_)))).count();
        assert_eq!((deletes, events.len()), (2, 3), "{events:?}");
    };
    Desk::open(&world).await.run(&world, test).await;
}

/// Nobody has committed anything since: what is over decides nothing all the same.
#[tokio::test]
async fn what_is_over_decides_nothing_and_is_listed_until_it_goes() {
    let world = World::crawled().await;
    let writer = &world.store.writer;
    let begin = NOW.plus_millis(-HOUR);
    writer.set_override(overriding("dup", &user_id(2), NOW, "ada"), begin).await.unwrap();
    writer.set_override(overriding("three", &user_id(2), NOW.plus_millis(1), "ada"), begin).await.unwrap();
    let server = world.serve().await;
    assert_eq!(resolve(&server, "0oaus", "dup").await, "Ambiguous - T1");
    assert_eq!(resolve(&server, "0oaus", "three").await, "Resolved 00u0002 T6");
    let lines = list(&server, v1::ListOverridesRequest { page_size: 1, ..Default::default() }).await;
    assert_eq!(lines, ["Rpc 0oaus dup=00u0002 by ada: IT-2 over", "Rpc 0oaus three=00u0002 by ada: IT-2"]);
    let request = v1::ListAmbiguitiesRequest { app: app_by_any("0oaus"), ..Default::default() };
    let found = server.coverage().await.list_ambiguities(request.clone()).await.unwrap().into_inner().ambiguities;
    assert_eq!(found.iter().map(|name| name.override_count).collect::<Vec<_>>(), [0]);
    writer.set_override(overriding("dup", &user_id(2), NOW.plus_millis(HOUR), "ada"), NOW).await.unwrap();
    let found = server.coverage().await.list_ambiguities(request).await.unwrap().into_inner().ambiguities;
    assert_eq!(found.iter().map(|name| name.override_count).collect::<Vec<_>>(), [1]);
}

type Lookup = v1::lookup_client::LookupClient<Channel>;

/// Deleted in Okta, or without a row of their own: the override stays, and grants nothing.
#[tokio::test]
async fn who_is_gone_is_granted_nothing() {
    let world = World::crawled().await;
    let later = NOW.plus_millis(HOUR);
    world.store.writer.set_override(overriding("dup", &user_id(3), later, "ada"), NOW).await.unwrap();
    world.remove(Key::User(UserId::new(&user_id(3)).unwrap())).await;
    let server = world.serve().await;
    assert_eq!(resolve(&server, "0oaus", "dup").await, "Inactive 00u0003 T6");
    assert_eq!(list(&server, v1::ListOverridesRequest::default()).await.len(), 1);
    // No list speaks of them any more, so nothing is hidden.
    let mut client: Lookup = server.lookup().await;
    let request = v1::ResolveAccountRequest { account: account("0oaus", "dup", ANY), ..Default::default() };
    let meta = client.resolve_account(request).await.unwrap().into_inner().meta.unwrap();
    assert_eq!(meta.gap_ids, Vec::<String>::new());
}

/// An order that has reached the server is carried out and logged, whoever hears of it: before the engine has taken it up, and
/// while it does.
#[tokio::test]
async fn who_hangs_up_has_decided() {
    let world = World::crawled().await;
    let (control, mut commands) = Control::channel();
    let server = Server::start([world.view().with_control(control)]).await;
    for (name, is_begun) in [("early", false), ("late", true)] {
        let mut admin = server.admin().await;
        let command = {
            let mut call = std::pin::pin!(admin.set_override(set("0oaus", name, &user_id(2))));
            tokio::select! {
                answer = &mut call => panic!("nobody has carried it out: {answer:?}"),
                command = commands.recv() => command.unwrap(),
            }
            // The call is dropped here: its stream is reset.
        };
        let Command::SetOverride { ref reply, .. } = command else { panic!("{command:?}") };
        assert!(!is_begun || reply.begin());
        // On the same connection: answered after the server has seen that the other call is gone.
        admin.reindex(v1::ReindexRequest::default()).await.unwrap();
        let Command::SetOverride { setting, reply } = command else { panic!() };
        assert!(is_begun || reply.begin(), "{name}: given up because nobody listens any more");
        reply.send(world.store.writer.set_override(*setting, NOW).await);
        assert_eq!(resolve(&server, "0oaus", name).await, "Resolved 00u0002 T6");
    }
    // Whoever asks again is told what there is.
    let again = async {
        let answer = server.admin().await.set_override(set("0oaus", "early", &user_id(2))).await.unwrap();
        answer.into_inner().operator_override.unwrap().number
    };
    let engine = async {
        let Some(Command::SetOverride { setting, reply }) = commands.recv().await else { panic!() };
        assert!(reply.begin());
        reply.send(world.store.writer.set_override(*setting, NOW).await);
    };
    let (number, ()) = tokio::join!(again, engine);
    let lines = list(&server, v1::ListOverridesRequest::default()).await;
    assert_eq!((lines.len(), number), (2, 1), "{lines:?}");
}

/// How much was decided, without anybody's name.
#[tokio::test]
async fn the_status_counts_what_operators_decided() {
    let world = World::crawled().await;
    let status = async |server: &Server| {
        let request = v1::GetStatusRequest::default();
        let status = server.coverage().await.get_status(request).await.unwrap().into_inner().status.unwrap();
        let found = status.store.unwrap().overrides.unwrap();
        (found.rpc_count, found.config_count, found.next_expires_at, found.alias_count)
    };
    let server = world.serve().await;
    assert_eq!(status(&server).await, (0, 0, None, 0));
    let set = async |name: &str, from: i64, millis: i64| {
        let setting = overriding(name, &user_id(2), NOW.plus_millis(from + millis), "ada");
        world.store.writer.set_override(setting, NOW.plus_millis(from)).await.unwrap();
    };
    set("one", 0, 2 * HOUR).await;
    set("two", 0, HOUR).await;
    // Over at the time of the question, and still there.
    set("old", -2 * HOUR, HOUR).await;
    assert_eq!(status(&server).await, (2, 0, at(HOUR), 0));
    server.stop().await;
    let policy = GrantPolicySettings {
        aliases: vec![AliasSetting {
            app: "0oaus".to_owned(),
            kind: IdentifierKind::Untyped,
            name: "boss".to_owned(),
            user: user_id(2),
        }],
        ..GrantPolicySettings::default()
    };
    let server = Server::start([world.view_with(&policy)]).await;
    assert_eq!(status(&server).await, (2, 0, at(HOUR), 1));
}

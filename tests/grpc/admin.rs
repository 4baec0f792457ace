//! What operators may start, with an engine that is played by the test.

use okta_idmap::core::coverage::GapKind;
use okta_idmap::core::model::Scope;
use okta_idmap::serve::{Command, Control, IndexState, QUEUE_COMMANDS_MAX, ReadOutcome, ReleaseRefusal, Released};
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::trigger_sync_request::Target;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::world::{Server, World, user_id};

fn shown(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    let metadata: Vec<String> = info.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{:?} {} {}", status.code(), info.reason, metadata.join(" ")).trim_end().to_owned()
}

/// A server over an org with an engine, whose commands come out of the receiver.
async fn serve(world: &World) -> (Server, mpsc::Receiver<Command>) {
    let (control, commands) = Control::channel();
    (Server::start([world.view().with_control(control)]).await, commands)
}

fn row(key: v1::row_key::Key) -> Option<Target> {
    Some(Target::Row(v1::RowKey { key: Some(key) }))
}

#[tokio::test]
async fn reads_reach_the_engine() {
    let world = World::crawled().await;
    let (server, mut commands) = serve(&world).await;
    let mut engine = JoinSet::new();
    engine.spawn(async move {
        let mut seen = Vec::new();
        while let Some(command) = commands.recv().await {
            let Command::Read { target, reply } = command else { panic!("{command:?}") };
            let outcome = match seen.contains(&target.name()) {
                false => ReadOutcome::Started,
                true => ReadOutcome::AlreadyRunning,
            };
            seen.push(target.name());
            let is_strange = target.name() == "app(0oaeu)";
            let outcome = if is_strange { ReadOutcome::NotNow } else { outcome };
            reply.send(outcome);
        }
        seen
    });
    let mut client = server.admin().await;
    let scope =
        v1::Scope { kind: v1::ScopeKind::AppUsers.into(), resource_id: "0oaeu".to_owned(), ..Default::default() };
    let app_user = v1::AppUserKey { app_id: "0oaeu".to_owned(), user_id: user_id(1) };
    let targets = [
        (Some(Target::FullCrawl(v1::FullCrawl {})), v1::StartOutcome::Started, 2),
        (Some(Target::FullCrawl(v1::FullCrawl {})), v1::StartOutcome::AlreadyRunning, 2),
        (Some(Target::Scope(scope)), v1::StartOutcome::Started, 0),
        (row(v1::row_key::Key::UserId(user_id(1))), v1::StartOutcome::Started, 0),
        (row(v1::row_key::Key::AppUser(app_user)), v1::StartOutcome::Started, 0),
    ];
    for (target, outcome, crawl_id) in targets {
        let request = v1::TriggerSyncRequest { context: None, target };
        let answer = client.trigger_sync(request).await.unwrap().into_inner();
        assert_eq!((answer.outcome(), answer.crawl_id), (outcome, crawl_id));
        assert_eq!(answer.meta.unwrap().revision, world.revision());
    }
    // While one is going on, that is the one.
    world.begin_crawl(2).await;
    let again = v1::TriggerSyncRequest { context: None, target: Some(Target::FullCrawl(v1::FullCrawl {})) };
    let answer = client.trigger_sync(again).await.unwrap().into_inner();
    assert_eq!((answer.outcome(), answer.crawl_id), (v1::StartOutcome::AlreadyRunning, 2));
    let odd = v1::TriggerSyncRequest { context: None, target: row(v1::row_key::Key::AppId("0oaeu".to_owned())) };
    let refused = client.trigger_sync(odd).await.unwrap_err();
    let message = "nothing can be read from the org now; its status says why";
    assert_eq!((shown(&refused).as_str(), refused.message()), ("Unavailable NOT_SERVING", message));
    // A mistyped id is not asked for: it would be one that Okta does not show.
    let members =
        v1::Scope { kind: v1::ScopeKind::GroupMembers.into(), resource_id: "00gx".to_owned(), ..Default::default() };
    let account = v1::AppUserKey { app_id: "0oaeu".to_owned(), user_id: "00ux".to_owned() };
    let unknown = [
        row(v1::row_key::Key::UserId("00ux".to_owned())),
        row(v1::row_key::Key::GroupId("00gx".to_owned())),
        row(v1::row_key::Key::AppId("0oax".to_owned())),
        row(v1::row_key::Key::AppUser(account)),
        Some(Target::Scope(members)),
    ];
    for target in unknown {
        let status = client.trigger_sync(v1::TriggerSyncRequest { context: None, target }).await.unwrap_err();
        assert_eq!(shown(&status), "NotFound TARGET_UNKNOWN");
    }
    let log = v1::Scope { kind: v1::ScopeKind::Log.into(), ..Default::default() };
    for target in [None, Some(Target::Scope(log))] {
        let status = client.trigger_sync(v1::TriggerSyncRequest { context: None, target }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let context = Some(v1::RequestContext { org: "nobody".to_owned(), ..Default::default() });
    let request = v1::TriggerSyncRequest { context, target: Some(Target::FullCrawl(v1::FullCrawl {})) };
    assert_eq!(shown(&client.trigger_sync(request).await.unwrap_err()), "NotFound ORG_UNKNOWN");
    server.stop().await;
    engine.shutdown().await;
}

#[tokio::test]
async fn holds_are_released_as_they_were_seen() {
    let world = World::crawled().await;
    let (server, mut commands) = serve(&world).await;
    let mut client = server.admin().await;
    let mut release = async |gap_id: &str, expected_missing_row_count| {
        let request = v1::ReleaseHoldRequest { context: None, gap_id: gap_id.to_owned(), expected_missing_row_count };
        client.release_hold(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(shown(&release("", 60).await.unwrap_err()), "InvalidArgument FIELD_MISSING");
    assert_eq!(shown(&release(&"x".repeat(129), 60).await.unwrap_err()), "InvalidArgument FIELD_INVALID");
    assert_eq!(shown(&release("HELD:users", 0).await.unwrap_err()), "InvalidArgument FIELD_MISSING");
    assert_eq!(shown(&release("HELD:users", 60).await.unwrap_err()), "NotFound GAP_UNKNOWN");
    assert_eq!(shown(&release("nonsense", 60).await.unwrap_err()), "NotFound GAP_UNKNOWN");
    world.open_gap(Scope::Apps, GapKind::Failed, "GET /api/v1/apps: 500").await;
    assert_eq!(shown(&release("FAILED:apps", 60).await.unwrap_err()), "FailedPrecondition GAP_NOT_HELD");
    world.open_gap(Scope::Users, GapKind::Held, "the list no longer shows 60 of 250 rows").await;
    world.close_gap(Scope::Users, GapKind::Held).await;
    assert_eq!(shown(&release("HELD:users", 60).await.unwrap_err()), "FailedPrecondition GAP_NOT_HELD");
    world.open_gap(Scope::Users, GapKind::Held, "the list no longer shows 60 of 250 rows").await;

    let engine = async {
        for answer in [
            Err(ReleaseRefusal::Changed { missing: 61 }),
            Err(ReleaseRefusal::NotHeld),
            Err(ReleaseRefusal::Failed { detail: "secret /path".to_owned() }),
            Ok(Released { removed: 61 }),
        ] {
            let Some(Command::ReleaseHold { scope, expected_missing, reply }) = commands.recv().await else { panic!() };
            assert_eq!((scope, expected_missing), (Scope::Users, 60));
            if answer.is_ok() {
                world.close_gap(Scope::Users, GapKind::Held).await;
            }
            reply.send(answer);
        }
    };
    let operator = async {
        let changed = release("HELD:users", 60).await.unwrap_err();
        assert_eq!(shown(&changed), "FailedPrecondition HOLD_CHANGED missing_row_count=61");
        assert_eq!(shown(&release("HELD:users", 60).await.unwrap_err()), "FailedPrecondition GAP_NOT_HELD");
        let failed = release("HELD:users", 60).await.unwrap_err();
        assert_eq!(shown(&failed), "Unavailable NOT_SERVING");
        assert!(!failed.message().contains("secret"));
        let answer = release("HELD:users", 60).await.unwrap();
        let gap = answer.gap.unwrap();
        assert_eq!((answer.removed_row_count, gap.id.as_str(), gap.state()), (61, "HELD:users", v1::GapState::Closed));
        assert_eq!(answer.meta.unwrap().revision, world.revision());
    };
    tokio::join!(engine, operator);
}

#[tokio::test]
async fn without_an_engine_nothing_is_started() {
    let world = World::crawled().await;
    world.open_gap(Scope::Users, GapKind::Held, "the list no longer shows 60 of 250 rows").await;
    let server = world.serve().await;
    let mut client = server.admin().await;
    let request = v1::TriggerSyncRequest { context: None, target: Some(Target::FullCrawl(v1::FullCrawl {})) };
    assert_eq!(shown(&client.trigger_sync(request.clone()).await.unwrap_err()), "FailedPrecondition NO_ENGINE");
    let release =
        v1::ReleaseHoldRequest { gap_id: "HELD:users".to_owned(), expected_missing_row_count: 60, context: None };
    let refused = client.release_hold(release).await.unwrap_err();
    assert_eq!(shown(&refused), "FailedPrecondition NO_ENGINE");
    assert!(refused.message().contains("no engine runs here"), "{refused:?}");
    let reindex = v1::ReindexRequest::default;
    assert_eq!(shown(&client.reindex(reindex()).await.unwrap_err()), "FailedPrecondition NO_ENGINE");
    // One that has ended is another matter: it may come back.
    let (server, commands) = serve(&world).await;
    drop(commands);
    let mut client = server.admin().await;
    assert_eq!(shown(&client.trigger_sync(request).await.unwrap_err()), "Unavailable NOT_SERVING");
    assert_eq!(shown(&client.reindex(reindex()).await.unwrap_err()), "Unavailable NOT_SERVING");
}

/// The index is built once for all who ask, and searches are answered from the old one meanwhile.
#[tokio::test]
async fn an_index_is_built_once_for_all_who_ask() {
    let world = World::crawled().await;
    world.index();
    world.status.send_modify(|status| status.index.state = IndexState::Following);
    let (control, _commands) = Control::channel();
    let reindex = control.reindex().clone();
    let server = Server::start([world.view().with_control(control)]).await;
    let (mut admin, mut search) = (server.admin().await, server.search().await);
    let mut ask = async |expected: v1::StartOutcome, builds: u64| {
        let answer = admin.reindex(v1::ReindexRequest::default()).await.unwrap().into_inner();
        let index = answer.index.unwrap();
        let found = (answer.outcome, index.state(), index.build_count);
        assert_eq!(found, (expected.into(), v1::IndexState::Rebuilding, builds));
        assert!(index.revision > 0 && index.entry_count > 0, "what searches see: {index:?}");
        assert_eq!(answer.meta.unwrap().revision, world.revision());
        let request = v1::SearchRequest { query: "kind:user".to_owned(), ..Default::default() };
        assert!(!search.search(request).await.unwrap().into_inner().hits.is_empty());
    };
    ask(v1::StartOutcome::AlreadyRunning, 0).await;
    reindex.done();
    ask(v1::StartOutcome::Started, 1).await;
    ask(v1::StartOutcome::AlreadyRunning, 1).await;
    assert!(reindex.begin());
    ask(v1::StartOutcome::AlreadyRunning, 1).await;
    // What is given up is no new index.
    reindex.given_up();
    ask(v1::StartOutcome::Started, 1).await;
    assert!(reindex.begin());
    reindex.done();
    reindex.done();
    let status = server.coverage().await.get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    let index = status.status.unwrap().index.unwrap();
    assert_eq!((index.state(), index.build_count), (v1::IndexState::Following, 2));
    ask(v1::StartOutcome::Started, 2).await;
    let context = Some(v1::RequestContext { org: "nobody".to_owned(), ..Default::default() });
    assert_eq!(shown(&admin.reindex(v1::ReindexRequest { context }).await.unwrap_err()), "NotFound ORG_UNKNOWN");
}

#[tokio::test]
async fn an_engine_that_does_not_listen_is_not_waited_for() {
    let world = World::crawled().await;
    let (server, commands) = serve(&world).await;
    let request = v1::TriggerSyncRequest { context: None, target: Some(Target::FullCrawl(v1::FullCrawl {})) };
    let mut calls = JoinSet::new();
    for _ in 0..QUEUE_COMMANDS_MAX {
        let (mut client, request) = (server.admin().await, request.clone());
        calls.spawn(async move { client.trigger_sync(request).await });
    }
    while commands.len() < QUEUE_COMMANDS_MAX {
        tokio::task::yield_now().await;
    }
    assert_eq!(shown(&server.admin().await.trigger_sync(request).await.unwrap_err()), "ResourceExhausted OVERLOADED");
    drop(commands);
    while let Some(answer) = calls.join_next().await {
        assert_eq!(shown(&answer.unwrap().unwrap_err()), "Unavailable NOT_SERVING");
    }
}

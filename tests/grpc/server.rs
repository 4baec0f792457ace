//! The server itself: health, reflection, limits, shutdown, load.

use std::time::Duration;

use okta_idmap::core::model::{Kind, Row, Scope};
use okta_idmap::serve::ServerSettings;
use okta_idmap_proto::v1;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha as older;
use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient as OlderReflectionClient;
use tonic_types::StatusExt as _;

use super::world::{Server, World, account, user, user_by_id, user_id};

/// Longest wait for something that should come at once.
const PATIENCE: Duration = Duration::from_secs(20);

async fn health(channel: Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel).check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn health_turns_with_the_first_crawl_and_with_the_shutdown() {
    let world = World::empty();
    let server = world.serve().await;
    let channel = server.channel().await;
    assert_eq!(health(channel.clone(), "").await, ServingStatus::Serving);
    assert_eq!(health(channel.clone(), "idmap.v1.Lookup").await, ServingStatus::NotServing);
    let request = HealthCheckRequest { service: "idmap.v1.Lookup".to_owned() };
    let mut watched = HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    world.begin_crawl(1).await;
    world.read(Scope::Users, vec![Row::User(user(1))]).await;
    // A crawl whose last commit changes no row makes no revision, and is noticed all the same.
    world.end_crawl(1).await;
    let turned = tokio::time::timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(turned.status(), ServingStatus::Serving);
    server.shutdown.cancel();
    let turned = tokio::time::timeout(PATIENCE, watched.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(turned.status(), ServingStatus::NotServing);
    // The watcher does not hold the server up.
    let begin = Instant::now();
    server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let world = World::empty();
    let list =
        |message_request| ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
    let server = world.serve().await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = futures_util::stream::iter([list(MessageRequest::ListServices(String::new()))]);
    let mut answers = client.server_reflection_info(request).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else { panic!() };
    let mut names: Vec<String> = services.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "idmap.v1.Admin",
            "idmap.v1.Changes",
            "idmap.v1.Coverage",
            "idmap.v1.Lookup",
            "idmap.v1.Search"
        ]
    );
    // The older form, which many tools still speak, lists the same.
    let mut older = OlderReflectionClient::new(server.channel().await);
    let request = older::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(older::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = older.server_reflection_info(futures_util::stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(older::server_reflection_response::MessageResponse::ListServicesResponse(services)) = answer else {
        panic!()
    };
    assert!(services.service.iter().any(|service| service.name == "idmap.v1.Lookup"));
    let settings = ServerSettings { reflection: false, ..ServerSettings::default() };
    let silent = Server::start_with([world.view()], settings).await;
    let mut client = ServerReflectionClient::new(silent.channel().await);
    let request = futures_util::stream::iter([list(MessageRequest::ListServices(String::new()))]);
    assert_eq!(client.server_reflection_info(request).await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn requests_beyond_the_limit_are_refused() {
    let world = World::crawled().await;
    let settings = ServerSettings { max_message_bytes: 64 << 10, ..ServerSettings::default() };
    let server = Server::start_with([world.view()], settings).await;
    let request = v1::GetUserRequest { user: user_by_id(&"x".repeat(65 << 10)), context: None };
    let status = server.lookup().await.get_user(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "REQUEST_UNREADABLE");
    let request = v1::GetUserRequest { user: user_by_id(&user_id(2)), context: None };
    server.lookup().await.get_user(request).await.unwrap();
}

#[tokio::test]
async fn shutdown_lets_calls_end() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let mut client = server.lookup().await;
        let item = |n: usize| v1::BatchResolveItem {
            correlation_id: n.to_string(),
            account: account("0oaeu", &format!("user{}", n % 250), v1::IdentifierKind::Unspecified),
        };
        let items: Vec<v1::BatchResolveItem> = (0..1_000).map(item).collect();
        calls.spawn(async move { client.batch_resolve(v1::BatchResolveRequest { items, ..Default::default() }).await });
    }
    // The calls are under way once one of them is answered: all were sent before it.
    let first = calls.join_next().await.unwrap().unwrap();
    assert_eq!(first.unwrap().into_inner().results.len(), 1_000);
    let address = server.address;
    server.stop().await;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(answer) => assert_eq!(answer.into_inner().results.len(), 1_000),
            // One whose request had not arrived yet is told to go elsewhere.
            Err(status) => assert_ne!(status.code(), Code::Internal, "{status:?}"),
        }
    }
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_consistent_under_load_and_writes() {
    let world = World::crawled().await;
    world.index();
    let server = world.serve().await;
    let mut calls = JoinSet::new();
    for worker in 0..8_usize {
        let mut lookup = server.lookup().await;
        let mut search = server.search().await;
        calls.spawn(async move {
            let mut newest = 0;
            for round in 0..40_usize {
                let n = (worker * 40 + round) % 125 * 2;
                let account = account("0oaeu", &format!("user{n}"), v1::IdentifierKind::UserName);
                let request = v1::ResolveAccountRequest { account, ..Default::default() };
                let answer = lookup.resolve_account(request).await.unwrap().into_inner();
                let resolution = answer.resolution.unwrap();
                assert_eq!(resolution.user.unwrap().id, user_id(n));
                let revision = answer.meta.unwrap().revision;
                assert!(revision >= newest, "revisions never go back");
                newest = revision;
                let request = v1::ListUserGroupsRequest { user: user_by_id(&user_id(n)), ..Default::default() };
                let groups = lookup.list_user_groups(request).await.unwrap().into_inner().groups;
                assert!(!groups.is_empty());
                let query = format!("id:{}", user_id(n));
                let request = v1::SearchRequest { query, ..Default::default() };
                assert_eq!(search.search(request).await.unwrap().into_inner().hits.len(), 1);
            }
        });
    }
    for n in 0..50 {
        world.put(vec![Row::User(user(2_000 + n))]).await;
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    let rows = world.store.reader.read(|snapshot| Ok(snapshot.meta()?.rows)).unwrap();
    assert_eq!(rows[&Kind::User], 300);
    server.stop().await;
}

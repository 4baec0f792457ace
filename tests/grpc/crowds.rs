//! Clients that are many, slow or silent, whether or not they mean harm: nobody else waits for them, and what they hold is
//! bounded.

use std::time::Duration;

use okta_idmap::core::access::{CertificateName, Role};
use okta_idmap::core::model::Row;
use okta_idmap::serve::{ClientLimits, ServerSettings};
use okta_idmap_proto::v1;
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::pki::Authority;
use super::raw::RawCodec;
use super::security::{PATIENCE, Secure, look_up, token, tokens, with};
use super::world::{Server, World, member, user, user_id};

#[tokio::test]
async fn who_connects_and_says_nothing_holds_nobody_up() {
    let world = World::crawled().await;
    let settings = ServerSettings { max_connections: 8, ..with(tokens()) };
    let secure = Secure::start(&world, settings, None, false).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(secure.address()).await.unwrap());
    }
    let read = format!("Bearer {}", token(Role::Read));
    for _ in 0..5 {
        let outcome = tokio::time::timeout(PATIENCE, secure.outcome(None, Some(&read))).await.unwrap();
        assert_eq!(outcome, "OK");
    }
    // The oldest were ended to make room.
    let slow: u64 = secure.metric("refused_connections_total{reason=\"slow_handshake\"}").await.parse().unwrap();
    assert!((100..300).contains(&slow), "{slow}");
    drop(silent);
    secure.stop().await;
}

#[tokio::test]
async fn there_are_only_so_many_connections() {
    let world = World::crawled().await;
    let settings = ServerSettings { max_connections: 2, ..with(tokens()) };
    let server = Server::start_with([world.view()], settings).await;
    let read = format!("Bearer {}", token(Role::Read));
    let (one, two) = (server.channel().await, server.channel().await);
    assert_eq!(look_up(&one, Some(&read)).await, "OK");
    assert_eq!(look_up(&two, Some(&read)).await, "OK");
    let endpoint = || Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let third = async {
        match endpoint().connect().await {
            Ok(channel) => look_up(&channel, Some(&read)).await,
            Err(_) => "no connection".to_owned(),
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, third).await.unwrap(), "no connection");
    drop(one);
    let reached = async {
        loop {
            if let Ok(channel) = endpoint().connect().await
                && look_up(&channel, Some(&read)).await == "OK"
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
    drop(two);
    server.stop().await;
}

#[tokio::test]
async fn who_never_calls_does_not_keep_out_whose_certificate_is_known() {
    let world = World::crawled().await;
    let clients = Authority::new("client root");
    let mut access = tokens();
    access.add_certificate(CertificateName::Uri("spiffe://test/search".to_owned()), Role::Read);
    let settings = ServerSettings { max_connections: 64, ..with(access) };
    let secure = Secure::start(&world, settings, Some(&clients.root_pem), true).await;
    // Handshakes are done, and calls do not come: an eighth of all, half of them with a certificate that nobody knows.
    let other = clients.client("other");
    let mut silent = Vec::new();
    for n in 0..8 {
        silent.push(secure.connect((n % 2 == 0).then_some(&other)).await.unwrap());
    }
    let read = format!("Bearer {}", token(Role::Read));
    assert_eq!(secure.outcome(None, Some(&read)).await, "no connection");
    assert_eq!(secure.outcome(Some(&other), Some(&read)).await, "no connection");
    for _ in 0..3 {
        assert_eq!(secure.outcome(Some(&clients.client("search")), None).await, "OK");
    }
    drop(silent);
    secure.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_slow_readers_do_no_harm() {
    let world = World::crawled().await;
    let client = ClientLimits { calls: 120, watches: 50, calls_per_second: None, answer_bytes: 256 << 20 };
    let server = Server::start_with([world.view()], ServerSettings { client, ..with(tokens()) }).await;
    let slow = format!("Bearer {}", token(Role::Explain));
    let endpoint = || {
        // Answers stop after a kibibyte.
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        endpoint.initial_stream_window_size(1_024).initial_connection_window_size(64 << 10)
    };
    let ask = async |channel: Channel, request: Vec<u8>, path: &'static str| {
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.unwrap();
        let mut request = Request::new(request);
        request.metadata_mut().insert("authorization", slow.parse().unwrap());
        let codec = RawCodec;
        grpc.server_streaming(request, path.parse().unwrap(), codec).await
    };
    let snapshot = v1::WatchRequest {
        start: Some(v1::ChangeStart { start: Some(v1::change_start::Start::Snapshot(v1::SnapshotStart {})) }),
        ..Default::default()
    };
    let list = v1::ListGroupMembersRequest { group_id: "00geng".to_owned(), page_size: 1_000, ..Default::default() };
    let mut unread = Vec::new();
    for _ in 0..10 {
        let channel = endpoint().connect().await.unwrap();
        for _ in 0..5 {
            let watching = ask(channel.clone(), snapshot.encode_to_vec(), "/idmap.v1.Changes/Watch").await;
            unread.push(watching.unwrap());
            unread.push(ask(channel.clone(), list.encode_to_vec(), "/idmap.v1.Lookup/ListGroupMembers").await.unwrap());
        }
    }
    assert_eq!(unread.len(), 100);
    // The slow client has used up its own streams, and nobody else's.
    let status = ask(endpoint().connect().await.unwrap(), snapshot.encode_to_vec(), "/idmap.v1.Changes/Watch").await;
    assert_eq!(status.err().map(|status| status.code()), Some(Code::ResourceExhausted));
    let read = format!("Bearer {}", token(Role::Read));
    let channel = server.channel().await;
    let others = async {
        for n in 0..200 {
            assert_eq!(look_up(&channel, Some(&read)).await, "OK");
            if n % 20 == 0 {
                world.put(vec![Row::User(user(3_000 + n))]).await;
            }
        }
        let mut request = Request::new(snapshot.clone());
        request.metadata_mut().insert("authorization", read.parse().unwrap());
        let mut changes = v1::changes_client::ChangesClient::new(channel.clone());
        let mut watching = changes.watch(request).await.unwrap().into_inner();
        let mut events = 0;
        while events < 300 {
            events += watching.message().await.unwrap().unwrap().events.len();
        }
    };
    tokio::time::timeout(PATIENCE, others).await.unwrap();
    // Who goes away gives everything back.
    drop(unread);
    let back = async {
        loop {
            let channel = endpoint().connect().await.unwrap();
            if ask(channel, snapshot.encode_to_vec(), "/idmap.v1.Changes/Watch").await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_leaves_untaken_is_bounded() {
    let world = World::crawled().await;
    let people = (5_000..6_000).flat_map(|n| [Row::User(user(n)), member("00geng", &user_id(n))]);
    world.put(people.collect()).await;
    let client = ClientLimits { calls: 100, watches: 50, calls_per_second: None, answer_bytes: 1 << 20 };
    let server = Server::start_with([world.view()], ServerSettings { client, ..with(tokens()) }).await;
    let list = v1::ListGroupMembersRequest { group_id: "00geng".to_owned(), page_size: 1_000, ..Default::default() };
    let ask = async |channel: &Channel, role: Role| {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let mut request = Request::new(list.encode_to_vec());
        request.metadata_mut().insert("authorization", format!("Bearer {}", token(role)).parse().unwrap());
        grpc.server_streaming(request, "/idmap.v1.Lookup/ListGroupMembers".parse().unwrap(), RawCodec).await
    };
    let whole = server.channel().await;
    let mut answer = ask(&whole, Role::Read).await.unwrap().into_inner();
    let bytes = answer.message().await.unwrap().unwrap().len();
    assert!(bytes > 16 << 10, "{bytes}: too small to be counted");
    // One that takes a kibibyte of each answer and no more.
    let slow = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let slow = slow.initial_stream_window_size(1_024).connect().await.unwrap();
    let mut unread = Vec::new();
    let refused = loop {
        match ask(&slow, Role::Explain).await {
            Ok(answer) => unread.push(answer),
            Err(status) => break status,
        }
        assert!(unread.len() * bytes <= 1 << 20, "{} answers of {bytes} bytes are held", unread.len());
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("server.max_client_answer_bytes"), "{refused}");
    assert!(unread.len() * bytes > 800 << 10, "{} answers of {bytes} bytes", unread.len());
    // Others, and small answers, are not concerned.
    ask(&whole, Role::Read).await.unwrap();
    let explain = format!("Bearer {}", token(Role::Explain));
    assert_eq!(look_up(&slow, Some(&explain)).await, "OK");
    drop(unread);
    let back = async {
        while ask(&slow, Role::Explain).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.unwrap();
    server.stop().await;
}

//! Streams of changes: how many there may be, and how they end.

use std::time::Duration;

use okta_idmap::serve::ServerSettings;
use okta_idmap_proto::v1;
use tokio::time::Instant;
use tonic::Code;

use super::changes::{PATIENCE, after, list, snapshot, until, watch};
use super::world::{Server, World};

#[tokio::test]
async fn there_are_only_so_many_streams() {
    let world = World::crawled().await;
    let settings = ServerSettings { max_watches: 64, ..ServerSettings::default() };
    let server = Server::start_with([world.view()], settings).await;
    let mut client = server.changes().await;
    let request = v1::WatchRequest { start: after(&world, world.revision()), ..Default::default() };
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(client.watch(request.clone()).await.unwrap().into_inner());
    }
    let refused = client.watch(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // Polling still works, and a place becomes free when a client leaves.
    list(&server, v1::ListChangesRequest { start: request.start.clone(), ..Default::default() }).await;
    streams.pop();
    let begun = Instant::now();
    while client.watch(request.clone()).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the place was not given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn streams_end_with_the_server() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut stream = watch(&server, snapshot(), &[]).await;
    until(&mut stream, world.revision()).await;
    // One that does not read: it must not hold the end up for ever.
    let mut silent = watch(&server, snapshot(), &[]).await;
    let begun = Instant::now();
    server.shutdown.cancel();
    let status = loop {
        match tokio::time::timeout(PATIENCE, stream.message()).await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a stream that goes on elsewhere does not end with OK"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    while let Ok(Some(_)) = silent.message().await {}
}

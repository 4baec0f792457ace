//! The client for Rust programs against a real server: tokens, refusals, repetitions, pages.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use okta_idmap::client::{Client, ClientError, Options, Retry};
use okta_idmap::core::access::{Access, Role, TokenHash, token_of};
use okta_idmap::core::secret::Secret;
use okta_idmap::serve::ServerSettings;
use okta_idmap_proto::v1::{self, ErrorReason};
use tonic::Code;

use super::door::Door;
use super::world::{Server, USERS, World};

fn options(server: &Server) -> Options {
    Options::new(&format!("http://{}", server.address)).unwrap()
}

#[tokio::test]
async fn a_token_opens_the_door_and_no_more_than_its_role() {
    let world = World::crawled().await;
    let token = token_of(&[7; 32]);
    let mut access = Access::default();
    assert!(access.add_token("search engine", Role::Read, TokenHash::of(token.expose()).unwrap()));
    let settings = ServerSettings { access: std::sync::Arc::new(access), ..ServerSettings::default() };
    let server = Server::start_with([world.view()], settings).await;

    let nobody = Client::connect(&options(&server)).await.unwrap();
    assert_eq!(nobody.resolve("0oaeu", "user4").await.unwrap_err().reason(), Some(ErrorReason::CredentialRequired));

    let secret = Secret::new(token.expose().to_owned());
    let reader = Client::connect(&options(&server).with_token(secret).unwrap()).await.unwrap();
    assert!(!format!("{reader:?}").contains(token.expose()));
    let answer = reader.resolve("0oaeu", "user4").await.unwrap();
    assert_eq!(answer.resolution.unwrap().outcome(), v1::ResolutionOutcome::Resolved);
    let refused = reader.reindex(v1::ReindexRequest::default()).await.unwrap_err();
    let refusal = refused.refusal().unwrap();
    assert_eq!((refusal.code, refusal.reason), (Code::PermissionDenied, Some(ErrorReason::RoleRequired)));
    assert_eq!(refusal.metadata.get("role").map(String::as_str), Some("admin"));
    // Changes may be read; names that people had before may not.
    let start = Some(v1::change_start::Start::Snapshot(v1::SnapshotStart {}));
    let rows = v1::WatchRequest { start: Some(v1::ChangeStart { start }), ..Default::default() };
    drop(reader.watch(rows.clone()).await.unwrap());
    let refused = reader.watch(v1::WatchRequest { for_resolution: true, ..rows }).await.unwrap_err();
    assert_eq!(refused.reason(), Some(ErrorReason::RoleRequired));
    assert_eq!(refused.refusal().unwrap().metadata.get("role").map(String::as_str), Some("explain"));
    server.stop().await;
}

#[tokio::test]
async fn refusals_have_their_details() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let client = Client::connect(&options(&server)).await.unwrap();
    let refused = client.resolve("0oaeu", "a\0b").await.unwrap_err();
    let refusal = refused.refusal().unwrap();
    assert_eq!((refusal.code, refusal.reason), (Code::InvalidArgument, Some(ErrorReason::IdentifierInvalid)));
    assert_eq!(refusal.fields[0].subject, "account.identifier.value");
    server.stop().await;
}

#[tokio::test]
async fn a_list_is_a_stream_of_pages_with_an_end() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let client = Client::connect(&options(&server)).await.unwrap();
    let request = v1::ListAppUsersRequest {
        app: super::world::app_by_id("0oaeu"),
        page_size: 20,
        ..v1::ListAppUsersRequest::default()
    };
    let mut pages = pin!(client.app_user_pages(request.clone(), 100));
    let (mut rows, mut count) = (0, 0);
    while let Some(page) = pages.next().await {
        rows += page.unwrap().accounts.len();
        count += 1;
    }
    assert_eq!((rows, count), (USERS / 2 + 1, (USERS / 2 + 1).div_ceil(20)));

    let mut pages = pin!(client.app_user_pages(request, 3));
    let mut ended = Vec::new();
    while let Some(page) = pages.next().await {
        ended.push(page.map(drop));
    }
    assert_eq!(ended.len(), 4);
    assert!(matches!(ended.pop(), Some(Err(ClientError::TooManyPages(3)))));
    server.stop().await;
}

#[tokio::test]
async fn only_reads_are_repeated_and_not_for_ever() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let door = Door::open(server.address).await;
    let options = Options::new(&door.url()).unwrap();
    let retry = Retry { attempts_max: 50, wait_min: Duration::from_millis(50), wait_max: Duration::from_millis(200) };
    let patient = Client::lazy(&options.clone().with_retry(retry)).unwrap();
    let hasty = Client::lazy(&options.with_retry(Retry { attempts_max: 2, ..retry })).unwrap();
    door.lead_to(None);
    // A door that is shut at once reads as a call that was cancelled.
    let is_gone = |error: ClientError| matches!(error.refusal().unwrap().code, Code::Unavailable | Code::Cancelled);
    assert!(is_gone(hasty.resolve("0oaeu", "user4").await.unwrap_err()));
    // An order is given once, however patient its client is.
    assert!(is_gone(patient.reindex(v1::ReindexRequest::default()).await.unwrap_err()));
    let coming_back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        door.lead_to(Some(server.address));
    };
    let (answer, ()) = tokio::join!(patient.resolve("0oaeu", "user4"), coming_back);
    assert_eq!(answer.unwrap().resolution.unwrap().outcome(), v1::ResolutionOutcome::Resolved);
    assert!(matches!(
        Client::connect(&Options::new("http://127.0.0.1:1").unwrap()).await.unwrap_err(),
        ClientError::Unreachable { .. }
    ));
    server.stop().await;
}

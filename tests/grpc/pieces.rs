//! Requests as they may come over HTTP/2, whole or in pieces: the server has two ways of reading them, and one answer.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request};
use okta_idmap_proto::v1;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::world::{World, account};

/// What is sent of a request, one after the other.
#[derive(Clone, Debug)]
enum Sent {
    Data(Vec<u8>),
    /// Time for the server to see what it has.
    Pause,
    Trailers,
    End,
}

/// Headers and message of an answer: of a refusal its code and text, and no data.
async fn call(
    client: &h2::client::SendRequest<Bytes>,
    path: &str,
    encoding: Option<&str>,
    sent: &[Sent],
) -> (String, Vec<u8>) {
    let mut client = client.clone().ready().await.unwrap();
    let mut request = Request::post(format!("http://x{path}")).header(CONTENT_TYPE, "application/grpc");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let (answer, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    for (place, piece) in sent.iter().enumerate() {
        let is_last = matches!(sent.get(place + 1), Some(Sent::End)) && place + 2 == sent.len();
        match piece {
            // Who has been refused need not hear the rest.
            Sent::Data(bytes) => drop(body.send_data(Bytes::from(bytes.clone()), is_last)),
            Sent::Pause => tokio::time::sleep(std::time::Duration::from_millis(30)).await,
            Sent::Trailers => body.send_trailers(HeaderMap::new()).unwrap(),
            Sent::End => {}
        }
    }
    let (head, mut body) = answer.await.unwrap().into_parts();
    let mut data = Vec::new();
    while let Some(piece) = body.data().await {
        data.extend_from_slice(&piece.unwrap());
    }
    let trailers = body.trailers().await.unwrap().unwrap_or(head.headers);
    let text = |name: &str| trailers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    (format!("{} {}", text("grpc-status"), text("grpc-message")), data)
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

#[tokio::test]
async fn a_request_is_answered_alike_whole_or_in_pieces() {
    use Sent::{Data, End, Pause, Trailers};
    let world = World::crawled().await;
    let server = world.serve().await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { connection.await.unwrap() });

    let selector = account("0oaeu", "user2", v1::IdentifierKind::UserName);
    let one = v1::ResolveAccountRequest { account: selector.clone(), ..v1::ResolveAccountRequest::default() };
    let items =
        (0..40).map(|number| v1::BatchResolveItem { correlation_id: number.to_string(), account: selector.clone() });
    let many = v1::BatchResolveRequest { items: items.collect(), ..v1::BatchResolveRequest::default() };
    let resolve = ("/idmap.v1.Lookup/ResolveAccount", one.encode_to_vec());
    let batch = ("/idmap.v1.Lookup/BatchResolve", many.encode_to_vec());
    for (path, message) in [resolve, batch] {
        let whole = framed(0, &message);
        let (begin, end) = whole.split_at(9);
        let (begin, end) = (Data(begin.to_vec()), Data(end.to_vec()));
        let all = Data(whole.clone());
        let empty = Data(Vec::new());
        let expected = call(&client, path, None, &[all.clone(), End]).await;
        assert_eq!(expected.0.trim(), "0", "{path}");
        assert_eq!(expected.1.first(), Some(&0), "not compressed");
        let alike: [&[Sent]; 7] = [
            &[all.clone(), empty.clone(), End],
            &[all.clone(), Pause, empty.clone(), End],
            &[all.clone(), Trailers],
            &[all.clone(), Pause, Trailers],
            &[begin.clone(), end.clone(), End],
            &[begin.clone(), Pause, end.clone(), End],
            &[begin.clone(), Pause, end, Pause, empty.clone(), End],
        ];
        for sent in alike {
            assert_eq!(call(&client, path, None, sent).await, expected, "{path} {sent:?}");
        }
        assert_eq!(call(&client, path, Some("identity"), &[all.clone(), End]).await, expected);
        // What is refused is refused alike, however it comes.
        let (mut garbled, mut long) = (whole.clone(), whole.clone());
        (garbled[5], long[4]) = (0xff, long[4].wrapping_add(1));
        for (bad, code) in
            [(garbled, "3"), (framed(1, &message), "3"), (framed(9, &message), "3"), (long, "3"), (vec![], "3")]
        {
            let whole = call(&client, path, None, &[Data(bad.clone()), End]).await;
            assert!(whole.0.starts_with(code) && whole.1.is_empty(), "{path} {whole:?} {bad:?}");
            let later = call(&client, path, None, &[Data(bad.clone()), Pause, empty.clone(), End]).await;
            assert_eq!(later, whole, "{path}");
        }
        let encoded = call(&client, path, Some("gzip"), &[all, End]).await;
        assert!(encoded.0.starts_with("12"), "UNIMPLEMENTED: {encoded:?}");
    }
}

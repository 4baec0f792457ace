//! Single calls whose request is there as a whole: read, answered and written at once.
//!
//! Entry point: [`answer`].
//!
//! The way through tonic is made for streams: buffers, a future of two KiB for each call, and bodies in boxes, which together took
//! as long as to find who has a name. A request of which all has come, as that of nearly every look-up, needs none of it.
//!
//! Invariant: whatever is not just one message as it should be, uncompressed and within the limits, goes that way untouched, and is
//! refused there by the library. So both ways answer the same.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::future::{Either, ready};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};

use super::Pointed;
use super::encoded::Encoded;
use super::errors::Failure;
use super::gate::Answer;

/// Bytes before a message: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Frames that are looked at for the whole of a request: its message, and an end that comes by itself.
const FRAMES_MAX: usize = 2;

/// Frames that have been looked at.
type Read = [Option<Result<Frame<Bytes>, Status>>; FRAMES_MAX];

/// Answers a call of which all has come; gives any other to `rest`. `bytes_max`: of the message.
pub(super) fn answer<Q: Message + Default>(
    request: Request<Body>,
    bytes_max: usize,
    answer: impl FnOnce(tonic::Request<Q>) -> Pointed<Encoded>,
    rest: impl FnOnce(Request<Body>) -> Answer<Body>,
) -> Answer<Body> {
    // tonic knows which it takes.
    if request.headers().contains_key("grpc-encoding") {
        return rest(request);
    }
    let (parts, body) = request.into_parts();
    match whole(body, bytes_max) {
        Ok(message) => {
            let metadata = MetadataMap::from_headers(parts.headers);
            match answer(tonic::Request::from_parts(metadata, parts.extensions, message)) {
                Either::Left(answered) => Either::Left(ready(Ok(written(answered.into_inner())))),
                Either::Right(answer) => Either::Right(Box::pin(async { Ok(written(answer.await)) })),
            }
        }
        Err(body) => rest(Request::from_parts(parts, body)),
    }
}

/// The message of a body of which all has come; else the body as it was.
fn whole<Q: Message + Default>(mut body: Body, bytes_max: usize) -> Result<Q, Body> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut read: Read = [const { None }; FRAMES_MAX];
    for place in &mut read {
        // Whoever waits for what has not come asks again.
        let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(&mut cx) else { break };
        *place = frame;
        if place.is_none() || body.is_end_stream() {
            break;
        }
    }
    let data = |place: &Option<Result<Frame<Bytes>, Status>>| place.as_ref()?.as_ref().ok()?.data_ref().cloned();
    let message = match &read {
        _ if !body.is_end_stream() => None,
        [first, None] => data(first).and_then(|data| message(&data, bytes_max)),
        // An end that came by itself.
        [first, end] if data(end).is_some_and(|end| end.is_empty()) => {
            data(first).and_then(|data| message(&data, bytes_max))
        }
        _ => None,
    };
    message.ok_or_else(|| match read {
        [None, _] => body,
        read => Body::new(Replayed { read, rest: body }),
    })
}

/// The message in the only piece of data of a request.
fn message<Q: Message + Default>(data: &Bytes, bytes_max: usize) -> Option<Q> {
    let (prefix, message) = data.split_at_checked(PREFIX_BYTES)?;
    let [0, length @ ..] = prefix else { return None };
    let length = u32::from_be_bytes(length.try_into().ok()?);
    (usize::try_from(length).ok()? == message.len() && message.len() <= bytes_max)
        .then(|| Q::decode(message).ok())
        .flatten()
}

/// The answer for HTTP.
fn written(answered: Result<tonic::Response<Encoded>, Status>) -> Response<Body> {
    let (metadata, encoded, extensions) = match answered {
        Ok(response) => response.into_parts(),
        Err(status) => return status.into_http(),
    };
    let Some(data) = encoded.framed(RESPONSE_BYTES_MAX) else {
        return Failure::ResponseTooLarge.status().into_http();
    };
    let mut response = Response::new(Body::new(Whole { data: Some(data), is_over: false }));
    *response.headers_mut() = metadata.into_headers();
    *response.extensions_mut() = extensions;
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

/// A message, and that all is well.
struct Whole {
    data: Option<Bytes>,
    is_over: bool,
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if let Some(data) = this.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::replace(&mut this.is_over, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

/// A body whose first frames have been looked at.
struct Replayed {
    read: Read,
    rest: Body,
}

impl HttpBody for Replayed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.read.iter_mut().find_map(Option::take) {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.iter().all(Option::is_none) && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use okta_idmap_proto::v1;

    use super::*;

    const BYTES_MAX: usize = 1_000;

    /// What a body gives each time it is asked; it has ended once nothing is left.
    struct Given(Vec<Option<Result<Frame<Bytes>, Status>>>);

    impl HttpBody for Given {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            match self.0.remove(0) {
                Some(frame) => Poll::Ready(Some(frame)),
                None => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn request(org: &str) -> v1::GetUserRequest {
        let context = v1::RequestContext { org: org.to_owned(), ..v1::RequestContext::default() };
        v1::GetUserRequest { context: Some(context), ..v1::GetUserRequest::default() }
    }

    fn framed(message: &impl Message) -> Vec<u8> {
        Encoded::of(message).framed(usize::MAX).unwrap().to_vec()
    }

    fn data(bytes: &[u8]) -> Option<Result<Frame<Bytes>, Status>> {
        Some(Ok(Frame::data(Bytes::copy_from_slice(bytes))))
    }

    async fn next(body: &mut Body) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    /// The answers of both: `Ok` is what was read at once, `Err` the body as the library gets it.
    async fn read(given: Given) -> Result<v1::GetUserRequest, (Vec<u8>, bool, Option<Status>)> {
        let mut body = match whole(Body::new(given), BYTES_MAX) {
            Ok(message) => return Ok(message),
            Err(body) => body,
        };
        let (mut bytes, mut has_trailers) = (Vec::new(), false);
        while let Some(frame) = next(&mut body).await {
            match frame {
                Ok(frame) if frame.is_trailers() => has_trailers = true,
                Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap()),
                Err(status) => return Err((bytes, has_trailers, Some(status))),
            }
        }
        assert!(body.is_end_stream());
        Err((bytes, has_trailers, None))
    }

    #[tokio::test]
    async fn a_message_that_is_there_is_read_and_all_else_is_left_as_it_came() {
        let asked = request("acme");
        let sent = framed(&asked);
        for given in [vec![data(&sent)], vec![data(&sent), data(&[])]] {
            assert_eq!(read(Given(given)).await.unwrap(), asked);
        }
        let empty = framed(&v1::GetUserRequest::default());
        assert_eq!(read(Given(vec![data(&empty)])).await.unwrap(), v1::GetUserRequest::default());
        let (begin, end) = sent.split_at(7);
        let with = |place: usize, byte: u8| {
            let mut sent = sent.clone();
            sent[place] = byte;
            sent
        };
        let long = framed(&request(&"x".repeat(BYTES_MAX)));
        let trailers = || Some(Ok(Frame::trailers(HeaderMap::new())));
        let cases = [
            ("nothing", vec![], vec![], false),
            ("not yet", vec![None, data(&sent)], sent.clone(), false),
            ("in pieces", vec![data(begin), data(end)], sent.clone(), false),
            ("its end comes later", vec![data(&sent), None, data(&[])], sent.clone(), false),
            ("in more pieces", vec![data(begin), None, data(end), data(&[])], sent.clone(), false),
            ("cut off", vec![data(begin)], begin.to_vec(), false),
            ("two", vec![data(&sent), data(&sent)], [sent.clone(), sent.clone()].concat(), false),
            ("two in one piece", vec![data(&[sent.clone(), sent.clone()].concat())], sent.repeat(2), false),
            ("trailers", vec![data(&sent), trailers()], sent.clone(), true),
            ("trailers after an end", vec![data(&sent), data(&[]), trailers()], sent.clone(), true),
            ("compressed", vec![data(&with(0, 1))], with(0, 1), false),
            ("longer than it says", vec![data(&with(4, sent[4] - 1))], with(4, sent[4] - 1), false),
            ("shorter than it says", vec![data(&with(1, 255))], with(1, 255), false),
            ("no message", vec![data(&with(5, 255))], with(5, 255), false),
            ("too long", vec![data(&long)], long.clone(), false),
        ];
        for (name, given, bytes, has_trailers) in cases {
            let (found, trailers, status) = read(Given(given)).await.unwrap_err();
            assert_eq!((found, trailers, status.is_none()), (bytes, has_trailers, true), "{name}");
        }
        let broken = || Some(Err(Status::cancelled("gone")));
        for given in [vec![broken()], vec![data(begin), broken()], vec![data(&sent), broken()]] {
            assert!(read(Given(given)).await.unwrap_err().2.is_some());
        }
    }

    /// How a call is answered, and whether by the library's way.
    fn call(
        headers: &[(&'static str, &'static str)],
        answered: Result<tonic::Response<Encoded>, Status>,
    ) -> Option<Response<Body>> {
        let mut request = Request::new(Body::new(Given(vec![data(&framed(&request("acme")))])));
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        request.extensions_mut().insert(7_u8);
        let at_once = |request: tonic::Request<v1::GetUserRequest>| {
            assert_eq!(request.extensions().get(), Some(&7_u8));
            assert!(request.metadata().len() >= headers.len());
            Pointed::Left(ready(answered))
        };
        let answer = answer(request, BYTES_MAX, at_once, |_| Answer::Right(Box::pin(std::future::pending())));
        answer.now_or_never().map(Result::unwrap)
    }

    #[tokio::test]
    async fn answers_are_what_the_library_makes_of_them() {
        let message = request("answer");
        let answered = || Ok(tonic::Response::new(Encoded::of(&message)));
        let answer = call(&[("te", "trailers")], answered()).unwrap();
        assert_eq!(answer.headers().get(CONTENT_TYPE).unwrap(), "application/grpc");
        assert!(Status::from_header_map(answer.headers()).is_none());
        let mut body = answer.into_body();
        let data = next(&mut body).await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data.to_vec(), framed(&message));
        assert!(!body.is_end_stream());
        let trailers = next(&mut body).await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!((trailers.len(), trailers.get("grpc-status").unwrap().as_bytes()), (1, &b"0"[..]));
        assert!(body.is_end_stream() && next(&mut body).await.is_none());
        // What is compressed, or says so, is the library's.
        assert!(call(&[("grpc-encoding", "gzip")], answered()).is_none());
        let status = |answer: Response<Body>| Status::from_header_map(answer.headers()).unwrap().code();
        assert_eq!(status(call(&[], Err(Status::not_found("x"))).unwrap()), tonic::Code::NotFound);
        let long = request(&"x".repeat(RESPONSE_BYTES_MAX));
        let answer = call(&[], Ok(tonic::Response::new(Encoded::of(&long)))).unwrap();
        assert_eq!(status(answer), Failure::ResponseTooLarge.status().code());
    }
}

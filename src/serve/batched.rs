//! Answers of `BatchResolve` as bytes: each result is encoded as soon as it is known, and nothing else of it is kept.
//!
//! Entry points: [`Encoded`], which is what is answered, and [`Batched`], which has the rpc answered by it.
//!
//! A thousand results as messages are twenty thousand pieces of memory that all live until the last is known. To get and to give back so
//! many took a third of the time of a batch.

use std::convert::Infallible;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::lookup_server::LookupServer;
use prost::Message as _;
use prost::bytes::BufMut as _;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::{ProstCodec, ProstDecoder};
use tower_service::Service;

use super::lookup::LookupService;

const PATH: &str = "/idmap.v1.Lookup/BatchResolve";

/// Numbers of the fields of `idmap.v1.BatchResolveResponse`.
const META: u32 = 1;
const RESULTS: u32 = 2;

/// An `idmap.v1.BatchResolveResponse` as bytes.
#[derive(Debug)]
pub(super) struct Encoded {
    meta: Vec<u8>,
    results: Vec<Results>,
}

/// Some of its results.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<u8>);

impl Results {
    /// Adds one.
    pub(super) fn push(&mut self, result: &v1::BatchResolveResult) {
        prost::encoding::message::encode(RESULTS, result, &mut self.0);
    }

    /// Bytes of all.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Encoded {
    pub(super) fn new(meta: &v1::ResponseMeta, results: Vec<Results>) -> Self {
        let mut bytes = Vec::new();
        prost::encoding::message::encode(META, meta, &mut bytes);
        Self { meta: bytes, results }
    }

    /// Bytes of the whole message.
    pub(super) fn len(&self) -> usize {
        self.meta.len() + self.results.iter().map(Results::len).sum::<usize>()
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.meta.as_slice()).chain(self.results.iter().map(|results| results.0.as_slice()))
    }

    /// The message, for whoever calls without a network.
    pub(super) fn message(&self) -> Result<v1::BatchResolveResponse, Status> {
        let mut message = v1::BatchResolveResponse::default();
        for chunk in self.chunks() {
            message.merge(chunk).map_err(|error| Status::internal(format!("an answer cannot be read: {error}")))?;
        }
        Ok(message)
    }
}

/// The service `Lookup`, whose batches are answered by [`LookupService::encoded_batch`].
#[derive(Clone, Debug)]
pub(super) struct Batched {
    lookup: LookupService,
    rest: LookupServer<LookupService>,
    requests_max: usize,
}

impl Batched {
    /// `requests_max`: bytes of a request at most.
    pub(super) fn new(lookup: LookupService, requests_max: usize) -> Self {
        let rest = LookupServer::new(lookup.clone())
            .max_decoding_message_size(requests_max)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        Self { lookup, rest, requests_max }
    }
}

impl NamedService for Batched {
    const NAME: &'static str = <LookupServer<LookupService> as NamedService>::NAME;
}

impl Service<Request<Body>> for Batched {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != PATH {
            return self.rest.call(request);
        }
        let (lookup, requests_max) = (self.lookup.clone(), self.requests_max);
        Box::pin(async move {
            let mut grpc = Grpc::new(BatchCodec)
                .max_decoding_message_size(requests_max)
                .max_encoding_message_size(RESPONSE_BYTES_MAX);
            Ok(grpc.unary(Batch(lookup), request).await)
        })
    }
}

/// The one rpc.
struct Batch(LookupService);

impl UnaryService<v1::BatchResolveRequest> for Batch {
    type Response = Encoded;
    type Future = BoxFuture<'static, Result<tonic::Response<Encoded>, Status>>;

    fn call(&mut self, request: tonic::Request<v1::BatchResolveRequest>) -> Self::Future {
        let lookup = self.0.clone();
        Box::pin(async move { lookup.encoded_batch(request).await })
    }
}

struct BatchCodec;

impl Codec for BatchCodec {
    type Encode = Encoded;
    type Decode = v1::BatchResolveRequest;
    type Encoder = Self;
    type Decoder = ProstDecoder<v1::BatchResolveRequest>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<v1::BatchResolveResponse, v1::BatchResolveRequest>::raw_decoder(BufferSettings::default())
    }
}

impl Encoder for BatchCodec {
    type Item = Encoded;
    type Error = Status;

    fn encode(&mut self, answer: Encoded, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(answer.len());
        answer.chunks().for_each(|chunk| buffer.put_slice(chunk));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::batch_resolve_result::Result as Answer;

    #[test]
    fn the_bytes_are_those_of_the_message() {
        let result = |number: usize| {
            let resolution = v1::Resolution {
                user: Some(v1::UserRef { id: format!("00u{number}"), ..v1::UserRef::default() }),
                gap_ids: vec!["x".repeat(number * 50)],
                ..v1::Resolution::default()
            };
            v1::BatchResolveResult { correlation_id: number.to_string(), result: Some(Answer::Resolution(resolution)) }
        };
        let metas = [v1::ResponseMeta::default(), v1::ResponseMeta { revision: 7, ..v1::ResponseMeta::default() }];
        for (meta, parts) in metas
            .into_iter()
            .flat_map(|meta| [vec![], vec![0], vec![1, 4], vec![3, 0, 2]].map(|parts| (meta.clone(), parts)))
        {
            let mut message = v1::BatchResolveResponse { meta: Some(meta.clone()), results: Vec::new() };
            let encoded = parts.iter().map(|count| {
                let mut results = Results::default();
                for number in 0..*count {
                    results.push(&result(number));
                    message.results.push(result(number));
                }
                results
            });
            let encoded = Encoded::new(&meta, encoded.collect());
            let bytes: Vec<u8> = encoded.chunks().flatten().copied().collect();
            assert_eq!(encoded.len(), bytes.len());
            assert_eq!(encoded.message().unwrap(), message);
            assert_eq!(bytes, message.encode_to_vec(), "{parts:?}");
        }
    }
}

//! Answers of the rpcs that are called most, as bytes: encoded as soon as they are known, and nothing else of them is kept.
//!
//! Entry points: [`Encoded`], which is what is answered, and [`EncodedLookup`], the service `Lookup` that answers so.
//!
//! A thousand results as messages are twenty thousand pieces of memory that all live until the last is known: to get and to give back so
//! many took a third of the time of a batch. And a resolution as a message has nearly a KiB, which is copied from hand to hand.

use std::marker::PhantomData;

use http::Request;
use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::lookup_server::LookupServer;
use prost::Message;
use prost::bytes::{BufMut as _, Bytes};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::{ProstCodec, ProstDecoder};
use tower_service::Service;

use super::Pointed;
use super::gate::Answer;
use super::lookup::LookupService;
use super::unary::{self, PREFIX_BYTES};

const RESOLVE_ACCOUNT: &str = "/idmap.v1.Lookup/ResolveAccount";
const BATCH_RESOLVE: &str = "/idmap.v1.Lookup/BatchResolve";

/// Bytes of a buffer to begin with, as of other messages; one that does not suffice grows.
const BUFFER_BYTES: usize = 512;

/// Numbers of the fields of `idmap.v1.BatchResolveResponse`.
const META: u32 = 1;
const RESULTS: u32 = 2;

/// A message as bytes.
#[derive(Debug)]
pub struct Encoded {
    /// Room for what gRPC puts before a message, then all of it, or what comes before the results.
    head: Vec<u8>,
    results: Vec<Results>,
}

/// Some results of a batch.
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
    /// Any message.
    pub(super) fn of(message: &impl Message) -> Self {
        let mut head = Vec::with_capacity(PREFIX_BYTES + message.encoded_len());
        head.extend_from_slice(&[0; PREFIX_BYTES]);
        message.encode_raw(&mut head);
        Self { head, results: Vec::new() }
    }

    /// An `idmap.v1.BatchResolveResponse`.
    pub(super) fn batch(meta: &v1::ResponseMeta, results: Vec<Results>) -> Self {
        let mut head = vec![0; PREFIX_BYTES];
        prost::encoding::message::encode(META, meta, &mut head);
        Self { head, results }
    }

    /// Bytes of the whole message.
    pub fn encoded_len(&self) -> usize {
        self.head.len().saturating_sub(PREFIX_BYTES) + self.results.iter().map(Results::len).sum::<usize>()
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        let head = self.head.get(PREFIX_BYTES..).unwrap_or_default();
        std::iter::once(head).chain(self.results.iter().map(|results| results.0.as_slice()))
    }

    /// The message as gRPC sends it, uncompressed; `None`: it has more bytes.
    pub(super) fn framed(mut self, bytes_max: usize) -> Option<Bytes> {
        let length = self.encoded_len();
        if length > bytes_max {
            return None;
        }
        let length = u32::try_from(length).ok()?;
        for (place, byte) in self.head.iter_mut().skip(1).zip(length.to_be_bytes()) {
            *place = byte;
        }
        self.head.reserve_exact(self.results.iter().map(Results::len).sum());
        self.results.iter().for_each(|results| self.head.extend_from_slice(&results.0));
        Some(self.head.into())
    }

    /// The message, for whoever calls without a network.
    ///
    /// # Errors
    /// `INTERNAL`: it is of another kind.
    pub fn message<M: Message + Default>(&self) -> Result<M, Status> {
        let mut message = M::default();
        for chunk in self.chunks() {
            message.merge(chunk).map_err(|error| Status::internal(format!("an answer cannot be read: {error}")))?;
        }
        Ok(message)
    }
}

/// The service `Lookup`, some of whose rpcs answer bytes.
#[derive(Clone, Debug)]
pub(super) struct EncodedLookup {
    lookup: LookupService,
    rest: LookupServer<LookupService>,
    requests_max: usize,
}

impl EncodedLookup {
    /// Name of the service.
    pub(super) const NAME: &str = <LookupServer<LookupService> as NamedService>::NAME;

    /// `requests_max`: bytes of a request at most.
    pub(super) fn new(lookup: LookupService, requests_max: usize) -> Self {
        let rest = LookupServer::new(lookup.clone())
            .max_decoding_message_size(requests_max)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        Self { lookup, rest, requests_max }
    }

    /// Answers a call, without a share of its own of what all calls have.
    pub(super) fn answer(&self, request: Request<Body>) -> Answer<Body> {
        match request.uri().path() {
            RESOLVE_ACCOUNT => self.encoded(request, LookupService::resolve_account_at_once),
            BATCH_RESOLVE => self.encoded(request, LookupService::batch_resolve_at_once),
            _ => Answer::Right(self.rest.clone().call(request)),
        }
    }

    fn encoded<Q: Message + Default + 'static>(
        &self,
        request: Request<Body>,
        answer: fn(&LookupService, tonic::Request<Q>) -> Pointed<Encoded>,
    ) -> Answer<Body> {
        let requests_max = self.requests_max;
        let rest = |request: Request<Body>| {
            let rpc = Rpc { lookup: self.lookup.clone(), answer };
            Answer::Right(Box::pin(async move {
                let mut grpc = Grpc::new(EncodedCodec::<Q>(PhantomData))
                    .max_decoding_message_size(requests_max)
                    .max_encoding_message_size(RESPONSE_BYTES_MAX);
                Ok(grpc.unary(rpc, request).await)
            }))
        };
        unary::answer(request, requests_max, |request| answer(&self.lookup, request), rest)
    }
}

/// One rpc.
struct Rpc<Q> {
    lookup: LookupService,
    answer: fn(&LookupService, tonic::Request<Q>) -> Pointed<Encoded>,
}

impl<Q> UnaryService<Q> for Rpc<Q> {
    type Response = Encoded;
    type Future = Pointed<Encoded>;

    fn call(&mut self, request: tonic::Request<Q>) -> Pointed<Encoded> {
        (self.answer)(&self.lookup, request)
    }
}

/// Reads messages, and writes bytes.
struct EncodedCodec<Q>(PhantomData<Q>);

impl<Q: Message + Default + Send + 'static> Codec for EncodedCodec<Q> {
    type Encode = Encoded;
    type Decode = Q;
    type Encoder = BytesEncoder;
    type Decoder = ProstDecoder<Q>;

    fn encoder(&mut self) -> BytesEncoder {
        BytesEncoder
    }

    fn decoder(&mut self) -> ProstDecoder<Q> {
        ProstCodec::<Q, Q>::raw_decoder(buffers())
    }
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, RESPONSE_BYTES_MAX)
}

struct BytesEncoder;

impl Encoder for BytesEncoder {
    type Item = Encoded;
    type Error = Status;

    fn encode(&mut self, answer: Encoded, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(answer.encoded_len());
        answer.chunks().for_each(|chunk| buffer.put_slice(chunk));
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
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
            let encoded = Encoded::batch(&meta, encoded.collect());
            let bytes: Vec<u8> = encoded.chunks().flatten().copied().collect();
            assert_eq!(encoded.encoded_len(), bytes.len());
            let prefix = [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes()].concat();
            assert_eq!(encoded.message::<v1::BatchResolveResponse>().unwrap(), message);
            assert_eq!(bytes, message.encode_to_vec(), "{parts:?}");
            assert_eq!(encoded.framed(bytes.len()).unwrap().to_vec(), [prefix, bytes].concat());
        }
    }
}

//! Messages as bytes: prost's codec with buffers of the size that most messages have.
//!
//! Entry point: [`SmallCodec`], which the generated code uses.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Bytes of a buffer to begin with; one that does not suffice grows. A request has about 60, an answer about 450. The default of
/// 8 KiB is taken for each of the two of every call, and is beyond what glibc's malloc hands out quickly (below 1 KiB). Buffers
/// of a stream behind the first begin smaller, and grow with the message.
const BUFFER_BYTES: usize = 512;

/// Bytes of messages that are sent together, where a stream has so many ready: tonic's default.
const TOGETHER_BYTES: usize = 32 << 10;

/// As [`ProstCodec`], with smaller buffers.
#[derive(Clone, Debug)]
pub(crate) struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for SmallCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, TOGETHER_BYTES))
    }
}

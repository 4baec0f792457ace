//! Bodies as they come in: put together, decompressed, and dropped at the limit. Entry point: [`Body`].
//!
//! Invariants:
//! - Neither what comes over the wire nor what it decompresses to is ever more than the limit, at no moment: of a piece that
//!   decompresses to more only the allowed part is made.
//! - A compressed body counts as whole only with its check sum.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

/// Bytes for which room is made because a length was announced: a usual page. Announcements are not believed further.
const ROOM_BYTES_MAX: usize = 64 * 1024;

/// Why a body is not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    /// More than the limit. What was taken in until then is kept.
    TooLarge,
    /// Compressed data that makes no sense, or ends before its end.
    Compression {
        /// What the library said.
        reason: String,
    },
}

/// A body that grows.
pub(super) struct Body {
    reader: Reader,
    bytes_max: usize,
    wire_bytes: usize,
}

enum Reader {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_full: bool,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let taken = piece.len().min(self.bytes_max - self.bytes.len());
        self.bytes.extend_from_slice(&piece[..taken]);
        if taken < piece.len() {
            self.is_full = true;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Body {
    /// `codings` are the lines of `Content-Encoding`, `announced` the `Content-Length`. `None` for a coding that was not
    /// asked for.
    pub(super) fn new<'a>(
        codings: impl IntoIterator<Item = &'a str>,
        announced: Option<u64>,
        bytes_max: usize,
    ) -> Option<Self> {
        let codings = codings.into_iter().flat_map(|line| line.split(',')).map(str::trim);
        let codings: Vec<&str> =
            codings.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity")).collect();
        let room = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
        let bytes = Vec::with_capacity(room.min(ROOM_BYTES_MAX).min(bytes_max));
        let bounded = Bounded { bytes, bytes_max, is_full: false };
        let reader = match codings.as_slice() {
            [] => Reader::Plain(bounded),
            [coding] if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => {
                Reader::Gzip(Box::new(MultiGzDecoder::new(bounded)))
            }
            _ => return None,
        };
        Some(Self { reader, bytes_max, wire_bytes: 0 })
    }

    /// Takes in a piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), BodyFault> {
        self.wire_bytes = self.wire_bytes.saturating_add(piece.len());
        let (written, is_full) = match &mut self.reader {
            Reader::Plain(bounded) => (bounded.write_all(piece), bounded.is_full),
            Reader::Gzip(decoder) => {
                let written = decoder.write_all(piece);
                (written, decoder.get_ref().is_full)
            }
        };
        if is_full || self.wire_bytes > self.bytes_max {
            return Err(BodyFault::TooLarge);
        }
        written.map_err(|error| BodyFault::Compression { reason: error.to_string() })
    }

    /// The whole body.
    pub(super) fn finish(self) -> Result<Vec<u8>, BodyFault> {
        match self.reader {
            Reader::Plain(bounded) => Ok(bounded.bytes),
            // An empty body is no compressed one, and is told as what it is.
            Reader::Gzip(_) if self.wire_bytes == 0 => Ok(Vec::new()),
            Reader::Gzip(mut decoder) => match decoder.try_finish() {
                Ok(()) => Ok(std::mem::take(&mut decoder.get_mut().bytes)),
                Err(_) if decoder.get_ref().is_full => Err(BodyFault::TooLarge),
                Err(error) => Err(BodyFault::Compression { reason: error.to_string() }),
            },
        }
    }

    /// What is there so far, for bodies of which the beginning is enough.
    pub(super) fn so_far(mut self) -> Vec<u8> {
        match &mut self.reader {
            Reader::Plain(bounded) => std::mem::take(&mut bounded.bytes),
            Reader::Gzip(decoder) => {
                // What is still inside of it; an error only means that there is no more.
                let _ = decoder.flush();
                std::mem::take(&mut decoder.get_mut().bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// The wire in pieces of every size.
    #[track_caller]
    fn check(coding: &str, wire: &[u8], bytes_max: usize, expected: Result<&[u8], BodyFault>) {
        for size in [1, 7, wire.len().max(1)] {
            let mut body = Body::new([coding], Some(u64::MAX), bytes_max).unwrap();
            let pushed = wire.chunks(size).try_for_each(|piece| body.push(piece));
            let read = pushed.and_then(|()| body.finish());
            match (&read, &expected) {
                (Err(BodyFault::Compression { .. }), Err(BodyFault::Compression { .. })) => {}
                _ => assert_eq!(read.as_deref(), expected.as_ref().copied(), "{coding} in pieces of {size}"),
            }
        }
    }

    #[test]
    fn bodies_are_put_together_up_to_the_limit() {
        let (text, zeros) = (b"[{\"id\":\"00u1\"}]".as_slice(), vec![0; 1_000]);
        let broken = || Err(BodyFault::Compression { reason: String::new() });
        check("", text, 100, Ok(text));
        check("identity", text, text.len(), Ok(text));
        check("", text, text.len() - 1, Err(BodyFault::TooLarge));
        check("gzip", &gzip(text), 100, Ok(text));
        check("X-GZIP", &gzip(text), 100, Ok(text));
        check("gzip", b"", 100, Ok(b""));
        check("gzip", &gzip(&zeros), 1_000, Ok(&zeros));
        check("gzip", &gzip(&zeros), 999, Err(BodyFault::TooLarge));
        check("gzip", &[gzip(text), gzip(text)].concat(), 100, Ok(&[text, text].concat()));
        check("gzip", text, 100, broken());
        let whole = gzip(text);
        for cut in 1..whole.len() {
            check("gzip", &whole[..cut], 100, broken());
        }
        let mut wrong = whole;
        wrong[20] ^= 1;
        check("gzip", &wrong, 100, broken());
        // Nothing that comes again and again.
        check("gzip", &[gzip(b"").as_slice(), &gzip(b"").repeat(20)].concat(), 100, Err(BodyFault::TooLarge));
        for coding in ["br", "deflate", "gzip, gzip", "zstd"] {
            assert!(Body::new([coding], None, 100).is_none(), "{coding}");
        }
    }

    #[test]
    fn of_a_failure_the_beginning_is_enough() {
        let mut body = Body::new(["gzip"], None, 10).unwrap();
        assert_eq!(body.push(&gzip(b"0123456789abcdef")), Err(BodyFault::TooLarge));
        assert_eq!(body.so_far(), b"0123456789");
        let mut body = Body::new(["gzip"], None, 100).unwrap();
        let whole = gzip(b"0123456789abcdef");
        body.push(&whole[..whole.len() - 4]).unwrap();
        assert_eq!(body.so_far(), b"0123456789abcdef");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_stays_within_the_limit(wire in proptest::collection::vec(0_u8.., 0..300), bytes_max in 0_usize..64) {
            let mut body = Body::new(["gzip"], None, bytes_max).unwrap();
            let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
            let pushed = body.push(&head).and_then(|()| wire.chunks(50).try_for_each(|piece| body.push(piece)));
            let read = pushed.and_then(|()| body.finish());
            proptest::prop_assert!(read.is_err() || read.is_ok_and(|bytes| bytes.len() <= bytes_max));
        }
    }
}

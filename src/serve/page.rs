//! Page tokens: opaque to the caller, bound to the query, the store and the revision at which the list began.
//!
//! Entry points: [`PageToken::encode`], [`PageToken::decode`]. Layout, big-endian, base64url without padding:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version |
//! | 1 | rpc |
//! | 8 | hash of the query: the request without context, page size and token, and the org |
//! | 8 | hash of the store's id |
//! | 8 | revision of the first page |
//! | 0 to 512 | position: where the next page begins |
//! | 8 | checksum of all before |
//!
//! Invariants: decoding never panics and takes time in proportion to the token; a token that was not made by
//! [`PageToken::encode`] for this very query is refused. The checksum is against accidents: a forged position only skips
//! rows of the caller's own list.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use okta_idmap_proto::limits::PAGE_TOKEN_BYTES_MAX;
use xxhash_rust::xxh3::xxh3_64;

use super::errors::Failure;
use crate::core::ids::Revision;

/// Version of the layout. A token of another version is refused, so a list does not survive an upgrade that changes it.
const TOKEN_VERSION: u8 = 1;

/// Bytes of a position at most: a gap id, or a number. With the rest and base64 it stays below [`PAGE_TOKEN_BYTES_MAX`].
const POSITION_BYTES_MAX: usize = 512;

/// Bytes before the position and behind it.
const HEAD_BYTES: usize = 26;
const CHECKSUM_BYTES: usize = 8;

const _: () = assert!((HEAD_BYTES + POSITION_BYTES_MAX + CHECKSUM_BYTES).div_ceil(3) * 4 <= PAGE_TOKEN_BYTES_MAX);

/// Rpcs that hand out tokens. Numbers are part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paged {
    /// `Lookup.ListUserAccounts`.
    UserAccounts = 1,
    /// `Lookup.ListUserGroups`.
    UserGroups = 2,
    /// `Lookup.ListApps`.
    Apps = 3,
    /// `Lookup.ListAppUsers`.
    AppUsers = 4,
    /// `Lookup.ListGroups`.
    Groups = 5,
    /// `Lookup.ListGroupMembers`.
    GroupMembers = 6,
    /// `Lookup.ListAppGroups`.
    AppGroups = 7,
    /// `Search.Search`.
    Search = 8,
    /// `Coverage.ListGaps`.
    Gaps = 9,
    /// `Changes.ListChanges`.
    Changes = 10,
    /// `Coverage.ListScopes`.
    Scopes = 11,
    /// `Coverage.ListQuarantined`.
    Quarantined = 12,
    /// `Coverage.ListAmbiguities`.
    Ambiguities = 13,
    /// `Coverage.ListOverrides`.
    Overrides = 14,
}

/// What a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) rpc: Paged,
    /// Of the query.
    pub(super) query_hash: u64,
    /// Of the store's id.
    pub(super) store_hash: u64,
}

impl Binding {
    /// Binds to a rpc, an encoded query of an org, and a store.
    pub(super) fn new(rpc: Paged, org: &str, query: &[u8], store_id: &str) -> Self {
        let mut bytes = Vec::with_capacity(org.len() + 1 + query.len());
        bytes.extend_from_slice(org.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(query);
        Self { rpc, query_hash: xxh3_64(&bytes), store_hash: xxh3_64(store_id.as_bytes()) }
    }
}

/// A decoded token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageToken {
    /// Revision of the first page.
    pub(super) start: Revision,
    /// Where the next page begins, in the words of the rpc.
    pub(super) position: Vec<u8>,
}

impl PageToken {
    /// The token's text.
    pub(super) fn encode(&self, binding: Binding) -> String {
        assert!(self.position.len() <= POSITION_BYTES_MAX, "position of {} bytes", self.position.len());
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.position.len() + CHECKSUM_BYTES);
        bytes.push(TOKEN_VERSION);
        bytes.push(binding.rpc as u8);
        bytes.extend_from_slice(&binding.query_hash.to_be_bytes());
        bytes.extend_from_slice(&binding.store_hash.to_be_bytes());
        bytes.extend_from_slice(&self.start.0.to_be_bytes());
        bytes.extend_from_slice(&self.position);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token that was made for this binding.
    ///
    /// # Errors
    /// [`Failure::PageTokenInvalid`] for anything else, [`Failure::PageTokenExpired`] when the store has been replaced.
    pub(super) fn decode(text: &str, binding: Binding) -> Result<Self, Failure> {
        let malformed = Failure::PageTokenInvalid { detail: "it is malformed" };
        if text.len() > PAGE_TOKEN_BYTES_MAX {
            return Err(Failure::PageTokenInvalid { detail: "it is longer than 1024 bytes" });
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return Err(malformed) };
        let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else { return Err(malformed) };
        if xxh3_64(content).to_be_bytes() != *checksum {
            return Err(malformed);
        }
        let Some(([version, rpc], rest)) = content.split_first_chunk::<2>() else { return Err(malformed) };
        if *version != TOKEN_VERSION {
            return Err(malformed);
        }
        let Some((query_hash, rest)) = number(rest) else { return Err(malformed) };
        let Some((store_hash, rest)) = number(rest) else { return Err(malformed) };
        let Some((start, position)) = number(rest) else { return Err(malformed) };
        if position.len() > POSITION_BYTES_MAX {
            return Err(malformed);
        }
        if *rpc != binding.rpc as u8 || query_hash != binding.query_hash {
            return Err(Failure::PageTokenInvalid { detail: "it belongs to another query" });
        }
        if store_hash != binding.store_hash {
            return Err(Failure::PageTokenExpired { detail: "the store has been replaced" });
        }
        Ok(Self { start: Revision(start), position: position.to_vec() })
    }

    /// The position as a number.
    pub(super) fn number(&self) -> Result<i64, Failure> {
        match self.position.as_slice().try_into() {
            Ok(bytes) => Ok(i64::from_be_bytes(bytes)),
            Err(_) => Err(Failure::PageTokenInvalid { detail: "it is malformed" }),
        }
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> PageToken {
        PageToken { start: Revision(7), position: 42_i64.to_be_bytes().into() }
    }

    fn binding(rpc: Paged, query: &str, store: &str) -> Binding {
        Binding::new(rpc, "acme", query.as_bytes(), store)
    }

    #[track_caller]
    fn check(asked: Binding, expected: &str) {
        let text = token().encode(binding(Paged::Apps, "q", "s"));
        let found = match PageToken::decode(&text, asked) {
            Ok(found) => format!("{} {}", found.start, found.number().unwrap()),
            Err(failure) => failure.name().to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn tokens_are_bound() {
        check(binding(Paged::Apps, "q", "s"), "7 42");
        check(binding(Paged::Groups, "q", "s"), "PAGE_TOKEN_INVALID");
        check(binding(Paged::Apps, "r", "s"), "PAGE_TOKEN_INVALID");
        check(Binding::new(Paged::Apps, "other", b"q", "s"), "PAGE_TOKEN_INVALID");
        check(binding(Paged::Apps, "q", "t"), "PAGE_TOKEN_EXPIRED");
    }

    #[test]
    fn any_other_byte_is_refused() {
        let asked = binding(Paged::Apps, "q", "s");
        let text = token().encode(asked);
        for index in 0..text.len() {
            for byte in [b'A', b'Q', b'_', b'=', b' '] {
                let mut changed = text.clone().into_bytes();
                if changed[index] == byte {
                    continue;
                }
                changed[index] = byte;
                let changed = String::from_utf8(changed).unwrap();
                assert!(PageToken::decode(&changed, asked).is_err(), "{changed}");
            }
            assert!(PageToken::decode(&text[..index], asked).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_tokens_never_panic(text in "[A-Za-z0-9_-]{0,1100}|.{0,64}") {
            let asked = binding(Paged::Apps, "q", "s");
            prop_assert!(PageToken::decode(&text, asked).is_err());
        }

        #[test]
        fn tokens_read_back(start: u64, position in proptest::collection::vec(any::<u8>(), 0..=512)) {
            let asked = binding(Paged::Search, "q", "s");
            let token = PageToken { start: Revision(start), position };
            let text = token.encode(asked);
            prop_assert!(text.len() <= PAGE_TOKEN_BYTES_MAX);
            prop_assert_eq!(PageToken::decode(&text, asked).unwrap(), token);
        }
    }

    /// A token that is taken is one that was made: written again it is the same text.
    #[test]
    fn fuzz_page_tokens() {
        use crate::fuzz_runner::{Target, run};

        let asked = binding(Paged::Apps, "q", "s");
        let long = PageToken { start: Revision(u64::MAX), position: vec![7; POSITION_BYTES_MAX] };
        run(&Target { name: "page_token", words: &["AQM", "-", "_", "=", "AAAA"], cost: 1 }, |input| {
            // The seal is made anew: what it guards is what is tested.
            let text = String::from_utf8_lossy(input);
            let content = URL_SAFE_NO_PAD.decode(text.trim()).unwrap_or_else(|_| input.to_vec());
            let content = &content[..content.len().saturating_sub(CHECKSUM_BYTES)];
            let sealed = URL_SAFE_NO_PAD.encode([content, &xxh3_64(content).to_be_bytes()].concat());
            let mut is_taken = false;
            for text in [&*text, &sealed] {
                if let Ok(token) = PageToken::decode(text, asked) {
                    prop_assert_eq!(token.encode(asked), text);
                    prop_assert!(token.position.len() <= POSITION_BYTES_MAX);
                    let _ = token.number();
                    is_taken = true;
                }
            }
            let read_back = PageToken::decode(&long.encode(asked), asked).ok();
            prop_assert_eq!(read_back.as_ref(), Some(&long));
            Ok(is_taken)
        });
    }
}

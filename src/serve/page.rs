//! Page tokens: opaque to the caller, bound to the query, the store and the revision at which the list began, with its era.
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
//! | 8 | hash of the era that made it: a store that was put back comes by the same revisions again |
//! | 0 to 512 | position: where the next page begins |
//! | 32 | seal of all before: HMAC-SHA256 under the store's key |
//!
//! Invariants: decoding never panics and takes time in proportion to the token; a token that was not made by
//! [`PageToken::encode`] for this very query is refused, also one that somebody has made or changed who does not have the key.
//! The key is in the store, so that tokens outlive a restart, and is never printed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use okta_idmap_proto::limits::PAGE_TOKEN_BYTES_MAX;
use ring::hmac;
use ring::rand::SystemRandom;
use xxhash_rust::xxh3::xxh3_64;

use super::errors::Failure;
use crate::core::ids::Revision;
use crate::core::secret::Secret;

/// Version of the layout. A token of another version is refused, so a list does not survive an upgrade that changes it.
const TOKEN_VERSION: u8 = 3;

/// Bytes of a position at most: a gap id, or a number. With the rest and base64 it stays below [`PAGE_TOKEN_BYTES_MAX`].
const POSITION_BYTES_MAX: usize = 512;

/// Bytes before the position and behind it.
const HEAD_BYTES: usize = 34;
const SEAL_BYTES: usize = 32;

const _: () = assert!((HEAD_BYTES + POSITION_BYTES_MAX + SEAL_BYTES).div_ceil(3) * 4 <= PAGE_TOKEN_BYTES_MAX);

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

/// Seals tokens.
#[derive(Clone)]
pub(super) struct PageKey(hmac::Key);

impl std::fmt::Debug for PageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl PageKey {
    /// The key of a store.
    pub(super) fn of(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    /// A key for this process alone, for a store that has none yet. `None`: the system has no random numbers.
    pub(super) fn random() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }
}

/// What a token is bound to.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) rpc: Paged,
    /// Of the query.
    pub(super) query_hash: u64,
    /// Of the store's id.
    pub(super) store_hash: u64,
    key: PageKey,
}

impl Binding {
    /// Binds to a rpc, an encoded query of an org, and a store.
    pub(super) fn new(rpc: Paged, org: &str, query: &[u8], store_id: &str, key: &PageKey) -> Self {
        let mut bytes = Vec::with_capacity(org.len() + 1 + query.len());
        bytes.extend_from_slice(org.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(query);
        Self { rpc, query_hash: xxh3_64(&bytes), store_hash: xxh3_64(store_id.as_bytes()), key: key.clone() }
    }
}

/// The state of the store at which a list began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Began {
    /// Revision of the first page.
    pub(super) revision: Revision,
    /// Hash of the era that made it, of the empty word where that is not known.
    era: u64,
}

impl Began {
    /// At a revision, which such an era has made.
    pub(super) fn at(revision: Revision, era: Option<&str>) -> Self {
        Self { revision, era: xxh3_64(era.unwrap_or_default().as_bytes()) }
    }
}

/// A decoded token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageToken {
    /// When the list began. Whether the store has been there is not looked at here.
    pub(super) start: Began,
    /// Where the next page begins, in the words of the rpc.
    pub(super) position: Vec<u8>,
}

impl PageToken {
    /// The token's text.
    pub(super) fn encode(&self, binding: &Binding) -> String {
        assert!(self.position.len() <= POSITION_BYTES_MAX, "position of {} bytes", self.position.len());
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.position.len() + SEAL_BYTES);
        bytes.push(TOKEN_VERSION);
        bytes.push(binding.rpc as u8);
        bytes.extend_from_slice(&binding.query_hash.to_be_bytes());
        bytes.extend_from_slice(&binding.store_hash.to_be_bytes());
        bytes.extend_from_slice(&self.start.revision.0.to_be_bytes());
        bytes.extend_from_slice(&self.start.era.to_be_bytes());
        bytes.extend_from_slice(&self.position);
        let seal = hmac::sign(&binding.key.0, &bytes);
        bytes.extend_from_slice(seal.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token that was made for this binding.
    ///
    /// # Errors
    /// [`Failure::PageTokenInvalid`] for anything else, [`Failure::PageTokenExpired`] when the store has been replaced.
    pub(super) fn decode(text: &str, binding: &Binding) -> Result<Self, Failure> {
        let malformed = Failure::PageTokenInvalid { detail: "it is malformed" };
        if text.len() > PAGE_TOKEN_BYTES_MAX {
            return Err(Failure::PageTokenInvalid { detail: "it is longer than 1024 bytes" });
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else { return Err(malformed) };
        let Some((content, seal)) = bytes.split_last_chunk::<SEAL_BYTES>() else { return Err(malformed) };
        let Some(([version, rpc], rest)) = content.split_first_chunk::<2>() else { return Err(malformed) };
        if *version != TOKEN_VERSION {
            return Err(malformed);
        }
        let Some((query_hash, rest)) = number(rest) else { return Err(malformed) };
        let Some((store_hash, rest)) = number(rest) else { return Err(malformed) };
        let Some((revision, rest)) = number(rest) else { return Err(malformed) };
        let Some((era, position)) = number(rest) else { return Err(malformed) };
        if position.len() > POSITION_BYTES_MAX {
            return Err(malformed);
        }
        if *rpc != binding.rpc as u8 || query_hash != binding.query_hash {
            return Err(Failure::PageTokenInvalid { detail: "it belongs to another query" });
        }
        if store_hash != binding.store_hash {
            // Another store has another key: whether this was a good token once cannot be told, and nothing follows from it.
            return Err(Failure::PageTokenExpired { detail: "the store has been replaced" });
        }
        // In constant time. Before this nothing was told but what the caller has sent.
        if hmac::verify(&binding.key.0, content, seal).is_err() {
            return Err(malformed);
        }
        Ok(Self { start: Began { revision: Revision(revision), era }, position: position.to_vec() })
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
        PageToken { start: Began::at(Revision(7), Some("e")), position: 42_i64.to_be_bytes().into() }
    }

    fn key() -> PageKey {
        PageKey::of(&Secret::new("0123456789abcdef".to_owned()))
    }

    fn binding(rpc: Paged, query: &str, store: &str) -> Binding {
        Binding::new(rpc, "acme", query.as_bytes(), store, &key())
    }

    #[track_caller]
    fn check(asked: Binding, expected: &str) {
        let text = token().encode(&binding(Paged::Apps, "q", "s"));
        let found = match PageToken::decode(&text, &asked) {
            Ok(found) => format!("{} {}", found.start.revision, found.number().unwrap()),
            Err(failure) => failure.name().to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn tokens_are_bound() {
        check(binding(Paged::Apps, "q", "s"), "7 42");
        check(binding(Paged::Groups, "q", "s"), "PAGE_TOKEN_INVALID");
        check(binding(Paged::Apps, "r", "s"), "PAGE_TOKEN_INVALID");
        check(Binding::new(Paged::Apps, "other", b"q", "s", &key()), "PAGE_TOKEN_INVALID");
        check(binding(Paged::Apps, "q", "t"), "PAGE_TOKEN_EXPIRED");
    }

    #[test]
    fn who_has_no_key_makes_no_token() {
        let asked = binding(Paged::Apps, "q", "s");
        let other = Binding { key: PageKey::random().unwrap(), ..asked.clone() };
        assert!(PageToken::decode(&token().encode(&other), &asked).is_err());
        assert!(PageToken::decode(&token().encode(&other), &other).is_ok());
        // As they were before there was a key.
        let mut content = URL_SAFE_NO_PAD.decode(token().encode(&asked)).unwrap();
        content.truncate(content.len() - SEAL_BYTES);
        let hash = xxh3_64(&content).to_be_bytes();
        assert!(PageToken::decode(&URL_SAFE_NO_PAD.encode([&content[..], &hash].concat()), &asked).is_err());
        assert!(!format!("{asked:?} {:?}", key()).contains("0123"));
    }

    #[test]
    fn any_other_byte_is_refused() {
        let asked = binding(Paged::Apps, "q", "s");
        let text = token().encode(&asked);
        for index in 0..text.len() {
            for byte in [b'A', b'Q', b'_', b'=', b' '] {
                let mut changed = text.clone().into_bytes();
                if changed[index] == byte {
                    continue;
                }
                changed[index] = byte;
                let changed = String::from_utf8(changed).unwrap();
                assert!(PageToken::decode(&changed, &asked).is_err(), "{changed}");
            }
            assert!(PageToken::decode(&text[..index], &asked).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_tokens_never_panic(text in "[A-Za-z0-9_-]{0,1100}|.{0,64}") {
            let asked = binding(Paged::Apps, "q", "s");
            prop_assert!(PageToken::decode(&text, &asked).is_err());
        }

        #[test]
        fn tokens_read_back(revision: u64, era: u64, position in proptest::collection::vec(any::<u8>(), 0..=512)) {
            let asked = binding(Paged::Search, "q", "s");
            let token = PageToken { start: Began { revision: Revision(revision), era }, position };
            let text = token.encode(&asked);
            prop_assert!(text.len() <= PAGE_TOKEN_BYTES_MAX);
            prop_assert_eq!(PageToken::decode(&text, &asked).unwrap(), token);
        }
    }

    /// A token that is taken is one that was made: written again it is the same text.
    #[test]
    fn fuzz_page_tokens() {
        use crate::fuzz_runner::{Target, run};

        let asked = binding(Paged::Apps, "q", "s");
        let start = Began { revision: Revision(u64::MAX), era: u64::MAX };
        let long = PageToken { start, position: vec![7; POSITION_BYTES_MAX] };
        run(&Target { name: "page_token", words: &["AQM", "-", "_", "=", "AAAA"], cost: 1 }, |input| {
            // The seal is made anew: what it guards is what is tested.
            let text = String::from_utf8_lossy(input);
            let content = URL_SAFE_NO_PAD.decode(text.trim()).unwrap_or_else(|_| input.to_vec());
            let content = &content[..content.len().saturating_sub(SEAL_BYTES)];
            let sealed = URL_SAFE_NO_PAD.encode([content, hmac::sign(&key().0, content).as_ref()].concat());
            let mut is_taken = false;
            for text in [&*text, &sealed] {
                if let Ok(token) = PageToken::decode(text, &asked) {
                    prop_assert_eq!(token.encode(&asked), text);
                    prop_assert!(token.position.len() <= POSITION_BYTES_MAX);
                    let _ = token.number();
                    is_taken = true;
                }
            }
            let read_back = PageToken::decode(&long.encode(&asked), &asked).ok();
            prop_assert_eq!(read_back.as_ref(), Some(&long));
            Ok(is_taken)
        });
    }
}

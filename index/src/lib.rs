//! The search index of okta-idmap: plain documents in, ranked keys out.
//!
//! Entry points: [`open`] (the owner: an [`Index`] with its [`Writer`]), [`open_read_only`] (anyone else), [`Reader`].
//!
//! Invariants:
//! - The index is derived: it can be deleted at any time, and nothing in it is the truth. Hits are keys, to be read
//!   from the store; a key that is not there any more is dropped by the caller.
//! - Each commit carries a [`Mark`], the position reached in the store. An index whose mark does not fit is emptied.
//! - This crate knows tantivy and nothing else of the product: no Okta, no SQLite, no gRPC, no async.

mod collect;
mod doc;
mod expand;
mod fold;
mod lists;
mod merge;
mod open;
mod plan;
pub mod query;
mod reader;
mod schema;
mod space;
mod steps;
pub mod suggest;
mod tokenize;
mod writer;

pub use doc::{DocKind, IndexDoc, KEY_BYTES_MAX, Mark, UnknownKind, VALUES_PER_LIST_MAX};
pub use open::{Era, Expect, Index, IndexError, Opened, RebuildReason, open, open_anew, open_read_only};
pub use query::{FUZZY_TWO_EDITS_CHARS_MIN, ParseError, QUERY_BYTES_MAX, QUERY_TERMS_MAX};
pub use reader::{
    Extent, FACET_VALUES_MAX, Facets, Former, HITS_MAX, Hit, PAGE_HITS_MAX, Query, QueryError, Reader, Results,
    SEARCH_STEPS_MAX,
};
pub use schema::SCHEMA_VERSION;
pub use space::FieldBytes;
pub use suggest::{SUGGEST_FUZZY_BELOW_HITS, SUGGEST_FUZZY_CHARS_MIN, SUGGESTIONS_MAX, SuggestQuery};
pub use writer::{HEAP_BYTES_MAX, HEAP_BYTES_MIN, Writer};

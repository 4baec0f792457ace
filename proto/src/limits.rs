//! The maxima and defaults that the API documents, as constants; the way in for paging is [`page_size`].
//!
//! Invariant: server, command line and the comments of the `.proto` files state the same numbers; `tests/limits.rs`
//! compares them and checks that the largest allowed requests fit into [`REQUEST_BYTES_MAX`].

/// `google.rpc.ErrorInfo.domain` of every error of this API.
pub const ERROR_DOMAIN: &str = "idmap.v1";

/// Rows on a page when the request says 0: a screenful or two, one read of the store.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Rows on a page at most. Larger pages would hold a read transaction too long; smaller ones cost an exporter round
/// trips.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Hits on a search page when the request says 0.
pub const SEARCH_PAGE_SIZE_DEFAULT: usize = 20;
/// Hits on a search page at most: every hit costs a read of the store, and the answer has 20 ms.
pub const SEARCH_PAGE_SIZE_MAX: usize = 100;
/// How deep a search can be paged, in hits: collecting the best n costs memory and time in n, page or not.
pub const SEARCH_HITS_MAX: usize = 10_000;
/// Suggestions when the request says 0: what a typeahead box shows.
pub const SUGGESTIONS_DEFAULT: usize = 10;
/// Suggestions at most: nobody reads more below a text box.
pub const SUGGESTIONS_MAX: usize = 20;

/// Items of a batch, and entries of an access list, at most: resolving a thousand takes about 5 ms, and longer ones
/// would delay the small requests that run beside them.
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// Gap ids in a filter of `ListGaps` at most: as many as fill one page.
pub const GAP_ID_FILTER_MAX: usize = PAGE_SIZE_MAX;

/// Bytes of one request message at most: the common default of gRPC servers, and room for a full batch.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// Bytes of one response message at most: clients must raise their decoding limit to it. A full page of the largest
/// rows fits.
pub const RESPONSE_BYTES_MAX: usize = 16 << 20;
/// Bytes of an identifier, label, name or filter text at most: four times the longest e-mail address.
pub const IDENTIFIER_BYTES_MAX: usize = 1_024;
/// Bytes of an Okta id or gap id at most; real ones have about 20.
pub const ID_BYTES_MAX: usize = 128;
/// Bytes of a correlation id at most: a UUID or a document id with room to spare.
pub const CORRELATION_ID_BYTES_MAX: usize = 128;
/// Bytes of the name of an org, or of a store id, at most: a directory name, a UUID.
pub const ORG_NAME_BYTES_MAX: usize = 64;
/// Bytes of a page token at most: the last key, a hash of the query and a revision.
pub const PAGE_TOKEN_BYTES_MAX: usize = 1_024;
/// Bytes of a search query at most: longer ones are not typed by people.
pub const SEARCH_QUERY_BYTES_MAX: usize = 512;
/// Terms of a search query at most: each is a walk through the term dictionary.
pub const SEARCH_QUERY_TERMS_MAX: usize = 16;
/// Bytes of the prefix of a suggestion at most: longer than any name.
pub const SUGGEST_PREFIX_BYTES_MAX: usize = 256;

/// Gap ids in one meta or resolution at most; their full number is told beside them. More helps nobody and would swell
/// every answer of an org that is mostly unreadable.
pub const GAP_IDS_MAX: usize = 100;
/// Gap ids of one item of a batch or access list at most, so that a thousand items of an unreadable org fit into one
/// response.
pub const ITEM_GAP_IDS_MAX: usize = 10;
/// Candidates, holders and similar lists of persons at most; the full number is told beside them.
pub const CANDIDATES_MAX: usize = 20;
/// Granting groups of one account at most; the full number is told beside them.
pub const GRANTING_GROUPS_MAX: usize = 100;
/// Steps of one explanation at most: more is not an explanation.
pub const EVIDENCE_STEPS_MAX: usize = 200;
/// Values counted per facet at most.
pub const FACET_VALUES_MAX: usize = 20;
/// Bytes of a text for people (messages, remedies, summaries) at most.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of one principal at most: three ids and what tells them apart.
pub const PRINCIPAL_BYTES_MAX: usize = 512;
/// Principals of one user at most, so that the longest ones fit into one response.
pub const USER_PRINCIPALS_MAX: usize = 20_000;
/// Pairs of a group of one user and an app of that user which has the group, at most: what is looked at to find the
/// principals, about a tenth of a second.
pub const USER_WAYS_MAX: usize = 100_000;
/// Overrides by call of one org at most: single cases that operators decide. Whoever needs more has a rule.
pub const OVERRIDES_MAX: usize = 10_000;
/// Days that an override may be ahead of its end at most: by then somebody shall look at it again.
pub const OVERRIDE_DAYS_MAX: usize = 366;
/// Bytes of the reason of an override at most: a sentence and the number of a ticket.
pub const OVERRIDE_REASON_BYTES_MAX: usize = 512;
/// Change events in one message of a stream at most: a few hundred kilobytes, so that a slow client's window is not
/// blown.
pub const CHANGE_EVENTS_MAX: usize = 500;
/// Longest time between two checkpoints of an idle stream, in milliseconds.
pub const CHECKPOINT_INTERVAL_MS_MAX: u64 = 1_000;

const _: () = assert!(PAGE_SIZE_DEFAULT <= PAGE_SIZE_MAX && SEARCH_PAGE_SIZE_DEFAULT <= SEARCH_PAGE_SIZE_MAX);
const _: () = assert!(SUGGESTIONS_DEFAULT <= SUGGESTIONS_MAX && SEARCH_PAGE_SIZE_MAX <= SEARCH_HITS_MAX);
const _: () = assert!(USER_PRINCIPALS_MAX * (PRINCIPAL_BYTES_MAX + 4) < RESPONSE_BYTES_MAX);

/// A page size below zero, which is the only one that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegativePageSize(
    /// The size that was asked for.
    pub i32,
);

impl std::fmt::Display for NegativePageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "page size {} is negative", self.0)
    }
}

impl std::error::Error for NegativePageSize {}

/// Rows on a page for the `page_size` of a request, by AIP-158: 0 is the default, too many is the maximum, negative is
/// an error (`INVALID_ARGUMENT`).
pub fn page_size(requested: i32) -> Result<usize, NegativePageSize> {
    bounded(requested, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
}

/// As [`page_size`], for `Search.Search`.
pub fn search_page_size(requested: i32) -> Result<usize, NegativePageSize> {
    bounded(requested, SEARCH_PAGE_SIZE_DEFAULT, SEARCH_PAGE_SIZE_MAX)
}

/// As [`page_size`], for the `max_suggestions` of `Search.Suggest`.
pub fn suggestions(requested: i32) -> Result<usize, NegativePageSize> {
    bounded(requested, SUGGESTIONS_DEFAULT, SUGGESTIONS_MAX)
}

fn bounded(requested: i32, default: usize, max: usize) -> Result<usize, NegativePageSize> {
    match usize::try_from(requested) {
        Err(_) => Err(NegativePageSize(requested)),
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(requested: i32, expected: [Result<usize, NegativePageSize>; 3]) {
        assert_eq!([page_size(requested), search_page_size(requested), suggestions(requested)], expected);
    }

    #[test]
    fn page_sizes_are_defaulted_and_capped() {
        check(0, [Ok(100), Ok(20), Ok(10)]);
        check(1, [Ok(1), Ok(1), Ok(1)]);
        check(20, [Ok(20), Ok(20), Ok(20)]);
        check(100, [Ok(100), Ok(100), Ok(20)]);
        check(101, [Ok(101), Ok(100), Ok(20)]);
        check(1_000, [Ok(1_000), Ok(100), Ok(20)]);
        check(1_001, [Ok(1_000), Ok(100), Ok(20)]);
        check(i32::MAX, [Ok(1_000), Ok(100), Ok(20)]);
        check(-1, [Err(NegativePageSize(-1)); 3]);
        check(i32::MIN, [Err(NegativePageSize(i32::MIN)); 3]);
    }
}

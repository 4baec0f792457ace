//! Walking a list page by page: where a page begins, how much is read for it, where the next one begins.
//!
//! Entry points: [`Listing::begin`], [`Listing::collect`], [`fitting`].
//!
//! Invariants:
//! - One call reads at most [`SCAN_ROWS_MAX`] rows (and one page twice), however selective the filter: a short or empty page
//!   with a next token is an answer.
//! - A row that nobody changes during the walk is shown exactly once: pages end and begin at the surrogate of a row.
//! - A list about something goes on only about the very same thing.

use okta_idmap_proto::limits::{PAGE_SIZE_MAX, RESPONSE_BYTES_MAX};
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::ask::Ask;
use super::door;
use super::errors::Failure;
use super::page::{Began, Binding, PageToken, Paged};
use super::requests::Listed;
use crate::core::ids::Revision;
use crate::store::{PageOf, StoreError};

/// Rows that one call reads for a filtered list. About 30 ms of reading; a caller who gets an empty page asks again.
pub(super) const SCAN_ROWS_MAX: usize = 10_000;

/// A page that is asked for.
#[derive(Debug)]
pub(super) struct Listing {
    binding: Binding,
    start: Began,
    /// Rows on it.
    pub(super) limit: usize,
    after: Option<i64>,
    /// Hash of what the list is about, as the first page found it.
    subject: Option<u64>,
}

impl Listing {
    /// Reads page size and token.
    ///
    /// # Errors
    /// [`Failure::FieldInvalid`], [`Failure::PageTokenInvalid`], [`Failure::PageTokenExpired`].
    pub(super) fn begin(ask: &Ask<'_>, rpc: Paged, request: &impl Listed) -> Result<Self, Failure> {
        let (size, token) = request.page();
        let limit = door::page_size(size)?;
        let binding = bind(ask, rpc, request);
        let Some(token) = read_token(ask, token, &binding)? else {
            return Ok(Self { binding, start: began(ask, None), limit, after: None, subject: None });
        };
        let malformed = Failure::PageTokenInvalid { detail: "it is malformed" };
        let Some((after, subject)) = token.position.split_first_chunk::<8>() else { return Err(malformed) };
        let Ok(subject) = <[u8; 8]>::try_from(subject) else { return Err(malformed) };
        let (after, subject) = (i64::from_be_bytes(*after), u64::from_be_bytes(subject));
        Ok(Self { binding, start: token.start, limit, after: Some(after), subject: Some(subject) })
    }

    /// Says what the list is about.
    ///
    /// # Errors
    /// [`Failure::PageTokenExpired`] when the pages before were about something else: an account has moved to another
    /// user, a label to another app.
    pub(super) fn about(&mut self, id: &str) -> Result<(), Failure> {
        let hash = xxh3_64(id.as_bytes());
        if self.subject.is_some_and(|before| before != hash) {
            return Err(Failure::PageTokenExpired { detail: "the selector leads to something else now" });
        }
        self.subject = Some(hash);
        Ok(())
    }

    /// The token of the next page; empty after the last one.
    pub(super) fn token(&self, next: Option<i64>) -> String {
        let Some(next) = next else { return String::new() };
        let mut position = next.to_be_bytes().to_vec();
        position.extend_from_slice(&self.subject.unwrap_or_default().to_be_bytes());
        PageToken { start: self.start, position }.encode(&self.binding)
    }

    /// Reads rows until the page has `limit` of those that `show` does not drop.
    pub(super) fn collect<T, U>(
        &self,
        limit: usize,
        read: impl Fn(Option<i64>, usize) -> Result<PageOf<T>, StoreError>,
        mut show: impl FnMut(T) -> Result<Option<U>, Failure>,
    ) -> Result<PageOf<U>, Failure> {
        let mut shown = Vec::new();
        let (mut after, mut scanned, mut chunk) = (self.after, 0, limit);
        loop {
            let page = read(after, chunk.min(SCAN_ROWS_MAX - scanned))?;
            let rows = page.rows.len();
            scanned += rows;
            for (index, row) in page.rows.into_iter().enumerate() {
                shown.extend(show(row)?);
                if shown.len() == limit && index + 1 < rows {
                    // Full before the end of what was read: a read that ends here tells where the next page begins.
                    return Ok(PageOf { rows: shown, next: read(after, index + 1)?.next });
                }
            }
            after = page.next;
            if after.is_none() || shown.len() >= limit || scanned >= SCAN_ROWS_MAX {
                return Ok(PageOf { rows: shown, next: after });
            }
            // The filter lets little through: larger steps.
            chunk = (chunk * 2).min(PAGE_SIZE_MAX);
        }
    }
}

/// What the tokens of this list are bound to.
pub(super) fn bind(ask: &Ask<'_>, rpc: Paged, request: &impl Listed) -> Binding {
    Binding::new(rpc, ask.view.name(), &request.query(), ask.view.store_id(), ask.view.page_key())
}

/// When the list of a token began; without one it begins now.
pub(super) fn began(ask: &Ask<'_>, token: Option<&PageToken>) -> Began {
    token.map_or_else(|| at(ask, ask.snapshot.revision()), |token| token.start)
}

/// The state that the store had at a revision.
fn at(ask: &Ask<'_>, revision: Revision) -> Began {
    Began::at(revision, ask.snapshot.era_of(revision))
}

/// Reads a token, if one was sent, and checks that the store has been where the first page was read, and that the change log still
/// reaches back to there.
pub(super) fn read_token(ask: &Ask<'_>, text: &str, binding: &Binding) -> Result<Option<PageToken>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let token = PageToken::decode(text, binding)?;
    let meta = ask.snapshot.meta()?;
    check_window(token.start, at(ask, token.start.revision), meta.changes_from, meta.revision)?;
    Ok(Some(token))
}

/// Whether a list that began at `start` can go on in a store whose change log goes from `oldest` to `newest`, and which was at
/// `here` when it had that revision. After another past the rows stand in another order.
fn check_window(start: Began, here: Began, oldest: Revision, newest: Revision) -> Result<(), Failure> {
    if start.revision < oldest {
        return Err(Failure::PageTokenExpired { detail: "the change log no longer reaches back to the first page" });
    }
    if start.revision > newest || start != here {
        return Err(Failure::PageTokenExpired { detail: "the store was put back to an earlier state" });
    }
    Ok(())
}

/// Builds a response with fewer and fewer rows until it fits.
///
/// # Errors
/// [`Failure::ResponseTooLarge`] when not even one row fits.
pub(super) fn fitting<R: Message>(mut limit: usize, build: impl Fn(usize) -> Result<R, Failure>) -> Result<R, Failure> {
    loop {
        let response = build(limit)?;
        if response.encoded_len() <= RESPONSE_BYTES_MAX {
            return Ok(response);
        }
        if limit <= 1 {
            return Err(Failure::ResponseTooLarge);
        }
        limit /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::PageKey;
    use super::*;

    fn listing(after: Option<i64>) -> Listing {
        let binding = Binding::new(Paged::Apps, "acme", b"", "store", &PageKey::random().unwrap());
        Listing { binding, start: Began::at(Revision(1), None), limit: 0, after, subject: None }
    }

    /// Rows 0, 1, 2, ..., with themselves as surrogates.
    fn read(count: i64) -> impl Fn(Option<i64>, usize) -> Result<PageOf<i64>, StoreError> {
        move |after, limit| {
            let mut rows: Vec<i64> = (after.map_or(0, |after| after + 1)..count).take(limit + 1).collect();
            let has_more = rows.len() > limit;
            rows.truncate(limit);
            let next = if has_more { rows.last().copied() } else { None };
            Ok(PageOf { rows, next })
        }
    }

    /// All pages of `limit` rows that are multiples of `every`; returns the rows and the number of pages.
    fn walk(count: i64, limit: usize, every: i64) -> (Vec<i64>, usize) {
        let (mut rows, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = listing(after).collect(limit, read(count), |row| Ok((row % every == 0).then_some(row))).unwrap();
            assert!(page.rows.len() <= limit);
            rows.extend(page.rows);
            pages += 1;
            after = page.next;
            if after.is_none() {
                return (rows, pages);
            }
        }
    }

    #[track_caller]
    fn check(count: i64, limit: usize, every: i64, expected_pages: usize) {
        let (rows, pages) = walk(count, limit, every);
        assert_eq!(rows, (0..count).filter(|row| row % every == 0).collect::<Vec<_>>());
        assert_eq!(pages, expected_pages);
    }

    #[test]
    fn pages_hold_everything_once() {
        check(0, 10, 1, 1);
        check(10, 10, 1, 1);
        check(11, 10, 1, 2);
        check(100, 7, 1, 15);
        check(100, 7, 3, 5);
        check(1_000, 1, 10, 101); // The last one is empty: only then the end is seen.
        check(25_000, 100, 1_000_000, 3); // One row of 25,000: bounded work, empty pages.
        check(25_000, 100, 100, 3);
    }

    #[test]
    fn the_work_of_one_call_is_bounded() {
        let read_rows = std::cell::Cell::new(0);
        let counting = |after, limit| {
            read_rows.set(read_rows.get() + limit);
            read(1_000_000)(after, limit)
        };
        let page = listing(None).collect(1, counting, |_| Ok(None::<i64>)).unwrap();
        assert!(page.rows.is_empty() && page.next.is_some());
        assert_eq!(read_rows.get(), SCAN_ROWS_MAX);
    }

    #[test]
    fn a_list_stays_about_the_same_thing() {
        let mut first = listing(None);
        first.about("00u1").unwrap();
        let mut second = Listing { subject: first.subject, ..listing(Some(1)) };
        assert_eq!(second.about("00u1").map_err(|failure| failure.name()), Ok(()));
        assert_eq!(second.about("00u2").map_err(|failure| failure.name()), Err("PAGE_TOKEN_EXPIRED"));
    }

    #[test]
    fn lists_end_with_the_change_log() {
        #[track_caller]
        fn check(start: u64, era: Option<&str>, expected: Result<(), &str>) {
            // Nobody remembers who made revisions up to 6.
            let (start, stored) = (Revision(start), (start > 6).then_some("b"));
            let found = check_window(Began::at(start, era), Began::at(start, stored), Revision(5), Revision(9));
            assert_eq!(found.map_err(|failure| failure.name()), expected);
        }
        let expired = Err("PAGE_TOKEN_EXPIRED");
        check(4, None, expired);
        check(5, None, Ok(()));
        check(5, Some("a"), expired); // Known then, forgotten since.
        check(7, None, expired);
        check(7, Some("b"), Ok(()));
        check(9, Some("b"), Ok(()));
        check(9, Some("a"), expired); // A backup was put back, and has grown.
        check(10, Some("b"), expired); // A backup was put back.
    }

    #[test]
    fn responses_are_cut_until_they_fit() {
        let build = |limit: usize| Ok("x".repeat(limit * 10_000_000));
        assert_eq!(fitting(4, build).map(|text| text.len()).unwrap(), 10_000_000);
        let too_large = fitting(4, |_| Ok("x".repeat(RESPONSE_BYTES_MAX + 1)));
        assert_eq!(too_large.map_err(|failure| failure.name()), Err("RESPONSE_TOO_LARGE"));
    }
}

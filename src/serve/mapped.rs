//! Keeps the files of search indexes from counting as memory without end. Entry point: [`has_searched`].
//!
//! An index is read by mapping its files. The system counts each page that a search has touched as memory of this process, up to
//! the whole index, though it takes it back whenever it needs some. Whoever watches the process sees a multiple of what it
//! needs. Mapped anew, the pages are still at hand, and none of them counts. That is done between searches: those under way end first,
//! and others wait for the milliseconds that it takes. What merges have mapped is not touched, and counts as long as they last.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Handle;

use super::orgs::{OrgView, Orgs};

/// Bytes of mapped files that may count, the program itself and libraries among them. With some 100 MiB of memory proper an org
/// of a million users stays below 300 MiB.
const MAPPED_BYTES_MAX: u64 = 128 << 20;

/// It is done again only when so many more count than did afterwards: what something else has mapped is not let go by it.
const MORE_BYTES: u64 = 32 << 20;

/// It is looked after so many searches. One takes milliseconds, and touches some MiB at most that were not touched before; to
/// look takes some ten microseconds.
const SEARCHES: u32 = 4;

/// Where Linux tells it; elsewhere nothing is done.
const STATUS_FILE: &str = "/proc/self/status";

/// Searches of this process, whose memory it is.
static SEARCHED: AtomicU32 = AtomicU32::new(0);

/// The least that has counted since it was last done. Held by whoever looks: one at a time is enough.
static LEAST_BYTES: Mutex<u64> = Mutex::new(0);

/// After a search. What is done then is done on a blocking thread: to map anew takes as long as a search.
pub(super) fn has_searched(orgs: &Orgs) {
    if SEARCHED.fetch_add(1, Ordering::Relaxed).is_multiple_of(SEARCHES) {
        let orgs = orgs.clone();
        tokio::task::spawn_blocking(move || look(&orgs));
    }
}

fn look(orgs: &Orgs) {
    let (Ok(mut least), Some(bytes)) = (LEAST_BYTES.try_lock(), mapped_bytes()) else { return };
    *least = bytes.min(*least);
    if is_due(bytes, *least) {
        orgs.iter().for_each(map_anew);
        *least = mapped_bytes().unwrap_or(bytes);
    }
}

/// Whether it is time, by what counts now and the least that has counted since it was last done.
const fn is_due(bytes: u64, least: u64) -> bool {
    bytes > MAPPED_BYTES_MAX && bytes >= least.saturating_add(MORE_BYTES)
}

fn map_anew(org: &OrgView) {
    // While no search uses what was mapped before: else it would count as well until its last search has ended, and others
    // go on to touch more of it.
    let _alone = Handle::current().block_on(org.no_searches());
    let Some(reader) = org.search().get() else { return };
    if let Err(error) = reader.map_anew() {
        // Searches go on in what they have.
        tracing::warn!(org = org.name(), %error, "the search index could not be mapped anew");
    }
}

/// Bytes of mapped files that count as memory of this process.
fn mapped_bytes() -> Option<u64> {
    mapped_bytes_of(&fs::read_to_string(STATUS_FILE).ok()?)
}

fn mapped_bytes_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssFile:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_where_it_helps() {
        let check = |bytes: u64, least: u64, expected: bool| {
            assert_eq!(is_due(bytes << 20, least << 20), expected, "{bytes} MiB, at least {least}");
        };
        check(20, 0, false);
        check(128, 0, false);
        check(129, 0, true);
        check(129, 97, true);
        // Something else has mapped that much.
        check(129, 98, false);
        check(300, 290, false);
        check(322, 290, true);
        check(u64::MAX >> 20, u64::MAX >> 20, false);
    }

    #[test]
    fn what_counts_is_read() {
        let check = |status: &str, expected: Option<u64>| assert_eq!(mapped_bytes_of(status), expected, "{status:?}");
        check(
            "VmRSS:\t   61204 kB\nRssAnon:\t   1 kB\nRssFile:\t   12345 kB\nRssShmem:\t 0 kB\n",
            Some(12_345 * 1_024),
        );
        check("RssFile: 1 kB", Some(1_024));
        check("VmRSS:\t   61204 kB\n", None);
        check("RssFile:\t 12345\n", None);
        check("RssFile:\t -1 kB\n", None);
        check("RssFile:\t 18446744073709551615 kB\n", None);
        check("", None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_system_tells() {
        assert!(mapped_bytes().is_some_and(|bytes| bytes > 0));
    }
}

//! Keeps the files of search indexes from counting as memory without end. Entry point: [`has_searched`].
//!
//! An index is read by mapping its files. The system counts each page that a search has touched as memory of this process, up to
//! the whole index, though it takes it back whenever it needs some. Whoever watches the process sees a multiple of what it
//! needs. Mapped anew, the pages are still at hand, and none of them counts. Searches switch to it all at once: those under way end
//! first, and others wait for that. To open it takes longer, and is done beside them; so is, where there is room, to let go what was
//! mapped before, beside one at a time. What merges have mapped is not touched, and counts as long as they last.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Handle;

use super::orgs::{OrgView, Orgs};

/// Bytes of memory proper and of mapped files together from which on it is done. Until it is done, some tens of MiB more come to
/// count, and an org of a million users is to stay below 300 MiB.
const BYTES_MAX: u64 = 192 << 20;

/// Bytes of mapped files that may count in any case, the program itself and libraries among them, however much there is of
/// memory proper: else it would be done for each few searches.
const MAPPED_BYTES_MIN: u64 = 48 << 20;

/// Where more counts than this when searches switch, none goes on until what was mapped before has been let go.
const BESIDE_BYTES_MAX: u64 = 224 << 20;

/// It is done again only when so many more count than did afterwards: what something else has mapped is not let go by it.
const MORE_BYTES: u64 = 24 << 20;

/// It is looked after so many searches. One takes milliseconds, and some ten MiB more count after it in a large index, as the
/// system maps what is around each page that is touched; to look takes some ten microseconds.
const SEARCHES: u32 = 2;

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
    let (Ok(mut least), Some(counted)) = (LEAST_BYTES.try_lock(), counted()) else { return };
    *least = counted.mapped.min(*least);
    if is_due(counted, *least) {
        orgs.iter().for_each(map_anew);
        *least = self::counted().unwrap_or(counted).mapped;
    }
}

/// What counts as memory of this process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    /// Of mapped files.
    mapped: u64,
    /// Memory proper.
    anonymous: u64,
}

/// Whether it is time, by what counts now and the least of mapped files that has counted since it was last done.
fn is_due(counted: Counted, least: u64) -> bool {
    let mapped_max = BYTES_MAX.saturating_sub(counted.anonymous).max(MAPPED_BYTES_MIN);
    counted.mapped > mapped_max && counted.mapped >= least.saturating_add(MORE_BYTES)
}

fn map_anew(org: &OrgView) {
    let Some(reader) = org.search().get() else { return };
    // No search uses what was mapped before, once there is something else: else it would count as well until the last of them has
    // ended, and others would go on to touch more of it.
    let runtime = Handle::current();
    match reader.map_anew(|| runtime.block_on(org.no_searches())) {
        Ok(Some((mut alone, former))) => {
            // One at a time goes on, which touches little while that is let go.
            if counted().is_some_and(|counted| counted.mapped.saturating_add(counted.anonymous) <= BESIDE_BYTES_MAX) {
                drop(alone.as_mut().and_then(|alone| alone.split(1)));
            }
            drop(former);
        }
        Ok(None) => {}
        // Searches go on in what they have.
        Err(error) => tracing::warn!(org = org.name(), %error, "the search index could not be mapped anew"),
    }
}

fn counted() -> Option<Counted> {
    counted_in(&fs::read_to_string(STATUS_FILE).ok()?)
}

fn counted_in(status: &str) -> Option<Counted> {
    let bytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1_024)
    };
    Some(Counted { mapped: bytes("RssFile:")?, anonymous: bytes("RssAnon:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_where_it_helps() {
        let check = |mapped: u64, anonymous: u64, least: u64, expected: bool| {
            let [mapped, anonymous, least] = [mapped, anonymous, least].map(|mib| mib << 20);
            assert_eq!(
                is_due(Counted { mapped, anonymous }, least),
                expected,
                "{mapped}, {anonymous}, at least {least}"
            );
        };
        check(20, 0, 0, false);
        check(192, 0, 0, false);
        check(193, 0, 0, true);
        check(132, 60, 0, false);
        check(133, 60, 0, true);
        check(133, 60, 109, true);
        // Something else has mapped that much.
        check(133, 60, 110, false);
        check(300, 60, 290, false);
        check(314, 60, 290, true);
        // However much memory proper there is.
        for anonymous in [144, 192, 400, 4_000] {
            check(48, anonymous, 0, false);
            check(49, anonymous, 0, true);
        }
        let most = u64::MAX >> 20;
        check(most, most, most, false);
    }

    #[test]
    fn what_counts_is_read() {
        let check = |status: &str, expected: Option<(u64, u64)>| {
            let expected = expected.map(|(mapped, anonymous)| Counted { mapped, anonymous });
            assert_eq!(counted_in(status), expected, "{status:?}");
        };
        check(
            "VmRSS:\t   61204 kB\nRssAnon:\t   7 kB\nRssFile:\t   12345 kB\nRssShmem:\t 0 kB\n",
            Some((12_345 * 1_024, 7 * 1_024)),
        );
        check("RssFile: 1 kB\nRssAnon: 0 kB", Some((1_024, 0)));
        check("VmRSS:\t   61204 kB\n", None);
        check("RssFile: 1 kB\n", None);
        check("RssFile:\t 12345\nRssAnon: 0 kB", None);
        check("RssFile:\t -1 kB\nRssAnon: 0 kB", None);
        check("RssAnon: 1 kB\nRssFile:\t 18446744073709551615 kB\n", None);
        check("", None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_system_tells() {
        assert!(counted().is_some_and(|counted| counted.mapped > 0 && counted.anonymous > 0));
    }
}

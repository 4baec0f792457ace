//! Rate limits as decisions: which bucket a path counts in, what the headers of an answer say, and who may send when.
//!
//! Entry points: [`Scheduler`], [`Bucket::of_path`], [`RateHeaders::parse`]. The shell is `okta::limiter`.
//!
//! | module | what it decides |
//! |---|---|
//! | `scheduler` | who goes first |
//! | `bucket` | how much of a window is left |
//! | `window` | when it ends |
//! | `circuit` | whether a bucket keeps failing, and who asks meanwhile |
//! | `clock` | Okta's clock against ours |
//! | `foreign` | what others are going to take |
//! | `parallel` | how many requests are in flight at once |

mod bucket;
mod circuit;
mod clock;
mod foreign;
mod parallel;
mod scheduler;
mod window;

pub use bucket::BucketRate;
pub use circuit::{Change, Circuit, Health, Outage, Standing, Turn};
pub use clock::ServerClock;
pub use scheduler::{Ended, Granted, Place, Scheduler, Timing, URGENT_IN_A_ROW_MAX};

/// Longest wait that a header can cause, in milliseconds. Windows are 60 s long; the slack covers the added second and
/// clock differences inside Okta, the cap keeps a nonsense header from stopping the connector (facts 6.3).
pub const WAIT_MILLIS_MAX: u64 = 90_000;

/// Shortest wait after a spent window, in milliseconds: `Reset` has whole seconds, so the window may end inside one.
pub const WAIT_MILLIS_MIN: u64 = 1_000;

/// A point on a monotonic clock: milliseconds since an origin that the shell chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment plus `millis`, saturating.
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds since the origin.
    pub(super) const fn millis(self) -> i64 {
        self.0.cast_signed()
    }

    /// Milliseconds from this moment to `later`, zero when it has passed.
    pub const fn millis_until(self, later: Self) -> u64 {
        later.0.saturating_sub(self.0)
    }
}

/// A rate-limit bucket of an org: requests in one bucket share a counter (facts 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// The list of apps and everything below an app: the smallest bucket and the one that decides how long a crawl takes.
    Apps,
    /// One app by id.
    AppsOne,
    /// The list of groups and everything below a group.
    GroupsList,
    /// One group by id.
    GroupsOne,
    /// The list of users.
    UsersList,
    /// One user by id.
    UsersOne,
    /// The System Log.
    Logs,
    /// OAuth clients.
    Clients,
    /// Any other path of the management API.
    Other,
    /// Public metadata, practically unlimited (facts 6.1).
    Public,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Bucket; 10] = [
        Bucket::Apps,
        Bucket::AppsOne,
        Bucket::GroupsList,
        Bucket::GroupsOne,
        Bucket::UsersList,
        Bucket::UsersOne,
        Bucket::Logs,
        Bucket::Clients,
        Bucket::Other,
        Bucket::Public,
    ];

    /// Stable name, for status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Bucket::Apps => "apps",
            Bucket::AppsOne => "apps-one",
            Bucket::GroupsList => "groups-list",
            Bucket::GroupsOne => "groups-one",
            Bucket::UsersList => "users-list",
            Bucket::UsersOne => "users-one",
            Bucket::Logs => "logs",
            Bucket::Clients => "clients",
            Bucket::Other => "other",
            Bucket::Public => "public",
        }
    }

    /// The bucket of a path (query ignored): the exact match, else the longest prefix (facts 6.1, 6.2).
    pub fn of_path(path_and_query: &str) -> Self {
        let path = path_and_query.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let head = [segments.next(), segments.next(), segments.next()];
        let below = (segments.next(), segments.next());
        match (head, below) {
            ([Some(".well-known"), ..], _) => Bucket::Public,
            ([Some("oauth2"), Some("v1"), Some("clients")], _) => Bucket::Clients,
            ([Some("api"), Some("v1"), Some("apps")], (Some(_), None)) => Bucket::AppsOne,
            ([Some("api"), Some("v1"), Some("apps")], _) => Bucket::Apps,
            // `rules` is a list of its own and no group id.
            ([Some("api"), Some("v1"), Some("groups")], (Some(id), None)) if id != "rules" => Bucket::GroupsOne,
            ([Some("api"), Some("v1"), Some("groups")], _) => Bucket::GroupsList,
            ([Some("api"), Some("v1"), Some("users")], (None, _)) => Bucket::UsersList,
            ([Some("api"), Some("v1"), Some("users")], (Some(_), None)) => Bucket::UsersOne,
            ([Some("api"), Some("v1"), Some("logs")], _) => Bucket::Logs,
            _ => Bucket::Other,
        }
    }
}

/// What the `X-Rate-Limit-*` headers of one answer say. A value that does not parse counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RateHeaders {
    /// `X-Rate-Limit-Limit`: already the caller's share of the bucket; never halved again (facts 15.1).
    pub limit: Option<u64>,
    /// `X-Rate-Limit-Remaining`.
    pub remaining: Option<u64>,
    /// `X-Rate-Limit-Reset` in Unix seconds: the largest of several (facts 6.3).
    pub reset_unix_s: Option<i64>,
    /// `Retry-After` in seconds, which gateways send instead.
    pub retry_after_s: Option<u64>,
}

impl RateHeaders {
    /// Reads the header lines; each may come several times or comma-joined. Of several limits or remainders the smallest
    /// counts, of several resets the largest: the reading that asks for less.
    pub fn parse<'a>(header_lines: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut read = Self::default();
        for (name, line) in header_lines {
            let values =
                line.split(',').filter_map(|value| value.trim().parse::<i64>().ok()).filter(|value| *value >= 0);
            let (smallest, largest) = (values.clone().min(), values.max());
            let smallest = smallest.and_then(|value| u64::try_from(value).ok());
            let least = |old: Option<u64>| old.into_iter().chain(smallest).min();
            if name.eq_ignore_ascii_case("x-rate-limit-limit") {
                read.limit = least(read.limit);
            } else if name.eq_ignore_ascii_case("x-rate-limit-remaining") {
                read.remaining = least(read.remaining);
            } else if name.eq_ignore_ascii_case("x-rate-limit-reset") {
                read.reset_unix_s = read.reset_unix_s.max(largest);
            } else if name.eq_ignore_ascii_case("retry-after") {
                read.retry_after_s = read.retry_after_s.max(largest.and_then(|value| u64::try_from(value).ok()));
            }
        }
        read
    }

    /// What a 429 with these headers asks for.
    pub fn refusal(&self) -> Refusal {
        match (self.limit, self.reset_unix_s, self.retry_after_s) {
            (Some(limit), Some(_), _) if limit > 0 => Refusal::Window,
            (None, _, Some(seconds)) | (Some(1..), None, Some(seconds)) => {
                Refusal::Pause { wait_millis: seconds.saturating_mul(1_000).clamp(WAIT_MILLIS_MIN, WAIT_MILLIS_MAX) }
            }
            // `Limit: 0` or no headers: too many requests at the same time; `Reset` is only an estimate (facts 6.1, 13.6).
            _ => Refusal::Concurrency,
        }
    }
}

/// Why Okta refused with 429, and what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The window is spent: wait once until it is over, then go on.
    Window,
    /// A gateway says how long to wait.
    Pause {
        /// Milliseconds to wait.
        wait_millis: u64,
    },
    /// Too many requests at once: a short jittered wait and fewer of our own.
    Concurrency,
}

/// Who goes first when several wait for one budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// The System Log: everything else learns from it what changed.
    Log,
    /// Reads of single objects, which bring a known change in.
    ById,
    /// Pages of a crawl.
    Crawl,
}

impl Priority {
    /// Whether somebody waits for it.
    pub const fn urgency(self) -> Urgency {
        match self {
            Priority::Log | Priority::ById => Urgency::Urgent,
            Priority::Crawl => Urgency::Patient,
        }
    }
}

/// How much of the budget a request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Half of the reserve, too.
    Urgent,
    /// What is beyond the reserve.
    Patient,
}

/// Whether one more request may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Go,
    /// Not before this moment; then it may have to wait again.
    At(Moment),
    /// When a request in flight has been answered.
    AfterAnswer,
}

/// Bounds that the operator sets for a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateConfig {
    /// Most requests of one bucket in flight; at least 1 is used.
    pub in_flight_max: u32,
    /// Percent of a window's limit that is left to other integrations, 0 to 90 (facts 6.3 advise 10).
    pub reserve_percent: u8,
}

/// Percent of the log's budget that idle polls may take: the rest drains bursts, of which one request brings 1,000 events,
/// and stays for others.
const IDLE_POLLS_PERCENT: u64 = 80;

/// The shortest pause between idle polls of the log that its budget allows, in milliseconds; `limit` is the number of
/// requests in a window of `window_millis` as the headers tell (facts 6.1, 6.2). 0 when nothing is known.
pub fn log_pause_millis(limit: Option<u64>, window_millis: u64) -> i64 {
    let Some(limit) = limit.filter(|limit| *limit > 0) else { return 0 };
    let pause = window_millis.saturating_mul(100).div_ceil(limit.saturating_mul(IDLE_POLLS_PERCENT));
    i64::try_from(pause).unwrap_or(i64::MAX)
}

/// Most percent that [`RateConfig::reserve_percent`] can take away, so that something is left to work with.
pub const RESERVE_PERCENT_MAX: u8 = 90;

impl Default for RateConfig {
    fn default() -> Self {
        Self { in_flight_max: 4, reserve_percent: 10 }
    }
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;

#[cfg(test)]
mod outage_tests;
#[cfg(test)]
mod simulated_tests;
#[cfg(test)]
mod simulation_tests;

//! Rate limits: buckets by path, windows that are not aligned to the minute, shares of the caller, concurrency (facts 6).
//!
//! Entry points: [`bucket_of`], [`RateLimiter`]. Pure: time comes in as a parameter.

use std::collections::HashMap;

use crate::time::UnixMs;

/// Length of a window unless set otherwise: "most windows are 60 s long" (facts 6.1).
pub const WINDOW_MS_DEFAULT: u64 = 60_000;
/// What the headers show for a bucket without a limit: large enough that no reserve rule slows a client down.
const UNLIMITED: u32 = 100_000;

macro_rules! buckets {
    ($($variant:ident = $name:literal, $doc:literal);+ $(;)?) => {
        /// A rate-limit bucket of facts 6.2.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Bucket { $(#[doc = $doc] $variant),+ }

        impl Bucket {
            /// All buckets.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name the facts use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

buckets! {
    Apps = "apps", "`/api/v1/apps` and everything below it except the exact app read: the scarce one.";
    AppsOne = "apps-one", "`/api/v1/apps/{id}`.";
    GroupsList = "groups-list", "`/api/v1/groups` and below.";
    GroupsOne = "groups-one", "`/api/v1/groups/{id}`.";
    UsersList = "users-list", "`/api/v1/users`.";
    UsersOne = "users-one", "`/api/v1/users/{idOrLogin}`.";
    Logs = "logs", "`/api/v1/logs`.";
    Other = "other", "Any other path below `/api/v1`.";
    Clients = "clients", "`/oauth2/v1/clients`.";
    Metadata = "metadata", "`/.well-known/*`: practically unlimited.";
}

/// The bucket of a path: exact match, else longest prefix (facts 6.1).
pub fn bucket_of(path: &str) -> Bucket {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api", "v1", "apps", _] => Bucket::AppsOne,
        ["api", "v1", "apps", ..] => Bucket::Apps,
        ["api", "v1", "groups", "rules"] => Bucket::GroupsList,
        ["api", "v1", "groups", _] => Bucket::GroupsOne,
        ["api", "v1", "groups", ..] => Bucket::GroupsList,
        ["api", "v1", "users"] => Bucket::UsersList,
        ["api", "v1", "users", _] => Bucket::UsersOne,
        ["api", "v1", "logs", ..] => Bucket::Logs,
        ["oauth2", "v1", "clients", ..] => Bucket::Clients,
        [".well-known", ..] => Bucket::Metadata,
        _ => Bucket::Other,
    }
}

/// The limit of one bucket, in requests per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of the whole org, all clients together.
    pub org: u32,
    /// Of the one token the simulated client uses; what `X-Rate-Limit-Limit` shows (facts 15.1).
    pub share: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    ends_ms: UnixMs,
    own: u32,
    others: u32,
}

/// What the limiter says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request may go on; otherwise it is answered with 429.
    pub allowed: bool,
    /// `X-Rate-Limit-Limit`; 0 = the concurrency limit spoke.
    pub limit: u32,
    /// `X-Rate-Limit-Remaining`.
    pub remaining: u32,
    /// `X-Rate-Limit-Reset`, Unix seconds.
    pub reset_s: i64,
}

/// Counts requests per bucket. Windows begin with the first request after the previous one ended, hence unaligned.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    limits: HashMap<Bucket, Limit>,
    windows: HashMap<Bucket, Window>,
    /// Length of a window in milliseconds; takes effect with the next window.
    pub window_ms: u64,
    /// Requests in flight at once; `None` = no limit. 75 for current workforce orgs (facts 6.1).
    pub concurrency_max: Option<usize>,
}

impl RateLimiter {
    /// No limits; the headers are still sent.
    pub fn unlimited() -> Self {
        Self { limits: HashMap::new(), windows: HashMap::new(), window_ms: WINDOW_MS_DEFAULT, concurrency_max: None }
    }

    fn preset(per_bucket: [(Bucket, u32); 9], concurrency_max: usize) -> Self {
        let mut limiter = Self::unlimited();
        for (bucket, org) in per_bucket {
            limiter.set_limit(bucket, Some(Limit { org, share: org / 2 }));
        }
        limiter.concurrency_max = Some(concurrency_max);
        limiter
    }

    /// The last published defaults of a Workforce org (facts 6.2), at 50 % for the caller.
    pub fn workforce() -> Self {
        let numbers = [
            (Bucket::Apps, 100),
            (Bucket::AppsOne, 500),
            (Bucket::GroupsList, 500),
            (Bucket::GroupsOne, 1_000),
            (Bucket::UsersList, 600),
            (Bucket::UsersOne, 2_000),
            (Bucket::Logs, 120),
            (Bucket::Other, 1_200),
            (Bucket::Clients, 100),
        ];
        Self::preset(numbers, 75)
    }

    /// The last published defaults of a free Integrator org (facts 6.2), at 50 % for the caller.
    pub fn integrator() -> Self {
        let numbers = [
            (Bucket::Apps, 20),
            (Bucket::AppsOne, 100),
            (Bucket::GroupsList, 100),
            (Bucket::GroupsOne, 100),
            (Bucket::UsersList, 100),
            (Bucket::UsersOne, 100),
            (Bucket::Logs, 20),
            (Bucket::Other, 100),
            (Bucket::Clients, 25),
        ];
        Self::preset(numbers, 35)
    }

    /// Sets or lifts the limit of one bucket, from now on.
    pub fn set_limit(&mut self, bucket: Bucket, limit: Option<Limit>) {
        match limit {
            Some(limit) => self.limits.insert(bucket, limit),
            None => self.limits.remove(&bucket),
        };
    }

    fn window(&mut self, bucket: Bucket, now_ms: UnixMs) -> &mut Window {
        let length_ms = i64::try_from(self.window_ms).unwrap_or(i64::MAX);
        let window = self.windows.entry(bucket).or_default();
        if now_ms >= window.ends_ms {
            *window = Window { ends_ms: now_ms.saturating_add(length_ms), own: 0, others: 0 };
        }
        window
    }

    /// Another client of the same org uses `count` requests of a bucket.
    pub fn consume(&mut self, bucket: Bucket, count: u32, now_ms: UnixMs) {
        let window = self.window(bucket, now_ms);
        window.others = window.others.saturating_add(count);
    }

    /// Counts a request of the simulated client; refused ones count too.
    pub fn take(&mut self, bucket: Bucket, in_flight: usize, now_ms: UnixMs) -> Verdict {
        let limit = self.limits.get(&bucket).copied().unwrap_or(Limit { org: u32::MAX, share: UNLIMITED });
        let is_limited = self.limits.contains_key(&bucket);
        if self.concurrency_max.is_some_and(|most| in_flight > most) {
            return Verdict { allowed: false, limit: 0, remaining: 0, reset_s: now_ms.div_euclid(1_000) + 1 };
        }
        let window = self.window(bucket, now_ms);
        let left_share = limit.share.saturating_sub(window.own);
        let left_org = limit.org.saturating_sub(window.own).saturating_sub(window.others);
        let left = left_share.min(left_org);
        window.own = window.own.saturating_add(1);
        let reset_s = (window.ends_ms + 999).div_euclid(1_000);
        let remaining = if is_limited { left.saturating_sub(1) } else { left.saturating_sub(1).max(UNLIMITED / 2) };
        Verdict { allowed: !is_limited || left > 0, limit: limit.share, remaining, reset_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Bucket) {
        assert_eq!(bucket_of(path), expected, "{path}");
    }

    #[test]
    fn paths_fall_into_buckets() {
        check("/api/v1/apps", Bucket::Apps);
        check("/api/v1/apps/0oa1", Bucket::AppsOne);
        check("/api/v1/apps/0oa1/users", Bucket::Apps);
        check("/api/v1/apps/0oa1/users/00u1", Bucket::Apps);
        check("/api/v1/apps/0oa1/groups", Bucket::Apps);
        check("/api/v1/groups", Bucket::GroupsList);
        check("/api/v1/groups/00g1", Bucket::GroupsOne);
        check("/api/v1/groups/rules", Bucket::GroupsList);
        check("/api/v1/groups/00g1/users", Bucket::GroupsList);
        check("/api/v1/groups/00g1/apps", Bucket::GroupsList);
        check("/api/v1/users", Bucket::UsersList);
        check("/api/v1/users/00u1", Bucket::UsersOne);
        check("/api/v1/users/00u1/groups", Bucket::Other);
        check("/api/v1/users/00u1/appLinks", Bucket::Other);
        check("/api/v1/logs", Bucket::Logs);
        check("/api/v1/api-tokens", Bucket::Other);
        check("/api/v1/iam/assignees/users", Bucket::Other);
        check("/oauth2/v1/clients/0oa1/roles", Bucket::Clients);
        check("/.well-known/okta-organization", Bucket::Metadata);
        check("/", Bucket::Other);
    }

    #[test]
    fn a_window_begins_with_its_first_request() {
        let mut limiter = RateLimiter::unlimited();
        limiter.set_limit(Bucket::Apps, Some(Limit { org: 4, share: 2 }));
        let first_ms = 1_000_017_300;
        let take = |limiter: &mut RateLimiter, at_ms| limiter.take(Bucket::Apps, 1, at_ms);
        assert_eq!(take(&mut limiter, first_ms), Verdict { allowed: true, limit: 2, remaining: 1, reset_s: 1_000_078 });
        assert_eq!(
            take(&mut limiter, first_ms + 59_000),
            Verdict { allowed: true, limit: 2, remaining: 0, reset_s: 1_000_078 }
        );
        assert!(!take(&mut limiter, first_ms + 59_999).allowed, "third in the window");
        assert!(take(&mut limiter, first_ms + 60_000).allowed, "next window");
    }

    #[test]
    fn other_clients_eat_the_budget() {
        let mut limiter = RateLimiter::unlimited();
        limiter.set_limit(Bucket::Logs, Some(Limit { org: 10, share: 5 }));
        limiter.consume(Bucket::Logs, 8, 0);
        assert_eq!(limiter.take(Bucket::Logs, 1, 0).remaining, 1, "two of ten are left");
        assert!(limiter.take(Bucket::Logs, 1, 0).allowed);
        assert!(!limiter.take(Bucket::Logs, 1, 0).allowed, "although the share is not used up");
        assert!(limiter.take(Bucket::Apps, 1, 0).allowed, "buckets are independent");
    }

    #[test]
    fn concurrency_shows_a_limit_of_zero() {
        let mut limiter = RateLimiter { concurrency_max: Some(2), ..RateLimiter::unlimited() };
        assert!(limiter.take(Bucket::Apps, 2, 0).allowed);
        assert_eq!(
            limiter.take(Bucket::Apps, 3, 5_000),
            Verdict { allowed: false, limit: 0, remaining: 0, reset_s: 6 }
        );
    }

    #[test]
    fn presets_show_the_share_of_the_caller() {
        assert_eq!(RateLimiter::workforce().take(Bucket::Apps, 1, 0).limit, 50);
        assert_eq!(RateLimiter::integrator().take(Bucket::Apps, 1, 0).limit, 10);
        assert_eq!(RateLimiter::workforce().take(Bucket::Metadata, 1, 0).limit, UNLIMITED);
    }
}

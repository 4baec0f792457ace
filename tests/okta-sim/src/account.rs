//! What was asked of the org: a bounded log of requests and counters that are never cut.
//!
//! Entry point: [`Requests`].

use std::collections::{BTreeMap, VecDeque};

use crate::oauth::TOKEN_PATH;
use crate::rate::Bucket;
use crate::time::UnixMs;

/// Requests kept one by one. A crawl of a large org makes about ten thousand; beyond this only the counters go on.
const RECORDS_MAX: usize = 200_000;

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// When, in the time of the org.
    pub at_ms: UnixMs,
    /// HTTP method.
    pub method: String,
    /// Path as sent.
    pub path: String,
    /// Query as sent, without `?`.
    pub query: String,
    /// Status of the answer; 0 = the connection was reset instead.
    pub status: u16,
    /// Rate-limit bucket.
    pub bucket: Bucket,
    /// Path with ids replaced by `*`, such as `/api/v1/apps/*/users`.
    pub endpoint: &'static str,
    /// Whether an `Authorization` header came with it. Its value is never kept.
    pub has_authorization: bool,
    /// `Content-Type` as sent, which chooses the form of the answer for users (facts 1.3).
    pub content_type: Option<String>,
    /// Page of its walk, from 1.
    pub page: u32,
    /// `limit` of the query.
    pub limit: Option<usize>,
    /// Items in the answer, for lists.
    pub items: usize,
}

/// Sums for one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointCount {
    /// Requests of any outcome.
    pub requests: usize,
    /// Answers with status 200.
    pub succeeded: usize,
    /// Answers with status 429.
    pub throttled: usize,
    /// Items delivered.
    pub items: usize,
    /// Smallest and largest `limit` asked for.
    pub limits: Option<(usize, usize)>,
}

/// The request log.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    records: VecDeque<RequestRecord>,
    counts: BTreeMap<&'static str, EndpointCount>,
    violations: usize,
}

impl Requests {
    pub(crate) fn add(&mut self, record: RequestRecord) {
        let count = self.counts.entry(record.endpoint).or_default();
        count.requests += 1;
        count.succeeded += usize::from(record.status == 200);
        count.throttled += usize::from(record.status == 429);
        count.items += record.items;
        if let Some(limit) = record.limit {
            let (least, most) = count.limits.unwrap_or((limit, limit));
            count.limits = Some((least.min(limit), most.max(limit)));
        }
        // The token request is the one POST: to this very path, without a query, and without a credential in its headers.
        let is_token_request = record.method == "POST"
            && record.path == TOKEN_PATH
            && record.query.is_empty()
            && !record.has_authorization
            && record.content_type.as_deref() == Some("application/x-www-form-urlencoded");
        if record.method != "GET" && !is_token_request {
            self.violations += 1;
        }
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
        }
        self.records.push_back(record);
    }

    /// The last requests (at most 200,000), oldest first.
    pub fn records(&self) -> impl Iterator<Item = &RequestRecord> {
        self.records.iter()
    }

    /// Sums of one endpoint, named as in [`RequestRecord::endpoint`].
    pub fn count(&self, endpoint: &str) -> EndpointCount {
        self.counts.get(endpoint).cloned().unwrap_or_default()
    }

    /// Sums of all endpoints asked so far.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &EndpointCount)> {
        self.counts.iter().map(|(name, count)| (*name, count))
    }

    /// All requests, of any endpoint and outcome.
    pub fn total(&self) -> usize {
        self.counts.values().map(|count| count.requests).sum()
    }

    /// Requests with a method other than GET, token requests aside: a read-only client makes none.
    pub fn violations(&self) -> usize {
        self.violations
    }

    /// Forgets everything, to count one phase of a test by itself.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

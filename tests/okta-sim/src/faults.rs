//! What can go wrong or look odd on purpose: quirks that hold for all requests, rules that hit chosen ones.
//!
//! Entry points: [`Quirks`], [`Rule`], [`Action`], [`Refusal`]. Both may be changed while the server runs. Each names
//! the row of facts 13 or 15 it stands for.

use std::collections::BTreeSet;

/// Oddities that hold for every request while they are switched on. The default is a well-behaved org.
#[derive(Clone, Debug, Default)]
pub struct Quirks {
    /// Both links in one comma-joined `Link` header line (13.1).
    pub links_in_one_line: bool,
    /// `next` before `self` (13.1).
    pub links_next_first: bool,
    /// All header names in lower case (13.1).
    pub lowercase_header_names: bool,
    /// Embedded objects only on the first page of a walk (13.3).
    pub expand_lost_on_page_2: bool,
    /// Pages hold only this share of `limit`, in percent, and still have a `next` (13.3).
    pub short_pages_percent: Option<u8>,
    /// Every page is preceded by an empty one that has a `next` (13.3).
    pub empty_pages: bool,
    /// `limit` is silently cut to this number (13.3).
    pub limit_clamped: Option<usize>,
    /// The last object of a page comes again as the first of the next one (facts 11).
    pub duplicates_across_pages: bool,
    /// Credential without admin role: users are `200 []`, everything else 403 E0000006 (13.4, 7.2).
    pub role_missing: bool,
    /// `X-Rate-Limit-Reset` twice, the first value too early (13.7).
    pub duplicate_reset_header: bool,
    /// No rate-limit headers at all (6.3).
    pub rate_headers_missing: bool,
    /// The `Date` header is off by this many seconds (13.7).
    pub date_skew_s: i64,
    /// Null properties are left out altogether (13.8).
    pub omit_nulls: bool,
    /// App users carry the key `credentials"` as in official examples (13.8).
    pub stray_quote_key: bool,
    /// `hasAdminPrivilege` spelt correctly instead of `hasAdminPrivlege` (13.9).
    pub admin_privilege_spelt_right: bool,
    /// Targets of log events in reverse order, the `User` target twice (13.10).
    pub targets_shuffled: bool,
    /// `target` and `actor` of log events null (13.10, 15.12).
    pub targets_null: bool,
    /// `outcome.result` in mixed case, contexts empty or absent, `debugData` an empty string (15.12).
    pub log_shapes_odd: bool,
    /// Outcome of log events is FAILURE although the change happened (13.12).
    pub outcomes_failed: bool,
    /// Custom profile values of every JSON type on every user (13.20).
    pub custom_profile_values: bool,
    /// These app ids are readable by id, but absent from the list (13.22).
    pub apps_unlisted: BTreeSet<String>,
    /// Lists answer 500 above this `limit` (13.23).
    pub fail_above_limit: Option<usize>,
    /// Enumerations show values that no documentation knows (13.24).
    pub unknown_enum_values: bool,
    /// Every list cursor is refused (15.2).
    pub cursors_stale: bool,
    /// IAM lists put `next` at the admin host (15.4).
    pub iam_next_at_admin_host: bool,
    /// `search` of users and groups answers 503 E0000100 (7.1).
    pub search_unavailable: bool,
    /// `search` and `filter` of users see the state of this many milliseconds ago, in the time of the org: who was changed
    /// since shows the old values, who was created is absent, who was deleted is still there (2.2). By id is current.
    pub index_lag_ms: u64,
    /// The `next` of a log poll keeps the position but changes its text each time (no documented promise against it).
    pub log_next_rewritten: bool,
}

/// Which paths a rule is about.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// Every path.
    Any,
    /// This path only.
    Exact(String),
    /// Paths beginning with this text.
    Prefix(String),
    /// `*` stands for one path segment, as in `/api/v1/apps/*/users`.
    Pattern(String),
}

impl PathMatch {
    /// Whether a path is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => path == wanted,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Pattern(pattern) => {
                let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
                loop {
                    match (wanted.next(), found.next()) {
                        (None, None) => return true,
                        (Some("*"), Some(segment)) if !segment.is_empty() => {}
                        (Some(part), Some(segment)) if part == segment => {}
                        _ => return false,
                    }
                }
            }
        }
    }
}

/// Which page of a walk a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageMatch {
    /// Every page, and requests that are no list.
    Any,
    /// Page with this number, from 1.
    Number(u32),
    /// Every page but the first.
    Later,
}

/// A fault for chosen requests. Build with [`Rule::on`] and refine.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which paths.
    pub path: PathMatch,
    /// Only if the raw query contains this text.
    pub query_contains: Option<String>,
    /// Which page.
    pub page: PageMatch,
    /// Matching requests to let pass first: `nth - 1` to hit the nth.
    pub skip: u32,
    /// How often the rule acts; `None` = for ever.
    pub times: Option<u32>,
    /// Chance to act on a matching request, drawn from the seed of the server.
    pub probability: f64,
    /// What happens.
    pub action: Action,
}

impl Rule {
    /// A rule that acts on every request of a path pattern (`*` = one segment).
    pub fn on(pattern: &str, action: Action) -> Self {
        let path = PathMatch::Pattern(pattern.to_owned());
        Self { path, query_contains: None, page: PageMatch::Any, skip: 0, times: None, probability: 1.0, action }
    }

    /// A rule that acts on every request.
    pub fn everywhere(action: Action) -> Self {
        Self { path: PathMatch::Any, ..Self::on("", action) }
    }

    /// Acts this often and then never again.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets this many matching requests pass first.
    #[must_use]
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Acts only if the raw query contains this text, such as `after=` for every page but the first of any walk.
    #[must_use]
    pub fn query(mut self, text: &str) -> Self {
        self.query_contains = Some(text.to_owned());
        self
    }

    /// Acts on chosen pages only.
    #[must_use]
    pub fn page(mut self, page: PageMatch) -> Self {
        self.page = page;
        self
    }

    /// Acts with this chance.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// Whether the rule acts on this request; counts it down if so.
    pub(crate) fn fires(&mut self, path: &str, query: &str, page: u32, random: &mut fastrand::Rng) -> bool {
        let page_matches = match self.page {
            PageMatch::Any => true,
            PageMatch::Number(number) => page == number,
            PageMatch::Later => page > 1,
        };
        let query_matches = self.query_contains.as_ref().is_none_or(|text| query.contains(text.as_str()));
        if !page_matches || !query_matches || self.times == Some(0) || !self.path.matches(path) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.probability < 1.0 && random.f64() >= self.probability {
            return false;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        true
    }
}

/// What a rule does to a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// An error instead of the answer.
    Refuse(Refusal),
    /// `200 []`.
    EmptyList,
    /// Only this share of the items, in percent (at least none), with the links as they are.
    ShrinkList(u8),
    /// `200` with an HTML page.
    HtmlOk,
    /// `200` with an empty body.
    EmptyBodyOk,
    /// `Content-Length` of the whole body, half of it sent, connection closed.
    Truncate,
    /// The body is cut in half and sent with a fitting length: valid HTTP, invalid JSON.
    CutJson,
    /// The connection is reset before any byte of the answer.
    Reset,
    /// The answer comes this many milliseconds later.
    Delay(u64),
    /// The body comes in small pieces over this many milliseconds.
    SlowBody(u64),
    /// 302 to this URL.
    Redirect(String),
    /// `next` points to this origin (`https://evil.example`).
    NextForeign(String),
    /// `next` is the URL just asked for (13.2).
    NextSelf,
    /// `next` is the one that page 1 had (13.2).
    NextRepeats,
    /// `next` leads back to page 2, by a URL that was never given before.
    NextCircles,
    /// No `next` although more would follow.
    NextMissing,
    /// Embedded objects are left out.
    DropExpand,
    /// The first item is the last one of the page before.
    DuplicateAcrossPages,
    /// One more item that is no valid record.
    BadRecord(BadRecord),
    /// Only this share of `limit` on the page, the rest follows on the next.
    ShortPage(u8),
    /// An empty page whose `next` leads on.
    EmptyPage,
    /// `limit` is cut to this number.
    ClampLimit(usize),
    /// `X-Rate-Limit-Reset` twice.
    DuplicateResetHeader,
    /// No rate-limit headers.
    NoRateHeaders,
    /// 500 if `limit` is larger than this.
    FailAbove(usize),
}

/// Errors instead of an answer (facts 7.1, 15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 403 E0000006.
    Forbidden,
    /// 403 with an empty body and `WWW-Authenticate: .. error="insufficient_scope"` naming this scope.
    InsufficientScope(String),
    /// 401 E0000011.
    InvalidToken,
    /// 401 E0000015: the feature is not enabled; the credential is fine (15.11).
    FeatureDisabled,
    /// 404 E0000007: the object is gone.
    NotFound,
    /// The other 404: a front-end page without error code (15.3).
    FrontEndNotFound,
    /// 405 E0000022.
    MethodNotAllowed,
    /// 423 E0000239: try later (15.11).
    Locked,
    /// 429 E0000047 of the window kind, with a reset this many seconds ahead.
    RateLimited(u32),
    /// 429 E0000047 with `X-Rate-Limit-Limit: 0`.
    Concurrency,
    /// 400 E0000029 "Invalid paging request." (15.2).
    InvalidCursor,
    /// 400 E0000031 "Invalid search criteria.".
    InvalidSearch,
    /// 500 E0000009.
    Internal,
    /// 502 with an HTML page.
    BadGateway,
    /// 503 E0000010.
    ReadOnly,
    /// 503 E0000100.
    SearchUnavailable,
    /// 504 with an HTML page.
    GatewayTimeout,
    /// Any status with any body.
    Custom(u16, String),
}

/// Kinds of invalid record in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// A bare number.
    NotAnObject,
    /// `null`.
    Null,
    /// An object without `id`.
    MissingId,
    /// An object whose `id` is a number and whose other fields have wrong types.
    WrongTypes,
}

impl BadRecord {
    pub(crate) fn json(self) -> &'static str {
        match self {
            Self::NotAnObject => "42",
            Self::Null => "null",
            Self::MissingId => {
                r#"{"status":"ACTIVE","profile":{"login":"nobody@acme.example"},"created":"2026-01-01T00:00:00.000Z"}"#
            }
            Self::WrongTypes => {
                r#"{"id":7,"status":["ACTIVE"],"profile":"none","created":false,"credentials":3,"uuid":{},"eventType":1}"#
            }
        }
    }
}

/// Everything that befalls one request: quirks and rules together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effects {
    pub(crate) refusal: Option<Refusal>,
    pub(crate) empty_list: bool,
    pub(crate) shrink_percent: Option<u8>,
    pub(crate) html_ok: bool,
    pub(crate) empty_body: bool,
    pub(crate) truncate: bool,
    pub(crate) cut_json: bool,
    pub(crate) reset: bool,
    pub(crate) delay_ms: u64,
    pub(crate) slow_body_ms: u64,
    pub(crate) redirect: Option<String>,
    pub(crate) next_origin: Option<String>,
    pub(crate) next_self: bool,
    pub(crate) next_repeats: bool,
    pub(crate) next_circles: bool,
    pub(crate) next_missing: bool,
    pub(crate) drop_expand: bool,
    pub(crate) duplicate: bool,
    pub(crate) bad_records: Vec<BadRecord>,
    pub(crate) short_percent: Option<u8>,
    pub(crate) empty_page: bool,
    pub(crate) clamp: Option<usize>,
    pub(crate) duplicate_reset: bool,
    pub(crate) no_rate_headers: bool,
    pub(crate) fail_above: Option<usize>,
}

impl Effects {
    /// What the quirks mean for a request for the given page.
    pub(crate) fn of_quirks(quirks: &Quirks, page: u32) -> Self {
        Self {
            drop_expand: quirks.expand_lost_on_page_2 && page > 1,
            duplicate: quirks.duplicates_across_pages,
            short_percent: quirks.short_pages_percent,
            empty_page: quirks.empty_pages,
            clamp: quirks.limit_clamped,
            duplicate_reset: quirks.duplicate_reset_header,
            no_rate_headers: quirks.rate_headers_missing,
            fail_above: quirks.fail_above_limit,
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, action: &Action) {
        match action {
            Action::Refuse(refusal) => self.refusal = Some(refusal.clone()),
            Action::EmptyList => self.empty_list = true,
            Action::ShrinkList(percent) => self.shrink_percent = Some(*percent),
            Action::HtmlOk => self.html_ok = true,
            Action::EmptyBodyOk => self.empty_body = true,
            Action::Truncate => self.truncate = true,
            Action::CutJson => self.cut_json = true,
            Action::Reset => self.reset = true,
            Action::Delay(ms) => self.delay_ms = self.delay_ms.saturating_add(*ms),
            Action::SlowBody(ms) => self.slow_body_ms = *ms,
            Action::Redirect(url) => self.redirect = Some(url.clone()),
            Action::NextForeign(origin) => self.next_origin = Some(origin.clone()),
            Action::NextSelf => self.next_self = true,
            Action::NextRepeats => self.next_repeats = true,
            Action::NextCircles => self.next_circles = true,
            Action::NextMissing => self.next_missing = true,
            Action::DropExpand => self.drop_expand = true,
            Action::DuplicateAcrossPages => self.duplicate = true,
            Action::BadRecord(kind) => self.bad_records.push(*kind),
            Action::ShortPage(percent) => self.short_percent = Some(*percent),
            Action::EmptyPage => self.empty_page = true,
            Action::ClampLimit(limit) => self.clamp = Some(*limit),
            Action::DuplicateResetHeader => self.duplicate_reset = true,
            Action::NoRateHeaders => self.no_rate_headers = true,
            Action::FailAbove(limit) => self.fail_above = Some(*limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: PathMatch, text: &str, expected: bool) {
        assert_eq!(path.matches(text), expected, "{path:?} {text}");
    }

    #[test]
    fn paths_match() {
        let pattern = || PathMatch::Pattern("/api/v1/apps/*/users".to_owned());
        check(pattern(), "/api/v1/apps/0oa1/users", true);
        check(pattern(), "/api/v1/apps/0oa1/users/00u1", false);
        check(pattern(), "/api/v1/apps//users", false);
        check(pattern(), "/api/v1/apps/0oa1", false);
        check(PathMatch::Prefix("/api/v1/apps".to_owned()), "/api/v1/apps/0oa1/users", true);
        check(PathMatch::Exact("/api/v1/apps".to_owned()), "/api/v1/apps/0oa1", false);
        check(PathMatch::Any, "", true);
    }

    #[test]
    fn rules_count_down() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut fired = |rule: &mut Rule, page| rule.fires("/a", "limit=2", page, &mut random);
        let mut rule = Rule::on("/a", Action::EmptyList).after(1).times(2);
        assert_eq!([1, 1, 1, 1].map(|page| fired(&mut rule, page)), [false, true, true, false]);
        let mut rule = Rule::everywhere(Action::EmptyList).page(PageMatch::Later);
        assert_eq!([1, 2, 3].map(|page| fired(&mut rule, page)), [false, true, true]);
        let mut rule = Rule { query_contains: Some("limit=3".to_owned()), ..Rule::on("/a", Action::EmptyList) };
        assert!(!fired(&mut rule, 1));
        let mut rule = Rule::on("/a", Action::EmptyList).probability(0.5);
        let count = (0..1_000).filter(|_| fired(&mut rule, 1)).count();
        assert!((400..600).contains(&count), "{count}");
    }
}

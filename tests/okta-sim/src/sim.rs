//! One simulated org with everything around it: credentials, rate limits, faults, accounting. Still without sockets.
//!
//! Entry point: [`Sim::handle`], one request in, one reply out. The order of checks is that of a real org: fault rules,
//! rate limit, method, credential, endpoint.
//!
//! Invariants: every reply of the API is accounted for exactly once; a fault rule is counted down only by a request it
//! acts on; the credential's value is never kept.

use std::collections::HashMap;

use crate::account::{RequestRecord, Requests};
use crate::admin;
use crate::api::{self, Answer, ApiError, Context, List};
use crate::auth::{ApiToken, Auth, Denied};
use crate::faults::{Effects, Quirks, Refusal, Rule};
use crate::hidden::{Hidden, Role};
use crate::http::{Delivery, Params, Reply, Request};
use crate::ids::UserRef;
use crate::json::{Object, array};
use crate::oauth::{Oauth, ServiceApp, TOKEN_PATH};
use crate::org::Org;
use crate::rate::{Bucket, RateLimiter, Verdict, bucket_of};
use crate::time::{UnixMs, http_date};

/// Walks remembered to tell their pages apart. More than any client has open; the map is emptied beyond it, and page
/// numbers of walks then in progress start again at 1.
const WALKS_MAX: usize = 100_000;
const HTML_PAGE: &str =
    "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>";

/// A simulated org behind its HTTP interface. All parts may be changed between requests.
pub struct Sim {
    /// The org itself.
    pub org: Org,
    /// Accepted credentials.
    pub auth: Auth,
    /// Service apps and their tokens, beside `auth`.
    pub oauth: Oauth,
    /// Rate limits; unlimited unless set.
    pub limits: RateLimiter,
    /// Oddities of every answer.
    pub quirks: Quirks,
    /// Faults of chosen requests; all that match act together, the first refusal wins.
    pub rules: Vec<Rule>,
    /// What the role of the credential may read.
    pub role: Role,
    /// What the role of the credential does not see.
    pub hidden: Hidden,
    /// What was asked.
    pub requests: Requests,
    /// Steps of background work done before each request; 0 = only when a test calls [`Org::run_jobs`].
    pub jobs_per_request: usize,
    pub(crate) base_url: String,
    pub(crate) in_flight: usize,
    random: fastrand::Rng,
    page_of_url: HashMap<String, u32>,
    first_next: HashMap<String, String>,
    next_request: u64,
}

impl Sim {
    /// An org that lets everybody in and has no limits. `base_url` has no trailing slash.
    pub fn new(org: Org, base_url: &str, seed: u64) -> Self {
        Self {
            org,
            auth: Auth::Open,
            oauth: Oauth::default(),
            limits: RateLimiter::unlimited(),
            quirks: Quirks::default(),
            rules: Vec::new(),
            role: Role::default(),
            hidden: Hidden::default(),
            requests: Requests::default(),
            jobs_per_request: 0,
            base_url: base_url.to_owned(),
            in_flight: 0,
            random: fastrand::Rng::with_seed(seed),
            page_of_url: HashMap::new(),
            first_next: HashMap::new(),
            next_request: 0,
        }
    }

    /// From now on only this SSWS token of the administrator is accepted.
    pub fn require_token(&mut self, secret: &str) {
        let token = ApiToken::new(0, "okta-idmap", secret, self.org.administrator(), self.org.now_ms());
        self.auth = Auth::Ssws(vec![token]);
    }

    /// From now on only tokens of this service app are accepted.
    pub fn require_service_app(&mut self, app: ServiceApp) {
        self.auth = Auth::Ssws(Vec::new());
        self.oauth.apps = vec![app];
    }

    /// Another client of the org uses requests of a bucket.
    pub fn consume(&mut self, bucket: Bucket, count: u32) {
        self.limits.consume(bucket, count, self.org.now_ms());
    }

    /// Switches all quirks, rules, limits of the role and hidden objects off.
    pub fn behave(&mut self) {
        self.quirks = Quirks::default();
        self.rules.clear();
        self.role = Role::default();
        self.hidden = Hidden::default();
    }

    /// The page number of a request within its walk, from 1.
    fn page_of(&self, request: &Request) -> u32 {
        self.page_of_url.get(&target_of(request)).copied().unwrap_or(1)
    }

    fn effects(&mut self, request: &Request, page: u32) -> Effects {
        let mut effects = Effects::of_quirks(&self.quirks, page);
        for rule in &mut self.rules {
            if rule.fires(&request.path, &request.query, page, &mut self.random) {
                let earlier = effects.refusal.take();
                effects.add(&rule.action);
                effects.refusal = earlier.or(effects.refusal);
            }
        }
        effects
    }

    /// Answers one request.
    pub fn handle(&mut self, request: &Request) -> Reply {
        if let Some(reply) = admin::answer(self, request) {
            return reply;
        }
        if self.jobs_per_request > 0 {
            self.org.run_jobs(self.jobs_per_request);
        }
        let now_ms = self.org.now_ms();
        let page = self.page_of(request);
        let bucket = bucket_of(&request.path);
        let effects = self.effects(request, page);
        let verdict = self.limits.take(bucket, self.in_flight, now_ms);
        let mut reply = Draft::new(verdict);
        let mut items = 0;
        match self.decide(request, &effects, verdict, &mut reply) {
            Err(error) => reply.error(&error, self.next_request),
            Ok(None) => {}
            Ok(Some(Answer::One(json))) => reply.json(200, json),
            Ok(Some(Answer::List(list))) => {
                let (list, links) = self.shape(request, &effects, page, list);
                items = list.items.len();
                reply.list(&list, &links, &self.quirks);
            }
        }
        let reply = self.finish(reply, &effects, verdict, now_ms);
        self.requests.add(RequestRecord {
            at_ms: now_ms,
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            status: if reply.delivery.reset { 0 } else { reply.status },
            bucket,
            endpoint: api::endpoint_of(&request.path),
            has_authorization: request.header("authorization").is_some(),
            content_type: request.header("content-type").map(ToOwned::to_owned),
            page,
            limit: Params::new(&request.query).get("limit").and_then(|limit| limit.parse().ok()),
            items,
        });
        reply
    }

    /// Runs the checks in order and asks the endpoint. `Ok(None)` = the draft is complete.
    fn decide(
        &mut self,
        request: &Request,
        effects: &Effects,
        verdict: Verdict,
        reply: &mut Draft,
    ) -> Result<Option<Answer>, ApiError> {
        if let Some(refusal) = &effects.refusal {
            return reply.refuse(refusal, request, &self.base_url, self.org.now_ms()).map(|()| None);
        }
        if let Some(url) = &effects.redirect {
            reply.status = 302;
            reply.headers.push(("Location".to_owned(), url.clone()));
            return Ok(None);
        }
        if !verdict.allowed {
            return Err(ApiError::new(429, "E0000047", "API call exceeded rate limit due to too many requests."));
        }
        let now_ms = self.org.now_ms();
        if request.path == TOKEN_PATH && request.method == "POST" {
            let answer = self.oauth.answer(request, &self.base_url, now_ms);
            reply.json(answer.status, answer.body);
            reply.headers.extend(answer.headers);
            return Ok(None);
        }
        if request.method != "GET" {
            return Err(ApiError::new(405, "E0000022", "The endpoint does not support the provided HTTP method"));
        }
        let mut without_role = None;
        let caller = match self.oauth.admit(request, &self.base_url, now_ms) {
            Some(Ok(admitted)) => {
                reply.headers.extend(admitted.nonce.map(|nonce| ("DPoP-Nonce".to_owned(), nonce)));
                if !admitted.has_role {
                    without_role = Some(Quirks { role_missing: true, ..self.quirks.clone() });
                }
                self.org.administrator()
            }
            Some(Err(denied)) => {
                reply.headers.extend(denied.nonce.map(|nonce| ("DPoP-Nonce".to_owned(), nonce)));
                reply.headers.extend(denied.challenge.map(|challenge| ("WWW-Authenticate".to_owned(), challenge)));
                return reply.refuse(&denied.refusal, request, &self.base_url, now_ms).map(|()| None);
            }
            None => self.admit(request)?,
        };
        let context = Context {
            org: &self.org,
            quirks: without_role.as_ref().unwrap_or(&self.quirks),
            role: &self.role,
            hidden: &self.hidden,
            auth: &self.auth,
            effects,
            request,
            params: Params::new(&request.query),
            base_url: &self.base_url,
            caller,
            now_ms: self.org.now_ms(),
        };
        api::answer(&context).map(Some)
    }

    fn admit(&mut self, request: &Request) -> Result<UserRef, ApiError> {
        if request.path.starts_with("/.well-known/") {
            return Ok(self.org.administrator());
        }
        let admitted = self.auth.admit(request.header("authorization"), &self.org, self.org.now_ms());
        admitted.map_err(|denied| match denied {
            Denied::NoCredential => ApiError::new(403, "E0000005", "Invalid session"),
            Denied::InvalidToken => ApiError::new(401, "E0000011", "Invalid token provided"),
        })
    }

    /// Applies what befalls lists, and makes the links.
    fn shape(&mut self, request: &Request, effects: &Effects, page: u32, mut list: List) -> (List, Links) {
        if effects.empty_list {
            list.items.clear();
            list.next_cursor = None;
        }
        if let Some(percent) = effects.shrink_percent {
            list.items.truncate(list.items.len() * usize::from(percent) / 100);
        }
        list.items.extend(effects.bad_records.iter().map(|kind| kind.json().to_owned()));
        if effects.next_missing {
            list.next_cursor = None;
        }
        let own = format!("{}{}", self.base_url, target_of(request));
        let mut links = Links { own: None, next: None };
        let Some(limit) = list.limit else { return (list, links) };
        links.own = Some(if request.query.is_empty() { format!("{own}?limit={limit}") } else { own.clone() });
        if let Some(cursor) = &list.next_cursor {
            let mut target = format!("{}?after={cursor}&limit={limit}", request.path);
            for (key, value) in Params::new(&request.query).without(&["after", "limit"]) {
                if !list.next_drops.contains(&key) {
                    target.push_str(&format!("&{key}={value}"));
                }
            }
            if self.page_of_url.len() >= WALKS_MAX {
                self.page_of_url.clear();
                self.first_next.clear();
            }
            self.page_of_url.insert(target.clone(), page.saturating_add(1));
            if page == 1 {
                self.first_next.insert(request.path.clone(), target.clone());
            }
            links.next = Some(format!("{}{target}", self.base_url));
            if effects.next_repeats
                && let Some(first) = self.first_next.get(&request.path)
            {
                links.next = Some(format!("{}{first}", self.base_url));
            }
            if effects.next_circles
                && let Some(first) = self.first_next.get(&request.path)
            {
                let again = format!("{first}&round={}", self.next_request);
                links.next = Some(format!("{}{again}", self.base_url));
                self.page_of_url.insert(again, 2);
            }
            if effects.next_self {
                links.next = Some(own);
            }
            if let Some(origin) = &effects.next_origin {
                links.next = Some(format!("{origin}{target}"));
            }
            if self.quirks.iam_next_at_admin_host && list.body_key.is_some() {
                links.next = Some(format!("https://acme-admin.okta.example{target}"));
            }
        }
        (list, links)
    }

    /// Adds the headers every answer has, and carries out what happens to the bytes.
    fn finish(&mut self, mut draft: Draft, effects: &Effects, verdict: Verdict, now_ms: UnixMs) -> Reply {
        let number = self.next_request;
        self.next_request += 1;
        if effects.html_ok && draft.status == 200 {
            draft.body = HTML_PAGE.to_owned();
            draft.content_type = Some("text/html");
        }
        if effects.empty_body {
            draft.body.clear();
        }
        if effects.cut_json {
            let mut half = draft.body.len() / 2;
            while !draft.body.is_char_boundary(half) {
                half -= 1;
            }
            draft.body.truncate(half);
        }
        let skewed_ms = now_ms.saturating_add(self.quirks.date_skew_s.saturating_mul(1_000));
        let mut headers = vec![("Date".to_owned(), http_date(skewed_ms))];
        if let Some(content_type) = draft.content_type {
            headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        }
        if draft.is_okta {
            headers.push(("X-Okta-Request-Id".to_owned(), format!("Wsim{number:020}")));
            if !effects.no_rate_headers {
                headers.push(("X-Rate-Limit-Limit".to_owned(), draft.shown.limit.to_string()));
                headers.push(("X-Rate-Limit-Remaining".to_owned(), draft.shown.remaining.to_string()));
                if effects.duplicate_reset {
                    let earlier = draft.shown.reset_s.min(verdict.reset_s) - 1;
                    headers.push(("X-Rate-Limit-Reset".to_owned(), earlier.to_string()));
                }
                headers.push(("X-Rate-Limit-Reset".to_owned(), draft.shown.reset_s.to_string()));
            }
        }
        headers.extend(draft.headers);
        if self.quirks.lowercase_header_names {
            headers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
        }
        let delivery = Delivery {
            delay_ms: effects.delay_ms,
            slow_body_ms: effects.slow_body_ms,
            truncated: effects.truncate,
            reset: effects.reset,
        };
        Reply { status: draft.status, headers, body: draft.body, delivery }
    }
}

fn target_of(request: &Request) -> String {
    if request.query.is_empty() { request.path.clone() } else { format!("{}?{}", request.path, request.query) }
}

struct Links {
    own: Option<String>,
    next: Option<String>,
}

/// A reply under construction.
struct Draft {
    status: u16,
    content_type: Option<&'static str>,
    body: String,
    headers: Vec<(String, String)>,
    /// Whether Okta itself answers (with its headers), not something in front of it.
    is_okta: bool,
    /// What the rate-limit headers show.
    shown: Verdict,
}

impl Draft {
    fn new(verdict: Verdict) -> Self {
        Self {
            status: 200,
            content_type: None,
            body: String::new(),
            headers: Vec::new(),
            is_okta: true,
            shown: verdict,
        }
    }

    fn json(&mut self, status: u16, json: String) {
        self.status = status;
        self.content_type = Some("application/json");
        self.body = json;
    }

    fn error(&mut self, error: &ApiError, number: u64) {
        let body = error.body(&format!("oaeSim{number:018}"));
        self.json(error.status(), body);
        if *error == ApiError::FrontEnd {
            self.content_type = None;
            self.is_okta = false;
        }
    }

    fn html(&mut self, status: u16) {
        self.status = status;
        self.content_type = Some("text/html");
        self.body = HTML_PAGE.to_owned();
        self.is_okta = false;
    }

    fn list(&mut self, list: &List, links: &Links, quirks: &Quirks) {
        let items = array(&list.items);
        if let Some(key) = list.body_key {
            let mut object = Object::new().raw(key, &items);
            if let Some(next) = &links.next {
                object = object.object("_links", Object::new().link("next", next));
            }
            self.json(200, object.end());
        } else {
            self.json(200, items);
        }
        let mut values: Vec<String> = links.own.iter().map(|url| format!("<{url}>; rel=\"self\"")).collect();
        if list.body_key.is_none() {
            values.extend(links.next.iter().map(|url| format!("<{url}>; rel=\"next\"")));
        }
        if quirks.links_next_first {
            values.reverse();
        }
        if quirks.links_in_one_line && !values.is_empty() {
            values = vec![values.join(", ")];
        }
        self.headers.extend(values.into_iter().map(|value| ("Link".to_owned(), value)));
    }

    /// Turns the draft into a refusal; an ordinary error comes back as `Err`.
    fn refuse(&mut self, refusal: &Refusal, request: &Request, base_url: &str, now_ms: UnixMs) -> Result<(), ApiError> {
        match refusal {
            Refusal::InsufficientScope(scope) => {
                self.status = 403;
                let path = &request.path;
                let challenge = format!(
                    "Bearer authorization_uri=\"{base_url}/oauth2/v1/authorize\", realm=\"{base_url}\", scope=\"{scope}\", \
                     error=\"insufficient_scope\", error_description=\"The access token provided does not contain the \
                     required scopes.\", resource=\"{path}\""
                );
                self.headers.push(("WWW-Authenticate".to_owned(), challenge));
            }
            Refusal::BadGateway => self.html(502),
            Refusal::GatewayTimeout => self.html(504),
            Refusal::Custom(status, body) => self.json(*status, body.clone()),
            Refusal::RateLimited(ahead_s) => {
                self.shown.remaining = 0;
                self.shown.reset_s = now_ms.div_euclid(1_000).saturating_add(i64::from(*ahead_s));
            }
            Refusal::Concurrency => {
                self.shown = Verdict { allowed: false, limit: 0, remaining: 0, reset_s: now_ms.div_euclid(1_000) + 1 };
            }
            _ => {}
        }
        match ApiError::of_refusal(refusal) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

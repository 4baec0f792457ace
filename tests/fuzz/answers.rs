//! Headers of answers, refusals, links, and where they may lead.

use okta_idmap::core::ids::Timestamp;
use okta_idmap::core::rate::{
    Admission, BucketRate, Moment, RateConfig, RateHeaders, Refusal, ServerClock, Urgency, WAIT_MILLIS_MAX,
    WAIT_MILLIS_MIN,
};
use okta_idmap::okta::{
    AnswerHeaders, Endpoint, FailureKind, HEADERS_KEPT, NextRule, NextUrl, OktaError, OrgUrl, StatusFailure,
    URL_BYTES_MAX, next_target,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use url::Url;

use crate::runner::{Answer, Target, check_message, run};

const LINK_WORDS: &[&str] = &[
    "https://acme.okta.com",
    "https://acme-admin.okta.com",
    "/api/v1/users",
    "/api/v1/logs",
    "?after=",
    "&limit=200",
    "rel=\"next\"",
    "rel=next",
    "rel=\"self\"",
    "<",
    ">",
    "; ",
    ", ",
    "evil.example",
    "https:",
    "\\\\evil.example\\",
    "@evil.example",
    ":443",
    ":8443",
    "/../",
    "/%2e%2e/",
    "acme.okta.com.evil.example",
    "\t",
    "#",
    "http://",
    "ACME.OKTA.COM",
    "user:pass@",
    "[::1]",
    "xn--",
];

const REFUSAL_WORDS: &[&str] = &[
    "401\n",
    "403\n",
    "404\n",
    "429\n",
    "\n\n",
    "WWW-Authenticate: ",
    "Bearer ",
    "DPoP ",
    "error=\"insufficient_scope\"",
    "error=\"use_dpop_nonce\"",
    "scope=\"okta.users.read\"",
    "DPoP-Nonce: ",
    "Location: https://evil.example/",
    "E0000007",
    "E0000006",
    "\"errorCode\":",
    "\"errorSummary\":",
    "\"error\":",
    "\"error_description\":",
    "<html>",
    "Content-Type: text/html",
    "realm=\"",
];

const RATE_WORDS: &[&str] = &[
    "Date: Sun, 02 Aug 2026 09:00:22 GMT",
    "X-Rate-Limit-Limit: ",
    "X-Rate-Limit-Remaining: ",
    "X-Rate-Limit-Reset: ",
    "Retry-After: ",
    "X-Okta-Request-Id: ",
    "1785661260",
    "600",
    "GMT",
    "Feb",
    "29",
    "31",
    "23:59:60",
    "0000",
    "99999",
    "\n",
];

fn org() -> OrgUrl {
    OrgUrl::parse("https://acme.okta.com").unwrap()
}

/// Whether a header with this name, in any case, holds `text`.
fn holds(answer: &Answer, name: &str, text: &str) -> bool {
    answer.lines().any(|(known, value)| known.eq_ignore_ascii_case(name) && value.contains(text))
}

/// A link that is followed leads to the org and to the list, as it will be sent and as it is read back from the store.
fn check_next(next: &NextUrl, raw: &str, list: &str, rule: NextRule) -> Result<(), TestCaseError> {
    let sent = Url::parse(next.as_str()).unwrap();
    prop_assert_eq!(sent.host_str(), Some("acme.okta.com"), "{} leads elsewhere", next.as_str());
    prop_assert_eq!((sent.scheme(), sent.port()), ("https", None));
    prop_assert!(sent.username().is_empty() && sent.password().is_none(), "it brings a credential");
    prop_assert_eq!(sent.path().trim_end_matches('/'), list);
    let is_verbatim = next.as_str() == raw;
    prop_assert!(is_verbatim || rule == NextRule::AdminConsoleToOrg, "it is changed: {}", next.as_str());
    prop_assert!(next.as_str().len() <= URL_BYTES_MAX);
    let again = NextUrl::adopt(next.as_str(), &org(), list, NextRule::SameOrigin);
    prop_assert_eq!(again.as_ref(), Ok(next));
    Ok(())
}

#[test]
fn fuzz_links() {
    run(&Target { name: "link", words: LINK_WORDS, cost: 1 }, |input| {
        let text = String::from_utf8_lossy(input);
        let Some(target) = next_target(text.lines()) else { return Ok(false) };
        prop_assert!(text.contains(target) && !target.contains('>'), "{target}");
        prop_assert!(text.to_ascii_lowercase().contains("next"), "no link says that it is the next");
        let mut is_followed = false;
        for rule in [NextRule::SameOrigin, NextRule::AdminConsoleToOrg] {
            match NextUrl::adopt(target, &org(), "/api/v1/users", rule) {
                Ok(next) => {
                    check_next(&next, target, "/api/v1/users", rule)?;
                    is_followed = true;
                }
                Err(error) => check_message(&error.to_string(), URL_BYTES_MAX)?,
            }
        }
        Ok(is_followed)
    });
}

/// Places that are read back from a store, of lists and of the log.
#[test]
fn fuzz_cursors() {
    run(&Target { name: "log_cursor", words: LINK_WORDS, cost: 1 }, |input| {
        let text = String::from_utf8_lossy(input);
        match NextUrl::adopt(&text, &org(), "/api/v1/logs", NextRule::SameOrigin) {
            Ok(next) => {
                check_next(&next, &text, "/api/v1/logs", NextRule::SameOrigin)?;
                if let Some(limit) = next.limit() {
                    let is_there =
                        ["limit=", "limit=0", "limit=+"].iter().any(|name| text.contains(&format!("{name}{limit}")));
                    prop_assert!(
                        is_there || text.contains("limit=0") || text.contains("limit=+0"),
                        "{} of {}",
                        limit,
                        text
                    );
                }
                Ok(true)
            }
            Err(error) => {
                check_message(&error.to_string(), 1_000)?;
                Ok(false)
            }
        }
    });
}

#[test]
fn fuzz_org_urls() {
    run(&Target { name: "org_url", words: LINK_WORDS, cost: 1 }, |input| {
        let text = String::from_utf8_lossy(input);
        let org = match OrgUrl::parse(&text) {
            Ok(org) => org,
            Err(error) => {
                check_message(&error.to_string(), URL_BYTES_MAX)?;
                return Ok(false);
            }
        };
        let written = org.to_string();
        let again = OrgUrl::parse(&written);
        prop_assert_eq!(again.as_ref(), Ok(&org), "{} is not read back", written);
        prop_assert!(written.starts_with("https://") || org.is_loopback(), "{written} is sent in the clear");
        for path in ["/api/v1/users?limit=2", "//evil.example/x", "\\\\evil.example", "/../../x", &text] {
            let joined = org.join(path);
            prop_assert!(org.same_origin(&joined), "{joined} is not at {written}");
        }
        Ok(true)
    });
}

#[test]
fn fuzz_refusals() {
    run(&Target { name: "refusal", words: REFUSAL_WORDS, cost: 1 }, |input| {
        let answer = Answer::cut(input);
        let headers = AnswerHeaders::new(answer.lines());
        let url = Url::parse("https://acme.okta.com/api/v1/users?search=CANARY").unwrap();
        for on_next_page in [false, true] {
            let failure = StatusFailure::new(Endpoint::of(&url), answer.status, &headers, &answer.body, on_next_page);
            if let Some(scope) = &failure.missing_scope {
                prop_assert!(
                    holds(&answer, "www-authenticate", "insufficient_scope"),
                    "a scope out of nothing: {scope}"
                );
                prop_assert!(holds(&answer, "www-authenticate", scope));
                check_message(scope, 256)?;
            }
            prop_assert!(failure.proof.is_none() || matches!(failure.status, 400 | 401));
            let error = OktaError::Status(Box::new(failure));
            check_message(&error.to_string(), 2_000)?;
            prop_assert!(!error.to_string().contains("search="), "a query is shown: {error}");
            match error.kind() {
                // Only this removes rows.
                FailureKind::NotFound => {
                    // What is skipped need not even be text.
                    let body = String::from_utf8_lossy(&answer.body);
                    let is_object = body.trim().starts_with('{') && body.trim().ends_with('}');
                    let is_told = is_object && body.contains("\"E0000007\"");
                    prop_assert!(answer.status == 404 && is_told, "rows go without a word of Okta's");
                }
                FailureKind::Unauthorized => prop_assert_eq!(answer.status, 401),
                FailureKind::Forbidden { code, .. } => {
                    prop_assert!(matches!(answer.status, 403 | 405));
                    code.iter().try_for_each(|code| check_message(code, 64))?;
                }
                FailureKind::CursorGone => prop_assert!(on_next_page && answer.status == 400),
                _ => {}
            }
        }
        Ok(FailureKind::NotFound
            == OktaError::Status(Box::new(StatusFailure::new(
                Endpoint::of(&url),
                answer.status,
                &headers,
                &answer.body,
                false,
            )))
            .kind())
    });
}

fn check_waits(rate: &RateHeaders, server_now: Timestamp) -> Result<(), TestCaseError> {
    if let Refusal::Pause { wait_millis } = rate.refusal() {
        prop_assert!((WAIT_MILLIS_MIN..=WAIT_MILLIS_MAX).contains(&wait_millis));
    }
    let mut bucket = BucketRate::new(RateConfig { in_flight_max: 4, reserve_percent: 10 });
    let mut clock = ServerClock::default();
    let mut now = Moment(1_000_000);
    for round in 0..4 {
        clock.observe(server_now, now, now);
        bucket.sent(now.0, now, &clock);
        if round == 1 {
            let until = bucket.refused(rate, now, now, &mut clock).unwrap_or(now);
            prop_assert!(until <= now.plus_millis(WAIT_MILLIS_MAX), "refused until {until:?} at {now:?}");
        } else {
            bucket.answered(rate, now, now, &mut clock);
        }
        for urgency in [Urgency::Urgent, Urgency::Patient] {
            if let Admission::At(at) = bucket.admit(urgency, now, &clock) {
                prop_assert!(now.millis_until(at) <= WAIT_MILLIS_MAX, "it rests for {} ms", now.millis_until(at));
            }
            let later = bucket.admit(urgency, now.plus_millis(2 * WAIT_MILLIS_MAX), &clock);
            prop_assert!(later == Admission::Go, "a header stops it for ever: {later:?}");
        }
        now = now.plus_millis(10);
    }
    Ok(())
}

#[test]
fn fuzz_headers() {
    run(&Target { name: "headers", words: RATE_WORDS, cost: 1 }, |input| {
        let answer = Answer::cut(input);
        let headers = AnswerHeaders::new(answer.lines());
        for (name, value) in answer.lines() {
            let is_kept = HEADERS_KEPT.contains(&name.to_ascii_lowercase().as_str());
            let is_there = headers.all(&name.to_ascii_lowercase()).any(|kept| kept == value);
            prop_assert_eq!(is_kept, is_there, "{}", name);
        }
        let date = headers.server_date();
        if let Some(date) = date {
            let day = date.to_iso();
            prop_assert_eq!(Timestamp::parse(&day), Some(date));
            prop_assert!(holds(&answer, "date", "GMT"));
            prop_assert!(date.as_millis().rem_euclid(1_000) == 0 || holds(&answer, "date", ":60"), "parts of a second");
        }
        if let Some(id) = headers.request_id() {
            check_message(&id, 64)?;
            prop_assert!(holds(&answer, "x-okta-request-id", &id));
        }
        let rate = headers.rate();
        for number in [rate.limit, rate.remaining, rate.retry_after_s].into_iter().flatten() {
            prop_assert!(i64::try_from(number).is_ok());
        }
        prop_assert!(rate.reset_unix_s.is_none_or(|reset| reset >= 0));
        check_waits(&rate, date.unwrap_or_default())?;
        Ok(date.is_some() && rate.limit.is_some())
    });
}

//! Every quirk and every action does what it says, and nothing when it is off.

use okta_sim::{Action, BadRecord, NewApp, PageMatch, Quirks, Refusal, Rule, Sim};

use crate::support::{get, get_error, get_json, ids, json, link, pages, small_sim, walk};

const USERS: &str = "/api/v1/users?search=status+pr&limit=100";

fn with_quirks(quirks: Quirks) -> Sim {
    let mut sim = small_sim();
    sim.quirks = quirks;
    sim
}

fn with_rule(rule: Rule) -> Sim {
    let mut sim = small_sim();
    sim.rules.push(rule);
    sim
}

fn users_rule(action: Action) -> Rule {
    Rule::on("/api/v1/users", action)
}

fn all_users() -> Vec<String> {
    small_sim().org.truth_users().map(|user| user.id).collect()
}

#[test]
fn links_come_in_every_form() {
    let mut sim = with_quirks(Quirks { links_in_one_line: true, ..Quirks::default() });
    let reply = get(&mut sim, USERS);
    assert_eq!(reply.header_values("link").count(), 1);
    assert!(link(&reply, "self").is_some() && link(&reply, "next").is_some());
    let mut sim = with_quirks(Quirks { links_next_first: true, ..Quirks::default() });
    assert!(get(&mut sim, USERS).header_values("link").next().unwrap().ends_with("rel=\"next\""));
    let mut sim = with_quirks(Quirks { lowercase_header_names: true, ..Quirks::default() });
    assert!(get(&mut sim, USERS).headers.iter().all(|(name, _)| name.chars().all(|letter| !letter.is_uppercase())));
    assert!(get(&mut small_sim(), USERS).headers.iter().any(|(name, _)| name == "Link"));
}

#[test]
fn odd_pages_lose_nothing() {
    let sizes = |sim: &mut Sim| pages(sim, USERS).iter().map(Vec::len).collect::<Vec<_>>();
    let mut sim = with_quirks(Quirks { short_pages_percent: Some(50), ..Quirks::default() });
    assert_eq!(sizes(&mut sim), [50, 50, 50, 50, 50, 50, 50, 50, 1]);
    assert_eq!(ids(&walk(&mut sim, USERS)), all_users());
    let mut sim = with_quirks(Quirks { empty_pages: true, ..Quirks::default() });
    assert_eq!(sizes(&mut sim), [0, 100, 0, 100, 0, 100, 0, 100, 0, 1]);
    assert_eq!(ids(&walk(&mut sim, USERS)), all_users());
    let mut sim = with_quirks(Quirks { limit_clamped: Some(60), ..Quirks::default() });
    assert_eq!(sizes(&mut sim), [60, 60, 60, 60, 60, 60, 41]);
    let mut sim = with_quirks(Quirks { duplicates_across_pages: true, ..Quirks::default() });
    let found = ids(&walk(&mut sim, USERS));
    assert_eq!(found.len(), 405, "one more for each later page");
    assert_eq!(found[99], found[100]);
    let mut unique = found;
    unique.dedup();
    assert_eq!(unique, all_users());
}

#[test]
fn embedding_is_lost_on_page_2() {
    let mut sim = with_quirks(Quirks { expand_lost_on_page_2: true, ..Quirks::default() });
    let found = pages(&mut sim, "/api/v1/groups?limit=20&expand=stats");
    assert!(found[0][0].get("_embedded").is_some() && found[1][0].get("_embedded").is_none());
    let mut sim = with_rule(Rule::on("/api/v1/groups", Action::DropExpand).page(PageMatch::Number(2)));
    let found = pages(&mut sim, "/api/v1/groups?limit=15&expand=stats");
    let embedded: Vec<bool> = found.iter().map(|page| page[0].get("_embedded").is_some()).collect();
    assert_eq!(embedded, [true, false, true]);
}

#[test]
fn a_missing_role_shows_no_users() {
    let mut sim = with_quirks(Quirks { role_missing: true, ..Quirks::default() });
    assert_eq!(get_json(&mut sim, USERS), serde_json::json!([]));
    assert_eq!(get_error(&mut sim, "/api/v1/apps"), (403, "E0000006".to_owned()));
    assert_eq!(get_error(&mut sim, "/api/v1/logs"), (403, "E0000006".to_owned()));
    // Everybody may read their own profile; not their roles.
    assert!(get_json(&mut sim, "/api/v1/users/me")["id"].is_string());
    assert_eq!(get_error(&mut sim, "/api/v1/users/me/roles"), (403, "E0000006".to_owned()));
}

#[test]
fn rate_headers_can_be_odd() {
    let mut sim = with_quirks(Quirks { duplicate_reset_header: true, ..Quirks::default() });
    let resets: Vec<i64> =
        get(&mut sim, USERS).header_values("x-rate-limit-reset").map(|value| value.parse().unwrap()).collect();
    assert!(resets.len() == 2 && resets[0] < resets[1], "{resets:?}");
    let mut sim = with_quirks(Quirks { rate_headers_missing: true, ..Quirks::default() });
    assert_eq!(get(&mut sim, USERS).header_values("x-rate-limit-limit").count(), 0);
    let mut sim = with_quirks(Quirks { date_skew_s: -300, ..Quirks::default() });
    assert_eq!(get(&mut sim, USERS).header_values("date").next(), Some("Mon, 03 Aug 2026 05:55:00 GMT"));
}

#[test]
fn objects_can_be_odd() {
    let mut sim = with_quirks(Quirks { omit_nulls: true, ..Quirks::default() });
    assert!(!get(&mut sim, USERS).body.contains("null"));
    let mut sim = with_quirks(Quirks { admin_privilege_spelt_right: true, ..Quirks::default() });
    assert!(get(&mut sim, "/api/v1/groups?expand=stats").body.contains("hasAdminPrivilege\""));
    assert!(get(&mut small_sim(), "/api/v1/groups?expand=stats").body.contains("hasAdminPrivlege\""));
    let mut sim = with_quirks(Quirks { custom_profile_values: true, ..Quirks::default() });
    let user = get_json(&mut sim, "/api/v1/users?limit=1")[0]["profile"].clone();
    assert!(user["badgeIds"].is_array() && user["onCall"].is_boolean() && user["costCenter"].is_number());
    let mut sim = with_quirks(Quirks { unknown_enum_values: true, ..Quirks::default() });
    assert!(get(&mut sim, USERS).body.contains("\"status\":\"NEW_IN_2027\""));
    let mut sim = with_quirks(Quirks { stray_quote_key: true, ..Quirks::default() });
    let app = sim.org.truth_apps().max_by_key(|app| app.users).unwrap().id;
    assert!(get_json(&mut sim, &format!("/api/v1/apps/{app}/users"))[0].get("credentials\"").is_some());
}

#[test]
fn an_app_can_be_unlisted_but_readable() {
    let mut sim = small_sim();
    let app = sim.org.create_app(&NewApp::new("x", "X")).id();
    sim.quirks.apps_unlisted.insert(app.clone());
    assert!(!ids(&walk(&mut sim, "/api/v1/apps")).contains(&app));
    assert_eq!(get_json(&mut sim, &format!("/api/v1/apps/{app}"))["id"], *app);
}

#[test]
fn large_pages_can_fail() {
    let mut sim = with_quirks(Quirks { fail_above_limit: Some(50), ..Quirks::default() });
    assert_eq!(get_error(&mut sim, USERS), (500, "E0000009".to_owned()));
    assert_eq!(get(&mut sim, "/api/v1/users?limit=50").status, 200);
    assert_eq!(get_error(&mut sim, "/api/v1/logs?limit=51"), (500, "E0000009".to_owned()));
    let mut sim = with_rule(users_rule(Action::FailAbove(50)));
    assert_eq!(get(&mut sim, USERS).status, 500);
}

#[test]
fn cursors_and_search_can_fail() {
    let mut sim = small_sim();
    let next = link(&get(&mut sim, "/api/v1/apps?limit=5"), "next").unwrap();
    sim.quirks.cursors_stale = true;
    assert_eq!(get_error(&mut sim, &next), (400, "E0000029".to_owned()));
    sim.behave();
    assert_eq!(get(&mut sim, &next).status, 200);
    sim.quirks.search_unavailable = true;
    assert_eq!(get_error(&mut sim, USERS), (503, "E0000100".to_owned()));
    assert_eq!(get(&mut sim, "/api/v1/users").status, 200, "the plain list still works");
}

#[test]
fn iam_lists_may_name_another_host() {
    let spec =
        okta_sim::Spec { users: 150_000, groups: 1, apps: 1, app_users_per_user: 0, ..okta_sim::Spec::default() };
    let mut sim = Sim::new(okta_sim::Org::generate(&spec), "http://okta.test", 1);
    let next = get_json(&mut sim, "/api/v1/iam/assignees/users")["_links"]["next"]["href"].as_str().unwrap().to_owned();
    let rest = get_json(&mut sim, &next);
    assert_eq!((rest["value"].as_array().unwrap().len(), rest.get("_links")), (51, None));
    sim.quirks.iam_next_at_admin_host = true;
    let next = get_json(&mut sim, "/api/v1/iam/assignees/users")["_links"]["next"]["href"].as_str().unwrap().to_owned();
    assert!(next.starts_with("https://acme-admin.okta.example/api/v1/iam/assignees/users?after="), "{next}");
}

#[track_caller]
fn check_refusal(refusal: Refusal, status: u16, code: &str) {
    let mut sim = with_rule(users_rule(Action::Refuse(refusal)).times(1));
    assert_eq!(get_error(&mut sim, USERS), (status, code.to_owned()));
    assert_eq!(get(&mut sim, USERS).status, 200, "once only");
}

#[test]
fn refusals_have_status_and_code() {
    check_refusal(Refusal::Forbidden, 403, "E0000006");
    check_refusal(Refusal::InvalidToken, 401, "E0000011");
    check_refusal(Refusal::FeatureDisabled, 401, "E0000015");
    check_refusal(Refusal::NotFound, 404, "E0000007");
    check_refusal(Refusal::FrontEndNotFound, 404, "");
    check_refusal(Refusal::MethodNotAllowed, 405, "E0000022");
    check_refusal(Refusal::Locked, 423, "E0000239");
    check_refusal(Refusal::RateLimited(7), 429, "E0000047");
    check_refusal(Refusal::Concurrency, 429, "E0000047");
    check_refusal(Refusal::InvalidCursor, 400, "E0000029");
    check_refusal(Refusal::InvalidSearch, 400, "E0000031");
    check_refusal(Refusal::Internal, 500, "E0000009");
    check_refusal(Refusal::ReadOnly, 503, "E0000010");
    check_refusal(Refusal::SearchUnavailable, 503, "E0000100");
    check_refusal(Refusal::Custom(418, "{\"errorCode\":\"E1\"}".to_owned()), 418, "E1");
}

#[test]
fn refusals_without_okta_body() {
    let mut sim = with_rule(users_rule(Action::Refuse(Refusal::InsufficientScope("okta.users.read".to_owned()))));
    let reply = get(&mut sim, USERS);
    assert_eq!((reply.status, reply.body.as_str()), (403, ""));
    let challenge = reply.header_values("www-authenticate").next().unwrap();
    assert!(challenge.contains("scope=\"okta.users.read\", error=\"insufficient_scope\""), "{challenge}");
    for (refusal, status) in [(Refusal::BadGateway, 502), (Refusal::GatewayTimeout, 504)] {
        let reply = get(&mut with_rule(users_rule(Action::Refuse(refusal))), USERS);
        assert_eq!(reply.status, status);
        assert!(reply.body.starts_with("<!DOCTYPE html>"));
        assert_eq!(reply.header_values("x-okta-request-id").count(), 0);
    }
    let reply = get(&mut with_rule(users_rule(Action::Refuse(Refusal::Concurrency))), USERS);
    assert_eq!(reply.header_values("x-rate-limit-limit").next(), Some("0"));
    let reply = get(&mut with_rule(users_rule(Action::Refuse(Refusal::RateLimited(7)))), USERS);
    assert_eq!(reply.header_values("x-rate-limit-reset").next(), Some("1785736807"));
}

#[test]
fn lists_can_be_cut() {
    assert_eq!(get_json(&mut with_rule(users_rule(Action::EmptyList)), USERS), serde_json::json!([]));
    let mut sim = with_rule(users_rule(Action::ShrinkList(30)));
    assert_eq!(pages(&mut sim, USERS).iter().map(Vec::len).collect::<Vec<_>>(), [30, 30, 30, 30, 0]);
    assert!(link(&get(&mut with_rule(users_rule(Action::NextMissing)), USERS), "next").is_none());
    let reply = get(&mut with_rule(users_rule(Action::HtmlOk)), USERS);
    assert_eq!((reply.status, reply.header_values("content-type").next()), (200, Some("text/html")));
    let reply = get(&mut with_rule(users_rule(Action::EmptyBodyOk)), USERS);
    assert_eq!((reply.status, reply.body.as_str()), (200, ""));
    let reply = get(&mut with_rule(users_rule(Action::CutJson)), USERS);
    assert!(reply.status == 200 && serde_json::from_str::<serde_json::Value>(&reply.body).is_err());
}

#[test]
fn next_can_lead_astray() {
    let mut sim = with_rule(users_rule(Action::NextForeign("https://evil.example".to_owned())));
    assert!(link(&get(&mut sim, USERS), "next").unwrap().starts_with("https://evil.example/api/v1/users?after="));
    let mut sim = with_rule(users_rule(Action::NextSelf));
    assert_eq!(link(&get(&mut sim, USERS), "next").unwrap(), format!("http://okta.test{USERS}"));
    let mut sim = with_rule(users_rule(Action::NextRepeats).page(PageMatch::Later));
    let second = link(&get(&mut sim, USERS), "next").unwrap();
    let third = link(&get(&mut sim, &second), "next").unwrap();
    assert_eq!(third, second, "page 2 leads to itself");
    let mut sim = with_rule(users_rule(Action::NextCircles).page(PageMatch::Later));
    let second = link(&get(&mut sim, USERS), "next").unwrap();
    let again = link(&get(&mut sim, &second), "next").unwrap();
    let once_more = link(&get(&mut sim, &again), "next").unwrap();
    assert!(again != second && once_more != again, "never the same URL");
    assert_eq!(get(&mut sim, &again).body, get(&mut sim, &second).body, "and the same page");
    let reply = get(&mut with_rule(users_rule(Action::Redirect("https://evil.example/".to_owned()))), USERS);
    assert_eq!((reply.status, reply.header_values("location").next()), (302, Some("https://evil.example/")));
}

#[test]
fn records_can_be_bad() {
    for (kind, is_bad) in [
        (BadRecord::NotAnObject, (|item| item.is_number()) as fn(&serde_json::Value) -> bool),
        (BadRecord::Null, |item| item.is_null()),
        (BadRecord::MissingId, |item| item.is_object() && item.get("id").is_none()),
        (BadRecord::WrongTypes, |item| item["id"].is_number()),
    ] {
        let mut sim = with_rule(users_rule(Action::BadRecord(kind)).page(PageMatch::Number(2)));
        let found = pages(&mut sim, USERS);
        assert_eq!(
            found.iter().map(|page| page.iter().filter(|item| is_bad(item)).count()).collect::<Vec<_>>(),
            [0, 1, 0, 0, 0],
            "{kind:?}"
        );
    }
}

#[test]
fn pages_can_be_odd_by_rule() {
    let sizes = |action: Action| {
        let mut sim = with_rule(users_rule(action).page(PageMatch::Number(2)).times(1));
        pages(&mut sim, USERS).iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(sizes(Action::EmptyPage), [100, 0, 100, 100, 100, 1]);
    assert_eq!(sizes(Action::ShortPage(10)), [100, 10, 100, 100, 91]);
    assert_eq!(sizes(Action::ClampLimit(20)), [100, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 20, 1]);
    assert_eq!(sizes(Action::DuplicateAcrossPages), [100, 101, 100, 100, 1]);
}

#[test]
fn deliveries_are_handed_to_the_socket() {
    assert!(get(&mut with_rule(users_rule(Action::Truncate)), USERS).delivery.truncated);
    let mut sim = with_rule(users_rule(Action::Reset));
    assert!(get(&mut sim, USERS).delivery.reset);
    assert_eq!(sim.requests.records().last().unwrap().status, 0);
    assert_eq!(get(&mut with_rule(users_rule(Action::Delay(70))), USERS).delivery.delay_ms, 70);
    assert_eq!(get(&mut with_rule(users_rule(Action::SlowBody(90))), USERS).delivery.slow_body_ms, 90);
    let reply = get(&mut with_rule(users_rule(Action::NoRateHeaders)), USERS);
    assert_eq!(reply.header_values("x-rate-limit-reset").count(), 0);
    let reply = get(&mut with_rule(users_rule(Action::DuplicateResetHeader)), USERS);
    assert_eq!(reply.header_values("x-rate-limit-reset").count(), 2);
}

#[test]
fn the_first_refusal_wins_and_behaving_ends_all() {
    let mut sim = small_sim();
    sim.rules.push(Rule::everywhere(Action::Refuse(Refusal::Forbidden)));
    sim.rules.push(Rule::everywhere(Action::Refuse(Refusal::Internal)));
    assert_eq!(get_error(&mut sim, USERS).0, 403);
    sim.behave();
    assert_eq!(json(&get(&mut sim, USERS)).as_array().unwrap().len(), 100);
}

//! Single objects, filters, small endpoints, both kinds of 404.

use okta_sim::org::UserStatus;
use okta_sim::{AppRef, NewUser, Request};

use crate::support::{encoded, get, get_error, get_json, ids, json, link, small_sim, walk};

#[test]
fn objects_are_read_by_id() {
    let mut sim = small_sim();
    let app = sim.org.truth_apps().find(|app| app.groups > 0 && app.users > 0).unwrap().id;
    let app_ref = AppRef::parse(&app).unwrap();
    let user = sim.org.truth_app_users(app_ref).next().unwrap().user_id;
    let group = sim.org.truth_app_groups(app_ref)[0].group_id.clone();
    for (path, id) in [
        (format!("/api/v1/users/{user}"), &user),
        (format!("/api/v1/groups/{group}"), &group),
        (format!("/api/v1/apps/{app}"), &app),
        (format!("/api/v1/apps/{app}/users/{user}"), &user),
        (format!("/api/v1/apps/{app}/groups/{group}"), &group),
    ] {
        assert_eq!(get_json(&mut sim, &path)["id"], **id, "{path}");
        // The same path with an id that names nothing.
        let missing = format!("{}{}", &path[..path.len() - 8], "xxxxxxxx");
        assert_eq!(get_error(&mut sim, &missing), (404, "E0000007".to_owned()), "{missing}");
    }
    let expanded = get_json(&mut sim, &format!("/api/v1/apps/{app}/users?limit=1&expand=user"));
    assert_eq!(expanded[0]["_embedded"]["user"]["id"], expanded[0]["id"]);
}

#[test]
fn users_are_found_by_login_and_as_me() {
    let mut sim = small_sim();
    let user = sim.org.create_user(&NewUser::new("Grüße.Ärger@acme.example").status(UserStatus::Active)).unwrap();
    for login in ["Grüße.Ärger@acme.example", "grüße.ärger@ACME.example", "grüße.ärger"] {
        // Short names compare ASCII case only.
        let login = if login.contains('@') { login } else { "Grüße.Ärger" };
        assert_eq!(get_json(&mut sim, &format!("/api/v1/users/{}", encoded(login)))["id"], *user.id(), "{login}");
    }
    assert_eq!(get_json(&mut sim, "/api/v1/users/me")["id"], *sim.org.administrator().id());
    assert_eq!(get_error(&mut sim, "/api/v1/users/nobody@acme.example").0, 404);
}

#[track_caller]
fn check_users(expression: &str, kind: &str, wanted: impl Fn(&okta_sim::org::TruthUser) -> bool) {
    let mut sim = small_sim();
    let found = ids(&walk(&mut sim, &format!("/api/v1/users?{kind}={}&limit=60", encoded(expression))));
    let truth: Vec<String> = sim.org.truth_users().filter(|user| wanted(user)).map(|user| user.id).collect();
    assert!(!truth.is_empty(), "{expression} would prove nothing");
    assert_eq!(found, truth, "{expression}");
}

#[test]
fn user_expressions_select() {
    check_users("status eq \"suspended\"", "search", |user| user.status == UserStatus::Suspended);
    check_users("status eq \"SUSPENDED\" or status eq \"STAGED\"", "filter", |user| {
        matches!(user.status, UserStatus::Suspended | UserStatus::Staged)
    });
    check_users("profile.lastName sw \"mü\"", "search", |user| {
        user.last_name.as_ref().is_some_and(|name| name.to_lowercase().starts_with("mü"))
    });
    check_users("profile.lastName eq \"O'Brien\" and not (status eq \"ACTIVE\")", "search", |user| {
        user.last_name.as_deref() == Some("O'Brien") && user.status != UserStatus::Active
    });
    check_users("profile.email co \"contractor\"", "search", |user| user.email.to_lowercase().contains("contractor"));
    let truth: Vec<_> = small_sim().org.truth_users().map(|user| user.id).collect();
    let batch = format!("id eq \"{}\" or id eq \"{}\" or id eq \"nothing\"", truth[5], truth[300]);
    check_users(&batch, "search", |user| user.id == truth[5] || user.id == truth[300]);
}

#[track_caller]
fn check_refused(target: &str, expression: &str, code: &str) {
    let mut sim = small_sim();
    assert_eq!(
        get_error(&mut sim, &format!("{target}{}", encoded(expression))),
        (400, code.to_owned()),
        "{expression}"
    );
}

#[test]
fn bad_expressions_have_the_right_code() {
    check_refused("/api/v1/users?search=", "status ne \"ACTIVE\"", "E0000031");
    check_refused("/api/v1/users?search=", "status eq", "E0000031");
    check_refused("/api/v1/users?search=", "lastUpdated gt \"soon\"", "E0000031");
    check_refused("/api/v1/users?filter=", "profile.department eq \"x\"", "E0000031");
    check_refused("/api/v1/groups?search=", "lastUpdated gt \"2026-01-01T00:00:00.000Z\"", "E0000031");
    check_refused("/api/v1/groups?filter=", "profile.name eq \"x\"", "E0000031");
    check_refused("/api/v1/apps?filter=", "status eq \"ACTIVE\" or name eq \"x\"", "E0000031");
    check_refused("/api/v1/apps?filter=", "lastUpdated gt \"2026-01-01\"", "E0000031");
    check_refused("/api/v1/logs?filter=", "published gt \"2026-01-01\"", "E0000053");
    check_refused("/api/v1/logs?filter=", "eventType", "E0000053");
    check_refused("/api/v1/logs?since=", "not a date", "E0000030");
    check_refused("/api/v1/logs?since=", "2020-01-01T00:00:00.000Z", "E0000053");
    check_refused("/api/v1/logs?limit=", "1001", "E0000053");
    check_refused("/api/v1/logs?after=", "garbage", "E0000053");
    check_refused("/api/v1/logs?q=", "a b c d e f g h i j k", "E0000053");
}

#[test]
fn lists_that_do_not_page_have_no_link() {
    let mut sim = small_sim();
    sim.require_token("t");
    for target in [
        "/api/v1/users?q=m",
        "/api/v1/groups?q=e",
        "/api/v1/api-tokens",
        "/api/v1/users/me/appLinks",
        "/api/v1/users/me/roles",
    ] {
        let reply = sim.handle(&Request::get(target).with_header("Authorization", "SSWS t"));
        assert_eq!(reply.status, 200, "{target}");
        assert_eq!(reply.header_values("link").count(), 0, "{target}");
        assert!(json(&reply).is_array(), "{target}");
    }
}

#[test]
fn queries_match_prefixes() {
    let mut sim = small_sim();
    let found = get_json(&mut sim, "/api/v1/users?q=M%C3%BC");
    assert!((1..=10).contains(&found.as_array().unwrap().len()));
    let mut found =
        walk(&mut sim, "/api/v1/apps?q=sales").into_iter().map(|app| app["label"].as_str().unwrap().to_lowercase());
    assert!(found.len() > 1 && found.all(|label| label.starts_with("sales")));
    let groups = get_json(&mut sim, "/api/v1/groups?q=engin");
    assert!(
        groups.as_array().unwrap().iter().all(|group| group["profile"]["name"].as_str().unwrap().starts_with("Engin"))
    );
    assert!(!groups.as_array().unwrap().is_empty());
}

#[test]
fn group_deltas_use_filter() {
    let mut sim = small_sim();
    let mark = "2026-08-03T05:00:00.000Z";
    let filter = encoded(&format!("lastUpdated gt \"{mark}\" or lastMembershipUpdated gt \"{mark}\""));
    let target = format!("/api/v1/groups?filter={filter}");
    assert_eq!(walk(&mut sim, &target).len(), 0, "nothing has changed lately");
    let group = sim.org.create_group("new");
    let other = sim.org.truth_groups().nth(5).and_then(|group| okta_sim::GroupRef::parse(&group.id)).unwrap();
    let outsider =
        sim.org.truth_users().map(|user| user.id).find(|id| !sim.org.truth_members(other).contains(id)).unwrap();
    sim.org.add_member(okta_sim::UserRef::parse(&outsider).unwrap(), other).unwrap();
    assert_eq!(ids(&walk(&mut sim, &target)), [other.id(), group.id()]);
}

#[test]
fn small_endpoints_answer() {
    let mut sim = small_sim();
    let org = get_json(&mut sim, "/api/v1/org")["id"].clone();
    assert_eq!(get_json(&mut sim, "/.well-known/okta-organization")["id"], org);
    assert_eq!(get_json(&mut sim, "/api/v1/groups/rules"), serde_json::json!([]));
    let assignees = get_json(&mut sim, "/api/v1/iam/assignees/users");
    assert_eq!(assignees["value"][0]["id"], *sim.org.administrator().id());
    assert_eq!(get_error(&mut sim, "/api/v1/principal-rate-limits"), (400, "E0000001".to_owned()));
    sim.require_token("t");
    let authorized = |target: &str| Request::get(target).with_header("Authorization", "SSWS t");
    let tokens = json(&sim.handle(&authorized("/api/v1/api-tokens")));
    assert_eq!(tokens[0]["userId"], *sim.org.administrator().id());
    assert!(!tokens.to_string().contains("\"t\""), "never the secret");
    let shares = sim.handle(&authorized(&format!(
        "/api/v1/principal-rate-limits?filter={}",
        encoded("principalType eq \"SSWS_TOKEN\"")
    )));
    assert_eq!(json(&shares)[0]["principalId"], tokens[0]["id"]);
}

#[test]
fn administrators_have_roles() {
    let mut sim = small_sim();
    let kinds = |sim: &mut okta_sim::Sim, target: &str| -> Vec<String> {
        let roles = get_json(sim, target);
        roles.as_array().unwrap().iter().map(|role| role["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&mut sim, "/api/v1/users/me/roles"), ["SUPER_ADMIN"]);
    let other = sim.org.truth_users().nth(1).unwrap().id;
    assert_eq!(kinds(&mut sim, &format!("/api/v1/users/{other}/roles")), [""; 0]);
    assert_eq!(get_error(&mut sim, "/api/v1/users/none/roles"), (404, "E0000007".to_owned()));
}

#[test]
fn there_are_two_kinds_of_404() {
    let mut sim = small_sim();
    assert_eq!(get_error(&mut sim, "/api/v1/users/00uxxxxxxxxxxxxxxxxx"), (404, "E0000007".to_owned()));
    assert_eq!(get_error(&mut sim, "/api/v1/nothing").0, 404);
    let front = get(&mut sim, "/elsewhere");
    assert_eq!((front.status, front.body.as_str()), (404, r#"{"status":404,"message":"Resource not found"}"#));
    assert_eq!(front.header_values("content-type").count() + front.header_values("x-okta-request-id").count(), 0);
}

#[test]
fn credentials_are_omitted_on_request() {
    let mut sim = small_sim();
    let all = "application/json; okta-response=\"omitCredentials,omitCredentialsLinks,omitTransitioningToStatus\"";
    let one = "application/json; okta-response=omitCredentials";
    for (header, expected) in [(all, false), (one, true)] {
        let reply = sim.handle(&Request::get("/api/v1/users?limit=1").with_header("Content-Type", header));
        assert_eq!(json(&reply)[0].get("credentials").is_some(), expected, "{header}");
    }
}

#[test]
fn every_answer_has_the_headers() {
    let mut sim = small_sim();
    for target in ["/api/v1/users", "/api/v1/users/none", "/api/v1/logs", "/.well-known/okta-organization"] {
        let reply = get(&mut sim, target);
        for name in ["date", "x-okta-request-id", "x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"]
        {
            assert_eq!(reply.header_values(name).count(), 1, "{target} {name}");
        }
    }
    assert!(link(&get(&mut sim, "/api/v1/users?limit=200&search=status+pr"), "self").is_some());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..Default::default() })]
    /// Whatever is asked gets an answer: no text in path, query or credential makes the org panic.
    #[test]
    fn anything_may_be_asked(
        path in "(/api/v1/(users|groups|apps|logs|apps/[a-zA-Z0-9%]{0,22}/(users|groups)|\\PC{0,12}))|\\PC{0,20}",
        name in "(limit|after|search|filter|q|since|until|expand|sortOrder|\\PC{0,5})",
        value in "([0-9_.e+%-]{0,30})|(\\PC{0,30})",
        credential in "\\PC{0,12}",
    ) {
        let org = okta_sim::Org::generate(&okta_sim::Spec { users: 12, groups: 3, apps: 5, ..Default::default() });
        let mut sim = okta_sim::Sim::new(org, "http://okta.test", 1);
        let reply = sim.handle(&Request::get(&format!("{path}?{name}={value}")).with_header("Authorization", &credential));
        proptest::prop_assert!(matches!(reply.status, 200 | 400 | 404), "{}", reply.status);
        if reply.status == 200 {
            proptest::prop_assert!(reply.body.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        }
    }
}

//! Credentials, methods, rate limits, restricted roles, accounting.

use okta_sim::{Bucket, ById, GroupRef, Hidden, Limit, RateLimiter, Request, Role, Way};

use crate::support::{get, get_error, ids, json, small_sim, walk};

#[test]
fn a_token_is_required_and_lapses() {
    let mut sim = small_sim();
    sim.require_token("secret");
    let ask = |sim: &mut okta_sim::Sim, header: Option<&str>| {
        let request = Request::get("/api/v1/users?limit=1");
        let request = if let Some(value) = header { request.with_header("authorization", value) } else { request };
        let reply = sim.handle(&request);
        (reply.status, json(&reply)["errorCode"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask(&mut sim, None), (403, "E0000005".to_owned()));
    assert_eq!(ask(&mut sim, Some("SSWS other")), (401, "E0000011".to_owned()));
    assert_eq!(ask(&mut sim, Some("SSWS secret")).0, 200);
    sim.org.advance_ms(29 * 86_400_000);
    assert_eq!(ask(&mut sim, Some("SSWS secret")).0, 200, "renewed by use");
    sim.org.advance_ms(30 * 86_400_000);
    assert_eq!(ask(&mut sim, Some("SSWS secret")), (401, "E0000011".to_owned()));
    sim.require_token("secret");
    assert!(sim.auth.revoke("secret"));
    assert_eq!(ask(&mut sim, Some("SSWS secret")), (401, "E0000011".to_owned()));
    assert_eq!(get(&mut sim, "/.well-known/okta-organization").status, 200, "needs no credential");
}

#[test]
fn other_methods_are_violations() {
    let mut sim = small_sim();
    for method in ["POST", "PUT", "DELETE", "HEAD"] {
        let reply = sim.handle(&Request { method: method.to_owned(), ..Request::get("/api/v1/users") });
        assert_eq!(reply.status, 405, "{method}");
    }
    assert_eq!(get(&mut sim, "/api/v1/users").status, 200);
    assert_eq!(sim.requests.violations(), 4);
    assert_eq!(sim.requests.records().filter(|record| record.method == "POST" && record.status == 405).count(), 1);
}

#[test]
fn windows_throttle_and_open_again() {
    let mut sim = small_sim();
    sim.limits = RateLimiter::workforce();
    sim.org.advance_ms(12_345);
    let app = sim.org.truth_apps().nth(4).unwrap().id;
    for _ in 0..50 {
        assert_eq!(get(&mut sim, &format!("/api/v1/apps/{app}/users?limit=1")).status, 200);
    }
    let reply = get(&mut sim, "/api/v1/apps");
    assert_eq!((reply.status, json(&reply)["errorCode"].as_str()), (429, Some("E0000047")));
    let number = |name: &str| reply.header_values(name).next().unwrap().parse::<i64>().unwrap();
    assert_eq!((number("x-rate-limit-limit"), number("x-rate-limit-remaining")), (50, 0));
    let reset_ms = number("x-rate-limit-reset") * 1_000;
    assert_ne!(reset_ms / 1_000 % 60, 0, "not aligned to the minute");
    assert_eq!(get(&mut sim, &format!("/api/v1/apps/{app}")).status, 200, "another bucket");
    sim.org.set_now_ms(reset_ms);
    assert_eq!(get(&mut sim, "/api/v1/apps").status, 200);
    assert_eq!(sim.requests.count("/api/v1/apps").throttled, 1);
}

#[test]
fn a_second_client_eats_the_budget() {
    let mut sim = small_sim();
    sim.limits.set_limit(Bucket::Logs, Some(Limit { org: 120, share: 60 }));
    sim.consume(Bucket::Logs, 119);
    assert_eq!(get(&mut sim, "/api/v1/logs").status, 200);
    assert_eq!(get_error(&mut sim, "/api/v1/logs").0, 429);
}

#[test]
fn hidden_objects_are_silently_absent() {
    let mut sim = small_sim();
    let everyone = sim.org.everyone().id();
    let app = sim.org.truth_apps().find(|app| app.groups > 0 && app.users > 1).unwrap().id;
    let app_ref = okta_sim::AppRef::parse(&app).unwrap();
    let user = sim.org.truth_app_users(app_ref).next().unwrap().user_id;
    let group = sim.org.truth_app_groups(app_ref)[0].group_id.clone();
    let lists = [
        ("/api/v1/users?search=status+pr".to_owned(), &user),
        (format!("/api/v1/groups/{everyone}/users"), &user),
        (format!("/api/v1/apps/{app}/users"), &user),
        ("/api/v1/groups".to_owned(), &group),
        (format!("/api/v1/apps/{app}/groups"), &group),
    ];
    let before: Vec<usize> = lists.iter().map(|(list, _)| walk(&mut sim, list).len()).collect();
    sim.hidden.users.insert(user.clone());
    sim.hidden.groups.insert(group.clone());
    for ((list, id), before) in lists.iter().zip(before) {
        let found = ids(&walk(&mut sim, list));
        assert_eq!(found.len(), before - 1, "{list}");
        assert!(!found.contains(id), "{list}");
    }
    assert_eq!(get_error(&mut sim, &format!("/api/v1/users/{user}")), (404, "E0000007".to_owned()));
    assert_eq!(get_error(&mut sim, &format!("/api/v1/apps/{app}/users/{user}")), (404, "E0000007".to_owned()));
    assert_eq!(get_error(&mut sim, &format!("/api/v1/groups/{group}/users")), (404, "E0000007".to_owned()));
    sim.hidden.apps.insert(app.clone());
    assert_eq!(get_error(&mut sim, &format!("/api/v1/apps/{app}")), (404, "E0000007".to_owned()));
    assert!(!ids(&walk(&mut sim, "/api/v1/apps")).contains(&app));
    assert!(!sim.org.truth_members(GroupRef::parse(&group).unwrap()).is_empty() || before_is_empty(&sim, &group));
}

/// The truth is not affected by what a role sees.
fn before_is_empty(sim: &okta_sim::Sim, group: &str) -> bool {
    sim.org.truth_groups().any(|known| known.id == group && known.members == 0)
}

#[test]
fn requests_are_accounted_for() {
    let mut sim = small_sim();
    walk(&mut sim, "/api/v1/users?search=status+pr&limit=150");
    get(&mut sim, "/api/v1/users/none");
    let count = sim.requests.count("/api/v1/users");
    assert_eq!((count.requests, count.succeeded, count.items, count.limits), (3, 3, 401, Some((150, 150))));
    let pages: Vec<u32> =
        sim.requests.records().filter(|record| record.endpoint == "/api/v1/users").map(|record| record.page).collect();
    assert_eq!(pages, [1, 2, 3]);
    let last = sim.requests.records().last().unwrap();
    assert_eq!((last.status, last.endpoint, last.has_authorization), (404, "/api/v1/users/*", false));
    sim.requests.clear();
    assert_eq!(sim.requests.total(), 0);
}

#[test]
fn hidden_objects_may_still_be_named() {
    let mut sim = small_sim();
    let app = sim.org.truth_apps().find(|app| app.groups > 0 && app.users > 1).unwrap().id;
    let app_ref = okta_sim::AppRef::parse(&app).unwrap();
    let user = sim.org.truth_app_users(app_ref).next().unwrap().user_id;
    let group = sim.org.truth_app_groups(app_ref)[0].group_id.clone();
    let everyone = sim.org.everyone().id();
    let lists = [
        (format!("/api/v1/groups/{everyone}/users"), &user),
        (format!("/api/v1/apps/{app}/users"), &user),
        (format!("/api/v1/apps/{app}/groups"), &group),
    ];
    for by_id in [ById::NotFound, ById::Forbidden, ById::Shown] {
        let way = Way { named: true, by_id };
        sim.hidden = Hidden::default();
        sim.hidden.hide_user(&user, way);
        sim.hidden.hide_group(&group, way);
        for (list, id) in &lists {
            assert!(ids(&walk(&mut sim, list)).contains(id), "{list}");
        }
        assert!(!ids(&walk(&mut sim, "/api/v1/users?search=status+pr")).contains(&user));
        assert!(!ids(&walk(&mut sim, "/api/v1/groups")).contains(&group));
        sim.hidden.hide_app(&app, way);
        assert!(!ids(&walk(&mut sim, "/api/v1/apps")).contains(&app));
        let expected = [(ById::NotFound, 404), (ById::Forbidden, 403), (ById::Shown, 200)];
        let status = expected.iter().find(|(known, _)| *known == by_id).unwrap().1;
        for path in [
            format!("/api/v1/users/{user}"),
            format!("/api/v1/groups/{group}/users"),
            format!("/api/v1/apps/{app}"),
            format!("/api/v1/apps/{app}/users/{user}"),
        ] {
            assert_eq!(get(&mut sim, &path).status, status, "{path}: {by_id:?}");
        }
    }
}

#[test]
fn single_rows_may_be_hidden() {
    let mut sim = small_sim();
    let app = sim.org.truth_apps().find(|app| app.groups > 0 && app.users > 1).unwrap().id;
    let app_ref = okta_sim::AppRef::parse(&app).unwrap();
    let user = sim.org.truth_app_users(app_ref).next().unwrap().user_id;
    let assigned = sim.org.truth_app_groups(app_ref)[0].group_id.clone();
    let everyone = sim.org.everyone().id();
    let group = sim.org.truth_groups().find(|group| group.members > 0 && group.id != everyone).unwrap().id;
    let member = sim.org.truth_members(GroupRef::parse(&group).unwrap())[0].clone();
    for (by_id, status) in [(ById::NotFound, 404), (ById::Forbidden, 403), (ById::Shown, 200)] {
        sim.hidden.app_users = [((app.clone(), user.clone()), by_id)].into();
        sim.hidden.app_groups = [((app.clone(), assigned.clone()), by_id)].into();
        sim.hidden.members = [((group.clone(), member.clone()), by_id)].into();
        assert!(!ids(&walk(&mut sim, &format!("/api/v1/apps/{app}/users"))).contains(&user));
        assert!(!ids(&walk(&mut sim, &format!("/api/v1/apps/{app}/groups"))).contains(&assigned));
        assert!(!ids(&walk(&mut sim, &format!("/api/v1/groups/{group}/users"))).contains(&member));
        let groups = ids(&walk(&mut sim, &format!("/api/v1/users/{member}/groups")));
        assert_eq!(groups.contains(&group), by_id == ById::Shown);
        assert_eq!(get(&mut sim, &format!("/api/v1/apps/{app}/users/{user}")).status, status);
        assert_eq!(get(&mut sim, &format!("/api/v1/apps/{app}/groups/{assigned}")).status, status);
        assert_eq!(get(&mut sim, &format!("/api/v1/users/{user}")).status, 200, "the user is there");
    }
}

/// `usersCount` of a group.
fn counted(sim: &mut okta_sim::Sim, group: &str) -> u64 {
    let groups = walk(sim, "/api/v1/groups?expand=stats&limit=200");
    let found = groups.iter().find(|known| known["id"] == group).expect("a listed group");
    found["_embedded"]["stats"]["usersCount"].as_u64().expect("a number")
}

#[test]
fn counts_may_tell_of_what_is_hidden() {
    let mut sim = small_sim();
    let everyone = sim.org.everyone().id();
    let before = counted(&mut sim, &everyone);
    let user = sim.org.truth_users().nth(7).unwrap().id;
    sim.hidden.users.insert(user);
    assert_eq!(counted(&mut sim, &everyone), before);
    sim.hidden.left_out_of_stats = true;
    assert_eq!(counted(&mut sim, &everyone), before - 1);
}

#[test]
fn a_role_can_be_narrowed_and_widened() {
    let mut sim = small_sim();
    let everyone = sim.org.everyone().id();
    let app = sim.org.truth_apps().last().unwrap().id;
    let group = sim.org.truth_groups().find(|group| group.members > 0 && group.id != everyone).unwrap();
    let me = sim.org.administrator().id();
    let roles = format!("/api/v1/users/{me}/roles");
    assert_eq!(walk(&mut sim, &roles)[0]["type"], "SUPER_ADMIN");
    let all = walk(&mut sim, "/api/v1/users?search=status+pr").len();
    let position = sim.org.log_end();
    let role = Role::custom(["okta.users.read", "okta.groups.read", "okta.apps.read"]);
    sim.narrow_role(role, std::slice::from_ref(&group.id), std::slice::from_ref(&app), true);
    assert_eq!(walk(&mut sim, "/api/v1/users?search=status+pr").len(), group.members);
    assert_eq!(ids(&walk(&mut sim, "/api/v1/groups")), [group.id.as_str()]);
    assert_eq!(ids(&walk(&mut sim, "/api/v1/apps")), [app.as_str()]);
    assert_eq!(get_error(&mut sim, "/api/v1/logs"), (403, "E0000006".to_owned()));
    assert_eq!(get_error(&mut sim, &roles).0, 403);
    sim.widen_role(true);
    assert_eq!(walk(&mut sim, "/api/v1/users?search=status+pr").len(), all);
    let told: Vec<String> = sim.org.log_after(position).into_iter().map(|event| event.event_type).collect();
    let expected = ["user.account.privilege.revoke", "iam.resourceset.bindings.add", "user.account.privilege.grant"];
    assert_eq!(told, expected);
    let position = sim.org.log_end();
    sim.narrow_role(Role::ReadOnly, &[], &[], false);
    sim.widen_role(false);
    assert!(sim.org.log_after(position).is_empty(), "silently");
}

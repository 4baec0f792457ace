//! Walking a list page by page gives exactly the truth.

use okta_sim::org::{AppStatus, GroupKind, Scope, UserStatus};
use okta_sim::{AppRef, GroupRef, PageSizes, UserRef};
use serde_json::Value;

use crate::support::{encoded, get, get_error, get_json, ids, link, pages, small_sim, sorted, walk};

fn text(value: &Value) -> Option<String> {
    value.as_str().map(ToOwned::to_owned)
}

#[test]
fn users_with_search_are_all_users() {
    let mut sim = small_sim();
    let found = walk(&mut sim, "/api/v1/users?search=status+pr&limit=33");
    let truth: Vec<_> = sim.org.truth_users().collect();
    assert_eq!(found.len(), truth.len());
    for (user, known) in found.iter().zip(&truth) {
        assert_eq!(user["id"], *known.id);
        assert_eq!(user["status"], known.status.as_str());
        assert_eq!(user["profile"]["login"], *known.login);
        assert_eq!(user["profile"]["email"], *known.email);
        assert_eq!(text(&user["profile"]["firstName"]), known.first_name);
        assert_eq!(text(&user["profile"]["lastName"]), known.last_name);
        assert_eq!(text(&user["profile"]["employeeNumber"]), known.employee_number);
    }
}

#[test]
fn the_plain_user_list_omits_the_deprovisioned() {
    let mut sim = small_sim();
    let plain = ids(&walk(&mut sim, "/api/v1/users?limit=50"));
    let gone = ids(&walk(&mut sim, &format!("/api/v1/users?filter={}", encoded("status eq \"DEPROVISIONED\""))));
    let by_status = |wanted: bool| {
        let users = sim.org.truth_users().filter(|user| (user.status == UserStatus::Deprovisioned) == wanted);
        users.map(|user| user.id).collect::<Vec<_>>()
    };
    assert!(gone.len() > 5, "{}", gone.len());
    assert_eq!(plain, by_status(false));
    assert_eq!(gone, by_status(true));
}

#[test]
fn groups_and_members_are_the_truth() {
    let mut sim = small_sim();
    let found = walk(&mut sim, "/api/v1/groups?limit=7&expand=stats,app");
    let truth: Vec<_> = sim.org.truth_groups().collect();
    assert_eq!(found.len(), truth.len());
    assert!(truth.iter().any(|group| group.members == 0) && truth.iter().any(|group| group.kind == GroupKind::App));
    for (group, known) in found.iter().zip(&truth) {
        assert_eq!(group["id"], *known.id);
        assert_eq!(group["type"], known.kind.as_str());
        assert_eq!(group["profile"]["name"], *known.name);
        assert_eq!(group["_embedded"]["stats"]["usersCount"], known.members);
        assert_eq!(text(&group["_embedded"]["app"]["id"]), known.source_app);
        let members = ids(&walk(&mut sim, &format!("/api/v1/groups/{}/users?limit=29", known.id)));
        assert_eq!(members, sim.org.truth_members(GroupRef::parse(&known.id).unwrap()));
        assert_eq!(members.len(), known.members);
    }
}

#[test]
fn groups_of_a_user_mirror_members() {
    let mut sim = small_sim();
    for index in [1, 17, 399] {
        let user = sim.org.truth_users().nth(index).unwrap().id;
        let groups = sorted(ids(&walk(&mut sim, &format!("/api/v1/users/{user}/groups"))));
        let all: Vec<_> = sim.org.truth_groups().filter_map(|group| GroupRef::parse(&group.id)).collect();
        let truth = all.into_iter().filter(|group| sim.org.truth_members(*group).contains(&user)).map(GroupRef::id);
        assert_eq!(groups, sorted(truth.collect()));
    }
}

#[test]
fn apps_app_users_and_app_groups_are_the_truth() {
    let mut sim = small_sim();
    let found = walk(&mut sim, "/api/v1/apps?limit=3");
    let truth: Vec<_> = sim.org.truth_apps().collect();
    assert_eq!(ids(&found), truth.iter().map(|app| app.id.clone()).collect::<Vec<_>>());
    assert!(truth.iter().any(|app| app.status == AppStatus::Inactive && app.users > 0));
    let mut scopes = [0, 0];
    for (app, known) in found.iter().zip(&truth) {
        assert_eq!(app["label"], *known.label);
        assert_eq!(app["status"], known.status.as_str());
        assert_eq!(text(&app["signOnMode"]), known.sign_on.map(|mode| mode.as_str().to_owned()));
        assert_eq!(text(&app["credentials"]["userName"]), known.shared_user_name);
        let app_ref = AppRef::parse(&known.id).unwrap();
        let rows = walk(&mut sim, &format!("/api/v1/apps/{}/users?limit=37", known.id));
        let true_rows: Vec<_> = sim.org.truth_app_users(app_ref).collect();
        assert_eq!((rows.len(), true_rows.len()), (known.users, known.users));
        for (row, true_row) in rows.iter().zip(&true_rows) {
            assert_eq!(row["id"], *true_row.user_id);
            assert_eq!(text(&row["credentials"]["userName"]), true_row.user_name);
            assert_eq!(text(&row["externalId"]), true_row.external_id);
            assert_eq!(row["scope"], true_row.scope.as_str());
            assert_eq!(row["status"], true_row.status.as_str());
            let group = row["_links"]["group"]["href"].as_str().and_then(|href| href.rsplit('/').next());
            assert_eq!(group, true_row.link_group.as_deref());
            scopes[usize::from(true_row.scope == Scope::Group)] += 1;
        }
        let groups = walk(&mut sim, &format!("/api/v1/apps/{}/groups?limit=20", known.id));
        let true_groups = sim.org.truth_app_groups(app_ref);
        let pairs: Vec<_> =
            groups.iter().map(|group| (text(&group["id"]).unwrap(), group["priority"].as_i64().unwrap())).collect();
        assert_eq!(
            pairs,
            true_groups.iter().map(|group| (group.group_id.clone(), i64::from(group.priority))).collect::<Vec<_>>()
        );
    }
    assert!(scopes.iter().all(|count| *count > 50), "both scopes occur: {scopes:?}");
}

#[test]
fn apps_of_groups_and_users_mirror_assignments() {
    let mut sim = small_sim();
    let app = sim.org.truth_apps().find(|app| app.groups > 0).unwrap();
    let app_ref = AppRef::parse(&app.id).unwrap();
    let group = sim.org.truth_app_groups(app_ref)[0].group_id.clone();
    let of_group = ids(&walk(&mut sim, &format!("/api/v1/groups/{group}/apps?limit=20")));
    assert!(of_group.contains(&app.id));
    let filter = encoded(&format!("group.id eq \"{group}\""));
    assert_eq!(ids(&walk(&mut sim, &format!("/api/v1/apps?filter={filter}"))), of_group);

    let row = sim.org.truth_app_users(app_ref).next().unwrap();
    let filter = encoded(&format!("user.id eq \"{}\"", row.user_id));
    let found = walk(&mut sim, &format!("/api/v1/apps?filter={filter}&expand=user%2F{}&limit=2", row.user_id));
    let assigned = |app: &AppRef| sim.org.truth_app_user(*app, UserRef::parse(&row.user_id).unwrap()).is_some();
    let truth: Vec<_> =
        sim.org.truth_apps().filter_map(|app| AppRef::parse(&app.id)).filter(assigned).map(AppRef::id).collect();
    assert_eq!(ids(&found), truth);
    assert!(found.iter().all(|app| app["_embedded"]["user"]["id"] == *row.user_id));
    let links = get_json(&mut sim, &format!("/api/v1/users/{}/appLinks", row.user_id));
    assert_eq!(links.as_array().unwrap().len(), truth.len());
    assert!(links[0]["appAssignmentId"].as_str().unwrap().starts_with("0ua"));
}

#[test]
fn limits_have_defaults_maxima_and_bounds() {
    let mut sim = small_sim();
    let app = sim.org.truth_apps().max_by_key(|app| app.users).unwrap().id;
    let everyone = sim.org.everyone().id();
    // (list, items without limit, items with a limit beyond the maximum)
    for (list, default, most) in [
        ("/api/v1/users".to_owned(), 200, 200),
        (format!("/api/v1/groups/{everyone}/users"), 401, 401),
        ("/api/v1/groups".to_owned(), 41, 41),
        ("/api/v1/apps".to_owned(), 20, 23),
        (format!("/api/v1/apps/{app}/users"), 50, 400),
    ] {
        assert_eq!(get_json(&mut sim, &list).as_array().unwrap().len(), default, "{list}");
        let all = get_json(&mut sim, &format!("{list}?limit=99999")).as_array().unwrap().len();
        assert!(all <= most, "{list}: {all}");
        for bad in ["0", "x", "-2", "1.5"] {
            assert_eq!(
                get_error(&mut sim, &format!("{list}?limit={bad}")),
                (400, "E0000001".to_owned()),
                "{list} {bad}"
            );
        }
    }
    assert_eq!(get_error(&mut sim, &format!("/api/v1/apps/{app}/groups?limit=19")), (400, "E0000001".to_owned()));
    assert_eq!(get(&mut sim, &format!("/api/v1/apps/{app}/groups?limit=20")).status, 200);
}

#[test]
fn links_repeat_the_query_verbatim() {
    let mut sim = small_sim();
    let query = "search=status%20eq%20%22ACTIVE%22%20or%20profile.login+sw+%22%C3%BC%22&limit=10&sortBy=id";
    let reply = get(&mut sim, &format!("/api/v1/users?{query}"));
    assert_eq!(link(&reply, "self").unwrap(), format!("http://okta.test/api/v1/users?{query}"));
    let next = link(&reply, "next").unwrap();
    assert!(next.contains("search=status%20eq%20%22ACTIVE%22%20or%20profile.login+sw+%22%C3%BC%22"), "{next}");
    assert!(next.contains("after=00u") && next.contains("limit=10"), "{next}");
    assert_eq!(reply.header_values("link").count(), 2, "two header lines");
    assert_eq!(link(&get(&mut sim, "/api/v1/apps"), "self").unwrap(), "http://okta.test/api/v1/apps?limit=20");
}

#[test]
fn cursors_are_positions_in_a_living_list() {
    let mut sim = small_sim();
    let first = get(&mut sim, "/api/v1/users?search=status+pr&limit=100");
    let next = link(&first, "next").unwrap();
    // The object the cursor names goes, an object of the first page goes, a new one comes.
    let gone = UserRef::parse(&ids(&serde_json::from_str::<Vec<Value>>(&first.body).unwrap())[99]).unwrap();
    sim.org.deactivate_user(gone).ok();
    assert!(sim.org.delete_user(gone).unwrap());
    sim.org.run_all_jobs();
    let new = sim.org.create_user(&okta_sim::NewUser::new("late@acme.example")).unwrap();
    let rest = ids(&walk(&mut sim, &next));
    assert_eq!(rest.len(), 302);
    assert_eq!(rest.last(), Some(&new.id()));
}

#[test]
fn foreign_cursors_are_refused() {
    let mut sim = small_sim();
    let app = sim.org.truth_apps().nth(3).unwrap().id;
    for (list, code) in [
        ("/api/v1/apps".to_owned(), "E0000029"),
        (format!("/api/v1/apps/{app}/users"), "E0000029"),
        (format!("/api/v1/apps/{app}/groups"), "E0000029"),
        ("/api/v1/users".to_owned(), "E0000031"),
        ("/api/v1/groups".to_owned(), "E0000031"),
    ] {
        for cursor in ["garbage", "00u1", "%00", "99999999999999999999999", "%F0%9F%98%80"] {
            assert_eq!(
                get_error(&mut sim, &format!("{list}?after={cursor}")),
                (400, code.to_owned()),
                "{list} {cursor}"
            );
        }
    }
}

#[test]
fn a_full_crawl_needs_the_minimum_of_requests() {
    let mut sim = small_sim();
    let sizes = PageSizes::default();
    let in_scope = |app: &okta_sim::org::TruthApp| app.status == AppStatus::Active && app.oauth_type != Some("service");
    let needed = sim.org.minimum_requests(&sizes, in_scope);
    let apps: Vec<_> = sim.org.truth_apps().filter(in_scope).collect();
    sim.requests.clear();
    get(&mut sim, "/api/v1/logs?limit=1000");
    walk(&mut sim, "/api/v1/users?search=status+pr&limit=200");
    walk(&mut sim, "/api/v1/apps?limit=200");
    walk(&mut sim, "/api/v1/groups?limit=200");
    let mut relevant = std::collections::BTreeSet::new();
    for app in &apps {
        walk(&mut sim, &format!("/api/v1/apps/{}/users?limit=500", app.id));
        relevant.extend(ids(&walk(&mut sim, &format!("/api/v1/apps/{}/groups?limit=200", app.id))));
    }
    for group in relevant {
        if !sim.org.truth_members(GroupRef::parse(&group).unwrap()).is_empty() {
            walk(&mut sim, &format!("/api/v1/groups/{group}/users?limit=200"));
        }
    }
    assert_eq!(sim.requests.total(), needed.total());
    assert_eq!(sim.requests.count("/api/v1/apps/*/users").requests, needed.app_users);
    assert_eq!(sim.requests.count("/api/v1/apps/*/users").limits, Some((500, 500)));
    assert_eq!(sim.requests.count("/api/v1/groups/*/users").requests, needed.members);
    assert_eq!(
        needed.apps_bucket(),
        sim.requests.records().filter(|record| record.bucket == okta_sim::Bucket::Apps).count()
    );
    assert!(pages(&mut sim, "/api/v1/users?limit=100").len() > 2);
}

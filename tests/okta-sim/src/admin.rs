//! A read-only look behind the scenes for people at a shell: `/sim/truth/*` and `/sim/requests` as JSON lines.
//!
//! Entry point: `answer`. Not part of the simulated API: no authentication, no rate limit, no accounting.

use crate::http::{Delivery, Reply, Request};
use crate::ids::{AppRef, GroupRef};
use crate::json::{Object, strings};
use crate::org::{Org, TruthApp, TruthAppUser};
use crate::sim::Sim;

/// The answer for a path below `/sim/`; `None` for every other path.
pub(crate) fn answer(sim: &Sim, request: &Request) -> Option<Reply> {
    let lines: Vec<String> = match request.path.strip_prefix("/sim/")? {
        "truth/users" => users(&sim.org),
        "truth/groups" => groups(&sim.org),
        "truth/members" => members(&sim.org),
        "truth/apps" => sim.org.truth_apps().map(|app| app_line(&app)).collect(),
        "truth/app_users" => app_refs(&sim.org).flat_map(|app| sim.org.truth_app_users(app)).map(|row| app_user_line(&row)).collect(),
        "truth/app_groups" => app_groups(&sim.org),
        "requests" => requests(sim),
        "counts" => counts(sim),
        _ => return Some(reply(404, "unknown path; try /sim/truth/{users,groups,members,apps,app_users,app_groups}, /sim/requests, /sim/counts\n".to_owned())),
    };
    let mut body = lines.join("\n");
    if !body.is_empty() {
        body.push('\n');
    }
    Some(reply(200, body))
}

fn reply(status: u16, body: String) -> Reply {
    let headers = vec![("Content-Type".to_owned(), "application/x-ndjson".to_owned())];
    Reply { status, headers, body, delivery: Delivery::default() }
}

fn app_refs(org: &Org) -> impl Iterator<Item = AppRef> + '_ {
    org.truth_apps().filter_map(|app| AppRef::parse(&app.id))
}

fn users(org: &Org) -> Vec<String> {
    let line = |user: crate::org::TruthUser| {
        let object = Object::new().text("id", &user.id).text("status", user.status.as_str());
        let object = object.text("login", &user.login).text("email", &user.email);
        object
            .text_or_null("firstName", user.first_name.as_deref())
            .text_or_null("lastName", user.last_name.as_deref())
            .end()
    };
    org.truth_users().map(line).collect()
}

fn groups(org: &Org) -> Vec<String> {
    let line = |group: crate::org::TruthGroup| {
        let object = Object::new().text("id", &group.id).text("type", group.kind.as_str()).text("name", &group.name);
        let members = i64::try_from(group.members).unwrap_or(i64::MAX);
        object.text_or_null("sourceApp", group.source_app.as_deref()).number("members", members).end()
    };
    org.truth_groups().map(line).collect()
}

/// Explicit memberships: `Everyone` is left out, it holds all users.
fn members(org: &Org) -> Vec<String> {
    let refs =
        org.truth_groups().filter_map(|group| GroupRef::parse(&group.id)).filter(|group| *group != org.everyone());
    let pairs = refs.flat_map(|group| org.truth_members(group).into_iter().map(move |user| (group.id(), user)));
    pairs.map(|(group, user)| Object::new().text("group", &group).text("user", &user).end()).collect()
}

fn app_line(app: &TruthApp) -> String {
    Object::new()
        .text("id", &app.id)
        .text("name", &app.name)
        .text("label", &app.label)
        .text("status", app.status.as_str())
        .text_or_null("signOnMode", app.sign_on.map(|mode| mode.as_str()))
        .raw("features", &strings(&app.features))
        .text_or_null("sharedUserName", app.shared_user_name.as_deref())
        .number("users", i64::try_from(app.users).unwrap_or(i64::MAX))
        .number("groups", i64::try_from(app.groups).unwrap_or(i64::MAX))
        .end()
}

fn app_user_line(row: &TruthAppUser) -> String {
    Object::new()
        .text("app", &row.app_id)
        .text("user", &row.user_id)
        .text_or_null("userName", row.user_name.as_deref())
        .text_or_null("externalId", row.external_id.as_deref())
        .text("scope", row.scope.as_str())
        .text("status", row.status.as_str())
        .text("syncState", row.sync.as_str())
        .text_or_null("group", row.link_group.as_deref())
        .end()
}

fn app_groups(org: &Org) -> Vec<String> {
    let rows = app_refs(org).flat_map(|app| org.truth_app_groups(app));
    rows.map(|row| {
        let object = Object::new().text("app", &row.app_id).text("group", &row.group_id);
        object.number("priority", i64::from(row.priority)).end()
    })
    .collect()
}

fn requests(sim: &Sim) -> Vec<String> {
    let line = |record: &crate::account::RequestRecord| {
        let object = Object::new().text("at", &crate::time::iso_ms(record.at_ms)).text("method", &record.method);
        let object =
            object.text("path", &record.path).text("query", &record.query).number("status", i64::from(record.status));
        let object = object.text("bucket", record.bucket.name()).boolean("authorization", record.has_authorization);
        object
            .number("page", i64::from(record.page))
            .number("items", i64::try_from(record.items).unwrap_or(i64::MAX))
            .end()
    };
    sim.requests.records().map(line).collect()
}

fn counts(sim: &Sim) -> Vec<String> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let line = |(endpoint, count): (&'static str, &crate::account::EndpointCount)| {
        let object = Object::new().text("endpoint", endpoint).number("requests", number(count.requests));
        let object = object.number("succeeded", number(count.succeeded)).number("throttled", number(count.throttled));
        object.number("items", number(count.items)).end()
    };
    sim.requests.counts().map(line).collect()
}

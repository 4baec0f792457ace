//! What a reader that follows the log asks for: parts of lists, the index that runs behind, and what can go wrong there.

use okta_sim::{Action, Bucket, NewApp, NewUser, ProfileUpdate, Quirks, Refusal, Rule, Sim, UserRef};
use serde_json::Value;

use crate::support::{encoded, get, get_error, get_json, ids, json, link, pages, small_sim, walk};

/// The start of virtual time; everything generated is older.
const START: &str = "2026-08-03T06:00:00.000Z";

fn search(expression: &str) -> String {
    format!("/api/v1/users?search={}&limit=200", encoded(expression))
}

fn create(sim: &mut Sim, name: &str) -> UserRef {
    sim.org.create_user(&NewUser::new(&format!("{name}@acme.example"))).expect("a new login")
}

#[test]
fn deltas_show_what_changed_and_nothing_else() {
    let mut sim = small_sim();
    sim.org.advance_ms(60_000);
    let ada = create(&mut sim, "ada");
    let other = UserRef::parse(&sim.org.truth_users().nth(7).unwrap().id).unwrap();
    let update = ProfileUpdate { department: Some("New".to_owned()), ..ProfileUpdate::default() };
    sim.org.update_profile(other, &update).unwrap();
    let changed = search(&format!("lastUpdated gt \"{START}\""));
    assert_eq!(ids(&walk(&mut sim, &changed)), [other.id(), ada.id()]);
    sim.org.delete_user(ada).unwrap();
    sim.org.delete_user(ada).unwrap();
    sim.org.run_all_jobs();
    assert_eq!(ids(&walk(&mut sim, &changed)), [other.id()], "deletions do not show");

    let group = sim.org.create_group("renamed");
    let joined = okta_sim::GroupRef::parse(&sim.org.truth_groups().nth(5).unwrap().id).unwrap();
    let newcomer = sim.org.truth_users().map(|user| user.id).find(|id| !sim.org.truth_members(joined).contains(id));
    sim.org.add_member(UserRef::parse(&newcomer.unwrap()).unwrap(), joined).unwrap();
    let filter = format!("lastUpdated gt \"{START}\" or lastMembershipUpdated gt \"{START}\"");
    let target = format!("/api/v1/groups?filter={}&expand=stats,app&limit=200", encoded(&filter));
    let found = walk(&mut sim, &target);
    assert_eq!(ids(&found), [joined.id(), group.id()]);
    assert!(found.iter().all(|group| group["_embedded"]["stats"]["usersCount"].is_u64()), "{found:?}");
}

#[test]
fn groups_of_an_app_are_found() {
    let mut sim = small_sim();
    let app = sim.org.create_app(&NewApp::new("active_directory", "corp"));
    let imported = [sim.org.import_group(app, "a").unwrap().id(), sim.org.import_group(app, "b").unwrap().id()];
    let target = format!(
        "/api/v1/groups?search={}&expand=stats,app&limit=1",
        encoded(&format!("source.id eq \"{}\"", app.id()))
    );
    let found = walk(&mut sim, &target);
    assert_eq!(ids(&found), imported);
    assert!(found.iter().all(|group| group["_embedded"]["app"]["id"] == app.id().as_str()), "on every page");
}

/// The user with the most app users, and their apps in the order of the list.
fn busiest(sim: &Sim) -> (String, Vec<String>) {
    let mut apps_of: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for app in sim.org.truth_apps() {
        let known = okta_sim::AppRef::parse(&app.id).expect("an app's id");
        for row in sim.org.truth_app_users(known) {
            apps_of.entry(row.user_id).or_default().push(app.id.clone());
        }
    }
    apps_of.into_iter().max_by_key(|(_, apps)| apps.len()).expect("an app user")
}

#[test]
fn apps_of_a_user_come_with_the_account_on_every_page() {
    let mut sim = small_sim();
    let (user, apps) = busiest(&sim);
    assert!(apps.len() > 4, "{apps:?}");
    let filter = encoded(&format!("user.id eq \"{user}\""));
    let target = format!("/api/v1/apps?filter={filter}&expand=user/{user}&limit=2");
    let accounts = |pages: &[Vec<Value>]| -> Vec<Vec<bool>> {
        let embedded = |app: &Value| app["_embedded"]["user"]["id"] == user.as_str();
        pages.iter().map(|page| page.iter().map(embedded).collect()).collect()
    };
    let found = pages(&mut sim, &target);
    assert_eq!(ids(&found.concat()), apps);
    assert!(accounts(&found).concat().iter().all(|embedded| *embedded));
    // The account is the one that the app itself shows.
    let account = &found[0][0]["_embedded"]["user"];
    assert_eq!(*account, get_json(&mut sim, &format!("/api/v1/apps/{}/users/{user}", apps[0])));
    sim.quirks.expand_lost_on_page_2 = true;
    let found = pages(&mut sim, &target);
    let with_account = accounts(&found);
    assert!(with_account[0].iter().all(|embedded| *embedded) && !with_account[1..].concat().contains(&true));
    assert_eq!(ids(&found.concat()), apps, "nothing but what is embedded is lost");
}

#[test]
fn groups_of_a_user_are_paged() {
    let mut sim = small_sim();
    let user = create(&mut sim, "joiner");
    let mut expected = vec![sim.org.everyone().id()];
    for number in 0..5 {
        let group = sim.org.create_group(&format!("g{number}"));
        sim.org.add_member(user, group).unwrap();
        expected.push(group.id());
    }
    let found = pages(&mut sim, &format!("/api/v1/users/{}/groups?limit=4", user.id()));
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(ids(&found.concat()), expected);
    sim.requests.clear();
    get(&mut sim, &format!("/api/v1/users/{}/groups", user.id()));
    assert_eq!(sim.requests.records().next().unwrap().bucket, Bucket::Other);
}

#[test]
fn the_index_runs_behind_and_catches_up() {
    let mut sim = small_sim();
    sim.quirks.index_lag_ms = 1_000;
    sim.org.advance_ms(60_000);
    let old = UserRef::parse(&sim.org.truth_users().nth(9).unwrap().id).unwrap();
    let was = get_json(&mut sim, &format!("/api/v1/users/{}", old.id()))["profile"]["department"].clone();
    let set = |sim: &mut Sim, text: &str| {
        let update = ProfileUpdate { department: Some(text.to_owned()), ..ProfileUpdate::default() };
        sim.org.update_profile(old, &update).unwrap();
    };
    set(&mut sim, "First");
    sim.org.advance_ms(400);
    set(&mut sim, "Second");
    let new = create(&mut sim, "new");
    let both = search(&format!("id eq \"{}\" or id eq \"{}\"", old.id(), new.id()));
    let department = |sim: &mut Sim| walk(sim, &both)[0]["profile"]["department"].clone();
    assert_eq!(department(&mut sim), was);
    assert_eq!(ids(&walk(&mut sim, &both)), [old.id()], "who was created is absent");
    assert!(walk(&mut sim, &search(&format!("lastUpdated gt \"{START}\""))).is_empty(), "so is the change");
    assert!(!ids(&walk(&mut sim, &search("status pr"))).contains(&new.id()));
    let by_id = get_json(&mut sim, &format!("/api/v1/users/{}", old.id()));
    assert_eq!(by_id["profile"]["department"], "Second", "by id is current");
    assert!(ids(&walk(&mut sim, "/api/v1/users?limit=200")).contains(&new.id()), "and so is the plain list");
    sim.org.advance_ms(600);
    assert_eq!(department(&mut sim), "First", "the first change has come through, the second has not");
    sim.org.advance_ms(400);
    assert_eq!(department(&mut sim), "Second");
    assert_eq!(ids(&walk(&mut sim, &both)), [old.id(), new.id()]);
    // A deleted user is still there for a while, by id it is gone.
    sim.org.delete_user(new).unwrap();
    sim.org.delete_user(new).unwrap();
    sim.org.run_all_jobs();
    assert_eq!(walk(&mut sim, &both)[1]["status"], "STAGED");
    assert_eq!(get_error(&mut sim, &format!("/api/v1/users/{}", new.id())).0, 404);
    let filtered = format!("/api/v1/users?filter={}", encoded("status eq \"DEPROVISIONED\""));
    assert!(!ids(&walk(&mut sim, &filtered)).contains(&new.id()));
    sim.org.advance_ms(1_000);
    assert_eq!(ids(&walk(&mut sim, &both)), [old.id()]);
    // Hidden users stay hidden, and without the quirk everything is current.
    set(&mut sim, "Third");
    sim.hidden.users.insert(old.id());
    assert!(walk(&mut sim, &both).is_empty());
    sim.behave();
    assert_eq!(department(&mut sim), "Third");
}

#[test]
fn the_log_can_be_denied_and_its_cursors_refused() {
    let mut sim = small_sim();
    sim.rules.push(Rule::on("/api/v1/logs", Action::Refuse(Refusal::Forbidden)));
    assert_eq!(get_error(&mut sim, "/api/v1/logs?limit=1000"), (403, "E0000006".to_owned()));
    assert_eq!(get(&mut sim, "/api/v1/users?limit=1").status, 200);
    sim.rules = vec![Rule::on("/api/v1/logs", Action::Refuse(Refusal::InvalidSearch)).query("after=")];
    let anchor = get(&mut sim, "/api/v1/logs?limit=1000");
    let cursor = link(&anchor, "next").unwrap();
    assert_eq!(get_error(&mut sim, &cursor), (400, "E0000031".to_owned()));
    sim.rules = vec![Rule::on("/api/v1/logs", Action::Refuse(Refusal::InvalidSearch)).query("filter=")];
    assert_eq!(get(&mut sim, &cursor).status, 200);
    assert_eq!(get_error(&mut sim, "/api/v1/logs?filter=eventType+pr").0, 400);
}

#[test]
fn an_idle_poll_is_one_request_in_its_bucket_at_its_time() {
    let mut sim = small_sim();
    let mut cursor = link(&get(&mut sim, "/api/v1/logs?limit=1000"), "next").unwrap();
    sim.requests.clear();
    let start_ms = sim.org.now_ms();
    for _ in 0..3 {
        sim.org.advance_ms(10_000);
        let reply = get(&mut sim, &cursor);
        assert_eq!(json(&reply), serde_json::json!([]));
        cursor = link(&reply, "next").unwrap();
    }
    let records: Vec<_> = sim.requests.records().map(|record| (record.at_ms - start_ms, record.bucket)).collect();
    assert_eq!(records, [(10_000, Bucket::Logs), (20_000, Bucket::Logs), (30_000, Bucket::Logs)]);
}

#[test]
fn lists_show_less_than_there_is_while_ids_are_found() {
    let mut sim = small_sim();
    let whole = ids(&walk(&mut sim, "/api/v1/apps?limit=200"));
    sim.rules = vec![Rule::on("/api/v1/apps", Action::ShrinkList(30)), Rule::on("/api/v1/groups", Action::EmptyList)];
    let shown = ids(&walk(&mut sim, "/api/v1/apps?limit=200"));
    assert_eq!(shown.len(), whole.len() * 30 / 100);
    for app in &whole {
        assert_eq!(get(&mut sim, &format!("/api/v1/apps/{app}")).status, 200);
    }
    let empty = get(&mut sim, "/api/v1/groups?limit=200");
    assert_eq!((empty.status, empty.body.as_str(), link(&empty, "next")), (200, "[]", None));
    let group = sim.org.truth_groups().nth(3).unwrap().id;
    assert_eq!(get(&mut sim, &format!("/api/v1/groups/{group}")).status, 200);
    let everyone = sim.org.everyone().id();
    assert!(!walk(&mut sim, &format!("/api/v1/groups/{everyone}/users")).is_empty());
    sim.quirks = Quirks::default();
    sim.rules.clear();
    assert_eq!(ids(&walk(&mut sim, "/api/v1/apps?limit=200")), whole);
}

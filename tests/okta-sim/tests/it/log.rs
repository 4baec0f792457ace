//! The System Log: polling, bounded requests, late, doubled and reordered events.

use okta_sim::{LogControls, NewUser, Quirks, Sim, UserRef};
use serde_json::Value;

use crate::support::{encoded, get, get_error, get_json, json, link, small_sim};

/// One poll: the events and the next link, which is always there.
fn poll(sim: &mut Sim, target: &str) -> (Vec<Value>, String) {
    let reply = get(sim, target);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let next = link(&reply, "next").expect("polling always has a next link");
    (json(&reply).as_array().expect("an array").clone(), next)
}

fn create(sim: &mut Sim, name: &str) -> UserRef {
    sim.org.create_user(&NewUser::new(&format!("{name}@acme.example"))).expect("a new login")
}

fn users_of(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["target"][0]["alternateId"].as_str().expect("a login").to_owned()).collect()
}

/// A cursor at the present end of the log.
fn anchor(sim: &mut Sim) -> String {
    let (events, next) = poll(sim, "/api/v1/logs?since=2026-08-03T05:55:00.000Z&limit=1000");
    assert!(events.is_empty());
    next
}

#[test]
fn polling_never_ends_and_never_repeats() {
    let mut sim = small_sim();
    let start = anchor(&mut sim);
    assert!(!start.contains("since="), "after and since exclude each other: {start}");
    let (events, next) = poll(&mut sim, &start);
    assert!(events.is_empty());
    assert_eq!(next, start, "nothing new: the same link");
    for number in 0..5 {
        create(&mut sim, &format!("n{number}"));
    }
    let target = start.replace("limit=1000", "limit=2");
    let (first, next) = poll(&mut sim, &target);
    let (second, next) = poll(&mut sim, &next);
    let (third, next) = poll(&mut sim, &next);
    assert_eq!((first.len(), second.len(), third.len()), (2, 2, 1));
    let (fourth, same) = poll(&mut sim, &next);
    assert!(fourth.is_empty());
    assert_eq!(same, next);
    create(&mut sim, "n5");
    assert_eq!(users_of(&poll(&mut sim, &next).0), ["n5@acme.example"]);
    // An old cursor may be used again, as after a crash.
    assert_eq!(poll(&mut sim, &start).0.len(), 6);
}

#[test]
fn events_come_late_doubled_and_out_of_order() {
    let mut sim = small_sim();
    let start = anchor(&mut sim);
    sim.org.set_log_controls(LogControls { delay_ms: 60_000, ..LogControls::default() });
    create(&mut sim, "late");
    sim.org.set_log_controls(LogControls { duplicate_probability: 1.0, ..LogControls::default() });
    sim.org.advance_ms(1_000);
    create(&mut sim, "twice");
    let (events, next) = poll(&mut sim, &start);
    assert_eq!(users_of(&events), ["twice@acme.example", "twice@acme.example"]);
    assert_eq!(events[0]["uuid"], events[1]["uuid"]);
    assert_eq!(sim.org.log_pending(), 1);
    sim.org.advance_ms(60_000);
    let (late, _) = poll(&mut sim, &next);
    assert_eq!(users_of(&late), ["late@acme.example"]);
    assert!(late[0]["published"].as_str() < events[0]["published"].as_str(), "published goes backwards");
    assert_ne!(late[0]["uuid"], events[0]["uuid"]);
}

#[test]
fn reordering_and_losing() {
    let mut sim = small_sim();
    let start = anchor(&mut sim);
    sim.org.set_log_controls(LogControls { reorder_probability: 0.5, ..LogControls::default() });
    for number in 0..40 {
        create(&mut sim, &format!("r{number}"));
        sim.org.advance_ms(500);
    }
    sim.org.advance_ms(5_000);
    let (events, _) = poll(&mut sim, &start);
    let published: Vec<&str> = events.iter().map(|event| event["published"].as_str().unwrap()).collect();
    assert_eq!(published.len(), 40);
    assert!(!published.is_sorted());
    sim.org.set_log_controls(LogControls { lost_probability: 1.0, ..LogControls::default() });
    create(&mut sim, "lost");
    assert_eq!(poll(&mut sim, &start).0.len(), 40);
}

#[test]
fn since_means_persistence_when_polling_and_published_when_bounded() {
    let mut sim = small_sim();
    sim.org.set_log_controls(LogControls { delay_ms: 3_600_000, ..LogControls::default() });
    create(&mut sim, "late");
    sim.org.advance_ms(3_600_000);
    let between = "2026-08-03T06:30:00.000Z";
    assert_eq!(poll(&mut sim, &format!("/api/v1/logs?since={between}")).0.len(), 1, "persisted at 07:00");
    let bounded = get(&mut sim, &format!("/api/v1/logs?since={between}&until=2026-08-03T08:00:00.000Z"));
    assert_eq!(json(&bounded), serde_json::json!([]), "published at 06:00");
    assert!(link(&bounded, "next").is_none());
}

#[test]
fn bounded_requests_are_ordered_and_end() {
    let mut sim = small_sim();
    for number in 0..7 {
        create(&mut sim, &format!("b{number}"));
        sim.org.advance_ms(1_000);
    }
    let range = "since=2026-08-03T06:00:00.000Z&until=2026-08-03T06:00:06.000Z";
    for (order, expected) in [("ASCENDING", [0, 1, 2, 3, 4, 5]), ("DESCENDING", [5, 4, 3, 2, 1, 0])] {
        let found = crate::support::pages(&mut sim, &format!("/api/v1/logs?{range}&limit=4&sortOrder={order}"));
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2], "{order}");
        assert_eq!(users_of(&found.concat()), expected.map(|number| format!("b{number}@acme.example")), "{order}");
    }
}

#[test]
fn filters_and_keywords_select() {
    let mut sim = small_sim();
    let user = create(&mut sim, "filtered");
    let group = sim.org.create_group("g");
    sim.org.add_member(user, group).unwrap();
    let mut count =
        |text: &str| get_json(&mut sim, &format!("/api/v1/logs?filter={}", encoded(text))).as_array().unwrap().len();
    assert_eq!(count("eventType sw \"user.\" or eventType sw \"group.\""), 3);
    assert_eq!(count("eventType sw \"group.\" and not (eventType eq \"group.lifecycle.create\")"), 1);
    assert_eq!(count(&format!("target.id eq \"{}\"", user.id())), 2);
    assert_eq!(count("eventType ne \"user.lifecycle.create\""), 2);
    assert_eq!(count("transaction.type eq \"JOB\""), 0);
    assert_eq!(get_json(&mut sim, "/api/v1/logs?q=filtered+membership").as_array().unwrap().len(), 1);
    // A filter stays in the next link, and events it leaves out do not move the cursor of an empty page.
    let target = format!("/api/v1/logs?filter={}", encoded("eventType eq \"nothing\""));
    let (events, next) = poll(&mut sim, &target);
    assert!(events.is_empty() && next.contains("filter=eventType"), "{next}");
    create(&mut sim, "other");
    assert_eq!(poll(&mut sim, &next).1, next);
}

#[test]
fn cursors_expire() {
    let mut sim = small_sim();
    let start = anchor(&mut sim);
    create(&mut sim, "x");
    sim.org.expire_log_cursors();
    assert_eq!(get_error(&mut sim, &start), (400, "E0000053".to_owned()));
    let (events, next) = poll(&mut sim, "/api/v1/logs?since=2026-08-03T05:00:00.000Z&limit=1000");
    assert_eq!(events.len(), 1, "the events are still there");
    create(&mut sim, "y");
    assert_eq!(poll(&mut sim, &next).0.len(), 1, "a new cursor works");
    assert_eq!(get_error(&mut sim, &format!("{next}&since=2026-08-03T05:00:00.000Z")).0, 400, "since and after");
}

#[test]
fn old_events_are_silently_missing() {
    let mut sim = small_sim();
    create(&mut sim, "old");
    sim.org.advance_ms(91 * 86_400_000);
    let since = "/api/v1/logs?since=2026-08-01T00:00:00.000Z";
    assert!(poll(&mut sim, since).0.is_empty());
}

#[test]
fn a_limit_of_zero_is_allowed() {
    let mut sim = small_sim();
    create(&mut sim, "x");
    let (events, next) = poll(&mut sim, "/api/v1/logs?limit=0");
    assert!(events.is_empty());
    assert_eq!(poll(&mut sim, &next.replace("limit=0", "limit=10")).0.len(), 1);
}

#[test]
fn event_shapes_can_be_odd() {
    let event = |quirks: Quirks| {
        let mut sim = small_sim();
        sim.quirks = quirks;
        let user = create(&mut sim, "odd");
        let group = sim.org.create_group("g");
        sim.org.add_member(user, group).unwrap();
        get_json(&mut sim, "/api/v1/logs")[2].clone()
    };
    let plain = event(Quirks::default());
    assert_eq!(
        (plain["target"][0]["type"].as_str(), plain["target"][1]["type"].as_str()),
        (Some("User"), Some("UserGroup"))
    );
    assert_eq!(
        (plain["outcome"]["result"].as_str(), plain["transaction"]["type"].as_str()),
        (Some("SUCCESS"), Some("WEB"))
    );
    let shuffled = event(Quirks { targets_shuffled: true, ..Quirks::default() });
    assert_eq!(shuffled["target"].as_array().unwrap().iter().filter(|target| target["type"] == "User").count(), 2);
    assert_eq!(shuffled["target"][0]["type"], "UserGroup");
    assert!(event(Quirks { targets_null: true, ..Quirks::default() })["target"].is_null());
    let odd = event(Quirks { log_shapes_odd: true, ..Quirks::default() });
    assert_eq!(
        (odd["outcome"]["result"].as_str(), odd["debugContext"]["debugData"].as_str()),
        (Some("Success"), Some(""))
    );
    assert_eq!(event(Quirks { outcomes_failed: true, ..Quirks::default() })["outcome"]["result"], "FAILURE");
    let mut sim = small_sim();
    sim.quirks.log_next_rewritten = true;
    let start = anchor(&mut sim);
    sim.org.advance_ms(5);
    assert_ne!(poll(&mut sim, &start).1, start);
}

/// What a reader asks who wants to know whether something that it no longer sees was deleted.
#[test]
fn deletions_are_found_by_searching_the_log() {
    let mut sim = small_sim();
    let user = create(&mut sim, "leaver");
    let group = sim.org.create_group("short-lived");
    sim.org.deactivate_user(user).unwrap();
    sim.org.delete_user(user).unwrap();
    sim.org.delete_group(group).unwrap();
    sim.org.run_all_jobs();
    let search = |sim: &mut Sim, filter: &str| -> Vec<String> {
        let since = "/api/v1/logs?since=2026-08-03T05:55:00.000Z&limit=1000&filter=";
        let (events, next) = poll(sim, &format!("{since}{}", encoded(filter)));
        assert!(next.contains("filter="), "{next}");
        events.iter().map(|event| event["eventType"].as_str().unwrap().to_owned()).collect()
    };
    let deletions = "eventType eq \"user.lifecycle.delete.completed\" or eventType sw \"group.lifecycle.delete\"";
    let both = ["group.lifecycle.delete", "user.lifecycle.delete.completed"];
    assert_eq!(search(&mut sim, deletions), both);
    let of_user = format!("({deletions}) and target.id eq \"{}\"", user.id());
    assert_eq!(search(&mut sim, &of_user), ["user.lifecycle.delete.completed"]);
    let of_either = format!("target.id eq \"{}\" or target.id eq \"{}\"", user.id(), group.id());
    assert_eq!(search(&mut sim, &format!("({deletions}) and ({of_either})")), both);
    let other = format!("({deletions}) and target.id eq \"00unone\"");
    assert!(search(&mut sim, &other).is_empty());
}

#[test]
fn federation_broker_mode_is_told() {
    let mut sim = small_sim();
    let app = okta_sim::AppRef::parse(&sim.org.truth_apps().last().unwrap().id).unwrap();
    let path = format!("/api/v1/apps/{}", app.id());
    let position = sim.org.log_end();
    for is_on in [true, true, false] {
        sim.org.set_federation_broker_mode(app, is_on).unwrap();
        assert_eq!(get_json(&mut sim, &path)["settings"]["implicitAssignment"] == true, is_on);
    }
    let told: Vec<String> = sim.org.log_after(position).into_iter().map(|event| event.event_type).collect();
    let expected =
        ["enable_fed_broker_mode", "disable_fed_broker_mode"].map(|name| format!("application.configuration.{name}"));
    assert_eq!(told, expected);
}

//! Oddities and passing failures of Okta's: the store equals the org all the same.

use std::time::Duration;

use futures_util::future::join_all;
use okta_sim::org::UserStatus;
use okta_sim::{Action, AppRef, BadRecord, NewUser, Org, PageMatch, Quirks, Refusal, Request, Rule, Sim, Spec};

use crate::harness::{NO_GAPS, TOKEN, World, gap_ids};
use crate::picture::{Picture, Want};

/// Whatever happens, a crawl of the small org ends within this time. The longest sequence of retries takes 24 s.
const CRAWL_TIME_MAX: Duration = Duration::from_secs(180);

/// Runs cases at the same time: most of them wait most of the time.
pub(crate) async fn all<F: Future<Output = ()>>(cases: impl IntoIterator<Item = F>) {
    let cases = cases.into_iter().map(|case| tokio::time::timeout(CRAWL_TIME_MAX, case)).collect::<Vec<_>>();
    for (number, case) in join_all(cases).await.into_iter().enumerate() {
        assert!(case.is_ok(), "case {number} does not end");
    }
}

pub(crate) const USERS: &str = "/api/v1/users";
pub(crate) const GROUPS: &str = "/api/v1/groups";
pub(crate) const APPS: &str = "/api/v1/apps";
pub(crate) const MEMBERS: &str = "/api/v1/groups/*/users";
pub(crate) const APP_USERS: &str = "/api/v1/apps/*/users";
const APP_GROUPS: &str = "/api/v1/apps/*/groups";
pub(crate) const LOGS: &str = "/api/v1/logs";
const LISTS: [&str; 6] = [USERS, GROUPS, APPS, MEMBERS, APP_USERS, APP_GROUPS];

pub(crate) fn refuse(sim: &mut Sim, path: &str, refusal: Refusal) {
    sim.rules.push(Rule::on(path, Action::Refuse(refusal)));
}

/// Under `rig` from the first request on, two crawls equal the org without a gap. `factor_max`: how many times the
/// requests of an undisturbed crawl.
async fn check_harmless(name: &str, rig: impl Fn(&mut Sim), factor_max: usize) {
    let world = World::paged(45, 201);
    world.sync_whole().await;
    let usual = world.requests();
    drop(world);
    let world = World::paged(45, 201);
    rig(&mut world.server.sim());
    for round in 0..2 {
        world.forget_requests();
        let report = world.sync().await;
        assert_eq!(gap_ids(&report), NO_GAPS, "{name}, round {round}: {:?}", report.open_gaps);
        assert_eq!(report.quarantined, 0, "{name}");
        let stored = world.picture();
        stored.assert_equals(&Picture::of_org(&world.server.sim(), &Want::default()), name);
        let sent = world.requests();
        assert!(sent <= usual * factor_max + 10, "{name}: {sent} requests instead of {usual}");
        assert_eq!(world.server.sim().requests.violations(), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quirks_change_nothing() {
    let quirk = |name: &'static str, quirks: Quirks, factor_max| {
        Box::pin(async move { check_harmless(name, |sim| sim.quirks = quirks.clone(), factor_max).await })
    };
    let d = Quirks::default;
    all([
        quirk("one link line", Quirks { links_in_one_line: true, ..d() }, 1),
        quirk("next before self", Quirks { links_next_first: true, ..d() }, 1),
        quirk("lower-case headers", Quirks { lowercase_header_names: true, links_in_one_line: true, ..d() }, 1),
        quirk("expand lost", Quirks { expand_lost_on_page_2: true, ..d() }, 2),
        quirk("short pages", Quirks { short_pages_percent: Some(40), ..d() }, 3),
        quirk("empty pages", Quirks { empty_pages: true, ..d() }, 2),
        quirk("clamped", Quirks { limit_clamped: Some(3), ..d() }, 7),
        quirk("duplicates", Quirks { duplicates_across_pages: true, ..d() }, 1),
        quirk("duplicate reset", Quirks { duplicate_reset_header: true, ..d() }, 1),
        quirk("no rate headers", Quirks { rate_headers_missing: true, ..d() }, 1),
        quirk("clock ahead", Quirks { date_skew_s: 400, ..d() }, 1),
        quirk("clock behind", Quirks { date_skew_s: -400, ..d() }, 1),
        quirk("nulls omitted", Quirks { omit_nulls: true, ..d() }, 1),
        quirk("stray quote", Quirks { stray_quote_key: true, ..d() }, 1),
        quirk("privilege spelt right", Quirks { admin_privilege_spelt_right: true, ..d() }, 1),
        quirk("odd log", Quirks { targets_shuffled: true, log_shapes_odd: true, outcomes_failed: true, ..d() }, 1),
        quirk("null targets", Quirks { targets_null: true, log_next_rewritten: true, ..d() }, 1),
        quirk("custom values", Quirks { custom_profile_values: true, ..d() }, 1),
        quirk("no search", Quirks { search_unavailable: true, ..d() }, 2),
        quirk(
            "all at once",
            Quirks {
                links_in_one_line: true,
                links_next_first: true,
                lowercase_header_names: true,
                expand_lost_on_page_2: true,
                short_pages_percent: Some(60),
                empty_pages: true,
                limit_clamped: Some(7),
                duplicates_across_pages: true,
                duplicate_reset_header: true,
                omit_nulls: true,
                stray_quote_key: true,
                custom_profile_values: true,
                search_unavailable: true,
                date_skew_s: -3_000,
                ..d()
            },
            12,
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passing_failures_change_nothing() {
    let once = |name: &'static str, action: Action| {
        let rig = move |sim: &mut Sim| {
            for list in LISTS {
                // On the first page of one walk and on a following one.
                sim.rules.push(Rule::on(list, action.clone()).times(1));
                sim.rules.push(Rule::on(list, action.clone()).page(PageMatch::Number(2)).times(1));
            }
        };
        Box::pin(async move { check_harmless(name, rig, 2).await })
    };
    let refuse = Action::Refuse;
    all([
        once("500", refuse(Refusal::Internal)),
        once("502", refuse(Refusal::BadGateway)),
        once("503", refuse(Refusal::ReadOnly)),
        once("504", refuse(Refusal::GatewayTimeout)),
        once("423", refuse(Refusal::Locked)),
        once("408", refuse(Refusal::Custom(408, String::new()))),
        once("529", refuse(Refusal::Custom(529, "<html>overloaded</html>".to_owned()))),
        once("429 window", refuse(Refusal::RateLimited(1))),
        once("429 concurrency", refuse(Refusal::Concurrency)),
        once("truncated", Action::Truncate),
        once("cut", Action::CutJson),
        once("reset", Action::Reset),
        once("empty", Action::EmptyBodyOk),
        once("web page", Action::HtmlOk),
        once("slow", Action::SlowBody(700)),
        once("late", Action::Delay(700)),
    ])
    .await;
}

/// A stale cursor in the middle of a walk: the walk starts again, and nothing is lost or removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_cursors_start_the_walk_again() {
    for times in [1, 3] {
        check_harmless(
            "stale cursors",
            |sim| {
                for list in [USERS, GROUPS, APPS, MEMBERS, APP_USERS] {
                    for refusal in [Refusal::InvalidCursor, Refusal::InvalidSearch] {
                        let rule = Rule::on(list, Action::Refuse(refusal)).page(PageMatch::Number(3)).times(times);
                        sim.rules.push(rule);
                    }
                }
            },
            4,
        )
        .await;
    }
}

/// Server errors on a following page: after some retries the walk starts again with smaller pages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_too_much_work_is_asked_for_in_pieces() {
    let world = World::paged(90, 202);
    let rule = Rule {
        query_contains: Some("limit=20".to_owned()),
        ..Rule::on(USERS, Action::Refuse(Refusal::Internal)).page(PageMatch::Later)
    };
    world.rule(rule);
    world.sync_whole().await;
    let limits = world.server.sim().requests.count(USERS).limits;
    assert_eq!(limits, Some((10, 20)));
}

/// Pages that are too big from the first one on: smaller ones are asked for, down to what Okta manages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_pages_that_are_too_big_are_halved() {
    // Few lists: each walk waits for its own retries.
    let mut world = World::new(&Spec { seed: 209, users: 60, groups: 4, apps: 3, ..Spec::default() });
    for list in ["USERS", "GROUPS", "GROUP_MEMBERS", "APPS", "APP_USERS", "APP_GROUPS"] {
        world.set(&format!("CRAWL__{list}_PAGE_SIZE"), "80");
    }
    for list in LISTS {
        world.rule(Rule::on(list, Action::FailAbove(40)));
    }
    world.sync_whole().await;
    for list in LISTS {
        let count = world.server.sim().requests.count(list);
        assert_eq!(count.limits, Some((40, 80)), "{list}");
        // Two failures a walk, since one alone is chance.
        assert!(count.succeeded * 3 >= count.requests, "{list}: {count:?}");
    }
}

/// Bad records are set aside one by one; the rest of the page is stored, what they may hide is named, and nothing that is
/// stored goes because its record could not be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_records_are_set_aside() {
    let world = World::paged(60, 205);
    for kind in [BadRecord::NotAnObject, BadRecord::Null, BadRecord::MissingId, BadRecord::WrongTypes] {
        for list in LISTS {
            world.rule(Rule::on(list, Action::BadRecord(kind)).page(PageMatch::Number(1)).times(1));
        }
    }
    let report = world.sync().await;
    world.assert_equal();
    // Two of the four kinds give the same reason on some lists.
    assert!(report.quarantined >= LISTS.len() * 2, "{}", report.quarantined);
    let gaps = gap_ids(&report);
    for scope in ["users", "groups", "apps"] {
        assert!(gaps.contains(&format!("FAILED:{scope}")), "{gaps:?}");
    }
    let again = world.sync_whole().await;
    assert_eq!(again.quarantined, 0, "what is read now is no longer set aside");
}

/// A stored user whose record is unreadable for once: it stays, and beside it goes only who is gone by the log's word. Who is
/// in the store and not in the list is asked for by id before anything is decided, so the users are real ones of the org.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_record_does_not_remove_its_row() {
    type Spoil = fn(&mut serde_json::Value);
    // A login beyond every limit makes the record unusable, though its id can be read.
    let with_id: Spoil = |record| record["profile"]["login"] = "x".repeat(10_000).into();
    let without_id: Spoil = |record| *record = serde_json::Value::Null;
    // Requests by id: the one who is gone. Whoever's record has an id is known to be there, and where none has, nobody goes.
    for (name, spoilt, gone, asked_for) in [
        ("id can be read", Some(with_id), false, 0),
        ("id cannot be read", Some(without_id), false, 0),
        ("id can be read, another is gone", Some(with_id), true, 1),
        ("gone", None, true, 1),
    ] {
        let mut org = Org::new();
        let users = ["ada", "bob", "cyd"].map(|name| NewUser::new(&format!("{name}@acme.example")));
        let users = users.map(|user| org.create_user(&user.status(UserStatus::Active)).unwrap());
        let world = World::of(org);
        world.sync_whole().await;
        {
            let mut sim = world.server.sim();
            if gone {
                // The first time it is only deactivated.
                for _ in 0..2 {
                    sim.org.delete_user(users[0]).unwrap();
                    sim.org.run_all_jobs();
                }
            }
            if let Some(spoil) = spoilt {
                let credential = format!("SSWS {TOKEN}");
                let list = sim.handle(&Request::get(USERS).with_header("Authorization", &credential));
                let mut list: Vec<serde_json::Value> = serde_json::from_str(&list.body).unwrap();
                spoil(list.iter_mut().find(|user| user["id"] == users[1].id()).unwrap());
                refuse(&mut sim, USERS, Refusal::Custom(200, serde_json::to_string(&list).unwrap()));
            }
        }
        world.forget_requests();
        let report = world.sync().await;
        let expected: &[&str] = if spoilt.is_some() { &["FAILED:users"] } else { &[] };
        assert_eq!(gap_ids(&report), expected, "{name}");
        world.assert_equal();
        assert_eq!(world.server.sim().requests.count("/api/v1/users/*").requests, asked_for, "{name}");
        // An unchanged answer changes nothing, gaps included.
        assert_eq!(world.sync().await.meta.revision, report.meta.revision, "{name}");
        world.server.sim().behave();
        world.sync_whole().await;
    }
}

/// Values of enumerations that nobody knows are kept as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_values_are_kept() {
    let world = World::paged(60, 207);
    let report = world.sync_whole().await;
    world.server.sim().quirks.unknown_enum_values = true;
    let again = world.sync().await;
    assert_eq!(gap_ids(&again), NO_GAPS);
    assert_eq!((again.quarantined, &again.meta.rows), (0, &report.meta.rows));
    assert!(again.meta.revision > report.meta.revision);
    world.server.sim().quirks.unknown_enum_values = false;
    world.sync_whole().await;
}

/// Apps that the list does not show are asked for by id: kept if they are there, removed with all that hangs on them if not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_absent_from_the_list_are_asked_for() {
    let world = World::paged(60, 208);
    let before = {
        world.sync_whole().await;
        world.picture()
    };
    let apps: Vec<String> = {
        let org = &world.server.sim().org;
        org.truth_apps().filter(|app| app.users > 3 && app.groups > 0).map(|app| app.id).collect()
    };
    let [unlisted, deleted, ..] = apps.as_slice() else { panic!("too few apps: {apps:?}") };
    world.server.sim().quirks.apps_unlisted.insert(unlisted.clone());
    {
        let org = &mut world.server.sim().org;
        let deleted = AppRef::parse(deleted).unwrap();
        org.deactivate_app(deleted).unwrap();
        org.delete_app(deleted).unwrap();
        org.run_all_jobs();
    }
    world.forget_requests();
    world.sync_whole().await;
    assert_eq!(world.server.sim().requests.count("/api/v1/apps/*").requests, 2);
    let after = world.picture();
    assert!(after.rows.contains_key(&format!("app {unlisted}")));
    for prefix in ["app ", "app_user ", "app_group "] {
        assert!(before.count(&format!("{prefix}{deleted}")) > 0, "{prefix}");
        assert_eq!(after.count(&format!("{prefix}{deleted}")), 0, "{prefix}");
    }
    // An answer that is neither yes nor no keeps the app and says so; its scopes are not read again, and no log tells of them.
    world.rule(Rule::on(&format!("/api/v1/apps/{unlisted}"), Action::Refuse(Refusal::FrontEndNotFound)));
    let report = world.sync().await;
    let lost = ["app_groups", "app_users"].map(|list| format!("LOG_LOST:{list}({unlisted})"));
    assert_eq!(gap_ids(&report), ["FAILED:apps", &lost[0], &lost[1]]);
    world.picture().assert_equals(&after, "neither yes nor no");
}

//! What ends a crawl early, and how it goes on.

use okta_idmap::core::coverage::ReadFailure;
use okta_idmap::engine::machine::CrawlOutcome;
use okta_idmap::store::Meta;
use okta_sim::{Action, ApiToken, Auth, PageMatch, Refusal, Rule, Spec};

use crate::harness::{NO_GAPS, TOKEN, World, gap_ids, try_sync};

const OTHER_TOKEN: &str = "00TanotherTokenOfTheSameOrg000000000000000";

/// 401 in the middle: everything read so far is kept, and the next start goes on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_credential_stops_the_crawl_and_a_living_one_resumes_it() {
    for (endpoint, page) in
        [("/api/v1/users", 4), ("/api/v1/groups", 2), ("/api/v1/apps/*/users", 2), ("/api/v1/groups/*/users", 1)]
    {
        let undisturbed = World::paged(120, 301);
        undisturbed.sync_whole().await;
        let usual = undisturbed.requests();
        let world = World::paged(120, 301);
        world.rule(Rule::on(endpoint, Action::Refuse(Refusal::InvalidToken)).page(PageMatch::Number(page)));
        let report = world.try_sync().await.unwrap();
        let CrawlOutcome::Stopped(ReadFailure::Unauthorized { detail }) = &report.outcome else {
            panic!("{endpoint}: {:?}", report.outcome)
        };
        assert!(detail.contains("401") && detail.contains("E0000011") && detail.contains("revoked"), "{detail}");
        assert!(report.open_gaps.iter().any(|record| record.gap.id().as_str().starts_with("UNAUTHORIZED:")));
        assert!(report.meta.crawl.running);
        let sent = world.requests();
        world.server.sim().behave();
        let report = world.sync_whole().await;
        assert_eq!(report.meta.crawl.id.0, 1, "{endpoint}: the same crawl");
        // Pages under way when it stopped are read again: at most those of three lanes.
        let in_flight_max = 3 * world.settings().limits.in_flight_per_lane;
        let total = world.requests();
        assert!(total <= usual + 2 + in_flight_max, "{endpoint}: {sent} + {} instead of {usual}", total - sent);
    }
}

/// Under other settings or with another credential the unfinished crawl is not resumed, but begun anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_crawl_of_other_settings_is_not_resumed() {
    let mut world = World::paged(60, 302);
    let rule = || Rule::on("/api/v1/users", Action::Refuse(Refusal::InvalidToken)).page(PageMatch::Number(2));
    world.rule(rule());
    world.try_sync().await.unwrap();
    world.server.sim().behave();
    world.set("CRAWL__APP_USERS_PAGE_SIZE", "30");
    assert_eq!(world.sync_whole().await.meta.crawl.id.0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_token_is_told_at_once() {
    let mut world = World::paged(30, 303);
    world.set("API_TOKEN", OTHER_TOKEN);
    let report = world.try_sync().await.unwrap();
    let CrawlOutcome::Stopped(ReadFailure::Unauthorized { detail }) = &report.outcome else {
        panic!("{:?}", report.outcome)
    };
    assert!(detail.contains("the credential is wrong, expired or revoked"), "{detail}");
    assert!(!detail.contains(OTHER_TOKEN) && !format!("{report:?}").contains(OTHER_TOKEN));
    assert_eq!(world.requests(), 2, "public metadata and one refusal");
    assert_eq!(gap_ids(&report), ["UNAUTHORIZED:log"]);
    world.set("API_TOKEN", TOKEN);
    world.sync_whole().await;
}

/// Nobody answers at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_org_is_told_and_loses_nothing() {
    let world = World::paged(30, 304);
    world.sync_whole().await;
    let before = world.picture();
    let address = world.server.base_url();
    let World { server, dir, mut environment } = world;
    drop(server);
    environment.push(("OKTA_IDMAP_DOMAIN".to_owned(), address));
    let world = World { dir, environment, ..World::paged(1, 305) };
    let report = world.try_sync().await.unwrap();
    let CrawlOutcome::Stopped(ReadFailure::Unreachable { detail }) = &report.outcome else {
        panic!("{:?}", report.outcome)
    };
    assert!(detail.contains("no connection") && detail.contains("check the network"), "{detail}");
    assert_eq!(gap_ids(&report), NO_GAPS, "it says nothing about any scope");
    world.picture().assert_equals(&before, "unreachable");
    assert_eq!(world.requests(), 0, "nobody else is asked");
}

/// A store belongs to one org, whatever address the configuration gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_org_is_refused() {
    let world = World::paged(30, 306);
    world.sync_whole().await;
    let (before, meta) = (world.picture(), world.meta());
    let other = Refusal::Custom(200, r#"{"id":"00oAnotherOrg0000000","pipeline":"idx"}"#.to_owned());
    world.rule(Rule::on("/.well-known/okta-organization", Action::Refuse(other)));
    world.forget_requests();
    let error = world.try_sync().await.unwrap_err().to_string();
    assert!(error.contains("00oAnotherOrg0000000") && error.contains(meta.org_id.as_deref().unwrap()), "{error}");
    assert!(error.contains("use another data directory"), "{error}");
    assert_eq!(world.requests(), 1, "the credential is not sent to it");
    world.picture().assert_equals(&before, "another org");
    world.server.sim().behave();
    world.sync_whole().await;
}

/// An org that does not tell its id is crawled all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_metadata_is_not_necessary() {
    for refusal in [Refusal::Forbidden, Refusal::FrontEndNotFound, Refusal::Custom(200, "<html>".to_owned())] {
        let world = World::paged(20, 307);
        world.rule(Rule::on("/.well-known/okta-organization", Action::Refuse(refusal)));
        world.sync_whole().await;
        assert_eq!(world.meta().org_id, None);
    }
}

/// Rows that another credential does not see are held, however few they are; the same rows seen again end the hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_credential_removes_nothing() {
    let mut world = World::new(&Spec { seed: 308, ..Spec::of_users(60) });
    world.sync_whole().await;
    let before = world.picture();
    {
        let mut sim = world.server.sim();
        let (admin, now_ms) = (sim.org.administrator(), sim.org.now_ms());
        let tokens = [TOKEN, OTHER_TOKEN];
        let token = |(number, secret): (u32, &&str)| ApiToken::new(number, "t", secret, admin, now_ms);
        sim.auth = Auth::Ssws((0..).zip(&tokens).map(token).collect());
        let user = sim.org.truth_users().nth(7).unwrap().id;
        sim.hidden.users.insert(user);
    }
    world.set("API_TOKEN", OTHER_TOKEN);
    // The hold must not end by repetition.
    for round in 0..3 {
        let report = world.sync().await;
        let gaps = gap_ids(&report);
        assert!(gaps.contains(&"HELD:users".to_owned()), "round {round}: {gaps:?}");
        assert!(gaps.iter().all(|gap| gap.starts_with("HELD:")), "{gaps:?}");
        let gap = report.open_gaps.iter().find(|record| record.gap.id().as_str() == "HELD:users").unwrap();
        assert!(gap.gap.evidence.contains("another credential"), "{gap:?}");
        world.picture().assert_equals(&before, "another credential");
    }
    world.server.sim().behave();
    world.sync_whole().await;
    // From now on the new credential is the one to compare with.
    {
        let mut sim = world.server.sim();
        let user = sim.org.truth_users().nth(7).unwrap().id;
        let user = okta_sim::UserRef::parse(&user).unwrap();
        sim.org.delete_user(user).unwrap();
        sim.org.run_all_jobs();
        let _ = sim.org.delete_user(user);
        sim.org.run_all_jobs();
    }
    world.sync_whole().await;
}

/// A crawl that stops between the end of the app list and the reads by id of the apps that it did not show: they are
/// asked for when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unlisted_apps_are_asked_for_after_a_stop() {
    let world = World::paged(60, 309);
    world.sync_whole().await;
    let [unlisted, deleted] = {
        let mut sim = world.server.sim();
        let apps: Vec<String> = sim.org.truth_apps().filter(|app| app.users > 3).map(|app| app.id).collect();
        let deleted = okta_sim::AppRef::parse(&apps[1]).unwrap();
        sim.org.deactivate_app(deleted).unwrap();
        sim.org.delete_app(deleted).unwrap();
        sim.org.run_all_jobs();
        sim.quirks.apps_unlisted.insert(apps[0].clone());
        sim.rules.push(Rule::on("/api/v1/apps/*", Action::Refuse(Refusal::InvalidToken)));
        [apps[0].clone(), apps[1].clone()]
    };
    let report = world.try_sync().await.unwrap();
    assert!(matches!(report.outcome, CrawlOutcome::Stopped(ReadFailure::Unauthorized { .. })), "{:?}", report.outcome);
    let picture = world.picture();
    assert!(
        picture.rows.contains_key(&format!("app {unlisted}")) && picture.rows.contains_key(&format!("app {deleted}"))
    );
    world.server.sim().rules.clear();
    let resumed = world.sync().await;
    assert_eq!(resumed.meta.crawl.id, report.meta.crawl.id, "the same crawl");
    world.assert_equal();
    assert_eq!(gap_ids(&resumed), NO_GAPS);
}

/// A crawl that was stopped has opened the log, but most of what is stored was read before that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_crawl_does_not_make_the_store_look_newer() {
    let world = World::paged(60, 308);
    let times = |meta: &Meta| (meta.observed_through, meta.opened_at);
    let stop =
        || world.rule(Rule::on("/api/v1/users", Action::Refuse(Refusal::InvalidToken)).page(PageMatch::Number(2)));
    stop();
    let report = world.try_sync().await.unwrap();
    assert_eq!(report.meta.observed_through, None, "nothing was ever followed");
    let opened_at = report.meta.opened_at;
    assert!(opened_at.is_some());
    world.server.sim().behave();
    assert_eq!(times(&world.sync_whole().await.meta), (opened_at, None));
    world.server.sim().org.advance_ms(60_000);
    stop();
    let report = world.try_sync().await.unwrap();
    assert_eq!(report.meta.observed_through, opened_at, "of the whole crawl before");
    let opened_again = report.meta.opened_at;
    assert!(opened_again > opened_at);
    world.server.sim().behave();
    assert_eq!(times(&world.sync_whole().await.meta), (opened_again, None));
}

/// Whoever reads the store after it is told how old it is by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_that_took_longer_than_the_log_may_be_old_says_so_at_its_end() {
    let world = World::paged(20, 309);
    let mut settings = world.settings();
    settings.coverage.log_stale_after_millis = Some(0);
    for _ in 0..2 {
        let report = try_sync(settings.clone()).await.unwrap();
        assert_eq!((report.outcome.clone(), gap_ids(&report)), (CrawlOutcome::Finished, vec!["STALE:log".to_owned()]));
    }
    world.sync_whole().await;
}

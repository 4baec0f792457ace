//! Crawls with an OAuth service app: the same as with an API token, with less where less is granted.

use okta_idmap::engine::machine::CrawlOutcome;
use okta_sim::{Action, ClockMode, Org, Refusal, Rule, ServerConfig, Spec};

use crate::faults::USERS;
use crate::harness::{World, gap_ids};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_app_reads_what_an_api_token_reads() {
    for requires_proof in [false, true] {
        let mut world = World::paged(120, 31);
        let with_token = world.sync_whole().await;
        let picture = world.picture();
        let mut other = World::paged(120, 31);
        other.as_service_app(|app| app.requires_proof = requires_proof);
        let with_app = other.sync_whole().await;
        assert_eq!(with_app.requests, with_token.requests, "the token request is no request of the crawl");
        picture.assert_equals(&other.picture(), "API token and service app");
        {
            let sim = other.server.sim();
            assert_eq!((sim.requests.violations(), sim.oauth.issued), (0, 1));
            assert!(sim.requests.records().all(|record| record.status != 401));
        }
        // The same rows under another credential: nothing goes, whoever reads.
        world.as_service_app(|_| {});
        world.sync_whole().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_scope_is_a_gap_until_it_is_granted() {
    for (scope, gap) in [
        ("okta.users.read", "SCOPE_MISSING:users"),
        ("okta.groups.read", "SCOPE_MISSING:groups"),
        ("okta.apps.read", "SCOPE_MISSING:apps"),
        ("okta.logs.read", "SCOPE_MISSING:log"),
    ] {
        for drops_ungranted in [false, true] {
            let mut world = World::paged(40, 32);
            world.as_service_app(|app| {
                app.drops_ungranted = drops_ungranted;
                app.granted.remove(scope);
            });
            let report = world.sync().await;
            assert!(gap_ids(&report).iter().any(|id| id == gap), "{scope}: {:?}", gap_ids(&report));
            let record = report.open_gaps.iter().find(|record| record.gap.id().to_string() == gap).unwrap();
            let told = format!("{record:?}");
            assert!(told.contains(&format!("missing OAuth scope {scope}")), "{told}");
            let forbidden = gap_ids(&report).into_iter().filter(|id| id.starts_with("FORBIDDEN")).count();
            assert_eq!(forbidden, 0, "{scope}");
            world.server.sim().oauth.apps[0].granted.insert(scope.to_owned());
            world.sync_whole().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_end_in_mid_crawl_cost_nothing() {
    let org = Org::generate(&Spec { seed: 33, ..Spec::of_users(120) });
    let config = ServerConfig { latency_ms: 120, clock: ClockMode::Wall, ..ServerConfig::default() };
    let mut world = World::served(org, config);
    world.small_pages();
    world.as_service_app(|app| app.expires_in_s = 1);
    world.sync_whole().await;
    let issued = world.server.sim().oauth.issued;
    assert!(issued > 1, "{issued}");
    // One that is refused before its time is replaced.
    let mut world = World::paged(120, 33);
    world.as_service_app(|_| {});
    world.rule(Rule::on(USERS, Action::Refuse(Refusal::InvalidToken)).after(2).times(1));
    world.sync_whole().await;
    assert_eq!(world.server.sim().oauth.issued, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_ends_the_crawl_and_keeps_the_rows() {
    let mut world = World::paged(40, 34);
    world.as_service_app(|_| {});
    world.sync_whole().await;
    world.server.sim().oauth.apps[0].keys[0].is_revoked = true;
    let report = world.try_sync().await.unwrap();
    let CrawlOutcome::Stopped(reason) = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(format!("{reason:?}").contains("no active key with id kid1"), "{reason:?}");
    world.assert_equal();
    world.server.sim().oauth.apps[0].keys[0].is_revoked = false;
    world.sync_whole().await;
}

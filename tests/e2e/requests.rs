//! What is asked of Okta: as little as possible, in the right form, and nothing but GET.

use std::collections::BTreeMap;

use okta_sim::org::TruthApp;
use okta_sim::{Org, PageSizes, RequestRecord, Spec};

use crate::harness::World;

fn in_scope(app: &TruthApp) -> bool {
    !(app.name == "saasure" || app.name.starts_with("okta_") || app.oauth_type == Some("service"))
}

/// N_full of facts 12.1 for the members of all groups that have some.
fn minimum(org: &Org, members_page_size: usize) -> usize {
    let minimum = org.minimum_requests(&PageSizes::default(), in_scope);
    let walked = org.truth_groups().filter(|group| group.id != org.everyone().id() && group.members > 0);
    minimum.total() - minimum.members + walked.map(|group| group.members.div_ceil(members_page_size)).sum::<usize>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_takes_the_fewest_requests() {
    for (users, seed) in [(1, 1), (10, 2), (300, 3), (1_300, 4)] {
        let world = World::new(&Spec { seed, ..Spec::of_users(users) });
        let members_page_size = usize::try_from(world.settings().page_sizes.group_members).unwrap();
        for _ in 0..2 {
            world.forget_requests();
            let report = world.sync_whole().await;
            let sim = world.server.sim();
            let (sent, minimum) = (sim.requests.total(), minimum(&sim.org, members_page_size));
            // The one more is the org's public metadata, which binds the store to the org.
            assert_eq!(sent, minimum + 1, "users {users} seed {seed}: {:?}", sim.requests);
            assert_eq!(report.requests, sent as u64);
        }
    }
}

/// With `assigned` the members of other groups are not asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assigned_groups_cost_what_the_facts_say() {
    let mut world = World::new(&Spec { seed: 5, ..Spec::of_users(300) });
    world.set("GROUPS__MEMBERS", "assigned");
    world.set("CRAWL__GROUP_MEMBERS_PAGE_SIZE", "200");
    world.sync().await;
    let sim = world.server.sim();
    assert_eq!(sim.requests.total(), sim.org.minimum_requests(&PageSizes::default(), in_scope).total() + 1);
}

fn endpoint_limits(world: &World) -> BTreeMap<&'static str, Option<(usize, usize)>> {
    world.server.sim().requests.counts().map(|(endpoint, count)| (endpoint, count.limits)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_the_form_that_the_facts_ask_for() {
    let world = World::new(&Spec { seed: 6, ..Spec::of_users(450) });
    world.sync_whole().await;
    let both = |limit| Some((limit, limit));
    let expected: BTreeMap<&str, Option<(usize, usize)>> = [
        ("/.well-known/okta-organization", None),
        ("/api/v1/apps", both(200)),
        ("/api/v1/apps/*/groups", both(200)),
        ("/api/v1/apps/*/users", both(500)),
        ("/api/v1/groups", both(200)),
        ("/api/v1/groups/*/users", both(usize::try_from(world.settings().page_sizes.group_members).unwrap())),
        ("/api/v1/logs", both(1_000)),
        ("/api/v1/users", both(200)),
    ]
    .into();
    assert_eq!(endpoint_limits(&world), expected);
    let records: Vec<RequestRecord> = world.server.sim().requests.records().cloned().collect();
    assert!(records.iter().all(|record| record.method == "GET"));
    assert_eq!(world.server.sim().requests.violations(), 0);
    // Public metadata first, without the credential; then the log, before anything is listed (facts 11).
    let order: Vec<&str> = records.iter().map(|record| record.endpoint).take(2).collect();
    assert_eq!(order, ["/.well-known/okta-organization", "/api/v1/logs"]);
    // A few minutes back by the org's clock, which is months behind ours here.
    assert_eq!(world.server.sim().org.now_ms(), okta_sim::org::START_MS);
    assert!(records[1].query.contains("since=2026-08-03T05%3A5"), "{}", records[1].query);
    for record in &records {
        assert_eq!(record.has_authorization, record.endpoint != "/.well-known/okta-organization", "{record:?}");
        let content_type = record.content_type.as_deref().unwrap_or_default();
        let omits =
            content_type.contains("okta-response=\"omitCredentials,omitCredentialsLinks,omitTransitioningToStatus\"");
        assert_eq!(omits, record.endpoint == "/api/v1/users", "{record:?}");
        assert!(content_type.starts_with("application/json"), "{record:?}");
    }
    let users: Vec<&RequestRecord> = records.iter().filter(|record| record.endpoint == "/api/v1/users").collect();
    assert!(users.iter().all(|record| record.query.contains("search=status%20pr")), "{users:?}");
    assert_eq!(users.iter().map(|record| record.page).collect::<Vec<_>>(), [1, 2, 3]);
    let groups = records.iter().filter(|record| record.endpoint == "/api/v1/groups");
    assert!(groups.clone().count() > 0 && groups.clone().all(|record| record.query.contains("expand=stats")));
    let everyone = format!("/api/v1/groups/{}/users", world.server.sim().org.everyone().id());
    assert!(records.iter().all(|record| record.path != everyone), "Everyone is never walked");
}

/// The configured sizes are the ones asked for, on following pages too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configured_page_sizes_are_asked_for() {
    let world = World::paged(60, 7);
    world.sync_whole().await;
    let limits = endpoint_limits(&world);
    for (endpoint, limit) in [
        ("/api/v1/apps", 5),
        ("/api/v1/apps/*/groups", 20),
        ("/api/v1/apps/*/users", 20),
        ("/api/v1/groups", 5),
        ("/api/v1/groups/*/users", 10),
        ("/api/v1/users", 20),
    ] {
        assert_eq!(limits[endpoint], Some((limit, limit)), "{endpoint}");
    }
}

//! Full crawls: the store equals the org, with the fewest requests.

use okta_sim::{Org, PageSizes, Spec};

use crate::harness::World;

fn in_scope(app: &okta_sim::org::TruthApp) -> bool {
    !(app.name == "saasure" || app.name.starts_with("okta_") || app.oauth_type == Some("service"))
}

/// N_full of facts 12.1 for the members of all groups that have some.
fn minimum(org: &Org) -> usize {
    let minimum = org.minimum_requests(&PageSizes::default(), in_scope);
    let walked = org.truth_groups().filter(|group| group.id != org.everyone().id() && group.members > 0);
    minimum.total() - minimum.members + walked.map(|group| group.members.div_ceil(1000)).sum::<usize>()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_equals_the_org_with_the_fewest_requests() {
    for (users, seed) in [(10, 1), (300, 2), (3_000, 3)] {
        let world = World::new(&Spec { seed, ..Spec::of_users(users) });
        let report = world.sync().await;
        assert_eq!(report.open_gaps, Vec::new(), "users {users} seed {seed}");
        world.assert_equal();
        let sim = world.server.sim();
        let minimum = minimum(&sim.org);
        let sent = sim.requests.total();
        println!("users {users}: {sent} requests, minimum {minimum}, rows {:?}", report.meta.rows);
        // The one more is the org's public metadata, which binds the store to the org.
        assert!(sent <= minimum + 1, "users {users} seed {seed}: {sent} requests, minimum {minimum}");
        assert_eq!(sim.requests.violations(), 0);
    }
}

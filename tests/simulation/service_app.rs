//! Following as a service app: tokens end, a scope is missing and comes, and no restart is needed.

use std::time::{Duration, Instant};

use crate::converge::Watcher;
use crate::engine::{Engine, hurry};
use crate::harness::World;
use crate::story::Story;

/// The open gaps of a store, by id; `None` before there is one.
fn gaps(world: &World) -> Option<Vec<String>> {
    let reader = okta_idmap::store::Reader::open(&world.settings().dir).ok()?;
    let gaps = reader.read(|snapshot| snapshot.gaps(true, 100)).unwrap();
    Some(gaps.iter().map(|record| record.gap.id().to_string()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_that_is_granted_while_it_follows_closes_its_gap() {
    for drops_ungranted in [true, false] {
        let mut world = World::paged(40, 51);
        world.as_service_app(|app| {
            (app.expires_in_s, app.drops_ungranted) = (2, drops_ungranted);
            app.granted.remove("okta.groups.read");
        });
        let mut settings = world.settings();
        hurry(&mut settings, None, Duration::from_secs(3_600));
        let engine = Engine::start(&settings).await;
        let begun = Instant::now();
        while !gaps(&world).is_some_and(|gaps| gaps.iter().any(|id| id == "SCOPE_MISSING:groups")) {
            assert!(begun.elapsed() < Duration::from_secs(20), "no gap: {:?}", gaps(&world));
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        {
            let mut sim = world.server.sim();
            sim.oauth.apps[0].granted.insert("okta.groups.read".to_owned());
            sim.oauth.expire_tokens();
        }
        let mut watcher = Watcher::new(settings, Story::new());
        watcher.converge(&world, &mut || engine.has_ended(), 0).await;
        engine.stop().await;
        watcher.assert_index();
        let sim = world.server.sim();
        assert_eq!(sim.requests.violations(), 0);
        assert!(sim.oauth.issued > 1);
    }
}

//! Following as a service app: tokens end, a scope is missing and comes, and no restart is needed.

use std::time::{Duration, Instant};

use crate::converge::Watcher;
use crate::engine::{Engine, hurry};
use crate::harness::World;
use crate::slots;
use crate::story::Story;

/// The open gaps of a store, by id; `None` before there is one.
fn gaps(world: &World) -> Option<Vec<String>> {
    let reader = okta_idmap::store::Reader::open(&world.settings().dir).ok()?;
    let gaps = reader.read(|snapshot| snapshot.gaps(true, 100)).unwrap();
    Some(gaps.iter().map(|record| record.gap.id().to_string()).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_that_is_granted_while_it_follows_closes_its_gap() {
    let _slot = slots::take();
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
        let mut watcher = Watcher::new(settings, Story::new(), (|_| true, |_| true));
        watcher.converge(&world, &mut || engine.has_ended(), 0).await;
        engine.stop().await;
        watcher.assert_index();
        let sim = world.server.sim();
        assert_eq!(sim.requests.violations(), 0);
        assert!(sim.oauth.issued > 1);
    }
}

/// The open gaps, once one of them is of this kind.
async fn wait_for_gap(world: &World, kind: &str) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let open = gaps(world).unwrap_or_default();
        if open.iter().any(|id| id.starts_with(kind)) {
            return open;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "no gap {kind}: {open:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// While the key is revoked the last state is served and the gaps say so; once it is back, what changed meanwhile is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_revoked_while_it_serves_is_told_and_used_again() {
    let _slot = slots::take();
    use okta_idmap_proto::v1::coverage_client::CoverageClient;
    use okta_idmap_proto::v1::{GetStatusRequest, ListGapsRequest};

    let mut world = World::paged(40, 52);
    world.as_service_app(|app| (app.expires_in_s, app.requires_proof) = (2, true));
    world.server.sim().oauth.token_nonces.change_to("nonce");
    let mut settings = world.settings();
    hurry(&mut settings, None, Duration::from_secs(3_600));
    let engine = Engine::start(&settings).await;
    let mut watcher = Watcher::new(settings, Story::new(), (|_| true, |_| true));
    watcher.converge(&world, &mut || engine.has_ended(), 0).await;
    {
        let mut sim = world.server.sim();
        sim.oauth.apps[0].keys[0].is_revoked = true;
        sim.oauth.expire_tokens();
    }
    let open = wait_for_gap(&world, "UNAUTHORIZED").await;
    assert!(!engine.has_ended(), "{open:?}");
    let mut client = CoverageClient::connect(format!("http://{}", engine.address())).await.unwrap();
    let begun = Instant::now();
    loop {
        let status = format!("{:?}", client.get_status(GetStatusRequest::default()).await.unwrap().into_inner());
        let gaps = format!("{:?}", client.list_gaps(ListGapsRequest::default()).await.unwrap().into_inner());
        if status.contains("state: Refused") && gaps.contains("no active key with id kid1") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "the reason is not told: {status} {gaps}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    {
        let mut sim = world.server.sim();
        let group = sim.org.create_group("made-while-the-key-was-away");
        let user = sim.org.administrator();
        sim.org.add_member(user, group).unwrap();
        sim.oauth.apps[0].keys[0].is_revoked = false;
    }
    watcher.converge(&world, &mut || engine.has_ended(), 0).await;
    let begun = Instant::now();
    while !gaps(&world).unwrap_or_default().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "gaps stay: {:?}", gaps(&world));
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    engine.stop().await;
    watcher.assert_index();
    assert_eq!(world.server.sim().requests.violations(), 0);
}

/// Short tokens, proofs with nonces that change at both ends, and a clock that is wrong, all at once and while it follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_through_nonces_that_change_and_tokens_that_end() {
    let _slot = slots::take();
    let mut world = World::paged(40, 53);
    world.as_service_app(|app| (app.expires_in_s, app.requires_proof) = (1, true));
    {
        let mut sim = world.server.sim();
        let oauth = &mut sim.oauth;
        oauth.skew_s_max = 60;
        for (nonces, kept, every) in [(&mut oauth.token_nonces, 0, 1), (&mut oauth.read_nonces, 1, 7)] {
            (nonces.kept, nonces.answers_per_nonce) = (kept, every);
            nonces.change_to("nonce");
        }
    }
    let mut settings = world.settings();
    hurry(&mut settings, None, Duration::from_secs(3_600));
    let engine = Engine::start(&settings).await;
    let mut watcher = Watcher::new(settings, Story::new(), (|_| true, |_| true));
    watcher.converge(&world, &mut || engine.has_ended(), 0).await;
    for round in 0..6 {
        {
            let mut sim = world.server.sim();
            let group = sim.org.create_group(&format!("round-{round}"));
            let user = sim.org.administrator();
            sim.org.add_member(user, group).unwrap();
            if round % 2 == 0 {
                sim.oauth.expire_tokens();
            }
        }
        watcher.converge(&world, &mut || engine.has_ended(), 0).await;
    }
    engine.stop().await;
    watcher.assert_index();
    assert_eq!(gaps(&world).unwrap_or_default(), crate::harness::NO_GAPS);
    let sim = world.server.sim();
    assert_eq!(sim.requests.violations(), 0);
    assert!(sim.oauth.issued > 3, "{}", sim.oauth.issued);
}

//! Full crawls of a well-behaved org: the store equals the org, before and after changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use okta_idmap_index::Query;
use okta_sim::Spec;

use crate::harness::{NO_GAPS, World, gap_ids};
use crate::picture::Want;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_equals_the_org() {
    for (users, seed) in [(1, 1), (10, 4), (60, 5), (200, 6), (201, 7), (500, 8)] {
        World::new(&Spec { seed, ..Spec::of_users(users) }).sync_whole().await;
    }
    // The same with many pages a list.
    for (users, seed) in [(1, 9), (19, 10), (20, 11), (150, 12)] {
        World::paged(users, seed).sync_whole().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_org_is_read_again_without_a_write() {
    for seed in [21, 22] {
        let world = World::paged(80, seed);
        let first = world.sync_whole().await;
        let sent = world.requests();
        for round in 0..2 {
            world.forget_requests();
            let again = world.sync_whole().await;
            assert_eq!(again.meta.revision, first.meta.revision, "seed {seed} round {round}");
            assert_eq!(world.changes_after(first.meta.revision), 0, "seed {seed} round {round}");
            assert_eq!(world.requests(), sent, "seed {seed} round {round}");
            assert_eq!(again.meta.crawl.id.0, first.meta.crawl.id.0 + 1 + round);
            assert_eq!(again.meta.rows, first.meta.rows);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crawl_after_changes_equals_the_org_again() {
    for seed in 31..35 {
        let mut world = World::paged(90, seed);
        // The brake has tests of its own; here whatever is gone has to go.
        world.set("BRAKE__ROWS", "1000000");
        world.sync_whole().await;
        let mut random = Rng::with_seed(seed);
        for _ in 0..3 {
            {
                let org = &mut world.server.sim().org;
                org.advance_ms(61_000);
                for _ in 0..150 {
                    org.random_mutation(&mut random);
                }
                org.run_all_jobs();
            }
            let before = world.meta().revision;
            let after = world.sync_whole().await.meta.revision;
            assert!(after > before, "seed {seed}");
        }
    }
}

/// The counters that the status shows are those of the rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counts_are_those_of_the_rows() {
    let mut world = World::paged(60, 41);
    world.set("BRAKE__ROWS", "1000000");
    let mut random = Rng::with_seed(41);
    for _ in 0..3 {
        world.sync_whole().await;
        let (picture, meta) = (world.picture(), world.meta());
        let counted = |prefix: &str, kind: okta_idmap::core::model::Kind| {
            assert_eq!(picture.count(prefix) as u64, meta.rows[&kind], "{prefix}");
        };
        counted("user ", okta_idmap::core::model::Kind::User);
        counted("group ", okta_idmap::core::model::Kind::Group);
        counted("app ", okta_idmap::core::model::Kind::App);
        counted("app_user ", okta_idmap::core::model::Kind::AppUser);
        counted("app_group ", okta_idmap::core::model::Kind::AppGroup);
        // `Everyone` has no rows of its own.
        let everyone = world.server.sim().org.everyone().id();
        let members = picture.count("member ") - picture.count(&format!("member {everyone} "));
        assert_eq!(members as u64, meta.rows[&okta_idmap::core::model::Kind::GroupMember]);
        let org = &mut world.server.sim().org;
        for _ in 0..100 {
            org.random_mutation(&mut random);
        }
        org.run_all_jobs();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_and_groups_are_found_by_name() {
    let world = World::new(&Spec { seed: 51, ..Spec::of_users(300) });
    world.sync_whole().await;
    let index = okta_idmap_index::open_read_only(&world.settings().index_dir()).unwrap();
    let find = |text: &str| -> Vec<String> {
        let hits = index.search(&Query { limit: 100, facets: false, ..Query::new(text) }).unwrap().hits;
        hits.into_iter().map(|hit| hit.key).collect()
    };
    let (users, groups, apps): (Vec<_>, Vec<_>, Vec<_>) = {
        let org = &world.server.sim().org;
        (org.truth_users().collect(), org.truth_groups().collect(), org.truth_apps().collect())
    };
    let mut found = 0;
    for (last_name, query) in [
        ("Müller", "kind:user müller"),
        ("Müller", "kind:user mueller"),
        ("O'Brien", "kind:user o'brien"),
        ("O'Brien", "kind:user obrien"),
        ("Łukasz", "kind:user lukasz"),
        ("Weiß", "kind:user weiss"),
        ("太郎", "kind:user 太郎"),
        ("Иванова", "kind:user ИВАНОВА"),
    ] {
        let keys = find(query);
        let is_named = |name: &Option<String>| name.as_deref() == Some(last_name);
        for user in users.iter().filter(|user| is_named(&user.last_name) || is_named(&user.first_name)) {
            assert!(keys.contains(&format!("user/{}", user.id)), "{query} does not find {user:?}: {keys:?}");
            found += 1;
        }
    }
    assert!(found > 30, "the org has too few of these names: {found}");
    for group in groups.iter().filter(|group| ["Équipe Paris", "R&D <core>", "チーム東京"].contains(&&*group.name))
    {
        let keys = find(&format!("kind:group \"{}\"", group.name));
        assert!(keys.contains(&format!("group/{}", group.id)), "{}: {keys:?}", group.name);
    }
    let app = apps.iter().find(|app| app.label.starts_with("Größentool")).unwrap();
    assert!(find("kind:app groessentool").contains(&format!("app/{}", app.id)));
    let login = &users[7].login;
    assert!(find(&format!("kind:user \"{login}\"")).contains(&format!("user/{}", users[7].id)), "{login}");
}

/// No picture of an org that changes all the time is right; but the crawl ends, and the next one in quiet is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_org_that_changes_meanwhile_is_right_once_quiet() {
    for seed in [61, 62] {
        let mut world = World::paged(120, seed);
        world.set("BRAKE__ROWS", "1000000");
        let done = AtomicBool::new(false);
        let crawls = std::thread::scope(|threads| {
            threads.spawn(|| {
                let mut random = Rng::with_seed(seed);
                while !done.load(Ordering::Relaxed) {
                    let mut sim = world.server.sim();
                    for _ in 0..3 {
                        sim.org.random_mutation(&mut random);
                    }
                    sim.org.advance_ms(100);
                    drop(sim);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let crawls = tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(async {
                    let first = world.try_sync().await;
                    (first, world.try_sync().await)
                })
            });
            done.store(true, Ordering::Relaxed);
            crawls
        });
        crawls.0.unwrap();
        crawls.1.unwrap();
        world.server.sim().org.run_all_jobs();
        let report = world.sync().await;
        assert_eq!(gap_ids(&report), NO_GAPS, "seed {seed}");
        world.assert_equal_to(&Want::default());
    }
}

/// What happened after the log position was taken is still to be had from it: whoever follows misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_position_covers_everything_after_the_crawl_began() {
    let world = World::paged(30, 71);
    let position = world.server.sim().org.log_end();
    let report = world.sync_whole().await;
    let group = {
        let org = &mut world.server.sim().org;
        assert_eq!(org.log_end(), position, "a crawl writes nothing");
        org.create_group("made after the crawl").id()
    };
    let cursor = report.meta.cursor.unwrap().0;
    let target = cursor.strip_prefix(&world.server.base_url()).unwrap();
    let request =
        okta_sim::Request::get(target).with_header("Authorization", &format!("SSWS {}", crate::harness::TOKEN));
    let reply = world.server.sim().handle(&request);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(reply.body.contains(&group), "{}", reply.body);
}

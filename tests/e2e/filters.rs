//! Filters: what they keep out is nowhere, what they want is all there, and a change of them touches nothing else.

use okta_idmap::core::ids::GroupId;
use okta_idmap::core::model::Kind;
use okta_sim::Spec;
use okta_sim::org::TruthGroup;

use crate::harness::{NO_GAPS, World, gap_ids};
use crate::parts::{Groups, Outsiders, Users, all_groups, assert_nowhere, check, is_in, is_of, part_of_org};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_people_of_the_domains_are_stored() {
    for (domains, users) in [
        ("contractor.example", (|user| is_in(user, |domain| domain == "contractor.example")) as Users),
        ("ACME.example,acme-corp.EXAMPLE", |user| {
            is_in(user, |domain| domain == "acme.example" || domain == "acme-corp.example")
        }),
        ("*.acme.example", |user| is_of(user, "tochter.acme.example")),
        ("xn--mller-gmbh-9db.example", |user| is_in(user, |domain| domain == "müller-gmbh.example")),
    ] {
        let mut world = World::paged(150, 601);
        world.set("FILTER__MODE", "ciam");
        world.set("FILTER__EMAIL_DOMAINS", domains);
        let outsiders = Outsiders::add(&mut world.server.sim().org, "outside.test", 5);
        let report = world.sync().await;
        assert_eq!(gap_ids(&report), NO_GAPS, "{domains}");
        let (kept, all) = {
            let sim = world.server.sim();
            (sim.org.truth_users().filter(&users).count(), sim.org.truth_users().count())
        };
        assert!(kept > 0 && kept < all, "{domains}: {kept} of {all}");
        assert_eq!(report.filtered[&Kind::User], (all - kept) as u64, "{domains}");
        assert!(report.filtered[&Kind::AppUser] > 0 && report.filtered[&Kind::GroupMember] > 0);
        check(&world, users, all_groups, domains);
        assert_nowhere(world.dir.path(), &outsiders.names());
        outsiders.assert_known(&world, true);
        // Nothing is different the second time, and nothing is written.
        let revision = world.meta().revision;
        assert_eq!(world.sync().await.filtered, report.filtered, "{domains}");
        assert_eq!(world.meta().revision, revision, "{domains}");
        // Who is gone is not known to be kept out any more.
        for user in &outsiders.users {
            let org = &mut world.server.sim().org;
            if !org.delete_user(*user).unwrap() {
                org.delete_user(*user).unwrap();
            }
            org.run_all_jobs();
        }
        world.sync().await;
        check(&world, users, all_groups, domains);
        outsiders.assert_known(&world, false);
    }
}

/// A filter that is switched on, changed and switched off again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_longer_wanted_leaves_the_files() {
    let mut world = World::paged(120, 602);
    let outsiders = Outsiders::add(&mut world.server.sim().org, "outside.test", 8);
    world.sync_whole().await;
    assert!(
        std::panic::catch_unwind(|| assert_nowhere(world.dir.path(), &outsiders.names())).is_err(),
        "the test looks"
    );
    world.set("FILTER__EMAIL_DOMAINS", "acme.example,contractor.example");
    let users: Users = |user| is_in(user, |domain| domain == "acme.example" || domain == "contractor.example");
    // Nothing can be read: the purge does not wait for Okta.
    world.set("API_TOKEN", "00TokenThatOktaDoesNotKnow0000000000000000");
    let _ = world.try_sync().await;
    world.environment.retain(|(name, _)| name != "OKTA_IDMAP_API_TOKEN");
    let stored = world.picture();
    stored.assert_equals(&part_of_org(&world.server.sim(), users, all_groups), "purged");
    assert_nowhere(world.dir.path(), &outsiders.names());
    outsiders.assert_known(&world, true);
    let report = world.sync().await;
    assert_eq!(gap_ids(&report), NO_GAPS);
    check(&world, users, all_groups, "read again");
    assert_nowhere(world.dir.path(), &outsiders.names());
    // Narrower still, then other people, then everybody.
    world.set("FILTER__EMAIL_DOMAINS", "contractor.example");
    world.sync().await;
    check(&world, |user| is_in(user, |domain| domain == "contractor.example"), all_groups, "narrower");
    world.set("FILTER__EMAIL_DOMAINS", "outside.test");
    assert_eq!(gap_ids(&world.sync().await), NO_GAPS);
    check(&world, |user| is_in(user, |domain| domain == "outside.test"), all_groups, "others");
    outsiders.assert_known(&world, false);
    world.set("FILTER__EMAIL_DOMAINS", "");
    world.sync_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_by_name_and_by_origin() {
    let names = |group: &TruthGroup| group.name.contains("Eng") || group.name.contains("staff");
    let by_name: Groups = names;
    let okta_only: Groups = |group| group.kind.as_str() != "APP_GROUP";
    let both: Groups = |group| group.kind.as_str() != "APP_GROUP" && group.name.contains("Eng");
    for (settings, groups) in [
        (&[("FILTER__GROUP_NAME_CONTAINS", "Eng,staff")][..], by_name),
        (&[("FILTER__SKIP_APP_GROUPS", "true")], okta_only),
        (&[("FILTER__SKIP_APP_GROUPS", "true"), ("FILTER__GROUP_NAME_CONTAINS", "Eng")], both),
    ] {
        for members in ["all", "assigned"] {
            let mut whole = World::paged(150, 603);
            whole.set("GROUPS__MEMBERS", members);
            whole.sync().await;
            let unfiltered = whole.requests();
            let mut world = World::paged(150, 603);
            world.set("GROUPS__MEMBERS", members);
            for (key, value) in settings {
                world.set(key, value);
                whole.set(key, value);
            }
            let report = world.sync().await;
            assert_eq!(gap_ids(&report), NO_GAPS);
            assert!(world.requests() < unfiltered, "{} requests, {unfiltered} without", world.requests());
            let unasked = |world: &World| {
                let sim = world.server.sim();
                let ids: Vec<String> =
                    sim.org.truth_groups().filter(|group| !groups(group)).map(|group| group.id).collect();
                let asked: Vec<String> = sim.requests.records().map(|record| record.path.clone()).collect();
                ids.iter().all(|id| !asked.contains(&format!("/api/v1/groups/{id}/users")))
            };
            assert!(unasked(&world), "members of groups that are not wanted");
            let sim_groups = world.server.sim().org.truth_groups().filter(|group| !groups(group)).count();
            assert_eq!(report.filtered[&Kind::Group], sim_groups as u64);
            if members == "all" {
                check(&world, |_| true, groups, &format!("{settings:?}"));
                // Switched on later: purged without a crawl, and the crawl then finds nothing to do.
                whole.forget_requests();
                whole.sync().await;
                assert!(unasked(&whole));
                check(&whole, |_| true, groups, &format!("{settings:?} switched on"));
                let dropped = whole.server.sim().org.truth_groups().find(|group| !groups(group)).unwrap();
                let id = GroupId::new(&dropped.id).unwrap();
                assert!(whole.reader().read(|snapshot| snapshot.is_filtered_group(&id)).unwrap());
                for (key, _) in settings {
                    whole.set(key, "");
                }
                whole.sync_whole().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secondary_emails_are_left_out() {
    let mut world = World::paged(150, 604);
    world.sync_whole().await;
    let texts: Vec<String> = (1..=150).map(|n| format!("home{n}@private.example")).collect();
    assert!(std::panic::catch_unwind(|| assert_nowhere(world.dir.path(), &texts)).is_err(), "the test looks");
    let whole = world.picture();
    world.set("FILTER__SKIP_SECONDARY_EMAILS", "true");
    world.sync_whole().await;
    assert_eq!(world.picture(), whole);
    assert_nowhere(world.dir.path(), &texts);
    let mut fresh = World::paged(150, 604);
    fresh.set("FILTER__SKIP_SECONDARY_EMAILS", "true");
    fresh.sync_whole().await;
    assert_nowhere(fresh.dir.path(), &texts);
    world.set("FILTER__SKIP_SECONDARY_EMAILS", "false");
    world.sync_whole().await;
    assert!(std::panic::catch_unwind(|| assert_nowhere(world.dir.path(), &texts)).is_err(), "they are back");
}

/// Domain and group filters together, of an org that is read under many seeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_add_up() {
    for seed in 610..614 {
        let mut world = World::new(&Spec { seed, ..Spec::of_users(90) });
        world.small_pages();
        world.set("FILTER__EMAIL_DOMAINS", "*.acme.example,contractor.example");
        world.set("FILTER__GROUP_NAME_CONTAINS", "Eng");
        world.set("FILTER__SKIP_APP_GROUPS", "true");
        assert_eq!(gap_ids(&world.sync().await), NO_GAPS);
        let users: Users =
            |user| is_in(user, |domain| domain == "tochter.acme.example" || domain == "contractor.example");
        let groups: Groups = |group| group.kind.as_str() != "APP_GROUP" && group.name.contains("Eng");
        check(&world, users, groups, &format!("seed {seed}"));
        for (key, value) in [("GROUP_NAME_CONTAINS", ""), ("EMAIL_DOMAINS", ""), ("SKIP_APP_GROUPS", "false")] {
            world.set(&format!("FILTER__{key}"), value);
            assert_eq!(gap_ids(&world.sync().await), NO_GAPS, "seed {seed} {key}");
        }
        world.assert_equal();
    }
}

/// Whom the list of users does not show yet, but accounts name: asked for by id before the crawl ends, and then read like the
/// others; also where they turn out not to be wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_named_but_not_listed_is_asked_for() {
    for (domains, users) in [
        (
            "contractor.example,outside.test",
            (|user| is_in(user, |domain| domain == "contractor.example" || domain == "outside.test")) as Users,
        ),
        ("contractor.example", |user| is_in(user, |domain| domain == "contractor.example")),
    ] {
        let mut world = World::paged(60, 620);
        world.set("FILTER__EMAIL_DOMAINS", domains);
        let outsiders = Outsiders::add(&mut world.server.sim().org, "outside.test", 3);
        // The list is made from an index that lags behind.
        world.server.sim().quirks.index_lag_ms = 3_600_000;
        world.sync().await;
        check(&world, users, all_groups, domains);
        outsiders.assert_known(&world, domains == "contractor.example");
        let by_id = outsiders.users.iter().map(|user| format!("/api/v1/users/{}", user.id()));
        let sim = world.server.sim();
        for path in by_id {
            let asked = sim.requests.records().filter(|record| record.path == path).count();
            // Again where another list has named it while it was being asked for.
            assert!((1..=2).contains(&asked), "{path}: {asked}");
        }
    }
}

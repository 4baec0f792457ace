//! What the settings leave out is not stored, is not asked for, and goes when the settings change.

use okta_idmap::config::{Flags, Sources, load};
use okta_idmap::engine::OrgSettings;
use okta_idmap::engine::machine::CrawlOutcome;
use okta_sim::Spec;

use crate::harness::{NO_GAPS, World, assert_index, gap_ids, try_sync};
use crate::picture::{Picture, Want, is_active, is_built_in};

/// A first crawl under `settings`, then one of an older store under them: both hold exactly what `want` says.
async fn check(label: &str, settings: &[(&str, &str)], want: Want) {
    let world = || {
        let world = World::paged(70, 101);
        {
            let org = &mut world.server.sim().org;
            let app = org.truth_apps().find(|app| app.name == "salesforce" && app.users > 0 && app.groups > 0).unwrap();
            org.deactivate_app(okta_sim::AppRef::parse(&app.id).unwrap()).unwrap();
        }
        world
    };
    let (mut fresh, mut changed, mut plain) = (world(), world(), world());
    plain.sync_whole().await;
    changed.set("BRAKE__ROWS", "1000000");
    changed.sync_whole().await;
    for (key, value) in settings {
        fresh.set(key, value);
        changed.set(key, value);
        plain.set(key, value);
    }
    for (name, world) in [("new", &fresh), ("changed", &changed), ("changed, with the brake", &plain)] {
        let report = world.sync().await;
        assert_eq!(gap_ids(&report), NO_GAPS, "{label}, {name} store");
        let stored = world.picture();
        stored.assert_equals(&Picture::of_org(&world.server.sim(), &want), &format!("{label}, {name} store"));
        assert_index(&world.settings(), &stored, label);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_assigned_groups_only() {
    let want = Want { assigned_members: true, ..Want::default() };
    check("assigned", &[("GROUPS__MEMBERS", "assigned")], want).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_are_included_and_excluded() {
    let want = Want { app: |app| app.name == "salesforce" || app.label == "Jira (prod) 1", ..Want::default() };
    check("include", &[("APPS__INCLUDE", "salesforce,Jira (prod) 1")], want).await;
    let want = Want { app: |app| !is_built_in(app) && app.name != "salesforce", ..Want::default() };
    check("exclude", &[("APPS__EXCLUDE", "salesforce")], want).await;
    let want = Want { app: |_| true, ..Want::default() };
    check("built-in", &[("APPS__BUILT_IN", "true")], want).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assignments_that_are_not_wanted() {
    let want = Want { assignments: is_active, ..Want::default() };
    check("inactive", &[("FILTER__SYNC_INACTIVE_APPS", "false")], want).await;
}

/// A group that is assigned no longer, under unchanged settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_go_with_the_last_assignment() {
    let mut world = World::paged(70, 103);
    world.set("GROUPS__MEMBERS", "assigned");
    let want = Want { assigned_members: true, ..Want::default() };
    world.sync().await;
    world.assert_equal_to(&want);
    {
        let org = &mut world.server.sim().org;
        let apps: Vec<_> = org.truth_apps().map(|app| okta_sim::AppRef::parse(&app.id).unwrap()).collect();
        for app in apps {
            for group in org.truth_app_groups(app) {
                org.unassign_group(app, okta_sim::GroupRef::parse(&group.group_id).unwrap()).unwrap();
            }
        }
        org.run_all_jobs();
    }
    world.set("BRAKE__ROWS", "1000000");
    assert_eq!(gap_ids(&world.sync().await), NO_GAPS);
    world.assert_equal_to(&want);
}

/// What an earlier setting left out is read as soon as it is wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_newly_wanted_is_read() {
    let mut world = World::paged(70, 102);
    for (key, value) in [
        ("GROUPS__MEMBERS", "assigned"),
        ("FILTER__SYNC_INACTIVE_APPS", "false"),
        ("FILTER__SKIP_APP_GROUPS", "true"),
        ("APPS__INCLUDE", "salesforce"),
    ] {
        world.set(key, value);
    }
    world.sync().await;
    world.environment.clear();
    world.small_pages();
    world.sync_whole().await;
}

/// Two orgs in one data directory, crawled at the same time, know nothing of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_orgs_share_a_data_directory() {
    let worlds = [111, 112].map(|seed| World::new(&Spec { seed, ..Spec::of_users(40) }));
    let dir = tempfile::tempdir().unwrap();
    let names = ["north", "south"];
    let mut env = vec![("OKTA_IDMAP_DATA_DIR".to_owned(), dir.path().display().to_string())];
    for (name, world) in names.iter().zip(&worlds) {
        let upper = name.to_uppercase();
        env.push((format!("OKTA_IDMAP_ORGS__{upper}__DOMAIN"), world.server.base_url()));
        env.push((format!("OKTA_IDMAP_ORGS__{upper}__API_TOKEN"), crate::harness::TOKEN.to_owned()));
    }
    let sources = Sources { file: None, env, flags: Flags::default() };
    let (config, _) = load(sources, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
    let settings =
        names.map(|name| OrgSettings::from_config(&config, config.require_org(Some(name)).unwrap()).unwrap());
    for _ in 0..2 {
        let (north, south) = tokio::join!(try_sync(settings[0].clone()), try_sync(settings[1].clone()));
        for (report, (settings, world)) in [north, south].into_iter().zip(settings.iter().zip(&worlds)) {
            assert_eq!(report.unwrap().outcome, CrawlOutcome::Finished);
            let reader = okta_idmap::store::Reader::open(&settings.dir).unwrap();
            let stored = Picture::of_store(&reader);
            stored.assert_equals(&Picture::of_org(&world.server.sim(), &Want::default()), &settings.name);
            assert_index(settings, &stored, &settings.name);
        }
    }
}

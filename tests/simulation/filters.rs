//! Filters while an org is followed: people come into the domains and leave them, groups are renamed, and the filter itself is
//! another one after a restart.

use std::time::{Duration, Instant};

use okta_idmap::engine::OrgSettings;
use okta_sim::{ClockMode, GroupRef, NewUser, Org, ProfileUpdate, ServerConfig, Spec, UserRef};

use crate::engine::{Engine, hurry};
use crate::harness::World;
use crate::parts::{Groups, Outsiders, Users, all_groups, assert_nowhere, check, is_in, part_of_org};
use crate::slots;

/// No full crawl and no safety net comes by itself.
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// A change shows within this time, also on a slow machine.
const WAIT_MAX: Duration = Duration::from_secs(120);

const CONTRACTORS: Users = |user| is_in(user, |domain| domain == "contractor.example");
const ALL: Users = |_| true;
const ENGINEERS: Groups = |group| group.name.contains("Eng");

fn world(users: usize, seed: u64) -> World {
    let config = ServerConfig { clock: ClockMode::Wall, seed, ..ServerConfig::default() };
    World::served(Org::generate(&Spec { seed, ..Spec::of_users(users) }), config)
}

fn settings(world: &World) -> OrgSettings {
    let mut settings = world.settings();
    hurry(&mut settings, None, NEVER);
    settings
}

/// Waits until store and index show this part of the org and nobody owes anything.
async fn wait_for(world: &World, users: Users, groups: Groups, label: &str) {
    let until = Instant::now() + WAIT_MAX;
    loop {
        world.server.sim().org.run_all_jobs();
        let expected = part_of_org(&world.server.sim(), users, groups);
        let is_there = world.store_file().exists() && {
            let is_equal = world.picture().difference(&expected).is_none();
            let reader = world.reader();
            let owed = reader.read(|snapshot| snapshot.pending_count()).unwrap();
            let meta = world.meta();
            let index = okta_idmap_index::open_read_only(&world.settings().index_dir());
            let mark = index.ok().and_then(|index| index.mark()).map(|mark| mark.revision);
            owed == 0
                && meta.crawl.completed_at.is_some()
                && !meta.crawl.running
                && mark == Some(meta.revision.0)
                && is_equal
        };
        if is_there {
            return check(world, users, groups, label);
        }
        if Instant::now() > until {
            let owed = world.reader().read(|snapshot| snapshot.pending_reads()).unwrap();
            let difference = world.picture().difference(&expected);
            panic!("{label}: {owed:?} {difference:?} {:?}", world.meta());
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn move_to(world: &World, user: UserRef, login: &str) {
    let update =
        ProfileUpdate { login: Some(login.to_owned()), email: Some(login.to_owned()), ..ProfileUpdate::default() };
    world.server.sim().org.update_profile(user, &update).unwrap();
}

/// Requests since they were last forgotten, but for polls of the log and the metadata of the start.
fn asked(world: &World) -> Vec<String> {
    let sim = world.server.sim();
    let of_interest = |endpoint: &str| endpoint != "/api/v1/logs" && endpoint != "/.well-known/okta-organization";
    let records = sim.requests.records().filter(|record| of_interest(record.endpoint));
    records.map(|record| format!("{}?{}", record.path, record.query)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_come_and_go() {
    let _slot = slots::take();
    let mut world = world(120, 701);
    world.set("FILTER__EMAIL_DOMAINS", "contractor.example");
    let outsiders = Outsiders::add(&mut world.server.sim().org, "outside.test", 6);
    let engine = Engine::start(&settings(&world)).await;
    wait_for(&world, CONTRACTORS, all_groups, "first crawl").await;
    assert_nowhere(world.dir.path(), &outsiders.names());
    outsiders.assert_known(&world, true);

    // They are given more, while nobody stores them.
    let group = {
        let org = &mut world.server.sim().org;
        let group = org.create_group("qz group");
        for user in &outsiders.users {
            org.add_member(*user, group).unwrap();
        }
        org.assign_group(outsiders.app, group).ok();
        group
    };
    wait_for(&world, CONTRACTORS, all_groups, "more of those outside").await;
    assert_nowhere(world.dir.path(), &outsiders.names());

    // One comes in with everything that it has; one is new and inside; one is new and outside.
    move_to(&world, outsiders.users[0], "qzlogin0x@contractor.example");
    let new = |login: &str| {
        let org = &mut world.server.sim().org;
        let user = org.create_user(&NewUser::new(login).named("Qznew", "Qznew")).unwrap();
        org.activate_user(user).ok();
        org.add_member(user, group).unwrap();
        org.assign_user(outsiders.app, user).ok();
        user
    };
    let inside = new("inside@contractor.example");
    let outside = new("qzoutside@contractor.example.evil.test");
    wait_for(&world, CONTRACTORS, all_groups, "one came in").await;
    let hidden: Vec<String> = outsiders.names().into_iter().filter(|name| !name.ends_with("0x")).collect();
    assert_nowhere(world.dir.path(), &hidden);
    assert_nowhere(world.dir.path(), &["qzoutside".to_owned()]);
    let has = world.picture();
    assert!(has.rows.contains_key(&format!("member {} {}", group.id(), outsiders.users[0].id())));
    assert!(has.rows.contains_key(&format!("app_user {} {}", outsiders.app.id(), outsiders.users[0].id())));

    // It leaves again, and so does the new one: of neither anything stays.
    move_to(&world, outsiders.users[0], "qzlogin0x@outside.test");
    move_to(&world, inside, "qzgone@outside.test");
    move_to(&world, outside, "qzcame@contractor.example");
    wait_for(&world, CONTRACTORS, all_groups, "they left").await;
    assert_nowhere(world.dir.path(), &outsiders.names());
    assert_nowhere(world.dir.path(), &["qzgone".to_owned(), "inside@contractor".to_owned()]);
    engine.cut_off().await;
    assert_nowhere(world.dir.path(), &outsiders.names());
    let engine = Engine::start(&settings(&world)).await;
    wait_for(&world, CONTRACTORS, all_groups, "after a kill").await;
    engine.stop().await;
    assert_nowhere(world.dir.path(), &outsiders.names());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_renamed() {
    let _slot = slots::take();
    let mut world = world(100, 702);
    world.set("FILTER__GROUP_NAME_CONTAINS", "Eng");
    let engine = Engine::start(&settings(&world)).await;
    wait_for(&world, ALL, ENGINEERS, "first crawl").await;
    let rename = |pick: Groups, name: &str| {
        let org = &mut world.server.sim().org;
        let group =
            org.truth_groups().find(|group| group.kind.as_str() == "OKTA_GROUP" && group.members > 0 && pick(group));
        org.rename_group(GroupRef::parse(&group.unwrap().id).unwrap(), name).unwrap();
    };
    rename(ENGINEERS, "Others now");
    wait_for(&world, ALL, ENGINEERS, "one is out").await;
    for n in 0..3 {
        rename(|group| !group.name.contains("Eng"), &format!("Eng again {n}"));
        wait_for(&world, ALL, ENGINEERS, "one is in").await;
    }
    engine.stop().await;
}

/// What another filter asks for at the start, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_filter_costs_what_it_needs() {
    let _slot = slots::take();
    let mut world = world(200, 703);
    let outsiders = Outsiders::add(&mut world.server.sim().org, "outside.test", 6);
    let engine = Engine::start(&settings(&world)).await;
    wait_for(&world, ALL, all_groups, "everybody").await;
    engine.cut_off().await;

    // Narrower: nothing is read.
    world.set("FILTER__EMAIL_DOMAINS", "contractor.example");
    world.forget_requests();
    let engine = Engine::start(&settings(&world)).await;
    wait_for(&world, CONTRACTORS, all_groups, "narrower").await;
    assert_eq!(asked(&world), Vec::<String>::new());
    assert_nowhere(world.dir.path(), &outsiders.names());
    outsiders.assert_known(&world, true);
    engine.cut_off().await;

    // A few more people: the list of users, and two requests for each.
    world.set("FILTER__EMAIL_DOMAINS", "contractor.example,outside.test");
    world.forget_requests();
    let engine = Engine::start(&settings(&world)).await;
    let both: Users = |user| is_in(user, |domain| domain == "contractor.example" || domain == "outside.test");
    wait_for(&world, both, all_groups, "some more").await;
    let asked_for = asked(&world);
    let of_users = |path: &str| path.starts_with("/api/v1/users?");
    let pages = world.server.sim().org.truth_users().count().div_ceil(200);
    assert_eq!(asked_for.iter().filter(|path| of_users(path)).count(), pages, "{asked_for:?}");
    assert_eq!(asked_for.len() - pages, 2 * outsiders.users.len(), "{asked_for:?}");
    engine.stop().await;

    // Everybody: the users and then the lists that name them, each once.
    world.set("FILTER__EMAIL_DOMAINS", "");
    world.forget_requests();
    let engine = Engine::start(&settings(&world)).await;
    wait_for(&world, ALL, all_groups, "everybody again").await;
    let asked_for = asked(&world);
    let is_needed = |path: &String| {
        let path = path.split('?').next().unwrap_or_default();
        path.ends_with("/users")
    };
    let others: Vec<&String> = asked_for.iter().filter(|path| !is_needed(path)).collect();
    assert!(others.is_empty(), "{others:?}");
    engine.stop().await;

    // Groups: out without a request, in again by the list of groups and what hangs on them.
    world.set("FILTER__GROUP_NAME_CONTAINS", "Eng");
    world.forget_requests();
    let engine = Engine::start(&settings(&world)).await;
    wait_for(&world, ALL, ENGINEERS, "fewer groups").await;
    assert_eq!(asked(&world), Vec::<String>::new());
    engine.stop().await;
    world.set("FILTER__GROUP_NAME_CONTAINS", "");
    world.forget_requests();
    let engine = Engine::start(&settings(&world)).await;
    wait_for(&world, ALL, all_groups, "all groups again").await;
    let users_asked = asked(&world).into_iter().filter(|path| of_users(path)).count();
    assert_eq!(users_asked, 0, "{:?}", asked(&world));
    engine.stop().await;
}

//! `sync` alone, some crawls with time between them: what was deleted goes, as the log tells; what is hidden stays, and is
//! a gap. Entry points: the tests.

use std::collections::BTreeSet;

use okta_idmap::core::coverage::GapRecord;
use okta_sim::org::AppStatus;
use okta_sim::{Action, ApiToken, AppRef, Auth, ById, GroupRef, Refusal, Rule, Spec, UserRef, Way};

use crate::harness::{NO_GAPS, TOKEN, World, gap_ids};
use crate::slots;

const OTHER_TOKEN: &str = "00TanotherTokenOfTheTestOrg000000000000000";

/// An hour between two crawls: more than a crawl looks back into the log by itself.
const HOUR_MS: u64 = 3_600_000;

/// One user, one group and one app of an org.
struct Three {
    user: UserRef,
    group: GroupRef,
    app: AppRef,
}

fn three(world: &World, skip: usize) -> Three {
    let sim = world.server.sim();
    let everyone = sim.org.everyone().id();
    let user = sim.org.truth_users().skip(3 + skip).map(|user| user.id).next().unwrap();
    let mut groups = sim.org.truth_groups().filter(|group| group.id != everyone && group.members > 1);
    let is_source = |id: &str| sim.org.truth_groups().any(|group| group.source_app.as_deref() == Some(id));
    let mut apps = sim
        .org
        .truth_apps()
        .skip(3)
        .filter(|app| app.users > 1 && app.status == AppStatus::Active && !is_source(&app.id));
    Three {
        user: UserRef::parse(&user).unwrap(),
        group: GroupRef::parse(&groups.nth(skip).unwrap().id).unwrap(),
        app: AppRef::parse(&apps.nth(skip).unwrap().id).unwrap(),
    }
}

fn delete(world: &World, three: &Three) {
    let org = &mut world.server.sim().org;
    let _ = org.deactivate_user(three.user);
    org.run_all_jobs();
    org.delete_user(three.user).unwrap();
    org.delete_group(three.group).unwrap();
    org.run_all_jobs();
    org.deactivate_app(three.app).unwrap();
    org.delete_app(three.app).unwrap();
    org.run_all_jobs();
    org.advance_ms(HOUR_MS);
}

fn hide(world: &World, three: &Three, way: Way) {
    let mut sim = world.server.sim();
    sim.hidden.hide_user(&three.user.id(), way);
    sim.hidden.hide_group(&three.group.id(), way);
    sim.hidden.hide_app(&three.app.id(), way);
    sim.org.advance_ms(HOUR_MS);
}

fn world(seed: u64) -> World {
    World::new(&Spec { seed, ..Spec::of_users(60) })
}

fn unseen(three: &Three) -> BTreeSet<String> {
    [
        format!("UNSEEN_REFERENCE:user({})", three.user.id()),
        format!("UNSEEN_REFERENCE:group({})", three.group.id()),
        format!("UNSEEN_REFERENCE:app({})", three.app.id()),
    ]
    .into()
}

fn ids(gaps: &[GapRecord]) -> BTreeSet<String> {
    gaps.iter().map(|record| record.gap.id().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_goes() {
    let _slot = slots::take();
    let world = world(901);
    world.sync_whole().await;
    for skip in 0..3 {
        delete(&world, &three(&world, skip));
        // No gap, not even one that is closed again.
        world.sync_whole().await;
        let all = world.reader().read(|snapshot| snapshot.gaps(false, 100)).unwrap();
        assert!(all.is_empty(), "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_hidden_stays_and_is_a_gap() {
    let _slot = slots::take();
    for named in [false, true] {
        let world = world(902);
        world.sync_whole().await;
        let before = world.picture();
        let three = three(&world, 0);
        hide(&world, &three, Way { named, by_id: ById::NotFound });
        // It does not end by repetition.
        for round in 0..3 {
            let report = world.sync().await;
            let stored = world.picture();
            let lost: Vec<&String> = before.rows.keys().filter(|key| !stored.rows.contains_key(*key)).collect();
            assert!(lost.is_empty(), "round {round}: lost {lost:?}");
            let open = ids(&report.open_gaps);
            assert!(open.is_superset(&unseen(&three)), "round {round}: {open:?}");
            world.server.sim().org.advance_ms(HOUR_MS);
        }
        world.server.sim().behave();
        world.sync_whole().await;
    }
}

/// Both at once: the one is not taken for the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deleted_and_the_hidden_are_told_apart() {
    let _slot = slots::take();
    let world = world(903);
    world.sync_whole().await;
    let (deleted, hidden) = (three(&world, 0), three(&world, 1));
    hide(&world, &hidden, Way::default());
    delete(&world, &deleted);
    let report = world.sync().await;
    let open = ids(&report.open_gaps);
    assert!(open.is_superset(&unseen(&hidden)), "{open:?}");
    assert!(open.is_disjoint(&unseen(&deleted)), "{open:?}");
    let stored = world.picture();
    let has = |kind: &str, id: &str| stored.rows.contains_key(&format!("{kind} {id}"));
    for (three, expected) in [(&deleted, false), (&hidden, true)] {
        let found = [has("user", &three.user.id()), has("group", &three.group.id()), has("app", &three.app.id())];
        assert_eq!(found, [expected; 3]);
    }
    world.server.sim().behave();
    world.sync_whole().await;
}

/// What was deleted while the log cannot be read cannot be told from what is hidden, until the log can be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_log_deletions_wait() {
    let _slot = slots::take();
    let world = world(904);
    world.sync_whole().await;
    let three = three(&world, 0);
    delete(&world, &three);
    world.rule(Rule::on("/api/v1/logs", Action::Refuse(Refusal::Forbidden)));
    for _ in 0..2 {
        let report = world.sync().await;
        let open = gap_ids(&report);
        assert!(open.iter().any(|id| id.ends_with(":log")), "{open:?}");
        let stored = world.picture();
        assert!(stored.rows.contains_key(&format!("user {}", three.user.id())), "removed on hearsay: {open:?}");
    }
    world.server.sim().behave();
    world.sync_whole().await;
}

/// A walk with another credential is not compared with the older ones, whatever its role hides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_credential_with_a_narrower_role_removes_nothing() {
    let _slot = slots::take();
    let mut world = world(905);
    world.sync_whole().await;
    let before = world.picture();
    let three = three(&world, 0);
    {
        let mut sim = world.server.sim();
        let (admin, now_ms) = (sim.org.administrator(), sim.org.now_ms());
        let token = |(number, secret): (u32, &&str)| ApiToken::new(number, "t", secret, admin, now_ms);
        sim.auth = Auth::Ssws((0..).zip(&[TOKEN, OTHER_TOKEN]).map(token).collect());
        sim.hidden = okta_sim::Hidden::all_but(&sim.org, &[three.group.id()], &[three.app.id()]);
    }
    world.set("API_TOKEN", OTHER_TOKEN);
    for round in 0..2 {
        let report = world.sync().await;
        assert_ne!(gap_ids(&report), NO_GAPS, "round {round}");
        let stored = world.picture();
        let lost: Vec<&String> = before.rows.keys().filter(|key| !stored.rows.contains_key(*key)).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
    }
    world.server.sim().behave();
    world.sync_whole().await;
}

//! What following costs: one request for an idle poll, and for a burst no more than the facts say (12.2).
//!
//! Entry points: the two tests. The burst is one page of the log, with what Okta's jobs make of it; what the org itself
//! knows of it (how many users, apps and groups changed) gives the bound.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use okta_idmap::core::pending::Patience;
use okta_idmap::engine::OrgSettings;
use okta_sim::org::{GroupKind, TruthApp, UserStatus};
use okta_sim::{
    AppRef, ClockMode, GroupRef, NewApp, NewUser, Org, ProfileUpdate, RequestRecord, ServerConfig, Sim, Spec, UserRef,
};

use crate::converge::{Watcher, assert_requests};
use crate::engine::{Engine, hurry};
use crate::harness::World;
use crate::picture::is_built_in;
use crate::slots;
use crate::story::Story;

/// No crawl and no net comes within a test.
const NEVER: Duration = Duration::from_secs(24 * 3_600);

/// How long nothing happens: enough polls for one that is too many to show.
const IDLE: Duration = Duration::from_secs(3);

const LOGS: &str = "/api/v1/logs";

/// An org that is followed, with nothing left to do.
pub(crate) struct Followed {
    pub(crate) world: World,
    settings: OrgSettings,
    watcher: Watcher,
    engine: Engine,
}

impl Followed {
    async fn new(seed: u64) -> Self {
        Self::rigged(seed, |_| {}).await
    }

    /// With something that goes wrong from the first request on.
    pub(crate) async fn rigged(seed: u64, rig: impl FnOnce(&mut Sim)) -> Self {
        let config = ServerConfig { clock: ClockMode::Wall, seed, ..ServerConfig::default() };
        let world = World::served(Org::generate(&Spec { seed, ..Spec::of_users(100) }), config);
        rig(&mut world.server.sim());
        let mut settings = world.settings();
        hurry(&mut settings, None, NEVER);
        // Of what comes together on a slow machine nothing may fall into two rounds: the requests are counted.
        settings.follow.patience =
            Patience { debounce_millis: 60, quiet_millis: 300, quiet_millis_max: 1_500, later_millis: 1_200 };
        let watcher = Watcher::new(settings.clone(), Story::new(), (|_| true, |_| true));
        let engine = Engine::start(&settings).await;
        let mut followed = Self { world, settings, watcher, engine };
        followed.settle().await;
        followed
    }

    pub(crate) async fn settle(&mut self) {
        let engine = &self.engine;
        self.watcher.converge(&self.world, &mut || engine.has_ended(), 0).await;
    }

    /// Ends it; the index is the same as the store.
    pub(crate) async fn end(self) {
        self.engine.stop().await;
        self.watcher.assert_index();
    }

    pub(crate) fn records(&self) -> Vec<RequestRecord> {
        self.world.server.sim().requests.records().cloned().collect()
    }

    /// Makes a change, waits until it is followed, and compares the number of requests for each of the `bounds` (endpoints
    /// that share one) with what it may be. Whatever is not named must not be asked, but for the log.
    async fn check(&mut self, name: &str, bounds: &[(&[&str], usize)], change: impl FnOnce(&mut Org)) {
        self.world.forget_requests();
        let begun = Instant::now();
        {
            let org = &mut self.world.server.sim().org;
            change(org);
            org.run_all_jobs();
        }
        // The answer may be there before the last look at it is paid.
        self.settle().await;
        let records = self.records();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for record in &records {
            *counts.entry(record.endpoint).or_default() += 1;
        }
        let asked = || records.iter().filter(|record| record.endpoint != LOGS).map(|record| &record.path);
        for (endpoints, most) in bounds {
            let sent: usize = endpoints.iter().filter_map(|endpoint| counts.remove(endpoint)).sum();
            assert!(
                sent <= *most,
                "{name}: {sent} requests to {endpoints:?}, {most} are enough: {:?}",
                asked().collect::<Vec<_>>()
            );
        }
        let polls = counts.remove(LOGS).unwrap_or_default();
        assert!(polls <= most_polls(begun.elapsed(), &self.settings), "{name}: {polls} polls");
        assert!(counts.is_empty(), "{name}: {counts:?} is not needed: {:?}", asked().collect::<Vec<_>>());
    }
}

/// One at the beginning and one at the end may lie within any span; a page of events may ask for the next at once.
fn most_polls(span: Duration, settings: &OrgSettings) -> usize {
    usize::try_from(span.as_millis() / settings.follow.poll_interval.as_millis()).unwrap() + 2
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_poll_is_one_request() {
    let _slot = slots::take_all();
    let followed = Followed::new(1).await;
    followed.world.forget_requests();
    let begun = Instant::now();
    tokio::time::sleep(IDLE).await;
    let (records, most) = (followed.records(), most_polls(begun.elapsed(), &followed.settings));
    let others: Vec<&RequestRecord> = records.iter().filter(|record| record.endpoint != LOGS).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(records.len() <= most, "{} polls, {most} are enough", records.len());
    // A busy machine may be late, but not that late.
    assert!(records.len() * 3 > most, "{} polls where {most} were due", records.len());
    for record in &records {
        assert_eq!((record.status, record.items, &record.query), (200, 0, &records[0].query), "the position stays");
    }
    followed.engine.stop().await;
}

/// Apps that somebody can be assigned to and that create no accounts.
pub(crate) fn plain_apps(org: &Org) -> Vec<AppRef> {
    let is_plain = |app: &TruthApp| {
        app.status == okta_sim::org::AppStatus::Active
            && !is_built_in(app)
            && app.oauth_type != Some("service")
            && app.features.is_empty()
    };
    org.truth_apps().filter(is_plain).map(|app| AppRef::parse(&app.id).unwrap()).collect()
}

pub(crate) fn active_users(org: &Org, count: usize) -> Vec<UserRef> {
    let users = org.truth_users().filter(|user| user.status == UserStatus::Active).skip(1).take(count);
    let users: Vec<UserRef> = users.map(|user| UserRef::parse(&user.id).unwrap()).collect();
    assert_eq!(users.len(), count, "the org has too few users");
    users
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_costs_what_the_facts_say() {
    let _slot = slots::take_all();
    const USER: &str = "/api/v1/users/*";
    const GROUP: &str = "/api/v1/groups/*";
    const MEMBERS: &str = "/api/v1/groups/*/users";
    const APPS: &str = "/api/v1/apps";
    const APP: &str = "/api/v1/apps/*";
    const APP_USERS: &str = "/api/v1/apps/*/users";
    const APP_USER: &str = "/api/v1/apps/*/users/*";
    const APP_GROUPS: &str = "/api/v1/apps/*/groups";

    let mut followed = Followed::new(2).await;
    // Nothing that is filtered out or without effect is asked for.
    let noise = |org: &mut Org| {
        let user = org.administrator().id();
        for _ in 0..50 {
            org.emit_foreign_event("user.session.start", &[("User", &user)], true);
            org.emit_foreign_event("policy.evaluate_sign_on", &[("User", &user)], true);
        }
    };
    followed.check("noise", &[], noise).await;

    // D_u users: one request each.
    let renames = |org: &mut Org| {
        for user in active_users(org, 12) {
            let update = ProfileUpdate { last_name: Some("Renamed".to_owned()), ..ProfileUpdate::default() };
            org.update_profile(user, &update).unwrap();
        }
    };
    followed.check("12 renamed users", &[(&[USER], 12)], renames).await;

    // D_g groups and D_a apps: one request each.
    let labels = |org: &mut Org| {
        let is_plain = |kind: GroupKind| kind == GroupKind::Okta;
        let groups: Vec<String> =
            org.truth_groups().filter(|group| is_plain(group.kind)).map(|group| group.id).collect();
        for (number, group) in groups.iter().take(3).enumerate() {
            org.rename_group(GroupRef::parse(group).unwrap(), &format!("Group renamed {number}")).unwrap();
        }
        for (number, app) in plain_apps(org).into_iter().take(4).enumerate() {
            org.rename_app(app, &format!("App renamed {number}")).unwrap();
        }
    };
    followed.check("3 groups, 4 apps", &[(&[GROUP], 3), (&[APP], 4)], labels).await;

    // A new app: itself, and the lists that were never read.
    let (mut new_app, mut new_group) = (None, None);
    let bounds: [(&[&str], usize); 3] = [(&[APP], 1), (&[APP_USERS], 1), (&[APP_GROUPS], 1)];
    followed.check("a new app", &bounds, |org| new_app = Some(org.create_app(&NewApp::new("acme_wiki", "Wiki")))).await;
    let new_app = new_app.unwrap();

    // d_a pairs of one app: the app's list, which is one page, instead of d_a requests.
    let assign = |org: &mut Org| {
        for user in active_users(org, 15) {
            org.assign_user(new_app, user).unwrap();
        }
    };
    followed.check("15 users of one app", &[(&[APP_USERS, APP_USER], 1)], assign).await;

    // d_u pairs of one user: the user's apps in one request.
    let onboard = |org: &mut Org| {
        let user = org.create_user(&NewUser::new("new.joiner@acme.example").status(UserStatus::Active)).unwrap();
        for app in plain_apps(org).into_iter().take(4) {
            org.assign_user(app, user).unwrap();
        }
    };
    // What Everyone grants comes with it, from apps that may each have more pairs than this one.
    followed.check("a new user of 4 apps", &[(&[USER], 1), (&[APPS, APP_USER], 1)], onboard).await;

    // Memberships are applied; so soon after the walk the order is not clear, and the members are read once.
    followed
        .check("a new group", &[(&[GROUP], 1), (&[MEMBERS], 1)], |org| {
            new_group = Some(org.create_group("Wiki readers"))
        })
        .await;
    let new_group = new_group.unwrap();
    let join = |org: &mut Org| {
        for user in active_users(org, 20) {
            org.add_member(user, new_group).unwrap();
        }
    };
    followed.check("20 members", &[(&[MEMBERS], 1)], join).await;

    // A group gets an app: its assignments, the new pairs as one list, and that list once more when it is quiet.
    let grant = |org: &mut Org| {
        let app = plain_apps(org).into_iter().find(|app| *app != new_app).unwrap();
        org.assign_group(app, new_group).unwrap();
    };
    followed.check("a group gets an app", &[(&[APP_GROUPS], 1), (&[APP_USERS, APP_USER], 2)], grant).await;

    // A user leaves: itself, its apps now and at the second look, and one account by id, since an empty list proves nothing.
    let leave = |org: &mut Org| org.deactivate_user(active_users(org, 1)[0]).unwrap();
    followed.check("a user leaves", &[(&[USER], 1), (&[APPS, APP_USER], 3)], leave).await;

    // Deletions: one request each, everything that hangs on them goes with them.
    followed
        .check("an app goes", &[(&[APP], 2)], |org| {
            org.deactivate_app(new_app).unwrap();
            org.delete_app(new_app).unwrap();
        })
        .await;
    assert_requests(&followed.world);
    followed.engine.stop().await;
    followed.watcher.assert_index();
}

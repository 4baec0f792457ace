//! Copies of an org that changes at random, under a seed: whatever they answer is what the server answers.
//!
//! Entry points: [`a_copy_answers_what_the_server_answers`], where servers and clients come and go and all that can be asked is
//! compared; [`every_state_that_is_shown_is_one_that_the_server_had`]. A failure names the seed and the question.

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::client::{Answer, Phase, Reflector};
use okta_idmap::core::batch::Batch;
use okta_idmap::core::coverage::{CoveragePolicy, GapKind, OnGap};
use okta_idmap::core::ids::{AppId, GroupId, UserId};
use okta_idmap::core::model::{App, AppStatus, AppUser, AppUserStatus, Key, Row, Scope, User, UserStatus};
use okta_idmap::core::normalize::NameRule;
use okta_idmap::core::overrides::{OverrideName, OverrideSetting};
use okta_idmap::core::policy::{AliasSetting, GrantPolicySettings, NameRuleSetting};
use okta_idmap::core::resolve::{IdentifierKind, Override};
use okta_idmap::serve::{OrgView, Orgs, Services};
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::lookup_server::Lookup as _;
use tonic::Request;

use super::changes::forget_changes;
use super::door::Door;
use super::reflector::{PATIENCE, client, client_of, settings};
use super::world::{NOW, Server, World, account, app, app_user, member, now, user, user_id};

#[path = "copies_principals.rs"]
mod principals;

use self::principals::{Questions, SeenPrincipals, change_groups};

/// Names that come and go: few, so that people share and inherit them.
const NAMES: [&str; 14] = [
    "ann",
    "Ann",
    "bob",
    "carl@example.com",
    "Carl@Example.COM",
    "dora@example.com",
    "dora+x@example.com",
    "ｄora@example.com",
    "straße@example.com",
    "STRASSE@example.com",
    "x@bücher.example",
    "x@xn--bcher-kva.example",
    "0042",
    "eve",
];

const APPS: [&str; 6] = ["0oaeu", "0oaus", "0oashare", "0oaoff", "0oanew1", "0oanew2"];

/// Rules that make a difference; others with each restart that changes the configuration.
fn policy(random: &mut fastrand::Rng) -> GrantPolicySettings {
    let alias = |app: &str, name: &str, user: usize| AliasSetting {
        app: app.to_owned(),
        kind: IdentifierKind::Untyped,
        name: name.to_owned(),
        user: user_id(user),
    };
    let mut rule = |app: &str| {
        let rules = [NameRule::IgnoreCase, NameRule::Exact, NameRule::default()];
        NameRuleSetting { app: app.to_owned(), rule: random.choice(rules).unwrap() }
    };
    let usual = GrantPolicySettings::default();
    GrantPolicySettings {
        name_rules: vec![rule("0oaus"), rule("0oanew1"), rule("Jira EU")],
        second_email: random.u8(..4) > 0,
        aliases: vec![
            alias("0oaeu", "eve", random.usize(1..4)),
            alias(random.choice(["0oaus", "0oaeu"]).unwrap(), "Boss", 2),
            alias("0oaus", "nobody", random.usize(1..4)),
        ],
        quarantine_millis: usual.quarantine_millis * random.choice([1, 1, 2]).unwrap() / random.choice([1, 4]).unwrap(),
        app_user_statuses: [usual.app_user_statuses, vec!["STAGED".to_owned(); random.usize(..2)]].concat(),
        ..GrantPolicySettings::default()
    }
}

fn coverage_policy(random: &mut fastrand::Rng) -> CoveragePolicy {
    match random.u8(..3) {
        0 => CoveragePolicy::default(),
        1 => CoveragePolicy { on_gap: OnGap::Withhold, ..CoveragePolicy::default() },
        // All is read at the time of the question, or two days before.
        _ => CoveragePolicy {
            stale_after_millis: Some(86_400_000),
            max_stale_millis: Some(86_400_000),
            ..CoveragePolicy::default()
        },
    }
}

pub(super) fn question(app: &str, name: &str, kind: v1::IdentifierKind) -> v1::ResolveAccountRequest {
    v1::ResolveAccountRequest { account: account(app, name, kind), include_candidates: true, ..Default::default() }
}

/// Everything that is asked.
fn questions() -> Vec<v1::ResolveAccountRequest> {
    use v1::IdentifierKind::{Email, ExternalId, Unspecified, UserName};
    let unheard =
        ["nobody", "ANN", "Bob", "ann ", "user4", "user4@mail.example.com", "ghost", "dup", "ext-0oaeu-00u0002"];
    let further = ["Boss", "jira", "Jira EU", "JIRA eu", "nonsense"];
    let mut all = Vec::new();
    for app in APPS.iter().chain(&further) {
        for name in NAMES.iter().chain(&unheard).chain(&further[..1]) {
            all.extend([Unspecified, UserName, ExternalId, Email].map(|kind| question(app, name, kind)));
        }
    }
    all
}

/// An org that changes, and its server.
struct Sim {
    world: World,
    random: fastrand::Rng,
    services: Services,
    policy: GrantPolicySettings,
    coverage: CoveragePolicy,
    /// A copy of the store, to be put back some day.
    backup: Option<Vec<u8>>,
    /// How often an override was set, taken back or ended.
    overrides: usize,
    /// How often the server began with another configuration, and with an earlier store.
    reconfigured: usize,
    restored: usize,
}

impl Sim {
    async fn new(seed: u64) -> Self {
        let world = World::crawled().await;
        let mut random = fastrand::Rng::with_seed(seed);
        let (policy, coverage) = (policy(&mut random), coverage_policy(&mut random));
        let services = Services::new(Orgs::new([]), now);
        let (backup, overrides, reconfigured, restored) = (None, 0, 0, 0);
        let mut sim = Self { world, random, services, policy, coverage, backup, overrides, reconfigured, restored };
        sim.answer_anew();
        sim
    }

    /// What the copy is compared with is the present store under the present configuration.
    fn answer_anew(&mut self) {
        self.services = Services::new(Orgs::new([self.view()]), now);
    }

    fn view(&self) -> OrgView {
        self.world.view_with(&self.policy).with_coverage_policy(self.coverage)
    }

    /// What may happen while no server runs: another configuration, the process is another one, an earlier store is put back.
    fn between_servers(&mut self) {
        if self.random.bool() {
            (self.policy, self.coverage) = (policy(&mut self.random), coverage_policy(&mut self.random));
            self.reconfigured += 1;
        }
        if self.random.u8(..3) > 0 {
            let put_back = if self.random.u8(..3) > 0 { self.backup.take() } else { None };
            self.restored += usize::from(put_back.is_some());
            // Whoever reads the old one lets go of it.
            self.services = Services::new(Orgs::new([]), now);
            let content = self.world.reopen(put_back.as_deref());
            if put_back.is_none() {
                self.backup = Some(content);
            }
        }
        self.answer_anew();
    }

    fn name(&mut self) -> Option<Box<str>> {
        let name = self.random.choice(NAMES)?;
        self.random.bool().then(|| name.into())
    }

    fn user_id(&mut self) -> UserId {
        UserId::new(&user_id(self.random.usize(..12))).unwrap()
    }

    fn app_id(&mut self) -> AppId {
        AppId::new(self.random.choice(APPS).unwrap()).unwrap()
    }

    fn user(&mut self) -> User {
        let id = self.user_id();
        let status = match self.random.u8(..6) {
            0 => UserStatus::Suspended,
            1 => UserStatus::parse("NEW_2027"),
            _ => UserStatus::Active,
        };
        User { id, status, login: self.name(), email: self.name(), second_email: self.name(), ..user(0) }
    }

    fn app_user(&mut self) -> AppUser {
        let (app, user) = (self.app_id(), self.user_id());
        let status = if self.random.u8(..5) == 0 { AppUserStatus::Staged } else { AppUserStatus::Active };
        AppUser {
            user_name: self.name(),
            external_id: self.name(),
            email: self.name(),
            status,
            ..app_user(app.as_str(), user.as_str(), "")
        }
    }

    fn app(&mut self) -> App {
        let id = self.app_id();
        let mut row = app(id.as_str(), "jira", self.random.choice(["Jira EU", "jira", "Billing"]).unwrap());
        if self.random.u8(..5) == 0 {
            row.status = AppStatus::Inactive;
        }
        if id.as_str() == "0oashare" && self.random.bool() {
            row.credential_scheme = Some("SHARED_USERNAME_AND_PASSWORD".into());
        }
        row
    }

    fn scope(&mut self) -> Scope {
        match self.random.u8(..9) {
            0 => Scope::Users,
            1 => Scope::Apps,
            2 => Scope::Groups,
            3 => Scope::Log,
            4 => Scope::User(self.user_id()),
            5 => Scope::App(self.app_id()),
            6 => Scope::GroupMembers(GroupId::new("00geng").unwrap()),
            _ => Scope::AppUsers(self.app_id()),
        }
    }

    /// An operator decides, takes back what was decided, or time goes on. What is refused changes nothing.
    async fn change_override(&mut self) {
        let (app, user) = (self.app_id(), self.user_id());
        let name: Box<str> = (*self.random.choice(NAMES).unwrap()).into();
        let kinds =
            [IdentifierKind::Untyped, IdentifierKind::UserName, IdentifierKind::ExternalId, IdentifierKind::Email];
        let kind = self.random.choice(kinds).unwrap();
        // Set two days ago, it may be over by the time of the questions, and is there until the next commit.
        let set_at = NOW.plus_millis(if self.random.bool() { 0 } else { -2 * 86_400_000 });
        let expires_at = set_at.plus_millis(self.random.i64(1..4 * 86_400_000));
        let writer = &self.world.store.writer;
        let refused = match self.random.u8(..10) {
            0..=6 => {
                let entry = Override { app, kind, name, user, expires_at };
                let setting = OverrideSetting { entry, created_by: "tester".into(), reason: "simulated".into() };
                writer.set_override(setting, set_at).await.is_err()
            }
            7 | 8 => writer.delete_override(OverrideName { app, kind, name }, set_at).await.is_err(),
            _ => {
                writer.end_overrides(NOW).await.unwrap();
                false
            }
        };
        self.overrides += usize::from(!refused);
    }

    /// One thing that happens, now or up to two days ago.
    async fn change(&mut self) {
        if self.random.u8(..6) == 0 {
            return self.change_override().await;
        }
        let mut batch = self.world.batch();
        if self.random.bool() {
            batch.now = NOW.plus_millis(-self.random.i64(0..2 * 86_400_000));
        }
        match self.random.u8(..20) {
            0..=3 => batch.rows = vec![Row::User(self.user())],
            4..=8 => batch.rows = vec![Row::AppUser(self.app_user())],
            9 => {
                batch.rows = vec![Row::User(self.user()), Row::AppUser(self.app_user()), Row::AppUser(self.app_user())]
            }
            10 => batch.rows = vec![Row::App(self.app())],
            11 => batch.removals = vec![Key::User(self.user_id())],
            12 | 13 => batch.removals = vec![Key::AppUser(self.app_id(), self.user_id())],
            14 => batch.removals = vec![Key::App(self.app_id())],
            15 | 16 => {
                let kind = self.random.choice([GapKind::Forbidden, GapKind::Failed, GapKind::UnseenReference]).unwrap();
                let scope = self.scope();
                return self.world.open_gap(scope, kind, "simulated").await;
            }
            17 | 18 => {
                // All that is open on it, so that what is complete is seen as well.
                let scope = self.scope();
                batch.closed_gaps = [GapKind::Forbidden, GapKind::Failed, GapKind::UnseenReference]
                    .map(|kind| (scope.clone(), kind))
                    .into();
            }
            _ => {
                let row = AppUser { status: AppUserStatus::Active, ..self.app_user() };
                let scope = Scope::AppUsers(row.app.clone());
                // Never removes much: the brake is another test's. Records that cannot be read keep more.
                let bad = [Some(self.user_id()), None, Some(self.user_id())];
                let bad = &bad[..self.random.usize(..=2)];
                let bad: Vec<Option<&str>> = bad.iter().map(|id| id.as_ref().map(UserId::as_str)).collect();
                return self.world.read_but(scope, vec![Row::AppUser(row)], &bad).await;
            }
        }
        if self.random.u8(..40) == 0 {
            // More than one message, and than what is read at once.
            batch.rows.extend((300..900).map(|n| Row::User(user(n))));
            batch.rows.extend((0..30).map(|n| member("00gops", &user_id(n))));
        }
        self.world.commit(batch).await;
    }

    async fn close_all_gaps(&self) {
        let view = self.view();
        let open = view.reader().coverage().all_open().map(|(scope, kind)| (scope.clone(), kind)).collect();
        self.world.commit(Batch { closed_gaps: open, ..self.world.batch() }).await;
    }

    async fn ask_server(&self, request: &v1::ResolveAccountRequest) -> v1::ResolveAccountResponse {
        self.services.lookup().resolve_account(Request::new(request.clone())).await.unwrap().into_inner()
    }

    /// Where copy and server differ in one of `share` of all answers; `None`: nowhere.
    async fn difference(&self, copy: &Reflector, seen: &mut Seen, (from, share): (usize, usize)) -> Option<String> {
        for request in questions().into_iter().skip(from).step_by(share) {
            let expected = self.ask_server(&request).await;
            let found = copy.read(|mirror, _| mirror.resolve(&request, NOW)).unwrap().unwrap();
            if found != Answer::Local(Box::new(expected.clone())) {
                return Some(format!("{request:?}\ncopy:   {found:?}\nserver: {expected:?}"));
            }
            let resolution = expected.resolution.unwrap();
            seen.overridden |= resolution.tier() == v1::MatchTier::OperatorOverride;
            seen.outcomes.insert(resolution.outcome);
        }
        None
    }

    /// Waits until the copy has everything, and compares all that is asked of names, and these questions. What is read without a commit has no revision of its own: it is in
    /// the next checkpoint but one at the latest.
    async fn compare(&mut self, copy: &Reflector, seen: &mut Seen, seed: u64, share: usize, further: &Questions) {
        // Once, so that what differs is asked again.
        let part = (self.random.usize(..share), share);
        let mut state = copy.state();
        let mut difference = None;
        for _ in 0..4 {
            // Asked each time: the store may go on by itself, as overrides end with the next transaction, even of a refused order.
            let world = &self.world;
            let reached = state.wait_for(|state| state.revision == Some(world.revision()) && state.checkpoints > 0);
            let reached = tokio::time::timeout(PATIENCE, reached).await;
            let reached = reached.unwrap_or_else(|_| {
                let (state, restored, revision) = (copy.state().borrow().clone(), self.restored, self.world.revision());
                panic!("seed {seed}: is not at {revision}, {restored} times put back: {state:?}")
            });
            let checkpoints = reached.unwrap().checkpoints;
            difference = self.difference(copy, seen, part).await;
            if difference.is_none() {
                difference = further.difference(self, copy, &mut seen.principals).await;
            }
            if difference.is_none() {
                return;
            }
            let next = state.wait_for(|state| state.checkpoints > checkpoints);
            tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap();
        }
        panic!("seed {seed}: {}", difference.unwrap_or_default());
    }
}

/// What has come.
#[derive(Default)]
struct Seen {
    outcomes: BTreeSet<i32>,
    overridden: bool,
    overrides: usize,
    reconfigured: usize,
    restored: usize,
    principals: SeenPrincipals,
}

async fn simulate(seed: u64, seen: &mut Seen) -> (u64, u64) {
    let mut sim = Sim::new(seed).await;
    // Of its own, so that what else happens under a seed does not hang on what is asked of groups.
    let mut of_groups = fastrand::Rng::with_seed(seed);
    let mut server = Server::start([sim.view()]).await;
    let door = Door::open(server.address).await;
    let file = sim.world.dir.path().join("copy");
    let start = || Reflector::start(client_of(&door.url()), settings(Some(&file)));
    let mut copy = start();
    let (mut lists, mut resumes) = (0, 0);
    for round in 0..6 {
        for _ in 0..of_groups.usize(..20) {
            change_groups(&sim, &mut of_groups).await;
        }
        for _ in 0..sim.random.usize(5..25) {
            if sim.random.u8(..12) == 0 {
                door.lead_to(Some(server.address));
            }
            sim.change().await;
        }
        if round % 3 == 2 {
            sim.close_all_gaps().await;
        }
        sim.compare(&copy, seen, seed, 5, &Questions::random(&mut of_groups)).await;
        // Whoever is down, the org goes on.
        let restarts_server = sim.random.bool();
        let restarts_client = sim.random.bool();
        let (mut running, mut following) = (Some(server), Some(copy));
        if restarts_server && let Some(server) = running.take() {
            door.lead_to(None);
            server.stop().await;
        }
        if restarts_client && let Some(copy) = following.take() {
            let state = copy.state();
            copy.stop().await;
            let state = state.borrow().clone();
            assert_eq!(state.phase, Phase::Stopped);
            (lists, resumes) = (lists + state.lists, resumes + state.resumes);
        }
        if restarts_server {
            sim.between_servers();
        }
        for _ in 0..sim.random.usize(1..10) {
            sim.change().await;
        }
        if sim.random.u8(..3) == 0 {
            forget_changes(&sim.world, sim.world.revision());
        }
        if restarts_client && sim.random.u8(..4) == 0 {
            std::fs::write(&file, b"OIDMCOPYnonsense").unwrap();
        }
        server = match running {
            Some(server) => server,
            None => Server::start([sim.view()]).await,
        };
        door.lead_to(Some(server.address));
        copy = following.unwrap_or_else(start);
    }
    sim.compare(&copy, seen, seed, 1, &Questions::random(&mut of_groups)).await;
    let state = copy.state().borrow().clone();
    copy.stop().await;
    server.stop().await;
    seen.overrides += sim.overrides;
    (seen.reconfigured, seen.restored) = (seen.reconfigured + sim.reconfigured, seen.restored + sim.restored);
    (lists + state.lists, resumes + state.resumes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_answers_what_the_server_answers() {
    use v1::ResolutionOutcome as Outcome;
    let seeds: Vec<u64> = match std::env::var("REFLECTOR_SEEDS").ok().and_then(|count| count.parse().ok()) {
        Some(count) => (0..count).map(|_| fastrand::u64(..)).collect(),
        // The last: an order was refused, and what was over ended in the same transaction, after the refusal was told.
        None => vec![1, 2, 3, 13_221_242_082_978_076_610],
    };
    let (mut seen, mut lists, mut resumes) = (Seen::default(), 0, 0);
    for seed in &seeds {
        let (listed, resumed) = simulate(*seed, &mut seen).await;
        (lists, resumes) = (lists + listed, resumes + resumed);
    }
    let count = u64::try_from(seeds.len()).unwrap();
    assert!(lists > count && resumes > count, "{lists} lists, {resumes} resumes");
    let expected = [
        Outcome::Resolved,
        Outcome::Ambiguous,
        Outcome::Inactive,
        Outcome::Shared,
        Outcome::Reused,
        Outcome::NotFound,
        Outcome::UnknownGap,
        Outcome::UnknownApp,
        Outcome::AmbiguousApp,
    ];
    for outcome in expected {
        assert!(seen.outcomes.contains(&outcome.into()), "{outcome:?} never came");
    }
    assert!(seen.overridden && seen.overrides > 3 * seeds.len(), "{} overrides", seen.overrides);
    assert!(seen.reconfigured > 0 && seen.restored > 0, "{} {}", seen.reconfigured, seen.restored);
    seen.principals.check();
}

/// An answer, apart from what gaps make of it.
#[derive(Debug)]
struct Told {
    what: String,
    gaps: BTreeSet<String>,
}

fn told(answer: v1::ResolveAccountResponse) -> Told {
    let mut resolution = answer.resolution.unwrap();
    let gaps = std::mem::take(&mut resolution.gap_ids).into_iter().collect();
    if resolution.outcome() == v1::ResolutionOutcome::NotFound {
        resolution.set_outcome(v1::ResolutionOutcome::UnknownGap);
    }
    (resolution.completeness, resolution.gap_count) = (0, 0);
    resolution.warnings.retain(|warning| *warning != i32::from(v1::ResolutionWarning::Stale));
    let rows = resolution.candidates.iter_mut().filter_map(|candidate| candidate.app_user.as_mut());
    rows.chain(&mut resolution.app_user).for_each(|row| row.stale = false);
    Told { what: format!("{resolution:?}"), gaps }
}

/// While the org changes: whatever the copy shows is one of the states that the server had at that revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_that_is_shown_is_one_that_the_server_had() {
    let seed = 77;
    let mut sim = Sim::new(seed).await;
    // Rows that are kept back make other differences than those that are left out here.
    sim.coverage = CoveragePolicy::default();
    sim.answer_anew();
    let server = Server::start([sim.view()]).await;
    let asked: Vec<v1::ResolveAccountRequest> = questions().into_iter().step_by(47).collect();
    let copy = Reflector::start(client(&server), settings(None));
    copy.ready(PATIENCE).await.unwrap();
    // Coverage changes without a revision: then there are several states of one.
    let mut had: BTreeMap<u64, Vec<Vec<Told>>> = BTreeMap::new();
    let mut shown = BTreeSet::new();
    let (mut step, mut compared) = (0, 0);
    // The copy is told in portions, and how many changes are in one depends on the machine.
    while step < 140 || shown.len() <= 15 && step < 3_000 {
        step += 1;
        let mut state = Vec::new();
        for request in &asked {
            state.push(told(sim.ask_server(request).await));
        }
        had.entry(sim.world.revision()).or_default().push(state);
        let (revision, found) = copy
            .read(|mirror, _| {
                let answers = asked.iter().map(|request| match mirror.resolve(request, NOW).unwrap() {
                    Answer::Local(answer) => told(*answer),
                    Answer::OnlyServerKnows => panic!("there is no filter"),
                });
                (mirror.revision(), answers.collect::<Vec<Told>>())
            })
            .unwrap();
        if let Some(states) = had.get(&revision) {
            // A gap is opened before its revision is there, and closed after it: then the copy may know it, as the server does.
            let is_of = |state: &Vec<Told>| {
                state.iter().zip(&found).all(|(had, found)| had.what == found.what && had.gaps.is_subset(&found.gaps))
            };
            assert!(
                states.iter().any(is_of),
                "seed {seed}, step {step}, revision {revision}:\n{found:#?}\n{states:#?}"
            );
            compared += 1;
            shown.insert(revision);
        }
        sim.change().await;
    }
    assert!(compared > 120 && shown.len() > 15, "{compared} compared, {} revisions", shown.len());
    copy.stop().await;
    server.stop().await;
}

//! The crawl against a tiny org in memory: by table, and by seed in random order with random faults and crashes.
//!
//! A failure prints the seed; `CRAWL_SEEDS=100000` tries more of them.

mod books;
mod by_hand;
mod driver;
mod follow;
mod follow_sim;
mod follower;
mod lost;
mod org;
mod quiet;
mod sieve;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use self::driver::{Driver, Faults, NOW, scope_of};
use self::org::{EXCLUDED, Org, UNLISTED, app, app_id, gone_app, group_id};
use super::{
    ByIdSeen, Call, CallId, CrawlEnd, Effect, Input, Known, Limits, LogSeen, Members, Moment, PageSeen, ReadFailure,
    SyncState,
};
use crate::core::batch::{Listing, Receipt, WalkState};
use crate::core::coverage::GapKind;
use crate::core::filter::{AppFilter, Filter};
use crate::core::ids::{CrawlId, LogCursor, RequestNumber, Revision};
use crate::core::model::{Key, Kind, Row, Scope};

/// Seeds of an ordinary run.
const SEEDS: u64 = 2_000;

fn limits(in_flight_per_lane: usize, members: Members) -> Limits {
    let apps = AppFilter { exclude: vec![EXCLUDED.to_owned()], ..AppFilter::default() };
    Limits { in_flight_per_lane, members, filter: Filter { apps, ..Filter::default() } }
}

fn random_limits(random: &mut fastrand::Rng) -> Limits {
    let members = if random.bool() { Members::All } else { Members::Assigned };
    limits(random.usize(1..4), members)
}

/// A driver over a random org; the store knows two apps that no list shows, one of which is gone.
fn driver(seed: u64) -> Driver {
    let mut random = fastrand::Rng::with_seed(seed);
    let org = Org::random(&mut random);
    let limits = random_limits(&mut random);
    let mut driver = Driver::new(org, limits, seed);
    driver.memory.rows.insert(Key::App(gone_app()), 1);
    driver.memory.rows.insert(Key::AppUser(gone_app(), org::user_id(0)), 1);
    driver.memory.rows.insert(Key::App(app_id(3)), 1);
    driver.org.deleted.insert(Scope::App(gone_app()));
    driver
}

fn moment() -> Moment {
    Moment { now: NOW, okta_now: NOW, newest: RequestNumber(0) }
}

fn log_page(cursor: &str) -> LogSeen {
    LogSeen { next: Some(LogCursor(cursor.to_owned())), ..LogSeen::default() }
}

fn seeds() -> u64 {
    std::env::var("CRAWL_SEEDS").ok().and_then(|raw| raw.parse().ok()).unwrap_or(SEEDS)
}

/// Runs for every seed, and names the one that fails.
fn for_seeds(run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in 0..seeds() {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// The lists that a crawl without faults reads by calls.
fn lists_to_read(driver: &Driver) -> BTreeSet<Scope> {
    let mut scopes = BTreeSet::from([Scope::Users, Scope::Groups, Scope::Apps]);
    for app in &driver.org.apps {
        if app.is_service_app() || &*app.name == EXCLUDED {
            continue;
        }
        scopes.insert(Scope::AppUsers(app.id.clone()));
        scopes.insert(Scope::AppGroups(app.id.clone()));
    }
    let is_wanted = |group: &crate::core::ids::GroupId| {
        match driver.limits.members {
        Members::All => true,
        Members::Assigned => scopes.iter().any(|scope| {
            matches!(scope, Scope::AppGroups(app) if driver.org.app_groups.get(app).is_some_and(|g| g.contains(group)))
        }),
    }
    };
    let members: Vec<Scope> = driver
        .org
        .groups
        .iter()
        .filter(|group| !group.is_everyone() && !driver.org.is_empty_group(&group.id) && is_wanted(&group.id))
        .map(|group| Scope::GroupMembers(group.id.clone()))
        .collect();
    scopes.extend(members);
    scopes
}

/// What the store must hold after a crawl that has read these lists.
fn rows_of(driver: &Driver, scopes: &BTreeSet<Scope>) -> BTreeSet<Key> {
    let mut keys: BTreeSet<Key> = scopes.iter().flat_map(|scope| driver.org.rows(scope)).map(|row| row.key()).collect();
    keys.retain(|key| *key != Key::App(app_id(1)));
    keys.insert(Key::App(app_id(3)));
    keys
}

#[test]
fn without_faults_every_page_is_asked_for_once() {
    for_seeds(|seed| {
        let mut driver = driver(seed);
        assert_eq!(driver.run(Faults::default()), CrawlEnd::Finished);
        let scopes = lists_to_read(&driver);
        assert!(matches!(driver.calls[0], Call::AnchorLog { .. }));
        let asked: BTreeSet<Scope> = driver.calls.iter().filter_map(scope_of).cloned().collect();
        assert_eq!(asked, scopes, "lists that were asked for");
        let mut once = BTreeSet::new();
        assert!(driver.calls.iter().all(|call| once.insert(format!("{call:?}"))), "{:?}", driver.calls);
        // By id the app that is gone and the one that no list shows; and a search for what became of the former.
        assert_eq!(driver.calls.len(), driver.calls_needed(&scopes, 3), "number of calls");
        let stored: BTreeSet<Key> = driver.memory.rows.keys().cloned().collect();
        assert_eq!(stored, rows_of(&driver, &scopes), "rows; the gone app is removed, the unlisted one is kept");
        assert_eq!(driver.memory.gaps, BTreeSet::new());
        assert!(driver.memory.has_cursor);
        let unfinished = driver
            .memory
            .walks
            .iter()
            .find(|(_, state)| !matches!(state, WalkState::Finished { .. } | WalkState::Unwanted));
        assert_eq!(unfinished, None);
    });
}

#[test]
fn with_faults_and_crashes_the_crawl_ends_and_tells_what_it_missed() {
    for_seeds(|seed| {
        let mut driver = driver(seed);
        let faults = Faults { failure: driver.random.usize(0..300), crash: driver.random.usize(0..100) };
        for scope in [Scope::Users, Scope::Groups, Scope::AppUsers(app_id(0)), Scope::GroupMembers(group_id(1))] {
            if driver.random.usize(0..10) == 0 {
                driver.org.endless.insert(scope);
            }
        }
        if driver.random.usize(0..10) == 0 {
            driver.org.emptied.insert(Scope::Users);
        }
        let end = driver.run(faults);
        assert!(end == CrawlEnd::Finished || matches!(end, CrawlEnd::Stopped(_)));
        if end != CrawlEnd::Finished {
            assert_eq!(driver.run(Faults::default()), CrawlEnd::Finished, "what was stopped can be resumed");
        }
        let has_gap = |scope: &Scope| driver.memory.gaps.iter().any(|(other, _)| other == scope);
        for (scope, state) in &driver.memory.walks {
            match state {
                WalkState::Finished { .. } if *scope == Scope::Log => assert!(driver.memory.has_cursor),
                WalkState::Finished { .. } => check_read(&driver, scope),
                WalkState::GivenUp => assert!(has_gap(scope), "{scope} was given up without a gap"),
                WalkState::Unwanted | WalkState::Released => {}
                WalkState::Todo | WalkState::Walking(_) => panic!("{scope} is still {state:?}"),
            }
        }
        if has_gap(&Scope::Log) {
            assert!(driver.memory.gaps.contains(&(Scope::Log, GapKind::LogLost)), "{:?}", driver.memory.gaps);
        }
        for scope in [Scope::Users, Scope::Groups, Scope::Apps, Scope::Log] {
            assert!(driver.memory.walks.contains_key(&scope), "{scope} was forgotten");
        }
        if !driver.has_resumed && driver.failures == 0 {
            assert!(!driver.memory.rows.contains_key(&Key::App(gone_app())), "the gone app is removed");
        }
        assert!(driver.memory.rows.contains_key(&Key::App(app_id(3))), "the unlisted app is kept");
    });
}

/// A list that counts as read was read: the store holds what the org holds of it.
fn check_read(driver: &Driver, scope: &Scope) {
    let mut expected: BTreeSet<Key> = driver.org.rows(scope).iter().map(|row| row.key()).collect();
    let mut stored: BTreeSet<Key> = driver.memory.rows.keys().filter(|key| key.scope() == *scope).cloned().collect();
    if *scope == Scope::Apps {
        expected.remove(&Key::App(app_id(1)));
        // Only a read by id decides about these.
        for app in [gone_app(), app_id(3)] {
            stored.remove(&Key::App(app));
        }
    }
    assert_eq!(stored, expected, "rows of {scope}");
}

/// A crawl of one user, one group and one app, answered call by call.
fn small() -> Driver {
    let mut random = fastrand::Rng::with_seed(7);
    let mut org = Org::random(&mut random);
    org.apps.retain(|app| &*app.name != UNLISTED);
    org.page_rows = 100;
    let mut driver = Driver::new(org, limits(2, Members::All), 7);
    driver.start();
    driver
}

fn is_list(wanted: Scope) -> impl Fn(&Call) -> bool {
    move |call| scope_of(call) == Some(&wanted)
}

/// Lets the call that reads `wanted` fail; returns the next call of that list.
fn fail(driver: &mut Driver, wanted: &Scope, failure: ReadFailure) -> Option<Call> {
    let (id, call, _) = driver.take_call(is_list(wanted.clone())).expect("a call of the list");
    driver.step(Input::Failed(id, failure), Some(&call));
    let (id, call, at) = driver.take_call(is_list(wanted.clone()))?;
    let again = call.clone();
    driver.put_back(id, call, at);
    Some(again)
}

fn anchor(driver: &mut Driver) {
    let (id, call, at) = driver.take_call(|call| matches!(call, Call::AnchorLog { .. })).unwrap();
    let answer = driver.org.answer(id, &call, at);
    driver.step(answer, Some(&call));
}

#[test]
fn failures_start_a_walk_again_or_leave_a_gap() {
    #[track_caller]
    fn check(scope: Scope, failure: ReadFailure, again: Option<(Listing, Option<u32>)>, gap: Option<GapKind>) {
        let mut driver = small();
        anchor(&mut driver);
        let next = fail(&mut driver, &scope, failure);
        let expected =
            again.map(|(listing, limit)| Call::FirstPage { scope: scope.clone(), listing, limit, is_urgent: false });
        assert_eq!(next, expected, "the next call");
        while driver.has_commits() {
            driver.commit_one();
        }
        let found: Vec<GapKind> =
            driver.memory.gaps.iter().filter(|(other, _)| *other == scope).map(|(_, kind)| *kind).collect();
        assert_eq!(found, Vec::from_iter(gap), "gaps");
    }
    let detail = || "GET: 500".to_owned();
    let forbidden = |missing_scope| ReadFailure::Forbidden { missing_scope, detail: detail() };
    check(Scope::Users, forbidden(None), None, Some(GapKind::Forbidden));
    check(Scope::Groups, forbidden(Some("okta.groups.read".to_owned())), None, Some(GapKind::ScopeMissing));
    check(Scope::Apps, ReadFailure::Failed { detail: detail() }, None, Some(GapKind::Failed));
    // A cursor that is gone before there was one is no cursor's fault.
    check(Scope::Users, ReadFailure::CursorGone, None, Some(GapKind::Failed));
    check(Scope::Users, ReadFailure::RestartWalk { limit: 50 }, Some((Listing::Usual, Some(50))), None);
    check(Scope::Apps, ReadFailure::RestartWalk { limit: 50 }, Some((Listing::Usual, Some(50))), None);
    check(Scope::Users, ReadFailure::SearchUnavailable, Some((Listing::PlainUsers, None)), None);
    check(Scope::Groups, ReadFailure::SearchUnavailable, None, Some(GapKind::Failed));
}

#[test]
fn a_list_of_what_is_gone_leaves_no_gap_behind() {
    let is_of_members = |call: &Call| matches!(scope_of(call), Some(Scope::GroupMembers(_)));
    let mut tried = [0; 2];
    for (seed, is_gone) in (0..60).flat_map(|seed| [(seed, false), (seed, true)]) {
        let mut driver = driver(seed);
        driver.start();
        let (id, call) = loop {
            match driver.take_call(is_of_members) {
                Some((id, call, _)) => break (id, Some(call)),
                None if driver.has_ended() => break (CallId(0), None),
                None => driver.act_once(),
            }
        };
        // Some orgs have no group with members.
        let Some(call) = call else { continue };
        tried[usize::from(is_gone)] += 1;
        let scope = scope_of(&call).unwrap().clone();
        let Scope::GroupMembers(group) = &scope else { unreachable!() };
        if is_gone {
            driver.departs(Scope::Group(group.clone()));
        }
        let detail = "GET: 404 E0000007".to_owned();
        driver.step(Input::Failed(id, ReadFailure::NotFound { detail }), Some(&call));
        assert_eq!(driver.run_on(), CrawlEnd::Finished, "seed {seed}");
        assert_eq!(driver.memory.gaps.contains(&(scope.clone(), GapKind::Failed)), !is_gone, "seed {seed}");
        let is_given_up = matches!(driver.memory.walks.get(&scope), Some(WalkState::GivenUp));
        assert_eq!(is_given_up, !is_gone, "seed {seed}");
    }
    assert!(tried.iter().all(|tried| *tried > 20), "{tried:?}");
}

#[test]
fn a_walk_is_not_started_again_for_ever() {
    for failure in [ReadFailure::RestartWalk { limit: 10 }, ReadFailure::SearchUnavailable] {
        let mut driver = small();
        anchor(&mut driver);
        let tries = (0..100).take_while(|_| fail(&mut driver, &Scope::Users, failure.clone()).is_some()).count();
        assert!(tries <= 10, "{tries} tries");
        assert_eq!(driver.run_on(), CrawlEnd::Finished);
        assert_eq!(driver.memory.walks.get(&Scope::Users), Some(&WalkState::GivenUp));
        assert!(driver.memory.gaps.contains(&(Scope::Users, GapKind::Failed)));
    }
}

#[test]
fn the_plain_user_list_has_two_halves() {
    for crash_between in [false, true] {
        let mut driver = small();
        anchor(&mut driver);
        fail(&mut driver, &Scope::Users, ReadFailure::SearchUnavailable);
        let (id, call, at) = driver.take_call(is_list(Scope::Users)).unwrap();
        let answer = driver.org.answer(id, &call, at);
        driver.step(answer, Some(&call));
        while driver.has_commits() {
            driver.commit_one();
        }
        assert!(matches!(driver.memory.walks.get(&Scope::Users), Some(WalkState::Walking(_))), "half is not whole");
        if crash_between {
            driver.start();
        }
        let (id, call, at) = driver.take_call(is_list(Scope::Users)).unwrap();
        let expected =
            Call::FirstPage { scope: Scope::Users, listing: Listing::DeactivatedUsers, limit: None, is_urgent: false };
        assert_eq!(call, expected);
        driver.put_back(id, call, at);
        assert_eq!(driver.run_on(), CrawlEnd::Finished);
        check_read(&driver, &Scope::Users);
    }
}

#[test]
fn lists_that_cannot_be_true_are_given_up() {
    #[track_caller]
    fn check(emptied: &[Scope], endless: &[Scope], scope: &Scope, kind: GapKind) {
        let mut driver = driver(11);
        driver.org.emptied.extend(emptied.iter().cloned());
        driver.org.endless.extend(endless.iter().cloned());
        let old = Key::User(org::user_id(800));
        driver.memory.rows.insert(old.clone(), 1);
        assert_eq!(driver.run(Faults::default()), CrawlEnd::Finished);
        assert_eq!(driver.memory.walks.get(scope), Some(&WalkState::GivenUp));
        let gaps = BTreeSet::from([(scope.clone(), kind)]);
        assert_eq!(driver.memory.gaps, gaps, "one gap, and nothing else stops");
        let is_kept = *scope == Scope::Users;
        assert_eq!(driver.memory.rows.contains_key(&old), is_kept, "absence from such a list says nothing");
    }
    let accounts = Scope::AppUsers(app_id(0));
    check(&[Scope::Users], &[], &Scope::Users, GapKind::EmptySuspect);
    check(&[], &[Scope::Users], &Scope::Users, GapKind::Failed);
    check(&[], std::slice::from_ref(&accounts), &accounts, GapKind::Failed);
}

#[test]
fn a_dead_credential_or_org_stops_the_crawl_until_the_next_start() {
    #[track_caller]
    fn check(failure: ReadFailure, gap: Option<GapKind>) {
        let mut driver = small();
        anchor(&mut driver);
        fail(&mut driver, &Scope::Users, failure.clone());
        assert_eq!(driver.run_on(), CrawlEnd::Stopped(failure));
        assert!(driver.memory.is_running, "it is not over");
        let gaps: BTreeSet<_> = gap.into_iter().map(|kind| (Scope::Users, kind)).collect();
        assert_eq!(driver.memory.gaps, gaps);
        assert_eq!(driver.run(Faults::default()), CrawlEnd::Finished);
        assert_eq!(driver.memory.gaps, BTreeSet::new());
    }
    let detail = || "why".to_owned();
    check(ReadFailure::Unauthorized { detail: detail() }, Some(GapKind::Unauthorized));
    check(ReadFailure::Unreachable { detail: detail() }, None);
}

#[test]
fn a_log_that_may_not_be_read_stops_nothing_else() {
    let mut driver = small();
    let (id, call, _) = driver.take_call(|call| matches!(call, Call::AnchorLog { .. })).unwrap();
    let failure = ReadFailure::Forbidden { missing_scope: None, detail: "GET /logs: 403".to_owned() };
    driver.step(Input::Failed(id, failure), Some(&call));
    assert_eq!(driver.run_on(), CrawlEnd::Finished);
    let gaps = BTreeSet::from([(Scope::Log, GapKind::Forbidden), (Scope::Log, GapKind::LogLost)]);
    assert_eq!(driver.memory.gaps, gaps);
    assert!(!driver.memory.has_cursor);
    check_read(&driver, &Scope::Users);
}

#[test]
fn reads_by_id_keep_to_the_limit_too() {
    let mut driver = driver(3);
    driver.limits = limits(2, Members::All);
    for n in 500..540 {
        driver.memory.rows.insert(Key::App(app_id(n)), 1);
        driver.org.deleted.insert(Scope::App(app_id(n)));
    }
    assert_eq!(driver.run(Faults::default()), CrawlEnd::Finished);
    let by_id = driver.calls.iter().filter(|call| matches!(call, Call::Read(_))).count();
    assert_eq!(by_id, 42);
    assert!(!driver.memory.rows.contains_key(&Key::App(app_id(500))));
}

#[test]
fn an_app_that_cannot_be_read_by_id_is_kept() {
    let mut driver = driver(3);
    driver.start();
    let is_gone = |call: &Call| *call == Call::Read(Key::App(gone_app()));
    let (id, call) = loop {
        match driver.take_call(is_gone) {
            Some((id, call, _)) => break (id, call),
            None => driver.act_once(),
        }
    };
    let failure = ReadFailure::Forbidden { missing_scope: None, detail: "GET /apps/x: 403".to_owned() };
    driver.step(Input::Failed(id, failure), Some(&call));
    assert_eq!(driver.run_on(), CrawlEnd::Finished);
    assert!(driver.memory.rows.contains_key(&Key::AppUser(gone_app(), org::user_id(0))), "neither shown nor gone");
    assert_eq!(driver.memory.gaps, BTreeSet::from([(Scope::Apps, GapKind::Forbidden)]));
}

#[test]
fn answers_that_nobody_waits_for_change_nothing() {
    let state = || {
        let begin = super::Begin::New { id: CrawlId(1), fingerprint: String::new() };
        let (mut state, effects) =
            SyncState::start(begin, Known::default(), limits(2, Members::Assigned), None, moment());
        let anchor = effects.iter().find_map(|effect| match effect {
            Effect::Call(id, Call::AnchorLog { .. }) => Some(*id),
            _ => None,
        });
        let effects = state.step(Input::Log(anchor.unwrap(), log_page("1")), moment());
        let calls: BTreeMap<Option<Scope>, CallId> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Call(id, call) => Some((scope_of(call).cloned(), *id)),
                _ => None,
            })
            .collect();
        (state, calls)
    };
    let (mut state, calls) = state();
    let users = calls[&Some(Scope::Users)];
    let before = format!("{state:?}");
    let page = || PageSeen { at: RequestNumber(9), rows: Vec::new(), ..PageSeen::default() };
    let unknown = CallId(999);
    let at = RequestNumber(9);
    for input in [
        Input::Page(unknown, page()),
        Input::Log(unknown, log_page("2")),
        Input::ById(unknown, ByIdSeen::NotFound(at)),
        Input::Failed(unknown, ReadFailure::Unauthorized { detail: String::new() }),
        // Answers of another kind to a call that is under way.
        Input::Log(users, log_page("2")),
        Input::ById(users, ByIdSeen::Found(Box::new(Row::App(app(1, "jira", None))), at)),
        Input::AssignedGroups { assigned: vec![group_id(1)], unwanted: Vec::new() },
    ] {
        let what = format!("{input:?}");
        assert!(state.step(input, moment()).is_empty(), "{what}");
        assert_eq!(format!("{state:?}"), before, "{what}");
    }
    // Two batches are uncommitted: a third receipt is nobody's.
    let receipt = || Receipt { revision: Revision(1), finished: Vec::new(), owed: Vec::new() };
    state.step(Input::Committed(receipt()), moment());
    state.step(Input::Committed(receipt()), moment());
    let before = format!("{state:?}");
    assert!(state.step(Input::Committed(receipt()), moment()).is_empty());
    assert_eq!(format!("{state:?}"), before);
    assert!(!state.step(Input::Page(users, page()), moment()).is_empty(), "the answer that is waited for");
}

#[test]
fn progress_counts_what_is_read() {
    let mut driver = driver(5);
    assert_eq!(driver.run(Faults::default()), CrawlEnd::Finished);
    for kind in Kind::ALL {
        let counts = driver.counts(kind);
        assert_eq!(counts.done, counts.known, "{kind:?}");
    }
    assert_eq!(driver.counts(Kind::User).rows, driver.org.users.len() as u64);
    assert_eq!(driver.counts(Kind::User).known, 1);
}

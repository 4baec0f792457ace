//! Tables of gaps, and of what stands against an answer.

use super::*;
use crate::core::ids::{AppId, GroupId, UserId};

fn app_users(id: &str) -> Scope {
    Scope::AppUsers(AppId::new(id).unwrap())
}

fn user(id: &str) -> Scope {
    Scope::User(UserId::new(id).unwrap())
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

#[track_caller]
fn check_at(coverage: &Coverage, asked: Asked, scopes: &[Scope], expected: &[&str]) {
    let found = coverage.completeness(asked, scopes);
    assert_eq!(found.gap_ids().iter().map(GapId::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(found.is_complete(), expected.is_empty());
}

#[track_caller]
fn check(coverage: &Coverage, scopes: &[Scope], expected: &[&str]) {
    check_at(coverage, Asked::default(), scopes, expected);
}

#[test]
fn an_answer_is_complete_only_when_its_scopes_are() {
    let mut coverage = Coverage::default();
    let scopes = [Scope::Users, app_users("0oa1")];
    check(&coverage, &scopes, &["NOT_READ:app_users(0oa1)", "NOT_READ:users"]);
    coverage.completed(Scope::Users, at(0));
    coverage.completed(Scope::Groups, at(0));
    coverage.completed(app_users("0oa1"), at(0));
    check(&coverage, &scopes, &[]);
    coverage.opened(app_users("0oa1"), GapKind::Forbidden);
    check(&coverage, &scopes, &["FORBIDDEN:app_users(0oa1)"]);
    check(&coverage, &[Scope::Users], &[]);
    coverage.closed(&app_users("0oa1"), GapKind::Forbidden);
    check(&coverage, &scopes, &[]);
    coverage.opened(Scope::Log, GapKind::LogLost);
    check(&coverage, &[Scope::Users], &["LOG_LOST:log"]);
}

#[test]
fn an_object_that_is_not_shown_may_be_anybody() {
    #[track_caller]
    fn check(coverage: &Coverage, with_objects: bool, generation: Option<u64>, scopes: &[Scope], expected: &[&str]) {
        check_at(coverage, Asked { with_objects, generation, ..Asked::default() }, scopes, expected);
    }
    let mut coverage = Coverage::default();
    for scope in [Scope::Users, Scope::Groups, Scope::Apps, app_users("0oa1")] {
        coverage.completed(scope, at(0));
    }
    let group = Scope::Group(GroupId::new("00g1").unwrap());
    coverage.opened(user("00u1"), GapKind::UnseenReference);
    let unseen: &[&str] = &["UNSEEN_REFERENCE:user(00u1)"];
    check(&coverage, true, None, &[Scope::Users], unseen);
    check(&coverage, true, None, &[Scope::Groups, Scope::Apps, app_users("0oa1")], &[]);
    // Chosen by id: this one, or another one.
    check(&coverage, false, None, &[Scope::Users, user("00u1")], unseen);
    check(&coverage, false, None, &[Scope::Users, user("00u2")], &[]);
    let before = Some(coverage.generation());
    coverage.closed(&user("00u1"), GapKind::UnseenReference);
    check(&coverage, true, None, &[Scope::Users], &[]);
    // It may have closed while the rows were read.
    check(&coverage, true, before, &[Scope::Users], unseen);
    check(&coverage, true, before, &[Scope::Apps], &[]);
    check(&coverage, false, before, &[Scope::Users], &[]);
    check(&coverage, false, before, &[Scope::Users, user("00u1")], unseen);
    coverage.opened(group, GapKind::UnseenReference);
    check(&coverage, true, None, &[Scope::Groups], &["UNSEEN_REFERENCE:group(00g1)"]);
    check(&coverage, true, None, &[Scope::Users], &[]);
}

#[test]
fn what_is_too_old_is_stale() {
    let mut coverage = Coverage::default();
    coverage.completed(Scope::Users, at(1_000));
    coverage.completed(Scope::Groups, at(1_000));
    let policy =
        CoveragePolicy { stale_after_millis: Some(100), log_stale_after_millis: Some(10), ..CoveragePolicy::default() };
    let asked = |now, through: Option<i64>| Asked {
        now: at(now),
        observed_through: through.map(at),
        policy,
        ..Asked::default()
    };
    check_at(&coverage, asked(1_100, None), &[Scope::Users], &[]);
    check_at(&coverage, asked(1_101, None), &[Scope::Users], &["STALE:users"]);
    check_at(&coverage, asked(1_020, Some(1_010)), &[Scope::Users], &[]);
    check_at(&coverage, asked(1_021, Some(1_010)), &[Scope::Users], &["STALE:log"]);
    check_at(&coverage, Asked { now: at(9_999), ..Asked::default() }, &[Scope::Users], &[]);
    coverage.completed(Scope::Users, at(1_050));
    check_at(&coverage, asked(1_101, None), &[Scope::Users], &[]);
}

#[test]
fn a_gap_that_closes_meanwhile_still_stands() {
    #[track_caller]
    fn check(coverage: &Coverage, generation: u64, expected: &[&str]) {
        let asked = Asked { generation: Some(generation), ..Asked::default() };
        check_at(coverage, asked, &[Scope::Users, app_users("0oa1")], expected);
    }
    let mut coverage = Coverage::default();
    let start = coverage.generation();
    coverage.completed(Scope::Users, at(0));
    coverage.completed(Scope::Groups, at(0));
    coverage.completed(app_users("0oa1"), at(0));
    check(&coverage, start, &["NOT_READ:app_users(0oa1)", "NOT_READ:users"]);
    let read = coverage.generation();
    check(&coverage, read, &[]);
    coverage.completed(Scope::Users, at(0)); // The same once more.
    assert_eq!((coverage.generation(), coverage.renewals()), (read, 0));
    coverage.completed(Scope::Users, at(1)); // Again: nothing new but when.
    assert_eq!((coverage.generation(), coverage.renewals()), (read, 1));
    coverage.opened(Scope::Users, GapKind::Failed);
    check(&coverage, read, &["FAILED:users"]);
    let open = coverage.generation();
    coverage.closed(&Scope::Users, GapKind::Failed);
    check(&coverage, open, &["FAILED:users"]);
    check(&coverage, coverage.generation(), &[]);
    // What is not asked for does not matter, and what was forgotten counts against everything.
    for number in 0..=RECENT_CLOSINGS_MAX {
        coverage.completed(app_users(&format!("other{number}")), at(0));
    }
    check(&coverage, open, &["NOT_READ:app_users(0oa1)", "NOT_READ:users"]);
    check(&coverage, coverage.generation() - 1, &[]);
    coverage.opened(Scope::Users, GapKind::Forbidden);
    let refused = coverage.generation();
    coverage.forget(&Scope::Users);
    check(&coverage, refused, &["FORBIDDEN:users", "NOT_READ:users"]);
}

#[test]
fn who_sees_an_object_that_comes_or_goes_sees_a_scope_that_is_complete() {
    #[track_caller]
    fn check(coverage: &Coverage, generation: u64, expected: &[&str]) {
        check_at(coverage, Asked { generation: Some(generation), ..Asked::default() }, &[app_users("0oa1")], expected);
    }
    let mut coverage = Coverage::default();
    let before = coverage.generation();
    coverage.born(app_users("0oa1"), at(0));
    check(&coverage, before, &[]);
    let there = coverage.generation();
    assert_ne!(there, before, "what was computed before is computed anew");
    coverage.gone(&app_users("0oa1"));
    check(&coverage, there, &[]);
    check(&coverage, coverage.generation(), &["NOT_READ:app_users(0oa1)"]);
    // Whoever asked very long ago is not told that it was complete.
    for number in 0..=RECENT_CLOSINGS_MAX {
        coverage.born(app_users(&format!("other{number}")), at(0));
        coverage.gone(&app_users(&format!("other{number}")));
    }
    check(&coverage, before, &["NOT_READ:app_users(0oa1)"]);
}

#[test]
fn unreadable_rows_are_stale() {
    let mut coverage = Coverage::default();
    assert!(!coverage.is_stale(&Scope::Users, "00u1"));
    for kind in GapKind::ALL {
        coverage.opened(Scope::Users, kind);
        let expected = !matches!(
            kind,
            GapKind::Held | GapKind::ImplicitAssignment | GapKind::LogLost | GapKind::NotRead | GapKind::CountMismatch
        );
        assert_eq!(coverage.is_stale(&Scope::Users, "00u1"), expected, "{kind:?}");
        coverage.closed(&Scope::Users, kind);
    }
}

#[test]
fn stale_rows_are_withheld_as_the_policy_says() {
    let mut coverage = Coverage::default();
    let app = app_users("0oa1");
    coverage.completed(app.clone(), at(1_000));
    coverage.completed(Scope::Users, at(1_000));
    coverage.completed(Scope::Groups, at(1_000));
    let keep = CoveragePolicy::default();
    let withhold = CoveragePolicy { on_gap: OnGap::Withhold, ..keep };
    let some_time = CoveragePolicy { max_stale_millis: Some(50), ..keep };
    for policy in [keep, withhold, some_time] {
        assert!(!coverage.withholds(&app, "00u1", at(9_999), policy), "nothing is wrong with it");
    }
    coverage.opened(app.clone(), GapKind::Forbidden);
    coverage.opened(user("00u1"), GapKind::UnseenReference);
    for scope in [app, user("00u1")] {
        assert!(!coverage.withholds(&scope, "00u1", at(9_999), keep));
        assert!(coverage.withholds(&scope, "00u1", at(1_000), withhold));
        assert!(!coverage.withholds(&scope, "00u1", at(1_050), some_time));
        assert!(coverage.withholds(&scope, "00u1", at(1_051), some_time));
    }
    coverage.opened(app_users("0oa2"), GapKind::Forbidden);
    assert!(coverage.withholds(&app_users("0oa2"), "00u1", at(0), some_time), "never read to its end");
}

#[test]
fn rows_of_before_a_closing_are_withheld_as_they_were() {
    let mut coverage = Coverage::default();
    let (app, other) = (app_users("0oa1"), app_users("0oa2"));
    for scope in [&app, &other] {
        coverage.completed(scope.clone(), at(1_000));
    }
    coverage.opened(app.clone(), GapKind::Forbidden);
    coverage.opened(other.clone(), GapKind::Held);
    let before = coverage.generation();
    coverage.closed(&app, GapKind::Forbidden);
    coverage.closed(&other, GapKind::Held);
    coverage.completed(app.clone(), at(2_000));
    let keep = CoveragePolicy::default();
    let withhold = CoveragePolicy { on_gap: OnGap::Withhold, ..keep };
    let some_time = CoveragePolicy { max_stale_millis: Some(50), ..keep };
    let after = coverage.generation();
    for (policy, expected) in [(keep, false), (withhold, true), (some_time, true)] {
        assert_eq!(coverage.withheld_since(&app, "00u1", before, at(2_001), policy), expected);
        assert!(!coverage.withheld_since(&app, "00u1", after, at(2_001), policy), "the rows are those of after it");
        assert!(!coverage.withheld_since(&other, "00u1", before, at(2_001), policy), "its rows were not outdated");
    }
    // So many have closed since that nobody knows which.
    for n in 0..5_000 {
        let scope = app_users(&format!("0oa{n}x"));
        coverage.opened(scope.clone(), GapKind::Forbidden);
        coverage.closed(&scope, GapKind::Forbidden);
    }
    assert!(coverage.withheld_since(&other, "00u1", before, at(2_001), withhold));
    assert!(!coverage.withheld_since(&other, "00u1", coverage.generation(), at(2_001), withhold));
}

fn rows(ids: &[&str]) -> Reach {
    Reach::rows(std::sync::Arc::new(ids.iter().map(|id| ((*id).into(), None)).collect()))
}

/// Which of two rows are stale; both are withheld exactly then.
fn stale_of(coverage: &Coverage, scope: &Scope) -> String {
    let withhold = CoveragePolicy { on_gap: OnGap::Withhold, ..CoveragePolicy::default() };
    let is_stale = |row: &&str| {
        let is_stale = coverage.is_stale(scope, row);
        assert_eq!(coverage.withholds(scope, row, at(0), withhold), is_stale, "{row}");
        assert!(!coverage.withholds(scope, row, at(0), CoveragePolicy::default()));
        is_stale
    };
    ["a", "b"].into_iter().filter(is_stale).collect()
}

#[test]
fn records_that_could_not_be_read_make_no_other_row_stale() {
    let mut coverage = Coverage::default();
    let list = app_users("0oa1");
    coverage.completed(list.clone(), at(0));
    let mut check = |change: &dyn Fn(&mut Coverage), stale: &str, open_gaps: &[&str]| {
        let generation = coverage.generation();
        change(&mut coverage);
        assert_ne!(coverage.generation(), generation, "what is answered has changed");
        assert_eq!(stale_of(&coverage, &list), stale);
        self::check(&coverage, std::slice::from_ref(&list), open_gaps);
        let generation = coverage.generation();
        coverage.opened_for(app_users("0oa2"), rows(&["a"]));
        coverage.opened_for(app_users("0oa2"), rows(&["a"]));
        assert!(coverage.generation() <= generation + 1, "said twice, it is no news");
    };
    let failed: &[&str] = &["FAILED:app_users(0oa1)"];
    let this = || app_users("0oa1");
    check(&|coverage| coverage.opened_for(this(), rows(&[])), "", failed);
    check(&|coverage| coverage.opened_for(this(), rows(&["a"])), "a", failed);
    check(&|coverage| coverage.opened_for(this(), rows(&["b"])), "b", failed);
    check(&|coverage| coverage.widened(this(), &rows(&["a"])), "ab", failed);
    check(&|coverage| coverage.opened_for(this(), rows(&["a"])), "a", failed);
    // The next walk breaks off, or another thing is wrong with the list.
    check(&|coverage| coverage.opened(this(), GapKind::Failed), "ab", failed);
    check(&|coverage| coverage.opened_for(this(), rows(&["a"])), "a", failed);
    let both: &[&str] = &["FAILED:app_users(0oa1)", "HELD:app_users(0oa1)"];
    check(&|coverage| coverage.opened(this(), GapKind::Held), "a", both);
    check(&|coverage| coverage.closed(&this(), GapKind::Held), "a", failed);
    let both: &[&str] = &["FAILED:app_users(0oa1)", "UNAUTHORIZED:app_users(0oa1)"];
    check(&|coverage| coverage.opened(this(), GapKind::Unauthorized), "ab", both);
    check(&|coverage| coverage.closed(&this(), GapKind::Unauthorized), "a", failed);
    check(&|coverage| coverage.closed(&this(), GapKind::Failed), "", &[]);
    // It does not come back as what it was before.
    check(&|coverage| coverage.opened(this(), GapKind::Failed), "ab", failed);
    check(&|coverage| coverage.forget(&this()), "", &["NOT_READ:app_users(0oa1)"]);
}

#[test]
fn rows_of_before_are_outdated_as_far_as_the_gap_reached_then() {
    let withhold = CoveragePolicy { on_gap: OnGap::Withhold, ..CoveragePolicy::default() };
    let list = app_users("0oa1");
    let check = |before: &dyn Fn(&mut Coverage), after: &dyn Fn(&mut Coverage), expected: &str| {
        let mut coverage = Coverage::default();
        coverage.completed(app_users("0oa1"), at(0));
        before(&mut coverage);
        let generation = coverage.generation();
        after(&mut coverage);
        let is_withheld = |row: &&str| coverage.withheld_since(&list, row, generation, at(0), withhold);
        assert_eq!(["a", "b"].into_iter().filter(is_withheld).collect::<String>(), expected);
    };
    let whole = |coverage: &mut Coverage| coverage.opened(app_users("0oa1"), GapKind::Failed);
    let of_a = |coverage: &mut Coverage| coverage.opened_for(app_users("0oa1"), rows(&["a"]));
    let of_b = |coverage: &mut Coverage| coverage.opened_for(app_users("0oa1"), rows(&["b"]));
    let closed = |coverage: &mut Coverage| coverage.closed(&app_users("0oa1"), GapKind::Failed);
    check(&whole, &of_a, "ab");
    check(&of_a, &of_a, "a");
    check(&of_a, &of_b, "ab");
    check(&of_a, &whole, "ab");
    check(&of_a, &closed, "a");
    check(&whole, &closed, "ab");
    check(&closed, &of_a, "a");
}

#[test]
fn failures_become_gaps_or_another_try() {
    let detail = || "GET /api/v1/groups: 403 E0000006".to_owned();
    let kind = |failure| gap_of_failure(&Scope::Groups, &failure).map(|gap| gap.kind);
    assert_eq!(kind(ReadFailure::Forbidden { missing_scope: None, detail: detail() }), Some(GapKind::Forbidden));
    assert_eq!(
        kind(ReadFailure::Forbidden { missing_scope: Some("okta.groups.read".into()), detail: detail() }),
        Some(GapKind::ScopeMissing)
    );
    assert_eq!(kind(ReadFailure::Failed { detail: detail() }), Some(GapKind::Failed));
    assert_eq!(kind(ReadFailure::CursorGone), None);
    assert_eq!(kind(ReadFailure::RestartWalk { limit: 100 }), None);
}

#[test]
fn names_and_ids_read_back() {
    for kind in GapKind::ALL {
        assert_eq!(GapKind::parse(kind.name()), Some(kind));
        for scope in [Scope::Users, app_users("0oa1"), user("00u1")] {
            assert_eq!(GapId::parse(GapId::of(kind, &scope).as_str()), Some((kind, scope)));
        }
    }
    for bad in ["", "FORBIDDEN", "FORBIDDEN:nothing", "ODD:users"] {
        assert_eq!(GapId::parse(bad), None, "{bad}");
    }
}

#[test]
fn the_remedy_names_what_cures() {
    #[track_caller]
    fn check(scope: &Scope, kind: GapKind, words: &[&str]) {
        let remedy = remedy(scope, kind);
        for word in words {
            assert!(remedy.contains(word), "{kind:?} on {scope}: {remedy}");
        }
    }
    let group = Scope::GroupMembers(GroupId::new("00g1").unwrap());
    check(&Scope::Users, GapKind::Forbidden, &["Read-only Administrator", "okta.users.read", "all users"]);
    check(&group, GapKind::Forbidden, &["okta.groups.read", "group 00g1"]);
    check(&app_users("0oa1"), GapKind::Forbidden, &["okta.apps.read", "app 0oa1"]);
    check(&Scope::Log, GapKind::Forbidden, &["Report", "no custom-role permission"]);
    check(&Scope::Log, GapKind::LogLost, &["okta.logs.read", "Report"]);
    check(&group, GapKind::ScopeMissing, &["okta.groups.read"]);
    check(&user("00u1"), GapKind::UnseenReference, &["okta.users.read", "user 00u1", "release"]);
    check(&group, GapKind::CountMismatch, &["okta.users.read"]);
    check(&Scope::Users, GapKind::EmptySuspect, &["okta.users.read"]);
    check(&group, GapKind::EmptySuspect, &["okta.groups.read", "release"]);
    check(&app_users("0oa1"), GapKind::Held, &["okta.apps.read", "release"]);
}

//! The copy by table: events in, what is seen and what is answered out.

use super::*;
use crate::core::coverage::GapKind;
use crate::core::model::{Key, Row, Scope};
use crate::core::normalize::NORMALIZE_VERSION;
use crate::core::normalize::lookup_key;
use crate::core::resolve::AskedOf;
use okta_idmap_proto::v1::change_event::Event;

const NOW: i64 = 1_770_000_000_000;
const LIMIT: usize = 20;

fn at(millis: i64) -> Option<prost_types::Timestamp> {
    Some(crate::serve::timestamp(Timestamp::from_millis(millis)))
}

fn policy() -> v1::ResolutionPolicy {
    v1::ResolutionPolicy {
        normalize_version: NORMALIZE_VERSION,
        facts_version: FACTS_VERSION,
        user_statuses: vec!["ACTIVE".to_owned()],
        app_user_statuses: vec!["ACTIVE".to_owned()],
        quarantine: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..v1::ResolutionPolicy::default()
    }
}

fn user(id: &str, login: &str) -> Event {
    let row = v1::User {
        id: id.to_owned(),
        login: login.to_owned(),
        status: v1::UserStatus::Active.into(),
        ..v1::User::default()
    };
    Event::Upsert(v1::Row { row: Some(v1::row::Row::User(row)) })
}

fn app(id: &str) -> Event {
    let row = v1::App {
        id: id.to_owned(),
        label: "Jira".to_owned(),
        status: v1::AppStatus::Active.into(),
        ..v1::App::default()
    };
    Event::Upsert(v1::Row { row: Some(v1::row::Row::App(row)) })
}

fn account(user: &str, name: &str) -> Event {
    let row = v1::AppUser {
        app_id: "0oa1".to_owned(),
        user_id: user.to_owned(),
        user_name: name.to_owned(),
        status: v1::AppUserStatus::Active.into(),
        scope: v1::AssignmentScope::Direct.into(),
        ..v1::AppUser::default()
    };
    Event::Upsert(v1::Row { row: Some(v1::row::Row::AppUser(row)) })
}

fn no_account(user: &str) -> Event {
    let key = v1::AppUserKey { app_id: "0oa1".to_owned(), user_id: user.to_owned() };
    Event::Delete(v1::RowKey { key: Some(v1::row_key::Key::AppUser(key)) })
}

fn held(user: &str, names: &[&str]) -> Event {
    let name = |name: &&str| v1::ReleasedName {
        app_id: "0oa1".to_owned(),
        field: "user_name".to_owned(),
        name: (*name).to_owned(),
        released_at: at(NOW),
    };
    let names = names.iter().map(name).collect();
    Event::HeldNames(v1::HeldNames { user_id: user.to_owned(), names, truncated: false })
}

fn scope(scope: &str, completed: bool, gaps: &[v1::GapKind]) -> v1::ScopeCoverage {
    v1::ScopeCoverage {
        scope: scope.to_owned(),
        completed_at: if completed { at(NOW) } else { None },
        open_gaps: gaps.iter().map(|kind| (*kind).into()).collect(),
        settled: true,
        unread_rows: None,
    }
}

fn coverage(full: bool, more: bool, scopes: &[v1::ScopeCoverage]) -> Event {
    Event::Coverage(v1::CoverageChange { full, more, scopes: scopes.to_vec() })
}

fn all_read() -> Event {
    let scopes = ["users", "groups", "apps", "app_users(0oa1)", "log"].map(|name| scope(name, true, &[]));
    coverage(true, false, &scopes)
}

fn end() -> Event {
    Event::SnapshotEnd(v1::SnapshotEnd::default())
}

fn mark(revision: u64, store: &str, consistent: bool) -> Event {
    let meta = v1::ResponseMeta { revision, store_id: store.to_owned(), ..v1::ResponseMeta::default() };
    let resolution = v1::ResolutionMark { consistent, served_at: at(NOW), ..v1::ResolutionMark::default() };
    let (era, policy_id) = (format!("e{}", revision / 10), format!("p{}", revision / 5));
    Event::Checkpoint(v1::Checkpoint { meta: Some(meta), resolution: Some(resolution), era, policy_id })
}

fn checkpoint(revision: u64) -> Event {
    mark(revision, "s", true)
}

/// A copy and the draft for it.
struct Copy {
    mirror: Option<Mirror>,
    draft: Draft,
}

impl Copy {
    fn listing() -> Self {
        Self { mirror: None, draft: Draft::listing(LIMIT) }
    }

    /// Two users, of whom one has the account `ann`, at revision 5.
    fn listed() -> Self {
        let mut copy = Self::listing();
        let events = [
            Event::Policy(policy()),
            Event::SnapshotBegin(v1::SnapshotBegin::default()),
            user("00u1", "ann@example.com"),
            user("00u2", "bob@example.com"),
            app("0oa1"),
            account("00u1", "ann"),
            end(),
            all_read(),
            checkpoint(5),
        ];
        assert_eq!(copy.take(events), "More More More More More More More More 5");
        copy
    }

    /// What each event leads to: the revision that is published, or the name of the step or error.
    fn take(&mut self, events: impl IntoIterator<Item = Event>) -> String {
        let mut shown = Vec::new();
        for event in events {
            let step = self.draft.apply(v1::ChangeEvent { revision: 0, event: Some(event) });
            let made = step.and_then(|step| match step {
                Step::Publish(change) => {
                    change.make(&mut self.mirror)?;
                    Ok(self.mirror.as_ref().unwrap().revision().to_string())
                }
                step => Ok(format!("{step:?}")),
            });
            shown.push(made.unwrap_or_else(|error| format!("{error:?}").split(' ').next().unwrap().to_owned()));
        }
        shown.join(" ")
    }

    /// Outcome, user and gaps of a name.
    fn who(&self, name: &str) -> String {
        self.who_at(name, NOW)
    }

    fn who_at(&self, name: &str, now: i64) -> String {
        let request = v1::ResolveAccountRequest {
            account: Some(crate::client::calls::account("0oa1", name)),
            ..v1::ResolveAccountRequest::default()
        };
        let answer = self.mirror.as_ref().unwrap().resolve(&request, Timestamp::from_millis(now)).unwrap();
        let Answer::Local(answer) = answer else { return "OnlyServerKnows".to_owned() };
        let resolution = answer.resolution.unwrap();
        assert_eq!(answer.meta.unwrap().gap_ids, resolution.gap_ids);
        let user = resolution.user.as_ref().map_or(String::new(), |user| format!(" {}", user.id));
        format!("{:?}{user} {}", resolution.outcome(), resolution.gap_ids.join(" ")).trim_end().to_owned()
    }
}

#[test]
fn a_list_is_seen_when_it_is_whole() {
    let copy = Copy::listed();
    assert_eq!(copy.who("ann"), "Resolved 00u1");
    assert_eq!(copy.who("ann@example.com"), "Resolved 00u1");
    assert_eq!(copy.who("bob@example.com"), "NotFound");
    let mirror = copy.mirror.unwrap();
    assert_eq!((mirror.revision(), mirror.store_id(), mirror.row_count()), (5, "s", 4));
}

#[test]
fn changes_are_seen_together_and_only_at_a_consistent_checkpoint() {
    let mut copy = Copy::listed();
    let moved = [no_account("00u1"), held("00u1", &["ann"]), account("00u2", "ann")];
    assert_eq!(copy.take(moved), "More More More");
    assert_eq!(copy.who("ann"), "Resolved 00u1");
    assert_eq!(copy.take([mark(6, "s", false)]), "Alive");
    assert_eq!(copy.who("ann"), "Resolved 00u1");
    assert_eq!(copy.take([checkpoint(7)]), "7");
    // Until the quarantine is over, the name may still mean the other.
    assert_eq!(copy.who("ann"), "Reused");
    assert_eq!(copy.who_at("ann", NOW + 3_600_001), "Resolved 00u2");
    assert_eq!(copy.take([held("00u1", &[]), checkpoint(8)]), "More 8");
    assert_eq!(copy.who("ann"), "Resolved 00u2");
}

#[test]
fn a_draft_that_is_dropped_leaves_the_copy_alone() {
    let mut copy = Copy::listed();
    assert_eq!(copy.take([no_account("00u1"), mark(6, "s", false)]), "More Alive");
    copy.draft = Draft::following(LIMIT);
    assert_eq!(copy.take([Event::Policy(policy()), all_read(), checkpoint(5)]), "More More 5");
    assert_eq!(copy.who("ann"), "Resolved 00u1");
}

#[test]
fn what_a_new_list_does_not_show_is_gone() {
    let mut copy = Copy::listed();
    copy.draft = Draft::listing(LIMIT);
    let events = [Event::Policy(policy()), user("00u2", "bob@example.com"), app("0oa1"), end(), all_read()];
    assert_eq!(copy.take(events), "More More More More More");
    assert_eq!(copy.who("ann"), "Resolved 00u1");
    assert_eq!(copy.take([mark(3, "another", true)]), "3");
    assert_eq!(copy.who("ann"), "NotFound");
    assert_eq!(copy.mirror.unwrap().store_id(), "another");
}

#[test]
fn coverage_makes_the_difference_between_nobody_and_unknown() {
    let mut copy = Copy::listed();
    let failed = coverage(false, false, &[scope("app_users(0oa1)", true, &[v1::GapKind::Failed])]);
    assert_eq!(copy.take([failed, checkpoint(6)]), "More 6");
    assert_eq!(copy.who("nobody"), "UnknownGap FAILED:app_users(0oa1)");
    assert_eq!(copy.who("ann"), "Resolved 00u1 FAILED:app_users(0oa1)");
    // An unsettled word adds and takes nothing away.
    let unsettled = v1::ScopeCoverage { settled: false, ..scope("app_users(0oa1)", false, &[v1::GapKind::Held]) };
    assert_eq!(copy.take([coverage(false, false, &[unsettled]), checkpoint(6)]), "More 6");
    assert_eq!(copy.who("nobody"), "UnknownGap FAILED:app_users(0oa1) HELD:app_users(0oa1)");
    // A full word in two parts: what is not named is not known any more.
    let parts = [
        coverage(true, true, &[scope("users", true, &[]), scope("groups", true, &[])]),
        coverage(true, false, &[scope("apps", true, &[])]),
    ];
    assert_eq!(copy.take(parts), "More More");
    assert_eq!(copy.take([checkpoint(7)]), "7");
    assert_eq!(copy.who("nobody"), "UnknownGap NOT_READ:app_users(0oa1)");
    assert!(!copy.mirror.unwrap().coverage.has_open(&Scope::Users, GapKind::Failed));
}

fn unread_row(id: &str) -> v1::UnreadRow {
    v1::UnreadRow { id: id.to_owned(), read_at: at(NOW) }
}

#[test]
fn a_bad_record_keeps_no_other_row_back() {
    let mut copy = Copy::listed();
    let withholds = v1::ResolutionPolicy { withholds: true, ..policy() };
    let read_but = |ids: Option<&[&str]>| {
        let unread_rows =
            ids.map(|ids| v1::UnreadRows { rows: ids.iter().map(|id| unread_row(id)).collect(), are_all_stale: false });
        let users = v1::ScopeCoverage { unread_rows, ..scope("users", true, &[v1::GapKind::Failed]) };
        coverage(false, false, &[users])
    };
    let mut check = |told: Event, expected: &str| {
        assert_eq!(copy.take([Event::Policy(withholds.clone()), told, checkpoint(6)]), "More More 6");
        assert_eq!(copy.who("ann"), expected);
    };
    check(read_but(Some(&[])), "Resolved 00u1 FAILED:users");
    check(read_but(Some(&["00u2"])), "Resolved 00u1 FAILED:users");
    check(read_but(Some(&["00u1", "00u2"])), "UnknownGap FAILED:users");
    check(read_but(Some(&["00u2"])), "Resolved 00u1 FAILED:users");
    // A list that broke off; so say servers that cannot tell.
    check(read_but(None), "UnknownGap FAILED:users");
    check(coverage(false, false, &[scope("users", true, &[])]), "Resolved 00u1");
}

#[test]
fn a_policy_in_parts_is_one() {
    let mut copy = Copy::listed();
    copy.draft = Draft::following(LIMIT);
    let alias = |name: &str, user: &str| v1::AccountAlias {
        app_id: "0oa1".to_owned(),
        identifier: Some(v1::Identifier { value: name.to_owned(), kind: 0 }),
        user_id: user.to_owned(),
    };
    let part = |more, aliases| v1::ResolutionPolicy { more, aliases, ..v1::ResolutionPolicy::default() };
    let parts = [
        Event::Policy(v1::ResolutionPolicy { more: true, ..policy() }),
        Event::Policy(part(true, vec![alias("boss", "00u1")])),
        Event::Policy(part(false, vec![alias("chief", "00u1")])),
        all_read(),
        checkpoint(5),
    ];
    assert_eq!(copy.take(parts), "More More More More 5");
    assert_eq!((copy.who("boss"), copy.who("chief")), ("Resolved 00u1".to_owned(), "Resolved 00u1".to_owned()));
}

fn override_row(number: i64, name: &str, user: &str, expires_at: i64) -> Event {
    let row = v1::Override {
        number,
        source: v1::OverrideSource::Rpc.into(),
        app_id: "0oa1".to_owned(),
        name: name.to_owned(),
        user_id: user.to_owned(),
        expires_at: at(expires_at),
        ..v1::Override::default()
    };
    Event::Upsert(v1::Row { row: Some(v1::row::Row::Override(row)) })
}

#[test]
fn an_override_decides_until_it_is_over() {
    let gone = |number| {
        let key = v1::row_key::Key::Override(v1::OverrideKey { number, ..v1::OverrideKey::default() });
        Event::Delete(v1::RowKey { key: Some(key) })
    };
    let mut copy = Copy::listed();
    assert_eq!(copy.take([override_row(7, "boss", "00u1", NOW + 1_000)]), "More");
    assert_eq!(copy.who("boss"), "NotFound");
    assert_eq!(copy.take([checkpoint(6)]), "6");
    assert_eq!(copy.who("boss"), "Resolved 00u1");
    assert_eq!(copy.who_at("boss", NOW + 999), "Resolved 00u1");
    assert_eq!(copy.who_at("boss", NOW + 1_000), "NotFound");
    // The number stays, and the name goes with what was there before.
    assert_eq!(copy.take([override_row(7, "chief", "00u1", NOW + 1_000), checkpoint(7)]), "More 7");
    assert_eq!((copy.who("boss"), copy.who("chief")), ("NotFound".to_owned(), "Resolved 00u1".to_owned()));
    // It is in the copy that is saved.
    let (mut events, mut again) = (Vec::new(), Copy::listing());
    copy.mirror.as_ref().unwrap().for_each_event(&mut |event| {
        events.extend(event.event);
        true
    });
    assert!(again.take(events).ends_with(" 7"));
    assert_eq!(again.who("chief"), "Resolved 00u1");
    assert_eq!(copy.take([gone(7), gone(8), checkpoint(8)]), "More More 8");
    assert_eq!((copy.who("chief"), copy.mirror.unwrap().row_count()), ("NotFound".to_owned(), 4));
    let mut copy = Copy::listing();
    assert_eq!(copy.take([override_row(1, "x", "a b", NOW)]), "Malformed");
}

#[test]
fn a_longer_quarantine_needs_names_that_were_not_told() {
    let quarantine = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let mut copy = Copy::listed();
    let shorter = Event::Policy(v1::ResolutionPolicy { quarantine: quarantine(60), ..policy() });
    assert_eq!(copy.take([shorter, checkpoint(6)]), "More 6");
    assert_eq!(copy.take([Event::Policy(policy()), checkpoint(7)]), "More MustList");
    assert_eq!(copy.mirror.unwrap().revision(), 6);
}

#[test]
fn what_only_the_server_knows_is_not_guessed() {
    let mut copy = Copy::listed();
    let Event::Checkpoint(mut told) = checkpoint(6) else { panic!("a checkpoint") };
    told.resolution.as_mut().unwrap().keeps_filtered_names = true;
    assert_eq!(copy.take([Event::Checkpoint(told)]), "6");
    assert_eq!(copy.who("ann"), "Resolved 00u1");
    assert_eq!(copy.who("nobody"), "OnlyServerKnows");
}

#[test]
fn events_that_make_no_sense_are_refused() {
    #[track_caller]
    fn check(listing: bool, event: Event, expected: &str) {
        let mut copy = if listing { Copy::listing() } else { Copy::listed() };
        assert_eq!(copy.take([event]), expected);
        assert!(listing || copy.who("ann") == "Resolved 00u1");
    }
    let bare = |meta| Event::Checkpoint(v1::Checkpoint { meta, ..Default::default() });
    check(false, bare(Some(v1::ResponseMeta::default())), "ServerTooOld");
    check(false, mark(6, "another", true), "Malformed");
    check(false, mark(4, "s", true), "Malformed");
    check(false, end(), "Malformed");
    check(false, Event::SnapshotBegin(v1::SnapshotBegin::default()), "Malformed");
    check(true, checkpoint(5), "Malformed");
    check(false, user("a b", ""), "Malformed");
    check(false, coverage(false, false, &[scope("nonsense", true, &[])]), "Malformed");
    check(false, Event::TooOld(v1::TooOld::default()), "ListAgain(Unspecified)");
    let restored = v1::TooOld { reason: v1::TooOldReason::StoreRestored.into(), ..Default::default() };
    check(false, Event::TooOld(restored), "ListAgain(StoreRestored)");
    // What a later version may send.
    check(false, Event::Upsert(v1::Row { row: None }), "More");
    check(false, Event::Delete(v1::RowKey { key: None }), "More");
    let unheard = v1::ScopeCoverage { open_gaps: vec![999], ..scope("users", true, &[]) };
    check(false, coverage(false, false, &[unheard]), "ServerTooNew");
}

#[test]
fn a_server_of_other_rules_is_not_copied() {
    #[track_caller]
    fn check(policy: Option<v1::ResolutionPolicy>, expected: &str) {
        let mut copy = Copy::listing();
        copy.take(policy.map(Event::Policy));
        assert_eq!(copy.take([end(), checkpoint(5)]), format!("More {expected}"));
        assert!(copy.mirror.is_none());
    }
    check(None, "ServerTooOld");
    check(Some(v1::ResolutionPolicy { facts_version: FACTS_VERSION + 1, ..policy() }), "ServerTooNew");
    check(Some(v1::ResolutionPolicy { normalize_version: NORMALIZE_VERSION + 1, ..policy() }), "ServerTooNew");
    check(Some(v1::ResolutionPolicy { user_statuses: vec!["SUSPENDED".to_owned()], ..policy() }), "Malformed");
    check(Some(v1::ResolutionPolicy { quarantine: None, ..policy() }), "Malformed");
}

#[test]
fn a_copy_grows_up_to_its_limit() {
    let users = |from: usize, to: usize| (from..to).map(|n| user(&format!("00u{n}"), "x@example.com"));
    let mut copy = Copy::listing();
    let shown = copy.take(users(0, LIMIT + 1));
    assert!(shown.ends_with("More TooManyRows"), "{shown}");
    // While nothing is published, as well as with what is there.
    let mut copy = Copy::listed();
    assert!(copy.take(users(10, 10 + LIMIT + 1)).ends_with("More TooManyRows"));
    let mut copy = Copy::listed();
    assert!(copy.take(users(10, 10 + LIMIT - 3)).ends_with("More"));
    assert_eq!(copy.take([checkpoint(6)]), "TooManyRows");
}

#[test]
fn a_copy_is_made_again_from_its_events() {
    let mut copy = Copy::listed();
    let gap = coverage(false, false, &[scope("user(00u9)", false, &[v1::GapKind::UnseenReference])]);
    assert_eq!(copy.take([held("00u2", &["ann"]), gap, checkpoint(6)]), "More More 6");
    let whole = copy.mirror.unwrap();
    let (mut events, mut again) = (Vec::new(), Copy::listing());
    whole.for_each_event(&mut |event| {
        events.extend(event.event);
        true
    });
    assert!(again.take(events).ends_with(" 6"));
    let copy = Copy { mirror: Some(whole), draft: Draft::following(LIMIT) };
    for name in ["ann", "bob@example.com", "nobody"] {
        assert_eq!(again.who(name), copy.who(name));
    }
    assert_eq!(again.who("ann"), "Reused UNSEEN_REFERENCE:user(00u9)");
}

#[test]
fn keys_and_counts_are_those_of_the_rows() {
    let id = |n: usize| UserId::new(&format!("00u{n}")).unwrap();
    let app_id = AppId::new("0oa1").unwrap();
    let decoded = |event: Event| match event {
        Event::Upsert(row) => match decode::row(row).unwrap() {
            Some(decode::Decoded::Row(row)) => row,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    let names = ["a", "A", "b", ""];
    let (mut table, mut random) = (Table::default(), fastrand::Rng::with_seed(3));
    let mut model: std::collections::BTreeMap<usize, Row> = std::collections::BTreeMap::new();
    for _ in 0..2_000 {
        let n = random.usize(..4);
        if random.bool() {
            let row = decoded(account(&format!("00u{n}"), random.choice(names).unwrap()));
            table.put(row.clone());
            model.insert(n, row);
        } else {
            table.remove(&Key::AppUser(app_id.clone(), id(n)));
            model.remove(&n);
        }
        table.put_held(id(n), table::Held::default());
        assert_eq!(table.len(), model.len());
        for name in ["a", "b"] {
            let has = |row: &Row| match row {
                Row::AppUser(row) => row.user_name.as_deref().is_some_and(|held| held.eq_ignore_ascii_case(name)),
                _ => false,
            };
            let expected: Vec<UserId> = model.iter().filter(|(_, row)| has(row)).map(|(n, _)| id(*n)).collect();
            let found = table.with_key(&app_id, lookup_key(name).unwrap(), AskedOf::AccountsAndUsers, 10);
            assert_eq!(found, expected.iter().collect::<Vec<_>>());
        }
        let apps: Vec<bool> = (0..4).map(|n| table.accounts_of(&id(n)).count() == 1).collect();
        assert_eq!(apps, (0..4).map(|n| model.contains_key(&n)).collect::<Vec<_>>());
    }
}

#[test]
fn names_that_were_held_long_ago_are_forgotten() {
    let user = UserId::new("00u1").unwrap();
    let name = |name: &str, at: i64| crate::store::ReleasedName {
        app: None,
        kind: "login".to_owned(),
        name: name.to_owned(),
        released_at: Timestamp::from_millis(at),
    };
    let mut table = Table::default();
    let put = |table: &mut Table, is_cut| {
        let names = vec![name("old", 10), name("new", 20)];
        table.put_held(user.clone(), table::Held { names, is_cut });
    };
    put(&mut table, false);
    let held =
        |table: &Table, name: &str| table.held_names(&AppId::new("0oa1").unwrap(), lookup_key(name).unwrap(), 10).len();
    assert_eq!((table.len(), held(&table, "OLD"), held(&table, "new")), (2, 1, 1));
    table.forget_held(Timestamp::from_millis(15));
    assert_eq!((table.len(), held(&table, "old"), held(&table, "new")), (1, 0, 1));
    table.forget_held(Timestamp::from_millis(25));
    assert_eq!((table.len(), held(&table, "new")), (0, 0)); // What was not told is older than what was.
    put(&mut table, true);
    assert!(table.is_cut());
    table.forget_held(Timestamp::from_millis(15));
    assert!(!table.is_cut() && table.len() == 1);
}

#[test]
fn names_that_are_left_out_are_asked_of_the_server() {
    let mut copy = Copy::listed();
    let Event::HeldNames(names) = held("00u2", &["old"]) else { panic!("held names") };
    assert_eq!(copy.take([Event::HeldNames(v1::HeldNames { truncated: true, ..names }), checkpoint(6)]), "More 6");
    assert_eq!(copy.who("ann"), "OnlyServerKnows");
    assert_eq!(copy.take([held("00u2", &["old"]), checkpoint(7)]), "More 7");
    assert_eq!(copy.who("ann"), "Resolved 00u1");
}

#[test]
fn other_facts_are_listed_anew() {
    let mut copy = Copy::listed();
    let older = v1::ResolutionPolicy { facts_version: FACTS_VERSION - 1, ..policy() };
    assert_eq!(copy.take([Event::Policy(older), checkpoint(6)]), "More MustList");
    assert_eq!(copy.mirror.unwrap().revision(), 5);
}

#[test]
fn long_lists_are_saved_in_parts() {
    let mut copy = Copy::listing();
    let rules = (0..1_201).map(|n| v1::AppNameRule { app: format!("0oa{n}"), rule: "exact".to_owned() }).collect();
    let mut scopes: Vec<_> = (0..1_201).map(|n| scope(&format!("app_users(0oa{n})"), true, &[])).collect();
    scopes[7].open_gaps = vec![v1::GapKind::Failed.into()];
    scopes[7].unread_rows =
        Some(v1::UnreadRows { rows: vec![unread_row("00u1"), unread_row("00u2")], are_all_stale: true });
    let begin =
        [Event::Policy(v1::ResolutionPolicy { name_rules: rules, ..policy() }), end(), coverage(true, false, &scopes)];
    assert_eq!(copy.take(begin), "More More More");
    assert_eq!(copy.take([checkpoint(5)]), "5");
    let (whole, mut again) = (copy.mirror.unwrap(), Copy::listing());
    let mut parts = Vec::new();
    whole.for_each_event(&mut |event| {
        parts.extend(event.event);
        true
    });
    assert_eq!(parts.len(), 4 + 3 + 2);
    assert!(again.take(parts).ends_with(" 5"));
    let again = again.mirror.unwrap();
    assert_eq!(again.policy.wire.name_rules, whole.policy.wire.name_rules);
    assert_eq!(again.coverage.all_scopes(), whole.coverage.all_scopes());
}

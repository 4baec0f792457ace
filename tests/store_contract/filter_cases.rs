//! What a store does under a filter, one promise each: who is dropped, who is asked for, what is known of them afterwards.

use std::path::Path;

use okta_idmap::core::batch::{Batch, Receipt};
use okta_idmap::core::coverage::{GapKind, Reach};
use okta_idmap::core::event::MemberChange;
use okta_idmap::core::filter::{DomainFilter, DomainPattern, Filter, GroupFilter, UserVerdict};
use okta_idmap::core::ids::{GroupId, RequestNumber, Timestamp, UserId};
use okta_idmap::core::model::{GroupType, Key, Kind, Row, Scope, User};
use okta_idmap::core::normalize::{Identifier, NameRule};
use okta_idmap::core::pending::Target;
use okta_idmap::core::reconcile::Brake;
use okta_idmap::core::resolve::NameField;
use okta_idmap::store::{ChangeRetention, Store, StoreConfig};

use super::cases::{
    app, app_group, app_id, app_user, batch, finished, group, group_id, member, user, user_id, walking,
};
use super::commit;

fn domains(list: &[&str]) -> Filter {
    let users = DomainFilter::new(list.iter().map(|domain| DomainPattern::parse(domain).unwrap()));
    Filter { users, ..Filter::default() }
}

fn groups(parts: &[&str]) -> Filter {
    let name_contains = parts.iter().map(|part| (*part).to_owned()).collect();
    Filter { groups: GroupFilter { name_contains, skip_app_groups: false }, ..Filter::default() }
}

fn open(dir: &Path, filter: Filter) -> Store {
    let changes = ChangeRetention::default();
    let config = StoreConfig {
        dir: dir.to_owned(),
        brake: Brake { share: 0.2, rows: 3 },
        credential: "a".to_owned(),
        changes,
        filter,
    };
    Store::open(config).unwrap()
}

/// A user whose login is in another domain than that of [`user`].
fn outsider(n: usize) -> Row {
    with(n, |user| user.login = Some(format!("out{n}@outside.test").into()))
}

fn with(n: usize, change: impl FnOnce(&mut User)) -> Row {
    let Row::User(mut row) = user(n) else { unreachable!() };
    change(&mut row);
    Row::User(row)
}

fn followed(mut batch: Batch) -> Batch {
    batch.is_followed = true;
    batch.members_since = batch.at;
    batch
}

fn put(store: &Store, batch: Batch) -> Receipt {
    commit(store, &[batch]).remove(0).unwrap()
}

fn owed(receipt: &Receipt) -> Vec<String> {
    receipt.owed.iter().map(|debt| debt.target.name()).collect()
}

#[track_caller]
fn check_users(store: &Store, expected: &[usize]) {
    let stored = store.reader.read(|snapshot| snapshot.users(None, 100)).unwrap();
    let ids: Vec<_> = stored.rows.into_iter().map(|user| user.id).collect();
    assert_eq!(ids, expected.iter().map(|n| user_id(*n)).collect::<Vec<_>>());
}

#[track_caller]
fn check_accounts(store: &Store, expected: &[usize]) {
    let stored = store.reader.read(|snapshot| snapshot.app_users(&app_id(), None, 100)).unwrap();
    let ids: Vec<_> = stored.rows.into_iter().map(|row| row.user).collect();
    assert_eq!(ids, expected.iter().map(|n| user_id(*n)).collect::<Vec<_>>());
}

fn knows(store: &Store, n: usize) -> bool {
    store.reader.read(|snapshot| snapshot.is_filtered_user(&user_id(n))).unwrap()
}

fn knows_name(store: &Store, name: &str, field: NameField) -> bool {
    let name = Identifier::new(name).unwrap();
    let fields = [(field, NameRule::Default)];
    store.reader.read(|snapshot| snapshot.is_filtered_name(Some(&app_id()), name, &fields)).unwrap()
}

#[test]
fn outsiders_leave_only_hashes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), domains(&["example.com"]));
    put(&store, finished(batch(1, vec![user(1), outsider(2)]), Scope::Users, 1));
    put(&store, batch(2, vec![app("Jira"), group("Eng", GroupType::OktaGroup)]));
    let receipt = put(&store, followed(batch(3, vec![app_user(1), app_user(2), member(1), member(2)])));
    assert_eq!(owed(&receipt), Vec::<String>::new());
    check_users(&store, &[1]);
    check_accounts(&store, &[1]);
    assert!(knows(&store, 2) && !knows(&store, 1) && !knows(&store, 3));
    assert!(knows_name(&store, "user2", NameField::UserName) && !knows_name(&store, "user1", NameField::UserName));
    assert!(knows_name(&store, "OUT2@Outside.test", NameField::Login));
    assert!(!store.reader.read(|snapshot| snapshot.is_member(&group_id(), &user_id(2))).unwrap());
    // Another name takes the place of the one before.
    let renamed = with(2, |user| user.login = Some("other2@outside.test".into()));
    put(&store, batch(4, vec![renamed]));
    assert!(knows_name(&store, "other2@outside.test", NameField::Login));
    assert!(!knows_name(&store, "out2@outside.test", NameField::Login));
}

#[test]
fn whom_nobody_knows_is_asked_for_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), domains(&["example.com"]));
    put(&store, batch(1, vec![app("Jira"), group("Eng", GroupType::OktaGroup)]));
    // Before the users are read, everybody is unknown: then the list of users will tell.
    let receipt = put(&store, followed(batch(2, vec![app_user(5)])));
    assert_eq!(owed(&receipt), Vec::<String>::new());
    put(&store, finished(batch(3, vec![user(1)]), Scope::Users, 3));
    let receipt = put(&store, followed(batch(4, vec![app_user(7), member(7), app_user(1)])));
    assert_eq!(owed(&receipt), ["user(00u0007)"]);
    check_accounts(&store, &[1]);
    let waiting = store.reader.read(|snapshot| snapshot.undecided(10)).unwrap();
    assert!(waiting.iter().all(|(_, kind, _)| *kind == Kind::User));
    assert_eq!(waiting.len(), 3, "{waiting:?}");
    let receipt = put(&store, followed(batch(5, vec![app_user(7)])));
    assert_eq!(owed(&receipt), Vec::<String>::new(), "a second time it is no news");
    // A membership event of somebody unknown is one more way to hear of them.
    let change =
        MemberChange { group: group_id(), user: user_id(8), added: true, published: Some(Timestamp::default()) };
    let receipt = put(&store, followed(Batch { members: vec![change], ..batch(6, Vec::new()) }));
    assert_eq!(owed(&receipt), ["user(00u0008)"]);
    // Found to be wanted: its accounts and groups are read; found not to be: nothing is.
    let receipt = put(&store, followed(Batch { is_reread: true, ..batch(7, vec![user(7), outsider(8)]) }));
    assert_eq!(owed(&receipt), ["user_apps(00u0007)", "user_groups(00u0007)"]);
    let waiting = store.reader.read(|snapshot| snapshot.undecided(10)).unwrap();
    assert_eq!(waiting.len(), 1, "only 5 is still unknown: {waiting:?}");
}

#[test]
fn hidden_names_are_no_reason_to_drop_or_to_keep() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), domains(&["example.com"]));
    let hidden = |n| with(n, |user| (user.login, user.email) = (None, None));
    put(&store, finished(batch(1, vec![user(1), hidden(2)]), Scope::Users, 1));
    check_users(&store, &[1]);
    assert!(!knows(&store, 2));
    let gaps = store.reader.read(|snapshot| snapshot.gaps(true, 10)).unwrap();
    assert_eq!(gaps.iter().map(|gap| gap.gap.kind).collect::<Vec<_>>(), [GapKind::Failed]);
    let records = store.reader.read(|snapshot| snapshot.quarantined(10)).unwrap();
    assert!(records[0].item == "00u0002" && records[0].reason.contains("email_domains"), "{records:?}");
    let stale = || match store.reader.coverage().stale(&Scope::Users) {
        Some(Reach { is_whole: false, rows }) => rows.keys().map(ToString::to_string).collect(),
        reach => vec![format!("{reach:?}")],
    };
    assert_eq!(stale(), ["00u0002"]);
    // Of one who is stored nothing is known to have changed.
    put(&store, batch(2, vec![hidden(1)]));
    assert_eq!(stale(), ["00u0001", "00u0002"], "told by an answer that is no list");
    put(&store, finished(batch(2, vec![hidden(1), hidden(2)]), Scope::Users, 2));
    check_users(&store, &[1]);
    assert_eq!(stale(), ["00u0001", "00u0002"]);
    // Hidden once more, in a walk under way and outside of it, is not read.
    put(&store, walking(batch(5, vec![hidden(1)]), Scope::Users, 5, 1));
    assert_eq!(stale(), ["00u0001", "00u0002"]);
    put(&store, batch(6, vec![hidden(2)]));
    assert_eq!(stale(), ["00u0001", "00u0002"]);
    assert_eq!(store.reader.read(|snapshot| snapshot.gaps(true, 10)).unwrap()[0].opened_at, Some(batch(1, vec![]).now));
    put(&store, finished(batch(7, vec![user(1), user(2)]), Scope::Users, 7));
    check_users(&store, &[1, 2]);
    assert!(store.reader.read(|snapshot| snapshot.gaps(true, 10)).unwrap().is_empty());
}

#[test]
fn who_leaves_the_domains_goes_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), domains(&["example.com"]));
    let rows = vec![user(1), app("Jira"), group("Eng", GroupType::OktaGroup), app_user(1), member(1)];
    put(&store, batch(1, rows));
    let renamed = with(1, |user| user.login = Some("was1@example.com".into()));
    put(&store, batch(2, vec![renamed]));
    let login = Identifier::new("user1@example.com").unwrap();
    let held = || store.reader.read(|snapshot| snapshot.held_names(&app_id(), login.lookup_key(), 10)).unwrap();
    assert_eq!(held().len(), 1);
    put(&store, Batch { is_reread: true, ..batch(5, vec![outsider(1)]) });
    check_users(&store, &[]);
    check_accounts(&store, &[]);
    assert!(held().is_empty() && knows(&store, 1) && knows_name(&store, "user1", NameField::UserName));
    assert_eq!(store.reader.read(|snapshot| snapshot.meta()).unwrap().purged.0, 3, "the index is made anew");
    // A page that was asked for before does not bring it back.
    put(&store, batch(4, vec![user(1)]));
    check_users(&store, &[]);
    // It is gone from Okta: nobody who is filtered.
    put(&store, Batch { removals: vec![Key::User(user_id(1))], is_reread: true, ..batch(6, Vec::new()) });
    assert!(!knows(&store, 1) && !knows_name(&store, "user1", NameField::UserName));
}

#[test]
fn a_list_that_lags_brings_nobody_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), domains(&["example.com"]));
    let dated = |row: Row, at: i64| match row {
        Row::User(user) => Row::User(User { last_updated: Some(Timestamp::from_millis(at)), ..user }),
        row => row,
    };
    put(&store, Batch { is_reread: true, ..batch(5, vec![dated(outsider(1), 100)]) });
    put(&store, batch(6, vec![dated(user(1), 50)]));
    check_users(&store, &[]);
    put(&store, batch(7, vec![dated(user(1), 150)]));
    check_users(&store, &[1]);
    assert!(!knows(&store, 1));
}

#[test]
fn those_who_are_gone_are_forgotten_unless_too_many_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), domains(&["example.com"]));
    let page = |at, of: std::ops::Range<usize>| {
        let rows = of.map(outsider).chain([user(90)]).collect();
        finished(batch(at, rows), Scope::Users, at)
    };
    put(&store, page(1, 0..20));
    let known = |store: &Store| (0..20).filter(|n| knows(store, *n)).count();
    assert_eq!(known(&store), 20);
    put(&store, page(2, 0..18));
    assert_eq!(known(&store), 18);
    put(&store, page(3, 0..2));
    assert_eq!(known(&store), 18, "a list that shows so much less is not believed");
    let counts = store.reader.read(|snapshot| snapshot.filtered_counts()).unwrap();
    assert_eq!(counts[&Kind::User], 18);
}

#[test]
fn groups_that_are_not_wanted_are_named_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), groups(&["Eng"]));
    put(&store, batch(1, vec![user(1), app("Jira"), group("Sales", GroupType::OktaGroup)]));
    let assignments = finished(batch(2, vec![app_group()]), Scope::AppGroups(app_id()), 2);
    put(&store, followed(assignments));
    put(&store, followed(batch(3, vec![app_user(1), member(1)])));
    let via = |store: &Store| {
        let row = store.reader.read(|snapshot| snapshot.app_user(&app_id(), &user_id(1))).unwrap();
        row.unwrap().via_group
    };
    assert_eq!(via(&store), None);
    assert!(store.reader.read(|snapshot| snapshot.is_filtered_group(&group_id())).unwrap());
    assert!(store.reader.read(|snapshot| snapshot.app_groups(&app_id(), None, 9)).unwrap().rows.is_empty());
    assert!(!store.reader.read(|snapshot| snapshot.is_member(&group_id(), &user_id(1))).unwrap());
    // Renamed into the filter: the list of assignments that named it is read again, then the accounts.
    let renamed = batch(4, vec![group("Eng now", GroupType::OktaGroup)]);
    let receipt = put(&store, followed(Batch { is_reread: true, ..renamed }));
    assert_eq!(owed(&receipt), ["list(app_groups(0oa1))"]);
    let receipt = put(&store, followed(batch(5, vec![app_group()])));
    assert_eq!(owed(&receipt), ["list(app_users(0oa1))"]);
    put(&store, batch(6, vec![app_user(1)]));
    assert_eq!(via(&store), Some(group_id()));
    // And out of it again.
    put(&store, Batch { is_reread: true, ..batch(7, vec![group("Sales", GroupType::OktaGroup)]) });
    assert_eq!(via(&store), None);
}

#[test]
fn another_filter_purges_and_owes_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let everything = || {
        vec![user(1), outsider(2), app("Jira"), group("Eng", GroupType::OktaGroup), app_user(1), app_user(2), member(2)]
    };
    let store = open(dir.path(), Filter::default());
    put(&store, batch(1, everything()));
    drop(store);
    let owed = |store: &Store| -> Vec<Target> {
        let debts = store.reader.read(|snapshot| snapshot.pending_reads()).unwrap();
        debts.into_iter().map(|debt| debt.target).collect()
    };
    let store = open(dir.path(), domains(&["example.com"]));
    check_users(&store, &[1]);
    check_accounts(&store, &[1]);
    assert!(knows(&store, 2) && knows_name(&store, "user2", NameField::UserName) && owed(&store).is_empty());
    let meta = store.reader.read(|snapshot| snapshot.meta()).unwrap();
    assert!(meta.purged == meta.revision && !meta.is_widened && meta.rows[&Kind::AppUser] == 1);
    drop(store);
    // The same again changes nothing.
    let store = open(dir.path(), domains(&["example.com"]));
    assert_eq!(store.reader.read(|snapshot| snapshot.meta()).unwrap().revision, meta.revision);
    drop(store);
    let store = open(dir.path(), domains(&["example.com", "outside.test"]));
    assert_eq!(owed(&store), [Target::List(Scope::Users)]);
    assert!(store.reader.read(|snapshot| snapshot.meta()).unwrap().is_widened);
    drop(store);
    let store = open(dir.path(), Filter::default());
    let members = Target::List(Scope::GroupMembers(group_id()));
    assert_eq!(owed(&store), [Target::List(Scope::AppUsers(app_id())), members, Target::List(Scope::Users)]);
    assert!(!knows(&store, 2));
    let debts = store.reader.read(|snapshot| snapshot.pending_reads()).unwrap();
    assert!(debts.iter().all(|debt| debt.since > RequestNumber(1)), "only what is read from now on counts: {debts:?}");
}

/// What must hold of every store under a filter, whatever was committed.
fn check_invariants(store: &Store, filter: &Filter, label: &str) {
    let reader = &store.reader;
    let users = reader.read(|snapshot| snapshot.users(None, 1_000)).unwrap().rows;
    let groups = reader.read(|snapshot| snapshot.groups(None, 1_000)).unwrap().rows;
    for user in &users {
        assert_eq!(filter.users.judge(user), UserVerdict::Wanted, "{label}: {user:?}");
        assert!(user.second_email.is_none(), "{label}: {user:?}");
        assert!(!reader.read(|snapshot| snapshot.is_filtered_user(&user.id)).unwrap(), "{label}: stored and filtered");
    }
    let is_user = |id: &UserId| users.iter().any(|user| user.id == *id);
    // Without a filter of groups what names one that was never shown is stored.
    let is_group = |id: &GroupId| !filter.groups.is_active() || groups.iter().any(|group| group.id == *id);
    for group in &groups {
        assert!(filter.groups.wants(group), "{label}: {group:?}");
        let members = reader.read(|snapshot| snapshot.members(&group.id, None, 1_000)).unwrap().rows;
        assert!(group.is_everyone() || members.iter().all(|(user, _)| is_user(user)), "{label}: {members:?}");
    }
    for app in reader.read(|snapshot| snapshot.apps(None, 1_000)).unwrap().rows {
        for row in reader.read(|snapshot| snapshot.app_users(&app.id, None, 1_000)).unwrap().rows {
            // The group that gave it may be gone meanwhile: its list is read again then, as without a filter.
            assert!(is_user(&row.user), "{label}: {row:?}");
        }
        for row in reader.read(|snapshot| snapshot.app_groups(&app.id, None, 1_000)).unwrap().rows {
            assert!(is_group(&row.group), "{label}: {row:?}");
        }
    }
    let counted = reader.read(|snapshot| snapshot.meta()).unwrap().rows;
    assert_eq!(counted.get(&Kind::User).copied().unwrap_or_default(), users.len() as u64, "{label}");
    assert_eq!(counted.get(&Kind::Group).copied().unwrap_or_default(), groups.len() as u64, "{label}");
}

/// The same random batches as against the model, under filters that change with the restarts.
#[test]
fn random_batches_keep_to_the_filter() {
    let rules = super::Rules {
        credential: "a".to_owned(),
        brake: Brake { share: 0.2, rows: 3 },
        changes: ChangeRetention::default(),
    };
    let strict = |name: &str| Filter {
        skip_secondary_emails: true,
        groups: GroupFilter { name_contains: [name.to_owned()].into(), skip_app_groups: name == "E" },
        ..domains(&["example.com"])
    };
    let filters = [strict("E"), strict("v"), Filter { groups: GroupFilter::default(), ..strict("E") }];
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let mut model = super::Model::default();
        let mut store = open(dir.path(), filters[0].clone());
        let mut filter = &filters[0];
        let mut source = super::Source {
            random: fastrand::Rng::with_seed(seed),
            now: Timestamp::from_millis(1_770_000_000_000),
            request: store.writer.first_request_number().0,
        };
        for number in 0..60 {
            let batches = super::step(&mut source, &model, &rules);
            for (outcome, batch) in commit(&store, &batches).into_iter().zip(&batches) {
                assert_eq!(outcome.is_ok(), model.apply(batch, &rules).is_some(), "seed {seed}, step {number}");
            }
            check_invariants(&store, filter, &format!("seed {seed}, step {number}"));
            if source.random.usize(0..8) == 0 {
                drop(store);
                filter = &filters[source.random.usize(0..filters.len())];
                store = open(dir.path(), filter.clone());
                source.request = store.writer.first_request_number().0;
                check_invariants(&store, filter, &format!("seed {seed}, restart after {number}"));
            }
        }
    }
}

//! Everything that a reader can see, against the model.
//!
//! Entry point: [`compare`]. Lists are read in pages of random size; what is compared is always the whole list.

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::core::batch::{WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Asked, GapId, GapKind};
use okta_idmap::core::ids::{AppId, GroupId, Revision};
use okta_idmap::core::model::{AppGroup, AppUser, Key, Kind, Row, Scope, User};
use okta_idmap::core::normalize::{LookupKey, lookup_key};
use okta_idmap::core::resolve::AskedOf;
use okta_idmap::store::{ChangeKey, ChangeOp, PageOf, Reader, Snapshot, StoreError};

use super::generate::{NAMES, app_ids, gap_scopes, group_ids, scopes, user_ids};
use super::model::{Model, account_names, user_names};
use super::overrides::compare_overrides;

/// More than any list of the tests holds.
const ALL: usize = 10_000;

type Read<T> = Result<T, StoreError>;

/// Fails where a reader sees something else than the model holds.
pub(crate) fn compare(reader: &Reader, model: &Model, random: &mut fastrand::Rng) {
    reader
        .read(|snapshot| {
            compare_meta(snapshot, model)?;
            compare_single_rows(snapshot, model)?;
            compare_lists(snapshot, model, random)?;
            compare_lists_of_one(snapshot, model, random)?;
            compare_names(snapshot, model)?;
            compare_groups(snapshot, model, random)?;
            compare_books(snapshot, model)?;
            compare_changes(snapshot, model, random)?;
            compare_gap_changes(snapshot, model, random)?;
            // With a copy: what the run does next is not changed by it.
            compare_overrides(snapshot, model, &mut random.clone())?;
            compare_follow(snapshot, model)?;
            compare_keys(snapshot, model, random)?;
            let mut apps: Vec<_> = reader.apps(snapshot)?.iter().map(|app| Row::App(app.clone())).collect();
            apps.sort_by_key(Row::key);
            assert_eq!(apps, rows(model, Kind::App), "cached apps");
            Ok(())
        })
        .unwrap();
    compare_coverage(reader, model);
}

fn rows(model: &Model, kind: Kind) -> Vec<Row> {
    model.of_kind(kind).map(|(_, row)| row.clone()).collect()
}

/// Reads a list to its end in pages of random size; a page must be full unless it is the last.
fn whole<T>(random: &mut fastrand::Rng, mut read: impl FnMut(Option<i64>, usize) -> Read<PageOf<T>>) -> Read<Vec<T>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let limit = random.usize(1..5);
        let page = read(after, limit)?;
        assert!(page.rows.len() <= limit, "a page of {} rows, asked for {limit}", page.rows.len());
        assert!(page.next.is_none() || page.rows.len() == limit, "a short page with a next one");
        all.extend(page.rows);
        assert!(all.len() <= ALL, "the list does not end");
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

fn sorted<T>(rows: Vec<T>, row: impl Fn(T) -> Row) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.into_iter().map(row).collect();
    rows.sort_by_key(Row::key);
    rows
}

fn compare_meta(snapshot: &Snapshot<'_>, model: &Model) -> Read<()> {
    let meta = snapshot.meta()?;
    assert_eq!(snapshot.revision(), model.revision, "revision");
    assert_eq!(meta.revision, model.revision, "revision in meta");
    assert_eq!(meta.crawl, model.crawl, "crawl");
    assert_eq!(meta.cursor, model.cursor, "cursor");
    assert_eq!(meta.deltas, model.deltas, "deltas");
    assert_eq!(meta.observed_through, model.observed_through, "observed through");
    assert_eq!(meta.observed_by_our_clock, model.observed_by_our_clock, "observed through, by our clock");
    assert_eq!(meta.opened_at, model.opened_at, "a position that was opened");
    assert_eq!(snapshot.times(), (model.crawl.completed_at, model.observed_through), "times");
    for scope in scopes() {
        let expected = model.rows.keys().filter(|key| key.scope() == scope).count();
        assert_eq!(snapshot.rows_in(&scope)?, expected as u64, "number of rows of {scope}");
    }
    assert_eq!(snapshot.quarantined_count()?, model.quarantine.len() as u64, "number of bad records");
    assert_eq!(snapshot.groups_mark()?.0, model.of_kind(Kind::Group).count() as u64, "number of groups");
    for kind in Kind::ALL {
        assert_eq!(meta.rows.get(&kind).copied(), Some(model.of_kind(kind).count() as u64), "count of {kind:?}");
    }
    Ok(())
}

fn compare_single_rows(snapshot: &Snapshot<'_>, model: &Model) -> Read<()> {
    let stored = |key: Key| model.rows.get(&key).map(|stored| stored.row.clone());
    for user in user_ids() {
        assert_eq!(snapshot.user(&user)?.map(Row::User), stored(Key::User(user.clone())), "{user}");
    }
    for group in group_ids() {
        assert_eq!(snapshot.group(&group)?.map(Row::Group), stored(Key::Group(group.clone())), "{group}");
    }
    for app in app_ids() {
        assert_eq!(snapshot.app(&app)?.map(Row::App), stored(Key::App(app.clone())), "{app}");
        for user in user_ids() {
            let key = Key::AppUser(app.clone(), user.clone());
            assert_eq!(snapshot.app_user(&app, &user)?.map(Row::AppUser), stored(key), "{app} {user}");
        }
    }
    Ok(())
}

fn compare_lists(snapshot: &Snapshot<'_>, model: &Model, random: &mut fastrand::Rng) -> Read<()> {
    let users = whole(random, |after, limit| snapshot.users(after, limit))?;
    assert_eq!(sorted(users, Row::User), rows(model, Kind::User), "users");
    let groups = whole(random, |after, limit| snapshot.groups(after, limit))?;
    assert_eq!(sorted(groups, Row::Group), rows(model, Kind::Group), "groups");
    let apps = whole(random, |after, limit| snapshot.apps(after, limit))?;
    assert_eq!(sorted(apps, Row::App), rows(model, Kind::App), "apps");
    Ok(())
}

fn compare_lists_of_one(snapshot: &Snapshot<'_>, model: &Model, random: &mut fastrand::Rng) -> Read<()> {
    for app in app_ids() {
        let of_app = |kind: Kind| -> Vec<Row> {
            let is_of_app = |key: &Key| matches!(key, Key::AppUser(a, _) | Key::AppGroup(a, _) if *a == app);
            model.of_kind(kind).filter(|(key, _)| is_of_app(key)).map(|(_, row)| row.clone()).collect()
        };
        let users = whole(random, |after, limit| snapshot.app_users(&app, after, limit))?;
        assert_eq!(sorted(users, Row::AppUser), of_app(Kind::AppUser), "app users of {app}");
        let groups = whole(random, |after, limit| snapshot.app_groups(&app, after, limit))?;
        assert_eq!(sorted(groups, Row::AppGroup), of_app(Kind::AppGroup), "app groups of {app}");
    }
    for user in user_ids() {
        let is_of_user = |key: &Key| matches!(key, Key::AppUser(_, u) if *u == user);
        let expected: Vec<Row> =
            model.of_kind(Kind::AppUser).filter(|(key, _)| is_of_user(key)).map(|(_, row)| row.clone()).collect();
        let accounts = whole(random, |after, limit| snapshot.accounts(&user, after, limit))?;
        assert_eq!(sorted(accounts, Row::AppUser), expected, "accounts of {user}");
    }
    Ok(())
}

fn users_named(model: &Model, name: &str) -> BTreeMap<String, User> {
    let key = lookup_key(name).ok();
    let is_named = |user: &User| user_names(user).iter().any(|(_, name)| lookup_key(name).ok() == key);
    let users = model.of_kind(Kind::User).filter_map(|(_, row)| match row {
        Row::User(user) if is_named(user) => Some((user.id.to_string(), user.clone())),
        _ => None,
    });
    users.collect()
}

fn accounts_named(model: &Model, app: &AppId, name: &str) -> BTreeMap<String, AppUser> {
    let key = lookup_key(name).ok();
    let is_named = |account: &AppUser| account_names(account).iter().any(|(_, name)| lookup_key(name).ok() == key);
    let accounts = model.of_kind(Kind::AppUser).filter_map(|(_, row)| match row {
        Row::AppUser(account) if account.app == *app && is_named(account) => {
            Some((account.user.to_string(), account.clone()))
        }
        _ => None,
    });
    accounts.collect()
}

fn compare_names(snapshot: &Snapshot<'_>, model: &Model) -> Read<()> {
    for name in NAMES {
        let Ok(key) = lookup_key(name) else { continue };
        let named = users_named(model, name);
        let users = snapshot.users_by_key(key, ALL)?;
        let expected: Vec<Row> = named.values().cloned().map(Row::User).collect();
        assert_eq!(sorted(users, Row::User), expected, "users named {name:?}");
        for app in app_ids() {
            let mut held: Vec<_> = snapshot.held_names(&app, key, ALL)?;
            assert!(held.is_sorted_by_key(|held| std::cmp::Reverse(held.released_at)), "latest first");
            held.sort_by_key(|held| (held.of_okta, held.user.clone(), held.kind.clone(), held.name.clone()));
            let held: Vec<_> = held.into_iter().map(|h| (h.of_okta, h.user, h.kind, h.name, h.released_at)).collect();
            let mut expected: Vec<_> = model
                .held
                .iter()
                .filter(|((of, k, ..), _)| *k == key && of.as_ref().is_none_or(|of| *of == app))
                .map(|((of, _, user, kind, name), at)| {
                    (of.is_none(), user.clone(), (*kind).to_owned(), name.clone(), *at)
                })
                .collect();
            expected.sort();
            assert_eq!(held, expected, "holders of {name:?} in {app}");
            if !model.rows.contains_key(&Key::App(app.clone())) {
                continue; // An app that is not known is no app to look a name up in.
            }
            compare_candidates(snapshot, model, &app, name)?;
        }
    }
    Ok(())
}

fn compare_candidates(snapshot: &Snapshot<'_>, model: &Model, app: &AppId, name: &str) -> Read<()> {
    let Ok(key) = lookup_key(name) else { return Ok(()) };
    for of in [AskedOf::Accounts, AskedOf::AccountsAndUsers] {
        compare_candidates_of(snapshot, model, (app, name, key), of)?;
    }
    Ok(())
}

fn compare_candidates_of(
    snapshot: &Snapshot<'_>,
    model: &Model,
    (app, name, key): (&AppId, &str, LookupKey),
    of: AskedOf,
) -> Read<()> {
    let of_users = if of == AskedOf::Accounts { BTreeMap::new() } else { users_named(model, name) };
    let ids: BTreeSet<String> = of_users.into_keys().chain(accounts_named(model, app, name).into_keys()).collect();
    let stored = |key: Key| model.rows.get(&key).map(|stored| stored.row.clone());
    let mut expected: Vec<(Option<Row>, Option<Row>)> = user_ids()
        .into_iter()
        .filter(|user| ids.contains(user.as_str()))
        .map(|user| (stored(Key::User(user.clone())), stored(Key::AppUser(app.clone(), user))))
        .collect();
    let hits = snapshot.candidates(app, key, of, ALL)?;
    let mut found: Vec<(Option<Row>, Option<Row>)> =
        hits.iter().cloned().map(|hit| (hit.user.map(Row::User), hit.app_user.map(Row::AppUser))).collect();
    let order = |pair: &(Option<Row>, Option<Row>)| (pair.0.as_ref().map(Row::key), pair.1.as_ref().map(Row::key));
    found.sort_by_key(order);
    expected.sort_by_key(order);
    assert_eq!(found, expected, "candidates for {name:?} in {app}");
    let cut = snapshot.candidates(app, key, of, 1)?;
    assert_eq!(cut.len(), expected.len().min(1), "at most one candidate");
    Ok(())
}

fn compare_groups(snapshot: &Snapshot<'_>, model: &Model, random: &mut fastrand::Rng) -> Read<()> {
    let group_row = |group: &GroupId| model.rows.get(&Key::Group(group.clone())).map(|stored| stored.row.clone());
    for user in user_ids() {
        let groups = whole(random, |after, limit| snapshot.groups_of(&user, after, limit))?;
        let is_member = |group: &&GroupId| model.is_member(group, &user);
        let expected: Vec<Row> = group_ids().iter().filter(is_member).filter_map(group_row).collect();
        assert_eq!(sorted(groups, Row::Group), expected, "groups of {user}");
    }
    for group in group_ids() {
        let members = whole(random, |after, limit| snapshot.members(&group, after, limit))?;
        let mut members: Vec<_> = members.into_iter().map(|(id, user)| (id, user.map(Row::User))).collect();
        members.sort_by(|a, b| a.0.cmp(&b.0));
        let user_row = |user| model.rows.get(&Key::User(user)).map(|stored| stored.row.clone());
        let expected: Vec<_> = user_ids()
            .into_iter()
            .filter(|user| model.is_member(&group, user))
            .map(|user| (user.clone(), user_row(user)))
            .collect();
        assert_eq!(members, expected, "members of {group}");
        for user in user_ids() {
            assert_eq!(snapshot.is_member(&group, &user)?, model.is_member(&group, &user), "{user} in {group}");
        }
    }
    let app_groups = || {
        model.of_kind(Kind::AppGroup).filter_map(|(_, row)| match row {
            Row::AppGroup(assignment) => Some(assignment.clone()),
            _ => None,
        })
    };
    for app in app_ids() {
        for user in user_ids() {
            let is_granting = |row: &AppGroup| row.app == app && model.is_member(&row.group, &user);
            let mut expected: Vec<AppGroup> = app_groups().filter(is_granting).collect();
            expected.sort_by_key(|row| (row.priority.is_none(), row.priority, row.group.clone()));
            assert_eq!(snapshot.granting_groups(&app, &user)?, expected, "groups that grant {app} to {user}");
        }
    }
    let mut assigned: Vec<GroupId> = app_groups().map(|row| row.group).collect();
    assigned.sort();
    assigned.dedup();
    assigned.retain(|group| model.everyone().as_ref() != Some(group));
    assert_eq!(snapshot.assigned_groups()?, assigned, "assigned groups");
    let mut walked = snapshot.walked_groups()?;
    walked.sort();
    let is_walked = |group: &GroupId| group_row(group).is_some() && model.everyone().as_ref() != Some(group);
    assert_eq!(walked, group_ids().into_iter().filter(is_walked).collect::<Vec<_>>(), "groups with a list of members");
    Ok(())
}

fn compare_books(snapshot: &Snapshot<'_>, model: &Model) -> Read<()> {
    let mut records = snapshot.scopes(ALL)?;
    records.sort_by(|a, b| a.scope.cmp(&b.scope));
    let found: Vec<_> = records.into_iter().map(|r| (r.scope, r.state, r.crawl.0, r.completed_at)).collect();
    let state = |state: &WalkState| match state {
        WalkState::Todo => "todo",
        WalkState::Walking(_) => "walking",
        WalkState::Finished { .. } => "finished",
        WalkState::GivenUp => "given_up",
        WalkState::Unwanted | WalkState::Released => unreachable!("the model never drops a scope"),
    };
    let expected: Vec<_> = model
        .scopes
        .iter()
        .map(|(scope, book)| {
            let state = match book.state {
                _ if book.is_idle => "idle",
                _ if book.is_held => "held",
                _ => state(&book.state),
            };
            (scope.clone(), state.to_owned(), book.crawl, book.completed_at)
        })
        .collect();
    assert_eq!(found, expected, "scopes");
    // Where a finished walk began is of no use any more, so it is not compared.
    let plain = |state: WalkState| match state {
        WalkState::Finished { .. } => WalkState::Finished {
            from: okta_idmap::core::ids::RequestNumber(0),
            began: okta_idmap::core::ids::Timestamp::default(),
            known_empty: false,
            ended: Vec::new(),
        },
        state => state,
    };
    let mut walks = snapshot.crawl_walks(model.crawl.id)?;
    walks.sort_by(|a, b| a.scope.cmp(&b.scope));
    let walks: Vec<_> = walks.into_iter().map(|walk| (walk.scope, plain(walk.state))).collect();
    let in_crawl = model.scopes.iter().filter(|(_, book)| book.crawl == model.crawl.id.0);
    let expected: Vec<_> = in_crawl
        .map(|(scope, book)| WalkUpdate { scope: scope.clone(), state: book.state.clone() })
        .map(|walk| (walk.scope, plain(walk.state)))
        .collect();
    assert_eq!(walks, expected, "walks of the crawl");
    for open_only in [false, true] {
        let gaps = snapshot.gaps(open_only, ALL)?;
        assert!(gaps.is_sorted_by_key(|record| !record.open), "open gaps first");
        let found: BTreeMap<String, _> = gaps
            .into_iter()
            .map(|r| {
                (r.gap.id().as_str().to_owned(), (r.first_seen, r.last_seen, r.count, r.open, r.opened_at, r.closed_at))
            })
            .collect();
        let expected: BTreeMap<String, _> = model
            .gaps
            .iter()
            .filter(|(_, record)| record.open || !open_only)
            .map(|(id, r)| (id.clone(), (r.first_seen, r.last_seen, r.count, r.open, r.opened_at, r.closed_at)))
            .collect();
        assert_eq!(found, expected, "gaps, open only: {open_only}");
    }
    let mut found: Vec<_> =
        snapshot.quarantined(ALL)?.into_iter().map(|r| (r.scope, r.item, r.reason, r.last_seen)).collect();
    found.sort();
    let expected: Vec<_> = model
        .quarantine
        .iter()
        .map(|((scope, item, reason), bad)| (scope.clone(), item.clone(), reason.clone(), bad.last_seen))
        .collect();
    assert_eq!(found, expected, "quarantine");
    Ok(())
}

/// The natural key behind the surrogates of a line of the change log.
fn natural(snapshot: &Snapshot<'_>, key: ChangeKey) -> Read<Key> {
    let a = snapshot.id_of(key.a)?.expect("a surrogate without an id");
    let b = snapshot.id_of(key.b)?.unwrap_or_default();
    let user = |id: &str| okta_idmap::core::ids::UserId::new(id).unwrap();
    let group = |id: &str| GroupId::new(id).unwrap();
    let app = |id: &str| AppId::new(id).unwrap();
    Ok(match key.kind {
        Kind::User => Key::User(user(&a)),
        Kind::Group => Key::Group(group(&a)),
        Kind::App => Key::App(app(&a)),
        Kind::GroupMember => Key::GroupMember(group(&a), user(&b)),
        Kind::AppUser => Key::AppUser(app(&a), user(&b)),
        Kind::AppGroup => Key::AppGroup(app(&a), group(&b)),
    })
}

/// Reads the change log from a random revision on, in pieces of random size, and expects every line exactly once.
fn compare_changes(snapshot: &Snapshot<'_>, model: &Model, random: &mut fastrand::Rng) -> Read<()> {
    let first = Revision(random.u64(snapshot.meta()?.changes_from.0..=model.revision.0));
    let mut found: BTreeMap<Revision, BTreeMap<Key, ChangeOp>> = BTreeMap::new();
    let mut after = first;
    loop {
        let limit = random.usize(1..12);
        let changes = snapshot.changes_after(after, limit)?;
        let Some(last) = changes.last().map(|change| change.revision) else { break };
        assert!(changes.is_sorted_by_key(|change| change.revision), "oldest first");
        let is_one_revision = changes.iter().all(|change| change.revision == last);
        assert!(changes.len() <= limit || is_one_revision, "more lines than asked for");
        for change in changes {
            assert!(change.revision > after, "a revision in two pieces");
            let key = natural(snapshot, change.key)?;
            let old = found.entry(change.revision).or_default().insert(key, change.op);
            assert_eq!(old, None, "one line for a row and revision");
        }
        after = last;
    }
    let expected: BTreeMap<_, _> =
        model.log.range((std::ops::Bound::Excluded(first), std::ops::Bound::Unbounded)).collect();
    assert_eq!(found.iter().collect::<BTreeMap<_, _>>(), expected, "changes after {first}");
    Ok(())
}

fn compare_gap_changes(snapshot: &Snapshot<'_>, model: &Model, random: &mut fastrand::Rng) -> Read<()> {
    let first = Revision(random.u64(snapshot.meta()?.changes_from.0..=model.revision.0));
    let (mut found, mut after) = (BTreeMap::new(), first);
    loop {
        let changes = snapshot.gap_changes_after(after, random.usize(1..5))?;
        let Some(last) = changes.last() else { break };
        after = last.revision;
        for change in changes {
            let id = GapId::of(change.kind, &change.scope).as_str().to_owned();
            let old = found.insert((change.revision, id), change.opened);
            assert_eq!(old, None, "one line for a gap and revision");
        }
    }
    let after_first = model.gap_log.range((std::ops::Bound::Excluded(first), std::ops::Bound::Unbounded));
    let expected: BTreeMap<_, _> = after_first
        .flat_map(|(revision, gaps)| gaps.iter().map(|(id, opened)| ((*revision, id.clone()), *opened)))
        .collect();
    assert_eq!(found, expected, "gaps after {first}");
    Ok(())
}

/// What following the log starts with.
fn compare_follow(snapshot: &Snapshot<'_>, model: &Model) -> Read<()> {
    let found = snapshot.follow()?;
    assert_eq!(found.pending, model.debts(), "debts");
    assert_eq!(snapshot.pending_count()?, model.pending.len() as u64, "number of debts");
    assert_eq!((&found.cursor, found.observed_through), (&model.cursor, model.observed_through));
    assert_eq!(found.opened_at, model.opened_at);
    assert_eq!(found.deltas, model.deltas);
    assert_eq!(found.everyone, model.everyone().into_iter().collect::<Vec<_>>(), "Everyone");
    assert_eq!(found.apps.len(), model.of_kind(Kind::App).count(), "apps");
    let is_list = |scope: &Scope| matches!(scope, Scope::AppUsers(_));
    let listed: BTreeMap<_, _> = model
        .scopes
        .iter()
        .filter(|(scope, _)| is_list(scope))
        .filter_map(|(scope, book)| Some((scope.clone(), book.completed_at?)))
        .collect();
    assert_eq!(found.listed, listed, "lists of app users that were read");
    let open =
        model.gaps.values().filter(|record| record.open).map(|record| (record.gap.scope.clone(), record.gap.kind));
    assert_eq!(found.open_gaps, open.collect::<Vec<_>>(), "open gaps");
    let held: Vec<&Scope> = found.held.iter().map(|(scope, ..)| scope).collect();
    let mut expected: Vec<&Scope> =
        model.scopes.iter().filter(|(_, book)| book.is_held).map(|(scope, _)| scope).collect();
    expected.sort_by_key(|scope| scope.name());
    assert_eq!(held, expected, "held scopes");
    for (scope, missing, sample) in &found.held {
        let expected = model.missing(scope);
        assert_eq!(*missing, expected.len() as u64, "missing rows of {scope}");
        let distinct: BTreeSet<&Key> = sample.iter().collect();
        assert_eq!(distinct.len(), expected.len().min(5), "sample of {scope}: {sample:?}");
        assert!(sample.iter().all(|key| expected.contains(key)), "{sample:?} of {expected:?}");
    }
    compare_unseen(snapshot, model)?;
    for user in user_ids() {
        let is_of_user = |key: &&Key| matches!(key, Key::AppUser(_, u) if *u == user);
        let apps: BTreeSet<AppId> = model.rows.keys().filter(is_of_user).filter_map(app_of).collect();
        assert_eq!(snapshot.app_users_of_user_ids(&user)?.into_iter().collect::<BTreeSet<_>>(), apps, "{user}");
        assert_eq!(snapshot.count_user_apps(&user, 2)?, apps.len().min(2) as u64, "accounts of {user}");
    }
    for app in app_ids() {
        let users = model.rows.keys().filter(|key| matches!(key, Key::AppUser(a, _) if *a == app)).count();
        assert_eq!(snapshot.count_app_users(&app, 3)?, users.min(3) as u64, "accounts in {app}");
    }
    Ok(())
}

/// What rows name and no row is; of too many, some, and how many there are.
fn compare_unseen(snapshot: &Snapshot<'_>, model: &Model) -> Read<()> {
    let mut found = snapshot.unseen(ALL)?;
    found.users.sort();
    found.groups.sort();
    found.apps.sort();
    let expected = model.unseen();
    assert_eq!(found, expected, "unseen objects");
    let cut = snapshot.unseen(1)?;
    assert_eq!(cut.users.len(), expected.users.len().min(1));
    assert!(cut.user_count <= expected.user_count && (cut.user_count > 0) == (expected.user_count > 0));
    assert_eq!((cut.groups.len(), cut.group_count), (expected.groups.len().min(1), expected.group_count));
    Ok(())
}

fn app_of(key: &Key) -> Option<AppId> {
    match key {
        Key::AppUser(app, _) => Some(app.clone()),
        _ => None,
    }
}

fn compare_keys(snapshot: &Snapshot<'_>, model: &Model, random: &mut fastrand::Rng) -> Read<()> {
    for kind in Kind::ALL {
        let (mut all, mut after) = (Vec::new(), (-1, -1));
        loop {
            let limit = random.usize(1..6);
            let keys = snapshot.keys_after(kind, after, limit)?;
            assert!(keys.len() <= limit, "more keys than asked for");
            let Some(last) = keys.last() else { break };
            after = (last.a, last.b);
            for key in keys {
                all.push(natural(snapshot, key)?);
            }
        }
        all.sort();
        let expected: Vec<Key> = model.of_kind(kind).map(|(key, _)| key.clone()).collect();
        assert_eq!(all, expected, "keys of {kind:?}");
    }
    Ok(())
}

/// Whether `object` is one of those of a collection.
fn is_of(scope: &Scope, object: &Scope) -> bool {
    matches!(
        (scope, object),
        (Scope::Users, Scope::User(_)) | (Scope::Groups, Scope::Group(_)) | (Scope::Apps, Scope::App(_))
    )
}

fn compare_coverage(reader: &Reader, model: &Model) {
    for (scope, with_objects) in gap_scopes().into_iter().flat_map(|scope| [(scope.clone(), false), (scope, true)]) {
        let mut expected: BTreeSet<GapId> = model
            .gaps
            .values()
            .filter(|record| {
                let of = &record.gap.scope;
                // What the log did not tell may have changed anything.
                record.open && (*of == scope || *of == Scope::Log || (with_objects && is_of(&scope, of)))
            })
            .map(|record| record.gap.id())
            .collect();
        let completed_at = model.scopes.get(&scope).and_then(|book| book.completed_at);
        assert_eq!(reader.coverage().completed_at(&scope), completed_at, "last complete read of {scope}");
        if scope.object().is_none() && completed_at.is_none() {
            expected.insert(GapId::of(GapKind::NotRead, &scope));
        }
        // The count of all users stands in the list of groups.
        let is_read = |scope: &Scope| model.scopes.get(scope).is_some_and(|book| book.completed_at.is_some());
        let has_gap = |scope: &Scope| model.gaps.values().any(|record| record.open && record.gap.scope == *scope);
        if scope == Scope::Users && completed_at.is_some() && !is_read(&Scope::Groups) && !has_gap(&Scope::Groups) {
            expected.insert(GapId::of(GapKind::NotRead, &Scope::Groups));
        }
        let asked = Asked { with_objects, ..Asked::default() };
        let found = reader.coverage().completeness(asked, [&scope]);
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(found.gap_ids(), expected, "gaps of {scope}, objects too: {with_objects}");
        assert_eq!(reader.coverage().stale(&scope), model.stale(&scope), "stale rows of {scope}");
    }
    let open = model.gaps.values().filter(|record| record.open).count();
    assert_eq!(reader.coverage().open_gaps(), open, "open gaps");
}

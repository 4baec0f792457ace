//! Names that are remembered while others write: whatever commits come in between, what is found is what is stored.
//!
//! The comparison is `Snapshot::check_remembered`, which panics; here are the commits and the questions.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Reader;
use super::for_tests::{Opened, app, app_id, app_user, group, stored_group, user, user_id};
use crate::core::batch::Batch;
use crate::core::filter::Filter;
use crate::core::ids::{Revision, Timestamp};
use crate::core::model::{Key, Row};
use crate::core::normalize::lookup_key;
use crate::core::resolve::AskedOf;

/// So few that names change hands all the time.
const USERS: u64 = 12;
pub(super) const APPS: u64 = 2;
pub(super) const NAMES: u64 = 9;

pub(super) fn name(n: u64) -> String {
    format!("name{n}")
}

/// One change of any kind.
pub(super) fn change(random: &mut fastrand::Rng, batch: &mut Batch) {
    let (n, of, text) = (random.u64(0..USERS), random.u64(0..APPS), name(random.u64(0..NAMES)));
    match random.u32(0..10) {
        0..=2 => batch.rows.push(user(n, &text, &random.u32(0..3).to_string())),
        3..=5 => {
            let via = random.bool().then(|| group(random.u64(0..3)));
            batch.rows.push(app_user(of, n, &text, via));
        }
        6 => batch.removals.push(Key::User(user_id(n))),
        7 => batch.removals.push(Key::AppUser(app_id(of), user_id(n))),
        8 => match random.bool() {
            true => batch.removals.push(Key::App(app_id(of))),
            false => batch.removals.push(Key::Group(group(n % 3))),
        },
        _ => batch.rows.extend([app(of, &text), stored_group(n % 3)]),
    }
}

/// Commits as the first request of this process, a second after the epoch.
fn commit(opened: &Opened, batch: Batch) -> Revision {
    opened.commit(Batch { now: Timestamp::from_millis(1_000), ..batch }).revision
}

fn rows(opened: &Opened, rows: Vec<Row>) -> Revision {
    commit(opened, Batch { rows, ..Batch::default() })
}

/// Looks names up in one snapshot, and again after a moment; returns how many people were found.
fn look(reader: &Reader, random: &mut fastrand::Rng) -> usize {
    let looked = reader.read(|snapshot| {
        let mut found = 0;
        for _ in 0..20 {
            let key = lookup_key(&name(random.u64(0..NAMES))).unwrap();
            let of = if random.bool() { AskedOf::Accounts } else { AskedOf::AccountsAndUsers };
            found += snapshot.candidates(&app_id(random.u64(0..APPS)), key, of, 1_000)?.len();
            std::thread::yield_now();
        }
        Ok(found)
    });
    looked.unwrap()
}

#[test]
fn what_is_remembered_is_what_is_stored() {
    for seed in 0..8 {
        let opened = Opened::new(Filter::default());
        rows(&opened, (0..APPS).map(|n| app(n, "Jira")).collect());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let readers = [1, 2].map(|number| {
                let (reader, is_over) = (&opened.store.reader, &is_over);
                scope.spawn(move || {
                    let (mut random, mut found) = (fastrand::Rng::with_seed(seed << 8 | number), 0);
                    while !is_over.load(Ordering::Acquire) {
                        found += look(reader, &mut random);
                    }
                    found
                })
            });
            let mut random = fastrand::Rng::with_seed(seed);
            for _ in 0..150 {
                let mut batch = Batch::default();
                (0..random.usize(1..4)).for_each(|_| change(&mut random, &mut batch));
                commit(&opened, batch);
                look(&opened.store.reader, &mut random);
            }
            is_over.store(true, Ordering::Release);
            let found: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            assert!(found > 0, "nobody was ever found with seed {seed}");
        });
    }
}

#[test]
fn a_commit_about_others_leaves_names_remembered() {
    let opened = Opened::new(Filter::default());
    let first = rows(
        &opened,
        vec![
            app(0, "Jira"),
            user(1, "one", ""),
            app_user(0, 1, "one", None),
            user(2, "two", ""),
            app_user(0, 2, "two", None),
        ],
    );
    let reader = &opened.store.reader;
    let ask = |text: &str| {
        let ask = |of| reader.read(|snapshot| snapshot.candidates(&app_id(0), lookup_key(text).unwrap(), of, 1_000));
        ask(AskedOf::Accounts).unwrap()
    };
    let (one, two) = (ask("one"), ask("two"));
    assert_eq!((one.len(), two.len()), (1, 1));
    assert!(rows(&opened, vec![user(2, "two", "changed"), user(3, "three", "")]) > first);
    // The very same: not read again.
    assert!(std::sync::Arc::ptr_eq(&ask("one"), &one));
    let two_now = ask("two");
    assert!(two_now != two && two_now.len() == 1);
    rows(&opened, vec![app_user(0, 3, "ONE", None)]);
    assert_eq!(ask("one").len(), 2, "another of that name");
    assert!(std::sync::Arc::ptr_eq(&ask("two"), &two_now));
}

//! Names that are remembered while others write: whatever commits come in between, what is found is what is stored.
//!
//! The comparison is `Snapshot::check_remembered`, which panics; here are the commits and the questions.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{ChangeRetention, Reader, Store, StoreConfig};
use crate::core::batch::Batch;
use crate::core::filter::Filter;
use crate::core::ids::{AppId, GroupId, Revision, Timestamp, UserId};
use crate::core::model::{
    App, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupType, Key, Row, User, UserStatus,
};
use crate::core::normalize::lookup_key;
use crate::core::reconcile::Brake;
use crate::core::resolve::AskedOf;

/// So few that names change hands all the time.
const USERS: u64 = 12;
const APPS: u64 = 2;
const NAMES: u64 = 9;

pub(super) fn app_id(n: u64) -> AppId {
    AppId::new(&format!("0oa{n}")).unwrap()
}

fn user_id(n: u64) -> UserId {
    UserId::new(&format!("00u{n}")).unwrap()
}

fn name(n: u64) -> String {
    format!("name{n}")
}

pub(super) fn app(n: u64, label: &str) -> Row {
    Row::App(App {
        id: app_id(n),
        name: "jira".into(),
        label: label.into(),
        status: AppStatus::Active,
        sign_on_mode: None,
        features: Vec::new(),
        credential_scheme: None,
        shared_user_name: None,
        user_name_template: None,
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    })
}

pub(super) fn user(n: u64, login: &str, first_name: &str) -> Row {
    Row::User(User {
        id: user_id(n),
        status: UserStatus::Active,
        login: Some(login.into()),
        email: None,
        second_email: None,
        first_name: Some(first_name.into()),
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

pub(super) fn app_user(app: u64, user: u64, user_name: &str, via_group: Option<GroupId>) -> Row {
    Row::AppUser(AppUser {
        app: app_id(app),
        user: user_id(user),
        user_name: Some(user_name.into()),
        external_id: None,
        email: None,
        status: AppUserStatus::Active,
        scope: if via_group.is_some() { AssignmentScope::Group } else { AssignmentScope::User },
        sync_state: None,
        via_group,
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

pub(super) fn group(n: u64) -> GroupId {
    GroupId::new(&format!("00g{n}")).unwrap()
}

pub(super) fn stored_group(n: u64) -> Row {
    Row::Group(Group {
        id: group(n),
        name: "Engineers".into(),
        description: None,
        group_type: GroupType::OktaGroup,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    })
}

/// One change of any kind.
fn change(random: &mut fastrand::Rng, batch: &mut Batch) {
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

struct Opened {
    _dir: tempfile::TempDir,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Opened {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (brake, credential, changes) = (Brake::default(), "c".to_owned(), ChangeRetention::default());
        let config = StoreConfig { dir: dir.path().to_owned(), brake, credential, changes, filter: Filter::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { store: Store::open(config).unwrap(), _dir: dir, runtime }
    }

    fn commit(&self, batch: Batch) -> Revision {
        let at = self.store.writer.first_request_number();
        let batch = Batch { at, now: Timestamp::from_millis(1_000), ..batch };
        let receipt = async { self.store.writer.commit(Box::new(batch)).await.unwrap().await };
        self.runtime.block_on(receipt).unwrap().unwrap().revision
    }

    fn rows(&self, rows: Vec<Row>) -> Revision {
        self.commit(Batch { rows, ..Batch::default() })
    }
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
        let opened = Opened::new();
        opened.rows((0..APPS).map(|n| app(n, "Jira")).collect());
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
                opened.commit(batch);
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
    let opened = Opened::new();
    let first = opened.rows(vec![
        app(0, "Jira"),
        user(1, "one", ""),
        app_user(0, 1, "one", None),
        user(2, "two", ""),
        app_user(0, 2, "two", None),
    ]);
    let reader = &opened.store.reader;
    let ask = |text: &str| {
        let ask = |of| reader.read(|snapshot| snapshot.candidates(&app_id(0), lookup_key(text).unwrap(), of, 1_000));
        ask(AskedOf::Accounts).unwrap()
    };
    let (one, two) = (ask("one"), ask("two"));
    assert_eq!((one.len(), two.len()), (1, 1));
    assert!(opened.rows(vec![user(2, "two", "changed"), user(3, "three", "")]) > first);
    // The very same: not read again.
    assert!(std::sync::Arc::ptr_eq(&ask("one"), &one));
    let two_now = ask("two");
    assert!(two_now != two && two_now.len() == 1);
    opened.rows(vec![app_user(0, 3, "ONE", None)]);
    assert_eq!(ask("one").len(), 2, "another of that name");
    assert!(std::sync::Arc::ptr_eq(&ask("two"), &two_now));
}

//! Loud changes are announced in full: whatever changes, an event from then on is about it (facts 9).

use std::collections::{BTreeMap, BTreeSet};

use okta_sim::org::LoggedEvent;
use okta_sim::{AppRef, GroupRef, Org, Spec};

/// What a reader keeps, one entry for each thing that can change by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    User(String),
    Group(String),
    Member(String, String),
    App(String),
    AppUser(String, String),
    AppGroup(String, String),
}

type Picture = BTreeMap<Key, String>;

fn picture(org: &Org) -> Picture {
    let mut picture = Picture::new();
    let mut addresses = BTreeMap::new();
    for user in org.truth_users() {
        addresses.insert(user.id.clone(), user.email.clone());
        picture.insert(Key::User(user.id.clone()), format!("{user:?}"));
    }
    for mut group in org.truth_groups() {
        // Counts follow from memberships, and `Everyone` from the users.
        group.members = 0;
        let members = GroupRef::parse(&group.id).map(|known| org.truth_members(known)).unwrap_or_default();
        if group.id != org.everyone().id() {
            picture.extend(members.into_iter().map(|user| (Key::Member(group.id.clone(), user), String::new())));
        }
        picture.insert(Key::Group(group.id.clone()), format!("{group:?}"));
    }
    for mut app in org.truth_apps() {
        let known = AppRef::parse(&app.id).expect("an app's id");
        for row in org.truth_app_users(known) {
            // Apps that take profiles show the address of the user.
            let address = app.features.contains(&"PUSH_NEW_USERS").then(|| addresses.get(&row.user_id));
            let key = Key::AppUser(app.id.clone(), row.user_id.clone());
            picture.insert(key, format!("{row:?} {address:?}"));
        }
        for row in org.truth_app_groups(known) {
            picture.insert(Key::AppGroup(app.id.clone(), row.group_id.clone()), format!("{row:?}"));
        }
        (app.users, app.groups) = (0, 0);
        picture.insert(Key::App(app.id.clone()), format!("{app:?}"));
    }
    picture
}

/// The keys that differ.
fn changes(before: &Picture, after: &Picture) -> BTreeSet<Key> {
    let keys = before.keys().chain(after.keys());
    keys.filter(|key| before.get(key) != after.get(key)).cloned().collect()
}

/// Groups that were imported from each app, and the apps that each group was ever assigned to.
#[derive(Default)]
struct Known {
    source_of: BTreeMap<String, String>,
    apps_of: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    fn learn(&mut self, org: &Org) {
        let sources = org.truth_groups().filter_map(|group| Some((group.id, group.source_app?)));
        self.source_of.extend(sources);
        for app in org.truth_apps() {
            let assigned = AppRef::parse(&app.id).map(|known| org.truth_app_groups(known)).unwrap_or_default();
            for row in assigned {
                self.apps_of.entry(row.group_id).or_default().insert(row.app_id);
            }
        }
    }

    fn is_from(&self, group: &str, app: &str) -> bool {
        self.source_of.get(group).is_some_and(|source| source == app)
    }
}

/// Whether a reader looks at the key again because of the event, by the tables of facts 9.
fn announces(event: &LoggedEvent, key: &Key, known: &Known) -> bool {
    let target = |kinds: &[&str]| {
        let found = event.targets.iter().find(|(kind, _)| kinds.contains(&kind.as_str()));
        found.map_or("", |(_, id)| id.as_str())
    };
    let (user, app, group) = (target(&["User"]), target(&["AppInstance"]), target(&["UserGroup", "AppGroup"]));
    match event.event_type.as_str() {
        "user.lifecycle.delete.completed" => match key {
            Key::User(u) | Key::Member(_, u) | Key::AppUser(_, u) => u == user,
            _ => false,
        },
        "user.lifecycle.delete.initiated" => false,
        name if name.starts_with("user.") => matches!(key, Key::User(u) if u == user),
        "group.user_membership.add" | "group.user_membership.remove" => {
            matches!(key, Key::Member(g, u) if g == group && u == user)
        }
        "group.lifecycle.delete" => match key {
            Key::Group(g) | Key::Member(g, _) | Key::AppGroup(_, g) => g == group,
            Key::AppUser(a, _) => known.apps_of.get(group).is_some_and(|apps| apps.contains(a)),
            _ => false,
        },
        "group.lifecycle.create"
        | "group.profile.update"
        | "system.import.group.create"
        | "system.import.group.update" => {
            matches!(key, Key::Group(g) if g == group)
        }
        "system.import.group_membership.complete" => matches!(key, Key::Member(g, _) if known.is_from(g, app)),
        name if name.starts_with("group.application_assignment.") => match key {
            Key::AppGroup(a, g) => a == app && g == group,
            Key::AppUser(a, _) => a == app,
            _ => false,
        },
        "application.lifecycle.activate" => match key {
            Key::App(a) | Key::AppUser(a, _) => a == app,
            _ => false,
        },
        "application.lifecycle.delete" => match key {
            Key::App(a) | Key::AppUser(a, _) => a == app,
            Key::AppGroup(a, g) => a == app || known.is_from(g, app),
            Key::Group(g) | Key::Member(g, _) => known.is_from(g, app),
            Key::User(_) => false,
        },
        name if name.starts_with("application.lifecycle.") => matches!(key, Key::App(a) if a == app),
        "directory.mapping.update" => matches!(key, Key::AppUser(a, _) if a == app),
        name if name.starts_with("application.user_membership.") || name.starts_with("application.provision.user.") => {
            matches!(key, Key::AppUser(a, u) if a == app && u == user)
        }
        _ => false,
    }
}

/// Makes a history and returns the changes that no event announces before all jobs have run for once, with the step and what
/// was done.
fn silent_changes(
    seed: u64,
    steps: usize,
    mutate: fn(&mut Org, &mut fastrand::Rng) -> Option<&'static str>,
) -> Vec<String> {
    let mut org = Org::generate(&Spec { users: 40, groups: 12, apps: 14, seed, ..Spec::default() });
    let mut random = fastrand::Rng::with_seed(seed);
    let mut known = Known::default();
    let mut open: BTreeMap<Key, String> = BTreeMap::new();
    let mut silent = Vec::new();
    let mut before = picture(&org);
    for step in 0..=steps {
        known.learn(&org);
        let position = org.log_end();
        let done = if step == steps {
            org.run_all_jobs();
            Some("all jobs")
        } else {
            mutate(&mut org, &mut random)
        };
        org.advance_ms(100);
        let after = picture(&org);
        for key in changes(&before, &after) {
            open.insert(key, format!("step {step}, {}", done.unwrap_or("nothing")));
        }
        for event in org.log_after(position) {
            open.retain(|key, _| !announces(&event, key, &known));
        }
        if org.pending_jobs() == 0 {
            silent.extend(
                std::mem::take(&mut open).into_iter().map(|(key, cause)| format!("seed {seed}: {key:?} at {cause}")),
            );
        }
        before = after;
    }
    org.check_invariants().unwrap_or_else(|error| panic!("{error}"));
    silent
}

#[test]
fn loud_changes_are_announced_in_full() {
    for seed in 0..4 {
        let silent = silent_changes(seed, 1_000, Org::random_loud_mutation);
        assert!(silent.is_empty(), "{silent:#?}");
    }
}

#[test]
fn not_every_change_is_loud() {
    let silent = silent_changes(1, 800, Org::random_mutation);
    assert!(!silent.is_empty(), "the check above would see silence");
    // Only app users drift: everything else is always told.
    assert!(silent.iter().all(|change| change.contains("AppUser(")), "{silent:#?}");
}

#[test]
fn loud_histories_have_every_other_kind() {
    let kinds = |mutate: fn(&mut Org, &mut fastrand::Rng) -> Option<&'static str>| {
        let mut org = Org::generate(&Spec { users: 120, groups: 15, apps: 14, seed: 2, ..Spec::default() });
        let mut random = fastrand::Rng::with_seed(2);
        (0..8_000).filter_map(|_| mutate(&mut org, &mut random)).collect::<BTreeSet<_>>()
    };
    let (all, loud) = (kinds(Org::random_mutation), kinds(Org::random_loud_mutation));
    assert_eq!(all.difference(&loud).copied().collect::<Vec<_>>(), ["convert_scope_silently"]);
}

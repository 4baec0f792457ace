//! Every mutation: what changes, what the log says about it, what background work does afterwards.

use okta_sim::org::{AppUserStatus, Scope, Template, UserStatus};
use okta_sim::{AppRef, GroupRef, MutationError, NewApp, NewUser, Org, ProfileUpdate, Spec, UserRef};

/// A new org with one user, one group and one app.
struct World {
    org: Org,
    user: UserRef,
    group: GroupRef,
    app: AppRef,
}

fn world() -> World {
    let mut org = Org::new();
    let user = org.create_user(&NewUser::new("ada@acme.example").status(UserStatus::Active)).expect("free login");
    let group = org.create_group("tooling");
    let app = org.create_app(&NewApp::new("acme_tracker_1", "Tracker"));
    World { org, user, group, app }
}

/// The event types (with `*` for those of jobs) that a change emits, background work included.
#[track_caller]
fn check(change: impl FnOnce(&mut World), expected: &[&str]) -> World {
    let mut world = world();
    check_next(&mut world, change, expected);
    world
}

#[track_caller]
fn check_next(world: &mut World, change: impl FnOnce(&mut World), expected: &[&str]) {
    let position = world.org.log_end();
    change(world);
    world.org.run_all_jobs();
    let events = world.org.log_after(position);
    let found: Vec<String> =
        events.iter().map(|event| format!("{}{}", if event.is_job { "*" } else { "" }, event.event_type)).collect();
    assert_eq!(found, expected);
    world.org.check_invariants().unwrap_or_else(|error| panic!("{error}"));
}

fn scope(world: &World) -> Option<Scope> {
    world.org.truth_app_user(world.app, world.user).map(|row| row.scope)
}

#[test]
fn users_have_a_life_cycle() {
    let mut world = check(|world| world.org.suspend_user(world.user).unwrap(), &["user.lifecycle.suspend"]);
    check_next(&mut world, |world| world.org.unsuspend_user(world.user).unwrap(), &["user.lifecycle.unsuspend"]);
    check_next(&mut world, |world| world.org.lock_user(world.user).unwrap(), &["user.account.lock"]);
    check_next(&mut world, |world| world.org.unlock_user(world.user).unwrap(), &["user.account.unlock_by_admin"]);
    let refused = world.org.activate_user(world.user);
    assert!(matches!(refused, Err(MutationError::NotAllowed(_))), "{refused:?}");
    check_next(
        &mut world,
        |world| assert_eq!(world.org.delete_user(world.user), Ok(false)),
        &["user.lifecycle.deactivate"],
    );
    check_next(&mut world, |world| world.org.reactivate_user(world.user).unwrap(), &["user.lifecycle.reactivate"]);
    check_next(&mut world, |world| world.org.activate_user(world.user).unwrap(), &["user.lifecycle.activate"]);
    check_next(&mut world, |world| world.org.deactivate_user(world.user).unwrap(), &["user.lifecycle.deactivate"]);
    check_next(
        &mut world,
        |world| assert_eq!(world.org.delete_user(world.user), Ok(true)),
        &["user.lifecycle.delete.initiated", "*user.lifecycle.delete.completed"],
    );
    assert!(world.org.user_by_login("ada@acme.example").is_none());
    assert!(matches!(world.org.suspend_user(world.user), Err(MutationError::NotFound(_))));
    // The login is free for somebody new (facts 13.19).
    let new = world.org.create_user(&NewUser::new("ADA@acme.example")).unwrap();
    assert_ne!(new, world.user);
    assert!(matches!(world.org.create_user(&NewUser::new("ada@ACME.example")), Err(MutationError::LoginTaken(_))));
}

#[test]
fn deactivation_unassigns_later_and_keeps_memberships() {
    let mut world = check(
        |world| {
            world.org.add_member(world.user, world.group).unwrap();
            world.org.assign_user(world.app, world.user).unwrap();
        },
        &["group.user_membership.add", "application.user_membership.add"],
    );
    let position = world.org.log_end();
    world.org.deactivate_user(world.user).unwrap();
    assert_eq!(scope(&world), Some(Scope::User), "not yet");
    world.org.run_all_jobs();
    assert_eq!(scope(&world), None);
    assert_eq!(world.org.truth_members(world.group), [world.user.id()], "memberships stay");
    let types: Vec<String> = world.org.log_after(position).into_iter().map(|event| event.event_type).collect();
    assert_eq!(types, ["user.lifecycle.deactivate", "application.user_membership.remove"]);
}

#[test]
fn assignments_to_inactive_apps_are_left() {
    let mut world = check(
        |world| {
            world.org.assign_user(world.app, world.user).unwrap();
            world.org.deactivate_app(world.app).unwrap();
            world.org.deactivate_user(world.user).unwrap();
        },
        &["application.user_membership.add", "application.lifecycle.deactivate", "user.lifecycle.deactivate"],
    );
    assert_eq!(scope(&world), Some(Scope::User));
    let surfaced = ["application.lifecycle.activate", "*application.user_membership.remove"];
    check_next(&mut world, |world| world.org.activate_app(world.app).unwrap(), &surfaced);
    assert_eq!(scope(&world), None);
}

#[test]
fn groups_grant_apps() {
    let mut world =
        check(|world| world.org.assign_group(world.app, world.group).unwrap(), &["group.application_assignment.add"]);
    let granted = ["group.user_membership.add", "*application.user_membership.add"];
    check_next(&mut world, |world| world.org.add_member(world.user, world.group).unwrap(), &granted);
    assert_eq!(scope(&world), Some(Scope::Group));
    let row = world.org.truth_app_user(world.app, world.user).unwrap();
    assert_eq!(row.link_group, Some(world.group.id()));
    // A second group with a better priority takes over the link; both grant.
    let other = world.org.create_group("admins");
    world.org.add_member(world.user, other).unwrap();
    check_next(
        &mut world,
        |world| world.org.assign_group(world.app, other).unwrap(),
        &["group.application_assignment.add"],
    );
    assert_eq!(world.org.truth_granting_groups(world.app, world.user), [world.group.id(), other.id()]);
    let better = ["group.application_assignment.update"];
    check_next(&mut world, |world| world.org.set_group_priority(world.app, other, -1).unwrap(), &better);
    assert_eq!(world.org.truth_app_user(world.app, world.user).unwrap().link_group, Some(other.id()));
    // Losing one grant changes nothing, losing both removes.
    check_next(
        &mut world,
        |world| world.org.remove_member(world.user, other).unwrap(),
        &["group.user_membership.remove"],
    );
    assert_eq!(scope(&world), Some(Scope::Group));
    let removed = ["group.application_assignment.remove", "*application.user_membership.remove"];
    check_next(&mut world, |world| world.org.unassign_group(world.app, world.group).unwrap(), &removed);
    assert_eq!(scope(&world), None);
}

#[test]
fn direct_assignment_wins_over_groups() {
    let mut world = check(
        |world| {
            world.org.assign_group(world.app, world.group).unwrap();
            world.org.add_member(world.user, world.group).unwrap();
        },
        &["group.application_assignment.add", "group.user_membership.add", "*application.user_membership.add"],
    );
    check_next(
        &mut world,
        |world| world.org.assign_user(world.app, world.user).unwrap(),
        &["application.user_membership.update"],
    );
    assert_eq!(scope(&world), Some(Scope::User));
    // The remove event is the usual one, but a group still grants: the app user stays (facts 13.12).
    check_next(
        &mut world,
        |world| world.org.unassign_user(world.app, world.user).unwrap(),
        &["application.user_membership.remove"],
    );
    assert_eq!(scope(&world), Some(Scope::Group));
    check_next(
        &mut world,
        |world| assert_eq!(world.org.convert_scope_silently(world.app, world.user), Ok(Scope::User)),
        &[],
    );
    check_next(
        &mut world,
        |world| world.org.remove_member(world.user, world.group).unwrap(),
        &["group.user_membership.remove"],
    );
    assert_eq!(scope(&world), Some(Scope::User), "a direct assignment outlives the group");
    assert!(world.org.convert_scope_silently(world.app, world.user).is_err(), "nothing grants it any more");
    check_next(
        &mut world,
        |world| world.org.unassign_user(world.app, world.user).unwrap(),
        &["application.user_membership.remove"],
    );
    assert_eq!(scope(&world), None);
}

#[test]
fn deleting_a_group_is_one_event_with_consequences() {
    let mut world = check(
        |world| {
            world.org.assign_group(world.app, world.group).unwrap();
            world.org.add_member(world.user, world.group).unwrap();
        },
        &["group.application_assignment.add", "group.user_membership.add", "*application.user_membership.add"],
    );
    let gone = ["group.lifecycle.delete", "*application.user_membership.remove"];
    check_next(&mut world, |world| world.org.delete_group(world.group).unwrap(), &gone);
    assert!(world.org.truth_app_groups(world.app).is_empty());
    assert!(matches!(world.org.delete_group(world.org.everyone()), Err(MutationError::NotAllowed(_))));
}

#[test]
fn deleting_an_app_is_one_event() {
    let mut world = world();
    let imported = world.org.import_group(world.app, "Domain Users").unwrap();
    world.org.assign_user(world.app, world.user).unwrap();
    world.org.assign_group(world.app, world.group).unwrap();
    assert!(matches!(world.org.delete_app(world.app), Err(MutationError::NotAllowed(_))), "still active");
    check_next(&mut world, |world| world.org.deactivate_app(world.app).unwrap(), &["application.lifecycle.deactivate"]);
    check_next(&mut world, |world| world.org.delete_app(world.app).unwrap(), &["application.lifecycle.delete"]);
    assert!(world.org.truth_groups().all(|group| group.id != imported.id()), "imported groups go with it");
    assert_eq!(world.org.app_user_count(), 0);
}

#[test]
fn provisioning_happens_later() {
    let mut world = world();
    world.app = world.org.create_app(&NewApp::new("salesforce", "Salesforce").provisioning());
    world.org.assign_user(world.app, world.user).unwrap();
    let staged = world.org.truth_app_user(world.app, world.user).unwrap();
    assert_eq!((staged.status, staged.external_id), (AppUserStatus::Staged, None));
    check_next(&mut world, |_| {}, &["*application.provision.user.push"]);
    let done = world.org.truth_app_user(world.app, world.user).unwrap();
    assert_eq!(done.status, AppUserStatus::Provisioned);
    assert!(done.external_id.is_some());
    let (app, user) = (world.app, world.user);
    let name = ["application.user_membership.change_username"];
    check_next(&mut world, |world| world.org.set_app_user_name(app, user, "ADA").unwrap(), &name);
    check_next(
        &mut world,
        |world| world.org.set_external_id(app, user, Some("x-1")).unwrap(),
        &["*application.provision.user.sync"],
    );
    let row = world.org.truth_app_user(app, user).unwrap();
    assert_eq!((row.user_name.as_deref(), row.external_id.as_deref()), (Some("ADA"), Some("x-1")));
    for (status, event) in [
        (AppUserStatus::Deprovisioned, "application.user_membership.deprovision"),
        (AppUserStatus::Provisioned, "application.user_membership.provision"),
        (AppUserStatus::Approved, "application.user_membership.approve"),
        (AppUserStatus::Revoked, "application.user_membership.revoke"),
        (AppUserStatus::Suspended, "application.user_membership.update"),
    ] {
        check_next(&mut world, |world| world.org.set_app_user_status(app, user, status).unwrap(), &[event]);
    }
}

#[test]
fn user_names_are_not_made_anew() {
    let name = |world: &World| world.org.truth_app_user(world.app, world.user).and_then(|row| row.user_name).unwrap();
    let mut world =
        check(|world| world.org.assign_user(world.app, world.user).unwrap(), &["application.user_membership.add"]);
    assert_eq!(name(&world), "ada@acme.example");
    let renamed = ProfileUpdate { login: Some("lovelace@acme.example".to_owned()), ..ProfileUpdate::default() };
    let user = world.user;
    check_next(&mut world, |world| world.org.update_profile(user, &renamed).unwrap(), &["user.account.update_profile"]);
    check_next(&mut world, |world| world.org.update_profile(user, &renamed).unwrap(), &[]);
    assert_eq!(world.org.user_by_login("lovelace@acme.example"), Some(user));
    assert_eq!(world.org.truth_users().find(|known| known.id == user.id()).unwrap().email, "ada@acme.example");
    assert_eq!(name(&world), "ada@acme.example", "made at assignment");
    let app = world.app;
    check_next(
        &mut world,
        |world| world.org.set_template(app, Template::ShortName, false).unwrap(),
        &["application.lifecycle.update"],
    );
    assert_eq!(name(&world), "ada@acme.example");
    let reapplied = ["application.lifecycle.update", "*directory.mapping.update"];
    check_next(&mut world, |world| world.org.set_template(app, Template::UpperShortName, true).unwrap(), &reapplied);
    assert_eq!(name(&world), "LOVELACE");
    check_next(&mut world, |world| world.org.rename_app(app, "New").unwrap(), &["application.lifecycle.update"]);
}

#[test]
fn targets_have_the_documented_layout() {
    let mut world = world();
    let position = world.org.log_end();
    world.org.assign_group(world.app, world.group).unwrap();
    world.org.add_member(world.user, world.group).unwrap();
    world.org.run_all_jobs();
    let layout: Vec<(String, Vec<(String, String)>)> =
        world.org.log_after(position).into_iter().map(|event| (event.event_type, event.targets)).collect();
    let (user, group, app) = (world.user.id(), world.group.id(), world.app.id());
    let named = |kind: &str, id: &str| (kind.to_owned(), id.to_owned());
    assert_eq!(layout[0].1, [named("UserGroup", &group), named("AppInstance", &app)]);
    assert_eq!(layout[1].1, [named("User", &user), named("UserGroup", &group)]);
    assert_eq!(layout[2].1[1..], [named("AppInstance", &app), named("User", &user)]);
    let (kind, id) = &layout[2].1[0];
    assert!(kind == "AppUser" && id.starts_with("0ua"), "the assignment's id, not the API's: {id}");
}

#[test]
fn everyone_grants_to_newcomers() {
    let mut world = world();
    world.org.assign_group(world.app, world.org.everyone()).unwrap();
    world.org.run_all_jobs();
    assert_eq!(world.org.truth_app_users(world.app).count(), 2, "the administrator and Ada");
    let new = world.org.create_user(&NewUser::new("new@acme.example").status(UserStatus::Active)).unwrap();
    world.org.run_all_jobs();
    assert_eq!(world.org.truth_app_user(world.app, new).unwrap().scope, Scope::Group);
}

#[test]
fn deletion_ends_what_deactivation_left() {
    let mut world = world();
    world.org.assign_user(world.app, world.user).unwrap();
    world.org.deactivate_app(world.app).unwrap();
    world.org.deactivate_user(world.user).unwrap();
    world.org.run_all_jobs();
    assert!(scope(&world).is_some(), "the app is not active");
    let gone =
        ["user.lifecycle.delete.initiated", "*application.user_membership.remove", "*user.lifecycle.delete.completed"];
    check_next(&mut world, |world| assert_eq!(world.org.delete_user(world.user), Ok(true)), &gone);
    assert_eq!(world.org.app_user_count(), 0);
}

#[test]
fn failed_provisioning_is_told_as_a_failure() {
    let mut org = Org::new();
    let app = org.create_app(&NewApp::new("salesforce", "Salesforce").provisioning());
    for number in 0..13 {
        let new = NewUser::new(&format!("u{number}@acme.example")).status(UserStatus::Active);
        let user = org.create_user(&new).unwrap();
        org.assign_user(app, user).unwrap();
    }
    org.run_all_jobs();
    let failed: Vec<_> = org.truth_app_users(app).filter(|row| row.status == AppUserStatus::Staged).collect();
    assert_eq!(failed.len(), 1, "one in thirteen");
    let mut sim = okta_sim::Sim::new(org, "http://okta.test", 1);
    let target = "/api/v1/logs?limit=1000&filter=eventType+eq+%22application.provision.user.push%22";
    let events = crate::support::get_json(&mut sim, target);
    let failures: Vec<_> =
        events.as_array().unwrap().iter().filter(|event| event["outcome"]["result"] == "FAILURE").collect();
    assert_eq!((events.as_array().unwrap().len(), failures.len()), (13, 1));
    assert_eq!(failures[0]["target"][2]["id"], failed[0].user_id.as_str());
}

#[test]
fn a_new_address_is_pushed_into_apps_that_take_profiles() {
    let mut world = world();
    let provisioning = world.org.create_app(&NewApp::new("salesforce", "Salesforce").provisioning());
    world.org.assign_user(world.app, world.user).unwrap();
    world.org.assign_user(provisioning, world.user).unwrap();
    world.org.run_all_jobs();
    let address = ProfileUpdate { email: Some("ada.l@acme.example".to_owned()), ..ProfileUpdate::default() };
    let pushed = ["user.account.update_profile", "*application.provision.user.push_profile"];
    check_next(&mut world, |world| world.org.update_profile(world.user, &address).unwrap(), &pushed);
    let name = ProfileUpdate { first_name: Some("Ada".to_owned()), ..ProfileUpdate::default() };
    let user = world.user;
    check_next(&mut world, |world| world.org.update_profile(user, &name).unwrap(), &["user.account.update_profile"]);
}

#[test]
fn imports_tell_of_groups_and_of_memberships_as_a_whole() {
    let mut world = world();
    let directory = world.org.create_app(&NewApp::new("active_directory", "corp.acme.example"));
    let imported = world.org.import_group(directory, "Domain Users").unwrap();
    world.org.assign_group(world.app, imported).unwrap();
    world.org.run_all_jobs();
    let (user, app) = (world.user, world.app);
    let joined = ["*system.import.group_membership.complete", "*application.user_membership.add"];
    let changes = [(user, imported, true)];
    check_next(&mut world, |world| world.org.import_memberships(directory, &changes).unwrap(), &joined);
    assert_eq!(world.org.truth_members(imported), [user.id()]);
    check_next(&mut world, |world| world.org.import_memberships(directory, &changes).unwrap(), &[]);
    let left = ["*system.import.group_membership.complete", "*application.user_membership.remove"];
    let changes = [(user, imported, false)];
    check_next(&mut world, |world| world.org.import_memberships(directory, &changes).unwrap(), &left);
    assert!(world.org.truth_app_user(app, user).is_none() && world.org.truth_members(imported).is_empty());
    let foreign = world.org.import_memberships(app, &[(user, imported, true)]);
    assert!(matches!(foreign, Err(MutationError::NotAllowed(_))), "{foreign:?}");
    let position = world.org.log_end();
    world.org.rename_group(imported, "Domain Members").unwrap();
    world.org.add_member(user, imported).unwrap();
    let events = world.org.log_after(position);
    let told: Vec<_> = events.iter().map(|event| (event.event_type.as_str(), event.targets.last().unwrap())).collect();
    let target = ("AppGroup".to_owned(), imported.id());
    assert_eq!(told, [("system.import.group.update", &target), ("group.user_membership.add", &target)]);
}

#[test]
fn events_are_published_when_they_happen() {
    let mut org = Org::generate(&Spec { users: 60, groups: 8, apps: 10, ..Spec::default() });
    let mut random = fastrand::Rng::with_seed(5);
    let mut checked = 0;
    for _ in 0..500 {
        org.advance_ms(random.u64(1..5_000));
        let position = org.log_end();
        org.random_mutation(&mut random);
        let now = org.now_iso();
        let events = org.log_after(position);
        assert!(events.iter().all(|event| event.published == now), "{now}: {events:?}");
        checked += events.len();
    }
    assert!(checked > 200, "{checked}");
}

#[test]
fn random_histories_keep_the_org_consistent() {
    for seed in 0..4 {
        let mut org = Org::generate(&Spec { users: 120, groups: 15, apps: 14, seed, ..Spec::default() });
        let mut random = fastrand::Rng::with_seed(seed);
        let mut seen = std::collections::BTreeMap::new();
        for step in 0..3_000 {
            if let Some(name) = org.random_mutation(&mut random) {
                *seen.entry(name).or_insert(0) += 1;
            }
            org.advance_ms(100);
            if step % 500 == 0 {
                org.check_invariants().unwrap_or_else(|error| panic!("seed {seed} step {step}: {error}"));
            }
        }
        org.run_all_jobs();
        org.check_invariants().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(seen.len() >= 34, "seed {seed}: most kinds occur: {seen:?}");
    }
}

#[test]
fn histories_repeat_exactly() {
    let history = || {
        let mut org = Org::generate(&Spec { users: 80, groups: 10, apps: 14, seed: 3, ..Spec::default() });
        let mut random = fastrand::Rng::with_seed(9);
        for _ in 0..400 {
            org.random_mutation(&mut random);
            org.advance_ms(250);
        }
        let users: Vec<_> = org.truth_users().collect();
        (users, org.log_after(0))
    };
    let (first, second) = (history(), history());
    assert!(first.1.len() > 100);
    assert_eq!(first, second);
}

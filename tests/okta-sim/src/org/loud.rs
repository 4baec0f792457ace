//! Which changes the System Log announces in full, and which leave something that only a list shows.
//!
//! Entry point: [`Org::random_loud_mutation`]. A reader that follows the log of a history of loud changes, and reads again
//! what each event is about (facts 9), ends up with the org as it is, without ever listing everything anew.
//!
//! Silent, here as in a real org (facts 5.3, 11):
//!
//! | change | what no event tells |
//! |---|---|
//! | `convert_scope_silently` | `scope` of the app user, and the group it names |
//! | joining a group that grants an app with a better priority | which group an app user of scope GROUP names |
//! | leaving the group an app user names, while another one grants | the same |
//! | leaving the last granting group of an INACTIVE app | the same: it names none until the app is active again |
//! | deleting an app whose imported groups grant other apps | the same, in those apps |
//! | deactivating an app before jobs have removed what is no longer granted | the same |
//! | `set_template` without `reapply` | user names of app users that had none |

use super::types::{AppStatus, Scope};
use super::{AppRef, GroupRef, Org, UserRef};

/// Which changes a random draw may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Every kind.
    Any,
    /// Only those that events announce in full.
    Loud,
}

impl Org {
    /// Makes one random change that events announce in full, and returns its name; `None` if the drawn change was not
    /// possible at the moment or would have been silent. What jobs do afterwards is announced too.
    pub fn random_loud_mutation(&mut self, random: &mut fastrand::Rng) -> Option<&'static str> {
        self.mutate(random, Choice::Loud)
    }

    /// Whether joining or leaving changes nothing in existing app users but what jobs will do and tell.
    pub(super) fn membership_is_loud(&self, user: UserRef, group: GroupRef, joins: bool) -> bool {
        let apps = self.group(group.0).map(|known| known.apps.as_slice()).unwrap_or_default();
        apps.iter().all(|app| {
            if self.app_user(*app, user.0).is_none_or(|existing| existing.scope == Scope::User) {
                return true;
            }
            let before = self.granting(*app, user.0).first().copied();
            let after = self.named_group_after(*app, user.0, group.0, joins);
            let is_active = self.app(*app).is_some_and(|known| known.status == AppStatus::Active);
            before == after || (after.is_none() && is_active)
        })
    }

    /// The group that an app user of scope GROUP would name.
    fn named_group_after(&self, app: u32, user: u32, group: u32, joins: bool) -> Option<u32> {
        let assigned = self
            .app(app)?
            .groups
            .iter()
            .filter(|assigned| if assigned.group == group { joins } else { self.is_member(user, assigned.group) });
        assigned.map(|assigned| (assigned.priority, assigned.group)).min().map(|(_, group)| group)
    }

    /// Whether no imported group that goes with the app grants another app.
    pub(super) fn deletion_of_app_is_loud(&self, app: AppRef) -> bool {
        let mut imported = self.groups.iter().flatten().filter(|known| known.source_app == Some(app.0));
        imported.all(|known| known.apps.iter().all(|other| *other == app.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NewApp, NewUser, UserStatus};
    use super::*;

    /// A user in two groups of which the first grants the app with the better priority; the app user names it.
    struct World {
        org: Org,
        user: UserRef,
        better: GroupRef,
        worse: GroupRef,
        app: AppRef,
    }

    fn world() -> World {
        let mut org = Org::new();
        let user = org.create_user(&NewUser::new("ada@acme.example").status(UserStatus::Active)).unwrap();
        let (better, worse) = (org.create_group("better"), org.create_group("worse"));
        let app = org.create_app(&NewApp::new("acme_tracker_1", "Tracker"));
        for group in [better, worse] {
            org.assign_group(app, group).unwrap();
            org.add_member(user, group).unwrap();
        }
        org.run_all_jobs();
        World { org, user, better, worse, app }
    }

    /// What an app user names, and how many events are about it since `position`.
    fn named(world: &World, position: u64) -> (Option<String>, usize) {
        let row = world.org.truth_app_user(world.app, world.user);
        let events = world.org.log_after(position);
        let told = events.iter().filter(|event| event.event_type.starts_with("application.user_membership."));
        (row.and_then(|row| row.link_group), told.count())
    }

    /// Joins or leaves after `prepare`; checks that it is called loud exactly if the app user is as before, or told of.
    #[track_caller]
    fn check(prepare: impl FnOnce(&mut World), joins: bool, of_better: bool, expected_loud: bool) {
        let mut world = world();
        prepare(&mut world);
        world.org.run_all_jobs();
        let group = if of_better { world.better } else { world.worse };
        let is_loud = world.org.membership_is_loud(world.user, group, joins);
        assert_eq!(is_loud, expected_loud);
        let position = world.org.log_end();
        let (before, _) = named(&world, position);
        let World { org, user, .. } = &mut world;
        if joins { org.add_member(*user, group) } else { org.remove_member(*user, group) }.unwrap();
        org.run_all_jobs();
        let (after, told) = named(&world, position);
        assert_eq!(is_loud, before == after || told > 0, "{before:?} {after:?}");
    }

    fn leave(world: &mut World, of_better: bool) {
        let group = if of_better { world.better } else { world.worse };
        world.org.remove_member(world.user, group).unwrap();
    }

    #[test]
    fn memberships_that_change_what_an_app_user_names_are_silent() {
        check(|_| {}, false, false, true);
        check(|_| {}, false, true, false);
        check(|world| leave(world, false), true, false, true);
        check(|world| leave(world, true), true, true, false);
        // The last one: a job removes the app user and tells, unless the app is not active.
        check(|world| leave(world, false), false, true, true);
        let inactive = |world: &mut World| {
            leave(world, false);
            world.org.run_all_jobs();
            world.org.deactivate_app(world.app).unwrap();
        };
        check(inactive, false, true, false);
        // Direct assignments name no group.
        check(|world| world.org.assign_user(world.app, world.user).unwrap(), false, true, true);
        let neither = |world: &mut World| {
            leave(world, true);
            leave(world, false);
        };
        check(neither, true, true, true);
    }

    #[test]
    fn apps_whose_imported_groups_grant_others_go_silently() {
        let mut world = world();
        let directory = world.org.create_app(&NewApp::new("active_directory", "corp"));
        let imported = world.org.import_group(directory, "Domain Users").unwrap();
        assert!(world.org.deletion_of_app_is_loud(directory));
        world.org.assign_group(directory, imported).unwrap();
        assert!(world.org.deletion_of_app_is_loud(directory), "to itself");
        world.org.assign_group(world.app, imported).unwrap();
        assert!(!world.org.deletion_of_app_is_loud(directory));
        // And so it is: the app user names the imported group, and then another one, without a word.
        world.org.set_group_priority(world.app, imported, -1).unwrap();
        world.org.add_member(world.user, imported).unwrap();
        world.org.deactivate_app(directory).unwrap();
        world.org.run_all_jobs();
        let position = world.org.log_end();
        assert_eq!(named(&world, position).0, Some(imported.id()));
        world.org.delete_app(directory).unwrap();
        world.org.run_all_jobs();
        assert_eq!(named(&world, position), (Some(world.better.id()), 0));
    }

    #[test]
    fn deactivating_an_app_before_jobs_ran_is_silent() {
        let mut world = world();
        leave(&mut world, false);
        world.org.run_all_jobs();
        let position = world.org.log_end();
        leave(&mut world, true);
        assert!(world.org.pending_jobs() > 0, "so that the random draw passes it by");
        world.org.deactivate_app(world.app).unwrap();
        world.org.run_all_jobs();
        assert!(world.org.truth_app_user(world.app, world.user).is_some());
        assert_eq!(named(&world, position), (None, 0));
    }
}

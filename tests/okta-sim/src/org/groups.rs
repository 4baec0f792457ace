//! Mutations of groups, memberships and assignments of groups to apps (facts 3, 9.3).
//!
//! Entry points: `Org::create_group`, `Org::add_member`, `Org::assign_group`. The app users that follow come from
//! [`Org::run_jobs`].

use super::emit::EventDraft;
use super::jobs::Job;
use super::types::{AppGroup, Group, GroupKind};
use super::{AppRef, Changed, GroupRef, MutationError, Org, UserRef};
use crate::ids::{IdKind, encode};

impl Org {
    /// Creates an OKTA_GROUP; names need not be unique.
    pub fn create_group(&mut self, name: &str) -> GroupRef {
        let group = self.insert_group(GroupKind::Okta, name, None);
        self.emit(EventDraft::web("group.lifecycle.create").group(self, group));
        group
    }

    /// Imports a group from an app: an APP_GROUP with this source.
    pub fn import_group(&mut self, app: AppRef, name: &str) -> Changed<GroupRef> {
        self.app_mut(app)?;
        let group = self.insert_group(GroupKind::App, name, Some(app.0));
        self.emit(EventDraft::job("system.import.group.create").group_or_app_group(self, group));
        Ok(group)
    }

    pub(crate) fn insert_group(&mut self, kind: GroupKind, name: &str, source_app: Option<u32>) -> GroupRef {
        let now_s = self.now_s();
        self.groups.push(Some(Group {
            kind,
            name: name.into(),
            description: None,
            created_s: now_s,
            last_updated_s: now_s,
            last_membership_updated_s: now_s,
            source_app,
            members: Vec::new(),
            apps: Vec::new(),
        }));
        GroupRef(u32::try_from(self.groups.len() - 1).unwrap_or(u32::MAX))
    }

    fn refuse_built_in(&self, group: GroupRef) -> Changed {
        match self.group(group.0) {
            None => Err(MutationError::NotFound(group.id())),
            Some(known) if known.kind == GroupKind::BuiltIn => {
                Err(MutationError::NotAllowed("You do not have permission to modify a built-in group."))
            }
            Some(_) => Ok(()),
        }
    }

    /// Renames a group. The name of an imported group comes with an import.
    pub fn rename_group(&mut self, group: GroupRef, name: &str) -> Changed {
        self.refuse_built_in(group)?;
        let now_s = self.now_s();
        let known = self.group_mut(group)?;
        known.name = name.into();
        known.last_updated_s = now_s;
        let draft = match known.kind {
            GroupKind::App => EventDraft::job("system.import.group.update"),
            GroupKind::Okta | GroupKind::BuiltIn => EventDraft::web("group.profile.update"),
        };
        self.emit(draft.debug("changedAttributes", "name").group_or_app_group(self, group));
        Ok(())
    }

    /// Deletes a group: one event; memberships and app assignments go with it, app users follow as jobs (facts 11).
    pub fn delete_group(&mut self, group: GroupRef) -> Changed {
        self.refuse_built_in(group)?;
        let draft = EventDraft::web("group.lifecycle.delete").group(self, group);
        self.drop_group(group);
        self.emit(draft);
        Ok(())
    }

    /// Removes a group and what refers to it, without an event.
    pub(crate) fn drop_group(&mut self, group: GroupRef) {
        let Some(gone) = self.groups.get_mut(group.at()).and_then(Option::take) else { return };
        for user in gone.members {
            if let Some(known) = self.users.get_mut(user as usize).and_then(Option::as_mut)
                && let Ok(place) = known.groups.binary_search(&group.0)
            {
                known.groups.remove(place);
            }
        }
        for app in gone.apps {
            if let Some(known) = self.apps.get_mut(app as usize).and_then(Option::as_mut) {
                known.groups.retain(|assigned| assigned.group != group.0);
                self.queue(Job::SweepApp { app, after: None });
            }
        }
    }

    /// Adds a user to a group; app users that the group grants follow as jobs. Adding twice changes nothing.
    pub fn add_member(&mut self, user: UserRef, group: GroupRef) -> Changed {
        self.refuse_built_in(group)?;
        self.user_mut(user)?;
        if !self.link_member(user.0, group.0) {
            return Ok(());
        }
        self.membership_changed(user, group, "group.user_membership.add");
        Ok(())
    }

    /// Removes a user from a group; app users that only this group granted go as jobs.
    pub fn remove_member(&mut self, user: UserRef, group: GroupRef) -> Changed {
        self.refuse_built_in(group)?;
        self.user_mut(user)?;
        if !self.unlink_member(user.0, group.0) {
            return Err(MutationError::NotFound(format!("{} in {}", user.id(), group.id())));
        }
        self.membership_changed(user, group, "group.user_membership.remove");
        Ok(())
    }

    /// An import brings members of the imported groups of an app, or takes them away (`true` = joins). No event for each:
    /// one tells that the memberships of the app's groups were processed (facts 9.2). Pairs that are as wanted already
    /// change nothing; without any change there is no event.
    pub fn import_memberships(&mut self, app: AppRef, changes: &[(UserRef, GroupRef, bool)]) -> Changed {
        self.app_mut(app)?;
        for (user, group, _) in changes {
            self.user_mut(*user)?;
            if self.group_mut(*group)?.source_app != Some(app.0) {
                return Err(MutationError::NotAllowed("The group was not imported from this application."));
            }
        }
        let mut changed = 0;
        for (user, group, joins) in changes {
            let linked = if *joins { self.link_member(user.0, group.0) } else { self.unlink_member(user.0, group.0) };
            if linked {
                self.touch_membership(*user, *group);
                changed += 1;
            }
        }
        if changed > 0 {
            let draft = EventDraft::job("system.import.group_membership.complete");
            self.emit(draft.app(self, app).debug("groupMembershipsProcessed", &changed.to_string()));
        }
        Ok(())
    }

    /// Takes both sides of a membership away; `false` if there was none.
    fn unlink_member(&mut self, user: u32, group: u32) -> bool {
        let Some(known_user) = self.users.get_mut(user as usize).and_then(Option::as_mut) else { return false };
        let Ok(place) = known_user.groups.binary_search(&group) else { return false };
        known_user.groups.remove(place);
        if let Some(known_group) = self.groups.get_mut(group as usize).and_then(Option::as_mut)
            && let Ok(place) = known_group.members.binary_search(&user)
        {
            known_group.members.remove(place);
        }
        true
    }

    /// Writes both sides of a membership; `false` if it existed.
    pub(crate) fn link_member(&mut self, user: u32, group: u32) -> bool {
        let Some(known_user) = self.users.get_mut(user as usize).and_then(Option::as_mut) else { return false };
        let Some(known_group) = self.groups.get_mut(group as usize).and_then(Option::as_mut) else { return false };
        let Err(place) = known_user.groups.binary_search(&group) else { return false };
        known_user.groups.insert(place, group);
        if let Err(place) = known_group.members.binary_search(&user) {
            known_group.members.insert(place, user);
        }
        true
    }

    fn membership_changed(&mut self, user: UserRef, group: GroupRef, event: &str) {
        self.touch_membership(user, group);
        self.emit(EventDraft::web(event).user(self, user).group_or_app_group(self, group));
    }

    /// Marks the group as changed; what it grants follows as jobs.
    fn touch_membership(&mut self, user: UserRef, group: GroupRef) {
        let now_s = self.now_s();
        let mut apps = Vec::new();
        if let Ok(known) = self.group_mut(group) {
            known.last_membership_updated_s = now_s;
            apps.clone_from(&known.apps);
        }
        for app in apps {
            self.queue(Job::Reconcile { app, user: user.0 });
        }
    }

    /// Assigns a group to an app with the next lower priority; app users follow one by one as jobs.
    pub fn assign_group(&mut self, app: AppRef, group: GroupRef) -> Changed {
        self.group_mut(group)?;
        self.refuse_service_app(app)?;
        let Some(number) = self.link_app_group(app.0, group.0, None) else { return Ok(()) };
        self.emit(self.app_group_event("group.application_assignment.add", app, group, number));
        self.queue(Job::GrantGroup { app: app.0, group: group.0, after: None });
        Ok(())
    }

    /// Writes both sides of an app-group assignment; `None` if it existed.
    pub(crate) fn link_app_group(&mut self, app: u32, group: u32, priority: Option<i32>) -> Option<u32> {
        let now_s = self.now_s();
        let known_app = self.apps.get_mut(app as usize)?.as_mut()?;
        let known_group = self.groups.get_mut(group as usize)?.as_mut()?;
        let place = known_group.apps.binary_search(&app).err()?;
        known_group.apps.insert(place, app);
        let number = self.next_app_group;
        self.next_app_group += 1;
        let lowest = known_app.groups.iter().map(|assigned| assigned.priority).max();
        let priority = priority.unwrap_or_else(|| lowest.map_or(0, |lowest| lowest.saturating_add(1)));
        known_app.groups.push(AppGroup { group, priority, last_updated_s: now_s, number });
        Some(number)
    }

    /// Takes a group off an app; app users that only it granted go as jobs.
    pub fn unassign_group(&mut self, app: AppRef, group: GroupRef) -> Changed {
        let missing = || MutationError::NotFound(format!("{}/{}", app.id(), group.id()));
        let known = self.app_mut(app)?;
        let place = known.groups.iter().position(|assigned| assigned.group == group.0).ok_or_else(missing)?;
        let number = known.groups.remove(place).number;
        if let Ok(known) = self.group_mut(group)
            && let Ok(place) = known.apps.binary_search(&app.0)
        {
            known.apps.remove(place);
        }
        self.emit(self.app_group_event("group.application_assignment.remove", app, group, number));
        self.queue(Job::SweepApp { app: app.0, after: None });
        Ok(())
    }

    /// Changes the priority of a group in an app (0 = highest). Which group an app user names may change with it.
    pub fn set_group_priority(&mut self, app: AppRef, group: GroupRef, priority: i32) -> Changed {
        let now_s = self.now_s();
        let missing = || MutationError::NotFound(format!("{}/{}", app.id(), group.id()));
        let known = self.app_mut(app)?;
        let assigned = known.groups.iter_mut().find(|assigned| assigned.group == group.0).ok_or_else(missing)?;
        assigned.priority = priority;
        assigned.last_updated_s = now_s;
        let number = assigned.number;
        self.emit(self.app_group_event("group.application_assignment.update", app, group, number));
        Ok(())
    }

    fn app_group_event(&self, event_type: &str, app: AppRef, group: GroupRef, number: u32) -> EventDraft {
        let number = encode(IdKind::AppGroup, number);
        EventDraft::web(event_type).group(self, group).app(self, app).debug("groupAppAssignmentId", &number)
    }
}

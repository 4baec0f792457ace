//! System Log events, and what each of them says is to be read again.
//!
//! Entry points: [`effects`], [`LOG_FILTER`]. The table (facts 9) stands in `table`; adding an event type is adding a line there.
//!
//! Invariants:
//! - An event is a hint, never a change to apply, with the one exception of group memberships, which are set operations
//!   (see [`super::membership`]).
//! - Targets are selected by type, never by position; an `AppUser` target's id is not a user's (facts 5.3, 8.3).
//! - What an event does not say widens the read, never drops it: the smallest scope that is known is read.

use std::collections::BTreeSet;

use super::ids::{AppId, GroupId, Timestamp, UserId};
use super::model::Scope;
use super::pending::{Target, When};

mod table;
#[cfg(test)]
mod tests;

use table::{Class, Step};

/// The `filter` of the System Log request: whole families, so that types that Okta adds to them are seen (facts 9.7),
/// without the voluminous ones (sign-on, sessions, policies, tokens) and the one noisy type among the wanted.
///
/// Changing it means a new log position (facts 8.1). Nothing depends on it: what it keeps out has no effect anyway, so it can
/// be left away when Okta refuses it as too long.
pub const LOG_FILTER: &str = concat!(
    r#"(eventType sw "user.lifecycle." or eventType sw "user.account." or eventType sw "user.privileged_account.""#,
    r#" or eventType eq "user.realm.update" or eventType eq "account.user.classify""#,
    r#" or eventType eq "scheduled_action.user_suspension.completed" or eventType sw "group.""#,
    r#" or eventType sw "application." or eventType sw "master_application." or eventType sw "app.user_management""#,
    r#" or eventType sw "app.realtimesync." or eventType sw "app.access_request.grant""#,
    r#" or eventType sw "app.app_instance.provision_sync_job." or eventType sw "app.oauth2.client.lifecycle.""#,
    r#" or eventType sw "app.oauth2.client.privilege." or eventType sw "integration.api_service.""#,
    r#" or eventType sw "system.import." or eventType sw "system.identity_sources." or eventType sw "directory.""#,
    r#" or eventType sw "resource.user_entitlements." or eventType sw "resource.collection.""#,
    r#" or eventType sw "resource.governance_engine." or eventType sw "entitlement.migration." or eventType sw "iam.""#,
    r#" or eventType sw "system.api_token." or eventType sw "system.dr." or eventType sw "system.org.rate_limit.""#,
    r#" or eventType sw "system.operation.rate_limit.""#,
    // Types with an effect that the families of facts 9.7 leave out.
    r#" or eventType sw "system.agent." or eventType eq "app.ad.api.user_import.account_locked""#,
    r#" or eventType eq "access.request.resolve" or eventType eq "certification.campaign.item.remediate")"#,
    r#" and not (eventType eq "application.provision.integration.call_api")"#,
);

/// The `filter` that shows what [`deletions`] reads, and little else. Deletions are rare: it is asked for when an object is
/// not found and nothing has said that it is gone.
pub const DELETIONS_FILTER: &str = concat!(
    r#"eventType sw "user.lifecycle.delete" or eventType eq "group.lifecycle.delete""#,
    r#" or eventType eq "application.lifecycle.delete" or eventType eq "app.oauth2.client.lifecycle.delete""#,
    r#" or eventType eq "system.import.user.delete" or eventType eq "system.identity_sources.user.delete""#,
    r#" or eventType eq "app.realtimesync.import.details.delete_user" or eventType eq "system.import.group.delete""#,
    r#" or eventType eq "system.identity_sources.group.delete""#,
    r#" or eventType eq "app.user_management.user_group_import.delete_success""#,
    r#" or eventType eq "application.provision.group_push.delete_appgroup""#,
    r#" or eventType eq "application.provision.group_push.mapping.and.groups.deleted.rule.deleted""#,
);

/// Types that say that an account has ended. Others are hints that it has changed: a 404 then needs another proof.
const ENDS_ASSIGNMENT: [&str; 7] = [
    "application.user_membership.remove",
    "application.user_membership.revoke",
    "application.user_membership.deprovision",
    "application.provision.user.deprovision",
    "application.provision.user.delete",
    "application.account.remove",
    "application.account.decision.revoke",
];

/// Most targets of an event that are kept. Samples have up to three; bulk events name tens.
pub const TARGETS_MAX: usize = 1_000;
/// One event: a hint to read something again, never a change to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// `uuid`: the key to recognise a repeated event.
    pub uuid: Box<str>,
    /// `published`: when it happened by Okta's clock; may go backwards from event to event (facts 8.1).
    pub published: Option<Timestamp>,
    /// `eventType`.
    pub event_type: Box<str>,
    /// `outcome.result` in upper case: `SUCCESS`, `FAILURE`, … (mixed case was seen, facts 15.12).
    pub outcome: Option<Box<str>>,
    /// `transaction.type`, `JOB` for the effects of a group or a deactivation.
    pub transaction_type: Option<Box<str>>,
    /// `transaction.detail.requestApiTokenId`: the API token that caused it.
    pub api_token: Option<Box<str>>,
    /// `target`, in Okta's order, which means nothing: select by type.
    pub targets: Vec<LogTarget>,
    /// More than [`TARGETS_MAX`] targets: treat it as a bulk change.
    pub targets_cut: bool,
    /// The values of the kept keys (`okta::wire::log::DEBUG_KEYS_KEPT`) that are there.
    pub debug_data: Vec<(&'static str, Box<str>)>,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTarget {
    /// `type`: `User`, `AppInstance`, `AppUser`, `UserGroup`, `AppGroup`, `ROLE`, …
    pub target_type: Box<str>,
    /// `id`. Of an `AppUser` target it is the assignment's id and not the user's (facts 5.3).
    pub id: Box<str>,
    /// `detailEntry.user_id`, where provisioning events name the user (facts 8.3).
    pub detail_user_id: Option<Box<str>>,
    /// `detailEntry.app_instance_id`, where provisioning events name the app.
    pub detail_app_id: Option<Box<str>>,
}

/// A membership that an event says was added or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberChange {
    /// The group.
    pub group: GroupId,
    /// The user.
    pub user: UserId,
    /// Added, or removed.
    pub added: bool,
    /// When, by Okta's clock; `None` when the event does not say: then it only hints at reading the members.
    pub published: Option<Timestamp>,
}

/// Something to be read because of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What.
    pub target: Target,
    /// When.
    pub when: When,
    /// The event says that it is gone. A read decides, but this makes its 404 a proof (facts 7.2).
    pub announces_end: bool,
}

/// What an event obliges to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Reads.
    pub marks: Vec<Mark>,
    /// Memberships to apply.
    pub members: Vec<MemberChange>,
    /// The type stands in no line of the table: counted, and whatever it names is read again.
    pub is_unknown: bool,
    /// Apps whose Federation Broker Mode was switched on (`true`) or off: then users have access without assignments, or no
    /// more (facts 4). Not every answer about an app tells it.
    pub broker_mode: Vec<(AppId, bool)>,
    /// What the credential may see may have changed: the fingerprint of what it saw so far means nothing any more.
    pub visibility_changed: bool,
}

/// What an event obliges to, by facts 9. Total: whatever the event names or does not name, there is an answer.
///
/// - An event that needs a target which it does not name (facts 9: "act as BK for the smallest scope known"), or whose
///   targets were cut, makes the read wider: all app users of the app, all accounts of the user, the delta walk.
/// - A failed event still makes its reads: they are cheap, and events were seen to be wrong about it (facts 8.1). But its
///   memberships are not applied, and a failed change of privileges changes nothing.
/// - The marks are sorted and none stands there twice. At most [`TARGETS_MAX`] times the steps of a line.
pub fn effects(event: &LogEvent) -> Effects {
    let mut gathering = Gathering {
        named: Named::of(event),
        outcome: event.outcome.as_deref().unwrap_or_default(),
        published: event.published,
        ends_assignment: ENDS_ASSIGNMENT.contains(&&*event.event_type),
        is_assigned: &*event.event_type == "group.application_assignment.add",
        effects: Effects::default(),
    };
    match table::line_for(&event.event_type) {
        Some(line) => line.steps.iter().for_each(|step| gathering.carry_out(*step, line.class)),
        None => gathering.read_whatever_is_named(),
    }
    let mut effects = gathering.effects;
    if !matches!(event.outcome.as_deref(), Some("FAILURE" | "DENY")) {
        let is_on = match &*event.event_type {
            "application.configuration.enable_fed_broker_mode" => Some(true),
            "application.configuration.disable_fed_broker_mode" => Some(false),
            _ => None,
        };
        let apps = Named::of(event).apps;
        effects.broker_mode = is_on.map(|is_on| apps.into_iter().map(|app| (app, is_on)).collect()).unwrap_or_default();
    }
    let order = |mark: &Mark| (mark.target.clone(), mark.when, mark.announces_end);
    effects.marks.sort_by_cached_key(order);
    effects.marks.dedup();
    effects
}

/// The users, groups and apps that an event says are deleted.
pub fn deletions(event: &LogEvent) -> Vec<Scope> {
    let ended = effects(event).marks.into_iter().filter(|mark| mark.announces_end);
    let object = |mark: Mark| match mark.target {
        Target::User(user) => Some(Scope::User(user)),
        Target::Group(group) => Some(Scope::Group(group)),
        Target::App(app) => Some(Scope::App(app)),
        _ => None,
    };
    ended.filter_map(object).collect()
}

/// What an event names, by type.
struct Named {
    users: BTreeSet<UserId>,
    groups: BTreeSet<GroupId>,
    apps: BTreeSet<AppId>,
    /// There were more targets than are kept.
    is_cut: bool,
}

impl Named {
    fn of(event: &LogEvent) -> Self {
        // Such a client is an app with the same id; in other events a client is the one who acts.
        let is_client_event = event.event_type.starts_with("app.oauth2.client.");
        let mut named =
            Self { users: BTreeSet::new(), groups: BTreeSet::new(), apps: BTreeSet::new(), is_cut: event.targets_cut };
        for target in &event.targets {
            match &*target.target_type {
                "User" => named.users.extend(UserId::new(&target.id)),
                "UserGroup" | "AppGroup" => named.groups.extend(GroupId::new(&target.id)),
                "AppInstance" => named.apps.extend(AppId::new(&target.id)),
                "PublicClientApp" if is_client_event => named.apps.extend(AppId::new(&target.id)),
                _ => {}
            }
        }
        if named.users.is_empty() {
            let ids = event.targets.iter().filter_map(|target| target.detail_user_id.as_deref());
            named.users = ids.flat_map(UserId::new).collect();
        }
        if named.apps.is_empty() {
            let ids = event.targets.iter().filter_map(|target| target.detail_app_id.as_deref());
            named.apps = ids.flat_map(AppId::new).collect();
        }
        named
    }
}

/// The effects under construction.
struct Gathering<'a> {
    named: Named,
    outcome: &'a str,
    published: Option<Timestamp>,
    /// The type is one of [`ENDS_ASSIGNMENT`].
    ends_assignment: bool,
    /// The type says that a group was assigned to an app.
    is_assigned: bool,
    effects: Effects,
}

/// When the wider read is due that stands in for one that cannot be named: at once, unless that one was not urgent.
fn when_widened(when: When) -> When {
    if when == When::Later { When::Later } else { When::Now }
}

impl Gathering<'_> {
    fn mark(&mut self, target: Target, when: When) {
        self.effects.marks.push(Mark { target, when, announces_end: false });
    }

    fn mark_all<Id: Clone>(&mut self, ids: &BTreeSet<Id>, target: impl Fn(Id) -> Target, when: When) {
        self.effects.marks.extend(ids.iter().map(|id| Mark { target: target(id.clone()), when, announces_end: false }));
    }

    /// Says of everything that was marked since that the event ends it, if it does: a failed one ends nothing.
    fn announce_end(&mut self, from: usize, class: Class) {
        let ends = |target: &Target| match target {
            Target::User(_) => class == Class::UserDeleted,
            Target::Group(_) => class == Class::GroupDeleted,
            Target::App(_) => class == Class::AppDeleted,
            _ => false,
        };
        let ends_assignment = self.ends_assignment || class == Class::UserDeleted;
        if self.is_failed() {
            return;
        }
        for mark in self.effects.marks.iter_mut().skip(from) {
            let is_ended = ends(&mark.target) || (ends_assignment && matches!(mark.target, Target::AppUser(..)));
            mark.announces_end |= is_ended;
        }
    }

    fn is_failed(&self) -> bool {
        matches!(self.outcome, "FAILURE" | "DENY")
    }

    fn carry_out(&mut self, step: Step, class: Class) {
        let from = self.effects.marks.len();
        self.mark_for(step, class);
        self.announce_end(from, class);
    }

    fn mark_for(&mut self, step: Step, class: Class) {
        match step {
            Step::User(when) => self.read_each(self.named.users.clone(), Target::User, when, Target::UsersDelta),
            Step::Group => self.read_each(self.named.groups.clone(), Target::Group, When::Now, Target::GroupsDelta),
            Step::App => self.read_each(self.named.apps.clone(), Target::App, When::Now, Target::List(Scope::Apps)),
            Step::Pair(when) => self.read_pairs(when, class),
            Step::UserApps if self.named.users.is_empty() => self.read_pairs(When::Later, class),
            Step::UserApps => self.mark_all(&self.named.users.clone(), Target::UserApps, When::Later),
            Step::AppUsers if self.named.apps.is_empty() => self.read_pairs(When::Quiet, class),
            Step::AppUsers => self.list_app_users(),
            Step::AppGroups => {
                let target = |app| Target::List(Scope::AppGroups(app));
                self.read_each(self.named.apps.clone(), target, When::Now, nothing_named(class));
                self.expect_assignment();
            }
            Step::Members(when) => self.list_members(when),
            Step::SourceGroups => {
                self.read_each(self.named.apps.clone(), Target::SourceGroups, When::Quiet, Target::GroupsDelta);
            }
            Step::UsersDelta => self.mark(Target::UsersDelta, When::Quiet),
            Step::GroupsDelta => self.mark(Target::GroupsDelta, When::Quiet),
            Step::AppList => self.mark(Target::List(Scope::Apps), When::Now),
            Step::Everything => self.mark(Target::Everything, When::Now),
            Step::MemberChange(added) => self.change_members(added),
            Step::Visibility => self.effects.visibility_changed |= !self.is_failed(),
        }
    }

    /// Reads what is named; the wider read too when nothing is, or when there was more than could be kept.
    fn read_each<Id: Clone>(&mut self, ids: BTreeSet<Id>, target: impl Fn(Id) -> Target, when: When, wider: Target) {
        if ids.is_empty() || self.named.is_cut {
            self.mark(wider, when_widened(when));
        }
        self.mark_all(&ids, target, when);
    }

    /// The list of the app's groups has to show the group that was assigned.
    fn expect_assignment(&mut self) {
        let (apps, groups) = (&self.named.apps, &self.named.groups);
        let is_clear = apps.len() == 1 && groups.len() == 1;
        if let (Some(app), Some(group)) = (apps.first(), groups.first())
            && is_clear
            && self.is_assigned
            && !self.is_failed()
        {
            self.mark(Target::AppGroup(app.clone(), group.clone()), When::Now);
        }
    }

    fn list_app_users(&mut self) {
        let apps = self.named.apps.clone();
        self.mark_all(&apps, |app| Target::List(Scope::AppUsers(app)), When::Quiet);
    }

    fn list_members(&mut self, when: When) {
        let groups = self.named.groups.clone();
        self.read_each(groups, |group| Target::List(Scope::GroupMembers(group)), when, Target::GroupsDelta);
    }

    /// Accounts of the users named in the apps named. Who belongs to which is known only when one side is a single one.
    fn read_pairs(&mut self, when: When, class: Class) {
        let Named { users, apps, is_cut, .. } = &self.named;
        match (apps.len(), users.len()) {
            (0, 0) => self.mark(nothing_named(class), when_widened(when)),
            (0, _) => self.mark_all(&users.clone(), Target::UserApps, when_widened(when)),
            (apps_count, 1) if *is_cut => {
                self.mark_all(&users.clone(), Target::UserApps, when_widened(when));
                // Neither side need be the single one that it looks like.
                if apps_count == 1 {
                    self.list_app_users();
                }
            }
            (1, 1..) | (1.., 1) if !is_cut => {
                let pairs = apps.iter().flat_map(|app| users.iter().map(|user| (app.clone(), user.clone())));
                let targets = pairs.map(|(app, user)| Target::AppUser(app, user));
                self.effects.marks.extend(targets.map(|target| Mark { target, when, announces_end: false }));
            }
            _ => self.list_app_users(),
        }
    }

    /// A membership that is said to have changed is applied only if there is no doubt which, and that it has.
    fn change_members(&mut self, added: bool) {
        let Named { users, groups, is_cut, .. } = &self.named;
        let is_clear = !is_cut && !users.is_empty() && !groups.is_empty() && (users.len() == 1 || groups.len() == 1);
        if self.is_failed() {
            self.list_members(When::Later);
        } else if is_clear && self.outcome == "SUCCESS" {
            let pairs = groups.iter().flat_map(|group| users.iter().map(|user| (group.clone(), user.clone())));
            let published = self.published;
            let changes = pairs.map(|(group, user)| MemberChange { group, user, added, published });
            self.effects.members.extend(changes);
        } else {
            self.list_members(When::Quiet);
        }
    }

    /// A type that is not known: whatever is between the things it names may have changed, and else those themselves.
    fn read_whatever_is_named(&mut self) {
        self.effects.is_unknown = true;
        let Named { users, groups, apps, .. } = &self.named;
        let (has_users, has_groups, has_apps) = (!users.is_empty(), !groups.is_empty(), !apps.is_empty());
        let steps = [
            (has_apps && has_users, Step::Pair(When::Now)),
            (has_groups && has_users, Step::Members(When::Quiet)),
            (has_groups && has_apps, Step::AppGroups),
            (has_groups && has_apps, Step::AppUsers),
            (has_users && !has_apps, Step::User(When::Now)),
            (has_groups, Step::Group),
            (has_apps && !has_users, Step::App),
        ];
        for (_, step) in steps.into_iter().filter(|(is_due, _)| *is_due) {
            self.carry_out(step, Class::Bulk);
        }
    }
}

/// What to read for an event that names nothing of what it is about.
fn nothing_named(class: Class) -> Target {
    match class {
        Class::UserChanged | Class::UserDeleted => Target::UsersDelta,
        Class::MembershipChanged | Class::GroupChanged | Class::GroupDeleted => Target::GroupsDelta,
        Class::AppChanged
        | Class::AppDeleted
        | Class::AssignmentChanged
        | Class::Bulk
        | Class::Privilege
        | Class::Token
        | Class::NoEffect => Target::List(Scope::Apps),
    }
}

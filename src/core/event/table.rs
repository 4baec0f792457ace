//! The event types of facts 9, and what each of them obliges to.
//!
//! Entry point: [`line_for`]. One line per type or family of types, in the order of facts 9.1 to 9.6; adding a type is
//! adding a line. The abbreviations are those of the facts' columns, explained below once.
//!
//! Invariants:
//! - No pattern stands here twice; an exact type wins over a family, a longer family over a shorter one.
//! - A line without steps is a decision too: the type is known and changes nothing that is stored.

use crate::core::pending::When;

/// What an event type is about. Decides what is read when it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A user was created or changed.
    UserChanged,
    /// A user was deleted.
    UserDeleted,
    /// A group's members changed.
    MembershipChanged,
    /// A group was created or changed.
    GroupChanged,
    /// A group was deleted.
    GroupDeleted,
    /// An app was created or changed.
    AppChanged,
    /// An app was deleted.
    AppDeleted,
    /// An assignment, of a user or of a group, changed.
    AssignmentChanged,
    /// Many things at once, or nobody knows which.
    Bulk,
    /// An administrator's privilege.
    Privilege,
    /// An API token.
    Token,
    /// Nothing that is stored.
    NoEffect,
}

/// One thing to do about an event: the "re-read" column of facts 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the users named.
    User(When),
    /// Read the groups named.
    Group,
    /// Read the apps named.
    App,
    /// Read the accounts of the users named in the apps named.
    Pair(When),
    /// Read all accounts of the users named. Only ever a second look: the effect comes by a job.
    UserApps,
    /// List the app users of the apps named, once no more hints come.
    AppUsers,
    /// List the group assignments of the apps named.
    AppGroups,
    /// List the members of the groups named.
    Members(When),
    /// Read the groups that the apps named have brought, and their members.
    SourceGroups,
    /// Read the users changed lately.
    UsersDelta,
    /// Read the groups changed lately, and their members.
    GroupsDelta,
    /// List the apps.
    AppList,
    /// Read everything.
    Everything,
    /// Apply: the users named are members of the groups named now (`true`) or no more (`false`).
    MemberChange(bool),
    /// What the credential may see may be another.
    Visibility,
}

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// An event type, or a family: one `*` stands for any text, at the end or before a common ending.
    pub(super) pattern: &'static str,
    /// What it is about.
    pub(super) class: Class,
    /// What to do.
    pub(super) steps: &'static [Step],
}

const fn line(pattern: &'static str, class: Class, steps: &'static [Step]) -> Line {
    Line { pattern, class, steps }
}

impl Line {
    /// How much of the type the pattern spells out, if it matches: more is better, all of it is best.
    fn match_bytes(&self, event_type: &str) -> Option<usize> {
        let Some((start, end)) = self.pattern.split_once('*') else {
            return (self.pattern == event_type).then_some(usize::MAX);
        };
        let is_match = event_type.strip_prefix(start).is_some_and(|rest| rest.ends_with(end));
        is_match.then_some(start.len() + end.len())
    }
}

/// The line for a type: the exact one, else the family that spells out most of it. `None`: the type is not known.
pub(super) fn line_for(event_type: &str) -> Option<&'static Line> {
    let lines = SECTIONS.iter().flat_map(|(_, lines)| lines.iter());
    let matches = lines.filter_map(|line| Some((line.match_bytes(event_type)?, line)));
    matches.max_by_key(|(bytes, _)| *bytes).map(|(_, line)| line)
}

/// The table, by the part of the facts that it comes from.
pub(super) const SECTIONS: [(&str, &[Line]); 7] = [
    ("9.1", USERS),
    ("9.2", IMPORTS),
    ("9.3", GROUPS),
    ("9.4", APPS),
    ("9.5", ASSIGNMENTS),
    ("9.6", ORG),
    ("9.7", LIMITS),
];

// The classes, as the facts abbreviate them.
const UC: Class = Class::UserChanged;
const UD: Class = Class::UserDeleted;
const MC: Class = Class::MembershipChanged;
const GC: Class = Class::GroupChanged;
const GD: Class = Class::GroupDeleted;
const AC: Class = Class::AppChanged;
const AD: Class = Class::AppDeleted;
const AS: Class = Class::AssignmentChanged;
const BK: Class = Class::Bulk;
const PR: Class = Class::Privilege;
const TK: Class = Class::Token;
const NO: Class = Class::NoEffect;

// The reads, as the facts abbreviate them. A deletion is a read, too: the answer 404 is what removes (facts 11), and what
// hangs on the object goes with it. `_LATER`: the event only announces, or its effect comes by a job (facts 11).
const U: Step = Step::User(When::Now);
const U_LATER: Step = Step::User(When::Later);
const AU: Step = Step::Pair(When::Now);
const AU_LATER: Step = Step::Pair(When::Later);
const UA_LATER: Step = Step::UserApps;
const LA: Step = Step::AppUsers;
const LG: Step = Step::AppGroups;
const M: Step = Step::Members(When::Quiet);
const M_LATER: Step = Step::Members(When::Later);
const G: Step = Step::Group;
const A: Step = Step::App;
const GROUPS_OF_APP: Step = Step::SourceGroups;
const USERS_DELTA: Step = Step::UsersDelta;
const GROUPS_DELTA: Step = Step::GroupsDelta;
const APP_LIST: Step = Step::AppList;
const EVERYTHING: Step = Step::Everything;
const MEMBER_ADDED: Step = Step::MemberChange(true);
const MEMBER_REMOVED: Step = Step::MemberChange(false);
const VISIBILITY: Step = Step::Visibility;

/// Facts 9.1: users.
const USERS: &[Line] = &[
    line("user.lifecycle.create", UC, &[U]),
    line("user.lifecycle.suspend", UC, &[U]),
    line("user.lifecycle.unsuspend", UC, &[U]),
    line("user.account.update_primary_email", UC, &[U]),
    line("user.account.update_secondary_email", UC, &[U]),
    line("user.account.update_user_type", UC, &[U]),
    line("user.privileged_account.update_profile", UC, &[U]),
    line("user.realm.update", UC, &[U]),
    line("scheduled_action.user_suspension.completed", UC, &[U]),
    line("user.lifecycle.activate", UC, &[U]),
    line("user.lifecycle.reactivate", UC, &[U, UA_LATER]),
    line("user.account.lock", UC, &[U]),
    line("user.account.lock.limit", UC, &[U]),
    line("user.account.unlock", UC, &[U]),
    line("user.account.unlock_by_admin", UC, &[U]),
    line("user.account.reset_password", UC, &[U]),
    line("user.account.expire_password", UC, &[U]),
    line("user.account.update_password", UC, &[U]),
    line("account.user.classify", UC, &[U]),
    line("user.lifecycle.deactivate", UC, &[U, UA_LATER]),
    line("user.lifecycle.delete.initiated", UD, &[U_LATER]),
    line("user.lifecycle.delete.completed", UD, &[U]),
    line("user.lifecycle.password_mass_expiry", BK, &[USERS_DELTA]),
    line("user.account.update_profile", UC, &[U]),
    line("system.agent.ldap.update_user", UC, &[U_LATER]),
    line("system.agent.ldap.realtimesync", UC, &[U_LATER]),
    line("system.agent.ad.realtimesync", UC, &[U_LATER]),
    line("system.agent.ad.update_user", UC, &[U_LATER]),
    line("system.agent.ldap.create_user_JIT", BK, &[USERS_DELTA]),
    line("system.agent.ad.import_user", BK, &[USERS_DELTA]),
    line("user.lifecycle.jit.error.read_only", NO, &[]),
    line("user.account.unlock_failure", NO, &[]),
    line("user.account.unlock_token", NO, &[]),
    line("user.account.use_token", NO, &[]),
    line("user.account.preference_update", NO, &[]),
    line("user.account.subscriptions.update", NO, &[]),
    line("user.account.report_suspicious_activity_by_enduser", NO, &[]),
    line("user.account.access_support_user_app", NO, &[]),
    line("scheduled_action.user_suspension.scheduled", NO, &[]),
    line("scheduled_action.user_suspension.updated", NO, &[]),
    line("scheduled_action.user_suspension.canceled", NO, &[]),
    line("user.import.password", NO, &[]),
    line("user.mfa.*", NO, &[]),
    line("user.session.*", NO, &[]),
    line("user.authentication.*", NO, &[]),
    line("user.credential.*", NO, &[]),
    line("user.risk.*", NO, &[]),
    line("user.device_session.*", NO, &[]),
    line("user.identity_verification.*", NO, &[]),
    line("user.registration.*", NO, &[]),
    line("self_service.enabled", NO, &[]),
    line("self_service.disabled", NO, &[]),
    line("app.request_new.notify", NO, &[]),
];

/// Facts 9.2: imports and identity sources.
const IMPORTS: &[Line] = &[
    line("system.import.user.create", UC, &[U, AU]),
    line("system.import.user.update", UC, &[U, AU]),
    line("system.import.user.update_user_lifecycle_from_master", UC, &[U, AU]),
    line("system.import.user.match", UC, &[U, AU]),
    line("system.import.import_profile", UC, &[U, AU]),
    line("app.user_management.push_new_user_success", UC, &[U, AU]),
    line("system.import.user.suspend", UC, &[U]),
    line("system.import.user.unsuspend", UC, &[U]),
    line("system.import.user.unsuspend_after_confirm", UC, &[U]),
    line("system.identity_sources.user.create", UC, &[U]),
    line("system.identity_sources.user.update", UC, &[U]),
    line("app.ad.api.user_import.account_locked", UC, &[U]),
    line("system.import.user.delete", UD, &[U, AU]),
    line("system.identity_sources.user.delete", UD, &[U, AU]),
    line("system.import.user_match.confirm", AS, &[AU]),
    line("system.import.user_match.update", AS, &[AU]),
    line("system.import.user_match.unignore", AS, &[AU]),
    line("system.import.import_provisioning_info", AS, &[AU]),
    line("system.import.clear.unconfirmed.users.summary", AS, &[AU]),
    line("system.import.group.create", GC, &[G]),
    line("system.import.group.update", GC, &[G]),
    line("system.import.group.delete", GD, &[G]),
    line("system.import.group_membership.complete", BK, &[GROUPS_OF_APP]),
    line("system.import.membership_processing.complete", BK, &[GROUPS_OF_APP]),
    line("system.import.group.complete", BK, &[GROUPS_OF_APP]),
    line("system.import.complete", BK, &[LA, USERS_DELTA]),
    line("system.import.complete_batch", BK, &[LA, USERS_DELTA]),
    line("system.import.user.complete", BK, &[LA, USERS_DELTA]),
    line("system.import.user_csv.complete", BK, &[LA, USERS_DELTA]),
    line("system.import.user_matching.complete", BK, &[LA, USERS_DELTA]),
    line("system.import.object_creation.complete", BK, &[LA, USERS_DELTA]),
    line("system.import.implicit_deletion.complete", BK, &[LA, USERS_DELTA]),
    line("system.import.session.triggered", NO, &[]),
    line("system.import.roadblock.resume", NO, &[]),
    line("system.import.roadblock.reschedule_and_resume", NO, &[]),
    line("system.identity_sources.group.create", GC, &[G]),
    line("system.identity_sources.group.update", GC, &[G]),
    line("system.identity_sources.group.delete", GD, &[G]),
    line("system.identity_sources.group.user.assign", MC, &[M]),
    line("system.identity_sources.group.user.revoke", MC, &[M]),
    line("system.identity_sources.bulk_upsert", BK, &[USERS_DELTA, LA]),
    line("system.identity_sources.bulk_delete", BK, &[USERS_DELTA, LA]),
    line("system.identity_sources.bulk_group_upsert", BK, &[GROUPS_OF_APP]),
    line("system.identity_sources.bulk_group_delete", BK, &[GROUPS_OF_APP]),
    line("system.identity_sources.bulk_group_membership_upsert", BK, &[GROUPS_OF_APP]),
    line("system.identity_sources.bulk_group_membership_delete", BK, &[GROUPS_OF_APP]),
    line("app.realtimesync.import.details.add_user", UC, &[U, AU]),
    line("app.realtimesync.import.details.update_user", UC, &[U, AU]),
    line("app.realtimesync.import.details.delete_user", UD, &[U, AU]),
    line("app.user_management.user_group_import.upsert_success", GC, &[G]),
    line("app.user_management.user_group_import.delete_success", GD, &[G]),
    line("app.user_management", MC, &[M]),
    line("directory.external.group.membership.add", MC, &[M_LATER]),
    line("directory.external.group.membership.remove", MC, &[M_LATER]),
    line("system.import.start", NO, &[]),
    line("system.import.*.start", NO, &[]),
    line("system.import.download.*", NO, &[]),
    line("system.import.schedule", NO, &[]),
    line("system.import.session.created", NO, &[]),
    line("system.import.session.cancelled", NO, &[]),
    line("system.import.session.expired", NO, &[]),
    line("system.import.roadblock", NO, &[]),
    line("system.import.roadblock.updated", NO, &[]),
    line("system.import.full_import_required", NO, &[]),
    line("system.import.incremental_converted_to_full", NO, &[]),
    line("system.import.custom_object.*", NO, &[]),
    line("system.import.entitlement.*", NO, &[]),
    line("app.realtimesync.import_failed", NO, &[]),
    line("app.ad.api.user_import.warn.*", NO, &[]),
    line("app.ldap.import.tracking_attribute_missing", NO, &[]),
    line("system.csv.import_user", NO, &[]),
    line("system.identity_sources.bulk_device_*", NO, &[]),
    line("app.user_management.user_group_import.create_failure", NO, &[]),
    line("app.user_management.user_group_import.update_failure", NO, &[]),
    line("app.user_management.user_group_import.upsert_fail", NO, &[]),
    line("app.user_management.update_from_master_failed", NO, &[]),
    line("app.user_management.import.csv.line.error", NO, &[]),
    line("app.user_management.grouppush.*", NO, &[]),
];

/// Facts 9.3: groups, memberships, rules.
const GROUPS: &[Line] = &[
    line("group.user_membership.add", MC, &[MEMBER_ADDED]),
    line("group.user_membership.remove", MC, &[MEMBER_REMOVED]),
    line("group.user_membership.rule.trigger", BK, &[GROUPS_DELTA]),
    line("group.user_membership.rule.evaluation", NO, &[]),
    line("group.user_membership.rule.add_exclusion", NO, &[]),
    line("group.user_membership.rule.deactivated", BK, &[GROUPS_DELTA]),
    line("group.user_membership.rule.invalidate", BK, &[GROUPS_DELTA]),
    line("group.user_membership.rule.error", BK, &[GROUPS_DELTA]),
    line("group.lifecycle.create", GC, &[G]),
    line("group.profile.update", GC, &[G]),
    line("group.lifecycle.delete", GD, &[G]),
    line("group.application_assignment.add", AS, &[LG, LA]),
    line("group.application_assignment.remove", AS, &[LG, LA]),
    line("group.application_assignment.update", AS, &[LG, LA]),
    line("group.application_assignment.skip_assignment_reconcile", BK, &[LA]),
    line("group.privilege.grant", PR, &[]),
    line("group.privilege.revoke", PR, &[]),
];

/// Facts 9.4: apps.
const APPS: &[Line] = &[
    line("application.lifecycle.create", AC, &[A]),
    line("application.lifecycle.update", AC, &[A]),
    line("application.lifecycle.activate", AC, &[A, LA]),
    line("application.lifecycle.deactivate", AC, &[A]),
    line("application.lifecycle.delete", AD, &[A]),
    line("application.configuration.update", AC, &[A]),
    line("application.configuration.import_schema", AC, &[A]),
    line("application.configuration.update_api_credentials_for_pass_change", AC, &[A]),
    line("application.configuration.enable_delauth_outbound", AC, &[A]),
    line("application.configuration.disable_delauth_outbound", AC, &[A]),
    line("application.configuration.enable_fed_broker_mode", AC, &[A, LA]),
    line("application.configuration.disable_fed_broker_mode", AC, &[A, LA]),
    line("application.provision.field_mapping_rule.change", BK, &[LA]),
    line("directory.mapping.update", BK, &[LA]),
    line("directory.app_user_profile.update", AC, &[LA]),
    line("directory.app_user_profile.bootstrap", AC, &[LA]),
    line("app.oauth2.client.lifecycle.create", AC, &[A]),
    line("app.oauth2.client.lifecycle.update", AC, &[A]),
    line("app.oauth2.client.lifecycle.activate", AC, &[A]),
    line("app.oauth2.client.lifecycle.deactivate", AC, &[A]),
    line("app.oauth2.client.lifecycle.delete", AD, &[A]),
    line("integration.api_service.lifecycle.authorize", AC, &[APP_LIST]),
    line("integration.api_service.lifecycle.revoke", AC, &[APP_LIST]),
    line("application.configuration.detect_error", NO, &[]),
    line("application.configuration.read_client_secret", NO, &[]),
    line("application.configuration.reset_logo", NO, &[]),
    line("application.configuration.update_logo", NO, &[]),
    line("application.configuration.update_rate_limits", NO, &[]),
    line("application.appuser.mapping.invalid.expression", NO, &[]),
    line("application.policy.*", NO, &[]),
    line("application.registration_policy.*", NO, &[]),
    line("application.integration.*", NO, &[]),
    line("application.cache.invalidate", NO, &[]),
    line("app.keys.*", NO, &[]),
    line("app.app_instance.csr.*", NO, &[]),
    line("app.cross_app_access.*", NO, &[]),
    line("app.interclient_mapping.*", NO, &[]),
    line("app.saml.*", NO, &[]),
    line("app.office365.*", NO, &[]),
    line("app.rum.*", NO, &[]),
];

/// Facts 9.5: assignments.
const ASSIGNMENTS: &[Line] = &[
    line("application.user_membership.add", AS, &[AU]),
    line("application.user_membership.remove", AS, &[AU]),
    line("application.user_membership.update", AS, &[AU]),
    line("application.user_membership.change_username", AS, &[AU]),
    line("application.user_membership.approve", AS, &[AU]),
    line("application.user_membership.provision", AS, &[AU]),
    line("application.user_membership.revoke", AS, &[AU]),
    line("application.user_membership.deprovision", AS, &[AU]),
    line("application.user_membership.restore", AS, &[AU]),
    line("master_application.user_membership.add", AS, &[AU]),
    line("application.provision.user.push", AS, &[AU]),
    line("application.provision.user.push_profile", AS, &[AU]),
    line("application.provision.user.sync", AS, &[AU]),
    line("application.provision.user.import", AS, &[AU]),
    line("application.provision.user.import_profile", AS, &[AU]),
    line("application.provision.user.activate", AS, &[AU]),
    line("application.provision.user.deactivate", AS, &[AU]),
    line("application.provision.user.reactivate", AS, &[AU]),
    line("application.provision.user.deprovision", AS, &[AU]),
    line("application.provision.user.delete", AS, &[AU]),
    line("application.provision.user.verify_exists", AS, &[AU]),
    line("application.provision.user.delete.schedule", AS, &[AU_LATER]),
    line("application.provision.user.remove_entitlements", AS, &[AU_LATER]),
    line("application.provision.user.remove_entitlements.schedule", AS, &[AU_LATER]),
    line("application.account.detect", AS, &[AU]),
    line("application.account.match.update", AS, &[AU]),
    line("application.account.decision.confirm", AS, &[AU]),
    line("application.account.decision.ignore", AS, &[AU]),
    line("application.account.decision.revoke", AS, &[AU]),
    line("application.account.remove", AS, &[AU]),
    line("app.app_instance.provision_sync_job.completed", BK, &[LA]),
    line("app.app_instance.provision_sync_job.failed", BK, &[LA]),
    line("app.app_instance.provision_sync_job.started", NO, &[]),
    line("application.provision.group.*", NO, &[]),
    line("application.provision.group_membership.*", NO, &[]),
    line("application.provision.group_push.*", NO, &[]),
    line("application.provision.group_push.delete_appgroup", GD, &[G]),
    line("application.provision.group_push.mapping.and.groups.deleted.rule.deleted", GD, &[G]),
    line("application.provision.group_push.mapping.app.group.renamed", GC, &[G]),
    line("app.access_request.grant", AS, &[AU_LATER]),
    line("access.request.resolve", AS, &[AU_LATER]),
    line("certification.campaign.item.remediate", AS, &[AU_LATER]),
    line("access.request.*", NO, &[]),
    line("resource.collection.assign", AS, &[UA_LATER]),
    line("resource.collection.unassign", AS, &[UA_LATER]),
    line("resource.user_entitlements.update", AS, &[AU]),
    line("resource.user_entitlements.drift.revert", AS, &[AU]),
    line("entitlement.migration.complete", BK, &[LA]),
    line("resource.governance_engine.enable", BK, &[LA]),
    line("resource.governance_engine.disable", BK, &[LA]),
    line("application.user_membership.change_password", NO, &[]),
    line("application.user_membership.restore_password", NO, &[]),
    line("application.user_membership.show_password", NO, &[]),
    line("application.provision.user.password", NO, &[]),
    line("application.provision.user.push_password", NO, &[]),
    line("application.provision.user.push_okta_password", NO, &[]),
    line("application.provision.integration.call_api", NO, &[]),
    line("app.access_request.request", NO, &[]),
    line("app.access_request.approver.*", NO, &[]),
    line("app.access_request.deny", NO, &[]),
    line("app.access_request.expire", NO, &[]),
    line("app.access_request.delete", NO, &[]),
    line("app.generic.unauth_app_access_attempt", NO, &[]),
    line("resource.user_entitlements.drift.detect", NO, &[]),
    line("resource.entitlement*", NO, &[]),
    line("resource.label.*", NO, &[]),
    line("resource.owner.*", NO, &[]),
    line("resource.risk_rule.*", NO, &[]),
    line("entitlement.migration.start", NO, &[]),
    line("entitlement.migration.fail", NO, &[]),
];

/// Facts 9.6: roles, tokens, the org.
const ORG: &[Line] = &[
    line("user.account.privilege.grant", PR, &[VISIBILITY]),
    line("user.account.privilege.revoke", PR, &[VISIBILITY]),
    line("user.privileged_account.privilege.grant", PR, &[]),
    line("user.privileged_account.privilege.revoke", PR, &[]),
    line("app.oauth2.client.privilege.grant", PR, &[VISIBILITY]),
    line("app.oauth2.client.privilege.revoke", PR, &[VISIBILITY]),
    line("iam.role.create", PR, &[]),
    line("iam.role.update", PR, &[]),
    line("iam.role.delete", PR, &[]),
    line("iam.role.permissions.add", PR, &[VISIBILITY]),
    line("iam.role.permissions.delete", PR, &[VISIBILITY]),
    line("iam.role.permission.conditions.add", PR, &[VISIBILITY]),
    line("iam.role.permission.conditions.delete", PR, &[VISIBILITY]),
    line("iam.resourceset.create", PR, &[VISIBILITY]),
    line("iam.resourceset.update", PR, &[VISIBILITY]),
    line("iam.resourceset.delete", PR, &[VISIBILITY]),
    line("iam.resourceset.bindings.add", PR, &[VISIBILITY]),
    line("iam.resourceset.bindings.delete", PR, &[VISIBILITY]),
    line("iam.resourceset.resources.add", PR, &[VISIBILITY]),
    line("iam.resourceset.resources.update", PR, &[VISIBILITY]),
    line("iam.resourceset.resources.delete", PR, &[VISIBILITY]),
    line("system.api_token.create", TK, &[]),
    line("system.api_token.revoke", TK, &[]),
    line("system.api_token.enable", TK, &[]),
    line("system.api_token.update", TK, &[]),
    line("system.api_token.request_outside_allowed_range", TK, &[]),
    line("workflows.user.role.user.add", PR, &[]),
    line("workflows.user.role.user.remove", PR, &[]),
    line("workflows.user.role.group.add", PR, &[]),
    line("workflows.user.role.group.remove", PR, &[]),
    line("directory.user_profile.update", BK, &[USERS_DELTA]),
    line("directory.user_profile.bootstrap", BK, &[USERS_DELTA]),
    line("directory.non_default_user_profile.create", BK, &[USERS_DELTA]),
    line("directory.linked_object.*", BK, &[USERS_DELTA]),
    line("directory.realm.assignment.execution_completed", BK, &[USERS_DELTA]),
    line("directory.realm.lifecycle.*", NO, &[]),
    line("directory.realm.assignment.create", NO, &[]),
    line("directory.realm.assignment.update", NO, &[]),
    line("directory.realm.assignment.delete", NO, &[]),
    line("directory.realm.assignment.execution_started", NO, &[]),
    line("support.org.update", BK, &[]),
    line("system.feature.enable", BK, &[]),
    line("system.feature.disable", BK, &[]),
    line("system.feature.ea_auto_enroll", BK, &[]),
    line("support.org.view", NO, &[]),
    line("system.dr.failover", BK, &[EVERYTHING]),
    line("system.dr.failback", BK, &[EVERYTHING]),
    line("iam.policy.configuration.update", NO, &[]),
    line("iam.policy.assignee_configuration.update", NO, &[]),
    line("iam.role.subscriptions.update", NO, &[]),
    line("system.log_stream.*", NO, &[]),
    line("system.hook.*", NO, &[]),
    line("event_hook.*", NO, &[]),
    line("inline_hook.*", NO, &[]),
    line("zone.*", NO, &[]),
    line("policy.*", NO, &[]),
    line("security.*", NO, &[]),
    line("device.*", NO, &[]),
    line("pam.*", NO, &[]),
    line("mim.*", NO, &[]),
    line("pki.*", NO, &[]),
    line("system.email.*", NO, &[]),
    line("system.sms.*", NO, &[]),
    line("system.voice.*", NO, &[]),
    line("system.brand.*", NO, &[]),
    line("system.idp.*", NO, &[]),
    line("system.mfa.*", NO, &[]),
    line("system.captcha.*", NO, &[]),
    line("oauth2.*", NO, &[]),
    line("app.oauth2.as.*", NO, &[]),
    line("app.oauth2.token.*", NO, &[]),
    line("app.oauth2.authorize.*", NO, &[]),
    line("app.oauth2.signon.*", NO, &[]),
    line("resource_servers.*", NO, &[]),
    line("workload_principal.*", NO, &[]),
    line("account.org.*", NO, &[]),
    line("account.org_group.*", NO, &[]),
    line("account.aerial*", NO, &[]),
    line("analytics.*", NO, &[]),
    line("certification.*", NO, &[]),
    line("core.el.*", NO, &[]),
];

/// Facts 9.7 and recordings: what else the filter lets through, or comes often without it.
const LIMITS: &[Line] = &[
    line("system.org.rate_limit.*", NO, &[]),
    line("system.operation.rate_limit.*", NO, &[]),
    line("core.concurrency.*", NO, &[]),
    line("system.agent.*", NO, &[]),
];

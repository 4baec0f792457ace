//! Facts 9.1 to 9.6 as they stand there, line by line: types in braces, the usual targets, what is to be read.

const USER: &str = "user(00u1) now";
const USER_LATER: &str = "user(00u1) later";
const USER_APPS_LATER: &str = "user_apps(00u1) later";
const USER_AND_APPS_LATER: &str = "user(00u1) now; user_apps(00u1) later";
const USER_AND_PAIR: &str = "user(00u1) now; app_user(0oa1,00u1) now";
const USERS_DELTA: &str = "users_delta quiet";
const PAIR: &str = "app_user(0oa1,00u1) now";
const PAIR_LATER: &str = "app_user(0oa1,00u1) later";
const GROUP: &str = "group(00g1) now";
const SOURCE_GROUPS: &str = "source_groups(0oa1) quiet";
const GROUPS_DELTA: &str = "groups_delta quiet";
const MEMBERS: &str = "list(group_members(00g1)) quiet";
const MEMBERS_LATER: &str = "list(group_members(00g1)) later";
const APP: &str = "app(0oa1) now";
const APP_USERS: &str = "list(app_users(0oa1)) quiet";
const APP_AND_USERS: &str = "app(0oa1) now; list(app_users(0oa1)) quiet";
const APP_LISTS: &str = "list(app_users(0oa1)) quiet; list(app_groups(0oa1)) now";
const IMPORT: &str = "list(app_users(0oa1)) quiet; users_delta quiet";

/// Part of the facts, types, targets in the short form, effects as they are shown.
#[rustfmt::skip]
pub(super) const ROWS: &[(&str, &str, &str, &str)] = &[
    ("9.1",
        "user.lifecycle.{create,suspend,unsuspend} \
         user.account.{update_primary_email,update_secondary_email,update_user_type} \
         user.privileged_account.update_profile user.realm.update scheduled_action.user_suspension.completed",
        "U1", USER),
    ("9.1",
        "user.lifecycle.activate",
        "U1", USER),
    ("9.1",
        "user.lifecycle.reactivate",
        "U1", USER_AND_APPS_LATER),
    ("9.1",
        "user.account.{lock,lock.limit,unlock,unlock_by_admin,reset_password,expire_password,update_password} \
         account.user.classify",
        "U1", USER),
    ("9.1",
        "user.lifecycle.deactivate",
        "U1", USER_AND_APPS_LATER),
    ("9.1",
        "user.lifecycle.delete.initiated",
        "U1", USER_LATER),
    ("9.1",
        "user.lifecycle.delete.completed",
        "U1", USER),
    ("9.1",
        "user.lifecycle.password_mass_expiry",
        "", USERS_DELTA),
    ("9.1",
        "user.account.update_profile",
        "U1", USER),
    ("9.1",
        "system.agent.{ldap.update_user,ldap.realtimesync,ad.realtimesync,ad.update_user}",
        "U1", USER_LATER),
    ("9.1",
        "system.agent.{ldap.create_user_JIT,ad.import_user}",
        "", USERS_DELTA),
    ("9.1",
        "user.lifecycle.jit.error.read_only \
         user.account.{unlock_failure,unlock_token,use_token,preference_update,subscriptions.update,\
         report_suspicious_activity_by_enduser,access_support_user_app} \
         scheduled_action.user_suspension.{scheduled,updated,canceled} user.import.password \
         user.{mfa,session,authentication,credential,risk,device_session,identity_verification,\
         registration}.* self_service.{enabled,disabled} app.request_new.notify",
        "U1 P1 A1 G1", ""),
    ("9.2",
        "system.import.user.{create,update,update_user_lifecycle_from_master,match} \
         system.import.import_profile app.user_management.push_new_user_success",
        "U1 P1 A1", USER_AND_PAIR),
    ("9.2",
        "system.import.user.{suspend,unsuspend,unsuspend_after_confirm} \
         system.identity_sources.user.{create,update} app.ad.api.user_import.account_locked",
        "U1", USER),
    ("9.2",
        "system.import.user.delete system.identity_sources.user.delete",
        "U1 P1 A1", USER_AND_PAIR),
    ("9.2",
        "system.import.user_match.{confirm,update,unignore} system.import.import_provisioning_info \
         system.import.clear.unconfirmed.users.summary",
        "P1 A1 U1", PAIR),
    ("9.2",
        "system.import.group.{create,update}",
        "I1", GROUP),
    ("9.2",
        "system.import.group.delete",
        "I1", GROUP),
    ("9.2",
        "system.import.{group_membership,membership_processing,group}.complete",
        "A1", SOURCE_GROUPS),
    ("9.2",
        "system.import.{complete,complete_batch,user.complete,user_csv.complete,user_matching.complete,\
         object_creation.complete,implicit_deletion.complete}",
        "A1", IMPORT),
    ("9.2",
        "system.import.{session.triggered,roadblock.resume,roadblock.reschedule_and_resume}",
        "U1 P1 A1 G1", ""),
    ("9.2",
        "system.identity_sources.group.{create,update}",
        "G1", GROUP),
    ("9.2",
        "system.identity_sources.group.delete",
        "G1", GROUP),
    ("9.2",
        "system.identity_sources.group.user.{assign,revoke}",
        "U1 I1", MEMBERS),
    ("9.2",
        "system.identity_sources.{bulk_upsert,bulk_delete}",
        "A1", IMPORT),
    ("9.2",
        "system.identity_sources.{bulk_group_upsert,bulk_group_delete,bulk_group_membership_upsert,\
         bulk_group_membership_delete}",
        "A1", SOURCE_GROUPS),
    ("9.2",
        "app.realtimesync.import.details.{add_user,update_user}",
        "U1 P1 A1", USER_AND_PAIR),
    ("9.2",
        "app.realtimesync.import.details.delete_user",
        "U1 P1 A1", USER_AND_PAIR),
    ("9.2",
        "app.user_management.user_group_import.upsert_success",
        "I1", GROUP),
    ("9.2",
        "app.user_management.user_group_import.delete_success",
        "I1", GROUP),
    ("9.2",
        "app.user_management",
        "U1 I1", MEMBERS),
    ("9.2",
        "directory.external.group.membership.{add,remove}",
        "U1 G1", MEMBERS_LATER),
    ("9.2",
        "system.import.start system.import.*.start \
         system.import.{download.*,schedule,session.created,session.cancelled,session.expired,roadblock,\
         roadblock.updated,full_import_required,incremental_converted_to_full,custom_object.*,entitlement.*} \
         app.realtimesync.import_failed app.ad.api.user_import.warn.* \
         app.ldap.import.tracking_attribute_missing system.csv.import_user \
         system.identity_sources.bulk_device_* \
         app.user_management.{user_group_import.create_failure,user_group_import.update_failure,\
         user_group_import.upsert_fail,update_from_master_failed,import.csv.line.error,grouppush.*}",
        "U1 P1 A1 G1", ""),
    ("9.3",
        "group.user_membership.add",
        "U1 G1", "+00g1/00u1"),
    ("9.3",
        "group.user_membership.remove",
        "U1 G1", "-00g1/00u1"),
    ("9.3",
        "group.user_membership.rule.trigger",
        "", GROUPS_DELTA),
    ("9.3",
        "group.user_membership.rule.{evaluation,add_exclusion}",
        "U1 P1 A1 G1", ""),
    ("9.3",
        "group.user_membership.rule.{deactivated,invalidate,error}",
        "", GROUPS_DELTA),
    ("9.3",
        "group.lifecycle.create group.profile.update",
        "G1", GROUP),
    ("9.3",
        "group.lifecycle.delete",
        "G1", GROUP),
    ("9.3",
        "group.application_assignment.add",
        "G1 A1", "app_group(0oa1,00g1) now; list(app_users(0oa1)) quiet; list(app_groups(0oa1)) now"),
    ("9.3",
        "group.application_assignment.{remove,update}",
        "G1 A1", APP_LISTS),
    ("9.3",
        "group.application_assignment.skip_assignment_reconcile",
        "A1", APP_USERS),
    ("9.3",
        "group.privilege.{grant,revoke}",
        "U1 P1 A1 G1", ""),
    ("9.4",
        "application.lifecycle.{create,update}",
        "A1", APP),
    ("9.4",
        "application.lifecycle.activate",
        "A1", APP_AND_USERS),
    ("9.4",
        "application.lifecycle.deactivate",
        "A1", APP),
    ("9.4",
        "application.lifecycle.delete",
        "A1", APP),
    ("9.4",
        "application.configuration.{update,import_schema,update_api_credentials_for_pass_change,\
         enable_delauth_outbound,disable_delauth_outbound}",
        "A1", APP),
    ("9.4",
        "application.configuration.{enable_fed_broker_mode,disable_fed_broker_mode}",
        "A1", APP_AND_USERS),
    ("9.4",
        "application.provision.field_mapping_rule.change directory.mapping.update",
        "A1", APP_USERS),
    ("9.4",
        "directory.app_user_profile.{update,bootstrap}",
        "A1", APP_USERS),
    ("9.4",
        "app.oauth2.client.lifecycle.{create,update,activate,deactivate}",
        "C1", APP),
    ("9.4",
        "app.oauth2.client.lifecycle.delete",
        "C1", APP),
    ("9.4",
        "integration.api_service.lifecycle.{authorize,revoke}",
        "C1", "list(apps) now"),
    ("9.4",
        "application.configuration.{detect_error,read_client_secret,reset_logo,update_logo,\
         update_rate_limits} application.appuser.mapping.invalid.expression \
         application.{policy,registration_policy,integration}.* application.cache.invalidate app.keys.* \
         app.app_instance.csr.* app.{cross_app_access,interclient_mapping,saml,office365,rum}.*",
        "U1 P1 A1 G1", ""),
    ("9.5",
        "application.user_membership.{add,remove,update,change_username,approve,provision,revoke,deprovision,\
         restore} master_application.user_membership.add",
        "P1 A1 U1", PAIR),
    ("9.5",
        "application.provision.user.{push,push_profile,sync,import,import_profile,activate,deactivate,\
         reactivate,deprovision,delete,verify_exists}",
        "P1 A1 U1", PAIR),
    ("9.5",
        "application.provision.user.{delete.schedule,remove_entitlements,remove_entitlements.schedule}",
        "U1 A1", PAIR_LATER),
    ("9.5",
        "application.account.{detect,match.update,decision.confirm,decision.ignore,decision.revoke,remove}",
        "P1 A1 U1", PAIR),
    ("9.5",
        "app.app_instance.provision_sync_job.{completed,failed}",
        "A1", APP_USERS),
    ("9.5",
        "app.app_instance.provision_sync_job.started \
         application.provision.{group,group_membership,group_push}.*",
        "U1 P1 A1 G1", ""),
    ("9.5",
        "application.provision.group_push.{delete_appgroup,mapping.and.groups.deleted.rule.deleted}",
        "I1", GROUP),
    ("9.5",
        "application.provision.group_push.mapping.app.group.renamed",
        "I1", GROUP),
    ("9.5",
        "app.access_request.grant access.request.resolve certification.campaign.item.remediate",
        "U1 A1", PAIR_LATER),
    ("9.5",
        "access.request.*",
        "U1 P1 A1 G1", ""),
    ("9.5",
        "resource.collection.{assign,unassign}",
        "U1", USER_APPS_LATER),
    ("9.5",
        "resource.user_entitlements.{update,drift.revert}",
        "P1 A1 U1", PAIR),
    ("9.5",
        "entitlement.migration.complete resource.governance_engine.{enable,disable}",
        "A1", APP_USERS),
    ("9.5",
        "application.user_membership.{change_password,restore_password,show_password} \
         application.provision.user.{password,push_password,push_okta_password} \
         application.provision.integration.call_api \
         app.access_request.{request,approver.*,deny,expire,delete} app.generic.unauth_app_access_attempt \
         resource.user_entitlements.drift.detect resource.entitlement* resource.{label,owner,risk_rule}.* \
         entitlement.migration.{start,fail}",
        "U1 P1 A1 G1", ""),
    ("9.6",
        "user.account.privilege.{grant,revoke}",
        "U1 A1 G1 R1", "visibility"),
    ("9.6",
        "user.privileged_account.privilege.{grant,revoke}",
        "U1 P1 A1 G1", ""),
    ("9.6",
        "app.oauth2.client.privilege.{grant,revoke}",
        "U1 A1 G1 R1", "visibility"),
    ("9.6",
        "iam.role.{create,update,delete}",
        "U1 P1 A1 G1", ""),
    ("9.6",
        "iam.role.{permissions.add,permissions.delete,permission.conditions.add,permission.conditions.delete}",
        "U1 A1 G1 R1", "visibility"),
    ("9.6",
        "iam.resourceset.{create,update,delete,bindings.add,bindings.delete,resources.add,resources.update,\
         resources.delete}",
        "U1 A1 G1 R1", "visibility"),
    ("9.6",
        "system.api_token.{create,revoke,enable,update,request_outside_allowed_range}",
        "U1 P1 A1 G1", ""),
    ("9.6",
        "workflows.user.role.{user,group}.{add,remove}",
        "U1 P1 A1 G1", ""),
    ("9.6",
        "directory.user_profile.{update,bootstrap} directory.non_default_user_profile.create \
         directory.linked_object.*",
        "", USERS_DELTA),
    ("9.6",
        "directory.realm.assignment.execution_completed",
        "", USERS_DELTA),
    ("9.6",
        "directory.realm.lifecycle.* directory.realm.assignment.{create,update,delete,execution_started}",
        "U1 P1 A1 G1", ""),
    ("9.6",
        "support.org.update system.feature.{enable,disable,ea_auto_enroll}",
        "U1 P1 A1 G1", ""),
    ("9.6",
        "support.org.view",
        "U1 P1 A1 G1", ""),
    ("9.6",
        "system.dr.{failover,failback}",
        "", "everything now"),
    ("9.6",
        "iam.policy.{configuration.update,assignee_configuration.update} iam.role.subscriptions.update \
         system.{log_stream,hook}.* {event_hook,inline_hook,zone,policy,security,device,pam,mim,pki}.* \
         system.{email,sms,voice,brand,idp,mfa,captcha}.* oauth2.* app.oauth2.{as,token,authorize,signon}.* \
         resource_servers.* workload_principal.* account.{org,org_group}.* account.aerial* analytics.* \
         certification.* core.el.*",
        "U1 P1 A1 G1", ""),
    ("9.7",
        "system.{org,operation}.rate_limit.* core.concurrency.* system.agent.*",
        "U1 P1 A1 G1", ""),
];

/// The types of a row: `a.{b,c} d` is `a.b`, `a.c` and `d`.
pub(super) fn expand(types: &str) -> Vec<String> {
    types.split_whitespace().flat_map(expand_one).collect()
}

fn expand_one(word: &str) -> Vec<String> {
    let Some((start, rest)) = word.split_once('{') else { return vec![word.to_owned()] };
    let (choices, end) = rest.split_once('}').unwrap();
    choices.split(',').flat_map(|choice| expand_one(&format!("{start}{choice}{end}"))).collect()
}

#[test]
fn braces_expand() {
    assert_eq!(expand("a.{b,c.d}.{x,y} e.*"), ["a.b.x", "a.b.y", "a.c.d.x", "a.c.d.y", "e.*"]);
}

//! The paged look-ups.
//!
//! Entry points: one function per rpc. Each asks for its gaps, finds its subject, and walks one list.
//!
//! Invariant: the rows are empty unless the subject is `FOUND`.

use std::collections::HashMap;

use okta_idmap_proto::v1;

use super::apps::AppQuery;
use super::ask::Ask;
use super::door;
use super::errors::Failure;
use super::gaps::Wide;
use super::listing::{Listing, fitting};
use super::page::Paged;
use super::rows::{self, Shower, group_ref, unseen_user_ref, user_ref};
use super::subjects::{UserQuery, app_subject, find_app, find_group, find_user, group_subject, members_scope};
use super::withhold::Withholds as _;
use crate::core::ids::AppId;
use crate::core::model::{App, AppUser, Scope, User};
use crate::core::normalize::canonical_fold;

/// Whether a person has access through an account: user, app user and app all grant.
fn grants(ask: &Ask<'_>, user: Option<&User>, row: &AppUser, app: Option<&App>) -> bool {
    let policy = ask.policy();
    user.is_some_and(|user| policy.user_grants(&user.status))
        && policy.app_user_grants(&row.status)
        && app.is_some_and(|app| policy.app_grants(&app.status))
}

/// `Lookup.ListUserAccounts`.
pub(super) fn user_accounts(
    ask: &Ask<'_>,
    request: &v1::ListUserAccountsRequest,
) -> Result<v1::ListUserAccountsResponse, Failure> {
    let query = UserQuery::read(request.user.as_ref())?;
    let mut listing = Listing::begin(ask, Paged::UserAccounts, request)?;
    let shower = Shower::new(ask);
    let selected = find_user(ask, &query)?;
    let mut gaps = selected.gaps.clone();
    gaps.merge(ask.wide_gaps_of_user(Wide::Accounts)?);
    let mut response = v1::ListUserAccountsResponse {
        meta: Some(ask.meta(&gaps)),
        next_page_token: String::new(),
        user: Some(selected.to_proto(&shower)),
        accounts: Vec::new(),
    };
    let Some(user) = &selected.user else { return Ok(response) };
    listing.about(user.id.as_str())?;
    let apps: HashMap<&AppId, &App> = ask.apps()?.iter().map(|app| (&app.id, app)).collect();
    let show = |row: AppUser| {
        let app = apps.get(&row.app).copied();
        let is_shown = !ask.withholds_account(&row.app, &row.user)
            && (!request.granting_only || grants(ask, Some(user), &row, app));
        Ok(is_shown.then(|| shower.account(app, Some(user), &row)))
    };
    let build = |limit: usize| {
        let page = listing.collect(limit, |after, limit| ask.snapshot.accounts(&user.id, after, limit), show)?;
        let mut response = response.clone();
        response.next_page_token = listing.token(page.next);
        response.accounts = page.rows;
        Ok(response)
    };
    response = fitting(listing.limit, build)?;
    Ok(response)
}

/// `Lookup.ListUserGroups`.
pub(super) fn user_groups(
    ask: &Ask<'_>,
    request: &v1::ListUserGroupsRequest,
) -> Result<v1::ListUserGroupsResponse, Failure> {
    let query = UserQuery::read(request.user.as_ref())?;
    let mut listing = Listing::begin(ask, Paged::UserGroups, request)?;
    let shower = Shower::new(ask);
    let selected = find_user(ask, &query)?;
    let mut gaps = selected.gaps.clone();
    gaps.merge(ask.wide_gaps_of_user(Wide::Memberships)?);
    let response = v1::ListUserGroupsResponse {
        meta: Some(ask.meta(&gaps)),
        next_page_token: String::new(),
        user: Some(selected.to_proto(&shower)),
        groups: Vec::new(),
    };
    let Some(user) = &selected.user else { return Ok(response) };
    listing.about(user.id.as_str())?;
    fitting(listing.limit, |limit| {
        let page = listing.collect(
            limit,
            |after, limit| ask.snapshot.groups_of(&user.id, after, limit),
            |group| {
                if ask.withholds_member(&members_scope(&group), &user.id) || ask.withholds_group(&group.id) {
                    return Ok(None);
                }
                let membership_stale = shower.is_stale(user.id.as_str(), || members_scope(&group));
                Ok(Some(v1::UserGroup { group: Some(group_ref(&group)), membership_stale }))
            },
        )?;
        let mut response = response.clone();
        response.next_page_token = listing.token(page.next);
        response.groups = page.rows;
        Ok(response)
    })
}

/// `Lookup.ListApps`.
pub(super) fn apps(ask: &Ask<'_>, request: &v1::ListAppsRequest) -> Result<v1::ListAppsResponse, Failure> {
    let statuses: Vec<v1::AppStatus> = door::enumeration("statuses", &request.statuses)?;
    let name = door::text("name", &request.name)?;
    let label_contains = canonical_fold(door::text("label_contains", &request.label_contains)?);
    let listing = Listing::begin(ask, Paged::Apps, request)?;
    let shower = Shower::new(ask);
    let meta = ask.meta(&ask.gaps(&[Scope::Apps]));
    let is_wanted = |app: &App| {
        !ask.withholds_app(&app.id)
            && (statuses.is_empty() || statuses.contains(&rows::app_status(&app.status).0))
            && (name.is_empty() || *app.name == *name)
            && (label_contains.is_empty() || canonical_fold(&app.label).contains(&*label_contains))
    };
    fitting(listing.limit, |limit| {
        let page = listing.collect(
            limit,
            |after, limit| ask.snapshot.apps(after, limit),
            |app| Ok(is_wanted(&app).then(|| shower.app(&app))),
        )?;
        let next_page_token = listing.token(page.next);
        Ok(v1::ListAppsResponse { meta: Some(meta.clone()), next_page_token, apps: page.rows })
    })
}

/// `Lookup.ListAppUsers`.
pub(super) fn app_users(ask: &Ask<'_>, request: &v1::ListAppUsersRequest) -> Result<v1::ListAppUsersResponse, Failure> {
    let query = AppQuery::read("app", request.app.as_ref())?;
    let statuses: Vec<v1::AppUserStatus> = door::enumeration("statuses", &request.statuses)?;
    let mut listing = Listing::begin(ask, Paged::AppUsers, request)?;
    let shower = Shower::new(ask);
    let (outcome, app, mut gaps) = find_app(ask, &query)?;
    if let Some(app) = app {
        gaps.merge(ask.gaps(&[Scope::Users, Scope::AppUsers(app.id.clone())]));
    }
    let response = v1::ListAppUsersResponse {
        meta: Some(ask.meta(&gaps)),
        next_page_token: String::new(),
        app: Some(app_subject(outcome, app, &shower)),
        accounts: Vec::new(),
    };
    let Some(app) = app else { return Ok(response) };
    listing.about(app.id.as_str())?;
    fitting(listing.limit, |limit| {
        let mut gaps = gaps.clone();
        let page = listing.collect(
            limit,
            |after, limit| ask.snapshot.app_users(&app.id, after, limit),
            |row| {
                let is_status_wanted = statuses.is_empty() || statuses.contains(&rows::app_user_status(&row.status).0);
                if !is_status_wanted || ask.withholds_account(&row.app, &row.user) {
                    return Ok(None);
                }
                let user = ask.snapshot.user(&row.user)?;
                if request.granting_only && !grants(ask, user.as_ref(), &row, Some(app)) {
                    return Ok(None);
                }
                if user.is_none() {
                    gaps.add_unseen_user(&row.user);
                }
                Ok(Some(shower.account(Some(app), user.as_ref(), &row)))
            },
        )?;
        let mut response = response.clone();
        response.meta = Some(ask.meta(&gaps));
        response.next_page_token = listing.token(page.next);
        response.accounts = page.rows;
        Ok(response)
    })
}

/// `Lookup.ListGroups`.
pub(super) fn groups(ask: &Ask<'_>, request: &v1::ListGroupsRequest) -> Result<v1::ListGroupsResponse, Failure> {
    let name_contains = door::text("name_contains", &request.name_contains)?;
    let types: Vec<v1::GroupType> = door::enumeration("group_types", &request.group_types)?;
    let listing = Listing::begin(ask, Paged::Groups, request)?;
    let shower = Shower::new(ask);
    let meta = ask.meta(&ask.gaps(&[Scope::Groups]));
    fitting(listing.limit, |limit| {
        let page = listing.collect(
            limit,
            |after, limit| ask.snapshot.groups(after, limit),
            |group| {
                let is_wanted = !ask.withholds_group(&group.id)
                    && group.name.contains(name_contains)
                    && (types.is_empty() || types.contains(&rows::group_type(&group.group_type).0));
                Ok(is_wanted.then(|| shower.group(&group)))
            },
        )?;
        let next_page_token = listing.token(page.next);
        Ok(v1::ListGroupsResponse { meta: Some(meta.clone()), next_page_token, groups: page.rows })
    })
}

/// `Lookup.ListGroupMembers`.
pub(super) fn group_members(
    ask: &Ask<'_>,
    request: &v1::ListGroupMembersRequest,
) -> Result<v1::ListGroupMembersResponse, Failure> {
    let group_id = door::group_id("group_id", &request.group_id)?;
    let listing = Listing::begin(ask, Paged::GroupMembers, request)?;
    let shower = Shower::new(ask);
    let (outcome, group, mut gaps) = find_group(ask, &group_id)?;
    if let Some(group) = &group {
        gaps.merge(ask.gaps(&[Scope::Users, members_scope(group)]));
    }
    let response = v1::ListGroupMembersResponse {
        meta: Some(ask.meta(&gaps)),
        next_page_token: String::new(),
        group: Some(group_subject(outcome, group.as_ref(), &shower)),
        members: Vec::new(),
    };
    let Some(group) = group else { return Ok(response) };
    fitting(listing.limit, |limit| {
        let mut gaps = gaps.clone();
        let page = listing.collect(
            limit,
            |after, limit| ask.snapshot.members(&group.id, after, limit),
            |(id, user)| {
                if ask.withholds_member(&members_scope(&group), &id) {
                    return Ok(None);
                }
                if user.is_none() {
                    gaps.add_unseen_user(&id);
                }
                let membership_stale = shower.is_stale(id.as_str(), || members_scope(&group));
                let user = user.as_ref().map_or_else(|| unseen_user_ref(&id), user_ref);
                Ok(Some(v1::GroupMemberEntry { user: Some(user), membership_stale }))
            },
        )?;
        let mut response = response.clone();
        response.meta = Some(ask.meta(&gaps));
        response.next_page_token = listing.token(page.next);
        response.members = page.rows;
        Ok(response)
    })
}

/// `Lookup.ListAppGroups`.
pub(super) fn app_groups(
    ask: &Ask<'_>,
    request: &v1::ListAppGroupsRequest,
) -> Result<v1::ListAppGroupsResponse, Failure> {
    let query = AppQuery::read("app", request.app.as_ref())?;
    let mut listing = Listing::begin(ask, Paged::AppGroups, request)?;
    let shower = Shower::new(ask);
    let (outcome, app, mut gaps) = find_app(ask, &query)?;
    if let Some(app) = app {
        gaps.merge(ask.gaps(&[Scope::Groups, Scope::AppGroups(app.id.clone())]));
    }
    let response = v1::ListAppGroupsResponse {
        meta: Some(ask.meta(&gaps)),
        next_page_token: String::new(),
        app: Some(app_subject(outcome, app, &shower)),
        groups: Vec::new(),
    };
    let Some(app) = app else { return Ok(response) };
    listing.about(app.id.as_str())?;
    fitting(listing.limit, |limit| {
        let page = listing.collect(
            limit,
            |after, limit| ask.snapshot.app_groups(&app.id, after, limit),
            |row| {
                if ask.withholds_app_group(&row.app, &row.group) {
                    return Ok(None);
                }
                let group = ask.snapshot.group(&row.group)?;
                let unseen = || v1::GroupRef { id: row.group.as_str().to_owned(), ..v1::GroupRef::default() };
                let group = Some(group.as_ref().map_or_else(unseen, group_ref));
                Ok(Some(v1::AppGroupEntry { group, app_group: Some(shower.app_group(&row)) }))
            },
        )?;
        let mut response = response.clone();
        response.next_page_token = listing.token(page.next);
        response.groups = page.rows;
        Ok(response)
    })
}

//! App users, the mapping rows, and app-group assignments. Entry points: [`decode`], [`decode_app_group`].

use super::lenient::{Field, lenient_object};
use super::record::{Unusable, date, group_in_link, kept, required_id, required_word, word};
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::{AppGroup, AppUser, AppUserStatus, AssignmentScope};

lenient_object! {
    /// The wanted part of an app user (facts 5.1). The key with the stray quote stands in official examples (facts 13.8).
    AppUserBody<'a> {
        id: Field<'a> = "id",
        external_id: Field<'a> = "externalId",
        scope: Field<'a> = "scope",
        status: Field<'a> = "status",
        sync_state: Field<'a> = "syncState",
        created: Field<'a> = "created",
        last_updated: Field<'a> = "lastUpdated",
        status_changed: Field<'a> = "statusChanged",
        credentials: AppUserCredentials<'a> = "credentials" | "credentials\"",
        profile: AppUserProfile<'a> = "profile",
        links: AppUserLinks<'a> = "_links",
    }
}

lenient_object! {
    /// The login name in the app.
    AppUserCredentials<'a> { user_name: Field<'a> = "userName", }
}

lenient_object! {
    /// The allow-list of the app's profile: it may hold personal data and secrets.
    AppUserProfile<'a> { email: Field<'a> = "email", }
}

lenient_object! {
    /// The granting group.
    AppUserLinks<'a> { group: Link<'a> = "group", }
}

lenient_object! {
    /// A link.
    Link<'a> { href: Field<'a> = "href", }
}

lenient_object! {
    /// An app in a list with `expand=user/{id}`: of the app itself only the id is wanted (facts 1.3).
    UserAppBody<'a> { id: Field<'a> = "id", embedded: EmbeddedUser<'a> = "_embedded", }
}

lenient_object! {
    /// The app user of the user asked for; may be missing on any page (facts 0.1).
    EmbeddedUser<'a> { user: AppUserBody<'a> = "user", }
}

pub(super) fn decode(body: &AppUserBody<'_>, app: &AppId) -> Result<AppUser, Unusable> {
    let group = group_in_link(&body.links.group.href);
    let scope = match &*word("scope", &body.scope)? {
        // Only assignments through a group name one (facts 5.1).
        "" if group.is_some() => AssignmentScope::Group,
        scope => AssignmentScope::parse(scope),
    };
    Ok(AppUser {
        app: app.clone(),
        user: required_id("id", &body.id, UserId::new)?,
        user_name: kept("credentials.userName", &body.credentials.user_name)?,
        external_id: kept("externalId", &body.external_id)?,
        email: kept("profile.email", &body.profile.email)?,
        status: AppUserStatus::parse(&required_word("status", &body.status)?),
        via_group: group.filter(|_| scope == AssignmentScope::Group),
        scope,
        sync_state: kept("syncState", &body.sync_state)?,
        created: date(&body.created),
        last_updated: date(&body.last_updated),
        status_changed: date(&body.status_changed),
    })
}

lenient_object! {
    /// The wanted part of an app-group assignment (facts 5.3); its id is the group's.
    AppGroupBody<'a> { id: Field<'a> = "id", priority: Field<'a> = "priority", last_updated: Field<'a> = "lastUpdated", }
}

pub(super) fn decode_app_group(body: &AppGroupBody<'_>, app: &AppId) -> Result<AppGroup, Unusable> {
    Ok(AppGroup {
        app: app.clone(),
        group: required_id("id", &body.id, GroupId::new)?,
        priority: body.priority.whole(),
        last_updated: date(&body.last_updated),
    })
}

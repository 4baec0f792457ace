//! Users, in full and as the members of a group. Entry points: [`decode`], [`decode_member`].

use super::lenient::{Field, lenient_object};
use super::record::{Unusable, date, kept, required_id, required_word};
use crate::core::ids::{GroupId, UserId};
use crate::core::model::{GroupMember, User, UserStatus};

lenient_object! {
    /// The wanted part of a user (facts 2.1).
    UserBody<'a> {
        id: Field<'a> = "id",
        status: Field<'a> = "status",
        created: Field<'a> = "created",
        last_updated: Field<'a> = "lastUpdated",
        status_changed: Field<'a> = "statusChanged",
        profile: UserProfile<'a> = "profile",
    }
}

lenient_object! {
    /// The allow-list of profile attributes.
    UserProfile<'a> {
        login: Field<'a> = "login",
        email: Field<'a> = "email",
        second_email: Field<'a> = "secondEmail",
        first_name: Field<'a> = "firstName",
        last_name: Field<'a> = "lastName",
        display_name: Field<'a> = "displayName",
    }
}

pub(super) fn decode(body: &UserBody<'_>) -> Result<User, Unusable> {
    let profile = &body.profile;
    Ok(User {
        id: required_id("id", &body.id, UserId::new)?,
        status: UserStatus::parse(&required_word("status", &body.status)?),
        login: kept("profile.login", &profile.login)?,
        email: kept("profile.email", &profile.email)?,
        second_email: kept("profile.secondEmail", &profile.second_email)?,
        first_name: kept("profile.firstName", &profile.first_name)?,
        last_name: kept("profile.lastName", &profile.last_name)?,
        display_name: kept("profile.displayName", &profile.display_name)?,
        created: date(&body.created),
        last_updated: date(&body.last_updated),
        status_changed: date(&body.status_changed),
    })
}

lenient_object! {
    /// Of a group's member, which Okta sends as a whole user, only the id is of interest.
    MemberBody<'a> { id: Field<'a> = "id", }
}

pub(super) fn decode_member(body: &MemberBody<'_>, group: &GroupId) -> Result<GroupMember, Unusable> {
    Ok(GroupMember { group: group.clone(), user: required_id("id", &body.id, UserId::new)? })
}

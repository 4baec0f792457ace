//! What can be read: the lists and the single objects, with path, query, page size and scope of each.
//!
//! Entry points: [`Resource`], [`ObjectPath`]. Adding a list = one variant here and one line in `wire::decode_page`.

use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::Scope;
use crate::core::rate::Bucket;

/// A list of the management API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// All users, the deactivated ones included, in one walk of the search index (facts 2.2).
    Users,
    /// All users but the deactivated ones, from the consistent source.
    UsersPlain,
    /// The deactivated users: what [`Resource::UsersPlain`] leaves out.
    UsersDeprovisioned,
    /// All groups, with member and app counts and the source app of imported ones.
    Groups,
    /// The members of a group.
    GroupMembers(GroupId),
    /// All apps, the inactive ones included (facts 15.15).
    Apps,
    /// The app users of an app.
    AppUsers(AppId),
    /// The groups assigned to an app.
    AppGroups(AppId),
}

impl Resource {
    /// Path of the list.
    pub fn path(&self) -> String {
        match self {
            Resource::Users | Resource::UsersPlain | Resource::UsersDeprovisioned => "/api/v1/users".to_owned(),
            Resource::Groups => "/api/v1/groups".to_owned(),
            Resource::GroupMembers(group) => format!("/api/v1/groups/{group}/users"),
            Resource::Apps => "/api/v1/apps".to_owned(),
            Resource::AppUsers(app) => format!("/api/v1/apps/{app}/users"),
            Resource::AppGroups(app) => format!("/api/v1/apps/{app}/groups"),
        }
    }

    /// Path and query of the first page of `limit` objects, brought within [`Resource::limit_range`].
    pub fn first_page(&self, limit: u32) -> String {
        let limit = limit.clamp(*self.limit_range().start(), *self.limit_range().end());
        let selection = match self {
            Resource::Users => "search=status%20pr&",
            Resource::UsersDeprovisioned => "filter=status%20eq%20%22DEPROVISIONED%22&",
            Resource::Groups => "expand=stats,app&",
            _ => "",
        };
        format!("{}?{selection}limit={limit}", self.path())
    }

    /// Smallest and largest page (facts 1.1). The largest is also the one to begin with, except for members, see
    /// [`Resource::limit_default`].
    pub const fn limit_range(&self) -> std::ops::RangeInclusive<u32> {
        match self {
            Resource::Users | Resource::UsersPlain | Resource::UsersDeprovisioned => 1..=200,
            Resource::Groups | Resource::Apps => 1..=200,
            Resource::GroupMembers(_) => 1..=1000,
            Resource::AppUsers(_) => 1..=500,
            // Smaller values are invalid.
            Resource::AppGroups(_) => 20..=200,
        }
    }

    /// Page size to begin with: the largest, but 200 for members, which Okta recommends since larger pages time out on
    /// huge groups (facts 3).
    pub const fn limit_default(&self) -> u32 {
        match self {
            Resource::GroupMembers(_) => 200,
            _ => *self.limit_range().end(),
        }
    }

    /// The rate-limit bucket that its pages count in.
    pub fn bucket(&self) -> Bucket {
        Bucket::of_path(&self.path())
    }

    /// The collection that the list shows.
    pub fn scope(&self) -> Scope {
        match self {
            Resource::Users | Resource::UsersPlain | Resource::UsersDeprovisioned => Scope::Users,
            Resource::Groups => Scope::Groups,
            Resource::GroupMembers(group) => Scope::GroupMembers(group.clone()),
            Resource::Apps => Scope::Apps,
            Resource::AppUsers(app) => Scope::AppUsers(app.clone()),
            Resource::AppGroups(app) => Scope::AppGroups(app.clone()),
        }
    }

    /// `Content-Type` of the request. On lists of users it asks for smaller and faster answers, which works only with all
    /// three values (facts 1.3).
    pub const fn content_type(&self) -> &'static str {
        match self {
            Resource::Users | Resource::UsersPlain | Resource::UsersDeprovisioned => {
                r#"application/json; okta-response="omitCredentials,omitCredentialsLinks,omitTransitioningToStatus""#
            }
            _ => CONTENT_TYPE_JSON,
        }
    }
}

/// Sent on every call, on GET too (facts 0).
pub const CONTENT_TYPE_JSON: &str = "application/json";

/// An object that is read by its id: the authoritative read (facts 2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObjectPath {
    /// A user.
    User(UserId),
    /// A group.
    Group(GroupId),
    /// An app.
    App(AppId),
    /// The assignment of a user to an app.
    AppUser(AppId, UserId),
    /// The assignment of a group to an app.
    AppGroup(AppId, GroupId),
}

impl ObjectPath {
    /// Path of the object.
    pub fn path(&self) -> String {
        match self {
            // The path takes logins too, and `me`; that the answer has this very id is checked after decoding.
            ObjectPath::User(user) => format!("/api/v1/users/{user}"),
            ObjectPath::Group(group) => format!("/api/v1/groups/{group}"),
            ObjectPath::App(app) => format!("/api/v1/apps/{app}"),
            ObjectPath::AppUser(app, user) => format!("/api/v1/apps/{app}/users/{user}"),
            ObjectPath::AppGroup(app, group) => format!("/api/v1/apps/{app}/groups/{group}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_pages() {
        #[track_caller]
        fn check(resource: Resource, limit: u32, expected: &str, bucket: Bucket) {
            assert_eq!(resource.first_page(limit), expected);
            assert_eq!(resource.bucket(), bucket);
            assert!(resource.limit_range().contains(&resource.limit_default()));
        }
        let app = AppId::new("0oa1").unwrap();
        let group = GroupId::new("00g1").unwrap();
        check(Resource::Users, 999, "/api/v1/users?search=status%20pr&limit=200", Bucket::UsersList);
        check(Resource::UsersPlain, 0, "/api/v1/users?limit=1", Bucket::UsersList);
        check(
            Resource::UsersDeprovisioned,
            50,
            "/api/v1/users?filter=status%20eq%20%22DEPROVISIONED%22&limit=50",
            Bucket::UsersList,
        );
        check(Resource::Groups, 200, "/api/v1/groups?expand=stats,app&limit=200", Bucket::GroupsList);
        check(Resource::GroupMembers(group), 1000, "/api/v1/groups/00g1/users?limit=1000", Bucket::GroupsList);
        check(Resource::Apps, 200, "/api/v1/apps?limit=200", Bucket::Apps);
        check(Resource::AppUsers(app.clone()), 500, "/api/v1/apps/0oa1/users?limit=500", Bucket::Apps);
        check(Resource::AppGroups(app), 1, "/api/v1/apps/0oa1/groups?limit=20", Bucket::Apps);
    }
}

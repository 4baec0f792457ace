//! What can be read: the lists and the single objects, with path, query, page size and scope of each.
//!
//! Entry points: [`Resource`], [`ObjectPath`]. Adding a list = one variant here and one line in `wire::decode_page`.

use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::Scope;
use crate::core::rate::Bucket;

/// Most users that [`Resource::UsersByIds`] names: over-complex search expressions are refused at a bound that is not
/// documented; 20 to 50 ids are known to work (facts 1.3).
pub const USERS_BY_IDS_MAX: usize = 50;

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
    /// The users of any status whose profile or status changed after a time by Okta's clock. Deletions do not show, and
    /// the index lags: ask with an overlap (facts 1.4).
    UsersChanged {
        /// Changes after this moment.
        since: Timestamp,
    },
    /// These users, 1 to [`USERS_BY_IDS_MAX`], from the search index, which lags (facts 2.2): whoever is absent has to be
    /// asked for by id before anything is concluded.
    UsersByIds(Vec<UserId>),
    /// The groups of a user, `Everyone` included (facts 1.1). The rows are groups, without counts.
    UserGroups(UserId),
    /// The groups whose profile or members changed after a time by Okta's clock. Deletions do not show, and changes of
    /// members by imports were missing at times (facts 3).
    GroupsChanged {
        /// Changes after this moment.
        since: Timestamp,
    },
    /// The groups that were imported from an app (facts 3).
    GroupsOfApp(AppId),
    /// The groups that Okta itself makes, `Everyone` among them (facts 3).
    GroupsBuiltIn,
    /// The apps of a user, each with the user's app user embedded: all accounts of one user in one walk (facts 1.3). It has
    /// no rows; what it shows is `Page::user_apps`.
    UserApps(UserId),
}

impl Resource {
    /// Path of the list.
    pub fn path(&self) -> String {
        match self {
            Resource::Users
            | Resource::UsersPlain
            | Resource::UsersDeprovisioned
            | Resource::UsersChanged { .. }
            | Resource::UsersByIds(_) => "/api/v1/users".to_owned(),
            Resource::Groups | Resource::GroupsChanged { .. } | Resource::GroupsOfApp(_) | Resource::GroupsBuiltIn => {
                "/api/v1/groups".to_owned()
            }
            Resource::GroupMembers(group) => format!("/api/v1/groups/{group}/users"),
            Resource::UserGroups(user) => format!("/api/v1/users/{user}/groups"),
            Resource::Apps | Resource::UserApps(_) => "/api/v1/apps".to_owned(),
            Resource::AppUsers(app) => format!("/api/v1/apps/{app}/users"),
            Resource::AppGroups(app) => format!("/api/v1/apps/{app}/groups"),
        }
    }

    /// Path and query of the first page of `limit` objects, brought within [`Resource::limit_range`].
    pub fn first_page(&self, limit: u32) -> String {
        let limit = limit.clamp(*self.limit_range().start(), *self.limit_range().end());
        let selection = match self {
            Resource::Users => query("search", "status pr"),
            Resource::UsersDeprovisioned => query("filter", r#"status eq "DEPROVISIONED""#),
            Resource::UsersChanged { since } => query("search", &format!(r#"lastUpdated gt "{}""#, since.to_iso())),
            Resource::UsersByIds(users) => {
                let terms: Vec<String> = users.iter().map(|user| format!(r#"id eq "{user}""#)).collect();
                query("search", &terms.join(" or "))
            }
            Resource::Groups => EXPAND_GROUPS.to_owned(),
            Resource::GroupsChanged { since } => {
                let since = since.to_iso();
                let changed = format!(r#"lastUpdated gt "{since}" or lastMembershipUpdated gt "{since}""#);
                query("filter", &changed) + EXPAND_GROUPS
            }
            Resource::GroupsOfApp(app) => query("search", &format!(r#"source.id eq "{app}""#)) + EXPAND_GROUPS,
            Resource::GroupsBuiltIn => query("filter", r#"type eq "BUILT_IN""#) + EXPAND_GROUPS,
            // Both ids must be equal (facts 1.3).
            Resource::UserApps(user) => {
                query("filter", &format!(r#"user.id eq "{user}""#)) + &format!("expand=user/{user}&")
            }
            Resource::UsersPlain
            | Resource::GroupMembers(_)
            | Resource::UserGroups(_)
            | Resource::Apps
            | Resource::AppUsers(_)
            | Resource::AppGroups(_) => String::new(),
        };
        format!("{}?{selection}limit={limit}", self.path())
    }

    /// Smallest and largest page (facts 1.1). The largest is also the one to begin with, except for members, see
    /// [`Resource::limit_default`].
    pub const fn limit_range(&self) -> std::ops::RangeInclusive<u32> {
        match self {
            Resource::GroupMembers(_) => 1..=1000,
            Resource::AppUsers(_) => 1..=500,
            // Smaller values are invalid.
            Resource::AppGroups(_) => 20..=200,
            Resource::Users
            | Resource::UsersPlain
            | Resource::UsersDeprovisioned
            | Resource::UsersChanged { .. }
            | Resource::UsersByIds(_)
            | Resource::UserGroups(_)
            | Resource::Groups
            | Resource::GroupsChanged { .. }
            | Resource::GroupsOfApp(_)
            | Resource::GroupsBuiltIn
            | Resource::Apps
            | Resource::UserApps(_) => 1..=200,
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

    /// The collection that the list shows, or a part of: the one that a refusal is about.
    pub fn scope(&self) -> Scope {
        match self {
            Resource::Users
            | Resource::UsersPlain
            | Resource::UsersDeprovisioned
            | Resource::UsersChanged { .. }
            | Resource::UsersByIds(_) => Scope::Users,
            Resource::Groups
            | Resource::UserGroups(_)
            | Resource::GroupsChanged { .. }
            | Resource::GroupsOfApp(_)
            | Resource::GroupsBuiltIn => Scope::Groups,
            Resource::GroupMembers(group) => Scope::GroupMembers(group.clone()),
            Resource::Apps | Resource::UserApps(_) => Scope::Apps,
            Resource::AppUsers(app) => Scope::AppUsers(app.clone()),
            Resource::AppGroups(app) => Scope::AppGroups(app.clone()),
        }
    }

    /// `Content-Type` of the request. On lists of users it asks for smaller and faster answers, which works only with all
    /// three values (facts 1.3).
    pub const fn content_type(&self) -> &'static str {
        match self {
            Resource::Users
            | Resource::UsersPlain
            | Resource::UsersDeprovisioned
            | Resource::UsersChanged { .. }
            | Resource::UsersByIds(_) => {
                r#"application/json; okta-response="omitCredentials,omitCredentialsLinks,omitTransitioningToStatus""#
            }
            _ => CONTENT_TYPE_JSON,
        }
    }
}

/// Counts and source app in the list itself (facts 1.3).
const EXPAND_GROUPS: &str = "expand=stats,app&";

/// `name=value&` with everything in the value percent-encoded that is not unreserved. A blank is `%20`, which every decoder
/// reads; `+` only form decoders read.
fn query(name: &str, value: &str) -> String {
    let mut pair = format!("{name}=");
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            pair.push(char::from(byte));
        } else {
            pair.push_str(&format!("%{byte:02X}"));
        }
    }
    pair.push('&');
    pair
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
        check(Resource::AppGroups(app.clone()), 1, "/api/v1/apps/0oa1/groups?limit=20", Bucket::Apps);
        let since = Timestamp::parse("2026-08-02T09:00:00Z").unwrap();
        let user = UserId::new("00u1").unwrap();
        check(
            Resource::UsersChanged { since },
            200,
            "/api/v1/users?search=lastUpdated%20gt%20%222026-08-02T09%3A00%3A00.000Z%22&limit=200",
            Bucket::UsersList,
        );
        check(
            Resource::UsersByIds(vec![user.clone(), UserId::new("00u~2").unwrap()]),
            200,
            "/api/v1/users?search=id%20eq%20%2200u1%22%20or%20id%20eq%20%2200u~2%22&limit=200",
            Bucket::UsersList,
        );
        check(Resource::UserGroups(user.clone()), 200, "/api/v1/users/00u1/groups?limit=200", Bucket::Other);
        check(
            Resource::GroupsChanged { since },
            200,
            "/api/v1/groups?filter=lastUpdated%20gt%20%222026-08-02T09%3A00%3A00.000Z%22%20or%20\
             lastMembershipUpdated%20gt%20%222026-08-02T09%3A00%3A00.000Z%22&expand=stats,app&limit=200",
            Bucket::GroupsList,
        );
        check(
            Resource::GroupsOfApp(app),
            200,
            "/api/v1/groups?search=source.id%20eq%20%220oa1%22&expand=stats,app&limit=200",
            Bucket::GroupsList,
        );
        check(
            Resource::GroupsBuiltIn,
            20,
            "/api/v1/groups?filter=type%20eq%20%22BUILT_IN%22&expand=stats,app&limit=20",
            Bucket::GroupsList,
        );
        check(
            Resource::UserApps(user),
            200,
            "/api/v1/apps?filter=user.id%20eq%20%2200u1%22&expand=user/00u1&limit=200",
            Bucket::Apps,
        );
    }

    #[test]
    fn values_are_encoded_byte_by_byte() {
        assert_eq!(query("q", "a-Z_0.~ +&=%\"é/:"), "q=a-Z_0.~%20%2B%26%3D%25%22%C3%A9%2F%3A&");
    }
}

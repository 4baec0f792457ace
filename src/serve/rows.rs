//! Rows as the API shows them.
//!
//! Entry point: [`Shower`], which knows what grants and what is stale.
//!
//! Invariants: a value that Okta invented later is `OTHER` with its spelling; nothing else fills a `_raw` field.

use okta_idmap_proto::v1;

use super::facts::Facts;
use crate::core::ids::{Timestamp, UserId};
use crate::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupType, Scope, User, UserStatus,
};

/// Milliseconds as a protobuf timestamp.
pub(crate) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let millis = time.as_millis();
    let nanos = i32::try_from(millis.rem_euclid(1_000)).unwrap_or_default() * 1_000_000;
    prost_types::Timestamp { seconds: millis.div_euclid(1_000), nanos }
}

fn text(value: &Option<Box<str>>) -> String {
    value.as_deref().unwrap_or_default().to_owned()
}

pub(super) fn user_status(status: &UserStatus) -> (v1::UserStatus, String) {
    let known = match status {
        UserStatus::Staged => v1::UserStatus::Staged,
        UserStatus::Provisioned => v1::UserStatus::Provisioned,
        UserStatus::Active => v1::UserStatus::Active,
        UserStatus::Recovery => v1::UserStatus::Recovery,
        UserStatus::PasswordExpired => v1::UserStatus::PasswordExpired,
        UserStatus::LockedOut => v1::UserStatus::LockedOut,
        UserStatus::Suspended => v1::UserStatus::Suspended,
        UserStatus::Deprovisioned => v1::UserStatus::Deprovisioned,
        UserStatus::Other(raw) => return (v1::UserStatus::Other, raw.to_string()),
    };
    (known, String::new())
}

pub(super) fn app_user_status(status: &AppUserStatus) -> (v1::AppUserStatus, String) {
    let known = match status {
        AppUserStatus::Active => v1::AppUserStatus::Active,
        AppUserStatus::Staged => v1::AppUserStatus::Staged,
        AppUserStatus::Provisioned => v1::AppUserStatus::Provisioned,
        AppUserStatus::Inactive => v1::AppUserStatus::Inactive,
        AppUserStatus::Deprovisioned => v1::AppUserStatus::Deprovisioned,
        AppUserStatus::Suspended => v1::AppUserStatus::Suspended,
        AppUserStatus::Approved => v1::AppUserStatus::Approved,
        AppUserStatus::Revoked => v1::AppUserStatus::Revoked,
        AppUserStatus::Pending => v1::AppUserStatus::Pending,
        AppUserStatus::Imported => v1::AppUserStatus::Imported,
        AppUserStatus::Matched => v1::AppUserStatus::Matched,
        AppUserStatus::Implicit => v1::AppUserStatus::Implicit,
        AppUserStatus::Unassigned => v1::AppUserStatus::Unassigned,
        AppUserStatus::Other(raw) => return (v1::AppUserStatus::Other, raw.to_string()),
    };
    (known, String::new())
}

pub(super) fn app_status(status: &AppStatus) -> (v1::AppStatus, String) {
    let known = match status {
        AppStatus::Active => v1::AppStatus::Active,
        AppStatus::Inactive => v1::AppStatus::Inactive,
        AppStatus::Deleted => v1::AppStatus::Deleted,
        AppStatus::Other(raw) => return (v1::AppStatus::Other, raw.to_string()),
    };
    (known, String::new())
}

pub(super) fn group_type(group_type: &GroupType) -> (v1::GroupType, String) {
    let known = match group_type {
        GroupType::OktaGroup => v1::GroupType::OktaGroup,
        GroupType::AppGroup => v1::GroupType::AppGroup,
        GroupType::BuiltIn => v1::GroupType::BuiltIn,
        GroupType::Other(raw) => return (v1::GroupType::Other, raw.to_string()),
    };
    (known, String::new())
}

fn assignment_scope(scope: &AssignmentScope) -> (v1::AssignmentScope, String) {
    let known = match scope {
        AssignmentScope::User => v1::AssignmentScope::Direct,
        AssignmentScope::Group => v1::AssignmentScope::Group,
        AssignmentScope::Other(raw) => return (v1::AssignmentScope::Other, raw.to_string()),
    };
    (known, String::new())
}

/// The few fields by which people recognise a user.
pub(super) fn user_ref(user: &User) -> v1::UserRef {
    let (status, status_raw) = user_status(&user.status);
    let display_name = match user.display_name.as_deref().unwrap_or_default() {
        "" => {
            let names = [user.first_name.as_deref(), user.last_name.as_deref()];
            names.into_iter().flatten().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" ")
        }
        name => name.to_owned(),
    };
    v1::UserRef {
        id: user.id.as_str().to_owned(),
        login: text(&user.login),
        email: text(&user.email),
        display_name,
        status: status.into(),
        status_raw,
    }
}

/// A user of whom only the id is known.
pub(super) fn unseen_user_ref(id: &UserId) -> v1::UserRef {
    v1::UserRef { id: id.as_str().to_owned(), ..v1::UserRef::default() }
}

/// The few fields by which people recognise an app.
pub(super) fn app_ref(app: &App) -> v1::AppRef {
    let (status, status_raw) = app_status(&app.status);
    v1::AppRef {
        id: app.id.as_str().to_owned(),
        name: app.name.to_string(),
        label: app.label.to_string(),
        status: status.into(),
        status_raw,
    }
}

/// The few fields by which people recognise a group.
pub(super) fn group_ref(group: &Group) -> v1::GroupRef {
    let (kind, group_type_raw) = group_type(&group.group_type);
    v1::GroupRef {
        id: group.id.as_str().to_owned(),
        name: group.name.to_string(),
        group_type: kind.into(),
        group_type_raw,
    }
}

/// Shows rows of one answer.
pub(crate) struct Shower<'a, F> {
    ask: &'a F,
    is_any_stale: bool,
}

impl<'a, F: Facts> Shower<'a, F> {
    pub(crate) fn new(ask: &'a F) -> Self {
        Self { ask, is_any_stale: ask.is_any_stale() }
    }

    /// Whether a row of the scope may be outdated: by the id that its record carries there.
    pub(super) fn is_stale(&self, row: &str, scope: impl FnOnce() -> Scope) -> bool {
        self.is_any_stale && self.ask.is_stale(&scope(), row)
    }

    pub(crate) fn user(&self, user: &User) -> v1::User {
        let (status, status_raw) = user_status(&user.status);
        v1::User {
            id: user.id.as_str().to_owned(),
            status: status.into(),
            status_raw,
            login: text(&user.login),
            email: text(&user.email),
            second_email: text(&user.second_email),
            first_name: text(&user.first_name),
            last_name: text(&user.last_name),
            display_name: text(&user.display_name),
            created_at: user.created.map(timestamp),
            last_updated_at: user.last_updated.map(timestamp),
            status_changed_at: user.status_changed.map(timestamp),
            status_grants: self.ask.policy().user_grants(&user.status),
            stale: self.is_stale(user.id.as_str(), || Scope::Users)
                || self.is_stale(user.id.as_str(), || Scope::User(user.id.clone())),
        }
    }

    pub(crate) fn group(&self, group: &Group) -> v1::Group {
        let (kind, group_type_raw) = group_type(&group.group_type);
        v1::Group {
            id: group.id.as_str().to_owned(),
            name: group.name.to_string(),
            description: text(&group.description),
            group_type: kind.into(),
            group_type_raw,
            source_app_id: group.source_app.as_ref().map_or_else(String::new, ToString::to_string),
            created_at: group.created.map(timestamp),
            last_updated_at: group.last_updated.map(timestamp),
            last_membership_updated_at: group.last_membership_updated.map(timestamp),
            stale: self.is_stale(group.id.as_str(), || Scope::Groups)
                || self.is_stale(group.id.as_str(), || Scope::Group(group.id.clone())),
        }
    }

    pub(crate) fn app(&self, app: &App) -> v1::App {
        let (status, status_raw) = app_status(&app.status);
        v1::App {
            id: app.id.as_str().to_owned(),
            name: app.name.to_string(),
            label: app.label.to_string(),
            status: status.into(),
            status_raw,
            sign_on_mode: text(&app.sign_on_mode),
            features: app.features.iter().map(ToString::to_string).collect(),
            credential_scheme: text(&app.credential_scheme),
            shared_user_name: if app.is_shared_account() { text(&app.shared_user_name) } else { String::new() },
            user_name_template: text(&app.user_name_template),
            oauth_application_type: text(&app.oauth_application_type),
            implicit_assignment: app.implicit_assignment == Some(true),
            created_at: app.created.map(timestamp),
            last_updated_at: app.last_updated.map(timestamp),
            status_grants: self.ask.policy().app_grants(&app.status),
            stale: self.is_stale(app.id.as_str(), || Scope::Apps)
                || self.is_stale(app.id.as_str(), || Scope::App(app.id.clone())),
        }
    }

    pub(crate) fn app_user(&self, row: &AppUser) -> v1::AppUser {
        let (status, status_raw) = app_user_status(&row.status);
        let (scope, scope_raw) = assignment_scope(&row.scope);
        v1::AppUser {
            app_id: row.app.as_str().to_owned(),
            user_id: row.user.as_str().to_owned(),
            user_name: text(&row.user_name),
            external_id: text(&row.external_id),
            email: text(&row.email),
            status: status.into(),
            status_raw,
            scope: scope.into(),
            scope_raw,
            sync_state: text(&row.sync_state),
            via_group_id: row.via_group.as_ref().map_or_else(String::new, ToString::to_string),
            created_at: row.created.map(timestamp),
            last_updated_at: row.last_updated.map(timestamp),
            status_changed_at: row.status_changed.map(timestamp),
            status_grants: self.ask.policy().app_user_grants(&row.status),
            stale: self.is_stale(row.user.as_str(), || Scope::AppUsers(row.app.clone()))
                || self.is_stale(row.user.as_str(), || Scope::User(row.user.clone()))
                || self.is_stale(row.app.as_str(), || Scope::App(row.app.clone())),
        }
    }

    pub(crate) fn app_group(&self, row: &AppGroup) -> v1::AppGroup {
        v1::AppGroup {
            app_id: row.app.as_str().to_owned(),
            group_id: row.group.as_str().to_owned(),
            priority: row.priority,
            last_updated_at: row.last_updated.map(timestamp),
            stale: self.is_stale(row.group.as_str(), || Scope::AppGroups(row.app.clone())),
        }
    }

    /// An account with both its ends; ends that are not known have only their id.
    pub(super) fn account(&self, app: Option<&App>, user: Option<&User>, row: &AppUser) -> v1::Account {
        let unseen_app = || v1::AppRef { id: row.app.as_str().to_owned(), ..v1::AppRef::default() };
        v1::Account {
            app: Some(app.map_or_else(unseen_app, app_ref)),
            user: Some(user.map_or_else(|| unseen_user_ref(&row.user), user_ref)),
            app_user: Some(self.app_user(row)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_have_names_and_others_their_spelling() {
        for raw in UserStatus::KNOWN {
            let (status, spelling) = user_status(&UserStatus::parse(raw));
            assert_eq!((status.as_str_name(), spelling.as_str()), (format!("USER_STATUS_{raw}").as_str(), ""));
        }
        for raw in AppUserStatus::KNOWN {
            let (status, spelling) = app_user_status(&AppUserStatus::parse(raw));
            assert_eq!((status.as_str_name(), spelling.as_str()), (format!("APP_USER_STATUS_{raw}").as_str(), ""));
        }
        for raw in AppStatus::KNOWN {
            let (status, spelling) = app_status(&AppStatus::parse(raw));
            assert_eq!((status.as_str_name(), spelling.as_str()), (format!("APP_STATUS_{raw}").as_str(), ""));
        }
        for raw in GroupType::KNOWN {
            let (kind, spelling) = group_type(&GroupType::parse(raw));
            assert_eq!((kind.as_str_name(), spelling.as_str()), (format!("GROUP_TYPE_{raw}").as_str(), ""));
        }
        assert_eq!(user_status(&UserStatus::parse("NEW")), (v1::UserStatus::Other, "NEW".to_owned()));
        assert_eq!(assignment_scope(&AssignmentScope::parse("USER")).0, v1::AssignmentScope::Direct);
        assert_eq!(assignment_scope(&AssignmentScope::parse("X")), (v1::AssignmentScope::Other, "X".to_owned()));
    }

    #[track_caller]
    fn check(millis: i64, seconds: i64, nanos: i32) {
        assert_eq!(timestamp(Timestamp::from_millis(millis)), prost_types::Timestamp { seconds, nanos });
    }

    #[test]
    fn times_before_the_epoch_have_positive_nanos() {
        check(0, 0, 0);
        check(1_772_600_767_123, 1_772_600_767, 123_000_000);
        check(-1, -1, 999_000_000);
        check(i64::MIN, -9_223_372_036_854_776, 192_000_000);
    }
}

//! Rows as columns and back: one table per kind.
//!
//! A row is compared with the stored one column by column, without building it: that is what makes an unchanged row cost
//! a read and nothing else.

use rusqlite::Row as SqlRow;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use super::StoreError;
use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupType, Kind, User, UserStatus,
};

/// `apps.implicit_assignment` where the answer does not tell.
const NOT_TOLD: i64 = 2;

/// Number under which `ids` and `changes` keep a kind. Stored: never change one.
pub(super) const fn kind_code(kind: Kind) -> i64 {
    match kind {
        Kind::User => 1,
        Kind::Group => 2,
        Kind::App => 3,
        Kind::GroupMember => 4,
        Kind::AppUser => 5,
        Kind::AppGroup => 6,
    }
}

/// Reads [`kind_code`] back.
pub(super) fn kind_of_code(code: i64) -> Result<Kind, StoreError> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind_code(*kind) == code)
        .ok_or_else(|| StoreError::Damaged { detail: format!("kind {code} does not exist") })
}

/// One column's value, borrowed from the row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Column<'a> {
    Null,
    Integer(i64),
    Text(&'a str),
}

impl<'a> Column<'a> {
    pub(super) fn text(value: Option<&'a str>) -> Self {
        value.map_or(Column::Null, Column::Text)
    }

    pub(super) fn integer(value: Option<i64>) -> Self {
        value.map_or(Column::Null, Column::Integer)
    }

    fn time(value: Option<Timestamp>) -> Self {
        Self::integer(value.map(Timestamp::as_millis))
    }

    pub(super) fn is_stored_as(&self, stored: ValueRef<'_>) -> bool {
        match (self, stored) {
            (Column::Null, ValueRef::Null) => true,
            (Column::Integer(new), ValueRef::Integer(old)) => *new == old,
            (Column::Text(new), ValueRef::Text(old)) => new.as_bytes() == old,
            _ => false,
        }
    }
}

impl ToSql for Column<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Column::Null => ValueRef::Null,
            Column::Integer(value) => ValueRef::Integer(*value),
            Column::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

/// SQL of one table. Columns of `select` after `at` are those that `put` takes after key and `at`, in this order.
pub(super) struct Table {
    pub(super) select: &'static str,
    pub(super) put: &'static str,
    /// Notes another request number for a row that stays as it is.
    pub(super) touch: &'static str,
    pub(super) delete: &'static str,
    /// Position of `last_updated` within the compared columns, where there is one.
    pub(super) last_updated: Option<usize>,
}

pub(super) const USERS: Table = Table {
    select: "SELECT at, status, login, email, second_email, first_name, last_name, display_name, created, last_updated, \
             status_changed, id FROM users WHERE n = ?1",
    put: "REPLACE INTO users(n, at, status, login, email, second_email, first_name, last_name, display_name, created, \
          last_updated, status_changed, id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
    touch: "UPDATE users SET at = ?1 WHERE n = ?2",
    delete: "DELETE FROM users WHERE n = ?1",
    last_updated: Some(8),
};

pub(super) fn user_columns(user: &User) -> [Column<'_>; 11] {
    [
        Column::Text(user.status.as_str()),
        Column::text(user.login.as_deref()),
        Column::text(user.email.as_deref()),
        Column::text(user.second_email.as_deref()),
        Column::text(user.first_name.as_deref()),
        Column::text(user.last_name.as_deref()),
        Column::text(user.display_name.as_deref()),
        Column::time(user.created),
        Column::time(user.last_updated),
        Column::time(user.status_changed),
        Column::Text(user.id.as_str()),
    ]
}

pub(super) const GROUPS: Table = Table {
    select: "SELECT at, name, description, group_type, source_app, created, last_updated, last_membership_updated \
             FROM groups WHERE n = ?1",
    put: "REPLACE INTO groups(n, at, name, description, group_type, source_app, created, last_updated, \
          last_membership_updated) VALUES (?,?,?,?,?,?,?,?,?)",
    touch: "UPDATE groups SET at = ?1 WHERE n = ?2",
    delete: "DELETE FROM groups WHERE n = ?1",
    last_updated: Some(5),
};

pub(super) fn group_columns(group: &Group, source_app: Option<i64>) -> [Column<'_>; 7] {
    [
        Column::Text(&group.name),
        Column::text(group.description.as_deref()),
        Column::Text(group.group_type.as_str()),
        Column::integer(source_app),
        Column::time(group.created),
        Column::time(group.last_updated),
        Column::time(group.last_membership_updated),
    ]
}

pub(super) const APPS: Table = Table {
    select: "SELECT at, name, label, status, sign_on_mode, features, credential_scheme, shared_user_name, \
             user_name_template, oauth_application_type, implicit_assignment, created, last_updated FROM apps WHERE n = ?1",
    put: "REPLACE INTO apps(n, at, name, label, status, sign_on_mode, features, credential_scheme, shared_user_name, \
          user_name_template, oauth_application_type, implicit_assignment, created, last_updated) \
          VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    touch: "UPDATE apps SET at = ?1 WHERE n = ?2",
    delete: "DELETE FROM apps WHERE n = ?1",
    last_updated: Some(11),
};

pub(super) fn app_columns<'a>(app: &'a App, features: &'a str) -> [Column<'a>; 12] {
    [
        Column::Text(&app.name),
        Column::Text(&app.label),
        Column::Text(app.status.as_str()),
        Column::text(app.sign_on_mode.as_deref()),
        Column::Text(features),
        Column::text(app.credential_scheme.as_deref()),
        Column::text(app.shared_user_name.as_deref()),
        Column::text(app.user_name_template.as_deref()),
        Column::text(app.oauth_application_type.as_deref()),
        Column::Integer(app.implicit_assignment.map_or(NOT_TOLD, i64::from)),
        Column::time(app.created),
        Column::time(app.last_updated),
    ]
}

/// Features as one text; their names hold no blanks.
pub(super) fn join_features(app: &App) -> String {
    app.features.join(" ")
}

pub(super) const APP_USERS: Table = Table {
    select: "SELECT at, user_name, external_id, email, status, scope, sync_state, via_group, created, last_updated, \
             status_changed FROM app_users WHERE app = ?1 AND user = ?2",
    put: "REPLACE INTO app_users(app, user, at, user_name, external_id, email, status, scope, sync_state, via_group, \
          created, last_updated, status_changed) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
    touch: "UPDATE app_users SET at = ?1 WHERE app = ?2 AND user = ?3",
    delete: "DELETE FROM app_users WHERE app = ?1 AND user = ?2",
    last_updated: Some(8),
};

pub(super) fn app_user_columns(app_user: &AppUser, via_group: Option<i64>) -> [Column<'_>; 10] {
    [
        Column::text(app_user.user_name.as_deref()),
        Column::text(app_user.external_id.as_deref()),
        Column::text(app_user.email.as_deref()),
        Column::Text(app_user.status.as_str()),
        Column::Text(app_user.scope.as_str()),
        Column::text(app_user.sync_state.as_deref()),
        Column::integer(via_group),
        Column::time(app_user.created),
        Column::time(app_user.last_updated),
        Column::time(app_user.status_changed),
    ]
}

pub(super) const APP_GROUPS: Table = Table {
    select: "SELECT at, priority, last_updated FROM app_groups WHERE app = ?1 AND grp = ?2",
    put: "REPLACE INTO app_groups(app, grp, at, priority, last_updated) VALUES (?,?,?,?,?)",
    touch: "UPDATE app_groups SET at = ?1 WHERE app = ?2 AND grp = ?3",
    delete: "DELETE FROM app_groups WHERE app = ?1 AND grp = ?2",
    last_updated: Some(1),
};

pub(super) fn app_group_columns(app_group: &AppGroup) -> [Column<'_>; 2] {
    [Column::integer(app_group.priority), Column::time(app_group.last_updated)]
}

pub(super) const GROUP_MEMBERS: Table = Table {
    select: "SELECT at FROM group_members WHERE grp = ?1 AND user = ?2",
    put: "REPLACE INTO group_members(grp, user, at) VALUES (?,?,?)",
    touch: "UPDATE group_members SET at = ?1 WHERE grp = ?2 AND user = ?3",
    delete: "DELETE FROM group_members WHERE grp = ?1 AND user = ?2",
    last_updated: None,
};

// Back from columns. What does not fit was not written by this program: the store is damaged.

type Text = Option<Box<str>>;

fn time(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(Timestamp::from_millis))
}

fn bad_id(index: usize, error: crate::core::ids::IdError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
}

fn text(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Text> {
    Ok(row.get_ref(index)?.as_str_or_null()?.map(Into::into))
}

fn required<'r>(row: &'r SqlRow<'_>, index: usize) -> rusqlite::Result<&'r str> {
    Ok(row.get_ref(index)?.as_str()?)
}

macro_rules! id_reader {
    ($name:ident, $type:ident) => {
        /// Reads an id column.
        pub(super) fn $name(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<$type> {
            $type::new(required(row, index)?).map_err(|error| bad_id(index, error))
        }
    };
}
id_reader!(user_id, UserId);
id_reader!(group_id, GroupId);
id_reader!(app_id, AppId);

/// Columns of [`read_user`]: its id, then those of `users`. Needs the tables `users u` and `ids i`.
pub(super) const USER_COLUMNS: &str = "u.id, u.status, u.login, u.email, u.second_email, u.first_name, u.last_name, \
     u.display_name, u.created, u.last_updated, u.status_changed";

/// How many columns these are.
pub(super) const USER_COLUMN_COUNT: usize = 11;

pub(super) fn read_user(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<User> {
    Ok(User {
        id: user_id(row, at)?,
        status: UserStatus::parse(required(row, at + 1)?),
        login: text(row, at + 2)?,
        email: text(row, at + 3)?,
        second_email: text(row, at + 4)?,
        first_name: text(row, at + 5)?,
        last_name: text(row, at + 6)?,
        display_name: text(row, at + 7)?,
        created: time(row, at + 8)?,
        last_updated: time(row, at + 9)?,
        status_changed: time(row, at + 10)?,
    })
}

/// Columns of [`read_group`]: needs `groups g`, `ids i`, and `ids s` for the source app.
pub(super) const GROUP_COLUMNS: &str =
    "i.id, g.name, g.description, g.group_type, s.id, g.created, g.last_updated, g.last_membership_updated";

pub(super) fn read_group(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<Group> {
    let source_app = match text(row, at + 4)? {
        Some(id) => Some(AppId::new(&id).map_err(|error| bad_id(at + 4, error))?),
        None => None,
    };
    Ok(Group {
        id: group_id(row, at)?,
        name: required(row, at + 1)?.into(),
        description: text(row, at + 2)?,
        group_type: GroupType::parse(required(row, at + 3)?),
        source_app,
        created: time(row, at + 5)?,
        last_updated: time(row, at + 6)?,
        last_membership_updated: time(row, at + 7)?,
    })
}

/// Columns of [`read_app`]: needs `apps a` and `ids i`.
pub(super) const APP_COLUMNS: &str = "i.id, a.name, a.label, a.status, a.sign_on_mode, a.features, a.credential_scheme, \
     a.shared_user_name, a.user_name_template, a.oauth_application_type, a.implicit_assignment, a.created, a.last_updated";

pub(super) fn read_app(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<App> {
    Ok(App {
        id: app_id(row, at)?,
        name: required(row, at + 1)?.into(),
        label: required(row, at + 2)?.into(),
        status: AppStatus::parse(required(row, at + 3)?),
        sign_on_mode: text(row, at + 4)?,
        features: required(row, at + 5)?.split_ascii_whitespace().map(Into::into).collect(),
        credential_scheme: text(row, at + 6)?,
        shared_user_name: text(row, at + 7)?,
        user_name_template: text(row, at + 8)?,
        oauth_application_type: text(row, at + 9)?,
        implicit_assignment: Some(row.get::<_, i64>(at + 10)?).filter(|told| *told != NOT_TOLD).map(|told| told == 1),
        created: time(row, at + 11)?,
        last_updated: time(row, at + 12)?,
    })
}

/// Columns of [`read_app_user`]: needs `app_users x`, `ids ai` (app), `ids ui` (user), `ids gi` (group).
pub(super) const APP_USER_COLUMNS: &str = "ai.id, ui.id, x.user_name, x.external_id, x.email, x.status, x.scope, \
     x.sync_state, gi.id, x.created, x.last_updated, x.status_changed";

/// The joins that [`APP_USER_COLUMNS`] needs.
pub(super) const APP_USER_JOINS: &str =
    "app_users x JOIN ids ai ON ai.n = x.app JOIN ids ui ON ui.n = x.user LEFT JOIN ids gi ON gi.n = x.via_group";

pub(super) fn read_app_user(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<AppUser> {
    read_account(row, at + 2, app_id(row, at)?, user_id(row, at + 1)?)
}

/// Those of [`APP_USER_COLUMNS`] behind the two ids, for whoever knows these.
pub(super) const ACCOUNT_COLUMNS: &str = "x.user_name, x.external_id, x.email, x.status, x.scope, x.sync_state, gi.id, \
     x.created, x.last_updated, x.status_changed";

pub(super) fn read_account(row: &SqlRow<'_>, at: usize, app: AppId, user: UserId) -> rusqlite::Result<AppUser> {
    let via_group = match text(row, at + 6)? {
        Some(id) => Some(GroupId::new(&id).map_err(|error| bad_id(at + 6, error))?),
        None => None,
    };
    Ok(AppUser {
        app,
        user,
        user_name: text(row, at)?,
        external_id: text(row, at + 1)?,
        email: text(row, at + 2)?,
        status: AppUserStatus::parse(required(row, at + 3)?),
        scope: AssignmentScope::parse(required(row, at + 4)?),
        sync_state: text(row, at + 5)?,
        via_group,
        created: time(row, at + 7)?,
        last_updated: time(row, at + 8)?,
        status_changed: time(row, at + 9)?,
    })
}

pub(super) fn read_app_group(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<AppGroup> {
    Ok(AppGroup {
        app: app_id(row, at)?,
        group: group_id(row, at + 1)?,
        priority: row.get(at + 2)?,
        last_updated: time(row, at + 3)?,
    })
}

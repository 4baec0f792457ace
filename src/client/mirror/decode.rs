//! Messages to rows, checked. Entry points: [`row`], [`key`], [`held_names`], [`coverage`], [`policy`].
//!
//! Invariants:
//! - A row or key of a kind that this version does not know is `None`; everything else that makes no sense is refused.
//! - What is empty in a message is nothing in a row.

use std::sync::Arc;

use okta_idmap_proto::v1::{self, row::Row as Kind, row_key::Key as KindKey};

use super::table::Held;
use super::{FACTS_VERSION, MirrorError, Policy};
use crate::core::coverage::{CoverageChanges, CoveragePolicy, GapKind, OnGap, Reach, ScopeCoverage};
use crate::core::ids::{AppId, GroupId, IdError, Timestamp, UserId};
use crate::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Key, Row, Scope,
    User, UserStatus,
};
use crate::core::normalize::{NORMALIZE_VERSION, NameRule};
use crate::core::overrides::{OverrideRecord, OverrideSource};
use crate::core::policy::{AliasSetting, GrantPolicy, GrantPolicySettings, NameRuleSetting};
use crate::core::resolve::{IdentifierKind, Override};
use crate::serve::kind_to_proto;
use crate::store::ReleasedName;

fn malformed(what: impl std::fmt::Display) -> MirrorError {
    MirrorError::Malformed { what: what.to_string() }
}

fn id<T>(what: &str, raw: &str, read: impl FnOnce(&str) -> Result<T, IdError>) -> Result<T, MirrorError> {
    read(raw).map_err(|error| malformed(format!("{what}: {error}")))
}

fn text(raw: String) -> Option<Box<str>> {
    if raw.is_empty() { None } else { Some(raw.into()) }
}

/// A time of a message; what is out of range is the nearest that there is.
pub(crate) fn time(raw: &prost_types::Timestamp) -> Timestamp {
    let millis = raw.seconds.saturating_mul(1_000).saturating_add(i64::from(raw.nanos / 1_000_000));
    Timestamp::from_millis(millis)
}

fn when(raw: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    raw.as_ref().map(time)
}

fn millis(raw: &prost_types::Duration) -> i64 {
    raw.seconds.saturating_mul(1_000).saturating_add(i64::from(raw.nanos / 1_000_000))
}

/// Okta's spelling of an enumeration: the name of the value without its prefix, or what came as such.
fn spelling(name: Option<&'static str>, prefix: &str, raw: String) -> Result<String, MirrorError> {
    match name.and_then(|name| name.strip_prefix(prefix)) {
        Some("OTHER") | None => Ok(raw),
        Some("UNSPECIFIED") => Err(malformed(format!("{prefix}UNSPECIFIED"))),
        Some(known) => Ok(known.to_owned()),
    }
}

fn user(row: v1::User) -> Result<User, MirrorError> {
    let status = v1::UserStatus::try_from(row.status).ok().map(|status| status.as_str_name());
    Ok(User {
        id: id("user", &row.id, UserId::new)?,
        status: UserStatus::parse(&spelling(status, "USER_STATUS_", row.status_raw)?),
        login: text(row.login),
        email: text(row.email),
        second_email: text(row.second_email),
        first_name: text(row.first_name),
        last_name: text(row.last_name),
        display_name: text(row.display_name),
        created: when(row.created_at),
        last_updated: when(row.last_updated_at),
        status_changed: when(row.status_changed_at),
    })
}

fn group(row: v1::Group) -> Result<Group, MirrorError> {
    let kind = v1::GroupType::try_from(row.group_type).ok().map(|kind| kind.as_str_name());
    let source_app = text(row.source_app_id).map(|app| id("source app", &app, AppId::new)).transpose()?;
    Ok(Group {
        id: id("group", &row.id, GroupId::new)?,
        name: row.name.into(),
        description: text(row.description),
        group_type: GroupType::parse(&spelling(kind, "GROUP_TYPE_", row.group_type_raw)?),
        source_app,
        created: when(row.created_at),
        last_updated: when(row.last_updated_at),
        last_membership_updated: when(row.last_membership_updated_at),
    })
}

fn app(row: v1::App) -> Result<App, MirrorError> {
    let status = v1::AppStatus::try_from(row.status).ok().map(|status| status.as_str_name());
    Ok(App {
        id: id("app", &row.id, AppId::new)?,
        name: row.name.into(),
        label: row.label.into(),
        status: AppStatus::parse(&spelling(status, "APP_STATUS_", row.status_raw)?),
        sign_on_mode: text(row.sign_on_mode),
        features: row.features.into_iter().map(Into::into).collect(),
        credential_scheme: text(row.credential_scheme),
        shared_user_name: text(row.shared_user_name),
        user_name_template: text(row.user_name_template),
        oauth_application_type: text(row.oauth_application_type),
        implicit_assignment: Some(row.implicit_assignment),
        created: when(row.created_at),
        last_updated: when(row.last_updated_at),
    })
}

fn app_user(row: v1::AppUser) -> Result<AppUser, MirrorError> {
    let status = v1::AppUserStatus::try_from(row.status).ok().map(|status| status.as_str_name());
    let scope = match v1::AssignmentScope::try_from(row.scope) {
        Ok(v1::AssignmentScope::Direct) => AssignmentScope::User,
        Ok(v1::AssignmentScope::Group) => AssignmentScope::Group,
        Ok(v1::AssignmentScope::Other | v1::AssignmentScope::Unspecified) | Err(_) => {
            AssignmentScope::Other(row.scope_raw.into())
        }
    };
    let via_group = text(row.via_group_id).map(|group| id("via group", &group, GroupId::new)).transpose()?;
    Ok(AppUser {
        app: id("app", &row.app_id, AppId::new)?,
        user: id("user", &row.user_id, UserId::new)?,
        user_name: text(row.user_name),
        external_id: text(row.external_id),
        email: text(row.email),
        status: AppUserStatus::parse(&spelling(status, "APP_USER_STATUS_", row.status_raw)?),
        scope,
        sync_state: text(row.sync_state),
        via_group,
        created: when(row.created_at),
        last_updated: when(row.last_updated_at),
        status_changed: when(row.status_changed_at),
    })
}

/// A row of Okta, or what an operator decided.
#[derive(Debug)]
pub(super) enum Decoded<R, O> {
    Row(R),
    Override(O),
}

fn override_record(row: v1::Override) -> Result<OverrideRecord, MirrorError> {
    let source = match v1::OverrideSource::try_from(row.source) {
        Ok(v1::OverrideSource::Rpc) => OverrideSource::Call,
        Ok(v1::OverrideSource::Config) => OverrideSource::Configuration,
        Ok(v1::OverrideSource::Unspecified) => return Err(malformed("an override without a source")),
        Err(_) => return Err(MirrorError::ServerTooNew { what: "a source of overrides" }),
    };
    let entry = Override {
        app: id("app", &row.app_id, AppId::new)?,
        kind: identifier_kind(row.kind)?,
        name: row.name.into(),
        user: id("user", &row.user_id, UserId::new)?,
        expires_at: when(row.expires_at).ok_or_else(|| malformed("an override without an end"))?,
    };
    Ok(OverrideRecord {
        number: row.number,
        source,
        entry,
        created_at: when(row.created_at).unwrap_or_default(),
        created_by: row.created_by.into(),
        reason: row.reason.into(),
    })
}

fn identifier_kind(raw: i32) -> Result<IdentifierKind, MirrorError> {
    match v1::IdentifierKind::try_from(raw) {
        Ok(v1::IdentifierKind::Unspecified) => Ok(IdentifierKind::Untyped),
        Ok(v1::IdentifierKind::UserName) => Ok(IdentifierKind::UserName),
        Ok(v1::IdentifierKind::ExternalId) => Ok(IdentifierKind::ExternalId),
        Ok(v1::IdentifierKind::Email) => Ok(IdentifierKind::Email),
        Err(_) => Err(MirrorError::ServerTooNew { what: "a kind of identifier" }),
    }
}

/// A row.
pub(super) fn row(row: v1::Row) -> Result<Option<Decoded<Row, OverrideRecord>>, MirrorError> {
    Ok(Some(Decoded::Row(match row.row {
        Some(Kind::User(row)) => Row::User(user(row)?),
        Some(Kind::Group(row)) => Row::Group(group(row)?),
        Some(Kind::App(row)) => Row::App(app(row)?),
        Some(Kind::AppUser(row)) => Row::AppUser(app_user(row)?),
        Some(Kind::GroupMember(row)) => Row::GroupMember(GroupMember {
            group: id("group", &row.group_id, GroupId::new)?,
            user: id("user", &row.user_id, UserId::new)?,
        }),
        Some(Kind::AppGroup(row)) => Row::AppGroup(AppGroup {
            app: id("app", &row.app_id, AppId::new)?,
            group: id("group", &row.group_id, GroupId::new)?,
            priority: row.priority,
            last_updated: when(row.last_updated_at),
        }),
        Some(Kind::Override(row)) => return Ok(Some(Decoded::Override(override_record(row)?))),
        None => return Ok(None),
    })))
}

/// The key of a row; of an override, its number.
pub(super) fn key(key: v1::RowKey) -> Result<Option<Decoded<Key, i64>>, MirrorError> {
    Ok(Some(Decoded::Row(match key.key {
        Some(KindKey::UserId(user)) => Key::User(id("user", &user, UserId::new)?),
        Some(KindKey::GroupId(group)) => Key::Group(id("group", &group, GroupId::new)?),
        Some(KindKey::AppId(app)) => Key::App(id("app", &app, AppId::new)?),
        Some(KindKey::AppUser(key)) => {
            Key::AppUser(id("app", &key.app_id, AppId::new)?, id("user", &key.user_id, UserId::new)?)
        }
        Some(KindKey::GroupMember(key)) => {
            Key::GroupMember(id("group", &key.group_id, GroupId::new)?, id("user", &key.user_id, UserId::new)?)
        }
        Some(KindKey::AppGroup(key)) => {
            Key::AppGroup(id("app", &key.app_id, AppId::new)?, id("group", &key.group_id, GroupId::new)?)
        }
        Some(KindKey::Override(key)) => return Ok(Some(Decoded::Override(key.number))),
        None => return Ok(None),
    })))
}

/// The names that a user had before.
pub(super) fn held_names(held: v1::HeldNames) -> Result<(UserId, Held), MirrorError> {
    let name = |held: v1::ReleasedName| {
        let app = text(held.app_id).map(|app| id("app", &app, AppId::new)).transpose()?;
        let released_at = when(held.released_at).ok_or_else(|| malformed("a held name without a time"))?;
        Ok(ReleasedName { app, kind: held.field, name: held.name, released_at })
    };
    let names = held.names.into_iter().map(name).collect::<Result<_, MirrorError>>()?;
    Ok((id("user", &held.user_id, UserId::new)?, Held { names, is_cut: held.truncated }))
}

/// What of the coverage has changed.
pub(super) fn coverage(change: v1::CoverageChange) -> Result<CoverageChanges, MirrorError> {
    let scope = |told: v1::ScopeCoverage| {
        let scope = Scope::parse(&told.scope).ok_or_else(|| malformed(format!("the scope {:?}", told.scope)))?;
        let kind = |raw: &i32| GapKind::ALL.into_iter().find(|kind| i32::from(kind_to_proto(*kind)) == *raw);
        let kinds =
            told.open_gaps.iter().map(|raw| kind(raw).ok_or(MirrorError::ServerTooNew { what: "a kind of gap" }));
        Ok(ScopeCoverage {
            scope,
            completed_at: when(told.completed_at),
            open: kinds.collect::<Result<_, MirrorError>>()?,
            failed: told.unread_rows.map_or_else(Reach::whole, |unread| {
                let rows = unread.rows.into_iter().map(|row| (row.id.into_boxed_str(), when(row.read_at)));
                Reach { is_whole: unread.are_all_stale, rows: Arc::new(rows.collect()) }
            }),
            is_settled: told.settled,
        })
    };
    let scopes = change.scopes.into_iter().map(scope).collect::<Result<_, MirrorError>>()?;
    Ok(CoverageChanges { is_full: change.full, scopes })
}

/// The policy of the server, its parts joined.
pub(super) fn policy(wire: v1::ResolutionPolicy) -> Result<Policy, MirrorError> {
    if wire.normalize_version != NORMALIZE_VERSION {
        return Err(MirrorError::ServerTooNew { what: "comparison of names" });
    }
    if wire.facts_version > FACTS_VERSION {
        return Err(MirrorError::ServerTooNew { what: "what answers are made of" });
    }
    let rule = |setting: &v1::AppNameRule| match NameRule::parse(&setting.rule) {
        Some(rule) => Ok(NameRuleSetting { app: setting.app.clone(), rule }),
        None => Err(MirrorError::ServerTooNew { what: "a rule for names" }),
    };
    let settings = GrantPolicySettings {
        user_statuses: wire.user_statuses.clone(),
        app_user_statuses: wire.app_user_statuses.clone(),
        name_rules: wire.name_rules.iter().map(rule).collect::<Result<_, _>>()?,
        second_email: wire.second_email,
        quarantine_millis: wire.quarantine.as_ref().map(millis).ok_or_else(|| malformed("no quarantine"))?,
        aliases: wire.aliases.iter().map(alias).collect::<Result<_, _>>()?,
    };
    let grant = GrantPolicy::new(&settings).map_err(|error| malformed(format!("the policy: {error}")))?;
    let coverage = CoveragePolicy {
        stale_after_millis: wire.stale_after.as_ref().map(millis),
        log_stale_after_millis: wire.log_stale_after.as_ref().map(millis),
        on_gap: if wire.withholds { OnGap::Withhold } else { OnGap::Keep },
        max_stale_millis: wire.max_stale.as_ref().map(millis),
    };
    Ok(Policy { grant: Arc::new(grant), coverage, wire })
}

fn alias(alias: &v1::AccountAlias) -> Result<AliasSetting, MirrorError> {
    let identifier = alias.identifier.as_ref().ok_or_else(|| malformed("an alias without a name"))?;
    let kind = identifier_kind(identifier.kind)?;
    let name = identifier.value.clone();
    Ok(AliasSetting { app: alias.app_id.clone(), kind, name, user: alias.user_id.clone() })
}

//! Operators' overrides between the API and the store: requests in, rows out.
//!
//! Entry points: [`SetOrder::read`] and [`name_of`] for what operators order, [`override_row`] and [`operator_override`] for
//! what is shown.

use okta_idmap_proto::limits;
use okta_idmap_proto::v1;

use super::apps::AppQuery;
use super::ask::Ask;
use super::door;
use super::errors::Failure;
use super::gate::Caller;
use super::resolution::{AccountQuery, user_or_id};
use super::rows::{app_ref, timestamp};
use super::withhold::Withholds as _;
use crate::core::ids::{AppId, Timestamp, UserId};
use crate::core::normalize::lookup_key;
use crate::core::overrides::{
    LIFE_MILLIS_MAX, OVERRIDES_MAX, OverrideName, OverrideRecord, OverrideSetting, OverrideSource, REASON_BYTES_MAX,
    check,
};
use crate::core::resolve::{AppSelection, IdentifierKind, Override};
use crate::store::{OverrideError, OverrideGone};

// What the API says is what is decided by.
const _: () = assert!(limits::OVERRIDES_MAX == OVERRIDES_MAX);
const _: () = assert!(limits::OVERRIDE_REASON_BYTES_MAX == REASON_BYTES_MAX);
const _: () = assert!(limits::OVERRIDE_DAYS_MAX as i64 * 86_400_000 == LIFE_MILLIS_MAX);

/// An order to set an override, checked as far as that is possible without the store.
#[derive(Clone, Debug)]
pub(super) struct SetOrder {
    user: UserId,
    expires_at: Timestamp,
    reason: Box<str>,
}

impl SetOrder {
    /// Reads everything but the account.
    pub(super) fn read(request: &v1::SetOverrideRequest, now: Timestamp) -> Result<Self, Failure> {
        let user = door::user_id("user_id", &request.user_id)?;
        if request.reason.is_empty() {
            return Err(Failure::FieldMissing { field: "reason" });
        }
        let expires_at = match &request.expires_at {
            None => return Err(Failure::FieldMissing { field: "expires_at" }),
            Some(at) => moment(at)?,
        };
        check(&request.reason, expires_at, now).map_err(|fault| Failure::FieldInvalid {
            field: if fault.is_of_end() { "expires_at" } else { "reason" },
            detail: fault.to_string(),
        })?;
        Ok(Self { user, expires_at, reason: request.reason.as_str().into() })
    }

    /// What is to be kept. `caller` is who orders it.
    pub(super) fn setting(self, name: OverrideName, caller: &str) -> OverrideSetting {
        let OverrideName { app, kind, name } = name;
        let entry = Override { app, kind, name, user: self.user, expires_at: self.expires_at };
        OverrideSetting { entry, created_by: caller.into(), reason: self.reason }
    }

    /// For the log of admin calls: end and reason, no name.
    pub(super) fn words(&self) -> String {
        format!("until {}: {:?}", self.expires_at, self.reason)
    }
}

fn moment(at: &prost_types::Timestamp) -> Result<Timestamp, Failure> {
    if !(0..1_000_000_000).contains(&at.nanos) {
        return Err(Failure::FieldInvalid { field: "expires_at", detail: "is no time".to_owned() });
    }
    let millis = at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos / 1_000_000));
    Ok(Timestamp::from_millis(millis))
}

/// What an override is about. An app that is named by its id need not be there if `may_be_gone`.
pub(super) fn name_of(
    ask: &Ask<'_>,
    selector: Option<&v1::AccountSelector>,
    may_be_gone: bool,
) -> Result<OverrideName, Failure> {
    let query = AccountQuery::read(selector)?;
    let app: AppId = match (query.app.select(ask.apps()?), &query.app) {
        (AppSelection::One(app), _) => app.id.clone(),
        (AppSelection::None, AppQuery::Id(id)) if may_be_gone => id.clone(),
        (AppSelection::None, AppQuery::Any(any)) if may_be_gone => AppId::new(any).map_err(|_| Failure::AppUnknown)?,
        (AppSelection::None, _) => return Err(Failure::AppUnknown),
        (AppSelection::Many(apps), _) => return Err(Failure::AppAmbiguous { count: apps.len() }),
    };
    Ok(OverrideName { app, kind: query.kind, name: query.identifier.as_str().into() })
}

/// What the store says to an order, in the words of the API.
pub(super) fn refusal(error: OverrideError) -> Failure {
    match error {
        OverrideError::AppUnknown => Failure::AppUnknown,
        OverrideError::UserUnknown => Failure::UserUnknown,
        OverrideError::Name => Failure::IdentifierInvalid {
            field: "account.identifier.value",
            detail: "it can name no account".to_owned(),
        },
        OverrideError::Unknown => Failure::OverrideUnknown,
        OverrideError::Configured => Failure::OverrideConfigured,
        OverrideError::TooMany => Failure::TooManyOverrides,
        OverrideError::TooManyOfName => Failure::TooManyOverridesOfName,
        OverrideError::Store(error) => Failure::from(error),
    }
}

/// Whom the override by call of this very name names now.
pub(super) fn user_of(ask: &Ask<'_>, name: &OverrideName) -> Result<Option<UserId>, Failure> {
    let Ok(key) = lookup_key(&name.name) else { return Ok(None) };
    let records = ask.snapshot.overrides_with_key(&name.app, key)?.into_iter();
    let is_it =
        |record: &OverrideRecord| record.source == OverrideSource::Call && OverrideName::of(&record.entry) == *name;
    Ok(records.filter(is_it).map(|record| record.entry.user).next())
}

/// What the log tells of a decision: ids, since a name may be that of a person. Empty where it is not known.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried {
    app: String,
    kind: &'static str,
    number: i64,
    user: String,
    former_user: String,
    what: String,
}

impl Tried {
    /// As it is asked for. What is no id is left out.
    pub(super) fn of(account: Option<&v1::AccountSelector>, user: &str) -> Self {
        use v1::app_selector::Selector;
        let app = account.and_then(|account| account.app.as_ref()).and_then(|app| app.selector.as_ref());
        let app = match app {
            Some(Selector::AppId(id) | Selector::Any(id)) => {
                AppId::new(id).map(|id| id.to_string()).unwrap_or_default()
            }
            _ => String::new(),
        };
        let kind = account.and_then(|account| account.identifier.as_ref()).map(v1::Identifier::kind);
        let user = UserId::new(user).map(|id| id.to_string()).unwrap_or_default();
        Self { app, kind: kind.unwrap_or_default().as_str_name(), user, ..Self::default() }
    }

    /// Until when, and why.
    pub(super) fn with(mut self, order: Option<&SetOrder>) -> Self {
        self.what = order.map(SetOrder::words).unwrap_or_default();
        self
    }

    /// What it is about.
    pub(super) fn is_about(&mut self, name: &OverrideName, former: Option<UserId>) {
        self.app = name.app.to_string();
        self.former_user = former.map(|user| user.to_string()).unwrap_or_default();
    }

    /// It is done.
    pub(super) fn done(&mut self, record: &OverrideRecord) {
        self.number = record.number;
    }

    /// The line.
    pub(super) fn tell(&self, rpc: &str, org: &str, caller: &Caller, outcome: &str) {
        let Self { app, kind, number, user, former_user, what } = self;
        let (caller, peer) = (caller.name(), caller.peer());
        tracing::info!(rpc, org, caller, peer, app, kind, number, user, former_user, what, outcome, "admin call");
    }
}

const fn kind_to_proto(kind: IdentifierKind) -> v1::IdentifierKind {
    match kind {
        IdentifierKind::Untyped => v1::IdentifierKind::Unspecified,
        IdentifierKind::UserName => v1::IdentifierKind::UserName,
        IdentifierKind::ExternalId => v1::IdentifierKind::ExternalId,
        IdentifierKind::Email => v1::IdentifierKind::Email,
    }
}

const fn source_to_proto(source: OverrideSource) -> v1::OverrideSource {
    match source {
        OverrideSource::Call => v1::OverrideSource::Rpc,
        OverrideSource::Configuration => v1::OverrideSource::Config,
    }
}

/// The row at a time. `with_story`: who set it and why, for those who may see that.
pub(crate) fn override_row(record: &OverrideRecord, now: Timestamp, with_story: bool) -> v1::Override {
    let entry = &record.entry;
    let story = |text: &str| if with_story { text.to_owned() } else { String::new() };
    v1::Override {
        number: record.number,
        source: source_to_proto(record.source).into(),
        app_id: entry.app.to_string(),
        kind: kind_to_proto(entry.kind).into(),
        name: entry.name.to_string(),
        user_id: entry.user.to_string(),
        expires_at: Some(timestamp(entry.expires_at)),
        created_at: Some(timestamp(record.created_at)),
        created_by: story(&record.created_by),
        reason: story(&record.reason),
        expired: entry.expires_at <= now,
    }
}

/// The key of one that went.
pub(super) fn override_key(number: i64, gone: &OverrideGone) -> v1::OverrideKey {
    v1::OverrideKey {
        number,
        app_id: gone.app.to_string(),
        kind: kind_to_proto(gone.kind).into(),
        name: gone.name.to_string(),
        source: source_to_proto(gone.source).into(),
    }
}

/// The row with both its ends.
pub(super) fn operator_override(ask: &Ask<'_>, record: &OverrideRecord) -> Result<v1::OperatorOverride, Failure> {
    let entry = &record.entry;
    let app = ask.apps()?.iter().find(|app| app.id == entry.app).map(app_ref);
    let user = ask.snapshot.user(&entry.user)?.filter(|user| !ask.withholds_user(&user.id));
    Ok(v1::OperatorOverride {
        row: Some(override_row(record, ask.now, true)),
        app: Some(app.unwrap_or_else(|| v1::AppRef { id: entry.app.to_string(), ..v1::AppRef::default() })),
        user: Some(user_or_id(user.as_ref(), &entry.user)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let now = Timestamp::from_millis(1_000_000);
        #[track_caller]
        fn check(request: v1::SetOverrideRequest, now: Timestamp, expected: &str) {
            let found = match SetOrder::read(&request, now) {
                Ok(order) => order.words(),
                Err(failure) => {
                    let status = failure.status();
                    format!("{}: {}", failure.name(), status.message())
                }
            };
            assert_eq!(found, expected);
        }
        let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        let good = v1::SetOverrideRequest {
            user_id: "00u1".to_owned(),
            expires_at: at(2_000, 5_000_000),
            reason: "JIRA-7".to_owned(),
            ..Default::default()
        };
        check(good.clone(), now, "until 1970-01-01T00:33:20.005Z: \"JIRA-7\"");
        let with = |change: fn(&mut v1::SetOverrideRequest)| {
            let mut request = good.clone();
            change(&mut request);
            request
        };
        check(with(|r| r.user_id.clear()), now, "FIELD_MISSING: user_id is missing");
        check(
            with(|r| r.user_id = "jane@example.com".to_owned()),
            now,
            "FIELD_INVALID: user_id: id holds the character '@', which no Okta id has",
        );
        check(with(|r| r.reason.clear()), now, "FIELD_MISSING: reason is missing");
        check(
            with(|r| r.reason = " ".to_owned()),
            now,
            "FIELD_INVALID: reason: a reason is needed: who reads it later has nothing else to go by",
        );
        check(
            with(|r| r.reason = "x".repeat(513)),
            now,
            "FIELD_INVALID: reason: the reason has 513 bytes, at most 512 are allowed",
        );
        check(with(|r| r.expires_at = None), now, "FIELD_MISSING: expires_at is missing");
        for (seconds, nanos) in [(2_000, -1), (2_000, 1_000_000_000)] {
            let mut request = good.clone();
            request.expires_at = at(seconds, nanos);
            check(request, now, "FIELD_INVALID: expires_at: is no time");
        }
        for (seconds, expected) in [
            (i64::MIN, "is not ahead: -262143-01-01T00:00:00.000Z"),
            (0, "is not ahead: 1970-01-01T00:00:00.000Z"),
            (1_000, "is not ahead: 1970-01-01T00:16:40.000Z"),
            (i64::MAX, "is more than 366 days ahead: +262142-12-31T23:59:59.999Z"),
        ] {
            let mut request = good.clone();
            request.expires_at = at(seconds, 0);
            check(request, now, &format!("FIELD_INVALID: expires_at: the end {expected}"));
        }
    }
}

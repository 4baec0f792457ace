//! `Coverage.ListGaps`: recorded gaps, and those that follow from what was never read.
//!
//! Entry point: [`list_gaps`].

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use okta_idmap_proto::limits::{GAP_ID_FILTER_MAX, ID_BYTES_MAX, TEXT_BYTES_MAX};
use okta_idmap_proto::v1::{self, gap::Evidence};

use super::super::ask::Ask;
use super::super::door;
use super::super::errors::Failure;
use super::super::facts::Facts as _;
use super::super::gaps::{Wide, unseen_user_gap_id, unseen_user_of};
use super::super::listing::{began, bind, fitting, read_token};
use super::super::page::{PageToken, Paged};
use super::super::rows::timestamp;
use super::super::status::scope_to_proto;
use crate::core::coverage::{GapId, GapKind, GapRecord, hides, missing_oauth_scope, remedy, remedy_of};
use crate::core::ids::UserId;
use crate::core::model::Scope;

/// Recorded gaps that are read: more than one per collection of the largest org, and some ten megabytes.
const RECORDED_MAX: usize = 100_000;

/// A gap as it is known.
#[derive(Clone, Debug)]
enum Known {
    Recorded(Box<GapRecord>),
    /// What follows from what was never read, or too long ago, and is in no book.
    Derived(GapKind, Scope),
    /// A user whom a row names and no list shows.
    UnseenUser(UserId),
}

impl Known {
    fn kind(&self) -> v1::GapKind {
        match self {
            Self::Recorded(record) => kind_to_proto(record.gap.kind),
            Self::Derived(kind, _) => kind_to_proto(*kind),
            Self::UnseenUser(_) => v1::GapKind::UnseenReference,
        }
    }

    fn state(&self) -> v1::GapState {
        match self {
            Self::Recorded(record) if !record.open => v1::GapState::Closed,
            Self::Recorded(_) | Self::Derived(..) | Self::UnseenUser(_) => v1::GapState::Open,
        }
    }
}

pub(crate) fn kind_to_proto(kind: GapKind) -> v1::GapKind {
    match kind {
        GapKind::Forbidden => v1::GapKind::Forbidden,
        GapKind::ScopeMissing => v1::GapKind::ScopeMissing,
        GapKind::Unauthorized => v1::GapKind::Unauthorized,
        GapKind::Held => v1::GapKind::Held,
        GapKind::ImplicitAssignment => v1::GapKind::ImplicitAssignment,
        GapKind::Failed => v1::GapKind::Failed,
        GapKind::LogLost => v1::GapKind::LogLost,
        GapKind::NotRead => v1::GapKind::NotRead,
        GapKind::EmptySuspect => v1::GapKind::EmptySuspect,
        GapKind::UnseenReference => v1::GapKind::UnseenReference,
        GapKind::CountMismatch => v1::GapKind::CountMismatch,
        GapKind::Stale => v1::GapKind::Stale,
    }
}

/// Filters of a request that have passed the door.
struct Filters<'a> {
    states: Vec<v1::GapState>,
    kinds: Vec<v1::GapKind>,
    ids: BTreeSet<&'a str>,
}

impl<'a> Filters<'a> {
    fn read(request: &'a v1::ListGapsRequest) -> Result<Self, Failure> {
        let found = request.gap_ids.len();
        if found > GAP_ID_FILTER_MAX {
            return Err(Failure::TooManyItems { field: "gap_ids", found, max: GAP_ID_FILTER_MAX });
        }
        if request.gap_ids.iter().any(|id| id.len() > ID_BYTES_MAX) {
            let detail = format!("an id is longer than {ID_BYTES_MAX} bytes");
            return Err(Failure::FieldInvalid { field: "gap_ids", detail });
        }
        Ok(Self {
            states: door::enumeration("states", &request.states)?,
            kinds: door::enumeration("kinds", &request.kinds)?,
            ids: request.gap_ids.iter().map(String::as_str).collect(),
        })
    }

    fn wants(&self, id: &str, gap: &Known) -> bool {
        (self.states.is_empty() || self.states.contains(&gap.state()))
            && (self.kinds.is_empty() || self.kinds.contains(&gap.kind()))
            && (self.ids.is_empty() || self.ids.contains(id))
    }
}

/// Answers the request.
pub(super) fn list_gaps(ask: &Ask<'_>, request: &v1::ListGapsRequest) -> Result<v1::ListGapsResponse, Failure> {
    let page_size = door::page_size(request.page_size)?;
    let filters = Filters::read(request)?;
    let binding = bind(ask, Paged::Gaps, request);
    let token = read_token(ask, &request.page_token, &binding)?;
    let start = began(ask, token.as_ref());
    let after = match token {
        Some(token) => {
            String::from_utf8(token.position).map_err(|_| Failure::PageTokenInvalid { detail: "it is malformed" })?
        }
        None => String::new(),
    };
    let org_gaps = ask.wide_gaps(Wide::Org)?;
    let mut gaps: BTreeMap<String, Known> = BTreeMap::new();
    for record in ask.snapshot.gaps(false, RECORDED_MAX)? {
        gaps.insert(record.gap.id().as_str().to_owned(), Known::Recorded(Box::new(record)));
    }
    for id in org_gaps.to_ids() {
        let Some((kind, scope)) = derived_gap(&id) else { continue };
        let is_open = matches!(gaps.get(&id), Some(Known::Recorded(record)) if record.open);
        if !is_open {
            gaps.insert(id, Known::Derived(kind, scope));
        }
    }
    for user in filters.ids.iter().filter_map(|id| unseen_user_of(id)) {
        let is_open = matches!(gaps.get(&unseen_user_gap_id(&user)), Some(Known::Recorded(record)) if record.open);
        if !is_open && ask.snapshot.user(&user)?.is_none() && ask.is_named(&user)? {
            gaps.insert(unseen_user_gap_id(&user), Known::UnseenUser(user));
        }
    }
    let mut wanted = gaps.iter().filter(|(id, gap)| **id > after && filters.wants(id, gap));
    let page: Vec<(&String, &Known)> = wanted.by_ref().take(page_size).collect();
    let has_more = wanted.next().is_some();
    let meta = ask.meta(&org_gaps);
    let held = HeldCounts::default();
    fitting(page_size, |limit| {
        let shown = &page[..page.len().min(limit)];
        let gaps = shown.iter().map(|(id, gap)| to_proto(ask, &held, id, gap)).collect::<Result<Vec<_>, Failure>>()?;
        let next_page_token = match shown.last() {
            Some((id, _)) if has_more || shown.len() < page.len() => {
                PageToken { start, position: id.as_bytes().to_vec() }.encode(&binding)
            }
            _ => String::new(),
        };
        Ok(v1::ListGapsResponse { meta: Some(meta.clone()), next_page_token, gaps })
    })
}

/// How many rows are missing of each held collection by now, which is what a release has to name; found when it is first
/// asked for, since it costs a look at all rows of these.
#[derive(Default)]
struct HeldCounts(OnceCell<BTreeMap<Scope, u64>>);

impl HeldCounts {
    fn missing(&self, ask: &Ask<'_>, scope: &Scope) -> Result<Option<u64>, Failure> {
        let counts = match self.0.get() {
            Some(counts) => counts,
            None => {
                let held = ask.snapshot.held()?;
                self.0.get_or_init(|| held.into_iter().map(|(scope, missing, _)| (scope, missing)).collect())
            }
        };
        Ok(counts.get(scope).copied())
    }
}

/// A gap of which there is no record any more: what its id says, closed. `None` for an id that names no gap.
pub(in crate::serve) fn forgotten_gap(ask: &Ask<'_>, id: &str) -> Option<v1::Gap> {
    let (kind, scope) = GapId::parse(id)?;
    Some(v1::Gap {
        id: id.to_owned(),
        org: ask.view.name().to_owned(),
        scope: Some(scope_to_proto(&scope)),
        kind: kind_to_proto(kind).into(),
        state: v1::GapState::Closed.into(),
        hides: bounded(hides(&scope, kind)),
        remedy: bounded(remedy(&scope, kind)),
        ..v1::Gap::default()
    })
}

/// Recorded gaps by id, as they are now; ids without a record are left out.
pub(in crate::serve) fn gaps_by_id(ask: &Ask<'_>, ids: &BTreeSet<&str>) -> Result<BTreeMap<String, v1::Gap>, Failure> {
    let mut gaps = BTreeMap::new();
    let held = HeldCounts::default();
    for record in ask.snapshot.gaps(false, RECORDED_MAX)? {
        let id = record.gap.id().as_str().to_owned();
        if ids.contains(id.as_str()) {
            let shown = to_proto(ask, &held, &id, &Known::Recorded(Box::new(record)))?;
            gaps.insert(id, shown);
        }
    }
    Ok(gaps)
}

/// What a gap is about that follows from what was not read.
fn derived_gap(id: &str) -> Option<(GapKind, Scope)> {
    GapId::parse(id).filter(|(kind, _)| matches!(kind, GapKind::NotRead | GapKind::Stale))
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

fn to_proto(ask: &Ask<'_>, held: &HeldCounts, id: &str, gap: &Known) -> Result<v1::Gap, Failure> {
    let mut shown = v1::Gap {
        id: id.to_owned(),
        org: ask.view.name().to_owned(),
        kind: gap.kind().into(),
        state: gap.state().into(),
        ..v1::Gap::default()
    };
    match gap {
        Known::Recorded(record) => {
            let scope = &record.gap.scope;
            shown.scope = Some(named_scope(ask, scope)?);
            shown.first_seen_at = Some(timestamp(record.first_seen));
            shown.last_seen_at = Some(timestamp(record.last_seen));
            shown.closed_at = record.closed_at.filter(|_| !record.open).map(timestamp);
            shown.observation_count = record.count;
            let seen = match record.gap.evidence.as_str() {
                "" => String::new(),
                evidence => format!(" (seen: {evidence})"),
            };
            shown.hides = bounded(format!("{}{seen}", hides(scope, record.gap.kind)));
            shown.remedy = bounded(remedy_of(&record.gap));
            shown.evidence = evidence(ask, held, record)?;
        }
        Known::Derived(kind, scope) => {
            shown.scope = Some(named_scope(ask, scope)?);
            shown.hides = bounded(hides(scope, *kind));
            shown.remedy = bounded(remedy(scope, *kind));
            if *kind == GapKind::Stale {
                shown.evidence = Some(Evidence::Age(age_evidence(ask, scope)));
            }
        }
        Known::UnseenUser(user) => {
            shown.scope = Some(scope_to_proto(&Scope::Users));
            let scope = Scope::User(user.clone());
            shown.hides = bounded(hides(&scope, GapKind::UnseenReference));
            shown.remedy = bounded(remedy(&scope, GapKind::UnseenReference));
            shown.evidence = reference_evidence(ask, &scope)?.map(Evidence::Reference);
        }
    }
    Ok(shown)
}

/// What is named, and by which rows that are stored: if by none, by the log or an earlier list.
fn reference_evidence(ask: &Ask<'_>, scope: &Scope) -> Result<Option<v1::ReferenceEvidence>, Failure> {
    use v1::row_key::Key;
    let (key, named_in) = match scope {
        Scope::User(user) => {
            let account = ask.snapshot.accounts(user, None, 1)?.rows.into_iter().next();
            let named_in = match account {
                Some(account) => Some(Scope::AppUsers(account.app)),
                None => {
                    let group = ask.snapshot.groups_of(user, None, 1)?.rows.into_iter().next();
                    group.map(|group| Scope::GroupMembers(group.id))
                }
            };
            (Key::UserId(user.as_str().to_owned()), named_in)
        }
        Scope::Group(group) => (Key::GroupId(group.as_str().to_owned()), None),
        Scope::App(app) => (Key::AppId(app.as_str().to_owned()), None),
        _ => return Ok(None),
    };
    let named_in = named_in.map(|scope| named_scope(ask, &scope)).transpose()?;
    Ok(Some(v1::ReferenceEvidence { key: Some(v1::RowKey { key: Some(key) }), named_in }))
}

fn age_evidence(ask: &Ask<'_>, scope: &Scope) -> v1::AgeEvidence {
    let fresh_at = match scope {
        Scope::Log => ask.observed_through(),
        _ => ask.completed_at(scope),
    };
    let limit = match scope {
        Scope::Log => ask.policy_of_coverage().log_stale_after_millis,
        _ => ask.policy_of_coverage().stale_after_millis,
    };
    let stale_since = fresh_at.zip(limit).map(|(at, limit)| at.plus_millis(limit));
    v1::AgeEvidence { fresh_at: fresh_at.map(timestamp), stale_since: stale_since.map(timestamp) }
}

/// The scope with the name of its group or the label of its app.
pub(super) fn named_scope(ask: &Ask<'_>, scope: &Scope) -> Result<v1::Scope, Failure> {
    let resource_name = match scope {
        Scope::GroupMembers(group) => ask.snapshot.group(group)?.map(|group| group.name.to_string()),
        Scope::AppUsers(app) | Scope::AppGroups(app) => ask.snapshot.app(app)?.map(|app| app.label.to_string()),
        // The scope of these is the collection; the evidence names the object.
        Scope::User(_) | Scope::Group(_) | Scope::App(_) => None,
        Scope::Users | Scope::Groups | Scope::Apps | Scope::Log => None,
    };
    Ok(v1::Scope { resource_name: resource_name.unwrap_or_default(), ..scope_to_proto(scope) })
}

/// What the API says of the evidence in numbers; its wording stands in `hides`.
fn evidence(ask: &Ask<'_>, held: &HeldCounts, record: &GapRecord) -> Result<Option<Evidence>, Failure> {
    let scope = &record.gap.scope;
    let text = record.gap.evidence.as_str();
    Ok(match record.gap.kind {
        GapKind::Forbidden | GapKind::ScopeMissing | GapKind::Unauthorized | GapKind::Failed | GapKind::LogLost => {
            Some(Evidence::Http(http_evidence(scope, record.gap.kind, text)))
        }
        GapKind::EmptySuspect => {
            // Of a list that came empty, and whose rows are held, what has not been shown since.
            let expected_row_count = match held.missing(ask, scope)? {
                Some(missing) => missing,
                None => ask.snapshot.rows_in(scope)?,
            };
            Some(Evidence::Counts(v1::CountEvidence { expected_row_count, seen_row_count: 0 }))
        }
        GapKind::Held => {
            if let Some(missing_row_count) = held.missing(ask, scope)? {
                let stored_row_count = ask.snapshot.rows_in(scope)?;
                let hold = v1::HoldEvidence { stored_row_count, missing_row_count, ..v1::HoldEvidence::default() };
                return Ok(Some(Evidence::Hold(hold)));
            }
            // Over: what it was about, as far as the wording tells.
            let (missing_row_count, stored_row_count) = two_numbers(text);
            Some(Evidence::Hold(v1::HoldEvidence {
                stored_row_count,
                missing_row_count,
                ..v1::HoldEvidence::default()
            }))
        }
        GapKind::CountMismatch => {
            let (expected_row_count, seen_row_count) = two_numbers(text);
            Some(Evidence::Counts(v1::CountEvidence { expected_row_count, seen_row_count }))
        }
        GapKind::UnseenReference => reference_evidence(ask, scope)?.map(Evidence::Reference),
        GapKind::Stale => Some(Evidence::Age(age_evidence(ask, scope))),
        GapKind::ImplicitAssignment | GapKind::NotRead => None,
    })
}

/// The first two numbers of a wording.
fn two_numbers(text: &str) -> (u64, u64) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

fn http_evidence(scope: &Scope, kind: GapKind, text: &str) -> v1::HttpEvidence {
    let (endpoint, permission) = match scope {
        Scope::Users => ("/api/v1/users", "okta.users.read"),
        Scope::Groups => ("/api/v1/groups", "okta.groups.read"),
        Scope::Apps => ("/api/v1/apps", "okta.apps.read"),
        Scope::GroupMembers(_) => ("/api/v1/groups/{groupId}/users", "okta.groups.read"),
        Scope::AppUsers(_) => ("/api/v1/apps/{appId}/users", "okta.apps.read"),
        Scope::AppGroups(_) => ("/api/v1/apps/{appId}/groups", "okta.apps.read"),
        Scope::Log => ("/api/v1/logs", ""),
        Scope::User(_) => ("/api/v1/users/{userId}", "okta.users.read"),
        Scope::Group(_) => ("/api/v1/groups/{groupId}", "okta.groups.read"),
        Scope::App(_) => ("/api/v1/apps/{appId}", "okta.apps.read"),
    };
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_status =
        |word: &&str| word.len() == 3 && word.parse::<u32>().is_ok_and(|status| (100..600).contains(&status));
    // The address stands before the answer, and may hold numbers of its own.
    let answer = text.split_once(": ").map_or(text, |(_, answer)| answer);
    let mut numbers = answer.split(|c: char| !c.is_ascii_alphanumeric());
    let http_status = numbers.find(is_status).and_then(|word| word.parse().ok()).unwrap_or_default();
    let is_code = |word: &&str| {
        word.strip_prefix('E').is_some_and(|digits| digits.len() == 7 && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let okta_error_code = words.find(is_code).unwrap_or_default().to_owned();
    let scope_named = missing_oauth_scope(text).filter(|_| kind == GapKind::ScopeMissing);
    let missing_oauth_scope = scope_named.unwrap_or_default().to_owned();
    let request_id = text.rsplit_once("(request id ").and_then(|(_, rest)| rest.split_once(')'));
    let okta_request_id = request_id.map(|(id, _)| id.to_owned()).unwrap_or_default();
    let unreadable = text.split_once("could not be read: ").and_then(|(_, rest)| rest.split(' ').next());
    let quarantined_count = unreadable.and_then(|count| count.parse().ok()).unwrap_or_default();
    let missing_permission = if kind == GapKind::Forbidden { permission.to_owned() } else { String::new() };
    v1::HttpEvidence {
        http_status,
        okta_error_code,
        endpoint: endpoint.to_owned(),
        missing_permission,
        missing_oauth_scope,
        okta_request_id,
        quarantined_count,
    }
}

/// How many gaps there are of each kind, in the order of the kinds.
pub(super) fn count_by_kind(ids: &[String]) -> Vec<v1::GapCount> {
    let mut counts: BTreeMap<i32, u32> = BTreeMap::new();
    for id in ids {
        let kind = id.split_once(':').and_then(|(kind, _)| GapKind::parse(kind));
        if let Some(kind) = kind {
            *counts.entry(kind_to_proto(kind).into()).or_default() += 1;
        }
    }
    counts.into_iter().map(|(kind, gap_count)| v1::GapCount { kind, gap_count }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: GapKind, text: &str, expected: (u32, &str, &str, &str)) {
        let scope = Scope::Groups;
        let found = http_evidence(&scope, kind, text);
        assert_eq!(
            (
                found.http_status,
                found.okta_error_code.as_str(),
                found.missing_permission.as_str(),
                found.missing_oauth_scope.as_str()
            ),
            expected
        );
    }

    #[test]
    fn evidence_is_read_from_its_wording() {
        check(GapKind::Forbidden, "GET /api/v1/groups: 403 E0000006", (403, "E0000006", "okta.groups.read", ""));
        check(
            GapKind::ScopeMissing,
            "GET /api/v1/groups: 403; missing OAuth scope okta.groups.read",
            (403, "", "", "okta.groups.read"),
        );
        check(GapKind::Failed, "GET http://127.0.0.1:443/api/v1/users/500: 503 E0000010", (503, "E0000010", "", ""));
        check(GapKind::Failed, "no answer within 30000 ms", (0, "", "", ""));
        check(GapKind::Failed, "", (0, "", "", ""));
    }

    #[test]
    fn gaps_are_counted_by_kind() {
        let ids = ["NOT_READ:users", "FORBIDDEN:apps", "NOT_READ:apps", "odd"].map(str::to_owned);
        let counts = count_by_kind(&ids).into_iter().map(|count| (count.kind(), count.gap_count));
        assert_eq!(counts.collect::<Vec<_>>(), [(v1::GapKind::Forbidden, 1), (v1::GapKind::NotRead, 2)]);
    }

    #[test]
    fn only_what_was_not_read_is_derived() {
        assert_eq!(derived_gap("NOT_READ:users"), Some((GapKind::NotRead, Scope::Users)));
        assert_eq!(derived_gap("STALE:log"), Some((GapKind::Stale, Scope::Log)));
        assert_eq!(derived_gap("FORBIDDEN:users"), None);
        assert_eq!(derived_gap("NOT_READ:nonsense"), None);
        assert_eq!(GapId::of(GapKind::NotRead, &Scope::Users).as_str(), "NOT_READ:users");
    }
}

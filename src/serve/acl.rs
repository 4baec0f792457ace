//! `Lookup.ResolveAcl` and `Lookup.ExpandUser`: the principals of documents and of people.
//!
//! Entry points: [`resolve_acl`]; [`expand_user`], and [`expand_user_whole`] for users in very many groups.
//!
//! Invariants:
//! - Nothing is decided here: verdicts and principals are those of [`crate::core::acl`], by one encoder.
//! - Nothing is read but [`Facts`]: a client's copy gives the same answers by the same code.
//! - What the policy keeps back is in neither answer.

use okta_idmap_proto::limits::{
    BATCH_ITEMS_MAX, ITEM_GAP_IDS_MAX, RESPONSE_BYTES_MAX, USER_PRINCIPALS_MAX, USER_WAYS_MAX,
};
use okta_idmap_proto::v1::{self, acl_entry, app_group_selector, unresolved_acl_entry::Reason};
use prost::Message as _;

use super::apps::AppQuery;
use super::door;
use super::errors::Failure;
use super::facts::Facts;
use super::gaps::Gaps;
use super::resolution::{AccountQuery, Wanted, app_gaps, resolve_by_facts};
use super::rows::{Shower, app_ref, group_ref};
use super::subjects::{UserQuery, find_user};
use crate::core::acl::{GroupInput, GroupOutcome, Verdict, Way, decide_group, expand, index};
use crate::core::ids::{AppId, GroupId, UserId};
use crate::core::model::{App, Group, Scope, User};
use crate::core::principal::ENCODER_VERSION;
use crate::core::resolve::AppSelection;
use crate::store::WayOf;

/// Groups of one name that are looked at: with a second one, it is nobody's.
const NAMESAKES_MAX: usize = 2;

/// What one entry comes to.
struct Entry {
    /// Whether nobody else can be meant.
    is_sure: bool,
    verdict: Verdict,
    reason: Reason,
    gaps: Gaps,
}

/// Refuses lists that are too long.
pub(super) fn check_entries(request: &v1::ResolveAclRequest) -> Result<(), Failure> {
    match request.entries.len() {
        found if found > BATCH_ITEMS_MAX => {
            Err(Failure::TooManyItems { field: "entries", found, max: BATCH_ITEMS_MAX })
        }
        _ => Ok(()),
    }
}

/// `Lookup.ResolveAcl`.
pub(crate) fn resolve_acl<F: Facts>(
    ask: &F,
    request: &v1::ResolveAclRequest,
) -> Result<v1::ResolveAclResponse, F::Error> {
    check_entries(request)?;
    let encoder = ask.encoder()?;
    let mut gaps = Gaps::default();
    let mut verdicts = Vec::with_capacity(request.entries.len());
    let mut is_sure = true;
    let mut unresolved = Vec::new();
    let mut bytes = 0;
    for (entry_index, entry) in (0..).zip(&request.entries) {
        // What is wrong with one entry is its own; what is wrong with the store is everybody's.
        let (verdict, reason) = match EntryQuery::read(entry) {
            Ok(query) => {
                let entry = resolve_entry(ask, &query)?;
                gaps.merge(entry.gaps);
                is_sure &= entry.is_sure;
                (entry.verdict, entry.reason)
            }
            Err(failure) => (Verdict::Doubt, Reason::Error(failure.item())),
        };
        if verdict.principal().is_none() {
            let entry = v1::UnresolvedAclEntry { entry_index, reason: Some(reason) };
            bytes += entry.encoded_len();
            unresolved.push(entry);
        }
        if bytes > RESPONSE_BYTES_MAX {
            return Err(Failure::ResponseTooLarge.into());
        }
        verdicts.push(verdict);
    }
    let indexed = index(&encoder, &verdicts, is_sure);
    let response = v1::ResolveAclResponse {
        meta: Some(ask.meta(&gaps)),
        principals: indexed.principals,
        encoder_version: ENCODER_VERSION,
        deny_all: indexed.deny_all,
        unresolved,
        safe_to_index: indexed.safe_to_index,
    };
    if response.encoded_len() > RESPONSE_BYTES_MAX { Err(Failure::ResponseTooLarge.into()) } else { Ok(response) }
}

/// An entry that has passed the door.
enum EntryQuery<'a> {
    Account(AccountQuery<'a>),
    Group(AppQuery<'a>, GroupQuery<'a>),
}

/// How a group is named.
enum GroupQuery<'a> {
    Id(GroupId),
    Name(&'a str),
}

impl<'a> EntryQuery<'a> {
    fn read(entry: &'a v1::AclEntry) -> Result<Self, Failure> {
        use app_group_selector::Selector;
        match &entry.principal {
            None => Err(Failure::FieldMissing { field: "entries.principal" }),
            Some(acl_entry::Principal::Account(account)) => Ok(Self::Account(AccountQuery::read(Some(account))?)),
            Some(acl_entry::Principal::AppGroup(selector)) => {
                let app = AppQuery::read("app_group.app", selector.app.as_ref())?;
                let group = match &selector.selector {
                    None => return Err(Failure::FieldMissing { field: "app_group.selector" }),
                    Some(Selector::GroupId(id)) => GroupQuery::Id(door::group_id("app_group.group_id", id)?),
                    Some(Selector::Name(name)) => GroupQuery::Name(door::needed_text("app_group.name", name)?),
                };
                Ok(Self::Group(app, group))
            }
        }
    }
}

fn resolve_entry<F: Facts>(ask: &F, query: &EntryQuery<'_>) -> Result<Entry, F::Error> {
    match query {
        EntryQuery::Account(query) => {
            let wanted = Wanted { gap_ids_max: ITEM_GAP_IDS_MAX, ..Wanted::default() };
            let resolved = resolve_by_facts(ask, query, wanted)?;
            let reason = Reason::Resolution(resolved.resolution);
            Ok(Entry { is_sure: resolved.gaps.is_empty(), verdict: resolved.verdict, reason, gaps: resolved.gaps })
        }
        EntryQuery::Group(app, group) => resolve_group(ask, app, group),
    }
}

fn resolve_group<F: Facts>(ask: &F, app_query: &AppQuery<'_>, query: &GroupQuery<'_>) -> Result<Entry, F::Error> {
    let app = match app_query.select(ask.apps()?) {
        AppSelection::One(app) => app,
        selection => return Ok(without_app(ask, &selection)),
    };
    let mut gaps = app_gaps(ask, app_query, app);
    let (groups, is_filtered) = match query {
        GroupQuery::Id(id) => group_by_id(ask, app, id, &mut gaps)?,
        GroupQuery::Name(name) => {
            gaps.merge(ask.gaps(&[Scope::Groups, Scope::AppGroups(app.id.clone())]));
            // It may have this very name.
            if let Some(unseen) = ask.unseen_group_of(&app.id)? {
                gaps.add_unseen_group(&unseen);
            }
            (ask.groups_named(&app.id, name, NAMESAKES_MAX)?, false)
        }
    };
    let is_withheld = groups.iter().any(|group| {
        let is_imported = group.source_app.as_ref() == Some(&app.id);
        is_group_withheld(ask, &app.id, &group.id, is_imported)
    });
    let is_complete = gaps.is_empty();
    let policy = ask.policy();
    let outcome = decide_group(&GroupInput { app, groups: &groups, is_withheld, is_filtered, is_complete, policy });
    let verdict = Verdict::of_group(app, outcome, is_complete);
    let (outcome, group) = group_outcome_to_proto(outcome);
    let shown = v1::GroupResolution {
        outcome: outcome.into(),
        app: Some(app_ref(app)),
        group: group.map(group_ref),
        ..v1::GroupResolution::default()
    };
    let mut entry = group_entry(verdict, shown, gaps);
    entry.is_sure |= matches!(query, GroupQuery::Id(_));
    Ok(entry)
}

/// The group with an id, if it is one of the app, and whether the filter is known to keep it out.
fn group_by_id<F: Facts>(ask: &F, app: &App, id: &GroupId, gaps: &mut Gaps) -> Result<(Vec<Group>, bool), F::Error> {
    gaps.merge(ask.gaps_of_known(&[Scope::Groups, Scope::Group(id.clone()), Scope::AppGroups(app.id.clone())]));
    let belongs = ask.is_group_of_app(&app.id, id)?;
    let Some(group) = ask.group(id)? else {
        if belongs.is_assigned {
            gaps.add_unseen_group(id);
        }
        return Ok((Vec::new(), ask.is_filtered_group(id)?));
    };
    let is_of_app = belongs.is_assigned || belongs.is_imported;
    Ok((if is_of_app { vec![group] } else { Vec::new() }, false))
}

/// Whether the policy keeps back what makes the group one of the app. An imported group is one by its own row.
fn is_group_withheld(ask: &impl Facts, app: &AppId, group: &GroupId, is_imported: bool) -> bool {
    if is_imported { ask.withholds_app(app) || ask.withholds_group(group) } else { ask.withholds_app_group(app, group) }
}

/// The selector means no app, or several.
fn without_app(ask: &impl Facts, selection: &AppSelection<'_>) -> Entry {
    let outcome = match selection {
        AppSelection::Many(_) => v1::ResolutionOutcome::AmbiguousApp,
        AppSelection::None | AppSelection::One(_) => v1::ResolutionOutcome::UnknownApp,
    };
    let shown = v1::GroupResolution { outcome: outcome.into(), ..v1::GroupResolution::default() };
    group_entry(Verdict::Doubt, shown, ask.gaps(&[Scope::Apps]))
}

fn group_entry(verdict: Verdict, mut shown: v1::GroupResolution, gaps: Gaps) -> Entry {
    let (completeness, gap_ids, gap_count) = gaps.shown(ITEM_GAP_IDS_MAX);
    shown.completeness = completeness.into();
    shown.gap_ids = gap_ids;
    shown.gap_count = gap_count;
    Entry { is_sure: gaps.is_empty(), verdict, reason: Reason::GroupResolution(shown), gaps }
}

fn group_outcome_to_proto(outcome: GroupOutcome<'_>) -> (v1::ResolutionOutcome, Option<&Group>) {
    use v1::ResolutionOutcome as Shown;
    match outcome {
        GroupOutcome::Resolved(group) => (Shown::Resolved, Some(group)),
        GroupOutcome::Inactive(group) => (Shown::Inactive, Some(group)),
        GroupOutcome::Ambiguous => (Shown::Ambiguous, None),
        GroupOutcome::Shared => (Shown::Shared, None),
        GroupOutcome::Filtered => (Shown::Filtered, None),
        GroupOutcome::NotFound => (Shown::NotFound, None),
        GroupOutcome::UnknownGap => (Shown::UnknownGap, None),
    }
}

/// `Lookup.ExpandUser`, within what the API allows.
pub(crate) fn expand_user_whole<F: Facts>(
    ask: &F,
    request: &v1::ExpandUserRequest,
) -> Result<v1::ExpandUserResponse, F::Error> {
    let too_many = || Failure::TooManyPrincipals { what: "pairs of a group and an app", max: USER_WAYS_MAX };
    Ok(expand_user(ask, request, USER_WAYS_MAX)?.ok_or_else(too_many)?)
}

/// `Lookup.ExpandUser`; `None` when there are more than `ways_max` pairs of a group and an app to look at.
pub(super) fn expand_user<F: Facts>(
    ask: &F,
    request: &v1::ExpandUserRequest,
    ways_max: usize,
) -> Result<Option<v1::ExpandUserResponse>, F::Error> {
    let query = UserQuery::read(request.user.as_ref())?;
    let encoder = ask.encoder()?;
    let selected = find_user(ask, &query)?;
    let mut gaps = selected.gaps.clone();
    let rows = match selected.user.as_ref().filter(|user| ask.policy().user_grants(&user.status)) {
        // Whoever may see nothing has no groups that matter.
        None => Vec::new(),
        Some(User { id, .. }) => {
            gaps.merge(ask.gaps_of_known(&[Scope::User(id.clone())]));
            // All groups are gone through where the gaps are not known: not for point reads.
            if ways_max < USER_WAYS_MAX && !ask.knows_gaps_of_principals()? {
                return Ok(None);
            }
            gaps.merge(ask.gaps_of_principals()?);
            let rows = ask.ways_of(id, ways_max + 1)?;
            if rows.len() > ways_max {
                return Ok(None);
            }
            shown_ways(ask, id, rows)?
        }
    };
    let shared: Vec<&AppId> = ask.apps()?.iter().filter(|app| app.is_shared_account()).map(|app| &app.id).collect();
    let ways: Vec<Way<'_>> = rows.iter().map(|row| way(row, &shared)).collect();
    let expanded = expand(&encoder, selected.user.as_ref(), &ways, ask.policy());
    if expanded.principals.len() > USER_PRINCIPALS_MAX {
        return Err(Failure::TooManyPrincipals { what: "principals", max: USER_PRINCIPALS_MAX }.into());
    }
    Ok(Some(v1::ExpandUserResponse {
        meta: Some(ask.meta(&gaps)),
        user: Some(selected.to_proto(&Shower::new(ask))),
        principals: expanded.principals,
        encoder_version: ENCODER_VERSION,
        match_nothing: expanded.match_nothing,
    }))
}

fn way<'a>(row: &'a WayOf, shared: &[&AppId]) -> Way<'a> {
    let WayOf { app, app_status, group, app_user_status, is_imported: _ } = row;
    Way { app, app_status, is_shared: shared.contains(&app), app_user_status, group }
}

/// Those that the policy does not keep back.
fn shown_ways<F: Facts>(ask: &F, user: &UserId, rows: Vec<WayOf>) -> Result<Vec<WayOf>, F::Error> {
    if !ask.is_any_stale() {
        return Ok(rows);
    }
    let everyone = ask.everyone_group()?;
    let is_withheld = |row: &WayOf| {
        let members = match Some(&row.group) == everyone.as_ref() {
            true => Scope::Users,
            false => Scope::GroupMembers(row.group.clone()),
        };
        ask.withholds_member(&members, user)
            || ask.withholds_account(&row.app, user)
            || is_group_withheld(ask, &row.app, &row.group, row.is_imported)
    };
    Ok(rows.into_iter().filter(|row| !is_withheld(row)).collect())
}

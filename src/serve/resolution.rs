//! Who an account belongs to: rows out of the [`Facts`], the decision of [`crate::core::resolve`], and its wording.
//!
//! Entry points: [`AccountQuery::read`] at the door, [`resolve_account`] in the server, [`resolve_by_facts`] for whoever has
//! the facts.
//!
//! Invariants:
//! - Nothing is decided here: the outcome is that of the core.
//! - Gaps are asked for before rows are read, and a user whom no list shows is a gap of its own.

use okta_idmap_proto::limits::{CANDIDATES_MAX as SHOWN_MAX, GRANTING_GROUPS_MAX};
use okta_idmap_proto::v1;

use super::apps::AppQuery;
use super::ask::Ask;
use super::door;
use super::errors::Failure;
use super::facts::Facts;
use super::gaps::Gaps;
use super::rows::{self, Shower, app_ref, app_status, app_user_status, timestamp, user_ref, user_status};
use crate::core::acl::Verdict;
use crate::core::ids::UserId;
use crate::core::model::{App, AppUser, AppUserStatus, Scope, User};
use crate::core::normalize::Identifier;
use crate::core::overrides::OverrideRecord;
use crate::core::resolve::{
    AccountHolder, Ambiguity, AppSelection, AskedOf, CANDIDATES_MAX, Candidate, Completeness, Found, IdentifierKind,
    InactiveReason, NameField, Outcome, Override, Resolution, ResolveInput, Tier, WarningKind, asked_fields, resolve,
};
use crate::store::{AccountHit, HeldName};

/// Lines of the history of a name that are looked at, latest first. A name changes hands a few times in its life; those
/// who held it long ago do not matter to the quarantine.
const HISTORY_LINES_MAX: usize = 1_000;

/// An account selector that has passed the door.
#[derive(Clone, Debug)]
pub(crate) struct AccountQuery<'a> {
    pub(super) app: AppQuery<'a>,
    pub(super) identifier: Identifier<'a>,
    pub(super) kind: IdentifierKind,
}

impl<'a> AccountQuery<'a> {
    pub(crate) fn read(selector: Option<&'a v1::AccountSelector>) -> Result<Self, Failure> {
        let selector = selector.ok_or(Failure::FieldMissing { field: "account" })?;
        let app = AppQuery::read("account.app", selector.app.as_ref())?;
        let identifier = selector.identifier.as_ref().ok_or(Failure::FieldMissing { field: "account.identifier" })?;
        let kind = door::identifier_kind(identifier.kind)?;
        let identifier = door::identifier("account.identifier.value", &identifier.value)?;
        Ok(Self { app, identifier, kind })
    }
}

/// What a caller wants to see of a resolution beside the outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) candidates: bool,
    pub(crate) granting_groups: bool,
    /// Gap ids in the resolution at most.
    pub(crate) gap_ids_max: usize,
}

/// A resolution and what it leads to.
pub(crate) struct Resolved {
    pub(crate) resolution: v1::Resolution,
    pub(crate) gaps: Gaps,
    /// The one user, of RESOLVED and INACTIVE.
    pub(crate) user: Option<UserId>,
    /// What the account grants in an access list.
    pub(crate) verdict: Verdict,
}

/// A decision, and what it rests on.
pub(super) struct Decision<'a> {
    pub(super) input: &'a ResolveInput<'a>,
    /// Those of the input, with who set them and why.
    pub(super) overrides: &'a [OverrideRecord],
    pub(super) decided: Resolution<'a>,
    /// Whether it mattered if the filter keeps somebody of that name out.
    pub(super) is_filter_asked: bool,
    /// Those who share the key of the name.
    hits: usize,
    pub(super) gaps: Gaps,
}

/// Resolves one account.
pub(super) fn resolve_account(ask: &Ask<'_>, query: &AccountQuery<'_>, wanted: Wanted) -> Result<Resolved, Failure> {
    match query.app.select(ask.apps()?) {
        AppSelection::One(app) => decide(ask, query, app, |decision| show_decision(ask, decision, wanted)),
        selection => Ok(without_app(ask, &selection, wanted)),
    }
}

/// Resolves one account by facts from anywhere. Granting groups are not told.
pub(crate) fn resolve_by_facts<F: Facts>(
    facts: &F,
    query: &AccountQuery<'_>,
    wanted: Wanted,
) -> Result<Resolved, F::Error> {
    match query.app.select(facts.apps()?) {
        AppSelection::One(app) => decide(facts, query, app, |decision| {
            let Decision { decided, gaps, .. } = &decision;
            let user = shown_user(decided).map(|found| found.user_id.clone());
            let verdict = Verdict::of_account(decided, gaps.is_empty());
            let shown = show(facts, app, decided, wanted, decision.hits)?;
            Ok(finish(shown, decision.gaps, wanted, user, verdict))
        }),
        selection => Ok(without_app(facts, &selection, wanted)),
    }
}

/// Decides about an account of an app, and hands the decision on.
pub(super) fn decide<F: Facts, T>(
    ask: &F,
    query: &AccountQuery<'_>,
    app: &App,
    answer: impl FnOnce(Decision<'_>) -> Result<T, F::Error>,
) -> Result<T, F::Error> {
    let mut gaps = ask.gaps(&[Scope::Users, Scope::AppUsers(app.id.clone())]);
    gaps.merge(app_gaps(ask, &query.app, app));
    let key = query.identifier.lookup_key();
    let aliases = ask.policy().aliases_with_key(key);
    let records = ask.overrides_with_key(&app.id, key)?;
    let overrides: Vec<Override> = records.iter().map(|record| record.entry.clone()).collect();
    let hit = |user_id: &UserId| -> Result<AccountHit, F::Error> {
        Ok(AccountHit { user: ask.user(user_id)?, app_user: ask.app_user(&app.id, user_id)? })
    };
    // First, so that they are weighed however many share the name. Who is named by an override that is over is nobody.
    let now = ask.now();
    let by_override = overrides.iter().filter(|entry| now < entry.expires_at);
    let by_override = by_override.map(|entry| hit(&entry.user)).collect::<Result<Vec<_>, _>>()?;
    let asked_of = AskedOf::kind(query.kind, ask.policy());
    let of_name = ask.candidates(&app.id, key, asked_of, CANDIDATES_MAX + 1)?;
    let by_alias = aliases.iter().filter(|alias| alias.app == app.id).map(|alias| hit(&alias.user));
    let by_alias = by_alias.collect::<Result<Vec<_>, _>>()?;
    let hits: Vec<&AccountHit> = by_override.iter().chain(of_name.iter()).chain(&by_alias).collect();
    let history: Vec<AccountHolder> =
        ask.held_names(&app.id, key, HISTORY_LINES_MAX)?.into_iter().filter_map(holder).collect();
    let candidates: Vec<Candidate<'_>> = hits.iter().copied().filter_map(candidate).collect();
    let gap_ids = gaps.to_ids();
    let mut input = ResolveInput {
        app,
        identifier: query.identifier,
        kind: query.kind,
        candidates: &candidates,
        history: &history,
        aliases,
        overrides: &overrides,
        is_filtered: false,
        completeness: match gap_ids.as_slice() {
            [] => Completeness::Complete,
            ids => Completeness::Partial(ids),
        },
        policy: ask.policy(),
        now: ask.now(),
    };
    let mut decided = resolve(&input);
    let is_filter_asked = is_for_filter(&decided);
    if is_filter_asked && is_filtered(ask, app, query)? {
        input.is_filtered = true;
        decided = resolve(&input);
    }
    withhold(ask, app, &hits, &mut decided, &gap_ids);
    // Of whom only an override tells, no row speaks: there is nothing that is not shown.
    if let Some(Found { user_id, user: None, app_user: Some(_), .. }) = decided.found() {
        gaps.add_unseen_user(user_id);
    }
    answer(Decision { input: &input, overrides: &records, decided, is_filter_asked, hits: hits.len(), gaps })
}

/// The answer that a decision makes.
pub(super) fn show_decision(ask: &Ask<'_>, decision: Decision<'_>, wanted: Wanted) -> Result<Resolved, Failure> {
    let Decision { input: ResolveInput { app, .. }, decided, hits, mut gaps, .. } = decision;
    let granted = shown_user(&decided);
    let verdict = Verdict::of_account(&decided, gaps.is_empty());
    let mut shown = show(ask, app, &decided, wanted, hits)?;
    if let Some(found) = granted
        && found.app_user.is_some()
        && wanted.granting_groups
    {
        shown.granting_groups = Some(granting_groups(ask, app, found.user_id, &mut gaps)?);
    }
    let user = granted.map(|found| found.user_id.clone());
    Ok(finish(shown, gaps, wanted, user, verdict))
}

/// The gaps of the selection of an app. A label or name may be that of an app that is not shown as well; an id is not.
pub(super) fn app_gaps(ask: &impl Facts, query: &AppQuery<'_>, app: &App) -> Gaps {
    if query.is_id_of(app) {
        ask.gaps_of_known(&[Scope::Apps, Scope::App(app.id.clone())])
    } else {
        ask.gaps(&[Scope::Apps])
    }
}

/// Takes back what rests on rows that the policy keeps back. A refusal stays one: without the rows it would be weaker. Whom they
/// name is left out where it is shown.
fn withhold<'a>(
    ask: &impl Facts,
    app: &App,
    hits: &[&AccountHit],
    decided: &mut Resolution<'a>,
    gap_ids: &'a [String],
) {
    let user_of = |hit: &AccountHit| {
        let of_account = hit.app_user.as_ref().map(|row| row.user.clone());
        of_account.or_else(|| hit.user.as_ref().map(|user| user.id.clone()))
    };
    let rests_on_rows =
        matches!(decided.outcome, Outcome::Resolved(_) | Outcome::Inactive { .. } | Outcome::Reused { .. });
    if rests_on_rows && hits.iter().copied().filter_map(user_of).any(|user| ask.withholds_account(&app.id, &user)) {
        decided.outcome = Outcome::UnknownGap { gap_ids };
    }
}

/// Whether the filter has a say: where nobody who is stored has the name as one of their own. Somebody who is stored is not
/// filtered.
fn is_for_filter(decided: &Resolution<'_>) -> bool {
    match decided.tier() {
        None => matches!(decided.outcome, Outcome::NotFound | Outcome::UnknownGap { .. }),
        Some(tier) => matches!(tier, Tier::Alias | Tier::SecondEmail),
    }
}

/// Whether the name is known to be that of somebody whom the filter keeps out.
fn is_filtered<F: Facts>(ask: &F, app: &App, query: &AccountQuery<'_>) -> Result<bool, F::Error> {
    let fields = asked_fields(query.kind, ask.policy().name_rule(app), ask.policy());
    ask.is_filtered_name(Some(app), query.identifier, &fields)
}

fn finish(mut shown: v1::Resolution, gaps: Gaps, wanted: Wanted, user: Option<UserId>, verdict: Verdict) -> Resolved {
    let (completeness, gap_ids, gap_count) = gaps.shown(wanted.gap_ids_max);
    shown.completeness = completeness.into();
    shown.gap_ids = gap_ids;
    shown.gap_count = gap_count;
    Resolved { resolution: shown, gaps, user, verdict }
}

/// The selector means no app, or several.
pub(super) fn without_app(ask: &impl Facts, selection: &AppSelection<'_>, wanted: Wanted) -> Resolved {
    let gaps = ask.gaps(&[Scope::Apps]);
    let mut shown = v1::Resolution::default();
    match selection {
        AppSelection::Many(apps) => {
            shown.outcome = v1::ResolutionOutcome::AmbiguousApp.into();
            shown.app_candidate_count = count(apps.len());
            if wanted.candidates {
                shown.app_candidates = apps.iter().take(SHOWN_MAX).map(|app| app_ref(app)).collect();
            }
        }
        AppSelection::None | AppSelection::One(_) => shown.outcome = v1::ResolutionOutcome::UnknownApp.into(),
    }
    finish(shown, gaps, wanted, None, Verdict::Doubt)
}

pub(super) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn candidate(hit: &AccountHit) -> Option<Candidate<'_>> {
    match (&hit.user, &hit.app_user) {
        (Some(user), app_user) => Some(Candidate::Known { user, app_user: app_user.as_ref() }),
        (None, Some(app_user)) => Some(Candidate::Unseen { app_user }),
        // A key without its rows: an alias that names nobody.
        (None, None) => None,
    }
}

fn holder(held: HeldName) -> Option<AccountHolder> {
    let field = match (held.kind.as_str(), held.of_okta) {
        ("external_id", false) => NameField::ExternalId,
        ("user_name", false) => NameField::UserName,
        ("email", false) => NameField::AppEmail,
        ("login", true) => NameField::Login,
        ("email", true) => NameField::PrimaryEmail,
        ("second_email", true) => NameField::SecondEmail,
        _ => return None,
    };
    Some(AccountHolder { user: held.user, field, name: held.name.into(), released_at: held.released_at })
}

/// The user that the API shows: of RESOLVED and INACTIVE only, so that nobody is granted by overlooking the outcome.
fn shown_user<'a>(decided: &Resolution<'a>) -> Option<Found<'a>> {
    match &decided.outcome {
        Outcome::Resolved(found) | Outcome::Inactive { found, .. } => Some(*found),
        Outcome::Ambiguous(_)
        | Outcome::Shared { .. }
        | Outcome::Reused { .. }
        | Outcome::Filtered
        | Outcome::NotFound
        | Outcome::UnknownGap { .. }
        | Outcome::UnknownApp
        | Outcome::AmbiguousApp { .. } => None,
    }
}

fn outcome_to_proto(outcome: &Outcome<'_>) -> v1::ResolutionOutcome {
    match outcome {
        Outcome::Resolved(_) => v1::ResolutionOutcome::Resolved,
        Outcome::Ambiguous(_) => v1::ResolutionOutcome::Ambiguous,
        Outcome::Inactive { .. } => v1::ResolutionOutcome::Inactive,
        Outcome::Shared { .. } => v1::ResolutionOutcome::Shared,
        Outcome::Reused { .. } => v1::ResolutionOutcome::Reused,
        Outcome::Filtered => v1::ResolutionOutcome::Filtered,
        Outcome::NotFound => v1::ResolutionOutcome::NotFound,
        Outcome::UnknownGap { .. } => v1::ResolutionOutcome::UnknownGap,
        Outcome::UnknownApp => v1::ResolutionOutcome::UnknownApp,
        Outcome::AmbiguousApp { .. } => v1::ResolutionOutcome::AmbiguousApp,
    }
}

pub(super) fn tier_to_proto(tier: Tier) -> v1::MatchTier {
    match tier {
        Tier::ExternalId => v1::MatchTier::ExternalId,
        Tier::UserNameExact => v1::MatchTier::UserNameExact,
        Tier::UserNameNormalized => v1::MatchTier::UserNameNormalized,
        Tier::Email => v1::MatchTier::Email,
        Tier::Alias => v1::MatchTier::Alias,
        Tier::SecondEmail => v1::MatchTier::SecondEmail,
        Tier::Override => v1::MatchTier::OperatorOverride,
    }
}

fn show<F: Facts>(
    ask: &F,
    app: &App,
    decided: &Resolution<'_>,
    wanted: Wanted,
    hits: usize,
) -> Result<v1::Resolution, F::Error> {
    let shower = Shower::new(ask);
    let mut shown = v1::Resolution {
        outcome: outcome_to_proto(&decided.outcome).into(),
        app: Some(app_ref(app)),
        tier: decided.tier().map_or(v1::MatchTier::Unspecified, tier_to_proto).into(),
        warnings: warnings(decided, &shower, app),
        ..v1::Resolution::default()
    };
    if let Some(found) = shown_user(decided) {
        shown.user = Some(found.user.map_or_else(|| rows::unseen_user_ref(found.user_id), user_ref));
        shown.app_user = found.app_user.map(|row| shower.app_user(row));
    }
    match &decided.outcome {
        Outcome::Inactive { reasons, .. } => shown.inactive_reasons = reasons.iter().map(inactive_reason).collect(),
        Outcome::Shared { user_name } => shown.shared_user_name = user_name.unwrap_or_default().to_owned(),
        Outcome::Reused { found, holders } => shown.holders = holders_to_proto(ask, app, found, holders)?,
        Outcome::Ambiguous(ambiguity) => {
            let counted = decided.candidates.iter().filter(|candidate| candidate.is_counted);
            shown.candidate_count = match ambiguity {
                Ambiguity::TooMany => count(hits),
                Ambiguity::SharedName(_) | Ambiguity::Conflict(_) => count(counted.clone().count()),
            };
            if wanted.candidates {
                let listed = counted.filter(|candidate| !ask.withholds_account(&app.id, candidate.user_id));
                for candidate in listed.take(SHOWN_MAX) {
                    let user = ask.user(candidate.user_id)?;
                    shown.candidates.push(v1::Candidate {
                        user: Some(user_or_id(user.as_ref(), candidate.user_id)),
                        app_user: candidate.app_user.map(|row| shower.app_user(row)),
                        tier: candidate.tiers.best().map_or(v1::MatchTier::Unspecified, tier_to_proto).into(),
                    });
                }
            }
        }
        Outcome::Resolved(_)
        | Outcome::Filtered
        | Outcome::NotFound
        | Outcome::UnknownGap { .. }
        | Outcome::UnknownApp
        | Outcome::AmbiguousApp { .. } => {}
    }
    Ok(shown)
}

pub(super) fn user_or_id(user: Option<&User>, id: &UserId) -> v1::UserRef {
    user.map_or_else(|| rows::unseen_user_ref(id), user_ref)
}

fn warnings<F: Facts>(decided: &Resolution<'_>, shower: &Shower<'_, F>, app: &App) -> Vec<i32> {
    let mut warnings: Vec<i32> = decided
        .warnings
        .iter()
        .map(|warning| match warning.kind {
            WarningKind::CaseDiffers => v1::ResolutionWarning::CaseDiffers.into(),
            WarningKind::NfkcDiffers => v1::ResolutionWarning::NfkcDiffers.into(),
        })
        .collect();
    let rests_on_stale_row = decided.found().is_some_and(|found| {
        let (user, app_id) = (found.user_id, app.id.as_str());
        shower.is_stale(user.as_str(), || Scope::Users)
            || shower.is_stale(app_id, || Scope::Apps)
            || shower.is_stale(app_id, || Scope::App(app.id.clone()))
            || shower.is_stale(user.as_str(), || Scope::User(user.clone()))
            || shower.is_stale(user.as_str(), || Scope::AppUsers(app.id.clone()))
    });
    if rests_on_stale_row {
        warnings.push(v1::ResolutionWarning::Stale.into());
    }
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

pub(super) fn inactive_reason(reason: &InactiveReason<'_>) -> v1::InactiveReason {
    use v1::inactive_reason::Inactive;
    let (inactive, status_raw) = match reason {
        InactiveReason::UserUnseen => (Inactive::UserStatus(v1::UserStatus::Unspecified.into()), String::new()),
        InactiveReason::User(status) => {
            let (status, raw) = user_status(status);
            (Inactive::UserStatus(status.into()), raw)
        }
        InactiveReason::NotAssigned => {
            let (status, raw) = app_user_status(&AppUserStatus::Unassigned);
            (Inactive::AppUserStatus(status.into()), raw)
        }
        InactiveReason::AppUser(status) => {
            let (status, raw) = app_user_status(status);
            (Inactive::AppUserStatus(status.into()), raw)
        }
        InactiveReason::App(status) => {
            let (status, raw) = app_status(status);
            (Inactive::AppStatus(status.into()), raw)
        }
    };
    v1::InactiveReason { inactive: Some(inactive), status_raw }
}

/// Every reason why a member has no access, in the order user, app user, app; empty: access.
pub(super) fn inactive_reasons(
    ask: &Ask<'_>,
    user: Option<&User>,
    app_user: Option<&AppUser>,
    app: Option<&App>,
) -> Vec<v1::InactiveReason> {
    let policy = ask.policy();
    let mut reasons = Vec::new();
    match user {
        None => reasons.push(InactiveReason::UserUnseen),
        Some(user) if !policy.user_grants(&user.status) => reasons.push(InactiveReason::User(&user.status)),
        Some(_) => {}
    }
    if let Some(row) = app_user.filter(|row| !policy.app_user_grants(&row.status)) {
        reasons.push(InactiveReason::AppUser(&row.status));
    }
    if let Some(app) = app.filter(|app| !policy.app_grants(&app.status)) {
        reasons.push(InactiveReason::App(&app.status));
    }
    reasons.iter().map(inactive_reason).collect()
}

/// Those whom the policy keeps back are left out; the present holder is not among them, or the outcome would be another.
pub(super) fn holders_to_proto<F: Facts>(
    ask: &F,
    app: &App,
    found: &Found<'_>,
    holders: &[&AccountHolder],
) -> Result<Vec<v1::AccountHolder>, F::Error> {
    let mut latest_first = holders.to_vec();
    latest_first.retain(|holder| !ask.withholds_account(&app.id, &holder.user));
    latest_first.sort_by_key(|holder| (std::cmp::Reverse(holder.released_at), &holder.user));
    let present = found.user.map_or_else(|| rows::unseen_user_ref(found.user_id), user_ref);
    let mut shown = vec![v1::AccountHolder { user: Some(present), released_at: None }];
    let mut known: Vec<&UserId> = Vec::new();
    for holder in latest_first {
        // Somebody who held it in two fields is one holder.
        if known.contains(&&holder.user) {
            continue;
        }
        if shown.len() == SHOWN_MAX {
            break;
        }
        known.push(&holder.user);
        let user = ask.user(&holder.user)?;
        let user = Some(user_or_id(user.as_ref(), &holder.user));
        shown.push(v1::AccountHolder { user, released_at: Some(timestamp(holder.released_at)) });
    }
    Ok(shown)
}

/// The groups through which a user has an app, and the gaps that could hide one.
pub(super) fn granting_groups(
    ask: &Ask<'_>,
    app: &App,
    user: &UserId,
    gaps: &mut Gaps,
) -> Result<v1::GrantingGroups, Failure> {
    let scopes = [Scope::AppGroups(app.id.clone()), Scope::Groups, Scope::User(user.clone())];
    gaps.merge(ask.gaps(&scopes));
    gaps.merge(member_gaps(ask, app)?);
    let granting = ask.snapshot.granting_groups(&app.id, user)?;
    let mut groups = Vec::with_capacity(granting.len().min(GRANTING_GROUPS_MAX));
    for row in granting.iter().take(GRANTING_GROUPS_MAX) {
        let group = ask.snapshot.group(&row.group)?;
        let unseen = || v1::GroupRef { id: row.group.as_str().to_owned(), ..v1::GroupRef::default() };
        groups.push(group.as_ref().map_or_else(unseen, rows::group_ref));
    }
    Ok(v1::GrantingGroups { groups, group_count: count(granting.len()) })
}

/// Groups of one app whose members are asked for. An app has a few; beyond it the answer counts as partial by all
/// memberships instead.
const APP_GROUPS_MAX: usize = 500;

/// The gaps of the members of the app's groups: somebody may be in a group without being shown there.
fn member_gaps(ask: &Ask<'_>, app: &App) -> Result<Gaps, Failure> {
    let page = ask.snapshot.app_groups(&app.id, None, APP_GROUPS_MAX)?;
    if page.next.is_some() {
        return ask.wide_gaps(super::gaps::Wide::Memberships);
    }
    let everyone = ask.snapshot.everyone_group()?;
    let scopes: Vec<Scope> = page
        .rows
        .into_iter()
        .map(|row| if Some(&row.group) == everyone.as_ref() { Scope::Users } else { Scope::GroupMembers(row.group) })
        .collect();
    Ok(ask.gaps(&scopes))
}

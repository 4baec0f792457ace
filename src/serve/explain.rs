//! `Lookup.Explain`: how an answer came about.
//!
//! Entry point: [`explain`].
//!
//! Invariants:
//! - The conclusion is the answer of the rpc that answers the question, made by the same functions; the steps of an account
//!   are told from the very decision that the conclusion is made of.
//! - No step shows a person or an account that the policy keeps back.

mod steps;

use okta_idmap_proto::limits::{CANDIDATES_MAX, GAP_IDS_MAX, GRANTING_GROUPS_MAX, RESPONSE_BYTES_MAX};
use okta_idmap_proto::v1::{
    self, evidence_step::Fact, explain_request::Question, explain_response::Conclusion, membership_question::Target,
    row, row_key,
};
use prost::Message as _;

use self::steps::Steps;
use super::apps::AppQuery;
use super::ask::Ask;
use super::door;
use super::errors::Failure;
use super::gaps::Gaps;
use super::membership::answer_membership;
use super::overrides::override_row;
use super::resolution::{
    AccountQuery, Decision, Resolved, Wanted, app_gaps, count, decide, holders_to_proto, inactive_reason,
    inactive_reasons, show_decision, tier_to_proto, user_or_id, without_app,
};
use super::rows::{Shower, app_ref, group_ref, timestamp};
use super::subjects::{UserQuery, members_scope};
use super::withhold::Withholds as _;
use crate::core::ids::{GroupId, UserId};
use crate::core::model::{App, AppGroup, AppUser, Scope};
use crate::core::normalize::{Identifier, NORMALIZE_VERSION, NameRule};
use crate::core::overrides::OverrideRecord;
use crate::core::resolve::{
    AppSelection, Found, IdentifierKind, Outcome, Tier, TierAnswer, TierExplained, explain_tiers, history_of,
    overrides_of,
};

/// Everything that the other rpcs show on request.
const ALL: Wanted = Wanted { candidates: true, granting_groups: true, gap_ids_max: GAP_IDS_MAX };

/// Answers the request.
pub(super) fn explain(ask: &Ask<'_>, request: &v1::ExplainRequest) -> Result<v1::ExplainResponse, Failure> {
    let mut steps = Steps::default();
    let (conclusion, gaps) = match &request.question {
        None => return Err(Failure::FieldMissing { field: "question" }),
        Some(Question::Account(selector)) => {
            let resolved = account(ask, &AccountQuery::read(Some(selector))?, &mut steps)?;
            (Conclusion::Resolution(resolved.resolution), resolved.gaps)
        }
        Some(Question::Membership(question)) => {
            let answered = membership(ask, question, &mut steps);
            let (answer, gaps) = answered.map_err(|failure| failure.within("membership"))?;
            (Conclusion::Membership(answer), gaps)
        }
    };
    let (steps, steps_truncated) = steps.finish();
    let response =
        v1::ExplainResponse { meta: Some(ask.meta(&gaps)), conclusion: Some(conclusion), steps, steps_truncated };
    if response.encoded_len() > RESPONSE_BYTES_MAX { Err(Failure::ResponseTooLarge) } else { Ok(response) }
}

fn account(ask: &Ask<'_>, query: &AccountQuery<'_>, steps: &mut Steps) -> Result<Resolved, Failure> {
    let selection = query.app.select(ask.apps()?);
    app_selected(ask, &query.app, &selection, steps);
    match selection {
        AppSelection::One(app) => decide(ask, query, app, |decision| {
            decision_steps(ask, &decision, steps)?;
            show_decision(ask, decision, ALL)
        }),
        selection => Ok(without_app(ask, &selection, ALL)),
    }
}

fn app_selected(ask: &Ask<'_>, query: &AppQuery<'_>, selection: &AppSelection<'_>, steps: &mut Steps) {
    let (apps, summary, gaps) = match selection {
        AppSelection::None => (Vec::new(), "the selector means no app".to_owned(), ask.gaps(&[Scope::Apps])),
        AppSelection::One(app) => {
            (vec![*app], format!("the selector means the app {} ({})", app.label, app.id), app_gaps(ask, query, app))
        }
        AppSelection::Many(apps) => {
            (apps.clone(), format!("the selector means {} apps", apps.len()), ask.gaps(&[Scope::Apps]))
        }
    };
    let shown = apps.iter().take(CANDIDATES_MAX).map(|app| app_ref(app)).collect();
    steps.add(summary, Fact::AppSelected(v1::AppSelectedFact { apps: shown, app_count: count(apps.len()) }), &gaps);
}

/// The steps from the name to the outcome.
fn decision_steps(ask: &Ask<'_>, decision: &Decision<'_>, steps: &mut Steps) -> Result<(), Failure> {
    let (input, decided) = (decision.input, &decision.decided);
    let app = input.app;
    let shower = Shower::new(ask);
    if let Outcome::Shared { .. } = decided.outcome {
        // Nothing else is asked then.
        let key = row_key::Key::AppId(app.id.to_string());
        let row = Some(row::Row::App(shower.app(app)));
        steps.row("the app, which has one account for everybody,", key, row, &ask.gaps_of_known(&[Scope::Apps]));
        return steps.coverage(ask, &[Scope::Apps]);
    }
    let rule = match input.kind {
        IdentifierKind::ExternalId => NameRule::Exact,
        IdentifierKind::Email => NameRule::Default,
        IdentifierKind::UserName | IdentifierKind::Untyped => input.policy.name_rule(app),
    };
    identifier(input.identifier, input.kind, rule, steps);
    let of_accounts = ask.gaps(&[Scope::Users, Scope::AppUsers(app.id.clone())]);
    for tier in explain_tiers(input.kind, input.policy, decided) {
        let overrides = if tier.tier == Tier::Override { answering(decision) } else { Vec::new() };
        tier_step(ask, app, (&tier, &overrides), &of_accounts, steps)?;
    }
    if decision.is_filter_asked {
        let filtered = input.is_filtered;
        let summary = if filtered {
            "the filter keeps out somebody of that name"
        } else {
            "the filter knows nobody of that name"
        };
        steps.add(summary.to_owned(), Fact::Filter(v1::FilterFact { filtered }), &Gaps::default());
    }
    if let Some(found) = decided.found() {
        found_steps(ask, decision, found, steps)?;
    }
    steps.coverage(ask, &[Scope::Apps, Scope::Users, Scope::AppUsers(app.id.clone())])
}

fn identifier(name: Identifier<'_>, kind: IdentifierKind, rule: NameRule, steps: &mut Steps) {
    let (kind, what) = match kind {
        IdentifierKind::Untyped => (v1::IdentifierKind::Unspecified, "a name of any kind"),
        IdentifierKind::UserName => (v1::IdentifierKind::UserName, "a user name"),
        IdentifierKind::ExternalId => (v1::IdentifierKind::ExternalId, "an external id"),
        IdentifierKind::Email => (v1::IdentifierKind::Email, "an e-mail address"),
    };
    let normalized = name.normalize(rule);
    let fact = v1::IdentifierFact {
        kind: kind.into(),
        normalized_value: normalized.as_str().to_owned(),
        normalization_version: NORMALIZE_VERSION,
    };
    let summary = format!("the identifier is taken for {what}, and compared as {:?}", normalized.as_str());
    steps.add(summary, Fact::Identifier(fact), &Gaps::default());
}

/// The overrides that answer the question, with who set them and why.
fn answering<'a>(decision: &Decision<'a>) -> Vec<&'a OverrideRecord> {
    let entries = overrides_of(decision.input);
    decision.overrides.iter().filter(|record| entries.contains(&&record.entry)).collect()
}

fn tier_step(
    ask: &Ask<'_>,
    app: &App,
    (tier, overrides): (&TierExplained<'_, '_>, &[&OverrideRecord]),
    gaps: &Gaps,
    steps: &mut Steps,
) -> Result<(), Failure> {
    let shower = Shower::new(ask);
    let (answer, said) = match tier.answer {
        TierAnswer::Silent => (v1::TierAnswer::Silent, "nobody matches".to_owned()),
        TierAnswer::OneUser => (v1::TierAnswer::OneUser, "one user matches".to_owned()),
        TierAnswer::SeveralUsers => (v1::TierAnswer::SeveralUsers, format!("{} users match", tier.matching.len())),
        TierAnswer::NotAsked => (v1::TierAnswer::NotAsked, "not asked, something else had answered".to_owned()),
        TierAnswer::NotApplicable => (v1::TierAnswer::NotApplicable, "not about this kind of identifier".to_owned()),
        TierAnswer::Disabled => (v1::TierAnswer::Disabled, "switched off".to_owned()),
    };
    let mut candidates = Vec::new();
    let shown = tier.matching.iter().filter(|entry| !ask.withholds_account(&app.id, entry.user_id));
    for entry in shown.take(CANDIDATES_MAX) {
        let user = ask.snapshot.user(entry.user_id)?;
        candidates.push(v1::Candidate {
            user: Some(user_or_id(user.as_ref(), entry.user_id)),
            app_user: entry.app_user.map(|row| shower.app_user(row)),
            tier: tier_to_proto(tier.tier).into(),
        });
    }
    let fact = v1::TierFact {
        tier: tier_to_proto(tier.tier).into(),
        answer: answer.into(),
        candidates,
        candidate_count: count(tier.matching.len()),
        expires_at: overrides.iter().map(|record| record.entry.expires_at).min().map(timestamp),
        overrides: overrides.iter().take(CANDIDATES_MAX).map(|record| override_row(record, ask.now, true)).collect(),
    };
    let is_asked = matches!(tier.answer, TierAnswer::Silent | TierAnswer::OneUser | TierAnswer::SeveralUsers);
    let gaps = if is_asked { gaps } else { &Gaps::default() };
    let set_by: Vec<String> = overrides
        .iter()
        .take(CANDIDATES_MAX)
        .map(|record| {
            let OverrideRecord { created_by, created_at, entry, reason, .. } = record;
            format!("; set by {created_by} at {created_at} until {}: {reason}", entry.expires_at)
        })
        .collect();
    let summary = format!("{}, {}: {said}{}", tier.tier.name(), words(tier.tier), set_by.concat());
    steps.add(summary, Fact::Tier(fact), gaps);
    Ok(())
}

/// What a tier compares.
const fn words(tier: Tier) -> &'static str {
    match tier {
        Tier::ExternalId => "external id",
        Tier::UserNameExact => "user name, exactly",
        Tier::UserNameNormalized => "user name as the app compares it",
        Tier::Email => "e-mail or login",
        Tier::Alias => "configured alias",
        Tier::SecondEmail => "second e-mail",
        Tier::Override => "operator's override",
    }
}

/// The rows of the one user, the history of the name, the groups, the statuses.
fn found_steps(ask: &Ask<'_>, decision: &Decision<'_>, found: &Found<'_>, steps: &mut Steps) -> Result<(), Failure> {
    let (input, app) = (decision.input, decision.input.app);
    let shower = Shower::new(ask);
    let user_id = found.user_id;
    let holders = history_of(input, found);
    if !holders.is_empty() {
        let is_reused = matches!(decision.decided.outcome, Outcome::Reused { .. });
        let until = holders.iter().map(|holder| holder.released_at).max().filter(|_| is_reused);
        let fact = v1::HistoryFact {
            holders: holders_to_proto(ask, app, found, &holders)?,
            quarantined_until: until.map(|at| timestamp(at.plus_millis(input.policy.quarantine_millis()))),
        };
        let summary = if is_reused {
            "somebody else had the name a short while ago"
        } else {
            "somebody else had the name, long ago"
        };
        steps.add(summary.to_owned(), Fact::History(fact), &Gaps::default());
    }
    let mut of_user = ask.gaps_of_known(&[Scope::Users, Scope::User(user_id.clone())]);
    if found.user.is_none() && found.app_user.is_some() {
        of_user.add_unseen_user(user_id);
    }
    let row = found.user.map(|user| row::Row::User(shower.user(user)));
    steps.row("the user", row_key::Key::UserId(user_id.to_string()), row, &of_user);
    let of_app_users = ask.gaps_of_known(&[Scope::AppUsers(app.id.clone())]);
    let key = app_user_key(app.id.to_string(), user_id.to_string());
    steps.row("the account", key, found.app_user.map(|row| row::Row::AppUser(shower.app_user(row))), &of_app_users);
    let of_apps = ask.gaps_of_known(&[Scope::Apps, Scope::App(app.id.clone())]);
    steps.row("the app", row_key::Key::AppId(app.id.to_string()), Some(row::Row::App(shower.app(app))), &of_apps);
    if let Some(app_user) = found.app_user {
        group_paths(ask, app, app_user, steps)?;
    }
    let reasons = match &decision.decided.outcome {
        Outcome::Inactive { reasons, .. } => reasons.iter().map(inactive_reason).collect(),
        _ => inactive_reasons(ask, found.user, found.app_user, Some(app)),
    };
    steps.grant(reasons, &decision.gaps);
    Ok(())
}

fn app_user_key(app_id: String, user_id: String) -> row_key::Key {
    row_key::Key::AppUser(v1::AppUserKey { app_id, user_id })
}

/// The groups through which a user has an app, strongest first, and the one that Okta names, if it is none of them.
fn group_paths(ask: &Ask<'_>, app: &App, app_user: &AppUser, steps: &mut Steps) -> Result<(), Failure> {
    let user = &app_user.user;
    let granting = ask.snapshot.granting_groups(&app.id, user)?;
    for AppGroup { group, priority, .. } in granting.iter().take(GRANTING_GROUPS_MAX) {
        group_path(ask, app, user, group, *priority, steps)?;
    }
    if granting.len() > GRANTING_GROUPS_MAX {
        steps.truncate();
    }
    match &app_user.via_group {
        Some(via) if granting.iter().all(|row| row.group != *via) => group_path(ask, app, user, via, None, steps),
        _ => Ok(()),
    }
}

fn group_path(
    ask: &Ask<'_>,
    app: &App,
    user: &UserId,
    id: &GroupId,
    priority: Option<i64>,
    steps: &mut Steps,
) -> Result<(), Failure> {
    let group = ask.snapshot.group(id)?;
    let members = group.as_ref().map_or_else(|| Scope::GroupMembers(id.clone()), members_scope);
    let (of_members, of_app) = (ask.gaps_of_known(&[members]), ask.gaps_of_known(&[Scope::AppGroups(app.id.clone())]));
    let is_in = |is_row: bool, gaps: &Gaps| match is_row {
        true => v1::Membership::Yes,
        false if gaps.is_empty() => v1::Membership::No,
        false => v1::Membership::Unknown,
    };
    let user_in_group = is_in(ask.snapshot.is_member(id, user)?, &of_members);
    let group_in_app = is_in(ask.snapshot.is_group_of_app(&app.id, id)?.is_assigned, &of_app);
    let leads = (user_in_group, group_in_app) == (v1::Membership::Yes, v1::Membership::Yes);
    let unseen = || v1::GroupRef { id: id.to_string(), ..v1::GroupRef::default() };
    let shown = group.as_ref().map_or_else(unseen, group_ref);
    let name = if shown.name.is_empty() { &shown.id } else { &shown.name };
    let summary = match leads {
        true => format!("the user is in the group {name}, which is assigned to the app"),
        false => format!("Okta names the group {name}, and not all of that way is seen"),
    };
    let fact = v1::GroupPathFact {
        group: Some(shown),
        user_in_group: user_in_group.into(),
        group_in_app: group_in_app.into(),
        priority,
    };
    let mut gaps = of_members;
    gaps.merge(of_app);
    steps.add(summary, Fact::GroupPath(fact), &gaps);
    Ok(())
}

fn membership(
    ask: &Ask<'_>,
    question: &v1::MembershipQuestion,
    steps: &mut Steps,
) -> Result<(v1::MembershipAnswer, Gaps), Failure> {
    let query = UserQuery::read(question.user.as_ref())?;
    let (answer, gaps) = answer_membership(ask, question)?;
    match &query {
        UserQuery::Id(_) => {}
        UserQuery::Login(login) => identifier(*login, IdentifierKind::UserName, NameRule::Default, steps),
        UserQuery::Account(query) => drop(account(ask, query, steps)?),
    }
    let user = answer.user.as_ref().and_then(|subject| subject.user.clone());
    let user_id = match (&user, &query) {
        (Some(user), _) => UserId::new(&user.id).ok(),
        (None, UserQuery::Id(id)) => Some(id.clone()),
        (None, _) => None,
    };
    if let Some(id) = &user_id {
        let of_user = ask.gaps_of_known(&[Scope::Users, Scope::User(id.clone())]);
        steps.row("the user", row_key::Key::UserId(id.to_string()), user.map(row::Row::User), &of_user);
    }
    match &question.target {
        Some(Target::App(selector)) => in_app(ask, selector, user_id.as_ref(), &answer, steps)?,
        Some(Target::GroupId(id)) => {
            let id = door::group_id("group_id", id)?;
            in_group(ask, &id, user_id.as_ref(), &answer, steps)?;
        }
        None => {}
    }
    Ok((answer, gaps))
}

fn in_app(
    ask: &Ask<'_>,
    selector: &v1::AppSelector,
    user: Option<&UserId>,
    answer: &v1::MembershipAnswer,
    steps: &mut Steps,
) -> Result<(), Failure> {
    let query = AppQuery::read("app", Some(selector))?;
    let selection = query.select(ask.apps()?);
    app_selected(ask, &query, &selection, steps);
    let mut scopes = vec![Scope::Apps, Scope::Users];
    if let AppSelection::One(app) = selection {
        let of_app_users = ask.gaps_of_known(&[Scope::AppUsers(app.id.clone())]);
        if let Some(user) = user {
            let row = answer.app_user.clone().map(row::Row::AppUser);
            steps.row("the account", app_user_key(app.id.to_string(), user.to_string()), row, &of_app_users);
            if answer.app_user.is_some()
                && let Some(app_user) = ask.snapshot.app_user(&app.id, user)?
            {
                group_paths(ask, app, &app_user, steps)?;
            }
        }
        scopes.push(Scope::AppUsers(app.id.clone()));
        grant_of(answer, &of_app_users, steps);
    }
    steps.coverage(ask, &scopes)
}

fn in_group(
    ask: &Ask<'_>,
    id: &GroupId,
    user: Option<&UserId>,
    answer: &v1::MembershipAnswer,
    steps: &mut Steps,
) -> Result<(), Failure> {
    let group = match &answer.target {
        Some(v1::membership_answer::Target::Group(subject)) => subject.group.clone(),
        _ => None,
    };
    let is_found = group.is_some();
    let of_group = ask.gaps_of_known(&[Scope::Groups, Scope::Group(id.clone())]);
    steps.row("the group", row_key::Key::GroupId(id.to_string()), group.map(row::Row::Group), &of_group);
    let stored = ask.snapshot.group(id)?.filter(|_| is_found);
    let members = stored.as_ref().map_or_else(|| Scope::GroupMembers(id.clone()), members_scope);
    // Of a group that is not there, nothing but the group itself could be hidden.
    let of_members = if is_found { ask.gaps_of_known(std::slice::from_ref(&members)) } else { of_group };
    if let Some(user) = user {
        let (group_id, user_id) = (id.to_string(), user.to_string());
        let stale = ask.is_stale(&members, &user_id);
        let row = v1::GroupMember { group_id: group_id.clone(), user_id: user_id.clone(), stale };
        let is_member = answer.membership() == v1::Membership::Yes;
        let key = row_key::Key::GroupMember(v1::GroupMemberKey { group_id, user_id });
        steps.row("the membership", key, is_member.then_some(row::Row::GroupMember(row)), &of_members);
    }
    grant_of(answer, &of_members, steps);
    let mut scopes = vec![Scope::Groups, Scope::Users];
    if is_found && members != Scope::Users {
        scopes.push(members);
    }
    steps.coverage(ask, &scopes)
}

/// Whether a member has access.
fn grant_of(answer: &v1::MembershipAnswer, gaps: &Gaps, steps: &mut Steps) {
    if answer.membership() == v1::Membership::Yes {
        steps.grant(answer.inactive_reasons.clone(), gaps);
    }
}

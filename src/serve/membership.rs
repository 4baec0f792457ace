//! `Lookup.CheckAppMembership`: is this user in this app or group, and through what.
//!
//! Entry point: [`check_membership`].
//!
//! Invariants: YES rests on a row, NO on complete reads of everything that could say otherwise; all else is UNKNOWN.

use okta_idmap_proto::v1::{self, Membership, SubjectOutcome, membership_answer, membership_question::Target};

use super::apps::AppQuery;
use super::ask::Ask;
use super::door;
use super::errors::Failure;
use super::gaps::Gaps;
use super::resolution::{granting_groups, inactive_reasons};
use super::rows::Shower;
use super::subjects::{
    SelectedUser, UserQuery, app_subject, find_app, find_group, find_user, group_subject, members_scope,
};
use super::withhold::Withholds as _;
use crate::core::ids::GroupId;
use crate::core::model::Scope;

/// Answers the question.
pub(super) fn check_membership(
    ask: &Ask<'_>,
    request: &v1::CheckAppMembershipRequest,
) -> Result<v1::CheckAppMembershipResponse, Failure> {
    let question = request.question.as_ref().ok_or(Failure::FieldMissing { field: "question" })?;
    let (answer, gaps) = answer_membership(ask, question).map_err(|failure| failure.within("question"))?;
    Ok(v1::CheckAppMembershipResponse { meta: Some(ask.meta(&gaps)), answer: Some(answer) })
}

/// The answer, and the gaps that could change it. Failures name fields of the question.
pub(super) fn answer_membership(
    ask: &Ask<'_>,
    question: &v1::MembershipQuestion,
) -> Result<(v1::MembershipAnswer, Gaps), Failure> {
    let user_query = UserQuery::read(question.user.as_ref())?;
    // Both ends are checked at the door before anything is read.
    match &question.target {
        None => Err(Failure::FieldMissing { field: "target" }),
        Some(Target::App(app)) => {
            let app_query = AppQuery::read("app", Some(app))?;
            in_app(ask, &find_user(ask, &user_query)?, &app_query)
        }
        Some(Target::GroupId(group_id)) => {
            let group_id = door::group_id("group_id", group_id)?;
            in_group(ask, &find_user(ask, &user_query)?, &group_id)
        }
    }
}

/// What no row says.
fn without_row(user: SubjectOutcome, target: SubjectOutcome, gaps: &Gaps) -> Membership {
    use SubjectOutcome::{Filtered, Found, NotFound};
    let is_known = matches!(user, Found | NotFound | Filtered) && matches!(target, Found | NotFound | Filtered);
    if is_known && gaps.is_empty() { Membership::No } else { Membership::Unknown }
}

fn in_app(
    ask: &Ask<'_>,
    user: &SelectedUser,
    app_query: &AppQuery<'_>,
) -> Result<(v1::MembershipAnswer, Gaps), Failure> {
    let shower = Shower::new(ask);
    let (outcome, app, app_gaps) = find_app(ask, app_query)?;
    let mut gaps = user.gaps.clone();
    gaps.merge(app_gaps);
    if let Some(app) = app {
        gaps.merge(ask.gaps_of_known(&[Scope::Users, Scope::AppUsers(app.id.clone())]));
    }
    let row = match (app, &user.id) {
        (Some(app), Some(id)) if !ask.withholds_account(&app.id, id) => ask.snapshot.app_user(&app.id, id)?,
        _ => None,
    };
    let mut answer = v1::MembershipAnswer {
        user: Some(user.to_proto(&shower)),
        target: Some(membership_answer::Target::App(app_subject(outcome, app, &shower))),
        ..v1::MembershipAnswer::default()
    };
    let (Some(row), Some(app)) = (row, app) else {
        answer.membership = without_row(user.outcome, outcome, &gaps).into();
        return Ok((answer, gaps));
    };
    answer.membership = Membership::Yes.into();
    answer.inactive_reasons = inactive_reasons(ask, user.user.as_ref(), Some(&row), Some(app));
    answer.grants = answer.inactive_reasons.is_empty();
    answer.app_user = Some(shower.app_user(&row));
    answer.granting_groups = Some(granting_groups(ask, app, &row.user, &mut gaps)?);
    Ok((answer, gaps))
}

fn in_group(ask: &Ask<'_>, user: &SelectedUser, group_id: &GroupId) -> Result<(v1::MembershipAnswer, Gaps), Failure> {
    let shower = Shower::new(ask);
    let (outcome, group, group_gaps) = find_group(ask, group_id)?;
    let mut gaps = user.gaps.clone();
    gaps.merge(group_gaps);
    let members = group.as_ref().map_or_else(|| Scope::GroupMembers(group_id.clone()), members_scope);
    if group.is_some() {
        gaps.merge(ask.gaps_of_known(&[Scope::Users, members.clone()]));
    }
    let is_member = match &user.id {
        Some(id) if group.is_some() && !ask.withholds_member(&members, id) => ask.snapshot.is_member(group_id, id)?,
        _ => false,
    };
    let mut answer = v1::MembershipAnswer {
        user: Some(user.to_proto(&shower)),
        target: Some(membership_answer::Target::Group(group_subject(outcome, group.as_ref(), &shower))),
        ..v1::MembershipAnswer::default()
    };
    if is_member {
        answer.membership = Membership::Yes.into();
        answer.inactive_reasons = inactive_reasons(ask, user.user.as_ref(), None, None);
        answer.grants = answer.inactive_reasons.is_empty();
    } else {
        answer.membership = without_row(user.outcome, outcome, &gaps).into();
    }
    Ok((answer, gaps))
}

//! `okta-idmap explain`: how an answer came about. Entry point: [`run`].

use okta_idmap_proto::v1;
use v1::explain_request::Question;
use v1::explain_response::Conclusion;

use super::args::{ExplainArgs, ExplainCommand};
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::warn_if_partial;
use super::output::{Field, to_json};
use super::resolve::{any_app, identifier_kind};
use super::{resolve, user, words};

/// Explains one answer and prints it with its steps. Ends as the command that gives the answer.
pub(super) async fn run(context: &Context, args: &ExplainArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let question = match &args.command {
        ExplainCommand::Account { app, identifier, kind } => {
            let identifier = v1::Identifier { value: identifier.clone(), kind: identifier_kind(*kind).into() };
            Question::Account(v1::AccountSelector { app: Some(any_app(app)), identifier: Some(identifier) })
        }
        ExplainCommand::User { user, place } => {
            let selector = user::select(context, &backend, user).await?;
            let target = match user::target(context, &backend, place).await? {
                Ok(target) => target,
                Err(exit) => return Ok(exit),
            };
            Question::Membership(v1::MembershipQuestion { user: Some(selector), target: Some(target) })
        }
    };
    let request = v1::ExplainRequest { context: context.request_context()?, question: Some(question) };
    let response = backend.explain(request).await?;
    context.output.thing(&fields(&response), &to_json(&response))?;
    warn_if_partial(response.meta.as_ref());
    let is_positive = match &response.conclusion {
        Some(Conclusion::Resolution(resolution)) => resolution.outcome() == v1::ResolutionOutcome::Resolved,
        Some(Conclusion::Membership(answer)) => answer.membership() == v1::Membership::Yes,
        None => false,
    };
    Ok(if is_positive { Exit::Done } else { Exit::NotFound })
}

fn fields(response: &v1::ExplainResponse) -> Vec<Field> {
    let mut fields = match &response.conclusion {
        Some(Conclusion::Resolution(resolution)) => resolve::fields(resolution),
        Some(Conclusion::Membership(answer)) => {
            let subject = answer.user.clone().unwrap_or_default();
            let mut fields = user::membership_fields(&subject.user.clone().unwrap_or_default(), answer);
            let is_found = subject.outcome() == v1::SubjectOutcome::Found;
            let outcome = if is_found { String::new() } else { words::subject_outcome(subject.outcome) };
            fields.push(Field::new("user", outcome));
            fields
        }
        None => Vec::new(),
    };
    fields.push(Field::in_table("steps", steps(response)));
    fields
}

/// The steps as sentences, numbered, each with the gaps that could change it.
fn steps(response: &v1::ExplainResponse) -> String {
    let line = |(number, step): (usize, &v1::EvidenceStep)| match step.gap_ids.as_slice() {
        [] => format!("{number}. {}", step.summary),
        gap_ids => format!("{number}. {}; gaps: {}", step.summary, words::gaps_named(gap_ids, gap_ids.len())),
    };
    let mut lines: Vec<String> = (1..).zip(&response.steps).map(line).collect();
    if response.steps_truncated {
        lines.push("and more".to_owned());
    }
    lines.join("\n")
}

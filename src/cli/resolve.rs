//! `okta-idmap resolve`: who an account belongs to. Entry point: [`run`].

use okta_idmap_proto::v1;

use super::args::{IdentifierForm, ResolveArgs};
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::warn_if_partial;
use super::output::{Field, to_json};
use super::words;

/// Resolves one account and prints the outcome. Only RESOLVED ends with [`Exit::Done`].
pub(super) async fn run(context: &Context, args: &ResolveArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let request = v1::ResolveAccountRequest {
        context: context.request_context()?,
        account: Some(v1::AccountSelector {
            app: Some(any_app(&args.app)),
            identifier: Some(v1::Identifier {
                value: args.identifier.clone(),
                kind: identifier_kind(args.kind).into(),
            }),
        }),
        include_candidates: args.candidates,
        include_granting_groups: args.groups,
    };
    let response = backend.resolve_account(request).await?;
    let resolution = response.resolution.clone().unwrap_or_default();
    context.output.thing(&fields(&resolution), &to_json(&response))?;
    warn_if_partial(response.meta.as_ref());
    let is_resolved = resolution.outcome() == v1::ResolutionOutcome::Resolved;
    Ok(if is_resolved { Exit::Done } else { Exit::NotFound })
}

/// An app by whatever names it.
pub(super) fn any_app(name: &str) -> v1::AppSelector {
    v1::AppSelector { selector: Some(v1::app_selector::Selector::Any(name.to_owned())) }
}

/// What the caller says that an identifier is.
pub(super) const fn identifier_kind(form: Option<IdentifierForm>) -> v1::IdentifierKind {
    match form {
        None => v1::IdentifierKind::Unspecified,
        Some(IdentifierForm::UserName) => v1::IdentifierKind::UserName,
        Some(IdentifierForm::ExternalId) => v1::IdentifierKind::ExternalId,
        Some(IdentifierForm::Email) => v1::IdentifierKind::Email,
    }
}

/// What is shown of a resolution.
pub(super) fn fields(resolution: &v1::Resolution) -> Vec<Field> {
    let app = resolution.app.clone().unwrap_or_default();
    let user = resolution.user.clone().unwrap_or_default();
    let account = resolution.app_user.clone().unwrap_or_default();
    let tier = resolution.tier();
    let warnings = resolution.warnings.iter().map(|warning| words::warning(*warning)).collect::<Vec<_>>().join(" ");
    vec![
        Field::new("outcome", words::outcome(resolution.outcome)),
        Field::new("reason", words::resolution(resolution)),
        Field::in_csv("app_id", app.id.clone()),
        Field::in_table("app", words::app(&app)),
        Field::in_csv("user_id", user.id.clone()),
        Field::in_table("user", words::person(&user)),
        Field::in_csv("login", user.login.clone()),
        Field::in_csv("email", user.email.clone()),
        Field::new("user_name", account.user_name.clone()),
        Field::new("external_id", account.external_id.clone()),
        Field::new("status", words::raw_or(words::app_user_status(account.status), &account.status_raw)),
        Field::new("assignment", words::raw_or(words::assignment_scope(account.scope), &account.scope_raw)),
        Field::in_csv("tier", words::tier_name(tier.into())),
        Field::in_table("matched_by", words::tier(tier).to_owned()),
        Field::new("warnings", warnings),
        Field::in_table("granting_groups", granting_groups(resolution)),
        Field::in_table("candidates", candidates(resolution)),
        Field::in_table("holders", holders(resolution)),
    ]
}

fn granting_groups(resolution: &v1::Resolution) -> String {
    let Some(granting) = &resolution.granting_groups else { return String::new() };
    let lines = granting.groups.iter().map(words::group).collect();
    with_rest(lines, granting.group_count)
}

fn candidates(resolution: &v1::Resolution) -> String {
    let people = resolution.candidates.iter().map(|candidate| {
        let user = candidate.user.as_ref().map(words::person).unwrap_or_default();
        let name = candidate.app_user.as_ref().map(|account| account.user_name.clone()).unwrap_or_default();
        format!("{user}  {name}  {}", words::tier(candidate.tier())).trim_end().to_owned()
    });
    let apps = resolution.app_candidates.iter().map(words::app);
    let lines: Vec<String> = people.chain(apps).collect();
    // Without --candidates there are none to show, only their number, which the reason tells.
    if lines.is_empty() {
        return String::new();
    }
    with_rest(lines, resolution.candidate_count.max(resolution.app_candidate_count))
}

fn holders(resolution: &v1::Resolution) -> String {
    let lines = resolution.holders.iter().map(|holder| {
        let user = holder.user.as_ref().map(words::person).unwrap_or_default();
        match holder.released_at.as_ref() {
            Some(_) => format!("{user}, until {}", words::time(holder.released_at.as_ref())),
            None => format!("{user}, now"),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The lines, and how many more there are.
fn with_rest(mut lines: Vec<String>, count: u32) -> String {
    let rest = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(lines.len());
    if rest > 0 {
        lines.push(format!("and {rest} more"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_resolution() {
        #[track_caller]
        fn check(resolution: &v1::Resolution, name: &str, expected: &str) {
            let shown = fields(resolution);
            let value = shown.iter().find(|field| field.name == name).map(|field| field.value.as_str());
            assert_eq!(value, Some(expected), "{name}");
        }
        let person = |id: &str| Some(v1::UserRef { id: id.into(), ..Default::default() });
        let ambiguous = v1::Resolution {
            outcome: v1::ResolutionOutcome::Ambiguous.into(),
            tier: v1::MatchTier::UserNameExact.into(),
            candidates: vec![v1::Candidate {
                user: person("00u1"),
                app_user: Some(v1::AppUser { user_name: "jdoe".into(), ..Default::default() }),
                tier: v1::MatchTier::UserNameExact.into(),
            }],
            candidate_count: 3,
            ..Default::default()
        };
        check(&ambiguous, "outcome", "AMBIGUOUS");
        check(&ambiguous, "user_id", "");
        check(&ambiguous, "candidates", "00u1  jdoe  T1, user name exactly\nand 2 more");
        check(&v1::Resolution { candidates: Vec::new(), ..ambiguous.clone() }, "candidates", "");
        let reused = v1::Resolution {
            outcome: v1::ResolutionOutcome::Reused.into(),
            holders: vec![
                v1::AccountHolder { user: person("00u2"), released_at: None },
                v1::AccountHolder { user: person("00u1"), released_at: Some(Default::default()) },
            ],
            ..Default::default()
        };
        check(&reused, "holders", "00u2, now\n00u1, until 1970-01-01T00:00:00.000Z");
        let groups = v1::GrantingGroups {
            groups: vec![v1::GroupRef { id: "00g1".into(), name: "Eng".into(), ..Default::default() }],
            group_count: 1,
        };
        let resolved = v1::Resolution { granting_groups: Some(groups), ..Default::default() };
        check(&resolved, "granting_groups", "Eng 00g1");
    }
}

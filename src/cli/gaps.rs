//! `okta-idmap gaps`: what could not be read, what it hides, and what to do. Entry point: [`run`].
//!
//! Gaps come kind by kind, those first that hide most and that somebody can do something about.

use std::collections::BTreeMap;

use anyhow::anyhow;
use okta_idmap_proto::v1::{self, gap::Evidence};
use serde_json::json;

use super::app::{self, Found};
use super::args::{Form, GapsArgs, GapsCommand, Limit};
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::{PageFound, PageWanted, Printing, print_all, warn_if_partial};
use super::output::text::wrapped;
use super::output::{Column, Field, to_json, warn};
use super::user::yes_no;
use super::words;

/// Every kind, what matters most first: nothing can be read; somebody has to grant something; somebody has to look; it may
/// pass by itself.
pub(super) const BY_IMPORTANCE: [v1::GapKind; 12] = [
    v1::GapKind::Unauthorized,
    v1::GapKind::ScopeMissing,
    v1::GapKind::Forbidden,
    v1::GapKind::LogLost,
    v1::GapKind::EmptySuspect,
    v1::GapKind::Held,
    v1::GapKind::UnseenReference,
    v1::GapKind::CountMismatch,
    v1::GapKind::Failed,
    v1::GapKind::ImplicitAssignment,
    v1::GapKind::Stale,
    v1::GapKind::NotRead,
];

/// Remedies that are told below a table: each kind has one or two, and more could not be read anyway.
const REMEDIES_MAX: usize = 20;

fn name(gap: &v1::Gap) -> String {
    gap.scope.clone().unwrap_or_default().resource_name
}

const COLUMNS: &[Column<v1::Gap>] = &[
    Column::shown("id", |gap| gap.id.clone()),
    Column::extra("kind", |gap| words::gap_kind(gap.kind)),
    Column::shown("state", |gap| words::gap_state(gap.state)),
    Column::extra("scope", |gap| words::scope(gap.scope.as_ref())),
    Column::shown("name", name),
    Column::shown("first_seen_at", |gap| words::time(gap.first_seen_at.as_ref())),
    Column::extra("last_seen_at", |gap| words::time(gap.last_seen_at.as_ref())),
    Column::extra("closed_at", |gap| words::time(gap.closed_at.as_ref())),
    Column::shown("observation_count", |gap| gap.observation_count.to_string()),
    Column::extra("hides", |gap| gap.hides.clone()),
    Column::extra("remedy", |gap| gap.remedy.clone()),
];

/// Prints the gaps of one org, or what belongs to them.
pub(super) async fn run(context: &Context, args: &GapsArgs) -> Result<Exit, Failure> {
    let is_list_narrowed = args.all || !args.kind.is_empty() || args.limit.limit.is_some();
    match &args.command {
        None => list(context, args).await,
        Some(_) if is_list_narrowed => {
            Err(Failure::Usage(anyhow!("--all, --kind and --limit belong behind the sub-command, where it has them")))
        }
        Some(GapsCommand::Show { id }) => show(context, id).await,
        Some(GapsCommand::Scopes { kind, state, limit }) => scopes(context, kind, state, limit).await,
        Some(GapsCommand::Ambiguous { app, template, limit }) => {
            ambiguous(context, app.as_deref(), *template, limit).await
        }
        Some(GapsCommand::Quarantined { kind, limit }) => quarantined(context, kind, limit).await,
    }
}

/// The remedies of the gaps that are shown, by the order of their kinds, with the number of gaps.
#[derive(Default)]
struct Remedies(BTreeMap<(usize, String), u64>);

impl Remedies {
    fn add(&mut self, place: usize, gap: &v1::Gap) {
        if gap.state() == v1::GapState::Open {
            *self.0.entry((place, gap.remedy.clone())).or_default() += 1;
        }
    }

    /// What to do, below the table: too long for a column, and mostly the same for many.
    fn text(&self, kinds: &[v1::GapKind]) -> String {
        let mut text = String::new();
        for ((place, remedy), count) in self.0.iter().take(REMEDIES_MAX) {
            let kind = kinds.get(*place).map(|kind| words::gap_kind((*kind).into())).unwrap_or_default();
            text.push_str(&wrapped("", &format!("\n{kind} ({count})")));
            text.push_str(&wrapped("  to do  ", remedy));
        }
        text
    }
}

/// Where a list of several kinds goes on: `kind:token` of the kind's own list.
fn place_of(page_token: &str) -> (usize, String) {
    match page_token.split_once(':') {
        Some((place, token)) => (place.parse().unwrap_or(usize::MAX), token.to_owned()),
        None => (0, String::new()),
    }
}

async fn list(context: &Context, args: &GapsArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let is_wanted = |kind: &v1::GapKind| args.kind.is_empty() || args.kind.contains(kind);
    let kinds: Vec<v1::GapKind> = BY_IMPORTANCE.into_iter().filter(is_wanted).collect();
    let states = if args.all { Vec::new() } else { vec![v1::GapState::Open.into()] };
    let fetch = async |place: usize, page_size: i32, page_token: String| {
        let kind = kinds.get(place).ok_or_else(|| Failure::Failed(anyhow!("the list of gaps lost its place")))?;
        let request = v1::ListGapsRequest {
            context: context.request_context()?,
            page_size,
            page_token,
            states: states.clone(),
            kinds: vec![(*kind).into()],
            ..Default::default()
        };
        backend.list_gaps(request).await
    };
    let mut remedies = Remedies::default();
    let printing = Printing { rows_name: "gaps", columns: COLUMNS, limit: args.limit.limit, about: None };
    print_all(&context.output, printing, async |page: PageWanted| {
        let (mut place, token) = place_of(&page.page_token);
        let mut response = fetch(place, page.page_size, token).await?;
        // On to the next kind that has any, so that the end of the list is known to be one.
        while response.gaps.is_empty() && response.next_page_token.is_empty() && place + 1 < kinds.len() {
            place += 1;
            response = fetch(place, page.page_size, String::new()).await?;
        }
        response.gaps.iter().for_each(|gap| remedies.add(place, gap));
        let mut next_page_token = String::new();
        if !response.next_page_token.is_empty() {
            next_page_token = format!("{place}:{}", response.next_page_token);
        } else {
            for next in place + 1..kinds.len() {
                if !fetch(next, 1, String::new()).await?.gaps.is_empty() {
                    next_page_token = format!("{next}:");
                    break;
                }
            }
        }
        Ok(PageFound { meta: response.meta, next_page_token, rows: response.gaps })
    })
    .await?;
    if context.output.form == Form::Table && !remedies.0.is_empty() {
        context.output.text(&remedies.text(&kinds))?;
        context.output.note("`okta-idmap gaps show ID` shows what a gap hides and what it rests on");
    }
    Ok(Exit::Done)
}

/// One gap with everything that is known of it.
async fn show(context: &Context, id: &str) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let request =
        v1::ListGapsRequest { context: context.request_context()?, gap_ids: vec![id.to_owned()], ..Default::default() };
    let response = backend.list_gaps(request).await?;
    let Some(gap) = response.gaps.first() else {
        warn(&format!("no gap {id} is open, and none is remembered; `okta-idmap gaps --all` shows those that are"));
        context.output.absent(&json!({ "gap": null, "meta": response.meta.as_ref().map(to_json) }))?;
        warn_if_partial(response.meta.as_ref());
        return Ok(Exit::NotFound);
    };
    let document = json!({ "gap": to_json(gap), "meta": response.meta.as_ref().map(to_json) });
    context.output.thing(&fields(gap), &document)?;
    warn_if_partial(response.meta.as_ref());
    Ok(Exit::Done)
}

fn fields(gap: &v1::Gap) -> Vec<Field> {
    let lines = |text: &str| wrapped("", text).trim_end().to_owned();
    let seen = evidence(gap);
    vec![
        Field::new("id", gap.id.clone()),
        Field::new("org", gap.org.clone()),
        Field::new("kind", words::gap_kind(gap.kind)),
        Field::new("state", words::gap_state(gap.state)),
        Field::new("scope", words::scope(gap.scope.as_ref())),
        Field::new("name", name(gap)),
        Field::new("first_seen_at", words::time(gap.first_seen_at.as_ref())),
        Field::new("last_seen_at", words::time(gap.last_seen_at.as_ref())),
        Field::new("closed_at", words::time(gap.closed_at.as_ref())),
        Field::new("observation_count", gap.observation_count.to_string()),
        Field::in_table("hides", lines(&gap.hides)),
        Field::in_csv("hides", gap.hides.clone()),
        Field::in_table("evidence", seen.join("\n")),
        Field::in_csv("evidence", seen.join("; ")),
        Field::in_table("remedy", lines(&gap.remedy)),
        Field::in_csv("remedy", gap.remedy.clone()),
    ]
}

/// What a gap rests on, one fact a line.
fn evidence(gap: &v1::Gap) -> Vec<String> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push(format!("{name} {value}"));
        }
    };
    let number = |value: u64| if value == 0 { String::new() } else { value.to_string() };
    match &gap.evidence {
        Some(Evidence::Http(http)) => {
            fact("endpoint", http.endpoint.clone());
            fact("HTTP status", number(http.http_status.into()));
            fact("Okta's code", http.okta_error_code.clone());
            fact("Okta's request id", http.okta_request_id.clone());
            fact("missing permission", http.missing_permission.clone());
            fact("missing OAuth scope", http.missing_oauth_scope.clone());
            fact("quarantined records", number(http.quarantined_count));
        }
        Some(Evidence::Counts(counts)) => {
            fact("rows expected", counts.expected_row_count.to_string());
            fact("rows seen", counts.seen_row_count.to_string());
        }
        Some(Evidence::Hold(hold)) => {
            fact("rows stored", hold.stored_row_count.to_string());
            fact("of these, not shown", hold.missing_row_count.to_string());
            fact("of these, asked for by id", number(hold.probed_row_count));
            fact("of these, gone", number(hold.gone_row_count));
        }
        Some(Evidence::Reference(reference)) => fact("named in", words::scope(reference.named_in.as_ref())),
        Some(Evidence::Age(age)) => {
            fact("fresh until", words::time(age.fresh_at.as_ref()));
            fact("too old since", words::time(age.stale_since.as_ref()));
        }
        None => {}
    }
    facts
}

const SCOPES: &[Column<v1::ScopeStatus>] = &[
    Column::shown("scope", |row| words::scope(row.scope.as_ref())),
    Column::shown("name", |row| row.scope.clone().unwrap_or_default().resource_name),
    Column::shown("state", |row| words::scope_state(row.state)),
    Column::shown("completed_at", |row| words::time(row.completed_at.as_ref())),
    Column::extra("attempted_at", |row| words::time(row.attempted_at.as_ref())),
    Column::shown("row_count", |row| row.row_count.to_string()),
    Column::extra("walking", |row| yes_no(row.walking)),
    Column::extra("gap_count", |row| row.gap_count.to_string()),
    Column::shown("gap_ids", |row| row.gap_ids.join(" ")),
];

async fn scopes(
    context: &Context,
    kinds: &[v1::ScopeKind],
    states: &[v1::ScopeState],
    limit: &Limit,
) -> Result<Exit, Failure> {
    let backend: Backend = context.backend().await?;
    let printing = Printing { rows_name: "scopes", columns: SCOPES, limit: limit.limit, about: None };
    print_all(&context.output, printing, async |page: PageWanted| {
        let request = v1::ListScopesRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
            states: states.iter().map(|state| (*state).into()).collect(),
        };
        let response = backend.list_scopes(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.scopes })
    })
    .await?;
    Ok(Exit::Done)
}

const AMBIGUOUS: &[Column<v1::Ambiguity>] = &[
    Column::shown("app", |row| row.app.clone().unwrap_or_default().label),
    Column::extra("app_id", |row| row.app.clone().unwrap_or_default().id),
    Column::shown("name", |row| row.normalized_value.clone()),
    Column::shown("compared as", |row| words::tier(row.tier()).to_owned()),
    Column::shown("users", |row| row.candidate_count.to_string()),
    Column::shown("overrides", |row| row.override_count.to_string()),
    Column::shown("among them", |row| {
        let names: Vec<String> = row.candidates.iter().map(candidate_name).collect();
        names.join(" ")
    }),
];

/// Who would have a name; by a template that may be somebody without an account.
fn candidate_name(candidate: &v1::Candidate) -> String {
    let user = candidate.user.clone().unwrap_or_default();
    let name = if user.login.is_empty() { user.id } else { user.login };
    if candidate.app_user.is_some() { name } else { format!("{name} (not assigned)") }
}

/// Ends the command when an empty list would say nothing.
fn check_predicted(prediction: &v1::TemplatePrediction) -> Result<(), Failure> {
    if prediction.outcome() == v1::TemplateOutcome::Predicted {
        return Ok(());
    }
    let told = format!("no names can be predicted: {}", prediction.obstacle);
    let template = if prediction.template.is_empty() { String::new() } else { format!(" ({})", prediction.template) };
    Err(Failure::Failed(anyhow!("{told}{template}")))
}

async fn ambiguous(context: &Context, app: Option<&str>, is_by_template: bool, limit: &Limit) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let app = match app {
        None => None,
        Some(name) => match app::find(context, &backend, name).await? {
            Found::App(app, _) => Some(app::by_id(&app)),
            Found::Nobody(exit) => return Ok(exit),
        },
    };
    let basis = if is_by_template { v1::AmbiguityBasis::Template } else { v1::AmbiguityBasis::Names };
    let mut left_out = 0;
    let printing = Printing { rows_name: "names", columns: AMBIGUOUS, limit: limit.limit, about: None };
    print_all(&context.output, printing, async |page: PageWanted| {
        let request = v1::ListAmbiguitiesRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            app: app.clone(),
            basis: basis.into(),
        };
        let response = backend.list_ambiguities(request).await?;
        if let Some(prediction) = &response.template {
            check_predicted(prediction)?;
            left_out = prediction.left_out_user_count;
        }
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.ambiguities })
    })
    .await?;
    if left_out > 0 {
        context.output.note(&format!("{left_out} users are left out: they lack what the template makes names of"));
    }
    Ok(Exit::Done)
}

const QUARANTINED: &[Column<v1::QuarantinedRecord>] = &[
    Column::shown("scope", |row| words::scope(row.scope.as_ref())),
    Column::shown("name", |row| row.scope.clone().unwrap_or_default().resource_name),
    Column::shown("record_id", |row| row.record_id.clone()),
    Column::extra("first_seen_at", |row| words::time(row.first_seen_at.as_ref())),
    Column::shown("last_seen_at", |row| words::time(row.last_seen_at.as_ref())),
    Column::shown("reason", |row| row.reason.clone()),
];

async fn quarantined(context: &Context, kinds: &[v1::ScopeKind], limit: &Limit) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let printing = Printing { rows_name: "records", columns: QUARANTINED, limit: limit.limit, about: None };
    print_all(&context.output, printing, async |page: PageWanted| {
        let request = v1::ListQuarantinedRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            scope_kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
        };
        let response = backend.list_quarantined(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.records })
    })
    .await?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place() {
        let all = (1..).map_while(|number| v1::GapKind::try_from(number).ok());
        for kind in all {
            assert_eq!(BY_IMPORTANCE.iter().filter(|known| **known == kind).count(), 1, "{kind:?}");
        }
    }

    #[test]
    fn lists_of_several_kinds_go_on() {
        assert_eq!(place_of(""), (0, String::new()));
        assert_eq!(place_of("3:a:b"), (3, "a:b".to_owned()));
        assert_eq!(place_of("x:"), (usize::MAX, String::new()));
    }

    #[test]
    fn evidence_is_told_as_far_as_it_goes() {
        #[track_caller]
        fn check(evidence_: Option<Evidence>, expected: &str) {
            let gap = v1::Gap { evidence: evidence_, ..v1::Gap::default() };
            assert_eq!(evidence(&gap).join("; "), expected);
        }
        check(None, "");
        let http = v1::HttpEvidence {
            http_status: 403,
            endpoint: "/api/v1/groups".to_owned(),
            missing_permission: "okta.groups.read".to_owned(),
            ..v1::HttpEvidence::default()
        };
        check(
            Some(Evidence::Http(http)),
            "endpoint /api/v1/groups; HTTP status 403; missing permission okta.groups.read",
        );
        let counts = v1::CountEvidence { expected_row_count: 7, seen_row_count: 0 };
        check(Some(Evidence::Counts(counts)), "rows expected 7; rows seen 0");
        let hold = v1::HoldEvidence { stored_row_count: 9, missing_row_count: 4, ..v1::HoldEvidence::default() };
        check(Some(Evidence::Hold(hold)), "rows stored 9; of these, not shown 4");
    }

    #[test]
    fn remedies_are_told_once() {
        let gap = |remedy: &str, state: v1::GapState| v1::Gap {
            remedy: remedy.to_owned(),
            state: state.into(),
            ..v1::Gap::default()
        };
        let mut remedies = Remedies::default();
        for (place, remedy) in [(1, "wait"), (0, "grant it"), (1, "wait")] {
            remedies.add(place, &gap(remedy, v1::GapState::Open));
        }
        remedies.add(1, &gap("over", v1::GapState::Closed));
        let text = remedies.text(&[v1::GapKind::Forbidden, v1::GapKind::NotRead]);
        assert_eq!(text, "\nFORBIDDEN (1)\n  to do  grant it\n\nNOT_READ (2)\n  to do  wait\n");
    }
}

//! `okta-idmap status`: how the orgs are doing. Entry point: [`run`].

use okta_idmap_proto::v1;
use serde_json::{Value, json};

use super::args::Form;
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::warn_if_partial;
use super::output::{Column, Field, to_json, warn};
use super::run::now;
use super::words;
use crate::core::ids::Timestamp;

/// Open gaps that are shown with their remedy; all of them are in the forms of JSON.
const GAPS_SHOWN_MAX: usize = 20;
/// Gaps that are read at most. An org with more is hardly readable at all, and the count is told anyway.
const GAPS_READ_MAX: usize = 10_000;
/// Days before a credential lapses from which on it is told: a weekend and a week's leave to act in.
const LAPSE_WARNING_DAYS: i64 = 7;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;
/// Gaps on a page.
const GAPS_PAGE_SIZE: i32 = 1_000;

/// One org with its open gaps.
struct Org {
    response: v1::GetStatusResponse,
    status: v1::OrgStatus,
    gaps: Vec<v1::Gap>,
}

/// Prints the status of the orgs.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let backend = context.backend_of_all().await?;
    let mut orgs = Vec::new();
    for name in names(context, &backend).await? {
        orgs.push(read(&backend, &name).await?);
    }
    match context.output.form {
        Form::Table => {
            for (index, org) in orgs.iter().enumerate() {
                if index > 0 {
                    context.output.text("\n")?;
                }
                context.output.thing(&fields(org), &Value::Null)?;
            }
        }
        Form::Json => {
            let documents: Vec<Value> = orgs.iter().map(document).collect();
            context.output.thing(&[], &json!({ "orgs": documents }))?;
        }
        Form::Jsonl | Form::Csv => {
            let mut list = context.output.list("orgs", COLUMNS)?;
            for org in &orgs {
                list.row(org, document)?;
            }
            list.finish(&[])?;
        }
    }
    for org in &orgs {
        let lapses_at = credential(org).lapses_at.as_ref().map(words::moment);
        if let Some(warning) = lapse_warning(&org.status.org, lapses_at, now()) {
            warn(&warning);
        }
        warn_if_partial(org.response.meta.as_ref());
    }
    Ok(Exit::Done)
}

/// The orgs that are asked for: the named ones, else all that whoever answers knows, else all of the configuration.
async fn names(context: &Context, backend: &Backend) -> Result<Vec<String>, Failure> {
    if !context.global.org.is_empty() {
        let mut names = context.global.org.clone();
        names.dedup();
        return Ok(names);
    }
    let configured: Vec<String> = context.config.orgs.keys().map(ToString::to_string).collect();
    let first = configured.first().cloned().unwrap_or_default();
    let request = status_request(&first);
    match backend.get_status(request).await {
        Ok(response) if !response.org_names.is_empty() => Ok(response.org_names),
        // The one org of a server that names none.
        Ok(_) if configured.is_empty() => Ok(vec![String::new()]),
        Ok(_) => Ok(configured),
        Err(failure) => Err(failure),
    }
}

fn status_request(org: &str) -> v1::GetStatusRequest {
    v1::GetStatusRequest { context: Some(v1::RequestContext { org: org.to_owned(), ..Default::default() }) }
}

async fn read(backend: &Backend, name: &str) -> Result<Org, Failure> {
    let request = status_request(name);
    let context = request.context.clone();
    let response = backend.get_status(request).await?;
    let mut gaps = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListGapsRequest {
            context: context.clone(),
            page_size: GAPS_PAGE_SIZE,
            page_token: page_token.clone(),
            states: vec![v1::GapState::Open.into()],
            ..Default::default()
        };
        let page = backend.list_gaps(request).await?;
        gaps.extend(page.gaps);
        if page.next_page_token.is_empty() || page.next_page_token == page_token || gaps.len() >= GAPS_READ_MAX {
            break;
        }
        page_token = page.next_page_token;
    }
    let status = response.status.clone().unwrap_or_default();
    Ok(Org { response, status, gaps })
}

fn document(org: &Org) -> Value {
    let mut document = to_json(&org.response);
    document["gaps"] = org.gaps.iter().map(to_json).collect();
    document
}

fn crawl(org: &Org) -> v1::CrawlStatus {
    org.status.crawl.clone().unwrap_or_default()
}

fn credential(org: &Org) -> v1::CredentialStatus {
    org.status.credential.unwrap_or_default()
}

fn store(org: &Org) -> v1::StoreStatus {
    org.status.store.clone().unwrap_or_default()
}

fn index(org: &Org) -> v1::IndexStatus {
    org.status.index.unwrap_or_default()
}

fn log(org: &Org) -> v1::LogStatus {
    org.status.log.unwrap_or_default()
}

fn rows(org: &Org, kind: v1::RowKind) -> String {
    let counts = store(org).row_counts;
    let count = counts.iter().find(|count| count.kind() == kind).map(|count| count.row_count).unwrap_or_default();
    count.to_string()
}

fn filtered(org: &Org, kind: v1::RowKind) -> String {
    let counts = store(org).row_counts;
    let count = counts.iter().find(|count| count.kind() == kind).map(|count| count.filtered_count).unwrap_or_default();
    count.to_string()
}

fn open_gaps(org: &Org) -> u32 {
    org.response.open_gaps.iter().map(|count| count.gap_count).sum()
}

fn held(org: &Org) -> u32 {
    let held = org.response.open_gaps.iter().filter(|count| count.kind() == v1::GapKind::Held);
    held.map(|count| count.gap_count).sum()
}

/// What to tell of a credential that lapses soon: it does when nobody uses it (facts 10.1).
fn lapse_warning(org: &str, lapses_at: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let left_millis = lapses_at?.millis_since(now);
    if left_millis >= LAPSE_WARNING_DAYS * DAY_MILLIS {
        return None;
    }
    let advice = "run `okta-idmap serve`, or `okta-idmap check` at least once in 30 days";
    Some(match left_millis {
        ..0 => format!("{org}: Okta has probably revoked the credential, which was not used for 30 days; {advice}"),
        _ => {
            let days = left_millis / DAY_MILLIS;
            format!("{org}: Okta revokes the credential in {days} days unless it is used: {advice}")
        }
    })
}

const COLUMNS: &[Column<Org>] = &[
    Column::shown("org", |org| org.status.org.clone()),
    Column::shown("domain", |org| org.status.domain.clone()),
    Column::shown("crawl_state", |org| words::crawl_state(crawl(org).state)),
    Column::shown("crawl_completed_at", |org| words::time(crawl(org).completed_at.as_ref())),
    Column::shown("crawl_next_due_at", |org| words::time(crawl(org).next_due_at.as_ref())),
    Column::shown("revision", |org| store(org).revision.to_string()),
    Column::shown("users", |org| rows(org, v1::RowKind::User)),
    Column::shown("groups", |org| rows(org, v1::RowKind::Group)),
    Column::shown("members", |org| rows(org, v1::RowKind::GroupMember)),
    Column::shown("apps", |org| rows(org, v1::RowKind::App)),
    Column::shown("app_users", |org| rows(org, v1::RowKind::AppUser)),
    Column::shown("app_groups", |org| rows(org, v1::RowKind::AppGroup)),
    Column::shown("filtered_users", |org| filtered(org, v1::RowKind::User)),
    Column::shown("filtered_groups", |org| filtered(org, v1::RowKind::Group)),
    Column::shown("quarantined", |org| store(org).quarantined_count.to_string()),
    Column::shown("open_gaps", |org| open_gaps(org).to_string()),
    Column::shown("credential_state", |org| words::credential_state(credential(org).state)),
    Column::shown("credential_used_at", |org| words::time(credential(org).used_at.as_ref())),
    Column::shown("credential_lapses_at", |org| words::time(credential(org).lapses_at.as_ref())),
    Column::shown("log_state", |org| words::follow_state(log(org).state)),
    Column::shown("log_observed_through", |org| words::time(log(org).observed_through.as_ref())),
    Column::shown("log_lag", |org| words::seconds(log(org).lag.as_ref())),
    Column::shown("log_polled_at", |org| words::time(log(org).polled_at.as_ref())),
    Column::shown("log_poll_interval", |org| words::seconds(log(org).poll_interval.as_ref())),
    Column::shown("pending_reads", |org| log(org).pending_read_count.to_string()),
    Column::shown("held_scopes", |org| held(org).to_string()),
    Column::shown("index_state", |org| words::index_state(index(org).state)),
    Column::shown("index_revision", |org| index(org).revision.to_string()),
];

fn fields(org: &Org) -> Vec<Field> {
    let mut fields: Vec<Field> = COLUMNS.iter().map(|column| Field::new(column.name, (column.cell)(org))).collect();
    if crawl(org).completed_at.is_none() {
        let advice = "no crawl was ever completed: run `okta-idmap sync`, or wait for it";
        fields.push(Field::in_table("to_do", advice.to_owned()));
    }
    let mut gaps: Vec<String> = org
        .gaps
        .iter()
        .take(GAPS_SHOWN_MAX)
        .map(|gap| format!("{}, since {}: {}", gap.id, words::time(gap.first_seen_at.as_ref()), gap.remedy))
        .collect();
    let more = usize::try_from(open_gaps(org)).unwrap_or(usize::MAX).max(org.gaps.len()).saturating_sub(gaps.len());
    if more > 0 {
        gaps.push(format!("and {more} more; --output json has them all"));
    }
    fields.push(Field::in_table("gaps", gaps.join("\n")));
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_that_lapses_soon_is_told() {
        #[track_caller]
        fn check(left_days: Option<i64>, expected_part: Option<&str>) {
            let now = Timestamp::from_millis(1_770_000_000_000);
            let lapses_at = left_days.map(|days| now.plus_millis(days * DAY_MILLIS));
            let found = lapse_warning("acme", lapses_at, now);
            assert_eq!(found.is_some(), expected_part.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(expected_part.unwrap_or_default()));
        }
        check(None, None);
        check(Some(30), None);
        check(Some(7), None);
        check(Some(6), Some("acme: Okta revokes the credential in 6 days"));
        check(Some(0), Some("in 0 days"));
        check(Some(-1), Some("probably revoked"));
    }
}

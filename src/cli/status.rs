//! `okta-idmap status`: how the orgs are doing. Entry point: [`run`].

use okta_idmap_proto::v1;
use serde_json::{Value, json};

use super::args::Form;
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::warn_if_partial;
use super::output::{Column, Field, to_json};
use super::words;

/// Open gaps that are shown with their remedy; all of them are in the forms of JSON.
const GAPS_SHOWN_MAX: usize = 20;
/// Gaps that are read at most. An org with more is hardly readable at all, and the count is told anyway.
const GAPS_READ_MAX: usize = 10_000;
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

fn open_gaps(org: &Org) -> u32 {
    org.response.open_gaps.iter().map(|count| count.gap_count).sum()
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
    Column::shown("quarantined", |org| store(org).quarantined_count.to_string()),
    Column::shown("open_gaps", |org| open_gaps(org).to_string()),
    Column::shown("credential_state", |org| words::credential_state(credential(org).state)),
    Column::shown("credential_used_at", |org| words::time(credential(org).used_at.as_ref())),
    Column::shown("credential_lapses_at", |org| words::time(credential(org).lapses_at.as_ref())),
    Column::shown("log_observed_through", |org| words::time(log(org).observed_through.as_ref())),
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

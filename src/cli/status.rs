//! `okta-idmap status`: how the orgs are doing. Entry point: [`run`].

use std::collections::BTreeMap;

use okta_idmap_proto::v1;
use serde_json::{Value, json};

use super::args::Form;
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::gaps::BY_IMPORTANCE;
use super::lists::warn_if_partial;
use super::output::text::wrapped;
use super::output::{Column, Field, to_json, warn};
use super::run::now;
use super::words;
use crate::core::ids::Timestamp;

/// Kinds of trouble that are shown with their remedy: most orgs have one or two. All gaps are in the forms of JSON.
const TROUBLES_SHOWN_MAX: usize = 10;
/// Gaps of one trouble that are named.
const GAPS_NAMED_MAX: usize = 3;
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

fn overrides(org: &Org) -> v1::OverrideStatus {
    store(org).overrides.unwrap_or_default()
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
    Column::shown("overrides", |org| (overrides(org).rpc_count + overrides(org).config_count).to_string()),
    Column::extra("config_overrides", |org| overrides(org).config_count.to_string()),
    Column::shown("override_ends_at", |org| words::time(overrides(org).next_expires_at.as_ref())),
    Column::shown("aliases", |org| overrides(org).alias_count.to_string()),
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
    fields.push(Field::in_table("gaps", gap_lines(&org.response.open_gaps, &org.gaps).join("\n")));
    fields
}

/// The open gaps in a few lines: how many of each kind, and what to do about them, what matters most first.
fn gap_lines(counts: &[v1::GapCount], gaps: &[v1::Gap]) -> Vec<String> {
    if counts.is_empty() && gaps.is_empty() {
        return Vec::new();
    }
    let place = |kind: v1::GapKind| BY_IMPORTANCE.iter().position(|known| *known == kind).unwrap_or(usize::MAX);
    let mut counts: Vec<&v1::GapCount> = counts.iter().collect();
    counts.sort_by_key(|count| place(count.kind()));
    let counted = counts.iter().map(|count| format!("{} {}", count.gap_count, words::gap_kind(count.kind)));
    let mut lines = vec![counted.collect::<Vec<_>>().join(", ")];
    let mut troubles: BTreeMap<(usize, &str), Vec<&v1::Gap>> = BTreeMap::new();
    for gap in gaps {
        troubles.entry((place(gap.kind()), gap.remedy.as_str())).or_default().push(gap);
    }
    for ((_, remedy), gaps) in troubles.iter().take(TROUBLES_SHOWN_MAX) {
        for gap in gaps.iter().take(GAPS_NAMED_MAX) {
            let since = words::time(gap.first_seen_at.as_ref());
            lines.push(if since.is_empty() { gap.id.clone() } else { format!("{}, since {since}", gap.id) });
        }
        if gaps.len() > GAPS_NAMED_MAX {
            lines.push(format!("and {} more of the kind", gaps.len() - GAPS_NAMED_MAX));
        }
        lines.extend(wrapped("  to do  ", remedy).lines().map(str::to_owned));
    }
    if troubles.len() > TROUBLES_SHOWN_MAX {
        lines.push("and more; `okta-idmap gaps` shows them".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_counted_and_told_by_what_cures_them() {
        let gap = |kind: v1::GapKind, id: &str, remedy: &str| v1::Gap {
            id: id.to_owned(),
            kind: kind.into(),
            remedy: remedy.to_owned(),
            ..v1::Gap::default()
        };
        let mut gaps: Vec<v1::Gap> =
            (0..5).map(|n| gap(v1::GapKind::NotRead, &format!("NOT_READ:{n}"), "wait")).collect();
        gaps.push(gap(v1::GapKind::Forbidden, "FORBIDDEN:users", "grant it"));
        let counts = [(v1::GapKind::NotRead, 5), (v1::GapKind::Forbidden, 1)]
            .map(|(kind, gap_count)| v1::GapCount { kind: kind.into(), gap_count });
        let expected = [
            "1 FORBIDDEN, 5 NOT_READ",
            "FORBIDDEN:users",
            "  to do  grant it",
            "NOT_READ:0",
            "NOT_READ:1",
            "NOT_READ:2",
            "and 2 more of the kind",
            "  to do  wait",
        ];
        assert_eq!(gap_lines(&counts, &gaps), expected);
        assert_eq!(gap_lines(&[], &[]), [""; 0]);
    }

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

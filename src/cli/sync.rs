//! `okta-idmap sync`: one full crawl of each org, or the rest of an interrupted one. Entry point: [`run`].

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::args::Form;
use super::context::Context;
use super::failure::{Exit, Failure, sentence};
use super::output::{Column, warn};
use super::progress::{self, Manner, plural};
use super::run::{self, Progress};
use super::signals::until_done;
use crate::config::OrgConfig;
use crate::core::coverage::{GapKind, GapRecord, ReadFailure, hides, remedy, remedy_of};
use crate::core::model::{Kind, Scope};
use crate::engine::machine::CrawlOutcome;
use crate::engine::sync::SyncReport;

/// Gaps that the summary lists of an org. What is wrong is mostly one role or scope, and repeats; `status` has them all.
const GAPS_SHOWN_MAX: usize = 50;

/// What became of one org.
struct Done {
    org: String,
    seconds: f64,
    result: Result<SyncReport, String>,
}

/// Crawls the orgs one after the other. An org that fails does not keep the others from being read.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let orgs = context.orgs()?;
    let shutdown = CancellationToken::new();
    let crawls = async {
        let mut done = Vec::new();
        for org in orgs {
            if shutdown.is_cancelled() {
                break;
            }
            done.push(Box::pin(crawl(context, org, &shutdown)).await);
        }
        Ok(done)
    };
    let done = until_done(crawls, &shutdown).await?;
    print(context, &done)?;
    let exit = done.iter().fold(Exit::Done, |worst, done| worst.worse(exit_of(&done.result)));
    // What was not even begun is not done.
    Ok(if shutdown.is_cancelled() { exit.worse(Exit::Failed) } else { exit })
}

async fn crawl(context: &Context, org: &OrgConfig, shutdown: &CancellationToken) -> Done {
    let (sender, receiver) = watch::channel(Progress::default());
    let manner = Manner::of(&context.global, context.config.log.format);
    let name = org.name.to_string();
    let begun = Instant::now();
    let crawl = run::sync(&context.config, org, sender, shutdown);
    let (result, ()) = tokio::join!(crawl, progress::show(&name, manner, receiver));
    let result = result.map_err(|error| sentence(&error));
    Done { org: name, seconds: begun.elapsed().as_secs_f64(), result }
}

fn exit_of(result: &Result<SyncReport, String>) -> Exit {
    match result {
        Err(_) => Exit::Failed,
        Ok(report) => match &report.outcome {
            CrawlOutcome::Stopped(_) | CrawlOutcome::Interrupted => Exit::Failed,
            CrawlOutcome::Finished if report.open_gaps.is_empty() && report.quarantined == 0 => Exit::Done,
            CrawlOutcome::Finished if has_read_nothing(report) => Exit::Failed,
            CrawlOutcome::Finished => Exit::OpenGaps,
        },
    }
}

/// Whether no list could be read and nothing is stored: whatever answers there, it is no Okta org that can be used.
fn has_read_nothing(report: &SyncReport) -> bool {
    let is_unread = |scope: Scope| report.open_gaps.iter().any(|record| record.gap.scope == scope);
    report.meta.rows.values().all(|rows| *rows == 0)
        && [Scope::Users, Scope::Groups, Scope::Apps].into_iter().all(is_unread)
}

impl Done {
    fn report(&self) -> Option<&SyncReport> {
        self.result.as_ref().ok()
    }

    fn outcome(&self) -> &'static str {
        match &self.result {
            Err(_) => "failed",
            Ok(report) => match report.outcome {
                CrawlOutcome::Finished if report.open_gaps.is_empty() => "complete",
                CrawlOutcome::Finished => "finished_with_gaps",
                CrawlOutcome::Stopped(_) => "stopped",
                CrawlOutcome::Interrupted => "interrupted",
            },
        }
    }

    /// What went wrong and what to do, as a sentence; empty when nothing did.
    fn message(&self) -> String {
        match &self.result {
            Err(message) => message.clone(),
            Ok(report) => match &report.outcome {
                CrawlOutcome::Finished => String::new(),
                CrawlOutcome::Stopped(failure) => stopped(failure),
                CrawlOutcome::Interrupted => {
                    "interrupted; the next sync or serve goes on where it was, within a day".to_owned()
                }
            },
        }
    }

    /// Records that the filter keeps out.
    fn filtered(&self, kind: Kind) -> u64 {
        self.report().and_then(|report| report.filtered.get(&kind).copied()).unwrap_or_default()
    }

    fn rows(&self, kind: Kind) -> u64 {
        self.report().and_then(|report| report.meta.rows.get(&kind).copied()).unwrap_or_default()
    }

    fn count(&self, of: impl Fn(&SyncReport) -> u64) -> u64 {
        self.report().map(of).unwrap_or_default()
    }
}

fn stopped(failure: &ReadFailure) -> String {
    let resume = "the next sync or serve goes on where it was, within a day";
    match failure {
        ReadFailure::Unauthorized { detail } => {
            format!("Okta refuses the credential: {detail}; {}; {resume}", remedy(&Scope::Users, GapKind::Unauthorized))
        }
        ReadFailure::Unreachable { detail } => {
            format!(
                "the org cannot be reached: {detail}; check its address, the name service and the way out; {resume}"
            )
        }
        ReadFailure::Forbidden { detail, .. } | ReadFailure::Failed { detail } | ReadFailure::NotFound { detail } => {
            format!("the crawl stopped: {detail}; {resume}")
        }
        ReadFailure::CursorGone | ReadFailure::RestartWalk { .. } | ReadFailure::SearchUnavailable => {
            format!("the crawl stopped: Okta asked for a walk to begin again; {resume}")
        }
    }
}

const SUMMARY: &[Column<Done>] = &[
    Column::shown("org", |done| done.org.clone()),
    Column::shown("outcome", |done| done.outcome().to_owned()),
    Column::shown("seconds", |done| format!("{:.1}", done.seconds)),
    Column::shown("requests", |done| done.count(|report| report.requests).to_string()),
    Column::shown("users", |done| done.rows(Kind::User).to_string()),
    Column::shown("groups", |done| done.rows(Kind::Group).to_string()),
    Column::shown("members", |done| done.rows(Kind::GroupMember).to_string()),
    Column::shown("apps", |done| done.rows(Kind::App).to_string()),
    Column::shown("app_users", |done| done.rows(Kind::AppUser).to_string()),
    Column::shown("app_groups", |done| done.rows(Kind::AppGroup).to_string()),
    Column::shown("filtered_users", |done| done.filtered(Kind::User).to_string()),
    Column::shown("filtered_groups", |done| done.filtered(Kind::Group).to_string()),
    Column::shown("gaps", |done| done.count(|report| report.open_gaps.len() as u64).to_string()),
    Column::shown("bad_records", |done| done.count(|report| report.quarantined as u64).to_string()),
    Column::extra("revision", |done| done.count(|report| report.meta.revision.0).to_string()),
    Column::extra("message", Done::message),
];

fn print(context: &Context, done: &[Done]) -> Result<(), Failure> {
    if context.output.form == Form::Json {
        let documents: Vec<Value> = done.iter().map(document).collect();
        context.output.thing(&[], &json!({ "orgs": documents }))?;
    } else {
        let mut list = context.output.list("orgs", SUMMARY)?;
        for done in done {
            list.row(done, document)?;
        }
        list.finish(&[])?;
    }
    for done in done {
        explain(done);
    }
    Ok(())
}

/// What is missing and what to do, on standard error.
fn explain(done: &Done) {
    let message = done.message();
    if !message.is_empty() {
        warn(&format!("{}: {message}", done.org));
    }
    let Some(report) = done.report() else { return };
    for record in report.open_gaps.iter().take(GAPS_SHOWN_MAX) {
        warn(&format!("{}: {}", done.org, gap_line(record)));
    }
    if report.open_gaps.len() > GAPS_SHOWN_MAX {
        let more = report.open_gaps.len() - GAPS_SHOWN_MAX;
        warn(&format!("{}: and {more} more gaps; `okta-idmap status --output json` has them all", done.org));
    }
    if report.quarantined > 0 {
        let count = report.quarantined;
        warn(&format!("{}: {count} records of Okta's could not be read and were left out", done.org));
    }
}

/// `FORBIDDEN:groups: GET … 403; hides groups and all their members; to do: give …`.
fn gap_line(record: &GapRecord) -> String {
    let gap = &record.gap;
    let hidden = hides(&gap.scope, gap.kind);
    let evidence = if gap.evidence.is_empty() { String::new() } else { format!(": {}", gap.evidence) };
    format!("{}{evidence}; hides {hidden}; to do: {}", gap.id(), remedy_of(gap))
}

fn document(done: &Done) -> Value {
    let gaps = done.report().map(|report| report.open_gaps.as_slice()).unwrap_or_default();
    let rows: serde_json::Map<String, Value> =
        Kind::ALL.iter().map(|kind| (plural(*kind).replace(' ', "_"), Value::from(done.rows(*kind)))).collect();
    let filtered: serde_json::Map<String, Value> =
        Kind::ALL.iter().map(|kind| (plural(*kind).replace(' ', "_"), Value::from(done.filtered(*kind)))).collect();
    json!({
        "org": done.org,
        "outcome": done.outcome(),
        "message": done.message(),
        "seconds": Duration::from_secs_f64(done.seconds.max(0.0)).as_millis() as f64 / 1_000.0,
        "requests": done.count(|report| report.requests),
        "revision": done.count(|report| report.meta.revision.0),
        "completed_at": done.report().and_then(|report| report.meta.crawl.completed_at).map(|at| at.to_iso()),
        "rows": rows,
        "filtered": filtered,
        "quarantined_count": done.count(|report| report.quarantined as u64),
        "open_gaps": gaps.iter().map(gap_json).collect::<Vec<_>>(),
    })
}

fn gap_json(record: &GapRecord) -> Value {
    let gap = &record.gap;
    json!({
        "id": gap.id().as_str(),
        "kind": gap.kind.name(),
        "scope": gap.scope.name(),
        "evidence": gap.evidence,
        "hides": hides(&gap.scope, gap.kind),
        "remedy": remedy_of(gap),
        "first_seen_at": record.first_seen.to_iso(),
        "last_seen_at": record.last_seen.to_iso(),
        "observation_count": record.count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::coverage::Gap;
    use crate::core::ids::Timestamp;
    use crate::store::Meta;

    fn done(outcome: CrawlOutcome, gaps: usize, quarantined: usize) -> Done {
        let gap = Gap { scope: Scope::Groups, kind: GapKind::Forbidden, evidence: "GET /api/v1/groups: 403".into() };
        let (first_seen, last_seen) = (Timestamp::from_millis(0), Timestamp::from_millis(1));
        let record = GapRecord { gap, first_seen, last_seen, count: 2, open: true, opened_at: None, closed_at: None };
        let meta = Meta { rows: [(Kind::AppUser, 7)].into(), ..Meta::default() };
        let report = SyncReport {
            outcome,
            meta,
            open_gaps: vec![record; gaps],
            quarantined,
            filtered: [(Kind::User, 2)].into(),
            requests: 3,
        };
        Done { org: "acme".into(), seconds: 1.2345, result: Ok(report) }
    }

    #[test]
    fn how_a_crawl_ended() {
        #[track_caller]
        fn check(done: Done, exit: Exit, outcome: &str, message: &str) {
            assert_eq!((exit_of(&done.result), done.outcome()), (exit, outcome));
            assert!(done.message().contains(message) && done.message().is_empty() == message.is_empty());
        }
        check(done(CrawlOutcome::Finished, 0, 0), Exit::Done, "complete", "");
        check(done(CrawlOutcome::Finished, 2, 0), Exit::OpenGaps, "finished_with_gaps", "");
        check(done(CrawlOutcome::Finished, 0, 1), Exit::OpenGaps, "complete", "");
        check(done(CrawlOutcome::Interrupted, 0, 0), Exit::Failed, "interrupted", "goes on where it was");
        let dead = ReadFailure::Unauthorized { detail: "401".to_owned() };
        check(done(CrawlOutcome::Stopped(dead), 0, 0), Exit::Failed, "stopped", "create a new API token");
        let locked = Done { result: Err("the store is locked".into()), ..done(CrawlOutcome::Finished, 0, 0) };
        check(locked, Exit::Failed, "failed", "the store is locked");
    }

    #[test]
    fn a_gap_says_what_to_do() {
        let done = done(CrawlOutcome::Finished, 1, 0);
        let line = gap_line(&done.report().unwrap().open_gaps[0]);
        assert!(line.starts_with("FORBIDDEN:groups: GET /api/v1/groups: 403; hides groups"), "{line}");
        assert!(line.contains("to do: give the credential's owner"), "{line}");
        let json = document(&done);
        assert_eq!((&json["rows"]["app_users"], &json["rows"]["users"]), (&json!(7), &json!(0)));
        assert_eq!((&json["seconds"], &json["open_gaps"][0]["scope"]), (&json!(1.234), &json!("groups")));
    }
}

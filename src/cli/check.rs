//! `okta-idmap check`: what the credentials can read. Entry point: [`run`].

use serde_json::{Value, json};

use super::args::Form;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::{Column, Output, warn};
use super::run;
use super::signals::until_done;
use crate::config::OrgConfig;
use crate::engine::probe::{ProbeLine, ProbeReport, ProbeResult};
use tokio_util::sync::CancellationToken;

/// Difference of the clocks that is worth a remark, in milliseconds. Okta's dates are whole seconds and take a moment to
/// arrive; what hurts (tokens, waits) begins far above.
const CLOCK_REMARK_MILLIS: i64 = 5_000;

/// A line of the report with the org it is about.
struct Line {
    org: String,
    line: ProbeLine,
}

/// Probes the orgs one after the other and prints what came of it.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let orgs = context.orgs()?;
    // Nothing is open that would have to be closed: the first signal may end it.
    let shutdown = CancellationToken::new();
    let probed = async {
        let mut reports = Vec::new();
        for org in orgs {
            let report = tokio::select! {
                report = run::probe(&context.config, org) => report?,
                () = shutdown.cancelled() => return Err(Failure::Failed(anyhow::anyhow!("interrupted"))),
            };
            reports.push((org, report));
        }
        Ok(reports)
    };
    let reports = until_done(probed, &shutdown).await?;
    print(context.output, &reports)?;
    let exit = reports.iter().fold(Exit::Done, |worst, (_, report)| worst.worse(exit_of(report)));
    Ok(exit)
}

fn exit_of(report: &ProbeReport) -> Exit {
    match (report.is_fatal(), report.is_fine()) {
        (true, _) => Exit::Failed,
        (false, true) => Exit::Done,
        (false, false) => Exit::OpenGaps,
    }
}

const LINES: &[Column<Line>] = &[
    Column::extra("org", |line| line.org.clone()),
    Column::shown("probe", |line| line.line.probe.name().to_owned()),
    Column::shown("result", |line| line.line.result.name().to_owned()),
    Column::shown("rate_limit", |line| line.line.rate_limit.map(|limit| limit.to_string()).unwrap_or_default()),
    Column::shown("path", |line| line.line.path.clone()),
    Column::extra("detail", |line| line.line.detail.clone()),
    Column::extra("hides", |line| line.line.hides.clone()),
    Column::extra("remedy", |line| line.line.remedy.clone()),
];

fn print(output: Output, reports: &[(&OrgConfig, ProbeReport)]) -> Result<(), Failure> {
    match output.form {
        Form::Table => {
            for (index, (org, report)) in reports.iter().enumerate() {
                let blank = if index > 0 { "\n" } else { "" };
                output.text(&format!("{blank}{}\n", headline(org, report)))?;
                list(output, std::iter::once((*org, report)))?;
                explain(report);
            }
        }
        Form::Json => {
            let documents: Vec<Value> = reports.iter().map(|(org, report)| document(org, report)).collect();
            output.thing(&[], &json!({ "orgs": documents }))?;
        }
        Form::Jsonl | Form::Csv => list(output, reports.iter().map(|(org, report)| (*org, report)))?,
    }
    Ok(())
}

fn list<'a>(output: Output, reports: impl Iterator<Item = (&'a OrgConfig, &'a ProbeReport)>) -> Result<(), Failure> {
    let mut list = output.list("probes", LINES)?;
    for (org, report) in reports {
        for line in &report.lines {
            let line = Line { org: org.name.to_string(), line: line.clone() };
            list.row(&line, |line| {
                let mut json = line_json(&line.line);
                json["org"] = Value::from(line.org.as_str());
                json
            })?;
        }
    }
    Ok(list.finish(&[])?)
}

fn headline(org: &OrgConfig, report: &ProbeReport) -> String {
    let id = report.org_id.as_ref().map(|id| format!(", org id {id}")).unwrap_or_default();
    format!("{} at {}{id}{}", org.name, org.domain, clock_remark(report))
}

fn clock_remark(report: &ProbeReport) -> String {
    match report.clock_ahead_millis {
        Some(ahead) if ahead.abs() >= CLOCK_REMARK_MILLIS => {
            let direction = if ahead > 0 { "ahead of" } else { "behind" };
            format!(", this machine's clock is {} s {direction} Okta's: set it by NTP", ahead.abs() / 1_000)
        }
        _ => String::new(),
    }
}

/// What is wrong and what to do, below the table: too long for a column.
fn explain(report: &ProbeReport) {
    for line in report.lines.iter().filter(|line| line.result != ProbeResult::Readable) {
        let name = line.probe.name();
        let parts = [
            ("", line.detail.as_str()),
            ("hidden without it: ", line.hides.as_str()),
            ("to do: ", line.remedy.as_str()),
        ];
        let told: Vec<String> =
            parts.iter().filter(|(_, text)| !text.is_empty()).map(|(head, text)| format!("{head}{text}")).collect();
        warn(&format!("{name}: {}; {}", line.result.name(), told.join("; ")));
    }
}

fn line_json(line: &ProbeLine) -> Value {
    json!({
        "probe": line.probe.name(),
        "path": line.path,
        "result": line.result.name(),
        "detail": line.detail,
        "hides": line.hides,
        "remedy": line.remedy,
        "rate_limit": line.rate_limit,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a difference of clocks in seconds, for people")]
fn document(org: &OrgConfig, report: &ProbeReport) -> Value {
    json!({
        "org": org.name.as_str(),
        "domain": org.domain.host(),
        "org_id": report.org_id,
        "clock_ahead_seconds": report.clock_ahead_millis.map(|millis| millis as f64 / 1_000.0),
        "all_readable": report.is_fine(),
        "probes": report.lines.iter().map(line_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::probe::Probe;

    fn report(result: ProbeResult, clock_ahead_millis: Option<i64>) -> ProbeReport {
        let line = ProbeLine {
            probe: Probe::Groups,
            path: "/api/v1/groups".to_owned(),
            result,
            detail: String::new(),
            hides: String::new(),
            remedy: String::new(),
            rate_limit: None,
        };
        ProbeReport { org_id: None, clock_ahead_millis, lines: vec![line] }
    }

    #[test]
    fn the_result_decides_the_exit_code() {
        #[track_caller]
        fn check(result: ProbeResult, expected: Exit) {
            assert_eq!(exit_of(&report(result, None)), expected);
        }
        check(ProbeResult::Readable, Exit::Done);
        check(ProbeResult::NotOffered, Exit::Done);
        for result in [ProbeResult::Empty, ProbeResult::Forbidden, ProbeResult::ScopeMissing, ProbeResult::Failed] {
            check(result, Exit::OpenGaps);
        }
        check(ProbeResult::NotAsked, Exit::OpenGaps);
        check(ProbeResult::Unauthorized, Exit::Failed);
        check(ProbeResult::Unreachable, Exit::Failed);
    }

    #[test]
    fn clocks_that_differ_are_told() {
        #[track_caller]
        fn check(ahead: Option<i64>, expected: &str) {
            assert_eq!(clock_remark(&report(ProbeResult::Readable, ahead)), expected);
        }
        check(None, "");
        check(Some(1_900), "");
        check(Some(61_000), ", this machine's clock is 61 s ahead of Okta's: set it by NTP");
        check(Some(-61_000), ", this machine's clock is 61 s behind Okta's: set it by NTP");
    }
}

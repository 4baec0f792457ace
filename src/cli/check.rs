//! `okta-idmap check`: what the credentials can read. Entry point: [`run`].

use serde_json::{Value, json};

use super::args::Form;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::text::wrapped;
use super::output::{Column, Output};
use super::run;
use super::signals::until_done;
use crate::config::{Credential, OrgConfig};
use crate::core::probe::{ProbeLine, ProbeReport, ProbeResult};
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

/// What has to be granted for it, in short: a permission of a custom role, or that only standard roles have it.
fn needs(line: &ProbeLine) -> String {
    let Some(permission) = line.probe.permission() else { return String::new() };
    permission.custom_permission.unwrap_or("a standard role").to_owned()
}

fn needs_scope(line: &ProbeLine) -> String {
    line.probe.permission().map(|permission| permission.oauth_scope).unwrap_or_default().to_owned()
}

const LINES: &[Column<Line>] = &[
    Column::extra("org", |line| line.org.clone()),
    Column::shown("probe", |line| line.line.probe.name().to_owned()),
    Column::shown("result", |line| line.line.result.name().to_owned()),
    Column::shown("needs", |line| needs(&line.line)),
    Column::extra("needs_scope", |line| needs_scope(&line.line)),
    Column::extra("bucket", |line| line.line.bucket.to_owned()),
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
                output.text(&explanation(report))?;
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
    format!("{} at {}{id}{}{}", org.name, org.domain, owner(&org.credential, report), clock_remark(report))
}

/// Whose credential it is, as far as it is known.
fn owner(credential: &Credential, report: &ProbeReport) -> String {
    let owner = match (credential, &report.owner) {
        (Credential::ServiceApp(app), _) => Some(format!(", service app {}", app.client_id)),
        (Credential::ApiToken(_), owner) => owner.as_ref().map(|owner| format!(", API token of user {owner}")),
    };
    let roles = report.roles.as_ref().map(|roles| match roles.as_slice() {
        [] => " (no role)".to_owned(),
        roles => format!(" ({})", roles.join(", ")),
    });
    let lapses = report.token_expires_at.map(|at| format!(", lapses on {at} unless it is used"));
    format!("{}{}{}", owner.unwrap_or_default(), roles.unwrap_or_default(), lapses.unwrap_or_default())
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
fn explanation(report: &ProbeReport) -> String {
    let mut text = String::new();
    let mut told = |head: &str, body: &str| {
        if !body.is_empty() {
            text.push_str(&wrapped(head, body));
        }
    };
    // What was not asked for has its reason in another line. A result that is fine for an optional probe says so itself: one
    // that is not shows that nothing can be read, whatever the probe was about.
    let is_told = |line: &ProbeLine| !line.result.is_fine() && line.result != ProbeResult::NotAsked;
    for line in report.lines.iter().filter(|line| is_told(line)) {
        told("", &format!("\n{}: {}", line.probe.name(), line.result.name()));
        told("  seen   ", &line.detail);
        told("  hides  ", &line.hides);
        told("  to do  ", &line.remedy);
    }
    let missing = report.missing_scopes();
    if !missing.is_empty() {
        told("", &format!("\nOAuth scopes that were not granted: {}", missing.join(", ")));
        told("  to do  ", "grant them to the service app (a Super Administrator can)");
    }
    let count = |wanted: fn(&ProbeLine) -> bool| report.lines.iter().filter(|line| wanted(line)).count();
    let partial = count(|line| line.result == ProbeResult::Partial);
    let not_asked = count(|line| line.result == ProbeResult::NotAsked && !line.is_fine());
    let bad = report.lines.iter().filter(|line| is_told(line)).count() - partial;
    let mut summary = format!("{bad} not readable, {partial} readable in part");
    if not_asked > 0 {
        summary.push_str(&format!(", {not_asked} not asked for"));
    }
    if report.is_fine() {
        summary = "everything that is needed can be read".to_owned();
    }
    text.push_str(&format!("\n{summary}\n"));
    text
}

fn line_json(line: &ProbeLine) -> Value {
    let permission = line.probe.permission().map(|permission| {
        json!({
            "standard_role": permission.standard_role,
            "custom_permission": permission.custom_permission,
            "oauth_scope": permission.oauth_scope,
        })
    });
    json!({
        "probe": line.probe.name(),
        "optional": line.probe.is_optional(),
        "path": line.path,
        "result": line.result.name(),
        "detail": line.detail,
        "hides": line.hides,
        "remedy": line.remedy,
        "needs": permission,
        "bucket": line.bucket,
        "rate_limit": line.rate_limit,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a difference of clocks in seconds, for people")]
fn document(org: &OrgConfig, report: &ProbeReport) -> Value {
    let limits = report.rate_limits.iter().map(|(bucket, limit)| json!({ "bucket": bucket, "rate_limit": limit }));
    json!({
        "org": org.name.as_str(),
        "domain": org.domain.host(),
        "org_id": report.org_id,
        "owner_id": report.owner.as_ref().map(ToString::to_string),
        "roles": report.roles,
        "token_expires_at": report.token_expires_at.map(|at| at.to_iso()),
        "granted_scopes": report.granted_scopes,
        "missing_scopes": report.missing_scopes(),
        "clock_ahead_seconds": report.clock_ahead_millis.map(|millis| millis as f64 / 1_000.0),
        "all_readable": report.is_fine(),
        "rate_limits": limits.collect::<Vec<_>>(),
        "probes": report.lines.iter().map(line_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{Timestamp, UserId};
    use crate::core::probe::Probe;
    use crate::core::secret::Secret;

    fn report(result: ProbeResult, clock_ahead_millis: Option<i64>) -> ProbeReport {
        let line = ProbeLine {
            probe: Probe::Groups,
            path: "/api/v1/groups".to_owned(),
            result,
            detail: "what was seen".to_owned(),
            hides: "groups".to_owned(),
            remedy: "grant it".to_owned(),
            bucket: "groups-list",
            rate_limit: None,
        };
        ProbeReport { clock_ahead_millis, lines: vec![line], ..ProbeReport::default() }
    }

    #[test]
    fn the_result_decides_the_exit_code() {
        for result in ProbeResult::ALL {
            let expected = match result {
                ProbeResult::Readable | ProbeResult::NotOffered | ProbeResult::NotTold => Exit::Done,
                ProbeResult::Unauthorized | ProbeResult::Unreachable => Exit::Failed,
                ProbeResult::Partial
                | ProbeResult::Empty
                | ProbeResult::Forbidden
                | ProbeResult::ScopeMissing
                | ProbeResult::Failed
                | ProbeResult::NotAsked => Exit::OpenGaps,
            };
            assert_eq!(exit_of(&report(result, None)), expected, "{result:?}");
        }
        let scopes_missing = ProbeReport { granted_scopes: Some(Vec::new()), ..report(ProbeResult::Readable, None) };
        assert_eq!(exit_of(&scopes_missing), Exit::OpenGaps);
    }

    #[test]
    fn what_is_wrong_is_explained() {
        let text = explanation(&report(ProbeResult::Partial, None));
        let expected = "\ngroups: partial\n  seen   what was seen\n  hides  groups\n  to do  grant it\n\
                        \n0 not readable, 1 readable in part\n";
        assert_eq!(text, expected);
        assert_eq!(explanation(&report(ProbeResult::Readable, None)), "\neverything that is needed can be read\n");
        // What is optional is told where it shows that nothing can be read, and only there.
        let of_owner = |result: ProbeResult| {
            let mut report = report(result, None);
            report.lines[0].probe = Probe::Owner;
            report
        };
        let text = explanation(&of_owner(ProbeResult::Unauthorized));
        let expected = "\nowner: unauthorized\n  seen   what was seen\n  hides  groups\n  to do  grant it\n\
                        \n1 not readable, 0 readable in part\n";
        assert_eq!(text, expected);
        assert_eq!(explanation(&of_owner(ProbeResult::NotTold)), "\neverything that is needed can be read\n");
        let scopes = ProbeReport { granted_scopes: Some(Vec::new()), ..ProbeReport::default() };
        assert!(explanation(&scopes).contains("not granted: okta.users.read, okta.groups.read"));
    }

    #[test]
    fn owners_are_told_by_id() {
        let known = ProbeReport {
            owner: Some(UserId::new("00u1").unwrap()),
            roles: Some(vec!["CUSTOM".to_owned(), "APP_ADMIN".to_owned()]),
            token_expires_at: Some(Timestamp::from_millis(0)),
            ..ProbeReport::default()
        };
        let expected =
            ", API token of user 00u1 (CUSTOM, APP_ADMIN), lapses on 1970-01-01T00:00:00.000Z unless it is used";
        let token = Credential::ApiToken(Secret::new("00token".to_owned()));
        assert_eq!(owner(&token, &known), expected);
        assert_eq!(owner(&token, &ProbeReport::default()), "");
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

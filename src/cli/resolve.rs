//! `okta-idmap resolve`: who an account belongs to, or each of many. Entry point: [`run`].
//!
//! Invariant: of a file a portion is in memory at a time, whatever its size and the length of its lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use okta_idmap_proto::limits::{BATCH_ITEMS_MAX, IDENTIFIER_BYTES_MAX};
use okta_idmap_proto::v1::{self, ErrorReason};

use super::args::{IdentifierForm, ResolveArgs};
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::{Metas, warn_if_partial};
use super::output::{Column, Field, to_json};
use super::words;

/// Resolves one account or many, and prints the outcome. Only RESOLVED ends with [`Exit::Done`].
pub(super) async fn run(context: &Context, args: &ResolveArgs) -> Result<Exit, Failure> {
    match (&args.from, &args.identifier) {
        (Some(path), _) => many(context, args, path).await,
        (None, identifier) => one(context, args, identifier.as_deref().unwrap_or_default()).await,
    }
}

async fn one(context: &Context, args: &ResolveArgs, identifier: &str) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let request = v1::ResolveAccountRequest {
        context: context.request_context()?,
        account: Some(account(args, identifier)),
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

/// What is shown of one of many.
const COLUMNS: &[Column<v1::BatchResolveResult>] = &[
    Column::shown("identifier", |result| result.correlation_id.clone()),
    Column::shown("outcome", |result| match &result.result {
        Some(v1::batch_resolve_result::Result::Resolution(resolution)) => words::outcome(resolution.outcome),
        Some(v1::batch_resolve_result::Result::Error(error)) => format!("ERROR: {}", error.message),
        None => String::new(),
    }),
    Column::shown("user_id", |result| user_of(result).id),
    Column::shown("login", |result| user_of(result).login),
    Column::extra("email", |result| user_of(result).email),
    Column::shown("user_name", |result| resolution_of(result).app_user.unwrap_or_default().user_name),
    Column::extra("external_id", |result| resolution_of(result).app_user.unwrap_or_default().external_id),
    Column::extra("tier", |result| words::tier_name(resolution_of(result).tier)),
    Column::shown("reason", |result| words::resolution(&resolution_of(result))),
];

fn resolution_of(result: &v1::BatchResolveResult) -> v1::Resolution {
    match &result.result {
        Some(v1::batch_resolve_result::Result::Resolution(resolution)) => resolution.clone(),
        _ => v1::Resolution::default(),
    }
}

fn user_of(result: &v1::BatchResolveResult) -> v1::UserRef {
    resolution_of(result).user.unwrap_or_default()
}

/// Resolves the lines of a file, a thousand at a time, or fewer where the answers are long.
async fn many(context: &Context, args: &ResolveArgs, path: &Path) -> Result<Exit, Failure> {
    let mut lines = Identifiers::open(path)?;
    let backend = context.backend().await?;
    let mut list = context.output.list("results", COLUMNS)?;
    let (mut metas, mut count, mut resolved) = (Metas::default(), 0_u64, 0_u64);
    let mut at_once = BATCH_ITEMS_MAX;
    loop {
        let portion = lines.take(at_once)?;
        if portion.is_empty() {
            break;
        }
        let mut rest = portion.as_slice();
        while !rest.is_empty() {
            let (asked, later) = rest.split_at(at_once.min(rest.len()));
            let answer = match batch(context, &backend, args, asked).await {
                Err(failure) if asked.len() > 1 && failure.is_refusal(ErrorReason::ResponseTooLarge) => {
                    at_once = asked.len().div_ceil(2);
                    continue;
                }
                answer => answer?,
            };
            rest = later;
            metas.add(answer.meta);
            for (mut result, identifier) in answer.results.into_iter().zip(asked) {
                result.correlation_id.clone_from(identifier);
                count += 1;
                resolved += u64::from(resolution_of(&result).outcome() == v1::ResolutionOutcome::Resolved);
                list.row(&result, to_json)?;
            }
            list.page_end()?;
        }
        at_once = (2 * at_once).min(BATCH_ITEMS_MAX);
    }
    list.finish(&[("meta", metas.to_json())])?;
    context.output.note(&format!("{resolved} of {count} RESOLVED"));
    metas.warn();
    Ok(if resolved == count { Exit::Done } else { Exit::NotFound })
}

/// Resolves a few in one call: as many results, in the same order.
async fn batch(
    context: &Context,
    backend: &Backend,
    args: &ResolveArgs,
    identifiers: &[String],
) -> Result<v1::BatchResolveResponse, Failure> {
    // The names come back by their places: one may be longer than what is sent back as it is.
    let items = identifiers.iter().map(|identifier| v1::BatchResolveItem {
        correlation_id: String::new(),
        account: Some(account(args, identifier)),
    });
    let request = v1::BatchResolveRequest {
        context: context.request_context()?,
        items: items.collect(),
        include_candidates: args.candidates,
        include_granting_groups: args.groups,
    };
    let answer = backend.batch_resolve(request).await?;
    let (asked, answered) = (identifiers.len(), answer.results.len());
    if asked != answered {
        return Err(anyhow!("{asked} accounts were asked for, and {answered} answered").into());
    }
    Ok(answer)
}

/// What some programs begin a file with; part of no identifier.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// The identifiers of a file: its lines, without the empty ones.
struct Identifiers {
    lines: Box<dyn BufRead>,
    /// For messages.
    name: String,
    line: u64,
}

impl Identifiers {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path == Path::new("-") {
            return Ok(Self { lines: Box::new(io::stdin().lock()), name: "standard input".to_owned(), line: 0 });
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("open {name}"))?;
        Ok(Self { lines: Box::new(BufReader::new(file)), name, line: 0 })
    }

    /// The next identifiers, at most `count`; none at the end.
    fn take(&mut self, count: usize) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        while found.len() < count {
            let mut line = Vec::new();
            // One byte more than may be sent, and the end of the line, tell that a line is too long.
            let mark_bytes = if self.line == 0 { BYTE_ORDER_MARK.len_utf8() } else { 0 };
            let limit = u64::try_from(IDENTIFIER_BYTES_MAX + 2 + mark_bytes).unwrap_or(u64::MAX);
            let read = (&mut self.lines).take(limit).read_until(b'\n', &mut line);
            if read.with_context(|| format!("read {}", self.name))? == 0 {
                break;
            }
            self.line += 1;
            let place = || format!("{}, line {}", self.name, self.line);
            let line = String::from_utf8(line).map_err(|_| anyhow!("{}: is not UTF-8", place()))?;
            let line = if self.line == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line) } else { &line };
            let identifier = line.trim_end_matches(['\n', '\r']);
            if identifier.len() > IDENTIFIER_BYTES_MAX {
                return Err(anyhow!("{}: longer than {IDENTIFIER_BYTES_MAX} bytes", place()));
            }
            if !identifier.is_empty() {
                found.push(identifier.to_owned());
            }
        }
        Ok(found)
    }
}

fn account(args: &ResolveArgs, identifier: &str) -> v1::AccountSelector {
    v1::AccountSelector {
        app: Some(any_app(&args.app)),
        identifier: Some(v1::Identifier { value: identifier.to_owned(), kind: identifier_kind(args.kind).into() }),
    }
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
    fn identifiers_are_lines() {
        let read = |text: &str| {
            let lines = Box::new(io::Cursor::new(text.to_owned()));
            Identifiers { lines, name: "f".to_owned(), line: 0 }.take(9).map_err(|error| error.to_string())
        };
        assert_eq!(read("\u{feff}ada\r\n\n\u{feff}jdoe").unwrap(), ["ada", "\u{feff}jdoe"]);
        let longest = "x".repeat(IDENTIFIER_BYTES_MAX);
        assert_eq!(read(&format!("\u{feff}{longest}\r\n{longest}")).unwrap(), [&*longest, &*longest]);
        for text in [format!("{longest}y"), format!("\u{feff}{longest}y\n"), format!("{longest}\ny{longest}\n")] {
            assert!(read(&text).unwrap_err().contains("longer than"));
        }
    }

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

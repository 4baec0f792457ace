//! `okta-idmap release`: lets the deletion brake go, after a look at what it holds. Entry point: [`run`].
//!
//! Invariants:
//! - Nothing is removed without a yes: typed on a terminal, or given as `--yes`.
//! - What is removed is what was shown: the number of rows goes along, and another number refuses.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::anyhow;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::gap::Evidence;
use serde_json::json;

use super::args::ReleaseArgs;
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::{Field, to_json, warn};
use super::{run as engine, words};
use crate::core::coverage::{GapId, GapKind};
use crate::core::model::Scope;

/// Releases one hold.
pub(super) async fn run(context: &Context, args: &ReleaseArgs) -> Result<Exit, Failure> {
    let scope = read_hold(&args.hold).map_err(Failure::Usage)?;
    let backend = context.backend().await?;
    let Some(gap) = find(context, &backend, &scope).await? else { return Ok(Exit::NotFound) };
    let missing = missing_rows(&gap);
    for line in preview(&gap) {
        warn(&line);
    }
    if !args.yes && !is_confirmed(missing)? {
        warn("nothing was removed");
        return Ok(Exit::Failed);
    }
    let (gap, removed) = if backend.is_server() {
        let request = v1::ReleaseHoldRequest {
            context: context.request_context()?,
            gap_id: gap.id.clone(),
            expected_missing_row_count: missing,
        };
        let response = backend.release_hold(request).await?;
        (response.gap.unwrap_or(gap), response.removed_row_count)
    } else {
        let org = context.config.require_org(context.global.org.first().map(String::as_str))?;
        let removed = engine::release(&context.config, org, scope.clone(), missing).await?;
        let backend = context.backend().await?;
        let now = list(context, &backend, vec![gap.id.clone()]).await?.into_iter().next();
        (now.unwrap_or(gap), removed)
    };
    if scope == Scope::Apps {
        context.output.note("apps are asked for by id, and removed where Okta does not know them any more");
    }
    let fields = [
        Field::new("gap_id", gap.id.clone()),
        Field::new("state", words::gap_state(gap.state)),
        Field::new("removed_rows", removed.to_string()),
    ];
    context.output.thing(&fields, &json!({ "gap": to_json(&gap), "removed_row_count": removed }))?;
    Ok(Exit::Done)
}

/// The collection that is meant by the id of a gap, or by its own name.
fn read_hold(text: &str) -> anyhow::Result<Scope> {
    let kinds = ["HELD:", "EMPTY_SUSPECT:", "UNSEEN_REFERENCE:"];
    let name = kinds.iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(text);
    Scope::parse(name).filter(|scope| *scope != Scope::Log).ok_or_else(|| {
        anyhow!(
            "\"{text}\" is no hold: give the id of a gap of kind HELD or UNSEEN_REFERENCE, such as HELD:users, or what it is \
             about, such as app_users(0oa1) or user(00u1); `okta-idmap gaps` shows them"
        )
    })
}

/// The open gap of a hold; `None` once it was told that there is none.
async fn find(context: &Context, backend: &Backend, scope: &Scope) -> Result<Option<v1::Gap>, Failure> {
    let kinds: &[GapKind] = match scope.object() {
        Some(_) => &[GapKind::UnseenReference],
        None => &[GapKind::Held, GapKind::EmptySuspect],
    };
    let ids = kinds.iter().map(|kind| GapId::of(*kind, scope).as_str().to_owned()).collect();
    let gaps = list(context, backend, ids).await?;
    let open: Vec<v1::Gap> = gaps.into_iter().filter(|gap| gap.state() == v1::GapState::Open).collect();
    let is_none = open.is_empty();
    // A walk that came empty after one that was held leaves both.
    let held = open.into_iter().max_by_key(|gap| (missing_rows(gap) > 0, gap.kind() == v1::GapKind::Held));
    match held {
        Some(gap) if missing_rows(&gap) > 0 => Ok(Some(gap)),
        _ if is_none => {
            warn(&format!("{scope} is not held: there is nothing to release; `okta-idmap gaps` shows what is"));
            Ok(None)
        }
        _ => {
            warn(&format!("no row of {scope} is missing any more: the hold ends with the next walk"));
            Ok(None)
        }
    }
}

async fn list(context: &Context, backend: &Backend, gap_ids: Vec<String>) -> Result<Vec<v1::Gap>, Failure> {
    let context = context.request_context()?;
    let request = v1::ListGapsRequest { context, gap_ids, ..Default::default() };
    Ok(backend.list_gaps(request).await?.gaps)
}

/// How many rows a release would remove: of an object that is not shown, itself.
fn missing_rows(gap: &v1::Gap) -> u64 {
    match &gap.evidence {
        _ if gap.kind() == v1::GapKind::UnseenReference => 1,
        Some(Evidence::Hold(hold)) => hold.missing_row_count,
        Some(Evidence::Counts(counts)) => counts.expected_row_count.saturating_sub(counts.seen_row_count),
        _ => 0,
    }
}

/// What the operator is to look at.
fn preview(gap: &v1::Gap) -> Vec<String> {
    let name = gap.scope.clone().unwrap_or_default().resource_name;
    let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
    let scope = words::scope(gap.scope.as_ref());
    if gap.kind() == v1::GapKind::UnseenReference {
        return vec![
            format!("{scope}{name}, not shown since {}", words::time(gap.first_seen_at.as_ref())),
            "  a release says that it is deleted: it goes, with what hangs on it".to_owned(),
            format!("  hides  {}", gap.hides),
            format!("  to do  {}", gap.remedy),
        ];
    }
    let missing = missing_rows(gap);
    let mut lines = vec![format!("{scope}{name}, held since {}", words::time(gap.first_seen_at.as_ref()))];
    let walked = match &gap.evidence {
        Some(Evidence::Hold(hold)) => format!("did not show {missing} of {} rows", hold.stored_row_count),
        _ => format!("came empty, and {missing} rows are stored"),
    };
    lines.push(format!("  the last walk {walked}: a release removes these, and what hangs on them"));
    if let Some(Evidence::Hold(v1::HoldEvidence { probed_row_count: probed @ 1.., gone_row_count: gone, .. })) =
        &gap.evidence
    {
        lines.push(format!("  asked for by id: {gone} of {probed} are gone, the rest is there or refused"));
    }
    lines.push(format!("  hides  {}", gap.hides));
    lines.push(format!("  to do  {}", gap.remedy));
    lines
}

/// Asks on the terminal.
///
/// # Errors
/// [`Failure::Usage`] when there is nobody to ask.
fn is_confirmed(missing: u64) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let advice = anyhow!("nobody can be asked here: add --yes to remove these {missing} rows");
        return Err(Failure::Usage(advice));
    }
    // Whoever closed standard error is not asked either: an empty answer is a no.
    let _ = write!(io::stderr(), "remove {missing} rows? [y/N] ");
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::coverage::hides;

    #[test]
    fn holds_are_named_by_gap_or_collection() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(read_hold(text).ok().map(|scope| scope.name()).as_deref(), expected);
        }
        check("HELD:users", Some("users"));
        check("users", Some("users"));
        check("app_users(0oa1)", Some("app_users(0oa1)"));
        check("HELD:group_members(00g1)", Some("group_members(00g1)"));
        check("FAILED:users", None);
        check("EMPTY_SUSPECT:apps", Some("apps"));
        check("UNSEEN_REFERENCE:user(00u1)", Some("user(00u1)"));
        check("group(00g1)", Some("group(00g1)"));
        check("HELD:log", None);
        check("HELD:", None);
        check("", None);
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for answer in ["y\n", "Y", "yes\r\n", " YES "] {
            assert!(is_yes(answer), "{answer:?}");
        }
        for answer in ["", "\n", "n", "no", "yep", "ja", "y y"] {
            assert!(!is_yes(answer), "{answer:?}");
        }
    }

    #[test]
    fn the_preview_has_the_numbers() {
        #[track_caller]
        fn check(evidence: Evidence, expected_missing: u64, expected: &str) {
            let gap = v1::Gap { evidence: Some(evidence), ..Default::default() };
            assert_eq!(missing_rows(&gap), expected_missing);
            let text = preview(&gap).join("\n");
            assert!(text.contains(expected), "{text}");
        }
        let hold = v1::HoldEvidence { stored_row_count: 250, missing_row_count: 60, ..Default::default() };
        let probed = v1::HoldEvidence { probed_row_count: 5, gone_row_count: 4, ..hold };
        check(Evidence::Hold(hold), 60, "did not show 60 of 250 rows");
        check(Evidence::Hold(probed), 60, "4 of 5 are gone");
        let counts = v1::CountEvidence { expected_row_count: 7, seen_row_count: 0 };
        check(Evidence::Counts(counts), 7, "came empty, and 7 rows are stored");
        assert_eq!(missing_rows(&v1::Gap::default()), 0);
        let unseen = v1::Gap { kind: v1::GapKind::UnseenReference.into(), ..Default::default() };
        assert_eq!(missing_rows(&unseen), 1);
        assert!(preview(&unseen).join("\n").contains("it goes, with what hangs on it"));
    }

    #[test]
    fn what_a_gap_hides_is_a_sentence() {
        #[track_caller]
        fn check(kind: GapKind, wire: v1::GapKind, scope: &str, expected: &str) {
            let hides = hides(&Scope::parse(scope).unwrap(), kind);
            let gap = v1::Gap { kind: wire.into(), hides, remedy: "look".to_owned(), ..Default::default() };
            let lines = preview(&gap);
            let [.., hides, remedy] = lines.as_slice() else { panic!("{lines:?}") };
            assert_eq!((hides.as_str(), remedy.as_str()), (expected, "  to do  look"));
        }
        let held = "  hides  that rows were removed; answered as last seen: users, and whether a look-up that finds nobody is right";
        check(GapKind::Held, v1::GapKind::Held, "users", held);
        let held = "  hides  that rows were removed; answered as last seen: accounts of app 0oa1";
        check(GapKind::Held, v1::GapKind::Held, "app_users(0oa1)", held);
        let empty = "  hides  groups assigned to app 0oa1";
        check(GapKind::EmptySuspect, v1::GapKind::EmptySuspect, "app_groups(0oa1)", empty);
        let unseen =
            "  hides  name and members of group 00g1: it is named, is not shown, and is not known to be deleted";
        check(GapKind::UnseenReference, v1::GapKind::UnseenReference, "group(00g1)", unseen);
    }
}

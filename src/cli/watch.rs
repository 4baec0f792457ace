//! `okta-idmap watch`: prints what changes, as it changes. Entry point: [`run`].
//!
//! Invariants:
//! - After a lost connection it goes on behind the last checkpoint that was printed: some events may come twice, none is
//!   left out.
//! - Only a server is watched: a process that only reads the store learns of gaps too late. What changed until now, and no more
//!   (`--once`), the store tells as well.

use std::time::Duration;

use anyhow::anyhow;
use okta_idmap_proto::limits::PAGE_SIZE_MAX;
use okta_idmap_proto::v1::change_event::Event;
use okta_idmap_proto::v1::{self, ErrorReason, change_start, row, row_key};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::args::{Form, WatchArgs, WatchKind};
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::text::clean;
use super::output::{Output, to_json};
use super::signals::until_done;
use super::words;

/// First wait before a connection is tried again; doubles up to [`RETRY_WAIT_MAX`].
const RETRY_WAIT_MIN: Duration = Duration::from_millis(500);
/// A server that is restarted is back within seconds; one that is down for hours need not be asked more often.
const RETRY_WAIT_MAX: Duration = Duration::from_secs(30);
/// Silence after which a stream is given up: the server promises a word every second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Why there is nothing from a position on: the store was put back to an earlier state, and what was applied since is not in it.
const STORE_IS_BEHIND: &str = "the store is behind the revision to go on from";

/// How a stream ended.
enum Ended {
    /// On request.
    Stopped,
    /// The connection or the server is gone; another try may help.
    Lost(String),
    /// There are no changes to be had from that position on.
    TooOld(String),
}

/// Prints events until a signal.
pub(super) async fn run(context: &Context, args: &WatchArgs) -> Result<Exit, Failure> {
    if !matches!(context.output.form, Form::Table | Form::Jsonl) {
        return Err(Failure::Usage(anyhow!("watch prints line by line: --output table or jsonl")));
    }
    if args.once {
        return once(context, args).await;
    }
    let shutdown = CancellationToken::new();
    until_done(Box::pin(follow(context, args, &shutdown)), &shutdown).await
}

async fn follow(context: &Context, args: &WatchArgs, shutdown: &CancellationToken) -> Result<Exit, Failure> {
    let backend = context.server("only a running server can be watched").await?;
    let mut place = first_place(context, &backend, args).await?;
    let mut printer = Printer::new(context.output);
    let mut wait = RETRY_WAIT_MIN;
    loop {
        let before = place.clone();
        match stream(context, &backend, args, &mut place, &mut printer, shutdown).await? {
            Ended::Stopped => return Ok(Exit::Done),
            Ended::TooOld(why) if args.from_snapshot => {
                context.output.note(&format!("{why}; beginning again with a snapshot"));
                place = Place::Snapshot;
            }
            Ended::TooOld(why) => {
                return Err(anyhow!("{why}; begin again with --from-snapshot").into());
            }
            Ended::Lost(why) => {
                // What got on deserves a quick try.
                wait = if place == before { (wait * 2).min(RETRY_WAIT_MAX) } else { RETRY_WAIT_MIN };
                context.output.note(&format!("{why}; trying again in {wait:?}, {}", place.words()));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Exit::Done),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Prints what there is until now, and where to go on.
async fn once(context: &Context, args: &WatchArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let mut place = first_place(context, &backend, args).await?;
    let mut printer = Printer::new(context.output);
    loop {
        match pages(context, &backend, args, &mut place, &mut printer).await? {
            None => break,
            Some(why) if args.from_snapshot && place != Place::Snapshot => {
                context.output.note(&format!("{why}; beginning again with a snapshot"));
                place = Place::Snapshot;
            }
            Some(why) => return Err(anyhow!("{why}; begin again with --from-snapshot").into()),
        }
    }
    if let Place::After(position) = &place {
        let v1::ChangePosition { revision, store_id, era } = position;
        let era = if era.is_empty() { String::new() } else { format!(" --era {era}") };
        context.output.note(&format!("next time: --after {revision} --store-id {store_id}{era}"));
    }
    Ok(Exit::Done)
}

/// Prints page after page; answers why not, where the place is too old.
async fn pages(
    context: &Context,
    backend: &Backend,
    args: &WatchArgs,
    place: &mut Place,
    printer: &mut Printer,
) -> Result<Option<String>, Failure> {
    let start = place.start();
    let mut page_token = String::new();
    loop {
        let request = v1::ListChangesRequest {
            context: context.request_context()?,
            page_size: i32::try_from(PAGE_SIZE_MAX).unwrap_or(i32::MAX),
            page_token: page_token.clone(),
            start: Some(start.clone()),
            kinds: row_kinds(&args.kinds).into_iter().map(i32::from).collect(),
        };
        let page = match backend.list_changes(request).await {
            Err(failure) if *place != Place::Snapshot && failure.is_refusal(ErrorReason::RevisionNotReached) => {
                return Ok(Some(STORE_IS_BEHIND.to_owned()));
            }
            page => page?,
        };
        printer.print(&page.events)?;
        let too_old = page.events.iter().find_map(|event| match &event.event {
            Some(Event::TooOld(too_old)) => Some(words::too_old(too_old)),
            _ => None,
        });
        if too_old.is_some() {
            return Ok(too_old);
        }
        if page.next_page_token.is_empty() {
            place.reached(&page.meta.unwrap_or_default(), &page.era);
            return Ok(None);
        }
        if page.next_page_token == page_token {
            return Err(anyhow!("the list of changes goes in circles: the server repeats a page").into());
        }
        page_token = page.next_page_token;
    }
}

/// Where the next stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Snapshot,
    After(v1::ChangePosition),
}

impl Place {
    fn start(&self) -> v1::ChangeStart {
        let start = match self {
            Self::Snapshot => change_start::Start::Snapshot(v1::SnapshotStart {}),
            Self::After(position) => change_start::Start::After(position.clone()),
        };
        v1::ChangeStart { start: Some(start) }
    }

    fn words(&self) -> String {
        match self {
            Self::Snapshot => "from the beginning".to_owned(),
            Self::After(position) => format!("after revision {}", position.revision),
        }
    }

    /// A checkpoint was printed.
    fn reached(&mut self, meta: &v1::ResponseMeta, era: &str) {
        let (revision, store_id, era) = (meta.revision, meta.store_id.clone(), era.to_owned());
        *self = Self::After(v1::ChangePosition { revision, store_id, era });
    }
}

async fn first_place(context: &Context, backend: &Backend, args: &WatchArgs) -> Result<Place, Failure> {
    if args.from_snapshot && args.after.is_none() {
        return Ok(Place::Snapshot);
    }
    let era = args.era.clone().unwrap_or_default();
    let (revision, store_id, era) = match (args.after, &args.store_id) {
        (Some(0), None) => (0, String::new(), era),
        (Some(revision), Some(store_id)) => (revision, store_id.clone(), era),
        (asked, _) => {
            let request = v1::GetStatusRequest { context: context.request_context()? };
            let meta = backend.get_status(request).await?.meta.unwrap_or_default();
            match asked {
                Some(revision) => (revision, meta.store_id, era),
                None => (meta.revision, meta.store_id, meta.era),
            }
        }
    };
    Ok(Place::After(v1::ChangePosition { revision, store_id, era }))
}

/// The kinds of rows that a command line names.
pub(super) fn row_kinds(kinds: &[WatchKind]) -> Vec<v1::RowKind> {
    let kind = |kind: &WatchKind| match kind {
        WatchKind::User => v1::RowKind::User,
        WatchKind::Group => v1::RowKind::Group,
        WatchKind::App => v1::RowKind::App,
        WatchKind::AppUser => v1::RowKind::AppUser,
        WatchKind::GroupMember => v1::RowKind::GroupMember,
        WatchKind::AppGroup => v1::RowKind::AppGroup,
        WatchKind::Override => v1::RowKind::Override,
    };
    kinds.iter().map(kind).collect()
}

/// One connection: prints until it ends.
async fn stream(
    context: &Context,
    backend: &Backend,
    args: &WatchArgs,
    place: &mut Place,
    printer: &mut Printer,
    shutdown: &CancellationToken,
) -> Result<Ended, Failure> {
    let kinds = row_kinds(&args.kinds).into_iter().map(i32::from).collect();
    let request = v1::WatchRequest {
        context: context.request_context()?,
        start: Some(place.start()),
        kinds,
        for_resolution: false,
    };
    let opened = tokio::select! {
        () = shutdown.cancelled() => return Ok(Ended::Stopped),
        opened = backend.watch(request) => opened,
    };
    let mut messages = match opened {
        Ok(messages) => messages,
        Err(status) => return judged(backend, &status),
    };
    loop {
        let message = tokio::select! {
            () = shutdown.cancelled() => return Ok(Ended::Stopped),
            message = next(&mut messages) => message,
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(Ended::Lost("the server ended the stream".to_owned())),
            Err(status) => return judged(backend, &status),
        };
        printer.print(&message.events)?;
        for event in &message.events {
            match &event.event {
                Some(Event::Checkpoint(v1::Checkpoint { meta: Some(meta), era, .. })) => place.reached(meta, era),
                Some(Event::TooOld(too_old)) => return Ok(Ended::TooOld(words::too_old(too_old))),
                _ => {}
            }
        }
    }
}

async fn next(messages: &mut Streaming<v1::WatchResponse>) -> Result<Option<v1::WatchResponse>, Status> {
    tokio::time::timeout(SILENCE_MAX, messages.message())
        .await
        .unwrap_or_else(|_| Err(Status::unavailable("the server has fallen silent")))
}

/// Whether another try can help.
fn judged(backend: &Backend, status: &Status) -> Result<Ended, Failure> {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default();
    match status.code() {
        Code::FailedPrecondition if ErrorReason::from_reason(&reason) == Some(ErrorReason::RevisionNotReached) => {
            Ok(Ended::TooOld(STORE_IS_BEHIND.to_owned()))
        }
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::OutOfRange => Err(backend.failed("watch", status)),
        _ if status.message().is_empty() => Ok(Ended::Lost(status.code().description().to_owned())),
        _ => Ok(Ended::Lost(status.message().to_owned())),
    }
}

/// Prints events, whole messages at a time.
struct Printer {
    output: Output,
    /// Position and policy of the last checkpoint that was printed: idle ones that say the same are left out.
    printed: Option<(u64, String, String)>,
    /// What was last told of the completeness; empty: that it is complete, which goes without saying.
    told: String,
    /// The policy of the last checkpoint; empty: there was none.
    policy_id: String,
}

impl Printer {
    fn new(output: Output) -> Self {
        Self { output, printed: None, told: String::new(), policy_id: String::new() }
    }

    fn print(&mut self, events: &[v1::ChangeEvent]) -> Result<(), Failure> {
        let mut text = String::new();
        for event in events {
            if self.is_news(event) {
                let line = match self.output.form {
                    Form::Jsonl => Some(to_json(event).to_string()),
                    Form::Table | Form::Json | Form::Csv => line(event).or_else(|| self.completeness(event)),
                };
                let policy = if self.output.form == Form::Jsonl { None } else { self.policy(event) };
                for line in policy.into_iter().chain(line) {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
        }
        if !text.is_empty() {
            self.output.text(&text)?;
        }
        Ok(())
    }

    /// A line where the server answers by another configuration than before: after a restart. Programs compare the checkpoints.
    fn policy(&mut self, event: &v1::ChangeEvent) -> Option<String> {
        let Some(Event::Checkpoint(v1::Checkpoint { policy_id, .. })) = &event.event else { return None };
        let is_other = !self.policy_id.is_empty() && *policy_id != self.policy_id;
        self.policy_id.clone_from(policy_id);
        let what = "what grants, or how names are compared, has changed: any document may be concerned";
        is_other.then(|| format!("{:>9}  {:<10}  {what}", event.revision, "policy"))
    }

    /// A line where a checkpoint says something else of the completeness than the one before. Programs have it in every one.
    fn completeness(&mut self, event: &v1::ChangeEvent) -> Option<String> {
        let Some(Event::Checkpoint(v1::Checkpoint { meta: Some(meta), .. })) = &event.event else { return None };
        let count = usize::try_from(meta.gap_count).unwrap_or(usize::MAX);
        let partial = match meta.completeness() {
            v1::Completeness::Complete => String::new(),
            v1::Completeness::Unspecified | v1::Completeness::Partial => words::gaps_named(&meta.gap_ids, count),
        };
        if partial == self.told {
            return None;
        }
        let what = if partial.is_empty() { "complete" } else { "partial" };
        self.told.clone_from(&partial);
        Some(clean(format!("{:>9}  {what:<10}  {partial}", event.revision).trim_end()))
    }

    fn is_news(&mut self, event: &v1::ChangeEvent) -> bool {
        let Some(Event::Checkpoint(v1::Checkpoint { meta: Some(meta), policy_id, .. })) = &event.event else {
            return true;
        };
        let position = (meta.revision, meta.store_id.clone(), policy_id.clone());
        if self.printed.as_ref() == Some(&position) {
            return false;
        }
        self.printed = Some(position);
        true
    }
}

/// The event as a line for people: revision, what happened, to what. Checkpoints are for programs.
fn line(event: &v1::ChangeEvent) -> Option<String> {
    let (what, detail) = match event.event.as_ref()? {
        Event::Upsert(row) => ("put", shown_row(row)?),
        Event::Delete(key) => ("delete", shown_key(key)?),
        Event::Checkpoint(_) => return None,
        Event::GapOpened(gap) => ("gap opened", format!("{}: {}", gap.id, gap.hides)),
        Event::GapClosed(gap) => ("gap closed", gap.id.clone()),
        Event::SnapshotBegin(begin) => {
            let rows: u64 = begin.row_counts.iter().map(|count| count.row_count).sum();
            ("snapshot", format!("about {rows} rows"))
        }
        Event::SnapshotEnd(_) => ("snapshot", "complete".to_owned()),
        Event::TooOld(too_old) => ("too old", words::too_old(too_old)),
        // Not asked for.
        Event::Policy(_) | Event::Coverage(_) | Event::HeldNames(_) => return None,
    };
    Some(clean(&format!("{:>9}  {what:<10}  {detail}", event.revision)))
}

fn shown_row(row: &v1::Row) -> Option<String> {
    Some(match row.row.as_ref()? {
        row::Row::User(user) => {
            let status = words::raw_or(words::user_status(user.status), &user.status_raw);
            format!("user {} {} {status}", user.id, user.login)
        }
        row::Row::Group(group) => format!("group {} {}", group.id, group.name),
        row::Row::App(app) => {
            let status = words::raw_or(words::app_status(app.status), &app.status_raw);
            format!("app {} {} {status}", app.id, app.label)
        }
        row::Row::AppUser(row) => {
            let status = words::raw_or(words::app_user_status(row.status), &row.status_raw);
            format!("app_user {} {} {} {status}", row.app_id, row.user_id, row.user_name)
        }
        row::Row::GroupMember(row) => format!("group_member {} {}", row.group_id, row.user_id),
        row::Row::AppGroup(row) => format!("app_group {} {}", row.app_id, row.group_id),
        row::Row::Override(row) => format!("override {} {} = {}", row.app_id, row.name, row.user_id),
    })
}

fn shown_key(key: &v1::RowKey) -> Option<String> {
    Some(match key.key.as_ref()? {
        row_key::Key::UserId(id) => format!("user {id}"),
        row_key::Key::GroupId(id) => format!("group {id}"),
        row_key::Key::AppId(id) => format!("app {id}"),
        row_key::Key::AppUser(key) => format!("app_user {} {}", key.app_id, key.user_id),
        row_key::Key::GroupMember(key) => format!("group_member {} {}", key.group_id, key.user_id),
        row_key::Key::AppGroup(key) => format!("app_group {} {}", key.app_id, key.group_id),
        row_key::Key::Override(key) => format!("override {} {}", key.app_id, key.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: Event) -> v1::ChangeEvent {
        v1::ChangeEvent { revision: 12, event: Some(event) }
    }

    fn checkpoint(revision: u64) -> v1::ChangeEvent {
        let meta = v1::ResponseMeta { revision, store_id: "s".to_owned(), ..Default::default() };
        event(Event::Checkpoint(v1::Checkpoint { meta: Some(meta), ..Default::default() }))
    }

    #[test]
    fn events_are_lines() {
        #[track_caller]
        fn check(shown: Event, expected: Option<&str>) {
            assert_eq!(line(&event(shown)).as_deref(), expected);
        }
        let user = v1::User { id: "00u1".into(), login: "a\u{1b}@x".into(), status: 3, ..Default::default() };
        let row = |row| Event::Upsert(v1::Row { row: Some(row) });
        check(row(row::Row::User(user)), Some("       12  put         user 00u1 a\\u{1b}@x ACTIVE"));
        let member = v1::GroupMember { group_id: "00g1".into(), user_id: "00u1".into(), stale: false };
        check(row(row::Row::GroupMember(member)), Some("       12  put         group_member 00g1 00u1"));
        let key = v1::AppUserKey { app_id: "0oa1".into(), user_id: "00u1".into() };
        let key = v1::RowKey { key: Some(row_key::Key::AppUser(key)) };
        check(Event::Delete(key), Some("       12  delete      app_user 0oa1 00u1"));
        let gap = v1::Gap { id: "HELD:users".into(), hides: "users".into(), ..Default::default() };
        check(Event::GapOpened(gap.clone()), Some("       12  gap opened  HELD:users: users"));
        check(Event::GapClosed(gap), Some("       12  gap closed  HELD:users"));
        check(Event::Checkpoint(v1::Checkpoint::default()), None);
        check(Event::Upsert(v1::Row { row: None }), None);
        assert_eq!(line(&v1::ChangeEvent::default()), None);
    }

    #[test]
    fn idle_checkpoints_are_not_repeated() {
        let output = Output { form: Form::Jsonl, quiet: true };
        let mut printer = Printer::new(output);
        let found: Vec<bool> =
            [3, 3, 3, 4, 4].into_iter().map(|revision| printer.is_news(&checkpoint(revision))).collect();
        assert_eq!(found, [true, false, false, true, false]);
    }

    #[test]
    fn another_policy_is_told_once() {
        let mut printer = Printer::new(Output { form: Form::Table, quiet: true });
        let mut check = |policy_id: &str, expected: bool| {
            let checkpoint = v1::Checkpoint { policy_id: policy_id.to_owned(), ..Default::default() };
            let told = printer.policy(&event(Event::Checkpoint(checkpoint)));
            assert_eq!(told.is_some(), expected, "{told:?}");
            assert!(printer.policy(&event(Event::TooOld(v1::TooOld::default()))).is_none());
        };
        check("a", false);
        check("a", false);
        check("b", true);
        check("b", false);
        check("a", true);
    }

    #[test]
    fn completeness_is_told_when_it_changes() {
        let output = Output { form: Form::Table, quiet: true };
        let mut printer = Printer::new(output);
        let mut check = |gap_ids: &[&str], expected: Option<&str>| {
            let completeness = if gap_ids.is_empty() { v1::Completeness::Complete } else { v1::Completeness::Partial };
            let meta = v1::ResponseMeta {
                completeness: completeness.into(),
                gap_ids: gap_ids.iter().map(ToString::to_string).collect(),
                gap_count: u32::try_from(gap_ids.len()).unwrap(),
                ..Default::default()
            };
            let checkpoint = v1::Checkpoint { meta: Some(meta), ..Default::default() };
            let shown = printer.completeness(&event(Event::Checkpoint(checkpoint)));
            assert_eq!(shown.as_deref(), expected);
        };
        check(&[], None);
        check(&["HELD:users"], Some("       12  partial     HELD:users"));
        check(&["HELD:users"], None);
        check(&["HELD:apps", "HELD:users"], Some("       12  partial     HELD:apps, HELD:users"));
        check(&[], Some("       12  complete"));
    }

    #[test]
    fn the_place_follows_the_checkpoints() {
        let mut place = Place::Snapshot;
        assert_eq!(place.words(), "from the beginning");
        place.reached(&v1::ResponseMeta { revision: 7, store_id: "s".to_owned(), ..Default::default() }, "e");
        let expected = v1::ChangePosition { revision: 7, store_id: "s".to_owned(), era: "e".to_owned() };
        assert_eq!(place, Place::After(expected));
        assert_eq!(place.words(), "after revision 7");
    }
}

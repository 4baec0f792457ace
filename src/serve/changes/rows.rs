//! Events from the store: rows and gaps as they are now, starts, checkpoints.
//!
//! Entry points: [`Start::read`], [`begin`], [`read_piece`], [`events`], [`snapshot_page`].
//!
//! Invariant: everything here reads the one snapshot of its [`Ask`], in bounded pieces.

use std::collections::BTreeSet;

use okta_idmap_proto::limits::ORG_NAME_BYTES_MAX;
use okta_idmap_proto::v1::{self, change_event::Event, change_start, row, row_key};

use super::super::ask::Ask;
use super::super::coverage::{forgotten_gap, gaps_by_id};
use super::super::door;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::overrides::{override_key, override_row};
use super::super::rows::Shower;
use super::lines::{self, Asked, Changed, Kinds, Line, Planned, Reach, Stored, Subject, Told, reach};
use crate::core::ids::{AppId, GroupId, Revision, UserId};
use crate::core::model::{Kind, Scope};
use crate::store::{ChangeKey, Snapshot, StoreError};

/// Lines of the change log that are read at once: some megabytes, some ten milliseconds. A single revision may have more.
const LINES_MAX: usize = 20_000;

/// Where a caller wants to begin, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Snapshot,
    After { revision: Revision, store_id: String, era: String },
}

impl Start {
    /// Reads the field `start`.
    pub(super) fn read(start: Option<&v1::ChangeStart>) -> Result<Self, Failure> {
        match start.and_then(|start| start.start.as_ref()) {
            None => Err(Failure::FieldMissing { field: "start" }),
            Some(change_start::Start::Snapshot(v1::SnapshotStart {})) => Ok(Self::Snapshot),
            Some(change_start::Start::After(position)) => {
                let v1::ChangePosition { revision, store_id, era } = position;
                let field = "start.after.store_id";
                for (field, word) in [(field, store_id), ("start.after.era", era)] {
                    if word.len() > ORG_NAME_BYTES_MAX {
                        let detail = format!("longer than {ORG_NAME_BYTES_MAX} bytes");
                        return Err(Failure::FieldInvalid { field, detail });
                    }
                }
                if *revision > 0 && store_id.is_empty() {
                    return Err(Failure::FieldMissing { field });
                }
                Ok(Self::After { revision: Revision(*revision), store_id: store_id.clone(), era: era.clone() })
            }
        }
    }
}

/// Reads the filter `kinds`.
pub(super) fn read_kinds(raw: &[i32]) -> Result<Kinds, Failure> {
    let kinds = door::enumeration::<v1::RowKind>("kinds", raw)?;
    Ok(Kinds(kinds.into_iter().filter_map(kind_of).collect()))
}

pub(super) fn kind_of(kind: v1::RowKind) -> Option<Told> {
    Some(match kind {
        v1::RowKind::Unspecified => return None,
        v1::RowKind::User => Told::Row(Kind::User),
        v1::RowKind::Group => Told::Row(Kind::Group),
        v1::RowKind::App => Told::Row(Kind::App),
        v1::RowKind::AppUser => Told::Row(Kind::AppUser),
        v1::RowKind::GroupMember => Told::Row(Kind::GroupMember),
        v1::RowKind::AppGroup => Told::Row(Kind::AppGroup),
        v1::RowKind::Override => Told::Override,
    })
}

fn row_kind(kind: Told) -> v1::RowKind {
    match kind {
        Told::Row(Kind::User) => v1::RowKind::User,
        Told::Row(Kind::Group) => v1::RowKind::Group,
        Told::Row(Kind::App) => v1::RowKind::App,
        Told::Row(Kind::AppUser) => v1::RowKind::AppUser,
        Told::Row(Kind::GroupMember) => v1::RowKind::GroupMember,
        Told::Row(Kind::AppGroup) => v1::RowKind::AppGroup,
        Told::Override => v1::RowKind::Override,
    }
}

/// An event.
pub(super) fn event(revision: Revision, event: Event) -> v1::ChangeEvent {
    v1::ChangeEvent { revision: revision.0, event: Some(event) }
}

/// What becomes of a start.
#[derive(Clone, Debug)]
pub(super) enum Begin {
    /// The rows, then the changes after this revision.
    Snapshot(Revision),
    /// The changes after this revision.
    After(Revision),
    /// Only this event.
    TooOld(Box<v1::ChangeEvent>),
}

/// Decides about a start; `answers`: of a copy that answers by what it has.
///
/// # Errors
/// [`Failure::RevisionNotReached`] for a revision that this store has not reached.
pub(super) fn begin(ask: &Ask<'_>, start: &Start, answers: bool) -> Result<Begin, Failure> {
    let newest = ask.snapshot.revision();
    let Start::After { revision, store_id, era } = start else { return Ok(Begin::Snapshot(newest)) };
    let oldest = ask.snapshot.meta()?.changes_from;
    let stored = Stored { store_id: ask.view.store_id(), era: ask.snapshot.era_of(*revision), oldest, newest };
    match reach(Asked { after: *revision, store_id, era, answers }, stored) {
        Reach::Served => Ok(Begin::After(*revision)),
        Reach::Ahead => Err(Failure::RevisionNotReached { what: "store", asked: revision.0, revision: newest }),
        Reach::TooOld(reason) => Ok(Begin::TooOld(Box::new(too_old(ask, reason, oldest)))),
    }
}

fn too_old(ask: &Ask<'_>, reason: v1::TooOldReason, oldest: Revision) -> v1::ChangeEvent {
    let store_id = ask.view.store_id().to_owned();
    let too_old = v1::TooOld { reason: reason.into(), oldest_revision: oldest.0, store_id };
    event(ask.snapshot.revision(), Event::TooOld(too_old))
}

/// The event that says that changes after `after` are no longer known; `None` while they are.
pub(super) fn dropped(ask: &Ask<'_>, after: Revision) -> Result<Option<v1::ChangeEvent>, Failure> {
    let oldest = ask.snapshot.meta()?.changes_from;
    let is_dropped = after < oldest;
    Ok(is_dropped.then(|| too_old(ask, v1::TooOldReason::ChangesDropped, oldest)))
}

/// A piece of the change log.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) lines: Vec<Line>,
    /// The revision up to which, inclusive, these are all lines.
    pub(super) through: Revision,
}

/// Reads whole revisions after `after`.
pub(super) fn read_piece(snapshot: &Snapshot<'_>, after: Revision) -> Result<Piece, StoreError> {
    let newest = snapshot.revision();
    let rows = snapshot.changes_after(after, LINES_MAX)?;
    let rows_through = match rows.last().map(|change| change.revision) {
        Some(last) if !snapshot.changes_after(last, 1)?.is_empty() => last,
        _ => newest,
    };
    let gaps = super::gap_changes(snapshot, after, LINES_MAX)?;
    let gaps_through = match gaps.last().map(|(revision, _)| *revision) {
        Some(last) if !super::gap_changes(snapshot, last, 1)?.is_empty() => last,
        _ => newest,
    };
    let overrides = snapshot.override_changes_after(after, LINES_MAX)?;
    let overrides_through = match overrides.last().map(|change| change.revision) {
        Some(last) if !snapshot.override_changes_after(last, 1)?.is_empty() => last,
        _ => newest,
    };
    let through = rows_through.min(gaps_through).min(overrides_through);
    Ok(Piece { lines: lines::lines(Changed { rows, overrides, gaps }, through), through })
}

/// The events of planned things, as these are now. What never had an id gives none.
pub(super) fn events(ask: &Ask<'_>, planned: &[Planned]) -> Result<Vec<v1::ChangeEvent>, Failure> {
    let shower = Shower::new(ask);
    let gap_ids: BTreeSet<&str> = planned
        .iter()
        .filter_map(|planned| match &planned.subject {
            Subject::Gap(id) => Some(id.as_str()),
            Subject::Row(_) | Subject::Override(_) => None,
        })
        .collect();
    let gaps = if gap_ids.is_empty() { Default::default() } else { gaps_by_id(ask, &gap_ids)? };
    let mut events = Vec::with_capacity(planned.len());
    for planned in planned {
        let happened = match &planned.subject {
            Subject::Row(key) => row_event(ask, &shower, *key, false)?,
            Subject::Override(number) => override_event(ask, *number)?,
            Subject::Gap(id) => {
                let gap = gaps.get(id.as_str()).cloned().or_else(|| forgotten_gap(ask, id.as_str()));
                gap.map(|gap| match gap.state() {
                    v1::GapState::Open => Event::GapOpened(gap),
                    v1::GapState::Closed | v1::GapState::Unspecified => Event::GapClosed(gap),
                })
            }
        };
        events.extend(happened.map(|happened| event(planned.revision, happened)));
    }
    Ok(events)
}

fn put(row: row::Row) -> Option<Event> {
    Some(Event::Upsert(v1::Row { row: Some(row) }))
}

/// What is to be told of a row; `is_there`: the caller has just seen it.
fn row_event(
    ask: &Ask<'_>,
    shower: &Shower<'_, Ask<'_>>,
    key: ChangeKey,
    is_there: bool,
) -> Result<Option<Event>, Failure> {
    let snapshot = ask.snapshot;
    let found = match key.kind {
        Kind::User => snapshot.user_by_n(key.a)?.map(|user| row::Row::User(shower.user(&user))),
        Kind::Group => snapshot.group_by_n(key.a)?.map(|group| row::Row::Group(shower.group(&group))),
        Kind::App => snapshot.app_by_n(key.a)?.map(|app| row::Row::App(shower.app(&app))),
        Kind::AppUser => snapshot.app_user_by_n(key.a, key.b)?.map(|row| row::Row::AppUser(shower.app_user(&row))),
        Kind::GroupMember => return member_event(ask, shower, key, is_there),
        Kind::AppGroup => return app_group_event(ask, shower, key),
    };
    match found {
        Some(row) => Ok(put(row)),
        None => delete_event(snapshot, key),
    }
}

/// What is to be told of an override. Who set it and why is for those who may see explanations.
fn override_event(ask: &Ask<'_>, number: i64) -> Result<Option<Event>, Failure> {
    if let Some(record) = ask.snapshot.override_by_number(number)? {
        return Ok(put(row::Row::Override(override_row(&record, ask.now, false))));
    }
    let gone = ask.snapshot.override_gone(number)?;
    Ok(gone.map(|gone| {
        let key = row_key::Key::Override(override_key(number, &gone));
        Event::Delete(v1::RowKey { key: Some(key) })
    }))
}

fn member_event(
    ask: &Ask<'_>,
    shower: &Shower<'_, Ask<'_>>,
    key: ChangeKey,
    is_there: bool,
) -> Result<Option<Event>, Failure> {
    let (Some(group_id), Some(user_id)) = (ask.snapshot.id_of(key.a)?, ask.snapshot.id_of(key.b)?) else {
        return Ok(None);
    };
    let (Ok(group), Ok(user)) = (GroupId::new(&group_id), UserId::new(&user_id)) else { return Ok(None) };
    if !is_there && !ask.snapshot.is_member(&group, &user)? {
        return delete_event(ask.snapshot, key);
    }
    let stale = shower.is_stale(&user_id, || Scope::GroupMembers(group));
    Ok(put(row::Row::GroupMember(v1::GroupMember { group_id, user_id, stale })))
}

fn app_group_event(ask: &Ask<'_>, shower: &Shower<'_, Ask<'_>>, key: ChangeKey) -> Result<Option<Event>, Failure> {
    let (Some(app_id), Some(group_id)) = (ask.snapshot.id_of(key.a)?, ask.snapshot.id_of(key.b)?) else {
        return Ok(None);
    };
    let Ok(app) = AppId::new(&app_id) else { return Ok(None) };
    // The list is ordered by the group's surrogate: the row, if it is there, is the first one from it on.
    let page = ask.snapshot.app_groups(&app, Some(key.b.saturating_sub(1)), 1)?;
    match page.rows.into_iter().find(|row| row.group.as_str() == group_id) {
        Some(row) => Ok(put(row::Row::AppGroup(shower.app_group(&row)))),
        None => delete_event(ask.snapshot, key),
    }
}

fn delete_event(snapshot: &Snapshot<'_>, key: ChangeKey) -> Result<Option<Event>, Failure> {
    let Some(first) = snapshot.id_of(key.a)? else { return Ok(None) };
    let second = match key.kind {
        Kind::User | Kind::Group | Kind::App => String::new(),
        Kind::AppUser | Kind::GroupMember | Kind::AppGroup => match snapshot.id_of(key.b)? {
            Some(second) => second,
            None => return Ok(None),
        },
    };
    let key = match key.kind {
        Kind::User => row_key::Key::UserId(first),
        Kind::Group => row_key::Key::GroupId(first),
        Kind::App => row_key::Key::AppId(first),
        Kind::AppUser => row_key::Key::AppUser(v1::AppUserKey { app_id: first, user_id: second }),
        Kind::GroupMember => row_key::Key::GroupMember(v1::GroupMemberKey { group_id: first, user_id: second }),
        Kind::AppGroup => row_key::Key::AppGroup(v1::AppGroupKey { app_id: first, group_id: second }),
    };
    Ok(Some(Event::Delete(v1::RowKey { key: Some(key) })))
}

/// How many rows of each of these kinds there are.
pub(super) fn row_counts(ask: &Ask<'_>, kinds: impl Iterator<Item = Told>) -> Result<Vec<v1::RowCount>, Failure> {
    let rows = ask.snapshot.meta()?.rows;
    let count = |kind: Told| {
        let row_count = match kind {
            Told::Row(kind) => rows.get(&kind).copied().unwrap_or_default(),
            Told::Override => ask.snapshot.override_count()?,
        };
        Ok(v1::RowCount { kind: row_kind(kind).into(), row_count, ..v1::RowCount::default() })
    };
    kinds.map(count).collect()
}

/// The event that begins a snapshot.
pub(super) fn snapshot_begin(ask: &Ask<'_>, revision: Revision, kinds: &Kinds) -> Result<v1::ChangeEvent, Failure> {
    let row_counts = row_counts(ask, kinds.all())?;
    Ok(event(revision, Event::SnapshotBegin(v1::SnapshotBegin { revision: revision.0, row_counts })))
}

/// The event that ends a snapshot.
pub(super) fn snapshot_end(revision: Revision) -> v1::ChangeEvent {
    event(revision, Event::SnapshotEnd(v1::SnapshotEnd { revision: revision.0 }))
}

/// Rows of one kind as events, and the surrogates of the last one; `None` behind the last row.
pub(super) type RowsPage = (Vec<v1::ChangeEvent>, Option<(i64, i64)>);

/// Reads rows of one kind behind a row.
pub(super) fn snapshot_page(
    ask: &Ask<'_>,
    revision: Revision,
    kind: Told,
    after: (i64, i64),
    limit: usize,
) -> Result<RowsPage, Failure> {
    let kind = match kind {
        Told::Row(kind) => kind,
        Told::Override => {
            let rows = ask.snapshot.overrides(None, None, Some(after.0), limit)?.rows;
            let shown = |record| put(row::Row::Override(override_row(record, ask.now, false)));
            let events = rows.iter().filter_map(shown).map(|shown| event(revision, shown)).collect();
            return Ok((events, rows.last().map(|record| (record.number, 0))));
        }
    };
    let keys = ask.snapshot.keys_after(kind, after, limit)?;
    let shower = Shower::new(ask);
    let mut events = Vec::with_capacity(keys.len());
    for key in &keys {
        let shown = row_event(ask, &shower, *key, true)?;
        events.extend(shown.map(|shown| event(revision, shown)));
    }
    Ok((events, keys.last().map(|key| (key.a, key.b))))
}

/// A checkpoint at `revision`, as this snapshot has it: all but [`v1::Checkpoint::resolution`].
pub(super) fn checkpoint(ask: &Ask<'_>, revision: Revision, meta: v1::ResponseMeta) -> v1::Checkpoint {
    let (era, policy_id) = (ask.era_of(revision), ask.view.policy_id().to_owned());
    v1::Checkpoint { meta: Some(meta), resolution: None, era, policy_id }
}

/// What a checkpoint at the revision of this very snapshot says of the org.
pub(super) fn checkpoint_meta(ask: &Ask<'_>) -> Result<v1::ResponseMeta, Failure> {
    Ok(ask.meta(&ask.wide_gaps(Wide::Org)?))
}

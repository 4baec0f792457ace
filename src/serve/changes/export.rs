//! Everything that a store holds, at one revision, for a process that has the file itself. Entry point: [`export`].
//!
//! Over the network a copy is made by `Watch`, which holds no transaction open; here one does, for as long as it takes.

use okta_idmap_proto::v1::{self, change_event::Event};

use super::super::ask::Call;
use super::super::errors::Failure;
use super::super::orgs::OrgView;
use super::lines::Told;
use super::rows::{checkpoint_meta, kind_of, row_counts, snapshot_page};
use crate::core::ids::Timestamp;
use crate::core::model::Kind;

/// Rows that are read at once.
const PAGE_ROWS: usize = 1_000;

/// A part of an export, in this order.
#[derive(Clone, Debug)]
pub enum ExportPart {
    /// What it is, and what it could not see.
    Begin {
        /// Revision, times and completeness of the whole org.
        meta: v1::ResponseMeta,
        /// The era of the revision: part of the position from which `Changes` go on.
        era: String,
        /// The kinds that follow, in this order, with their numbers of rows.
        row_counts: Vec<v1::RowCount>,
    },
    /// A row.
    Row(v1::Row),
}

/// Why an export ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store could not be read.
    #[error("read the store: {}", .0.name())]
    Store(#[source] Box<Failure>),
    /// Whoever takes the parts does not want any more.
    #[error("write the export")]
    Sink(#[source] std::io::Error),
}

/// Hands out everything of `kinds` (empty: of all), read in one snapshot. `now` decides what is too old.
///
/// # Errors
/// [`ExportError`]; what was handed out until then is no whole export.
pub fn export(
    view: &OrgView,
    kinds: &[v1::RowKind],
    now: Timestamp,
    mut sink: impl FnMut(ExportPart) -> std::io::Result<()>,
) -> Result<(), ExportError> {
    let wanted: Vec<Told> = kinds.iter().filter_map(|kind| kind_of(*kind)).collect();
    let all = Kind::ALL.into_iter().map(Told::Row).chain([Told::Override]);
    let wanted: Vec<Told> = all.filter(|kind| kinds.is_empty() || wanted.contains(kind)).collect();
    let mut refused = None;
    let mut take = |part| match sink(part) {
        Ok(()) => true,
        Err(error) => {
            refused = Some(error);
            false
        }
    };
    let read = Call::at(view.clone(), now).point(|ask| {
        let (meta, era) = (checkpoint_meta(ask)?, ask.era_of(ask.snapshot.revision()));
        let row_counts = row_counts(ask, wanted.iter().copied())?;
        if !take(ExportPart::Begin { meta, era, row_counts }) {
            return Ok(());
        }
        for kind in &wanted {
            let mut after = (i64::MIN, i64::MIN);
            loop {
                let (events, last) = snapshot_page(ask, ask.snapshot.revision(), *kind, after, PAGE_ROWS)?;
                for event in events {
                    let Some(Event::Upsert(row)) = event.event else { continue };
                    if !take(ExportPart::Row(row)) {
                        return Ok(());
                    }
                }
                match last {
                    Some(last) => after = last,
                    None => break,
                }
            }
        }
        Ok(())
    });
    match (read, refused) {
        (_, Some(error)) => Err(ExportError::Sink(error)),
        (Err(failure), None) => Err(ExportError::Store(Box::new(failure))),
        (Ok(()), None) => Ok(()),
    }
}

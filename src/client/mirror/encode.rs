//! A copy as the events of a stream that would make it again. Entry point: [`Mirror::for_each_event`].

use okta_idmap_proto::v1::{self, change_event::Event};

use super::Mirror;
use super::facts::At;
use super::table::RowRef;
use crate::core::coverage::ScopeCoverage;
use crate::core::ids::Timestamp;
use crate::serve::{Shower, kind_to_proto, override_row, timestamp};
use crate::store::ReleasedName;

impl Mirror {
    /// Hands out policy, coverage, rows, held names, the end of the snapshot and a checkpoint, until `take` wants no more.
    pub(crate) fn for_each_event(&self, take: &mut dyn FnMut(v1::ChangeEvent) -> bool) {
        let revision = self.revision();
        let mut take = |event| take(v1::ChangeEvent { revision, event: Some(event) });
        let policy = v1::ResolutionPolicy { more: false, ..self.policy.wire.clone() };
        let coverage = v1::CoverageChange {
            full: true,
            more: false,
            scopes: self.coverage.all_scopes().iter().map(scope_coverage).collect(),
        };
        if !take(Event::Policy(policy)) || !take(Event::Coverage(coverage)) {
            return;
        }
        let at = At { mirror: self, now: self.mark.served_at };
        let shower = Shower::new(&at);
        let rows = self.table.rows().map(|row| Event::Upsert(v1::Row { row: Some(shown(&shower, at.now, &row)) }));
        let held = self.table.all_held().map(|(user, names)| {
            let names = names.iter().map(released_name).collect();
            Event::HeldNames(v1::HeldNames { user_id: user.to_string(), names })
        });
        for event in rows.chain(held) {
            if !take(event) {
                return;
            }
        }
        let resolution = v1::ResolutionMark {
            consistent: true,
            served_at: Some(timestamp(self.mark.served_at)),
            observed_at: self.mark.observed_at.map(timestamp),
            keeps_filtered_names: self.mark.keeps_filtered_names,
        };
        let checkpoint = v1::Checkpoint { meta: Some(self.mark.meta.clone()), resolution: Some(resolution) };
        let _ = take(Event::SnapshotEnd(v1::SnapshotEnd { revision })) && take(Event::Checkpoint(checkpoint));
    }
}

fn shown(shower: &Shower<'_, At<'_>>, now: Timestamp, row: &RowRef<'_>) -> v1::row::Row {
    match row {
        RowRef::User(row) => v1::row::Row::User(shower.user(row)),
        RowRef::Group(row) => v1::row::Row::Group(shower.group(row)),
        RowRef::App(row) => v1::row::Row::App(shower.app(row)),
        RowRef::AppUser(row) => v1::row::Row::AppUser(shower.app_user(row)),
        RowRef::GroupMember(group, user) => v1::row::Row::GroupMember(v1::GroupMember {
            group_id: group.to_string(),
            user_id: user.to_string(),
            stale: false,
        }),
        RowRef::AppGroup(row) => v1::row::Row::AppGroup(shower.app_group(row)),
        RowRef::Override(record) => v1::row::Row::Override(override_row(record, now, false)),
    }
}

fn scope_coverage(told: &ScopeCoverage) -> v1::ScopeCoverage {
    v1::ScopeCoverage {
        scope: told.scope.name(),
        completed_at: told.completed_at.map(timestamp),
        open_gaps: told.open.iter().map(|kind| kind_to_proto(*kind).into()).collect(),
        settled: told.is_settled,
    }
}

fn released_name(held: &ReleasedName) -> v1::ReleasedName {
    v1::ReleasedName {
        app_id: held.app.as_ref().map_or_else(String::new, ToString::to_string),
        field: held.kind.clone(),
        name: held.name.clone(),
        released_at: Some(timestamp(held.released_at)),
    }
}

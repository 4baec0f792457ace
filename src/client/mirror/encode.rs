//! A copy as the events of a stream that would make it again. Entry point: [`Mirror::for_each_event`].

use okta_idmap_proto::v1::{self, change_event::Event};

use super::facts::At;
use super::table::RowRef;
use super::{Mark, Mirror};
use crate::core::ids::Timestamp;
use crate::serve::{Shower, coverage_changes, override_row, timestamp};
use crate::store::ReleasedName;

/// Name rules, aliases or scopes in one event.
const PER_EVENT: usize = 500;

impl Mirror {
    /// The policy, in messages that are not too long.
    fn policy_parts(&self) -> Vec<v1::ResolutionPolicy> {
        let mut first = self.policy.wire.clone();
        let (rules, aliases) = (std::mem::take(&mut first.name_rules), std::mem::take(&mut first.aliases));
        let mut parts = vec![first];
        let empty = v1::ResolutionPolicy::default;
        let rules = rules.chunks(PER_EVENT).map(<[_]>::to_vec);
        parts.extend(rules.map(|name_rules| v1::ResolutionPolicy { name_rules, ..empty() }));
        let aliases = aliases.chunks(PER_EVENT).map(<[_]>::to_vec);
        parts.extend(aliases.map(|aliases| v1::ResolutionPolicy { aliases, ..empty() }));
        let last = parts.len() - 1;
        for (n, part) in parts.iter_mut().enumerate() {
            part.more = n < last;
        }
        parts
    }

    /// Hands out policy, coverage, rows, held names, the end of the snapshot and a checkpoint, until `take` wants no more.
    pub(crate) fn for_each_event(&self, take: &mut dyn FnMut(v1::ChangeEvent) -> bool) {
        let revision = self.revision();
        let mut take = |event| take(v1::ChangeEvent { revision, event: Some(event) });
        let scopes = self.coverage.all_scopes();
        let coverage = coverage_changes(true, &scopes).into_iter().map(Event::Coverage);
        let begin = self.policy_parts().into_iter().map(Event::Policy).chain(coverage);
        for event in begin {
            if !take(event) {
                return;
            }
        }
        let at = At { mirror: self, now: self.mark.served_at };
        let shower = Shower::new(&at);
        let rows = self.table.rows().map(|row| Event::Upsert(v1::Row { row: Some(shown(&shower, at.now, &row)) }));
        let held = self.table.all_held().map(|(user, names, truncated)| {
            let names = names.iter().map(released_name).collect();
            Event::HeldNames(v1::HeldNames { user_id: user.to_string(), names, truncated })
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
        let Mark { meta, policy_id, .. } = self.mark.clone();
        let era = meta.era.clone();
        let checkpoint = v1::Checkpoint { meta: Some(meta), resolution: Some(resolution), era, policy_id };
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

fn released_name(held: &ReleasedName) -> v1::ReleasedName {
    v1::ReleasedName {
        app_id: held.app.as_ref().map_or_else(String::new, ToString::to_string),
        field: held.kind.clone(),
        name: held.name.clone(),
        released_at: Some(timestamp(held.released_at)),
    }
}

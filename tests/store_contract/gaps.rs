//! The part of the model that knows what it does not know: gaps, bad records, and objects that are not shown.
//!
//! Entry points: [`Model::open_gap`], [`Model::close_gap`], [`Model::age`], [`Model::absent`].

use std::collections::BTreeSet;
use std::sync::Arc;

use okta_idmap::core::batch::{Batch, WalkState};
use okta_idmap::core::coverage::{Gap, GapId, GapKind, GapRecord, Reach};
use okta_idmap::core::ids::Timestamp;
use okta_idmap::core::model::{Key, Quarantined, Row, Scope};
use okta_idmap::core::pending::Target;
use okta_idmap::core::sync::UnseenFound;
use okta_idmap::store::Ages;

use super::model::{BadRecord, Model, ScopeBook};

/// Days for which a closed gap is remembered; the store's constant is private, and a promise.
const CLOSED_DAYS: i64 = 366;

/// Gaps that reading the scope to its end closes.
const CLOSED_BY_READING: [GapKind; 7] = [
    GapKind::Forbidden,
    GapKind::ScopeMissing,
    GapKind::Unauthorized,
    GapKind::Failed,
    GapKind::NotRead,
    GapKind::LogLost,
    GapKind::Stale,
];

/// Gaps of an object that end when it is shown.
const CLOSED_BY_SHOWING: [GapKind; 5] =
    [GapKind::UnseenReference, GapKind::Forbidden, GapKind::ScopeMissing, GapKind::Failed, GapKind::Unauthorized];

impl Model {
    pub(crate) fn open_gap(&mut self, gap: Gap, now: Timestamp) {
        self.open_gap_for(gap, None, now);
    }

    /// `rows`: what it is about, where it is `FAILED` and not about all of its scope.
    fn open_gap_for(&mut self, gap: Gap, rows: Option<BTreeSet<String>>, now: Timestamp) {
        let before = match (&rows, gap.kind) {
            (Some(rows), _) => self.unread.insert(gap.scope.clone(), rows.clone()),
            (None, GapKind::Failed) => self.unread.remove(&gap.scope),
            (None, _) => None,
        };
        let id = gap.id().as_str().to_owned();
        let record = self.gaps.entry(id.clone()).or_insert_with(|| GapRecord {
            gap: gap.clone(),
            first_seen: now,
            last_seen: now,
            count: 0,
            open: false,
            opened_at: None,
            closed_at: None,
        });
        if !record.open || before != rows {
            self.gap_changes.insert(id, true);
        }
        if !record.open {
            (record.opened_at, record.closed_at) = (Some(now), None);
        }
        record.gap = gap;
        record.last_seen = now;
        record.count += 1;
        record.open = true;
    }

    pub(crate) fn close_gap(&mut self, scope: &Scope, kind: GapKind, now: Timestamp) {
        let id = GapId::of(kind, scope);
        if let Some(record) = self.gaps.get_mut(id.as_str())
            && record.open
        {
            record.open = false;
            record.last_seen = now;
            record.closed_at = Some(now);
            self.gap_changes.insert(id.as_str().to_owned(), false);
            if kind == GapKind::Failed {
                self.unread.remove(scope);
            }
        }
    }

    /// Closes a gap unless the same batch reports it.
    pub(crate) fn close_unless_found(&mut self, scope: &Scope, kind: GapKind, batch: &Batch) {
        if !batch.gaps.iter().any(|gap| gap.scope == *scope && gap.kind == kind) {
            self.close_gap(scope, kind, batch.now);
        }
    }

    /// Ends the gaps of the objects that a batch has shown.
    pub(crate) fn close_gaps_of_shown(&mut self, shown: &BTreeSet<Scope>, batch: &Batch) {
        for scope in shown {
            for kind in CLOSED_BY_SHOWING {
                self.close_unless_found(scope, kind, batch);
            }
        }
    }

    /// A read has succeeded. One of a single object says nothing about a list that was given up.
    pub(crate) fn close_gap_by_read(&mut self, scope: &Scope, kind: GapKind, now: Timestamp) {
        let of_a_list =
            *scope != Scope::Log && matches!(kind, GapKind::Forbidden | GapKind::ScopeMissing | GapKind::Failed);
        let is_walked = |book: &ScopeBook| !book.is_idle && matches!(book.state, WalkState::Finished { .. });
        if !of_a_list || self.scopes.get(scope).is_some_and(is_walked) {
            self.close_gap(scope, kind, now);
        }
    }

    /// Closes what a complete walk ends, of which so many records could not be read; those of these rows.
    pub(crate) fn close_gaps_by_walk(
        &mut self,
        scope: &Scope,
        unreadable: usize,
        rows: BTreeSet<String>,
        batch: &Batch,
    ) {
        let is_of_before = |kind| *scope == Scope::Log && matches!(kind, GapKind::LogLost | GapKind::Stale);
        for kind in CLOSED_BY_READING.into_iter().filter(|kind| !is_of_before(*kind)) {
            if unreadable == 0 || kind != GapKind::Failed {
                self.close_unless_found(scope, kind, batch);
            }
        }
        if unreadable > 0 {
            let gap = Gap { scope: scope.clone(), kind: GapKind::Failed, evidence: String::new() };
            self.open_gap_for(gap, Some(rows), batch.now);
        }
    }

    /// Which rows of a scope may be outdated. `None`: none.
    pub(crate) fn stale(&self, scope: &Scope) -> Option<Reach> {
        let of_scope = self.gaps.values().filter(|record| record.open && record.gap.scope == *scope);
        let kinds: BTreeSet<GapKind> =
            of_scope.map(|record| record.gap.kind).filter(|kind| kind.makes_stale()).collect();
        let rows = self.unread.get(scope).filter(|_| kinds.len() == 1 && kinds.contains(&GapKind::Failed));
        let of_rows =
            |rows: &BTreeSet<String>| Reach::Rows(Arc::new(rows.iter().map(|id| id.as_str().into()).collect()));
        (!kinds.is_empty()).then(|| rows.map_or(Reach::Whole, of_rows))
    }

    pub(crate) fn forget_gaps(&mut self, scope: &Scope, now: Timestamp) {
        self.unread.remove(scope);
        for (id, record) in self.gaps.iter_mut().filter(|(_, record)| record.gap.scope == *scope && record.open) {
            record.open = false;
            record.closed_at = Some(now);
            self.gap_changes.insert(id.clone(), false);
        }
    }

    /// Forgets gaps that were closed long ago.
    pub(crate) fn forget_old_gaps(&mut self, now: Timestamp) {
        let oldest = now.plus_millis(-CLOSED_DAYS * 86_400_000);
        self.gaps.retain(|_, record| record.open || record.closed_at.is_some_and(|at| at >= oldest));
    }

    pub(crate) fn quarantine(&mut self, record: &Quarantined, batch: &Batch) {
        let item = record.id.as_deref().unwrap_or_default().to_owned();
        let bad = BadRecord { last_seen: batch.now, at: batch.at.0 };
        self.quarantine.insert((record.scope.clone(), item, record.reason.clone()), bad);
    }

    /// Notes what has grown too old.
    pub(crate) fn age(&mut self, now: Timestamp, limits: Ages) {
        let is_old = |at: Timestamp, limit: Option<i64>| limit.is_some_and(|limit| now.millis_since(at) > limit);
        let old = self.scopes.iter().filter(|(scope, book)| {
            **scope != Scope::Log && book.completed_at.is_some_and(|at| is_old(at, limits.scope_millis))
        });
        let mut old: Vec<Scope> = old.map(|(scope, _)| scope.clone()).collect();
        if self.observed_by_our_clock.is_some_and(|through| is_old(through, limits.log_millis)) {
            old.push(Scope::Log);
        } else {
            self.close_gap(&Scope::Log, GapKind::Stale, now);
        }
        for scope in old {
            // Said once: how old it is can be told from when it was last read.
            if !self.is_open(GapKind::Stale, &scope) {
                self.open_gap(Gap { scope, kind: GapKind::Stale, evidence: String::new() }, now);
            }
        }
        self.make_revision();
    }

    pub(crate) fn is_open(&self, kind: GapKind, scope: &Scope) -> bool {
        self.gaps.get(GapId::of(kind, scope).as_str()).is_some_and(|record| record.open)
    }

    /// Objects that are not shown though nothing says that they are gone.
    pub(crate) fn absent(&self) -> BTreeSet<Scope> {
        let with_gap = self.gaps.values().filter(|record| record.open && record.gap.kind == GapKind::UnseenReference);
        let looked_for = self.pending.values().filter(|debt| debt.absent_since.is_some());
        let of_debts = looked_for.filter_map(|debt| match &debt.target {
            Target::User(user) => Some(Scope::User(user.clone())),
            Target::Group(group) => Some(Scope::Group(group.clone())),
            Target::App(app) => Some(Scope::App(app.clone())),
            _ => None,
        });
        let of_gaps = with_gap.map(|record| record.gap.scope.clone()).filter(|scope| scope.object().is_some());
        of_gaps.chain(of_debts).collect()
    }

    /// What stored rows name and no row is.
    pub(crate) fn unseen(&self) -> UnseenFound {
        let (mut users, mut groups, mut apps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for stored in self.rows.values() {
            match &stored.row {
                Row::AppUser(row) => {
                    users.insert(row.user.clone());
                    groups.extend(row.via_group.clone());
                }
                Row::GroupMember(row) => drop(users.insert(row.user.clone())),
                Row::AppGroup(row) => drop(groups.insert(row.group.clone())),
                Row::Group(row) => apps.extend(row.source_app.clone()),
                Row::User(_) | Row::App(_) => {}
            }
        }
        users.retain(|user| !self.rows.contains_key(&Key::User(user.clone())));
        groups.retain(|group| !self.rows.contains_key(&Key::Group(group.clone())));
        apps.retain(|app| !self.rows.contains_key(&Key::App(app.clone())));
        UnseenFound {
            user_count: users.len() as u64,
            users: users.into_iter().collect(),
            group_count: groups.len() as u64,
            groups: groups.into_iter().collect(),
            apps: apps.into_iter().collect(),
        }
    }
}

//! The part of the model that knows what it does not know: gaps, bad records, and objects that are not shown.
//!
//! Entry points: [`Model::open_gap`], [`Model::close_gap`], [`Model::age`], [`Model::absent`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use okta_idmap::core::batch::{Batch, WalkState};
use okta_idmap::core::coverage::{Gap, GapId, GapKind, GapRecord, Reach};
use okta_idmap::core::ids::{Timestamp, is_okta_id};
use okta_idmap::core::model::{Key, Quarantined, Row, Scope};
use okta_idmap::core::pending::Target;
use okta_idmap::core::sync::UnseenFound;
use okta_idmap::store::{Ages, ChangeOp};

use super::model::{BadRecord, Model, ScopeBook, UnreadModel};

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

impl UnreadModel {
    pub(crate) fn is_over(&self) -> bool {
        *self == Self::default()
    }

    fn reach(&self) -> Reach {
        let rows = self.rows.iter().map(|(id, (_, read_at))| (id.as_str().into(), *read_at)).collect();
        Reach { is_whole: self.is_failed || self.is_any, rows: Arc::new(rows) }
    }

    pub(crate) fn add(&mut self, id: String, since: u64, read_at: Option<Timestamp>) {
        let known = self.rows.entry(id).or_insert((since, read_at));
        *known = (known.0.max(since), known.1.min(read_at));
    }
}

impl Model {
    pub(crate) fn open_gap(&mut self, gap: Gap, now: Timestamp) {
        let unread = (gap.kind == GapKind::Failed).then(|| {
            let known = self.unread.get(&gap.scope).cloned().unwrap_or_default();
            UnreadModel { is_failed: true, ..known }
        });
        self.open_gap_for(gap, unread, now);
    }

    /// `unread`: what it is about, where it is `FAILED`.
    fn open_gap_for(&mut self, gap: Gap, unread: Option<UnreadModel>, now: Timestamp) {
        let before = self.unread.get(&gap.scope).filter(|_| unread.is_some()).map(UnreadModel::reach);
        let reach = unread.as_ref().map(UnreadModel::reach);
        if let Some(unread) = unread {
            self.unread.insert(gap.scope.clone(), unread);
        }
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
        if !record.open || before != reach {
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
        if of_a_list && !self.scopes.get(scope).is_some_and(is_walked) {
            return;
        }
        match self.unread.get(scope) {
            Some(unread) if kind == GapKind::Failed => {
                self.narrow(scope, UnreadModel { is_failed: false, ..unread.clone() }, now);
            }
            _ => self.close_gap(scope, kind, now),
        }
    }

    /// Something is settled that an open `FAILED` was about.
    fn narrow(&mut self, scope: &Scope, unread: UnreadModel, now: Timestamp) {
        if unread.is_over() {
            self.close_gap(scope, GapKind::Failed, now);
            return;
        }
        let reach = unread.reach();
        let before = self.unread.insert(scope.clone(), unread).map(|before| before.reach());
        if before != Some(reach) {
            self.gap_changes.insert(GapId::of(GapKind::Failed, scope).as_str().to_owned(), true);
        }
    }

    /// What is shown of rows whose records could not be read, each by a request.
    pub(crate) fn settle_shown(&mut self, shown: &[(Key, u64)], now: Timestamp) {
        self.settle(now, |scope, id, since| {
            shown.iter().any(|(key, by)| key.scope() == *scope && key.id_in_list() == id && since < *by)
        });
    }

    /// What has been removed has no record any more.
    pub(crate) fn settle_removed(&mut self, now: Timestamp) {
        let is_removed = |(key, op): (&Key, &ChangeOp)| (*op == ChangeOp::Removed).then(|| key.clone());
        let removed: Vec<Key> = self.changes.iter().filter_map(is_removed).collect();
        self.settle(now, |scope, id, _| removed.iter().any(|key| key.scope() == *scope && key.id_in_list() == id));
    }

    fn settle(&mut self, now: Timestamp, is_settled: impl Fn(&Scope, &str, u64) -> bool) {
        for (scope, unread) in self.unread.clone() {
            let mut left = unread.clone();
            left.rows.retain(|id, (since, _)| !is_settled(&scope, id, *since));
            if left != unread {
                self.narrow(&scope, left, now);
            }
        }
    }

    /// What the batch pays for and removes, and the bad records that it brings outside of walks.
    pub(crate) fn settle_rest(&mut self, batch: &Batch, is_held: bool) {
        let paid = batch.answered.iter().filter(|_| !is_held);
        let paid: Vec<(Key, u64)> = paid.filter_map(|paid| Some((paid.target.object_key()?, paid.by.0))).collect();
        self.settle_shown(&paid, batch.now);
        self.settle_removed(batch.now);
        let is_walked = |scope: &Scope| batch.walks.iter().any(|update| update.scope == *scope);
        let records = batch.quarantined.iter().filter(|bad| bad.scope.kind().is_some() && !is_walked(&bad.scope));
        let named = |bad: &Quarantined| bad.id.as_deref().filter(|id| is_okta_id(id)).map(str::to_owned);
        let records = records.map(|bad| (bad.scope.clone(), named(bad), batch.at.0));
        let by_id =
            batch.unread.iter().map(|bad| (bad.key.scope(), Some(bad.key.id_in_list().to_owned()), bad.since.0));
        let mut found: BTreeMap<Scope, UnreadModel> = BTreeMap::new();
        for (scope, id, since) in records.chain(by_id) {
            let known = self.unread.get(&scope);
            let read_at = self.scopes.get(&scope).and_then(|book| book.completed_at);
            let unread = found.entry(scope).or_insert_with(|| known.cloned().unwrap_or_default());
            match id {
                None => unread.is_any = true,
                Some(id) => unread.add(id, since, read_at),
            }
        }
        for (scope, unread) in found {
            self.open_gap_for(Gap { scope, kind: GapKind::Failed, evidence: String::new() }, Some(unread), batch.now);
        }
    }

    /// Closes what a complete walk ends, of which these records could not be read.
    pub(crate) fn close_gaps_by_walk(&mut self, scope: &Scope, unread: UnreadModel, batch: &Batch) {
        let is_of_before = |kind| *scope == Scope::Log && matches!(kind, GapKind::LogLost | GapKind::Stale);
        for kind in CLOSED_BY_READING.into_iter().filter(|kind| !is_of_before(*kind)) {
            if unread.is_over() || kind != GapKind::Failed {
                self.close_unless_found(scope, kind, batch);
            }
        }
        if !unread.is_over() {
            let gap = Gap { scope: scope.clone(), kind: GapKind::Failed, evidence: String::new() };
            self.open_gap_for(gap, Some(unread), batch.now);
        }
    }

    /// Which rows of a scope may be outdated. `None`: none.
    pub(crate) fn stale(&self, scope: &Scope) -> Option<Reach> {
        let of_scope = self.gaps.values().filter(|record| record.open && record.gap.scope == *scope);
        let kinds: BTreeSet<GapKind> =
            of_scope.map(|record| record.gap.kind).filter(|kind| kind.makes_stale()).collect();
        let failed = self.unread.get(scope).map_or_else(Reach::whole, UnreadModel::reach);
        let is_whole = kinds.iter().any(|kind| *kind != GapKind::Failed) || failed.is_whole;
        (!kinds.is_empty()).then_some(Reach { is_whole, ..failed })
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

//! The specification of the store as plain maps.
//!
//! Entry point: [`Model::apply`]; what it holds afterwards is what every reader must see.
//!
//! Invariants:
//! - Nothing here is shared with the store's code but the pure types of `core`, [`lookup_key`], and the decisions about
//!   debts and membership events, which have tables of their own.
//! - A refused batch changes nothing; a batch that changes no row and opens or closes no gap makes no revision.

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::core::batch::{Batch, CrawlMark, CursorMove, Delta, Finished, Receipt, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind, GapRecord};
use okta_idmap::core::ids::{AppId, GroupId, LogCursor, RequestNumber, Revision, Timestamp, UserId};
use okta_idmap::core::membership::{Applied, WalkWindow};
use okta_idmap::core::model::{AppUser, Key, Kind, Quarantined, Row, Scope, User};
use okta_idmap::core::normalize::{LookupKey, lookup_key};
use okta_idmap::core::pending::{PendingRead, Target};
use okta_idmap::core::reconcile::{Brake, Verdict};
use okta_idmap::store::{ChangeOp, ChangeRetention, CrawlStatus};

use super::follow::Memory;

/// Days for which a released name is remembered; the store's constant is private, and a promise.
const HISTORY_DAYS: i64 = 366;

/// Gaps that reading the scope to its end closes.
const CLOSED_BY_READING: [GapKind; 6] = [
    GapKind::Forbidden,
    GapKind::ScopeMissing,
    GapKind::Unauthorized,
    GapKind::Failed,
    GapKind::NotRead,
    GapKind::LogLost,
];

/// A stored row and the request that last changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    pub(crate) at: u64,
    pub(crate) row: Row,
}

/// What is known of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopeBook {
    pub(crate) state: WalkState,
    pub(crate) crawl: u64,
    /// Whether the crawl that it belongs to was given up for a newer one.
    pub(crate) is_idle: bool,
    pub(crate) completed_at: Option<Timestamp>,
    /// The credential that its rows were read with.
    pub(crate) read_by: Option<String>,
    /// The last complete walk, by Okta's clock.
    pub(crate) window: Option<WalkWindow>,
    /// Number of the last complete walk's first request, and whether the rows that it did not show are kept.
    walk_from: u64,
    pub(crate) is_held: bool,
    /// Rows that existed before the walk and that the walk has shown so far.
    seen: BTreeSet<Key>,
}

/// What a batch shows of a scope: rows that count as shown, and the number of its records.
#[derive(Default)]
struct Shown {
    keys: BTreeSet<Key>,
    records: u64,
}

/// How and when something was observed.
#[derive(Clone, Copy)]
pub(crate) struct Observed {
    pub(crate) at: u64,
    pub(crate) now: Timestamp,
    pub(crate) is_reread: bool,
}

/// Who lost a name: app (`None` = the user's own), key, user, kind of name, name.
pub(crate) type HeldKey = (Option<AppId>, LookupKey, UserId, &'static str, String);

/// When a bad record was last seen, and by which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadRecord {
    pub(crate) last_seen: Timestamp,
    at: u64,
}

/// An org's store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<Key, StoredRow>,
    pub(crate) held: BTreeMap<HeldKey, Timestamp>,
    pub(crate) gaps: BTreeMap<String, GapRecord>,
    pub(crate) scopes: BTreeMap<Scope, ScopeBook>,
    pub(crate) quarantine: BTreeMap<(Scope, String, String), BadRecord>,
    pub(crate) crawl: CrawlStatus,
    pub(crate) revision: Revision,
    pub(crate) log: BTreeMap<Revision, BTreeMap<Key, ChangeOp>>,
    pub(crate) cursor: Option<LogCursor>,
    pub(crate) observed_through: Option<Timestamp>,
    pub(crate) deltas: BTreeMap<Delta, Timestamp>,
    pub(crate) pending: BTreeMap<Target, PendingRead>,
    /// The newest applied event of a pair.
    pub(crate) marks: BTreeMap<(GroupId, UserId), Applied>,
    /// Gaps that were opened (`true`) or closed, by revision.
    pub(crate) gap_log: BTreeMap<Revision, BTreeMap<String, bool>>,
    /// What a restart forgets.
    pub(crate) memory: Memory,
    /// What the batch under way leaves behind.
    pub(crate) orphans: BTreeSet<Target>,
    /// Lines of the change log of the batch under way.
    changes: BTreeMap<Key, ChangeOp>,
    gap_changes: BTreeMap<String, bool>,
}

/// How the batch is judged.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) credential: String,
    pub(crate) brake: Brake,
    pub(crate) changes: ChangeRetention,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    New,
    Shown,
    /// Something newer is known; counts as shown.
    Older,
}

/// The names under which an account is found.
pub(crate) fn account_names(row: &AppUser) -> Names {
    named([("user_name", &row.user_name), ("external_id", &row.external_id), ("email", &row.email)])
}

/// The names under which a user is found.
pub(crate) fn user_names(row: &User) -> Names {
    named([("login", &row.login), ("email", &row.email), ("second_email", &row.second_email)])
}

fn named(names: [(&'static str, &Option<Box<str>>); 3]) -> Names {
    names.into_iter().filter_map(|(kind, name)| Some((kind, name.as_deref()?.to_owned()))).collect()
}

/// Names by kind of name.
type Names = Vec<(&'static str, String)>;

/// Where the names of a row are looked up, whose they are, and which they are.
fn names_of(row: &Row) -> Option<(Option<AppId>, UserId, Names)> {
    match row {
        Row::User(user) => Some((None, user.id.clone(), user_names(user))),
        Row::AppUser(account) => Some((Some(account.app.clone()), account.user.clone(), account_names(account))),
        Row::Group(_) | Row::App(_) | Row::GroupMember(_) | Row::AppGroup(_) => None,
    }
}

/// The key of the row that a list's record of this id would be.
fn key_in_scope(scope: &Scope, id: &str) -> Option<Key> {
    Some(match scope {
        Scope::Users => Key::User(UserId::new(id).ok()?),
        Scope::Groups => Key::Group(GroupId::new(id).ok()?),
        Scope::Apps => Key::App(AppId::new(id).ok()?),
        Scope::GroupMembers(group) => Key::GroupMember(group.clone(), UserId::new(id).ok()?),
        Scope::AppUsers(app) => Key::AppUser(app.clone(), UserId::new(id).ok()?),
        Scope::AppGroups(app) => Key::AppGroup(app.clone(), GroupId::new(id).ok()?),
        Scope::Log => return None,
    })
}

fn finished(scope: &Scope, verdict: Verdict) -> Finished {
    let (unlisted_apps, sample) = (Vec::new(), Vec::new());
    Finished { scope: scope.clone(), verdict, removed: 0, unlisted_apps, sample, missing: 0 }
}

impl Model {
    /// Carries out a batch; `None` when it must be refused.
    pub(crate) fn apply(&mut self, batch: &Batch, rules: &Rules) -> Option<Receipt> {
        self.begin(batch)?;
        self.orphans.clear();
        self.memory.forget_old(batch.now);
        self.take_debts(batch);
        let mut shown: BTreeMap<Scope, Shown> = BTreeMap::new();
        let observed = Observed { at: batch.at.0, now: batch.now, is_reread: batch.is_reread };
        for key in &batch.removals {
            self.remove_observed(key, observed);
            shown.entry(key.scope()).or_default().records += 1;
        }
        for row in &batch.rows {
            let put = self.put(row, observed);
            let shown = shown.entry(row.key().scope()).or_default();
            shown.records += 1;
            if put != Put::New {
                shown.keys.insert(row.key());
            }
        }
        let mut owed = self.member_events(batch);
        for record in &batch.quarantined {
            self.quarantine(record, batch);
        }
        let mut finished = Vec::new();
        for update in &batch.walks {
            let nothing = Shown::default();
            finished.extend(self.walk(update, shown.get(&update.scope).unwrap_or(&nothing), batch, rules));
        }
        for gap in &batch.gaps {
            self.open_gap(gap.clone(), batch.now);
        }
        for (scope, kind) in &batch.closed_gaps {
            let of_a_list = matches!(kind, GapKind::Forbidden | GapKind::ScopeMissing | GapKind::Failed);
            let is_walked = |book: &ScopeBook| !book.is_idle && matches!(book.state, WalkState::Finished { .. });
            if !of_a_list || self.scopes.get(scope).is_some_and(is_walked) {
                self.close_gap(scope, *kind, batch.now);
            }
        }
        if !finished.iter().any(|finished| finished.verdict.is_hold()) {
            self.pay_debts(batch);
        }
        self.owe_unread(batch, &mut owed);
        self.owe_orphans(batch, &mut owed);
        self.make_revision();
        self.move_cursor(batch);
        if let Some(CrawlMark::End { .. }) = &batch.crawl {
            self.crawl.running = false;
            self.crawl.completed_at = Some(batch.now);
            let oldest = batch.now.plus_millis(-HISTORY_DAYS * 86_400_000);
            self.held.retain(|_, released_at| *released_at >= oldest);
        }
        Some(Receipt { revision: self.revision, finished, owed: owed.into_values().collect() })
    }

    /// Refuses what does not fit, or begins the crawl.
    fn begin(&mut self, batch: &Batch) -> Option<()> {
        if let Some(CursorMove::Advance { expect, .. }) = &batch.cursor
            && self.cursor.as_ref() != Some(expect)
        {
            return None;
        }
        match &batch.crawl {
            Some(CrawlMark::Begin { id, .. }) if *id <= self.crawl.id => return None,
            Some(CrawlMark::End { id }) if !self.crawl.running || *id != self.crawl.id => return None,
            Some(CrawlMark::Begin { id, fingerprint }) => {
                self.crawl.id = *id;
                self.crawl.running = true;
                self.crawl.started_at = Some(batch.now);
                self.crawl.fingerprint.clone_from(fingerprint);
                for book in self.scopes.values_mut().filter(|book| !book.is_held) {
                    book.seen.clear();
                    book.is_idle |= matches!(book.state, WalkState::Todo | WalkState::Walking(_));
                }
            }
            Some(CrawlMark::End { .. }) | None => {}
        }
        Some(())
    }

    fn move_cursor(&mut self, batch: &Batch) {
        match &batch.cursor {
            Some(CursorMove::Anchor(cursor)) => {
                self.cursor = Some(cursor.clone());
                self.observed_through = Some(batch.okta_now);
            }
            Some(CursorMove::Advance { next, .. }) => self.cursor = Some(next.clone()),
            None => {}
        }
        self.observed_through = batch.observed_through.or(self.observed_through);
        self.deltas.extend(batch.deltas.iter().copied());
    }

    fn make_revision(&mut self) {
        if !self.changes.is_empty() || !self.gap_changes.is_empty() {
            self.revision = Revision(self.revision.0 + 1);
            if !self.changes.is_empty() {
                self.log.insert(self.revision, std::mem::take(&mut self.changes));
            }
            if !self.gap_changes.is_empty() {
                self.gap_log.insert(self.revision, std::mem::take(&mut self.gap_changes));
            }
        }
    }

    pub(crate) fn put(&mut self, row: &Row, observed: Observed) -> Put {
        let key = row.key();
        let Observed { at, now, is_reread } = observed;
        if self.memory.is_outdated(&key, at) {
            return Put::Older;
        }
        let Some(stored) = self.rows.get(&key).cloned() else {
            self.rows.insert(key.clone(), StoredRow { at, row: row.clone() });
            self.changes.insert(key.clone(), ChangeOp::Put);
            self.memory.reread(&key, observed);
            return Put::New;
        };
        let is_older_by_date =
            matches!((row.last_updated(), stored.row.last_updated()), (Some(new), Some(old)) if new < old);
        if stored.at > at || (is_older_by_date && !is_reread && self.memory.may_lag(&key, now)) {
            return Put::Older;
        }
        self.memory.reread(&key, observed);
        if stored.row == *row {
            if is_reread {
                self.rows.insert(key, StoredRow { at, ..stored });
            }
            return Put::Shown;
        }
        let is_relabelled = match (&stored.row, row) {
            (Row::App(old), Row::App(new)) => old.label != new.label,
            _ => false,
        };
        let op = self.changes.entry(key.clone()).or_insert(ChangeOp::Put);
        if is_relabelled {
            *op = ChangeOp::Relabelled;
        }
        self.release_names(&stored.row, Some(row), now);
        self.rows.insert(key, StoredRow { at, row: row.clone() });
        Put::Shown
    }

    /// Removes an object that was seen to be gone; `false` when something newer is known.
    pub(crate) fn remove_observed(&mut self, key: &Key, observed: Observed) -> bool {
        let is_newer = self.rows.get(key).is_some_and(|stored| stored.at > observed.at);
        if is_newer || self.memory.is_outdated(key, observed.at) {
            return false;
        }
        self.memory.reread(key, observed);
        self.memory.removed(key, observed);
        self.remove(key, observed.now);
        true
    }

    /// Notes the names that `old` had and `new` no longer has.
    fn release_names(&mut self, old: &Row, new: Option<&Row>, now: Timestamp) {
        let Some((app, user, old_names)) = names_of(old) else { return };
        let new_names = new.and_then(names_of).map(|(_, _, names)| names).unwrap_or_default();
        for (kind, name) in old_names {
            if let Ok(key) = lookup_key(&name)
                && !new_names.contains(&(kind, name.clone()))
            {
                self.held.insert((app.clone(), key, user.clone(), kind, name), now);
            }
        }
    }

    /// Removes an object with what hangs on it; returns the number of rows.
    fn remove(&mut self, key: &Key, now: Timestamp) -> u64 {
        let hangs_on_it = |other: &Key| match (key, other) {
            (Key::User(user), Key::GroupMember(_, other) | Key::AppUser(_, other)) => user == other,
            (Key::Group(group), Key::GroupMember(other, _) | Key::AppGroup(_, other)) => group == other,
            (Key::App(app), Key::AppUser(other, _) | Key::AppGroup(other, _)) => app == other,
            _ => key == other,
        };
        let gone: Vec<Key> = self.rows.keys().filter(|other| hangs_on_it(other)).cloned().collect();
        self.orphans.extend(gone.iter().filter_map(|other| match (key, other) {
            (Key::Group(_), Key::AppGroup(app, _)) => Some(Target::List(Scope::AppUsers(app.clone()))),
            _ => None,
        }));
        if let Key::App(app) = key {
            let of_app = self.rows.values().filter_map(|stored| match &stored.row {
                Row::Group(group) if group.source_app.as_ref() == Some(app) => Some(Target::Group(group.id.clone())),
                _ => None,
            });
            self.orphans.extend(of_app);
        }
        for key in &gone {
            if let Some(stored) = self.rows.remove(key) {
                self.release_names(&stored.row, None, now);
                self.changes.insert(key.clone(), ChangeOp::Removed);
            }
        }
        match key {
            Key::Group(group) => {
                self.marks.retain(|(other, _), _| other != group);
                self.forget(&Scope::GroupMembers(group.clone()));
            }
            Key::App(app) => {
                self.forget(&Scope::AppUsers(app.clone()));
                self.forget(&Scope::AppGroups(app.clone()));
            }
            _ => {}
        }
        gone.len() as u64
    }

    fn forget(&mut self, scope: &Scope) {
        self.scopes.remove(scope);
        self.quarantine.retain(|(other, _, _), _| other != scope);
        self.forget_gaps(scope);
    }

    fn forget_gaps(&mut self, scope: &Scope) {
        for (id, record) in self.gaps.iter_mut().filter(|(_, record)| record.gap.scope == *scope && record.open) {
            record.open = false;
            self.gap_changes.insert(id.clone(), false);
        }
    }

    fn quarantine(&mut self, record: &Quarantined, batch: &Batch) {
        let item = record.id.as_deref().unwrap_or_default().to_owned();
        let bad = BadRecord { last_seen: batch.now, at: batch.at.0 };
        self.quarantine.insert((record.scope.clone(), item, record.reason.clone()), bad);
    }

    fn walk(&mut self, update: &WalkUpdate, shown: &Shown, batch: &Batch, rules: &Rules) -> Option<Finished> {
        let crawl = self.crawl.id.0;
        match &update.state {
            WalkState::Unwanted => {
                self.drop_scope(&update.scope, batch.now);
                return None;
            }
            WalkState::Released => return self.release(&update.scope, batch, rules),
            _ => {}
        }
        let book = self.scopes.entry(update.scope.clone()).or_insert_with(|| ScopeBook {
            state: WalkState::Todo,
            crawl,
            is_idle: false,
            completed_at: None,
            read_by: None,
            window: None,
            walk_from: 0,
            is_held: false,
            seen: BTreeSet::new(),
        });
        if std::mem::take(&mut book.is_held) {
            book.seen.clear();
        }
        let before = std::mem::replace(&mut book.state, update.state.clone());
        let is_idle = std::mem::take(&mut book.is_idle);
        book.crawl = crawl;
        match &update.state {
            WalkState::Walking(_) => {
                book.read_by.get_or_insert_with(|| rules.credential.clone());
                book.seen.extend(shown.keys.iter().cloned());
            }
            WalkState::Finished { from, began, known_empty, ended } => {
                book.seen.extend(shown.keys.iter().cloned());
                let earlier = match before {
                    WalkState::Walking(position) if !is_idle && position.from == *from => position.rows,
                    _ => 0,
                };
                let window = WalkWindow { began: *began, ended: (*began).max(batch.okta_now) };
                let is_empty = earlier + shown.records == 0 && !known_empty;
                return Some(self.finish(&update.scope, *from, window, is_empty, batch, rules));
            }
            _ => book.seen.clear(),
        }
        None
    }

    fn drop_scope(&mut self, scope: &Scope, now: Timestamp) {
        let rows: Vec<Key> = self.rows.keys().filter(|key| key.scope() == *scope).cloned().collect();
        if self.scopes.remove(scope).is_none() && rows.is_empty() {
            return;
        }
        for key in rows {
            self.remove(&key, now);
        }
        self.forget_marks(scope, None);
        self.forget_gaps(scope);
    }

    /// Rows that the last walk of a held scope did not show.
    pub(crate) fn missing(&self, scope: &Scope) -> Vec<Key> {
        let Some(book) = self.scopes.get(scope).filter(|book| book.is_held) else { return Vec::new() };
        let rows = self.rows.iter().filter(|(key, _)| key.scope() == *scope);
        rows.filter(|(key, stored)| !book.seen.contains(key) && stored.at < book.walk_from)
            .map(|(key, _)| key.clone())
            .collect()
    }

    fn release(&mut self, scope: &Scope, batch: &Batch, rules: &Rules) -> Option<Finished> {
        let missing = self.missing(scope);
        let book = self.scopes.get_mut(scope).filter(|book| book.is_held)?;
        book.is_held = false;
        book.seen.clear();
        book.read_by = Some(rules.credential.clone());
        let mut finished = finished(scope, Verdict::Remove);
        self.remove_missing(missing, &mut finished, batch.now);
        self.close_unless_found(scope, GapKind::Held, batch);
        self.close_unless_found(scope, GapKind::EmptySuspect, batch);
        Some(finished)
    }

    /// The operator's order to release a hold, which has no batch.
    pub(crate) fn release_by_order(&mut self, scope: &Scope, now: Timestamp, rules: &Rules) -> Option<Finished> {
        let finished = self.release(scope, &Batch { now, ..Batch::default() }, rules)?;
        self.make_revision();
        Some(finished)
    }

    fn remove_missing(&mut self, missing: Vec<Key>, finished: &mut Finished, now: Timestamp) {
        for key in missing {
            match key {
                Key::App(app) => finished.unlisted_apps.push(app),
                key => finished.removed += self.remove(&key, now),
            }
        }
    }

    fn finish(
        &mut self,
        scope: &Scope,
        from: RequestNumber,
        window: WalkWindow,
        shows_nothing: bool,
        batch: &Batch,
        rules: &Rules,
    ) -> Finished {
        let now = batch.now;
        self.quarantine.retain(|(other, _, _), bad| other != scope || bad.at >= from.0);
        let bad: Vec<&str> =
            self.quarantine.keys().filter(|(other, _, _)| other == scope).map(|(_, item, _)| item.as_str()).collect();
        let (unreadable, nameless) = (bad.len(), bad.iter().filter(|item| item.is_empty()).count());
        let named: BTreeSet<Key> = bad.iter().filter_map(|item| key_in_scope(scope, item)).collect();
        let book = self.scopes.get_mut(scope).unwrap();
        book.seen.extend(named);
        book.walk_from = from.0;
        book.is_held = true; // Until the verdict; what is missing is asked of a held book.
        let (seen, read_by) = (book.seen.clone(), book.read_by.clone());
        let missing = self.missing(scope);
        let in_scope = self.rows.iter().filter(|(key, _)| key.scope() == *scope);
        let stored = in_scope.filter(|(key, stored)| seen.contains(key) || stored.at < from.0).count();
        let is_empty = shows_nothing && unreadable == 0;
        let is_other_credential = read_by.as_ref().is_some_and(|by| *by != rules.credential);
        let verdict = match missing.len() {
            0 => Verdict::Nothing,
            _ if is_other_credential => Verdict::HoldCredential,
            _ if nameless > 0 => Verdict::HoldUnreadable,
            _ if is_empty => Verdict::HoldEmpty,
            // The same decision as in `core::reconcile`, which has its own table.
            count if count as u64 > rules.brake.rows && count as f64 > stored as f64 * rules.brake.share => {
                Verdict::HoldShrunk
            }
            _ => Verdict::Remove,
        };
        let mut finished = finished(scope, verdict);
        let is_removing = matches!(verdict, Verdict::Nothing | Verdict::Remove);
        let is_held = !is_removing && verdict != Verdict::HoldUnreadable;
        let is_asked = batch.is_followed && matches!(scope, Scope::Users | Scope::Groups);
        if is_removing {
            if is_asked && verdict == Verdict::Remove {
                self.orphans.extend(missing.into_iter().filter_map(|key| match key {
                    Key::User(user) => Some(Target::User(user)),
                    Key::Group(group) => Some(Target::Group(group)),
                    _ => None,
                }));
            } else {
                self.remove_missing(missing, &mut finished, now);
            }
            self.close_unless_found(scope, GapKind::Held, batch);
        } else if is_held {
            finished.missing = missing.len() as u64;
            let kind = if verdict == Verdict::HoldEmpty { GapKind::EmptySuspect } else { GapKind::Held };
            self.open_gap(Gap { scope: scope.clone(), kind, evidence: String::new() }, now);
        }
        if is_removing || !is_empty {
            self.close_unless_found(scope, GapKind::EmptySuspect, batch);
        }
        for kind in CLOSED_BY_READING {
            if unreadable == 0 || kind != GapKind::Failed {
                self.close_unless_found(scope, kind, batch);
            }
        }
        if unreadable > 0 {
            self.open_gap(Gap { scope: scope.clone(), kind: GapKind::Failed, evidence: String::new() }, now);
        }
        let book = self.scopes.get_mut(scope).unwrap();
        book.is_held = is_held;
        if !is_held {
            book.seen.clear();
        }
        book.completed_at = Some(now);
        book.window = Some(window);
        if is_removing || book.read_by.is_none() {
            book.read_by = Some(rules.credential.clone());
        }
        self.forget_marks(scope, Some(window.began));
        self.memory.walked(scope, from.0, now);
        finished
    }

    fn open_gap(&mut self, gap: Gap, now: Timestamp) {
        let record = self.gaps.entry(gap.id().as_str().to_owned()).or_insert_with(|| GapRecord {
            gap: gap.clone(),
            first_seen: now,
            last_seen: now,
            count: 0,
            open: false,
        });
        if !record.open {
            self.gap_changes.insert(gap.id().as_str().to_owned(), true);
        }
        record.gap = gap;
        record.last_seen = now;
        record.count += 1;
        record.open = true;
    }

    fn close_gap(&mut self, scope: &Scope, kind: GapKind, now: Timestamp) {
        let id = Gap { scope: scope.clone(), kind, evidence: String::new() }.id();
        if let Some(record) = self.gaps.get_mut(id.as_str())
            && record.open
        {
            record.open = false;
            record.last_seen = now;
            self.gap_changes.insert(id.as_str().to_owned(), false);
        }
    }

    /// Closes a gap unless the same batch reports it.
    fn close_unless_found(&mut self, scope: &Scope, kind: GapKind, batch: &Batch) {
        if !batch.gaps.iter().any(|gap| gap.scope == *scope && gap.kind == kind) {
            self.close_gap(scope, kind, batch.now);
        }
    }

    /// Rows of a kind, by key.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Row)> {
        self.rows.iter().filter(move |(key, _)| key.kind() == kind).map(|(key, stored)| (key, &stored.row))
    }

    /// The built-in group of all users.
    pub(crate) fn everyone(&self) -> Option<GroupId> {
        self.of_kind(Kind::Group).find_map(|(_, row)| match row {
            Row::Group(group) if group.is_everyone() => Some(group.id.clone()),
            _ => None,
        })
    }

    /// Whether the user list shows the user.
    pub(crate) fn has_user(&self, user: &UserId) -> bool {
        self.rows.contains_key(&Key::User(user.clone()))
    }

    /// Whether the user is in the group; `Everyone` holds all users.
    pub(crate) fn is_member(&self, group: &GroupId, user: &UserId) -> bool {
        match self.everyone() {
            Some(everyone) if everyone == *group => self.has_user(user),
            _ => self.rows.contains_key(&Key::GroupMember(group.clone(), user.clone())),
        }
    }
}

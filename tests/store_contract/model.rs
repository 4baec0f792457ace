//! The specification of the store as plain maps.
//!
//! Entry point: [`Model::apply`]; what it holds afterwards is what every reader must see.
//!
//! Invariants:
//! - Nothing here is shared with the store's code but the pure types of `core` and [`lookup_key`].
//! - A refused batch changes nothing; a batch that changes no row and opens or closes no gap makes no revision.

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::core::batch::{Batch, CrawlMark, CursorMove, Finished, Receipt, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind, GapRecord};
use okta_idmap::core::ids::{AppId, GroupId, LogCursor, RequestNumber, Revision, Timestamp, UserId};
use okta_idmap::core::model::{AppUser, Key, Kind, Quarantined, Row, Scope, User};
use okta_idmap::core::normalize::{LookupKey, lookup_key};
use okta_idmap::core::reconcile::{Brake, Verdict};
use okta_idmap::store::{ChangeOp, CrawlStatus};

/// Days for which a released name is remembered; the store's constant is private, and a promise.
const HISTORY_DAYS: i64 = 366;

/// Gaps that reading the scope to its end closes.
const CLOSED_BY_READING: [GapKind; 7] = [
    GapKind::Forbidden,
    GapKind::ScopeMissing,
    GapKind::Unauthorized,
    GapKind::Failed,
    GapKind::EmptySuspect,
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
    /// Rows that existed before the walk and that the walk has shown so far.
    seen: BTreeSet<Key>,
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
    /// Lines of the change log of the batch under way.
    changes: BTreeMap<Key, ChangeOp>,
    gaps_changed: bool,
}

/// How the batch is judged.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) credential: String,
    pub(crate) brake: Brake,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Put {
    New,
    Shown,
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

impl Model {
    /// Carries out a batch; `None` when it must be refused.
    pub(crate) fn apply(&mut self, batch: &Batch, rules: &Rules) -> Option<Receipt> {
        match &batch.crawl {
            Some(CrawlMark::Begin { id, .. }) if *id <= self.crawl.id => return None,
            Some(CrawlMark::End { id }) if !self.crawl.running || *id != self.crawl.id => return None,
            Some(CrawlMark::Begin { id, fingerprint }) => {
                self.crawl.id = *id;
                self.crawl.running = true;
                self.crawl.started_at = Some(batch.now);
                self.crawl.fingerprint.clone_from(fingerprint);
                for book in self.scopes.values_mut() {
                    book.seen.clear();
                    book.is_idle |= matches!(book.state, WalkState::Todo | WalkState::Walking(_));
                }
            }
            Some(CrawlMark::End { .. }) | None => {}
        }
        for key in &batch.removals {
            if self.rows.get(key).is_none_or(|stored| stored.at <= batch.at.0) {
                self.remove(key, batch.now);
            }
        }
        let mut shown = BTreeSet::new();
        for row in &batch.rows {
            if self.put(row, batch) == Put::Shown {
                shown.insert(row.key());
            }
        }
        for record in &batch.quarantined {
            self.quarantine(record, batch);
        }
        let mut finished = Vec::new();
        for update in &batch.walks {
            finished.extend(self.walk(update, &shown, batch, rules));
        }
        for gap in &batch.gaps {
            self.open_gap(gap.clone(), batch.now);
        }
        for (scope, kind) in &batch.closed_gaps {
            self.close_gap(scope, *kind, batch.now);
        }
        if let Some(CursorMove::Anchor(cursor)) = &batch.cursor {
            self.cursor = Some(cursor.clone());
            self.observed_through = Some(batch.now);
        }
        self.make_revision();
        if let Some(CrawlMark::End { .. }) = &batch.crawl {
            self.crawl.running = false;
            self.crawl.completed_at = Some(batch.now);
            let oldest = batch.now.plus_millis(-HISTORY_DAYS * 86_400_000);
            self.held.retain(|_, released_at| *released_at >= oldest);
        }
        Some(Receipt { revision: self.revision, finished })
    }

    fn make_revision(&mut self) {
        if !self.changes.is_empty() || self.gaps_changed {
            self.revision = Revision(self.revision.0 + 1);
            if !self.changes.is_empty() {
                self.log.insert(self.revision, std::mem::take(&mut self.changes));
            }
            self.gaps_changed = false;
        }
    }

    fn put(&mut self, row: &Row, batch: &Batch) -> Put {
        let key = row.key();
        let Some(stored) = self.rows.get(&key).cloned() else {
            self.rows.insert(key.clone(), StoredRow { at: batch.at.0, row: row.clone() });
            self.changes.insert(key, ChangeOp::Put);
            return Put::New;
        };
        let is_older_by_date =
            matches!((row.last_updated(), stored.row.last_updated()), (Some(new), Some(old)) if new < old);
        if stored.at > batch.at.0 || is_older_by_date || stored.row == *row {
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
        self.release_names(&stored.row, Some(row), batch.now);
        self.rows.insert(key, StoredRow { at: batch.at.0, row: row.clone() });
        Put::Shown
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
        for key in &gone {
            if let Some(stored) = self.rows.remove(key) {
                self.release_names(&stored.row, None, now);
                self.changes.insert(key.clone(), ChangeOp::Removed);
            }
        }
        match key {
            Key::Group(group) => self.forget(&Scope::GroupMembers(group.clone())),
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
        for record in self.gaps.values_mut().filter(|record| record.gap.scope == *scope && record.open) {
            record.open = false;
            self.gaps_changed = true;
        }
    }

    fn quarantine(&mut self, record: &Quarantined, batch: &Batch) {
        let item = record.id.as_deref().unwrap_or_default().to_owned();
        let bad = BadRecord { last_seen: batch.now, at: batch.at.0 };
        self.quarantine.insert((record.scope.clone(), item, record.reason.clone()), bad);
    }

    fn walk(&mut self, update: &WalkUpdate, shown: &BTreeSet<Key>, batch: &Batch, rules: &Rules) -> Option<Finished> {
        let crawl = self.crawl.id.0;
        let book = self.scopes.entry(update.scope.clone()).or_insert_with(|| ScopeBook {
            state: WalkState::Todo,
            crawl,
            is_idle: false,
            completed_at: None,
            read_by: None,
            seen: BTreeSet::new(),
        });
        book.state = update.state.clone();
        book.crawl = crawl;
        book.is_idle = false;
        match &update.state {
            WalkState::Todo | WalkState::GivenUp => book.seen.clear(),
            WalkState::Unwanted => unreachable!("the model never drops a scope"),
            WalkState::Walking(_) => {
                book.read_by.get_or_insert_with(|| rules.credential.clone());
                book.seen.extend(shown.iter().filter(|key| key.scope() == update.scope).cloned());
            }
            WalkState::Finished { from } => {
                book.seen.extend(shown.iter().filter(|key| key.scope() == update.scope).cloned());
                return Some(self.finish(&update.scope, *from, batch, rules));
            }
        }
        None
    }

    fn finish(&mut self, scope: &Scope, from: RequestNumber, batch: &Batch, rules: &Rules) -> Finished {
        let now = batch.now;
        self.quarantine.retain(|(other, _, _), bad| other != scope || bad.at >= from.0);
        let bad: Vec<&str> =
            self.quarantine.keys().filter(|(other, _, _)| other == scope).map(|(_, item, _)| item.as_str()).collect();
        let (unreadable, nameless) = (bad.len(), bad.iter().filter(|item| item.is_empty()).count());
        let named: BTreeSet<Key> = bad.iter().filter_map(|item| key_in_scope(scope, item)).collect();
        let book = self.scopes.get(scope).cloned();
        let seen = book.as_ref().map(|book| book.seen.clone()).unwrap_or_default();
        let in_scope = self.rows.iter().filter(|(key, _)| key.scope() == *scope);
        let is_old = |key: &Key, stored: &StoredRow| seen.contains(key) || named.contains(key) || stored.at < from.0;
        let before: Vec<&Key> = in_scope.filter(|(key, stored)| is_old(key, stored)).map(|(key, _)| key).collect();
        let is_missing = |key: &Key| {
            !seen.contains(key) && !named.contains(key) && self.rows.get(key).is_some_and(|stored| stored.at < from.0)
        };
        let missing: Vec<Key> = before.iter().filter(|key| is_missing(key)).map(|key| (*key).clone()).collect();
        let stored = before.len();
        let read_by = book.and_then(|book| book.read_by);
        let is_other_credential = read_by.as_ref().is_some_and(|by| *by != rules.credential);
        let verdict = match missing.len() {
            0 => Verdict::Nothing,
            _ if is_other_credential => Verdict::HoldCredential,
            _ if nameless > 0 => Verdict::HoldUnreadable,
            // The same decision as in `core::reconcile`, which has its own table.
            count if count as u64 > rules.brake.rows && count as f64 > stored as f64 * rules.brake.share => {
                Verdict::HoldShrunk
            }
            _ => Verdict::Remove,
        };
        let mut finished = Finished { scope: scope.clone(), verdict, removed: 0, unlisted_apps: Vec::new() };
        match verdict {
            Verdict::Nothing => self.close_gap(scope, GapKind::Held, now),
            Verdict::Remove => {
                self.close_gap(scope, GapKind::Held, now);
                for key in missing {
                    match key {
                        Key::App(app) => finished.unlisted_apps.push(app),
                        key => finished.removed += self.remove(&key, now),
                    }
                }
            }
            Verdict::HoldUnreadable => {}
            Verdict::HoldShrunk | Verdict::HoldCredential => {
                let gap = Gap { scope: scope.clone(), kind: GapKind::Held, evidence: String::new() };
                self.open_gap(gap, now);
            }
        }
        for kind in CLOSED_BY_READING {
            if unreadable == 0 || kind != GapKind::Failed {
                self.close_gap(scope, kind, now);
            }
        }
        if unreadable > 0 {
            self.open_gap(Gap { scope: scope.clone(), kind: GapKind::Failed, evidence: String::new() }, now);
        }
        let is_held = !matches!(verdict, Verdict::Nothing | Verdict::Remove);
        if let Some(book) = self.scopes.get_mut(scope) {
            book.seen.clear();
            book.completed_at = Some(now);
            if !is_held || book.read_by.is_none() {
                book.read_by = Some(rules.credential.clone());
            }
        }
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
        self.gaps_changed |= !record.open;
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
            self.gaps_changed = true;
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

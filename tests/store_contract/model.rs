//! The specification of the store as plain maps.
//!
//! Entry point: [`Model::apply`]; what it holds afterwards is what every reader must see.
//!
//! Invariants:
//! - Nothing here is shared with the store's code but the pure types of `core`, [`lookup_key`], and the decisions about
//!   debts and membership events, which have tables of their own.
//! - A refused batch changes nothing; a batch that changes no row and opens or closes no gap makes no revision.

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::core::batch::{Batch, CrawlMark, CursorMove, Delta, Receipt, WalkState};
use okta_idmap::core::coverage::{GapKind, GapRecord};
use okta_idmap::core::ids::{AppId, GroupId, LogCursor, Revision, Timestamp, UserId};
use okta_idmap::core::membership::{Applied, WalkWindow};
use okta_idmap::core::model::{AppUser, Key, Kind, Row, Scope, User};
use okta_idmap::core::normalize::{LookupKey, lookup_key};
use okta_idmap::core::pending::{PendingRead, Target};
use okta_idmap::core::reconcile::Brake;
use okta_idmap::store::{ChangeOp, ChangeRetention, CrawlStatus};

use super::follow::Memory;
use super::overrides::Decisions;

/// Days for which a released name is remembered; the store's constant is private, and a promise.
const HISTORY_DAYS: i64 = 366;

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
    /// It was empty when its object was created, and nobody has read a page of it.
    pub(crate) is_born: bool,
    pub(crate) completed_at: Option<Timestamp>,
    /// The credential that its rows were read with.
    pub(crate) read_by: Option<String>,
    /// The last complete walk, by Okta's clock.
    pub(crate) window: Option<WalkWindow>,
    /// Number of the last complete walk's first request, and whether the rows that it did not show are kept.
    pub(crate) walk_from: u64,
    pub(crate) is_held: bool,
    /// Rows that existed before the walk and that the walk has shown so far.
    pub(crate) seen: BTreeSet<Key>,
}

/// What a batch shows of a scope: rows that count as shown, and the number of its records.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) keys: BTreeSet<Key>,
    pub(crate) records: u64,
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
    pub(crate) at: u64,
}

/// What an open `FAILED` is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnreadModel {
    /// A read has failed.
    pub(crate) is_failed: bool,
    /// A record that was in no list's complete read does not say which row it is.
    pub(crate) is_any: bool,
    /// A record of a list's complete read does not.
    pub(crate) is_nameless: bool,
    /// Rows by the request that showed their bad record, with the last complete read before.
    pub(crate) rows: BTreeMap<String, (u64, Option<Timestamp>)>,
}

/// An org's store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) rows: BTreeMap<Key, StoredRow>,
    pub(crate) held: BTreeMap<HeldKey, Timestamp>,
    pub(crate) gaps: BTreeMap<String, GapRecord>,
    /// What each open `FAILED` is about.
    pub(crate) unread: BTreeMap<Scope, UnreadModel>,
    pub(crate) scopes: BTreeMap<Scope, ScopeBook>,
    pub(crate) quarantine: BTreeMap<(Scope, String, String), BadRecord>,
    pub(crate) crawl: CrawlStatus,
    pub(crate) revision: Revision,
    pub(crate) log: BTreeMap<Revision, BTreeMap<Key, ChangeOp>>,
    pub(crate) cursor: Option<LogCursor>,
    pub(crate) observed_through: Option<Timestamp>,
    pub(crate) observed_by_our_clock: Option<Timestamp>,
    pub(crate) opened_at: Option<Timestamp>,
    pub(crate) deltas: BTreeMap<Delta, Timestamp>,
    pub(crate) pending: BTreeMap<Target, PendingRead>,
    /// The newest applied event of a pair.
    pub(crate) marks: BTreeMap<(GroupId, UserId), Applied>,
    /// Gaps that were opened (`true`) or closed, by revision.
    pub(crate) gap_log: BTreeMap<Revision, BTreeMap<String, bool>>,
    /// Operators' overrides.
    pub(crate) decisions: Decisions,
    /// What a restart forgets.
    pub(crate) memory: Memory,
    /// What the batch under way leaves behind.
    pub(crate) orphans: BTreeSet<Target>,
    /// Those of them whose end goes without saying.
    pub(crate) ended: BTreeSet<Target>,
    /// Whether new rows that name nobody known are orphans.
    notes_strangers: bool,
    /// Lines of the change log of the batch under way.
    pub(crate) changes: BTreeMap<Key, ChangeOp>,
    pub(crate) gap_changes: BTreeMap<String, bool>,
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

/// Okta's clock; our own where it is not known.
fn okta_now(batch: &Batch) -> Timestamp {
    if batch.okta_now == Timestamp::default() { batch.now } else { batch.okta_now }
}

impl Model {
    /// Carries out a batch; `None` when it must be refused.
    pub(crate) fn apply(&mut self, batch: &Batch, rules: &Rules) -> Option<Receipt> {
        self.begin(batch)?;
        self.orphans.clear();
        self.ended.clear();
        self.memory.forget_old(batch.now);
        self.take_debts(batch);
        let owes = |scope| self.pending.contains_key(&Target::List(scope));
        let owes_objects = owes(Scope::Users) || owes(Scope::Groups);
        self.notes_strangers = batch.is_followed && !self.crawl.running && !owes_objects;
        let mut owed = BTreeMap::new();
        let forgotten = self.forget_groups(batch, &mut owed);
        let mut shown: BTreeMap<Scope, Shown> = BTreeMap::new();
        let mut shown_objects = BTreeSet::new();
        let observed = Observed { at: batch.at.0, now: batch.now, is_reread: batch.is_reread };
        for key in &batch.removals {
            self.remove_observed(key, observed);
            shown.entry(key.scope()).or_default().records += 1;
        }
        let mut taken: Vec<(Key, u64)> = batch.removals.iter().map(|key| (key.clone(), batch.at.0)).collect();
        taken.extend(batch.settled.iter().map(|(key, by)| (key.clone(), by.0)));
        for row in &batch.rows {
            let put = self.put(row, observed);
            if put != Put::Older {
                shown_objects.extend(Scope::of_object(&row.key()));
                taken.push((row.key(), batch.at.0));
            }
            let shown = shown.entry(row.key().scope()).or_default();
            shown.records += 1;
            if put != Put::New {
                shown.keys.insert(row.key());
            }
        }
        self.member_events(batch, &mut owed);
        self.settle_shown(&taken, batch.now);
        self.close_gaps_of_shown(&shown_objects, batch);
        for record in &batch.quarantined {
            self.quarantine(record, batch);
        }
        self.take_newborn(batch, rules);
        let mut finished = Vec::new();
        for update in &batch.walks {
            if update.state == WalkState::Released && !batch.brought.is_empty() {
                if self.are_gone_with_apps(batch) {
                    finished.extend(self.release_brought(&update.scope, batch, rules));
                }
                continue;
            }
            let nothing = Shown::default();
            finished.extend(self.walk(update, shown.get(&update.scope).unwrap_or(&nothing), batch, rules));
        }
        if batch.observed_through.is_some() {
            self.close_gap(&Scope::Log, GapKind::Stale, batch.now);
        }
        for gap in batch.gaps.iter().filter(|gap| !forgotten.contains(&gap.scope)) {
            self.open_gap(gap.clone(), batch.now);
        }
        for (scope, kind) in &batch.closed_gaps {
            self.close_gap_by_read(scope, *kind, batch.now);
        }
        if !finished.iter().any(|finished| finished.verdict.is_hold()) {
            self.pay_debts(batch);
        }
        self.settle_rest(batch, finished.iter().any(|finished| finished.verdict.is_hold()));
        self.owe_newborn(batch, &mut owed);
        self.owe_unread(batch, &mut owed);
        self.owe_what_gaps_wait_for(batch, &mut owed);
        if batch.unread_is_lost {
            self.lose_unread(batch);
        }
        if let Some(CrawlMark::End { .. }) = &batch.crawl {
            self.owe_lost(batch, &mut owed);
        }
        self.owe_orphans(batch, &mut owed);
        self.make_revision();
        self.move_cursor(batch);
        if let Some(CrawlMark::End { .. }) = &batch.crawl {
            self.crawl.running = false;
            self.crawl.completed_at = Some(batch.now);
            self.crawl.whole_since = self.crawl.began;
            let oldest = batch.now.plus_millis(-HISTORY_DAYS * 86_400_000);
            self.held.retain(|_, released_at| *released_at >= oldest);
            self.forget_old_gaps(batch.now);
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
                self.crawl.began = Some(okta_now(batch));
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
                self.observed_through = Some(okta_now(batch));
            }
            Some(CursorMove::Open { next, at }) => {
                self.cursor = Some(next.clone());
                self.opened_at = Some(*at);
            }
            Some(CursorMove::Advance { next, .. }) => self.cursor = Some(next.clone()),
            None => {}
        }
        self.observed_through = batch.observed_through.or(self.observed_through);
        if batch.observed_through.is_some() || matches!(batch.cursor, Some(CursorMove::Anchor(_))) {
            let behind = self.observed_through.map(|through| okta_now(batch).millis_since(through));
            self.observed_by_our_clock = behind.map(|behind| batch.now.plus_millis(-behind));
            self.opened_at = None;
        }
        self.deltas.extend(batch.deltas.iter().copied());
    }

    pub(crate) fn make_revision(&mut self) {
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
            self.note_strangers(&key);
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

    /// A new row that names somebody or something that is not stored: it is asked for by id.
    fn note_strangers(&mut self, key: &Key) {
        let named = match key {
            Key::AppUser(_, user) | Key::GroupMember(_, user) => Key::User(user.clone()),
            Key::AppGroup(_, group) => Key::Group(group.clone()),
            Key::User(_) | Key::Group(_) | Key::App(_) => return,
        };
        if self.notes_strangers && !self.rows.contains_key(&named) {
            self.orphans.extend(Target::of_object(&named));
        }
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
    pub(crate) fn remove(&mut self, key: &Key, now: Timestamp) -> u64 {
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
            let of_app: Vec<Target> = of_app.collect();
            self.ended.extend(of_app.iter().cloned());
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
                self.forget(&Scope::GroupMembers(group.clone()), now);
            }
            Key::App(app) => {
                self.forget(&Scope::AppUsers(app.clone()), now);
                self.forget(&Scope::AppGroups(app.clone()), now);
            }
            _ => {}
        }
        if let Some(object) = Scope::of_object(key) {
            self.forget_gaps(&object, now);
        }
        gone.len() as u64
    }

    fn forget(&mut self, scope: &Scope, now: Timestamp) {
        self.scopes.remove(scope);
        self.quarantine.retain(|(other, _, _), _| other != scope);
        self.forget_gaps(scope, now);
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

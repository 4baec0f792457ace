//! What a store does with the batches of a follower, in plain maps: rows, debts, walks with their holds, gaps, the log
//! position, and what only the writer remembers.
//!
//! Entry points: [`Books::commit`], [`Books::crash`].
//!
//! Invariants:
//! - The order within a batch, and every rule about what is outdated, are those of the store; names, dates, revisions and
//!   the change log are left out, because the state machine sees nothing of them.
//! - What would be refused by the store panics here: a state machine never asks for it.

mod gaps;
mod rows;
mod walks;

use std::collections::{BTreeMap, BTreeSet};

use self::rows::Guard;
pub(super) use self::rows::{Put, Seen};
use super::sieve::{Sieve, Sifted};
use crate::core::batch::{Batch, CrawlMark, CursorMove, Delta, Receipt, Returned, WalkState};
use crate::core::coverage::GapKind;
use crate::core::event::MemberChange;
use crate::core::filter::Filter;
use crate::core::ids::{AppId, GroupId, LogCursor, RequestNumber, Revision, Timestamp, UserId};
use crate::core::membership::{Applied, Decision, WalkWindow, decide};
use crate::core::model::{Group, GroupMember, Key, Row, Scope};
use crate::core::pending::{PendingRead, Target, When};
use crate::core::reconcile::Brake;
use crate::core::sync::UnseenFound;

/// What is known of a scope.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) state: WalkState,
    pub(super) crawl: u64,
    /// Its walk was given up for a newer crawl.
    is_idle: bool,
    /// It was empty when its object was created, and nobody has read a page of it.
    is_born: bool,
    pub(super) is_held: bool,
    /// It was read to its end where nobody follows, and who was missing is asked for by id.
    has_questions: bool,
    pub(super) completed_at: Option<Timestamp>,
    window: Option<WalkWindow>,
    pub(super) walk_from: u64,
    read_by: Option<String>,
    seen: BTreeSet<Key>,
}

/// What a batch shows of a scope.
#[derive(Clone, Default)]
struct Shown {
    seen: BTreeSet<Key>,
    records: u64,
    /// Users and groups that the filter keeps out.
    dropped: BTreeSet<Key>,
}

/// What has been stored; survives the death of the state machine.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) rows: BTreeMap<Key, (u64, Row)>,
    pub(super) scopes: BTreeMap<Scope, Book>,
    pub(super) pending: BTreeMap<Target, PendingRead>,
    pub(super) gaps: BTreeSet<(Scope, GapKind)>,
    /// Lists of which a read has failed, and rows that could not be read by themselves, with the request that only a later one settles:
    /// what `FAILED` is open for.
    failed: BTreeSet<Scope>,
    unread: BTreeMap<Key, u64>,
    pub(super) cursor: Option<LogCursor>,
    pub(super) observed_through: Option<Timestamp>,
    pub(super) opened_at: Option<Timestamp>,
    pub(super) deltas: BTreeMap<Delta, Timestamp>,
    pub(super) crawl: u64,
    pub(super) is_crawling: bool,
    pub(super) crawl_began: Option<Timestamp>,
    pub(super) crawl_ended: Option<Timestamp>,
    pub(super) brake: Brake,
    pub(super) credential: String,
    /// Largest request number of any batch.
    pub(super) newest: u64,
    marks: BTreeMap<(GroupId, UserId), Applied>,
    guard: Guard,
    /// Debts that the store makes in the batch at hand.
    owed: BTreeMap<Target, PendingRead>,
    /// What groups and apps that were removed in the batch at hand leave behind.
    orphans: BTreeSet<Target>,
    /// Apps of the batch that are there, and that nobody wants: they take no groups along.
    unwanted_apps: Vec<AppId>,
    /// Those of them whose end goes without saying.
    ended: BTreeSet<Target>,
    gone: BTreeSet<Scope>,
    pub(super) sieve: Sieve,
}

impl Books {
    pub(super) fn new(brake: Brake) -> Self {
        Self {
            rows: BTreeMap::new(),
            scopes: BTreeMap::new(),
            pending: BTreeMap::new(),
            gaps: BTreeSet::new(),
            failed: BTreeSet::new(),
            unread: BTreeMap::new(),
            cursor: None,
            observed_through: None,
            opened_at: None,
            deltas: BTreeMap::new(),
            crawl: 0,
            is_crawling: false,
            crawl_began: None,
            crawl_ended: None,
            brake,
            credential: "first".to_owned(),
            newest: 0,
            marks: BTreeMap::new(),
            guard: Guard::default(),
            owed: BTreeMap::new(),
            orphans: BTreeSet::new(),
            unwanted_apps: Vec::new(),
            ended: BTreeSet::new(),
            gone: BTreeSet::new(),
            sieve: Sieve::default(),
        }
    }

    /// Under a filter.
    pub(super) fn under(brake: Brake, filter: Filter) -> Self {
        let mut books = Self::new(brake);
        books.sieve.filter = filter;
        books
    }

    pub(super) fn is_outdated(&self, key: &Key, at: u64) -> bool {
        self.guard.is_outdated(key, at)
    }

    pub(super) fn note_reread(&mut self, key: Key, seen: Seen) {
        self.guard.reread(key, seen);
    }

    /// Accounts name the group no longer.
    pub(super) fn forget_grants(&mut self, group: &GroupId) {
        for (_, row) in self.rows.values_mut() {
            if let Row::AppUser(account) = row
                && account.via_group.as_ref() == Some(group)
            {
                account.via_group = None;
            }
        }
    }

    /// The process dies: only what is on disk is left.
    pub(super) fn crash(&mut self) {
        self.guard = Guard::default();
    }

    /// Stores a batch.
    pub(super) fn commit(&mut self, batch: &Batch) -> Receipt {
        self.begin(batch);
        self.newest = self.newest.max(batch.at.0);
        self.owed.clear();
        self.gone.clear();
        for debt in &batch.pending {
            let merged = debt.clone().over(self.pending.get(&debt.target));
            self.pending.insert(debt.target.clone(), merged);
        }
        for found in &batch.found {
            if let Some(debt) = self.pending.get_mut(&found.target) {
                debt.found(found.by);
            }
        }
        let mut forgotten = BTreeSet::new();
        for group in &batch.forgettable {
            let key = Key::Group(group.clone());
            let source = self.group(group).map(|group| group.source_app.clone());
            let is_brought =
                source.as_ref().is_some_and(|app| app.as_ref().is_some_and(|app| batch.departed_apps.contains(app)));
            let seen = Seen { at: batch.at.0, is_reread: batch.is_reread };
            // With an app go the groups that it has brought; what was read later stays.
            if source.is_none() || (is_brought && self.remove_seen(&key, seen)) {
                let target = Target::Group(group.clone());
                self.owe(target.clone(), When::Now, batch.members_since, batch);
                for debts in [&mut self.pending, &mut self.owed] {
                    debts.get_mut(&target).expect("owed just now").announced = true;
                }
                forgotten.insert(Scope::Group(group.clone()));
            }
        }
        let unread_rows: Vec<Key> = self.unread.keys().filter(|key| self.rows.contains_key(key)).cloned().collect();
        let (shown, taken) = self.take_in(batch);
        let settled = batch.settled.iter().map(|(key, by)| (key.clone(), by.0));
        self.settle(taken.into_iter().map(|key| (key, batch.at.0)).chain(settled));
        for change in &batch.members {
            let (group, user) = (Key::Group(change.group.clone()), Key::User(change.user.clone()));
            if !change.added || !self.skips_member(&group, &user, batch.at.0) {
                self.member_event(change, batch);
            }
        }
        for scope in std::mem::take(&mut self.gone) {
            self.forget(&scope);
        }
        self.take_newborn(batch);
        let mut finished = Vec::new();
        for update in &batch.walks {
            if update.state == WalkState::Released && !batch.brought.is_empty() {
                if self.are_gone_with_apps(batch) {
                    finished.extend(self.release_brought(&update.scope, batch));
                }
                continue;
            }
            let shown = shown.get(&update.scope).cloned().unwrap_or_default();
            let dropped = shown.dropped.clone();
            let done = self.walk(update, shown, batch);
            let is_believed = done.as_ref().is_some_and(|done| !done.verdict.is_hold());
            self.keep_walk(update, dropped, is_believed, batch);
            finished.extend(done);
        }
        self.follow_up(batch);
        let gaps = batch.gaps.iter().filter(|gap| !forgotten.contains(&gap.scope));
        for gap in gaps {
            self.gaps.insert((gap.scope.clone(), gap.kind));
            self.failed.extend(Some(gap.scope.clone()).filter(|_| gap.kind == GapKind::Failed));
        }
        for (scope, kind) in &batch.closed_gaps {
            self.close_gap_by_read(scope, *kind);
        }
        let is_held = finished.iter().any(|finished| finished.verdict.is_hold());
        let paid = batch.answered.iter().filter(|_| !is_held);
        self.settle(paid.filter_map(|paid| Some((paid.target.object_key()?, paid.by.0))));
        for key in unread_rows.iter().filter(|key| !self.rows.contains_key(key)).collect::<Vec<_>>() {
            self.no_longer_unread(key);
        }
        self.note_unread(batch);
        if !is_held {
            for answered in &batch.answered {
                if let Some(left) = self.pending.remove(&answered.target).and_then(|debt| debt.answer(answered.by)) {
                    self.pending.insert(left.target.clone(), left);
                }
            }
        }
        for scope in batch.newborn.iter().flat_map(|(object, _)| Scope::below(object)) {
            let target = Target::List(scope.clone());
            let is_only_born = |book: &Book| book.is_born && matches!(book.state, WalkState::Finished { .. });
            if self.scopes.get(&scope).is_some_and(is_only_born) && !self.pending.contains_key(&target) {
                self.owe(target, When::Now, batch.at, batch);
            }
        }
        for scope in &batch.needed {
            let target = Target::List(scope.clone());
            if self.is_unread(scope) && !self.pending.contains_key(&target) {
                self.owe(target, When::Now, batch.at, batch);
            }
        }
        for (scope, kind) in batch.closed_gaps.iter().filter(|_| batch.is_followed) {
            let target = Target::List(scope.clone());
            let is_settled = batch.answered.iter().any(|answered| answered.target == target);
            if !is_settled && self.waits_for_walk(scope, *kind) && !self.pending.contains_key(&target) {
                self.owe(target, When::Now, batch.at, batch);
            }
        }
        if batch.unread_is_lost {
            self.lose_unread();
        }
        if matches!(batch.crawl, Some(CrawlMark::End { .. })) {
            self.owe_lost(batch);
        }
        for returned in batch.returned.iter().filter(|_| batch.is_followed) {
            for list in self.passed_over(returned) {
                self.owe(Target::List(list), When::Now, batch.members_since, batch);
            }
        }
        let ended = std::mem::take(&mut self.ended);
        for target in std::mem::take(&mut self.orphans) {
            let when = if matches!(target, Target::List(_)) { When::Quiet } else { When::Now };
            if batch.is_followed {
                self.owe(target.clone(), when, batch.members_since, batch);
                if ended.contains(&target) {
                    for debts in [&mut self.pending, &mut self.owed] {
                        debts.get_mut(&target).expect("owed just now").announced = true;
                    }
                }
            }
        }
        self.end(batch);
        Receipt {
            revision: Revision::default(),
            finished,
            owed: std::mem::take(&mut self.owed).into_values().collect(),
        }
    }

    /// Whether an app that is gone had brought every group of which the batch says that no event tells.
    fn are_gone_with_apps(&self, batch: &Batch) -> bool {
        batch.brought.iter().all(|group| {
            let group = self.group(group);
            group.is_none_or(|group| group.source_app.as_ref().is_some_and(|app| batch.departed_apps.contains(app)))
        })
    }

    fn begin(&mut self, batch: &Batch) {
        if let Some(CursorMove::Advance { expect, .. }) = &batch.cursor {
            assert_eq!(self.cursor.as_ref(), Some(expect), "the log goes on from where it stands");
        }
        if let Some(CrawlMark::Begin { id, .. }) = &batch.crawl {
            assert!(id.0 > self.crawl, "a crawl begins once");
            self.crawl = id.0;
            self.is_crawling = true;
            self.crawl_began = Some(batch.okta_now);
            self.sieve.walked.clear();
            for book in self.scopes.values_mut().filter(|book| !book.is_held) {
                book.seen.clear();
                book.has_questions = false;
                book.is_idle |= matches!(book.state, WalkState::Todo | WalkState::Walking(_));
            }
        }
    }

    fn end(&mut self, batch: &Batch) {
        match &batch.cursor {
            Some(CursorMove::Anchor(cursor)) => {
                self.cursor = Some(cursor.clone());
                self.observed_through = Some(batch.okta_now);
                self.opened_at = None;
            }
            Some(CursorMove::Open { next, at }) => {
                self.cursor = Some(next.clone());
                self.opened_at = Some(*at);
            }
            Some(CursorMove::Advance { next, .. }) => self.cursor = Some(next.clone()),
            None => {}
        }
        if let Some(through) = batch.observed_through {
            self.observed_through = Some(through);
            self.opened_at = None;
        }
        self.deltas.extend(batch.deltas.iter().copied());
        if let Some(CrawlMark::End { id }) = &batch.crawl {
            assert!(self.is_crawling && id.0 == self.crawl, "the crawl that runs ends");
            self.is_crawling = false;
            self.crawl_ended = Some(batch.now);
        }
    }

    fn take_in(&mut self, batch: &Batch) -> (BTreeMap<Scope, Shown>, Vec<Key>) {
        let mut taken = batch.removals.clone();
        self.unwanted_apps.clone_from(&batch.unwanted_apps);
        let mut shown: BTreeMap<Scope, Shown> = BTreeMap::new();
        let seen = Seen { at: batch.at.0, is_reread: batch.is_reread };
        let owes = |scope| self.pending.contains_key(&Target::List(scope));
        let owes_objects = owes(Scope::Users) || owes(Scope::Groups);
        let notes_strangers = batch.is_followed && !self.is_crawling && !owes_objects;
        for key in &batch.removals {
            self.forget_filtered(key);
            self.remove_seen(key, seen);
            shown.entry(key.scope()).or_default().records += 1;
        }
        for row in &batch.rows {
            let sifted = self.sift(row, seen);
            if matches!(sifted, Sifted::Put(put) if put != Put::Older) {
                self.close_gaps_of(&row.key());
            }
            if !matches!(sifted, Sifted::Put(Put::Older) | Sifted::Undecided) {
                taken.push(row.key());
            }
            if matches!(sifted, Sifted::Put(Put::New)) && notes_strangers {
                self.note_strangers(&row.key());
            }
            let shown = shown.entry(row.key().scope()).or_default();
            shown.records += 1;
            let put = match sifted {
                Sifted::Put(put) => put,
                Sifted::Dropped(key) => {
                    shown.dropped.insert(key);
                    continue;
                }
                Sifted::Undecided => continue,
            };
            if put != Put::New {
                shown.seen.insert(row.key());
            }
        }
        (shown, taken)
    }

    /// Ends the gaps of an object that is shown, or gone.
    fn close_gaps_of(&mut self, key: &Key) {
        if let Some(object) = Scope::of_object(key) {
            self.gaps.retain(|(scope, _)| *scope != object);
            self.failed.remove(&object);
        }
    }

    fn note_strangers(&mut self, key: &Key) {
        let (named, target) = match key {
            Key::AppUser(_, user) | Key::GroupMember(_, user) => (Key::User(user.clone()), Target::User(user.clone())),
            Key::AppGroup(_, group) => (Key::Group(group.clone()), Target::Group(group.clone())),
            Key::User(_) | Key::Group(_) | Key::App(_) => return,
        };
        if !self.rows.contains_key(&named) {
            self.orphans.insert(target);
        }
    }

    /// Lists that may have passed over rows of an object that is there again.
    fn passed_over(&self, returned: &Returned) -> Vec<Scope> {
        let is_since = |scope: &Scope| {
            let completed_at = self.scopes.get(scope).and_then(|book| book.completed_at);
            completed_at.is_some_and(|at| returned.missed_since.is_none_or(|since| at >= since))
        };
        let list = |key: &Key| match (&returned.key, key) {
            (Key::User(user), Key::GroupMember(_, member)) if user == member => Some(key.scope()).filter(is_since),
            (Key::Group(group), Key::AppGroup(_, assigned)) if group == assigned => Some(key.scope()),
            _ => None,
        };
        self.rows.keys().filter_map(list).collect()
    }

    /// Objects of which it is not known whether they are gone or hidden.
    fn absent(&self) -> BTreeSet<Key> {
        let with_gap = self.gaps.iter().filter(|(_, kind)| *kind == GapKind::UnseenReference);
        let looked_for = self.pending.values().filter(|debt| debt.absent_since.is_some());
        let of_debts = looked_for.filter_map(|debt| match &debt.target {
            Target::User(user) => Some(Key::User(user.clone())),
            Target::Group(group) => Some(Key::Group(group.clone())),
            Target::App(app) => Some(Key::App(app.clone())),
            _ => None,
        });
        with_gap.filter_map(|(scope, _)| scope.object()).chain(of_debts).collect()
    }

    /// What stored rows name and no row is.
    pub(super) fn unseen(&self) -> UnseenFound {
        let (mut users, mut groups, mut apps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (_, row) in self.rows.values() {
            match row {
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

    pub(super) fn owe(&mut self, target: Target, when: When, since: RequestNumber, batch: &Batch) {
        let debt = match self.pending.remove(&target) {
            Some(mut debt) => {
                debt.owe(when, since, batch.now, batch.patience);
                debt
            }
            None => PendingRead::new(target.clone(), when, "the store", since, batch.now, batch.patience),
        };
        self.pending.insert(target.clone(), debt.clone());
        self.owed.insert(target, debt);
    }

    fn group(&self, group: &GroupId) -> Option<&Group> {
        match self.rows.get(&Key::Group(group.clone())) {
            Some((_, Row::Group(group))) => Some(group),
            _ => None,
        }
    }

    fn member_event(&mut self, change: &MemberChange, batch: &Batch) {
        let is_known = self.group(&change.group).is_some();
        if self.group(&change.group).is_some_and(Group::is_everyone) {
            return;
        }
        let since = batch.members_since;
        if !is_known {
            self.owe(Target::Group(change.group.clone()), When::Now, since, batch);
        }
        let scope = Scope::GroupMembers(change.group.clone());
        let Some(book) = self.scopes.get(&scope).filter(|_| !self.gone.contains(&scope)) else { return };
        let pair = (change.group.clone(), change.user.clone());
        if is_known && book.completed_at.is_some() {
            let (is_applied, is_read) =
                match decide(change.added, change.published, book.window, self.marks.get(&pair).copied()) {
                    Decision::Ignore => return,
                    Decision::Apply => (true, false),
                    Decision::ApplyAndRead => (true, true),
                    Decision::Read => (false, true),
                };
            let is_refused = is_applied && !self.apply(change, pair, batch);
            if is_read || is_refused {
                self.owe(Target::List(scope), When::Quiet, since, batch);
            }
        } else {
            self.owe(Target::List(scope), When::Now, since, batch);
        }
        if change.added && !self.rows.contains_key(&Key::User(change.user.clone())) {
            self.owe(Target::User(change.user.clone()), When::Now, since, batch);
        }
    }

    fn apply(&mut self, change: &MemberChange, pair: (GroupId, UserId), batch: &Batch) -> bool {
        let Some(published) = change.published else { return false };
        let row = Row::GroupMember(GroupMember { group: change.group.clone(), user: change.user.clone() });
        let seen = Seen { at: batch.at.0, is_reread: true };
        let is_done =
            if change.added { self.put(&row, seen) != Put::Older } else { self.remove_seen(&row.key(), seen) };
        if is_done {
            self.marks.insert(pair, Applied { published, added: change.added });
        }
        is_done
    }

    fn take_newborn(&mut self, batch: &Batch) {
        for (object, created) in &batch.newborn {
            if !self.rows.contains_key(object) {
                continue;
            }
            for scope in
                Scope::below(object).iter().filter(|scope| !self.scopes.contains_key(scope)).collect::<Vec<_>>()
            {
                let credential = self.credential.clone();
                let book = self.book(scope);
                book.state = WalkState::Finished {
                    from: RequestNumber(0),
                    began: *created,
                    known_empty: true,
                    ended: Vec::new(),
                };
                book.is_born = true;
                book.completed_at = Some(batch.now);
                book.read_by = Some(credential);
                book.window = Some(WalkWindow { began: *created, ended: *created });
            }
        }
    }

    fn book(&mut self, scope: &Scope) -> &mut Book {
        self.scopes.entry(scope.clone()).or_insert_with(|| Book {
            state: WalkState::Todo,
            crawl: 0,
            is_idle: false,
            is_born: false,
            is_held: false,
            has_questions: false,
            completed_at: None,
            window: None,
            walk_from: 0,
            read_by: None,
            seen: BTreeSet::new(),
        })
    }

    /// Groups that are assigned to an app, and groups that are not but whose members are in the books; without `Everyone`.
    pub(super) fn assigned_groups(&self) -> (Vec<GroupId>, Vec<GroupId>) {
        let everyone = self.everyone();
        let assigned: BTreeSet<GroupId> = self
            .rows
            .keys()
            .filter_map(|key| match key {
                Key::AppGroup(_, group) if !everyone.contains(group) => Some(group.clone()),
                _ => None,
            })
            .collect();
        let unwanted = self.scopes.keys().filter_map(|scope| match scope {
            Scope::GroupMembers(group) if !assigned.contains(group) => Some(group.clone()),
            _ => None,
        });
        (assigned.iter().cloned().collect(), unwanted.collect())
    }

    pub(super) fn everyone(&self) -> BTreeSet<GroupId> {
        let groups = self.rows.values().filter_map(|(_, row)| match row {
            Row::Group(group) if group.is_everyone() => Some(group.id.clone()),
            _ => None,
        });
        groups.collect()
    }

    /// Apps in which the user has a stored account.
    pub(super) fn apps_of(&self, user: &UserId) -> BTreeSet<AppId> {
        let apps = self.rows.keys().filter_map(|key| match key {
            Key::AppUser(app, other) if other == user => Some(app.clone()),
            _ => None,
        });
        apps.collect()
    }
}

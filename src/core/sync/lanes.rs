//! Which walk goes next: one queue per rate-limit bucket, so that no bucket waits for another (facts 6.2, 12.1).
//!
//! Invariants:
//! - A scope is walked at most once at a time, whoever wants it.
//! - While the list of users (or groups) is read and a filter chooses among them, no list that names them begins: whom it
//!   names would not be known yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::batch::{WalkState, WalkUpdate};
use super::super::filter::Filter;
use super::super::model::{Kind, Scope};
use super::walk::{Walk, resumed};

/// The buckets that lists draw on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// `/users`.
    Users,
    /// `/groups` and below.
    Groups,
    /// `/apps` and below: the small one.
    Apps,
}

impl Lane {
    /// Every lane; the scarce one first.
    pub const ALL: [Lane; 3] = [Lane::Apps, Lane::Users, Lane::Groups];

    /// The lane in which a scope is read; `None` for the log, which is no list.
    pub const fn of(scope: &Scope) -> Option<Lane> {
        match scope {
            Scope::Users => Some(Lane::Users),
            Scope::Groups | Scope::GroupMembers(_) => Some(Lane::Groups),
            Scope::Apps | Scope::AppUsers(_) | Scope::AppGroups(_) => Some(Lane::Apps),
            Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => None,
        }
    }
}

/// Scopes of one kind: how many are read and how many there are so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScopeCounts {
    /// Read to the end, or given up.
    pub done: u64,
    /// Known so far; grows while the lists of groups and apps are read.
    pub known: u64,
    /// Rows that were shown, by this run of the process.
    pub rows: u64,
}

/// All walks by state.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Walks that a hint asked for: they go before those of a crawl.
    urgent: BTreeMap<Lane, VecDeque<Walk>>,
    waiting: BTreeMap<Lane, VecDeque<Walk>>,
    /// Walks that begin once those whom they name are known.
    held_back: Vec<Walk>,
    chooses_users: bool,
    chooses_groups: bool,
    active: BTreeMap<Lane, usize>,
    in_flight_max: usize,
    /// Scopes in a queue or under way.
    busy: BTreeSet<Scope>,
    /// Scopes of the crawl, and those of them that are not done.
    known: BTreeSet<Scope>,
    outstanding: BTreeSet<Scope>,
    counts: BTreeMap<Kind, ScopeCounts>,
}

impl Lanes {
    pub(super) fn new(in_flight_max: usize, filter: &Filter) -> Self {
        Self {
            held_back: Vec::new(),
            chooses_users: filter.users.is_active(),
            chooses_groups: filter.groups.is_active(),
            urgent: BTreeMap::new(),
            waiting: BTreeMap::new(),
            active: BTreeMap::new(),
            in_flight_max: in_flight_max.max(1),
            busy: BTreeSet::new(),
            known: BTreeSet::new(),
            outstanding: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    /// A new crawl begins: everything under way is forgotten. Returns the scopes that were asked for by a hint.
    pub(super) fn begin_crawl(&mut self) -> BTreeSet<Scope> {
        self.urgent.clear();
        self.waiting.clear();
        self.held_back.clear();
        self.active.clear();
        self.known.clear();
        self.outstanding.clear();
        self.counts.clear();
        std::mem::take(&mut self.busy)
    }

    pub(super) fn is_new(&self, scope: &Scope) -> bool {
        !self.known.contains(scope)
    }

    pub(super) fn is_busy(&self, scope: &Scope) -> bool {
        self.busy.contains(scope)
    }

    /// Whether those whom the list names are not known yet.
    fn must_wait(&self, scope: &Scope) -> bool {
        let (names_users, names_groups) = match scope {
            Scope::AppUsers(_) => (true, true),
            Scope::GroupMembers(_) => (true, false),
            Scope::AppGroups(_) => (false, true),
            Scope::Users | Scope::Groups | Scope::Apps | Scope::Log => return false,
            Scope::User(_) | Scope::Group(_) | Scope::App(_) => return false,
        };
        (names_users && self.chooses_users && self.busy.contains(&Scope::Users))
            || (names_groups && self.chooses_groups && self.busy.contains(&Scope::Groups))
    }

    fn queue(&mut self, lane: Lane, walk: Walk) {
        if self.must_wait(&walk.scope) {
            self.held_back.push(walk);
        } else {
            let queues = if walk.is_urgent { &mut self.urgent } else { &mut self.waiting };
            queues.entry(lane).or_default().push_back(walk);
        }
    }

    /// Users or groups are known now, or cannot be read.
    fn let_go(&mut self) {
        for walk in std::mem::take(&mut self.held_back) {
            if let Some(lane) = Lane::of(&walk.scope) {
                self.queue(lane, walk);
            }
        }
    }

    /// Whether the scope is part of the crawl and not done.
    pub(super) fn is_outstanding(&self, scope: &Scope) -> bool {
        self.outstanding.contains(scope)
    }

    /// A list that the one crawl has to read again before it ends.
    pub(super) fn request_in_crawl(&mut self, scope: Scope) {
        self.note(&scope);
        self.outstanding.insert(scope.clone());
        self.request(scope);
    }

    fn note(&mut self, scope: &Scope) {
        if self.known.insert(scope.clone())
            && let Some(kind) = scope.kind()
        {
            self.counts.entry(kind).or_default().known += 1;
        }
    }

    /// Puts a walk of the crawl at the end of its queue; one that is under way already becomes part of the crawl.
    pub(super) fn push(&mut self, walk: Walk) {
        self.note(&walk.scope);
        self.outstanding.insert(walk.scope.clone());
        if let Some(lane) = Lane::of(&walk.scope)
            && self.busy.insert(walk.scope.clone())
        {
            self.queue(lane, walk);
        }
    }

    /// Puts a walk of the crawl before all others, unless the scope is being walked or about to be.
    pub(super) fn push_first(&mut self, scope: Scope) {
        self.note(&scope);
        self.outstanding.insert(scope.clone());
        if let Some(lane) = Lane::of(&scope)
            && self.busy.insert(scope.clone())
        {
            let walk = Walk::urgent(scope);
            if self.must_wait(&walk.scope) {
                self.held_back.push(walk);
            } else {
                self.urgent.entry(lane).or_default().push_front(walk);
            }
        }
    }

    /// Puts a walk that a hint asks for into the queue, unless the scope is being walked or about to be.
    pub(super) fn request(&mut self, scope: Scope) {
        if let Some(lane) = Lane::of(&scope)
            && self.busy.insert(scope.clone())
        {
            self.queue(lane, Walk::urgent(scope));
        }
    }

    /// Takes over what the store knows of an unfinished crawl.
    pub(super) fn resume(&mut self, update: WalkUpdate) {
        match update.state {
            WalkState::Todo => self.push(Walk::new(update.scope)),
            WalkState::Walking(position) => self.push(resumed(update.scope, position)),
            WalkState::Finished { .. } | WalkState::GivenUp => {
                self.note(&update.scope);
                self.count_done(&update.scope);
            }
            WalkState::Unwanted | WalkState::Released => {}
        }
    }

    /// The next walk that its lane has room for.
    pub(super) fn take(&mut self) -> Option<Walk> {
        for lane in Lane::ALL {
            let active = self.active.entry(lane).or_default();
            if *active >= self.in_flight_max {
                continue;
            }
            let urgent = self.urgent.get_mut(&lane).and_then(VecDeque::pop_front);
            if let Some(walk) = urgent.or_else(|| self.waiting.get_mut(&lane).and_then(VecDeque::pop_front)) {
                *active += 1;
                return Some(walk);
            }
        }
        None
    }

    /// A walk that was taken has another page: it goes first, so that walks end and their memory is freed.
    pub(super) fn go_on(&mut self, walk: Walk) {
        if let Some(lane) = Lane::of(&walk.scope) {
            self.release(lane);
            let queues = if walk.is_urgent { &mut self.urgent } else { &mut self.waiting };
            queues.entry(lane).or_default().push_front(walk);
        }
    }

    /// A walk that was taken is over.
    pub(super) fn finish(&mut self, scope: &Scope) {
        if let Some(lane) = Lane::of(scope) {
            self.release(lane);
        }
        self.busy.remove(scope);
        if matches!(scope, Scope::Users | Scope::Groups) {
            self.let_go();
        }
        if self.outstanding.remove(scope) {
            self.count_done(scope);
        }
    }

    /// A scope of the crawl that needs no walk.
    pub(super) fn finish_unwalked(&mut self, scope: &Scope) {
        if self.is_new(scope) {
            self.note(scope);
            self.count_done(scope);
        }
    }

    fn release(&mut self, lane: Lane) {
        if let Some(active) = self.active.get_mut(&lane) {
            *active = active.saturating_sub(1);
        }
    }

    fn count_done(&mut self, scope: &Scope) {
        if let Some(kind) = scope.kind() {
            self.counts.entry(kind).or_default().done += 1;
        }
    }

    /// Whether every scope of the crawl is read or given up.
    pub(super) fn is_crawl_done(&self) -> bool {
        self.outstanding.is_empty()
    }

    pub(super) fn count_rows(&mut self, scope: &Scope, rows: usize) {
        if let Some(kind) = scope.kind() {
            self.counts.entry(kind).or_default().rows += rows as u64;
        }
    }

    pub(super) fn counts(&self, kind: Kind) -> ScopeCounts {
        self.counts.get(&kind).copied().unwrap_or_default()
    }
}

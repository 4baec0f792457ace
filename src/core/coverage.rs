//! What we know that we do not know: gaps, and which of them could change an answer.
//!
//! Entry points: [`gap_of_failure`] turns a failed read into a gap, [`Coverage::completeness`] says which gaps stand against
//! an answer, [`Coverage::withholds`] whether a row is shown at all. What a gap means in words: [`hides`] and [`remedy`].
//!
//! Invariants:
//! - A gap's id depends on its kind and scope only: the same gap keeps its id over restarts and re-occurrences.
//! - An answer is [`Completeness::Complete`] only if every scope that could hold it was read to its end at least once, not
//!   longer ago than the policy allows, and no gap on these scopes is open.
//! - An object that is named and not shown may be anybody, and may have got any account meanwhile: its gap stands on the whole
//!   collection, unless the answer is about another object that was chosen by its id.
//! - An answer that rests on rows as of an earlier moment keeps the gaps that closed since: [`Asked::generation`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ids::Timestamp;
use super::model::{Kind, Scope};

mod ages;
mod journal;
mod stale;
mod unread;
mod words;

pub use self::ages::{CoveragePolicy, OnGap};
pub use self::journal::{ChangesList, CoverageChanges, ScopeCoverage};
pub use self::stale::{Reach, UnreadRows};
pub use self::unread::{Nameless, UNREAD_ROWS_MAX, Unread, UnreadRow};
pub use self::words::{hides, missing_oauth_scope, remedy, remedy_of};

/// Why something may be missing (product terms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapKind {
    /// 403: the credential may not read it.
    Forbidden,
    /// 403 `insufficient_scope`: an OAuth scope is missing.
    ScopeMissing,
    /// 401: the credential is invalid, expired or revoked.
    Unauthorized,
    /// A list lacks rows that are still there, or that nobody can tell are gone.
    Held,
    /// The app is open to everybody without assignments (Federation Broker Mode): users are not listed.
    ImplicitAssignment,
    /// Retries exhausted: 5xx, time-out, malformed body.
    Failed,
    /// The System Log could not be read: changes since the last full crawl are not known. On a collection: that crawl did not read
    /// it.
    LogLost,
    /// The scope was never completely read.
    NotRead,
    /// 200 with an empty list where there must be rows (facts 7.2: service app without an admin role).
    EmptySuspect,
    /// Something names an object that is neither shown nor known to be deleted (facts 7.2: 404 may mean "not visible").
    UnseenReference,
    /// Okta counts more rows than it shows.
    CountMismatch,
    /// The last complete read, or the position in the log, is older than the policy allows.
    Stale,
}

impl GapKind {
    /// Every kind.
    pub const ALL: [GapKind; 12] = [
        GapKind::Forbidden,
        GapKind::ScopeMissing,
        GapKind::Unauthorized,
        GapKind::Held,
        GapKind::ImplicitAssignment,
        GapKind::Failed,
        GapKind::LogLost,
        GapKind::NotRead,
        GapKind::EmptySuspect,
        GapKind::UnseenReference,
        GapKind::CountMismatch,
        GapKind::Stale,
    ];

    /// Stable name, as stored and shown.
    pub const fn name(self) -> &'static str {
        match self {
            GapKind::Forbidden => "FORBIDDEN",
            GapKind::ScopeMissing => "SCOPE_MISSING",
            GapKind::Unauthorized => "UNAUTHORIZED",
            GapKind::Held => "HELD",
            GapKind::ImplicitAssignment => "IMPLICIT_ASSIGNMENT",
            GapKind::Failed => "FAILED",
            GapKind::LogLost => "LOG_LOST",
            GapKind::NotRead => "NOT_READ",
            GapKind::EmptySuspect => "EMPTY_SUSPECT",
            GapKind::UnseenReference => "UNSEEN_REFERENCE",
            GapKind::CountMismatch => "COUNT_MISMATCH",
            GapKind::Stale => "STALE",
        }
    }

    /// Reads [`GapKind::name`] back.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the scope can no longer be read, so that its rows are those of an earlier read and may be outdated. Of
    /// [`GapKind::Failed`] it may be some rows only: [`Reach`].
    pub const fn makes_stale(self) -> bool {
        matches!(
            self,
            GapKind::Forbidden
                | GapKind::ScopeMissing
                | GapKind::Unauthorized
                | GapKind::Failed
                | GapKind::EmptySuspect
                | GapKind::UnseenReference
                | GapKind::Stale
        )
    }
}

/// Stable identity of a gap: `FORBIDDEN:app_users(0oa1)`, `UNSEEN_REFERENCE:user(00u1)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GapId(String);

impl GapId {
    /// The id of the gap of `kind` on `scope`.
    pub fn of(kind: GapKind, scope: &Scope) -> Self {
        Self(format!("{}:{scope}", kind.name()))
    }

    /// What an id says; `None` for a text that is none.
    pub fn parse(id: &str) -> Option<(GapKind, Scope)> {
        let (kind, scope) = id.split_once(':')?;
        Some((GapKind::parse(kind)?, Scope::parse(scope)?))
    }

    /// Its text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for GapId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A gap as it is found; the store adds first and last seen, the count and whether it is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The collection or object that it stands on.
    pub scope: Scope,
    /// Why.
    pub kind: GapKind,
    /// What was seen: endpoint, code, numbers. No personal data.
    pub evidence: String,
}

impl Gap {
    /// Its stable id.
    pub fn id(&self) -> GapId {
        GapId::of(self.kind, &self.scope)
    }
}

/// A gap with its history, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRecord {
    /// What and where.
    pub gap: Gap,
    /// When it was first found.
    pub first_seen: Timestamp,
    /// When it was last confirmed.
    pub last_seen: Timestamp,
    /// How often it was confirmed.
    pub count: u64,
    /// Whether it still stands.
    pub open: bool,
    /// When it was last opened, after a time in which it was closed.
    pub opened_at: Option<Timestamp>,
    /// When it was last closed; `None` while it is open, and where an older version did not note it.
    pub closed_at: Option<Timestamp>,
}

/// Stands in evidence before the name of the OAuth scope that Okta asks for.
const MISSING_SCOPE: &str = "missing OAuth scope ";

/// How a read failed for good, in the words of the coverage model. `okta` decides it, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// 403, or what Okta says instead (405). `missing_scope` names the OAuth scope where Okta named it.
    Forbidden {
        /// OAuth scope from `WWW-Authenticate`.
        missing_scope: Option<String>,
        /// For people: endpoint, status, code.
        detail: String,
    },
    /// 401: nothing can be read any more.
    Unauthorized {
        /// For people.
        detail: String,
    },
    /// Retries are exhausted, or the answer made no sense.
    Failed {
        /// For people.
        detail: String,
    },
    /// Object-level 404 (E0000007) of a list: what it belongs to is gone, or not visible to this credential (facts 7.2).
    NotFound {
        /// For people.
        detail: String,
    },
    /// The org cannot be reached at all (name, connection, TLS).
    Unreachable {
        /// For people.
        detail: String,
    },
    /// The list cursor is no longer good: start the walk again (facts 15.2).
    CursorGone,
    /// The page was too big for Okta: start the walk again with this page size (facts 13.23).
    RestartWalk {
        /// The page size to ask for.
        limit: u32,
    },
    /// The `search` form is not available now (E0000100): use the plain lists.
    SearchUnavailable,
}

/// The gap that a failed read of `scope` leaves; `None` for failures that are a matter of trying again.
pub fn gap_of_failure(scope: &Scope, failure: &ReadFailure) -> Option<Gap> {
    let (kind, evidence) = match failure {
        ReadFailure::Forbidden { missing_scope: Some(name), detail } => {
            (GapKind::ScopeMissing, format!("{detail}; {MISSING_SCOPE}{name}"))
        }
        ReadFailure::Forbidden { missing_scope: None, detail } => (GapKind::Forbidden, detail.clone()),
        ReadFailure::Unauthorized { detail } => (GapKind::Unauthorized, detail.clone()),
        ReadFailure::Failed { detail } | ReadFailure::NotFound { detail } | ReadFailure::Unreachable { detail } => {
            (GapKind::Failed, detail.clone())
        }
        ReadFailure::CursorGone | ReadFailure::RestartWalk { .. } | ReadFailure::SearchUnavailable => return None,
    };
    Some(Gap { scope: scope.clone(), kind, evidence })
}

/// Whether an answer could be changed by something that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Everything that could hold the answer was read.
    Complete,
    /// These gaps could change the answer. Never empty, sorted.
    Partial(Vec<GapId>),
}

impl Completeness {
    fn of(gaps: BTreeSet<GapId>) -> Self {
        if gaps.is_empty() { Completeness::Complete } else { Completeness::Partial(gaps.into_iter().collect()) }
    }

    /// The gaps, empty when complete.
    pub fn gap_ids(&self) -> &[GapId] {
        match self {
            Completeness::Complete => &[],
            Completeness::Partial(ids) => ids,
        }
    }

    /// Whether nothing stands against the answer.
    pub fn is_complete(&self) -> bool {
        matches!(self, Completeness::Complete)
    }
}

/// Closings that are remembered for answers that are being made while they happen. An answer takes milliseconds and a
/// crawl finishes some hundred scopes a second, so a tenth of this would do; beyond it everything counts as closed just
/// now, which makes an answer partial and never wrongly complete.
const RECENT_CLOSINGS_MAX: usize = 1_024;

/// The moment of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// By our clock; together with `policy` it decides what is too old.
    pub now: Timestamp,
    /// Up to when the log has been followed, by our clock, in the snapshot that the answer is read from.
    pub observed_through: Option<Timestamp>,
    /// From [`Coverage::generation`], before the rows were read: a gap that closed since still stands against the answer,
    /// because the rows may be those of before. `None`: rows and coverage are of one moment.
    pub generation: Option<u64>,
    /// What is too old.
    pub policy: CoveragePolicy,
    /// Whether objects that are not shown could change the answer: not if it is about one that was chosen by its id.
    pub with_objects: bool,
}

/// What is known of all scopes of an org; kept current by the store's writer.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Scopes that were read to their end at least once, and when last.
    complete: BTreeMap<Scope, Timestamp>,
    /// Open gaps by scope.
    open: BTreeMap<Scope, BTreeSet<GapKind>>,
    /// Those of `open` that are single objects.
    objects: BTreeSet<Scope>,
    /// What the open [`GapKind::Failed`] of lists is about, where that is not just all of their rows.
    unread: BTreeMap<Scope, Reach>,
    /// Number of changes so far, but for complete scopes that were read again.
    generation: u64,
    /// Number of these.
    renewals: u64,
    /// Gaps that were closed lately ([`GapKind::NotRead`]: scopes that were completed) or are about fewer rows, each with the
    /// generation that this made and with the rows that it was about before; oldest first.
    closings: VecDeque<(u64, Scope, GapKind, Reach)>,
    /// Complete scopes whose objects went lately, with the generation that this made; oldest first.
    departed: VecDeque<(u64, Scope)>,
    /// Generation of the youngest closing that is not remembered any more.
    closings_forgotten_through: u64,
    /// What changed lately, for those who keep a copy.
    journal: journal::Journal,
}

/// The collection that an object stands in.
const fn collection_of(kind: Kind) -> Option<Scope> {
    match kind {
        Kind::User => Some(Scope::Users),
        Kind::Group => Some(Scope::Groups),
        Kind::App => Some(Scope::Apps),
        Kind::GroupMember | Kind::AppUser | Kind::AppGroup => None,
    }
}

impl Coverage {
    /// Notes that `scope` was read to its end at `at`.
    pub fn completed(&mut self, scope: Scope, at: Timestamp) {
        self.journal.note(scope.clone());
        match self.complete.insert(scope.clone(), at) {
            None => self.remember_closing(scope, GapKind::NotRead, Reach::whole()),
            Some(before) => self.renewals += u64::from(before != at),
        }
    }

    /// Notes that `scope` counts as read since its object was created: whoever sees the object sees a scope that is complete.
    pub fn born(&mut self, scope: Scope, at: Timestamp) {
        self.journal.note(scope.clone());
        self.generation += u64::from(self.complete.insert(scope, at).is_none());
    }

    /// Notes that the object of a scope is gone. Whoever still sees it, in rows of before, sees a scope that was complete.
    pub fn gone(&mut self, scope: &Scope) {
        if self.complete.remove(scope).is_some() {
            self.journal.note(scope.clone());
            self.generation += 1;
            if self.departed.len() >= RECENT_CLOSINGS_MAX {
                self.departed.pop_front();
            }
            self.departed.push_back((self.generation, scope.clone()));
        }
    }

    fn has_departed_since(&self, scope: &Scope, generation: Option<u64>) -> bool {
        let is_it = |(at, gone): &(u64, Scope)| generation.is_some_and(|asked| *at > asked) && gone == scope;
        self.departed.iter().any(is_it)
    }

    /// Forgets a scope that nobody reads any more.
    pub fn forget(&mut self, scope: &Scope) {
        self.journal.note(scope.clone());
        let was_complete = self.complete.remove(scope).is_some();
        self.objects.remove(scope);
        for kind in self.open.remove(scope).unwrap_or_default() {
            self.note_closed(scope, kind);
        }
        self.generation += u64::from(was_complete);
    }

    /// Notes an open gap, of all rows of its scope.
    pub fn opened(&mut self, scope: Scope, kind: GapKind) {
        if scope.object().is_some() {
            self.objects.insert(scope.clone());
        }
        let is_new = self.open.entry(scope.clone()).or_default().insert(kind);
        let mut is_wider = false;
        if kind == GapKind::Failed
            && let Some(reach) = self.unread.get_mut(&scope)
        {
            is_wider = !std::mem::replace(&mut reach.is_whole, true);
        }
        if is_new || is_wider {
            self.generation += 1;
            self.journal.note(scope);
        }
    }

    /// Notes that a gap is closed.
    pub fn closed(&mut self, scope: &Scope, kind: GapKind) {
        let Some(kinds) = self.open.get_mut(scope) else { return };
        let was_open = kinds.remove(&kind);
        if kinds.is_empty() {
            self.open.remove(scope);
            self.objects.remove(scope);
        }
        if was_open {
            self.note_closed(scope, kind);
        }
    }

    fn note_closed(&mut self, scope: &Scope, kind: GapKind) {
        let unread = if kind == GapKind::Failed { self.unread.remove(scope) } else { None };
        let reach = unread.unwrap_or_default();
        self.journal.note_closed(scope.clone(), kind, reach.clone());
        self.remember_closing(scope.clone(), kind, reach);
    }

    fn remember_closing(&mut self, scope: Scope, kind: GapKind, reach: Reach) {
        self.generation += 1;
        if self.closings.len() >= RECENT_CLOSINGS_MAX
            && let Some((generation, ..)) = self.closings.pop_front()
        {
            self.closings_forgotten_through = generation;
        }
        self.closings.push_back((self.generation, scope, kind, reach));
    }

    /// How often complete scopes were read again since the process began: with the same generation and number, the content is
    /// the same, too.
    pub fn renewals(&self) -> u64 {
        self.renewals
    }

    /// How often anything has changed since the process began: the same number, the same gaps and complete scopes. When these
    /// were read may have changed ([`Coverage::renewals`]).
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether `scope` was ever read to its end.
    pub fn is_complete(&self, scope: &Scope) -> bool {
        self.complete.contains_key(scope)
    }

    /// When `scope` was last read to its end.
    pub fn completed_at(&self, scope: &Scope) -> Option<Timestamp> {
        self.complete.get(scope).copied()
    }

    /// Number of open gaps.
    pub fn open_gaps(&self) -> usize {
        self.open.values().map(BTreeSet::len).sum()
    }

    /// All gaps of all scopes that matter to a list of everything, e.g. the status.
    pub fn all_open(&self) -> impl Iterator<Item = (&Scope, GapKind)> {
        self.open.iter().flat_map(|(scope, kinds)| kinds.iter().map(move |kind| (scope, *kind)))
    }

    /// Whether a gap is open.
    pub fn has_open(&self, scope: &Scope, kind: GapKind) -> bool {
        self.open.get(scope).is_some_and(|kinds| kinds.contains(&kind))
    }

    /// Which gaps could change an answer that any of `scopes` could hold, at the moment of the question.
    pub fn completeness<'a>(&self, asked: Asked, scopes: impl IntoIterator<Item = &'a Scope> + Clone) -> Completeness {
        let mut gaps = BTreeSet::new();
        // What the log did not tell may have changed anything.
        self.gaps_now(&Scope::Log, false, &mut gaps);
        if self.is_log_stale(asked) {
            gaps.insert(GapId::of(GapKind::Stale, &Scope::Log));
        }
        for scope in scopes.clone() {
            self.gaps_now(scope, asked.with_objects, &mut gaps);
            match self.complete.get(scope) {
                _ if scope.object().is_some() => {}
                None if self.has_departed_since(scope, asked.generation) => {}
                None => {
                    gaps.insert(GapId::of(GapKind::NotRead, scope));
                }
                // Whether all users are shown is known by the count of the group `Everyone`.
                Some(_) if *scope == Scope::Users && !self.is_told(&Scope::Groups) => {
                    gaps.insert(GapId::of(GapKind::NotRead, &Scope::Groups));
                }
                Some(at) => {
                    let limit = asked.policy.stale_after_millis;
                    if limit.is_some_and(|limit| asked.now.millis_since(*at) > limit) {
                        gaps.insert(GapId::of(GapKind::Stale, scope));
                    }
                }
            }
        }
        if asked.generation.is_some_and(|generation| generation != self.generation) {
            self.gaps_closed_since(asked, scopes, &mut gaps);
        }
        Completeness::of(gaps)
    }

    /// Open gaps of a scope, and those of objects that may belong to it.
    fn gaps_now(&self, scope: &Scope, with_objects: bool, gaps: &mut BTreeSet<GapId>) {
        if let Some(kinds) = self.open.get(scope) {
            gaps.extend(kinds.iter().map(|kind| GapId::of(*kind, scope)));
        }
        if !with_objects || self.objects.is_empty() {
            return;
        }
        for object in self.objects.iter().filter(|object| may_hold(scope, object)) {
            let kinds = self.open.get(object).into_iter().flatten();
            gaps.extend(kinds.map(|kind| GapId::of(*kind, object)));
        }
    }

    /// Whether a list was read, or has a gap that tells why not.
    fn is_told(&self, scope: &Scope) -> bool {
        self.complete.contains_key(scope) || self.open.contains_key(scope)
    }

    /// The gaps of single objects of one kind: those that are open, and those that closed after a generation.
    pub fn object_gaps(&self, kind: Kind, generation: u64) -> BTreeSet<GapId> {
        let is_of_kind = |scope: &Scope| scope.object().is_some_and(|key| key.kind() == kind);
        let open = self.objects.iter().filter(|object| is_of_kind(object)).flat_map(|object| {
            let kinds = self.open.get(object).into_iter().flatten();
            kinds.map(move |kind| GapId::of(*kind, object))
        });
        let closed = self.closings.iter().filter(|(at, scope, ..)| *at > generation && is_of_kind(scope));
        open.chain(closed.map(|(_, scope, kind, _)| GapId::of(*kind, scope))).collect()
    }

    fn is_log_stale(&self, asked: Asked) -> bool {
        let Some(limit) = asked.policy.log_stale_after_millis else { return false };
        asked.observed_through.is_some_and(|through| asked.now.millis_since(through) > limit)
    }

    fn gaps_closed_since<'a>(
        &self,
        asked: Asked,
        scopes: impl IntoIterator<Item = &'a Scope>,
        gaps: &mut BTreeSet<GapId>,
    ) {
        let generation = asked.generation.unwrap_or_default();
        let is_forgotten = self.closings_forgotten_through > generation;
        let mut closed_since: BTreeMap<&Scope, Vec<GapKind>> = BTreeMap::new();
        for (_, scope, kind, _) in self.closings.iter().filter(|(at, ..)| *at > generation) {
            closed_since.entry(scope).or_default().push(*kind);
        }
        let of_log = closed_since.get(&Scope::Log).map(Vec::as_slice).unwrap_or_default();
        gaps.extend(of_log.iter().map(|kind| GapId::of(*kind, &Scope::Log)));
        for scope in scopes {
            let kinds = closed_since.get(scope).map(Vec::as_slice).unwrap_or_default();
            gaps.extend(kinds.iter().map(|kind| GapId::of(*kind, scope)));
            if asked.with_objects {
                let those = closed_since.iter().filter(|(object, _)| may_hold(scope, object));
                gaps.extend(those.flat_map(|(object, kinds)| kinds.iter().map(|kind| GapId::of(*kind, object))));
            }
            if is_forgotten && scope.object().is_none() {
                gaps.insert(GapId::of(GapKind::NotRead, scope));
            }
        }
    }
}

/// Whether an object is one of those of a collection.
fn may_hold(scope: &Scope, object: &Scope) -> bool {
    object.object().is_some_and(|key| collection_of(key.kind()).as_ref() == Some(scope))
}

#[cfg(test)]
mod tests;

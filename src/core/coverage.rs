//! What we know that we do not know: gaps, and which of them could change an answer.
//!
//! Entry points: [`gap_of_failure`] turns a failed read into a gap, [`completeness`] says which gaps stand against an answer.
//!
//! Invariants:
//! - A gap's id depends on its kind and scope only: the same gap keeps its id over restarts and re-occurrences.
//! - An answer is [`Completeness::Complete`] only if every scope that could hold it was read to its end at least once and
//!   no gap on these scopes is open.
//! - An answer that rests on rows as of an earlier moment keeps the gaps that closed since: [`completeness_since`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ids::Timestamp;
use super::model::Scope;

/// Why something may be missing (product terms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapKind {
    /// 403: the credential may not read it.
    Forbidden,
    /// 403 `insufficient_scope`: an OAuth scope is missing.
    ScopeMissing,
    /// 401: the credential is invalid, expired or revoked.
    Unauthorized,
    /// The deletion brake: a walk would have removed suspiciously much.
    Held,
    /// The app is open to everybody without assignments (Federation Broker Mode): users are not listed.
    ImplicitAssignment,
    /// Retries exhausted: 5xx, time-out, malformed body.
    Failed,
    /// The System Log could not be read: changes since the last full crawl are not known.
    LogLost,
    /// The scope was never completely read.
    NotRead,
    /// 200 with an empty list where there must be rows (facts 7.2: service app without an admin role).
    EmptySuspect,
}

impl GapKind {
    /// Every kind that this version can find.
    pub const ALL: [GapKind; 9] = [
        GapKind::Forbidden,
        GapKind::ScopeMissing,
        GapKind::Unauthorized,
        GapKind::Held,
        GapKind::ImplicitAssignment,
        GapKind::Failed,
        GapKind::LogLost,
        GapKind::NotRead,
        GapKind::EmptySuspect,
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
        }
    }

    /// Reads [`GapKind::name`] back.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Stable identity of a gap: `FORBIDDEN:app_users(0oa1)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GapId(String);

impl GapId {
    /// The id of the gap of `kind` on `scope`.
    pub fn of(kind: GapKind, scope: &Scope) -> Self {
        Self(format!("{}:{scope}", kind.name()))
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
    /// The collection that it stands on.
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
}

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
            (GapKind::ScopeMissing, format!("{detail}; missing OAuth scope {name}"))
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

/// What the gap may hide, in words.
pub fn hides(scope: &Scope, kind: GapKind) -> String {
    let rows = match scope {
        Scope::Users => "users, and whether a look-up that finds nobody is right".to_owned(),
        Scope::Groups => "groups and all their members".to_owned(),
        Scope::Apps => "apps and everything assigned to them".to_owned(),
        Scope::GroupMembers(group) => format!("members of group {group}"),
        Scope::AppUsers(app) => format!("accounts of app {app}"),
        Scope::AppGroups(app) => format!("groups assigned to app {app}"),
        Scope::Log => return "changes since the last complete crawl".to_owned(),
    };
    match kind {
        GapKind::Held => format!("that rows were removed: {rows} are answered as last seen"),
        GapKind::ImplicitAssignment => format!("{rows}: the app lets everybody in without an assignment"),
        _ => rows,
    }
}

/// What an operator can do about it, in words. Permission names are those of facts 1.5.
pub fn remedy(scope: &Scope, kind: GapKind) -> String {
    let (oauth_scope, permission) = match scope {
        Scope::Users => ("okta.users.read", "okta.users.read"),
        Scope::Groups | Scope::GroupMembers(_) => ("okta.groups.read", "okta.groups.read"),
        Scope::Apps | Scope::AppUsers(_) | Scope::AppGroups(_) => ("okta.apps.read", "okta.apps.read"),
        Scope::Log => ("okta.logs.read", ""),
    };
    match kind {
        GapKind::Forbidden if permission.is_empty() => {
            "give the credential's owner a standard role that reads the System Log: Read-only, Report, App, Org or \
             Super Administrator (no custom-role permission covers it)"
                .to_owned()
        }
        GapKind::Forbidden => format!(
            "give the credential's owner the Read-only Administrator role, or a custom role with {permission} on this resource"
        ),
        GapKind::ScopeMissing => format!("grant the OAuth scope {oauth_scope} to the service app"),
        GapKind::Unauthorized => {
            "create a new API token (its owner must be active and keep the admin role) and configure it".to_owned()
        }
        GapKind::Held => {
            "check in Okta whether the rows are really gone or only hidden from this credential; if they come back, the \
             hold ends when the list is next read; if they are gone, `okta-idmap release` removes them"
                .to_owned()
        }
        GapKind::ImplicitAssignment => {
            "turn Federation Broker Mode off for this app, or accept that its users cannot be read".to_owned()
        }
        GapKind::Failed => "see the evidence; it is read again by itself, by `serve` after some seconds to minutes".to_owned(),
        GapKind::LogLost => format!(
            "if the log is forbidden, grant {oauth_scope} and a role that reads it; if only the position was lost, the \
             full crawl that follows ends this by itself"
        ),
        GapKind::NotRead => "wait for the crawl to finish, or run `okta-idmap sync`".to_owned(),
        GapKind::EmptySuspect => {
            "check the admin role of the credential's owner: without one, Okta answers with empty lists; if the rows come \
             back, this ends when the list is next read; if they are really gone, `okta-idmap release` removes them"
                .to_owned()
        }
    }
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

/// What is known of all scopes of an org; kept current by the store's writer.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Scopes that were read to their end at least once.
    complete: BTreeSet<Scope>,
    /// Open gaps by scope.
    open: BTreeMap<Scope, BTreeSet<GapKind>>,
    /// Number of changes so far.
    generation: u64,
    /// Gaps that were closed lately ([`GapKind::NotRead`]: scopes that were completed), each with the generation that
    /// this made; oldest first.
    closings: VecDeque<(u64, Scope, GapKind)>,
    /// Generation of the youngest closing that is not remembered any more.
    closings_forgotten_through: u64,
}

impl Coverage {
    /// Notes that `scope` was read to its end.
    pub fn completed(&mut self, scope: Scope) {
        if self.complete.insert(scope.clone()) {
            self.remember_closing(scope, GapKind::NotRead);
        }
    }

    /// Forgets a scope whose object is gone.
    pub fn forget(&mut self, scope: &Scope) {
        let was_complete = self.complete.remove(scope);
        for kind in self.open.remove(scope).unwrap_or_default() {
            self.remember_closing(scope.clone(), kind);
        }
        self.generation += u64::from(was_complete);
    }

    /// Notes an open gap.
    pub fn opened(&mut self, scope: Scope, kind: GapKind) {
        let is_new = self.open.entry(scope).or_default().insert(kind);
        self.generation += u64::from(is_new);
    }

    /// Notes that a gap is closed.
    pub fn closed(&mut self, scope: &Scope, kind: GapKind) {
        let Some(kinds) = self.open.get_mut(scope) else { return };
        let was_open = kinds.remove(&kind);
        if kinds.is_empty() {
            self.open.remove(scope);
        }
        if was_open {
            self.remember_closing(scope.clone(), kind);
        }
    }

    fn remember_closing(&mut self, scope: Scope, kind: GapKind) {
        self.generation += 1;
        if self.closings.len() >= RECENT_CLOSINGS_MAX
            && let Some((generation, _, _)) = self.closings.pop_front()
        {
            self.closings_forgotten_through = generation;
        }
        self.closings.push_back((self.generation, scope, kind));
    }

    /// How often anything has changed since the process began: the same number, the same content.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether `scope` can no longer be read, so that its rows are those of an earlier read and may be outdated.
    pub fn is_stale(&self, scope: &Scope) -> bool {
        let Some(kinds) = self.open.get(scope) else { return false };
        kinds.iter().any(|kind| {
            matches!(
                kind,
                GapKind::Forbidden
                    | GapKind::ScopeMissing
                    | GapKind::Unauthorized
                    | GapKind::Failed
                    | GapKind::EmptySuspect
            )
        })
    }

    /// Whether `scope` was ever read to its end.
    pub fn is_complete(&self, scope: &Scope) -> bool {
        self.complete.contains(scope)
    }

    /// Number of open gaps.
    pub fn open_gaps(&self) -> usize {
        self.open.values().map(BTreeSet::len).sum()
    }

    /// All gaps of all scopes that matter to a list of everything, e.g. the status.
    pub fn all_open(&self) -> impl Iterator<Item = (&Scope, GapKind)> {
        self.open.iter().flat_map(|(scope, kinds)| kinds.iter().map(move |kind| (scope, *kind)))
    }
}

/// Which gaps could change an answer that any of `scopes` could hold.
pub fn completeness<'a>(coverage: &Coverage, scopes: impl IntoIterator<Item = &'a Scope>) -> Completeness {
    let mut gaps = BTreeSet::new();
    // What the log did not tell may have changed anything.
    if let Some(kinds) = coverage.open.get(&Scope::Log) {
        gaps.extend(kinds.iter().map(|kind| GapId::of(*kind, &Scope::Log)));
    }
    for scope in scopes {
        if let Some(kinds) = coverage.open.get(scope) {
            gaps.extend(kinds.iter().map(|kind| GapId::of(*kind, scope)));
        }
        if !coverage.complete.contains(scope) {
            gaps.insert(GapId::of(GapKind::NotRead, scope));
        }
    }
    if gaps.is_empty() { Completeness::Complete } else { Completeness::Partial(gaps.into_iter().collect()) }
}

/// As [`completeness`], for an answer whose rows are read after `generation` was taken from [`Coverage::generation`]: a gap
/// that closed since still stands against it, because the rows may be those of before.
pub fn completeness_since<'a>(
    coverage: &Coverage,
    generation: u64,
    scopes: impl IntoIterator<Item = &'a Scope> + Clone,
) -> Completeness {
    if coverage.generation == generation {
        return completeness(coverage, scopes);
    }
    let mut gaps: BTreeSet<GapId> = completeness(coverage, scopes.clone()).gap_ids().iter().cloned().collect();
    let is_forgotten = coverage.closings_forgotten_through > generation;
    let mut closed_since: BTreeMap<&Scope, Vec<GapKind>> = BTreeMap::new();
    for (_, scope, kind) in coverage.closings.iter().filter(|(closed, ..)| *closed > generation) {
        closed_since.entry(scope).or_default().push(*kind);
    }
    let of_log = closed_since.get(&Scope::Log).map(Vec::as_slice).unwrap_or_default();
    gaps.extend(of_log.iter().map(|kind| GapId::of(*kind, &Scope::Log)));
    for scope in scopes {
        let kinds = closed_since.get(scope).map(Vec::as_slice).unwrap_or_default();
        gaps.extend(kinds.iter().map(|kind| GapId::of(*kind, scope)));
        if is_forgotten {
            gaps.insert(GapId::of(GapKind::NotRead, scope));
        }
    }
    if gaps.is_empty() { Completeness::Complete } else { Completeness::Partial(gaps.into_iter().collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::AppId;

    fn app_users(id: &str) -> Scope {
        Scope::AppUsers(AppId::new(id).unwrap())
    }

    #[test]
    fn an_answer_is_complete_only_when_its_scopes_are() {
        let mut coverage = Coverage::default();
        let scopes = [Scope::Users, app_users("0oa1")];
        let partial = |ids: &[&str]| Completeness::Partial(ids.iter().map(|id| GapId((*id).into())).collect());
        assert_eq!(completeness(&coverage, &scopes), partial(&["NOT_READ:app_users(0oa1)", "NOT_READ:users"]));
        coverage.completed(Scope::Users);
        coverage.completed(app_users("0oa1"));
        assert_eq!(completeness(&coverage, &scopes), Completeness::Complete);
        coverage.opened(app_users("0oa1"), GapKind::Forbidden);
        assert_eq!(completeness(&coverage, &scopes), partial(&["FORBIDDEN:app_users(0oa1)"]));
        assert_eq!(completeness(&coverage, &[Scope::Users]), Completeness::Complete);
        coverage.closed(&app_users("0oa1"), GapKind::Forbidden);
        assert_eq!(completeness(&coverage, &scopes), Completeness::Complete);
    }

    #[test]
    fn a_gap_that_closes_meanwhile_still_stands() {
        #[track_caller]
        fn check(coverage: &Coverage, generation: u64, expected: &[&str]) {
            let scopes = [Scope::Users, app_users("0oa1")];
            let found = completeness_since(coverage, generation, &scopes);
            assert_eq!(found.gap_ids().iter().map(GapId::as_str).collect::<Vec<_>>(), expected);
        }
        let mut coverage = Coverage::default();
        let start = coverage.generation();
        coverage.completed(Scope::Users);
        coverage.completed(app_users("0oa1"));
        check(&coverage, start, &["NOT_READ:app_users(0oa1)", "NOT_READ:users"]);
        let read = coverage.generation();
        check(&coverage, read, &[]);
        coverage.completed(Scope::Users); // Again: nothing new.
        assert_eq!(coverage.generation(), read);
        coverage.opened(Scope::Users, GapKind::Failed);
        check(&coverage, read, &["FAILED:users"]);
        let open = coverage.generation();
        coverage.closed(&Scope::Users, GapKind::Failed);
        check(&coverage, open, &["FAILED:users"]);
        check(&coverage, coverage.generation(), &[]);
        // What is not asked for does not matter, and what was forgotten counts against everything.
        for number in 0..=RECENT_CLOSINGS_MAX {
            coverage.completed(app_users(&format!("other{number}")));
        }
        check(&coverage, open, &["NOT_READ:app_users(0oa1)", "NOT_READ:users"]);
        check(&coverage, coverage.generation() - 1, &[]);
        coverage.opened(Scope::Users, GapKind::Forbidden);
        let refused = coverage.generation();
        coverage.forget(&Scope::Users);
        check(&coverage, refused, &["FORBIDDEN:users", "NOT_READ:users"]);
    }

    #[test]
    fn unreadable_rows_are_stale() {
        let mut coverage = Coverage::default();
        assert!(!coverage.is_stale(&Scope::Users));
        for kind in GapKind::ALL {
            coverage.opened(Scope::Users, kind);
            let expected =
                !matches!(kind, GapKind::Held | GapKind::ImplicitAssignment | GapKind::LogLost | GapKind::NotRead);
            assert_eq!(coverage.is_stale(&Scope::Users), expected, "{kind:?}");
            coverage.closed(&Scope::Users, kind);
        }
    }

    #[test]
    fn failures_become_gaps_or_another_try() {
        let detail = || "GET /api/v1/groups: 403 E0000006".to_owned();
        let kind = |failure| gap_of_failure(&Scope::Groups, &failure).map(|gap| gap.kind);
        assert_eq!(kind(ReadFailure::Forbidden { missing_scope: None, detail: detail() }), Some(GapKind::Forbidden));
        assert_eq!(
            kind(ReadFailure::Forbidden { missing_scope: Some("okta.groups.read".into()), detail: detail() }),
            Some(GapKind::ScopeMissing)
        );
        assert_eq!(kind(ReadFailure::Failed { detail: detail() }), Some(GapKind::Failed));
        assert_eq!(kind(ReadFailure::CursorGone), None);
        assert_eq!(kind(ReadFailure::RestartWalk { limit: 100 }), None);
    }

    #[test]
    fn kind_names_read_back() {
        for kind in GapKind::ALL {
            assert_eq!(GapKind::parse(kind.name()), Some(kind));
        }
    }
}

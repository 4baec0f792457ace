//! One call: what is demanded of the answer, the snapshot that it is read from, and its meta.
//!
//! Entry points: [`Call::begin`], then [`Call::point`] for point reads or [`Call::scan`] for lists; both hand an [`Ask`] to
//! the function that answers.
//!
//! Invariants:
//! - All of an answer is read in one snapshot. Demands are checked against that very snapshot.
//! - The generation of the coverage is taken before the snapshot, so that a gap which closes meanwhile still counts.
//! - Nothing here depends on a connection: the command line makes the same calls in its own process.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use okta_idmap_proto::limits::{GAP_IDS_MAX, ORG_NAME_BYTES_MAX};
use okta_idmap_proto::v1;

use super::Services;
use super::demands::Demands;
use super::errors::Failure;
use super::gaps::{self, Gaps, Wide, WideMark};
use super::orgs::OrgView;
use super::rows::timestamp;
use crate::core::coverage::{Asked, CoveragePolicy, GapId, GapKind, Reach};
use crate::core::ids::{Revision, Timestamp};
use crate::core::model::{App, Kind, Scope};
use crate::core::policy::GrantPolicy;
use crate::store::{Snapshot, State, StoreError};

/// Collections whose gaps are asked for under one hold of the coverage's lock, about a millisecond: the store's writer and
/// behind it all other answers wait for it.
const SCOPES_AT_ONCE_MAX: usize = 1_000;

/// A call whose context has been read.
#[derive(Clone, Debug)]
pub(super) struct Call {
    view: OrgView,
    demands: Demands,
    now: Timestamp,
    /// The store's revision before the last look, at least.
    looked_at: Revision,
    /// The generation of the coverage before the last look.
    generation: u64,
}

impl Call {
    /// Finds the org and reads the demands.
    pub(super) fn begin(services: &Services, context: Option<&v1::RequestContext>) -> Result<Self, Failure> {
        let empty = v1::RequestContext::default();
        let context = context.unwrap_or(&empty);
        let view = select_org(services, context)?;
        Ok(Self {
            view,
            demands: Demands::read(context)?,
            now: services.now(),
            looked_at: Revision::default(),
            generation: 0,
        })
    }

    /// As [`Call::begin`] for rpcs that mind the org only.
    pub(super) fn begin_undemanding(
        services: &Services,
        context: Option<&v1::RequestContext>,
    ) -> Result<Self, Failure> {
        let empty = v1::RequestContext::default();
        let view = select_org(services, context.unwrap_or(&empty))?;
        Ok(Self {
            view,
            demands: Demands::default(),
            now: services.now(),
            looked_at: Revision::default(),
            generation: 0,
        })
    }

    /// A call of our own, without a request: about an org, without demands. Nothing that it reads may depend on the time.
    pub(super) fn timeless(view: OrgView) -> Self {
        Self {
            view,
            demands: Demands::default(),
            now: Timestamp::default(),
            looked_at: Revision::default(),
            generation: 0,
        }
    }

    /// A call of our own about an org at a time, without demands.
    pub(super) fn at(view: OrgView, now: Timestamp) -> Self {
        Self { view, demands: Demands::default(), now, looked_at: Revision::default(), generation: 0 }
    }

    /// The same call without its demands, which are those on the begin of a stream.
    pub(super) fn undemanding(&self) -> Self {
        Self { demands: Demands::default(), ..self.clone() }
    }

    /// Notes that a look begins.
    pub(super) fn looks(&mut self) {
        self.looked_at = self.view.reader().revision();
        self.generation = self.view.reader().coverage().generation();
    }

    /// The generation of the coverage when the last look began.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The revision that was there when the last look began.
    pub(super) fn looked_at(&self) -> Revision {
        self.looked_at
    }

    /// The same question at another time.
    pub(super) fn is_asked_at(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// The org.
    pub(super) fn view(&self) -> &OrgView {
        &self.view
    }

    /// The revision that stores and indexes must have reached.
    pub(super) fn at_least_revision(&self) -> u64 {
        self.demands.at_least_revision()
    }

    /// Answers in the calling thread: for point reads, well below a millisecond.
    pub(super) fn point<T>(&self, answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure>) -> Result<T, Failure> {
        self.point_then(answer).answer
    }

    /// As [`Call::point_then`], as a look of its own.
    pub(super) fn point_now<T>(&mut self, answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure>) -> Answered<T> {
        self.looks();
        self.point_then(answer)
    }

    /// As [`Call::point`], and whether a later answer may be better.
    pub(super) fn point_then<T>(&self, answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure>) -> Answered<T> {
        let known = self.known();
        self.view.reader().read(|snapshot| Ok(self.checked(snapshot, known, answer))).unwrap_or_else(Answered::from)
    }

    /// Answers on a blocking thread: for everything that reads many rows.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.scan_then(answer).await.answer
    }

    /// As [`Call::scan_then`], as a look of its own.
    pub(super) async fn scan_now<T: Send + 'static>(
        &mut self,
        answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Answered<T> {
        self.looks();
        self.scan_then(answer).await
    }

    /// As [`Call::scan`], and whether a later answer may be better.
    async fn scan_then<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Answered<T> {
        let place = match self.view.place_in_queue() {
            Ok(place) => place,
            Err(failure) => return Answered::refused(failure),
        };
        let known = self.known();
        let call = self.clone();
        let scan = move |snapshot: &Snapshot<'_>| {
            let _place = place;
            Ok(call.checked(snapshot, known, answer))
        };
        let answered = self.view.reader().scan(scan).await;
        answered.unwrap_or_else(Answered::from)
    }

    fn known(&self) -> Known {
        let coverage = self.view.reader().coverage();
        Known { generation: coverage.generation(), position: coverage.position() }
    }

    fn checked<T>(
        &self,
        snapshot: &Snapshot<'_>,
        known: Known,
        answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure>,
    ) -> Answered<T> {
        let mut is_early = false;
        match self.answered(snapshot, known, answer, &mut is_early) {
            Ok(answer) => Answered { answer: Ok(answer), is_early },
            Err(failure) => Answered::refused(failure),
        }
    }

    fn answered<T>(
        &self,
        snapshot: &Snapshot<'_>,
        known: Known,
        answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure>,
        is_early: &mut bool,
    ) -> Result<T, Failure> {
        let (snapshot_completed_at, observed_through) = snapshot.times();
        let observed_by_our_clock = match self.view.coverage_policy().log_stale_after_millis {
            Some(_) => snapshot.observed_by_our_clock(),
            None => None,
        };
        let ask = Ask {
            view: &self.view,
            snapshot,
            now: self.now,
            generation: known.generation,
            coverage_position: known.position,
            snapshot_completed_at,
            observed_through,
            observed_by_our_clock,
            is_early: Cell::new(false),
        };
        ask.check(&self.demands)?;
        let answer = answer(&ask);
        *is_early = ask.is_early.get();
        answer
    }
}

/// How far the coverage was before a snapshot.
#[derive(Clone, Copy)]
struct Known {
    generation: u64,
    position: u64,
}

/// An answer, and whether it is worth asking again in a moment.
pub(super) struct Answered<T> {
    pub(super) answer: Result<T, Failure>,
    /// Only what is being read right now makes it incomplete, or the demanded revision is not reached.
    pub(super) is_early: bool,
}

impl<T> Answered<T> {
    pub(super) fn refused(failure: Failure) -> Self {
        let is_early = matches!(failure, Failure::RevisionNotReached { .. });
        Self { answer: Err(failure), is_early }
    }
}

impl<T> From<StoreError> for Answered<T> {
    fn from(error: StoreError) -> Self {
        Self::refused(error.into())
    }
}

fn select_org(services: &Services, context: &v1::RequestContext) -> Result<OrgView, Failure> {
    if context.org.len() > ORG_NAME_BYTES_MAX {
        let detail = format!("longer than {ORG_NAME_BYTES_MAX} bytes");
        return Err(Failure::FieldInvalid { field: "context.org", detail });
    }
    services.orgs().select(&context.org).cloned()
}

/// How to answer a part of a call on another thread, from the same state.
#[derive(Clone)]
pub(super) struct Beside {
    call: Call,
    known: Known,
    state: State,
}

impl Beside {
    /// Answers in the calling thread; `None`: the newest state is another one by now, or cannot be read here.
    pub(super) fn point<T>(&self, answer: impl FnOnce(&Ask<'_>) -> Result<T, Failure>) -> Option<Result<T, Failure>> {
        let read = self.call.view.reader().read(|snapshot| {
            let is_same = snapshot.state() == self.state;
            Ok(is_same.then(|| self.call.answered(snapshot, self.known, answer, &mut false)))
        });
        read.ok().flatten()
    }
}

/// Everything that an answer may be read from.
pub(super) struct Ask<'a> {
    pub(super) view: &'a OrgView,
    pub(super) snapshot: &'a Snapshot<'a>,
    pub(super) now: Timestamp,
    generation: u64,
    /// The position in the coverage's changes before the snapshot.
    pub(super) coverage_position: u64,
    pub(super) snapshot_completed_at: Option<Timestamp>,
    observed_through: Option<Timestamp>,
    observed_by_our_clock: Option<Timestamp>,
    /// Whether the answer would be complete but for what is being read right now.
    is_early: Cell<bool>,
}

impl Ask<'_> {
    /// For other threads.
    pub(super) fn beside(&self) -> Beside {
        let call = Call::at(self.view.clone(), self.now);
        let known = Known { generation: self.generation, position: self.coverage_position };
        Beside { call, known, state: self.snapshot.state() }
    }

    fn check(&self, demands: &Demands) -> Result<(), Failure> {
        demands
            .check_place(self.view.store_id(), self.snapshot.revision(), |revision| self.snapshot.era_of(revision))?;
        demands.check_age(self.now, self.observed_through)
    }

    /// The era of a revision; empty where it is not known.
    pub(super) fn era_of(&self, revision: Revision) -> String {
        self.snapshot.era_of(revision).unwrap_or_default().to_owned()
    }

    /// The generation of the coverage before the snapshot.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// What grants.
    pub(super) fn policy(&self) -> &GrantPolicy {
        self.view.policy()
    }

    /// How far the log has been followed.
    pub(super) fn observed_through(&self) -> Option<Timestamp> {
        self.observed_through
    }

    /// When a scope was last read to its end.
    pub(super) fn completed_at(&self, scope: &Scope) -> Option<Timestamp> {
        self.view.reader().coverage().completed_at(scope)
    }

    /// What is too old.
    pub(super) fn policy_of_coverage(&self) -> CoveragePolicy {
        self.view.coverage_policy()
    }

    /// All apps.
    pub(super) fn apps(&self) -> Result<&Arc<Vec<App>>, Failure> {
        Ok(self.view.reader().apps(self.snapshot)?)
    }

    fn asked(&self, with_objects: bool) -> Asked {
        Asked {
            now: self.now,
            observed_through: self.observed_by_our_clock,
            generation: Some(self.generation),
            // A call of our own has no time, and nothing is too old for it.
            policy: if self.now == Timestamp::default() {
                CoveragePolicy::default()
            } else {
                self.view.coverage_policy()
            },
            with_objects,
        }
    }

    /// The gaps of a few collections, with those of objects in them that are not shown.
    pub(super) fn gaps(&self, scopes: &[Scope]) -> Gaps {
        let mut gaps = Gaps::default();
        gaps.add(&self.view.reader().coverage().completeness(self.asked(true), scopes));
        gaps
    }

    /// The gaps of a few collections and objects, for an answer about objects that were chosen by their ids.
    pub(super) fn gaps_of_known(&self, scopes: &[Scope]) -> Gaps {
        let mut gaps = Gaps::default();
        gaps.add(&self.view.reader().coverage().completeness(self.asked(false), scopes));
        gaps
    }

    /// The gaps of all objects of a kind that are not shown.
    fn gaps_of_objects(&self, kind: Kind) -> Gaps {
        let mut gaps = Gaps::default();
        gaps.add_all(self.view.reader().coverage().object_gaps(kind, self.generation).into_iter());
        gaps
    }

    /// The gaps over all apps or groups, and over everybody who may have an account or membership there.
    pub(super) fn wide_gaps(&self, wide: Wide) -> Result<Gaps, Failure> {
        let mut gaps = self.wide_gaps_of_user(wide)?;
        gaps.merge(self.gaps_of_objects(Kind::User));
        Ok(gaps)
    }

    /// The gaps over all apps or groups, for a user who was chosen. Costs a walk over these after each change of the coverage,
    /// else a comparison.
    pub(super) fn wide_gaps_of_user(&self, wide: Wide) -> Result<Gaps, Failure> {
        let mut gaps = self.wide_gaps_of_lists(wide)?;
        // What depends on the moment is not remembered.
        gaps.merge(self.gaps_of_known(&[]));
        if wide != Wide::Memberships {
            gaps.merge(self.gaps_of_objects(Kind::App));
        }
        if wide != Wide::Accounts {
            gaps.merge(self.gaps_of_objects(Kind::Group));
        }
        Ok(gaps)
    }

    /// Whether the gaps over all apps or groups are remembered, so that asking for them costs nothing.
    pub(super) fn knows_wide_gaps(&self, wide: Wide) -> Result<bool, Failure> {
        Ok(self.view.wide().get(wide, &self.wide_mark()?).is_some())
    }

    fn wide_mark(&self) -> Result<WideMark, Failure> {
        Ok(WideMark {
            generation: self.generation,
            looked_at: self.wide_policy().last_look(self.now),
            renewals: self.view.reader().coverage().renewals(),
            apps: Arc::clone(self.apps()?),
            groups: self.snapshot.groups_mark()?,
        })
    }

    fn wide_gaps_of_lists(&self, wide: Wide) -> Result<Gaps, Failure> {
        let mark = self.wide_mark()?;
        // Only while nothing has changed: the snapshot may be of after an opening that the set does not have.
        if self.view.reader().coverage().generation() == self.generation
            && let Some(known) = self.view.wide().get(wide, &mark)
        {
            return Ok(known);
        }
        let mut ids: BTreeSet<GapId> = BTreeSet::new();
        // The same whenever it is asked before the next look.
        let asked = Asked { now: mark.looked_at, policy: self.wide_policy(), ..self.asked(false) };
        for scopes in self.wide_scopes(wide)?.chunks(SCOPES_AT_ONCE_MAX) {
            let found = self.view.reader().coverage().completeness(asked, scopes);
            ids.extend(found.gap_ids().iter().cloned());
        }
        let coverage = self.view.reader().coverage();
        if wide == Wide::Org {
            ids.extend(coverage.all_open().map(|(scope, kind)| GapId::of(kind, scope)));
        }
        let is_current = coverage.generation() == self.generation;
        drop(coverage);
        let ids = gaps::many(ids);
        if is_current {
            self.view.wide().put(wide, mark, Arc::clone(&ids));
        }
        Ok(Gaps::of_many(ids))
    }

    /// What is too old, of lists. The age of the log is looked at each time.
    fn wide_policy(&self) -> CoveragePolicy {
        self.asked(false).policy.of_lists()
    }

    /// All collections that there are by the apps and groups that are stored.
    pub(super) fn all_scopes(&self) -> Result<Vec<Scope>, Failure> {
        self.wide_scopes(Wide::Org)
    }

    fn wide_scopes(&self, wide: Wide) -> Result<Vec<Scope>, Failure> {
        let groups = if wide == Wide::Accounts { Vec::new() } else { wide.groups(self.snapshot)? };
        Ok(wide.scopes(self.apps()?, groups))
    }

    /// Whether a row of the scope may be outdated, because it can no longer be read. `row`: the id that its record carries there.
    pub(super) fn is_stale(&self, scope: &Scope, row: &str) -> bool {
        self.view.reader().coverage().is_stale(scope, row)
    }

    /// Which rows of the scope may be.
    pub(super) fn stale(&self, scope: &Scope) -> Option<Reach> {
        self.view.reader().coverage().stale(scope)
    }

    /// Whether any row may be: spares asking for each row of an org in which all is well.
    pub(super) fn is_any_stale(&self) -> bool {
        self.view.reader().coverage().open_gaps() > 0
    }

    /// Open gaps by kind, as of now.
    pub(super) fn open_gaps(&self) -> Vec<(Scope, GapKind)> {
        self.view.reader().coverage().all_open().map(|(scope, kind)| (scope.clone(), kind)).collect()
    }

    /// What the answer says about itself.
    pub(super) fn meta(&self, gaps: &Gaps) -> v1::ResponseMeta {
        self.is_early.set(self.are_passing(gaps));
        let (completeness, gap_ids, gap_count) = gaps.shown(GAP_IDS_MAX);
        v1::ResponseMeta {
            org: self.view.name().to_owned(),
            revision: self.snapshot.revision().0,
            observed_through: self.observed_through.map(timestamp),
            snapshot_completed_at: self.snapshot_completed_at.map(timestamp),
            completeness: completeness.into(),
            gap_ids,
            gap_count,
            store_id: self.view.store_id().to_owned(),
            era: self.era_of(self.snapshot.revision()),
        }
    }
}

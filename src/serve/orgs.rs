//! The orgs that are served, and what answers need of each.
//!
//! Entry points: [`OrgView::new`], [`Orgs::select`].
//!
//! Invariants:
//! - A view is a handle: cloning it costs a reference count, and all clones see the same org.
//! - Nothing below [`Orgs`] knows that there are several.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use okta_idmap_index as index;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::changes::{PolicyHash, Rounds};
use super::control::Control;
use super::errors::Failure;
use super::gaps::WideCache;
use super::page::PageKey;
use super::status::StatusSource;
use crate::core::coverage::CoveragePolicy;
use crate::core::policy::GrantPolicy;
use crate::store::{Reader, StoreError};

/// Searches of one org at once: each keeps a core busy for milliseconds, and point look-ups must not wait for them.
const SEARCHES_MAX: u32 = 4;

/// Lists and searches of one org that are under way or wait for their turn. At some milliseconds each, the last of them
/// waits for seconds; who comes later is told to come back instead.
const QUEUE_MAX: usize = 1_000;

/// Looks through all users of one org at once: each takes seconds and much memory in a large org, and holds one of the few
/// places of lists.
const WHOLE_SCANS_MAX: usize = 1;

/// The search index of an org, which comes and goes while it is rebuilt. Cheap to clone; all clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct SearchHandle {
    reader: Arc<RwLock<Option<index::Reader>>>,
}

impl SearchHandle {
    /// A handle without an index: searches are `UNAVAILABLE` until [`SearchHandle::set`].
    pub fn new(reader: Option<index::Reader>) -> Self {
        Self { reader: Arc::new(RwLock::new(reader)) }
    }

    /// Puts an index in, or (`None`) takes it out while it is rebuilt.
    pub fn set(&self, reader: Option<index::Reader>) {
        *self.reader.write().unwrap_or_else(PoisonError::into_inner) = reader;
    }

    /// The index, if there is one.
    pub fn get(&self) -> Option<index::Reader> {
        self.reader.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What answers need of an org.
#[derive(Clone, Debug)]
pub struct OrgView(Arc<View>);

#[derive(Clone, Debug)]
struct View {
    shared: Arc<Shared>,
    /// The way to the engine, where one runs.
    control: Option<Control>,
    coverage: CoveragePolicy,
    policy_id: Arc<str>,
}

struct Shared {
    name: String,
    store_id: String,
    reader: Reader,
    search: SearchHandle,
    searches: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    whole_scans: Semaphore,
    policy: Arc<GrantPolicy>,
    policy_hash: PolicyHash,
    status: StatusSource,
    wide: WideCache,
    rounds: Rounds,
    page_key: PageKey,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).field("store_id", &self.store_id).finish_non_exhaustive()
    }
}

impl OrgView {
    /// Joins the parts of an org. `name` is the one of the configuration.
    ///
    /// # Errors
    /// [`StoreError`] when the identity of the store cannot be read.
    pub fn new(
        name: impl Into<String>,
        reader: Reader,
        search: SearchHandle,
        policy: Arc<GrantPolicy>,
        status: StatusSource,
    ) -> Result<Self, StoreError> {
        let (store_id, secret) = reader.read(|snapshot| Ok((snapshot.meta()?.store_id, snapshot.page_key()?)))?;
        // A store that was last written by an earlier version has none; it is read by this process alone then.
        let page_key = secret.as_ref().map(PageKey::of).or_else(PageKey::random);
        let page_key =
            page_key.ok_or_else(|| StoreError::Mismatch { detail: "the system has no random numbers".to_owned() })?;
        let searches = Arc::new(Semaphore::new(SEARCHES_MAX as usize));
        let wide = WideCache::default();
        let queue = Arc::new(Semaphore::new(QUEUE_MAX));
        let whole_scans = Semaphore::new(WHOLE_SCANS_MAX);
        let (name, rounds) = (name.into(), Rounds::default());
        let policy_hash = PolicyHash::of(&store_id, &policy);
        let coverage = CoveragePolicy::default();
        let policy_id = policy_hash.id(coverage).into();
        let shared = Shared {
            name,
            store_id,
            reader,
            search,
            searches,
            queue,
            whole_scans,
            policy,
            policy_hash,
            status,
            wide,
            rounds,
            page_key,
        };
        Ok(Self(Arc::new(View { shared: Arc::new(shared), control: None, coverage, policy_id })))
    }

    /// The same org with an engine that takes commands. Without, `Admin` says that none runs here.
    #[must_use]
    pub fn with_control(self, control: Control) -> Self {
        Self(Arc::new(View { control: Some(control), ..Arc::unwrap_or_clone(self.0) }))
    }

    /// The same org with another policy about what is too old, and what becomes of rows that can no longer be read.
    #[must_use]
    pub fn with_coverage_policy(self, coverage: CoveragePolicy) -> Self {
        let policy_id = self.0.shared.policy_hash.id(coverage).into();
        Self(Arc::new(View { coverage, policy_id, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// What answers are made of beside the rows, in one word: `Checkpoint.policy_id`.
    pub(super) fn policy_id(&self) -> &str {
        &self.0.policy_id
    }

    /// What is too old, and what becomes of rows that can no longer be read.
    pub(super) fn coverage_policy(&self) -> CoveragePolicy {
        self.0.coverage
    }

    /// The way to the engine, where one runs.
    pub(super) fn control(&self) -> Option<&Control> {
        self.0.control.as_ref()
    }

    /// Name in the configuration.
    pub fn name(&self) -> &str {
        &self.0.shared.name
    }

    /// Identity of the store.
    pub fn store_id(&self) -> &str {
        &self.0.shared.store_id
    }

    /// Readers of the store.
    pub fn reader(&self) -> &Reader {
        &self.0.shared.reader
    }

    /// The search index.
    pub fn search(&self) -> &SearchHandle {
        &self.0.shared.search
    }

    /// What grants.
    pub fn policy(&self) -> &GrantPolicy {
        &self.0.shared.policy
    }

    /// What the engine says.
    pub fn status(&self) -> &StatusSource {
        &self.0.shared.status
    }

    /// The right to be alone with the search index: waits for the searches that are under way, and others wait for it.
    pub(super) async fn no_searches(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.searches()).acquire_many_owned(SEARCHES_MAX).await.ok()
    }

    pub(super) fn searches(&self) -> &Arc<Semaphore> {
        &self.0.shared.searches
    }

    /// A place among those who wait for a blocking thread or have one, given back when it is dropped: it goes with the work,
    /// which does not end when nobody waits for it any more.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when too many wait already.
    pub(super) fn place_in_queue(&self) -> Result<OwnedSemaphorePermit, Failure> {
        Arc::clone(&self.0.shared.queue).try_acquire_owned().map_err(|_| Failure::Overloaded)
    }

    /// What seals page tokens.
    pub(super) fn page_key(&self) -> &PageKey {
        &self.0.shared.page_key
    }

    /// What streams of changes read together.
    pub(super) fn rounds(&self) -> &Rounds {
        &self.0.shared.rounds
    }

    /// The right to look through all users of the org, given back when it is dropped.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] while somebody else does.
    pub(super) fn place_for_whole_scan(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.0.shared.whole_scans.try_acquire().map_err(|_| Failure::Overloaded)
    }

    pub(super) fn wide(&self) -> &WideCache {
        &self.0.shared.wide
    }

    /// Whether a full crawl was ever completed. Never becomes false again.
    pub(super) fn is_crawled(&self) -> Result<bool, StoreError> {
        self.0.shared.reader.read(|snapshot| Ok(snapshot.times().0.is_some()))
    }
}

/// The orgs by name.
#[derive(Clone, Debug, Default)]
pub struct Orgs(BTreeMap<String, OrgView>);

impl Orgs {
    /// The orgs; of two with one name, the later one.
    pub fn new(orgs: impl IntoIterator<Item = OrgView>) -> Self {
        Self(orgs.into_iter().map(|org| (org.name().to_owned(), org)).collect())
    }

    /// The orgs, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &OrgView> {
        self.0.values()
    }

    /// Names of the orgs, in alphabetical order.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The org of that name; for the empty name, the only org.
    ///
    /// # Errors
    /// [`Failure::OrgUnknown`]; [`Failure::OrgRequired`] when none is named and there is not exactly one.
    pub fn select(&self, name: &str) -> Result<&OrgView, Failure> {
        if !name.is_empty() {
            return self.0.get(name).ok_or(Failure::OrgUnknown);
        }
        let mut orgs = self.0.values();
        match (orgs.next(), orgs.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(Failure::OrgRequired { orgs: self.names() }),
        }
    }
}

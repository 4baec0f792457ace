//! Until store, index and org are the same, and what must hold meanwhile. Entry points: [`Watcher::observe`],
//! [`Watcher::converge`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use okta_idmap::core::ids::Revision;
use okta_idmap::engine::OrgSettings;
use okta_idmap::store::{Meta, Reader, StoreError};

use okta_sim::RequestRecord;

use crate::harness::{World, assert_index};
use crate::parts::{Groups, Users, part_of_org};
use crate::picture::Picture;
use crate::story::Story;

/// How often it is looked.
const LOOK_INTERVAL: Duration = Duration::from_millis(60);

/// The connector's own waits (a failed read is tried again after seconds, ever more rarely) come on top of what following
/// takes; within this time all of them are over, also on a slow machine and beside other runs.
const CONVERGE_WAIT_MAX: Duration = Duration::from_secs(120);

/// Requests that are told of a run that fails: those of its last reads.
const REQUESTS_TOLD: usize = 40;

/// Gaps that are shown.
const GAPS_MAX: usize = 100;

/// Watches one store from outside, over restarts of the engine.
pub(crate) struct Watcher {
    settings: OrgSettings,
    story: Story,
    store_id: Option<String>,
    revision: Revision,
    /// Nets and crawls come so often that there is always something to read: that is no reason to wait.
    is_restless: bool,
    /// The part of the org that the settings want.
    part: (Users, Groups),
}

impl Watcher {
    pub(crate) fn new(settings: OrgSettings, story: Story, part: (Users, Groups)) -> Self {
        let is_restless = settings.follow.users_delta_interval.is_some();
        Self { settings, story, store_id: None, revision: Revision::default(), is_restless, part }
    }

    fn reader(&self) -> Option<Reader> {
        match Reader::open(&self.settings.dir) {
            Ok(reader) => Some(reader),
            Err(StoreError::Missing { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// What must hold at every moment: it is the same store, and its revisions never go back.
    pub(crate) fn observe(&mut self) -> Option<Meta> {
        let meta = self.reader()?.read(|snapshot| snapshot.meta()).unwrap();
        assert!(meta.revision >= self.revision, "revision {:?} after {:?}", meta.revision, self.revision);
        assert_eq!(*self.store_id.get_or_insert_with(|| meta.store_id.clone()), meta.store_id, "another store");
        self.revision = meta.revision;
        Some(meta)
    }

    /// Number of the newest crawl; 0 before the first.
    pub(crate) fn crawl(&mut self) -> u64 {
        self.observe().map_or(0, |meta| meta.crawl.id.0)
    }

    /// Waits until nothing is to be done any more and everything is the same. `crawl_after`: a
    /// crawl with a larger number has to be over as well. `has_ended`: whether the engine has, which it must not.
    pub(crate) async fn converge(&mut self, world: &World, has_ended: &mut dyn FnMut() -> bool, crawl_after: u64) {
        let (begun, mut told) = (Instant::now(), BTreeSet::new());
        loop {
            assert!(!has_ended(), "the engine has ended by itself");
            let Some(left) = self.left_to_do(world, crawl_after) else { break };
            if begun.elapsed() > CONVERGE_WAIT_MAX {
                self.tell_requests(world);
                panic!("not the same after {CONVERGE_WAIT_MAX:?}: {left}");
            }
            let first_line = left.lines().next().unwrap_or_default();
            if told.insert(first_line.to_owned()) {
                self.story.tell(format!("not the same yet: {first_line}"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        self.story.tell(format!("the same after {:?}", begun.elapsed()));
    }

    /// The last requests that were no idle polls.
    fn tell_requests(&self, world: &World) {
        let sim = world.server.sim();
        let is_idle = |record: &RequestRecord| record.endpoint == "/api/v1/logs" && record.items == 0;
        let asked: Vec<&RequestRecord> = sim.requests.records().filter(|record| !is_idle(record)).collect();
        for record in &asked[asked.len().saturating_sub(REQUESTS_TOLD)..] {
            let RequestRecord { path, query, status, items, .. } = record;
            self.story.tell(format!("asked {path}?{query}: {status}, {items} items"));
        }
    }

    /// Why it is not over; `None` when it is. Cheap questions first.
    fn left_to_do(&mut self, world: &World, crawl_after: u64) -> Option<String> {
        let Some(meta) = self.observe() else { return Some("there is no store".to_owned()) };
        if (meta.crawl.running && !self.is_restless)
            || meta.crawl.completed_at.is_none()
            || meta.crawl.id.0 <= crawl_after
        {
            return Some(format!("crawl {} is under way", meta.crawl.id.0));
        }
        let (jobs, events) = {
            let org = &mut world.server.sim().org;
            (org.pending_jobs(), org.log_pending())
        };
        if jobs + events > 0 {
            return Some(format!("the org has {jobs} jobs and {events} events under way"));
        }
        let reader = self.reader()?;
        let pending = reader.read(|snapshot| snapshot.pending_reads()).unwrap();
        if !pending.is_empty() && !self.is_restless {
            let lines: Vec<String> = pending.iter().map(|owed| format!("{owed:?}")).collect();
            return Some(format!("{} reads are owed:\n{}", pending.len(), lines.join("\n")));
        }
        let gaps = reader.read(|snapshot| snapshot.gaps(true, GAPS_MAX)).unwrap();
        if !gaps.is_empty() {
            let ids: Vec<String> = gaps.iter().map(|record| record.gap.id().to_string()).collect();
            return Some(format!("gaps are open: {}", ids.join(", ")));
        }
        let (stored, expected) =
            (Picture::of_store(&reader), part_of_org(&world.server.sim(), self.part.0, self.part.1));
        if let Some(difference) = stored.difference(&expected) {
            return Some(difference);
        }
        self.left_to_index()
    }

    /// Why the index is not as new as the store; `None` when it is.
    pub(crate) fn left_to_index(&self) -> Option<String> {
        let reader = self.reader()?;
        let indexed = okta_idmap_index::open_read_only(&self.settings.index_dir()).ok();
        let indexed = indexed.and_then(|index| index.mark()).map(|mark| mark.revision);
        let newest = reader.read(|snapshot| Ok(snapshot.revision())).unwrap();
        (indexed != Some(newest.0)).then(|| format!("the index is at {indexed:?}, the store at {newest:?}"))
    }

    /// Once the engine has stopped: the index has the documents of the stored rows and nothing else.
    pub(crate) fn assert_index(&self) {
        let stored = Picture::of_store(&self.reader().unwrap());
        assert_index(&self.settings, &stored, "index");
    }
}

/// What the connector must not have asked: nothing but GET, no path that Okta does not have, no credential where it does not
/// belong, and no request that is refused for its form (`cursors_expired`: but for old positions in the log).
pub(crate) fn assert_requests(world: &World) {
    let sim = world.server.sim();
    assert_eq!(sim.requests.violations(), 0, "something else than GET was sent");
    for record in sim.requests.records() {
        assert_ne!(record.endpoint, "unknown", "{record:?}");
        let is_public = record.endpoint == "/.well-known/okta-organization";
        assert_eq!(record.has_authorization, !is_public, "{record:?}");
        // The only request that Okta may refuse for its content is a position in the log that it no longer knows.
        let is_position = record.endpoint == "/api/v1/logs" && record.query.contains("after=");
        assert!(record.status != 400 || is_position, "{record:?}");
    }
}

//! A store of the made-up org, filled by its own writer, with its index.
//!
//! Entry points: [`settings`], [`fill`].

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use okta_idmap::config::{Flags, Sources, load};
use okta_idmap::core::batch::{Batch, CrawlMark, CursorMove, WalkState, WalkUpdate};
use okta_idmap::core::coverage::CoveragePolicy;
use okta_idmap::core::ids::{AppId, CrawlId, GroupId, LogCursor, RequestNumber, Timestamp};
use okta_idmap::core::model::{Row, Scope};
use okta_idmap::engine::index::reindex;
use okta_idmap::engine::{OrgRuntime, OrgSettings, clock, register};
use okta_idmap::store::{REGISTER_FILE, Reader, Writer};
use tokio_util::sync::CancellationToken;

use crate::people::{self, People};

/// Rows of a batch: some pages of a crawl.
const BATCH_ROWS: usize = 4_000;

/// Batches that the writer may have at once.
const UNDER_WAY_MAX: usize = 8;

/// The variable of the setting, which is taken over.
const REGISTER: &str = "OKTA_IDMAP_INDEX__REGISTER";

/// Nothing that was made for the figures becomes too old.
const EVER: Duration = Duration::from_secs(20 * 365 * 86_400);

/// How the org is opened: as configured by default, but that nobody is asked for changes.
pub(crate) fn settings(dir: &Path) -> OrgSettings {
    let environment = [
        ("OKTA_IDMAP_DATA_DIR", dir.display().to_string()),
        // Nobody listens there, and nobody is asked.
        ("OKTA_IDMAP_DOMAIN", "http://127.0.0.1:9".to_owned()),
        ("OKTA_IDMAP_API_TOKEN", "00token-of-a-made-up-org-1234567890123456".to_owned()),
        ("OKTA_IDMAP_FOLLOW__ENABLED", "false".to_owned()),
    ];
    let mut env = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    // To measure without a register: `false`.
    env.extend(std::env::var(REGISTER).map(|value| (REGISTER.to_owned(), value)));
    let sources = Sources { file: None, env, flags: Flags::default() };
    let (config, _) = load(sources, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
    let mut settings = OrgSettings::from_config(&config, config.require_org(None).unwrap()).unwrap();
    let ever = i64::try_from(EVER.as_millis()).unwrap();
    settings.crawl_interval = EVER;
    // As while the log is followed: it is looked how old everything is, and nothing is too old.
    settings.coverage =
        CoveragePolicy { stale_after_millis: Some(ever), log_stale_after_millis: Some(ever), ..settings.coverage };
    settings
}

/// Makes store, index and register, unless they are there. Returns how long each took, in seconds; 0 for what was there.
pub(crate) async fn fill(settings: &OrgSettings, people: &People) -> (f64, f64, f64) {
    let (mut fill_s, mut index_s, mut register_s) = (0.0, 0.0, 0.0);
    let is_crawled = Reader::open(&settings.dir)
        .and_then(|reader| reader.read(|snapshot| snapshot.meta()))
        .is_ok_and(|meta| meta.crawl.completed_at.is_some());
    if !is_crawled {
        // What was left half.
        let _ = std::fs::remove_dir_all(&settings.dir);
        let began = Instant::now();
        let (org, writer) = OrgRuntime::open(settings.clone()).unwrap();
        let mut crawl = Crawl { next: writer.first_request_number().0, writer, under_way: VecDeque::new() };
        crawl.all(people).await;
        drop(crawl);
        drop(org);
        fill_s = began.elapsed().as_secs_f64();
    }
    if okta_idmap_index::open_read_only(&settings.index_dir()).is_err() {
        let (began, settings) = (Instant::now(), settings.clone());
        tokio::task::spawn_blocking(move || reindex(settings)).await.unwrap().unwrap().unwrap();
        index_s = began.elapsed().as_secs_f64();
    }
    if settings.register.accounts_min.is_some() && !settings.dir.join(REGISTER_FILE).exists() {
        let began = Instant::now();
        let reader = Reader::open(&settings.dir).unwrap();
        register::make(&reader, async |_| {}, &CancellationToken::new()).await.unwrap().unwrap();
        register_s = began.elapsed().as_secs_f64();
    }
    (fill_s, index_s, register_s)
}

/// A crawl without Okta.
struct Crawl {
    writer: Writer,
    next: u64,
    under_way: VecDeque<Commit>,
}

type Commit = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl Crawl {
    fn batch(&mut self) -> Batch {
        let (at, now) = (RequestNumber(self.next), clock::now());
        self.next += 1;
        Batch { now, at, okta_now: now, ..Batch::default() }
    }

    async fn commit(&mut self, batch: Batch) {
        let receipt = self.writer.commit(Box::new(batch)).await.unwrap();
        self.under_way.push_back(Box::pin(async move {
            receipt.await.unwrap().unwrap();
        }));
        while self.under_way.len() > UNDER_WAY_MAX {
            self.settle_one().await;
        }
    }

    async fn settle_one(&mut self) {
        if let Some(commit) = self.under_way.pop_front() {
            commit.await;
        }
    }

    async fn all(&mut self, people: &People) {
        self.writer.bind_org("00oLookup".to_owned()).await.unwrap();
        let crawl = Some(CrawlMark::Begin { id: CrawlId(1), fingerprint: "figures".to_owned() });
        let first = Batch { crawl, ..self.batch() };
        self.commit(first).await;
        self.walks(people).await;
        let (anchor, end) = (self.batch(), self.batch());
        let cursor = Some(CursorMove::Anchor(LogCursor("http://127.0.0.1:9/api/v1/logs?after=1".to_owned())));
        let observed_through = Some(anchor.okta_now);
        self.commit(Batch { cursor, observed_through, ..anchor }).await;
        self.commit(Batch { crawl: Some(CrawlMark::End { id: CrawlId(1) }), ..end }).await;
        while !self.under_way.is_empty() {
            self.settle_one().await;
        }
    }

    async fn walks(&mut self, people: &People) {
        let now = clock::now();
        self.walk(Scope::Users, (0..people.users).map(|user| Row::User(people::user(user, now)))).await;
        let groups = 0..=people.groups();
        self.walk(Scope::Groups, groups.map(|group| Row::Group(people::group(group, people, now)))).await;
        self.walk(Scope::Apps, (0..people.apps()).map(|app| Row::App(people::app(app, now)))).await;
        for app in 0..people.apps() {
            let id = AppId::new(&people::app_id(app)).unwrap();
            let holders = (0..people.users).filter(|user| people.has_account(*user, app));
            let rows = holders.map(|user| Row::AppUser(people::app_user(user, app, now)));
            self.walk(Scope::AppUsers(id.clone()), rows).await;
            let rows = people::groups_of_app(app, people).into_iter().map(Row::AppGroup);
            self.walk(Scope::AppGroups(id), rows).await;
        }
        for group in 0..people.groups() {
            let id = GroupId::new(people::group(group, people, now).id.as_str()).unwrap();
            let members = (0..people.users).filter(|user| people.is_member(*user, group));
            let rows = members.map(|user| Row::GroupMember(people::member(user, group)));
            self.walk(Scope::GroupMembers(id), rows).await;
        }
        self.walk(Scope::Log, std::iter::empty()).await;
    }

    async fn walk(&mut self, scope: Scope, rows: impl Iterator<Item = Row>) {
        let mut rows = rows.peekable();
        let from = RequestNumber(self.next);
        let began = clock::now();
        loop {
            let mut batch = self.batch();
            batch.rows = rows.by_ref().take(BATCH_ROWS).collect();
            let is_last = rows.peek().is_none();
            if is_last {
                let state = WalkState::Finished { from, began, known_empty: false, ended: Vec::new() };
                batch.walks = vec![WalkUpdate { scope: scope.clone(), state }];
            }
            self.commit(batch).await;
            if is_last {
                return;
            }
        }
    }
}

/// The time of a question.
pub(crate) fn now() -> Timestamp {
    clock::now()
}

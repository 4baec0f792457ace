//! A made-up org in a store and an index, and a server over them.
//!
//! Entry points: [`World::crawled`], [`World::empty`], then [`World::serve`].

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use okta_idmap::core::batch::{Batch, CrawlMark, CursorMove, Receipt, WalkState, WalkUpdate};
use okta_idmap::core::coverage::{Gap, GapKind};
use okta_idmap::core::filter::Filter;
use okta_idmap::core::ids::{AppId, CrawlId, GroupId, LogCursor, RequestNumber, Revision, Timestamp, UserId};
use okta_idmap::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Key, Quarantined,
    Row, Scope, User, UserStatus,
};
use okta_idmap::core::policy::{GrantPolicy, GrantPolicySettings};
use okta_idmap::core::reconcile::Brake;
use okta_idmap::serve::{
    OrgView, Orgs, RuntimeStatus, SearchHandle, ServeError, ServerSettings, Services, StatusSource, app_key, group_key,
    mapping_key, serve, user_key,
};
use okta_idmap::store::{ChangeRetention, STORE_FILE, Store, StoreConfig};
use okta_idmap_index::{DocKind, Era, Expect, HEAP_BYTES_MIN, IndexDoc, Mark, Opened};
use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::admin_client::AdminClient;
use okta_idmap_proto::v1::changes_client::ChangesClient;
use okta_idmap_proto::v1::coverage_client::CoverageClient;
use okta_idmap_proto::v1::lookup_client::LookupClient;
use okta_idmap_proto::v1::search_client::SearchClient;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// The time of every question.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);

/// Users of the made-up org; those with an even number have an account in Jira EU.
pub(crate) const USERS: usize = 250;

pub(crate) fn now() -> Timestamp {
    NOW
}

pub(crate) fn user_id(n: usize) -> String {
    format!("00u{n:04}")
}

pub(crate) fn user(n: usize) -> User {
    let status = if n % 10 == 9 { UserStatus::Deprovisioned } else { UserStatus::Active };
    User {
        id: UserId::new(&user_id(n)).unwrap(),
        status,
        login: Some(format!("User{n}@Example.com").into()),
        email: Some(format!("user{n}@mail.example.com").into()),
        second_email: None,
        first_name: Some(format!("First{n}").into()),
        last_name: Some("Müller".into()),
        display_name: None,
        created: Some(NOW.plus_millis(-1_000)),
        last_updated: Some(NOW.plus_millis(-500)),
        status_changed: None,
    }
}

pub(crate) fn app(id: &str, name: &str, label: &str) -> App {
    App {
        id: AppId::new(id).unwrap(),
        name: name.into(),
        label: label.into(),
        status: AppStatus::Active,
        sign_on_mode: Some("SAML_2_0".into()),
        features: vec!["PUSH_NEW_USERS".into()],
        credential_scheme: None,
        shared_user_name: None,
        user_name_template: None,
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    }
}

pub(crate) fn group(id: &str, name: &str, group_type: GroupType) -> Group {
    Group {
        id: GroupId::new(id).unwrap(),
        name: name.into(),
        description: None,
        group_type,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    }
}

pub(crate) fn app_user(app: &str, user: &str, user_name: &str) -> AppUser {
    AppUser {
        app: AppId::new(app).unwrap(),
        user: UserId::new(user).unwrap(),
        user_name: Some(user_name.into()),
        external_id: Some(format!("ext-{app}-{user}").into()),
        email: None,
        status: AppUserStatus::Active,
        scope: AssignmentScope::User,
        sync_state: None,
        via_group: None,
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

pub(crate) fn member(group: &str, user: &str) -> Row {
    Row::GroupMember(GroupMember { group: GroupId::new(group).unwrap(), user: UserId::new(user).unwrap() })
}

fn apps() -> Vec<App> {
    let mut shared = app("0oashare", "billing", "Billing");
    shared.credential_scheme = Some("SHARED_USERNAME_AND_PASSWORD".into());
    shared.shared_user_name = Some("billing@example.com".into());
    let mut off = app("0oaoff", "old", "Old Wiki");
    off.status = AppStatus::Inactive;
    vec![app("0oaeu", "jira", "Jira EU"), app("0oaus", "jira", "Jira US"), shared, off]
}

fn groups() -> Vec<Group> {
    vec![
        group("00gall", "Everyone", GroupType::BuiltIn),
        group("00geng", "Eng-EU", GroupType::OktaGroup),
        group("00gops", "Ops", GroupType::OktaGroup),
        group("00gimp", "Eng-EU imported", GroupType::AppGroup),
    ]
}

/// The accounts of the made-up org. The user `00ughost` is in no list of users.
fn accounts() -> Vec<AppUser> {
    let mut accounts: Vec<AppUser> =
        (0..USERS).step_by(2).map(|n| app_user("0oaeu", &user_id(n), &format!("user{n}"))).collect();
    accounts.push(app_user("0oaeu", "00ughost", "ghost"));
    accounts.push(AppUser { status: AppUserStatus::Staged, ..app_user("0oaus", &user_id(1), "dup") });
    accounts.push(app_user("0oaus", &user_id(2), "dup"));
    accounts.push(app_user("0oaus", &user_id(3), "three"));
    accounts.push(app_user("0oaoff", &user_id(2), "two"));
    accounts
}

fn memberships() -> Vec<Row> {
    let mut rows: Vec<Row> = (0..120).map(|n| member("00geng", &user_id(n))).collect();
    rows.push(member("00geng", "00ughost"));
    rows.push(member("00gops", &user_id(2)));
    rows
}

fn app_groups() -> Vec<Row> {
    let row = |app: &str, group: &str, priority| {
        let (app, group) = (AppId::new(app).unwrap(), GroupId::new(group).unwrap());
        Row::AppGroup(AppGroup { app, group, priority, last_updated: None })
    };
    vec![row("0oaeu", "00geng", Some(1)), row("0oaeu", "00gops", Some(0)), row("0oaus", "00gall", None)]
}

/// All collections of the made-up org, with their rows.
fn collections() -> Vec<(Scope, Vec<Row>)> {
    let app_id = |id: &str| AppId::new(id).unwrap();
    let mut collections = vec![
        (Scope::Users, (0..USERS).map(|n| Row::User(user(n))).collect()),
        (Scope::Groups, groups().into_iter().map(Row::Group).collect()),
        (Scope::Apps, apps().into_iter().map(Row::App).collect()),
    ];
    for app in apps() {
        let of_app = |row: &Row| matches!(row, Row::AppUser(row) if row.app == app.id);
        let rows = accounts().into_iter().map(Row::AppUser).filter(of_app).collect();
        collections.push((Scope::AppUsers(app_id(app.id.as_str())), rows));
        let of_app = |row: &Row| matches!(row, Row::AppGroup(row) if row.app == app.id);
        collections
            .push((Scope::AppGroups(app_id(app.id.as_str())), app_groups().into_iter().filter(of_app).collect()));
    }
    for group in ["00geng", "00gops", "00gimp"] {
        let of_group = |row: &Row| matches!(row, Row::GroupMember(row) if row.group.as_str() == group);
        let rows = memberships().into_iter().filter(of_group).collect();
        collections.push((Scope::GroupMembers(GroupId::new(group).unwrap()), rows));
    }
    collections.push((Scope::Log, Vec::new()));
    collections
}

/// A store with its index, and the right to write to both.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) search: SearchHandle,
    pub(crate) status: watch::Sender<RuntimeStatus>,
    /// As in production, the clock hands out the number of each request.
    next_request: std::cell::Cell<u64>,
}

impl World {
    /// A store that nothing was read into.
    pub(crate) fn empty() -> Self {
        Self::empty_with(Filter::default())
    }

    fn empty_with(filter: Filter) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open_store_with(&dir.path().join("acme"), filter);
        let (status, _) = watch::channel(RuntimeStatus::default());
        let next_request = std::cell::Cell::new(store.writer.first_request_number().0);
        Self { dir, store, search: SearchHandle::default(), status, next_request }
    }

    /// The made-up org after a complete crawl.
    pub(crate) async fn crawled() -> Self {
        Self::crawled_with(Filter::default()).await
    }

    /// The same under a filter.
    pub(crate) async fn crawled_with(filter: Filter) -> Self {
        let world = Self::empty_with(filter);
        world.store.writer.bind_org("00oacme".to_owned()).await.unwrap();
        world.begin_crawl(1).await;
        for (scope, rows) in collections() {
            world.read(scope, rows).await;
        }
        let cursor = Some(CursorMove::Anchor(LogCursor("https://acme.okta.com/api/v1/logs?after=1".to_owned())));
        world.commit(Batch { cursor, ..world.batch() }).await;
        world.end_crawl(1).await;
        world
    }

    pub(crate) fn batch(&self) -> Batch {
        let at = self.next_request.get();
        self.next_request.set(at + 1);
        Batch { now: NOW, at: RequestNumber(at), ..Batch::default() }
    }

    pub(crate) async fn commit(&self, batch: Batch) -> Receipt {
        self.store.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap()
    }

    pub(crate) async fn begin_crawl(&self, id: u64) {
        let crawl = Some(CrawlMark::Begin { id: CrawlId(id), fingerprint: "f".to_owned() });
        self.commit(Batch { crawl, ..self.batch() }).await;
    }

    pub(crate) async fn end_crawl(&self, id: u64) {
        self.commit(Batch { crawl: Some(CrawlMark::End { id: CrawlId(id) }), ..self.batch() }).await;
    }

    /// Reads a collection to its end.
    pub(crate) async fn read(&self, scope: Scope, rows: Vec<Row>) {
        self.read_but(scope, rows, &[]).await;
    }

    /// The same, where records of these rows cannot be read; `None`: of nobody knows which.
    pub(crate) async fn read_but(&self, scope: Scope, rows: Vec<Row>, bad: &[Option<&str>]) {
        let mut batch = self.batch();
        batch.rows = rows;
        let record = |id: &Option<&str>| Quarantined {
            scope: scope.clone(),
            id: id.map(Into::into),
            reason: "status is an object".to_owned(),
        };
        batch.quarantined = bad.iter().map(record).collect();
        batch.walks = vec![WalkUpdate {
            scope,
            state: WalkState::Finished {
                from: batch.at,
                began: Timestamp::default(),
                known_empty: false,
                ended: Vec::new(),
            },
        }];
        self.commit(batch).await;
    }

    pub(crate) async fn put(&self, rows: Vec<Row>) {
        self.commit(Batch { rows, ..self.batch() }).await;
    }

    pub(crate) async fn remove(&self, key: Key) {
        self.commit(Batch { removals: vec![key], ..self.batch() }).await;
    }

    pub(crate) async fn open_gap(&self, scope: Scope, kind: GapKind, evidence: &str) {
        let gap = Gap { scope, kind, evidence: evidence.to_owned() };
        self.commit(Batch { gaps: vec![gap], ..self.batch() }).await;
    }

    pub(crate) async fn close_gap(&self, scope: Scope, kind: GapKind) {
        self.commit(Batch { closed_gaps: vec![(scope, kind)], ..self.batch() }).await;
    }

    pub(crate) fn revision(&self) -> u64 {
        self.store.reader.revisions().borrow().0
    }

    pub(crate) fn view(&self) -> OrgView {
        self.view_with(&GrantPolicySettings::default())
    }

    pub(crate) fn view_with(&self, settings: &GrantPolicySettings) -> OrgView {
        let policy = Arc::new(GrantPolicy::new(settings).unwrap());
        let status = StatusSource::Engine(self.status.subscribe());
        OrgView::new("acme", self.store.reader.clone(), self.search.clone(), policy, status).unwrap()
    }

    /// Writes everything that the store has into the index, as of the present revision.
    pub(crate) fn index(&self) {
        self.index_and(&[]);
    }

    /// The same, and further documents, whether or not their keys are there already.
    pub(crate) fn index_and(&self, further: &[IndexDoc]) {
        let store_id = self.view().store_id().to_owned();
        let revision = self.revision();
        let (eras, era) = self
            .store
            .reader
            .read(|snapshot| Ok((snapshot.eras(), snapshot.era_of(Revision(revision)).map(str::to_owned))))
            .unwrap();
        let eras = eras.into_iter().map(|(name, first)| Era { name, first: first.0 }).collect();
        let dir = self.dir.path().join("index");
        let expect = Expect { store_id: store_id.clone(), eras, revisions: 0..=revision };
        let index = match okta_idmap_index::open(&dir, &expect).unwrap() {
            Opened::Ready(index, _) | Opened::Rebuild(index, _) => index,
        };
        let mut writer = index.writer(HEAP_BYTES_MIN).unwrap();
        for doc in documents() {
            writer.put(&doc).unwrap();
        }
        for doc in further {
            writer.put_new(doc).unwrap();
        }
        writer.commit_at(&Mark { store_id, era: era.unwrap(), revision }).unwrap();
        writer.finish().unwrap();
        self.search.set(Some(index.reader()));
    }

    /// Starts a server over this org alone.
    /// Another process opens the store, with `put_back` in its place where that is given. Answers what was in the file. Tasks of
    /// a server that has ended may still have the old one open, so the other one is another file.
    pub(crate) fn reopen(&mut self, put_back: Option<&[u8]>) -> Vec<u8> {
        let dir = self.dir.path().join("acme");
        // The writer that goes moves everything into the file.
        self.store = open_store(&self.dir.path().join("beside"));
        let file = dir.join(STORE_FILE);
        let content = std::fs::read(&file).unwrap();
        if let Some(earlier) = put_back {
            let beside = dir.join("put-back");
            std::fs::write(&beside, earlier).unwrap();
            for left in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(dir.join([STORE_FILE, left].concat()));
            }
            std::fs::rename(&beside, &file).unwrap();
        }
        self.store = open_store(&dir);
        content
    }

    pub(crate) async fn serve(&self) -> Server {
        Server::start([self.view()]).await
    }
}

pub(crate) fn open_store(dir: &Path) -> Store {
    open_store_with(dir, Filter::default())
}

fn open_store_with(dir: &Path, filter: Filter) -> Store {
    let config = StoreConfig {
        dir: dir.to_owned(),
        brake: Brake::default(),
        credential: "c".to_owned(),
        changes: ChangeRetention::default(),
        filter,
    };
    Store::open(config).unwrap()
}

fn documents() -> Vec<IndexDoc> {
    let mut docs = Vec::new();
    for n in 0..USERS {
        let user = user(n);
        let title = format!("First{n} Müller");
        let mut doc = IndexDoc::new(DocKind::User, user_key(&user.id), title);
        doc.names = user.login.iter().chain(&user.email).map(ToString::to_string).collect();
        doc.ids = vec![user.id.to_string()];
        doc.status = user.status.as_str().to_owned();
        docs.push(doc);
    }
    for group in groups() {
        let mut doc = IndexDoc::new(DocKind::Group, group_key(&group.id), group.name.to_string());
        doc.ids = vec![group.id.to_string()];
        docs.push(doc);
    }
    for app in apps() {
        let mut doc = IndexDoc::new(DocKind::App, app_key(&app.id), app.label.to_string());
        doc.status = app.status.as_str().to_owned();
        doc.apps = vec![app.id.to_string()];
        docs.push(doc);
    }
    for row in accounts() {
        let name = row.user_name.as_deref().unwrap_or_default();
        let mut doc = IndexDoc::new(DocKind::Mapping, mapping_key(&row.app, &row.user), name);
        doc.accounts = vec![name.to_owned()];
        doc.status = row.status.as_str().to_owned();
        doc.apps = vec![row.app.to_string()];
        docs.push(doc);
    }
    docs
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    tasks: JoinSet<Result<(), ServeError>>,
}

impl Server {
    pub(crate) async fn start(views: impl IntoIterator<Item = OrgView>) -> Self {
        Self::start_with(views, ServerSettings::default()).await
    }

    pub(crate) async fn start_with(views: impl IntoIterator<Item = OrgView>, settings: ServerSettings) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let services = Services::new(Orgs::new(views), now);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, services, settings, shutdown.clone()));
        Self { address, shutdown, tasks }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn lookup(&self) -> LookupClient<Channel> {
        LookupClient::new(self.channel().await).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) async fn search(&self) -> SearchClient<Channel> {
        SearchClient::new(self.channel().await).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) async fn coverage(&self) -> CoverageClient<Channel> {
        CoverageClient::new(self.channel().await).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) async fn changes(&self) -> ChangesClient<Channel> {
        ChangesClient::new(self.channel().await).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    pub(crate) async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel().await).max_decoding_message_size(RESPONSE_BYTES_MAX)
    }

    /// Ends the server and waits for it.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}

pub(crate) fn app_by_id(id: &str) -> Option<v1::AppSelector> {
    Some(v1::AppSelector { selector: Some(v1::app_selector::Selector::AppId(id.to_owned())) })
}

pub(crate) fn app_by_any(name: &str) -> Option<v1::AppSelector> {
    Some(v1::AppSelector { selector: Some(v1::app_selector::Selector::Any(name.to_owned())) })
}

pub(crate) fn user_by_id(id: &str) -> Option<v1::UserSelector> {
    Some(v1::UserSelector { selector: Some(v1::user_selector::Selector::UserId(id.to_owned())) })
}

pub(crate) fn user_by_login(login: &str) -> Option<v1::UserSelector> {
    Some(v1::UserSelector { selector: Some(v1::user_selector::Selector::Login(login.to_owned())) })
}

pub(crate) fn user_by_account(app: &str, name: &str) -> Option<v1::UserSelector> {
    let account = account(app, name, v1::IdentifierKind::Unspecified).unwrap();
    Some(v1::UserSelector { selector: Some(v1::user_selector::Selector::Account(account)) })
}

pub(crate) fn account(app: &str, name: &str, kind: v1::IdentifierKind) -> Option<v1::AccountSelector> {
    let identifier = Some(v1::Identifier { value: name.to_owned(), kind: kind.into() });
    Some(v1::AccountSelector { app: app_by_any(app), identifier })
}

/// Completeness and gaps of an answer, in one line.
pub(crate) fn shown_meta(meta: Option<&v1::ResponseMeta>) -> String {
    let meta = meta.unwrap();
    assert_eq!(meta.org, "acme");
    assert_eq!(meta.store_id.len(), 32);
    assert_eq!(meta.gap_ids.is_empty(), meta.completeness() == v1::Completeness::Complete);
    match meta.completeness() {
        v1::Completeness::Complete => "COMPLETE".to_owned(),
        other => format!("{} {} {}", other.as_str_name(), meta.gap_count, meta.gap_ids.join(" "))
            .replace("COMPLETENESS_", ""),
    }
}

//! The same look-ups without a network: the service objects called one by one, beside bare reads of the same store.
//!
//! Entry points: [`Inside::open`], [`Bare::open`].
//!
//! The statements of [`Bare`] are those of whoever would read these tables by hand, with the pragmas of our own readers: what
//! no look-up that goes through SQLite can be faster than.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use okta_idmap::core::batch::Batch;
use okta_idmap::core::model::{Row, User};
use okta_idmap::core::normalize::lookup_key;
use okta_idmap::engine::{OrgRuntime, OrgSettings, clock};
use okta_idmap::serve::{CredentialKind, OrgView, Orgs, SearchHandle, Services, StatusSource};
use okta_idmap::store::{STORE_FILE, Writer};
use okta_idmap_proto::v1::{self, app_selector};
use rusqlite::{Connection, OpenFlags, params};

use crate::fill;
use crate::people;

/// Services over a store as the server opens it: only beside its own writer a reader remembers names and keeps its snapshots.
pub(crate) struct Inside {
    pub(crate) services: Services,
    _org: OrgRuntime,
    writer: Writer,
}

impl Inside {
    pub(crate) async fn open(settings: &OrgSettings) -> Self {
        let (org, writer) = OrgRuntime::open(settings.clone()).unwrap();
        if settings.register.accounts_min.is_some() {
            org.reader().adopt_register(false).await.unwrap();
        }
        let reader = org.reader().clone();
        let search = SearchHandle::new(Some(okta_idmap_index::open_read_only(&settings.index_dir()).unwrap()));
        let status = StatusSource::Direct(CredentialKind::ApiToken);
        let view = OrgView::new(&settings.name, reader, search, Arc::clone(&settings.policy), status).unwrap();
        let view = view.with_coverage_policy(settings.coverage);
        Self { services: Services::new(Orgs::new(vec![view]), fill::now), _org: org, writer }
    }
}

impl Inside {
    /// Commits another name of a user.
    pub(crate) async fn rename(&self, user: u64, name: &str) {
        let now = clock::now();
        let row = Row::User(User { display_name: Some(name.into()), ..people::user(user, now) });
        let batch = Batch { at: self.writer.first_request_number(), now, rows: vec![row], ..Batch::default() };
        self.writer.commit(Box::new(batch)).await.unwrap().await.unwrap().unwrap();
    }
}

/// Times calls, one after the other; what they return tells whether the answer is right, and takes time of its own.
pub(crate) async fn timed<T, F, A>(asked: &[T], call: impl Fn(&T) -> F) -> Vec<Duration>
where
    F: Future<Output = A>,
    A: FnOnce() -> bool,
{
    let mut times = Vec::with_capacity(asked.len());
    for one in asked {
        let began = Instant::now();
        let is_right = call(one).await;
        times.push(began.elapsed());
        assert!(is_right(), "a wrong answer");
    }
    times
}

/// A connection without anything around it.
pub(crate) struct Bare {
    connection: Connection,
    /// Surrogates by id and by label.
    apps: HashMap<String, i64>,
}

impl Bare {
    #[expect(clippy::disallowed_methods, reason = "the limit is SQLite without our store")]
    pub(crate) fn open(dir: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(dir.join(STORE_FILE), flags).unwrap();
        connection.pragma_update(None, "cache_size", -8_192).unwrap();
        let mut apps = HashMap::new();
        let sql = "SELECT i.id, a.label, a.n FROM apps a JOIN ids i ON i.n = a.n";
        let mut select = connection.prepare_cached(sql).unwrap();
        let mut rows = select.query(()).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let n: i64 = row.get(2).unwrap();
            apps.insert(row.get::<_, String>(0).unwrap(), n);
            apps.insert(row.get::<_, String>(1).unwrap(), n);
        }
        drop(rows);
        drop(select);
        Self { connection, apps }
    }

    /// The surrogates of an account, ahead of the clock.
    pub(crate) fn places(&self, selector: &v1::AccountSelector, user: u64) -> (i64, i64) {
        let mut select = self.connection.prepare_cached("SELECT n FROM ids WHERE kind = ?1 AND id = ?2").unwrap();
        let user = select.query_row(params![1, people::user_id(user)], |row| row.get(0)).unwrap();
        (self.app(selector), user)
    }

    fn app(&self, selector: &v1::AccountSelector) -> i64 {
        match selector.app.as_ref().and_then(|app| app.selector.as_ref()) {
            Some(app_selector::Selector::AppId(name) | app_selector::Selector::Label(name)) => self.apps[name],
            other => panic!("nobody asks by {other:?}"),
        }
    }

    /// One row by its key.
    pub(crate) fn point(&self, (app, user): (i64, i64)) -> usize {
        let mut select = self
            .connection
            .prepare_cached("SELECT user_name, external_id, status FROM app_users WHERE app = ?1 AND user = ?2")
            .unwrap();
        let name: Option<String> = select.query_row([app, user], |row| row.get(0)).unwrap_or_default();
        name.map_or(0, |name| name.len())
    }

    /// The least that a resolution has to read, in one transaction: who has the name, in the app and in Okta, and both rows.
    pub(crate) fn resolution(&self, selector: &v1::AccountSelector) -> usize {
        let value = selector.identifier.as_ref().map(|identifier| identifier.value.as_str()).unwrap_or_default();
        let (app, key) = (self.app(selector), lookup_key(value).unwrap().to_stored());
        let sql = self.connection.unchecked_transaction().unwrap();
        let mut users: Vec<i64> = Vec::new();
        let mut select = sql.prepare_cached("SELECT user FROM account_keys WHERE app = ?1 AND key = ?2").unwrap();
        users.extend(select.query_map([app, key], |row| row.get::<_, i64>(0)).unwrap().flatten());
        let mut select = sql.prepare_cached("SELECT user FROM user_keys WHERE key = ?1").unwrap();
        users.extend(select.query_map([key], |row| row.get::<_, i64>(0)).unwrap().flatten());
        users.sort_unstable();
        users.dedup();
        let mut length = 0;
        for user in users {
            let mut select = sql.prepare_cached("SELECT status, login, email FROM users WHERE n = ?1").unwrap();
            let login: Option<String> = select.query_row([user], |row| row.get(1)).unwrap_or_default();
            length += login.map_or(0, |login| login.len()) + self.point((app, user));
        }
        length
    }
}

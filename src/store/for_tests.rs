//! What tests of the store begin with: an empty store, and rows that say no more than a test needs.

use std::path::Path;

use super::{ChangeRetention, Store, StoreConfig};
use crate::core::batch::{Batch, Receipt};
use crate::core::filter::Filter;
use crate::core::ids::{AppId, GroupId, RequestNumber, UserId};
use crate::core::model::{
    App, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupType, Row, User, UserStatus,
};
use crate::core::reconcile::Brake;

/// A store of its own, and what its writer runs on.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) dir: tempfile::TempDir,
    /// What it is opened with the next time.
    pub(super) filter: Filter,
    runtime: tokio::runtime::Runtime,
}

impl Opened {
    pub(super) fn new(filter: Filter) -> Self {
        Self::at(tempfile::tempdir().unwrap(), filter)
    }

    fn at(dir: tempfile::TempDir, filter: Filter) -> Self {
        let (brake, credential, changes) = (Brake::default(), "c".to_owned(), ChangeRetention::default());
        let config = StoreConfig { dir: dir.path().to_owned(), brake, credential, changes, filter: filter.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { store: Store::open(config).unwrap(), dir, filter, runtime }
    }

    /// The same store, opened again after something was done to its files.
    pub(super) fn stopped(self, then: impl FnOnce(&Path)) -> Self {
        let Self { store, dir, filter, runtime } = self;
        drop(store);
        drop(runtime);
        then(dir.path());
        Self::at(dir, filter)
    }

    /// Waits for something.
    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Commits a batch, as the first request of this process unless it says of which.
    pub(super) fn commit(&self, mut batch: Batch) -> Receipt {
        if batch.at == RequestNumber::default() {
            batch.at = self.store.writer.first_request_number();
        }
        let receipt = async { self.store.writer.commit(Box::new(batch)).await.unwrap().await };
        self.runtime.block_on(receipt).unwrap().unwrap()
    }
}

pub(super) fn app_id(n: u64) -> AppId {
    AppId::new(&format!("0oa{n}")).unwrap()
}

pub(super) fn user_id(n: u64) -> UserId {
    UserId::new(&format!("00u{n}")).unwrap()
}

pub(super) fn app(n: u64, label: &str) -> Row {
    Row::App(App {
        id: app_id(n),
        name: "jira".into(),
        label: label.into(),
        status: AppStatus::Active,
        sign_on_mode: None,
        features: Vec::new(),
        credential_scheme: None,
        shared_user_name: None,
        user_name_template: None,
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    })
}

pub(super) fn user(n: u64, login: &str, first_name: &str) -> Row {
    Row::User(User {
        id: user_id(n),
        status: UserStatus::Active,
        login: Some(login.into()),
        email: None,
        second_email: None,
        first_name: Some(first_name.into()),
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

pub(super) fn app_user(app: u64, user: u64, user_name: &str, via_group: Option<GroupId>) -> Row {
    Row::AppUser(AppUser {
        app: app_id(app),
        user: user_id(user),
        user_name: Some(user_name.into()),
        external_id: None,
        email: None,
        status: AppUserStatus::Active,
        scope: if via_group.is_some() { AssignmentScope::Group } else { AssignmentScope::User },
        sync_state: None,
        via_group,
        created: None,
        last_updated: None,
        status_changed: None,
    })
}

pub(super) fn group(n: u64) -> GroupId {
    GroupId::new(&format!("00g{n}")).unwrap()
}

pub(super) fn stored_group(n: u64) -> Row {
    Row::Group(Group {
        id: group(n),
        name: "Engineers".into(),
        description: None,
        group_type: GroupType::OktaGroup,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    })
}

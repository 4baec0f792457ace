//! The copy as what the server's own resolution reads. Entry point: [`At`].

use std::sync::Arc;

use super::Mirror;
use crate::core::coverage::{Asked, OnGap};
use crate::core::ids::{AppId, Timestamp, UserId};
use crate::core::model::{App, AppUser, Scope, User};
use crate::core::normalize::{Identifier, LookupKey, NameRule};
use crate::core::overrides::OverrideRecord;
use crate::core::policy::GrantPolicy;
use crate::core::resolve::{AskedOf, NameField};
use crate::serve::{Facts, Gaps};
use crate::store::{AccountHit, HeldName};

/// A copy at the moment of a question.
pub(super) struct At<'a> {
    pub(super) mirror: &'a Mirror,
    pub(super) now: Timestamp,
}

/// Only the server has the hashes of the names that it filters.
#[derive(Debug)]
pub(super) struct OnlyServerKnows;

impl At<'_> {
    fn asked(&self, with_objects: bool) -> Asked {
        let mark = &self.mirror.mark;
        // Rows and coverage are of one moment: nothing closes in between.
        Asked {
            now: self.now,
            observed_through: mark.observed_at,
            generation: None,
            policy: self.mirror.policy.coverage,
            with_objects,
        }
    }

    fn gaps_of(&self, scopes: &[Scope], with_objects: bool) -> Gaps {
        let mut gaps = Gaps::default();
        gaps.add(&self.mirror.coverage.completeness(self.asked(with_objects), scopes));
        gaps
    }
}

impl Facts for At<'_> {
    type Error = OnlyServerKnows;

    fn policy(&self) -> &GrantPolicy {
        &self.mirror.policy.grant
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn gaps(&self, scopes: &[Scope]) -> Gaps {
        self.gaps_of(scopes, true)
    }

    fn gaps_of_known(&self, scopes: &[Scope]) -> Gaps {
        self.gaps_of(scopes, false)
    }

    fn candidates(
        &self,
        app: &AppId,
        key: LookupKey,
        of: AskedOf,
        limit: usize,
    ) -> Result<Arc<[AccountHit]>, OnlyServerKnows> {
        let table = &self.mirror.table;
        let hit = |user: &UserId| AccountHit {
            user: table.user(user).cloned(),
            app_user: table.app_user(app, user).cloned(),
        };
        Ok(table.with_key(app, key, of, limit).into_iter().map(hit).collect())
    }

    fn user(&self, user: &UserId) -> Result<Option<User>, OnlyServerKnows> {
        Ok(self.mirror.table.user(user).cloned())
    }

    fn app_user(&self, app: &AppId, user: &UserId) -> Result<Option<AppUser>, OnlyServerKnows> {
        Ok(self.mirror.table.app_user(app, user).cloned())
    }

    fn held_names(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<HeldName>, OnlyServerKnows> {
        let table = &self.mirror.table;
        if table.is_cut() { Err(OnlyServerKnows) } else { Ok(table.held_names(app, key, limit)) }
    }

    fn overrides_with_key(&self, app: &AppId, key: LookupKey) -> Result<Vec<OverrideRecord>, OnlyServerKnows> {
        Ok(self.mirror.table.overrides_with_key(app, key))
    }

    fn is_filtered_name(
        &self,
        app: &App,
        _name: Identifier<'_>,
        _fields: &[(NameField, NameRule)],
    ) -> Result<bool, OnlyServerKnows> {
        // An account that everybody shares is nobody's, whatever the filter says.
        if self.mirror.mark.keeps_filtered_names && !app.is_shared_account() { Err(OnlyServerKnows) } else { Ok(false) }
    }

    fn withholds_account(&self, app: &AppId, user: &UserId) -> bool {
        let policy = self.mirror.policy.coverage;
        if policy.on_gap == OnGap::Keep && policy.max_stale_millis.is_none() {
            return false;
        }
        let scopes = [
            Scope::AppUsers(app.clone()),
            Scope::Users,
            Scope::User(user.clone()),
            Scope::Apps,
            Scope::App(app.clone()),
        ];
        scopes.iter().any(|scope| self.mirror.coverage.withholds(scope, self.now, policy))
    }

    fn is_stale(&self, scope: &Scope) -> bool {
        self.mirror.coverage.is_stale(scope)
    }

    fn is_any_stale(&self) -> bool {
        self.mirror.coverage.open_gaps() > 0
    }
}

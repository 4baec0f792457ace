//! What the resolution of an account reads: of the server's store, or of a client's copy.
//!
//! Entry point: [`Facts`]. [`super::resolution`] decides and words the answer by these alone, so that whoever has the same
//! facts gives the same answer.

use std::sync::Arc;

use super::ask::Ask;
use super::errors::Failure;
use super::gaps::Gaps;
use crate::core::ids::{AppId, Timestamp, UserId};
use crate::core::model::{App, AppUser, Scope, User};
use crate::core::normalize::{Identifier, LookupKey, NameRule};
use crate::core::overrides::OverrideRecord;
use crate::core::policy::GrantPolicy;
use crate::core::resolve::{AskedOf, NameField};
use crate::store::{AccountHit, HeldName};

/// One consistent state of an org, and the moment of the question.
pub(crate) trait Facts {
    /// Why something cannot be read.
    type Error;

    /// What grants.
    fn policy(&self) -> &GrantPolicy;

    /// The time of the question, by the server's clock.
    fn now(&self) -> Timestamp;

    /// The gaps of a few collections, with those of objects in them that are not shown.
    fn gaps(&self, scopes: &[Scope]) -> Gaps;

    /// The same for objects that were chosen by their ids.
    fn gaps_of_known(&self, scopes: &[Scope]) -> Gaps;

    /// Everybody who may be meant by a name in an app, by such fields, at most `limit`.
    fn candidates(
        &self,
        app: &AppId,
        key: LookupKey,
        of: AskedOf,
        limit: usize,
    ) -> Result<Arc<[AccountHit]>, Self::Error>;

    /// A user, where a read has shown it.
    fn user(&self, user: &UserId) -> Result<Option<User>, Self::Error>;

    /// An account.
    fn app_user(&self, app: &AppId, user: &UserId) -> Result<Option<AppUser>, Self::Error>;

    /// Who had a name before, in the app or as login or e-mail: the latest ones first, at most `limit`.
    fn held_names(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<HeldName>, Self::Error>;

    /// Operators' overrides of names with this key, over or not, by number. All of them.
    fn overrides_with_key(&self, app: &AppId, key: LookupKey) -> Result<Vec<OverrideRecord>, Self::Error>;

    /// Whether somebody whom the filter keeps out is known to have the name.
    fn is_filtered_name(
        &self,
        app: &App,
        name: Identifier<'_>,
        fields: &[(NameField, NameRule)],
    ) -> Result<bool, Self::Error>;

    /// Whether an account, or what it hangs on, is kept back.
    fn withholds_account(&self, app: &AppId, user: &UserId) -> bool;

    /// Whether rows of the scope may be outdated.
    fn is_stale(&self, scope: &Scope) -> bool;

    /// Whether any scope may be.
    fn is_any_stale(&self) -> bool;
}

impl Facts for Ask<'_> {
    type Error = Failure;

    fn policy(&self) -> &GrantPolicy {
        Ask::policy(self)
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn gaps(&self, scopes: &[Scope]) -> Gaps {
        Ask::gaps(self, scopes)
    }

    fn gaps_of_known(&self, scopes: &[Scope]) -> Gaps {
        Ask::gaps_of_known(self, scopes)
    }

    fn candidates(&self, app: &AppId, key: LookupKey, of: AskedOf, limit: usize) -> Result<Arc<[AccountHit]>, Failure> {
        Ok(self.snapshot.candidates(app, key, of, limit)?)
    }

    fn user(&self, user: &UserId) -> Result<Option<User>, Failure> {
        Ok(self.snapshot.user(user)?)
    }

    fn app_user(&self, app: &AppId, user: &UserId) -> Result<Option<AppUser>, Failure> {
        Ok(self.snapshot.app_user(app, user)?)
    }

    fn held_names(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<HeldName>, Failure> {
        Ok(self.snapshot.held_names(app, key, limit)?)
    }

    fn overrides_with_key(&self, app: &AppId, key: LookupKey) -> Result<Vec<OverrideRecord>, Failure> {
        Ok(self.snapshot.overrides_with_key(app, key)?)
    }

    fn is_filtered_name(
        &self,
        app: &App,
        name: Identifier<'_>,
        fields: &[(NameField, NameRule)],
    ) -> Result<bool, Failure> {
        Ok(self.snapshot.is_filtered_name(Some(&app.id), name, fields)?)
    }

    fn withholds_account(&self, app: &AppId, user: &UserId) -> bool {
        Ask::withholds_account(self, app, user)
    }

    fn is_stale(&self, scope: &Scope) -> bool {
        Ask::is_stale(self, scope)
    }

    fn is_any_stale(&self) -> bool {
        Ask::is_any_stale(self)
    }
}

//! What answers about accounts and principals read: of the server's store, or of a client's copy.
//!
//! Entry point: [`Facts`]. [`super::resolution`], [`super::subjects`] and [`super::acl`] decide and word their answers by these
//! alone, so that whoever has the same facts gives the same answer.

use std::sync::Arc;

use okta_idmap_proto::v1;

use super::ask::Ask;
use super::errors::Failure;
use super::gaps::{Gaps, Wide};
use super::withhold::Withholds;
use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{App, AppUser, Group, Scope, User};
use crate::core::normalize::{Identifier, LookupKey, NameRule};
use crate::core::overrides::OverrideRecord;
use crate::core::policy::GrantPolicy;
use crate::core::principal::Encoder;
use crate::core::resolve::{AskedOf, NameField};
use crate::store::{AccountHit, GroupOfApp, HeldName, WayOf};

/// One consistent state of an org, and the moment of the question.
pub(crate) trait Facts: Withholds {
    /// Why something cannot be read, or the question has no answer.
    type Error: From<Failure>;

    /// What the answer says about itself.
    fn meta(&self, gaps: &Gaps) -> v1::ResponseMeta;

    /// What makes principals of this org.
    fn encoder(&self) -> Result<Encoder, Self::Error>;

    /// What grants.
    fn policy(&self) -> &GrantPolicy;

    /// The time of the question, by the server's clock.
    fn now(&self) -> Timestamp;

    /// The gaps of a few collections, with those of objects in them that are not shown.
    fn gaps(&self, scopes: &[Scope]) -> Gaps;

    /// The same for objects that were chosen by their ids.
    fn gaps_of_known(&self, scopes: &[Scope]) -> Gaps;

    /// Whether [`Facts::gaps_of_principals`] costs no more than a point read.
    fn knows_gaps_of_principals(&self) -> Result<bool, Self::Error>;

    /// The gaps that could hide a principal of a user who was chosen ([`Wide::Principals`]).
    fn gaps_of_principals(&self) -> Result<Gaps, Self::Error>;

    /// All apps.
    fn apps(&self) -> Result<&[App], Self::Error>;

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

    /// Users who may be meant by a login or e-mail, at most `limit`.
    fn users_with_key(&self, key: LookupKey, limit: usize) -> Result<Vec<User>, Self::Error>;

    /// Whether an account or a membership names the user.
    fn is_named(&self, user: &UserId) -> Result<bool, Self::Error>;

    /// An account.
    fn app_user(&self, app: &AppId, user: &UserId) -> Result<Option<AppUser>, Self::Error>;

    /// Who had a name before, in the app or as login or e-mail: the latest ones first, at most `limit`.
    fn held_names(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<HeldName>, Self::Error>;

    /// Operators' overrides of names with this key, over or not, by number. All of them.
    fn overrides_with_key(&self, app: &AppId, key: LookupKey) -> Result<Vec<OverrideRecord>, Self::Error>;

    /// Whether somebody whom the filter keeps out is known to have the name, in the app or in Okta.
    fn is_filtered_name(
        &self,
        app: Option<&App>,
        name: Identifier<'_>,
        fields: &[(NameField, NameRule)],
    ) -> Result<bool, Self::Error>;

    /// Whether the filter is known to keep out a user. Not asked of one who is shown.
    fn is_filtered_user(&self, user: &UserId) -> Result<bool, Self::Error>;

    /// Whether the filter is known to keep out a group. Not asked of one that is shown.
    fn is_filtered_group(&self, group: &GroupId) -> Result<bool, Self::Error>;

    /// A group, where a read has shown it.
    fn group(&self, group: &GroupId) -> Result<Option<Group>, Self::Error>;

    /// How a group belongs to an app, whether or not the list of groups shows it.
    fn is_group_of_app(&self, app: &AppId, group: &GroupId) -> Result<GroupOfApp, Self::Error>;

    /// Groups of an app with exactly this name: all, or `limit` of them.
    fn groups_named(&self, app: &AppId, name: &str, limit: usize) -> Result<Vec<Group>, Self::Error>;

    /// The first group by id that is assigned to an app and that no list shows.
    fn unseen_group_of(&self, app: &AppId) -> Result<Option<GroupId>, Self::Error>;

    /// The built-in group of all users, where it is visible.
    fn everyone_group(&self) -> Result<Option<GroupId>, Self::Error>;

    /// The groups that a user is in, `Everyone` included, each with the apps that have it and in which the user has an account,
    /// whatever its status. One that is assigned and imported comes twice. In no order, at most `limit`.
    fn ways_of(&self, user: &UserId, limit: usize) -> Result<Vec<WayOf>, Self::Error>;

    /// Whether a row of the scope may be outdated: by the id that its record carries there.
    fn is_stale(&self, scope: &Scope, row: &str) -> bool;

    /// Whether any row may be.
    fn is_any_stale(&self) -> bool;
}

impl Facts for Ask<'_> {
    type Error = Failure;

    fn meta(&self, gaps: &Gaps) -> v1::ResponseMeta {
        Ask::meta(self, gaps)
    }

    fn encoder(&self) -> Result<Encoder, Failure> {
        Ok(Encoder::new(self.snapshot.org_id()?.ok_or(Failure::OrgIdUnknown)?))
    }

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

    fn knows_gaps_of_principals(&self) -> Result<bool, Failure> {
        self.knows_wide_gaps(Wide::Principals)
    }

    fn gaps_of_principals(&self) -> Result<Gaps, Failure> {
        self.wide_gaps_of_user(Wide::Principals)
    }

    fn apps(&self) -> Result<&[App], Failure> {
        Ok(Ask::apps(self)?)
    }

    fn candidates(&self, app: &AppId, key: LookupKey, of: AskedOf, limit: usize) -> Result<Arc<[AccountHit]>, Failure> {
        Ok(self.snapshot.candidates(app, key, of, limit)?)
    }

    fn user(&self, user: &UserId) -> Result<Option<User>, Failure> {
        Ok(self.snapshot.user(user)?)
    }

    fn users_with_key(&self, key: LookupKey, limit: usize) -> Result<Vec<User>, Failure> {
        Ok(self.snapshot.users_by_key(key, limit)?)
    }

    fn is_named(&self, user: &UserId) -> Result<bool, Failure> {
        let snapshot = self.snapshot;
        Ok(!snapshot.accounts(user, None, 1)?.rows.is_empty() || !snapshot.groups_of(user, None, 1)?.rows.is_empty())
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
        app: Option<&App>,
        name: Identifier<'_>,
        fields: &[(NameField, NameRule)],
    ) -> Result<bool, Failure> {
        Ok(self.snapshot.is_filtered_name(app.map(|app| &app.id), name, fields)?)
    }

    fn is_filtered_user(&self, user: &UserId) -> Result<bool, Failure> {
        Ok(self.snapshot.is_filtered_user(user)?)
    }

    fn is_filtered_group(&self, group: &GroupId) -> Result<bool, Failure> {
        Ok(self.snapshot.is_filtered_group(group)?)
    }

    fn group(&self, group: &GroupId) -> Result<Option<Group>, Failure> {
        Ok(self.snapshot.group(group)?)
    }

    fn is_group_of_app(&self, app: &AppId, group: &GroupId) -> Result<GroupOfApp, Failure> {
        Ok(self.snapshot.is_group_of_app(app, group)?)
    }

    fn groups_named(&self, app: &AppId, name: &str, limit: usize) -> Result<Vec<Group>, Failure> {
        Ok(self.snapshot.groups_named(app, name, limit)?)
    }

    fn unseen_group_of(&self, app: &AppId) -> Result<Option<GroupId>, Failure> {
        Ok(self.snapshot.unseen_group_of(app)?)
    }

    fn everyone_group(&self) -> Result<Option<GroupId>, Failure> {
        Ok(self.snapshot.everyone_group()?)
    }

    fn ways_of(&self, user: &UserId, limit: usize) -> Result<Vec<WayOf>, Failure> {
        Ok(self.snapshot.ways_of(user, limit)?)
    }

    fn is_stale(&self, scope: &Scope, row: &str) -> bool {
        Ask::is_stale(self, scope, row)
    }

    fn is_any_stale(&self) -> bool {
        Ask::is_any_stale(self)
    }
}

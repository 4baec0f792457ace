//! A copy of an org in memory that answers as its server does. Pure: no IO, no clock, no tasks.
//!
//! Entry points: [`Mirror::resolve`], [`Mirror::resolve_acl`], [`Mirror::expand_user`] for whoever asks; [`Draft`] for whoever follows a stream `Changes.Watch` with
//! `for_resolution`.
//!
//! | part | what it is |
//! |---|---|
//! | `table`, `groups` | the rows and the keys under which names are found |
//! | `draft` | events that are not shown yet, and when they are |
//! | `decode`, `encode` | messages to rows, checked; the copy as the events that would make it again |
//! | `facts` | the copy as what the server's own answers are read from |
//!
//! What a copy cannot tell, so that the answer is [`Answer::OnlyServerKnows`]:
//! - whether a name that nobody has belongs to somebody whom the server's filter keeps out, as far as the server says that it
//!   knows such names; whether the id of a user or group without a row is one that the filter keeps out. The hashes of these do
//!   not leave the server;
//! - principals, before it was told the org ([`Mirror::tell_org`]): the id of the org is in none of the events.
//!
//! Invariants:
//! - A mirror is the server's store at one revision: it is only changed from one consistent checkpoint to another.
//! - What it answers is decided by the server's own code, from the same rows, coverage and policy.
//! - It grows up to a limit of rows, and never beyond.

mod decode;
mod draft;
mod encode;
mod facts;
mod groups;
#[cfg(test)]
mod principal_tests;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use okta_idmap_proto::limits::{GAP_IDS_MAX, REQUEST_BYTES_MAX};
use okta_idmap_proto::v1;
use prost::Message as _;

pub use self::draft::{Change, Draft, Step};
use self::facts::{At, NoAnswer, Remembered};
use self::table::Table;
use super::error::Refusal;
use crate::core::coverage::{Coverage, CoveragePolicy};
use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{AppUser, User};
use crate::core::policy::GrantPolicy;
use crate::core::principal::{ENCODER_VERSION, Encoder};
use crate::serve::{AccountQuery, Facts as _, Wanted, expand_user_whole, resolve_acl, resolve_by_facts};

/// What answers are made of, as this version knows it: see `ResolutionPolicy.facts_version`.
pub(crate) const FACTS_VERSION: u32 = 1;

/// Why a copy cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// The org is larger than the copy may be.
    #[error("the org has more than {limit} rows, which is the limit of this copy: raise it, or ask the server")]
    TooManyRows {
        /// The limit.
        limit: usize,
    },
    /// The server does not send what answers are made of.
    #[error("the server is too old to be copied: update it")]
    ServerTooOld,
    /// The server answers by rules or from facts that this version does not have.
    #[error("the server answers by newer rules ({what}) than this client knows: update the client")]
    ServerTooNew {
        /// Which.
        what: &'static str,
    },
    /// What the server answers by has changed such that this copy lacks what it would need: a new list has it.
    #[error("the copy has to be listed again: {what}")]
    MustList {
        /// What has changed.
        what: &'static str,
    },
    /// An event makes no sense.
    #[error("the server sent an event that makes no sense: {what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },
}

/// What grants and what is too old, as the server is configured.
#[derive(Clone, Debug)]
struct Policy {
    grant: Arc<GrantPolicy>,
    coverage: CoveragePolicy,
    /// As it came, for the file.
    wire: v1::ResolutionPolicy,
}

/// Where a copy stands.
#[derive(Clone, Debug)]
struct Mark {
    meta: v1::ResponseMeta,
    served_at: Timestamp,
    observed_at: Option<Timestamp>,
    keeps_filtered_names: bool,
    /// The policy in one word, as the checkpoint said.
    policy_id: String,
}

/// What a copy says to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<T = v1::ResolveAccountResponse> {
    /// What the server says at the same revision.
    Local(Box<T>),
    /// The copy lacks something that the answer may depend on, as hashes of those whom the filter keeps out: only the server
    /// can tell.
    OnlyServerKnows,
}

/// Which org principals are of, as its server says with each of them.
#[derive(Clone, Debug)]
pub struct OrgTold {
    store_id: String,
    encoder: Encoder,
}

impl OrgTold {
    /// Reads the answer to an access list that names nobody, which holds one principal: deny-all. `None`: it is another one, or
    /// the principals of the server are of another version than those that a copy would make.
    pub fn read(answer: &v1::ResolveAclResponse) -> Option<Self> {
        let ([deny_all], Some(meta)) = (answer.principals.as_slice(), &answer.meta) else { return None };
        let encoder = Encoder::of_deny_all(deny_all).filter(|_| answer.encoder_version == ENCODER_VERSION)?;
        Some(Self { store_id: meta.store_id.clone(), encoder })
    }
}

fn answer<T>(answered: Result<T, NoAnswer>) -> Result<Answer<T>, Box<Refusal>> {
    match answered {
        Ok(answer) => Ok(Answer::Local(Box::new(answer))),
        Err(NoAnswer::OnlyServerKnows) => Ok(Answer::OnlyServerKnows),
        Err(NoAnswer::Refused(failure)) => Err(Box::new(Refusal::from(failure.status()))),
    }
}

/// A user's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountOf<'a> {
    /// The app.
    pub app: &'a AppId,
    /// The account.
    pub row: &'a AppUser,
}

/// One consistent state of an org.
#[derive(Clone, Debug)]
pub struct Mirror {
    table: Table,
    coverage: Coverage,
    policy: Policy,
    mark: Mark,
    /// When names were last looked through that were released long ago, by the server's clock.
    forgotten_at: Timestamp,
    remembered: Remembered,
    /// What makes principals; `None`: nobody has told the org.
    encoder: Option<Encoder>,
}

impl Mirror {
    /// The revision that this is a copy of, in the store of [`Mirror::store_id`].
    pub fn revision(&self) -> u64 {
        self.mark.meta.revision
    }

    /// The store.
    pub fn store_id(&self) -> &str {
        &self.mark.meta.store_id
    }

    /// Where a stream goes on from this state.
    pub fn position(&self) -> v1::ChangePosition {
        let v1::ResponseMeta { revision, store_id, era, .. } = &self.mark.meta;
        v1::ChangePosition { revision: *revision, store_id: store_id.clone(), era: era.clone() }
    }

    /// Whether this state is what a context demands, or came of it. Of another era only the server knows whether it came before.
    pub(crate) fn is_at_least(&self, context: &v1::RequestContext) -> bool {
        let meta = &self.mark.meta;
        context.at_least_revision <= meta.revision
            && (context.store_id.is_empty() || context.store_id == meta.store_id)
            && (context.era.is_empty() || (context.at_least_revision > 0 && context.era == meta.era))
    }

    /// The configuration of the server that this state answers by, in one word: see `Checkpoint.policy_id`. Where it is another
    /// one than before, any answer may be another one.
    pub fn policy_id(&self) -> &str {
        &self.mark.policy_id
    }

    /// What the last checkpoint said of the org as a whole.
    pub fn meta(&self) -> &v1::ResponseMeta {
        &self.mark.meta
    }

    /// The server's time when this state was told.
    pub fn served_at(&self) -> Timestamp {
        self.mark.served_at
    }

    /// Rows and held names in the copy.
    pub fn row_count(&self) -> usize {
        self.table.len()
    }

    /// Who an account belongs to, at a time by the server's clock: what `Lookup.ResolveAccount` answers at the same revision
    /// and time, granting groups left out. The context of the request is not looked at.
    ///
    /// # Errors
    /// A request that the server would refuse, as it would refuse it.
    pub fn resolve(&self, request: &v1::ResolveAccountRequest, now: Timestamp) -> Result<Answer, Box<Refusal>> {
        let query = AccountQuery::read(request.account.as_ref());
        let query = query.map_err(|failure| Box::new(Refusal::from(failure.status())))?;
        let wanted =
            Wanted { candidates: request.include_candidates, granting_groups: false, gap_ids_max: GAP_IDS_MAX };
        let at = At { mirror: self, now };
        answer(resolve_by_facts(&at, &query, wanted).map(|resolved| v1::ResolveAccountResponse {
            meta: Some(at.meta(&resolved.gaps)),
            resolution: Some(resolved.resolution),
        }))
    }

    /// Which org this is a copy of: needed for principals, and in none of the events. It stays told while the copy is changed or
    /// listed again, of the same store; what is told of another store counts as nothing. `None`: nobody knows, or no longer.
    pub fn tell_org(&mut self, told: Option<&OrgTold>) {
        let told = told.filter(|told| told.store_id == self.store_id());
        self.encoder = told.map(|told| told.encoder.clone());
    }

    /// The principals of a document, at a time by the server's clock: what `Lookup.ResolveAcl` answers at the same revision and
    /// time. The context of the request is not looked at. Costs some microseconds per entry.
    ///
    /// # Errors
    /// A request that the server would refuse, as it would refuse it.
    pub fn resolve_acl(
        &self,
        request: &v1::ResolveAclRequest,
        now: Timestamp,
    ) -> Result<Answer<v1::ResolveAclResponse>, Box<Refusal>> {
        if request.encoded_len() > REQUEST_BYTES_MAX {
            return Ok(Answer::OnlyServerKnows);
        }
        answer(resolve_acl(&At { mirror: self, now }, request))
    }

    /// The principals of a person, at a time by the server's clock: what `Lookup.ExpandUser` answers at the same revision and
    /// time. The context of the request is not looked at. Costs microseconds; the first time after apps, groups or the coverage
    /// have changed, about a microsecond more per app, and group of an app, of the org.
    ///
    /// # Errors
    /// A request that the server would refuse, as it would refuse it.
    pub fn expand_user(
        &self,
        request: &v1::ExpandUserRequest,
        now: Timestamp,
    ) -> Result<Answer<v1::ExpandUserResponse>, Box<Refusal>> {
        if request.encoded_len() > REQUEST_BYTES_MAX {
            return Ok(Answer::OnlyServerKnows);
        }
        answer(expand_user_whole(&At { mirror: self, now }, request))
    }

    /// A user's row.
    pub fn user(&self, user: &UserId) -> Option<&User> {
        self.table.user(user)
    }

    /// A user's accounts in the order of the apps. Rows only: what they grant says [`Mirror::resolve`], and what may be
    /// missing [`Mirror::meta`].
    pub fn accounts_of(&self, user: &UserId) -> impl Iterator<Item = AccountOf<'_>> {
        self.table.accounts_of(user)
    }

    /// The groups that list a user as a member, in order; `Everyone` lists nobody. Rows only.
    pub fn groups_of(&self, user: &UserId) -> impl Iterator<Item = &GroupId> {
        self.table.groups_of(user)
    }
}

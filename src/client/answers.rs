//! What a copy is asked: answered here if it can tell and is young enough, else by the server.
//!
//! Entry points: [`Reflector::resolve`], [`Reflector::resolve_acl`], [`Reflector::expand_user`], each also without the server.
//!
//! Invariant: a question that the copy cannot answer for sure is asked of the server as it came, but for the org.

use okta_idmap_proto::v1;

use super::age::Told;
use super::calls::account;
use super::error::Refusal;
use super::mirror::{Answer, Mirror};
use super::reflector::{Reflector, ReflectorError};
use crate::core::ids::Timestamp;

impl Reflector {
    /// Who has `name` in `app`? The app is an id, a label or an integration name; the name is compared as every kind.
    ///
    /// # Errors
    /// As [`Reflector::resolve`].
    pub async fn who(&self, app: &str, name: &str) -> Result<v1::ResolveAccountResponse, ReflectorError> {
        self.resolve(&v1::ResolveAccountRequest { account: Some(account(app, name)), ..Default::default() }).await
    }

    /// Who an account belongs to: from the copy if it can tell, else by the server.
    ///
    /// # Errors
    /// [`ReflectorError::Question`], [`ReflectorError::Server`].
    pub async fn resolve(
        &self,
        request: &v1::ResolveAccountRequest,
    ) -> Result<v1::ResolveAccountResponse, ReflectorError> {
        match found(self.resolve_here(request))? {
            Some(answer) => Ok(answer),
            None => {
                let context = self.of_org(request.context.as_ref());
                Ok(self.client.resolve_account(v1::ResolveAccountRequest { context, ..request.clone() }).await?)
            }
        }
    }

    /// The same from the copy alone. Granting groups and demands on the answer are for the server.
    ///
    /// # Errors
    /// [`ReflectorError::NotReady`] without a copy that is young enough, [`ReflectorError::Question`].
    pub fn resolve_here(&self, request: &v1::ResolveAccountRequest) -> Result<Answer, ReflectorError> {
        self.here(request.context.as_ref(), |mirror, now| match request.include_granting_groups {
            true => Ok(Answer::OnlyServerKnows),
            false => mirror.resolve(request, now),
        })
    }

    /// The principals to index with a document: from the copy if it can tell, else by the server. At most 1,000 entries.
    ///
    /// # Errors
    /// [`ReflectorError::Question`], [`ReflectorError::Server`].
    pub async fn resolve_acl(&self, request: &v1::ResolveAclRequest) -> Result<v1::ResolveAclResponse, ReflectorError> {
        match found(self.resolve_acl_here(request))? {
            Some(answer) => Ok(answer),
            None => {
                let context = self.of_org(request.context.as_ref());
                Ok(self.client.resolve_acl(v1::ResolveAclRequest { context, ..request.clone() }).await?)
            }
        }
    }

    /// The same from the copy alone. Demands on the answer are for the server, and groups by an id that no list shows; so is
    /// everything as long as the server has not told which org it is of.
    ///
    /// # Errors
    /// [`ReflectorError::NotReady`] without a copy that is young enough, [`ReflectorError::Question`].
    pub fn resolve_acl_here(
        &self,
        request: &v1::ResolveAclRequest,
    ) -> Result<Answer<v1::ResolveAclResponse>, ReflectorError> {
        self.here(request.context.as_ref(), |mirror, now| mirror.resolve_acl(request, now))
    }

    /// The principals to filter a person's queries by: from the copy if it can tell, else by the server. At most 20,000.
    ///
    /// # Errors
    /// [`ReflectorError::Question`], [`ReflectorError::Server`].
    pub async fn expand_user(&self, request: &v1::ExpandUserRequest) -> Result<v1::ExpandUserResponse, ReflectorError> {
        match found(self.expand_user_here(request))? {
            Some(answer) => Ok(answer),
            None => {
                let context = self.of_org(request.context.as_ref());
                Ok(self.client.expand_user(v1::ExpandUserRequest { context, ..request.clone() }).await?)
            }
        }
    }

    /// The same from the copy alone. Demands on the answer are for the server, and users by an id that no list shows; so is
    /// everything as long as the server has not told which org it is of.
    ///
    /// # Errors
    /// [`ReflectorError::NotReady`] without a copy that is young enough, [`ReflectorError::Question`].
    pub fn expand_user_here(
        &self,
        request: &v1::ExpandUserRequest,
    ) -> Result<Answer<v1::ExpandUserResponse>, ReflectorError> {
        self.here(request.context.as_ref(), |mirror, now| mirror.expand_user(request, now))
    }

    /// What the copy says, if it is young enough and what the context demands.
    fn here<T>(
        &self,
        context: Option<&v1::RequestContext>,
        ask: impl FnOnce(&Mirror, Timestamp) -> Result<Answer<T>, Box<Refusal>>,
    ) -> Result<Answer<T>, ReflectorError> {
        let Some(seen) = self.shared.seen() else { return Err(ReflectorError::NotReady) };
        let age = seen.told.as_ref().map(Told::age).filter(|age| *age <= self.settings.age_max);
        let (Some(mirror), Some(age)) = (&seen.mirror, age) else { return Err(ReflectorError::NotReady) };
        if context.is_some_and(|context| !meets(context, mirror)) {
            return Ok(Answer::OnlyServerKnows);
        }
        let now = mirror.served_at().plus_millis(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        Ok(ask(mirror, now)?)
    }

    /// The context for the server: it may have several orgs.
    fn of_org(&self, context: Option<&v1::RequestContext>) -> Option<v1::RequestContext> {
        let mut context = context.cloned().unwrap_or_default();
        if context.org.is_empty() {
            context.org.clone_from(&self.settings.org);
        }
        Some(context)
    }
}

fn meets(context: &v1::RequestContext, mirror: &Mirror) -> bool {
    (context.org.is_empty() || context.org == mirror.meta().org)
        && context.max_staleness.is_none()
        && mirror.is_at_least(context)
}

/// The answer of the copy; `None`: the server is to be asked.
fn found<T>(here: Result<Answer<T>, ReflectorError>) -> Result<Option<T>, ReflectorError> {
    match here {
        Ok(Answer::Local(answer)) => Ok(Some(*answer)),
        Ok(Answer::OnlyServerKnows) | Err(ReflectorError::NotReady) => Ok(None),
        Err(error) => Err(error),
    }
}

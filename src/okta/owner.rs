//! Whose credential it is: the owner, its roles, its tokens. Most credentials may not read all of it, and nothing needs it.
//!
//! Entry points: [`Client::owner`], [`Client::roles`], [`Client::api_tokens`].

use super::client::Client;
use super::error::OktaError;
use super::wire;
use crate::core::ids::{AppId, UserId};
use crate::core::probe::{ApiToken, Role};

/// Whom administrator roles are given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The owner of an API token.
    User(UserId),
    /// A service app, by its client id.
    ServiceApp(AppId),
}

impl Holder {
    /// Path of its roles. Apps that a role is limited to come along; of roles over groups Okta would tell the groups instead.
    pub fn roles_path(&self) -> String {
        let holder = match self {
            Holder::User(user) => format!("/api/v1/users/{user}"),
            Holder::ServiceApp(client) => format!("/oauth2/v1/clients/{client}"),
        };
        format!("{holder}/roles?expand=targets/catalog/apps")
    }
}

/// Path of the owner of the token in use.
pub const OWNER_PATH: &str = "/api/v1/users/me";

/// Path of the active API tokens.
pub const API_TOKENS_PATH: &str = "/api/v1/api-tokens";

impl Client {
    /// The owner of the API token (facts 10.1). A service app is no user.
    pub async fn owner(&self) -> Result<UserId, OktaError> {
        Ok(self.document(OWNER_PATH, true, wire::decode_owner).await?.0)
    }

    /// The administrator roles of the credential's holder, those through groups among them.
    pub async fn roles(&self, holder: &Holder) -> Result<Vec<Role>, OktaError> {
        Ok(self.document(&holder.roles_path(), true, wire::decode_roles).await?.0)
    }

    /// The active API tokens that the credential may see; the list is not paged (facts 1.2).
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>, OktaError> {
        Ok(self.document(API_TOKENS_PATH, true, wire::decode_api_tokens).await?.0)
    }
}

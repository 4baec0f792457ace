//! Who may read: API tokens. Service apps are in `oauth`.
//!
//! Entry points: [`Auth`], [`ApiToken`]. Facts 10.1: a token lapses 30 days after its last use and dies with its owner.

use crate::ids::{IdKind, UserRef, encode};
use crate::org::{Org, UserStatus};
use crate::time::UnixMs;

/// How long a token lives without use: fixed, renewed by each request (facts 10.1).
const TOKEN_WINDOW_MS: UnixMs = 30 * 86_400_000;

/// An API token of the simulated org.
#[derive(Clone)]
pub struct ApiToken {
    pub(crate) number: u32,
    pub(crate) name: String,
    secret: String,
    pub(crate) owner: UserRef,
    pub(crate) created_ms: UnixMs,
    pub(crate) last_used_ms: UnixMs,
    pub(crate) is_revoked: bool,
}

impl std::fmt::Debug for ApiToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiToken").field("id", &self.id()).field("secret", &"***").finish_non_exhaustive()
    }
}

impl ApiToken {
    /// A token of the given owner, created now.
    pub fn new(number: u32, name: &str, secret: &str, owner: UserRef, now_ms: i64) -> Self {
        let (name, secret) = (name.to_owned(), secret.to_owned());
        Self { number, name, secret, owner, created_ms: now_ms, last_used_ms: now_ms, is_revoked: false }
    }

    /// The `00T..` id.
    pub fn id(&self) -> String {
        encode(IdKind::Token, self.number)
    }

    pub(crate) fn expires_ms(&self) -> UnixMs {
        self.last_used_ms.saturating_add(TOKEN_WINDOW_MS)
    }

    pub(crate) fn is_alive(&self, org: &Org, now_ms: UnixMs) -> bool {
        let owner_is_active = org.user(self.owner.0).is_some_and(|owner| owner.status == UserStatus::Active);
        !self.is_revoked && now_ms < self.expires_ms() && owner_is_active
    }
}

/// What the simulated org accepts as credential.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Anything, even nothing: for tests that are about something else.
    Open,
    /// `Authorization: SSWS <token>` with one of these tokens.
    Ssws(Vec<ApiToken>),
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No credential at all: 403 E0000005.
    NoCredential,
    /// Wrong, revoked, lapsed, or of a kind this org does not know: 401 E0000011.
    InvalidToken,
}

impl Auth {
    /// Checks the `Authorization` header, renews the token it names and returns the user it acts for.
    pub(crate) fn admit(&mut self, header: Option<&str>, org: &Org, now_ms: UnixMs) -> Result<UserRef, Denied> {
        match self {
            Self::Open => Ok(org.administrator()),
            Self::Ssws(tokens) => {
                let presented = header.ok_or(Denied::NoCredential)?;
                let secret = presented.strip_prefix("SSWS ").ok_or(Denied::InvalidToken)?;
                let token = tokens.iter_mut().find(|token| token.secret == secret).ok_or(Denied::InvalidToken)?;
                if !token.is_alive(org, now_ms) {
                    return Err(Denied::InvalidToken);
                }
                token.last_used_ms = now_ms;
                Ok(token.owner)
            }
        }
    }

    /// The tokens, for `/api-tokens`.
    pub(crate) fn tokens(&self) -> &[ApiToken] {
        match self {
            Self::Open => &[],
            Self::Ssws(tokens) => tokens,
        }
    }

    /// Revokes the token with this secret; `false` if there is none.
    pub fn revoke(&mut self, secret: &str) -> bool {
        let Self::Ssws(tokens) = self else { return false };
        let found = tokens.iter_mut().find(|token| token.secret == secret && !token.is_revoked);
        found.map(|token| token.is_revoked = true).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked() {
        let mut org = Org::new();
        let mut auth = Auth::Ssws(vec![ApiToken::new(0, "test", "secret", org.administrator(), 0)]);
        let mut check = |org: &Org, header: Option<&str>, now_ms, expected: Result<UserRef, Denied>| {
            assert_eq!(auth.admit(header, org, now_ms), expected, "{header:?} at {now_ms}");
        };
        let admin = org.administrator();
        check(&org, None, 0, Err(Denied::NoCredential));
        for bad in ["SSWS wrong", "Bearer secret", "secret", "SSWS", ""] {
            check(&org, Some(bad), 0, Err(Denied::InvalidToken));
        }
        check(&org, Some("SSWS secret"), 0, Ok(admin));
        check(&org, Some("SSWS secret"), TOKEN_WINDOW_MS - 1, Ok(admin));
        // Renewed by the last use, so a second window passes; a full one without use does not.
        check(&org, Some("SSWS secret"), 2 * TOKEN_WINDOW_MS - 2, Ok(admin));
        check(&org, Some("SSWS secret"), 3 * TOKEN_WINDOW_MS - 2, Err(Denied::InvalidToken));
        org.deactivate_user(admin).unwrap();
        check(&org, Some("SSWS secret"), 2 * TOKEN_WINDOW_MS, Err(Denied::InvalidToken));
    }

    #[test]
    fn a_revoked_token_is_dead() {
        let org = Org::new();
        let mut auth = Auth::Ssws(vec![ApiToken::new(0, "test", "secret", org.administrator(), 0)]);
        assert!(auth.revoke("secret"));
        assert!(!auth.revoke("secret"));
        assert_eq!(auth.admit(Some("SSWS secret"), &org, 0), Err(Denied::InvalidToken));
        assert!(!format!("{auth:?}").contains("secret\""));
    }
}

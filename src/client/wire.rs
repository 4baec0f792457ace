//! The connection, and the token that goes with each call. Entry points: [`Wire`], [`bearer_of`].
//!
//! Invariant: the token is marked so that the HTTP library does not log it.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::core::secret::Secret;

/// What calls go through.
pub(super) type Wire = InterceptedService<Channel, Bearer>;

/// Adds the token to each call.
#[derive(Clone, Debug)]
pub(super) struct Bearer(pub(super) Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A text that cannot stand in a header. Not the library's error: it might quote what it refuses.
#[derive(Debug, thiserror::Error)]
#[error("the token cannot be sent")]
pub(super) struct NoHeader;

/// The header that carries a token.
pub(super) fn bearer_of(token: &Secret) -> Result<MetadataValue<Ascii>, NoHeader> {
    let header = Secret::new(format!("Bearer {}", token.expose()));
    let mut value = MetadataValue::try_from(header.expose()).map_err(|_| NoHeader)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_and_shown_nowhere() {
        const TOKEN: &str = "oidm_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let value = bearer_of(&Secret::new(TOKEN.to_owned())).unwrap();
        let mut bearer = Bearer(Some(value));
        let request = bearer.call(Request::new(())).unwrap();
        assert_eq!(request.metadata().get("authorization").unwrap().to_str().unwrap(), format!("Bearer {TOKEN}"));
        assert!(!format!("{bearer:?} {request:?}").contains("AAAA"));
        assert!(Bearer(None).call(Request::new(())).unwrap().metadata().is_empty());
        assert!(bearer_of(&Secret::new("a\nb".to_owned())).is_err());
    }
}

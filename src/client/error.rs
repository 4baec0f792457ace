//! What a call may end with. Entry points: [`ClientError`], [`Refusal`].
//!
//! Invariant: the `google.rpc` details are read here, once; whoever calls matches on [`Refusal::reason`].

use std::collections::BTreeMap;
use std::time::Duration;

use okta_idmap_proto::limits::ERROR_DOMAIN;
use okta_idmap_proto::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::options::OptionsError;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server cannot be called like this.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Nobody answers there, or not the one whom the address names.
    #[error("no server answers at {url}")]
    Unreachable {
        /// The address.
        url: String,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server, or the connection to it, says why not.
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
    /// A list has more pages than are wanted.
    #[error("the list has more than {0} pages: ask for more, or for less")]
    TooManyPages(usize),
}

impl ClientError {
    /// What the server said, if it said anything.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Options(_) | Self::Unreachable { .. } | Self::TooManyPages(_) => None,
        }
    }

    /// The reason in the closed vocabulary of the API, if the server gave one that this version knows.
    pub fn reason(&self) -> Option<ErrorReason> {
        self.refusal()?.reason
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(Refusal::from(status)))
    }
}

/// What is wrong with one field of a request, or which precondition is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field (`account.identifier.value`), or the subject of the precondition.
    pub subject: String,
    /// What is wrong, for people.
    pub description: String,
}

/// A status with its details.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// What is wrong, for people; may be empty.
    pub message: String,
    /// Why, in the closed vocabulary of the API; `None` where the server gave none that this version knows.
    pub reason: Option<ErrorReason>,
    /// What belongs to the reason: `orgs`, `role`, `revision`, …
    pub metadata: BTreeMap<String, String>,
    /// Fields of the request that are refused.
    pub fields: Vec<Violation>,
    /// Preconditions that are not met.
    pub preconditions: Vec<Violation>,
    /// When it is worth to ask again, if the server says so.
    pub retry_after: Option<Duration>,
    status: Box<Status>,
}

impl Refusal {
    fn text(&self) -> String {
        let text = if self.message.is_empty() { self.code.description() } else { &self.message };
        match self.reason {
            Some(reason) => format!("{text} ({})", reason.reason()),
            None => text.to_owned(),
        }
    }

    /// The status as it came.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let field = |violation: &tonic_types::FieldViolation| Violation {
            subject: violation.field.clone(),
            description: violation.description.clone(),
        };
        let preconditions = details.precondition_failure().map(|failure| failure.violations.as_slice());
        let precondition = |violation: &tonic_types::PreconditionViolation| Violation {
            subject: violation.subject.clone(),
            description: violation.description.clone(),
        };
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.and_then(|info| ErrorReason::from_reason(&info.reason)),
            metadata: info.map(|info| info.metadata.clone().into_iter().collect()).unwrap_or_default(),
            fields: fields.iter().map(field).collect(),
            preconditions: preconditions.unwrap_or_default().iter().map(precondition).collect(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            status: Box::new(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn details_are_read() {
        let mut details = ErrorDetails::new();
        details.set_error_info("ORG_REQUIRED", ERROR_DOMAIN, [("orgs".to_owned(), "a, b".to_owned())]);
        details.add_bad_request_violation("context.org", "is missing");
        details.add_precondition_failure_violation("REVISION", "store", "is behind");
        details.set_retry_info(Some(Duration::from_secs(2)));
        let status = Status::with_error_details(Code::InvalidArgument, "which org?", details);
        let error = ClientError::from(status);
        let refusal = error.refusal().unwrap();
        assert_eq!(error.to_string(), "which org? (ORG_REQUIRED)");
        assert_eq!(error.reason(), Some(ErrorReason::OrgRequired));
        assert_eq!(refusal.metadata.get("orgs").map(String::as_str), Some("a, b"));
        let violation =
            |subject: &str, text: &str| Violation { subject: subject.to_owned(), description: text.to_owned() };
        assert_eq!(refusal.fields, [violation("context.org", "is missing")]);
        assert_eq!(refusal.preconditions, [violation("store", "is behind")]);
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_not_ours_has_no_reason() {
        let mut details = ErrorDetails::new();
        details.set_error_info("ORG_REQUIRED", "example.com", []);
        let refusal = Refusal::from(Status::with_error_details(Code::NotFound, "", details));
        assert_eq!((refusal.reason, refusal.metadata.len()), (None, 0));
        assert_eq!(refusal.to_string(), Code::NotFound.description());
    }
}

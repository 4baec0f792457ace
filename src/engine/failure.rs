//! Failures of the client in the words of the coverage model.

use crate::core::coverage::ReadFailure;
use crate::okta::{FailureKind, NetworkCause, OktaError};

/// What a failed list page or read by id means for the crawl. `is_users` = the list that has a form without search.
pub fn of(error: &OktaError, is_users: bool) -> ReadFailure {
    let detail = error.to_string();
    match error.kind() {
        FailureKind::Forbidden { missing_scope, .. } => {
            ReadFailure::Forbidden { missing_scope: missing_scope.map(String::from), detail }
        }
        FailureKind::Unauthorized => ReadFailure::Unauthorized { detail },
        FailureKind::CursorGone => ReadFailure::CursorGone,
        FailureKind::NotFound => ReadFailure::NotFound { detail },
        FailureKind::RestartWalk { limit } => ReadFailure::RestartWalk { limit },
        // Search is down, or this org refuses the expression: the plain lists show the same (facts 2.2).
        FailureKind::Unavailable | FailureKind::Rejected { .. } if is_users => ReadFailure::SearchUnavailable,
        // Without a token nothing at all can be read, and it is no matter of one resource.
        FailureKind::Network(_) | FailureKind::Retry | FailureKind::Malformed | FailureKind::Throttled { .. }
            if matches!(error, OktaError::Authorize { .. }) =>
        {
            ReadFailure::Unreachable { detail }
        }
        // Nothing at all can be reached; a time-out or a reset may be the matter of one resource.
        FailureKind::Network(NetworkCause::Dns | NetworkCause::Connect | NetworkCause::Tls) => {
            ReadFailure::Unreachable { detail }
        }
        FailureKind::Network(NetworkCause::Timeout | NetworkCause::Reset)
        | FailureKind::Retry
        | FailureKind::Throttled { .. }
        | FailureKind::NotFoundPage
        | FailureKind::Unavailable
        | FailureKind::Rejected { .. }
        | FailureKind::Malformed => ReadFailure::Failed { detail },
    }
}

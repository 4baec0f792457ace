//! Error reasons as they stand in `google.rpc.ErrorInfo`; the entry point is [`ErrorReason::reason`].
//!
//! Invariant: the string is the name of the enum value without its prefix, so that it can be read back.

use crate::v1::ErrorReason;

/// What the names of all values begin with in the `.proto` file, and what `ErrorInfo.reason` leaves out.
const ERROR_REASON_PREFIX: &str = "ERROR_REASON_";

impl ErrorReason {
    /// The reason for `google.rpc.ErrorInfo.reason`, e.g. `PAGE_TOKEN_EXPIRED`. The domain that belongs to it is
    /// [`crate::limits::ERROR_DOMAIN`].
    pub fn reason(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix(ERROR_REASON_PREFIX).unwrap_or(name)
    }

    /// Reads [`ErrorReason::reason`] back; `None` for a reason that this version does not know.
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::from_str_name(&format!("{ERROR_REASON_PREFIX}{reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reason: &str, expected: Option<ErrorReason>) {
        assert_eq!(ErrorReason::from_reason(reason), expected);
        if let Some(known) = expected {
            assert_eq!(known.reason(), reason);
        }
    }

    #[test]
    fn reasons_are_written_without_prefix() {
        check("PAGE_TOKEN_EXPIRED", Some(ErrorReason::PageTokenExpired));
        check("ORG_REQUIRED", Some(ErrorReason::OrgRequired));
        check("ERROR_REASON_ORG_REQUIRED", None);
        check("org_required", None);
        check("", None);
    }

    #[test]
    fn every_reason_reads_back() {
        // Numbers are dense, so the first unknown one is the end.
        let all: Vec<ErrorReason> = (0..).map_while(|number| ErrorReason::try_from(number).ok()).collect();
        assert_eq!(all.len(), 35);
        for reason in all {
            check(reason.reason(), Some(reason));
        }
    }
}

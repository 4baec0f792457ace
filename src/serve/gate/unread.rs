//! Requests that cannot be read: the library refuses them before a service sees them, and blames the server (`INTERNAL`,
//! `OUT_OF_RANGE`). Entry point: [`unread`].
//!
//! Invariant: what a service has refused stays as it is. It is told by its details, which no failure of ours is without
//! ([`Failure::status`]) and none of the library has.

use http::HeaderMap;
use tonic::{Code, Status};

use super::Failure;

/// The failure that an answer of these headers stands for, if it says that the request could not be read. What the library
/// says of it holds numbers and names of fields, and nothing of what was sent.
pub(super) fn unread(headers: &HeaderMap) -> Option<Failure> {
    let status = Status::from_header_map(headers).filter(|status| status.details().is_empty())?;
    matches!(status.code(), Code::Internal | Code::OutOfRange)
        .then(|| Failure::RequestUnreadable { detail: status.message().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: &Status, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        assert_eq!(unread(&headers).map(|failure| failure.to_string()).as_deref(), expected);
    }

    #[test]
    fn what_the_library_says_of_a_request_is_the_callers_fault() {
        check(&Status::internal("invalid varint"), Some("the request cannot be read: invalid varint"));
        check(&Status::out_of_range("too large"), Some("the request cannot be read: too large"));
        // An encoding that is not spoken here, a caller who has gone.
        check(&Status::unimplemented("gzip"), None);
        check(&Status::cancelled("gone"), None);
        check(&Failure::BrokenOff.status(), None);
        check(&Failure::OrgUnknown.status(), None);
        assert!(unread(&HeaderMap::new()).is_none());
    }
}

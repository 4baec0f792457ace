//! What can go wrong with a call, and the one mapping of it to gRPC.
//!
//! Entry points: [`Failure`], [`Failure::status`] for whole calls, [`Failure::item`] for one item of a batch.
//!
//! Invariants:
//! - Every failure has a code and a reason of the closed vocabulary; the match is exhaustive, so nothing slips out as
//!   `UNKNOWN`.
//! - Messages show what the caller sent or may know. What failed inside stands in the log only.

use std::borrow::Cow;
use std::collections::HashMap;

use okta_idmap_index::{ParseError, QueryError};
use okta_idmap_proto::limits::{ERROR_DOMAIN, OVERRIDES_MAX, RESPONSE_BYTES_MAX, TEXT_BYTES_MAX};
use okta_idmap_proto::v1::{self, ErrorReason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::core::ids::{Revision, Timestamp};
use crate::core::overrides::OVERRIDES_OF_NAME_MAX;
use crate::store::StoreError;

/// Why a call has no answer. Doubts about the data are answers, not failures.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Several orgs are configured and none is named.
    #[error("several orgs are configured: name one of {}", orgs.join(", "))]
    OrgRequired {
        /// Their names.
        orgs: Vec<String>,
    },
    /// No org of that name is configured.
    #[error("no org of that name is configured")]
    OrgUnknown,
    /// A field that is needed is missing.
    #[error("{field} is missing")]
    FieldMissing {
        /// Path of the field in the request.
        field: &'static str,
    },
    /// A field is malformed or beyond its limit.
    #[error("{field}: {detail}")]
    FieldInvalid {
        /// Path of the field in the request.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// An identifier can name no account.
    #[error("{field}: {detail}")]
    IdentifierInvalid {
        /// Path of the field in the request.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The same of a field of a message that stands in another one.
    #[error("{parent}.{failure}")]
    Within {
        /// Path of the field that holds the message.
        parent: &'static str,
        /// What is wrong in it; its text begins with the path in that message.
        failure: Box<Failure>,
    },
    /// More items than allowed.
    #[error("{field}: {found} items, at most {max} are allowed")]
    TooManyItems {
        /// Path of the field in the request.
        field: &'static str,
        /// Items given.
        found: usize,
        /// Items allowed.
        max: usize,
    },
    /// The message itself is none of the rpc, or too large.
    #[error("the request cannot be read: {detail}")]
    RequestUnreadable {
        /// What is wrong with it.
        detail: String,
    },
    /// The page token is malformed or belongs to another query.
    #[error("page_token: {detail}")]
    PageTokenInvalid {
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The list has to be started again.
    #[error("page_token: {detail}; start the list again")]
    PageTokenExpired {
        /// Why.
        detail: &'static str,
    },
    /// Store or index are behind what was asked for.
    #[error("the {what} is at revision {revision}, revision {asked} was asked for")]
    RevisionNotReached {
        /// `store` or `index`.
        what: &'static str,
        /// Revision that was asked for.
        asked: u64,
        /// Revision that is reached.
        revision: Revision,
    },
    /// The answer would be too old.
    #[error("the answer would be older than max_staleness")]
    StalenessExceeded {
        /// How far the log has been followed.
        observed_through: Option<Timestamp>,
    },
    /// The revision counts in another store.
    #[error("the store has been replaced: revisions of the former one cannot be compared")]
    StoreReplaced {
        /// The present store.
        store_id: String,
    },
    /// The revision was made in an era that this store does not come from.
    #[error(
        "the store does not come from that revision: it was put back from a backup, or the revision is of too long ago"
    )]
    StoreRestored {
        /// Where the store is.
        revision: Revision,
        /// The era of that revision; empty where it is not known.
        era: String,
    },
    /// The search query is not understood.
    #[error("{detail}")]
    QuerySyntax {
        /// Byte offset into the query.
        position: usize,
        /// What is wrong.
        detail: String,
    },
    /// The search query has too many or too costly terms.
    #[error("{detail}")]
    QueryTooComplex {
        /// What is too much.
        detail: String,
    },
    /// The index cannot answer yet.
    #[error("the search index is being built; try again later")]
    IndexRebuilding,
    /// The answer does not fit.
    #[error("the response would exceed {RESPONSE_BYTES_MAX} bytes; ask for less")]
    ResponseTooLarge,
    /// A user has more principals than a filter takes.
    #[error("the user is in too many groups of apps: more than {max} {what}")]
    TooManyPrincipals {
        /// What there are too many of.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
    /// Principals are bound to an org whose id is not known.
    #[error(
        "the org has not told its id yet, which principals are bound to: \
         is /.well-known/okta-organization of its domain reachable?"
    )]
    OrgIdUnknown,
    /// Too many calls wait already.
    #[error("too many requests at once; try again later")]
    Overloaded,
    /// The client takes as much as it may.
    #[error("this client is at its limit (server.{limit}): {detail}")]
    ClientBusy {
        /// The setting of the server that it is at.
        limit: &'static str,
        /// What there is too much of, and what to do.
        detail: &'static str,
    },
    /// The server is starting or stopping, or the store is busy beyond its time-out.
    #[error("the server is not ready; try again later")]
    NotServing(#[source] Option<StoreError>),
    /// Okta cannot be asked.
    #[error("nothing can be read from the org now; its status says why")]
    NothingReadable,
    /// The store failed.
    #[error("the store failed; the server's log has the cause")]
    Store(#[source] StoreError),
    /// The index failed.
    #[error("the search index failed; the server's log has the cause")]
    Index(#[source] QueryError),
    /// A call that was to be carried out to its end was not, which is a defect.
    #[error("the call broke off; look whether it was carried out")]
    BrokenOff,
    /// Nothing that is stored names what is to be read.
    #[error("target: nothing that is stored names {id}; whoever is new is found by reading all users, groups or apps")]
    TargetUnknown {
        /// The id as it was sent, which has the form of an id.
        id: String,
    },
    /// The work is the engine's, and there is none.
    #[error("no engine runs here: this process only reads the store")]
    NoEngine,
    /// No gap has this id.
    #[error("no gap has this id")]
    GapUnknown,
    /// The gap is closed, or of another kind.
    #[error("the gap is closed, or not one that holds rows: there is nothing to release")]
    GapNotHeld,
    /// What would be released is not what the operator looked at.
    #[error("{missing} rows are missing by now: look again before they are released")]
    HoldChanged {
        /// Rows that are missing now.
        missing: u64,
    },
    /// The selector means no app.
    #[error("no app of that id, label or name is stored")]
    AppUnknown,
    /// The selector means several apps.
    #[error("{count} apps have that label or name: name one by its id")]
    AppAmbiguous {
        /// How many.
        count: usize,
    },
    /// No user of that id is stored.
    #[error("no user of that id is stored: not in the org, not read yet, or kept out by the filter")]
    UserUnknown,
    /// There is no such override.
    #[error("there is no override of that name: app, kind and spelling must be as they were set")]
    OverrideUnknown,
    /// The override stands in the configuration.
    #[error("the override stands in the server's configuration: take it out there, and start it again")]
    OverrideConfigured,
    /// There are too many overrides.
    #[error("there are {OVERRIDES_MAX} overrides by call already: take back those that are not needed any more")]
    TooManyOverrides,
    /// There are too many overrides of one name.
    #[error(
        "the app has {OVERRIDES_OF_NAME_MAX} overrides of this name in other spellings and kinds already: take back those \
         that are not needed any more"
    )]
    TooManyOverridesOfName,
    /// No credential came with the call, or not a good one.
    #[error(
        "{detail}: this server answers clients that it knows, by `authorization: Bearer <token>` or by certificate"
    )]
    CredentialRequired {
        /// What is wrong with what came.
        detail: &'static str,
    },
    /// The caller may not call this.
    #[error("this needs the role {role}; the caller has {caller}")]
    RoleRequired {
        /// The least role that may.
        role: &'static str,
        /// The caller's role.
        caller: &'static str,
    },
}

/// How a failure shows on the wire.
struct Shown {
    code: Code,
    reason: ErrorReason,
    /// The field that a `BadRequest` names.
    field: Option<Cow<'static, str>>,
    metadata: Vec<(&'static str, String)>,
}

impl Shown {
    fn new(code: Code, reason: ErrorReason) -> Self {
        Self { code, reason, field: None, metadata: Vec::new() }
    }

    fn bad(reason: ErrorReason, field: &'static str) -> Self {
        Self { field: Some(field.into()), ..Self::new(Code::InvalidArgument, reason) }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.metadata.push((name, value.to_string()));
        self
    }
}

impl Failure {
    /// The one exhaustive match.
    fn shown(&self) -> Shown {
        use Code::{FailedPrecondition, Internal, InvalidArgument, NotFound, ResourceExhausted, Unavailable};
        match self {
            Self::OrgRequired { orgs } => {
                Shown::bad(ErrorReason::OrgRequired, "context.org").with("orgs", orgs.join(","))
            }
            Self::OrgUnknown => Shown::new(NotFound, ErrorReason::OrgUnknown),
            Self::FieldMissing { field } => Shown::bad(ErrorReason::FieldMissing, field),
            Self::FieldInvalid { field, .. } => Shown::bad(ErrorReason::FieldInvalid, field),
            Self::IdentifierInvalid { field, .. } => Shown::bad(ErrorReason::IdentifierInvalid, field),
            Self::Within { parent, failure } => {
                let inner = failure.shown();
                let field = inner.field.map(|field| format!("{parent}.{field}").into());
                Shown { field, ..inner }
            }
            Self::TooManyItems { field, .. } => Shown::bad(ErrorReason::TooManyItems, field),
            Self::RequestUnreadable { .. } => Shown::bad(ErrorReason::RequestUnreadable, "request"),
            Self::PageTokenInvalid { .. } => Shown::bad(ErrorReason::PageTokenInvalid, "page_token"),
            Self::PageTokenExpired { .. } => Shown::new(FailedPrecondition, ErrorReason::PageTokenExpired),
            Self::RevisionNotReached { revision, .. } => {
                Shown::new(FailedPrecondition, ErrorReason::RevisionNotReached).with("revision", revision)
            }
            Self::StalenessExceeded { observed_through } => {
                let observed_through = observed_through.map_or_else(String::new, Timestamp::to_iso);
                Shown::new(FailedPrecondition, ErrorReason::StalenessExceeded)
                    .with("observed_through", observed_through)
            }
            Self::StoreReplaced { store_id } => {
                Shown::new(FailedPrecondition, ErrorReason::StoreReplaced).with("store_id", store_id)
            }
            Self::StoreRestored { revision, era } => {
                Shown::new(FailedPrecondition, ErrorReason::StoreRestored).with("revision", revision).with("era", era)
            }
            Self::QuerySyntax { position, .. } => {
                Shown::bad(ErrorReason::QuerySyntax, "query").with("position", position)
            }
            Self::QueryTooComplex { .. } => Shown::bad(ErrorReason::QueryTooComplex, "query"),
            Self::IndexRebuilding => Shown::new(Unavailable, ErrorReason::IndexRebuilding),
            Self::ResponseTooLarge | Self::TooManyPrincipals { .. } => {
                Shown::new(ResourceExhausted, ErrorReason::ResponseTooLarge)
            }
            Self::OrgIdUnknown => Shown::new(FailedPrecondition, ErrorReason::OrgIdUnknown),
            Self::Overloaded => Shown::new(ResourceExhausted, ErrorReason::Overloaded),
            Self::ClientBusy { limit, .. } => {
                Shown::new(ResourceExhausted, ErrorReason::Overloaded).with("limit", format_args!("server.{limit}"))
            }
            Self::NotServing(_) | Self::NothingReadable => Shown::new(Unavailable, ErrorReason::NotServing),
            Self::Store(_) | Self::Index(_) | Self::BrokenOff => Shown::new(Internal, ErrorReason::StorageFailed),
            Self::NoEngine => Shown::new(FailedPrecondition, ErrorReason::NoEngine),
            Self::TargetUnknown { .. } => Shown::new(NotFound, ErrorReason::TargetUnknown),
            Self::GapUnknown => Shown::new(NotFound, ErrorReason::GapUnknown),
            Self::GapNotHeld => Shown::new(FailedPrecondition, ErrorReason::GapNotHeld),
            Self::HoldChanged { missing } => {
                Shown::new(FailedPrecondition, ErrorReason::HoldChanged).with("missing_row_count", missing)
            }
            Self::AppUnknown => Shown::new(NotFound, ErrorReason::AppUnknown),
            Self::AppAmbiguous { .. } => Shown::new(FailedPrecondition, ErrorReason::AppAmbiguous),
            Self::UserUnknown => Shown::new(NotFound, ErrorReason::UserUnknown),
            Self::OverrideUnknown => Shown::new(NotFound, ErrorReason::OverrideUnknown),
            Self::OverrideConfigured => Shown::new(FailedPrecondition, ErrorReason::OverrideConfigured),
            Self::TooManyOverrides | Self::TooManyOverridesOfName => {
                Shown::new(ResourceExhausted, ErrorReason::TooManyOverrides)
            }
            Self::CredentialRequired { .. } => Shown::new(Code::Unauthenticated, ErrorReason::CredentialRequired),
            Self::RoleRequired { role, .. } => {
                Shown::new(Code::PermissionDenied, ErrorReason::RoleRequired).with("role", role)
            }
        }
        .checked(InvalidArgument)
    }

    /// The same failure, met in a message that is a field of another one. What is not about a field stays as it is.
    pub(super) fn within(self, parent: &'static str) -> Self {
        match self {
            Self::FieldMissing { .. }
            | Self::FieldInvalid { .. }
            | Self::IdentifierInvalid { .. }
            | Self::Within { .. } => Self::Within { parent, failure: Box::new(self) },
            other => other,
        }
    }

    /// The status with its `google.rpc` details.
    pub fn status(&self) -> Status {
        let shown = self.shown();
        let message = bounded(self.to_string());
        let mut details = ErrorDetails::new();
        if shown.reason != ErrorReason::Unspecified {
            let metadata: HashMap<String, String> =
                shown.metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            details.set_error_info(shown.reason.reason(), ERROR_DOMAIN, metadata);
        }
        if let Some(field) = shown.field.as_deref() {
            details.add_bad_request_violation(field, message.as_str());
        }
        if shown.code == Code::FailedPrecondition {
            details.add_precondition_failure_violation(shown.reason.reason(), ERROR_DOMAIN, message.as_str());
        }
        Status::with_error_details(shown.code, message, details)
    }

    /// The same for one item of a batch.
    pub fn item(&self) -> v1::ItemError {
        let shown = self.shown();
        v1::ItemError { code: shown.code as i32, reason: shown.reason.into(), message: bounded(self.to_string()) }
    }

    /// Its name in the log.
    pub(super) fn name(&self) -> &'static str {
        self.shown().reason.reason()
    }
}

impl Shown {
    /// `BadRequest` belongs to `INVALID_ARGUMENT` and to nothing else.
    fn checked(self, bad: Code) -> Self {
        debug_assert_eq!(self.field.is_some(), self.code == bad);
        self
    }
}

/// At most [`TEXT_BYTES_MAX`] bytes of a message, cut between characters.
pub(super) fn bounded(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(TEXT_BYTES_MAX));
    message
}

impl From<StoreError> for Failure {
    /// Whether trying again can help is decided here, once.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped { .. } | StoreError::Missing { .. } => Self::NotServing(Some(error)),
            StoreError::Sqlite(_) if error.is_busy() => Self::NotServing(Some(error)),
            StoreError::Sqlite(_)
            | StoreError::Io { .. }
            | StoreError::Locked { .. }
            | StoreError::Damaged { .. }
            | StoreError::Newer { .. }
            | StoreError::Mismatch { .. } => Self::Store(error),
        }
    }
}

/// A failed search of a query that has `prefix_bytes` bytes in front which the caller did not write.
pub(super) fn of_search(error: QueryError, prefix_bytes: usize) -> Failure {
    let parse = match error {
        QueryError::Parse(parse) => parse,
        QueryError::TooBroad => return Failure::QueryTooComplex { detail: error.to_string() },
        QueryError::Page { .. } => {
            return Failure::FieldInvalid { field: "page_token", detail: error.to_string() };
        }
        error => return Failure::Index(error),
    };
    let at = |position: usize| position.saturating_sub(prefix_bytes);
    let (position, what) = match &parse {
        ParseError::TooLong { .. } => {
            let detail = "too long together with what `kinds` leaves out".to_owned();
            return Failure::QueryTooComplex { detail };
        }
        ParseError::TooManyTerms { position } => {
            let detail =
                format!("more than 16 terms, those that `kinds` stands for included, at byte {}", at(*position));
            return Failure::QueryTooComplex { detail };
        }
        ParseError::Empty => (0, "nothing to search for".to_owned()),
        ParseError::OnlyExcluded => (0, "every term is excluded; add one to search for".to_owned()),
        ParseError::UnclosedQuote { position } => (at(*position), "the quote is not closed".to_owned()),
        ParseError::AfterQuote { position } => (at(*position), "a space is missing after the closing quote".to_owned()),
        ParseError::UnknownField { position, name } => (
            at(*position),
            format!("{name:?} is not a filter (kind, status, app, account, id); quote the word to search for it"),
        ),
        ParseError::MissingValue { position } => (at(*position), "a value is missing".to_owned()),
        ParseError::UnknownKind { position, value } => {
            (at(*position), format!("{value:?} is not a kind: expected user, app, group or mapping"))
        }
        ParseError::SuffixNotAllowed { position, suffix } => {
            (at(*position), format!("{suffix:?} works with words and account: only"))
        }
    };
    Failure::QuerySyntax { position, detail: format!("query, at byte {position}: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(failure: Failure, expected: &str) {
        let status = failure.status();
        let details = status.get_error_details();
        let info = details.error_info().map_or("-", |info| info.reason.as_str());
        let field =
            details.bad_request().and_then(|bad| bad.field_violations.first()).map_or("-", |v| v.field.as_str());
        let violation = details
            .precondition_failure()
            .and_then(|failed| failed.violations.first())
            .map_or("-", |v| v.r#type.as_str());
        assert_eq!(format!("{:?} {info} {field} {violation}", status.code()), expected);
        assert!(details.error_info().is_none_or(|info| info.domain == "idmap.v1"));
        assert_ne!(failure.item().code, 0);
    }

    #[test]
    fn failures_have_codes_and_details() {
        let orgs = vec!["a".to_owned(), "b".to_owned()];
        check(Failure::OrgRequired { orgs }, "InvalidArgument ORG_REQUIRED context.org -");
        check(Failure::OrgUnknown, "NotFound ORG_UNKNOWN - -");
        check(Failure::FieldMissing { field: "user" }, "InvalidArgument FIELD_MISSING user -");
        let invalid = |detail: &str| Failure::FieldInvalid { field: "group_id", detail: detail.to_owned() };
        check(invalid("empty"), "InvalidArgument FIELD_INVALID group_id -");
        let detail = "x".to_owned();
        check(
            Failure::IdentifierInvalid { field: "account.identifier", detail: detail.clone() },
            "InvalidArgument IDENTIFIER_INVALID account.identifier -",
        );
        let nested = invalid("empty").within("question").within("request");
        assert_eq!(nested.to_string(), "request.question.group_id: empty");
        check(nested, "InvalidArgument FIELD_INVALID request.question.group_id -");
        check(Failure::OrgUnknown.within("question"), "NotFound ORG_UNKNOWN - -");
        let too_many = Failure::TooManyItems { field: "items", found: 1_001, max: 1_000 };
        check(too_many, "InvalidArgument TOO_MANY_ITEMS items -");
        check(Failure::RequestUnreadable { detail: detail.clone() }, "InvalidArgument REQUEST_UNREADABLE request -");
        check(Failure::BrokenOff, "Internal STORAGE_FAILED - -");
        check(Failure::PageTokenInvalid { detail: "no" }, "InvalidArgument PAGE_TOKEN_INVALID page_token -");
        check(
            Failure::PageTokenExpired { detail: "old" },
            "FailedPrecondition PAGE_TOKEN_EXPIRED - PAGE_TOKEN_EXPIRED",
        );
        check(
            Failure::RevisionNotReached { what: "store", asked: 9, revision: Revision(7) },
            "FailedPrecondition REVISION_NOT_REACHED - REVISION_NOT_REACHED",
        );
        check(
            Failure::StalenessExceeded { observed_through: None },
            "FailedPrecondition STALENESS_EXCEEDED - STALENESS_EXCEEDED",
        );
        check(
            Failure::StoreReplaced { store_id: "s".to_owned() },
            "FailedPrecondition STORE_REPLACED - STORE_REPLACED",
        );
        check(
            Failure::StoreRestored { revision: Revision(7), era: "e".to_owned() },
            "FailedPrecondition STORE_RESTORED - STORE_RESTORED",
        );
        check(Failure::QuerySyntax { position: 3, detail: detail.clone() }, "InvalidArgument QUERY_SYNTAX query -");
        check(Failure::QueryTooComplex { detail }, "InvalidArgument QUERY_TOO_COMPLEX query -");
        check(Failure::IndexRebuilding, "Unavailable INDEX_REBUILDING - -");
        check(Failure::ResponseTooLarge, "ResourceExhausted RESPONSE_TOO_LARGE - -");
        let too_many = Failure::TooManyPrincipals { what: "principals", max: 20_000 };
        check(too_many, "ResourceExhausted RESPONSE_TOO_LARGE - -");
        check(Failure::OrgIdUnknown, "FailedPrecondition ORG_ID_UNKNOWN - ORG_ID_UNKNOWN");
        check(Failure::Overloaded, "ResourceExhausted OVERLOADED - -");
        let client_busy = Failure::ClientBusy { limit: "max_client_calls", detail: "d" };
        check(client_busy, "ResourceExhausted OVERLOADED - -");
        check(Failure::NotServing(None), "Unavailable NOT_SERVING - -");
        check(Failure::NothingReadable, "Unavailable NOT_SERVING - -");
        check(Failure::NoEngine, "FailedPrecondition NO_ENGINE - NO_ENGINE");
        check(Failure::TargetUnknown { id: "00u9".to_owned() }, "NotFound TARGET_UNKNOWN - -");
        check(Failure::GapUnknown, "NotFound GAP_UNKNOWN - -");
        check(Failure::GapNotHeld, "FailedPrecondition GAP_NOT_HELD - GAP_NOT_HELD");
        check(Failure::HoldChanged { missing: 7 }, "FailedPrecondition HOLD_CHANGED - HOLD_CHANGED");
        check(Failure::CredentialRequired { detail: "x" }, "Unauthenticated CREDENTIAL_REQUIRED - -");
        check(Failure::RoleRequired { role: "admin", caller: "read" }, "PermissionDenied ROLE_REQUIRED - -");
    }

    #[test]
    fn inner_errors_do_not_show() {
        let stopped = || StoreError::Stopped { detail: "secret /path".to_owned() };
        check(stopped().into(), "Unavailable NOT_SERVING - -");
        let damaged = StoreError::Damaged { detail: "secret /path".to_owned() };
        let failure = Failure::from(damaged);
        assert!(!failure.status().message().contains("secret"));
        check(failure, "Internal STORAGE_FAILED - -");
        assert!(!Failure::from(stopped()).status().message().contains("secret"));
    }

    #[test]
    fn messages_are_bounded() {
        let long = Failure::FieldInvalid { field: "f", detail: "ä".repeat(2_000) };
        assert!(long.status().message().len() <= TEXT_BYTES_MAX);
    }

    #[test]
    fn positions_are_those_of_the_caller() {
        let unclosed = QueryError::Parse(ParseError::UnclosedQuote { position: 12 });
        let Failure::QuerySyntax { position, .. } = of_search(unclosed, 10) else { panic!("another failure") };
        assert_eq!(position, 2);
        let too_long = QueryError::Parse(ParseError::TooLong { found: 540 });
        check(of_search(too_long, 30), "InvalidArgument QUERY_TOO_COMPLEX query -");
    }
}

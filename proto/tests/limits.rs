//! The comments of the `.proto` files state the numbers of `limits`, and the largest allowed messages fit their maxima.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/compile.rs"]
mod compile;
#[path = "support/package.rs"]
mod package;
#[path = "support/symbols.rs"]
mod symbols;

use std::collections::BTreeMap;

use okta_idmap_proto::limits::*;
use okta_idmap_proto::v1;
use prost::Message as _;
use prost_types::Timestamp;

/// The numbers that stand in a text, e.g. 4 and 100 in `at most 4 MiB or 100`.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(|word| word.parse().ok()).collect()
}

struct Comments(BTreeMap<String, String>);

impl Comments {
    /// Of the files as they are now, not as they were generated last: otherwise an update would have to run twice.
    fn of_package() -> Self {
        Self(
            symbols::symbols(&compile::compile_package().file_descriptor_set())
                .into_iter()
                .map(|symbol| (symbol.name, symbol.comment))
                .collect(),
        )
    }

    #[track_caller]
    fn check(&self, symbol: &str, expected: &[usize]) {
        let comment = &self.0[&format!("idmap.v1.{symbol}")];
        let stated = numbers(comment);
        for limit in expected {
            assert!(stated.contains(&u64::try_from(*limit).unwrap()), "{symbol} does not state {limit}: {comment}");
        }
    }
}

#[test]
fn comments_state_the_limits() {
    let comments = Comments::of_package();
    let paged: Vec<&String> = comments.0.keys().filter(|name| name.ends_with("Request.page_size")).collect();
    assert_eq!(paged.len(), 14, "{paged:?}");
    for symbol in paged {
        let expected = match symbol.as_str() {
            "idmap.v1.SearchRequest.page_size" => [SEARCH_PAGE_SIZE_MAX, SEARCH_PAGE_SIZE_DEFAULT],
            _ => [PAGE_SIZE_MAX, PAGE_SIZE_DEFAULT],
        };
        comments.check(symbol.trim_start_matches("idmap.v1."), &expected);
    }
    comments.check("SearchRequest.page_token", &[SEARCH_HITS_MAX]);
    comments.check("SearchRequest.query", &[SEARCH_QUERY_BYTES_MAX, SEARCH_QUERY_TERMS_MAX]);
    comments.check("Search.Search", &[SEARCH_HITS_MAX]);
    comments.check("SetOverrideRequest.expires_at", &[OVERRIDE_DAYS_MAX]);
    comments.check("SetOverrideRequest.reason", &[OVERRIDE_REASON_BYTES_MAX]);
    comments.check("Override.reason", &[OVERRIDE_REASON_BYTES_MAX]);
    comments.check("TierFact.overrides", &[CANDIDATES_MAX]);
    comments.check("ErrorReason.ERROR_REASON_TOO_MANY_OVERRIDES", &[OVERRIDES_MAX]);
    comments.check("Facet.counts", &[FACET_VALUES_MAX]);
    comments.check("SuggestRequest.max_suggestions", &[SUGGESTIONS_MAX, SUGGESTIONS_DEFAULT]);
    comments.check("SuggestRequest.prefix", &[SUGGEST_PREFIX_BYTES_MAX]);
    comments.check("BatchResolveRequest.items", &[BATCH_ITEMS_MAX]);
    comments.check("BatchResolveItem.correlation_id", &[CORRELATION_ID_BYTES_MAX]);
    comments.check("Lookup.BatchResolve", &[BATCH_ITEMS_MAX, RESPONSE_BYTES_MAX >> 20]);
    comments.check("ResolveAclRequest.entries", &[BATCH_ITEMS_MAX]);
    comments.check("ExpandUserResponse.principals", &[USER_PRINCIPALS_MAX]);
    comments.check("Lookup.ExpandUser", &[USER_PRINCIPALS_MAX, USER_WAYS_MAX]);
    comments.check("Identifier.value", &[IDENTIFIER_BYTES_MAX]);
    comments.check("AppSelector.selector", &[IDENTIFIER_BYTES_MAX]);
    comments.check("AppGroupSelector.selector", &[IDENTIFIER_BYTES_MAX]);
    comments.check("UserSelector.login", &[IDENTIFIER_BYTES_MAX]);
    comments.check("ListAppsRequest.label_contains", &[IDENTIFIER_BYTES_MAX]);
    comments.check("ListGroupsRequest.name_contains", &[IDENTIFIER_BYTES_MAX]);
    comments.check("RequestContext.org", &[ORG_NAME_BYTES_MAX]);
    comments.check("RequestContext.store_id", &[ORG_NAME_BYTES_MAX]);
    comments.check("ListGapsRequest.gap_ids", &[GAP_ID_FILTER_MAX]);
    comments.check("Gap.id", &[ID_BYTES_MAX]);
    comments.check("ExplainResponse.steps", &[EVIDENCE_STEPS_MAX]);
    comments.check("WatchResponse.events", &[CHANGE_EVENTS_MAX]);
    for symbol in ["ResponseMeta", "Resolution", "EvidenceStep", "ScopeStatus"] {
        comments.check(&format!("{symbol}.gap_ids"), &[GAP_IDS_MAX]);
    }
    for symbol in ["Resolution.candidates", "Resolution.app_candidates", "Resolution.holders", "Ambiguity.candidates"] {
        comments.check(symbol, &[CANDIDATES_MAX]);
    }
    comments.check("Resolution.gap_ids", &[ITEM_GAP_IDS_MAX]);
    comments.check("GroupResolution.gap_ids", &[ITEM_GAP_IDS_MAX]);
    comments.check("GrantingGroups.groups", &[GRANTING_GROUPS_MAX]);
    for symbol in ["ItemError.message", "EvidenceStep.summary", "Gap.hides", "Gap.remedy", "QuarantinedRecord.reason"] {
        comments.check(symbol, &[TEXT_BYTES_MAX]);
    }
}

#[test]
fn numbers_are_read_as_whole_words() {
    assert_eq!(numbers("At most 1000; 0 means 100."), [1000, 0, 100]);
    assert_eq!(numbers("T0 and 00g1 are no numbers, 10 is"), [10]);
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn largest_context() -> v1::RequestContext {
    v1::RequestContext {
        org: text(ORG_NAME_BYTES_MAX),
        at_least_revision: u64::MAX,
        max_staleness: Some(prost_types::Duration { seconds: i64::MAX, nanos: i32::MAX }),
        store_id: text(ORG_NAME_BYTES_MAX),
        era: text(ORG_NAME_BYTES_MAX),
    }
}

fn largest_account() -> v1::AccountSelector {
    let app = v1::app_selector::Selector::Any(text(IDENTIFIER_BYTES_MAX));
    v1::AccountSelector {
        app: Some(v1::AppSelector { selector: Some(app) }),
        identifier: Some(v1::Identifier {
            value: text(IDENTIFIER_BYTES_MAX),
            kind: v1::IdentifierKind::ExternalId.into(),
        }),
    }
}

#[test]
fn the_largest_requests_fit() {
    let item =
        v1::BatchResolveItem { correlation_id: text(CORRELATION_ID_BYTES_MAX), account: Some(largest_account()) };
    let batch = v1::BatchResolveRequest {
        context: Some(largest_context()),
        items: vec![item; BATCH_ITEMS_MAX],
        include_candidates: true,
        include_granting_groups: true,
    };
    assert!(batch.encoded_len() <= REQUEST_BYTES_MAX, "{}", batch.encoded_len());
    let entry = v1::AclEntry { principal: Some(v1::acl_entry::Principal::Account(largest_account())) };
    let acl = v1::ResolveAclRequest { context: Some(largest_context()), entries: vec![entry; BATCH_ITEMS_MAX] };
    assert!(acl.encoded_len() <= REQUEST_BYTES_MAX, "{}", acl.encoded_len());
}

/// An account as large as Okta's own limits on names, ids and e-mails let it get (facts 2.1, 4, 5.1); characters take
/// up to four bytes.
fn largest_mapping() -> v1::Account {
    let time = Some(Timestamp { seconds: 253_402_300_799, nanos: 999_000_000 });
    let app_user = v1::AppUser {
        app_id: text(ID_BYTES_MAX),
        user_id: text(ID_BYTES_MAX),
        user_name: text(4 * 100),
        external_id: text(512),
        email: text(4 * 100),
        status_raw: text(64),
        scope_raw: text(64),
        sync_state: text(64),
        via_group_id: text(ID_BYTES_MAX),
        created_at: time,
        last_updated_at: time,
        status_changed_at: time,
        ..v1::AppUser::default()
    };
    let user = v1::UserRef {
        id: text(ID_BYTES_MAX),
        login: text(4 * 100),
        email: text(4 * 100),
        display_name: text(4 * 255),
        ..v1::UserRef::default()
    };
    let app = v1::AppRef { id: text(ID_BYTES_MAX), name: text(255), label: text(4 * 100), ..v1::AppRef::default() };
    v1::Account { app: Some(app), user: Some(user), app_user: Some(app_user) }
}

#[test]
fn the_largest_pages_fit() {
    let meta = v1::ResponseMeta { gap_ids: vec![text(ID_BYTES_MAX); GAP_IDS_MAX], ..v1::ResponseMeta::default() };
    let accounts = v1::ListAppUsersResponse {
        meta: Some(meta.clone()),
        next_page_token: text(PAGE_TOKEN_BYTES_MAX),
        app: None,
        accounts: vec![largest_mapping(); PAGE_SIZE_MAX],
    };
    assert!(accounts.encoded_len() <= RESPONSE_BYTES_MAX, "{}", accounts.encoded_len());
    let account = largest_mapping();
    let resolution = v1::Resolution {
        gap_ids: vec![text(ID_BYTES_MAX); ITEM_GAP_IDS_MAX],
        app: account.app,
        user: account.user,
        app_user: account.app_user,
        ..v1::Resolution::default()
    };
    let result = v1::BatchResolveResult {
        correlation_id: text(CORRELATION_ID_BYTES_MAX),
        result: Some(v1::batch_resolve_result::Result::Resolution(resolution)),
    };
    let batch = v1::BatchResolveResponse { meta: Some(meta), results: vec![result; BATCH_ITEMS_MAX] };
    assert!(batch.encoded_len() <= RESPONSE_BYTES_MAX, "{}", batch.encoded_len());
}

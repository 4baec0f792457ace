//! Tables of [`super`]: answers to kinds, kinds to repetition, and messages.

use super::*;
use crate::okta::transport::TimeoutPhase;

fn endpoint() -> Endpoint {
    Endpoint::of(&url::Url::parse("https://acme.okta.example/api/v1/users?search=secret").unwrap())
}

fn failure(status: u16, headers: &[(&str, &str)], body: &str, on_next_page: bool) -> OktaError {
    let headers = AnswerHeaders::new(headers.iter().copied());
    OktaError::Status(Box::new(StatusFailure::new(endpoint(), status, &headers, body.as_bytes(), on_next_page)))
}

fn with_code(code: &str) -> String {
    format!(r#"{{"errorCode":"{code}","errorSummary":"text","errorCauses":[]}}"#)
}

fn forbidden(code: Option<&str>, missing_scope: Option<&str>) -> FailureKind {
    FailureKind::Forbidden {
        code: code.map(Box::from),
        missing_scope: missing_scope.map(Box::from),
        endpoint: endpoint(),
    }
}

#[test]
fn answers_are_classified() {
    #[track_caller]
    fn check(status: u16, code: &str, expected: FailureKind, trouble: Trouble) {
        let body = if code.is_empty() { String::new() } else { with_code(code) };
        let error = failure(status, &[], &body, false);
        assert_eq!((error.kind(), error.trouble()), (expected, trouble), "{status} {code}");
    }
    let rejected = |code: &str| FailureKind::Rejected { code: Some(code.into()) };
    check(400, "E0000001", rejected("E0000001"), Trouble::Final);
    check(400, "E0000031", rejected("E0000031"), Trouble::Final);
    check(401, "E0000011", FailureKind::Unauthorized, Trouble::Unauthorized);
    check(401, "E0000004", FailureKind::Unauthorized, Trouble::Unauthorized);
    check(401, "", FailureKind::Unauthorized, Trouble::Unauthorized);
    check(401, "E0000015", FailureKind::Unavailable, Trouble::Final);
    check(403, "E0000006", forbidden(Some("E0000006"), None), Trouble::Final);
    check(403, "", forbidden(None, None), Trouble::Final);
    check(405, "E0000022", forbidden(Some("E0000022"), None), Trouble::Final);
    check(404, "E0000007", FailureKind::NotFound, Trouble::Final);
    check(404, "E0000008", FailureKind::Unavailable, Trouble::Final);
    check(404, "E0000026", FailureKind::Unavailable, Trouble::Final);
    check(404, "", FailureKind::NotFoundPage, Trouble::Final);
    check(404, "E0009999", FailureKind::NotFoundPage, Trouble::Final);
    check(408, "", FailureKind::Retry, Trouble::Transient);
    check(423, "E0000239", FailureKind::Retry, Trouble::Transient);
    check(429, "E0000047", FailureKind::Retry, Trouble::Throttled);
    check(500, "E0000009", FailureKind::Retry, Trouble::ServerError);
    check(501, "E0000060", FailureKind::Unavailable, Trouble::Final);
    check(502, "", FailureKind::Retry, Trouble::ServerError);
    check(503, "E0000010", FailureKind::Retry, Trouble::Transient);
    check(503, "E0000100", FailureKind::Unavailable, Trouble::Final);
    check(504, "", FailureKind::Retry, Trouble::TooMuchWork);
    check(418, "", FailureKind::Rejected { code: None }, Trouble::Final);
    check(302, "", FailureKind::Malformed, Trouble::Final);
    check(204, "", FailureKind::Malformed, Trouble::Final);
    check(999, "", FailureKind::Malformed, Trouble::Final);
}

#[test]
fn any_400_on_a_next_page_is_a_stale_cursor() {
    for code in ["E0000029", "E0000031", "E0000054", "E0000001", ""] {
        assert_eq!(failure(400, &[], &with_code(code), true).kind(), FailureKind::CursorGone, "{code}");
    }
    // The proof was stale, not the cursor: the same page again with a new one.
    let proof = failure(400, &[], r#"{"error":"invalid_dpop_proof"}"#, true);
    assert_eq!((proof.kind(), proof.trouble()), (FailureKind::Retry, Trouble::Proof));
    assert_eq!(failure(404, &[], &with_code("E0000007"), true).kind(), FailureKind::NotFound);
    assert_eq!(failure(403, &[], "", true).kind(), forbidden(None, None));
}

#[test]
fn refusals_of_proofs_are_told_from_those_of_tokens() {
    #[track_caller]
    fn check(status: u16, challenge: &str, nonce: &str, code: &str, expected: Option<ProofRefusal>) {
        let headers = [("WWW-Authenticate", challenge), ("DPoP-Nonce", nonce)];
        let headers: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let body = if code.is_empty() { String::new() } else { format!(r#"{{"error":"{code}"}}"#) };
        let OktaError::Status(failure) = failure(status, &headers, &body, false) else { unreachable!() };
        assert_eq!(failure.proof, expected, "{status} {challenge} {nonce} {code}");
    }
    let (named, implied) = (Some(ProofRefusal::Named), Some(ProofRefusal::Implied));
    check(400, "", "", "invalid_dpop_proof", named);
    check(401, "", "n", "use_dpop_nonce", named);
    check(401, r#"DPoP error="use_dpop_nonce", error_description="x""#, "n", "", named);
    check(401, r#"DPoP algs="ES256", error="invalid_dpop_proof""#, "", "", named);
    check(401, r#"DPoP error="use_dpop_nonce""#, "n", "E0000011", named);
    check(401, "", "n", "", implied);
    check(401, r#"DPoP error="invalid_token""#, "n", "", None);
    check(401, "", "n", "E0000011", None);
    check(401, "", "", "", None);
    check(403, "", "n", "", None);
    check(403, "", "n", "use_dpop_nonce", None);
}

#[test]
fn a_front_ends_404_is_no_tombstone() {
    #[track_caller]
    fn check(body: &str) {
        assert_eq!(failure(404, &[], body, false).kind(), FailureKind::NotFoundPage, "{body}");
    }
    check(r#"{"status":404,"message":"Resource not found"}"#);
    check("<html>Not Found E0000007</html>");
    check(r#"[{"errorCode":"E0000007"}]"#);
    check(r#"{"errorCode":"E0000007"#);
    check(r#"{"errorCode":["E0000007"]}"#);
}

#[test]
fn missing_scopes_are_read_from_the_challenge() {
    #[track_caller]
    fn check(challenges: &[&str], expected: Option<&str>) {
        let headers: Vec<_> = challenges.iter().map(|line| ("WWW-Authenticate", *line)).collect();
        assert_eq!(failure(403, &headers, "", false).kind(), forbidden(None, expected), "{challenges:?}");
    }
    let real = r#"Bearer authorization_uri="https://acme.okta.example/oauth2/v1/authorize", realm="https://acme.okta.example", scope="okta.groups.read", error="insufficient_scope", error_description="The access token provided, it says, does not contain the required scopes.", resource="/api/v1/groups""#;
    check(&[real], Some("okta.groups.read"));
    check(&[r#"DPoP algs="RS256 ES256", error="insufficient_scope", scope="okta.logs.read""#], Some("okta.logs.read"));
    check(&[r#"Bearer error="insufficient_scope""#, r#"Bearer scope="okta.apps.read""#], Some("okta.apps.read"));
    check(&["Bearer error=insufficient_scope,scope=okta.apps.read"], Some("okta.apps.read"));
    check(&[r#"Bearer error="invalid_token", scope="okta.apps.read""#], None);
    check(&[r#"Bearer scope="okta.apps.read""#], None);
    check(&[r#"Bearer error="insufficient_scope", scope="""#], None);
    check(&[r#"Bearer error="insufficient_scope", scope="unclosed, x=1"#], Some("unclosed, x=1"));
    check(&["", ",,,", "=", "Bearer"], None);
    check(&[], None);
}

#[test]
fn network_failures_are_classified() {
    #[track_caller]
    fn check(source: SendError, kind: FailureKind, trouble: Trouble) {
        let error = OktaError::Send { endpoint: endpoint(), source };
        assert_eq!((error.kind(), error.trouble()), (kind, trouble), "{error}");
    }
    let network = FailureKind::Network;
    let limit = std::time::Duration::from_secs(60);
    let timeout = |phase| SendError::Timeout { phase, limit };
    check(SendError::Dns { host: "acme".into() }, network(NetworkCause::Dns), Trouble::Transient);
    check(SendError::Connect { reason: "refused".into() }, network(NetworkCause::Connect), Trouble::Transient);
    check(SendError::Tls { reason: "UnknownIssuer".into() }, network(NetworkCause::Tls), Trouble::Final);
    check(timeout(TimeoutPhase::Connect), network(NetworkCause::Timeout), Trouble::Transient);
    check(timeout(TimeoutPhase::Headers), network(NetworkCause::Timeout), Trouble::TooMuchWork);
    check(timeout(TimeoutPhase::Idle), network(NetworkCause::Timeout), Trouble::TooMuchWork);
    check(timeout(TimeoutPhase::Body), network(NetworkCause::Timeout), Trouble::TooMuchWork);
    let broken = SendError::Broken { during: "within the body", reason: "reset".into() };
    check(broken, network(NetworkCause::Reset), Trouble::Transient);
    check(SendError::BodyTooLarge { limit_bytes: 1 }, FailureKind::Malformed, Trouble::TooLarge);
}

#[test]
fn broken_bodies_are_malformed_and_only_some_are_tried_again() {
    #[track_caller]
    fn check(source: BodyError, trouble: Trouble) {
        let error = OktaError::Body { endpoint: endpoint(), request_id: None, source };
        assert_eq!((error.kind(), error.trouble()), (FailureKind::Malformed, trouble), "{error}");
    }
    check(BodyError::Empty, Trouble::Transient);
    check(BodyError::Truncated, Trouble::Transient);
    check(BodyError::NotJson, Trouble::Transient);
    check(BodyError::Html, Trouble::Final);
    check(BodyError::NotArray { code: None }, Trouble::Final);
    check(BodyError::TooManyItems, Trouble::TooLarge);
    check(BodyError::OtherObject, Trouble::Final);
}

#[test]
fn messages_say_what_happened_to_what_and_what_to_do() {
    #[track_caller]
    fn check(error: &OktaError, expected: &[&str]) {
        let message = error.to_string();
        for part in expected {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("secret") && !message.contains('\n'), "{message}");
    }
    let url = "GET https://acme.okta.example/api/v1/users:";
    let id = ("X-Okta-Request-Id", "acmeReq1");
    check(
        &failure(401, &[id], &with_code("E0000011"), false),
        &[url, "status 401 E0000011 \"text\"", "API token", "(request id acmeReq1)"],
    );
    check(&failure(403, &[], &with_code("E0000006"), false), &["status 403 E0000006", "admin role"]);
    let challenge = r#"Bearer error="insufficient_scope", scope="okta.logs.read""#;
    check(&failure(403, &[("www-authenticate", challenge)], "", false), &["grant the OAuth scope okta.logs.read"]);
    check(&failure(403, &[], "<html>blocked\nsecret</html>", false), &["a proxy or firewall refused"]);
    check(&failure(404, &[], "<html>secret</html>", false), &["check that the address is an Okta org"]);
    check(&failure(302, &[("Location", "https://login.example/x?secret")], "", false), &["it leads to login.example"]);
    check(&failure(302, &[("Location", "/x")], "", false), &["a redirect is not followed"]);
    check(&failure(502, &[], "<html>secret</html>", false), &["status 502; a gateway answered"]);
    let body = OktaError::Body { endpoint: endpoint(), request_id: Some("r".into()), source: BodyError::Html };
    check(&body, &[url, "web page instead of JSON", "no Okta org", "(request id r)"]);
    let dns = OktaError::Send { endpoint: endpoint(), source: SendError::Dns { host: "acme.okta.example".into() } };
    check(&dns, &[url, "the host name acme.okta.example was not found"]);
    let restart = OktaError::RestartWalk { limit: 100, source: Box::new(failure(504, &[id], "", true)) };
    check(&restart, &["status 504", "begin again with pages of 100"]);
    assert_eq!((restart.kind(), restart.request_id()), (FailureKind::RestartWalk { limit: 100 }, Some("acmeReq1")));
}

//! The gate as decisions: method, credential and certificate in, passage or failure out.

use tonic::Code;
use tonic_types::StatusExt as _;

use super::*;
use crate::core::access::CertificateName;
use crate::core::certificate::CertificateFacts;

const NOW: Timestamp = Timestamp::from_millis(1_770_000_000_000);
const LIMITS: ClientLimits = ClientLimits { calls: 2, watches: 1, calls_per_second: None, answer_bytes: 1 << 20 };

const READ: &str = "oidm_read-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const EXPLAIN: &str = "oidm_explain-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const ADMIN: &str = "oidm_admin-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn now() -> Timestamp {
    NOW
}

fn gate(access: Access) -> Gate {
    Gate::new(Arc::new(access), LIMITS, true, Arc::default(), now)
}

fn known() -> Access {
    let mut access = Access::default();
    for (name, token, role) in [("r", READ, Role::Read), ("e", EXPLAIN, Role::Explain), ("a", ADMIN, Role::Admin)] {
        assert!(access.add_token(name, role, TokenHash::of(token).unwrap()));
    }
    access.add_certificate(CertificateName::Dns("search.example".to_owned()), Role::Read);
    access
}

fn peer(address: &str, certificate: Option<(&str, i64)>) -> Peer {
    let certificate =
        certificate.map(|(name, good_for_millis)| PeerCertificate::of(facts(name, good_for_millis), false));
    let (stranger, is_proven) = (Arc::new(ClientState::new(LIMITS)), AtomicBool::new(false));
    let (address, standing, cut) = (format!("{address}:1").parse().unwrap(), Standing::default(), Cut::default());
    Peer { address, stranger, certificate, is_proven, standing, cut, stats: Arc::default() }
}

fn facts(name: &str, good_for_millis: i64) -> CertificateFacts {
    CertificateFacts { names: vec![CertificateName::parse(name).unwrap()], not_after: NOW.plus_millis(good_for_millis) }
}

fn headers(authorizations: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in authorizations {
        headers.append(AUTHORIZATION, http::HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// The name of the caller, or the failure.
fn pass(gate: &Gate, path: &str, authorizations: &[&str], peer: &Peer) -> String {
    let method = method_of(path).unwrap();
    match gate.0.admit(method, &headers(authorizations), peer) {
        Ok(admitted) => format!("{:?}", admitted.caller.name()),
        Err(failure) => format!("{:?} {}", failure.status().code(), failure.name()),
    }
}

const GET: &str = "/idmap.v1.Lookup/GetUser";
const EXPLAINS: &str = "/idmap.v1.Lookup/Explain";
const SYNC: &str = "/idmap.v1.Admin/TriggerSync";
const WATCH: &str = "/idmap.v1.Changes/Watch";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

const UNKNOWN: &str = "Unauthenticated CREDENTIAL_REQUIRED";
const FORBIDDEN: &str = "PermissionDenied ROLE_REQUIRED";
const BUSY: &str = "ResourceExhausted OVERLOADED";

#[test]
fn a_token_passes_by_its_role() {
    let gate = gate(known());
    #[track_caller]
    fn check(gate: &Gate, path: &str, authorizations: &[&str], expected: &str) {
        assert_eq!(pass(gate, path, authorizations, &peer("192.0.2.1", None)), expected);
    }
    let [read, explain, admin] = [READ, EXPLAIN, ADMIN].map(|token| format!("Bearer {token}"));
    check(&gate, GET, &[&read], "\"r\"");
    check(&gate, EXPLAINS, &[&read], FORBIDDEN);
    check(&gate, SYNC, &[&read], FORBIDDEN);
    check(&gate, REFLECTION, &[&read], "\"r\"");
    check(&gate, EXPLAINS, &[&explain], "\"e\"");
    check(&gate, GET, &[&explain], "\"e\"");
    check(&gate, SYNC, &[&explain], FORBIDDEN);
    for path in [GET, EXPLAINS, SYNC, WATCH] {
        check(&gate, path, &[&admin], "\"a\"");
    }
    for path in [GET, EXPLAINS, SYNC, WATCH, REFLECTION] {
        check(&gate, path, &[], UNKNOWN);
    }
    check(&gate, HEALTH, &[], "\"\"");
    check(&gate, HEALTH, &["Bearer wrong"], "\"\"");
}

#[test]
fn what_is_no_token_is_refused() {
    let gate = gate(known());
    let hash = TokenHash::of(READ).unwrap();
    let wrong = [
        READ.to_owned(),
        format!("Basic {READ}"),
        format!("Bearer {READ}x"),
        format!("Bearer {}", &READ[..READ.len() - 1]),
        format!("Bearer {READ} {READ}"),
        format!("Bearer {READ}, Bearer {READ}"),
        format!("Bearer {}", READ.to_ascii_uppercase()),
        format!("Bearer {hash}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        String::new(),
        format!("Bearer {}", "x".repeat(10_000)),
    ];
    for wrong in wrong {
        assert_eq!(pass(&gate, GET, &[&wrong], &peer("127.0.0.1", None)), UNKNOWN, "{wrong}");
    }
    // Also two good ones: which of them is meant is nobody's to guess.
    let twice = [&*format!("Bearer {READ}"), &*format!("Bearer {ADMIN}")];
    assert_eq!(pass(&gate, GET, &twice, &peer("127.0.0.1", None)), UNKNOWN);
    assert_eq!(pass(&gate, GET, &[&format!("bearer  {READ} ")], &peer("127.0.0.1", None)), "\"r\"");
}

#[test]
fn a_certificate_passes_while_it_is_good_and_no_token_says_otherwise() {
    let gate = gate(known());
    let good = peer("192.0.2.1", Some(("DNS=search.example", 0)));
    assert_eq!(pass(&gate, GET, &[], &good), "\"DNS=search.example\"");
    assert_eq!(pass(&gate, EXPLAINS, &[], &good), FORBIDDEN);
    assert_eq!(pass(&gate, GET, &["Bearer wrong"], &good), UNKNOWN);
    assert_eq!(pass(&gate, SYNC, &[&format!("Bearer {ADMIN}")], &good), "\"a\"");
    // A connection outlives what it was made with.
    let lapsed = peer("192.0.2.1", Some(("DNS=search.example", -1)));
    assert_eq!(pass(&gate, GET, &[], &lapsed), UNKNOWN);
    for other in ["DNS=other.example", "CN=search.example", "URI=search.example"] {
        assert_eq!(pass(&gate, GET, &[], &peer("192.0.2.1", Some((other, 0)))), UNKNOWN, "{other}");
    }
}

#[test]
fn a_connection_is_proven_by_a_known_client_alone() {
    let gate = gate(known());
    let peer = peer("192.0.2.1", None);
    let is_proven = || peer.is_proven.load(Ordering::Relaxed);
    pass(&gate, HEALTH, &[], &peer);
    pass(&gate, GET, &[], &peer);
    pass(&gate, SYNC, &[&format!("Bearer {READ}")], &peer);
    assert!(!is_proven());
    pass(&gate, GET, &[&format!("Bearer {READ}")], &peer);
    assert!(is_proven());
}

#[test]
fn without_clients_everybody_may_do_everything() {
    let gate = gate(Access::default());
    for path in [GET, EXPLAINS, SYNC, WATCH, HEALTH, REFLECTION] {
        assert_eq!(pass(&gate, path, &[], &peer("127.0.0.1", None)), "\"\"");
        assert_eq!(pass(&gate, path, &["Bearer any"], &peer("192.0.2.1", None)), "\"\"");
    }
}

/// Calls that pass until one is refused, at most ten.
fn passing(gate: &Gate, path: &str, authorizations: &[&str], peer: &Peer) -> usize {
    let method = method_of(path).unwrap();
    let mut held = Vec::new();
    while held.len() < 10 {
        match gate.0.admit(method, &headers(authorizations), peer) {
            Ok(admitted) => held.push(admitted.places),
            Err(failure) => {
                assert_eq!(failure.status().code(), Code::ResourceExhausted);
                break;
            }
        }
    }
    held.len()
}

/// The limit that a refused call is told.
fn limit_of(gate: &Gate, path: &str, authorization: &str, peer: &Peer) -> String {
    let failure = gate.0.admit(method_of(path).unwrap(), &headers(&[authorization]), peer).err().unwrap();
    failure.status().get_details_error_info().unwrap().metadata["limit"].clone()
}

#[test]
fn limits_are_those_of_the_client_wherever_it_calls_from() {
    let gate = gate(known());
    let (read, admin) = (format!("Bearer {READ}"), format!("Bearer {ADMIN}"));
    let (one, other) = (peer("192.0.2.1", None), peer("192.0.2.2", None));
    assert_eq!(passing(&gate, GET, &[&read], &one), 2);
    assert_eq!(passing(&gate, WATCH, &[&read], &one), 1);
    let _held = gate.0.admit(method_of(WATCH).unwrap(), &headers(&[&read]), &one).unwrap();
    assert_eq!(pass(&gate, WATCH, &[&read], &other), BUSY);
    assert_eq!(limit_of(&gate, WATCH, &read, &other), "server.max_client_watches");
    let other_call = gate.0.admit(method_of(GET).unwrap(), &headers(&[&read]), &one).unwrap();
    assert_eq!(limit_of(&gate, GET, &read, &other), "server.max_client_calls");
    drop(other_call);
    assert_eq!(passing(&gate, GET, &[&read], &other), 1);
    assert_eq!(passing(&gate, GET, &[&admin], &one), 2, "another client is not touched");
    assert_eq!(passing(&gate, HEALTH, &[], &one), 2, "who is not known is counted by the address");
}

#[test]
fn programs_of_this_machine_have_no_limits_of_their_own_while_nobody_is_named() {
    let open = gate(Access::default());
    assert_eq!(passing(&open, WATCH, &[], &peer("127.0.0.1", None)), 10);
    assert_eq!(passing(&open, GET, &[], &peer("192.0.2.1", None)), 2);
    assert_eq!(passing(&gate(known()), HEALTH, &[], &peer("127.0.0.1", None)), 2);
}

#[test]
fn refusals_are_told_once_a_second() {
    let log = RefusalLog::default();
    assert_eq!(log.may_tell(NOW), Some(0));
    assert_eq!(log.may_tell(NOW.plus_millis(999)), None);
    assert_eq!(log.may_tell(NOW.plus_millis(999)), None);
    assert_eq!(log.may_tell(NOW.plus_millis(1_000)), Some(2));
    // A clock that is set back silences nothing for long.
    assert_eq!(log.may_tell(NOW.plus_millis(-60_000)), Some(0));
}

/// An answer that goes on for ever.
struct Endless;

impl http_body::Body for Endless {
    type Data = tonic::codegen::Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Status>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_with_the_certificate() {
    let gate = gate(known());
    let peer = peer("192.0.2.1", Some(("DNS=search.example", 5_000)));
    let read = format!("Bearer {READ}");
    // By the token somebody stays known, whatever the certificate of the connection.
    let by_token = gate.0.admit(method_of(WATCH).unwrap(), &headers(&[&read]), &peer).unwrap();
    assert!(gate.0.end_at(by_token.until).is_none());
    let admitted = gate.0.admit(method_of(WATCH).unwrap(), &headers(&[]), &peer).unwrap();
    let end = gate.0.end_at(admitted.until);
    let mut held = Held { end, ..refusal(Status::ok("")).into_body() };
    held.body = Body::new(Endless);
    let mut frame = async || std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut held), cx)).await;
    let begun = tokio::time::Instant::now();
    let ended = frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(5_001));
    let status = Status::from_header_map(&ended).unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("the client certificate has expired"), "{status}");
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert_eq!(details.error_info().unwrap().reason, "CREDENTIAL_REQUIRED");
    assert!(frame().await.is_none());
    // What has lapsed already, or is good for longer than a timer runs.
    assert!(
        gate.0.end_at(Some(NOW.plus_millis(-1))).is_some()
            && gate.0.end_at(Some(Timestamp::from_millis(i64::MAX))).is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_in_time_is_told_that_its_time_is_over() {
    for (waits, millis) in
        [(None, 60_000), (Some("300m"), 300), (Some("2H"), 60_000), (Some("1n"), 1), (Some("x"), 60_000)]
    {
        let peer = Arc::new(peer("127.0.0.1", None));
        let mut request = Request::builder().uri(GET).extension(Arc::clone(&peer));
        if let Some(waits) = waits {
            request = request.header("grpc-timeout", waits);
        }
        let begun = tokio::time::Instant::now();
        // Services that never answer.
        let guarded = gate(Access::default()).guard(|_| Answer::Right(Box::pin(std::future::pending())));
        let answer = guarded(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{waits:?}");
        assert_eq!(begun.elapsed().as_millis(), millis, "{waits:?}");
    }
}

fn without(name: &str, role: Option<Role>) -> Access {
    let mut access = Access::awaiting();
    for (kept, token, kept_role) in [("r", READ, Role::Read), ("e", EXPLAIN, Role::Explain), ("a", ADMIN, Role::Admin)]
    {
        let role = if kept == name { role } else { Some(kept_role) };
        role.iter().for_each(|role| assert!(access.add_token(kept, *role, TokenHash::of(token).unwrap())));
    }
    access
}

#[test]
fn who_may_call_is_replaced_as_a_whole_and_limits_stay() {
    let gate = gate(known());
    let (one, explain, admin) = (peer("192.0.2.1", None), format!("Bearer {EXPLAIN}"), format!("Bearer {ADMIN}"));
    let by_name = peer("192.0.2.2", Some(("DNS=search.example", 0)));
    let held = [(); 2].map(|()| gate.0.admit(method_of(GET).unwrap(), &headers(&[&explain]), &one).unwrap());
    assert_eq!(pass(&gate, GET, &[&explain], &one), BUSY);
    gate.use_access(Arc::new(without("e", Some(Role::Read))));
    assert_eq!(pass(&gate, EXPLAINS, &[&explain], &one), FORBIDDEN);
    assert_eq!(pass(&gate, GET, &[&explain], &one), BUSY, "what it takes is not forgotten");
    drop(held);
    assert_eq!(pass(&gate, GET, &[&explain], &one), "\"e\"");
    assert_eq!(pass(&gate, GET, &[], &by_name), UNKNOWN, "the name in the certificate was taken back");
    gate.use_access(Arc::new(without("e", None)));
    assert_eq!(pass(&gate, GET, &[&explain], &one), UNKNOWN);
    assert_eq!(pass(&gate, GET, &[&admin], &one), "\"a\"");
    // Nobody left: nobody may, and not everybody.
    gate.use_access(Arc::new(Access::awaiting()));
    for authorization in [&[][..], &[admin.as_str()]] {
        assert_eq!(pass(&gate, GET, authorization, &one), UNKNOWN);
    }
    gate.use_access(Arc::new(known()));
    assert_eq!(pass(&gate, EXPLAINS, &[&explain], &one), "\"e\"");
}

/// A stream that somebody has opened.
fn lease(gate: &Gate, authorizations: &[&str], peer: &Arc<Peer>) -> Arc<Lease> {
    let admitted = gate.0.admit(method_of(WATCH).unwrap(), &headers(authorizations), peer).unwrap();
    let (who, need) = admitted.by.unwrap();
    let lease = Lease::new(who, need, Arc::clone(peer));
    gate.0.connections.lease(&lease);
    lease
}

/// What ends the stream, if anything does; without the advice behind it.
fn over(lease: &Lease) -> String {
    let failure = lease.over(Waker::noop()).map(ToString::to_string).unwrap_or_default();
    failure.split(": this server").next().unwrap_or_default().to_owned()
}

#[test]
fn a_stream_goes_on_for_as_long_as_its_call_would_be_let_in() {
    let (gate, cx) = (gate(known()), Context::from_waker(Waker::noop()));
    let [by_token, by_other, by_name] = [None, None, Some(("DNS=search.example", 0))];
    let [by_token, by_other, by_name] = [by_token, by_other, by_name].map(|name| Arc::new(peer("192.0.2.1", name)));
    let [read, admin] = [READ, ADMIN].map(|token| format!("Bearer {token}"));
    let [read, admin, name] =
        [lease(&gate, &[&read], &by_token), lease(&gate, &[&admin], &by_other), lease(&gate, &[], &by_name)];
    assert_eq!(gate.0.sweep(), leases::Swept::default());

    // Its name and role may change.
    gate.use_access(Arc::new(without("a", Some(Role::Read))));
    let swept = gate.0.sweep();
    assert_eq!(
        (swept.told, swept.cut, over(&name)),
        (1, 0, "nobody of this client certificate's names is known".into())
    );
    assert_eq!((over(&read), over(&admin)), (String::new(), String::new()));
    gate.use_access(Arc::new(without("r", None)));
    let swept = gate.0.sweep();
    assert_eq!((swept.told, swept.cut, over(&read)), (1, 1, "the token is not known".into()));
    // That one has not ended since it was told to; the other is told only now.
    assert!(by_name.cut.is_cut(&cx) && !by_token.cut.is_cut(&cx) && !by_other.cut.is_cut(&cx));
    // One that ends in time costs nobody the connection.
    drop(read);
    assert_eq!(gate.0.sweep(), leases::Swept::default());
    assert!(!by_token.cut.is_cut(&cx) && !by_other.cut.is_cut(&cx));
    assert_eq!(gate.0.stats.refused_connections(ConnectionRefusal::Withdrawn), 1);
    drop((admin, name));
    // A certificate lapses by itself, whether its stream is read or not.
    let lapsed = Arc::new(peer("192.0.2.1", Some(("DNS=search.example", -1))));
    let unread = Lease::new(Who::Certificate, Role::Read, Arc::clone(&lapsed));
    gate.0.connections.lease(&unread);
    let swept = [gate.0.sweep(), gate.0.sweep(), gate.0.sweep()].map(|swept| (swept.told, swept.cut));
    assert_eq!((swept, lapsed.cut.is_cut(&cx)), ([(1, 0), (0, 1), (0, 0)], true));
    assert_eq!(over(&unread), "the client certificate has expired");
}

#[test]
fn a_certificate_is_judged_anew_where_roots_and_lists_change() {
    let gate = gate(known());
    let peer = Arc::new(peer("192.0.2.1", Some(("DNS=search.example", 60_000))));
    gate.connections().connect(&peer);
    let open = lease(&gate, &[], &peer);
    assert_eq!(gate.connections().judge_certificates(NOW, |_| true), 0);
    gate.0.sweep();
    assert_eq!((pass(&gate, GET, &[], &peer), over(&open)), ("\"DNS=search.example\"".into(), String::new()));
    assert_eq!(gate.connections().judge_certificates(NOW, |_| false), 1);
    gate.0.sweep();
    let refused = "the client certificate was revoked, or is no longer trusted";
    assert_eq!((pass(&gate, GET, &[], &peer), over(&open)), (UNKNOWN.into(), refused.into()));
    // A token does not help over this connection, and the stream is over for good.
    assert_eq!(pass(&gate, GET, &[&format!("Bearer {READ}")], &peer), UNKNOWN);
    gate.connections().judge_certificates(NOW, |_| true);
    assert_eq!((pass(&gate, GET, &[], &peer), over(&open)), ("\"DNS=search.example\"".into(), refused.into()));
}

/// What each of some sweeps tells to end, and closes.
fn sweeps<const N: usize>(gate: &Gate) -> [(usize, usize); N] {
    [(); N].map(|()| gate.0.sweep()).map(|swept| (swept.told, swept.cut))
}

#[test]
fn a_connection_ends_with_its_certificate_whatever_is_sent_over_it() {
    let (gate, read) = (gate(known()), format!("Bearer {READ}"));
    let with = |good_for_millis, is_required| {
        let certificate = PeerCertificate::of(facts("DNS=search.example", good_for_millis), is_required);
        let peer = Arc::new(Peer { certificate: Some(certificate), ..peer("192.0.2.1", None) });
        gate.connections().connect(&peer);
        peer
    };
    // Lapsed: over where nobody connects without one, else a token decides alone. Also where nobody has called yet.
    let (required, optional) = (with(-1, true), with(-1, false));
    assert_eq!(pass(&gate, GET, &[&read], &required), UNKNOWN);
    let open = lease(&gate, &[&read], &optional);
    assert_eq!(sweeps(&gate), [(0, 0), (0, 1), (0, 0)]);
    let cx = Context::from_waker(Waker::noop());
    assert!(required.cut.is_cut(&cx) && !optional.cut.is_cut(&cx) && over(&open).is_empty());
    // A lapse is no revocation, whatever a handshake would say.
    gate.connections().judge_certificates(NOW, |_| false);
    assert_eq!((pass(&gate, GET, &[&read], &optional), sweeps(&gate)), ("\"r\"".into(), [(0, 0); 2]));
    // Revoked: over, whoever calls, once its stream was told.
    for is_required in [false, true] {
        let revoked = with(60_000, is_required);
        let open = lease(&gate, &[&read], &revoked);
        assert_eq!(sweeps(&gate), [(0, 0); 2]);
        gate.connections().judge_certificates(NOW, |_| false);
        assert_eq!(pass(&gate, GET, &[&read], &revoked), UNKNOWN);
        assert_eq!(sweeps(&gate), [(1, 0), (0, 1), (0, 0)]);
        assert_eq!(over(&open), "the client certificate was revoked, or is no longer trusted");
        assert!(revoked.cut.is_cut(&cx));
    }
    assert_eq!(gate.0.stats.refused_connections(ConnectionRefusal::Withdrawn), 3);
}

#[test]
fn a_connection_ends_when_what_has_proven_it_is_taken_back() {
    let gate = gate(known());
    let [read, explain, admin] = [READ, EXPLAIN, ADMIN].map(|token| format!("Bearer {token}"));
    let [by_read, by_explain, by_both, unproven, streaming] = [(); 5].map(|()| Arc::new(peer("192.0.2.1", None)));
    let all = [&by_read, &by_explain, &by_both, &unproven, &streaming];
    all.into_iter().for_each(|peer| gate.connections().connect(peer));
    let open = lease(&gate, &[&admin], &streaming);
    for (peer, token) in [(&by_read, &read), (&by_explain, &explain), (&by_both, &read), (&streaming, &read)] {
        assert!(!pass(&gate, GET, &[token], peer).starts_with("Un"));
    }
    // The last one counts, and a stream that goes on.
    pass(&gate, GET, &[&explain], &by_both);
    assert_eq!(sweeps(&gate), [(0, 0); 2]);
    gate.use_access(Arc::new(without("r", None)));
    assert_eq!(pass(&gate, GET, &[&read], &by_both), UNKNOWN);
    assert_eq!(sweeps(&gate), [(0, 0), (0, 1), (0, 0)]);
    let cx = Context::from_waker(Waker::noop());
    assert_eq!(all.map(|peer| peer.cut.is_cut(&cx)), [true, false, false, false, false]);
    assert!(over(&open).is_empty());
    // Who is named again in between keeps it.
    gate.use_access(Arc::new(without("e", None)));
    gate.0.sweep();
    gate.use_access(Arc::new(known()));
    assert_eq!(sweeps(&gate), [(0, 0); 3]);
    assert!(!by_explain.cut.is_cut(&cx));
}

#[tokio::test]
async fn a_stream_that_is_read_ends_with_the_reason() {
    let gate = gate(known());
    let (peer, read) = (Arc::new(peer("192.0.2.1", None)), format!("Bearer {READ}"));
    let mut held = Held { lease: Some(lease(&gate, &[&read], &peer)), ..refusal(Status::ok("")).into_body() };
    held.body = Body::new(Endless);
    let frames = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut held), cx));
    let withdrawn = async {
        tokio::task::yield_now().await;
        gate.use_access(Arc::new(without("r", None)));
        gate.0.sweep();
    };
    let (ended, ()) = tokio::join!(frames, withdrawn);
    let status = Status::from_header_map(&ended.unwrap().unwrap().into_trailers().unwrap()).unwrap();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().starts_with("the token is not known"), "{status}");
    // It has ended: its connection stays.
    assert_eq!(gate.0.sweep(), leases::Swept::default());
    assert!(!peer.cut.is_cut(&Context::from_waker(Waker::noop())));
}

#[tokio::test]
async fn answers_that_nobody_takes_are_bounded() {
    let gate = gate(known());
    let peer = peer("192.0.2.1", None);
    let read = format!("Bearer {READ}");
    let answer = |bytes: usize| {
        let admitted = gate.0.admit(method_of(GET).unwrap(), &headers(&[&read]), &peer).unwrap();
        let piece = http_body::Frame::data(tonic::codegen::Bytes::from(vec![7; bytes]));
        let mut held = Held { places: Arc::new(admitted.places), ..refusal(Status::ok("")).into_body() };
        held.body = Body::new(Pieces(vec![piece]));
        held.make_ready().map(|()| held)
    };
    let mut first = answer(700 << 10).unwrap();
    assert_eq!(answer(400 << 10).map(drop).unwrap_err().name(), "OVERLOADED");
    drop(answer(300 << 10).unwrap());
    let next = async |held: &mut Held| std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(held), cx)).await;
    // Handed out, and not taken yet.
    let handed_out = next(&mut first).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(handed_out.len(), 700 << 10);
    assert!(next(&mut first).await.is_none());
    drop(first);
    assert!(answer(400 << 10).is_err());
    drop(handed_out);
    assert!(answer(1 << 20).is_ok());
    // Small ones are let through in any case, and a stream ends where a piece finds no room.
    let full = answer(1 << 20).unwrap();
    assert!(answer(16 << 10).is_ok());
    drop(full);
    let mut stream = answer(0).unwrap();
    let _full = answer(1 << 20).unwrap();
    stream.body = Body::new(Pieces(vec![http_body::Frame::data(vec![7; 20 << 10].into())]));
    stream.ready = None;
    let trailers = next(&mut stream).await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::ResourceExhausted);
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test]
async fn a_small_answer_holds_its_place_until_it_is_taken() {
    let gate = gate(known());
    let (peer, read) = (peer("192.0.2.1", None), format!("Bearer {READ}"));
    let enter = || gate.0.admit(method_of(GET).unwrap(), &headers(&[&read]), &peer).map(|admitted| admitted.places);
    let held_by = |places: Places| {
        let body = Body::new(Pieces(vec![http_body::Frame::data(tonic::codegen::Bytes::from_static(b"small"))]));
        Held { body, places: Arc::new(places), ..refusal(Status::ok("")).into_body() }
    };
    let mut held = held_by(enter().unwrap());
    held.make_ready().unwrap();
    let handed_out = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut held), cx)).await;
    let handed_out = handed_out.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&*handed_out, b"small");
    drop(held);
    let other = enter().unwrap();
    assert!(enter().is_err(), "of two places one is held by what is not sent yet");
    drop(handed_out);
    let mut cut = held_by(enter().unwrap());
    assert!(enter().is_err());
    cut.cut(&Failure::Overloaded).unwrap();
    assert!(enter().is_ok(), "an answer that is cut holds nothing");
    drop(other);
}

/// A body of pieces.
struct Pieces(Vec<http_body::Frame<tonic::codegen::Bytes>>);

impl http_body::Body for Pieces {
    type Data = tonic::codegen::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Status>>> {
        Poll::Ready(self.0.pop().map(Ok))
    }
}

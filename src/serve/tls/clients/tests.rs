//! Which certificates are let in beside which lists; and that whatever the library lets in can be read.

use std::time::Duration;

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    SigningKey as _, date_time_ymd,
};

use super::*;
use crate::core::ids::Timestamp;

struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str, points: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if !points.is_empty() {
        let uris = points.iter().map(|&point| point.to_owned()).collect();
        params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    }
    params
}

impl Authority {
    fn new(name: &str) -> Self {
        Self::made(name, None, 1, &[], &KeyPair::generate().unwrap().serialize_pem())
    }

    /// One below another.
    fn below(&self, name: &str, number: u64, points: &[&str]) -> Self {
        Self::made(name, Some(self), number, points, &KeyPair::generate().unwrap().serialize_pem())
    }

    fn made(name: &str, above: Option<&Self>, number: u64, points: &[&str], key: &str) -> Self {
        let mut params = params(name, points);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(number));
        let key = KeyPair::from_pem(key).unwrap();
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Self { der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn client(&self, number: u64, points: &[&str]) -> CertificateDer<'static> {
        let mut params = params("client", points);
        params.serial_number = Some(SerialNumber::from(number));
        params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().der().clone()
    }

    fn list_until(&self, revoked: &[u64], point: Option<(&str, Option<CrlScope>)>, year: i32) -> RevocationList {
        let revoked = revoked.iter().map(|number| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let point = point.map(|(uri, scope)| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec![uri.to_owned()] },
            scope,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: point,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let der = list.signed_by(&self.issuer).unwrap().der().clone();
        RevocationList { facts: RevocationListFacts::read(&der).unwrap(), der }
    }

    /// The list of all, or one of several of all.
    fn whole(&self, revoked: &[u64]) -> RevocationList {
        self.list_until(revoked, None, 2200)
    }

    fn part(&self, point: &str, revoked: &[u64]) -> RevocationList {
        self.list_until(revoked, Some((point, None)), 2200)
    }
}

fn verifier(roots: &[&Authority], lists: Vec<RevocationList>) -> ClientVerifier {
    let mut store = RootCertStore::empty();
    roots.iter().for_each(|root| store.add(root.der.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientVerifier::new(store, lists, &provider, false).unwrap()
}

/// In 2050, when all certificates and nearly all lists are good.
fn outcome(verifier: &ClientVerifier, leaf: &CertificateDer<'_>, above: &[&Authority]) -> String {
    let above: Vec<CertificateDer<'_>> = above.iter().map(|authority| authority.der.clone()).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(2_524_608_000));
    match verifier.verify_client_cert(leaf, &above, now) {
        Ok(_) => "good".to_owned(),
        Err(Error::InvalidCertificate(CertificateError::Revoked)) => "revoked".to_owned(),
        Err(Error::InvalidCertificate(CertificateError::UnknownRevocationStatus)) => "unknown".to_owned(),
        Err(Error::InvalidCertificate(CertificateError::ExpiredRevocationListContext { .. })) => "too old".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

const A: &str = "http://lists.example/a.crl";
const B: &str = "http://lists.example/b.crl";

#[test]
fn every_list_of_an_issuer_is_asked() {
    let root = Authority::new("root");
    #[track_caller]
    fn check(verifier: &ClientVerifier, leaf: &CertificateDer<'_>, expected: &str) {
        assert_eq!(outcome(verifier, leaf, &[]), expected);
    }
    let none = verifier(&[&root], Vec::new());
    check(&none, &root.client(7, &[]), "good");
    check(&none, &root.client(7, &[A]), "good");
    check(&none, &Authority::new("root").client(7, &[]), "InvalidCertificate(BadSignature)");

    // Several of all: whoever is on one is revoked.
    for lists in [[&[7][..], &[8], &[]], [&[], &[8], &[7]], [&[8, 7], &[], &[]]] {
        let several = verifier(&[&root], lists.iter().map(|revoked| root.whole(revoked)).collect());
        for (number, expected) in [(5, "good"), (7, "revoked"), (8, "revoked")] {
            check(&several, &root.client(number, &[]), expected);
            check(&several, &root.client(number, &[A]), expected);
        }
    }

    // Parts: whoever names one is looked up in that one, and must name one that is there.
    let parts = verifier(&[&root], vec![root.part(A, &[7]), root.part(B, &[8])]);
    for (number, points, expected) in [
        (5, &[A][..], "good"),
        (5, &[B], "good"),
        (5, &["http://lists.example/c.crl", B], "good"),
        (7, &[A], "revoked"),
        (8, &[B], "revoked"),
        (8, &[A], "good"),
        (8, &[A, B], "revoked"),
        (7, &[B, A], "revoked"),
        (5, &["http://lists.example/c.crl"], "unknown"),
        (5, &["http://LISTS.example/a.crl"], "unknown"),
        (5, &[], "unknown"),
    ] {
        check(&parts, &root.client(number, points), expected);
    }
    // One part alone does not speak of those who name none either.
    let part = verifier(&[&root], vec![root.part(A, &[7])]);
    check(&part, &root.client(5, &[A]), "good");
    check(&part, &root.client(5, &[]), "unknown");

    // Parts and one of all, in any order.
    for is_first in [true, false] {
        let mut lists = vec![root.part(A, &[7])];
        lists.insert(usize::from(!is_first), root.whole(&[9]));
        let both = verifier(&[&root], lists);
        check(&both, &root.client(5, &[]), "good");
        check(&both, &root.client(9, &[]), "revoked");
        check(&both, &root.client(9, &[A]), "revoked");
        check(&both, &root.client(9, &[B]), "revoked");
        check(&both, &root.client(7, &[A]), "revoked");
        check(&both, &root.client(7, &[B]), "good");
    }
}

#[test]
fn a_list_that_cannot_be_believed_lets_nobody_in_of_whom_it_speaks() {
    let (root, other) = (Authority::new("root"), Authority::new("root"));
    #[track_caller]
    fn check(root: &Authority, lists: Vec<RevocationList>, points: &[&str], expected: &str) {
        assert_eq!(outcome(&verifier(&[root], lists), &root.client(5, points), &[]), expected);
    }
    let unsigned = "InvalidCertRevocationList(BadSignature)";
    check(&root, vec![root.whole(&[]), other.whole(&[])], &[], unsigned);
    check(&root, vec![other.whole(&[]), root.whole(&[])], &[], unsigned);
    check(&root, vec![root.part(A, &[]), other.part(B, &[])], &[B], unsigned);
    check(&root, vec![root.part(A, &[]), other.part(B, &[])], &[A], "good");
    let old = || root.list_until(&[], None, 2040);
    check(&root, vec![root.whole(&[]), old()], &[], "too old");
    check(&root, vec![old(), root.whole(&[])], &[], "too old");
    check(&root, vec![root.part(A, &[]), root.list_until(&[], Some((B, None)), 2040)], &[B], "too old");
    // Lists of users do not speak of authorities, and the other way around.
    let users = || root.list_until(&[7], Some((A, Some(CrlScope::UserCertsOnly))), 2200);
    let authorities = || root.list_until(&[3], Some((A, Some(CrlScope::CaCertsOnly))), 2200);
    check(&root, vec![users()], &[A], "good");
    check(&root, vec![authorities()], &[A], "unknown");
    let [good, revoked] = [2, 3].map(|number| root.below("middle", number, &[A]));
    for (middle, lists, number, expected) in [
        (&good, vec![users(), authorities()], 5, "good"),
        (&good, vec![authorities(), users()], 7, "good"),
        (&revoked, vec![users(), authorities()], 5, "revoked"),
        (&good, vec![users()], 5, "unknown"),
    ] {
        let mut lists = lists;
        lists.push(middle.part(B, &[9]));
        let verifier = verifier(&[&root], lists);
        assert_eq!(outcome(&verifier, &middle.client(number, &[B]), &[middle]), expected);
    }
}

#[test]
fn each_certificate_on_the_one_way_up_is_asked_for() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let key = KeyPair::generate().unwrap().serialize_pem();
    let middle = Authority::made("middle", Some(&root), 2, &[], &key);
    let crossed = Authority::made("middle", Some(&other), 3, &[], &key);
    let leaf = middle.client(5, &[]);
    #[track_caller]
    fn check(verifier: &ClientVerifier, leaf: &CertificateDer<'_>, above: &[&Authority], expected: &str) {
        assert_eq!(outcome(verifier, leaf, above), expected);
    }
    let lists = |of_root: [&[u64]; 2], of_other: [&[u64]; 2]| {
        let of_root = of_root.into_iter().map(|revoked| root.whole(revoked));
        let lists = of_root.chain(of_other.into_iter().map(|revoked| other.whole(revoked)));
        verifier(&[&root, &other], lists.chain([middle.whole(&[8])]).collect())
    };
    let nobody = lists([&[], &[]], [&[], &[]]);
    check(&nobody, &leaf, &[&middle], "good");
    check(&nobody, &leaf, &[&root, &middle], "good");
    check(&nobody, &leaf, &[&crossed], "good");
    check(&nobody, &middle.client(8, &[]), &[&middle], "revoked");
    // What else is wrong with a certificate is told as ever.
    check(&nobody, &leaf, &[], "InvalidCertificate(UnknownIssuer)");
    check(&nobody, &Authority::new("nobody").client(5, &[]), &[], "InvalidCertificate(UnknownIssuer)");
    // The second list of the root says no, the first of the other root does: asked about each by itself, the library would
    // find a way around both.
    let one_each = lists([&[], &[2]], [&[3], &[]]);
    check(&one_each, &leaf, &[&middle], "revoked");
    check(&one_each, &leaf, &[&crossed], "revoked");
    check(&one_each, &leaf, &[&middle, &crossed], "unknown");
    // With one list of each issuer there is but one question.
    let single = vec![root.whole(&[2]), other.whole(&[]), middle.whole(&[8])];
    check(&verifier(&[&root, &other], single), &leaf, &[&middle, &crossed], "good");
}

/// Lets everybody in.
#[derive(Debug)]
struct Anybody;

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _above: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Vec::new()
    }
}

#[test]
fn what_the_library_would_let_in_and_nobody_can_read_is_refused() {
    let verifier = ClientVerifier { first: Arc::new(Anybody), further: Vec::new(), scoping: None };
    let whole = Authority::new("root").client(5, &[]);
    assert_eq!(outcome(&verifier, &whole, &[]), "good");
    for spoilt in [&b"nonsense"[..], &[], &whole[..whole.len() / 2]] {
        let spoilt = CertificateDer::from(spoilt.to_vec());
        assert_eq!(outcome(&verifier, &spoilt, &[]), "InvalidCertificate(BadEncoding)");
    }
}

/// The head and the content of the first of some elements of DER.
fn first_element(der: &[u8]) -> (&[u8], &[u8]) {
    let (head, length) = match der[1] {
        length @ 0..=0x7f => (2, usize::from(length)),
        0x81 => (3, usize::from(der[2])),
        _ => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
    };
    der[..head + length].split_at(head)
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    // As short as may be, or else nobody takes it.
    match content.len() {
        0..=0x7f => [&[0x30, length[1]][..], &content].concat(),
        0x80..=0xff => [&[0x30, 0x81, length[1]][..], &content].concat(),
        _ => [&[0x30, 0x82, length[0], length[1]][..], &content].concat(),
    }
}

/// What one thing in a certificate is changed to, before it is signed.
#[derive(Clone, Debug)]
enum Change {
    Byte { place: usize, value: u8 },
    Version(u8),
    Until { kind: u8, text: String },
    Behind(Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..600_usize, any::<u8>()).prop_map(|(place, value)| Change::Byte { place, value }),
        1 => "[0-9]{12}Z".prop_map(|text| Change::Until { kind: 0x17, text }),
        2 => "[2-9][0-9]{3}(0[0-9]|1[0-3])[0-3][0-9][0-2][0-9][0-6][0-9][0-6][0-9]Z"
            .prop_map(|text| Change::Until { kind: 0x18, text }),
        1 => "[0-9]{10,16}(Z|[+]0100|)".prop_map(|text| Change::Until { kind: 0x18, text }),
        1 => any::<u8>().prop_map(Change::Version),
        1 => proptest::collection::vec(any::<u8>(), 0..6).prop_map(Change::Behind),
    ]
}

/// A certificate of this authority with something changed in it, signed.
fn changed(authority: &Authority, change: &Change) -> CertificateDer<'static> {
    let mut params = params("client", &[A]);
    params.not_after = date_time_ymd(2060, 1, 1);
    let until: &[u8] = b"\x18\x0f20600101000000Z";
    let whole = params.signed_by(&KeyPair::generate().unwrap(), &authority.issuer).unwrap();
    let (_, parts) = first_element(whole.der());
    let (head, content) = first_element(parts);
    let (algorithm_head, algorithm) = first_element(&parts[head.len() + content.len()..]);
    let mut body = [head, content].concat();
    match change {
        Change::Byte { place, value } => body.get_mut(*place).into_iter().for_each(|byte| *byte = *value),
        Change::Version(version) => body = sequence(&[&[0xa0, 3, 2, 1, *version], &content[5..]]),
        Change::Until { kind, text } => {
            let place = content.windows(until.len()).position(|bytes| bytes == until).unwrap();
            // The beginning stands before it, and the head of both before that.
            let (from, to) = (place - 17, place + until.len());
            let begin = &content[from + 2..place];
            let end = [&[*kind, u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
            body = sequence(&[&content[..from], &sequence(&[begin, &end]), &content[to..]]);
        }
        Change::Behind(bytes) => body = sequence(&[content, bytes]),
    }
    let signature = [&[0][..], &authority.issuer.key().sign(&body).unwrap()].concat();
    let signature = [&[3, u8::try_from(signature.len()).unwrap()][..], &signature].concat();
    CertificateDer::from(sequence(&[&body, algorithm_head, algorithm, &signature]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_library_lets_in_can_be_read(change in change()) {
        thread_local!(static ROOT: (Authority, ClientVerifier) = {
            let root = Authority::new("root");
            let verifier = verifier(&[&root], Vec::new());
            (root, verifier)
        });
        let now = UnixTime::since_unix_epoch(Duration::from_secs(2_524_608_000));
        let (certificate, is_let_in) = ROOT.with(|(root, verifier)| {
            let certificate = changed(root, &change);
            let outcome = verifier.first.verify_client_cert(&certificate, &[], now);
            (certificate, outcome.is_ok())
        });
        if is_let_in {
            let facts = CertificateFacts::read(&certificate);
            prop_assert!(facts.is_some_and(|facts| facts.not_after >= Timestamp::from_millis(2_524_608_000_000)));
        }
    }
}

#[test]
fn odd_certificates_are_let_in_and_read() {
    let root = Authority::new("root");
    let verifier = verifier(&[&root], Vec::new());
    for (change, expected) in [
        // No end, as RFC 5280 writes it.
        (Change::Until { kind: 0x18, text: "99991231235959Z".to_owned() }, "good"),
        // RFC 5280 wants the other form before 2050.
        (Change::Until { kind: 0x18, text: "20501231235959Z".to_owned() }, "good"),
        (Change::Until { kind: 0x17, text: "491231235959Z".to_owned() }, "InvalidCertificate(Expired"),
        (Change::Until { kind: 0x18, text: "20600229000000Z".to_owned() }, "good"),
        (Change::Until { kind: 0x18, text: "20610229000000Z".to_owned() }, "InvalidCertificate("),
        (Change::Until { kind: 0x18, text: "20600101000060Z".to_owned() }, "InvalidCertificate("),
        (Change::Until { kind: 0x18, text: "20600101000000.5Z".to_owned() }, "InvalidCertificate("),
        // Nothing is changed; the other version.
        (Change::Byte { place: 0, value: 0x30 }, "good"),
        (Change::Version(1), "InvalidCertificate("),
        (Change::Behind(vec![0x30, 0]), "InvalidCertificate("),
    ] {
        let outcome = outcome(&verifier, &changed(&root, &change), &[]);
        assert!(outcome.starts_with(expected), "{change:?}: {outcome}");
    }
}

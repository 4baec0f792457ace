//! Which certificates are let in beside which lists.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use super::*;

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

//! Lists and certificates as bytes: what they say of their scope, and which way goes up.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
};

use super::*;

/// An element of DER.
fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ 0..=0x7f => vec![u8::try_from(short).unwrap()],
        long => [&[0x82][..], &u16::try_from(long).unwrap().to_be_bytes()].concat(),
    };
    [vec![tag], length, content].concat()
}

fn name(name: &str) -> Vec<u8> {
    let attribute = element(SEQUENCE, &[&element(OBJECT_ID, &[&[0x55, 4, 3]]), &element(0x0c, &[name.as_bytes()])]);
    element(SEQUENCE, &[&element(0x31, &[&attribute])])
}

fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[&element(OBJECT_ID, &[id]), &element(BOOLEAN, &[&[0xff]]), &element(OCTETS, &[value])])
}

/// A list with these extensions, signed by nobody.
fn list(issuer: &str, extensions: &[Vec<u8>]) -> Vec<u8> {
    let all: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    let time = |text: &str| element(0x17, &[text.as_bytes()]);
    let body = element(
        SEQUENCE,
        &[
            &element(INTEGER, &[&[1]]),
            &element(SEQUENCE, &[]),
            &name(issuer),
            &time("260101000000Z"),
            &time("400203040506Z"),
            &element(SEQUENCE, &[&element(SEQUENCE, &[&element(INTEGER, &[&[7]])])]),
            &element(FIRST, &[&element(SEQUENCE, &all)]),
        ],
    );
    element(SEQUENCE, &[&body])
}

#[test]
fn what_a_list_speaks_of_is_read() {
    #[track_caller]
    fn check(extensions: &[Vec<u8>], expected: ListScope) {
        let facts = RevocationListFacts::read(&list("authority", extensions)).unwrap();
        assert_eq!((facts.issuer_name.as_str(), facts.scope), ("authority", expected));
        assert_eq!(facts.next_update.to_iso(), "2040-02-03T04:05:06.000Z");
        assert_eq!(facts.scope.fault().is_none(), matches!(expected, ListScope::Whole | ListScope::Point));
    }
    let point = |parts: &[&[u8]]| extension(ISSUING_POINT, &element(SEQUENCE, parts));
    let uri = element(URI, &[b"http://a/1.crl"]);
    let full = element(FIRST, &[&element(FIRST, &[&uri])]);
    let (yes, no): (&[u8], &[u8]) = (&[0xff], &[0]);
    let delta = extension(DELTA_INDICATOR, &element(INTEGER, &[&[1]]));
    let number = extension(&[0x55, 0x1d, 0x14], &element(INTEGER, &[&[1]]));
    check(&[], ListScope::Whole);
    check(std::slice::from_ref(&number), ListScope::Whole);
    check(&[number.clone(), point(&[&full])], ListScope::Point);
    check(&[point(&[&full, &element(ONLY_USERS, &[yes])])], ListScope::Point);
    check(&[point(&[&full, &element(ONLY_AUTHORITIES, &[yes]), &element(INDIRECT, &[no])])], ListScope::Point);
    check(&[point(&[&full, &element(ONLY_REASONS, &[&[1, 2]])])], ListScope::Reasons);
    check(&[point(&[&full, &element(INDIRECT, &[yes])])], ListScope::Indirect);
    check(&[point(&[&element(ONLY_ATTRIBUTES, &[yes])])], ListScope::Attributes);
    check(&[point(&[&element(ONLY_USERS, &[yes])])], ListScope::Unnamed);
    check(&[point(&[])], ListScope::Unnamed);
    // Named as a directory's entry, or relative to the issuer.
    check(&[point(&[&element(FIRST, &[&element(FIRST, &[&element(0xa4, &[&name("x")])])])])], ListScope::Unnamed);
    check(&[point(&[&element(FIRST, &[&element(0xa1, &[&uri])])])], ListScope::Unnamed);
    check(&[point(&[&element(0x99, &[])])], ListScope::Unreadable);
    check(&[extension(ISSUING_POINT, b"x")], ListScope::Unreadable);
    check(&[delta.clone(), point(&[&full])], ListScope::Delta);
    check(&[point(&[&full]), delta], ListScope::Delta);
}

/// An authority, or a certificate of one.
struct Made {
    der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate of this name by that authority, or by itself, with a key of its own or this one.
fn made(name: &str, above: Option<&Made>, points: &[&str], key: Option<&str>) -> Made {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::CrlSign);
    if !points.is_empty() {
        let uris = points.iter().map(|&point| point.to_owned()).collect();
        params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    }
    let key = key.map_or_else(|| KeyPair::generate().unwrap(), |pem| KeyPair::from_pem(pem).unwrap());
    let certificate = match above {
        Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Made { der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
}

fn root(made: &Made) -> RootFacts {
    let link = Link::read(&made.der).unwrap();
    RootFacts { subject: link.subject.to_vec(), key: link.key.to_vec() }
}

/// The lists of some authorities: of all their certificates, or of a distribution point.
fn scopes(lists: &[(&Made, bool)]) -> Scopes {
    let facts: Vec<RevocationListFacts> = lists
        .iter()
        .map(|(made, is_whole)| RevocationListFacts {
            issuer: Link::read(&made.der).unwrap().subject.to_vec(),
            issuer_name: String::new(),
            next_update: Timestamp::from_millis(0),
            scope: if *is_whole { ListScope::Whole } else { ListScope::Point },
        })
        .collect();
    Scopes::of(&facts)
}

#[test]
fn there_is_one_way_up_or_none() {
    let (top, other) = (made("top", None, &[], None), made("other", None, &[], None));
    let same_name = made("top", None, &[], None);
    let key = KeyPair::generate().unwrap().serialize_pem();
    let middle = made("middle", Some(&top), &["http://top/1"], Some(&key));
    let crossed = made("middle", Some(&other), &["http://other/1"], Some(&key));
    let low = made("low", Some(&middle), &["http://middle/1"], None);
    let (leaf, bare) = (made("leaf", Some(&low), &["http://low/1"], None), made("bare", Some(&low), &[], None));
    let round = made("round", Some(&made("again", None, &[], None)), &["http://x"], None);
    let again = made("again", Some(&made("round", None, &[], None)), &["http://x"], None);

    #[track_caller]
    fn check(scopes: &Scopes, leaf: &Made, above: &[&Made], roots: &[&Made], expected: Option<&[usize]>) {
        let above: Vec<&[u8]> = above.iter().map(|made| made.der.as_slice()).collect();
        let roots: Vec<RootFacts> = roots.iter().map(|made| root(made)).collect();
        assert_eq!(scopes.way_up(&leaf.der, &above, &roots).as_deref(), expected);
    }
    let parts = scopes(&[(&low, false), (&middle, false), (&top, false)]);
    check(&parts, &leaf, &[&low, &middle], &[&top], Some(&[0, 1]));
    // In any order, with the root, twice the same, and with others that nobody needs.
    check(&parts, &leaf, &[&middle, &top, &low, &low, &other], &[&top, &other], Some(&[2, 0]));
    check(&parts, &leaf, &[], &[&low, &top], Some(&[]));
    // Nothing leads on, or around in a circle.
    check(&parts, &leaf, &[&low], &[&top], None);
    check(&parts, &leaf, &[&round, &again], &[&top], None);
    check(&parts, &round, &[&round, &again], &[&top], None);
    // Two ways, of which the lists of only one may say no.
    check(&parts, &leaf, &[&low, &middle, &crossed], &[&top, &other], None);
    // Somebody of a root's name with another key.
    check(&parts, &leaf, &[&low, &middle, &same_name], &[&top], None);
    check(&parts, &leaf, &[&low, &middle, &same_name], &[&top, &same_name], Some(&[0, 1]));
    // What names no distribution point needs a list of the whole issuer.
    check(&parts, &bare, &[&low, &middle], &[&top], None);
    check(&scopes(&[(&low, true), (&low, false)]), &bare, &[&low, &middle], &[&top], Some(&[0, 1]));
    check(&scopes(&[(&middle, true)]), &bare, &[&low, &middle], &[&top], None);
    // What cannot be read is not there.
    let above: [&[u8]; 3] = [b"nonsense", &low.der, &middle.der];
    assert_eq!(parts.way_up(&leaf.der, &above, &[root(&top)]), Some(vec![1, 2]));
    assert_eq!(parts.way_up(b"nonsense", &above, &[root(&top)]), None);
}

#[test]
fn a_list_of_revoked_certificates_is_read() {
    let authority = made("list authority", None, &[], None);
    let revoked = |serial: u32| rcgen::RevokedCertParams {
        serial_number: serial.to_be_bytes().to_vec().into(),
        revocation_time: rcgen::date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    // The longer one has a length of three bytes.
    for (count, scope) in [(0, None), (1, None), (5_000, None), (2, Some(CrlScope::UserCertsOnly))] {
        let point = scope.map(|scope| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec!["http://a/1.crl".to_owned()] },
            scope: Some(scope),
        });
        let expected = if point.is_some() { ListScope::Point } else { ListScope::Whole };
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2055, 2, 3),
            crl_number: 7_u64.into(),
            issuing_distribution_point: point,
            revoked_certs: (1..=count).map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&authority.issuer).unwrap();
        let facts = RevocationListFacts::read(list.der()).unwrap();
        assert_eq!((facts.issuer_name.as_str(), count), ("list authority", count));
        assert_eq!(facts.next_update.to_iso(), "2055-02-03T00:00:00.000Z");
        assert_eq!(facts.scope, expected);
        assert_eq!(RevocationListFacts::read(&list.der()[..60]), None);
    }
    assert_eq!(RevocationListFacts::read(&authority.der), None);
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_it(der in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = (RevocationListFacts::read(&der), Scopes::default().way_up(&der, &[&der], &[]));
    }

    #[test]
    fn no_damage_breaks_it(place in 0..200_usize, value in proptest::num::u8::ANY) {
        let uri = element(URI, &[b"http://a/1.crl"]);
        let point = element(SEQUENCE, &[&element(FIRST, &[&element(FIRST, &[&uri])])]);
        let mut der = list("authority", &[extension(ISSUING_POINT, &point)]);
        if let Some(byte) = der.get_mut(place) {
            *byte = value;
        }
        let _ = RevocationListFacts::read(&der);
    }
}

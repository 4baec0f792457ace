//! Certificates for the tests, made anew each time. Entry point: [`Authority`].

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// A root with its key.
pub(crate) struct Authority {
    pub(crate) root_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root_pem = params.self_signed(&key).unwrap().pem();
        Self { root_pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }

    /// For a server at 127.0.0.1 and `localhost`.
    pub(crate) fn server(&self) -> Pair {
        let params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        self.sign(&params)
    }

    /// For a client with a common name, and a URI `spiffe://test/<name>`; good until the end of this year.
    pub(crate) fn client_until(&self, name: &str, year: i32) -> Pair {
        self.sign(&client_params(name, year))
    }

    /// A client with a number, by which it can be revoked.
    pub(crate) fn client_numbered(&self, name: &str, number: u64) -> Pair {
        let mut params = client_params(name, 2200);
        params.serial_number = Some(SerialNumber::from(number));
        self.sign(&params)
    }

    /// The same, in a part of the certificates that has a list of its own.
    pub(crate) fn client_of_part(&self, name: &str, number: u64, part: &str) -> Pair {
        let mut params = client_params(name, 2200);
        params.serial_number = Some(SerialNumber::from(number));
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![part.to_owned()] }];
        self.sign(&params)
    }

    /// The list of revoked clients; the next is due on the first day of that year.
    pub(crate) fn revoked(&self, numbers: &[u64], next_year: i32) -> String {
        self.revoked_within(numbers, next_year, Duration::ZERO)
    }

    /// The list of revoked clients; the next is due so long after the year has begun.
    pub(crate) fn revoked_within(&self, numbers: &[u64], year: i32, after: Duration) -> String {
        self.list(numbers, year, after, None)
    }

    /// The list of those of one part.
    pub(crate) fn revoked_of_part(&self, numbers: &[u64], part: &str) -> String {
        self.list(numbers, 2200, Duration::ZERO, Some(part))
    }

    fn list(&self, numbers: &[u64], year: i32, after: Duration, part: Option<&str>) -> String {
        let revoked = numbers.iter().map(|number| RevokedCertParams {
            serial_number: SerialNumber::from(*number),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1) + after,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: part.map(|part| CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint { uris: vec![part.to_owned()] },
                scope: None,
            }),
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// The same, good for long.
    pub(crate) fn client(&self, name: &str) -> Pair {
        self.client_until(name, 2200)
    }
}

fn client_params(name: &str, year: i32) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names.push(SanType::URI(format!("spiffe://test/{name}").try_into().unwrap()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = date_time_ymd(year, 12, 31);
    params
}

/// Files of a server, in a directory of their own.
pub(crate) struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new(pair: &Pair) -> Self {
        let files = Self { dir: tempfile::tempdir().unwrap() };
        files.replace(&pair.cert, &pair.key);
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As tools do that renew certificates: one file after the other.
    pub(crate) fn replace(&self, cert: &str, key: &str) {
        self.put("cert.pem", cert);
        self.put("key.pem", key);
    }

    /// Puts one in place.
    pub(crate) fn put(&self, name: &str, content: &str) {
        std::fs::write(self.path("new"), content).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }
}

//! Certificates for the tests, made anew each time. Entry point: [`Authority`].

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
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
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.push(SanType::URI(format!("spiffe://test/{name}").try_into().unwrap()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = date_time_ymd(year, 12, 31);
        self.sign(&params)
    }

    /// The same, good for long.
    pub(crate) fn client(&self, name: &str) -> Pair {
        self.client_until(name, 2200)
    }
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
        for (name, content) in [("cert.pem", cert), ("key.pem", key)] {
            std::fs::write(self.path("new"), content).unwrap();
            std::fs::rename(self.path("new"), self.path(name)).unwrap();
        }
    }
}

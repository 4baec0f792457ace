//! The way to an org: `[network]`. Entry points: [`NetworkConfig::read`], [`NetworkConfig::read_roots`].
//!
//! Invariant: the certificates in a [`NetworkConfig`] parse; the client need not look at them again.

use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::SecretFile;
use super::address::parse_proxy;
use super::error::{ConfigError, Source, shown_path};
use super::layers::{Address, Reader};
use super::spec::Parsed;

/// Bytes of a file with root certificates. All the roots of a system have some 220,000; a wrong path is not read in full.
pub const ROOTS_FILE_BYTES_MAX: usize = 1024 * 1024;

/// The way to an org.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Which proxy leads there.
    pub proxy: ProxyConfig,
    /// A file with root certificates, PEM.
    pub ca_file: Option<PathBuf>,
    /// Its content: trusted besides the system's roots.
    pub root_certificates_pem: Option<Vec<u8>>,
}

/// Which proxy leads to an org. To one on a loopback address none ever does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyConfig {
    /// What `HTTPS_PROXY` and `NO_PROXY` say.
    Environment,
    /// None.
    Direct,
    /// This one, `http://host:port` or `https://host:port`.
    By(String),
}

impl NetworkConfig {
    pub(super) fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        const PROXY: Parsed<ProxyConfig> = Parsed {
            default: || ProxyConfig::Environment,
            expected: "\"auto\", \"none\" or the address of a proxy, such as \"http://proxy.example:3128\"",
            read: |text| match text.trim() {
                word if word.eq_ignore_ascii_case("auto") => Ok(ProxyConfig::Environment),
                word if word.eq_ignore_ascii_case("none") => Ok(ProxyConfig::Direct),
                address => parse_proxy(address).map(ProxyConfig::By),
            },
            write: |proxy| match proxy {
                ProxyConfig::Environment => "auto".to_owned(),
                ProxyConfig::Direct => "none".to_owned(),
                ProxyConfig::By(address) => address.clone(),
            },
        };
        const CA_FILE: Parsed<Option<PathBuf>> = Parsed {
            default: || None,
            expected: "the path of a file with root certificates, PEM, or nothing",
            read: |text| {
                if text.chars().any(char::is_control) {
                    return Err("holds control characters".to_owned());
                }
                Ok((!text.trim().is_empty()).then(|| PathBuf::from(text)))
            },
            // Only texts come in, so nothing is lost.
            write: |path| path.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        };
        Self {
            proxy: reader.take("network", "proxy", &PROXY, base.map(|base| &base.proxy)),
            ca_file: reader.take("network", "ca_file", &CA_FILE, base.map(|base| &base.ca_file)),
            root_certificates_pem: None,
        }
    }

    /// Reads the file of an org.
    pub(super) fn read_roots(
        &mut self,
        reader: &mut Reader<'_>,
        org: &str,
        read_file: &dyn Fn(&Path) -> io::Result<SecretFile>,
    ) {
        let Some(path) = &self.ca_file else { return };
        match roots(path, read_file) {
            Ok(pem) => self.root_certificates_pem = Some(pem),
            Err(problem) => {
                let address = Address::new(Some(org), "network", "ca_file");
                let effective = reader.record.iter().find(|effective| effective.address == address);
                let at = effective.map_or(Source::Default, |effective| effective.source.clone());
                let reason = format!("{} {problem}", shown_path(path));
                reader.problems.push(ConfigError::Refused { at, key: address.to_string(), reason });
            }
        }
    }
}

/// The content of a file with at least one certificate, all of them usable; or what is wrong with it.
fn roots(path: &Path, read_file: &dyn Fn(&Path) -> io::Result<SecretFile>) -> Result<Vec<u8>, String> {
    let mut file = read_file(path).map_err(|error| format!("cannot be read: {error}"))?;
    if file.bytes.len() > ROOTS_FILE_BYTES_MAX {
        let most = ROOTS_FILE_BYTES_MAX;
        return Err(format!("has more than {most} bytes: only roots that the system does not have belong into it"));
    }
    let mut store = RootCertStore::empty();
    for (number, certificate) in CertificateDer::pem_slice_iter(&file.bytes).enumerate() {
        let number = number + 1;
        let certificate = certificate.map_err(|_| format!("is no PEM file from its certificate {number} on"))?;
        store.add(certificate).map_err(|_| format!("holds something that is no certificate as number {number}"))?;
    }
    if store.is_empty() {
        return Err("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(std::mem::take(&mut file.bytes))
}

//! Private keys in PEM. Entry point: [`read`].
//!
//! Invariant: what is decoded on the way is zeroed.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::der::{self, OBJECT_ID};
use super::{Curve, Parts, PrivateKeyError, RsaParts};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What people take for a private key.
const LABELS_SHOWN: [&str; 9] = [
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "EC PUBLIC KEY",
    "CERTIFICATE",
    "TRUSTED CERTIFICATE",
    "CERTIFICATE REQUEST",
    "OPENSSH PRIVATE KEY",
    "DSA PRIVATE KEY",
    "DH PARAMETERS",
];

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// 1.2.840.113549.1.1.1
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// 1.2.840.10045.2.1
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
/// 1.3.101.112
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 4, 0, 0x23];

/// Reads the first private key of a PEM text.
pub(super) fn read(text: &str) -> Result<Parts, PrivateKeyError> {
    // In variables line breaks are often written as backslash and n.
    let unescaped = Zeroizing::new(if text.contains("\\n") { text.replace("\\n", "\n") } else { text.to_owned() });
    let mut rest = unescaped.as_str();
    let mut other: Option<PrivateKeyError> = None;
    let mut curve_beside: Option<Curve> = None;
    while let Some(place) = rest.find(BEGIN) {
        let (block, after) = Block::read(&rest[place + BEGIN.len()..])?;
        rest = after;
        match block.label {
            "PRIVATE KEY" => return pkcs8(&block.der()?),
            "RSA PRIVATE KEY" => return Ok(Parts::Rsa(RsaParts::Der(block.der()?))),
            "EC PRIVATE KEY" => return sec1(&block.der()?, curve_beside),
            "ENCRYPTED PRIVATE KEY" => return Err(PrivateKeyError::Encrypted),
            // openssl ecparam -genkey writes the curve in a block of its own before the key.
            "EC PARAMETERS" => {
                let der = block.der()?;
                // Curves that are spelt out have no object id.
                curve_beside = der.strip_prefix(&[OBJECT_ID]).and_then(|id| id.get(1..)).and_then(|id| curve(id).ok());
            }
            label => {
                // In a damaged text a label may be a piece of the key: only those that are known are shown.
                let label = LABELS_SHOWN.into_iter().find(|known| *known == label).unwrap_or("something else");
                other = other.or(Some(PrivateKeyError::NotPrivate { label }));
            }
        }
    }
    Err(other.unwrap_or(PrivateKeyError::NotAKey))
}

struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

impl<'a> Block<'a> {
    /// Reads a block behind its [`BEGIN`]; answers what follows it too.
    fn read(text: &'a str) -> Result<(Self, &'a str), PrivateKeyError> {
        let cut_off = PrivateKeyError::Damaged { what: "the line -----END …----- is missing" };
        let (label, rest) = text.split_once(DASHES).ok_or(cut_off.clone())?;
        let (body, rest) = rest.split_once("-----END ").ok_or(cut_off)?;
        Ok((Self { label, body }, rest))
    }

    fn der(&self) -> Result<Zeroizing<Vec<u8>>, PrivateKeyError> {
        if self.body.contains("ENCRYPTED") {
            return Err(PrivateKeyError::Encrypted);
        }
        let mut base64 = Zeroizing::new(Vec::with_capacity(self.body.len()));
        for line in self.body.lines().filter(|line| !line.contains(':')) {
            base64.extend(line.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        }
        let mut der = Zeroizing::new(Vec::with_capacity(base64.len()));
        LENIENT
            .decode_vec(&*base64, &mut der)
            .map_err(|_| PrivateKeyError::Damaged { what: "it is not base64 between its two marks" })?;
        Ok(der)
    }
}

const NOT_DER: PrivateKeyError = PrivateKeyError::Damaged { what: "its inside is no key in DER" };

fn pkcs8(der: &[u8]) -> Result<Parts, PrivateKeyError> {
    let key = der::pkcs8(der).ok_or(NOT_DER)?;
    let unsupported = |kind: &str| Err(PrivateKeyError::Unsupported { kind: kind.into() });
    match key.kind {
        RSA => Ok(Parts::Rsa(RsaParts::Der(Zeroizing::new(key.inside.to_vec())))),
        EC => sec1(key.inside, key.curve.map(curve).transpose()?),
        ED25519 => unsupported("an Ed25519 key"),
        _ => unsupported("a key of this kind"),
    }
}

fn sec1(der: &[u8], curve_beside: Option<Curve>) -> Result<Parts, PrivateKeyError> {
    let key = der::sec1(der).ok_or(NOT_DER)?;
    let curve = match (key.curve, curve_beside) {
        (Some(id), _) => curve(id)?,
        (None, Some(curve)) => curve,
        (None, None) => return Err(PrivateKeyError::Damaged { what: "it does not say on which curve it is" }),
    };
    Ok(Parts::Ec { curve, private: Zeroizing::new(key.private.to_vec()), public: key.public.map(<[u8]>::to_vec) })
}

fn curve(id: &[u8]) -> Result<Curve, PrivateKeyError> {
    match id {
        P256 => Ok(Curve::P256),
        P384 => Ok(Curve::P384),
        P521 => Ok(Curve::P521),
        _ => Err(PrivateKeyError::Unsupported { kind: "an EC key on this curve".into() }),
    }
}

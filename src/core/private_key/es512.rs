//! Keys on P-521, which `ring` does not have. Entry point: [`Es512`].
//!
//! Invariant: the key is zeroed when it is dropped. Signatures need no randomness (RFC 6979), so that a weak source of it
//! cannot give the key away.

use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::{Signature, SigningKey};

use super::PrivateKeyError;

/// Bytes of a coordinate and of the private number: 521 bits.
pub(super) const FIELD_BYTES: usize = 66;

/// A key on P-521.
pub(super) struct Es512(SigningKey);

impl Es512 {
    /// `private` has [`FIELD_BYTES`]. `public` is an uncompressed point, where the text of the key holds one.
    pub(super) fn new(private: &[u8], public: Option<&[u8]>) -> Result<Self, PrivateKeyError> {
        let refused = |reason: &str| PrivateKeyError::Refused { reason: reason.into() };
        let key = Self(SigningKey::from_slice(private).map_err(|_| refused("InvalidComponent"))?);
        match public {
            Some(public) if public != key.public_point() => Err(refused("InconsistentComponents")),
            _ => Ok(key),
        }
    }

    /// 0x04, x, y.
    pub(super) fn public_point(&self) -> Vec<u8> {
        self.0.verifying_key().to_sec1_point(false).as_bytes().to_vec()
    }

    /// r and s, [`FIELD_BYTES`] each: the form of a JWT.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signed: Signature = self.0.try_sign(message).ok()?;
        Some(signed.to_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    /// RFC 6979, A.2.7, with SHA-512.
    #[test]
    fn it_signs_as_the_standard_says() {
        let private = bytes(
            "00fad06daa62ba3b25d2fb40133da757205de67f5bb0018fee8c86e1b68c7e75caa896eb32f1f47c70855836a6d16fcc1466f6d8fbec67db89ec0c08b0e996b83538",
        );
        let key = Es512::new(&private, None).unwrap();
        let signed = [
            "00c328fafcbd79dd77850370c46325d987cb525569fb63c5d3bc53950e6d4c5f174e25a1ee9017b5d450606add152b534931d7d4e8455cc91f9b15bf05ec36e377fa",
            "00617cce7cf5064806c467f678d3b4080d6f1cc50af26ca209417308281b68af282623eaa63e5b5c0723d8b8c37ff0777b1a20f8ccb1dccc43997f1ee0e44da4a67a",
        ];
        assert_eq!(key.sign(b"sample").unwrap(), bytes(&signed.concat()));
        let x = "01894550d0785932e00eaa23b694f213f8c3121f86dc97a04e5a7167db4e5bcd371123d46e45db6b5d5370a7f20fb633155d38ffa16d2bd761dcac474b9a2f5023a4";
        let point = key.public_point();
        assert_eq!((point.len(), &point[1..=FIELD_BYTES]), (1 + 2 * FIELD_BYTES, &*bytes(x)));
        assert!(Es512::new(&private, Some(&point)).is_ok());
        assert!(Es512::new(&private, Some(&point[1..])).is_err());
    }

    #[test]
    fn numbers_outside_the_curve_are_refused() {
        for private in [vec![0; FIELD_BYTES], vec![0xff; FIELD_BYTES], vec![1; FIELD_BYTES + 1], Vec::new()] {
            assert!(Es512::new(&private, None).is_err(), "{private:x?}");
        }
    }
}

//! A secret: the one type in which a credential lives. Entry point: [`Secret::new`].
//!
//! Invariants: neither `Debug` nor `Display` shows it, it is not serialised, its memory is zeroed when it is dropped, and
//! [`Secret::expose`] is the only way to read it, so that every use can be found by name.

use std::fmt;

use zeroize::Zeroize;

/// A string that must not be shown. Cloning copies the secret; the copy is zeroed on drop as well.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the string over. Give it the only copy: a copy that stays elsewhere is not zeroed.
    pub const fn new(raw: String) -> Self {
        Self(raw)
    }

    /// The secret itself, for the call that needs it. Never log the answer, never put it in an error.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it, which is a mistake of the configuration everywhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<String> for Secret {
    fn from(raw: String) -> Self {
        Self::new(raw)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nowhere() {
        let secret = Secret::new("00abcdef".to_owned());
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "00abcdef");
        assert!(!secret.is_empty());
    }
}

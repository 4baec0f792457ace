//! Nonces of proofs of possession (facts 10.3, RFC 9449): which one is wanted, which ones still do, when they change.
//!
//! Entry point: [`Nonces`], one for the token endpoint and one for reads; neither knows the other's.

use std::collections::VecDeque;

/// The nonces of one server.
#[derive(Clone, Debug, Default)]
pub struct Nonces {
    /// Told with each answer; empty: proofs need none.
    current: String,
    /// Earlier ones that are still taken, newest last.
    old: VecDeque<String>,
    /// How many earlier ones are taken. Okta takes those of three days.
    pub kept: usize,
    /// The nonce changes with every so many answers; 0: never by itself.
    pub answers_per_nonce: u32,
    answers: u32,
    /// Proofs that were refused for their nonce.
    pub refused: usize,
}

impl Nonces {
    /// Proofs must hold this nonce from now on.
    pub fn change_to(&mut self, nonce: &str) {
        let old = std::mem::replace(&mut self.current, nonce.to_owned());
        self.old.extend(Some(old).filter(|old| !old.is_empty()));
        while self.old.len() > self.kept {
            self.old.pop_front();
        }
    }

    /// Whether proofs must hold one.
    pub fn is_wanted(&self) -> bool {
        !self.current.is_empty()
    }

    /// Whether a proof with this nonce is taken.
    pub(crate) fn accept(&mut self, nonce: &str) -> bool {
        let is_good = !self.is_wanted() || nonce == self.current || self.old.iter().any(|old| old == nonce);
        self.refused += usize::from(!is_good);
        is_good
    }

    /// What the next answer tells.
    pub(crate) fn told(&mut self) -> Option<String> {
        if !self.is_wanted() {
            return None;
        }
        self.answers += 1;
        if self.answers_per_nonce > 0 && self.answers.is_multiple_of(self.answers_per_nonce) {
            let next = format!("{}.{}", self.current.split('.').next().unwrap_or_default(), self.answers);
            self.change_to(&next);
        }
        Some(self.current.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_change_and_some_old_ones_do() {
        let mut nonces = Nonces { kept: 1, answers_per_nonce: 2, ..Nonces::default() };
        assert_eq!((nonces.told(), nonces.accept("")), (None, true));
        nonces.change_to("n");
        assert_eq!(nonces.told().as_deref(), Some("n"));
        assert_eq!(nonces.told().as_deref(), Some("n.2"));
        assert!(nonces.accept("n.2") && nonces.accept("n") && !nonces.accept("x") && !nonces.accept(""));
        nonces.told();
        assert_eq!(nonces.told().as_deref(), Some("n.4"));
        assert!(nonces.accept("n.2") && !nonces.accept("n"));
        assert_eq!(nonces.refused, 3);
    }
}

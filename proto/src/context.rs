//! Demands on answers; the entry point is [`RequestContext::not_before`].
//!
//! Invariant: a revision is never demanded without what it counts in.

use crate::v1::{RequestContext, ResponseMeta};

impl RequestContext {
    /// The demand that an answer is not of before another one: its revision, with the store and the era that this counts in. No
    /// demand if the other one is of an empty store. Nothing else is demanded, and no org is named.
    ///
    /// A store that was put back from a backup of before it answers `STORE_RESTORED`, whatever revision it has reached since.
    pub fn not_before(meta: &ResponseMeta) -> Self {
        let (at_least_revision, store_id, era) = (meta.revision, meta.store_id.clone(), meta.era.clone());
        Self { at_least_revision, store_id, era, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_demanded_with_what_it_counts_in() {
        let meta = ResponseMeta {
            org: "acme".to_owned(),
            revision: 7,
            store_id: "s".to_owned(),
            era: "e".to_owned(),
            ..ResponseMeta::default()
        };
        let expected = RequestContext {
            at_least_revision: 7,
            store_id: "s".to_owned(),
            era: "e".to_owned(),
            ..RequestContext::default()
        };
        assert_eq!(RequestContext::not_before(&meta), expected);
        assert_eq!(RequestContext::not_before(&ResponseMeta::default()), RequestContext::default());
    }
}

//! What a caller demands of any answer, by the request context.
//!
//! Entry points: [`Demands::read`] at the door, [`Demands::check_place`] and [`Demands::check_age`] in the snapshot that is
//! answered from.
//!
//! | demanded | the store | then |
//! |---|---|---|
//! | another store id | any | refused: the store was replaced |
//! | a revision with an era | knows the revision by that era | goes on, as without an era |
//! | a revision with an era | knows it by another one, or by none | refused at once: the store was restored |
//! | a revision | has not reached it | refused, after a wait: it may come |

use okta_idmap_proto::limits::ORG_NAME_BYTES_MAX;
use okta_idmap_proto::v1;

use super::errors::Failure;
use crate::core::ids::{Revision, Timestamp};

/// What a caller demands of an answer; checked once, at the door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Demands {
    at_least_revision: u64,
    max_staleness_millis: Option<i64>,
    store_id: String,
    /// The era of `at_least_revision`; empty: not said.
    era: String,
}

impl Demands {
    pub(super) fn read(context: &v1::RequestContext) -> Result<Self, Failure> {
        let max_staleness_millis = context.max_staleness.map(staleness_millis).transpose()?;
        for (field, word) in [("context.store_id", &context.store_id), ("context.era", &context.era)] {
            if word.len() > ORG_NAME_BYTES_MAX {
                let detail = format!("longer than {ORG_NAME_BYTES_MAX} bytes");
                return Err(Failure::FieldInvalid { field, detail });
            }
        }
        if context.at_least_revision == 0 && !context.era.is_empty() {
            let detail = "it is that of at_least_revision, which is not set".to_owned();
            return Err(Failure::FieldInvalid { field: "context.era", detail });
        }
        Ok(Self {
            at_least_revision: context.at_least_revision,
            max_staleness_millis,
            store_id: context.store_id.clone(),
            era: context.era.clone(),
        })
    }

    /// Whether a store at `revision` has, or is about to have, what is demanded. `era_of` knows its eras, those of revisions
    /// that are not reached included.
    pub(super) fn check_place<'a>(
        &self,
        store_id: &str,
        revision: Revision,
        era_of: impl Fn(Revision) -> Option<&'a str>,
    ) -> Result<(), Failure> {
        if !self.store_id.is_empty() && self.store_id != store_id {
            return Err(Failure::StoreReplaced { store_id: store_id.to_owned() });
        }
        let asked = Revision(self.at_least_revision);
        if !self.era.is_empty() && era_of(asked) != Some(self.era.as_str()) {
            let era = era_of(revision).unwrap_or_default().to_owned();
            return Err(Failure::StoreRestored { revision, era });
        }
        if revision < asked {
            return Err(Failure::RevisionNotReached { what: "store", asked: asked.0, revision });
        }
        Ok(())
    }

    /// Whether an answer at `now` that knows of everything up to `observed_through` is young enough.
    pub(super) fn check_age(&self, now: Timestamp, observed_through: Option<Timestamp>) -> Result<(), Failure> {
        let Some(max_staleness_millis) = self.max_staleness_millis else { return Ok(()) };
        match observed_through.map(|through| now.millis_since(through)) {
            Some(age_millis) if age_millis <= max_staleness_millis => Ok(()),
            _ => Err(Failure::StalenessExceeded { observed_through }),
        }
    }

    /// The revision that stores and indexes must have reached.
    pub(super) fn at_least_revision(&self) -> u64 {
        self.at_least_revision
    }
}

fn staleness_millis(duration: prost_types::Duration) -> Result<i64, Failure> {
    let is_duration = duration.seconds >= 0 && (0..1_000_000_000).contains(&duration.nanos);
    if !is_duration {
        let detail = "must be a duration of 0 seconds or more, with 0 to 999,999,999 nanoseconds".to_owned();
        return Err(Failure::FieldInvalid { field: "context.max_staleness", detail });
    }
    Ok(duration.seconds.saturating_mul(1_000).saturating_add(i64::from(duration.nanos / 1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seconds: i64, nanos: i32, expected: Option<i64>) {
        let max_staleness = Some(prost_types::Duration { seconds, nanos });
        let context = v1::RequestContext { max_staleness, ..v1::RequestContext::default() };
        let found = Demands::read(&context).map(|demands| demands.max_staleness_millis);
        match expected {
            Some(millis) => assert_eq!(found.unwrap(), Some(millis)),
            None => assert_eq!(found.map_err(|failure| failure.name()).unwrap_err(), "FIELD_INVALID"),
        }
    }

    #[test]
    fn staleness_is_read() {
        check(0, 0, Some(0));
        check(1, 500_000_000, Some(1_500));
        check(i64::MAX, 999_999_999, Some(i64::MAX));
        check(-1, 0, None);
        check(0, -1, None);
        check(0, 1_000_000_000, None);
    }

    #[test]
    fn an_era_is_that_of_a_revision() {
        let read = |at_least_revision: u64, era: &str| {
            let context = v1::RequestContext { at_least_revision, era: era.to_owned(), ..Default::default() };
            Demands::read(&context).map(|_| ()).map_err(|failure| failure.name())
        };
        assert_eq!(read(7, &"x".repeat(64)), Ok(()));
        assert_eq!(read(7, &"x".repeat(65)), Err("FIELD_INVALID"));
        assert_eq!(read(0, "x"), Err("FIELD_INVALID"));
        assert_eq!(read(0, ""), Ok(()));
    }

    #[test]
    fn a_demanded_revision_is_of_this_past_or_the_answer_is_refused() {
        /// What a store says that is at 12: `a` made 4 to 8, `b` made 9 to 12 and goes on, and nobody remembers what was before.
        #[track_caller]
        fn check(at_least_revision: u64, era: &str, store_id: &str, expected: Result<(), &str>) {
            let (store_id, era) = (store_id.to_owned(), era.to_owned());
            let demands = Demands { at_least_revision, max_staleness_millis: None, store_id, era };
            let era_of = |revision: Revision| match revision.0 {
                ..4 => None,
                4..9 => Some("a"),
                _ => Some("b"),
            };
            let found = demands.check_place("s", Revision(12), era_of).map_err(|failure| failure.name());
            assert_eq!(found, expected);
        }
        let (restored, ahead) = (Err("STORE_RESTORED"), Err("REVISION_NOT_REACHED"));
        // Who does not say the era is served as before there were any.
        check(0, "", "", Ok(()));
        check(12, "", "s", Ok(()));
        check(13, "", "", ahead);
        // Seen here, or about to be.
        check(8, "a", "", Ok(()));
        check(12, "b", "s", Ok(()));
        check(13, "b", "", ahead);
        // Seen before a backup was put back that is older: at once, whatever the store has reached since.
        check(11, "a", "s", restored);
        check(12, "x", "s", restored);
        check(13, "a", "s", restored);
        check(500, "x", "", restored);
        // Made so long ago that nobody remembers by whom.
        check(3, "z", "", restored);
        check(8, "b", "", restored);
        check(12, "b", "t", Err("STORE_REPLACED"));
        check(12, "x", "t", Err("STORE_REPLACED"));
    }
}

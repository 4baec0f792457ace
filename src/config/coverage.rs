//! The settings of what is too old, and of what becomes of rows that can no longer be read: `[coverage]`. Entry point:
//! [`CoverageConfig::read`].

use std::time::Duration;

use super::layers::Reader;
use super::settings::{DAY, HOUR, SECOND};
use super::spec::{Choice, OptionalSpan};
use crate::core::coverage::OnGap;

/// What is too old, and what becomes of rows that can no longer be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverageConfig {
    /// A collection whose last complete read is older has a gap, 1 s to 365 d. `None`: never.
    pub stale_after: Option<Duration>,
    /// The same for the position in the System Log. `None`: never.
    pub log_stale_after: Option<Duration>,
    /// Whether rows of a collection that can no longer be read are answered.
    pub on_gap: OnGap,
    /// Where they are: how long after the last complete read, 1 s to 365 d. `None`: for ever.
    pub max_stale: Option<Duration>,
}

impl CoverageConfig {
    pub(super) fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * DAY.as_secs());
        // Three crawls of a day each have failed, or nobody runs any.
        const STALE: OptionalSpan =
            OptionalSpan { default: Some(Duration::from_secs(3 * DAY.as_secs())), bounds: SECOND..=YEAR };
        // Polls come every some seconds; an hour without an answer is an outage, or nobody follows.
        const LOG_STALE: OptionalSpan = OptionalSpan { default: Some(HOUR), bounds: SECOND..=YEAR };
        const ON_GAP: Choice<OnGap> =
            Choice { default: OnGap::Keep, words: &[("keep", OnGap::Keep), ("withhold", OnGap::Withhold)] };
        const MAX_STALE: OptionalSpan = OptionalSpan { default: None, bounds: SECOND..=YEAR };
        Self {
            stale_after: reader.take("coverage", "stale_after", &STALE, base.map(|base| &base.stale_after)),
            log_stale_after: reader.take(
                "coverage",
                "log_stale_after",
                &LOG_STALE,
                base.map(|base| &base.log_stale_after),
            ),
            on_gap: reader.take("coverage", "on_gap", &ON_GAP, base.map(|base| &base.on_gap)),
            max_stale: reader.take("coverage", "max_stale", &MAX_STALE, base.map(|base| &base.max_stale)),
        }
    }
}

//! The settings of what `serve` does between two full crawls: `[follow]`, how it follows the System Log, and `[changes]`,
//! how much of what changed it remembers. Entry points: the `read` functions, [`check`].
//!
//! Invariants:
//! - Whoever holds one of these values need not check it again; what two values must be to each other is checked per org,
//!   since an org may override either of them.
//! - `0s` means "never" where a field is an `Option`, and only there.

use std::time::Duration;

use super::error::{ConfigError, Source};
use super::layers::{Address, Reader};
use super::settings::{BrakeConfig, DAY, HOUR, MINUTE, SECOND};
use super::spec::{Integer, OptionalSpan, Span, Switch};
use super::units::format_duration;

/// How the System Log is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowConfig {
    /// Whether it is followed at all; without it only crawls show what changed.
    pub enabled: bool,
    /// Time between two polls of the log, 100 ms to 1 h.
    pub poll_interval: Duration,
    /// How long the events of a burst are collected before what they name is read, 0 to 1 min.
    pub debounce: Duration,
    /// How long nothing further must have come where effects are spread over many events or made by a job, 0 to 1 h.
    pub quiet: Duration,
    /// After this time such a target is read however busy it is, and once more when it is quiet; never less than [`Self::quiet`].
    pub quiet_max: Duration,
    /// How much later it is looked once more at what changes without an event (facts 11), up to 1 h.
    pub second_look: Duration,
    /// Time between two walks of the users changed since the last one (facts 12.3). `None`: never.
    pub users_delta_interval: Option<Duration>,
    /// Time between two walks of the groups changed since the last one (facts 12.3). `None`: never.
    pub groups_delta_interval: Option<Duration>,
    /// Time between two walks of the list of apps. `None`: never.
    pub apps_interval: Option<Duration>,
    /// In this time the users of every app are listed once. `None`: never.
    pub relist_interval: Option<Duration>,
    /// That many events of types that this version does not know bring the next full crawl forward.
    pub unknown_events_max: u64,
}

impl FollowConfig {
    pub(super) fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        // The log shows an event about a second after it happened, a poll costs one request: four in a minute are a
        // fraction of every org's budget for logs (facts 6.1). Less than 100 ms only waits for the answer.
        const POLL: Span = Span { default: Duration::from_secs(15), bounds: Duration::from_millis(100)..=HOUR };
        // A burst (one edit makes several events) comes within fractions of a second. Longer than a minute is a delay.
        const DEBOUNCE: Span = Span { default: Duration::from_millis(250), bounds: Duration::ZERO..=MINUTE };
        // Jobs of Okta (group rules, group assignments, imports) take seconds to minutes; an hour is longer than any.
        const QUIET: Span = Span { default: Duration::from_secs(30), bounds: Duration::ZERO..=HOUR };
        const QUIET_MAX: Span =
            Span { default: Duration::from_secs(5 * MINUTE.as_secs()), bounds: Duration::ZERO..=HOUR };
        // Not zero: somebody might take it for "off", and it would read everything twice at once.
        const SECOND_LOOK: Span =
            Span { default: Duration::from_secs(3 * MINUTE.as_secs()), bounds: Duration::from_millis(100)..=HOUR };
        // A few requests each in half an hour, where nothing was lost. The lower bound is for trying it out.
        const NET: OptionalSpan =
            OptionalSpan { default: Some(Duration::from_secs(30 * MINUTE.as_secs())), bounds: SECOND..=WEEK };
        const RELIST: OptionalSpan = OptionalSpan { default: Some(DAY), bounds: SECOND..=WEEK };
        // A busy org has some unknown events a day, a feature of Okta that this version does not know has thousands.
        const UNKNOWN: Integer<u64> = Integer { default: 1_000, bounds: 1..=1_000_000_000 };
        let enabled = reader.take("follow", "enabled", &Switch(true), base.map(|base| &base.enabled));
        let mut span = |key: &str, spec: &Span, base: Option<&Duration>| reader.take("follow", key, spec, base);
        let poll_interval = span("poll_interval", &POLL, base.map(|base| &base.poll_interval));
        let debounce = span("debounce", &DEBOUNCE, base.map(|base| &base.debounce));
        let quiet = span("quiet", &QUIET, base.map(|base| &base.quiet));
        let quiet_max = span("quiet_max", &QUIET_MAX, base.map(|base| &base.quiet_max));
        let second_look = span("second_look", &SECOND_LOOK, base.map(|base| &base.second_look));
        let mut net =
            |key: &str, spec: &OptionalSpan, base: Option<&Option<Duration>>| reader.take("follow", key, spec, base);
        Self {
            enabled,
            poll_interval,
            debounce,
            quiet,
            quiet_max,
            second_look,
            users_delta_interval: net("users_delta_interval", &NET, base.map(|base| &base.users_delta_interval)),
            groups_delta_interval: net("groups_delta_interval", &NET, base.map(|base| &base.groups_delta_interval)),
            apps_interval: net("apps_interval", &NET, base.map(|base| &base.apps_interval)),
            relist_interval: net("relist_interval", &RELIST, base.map(|base| &base.relist_interval)),
            unknown_events_max: reader.take(
                "follow",
                "unknown_events_max",
                &UNKNOWN,
                base.map(|base| &base.unknown_events_max),
            ),
        }
    }
}

/// An API token lapses after 30 days without a request (facts 10.1); what is looked at less than once a week is not
/// followed.
const WEEK: Duration = Duration::from_secs(7 * DAY.as_secs());

/// How much of the change log is kept. What is older or too much goes, whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangesConfig {
    /// How long a change is kept, 1 h to 365 d.
    pub retention: Duration,
    /// Changes that are kept, 1,000 to 1,000,000,000.
    pub max_rows: u64,
}

impl ChangesConfig {
    pub(super) fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        // A reader of changes that was away for a weekend goes on where it was. Less than an hour would not outlive a
        // restart of it, a year is longer than any is away.
        const RETENTION: Span = Span { default: WEEK, bounds: HOUR..=Duration::from_secs(365 * DAY.as_secs()) };
        // Some 100 bytes each: 5 million are half a gigabyte, and more than a first crawl of a large org writes.
        const ROWS: Integer<u64> = Integer { default: 5_000_000, bounds: 1_000..=1_000_000_000 };
        Self {
            retention: reader.take("changes", "retention", &RETENTION, base.map(|base| &base.retention)),
            max_rows: reader.take("changes", "max_rows", &ROWS, base.map(|base| &base.max_rows)),
        }
    }
}

/// Two values that contradict each other: whichever we took, the other statement would be ignored.
pub(super) fn check(reader: &mut Reader<'_>, org: &str, follow: &FollowConfig, brake: &BrakeConfig) {
    let pairs = [
        (("follow", "quiet_max", follow.quiet_max), ("quiet", follow.quiet)),
        (("brake", "retry_interval_max", brake.retry_interval_max), ("retry_interval", brake.retry_interval)),
    ];
    for ((section, key, longest), (shorter_key, shortest)) in pairs {
        if longest >= shortest {
            continue;
        }
        let address = Address::new(Some(org), section, key);
        let effective = reader.record.iter().find(|effective| effective.address == address);
        let at = effective.map_or(Source::Default, |effective| effective.source.clone());
        let (longest, shortest) = (format_duration(longest), format_duration(shortest));
        let reason = format!("{longest} is less than {section}.{shorter_key}, which is {shortest}");
        reader.problems.push(ConfigError::Refused { at, key: address.to_string(), reason });
    }
}

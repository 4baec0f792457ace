//! The validated settings: every key, its type, its bounds with their reasons, its default. Entry points: the `read`
//! functions; each names the keys of one table, and nothing else knows them.
//!
//! Invariants:
//! - Whoever holds one of these values need not check it again.
//! - A key that is here does something in this version; what is planned is added with its code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::EnvFilter;

use super::coverage::CoverageConfig;
use super::error::{nearest, shown};
use super::filter::FilterConfig;
use super::follow::{ChangesConfig, FollowConfig};
use super::identities::{Aliases, Overrides};
use super::layers::Reader;
use super::network::NetworkConfig;
use super::server::{ClientConfig, ServerConfig};
use super::spec::{Choice, Integer, Parsed, Share, Size, Span, Switch, TextSet};
use crate::core::overrides::OverrideSetting;
use crate::core::policy::AliasSetting;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Everything that is not per org, and the top level of what is.
pub(super) struct TopLevel {
    pub(super) data_dir: PathBuf,
    pub(super) log: LogConfig,
    pub(super) server: ServerConfig,
    pub(super) client: ClientConfig,
    pub(super) index: IndexConfig,
    pub(super) org: OrgSettings,
}

/// The settings that each org may override.
pub(super) struct OrgSettings {
    pub(super) network: NetworkConfig,
    pub(super) crawl: CrawlConfig,
    pub(super) follow: FollowConfig,
    pub(super) brake: BrakeConfig,
    pub(super) coverage: CoverageConfig,
    pub(super) changes: ChangesConfig,
    pub(super) groups: GroupsConfig,
    pub(super) apps: AppsConfig,
    pub(super) filter: FilterConfig,
    pub(super) resolve: ResolveConfig,
}

impl TopLevel {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let data_dir = reader.take("", "data_dir", &DATA_DIR, None);
        let log = LogConfig::read(reader);
        let server = ServerConfig::read(reader);
        let client = ClientConfig::read(reader, &server);
        let index = IndexConfig::read(reader);
        Self { data_dir, log, server, client, index, org: OrgSettings::read(reader, None) }
    }
}

impl OrgSettings {
    pub(super) fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        Self {
            network: NetworkConfig::read(reader, base.map(|base| &base.network)),
            crawl: CrawlConfig::read(reader, base.map(|base| &base.crawl)),
            follow: FollowConfig::read(reader, base.map(|base| &base.follow)),
            brake: BrakeConfig::read(reader, base.map(|base| &base.brake)),
            coverage: CoverageConfig::read(reader, base.map(|base| &base.coverage)),
            changes: ChangesConfig::read(reader, base.map(|base| &base.changes)),
            groups: GroupsConfig::read(reader, base.map(|base| &base.groups)),
            apps: AppsConfig::read(reader, base.map(|base| &base.apps)),
            filter: FilterConfig::read(reader, base.map(|base| &base.filter)),
            resolve: ResolveConfig::read(reader, base.map(|base| &base.resolve)),
        }
    }
}

const DATA_DIR: Parsed<PathBuf> = Parsed {
    default: || PathBuf::from("./okta-idmap-data"),
    expected: "a directory",
    read: |text| {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err("is empty or holds control characters".to_owned());
        }
        Ok(PathBuf::from(text))
    },
    // Only texts come in, so nothing is lost.
    write: |path| path.to_string_lossy().into_owned(),
};

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter that `tracing_subscriber::EnvFilter` accepts: `info`, or `warn,okta_idmap=debug`.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        const LEVEL: Parsed<String> = Parsed {
            default: || "info".to_owned(),
            expected: "a log filter, such as \"info\" or \"warn,okta_idmap=debug\"",
            read: read_log_filter,
            write: String::clone,
        };
        const FORMAT: Choice<LogFormat> =
            Choice { default: LogFormat::Text, words: &[("text", LogFormat::Text), ("json", LogFormat::Json)] };
        Self { level: reader.take("log", "level", &LEVEL, None), format: reader.take("log", "format", &FORMAT, None) }
    }
}

/// Levels as a filter names them.
const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Stricter than the filter itself: that takes any bare word for the name of a module, so that `warning` would silence
/// everything without a word.
///
/// Also without conditions on fields: their values are patterns, compiled to a table that doubles with each letter of some
/// of them, so that a line of a hundred characters never ends.
fn read_log_filter(text: &str) -> Result<String, String> {
    if text.contains(['{', '}']) {
        return Err(format!("{} has a condition on fields, which is not supported: filter by module", shown(text)));
    }
    for directive in text.split(',').map(str::trim) {
        if directive.contains(['=', '[', ']']) {
            continue;
        }
        if !LOG_LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive)) {
            let suggestion = nearest(directive, LOG_LEVELS).map(|level| format!(" (did you mean {level}?)"));
            let levels = LOG_LEVELS.join(", ");
            return Err(format!(
                "{} is none of {levels}, nor <module>=<level>{}",
                shown(directive),
                suggestion.unwrap_or_default()
            ));
        }
    }
    let filter = EnvFilter::try_new(text);
    filter.map(|_| text.trim().to_owned()).map_err(|error| format!("{} is no log filter: {error}", shown(text)))
}

/// The search index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexConfig {
    /// How long a change may wait before it is searchable.
    pub commit_interval: Duration,
    /// Memory of the index writer before it writes a segment, in bytes.
    pub writer_heap_bytes: usize,
    /// Whether large orgs have a register of names beside the store.
    pub register: bool,
}

impl IndexConfig {
    fn read(reader: &mut Reader<'_>) -> Self {
        // A commit costs an fsync and a segment: more than ten in a second only make merges. A minute is what someone
        // who waits for a name to appear puts up with.
        const COMMIT: Span = Span { default: SECOND, bounds: Duration::from_millis(100)..=MINUTE };
        // The index library refuses less than 15 MB per thread; more than 2 GB it would not fill before a commit.
        const HEAP: Size = Size { default: 64_000_000, bounds: 15_000_000..=2_000_000_000 };
        Self {
            commit_interval: reader.take("index", "commit_interval", &COMMIT, None),
            writer_heap_bytes: reader.take("index", "writer_heap_bytes", &HEAP, None),
            register: reader.take("index", "register", &Switch(true), None),
        }
    }
}

/// How an org is crawled.
#[derive(Clone, Debug, PartialEq)]
pub struct CrawlConfig {
    /// Time from the end of a full crawl to the start of the next in `serve`.
    pub interval: Duration,
    /// Users per request, at most 200 (facts 1.1).
    pub users_page_size: u32,
    /// Groups per request, at most 200: more gave inconsistent pages (facts 0.1).
    pub groups_page_size: u32,
    /// Members of a group per request, at most 1,000 (facts 1.1).
    pub group_members_page_size: u32,
    /// Apps per request, at most 200 (facts 1.1).
    pub apps_page_size: u32,
    /// Users of an app per request, at most 500 (facts 1.1).
    pub app_users_page_size: u32,
    /// Groups of an app per request, 20 to 200: Okta refuses fewer (facts 1.1).
    pub app_groups_page_size: u32,
    /// Requests in flight per rate-limit bucket.
    pub max_in_flight_per_bucket: u32,
    /// Share of each bucket that is left to others, 0 to 0.9 (facts 6.3).
    pub rate_limit_reserve: f64,
}

impl CrawlConfig {
    fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        // What changes meanwhile is read by following the log; a crawl a day finds what had no event. Okta's windows are
        // 60 s long (facts 6.1): a crawl more often only waits for budget. An API token lapses after 30 days without a
        // request (facts 10.1): seven days leave room for weeks of outage.
        const INTERVAL: Span = Span { default: DAY, bounds: MINUTE..=Duration::from_secs(7 * DAY.as_secs()) };
        const PAGE_200: Integer<u32> = Integer { default: 200, bounds: 1..=200 };
        const PAGE_MEMBERS: Integer<u32> = Integer { default: 1_000, bounds: 1..=1_000 };
        const PAGE_APP_USERS: Integer<u32> = Integer { default: 500, bounds: 1..=500 };
        const PAGE_APP_GROUPS: Integer<u32> = Integer { default: 200, bounds: 20..=200 };
        // Orgs allow 15 to 75 requests at a time for everybody (facts 6.1); three buckets with ten each stay below half.
        const IN_FLIGHT: Integer<u32> = Integer { default: 8, bounds: 1..=10 };
        const RESERVE: Share = Share { default: 0.1, bounds: 0.0..=0.9 };
        let interval = reader.take("crawl", "interval", &INTERVAL, base.map(|base| &base.interval));
        let mut number =
            |key: &str, spec: &Integer<u32>, base: Option<u32>| reader.take("crawl", key, spec, base.as_ref());
        Self {
            interval,
            users_page_size: number("users_page_size", &PAGE_200, base.map(|base| base.users_page_size)),
            groups_page_size: number("groups_page_size", &PAGE_200, base.map(|base| base.groups_page_size)),
            group_members_page_size: number(
                "group_members_page_size",
                &PAGE_MEMBERS,
                base.map(|base| base.group_members_page_size),
            ),
            apps_page_size: number("apps_page_size", &PAGE_200, base.map(|base| base.apps_page_size)),
            app_users_page_size: number(
                "app_users_page_size",
                &PAGE_APP_USERS,
                base.map(|base| base.app_users_page_size),
            ),
            app_groups_page_size: number(
                "app_groups_page_size",
                &PAGE_APP_GROUPS,
                base.map(|base| base.app_groups_page_size),
            ),
            max_in_flight_per_bucket: number(
                "max_in_flight_per_bucket",
                &IN_FLIGHT,
                base.map(|base| base.max_in_flight_per_bucket),
            ),
            rate_limit_reserve: reader.take(
                "crawl",
                "rate_limit_reserve",
                &RESERVE,
                base.map(|base| &base.rate_limit_reserve),
            ),
        }
    }
}

/// When a complete walk is not believed: it would remove more than `share` *and* more than `rows` of a scope.
#[derive(Clone, Debug, PartialEq)]
pub struct BrakeConfig {
    /// Share of a scope's rows, 0 to 1. With 1 nothing is ever held.
    pub share: f64,
    /// Rows of a scope.
    pub rows: u64,
    /// How soon a list that is held is read again, 1 s to 1 h; doubles from there.
    pub retry_interval: Duration,
    /// How rarely it is read again at last, 1 s to 24 h; never less than [`Self::retry_interval`].
    pub retry_interval_max: Duration,
}

impl BrakeConfig {
    fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        const SHARE: Share = Share { default: 0.2, bounds: 0.0..=1.0 };
        // No scope of an org has more rows; a larger number is a slip.
        const ROWS: Integer<u64> = Integer { default: 50, bounds: 0..=1_000_000_000 };
        // Most lists that are suddenly short are whole again within minutes (facts 13). Below a second it is no second
        // opinion; what is still short after a day waits for a person.
        const RETRY: Span = Span { default: Duration::from_secs(30), bounds: SECOND..=HOUR };
        const RETRY_MAX: Span = Span { default: Duration::from_secs(15 * MINUTE.as_secs()), bounds: SECOND..=DAY };
        Self {
            share: reader.take("brake", "share", &SHARE, base.map(|base| &base.share)),
            rows: reader.take("brake", "rows", &ROWS, base.map(|base| &base.rows)),
            retry_interval: reader.take("brake", "retry_interval", &RETRY, base.map(|base| &base.retry_interval)),
            retry_interval_max: reader.take(
                "brake",
                "retry_interval_max",
                &RETRY_MAX,
                base.map(|base| &base.retry_interval_max),
            ),
        }
    }
}

/// What is read of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsConfig {
    /// Whose members are read.
    pub members: GroupMembers,
}

/// Whose members are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupMembers {
    /// Those of all groups.
    All,
    /// Those of groups that are assigned to an app: fewer requests, and no answer about the other groups.
    Assigned,
}

impl GroupsConfig {
    fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        const MEMBERS: Choice<GroupMembers> = Choice {
            default: GroupMembers::All,
            words: &[("all", GroupMembers::All), ("assigned", GroupMembers::Assigned)],
        };
        Self { members: reader.take("groups", "members", &MEMBERS, base.map(|base| &base.members)) }
    }
}

/// Which apps are read. A selector is an app id, a label or an integration name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppsConfig {
    /// Only these apps; empty: all.
    pub include: BTreeSet<String>,
    /// Not these apps. No selector is in both sets.
    pub exclude: BTreeSet<String>,
    /// Whether Okta's own apps are read (`saasure`, `okta_*`; facts 4).
    pub built_in: bool,
}

impl AppsConfig {
    fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        const SELECTORS: TextSet = TextSet { default: &[], words: &[], empty_allowed: true };
        Self {
            include: reader.take("apps", "include", &SELECTORS, base.map(|base| &base.include)),
            exclude: reader.take("apps", "exclude", &SELECTORS, base.map(|base| &base.exclude)),
            built_in: reader.take("apps", "built_in", &Switch(false), base.map(|base| &base.built_in)),
        }
    }
}

/// What is an answer and what is a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolveConfig {
    /// User statuses that grant, as Okta writes them. SUSPENDED and DEPROVISIONED never do.
    pub user_statuses: BTreeSet<String>,
    /// App user statuses that grant, as Okta writes them.
    pub app_user_statuses: BTreeSet<String>,
    /// Whether `secondEmail` is evidence. People can edit it themselves: with `true` they can claim an account.
    pub second_email: bool,
    /// How long an account name that changed its holder is refused. Zero: not at all.
    pub reuse_quarantine: Duration,
    /// How names of an app are compared, by app id, label or integration name.
    pub name_rules: BTreeMap<String, NameRule>,
    /// Names that mean a user although no record in Okta says so (tier T4).
    pub aliases: Vec<AliasSetting>,
    /// Decisions about names until a time (tier T6). That the end is not too far ahead is seen to by whoever knows the time.
    pub overrides: Vec<OverrideSetting>,
}

/// How account names of an app are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// As the product decides: e-mail-shaped names are folded, opaque ones are exact.
    Default,
    /// Byte for byte.
    Exact,
    /// Folded, whatever their shape.
    IgnoreCase,
}

impl ResolveConfig {
    fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        // Facts 2.1: the other two (SUSPENDED, DEPROVISIONED) are people who shall not get in.
        const USER: TextSet = TextSet {
            default: &["ACTIVE", "PASSWORD_EXPIRED", "RECOVERY", "LOCKED_OUT"],
            words: &["ACTIVE", "PASSWORD_EXPIRED", "RECOVERY", "LOCKED_OUT", "STAGED", "PROVISIONED"],
            empty_allowed: false,
        };
        const APP_USER: TextSet = TextSet {
            default: &["ACTIVE", "PROVISIONED"],
            // The 13 of facts 5.2. An unknown word would be a slip that grants nobody.
            words: &[
                "ACTIVE",
                "PROVISIONED",
                "STAGED",
                "INACTIVE",
                "DEPROVISIONED",
                "SUSPENDED",
                "APPROVED",
                "REVOKED",
                "PENDING",
                "IMPORTED",
                "MATCHED",
                "IMPLICIT",
                "UNASSIGNED",
            ],
            empty_allowed: false,
        };
        // A year: longer than any document index lives without being built anew.
        const QUARANTINE: Span =
            Span { default: DAY, bounds: Duration::ZERO..=Duration::from_secs(365 * DAY.as_secs()) };
        const RULE: Choice<NameRule> = Choice {
            default: NameRule::Default,
            words: &[("default", NameRule::Default), ("exact", NameRule::Exact), ("ignore_case", NameRule::IgnoreCase)],
        };
        Self {
            user_statuses: reader.take("resolve", "user_statuses", &USER, base.map(|base| &base.user_statuses)),
            app_user_statuses: reader.take(
                "resolve",
                "app_user_statuses",
                &APP_USER,
                base.map(|base| &base.app_user_statuses),
            ),
            second_email: reader.take("resolve", "second_email", &Switch(false), base.map(|base| &base.second_email)),
            reuse_quarantine: reader.take(
                "resolve",
                "reuse_quarantine",
                &QUARANTINE,
                base.map(|base| &base.reuse_quarantine),
            ),
            // Before the rules, which are a table of their own.
            aliases: reader.take("resolve", "aliases", &Aliases, base.map(|base| &base.aliases)),
            overrides: reader.take("resolve", "overrides", &Overrides, base.map(|base| &base.overrides)),
            name_rules: reader.take_rules("resolve", "name_rules", &RULE, base.map(|base| &base.name_rules)),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn log_filters() {
        #[track_caller]
        fn check(text: &str, expected: Expect) {
            expected.assert_eq(&read_log_filter(text).unwrap_or_else(|reason| reason));
        }
        check("info", expect!["info"]);
        check(" WARN ", expect!["WARN"]);
        check("off", expect!["off"]);
        check("warn,okta_idmap=debug", expect!["warn,okta_idmap=debug"]);
        check("okta_idmap::okta=trace, info", expect!["okta_idmap::okta=trace, info"]);
        check("[crawl]=debug", expect!["[crawl]=debug"]);
        check("", expect![[r#""" is none of off, error, warn, info, debug, trace, nor <module>=<level>"#]]);
        check("info,", expect![[r#""" is none of off, error, warn, info, debug, trace, nor <module>=<level>"#]]);
        check(
            "warning",
            expect![[r#""warning" is none of off, error, warn, info, debug, trace, nor <module>=<level>"#]],
        );
        check(
            "inof",
            expect![[
                r#""inof" is none of off, error, warn, info, debug, trace, nor <module>=<level> (did you mean info?)"#
            ]],
        );
        check(
            "okta_idmap",
            expect![[r#""okta_idmap" is none of off, error, warn, info, debug, trace, nor <module>=<level>"#]],
        );
        check(
            "okta_idmap=loud",
            expect![[
                r#""okta_idmap=loud" is no log filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5"#
            ]],
        );
        check("[", expect![[r#""[" is no log filter: invalid filter directive"#]]);
        check(
            &format!("[crawl{{org=(a|b)*a{}}}]=info", "(a|b)".repeat(40)),
            expect![[
                r#""[crawl{org=(a|b)*a(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a…" has a condition on fields, which is not supported: filter by module"#
            ]],
        );
    }
}

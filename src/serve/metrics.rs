//! The state of the orgs as Prometheus text.
//!
//! Entry points: [`read`] gathers what is known of an org, [`render`] writes it.
//!
//! Invariants:
//! - Names begin with `okta_idmap_`, values are in base units; a name once given keeps its meaning.
//! - Labels are org, kind, gap kind, state, bucket and reason: closed sets, and nothing that identifies a person, a credential or a resource.
//! - What is not known has no sample: a time of 0 would be taken for 1970.

use std::fmt::Write as _;

use okta_idmap_proto::v1;

use super::ask::{Ask, Call};
use super::coverage::{count_by_state, get_status};
use super::errors::Failure;
use super::orgs::OrgView;
use super::stats::{CallRefusal, ConnectionRefusal, ServerStats};
use super::status::RuntimeStatus;
use crate::core::ids::Timestamp;
use crate::store::RegisterLook;

/// What is known of an org.
#[derive(Clone, Debug, Default)]
pub(super) struct OrgState {
    pub(super) status: v1::GetStatusResponse,
    /// Collections by state.
    pub(super) scopes: Vec<(v1::ScopeState, u64)>,
    /// How things stand with the register of names.
    pub(super) register: Option<RegisterLook>,
    /// `None` without an engine.
    pub(super) runtime: Option<RuntimeStatus>,
}

/// Gathers the state of an org.
///
/// # Errors
/// The store cannot be read, or too many wait to read it.
pub(super) async fn read(org: &OrgView) -> Result<OrgState, Failure> {
    let call = Call::timeless(org.clone());
    let of_store =
        |ask: &Ask<'_>| Ok((get_status(ask, Vec::new())?, count_by_state(ask)?, Some(ask.snapshot.register_look()?)));
    let (status, scopes, register) = call.scan(of_store).await?;
    Ok(OrgState { status, scopes, register, runtime: org.status().now() })
}

/// How the samples of a name are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Gauge,
    Counter,
}

/// A text in the making.
#[derive(Debug, Default)]
struct Text(String);

/// Labels of a sample, after the org.
type Labels<'a> = &'a [(&'static str, &'a str)];

impl Text {
    /// Begins a name; its samples follow.
    fn family(&mut self, name: &'static str, kind: Type, help: &str) -> Family<'_> {
        let kind = match kind {
            Type::Gauge => "gauge",
            Type::Counter => "counter",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP okta_idmap_{name} {help}\n# TYPE okta_idmap_{name} {kind}\n");
        Family { text: self, name }
    }
}

struct Family<'a> {
    text: &'a mut Text,
    name: &'static str,
}

impl Family<'_> {
    fn sample(&mut self, labels: Labels<'_>, value: impl std::fmt::Display) {
        let out = &mut self.text.0;
        let _ = write!(out, "okta_idmap_{}", self.name);
        for (index, (name, value)) in labels.iter().enumerate() {
            let separator = if index == 0 { '{' } else { ',' };
            let _ = write!(out, "{separator}{name}=\"{}\"", escaped(value));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(out, "{end} {value}");
    }
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `USER` of `ROW_KIND_USER`, in small letters.
fn short(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

fn seconds_of(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time.map(|time| format!("{}.{:03}", time.seconds, time.nanos / 1_000_000))
}

fn seconds(time: Option<Timestamp>) -> Option<String> {
    seconds_of(time.map(super::rows::timestamp).as_ref())
}

/// Writes the state of all orgs.
pub(super) fn render(orgs: &[OrgState], stats: &ServerStats) -> String {
    let mut text = Text::default();
    text.family("build_info", Type::Gauge, "Version of the connector; always 1.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    store(&mut text, orgs);
    gaps(&mut text, orgs);
    crawl(&mut text, orgs);
    log(&mut text, orgs);
    requests(&mut text, orgs);
    credential(&mut text, orgs);
    server(&mut text, stats);
    text.0
}

/// One sample per org, where there is a value.
fn one_each<T: std::fmt::Display>(
    text: &mut Text,
    (name, kind, help): (&'static str, Type, &str),
    orgs: &[OrgState],
    value: impl Fn(&OrgState, &v1::OrgStatus) -> Option<T>,
) {
    let mut family = text.family(name, kind, help);
    for org in orgs {
        let Some(status) = &org.status.status else { continue };
        if let Some(value) = value(org, status) {
            family.sample(&[("org", &status.org)], value);
        }
    }
}

fn server(text: &mut Text, stats: &ServerStats) {
    use Type::{Counter, Gauge};
    text.family("server_connections", Gauge, "Connections to the gRPC server.").sample(&[], stats.connections());
    let help = "Connections that were refused, or ended from here.";
    let mut family = text.family("server_refused_connections_total", Counter, help);
    for (refusal, reason) in ConnectionRefusal::ALL {
        family.sample(&[("reason", reason)], stats.refused_connections(refusal));
    }
    let help = "Calls that were refused for want of a credential, of a role, or for a limit of the client.";
    let mut family = text.family("server_refused_calls_total", Counter, help);
    for (refusal, reason) in CallRefusal::ALL {
        family.sample(&[("reason", reason)], stats.refused_calls(refusal));
    }
    if let Some(is_failing) = stats.is_access_failing() {
        let help = "1 while the file that names clients cannot be used, and those whom it named before may call.";
        text.family("server_access_reload_failing", Gauge, help).sample(&[], u8::from(is_failing));
    }
    let Some(tls) = stats.tls() else { return };
    let help = "1 while the files of the server's certificate hold what cannot be used, and the former one is.";
    text.family("server_certificate_reload_failing", Gauge, help).sample(&[], u8::from(tls.is_reload_failing));
    let help = "Until when the server's certificate is good.";
    if let Some(not_after) = seconds(tls.not_after) {
        text.family("server_certificate_expires_timestamp_seconds", Gauge, help).sample(&[], not_after);
    }
    let help = "Until when the lists of revoked client certificates are good; afterwards clients are refused.";
    if let Some(until) = seconds(tls.lists_until) {
        text.family("server_revocation_lists_expire_timestamp_seconds", Gauge, help).sample(&[], until);
    }
}

fn store(text: &mut Text, orgs: &[OrgState]) {
    use Type::Gauge;
    let of = |status: &v1::OrgStatus| status.store.clone().unwrap_or_default();
    let help = ("store_revision", Gauge, "Revision of the store.");
    one_each(text, help, orgs, |_, status| Some(of(status).revision));
    let help = ("store_size_bytes", Gauge, "Size of the store's files, write-ahead log included.");
    one_each(text, help, orgs, |_, status| Some(of(status).size_bytes));
    let help = ("quarantined_records", Gauge, "Records that Okta sent and that could not become rows.");
    one_each(text, help, orgs, |_, status| Some(of(status).quarantined_count));
    let help = ("index_revision", Gauge, "Revision up to which the search index shows the store.");
    one_each(text, help, orgs, |_, status| status.index.map(|index| index.revision));
    let help = ("register_in_use", Gauge, "1 while a register of names answers most look-ups.");
    one_each(text, help, orgs, |org, _| org.register.map(|look| u8::from(look.is_in_use)));
    let help = ("register_made_timestamp_seconds", Gauge, "When the register of names that is in use was begun.");
    one_each(text, help, orgs, |org, _| seconds(org.register.and_then(|look| look.made_at)));
    let help = (
        "register_outdated_ratio",
        Gauge,
        "The share of people, 0 to 1, for whom the store is read instead of the register.",
    );
    one_each(text, help, orgs, |org, _| org.register.filter(|look| look.is_in_use).map(|look| look.touched_share));
    let mut family = text.family("store_rows", Gauge, "Rows in the store, by kind.");
    for status in orgs.iter().filter_map(|org| org.status.status.as_ref()) {
        for count in of(status).row_counts {
            let kind = short(count.kind().as_str_name(), "ROW_KIND_");
            family.sample(&[("org", &status.org), ("kind", &kind)], count.row_count);
        }
    }
    let mut family = text.family("filtered_records", Gauge, "Records that the filters keep out, by kind.");
    for status in orgs.iter().filter_map(|org| org.status.status.as_ref()) {
        for count in of(status).row_counts {
            let kind = short(count.kind().as_str_name(), "ROW_KIND_");
            family.sample(&[("org", &status.org), ("kind", &kind)], count.filtered_count);
        }
    }
}

fn open_gaps(org: &OrgState, kind: v1::GapKind) -> u32 {
    org.status.open_gaps.iter().filter(|count| count.kind() == kind).map(|count| count.gap_count).sum()
}

fn gaps(text: &mut Text, orgs: &[OrgState]) {
    let mut family = text.family("open_gaps", Type::Gauge, "Open gaps, by kind.");
    for org in orgs {
        let Some(status) = &org.status.status else { continue };
        // Numbers are dense, so the first unknown one is the end. Kinds without gaps are told too: an alert needs the 0.
        for kind in (1..).map_while(|number| v1::GapKind::try_from(number).ok()) {
            let name = short(kind.as_str_name(), "GAP_KIND_");
            family.sample(&[("org", &status.org), ("gap_kind", &name)], open_gaps(org, kind));
        }
    }
    let mut family = text.family("scopes", Type::Gauge, "Collections, by how completely they were read.");
    for org in orgs {
        let Some(status) = &org.status.status else { continue };
        for (state, count) in &org.scopes {
            let name = short(state.as_str_name(), "SCOPE_STATE_");
            family.sample(&[("org", &status.org), ("state", &name)], count);
        }
    }
    let help = ("held_scopes", Type::Gauge, "Collections that the deletion brake holds.");
    one_each(text, help, orgs, |org, _| match &org.runtime {
        Some(runtime) => Some(runtime.follow.held),
        None => Some(open_gaps(org, v1::GapKind::Held).into()),
    });
}

fn crawl(text: &mut Text, orgs: &[OrgState]) {
    use Type::Gauge;
    let of = |status: &v1::OrgStatus| status.crawl.clone().unwrap_or_default();
    let help = ("crawl_running", Gauge, "Whether a full crawl is going on.");
    one_each(text, help, orgs, |_, status| Some(u8::from(of(status).state() == v1::CrawlState::Running)));
    let help = ("crawl_completed_timestamp_seconds", Gauge, "When a full crawl was last completed.");
    one_each(text, help, orgs, |_, status| seconds_of(of(status).completed_at.as_ref()));
}

fn log(text: &mut Text, orgs: &[OrgState]) {
    use Type::{Counter, Gauge};
    let of = |status: &v1::OrgStatus| status.log.unwrap_or_default();
    let help = ("log_following", Gauge, "Whether there is a position in the System Log that can be gone on from.");
    one_each(text, help, orgs, |_, status| Some(u8::from(of(status).state() == v1::FollowState::Following)));
    let help = ("log_observed_through_timestamp_seconds", Gauge, "Time in the System Log up to which it was followed.");
    one_each(text, help, orgs, |_, status| seconds_of(of(status).observed_through.as_ref()));
    let help = ("log_last_poll_timestamp_seconds", Gauge, "When the System Log was last polled successfully.");
    one_each(text, help, orgs, |_, status| seconds_of(of(status).polled_at.as_ref()));
    let follow = |org: &OrgState| org.runtime.as_ref().map(|runtime| runtime.follow.clone());
    let help = ("log_last_event_timestamp_seconds", Gauge, "When an event of the System Log was last seen.");
    one_each(text, help, orgs, |org, _| seconds(follow(org)?.last_event_at));
    let help = ("pending_reads", Gauge, "Reads that are owed.");
    one_each(text, help, orgs, |_, status| Some(of(status).pending_read_count));
    let help = ("log_polls_total", Counter, "Polls of the System Log that were answered.");
    one_each(text, help, orgs, |org, _| Some(follow(org)?.polls));
    let help = ("log_events_total", Counter, "Events of the System Log that were seen.");
    one_each(text, help, orgs, |org, _| Some(follow(org)?.events_seen));
    let help = ("log_unknown_events_total", Counter, "Events of types that this version does not know.");
    one_each(text, help, orgs, |org, _| Some(follow(org)?.unknown_events));
    let help = ("log_position_lost_total", Counter, "How often the position in the System Log was lost.");
    one_each(text, help, orgs, |org, _| Some(follow(org)?.cursor_lost));
    let help = ("reads_total", Counter, "Requests that were sent because something was owed.");
    one_each(text, help, orgs, |org, _| Some(follow(org)?.reads_sent));
}

fn requests(text: &mut Text, orgs: &[OrgState]) {
    let help = ("requests_total", Type::Counter, "Requests that were sent to Okta.");
    one_each(text, help, orgs, |org, _| org.runtime.as_ref().map(|runtime| runtime.requests));
    type Read = fn(&v1::RateLimitBucket) -> u64;
    let families: [(&'static str, Type, &str, Read); 5] = [
        ("rate_limit_requests", Type::Gauge, "Requests per window that this connector may send.", |bucket| {
            bucket.request_limit.into()
        }),
        ("rate_limit_remaining_requests", Type::Gauge, "Of those, requests left in the window.", |bucket| {
            bucket.remaining_request_count.into()
        }),
        ("rate_limit_refused_total", Type::Counter, "Answers 429.", |bucket| bucket.refused_request_count),
        ("bucket_failing", Type::Gauge, "Whether all requests of a rate-limit bucket fail.", |bucket| {
            bucket.failing_since.is_some().into()
        }),
        (
            "bucket_outages_total",
            Type::Counter,
            "How often all requests of a rate-limit bucket began to fail.",
            |bucket| bucket.outage_count,
        ),
    ];
    for (name, kind, help, read) in families {
        let mut family = text.family(name, kind, help);
        for status in orgs.iter().filter_map(|org| org.status.status.as_ref()) {
            for bucket in &status.rate_limits {
                family.sample(&[("org", &status.org), ("bucket", &bucket.name)], read(bucket));
            }
        }
    }
}

fn credential(text: &mut Text, orgs: &[OrgState]) {
    let of = |status: &v1::OrgStatus| status.credential.unwrap_or_default();
    let help = ("credential_accepted", Type::Gauge, "Whether Okta accepted the credential when it was last used.");
    one_each(text, help, orgs, |_, status| Some(u8::from(of(status).state() == v1::CredentialState::Accepted)));
    let help = ("credential_last_used_timestamp_seconds", Type::Gauge, "When the credential was last accepted.");
    one_each(text, help, orgs, |_, status| seconds_of(of(status).used_at.as_ref()));
    let help = ("credential_lapses_timestamp_seconds", Type::Gauge, "When the credential lapses if it is not used.");
    one_each(text, help, orgs, |_, status| seconds_of(of(status).lapses_at.as_ref()));
}

#[cfg(test)]
mod tests {
    use super::super::status::FollowStatus;
    use super::*;

    fn state() -> OrgState {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 5_000_000 });
        let row_counts = vec![v1::RowCount { kind: v1::RowKind::AppUser.into(), row_count: 7, ..Default::default() }];
        let status = v1::OrgStatus {
            org: "a\"c\\me\n".to_owned(),
            store: Some(v1::StoreStatus { revision: 12, row_counts, ..Default::default() }),
            log: Some(v1::LogStatus { observed_through: time(1_770_000_000), ..Default::default() }),
            rate_limits: vec![v1::RateLimitBucket {
                name: "apps".to_owned(),
                request_limit: 50,
                failing_since: time(1_770_000_000),
                outage_count: 2,
                ..Default::default()
            }],
            ..Default::default()
        };
        let open_gaps = vec![v1::GapCount { kind: v1::GapKind::Held.into(), gap_count: 2 }];
        let follow = FollowStatus { polls: 3, held: 2, ..FollowStatus::default() };
        OrgState {
            status: v1::GetStatusResponse { status: Some(status), open_gaps, ..Default::default() },
            scopes: vec![(v1::ScopeState::Complete, 40), (v1::ScopeState::Forbidden, 0)],
            register: Some(RegisterLook {
                accounts: 70_000,
                is_crawled: true,
                is_in_use: true,
                touched_share: 0.25,
                is_stained: false,
                made_at: Some(Timestamp::from_millis(1_770_000_000_005)),
            }),
            runtime: Some(RuntimeStatus { follow, requests: 9, ..RuntimeStatus::default() }),
        }
    }

    #[track_caller]
    fn check(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }

    fn of(orgs: &[OrgState]) -> String {
        render(orgs, &ServerStats::default())
    }

    #[test]
    fn the_server_counts_and_tells_of_its_certificate() {
        let stats = ServerStats::default();
        let samples = |stats: &ServerStats| {
            let text = render(&[], stats);
            let lines = text.lines().filter(|line| line.starts_with("okta_idmap_server_"));
            lines.map(|line| line["okta_idmap_server_".len()..].to_owned()).collect::<Vec<_>>()
        };
        stats.connected();
        stats.refuse_call(CallRefusal::Role);
        stats.refuse_connection(ConnectionRefusal::Unproven);
        let expected = [
            "connections 1",
            "refused_connections_total{reason=\"limit\"} 0",
            "refused_connections_total{reason=\"handshake\"} 0",
            "refused_connections_total{reason=\"slow_handshake\"} 0",
            "refused_connections_total{reason=\"unproven\"} 1",
            "refused_connections_total{reason=\"withdrawn\"} 0",
            "refused_connections_total{reason=\"system\"} 0",
            "refused_calls_total{reason=\"unauthenticated\"} 0",
            "refused_calls_total{reason=\"role\"} 1",
            "refused_calls_total{reason=\"limit\"} 0",
        ];
        assert_eq!(samples(&stats), expected);
        stats.use_certificate(Some(Timestamp::from_millis(1_000)), Some(Timestamp::from_millis(2_000)));
        stats.reload_failed();
        let of_tls = [
            "certificate_reload_failing 1",
            "certificate_expires_timestamp_seconds 1.000",
            "revocation_lists_expire_timestamp_seconds 2.000",
        ];
        assert_eq!(samples(&stats)[10..], of_tls);
        stats.use_certificate(None, None);
        assert_eq!(samples(&stats)[10..], ["certificate_reload_failing 0"]);
        stats.access_file(true);
        assert_eq!(samples(&stats)[10..], ["access_reload_failing 1", "certificate_reload_failing 0"]);
    }

    #[test]
    fn what_is_known_is_told() {
        let text = of(&[state()]);
        let org = r#"org="a\"c\\me\n""#;
        check(&text, &format!("okta_idmap_store_revision{{{org}}} 12"));
        check(&text, &format!("okta_idmap_store_rows{{{org},kind=\"app_user\"}} 7"));
        check(&text, &format!("okta_idmap_open_gaps{{{org},gap_kind=\"held\"}} 2"));
        check(&text, &format!("okta_idmap_open_gaps{{{org},gap_kind=\"stale\"}} 0"));
        check(&text, &format!("okta_idmap_scopes{{{org},state=\"complete\"}} 40"));
        check(&text, &format!("okta_idmap_scopes{{{org},state=\"forbidden\"}} 0"));
        check(&text, &format!("okta_idmap_held_scopes{{{org}}} 2"));
        check(&text, &format!("okta_idmap_log_observed_through_timestamp_seconds{{{org}}} 1770000000.005"));
        check(&text, &format!("okta_idmap_log_polls_total{{{org}}} 3"));
        check(&text, &format!("okta_idmap_register_in_use{{{org}}} 1"));
        check(&text, &format!("okta_idmap_register_made_timestamp_seconds{{{org}}} 1770000000.005"));
        check(&text, &format!("okta_idmap_register_outdated_ratio{{{org}}} 0.25"));
        check(&text, &format!("okta_idmap_requests_total{{{org}}} 9"));
        check(&text, &format!("okta_idmap_rate_limit_requests{{{org},bucket=\"apps\"}} 50"));
        check(&text, &format!("okta_idmap_bucket_failing{{{org},bucket=\"apps\"}} 1"));
        check(&text, &format!("okta_idmap_bucket_outages_total{{{org},bucket=\"apps\"}} 2"));
        check(&text, "# TYPE okta_idmap_log_polls_total counter");
        check(&text, "# TYPE okta_idmap_store_revision gauge");
    }

    #[test]
    fn what_is_not_known_has_no_sample() {
        let none = RegisterLook { is_in_use: false, made_at: None, ..state().register.unwrap() };
        let unknown = OrgState { runtime: None, register: Some(none), ..state() };
        let text = of(&[unknown, OrgState::default()]);
        assert!(text.contains("okta_idmap_register_in_use{org=\"a\\\"c\\\\me\\n\"} 0\n"), "{text}");
        for name in [
            "register_outdated_ratio",
            "register_made_timestamp_seconds",
            "log_polls_total",
            "requests_total",
            "log_last_poll_timestamp_seconds",
        ] {
            assert!(!text.lines().any(|line| line.starts_with(&format!("okta_idmap_{name}{{"))), "{name}:\n{text}");
        }
        assert!(of(&[]).contains("okta_idmap_build_info{version="));
    }

    /// The rules of the format that a scraper minds.
    #[test]
    fn the_text_is_well_formed() {
        let text = of(&[state(), state()]);
        let mut families = std::collections::BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "{family} twice");
                assert!(family.starts_with("okta_idmap_"), "{family}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let is_counter = rest == format!("{family} counter");
                assert!(is_counter || rest == format!("{family} gauge"), "{line}");
                assert_eq!(is_counter, family.ends_with("_total"), "{family}");
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(name, family);
                line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            }
        }
        assert!(text.ends_with('\n') && families.len() > 20);
    }
}

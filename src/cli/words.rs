//! What answers mean, in words. Entry points: [`resolution`], [`subject`], and one function per enum of the API.

use okta_idmap_proto::v1;
use prost_types::Timestamp as ProtoTimestamp;
use v1::inactive_reason::Inactive;

use super::output::short;
use crate::core::ids::Timestamp;

macro_rules! short_names {
    ($($function:ident($enumeration:ident, $prefix:literal);)*) => {
        $(
            #[doc = concat!("Short name of a `", stringify!($enumeration), "`; empty for UNSPECIFIED, its number for one \
                             that this version does not know.")]
            pub(super) fn $function(number: i32) -> String {
                match v1::$enumeration::try_from(number) {
                    Ok(value) => short(value.as_str_name(), $prefix).to_owned(),
                    Err(_) => number.to_string(),
                }
            }
        )*

        #[cfg(test)]
        const SHORT_NAMES: &[(&str, fn(i32) -> String)] = &[$((stringify!($enumeration), $function)),*];
    };
}

short_names! {
    user_status(UserStatus, "USER_STATUS_");
    app_status(AppStatus, "APP_STATUS_");
    app_user_status(AppUserStatus, "APP_USER_STATUS_");
    group_type(GroupType, "GROUP_TYPE_");
    assignment_scope(AssignmentScope, "ASSIGNMENT_SCOPE_");
    outcome(ResolutionOutcome, "RESOLUTION_OUTCOME_");
    warning(ResolutionWarning, "RESOLUTION_WARNING_");
    membership(Membership, "MEMBERSHIP_");
    subject_outcome(SubjectOutcome, "SUBJECT_OUTCOME_");
    crawl_state(CrawlState, "CRAWL_STATE_");
    index_state(IndexState, "INDEX_STATE_");
    start_outcome(StartOutcome, "START_OUTCOME_");
    credential_state(CredentialState, "CREDENTIAL_STATE_");
    follow_state(FollowState, "FOLLOW_STATE_");
    gap_kind(GapKind, "GAP_KIND_");
    gap_state(GapState, "GAP_STATE_");
    scope_kind(ScopeKind, "SCOPE_KIND_");
    scope_state(ScopeState, "SCOPE_STATE_");
    tier_name(MatchTier, "MATCH_TIER_");
    identifier_kind(IdentifierKind, "IDENTIFIER_KIND_");
    override_source(OverrideSource, "OVERRIDE_SOURCE_");
}

/// What the name of an override is; one of no kind answers questions of every kind.
pub(super) fn name_kind(kind: v1::IdentifierKind) -> String {
    match kind {
        v1::IdentifierKind::Unspecified => "ANY".to_owned(),
        kind => identifier_kind(kind.into()),
    }
}

macro_rules! parsed_names {
    ($($function:ident($enumeration:ident, $prefix:literal);)*) => {
        $(
            #[doc = concat!("Reads the short name of a `", stringify!($enumeration), "` as people type it: any case, with - \
                             or _. The error names those that there are.")]
            pub(super) fn $function(typed: &str) -> Result<v1::$enumeration, String> {
                let name = format!("{}{}", $prefix, typed.to_ascii_uppercase().replace('-', "_"));
                match v1::$enumeration::from_str_name(&name) {
                    Some(value) if value != v1::$enumeration::Unspecified => Ok(value),
                    _ => {
                        let all = (1..).map_while(|number| v1::$enumeration::try_from(number).ok());
                        let known = all.map(|value| short(value.as_str_name(), $prefix).to_lowercase().replace('_', "-"));
                        Err(format!("it is one of {}", known.collect::<Vec<_>>().join(", ")))
                    }
                }
            }
        )*
    };
}

parsed_names! {
    parse_gap_kind(GapKind, "GAP_KIND_");
    parse_scope_kind(ScopeKind, "SCOPE_KIND_");
    parse_scope_state(ScopeState, "SCOPE_STATE_");
}

/// A status with Okta's own spelling where this version has no name for it.
pub(super) fn raw_or(short: String, raw: &str) -> String {
    if raw.is_empty() { short } else { raw.to_owned() }
}

/// ISO 8601, or empty.
pub(super) fn time(time: Option<&ProtoTimestamp>) -> String {
    time.map(|time| moment(time).to_iso()).unwrap_or_default()
}

/// Seconds with three decimals, or empty.
pub(super) fn seconds(duration: Option<&prost_types::Duration>) -> String {
    duration.map(|duration| format!("{}.{:03}s", duration.seconds, duration.nanos / 1_000_000)).unwrap_or_default()
}

/// `users`, `app_users(0oa1)`: the name that gap ids end with.
pub(super) fn scope(scope: Option<&v1::Scope>) -> String {
    let Some(scope) = scope else { return String::new() };
    let kind = scope_kind(scope.kind).to_ascii_lowercase();
    if scope.resource_id.is_empty() { kind } else { format!("{kind}({})", scope.resource_id) }
}

/// Why a position cannot be gone on from.
pub(super) fn too_old(too_old: &v1::TooOld) -> String {
    match too_old.reason() {
        v1::TooOldReason::ChangesDropped => {
            format!("changes are known from revision {} on only", too_old.oldest_revision)
        }
        v1::TooOldReason::StoreReplaced => "the server's store is another one by now".to_owned(),
        v1::TooOldReason::StoreRestored => "the server's store was put back to an earlier state".to_owned(),
        v1::TooOldReason::Unspecified => "the server cannot go on from that position".to_owned(),
    }
}

/// A time of the API as ours.
pub(super) fn moment(time: &ProtoTimestamp) -> Timestamp {
    Timestamp::from_millis(time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos / 1_000_000)))
}

/// `Ada Lovelace <ada@acme.com> 00u1 ACTIVE`, as far as it is known.
pub(super) fn person(user: &v1::UserRef) -> String {
    let address = match user.login.is_empty() {
        true => String::new(),
        false => format!("<{}>", user.login),
    };
    let status = raw_or(user_status(user.status), &user.status_raw);
    joined(&[&user.display_name, &address, &user.id, &status])
}

/// `Jira Cloud (jira) 0oa1 ACTIVE`, as far as it is known.
pub(super) fn app(app: &v1::AppRef) -> String {
    let name = if app.name.is_empty() { String::new() } else { format!("({})", app.name) };
    joined(&[&app.label, &name, &app.id, &raw_or(app_status(app.status), &app.status_raw)])
}

/// `Eng EU 00g1`.
pub(super) fn group(group: &v1::GroupRef) -> String {
    joined(&[&group.name, &group.id])
}

fn joined(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// How an account was matched; empty for none.
pub(super) fn tier(tier: v1::MatchTier) -> &'static str {
    match tier {
        v1::MatchTier::Unspecified => "",
        v1::MatchTier::ExternalId => "T0, external id",
        v1::MatchTier::UserNameExact => "T1, user name exactly",
        v1::MatchTier::UserNameNormalized => "T2, user name as the app compares it",
        v1::MatchTier::Email => "T3, e-mail or login",
        v1::MatchTier::Alias => "T4, configured alias",
        v1::MatchTier::SecondEmail => "T5, secondary e-mail",
        v1::MatchTier::OperatorOverride => "T6, operator's override",
    }
}

/// Why something does not grant: `user is SUSPENDED`.
pub(super) fn inactive(reasons: &[v1::InactiveReason]) -> String {
    let word = |reason: &v1::InactiveReason| {
        let (what, status) = match reason.inactive {
            Some(Inactive::UserStatus(status)) => ("user", user_status(status)),
            Some(Inactive::AppUserStatus(status)) => ("account", app_user_status(status)),
            Some(Inactive::AppStatus(status)) => ("app", app_status(status)),
            None => ("something", String::new()),
        };
        match raw_or(status, &reason.status_raw) {
            // The account names a user whom no list shows.
            status if status.is_empty() => format!("{what} is not in the list of {what}s"),
            status => format!("{what} is {status}"),
        }
    };
    reasons.iter().map(word).collect::<Vec<_>>().join(", ")
}

/// Why a resolution does not grant; empty for RESOLVED.
pub(super) fn resolution(resolution: &v1::Resolution) -> String {
    use v1::ResolutionOutcome as Outcome;
    match resolution.outcome() {
        Outcome::Resolved => String::new(),
        Outcome::Ambiguous => {
            let count = resolution.candidate_count;
            let hint = if resolution.candidates.is_empty() { "; --candidates lists them" } else { "" };
            format!("{count} users may be meant, so nobody is granted{hint}")
        }
        Outcome::Inactive => inactive(&resolution.inactive_reasons),
        Outcome::Shared => match resolution.shared_user_name.as_str() {
            "" => "the app has one account for everybody, which names no person".to_owned(),
            name => format!("the app has one account for everybody, {name}, which names no person"),
        },
        Outcome::Reused => {
            let released = resolution.holders.iter().filter_map(|holder| holder.released_at.as_ref()).map(moment).max();
            let when = released.map(|time| format!(" until {time}")).unwrap_or_default();
            format!("the name belonged to another user{when}, and documents may still mean that one")
        }
        Outcome::Filtered => "the user is outside of the configured e-mail domains".to_owned(),
        Outcome::NotFound => "nobody has such an account, and everything that could hold it was read".to_owned(),
        Outcome::UnknownGap => {
            format!(
                "nobody is known to have such an account, but not everything was read: {}",
                gaps(&resolution.gap_ids)
            )
        }
        Outcome::UnknownApp => {
            "no app has this id, label or integration name; `okta-idmap app list` shows them".to_owned()
        }
        Outcome::AmbiguousApp => {
            let count = resolution.app_candidate_count;
            let hint = if resolution.app_candidates.is_empty() { "; --candidates lists them" } else { "" };
            format!("{count} apps have this label or integration name, use the id{hint}")
        }
        Outcome::Unspecified => {
            format!("the server gave an outcome that this version does not know ({})", resolution.outcome)
        }
    }
}

/// Why there is no user, app or group to show.
pub(super) fn subject(kind: &str, name: &str, outcome: v1::SubjectOutcome, gap_ids: &[String]) -> String {
    use v1::SubjectOutcome as Outcome;
    match outcome {
        Outcome::Found => format!("{kind} \"{name}\" was found"),
        Outcome::NotFound => format!("no {kind} \"{name}\", and everything that could hold one was read"),
        Outcome::UnknownGap => {
            format!("no {kind} \"{name}\" is known, but not everything was read: {}", gaps(gap_ids))
        }
        Outcome::Filtered => format!("{kind} \"{name}\" is excluded by the configured filters"),
        Outcome::NotUnique => format!("{kind} \"{name}\" is not unique; use the id"),
        Outcome::Unspecified => format!("the server does not say whether there is a {kind} \"{name}\""),
    }
}

/// Gap ids that a sentence names; JSON has up to a hundred. More cannot be read at a glance, and mostly repeat one cause.
const GAPS_NAMED_MAX: usize = 10;

/// Some gaps by id, and how many more there are of `count`.
pub(super) fn gaps_named<'a>(ids: impl IntoIterator<Item = &'a String>, count: usize) -> String {
    let named: Vec<&str> = ids.into_iter().take(GAPS_NAMED_MAX).map(String::as_str).collect();
    match count.saturating_sub(named.len()) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn gaps(ids: &[String]) -> String {
    if ids.is_empty() { "see `okta-idmap status`".to_owned() } else { gaps_named(ids, ids.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_have_no_prefix() {
        for (name, function) in SHORT_NAMES {
            assert_eq!(function(0), "", "{name}");
            assert!(!function(1).is_empty(), "{name}");
            let prefix = function(1);
            assert!(prefix.len() < 24, "{name}: {prefix} still has a prefix");
            assert_eq!(function(9_999), "9999");
        }
        assert_eq!(outcome(v1::ResolutionOutcome::UnknownGap.into()), "UNKNOWN_GAP");
        assert_eq!(raw_or(user_status(100), "IN_2027"), "IN_2027");
    }

    #[test]
    fn names_are_read_as_people_type_them() {
        for typed in ["scope-missing", "SCOPE_MISSING", "Scope-Missing"] {
            assert_eq!(parse_gap_kind(typed), Ok(v1::GapKind::ScopeMissing));
        }
        assert_eq!(parse_scope_kind("app-users"), Ok(v1::ScopeKind::AppUsers));
        let error = parse_scope_state("unspecified").unwrap_err();
        assert_eq!(error, "it is one of never-read, complete, partial, forbidden, failed, held");
    }

    #[test]
    fn only_some_gaps_are_named() {
        #[track_caller]
        fn check(ids: usize, count: usize, expected: &str) {
            let ids: Vec<String> = (0..ids).map(|id| id.to_string()).collect();
            assert_eq!(gaps_named(&ids, count), expected);
        }
        check(2, 2, "0, 1");
        check(1, 5, "0 and 4 more");
        check(12, 12, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more");
        check(12, 300, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 290 more");
    }

    #[test]
    fn a_refusal_says_why() {
        #[track_caller]
        fn check(resolution_: v1::Resolution, part: &str) {
            let text = resolution(&resolution_);
            assert!(text.contains(part), "{text}");
        }
        let with = |outcome: v1::ResolutionOutcome| v1::Resolution { outcome: outcome.into(), ..Default::default() };
        use v1::ResolutionOutcome as Outcome;
        assert_eq!(resolution(&with(Outcome::Resolved)), "");
        check(v1::Resolution { candidate_count: 3, ..with(Outcome::Ambiguous) }, "3 users");
        let reasons = vec![
            v1::InactiveReason { inactive: Some(Inactive::UserStatus(7)), status_raw: String::new() },
            v1::InactiveReason { inactive: Some(Inactive::AppStatus(100)), status_raw: "NEW".into() },
        ];
        check(v1::Resolution { inactive_reasons: reasons, ..with(Outcome::Inactive) }, "user is SUSPENDED, app is NEW");
        check(v1::Resolution { shared_user_name: "team".into(), ..with(Outcome::Shared) }, ", team,");
        let holder = |seconds: Option<i64>| v1::AccountHolder {
            user: None,
            released_at: seconds.map(|seconds| ProtoTimestamp { seconds, nanos: 0 }),
        };
        check(
            v1::Resolution { holders: vec![holder(None), holder(Some(60)), holder(Some(0))], ..with(Outcome::Reused) },
            "until 1970-01-01T00:01:00.000Z",
        );
        check(with(Outcome::Filtered), "e-mail domains");
        check(with(Outcome::NotFound), "everything");
        check(
            v1::Resolution { gap_ids: vec!["FORBIDDEN:users".into()], ..with(Outcome::UnknownGap) },
            "FORBIDDEN:users",
        );
        check(with(Outcome::UnknownApp), "app list");
        check(v1::Resolution { app_candidate_count: 2, ..with(Outcome::AmbiguousApp) }, "2 apps");
        check(v1::Resolution { outcome: 77, ..Default::default() }, "(77)");
    }

    #[test]
    fn people_are_shown_as_far_as_known() {
        #[track_caller]
        fn check(user: v1::UserRef, expected: &str) {
            assert_eq!(person(&user), expected);
        }
        let known = v1::UserRef {
            id: "00u1".into(),
            login: "ada@acme.com".into(),
            display_name: "Ada L".into(),
            status: 3,
            ..Default::default()
        };
        check(known, "Ada L <ada@acme.com> 00u1 ACTIVE");
        check(v1::UserRef { id: "00u1".into(), ..Default::default() }, "00u1");
    }
}

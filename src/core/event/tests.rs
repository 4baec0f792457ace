//! Every line of facts 9 with the targets of its family, and what happens when targets are missing, many or strange.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::table::{SECTIONS, line_for};
use super::*;

mod facts;

/// A target from its short form: `U1` a user, `P1` an app user, `A1` an app, `C1` a client, `G1` a group, `I1` an imported
/// one, `D1` something whose details name user 1, `E1` something whose details name app 1.
fn target(short: &str) -> LogTarget {
    let (kind, number) = short.split_at(1);
    let (target_type, prefix) = match kind {
        "U" => ("User", "00u"),
        "P" => ("AppUser", "0ua"),
        "A" => ("AppInstance", "0oa"),
        "C" => ("PublicClientApp", "0oa"),
        "G" => ("UserGroup", "00g"),
        "I" => ("AppGroup", "00g"),
        "R" => ("ROLE", "00r"),
        _ => ("AppUser", "0ud"),
    };
    LogTarget {
        target_type: target_type.into(),
        id: format!("{prefix}{number}").into(),
        detail_user_id: (kind == "D").then(|| format!("00u{number}").into()),
        detail_app_id: (kind == "E").then(|| format!("0oa{number}").into()),
    }
}

/// A successful event with targets in the short form, `U1 A1`.
fn event(event_type: &str, targets: &str) -> LogEvent {
    LogEvent {
        uuid: "d4f8e2f0".into(),
        published: Some(Timestamp::from_millis(7)),
        event_type: event_type.into(),
        outcome: Some("SUCCESS".into()),
        transaction_type: None,
        api_token: None,
        targets: targets.split_whitespace().map(target).collect(),
        targets_cut: false,
        debug_data: Vec::new(),
    }
}

/// The effects as text, in this order: `user(00u1) now; +00g1/00u1; unknown; visibility`.
fn shown(effects: &Effects) -> String {
    let marks = effects.marks.iter().map(|Mark { target, when, .. }| format!("{target} {when:?}").to_lowercase());
    let members = effects.members.iter().map(|change| {
        assert_eq!(change.published, Some(Timestamp::from_millis(7)));
        format!("{}{}/{}", if change.added { '+' } else { '-' }, change.group, change.user)
    });
    let unknown = effects.is_unknown.then(|| "unknown".to_owned());
    let visibility = effects.visibility_changed.then(|| "visibility".to_owned());
    marks.chain(members).chain(unknown).chain(visibility).collect::<Vec<_>>().join("; ")
}

#[track_caller]
fn check(event_type: &str, targets: &str, expected: &str) {
    assert_eq!(shown(&effects(&event(event_type, targets))), expected, "{event_type} {targets}");
}

#[test]
fn every_type_of_the_facts_does_what_they_say() {
    let mut checked: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (section, types, targets, expected) in facts::ROWS {
        for pattern in facts::expand(types) {
            check(&pattern.replace('*', "any.thing"), targets, expected);
            assert!(checked.entry(section).or_default().insert(pattern.clone()), "{pattern} stands there twice");
        }
    }
    let table = SECTIONS.map(|(section, lines)| {
        let patterns: BTreeSet<String> = lines.iter().map(|line| line.pattern.to_owned()).collect();
        assert_eq!(patterns.len(), lines.len(), "a pattern of {section} stands there twice");
        (section, patterns)
    });
    assert_eq!(checked, BTreeMap::from(table));
    let counts = checked.values().map(BTreeSet::len);
    assert_eq!(counts.collect::<Vec<_>>(), [53, 78, 17, 40, 70, 81, 4]);
}

#[test]
fn no_pattern_hides_another() {
    // Each pattern leads to its own line, also where a family around it has another effect.
    let lines = || SECTIONS.into_iter().flat_map(|(_, lines)| lines);
    for line in lines() {
        let sample = line.pattern.replace('*', "x");
        assert_eq!(line_for(&sample).unwrap().pattern, line.pattern);
        assert!(line.pattern.matches('*').count() <= 1, "{}", line.pattern);
        assert!(!line.pattern.starts_with('*'), "{}", line.pattern);
        if line.class == Class::NoEffect {
            assert_eq!(line.steps, [], "{}", line.pattern);
        }
    }
}

#[test]
fn the_nearest_pattern_wins() {
    #[track_caller]
    fn check(event_type: &str, expected: Option<&str>) {
        assert_eq!(line_for(event_type).map(|line| line.pattern), expected, "{event_type}");
    }
    check("application.provision.group_push.pushed", Some("application.provision.group_push.*"));
    check("application.provision.group_push.delete_appgroup", Some("application.provision.group_push.delete_appgroup"));
    check("access.request.create", Some("access.request.*"));
    check("access.request.resolve", Some("access.request.resolve"));
    check("system.import.user_matching.start", Some("system.import.*.start"));
    check("system.import.custom_object.x.start", Some("system.import.custom_object.*"));
    check("system.import.started", None);
    check("user.lifecycle", None);
    check("user.lifecycle.create.more", None);
    check("", None);
    check("*", None);
}

#[test]
fn a_missing_target_widens_the_read() {
    // The app is known, the user is not.
    check("application.user_membership.add", "A1", "list(app_users(0oa1)) quiet");
    check("application.user_membership.add", "P1 A1", "list(app_users(0oa1)) quiet");
    check("system.import.user.create", "A1", "list(app_users(0oa1)) quiet; users_delta now");
    // The user is known, the app is not.
    check("application.user_membership.remove", "U1", "user_apps(00u1) now");
    check("app.access_request.grant", "U1", "user_apps(00u1) later");
    check("application.provision.field_mapping_rule.change", "U1", "user_apps(00u1) now");
    check("resource.collection.assign", "A1", "list(app_users(0oa1)) quiet");
    // Nothing is.
    check("user.lifecycle.create", "", "users_delta now");
    check("user.lifecycle.create", "P1 A1", "users_delta now");
    check("user.lifecycle.deactivate", "", "users_delta now; users_delta later");
    check("user.lifecycle.delete.initiated", "", "users_delta later");
    check("group.profile.update", "U1", "groups_delta now");
    check("group.user_membership.add", "U1", "groups_delta now");
    check("group.user_membership.add", "G1", "list(group_members(00g1)) quiet");
    check("group.user_membership.remove", "", "groups_delta now");
    check("directory.external.group.membership.add", "U1", "groups_delta later");
    check("system.import.group.complete", "", "groups_delta now");
    check("group.application_assignment.add", "G1", "list(apps) now");
    let assigned = "app_group(0oa1,00g1) now; list(app_users(0oa1)) quiet; list(app_groups(0oa1)) now";
    check("group.application_assignment.add", "G1 A1", assigned);
    let not_assigned = "list(app_users(0oa1)) quiet; list(app_groups(0oa1)) now";
    check("group.application_assignment.remove", "G1 A1", not_assigned);
    check("application.lifecycle.update", "U1", "list(apps) now");
    check("application.user_membership.add", "", "list(apps) now");
    check("app.access_request.grant", "", "list(apps) later");
    check("system.import.complete", "", "list(apps) now; users_delta quiet");
    check("system.import.user.delete", "", "users_delta now");
}

#[test]
fn targets_are_selected_by_type() {
    // In any order, and an app user's own id is no user's.
    check("application.user_membership.add", "U1 P1 A1", "app_user(0oa1,00u1) now");
    check("application.user_membership.add", "A1 U1 P1", "app_user(0oa1,00u1) now");
    check("application.user_membership.add", "U1 U1 A1", "app_user(0oa1,00u1) now");
    // The details stand in, but only for what is missing.
    check("application.account.match.update", "D1 E1", "app_user(0oa1,00u1) now");
    check("application.provision.user.deprovision", "D1 A2", "app_user(0oa2,00u1) now");
    check("application.provision.user.deprovision", "D1 E1 U2 A2", "app_user(0oa2,00u2) now");
    check("user.lifecycle.create", "D1", "user(00u1) now");
    // A client is an app in the events about clients; elsewhere it is who acts.
    check("app.oauth2.client.lifecycle.update", "C1", "app(0oa1) now");
    check("app.oauth2.client.lifecycle.update", "A1", "app(0oa1) now");
    check("application.user_membership.add", "C1 U1", "user_apps(00u1) now");
    // An imported group is a group.
    check("group.user_membership.add", "U1 I1", "+00g1/00u1");
    // What cannot be an id is not there.
    let mut strange = event("application.user_membership.add", "U1 U2 A1");
    strange.targets[1].id = "00u2/../../x".into();
    assert_eq!(shown(&effects(&strange)), "app_user(0oa1,00u1) now");
    strange.targets[0].id = "".into();
    assert_eq!(shown(&effects(&strange)), "list(app_users(0oa1)) quiet");
}

#[test]
fn the_same_type_may_stand_there_twice() {
    check("user.lifecycle.suspend", "U1 U2", "user(00u1) now; user(00u2) now");
    check("application.user_membership.add", "A1 U1 U2", "app_user(0oa1,00u1) now; app_user(0oa1,00u2) now");
    check("application.user_membership.add", "A1 A2 U1", "app_user(0oa1,00u1) now; app_user(0oa2,00u1) now");
    // Nobody knows who belongs to which.
    check("application.user_membership.add", "A1 A2 U1 U2", "list(app_users(0oa1)) quiet; list(app_users(0oa2)) quiet");
    check("application.user_membership.add", "A1 A2", "list(app_users(0oa1)) quiet; list(app_users(0oa2)) quiet");
    check("application.user_membership.add", "U1 U2", "user_apps(00u1) now; user_apps(00u2) now");
    check("group.user_membership.add", "G1 U1 U2", "+00g1/00u1; +00g1/00u2");
    check("group.user_membership.remove", "G1 G2 U1", "-00g1/00u1; -00g2/00u1");
    let unclear = "list(group_members(00g1)) quiet; list(group_members(00g2)) quiet";
    check("group.user_membership.add", "G1 G2 U1 U2", unclear);
}

#[test]
fn cut_targets_widen_the_read() {
    #[track_caller]
    fn check(event_type: &str, targets: &str, expected: &str) {
        let event = LogEvent { targets_cut: true, ..event(event_type, targets) };
        assert_eq!(shown(&effects(&event)), expected, "{event_type} {targets}");
    }
    check("user.lifecycle.create", "U1", "user(00u1) now; users_delta now");
    check("group.profile.update", "G1", "group(00g1) now; groups_delta now");
    check("application.lifecycle.update", "A1", "app(0oa1) now; list(apps) now");
    check("application.user_membership.add", "A1 U1 U2", "list(app_users(0oa1)) quiet");
    check("application.user_membership.add", "A1 A2 U1", "user_apps(00u1) now");
    check("application.user_membership.add", "A1 U1", "user_apps(00u1) now; list(app_users(0oa1)) quiet");
    check("group.user_membership.add", "G1 U1 U2", "list(group_members(00g1)) quiet; groups_delta now");
    check("quite.new", "U1", "user(00u1) now; users_delta now; unknown");
}

#[test]
fn failures_are_read_and_not_applied() {
    #[track_caller]
    fn check(event_type: &str, targets: &str, outcome: Option<&str>, expected: &str) {
        let event = LogEvent { outcome: outcome.map(Into::into), ..event(event_type, targets) };
        assert_eq!(shown(&effects(&event)), expected, "{event_type} {outcome:?}");
    }
    for outcome in ["FAILURE", "DENY"] {
        check("user.lifecycle.create", "U1", Some(outcome), "user(00u1) now");
        check("application.user_membership.add", "A1 U1", Some(outcome), "app_user(0oa1,00u1) now");
        check("group.user_membership.add", "G1 U1", Some(outcome), "list(group_members(00g1)) later");
        check("group.user_membership.remove", "U1", Some(outcome), "groups_delta later");
        check("iam.resourceset.update", "", Some(outcome), "");
    }
    // Neither said to have happened nor to have failed.
    for outcome in [Some("UNKNOWN"), Some("DEFERRED"), Some("Success"), Some(""), None] {
        check("group.user_membership.add", "G1 U1", outcome, "list(group_members(00g1)) quiet");
        check("user.lifecycle.create", "U1", outcome, "user(00u1) now");
        check("iam.resourceset.update", "", outcome, "visibility");
    }
}

#[test]
fn a_membership_without_a_date_is_handed_on_without_one() {
    let undated = LogEvent { published: None, ..event("group.user_membership.add", "G1 U1") };
    let effects = effects(&undated);
    assert_eq!((effects.marks.len(), effects.members.len()), (0, 1));
    assert_eq!(effects.members[0].published, None);
}

#[test]
fn an_unknown_type_reads_what_it_names() {
    check("quite.new", "", "unknown");
    check("quite.new", "P1 R1", "unknown");
    check("quite.new", "U1", "user(00u1) now; unknown");
    check("quite.new", "G1", "group(00g1) now; unknown");
    check("quite.new", "A1", "app(0oa1) now; unknown");
    check("application.user_membership.transfer", "P1 A1 U1", "app_user(0oa1,00u1) now; unknown");
    check("quite.new", "E1 D1", "app_user(0oa1,00u1) now; unknown");
    check(
        "group.user_membership.expire",
        "U1 G1",
        "user(00u1) now; group(00g1) now; list(group_members(00g1)) quiet; unknown",
    );
    check(
        "group.application_assignment.move",
        "G1 A1",
        "group(00g1) now; app(0oa1) now; list(app_users(0oa1)) quiet; list(app_groups(0oa1)) now; unknown",
    );
    // Such an old name that some still subscribe to is none (facts 9.6).
    check("app.lifecycle.create", "A1", "app(0oa1) now; unknown");
}

/// Whether [`LOG_FILTER`] lets a type through, by Okta's rules for the operators that it uses.
fn is_let_through(event_type: &str) -> bool {
    fn clause(text: &str, event_type: &str) -> bool {
        let mut words = text.splitn(3, ' ');
        assert_eq!(words.next(), Some("eventType"), "{text}");
        let (operator, value) = (words.next().unwrap(), words.next().unwrap());
        let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        assert!(!value.contains(['"', '(', ')', ' ']), "{text}");
        match operator {
            "sw" => event_type.starts_with(value),
            other => other == "eq" && event_type == value,
        }
    }
    let inner = LOG_FILTER.strip_prefix('(').unwrap().strip_suffix(')').unwrap();
    let (wanted, unwanted) = inner.split_once(") and not (").unwrap();
    wanted.split(" or ").any(|text| clause(text, event_type)) && !clause(unwanted, event_type)
}

#[test]
fn the_filter_lets_every_effect_through() {
    let lines = SECTIONS.into_iter().flat_map(|(_, lines)| lines);
    for line in lines.filter(|line| !line.steps.is_empty()) {
        assert!(is_let_through(&line.pattern.replace('*', "x")), "{}", line.pattern);
    }
    // New members of known families come through; what floods a log does not.
    for wanted in
        ["user.lifecycle.reborn", "group.new", "application.user_membership.transfer", "iam.new", "system.dr.new"]
    {
        assert!(is_let_through(wanted), "{wanted}");
    }
    for unwanted in [
        "user.session.start",
        "user.authentication.sso",
        "policy.evaluate_sign_on",
        "app.oauth2.token.grant.access_token",
        "application.provision.integration.call_api",
        "application",
    ] {
        assert!(!is_let_through(unwanted), "{unwanted}");
    }
}

fn any_target() -> impl Strategy<Value = LogTarget> {
    let types =
        ["User", "AppUser", "AppInstance", "PublicClientApp", "UserGroup", "AppGroup", "ROLE", "URL Pattern", ""];
    let id = || prop_oneof!["[a-z0-9]{1,3}", "\\PC{0,8}"];
    let detail = || proptest::option::of(id().prop_map(Into::into));
    (proptest::sample::select(types.to_vec()), id(), detail(), detail()).prop_map(|(kind, id, user, app)| LogTarget {
        target_type: kind.into(),
        id: id.into(),
        detail_user_id: user,
        detail_app_id: app,
    })
}

fn any_event() -> impl Strategy<Value = LogEvent> {
    let lines = SECTIONS.into_iter().flat_map(|(_, lines)| lines);
    let patterns: Vec<&str> = lines.map(|line| line.pattern).collect();
    let known = (proptest::sample::select(patterns), "[a-z._]{0,9}").prop_map(|(line, rest)| line.replace('*', &rest));
    let event_type = prop_oneof![4 => known, 1 => "[a-z._]{0,30}", 1 => "\\PC{0,30}"];
    let outcome = proptest::sample::select(vec![None, Some("SUCCESS"), Some("FAILURE"), Some("DENY"), Some("SKIPPED")]);
    let targets = proptest::collection::vec(any_target(), 0..6);
    (event_type, outcome, targets, any::<bool>(), any::<Option<i64>>()).prop_map(|(kind, outcome, targets, cut, at)| {
        LogEvent {
            outcome: outcome.map(Into::into),
            targets,
            targets_cut: cut,
            published: at.map(Timestamp::from_millis),
            ..event(&kind, "")
        }
    })
}

proptest! {
    #[test]
    fn an_effect_is_never_lost(event in any_event()) {
        let effects = effects(&event);
        let line = line_for(&event.event_type);
        prop_assert_eq!(effects.is_unknown, line.is_none());
        let is_empty = effects.marks.is_empty() && effects.members.is_empty() && !effects.visibility_changed;
        let is_failed = matches!(event.outcome.as_deref(), Some("FAILURE" | "DENY"));
        if let Some(line) = line {
            let is_effective = line.steps.iter().any(|step| *step != Step::Visibility || !is_failed);
            prop_assert_eq!(is_empty, !is_effective, "{:?}", line);
        }
        if event.outcome.as_deref() != Some("SUCCESS") || event.targets_cut {
            prop_assert!(effects.members.is_empty());
        }
        for pair in effects.marks.windows(2) {
            prop_assert!((&pair[0].target, pair[0].when) < (&pair[1].target, pair[1].when));
        }
        // Whatever is marked can be stored and read back.
        for mark in &effects.marks {
            prop_assert_eq!(Target::parse(&mark.target.name()), Some(mark.target.clone()));
        }
    }

    #[test]
    fn the_order_of_targets_means_nothing(event in any_event(), turns in 0_usize..6) {
        let mut shuffled = event.clone();
        shuffled.targets.reverse();
        shuffled.targets.rotate_left(turns.min(event.targets.len()));
        prop_assert_eq!(effects(&shuffled), effects(&event));
    }
}

//! Point look-ups: accounts, batches, users, memberships.

use okta_idmap::core::coverage::{CoveragePolicy, GapKind, OnGap};
use okta_idmap::core::ids::{AppId, UserId};
use okta_idmap::core::model::{Key, Row, Scope};
use okta_idmap::core::policy::{AliasSetting, GrantPolicySettings};
use okta_idmap::core::resolve::IdentifierKind;
use okta_idmap_proto::v1;
use tonic::transport::Channel;

use super::world::{
    Server, World, account, app_by_any, app_by_id, app_user, shown_meta, user_by_account, user_by_id, user_by_login,
    user_id,
};

type Lookup = v1::lookup_client::LookupClient<Channel>;

/// A resolution in one line: outcome, user, tier, and what else is set.
fn shown(resolution: &v1::Resolution) -> String {
    let mut parts = vec![resolution.outcome().as_str_name().replace("RESOLUTION_OUTCOME_", "")];
    parts.extend(resolution.user.iter().map(|user| user.id.clone()));
    if resolution.tier() != v1::MatchTier::Unspecified {
        parts.push(resolution.tier().as_str_name().replace("MATCH_TIER_", ""));
    }
    for warning in &resolution.warnings {
        parts.push(format!("~{}", v1::ResolutionWarning::try_from(*warning).unwrap().as_str_name()));
    }
    for reason in &resolution.inactive_reasons {
        parts.push(format!("{:?}{}", reason.inactive.unwrap(), reason.status_raw));
    }
    for holder in &resolution.holders {
        parts.push(format!("{}@{}", holder.user.as_ref().unwrap().id, i32::from(holder.released_at.is_some())));
    }
    for candidate in &resolution.candidates {
        parts.push(format!("?{}", candidate.user.as_ref().unwrap().id));
    }
    for app in &resolution.app_candidates {
        parts.push(format!("?{}", app.id));
    }
    if resolution.candidate_count + resolution.app_candidate_count > 0 {
        parts.push(format!("of {}", resolution.candidate_count + resolution.app_candidate_count));
    }
    if !resolution.shared_user_name.is_empty() {
        parts.push(resolution.shared_user_name.clone());
    }
    // Nobody is shown where nobody is granted.
    assert_eq!(resolution.user.is_some(), resolution.app_user.is_some());
    parts.join(" ")
}

async fn resolve(client: &mut Lookup, app: &str, name: &str) -> v1::ResolveAccountResponse {
    let account = account(app, name, v1::IdentifierKind::Unspecified);
    let request = v1::ResolveAccountRequest { account, include_candidates: true, ..Default::default() };
    client.resolve_account(request).await.unwrap().into_inner()
}

async fn check(client: &mut Lookup, app: &str, name: &str, expected: &str) {
    let answer = resolve(client, app, name).await;
    let resolution = answer.resolution.unwrap();
    assert_eq!(shown(&resolution), expected, "{app} {name}");
    let meta = answer.meta.unwrap();
    assert_eq!((resolution.completeness, resolution.gap_ids), (meta.completeness, meta.gap_ids));
}

#[tokio::test]
async fn accounts_resolve() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let client = &mut client;
    check(client, "Jira EU", "user4", "RESOLVED 00u0004 USER_NAME_EXACT").await;
    check(client, "0oaeu", "ext-0oaeu-00u0004", "RESOLVED 00u0004 EXTERNAL_ID").await;
    check(client, "0oaeu", "user4@example.com", "RESOLVED 00u0004 EMAIL").await;
    check(client, "0oaeu", "USER4", "NOT_FOUND ~RESOLUTION_WARNING_CASE_DIFFERS").await;
    check(client, "0oaeu", "user5@example.com", "NOT_FOUND").await; // A user without an account there.
    check(client, "0oaus", "dup", "AMBIGUOUS USER_NAME_EXACT ?00u0001 ?00u0002 of 2").await;
    check(client, "0oashare", "anybody", "SHARED billing@example.com").await;
    check(client, "0oaoff", "two", "INACTIVE 00u0002 USER_NAME_EXACT AppStatus(Inactive)").await;
    check(client, "0oaeu", "ghost", "INACTIVE 00ughost USER_NAME_EXACT UserStatus(Unspecified)").await;
    check(client, "jira", "user4", "AMBIGUOUS_APP ?0oaeu ?0oaus of 2").await;
    check(client, "nonsense", "user4", "UNKNOWN_APP").await;
    let ghost = resolve(client, "0oaeu", "ghost").await;
    assert_eq!(shown_meta(ghost.meta.as_ref()), "PARTIAL 1 UNSEEN_REFERENCE:user(00ughost)");
    let found = resolve(client, "0oaeu", "user4").await;
    assert_eq!(shown_meta(found.meta.as_ref()), "COMPLETE");
    let meta = found.meta.unwrap();
    assert_eq!(meta.revision, world.revision());
    assert!(meta.observed_through.is_some() && meta.snapshot_completed_at.is_some());
    let row = found.resolution.unwrap().app_user.unwrap();
    assert!(row.status_grants && !row.stale && row.user_name == "user4");
}

#[tokio::test]
async fn reused_names_name_their_holders() {
    let world = World::crawled().await;
    // user4 leaves Jira EU, and a newcomer gets the name.
    world.remove(Key::AppUser(AppId::new("0oaeu").unwrap(), UserId::new(&user_id(4)).unwrap())).await;
    world.put(vec![Row::AppUser(app_user("0oaeu", &user_id(5), "user4"))]).await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    check(&mut client, "0oaeu", "user4", "REUSED USER_NAME_EXACT 00u0005@0 00u0004@1").await;
    // A user who is selected by such an account is not unique.
    let request = v1::GetUserRequest { user: user_by_account("0oaeu", "user4"), context: None };
    let subject = client.get_user(request).await.unwrap().into_inner().user.unwrap();
    assert_eq!(subject.outcome(), v1::SubjectOutcome::NotUnique);
    assert!(subject.user.is_none());
    assert_eq!(subject.resolution.unwrap().outcome(), v1::ResolutionOutcome::Reused);
}

#[tokio::test]
async fn a_refusal_names_nobody_whose_rows_are_withheld() {
    let world = World::crawled().await;
    world.remove(Key::AppUser(AppId::new("0oaeu").unwrap(), UserId::new(&user_id(4)).unwrap())).await;
    world.put(vec![Row::AppUser(app_user("0oaeu", &user_id(5), "user4"))]).await;
    let strict = || {
        let policy = CoveragePolicy { on_gap: OnGap::Withhold, ..CoveragePolicy::default() };
        Server::start([world.view().with_coverage_policy(policy)])
    };
    let of_user = |n: usize| Scope::User(UserId::new(&user_id(n)).unwrap());
    let (reused, ambiguous) = ("REUSED USER_NAME_EXACT", "AMBIGUOUS USER_NAME_EXACT");
    // One gap more each time.
    let cases = [
        (None, format!("{reused} 00u0005@0 00u0004@1"), format!("{ambiguous} ?00u0001 ?00u0002 of 2")),
        // The earlier holder; then one of the two.
        (Some(of_user(4)), format!("{reused} 00u0005@0"), format!("{ambiguous} ?00u0001 ?00u0002 of 2")),
        (Some(of_user(1)), format!("{reused} 00u0005@0"), format!("{ambiguous} ?00u0002 of 2")),
        // The present holder: nobody can be named.
        (Some(of_user(5)), "UNKNOWN_GAP".to_owned(), format!("{ambiguous} ?00u0002 of 2")),
        (Some(Scope::Users), "UNKNOWN_GAP".to_owned(), format!("{ambiguous} of 2")),
    ];
    for (scope, of_reused, of_ambiguous) in cases {
        if let Some(scope) = &scope {
            world.open_gap(scope.clone(), GapKind::Forbidden, "GET: 403 E0000006").await;
        }
        let server = strict().await;
        let mut client = server.lookup().await;
        for (app, name, expected) in [("0oaeu", "user4", of_reused), ("0oaus", "dup", of_ambiguous)] {
            let resolution = resolve(&mut client, app, name).await.resolution.unwrap();
            assert_eq!(shown(&resolution), expected, "{app} {name} {scope:?}");
        }
        // By default rows are answered as last seen.
        let server = world.serve().await;
        let kept = resolve(&mut server.lookup().await, "0oaus", "dup").await.resolution.unwrap();
        assert_eq!(shown(&kept), format!("{ambiguous} ?00u0001 ?00u0002 of 2"));
    }
}

#[tokio::test]
async fn aliases_resolve() {
    let world = World::crawled().await;
    let alias = |name: &str, user: &str| AliasSetting {
        app: "0oaeu".to_owned(),
        kind: IdentifierKind::UserName,
        name: name.to_owned(),
        user: user.to_owned(),
    };
    let aliases = vec![alias("boss", &user_id(6)), alias("nobody", "00unone")];
    let settings = GrantPolicySettings { aliases, ..GrantPolicySettings::default() };
    let server = Server::start([world.view_with(&settings)]).await;
    let mut client = server.lookup().await;
    check(&mut client, "0oaeu", "boss", "RESOLVED 00u0006 ALIAS").await;
    check(&mut client, "0oaeu", "nobody", "NOT_FOUND").await;
}

#[tokio::test]
async fn granting_groups_come_by_priority() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let account = account("0oaeu", "user2", v1::IdentifierKind::UserName);
    let request = v1::ResolveAccountRequest { account, include_granting_groups: true, ..Default::default() };
    let answer = client.resolve_account(request).await.unwrap().into_inner();
    let groups = answer.resolution.unwrap().granting_groups.unwrap();
    let names: Vec<&str> = groups.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!((names, groups.group_count), (vec!["Ops", "Eng-EU"], 2));
    assert_eq!(shown_meta(answer.meta.as_ref()), "COMPLETE");
}

#[tokio::test]
async fn batches_answer_item_by_item() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let item = |name: &str| v1::BatchResolveItem {
        correlation_id: format!("id-{name}"),
        account: account("0oaeu", name, v1::IdentifierKind::UserName),
    };
    for size in [0, 3, 50, 51, 1_000] {
        let items: Vec<v1::BatchResolveItem> = (0..size).map(|n| item(&format!("user{}", n % 300))).collect();
        let request = v1::BatchResolveRequest { items, ..Default::default() };
        let answer = client.batch_resolve(request).await.unwrap().into_inner();
        assert_eq!(answer.results.len(), size);
        for (n, result) in answer.results.iter().enumerate() {
            let number = n % 300;
            assert_eq!(result.correlation_id, format!("id-user{number}"));
            let Some(v1::batch_resolve_result::Result::Resolution(resolution)) = &result.result else { panic!() };
            let expected = match number {
                _ if number % 2 == 1 || number >= 250 => "NOT_FOUND".to_owned(),
                _ => format!("RESOLVED {} USER_NAME_EXACT", user_id(number)),
            };
            assert_eq!(shown(resolution), expected);
        }
        assert_eq!(shown_meta(answer.meta.as_ref()), "COMPLETE");
    }
    let mut items = vec![item("user2"), item(""), item("user4")];
    items[0].account = None;
    items[2].correlation_id = "x".repeat(129);
    let request = v1::BatchResolveRequest { items, ..Default::default() };
    let answer = client.batch_resolve(request).await.unwrap().into_inner();
    let errors: Vec<String> = answer
        .results
        .iter()
        .map(|result| match &result.result {
            Some(v1::batch_resolve_result::Result::Error(error)) => {
                format!("{} {}", error.code, error.reason().reason())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(errors, ["3 FIELD_MISSING", "3 IDENTIFIER_INVALID", "3 FIELD_INVALID"]);
}

#[tokio::test]
async fn users_are_found_by_id_login_and_account() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let cases = [
        (user_by_id("00u0004"), "FOUND 00u0004 COMPLETE"),
        (user_by_id("00u0009"), "FOUND 00u0009 COMPLETE"), // Deprovisioned, and found all the same.
        (user_by_id("00unone"), "NOT_FOUND COMPLETE"),
        (user_by_id("00ughost"), "UNKNOWN_GAP PARTIAL 1 UNSEEN_REFERENCE:user(00ughost)"),
        (user_by_login("USER4@EXAMPLE.COM"), "FOUND 00u0004 COMPLETE"),
        (user_by_login("user4@mail.example.com"), "NOT_FOUND COMPLETE"), // An e-mail is no login.
        (user_by_login("nobody"), "NOT_FOUND COMPLETE"),
        (user_by_account("0oaeu", "user4"), "FOUND 00u0004 COMPLETE"),
        (user_by_account("0oaoff", "two"), "FOUND 00u0002 COMPLETE"), // INACTIVE leads to its user.
        (user_by_account("0oaus", "dup"), "NOT_UNIQUE COMPLETE"),
        (user_by_account("jira", "dup"), "NOT_UNIQUE COMPLETE"),
        (user_by_account("nonsense", "dup"), "NOT_FOUND COMPLETE"),
        (user_by_account("0oaeu", "ghost"), "UNKNOWN_GAP PARTIAL 1 UNSEEN_REFERENCE:user(00ughost)"),
    ];
    for (user, expected) in cases {
        let request = v1::GetUserRequest { user: user.clone(), context: None };
        let answer = client.get_user(request).await.unwrap().into_inner();
        let subject = answer.user.unwrap();
        let id = subject.user.as_ref().map_or_else(String::new, |user| format!("{} ", user.id));
        let outcome = subject.outcome().as_str_name().replace("SUBJECT_OUTCOME_", "");
        assert_eq!(format!("{outcome} {id}{}", shown_meta(answer.meta.as_ref())), expected, "{user:?}");
    }
    let request = v1::GetUserRequest { user: user_by_id("00u0009"), context: None };
    let user = client.get_user(request).await.unwrap().into_inner().user.unwrap().user.unwrap();
    assert_eq!(
        (user.status(), user.status_grants, user.last_name.as_str()),
        (v1::UserStatus::Deprovisioned, false, "Müller")
    );
}

#[tokio::test]
async fn memberships_are_yes_no_or_unknown() {
    use v1::membership_question::Target;
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let app = |id: &str| Some(Target::App(app_by_id(id).unwrap()));
    let any = |name: &str| Some(Target::App(app_by_any(name).unwrap()));
    let group = |id: &str| Some(Target::GroupId(id.to_owned()));
    let by_id = user_by_id;
    let cases = [
        (by_id("00u0002"), app("0oaeu"), "YES grants 00gops 00geng"),
        (by_id("00u0009"), app("0oaeu"), "NO"),
        (by_id("00u0001"), app("0oaus"), "YES denied 1 00gall"), // Staged; assigned through Everyone.
        (by_id("00u0002"), app("0oaoff"), "YES denied 1 -"),
        (by_id("00ughost"), app("0oaeu"), "YES denied 1 00geng"),
        (by_id("00ughost"), app("0oaus"), "UNKNOWN"),
        (by_id("00unone"), app("0oaeu"), "NO"),
        (by_id("00u0002"), app("0oanone"), "NO"),
        (by_id("00u0002"), any("jira"), "UNKNOWN"),
        (user_by_account("0oaus", "dup"), app("0oaus"), "UNKNOWN"),
        (by_id("00u0002"), group("00gops"), "YES grants"),
        (by_id("00u0003"), group("00gops"), "NO"),
        (by_id("00u0009"), group("00geng"), "YES denied 1"),
        (by_id("00u0249"), group("00gall"), "YES denied 1"),
        (by_id("00u0248"), group("00gall"), "YES grants"),
        (by_id("00ughost"), group("00gall"), "UNKNOWN"),
        (by_id("00ughost"), group("00geng"), "YES denied 1"),
        (by_id("00u0002"), group("00gnone"), "NO"),
    ];
    for (user, target, expected) in cases {
        let question = Some(v1::MembershipQuestion { user: user.clone(), target: target.clone() });
        let request = v1::CheckAppMembershipRequest { question, context: None };
        let answer = client.check_app_membership(request).await.unwrap().into_inner().answer.unwrap();
        let mut shown = answer.membership().as_str_name().replace("MEMBERSHIP_", "");
        if answer.membership() == v1::Membership::Yes {
            let grants = match answer.grants {
                true => " grants".to_owned(),
                false => format!(" denied {}", answer.inactive_reasons.len()),
            };
            shown.push_str(&grants);
        }
        if let Some(groups) = &answer.granting_groups {
            let ids: Vec<&str> = groups.groups.iter().map(|group| group.id.as_str()).collect();
            shown.push_str(&format!(" {}", if ids.is_empty() { "-".to_owned() } else { ids.join(" ") }));
        }
        assert_eq!(shown, expected, "{user:?} {target:?}");
        let is_of_app = matches!(target, Some(Target::App(_)));
        assert_eq!(answer.app_user.is_some(), is_of_app && answer.membership() == v1::Membership::Yes);
    }
}

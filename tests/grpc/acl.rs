//! Principals of documents and people: outcomes, the law between the two, gaps, limits.

use okta_idmap::core::coverage::{CoveragePolicy, GapKind, OnGap};
use okta_idmap::core::ids::{AppId, GroupId};
use okta_idmap::core::model::{AppGroup, AppStatus, AppUser, AppUserStatus, Group, GroupType, Row, Scope};
use okta_idmap_proto::v1::{self, acl_entry::Principal, app_group_selector::Selector, unresolved_acl_entry::Reason};
use tonic::Code;
use tonic::transport::Channel;

use super::world::{
    Server, World, account, app, app_by_any, app_user, group, member, shown_meta, user_by_account, user_by_id, user_id,
};

type Lookup = v1::lookup_client::LookupClient<Channel>;

fn by_account(app: &str, name: &str) -> v1::AclEntry {
    let account = account(app, name, v1::IdentifierKind::Unspecified).unwrap();
    v1::AclEntry { principal: Some(Principal::Account(account)) }
}

fn by_group(app: &str, selector: Selector) -> v1::AclEntry {
    let selector = v1::AppGroupSelector { app: app_by_any(app), selector: Some(selector) };
    v1::AclEntry { principal: Some(Principal::AppGroup(selector)) }
}

fn by_name(app: &str, name: &str) -> v1::AclEntry {
    by_group(app, Selector::Name(name.to_owned()))
}

fn by_id(app: &str, id: &str) -> v1::AclEntry {
    by_group(app, Selector::GroupId(id.to_owned()))
}

/// A reason in one line.
fn shown_reason(reason: &Reason) -> String {
    let name = |outcome: v1::ResolutionOutcome| outcome.as_str_name().replace("RESOLUTION_OUTCOME_", "");
    match reason {
        Reason::Resolution(resolution) => name(resolution.outcome()),
        Reason::GroupResolution(resolution) => {
            let group = resolution.group.as_ref().map(|group| format!(" {}", group.id)).unwrap_or_default();
            assert_eq!(resolution.gap_ids.is_empty(), resolution.completeness() == v1::Completeness::Complete);
            assert!(resolution.outcome() != v1::ResolutionOutcome::UnknownGap || !resolution.gap_ids.is_empty());
            format!("{}{group}", name(resolution.outcome()))
        }
        Reason::Error(error) => format!("{} {}", error.code, v1::ErrorReason::try_from(error.reason).unwrap().reason()),
    }
}

/// An answer in one line: principals without their common beginning, flags, what is unresolved.
fn shown(answer: &v1::ResolveAclResponse) -> String {
    assert_eq!(answer.encoder_version, 1);
    let short = |principal: &String| principal.strip_prefix("oidm1:00oacme:").unwrap().to_owned();
    let mut parts: Vec<String> = answer.principals.iter().map(short).collect();
    assert!(answer.principals.is_sorted() && !answer.principals.is_empty());
    assert_eq!(answer.deny_all, parts == ["deny-all"]);
    parts.extend(answer.safe_to_index.then(|| "safe".to_owned()));
    let unresolved = answer.unresolved.iter();
    parts.extend(
        unresolved.map(|entry| format!("{}:{}", entry.entry_index, shown_reason(entry.reason.as_ref().unwrap()))),
    );
    parts.join(" ")
}

async fn resolve(client: &mut Lookup, entries: Vec<v1::AclEntry>) -> v1::ResolveAclResponse {
    client.resolve_acl(v1::ResolveAclRequest { context: None, entries }).await.unwrap().into_inner()
}

async fn check(client: &mut Lookup, entries: Vec<v1::AclEntry>, expected: &str) {
    let answer = resolve(client, entries.clone()).await;
    assert_eq!(shown(&answer), expected, "{entries:?}");
}

async fn expand(client: &mut Lookup, user: Option<v1::UserSelector>) -> v1::ExpandUserResponse {
    client.expand_user(v1::ExpandUserRequest { context: None, user }).await.unwrap().into_inner()
}

fn principals(answer: &v1::ExpandUserResponse) -> String {
    assert_eq!(answer.encoder_version, 1);
    assert!(answer.principals.is_sorted() && !answer.principals.is_empty());
    let short = |principal: &String| principal.strip_prefix("oidm1:00oacme:").unwrap().to_owned();
    let shown: Vec<String> = answer.principals.iter().map(short).collect();
    assert_eq!(answer.match_nothing, shown == ["match-nothing"]);
    shown.join(" ")
}

fn imported(id: &str, name: &str, app: &str) -> Row {
    let source_app = Some(AppId::new(app).unwrap());
    Row::Group(Group { source_app, ..group(id, name, GroupType::AppGroup) })
}

fn assigned(app: &str, group: &str) -> Row {
    let (app, group) = (AppId::new(app).unwrap(), GroupId::new(group).unwrap());
    Row::AppGroup(AppGroup { app, group, priority: None, last_updated: None })
}

#[tokio::test]
async fn every_outcome_of_an_entry() {
    let world = World::crawled().await;
    // A group imported from Jira US, one of the same name as another in Jira EU, one that is assigned to an app that is off.
    world.put(vec![imported("00gimp", "Eng-EU imported", "0oaus"), assigned("0oaoff", "00gops")]).await;
    world.put(vec![Row::Group(group("00gtwin", "Ops", GroupType::OktaGroup)), assigned("0oaus", "00gtwin")]).await;
    world.read(Scope::GroupMembers(GroupId::new("00gtwin").unwrap()), Vec::new()).await;
    world.put(vec![assigned("0oaus", "00gops"), assigned("0oaus", "00gunseen")]).await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let client = &mut client;
    check(client, vec![], "deny-all safe").await;
    check(client, vec![by_account("0oaeu", "user4")], "user:00u0004 safe").await;
    let twice =
        vec![by_account("0oaeu", "user4"), by_account("0oaeu", "ext-0oaeu-00u0004"), by_account("0oaeu", "user2")];
    check(client, twice, "user:00u0002 user:00u0004 safe").await;
    // Nobody, for sure.
    check(client, vec![by_account("0oaeu", "nobody")], "deny-all safe 0:NOT_FOUND").await;
    check(client, vec![by_account("0oaoff", "two")], "deny-all safe 0:INACTIVE").await;
    // Doubt.
    check(client, vec![by_account("0oaus", "dup")], "deny-all 0:AMBIGUOUS").await;
    check(client, vec![by_account("0oashare", "x")], "deny-all 0:SHARED").await;
    check(client, vec![by_account("nonsense", "x")], "deny-all 0:UNKNOWN_APP").await;
    check(client, vec![by_account("jira", "user4")], "deny-all 0:AMBIGUOUS_APP").await;
    // Whether that account's user is active, nobody knows: no list shows the user.
    check(client, vec![by_account("0oaeu", "ghost")], "deny-all 0:INACTIVE").await;
    // Groups.
    check(client, vec![by_name("0oaeu", "Eng-EU")], "group:0oaeu:00geng safe").await;
    check(client, vec![by_id("Jira EU", "00geng")], "group:0oaeu:00geng safe").await;
    check(client, vec![by_name("0oaus", "Eng-EU imported")], "group:0oaus:00gimp").await; // One is not shown.
    check(client, vec![by_id("0oaus", "00gimp")], "group:0oaus:00gimp safe").await;
    check(client, vec![by_id("0oaus", "00gall")], "group:0oaus:00gall safe").await;
    check(client, vec![by_name("0oaeu", "eng-eu")], "deny-all safe 0:NOT_FOUND").await; // Byte by byte.
    check(client, vec![by_name("0oaus", "Eng-EU")], "deny-all 0:UNKNOWN_GAP").await; // Of another app, or the one that is not shown.
    check(client, vec![by_name("0oashare", "Ops")], "deny-all 0:SHARED").await;
    check(client, vec![by_id("0oaus", "00geng")], "deny-all safe 0:NOT_FOUND").await;
    check(client, vec![by_id("0oaus", "00gnone")], "deny-all safe 0:NOT_FOUND").await;
    check(client, vec![by_name("0oaoff", "Ops")], "deny-all safe 0:INACTIVE 00gops").await;
    check(client, vec![by_name("0oaus", "Ops")], "deny-all 0:AMBIGUOUS").await;
    check(client, vec![by_id("0oaus", "00gops")], "group:0oaus:00gops safe").await; // An id is not ambiguous.
    check(client, vec![by_id("0oaus", "00gunseen")], "deny-all 0:UNKNOWN_GAP").await; // Assigned, and in no list.
    check(client, vec![by_name("nonsense", "Ops")], "deny-all 0:UNKNOWN_APP").await;
    check(client, vec![by_name("jira", "Ops")], "deny-all 0:AMBIGUOUS_APP").await;
    // Malformed entries are unresolved, each by itself.
    let malformed = vec![
        v1::AclEntry::default(),
        by_account("0oaeu", ""),
        by_account("0oaeu", "a\0b"),
        by_name("0oaeu", ""),
        by_name("0oaeu", &"x".repeat(1_025)),
        by_id("0oaeu", "a:b"),
        by_id("0oaeu", ""),
        v1::AclEntry { principal: Some(Principal::AppGroup(v1::AppGroupSelector::default())) },
        v1::AclEntry {
            principal: Some(Principal::AppGroup(v1::AppGroupSelector { app: app_by_any("0oaeu"), selector: None })),
        },
        by_account("0oaeu", "user6"),
    ];
    let expected = "user:00u0006 0:3 FIELD_MISSING 1:3 IDENTIFIER_INVALID 2:3 IDENTIFIER_INVALID 3:3 FIELD_MISSING \
                    4:3 FIELD_INVALID 5:3 FIELD_INVALID 6:3 FIELD_MISSING 7:3 FIELD_MISSING 8:3 FIELD_MISSING";
    check(client, malformed, expected).await;
    // Look-alikes of a separator are names like any other.
    for name in ["00oacme:user:00u0004", "user4:user6", "oidm1:00oacme:deny-all"] {
        check(client, vec![by_account("0oaeu", name)], "deny-all safe 0:NOT_FOUND").await;
    }
}

#[tokio::test]
async fn people_expand_to_what_they_may_see() {
    let world = World::crawled().await;
    world.put(vec![imported("00gimp", "Eng-EU imported", "0oaus"), member("00gimp", &user_id(3))]).await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let client = &mut client;
    let cases = [
        // Eng-EU, Ops and Everyone; the account in Old Wiki gives nothing.
        (user_by_id("00u0002"), "group:0oaeu:00geng group:0oaeu:00gops group:0oaus:00gall user:00u0002"),
        (user_by_id("00u0004"), "group:0oaeu:00geng user:00u0004"),
        (user_by_account("0oaeu", "user4"), "group:0oaeu:00geng user:00u0004"),
        (user_by_id("00u0003"), "group:0oaus:00gall group:0oaus:00gimp user:00u0003"), // In Eng-EU without Jira EU.
        (user_by_id("00u0001"), "user:00u0001"),                                       // Only staged in Jira US.
        (user_by_id("00u0009"), "match-nothing"),                                      // Deprovisioned.
        (user_by_id("00unone"), "match-nothing"),
        (user_by_id("00ughost"), "match-nothing"),
        (user_by_account("0oaus", "dup"), "match-nothing"),
        (user_by_account("0oashare", "x"), "match-nothing"),
        (user_by_account("jira", "user4"), "match-nothing"),
    ];
    for (user, expected) in cases {
        let answer = expand(client, user.clone()).await;
        assert_eq!(principals(&answer), expected, "{user:?}");
    }
    let gone = expand(client, user_by_id("00u0009")).await;
    assert_eq!(shown_meta(gone.meta.as_ref()), "COMPLETE");
    let subject = gone.user.unwrap();
    assert_eq!((subject.outcome(), subject.user.unwrap().status_grants), (v1::SubjectOutcome::Found, false));
    let unseen = expand(client, user_by_id("00ughost")).await;
    assert_eq!(unseen.user.unwrap().outcome(), v1::SubjectOutcome::UnknownGap);
    assert_eq!(shown_meta(unseen.meta.as_ref()), "PARTIAL 1 UNSEEN_REFERENCE:user(00ughost)");
}

/// The law over the store and the wire: a document and a person have a principal in common exactly if the account resolves
/// to the person, or the person is in the group and in the app, and active in both. `tests/resolve_oracle.rs` has many more.
#[tokio::test]
async fn documents_and_people_agree() {
    let world = World::crawled().await;
    world.put(vec![imported("00gimp", "Eng-EU imported", "0oaus"), member("00gimp", &user_id(3))]).await;
    let suspended = AppUser { status: AppUserStatus::Suspended, ..app_user("0oaeu", &user_id(8), "user8") };
    world.put(vec![Row::AppUser(suspended), assigned("0oaoff", "00gops")]).await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let groups =
        [("0oaeu", "00geng"), ("0oaeu", "00gops"), ("0oaus", "00gall"), ("0oaus", "00gimp"), ("0oaoff", "00gops")];
    let mut pairs = 0;
    for user in (0..14).chain([99, 100, 119, 120, 248, 249]) {
        let id = user_id(user);
        let person = expand(&mut client, user_by_id(&id)).await;
        for (app, name) in [("0oaeu", format!("user{user}")), ("0oaus", "dup".into()), ("0oaus", "three".into())] {
            let document = resolve(&mut client, vec![by_account(app, &name)]).await;
            let account = account(app, &name, v1::IdentifierKind::Unspecified);
            let request = v1::ResolveAccountRequest { account, ..Default::default() };
            let resolution = client.resolve_account(request).await.unwrap().into_inner().resolution.unwrap();
            let sees = document.principals.iter().any(|principal| person.principals.contains(principal));
            let is_resolved = resolution.outcome() == v1::ResolutionOutcome::Resolved;
            let is_meant = is_resolved && resolution.user.is_some_and(|user| user.id == id);
            assert_eq!(sees, is_meant, "{app} {name} and {id}");
            pairs += 1;
        }
        for (app, group) in groups {
            let document = resolve(&mut client, vec![by_id(app, group)]).await;
            let question = |target| {
                let question = Some(v1::MembershipQuestion { user: user_by_id(&id), target: Some(target) });
                v1::CheckAppMembershipRequest { question, context: None }
            };
            use v1::membership_question::Target;
            let in_group = question(Target::GroupId(group.to_owned()));
            let in_app = question(Target::App(app_by_any(app).unwrap()));
            let in_group = client.check_app_membership(in_group).await.unwrap().into_inner().answer.unwrap();
            let in_app = client.check_app_membership(in_app).await.unwrap().into_inner().answer.unwrap();
            let sees = document.principals.iter().any(|principal| person.principals.contains(principal));
            assert_eq!(sees, in_group.grants && in_app.grants, "{app} {group} and {id}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 160);
}

#[tokio::test]
async fn gaps_make_an_access_list_unsafe() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let client = &mut client;
    let app_users = |app: &str| Scope::AppUsers(AppId::new(app).unwrap());
    world.open_gap(app_users("0oaeu"), GapKind::Forbidden, "403").await;
    let answer = resolve(client, vec![by_account("0oaeu", "nobody"), by_account("0oaeu", "user4")]).await;
    assert_eq!(shown(&answer), "user:00u0004 0:UNKNOWN_GAP");
    assert_eq!(shown_meta(answer.meta.as_ref()), "PARTIAL 1 FORBIDDEN:app_users(0oaeu)");
    check(client, vec![by_account("0oaeu", "user4")], "user:00u0004").await; // Another may have the name.
    // What a group's principal is does not depend on who has accounts.
    check(client, vec![by_name("0oaeu", "Eng-EU")], "group:0oaeu:00geng safe").await;
    world.close_gap(app_users("0oaeu"), GapKind::Forbidden).await;
    // INACTIVE is no claim while a gap is open.
    world.open_gap(app_users("0oaoff"), GapKind::Failed, "500").await;
    check(client, vec![by_account("0oaoff", "two")], "deny-all 0:INACTIVE").await;
    world.close_gap(app_users("0oaoff"), GapKind::Failed).await;
    let app_groups = Scope::AppGroups(AppId::new("0oaeu").unwrap());
    world.open_gap(app_groups.clone(), GapKind::Forbidden, "403").await;
    check(client, vec![by_name("0oaeu", "nobody")], "deny-all 0:UNKNOWN_GAP").await;
    check(client, vec![by_id("0oaeu", "00gimp")], "deny-all 0:UNKNOWN_GAP").await;
    check(client, vec![by_name("0oaeu", "Ops")], "group:0oaeu:00gops").await; // Kept and marked; another may have the name.
    check(client, vec![by_id("0oaeu", "00gops")], "group:0oaeu:00gops safe").await;
    let person = expand(client, user_by_id("00u0004")).await;
    assert_eq!(shown_meta(person.meta.as_ref()), "PARTIAL 1 FORBIDDEN:app_groups(0oaeu)");
    // Under the other policy such rows are in neither answer.
    let policy = CoveragePolicy { on_gap: OnGap::Withhold, ..CoveragePolicy::default() };
    let strict = Server::start([world.view().with_coverage_policy(policy)]).await;
    let mut strict = strict.lookup().await;
    check(&mut strict, vec![by_name("0oaeu", "Ops")], "deny-all 0:UNKNOWN_GAP").await;
    assert_eq!(principals(&expand(&mut strict, user_by_id("00u0004")).await), "user:00u0004");
    let of_us = "group:0oaus:00gall user:00u0002";
    assert_eq!(principals(&expand(&mut strict, user_by_id("00u0002")).await), of_us);
}

#[tokio::test]
async fn members_of_a_group_that_no_app_has_are_no_gap() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let client = &mut client;
    let meta = async |client: &mut Lookup| shown_meta(expand(client, user_by_id(&user_id(4))).await.meta.as_ref());
    assert_eq!(meta(client).await, "COMPLETE");
    // As with `groups.members = "assigned"`: the members were never read. Nor does a list count that fails.
    let new = ["00gnew", "00gtwo", "00gsrc"].map(|id| Row::Group(group(id, id, GroupType::OktaGroup)));
    world.put(new.into()).await;
    let members = |group: &str| Scope::GroupMembers(GroupId::new(group).unwrap());
    world.open_gap(members("00gnew"), GapKind::Forbidden, "403").await;
    assert_eq!(meta(client).await, "COMPLETE");
    // Which groups somebody is in is another question.
    let request = v1::ListUserGroupsRequest { user: user_by_id(&user_id(4)), ..Default::default() };
    let groups = client.list_user_groups(request).await.unwrap().into_inner();
    let not_read = |group: &str| format!("NOT_READ:group_members({group})");
    let of_all = format!(
        "PARTIAL 4 FORBIDDEN:group_members(00gnew) {} {} {}",
        not_read("00gnew"),
        not_read("00gsrc"),
        not_read("00gtwo")
    );
    assert_eq!(shown_meta(groups.meta.as_ref()), of_all);
    // As soon as an app has it, by an assignment or as its source, it could give a principal.
    world.put(vec![assigned("0oaeu", "00gtwo")]).await;
    assert_eq!(meta(client).await, format!("PARTIAL 1 {}", not_read("00gtwo")));
    let source = |id: &str| {
        Row::Group(Group { source_app: Some(AppId::new("0oaus").unwrap()), ..group(id, id, GroupType::AppGroup) })
    };
    world.put(vec![source("00gsrc")]).await;
    assert_eq!(meta(client).await, format!("PARTIAL 2 {} {}", not_read("00gsrc"), not_read("00gtwo")));
    world.read(members("00gtwo"), vec![member("00gtwo", &user_id(4))]).await;
    world.read(members("00gsrc"), Vec::new()).await;
    let person = expand(client, user_by_id(&user_id(4))).await;
    assert_eq!(shown_meta(person.meta.as_ref()), "COMPLETE");
    assert!(principals(&person).contains("group:0oaeu:00gtwo"));
    // A list of assignments that could not be read may lack one of any group.
    let app_groups = Scope::AppGroups(AppId::new("0oaus").unwrap());
    world.open_gap(app_groups, GapKind::Forbidden, "403").await;
    assert_eq!(meta(client).await, "PARTIAL 1 FORBIDDEN:app_groups(0oaus)");
}

#[tokio::test]
async fn principals_need_the_id_of_the_org() {
    let server = World::empty().serve().await;
    let mut client = server.lookup().await;
    let acl = client.resolve_acl(v1::ResolveAclRequest::default()).await.unwrap_err();
    let request = v1::ExpandUserRequest { context: None, user: user_by_id("00u1") };
    let user = client.expand_user(request).await.unwrap_err();
    for status in [acl, user] {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("the org has not told its id"), "{status:?}");
    }
}

#[tokio::test]
async fn many_entries_and_many_groups() {
    let world = World::crawled().await;
    // Three hundred groups in fifty apps: 15,000 principals; with a hundred more groups, 20,000 and the user's own.
    let name = |what: &str, n: usize| format!("{what}{n:03}");
    let mut rows: Vec<Row> = Vec::new();
    for n in 0..50 {
        let id = name("0oax", n);
        rows.push(Row::App(app(&id, "x", &id)));
        rows.push(Row::AppUser(app_user(&id, &user_id(6), "six")));
    }
    let groups = |range: std::ops::Range<usize>| {
        let mut rows = Vec::new();
        for n in range {
            let id = name("00gx", n);
            rows.push(Row::Group(group(&id, &id, GroupType::OktaGroup)));
            rows.push(member(&id, &user_id(6)));
            rows.extend((0..50).map(|n| assigned(&name("0oax", n), &id)));
        }
        rows
    };
    rows.extend(groups(0..300));
    world.put(rows).await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let person = expand(&mut client, user_by_id(&user_id(6))).await;
    assert_eq!(person.principals.len(), 15_002); // With Eng-EU in Jira EU.
    assert!(person.principals.contains(&"oidm1:00oacme:group:0oax049:00gx299".to_owned()));
    // Off is off, also for many.
    world
        .put(vec![Row::App(okta_idmap::core::model::App { status: AppStatus::Inactive, ..app("0oax049", "x", "x") })])
        .await;
    assert_eq!(expand(&mut client, user_by_id(&user_id(6))).await.principals.len(), 14_702);
    world.put(groups(300..420)).await;
    let request = v1::ExpandUserRequest { context: None, user: user_by_id(&user_id(6)) };
    let status = client.expand_user(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("more than 20000 principals"), "{status:?}");

    let entries: Vec<v1::AclEntry> = (0..1_000).map(|n| by_name("0oaeu", ["Eng-EU", "Ops", "none"][n % 3])).collect();
    let answer = resolve(&mut client, entries).await;
    assert_eq!((answer.principals.len(), answer.unresolved.len(), answer.safe_to_index), (2, 333, true));
    assert_eq!(answer.unresolved[332].entry_index, 998);
}

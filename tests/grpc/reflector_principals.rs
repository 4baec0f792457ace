//! Principals from a copy where it has to give way to its server. That they are those of the server is tested in `copies`.

use okta_idmap::client::{Answer, Reflector, ReflectorError};
use okta_idmap::core::filter::{DomainFilter, DomainPattern, Filter};
use okta_idmap::core::model::{Row, User};
use okta_idmap_proto::v1::{self, ErrorReason, acl_entry::Principal, app_group_selector::Selector};

use super::reflector::{PATIENCE, client, settings};
use super::world::{Server, World, account, app_by_any, user, user_by_account, user_by_id, user_by_login, user_id};

fn person(user: Option<v1::UserSelector>) -> v1::ExpandUserRequest {
    v1::ExpandUserRequest { context: None, user }
}

fn group(selector: Selector) -> v1::AclEntry {
    let selector = v1::AppGroupSelector { app: app_by_any("0oaeu"), selector: Some(selector) };
    v1::AclEntry { principal: Some(Principal::AppGroup(selector)) }
}

fn document(entries: Vec<v1::AclEntry>) -> v1::ResolveAclRequest {
    v1::ResolveAclRequest { context: None, entries }
}

async fn copy_of(server: &Server) -> Reflector {
    let copy = Reflector::start(client(server), settings(None));
    copy.ready(PATIENCE).await.unwrap();
    copy
}

/// Whether the copy answers by itself; what is answered in any case.
async fn expanded(copy: &Reflector, user: Option<v1::UserSelector>) -> (bool, String) {
    let request = person(user);
    let here = copy.expand_user_here(&request).unwrap();
    let answer = copy.expand_user(&request).await.unwrap();
    if let Answer::Local(here) = &here {
        assert_eq!((&here.principals, &here.user), (&answer.principals, &answer.user));
    }
    (matches!(here, Answer::Local(_)), answer.principals.join(" "))
}

async fn indexed(copy: &Reflector, entries: Vec<v1::AclEntry>) -> (bool, String) {
    let request = document(entries);
    let here = copy.resolve_acl_here(&request).unwrap();
    let answer = copy.resolve_acl(&request).await.unwrap();
    if let Answer::Local(here) = &here {
        assert_eq!((&here.principals, &here.unresolved), (&answer.principals, &answer.unresolved));
    }
    (matches!(here, Answer::Local(_)), answer.principals.join(" "))
}

#[tokio::test]
async fn what_the_copy_cannot_tell_is_asked() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let copy = copy_of(&server).await;
    let four = "oidm1:00oacme:group:0oaeu:00geng oidm1:00oacme:user:00u0004".to_owned();
    assert_eq!(expanded(&copy, user_by_id(&user_id(4))).await, (true, four.clone()));
    assert_eq!(expanded(&copy, user_by_account("0oaeu", "user4")).await, (true, four));
    let nothing = "oidm1:00oacme:match-nothing".to_owned();
    assert_eq!(expanded(&copy, user_by_login("nobody@example.com")).await, (true, nothing.clone()));
    // Whether the filter keeps out an id that no list shows only the server can tell.
    assert_eq!(expanded(&copy, user_by_id("00unobody")).await, (false, nothing));
    let four = account("0oaeu", "user4", v1::IdentifierKind::Unspecified).map(Principal::Account);
    let both = vec![v1::AclEntry { principal: four }, group(Selector::Name("Eng-EU".to_owned()))];
    let all = "oidm1:00oacme:group:0oaeu:00geng oidm1:00oacme:user:00u0004".to_owned();
    assert_eq!(indexed(&copy, both.clone()).await, (true, all.clone()));
    let further = [both, vec![group(Selector::GroupId("00gnone".to_owned()))]].concat();
    assert_eq!(indexed(&copy, further).await, (false, all));
    // So are demands.
    let context = v1::RequestContext { max_staleness: Some(prost_types::Duration::default()), ..Default::default() };
    let demanding = v1::ExpandUserRequest { context: Some(context), ..person(user_by_id(&user_id(4))) };
    assert_eq!(copy.expand_user_here(&demanding).unwrap(), Answer::OnlyServerKnows);
    // A question that makes no sense is refused as the server refuses it.
    let refused = |error| match error {
        ReflectorError::Question(refusal) => refusal.reason.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(copy.expand_user(&person(None)).await.unwrap_err()), ErrorReason::FieldMissing);
    let too_many = document(vec![v1::AclEntry::default(); 1_001]);
    assert_eq!(refused(copy.resolve_acl(&too_many).await.unwrap_err()), ErrorReason::TooManyItems);
    copy.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn filtered_people_are_asked_of_the_server() {
    let filter = Filter { users: DomainFilter::new(DomainPattern::parse("example.com")), ..Filter::default() };
    let world = World::crawled_with(filter).await;
    let out = User { login: Some("out@outside.test".into()), email: None, ..user(900) };
    world.put(vec![Row::User(out)]).await;
    let server = world.serve().await;
    let copy = copy_of(&server).await;
    let nothing = "oidm1:00oacme:match-nothing".to_owned();
    for selector in [user_by_id(&user_id(900)), user_by_login("out@outside.test"), user_by_login("no@example.com")] {
        assert_eq!(expanded(&copy, selector).await, (false, nothing.clone()));
    }
    assert!(expanded(&copy, user_by_login("user4@example.com")).await.0);
    copy.stop().await;
    server.stop().await;
}

/// An org that has not told its id has no principals, neither here nor there.
#[tokio::test]
async fn without_the_id_of_the_org_the_server_refuses() {
    let world = World::empty();
    let server = world.serve().await;
    let copy = copy_of(&server).await;
    assert_eq!(copy.resolve_acl_here(&document(Vec::new())).unwrap(), Answer::OnlyServerKnows);
    let user = person(user_by_login("ann@example.com"));
    assert_eq!(copy.expand_user_here(&user).unwrap(), Answer::OnlyServerKnows);
    for error in
        [copy.resolve_acl(&document(Vec::new())).await.unwrap_err(), copy.expand_user(&user).await.unwrap_err()]
    {
        let ReflectorError::Server(error) = error else { panic!("the server was asked") };
        assert_eq!(error.reason(), Some(ErrorReason::OrgIdUnknown));
    }
    copy.stop().await;
    server.stop().await;
}

//! Tables of [`super`]: what becomes of each kind of body, and that none of them panics.

use proptest::prelude::*;

use super::*;
use crate::core::ids::{AppId, Timestamp, UserId};
use crate::core::model::{AppUserStatus, AssignmentScope, GroupType, UserStatus};

fn app() -> AppId {
    AppId::new("0oa9trackerProd00001").unwrap()
}

fn user() -> UserId {
    UserId::new("00u4kq7mznAdaLov0001").unwrap()
}

fn every_resource() -> [Resource; 14] {
    let since = Timestamp::from_millis(0);
    let group = GroupId::new("00g7toolsTeamAcme001").unwrap();
    [
        Resource::Users,
        Resource::UsersPlain,
        Resource::UsersDeprovisioned,
        Resource::Groups,
        Resource::GroupMembers(group),
        Resource::Apps,
        Resource::AppUsers(app()),
        Resource::AppGroups(app()),
        Resource::UsersChanged { since },
        Resource::UsersByIds(vec![user()]),
        Resource::UserGroups(user()),
        Resource::GroupsChanged { since },
        Resource::GroupsOfApp(app()),
        Resource::UserApps(user()),
    ]
}

const USERS: &str = r#"[{"id":"00u4kq7mznAdaLov0001","status":"ACTIVE","created":"2025-02-03T08:15:30.000Z","activated":"2025-02-03T08:16:02.000Z","statusChanged":"2025-02-03T08:16:02.000Z","lastLogin":"2026-07-30T06:41:12.000Z","lastUpdated":"2026-06-18T13:20:05.000Z","passwordChanged":null,"type":{"id":"oty1acmeStdType00001"},"realmId":"guo1acmeRealmMain001","profile":{"login":"ada.l@acme.example","email":"ada.l@acme.example","secondEmail":null,"firstName":"Ada","lastName":"Lindqvist","mobilePhone":null,"department":"Tooling","employeeNumber":"E-1042","badgeIds":["b-7","b-9"],"onCall":true},"credentials":{"provider":{"type":"OKTA","name":"OKTA"}},"_links":{"self":{"href":"https://acme.okta.example/api/v1/users/00u4kq7mznAdaLov0001"}}},
{"id":"00u4kq7mznBorisK0002","status":"DEPROVISIONED","created":"2023-11-20T10:00:00.000Z","statusChanged":"2026-05-02T17:00:41.000Z","lastUpdated":"2026-05-02T17:00:41.000Z","type":{"id":"oty1acmeStdType00001"},"profile":{"login":"boris.k@acme.example","email":"boris.k@acme.example","lastName":"Kowal"},"credentials":{"provider":{"type":"ACTIVE_DIRECTORY","name":"corp.acme.example"}}}]"#;

const GROUPS: &str = r#"[{"id":"00g7toolsTeamAcme001","created":"2024-01-09T09:00:00.000Z","lastUpdated":"2024-01-09T09:00:00.000Z","lastMembershipUpdated":"2026-08-01T07:12:44.000Z","objectClass":["okta:user_group"],"type":"OKTA_GROUP","profile":{"name":"tooling","description":null},"_embedded":{"stats":{"usersCount":2,"appsCount":1,"groupPushMappingsCount":0,"hasAdminPrivlege":false}}},
{"id":"00g7corpDirEngAd0002","type":"APP_GROUP","profile":{"name":"Engineering","description":"corp.acme.example/Groups/Engineering","windowsDomainQualifiedName":"CORP\\Engineering"},"_embedded":{"app":{"id":"0oa2corpDirectory001","name":"active_directory"}},"_links":{"source":{"href":"https://acme.okta.example/api/v1/apps/0oa2other"}}},
{"id":"00g7corpDirEngAd0003","type":"APP_GROUP","profile":{"name":"Sales"},"_links":{"source":{"href":"https:\/\/acme.okta.example\/api\/v1\/apps\/0oa2corpDirectory001"}}}]"#;

const APPS: &str = r#"[{"id":"0oa9trackerProd00001","name":"acme_tracker_1","label":"Tracker (prod)","status":"ACTIVE","created":"2024-03-01T10:00:00.000Z","lastUpdated":"2026-04-14T11:31:00.000Z","signOnMode":"SAML_2_0","features":["PUSH_NEW_USERS","GROUP_PUSH",null,7],"credentials":{"userNameTemplate":{"template":"${source.login}","type":"BUILT_IN"},"signing":{}}},
{"id":"0oa9bankPortalSwa002","name":"template_swa","label":null,"status":"ACTIVE","signOnMode":null,"features":[],"credentials":{"scheme":"SHARED_USERNAME_AND_PASSWORD","userName":"acme-finance","password":{}},"settings":{"implicitAssignment":true,"oauthClient":{"application_type":"service"}}}]"#;

const APP_USERS: &str = r#"[{"id":"00u4kq7mznAdaLov0001","externalId":"88213","created":"2026-01-10T10:10:10.000Z","lastUpdated":"2026-06-18T13:20:09.000Z","scope":"GROUP","status":"PROVISIONED","statusChanged":"2026-01-10T10:10:31.000Z","passwordChanged":null,"syncState":"SYNCHRONIZED","lastSync":"2026-06-18T13:20:09.000Z","credentials":{"userName":"ada.l@acme.example"},"profile":{"email":"ada.l@acme.example","trackerRole":"maintainer","seats":1},"_links":{"app":{"href":"https://acme.okta.example/api/v1/apps/0oa9trackerProd00001"},"user":{"href":"https://acme.okta.example/api/v1/users/00u4kq7mznAdaLov0001"},"group":{"name":"tooling","href":"https://acme.okta.example/api/v1/groups/00g7toolsTeamAcme001"}}},
{"id":"00u4kq7mznChenWe0003","externalId":null,"scope":"USER","status":"ACTIVE","syncState":"DISABLED","credentials\"":{"userName":"cwei"},"profile":{}},
{"id":"00u4kq7mznDanaOr0004","externalId":"","status":"STAGED","syncState":"ERROR","profile":{"email":""},"_links":{"group":{"href":"https://acme.okta.example/api/v1/groups/00g7toolsTeamAcme001"}}}]"#;

const APP_GROUPS: &str = r#"[{"id":"00g7toolsTeamAcme001","priority":0,"lastUpdated":"2026-01-10T10:00:00.000Z","profile":{"trackerRole":"maintainer"}},{"id":"00g7toolsTeamAcme002","priority":"7"},{"id":"00g7toolsTeamAcme003"}]"#;

const EVENTS: &str = r#"[{"uuid":"5b1f0c1e","published":"2026-08-02T09:00:03.511Z","eventType":"application.user_membership.add","outcome":{"result":"Success","reason":null},"target":[{"id":"0ua5","type":"AppUser","alternateId":"dana@acme.example","displayName":"Dana Orlov"},{"id":"0oa9","type":"AppInstance"},{"id":"00u4","type":"User","detailEntry":{"user_id":"00u4","app_instance_id":"0oa9"}},{"id":null,"type":"User"},null,7],"transaction":{"type":"JOB","detail":{"requestApiTokenId":"00T1"}},"debugContext":{"debugData":{"changedAttributes":"department","url":"/x"}}},
{"uuid":"a","eventType":"group.user_membership.add","target":null,"debugContext":{"debugData":""},"outcome":null,"transaction":{},"version":0}]"#;

/// One page of each resource, made up from facts 14.
fn body_of(resource: &Resource) -> &'static str {
    match resource {
        Resource::Users
        | Resource::UsersPlain
        | Resource::UsersDeprovisioned
        | Resource::UsersChanged { .. }
        | Resource::UsersByIds(_)
        | Resource::GroupMembers(_) => USERS,
        Resource::Groups
        | Resource::GroupsBuiltIn
        | Resource::UserGroups(_)
        | Resource::GroupsChanged { .. }
        | Resource::GroupsOfApp(_) => GROUPS,
        Resource::Apps | Resource::UserApps(_) => APPS,
        Resource::AppUsers(_) => APP_USERS,
        Resource::AppGroups(_) => APP_GROUPS,
    }
}

fn rows_of(resource: &Resource) -> Vec<Row> {
    let page = decode_page(resource, body_of(resource).as_bytes()).unwrap();
    assert_eq!(page.quarantined, []);
    assert_eq!(page.items, page.rows.len());
    page.rows
}

#[test]
fn users_become_rows() {
    let rows = rows_of(&Resource::Users);
    let Row::User(ada) = &rows[0] else { panic!("{:?}", rows[0]) };
    assert_eq!(ada.status, UserStatus::Active);
    assert_eq!(ada.login.as_deref(), Some("ada.l@acme.example"));
    assert_eq!((ada.second_email.as_deref(), ada.first_name.as_deref()), (None, Some("Ada")));
    assert_eq!(ada.last_updated, Timestamp::parse("2026-06-18T13:20:05Z"));
    let Row::User(boris) = &rows[1] else { panic!("{:?}", rows[1]) };
    assert_eq!((boris.first_name.as_deref(), &boris.status), (None, &UserStatus::Deprovisioned));
    let members = rows_of(&every_resource()[4]);
    assert_eq!(format!("{:?}", members[1].key()), "GroupMember(00g7toolsTeamAcme001, 00u4kq7mznBorisK0002)");
}

#[test]
fn groups_become_rows_with_counts() {
    let page = decode_page(&Resource::Groups, GROUPS.as_bytes()).unwrap();
    let sources = page.rows.iter().map(|row| match row {
        Row::Group(group) => (group.group_type.clone(), group.source_app.as_ref().map(|app| app.as_str().to_owned())),
        other => panic!("{other:?}"),
    });
    let directory = Some("0oa2corpDirectory001".to_owned());
    let expected =
        [(GroupType::OktaGroup, None), (GroupType::AppGroup, directory.clone()), (GroupType::AppGroup, directory)];
    assert_eq!(sources.collect::<Vec<_>>(), expected);
    assert_eq!(page.group_stats, [(GroupId::new("00g7toolsTeamAcme001").unwrap(), GroupStats { users: 2, apps: 1 })]);
}

#[test]
fn apps_become_rows() {
    let rows = rows_of(&Resource::Apps);
    let Row::App(tracker) = &rows[0] else { panic!("{:?}", rows[0]) };
    assert_eq!(tracker.features, ["PUSH_NEW_USERS".into(), "GROUP_PUSH".into(), "7".into()] as [Box<str>; 3]);
    assert_eq!(tracker.user_name_template.as_deref(), Some("${source.login}"));
    assert_eq!(tracker.implicit_assignment, None);
    assert!(!tracker.is_service_app());
    let Row::App(portal) = &rows[1] else { panic!("{:?}", rows[1]) };
    assert_eq!((&*portal.label, portal.sign_on_mode.as_deref()), ("template_swa", None));
    assert_eq!(portal.implicit_assignment, Some(true));
    assert!(portal.is_shared_account() && portal.is_service_app());
    assert_eq!(portal.shared_user_name.as_deref(), Some("acme-finance"));
}

#[test]
fn app_users_become_rows() {
    let rows = rows_of(&Resource::AppUsers(app()));
    let Row::AppUser(ada) = &rows[0] else { panic!("{:?}", rows[0]) };
    assert_eq!((&ada.status, &ada.scope), (&AppUserStatus::Provisioned, &AssignmentScope::Group));
    assert_eq!((ada.external_id.as_deref(), ada.user_name.as_deref()), (Some("88213"), Some("ada.l@acme.example")));
    assert_eq!(ada.via_group, GroupId::new("00g7toolsTeamAcme001").ok());
    let Row::AppUser(chen) = &rows[1] else { panic!("{:?}", rows[1]) };
    assert_eq!((chen.user_name.as_deref(), &chen.scope), (Some("cwei"), &AssignmentScope::User));
    let Row::AppUser(dana) = &rows[2] else { panic!("{:?}", rows[2]) };
    assert_eq!((dana.external_id.as_deref(), dana.email.as_deref(), dana.user_name.as_deref()), (None, None, None));
    assert_eq!(dana.scope, AssignmentScope::Group, "inferred from the granting group");
    let priorities: Vec<_> = rows_of(&Resource::AppGroups(app()))
        .iter()
        .map(|row| match row {
            Row::AppGroup(row) => row.priority,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(priorities, [Some(0), Some(7), None]);
}

#[test]
fn parts_of_lists_become_the_same_rows_as_the_whole() {
    let since = Timestamp::from_millis(0);
    assert_eq!(rows_of(&Resource::UsersChanged { since }), rows_of(&Resource::Users));
    assert_eq!(rows_of(&Resource::UsersByIds(vec![user()])), rows_of(&Resource::Users));
    for resource in [Resource::UserGroups(user()), Resource::GroupsChanged { since }, Resource::GroupsOfApp(app())] {
        assert_eq!(rows_of(&resource), rows_of(&Resource::Groups));
    }
}

#[test]
fn apps_of_a_user_come_with_the_account() {
    /// One app with this beside its id; expects the account's user name and the reasons of quarantine.
    #[track_caller]
    fn check(rest: &str, expected: Option<&str>, quarantined: &[&str]) {
        let body = format!(r#"[{{"id":"0oa9trackerProd00001"{rest}}}]"#);
        let page = decode_page(&Resource::UserApps(user()), body.as_bytes()).unwrap();
        assert_eq!((page.rows.len(), page.items, page.user_apps.len()), (0, 1, 1), "{body}");
        let seen = &page.user_apps[0];
        assert_eq!(seen.app, app());
        let account = seen.app_user.as_ref();
        assert!(account.is_none_or(|row| row.app == app() && row.user == user()), "{body}");
        assert_eq!(account.and_then(|row| row.user_name.as_deref()), expected, "{body}");
        let reasons: Vec<_> = page.quarantined.iter().map(|record| record.reason.as_str()).collect();
        assert_eq!(reasons, quarantined, "{body}");
        for record in &page.quarantined {
            assert_eq!((&record.scope, record.id.as_deref()), (&Scope::AppUsers(app()), Some(user().as_str())));
        }
    }
    let account = |id: &str, rest: &str| format!(r#","_embedded":{{"user":{{"id":{id}{rest}}}}}"#);
    let (own, other) = (r#""00u4kq7mznAdaLov0001""#, r#""00u4kq7mznChenWe0003""#);
    let active = r#","status":"ACTIVE","credentials":{"userName":"ada"}"#;
    check(&account(own, active), Some("ada"), &[]);
    check(&account(own, r#","status":"STAGED""#), None, &[]);
    check(&account(other, active), None, &[]);
    check(&account("7", active), None, &[]);
    check(&account("null", active), None, &[]);
    check(&account(own, ""), None, &["status is missing"]);
    // What an Okta user looks like under the same key.
    check(&account(other, r#","status":"ACTIVE","profile":{"login":"ada"}"#), None, &[]);
    for lost in ["", r#","_embedded":null"#, r#","_embedded":{}"#, r#","_embedded":[1]"#, r#","_embedded":{"user":7}"#]
    {
        check(lost, None, &[]);
    }
    let long = format!(r#","status":"ACTIVE","credentials":{{"userName":"{}"}}"#, "x".repeat(5_000));
    check(&account(own, &long), None, &["credentials.userName has 5000 bytes, more than 4096"]);
    let broken = decode_page(&Resource::UserApps(user()), br#"[{"label":"x"},3,{"id":"0oa1"}]"#).unwrap();
    assert_eq!((broken.user_apps.len(), broken.quarantined.len(), broken.items), (1, 2, 3));
    assert!(broken.quarantined.iter().all(|record| record.scope == Scope::Apps));
}

#[test]
fn events_become_hints() {
    let page = decode_log(EVENTS.as_bytes()).unwrap();
    assert_eq!((page.items, page.quarantined.len()), (2, 0));
    let add = &page.events[0];
    assert_eq!((add.outcome.as_deref(), add.transaction_type.as_deref()), (Some("SUCCESS"), Some("JOB")));
    let targets: Vec<_> = add.targets.iter().map(|target| (&*target.target_type, &*target.id)).collect();
    assert_eq!(targets, [("AppUser", "0ua5"), ("AppInstance", "0oa9"), ("User", "00u4")]);
    assert_eq!(add.targets[2].detail_app_id.as_deref(), Some("0oa9"));
    assert_eq!(add.debug_data, [("changedAttributes", "department".into())]);
    assert_eq!(add.api_token.as_deref(), Some("00T1"));
    assert_eq!((page.events[1].targets.len(), page.events[1].published), (0, None));
    let broken = decode_log(br#"[{"eventType":"x"},{"uuid":"u"},1]"#).unwrap();
    let reasons: Vec<_> = broken.quarantined.iter().map(|record| record.reason.as_str()).collect();
    assert_eq!(reasons, ["uuid is missing", "eventType is missing", "the record is no object"]);
}

#[test]
fn broken_records_are_quarantined_and_the_page_goes_on() {
    #[track_caller]
    fn check(record: &str, id: Option<&str>, reason: &str) {
        let body = format!(r#"[{{"id":"00u1","status":"ACTIVE"}},{record},{{"id":"00u2","status":"ACTIVE"}}]"#);
        let page = decode_page(&Resource::AppUsers(app()), body.as_bytes()).unwrap();
        assert_eq!((page.rows.len(), page.items), (2, 3), "{record}");
        let quarantined = &page.quarantined[0];
        assert_eq!((quarantined.id.as_deref(), quarantined.reason.as_str()), (id, reason), "{record}");
        assert_eq!(quarantined.scope, Scope::AppUsers(app()));
    }
    let long = "x".repeat(5_000);
    check(r#"{"status":"ACTIVE"}"#, None, "id is missing");
    check(r#"{"id":null,"status":"ACTIVE"}"#, None, "id is missing");
    check(r#"{"id":"a/b","status":"ACTIVE"}"#, Some("a/b"), "id is no Okta id: it holds a character that none has");
    check(&format!(r#"{{"id":"{long}"}}"#), None, "id is no Okta id: it has 5000 bytes");
    check(r#"{"id":"00u3"}"#, Some("00u3"), "status is missing");
    check(r#"{"id":"00u3","status":["ACTIVE"]}"#, Some("00u3"), "status is missing");
    check(
        &format!(r#"{{"id":"00u3","status":"ACTIVE","credentials":{{"userName":"{long}"}}}}"#),
        Some("00u3"),
        "credentials.userName has 5000 bytes, more than 4096",
    );
    check("7", None, "the record is no object");
    check("null", None, "the record is no object");
    check("[]", None, "the record is no object");
    check(r#"{"id":"00u3" "status":1}"#, None, "the record is no valid JSON");
    check(r#"{"id":"00u3","status":"\ud800"}"#, None, "the record is no valid JSON");
    check(r#"{"id":"00u3","status":1e999}"#, None, "the record is no valid JSON");
    check("", None, "the record is no valid JSON");
}

#[test]
fn odd_but_usable_records_become_rows() {
    #[track_caller]
    fn check(record: &str) {
        let page = decode_page(&Resource::AppUsers(app()), format!("[{record}]").as_bytes()).unwrap();
        assert_eq!((page.rows.len(), page.quarantined.len()), (1, 0), "{record}");
    }
    check(r#"{"id":"00u1","id":"00u1","status":"ACTIVE","status":"ACTIVE","profile":{},"profile":{}}"#);
    check(r#"{"id":"00u1","status":"NEW_IN_2027","scope":"ROBOT","credentials":"none","profile":[1],"_links":7}"#);
    check(r#"{"id":"00u1","status":"ACTIVE","externalId":77,"created":12,"lastUpdated":"soon"}"#);
    check(&format!(
        r#"{{"id":"00u1","status":"ACTIVE","profile":{{"x":{}{}}}}}"#,
        "[".repeat(9_999),
        "]".repeat(9_999)
    ));
}

#[test]
fn ids_that_are_no_text_are_none() {
    for id in ["12345", "0", "-1", "1.5", "true"] {
        for resource in every_resource() {
            let record = format!(r#"{{"id":{id},"name":"n","status":"ACTIVE","profile":{{"name":"n"}}}}"#);
            let page = decode_page(&resource, format!("[{record}]").as_bytes()).unwrap();
            assert_eq!((page.rows.len(), page.quarantined.len()), (0, 1), "{record}");
        }
    }
}

#[test]
fn bodies_that_are_no_page_say_why() {
    #[track_caller]
    fn check(body: &str, expected: BodyError) {
        for resource in every_resource() {
            assert_eq!(decode_page(&resource, body.as_bytes()), Err(expected.clone()), "{body}");
        }
        assert_eq!(decode_log(body.as_bytes()), Err(expected));
    }
    check("", BodyError::Empty);
    check(" \n ", BodyError::Empty);
    check("<html></html>", BodyError::Html);
    check("[{", BodyError::Truncated);
    check(r#"{"a":"#, BodyError::Truncated);
    check("{}", BodyError::NotArray { code: None });
    check("null", BodyError::NotArray { code: None });
    check(r#"{"errorCode":"E0000009"}"#, BodyError::NotArray { code: Some("E0000009".into()) });
    check("hello", BodyError::NotJson);
    check("[] []", BodyError::NotJson);
    check(&format!("[{}1]", "1,".repeat(PAGE_ITEMS_MAX)), BodyError::TooManyItems);
}

#[test]
fn single_objects_are_the_ones_asked_for() {
    #[track_caller]
    fn check(body: &str, expected: Result<(), BodyError>) {
        let path = ObjectPath::User(UserId::new("00u1").unwrap());
        assert_eq!(decode_object(&path, body.as_bytes()).map(|_| ()), expected, "{body}");
    }
    check(r#"{"id":"00u1","status":"ACTIVE"}"#, Ok(()));
    check(r#"{"id":"00u2","status":"ACTIVE"}"#, Err(BodyError::OtherObject));
    check(r#"{"id":"00u1"}"#, Err(BodyError::Unusable { reason: "status is missing".to_owned() }));
    check("[]", Err(BodyError::Unusable { reason: "the record is no object".to_owned() }));
    check("", Err(BodyError::Empty));
    check(r#"{"id":"#, Err(BodyError::Truncated));
    check("<p>", Err(BodyError::Html));
    check("{]", Err(BodyError::NotJson));
}

#[test]
fn org_metadata_is_read() {
    #[track_caller]
    fn check(body: &str, expected: Result<(&str, Option<&str>), BodyError>) {
        let expected = expected.map(|(id, pipeline)| (Box::from(id), pipeline.map(Box::from)));
        assert_eq!(decode_org_metadata(body.as_bytes()), expected, "{body}");
    }
    check(r#"{"id":"00o1","pipeline":"idx","_links":{}}"#, Ok(("00o1", Some("idx"))));
    check(r#"{"id":"00o1"}"#, Ok(("00o1", None)));
    check("{}", Err(BodyError::Unusable { reason: "id is missing".to_owned() }));
    check("<html>", Err(BodyError::Html));
}

/// Decodes `body` as everything; the value of the test is that it comes back.
fn decode_as_everything(body: &[u8]) {
    for resource in every_resource() {
        if let Ok(page) = decode_page(&resource, body) {
            // An app of a user counts even if the embedded account does not.
            let of_apps = page.quarantined.iter().filter(|record| record.scope == resource.scope()).count();
            assert_eq!(page.rows.len() + page.user_apps.len() + of_apps, page.items);
            assert!(page.user_apps.is_empty() || page.rows.is_empty());
        }
    }
    if let Ok(page) = decode_log(body) {
        assert_eq!(page.events.len() + page.quarantined.len(), page.items);
    }
    let _ = decode_object(&ObjectPath::AppUser(app(), UserId::new("00u4kq7mznAdaLov0001").unwrap()), body);
    let _ = decode_org_metadata(body);
    let _ = FailureBody::read(None, body);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        decode_as_everything(&body);
    }

    #[test]
    fn arbitrary_json_characters_never_panic(body in r#"\[[\[\]{}",:0-9a-z\\u.eE -]{0,200}"#) {
        decode_as_everything(body.as_bytes());
    }

    #[test]
    fn mutated_bodies_never_panic(
        which in 0_usize..6,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..3), 1..6),
    ) {
        let mut body = [USERS, GROUPS, APPS, APP_USERS, APP_GROUPS, EVENTS][which].as_bytes().to_vec();
        for (index, byte, action) in edits {
            let at = index.index(body.len().max(1));
            match action {
                0 if at < body.len() => body[at] = byte,
                1 if at < body.len() => { body.remove(at); }
                _ => body.insert(at, byte),
            }
        }
        decode_as_everything(&body);
    }
}

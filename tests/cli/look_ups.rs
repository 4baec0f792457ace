//! Look-ups in a store without a server: every form of output, completeness, exit codes.

use expect_test::{Expect, expect};

use super::harness::{Place, Ran};
use super::store;

/// Leaves room for what differs from run to run.
pub(crate) fn stable(text: &str) -> String {
    let lines = text.lines().map(|line| match line.find("\"store_id\":\"") {
        Some(at) => format!("{}…", without_era(&line[..at])),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn without_era(line: &str) -> String {
    let name = "\"era\":\"";
    let Some((before, (_, after))) =
        line.split_once(name).and_then(|(before, rest)| Some((before, rest.split_once('"')?)))
    else {
        return line.to_owned();
    };
    format!("{before}{name}…\"{after}")
}

pub(crate) fn filled() -> Place {
    let place = Place::with_org();
    store::fill(place.path());
    place
}

pub(crate) fn run(place: &Place, line: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').chain(["--direct"]).collect();
    place.run(&words)
}

#[track_caller]
pub(crate) fn check(place: &Place, line: &str, code: i32, out: Expect, err: Expect) {
    let ran = run(place, line);
    assert_eq!(ran.code, Some(code), "{ran:?}");
    out.assert_eq(&stable(&ran.out));
    err.assert_eq(&ran.err);
}

#[test]
fn tables_are_for_people() {
    let place = filled();
    check(
        &place,
        "app list",
        0,
        expect![[r#"
        ID    LABEL                       NAME  STATUS  SIGN ON MODE
        0oa1  Jira                        jira  ACTIVE  SAML_2_0
        0oa2  Wiki \u{1b}[31mred\u{202e}  wiki  ACTIVE  SAML_2_0
        0oa3  Second wiki                 wiki  ACTIVE  SAML_2_0"#]],
        expect![[r#"
        3 apps
    "#]],
    );
    check(
        &place,
        "app users jira",
        0,
        expect![[r#"
        USER ID  LOGIN             USER STATUS  USER NAME  EXTERNAL ID  STATUS  SCOPE
        00u1     ada@acme.example  ACTIVE       ada        X-1          ACTIVE  DIRECT
        00u2     grace             ACTIVE       twin                    ACTIVE  DIRECT
        00u3     eve               SUSPENDED    =eve                    ACTIVE  DIRECT
        00u4     joan              ACTIVE       twin                    ACTIVE  DIRECT"#]],
        expect![[r#"
        4 accounts
    "#]],
    );
    check(
        &place,
        "group list --name-contains Eng --limit 1",
        0,
        expect![[r#"
        ID    NAME  TYPE
        00g1  Eng   OKTA_GROUP"#]],
        expect![[r#"
            1 group, there are more
        "#]],
    );
    check(
        &place,
        "user show ada@acme.example",
        0,
        expect![[r#"
            id          00u1
            status      ACTIVE
            grants      yes
            login       ada@acme.example
            email       ada@acme.example
            first name  Ada
            created at  2026-03-04T05:06:07.000Z"#]],
        expect![[""]],
    );
    check(
        &place,
        "user in 00u1 --app jira",
        0,
        expect![[r#"
        membership       YES
        grants           yes
        user id          00u1
        login            ada@acme.example
        in id            0oa1
        in               Jira
        user name        ada
        external id      X-1
        status           ACTIVE
        scope            DIRECT
        granting groups  @SUM(1,2) 00g3"#]],
        expect![[""]],
    );
    check(
        &place,
        "app groups 0oa1",
        0,
        expect![[r#"
        GROUP ID  NAME       PRIORITY
        00g3      @SUM(1,2)  2"#]],
        expect![[r#"
            1 group
        "#]],
    );
    check(
        &place,
        "group members @SUM(1,2)",
        0,
        expect![[r#"
        USER ID  LOGIN             DISPLAY NAME  STATUS
        00u1     ada@acme.example  Ada           ACTIVE"#]],
        expect![[r#"
            1 member
        "#]],
    );
}

#[test]
fn an_incomplete_answer_says_so_in_every_form() {
    let place = filled();
    let gap = "FORBIDDEN:app_users(0oa2)";
    for form in ["table", "json", "jsonl", "csv"] {
        for quiet in ["", " --quiet"] {
            let ran = run(&place, &format!("app users 0oa2 -o {form}{quiet}"));
            ran.assert(0, "", &format!("PARTIAL: what these gaps hide may be missing: {gap}"));
        }
    }
    let json = run(&place, "app users 0oa2 -o json").json();
    assert_eq!((&json["meta"]["completeness"], &json["meta"]["gap_ids"][0]), (&"PARTIAL".into(), &gap.into()));
    let json = run(&place, "app users 0oa1 -o json").json();
    assert_eq!(json["meta"]["completeness"], "COMPLETE");
    assert!(!run(&place, "app users 0oa1").err.contains("PARTIAL"));
}

#[test]
fn every_look_up_says_that_it_is_partial() {
    let place = filled();
    let store = store::open(place.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store::lose_the_log(&store, 10));
    drop(store);
    let lines = [
        "resolve jira ada",
        "resolve jira nobody",
        "resolve nothing ada",
        "user show ada@acme.example",
        "user show nobody",
        "user show both@acme.example",
        "user accounts 00u1",
        "user groups 00u1",
        "user groups nobody",
        "user in 00u1 --app jira",
        "user principals 00u1",
        "acl jira --account ada",
        "explain account jira ada",
        "explain user 00u1 --app jira",
        "explain user nobody --group 00g3",
        "acl jira --group nobody",
        "user in 00u1 --group 00g3",
        "user in 00u1 --group nobody",
        "app list",
        "app show jira",
        "app show nothing",
        "app users jira",
        "app groups jira",
        "group list",
        "group members 00g3",
        "group members Eng",
        "group members nobody",
        "search ada",
        "search --suggest ada",
        "status",
        "gaps",
        "gaps show LOG_LOST:log",
        "gaps show NONE:log",
        "gaps scopes",
        "gaps quarantined",
        "gaps ambiguous",
    ];
    for line in lines {
        let ran = run(&place, &format!("{line} -q"));
        let footer = ran.err.lines().find(|line| line.starts_with("PARTIAL: "));
        assert!(footer.is_some_and(|footer| footer.contains("LOG_LOST:log")), "{line}: {ran:?}");
        let json = run(&place, &format!("{line} -q -o json")).json().to_string();
        assert!(json.contains("\"completeness\":\"PARTIAL\"") && json.contains("LOG_LOST:log"), "{line}: {json}");
    }
}

#[test]
fn gaps_are_told_with_what_to_do() {
    let place = filled();
    check(
        &place,
        "gaps -q",
        0,
        expect![[r#"
            ID                         STATE  NAME                        FIRST SEEN AT             OBSERVATION COUNT
            FORBIDDEN:app_users(0oa2)  OPEN   Wiki \u{1b}[31mred\u{202e}  2026-03-04T05:06:07.000Z  1
            NOT_READ:app_users(0oa2)   OPEN   Wiki \u{1b}[31mred\u{202e}                            0
            NOT_READ:log               OPEN                                                         0

            FORBIDDEN (1)
              to do  give the credential's owner the Read-only Administrator role, or a custom role with
                     okta.apps.read whose resource set covers app 0oa2

            NOT_READ (2)
              to do  wait for the crawl to finish, or run `okta-idmap sync`"#]],
        expect![[r#"
        PARTIAL: what these gaps hide may be missing: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2), NOT_READ:log
    "#]],
    );
    check(
        &place,
        "gaps show FORBIDDEN:app_users(0oa2)",
        0,
        expect![[r#"
            id                 FORBIDDEN:app_users(0oa2)
            org                acme
            kind               FORBIDDEN
            state              OPEN
            scope              app_users(0oa2)
            name               Wiki \u{1b}[31mred\u{202e}
            first seen at      2026-03-04T05:06:07.000Z
            last seen at       2026-03-04T05:06:07.000Z
            observation count  1
            hides              accounts of app 0oa2 (seen: GET /api/v1/apps/0oa2/users: status 403 E0000006)
            evidence           endpoint /api/v1/apps/{appId}/users
                               HTTP status 403
                               Okta's code E0000006
                               missing permission okta.apps.read
            remedy             give the credential's owner the Read-only Administrator role, or a custom role with
                               okta.apps.read whose resource set covers app 0oa2"#]],
        expect![[r#"
        PARTIAL: what these gaps hide may be missing: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2), NOT_READ:log
    "#]],
    );
    check(
        &place,
        "gaps scopes --state forbidden,never-read",
        0,
        expect![[r#"
        SCOPE            NAME                        STATE       COMPLETED AT  ROW COUNT  GAP IDS
        app_users(0oa2)  Wiki \u{1b}[31mred\u{202e}  FORBIDDEN                 0          NOT_READ:app_users(0oa2) FORBIDDEN:app_users(0oa2)
        log                                          NEVER_READ                0          NOT_READ:log"#]],
        expect![[r#"
        2 scopes
        PARTIAL: what these gaps hide may be missing: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2), NOT_READ:log
    "#]],
    );
    let kinds = |line: &str| run(&place, line).json()["gaps"].as_array().unwrap().len();
    assert_eq!(
        (kinds("gaps -o json"), kinds("gaps -o json --kind forbidden"), kinds("gaps -o json --kind held")),
        (3, 1, 0)
    );
    let limited = run(&place, "gaps -o json --limit 1").json();
    assert_eq!((limited["gaps"].as_array().unwrap().len(), &limited["truncated"]), (1, &true.into()));
    assert_eq!(run(&place, "gaps -o json --limit 3").json()["truncated"], false);
    run(&place, "gaps show HELD:users").assert(4, "", "no gap HELD:users is open");
    run(&place, "gaps --all show HELD:users").assert(2, "", "belong behind the sub-command");
    run(&place, "gaps --kind nonsense").assert(2, "", "it is one of forbidden, scope-missing");
    run(&place, "gaps quarantined").assert(0, "", "0 records");
    run(&place, "gaps ambiguous").assert(
        0,
        "Jira  twin  T1, user name exactly  2      0          grace joan",
        "1 name",
    );
    run(&place, "gaps ambiguous --app nothing").assert(4, "", "no app \"nothing\"");
    let scopes = run(&place, "gaps scopes -o csv -q");
    assert_eq!((scopes.code, scopes.out.lines().count()), (Some(0), 14), "{scopes:?}");
}

#[test]
fn names_of_templates_are_forecast() {
    let place = filled();
    let line = "gaps ambiguous --app jira --template";
    run(&place, line).assert(1, "", "no names can be predicted: the app has no user name template");
    run(&place, "gaps ambiguous --template").assert(2, "", "--app <APP>");
    let use_template = |at: u64, template: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = store::open(place.path());
        runtime.block_on(store::use_template(&store, at, template));
    };
    use_template(1_000_000, "substringBefore(user.login, \"@\")");
    check(
        &place,
        line,
        0,
        expect![[r#"
            APP   NAME  COMPARED AS            USERS  OVERRIDES  AMONG THEM
            Jira  ada   T1, user name exactly  2      0          ada@acme.example ada@other.example (not assigned)"#]],
        expect![[r#"
            1 name
            PARTIAL: what these gaps hide may be missing: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2), NOT_READ:log
            3 users are left out: they lack what the template makes names of
        "#]],
    );
    use_template(2_000_000, "isMemberOfGroupName(\"x\")");
    run(&place, line).assert(1, "", "the function isMemberOfGroupName, which is not understood (isMemberOfGroupName(");
}

#[test]
fn csv_has_no_formulas() {
    let place = filled();
    check(
        &place,
        "app users jira -o csv -q",
        0,
        expect![[r#"
        user_id,login,user_email,display_name,user_status,user_name,external_id,email,status,scope,via_group_id,sync_state,created_at,last_updated_at,status_grants,stale
        00u1,ada@acme.example,ada@acme.example,Ada,ACTIVE,ada,X-1,,ACTIVE,DIRECT,,,,,yes,no
        00u2,grace,both@acme.example,Grace,ACTIVE,twin,,,ACTIVE,DIRECT,,,,,yes,no
        00u3,eve,both@acme.example,'=cmd|'/C calc'!A1,SUSPENDED,'=eve,,,ACTIVE,DIRECT,,,,,yes,no
        00u4,joan,joan.only@acme.example,Joan,ACTIVE,twin,,,ACTIVE,DIRECT,,,,,yes,no"#]],
        expect![[""]],
    );
    check(
        &place,
        "group list -o csv -q --limit 3",
        0,
        expect![[r#"
        id,name,type,description,source_app_id,created_at,last_updated_at,last_membership_updated_at,stale
        00g1,Eng,OKTA_GROUP,,,,,,no
        00g2,Eng,OKTA_GROUP,,,,,,no
        00g3,"'@SUM(1,2)",OKTA_GROUP,,,,,,no"#]],
        expect![[""]],
    );
    run(&place, "user show eve -o csv").assert(0, ",'=cmd|'/C calc'!A1,", "");
}

#[test]
fn json_is_one_document_and_jsonl_one_row_a_line() {
    let place = filled();
    check(
        &place,
        "user groups 00u1 -o json",
        0,
        expect![[r#"
        {"groups":[
          {"group":{"group_type":"OKTA_GROUP","group_type_raw":"","id":"00g3","name":"@SUM(1,2)"},"membership_stale":false}
        ],
        "user":{"outcome":"FOUND","resolution":null,"user":{"created_at":"2026-03-04T05:06:07.000Z","display_name":"","email":"ada@acme.example","first_name":"Ada","id":"00u1","last_name":"","last_updated_at":null,"login":"ada@acme.example","second_email":"","stale":false,"status":"ACTIVE","status_changed_at":null,"status_grants":true,"status_raw":""}},
        "meta":{"completeness":"COMPLETE","era":"…","gap_count":0,"gap_ids":[],"observed_through":null,"org":"acme","revision":2,"snapshot_completed_at":"2026-03-04T05:06:07.000Z",…
        "truncated":false}"#]],
        expect![[r#"
            1 group
        "#]],
    );
    check(
        &place,
        "group members 00g3 -o jsonl -q",
        0,
        expect![[
            r#"{"membership_stale":false,"user":{"display_name":"Ada","email":"ada@acme.example","id":"00u1","login":"ada@acme.example","status":"ACTIVE","status_raw":""}}"#
        ]],
        expect![[""]],
    );
    check(
        &place,
        "group members 00g1 -o json -q",
        0,
        expect![[r#"
        {"members":[],
        "group_id":"00g1",
        "meta":{"completeness":"COMPLETE","era":"…","gap_count":0,"gap_ids":[],"observed_through":null,"org":"acme","revision":2,"snapshot_completed_at":"2026-03-04T05:06:07.000Z",…
        "truncated":false}"#]],
        expect![[""]],
    );
    let status = run(&place, "status -o json").json();
    assert_eq!(status["orgs"][0]["gaps"][0]["id"], "FORBIDDEN:app_users(0oa2)");
    assert_eq!(status["orgs"][0]["status"]["store"]["row_counts"][0]["row_count"], 4);
}

#[test]
fn resolving_says_who_or_why_not() {
    let place = filled();
    check(
        &place,
        "resolve jira ada",
        0,
        expect![[r#"
            outcome      RESOLVED
            app          Jira (jira) 0oa1 ACTIVE
            user         Ada <ada@acme.example> 00u1 ACTIVE
            user name    ada
            external id  X-1
            status       ACTIVE
            assignment   DIRECT
            matched by   T1, user name exactly"#]],
        expect![[""]],
    );
    check(
        &place,
        "resolve jira twin --candidates",
        4,
        expect![[r#"
            outcome     AMBIGUOUS
            reason      2 users may be meant, so nobody is granted
            app         Jira (jira) 0oa1 ACTIVE
            matched by  T1, user name exactly
            candidates  Grace <grace> 00u2 ACTIVE  twin  T1, user name exactly
                        Joan <joan> 00u4 ACTIVE  twin  T1, user name exactly"#]],
        expect![[""]],
    );
    check(
        &place,
        "resolve jira =eve",
        4,
        expect![[r#"
            outcome     INACTIVE
            reason      user is SUSPENDED
            app         Jira (jira) 0oa1 ACTIVE
            user        =cmd|'/C calc'!A1 <eve> 00u3 SUSPENDED
            user name   =eve
            status      ACTIVE
            assignment  DIRECT
            matched by  T1, user name exactly"#]],
        expect![[""]],
    );
    check(
        &place,
        "resolve 0oa2 ada",
        4,
        expect![[r#"
            outcome  UNKNOWN_GAP
            reason   nobody is known to have such an account, but not everything was read: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
            app      Wiki \u{1b}[31mred\u{202e} (wiki) 0oa2 ACTIVE"#]],
        expect![[r#"
        PARTIAL: what these gaps hide may be missing: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
    "#]],
    );
    check(
        &place,
        "resolve wiki ada",
        4,
        expect![[r#"
            outcome  AMBIGUOUS_APP
            reason   2 apps have this label or integration name, use the id; --candidates lists them"#]],
        expect![[""]],
    );
    check(
        &place,
        "resolve nothing ada",
        4,
        expect![[r#"
            outcome  UNKNOWN_APP
            reason   no app has this id, label or integration name; `okta-idmap app list` shows them"#]],
        expect![[""]],
    );
    let json = run(&place, "resolve jira X-1 --kind external-id --groups -o json").json();
    let resolution = &json["resolution"];
    assert_eq!((&resolution["outcome"], &resolution["tier"]), (&"RESOLVED".into(), &"EXTERNAL_ID".into()));
    assert_eq!(resolution["granting_groups"]["groups"][0]["id"], "00g3");
    let nobody = run(&place, "resolve jira X-1 --kind user-name -o json");
    assert_eq!((nobody.code, &nobody.json()["resolution"]["outcome"]), (Some(4), &"NOT_FOUND".into()));
}

#[test]
fn a_user_is_named_by_id_login_or_email() {
    let place = filled();
    for name in ["00u4", "joan", "joan.only@acme.example", "JOAN.only@acme.example"] {
        run(&place, &format!("user show {name}")).assert(0, "00u4", "");
    }
    run(&place, "user show both@acme.example").assert(4, "", "several users have this e-mail address: ");
    run(&place, "user show nobody").assert(4, "", "no user \"nobody\", and everything that could hold one was read");
    let json = run(&place, "user accounts nobody -o json");
    assert_eq!((json.code, &json.json()["user"]["outcome"]), (Some(4), &"NOT_FOUND".into()));
    run(&place, "group members Eng").assert(4, "", "several groups have this name: 00g1, 00g2");
    run(&place, "group members nobody").assert(4, "", "no group \"nobody\"");
    run(&place, "app show wiki").assert(4, "", "app \"wiki\" is not unique; use the id");
    run(&place, "user in grace --group 00g3").assert(4, "NO", "");
    run(&place, "user in ada@acme.example --group 00g3").assert(0, "YES", "");
}

#[test]
fn the_index_finds_and_says_when_it_is_not_there() {
    let place = filled();
    check(
        &place,
        "search jira --kind app",
        0,
        expect![[r#"
        KIND  ID    NAME  DETAIL  STATUS
        app   0oa1  Jira  jira    ACTIVE"#]],
        expect![[r#"
            1 hit
            1 in all
        "#]],
    );
    run(&place, "search --suggest grac -o csv").assert(0, "00u2,", "1 suggestion");
    run(&place, "search kind:").assert(2, "", "search");
    run(&place, "search zzzz").assert(0, "", "0 hits");
    std::fs::remove_dir_all(place.path().join("okta-idmap-data/acme/index")).unwrap();
    run(&place, "search jira").assert(1, "", "index");
    // By e-mail nobody can be found now, and that is not the same as nobody: an address that is a login is.
    run(&place, "user show joan.only@acme.example").assert(1, "", "look for the e-mail address: search: ");
    run(&place, "user show ada@acme.example").assert(0, "00u1", "");
}

#[test]
fn long_lists_are_paged_and_limited() {
    let place = Place::with_org();
    store::fill_many(place.path(), 2_500);
    let all = run(&place, "app users jira -o jsonl -q");
    assert_eq!((all.code, all.out.lines().count()), (Some(0), 2_504));
    let ids: std::collections::BTreeSet<&str> = all.out.lines().collect();
    assert_eq!(ids.len(), 2_504, "no row twice");
    for (limit, rows) in [(1, 1), (999, 999), (1_000, 1_000), (1_001, 1_001), (2_504, 2_504), (9_000, 2_504)] {
        let ran = run(&place, &format!("app users jira -o json --limit {limit}"));
        let json = ran.json();
        assert_eq!(json["accounts"].as_array().unwrap().len(), rows, "limit {limit}");
        assert_eq!(json["truncated"], rows < 2_504, "limit {limit}");
        let more = if rows < 2_504 { ", there are more" } else { "" };
        ran.assert(0, "", &format!("{rows} account{}{more}\n", if rows == 1 { "" } else { "s" }));
    }
    for form in ["table", "json", "jsonl", "csv"] {
        let ran = place.run_cut_off(&["app", "users", "jira", "-o", form, "--direct"], 100);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "a closed output is no failure: {ran:?}");
    }
}

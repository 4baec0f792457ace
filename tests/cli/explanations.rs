//! Principals and explanations of a store without a server: `acl`, `user principals`, `explain`.

use expect_test::expect;

use super::look_ups::{check, filled, run};

#[test]
fn documents_and_people_have_principals() {
    let place = filled();
    check(
        &place,
        "acl jira --account ada --account X-1 --group @SUM(1,2) --account nobody",
        0,
        expect![[r#"
            principals       oidm1:00oacme:group:0oa1:00g3
                             oidm1:00oacme:user:00u1
            encoder version  1
            deny all         no
            safe to index    yes
            unresolved       account nobody: NOT_FOUND"#]],
        expect![[""]],
    );
    check(
        &place,
        "acl jira --account twin --group-id 00g1 --account =eve",
        4,
        expect![[r#"
        principals       oidm1:00oacme:deny-all
        encoder version  1
        deny all         yes
        safe to index    no
        unresolved       account twin: AMBIGUOUS
                         account =eve: INACTIVE
                         group 00g1: NOT_FOUND"#]],
        expect![[""]],
    );
    check(
        &place,
        "acl 0oa2 --account ada --group Eng -o csv",
        4,
        expect![[r#"
            principals,encoder_version,deny_all,safe_to_index,unresolved
            oidm1:00oacme:deny-all,1,yes,no,account ada: UNKNOWN_GAP; group Eng: NOT_FOUND"#]],
        expect![[r#"
        PARTIAL: what these gaps hide may be missing: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
    "#]],
    );
    check(
        &place,
        "acl jira",
        0,
        expect![[r#"
        principals       oidm1:00oacme:deny-all
        encoder version  1
        deny all         yes
        safe to index    yes"#]],
        expect![[""]],
    );
    check(
        &place,
        "user principals ada@acme.example",
        0,
        expect![[r#"
        user id          00u1
        login            ada@acme.example
        status           ACTIVE
        principals       oidm1:00oacme:group:0oa1:00g3
                         oidm1:00oacme:user:00u1
        encoder version  1
        match nothing    no"#]],
        expect![[r#"
        PARTIAL: what these gaps hide may be missing: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
    "#]],
    );
    check(
        &place,
        "user principals eve -q",
        4,
        expect![[r#"
        user id          00u3
        login            eve
        status           SUSPENDED
        principals       oidm1:00oacme:match-nothing
        encoder version  1
        match nothing    yes"#]],
        expect![[""]],
    );
    let document = run(&place, "acl jira --group-id 00g3 -o json").json();
    let person = run(&place, "user principals 00u1 -o json").json();
    let shared = "oidm1:00oacme:group:0oa1:00g3";
    assert_eq!((&document["principals"][0], &person["principals"][0]), (&shared.into(), &shared.into()));
    let doubt = run(&place, "acl wiki --account ada --kind email -o json");
    let entry = &doubt.json()["unresolved"][0];
    assert_eq!((doubt.code, &entry["resolution"]["outcome"]), (Some(4), &"AMBIGUOUS_APP".into()));
    run(&place, "user principals nobody").assert(4, "", "no user \"nobody\"");
}

#[test]
fn answers_are_explained() {
    let place = filled();
    check(
        &place,
        "explain account jira ada",
        0,
        expect![[r#"
            outcome          RESOLVED
            app              Jira (jira) 0oa1 ACTIVE
            user             Ada <ada@acme.example> 00u1 ACTIVE
            user name        ada
            external id      X-1
            status           ACTIVE
            assignment       DIRECT
            matched by       T1, user name exactly
            granting groups  @SUM(1,2) 00g3
            steps            1. the selector means the app Jira (0oa1)
                             2. the identifier is taken for a name of any kind, and compared as "ada"
                             3. T6, operator's override: nobody matches
                             4. T0, external id: nobody matches
                             5. T1, user name, exactly: one user matches
                             6. T2, user name as the app compares it: not asked, something else had answered
                             7. T3, e-mail or login: nobody matches
                             8. T4, configured alias: not asked, something else had answered
                             9. T5, second e-mail: switched off
                             10. the user is stored; status ACTIVE
                             11. the account is stored; status ACTIVE, assignment DIRECT
                             12. the app is stored; status ACTIVE
                             13. the user is in the group @SUM(1,2), which is assigned to the app
                             14. every status grants access
                             15. apps is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z
                             16. users is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z
                             17. app_users(0oa1) is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z"#]],
        expect![[""]],
    );
    check(
        &place,
        "explain account 0oa2 ada --kind user-name",
        4,
        expect![[r#"
            outcome  UNKNOWN_GAP
            reason   nobody is known to have such an account, but not everything was read: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
            app      Wiki \u{1b}[31mred\u{202e} (wiki) 0oa2 ACTIVE
            steps    1. the selector means the app Wiki \u{1b}[31mred\u{202e} (0oa2)
                     2. the identifier is taken for a user name, and compared as "ada"
                     3. T6, operator's override: nobody matches; gaps: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
                     4. T0, external id: not about this kind of identifier
                     5. T1, user name, exactly: nobody matches; gaps: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
                     6. T2, user name as the app compares it: nobody matches; gaps: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
                     7. T3, e-mail or login: not about this kind of identifier
                     8. T4, configured alias: nobody matches; gaps: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
                     9. T5, second e-mail: not about this kind of identifier
                     10. the filter knows nobody of that name
                     11. apps is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z
                     12. users is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z
                     13. app_users(0oa2) is FORBIDDEN; last read completely: never; gaps: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)"#]],
        expect![[r#"
        PARTIAL: what these gaps hide may be missing: FORBIDDEN:app_users(0oa2), NOT_READ:app_users(0oa2)
    "#]],
    );
    check(
        &place,
        "explain user eve --app jira",
        0,
        expect![[r#"
            membership  YES
            grants      no
            reason      user is SUSPENDED
            user id     00u3
            login       eve
            in id       0oa1
            in          Jira
            user name   =eve
            status      ACTIVE
            scope       DIRECT
            steps       1. the user is stored; status SUSPENDED
                        2. the selector means the app Jira (0oa1)
                        3. the account is stored; status ACTIVE, assignment DIRECT
                        4. no access: user SUSPENDED
                        5. apps is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z
                        6. users is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z
                        7. app_users(0oa1) is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z"#]],
        expect![[""]],
    );
    check(
        &place,
        "explain user nobody --group 00g3",
        4,
        expect![[r#"
            membership  NO
            grants      no
            in id       00g3
            in          @SUM(1,2)
            user        NOT_FOUND
            steps       1. the identifier is taken for a user name, and compared as "nobody"
                        2. the group is stored
                        3. groups is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z
                        4. users is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z
                        5. group_members(00g3) is COMPLETE; last read completely: 2026-03-04T05:06:07.000Z"#]],
        expect![[""]],
    );
    run(&place, "explain user ada@acme.example --group nobody").assert(4, "", "no group \"nobody\"");
    let json = run(&place, "explain account jira twin -o json");
    assert_eq!((json.code, &json.json()["resolution"]["candidate_count"]), (Some(4), &2.into()));
    let tiers: Vec<String> = json.json()["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| Some(step["tier"].as_object()?["answer"].as_str()?.to_owned()))
        .collect();
    let (silent, not_asked) = ("SILENT", "NOT_ASKED");
    assert_eq!(tiers, [silent, silent, "SEVERAL_USERS", not_asked, silent, not_asked, "DISABLED"]);
}

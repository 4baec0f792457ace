//! What gaps advise is what cures them: the permission, role or scope that the remedy names is granted in the simulated
//! org, and nothing else. Entry points: the tests.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use okta_idmap_proto::v1;
use okta_sim::{Action, Refusal, Role, Rule, Way};

use crate::cases::Cases;
use crate::client::{account, app_by_id};
use crate::judge::{INTERVAL, Judge};
use crate::story::Story;

/// A gap closes within this time after its cure.
const CLOSES_WITHIN: Duration = Duration::from_secs(25);

/// Names of permissions and scopes in a text, each once.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.starts_with("okta."))
        .map(ToOwned::to_owned)
        .collect()
}

async fn wait_until_closed(judge: &mut Judge, id: &str) {
    let begun = Instant::now();
    while judge.note_gaps().await.iter().any(|gap| gap.id == id) {
        assert!(begun.elapsed() < CLOSES_WITHIN, "{id} is still open");
        judge.pause(Duration::from_millis(50)).await;
    }
}

/// A role without any permission: what each gap names is granted, one after the other.
async fn permissions_cure(story: Story) {
    let mut judge = Judge::new(950, Some(INTERVAL), story);
    judge.sim().role = Role::custom([]);
    judge.start().await;
    for (scope, expected) in [("users", "okta.users.read"), ("groups", "okta.groups.read"), ("apps", "okta.apps.read")]
    {
        let gap = judge.wait_for_gap(&[format!("FORBIDDEN:{scope}")]).await;
        assert_eq!(names(&gap.remedy), [expected.to_owned()].into(), "{}", gap.remedy);
        let Some(v1::gap::Evidence::Http(http)) = &gap.evidence else { panic!("{gap:?}") };
        assert_eq!((http.http_status, http.missing_permission.as_str()), (403, expected));
        judge.sim().role.grant(expected);
        wait_until_closed(&mut judge, &gap.id).await;
    }
    // No permission of a custom role opens the log: a standard role does.
    let gap = judge.wait_for_gap(&["FORBIDDEN:log".to_owned()]).await;
    assert!(gap.remedy.contains("Read-only"), "{}", gap.remedy);
    judge.sim().role.grant("Read-only");
    wait_until_closed(&mut judge, &gap.id).await;
    judge.converge().await;
    judge.assert_complete(20).await;
    judge.assert_history().await;
    judge.end().await;
}

/// One list is refused: the permission is that of the list, for this resource.
async fn permission_of_a_list_cures(path: fn(&crate::aim::Aim) -> String, gap: &str, permission: &str, story: Story) {
    let mut judge = Judge::new(951, Some(INTERVAL), story);
    let aim = judge.aim();
    judge.sim().rules.push(Rule::on(&path(&aim), Action::Refuse(Refusal::Forbidden)));
    judge.start().await;
    let gap = judge.wait_for_gap(&[aim.fill(gap)]).await;
    assert_eq!(names(&gap.remedy), [permission.to_owned()].into(), "{}", gap.remedy);
    judge.lift();
    judge.converge().await;
    judge.end().await;
}

/// Scopes are those that Okta names, not those that we think of.
async fn scopes_cure(paths: &'static [&'static str], gap: &str, scope: &str, story: Story) {
    let mut judge = Judge::new(952, Some(INTERVAL), story);
    judge.start().await;
    judge.converge().await;
    for path in paths {
        let refusal = Refusal::InsufficientScope(scope.to_owned());
        judge.sim().rules.push(Rule::on(path, Action::Refuse(refusal)));
    }
    let gap = judge.wait_for_gap(&[gap.to_owned()]).await;
    assert!(names(&gap.remedy).contains(scope), "{}", gap.remedy);
    let Some(v1::gap::Evidence::Http(http)) = &gap.evidence else { panic!("{gap:?}") };
    assert_eq!(http.missing_oauth_scope, scope);
    judge.lift();
    wait_until_closed(&mut judge, &gap.id).await;
    judge.converge().await;
    judge.end().await;
}

/// What a narrower role hides is cured by the permission on what is hidden.
async fn unseen_objects_name_their_permission(kind: &'static str, story: Story) {
    let mut judge = Judge::new(953, Some(INTERVAL), story);
    let aim = judge.aim();
    judge.start().await;
    judge.converge().await;
    let (gap, permission) = {
        let hidden = &mut judge.sim().hidden;
        match kind {
            "user" => {
                hidden.hide_user(&aim.user, Way::default());
                ("UNSEEN_REFERENCE:user({user})", "okta.users.read")
            }
            "group" => {
                hidden.hide_group(&aim.group, Way::default());
                ("UNSEEN_REFERENCE:group({group})", "okta.groups.read")
            }
            _ => {
                hidden.hide_app(&aim.app, Way::default());
                ("UNSEEN_REFERENCE:app({app})", "okta.apps.read")
            }
        }
    };
    let gap = judge.wait_for_gap(&[aim.fill(gap)]).await;
    assert!(names(&gap.remedy).contains(permission), "{}", gap.remedy);
    judge.lift();
    wait_until_closed(&mut judge, &gap.id).await;
    judge.converge().await;
    judge.end().await;
}

/// Federation Broker Mode: the app lets everybody in, and no list says who.
async fn broker_mode_ends_with_its_switch(story: Story) {
    let mut judge = Judge::new(954, Some(INTERVAL), story);
    let aim = judge.aim();
    let app = okta_sim::AppRef::parse(&aim.app).unwrap();
    judge.start().await;
    judge.converge().await;
    judge.sim().org.set_federation_broker_mode(app, true).unwrap();
    let gap = judge.wait_for_gap(&[aim.fill("IMPLICIT_ASSIGNMENT:app_users({app})")]).await;
    assert!(gap.remedy.contains("Federation Broker Mode"), "{}", gap.remedy);
    let nobody = account(app_by_id(&aim.app), "nobody-at-all", v1::IdentifierKind::UserName);
    let (resolution, cover) = judge.client().resolve(nobody).await;
    assert_eq!(resolution.outcome(), v1::ResolutionOutcome::UnknownGap, "{cover:?}");
    let elsewhere = account(app_by_id(&aim.other_app), "nobody-at-all", v1::IdentifierKind::UserName);
    let (resolution, cover) = judge.client().resolve(elsewhere).await;
    assert_eq!(resolution.outcome(), v1::ResolutionOutcome::NotFound, "{cover:?}");
    judge.look(20, |key| aim.concerns(key)).await;
    judge.sim().org.set_federation_broker_mode(app, false).unwrap();
    wait_until_closed(&mut judge, &gap.id).await;
    judge.converge().await;
    judge.assert_complete(20).await;
    judge.assert_history().await;
    judge.end().await;
}

#[test]
fn remedies_cure() {
    let mut cases = Cases::default();
    cases.add("permissions of a role", permissions_cure);
    cases.add("403 on one app's users names a permission", |story| {
        let path = |aim: &crate::aim::Aim| format!("/api/v1/apps/{}/users", aim.app);
        permission_of_a_list_cures(path, "FORBIDDEN:app_users({app})", "okta.apps.read", story)
    });
    cases.add("403 on one app's groups names a permission", |story| {
        let path = |aim: &crate::aim::Aim| format!("/api/v1/apps/{}/groups", aim.app);
        permission_of_a_list_cures(path, "FORBIDDEN:app_groups({app})", "okta.apps.read", story)
    });
    cases.add("403 on one group's members names a permission", |story| {
        let path = |aim: &crate::aim::Aim| format!("/api/v1/groups/{}/users", aim.group);
        permission_of_a_list_cures(path, "FORBIDDEN:group_members({group})", "okta.groups.read", story)
    });
    cases.add("a scope for users", |story| {
        scopes_cure(&["/api/v1/users", "/api/v1/users/*"], "SCOPE_MISSING:users", "okta.users.read", story)
    });
    cases.add("a scope for groups", |story| {
        let paths = &["/api/v1/groups", "/api/v1/groups/*", "/api/v1/groups/*/users"];
        scopes_cure(paths, "SCOPE_MISSING:groups", "okta.groups.read", story)
    });
    cases.add("a scope for the log", |story| {
        scopes_cure(&["/api/v1/logs"], "SCOPE_MISSING:log", "okta.logs.read", story)
    });
    cases.add("a scope that we did not think of", |story| {
        scopes_cure(&["/api/v1/apps"], "SCOPE_MISSING:apps", "okta.apps.manage", story)
    });
    for kind in ["user", "group", "app"] {
        cases.add(format!("an unseen {kind} names a permission"), move |story| {
            unseen_objects_name_their_permission(kind, story)
        });
    }
    cases.add("broker mode", broker_mode_ends_with_its_switch);
    cases.run("remedies");
}

#[test]
fn names_are_found() {
    let found = |text: &str| names(text).into_iter().collect::<Vec<_>>();
    assert_eq!(found("grant okta.users.read, or \"okta.logs.read\"."), ["okta.logs.read", "okta.users.read"]);
    assert_eq!(found("a role with okta.apps.read. Or okta.apps.read"), ["okta.apps.read"]);
    assert!(found("nothing").is_empty());
}

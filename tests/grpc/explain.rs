//! Evidence chains: the conclusion is the answer of the other rpc, the steps say what it rests on.

use okta_idmap::core::coverage::{CoveragePolicy, GapKind, OnGap};
use okta_idmap::core::ids::{AppId, GroupId, UserId};
use okta_idmap::core::model::{AppUser, AssignmentScope, Key, Row, Scope};
use okta_idmap_proto::v1::{
    self, evidence_step::Fact, explain_request::Question, explain_response::Conclusion, membership_question::Target,
    row_key,
};
use tonic::transport::Channel;

use super::world::{
    Server, World, account, app_by_any, app_user, shown_meta, user_by_account, user_by_id, user_by_login, user_id,
};

type Lookup = v1::lookup_client::LookupClient<Channel>;

async fn explain(client: &mut Lookup, question: Question) -> v1::ExplainResponse {
    let request = v1::ExplainRequest { context: None, question: Some(question) };
    let answer = client.explain(request).await.unwrap().into_inner();
    assert!(!answer.steps_truncated && answer.steps.len() <= 200);
    for step in &answer.steps {
        assert!(!step.summary.is_empty() && step.summary.len() <= 1_024 && step.fact.is_some(), "{step:?}");
    }
    answer
}

/// A step in a few words: what it is about, and what was found out.
fn shown(step: &v1::EvidenceStep) -> String {
    let short = |name: &str, prefix: &str| name.replace(prefix, "");
    let fact = match step.fact.as_ref().unwrap() {
        Fact::AppSelected(fact) => {
            let ids: Vec<&str> = fact.apps.iter().map(|app| app.id.as_str()).collect();
            assert_eq!(ids.len(), usize::try_from(fact.app_count).unwrap());
            format!("apps={}", ids.join("+"))
        }
        Fact::Identifier(fact) => {
            assert_eq!(fact.normalization_version, 1);
            format!("name={}", fact.normalized_value)
        }
        Fact::Tier(fact) => {
            let ids: Vec<String> =
                fact.candidates.iter().map(|candidate| candidate.user.as_ref().unwrap().id.clone()).collect();
            let answer = short(fact.answer().as_str_name(), "TIER_ANSWER_");
            let tier = i32::from(fact.tier()) - 1;
            format!("T{tier}={answer}{}", if ids.is_empty() { String::new() } else { format!("({})", ids.join("+")) })
        }
        Fact::Row(fact) => {
            let key = match fact.key.as_ref().unwrap().key.as_ref().unwrap() {
                row_key::Key::UserId(id) | row_key::Key::GroupId(id) | row_key::Key::AppId(id) => id.clone(),
                row_key::Key::AppUser(key) => format!("{}/{}", key.app_id, key.user_id),
                row_key::Key::GroupMember(key) => format!("{}/{}", key.group_id, key.user_id),
                row_key::Key::AppGroup(key) => format!("{}/{}", key.app_id, key.group_id),
                row_key::Key::Override(key) => format!("override {}", key.number),
            };
            format!("{key}={}", if fact.row.is_some() { "row" } else { "none" })
        }
        Fact::GroupPath(fact) => {
            let (user, app) = (fact.user_in_group().as_str_name(), fact.group_in_app().as_str_name());
            let id = &fact.group.as_ref().unwrap().id;
            let priority = fact.priority.map(|priority| format!("@{priority}")).unwrap_or_default();
            format!("{id}:{}-{}{priority}", short(user, "MEMBERSHIP_"), short(app, "MEMBERSHIP_"))
        }
        Fact::Grant(fact) => {
            assert_eq!(fact.grants, fact.inactive_reasons.is_empty());
            format!("grants={}", fact.inactive_reasons.len())
        }
        Fact::History(fact) => {
            let ids: Vec<String> = fact.holders.iter().map(|holder| holder.user.as_ref().unwrap().id.clone()).collect();
            format!("held={}{}", ids.join("<"), if fact.quarantined_until.is_some() { "!" } else { "" })
        }
        Fact::Filter(fact) => format!("filtered={}", fact.filtered),
        Fact::Coverage(fact) => {
            let scope = fact.scope.as_ref().unwrap();
            let kind = short(scope.kind().as_str_name(), "SCOPE_KIND_").to_lowercase();
            let id = if scope.resource_id.is_empty() { String::new() } else { format!("({})", scope.resource_id) };
            format!("{kind}{id}={}", short(fact.state().as_str_name(), "SCOPE_STATE_"))
        }
    };
    let gaps = if step.gap_ids.is_empty() { String::new() } else { format!("[{}]", step.gap_ids.join(",")) };
    format!("{fact}{gaps}")
}

fn all_shown(answer: &v1::ExplainResponse) -> String {
    answer.steps.iter().map(shown).collect::<Vec<_>>().join(" ")
}

async fn check(client: &mut Lookup, app: &str, name: &str, kind: v1::IdentifierKind, expected: &str) {
    let selector = account(app, name, kind);
    let answer = explain(client, Question::Account(selector.clone().unwrap())).await;
    assert_eq!(all_shown(&answer), expected, "{app} {name}");
    // The conclusion is what the other rpc says.
    let request = v1::ResolveAccountRequest {
        context: None,
        account: selector,
        include_candidates: true,
        include_granting_groups: true,
    };
    let resolved = client.resolve_account(request).await.unwrap().into_inner();
    assert_eq!(answer.conclusion, resolved.resolution.map(Conclusion::Resolution));
    assert_eq!(answer.meta, resolved.meta);
}

#[tokio::test]
async fn accounts_are_explained() {
    use v1::IdentifierKind::{Email, ExternalId, Unspecified, UserName};
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let client = &mut client;
    let read = "apps=COMPLETE users=COMPLETE app_users(0oaeu)=COMPLETE";
    let found = "00u0002=row 0oaeu/00u0002=row 0oaeu=row 00gops:YES-YES@0 00geng:YES-YES@1 grants=0";
    let expected = format!(
        "apps=0oaeu name=user2 T6=SILENT T0=SILENT T1=ONE_USER(00u0002) T2=NOT_ASKED T3=SILENT T4=NOT_ASKED T5=DISABLED \
         {found} {read}"
    );
    check(client, "Jira EU", "user2", Unspecified, &expected).await;
    let expected = format!(
        "apps=0oaeu name=user2 T6=SILENT T0=NOT_APPLICABLE T1=ONE_USER(00u0002) T2=NOT_ASKED T3=NOT_APPLICABLE \
         T4=NOT_ASKED T5=NOT_APPLICABLE {found} {read}"
    );
    check(client, "0oaeu", "user2", UserName, &expected).await;
    let expected = format!(
        "apps=0oaeu name=ext-0oaeu-00u0002 T6=SILENT T0=ONE_USER(00u0002) T1=NOT_APPLICABLE T2=NOT_APPLICABLE \
         T3=NOT_APPLICABLE T4=NOT_ASKED T5=NOT_APPLICABLE {found} {read}"
    );
    check(client, "0oaeu", "ext-0oaeu-00u0002", ExternalId, &expected).await;
    let expected = format!(
        "apps=0oaeu name=user2@example.com T6=SILENT T0=NOT_APPLICABLE T1=NOT_APPLICABLE T2=NOT_APPLICABLE \
         T3=ONE_USER(00u0002) T4=NOT_ASKED T5=DISABLED {found} {read}"
    );
    check(client, "0oaeu", "User2@EXAMPLE.com", Email, &expected).await;
    let expected = format!(
        "apps=0oaeu name=nobody T6=SILENT T0=SILENT T1=SILENT T2=SILENT T3=SILENT T4=SILENT T5=DISABLED filtered=false {read}"
    );
    check(client, "0oaeu", "nobody", Unspecified, &expected).await;
    check(client, "nonsense", "x", Unspecified, "apps=").await;
    check(client, "jira", "x", Unspecified, "apps=0oaeu+0oaus").await;
    let expected = "apps=0oaus name=dup T6=SILENT T0=SILENT T1=SEVERAL_USERS(00u0001+00u0002) T2=NOT_ASKED T3=SILENT \
                    T4=NOT_ASKED T5=DISABLED apps=COMPLETE users=COMPLETE app_users(0oaus)=COMPLETE";
    check(client, "0oaus", "dup", Unspecified, expected).await;
    let expected = "apps=0oashare 0oashare=row apps=COMPLETE";
    check(client, "0oashare", "x", Unspecified, expected).await;
    let expected = "apps=0oaoff name=two T6=SILENT T0=SILENT T1=ONE_USER(00u0002) T2=NOT_ASKED T3=SILENT T4=NOT_ASKED \
                    T5=DISABLED 00u0002=row 0oaoff/00u0002=row 0oaoff=row grants=1 apps=COMPLETE users=COMPLETE \
                    app_users(0oaoff)=COMPLETE";
    check(client, "0oaoff", "two", Unspecified, expected).await;
    let gap = "[UNSEEN_REFERENCE:user(00ughost)]";
    let expected = format!(
        "apps=0oaeu name=ghost T6=SILENT T0=SILENT T1=ONE_USER(00ughost) T2=NOT_ASKED T3=SILENT T4=NOT_ASKED T5=DISABLED \
         00ughost=none{gap} 0oaeu/00ughost=row 0oaeu=row 00geng:YES-YES@1 grants=1{gap} {read}"
    );
    check(client, "0oaeu", "ghost", Unspecified, &expected).await;
}

#[tokio::test]
async fn history_ways_and_gaps_are_explained() {
    use v1::IdentifierKind::UserName;
    let world = World::crawled().await;
    // user4 leaves Jira EU, a newcomer gets the name, through a group that is not assigned (any more).
    world.remove(Key::AppUser(AppId::new("0oaeu").unwrap(), UserId::new(&user_id(4)).unwrap())).await;
    let via_group = Some(GroupId::new("00gimp").unwrap());
    let newcomer = app_user("0oaeu", &user_id(205), "user4");
    world.put(vec![Row::AppUser(AppUser { scope: AssignmentScope::Group, via_group, ..newcomer })]).await;
    let app_groups = Scope::AppGroups(AppId::new("0oaeu").unwrap());
    world.open_gap(app_groups.clone(), GapKind::Forbidden, "GET: 403 E0000006").await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let expected = "apps=0oaeu name=user4 T6=SILENT T0=NOT_APPLICABLE T1=ONE_USER(00u0205) T2=NOT_ASKED \
                    T3=NOT_APPLICABLE T4=NOT_ASKED T5=NOT_APPLICABLE held=00u0205<00u0004! 00u0205=row 0oaeu/00u0205=row \
                    0oaeu=row 00gimp:NO-UNKNOWN[FORBIDDEN:app_groups(0oaeu)] grants=0 apps=COMPLETE users=COMPLETE \
                    app_users(0oaeu)=COMPLETE";
    check(&mut client, "0oaeu", "user4", UserName, expected).await;
    world.close_gap(app_groups, GapKind::Forbidden).await;
    let app_users = Scope::AppUsers(AppId::new("0oaeu").unwrap());
    world.open_gap(app_users, GapKind::Forbidden, "GET: 403 E0000006").await;
    let gap = "[FORBIDDEN:app_users(0oaeu)]";
    let expected = format!(
        "apps=0oaeu name=nobody T6=SILENT{gap} T0=NOT_APPLICABLE T1=SILENT{gap} T2=SILENT{gap} T3=NOT_APPLICABLE \
         T4=SILENT{gap} T5=NOT_APPLICABLE filtered=false apps=COMPLETE users=COMPLETE app_users(0oaeu)=FORBIDDEN{gap}"
    );
    check(&mut client, "0oaeu", "nobody", UserName, &expected).await;
    // What the policy keeps back is shown in no step.
    let policy = CoveragePolicy { on_gap: OnGap::Withhold, ..CoveragePolicy::default() };
    let strict = Server::start([world.view().with_coverage_policy(policy)]).await;
    let mut strict = strict.lookup().await;
    let selector = account("0oaeu", "user2", UserName).unwrap();
    let answer = explain(&mut strict, Question::Account(selector)).await;
    assert!(all_shown(&answer).contains("T1=ONE_USER[") && !format!("{answer:?}").contains("00u0002"), "{answer:?}");
}

#[tokio::test]
async fn memberships_are_explained() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.lookup().await;
    let app = |name: &str| Some(Target::App(app_by_any(name).unwrap()));
    let group = |id: &str| Some(Target::GroupId(id.to_owned()));
    let read_app = "apps=COMPLETE users=COMPLETE app_users(0oaeu)=COMPLETE";
    let read_group = "groups=COMPLETE users=COMPLETE group_members(00gops)=COMPLETE";
    let cases = [
        (
            user_by_id("00u0002"),
            app("0oaeu"),
            format!("00u0002=row apps=0oaeu 0oaeu/00u0002=row 00gops:YES-YES@0 00geng:YES-YES@1 grants=0 {read_app}"),
        ),
        (user_by_id("00u0003"), app("0oaeu"), format!("00u0003=row apps=0oaeu 0oaeu/00u0003=none {read_app}")),
        (user_by_id("00unone"), app("0oaeu"), format!("00unone=none apps=0oaeu 0oaeu/00unone=none {read_app}")),
        (
            user_by_login("USER2@example.com"),
            group("00gops"),
            format!("name=user2@example.com 00u0002=row 00gops=row 00gops/00u0002=row grants=0 {read_group}"),
        ),
        (user_by_id("00u0009"), group("00gops"), format!("00u0009=row 00gops=row 00gops/00u0009=none {read_group}")),
        (
            user_by_id("00u0249"),
            group("00gall"),
            "00u0249=row 00gall=row 00gall/00u0249=row grants=1 groups=COMPLETE users=COMPLETE".to_owned(),
        ),
        (
            user_by_id("00u0002"),
            group("00gnone"),
            "00u0002=row 00gnone=none 00gnone/00u0002=none groups=COMPLETE users=COMPLETE".to_owned(),
        ),
        (user_by_id("00u0002"), app("jira"), "00u0002=row apps=0oaeu+0oaus apps=COMPLETE users=COMPLETE".to_owned()),
        (
            user_by_account("0oaeu", "nobody"),
            group("00gops"),
            format!(
                "apps=0oaeu name=nobody T6=SILENT T0=SILENT T1=SILENT T2=SILENT T3=SILENT T4=SILENT T5=DISABLED \
                 filtered=false {read_app} 00gops=row {read_group}"
            ),
        ),
    ];
    for (user, target, expected) in cases {
        let question = v1::MembershipQuestion { user, target };
        let answer = explain(&mut client, Question::Membership(question.clone())).await;
        assert_eq!(all_shown(&answer), expected, "{question:?}");
        let request = v1::CheckAppMembershipRequest { context: None, question: Some(question) };
        let checked = client.check_app_membership(request).await.unwrap().into_inner();
        assert_eq!(answer.conclusion, checked.answer.map(Conclusion::Membership));
        assert_eq!(answer.meta, checked.meta);
        assert_eq!(shown_meta(answer.meta.as_ref()), "COMPLETE");
    }
}

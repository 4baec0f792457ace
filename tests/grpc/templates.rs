//! Names that an app's user name template would make equal.

use okta_idmap::core::coverage::{CoveragePolicy, GapKind, OnGap};
use okta_idmap::core::ids::{AppId, UserId};
use okta_idmap::core::model::{Row, Scope, User, UserStatus};
use okta_idmap::core::normalize::NameRule;
use okta_idmap::core::policy::{GrantPolicySettings, NameRuleSetting};
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::coverage_client::CoverageClient;
use tonic::Code;
use tonic::transport::Channel;

use super::world::{Server, World, app, app_by_id, app_user, shown_meta, user, user_id};

const PREFIX: &str = "${fn:substringBefore(source.login, \"@\")}";

fn with_template(id: &str, template: &str) -> Row {
    let mut row = app(id, "jira", "Jira");
    row.user_name_template = Some(template.into());
    Row::App(row)
}

fn with_login(n: usize, login: &str, status: UserStatus) -> Row {
    Row::User(User { id: UserId::new(&user_id(n)).unwrap(), login: Some(login.into()), status, ..user(n) })
}

fn of(app: &str) -> v1::ListAmbiguitiesRequest {
    let basis = v1::AmbiguityBasis::Template.into();
    v1::ListAmbiguitiesRequest { app: app_by_id(app), basis, ..Default::default() }
}

fn shown(row: &v1::Ambiguity) -> String {
    let candidates = row.candidates.iter().map(|candidate| {
        assert_eq!(candidate.tier(), v1::MatchTier::Unspecified, "it is never evidence");
        let id = candidate.user.clone().unwrap().id;
        match &candidate.app_user {
            Some(account) => format!("{id}={}", account.user_name),
            None => id,
        }
    });
    let candidates: Vec<String> = candidates.collect();
    let tier = row.tier().as_str_name().replace("MATCH_TIER_USER_NAME_", "");
    format!("{tier} {} {} of {}", row.normalized_value, candidates.join(" "), row.candidate_count)
}

async fn ask(client: &mut CoverageClient<Channel>, app: &str) -> v1::ListAmbiguitiesResponse {
    client.list_ambiguities(of(app)).await.unwrap().into_inner()
}

#[track_caller]
fn check(answer: &v1::ListAmbiguitiesResponse, left_out: u64, expected: &[&str]) {
    let prediction = answer.template.clone().unwrap();
    assert_eq!((prediction.outcome(), prediction.obstacle.as_str()), (v1::TemplateOutcome::Predicted, ""));
    assert_eq!(prediction.left_out_user_count, left_out);
    let mut rows: Vec<String> = answer.ambiguities.iter().map(shown).collect();
    rows.sort();
    assert_eq!(rows, expected);
}

/// The made-up org with users whose logins begin alike.
async fn world() -> World {
    let world = World::crawled().await;
    let active = |n, login| with_login(n, login, UserStatus::Active);
    world
        .put(vec![
            with_template("0oaus", PREFIX),
            active(300, "anna@a.example"),
            active(301, "anna@b.example"),
            active(302, "ANNA@c.example"),
            active(303, "berta@a.example"),
            active(304, "berta@b.example"),
            with_login(305, "clara@a.example", UserStatus::Deprovisioned),
            active(306, "clara@b.example"),
            active(307, "short"),
            Row::AppUser(app_user("0oaus", &user_id(301), "set by hand")),
            Row::AppUser(app_user("0oaus", &user_id(306), "clara")),
        ])
        .await;
    world
}

#[tokio::test]
async fn names_are_forecast_where_somebody_has_an_account() {
    let world = world().await;
    let server = world.serve().await;
    let mut client = server.coverage().await;
    // Nobody named Berta has an account, and the other Clara gets none. Who has no @ cannot be told.
    let anna = "EXACT anna 00u0301=set by hand 00u0300 of 2";
    check(&ask(&mut client, "0oaus").await, 1, &[anna]);
    // Whoever has an account has the name, whatever the status.
    world.put(vec![Row::AppUser(app_user("0oaus", &user_id(305), "clara"))]).await;
    let clara = "EXACT clara 00u0305=clara 00u0306=clara of 2";
    check(&ask(&mut client, "0oaus").await, 1, &[anna, clara]);
    // The names that there are, are another question.
    let names = v1::ListAmbiguitiesRequest { basis: v1::AmbiguityBasis::Names.into(), ..of("0oaus") };
    let names = client.list_ambiguities(names).await.unwrap().into_inner();
    assert_eq!((names.template, names.ambiguities.len()), (None, 2), "clara and dup");
    // As the app compares names.
    let rule = NameRuleSetting { app: "0oaus".to_owned(), rule: NameRule::IgnoreCase };
    let settings = GrantPolicySettings { name_rules: vec![rule], ..Default::default() };
    let lenient = Server::start([world.view_with(&settings)]).await;
    let answer = ask(&mut lenient.coverage().await, "0oaus").await;
    check(&answer, 1, &[clara, "NORMALIZED anna 00u0301=set by hand 00u0300 00u0302 of 3"]);
    // A name for everybody: those with an account come first, and not all are shown.
    world.put(vec![with_template("0oaus", "user.lastName")]).await;
    let answer = ask(&mut client, "0oaus").await;
    let [row] = answer.ambiguities.as_slice() else { panic!("{answer:?}") };
    assert_eq!((row.normalized_value.as_str(), row.candidates.len()), ("Müller", 20));
    // 225 of the made-up org, seven of ours, and Clara with her account.
    assert_eq!(row.candidate_count, 233);
    let has_account: Vec<bool> = row.candidates.iter().map(|candidate| candidate.app_user.is_some()).collect();
    assert_eq!(has_account.iter().filter(|has| **has).count(), 6);
    assert!(has_account[..6].iter().all(|has| *has));
}

#[tokio::test]
async fn what_cannot_be_forecast_is_said() {
    let world = world().await;
    let server = world.serve().await;
    let mut client = server.coverage().await;
    let group = "isMemberOfGroupName(\"x\") ? user.login : user.email";
    world.put(vec![with_template("0oaoff", group)]).await;
    let cases = [
        ("0oaeu", "", "the app has no user name template"),
        ("0oashare", "", "everybody has the same account in the app"),
        ("0oaoff", group, "the user name template uses the function isMemberOfGroupName, which is not understood"),
    ];
    for (app, template, obstacle) in cases {
        let answer = ask(&mut client, app).await;
        let prediction = answer.template.unwrap();
        assert_eq!(prediction.outcome(), v1::TemplateOutcome::Unpredictable, "{app}");
        assert_eq!((prediction.template.as_str(), prediction.obstacle.as_str()), (template, obstacle));
        assert!(answer.ambiguities.is_empty() && answer.next_page_token.is_empty());
    }
    let nobody = ask(&mut client, "0oanone").await;
    assert_eq!(nobody.app.unwrap().outcome(), v1::SubjectOutcome::NotFound);
    assert_eq!(nobody.template, None);
    let refused = [
        (v1::ListAmbiguitiesRequest { app: None, ..of("") }, "app"),
        (v1::ListAmbiguitiesRequest { basis: 9, ..of("0oaus") }, "basis"),
        (v1::ListAmbiguitiesRequest { page_size: -1, ..of("0oaus") }, "page_size"),
    ];
    for (request, field) in refused {
        let status = client.list_ambiguities(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert!(status.message().contains(field), "{status:?}");
    }
}

#[tokio::test]
async fn gaps_stand_against_a_forecast() {
    let world = world().await;
    let accounts = Scope::AppUsers(AppId::new("0oaus").unwrap());
    world.open_gap(accounts, GapKind::Forbidden, "GET: 403 E0000006").await;
    let server = world.serve().await;
    let answer = ask(&mut server.coverage().await, "0oaus").await;
    check(&answer, 1, &["EXACT anna 00u0301=set by hand 00u0300 of 2"]);
    assert!(shown_meta(answer.meta.as_ref()).contains("FORBIDDEN:app_users(0oaus)"));
    // Accounts that are kept back make nobody a holder, and nobody is called unassigned.
    let policy = CoveragePolicy { on_gap: OnGap::Withhold, ..CoveragePolicy::default() };
    let strict = Server::start([world.view().with_coverage_policy(policy)]).await;
    let answer = ask(&mut strict.coverage().await, "0oaus").await;
    check(&answer, 1, &[]);
    assert!(shown_meta(answer.meta.as_ref()).contains("FORBIDDEN:app_users(0oaus)"));
    // Logins are unique, byte by byte: nothing that is not seen could change that.
    world.put(vec![with_template("0oaus", "${source.login}")]).await;
    let rule = NameRuleSetting { app: "0oaus".to_owned(), rule: NameRule::Exact };
    let settings = GrantPolicySettings { name_rules: vec![rule], ..Default::default() };
    let exact = Server::start([world.view_with(&settings)]).await;
    let answer = ask(&mut exact.coverage().await, "0oaus").await;
    check(&answer, 0, &[]);
    assert_eq!(shown_meta(answer.meta.as_ref()), "COMPLETE");
}

#[tokio::test]
async fn forecasts_come_in_pages() {
    const NAMES: usize = 20;
    let world = World::crawled().await;
    let twin = |n: usize| with_login(400 + n, &format!("p{}@x{n}.example", n / 2), UserStatus::Active);
    let mut rows: Vec<Row> = (0..2 * NAMES).map(twin).collect();
    let account = |n: usize| Row::AppUser(app_user("0oaus", &user_id(400 + 2 * n), &format!("p{n}")));
    rows.extend((0..NAMES).map(account));
    rows.push(with_template("0oaus", PREFIX));
    world.put(rows).await;
    let server = world.serve().await;
    let mut client = server.coverage().await;
    let mut expected: Vec<String> = (0..NAMES).map(|n| format!("p{n}")).collect();
    expected.sort();
    let mut token = String::new();
    for page_size in [1, 7, 20, 1_000] {
        let mut request = v1::ListAmbiguitiesRequest { page_size, ..of("0oaus") };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let answer = client.list_ambiguities(request.clone()).await.unwrap().into_inner();
            assert!(answer.ambiguities.len() <= usize::try_from(page_size).unwrap());
            found.extend(answer.ambiguities.into_iter().map(|row| row.normalized_value));
            pages += 1;
            assert!(pages <= NAMES, "it ends");
            if answer.next_page_token.is_empty() {
                break;
            }
            token.clone_from(&answer.next_page_token);
            request.page_token = answer.next_page_token;
        }
        assert_eq!(pages, NAMES.div_ceil(usize::try_from(page_size).unwrap()));
        found.sort();
        assert_eq!(found, expected, "{page_size}");
    }
    // The token of another question, and one that somebody has changed.
    let names = v1::ListAmbiguitiesRequest { basis: v1::AmbiguityBasis::Names.into(), ..of("0oaus") };
    let mut changed = token.clone().into_bytes();
    changed[5] ^= 1;
    let changed = String::from_utf8(changed).unwrap();
    for (request, page_token) in [(names, token.clone()), (of("0oaeu"), token), (of("0oaus"), changed)] {
        let request = v1::ListAmbiguitiesRequest { page_token, ..request };
        assert_eq!(client.list_ambiguities(request).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

//! The probe against answers over a socket: what each answer of Okta's is taken for, and when it stops asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::core::ids::UserId;
use crate::core::secret::Secret;
use crate::engine::clock;
use crate::okta::{ClientConfig, OrgUrl, Ssws};

/// Longest head of a request that the test reads, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const ORG: &str = r#"{"id":"00o1acme","pipeline":"idx"}"#;
const USERS: &str =
    r#"[{"id":"00u1","status":"ACTIVE","profile":{"login":"ada@acme.example","email":"ada@acme.example"}}]"#;
const USER: &str =
    r#"{"id":"00u1","status":"ACTIVE","profile":{"login":"ada@acme.example","email":"ada@acme.example"}}"#;
const GROUPS: &str = r#"[{"id":"00g0","type":"BUILT_IN","profile":{"name":"Everyone"}},{"id":"00g1","type":"OKTA_GROUP",
    "profile":{"name":"Eng"},"_embedded":{"stats":{"usersCount":1,"appsCount":0}}}]"#;
const GROUP: &str = r#"{"id":"00g0","type":"BUILT_IN","profile":{"name":"Everyone"}}"#;
const APPS: &str = r#"[{"id":"0oa1","name":"saasure","label":"Console","status":"ACTIVE"},
    {"id":"0oa2","name":"jira","label":"Jira","status":"ACTIVE"}]"#;
const APP: &str = r#"{"id":"0oa1","name":"saasure","label":"Console","status":"ACTIVE"}"#;
const ROLES: &str = r#"[{"type":"READ_ONLY_ADMIN","status":"ACTIVE"}]"#;
const TOKENS: &str = r#"[{"userId":"00u1","expiresAt":"2026-09-01T00:00:00.000Z"},{"userId":"00u2"}]"#;
const FORBIDDEN: (u16, &str) = (403, r#"{"errorCode":"E0000006","errorSummary":"no permission"}"#);
const NOT_FOUND: (u16, &str) = (404, r#"{"errorCode":"E0000007"}"#);

type Answers = BTreeMap<&'static str, (u16, &'static str)>;

/// Answers of an org where everything can be read, by the beginning of the path; the longest one counts.
fn readable() -> Answers {
    [
        ("/.well-known/okta-organization", (200, ORG)),
        ("/api/v1/users", (200, USERS)),
        ("/api/v1/users/me", (200, USER)),
        ("/api/v1/users/00u1", (200, USER)),
        ("/api/v1/users/00u1/roles", (200, ROLES)),
        ("/api/v1/api-tokens", (200, TOKENS)),
        ("/api/v1/groups", (200, GROUPS)),
        ("/api/v1/groups/00g0", (200, GROUP)),
        ("/api/v1/groups/00g1/users", (200, USERS)),
        ("/api/v1/apps", (200, APPS)),
        ("/api/v1/apps/0oa1", (200, APP)),
        ("/api/v1/apps/0oa2/users", (200, "[]")),
        ("/api/v1/apps/0oa2/groups", (200, "[]")),
        ("/api/v1/logs", (200, "[]")),
    ]
    .into()
}

/// Serves the answers while the probe runs; one request per connection.
async fn probe(answers: Answers) -> (ProbeReport, Vec<String>) {
    probe_as(Credential::ApiToken, answers).await
}

async fn probe_as(credential: Credential, answers: Answers) -> (ProbeReport, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = OrgUrl::parse(&format!("http://{address}")).unwrap();
    let token = Ssws::new(&Secret::new("00ProbeTestToken-abcdefghijklmnopqrstuvwxyz".to_owned())).unwrap();
    let mut config = ClientConfig::new(url, Arc::new(AtomicU64::new(0)));
    config.now = clock::now;
    let client = Client::new(config, Arc::new(token)).unwrap();
    let mut asked = Vec::new();
    let report = tokio::select! {
        report = run(&client, credential, clock::now) => report,
        () = serve(&listener, &answers, &mut asked) => unreachable!("the server never ends"),
    };
    (report, asked)
}

async fn serve(listener: &TcpListener, answers: &Answers, asked: &mut Vec<String>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
            let mut part = [0; 1024];
            match stream.read(&mut part).await.unwrap() {
                0 => break,
                count => head.extend_from_slice(&part[..count]),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let best = answers.iter().filter(|(path, _)| target.starts_with(**path)).max_by_key(|(path, _)| path.len());
        let (status, body) = best.map_or((404, "{}"), |(_, answer)| *answer);
        asked.push(target);
        // A long way back, so that the clocks differ by more than the tests take.
        let date = "Date: Sun, 02 Aug 2020 09:00:22 GMT\r\nX-Rate-Limit-Limit: 600\r\nX-Rate-Limit-Remaining: 599";
        let kind = "Content-Type: application/json\r\nConnection: close";
        let answer = format!(
            "HTTP/1.1 {status} X\r\n{kind}\r\n{date}\r\nX-Rate-Limit-Reset: 1596358822\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

/// The probes that are not readable, with what came of them.
fn exceptions(report: &ProbeReport) -> Vec<String> {
    let odd = report.lines.iter().filter(|line| line.result != ProbeResult::Readable);
    odd.map(|line| format!("{} {}", line.probe.name(), line.result.name())).collect()
}

#[track_caller]
fn line(report: &ProbeReport, probe: Probe) -> &ProbeLine {
    report.lines.iter().find(|line| line.probe == probe).unwrap()
}

#[tokio::test]
async fn everything_is_asked_for_once() {
    let (report, asked) = probe(readable()).await;
    assert_eq!(exceptions(&report), [""; 0], "{report:?}");
    assert!(report.is_fine() && !report.is_fatal());
    assert_eq!(report.org_id.as_deref(), Some("00o1acme"));
    assert_eq!(report.owner.as_ref().map(UserId::as_str), Some("00u1"));
    assert_eq!(report.roles, Some(vec!["READ_ONLY_ADMIN".to_owned()]));
    assert_eq!(report.token_expires_at, Timestamp::parse("2026-09-01T00:00:00.000Z"));
    assert!(report.clock_ahead_millis.unwrap() > 86_400_000);
    assert_eq!(asked.len(), Probe::ALL.len(), "{asked:?}");
    // Okta's own app tells little, so the second one is looked at; of the groups, the one that is walked.
    assert!(asked.iter().any(|path| path.starts_with("/api/v1/apps/0oa2/users")), "{asked:?}");
    assert!(asked.iter().any(|path| path.starts_with("/api/v1/groups/00g1/users")), "{asked:?}");
    assert!(report.lines.iter().skip(1).all(|line| line.rate_limit == Some(600)), "{report:?}");
    assert!(report.rate_limits.contains(&("apps", 600)), "{report:?}");
}

#[tokio::test]
async fn what_an_answer_is_taken_for() {
    let mut answers = readable();
    answers.insert("/api/v1/groups?expand", FORBIDDEN);
    answers.insert("/api/v1/users?limit", (200, "[]"));
    answers.insert("/api/v1/users?search", (400, r#"{"errorCode":"E0000031"}"#));
    answers.insert("/api/v1/apps/0oa2/groups", NOT_FOUND);
    answers.insert("/api/v1/users/00u1/roles", FORBIDDEN);
    let (report, _) = probe(answers).await;
    let expected = [
        "users empty",
        "user_search not_offered",
        "groups forbidden",
        "group_members not_asked",
        "app_groups failed",
        "user not_asked",
        "group not_asked",
        "roles not_told",
    ];
    assert_eq!(exceptions(&report), expected, "{report:?}");
    assert!(!report.is_fine() && !report.is_fatal());
    assert!(line(&report, Probe::Groups).remedy.contains("okta.groups.read"));
    assert!(line(&report, Probe::Groups).detail.contains("E0000006"));
    assert!(line(&report, Probe::Users).remedy.contains("no admin role"));
    assert_eq!((report.roles, report.token_expires_at.is_some()), (None, true));
}

#[tokio::test]
async fn what_is_shown_in_part_is_told() {
    let mut answers = readable();
    let everyone_hidden = r#"[{"id":"00g1","type":"OKTA_GROUP","profile":{"name":"Eng"},
        "_embedded":{"stats":{"usersCount":2,"appsCount":0}}}]"#;
    answers.insert("/api/v1/groups", (200, everyone_hidden));
    let nameless = r#"[{"id":"00u1","status":"ACTIVE","profile":{"login":"ada@acme.example"}}]"#;
    answers.insert("/api/v1/users?limit", (200, nameless));
    answers.insert("/api/v1/apps/0oa2/users", (200, r#"[{"id":"00u9","status":"ACTIVE","scope":"USER"}]"#));
    answers.insert("/api/v1/users/00u9", NOT_FOUND);
    answers.insert("/api/v1/groups/00g1", (200, r#"{"id":"00g1","type":"OKTA_GROUP","profile":{"name":"Eng"}}"#));
    let (report, asked) = probe(answers).await;
    let expected = ["users partial", "user_search partial", "groups partial", "group_members partial", "user partial"];
    assert_eq!(exceptions(&report), expected, "{report:?}");
    assert!(!report.is_fine() && !report.is_fatal());
    assert!(line(&report, Probe::Users).remedy.contains("without conditions"), "{report:?}");
    assert_eq!(line(&report, Probe::User).path, "/api/v1/users/00u9");
    assert_eq!(asked.len(), Probe::ALL.len(), "{asked:?}");
}

#[tokio::test]
async fn a_service_app_has_roles_and_no_owner() {
    let mut answers = readable();
    answers.insert("/oauth2/v1/clients/0oaclient/roles", (200, r#"[{"type":"CUSTOM"}]"#));
    let credential = Credential::ServiceApp { client_id: AppId::new("0oaclient").unwrap() };
    let (report, asked) = probe_as(credential, answers).await;
    let expected = ["owner not_asked", "users partial", "groups partial", "apps partial", "api_tokens not_asked"];
    assert_eq!(exceptions(&report), expected, "{report:?}");
    assert_eq!((report.owner, report.roles), (None, Some(vec!["CUSTOM".to_owned()])));
    assert_eq!(asked.len(), Probe::ALL.len() - 2, "{asked:?}");
}

#[tokio::test]
async fn a_refused_credential_ends_the_questions() {
    let mut answers = readable();
    answers.insert("/api/v1/users", (401, r#"{"errorCode":"E0000011","errorSummary":"Invalid token provided"}"#));
    answers.remove("/api/v1/users/me");
    let (report, asked) = probe(answers).await;
    assert_eq!(line(&report, Probe::Owner).result, ProbeResult::Unauthorized);
    assert_eq!(exceptions(&report).len(), Probe::ALL.len() - 1, "{report:?}");
    assert!(report.lines.iter().skip(2).all(|line| line.result == ProbeResult::NotAsked), "{report:?}");
    assert!(report.is_fatal() && !report.is_fine());
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[tokio::test]
async fn an_org_without_apps_has_no_app_to_look_at() {
    let mut answers = readable();
    answers.insert("/api/v1/apps", (200, "[]"));
    let (report, _) = probe(answers).await;
    let expected = ["apps empty", "app_users not_asked", "app_groups not_asked", "app not_asked"];
    assert_eq!(exceptions(&report), expected, "{report:?}");
    assert!(!report.is_fine());
}

/// A simulated org with a token, and what the token sees of it.
async fn simulated(change: impl FnOnce(&mut okta_sim::Sim)) -> ProbeReport {
    const TOKEN: &str = "00ProbeTestToken-abcdefghijklmnopqrstuvwxyz";
    let config = okta_sim::ServerConfig { token: Some(TOKEN.to_owned()), ..okta_sim::ServerConfig::default() };
    let server = okta_sim::SimServer::start(okta_sim::Org::generate(&okta_sim::Spec::of_users(60)), &config).unwrap();
    change(&mut server.sim());
    let url = OrgUrl::parse(&server.base_url()).unwrap();
    let token = Ssws::new(&Secret::new(TOKEN.to_owned())).unwrap();
    let mut config = ClientConfig::new(url, Arc::new(AtomicU64::new(0)));
    config.now = clock::now;
    let client = Client::new(config, Arc::new(token)).unwrap();
    run(&client, Credential::ApiToken, clock::now).await
}

#[tokio::test]
async fn a_simulated_org_is_seen_as_it_is() {
    use okta_sim::{Action, Refusal, Rule};
    let whole = simulated(|_| {}).await;
    assert_eq!(exceptions(&whole), [""; 0], "{whole:?}");
    assert_eq!(whole.roles, Some(vec!["SUPER_ADMIN".to_owned()]));
    assert!(whole.token_expires_at.is_some() && whole.owner.is_some());

    let roleless = simulated(|sim| sim.quirks.role_missing = true).await;
    assert_eq!(line(&roleless, Probe::Users).result, ProbeResult::Empty, "{roleless:?}");
    assert_eq!(line(&roleless, Probe::Groups).result, ProbeResult::Forbidden);
    assert_eq!(line(&roleless, Probe::Log).result, ProbeResult::Forbidden);
    assert!(!roleless.is_fine() && !roleless.is_fatal());

    let limited = simulated(|sim| {
        let targets = r#"{"targets":{"catalog":{"apps":[{"name":"acme_tracker_1"}]}}}"#;
        let roles = format!(r#"[{{"type":"APP_ADMIN","status":"ACTIVE","_embedded":{targets}}}]"#);
        sim.rules.push(Rule::on("/api/v1/users/*/roles", Action::Refuse(Refusal::Custom(200, roles))));
    })
    .await;
    assert_eq!(exceptions(&limited), ["apps partial"], "{limited:?}");

    let everyone_hidden = simulated(|sim| {
        let everyone = sim.org.everyone().id();
        sim.hidden.groups.insert(everyone);
    })
    .await;
    assert_eq!(exceptions(&everyone_hidden)[0], "groups partial", "{everyone_hidden:?}");

    let users_hidden = simulated(|sim| {
        let administrator = sim.org.administrator().id();
        let users: Vec<String> = sim.org.truth_users().map(|user| user.id).collect();
        sim.hidden.users = users.into_iter().filter(|user| *user != administrator).collect();
    })
    .await;
    assert_eq!(line(&users_hidden, Probe::UserSearch).result, ProbeResult::Partial, "{users_hidden:?}");

    let refused = simulated(|sim| {
        sim.rules.push(Rule::on("/api/v1/groups/*/users", Action::Refuse(Refusal::Forbidden)));
        sim.rules.push(Rule::on("/api/v1/users/*", Action::Refuse(Refusal::Forbidden)));
        sim.rules.push(Rule::on("/api/v1/logs", Action::Refuse(Refusal::InsufficientScope("okta.logs.read".into()))));
    })
    .await;
    let expected =
        ["owner not_told", "log scope_missing", "group_members forbidden", "user forbidden", "roles not_asked"];
    assert_eq!(exceptions(&refused), expected, "{refused:?}");
}

/// Who takes connections and says nothing: to whom, what is told, and within how many seconds.
#[tokio::test(start_paused = true)]
async fn silence_is_told_soon_and_by_its_name() {
    async fn check(
        answers: &'static [(&'static str, &'static str)],
        seconds_max: u64,
        result: ProbeResult,
        told: &str,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = OrgUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let key = include_str!("../../tests/keys/p256-pkcs8.pem").to_owned();
        let random = ring::rand::SystemRandom::new();
        let private_key = crate::core::private_key::PrivateKey::parse(&Secret::new(key), &random).unwrap();
        let app = crate::okta::ServiceApp {
            client_id: "0oaclient".to_owned(),
            key_id: "kid1".to_owned(),
            private_key,
            scopes: Default::default(),
        };
        let client = Client::for_service_app(ClientConfig::new(url, Arc::new(AtomicU64::new(0))), app).unwrap();
        let credential = Credential::ServiceApp { client_id: AppId::new("0oaclient").unwrap() };
        let begun = tokio::time::Instant::now();
        let mut silent = Vec::new();
        let server = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 4_096];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]);
                match answers.iter().find(|(path, _)| head.contains(path)) {
                    Some((_, answer)) => stream.write_all(answer.as_bytes()).await.unwrap(),
                    None => silent.push(stream),
                }
            }
        };
        let report = tokio::select! {
            report = run(&client, credential, clock::now) => report,
            () = server => unreachable!("the server never ends"),
        };
        let took = begun.elapsed().as_secs();
        let failed = report.lines.iter().find(|line| line.result == result);
        assert!(failed.is_some_and(|line| line.detail.contains(told)), "{report:?}");
        let not_asked = report.lines.iter().filter(|line| line.result == ProbeResult::NotAsked).count();
        assert!(not_asked >= Probe::ALL.len() - 2, "{report:?}");
        assert!(report.is_fatal() && took <= seconds_max, "{took} s: {report:?}");
    }
    const METADATA: &str =
        "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 30\r\n\r\n{\"id\":\"00o1\",\"pipeline\":\"idx\"}";
    const UNAVAILABLE: &str = "HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    check(&[], 31, ProbeResult::Unreachable, "no answer within 30 seconds").await;
    let silent: &[_] = &[("okta-organization", METADATA)];
    check(silent, 21, ProbeResult::Unreachable, "no token: no answer within 15 s").await;
    let unwell: &[_] = &[("okta-organization", METADATA), ("/oauth2/v1/token", UNAVAILABLE)];
    check(unwell, 25, ProbeResult::Unreachable, "the token endpoint answers with status 503").await;
}

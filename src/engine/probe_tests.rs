//! The probe against answers over a socket: what each answer of Okta's is taken for, and when it stops asking.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::core::secret::Secret;
use crate::engine::clock;
use crate::okta::{ClientConfig, OrgUrl, Ssws};

/// Longest head of a request that the test reads, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const ORG: &str = r#"{"id":"00o1acme","pipeline":"idx"}"#;
const USER: &str = r#"[{"id":"00u1","status":"ACTIVE","profile":{"login":"ada@acme.example"}}]"#;
const GROUP: &str = r#"[{"id":"00g1","type":"OKTA_GROUP","profile":{"name":"Eng"}}]"#;
const APPS: &str = r#"[{"id":"0oa1","name":"saasure","label":"Console","status":"ACTIVE"},
    {"id":"0oa2","name":"jira","label":"Jira","status":"ACTIVE"}]"#;
const FORBIDDEN: (u16, &str) = (403, r#"{"errorCode":"E0000006","errorSummary":"no permission"}"#);

type Answers = BTreeMap<&'static str, (u16, &'static str)>;

/// Answers of an org where everything can be read, by the beginning of the path; the longest one counts.
fn readable() -> Answers {
    [
        ("/.well-known/okta-organization", (200, ORG)),
        ("/api/v1/users", (200, USER)),
        ("/api/v1/groups", (200, GROUP)),
        ("/api/v1/apps", (200, APPS)),
        ("/api/v1/apps/0oa2/users", (200, "[]")),
        ("/api/v1/apps/0oa2/groups", (200, "[]")),
        ("/api/v1/logs", (200, "[]")),
    ]
    .into()
}

/// Serves the answers while the probe runs; one request per connection.
async fn probe(answers: Answers) -> (ProbeReport, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = OrgUrl::parse(&format!("http://{address}")).unwrap();
    let token = Ssws::new(&Secret::new("00ProbeTestToken-abcdefghijklmnopqrstuvwxyz".to_owned())).unwrap();
    let mut config = ClientConfig::new(url, Arc::new(AtomicU64::new(0)));
    config.now = clock::now;
    let client = Client::new(config, Arc::new(token)).unwrap();
    let mut asked = Vec::new();
    let report = tokio::select! {
        report = run(&client, clock::now) => report,
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

fn results(report: &ProbeReport) -> String {
    report.lines.iter().map(|line| line.result.name()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn everything_is_asked_for_once() {
    let (report, asked) = probe(readable()).await;
    assert_eq!(results(&report), ["readable"; 8].join(" "), "{report:?}");
    assert!(report.is_fine() && !report.is_fatal());
    assert_eq!(report.org_id.as_deref(), Some("00o1acme"));
    assert!(report.clock_ahead_millis.unwrap() > 86_400_000);
    assert_eq!(asked.len(), Probe::ALL.len(), "{asked:?}");
    // Okta's own app tells little, so the second one is looked at.
    assert!(asked.iter().any(|path| path.starts_with("/api/v1/apps/0oa2/users")), "{asked:?}");
    let limits: Vec<_> = report.lines.iter().skip(1).map(|line| line.rate_limit).collect();
    assert_eq!(limits, [Some(600); 7]);
}

#[tokio::test]
async fn what_an_answer_is_taken_for() {
    #[track_caller]
    fn line(report: &ProbeReport, probe: Probe) -> &ProbeLine {
        report.lines.iter().find(|line| line.probe == probe).unwrap()
    }
    let mut answers = readable();
    answers.insert("/api/v1/groups", FORBIDDEN);
    answers.insert("/api/v1/users?limit", (200, "[]"));
    answers.insert("/api/v1/users?search", (400, r#"{"errorCode":"E0000031"}"#));
    answers.insert("/api/v1/apps/0oa2/groups", (404, r#"{"errorCode":"E0000007"}"#));
    let (report, _) = probe(answers).await;
    let expected = "readable empty not_offered forbidden readable readable readable failed";
    assert_eq!(results(&report), expected, "{report:?}");
    assert!(!report.is_fine() && !report.is_fatal());
    assert!(line(&report, Probe::Groups).remedy.contains("okta.groups.read"));
    assert!(line(&report, Probe::Groups).detail.contains("E0000006"));
    assert!(line(&report, Probe::Users).remedy.contains("admin role"));
    assert!(line(&report, Probe::AppGroups).hides.contains("0oa2"));
}

#[tokio::test]
async fn a_refused_credential_ends_the_questions() {
    let mut answers = readable();
    answers.insert("/api/v1/users", (401, r#"{"errorCode":"E0000011","errorSummary":"Invalid token provided"}"#));
    let (report, asked) = probe(answers).await;
    let rest = ["not_asked"; 6].join(" ");
    assert_eq!(results(&report), format!("readable unauthorized {rest}"));
    assert!(report.is_fatal() && !report.is_fine());
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[tokio::test]
async fn an_org_without_apps_has_no_app_to_look_at() {
    let mut answers = readable();
    answers.insert("/api/v1/apps", (200, "[]"));
    let (report, _) = probe(answers).await;
    assert_eq!(results(&report), "readable readable readable readable empty readable not_asked not_asked");
    assert!(!report.is_fine());
}

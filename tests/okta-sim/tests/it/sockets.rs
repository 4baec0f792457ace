//! The server on a real socket: keep-alive, broken deliveries, several servers, garbage.
#![expect(clippy::disallowed_methods, reason = "real sockets take real time")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use okta_sim::{Action, ClockMode, NewUser, Org, Rule, ServerConfig, SimServer, Spec};

fn server() -> SimServer {
    let org = Org::generate(&Spec { users: 60, groups: 10, apps: 14, ..Spec::default() });
    let config = ServerConfig { token: Some("secret".to_owned()), ..ServerConfig::default() };
    SimServer::start(org, &config).expect("a free port")
}

/// Other packages of the workspace build the client with TLS and without a provider for it; plain HTTP needs none, but
/// the client asks for one.
fn client_builder() -> reqwest::ClientBuilder {
    // Whoever was first has installed the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
}

async fn ask(server: &SimServer, target: &str) -> Result<(u16, String), reqwest::Error> {
    let client = client_builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let url = format!("{}{target}", server.base_url());
    let reply = client.get(url).header("Authorization", "SSWS secret").timeout(Duration::from_secs(20)).send().await?;
    Ok((reply.status().as_u16(), reply.text().await?))
}

#[tokio::test]
async fn a_walk_over_http() {
    let server = server();
    let client = client_builder().no_proxy().build().unwrap();
    let mut url = format!("{}/api/v1/users?search=status+pr&limit=25", server.base_url());
    let mut count = 0;
    loop {
        let reply = client.get(&url).header("Authorization", "SSWS secret").send().await.unwrap();
        let lines: Vec<String> =
            reply.headers().get_all("link").iter().map(|line| line.to_str().unwrap().to_owned()).collect();
        let users: Vec<serde_json::Value> = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
        count += users.len();
        let Some(next) = lines.iter().find(|line| line.ends_with("rel=\"next\"")) else { break };
        url = next.trim_start_matches('<').split('>').next().unwrap().to_owned();
    }
    assert_eq!(count, server.sim().org.truth_users().count());
    assert_eq!(server.sim().requests.count("/api/v1/users").requests, 3);
    assert!(server.sim().requests.records().all(|record| record.has_authorization));
}

#[tokio::test]
async fn broken_deliveries_reach_the_client() {
    let server = server();
    let set = |action: Action| server.sim().rules = vec![Rule::on("/api/v1/users", action).times(1)];
    set(Action::Truncate);
    assert!(ask(&server, "/api/v1/users").await.is_err(), "shorter than announced");
    set(Action::Reset);
    assert!(ask(&server, "/api/v1/users").await.is_err(), "connection reset");
    set(Action::CutJson);
    let (status, body) = ask(&server, "/api/v1/users").await.unwrap();
    assert!(status == 200 && serde_json::from_str::<serde_json::Value>(&body).is_err());
    for action in [Action::Delay(120), Action::SlowBody(160)] {
        set(action.clone());
        let began = Instant::now();
        assert_eq!(ask(&server, "/api/v1/users").await.unwrap().0, 200);
        assert!(began.elapsed() >= Duration::from_millis(100), "{action:?}");
    }
    assert_eq!(ask(&server, "/api/v1/users").await.unwrap().0, 200, "and all is well again");
}

#[tokio::test]
async fn concurrency_is_limited() {
    let server = server();
    server.sim().limits.concurrency_max = Some(2);
    server.sim().rules = vec![Rule::everywhere(Action::Delay(400))];
    let (first, second, third) =
        tokio::join!(ask(&server, "/api/v1/users"), ask(&server, "/api/v1/apps"), ask(&server, "/api/v1/groups"));
    let mut statuses = [first, second, third].map(|reply| reply.unwrap().0);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 429]);
    server.sim().rules.clear();
    assert_eq!(ask(&server, "/api/v1/users").await.unwrap().0, 200);
}

#[tokio::test]
async fn several_servers_are_independent() {
    let (first, second) = (server(), server());
    first.sim().org.create_user(&NewUser::new("only.here@acme.example")).unwrap();
    assert_eq!(ask(&first, "/api/v1/users/only.here@acme.example").await.unwrap().0, 200);
    assert_eq!(ask(&second, "/api/v1/users/only.here@acme.example").await.unwrap().0, 404);
    let address = first.address();
    drop(first);
    assert!(TcpStream::connect(address).is_err(), "stopped when dropped");
    assert_eq!(ask(&second, "/api/v1/apps").await.unwrap().0, 200);
}

#[test]
fn connections_are_kept_and_requests_may_be_pipelined() {
    let server = server();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = "GET /.well-known/okta-organization HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /api/v1/users HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(format!("{request}{request}{last}").as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2, "{all}");
    assert_eq!(all.matches("HTTP/1.1 403 Forbidden").count(), 1, "no credential: {all}");
}

#[test]
fn garbage_closes_the_connection_and_nothing_else() {
    let server = server();
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(300_000));
    for garbage in ["\r\n\r\n", "hello\r\n\r\n", "GET / HTTP/9\r\n\r\n", "GET / HTTP/1.1\r\nbroken\r\n\r\n", &long] {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The server may close before all is written.
        let _ = stream.write_all(garbage.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{garbage:.20}: {}", String::from_utf8_lossy(&answer));
    }
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"POST /api/v1/users HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed"), "{answer}");
    assert_eq!(server.sim().requests.violations(), 1);
}

#[tokio::test]
async fn truth_is_served_beside_the_api() {
    let server = server();
    for kind in ["users", "groups", "members", "apps", "app_users", "app_groups"] {
        let (status, body) = ask(&server, &format!("/sim/truth/{kind}")).await.unwrap();
        assert_eq!(status, 200);
        assert!(body.lines().count() > 1, "{kind}");
        assert!(body.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{kind}");
    }
    let app_users = ask(&server, "/sim/truth/app_users").await.unwrap().1.lines().count();
    assert_eq!(app_users, server.sim().org.app_user_count());
    assert_eq!(server.sim().requests.total(), 0, "looking behind the scenes is not accounted for");
    ask(&server, "/api/v1/apps").await.unwrap();
    assert_eq!(ask(&server, "/sim/requests").await.unwrap().1.lines().count(), 1);
    assert!(ask(&server, "/sim/counts").await.unwrap().1.contains("\"endpoint\":\"/api/v1/apps\""));
    assert_eq!(ask(&server, "/sim/nothing").await.unwrap().0, 404);
}

#[test]
fn the_wall_clock_can_be_followed() {
    let config = ServerConfig { clock: ClockMode::Wall, ..ServerConfig::default() };
    let server = SimServer::start(Org::new(), &config).unwrap();
    let before = server.sim().org.now_ms();
    std::thread::sleep(Duration::from_millis(15));
    assert!(server.sim().org.now_ms() >= before + 10, "time passes by itself");
}

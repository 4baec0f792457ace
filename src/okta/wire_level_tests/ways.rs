//! The ways to the org: TLS and its roots, HTTP/2 and what it may do in mid-answer, proxies, names.

use std::sync::Mutex;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::transport::Transport;
use super::*;

/// Long enough to be looked for in answers and records.
const TOKEN: &str = "00CanaryTokenCanaryTokenCanaryTokenCanary1";

fn client(url: &str, rig: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = config_for(url);
    config.root_certificates_pem = Some(tls::ROOT.to_vec());
    rig(&mut config);
    Client::new(config, Arc::new(Ssws::new(&Secret::new(TOKEN.to_owned())).unwrap())).unwrap()
}

async fn read(client: &Client) -> Result<Page, OktaError> {
    client.page(&first(Resource::Users), Priority::Crawl).await
}

#[tokio::test(start_paused = true)]
async fn a_root_of_ones_own_is_trusted_and_no_other() {
    let server = Server::start_tls(vec![reply(200, &[], USERS); 2]).await;
    assert_eq!(read(&client(&server.url, |_| {})).await.unwrap().rows.len(), 2);
    for other in [None, Some(tls::OTHER_ROOT.to_vec())] {
        let error = read(&client(&server.url, |config| config.root_certificates_pem = other)).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Network(NetworkCause::Tls), "{error}");
        assert!(error.to_string().contains("needs its root certificate configured"), "{error}");
    }
    // The name is compared, too.
    let proxy = Proxy::start(Way::Open, &server).await;
    let elsewhere = client("https://other.example", |config| config.proxy = ProxyChoice::By(proxy.url.clone()));
    let error = read(&elsewhere).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Network(NetworkCause::Tls), "{error}");
    assert_eq!(server.requests().len(), 1, "the credential is shown to nobody who is not trusted");
    for no_certificate in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mut config = config_for(&server.url);
        config.root_certificates_pem = Some(no_certificate.into());
        assert!(matches!(Client::new(config, token()), Err(OktaError::Setup(_))), "{no_certificate}");
    }
}

/// What a server of HTTP/2 does with a request.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer,
    /// Headers and half of the body, then RST_STREAM.
    ResetWithin,
    /// RST_STREAM at once: the request was not looked at.
    Refuse,
    /// Headers and half of the body, then GOAWAY and the end of the connection.
    GoAwayWithin,
    /// Half of the body, said to be all of it.
    Short,
    /// 100 KB of headers.
    LargeHead,
    /// From now on the connection is as good as dead: it takes everything and says nothing, not even that it lives.
    Die,
}

struct Http2 {
    url: String,
    requests: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Http2 {
    async fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (requests, script) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(script.into_iter())));
        let (counted, mut tasks) = (Arc::clone(&requests), JoinSet::new());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (counted, script) = (Arc::clone(&counted), Arc::clone(&script));
                open.spawn(async move {
                    let tls = tls::acceptor(&[b"h2"]).accept(tcp).await.unwrap();
                    let mut connection = h2::server::handshake(tls).await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        assert_eq!(request.version(), http::Version::HTTP_2);
                        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let act = script.lock().unwrap().next().unwrap_or(Act::Answer);
                        let (whole, half) = (USERS.as_bytes(), &USERS.as_bytes()[..USERS.len() / 2]);
                        let mut response = http::Response::builder().header("content-type", "application/json");
                        match act {
                            Act::Refuse => {
                                respond.send_reset(h2::Reason::REFUSED_STREAM);
                                continue;
                            }
                            Act::LargeHead => response = response.header("x-large", "x".repeat(100_000)),
                            Act::Short => response = response.header("content-length", USERS.len().to_string()),
                            Act::Die => std::future::pending().await,
                            _ => {}
                        }
                        let is_whole = matches!(act, Act::Answer | Act::LargeHead);
                        let mut body = respond.send_response(response.body(()).unwrap(), false).unwrap();
                        let data = if is_whole { whole } else { half };
                        body.send_data(data.to_vec().into(), is_whole || matches!(act, Act::Short)).unwrap();
                        match act {
                            Act::ResetWithin => {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                                body.send_reset(h2::Reason::INTERNAL_ERROR);
                            }
                            Act::GoAwayWithin => connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM),
                            _ => {}
                        }
                    }
                });
            }
        });
        Self { url, requests, _tasks: tasks }
    }
}

#[tokio::test(start_paused = true)]
async fn http2_is_spoken_and_its_ways_to_break_off_are_survived() {
    for act in [Act::Answer, Act::ResetWithin, Act::Refuse, Act::GoAwayWithin, Act::Short, Act::LargeHead] {
        let server = Http2::start(vec![act, act]).await;
        let page = read(&client(&server.url, |_| {})).await.unwrap_or_else(|error| panic!("{act:?}: {error}"));
        assert_eq!(page.rows.len(), 2, "{act:?}");
        let expected = if matches!(act, Act::Answer) { 1 } else { 3 };
        assert_eq!(server.requests.load(std::sync::atomic::Ordering::Relaxed), expected, "{act:?}");
    }
}

/// All requests share one connection. One that is dead is noticed before the first of them is given up.
#[tokio::test(start_paused = true)]
async fn a_dead_http2_connection_is_left() {
    let server = Http2::start(vec![Act::Die]).await;
    let begun = Instant::now();
    let client = client(&server.url, |_| {});
    assert_eq!(read(&client).await.unwrap().rows.len(), 2);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(server.requests.load(std::sync::atomic::Ordering::Relaxed), 2);
}

/// A connection that dies is not one that was never made.
#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_called_one() {
    let server = Http2::start(vec![Act::Die]).await;
    let org = OrgUrl::parse(&server.url).unwrap();
    let transport = Transport::new(TransportLimits::default(), true, &ProxyChoice::default(), Some(tls::ROOT)).unwrap();
    let error = transport.get(&org.join("/"), Vec::new()).await.err().unwrap();
    assert_eq!(error.network_cause(), Some(NetworkCause::Reset), "{error}");
    assert!(error.to_string().starts_with("the connection broke before the answer"), "{error}");
}

/// What a proxy does when it is asked for a way to the org.
#[derive(Clone, Copy, Debug)]
enum Way {
    Open,
    Says(&'static [u8]),
    Silent,
    Closes,
}

/// A proxy, and all that it was told.
struct Proxy {
    url: url::Url,
    told: Arc<Mutex<Vec<u8>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    async fn start(way: Way, server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url::Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let target = format!("127.0.0.1:{}", server.url.rsplit(':').next().unwrap());
        let told = Arc::new(Mutex::new(Vec::new()));
        let (record, mut tasks) = (Arc::clone(&told), JoinSet::new());
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, record) = (target.clone(), Arc::clone(&record));
                open.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        if client.read_buf(&mut head).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    record.lock().unwrap().extend(&head);
                    match way {
                        Way::Open => {
                            let mut server = TcpStream::connect(target).await.unwrap();
                            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                            let (mut from_client, mut to_client) = client.split();
                            let (mut from_server, mut to_server) = server.split();
                            let up = async {
                                let mut piece = [0; 4_096];
                                while let Ok(read @ 1..) = from_client.read(&mut piece).await {
                                    record.lock().unwrap().extend(&piece[..read]);
                                    if to_server.write_all(&piece[..read]).await.is_err() {
                                        break;
                                    }
                                }
                            };
                            tokio::select! {
                                () = up => {}
                                _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                            }
                        }
                        Way::Says(answer) => {
                            let _ = client.write_all(answer).await;
                        }
                        Way::Silent => std::future::pending().await,
                        Way::Closes => {}
                    }
                });
            }
        });
        Self { url, told, _tasks: tasks }
    }

    fn told(&self) -> Vec<u8> {
        self.told.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_way_may_lead_by_a_proxy_which_sees_no_credential() {
    const ORG: &str = "https://acme.okta.example";
    for (way, expected) in [
        (Way::Open, None),
        (
            Way::Says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            Some("the proxy wants a user and a password"),
        ),
        (Way::Says(b"HTTP/1.1 403 Forbidden\r\n\r\n"), Some("no connection")),
        (Way::Says(b"HTTP/1.1 302 Found\r\nLocation: https://evil.example\r\n\r\n"), Some("no connection")),
        (Way::Says(b"SSH-2.0-OpenSSH_9.9\r\n"), Some("no connection")),
        (Way::Says(&[b'x'; 20_000]), Some("no connection")),
        // It answers in place of the org, unencrypted.
        (Way::Says(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n[]"), Some("no connection")),
        (Way::Silent, Some("no connection within 10 s")),
        (Way::Closes, Some("no connection")),
    ] {
        let server = Server::start_tls(vec![reply(200, &[], USERS)]).await;
        let proxy = Proxy::start(way, &server).await;
        let client = client(ORG, |config| config.proxy = ProxyChoice::By(proxy.url.clone()));
        let begun = Instant::now();
        match (read(&client).await, expected) {
            (Ok(page), None) => assert_eq!(page.rows.len(), 2),
            (Err(error), Some(part)) => {
                assert!(error.to_string().contains(part), "{way:?}: {error}");
                assert!(matches!(error.kind(), FailureKind::Network(_)), "{way:?}: {error}");
            }
            (page, _) => panic!("{way:?}: {page:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{way:?}: {:?}", begun.elapsed());
        let told = proxy.told();
        assert!(told.starts_with(b"CONNECT acme.okta.example:443 HTTP/1.1\r\n"), "{way:?}");
        assert!(memchr::memmem::find(&told, TOKEN.as_bytes()).is_none(), "{way:?}");
        let seen = server.requests();
        assert_eq!(seen.len(), usize::from(expected.is_none()), "{way:?}");
        assert!(seen.iter().all(|request| request.contains(TOKEN)));
    }
}

/// To an org on this machine no proxy leads.
#[tokio::test(start_paused = true)]
async fn a_loopback_org_is_reached_directly() {
    let server = Server::start(vec![reply(200, &[], USERS)]).await;
    let proxy = Proxy::start(Way::Closes, &server).await;
    let client = client(&server.url, |config| config.proxy = ProxyChoice::By(proxy.url.clone()));
    assert!(read(&client).await.is_ok());
    assert!(proxy.told().is_empty());
}

#[tokio::test]
async fn names_and_proxies_that_do_not_exist_are_named() {
    async fn check(proxy: &str, expected: &str) {
        let org = OrgUrl::parse("https://acme.okta.example").unwrap();
        let proxy = ProxyChoice::By(url::Url::parse(proxy).unwrap());
        let transport = Transport::new(TransportLimits::default(), false, &proxy, Some(tls::ROOT)).unwrap();
        let error = transport.get(&org.join("/"), Vec::new()).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // No name may have such a label: the system answers without asking anybody.
    let name = format!("{}.example", "x".repeat(64));
    check(&format!("http://{name}:3128"), &format!("the host name {name} was not found: check")).await;
    check("http://127.0.0.1:9", "check the network, firewall and proxy").await;
}

//! Who may call what, over which connection: roles, tokens, certificates.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use okta_idmap::config::ServerTlsConfig;
use okta_idmap::core::access::{Access, CertificateName, Role, TokenHash, token_of};
use okta_idmap::serve::{Orgs, ServerSettings, Tls, serve_http};
use okta_idmap_proto::v1;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::pki::{Authority, Files, Pair};
use super::raw::RawCodec;
use super::world::{Server, World, user_by_id, user_id};

/// Longest wait for something that should come at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn token(role: Role) -> String {
    token_of(&[role as u8; 32]).expose().to_owned()
}

/// A token for each role.
pub(crate) fn tokens() -> Access {
    let mut access = Access::default();
    for role in Role::ALL {
        assert!(access.add_token(role.name(), role, TokenHash::of(&token(role)).unwrap()));
    }
    access
}

pub(crate) fn with(access: Access) -> ServerSettings {
    ServerSettings { access: Arc::new(access), ..ServerSettings::default() }
}

/// Every rpc that the server describes.
pub(crate) fn rpcs() -> Vec<String> {
    let sets = [
        okta_idmap_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut paths = Vec::new();
    for file in sets.into_iter().flat_map(|set| FileDescriptorSet::decode(set).unwrap().file) {
        for service in &file.service {
            let methods = service.method.iter();
            paths.extend(methods.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())));
        }
    }
    assert!(paths.len() >= 30);
    paths
}

/// Calls any rpc with an empty message, and takes the first answer.
async fn call(channel: &Channel, path: &str, authorization: Option<&str>) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(futures_util::stream::iter([Vec::new()]));
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    let codec = RawCodec;
    let answers = grpc.streaming(request, path.parse().unwrap(), codec).await?;
    answers.into_inner().message().await.map(drop)
}

/// Why a call was refused by the gate; whatever else came of it is none of its business.
fn refusal(answer: Result<(), Status>) -> String {
    match answer {
        Err(status) if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied) => {
            let info = status.get_error_details().error_info().cloned().unwrap();
            assert_eq!(info.domain, "idmap.v1");
            let role = info.metadata.get("role").cloned().unwrap_or_default();
            format!("{} {role}", info.reason).trim().to_owned()
        }
        _ => "passed".to_owned(),
    }
}

#[tokio::test]
async fn every_rpc_asks_for_its_role() {
    let world = World::crawled().await;
    let server = Server::start_with([world.view()], with(tokens())).await;
    let channel = server.channel().await;
    let bearer = |role: Role| format!("Bearer {}", token(role));
    for path in rpcs() {
        let needs = match path.split(['/', '.']).collect::<Vec<_>>().as_slice() {
            [.., "Health", _] => None,
            [.., "Admin", _] => Some(Role::Admin),
            [.., "Explain" | "ListQuarantined" | "ListOverrides"] => Some(Role::Explain),
            _ => Some(Role::Read),
        };
        for wrong in [None, Some("Bearer wrong"), Some("Basic YTpi")] {
            let expected = if needs.is_none() { "passed" } else { "CREDENTIAL_REQUIRED" };
            assert_eq!(refusal(call(&channel, &path, wrong).await), expected, "{path} with {wrong:?}");
        }
        for role in Role::ALL {
            let expected = match needs {
                Some(needs) if role < needs => format!("ROLE_REQUIRED {needs}"),
                _ => "passed".to_owned(),
            };
            assert_eq!(refusal(call(&channel, &path, Some(&bearer(role))).await), expected, "{path} as {role}");
        }
    }
    // What nobody has described does not get through either, whoever asks.
    for path in ["/idmap.v1.Lookup/Everything", "/idmap.v1.lookup/GetUser", "/other.Service/Call"] {
        for authorization in [None, Some(bearer(Role::Admin))] {
            let status = call(&channel, path, authorization.as_deref()).await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn without_clients_nothing_is_asked_for() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let channel = server.channel().await;
    for path in rpcs() {
        for authorization in [None, Some("Bearer wrong")] {
            assert_eq!(refusal(call(&channel, &path, authorization).await), "passed", "{path}");
        }
    }
    server.stop().await;
}

/// A server with TLS.
pub(crate) struct Secure {
    pub(crate) files: Files,
    server: Server,
    pub(super) authority: Authority,
    metrics: SocketAddr,
    tasks: JoinSet<()>,
}

impl Secure {
    pub(super) async fn start(
        world: &World,
        settings: ServerSettings,
        client_roots: Option<&str>,
        optional: bool,
    ) -> Self {
        Self::start_with(world, settings, client_roots, None, optional).await
    }

    /// The same with lists of revoked certificates.
    pub(crate) async fn start_with(
        world: &World,
        settings: ServerSettings,
        client_roots: Option<&str>,
        client_lists: Option<&str>,
        optional: bool,
    ) -> Self {
        let authority = Authority::new("server root");
        let files = Files::new(&authority.server());
        if let Some(roots) = client_roots {
            std::fs::write(files.path("roots.pem"), roots).unwrap();
        }
        if let Some(lists) = client_lists {
            std::fs::write(files.path("lists.pem"), lists).unwrap();
        }
        let config = ServerTlsConfig {
            cert_file: files.path("cert.pem"),
            key_file: files.path("key.pem"),
            client_ca_file: client_roots.map(|_| files.path("roots.pem")),
            client_crl_file: client_lists.map(|_| files.path("lists.pem")),
            is_client_certificate_optional: optional,
        };
        let tls = Some(Tls::load(config).unwrap().every(Duration::from_millis(20)));
        let stats = Arc::clone(&settings.stats);
        let server = Server::start_with([world.view()], ServerSettings { tls, ..settings }).await;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let metrics = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let orgs = Orgs::new([world.view()]);
        tasks.spawn(async move { serve_http(listener, orgs, stats, CancellationToken::new()).await });
        Self { files, server, authority, metrics, tasks }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Connects as somebody who trusts this root.
    pub(super) async fn connect_trusting(
        &self,
        root_pem: &str,
        client: Option<&Pair>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(root_pem));
        if let Some(Pair { cert, key }) = client {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address())).unwrap();
        endpoint.tls_config(tls).unwrap().connect_timeout(PATIENCE).connect().await
    }

    pub(crate) async fn connect(&self, client: Option<&Pair>) -> Result<Channel, tonic::transport::Error> {
        self.connect_trusting(&self.authority.root_pem, client).await
    }

    /// What a look-up comes to: `OK`, the reason of the refusal, or that there is no connection.
    pub(crate) async fn outcome(&self, client: Option<&Pair>, authorization: Option<&str>) -> String {
        match self.connect(client).await {
            Ok(channel) => look_up(&channel, authorization).await,
            Err(_) => "no connection".to_owned(),
        }
    }

    /// The value of a sample.
    pub(crate) async fn metric(&self, name: &str) -> String {
        let mut stream = TcpStream::connect(self.metrics).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("okta_idmap_server_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
    }

    pub(crate) async fn until_metric(&self, name: &str, expected: &str) {
        let reached = async {
            while self.metric(name).await != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name} does not become {expected}"));
    }

    pub(crate) async fn stop(mut self) {
        self.server.stop().await;
        self.tasks.shutdown().await;
    }
}

pub(crate) async fn look_up(channel: &Channel, authorization: Option<&str>) -> String {
    let mut client = okta_idmap_proto::v1::lookup_client::LookupClient::new(channel.clone());
    let mut request = Request::new(v1::GetUserRequest { user: user_by_id(&user_id(2)), context: None });
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    match client.get_user(request).await {
        Ok(_) => "OK".to_owned(),
        Err(status) => match status.get_error_details().error_info() {
            Some(info) => info.reason.clone(),
            // With TLS 1.3 a client learns of its refusal when it first reads.
            None => "no connection".to_owned(),
        },
    }
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let world = World::crawled().await;
    let clients = Authority::new("client root");
    let mut access = tokens();
    access.add_certificate(CertificateName::Uri("spiffe://test/search".to_owned()), Role::Read);
    let secure = Secure::start(&world, with(access), Some(&clients.root_pem), false).await;
    let good = clients.client("search");
    assert_eq!(secure.outcome(Some(&good), None).await, "OK");
    // Of the same authority, and nobody knows it.
    assert_eq!(secure.outcome(Some(&clients.client("other")), None).await, "CREDENTIAL_REQUIRED");
    let admin = format!("Bearer {}", token(Role::Admin));
    assert_eq!(secure.outcome(Some(&clients.client("other")), Some(&admin)).await, "OK");
    assert_eq!(secure.outcome(Some(&good), Some("Bearer wrong")).await, "CREDENTIAL_REQUIRED");
    // None of these gets as far as a call, not even with a token.
    assert_eq!(secure.outcome(None, Some(&admin)).await, "no connection");
    assert_eq!(secure.outcome(Some(&clients.client_until("search", 2001)), Some(&admin)).await, "no connection");
    assert_eq!(
        secure.outcome(Some(&Authority::new("client root").client("search")), Some(&admin)).await,
        "no connection"
    );
    // A client may try once more before it gives up.
    let counted = async {
        let failed = "refused_connections_total{reason=\"handshake\"}";
        while secure.metric(failed).await.parse::<u64>().unwrap() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
    secure.stop().await;
}

#[tokio::test]
async fn a_token_may_take_the_place_of_a_certificate() {
    let world = World::crawled().await;
    let clients = Authority::new("client root");
    let secure = Secure::start(&world, with(tokens()), Some(&clients.root_pem), true).await;
    let read = format!("Bearer {}", token(Role::Read));
    assert_eq!(secure.outcome(None, Some(&read)).await, "OK");
    assert_eq!(secure.outcome(None, None).await, "CREDENTIAL_REQUIRED");
    assert_eq!(secure.outcome(Some(&clients.client_until("search", 2001)), Some(&read)).await, "no connection");
    secure.stop().await;
}

#[tokio::test]
async fn only_tls_that_can_be_trusted_makes_a_connection() {
    let world = World::crawled().await;
    let secure = Secure::start(&world, with(tokens()), None, false).await;
    assert_eq!(secure.outcome(None, Some(&format!("Bearer {}", token(Role::Read)))).await, "OK");
    assert!(secure.connect_trusting(&Authority::new("server root").root_pem, None).await.is_err());
    // A client without TLS is sent away at once, not kept waiting.
    let plain = Endpoint::from_shared(format!("http://{}", secure.address())).unwrap();
    let outcome = tokio::time::timeout(PATIENCE, async {
        match plain.connect().await {
            Ok(channel) => look_up(&channel, None).await,
            Err(_) => "no connection".to_owned(),
        }
    });
    assert_eq!(outcome.await.unwrap(), "no connection");
    let mut stream = TcpStream::connect(secure.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"));
    secure.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_used_and_a_broken_one_is_not() {
    let world = World::crawled().await;
    let secure = Secure::start(&world, with(tokens()), None, false).await;
    let read = format!("Bearer {}", token(Role::Read));
    let old_root = secure.authority.root_pem.clone();
    let connected = secure.connect(None).await.unwrap();
    assert_eq!(look_up(&connected, Some(&read)).await, "OK");
    assert_eq!(secure.metric("certificate_reload_failing").await, "0");

    // The key of another certificate, no certificate, no file: the first one stays.
    let renewed = Authority::new("renewed root");
    let (pair, other) = (renewed.server(), renewed.server());
    secure.files.replace(&pair.cert, &other.key);
    secure.until_metric("certificate_reload_failing", "1").await;
    assert_eq!(look_up(&secure.connect(None).await.unwrap(), Some(&read)).await, "OK");
    secure.files.replace("nonsense", "nonsense");
    std::fs::remove_file(secure.files.path("key.pem")).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(secure.metric("certificate_reload_failing").await, "1");
    assert_eq!(look_up(&secure.connect(None).await.unwrap(), Some(&read)).await, "OK");

    secure.files.replace(&pair.cert, &pair.key);
    secure.until_metric("certificate_reload_failing", "0").await;
    let fresh = secure.connect_trusting(&renewed.root_pem, None).await.unwrap();
    assert_eq!(look_up(&fresh, Some(&read)).await, "OK");
    assert!(secure.connect_trusting(&old_root, None).await.is_err());
    // Who was connected before goes on.
    assert_eq!(look_up(&connected, Some(&read)).await, "OK");
    secure.stop().await;
}

/// What is logged meanwhile, at info and above.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Takes the lines of this thread from now on, as long as what it returns lives.
    #[must_use]
    pub(crate) fn listen(&self) -> impl Sized + use<> {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        // While there is but one subscriber, a line that a thread without any meets first would be off for all for good.
        let other = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
        (tracing::subscriber::set_default(subscriber), other)
    }

    pub(crate) fn lines_with(&self, part: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn the_log_tells_who_called_and_not_whom_they_asked_for() {
    let log = Log::default();
    let _logging = log.listen();
    let world = World::crawled().await;
    let settings = ServerSettings { audit_lookups: true, ..with(tokens()) };
    let server = Server::start_with([world.view()], settings).await;
    let channel = server.channel().await;
    let explain = format!("Bearer {}", token(Role::Explain));
    assert_eq!(look_up(&channel, Some(&explain)).await, "OK");
    let mut lookup = v1::lookup_client::LookupClient::new(channel.clone());
    let user = super::world::user_by_login("User4@Example.com");
    let mut request = Request::new(v1::GetUserRequest { user, context: None });
    request.metadata_mut().insert("authorization", explain.parse().unwrap());
    lookup.get_user(request).await.unwrap();
    // What is too much to be looked at as well.
    let items = vec![v1::BatchResolveItem::default(); 1_001];
    let mut request = Request::new(v1::BatchResolveRequest { items, ..Default::default() });
    request.metadata_mut().insert("authorization", explain.parse().unwrap());
    lookup.batch_resolve(request).await.unwrap_err();
    let entries = vec![v1::AclEntry::default(); 100_000];
    let mut request = Request::new(v1::ResolveAclRequest { entries, ..Default::default() });
    request.metadata_mut().insert("authorization", explain.parse().unwrap());
    lookup.resolve_acl(request).await.unwrap_err();
    let admin = format!("Bearer {}", token(Role::Admin));
    let mut request = Request::new(v1::TriggerSyncRequest {
        target: Some(v1::trigger_sync_request::Target::FullCrawl(v1::FullCrawl {})),
        ..Default::default()
    });
    request.metadata_mut().insert("authorization", admin.parse().unwrap());
    v1::admin_client::AdminClient::new(channel.clone()).trigger_sync(request).await.unwrap_err();
    let mut request = Request::new(v1::SetOverrideRequest {
        account: super::world::account("0oaus", "needle", v1::IdentifierKind::UserName),
        user_id: "00u0002".to_owned(),
        ..Default::default()
    });
    request.metadata_mut().insert("authorization", admin.parse().unwrap());
    v1::admin_client::AdminClient::new(channel.clone()).set_override(request).await.unwrap_err();
    assert_eq!(look_up(&channel, Some("Bearer wrong-and-never-shown")).await, "CREDENTIAL_REQUIRED");

    // Who has a token and tries more than it may is told by name, whoever else is refused in the same second.
    let reindex = call(&channel, "/idmap.v1.Admin/Reindex", Some(&explain)).await;
    assert_eq!(refusal(reindex), "ROLE_REQUIRED admin");
    // So is each rpc that is tried, and not behind many calls of another.
    for path in ["/idmap.v1.Admin/Reindex", "/idmap.v1.Admin/SetOverride", "/idmap.v1.Admin/SetOverride"] {
        assert_eq!(refusal(call(&channel, path, Some(&explain)).await), "ROLE_REQUIRED admin");
    }

    let looked_up = log.lines_with("look-up");
    assert_eq!(looked_up.len(), 4, "{looked_up:?}");
    for part in ["org=\"acme\"", "caller=\"explain\"", "peer=\"127.0.0.1:"] {
        assert!(looked_up.iter().all(|line| line.contains(part)), "no {part} in {looked_up:?}");
    }
    let outcomes = ["GetUser\" OK", "GetUser\" OK", "BatchResolve\" TOO_MANY_ITEMS", "ResolveAcl\" TOO_MANY_ITEMS"];
    for (line, outcome) in looked_up.iter().zip(outcomes) {
        let (rpc, outcome) = outcome.split_once(' ').unwrap();
        assert!(line.contains(&format!("rpc=\"Lookup.{rpc}")), "no {rpc} in {line}");
        assert!(line.contains(&format!("outcome=\"{outcome}\"")), "no {outcome} in {line}");
    }
    let started = log.lines_with("admin call");
    assert_eq!(started.len(), 2, "{started:?}");
    for part in ["caller=\"admin\"", "peer=\"127", "app=\"0oaus\"", "USER_NAME", "user=\"00u0002\"", "FIELD_MISSING"] {
        assert!(started[1].contains(part), "no {part} in {started:?}");
    }
    for part in ["caller=\"admin\"", "what=\"everything\"", "outcome=\"NO_ENGINE\""] {
        assert!(started[0].contains(part), "no {part} in {started:?}");
    }
    let refused = log.lines_with("call refused");
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[2].contains("Admin/SetOverride") && refused[2].contains("ROLE_REQUIRED"), "{refused:?}");
    assert!(refused[0].contains("CREDENTIAL_REQUIRED") && refused[0].contains("caller=\"\""), "{refused:?}");
    assert!(refused[1].contains("ROLE_REQUIRED") && refused[1].contains("caller=\"explain\""), "{refused:?}");
    for secret in ["@", "needle", "wrong-and", &token(Role::Explain)] {
        assert_eq!(log.lines_with(secret), [""; 0]);
    }
    server.stop().await;
}

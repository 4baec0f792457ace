//! Rights that are taken back while the server runs: tokens, names and certificates, and what was opened by them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use okta_idmap::config::{AccessFile, ServerTlsConfig};
use okta_idmap::core::access::{Access, CertificateName, Role, TokenHash};
use okta_idmap::engine::clock;
use okta_idmap::serve::{FollowedAccess, ServerSettings, Tls};
use okta_idmap_proto::v1;
use prost::Message as _;
use tonic::codec::Streaming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::pki::Authority;
use super::raw::RawCodec;
use super::security::{Log, PATIENCE, Secure, look_up, token, tokens, with};
use super::world::{Server, World};

fn bearer(role: Role) -> String {
    format!("Bearer {}", token(role))
}

/// A file that names whoever has these roles' tokens.
fn naming(roles: &[Role]) -> String {
    let line = |role: &Role| format!("{role} = '{role} {}'\n", TokenHash::of(&token(*role)).unwrap());
    format!("[server.tokens]\n{}", roles.iter().map(line).collect::<String>())
}

/// The settings of a server with such a file, which is looked at often.
fn following(path: std::path::PathBuf) -> ServerSettings {
    let file = AccessFile::new(path, Access::awaiting(), false);
    let followed = FollowedAccess::load(file).unwrap().every(Duration::from_millis(20));
    ServerSettings { access: followed.access(), access_file: Some(followed), ..ServerSettings::default() }
}

/// Opens a stream of changes that begins with everything.
async fn watch(channel: &Channel, authorization: Option<&str>) -> Result<Streaming<Vec<u8>>, Status> {
    let start = v1::ChangeStart { start: Some(v1::change_start::Start::Snapshot(v1::SnapshotStart {})) };
    let request = v1::WatchRequest { start: Some(start), ..Default::default() };
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(request.encode_to_vec());
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    let path = "/idmap.v1.Changes/Watch".parse().unwrap();
    Ok(grpc.server_streaming(request, path, RawCodec).await?.into_inner())
}

/// How a stream ends that is read to its end.
async fn end_of(stream: &mut Streaming<Vec<u8>>) -> String {
    let ended = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break "OK".to_owned(),
                Err(status) => {
                    let reason = status.message().split(": this server").next().unwrap_or_default();
                    break format!("{:?} {reason}", status.code());
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let reached = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("not reached: {what}"));
}

#[tokio::test]
async fn a_token_that_is_taken_back_is_refused_and_its_stream_ends() {
    let log = Log::default();
    let _logging = log.listen();
    let world = World::crawled().await;
    let dir = tempfile::tempdir().unwrap();
    let (path, new) = (dir.path().join("access.toml"), dir.path().join("new"));
    let put = |content: &str| {
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &path).unwrap();
    };
    put(&naming(&[Role::Read, Role::Admin]));
    let secure = Secure::start_with(&world, following(path.clone()), None, None, false).await;
    let channel = secure.connect(None).await.unwrap();
    let [read, explain, admin] = [Role::Read, Role::Explain, Role::Admin].map(bearer);
    let mut taken_back = watch(&channel, Some(&read)).await.unwrap();
    let mut kept = watch(&channel, Some(&admin)).await.unwrap();
    assert_eq!(look_up(&channel, Some(&explain)).await, "CREDENTIAL_REQUIRED");
    assert_eq!(secure.metric("access_reload_failing").await, "0");

    // What cannot be used, and no file at all: those who were named before may call.
    let told = || log.lines_with("who may call changed and cannot be used");
    for (times, broken) in [(1, Some("[server.tokens]\nread = 'everything'\n")), (2, None)] {
        match broken {
            Some(broken) => put(broken),
            None => std::fs::remove_file(&path).unwrap(),
        }
        secure.until_metric("access_reload_failing", "1").await;
        until("it is told", async || told().len() >= times).await;
        for known in [&read, &admin] {
            assert_eq!(look_up(&channel, Some(known)).await, "OK");
        }
    }
    let told = told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("access.toml:2:1: server.tokens: an entry is not a role and a hash"), "{told:?}");
    let missing = format!("server.access_file: read {} (put the file there, or correct the path): ", path.display());
    assert!(told[1].contains(&missing), "{told:?}");

    put(&naming(&[Role::Explain, Role::Admin]));
    secure.until_metric("access_reload_failing", "0").await;
    assert_eq!(look_up(&channel, Some(&read)).await, "CREDENTIAL_REQUIRED");
    assert_eq!(look_up(&channel, Some(&explain)).await, "OK");
    assert_eq!(end_of(&mut taken_back).await, "Unauthenticated the token is not known");
    // Who has read his end keeps the connection, and others what they have open on it.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(kept.message().await.unwrap().is_some());
    assert_eq!(look_up(&channel, Some(&admin)).await, "OK");
    assert_eq!(secure.metric("refused_connections_total{reason=\"withdrawn\"}").await, "0");
    assert_eq!(log.lines_with("who may call was read anew").len(), 1);
    assert_eq!(log.lines_with("oidm_"), [""; 0]);
    drop(kept);
    secure.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_reads_ends_with_its_token() {
    let world = World::crawled().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.toml");
    std::fs::write(&path, naming(&[Role::Read, Role::Admin])).unwrap();
    let settings = following(path.clone());
    let stats = Arc::clone(&settings.stats);
    let server = Server::start_with([world.view()], settings).await;
    // Answers stop after a kibibyte of a snapshot that has hundreds.
    let narrow =
        || Endpoint::from_shared(format!("http://{}", server.address)).unwrap().initial_stream_window_size(1_024);
    let [unread_on, other_on] = [narrow().connect().await.unwrap(), narrow().connect().await.unwrap()];
    let mut unread = watch(&unread_on, Some(&bearer(Role::Read))).await.unwrap();
    let mut other = watch(&other_on, Some(&bearer(Role::Admin))).await.unwrap();
    assert_eq!(connections(&stats), 2);
    std::fs::write(&path, naming(&[Role::Admin])).unwrap();
    until("the connection is closed", async || connections(&stats) == 1).await;
    // Not even what was made before is to be had for long, and nothing comes after it.
    let status = end_of(&mut unread).await;
    assert!(!status.starts_with("OK"), "{status}");
    assert!(other.message().await.unwrap().is_some());
    assert_eq!(look_up(&other_on, Some(&bearer(Role::Admin))).await, "OK");
    drop(other);
    server.stop().await;
}

/// Connections as the metrics tell them.
fn connections(stats: &okta_idmap::serve::ServerStats) -> usize {
    let shown = format!("{stats:?}");
    let value = shown.split("connections: ").nth(1).and_then(|rest| rest.split([',', ' ']).next());
    value.unwrap().parse().unwrap()
}

/// Whichever of the files cannot be used, or is gone, the others are used as they change.
#[tokio::test]
async fn a_broken_file_does_not_hold_back_the_others() {
    let world = World::crawled().await;
    let clients = Authority::new("client root");
    let mut access = tokens();
    access.add_certificate(CertificateName::Uri("spiffe://test/search".to_owned()), Role::Read);
    let lists = clients.revoked(&[], 2200);
    let secure = Secure::start_with(&world, with(access), Some(&clients.root_pem), Some(&lists), true).await;
    let [one, other] = [5, 6].map(|number| clients.client_numbered("search", number));
    let channel = secure.connect(Some(&one)).await.unwrap();
    let mut ends = watch(&channel, None).await.unwrap();
    // A renewal that is half done: the certificate is new, its key is not there yet.
    let renewed = secure.authority.server();
    secure.files.put("cert.pem", &renewed.cert);
    secure.until_metric("certificate_reload_failing", "1").await;
    assert_eq!(secure.outcome(Some(&one), None).await, "OK", "the former certificate stays");
    secure.files.put("lists.pem", &clients.revoked(&[5], 2201));
    assert_eq!(end_of(&mut ends).await, "Unauthenticated the client certificate was revoked, or is no longer trusted");
    assert_eq!(secure.outcome(Some(&one), None).await, "no connection");
    assert_eq!(secure.outcome(Some(&other), None).await, "OK");
    secure.until_metric("revocation_lists_expire_timestamp_seconds", "7289654400.000").await;
    secure.until_metric("certificate_reload_failing", "1").await;
    std::fs::remove_file(secure.files.path("key.pem")).unwrap();
    secure.files.put("lists.pem", &clients.revoked(&[5, 6], 2200));
    until("the other is refused too", async || secure.outcome(Some(&other), None).await == "no connection").await;
    secure.files.put("key.pem", &renewed.key);
    secure.until_metric("certificate_reload_failing", "0").await;
    // The other way round: lists that cannot be used, and a server's certificate of another root.
    secure.files.put("lists.pem", "nonsense");
    secure.until_metric("certificate_reload_failing", "1").await;
    let authority = Authority::new("a new server root");
    let pair = authority.server();
    secure.files.replace(&pair.cert, &pair.key);
    until("the new certificate is shown", async || secure.connect_trusting(&authority.root_pem, None).await.is_ok())
        .await;
    assert_eq!(secure.metric("certificate_reload_failing").await, "1");
    for revoked in [&one, &other] {
        let refused = secure.connect_trusting(&authority.root_pem, Some(revoked)).await;
        let refused = match refused {
            Ok(channel) => look_up(&channel, None).await,
            Err(_) => "no connection".to_owned(),
        };
        assert_eq!(refused, "no connection", "the former lists stay");
    }
    secure.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_revoked_is_refused_and_its_stream_ends() {
    let world = World::crawled().await;
    let clients = Authority::new("client root");
    let mut access = tokens();
    access.add_certificate(CertificateName::Uri("spiffe://test/search".to_owned()), Role::Read);
    let lists = clients.revoked(&[7], 2200);
    let secure = Secure::start_with(&world, with(access), Some(&clients.root_pem), Some(&lists), true).await;
    let [one, other, revoked] = [5, 6, 7].map(|number| clients.client_numbered("search", number));
    let read = bearer(Role::Read);
    assert_eq!(secure.outcome(Some(&one), None).await, "OK");
    assert_eq!(secure.outcome(Some(&revoked), None).await, "no connection");
    assert_eq!(secure.outcome(Some(&revoked), Some(&read)).await, "no connection");
    assert_eq!(secure.outcome(None, Some(&read)).await, "OK");
    assert_eq!(secure.metric("revocation_lists_expire_timestamp_seconds").await, "7258118400.000");

    let (of_one, of_other) = (secure.connect(Some(&one)).await.unwrap(), secure.connect(Some(&other)).await.unwrap());
    let mut ends = watch(&of_one, None).await.unwrap();
    let mut goes_on = watch(&of_other, None).await.unwrap();
    // Lists that cannot be used, are too old, or are gone: the former ones stay.
    for broken in ["nonsense", &clients.revoked(&[5], 2021), &lists[..lists.len() / 2]] {
        secure.files.put("lists.pem", broken);
        secure.until_metric("certificate_reload_failing", "1").await;
        assert_eq!(secure.outcome(Some(&one), None).await, "OK");
        assert_eq!(secure.outcome(Some(&revoked), None).await, "no connection");
    }
    secure.files.put("lists.pem", &clients.revoked(&[5, 7], 2200));
    secure.until_metric("certificate_reload_failing", "0").await;
    let ended = end_of(&mut ends).await;
    assert_eq!(ended, "Unauthenticated the client certificate was revoked, or is no longer trusted");
    // Nor does a token help over its connection, which ends.
    for authorization in [None, Some(&*read)] {
        assert_ne!(look_up(&of_one, authorization).await, "OK");
    }
    secure.until_metric("refused_connections_total{reason=\"withdrawn\"}", "1").await;
    assert_eq!(secure.outcome(Some(&one), None).await, "no connection");
    assert_eq!(secure.outcome(Some(&other), None).await, "OK");
    assert!(goes_on.message().await.unwrap().is_some());
    // A list that becomes too old while it is in use refuses also those who are connected, whatever they send.
    let soon = Duration::from_millis(u64::try_from(clock::now().as_millis()).unwrap()) + Duration::from_secs(5);
    secure.files.put("lists.pem", &clients.revoked_within(&[5, 7], 1970, soon));
    let of_token = secure.connect(None).await.unwrap();
    until("its stream ends", async || !end_of(&mut goes_on).await.starts_with("OK")).await;
    assert_ne!(look_up(&of_other, Some(&read)).await, "OK");
    assert_eq!(look_up(&of_token, Some(&read)).await, "OK");
    assert_eq!(secure.outcome(Some(&other), None).await, "no connection");
    secure.files.put("lists.pem", &clients.revoked(&[5, 7], 2200));
    until("let in again", async || secure.outcome(Some(&other), None).await == "OK").await;
    // A list of somebody else says nothing about these clients: nobody knows whether they are revoked.
    secure.files.put("lists.pem", &Authority::new("another root").revoked(&[], 2200));
    until("refused", async || secure.outcome(Some(&other), None).await == "no connection").await;
    drop(goes_on);
    secure.stop().await;
}

#[tokio::test]
async fn each_list_of_an_issuer_takes_back() {
    let world = World::crawled().await;
    let clients = Authority::new("client root");
    let mut access = Access::default();
    access.add_certificate(CertificateName::Uri("spiffe://test/search".to_owned()), Role::Read);
    let [a, b] = ["http://lists.example/a.crl", "http://lists.example/b.crl"];
    let parts = |of_a: &[u64], of_b: &[u64]| clients.revoked_of_part(of_a, a) + &clients.revoked_of_part(of_b, b);
    let secure =
        Secure::start_with(&world, with(access), Some(&clients.root_pem), Some(&parts(&[7], &[8])), false).await;
    let of_part = |number, part| clients.client_of_part("search", number, part);
    let [one, other] = [of_part(5, a), of_part(6, b)];
    for (pair, expected) in [
        (&one, "OK"),
        (&other, "OK"),
        (&of_part(7, a), "no connection"),
        (&of_part(8, b), "no connection"),
        // Of no part that is known, or of none at all.
        (&of_part(5, "http://lists.example/c.crl"), "no connection"),
        (&clients.client_numbered("search", 5), "no connection"),
    ] {
        assert_eq!(secure.outcome(Some(pair), None).await, expected);
    }
    let (of_one, of_other) = (secure.connect(Some(&one)).await.unwrap(), secure.connect(Some(&other)).await.unwrap());
    let mut goes_on = watch(&of_one, None).await.unwrap();
    let mut ends = watch(&of_other, None).await.unwrap();
    // Whoever is connected is judged by the second list as well; the number means nothing on the list of another part.
    secure.files.put("lists.pem", &parts(&[7], &[5, 6]));
    assert_eq!(end_of(&mut ends).await, "Unauthenticated the client certificate was revoked, or is no longer trusted");
    assert_eq!(secure.outcome(Some(&other), None).await, "no connection");
    assert_eq!(secure.outcome(Some(&one), None).await, "OK");
    assert!(goes_on.message().await.unwrap().is_some());
    // Two lists of all are asked both.
    secure.files.put("lists.pem", &(clients.revoked(&[6], 2200) + &clients.revoked(&[5], 2200)));
    until("both are refused", async || secure.outcome(Some(&one), None).await == "no connection").await;
    assert_eq!(secure.outcome(Some(&other), None).await, "no connection");
    assert_eq!(secure.outcome(Some(&clients.client_numbered("search", 9)), None).await, "OK");
    drop(goes_on);
    secure.stop().await;
}

#[test]
fn files_that_cannot_be_used_are_told_with_their_keys() {
    let authority = Authority::new("client root");
    let pair = authority.server();
    let whole = [
        ("cert.pem", pair.cert.clone()),
        ("key.pem", pair.key.clone()),
        ("roots.pem", authority.root_pem.clone()),
        ("lists.pem", authority.revoked(&[], 2200)),
    ];
    /// What becomes of a start with one file spoilt.
    type Spoil = fn(&Path) -> std::io::Result<()>;
    let missing: Spoil = |path| std::fs::remove_file(path);
    let directory: Spoil = |path| std::fs::remove_file(path).and_then(|()| std::fs::create_dir(path));
    let large: Spoil = |path| std::fs::write(path, vec![b'\n'; (8 << 20) + 1]);
    let other: Spoil = |path| std::fs::write(path, "nonsense");
    let key_of_another: Spoil = |path| std::fs::write(path, Authority::new("other").server().key);
    for (name, spoil, expected) in [
        (
            "cert.pem",
            missing,
            "tls_cert_file: read the server's certificate FILE (put the file there, or correct the path)",
        ),
        ("key.pem", missing, "tls_key_file: read the server's key FILE (put the file there, or correct the path)"),
        (
            "roots.pem",
            missing,
            "tls_client_ca_file: read the roots of client certificates FILE (put the file there, or correct the path)",
        ),
        (
            "lists.pem",
            missing,
            "tls_client_crl_file: read the lists of revoked client certificates FILE (put the file there, or correct the path)",
        ),
        (
            "roots.pem",
            directory,
            "tls_client_ca_file: read the roots of client certificates FILE (name a file: no directory, pipe or device)",
        ),
        ("cert.pem", large, "tls_cert_file: the server's certificate FILE: has more than 65536 bytes"),
        (
            "lists.pem",
            large,
            "tls_client_crl_file: the lists of revoked client certificates FILE: has more than 8388608 bytes",
        ),
        (
            "cert.pem",
            other,
            "tls_cert_file: the server's certificate FILE: holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
        ),
        (
            "key.pem",
            other,
            "tls_key_file: the server's key FILE: holds no private key in PEM form without a passphrase",
        ),
        (
            "roots.pem",
            other,
            "tls_client_ca_file: the roots of client certificates FILE: holds no certificate in PEM form (-----BEGIN \
             CERTIFICATE-----)",
        ),
        (
            "key.pem",
            key_of_another,
            "tls_cert_file: use certificate cert.pem with the key of server.tls_key_file (they must belong together)",
        ),
    ] {
        let files = super::pki::Files::new(&pair);
        whole.iter().for_each(|(name, content)| files.put(name, content));
        spoil(&files.path(name)).unwrap();
        let config = ServerTlsConfig {
            cert_file: files.path("cert.pem"),
            key_file: files.path("key.pem"),
            client_ca_file: Some(files.path("roots.pem")),
            client_crl_file: Some(files.path("lists.pem")),
            is_client_certificate_optional: false,
        };
        let told = Tls::load(config).unwrap_err().to_string();
        let told = told.replace(&files.path(name).display().to_string(), "FILE");
        assert_eq!(told.replace(&files.path("").display().to_string(), ""), format!("server.{expected}"));
    }
}

#[test]
fn lists_that_cannot_be_used_are_told_at_the_start() {
    let authority = Authority::new("client root");
    let files = super::pki::Files::new(&authority.server());
    files.put("roots.pem", &authority.root_pem);
    let config = ServerTlsConfig {
        cert_file: files.path("cert.pem"),
        key_file: files.path("key.pem"),
        client_ca_file: Some(files.path("roots.pem")),
        client_crl_file: Some(files.path("lists.pem")),
        is_client_certificate_optional: false,
    };
    let outcome = || match Tls::load(config.clone()) {
        Ok(_) => "used".to_owned(),
        Err(error) => error.to_string().replace(&files.path("").display().to_string(), ""),
    };
    assert_eq!(
        outcome(),
        "server.tls_client_crl_file: read the lists of revoked client certificates lists.pem (put the file there, or correct \
         the path)"
    );
    let both = authority.revoked(&[1], 2200) + &Authority::new("other").revoked(&[], 2021);
    let many = authority.revoked(&[1], 2200).repeat(33);
    let spoilt = both.replacen("\nMI", "\n!!", 1);
    assert_ne!(spoilt, both);
    for (content, expected) in [
        ("", "holds no list in PEM form (-----BEGIN X509 CRL-----)"),
        (&*authority.root_pem, "holds no list in PEM form (-----BEGIN X509 CRL-----)"),
        (
            &both,
            "the list of \"other\" is too old: a newer one was due at 2021-01-01T00:00:00.000Z; put that in its place",
        ),
        (&many, "there are more than 32 lists of \"client root\": keep the newest ones"),
        (&spoilt, "is no PEM file"),
    ] {
        files.put("lists.pem", content);
        assert_eq!(
            outcome(),
            format!("server.tls_client_crl_file: the lists of revoked client certificates lists.pem: {expected}")
        );
    }
    // Several lists of one issuer are asked, unless nobody knows whose they are.
    let twice = authority.revoked(&[1], 2200) + &authority.revoked(&[2], 2201);
    files.put("lists.pem", &twice);
    assert_eq!(outcome(), "used");
    files.put("roots.pem", &(authority.root_pem.clone() + &Authority::new("client root").root_pem));
    assert_eq!(
        outcome(),
        "server.tls_client_crl_file: the lists of revoked client certificates lists.pem: there are several lists of \
         \"client root\", and two roots of that name with different keys: keep one of these roots and its lists"
    );
    files.put("roots.pem", &authority.root_pem.repeat(2));
    assert_eq!(outcome(), "used");
    files.put("roots.pem", &authority.root_pem);
    // Whether a root has a list of its own is known, and told where it has none.
    let log = Log::default();
    let _logging = log.listen();
    let (own, other) = (authority.revoked(&[1], 2200), Authority::new("other").revoked(&[], 2200));
    files.put("lists.pem", &(own + &other));
    assert_eq!((outcome().as_str(), log.lines_with("no list").len()), ("used", 0));
    files.put("lists.pem", &other);
    assert_eq!(outcome(), "used");
    let told = log.lines_with("there is no list of revoked certificates of this root: clients of it are refused");
    assert!(told.len() == 1 && told[0].contains("root=\"client root\""), "{told:?}");
}

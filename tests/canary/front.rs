//! A simulated org behind TLS and HTTP/2, which notes what it was asked with. Entry point: [`Front::start`].

use std::sync::{Arc, Mutex, MutexGuard};

use okta_sim::{Org, Request, Sim, Spec};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What it does with requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// The simulated org answers.
    Answers,
    /// The API answers with this status, and repeats all headers of the request wherever it can.
    Repeats(u16),
    /// The same of the token request, and its body.
    RepeatsTokenRequest(u16),
}

/// The running server; it ends when this is dropped.
pub(crate) struct Front {
    pub(crate) url: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

struct Shared {
    sim: Mutex<Sim>,
    manner: Mutex<Manner>,
    requests: Mutex<Vec<Request>>,
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

impl Front {
    pub(crate) fn start(rig: impl FnOnce(&mut Sim)) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let mut sim = Sim::new(Org::generate(&Spec::of_users(40)), &url, 1);
        sim.org.set_now_ms(now_ms());
        rig(&mut sim);
        let shared =
            Arc::new(Shared { sim: Mutex::new(sim), manner: Mutex::new(Manner::Answers), requests: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, served) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { url, shared, stop: Some(stop) }
    }

    pub(crate) fn sim(&self) -> MutexGuard<'_, Sim> {
        self.shared.sim.lock().unwrap()
    }

    pub(crate) fn set(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// Everything that it was asked, as text.
    pub(crate) fn requests(&self) -> String {
        format!("{:?}", self.shared.requests.lock().unwrap())
    }

    /// Tokens, assertions and proofs that it was shown. Of the latter two only the signatures: the rest is public.
    pub(crate) fn credentials(&self) -> Vec<Vec<u8>> {
        let signature = |jwt: &str| jwt.rsplit('.').next().unwrap().as_bytes().to_vec();
        let mut credentials = Vec::new();
        for request in self.shared.requests.lock().unwrap().iter() {
            let token = request.header("authorization").and_then(|value| value.rsplit(' ').next());
            credentials.extend(token.map(|token| token.as_bytes().to_vec()));
            credentials.extend(request.header("dpop").map(signature));
            let mut fields = url::form_urlencoded::parse(request.body.as_bytes());
            let assertion = fields.find(|(name, _)| name == "client_assertion");
            credentials.extend(assertion.map(|(_, assertion)| signature(&assertion)));
        }
        credentials.sort();
        credentials.dedup();
        assert!(credentials.len() > 20, "there were many proofs");
        credentials
    }
}

#[expect(clippy::disallowed_methods, reason = "the simulated org has a wall clock of its own")]
fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn acceptor() -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(include_bytes!("../keys/tls/server.pem"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../keys/tls/server-key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let (listener, acceptor) = (TcpListener::from_std(listener).unwrap(), acceptor());
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        connections.spawn(async move {
            // A client that goes away is no error of the server.
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let Ok(mut connection) = h2::server::handshake(tls).await else { return };
            let mut streams = JoinSet::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let shared = Arc::clone(&shared);
                streams.spawn(async move { answer(request, respond, &shared).await });
            }
        });
    }
}

async fn answer(
    asked: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    shared: &Shared,
) {
    let (parts, mut stream) = asked.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(piece)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(piece.len());
        body.extend_from_slice(&piece);
    }
    let mut request = Request::get(parts.uri.path_and_query().unwrap().as_str());
    request.method = parts.method.to_string();
    request.body = String::from_utf8(body).unwrap();
    for (name, value) in &parts.headers {
        request.headers.push((name.to_string(), value.to_str().unwrap().to_owned()));
    }
    let manner = *shared.manner.lock().unwrap();
    let mut response = http::Response::builder();
    let is_token_request = request.method == "POST";
    let status = match manner {
        Manner::Repeats(status) if !is_token_request => Some(status),
        Manner::RepeatsTokenRequest(status) if is_token_request => Some(status),
        _ => None,
    };
    let body = match status {
        None => {
            let mut sim = shared.sim.lock().unwrap();
            sim.org.set_now_ms(now_ms());
            let reply = sim.handle(&request);
            for (name, value) in &reply.headers {
                response = response.header(name, value);
            }
            response = response.status(reply.status);
            reply.body
        }
        Some(status) => {
            let said: String = request
                .headers
                .iter()
                .map(|(_, value)| value.replace('"', "'"))
                .chain([request.body.clone()])
                .collect();
            let secret =
                request.header("authorization").unwrap_or(&request.body).rsplit(' ').next().unwrap().to_owned();
            response = response
                .status(status)
                .header("content-type", "application/json")
                .header("x-okta-request-id", &secret)
                .header("location", format!("https://evil.example/{secret}"))
                .header("www-authenticate", format!("Bearer error=\"insufficient_scope\", scope=\"{secret}\""))
                .header("link", format!("<https://evil.example/{secret}>; rel=\"next\""));
            format!(
                r#"{{"errorCode":"{secret}","errorSummary":"{said}","error":"invalid_client","error_description":"{said}","id":"{secret}"}}"#
            )
        }
    };
    shared.requests.lock().unwrap().push(request);
    if let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), false) {
        let _ = stream.send_data(body.into(), true);
    }
}

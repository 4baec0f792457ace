//! A server of canned bytes, with or without TLS: one reply per connection, in the order of a script.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::tls;

/// What to do with a request.
#[derive(Clone)]
pub(super) enum Reply {
    /// Send these bytes and close.
    Bytes(Vec<u8>),
    /// Send nothing and keep the connection open.
    Silence,
    /// Send the first bytes, then the piece again and again with a pause before each.
    Trickle(Vec<u8>, &'static [u8], Duration),
    /// Send the first bytes, then the piece again and again, as fast as it is taken.
    Endless(Vec<u8>, Vec<u8>),
    /// Read the request, send the bytes, then reset the connection.
    Reset(Vec<u8>),
    /// Reset the connection before anything else.
    ResetAtOnce,
}

/// A reply with a status, header lines and a body of the right length.
pub(super) fn reply(status: u16, headers: &[&str], body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut bytes = head(status, headers, body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Reply::Bytes(bytes)
}

/// The lines before a body.
pub(super) fn head(status: u16, headers: &[&str], body_bytes: usize) -> String {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {body_bytes}\r\n{lines}\r\n")
}

/// The running server; it ends when this is dropped.
pub(super) struct Server {
    pub(super) url: String,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    requests: Mutex<Vec<String>>,
    bytes_sent: AtomicU64,
}

/// A connection, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Server {
    /// Serves `script`; `$ORG` in a reply stands for the server's own URL, `$ORG_HOST`
    /// for its host and port. After the script, connections are closed.
    pub(super) async fn start(script: Vec<Reply>) -> Self {
        Self::listen(script, None).await
    }

    /// The same over TLS, as `localhost`, with HTTP/1.1.
    pub(super) async fn start_tls(script: Vec<Reply>) -> Self {
        Self::listen(script, Some(tls::acceptor(&[b"http/1.1"]))).await
    }

    async fn listen(script: Vec<Reply>, acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = match acceptor {
            Some(_) => format!("https://localhost:{port}"),
            None => format!("http://127.0.0.1:{port}"),
        };
        let seen = Arc::<Seen>::default();
        let (told, own_url) = (Arc::clone(&seen), url.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Connections that are kept open beside the next ones.
            let mut open = JoinSet::new();
            let mut script = script.into_iter();
            while let Ok((tcp, _)) = listener.accept().await {
                told.connections.fetch_add(1, Ordering::Relaxed);
                // Lingering for zero seconds turns the close into a reset.
                if let Some(Reply::Reset(_) | Reply::ResetAtOnce) = script.as_slice().first() {
                    tcp.set_zero_linger().unwrap();
                }
                if let Some(Reply::ResetAtOnce) = script.as_slice().first() {
                    script.next();
                    continue;
                }
                let mut stream: Box<dyn Stream> = match &acceptor {
                    None => Box::new(tcp),
                    Some(acceptor) => match acceptor.accept(tcp).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                let Some(request) = read_request(&mut stream).await else { continue };
                told.requests.lock().unwrap().push(request);
                if let Some(reply) = script.next() {
                    let (told, own_url) = (Arc::clone(&told), own_url.clone());
                    open.spawn(async move { carry_out(reply, stream, &own_url, &told.bytes_sent).await });
                }
            }
        });
        Self { url, seen, _tasks: tasks }
    }

    /// The requests so far, heads and bodies.
    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Connections so far, whatever came over them.
    pub(super) fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Bytes that could be sent so far.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.seen.bytes_sent.load(Ordering::Relaxed)
    }

    /// The request targets so far.
    pub(super) fn targets(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

async fn carry_out(reply: Reply, mut stream: Box<dyn Stream>, own_url: &str, sent: &AtomicU64) {
    match reply {
        Reply::Bytes(bytes) => {
            write(&mut stream, &bytes, own_url, sent).await;
            let _ = stream.shutdown().await;
        }
        Reply::Silence => std::future::pending().await,
        Reply::Trickle(bytes, piece, pause) => {
            let mut goes_on = write(&mut stream, &bytes, own_url, sent).await;
            while goes_on {
                tokio::time::sleep(pause).await;
                goes_on = write(&mut stream, piece, own_url, sent).await;
            }
        }
        Reply::Endless(bytes, piece) => {
            let mut goes_on = write(&mut stream, &bytes, own_url, sent).await;
            while goes_on {
                goes_on = write(&mut stream, &piece, own_url, sent).await;
            }
        }
        Reply::Reset(bytes) => {
            write(&mut stream, &bytes, own_url, sent).await;
        }
        Reply::ResetAtOnce => {}
    }
}

/// Bytes of a body may not be text, and then hold no placeholder. `false` when nobody takes them.
async fn write(stream: &mut Box<dyn Stream>, bytes: &[u8], own_url: &str, sent: &AtomicU64) -> bool {
    let replaced = match std::str::from_utf8(bytes) {
        Ok(text) if text.contains("$ORG") => {
            let host = own_url.split_once("://").map_or(own_url, |(_, host)| host);
            Some(text.replace("$ORG_HOST", host).replace("$ORG", own_url).into_bytes())
        }
        _ => None,
    };
    let bytes = replaced.as_deref().unwrap_or(bytes);
    let is_taken = stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok();
    if is_taken {
        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
    is_taken
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).ok()?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8(body).ok()?)
}

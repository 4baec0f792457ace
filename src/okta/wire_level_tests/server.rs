//! A server of canned bytes: one reply per connection, in the order of a script.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What to do with a request.
#[derive(Clone)]
pub(super) enum Reply {
    /// Send these bytes and close.
    Bytes(Vec<u8>),
    /// Send nothing and keep the connection open.
    Silence,
    /// Send the first bytes, then the piece again and again with a pause before each.
    Trickle(Vec<u8>, &'static [u8], Duration),
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
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Serves `script`; `$ORG` in a reply stands for the server's own URL. After the script, connections are closed.
    pub(super) async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, own_url) = (requests.clone(), url.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Connections that are kept open beside the next ones.
            let mut open = JoinSet::new();
            let mut script = script.into_iter();
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read_request(&mut stream).await else { continue };
                seen.lock().unwrap().push(request);
                match script.next() {
                    Some(Reply::Bytes(bytes)) => write(&mut stream, &bytes, &own_url).await,
                    Some(Reply::Silence) => {
                        open.spawn(async move {
                            std::future::pending::<()>().await;
                            drop(stream);
                        });
                    }
                    Some(Reply::Trickle(bytes, piece, pause)) => {
                        write(&mut stream, &bytes, &own_url).await;
                        open.spawn(async move {
                            loop {
                                tokio::time::sleep(pause).await;
                                if stream.write_all(piece).await.is_err() {
                                    break;
                                }
                            }
                        });
                    }
                    None => {}
                }
            }
        });
        Self { url, requests, _tasks: tasks }
    }

    /// The requests so far, heads and bodies.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// The request targets so far.
    pub(super) fn targets(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect()
    }
}

/// Bytes of a body may not be text, and then hold no placeholder.
async fn write(stream: &mut TcpStream, bytes: &[u8], own_url: &str) {
    let bytes = match std::str::from_utf8(bytes) {
        Ok(text) => text.replace("$ORG", own_url).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    let _ = stream.write_all(&bytes).await;
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
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

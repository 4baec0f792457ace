//! The server, who may call it, and the look-ups that call one: `[server]`, `[client]`. Entry points: [`ServerConfig`],
//! [`ClientConfig`].
//!
//! Invariants:
//! - An address that other machines reach is listened on only with TLS and clients that are known, or where a key that says
//!   what it allows is set.
//! - The server's tokens are here as hashes only; a value that is none is never shown: it may be a token.
//! - The token of a configuration file goes to the server that the file names, not to one that is named elsewhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::access::{AccessFile, read_access};
use super::address::{is_of_this_machine, parse_listen, parse_listen_or_none, parse_server};
use super::error::{ConfigError, MASK, Source};
use super::layers::{Address, Effective, Reader};
use super::spec::{Choice, Given, Integer, Parsed, Size, Spec, Switch, quoted};
use crate::core::access::{Access, TOKEN_BYTES_MAX, TOKEN_RANDOM_BYTES};
use crate::core::secret::Secret;

/// Port of the server and of the look-ups that go to it.
const PORT_DEFAULT: u16 = 8450;

/// The gRPC server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen. Port 0: the system chooses.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are answered over HTTP. `None`: nowhere.
    pub http_listen: Option<SocketAddr>,
    /// TLS, if it is on. The files are read where they are used, and again when they change.
    pub tls: Option<ServerTlsConfig>,
    /// Who may call, as far as the configuration itself names them.
    pub access: Access,
    /// The file that names others, if there is one.
    pub access_file: Option<AccessFile>,
    /// Whether look-ups are logged with their callers; calls of `Admin` are in any case.
    pub audit_lookups: bool,
    /// Whether the reflection service is offered, so that tools find the methods by themselves.
    pub reflection: bool,
    /// Longest message that is accepted, in bytes.
    pub max_message_bytes: usize,
    /// Calls that one connection may have open at a time.
    pub max_concurrent_streams: u32,
    /// Connections at a time.
    pub max_connections: usize,
    /// Streams of `Changes.Watch` at a time, over all clients.
    pub max_watches: usize,
    /// Calls that one client may have open at a time, streams included.
    pub max_client_calls: usize,
    /// Streams of `Changes.Watch` that one client may have open at a time.
    pub max_client_watches: usize,
    /// Calls that one client may make in a second. `None`: any number.
    pub max_client_calls_per_second: Option<u32>,
    /// Bytes of answers that one client may leave untaken.
    pub max_client_answer_bytes: usize,
}

/// The files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTlsConfig {
    /// The server's certificate and those between it and a root, PEM.
    pub cert_file: PathBuf,
    /// Its private key, PEM.
    pub key_file: PathBuf,
    /// The roots of client certificates, PEM. `None`: clients are not asked for one.
    pub client_ca_file: Option<PathBuf>,
    /// Lists of client certificates that were revoked, PEM; only with the roots. `None`: nobody's certificate is looked up.
    pub client_crl_file: Option<PathBuf>,
    /// Whether a client without a certificate may connect all the same, to show a token.
    pub is_client_certificate_optional: bool,
}

/// The path of a file, or nothing.
const FILE: Parsed<Option<PathBuf>> = Parsed {
    default: || None,
    expected: "the path of a file, or nothing",
    read: |text| {
        if text.chars().any(char::is_control) {
            return Err("holds control characters: it takes the path of a file".to_owned());
        }
        Ok((!text.trim().is_empty()).then(|| PathBuf::from(text)))
    },
    // Only texts come in, so nothing is lost.
    write: |path| path.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
};

impl ServerConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        const LISTEN: Parsed<SocketAddr> = Parsed {
            default: || SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT),
            expected: "an address with a port",
            read: parse_listen,
            write: SocketAddr::to_string,
        };
        const HTTP_LISTEN: Parsed<Option<SocketAddr>> = Parsed {
            default: || None,
            expected: "an address with a port, or nothing",
            read: parse_listen_or_none,
            write: |address| address.map(|address| address.to_string()).unwrap_or_default(),
        };
        // gRPC's usual 4 MiB hold the largest batch (1,000 items) many times. Below 64 KiB a full page does not fit;
        // above 64 MiB some hundred clients could fill the memory with requests.
        const MESSAGE: Size = Size { default: 4 << 20, bounds: 64 << 10..=64 << 20 };
        // A client library opens one stream per call in flight; 200 per connection do not starve the others.
        const STREAMS: Integer<u32> = Integer { default: 200, bounds: 1..=10_000 };
        // A connection costs a descriptor and some ten KiB; systems allow 1,024 descriptors where nobody says otherwise,
        // and the stores need some of them.
        const CONNECTIONS: Integer<usize> = Integer { default: 800, bounds: 1..=100_000 };
        // An idle stream costs some twenty KiB and a message a second; a thousand that are told of a change at once are a burst
        // that others notice.
        const WATCHES: Integer<usize> = Integer { default: 1_000, bounds: 1..=100_000 };
        // Each open call may hold a message of max_message_bytes and an answer of 16 MiB.
        const CLIENT_CALLS: Integer<usize> = Integer { default: 200, bounds: 1..=100_000 };
        const CLIENT_WATCHES: Integer<usize> = Integer { default: 16, bounds: 1..=100_000 };
        // One answer of 16 MiB with what goes around it must fit; 256 MiB are sixteen of the largest, or thousands of pages.
        const ANSWERS: Size = Size { default: 256 << 20, bounds: 17 << 20..=2 << 30 };
        // A core answers some ten thousand point reads a second; more than a million is no limit.
        const CALLS_PER_SECOND: Integer<u32> = Integer { default: 0, bounds: 0..=1_000_000 };
        let listen = reader.take("server", "listen", &LISTEN, None);
        let http_listen = reader.take("server", "http_listen", &HTTP_LISTEN, None);
        // Two ports that the system chooses differ.
        if http_listen == Some(listen) && listen.port() != 0 {
            refuse(reader, "http_listen", format!("{listen} is also server.listen: gRPC has it"));
        }
        let http_is_remote = reader.take("server", "http_allow_remote", &Switch(false), None);
        if let Some(address) = http_listen.filter(|address| !address.ip().is_loopback() && !http_is_remote) {
            let reason = format!(
                "{address} is not a loopback address, and health and metrics are told without TLS and to everybody who \
                 asks: set server.http_allow_remote = true if the network may have them"
            );
            refuse(reader, "http_listen", reason);
        }
        let tls = read_tls(reader);
        let is_insecure_allowed = reader.take("server", "allow_insecure_remote", &Switch(false), None);
        let mut number = |key: &str, spec: &Integer<usize>| reader.take("server", key, spec, None);
        let max_connections = number("max_connections", &CONNECTIONS);
        let max_watches = number("max_watches", &WATCHES);
        let max_client_calls = number("max_client_calls", &CLIENT_CALLS);
        let max_client_watches = number("max_client_watches", &CLIENT_WATCHES);
        let per_second = reader.take("server", "max_client_calls_per_second", &CALLS_PER_SECOND, None);
        let max_client_answer_bytes = reader.take("server", "max_client_answer_bytes", &ANSWERS, None);
        let audit_lookups = reader.take("server", "audit_lookups", &Switch(false), None);
        let reflection = reader.take("server", "reflection", &Switch(true), None);
        let max_message_bytes = reader.take("server", "max_message_bytes", &MESSAGE, None);
        let max_concurrent_streams = reader.take("server", "max_concurrent_streams", &STREAMS, None);
        let access_file = reader.take("server", "access_file", &FILE, None);
        // The tables of clients last: `config` prints in this order, and behind a table's head there is no way back.
        let begun = if access_file.is_some() { Access::awaiting() } else { Access::default() };
        let access = read_access(reader, begun);
        check_access(reader, tls.as_ref(), &access);
        let asks_for_certificates = tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        let access_file = access_file.map(|path| AccessFile::new(path, access.clone(), asks_for_certificates));
        let is_exposed = !listen.ip().is_loopback() && !is_insecure_allowed;
        if is_exposed && (tls.is_none() || access.is_open()) {
            refuse(reader, "listen", exposed(listen, tls.is_none(), access.is_open()));
        }
        Self {
            listen,
            http_listen,
            tls,
            access,
            access_file,
            audit_lookups,
            reflection,
            max_message_bytes,
            max_concurrent_streams,
            max_connections,
            max_watches,
            max_client_calls,
            max_client_watches,
            max_client_calls_per_second: (per_second > 0).then_some(per_second),
            max_client_answer_bytes,
        }
    }
}

fn exposed(listen: SocketAddr, lacks_tls: bool, lacks_clients: bool) -> String {
    let lacks = match (lacks_tls, lacks_clients) {
        (true, true) => {
            "without TLS and without authentication anyone who reaches it could read who is who; set \
             server.tls_cert_file and server.tls_key_file, and [server.tokens], [server.clients] or server.access_file"
        }
        (true, false) => {
            "without TLS tokens and answers could be read on the way; set server.tls_cert_file and server.tls_key_file"
        }
        (false, _) => {
            "without authentication anyone who reaches it could read who is who; set [server.tokens] or \
             server.tls_client_ca_file and [server.clients], here or in a server.access_file"
        }
    };
    format!(
        "{listen} is not a loopback address, and {lacks}; where something in front of it does both, \
         server.allow_insecure_remote = true"
    )
}

fn refuse(reader: &mut Reader<'_>, key: &str, reason: String) {
    let at = reader.source_of_base("server", key);
    reader.problems.push(ConfigError::Refused { at, key: format!("server.{key}"), reason });
}

fn read_tls(reader: &mut Reader<'_>) -> Option<ServerTlsConfig> {
    const CLIENT_CERTIFICATE: Choice<bool> =
        Choice { default: false, words: &[("required", false), ("optional", true)] };
    let cert_file = reader.take("server", "tls_cert_file", &FILE, None);
    let key_file = reader.take("server", "tls_key_file", &FILE, None);
    let client_ca_file = reader.take("server", "tls_client_ca_file", &FILE, None);
    let client_crl_file = reader.take("server", "tls_client_crl_file", &FILE, None);
    let is_client_certificate_optional = reader.take("server", "tls_client_certificate", &CLIENT_CERTIFICATE, None);
    if client_crl_file.is_some() && client_ca_file.is_none() {
        let reason = "is about certificates that nobody is asked for: set server.tls_client_ca_file, too".to_owned();
        refuse(reader, "tls_client_crl_file", reason);
    }
    match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Some(ServerTlsConfig {
            cert_file,
            key_file,
            client_ca_file,
            client_crl_file,
            is_client_certificate_optional,
        }),
        (None, None) => {
            if client_ca_file.is_some() {
                let reason = "works with TLS only: set server.tls_cert_file and server.tls_key_file, too".to_owned();
                refuse(reader, "tls_client_ca_file", reason);
            }
            None
        }
        (Some(_), None) => {
            refuse(reader, "tls_cert_file", "needs its private key: set server.tls_key_file, too".to_owned());
            None
        }
        (None, Some(_)) => {
            refuse(reader, "tls_key_file", "needs its certificate: set server.tls_cert_file, too".to_owned());
            None
        }
    }
}

fn check_access(reader: &mut Reader<'_>, tls: Option<&ServerTlsConfig>, access: &Access) {
    let asks_for_certificates = tls.is_some_and(|tls| tls.client_ca_file.is_some());
    if access.has_certificates() && !asks_for_certificates {
        let reason = "names certificates that nobody is asked for: set server.tls_client_ca_file, too".to_owned();
        refuse_table(reader, "clients", reason);
    }
    // Else a mistake in these tables is told already.
    if asks_for_certificates && access.is_open() && reader.problems.is_empty() {
        let reason =
            "gives no right by itself: name clients in [server.clients], or tokens in [server.tokens], here or in a \
             server.access_file"
                .to_owned();
        refuse(reader, "tls_client_ca_file", reason);
    }
}

/// Points at the first entry of a table.
fn refuse_table(reader: &mut Reader<'_>, table: &str, reason: String) {
    let section = format!("server.{table}");
    let first = reader.record.iter().find(|effective| effective.address.section == section);
    let at = first.map_or(Source::Default, |effective| effective.source.clone());
    reader.problems.push(ConfigError::Refused { at, key: section, reason });
}

/// The look-ups of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The server that look-ups go to: `https://host:port`, or `http://` on a loopback host. Follows `server.listen` where it is
    /// not given.
    pub server: String,
    /// Whether it is another one than that of `server.listen`. Then it is meant; else it is asked if it answers.
    pub is_other: bool,
    /// The token that is sent to it, and to no other.
    pub token: Option<ClientToken>,
    /// Why there is a token that is not sent.
    pub token_withheld: Option<Withheld>,
    /// The roots that its certificate is believed by, PEM; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate with those above it, and its key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Why a token is not sent to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It is of the configuration file, and meant for the server of that file.
    ForAnother,
    /// It is from elsewhere, and only a configuration file names the server, which is another machine.
    LedAway,
}

/// Where a client's token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientToken {
    /// Here.
    Inline(Secret),
    /// In this file, which is read when the token is needed.
    File(PathBuf),
}

impl ClientConfig {
    pub(super) fn read(reader: &mut Reader<'_>, server: &ServerConfig) -> Self {
        const SERVER: Parsed<String> = Parsed {
            default: || format!("http://127.0.0.1:{PORT_DEFAULT}"),
            expected: "the address of a server, such as \"https://idmap.example.com:8450\"",
            read: parse_server,
            write: String::clone,
        };
        // Whoever moves the server means its own look-ups to follow. A port that the system chooses is not known here.
        let scheme = if server.tls.is_some() { "https" } else { "http" };
        let follows = (server.listen.port() != 0).then(|| format!("{scheme}://{}", reachable(server.listen)));
        let of_file = reader.layers.get(None, "client", "server").iter().find(|given| given.source.rank() == FILE_RANK);
        let of_file = of_file.and_then(|given| SERVER.parse(&given.raw).ok());
        let meant = of_file.or_else(|| follows.clone());
        let server = reader.take("client", "server", &SERVER, follows.as_ref());
        reader.follow_source(("client", "server"), ("server", "listen"));
        let is_other = server != follows.unwrap_or_else(SERVER.default);
        let (token, token_rank) = read_token(reader);
        let server_given = reader.layers.get(None, "client", "server").first();
        let is_elsewhere = server_given.is_some_and(|given| given.source.rank() < FILE_RANK);
        let is_for_another = token_rank == Some(FILE_RANK) && is_elsewhere && meant.as_ref() != Some(&server);
        // Nor where the working directory, and so whoever wrote a file there, would choose who gets the token of this user.
        let is_led_away =
            token_rank.is_some_and(|rank| rank < FILE_RANK) && !is_elsewhere && !is_of_this_machine(&server);
        let token_withheld = match (is_for_another, is_led_away) {
            (true, _) => Some(Withheld::ForAnother),
            (false, true) => Some(Withheld::LedAway),
            (false, false) => None,
        };
        let ca_file = reader.take("client", "ca_file", &FILE, None);
        let cert_file = reader.take("client", "cert_file", &FILE, None);
        let key_file = reader.take("client", "key_file", &FILE, None);
        let certificate = match (cert_file, key_file) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (certificate, _) => {
                let (key, other) =
                    if certificate.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
                let at = reader.source_of_base("client", key);
                let reason = format!("is of no use alone: set client.{other}, too");
                reader.problems.push(ConfigError::Refused { at, key: format!("client.{key}"), reason });
                None
            }
        };
        let token = token.filter(|_| token_withheld.is_none());
        Self { server, is_other, token, token_withheld, ca_file, certificate }
    }
}

/// [`Source::rank`] of the configuration file.
const FILE_RANK: u8 = 2;

/// Where this machine reaches a server that listens on every address of it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), listen.port())
        }
        _ => listen,
    }
}

/// The token of the higher source; the other form is not looked at.
fn read_token(reader: &mut Reader<'_>) -> (Option<ClientToken>, Option<u8>) {
    let layers = reader.layers;
    let inline = layers.get(None, "client", "token").first();
    let file = layers.get(None, "client", "token_file").first();
    let path = reader.take("client", "token_file", &FILE, None);
    let (inline_rank, file_rank) = (inline.map(|given| given.source.rank()), file.map(|given| given.source.rank()));
    let token = inline.filter(|_| file_rank.is_none_or(|rank| inline_rank.is_some_and(|inline| inline <= rank)));
    if let (Some(inline), Some(file)) = (inline, file)
        && inline_rank == file_rank
        && path.is_some()
    {
        let (first, second) = (inline.source.clone(), file.source.clone());
        reader.problems.push(ConfigError::GivenTwice { key: "the token of the client".to_owned(), first, second });
    }
    reader.record.push(Effective {
        address: Address::new(None, "client", "token"),
        rendered: token.map_or_else(String::new, |_| quoted(MASK)),
        source: token.map_or(Source::Default, |given| given.source.clone()),
        inherited: false,
        expects: "a token of the server".to_owned(),
    });
    match token {
        Some(given) => match inline_token(given) {
            Ok(token) => (Some(ClientToken::Inline(token)), inline_rank),
            Err(problem) => {
                let (at, key) = (given.source.clone(), "client.token".to_owned());
                reader.problems.push(ConfigError::Secret { at, key, problem });
                (None, None)
            }
        },
        None => (path.map(ClientToken::File), file_rank),
    }
}

fn inline_token(given: &Given) -> Result<Secret, &'static str> {
    match given.raw.text().map(str::trim) {
        Some(MASK) => Err("is the mask that `okta-idmap config` prints in its place"),
        Some(text) => check_token(text).map(|()| Secret::new(text.to_owned())),
        None => Err("is not a text in quotes"),
    }
}

/// Whether it can be sent as a token; what is wrong is said without it.
pub(crate) fn check_token(token: &str) -> Result<(), &'static str> {
    if token.len() < TOKEN_RANDOM_BYTES {
        Err("is too short: `okta-idmap config token` makes tokens of 48 characters")
    } else if token.len() > TOKEN_BYTES_MAX {
        Err("has more than 256 bytes, which no token has")
    } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err("holds blanks, line breaks or characters that no token has")
    } else {
        Ok(())
    }
}

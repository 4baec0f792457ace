//! Requests and replies as plain data, between the sockets and the org.
//!
//! Entry points: [`Request`], [`Reply`], `Params`.

use percent_encoding::percent_decode_str;

/// A request, parsed but not interpreted.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method, upper case as sent.
    pub method: String,
    /// Path, still percent-encoded.
    pub path: String,
    /// Query without `?`, still percent-encoded.
    pub query: String,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Body, as text; only the token request has one that matters.
    pub body: String,
}

impl Request {
    /// A GET of a path with query.
    pub fn get(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// A POST of a form.
    pub fn post_form(path: &str, body: &str) -> Self {
        let mut request = Self::get(path).with_header("Content-Type", "application/x-www-form-urlencoded");
        "POST".clone_into(&mut request.method);
        body.clone_into(&mut request.body);
        request
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// How the bytes of a reply go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Wait this long before the first byte, in milliseconds.
    pub delay_ms: u64,
    /// Spread the body over this long, in milliseconds.
    pub slow_body_ms: u64,
    /// Announce the whole body, send half, close.
    pub truncated: bool,
    /// Reset the connection instead of answering.
    pub reset: bool,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
    /// How it is delivered.
    pub delivery: Delivery,
}

impl Reply {
    /// All values of a header.
    pub fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Percent-decodes; `+` is a space in queries. Bytes that are no UTF-8 become replacement characters.
pub(crate) fn decode(text: &str, is_query: bool) -> String {
    let plus_free = if is_query { text.replace('+', " ") } else { text.to_owned() };
    percent_decode_str(&plus_free).decode_utf8_lossy().into_owned()
}

/// The parameters of a query, decoded on demand.
pub(crate) struct Params<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Params<'a> {
    pub(crate) fn new(query: &'a str) -> Self {
        Self(
            query
                .split('&')
                .filter(|pair| !pair.is_empty())
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .collect(),
        )
    }

    /// The decoded value of a parameter; empty values count as absent.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.0.iter().find(|(key, _)| decode(key, true) == name)?;
        Some(decode(value, true)).filter(|value| !value.is_empty())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The pairs as sent, without the named ones.
    pub(crate) fn without(&self, names: &[&str]) -> Vec<(&'a str, &'a str)> {
        self.0.iter().filter(|(key, _)| !names.contains(&decode(key, true).as_str())).copied().collect()
    }
}

/// The usual reason phrase of a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        423 => "Locked",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

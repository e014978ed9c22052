//! One HTTP/1.1 exchange, as small as it can be: the tests want to see exactly what was sent and came.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::{API_VERSION, Endpoint, RawSocket, Token, json_object};

/// A request to be sent. A REST call is signed with the endpoint's key for its own URL unless told
/// otherwise.
#[derive(Debug)]
pub struct Request {
    endpoint: Endpoint,
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    authorization: Authorization,
    body: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Authorization {
    /// As the SDKs sign: the audience is the URL with its query.
    Signed,
    Given(String),
    None,
}

impl Request {
    /// A REST call: with `api-version`, signed.
    pub(crate) fn rest(endpoint: Endpoint, method: &str, path: &str) -> Self {
        let plain = Self::plain(endpoint, method, path).query("api-version", API_VERSION);
        Self { authorization: Authorization::Signed, ..plain }
    }

    /// A request with nothing added.
    pub(crate) fn plain(endpoint: Endpoint, method: &str, path: &str) -> Self {
        Self {
            endpoint,
            method: method.to_owned(),
            path: path.to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            authorization: Authorization::None,
            body: None,
        }
    }

    /// Adds a query parameter; both parts are percent-encoded here.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((encode(name), encode(value)));
        self
    }

    /// Takes every query parameter out, `api-version` too.
    pub fn no_query(mut self) -> Self {
        self.query.clear();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends this token instead.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.authorization = Authorization::Given(token.into());
        self
    }

    /// Sends no token.
    pub fn no_token(mut self) -> Self {
        self.authorization = Authorization::None;
        self
    }

    /// A `text/plain` body.
    pub fn text(self, body: &str) -> Self {
        self.body("text/plain; charset=utf-8", body)
    }

    /// An `application/json` body.
    pub fn json(self, body: &str) -> Self {
        self.body("application/json", body)
    }

    /// An `application/octet-stream` body.
    pub fn binary(self, body: &[u8]) -> Self {
        self.body("application/octet-stream", body)
    }

    /// A body of any type.
    pub fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.header("Content-Type", content_type).untyped_body(body)
    }

    /// A body without a Content-Type.
    pub fn untyped_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// The URL this request is for, query included: what the SDKs sign.
    pub fn url(&self) -> String {
        format!("{}{}", self.endpoint.url(), self.target())
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target(), self.endpoint.addr);
        let token = match &self.authorization {
            Authorization::Signed => Some(Token::new(&self.url()).sign(&self.endpoint.key)),
            Authorization::Given(token) => Some(token.clone()),
            Authorization::None => None,
        };
        if let Some(token) = token {
            let _ = write!(head, "Authorization: Bearer {token}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        } else if self.method == "POST" || self.method == "PUT" {
            head.push_str("Content-Length: 0\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    /// Sends it on a connection of its own and reads the answer.
    #[track_caller]
    pub fn send(&self) -> Response {
        let mut socket = self.endpoint.raw();
        self.send_on(&mut socket)
    }

    /// Sends it on an open connection and reads the answer.
    #[track_caller]
    pub fn send_on(&self, socket: &mut RawSocket) -> Response {
        socket.write(self.bytes());
        socket.read_response_to(&self.method)
    }

    /// Sends it and expects that status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Response {
        let response = self.send();
        assert_eq!(response.status, status, "{} {}: {response:?}", self.method, self.target());
        response
    }

    /// Sends it on an open connection and expects that status.
    #[track_caller]
    pub fn expect_on(&self, socket: &mut RawSocket, status: u16) -> Response {
        let response = self.send_on(socket);
        assert_eq!(response.status, status, "{} {}: {response:?}", self.method, self.target());
        response
    }

    fn target(&self) -> String {
        let mut target = self.path.clone();
        for (at, (name, value)) in self.query.iter().enumerate() {
            target.push(if at == 0 && !self.path.contains('?') { '?' } else { '&' });
            let _ = write!(target, "{name}={value}");
        }
        target
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names in lower case and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Response {
    /// The one header of that name (lower case); panics when there are two.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        first
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text body")
    }

    /// The body as a JSON object.
    #[track_caller]
    pub fn object(&self) -> Map<String, Value> {
        json_object(self.text())
    }

    /// Checks an error's form (`rest-api` §1.5): JSON, the code in header and body, a message for people.
    #[track_caller]
    pub fn expect_error(&self, code: &str) -> String {
        assert_eq!(self.header("content-type").map(media_type), Some("application/json"), "{self:?}");
        assert_eq!(self.header("x-ms-error-code"), Some(code), "{self:?}");
        let body = self.object();
        assert_eq!(body.get("code"), Some(&json!(code)), "{self:?}");
        let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
        assert!(message.len() > 5, "a message for people: {self:?}");
        message.to_owned()
    }

    /// Checks that there is an empty body, announced as such unless the status says it.
    #[track_caller]
    pub fn expect_empty(&self) {
        assert!(self.body.is_empty(), "{self:?}");
        if self.status != 204 {
            assert_eq!(self.header("content-length"), Some("0"), "{self:?}");
        }
    }
}

/// Reads one response to a request with `method`.
#[track_caller]
pub(crate) fn read_response(socket: &mut RawSocket, method: &str) -> Response {
    let head = socket.read_through(b"\r\n\r\n");
    let head = String::from_utf8(head).expect("an ASCII head");
    let mut lines = head.trim_end().split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    // Clients of HTTP/1.0 are answered in it.
    let rest = status_line.strip_prefix("HTTP/1.1 ").or_else(|| status_line.strip_prefix("HTTP/1.0 "));
    let status = rest.and_then(|rest| rest.get(..3)).and_then(|s| s.parse().ok());
    let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    let mut response = Response { status, headers: headers.collect(), body: Vec::new() };
    let bodiless = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
    if bodiless {
        return response;
    }
    if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        response.body = read_chunks(socket);
    } else if let Some(len) = response.header("content-length") {
        let len = len.parse().unwrap_or_else(|_| panic!("not a length: {len:?}"));
        response.body = socket.read_exact(len);
    } else {
        response.body = socket.read_to_end();
    }
    response
}

#[track_caller]
fn read_chunks(socket: &mut RawSocket) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = socket.read_through(b"\r\n");
        let line = String::from_utf8_lossy(&line);
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
        body.extend(socket.read_exact(size));
        socket.read_exact(2);
        if size == 0 {
            return body;
        }
    }
}

fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

//! The head of an HTTP/1.1 request, read strictly, and the plainest response.
//!
//! Every request head of a connection passes here first, be it a WebSocket upgrade, a REST call or one more
//! request on a kept-alive connection. What must stay true: where a request ends is never a matter of
//! opinion. Whatever two HTTP implementations could read differently (two lengths, a length and a transfer
//! coding, a bare line feed, a folded header) is refused and the connection closed, so nothing behind or in
//! front of us can be made to see other requests than we do (`reliability` checks 4, 5). Whatever passes is
//! also accepted by `httparse` and so by what reads the body.
//!
//! [`Chunks`] finds the end of chunked bodies, and [`parse_response`] reads what other servers answer to us.

mod chunked;
mod response;

pub use chunked::{CHUNK_LINE_BYTES_MAX, ChunkFault, Chunks, Part};
pub use response::{Answer, ResponseBody, ResponseHead, parse_response};

use std::fmt::Write as _;

/// Bounds of a request head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Largest head in bytes, request line and final empty line included.
    pub head_bytes_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes_max: 16 * 1024 }
    }
}

/// Most headers of a request, and of an answer.
pub const HEADERS_MAX: usize = 100;

/// Why a request is refused: answer with `status` and close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct HeadFault {
    /// 400, 414, 417, 431 or 505.
    pub status: u16,
    /// What is wrong with it, for the client's developer.
    pub reason: &'static str,
}

/// A request head that means one thing only. Borrows from the received bytes.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    /// The method as sent; methods are case-sensitive.
    pub method: &'a str,
    /// The request target as sent, in ASCII.
    pub target: &'a str,
    /// Whether the request is HTTP/1.1; else it is HTTP/1.0.
    pub is_http_11: bool,
    /// Length of the head in bytes; the body, or the next request, follows.
    pub consumed: usize,
    /// How long the body is.
    pub body: BodyLength,
    /// Whether the connection may be used for another request afterwards (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1).
    pub expects_continue: bool,
    path: &'a str,
    query: Option<&'a str>,
    headers: Vec<httparse::Header<'a>>,
}

/// How the body of a request is framed (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// `Content-Length`, or 0 without one, in bytes.
    Known(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Reads one request head from the start of `bytes`; `None` when its end has not arrived yet.
///
/// # Errors
///
/// [`HeadFault`] with 414 or 431 as soon as the request line or the whole head exceeds the limit, 431 for
/// more than [`HEADERS_MAX`] headers, 505 for another version of HTTP, 417 for an expectation other than
/// `100-continue`, 400 for everything else that is wrong; also before the end of the head where it shows.
pub fn parse_head<'a>(bytes: &'a [u8], limits: &HeadLimits) -> Result<Option<Head<'a>>, HeadFault> {
    let within = &bytes[..bytes.len().min(limits.head_bytes_max)];
    let mut storage = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut storage);
    let status = request.parse(within).map_err(|error| syntax_fault(error, within))?;
    let consumed = match status {
        httparse::Status::Complete(consumed) => consumed,
        httparse::Status::Partial => {
            check_line_ends(within)?;
            if within.len() < limits.head_bytes_max {
                return Ok(None);
            }
            return Err(if within.trim_ascii_start().contains(&b'\n') {
                HeadFault { status: 431, reason: "the request head is larger than the limit" }
            } else {
                HeadFault { status: 414, reason: "the request line is longer than the limit" }
            });
        }
    };
    check_line_ends(&within[..consumed])?;

    let method = request.method.unwrap_or_default();
    let target = request.path.unwrap_or_default();
    let is_http_11 = request.version == Some(1);
    let (authority, path, query) = split_target(method, target)?;
    let mut head = Head {
        method,
        target,
        is_http_11,
        consumed,
        body: BodyLength::Known(0),
        keep_alive: is_http_11,
        expects_continue: false,
        path,
        query,
        headers: request.headers.to_vec(),
    };
    head.check_host(authority)?;
    head.body = head.body_length()?;
    head.keep_alive = if is_http_11 {
        !head.lists_token("connection", "close")
    } else {
        head.lists_token("connection", "keep-alive") && !head.lists_token("connection", "close")
    };
    head.expects_continue = head.expectation()?;
    Ok(Some(head))
}

impl<'a> Head<'a> {
    /// The path as sent, still percent-encoded; starts with `/`, or is `*` for `OPTIONS *`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the first `?`, still percent-encoded; see [`query_pairs`](crate::uri::query_pairs).
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The first header called `name`, ignoring case; `None` also if its value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all headers called `name`, ignoring case, in order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers, as spelled and in order. Values have no control characters but tabs, nor white space at
    /// their ends, and need not be UTF-8.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// The elements of the comma-separated list that all headers called `name` make up (RFC 9110 §5.6.1);
    /// empty ones are passed over.
    pub(crate) fn list(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.header_values(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }

    /// Whether the list that `name` makes up has `token`, ignoring case.
    pub(crate) fn lists_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The value of the one header called `name`; an error when there are several.
    pub(crate) fn single(&self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.header_values(name);
        let first = values.next();
        if values.next().is_some() { Err(Repeated) } else { Ok(first) }
    }

    /// RFC 9112 §3.2. A target that names another host than the header would have us believe one of them, and
    /// whoever stands in front of us the other.
    fn check_host(&self, authority: Option<&str>) -> Result<(), HeadFault> {
        let host = self.single("host").map_err(|_| HeadFault::bad("there is more than one Host header"))?;
        match host {
            Some(host) if authority.is_some_and(|named| !host.eq_ignore_ascii_case(named.as_bytes())) => {
                Err(HeadFault::bad("the Host header is not the host of the request target"))
            }
            Some(host) if is_authority(host) => Ok(()),
            Some(_) => Err(HeadFault::bad("the Host header is not a host and port")),
            None if self.is_http_11 => Err(HeadFault::bad("the Host header is missing")),
            None => Ok(()),
        }
    }

    /// RFC 9112 §6.3, less everything it tolerates.
    fn body_length(&self) -> Result<BodyLength, HeadFault> {
        let length = self
            .single("content-length")
            .map_err(|_| HeadFault::bad("there is more than one Content-Length header"))?;
        let coding = self
            .single("transfer-encoding")
            .map_err(|_| HeadFault::bad("there is more than one Transfer-Encoding header"))?;
        match (length, coding) {
            (None, None) => Ok(BodyLength::Known(0)),
            (Some(_), Some(_)) => {
                Err(HeadFault::bad("there are both a Content-Length and a Transfer-Encoding header"))
            }
            (Some(length), None) => decimal(length)
                .map(BodyLength::Known)
                .ok_or(HeadFault::bad("the Content-Length header is not a plain decimal number")),
            (None, Some(_)) if !self.is_http_11 => {
                Err(HeadFault::bad("Transfer-Encoding does not exist in HTTP/1.0"))
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(BodyLength::Chunked),
            (None, Some(_)) => Err(HeadFault::bad("the only Transfer-Encoding taken is chunked")),
        }
    }

    /// RFC 9110 §10.1.1: HTTP/1.0 clients cannot wait for an interim answer.
    fn expectation(&self) -> Result<bool, HeadFault> {
        let mut expectations = self.list("expect");
        match expectations.next() {
            None => Ok(false),
            Some(first) if first.eq_ignore_ascii_case(b"100-continue") && expectations.next().is_none() => {
                Ok(self.is_http_11)
            }
            Some(_) => Err(HeadFault { status: 417, reason: "the only expectation met is 100-continue" }),
        }
    }
}

/// A header that may come once came more often.
#[derive(Debug)]
pub(crate) struct Repeated;

impl HeadFault {
    const fn bad(reason: &'static str) -> Self {
        Self { status: 400, reason }
    }
}

/// Appends a whole response that ends the connection: `Content-Length` and `Connection: close` are added.
///
/// Names and values in `extra_headers` must be legal (no line ends); they are never taken from a request
/// without being parsed first.
pub fn write_refusal(
    out: &mut Vec<u8>,
    status: u16,
    extra_headers: &[(&str, &str)],
    content_type: &str,
    body: &[u8],
) {
    // Formatting into a `String` cannot fail.
    let mut head = String::with_capacity(160);
    let _ = write!(
        head,
        "HTTP/1.1 {status} {}\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n",
        reason_phrase(status),
        body.len(),
    );
    for (name, value) in extra_headers {
        debug_assert!(!name.contains(['\r', '\n', ':']) && !value.contains(['\r', '\n']), "{name}");
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// The phrase that goes with a status; empty for one we never send (RFC 9112 §4 allows that).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// What `httparse` refused, as an answer.
fn syntax_fault(error: httparse::Error, bytes: &[u8]) -> HeadFault {
    match error {
        httparse::Error::TooManyHeaders => {
            HeadFault { status: 431, reason: "there are more than 100 headers" }
        }
        httparse::Error::Version => {
            let line = bytes.trim_ascii_start().split(|&byte| byte == b'\n').next().unwrap_or_default();
            let version = line.split(|&byte| byte == b' ').nth(2).unwrap_or_default();
            match version {
                [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', ..] => {
                    HeadFault { status: 505, reason: "only HTTP/1.1 and HTTP/1.0 are spoken here" }
                }
                _ => HeadFault::bad("the request line is malformed"),
            }
        }
        httparse::Error::HeaderName => HeadFault::bad("a header's name is malformed"),
        httparse::Error::HeaderValue => HeadFault::bad("a header's value has a control character"),
        _ => HeadFault::bad("the request line is malformed"),
    }
}

/// Every line ends with CR LF, and neither stands anywhere else: RFC 9112 §2.2 lets a recipient take a bare
/// line feed for a line end, and that is how two of them come to disagree.
fn check_line_ends(head: &[u8]) -> Result<(), HeadFault> {
    let mut after_cr = false;
    for &byte in head {
        if (byte == b'\n') != after_cr {
            return Err(HeadFault::bad("a line does not end with carriage return and line feed"));
        }
        after_cr = byte == b'\r';
    }
    Ok(())
}

/// Authority, path and query.
type Target<'a> = (Option<&'a str>, &'a str, Option<&'a str>);

/// The parts of a request target (RFC 9112 §3.2): `/path?query`, the same behind `http://authority`, or `*` for
/// `OPTIONS`.
fn split_target<'a>(method: &str, target: &'a str) -> Result<Target<'a>, HeadFault> {
    let fault = HeadFault::bad("the request target is malformed");
    // A fragment never travels, and `httparse` lets bytes beyond ASCII pass.
    if target.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(fault);
    }
    let (authority, origin_form) = if target.starts_with('/') {
        (None, target)
    } else if target == "*" {
        return if method == "OPTIONS" { Ok((None, target, None)) } else { Err(fault) };
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(fault)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(fault);
        }
        let path_start = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, origin_form) = rest.split_at(path_start);
        if !is_authority(authority.as_bytes()) {
            return Err(fault);
        }
        (Some(authority), origin_form)
    };
    let (path, query) = match origin_form.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (origin_form, None),
    };
    // An absolute target without a path means the root (RFC 9110 §4.2.3).
    Ok((authority, if path.is_empty() { "/" } else { path }, query))
}

/// Whether `value` has the form of `host[:port]`; not empty, and no user, list, path or white space.
pub(crate) fn is_authority(value: &[u8]) -> bool {
    let host_end = if value.starts_with(b"[") {
        value.iter().position(|&byte| byte == b']').map_or(0, |end| end + 1)
    } else {
        value.iter().position(|&byte| byte == b':').unwrap_or(value.len())
    };
    let (host, port) = value.split_at(host_end);
    let host_is_legal = match host {
        [] => false,
        [b'[', address @ .., b']'] => {
            str::from_utf8(address).is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok())
        }
        name => {
            let is_escape = |rest: &[u8]| rest.len() >= 2 && rest[..2].iter().all(u8::is_ascii_hexdigit);
            name.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(b))
                && name.split(|&b| b == b'%').skip(1).all(is_escape)
        }
    };
    let port_is_legal = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_is_legal && port_is_legal
}

/// One or more digits and nothing else; `None` also beyond `u64`.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024 };

    fn parse(text: &str) -> Result<Option<Head<'_>>, HeadFault> {
        parse_head(text.as_bytes(), &LIMITS)
    }

    fn head(text: &str) -> Head<'_> {
        parse(text).expect("accepted").expect("complete")
    }

    fn status(text: &str) -> u16 {
        parse(text).expect_err(text).status
    }

    #[test]
    fn reads_a_request_in_any_split() {
        let text = "POST /api/hubs/chat/:send?api-version=2024-12-01&a=b?c HTTP/1.1\r\nhost: localhost:8080\r\n\
                    Content-Type: text/plain\r\nContent-Length: 5\r\nX-Odd: \u{e4}\r\n\r\nhello";
        let head = head(text);
        assert_eq!((head.method, head.path()), ("POST", "/api/hubs/chat/:send"));
        assert_eq!(head.query(), Some("api-version=2024-12-01&a=b?c"));
        assert_eq!(head.header("CONTENT-type"), Some("text/plain"));
        assert_eq!(head.header("accept"), None);
        assert_eq!(head.headers().count(), 4);
        assert_eq!((head.body, head.keep_alive, head.expects_continue), (BodyLength::Known(5), true, false));
        assert_eq!(&text[head.consumed..], "hello");
        for cut in 0..head.consumed {
            assert!(matches!(parse_head(&text.as_bytes()[..cut], &LIMITS), Ok(None)), "cut at {cut}");
        }
    }

    #[test]
    fn reads_every_form_of_target() {
        for (line, path, query) in [
            ("GET / HTTP/1.1", "/", None),
            ("GET /? HTTP/1.1", "/", Some("")),
            ("GET //a/../b HTTP/1.1", "//a/../b", None),
            ("GET http://h/a?b HTTP/1.1", "/a", Some("b")),
            ("GET HTTPS://H HTTP/1.1", "/", None),
            ("GET http://h?b HTTP/1.1", "/", Some("b")),
            ("OPTIONS * HTTP/1.1", "*", None),
        ] {
            let text = format!("{line}\r\nHost: h\r\n\r\n");
            let head = head(&text);
            assert_eq!((head.path(), head.query()), (path, query), "{line}");
        }
        for line in [
            "GET * HTTP/1.1",
            "GET a HTTP/1.1",
            "CONNECT h:80 HTTP/1.1",
            "GET ftp://h/ HTTP/1.1",
            "GET http:///a HTTP/1.1",
            "GET http://u@h/a HTTP/1.1",
            "GET http://other/a HTTP/1.1",
            "GET http://h:80/a HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /\u{e4} HTTP/1.1",
        ] {
            assert_eq!(status(&format!("{line}\r\nHost: h\r\n\r\n")), 400, "{line}");
        }
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for headers in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\ncontent-length: 2\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 1 1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Content-Length : 1\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
            "Transfer-Encoding:\u{b}chunked\r\n",
            "Transfer-Encoding: chunked;a=b\r\n",
            "Transfer-Encoding: \r\n",
            "Transfer-Encoding : chunked\r\n",
            "A: b\r\n c\r\n",
            "A: b\r\n\tc\r\n",
            " A: b\r\n",
            "A: b\0c\r\n",
            "A: b\u{7f}c\r\n",
            "A: b\rc\r\n",
            "A: b\r\r\n",
            "A: b\n",
            "A\0: b\r\n",
            "A\r\n",
            ": b\r\n",
            "Host: h\r\n",
            "host: other\r\n",
        ] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")), 400, "{headers:?}");
        }
        for request in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP\r\nHost: h\r\n\r\n",
            "GET /\r\n",
            "\x16\x03\x01\x02",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(status(request), 400, "{request:?}");
        }
    }

    #[test]
    fn takes_every_legal_host_and_length() {
        for host in ["h", "h:80", "h:", "10.0.0.1:8080", "[::1]", "[::1]:80", "a-b.example.com"] {
            head(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        }
        head("GET / HTTP/1.0\r\n\r\n");
        head("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let chunked = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:  Chunked \r\n\r\n";
        assert_eq!(head(chunked).body, BodyLength::Chunked);
        let padded = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 007\r\n\r\n";
        assert_eq!(head(padded).body, BodyLength::Known(7));
    }

    #[test]
    fn a_host_that_is_no_address_in_its_brackets_is_refused() {
        for host in ["[::1]", "[2001:db8::1]:8080", "[::ffff:10.0.0.1]"] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for host in [
            "[]",
            "[1]",
            "[:]",
            "[2001:ddb8:::43::1]:440",
            "[1.2.3.4]",
            "[::1",
            "[::g]",
            "[1:2:3:4:5:6:7:8:9]",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }

    /// It was taken, and by others is not.
    #[test]
    fn a_host_with_a_broken_escape_is_refused() {
        for host in ["a%", "a%1", "a%zz", "%1g", "a%41%"] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), 400, "{host}");
        }
        head("GET / HTTP/1.1\r\nHost: a%41%2e\r\n\r\n");
    }

    #[test]
    fn refuses_other_versions_and_expectations() {
        assert_eq!(status("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
        assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505);
        assert_eq!(status("GET / HTTP/1.2\r\nHost: h\r\n\r\n"), 505);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: h\r\nExpect: gold\r\n\r\n"), 417);
        assert!(head("GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n\r\n").expects_continue);
        assert!(!head("GET / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\n\r\n").expects_continue);
    }

    #[test]
    fn knows_when_a_connection_stays() {
        for (version, connection, stays) in [
            ("1.1", "", true),
            ("1.1", "Connection: Close\r\n", false),
            ("1.1", "Connection: foo, close\r\n", false),
            ("1.1", "Connection: foo\r\nConnection: close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let text = format!("GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
            assert_eq!(head(&text).keep_alive, stays, "{version} {connection}");
        }
    }

    #[test]
    fn bounds_the_head() {
        let limits = HeadLimits { head_bytes_max: 64 };
        let exact = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(64 - 26));
        assert!(matches!(parse_head(exact.as_bytes(), &limits), Ok(Some(head)) if head.consumed == 64));
        // One byte more, complete or not, and bytes of a next request after it.
        let over = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\nGET", "h".repeat(64 - 25));
        for end in [64, 65, over.len()] {
            let fault = parse_head(&over.as_bytes()[..end], &limits).expect_err("too large");
            assert_eq!(fault.status, 431, "{end} bytes");
        }
        let long_line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(64));
        assert_eq!(parse_head(long_line.as_bytes(), &limits).expect_err("too long").status, 414);

        let many =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
        assert_eq!(head(&many(HEADERS_MAX)).headers().count(), HEADERS_MAX);
        assert_eq!(status(&many(HEADERS_MAX + 1)), 431);
    }

    #[test]
    fn writes_a_refusal_that_ends_the_connection() {
        let mut out = Vec::new();
        write_refusal(&mut out, 426, &[("Sec-WebSocket-Version", "13")], "text/plain", b"no");
        assert_eq!(
            std::str::from_utf8(&out),
            Ok("HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Type: text/plain\r\n\
                Content-Length: 2\r\nSec-WebSocket-Version: 13\r\n\r\nno")
        );
    }
}

//! As much HTTP/1.1 as REST senders need: keep-alive, a body of known length, an empty answer.

use std::io::{Read, Write};
use std::net::TcpStream;

/// One request.
pub(crate) struct Request {
    /// Path and query.
    pub(crate) target: String,
    /// The bearer token.
    pub(crate) bearer: String,
    pub(crate) body: String,
}

/// Whether what comes on a new socket is a request and not an upgrade. Nothing is taken.
pub(crate) fn is_request(socket: &TcpStream) -> bool {
    let mut start = [0; 4];
    // Waits for the first bytes; a request head comes in one piece on loopback.
    socket.peek(&mut start).is_ok() && start == *b"POST"
}

/// Whether it is a look at the metrics page. Nothing is taken.
pub(crate) fn is_scrape(socket: &TcpStream) -> bool {
    let mut start = [0; 12];
    socket.peek(&mut start).is_ok() && start == *b"GET /metrics"
}

/// Answers one such look with all that the generator asks for by name.
pub(crate) fn serve_metrics(mut socket: &TcpStream) {
    // The generator may have gone; with what it sent unread, the end would be a reset.
    let _ = socket.read(&mut [0; 4096]);
    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nringhub_turns_long_total 0\n");
}

/// Answers requests until the socket ends, or one is to have no answer.
pub(crate) fn serve(mut socket: &TcpStream, mut answer: impl FnMut(&Request) -> Option<u16>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 64 * 1024];
    loop {
        while let Some((request, len)) = parse(&bytes) {
            bytes.drain(..len);
            let Some(status) = answer(&request) else { return };
            let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
            if socket.write_all(head.as_bytes()).is_err() {
                return;
            }
        }
        match socket.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<(Request, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(start) = head.parse(bytes).unwrap() else { return None };
    let header = |name: &str| {
        let header = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        std::str::from_utf8(header.unwrap().value).unwrap()
    };
    assert_eq!((head.method, header("Content-Type")), (Some("POST"), "text/plain"));
    let len = start + header("Content-Length").parse::<usize>().unwrap();
    let body = std::str::from_utf8(bytes.get(start..len)?).unwrap().to_owned();
    let bearer = header("Authorization").strip_prefix("Bearer ").unwrap().to_owned();
    Some((Request { target: head.path.unwrap().to_owned(), bearer, body }, len))
}

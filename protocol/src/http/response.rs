//! The head of an HTTP/1.1 answer, read strictly: what a client of handlers needs of it (RFC 9112).
//!
//! What must stay true: where the answer ends is beyond doubt, or it is no answer.

use super::{HEADERS_MAX, check_line_ends, decimal};
use httparse::{Header, ParserConfig, Status};
use std::mem::MaybeUninit;

/// What stands at the start of received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// An interim answer of so many bytes; the one that was asked for comes behind it (RFC 9110 §15.2).
    Interim(usize),
    /// The head of the answer.
    Head(ResponseHead<'a>),
}

/// The head of an answer. Borrows from the received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    /// The status, 200 or more.
    pub status: u16,
    /// The lines of its headers, checked, with the empty one behind them.
    pub lines: &'a [u8],
    /// Length of the head in bytes; the body follows.
    pub consumed: usize,
    /// How long the body is.
    pub body: ResponseBody,
    /// Whether the connection ends after the body (§9.3).
    pub is_last: bool,
}

/// How the body of an answer is framed (§6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseBody {
    /// So many bytes.
    Known(u64),
    /// In [`Chunks`](super::Chunks).
    Chunked,
    /// All that comes until the connection is closed.
    UntilClose,
}

/// Reads the head of an answer to anything but HEAD and CONNECT; `None` when its end has not arrived yet. The caller
/// bounds how much it lets arrive.
///
/// # Errors
///
/// What is wrong with it, for the developer of the other side.
pub fn parse_response(bytes: &[u8]) -> Result<Option<Answer<'_>>, &'static str> {
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let consumed = match parsed {
        Ok(Status::Complete(consumed)) => consumed,
        Ok(Status::Partial) => return check_lines(bytes).map(|()| None),
        Err(httparse::Error::TooManyHeaders) => return Err("the answer has too many headers"),
        Err(_) => return Err("the answer is not HTTP/1.1"),
    };
    check_lines(&bytes[..consumed])?;
    let status = response.code.unwrap_or_default();
    let is_old = response.version == Some(0);
    let body = match status {
        101 => return Err("the answer switches to another protocol, which nobody asked for"),
        0..100 => return Err("the answer has no status"),
        100..=199 => return Ok(Some(Answer::Interim(consumed))),
        _ => body(status, is_old, response.headers)?,
    };
    let is_last = is_last(is_old, response.headers) || body == ResponseBody::UntilClose;
    // Behind the status line, which may stand behind empty ones.
    let head = bytes[..consumed].trim_ascii_start();
    let lines = head.iter().position(|&byte| byte == b'\n').map_or(&head[..0], |end| &head[end + 1..]);
    Ok(Some(Answer::Head(ResponseHead { status, lines, consumed, body, is_last })))
}

/// As for requests: who takes a bare line feed for a line end sees another head than who does not (§2.2).
fn check_lines(head: &[u8]) -> Result<(), &'static str> {
    check_line_ends(head).map_err(|_| "a line of the answer does not end with carriage return and line feed")
}

/// §6.3. What could be read in two ways is not read at all.
fn body(status: u16, is_old: bool, headers: &[Header<'_>]) -> Result<ResponseBody, &'static str> {
    let mut length = None;
    let mut is_chunked = false;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            match decimal(header.value.trim_ascii()) {
                Some(number) if length.is_none_or(|known| known == number) => length = Some(number),
                _ => return Err("the answer's Content-Length is no length"),
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if is_chunked || !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err("the answer's Transfer-Encoding is not \"chunked\"");
            }
            is_chunked = true;
        }
    }
    if is_old && is_chunked {
        // §6.1: whoever passed it on may have left its framing as it was.
        return Err("the answer has a Transfer-Encoding, which does not exist in HTTP/1.0");
    }
    match (status, length, is_chunked) {
        (204 | 304, ..) => Ok(ResponseBody::Known(0)),
        (_, Some(_), true) => Err("the answer has a Content-Length and a Transfer-Encoding"),
        (_, None, true) => Ok(ResponseBody::Chunked),
        (_, Some(length), false) => Ok(ResponseBody::Known(length)),
        (_, None, false) => Ok(ResponseBody::UntilClose),
    }
}

fn is_last(is_old: bool, headers: &[Header<'_>]) -> bool {
    let values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
    let mut options = values.flat_map(|header| header.value.split(|&byte| byte == b','));
    if is_old {
        !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"keep-alive"))
    } else {
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> ResponseHead<'_> {
        match parse_response(text.as_bytes()) {
            Ok(Some(Answer::Head(head))) => head,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    /// Whole answers, and what is refused, are tested where they are read: `relay`'s `http1`.
    #[test]
    fn heads_say_where_their_answer_ends() {
        for (text, status, body, is_last) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 200, ResponseBody::Known(2), false),
            ("HTTP/1.1 204 No\r\n\r\n", 204, ResponseBody::Known(0), false),
            ("HTTP/1.1 500 E\r\ntransfer-encoding: Chunked\r\n\r\n", 500, ResponseBody::Chunked, false),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", 200, ResponseBody::UntilClose, true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ResponseBody::Known(0), true),
        ] {
            let head = head(text);
            assert_eq!((head.status, head.body, head.is_last), (status, body, is_last), "{text:?}");
            assert_eq!(head.consumed, text.len());
            for cut in 0..text.len() {
                assert_eq!(parse_response(&text.as_bytes()[..cut]), Ok(None), "{text:?} cut at {cut}");
            }
        }
        assert_eq!(head("\r\nHTTP/1.1 200\r\na: b\r\nContent-Length: 0\r\n\r\n").lines[..6], *b"a: b\r\n");
        let interim = "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        assert_eq!(parse_response(interim.as_bytes()), Ok(Some(Answer::Interim(22))));
    }

    /// A chunked answer of HTTP/1.0 was read as one, and lines could end with a bare line feed.
    #[test]
    fn answers_are_read_as_strictly_as_requests() {
        let lines = "a line of the answer does not end with carriage return and line feed";
        let coding = "the answer has a Transfer-Encoding, which does not exist in HTTP/1.0";
        for (text, fault) in [
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", coding),
            ("HTTP/1.0 204 No\r\nConnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n", coding),
            ("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", lines),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n", lines),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n", lines),
            ("HTTP/1.1 103 Hints\nLink: x\r\n\r\n", lines),
            ("\nHTTP/1.1 200 OK\r\n\r\n", lines),
            // Before its end.
            ("HTTP/1.1 200 OK\nContent", lines),
        ] {
            assert_eq!(parse_response(text.as_bytes()), Err(fault), "{text:?}");
        }
        // What stands in the body is no line of the head.
        assert_eq!(head("HTTP/1.1 200 OK\r\n\r\na\nb").body, ResponseBody::UntilClose);
    }

    /// RFC 9110 §15: the first digit is the class. The fuzzer found that 020 was taken for an answer.
    #[test]
    fn a_status_below_100_is_no_answer() {
        for status in ["000", "020", "099"] {
            let text = format!("HTTP/1.1 {status} OK\r\n\r\n");
            assert_eq!(parse_response(text.as_bytes()), Err("the answer has no status"), "{status}");
        }
    }
}

//! Answers of every kind, cut at every byte.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringhub_protocol::http::HEADERS_MAX;
use std::collections::VecDeque;

/// A socket whose other side has said everything already.
#[derive(Debug, Default)]
struct Said {
    pieces: VecDeque<Vec<u8>>,
    /// What comes then: a reset, or the end.
    is_reset: bool,
    written: Vec<u8>,
    writes: usize,
    /// Taken at a time.
    takes: usize,
}

impl Read for Said {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.pieces.front_mut() {
            let rest = piece.split_off(piece.len().min(into.remaining()));
            into.put_slice(piece);
            *piece = rest;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(if self.is_reset { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

impl Write for Said {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = if self.takes == 0 { bytes.len() } else { self.takes.min(bytes.len()) };
        self.written.extend_from_slice(&bytes[..taken]);
        self.writes += 1;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Everything is there, so nothing is waited for.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn pieces(pieces: &[&[u8]]) -> Connection<Said> {
    Connection::new(Said { pieces: pieces.iter().map(|piece| piece.to_vec()).collect(), ..Said::default() })
}

/// Status, headers, body and whether the connection may be used again; or the fault.
fn read(mut connection: Connection<Said>, limit: usize) -> Result<(u16, String, Vec<u8>, bool), String> {
    let fault = |fault| match fault {
        Fault::Gone(error) => format!("gone: {error}"),
        Fault::Broken(error) => format!("broken: {error}"),
        Fault::Nonsense(text) => text.to_owned(),
    };
    let head = |out: &mut Vec<u8>| out.extend_from_slice(b"POST / HTTP/1.1\r\n\r\n");
    let mut head = now(connection.request(head, b"body", || {})).map_err(fault)?;
    let mut body = Vec::new();
    let progress = now(connection.read_body(&mut head.framing, &mut body, limit)).map_err(fault)?;
    let is_free = progress == Progress::Done && !head.is_last && connection.start == connection.end;
    if progress == Progress::Full {
        body.extend_from_slice(b"...");
    }
    Ok((head.status, String::from_utf8_lossy(&head.lines).into_owned(), body, is_free))
}

const LIMIT: usize = 1 << 20;

#[test]
fn answers_mean_the_same_however_they_are_cut() {
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n{}", "x".repeat(20_000));
    for (bytes, status, body, is_free) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", true),
        ("HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", 200, "", true),
        ("\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1", 200, "1", true),
        ("HTTP/1.1 204 No\r\n\r\n", 204, "", true),
        ("HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", 304, "", true),
        ("HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 A\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 204, "", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", true),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi", 200, "hi", true),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", 200, "to the end", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nhi\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
            200,
            "hi0123456789",
            true,
        ),
        (
            "HTTP/1.1 500 E\r\ntransfer-encoding: chunked\r\n\r\n001;\r\na\r\n000\r\nTrailer: 1\r\nB: 2\r\n\r\n",
            500,
            "a",
            true,
        ),
        (&long, 200, &"x".repeat(20_000), true),
    ] {
        let cuts = (0..bytes.len().min(200)).map(|cut| bytes.as_bytes().split_at(cut));
        for (a, b) in cuts {
            let connection = if a.is_empty() { pieces(&[b]) } else { pieces(&[a, b]) };
            let (got_status, lines, got_body, got_free) = read(connection, LIMIT).expect(bytes);
            assert_eq!((got_status, got_free), (status, is_free), "{bytes:?}");
            assert_eq!(String::from_utf8(got_body).unwrap(), body, "{bytes:?}");
            assert!(!lines.contains("HTTP/"), "{lines:?}");
        }
        if bytes.len() < 200 {
            let single: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
            assert_eq!(read(pieces(&single), LIMIT).expect(bytes).2, body.as_bytes(), "{bytes:?}");
        }
    }
}

#[test]
fn what_is_no_answer_is_said() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
    let large = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(HEAD_BYTES_MAX));
    let interim = "HTTP/1.1 100 Go\r\n\r\n".repeat(HEAD_BYTES_MAX / 19 + 1);
    let chunked = |rest: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    let trailers = chunked(&format!("0\r\n{}\r\n", format!("t: {}\r\n", "v".repeat(900)).repeat(80)));
    for (bytes, fault) in [
        ("", "gone: the handler closed the connection"),
        ("HTTP/1.1 200", "broken: the handler closed the connection"),
        ("HTTP/1.1 100 Go\r\n\r\n", "broken: the handler closed the connection"),
        ("SSH-2.0-x\r\n", "the answer is not HTTP/1.1"),
        ("HTTP/2 200 OK\r\n\r\n", "the answer is not HTTP/1.1"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "the answer is not HTTP/1.1"),
        ("HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n", "the answer is not HTTP/1.1"),
        (
            "HTTP/1.1 200 OK\ncontent-length: 1\n\n1",
            "a line of the answer does not end with carriage return and line feed",
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            "the answer has a Transfer-Encoding, which does not exist in HTTP/1.0",
        ),
        ("HTTP/1.1 101 Up\r\n\r\n", "the answer switches to another protocol, which nobody asked for"),
        (&many, "the answer has too many headers"),
        (&large, "the head of the answer is too large"),
        (&interim, "too many interim answers"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "the answer's Content-Length is no length",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", "the answer's Content-Length is no length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "the answer's Content-Length is no length"),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", "the answer's Content-Length is no length"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "the answer's Content-Length is no length",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "the answer's Transfer-Encoding is not \"chunked\"",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "the answer has a Content-Length and a Transfer-Encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234",
            "broken: the handler closed the connection within the answer",
        ),
        (&chunked("5\r\n12"), "broken: the handler closed the connection within the answer"),
        (&chunked("g\r\n"), "the size of a chunk is none"),
        (&chunked("\r\n"), "the size of a chunk is none"),
        (&chunked("1\na\r\n"), "the size of a chunk is none"),
        (&chunked("1 \r\na\r\n"), "the size of a chunk is none"),
        (&chunked("1\r2"), "a line between chunks has no proper end"),
        (&chunked("1\r\nab\r\n"), "a chunk is longer than it says"),
        (&chunked("11111111111111111\r\n"), "the size of a chunk is none"),
        (&chunked(&format!("1;{}", "x".repeat(2000))), "a line between chunks is too long"),
        (&trailers, "the body has too many trailers"),
    ] {
        assert_eq!(read(pieces(&[bytes.as_bytes()]), LIMIT).unwrap_err(), fault, "{bytes:.100?}");
    }
    let mut reset = pieces(&[]);
    reset.io.is_reset = true;
    assert_eq!(read(reset, LIMIT).unwrap_err(), "gone: connection reset");
}

#[test]
fn bodies_end_at_the_limit_unless_they_end_there_themselves() {
    for (body, limit, expected) in [
        ("Content-Length: 5\r\n\r\n12345", 5, "12345"),
        ("Content-Length: 5\r\n\r\n12345", 4, "1234..."),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\n12\r\n3\r\n345\r\n0\r\n\r\n", 5, "12345"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\n12\r\n3\r\n345\r\n0\r\n\r\n", 2, "12..."),
        ("\r\n12345", 5, "12345"),
        ("\r\n12345", 4, "1234..."),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{body}");
        for size in [1, 7, 1000] {
            let cut: Vec<&[u8]> = bytes.as_bytes().chunks(size).collect();
            let (_, _, read, is_free) = read(pieces(&cut), limit).unwrap();
            assert_eq!(String::from_utf8(read).unwrap(), expected, "{body:?}");
            assert!(!(is_free && expected.ends_with("...")), "{body:?}");
        }
    }
}

#[test]
fn what_comes_after_an_answer_ends_the_connection() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n";
    assert!(!read(pieces(&[bytes]), LIMIT).unwrap().3);
}

#[test]
fn values_hold_everything_but_what_ends_a_line() {
    assert!(is_value(b"") && is_value(b"a\t~ \xff"));
    for bad in [&b"a\nb"[..], b"\r", b"\0", b"0123456789012345678901234567890\x7f"] {
        assert!(!is_value(bad), "{bad:?}");
    }
}

#[test]
fn requests_are_written_whole_and_the_first_bytes_hand_them_over() {
    for (body, takes, writes) in [
        (3, 0, 1),
        (3, 1, 7),
        (JOINED_BYTES_MAX, 0, 1),
        (JOINED_BYTES_MAX + 1, 0, 2),
        (JOINED_BYTES_MAX + 1, 1000, 1 + (JOINED_BYTES_MAX + 1).div_ceil(1000)),
    ] {
        let body = vec![b'b'; body];
        let mut connection = pieces(&[b"HTTP/1.1 204 No\r\n\r\n"]);
        connection.io.takes = takes;
        let mut handed_over = 0;
        let head = |out: &mut Vec<u8>| out.extend_from_slice(b"HEAD");
        now(connection.request(head, &body, || handed_over += 1)).unwrap();
        assert_eq!(handed_over, 1);
        assert_eq!(connection.io.written, [b"HEAD", &body[..]].concat());
        assert_eq!(connection.io.writes, writes, "{} bytes", body.len());
    }
}

/// Answers to spoil.
const ANSWERS: [&str; 4] = [
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nce-connectionState: e30=\r\n\r\n",
    "HTTP/1.0 500 Oh\r\nConnection: close\r\n\r\nall that comes",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// However spoiled: read to an end, without a panic, and the same however it is cut.
    #[test]
    fn spoiled_answers_mean_the_same_however_they_are_cut(
        answer in 0..ANSWERS.len(),
        edits in vec((any::<Index>(), any::<u8>()), 0..4),
        tail in vec(any::<u8>(), 0..20),
        cuts in vec(any::<Index>(), 0..6),
    ) {
        let mut bytes = ANSWERS[answer].as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(tail);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        ends.extend([0, bytes.len()]);
        ends.sort_unstable();
        ends.dedup();
        let parts: Vec<&[u8]> = ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
        // Whether the connection is free may depend on what has come behind the answer, and which of its faults is
        // met first on what came with it.
        let meaning = |read: Result<(u16, String, Vec<u8>, bool), String>| {
            read.map(|(status, headers, body, _)| (status, headers, body)).map_err(|_| "a fault")
        };
        prop_assert_eq!(meaning(read(pieces(&parts), LIMIT)), meaning(read(pieces(&[&bytes]), LIMIT)));
    }
}

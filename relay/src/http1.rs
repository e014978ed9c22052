//! HTTP/1.1 with a handler: one request, its answer, and the connection is free again (RFC 9112).
//!
//! A codec of our own, for every event goes through it: the maps, channels and tasks of a general client cost
//! several times what the event does. It knows only what is needed: requests of known length, one at a time.
//!
//! What must stay true: where an answer ends is beyond doubt, or it is nonsense; a connection is used again only if
//! its last answer was read to the end and nothing came after it; every part of an answer has a bound.

use httparse::{Header, ParserConfig, Status};
use hyper::rt::{Read, ReadBuf, Write};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// Largest head of an answer, in bytes; also all trailers of one, and what is skipped before it.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of an answer.
pub(crate) const HEADERS_MAX: usize = 100;
/// Longest line that begins a chunk or is a trailer, in bytes.
const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// What a connection keeps for receiving, in bytes.
const BUFFER_BYTES: usize = 8 * 1024;
/// A request whose body is larger is written from two places, in bytes.
const JOINED_BYTES_MAX: usize = 16 * 1024;
/// A large body is read in pieces of this size, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// A connection to a handler.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    io: S,
    /// The request's head, and its body if that is small. Kept for its room.
    out: Vec<u8>,
    /// What was received; `start..end` is unread.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// The lines of its headers, checked.
    pub(crate) lines: Box<[u8]>,
    pub(crate) framing: Framing,
    /// Whether the connection may be used again after the body.
    pub(crate) is_last: bool,
}

/// How the rest of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
    /// All that comes.
    UntilClose,
}

/// Where in its chunks a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Before the line with a size.
    Size,
    /// Within one: so many bytes.
    Data(u64),
    /// Behind one, before its line end.
    End,
    /// In the trailers, of which so many bytes are skipped.
    Trailers(usize),
}

/// Why there is no answer, or not all of it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection ended before a byte of the answer.
    Gone(io::Error),
    /// The connection ended within the answer.
    Broken(io::Error),
    /// The answer is none.
    Nonsense(&'static str),
}

/// How far a body was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// To its end.
    Done,
    /// To the limit, and there is more.
    Full,
    /// As far as it has been received.
    Starved,
}

impl<S: Read + Write + Unpin> Connection<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, out: Vec::new(), buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// Whether it may take a request: it is open, and nothing has come that nobody asked for. Asks the kernel only
    /// if there is news of the socket.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.start == self.end && self.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends a request and reads the head of its answer. `write_head` appends the head; `handed_over` is called when
    /// the first bytes are the kernel's.
    pub(crate) async fn request(
        &mut self,
        write_head: impl FnOnce(&mut Vec<u8>),
        body: &[u8],
        handed_over: impl FnOnce(),
    ) -> Result<Head, Fault> {
        self.out.clear();
        write_head(&mut self.out);
        let (joined, rest) = body.split_at(if body.len() <= JOINED_BYTES_MAX { body.len() } else { 0 });
        self.out.extend_from_slice(joined);
        let written = self.write(rest, handed_over).await;
        // Even then: a handler may have said why it does not want the rest.
        let mut head = match (self.read_head().await, written) {
            (Err(Fault::Gone(_)), Err(error)) => return Err(Fault::Gone(error)),
            (Ok(head), Ok(true)) => return Ok(head),
            (head, _) => head?,
        };
        head.is_last = true;
        Ok(head)
    }

    /// Writes everything; false if an answer came before that, and the rest was left.
    async fn write(&mut self, rest: &[u8], handed_over: impl FnOnce()) -> io::Result<bool> {
        let mut handed_over = Some(handed_over);
        let mut written = 0;
        poll_fn(|cx| {
            while written < self.out.len() + rest.len() {
                let io = Pin::new(&mut self.io);
                let progress = match self.out.get(written..) {
                    Some(head) if rest.is_empty() => io.poll_write(cx, head),
                    Some(head) => io.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(rest)]),
                    None => io.poll_write(cx, &rest[written - self.out.len()..]),
                };
                match progress? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(bytes) => {
                        written += bytes;
                        if let Some(handed_over) = handed_over.take() {
                            handed_over();
                        }
                    }
                    Poll::Pending => return self.poll_fill(cx).map_ok(|_| false),
                }
            }
            Pin::new(&mut self.io).poll_flush(cx).map_ok(|()| true)
        })
        .await
    }

    async fn read_head(&mut self) -> Result<Head, Fault> {
        let mut skipped = 0;
        // What was looked at without finding a whole head.
        let mut seen = 0_usize;
        loop {
            let unread = &self.buffer[self.start..self.end];
            // Not for every byte of a head that comes byte by byte; but nonsense may show in the first.
            if (seen == 0 || ends_head(&unread[seen.saturating_sub(3)..]))
                && let Some((length, head)) = parse_head(unread).map_err(Fault::Nonsense)?
            {
                self.start += length;
                match head {
                    Some(head) => return Ok(head),
                    // RFC 9110 §15.2: interim answers may come first.
                    None if skipped + length > HEAD_BYTES_MAX => {
                        return Err(Fault::Nonsense("too many interim answers"));
                    }
                    None => {
                        skipped += length;
                        seen = 0;
                        continue;
                    }
                }
            }
            seen = self.end - self.start;
            if seen >= HEAD_BYTES_MAX {
                return Err(Fault::Nonsense("the head of the answer is too large"));
            }
            let ended = match poll_fn(|cx| self.poll_fill(cx)).await {
                Ok(0) => closed("the handler closed the connection"),
                Ok(_) => continue,
                Err(error) => error,
            };
            return Err(if seen == 0 && skipped == 0 { Fault::Gone(ended) } else { Fault::Broken(ended) });
        }
    }

    /// Appends what comes of a body to `into`, until that has `limit` bytes.
    pub(crate) async fn read_body(
        &mut self,
        framing: &mut Framing,
        into: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Progress, Fault> {
        loop {
            let progress = self.decode(framing, into, limit)?;
            if progress != Progress::Starved {
                return Ok(progress);
            }
            let rest = match *framing {
                Framing::Length(rest) | Framing::Chunked(Chunk::Data(rest)) => {
                    rest.min(limit.saturating_sub(into.len()) as u64)
                }
                Framing::Chunked(_) | Framing::UntilClose => 0,
            };
            let received = if rest > BUFFER_BYTES as u64 {
                let received = self.receive_into(into, (rest as usize).min(PIECE_BYTES)).await;
                framing.advance(*received.as_ref().unwrap_or(&0));
                received
            } else {
                poll_fn(|cx| self.poll_fill(cx)).await
            };
            match received.map_err(Fault::Broken)? {
                0 if *framing == Framing::UntilClose => {
                    *framing = Framing::Length(0);
                }
                0 => {
                    return Err(Fault::Broken(closed("the handler closed the connection within the answer")));
                }
                _ => {}
            }
        }
    }

    /// The same, of what has been received.
    pub(crate) fn decode(
        &mut self,
        framing: &mut Framing,
        into: &mut Vec<u8>,
        limit: usize,
    ) -> Result<Progress, Fault> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            match *framing {
                Framing::Length(0) => return Ok(Progress::Done),
                Framing::Length(_) | Framing::Chunked(Chunk::Data(_)) | Framing::UntilClose
                    if unread.is_empty() =>
                {
                    return Ok(Progress::Starved);
                }
                Framing::Length(_) | Framing::Chunked(Chunk::Data(_)) | Framing::UntilClose
                    if into.len() >= limit =>
                {
                    return Ok(Progress::Full);
                }
                Framing::Length(rest) | Framing::Chunked(Chunk::Data(rest)) => {
                    self.start += framing.advance(take(unread, rest, into, limit));
                }
                Framing::UntilClose => self.start += take(unread, u64::MAX, into, limit),
                Framing::Chunked(chunk) => match next_chunk(chunk, unread).map_err(Fault::Nonsense)? {
                    Some((used, next)) => {
                        self.start += used;
                        *framing = next;
                    }
                    None => return Ok(Progress::Starved),
                },
            }
        }
    }

    /// Reads from the socket to the end of `into`, at most so many bytes.
    async fn receive_into(&mut self, into: &mut Vec<u8>, bytes: usize) -> io::Result<usize> {
        let length = into.len();
        into.resize(length + bytes, 0);
        let received = poll_fn(|cx| poll_read(&mut self.io, cx, &mut into[length..])).await;
        into.truncate(length + received.as_ref().map_or(0, |bytes| *bytes));
        received
    }

    /// Receives behind what is unread; 0 at the end. Nobody lets much be unread: a head has its bound, and a body is
    /// decoded first.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end > self.buffer.len() / 2 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
        }
        let received = ready!(poll_read(&mut self.io, cx, &mut self.buffer[self.end..]))?;
        self.end += received;
        Poll::Ready(Ok(received))
    }

    /// Before it waits for its next request: gives back room that one answer needed.
    pub(crate) fn rest(&mut self) {
        if self.buffer.len() > BUFFER_BYTES {
            self.buffer = vec![0; BUFFER_BYTES];
            (self.start, self.end) = (0, 0);
        }
        if self.out.capacity() > 2 * JOINED_BYTES_MAX {
            self.out = Vec::new();
        }
    }
}

impl Framing {
    /// So many bytes of data have been taken; the same number.
    fn advance(&mut self, bytes: usize) -> usize {
        match self {
            Self::Length(rest) => *rest -= bytes as u64,
            Self::Chunked(Chunk::Data(rest)) if *rest == bytes as u64 => *self = Self::Chunked(Chunk::End),
            Self::Chunked(Chunk::Data(rest)) => *rest -= bytes as u64,
            Self::Chunked(_) | Self::UntilClose => {}
        }
        bytes
    }
}

fn poll_read(io: &mut (impl Read + Unpin), cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(into);
    ready!(Pin::new(io).poll_read(cx, buffer.unfilled()))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// Whether a header's value may stand in a head: nothing in it ends its line (RFC 9110 §5.5).
pub(crate) fn is_value(value: &[u8]) -> bool {
    // Without a way out in the middle, so that many bytes are looked at together.
    !value.iter().fold(false, |is_bad, &byte| is_bad | (byte < b' ' && byte != b'\t') | (byte == 0x7f))
}

/// Whether a head may end here.
fn ends_head(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|two| two == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// The head at the start of `bytes`, if it is whole, and its length; without the head itself if it is an interim one.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Option<Head>)>, &'static str> {
    let mut headers = [const { MaybeUninit::<Header<'_>>::uninit() }; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut headers);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("the answer has too many headers"),
        Err(_) => return Err("the answer is not HTTP/1.1"),
    };
    let status = response.code.unwrap_or_default();
    let framing = match status {
        101 => return Err("the answer switches to another protocol, which nobody asked for"),
        100..=199 => return Ok(Some((length, None))),
        _ => framing(status, response.headers)?,
    };
    let is_last = is_last(response.version == Some(0), response.headers) || framing == Framing::UntilClose;
    // Behind the status line, which may stand behind empty ones.
    let head = bytes[..length].trim_ascii_start();
    let lines = head.iter().position(|&byte| byte == b'\n').map_or(&head[..0], |end| &head[end + 1..]);
    Ok(Some((length, Some(Head { status, lines: lines.into(), framing, is_last }))))
}

/// RFC 9112 §6.3. What could be read in two ways is not read at all.
fn framing(status: u16, headers: &[Header<'_>]) -> Result<Framing, &'static str> {
    let mut length = None;
    let mut is_chunked = false;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = header.value.trim_ascii();
            let number = digits.iter().try_fold(0_u64, |number, digit| match digit {
                b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
                _ => None,
            });
            match number.filter(|_| !digits.is_empty()) {
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
    match (status, length, is_chunked) {
        (204 | 304, ..) => Ok(Framing::Length(0)),
        (_, Some(_), true) => Err("the answer has a Content-Length and a Transfer-Encoding"),
        (_, None, true) => Ok(Framing::Chunked(Chunk::Size)),
        (_, Some(length), false) => Ok(Framing::Length(length)),
        (_, None, false) => Ok(Framing::UntilClose),
    }
}

/// RFC 9112 §9.3.
fn is_last(is_old: bool, headers: &[Header<'_>]) -> bool {
    let values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
    let mut options = values.flat_map(|header| header.value.split(|&byte| byte == b','));
    if is_old {
        !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"keep-alive"))
    } else {
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }
}

/// Moves bytes of a body: of `unread` as many as belong to it and there is room for.
fn take(unread: &[u8], rest: u64, into: &mut Vec<u8>, limit: usize) -> usize {
    let bytes = (unread.len() as u64).min(rest).min((limit - into.len()) as u64) as usize;
    into.extend_from_slice(&unread[..bytes]);
    bytes
}

/// What stands between the data of chunks (RFC 9112 §7.1): how much of `unread` it is, and what comes then; `None`
/// if there is not enough to know.
fn next_chunk(chunk: Chunk, unread: &[u8]) -> Result<Option<(usize, Framing)>, &'static str> {
    if let Chunk::End = chunk {
        return match unread {
            [b'\r', b'\n', ..] => Ok(Some((2, Framing::Chunked(Chunk::Size)))),
            [] | [b'\r'] => Ok(None),
            _ => Err("a chunk of the answer is longer than it says"),
        };
    }
    let Some(end) = unread.iter().position(|&byte| byte == b'\n') else {
        return if unread.len() > CHUNK_LINE_BYTES_MAX {
            Err("a line between chunks is too long")
        } else {
            Ok(None)
        };
    };
    let line = unread[..end].strip_suffix(b"\r").ok_or("a line between chunks has no proper end")?;
    let used = end + 1;
    match chunk {
        Chunk::Trailers(_) if line.is_empty() => Ok(Some((used, Framing::Length(0)))),
        Chunk::Trailers(skipped) if skipped + used > HEAD_BYTES_MAX => {
            Err("the answer has too many trailers")
        }
        Chunk::Trailers(skipped) => Ok(Some((used, Framing::Chunked(Chunk::Trailers(skipped + used))))),
        _ => {
            let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
            let size = digits.iter().try_fold(0_u64, |size, &digit| {
                let digit = char::from(digit).to_digit(16)?;
                (size >> 56 == 0).then_some(size << 4 | u64::from(digit))
            });
            match size.filter(|_| !digits.is_empty() && used <= CHUNK_LINE_BYTES_MAX) {
                Some(0) => Ok(Some((used, Framing::Chunked(Chunk::Trailers(0))))),
                Some(size) => Ok(Some((used, Framing::Chunked(Chunk::Data(size))))),
                None => Err("the size of a chunk is none"),
            }
        }
    }
}

fn closed(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

#[cfg(test)]
mod tests;

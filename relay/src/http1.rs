//! HTTP/1.1 with a handler: one request, its answer, and the connection is free again (RFC 9112).
//!
//! A codec of our own, for every event goes through it: the maps, channels and tasks of a general client cost
//! several times what the event does. It knows only what is needed: requests of known length, one at a time.
//!
//! What must stay true: where an answer ends is beyond doubt, or it is nonsense; a connection is used again only if
//! its last answer was read to the end and nothing came after it; every part of an answer has a bound.

use hyper::rt::{Read, ReadBuf, Write};
use ringhub_protocol::http::{Answer, Chunks, ResponseBody, parse_response};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// Largest head of an answer, in bytes; also all trailers of one, and what is skipped before it.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
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
    Chunked(Chunks),
    /// All that comes.
    UntilClose,
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
                && let Some(answer) = parse_response(unread).map_err(Fault::Nonsense)?
            {
                match answer {
                    Answer::Head(head) => {
                        let consumed = head.consumed;
                        let head = Head {
                            status: head.status,
                            lines: head.lines.into(),
                            framing: Framing::of(head.body),
                            is_last: head.is_last,
                        };
                        self.start += consumed;
                        return Ok(head);
                    }
                    Answer::Interim(length) if skipped + length > HEAD_BYTES_MAX => {
                        return Err(Fault::Nonsense("too many interim answers"));
                    }
                    Answer::Interim(length) => {
                        self.start += length;
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
            // A large body of known length, or chunk, is received where it belongs.
            let rest = framing.data_left().min(limit.saturating_sub(into.len()) as u64);
            let received = if rest > BUFFER_BYTES as u64 {
                let before = into.len();
                let received = self.receive_into(into, (rest as usize).min(PIECE_BYTES)).await;
                framing.pass(&into[before..]);
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
            let room = limit.saturating_sub(into.len());
            let (framing_bytes, data) = match framing {
                Framing::Length(0) => return Ok(Progress::Done),
                Framing::Chunked(chunks) if chunks.is_done() => return Ok(Progress::Done),
                _ if unread.is_empty() => return Ok(Progress::Starved),
                Framing::Length(rest) => {
                    let data = room.min(unread.len()).min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    *rest -= data as u64;
                    (0, data)
                }
                Framing::UntilClose => (0, room.min(unread.len())),
                Framing::Chunked(chunks) => {
                    let part = chunks.take(unread, room).map_err(|fault| Fault::Nonsense(fault.reason))?;
                    (part.framing, part.data)
                }
            };
            if framing_bytes + data == 0 {
                return Ok(Progress::Full);
            }
            into.extend_from_slice(&unread[framing_bytes..][..data]);
            self.start += framing_bytes + data;
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
    fn of(body: ResponseBody) -> Self {
        match body {
            ResponseBody::Known(length) => Self::Length(length),
            ResponseBody::Chunked => Self::Chunked(Chunks::new(HEAD_BYTES_MAX)),
            ResponseBody::UntilClose => Self::UntilClose,
        }
    }

    /// So many bytes of data come next and have not come yet, if that is known.
    fn data_left(&self) -> u64 {
        match self {
            Self::Length(rest) => *rest,
            Self::Chunked(chunks) => chunks.data_left(),
            Self::UntilClose => 0,
        }
    }

    /// These bytes of data, not more than were left, have come.
    fn pass(&mut self, data: &[u8]) {
        match self {
            Self::Length(rest) => *rest -= data.len() as u64,
            Self::Chunked(chunks) => {
                let part = chunks.take(data, data.len());
                debug_assert!(part.is_ok_and(|part| part.framing == 0 && part.data == data.len()));
            }
            Self::UntilClose => {}
        }
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

fn closed(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

#[cfg(test)]
mod tests;

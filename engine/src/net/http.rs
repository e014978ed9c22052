//! One HTTP connection without I/O: hyper as a codec between two in-memory buffers.
//!
//! The core feeds bytes and takes bytes; hyper's connection is a future that is polled when either happened.
//! What must stay true: hyper sees a request only after its whole head passed the strict check of
//! `protocol::http`, and sees exactly that request's bytes, so where a request ends is decided here and once;
//! the next head is looked at only when the answer to the one before is written, so requests are handled one
//! after another and an upgrade, on any request of a connection, is handed back with everything behind it.
//!
//! Bounds: input waiting here, [`PENDING_BYTES_MAX`] and what one receive brings on top; a body, what the
//! service allows; output, what [`ANSWER_BYTES_MAX`] lets be answered at one go.

use super::patience::{ANSWER_BYTES_MAX, Awaits, Stage};
use super::{HttpAnswer, HttpCall, HttpHandler, HttpProgress, Refused};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use ringhub_protocol::http::{BodyLength, Chunks, HeadFault, HeadLimits, parse_head, write_refusal};
use ringhub_protocol::rest::error::{ErrorBody, ErrorCode};
use ringhub_protocol::ws::handshake::Upgrade;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Input kept for a connection that is busy with a request; more waits in the kernel.
pub(crate) const PENDING_BYTES_MAX: usize = 64 << 10;

/// An answer before it is encoded.
pub(crate) type Reply = Response<Full<Bytes>>;

/// What answers requests: called with the request and the connection's way to ask the cores.
pub(crate) type Answerer = Rc<dyn Fn(Request<Incoming>, Rc<Asker>) -> Pin<Box<dyn Future<Output = Reply>>>>;

/// How a service asks the cores, and what time it is.
#[derive(Default)]
pub(crate) struct Asker {
    now_unix: Cell<u64>,
    call: RefCell<Option<HttpCall>>,
    answer: RefCell<Option<HttpAnswer>>,
    waker: RefCell<Option<Waker>>,
}

impl Asker {
    /// Seconds since 1970 as of the last poll.
    pub(crate) fn now_unix(&self) -> u64 {
        self.now_unix.get()
    }

    /// Hands a call to the core and waits for its answer. One at a time.
    pub(crate) async fn ask(&self, call: HttpCall) -> HttpAnswer {
        let before = self.call.borrow_mut().replace(call);
        debug_assert!(before.is_none(), "one call at a time");
        std::future::poll_fn(|context| match self.answer.borrow_mut().take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                *self.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// The connection.
pub(crate) struct HttpConnection {
    limits: HeadLimits,
    /// Received, not yet given to hyper.
    pending: Vec<u8>,
    phase: Phase,
    pipe: Rc<RefCell<Pipe>>,
    asker: Rc<Asker>,
    /// Bytes of the current request's body that have come, without what frames them.
    body_bytes: u64,
    /// Answers made so far; more than when a request was given to hyper means its answer is written.
    answered: Rc<Cell<u64>>,
    /// Answers of the service with a status from 400 on since the last poll.
    refusals: Rc<Cell<u64>>,
    hyper: Pin<Box<dyn Future<Output = hyper::Result<()>>>>,
    woken: Arc<Woken>,
    waker: Waker,
    upgrades: Upgrades,
}

/// What a request for a WebSocket means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upgrades {
    /// It goes back to the core.
    Allowed,
    /// It is refused (the admin listener).
    Refused,
}

/// Where in the conversation the connection is.
enum Phase {
    /// A head is next.
    Head,
    /// A request is with hyper, its body (if any) still coming.
    Request { body: Body, answered_before: u64 },
    /// Nothing more is read.
    Closed,
}

impl HttpConnection {
    /// A new connection; `service` answers its requests.
    pub(crate) fn new(head_bytes_max: usize, upgrades: Upgrades, service: Answerer) -> Self {
        let pipe = Rc::new(RefCell::new(Pipe::default()));
        let asker = Rc::new(Asker::default());
        let answered = Rc::new(Cell::new(0));
        let refusals = Rc::new(Cell::new(0));
        let (answers, refused) = (answered.clone(), refusals.clone());
        let service = Answering { service, asker: asker.clone(), answered: answers, refusals: refused };
        let hyper = http1::Builder::new()
            // The core has its own deadlines; hyper would want a timer.
            .header_read_timeout(None)
            // A head that passed our check must not be too long for hyper.
            .max_buf_size(head_bytes_max.max(8192) + PENDING_BYTES_MAX)
            .serve_connection(PipeEnd(pipe.clone()), service);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        Self {
            limits: HeadLimits { head_bytes_max },
            pending: Vec::new(),
            phase: Phase::Head,
            pipe,
            asker,
            body_bytes: 0,
            answered,
            refusals,
            hyper: Box::pin(hyper),
            waker: Waker::from(woken.clone()),
            woken,
            upgrades,
        }
    }

    /// Gives hyper what belongs to the current request. Whether anything changed.
    fn advance(&mut self, progress: &mut HttpProgress) -> bool {
        match &mut self.phase {
            Phase::Closed => false,
            Phase::Head => self.read_head(progress),
            Phase::Request { body, answered_before } => {
                let mut changed = false;
                if !self.pending.is_empty() && !body.is_complete() {
                    match body.take(&self.pending) {
                        Ok((taken, data)) => {
                            self.body_bytes += data;
                            self.pipe.borrow_mut().give(&self.pending[..taken]);
                            self.pending.drain(..taken);
                            changed = taken > 0;
                        }
                        // A request has one answer; of one that has it, the body does not matter any more.
                        Err(_) if self.answered.get() > *answered_before => self.pending.clear(),
                        Err(fault) => {
                            self.refuse(fault, Refused::Body, progress);
                            return true;
                        }
                    }
                }
                if self.answered.get() > *answered_before && !self.woken.0.load(Ordering::Relaxed) {
                    // A client that was answered before its body was read may never send the rest of it.
                    self.phase = if body.is_complete() { Phase::Head } else { Phase::Closed };
                    changed = true;
                }
                changed
            }
        }
    }

    fn read_head(&mut self, progress: &mut HttpProgress) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let head = match parse_head(&self.pending, &self.limits) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(fault) => {
                self.refuse(fault, Refused::Head, progress);
                return true;
            }
        };
        if !matches!(head.upgrade(), Upgrade::NotUpgrade) {
            if self.upgrades == Upgrades::Allowed {
                progress.upgrade = Some(std::mem::take(&mut self.pending));
                self.phase = Phase::Closed;
            } else {
                let fault = HeadFault { status: 400, reason: "no WebSocket is served on this address" };
                self.refuse(fault, Refused::Upgrade, progress);
            }
            return true;
        }
        let (consumed, body) = (head.consumed, Body::new(head.body));
        self.pipe.borrow_mut().give(&self.pending[..consumed]);
        self.pending.drain(..consumed);
        self.body_bytes = 0;
        self.phase = Phase::Request { body, answered_before: self.answered.get() };
        true
    }

    /// Ends the connection with an answer of our own, behind what was answered before.
    fn refuse(&mut self, fault: HeadFault, refused: Refused, progress: &mut HttpProgress) {
        write_fault(&mut self.pipe.borrow_mut().output, fault.status, &[], fault.reason);
        self.phase = Phase::Closed;
        progress.refused = Some(refused);
    }
}

/// An error as a whole response that ends the connection, with the headers that REST answers of its status have.
pub(crate) fn write_error(out: &mut Vec<u8>, body: &ErrorBody) {
    write_body(out, body.code.status(), body.code.headers(), body);
}

/// A fault of a request's head as a whole response that ends the connection, the same whichever request of the
/// connection it is. `reason` is a sentence in lower case without its full stop.
pub(crate) fn write_fault(
    out: &mut Vec<u8>,
    status: u16,
    extra_headers: &[(&'static str, &'static str)],
    reason: &str,
) {
    let mut reason = reason.to_owned();
    if let Some(first) = reason.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let body = ErrorBody::new(ErrorCode::BadRequest, reason + ".");
    write_body(out, status, extra_headers, &body);
}

fn write_body(
    out: &mut Vec<u8>,
    status: u16,
    extra_headers: &[(&'static str, &'static str)],
    body: &ErrorBody,
) {
    let headers = [&[("x-ms-error-code", body.code.name())], extra_headers].concat();
    write_refusal(out, status, &headers, "application/json", &body.to_json());
}

impl HttpHandler for HttpConnection {
    fn feed(&mut self, bytes: &[u8]) {
        if !matches!(self.phase, Phase::Closed) {
            self.pending.extend_from_slice(bytes);
        }
        self.woken.0.store(true, Ordering::Relaxed);
    }

    fn poll(&mut self, now_unix: u64) -> HttpProgress {
        self.asker.now_unix.set(now_unix);
        let mut progress = HttpProgress::default();
        // Each round moves a request on by at least one step, and what is buffered is bounded.
        loop {
            let advanced = self.advance(&mut progress);
            if matches!(self.phase, Phase::Closed) {
                break;
            }
            if !self.woken.0.swap(false, Ordering::Relaxed) && !advanced {
                break;
            }
            let mut context = Context::from_waker(&self.waker);
            if self.hyper.as_mut().poll(&mut context).is_ready() {
                // Done by its own choice: `Connection: close`, HTTP/1.0, or a body it will not read.
                self.phase = Phase::Closed;
                break;
            }
            let enough = self.pipe.borrow().output.len() >= ANSWER_BYTES_MAX;
            if enough || self.asker.call.borrow().is_some() {
                break;
            }
        }
        let output = std::mem::take(&mut self.pipe.borrow_mut().output);
        progress.output = Bytes::from(output);
        progress.refusals = self.refusals.take();
        progress.call = self.asker.call.borrow_mut().take();
        progress.close = matches!(self.phase, Phase::Closed) && progress.upgrade.is_none();
        progress
    }

    fn answer(&mut self, answer: HttpAnswer) {
        *self.asker.answer.borrow_mut() = Some(answer);
        if let Some(waker) = self.asker.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= PENDING_BYTES_MAX
    }

    fn stage(&self) -> Stage {
        let awaits = match &self.phase {
            Phase::Head if self.pending.is_empty() => Awaits::Request,
            Phase::Head => Awaits::Head,
            Phase::Request { body, .. } if body.is_complete() => Awaits::Answer,
            Phase::Request { .. } => Awaits::Body,
            Phase::Closed => Awaits::Request,
        };
        Stage { answered: self.answered.get(), awaits, body_bytes: self.body_bytes }
    }

    fn held_bytes(&self) -> usize {
        let pipe = self.pipe.borrow();
        let buffers = self.pending.capacity() + pipe.input.capacity() + pipe.output.capacity();
        // What hyper has of a body is kept until all of it has come.
        let body = if self.stage().awaits == Awaits::Body { self.body_bytes as usize } else { 0 };
        buffers + body
    }
}

/// Where a request's body ends.
enum Body {
    /// So many bytes more.
    Known(u64),
    /// In chunks.
    Chunked(Chunks),
}

impl Body {
    fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::Known(bytes) => Self::Known(bytes),
            // Without trailers: hyper would pass over them, and we have no use for any.
            BodyLength::Chunked => Self::Chunked(Chunks::new(0)),
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Self::Known(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_done(),
        }
    }

    /// How many of these bytes belong to the body, and how many of those are its data.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, u64), HeadFault> {
        match self {
            Self::Known(left) => {
                let taken = (*left).min(bytes.len() as u64);
                *left -= taken;
                Ok((taken as usize, taken))
            }
            Self::Chunked(chunks) => {
                let (mut taken, mut data) = (0, 0);
                while taken < bytes.len() && !chunks.is_done() {
                    let part = chunks
                        .take(&bytes[taken..], usize::MAX)
                        .map_err(|_| HeadFault { status: 400, reason: "the chunked body is malformed" })?;
                    taken += part.framing + part.data;
                    data += part.data as u64;
                }
                Ok((taken, data))
            }
        }
    }
}

/// hyper's service: counts the answers.
struct Answering {
    service: Answerer,
    asker: Rc<Asker>,
    answered: Rc<Cell<u64>>,
    refusals: Rc<Cell<u64>>,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Reply;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Reply, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let reply = (self.service)(request, self.asker.clone());
        let (answered, refusals) = (self.answered.clone(), self.refusals.clone());
        Box::pin(async move {
            let reply = reply.await;
            answered.set(answered.get() + 1);
            refusals.set(refusals.get() + u64::from(reply.status().as_u16() >= 400));
            Ok(reply)
        })
    }
}

/// The bytes between us and hyper.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    /// How much of the input hyper has.
    read: usize,
    reader: Option<Waker>,
    output: Vec<u8>,
}

impl Pipe {
    fn give(&mut self, bytes: &[u8]) {
        if self.read == self.input.len() {
            self.input.clear();
            self.read = 0;
        }
        self.input.extend_from_slice(bytes);
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// hyper's end of it.
struct PipeEnd(Rc<RefCell<Pipe>>);

impl Read for PipeEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let pipe = &mut *self.0.borrow_mut();
        let waiting = &pipe.input[pipe.read..];
        if waiting.is_empty() {
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let taken = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..taken]);
        pipe.read += taken;
        Poll::Ready(Ok(()))
    }
}

impl Write for PipeEnd {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A waker that only remembers.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use ringhub_protocol::name::HubName;
    use ringhub_protocol::rest::{Operation, Target};

    const NOW: u64 = 1;

    /// Answers with method, path and body; asks the core first where the path says so.
    fn echo() -> HttpConnection {
        HttpConnection::new(
            16 << 10,
            Upgrades::Allowed,
            Rc::new(|request, asker| {
                Box::pin(async move {
                    let line = format!("{} {} ", request.method(), request.uri().path());
                    if request.uri().path() == "/early" {
                        return Response::new(Full::from(line));
                    }
                    if request.uri().path() == "/refused" {
                        return Response::builder().status(404).body(Full::from(line)).unwrap();
                    }
                    if request.uri().path() == "/ask" {
                        let operation =
                            Operation::RemoveFromAllGroups { member: Target::Connection("c".into()) };
                        let hub = HubName::parse("h").unwrap();
                        asker.ask(HttpCall::Operation { hub, operation, body: None }).await;
                    }
                    let body = request.into_body().collect().await.map(|body| body.to_bytes());
                    let body = body.unwrap_or_else(|_| Bytes::from_static(b"(broken)"));
                    Response::new(Full::from([line.as_bytes(), &body].concat()))
                })
            }),
        )
    }

    /// Feeds pieces; returns what came out, whether it closed, and what was handed back.
    fn run(connection: &mut HttpConnection, pieces: &[&[u8]]) -> (String, bool, Option<Vec<u8>>) {
        let (mut output, mut close, mut upgrade) = (Vec::new(), false, None);
        for piece in pieces {
            connection.feed(piece);
            loop {
                let progress = connection.poll(NOW);
                output.extend_from_slice(&progress.output);
                close |= progress.close;
                upgrade = upgrade.or(progress.upgrade);
                if progress.call.is_none() {
                    break;
                }
                connection.answer(HttpAnswer::Operation(ringhub_hub::Answer::Done));
            }
        }
        (String::from_utf8(output).unwrap(), close, upgrade)
    }

    fn bodies(output: &str) -> Vec<&str> {
        output
            .split("HTTP/1.1 200 OK\r\n")
            .skip(1)
            .map(|answer| answer.split_once("\r\n\r\n").unwrap().1)
            .collect()
    }

    const PIPELINED: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
        POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n\
        GET /ask HTTP/1.1\r\nHost: x\r\n\r\nGET /d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    #[test]
    fn pipelined_requests_are_answered_in_order_however_they_are_split() {
        let expected = ["POST /a abc", "POST /b hello", "GET /ask ", "GET /d "];
        for at in 0..PIPELINED.len() {
            let (head, tail) = PIPELINED.split_at(at);
            let (output, close, _) = run(&mut echo(), &[head, tail]);
            assert_eq!(bodies(&output), expected, "split at {at}");
            assert!(close);
        }
        let single: Vec<&[u8]> = PIPELINED.chunks(1).collect();
        let (output, close, _) = run(&mut echo(), &single);
        assert_eq!(bodies(&output), expected, "one byte at a time");
        assert!(close);
    }

    /// Everything that had come in was answered at one go, a kilobyte for each few bytes.
    #[test]
    fn no_more_is_answered_at_one_go_than_may_wait() {
        let mut connection = echo();
        let body = "x".repeat(10_000);
        let request = format!("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n{body}");
        connection.feed(request.repeat(20).as_bytes());
        let first = connection.poll(NOW).output.len();
        assert!((ANSWER_BYTES_MAX..ANSWER_BYTES_MAX + 11_000).contains(&first), "{first}");
        let (mut answers, mut polls) = (first / 10_000, 1);
        while connection.is_busy() {
            answers += connection.poll(NOW).output.len() / 10_000;
            polls += 1;
        }
        assert_eq!((answers, polls), (20, 3));
    }

    #[test]
    fn while_a_call_waits_nothing_behind_it_is_looked_at() {
        let mut connection = echo();
        connection.feed(b"GET /ask HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
        let progress = connection.poll(NOW);
        assert!(progress.call.is_some() && progress.output.is_empty());
        assert!(connection.poll(NOW).output.is_empty());
        assert!(connection.is_busy() && !connection.is_full());
        connection.feed(&vec![b'x'; PENDING_BYTES_MAX]);
        assert!(connection.poll(NOW).call.is_none() && connection.is_full());
        connection.answer(HttpAnswer::HubsFull);
        let output = connection.poll(NOW).output;
        assert!(bodies(std::str::from_utf8(&output).unwrap()).starts_with(&["GET /ask "]));
    }

    #[test]
    fn an_upgrade_on_a_later_request_goes_back_with_what_follows() {
        let upgrade =
            b"GET /client/hubs/h HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n\x81\x80abcd";
        let first = b"GET /ask HTTP/1.1\r\nHost: x\r\n\r\n";
        let (output, close, handed) = run(&mut echo(), &[&[&first[..], upgrade].concat()]);
        assert_eq!(bodies(&output), ["GET /ask "]);
        assert!(!close);
        assert_eq!(handed.unwrap(), upgrade);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused_on_any_request() {
        for bad in [
            "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\r\nHost: x\r\n a: folded\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\na\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: trailer\r\n\r\n",
        ] {
            let behind = format!("{bad}GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
            let good = "GET /good HTTP/1.1\r\nHost: x\r\n\r\n";
            let (output, close, _) = run(&mut echo(), &[good.as_bytes(), behind.as_bytes()]);
            assert!(
                output.contains("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"),
                "{bad:?}: {output}"
            );
            assert!(output.contains("GET /good ") && !output.contains("smuggled"), "{bad:?}: {output}");
            assert!(close, "{bad:?}");
        }
    }

    /// What was malformed counted as a refused request as well, but only behind a connection's first request.
    #[test]
    fn a_request_that_cannot_be_read_is_counted_once() {
        let refused = "GET /refused HTTP/1.1\r\nHost: x\r\n\r\n";
        for (behind, what) in [
            ("", None),
            ("GET / HTTP/1.1\r\n\r\n", Some(Refused::Head)),
            ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx", Some(Refused::Body)),
        ] {
            let mut connection = echo();
            connection.feed([refused, behind].concat().as_bytes());
            let progress = connection.poll(NOW);
            assert_eq!((progress.refusals, progress.refused), (1, what), "{behind:?}");
        }
    }

    #[test]
    fn a_head_over_the_limit_is_refused_before_its_end() {
        let mut connection = echo();
        let (output, close, _) =
            run(&mut connection, &[b"GET / HTTP/1.1\r\nHost: x\r\na: ", &[b'a'; 17 << 10]]);
        assert!(output.starts_with("HTTP/1.1 431 ") && close, "{output}");
        assert!(!connection.is_busy());
    }

    /// A request that was answered before its body showed a fault was answered again, for that.
    #[test]
    fn a_fault_in_a_body_that_was_answered_is_no_second_answer() {
        let head = b"POST /early HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        for pieces in [&[&[&head[..], b"x"].concat()[..]][..], &[head, b"1\r\na", b"a"]] {
            let (output, close, _) = run(&mut echo(), pieces);
            assert!(output.matches("HTTP/1.1 ").count() == 1 && output.contains("POST /early "), "{output}");
            assert!(close);
        }
    }

    #[test]
    fn an_answer_before_the_body_ends_the_connection() {
        let (output, close, _) =
            run(&mut echo(), &[b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"]);
        assert!(output.contains("POST /early ") && close, "{output}");
    }

    #[test]
    fn old_clients_and_patient_ones() {
        let (output, close, _) = run(&mut echo(), &[b"GET /old HTTP/1.0\r\n\r\n"]);
        assert!(output.contains("GET /old ") && close, "{output}");
        let mut connection = echo();
        let head = b"POST /w HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        let (output, _, _) = run(&mut connection, &[head]);
        assert!(output.starts_with("HTTP/1.1 100 Continue\r\n"), "{output}");
        let (output, close, _) = run(&mut connection, &[b"ok"]);
        assert!(output.ends_with("POST /w ok") && !close && !connection.is_busy(), "{output}");
    }

    #[test]
    fn the_admin_listener_refuses_upgrades() {
        let mut connection = echo();
        connection.upgrades = Upgrades::Refused;
        let (output, close, handed) =
            run(&mut connection, &[b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"]);
        assert!(output.starts_with("HTTP/1.1 400 ") && close && handed.is_none(), "{output}");
    }
}

//! The event handler of webhook workloads: a child of the generator that gives every user event back as it came.
//!
//! It is there to be cheap, for it shares the machine with the server that is measured: one thread, HTTP/1.1 by hand
//! on one readiness queue, HTTP/2 by hyper. What it costs is reported beside the server, never among it.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::error::Error;
use crate::measure::Processes;
use crate::sys;

/// Which HTTP events travel by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Http {
    /// HTTP/1.1, a request at a time on every connection.
    #[value(name = "1.1")]
    One,
    /// HTTP/2 without asking first.
    #[value(name = "2")]
    Two,
}

impl Http {
    /// The name that `--http` and the server's configuration take.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "1.1",
            Self::Two => "2",
        }
    }
}

/// Options of the hidden child.
#[derive(Args)]
pub(crate) struct HandlerArgs {
    /// Where to listen on loopback; 0 for any free port.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    #[arg(long, value_enum)]
    pub(crate) http: Http,
    /// CPUs to run on.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
}

/// The child, seen from the generator. Dropping it ends it.
pub(crate) struct Handler {
    child: Child,
    /// To measure it.
    pub(crate) processes: Processes,
    http: Http,
    port: u16,
}

impl Handler {
    /// Starts it and waits until it listens: on `port`, or on any if that is 0.
    pub(crate) fn start(http: Http, port: u16, cpus: &[usize]) -> Result<Self, Error> {
        let own = std::env::current_exe().map_err(Error::io("find this program"))?;
        let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
        let mut child = Command::new(own)
            .args(["webhook-handler", "--http", http.name(), "--port", &port.to_string()])
            .args(["--cpus", &cpus.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::io("start the event handler"))?;
        let mut said = String::new();
        let stdout = child.stdout.take().expect("piped above");
        let _ = BufReader::new(stdout).read_line(&mut said);
        match (said.trim().parse(), Processes::new(&[child.id()])) {
            (Ok(port), Ok(processes)) => Ok(Self { child, processes, http, port }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::Child("the event handler did not start; its message stands above".into()))
            }
        }
    }

    /// Which HTTP it speaks.
    pub(crate) fn http(&self) -> Http {
        self.http
    }

    /// What has a server send the user events of `hub` here. Its queue is made too long to overflow: what a server
    /// cannot do in time is then seen as latency.
    pub(crate) fn config(&self, hub: &str) -> String {
        format!(
            "[[hubs.{hub}.event_handlers]]\nurl_template = \"http://127.0.0.1:{}/{{event}}\"\n\
             user_event_pattern = \"*\"\nhttp = \"{}\"\nqueue_max = 1000000\nqueue_bytes_max = 4294967296\n",
            self.port,
            self.http.name(),
        )
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child: prints its port and answers until it is killed.
pub(crate) fn serve(args: &HandlerArgs) -> Result<(), Error> {
    sys::raise_open_files().map_err(Error::io("raise the limit of open files"))?;
    if !args.cpus.is_empty() {
        sys::pin_to(&args.cpus).map_err(Error::io(format!("pin to CPU {:?}", args.cpus)))?;
    }
    let what = || format!("listen on port {}", args.port);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).map_err(Error::io(what()))?;
    listener.set_nonblocking(true).map_err(Error::io(what()))?;
    println!("{}", listener.local_addr().map_err(Error::io(what()))?.port());
    match args.http {
        Http::One => serve_one(listener),
        Http::Two => serve_two(listener),
    }
    .map_err(Error::io("answer events"))
}

/// A request's head that is as large as this is none of the server's.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// A connection of HTTP/1.1, with what is not yet a whole request and what its socket did not take.
struct Connection {
    socket: TcpStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

fn serve_one(listener: TcpListener) -> std::io::Result<()> {
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    // Places are not used again: a server keeps its connections for as long as a run takes.
                    let token = Token(connections.len());
                    poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
                    connections.push(Some(Connection { socket, incoming: Vec::new(), outgoing: Vec::new() }));
                }
                continue;
            }
            let place = &mut connections[event.token().0];
            if let Some(connection) = place
                && connection.turn(event.is_read_closed(), &mut buffer).is_err()
            {
                *place = None;
            }
        }
    }
}

impl Connection {
    /// Reads all there is, `to_the_end` of the stream if that is known to have come, and answers it.
    ///
    /// # Errors
    /// The connection has ended, or must.
    fn turn(&mut self, to_the_end: bool, buffer: &mut [u8]) -> std::io::Result<()> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    // A request in one piece, as nearly all are, is not copied.
                    if self.incoming.is_empty() {
                        let used = answer_all(&buffer[..read], &mut self.outgoing)?;
                        self.incoming.extend_from_slice(&buffer[used..read]);
                    } else {
                        self.incoming.extend_from_slice(&buffer[..read]);
                        let used = answer_all(&self.incoming, &mut self.outgoing)?;
                        self.incoming.drain(..used);
                    }
                    // A short read empties the socket; the next bytes make a new edge, epoll(7).
                    if read < buffer.len() && !to_the_end {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Answers the whole requests at the start of `bytes` and returns how many bytes they were.
fn answer_all(bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut used = 0;
    while let Some(len) = answer_one(&bytes[used..], out)? {
        used += len;
    }
    Ok(used)
}

/// `None` if it is not all there.
fn answer_one(bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    let invalid = |what: &str| std::io::Error::new(ErrorKind::InvalidData, what.to_owned());
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let start = match head.parse(bytes).map_err(|error| invalid(&error.to_string()))? {
        httparse::Status::Complete(start) => start,
        httparse::Status::Partial if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        httparse::Status::Partial => return Err(invalid("a head without end")),
    };
    let (mut length, mut content_type, mut is_user_event) = (0, &b""[..], false);
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            length = text.parse().map_err(|_| invalid("a length that is none"))?;
        } else if header.name.eq_ignore_ascii_case("content-type") {
            content_type = header.value;
        } else if header.name.eq_ignore_ascii_case("ce-type") {
            is_user_event = header.value.starts_with(USER_EVENT);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(invalid("a body without a length"));
        }
    }
    let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
    if head.method == Some("OPTIONS") {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: *\r\nContent-Length: 0\r\n\r\n");
    } else if is_user_event {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: ");
        out.extend_from_slice(content_type);
        write!(out, "\r\nContent-Length: {length}\r\n\r\n")?;
        out.extend_from_slice(body);
    } else {
        out.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n");
    }
    Ok(Some(start + length))
}

/// What the type of a user event begins with (reference event-handlers §3).
const USER_EVENT: &[u8] = b"azure.webpubsub.user.";

fn serve_two(listener: TcpListener) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let connection = http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(None)
                .serve_connection(TokioIo::new(socket), service_fn(answer));
            tokio::spawn(async move {
                // The server that ends it is the end of the run.
                let _ = connection.await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut response = Response::new(Full::default());
    if head.method == hyper::Method::OPTIONS {
        let any = hyper::header::HeaderValue::from_static("*");
        response.headers_mut().insert("webhook-allowed-origin", any);
        return Ok(response);
    }
    let is_user_event =
        head.headers.get("ce-type").is_some_and(|value| value.as_bytes().starts_with(USER_EVENT));
    match body.collect().await {
        Ok(body) if is_user_event => {
            if let Some(content_type) = head.headers.get(CONTENT_TYPE) {
                response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
            }
            *response.body_mut() = Full::new(body.to_bytes());
        }
        _ => *response.status_mut() = hyper::StatusCode::NO_CONTENT,
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &[u8] = b"POST /message HTTP/1.1\r\nHost: a\r\nce-type: azure.webpubsub.user.message\r\n\
        content-type: text/plain; charset=utf-8\r\ncontent-length: 3\r\n\r\nabc";
    const ECHO: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\nabc";

    #[test]
    fn user_events_come_back_and_others_do_not() {
        let connected =
            b"POST / HTTP/1.1\r\nCe-Type: azure.webpubsub.sys.connected\r\nContent-Length: 2\r\n\r\n{}";
        let validation = b"OPTIONS /validate HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut out = Vec::new();
        let bytes = [EVENT, connected, validation, EVENT].concat();
        assert_eq!(answer_all(&bytes, &mut out).unwrap(), bytes.len());
        let nothing = b"HTTP/1.1 204 No Content\r\n\r\n";
        let allowed = b"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: *\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(out, [ECHO, nothing, allowed, ECHO].concat());
    }

    #[test]
    fn a_request_waits_for_its_end_wherever_it_is_cut() {
        for cut in 0..EVENT.len() {
            let mut out = Vec::new();
            assert_eq!((answer_all(&EVENT[..cut], &mut out).unwrap(), out), (0, Vec::new()), "{cut}");
        }
    }

    #[test]
    fn what_is_no_request_ends_the_connection() {
        for bytes in [
            &b"GET\0 / HTTP/1.1\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        ] {
            assert!(answer_all(bytes, &mut Vec::new()).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }
}

//! An event handler, byte by byte: a thread for each connection, everything it receives is recorded, and what it
//! answers is the test's to say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A test that waits longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One request, as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| &**value);
        assert!(found.next().is_none(), "{name} stands twice");
        value
    }
}

/// What is done with a request.
pub(crate) enum Action {
    /// These bytes, and on.
    Answer(Vec<u8>),
    /// These bytes, and the end of the connection.
    AnswerAndClose(Vec<u8>),
    /// These bytes, with a moment between them, and on.
    Pieces(Vec<Vec<u8>>),
    /// The end of the connection, by a reset.
    Reset,
    /// Nothing, until the other side ends the connection.
    Hang,
}

/// An answer without a body.
pub(crate) fn status(status: u16) -> Action {
    answer(status, "", "")
}

/// An answer with more header lines (each with its line end) and a body.
pub(crate) fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Action {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let mut bytes: Vec<u8> = head.chars().map(|c| u8::try_from(c).expect("Latin-1")).collect();
    bytes.extend_from_slice(body);
    Action::Answer(bytes)
}

type Script = dyn Fn(&Request) -> Action + Send + Sync;

/// A running handler.
pub(crate) struct Handler {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    connections: usize,
    open: usize,
}

impl Handler {
    /// Validation is answered with yes and is not told to `script`, though recorded.
    pub(crate) fn start(script: impl Fn(&Request) -> Action + Send + Sync + 'static) -> Self {
        Self::start_bare(move |request| match &*request.method {
            "OPTIONS" => answer(200, "WebHook-Allowed-Origin: *\r\n", ""),
            _ => script(request),
        })
    }

    /// Everything is the script's.
    pub(crate) fn start_bare(script: impl Fn(&Request) -> Action + Send + Sync + 'static) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(crate) fn start_at(
        listener: TcpListener,
        script: impl Fn(&Request) -> Action + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { script: Box::new(script), seen: Mutex::default(), changed: Condvar::new() });
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = serving.clone();
                thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All POSTs so far.
    pub(crate) fn posts(&self) -> Vec<Request> {
        let seen = self.shared.seen.lock().unwrap();
        seen.requests.iter().filter(|request| request.method == "POST").cloned().collect()
    }

    /// Everything so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().requests.clone()
    }

    /// Connections that were made to it.
    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.lock().unwrap().connections
    }

    /// Waits until there were so many POSTs; all of them.
    pub(crate) fn wait_for_posts(&self, count: usize) -> Vec<Request> {
        self.wait(|seen| seen.requests.iter().filter(|request| request.method == "POST").count() >= count);
        self.posts()
    }

    /// Waits until no connection is open.
    pub(crate) fn wait_for_no_connection(&self) {
        self.wait(|seen| seen.open == 0);
    }

    fn wait(&self, is_there: impl Fn(&Seen) -> bool) {
        let seen = self.shared.seen.lock().unwrap();
        let (seen, late) =
            self.shared.changed.wait_timeout_while(seen, PATIENCE, |seen| !is_there(seen)).unwrap();
        assert!(!late.timed_out(), "{:#?}", seen.requests);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        self.note(|seen| {
            seen.open += 1;
            seen.connections += 1;
        });
        let mut unread = Vec::new();
        while let Some(request) = read_request(&mut stream, &mut unread) {
            self.note(|seen| seen.requests.push(request.clone()));
            match (self.script)(&request) {
                Action::Answer(bytes) => {
                    if stream.write_all(&bytes).is_err() {
                        break;
                    }
                }
                Action::AnswerAndClose(bytes) => {
                    let _ = stream.write_all(&bytes);
                    break;
                }
                Action::Pieces(pieces) => {
                    let _ = stream.set_nodelay(true);
                    for piece in pieces {
                        let _ = stream.write_all(&piece);
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                Action::Reset => {
                    // What is unread when a socket is closed makes a reset of it.
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    break;
                }
                Action::Hang => while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {},
            }
        }
        drop(stream);
        self.note(|seen| seen.open -= 1);
    }

    fn note<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let changed = change(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
        changed
    }
}

fn read_request(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Request> {
    let end = read_until(stream, unread, |bytes| {
        bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
    })?;
    // As Latin-1, so that every byte can be looked at.
    let head: String = unread.drain(..end).map(char::from).collect();
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let headers: Vec<(String, String)> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| (line.trim_end_matches(':'), ""));
            (name.to_ascii_lowercase(), value.to_owned())
        })
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let length: usize = length.parse().unwrap();
    read_until(stream, unread, |bytes| (bytes.len() >= length).then_some(length))?;
    Some(Request {
        method: first.next()?.to_owned(),
        path: first.next()?.to_owned(),
        headers,
        body: unread.drain(..length).collect(),
        at: Instant::now(),
    })
}

fn read_until(
    stream: &mut TcpStream,
    unread: &mut Vec<u8>,
    end: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    loop {
        if let Some(end) = end(unread) {
            return Some(end);
        }
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(n) => unread.extend_from_slice(&buffer[..n]),
        }
    }
}

//! An application server that records every request as it came and answers as the test says.
//!
//! ```no_run
//! use ringhub_tests::{Answer, Client, Handler, Server};
//!
//! let handler = Handler::start(|_| Answer::text("pong"));
//! let server = Server::with(|setup| setup.config(&handler.section(r#"user_event_pattern = "*""#)));
//! server.open(Client::raw()).send("ping");
//! assert_eq!(handler.next().text(), "ping");
//! ```
//!
//! The script runs in the thread of the connection that the request came on, so it may wait for a [`Gate`] without
//! holding up another connection. Requests to be validated (`event-handlers` §2) are answered without it and recorded
//! apart, unless [`Handler::validated_by`] says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use crate::{Certificate, DEADLINE};

mod answer;
mod http1;
mod http2;

pub use answer::Answer;

type Script = dyn Fn(&Call) -> Answer + Send + Sync;

/// A running handler. Dropped, it closes everything.
#[derive(Debug)]
pub struct Handler {
    addr: SocketAddr,
    speaks: Speaks,
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// What is spoken on its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Speaks {
    tls: bool,
    http2: bool,
}

/// One request, as it stood on the wire.
#[derive(Debug, Clone)]
pub struct Call {
    /// The connection it came on, from 0 in the order they were made.
    pub connection: usize,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Names as spelled and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

struct Shared {
    script: Box<Script>,
    validation: Option<Box<Script>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Everything but what validates, in the order in which it was complete.
    calls: Vec<Call>,
    /// The places in `calls` that a test has looked at.
    taken: BTreeSet<usize>,
    validations: Vec<Call>,
    connections: usize,
    /// For a kill: one handle of every open connection.
    open: BTreeMap<usize, TcpStream>,
    stopped: bool,
}

impl Handler {
    /// HTTP/1.1, over TLS if `RINGHUB_TESTS_TLS` is set.
    pub fn start(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        let tls = std::env::var_os("RINGHUB_TESTS_TLS").is_some();
        Self::with(Speaks { tls, http2: false }, Box::new(script), None)
    }

    /// HTTP/1.1 without TLS, whatever the environment says.
    pub fn plain(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(Speaks { tls: false, http2: false }, Box::new(script), None)
    }

    /// HTTP/1.1 over TLS, whatever the environment says.
    pub fn tls(script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(Speaks { tls: true, http2: false }, Box::new(script), None)
    }

    /// HTTP/2, by prior knowledge without TLS and by ALPN with it, where HTTP/1.1 is offered too.
    pub fn http2(tls: bool, script: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(Speaks { tls, http2: true }, Box::new(script), None)
    }

    /// As [`Self::start`]; requests that ask whether events are welcome are answered by `validation`.
    pub fn validated_by(
        validation: impl Fn(&Call) -> Answer + Send + Sync + 'static,
        script: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let tls = std::env::var_os("RINGHUB_TESTS_TLS").is_some();
        Self::with(Speaks { tls, http2: false }, Box::new(script), Some(Box::new(validation)))
    }

    fn with(speaks: Speaks, script: Box<Script>, validation: Option<Box<Script>>) -> Self {
        let shared = Shared { script, validation, state: Mutex::default(), changed: Condvar::new() };
        let listener = unlikely_port();
        let addr = listener.local_addr().expect("a bound socket has an address");
        let handler = Self { addr, speaks, shared: Arc::new(shared), acceptor: Mutex::new(None) };
        handler.serve(listener);
        handler
    }

    fn serve(&self, listener: TcpListener) {
        let (shared, speaks) = (Arc::clone(&self.shared), self.speaks);
        let acceptor = match speaks.http2 {
            false => thread::spawn(move || http1::accept(&listener, speaks.tls, &shared)),
            true => thread::spawn(move || http2::accept(listener, speaks.tls, shared)),
        };
        *self.acceptor.lock().expect("the test panicked") = Some(acceptor);
    }

    /// Stops listening and resets every connection, as if its process were killed.
    pub fn kill(&self) {
        {
            let mut state = self.shared.lock();
            state.stopped = true;
            for socket in std::mem::take(&mut state.open).into_values() {
                let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.lock().expect("the test panicked").take() {
            let _ = acceptor.join();
        }
    }

    /// Listens again where it did before [`Self::kill`]; what was recorded stays.
    pub fn restart(&self) {
        let listener = TcpListener::bind(self.addr).expect("the port it had before");
        self.shared.lock().stopped = false;
        self.serve(listener);
    }

    /// Where it is.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Scheme and authority.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.speaks.tls { "https" } else { "http" }, self.addr)
    }

    /// An `[[hubs.chat.event_handlers]]` section for `URL/eventhandler/{event}`, with these more keys.
    pub fn section(&self, more: &str) -> String {
        self.section_of("chat", "/eventhandler/{event}", more)
    }

    /// A section for that hub, path and query, with these more keys.
    pub fn section_of(&self, hub: &str, path: &str, more: &str) -> String {
        let mut section = format!("[[hubs.{hub}.event_handlers]]\nurl_template = \"{}{path}\"\n", self.url());
        if self.speaks.tls {
            section += &format!("ca_file = \"{}\"\n", Certificate::shared().authority.display());
        }
        section + more + "\n"
    }

    /// Waits for the first request that no test has looked at yet.
    #[track_caller]
    pub fn next(&self) -> Call {
        self.next_where("another request", |_| true)
    }

    /// The same, of those with this `ce-eventName`.
    #[track_caller]
    pub fn next_of(&self, event: &str) -> Call {
        self.next_where(&format!("another {event:?}"), |call| call.header("ce-eventName") == Some(event))
    }

    #[track_caller]
    fn next_where(&self, what: &str, wanted: impl Fn(&Call) -> bool) -> Call {
        let mut found = None;
        self.shared.wait(what, |state| {
            let mut places = 0..state.calls.len();
            found = places.find(|at| !state.taken.contains(at) && wanted(&state.calls[*at]));
            found.is_some()
        });
        let at = found.expect("it was waited for");
        let mut state = self.shared.lock();
        state.taken.insert(at);
        state.calls[at].clone()
    }

    /// Waits until there have been so many requests, and returns them all.
    #[track_caller]
    pub fn calls_at_least(&self, count: usize) -> Vec<Call> {
        self.shared.wait(&format!("{count} requests"), |state| state.calls.len() >= count);
        self.calls()
    }

    /// All requests so far, without those that validate.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// The requests of one connection so far, by `ce-id`: which of two connections was read first is for the scheduler
    /// of this machine to say. HTTP/2 is what shows the order on the wire.
    pub fn calls_of(&self, connection_id: &str) -> Vec<Call> {
        let of = |call: &Call| call.header("ce-connectionId") == Some(connection_id);
        let mut calls: Vec<_> = self.calls().into_iter().filter(of).collect();
        calls.sort_by_key(Call::id);
        calls
    }

    /// Waits until there have been so many requests that validate, and returns them all.
    #[track_caller]
    pub fn validations_at_least(&self, count: usize) -> Vec<Call> {
        self.shared.wait(&format!("{count} validations"), |state| state.validations.len() >= count);
        self.validations()
    }

    /// All requests that validate so far.
    pub fn validations(&self) -> Vec<Call> {
        self.shared.lock().validations.clone()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// How many connections are open.
    pub fn connections_open(&self) -> usize {
        self.shared.lock().open.len()
    }

    /// Waits until that connection is gone. The one that ends it is the server, unless an answer says otherwise.
    #[track_caller]
    pub fn expect_hang_up(&self, connection: usize) {
        self.shared.wait("the end of a connection", |state| !state.open.contains_key(&connection));
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Call {
    /// The one header of that name, whatever its case; panics when there are two.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        let first = values.next();
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        first
    }

    /// The values of all headers of that name.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// `ce-eventName`, which every event has.
    #[track_caller]
    pub fn event(&self) -> &str {
        self.header("ce-eventName").unwrap_or_else(|| panic!("no event: {self:?}"))
    }

    /// `ce-connectionId`, which every event has.
    #[track_caller]
    pub fn connection_id(&self) -> &str {
        self.header("ce-connectionId").unwrap_or_else(|| panic!("no event: {self:?}"))
    }

    /// `ce-id`, which every event has.
    #[track_caller]
    pub fn id(&self) -> u64 {
        let id = self.header("ce-id").and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("no number: {self:?}"))
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|_| panic!("no text: {self:?}"))
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Whether it asks if events are welcome.
    fn validates(&self) -> bool {
        self.method == "OPTIONS"
            || self.header("ce-type").is_none() && self.header("ce-awpsversion").is_some()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a thread of the handler panicked")
    }

    #[track_caller]
    fn wait(&self, what: &str, mut holds: impl FnMut(&State) -> bool) {
        let waited = self.changed.wait_timeout_while(self.lock(), DEADLINE, |state| !holds(state));
        let (state, timeout) = waited.expect("a thread of the handler panicked");
        if timeout.timed_out() {
            let seen: Vec<_> =
                state.calls.iter().enumerate().map(|(at, call)| summary(at, call, &state)).collect();
            drop(state);
            panic!("still waiting for {what} after {DEADLINE:?}; there were:\n{}", seen.join("\n"));
        }
    }

    /// Takes note of a connection; `None` if there are to be no more.
    fn opened(&self, socket: TcpStream) -> Option<usize> {
        let mut state = self.lock();
        if state.stopped {
            return None;
        }
        let number = state.connections;
        state.connections += 1;
        state.open.insert(number, socket);
        Some(number)
    }

    fn closed(&self, connection: usize) {
        self.lock().open.remove(&connection);
        self.changed.notify_all();
    }

    fn record(&self, call: &Call) {
        let mut state = self.lock();
        let record = if call.validates() { &mut state.validations } else { &mut state.calls };
        record.push(call.clone());
        drop(state);
        self.changed.notify_all();
    }

    /// Asks the script.
    fn answer(&self, call: &Call) -> Answer {
        match &self.validation {
            Some(validation) if call.validates() => validation(call),
            None if call.validates() => Answer::status(200).header("WebHook-Allowed-Origin", "*"),
            _ => (self.script)(call),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

fn summary(at: usize, call: &Call, state: &State) -> String {
    let body: String = String::from_utf8_lossy(&call.body).chars().take(80).collect();
    let id = call.values("ce-id").next().unwrap_or("-");
    let taken = if state.taken.contains(&at) { "" } else { " (not looked at)" };
    format!("{} {} ce-id {id}: {body}{taken}", call.method, call.target)
}

/// A listener on a port that the kernel gives to nobody by itself, so that it is still free after a kill and no
/// client's own end is ever there.
fn unlikely_port() -> TcpListener {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: std::ops::Range<u16> = 12_000..30_000;
    let start = std::process::id() as usize * 97;
    for _ in PORTS {
        let offset = (start + usize::from(NEXT.fetch_add(1, Ordering::Relaxed))) % PORTS.len();
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", PORTS.start + offset as u16)) {
            return listener;
        }
    }
    panic!("no free port in {PORTS:?}");
}

/// An address where nobody listens, and where nobody will.
pub fn dead_address() -> SocketAddr {
    unlikely_port().local_addr().expect("a bound socket has an address")
}

/// What scripts wait at until a test lets them go on; closed at first.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets everybody through from now on.
    pub fn open(&self) {
        *self.0.0.lock().expect("nobody panics at a gate") = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open, or for three times [`DEADLINE`], which no test lives to see.
    pub fn pass(&self) {
        let open = self.0.0.lock().expect("nobody panics at a gate");
        let _ = self.0.1.wait_timeout_while(open, 3 * DEADLINE, |open| !*open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RawSocket;

    const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Ab: 1\r\nx-aB: 2\r\n\r\n";

    #[test]
    fn a_request_is_recorded_as_it_was_sent() {
        let handler = Handler::plain(|call| Answer::text(&call.target));
        let mut socket = RawSocket::connect(handler.addr());
        socket.write(GET);
        assert_eq!(socket.read_response().text(), "/a?b=c");
        socket.write("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n");
        assert_eq!(socket.read_response().text(), "/");
        let call = handler.next();
        assert_eq!((call.connection, call.method.as_str(), call.version.as_str()), (0, "GET", "HTTP/1.1"));
        let headers = [("Host", "x"), ("X-Ab", "1"), ("x-aB", "2")];
        assert_eq!(call.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(handler.next().text(), "abcd");
    }

    #[test]
    fn it_never_answers_resets_and_comes_back_after_a_kill() {
        let handler = Handler::plain(|call| match call.header("Host") {
            Some("x") => Answer::never(),
            _ => Answer::reset(),
        });
        let mut silent = RawSocket::connect(handler.addr());
        silent.write(GET);
        let mut reset = RawSocket::connect(handler.addr());
        reset.write("GET / HTTP/1.1\r\n\r\n");
        reset.expect_end();
        handler.expect_hang_up(1);
        assert_eq!(handler.connections_open(), 1);
        handler.kill();
        silent.expect_end();
        handler.restart();
        RawSocket::connect(handler.addr()).write(GET);
        assert_eq!(handler.calls_at_least(3).len(), 3);
        drop(RawSocket::connect(handler.addr()));
        handler.expect_hang_up(3);
    }
}

//! A pub/sub server small enough to be trusted by reading: two threads per connection, one lock over
//! everything, and one fault on request.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use base64_simd::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use socket2::SockRef;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

mod http;

/// What the server does wrong, once; where nothing else is said, at the [`FAULT_AT`]th message to its
/// first member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Leaves the message out.
    DropOne,
    /// Sends it twice.
    DoubleOne,
    /// Sends it after the next one.
    SwapOne,
    /// Changes its last letter.
    DamageOne,
    /// Skips one sequence id.
    SkipId,
    /// Sends nothing any more, to anybody.
    Silence,
    /// Closes the member with 1008.
    Close,
    /// Answers every upgrade with 401.
    Refuse,
    /// Answers the [`FAULT_AT`]th request with 503 and does not send.
    RefuseRequest,
    /// Ends the first connection that is closed without answering.
    NoGoodbye,
    /// Keeps a connection open that is closed.
    NeverEnds,
    /// Keeps everything for readers that do not read.
    KeepAll,
    /// Leaves out one message to a reader that does not read, and its id.
    StalledLoses,
    /// Says nothing to anybody for [`PAUSE`].
    Pause,
    /// Ends the connection of the [`FAULT_AT`]th request without an answer.
    EndRequests,
    /// Answers every upgrade from the [`FAULT_AT`]th on with 401.
    RefuseLater,
    /// Refuses the first recovery.
    RefuseRecovery,
    /// Leaves out of a replay a message that was never sent.
    ReplayLoses,
    /// Sends such a message again, after the replay and under a new id.
    ReplayDoubles,
    /// Sends such a message twice under its id.
    ReplayRepeats,
}

/// In the middle of a burst of eight, and not among the last messages of a round.
pub(crate) const FAULT_AT: u64 = 29;

/// Longer than anything else that a test waits for, but patience.
pub(crate) const PAUSE: Duration = Duration::from_millis(800);

/// Bytes kept for a plain reader that does not read, before it is cut off.
const QUEUED_MAX: usize = 256 * 1024;

/// The server; it ends with the test process.
pub(crate) struct TestServer {
    url: String,
    state: Arc<State>,
}

struct State {
    fault: Fault,
    /// `name:port`, part of the audience of every token.
    host: String,
    groups: Mutex<Groups>,
    sequence_acks: AtomicU64,
    requests: AtomicU64,
    recoveries: AtomicU64,
    /// Whether the fault that happens once, wherever it comes first, has happened.
    happened: AtomicBool,
}

#[derive(Default)]
struct Groups {
    /// By hub and group; also by user as `user:NAME`, and everybody under `hub:`.
    members: HashMap<String, Vec<Arc<Mutex<Member>>>>,
    sessions: HashMap<String, Arc<Mutex<Member>>>,
    silent: bool,
}

impl Groups {
    fn join(&mut self, hub: &str, group: &str, member: &Arc<Mutex<Member>>) {
        member.lock().unwrap().is_first |= self.members.is_empty();
        self.members.entry(format!("{hub}/{group}")).or_default().push(Arc::clone(member));
    }
}

struct Member {
    transport: Option<Transport>,
    kind: Kind,
    is_first: bool,
    messages: u64,
    last_id: u64,
    held: Option<Message>,
    /// Reliable: what is not acknowledged.
    log: VecDeque<Logged>,
}

struct Logged {
    id: u64,
    text: String,
    /// Whether there was a socket to send it on.
    sent: bool,
}

struct Transport {
    number: u64,
    queue: mpsc::Sender<Message>,
    queued: Arc<AtomicUsize>,
    socket: TcpStream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bare,
    Json,
    Reliable,
}

impl TestServer {
    /// Listens on a free port of loopback.
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Storms would overflow the default queue and wait for retries.
        SockRef::from(&listener).listen(1024).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let url = format!("ws://{host}");
        let state = Arc::new(State {
            fault,
            host,
            groups: Mutex::default(),
            sequence_acks: AtomicU64::default(),
            requests: AtomicU64::default(),
            recoveries: AtomicU64::default(),
            happened: AtomicBool::default(),
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for (number, socket) in (0..).zip(listener.incoming()) {
                let (socket, state) = (socket.unwrap(), Arc::clone(&serving));
                std::thread::spawn(move || state.serve(socket, number));
            }
        });
        Self { url, state }
    }

    /// The same server, met on its echo path.
    pub(crate) fn echoing(mut self) -> Self {
        self.url += "/echo";
        self
    }

    /// Where it listens.
    #[allow(dead_code, reason = "not every test that shares this module starts its peers itself")]
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `sequenceAck` messages received so far.
    pub(crate) fn sequence_acks(&self) -> u64 {
        self.state.sequence_acks.load(SeqCst)
    }

    /// Requests answered so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(SeqCst)
    }

    /// Recoveries asked for so far.
    pub(crate) fn recoveries(&self) -> u64 {
        self.state.recoveries.load(SeqCst)
    }
}

/// Runs the generator against `server`; its exit code, and its report or null if it made none.
pub(crate) fn bench(server: &TestServer, options: &str) -> (i32, Value) {
    let pid = std::process::id().to_string();
    let (code, reports) = run(options, &["--url", &server.url, "--key", "a key", "--pid", &pid]);
    (code, reports[0].clone())
}

/// The same, with all reports.
pub(crate) fn bench_all(server: &TestServer, options: &str) -> (i32, Vec<Value>) {
    let pid = std::process::id().to_string();
    let (code, reports) = run(options, &["--url", &server.url, "--key", "a key", "--pid", &pid]);
    (code, reports.as_array().unwrap().clone())
}

/// The same, with all reports, and with `server` met through a program that the generator starts: it
/// does no more than say where the server listens, and live until it is ended.
pub(crate) fn bench_starting(server: &TestServer, options: &str) -> (i32, Value) {
    let url = server.url.replace("ws://", "http://");
    let script = format!("#!/bin/sh\necho listening on {url}\necho admin on {url}\nexec sleep 600\n");
    let name = format!("started-{}-{}", std::process::id(), url.rsplit(':').next().unwrap());
    let program = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = run(options, &["--server-bin", program.to_str().unwrap()]);
    std::fs::remove_file(program).unwrap();
    outcome
}

fn run(options: &str, server: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringhub-bench"))
        .args(options.split_ascii_whitespace())
        .arg("--json")
        .args(server)
        .output()
        .unwrap();
    let reports = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        // Shown by the test harness when the test fails.
        eprintln!("no report: {}", String::from_utf8_lossy(&output.stderr));
        json!([null])
    });
    (output.status.code().expect("ended by itself"), reports)
}

impl State {
    #[expect(clippy::result_large_err, reason = "tungstenite's signature for refusals")]
    fn serve(&self, socket: TcpStream, number: u64) {
        socket.set_nodelay(true).unwrap();
        if http::is_request(&socket) {
            return http::serve(&socket, |request| self.on_request(request));
        }
        if http::is_scrape(&socket) {
            return http::serve_metrics(&socket);
        }
        let writing = socket.try_clone().unwrap();
        let mut uri = String::new();
        let mut kind = Kind::Bare;
        // Taken before the client hears that it is in: nothing is published before it is a member.
        let mut groups = None;
        let accepted = tungstenite::accept_hdr(socket, |request: &Request, mut response: Response| {
            if self.fault == Fault::Refuse || self.fault == Fault::RefuseLater && number >= FAULT_AT {
                let mut refusal = ErrorResponse::new(Some("no such key".into()));
                *refusal.status_mut() = tungstenite::http::StatusCode::UNAUTHORIZED;
                return Err(refusal);
            }
            uri = request.uri().to_string();
            groups = Some(self.groups.lock().unwrap());
            if let Some(name) = request.headers().get("Sec-WebSocket-Protocol") {
                kind = match name.to_str().unwrap() {
                    "json.webpubsub.azure.v1" => Kind::Json,
                    "json.reliable.webpubsub.azure.v1" => Kind::Reliable,
                    other => panic!("subprotocol {other}"),
                };
                response.headers_mut().insert("Sec-WebSocket-Protocol", name.clone());
            }
            Ok(response)
        });
        let (Some(mut reading), Some(mut joined)) = (accepted.ok(), groups) else { return };
        let member = self.admit(&mut joined, &uri, kind, Transport::new(number, writing));
        drop(joined);
        let Some(member) = member else {
            return drop(reading.close(Some(CloseFrame { code: 1008.into(), reason: "".into() })));
        };
        // Ends with the connection; what the generator does wrong shows as an error here, too.
        loop {
            match reading.read() {
                Ok(Message::Text(text)) => self.on_text(&uri, &member, &text),
                Ok(Message::Close(_)) => {
                    if self.fault == Fault::NeverEnds && self.once() {
                        // Until the generator has given up.
                        let _ = std::io::copy(reading.get_mut(), &mut std::io::sink());
                    }
                    if self.fault != Fault::NoGoodbye || !self.once() {
                        let _ = reading.flush();
                    }
                    break;
                }
                // Answered by the library.
                Ok(Message::Ping(_)) => {}
                Ok(other) => panic!("the generator sent {other:?}"),
                Err(_) => break,
            }
        }
        let mut member = member.lock().unwrap();
        if member.transport.as_ref().is_some_and(|transport| transport.number == number) {
            member.transport = None;
        }
        // The writing half must not keep the socket open.
        let _ = reading.get_ref().shutdown(Shutdown::Both);
    }

    /// A new member, or an old one on a new socket; none if the recovery is refused.
    fn admit(
        &self,
        groups: &mut Groups,
        uri: &str,
        kind: Kind,
        transport: Transport,
    ) -> Option<Arc<Mutex<Member>>> {
        if let Some(id) = query(uri, "awps_connection_id") {
            self.recoveries.fetch_add(1, SeqCst);
            assert_eq!(query(uri, "awps_reconnection_token"), Some(&*format!("t%2B{id}")));
            if self.fault == Fault::RefuseRecovery && self.once() {
                return None;
            }
            let member = Arc::clone(groups.sessions.get(id)?);
            self.recover(&mut member.lock().unwrap(), id, transport);
            return Some(member);
        }
        let id = format!("c{}", transport.number);
        let member = Arc::new(Mutex::new(Member {
            transport: Some(transport),
            kind,
            is_first: false,
            messages: 0,
            last_id: 0,
            held: None,
            log: VecDeque::new(),
        }));
        // First of all messages, but nothing is published before the memberships hold.
        if kind != Kind::Bare {
            member.lock().unwrap().say(connected(&id));
        }
        groups.sessions.insert(id, Arc::clone(&member));
        let hub = hub_of(uri);
        groups.join(hub, "hub:", &member);
        if let Some(claims) = claims(uri) {
            groups.join(hub, &format!("user:{}", claims["sub"].as_str().unwrap()), &member);
            for group in claims["webpubsub.group"].as_array().unwrap() {
                groups.join(hub, group.as_str().unwrap(), &member);
            }
        }
        Some(member)
    }

    fn recover(&self, member: &mut Member, id: &str, transport: Transport) {
        if let Some(old) = member.transport.replace(transport) {
            old.end();
        }
        member.say(connected(id));
        let unsent = member.log.iter().rposition(|logged| !logged.sent);
        let fault = unsent.filter(|_| self.fault.is_in_replay() && self.once());
        if self.fault == Fault::ReplayLoses
            && let Some(fault) = fault
        {
            member.log.remove(fault);
        }
        let repeated = fault.filter(|_| self.fault == Fault::ReplayRepeats);
        for (index, logged) in member.log.iter_mut().enumerate() {
            logged.sent = true;
            let text = logged.text.clone();
            for _ in 0..1 + usize::from(repeated == Some(index)) {
                member.transport.as_ref().unwrap().send(Message::text(text.clone()));
            }
        }
        if self.fault == Fault::ReplayDoubles
            && let Some(fault) = fault
        {
            member.last_id += 1;
            let old = &member.log[fault];
            let (from, to) = (format!(r#"Id":{}}}"#, old.id), format!(r#"Id":{}}}"#, member.last_id));
            let again = old.text.replace(&from, &to);
            member.say(again);
        }
    }

    /// True the first time.
    fn once(&self) -> bool {
        !self.happened.swap(true, SeqCst)
    }

    /// Sends as a REST request asks; its status, or none if the connection is to end.
    fn on_request(&self, request: &http::Request) -> Option<u16> {
        let count = self.requests.fetch_add(1, SeqCst) + 1;
        let audience = format!("http://{}{}", self.host, request.target);
        assert_eq!(token_claims(&request.bearer)["aud"], *audience, "the audience is the URL");
        if self.fault == Fault::RefuseRequest && count == FAULT_AT {
            return Some(503);
        }
        if self.fault == Fault::EndRequests && count == FAULT_AT {
            return None;
        }
        let hub = hub_of(&request.target);
        let path = request.target.strip_prefix(&format!("/api/hubs/{hub}/")).unwrap();
        match path.strip_suffix(":send?api-version=2024-12-01").unwrap().split('/').collect::<Vec<_>>()[..] {
            [""] => self.publish(hub, "hub:", From::Server, &request.body),
            ["users", user, ""] => self.publish(hub, &format!("user:{user}"), From::Server, &request.body),
            ["groups", group, ""] => self.publish(hub, group, From::Rest, &request.body),
            _ => panic!("the generator asked for {path}"),
        }
        Some(202)
    }

    fn on_text(&self, uri: &str, member: &Arc<Mutex<Member>>, text: &str) {
        // A started `echo` listener is met at `/`; payloads begin with `rb`, requests never do.
        if uri.starts_with("/echo") || uri == "/" && text.starts_with("rb") {
            let mut member = member.lock().unwrap();
            member.messages += 1;
            let damage = self.fault == Fault::DamageOne && member.messages == FAULT_AT;
            return member.say(if damage { "something else".into() } else { text.to_owned() });
        }
        let kind = member.lock().unwrap().kind;
        if kind == Kind::Bare {
            return match (query(uri, "group"), text) {
                (Some(group), _) => self.publish(hub_of(uri), group, From::Client, text),
                // As if an event handler had given it back.
                (None, _) if uri.starts_with("/client/") => self.give_back(member, text),
                (None, "S") => {
                    member.lock().unwrap().say("OK".into());
                    self.groups.lock().unwrap().join("", "all", member);
                }
                (None, _) => self.publish("", "all", From::Client, text.strip_prefix('P').expect("S or P")),
            };
        }
        let request: Value = serde_json::from_str(text).unwrap();
        let group = request["group"].as_str().unwrap_or_default();
        match request["type"].as_str().unwrap() {
            "sendToGroup" => {
                self.publish(hub_of(uri), group, From::Client, request["data"].as_str().unwrap())
            }
            "sequenceAck" => {
                let (id, mut member) = (request["sequenceId"].as_u64().unwrap(), member.lock().unwrap());
                assert!(id <= member.last_id);
                member.log.retain(|logged| logged.id > id);
                self.sequence_acks.fetch_add(1, SeqCst);
            }
            // Nobody wants it.
            "event" if request["event"] == "flood" => {}
            "event" => {
                assert_eq!((&request["event"], &request["dataType"]), (&"echo".into(), &"text".into()));
                self.give_back(member, request["data"].as_str().unwrap());
            }
            verb @ ("joinGroup" | "leaveGroup") => {
                let mut groups = self.groups.lock().unwrap();
                if verb == "joinGroup" {
                    groups.join(hub_of(uri), group, member);
                } else if let Some(members) = groups.members.get_mut(&format!("{}/{group}", hub_of(uri))) {
                    members.retain(|other| !Arc::ptr_eq(other, member));
                }
                if let Some(id) = request["ackId"].as_u64() {
                    let ack = json!({ "type": "ack", "ackId": id, "success": true });
                    member.lock().unwrap().say(ack.to_string());
                }
            }
            other => panic!("the generator sent {other}"),
        }
    }

    fn give_back(&self, member: &Arc<Mutex<Member>>, data: &str) {
        let mut groups = self.groups.lock().unwrap();
        if !groups.silent {
            groups.silent = member.lock().unwrap().deliver(self, "", From::Server, data);
        }
    }

    fn publish(&self, hub: &str, group: &str, from: From, data: &str) {
        let mut groups = self.groups.lock().unwrap();
        let groups = &mut *groups;
        for member in groups.members.get(&format!("{hub}/{group}")).into_iter().flatten() {
            if !groups.silent {
                groups.silent = member.lock().unwrap().deliver(self, group, from, data);
            }
            if groups.silent {
                return;
            }
        }
    }
}

/// Who sent a message, which shows in its envelope.
#[derive(Clone, Copy)]
enum From {
    Client,
    Rest,
    Server,
}

impl Fault {
    fn is_in_replay(self) -> bool {
        matches!(self, Self::ReplayLoses | Self::ReplayDoubles | Self::ReplayRepeats)
    }
}

impl Member {
    /// Sends one message, or does the fault. True: from now on, silence.
    fn deliver(&mut self, state: &State, group: &str, from: From, data: &str) -> bool {
        let fault = state.fault;
        self.messages += 1;
        let now = self.is_first && self.messages == FAULT_AT;
        if now && fault == Fault::DropOne {
            return false;
        }
        if now && fault == Fault::Pause {
            // The fault itself: whoever publishes holds the lock, for which everybody else waits.
            std::thread::sleep(PAUSE);
        }
        self.last_id += 1 + u64::from(now && fault == Fault::SkipId);
        let queued = self.transport.as_ref().map_or(0, |transport| transport.queued.load(SeqCst));
        if fault == Fault::StalledLoses && queued > QUEUED_MAX && state.once() {
            return false;
        }
        let is_damaged = now && fault == Fault::DamageOne;
        let damaged = if is_damaged { format!("{}!", &data[..data.len() - 1]) } else { String::new() };
        let data = if is_damaged { &damaged } else { data };
        let id = if self.kind == Kind::Reliable {
            format!(r#","sequenceId":{}"#, self.last_id)
        } else {
            "".into()
        };
        let from = match from {
            From::Client => format!(r#""group","group":"{group}","fromUserId":"publisher""#),
            From::Rest => format!(r#""group","group":"{group}""#),
            From::Server => r#""server""#.into(),
        };
        let text = match self.kind {
            Kind::Bare => data.to_owned(),
            _ => format!(r#"{{"type":"message","from":{from},"dataType":"text","data":"{data}"{id}}}"#),
        };
        if self.kind == Kind::Reliable {
            let sent = self.transport.is_some();
            self.log.push_back(Logged { id: self.last_id, text: text.clone(), sent });
        } else if queued > QUEUED_MAX && fault != Fault::KeepAll {
            if let Some(transport) = self.transport.take() {
                transport.end();
            }
            return false;
        }
        match fault {
            Fault::Silence if now => return true,
            Fault::Close if now => {
                let frame = CloseFrame { code: 1008.into(), reason: "slow".into() };
                self.transport.as_ref().unwrap().send(Message::Close(Some(frame)));
            }
            Fault::SwapOne if now => self.held = Some(Message::text(text)),
            _ => {
                if now && fault == Fault::DoubleOne {
                    self.say(text.clone());
                }
                self.say(text);
                if let Some(held) = self.held.take() {
                    self.transport.as_ref().unwrap().send(held);
                }
            }
        }
        false
    }

    fn say(&mut self, text: String) {
        if let Some(transport) = &self.transport {
            transport.send(Message::text(text));
        }
    }
}

impl Transport {
    /// A thread writes, so that a reader that does not read holds up nobody else.
    fn new(number: u64, socket: TcpStream) -> Self {
        let (queue, messages) = mpsc::channel::<Message>();
        let queued = Arc::new(AtomicUsize::new(0));
        let (writing, written) = (socket.try_clone().unwrap(), Arc::clone(&queued));
        std::thread::spawn(move || {
            let mut writing = WebSocket::from_raw_socket(writing, Role::Server, None);
            for message in messages {
                let len = message.len();
                // The generator may have gone: it ends at the first closed connection.
                if writing.send(message).is_err() {
                    return;
                }
                written.fetch_sub(len, SeqCst);
            }
        });
        Self { number, queue, queued, socket }
    }

    fn send(&self, message: Message) {
        self.queued.fetch_add(message.len(), SeqCst);
        // Nobody writes any more once the connection ended.
        let _ = self.queue.send(message);
    }

    /// Ends the socket with a reset, whatever is unsent.
    fn end(self) {
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn connected(id: &str) -> String {
    json!({ "type": "system", "event": "connected", "connectionId": id, "reconnectionToken": format!("t+{id}") })
        .to_string()
}

/// The hub that a client or a request names; empty where there are none.
fn hub_of(uri: &str) -> &str {
    let rest = uri.split_once("/hubs/").map_or("", |(_, rest)| rest);
    &rest[..rest.find(['?', '/']).unwrap_or(rest.len())]
}

fn query<'a>(uri: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = uri.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// What the token of a client says. Its signature is checked where it is made.
fn claims(uri: &str) -> Option<Value> {
    query(uri, "access_token").map(token_claims)
}

fn token_claims(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode_to_vec(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

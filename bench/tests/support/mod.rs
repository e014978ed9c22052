//! A pub/sub server small enough to be trusted by reading: a thread per connection, one lock over
//! everything, and one fault on request.

use std::collections::HashMap;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use base64_simd::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// What the server does wrong, once, at the [`FAULT_AT`]th message to its first member.
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
}

/// In the middle of a burst of eight, and not among the last messages of a round.
const FAULT_AT: u64 = 29;

/// The server; it ends with the test process.
pub(crate) struct TestServer {
    url: String,
    state: Arc<State>,
}

struct State {
    fault: Fault,
    groups: Mutex<Groups>,
    sequence_acks: AtomicU64,
}

#[derive(Default)]
struct Groups {
    members: HashMap<String, Vec<Arc<Mutex<Member>>>>,
    silent: bool,
}

struct Member {
    socket: WebSocket<TcpStream>,
    kind: Kind,
    is_first: bool,
    messages: u64,
    last_id: u64,
    held: Option<Message>,
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
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let state = Arc::new(State { fault, groups: Mutex::default(), sequence_acks: AtomicU64::default() });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, state) = (socket.unwrap(), Arc::clone(&serving));
                std::thread::spawn(move || state.serve(socket));
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
}

/// Runs the generator against `server`; its exit code, and its report or null if it made none.
pub(crate) fn bench(server: &TestServer, options: &str) -> (i32, Value) {
    let pid = std::process::id().to_string();
    let (code, reports) = run(options, &["--url", &server.url, "--key", "a key", "--pid", &pid]);
    (code, reports[0].clone())
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
    fn serve(&self, socket: TcpStream) {
        socket.set_nodelay(true).unwrap();
        let writing = socket.try_clone().unwrap();
        let mut uri = String::new();
        let mut kind = Kind::Bare;
        let accepted = tungstenite::accept_hdr(socket, |request: &Request, mut response: Response| {
            if self.fault == Fault::Refuse {
                let mut refusal = ErrorResponse::new(Some("no such key".into()));
                *refusal.status_mut() = tungstenite::http::StatusCode::UNAUTHORIZED;
                return Err(refusal);
            }
            uri = request.uri().to_string();
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
        let Ok(mut reading) = accepted else { return };
        let member = Arc::new(Mutex::new(Member {
            socket: WebSocket::from_raw_socket(writing, Role::Server, None),
            kind,
            is_first: false,
            messages: 0,
            last_id: 0,
            held: None,
        }));
        if kind != Kind::Bare {
            let connected = json!({ "type": "system", "event": "connected", "connectionId": "c" });
            member.lock().unwrap().say(connected.to_string());
        }
        for group in groups_of_token(&uri) {
            self.join(&group, &member);
        }
        // Ends with the connection; what the generator does wrong shows as an error here, too.
        while let Ok(message) = reading.read() {
            match message {
                Message::Text(text) => self.on_text(&uri, &member, &text),
                Message::Close(_) => return,
                other => panic!("the generator sent {other:?}"),
            }
        }
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
                (Some(group), _) => self.publish(group, text),
                (None, "S") => {
                    member.lock().unwrap().say("OK".into());
                    self.join("all", member);
                }
                (None, _) => self.publish("all", text.strip_prefix('P').expect("S or P")),
            };
        }
        let request: Value = serde_json::from_str(text).unwrap();
        let group = request["group"].as_str().unwrap_or_default();
        match request["type"].as_str().unwrap() {
            "sendToGroup" => self.publish(group, request["data"].as_str().unwrap()),
            "sequenceAck" => {
                assert!(request["sequenceId"].as_u64().unwrap() <= member.lock().unwrap().last_id);
                self.sequence_acks.fetch_add(1, SeqCst);
            }
            "leaveGroup" => {
                let mut groups = self.groups.lock().unwrap();
                groups.members.get_mut(group).unwrap().retain(|other| !Arc::ptr_eq(other, member));
                let ack = json!({ "type": "ack", "ackId": request["ackId"], "success": true });
                member.lock().unwrap().say(ack.to_string());
            }
            other => panic!("the generator sent {other}"),
        }
    }

    fn join(&self, group: &str, member: &Arc<Mutex<Member>>) {
        let mut groups = self.groups.lock().unwrap();
        member.lock().unwrap().is_first |= groups.members.is_empty();
        groups.members.entry(group.to_owned()).or_default().push(Arc::clone(member));
    }

    fn publish(&self, group: &str, data: &str) {
        let mut groups = self.groups.lock().unwrap();
        let groups = &mut *groups;
        for member in groups.members.get(group).into_iter().flatten() {
            if !groups.silent {
                groups.silent = member.lock().unwrap().deliver(self.fault, group, data);
            }
            if groups.silent {
                return;
            }
        }
    }
}

impl Member {
    /// Sends one message, or does the fault. True: from now on, silence.
    fn deliver(&mut self, fault: Fault, group: &str, data: &str) -> bool {
        self.messages += 1;
        let now = self.is_first && self.messages == FAULT_AT;
        if now && fault == Fault::DropOne {
            return false;
        }
        self.last_id += 1 + u64::from(now && fault == Fault::SkipId);
        let damaged = format!("{}!", &data[..data.len() - 1]);
        let data = if now && fault == Fault::DamageOne { &damaged } else { data };
        let id = if self.kind == Kind::Reliable {
            format!(r#","sequenceId":{}"#, self.last_id)
        } else {
            "".into()
        };
        let text = match self.kind {
            Kind::Bare => data.to_owned(),
            _ => format!(
                r#"{{"type":"message","from":"group","group":"{group}","fromUserId":"publisher","dataType":"text","data":"{data}"{id}}}"#
            ),
        };
        match fault {
            Fault::Silence if now => return true,
            Fault::Close if now => {
                let frame = tungstenite::protocol::CloseFrame { code: 1008.into(), reason: "slow".into() };
                let _ = self.socket.close(Some(frame));
            }
            Fault::SwapOne if now => self.held = Some(Message::text(text)),
            _ => {
                if now && fault == Fault::DoubleOne {
                    self.say(text.clone());
                }
                self.say(text);
                if let Some(held) = self.held.take() {
                    let _ = self.socket.send(held);
                }
            }
        }
        false
    }

    fn say(&mut self, text: String) {
        // The generator may have gone: it ends at the first closed connection.
        let _ = self.socket.send(Message::text(text));
    }
}

fn query<'a>(uri: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = uri.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The groups that a token joins. Its signature is checked where it is made.
fn groups_of_token(uri: &str) -> Vec<String> {
    let Some(token) = query(uri, "access_token") else { return Vec::new() };
    let claims = URL_SAFE_NO_PAD.decode_to_vec(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let groups = claims["webpubsub.group"].as_array().unwrap();
    groups.iter().map(|group| group.as_str().unwrap().to_owned()).collect()
}

//! Whole cores over real sockets, with rings so small that every limit is met.

mod cuts;
mod faults;
pub(crate) mod panics;
mod pressure;
mod races;
mod stops;

use crate::certificates::{TlsConfigStore, make};
use crate::config::Tls;
use crate::core::counters::{CoreShared, Counters};
use crate::core::settings::{HubSettings, RingSettings, Settings, SocketSettings};
use crate::core::{Mode, Server, start};
use crate::net::gate::{Admission, Admitted, Gate, UpgradeRequest};
use crate::net::patience::{Awaits, Stage};
use crate::net::peer::Via;
use crate::net::{
    Address, HttpAnswer, HttpCall, HttpFactory, HttpHandler, HttpProgress, Listener, OwnedContent,
};
use bytes::Bytes;
use ringhub_hub::event::{Route, Routes};
use ringhub_hub::{ConnectionId, CoreId};
use ringhub_protocol::events::{EventFilter, UserEvents};
use ringhub_protocol::http::write_refusal;
use ringhub_protocol::name::{GroupName, HubName};
use ringhub_protocol::pubsub::{DataType, Form, Subprotocol};
use ringhub_protocol::rest::{Operation, Target};
use ringhub_protocol::ws::handshake::choose;
use ringhub_relay::exchange::Exchange;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const RELIABLE: &str = "json.reliable.webpubsub.azure.v1";

/// Lets everyone in, everyone a member of group `g`, raw clients sending to it. What it does before that, with the
/// target asked for, the core does: it stops or panics there, if a test wants that.
struct Open(Box<dyn Fn(&str) + Send + Sync>);

impl Gate for Open {
    fn admit(&self, _: u64, request: &UpgradeRequest<'_>) -> Admission {
        self.0(request.target);
        let (subprotocol, echoed) = choose(request.subprotocols);
        let echoed = echoed.map(Into::into);
        let hub = HubName::parse("chat").unwrap();
        if let Some((_, id)) = request.target.split_once("id=") {
            let id = ConnectionId::parse(id).unwrap();
            return Admission::Recover { hub, id, subprotocol, echoed };
        }
        let group = GroupName::parse("g").unwrap();
        Admission::Connect(Box::new(Admitted {
            hub,
            subprotocol,
            echoed,
            user: None,
            roles: vec!["webpubsub.sendToGroup".into()],
            groups: vec![group.clone()],
            raw_group: (subprotocol == Subprotocol::Raw).then_some((group, true)),
            address: request.address,
            pass: None,
        }))
    }

    fn reconnection_token(&self, _: &HubName, _: &ConnectionId) -> String {
        "token".into()
    }
}

/// Sends what is posted, as text that is worth something for five minutes, to group `g`; answers 404 to anything.
struct NoHttp;

impl HttpFactory for NoHttp {
    fn open(&self, _: CoreId, _: Listener, _: Via) -> Box<dyn HttpHandler> {
        Box::new(NoHttpHere { fed: false, posted: None })
    }
}

struct NoHttpHere {
    fed: bool,
    posted: Option<Bytes>,
}

impl HttpHandler for NoHttpHere {
    fn feed(&mut self, bytes: &[u8]) {
        self.fed = true;
        let body = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| &bytes[at + 4..]);
        self.posted = body.filter(|_| bytes.starts_with(b"POST")).map(Bytes::copy_from_slice);
    }

    fn poll(&mut self, _: u64) -> HttpProgress {
        if let Some(bytes) = self.posted.take() {
            let target = Target::Group(GroupName::parse("g").unwrap());
            let operation = Operation::Send { target, excluded: [].into(), filter: None, ttl_seconds: 300 };
            let body = OwnedContent { data_type: DataType::Text, form: Form::Plain, bytes, metadata: None };
            let hub = HubName::parse("chat").unwrap();
            let call = Some(HttpCall::Operation { hub, operation, body: Some(body) });
            return HttpProgress { call, ..HttpProgress::default() };
        }
        let mut progress = HttpProgress { close: self.fed, ..HttpProgress::default() };
        if std::mem::take(&mut self.fed) {
            let mut out = Vec::new();
            write_refusal(&mut out, 404, &[], "text/plain", b"");
            progress.output = out.into();
        }
        progress
    }

    fn answer(&mut self, _: HttpAnswer) {}

    fn is_full(&self) -> bool {
        false
    }

    fn stage(&self) -> Stage {
        Stage { answered: 0, awaits: Awaits::Request, body_bytes: 0 }
    }
}

struct Running {
    server: Server,
    shared: Vec<Arc<CoreShared>>,
}

impl Running {
    fn new(mode: Mode, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(mode, None, change)
    }

    fn with(mode: Mode, tls: Option<Arc<TlsConfigStore>>, change: impl FnOnce(&mut Settings)) -> Self {
        Self::gated(mode, tls, |_| {}, change)
    }

    fn gated(
        mode: Mode,
        tls: Option<Arc<TlsConfigStore>>,
        gate: impl Fn(&str) + Send + Sync + 'static,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings {
            listen: vec![Address::plain(([127, 0, 0, 1], 0))],
            admin_listen: vec![],
            ..Settings::default()
        };
        // Most tests leave without a goodbye.
        settings.sockets.close_deadline = Duration::from_millis(300);
        change(&mut settings);
        let shared: Vec<_> = (0..settings.cores).map(|_| Arc::default()).collect();
        let exchange = Arc::new(Exchange::new(settings.cores));
        let gate = Arc::new(Open(Box::new(gate)));
        let server = start(settings, mode, gate, Arc::new(NoHttp), tls, exchange, &shared).unwrap();
        Self { server, shared }
    }

    fn address(&self) -> SocketAddr {
        self.server.service[0].socket
    }

    fn connect(&self) -> Client {
        Client::connect(self.address(), "/client/hubs/chat", None)
    }

    fn sum(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.shared.iter().map(|shared| counter(&shared.counters)).sum()
    }

    /// Waits until a number is `exactly`.
    fn settle(&self, exactly: u64, counter: impl Fn(&Counters) -> u64 + Copy) {
        let start = Instant::now();
        while self.sum(counter) != exactly {
            assert!(start.elapsed() < Duration::from_secs(20), "{} is not {exactly}", self.sum(counter));
            std::thread::yield_now();
        }
    }

    /// Waits until a counter is `at_least`.
    fn wait(&self, at_least: u64, counter: impl Fn(&Counters) -> u64 + Copy) {
        let start = Instant::now();
        while self.sum(counter) < at_least {
            assert!(start.elapsed() < Duration::from_secs(20), "{} < {at_least}", self.sum(counter));
            std::thread::yield_now();
        }
    }

    fn stop(self) -> Vec<Arc<CoreShared>> {
        self.server.stop();
        self.server.join();
        self.shared
    }
}

/// A client by hand.
struct Client<S = TcpStream> {
    stream: S,
    received: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr, path: &str, subprotocol: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self::over(stream, path, subprotocol)
    }
}

impl<S: Read + Write> Client<S> {
    fn over(stream: S, path: &str, subprotocol: Option<&str>) -> Self {
        let mut client = Self { stream, received: Vec::new() };
        let offer = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
        );
        client.stream.write_all(head.as_bytes()).unwrap();
        let end = loop {
            if let Some(at) = client.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(client.read(), "closed before the end of the response head");
        };
        let head = String::from_utf8(client.received.drain(..end).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        client
    }

    fn read(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer) {
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                n > 0
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.stream.write_all(&masked(opcode, payload)).unwrap();
    }

    /// The next frame: opcode and payload; `None` at the end.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let [first, len, rest @ ..] = &self.received[..] {
                let (header, len) = match (len, rest) {
                    (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
                    (127, rest) if rest.len() >= 8 => {
                        (10, u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize)
                    }
                    (126 | 127, _) => (usize::MAX / 2, 0),
                    (len, _) => (2, usize::from(*len)),
                };
                if self.received.len() >= header + len {
                    let opcode = first & 15;
                    let payload = self.received[header..header + len].to_vec();
                    self.received.drain(..header + len);
                    return Some((opcode, payload));
                }
            }
            if !self.read() {
                return None;
            }
        }
    }

    fn expect(&mut self, payload: &[u8]) {
        let (opcode, got) = self.next().expect("a message");
        assert!(got == payload, "opcode {opcode}, {} bytes for {}", got.len(), payload.len());
    }
}

fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let mask = [0x12, 0x34, 0x56, 0x78];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn tiny(settings: &mut Settings) {
    settings.ring =
        RingSettings { submissions: 8, completions: 16, buffers: 8, buffer_bytes: 256, faults: None };
}

#[test]
fn echoes_every_size_through_eight_small_buffers() {
    let running = Running::new(Mode::Echo, tiny);
    let mut client = running.connect();
    for len in [0, 1, 125, 126, 255, 256, 257, 4095, 65_535, 65_536, 200_000] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        let frame = masked(2, &payload);
        let mut stream = client.stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || stream.write_all(&frame).unwrap());
        client.expect(&payload);
        writer.join().unwrap();
    }
    client.send(8, &1000u16.to_be_bytes());
    assert_eq!(client.next(), Some((8, 1000u16.to_be_bytes().to_vec())));
    assert_eq!(client.next(), None);
    running.stop();
}

#[test]
fn a_thousand_receivers_behind_eight_submissions() {
    let running = Running::new(Mode::Serve, tiny);
    let mut receivers: Vec<_> = (0..1000).map(|_| running.connect()).collect();
    let mut sender = running.connect();
    running.wait(1001, |counters| counters.websockets.get());
    // In one write, so that several land in one turn.
    let burst: Vec<u8> = (0..20).flat_map(|n| masked(1, format!("message {n}").as_bytes())).collect();
    sender.stream.write_all(&burst).unwrap();
    for receiver in &mut receivers {
        for n in 0..20 {
            receiver.expect(format!("message {n}").as_bytes());
        }
    }
    assert!(running.sum(|counters| counters.submissions_full.get()) > 100, "eight at a time");
    running.stop();
}

#[test]
fn everybody_at_once_and_nothing_is_lost() {
    let running = Running::new(Mode::Serve, tiny);
    let mut clients: Vec<_> = (0..100).map(|_| running.connect()).collect();
    running.wait(100, |counters| counters.websockets.get());
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(1, format!("from {n:03}").as_bytes());
    }
    for (me, client) in clients.iter_mut().enumerate() {
        let mut got: Vec<_> = (0..99).map(|_| client.next().unwrap().1).collect();
        got.sort();
        let others = (0..100).filter(|n| *n != me).map(|n| format!("from {n:03}").into_bytes());
        assert!(got.into_iter().eq(others), "client {me}");
    }
    running.stop();
}

#[test]
fn partial_sends_arrive_byte_for_byte() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets = SocketSettings {
            send_buffer_bytes: Some(4 << 10),
            outbox_bytes_max: 64 << 20,
            ..SocketSettings::default()
        };
    });
    let mut receivers: Vec<_> = (0..3).map(|_| running.connect()).collect();
    let mut sender = running.connect();
    running.wait(4, |counters| counters.websockets.get());
    // The last one is the largest there may be.
    let len = |n: usize| if n == 19 { 1 << 20 } else { 150_000 + n };
    let payload = |n: usize| -> Vec<u8> { (0..len(n)).map(|i| ((i + n) * 31 % 253) as u8).collect() };
    for n in 0..20 {
        sender.send(2, &payload(n));
    }
    running.wait(1, |counters| counters.sends_short.get());
    for n in 0..20 {
        for receiver in &mut receivers {
            receiver.expect(&payload(n));
        }
    }
    assert_eq!(running.sum(|counters| counters.slow_consumers.get()), 0);
    let shared = running.stop();
    assert_eq!(shared[0].counters.outbox_bytes.get(), 0);
}

#[test]
fn a_stalled_reader_is_cut_and_its_neighbour_gets_everything() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets.send_buffer_bytes = Some(16 << 10);
        settings.sockets.outbox_bytes_max = 100 << 10;
        // On a busy machine this takes longer than silence may.
        settings.hub_default.keepalive = Duration::from_secs(3600);
    });
    let mut stalled = running.connect();
    let mut reader = running.connect();
    let mut sender = running.connect();
    running.wait(3, |counters| counters.websockets.get());
    let payload = vec![b'x'; 50_000];
    // The receiver's kernel buffer takes some megabytes before the stall shows.
    for _ in 0..400 {
        sender.send(1, &payload);
        reader.expect(&payload);
    }
    running.wait(1, |counters| counters.slow_consumers.get());
    while stalled.next().is_some() {}
    sender.send(1, b"after");
    reader.expect(b"after");
    assert_eq!(running.sum(|counters| counters.websockets.get()), 2);
    let closed = running.shared[0].closed.lock().unwrap()[0].clone();
    assert_eq!((closed.code, closed.category.name()), (1008, "SlowClient"));
    let shared = running.stop();
    assert_eq!(shared[0].counters.outbox_bytes.get(), 0);
}

#[test]
fn two_cores_deliver_to_each_others_clients_in_order() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.cores = 2;
        // One batch at a time, and a bound that is met: admission stops and goes on.
        settings.mesh.batches_max = 1;
        settings.mesh.batch_bytes_max = 2000;
    });
    let mut clients: Vec<_> = (0..40).map(|_| running.connect()).collect();
    running.wait(40, |counters| counters.websockets.get());
    assert!(running.shared.iter().all(|shared| shared.counters.websockets.get() > 0), "both cores have some");
    let (senders, receivers) = clients.split_at_mut(2);
    for (which, sender) in senders.iter_mut().enumerate() {
        let burst: Vec<u8> =
            (0..500).flat_map(|n| masked(1, format!("{which} {n} {:300}", "").as_bytes())).collect();
        sender.stream.write_all(&burst).unwrap();
    }
    for receiver in receivers {
        let mut next = [0, 0];
        for _ in 0..1000 {
            let (_, payload) = receiver.next().unwrap();
            let text = String::from_utf8(payload).unwrap();
            let mut parts = text.split(' ').map(|part| part.parse::<usize>().unwrap_or(0));
            let (which, n) = (parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(n, next[which]);
            next[which] += 1;
        }
    }
    assert!(running.sum(|counters| counters.mesh_batches.get()) > 0);
    running.stop();
}

#[test]
fn a_session_is_found_from_any_core() {
    let running = Running::new(Mode::Serve, |settings| settings.cores = 2);
    let connected = |client: &mut Client| {
        let (_, text) = client.next().unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#""event":"connected""#), "{text}");
        text.split_once(r#""connectionId":""#).unwrap().1[..32].to_owned()
    };
    let mut client = Client::connect(running.address(), "/client/hubs/chat", Some(RELIABLE));
    let id = connected(&mut client);
    // The kernel spreads connections over the cores; twenty attempts meet both but for one time in a million.
    for _ in 0..20 {
        let path = format!("/client/hubs/chat?id={id}");
        client = Client::connect(running.address(), &path, Some(RELIABLE));
        assert_eq!(connected(&mut client), id);
    }
    assert!(running.sum(|counters| counters.sockets_moved_in.get()) > 0);
    client.send(1, br#"{"type":"ping"}"#);
    assert_eq!(client.next().unwrap().1, br#"{"type":"pong"}"#);
    running.stop();
}

#[test]
fn a_stop_says_1001_and_ends() {
    let running = Running::new(Mode::Serve, |settings| settings.cores = 2);
    let mut clients: Vec<_> = (0..10).map(|_| running.connect()).collect();
    let mut half = TcpStream::connect(running.address()).unwrap();
    half.write_all(b"GET / HT").unwrap();
    running.wait(10, |counters| counters.websockets.get());
    running.server.stop();
    for client in &mut clients {
        let (opcode, payload) = client.next().unwrap();
        assert_eq!((opcode, &payload[..2]), (8, &1001u16.to_be_bytes()[..]));
        client.send(8, &1001u16.to_be_bytes());
        assert_eq!(client.next(), None);
    }
    let started = Instant::now();
    let shared = running.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "nobody had to be cut");
    for shared in shared {
        assert_eq!((shared.counters.sockets.get(), shared.counters.websockets.get()), (0, 0));
    }
}

#[test]
fn a_slow_head_and_a_silent_client_are_ended() {
    let running = Running::new(Mode::Serve, |settings| {
        settings.sockets.head_deadline = Duration::from_millis(300);
        settings.hub_default =
            HubSettings { keepalive: Duration::from_millis(300), ..HubSettings::default() };
    });
    let mut slow = TcpStream::connect(running.address()).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    slow.write_all(b"GET /client/hubs/chat HTTP/1.1\r\n").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    let mut silent = running.connect();
    let mut pings = 0;
    while let Some((opcode, _)) = silent.next() {
        assert_eq!(opcode, 9);
        pings += 1;
    }
    assert_eq!(pings, 3, "one to start with and two that were missed");
    assert_eq!(running.sum(|counters| counters.ping_timeouts.get()), 1);
    assert_eq!(running.shared[0].closed.lock().unwrap()[0].category.name(), "PingTimeout");
    running.stop();
}

#[test]
fn a_broken_frame_ends_one_client_only() {
    let running = Running::new(Mode::Serve, |_| {});
    let mut good = running.connect();
    let mut bad = running.connect();
    running.wait(2, |counters| counters.websockets.get());
    // A good message, then a reserved opcode: the message counts, the frame ends the connection.
    let mut bytes = masked(1, b"before");
    bytes.extend(masked(3, b"reserved"));
    bad.stream.write_all(&bytes).unwrap();
    good.expect(b"before");
    let (opcode, payload) = bad.next().unwrap();
    assert_eq!((opcode, &payload[..2]), (8, &1002u16.to_be_bytes()[..]));
    assert_eq!(bad.next(), None);
    good.send(9, b"still there");
    assert_eq!(good.next(), Some((10, b"still there".to_vec())));
    assert_eq!(running.sum(|counters| counters.websockets.get()), 1);
    running.stop();
}

#[test]
fn refuses_what_is_no_request() {
    let running = Running::new(Mode::Serve, |_| {});
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("NONSENSE\r\n\r\n", "400"),
        (
            "GET /client/hubs/chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 12\r\n\r\n",
            "426",
        ),
    ] {
        let mut stream = TcpStream::connect(running.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {response}");
    }
    running.stop();
}

/// They were told so in plain text, where every other refusal has the API's body.
#[test]
fn malformed_heads_are_refused_with_the_api_s_body() {
    let running = Running::new(Mode::Serve, |_| {});
    for request in [
        &b"HEAD /api/hubs/h/groups/\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\r\nPOST /api/hubs/h/:send HTTP/1.1\r\n\r\n",
        b"GET /client/hubs/h HTTP/1.1\r\n\r\n",
        b"GET  /api/health HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(running.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert!(response.contains("x-ms-error-code: Error.BadRequest\r\n"), "{response}");
        assert!(response.contains("\r\n\r\n{\"code\":\"Error.BadRequest\",\"message\":\""), "{response}");
    }
    running.stop();
}

/// What was gathered for the side thread in a turn passed for a side thread that is behind: every other message of the
/// turn was parked, its receive cancelled, and each turn took one event.
#[test]
fn an_event_does_not_hold_up_what_comes_in_with_it() {
    let running = Running::new(Mode::Serve, |settings| {
        let filter = EventFilter { user: UserEvents::All, ..EventFilter::default() };
        let handlers = vec![Route { filter, target: Arc::new(()) }];
        settings.hub_default.routes = Some(Arc::new(Routes { handlers, ..Routes::default() }));
        // Nobody answers.
        settings.stop_deadline = Duration::from_millis(10);
    });
    let mut client = Client::connect(running.address(), "/client/hubs/chat", Some("json.webpubsub.azure.v1"));
    let event = br#"{"type":"event","event":"e","dataType":"text","data":"d"}"#;
    let burst: Vec<u8> = (0..10).flat_map(|_| masked(1, event)).collect();
    client.stream.write_all(&burst).unwrap();
    running.wait(10, |counters| counters.messages_in.get());
    assert_eq!(running.sum(|counters| counters.receive_pauses.get()), 0);
    running.stop();
}

fn connect_over_tls(
    running: &Running,
    config: &Arc<ClientConfig>,
) -> Client<StreamOwned<ClientConnection, TcpStream>> {
    let tcp = TcpStream::connect(running.address()).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let connection = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
    Client::over(StreamOwned::new(connection, tcp), "/client/hubs/chat", None)
}

/// A server's certificate, and a client that trusts it.
fn certificate() -> (Arc<TlsConfigStore>, Arc<ClientConfig>) {
    let folder = std::env::temp_dir().join(format!("ringhub-core-tls-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let made = make::make(&folder, &[], 1).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&made.authority).unwrap()).unwrap();
    let (certificate, private_key) = (Some(made.certificate), Some(made.private_key));
    let tls = Tls { certificate, private_key, ..Tls::default() };
    let (store, _) = TlsConfigStore::configured(&tls).unwrap().expect("files are named");
    std::fs::remove_dir_all(&folder).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (Arc::new(store), Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

/// Every member's records are its own, so eight submissions are soon full; messages larger than what one turn
/// makes records of wait as plaintext, and so does what a member reads late.
#[test]
fn members_over_tls_get_everything_through_a_tiny_ring() {
    let (store, config) = certificate();
    let running = Running::with(Mode::Serve, Some(store), |settings| {
        tiny(settings);
        settings.listen = vec![Address::parse("https://127.0.0.1:0").unwrap()];
        settings.sockets.outbox_bytes_max = 16 << 20;
    });
    let connect = || {
        let tcp = TcpStream::connect(running.address()).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let connection = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
        Client::over(StreamOwned::new(connection, tcp), "/client/hubs/chat", None)
    };
    let mut members: Vec<_> = (0..20).map(|_| connect()).collect();
    let mut sender = connect();
    let payloads: Vec<Vec<u8>> = [1, 1000, 16_380, 16_384, 16_385, 100_000, 1_000_000, 1_000_000, 7]
        .into_iter()
        .map(|len| (0..len).map(|i| b'a' + (i * 7 % 26) as u8).collect())
        .collect();
    for payload in &payloads {
        sender.send(1, payload);
    }
    // The last one reads last: all of it waits for it.
    for member in &mut members {
        payloads.iter().for_each(|payload| member.expect(payload));
    }
    assert!(running.sum(|counters| counters.sends_short.get()) > 0, "the kernel took only a part");
    assert_eq!(running.sum(|counters| counters.tls_handshakes.get()), 21);
    drop((members, sender));
    for shared in running.stop() {
        assert_eq!(shared.counters.outbox_bytes.get(), 0, "what waited is gone with its socket");
    }
}
